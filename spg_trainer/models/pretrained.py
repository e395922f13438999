"""Config, tokenizer and weights from a folder or the Hub, with errors that say what to do; no remote code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from spg_trainer.errors import ModelError
from spg_trainer.models.config import LLaDAConfig
from spg_trainer.models.resolve import Source

TURN_END = "<|eot_id|>"
_SMALL = 100_000_000
"""Bytes of weights that load at once, without a progress bar."""


class Pretrained:
    """What is stored at a source. revision: branch, tag or commit of a Hub id."""

    def __init__(self, source: Source, revision: str | None = None) -> None:
        self.source = source
        self._offline = "" if source.is_local else _unreachable()
        self._options: dict[str, Any] = {
            "revision": revision or "main",
            "trust_remote_code": False,
            "local_files_only": bool(self._offline),
        }

    def config(self) -> LLaDAConfig:
        """The model's settings. Raises ModelError if they are missing or of another family."""
        try:
            config = AutoConfig.from_pretrained(self.source.base, **self._options)
        except ModelError as error:
            raise ModelError(f"model {self.source.base!r}: {error}") from error
        except Exception as error:
            raise self._unreadable(error) from error
        if not isinstance(config, LLaDAConfig):
            raise ModelError(
                f"model {self.source.base!r} has model_type {config.model_type!r}; only masked diffusion "
                "models of the LLaDA family (model_type 'llada') can be trained here, for instance "
                "GSAI-ML/LLaDA-8B-Instruct"
            )
        return config

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The adapter's tokenizer if it has one, else the base's. Raises ModelError if there is none."""
        adapter = self.source.adapter
        own = adapter is not None and (adapter / "tokenizer_config.json").is_file()
        place = str(adapter) if own else self.source.base
        try:
            tokenizer = AutoTokenizer.from_pretrained(place, **self._options)
        except Exception as error:
            raise ModelError(
                f"the tokenizer of {place!r} cannot be read: {reason(error)}. The folder needs "
                "tokenizer.json and tokenizer_config.json beside the weights"
            ) from error
        # Prompts of unequal length end where the completion starts, whatever the folder says.
        tokenizer.padding_side = "left"
        return tokenizer

    def weights(self, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
        """The model with its weights. Raises ModelError unless the stored tensors are exactly the model's."""
        extra: dict[str, Any] = {} if device.type == "cpu" else {"device_map": {"": device}}
        size = sum(file.stat().st_size for file in Path(self.source.base).glob("*.safetensors"))
        try:
            with quiet(self.source.is_local and size < _SMALL):
                model, report = AutoModelForMaskedLM.from_pretrained(
                    self.source.base, dtype=dtype, output_loading_info=True, **self._options, **extra
                )
        except Exception as error:
            raise self._unreadable(error) from error
        for kind in ("missing_keys", "unexpected_keys"):
            names = sorted(report[kind])
            if names:
                raise ModelError(
                    f"the weights of {self.source.base!r} do not fit its config.json: {len(names)} "
                    f"{kind.replace('_', ' ')}, for instance {names[0]}; download or save the model again"
                )
        return model

    def _unreadable(self, error: Exception) -> ModelError:
        base = self.source.base
        if self.source.is_local:
            return ModelError(
                f"model folder {base} cannot be opened: {reason(error)}. It needs config.json and "
                "model.safetensors as save_pretrained writes them; download or save the model again"
            )
        why = f"the Hub does not answer ({self._offline})" if self._offline else reason(error)
        return ModelError(
            f"model {base!r} is no folder here, not in the local cache, and cannot be fetched from the Hub: "
            f"{why}. Check the id and the network, or download its folder elsewhere and pass it with "
            "--model PATH"
        )


def token_ids(config: LLaDAConfig, tokenizer: PreTrainedTokenizerFast, name: str) -> dict[str, Any]:
    """mask_id, pad_id and end_token_ids, from the model's config first and its tokenizer second.

    Raises ModelError if there is no mask token, if it cannot be one, or if no token ends a text.
    """
    size = config.vocab_size
    mask = config.mask_token_id
    mask = tokenizer.mask_token_id if mask is None else mask
    if mask is None:
        raise ModelError(
            f"model {name!r} has no mask token: neither mask_token_id in its config.json nor mask_token in "
            "its tokenizer_config.json is set; add the id there if this is a masked diffusion model"
        )
    if not 0 <= mask < size or len(tokenizer) > size:
        raise ModelError(
            f"model {name!r} has {size} embeddings, but mask_token_id is {mask} and the tokenizer has "
            f"{len(tokenizer)} tokens; both must fit: config.json and tokenizer are of different models"
        )
    ends: list[int] = []
    for value in (config.eos_token_id, tokenizer.eos_token_id, tokenizer.get_vocab().get(TURN_END)):
        found = value if isinstance(value, list) else [value]
        ends += [token for token in found if token is not None and token not in ends]
    if not ends:
        raise ModelError(
            f"model {name!r} has no end token: neither eos_token_id in its config.json nor eos_token in its "
            f"tokenizer_config.json is set, and its tokenizer has no {TURN_END}; add eos_token_id, or every "
            "completion would run to its full length"
        )
    if mask in ends:
        raise ModelError(f"model {name!r}: token {mask} is both mask and end token; correct its config.json")
    choices = (tokenizer.pad_token_id, config.pad_token_id, *ends, 0)
    padding = [token for token in choices if token is not None]
    return {"mask_id": mask, "pad_id": padding[0], "end_token_ids": tuple(ends)}


@contextmanager
def quiet(silent: bool = True) -> Iterator[None]:
    """Without the progress bars of transformers, if `silent`."""
    shown = logging.is_progress_bar_enabled()
    if silent:
        logging.disable_progress_bar()
    try:
        yield
    finally:
        if silent and shown:
            logging.enable_progress_bar()


def reason(error: Exception) -> str:
    """The first line of an error, without its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def _unreachable() -> str:
    """Why the Hub cannot be reached, or nothing; asked once, as each file is retried for 20 seconds."""
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=10)
    except Exception as error:
        return reason(error)
    return ""

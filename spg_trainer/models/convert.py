"""Makes a masked diffusion model of a published family from an autoregressive one.

Both are the same stock class of transformers, so the weights are taken over by name. What is new is the mask token, and
what config.json says of attention. How the logits are shifted is the family's own.
"""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from spg_trainer.errors import ConfigError, ModelError, did_you_mean, first_line
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.models.load import no_progress_bars
from spg_trainer.settings.weights import looks_local

ARCHITECTURES = {
    "dream": "DreamModel",
    "fastdllm_v2": "Fast_dLLM_QwenForCausalLM",
    "illada": "ILLaDAForCausalLM",
    "llada": "LLaDAModelLM",
    "qwen3_diffusion": "A2DQwen3LMHeadModel",
    "sdar": "SDARForCausalLM",
    "sdar_moe": "SDARMoeForCausalLM",
    "stable_diffcoder": "StableDiffcoderForCausalLM",
}
"""{value of --family: the architecture in `families.py`}, of families whose stock class is that of a language model."""
MASK = "<|MASK|>"
"""The mask token that a tokenizer gets if it has none."""


def convert(name: str, family: str, block_length: int | None = None) -> tuple[Any, Any]:
    """(model, tokenizer) of a family, made from a language model; its chat template is kept.

    name: a folder or a Hub id. family: a name of `ARCHITECTURES`. block_length: as for `converted`. Raises ConfigError
    for a family that is not known or not made from such a model, and ModelError for files that cannot be opened.
    """
    if family not in ARCHITECTURES:
        hint = did_you_mean(family, ARCHITECTURES)
        raise ConfigError(f"--family {family}: expected one of {', '.join(ARCHITECTURES)}. {hint}".rstrip())
    own_length = BY_ARCHITECTURE[ARCHITECTURES[family]].family.block_size
    if own_length == 0 and block_length:
        blocks = [
            other for other, name in ARCHITECTURES.items() if BY_ARCHITECTURE[name].family.block_size != 0
        ]
        raise ConfigError(
            f"--block-length {block_length}: in the family {family} all tokens see all. Leave it out, or use a family "
            f"with blocks: {', '.join(blocks)}."
        )
    if not Path(name).is_dir() and looks_local(name):
        raise ModelError(
            f"{name!r} is no folder (looked in {Path.cwd()}). Give the folder or the Hub id, ORG/NAME, of a language "
            "model."
        )
    with opening(name):
        config = AutoConfig.from_pretrained(name)
    fitting = [other for other in ARCHITECTURES if stock_config(other) is type(config)]
    if family not in fitting:
        what_fits = f"Use --family {' or '.join(fitting)}" if fitting else "No family is made from that"
        if not fitting and config.model_type.startswith(
            "gemma"
        ):  # whose diffusion model is a class of its own
            what_fits += (
                "; DiffusionGemma is a diffusion model already, and --model new:gemma makes a small one"
            )
        raise ConfigError(
            f"--family {family} is made from {stock_config(family).model_type}, and {name} is {config.model_type}. "
            f"{what_fits}."
        )
    with opening(name), no_progress_bars():
        tokenizer = AutoTokenizer.from_pretrained(name)
        source = AutoModelForCausalLM.from_pretrained(name, dtype="auto")
    return converted(source, tokenizer, BY_ARCHITECTURE[ARCHITECTURES[family]], block_length), tokenizer


@contextmanager
def opening(name: str) -> Iterator[None]:
    """Inside, what transformers raises about a model's files becomes a ModelError that names the model."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelError(f"{name} cannot be opened as a language model: {first_line(error)}") from error


def stock_config(name: str) -> Any:
    """The configuration class of the language models from which a family of `ARCHITECTURES` is made."""
    return BY_ARCHITECTURE[ARCHITECTURES[name]].family.stock.config_class


def converted(source: Any, tokenizer: Any, kind: Any, block_length: int | None) -> Any:
    """A model of a family with the weights of `source`, a stock model; the tokenizer gets a mask token if it has none.

    kind: the family's configuration class, from `BY_ARCHITECTURE`. block_length: tokens of an attention block, 0 = all
    tokens see all; None = the family's own. The row of a new mask token is the mean of the others.

    Raises ConfigError for a family without blocks of its own, and ModelError for settings that the family lacks.
    """
    if block_length is None:
        block_length = kind.family.block_size
    if block_length is None:
        raise ConfigError(
            "--block-length: the family has no block length of its own. Give one, e.g. --block-length 32."
        )
    vocabulary = tokenizer.get_vocab()
    if tokenizer.mask_token_id is None:
        word = next((word for word in kind.mask_words if word in vocabulary), MASK)
        tokenizer.add_special_tokens({"mask_token": word})
    if len(tokenizer) > source.config.vocab_size:
        source.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if tokenizer.mask_token not in vocabulary:
        for layer in {source.get_input_embeddings(), source.get_output_embeddings()}:
            rows = layer.weight.data
            rows[tokenizer.mask_token_id] = rows[: tokenizer.mask_token_id].float().mean(0).to(rows.dtype)
    settings = source.config.to_dict()  # under transformers' newest names, which `attribute_map` gives
    names = {field.name: kind.attribute_map.get(field.name, field.name) for field in dataclasses.fields(kind)}
    own = {name: settings[newest] for name, newest in names.items() if newest in settings}
    config = kind(**{**own, "mask_token_id": tokenizer.mask_token_id, "block_size": block_length})
    config.check()
    with torch.device("meta"):  # whose weights are then those of the source, without a second copy
        model = kind.model_class(config)
    model.load_state_dict(source.state_dict(), assign=True)
    model.tie_weights()
    return model

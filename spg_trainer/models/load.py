"""Opening, running and writing a model: what the rest of the trainer needs to know about transformers."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from spg_trainer.errors import ModelError
from spg_trainer.models.llada import register
from spg_trainer.models.lora import add_lora, load_adapter
from spg_trainer.models.pretrained import Pretrained, quiet, token_ids
from spg_trainer.models.resolve import resolve

if TYPE_CHECKING:
    from peft import PeftModel

_DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}


@dataclass
class Policy:
    """A model with its tokenizer and the token ids that masked diffusion needs."""

    model: "PreTrainedModel | PeftModel"
    """In eval mode after loading."""
    tokenizer: PreTrainedTokenizerFast
    mask_id: int
    pad_id: int
    end_token_ids: tuple[int, ...]
    """Any of these ends a completion; LLaDA has two, `<|endoftext|>` and `<|eot_id|>`."""
    source: str
    """The folder or Hub id that was opened."""
    note: str = ""
    """A line the user should read, or empty."""

    @property
    def device(self) -> torch.device:
        return self.model.device


def load_model(
    name: str = "tiny",
    *,
    env: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    lora_r: int = 0,
    lora_alpha: int | None = None,
    lora_dropout: float = 0.0,
    seed: int = 0,
    revision: str | None = None,
) -> Policy:
    """Opens a masked diffusion model without running any code that comes with it.

    name: `tiny` (the embedded model of `env`, else Sudoku's with a `note`), a model, adapter or run folder,
    or a Hub id. dtype: auto (float32 on the CPU, bfloat16 on CUDA), float32, bfloat16, float16 or float64.
    device: auto (CUDA if there is one), cpu, cuda, cuda:1, ... lora_r: rank of fresh adapters, drawn from
    `seed`; 0 trains every weight. revision: branch, tag or commit of a Hub id. Raises ModelError that names
    what is missing and what to do.
    """
    register()
    place = _device(device)
    width = _dtype(dtype, place)
    source = resolve(name, env)
    if source.adapter is not None and lora_r:
        raise ModelError(f"{source.adapter} already is an adapter; leave out --lora-r to go on training it")
    stored = Pretrained(source, revision)
    config = stored.config()
    tokenizer = stored.tokenizer()
    marks = token_ids(config, tokenizer, source.base)
    model = stored.weights(width, place)
    if source.adapter is not None:
        model = load_adapter(model, source.adapter)
    elif lora_r:
        model = add_lora(
            model, r=lora_r, alpha=lora_alpha, dropout=lora_dropout, seed=seed, base=_portable(source.base)
        )
    return Policy(model=model.eval(), tokenizer=tokenizer, **marks, source=source.shown, note=source.note)


def hidden_states(
    model: "PreTrainedModel | PeftModel",
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    keep: Tensor | None = None,
) -> Tensor:
    """The last hidden states, final norm applied, of a bidirectional pass in which nobody sees padding.

    input_ids: (b, S) int64. attention_mask: (b, S) bool, false on padding; None if there is none. Positions
    count real tokens only, so left padding changes nothing beyond rounding. keep: (b, n) int64, the columns
    that are asked for, None = all; the last layer then computes no others. Returns (b, S, D) or (b, n, D);
    rows of padding hold garbage.
    """
    causal_lm = _plain(model)
    body = getattr(causal_lm, causal_lm.base_model_prefix)
    positions = None
    if attention_mask is not None:
        attention_mask = attention_mask.bool()
        positions = (attention_mask.long().cumsum(-1) - 1).clamp_(min=0)
    # `is_causal` once more by hand: without padding the mask is None, and a fall-back would then decide.
    return body(
        input_ids=input_ids,
        attention_mask=attention_mask,
        position_ids=positions,
        use_cache=False,
        is_causal=False,
        **({} if keep is None else {"keep": keep}),
    ).last_hidden_state


def head_weight(model: "PreTrainedModel | PeftModel") -> Tensor:
    """The output embedding (V, D): logits are `hidden_states @ head_weight.T`.

    Raises ModelError if the head is not a plain linear layer without bias, for instance under an adapter.
    """
    head = _plain(model).get_output_embeddings()
    if type(head) is not torch.nn.Linear or head.bias is not None:
        raise ModelError(
            f"the output head is {type(head).__name__}, a linear layer without bias is needed: "
            "log-probabilities are computed from its weight in pieces. Train the adapter without lm_head "
            "among its target modules"
        )
    return head.weight


def save_model(policy: Policy, folder: str | Path) -> None:
    """Writes the model (or adapter) and its tokenizer so that Auto classes, peft and `load_model` open them.

    LLaDA's own names are used for settings and tensors. An existing folder is written into.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ModelError(f"cannot write a model to {folder}: it is a file; name a folder")
    adapted = not isinstance(policy.model, PreTrainedModel)
    # peft would otherwise ask the Hub whether the base model's vocabulary has changed.
    extra: dict[str, Any] = {"save_embedding_layers": False} if adapted else {}
    with quiet():
        policy.model.save_pretrained(str(folder), **extra)
    policy.tokenizer.save_pretrained(str(folder))


def _plain(model: "PreTrainedModel | PeftModel") -> PreTrainedModel:
    return model if isinstance(model, PreTrainedModel) else model.get_base_model()


def _portable(base: str) -> str:
    """What an adapter should name as its base: a Hub id as it is, a folder by its whole path."""
    return str(Path(base).resolve()) if Path(base).is_dir() else base


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"device {name!r} is unknown; use auto, cpu, cuda or cuda:0") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ModelError(
            f"device {name!r}: this machine has {torch.cuda.device_count()} CUDA devices; use --device cpu"
        )
    return device


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in _DTYPES:
        raise ModelError(f"dtype {name!r} is unknown; use auto, {', '.join(_DTYPES)}")
    return _DTYPES[name]

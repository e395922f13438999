"""The settings of a model: which weights are opened, in which type and where, and which of them are trained.

LoRA begins here. The rank of new adapters is --lora-r, from the user or from a recipe; an adapter that --model names
keeps its own rank. Scale and dropout may be left open (`--lora-alpha` unset): their values then depend on whether the
adapters are new or come from a folder, and `settle_adapters` fills them in. A run and its config.yaml have the settled
numbers. architecture/layers.py says which layers have adapters; models/lora.py makes, loads and merges them. No torch
is imported here.
"""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, TypeVar

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.settings.types import Below1, Count, CountOrZero, explained
from spg_trainer.settings.weights import is_embedded


@explained
@dataclass(frozen=True)
class LoadConfig:
    """The weights to open, their number type and their device."""

    model: str = "tiny"
    """The model: `tiny`, a small model that comes with the package and knows the task; `tiny:TASK`, such as
    tiny:countdown, the small model of another task; a folder with a model; a run folder; or an id on the Hugging Face
    Hub. `new` is a small model with new random weights (`new:block` has attention by blocks, `new:shift` shifted
    logits, and `new:gemma` is a small DiffusionGemma), from which `sft` starts if no model is named."""
    revision: str | None = None
    """The branch, tag or commit of the model on the Hub. Set it to keep a run reproducible when the Hub's copy
    changes."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """The number type that the model computes in; auto takes bfloat16 on a GPU and float32 elsewhere. Weights that are
    trained are kept in float32 at least. Choose float32 if rounding on a GPU disturbs a training or changes
    completions."""
    device: str = "auto"
    """The device that the model runs on: `cpu`, `cuda`, `cuda:1`, ...; auto takes the GPU of this process if there is
    one."""
    float32_logits: bool = False
    """Multiplies the last hidden states and the output layer of a model in 16 bits into float32 logits, in rollouts as
    in updates, without rounding them to 16 bits first. It rounds differently, and makes log-probabilities of large
    models more exact. A model in float32 or float64 has such logits already, and nothing changes."""
    varlen_attention: bool = False
    """Hides the padding of rows of different lengths from attention by torch's kernel for variable lengths instead of a
    mask, on a GPU in 16 bits, where all tokens see each other. It rounds differently. Set it if prompts differ much in
    length and completions are long: a mask keeps attention off the flash kernel."""
    rollout_graphs: Literal["auto", "none"] = "auto"
    """Whether a GPU decodes by CUDA graphs: auto records a pass of a rollout and replays it, so that passes over few
    rows do not wait for Python; none starts every pass from Python. Tokens are the same. Set it to none if memory runs
    out."""
    attention_block: CountOrZero | None = None
    """The number of tokens in a block of the model's attention, where each block sees itself and all blocks before it;
    0 means that all tokens see each other. Set it only if the model's config.json does not say it, or is wrong."""
    mask_token_id: CountOrZero | None = None
    """The id of the [MASK] token. Set it only if no file of the model says it."""
    chat_template_args: dict[str, object] = field(default_factory=dict)
    """Variables of the model's chat template, e.g. `enable_thinking=true` (it is false if it is left out). They are
    recorded with the trained model, and are used wherever it is opened."""
    load_4bit: bool = False
    """Stores the linear layers of the base in 4 bits (QLoRA), so that an 8B model takes 6 GB instead of 16. It needs
    the package bitsandbytes. Only adapters can then be trained: --lora-r, or a model that is an adapter."""
    shard: Literal["none", "phase", "layer"] = "none"
    """Divides the weights, and in training the optimizer's state, among the processes. phase gathers all weights for a
    whole rollout or update, which is fast, but every GPU must hold them once; layer gathers one layer at a time in
    every pass, so that a GPU holds little more than its part. Set it if one GPU cannot hold the model."""
    expert_parallel: Count = 1
    """The number of processes among which the experts of a mixture are divided; it needs --shard layer, which divides
    all other weights. A process keeps whole experts, and gets the tokens that chose them, where --shard layer alone
    sends the weights of all experts to every process in every pass. Set it for a mixture with many experts, to the
    number of GPUs of a node."""

    @property
    def is_divided(self) -> bool:
        """Whether the weights are divided among the processes."""
        return self.shard != "none"


@explained
@dataclass(frozen=True)
class ModelConfig(LoadConfig):
    """The weights to open, and which of them are trained."""

    hidden_size: Count = 128
    """The width of a new model (--model new)."""
    num_layers: Count = 4
    """The number of layers of a new model."""
    num_heads: Count = 4
    """The number of attention heads of a new model."""
    intermediate_size: Count = 344
    """The width of a new model's feed-forward layers."""
    lora_r: CountOrZero = 0
    """The rank of new LoRA adapters on the linear layers of each transformer layer. 0 adds none: then all weights are
    trained or, if --model is an adapter, that adapter. Lower it to save memory."""
    lora_targets: tuple[str, ...] = ("all",)
    """The linear layers that get new adapters: all, which is seven in each transformer layer (in a mixture of experts,
    the four of attention); or names such as `q_proj v_proj`, those of transformers or of the published model, where
    LLaDA's output projection is `attn_out`. Name fewer to save memory, or to repeat a published run."""
    lora_alpha: Count | None = None
    """The scale of the adapters: their output is multiplied by alpha / rank. If it is left out, a loaded adapter keeps
    its own, and new ones have half the rank, as in the papers (64 for rank 128). Raise it to let the same update move
    the model further."""
    lora_dropout: Below1 | None = None
    """The dropout rate inside the adapters, from 0 to below 1. If it is left out, a loaded adapter keeps its own, and
    new ones have 0; above 0 the gradient depends on --per-device-batch-size. Raise it if the model memorises a small
    set of problems."""
    lora_experts: bool = False
    """Puts adapters on the dense layers and on every expert of a mixture of experts as well, but never on its router.
    Set it if adapters on attention alone learn too little; it takes more memory."""
    train_router: bool = False
    """Also trains the routers of a model whose routers are otherwise frozen where all weights are trained, which is
    DiffusionGemma. Set it if the choice of experts should change; a rollout and its later updates may then choose
    other experts for the same token."""
    merge_for_rollouts: bool = False
    """Multiplies the adapters into the base while completions are sampled, so that each layer is one product, and puts
    back the base's own numbers afterwards. It takes a copy of the weights below the adapters, and rounds differently.
    Set it if rollouts without a cache take most of a step and memory is left."""
    compile: bool = False
    """Lets torch compile the layers for the passes of updates, which takes a minute at the start. Set it if updates
    wait for Python, as with adapters: they get faster, but round differently."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass. Set it if memory runs out: updates take about a third longer and
    need far less memory."""
    sequence_parallel: Count = 1
    """The number of processes that share the columns (tokens) of each pass of an update: each computes its part of the
    same completions, so that the activations of long completions divide among them. They are exchanged for attention
    heads where attention is computed. It must divide the number of processes and the model's number of key-value heads.
    Set it if an update of one long completion does not fit; --gradient-checkpointing comes first."""
    ref_copy: bool = False
    """Keeps a frozen copy of the start weights as the reference of a KL term when all weights are trained by RL. Set it
    if training ends with a message that asks for a reference; it costs a second set of weights in memory and on
    disk."""


Model = TypeVar("Model", bound=ModelConfig)

REFERENCE_FOLDER = "reference"
"""The folder, in a run's folder, with a copy of the weights or the adapter that the run started from. Only runs whose
reference model needs such a copy have this folder."""


def settle_adapters(settings: Model, run: Path | None = None) -> Model:
    """The settings with rank, scale and dropout filled in; those that are set stay as they are.

    New adapters get the alpha of `default_alpha` and no dropout. If --model is an adapter, it keeps its rank and alpha,
    and its dropout unless one is set. run: the run that is continued; its copy of the adapter, if it has one, is read
    in place of --model, which may be gone. Raises ConfigError if a rank or alpha is set that is not the adapter's, or
    layers are, and ModelError for an adapter that cannot be read.
    """
    folder = find_adapter(settings.model)
    if run and (run / REFERENCE_FOLDER / "adapter_config.json").is_file():
        folder = run / REFERENCE_FOLDER
    if folder is None:
        alpha = settings.lora_alpha
        if alpha is None and settings.lora_r:
            alpha = default_alpha(settings.lora_r)
        # The reference of new adapters is the model without them, which needs no copy. All weights (rank 0) need one.
        ref_copy = settings.ref_copy and not settings.lora_r
        dropout = settings.lora_dropout or 0.0
        return replace(settings, ref_copy=ref_copy, lora_alpha=alpha, lora_dropout=dropout)
    rank, alpha, dropout = read_adapter(folder)
    rank_set = settings.lora_r or None  # --lora-r 0 is the default and sets nothing
    for flag, setting, recorded in (("$lora_r", rank_set, rank), ("$lora_alpha", settings.lora_alpha, alpha)):
        if setting not in (None, recorded):
            text = f"{flag}={setting}: {folder} already is an adapter, of rank {rank} and alpha {alpha}"
            raise ConfigError(f"{text}. Leave it out, or train fresh adapters on a whole model.")
    if settings.lora_targets != ("all",):
        names = " ".join(settings.lora_targets)
        raise ConfigError(
            f"$lora_targets={names}: {folder} already is an adapter, whose layers are fixed. Leave it out, or train "
            "fresh adapters on a whole model."
        )
    if settings.lora_dropout is not None:
        dropout = settings.lora_dropout
    # `ref_copy` is for all weights; a run that trains a loaded adapter always keeps a copy of the adapter.
    return replace(settings, ref_copy=False, lora_r=rank, lora_alpha=alpha, lora_dropout=dropout)


def find_adapter(model: str) -> Path | None:
    """The folder of the LoRA adapter that --model names, directly or by its run folder; None for any other model."""
    # A name such as `tiny:block` means an embedded or new model, even if a folder has that name.
    if is_embedded(model, "tiny", "new"):
        return None
    folder = Path(model).expanduser()
    for place in (folder, folder / "model"):
        if (place / "adapter_config.json").is_file():
            return place
        if (place / "config.json").is_file():  # a whole model; an adapter in one of its folders is not meant
            return None
    return None


def trains_adapters(settings: ModelConfig) -> bool:
    """Whether adapters are trained (new ones, or those that --model names) rather than all weights."""
    return settings.lora_r > 0 or find_adapter(settings.model) is not None


def default_alpha(rank: int) -> int:
    """Half the rank, rounded up: d1 and SPG train with alpha 64 and rank 128."""
    return (rank + 1) // 2


def read_adapter(folder: Path) -> tuple[int, int, float]:
    """Rank, alpha and dropout from the adapter_config.json in `folder`; ModelError if one is missing or impossible."""
    file = folder / "adapter_config.json"
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
        rank, alpha, dropout = values["r"], values["lora_alpha"], float(values["lora_dropout"])
        are_whole = all(value == int(value) and value >= 1 for value in (rank, alpha))
        if not are_whole or not 0 <= dropout < 1:
            raise ValueError(f"r {rank}, lora_alpha {alpha}, lora_dropout {dropout}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        text = f"{file} is not that of a LoRA adapter ({type(error).__name__}: {error})"
        raise ModelError(
            f"{text}; it needs whole r and lora_alpha of at least 1 and lora_dropout in [0, 1); restore it"
        ) from error
    return int(rank), int(alpha), dropout

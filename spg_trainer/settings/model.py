"""The settings of a model: which weights are opened, in which type and where, and which of them are trained.

A new LoRA adapter gets the rank `lora_r` of the user or of a recipe; `adapters.py` reads the rank of a loaded one.
"""

from dataclasses import dataclass, field
from typing import Literal

from spg_trainer.settings.explained import explained
from spg_trainer.settings.ranges import Below1, Count, CountOrZero


@explained
@dataclass(frozen=True)
class LoadConfig:
    """The weights to open, their number type and their device."""

    model: str = "tiny"
    """The model: `tiny`, a small model that comes with the package and knows the task; `tiny:TASK`, such as
    tiny:countdown, the small model of another task; a folder with a model; a run folder; or an id on the Hugging Face
    Hub. `new` is a small model with new random weights (`new:block` has attention by blocks, `new:shift` shifted
    logits), from which `sft` starts if no model is named."""
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
    compile: bool = False
    """Lets torch compile the layers for the passes of updates, which takes a minute at the start. Set it if updates
    wait for Python, as with adapters: they get faster, but round differently."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass. Set it if memory runs out: updates take about a third longer and
    need far less memory."""
    ref_copy: bool = False
    """Keeps a frozen copy of the start weights as the reference of a KL term when all weights are trained by RL. Set it
    if training ends with a message that asks for a reference; it costs a second set of weights in memory and on
    disk."""

"""The settings of a model: which weights are opened, in which type and where, and which of them are trained.

`resolve_model` finds the weights that --model names. These names are known (an *embedded* model is a small trained one
that comes with the package):

- `tiny` is the embedded model of the task, or of Sudoku if the task has none.
- `tiny:TASK` is the embedded model of TASK, even if another task is named.
- `tiny:block` and `tiny:shift` are embedded models of other families, which only know Sudoku.
- A folder stands for the model or adapter in it; a run folder for the one in its `model/`, the best by validation.
- Anything else is a Hub id.

LoRA begins here. The rank of new adapters is --lora-r, from the user or from a recipe; an adapter that --model names
keeps its own rank. Scale and dropout may be left open (`--lora-alpha` unset): their values then depend on whether the
adapters are new or come from a folder, and `settle_adapters` fills them in. A run and its config.yaml have the settled
numbers. architecture/layers.py says which layers have adapters; models/lora.py makes, loads and merges them.

No torch is imported here.
"""

import json
import re
import shlex
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal, TypeVar

from spg_trainer.errors import ConfigError, ModelError, did_you_mean
from spg_trainer.settings import packages  # `packages.verifiers` is ours, loaded on first use
from spg_trainer.settings.recipes import Layer, parsed
from spg_trainer.settings.task import parse_tasks
from spg_trainer.settings.values import Below1, Count, CountOrZero, explained

FALLBACK = "sudoku"
"""`tiny` is the embedded model of this task if no task is named, or no named task has an embedded model."""
LISTED = 5
"""How many models in a folder an error names: the last ones."""
PATTERNS = ("block", "shift")
"""The NAMEs of `tiny:NAME` that are kinds of models instead of tasks: `block` has block-causal attention, and `shift`
predicts each token from the position before it. All other embedded models are of LLaDA's kind."""
PUBLISHED = "models/published.yaml"
"""What is known of published models without a network: `known_settings`, `family_layer`."""


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


@dataclass(frozen=True)
class Weights:
    """Where the weights of a model are."""

    base: str
    """A folder or a Hub id."""
    adapter: Path | None = None
    """The folder of the adapter that is put on the base, if there is one."""
    note: str = ""
    """A note for the user if an embedded model does not know the task; else ""."""

    @property
    def is_local(self) -> bool:
        """Whether the base is a folder, so that nothing is downloaded."""
        return Path(self.base).is_dir()


def resolve_model(name: str, env: str | None = None) -> Weights:
    """Finds the model that `name` stands for. env: the tasks of --env, for which `tiny` chooses an embedded model.

    Raises ModelError for a folder that does not exist or has no model; the error names the nearest folder.
    """
    if folder_of_task := task_model(name):
        return Weights(str(folder_of_task))
    if is_embedded(name, "tiny"):
        _, _, kind = name.partition(":")
        return _tiny(env, kind)
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _open_folder(folder)
    if folder.exists() or looks_local(name):
        beside = {path.name: path for path in folder.parent.glob("*") if path.is_dir()}
        # The folder `tiny-countdown` is the model `tiny:countdown`.
        embedded = [path.name.replace("-", ":", 1) for path in models_folder().glob("tiny-*")]
        known = [
            "tiny",
            *(f"tiny:{kind}" for kind in PATTERNS),
            *(name_of_model for name_of_model in embedded if task_model(name_of_model)),
        ]
        advice = did_you_mean(name, known)
        if not advice and (other := packages.verifiers.errors.nearest(folder.name, beside)):
            advice = f"Did you mean {str(beside[other])!r}? "
        raise ModelError(
            f"model {name!r} is no folder (looked in {Path.cwd()}). {advice}$model takes {', '.join(sorted(known))}, a "
            "folder, or a Hub id ORG/NAME"
        )
    return Weights(name)


def unseen(name: str, env: str) -> str:
    """A note on the tasks of `env` that an embedded model has not seen.

    The note is "" if the model has seen all of them, and for any other model, which may know any task.
    """
    return resolve_model(name, env).note if is_embedded(name, "tiny") else ""


def knows_nothing(name: str, env: str) -> bool:
    """Whether --model is an embedded model that has seen no task of `env`, so that all it writes is wrong.

    False for `tiny:TASK`: a user who names the model's task knows what it has seen, and may want it for another task.
    """
    if not is_embedded(name, "tiny") or task_model(name):
        return False
    _, _, kind = name.partition(":")
    return not any(_embedded_folder(task.ours, kind).is_dir() for task in parse_tasks(env))


def is_embedded(model: str, *words: str) -> bool:
    """Whether --model is one of `words` (`tiny`, `new`), alone or with a kind, as in `new:block`.

    With the word `tiny`, `tiny:TASK` counts, too, for a task that has an embedded model.
    """
    word, colon, kind = model.partition(":")
    kind_is_allowed = not colon or kind in PATTERNS
    if word in words and kind_is_allowed:
        return True
    return "tiny" in words and task_model(model) is not None


def task_model(name: str) -> Path | None:
    """The folder of the embedded model that `tiny:TASK` names; None for any other name, and if the task has none."""
    word, _, task = name.partition(":")
    folder = _embedded_folder(task, kind="")
    # Names of tasks have only letters and digits. So `tiny:sudoku-block` names no task, although the folder exists.
    is_found = word == "tiny" and task.isalnum() and folder.is_dir()
    return folder if is_found else None


def _tiny(env: str | None, kind: str) -> Weights:
    """The embedded model of the first task of `env` that has one, or Sudoku's; with a note on tasks new to it.

    env: the tasks of --env; None or "" = none. kind: a name of `PATTERNS`, or "" for LLaDA's kind.
    """
    tasks = [task.ours for task in parse_tasks(env)] if env else [FALLBACK]
    with_model = [task for task in tasks if _embedded_folder(task, kind).is_dir()]
    seen = with_model[0] if with_model else FALLBACK
    note = ""
    if set(tasks) != {seen}:
        note = (
            f"the small model that comes with this package has only seen {seen} and knows nothing of "
            f"{'the other tasks' if with_model else 'this task'}; "
            "teach it the format first with sft, and pass the folder that this writes as $model"
        )
    return Weights(str(_embedded_folder(seen, kind)), note=note)


def _embedded_folder(task: str | None, kind: str) -> Path:
    """The folder of a task's embedded model; it exists only if there is such a model. kind: as for `_tiny`."""
    return models_folder() / (f"tiny-{task}-{kind}" if kind else f"tiny-{task}")


def models_folder() -> Path:
    """The folder of all embedded models: inside this package if it is installed, and beside it in a checkout."""
    package = Path(__file__).parents[1]
    inside, beside = package / "data", package.parent / "data"
    return (inside if inside.is_dir() else beside) / "models"


def _open_folder(folder: Path) -> Weights:
    """The adapter or model in a folder or in its `model/`; if there is none, a ModelError says what to do."""
    if (folder / "adapter_config.json").is_file():
        return Weights(_base_of(folder), adapter=folder)
    if (folder / "config.json").is_file():
        return Weights(str(folder))
    if (folder / "model").is_dir():
        return _open_folder(folder / "model")
    if newest := newest_checkpoint(folder):
        raise ModelError(
            f"run folder {shlex.quote(str(folder))} has no finished model. Finish it: python -m "
            f"spg_trainer --resume {shlex.quote(str(folder))}; or use its newest checkpoint: "
            f"$model={shlex.quote(str(newest))}"
        )
    inside = models_inside(folder)
    instead = (
        f"pass one of those in it, e.g. $model={shlex.quote(str(inside[-1]))}"
        if inside
        else "pass one that has"
    )
    names = f" It holds {len(inside)}: {', '.join(path.name for path in inside[-LISTED:])}." if inside else ""
    raise ModelError(f"folder {folder} has no config.json, adapter_config.json or model/; {instead}.{names}")


def newest_checkpoint(run: Path) -> Path | None:
    """The last complete checkpoint in a run folder, if there is one."""
    checkpoints = [file.parent for file in run.glob("checkpoints/step-*/COMPLETE")]
    # A longer name has a higher number: step-1000000 comes after step-999999.
    return max(checkpoints, key=lambda path: (len(path.name), path.name), default=None)


def models_inside(folder: Path) -> list[Path]:
    """The folders in a folder that hold a model, an adapter or a run, sorted by their numbers and names.

    E.g. other trainers leave `checkpoint-500` and `checkpoint-1000` in a folder of results.
    """

    def numbers_then_name(path: Path) -> tuple[list[int], str]:
        return [int(digits) for digits in re.findall(r"\d+", path.name)], path.name

    marks = ("config.json", "adapter_config.json", "model")
    models = [path for path in folder.iterdir() if any((path / mark).exists() for mark in marks)]
    return sorted(models, key=numbers_then_name)


def _base_of(adapter: Path) -> str:
    """The base model that an adapter names: a folder, an embedded model, or a Hub id."""
    file = adapter / "adapter_config.json"
    try:
        named = json.loads(file.read_text())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError):
        named = None
    # peft writes null or "" for a model made from a configuration.
    if not isinstance(named, str) or not named.strip():
        raise ModelError(f"{file} names no base model; put it at base_model_name_or_path")
    base = Path(named)
    for folder in (base, adapter / base):  # relative to the present folder, or to that of the adapter
        if folder.is_dir():
            return _open_folder(folder).base
    # An adapter on an embedded model may come from another machine, where the package lies elsewhere.
    embedded = models_folder() / base.name
    if base.name.startswith("tiny-") and embedded.is_dir():
        return str(embedded)
    if looks_local(str(base)):
        raise ModelError(
            f"the base model {str(base)!r} is not here; correct base_model_name_or_path in {file}"
        )
    return str(base)


def looks_local(name: str) -> bool:
    """Whether a name is a path, not a Hub id: it is no ORG/NAME that the Hub allows, or a folder ORG exists here.

    Source of what the Hub allows: huggingface_hub.utils.validate_repo_id.
    """
    # A name neither begins nor ends with a point or a dash: so the \b.
    has_form = re.fullmatch(r"[A-Za-z0-9][\w.-]*\b/\b[\w.-]{1,96}\b", name, re.ASCII)
    has_forbidden_part = re.search(r"--|\.\.|\.git$", name)
    return not has_form or bool(has_forbidden_part) or Path(name).parent.is_dir()


def known_settings(base: str) -> dict[str, Any]:
    """The config.json of a folder; for a Hub id, its settings in `published.yaml`; {} if there is neither."""
    file = Path(base) / "config.json"
    try:
        return dict(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        _, _, name = base.rpartition("/")
        return _facts()["models"].get(name, {})


def family_layer(model: str) -> Layer | None:
    """What is published for the model's family, as a layer of settings (`resolve.py`): decoding, layers of adapters.

    The layer has no decoding if the family's authors publish none, and a dry run says so. None for a model of a family
    that `published.yaml` does not name.
    """
    try:
        settings = known_settings(resolve_model(model).base)
    except ModelError:  # it is raised again when the model is opened
        return None
    model_type = str(settings.get("model_type"))
    # The name of a family is its model_type; if several families share it, model_type and class: `llada
    # LLaDAMoEModelLM`.
    names = {model_type}
    names |= {f"{model_type} {architecture}" for architecture in settings.get("architectures") or ()}
    for name, values in _facts()["families"].items():
        if name in names:
            return Layer(f"{PUBLISHED}: {name}", values)
    return None


def _facts() -> dict[str, Any]:
    """The content of `published.yaml`."""
    return parsed((resources.files("spg_trainer") / PUBLISHED).read_text(encoding="utf-8"))

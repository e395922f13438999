"""Opens and writes models; the rest of the trainer need not know how transformers does it.

A frozen base under adapters may be stored in 4 bits (QLoRA, arXiv 2305.14314), by bitsandbytes. Layers that torch
compiles for passes without a cache (`--compile`) round differently: kernels are fused, and the adapters of queries,
keys and values are joined (`join_adapters` in lora.py).
"""

import copy
import logging
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils.logging import disable_progress_bar, enable_progress_bar, is_progress_bar_enabled
from transformers.utils.quantization_config import BitsAndBytesConfig

from spg_trainer import distributed
from spg_trainer.architecture.layers import check_router, expert_layers
from spg_trainer.architecture.llada import apply_flags
from spg_trainer.distributed import local
from spg_trainer.errors import ConfigError, ModelError, first_line, in_flags, naming_keywords, written
from spg_trainer.models import shard
from spg_trainer.models.cuda_graphs import Replays
from spg_trainer.models.families import FamilyConfig, open_config, refuse_unknown, register_again
from spg_trainer.models.forward import base_model
from spg_trainer.models.policy import (
    TRAINED,
    Policy,
    SpecialTokens,
    check_policy,
    check_template_args,
    find_special_tokens,
)
from spg_trainer.models.shard import Lockstep, keep_wider
from spg_trainer.models.tiny import config_of_new, new_tiny, tiny_tokenizer
from spg_trainer.models.varlen import VARLEN_DTYPES, check_varlen
from spg_trainer.models.weight_files import read_layers, unreadable
from spg_trainer.runs.files import COMPLETE, PART, changed, damaged
from spg_trainer.settings.check import OF_ADAPTERS, check_bitsandbytes, check_compiler, find_device, refuse
from spg_trainer.settings.model import LoadConfig, ModelConfig, settle_adapters, trains_adapters
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import ENVIRONMENT, model_environment, write_record
from spg_trainer.settings.task import known_tasks
from spg_trainer.settings.types import check_values
from spg_trainer.settings.weights import Weights, is_embedded, resolve_model, unseen

WEIGHT_FILES = ("model*.safetensors", "pytorch_model*.bin")
"""Files with the weights of a whole model."""


@naming_keywords
def load_model(
    name: str | Path = "tiny",
    *,
    env: str | Path | type | Sequence[str | Path | type] | None = None,
    dtype: str = "auto",
    device: str = "auto",
    lora_r: int = 0,
    lora_alpha: int | None = None,
    lora_dropout: float | None = None,
    lora_targets: Sequence[str] = ("all",),
    seed: int = 0,
    revision: str | None = None,
    attention_block: int | None = None,
    mask_token_id: int | None = None,
    lora_experts: bool = False,
    load_4bit: bool = False,
    chat_template_args: Mapping[str, object] | None = None,
) -> Policy:
    """Opens a masked diffusion model without running any code that comes with it.

    Args:
        name: as `--model`, see `resolve_model`.
        env: a task or a list of tasks, each a name for `envs.make` or a registered class; None = Sudoku. Only the name
            `tiny` depends on the tasks: it opens their small model. If they have none, it opens another one, which a
            warning names.
        dtype: auto (float32 on the CPU, bfloat16 on CUDA), float32, bfloat16, float16 or float64, or a torch.dtype.
        device: auto (CUDA if there is one), cpu, cuda, ...
        lora_r: rank of new adapters, drawn from `seed`. 0 = no new adapters: every weight is trained; if `name` is an
            adapter, this adapter is.
        lora_alpha, lora_dropout: None = half the rank, rounded up, and no dropout; for the adapter in `name`, its own
            values.
        lora_targets: the linear layers of new adapters, as the flag.
        revision: branch, tag or commit of a Hub id.
        attention_block, mask_token_id: as the flags; None = as in the model's files.
        lora_experts, load_4bit: as the flags.
        chat_template_args: as the flag; None = as in the model's environment.json.

    Raises ModelError, which names what is missing, and ConfigError for an unknown task, for a rank or alpha other than
    the adapter's, for settings of adapters where there are none, and for variables that the chat template does not
    read.
    """
    if not isinstance(name, str | Path):
        raise ConfigError(
            f"load_model takes a name or a folder, not a {type(name).__name__}. Write a model with its tokenizer into "
            "a folder (model.save_pretrained(FOLDER), tokenizer.save_pretrained(FOLDER)), and open that."
        )
    name = str(name)
    if not is_embedded(name, "tiny", "new") and Path(name).expanduser().is_dir():
        name = os.path.abspath(Path(name).expanduser())  # so that it is found from another folder, too
    tasks = None if env is None else known_tasks(env)
    if tasks and (note := unseen(name, tasks)):
        opened = Path(resolve_model(name, tasks).base).name
        # Level 3 is the caller of `load_model`; level 2 is the wrapper that `naming_keywords` puts around it.
        warnings.warn(in_flags(f"{name} with env={tasks} opens {opened}: {note}."), stacklevel=3)
    if chat_template_args is None:
        chat_template_args = model_environment(name).get("chat_template_args")
    settings = ModelConfig(
        model=name,
        revision=revision,
        dtype=dtype,
        device=device,
        attention_block=attention_block,
        mask_token_id=mask_token_id,
        lora_r=lora_r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        lora_targets=(lora_targets,) if isinstance(lora_targets, str) else tuple(lora_targets),
        lora_experts=lora_experts,
        load_4bit=load_4bit,
        chat_template_args=dict(chat_template_args or {}),
    )
    # `_dtype` judges the number type: float16, which no training takes, is fine here.
    check_values(replace(settings, dtype="auto"))
    refuse(OF_ADAPTERS, SimpleNamespace(**vars(settings), has_adapters=trains_adapters(settings)))
    return _open(settle_adapters(settings), tasks, seed)


def open_for_evaluation(load_config: LoadConfig, *, env: str, device: str) -> Policy:
    """The model that a command measures, on `device`; with --shard, `divide_policy` still has to read its weights."""
    own_device = find_device(device)
    dtype = _name_of(_dtype(load_config.dtype, own_device))
    if load_config.is_divided:  # the model is opened on the CPU, in the type in which `device` will compute
        device = "cpu"
    # Settings that only a training has, such as `lora_r`, keep their defaults.
    settings = ModelConfig(**{field.name: getattr(load_config, field.name) for field in fields(LoadConfig)})
    policy = _open(settle_adapters(replace(settings, dtype=dtype, device=device)), env, seed=0)
    policy.model.requires_grad_(False)
    if load_config.varlen_attention:
        use_varlen(policy, own_device, getattr(torch, dtype))
    return policy


def use_varlen(policy: Policy, device: torch.device, dtype: torch.dtype) -> None:
    """Lets rows with padding attend without a mask on `device`, where the model computes in `dtype`.

    Raises ConfigError where torch's kernel cannot.
    """
    base = base_model(policy.model)
    check_varlen(base.pattern, device, dtype)
    base.base_model.varlen_dtypes = VARLEN_DTYPES


def new_policy(kind: str = "", *, device: str = "auto", seed: int = 0, **sizes: int) -> Policy:
    """A new, untrained tiny model with its tokenizer; kind, sizes: as for `new_tiny`."""
    model, tokenizer = new_tiny(kind, **sizes, seed=seed).to(find_device(device)), tiny_tokenizer()
    special_tokens = find_special_tokens(model.config, tokenizer)
    return Policy(model, tokenizer, *special_tokens, source="new", replays=Replays())


def open_policy(
    settings: ModelConfig,
    *,
    env: str,
    seed: int,
    device: str | None = None,
    reference: bool = False,
) -> Policy:
    """The model that a training command names, with its adapters, on `device`; None = the device of the settings.

    reference: whether the model as opened is kept for `Policy.reference`. A copy of all weights is made only with
    `ref_copy`.

    `--dtype` is the type in which the model computes. If all weights are trained, they are kept in float32 or wider,
    and inside `shard.unsharded` the model computes with a working copy of them. With `shard` other than none the model
    has no numbers yet: `divide_policy` divides it and reads them.
    """
    settings = settle_adapters(settings)
    if is_embedded(settings.model, "new"):
        policy = new_model(settings, seed=seed, device=device or settings.device)
        if settings.varlen_attention:
            use_varlen(policy, policy.device, policy.model.dtype)
        return policy
    trains_all_weights = (
        settings.lora_r == 0
    )  # for a loaded adapter, `settle_adapters` has filled in its rank
    device = device or settings.device
    own_device = find_device(device)
    compute_dtype = _dtype(settings.dtype, own_device)
    kept_dtype = torch.promote_types(compute_dtype, torch.float32) if trains_all_weights else compute_dtype
    if settings.is_divided:  # opened on the CPU, in the type in which `device` will keep it
        device = "cpu"
    policy = _open(replace(settings, dtype=_name_of(kept_dtype), device=device), env, seed)
    if settings.varlen_attention:
        use_varlen(policy, own_device, compute_dtype)
    if settings.train_router:
        check_router(base_model(policy.model).config, not trains_all_weights)
        policy.model.train_router()
    if reference and settings.ref_copy:
        policy.frozen = copy.deepcopy(policy.model).requires_grad_(False)
    elif reference and not trains_all_weights and not policy.fresh_adapters:
        # A loaded adapter is copied before training changes it. New adapters need no copy: the model without them is
        # the reference.
        from spg_trainer.models.lora import add_reference

        add_reference(policy.model)
    if settings.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    if settings.compile:
        compile_layers(policy.model)
    if kept_dtype != compute_dtype and not settings.is_divided:
        for model in filter(None, (policy.model, policy.frozen)):
            keep_wider(model, compute_dtype)
    return policy


def new_model(settings: ModelConfig, *, seed: int, device: str) -> Policy:
    """The model with new weights that the settings ask for by `new` or `new:KIND`; on the CPU if it will be divided."""
    _, _, kind = settings.model.partition(":")
    policy = new_policy(
        kind,
        device="cpu" if settings.is_divided else device,
        seed=seed,
        hidden_size=settings.hidden_size,
        layers=settings.num_layers,
        heads=settings.num_heads,
        ffn=settings.intermediate_size,
    )
    if settings.train_router:
        check_router(policy.model.config, has_adapters=False)
        policy.model.train_router()
    if settings.ref_copy:
        policy.frozen = copy.deepcopy(policy.model).requires_grad_(False)
    if settings.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    if settings.compile:
        compile_layers(policy.model)
    return policy


def divide_policy(policy: Policy, settings: ModelConfig, device: str) -> None:
    """Divides an opened model and its frozen copy among the processes; all of them call this.

    The model then computes in the type of `--dtype`; if all weights are trained, they have float32 or wider.
    """
    own_device = find_device(device)
    compute_dtype = _dtype(settings.dtype, own_device)
    by_layer = settings.shard == "layer"
    models = [policy.model]
    if policy.frozen is not None:
        models.append(policy.frozen.to(compute_dtype))
    for model in models:
        shard.divide(
            model,
            own_device,
            compute_dtype,
            by_layer=by_layer,
            expert_parallel=settings.expert_parallel,
            folder=policy.unread,
        )
    policy.unread = None
    with distributed.raising_on_all():
        refuse_not_finite(policy)
    if by_layer:
        distributed.lockstep = Lockstep([base_model(model) for model in models])


def merged(adapter: str, dtype: str) -> tuple[Policy, Iterator[tuple[str, torch.Tensor]]]:
    """An adapter merged into its base: (a model without weights, its weights as (name, tensor), a layer at a time).

    adapter: a folder. dtype: of the weights, float32, bfloat16 or float16; sums are made in float32. Raises ModelError
    for a base without safetensors.
    """
    from spg_trainer.models.lora import merged_layers

    # A model that is opened as for --shard has no numbers yet.
    settings = ModelConfig(model=adapter, dtype="float32", device="cpu", shard="layer")
    policy = _open(settle_adapters(settings), env=None, seed=0)
    base, merged_dtype = base_model(policy.model), _dtype(dtype, torch.device("cpu"))
    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(base.config, dtype=merged_dtype)
    if model.can_generate():  # other families here have no such file
        model.generation_config = base.generation_config
    model.unread = base.unread

    def layers() -> Iterator[dict[str, torch.Tensor]]:
        try:
            yield from read_layers(base, policy.unread)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise unreadable(policy.unread, error) from error

    return replace(policy, model=model, unread=None), merged_layers(policy.model, layers(), merged_dtype)


def save_model(policy: Policy, folder: str | Path) -> None:
    """Writes model (or adapter) and tokenizer under the Hub's names; Auto classes, peft and `load_model` open them.

    Beside them stands `environment.json`: what this file of the opened model says of its task and of how it decodes,
    and the variables of the chat template. The file is left out if it would be empty.
    """
    check_policy(policy, "save_model")
    if not isinstance(folder, str | Path):
        raise ConfigError(f"save_model writes into a folder, not {folder!r:.60}. Give its path.")
    if Path(folder).exists() and not Path(folder).is_dir():
        raise ConfigError(f"save_model writes into a folder, and {folder} is a file. Give another path.")
    save_weights(policy, folder)
    record = model_environment(policy.source)
    if record or policy.chat_template_args:
        from_policy: dict[str, Any] = {"dtype": _name_of(policy.model.dtype)}
        if policy.chat_template_args or "chat_template_args" in record:
            from_policy["chat_template_args"] = dict(policy.chat_template_args)
        write_record(Path(folder), {**record, **from_policy})
    else:  # an earlier model in this folder may have left such a file
        (Path(folder) / ENVIRONMENT).unlink(missing_ok=True)


def save_weights(policy: Policy, folder: str | Path) -> None:
    """Writes model (or adapter) and tokenizer: all that `save_model` writes except environment.json."""
    (Path(folder) / COMPLETE).unlink(missing_ok=True)  # it has the checksums of an earlier model
    # peft would otherwise ask the Hub whether the base model's vocabulary has changed.
    adapter_options = {"save_embedding_layers": False, "selected_adapters": [TRAINED]}
    has_adapters = not isinstance(policy.model, PreTrainedModel)
    with no_progress_bars():
        policy.model.save_pretrained(str(folder), **(adapter_options if has_adapters else {}))
    if has_adapters:  # the base's config.json lacks what flags have said, e.g. --mask-token-id
        base_model(policy.model).config.save_pretrained(str(folder))
    policy.tokenizer.save_pretrained(str(folder))


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Inside, transformers draws no progress bars."""
    shown = is_progress_bar_enabled()
    disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            enable_progress_bar()


def _open(settings: ModelConfig, env: str | None, seed: int) -> Policy:
    """The model that settings name, with its adapters, in eval mode. settings: as `settle_adapters` fills them in."""
    register_again()
    weights = resolve_model(settings.model, env)
    for folder in local_folders(weights):
        # A changed bit of a weight opens as any other number. Larger files take seconds to read.
        if what := changed(folder, "*.safetensors", at_most=PART):
            raise ModelError(damage(folder, what))
    policy = _open_base(weights, settings)
    # The base that a saved adapter will name: a Hub id as it is, a folder by its absolute path.
    base = str(Path(weights.base).resolve()) if weights.is_local else weights.base
    if weights.adapter is not None or settings.lora_r:
        from spg_trainer.models.lora import add_lora, load_adapter  # peft takes seconds

    if weights.adapter is not None:
        policy.model = load_adapter(policy.model, weights.adapter, dropout=settings.lora_dropout, base=base)
    elif settings.lora_r:
        lora = {
            "r": settings.lora_r,
            "alpha": settings.lora_alpha,
            "dropout": settings.lora_dropout,
            "targets": settings.lora_targets,
            "experts": settings.lora_experts,
        }
        policy.model = add_lora(policy.model, **lora, seed=seed, base=base)
        policy.fresh_adapters = True
    refuse_not_finite(policy)
    policy.model.eval()
    return policy


def refuse_not_finite(policy: Policy) -> None:
    """Raises ModelError if a tensor of the model holds NaN or infinity, and names the first one.

    Each number is read from memory once: for 8 billion weights this takes some seconds on a CPU, and a few hundredths
    of a second on a GPU. The GPU is waited for only once, at the end.
    """
    local_tensors = {name: local(tensor) for name, tensor in policy.model.state_dict().items()}
    tensors = {
        name: tensor
        for name, tensor in local_tensors.items()
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta
    }
    # If a tensor has a NaN, its lowest and highest number are NaN.
    are_finite = [torch.stack(torch.aminmax(tensor)).float().isfinite().all() for tensor in tensors.values()]
    finite = torch.stack(are_finite).tolist() if are_finite else []
    if not_finite := [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]:
        more = f" and {len(not_finite) - 1} more tensors" if len(not_finite) > 1 else ""
        raise ModelError(
            f"model {policy.source!r}: {not_finite[0]}{more} of its {len(tensors)} tensors hold NaN or infinity, so "
            "whatever it writes means nothing. Download or copy the weights again, or take an earlier checkpoint."
        )


def _open_base(weights: Weights, settings: ModelConfig) -> Policy:
    """The base model, with the tokenizer of the adapter if that has one, or else its own.

    Raises ModelError, which names the base and the next step.
    """
    device = find_device(settings.device)
    dtype = _dtype(settings.dtype, device)
    base, adapter = weights.base, weights.adapter
    # Why the Hub is not asked; "" = it is, unless the files are local.
    offline = "" if weights.is_local else envs.files.hub.why_offline()
    options = {"revision": settings.revision or "main", "trust_remote_code": False}
    options["local_files_only"] = bool(offline)
    with _naming_what_fails(weights, offline):
        config, num_embeddings, tokenizer, special_tokens, note = _describe(weights, settings, options)
        if settings.load_4bit:
            options["quantization_config"] = four_bits(dtype)
        if device.type != "cpu" or settings.load_4bit:
            options["device_map"] = {"": device}  # "" is the whole model
        unread = None  # the folder of weights that are read later, if the model is divided first
        if settings.is_divided:
            unread = folder_of(weights, options)
            with torch.device("meta"):
                model = AutoModelForMaskedLM.from_config(config, dtype=dtype)
            if model.can_generate():
                model.generation_config = type(model.generation_config).from_pretrained(unread)
                model.remember_unread(unread)
        else:
            with no_progress_bars() if weights.is_local else nullcontext():
                model = AutoModelForMaskedLM.from_pretrained(base, config=config, dtype=dtype, **options)
        if settings.load_4bit:
            keep_as_stored(model)
        # The adapter's file may hold all embeddings, also those of tokens that were added to the vocabulary.
        if num_embeddings > config.vocab_size:
            if unread is not None:
                raise ModelError(
                    f"its adapter has {num_embeddings} embeddings, the base {config.vocab_size}, which neither merge "
                    "nor $shard can read; open it with load_model(...), and merge it with peft: "
                    "policy.model.merge_and_unload()"
                )
            model.resize_token_embeddings(num_embeddings, mean_resizing=False)
    model.float32_logits = settings.float32_logits
    notes = [note, what_stays_whole(config) if settings.load_4bit else "", weights.note]
    return Policy(
        model,
        tokenizer,
        *special_tokens,
        source=str(adapter or base),
        note=" ".join(filter(None, notes)),
        replays=Replays() if settings.rollout_graphs == "auto" else None,
        unread=unread,
        chat_template_args=settings.chat_template_args,
    )


def _describe(
    weights: Weights, settings: ModelConfig, options: dict[str, Any]
) -> tuple[FamilyConfig, int, PreTrainedTokenizerFast, SpecialTokens, str]:
    """What a model is, apart from its weights: read from the files beside them, and changed by flags.

    The files are those of the adapter where it has them, else those of the base. Returns configuration, number of
    embeddings, tokenizer, special tokens, and a line that the user should read or "".
    """
    config = _open_config(weights, settings, options)
    if weights.is_local and not any(any(Path(weights.base).glob(name)) for name in WEIGHT_FILES):
        raise ModelError(
            f"there is no {' or '.join(WEIGHT_FILES)} in this folder; copy the model's weights into it"
        )
    num_embeddings = embeddings_of_adapter(weights) or config.vocab_size
    tokenizer, note = _tokenizer_for(weights, config, options, num_embeddings)
    tokenizer.padding_side = "left"  # so that prompts of any length end where the completion starts
    special_tokens = find_special_tokens(config, tokenizer, settings.mask_token_id, num_embeddings)
    check_template_args(tokenizer, settings.chat_template_args)
    return config, num_embeddings, tokenizer, special_tokens, note


@contextmanager
def _naming_what_fails(weights: Weights, offline: str) -> Iterator[None]:
    """Inside, any error except ConfigError becomes a ModelError that names the base and the next step.

    A ConfigError stays as it is: it is about a setting, and names it. offline: why the Hub is not asked; "" = it is
    asked.
    """
    try:
        yield
    except ModelError as error:
        raise ModelError(f"model {weights.base!r}: {written(error)}") from error
    except ConfigError:
        raise
    except Exception as error:
        raise _not_opened(weights, error, offline) from error


def _open_config(weights: Weights, settings: ModelConfig, options: dict[str, Any]) -> Any:
    """The configuration of the base, or of its adapter, with flags applied; ModelError for an unknown family."""
    config = open_config(_folder_with(weights, "config.json"), **options)
    refuse_unknown(config)
    apply_flags(config, settings)
    return config


def _folder_with(weights: Weights, file: str) -> str:
    """The adapter's folder if it has a file of that name, as `save_model` writes it; else the base."""
    return str(weights.adapter if weights.adapter and (weights.adapter / file).is_file() else weights.base)


def _not_opened(weights: Weights, error: Exception, offline: str) -> ModelError:
    """The error to raise if transformers failed to open a base. offline: why the Hub is not asked; "" = it is."""
    reason = f"the Hub does not answer ({offline})" if offline else first_line(error)
    remedy = "check the id and the network, or pass a downloaded folder with $model=PATH"
    for folder in local_folders(weights):
        if (folder / COMPLETE).is_file() and (what := damaged(folder)):
            return ModelError(damage(folder, what))
    if weights.is_local:
        remedy = "it needs config.json, weights and a tokenizer as save_pretrained writes them"
    return ModelError(f"model {weights.base!r} cannot be opened: {reason}; {remedy}")


def local_folders(weights: Weights) -> list[Path]:
    """The folders on this machine that hold the files of a model and of its adapter."""
    return [
        *([weights.adapter] if weights.adapter else []),
        *([Path(weights.base)] if weights.is_local else []),
    ]


def damage(folder: Path, what: str) -> str:
    """A sentence on the damaged folder of a model, and what to do. what: as `damaged` returns it."""
    return (
        f"model folder {folder} {what}. Put back what was written, or take an earlier checkpoint; if you changed the "
        f"file yourself, remove {folder / COMPLETE}."
    )


def folder_of(weights: Weights, options: dict[str, Any]) -> Path:
    """The folder of a model's files, downloaded if needed; weights only as safetensors, which can be read in parts."""
    if weights.is_local:
        return Path(weights.base)
    from huggingface_hub import snapshot_download

    source = {name: options[name] for name in ("revision", "local_files_only")}
    return Path(snapshot_download(weights.base, allow_patterns=["*.safetensors", "*.json"], **source))


def without_weights(settings: ModelConfig, env: str, *, download: bool = True) -> Policy:
    """The model that settings name, without its weights: its tokenizer and its configuration.

    download: whether the Hub may be asked. Raises ModelError if the files are found neither here nor on the Hub, and
    for settings that do not fit them.
    """
    if is_embedded(settings.model, "new"):
        config, tokenizer = config_of_new(settings), tiny_tokenizer()
        model: Any = SimpleNamespace(config=config, device=torch.device("cpu"))
        return Policy(model, tokenizer, *find_special_tokens(config, tokenizer), source="new")
    weights = resolve_model(settings.model, env)
    offline = "" if weights.is_local else envs.files.hub.why_offline()
    options = {
        "revision": settings.revision or "main",
        "local_files_only": bool(offline) or not download,
        "trust_remote_code": False,
    }
    with _naming_what_fails(weights, offline):
        config, _, tokenizer, special_tokens, _ = _describe(weights, settings, options)
    return Policy(
        SimpleNamespace(config=config, device=torch.device("cpu")),
        tokenizer,
        *special_tokens,
        source=str(weights.adapter or weights.base),
        chat_template_args=settings.chat_template_args,
    )


def embeddings_of_adapter(weights: Weights) -> int:
    """How many embeddings an adapter's file holds; 0 if it has no embeddings of its own (`modules_to_save`)."""
    if weights.adapter is None:
        return 0
    file = weights.adapter / "adapter_model.safetensors"
    if not file.is_file():
        return 0
    with safe_open(file, framework="pt") as tensors:
        names = [name for name in tensors.keys() if re.search(r"(embed_tokens|wte)\.weight$", name)]
        if not names:
            return 0
        num_embeddings, *_ = tensors.get_slice(names[0]).get_shape()
        return num_embeddings


def _tokenizer_for(
    weights: Weights, config: Any, options: dict[str, Any], num_embeddings: int
) -> tuple[PreTrainedTokenizerFast, str]:
    """(tokenizer, note for the user): the adapter's tokenizer, or the base's if the adapter has none, and no note ("").

    If the adapter's tokenizer has tokens without an embedding, the base's tokenizer is used, and the note says so. Such
    tokens were added and saved, but never trained.
    """
    place = _folder_with(weights, "tokenizer_config.json")  # the adapter's folder or the base
    tokenizer = _open_tokenizer(place, config, options)
    if place == weights.base or len(tokenizer) <= num_embeddings:
        return tokenizer, ""
    note = (
        f"The tokenizer in {place} has {len(tokenizer)} tokens, and the model {num_embeddings} embeddings: the base's "
        "tokenizer is used, without the added tokens."
    )
    template = tokenizer.chat_template  # the adapter was trained with this one
    tokenizer = _open_tokenizer(weights.base, config, options)
    tokenizer.chat_template = template
    return tokenizer, note


def _open_tokenizer(place: str, config: Any, options: dict[str, Any]) -> PreTrainedTokenizerFast:
    """The tokenizer at a place. A tokenizer that comes as code is not run: the family's stock class stands in.

    Special tokens in a text are read as such, whatever was saved: a chat template writes them as text.
    """
    options = {**options, "split_special_tokens": False}
    stock_class = config.family.tokenizer
    if stock_class is None or "auto_map" not in get_tokenizer_config(place, **options):
        return AutoTokenizer.from_pretrained(place, **options)
    return stock_class.from_pretrained(place, **options)


def _dtype(name: str, device: torch.device) -> torch.dtype:
    """The number type of `--dtype` on a device."""
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in ("float32", "bfloat16", "float16", "float64"):
        raise ModelError(f"dtype {name!r} is unknown; use auto, float32, bfloat16, float16 or float64")
    return getattr(torch, name)


def _name_of(dtype: torch.dtype) -> str:
    """The name of a type in `--dtype`: `float32` for torch.float32."""
    return str(dtype).removeprefix("torch.")


def four_bits(dtype: torch.dtype) -> BitsAndBytesConfig:
    """transformers' settings to store linear layers in 4 bits: NF4 with quantised scales, multiplied in `dtype`.

    Embeddings, norms, the head and experts keep `dtype`. Raises ModelError if bitsandbytes is not installed.
    """
    check_bitsandbytes()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would complain of missing kernels
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def keep_as_stored(model: torch.nn.Module) -> None:
    """Keeps bitsandbytes from repacking weights on a CPU.

    Its first pass in eval mode would otherwise round their scales to bfloat16. A rollout would then sample from another
    model than the update trains.
    """
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False


def what_stays_whole(config: Any) -> str:
    """A line for the user about the weights that are not stored in 4 bits, where these are most of the model."""
    if not expert_layers(config):
        return ""
    return "$load_4bit: the experts of this model are no linear layers, and keep their type."


def compile_layers(model: nn.Module, backend: Any = "inductor") -> None:
    """Compiles the inner layers of a model in place, for any number of rows and columns.

    Two layers are left out, since they differ from the others: the first, whose input has no gradient if the embedding
    is frozen, and the last, which computes only some columns. All others share one compilation. A run makes four of
    them: with autograd and without, with an attention mask and without; and four more for passes of a single row.

    Raises ConfigError if there is no compiler.
    """
    base = base_model(model)
    check_compiler(base.device)
    layers = base.base_model.layers[1:-1]
    if model is not base:
        from spg_trainer.models.lora import join_adapters

        for layer in layers:
            join_adapters(layer.self_attn)
    for layer in layers:
        layer.compile(dynamic=True, backend=backend)
    base.base_model.is_compiled = True

"""Opening, running and writing a model: what the rest of the trainer needs to know about transformers."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForMaskedLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config
from transformers.utils import logging

from spg_trainer import distributed
from spg_trainer.architecture.configuration import answer
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.models import shard
from spg_trainer.models.family import BY_ARCHITECTURE, FamilyConfig, register_again
from spg_trainer.models.lockstep import Lockstep
from spg_trainer.models.lora import (
    REFERENCE,
    TRAINED,
    add_lora,
    add_reference,
    load_adapter,
    merged_layers,
    using_reference,
)
from spg_trainer.models.quantize import four_bits, keep_as_stored, what_stays_whole
from spg_trainer.models.states import base_model
from spg_trainer.models.tiny import new_tiny, tiny_tokenizer
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.settings.packages import envs
from spg_trainer.settings.weights import Weights, first_line, resolve_model

if TYPE_CHECKING:
    from peft import PeftModel


@dataclass
class Policy:
    """A model with its tokenizer and the token ids that masked diffusion needs."""

    model: "PreTrainedModel | PeftModel"
    """In eval mode after loading."""
    tokenizer: PreTrainedTokenizerFast
    mask_id: int
    pad_id: int
    end_token_ids: tuple[int, ...]
    """Any of these ends a completion, the last one a turn; LLaDA has two, `<|endoftext|>` and `<|eot_id|>`."""
    source: str
    """The folder or Hub id that was opened."""
    note: str = ""
    """A line the user should read, or empty."""
    fresh_adapters: bool = False
    """Whether the adapters began at no effect, so that the base below them is what they started from."""
    frozen: PreTrainedModel | None = None
    """A copy of all the weights as they were opened, if one is kept."""
    unread: Path | None = None
    """The folder of the weights, while the model has none because it will be divided first."""

    @property
    def device(self) -> torch.device:
        return self.model.device

    @contextmanager
    def reference(self) -> Iterator["PreTrainedModel | PeftModel"]:
        """The model that training started from, in eval mode, as kept by `open_policy(reference=True)`.

        Fresh adapters: the model below them. A loaded adapter: as it was loaded. All weights: their copy.
        """
        if self.frozen is not None:
            with shard.resharded(self.model), shard.unsharded(self.frozen):
                yield self.frozen
            return
        if not self.fresh_adapters and REFERENCE not in getattr(self.model, "peft_config", {}):
            raise ModelError(f"no reference of {self.source!r} was kept; use open_policy(reference=True)")
        training = self.model.training
        self.model.eval()
        try:
            with self.model.disable_adapter() if self.fresh_adapters else using_reference(self.model):
                yield self.model
        finally:
            self.model.train(training)

    @torch.no_grad()
    def move_reference(self, share: float) -> None:
        """Moves the copy of all weights towards the weights as they are, of which it takes a share, above 0 up to 1."""
        assert self.frozen is not None
        for kept, now in zip(self.frozen.parameters(), self.model.parameters(), strict=True):
            kept.lerp_(now.to(kept), share)

    def ending_with(self, end_tokens: str) -> "Policy":
        """The same model, whose completions end with `any` of its end tokens, or only with its tokenizer's `eos`."""
        eos = self.tokenizer.eos_token_id
        return replace(self, end_token_ids=(eos,)) if end_tokens == "eos" and eos is not None else self


def load_model(
    name: str = "tiny",
    *,
    env: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    lora_r: int = 0,
    lora_alpha: int | None = None,
    lora_dropout: float | None = None,
    seed: int = 0,
    revision: str | None = None,
    attention_block: int | None = None,
    mask_token_id: int | None = None,
    lora_experts: bool = False,
    load_4bit: bool = False,
) -> Policy:
    """Opens a masked diffusion model without running any code that comes with it.

    name: as `--model`, see `resolve_model`. dtype: auto (float32 on the CPU, bfloat16 on CUDA), float32, bfloat16,
    float16 or float64. device: auto (CUDA if there is one), cpu, cuda, cuda:1, ... lora_r: rank of fresh adapters,
    drawn from `seed`; 0 trains every weight, or the adapter in `name`. lora_alpha, lora_dropout: None = as `settle` has
    it. revision: branch, tag or commit of a Hub id. attention_block, mask_token_id: as the flags, None = as the model's
    files say. lora_experts, load_4bit: as the flags. Raises ModelError that names what is missing and what to do,
    ConfigError for a rank or alpha that is not the adapter's.
    """
    m = ModelConfig(
        model=name,
        revision=revision,
        dtype=dtype,
        device=device,
        attention_block=attention_block,
        mask_token_id=mask_token_id,
        lora_r=lora_r,
        lora_alpha=lora_alpha,
        lora_dropout=lora_dropout,
        lora_experts=lora_experts,
        load_4bit=load_4bit,
    )
    return _open(settle(m), env, seed)


def open_for_evaluation(m: LoadConfig, *, env: str, device: str) -> Policy:
    """The model that a command measures, on `device`; `divide_policy` has still to read one that is divided."""
    asked = ModelConfig(**{name: getattr(m, name) for name in vars(LoadConfig())})
    if m.is_divided:
        computed = _dtype(m.dtype, _device(device))
        asked, device = replace(asked, dtype=str(computed).removeprefix("torch.")), "cpu"
    policy = _open(settle(replace(asked, device=device)), env, seed=0)
    policy.model.requires_grad_(False)
    return policy


def new_policy(kind: str = "", *, device: str = "auto", seed: int = 0, **sizes: int) -> Policy:
    """An untrained model of an embedded kind with its tokenizer; kind, sizes: as for `new_tiny`."""
    model, tokenizer = new_tiny(kind, **sizes, seed=seed).to(_device(device)), tiny_tokenizer()
    return Policy(model, tokenizer, **_special_token_ids(model.config, tokenizer), source="new")


def open_policy(
    m: ModelConfig,
    *,
    env: str,
    seed: int,
    device: str | None = None,
    reference: bool = False,
) -> Policy:
    """The model that a training command names, with its adapters, on `device` or the one its settings name.

    Where all weights are trained, `--dtype auto` is float32 on a GPU too: in bfloat16 most steps of a usual learning
    rate round to nothing. Raises ConfigError if bfloat16 is asked for all the same. reference: whether what is opened
    is kept for `Policy.reference`; of all weights only with `ref_copy`. With `shard` other than none, a model without
    numbers, which `divide_policy` has to divide and to read.
    """
    m = settle(m)
    all_weights = m.lora_r == 0
    dtype = "float32" if all_weights and m.dtype == "auto" else m.dtype
    device = device or m.device
    if m.is_divided:
        computed = _dtype(m.dtype, _device(device))
        trained = torch.promote_types(computed, torch.float32) if all_weights else computed
        dtype, device = str(trained).removeprefix("torch."), "cpu"
    policy = _open(replace(m, dtype=dtype, device=device), env, seed)
    if any(p.requires_grad and p.dtype == torch.bfloat16 for p in policy.model.parameters()):
        text = "--dtype bfloat16 with all weights trained: most steps round to nothing"
        raise ConfigError(f"{text}. Use --lora-r 128 or --dtype float32.")
    if reference and m.ref_copy:
        policy.frozen = copy.deepcopy(policy.model).requires_grad_(False)
    elif reference and not all_weights and not policy.fresh_adapters:
        add_reference(policy.model)
    if m.gradient_checkpointing:
        policy.model.gradient_checkpointing_enable()
    return policy


def divide_policy(policy: Policy, m: ModelConfig, device: str) -> None:
    """Divides an opened model, and its frozen copy, among the processes, all of which call this.

    `--dtype` is then the type that is computed; all weights are trained in float32 at least.
    """
    place = _device(device)
    computed = _dtype(m.dtype, place)
    by_layer = m.shard == "layer"
    models = [policy.model, *([] if policy.frozen is None else [policy.frozen.to(computed)])]
    for model in models:
        shard.divide(model, place, computed, by_layer, policy.unread)
    policy.unread = None
    with distributed.raising_on_all():
        refuse_not_finite(policy)
    if by_layer:
        distributed.lockstep = Lockstep([base_model(model) for model in models])


def merged(adapter: str, dtype: str) -> tuple[Policy, Iterator[tuple[str, torch.Tensor]]]:
    """An adapter worked into its base: a model without weights, and these, which are made a layer at a time.

    adapter: a folder. dtype: of the weights, float32, bfloat16 or float16; sums are made in float32. Raises ModelError
    for a base without safetensors.
    """
    parts = ModelConfig(model=adapter, dtype="float32", device="cpu", shard="layer")
    policy = _open(settle(parts), env=None, seed=0)
    base, computed = base_model(policy.model), _dtype(dtype, torch.device("cpu"))
    with torch.device("meta"):
        whole = AutoModelForMaskedLM.from_config(base.config, dtype=computed)

    def layers() -> Iterator[dict[str, torch.Tensor]]:
        try:
            yield from shard.read_layers(base, policy.unread)
        except (OSError, KeyError, RuntimeError, SafetensorError) as error:
            raise shard.unreadable(policy.unread, error) from error

    return replace(policy, model=whole, unread=None), merged_layers(policy.model, layers(), computed)


def save_model(policy: Policy, folder: str | Path) -> None:
    """Writes model (or adapter) and tokenizer under the Hub's names; Auto classes, peft and `load_model` open them."""
    # peft would otherwise ask the Hub whether the base model's vocabulary has changed.
    lora = {"save_embedding_layers": False, "selected_adapters": [TRAINED]}
    extra = {} if isinstance(policy.model, PreTrainedModel) else lora
    with no_progress_bars():
        policy.model.save_pretrained(str(folder), **extra)
    config = base_model(policy.model).config
    if extra:  # what was answered by flags, which the base does not say
        config.save_pretrained(str(folder))
    policy.tokenizer.save_pretrained(str(folder))


def _special_token_ids(
    config: Any, tokenizer: PreTrainedTokenizerFast, asked: int | None = None
) -> dict[str, Any]:
    """mask_id, pad_id and end_token_ids, from the model's config first, its tokenizer second, its vocabulary third.

    asked: --mask-token-id, which decides where config and tokenizer name different masks, and becomes the tokenizer's.
    """
    size, vocabulary = config.vocab_size, tokenizer.get_vocab()
    named = (vocabulary.get(word) for word in config.mask_words)
    masks = (config.mask_token_id, tokenizer.mask_token_id, *named)
    mask = next((token for token in masks if token is not None), None)
    if mask is None:
        raise ModelError("no mask token: pass --mask-token-id N, or set mask_token_id in its config.json")
    if not 0 <= mask < size or len(tokenizer) > size:
        text = f"it has {size} embeddings, but mask_token_id is {mask} and the tokenizer has {len(tokenizer)} tokens"
        raise ModelError(f"{text}; take config.json and tokenizer of one model")
    if asked is not None and tokenizer.mask_token_id not in (None, asked):
        tokenizer.mask_token = tokenizer.convert_ids_to_tokens(asked)
    if tokenizer.mask_token_id not in (None, mask):
        theirs = tokenizer.mask_token_id
        raise ModelError(
            f"config.json says that [MASK] is token {mask} ({tokenizer.convert_ids_to_tokens(mask)!r}), the tokenizer "
            f"that it is {theirs} ({tokenizer.mask_token!r}); pass the one that the model was trained with: "
            f"--mask-token-id {mask} or --mask-token-id {theirs}"
        )
    listed = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    turns = [vocabulary[word] for word in config.turn_ends if word in vocabulary]
    candidates = [*listed, tokenizer.eos_token_id, *(vocabulary.get(word) for word in config.text_ends)]
    others = (token for token in candidates if token is not None and token not in turns)
    ends = tuple(dict.fromkeys([*others, *turns]))
    if not ends or mask in ends:
        raise ModelError(f"its end tokens are {ends}, its mask {mask}; set eos_token_id in its config.json")
    padding = (tokenizer.pad_token_id, config.pad_token_id, ends[0])
    pad = next(token for token in padding if token is not None)
    return {"mask_id": mask, "pad_id": pad, "end_token_ids": ends}


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Without the progress bars of transformers."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _open(m: ModelConfig, env: str | None, seed: int) -> Policy:
    """The model of settled settings with its adapters, in eval mode."""
    register_again()
    weights = resolve_model(m.model, env)
    policy = _open_base(weights, m)
    # An adapter names its base: a Hub id as it is, a folder by its whole path.
    base = str(Path(weights.base).resolve()) if weights.is_local else weights.base
    if weights.adapter is not None:
        policy.model = load_adapter(policy.model, weights.adapter, dropout=m.lora_dropout, base=base)
    elif m.lora_r:
        lora = {"r": m.lora_r, "alpha": m.lora_alpha, "dropout": m.lora_dropout, "experts": m.lora_experts}
        policy.model = add_lora(policy.model, **lora, seed=seed, base=base)
        policy.fresh_adapters = True
    refuse_not_finite(policy)
    policy.model.eval()
    return policy


def refuse_not_finite(policy: Policy) -> None:
    """Raises ModelError, naming the first, where a tensor of the model holds NaN or infinity.

    Looks at each number once, which takes as long as reading the weights from memory: some seconds for 8 billion on a
    CPU, a few hundredths of one on a GPU. Nothing waits before all tensors have been looked at.
    """
    held = {name: shard.local(tensor) for name, tensor in policy.model.state_dict().items()}
    tensors = {
        name: tensor
        for name, tensor in held.items()
        if tensor.is_floating_point() and tensor.numel() and not tensor.is_meta
    }
    ends = [torch.stack(torch.aminmax(tensor)).float().isfinite().all() for tensor in tensors.values()]
    finite = torch.stack(ends).tolist() if ends else []
    if bad := [name for name, is_finite in zip(tensors, finite, strict=True) if not is_finite]:
        more = f" and {len(bad) - 1} more tensors" if len(bad) > 1 else ""
        raise ModelError(
            f"model {policy.source!r}: {bad[0]}{more} of its {len(tensors)} tensors hold NaN or infinity, so whatever "
            "it writes means nothing. Download or copy the weights again, or take an earlier checkpoint."
        )


def _open_base(weights: Weights, m: ModelConfig) -> Policy:
    """The base model and its tokenizer, or the adapter's own. Raises ModelError that names it and the next step."""
    device = _device(m.device)
    dtype = _dtype(m.dtype, device)
    base, adapter = weights.base, weights.adapter
    offline = "" if weights.is_local else envs.hub.why_offline()
    options = {"revision": m.revision or "main", "trust_remote_code": False}
    options["local_files_only"] = bool(offline)
    try:
        answered = adapter and (adapter / "config.json").is_file()
        config = AutoConfig.from_pretrained(str(adapter if answered else base), **options)
        if not isinstance(config, FamilyConfig):
            known = ", ".join(sorted({c.family.model_type for c in BY_ARCHITECTURE.values()}))
            raise ModelError(f"model_type {config.model_type!r}; those that can be trained here are {known}")
        answer(config, m)
        own_tokenizer = adapter and (adapter / "tokenizer_config.json").is_file()
        tokenizer = _open_tokenizer(str(adapter if own_tokenizer else base), config, options)
        tokenizer.padding_side = "left"  # prompts of unequal length end where the completion starts
        special = _special_token_ids(config, tokenizer, m.mask_token_id)
        if m.load_4bit:
            options["quantization_config"] = four_bits(dtype)
        if device.type != "cpu" or m.load_4bit:
            options["device_map"] = {"": device}
        unread = None
        if getattr(m, "is_divided", False):
            unread = folder_of(weights, options)
            with torch.device("meta"):
                model = AutoModelForMaskedLM.from_config(config, dtype=dtype)
        else:
            with no_progress_bars() if weights.is_local else nullcontext():
                model = AutoModelForMaskedLM.from_pretrained(base, config=config, dtype=dtype, **options)
        if m.load_4bit:
            keep_as_stored(model)
    except ModelError as error:
        raise ModelError(f"model {base!r}: {error}") from error
    except Exception as error:
        reason = f"the Hub does not answer ({offline})" if offline else first_line(error)
        remedy = "check the id and the network, or pass a downloaded folder with --model PATH"
        if weights.is_local:
            remedy = "it needs config.json, weights and a tokenizer as save_pretrained writes them"
        raise ModelError(f"model {base!r} cannot be opened: {reason}; {remedy}") from error
    notes = [what_stays_whole(config) if m.load_4bit else "", weights.note]
    return Policy(
        model,
        tokenizer,
        **special,
        source=str(adapter or base),
        note=" ".join(filter(None, notes)),
        unread=unread,
    )


def folder_of(weights: Weights, options: dict[str, Any]) -> Path:
    """Where the files of a model lie, downloaded if need be; it must have safetensors, which are read in parts."""
    if weights.is_local:
        return Path(weights.base)
    from huggingface_hub import snapshot_download

    where = {name: options[name] for name in ("revision", "local_files_only")}
    return Path(snapshot_download(weights.base, allow_patterns=["*.safetensors", "*.json"], **where))


def open_tokenizer(config: Any, weights: Weights, m: ModelConfig) -> Policy:
    """A model without its weights, of which `config` is known: it encodes prompts and has its positions.

    Raises ModelError where there is no tokenizer.
    """
    own = weights.adapter and (weights.adapter / "tokenizer_config.json").is_file()
    place = str(weights.adapter if own else weights.base)
    offline = {} if weights.is_local else {"local_files_only": bool(envs.hub.why_offline())}
    try:
        tokenizer = _open_tokenizer(place, config, {"revision": m.revision or "main", **offline})
    except (OSError, ValueError) as error:
        remedy = "download it, or pass a folder that has it"
        raise ModelError(f"model {place!r} has no tokenizer here: {first_line(error)}; {remedy}") from error
    model: Any = SimpleNamespace(config=config, device=torch.device("cpu"))
    return Policy(model, tokenizer, **_special_token_ids(config, tokenizer), source=place)


def _open_tokenizer(place: str, config: Any, options: dict[str, Any]) -> PreTrainedTokenizerFast:
    kind = config.family.tokenizer
    if kind is None or "auto_map" not in get_tokenizer_config(place, **options):
        return AutoTokenizer.from_pretrained(place, **options)
    return kind.from_pretrained(place, **options)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # unknown, not here, or torch is built without CUDA
        raise ModelError(f"device {name!r}: {first_line(error)}; use auto, cpu, cuda or cuda:0") from error


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    if name not in ("float32", "bfloat16", "float16", "float64"):
        raise ModelError(f"dtype {name!r} is unknown; use auto, float32, bfloat16, float16 or float64")
    return getattr(torch, name)

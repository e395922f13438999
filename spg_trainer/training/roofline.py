"""What a training needs of each device, and how long a step takes: from a model's shape and the settings alone.

`estimate` adds up the tensors that this trainer holds at the highest points of an update and of a rollout. The time is
a roofline (arithmetic or memory, whichever takes longer) under the assumptions of `Device`; every completion has its
full length in it, so it is the longest that a step takes. benchmarks/memory.py compares it with measured peaks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from spg_trainer.algorithms import Algorithm
from spg_trainer.likelihood.logps import rows_per_chunk
from spg_trainer.models.experts import experts_of
from spg_trainer.models.pattern import Pattern
from spg_trainer.rollout.cache import CACHES, POSITIONS_PER_THREAD
from spg_trainer.settings.adapters import find_adapter
from spg_trainer.settings.fields import Config, Sampling
from spg_trainer.settings.published import known_settings
from spg_trainer.training.micro_batches import micro_batch_size

PROMPT = 200
"""Tokens of a prompt where nobody says how many."""
LLADA_8B = ("GSAI-ML/LLaDA-8B-Base", "GSAI-ML/LLaDA-8B-Instruct", "GSAI-ML/LLaDA-1.5")
_BYTES = {"bfloat16": 2, "float32": 4, "float64": 8}


@dataclass(frozen=True)
class Device:
    """An accelerator and its links. The figures are assumptions, and printed with every estimate."""

    name: str = "H200"
    flops: float = 790e12
    """Operations a second of a large matrix product in bfloat16."""
    wide_flops: float = 60e12
    """The same in float32, for which torch by default uses no tensor cores."""
    utilisation: float = 0.6
    """Share of them that a whole pass reaches."""
    bandwidth: float = 4.8e12
    """Bytes a second from its memory."""
    link: float = 50e9
    """Bytes a second from other devices: a 400 Gb/s card for each. Within a node it is faster."""

    def rate(self, bytes: int) -> float:
        """Operations a second of whole passes in a type of so many bytes."""
        return self.utilisation * (self.flops if bytes == 2 else self.wide_flops)


@dataclass(frozen=True)
class Estimate:
    """What each process needs: bytes by what holds them, seconds of a step by what takes them."""

    held: dict[str, float]
    """From one step to the next, but gradients, which the updates alone hold."""
    update: dict[str, float]
    """On top of that, while gradients are computed."""
    rollout: dict[str, float]
    """On top of what is held except gradients, while completions are sampled."""
    optimizer_step: float
    """On top of what is held, while the optimizer steps."""
    seconds: dict[str, float]

    @property
    def update_peak(self) -> float:
        """Bytes at the highest point of an update."""
        return sum(self.held.values()) + max(sum(self.update.values()), self.optimizer_step)

    @property
    def rollout_peak(self) -> float:
        """Bytes at the highest point of a rollout."""
        return sum(self.held.values()) - self.held["gradients"] + sum(self.rollout.values())


class _Work(NamedTuple):
    """A model's shape and the settings, in numbers."""

    layers: int
    width: int
    ffn: int
    queries: int
    """Numbers in the queries of all heads, and in the keys of those that have their own."""
    keys: int
    vocabulary: int
    body: int
    """Weights of the layers, of embedding and head, of LoRA's adapters."""
    ends: int
    adapters: int
    active: int
    """Weights of the layers that a token meets: of a mixture, not those of experts that it does not take."""
    largest: int
    """Weights of the largest tensor."""
    pattern: Pattern
    bytes: int
    """Of a number in a pass, and of one that is trained."""
    wide: int
    prompt: int
    length: int
    """Tokens of a prompt and of a completion."""
    masks: int
    updates: int
    """In a step."""

    @property
    def columns(self) -> int:
        return self.prompt + self.length

    @property
    def copy(self) -> int:
        """Columns of a masked copy at most: where attention has blocks, of the blocks that the completion touches, and
        of all that stands before the last of them once more, clean."""
        if self.pattern.is_full:
            return self.columns
        last, _ = self.pattern.block_of(self.length - 1, self.prompt)
        return self.pattern.head(self.prompt) + self.length + self.prompt + last

    @property
    def whole(self) -> int:
        return self.body + self.ends

    @property
    def trained(self) -> int:
        return self.adapters or self.whole

    @property
    def cache(self) -> int:
        """Bytes of the keys and values of one column of a row: 512 KiB for LLaDA-8B in bfloat16."""
        return 2 * self.layers * self.keys * self.bytes


def estimate(
    shape: Any,
    config: Config,
    algorithm: Algorithm,
    *,
    dtype: str = "bfloat16",
    prompt_length: int = PROMPT,
    processes: int = 1,
    shard: bool = False,
    cpu_threads: int = 0,
    device: Device = Device(),
) -> Estimate:
    """What each of `processes` needs for a step of these settings.

    shape: the model's configuration under the names of transformers; `LLaDAConfig()` is LLaDA-8B's. dtype: that of a
    pass; what is trained is float32 at least. shard: as --shard. cpu_threads: 0 = on an accelerator, else as the
    trainer works on a CPU with so many. device: for the seconds.
    """
    n, share = _count(shape, config, algorithm, dtype, prompt_length), processes if shard else 1
    completions = -(-config.batch.prompts_per_step * config.batch.num_generations // processes)
    width = n.columns if config.rollout.cache == "none" else config.rollout.block_length
    rows = (
        POSITIONS_PER_THREAD * cpu_threads // width if cpu_threads else 4 * config.batch.per_device_batch_size
    )
    rows = max(1, min(rows, completions))
    largest = 0 if n.adapters else n.largest
    stepped = 2 * largest if cpu_threads else n.trained / (1 if n.adapters else share)
    gathered = {"gathered weights": float(n.bytes * n.whole)} if shard else {}  # for a phase: models/shard.py
    summed = n.wide * n.trained * (1 if shard and not n.adapters else 2)
    received = n.updates * summed + (n.updates + 1) * sum(gathered.values())
    return Estimate(
        held=_held(n, config, algorithm, share),
        update=_update_memory(n, config) | gathered,
        rollout=_rollout_memory(n, config.rollout, rows) | gathered,
        optimizer_step=n.wide * stepped,  # roots of second moments: of a tensor at a time, or of all
        seconds={
            "rollout": _row_seconds(n, config.rollout, rows, device) * completions,
            "update": _update_seconds(n, config, algorithm, device) * completions,
            "links": received * (1 - 1 / processes) / device.link,
        },
    )


def _count(shape: Any, config: Config, algorithm: Algorithm, dtype: str, prompt: int) -> _Work:
    layers, width, ffn = shape.num_hidden_layers, shape.hidden_size, shape.intermediate_size
    size = getattr(shape, "head_dim", None) or width // shape.num_attention_heads
    queries, keys = size * shape.num_attention_heads, size * shape.num_key_value_heads
    length, batch = config.rollout.max_completion_length, config.batch
    body, ends, active = count_weights(shape)
    adapted, largest = layers * (4 * width + 2 * (queries + keys)), width * max(shape.vocab_size, ffn)
    experts = experts_of(shape)
    if experts.layers:
        if config.model.lora_experts:
            adapted += 3 * (layers - experts.layers) * (width + ffn)
            adapted += experts.layers * 3 * (width + experts.shared * experts.width) * (experts.shared > 0)
            adapted += (
                experts.layers * experts.count * (2 * width + 3 * experts.width)
            )  # gate and up are one tensor
        largest = max(largest, 2 * experts.count * experts.width * width)
        ffn = (experts.chosen + experts.shared) * experts.width
    else:
        adapted += layers * 3 * (width + ffn)
    return _Work(
        *(layers, width, ffn, queries, keys, shape.vocab_size),
        body=body,
        ends=ends,
        adapters=config.model.lora_r * adapted,
        active=active,
        largest=largest,
        pattern=pattern_of(shape),
        bytes=_BYTES[dtype],
        wide=max(4, _BYTES[dtype]),
        prompt=prompt,
        length=length,
        masks=algorithm.make_masking().count(length),
        updates=batch.num_iterations * batch.num_minibatches,
    )


def count_weights(shape: Any) -> tuple[int, int, int]:
    """Weights of a model's layers, of embedding and head, and those of the layers that a token meets."""
    import torch
    from transformers import AutoModelForMaskedLM

    with torch.device("meta"):
        model = AutoModelForMaskedLM.from_config(shape)
    ends = shape.vocab_size * shape.hidden_size * (1 if shape.tie_word_embeddings else 2)
    body = sum(p.numel() for p in model.parameters()) - ends
    experts = experts_of(shape)
    idle = experts.layers * (experts.count - experts.chosen) * 3 * shape.hidden_size * experts.width
    return body, ends, body - idle


def _held(n: _Work, config: Config, algorithm: Algorithm, share: int) -> dict[str, float]:
    """Weights, their gradient and AdamW's two moments; adapters are not divided, nor a gradient before it is summed."""
    base = n.bytes * n.whole + share * n.wide * n.adapters if n.adapters else n.wide * n.whole
    moment = n.wide if config.optimizer.adam_moments == "float32" else 1 + 4 / 256  # torchao: a scale for 256
    moments = 2 * moment * n.trained / (1 if n.adapters else share)
    held = {"weights": base / share, "gradients": float(n.wide * n.trained), "optimizer": moments}
    if algorithm.needs_ref_logps and config.model.ref_copy:
        held["reference"] = n.wide * n.whole / share
    elif algorithm.needs_ref_logps and find_adapter(config.model.model):
        held["reference"] = float(n.wide * n.adapters)
    return held


def _update_memory(n: _Work, config: Config) -> dict[str, float]:
    """Activations; logits of a chunk, or the embedding's gradient of its own, which comes when they are gone."""
    r = config.model.lora_r
    # What autograd keeps of a layer for each token: the inputs of two norms (never below float32), queries, keys and
    # values, the output of attention, three vectors of the feed-forward part, a row of the mask; besides,
    layer = 2 * n.wide * n.width + n.bytes * (4 * n.queries + 3 * n.ffn + n.copy)
    if not n.adapters:  # what norms and linear layers are multiplied with,
        layer += n.bytes * (4 * n.width + n.ffn)
    elif n.bytes == n.wide:  # or only what adapters are,
        layer += n.bytes * (2 * n.width + n.ffn + 7 * r)
    else:  # which being float32 keep a copy each.
        layer += n.wide * (5 * n.width + n.queries + n.ffn + 7 * r)
    rows, masks_at_once = micro_batch_size(config.batch.per_device_batch_size, n.masks)
    sequences = rows * masks_at_once
    live = layer * (n.layers - 1 + n.length / n.copy)  # the last layer computes completions alone
    if config.model.gradient_checkpointing:  # the inputs of layers, one layer whole, and gradients inside it
        live = n.layers * n.width * n.bytes + layer + 3 * n.ffn * n.bytes
    activations = float(sequences * n.copy * live)
    chunk = min(rows_per_chunk(n.vocabulary), sequences * n.length) * n.vocabulary
    logits = float(chunk * (n.wide + n.bytes * (n.bytes < n.wide)))
    ends = 0 if n.adapters else n.width * n.vocabulary
    if n.bytes < n.wide:  # the head's gradient is summed up in float32, then rounded
        logits += ends * (n.wide + 2 * n.bytes)
    logits = max(logits, ends * n.bytes - activations)
    return {"activations": activations, "logits": logits}


def _rollout_memory(n: _Work, sampling: Sampling, rows: int) -> dict[str, float]:
    of_row = sampling.block_length * n.vocabulary
    copies = 3 if sampling.temperature > 0 else 1  # noise, and its difference from the logits
    logits = min(rows, max(1, 2**26 // of_row)) * of_row * (copies * n.wide + n.bytes * (n.bytes < n.wide))
    memory = {"pass": float(max(logits, rows * n.columns * 3 * (n.width + n.ffn) * n.bytes))}
    if sampling.cache != "none":
        memory["cache"] = float(rows * n.columns * n.cache)
    return memory


def _flops(n: _Work, computed: int, seen: int) -> float:
    """Of a row in the layers: two for each weight and column, four for each number of a query and each column seen."""
    return computed * (2.0 * (n.active + n.adapters) + 4 * n.queries * n.layers * seen)


def _passes(s: Sampling, prompt: int, pattern: Pattern) -> Iterator[tuple[int, int, int]]:
    """(columns computed, columns seen, masked tokens of the block) in each pass over a row; without a schedule at most,
    a token at a time.
    """
    window, end, number, fresh_prompt = CACHES[s.cache], prompt + s.max_completion_length, 0, 0
    of_whole = s.steps_per_block if s.unmasking == "schedule" else s.block_length
    for first, last in pattern.spans(prompt, s.max_completion_length, s.block_length):
        start, stop, size = prompt + first, prompt + last, last - first
        steps = -(-size * of_whole // s.block_length)
        if pattern.is_full:
            own, seen = start, end if s.suffix_tokens is None else min(end, stop + s.suffix_tokens + 1)
        else:  # nobody sees what stands behind attention's block
            own, seen = (min(end, prompt + edge) for edge in pattern.block_of(first, prompt))
        for step in range(steps):
            masked = size * (steps - step) // steps
            if s.cache == "blocks":  # the first step of attention's block also computes the one before it
                entered = step == 0 and start == own
                yield seen - own + entered * pattern.block_size if number else seen, seen, masked
            elif window and (step % s.refresh_steps if s.refresh_steps else step):
                left, right = window(start, stop, seen, s)
                yield right - left, seen, masked
            elif number and number - fresh_prompt < s.prompt_refresh_steps:
                yield seen - prompt, seen, masked
            else:
                yield seen, seen, masked
                fresh_prompt = number
            number += 1


def _row_seconds(n: _Work, sampling: Sampling, rows: int, device: Device) -> float:
    """Of a completion, `rows` at a time."""
    seconds, weights = 0.0, n.bytes * (n.whole - n.width * n.vocabulary) + n.wide * n.adapters
    for computed, seen, masked in _passes(sampling, n.prompt, n.pattern):
        flops = rows * (_flops(n, computed, seen) + 2 * masked * n.vocabulary * n.width)
        moved = weights + rows * (seen - computed) * n.cache
        seconds += max(flops / device.rate(n.bytes), moved / device.bandwidth)
    return seconds / rows


def _update_seconds(n: _Work, config: Config, algorithm: Algorithm, device: Device) -> float:
    """Of a completion. A backward pass is two passes, one where weights are frozen; to recompute is one more."""
    passes = 2.0 + (not n.adapters) + config.model.gradient_checkpointing
    passes += algorithm.needs_ref_logps + algorithm.couples
    passes += algorithm.needs_old_logps * (n.updates - 1) / n.updates
    if not algorithm.separable:
        passes += 1 - micro_batch_size(config.batch.per_device_batch_size, n.masks)[1] / n.masks
    head = 4 * n.length * n.vocabulary * n.width  # half of the tokens are scored, in four products
    copies = n.masks * config.batch.num_iterations
    return copies * (passes * _flops(n, n.copy, n.copy) + head) / device.rate(n.bytes)


def foretell(config: Config, algorithm: Algorithm, processes: int) -> list[str]:
    """An estimate of settings in a few lines; one that says why not, where the model's shape cannot be known here."""
    m, shape = config.model, find_shape(config)
    if shape is None:
        return [f"memory and time: the shape of {m.model} is unknown here. Download its config.json first."]
    on_cpu, all_weights = m.device == "cpu", not m.lora_r and not m.shard
    dtype = m.dtype if m.dtype != "auto" else "float32" if on_cpu or all_weights else "bfloat16"
    device, threads = Device(), 0
    if on_cpu:
        import torch

        threads = torch.get_num_threads()
    e = estimate(
        shape, config, algorithm, dtype=dtype, processes=processes, shard=m.shard, cpu_threads=threads
    )

    def shown(parts: dict[str, float]) -> str:
        return ", ".join(f"{name} {size / 2**30:.2f}" for name, size in parts.items())

    took = ", ".join(f"{name} {seconds:.1f}" for name, seconds in e.seconds.items() if seconds)
    body, ends, active = count_weights(shape)
    met = active + shape.vocab_size * shape.hidden_size  # a token's embedding is looked up
    shared = f"{met / 1e9:.2f} billion of them for a token" if active < body else "all for every token"
    lines = [
        f"weights: {(body + ends) / 1e9:.2f} billion, {shared}",
        f"memory of a process (of {processes}) in GiB ({dtype}, prompts of {PROMPT} tokens): {shown(e.held)}",
        f"  an update adds {shown(e.update)}: {e.update_peak / 2**30:.2f} in all",
        f"  a rollout adds {shown(e.rollout)}: {e.rollout_peak / 2**30:.2f} in all, without gradients",
        f"seconds of a step at most: {took}, if an {device.name} reaches {device.rate(_BYTES[dtype]) / 1e12:.0f} "
        f"TFLOP/s ({device.utilisation:.0%} of a large product's), {device.bandwidth / 1e12:.1f} TB/s from its memory "
        f"and {device.link / 1e9:.0f} GB/s from others",
    ]
    return lines[:4] if on_cpu else lines


def pattern_of(shape: Any) -> Pattern:
    """Who attends to whom in a model of this configuration."""
    return Pattern(shape.block_size, shape.family.origin) if hasattr(shape, "family") else Pattern()


def find_shape(config: Config) -> Any:
    """The configuration of the model that settings name, without a network; None where it is not known.

    Raises ModelError where it does not say who attends to whom and no flag does, as when the model is opened.
    """
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from spg_trainer.errors import ModelError
    from spg_trainer.models import LLaDAConfig
    from spg_trainer.models.body import check_block_size
    from spg_trainer.models.family import FamilyConfig
    from spg_trainer.models.load import answer
    from spg_trainer.settings.weights import resolve_model

    weights, revision = resolve_model(config.model.model, config.env), config.model.revision or "main"
    base, adapter = weights.base, weights.adapter
    answered = adapter is not None and (adapter / "config.json").is_file()
    try:
        shape = AutoConfig.from_pretrained(
            adapter if answered else base, revision=revision, local_files_only=True, trust_remote_code=False
        )
    except ModelError:
        raise
    except (OSError, ValueError):  # not downloaded, or of a kind that transformers does not know
        known = known_settings(base)
        if base in LLADA_8B:
            shape = LLaDAConfig()
        elif known:
            shape = CONFIG_MAPPING[known["model_type"]].from_dict(known)
        else:
            return None
    if not isinstance(shape, LLaDAConfig | FamilyConfig):
        return None
    try:
        answer(shape, config.model)
        if isinstance(shape, FamilyConfig):
            check_block_size(shape)
    except ModelError as error:
        raise ModelError(f"model {base!r}: {error}") from error
    return shape

"""SGLang samples as this trainer does: a plugin for its path of diffusion models, written for SGLang 0.5.23.

SGLang loads `register` in each of its processes, by the entry point group `sglang.srt.plugins`. It puts `SpgSampler`
into SGLang's table of algorithms, and hooks three private functions. Two of the hooks bring the tokens, steps and
log-probabilities of a request back, also behind a stop; the third one hands the sampler what a request asks for. This
file imports nothing of the trainer, so that an engine needs only torch and SGLang beside it.

What a request asks for stands in the `custom_params` of its sampling parameters:

- `spg_seed`, an int: the noise of a pass depends on it, on the block and on the number of the pass alone. So all
  tensor-parallel ranks draw the same numbers, whatever else is in the batch, and data-parallel ranks, which have other
  requests, draw others.
- `spg_temperature`: 0 = greedy, the default.
- `spg_counts`: how many tokens each pass of a block unmasks; later passes repeat the last number. The default is [1].
- `spg_threshold`: a pass unmasks at least all tokens of this probability; None = it looks at no probability.
- `spg_most`: the most tokens that a pass unmasks; 0 = no limit.
- `spg_block_length`, `spg_mask_id`: what the trainer takes them to be. A request is refused if the engine differs.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

NAME = "SpgSampler"
TOKENS, STEP, LOGP = "spg_tokens", "spg_step", "spg_drawn_logp"
"""Keys of `meta_info` in a response, each a list with an entry for each token of all blocks: its id, the pass of its
block that unmasked it, from 0 on, and its log-probability in this pass in the distribution from which it was drawn."""


def sampler_class(base: type) -> type:
    """The class `SpgSampler`. base: SGLang's `DllmAlgorithm`."""

    class SpgSampler(base):
        """Unmasks the surest tokens of each block, as the trainer's `--remasking low_confidence`."""

        def __init__(self, config: Any) -> None:
            super().__init__(config)
            if not self.fdfo:
                raise ValueError(f"{NAME} needs the flag --dllm-fdfo: other modes keep no steps.")

        @classmethod
        def validate_request(cls, req: Any) -> str | None:
            wanted, config = req.sampling_params.custom_params or {}, req.dllm_config
            for name, flag, value in (
                ("spg_block_length", "block_size in the file of --dllm-algorithm-config", config.block_size),
                ("spg_mask_id", "mask id of this architecture", config.mask_id),
            ):
                if wanted.get(name, value) != value:
                    return f"the trainer's {name.removeprefix('spg_')} is {wanted[name]}, and the {flag} is {value}"
            return None

        def init_step_state(self, forward_batch: Any) -> list[dict[str, Any]]:
            size = self.block_size
            return [
                {"passes": 0, STEP: [-1] * size, LOGP: [0.0] * size} for _ in range(forward_batch.batch_size)
            ]

        def step(self, forward_batch: Any, full_logits: torch.Tensor, states: list[Any]) -> list[bool]:
            """Makes a pass over B blocks of S places; a block is done in the pass that finds no mask in it.

            full_logits: (B * S, V).
            """
            self.last_states = states
            size, count = self.block_size, forward_batch.batch_size
            ids = forward_batch.input_ids.view(count, size).tolist()
            starts = forward_batch.positions.view(count, size)[:, 0].tolist()
            fixed = forward_batch.dllm_prompt_mask
            is_fixed = [[False] * size] * count if fixed is None else fixed.view(count, size).tolist()
            masked = [
                [i for i in range(size) if row[i] == self.mask_id and not fixed_in_row[i]]
                for row, fixed_in_row in zip(ids, is_fixed, strict=True)
            ]
            wanted = [params or {} for params in forward_batch.sampling_info.custom_params or [None] * count]
            logits = full_logits.view(count, size, -1)
            # Rows one by one: the noise of all of them would take as much memory as the logits.
            drawn = [
                draw(logits[b, places], self.mask_id, wanted[b], starts[b], states[b]["passes"])
                for b, places in enumerate(masked)
                if places
            ]
            if not drawn:
                return [True] * count
            # one wait
            tokens, logps, drawn_logps = (torch.cat(values).tolist() for values in zip(*drawn, strict=True))
            first = 0
            for b, places in enumerate(masked):
                if not places:
                    continue
                state, end = states[b], first + len(places)
                for i in places_to_unmask(logps[first:end], wanted[b], state["passes"]):
                    ids[b][places[i]] = tokens[first + i]
                    state[STEP][places[i]], state[LOGP][places[i]] = state["passes"], drawn_logps[first + i]
                state["passes"] += 1
                first = end
            # In place, because CUDA graphs read this tensor.
            forward_batch.input_ids.copy_(torch.tensor(ids).view(-1).to(forward_batch.input_ids))
            return [not places for places in masked]

        def _run_fdfo(self, model_runner: Any, forward_batch: Any, algo_states: list[Any] | None) -> Any:
            # SGLang's loop drops the states of blocks that are done.
            logits, ids, accepted, _, graph = super()._run_fdfo(model_runner, forward_batch, algo_states)
            return logits, ids, accepted, self.last_states, graph

    return SpgSampler


def draw(
    logits: torch.Tensor, mask_id: int, wanted: Mapping[str, Any], start: int, number: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(tokens, logps, drawn_logps) at m places, (m,) each.

    logps are the model's log-probabilities of the tokens, at temperature 1, by which `places_to_unmask` chooses.
    drawn_logps are those in the distribution from which they are drawn: at the temperature, and without the mask id.
    At temperatures 0 and 1, they are `logps`.

    A token is the argmax of logits - temperature * log E with E ~ Exp(1), as in the trainer's `sample_tokens`. logits:
    (m, V). wanted: a request's `custom_params`. start: the block's first position. number: of the pass in its block.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    scores, temperature = logits, wanted.get("spg_temperature", 0.0)
    if temperature > 0:
        key = f"{wanted['spg_seed']}/{start}/{number}".encode()
        seed = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little") >> 1
        generator = torch.Generator(logits.device).manual_seed(seed)
        noise = torch.empty(logits.shape, dtype=torch.float32, device=logits.device)
        noise.exponential_(generator=generator).clamp_(min=torch.finfo(torch.float32).tiny).log_()
        scores = logits - temperature * noise
    may_be_drawn = torch.arange(logits.shape[1], device=logits.device) != mask_id
    tokens = scores.where(may_be_drawn, float("-inf")).argmax(-1)

    def logps_of(logits: torch.Tensor) -> torch.Tensor:
        return logits.log_softmax(-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)

    logps = drawn_logps = logps_of(logits)
    if temperature not in (0, 1):
        drawn_logps = logps_of(logits.where(may_be_drawn, float("-inf")) / temperature)
    return tokens, logps, drawn_logps


def places_to_unmask(logps: Sequence[float], wanted: Mapping[str, Any], number: int) -> list[int]:
    """The indices of the tokens that a pass unmasks, the surest first; of equal ones, the leftmost.

    logps: the tokens' log-probabilities. wanted, number: as for `draw`.
    """
    counts, threshold = wanted.get("spg_counts", [1]), wanted.get("spg_threshold")
    count = counts[min(number, len(counts) - 1)]
    if threshold is not None:
        count = max(count, sum(logp >= math.log(threshold) for logp in logps))
    most = wanted.get("spg_most") or len(logps)
    return sorted(range(len(logps)), key=lambda i: -logps[i])[: min(max(1, count), most)]


def keep_paths(original: Callable[..., Any], scheduler: Any, batch: Any, result: Any) -> Any:
    """Around `process_batch_result_dllm`: notes tokens, steps and log-probabilities of the blocks that are done."""
    size, states = scheduler.dllm_config.block_size, result.dllm_algo_state or []
    for req, done, ids, state in zip(
        batch.reqs, result.accept_length_per_req_cpu or [], result.next_token_ids, states, strict=False
    ):
        written = min(
            size, req.extend_end - len(req.origin_input_ids)
        )  # tokens of the block behind the prompt
        if not done or state is None or written <= 0:
            continue
        if req.customized_info is None:
            req.customized_info = {}
        for key, values in ((TOKENS, ids), (STEP, state[STEP]), (LOGP, state[LOGP])):
            req.customized_info.setdefault(key, []).extend(list(values)[size - written :])
    return original(scheduler, batch, result)


def hand_over_params(result: Any, _: type, batch: Any, *arguments: Any, **keywords: Any) -> None:
    """After `SamplingBatchInfo.from_schedule_batch`, which keeps custom_params for logit processors alone."""
    result.custom_params = [req.sampling_params.custom_params for req in batch.reqs]


def is_of_request(original: Callable[..., bool], streamer: Any, key: str) -> bool:
    """Around `is_request_level_customized_info_key`: our lists are sent whole, not cut where the text stops."""
    return key in (TOKENS, STEP, LOGP) or original(streamer, key)


def register() -> None:
    """What SGLang calls before it starts."""
    from sglang.srt.dllm import algorithm
    from sglang.srt.dllm.algorithm.base import DllmAlgorithm
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    algorithm.algo_name_to_cls[NAME] = sampler_class(DllmAlgorithm)
    managers = "sglang.srt.managers.scheduler_components"
    for target, hook, kind in (
        (
            "sglang.srt.dllm.mixin.scheduler.SchedulerDllmMixin.process_batch_result_dllm",
            keep_paths,
            HookType.AROUND,
        ),
        (
            f"{managers}.output_streamer.SchedulerOutputStreamer.is_request_level_customized_info_key",
            is_of_request,
            HookType.AROUND,
        ),
        (
            "sglang.srt.sampling.sampling_batch_info.SamplingBatchInfo.from_schedule_batch",
            hand_over_params,
            HookType.AFTER,
        ),
    ):
        HookRegistry.register(target, hook, kind)

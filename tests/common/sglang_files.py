"""SGLang's own files around a small model on the CPU: its loader of plugins, dLLM loop, scheduler and batch of sampling
parameters. What needs a GPU or another package is a stand-in. Run it in a process of its own: it fills `sys.modules`.

The files are those of the wheel sglang 0.5.23 for which the environment variable names a folder, e.g. by
`pip install --no-deps --target FOLDER sglang==0.5.23`, or of an installed SGLang.
"""

import functools
import importlib.metadata
import importlib.util
import os
import sys
import types
from array import array
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from spg_trainer.models import Policy
from spg_trainer.models.forward import base_model, head_weight, hidden_states

FOLDER = "SPG_SGLANG"
"""The environment variable with the folder that holds the package `sglang`."""
VERSION = "0.5.23"
STOP = "stop"


def place() -> Path | None:
    """The folder of the package `sglang` of the version that the plugin is for; None if it is not here."""
    if folder := os.environ.get(FOLDER):
        return Path(folder) / "sglang"
    spec = importlib.util.find_spec("sglang")
    is_fitting = spec is not None and importlib.metadata.version("sglang") == VERSION
    return Path(spec.origin).parent if is_fitting and spec.origin else None


class Anything(types.ModuleType):
    """A module that has a class of any name."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__class_getitem__": classmethod(lambda cls, item: cls)})


def stand_in(name: str, **values: Any) -> None:
    module = Anything(name)
    module.__path__ = []
    vars(module).update(values)
    sys.modules[name] = module


@functools.cache
def sglang() -> SimpleNamespace:
    """What the plugin has changed: its table of algorithms, the scheduler's mixin, streamer and sampling batch."""
    folder = place()
    assert folder is not None
    for package in (
        "sglang",
        "sglang.srt",
        "sglang.srt.dllm",
        "sglang.srt.dllm.mixin",
        "sglang.srt.sampling",
    ):
        module = types.ModuleType(package)
        module.__path__ = [str(folder.joinpath(*package.split(".")[1:]))]
        sys.modules[package] = module
    unset = SimpleNamespace(get=lambda: None)
    features = SimpleNamespace(enable_custom_logit_processor=False, enable_watermark=False)
    deterministic = SimpleNamespace(enable_deterministic_inference=False)

    class Streamer:
        def is_request_level_customized_info_key(self, key: str) -> bool:
            return False

    stand_in("sglang.srt.environ", envs=SimpleNamespace(SGLANG_PLUGINS=unset, SGLANG_PLATFORM=unset))
    stand_in("sglang.srt.utils", is_npu=lambda: False)
    stand_in("sglang.srt.utils.common", is_pin_memory_available=lambda device: False)
    stand_in("sglang.srt.mem_cache.common", release_kv_cache=lambda *_, **__: None)
    stand_in(
        "sglang.srt.runtime_context",
        get_exec=lambda: SimpleNamespace(features=features, deterministic=deterministic),
    )
    stand_in("sglang.srt.sampling.sampling_params", TOP_K_ALL=1 << 30)
    managers = "sglang.srt.managers"
    stand_in(f"{managers}.scheduler_components.output_streamer", SchedulerOutputStreamer=Streamer)
    for name in (
        "sglang.srt.dllm.config",
        "sglang.srt.layers",
        "sglang.srt.layers.logits_processor",
        "sglang.srt.model_executor",
        "sglang.srt.model_executor.forward_batch_info",
        "sglang.srt.model_executor.model_runner",
        "sglang.srt.server_args",
        "sglang.srt.mem_cache",
        "sglang.srt.observability",
        "sglang.srt.observability.req_time_stats",
        managers,
        f"{managers}.schedule_batch",
        f"{managers}.schedule_policy",
        f"{managers}.scheduler_components",
        "sglang.srt.constrained",
        "sglang.srt.constrained.base_grammar_backend",
        "sglang.srt.sampling.custom_logit_processor",
        "sglang.srt.sampling.watermarking",
        "sglang.srt.sampling.watermarking.core",
        "sglang.srt.sampling.penaltylib",
        "sglang.srt.sampling.penaltylib.repetition_penalty",
    ):
        stand_in(name)
    sys.modules["sglang.srt.sampling.penaltylib"].BatchedPenalizerOrchestrator = lambda **_: None

    import sglang.srt.plugins as plugins

    entry = importlib.metadata.EntryPoint(
        "spg-trainer", "spg_trainer.rollout.sglang_plugin:register", plugins.GENERAL_PLUGINS_GROUP
    )
    plugins.entry_points = lambda group: [entry] if group == entry.group else []
    plugins.load_plugins()
    from sglang.srt.dllm.algorithm import algo_name_to_cls
    from sglang.srt.dllm.mixin.scheduler import SchedulerDllmMixin
    from sglang.srt.sampling.sampling_batch_info import SamplingBatchInfo

    return SimpleNamespace(
        algorithms=algo_name_to_cls,
        scheduler=SchedulerDllmMixin,
        streamer=Streamer(),
        sampling=SamplingBatchInfo,
    )


class Runner:
    """Computes the logits of blocks, without a cache."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    @torch.no_grad()
    def forward(self, batch: Any, pp_proxy_tensors: Any = None) -> Any:
        size, model = batch.size, self.policy.model
        blocks = batch.input_ids.view(-1, size)
        logits = torch.empty(len(blocks), size, head_weight(model).shape[0])
        for start in set(map(len, batch.before)):  # equally long rows together
            rows = [row for row, before in enumerate(batch.before) if len(before) == start]
            before = torch.tensor([batch.before[row] for row in rows], dtype=torch.int64)
            ids = torch.cat([before.view(len(rows), start), blocks[rows]], 1)
            places = torch.arange(start, start + size).expand(len(rows), -1)
            seen = torch.ones_like(ids, dtype=torch.bool)
            states = hidden_states(model, ids, seen, keep=places, start=start)
            logits[rows] = states @ head_weight(model).T
        logits = logits.flatten(0, 1)
        return SimpleNamespace(logits_output=SimpleNamespace(full_logits=logits), can_run_graph=False)


def request(prompt: list[int], params: dict[str, Any], config: Any) -> SimpleNamespace:
    """What the scheduler keeps of a request."""
    greedy = params.get("custom_params", {}).get("spg_temperature", 0.0) == 0
    sampling = SimpleNamespace(
        temperature=1.0,
        top_p=1.0,
        top_k=1 if greedy else 1 << 30,
        min_p=0.0,
        sampling_seed=None,
        logit_bias=None,
        custom_params=params.get("custom_params"),
    )
    req = SimpleNamespace(
        origin_input_ids=list(prompt),
        output_ids=[],
        full_untruncated_fill_ids=array("q", prompt),
        dllm_incomplete_ids=array("q"),
        dllm_algo_state=None,
        dllm_config=config,
        customized_info=None,
        custom_logit_processor=None,
        return_sampling_mask=False,
        sampling_logprobs_mode=None,
        extend_end=0,
        committed=0,
        sampling_params=sampling,
        finish=None,
    )
    ends, longest = set(params.get("stop_token_ids", ())), params["max_new_tokens"]

    def update_finish_state(new_accepted_len: int) -> None:
        if any(token in ends for token in req.output_ids[-new_accepted_len:]):
            req.finish = STOP
        elif len(req.output_ids) >= longest:
            req.finish = "length"

    req.update_finish_state = update_finish_state
    return req


def by_sglang(
    policy: Policy, prompts: list[list[int]], params: list[dict[str, Any]]
) -> list[dict[str, list]]:
    """What the plugin brings back for each prompt. Requests wait in a queue; a batch has four, or an eighth of all."""
    files = sglang()
    size, mask = base_model(policy.model).pattern.block_size, policy.mask_id
    config = SimpleNamespace(
        block_size=size,
        mask_id=mask,
        first_done_first_out_mode=True,
        algorithm="SpgSampler",
        algorithm_config={},
        requires_separate_context_encoding=False,
    )
    kind = files.algorithms["SpgSampler"]
    algorithm, runner = kind(config), Runner(policy)

    class Scheduler(files.scheduler):
        dllm_config = config
        token_to_kv_pool_allocator = SimpleNamespace(free_group_begin=lambda: 0, free_group_end=lambda: 0)
        metrics_reporter = SimpleNamespace(num_generated_tokens=0, report_prefill_stats=lambda **_: 0)
        output_streamer = SimpleNamespace(stream_output=lambda *_: 0)

        def _finish_dllm_request_if_needed(self, req: Any) -> None:
            pass

    scheduler = Scheduler()
    reqs = [request(prompt, wanted, config) for prompt, wanted in zip(prompts, params, strict=True)]
    for req in reqs:
        if refusal := kind.validate_request(req):
            raise ValueError(refusal)
    queue, most = list(reqs), max(4, len(reqs) // 8)
    while queue:
        batch, queue = queue[:most], queue[most:]
        for req in batch:
            known = req.origin_input_ids + list(req.output_ids)
            start = req.committed
            block = list(req.dllm_incomplete_ids) or (known[start : start + size] + [mask] * size)[:size]
            req.before, req.block, req.extend_end = known[:start], block, start + size
            req.full_untruncated_fill_ids = array("q", req.before + block)
        of_batch = SimpleNamespace(
            reqs=batch,
            device="cpu",
            batch_size=functools.partial(len, batch),
            forward_mode=SimpleNamespace(is_dllm_extend=lambda: True),
            return_logprob=False,
            prefill_stats=None,
            dp_cooperation_info=None,
        )
        starts = torch.tensor([[req.committed] for req in batch])
        forward = SimpleNamespace(
            batch_size=len(batch),
            size=size,
            input_ids=torch.tensor([req.block for req in batch]).view(-1),
            positions=(starts + torch.arange(size)).view(-1).int(),
            before=[req.before for req in batch],
            dllm_prompt_mask=None,
            sampling_info=files.sampling.from_schedule_batch(of_batch, head_weight(policy.model).shape[0]),
        )
        out = algorithm.run(runner, forward, [req.dllm_algo_state for req in batch])
        logits, ids, accepted, states, graph = out
        result = SimpleNamespace(
            copy_done=None,
            logits_output=logits,
            next_token_ids=ids,
            accept_length_per_req_cpu=accepted,
            dllm_algo_state=states,
            can_run_cuda_graph=graph,
        )
        scheduler.process_batch_result_dllm(of_batch, result)
        for req, done in zip(batch, accepted, strict=True):
            req.committed += size if done else 0
        queue += [req for req in batch if req.finish is None]
    return [req.customized_info for req in reqs]

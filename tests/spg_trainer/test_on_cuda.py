"""Everything that runs on a GPU runs on a pretended one: nothing is on the wrong device, and the host seldom waits."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from spg_trainer.algorithms import ALGORITHMS, get
from spg_trainer.evaluation.command import run_eval
from spg_trainer.export import merge
from spg_trainer.models import Policy, load_model
from spg_trainer.models.cuda_graphs import Replays
from spg_trainer.rollout.sampler import Sampler, sample_completions
from spg_trainer.settings.configs import Config, EvalCommand, MergeCommand
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.tensors import Rows
from spg_trainer.training.loop import train, train_step
from spg_trainer.training.run import Run
from spg_trainer.training.supervised import train_on_given
from tests.common import pretend_cuda as pretended
from tests.common.exact_likelihood import completion_law, predictor
from tests.common.marks import slow_if
from tests.common.pair_cases import pair_config, pairs_file
from tests.common.pretend_cuda import CPU, GPU, Wait, pretend_cuda
from tests.common.process_cases import algorithm_config
from tests.common.rollout_cases import make_policy, make_prompts, pad, streams
from tests.common.sft_cases import SIZES, SMALL, sft
from tests.common.trainer_cases import (
    LORA,
    REFERENCE_PROBE,
    SELF_NORMALISED,
    change,
    rows,
    save_adapter,
    small_config,
    start,
    steps_of,
    tiny_folder,
)
from tests.common.two_processes import left_by, two_processes

FEW = {
    "prompts_per_step": 2,
    "num_generations": 2,
    "max_completion_length": 6,
    "block_length": 3,
    "diffusion_steps": 6,
}
"""Rows and tokens of a step that only has to run."""


@pytest.fixture
def gpu():
    """The waits on a pretended GPU."""
    tiny_folder()  # what others share is made without one
    with pretend_cuda() as waits:
        yield waits


def kinds(waits: list[Wait]) -> list[str]:
    return [wait.kind for wait in waits]


# The pretended GPU itself.


def there(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype, device="cuda")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: there(3).numpy(), "can't convert cuda:0"),
        (lambda: np.isin(there(3), [1]), "can't convert cuda:0"),
        (lambda: there(3) + torch.ones(3), "same device"),
        (lambda: torch.ones(3) * there(), "same device"),
        (lambda: torch.cat([there(3), torch.ones(3)]), "same device"),
        (lambda: torch.stack([there(), torch.ones(())]), "same device"),
        (lambda: torch.nn.Linear(3, 2).cuda()(torch.ones(3)), "same device"),
        (lambda: torch.ones(3)[there(2, dtype=torch.long)], "same device"),
        (lambda: there(3).index_put_((torch.tensor([0, 1]),), torch.ones(2)), "same device"),
        (lambda: there(3).uniform_(generator=torch.Generator()), "generator"),
        (lambda: torch.rand(3, device="cuda", generator=torch.Generator()), "generator"),
        (lambda: torch.rand(3, generator=torch.Generator("cuda")), "generator"),
    ],
)
def test_what_a_gpu_refuses_is_refused(gpu, call: Callable[[], object], message: str) -> None:
    with pytest.raises((RuntimeError, TypeError), match=message):
        call()


@pytest.mark.parametrize(
    ("call", "waits"),
    [
        (lambda: there(3) * 2 + torch.tensor(1.0), []),
        (lambda: torch.zeros_like(there(3)).new_full((2,), 1).sum(), []),
        (lambda: there(4).masked_fill(there(4) > 0, 0.0)[1:], []),
        (lambda: torch.rand(3, device="cuda", generator=torch.Generator("cuda")), []),
        (lambda: there(3)[there(2, dtype=torch.long)], []),
        (lambda: there(3)[there(3) > 0], ["read"]),
        (lambda: there(3).sum().item(), ["read"]),
        (lambda: bool(there(3).any()), ["read"]),
        (lambda: there(3).tolist(), ["read"]),
        (lambda: there(3).cpu() + torch.ones(3), ["read"]),
        (lambda: there(3).to("cpu").numpy(), ["read"]),
        (lambda: there(3).numpy(force=True), ["read"]),
        (lambda: there(3).nonzero(), ["read"]),
        (lambda: there(3, 2).unique(dim=0), ["read"]),
        (lambda: torch.ones(3).copy_(there(3)), ["read"]),
        (lambda: there(3)[[0, 1]], ["upload"]),
        (lambda: there(3).copy_(torch.ones(3)), ["upload"]),
        (lambda: torch.tensor([1.0], device="cuda"), ["upload"]),
        (lambda: there(3).new_tensor([1.0]), ["upload"]),
        (lambda: torch.ones(3).to(there(3)), ["upload"]),
        (lambda: torch.ones(3).to("cuda", non_blocking=True), []),
        (lambda: there(3).copy_(torch.ones(3), non_blocking=True), []),
        (lambda: torch.cuda.synchronize(), ["synchronize"]),
    ],
)
def test_what_makes_the_host_wait_is_noted(gpu, call: Callable[[], object], waits: list[str]) -> None:
    call()
    assert kinds(gpu) == waits


@pytest.mark.parametrize(
    ("work", "message"),
    [
        (lambda x: x * int(x.sum()), "capturing: read"),
        (lambda x: x[x > 0], "capturing: read"),
        (lambda x: x + torch.ones(3).to("cuda", non_blocking=True), "capturing: upload"),
        (lambda x: x.copy_(torch.ones(3)), "capturing: copy"),
    ],
)
def test_what_cannot_be_recorded_is_refused(gpu, work: Callable, message: str) -> None:
    x = there(3)
    with pytest.raises(RuntimeError, match=message):
        pretended._Recording(lambda: (work(x),), GPU, None)


def test_a_replay_may_only_use_the_memory_that_was_recorded(gpu) -> None:
    kept = [there(3)]
    recording = pretended._Recording(lambda: (kept[0] * 2,), GPU, None)
    kept[0].fill_(4)
    recording.replay()
    assert recording.result[0].cpu().tolist() == [8, 8, 8]
    kept[0] = there(3)  # allocated since
    with pytest.raises(AssertionError, match="memory that was not recorded"):
        recording.replay()


def test_results_are_where_their_tensors_are(gpu) -> None:
    x = there(3)
    for result in (
        x + 1,
        x[1:],
        x.exp(),
        x.sum(),
        torch.zeros_like(x),
        x.new_zeros(2),
        x.sort().indices,
        x.data,
    ):
        assert result.device == GPU and result.is_cuda and result.get_device() == 0
    for result in (
        x.cpu(),
        x.to("cpu"),
        torch.zeros(3),
        torch.from_numpy(np.ones(3)),
        torch.ones(3).copy_(x),
    ):
        assert result.device == CPU and result.is_cpu
    assert torch.equal(x.cpu(), torch.ones(3))


def test_gradients_are_where_their_weights_are(gpu) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)).to("cuda")
    gpu.clear()

    def body(x: torch.Tensor) -> torch.Tensor:
        return model(x) * torch.ones(1, device=x.device)

    checkpoint(body, there(2, 3), use_reentrant=False).sum().backward()
    assert {p.grad.device for p in model.parameters()} == {GPU} and gpu == []
    wrong = model(there(2, 3)).sum()
    wrong.register_hook(lambda gradient: gradient + torch.ones(1))
    with pytest.raises(RuntimeError, match="same device"):
        wrong.backward()


# Training.


def small(folder: Path, **changes) -> Config:
    """Few rows and tokens on the GPU."""
    return small_config(folder, **{"device": "cuda", **FEW, **changes})


def one_step(config: Config) -> Run:
    """A run after its first step, whose weights are on the GPU and have moved."""
    run = start(config, quiet=True)
    train_step(run) if config.samples else train_on_given(run)
    run.folder.release()
    assert run.policy.device == GPU and run.state.history[-1]["grad_norm"] > 0
    moments = [value for entry in run.optimizer.state.values() for value in entry.values() if value.ndim]
    assert moments and {value.device for value in moments} == {GPU}
    return run


@pytest.mark.parametrize(
    "algorithm", slow_if(sorted(ALGORITHMS), lambda name: name not in ("spg", "vrpo", "rspo", "mapg"))
)
def test_an_algorithm_trains(gpu, algorithm: str, tmp_path: Path) -> None:
    """Two updates, with old and reference logps where it asks for them, on adapters of a bfloat16 model."""
    block = 1 if get(algorithm).left_to_right else 3
    changes = {**FEW, "device": "cuda", "dtype": "auto", "block_length": block, "per_device_batch_size": 64}
    run = one_step(algorithm_config(tmp_path / "run", algorithm, **changes))
    assert run.policy.model.dtype == torch.bfloat16 and run.state.updates == (1 if block == 1 else 2)


TRAINED = {
    "all weights, a copy as reference": {"ref_copy": True, "algorithm": REFERENCE_PROBE},
    "adapters with dropout, one mask at a time": {**LORA, "lora_dropout": 0.3, "per_device_batch_size": 1},
    "activations computed again": {"gradient_checkpointing": True},
    "adapters, activations computed again": {**LORA, "gradient_checkpointing": True, "lora_dropout": 0.3},
    "a loss that couples completions": {"algorithm": SELF_NORMALISED},
    "two minibatches, twice": {
        "num_minibatches": 2,
        "num_iterations": 2,
        "algorithm": REFERENCE_PROBE,
        **LORA,
    },
}


@pytest.mark.parametrize(
    "changes",
    slow_if(TRAINED.values(), lambda changes: changes is TRAINED["adapters, activations computed again"]),
    ids=TRAINED.keys(),
)
def test_it_trains(gpu, changes: dict, tmp_path: Path) -> None:
    arguments = {} if "algorithm" in changes else {"algorithm_args": {"masking": "random"}}
    one_step(small(tmp_path / "run", **{"algorithm_args": {}, **arguments, **changes}))


def test_an_update_waits_no_more_for_more_rows(gpu, tmp_path: Path) -> None:
    """As long as they go through the model together."""
    counts = []
    for prompts in (2, 4):
        gpu.clear()
        changes = {"prompts_per_step": prompts, "num_generations": 4, "per_device_batch_size": 64, **LORA}
        one_step(small(tmp_path / str(prompts), sample_steps=0, **changes))
        counts.append(sum(wait.where.startswith(("training/update", "likelihood/")) for wait in gpu))
    assert 0 < counts[1] <= counts[0] <= 30


def test_pairs_train(gpu, tmp_path: Path) -> None:
    changes = {**FEW, "device": "cuda", "max_completion_length": 10, "block_length": 5}
    one_step(pair_config(tmp_path / "run", pairs_file(), **changes))


def test_a_run_from_an_adapter_goes_on_and_is_merged(gpu, tmp_path: Path) -> None:
    """Evaluation, validation, checkpoints and the kept reference; then the whole model on the GPU."""
    changes = {"algorithm": REFERENCE_PROBE, "algorithm_args": {}, "eval_steps": 1, "save_steps": 1}
    changes |= {"model": save_adapter(tmp_path / "adapter"), "eval_problems": 2, "validation_problems": 2}
    train(small(tmp_path / "run", max_steps=1, **changes), quiet=True)
    train(small(tmp_path / "run", max_steps=2, resume="auto", **changes), quiet=True)
    assert steps_of(tmp_path / "run") == [1, 2]
    merge(MergeCommand(str(tmp_path / "run")))
    assert load_model(str(tmp_path / "run" / "merged"), device="cuda").device == GPU


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("muon", marks=pytest.mark.slow)])
def test_sft_trains_and_goes_on(gpu, optimizer: str, tmp_path: Path) -> None:
    model = ModelConfig(model="new", device="cuda", gradient_checkpointing=optimizer == "adamw", **SIZES)
    config = change(SMALL, env="arithmetic", optimizer=optimizer, model=model, eval_steps=2, eval_problems=2)
    config = change(config, max_completion_length=0, diffusion_steps=2, output_dir=str(tmp_path / "run"))
    sft(change(config, max_steps=1))
    sft(change(config, max_steps=2, resume="auto"))


def test_eval_runs(gpu) -> None:
    model = ModelConfig(model=str(tiny_folder()), device="cuda")
    sizes = {
        "max_completion_length": (8,),
        "diffusion_steps": ("length/4",),
        "num_generations": 2,
        "temperature": 1.0,
    }
    for decoding in ({}, {"cache": "prefix", "unmasking": "threshold"}):
        (result,) = run_eval(
            change(EvalCommand(num_problems=2), model=model, **sizes, **decoding), quiet=True
        )
        assert result.n == 4


def test_exact_laws_of_a_model_are_computed(gpu) -> None:
    policy = load_model(str(tiny_folder()), device="cuda")
    law = completion_law(
        predictor(policy.model, torch.tensor([1, 2])), Sampling(2, 2, 2, 1.0), mask_id=policy.mask_id
    )
    assert float(law.probabilities.sum()) == pytest.approx(1)


@pytest.mark.slow
def test_a_divided_model_trains_and_goes_on() -> None:
    """In two processes, decoding with a cache; an update waits for the norm alone, summed and read, a rollout never."""
    folder, alone = two_processes() / "pretended", two_processes() / "cached"
    steps = rows(alone / "metrics.jsonl")
    for place, expected in ((folder, steps), (two_processes() / "pretended layers", steps[:1])):
        for row, of_one in zip(rows(place / "metrics.jsonl"), expected, strict=True):
            assert row == pytest.approx(of_one, rel=1e-8, abs=1e-10)
    updates = len(steps) * 2
    for rank in (0, 1):
        waits = [Wait(*wait) for wait in left_by(rank)["waits"]]
        reads = [
            w.call
            for w in waits
            if w.kind == "read" and w.where.startswith(("models/shard.py", "training/optimize.py"))
        ]
        assert (
            0 < len([call for call in reads if call != "cpu"]) <= 2 * updates
        )  # with which weights are written


# Decoding: how often the host waits.

SAMPLING = Sampling(max_completion_length=24, block_length=8, diffusion_steps=15)
LENGTHS = (9, 3, 14, 1, 9, 6)
CACHES = [
    {"cache": "prefix"},
    {"cache": "dual"},
    {"cache": "window", "window_tokens": 4},
    {"cache": "window", "window_tokens": 2},
]
SURE = [{"unmasking": "threshold", "threshold": 0.1, "max_tokens_per_step": 4}, {"unmasking": "factor"}]
"""So that the random model of these tests is sure of several tokens at times."""


class Waits(NamedTuple):
    """What the host waits for from one pass of the model to the next."""

    reads: int
    others: int
    before_refresh: bool


def decode(
    waits: list[Wait], sampling: Sampling, lengths: Sequence[int], ends: int, rows: int | None = None
) -> list[Waits]:
    """Decodes prompts of these lengths with a random model in which `ends` token ids end a text."""
    policy = make_policy(torch.float32, ends=ends, device="cuda")
    passes: list[tuple[int, bool]] = []

    def note(model: torch.nn.Module, args: tuple, kwargs: dict) -> None:
        kept = kwargs["past_key_values"]
        passes.append((len(waits), kept is None or not kept.end))

    policy.model.base_model.register_forward_pre_hook(note, with_kwargs=True)
    prompts, noise = make_prompts(policy, tuple(lengths)), None
    if sampling.draws_noise:
        noise = streams(len(lengths), device="cuda")
    rollouts = sample_completions(policy, *pad(policy, prompts), sampling, noise, rows_per_forward=rows)
    assert {column.device for column in vars(rollouts).values() if column is not None} == {GPU}
    found = []
    for (before, _), (after, refresh) in pairwise(passes):
        reads = kinds(waits[before:after]).count("read")
        found.append(Waits(reads, after - before - reads, refresh))
    return found


@pytest.mark.parametrize("unmasking", [{"temperature": 1.0, "remasking": "random"}, SURE[0]], ids=str)
@pytest.mark.parametrize(("lengths", "reads"), [((6,), 2), ((9, 3, 6), 3)], ids=["equal", "padded"])
def test_exact_decoding_waits_no_more_for_more_rows(gpu, unmasking, lengths, reads) -> None:
    for times in (1, 4):
        passes = decode(gpu, replace(SAMPLING, **unmasking), lengths * times, ends=12)
        assert len(passes) > 5 and all(found.before_refresh for found in passes)
        assert max(found.reads for found in passes) <= reads and not any(found.others for found in passes)


@pytest.mark.parametrize(
    ("cache", "ends"),
    slow_if(product(CACHES, (0, 12)), lambda cache, ends: ends == 0 and cache is not CACHES[1]),
    ids=str,
)
def test_inside_a_block_decoding_with_a_cache_never_waits(gpu, cache: dict, ends: int) -> None:
    """Rows leave before a refresh; which rows are equal is asked in it."""
    passes = decode(gpu, replace(SAMPLING, temperature=1.0, **cache), LENGTHS, ends)
    assert len(passes) >= 4 and not any(found.others for found in passes)
    assert all(found.reads <= (2 if found.before_refresh else 0) for found in passes)
    assert sum(found.reads for found in passes) <= len(passes)


def test_a_prompt_that_is_kept_longer_costs_no_wait(gpu) -> None:
    decoding = {"cache": "dual", "prompt_refresh_steps": 3}
    passes = decode(gpu, replace(SAMPLING, temperature=1.0, **decoding), LENGTHS, ends=0)
    assert len(passes) == 14 and sum(found.reads for found in passes) <= 8
    assert not any(found.others for found in passes)


@pytest.mark.parametrize(
    ("cache", "unmasking"),
    slow_if(product(CACHES[1:4], SURE), lambda cache, sure: (sure is SURE[0]) is (cache is CACHES[2])),
    ids=str,
)
def test_how_many_tokens_were_sure_is_read_once_a_pass(gpu, cache: dict, unmasking: dict) -> None:
    passes = decode(gpu, replace(SAMPLING, **cache, **unmasking), LENGTHS, ends=12)
    assert len(passes) >= 5 and not any(found.others for found in passes)
    assert all(found.reads <= (2 if found.before_refresh else 1) for found in passes)


def test_rows_that_take_the_place_of_others_cost_no_wait(gpu) -> None:
    """Three prompts in flight, of eighteen."""
    passes = decode(gpu, replace(SAMPLING, temperature=1.0, cache="dual"), LENGTHS * 3, ends=12, rows=3)
    assert len(passes) > 25 and not any(found.others for found in passes)
    assert all(found.reads <= (2 if found.before_refresh else 0) for found in passes)


REPLAYED = [
    {"cache": "none"},
    {"cache": "prefix"},
    {"cache": "window", "window_tokens": 4, "remasking": "entropy"},
    {"cache": "dual", "temperature": 0.9, "prompt_refresh_steps": 3},
    {"cache": "dual", **SURE[0]},
]


@pytest.mark.parametrize(
    ("decoding", "lengths"),
    slow_if(
        product(REPLAYED, ((6,) * 6, LENGTHS)), lambda how, lengths: how != REPLAYED[3] or lengths[0] == 6
    ),
    ids=str,
)
def test_replayed_passes_write_the_same_tokens(gpu, decoding: dict, lengths: tuple, caplog) -> None:
    """Of two rollouts in turn, whose rows leave at different times; four rows in flight."""
    policy = make_policy(torch.float32, ends=3, device="cuda")
    started = 0

    def count(*_: object) -> None:
        nonlocal started
        started += pretended.recording is None

    policy.model.base_model.register_forward_pre_hook(count)
    sampling = replace(SAMPLING, **{"temperature": 0.0, **decoding})

    def decode_twice(policy: Policy) -> list[Rows]:
        return [
            sample_completions(
                policy,
                *pad(policy, make_prompts(policy, lengths)),
                sampling,
                streams(len(lengths), seed, device="cuda"),
                rows_per_forward=4,
            )
            for seed in range(2)
        ]

    plain, started_plainly = decode_twice(policy), started
    started = 0
    replays = Replays()
    replayed = decode_twice(replace(policy, replays=replays))
    for one, other in zip(plain, replayed, strict=True):
        assert torch.equal(one.completion_ids.cpu(), other.completion_ids.cpu())
        assert torch.equal(one.unmask_logps.cpu(), other.unmask_logps.cpu())
        assert torch.equal(one.unmask_step.cpu(), other.unmask_step.cpu())
    assert not replays.failed and not caplog.records and not replays.graphs
    assert started < started_plainly * (0.9 if decoding.get("cache") == "none" else 0.75)


class Started(TorchDispatchMode):
    """Counts what Python calls outside of recorded work."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += pretended.recording is None
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    "decoding", [pytest.param({}, marks=pytest.mark.slow), {"remasking": "entropy", "top_p": 0.9}]
)
def test_outside_of_what_is_replayed_python_calls_little(gpu, decoding: dict, monkeypatch) -> None:
    """Of eight rows with a cache: one transfer and a draw of noise for each row; more than a hundred calls before."""
    policy = replace(make_policy(torch.float32, ends=0, device="cuda"), replays=Replays())
    sampling = Sampling(32, 8, 32, 0.9, cache="dual", **decoding)
    step, counts, started = Sampler._step, [], Started()

    def replayed() -> int:
        return sum(recording.replayed for recording, _ in policy.replays.graphs.values())

    def counted(self: Sampler, rows: list, refresh: bool) -> None:
        calls, before, known = started.calls, replayed(), len(policy.replays.graphs)
        step(self, rows, refresh)
        if replayed() == before + 2 and len(policy.replays.graphs) == known:
            counts.append(started.calls - calls)

    monkeypatch.setattr(Sampler, "_step", counted)
    prompts = pad(policy, make_prompts(policy, (6,) * 8))
    with started:
        sample_completions(policy, *prompts, sampling, streams(8, device="cuda"))
    assert len(counts) >= 4 and max(counts) <= 30


def test_a_pass_that_cannot_be_recorded_is_made_as_ever(gpu, caplog) -> None:
    policy = make_policy(torch.float32, ends=3, device="cuda")
    prompts = pad(policy, make_prompts(policy, (6, 6)))
    sampling = replace(SAMPLING, cache="dual")
    plain = sample_completions(policy, *prompts, sampling, None)

    def read(model: torch.nn.Module, args: tuple, keywords: dict) -> None:
        bool(keywords["input_ids"].sum() < 0)

    policy.model.base_model.register_forward_pre_hook(read, with_kwargs=True)
    replays = Replays()
    found = [sample_completions(replace(policy, replays=replays), *prompts, sampling, None) for _ in range(2)]
    assert all(torch.equal(each.completion_ids.cpu(), plain.completion_ids.cpu()) for each in found)
    assert "pass" in replays.failed and not replays.graphs
    (line,) = caplog.messages  # said once
    assert line.startswith(
        "Passes are not replayed as CUDA graphs, which changes no token: operation not per"
    )


@pytest.mark.parametrize("decoding", [{"cache": "window"}, {"cache": "dual", **SURE[0]}], ids=str)
def test_a_run_decodes_with_a_cache(gpu, decoding: dict, tmp_path: Path) -> None:
    """And measures how far that is from exact."""
    config = small(tmp_path / "run", sample_steps=1, force=True, **decoding)
    assert "decoding/logp_exact" in one_step(config).state.history[-1]

"""The gradient depends on neither micro-batch, passes nor processes; masks and logps are those of their update."""

import itertools
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from spg_trainer import distributed
from spg_trainer.algorithms import Loss, Metric
from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood import Masks, elbo, token_logps
from spg_trainer.likelihood.random_masks import RandomMasking
from spg_trainer.rollout.problems import choose_problems
from spg_trainer.seeding import numpy_generator
from spg_trainer.tensors import Rows
from spg_trainer.training import update as updating
from spg_trainer.training.loop import train, train_step
from spg_trainer.training.prepare import kinds_of_completions, prepare
from spg_trainer.training.update import gradient, means, plan_updates, split_micro_batches, split_rows
from tests.common.likelihood_cases import count_sequences, naive_logps, relative, streams_from
from tests.common.process_cases import (
    KINDS,
    PROBE_CONFIG,
    algorithm_config,
    gradient_config,
    half_dull,
    loop_config,
    one_step,
)
from tests.common.trainer_cases import (
    LORA,
    PROBE,
    PROBLEMS,
    SELF_NORMALISED,
    Probe,
    change,
    rows,
    save_tiny,
    small_config,
    start,
    weights,
)
from tests.common.two_processes import left_by, two_processes

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """New run folders."""
    return lambda: tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture(scope="module")
def whole(place):
    """(dtype, normalizer) -> gradient and metrics of one process in one pass over everything, half of it dull."""
    return {kind: one_step(gradient_config(place(), *kind, per_device_batch_size=16)) for kind in KINDS}


def assert_equal_metrics(found, expected, dtype):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=10 * TOLERANCE[dtype], abs=TOLERANCE[dtype]), name


@pytest.mark.parametrize(
    "size, dtype, normalizer",
    [(1, *KINDS[0]), (2, *KINDS[1]), (4, *KINDS[2]), (6, *KINDS[3])],
)
def test_micro_batches_and_passes_give_the_gradient_of_the_whole(place, whole, size, dtype, normalizer):
    """8 completions of 2 masks: one at a time in two passes and in one, two at a time, three and the rest."""
    found, metrics = one_step(gradient_config(place(), dtype, normalizer, per_device_batch_size=size))
    expected, metrics_of_whole = whole[dtype, normalizer]
    assert found.dtype == getattr(torch, dtype) and float(found.norm()) > 1e-3
    assert relative(found, expected) < TOLERANCE[dtype]
    assert_equal_metrics(metrics, metrics_of_whole, dtype)


@pytest.mark.parametrize("size", [1, 3])
def test_two_passes_take_several_completions_at_once(place, size):
    """Four masks do not fit below 4, so the limit counts completions, each with one live mask."""
    settings = {"num_masks": 4, "masking": "block_active", "block_length": 4}
    config = gradient_config(place(), "float64", "length", algorithm_args=settings, per_device_batch_size=64)
    expected, metrics_of_whole = one_step(config)
    found, metrics = one_step(change(config, per_device_batch_size=size, output_dir=str(place())))
    assert relative(found, expected) < 1e-10
    assert_equal_metrics(metrics, metrics_of_whole, "float64")


@pytest.mark.parametrize("dtype, normalizer", KINDS)
def test_two_processes_give_the_gradient_of_one(whole, dtype, normalizer):
    """The second has nothing that changes the loss, and its completions and prompts have other lengths."""
    expected, metrics_of_one = whole[dtype, normalizer]
    for rank in (0, 1):
        found, metrics = left_by(rank)[f"{dtype}-{normalizer}"]
        assert relative(found, expected) < TOLERANCE[dtype], rank
        assert_equal_metrics(metrics, metrics_of_one, dtype)


def first_step(config):
    """A run before its first step, and that step's scored completions."""
    run = start(config, quiet=True)
    scored = run.source.collect(0)
    run.folder.release()
    return run, scored, run.algorithm.compute_advantages(torch.from_numpy(scored.rewards).view(4, 4))


@pytest.mark.parametrize("normalizer", ["tokens", "completions", "length"])
def test_the_gradient_is_that_of_plain_autograd_over_every_completion(place, whole, normalizer):
    """Nothing skipped, nothing cut: whole softmax, all rows at once, masks keyed by problem and generation."""
    run, scored, advantages = first_step(gradient_config(place(), "float64", normalizer))
    rollouts = scored
    lengths = rollouts.completion_mask.sum(-1)
    assert len(set(lengths[8:].tolist())) > 2 and len(set(lengths[:8].tolist())) > 2
    assert len(set(rollouts.prompt_mask.sum(-1).tolist())) > 1
    assert (scored.rewards[8:] == 0).all() and (scored.rewards[:8].reshape(2, 4).std(1) > 0).all()
    assert set(scored.problem[8:].tolist()) == {int(i) for i in half_dull().split(",")}

    def stream(row, mask):
        key = (0, int(scored.problem[row]), int(scored.generation[row]), 0, mask)
        return numpy_generator(0, "masks", *key)

    masks = run.algorithm.make_masking().draw(rollouts, streams_from(stream))
    totals = {"completions": 16.0, "tokens": float(lengths.sum())}
    batch = scored.with_columns(advantages=advantages, totals=totals)
    logps = naive_logps(run.policy.model, rollouts, masks, run.policy.mask_id)
    loss = run.algorithm.loss(logps, masks, batch)
    loss.loss.backward()
    expected = torch.cat([p.grad.flatten() for p in run.parameters])
    found, metrics = whole["float64", normalizer]
    assert relative(found, expected) < 1e-10
    assert metrics["loss"] == pytest.approx(loss.loss.item(), rel=1e-10)
    assert metrics["grad_norm"] == pytest.approx(float(expected.norm()), rel=1e-10)


def test_skipped_groups_count_in_the_totals(place):
    """Making half of the groups dull takes their share of the gradient away and rescales nothing."""
    config = gradient_config(place(), "float64", "tokens")
    dull, _ = one_step(config)
    first = half_dull()
    second = ",".join(str(i) for i in range(8) if str(i) not in first.split(","))
    rest, _ = one_step(change(config, env_args={"dull": second}, output_dir=str(place())))
    both, _ = one_step(change(config, env_args={}, output_dir=str(place())))
    assert relative(dull + rest, both) < 1e-10


@dataclass(frozen=True)
class Extremes(SPG):
    """SPG that reports the largest and the smallest advantage of an update."""

    def loss(self, logps, masks, batch):
        result = super().loss(logps, masks, batch)
        found = {
            "highest": Metric(batch.advantages.max(), "max"),
            "lowest": Metric(batch.advantages.min(), "min"),
        }
        return replace(result, metrics=result.metrics | found)


def test_a_metric_may_be_the_largest_or_the_smallest_value(place, monkeypatch):
    """That of the whole step, whatever the micro-batches, the minibatches and the processes."""
    name = "tests.spg_trainer.training.test_update:Extremes"
    found = []
    for changes in ({"per_device_batch_size": 8}, {"per_device_batch_size": 1}, {"num_minibatches": 2}):
        folder = place()
        train(small_config(folder, algorithm=name, max_steps=1, eval_problems=0, **changes), quiet=True)
        (row,) = rows(folder / "metrics.jsonl")
        found.append((row["highest"], row["lowest"]))
    advantages = [sample["advantage"] for sample in rows(folder / "samples" / "step-000001.jsonl")]
    assert found == [pytest.approx((max(advantages), min(advantages)))] * 3
    one, other = (
        {("a", "max"): 1.0, ("a", "min"): 1.0, ("a", "update"): 1.0},
        {("a", "max"): -2.0, ("a", "min"): -2.0},
    )
    monkeypatch.setattr(distributed, "gather", lambda parts: [*parts, other, {}])
    assert updating.of_all_processes(one) == {("a", "max"): 1.0, ("a", "min"): -2.0, ("a", "update"): 1.0}


def test_a_metric_whose_name_is_no_text_is_added_as_others_are() -> None:
    sums = {}
    updating.add_loss(sums, Loss(torch.zeros(()), {3: Metric(torch.ones(()), "update")}))
    assert sums == {("loss", "update"): 0.0, (3, "update"): 1.0}


def test_a_process_without_active_completions_takes_part_with_old_logps(place):
    Probe.seen.clear()
    expected, _ = one_step(gradient_config(place(), "float64", "tokens", **PROBE_CONFIG))
    logps, old_logps = Probe.seen[-1]["logps"], Probe.seen[-1]["batch"].old_logps
    assert not torch.allclose(logps, old_logps)
    found = left_by(1)
    assert found["active"] == []
    assert relative(found["probe"][0], expected) < 1e-10


def test_a_whole_run_of_two_processes_is_that_of_one(place):
    """Float64, four updates a step, of half the groups each; the folder is written once, by the first process."""
    folder, alone = two_processes() / "loop", place()
    assert train(loop_config(alone), quiet=True)["updates"] == 8
    for found, expected in zip(rows(folder / "metrics.jsonl"), rows(alone / "metrics.jsonl"), strict=True):
        assert_equal_metrics(found, expected, "float64")
    torch.testing.assert_close(weights(folder / "model"), weights(alone / "model"), rtol=1e-8, atol=1e-10)
    samples = [rows(place / "samples" / "step-000002.jsonl") for place in (folder, alone)]
    assert [row["completion"] for row in samples[0]] == [row["completion"] for row in samples[1]]
    names = [{path.relative_to(place) for path in place.rglob("*")} for place in (folder, alone)]
    assert names[0] == names[1]


def test_a_coupled_loss_of_two_processes_is_that_of_one(place):
    """The ratios of all completions are added up, and each metric counts once."""
    settings = {"algorithm": SELF_NORMALISED, "algorithm_args": {}, "env_args": {}, "num_iterations": 2}
    expected, metrics_of_one = one_step(gradient_config(place(), "float64", "tokens", **settings))
    assert abs(metrics_of_one["ratio/mean"] - 1) > 1e-3
    for rank in (0, 1):
        found, metrics = left_by(rank)["coupled"]
        assert relative(found, expected) < 1e-10
        assert_equal_metrics(metrics, metrics_of_one, "float64")


# How an update is put together.


def planned(config):
    """A run, and the updates of its first step before any of them."""
    run, scored, _ = first_step(config)
    _, step = prepare(run, scored)
    plan = plan_updates(run.policy, run.algorithm, step, config.batch, seed=config.seed, purpose=("masks", 0))
    return run, plan


def test_masks_are_drawn_by_the_place_of_an_episode_in_the_whole_step(place, monkeypatch):
    """Also of those that change nothing: by it, coupled masks spread their sizes evenly, whoever has the others."""
    seen, drawn = [], RandomMasking.draw

    def noted(masking, rows, streams, *iteration):
        seen.append((iteration, rows.quantile.tolist()))
        return drawn(masking, rows, streams, *iteration)

    monkeypatch.setattr(RandomMasking, "draw", noted)
    dull = ",".join(map(str, choose_problems(0, 0, 4, PROBLEMS)[:2]))
    planned(gradient_config(place(), "float64", "tokens", env_args={"dull": dull}, num_iterations=2))
    assert [iteration for iteration, _ in seen] == [(0, 2), (1, 2)]
    assert all(quantile == [episode / 16 for episode in range(8, 16)] for _, quantile in seen)


def move(run, scale=0.05):
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in run.parameters:
            weight.add_(scale * torch.randn(weight.shape, generator=stream, dtype=weight.dtype))


@pytest.mark.parametrize("num_masks, size", [pytest.param(2, 8, marks=pytest.mark.slow), (3, 2)])
def test_old_logps_are_bit_equal_to_the_update_s_own_in_bfloat16(place, seen, num_masks, size):
    """Of the same weights: on other rows, padding or groups of masks they would differ by tenths of a nat."""
    settings = {"dtype": "bfloat16", "num_iterations": 2, "per_device_batch_size": size}
    settings |= {"algorithm": PROBE, "algorithm_args": {"masking": "random", "num_masks": num_masks}}
    model = save_tiny(place(), hidden_size=64, layers=2, heads=4, ffn=128)
    run, plan = planned(small_config(place(), model=model, **LORA, **settings))
    for update in plan:
        gradient(run.policy, run.algorithm, update)
    assert len(plan) == 2 and not any("old_logps" in micro for micro in plan[0].micro_batches)
    assert all("old_logps" in micro for micro in plan[1].micro_batches)
    for shown in seen:
        assert torch.equal(shown["batch"].old_logps, shown["logps"])
    differ = []
    for micro in plan[1].micro_batches:
        prompt = {name: pad(micro.get(name), (9, 0)) for name in ("prompt_ids", "prompt_mask")}
        wide = micro.with_columns(**prompt), replace(micro.masks, masked=pad(micro.masks.masked, (9, 0)))
        elsewhere = token_logps(run.policy, *wide, micro.masks_at_once)
        differ.append(float((elsewhere - micro.old_logps).abs().max()))
    assert max(differ) > 0, "with more padding they are others"


def test_minibatches_divide_the_groups_and_have_totals_of_their_own(place):
    whole_run, (whole,) = planned(small_config(place(), dtype="float64"))
    run, plan = planned(small_config(place(), dtype="float64", num_minibatches=4, num_iterations=2))
    assert len(plan) == 8 and sum(update.totals["tokens"] for update in plan[:4]) == whole.totals["tokens"]
    for number, update in enumerate(plan):
        assert update.totals["completions"] == 4
        assert {int(g) for micro in update.micro_batches for g in micro.group} == {number % 4}
    gradients = []
    for each, updates in ((whole_run, [whole]), (run, plan[:4])):
        for update in updates:
            gradient(each.policy, each.algorithm, update)
        gradients.append(torch.cat([p.grad.flatten() for p in each.parameters]))
    assert relative(gradients[1] / 4, gradients[0]) < 1e-10, (
        "a quarter of the completions, four times the weight"
    )


@pytest.mark.parametrize("size, expected", [(1, [3, 2, 1, 2]), (4, [3, 3, 2]), (5, [5, 3]), (9, [8])])
def test_whole_groups_are_never_divided(size, expected):
    rows, group = np.arange(8), np.array([0, 0, 0, 1, 1, 2, 5, 5])
    parts = split_rows(rows, group, size)
    assert [len(part) for part in parts] == expected and [*itertools.chain(*parts)] == rows.tolist()
    assert all(len(part) <= size for part in split_rows(rows, rows, size))


@pytest.mark.parametrize("size", [1, 16])
def test_current_old_and_reference_logps_are_those_of_plain_autograd(place, size):
    """Three masks: with a size of 1 two of them go through the model twice."""
    arguments = {"num_masks": 3, "masking": "random"}
    run, plan = planned(
        algorithm_config(place(), "diffu_grpo", algorithm_args=arguments, per_device_batch_size=size)
    )

    def naive(micro):
        return naive_logps(run.policy.model, micro, micro.masks, run.policy.mask_id)

    before = [naive(micro).detach() for micro in plan[1].micro_batches]
    for micro, expected in zip(plan[1].micro_batches, before, strict=True):
        assert torch.allclose(micro.old_logps, expected, atol=1e-10)
        assert torch.allclose(micro.ref_logps, expected, atol=1e-10)  # fresh adapters change nothing
    move(run)
    gradient(run.policy, run.algorithm, plan[1])
    found = torch.cat([p.grad.flatten() for p in run.parameters])
    run.optimizer.zero_grad()
    losses = [run.algorithm.loss(naive(m), m.masks, m).loss for m in plan[1].micro_batches]
    torch.stack(losses).sum().backward()
    assert relative(found, torch.cat([p.grad.flatten() for p in run.parameters])) < 1e-10


def test_a_coupled_loss_has_the_gradient_of_plain_autograd(place):
    """After the weights have moved, so that the ratios differ; masks two at a time and all at once."""
    settings = {"algorithm": SELF_NORMALISED, "dtype": "float64", "num_iterations": 2}
    for size in (1, 16):
        arguments = {"num_masks": 3, "p_mask_prompt": 0.1}
        config = small_config(place(), algorithm_args=arguments, per_device_batch_size=size, **settings)
        run, plan = planned(config)

        def bounds(run=run, plan=plan):
            mask_id = run.policy.mask_id
            logps = [naive_logps(run.policy.model, m, m.masks, mask_id) for m in plan[1].micro_batches]
            return torch.cat(
                [elbo(values, m.masks) for values, m in zip(logps, plan[1].micro_batches, strict=True)]
            )

        old = bounds().detach()
        move(run)
        sums = gradient(run.policy, run.algorithm, plan[1])
        found = torch.cat([p.grad.flatten() for p in run.parameters])
        run.optimizer.zero_grad()
        current = bounds()
        batches = plan[1].micro_batches
        length, advantages = (
            torch.cat(x) for x in zip(*((b.length, b.advantages) for b in batches), strict=True)
        )
        ratio = ((current.detach() - old) / length).exp().clamp(0.8, 1.2)
        assert 0 < (ratio == 0.8).sum() + (ratio == 1.2).sum() < len(ratio), "some are clipped"
        loss = -(ratio * advantages * current).sum() / ratio.sum()
        loss.backward()
        assert relative(found, torch.cat([p.grad.flatten() for p in run.parameters])) < 1e-10
        assert sums["loss", "update"] == pytest.approx(float(loss.detach()), rel=1e-10)


def test_completions_to_which_a_coupled_loss_gives_nothing_are_not_sent_back(place, monkeypatch):
    settings = {"algorithm": SELF_NORMALISED, "dtype": "float64", "per_device_batch_size": 4}
    run, (update,) = planned(small_config(place(), algorithm_args={"num_masks": 2}, **settings))
    first = update.micro_batches[0]
    update.micro_batches[0] = first.with_columns(advantages=torch.zeros_like(first.advantages))
    whole = [(len(micro), int((micro.advantages != 0).sum())) for micro in update.micro_batches]
    copies = count_sequences(monkeypatch)
    sums = gradient(run.policy, run.algorithm, update)
    scored, sent = (2 * sum(column) for column in zip(*whole, strict=True))
    assert 0 < sent < scored and (copies["no graph"], copies["graph"]) == (scored, sent)
    assert sums["", "scored_tokens"] == sum(float(m.masks.scored.sum()) for m in update.micro_batches)


def test_completions_are_counted_by_what_they_do_to_the_loss():
    """The third is scored for a penalty alone, the last is not."""
    advantages, active = torch.tensor([0.5, -0.5, 0.0, 0.0]), np.array([True, True, True, False])
    kinds = kinds_of_completions(Rows(advantages=advantages), active)
    assert {name: values.tolist() for name, values in kinds.items()} == {
        "completions": [True, True, True, True],
        "scored_completions": [True, True, True, False],
        "rewarded_completions": [True, True, False, False],
    }


def test_metrics_are_divided_by_what_they_name():
    sums = {("a", "completions"): 6.0, ("b", "scored_completions"): 6.0, ("c", "scored_tokens"): 6.0}
    sums |= {("d", "rewarded_completions"): 6.0, ("e", "rewarded_tokens"): 6.0, ("", "rewarded_tokens"): 10.0}
    sums |= {("loss", "update"): 6.0, ("", "scored_tokens"): 12.0}
    totals = {"completions": 8.0, "tokens": 50.0, "scored_completions": 3.0, "rewarded_completions": 2.0}
    assert means(sums, totals) == {"a": 0.75, "b": 2.0, "c": 0.5, "d": 3.0, "e": 0.6, "loss": 6.0}
    assert means({("c", "scored_tokens"): 0.0}, totals) == {"c": 0.0}, "an update in which nothing is scored"


def test_a_group_larger_than_a_micro_batch_holds_fewer_masks_at_once(place):
    """Sequences with a graph are never more than per_device_batch_size, where a group alone is not."""
    settings = {"algorithm": "tests.common.trainer_cases:Whole", "algorithm_args": {"num_masks": 4}}
    for size, expected in ((16, 4), (8, 2), (4, 1), (1, 1)):
        _, plan = planned(small_config(place(), per_device_batch_size=size, **settings))
        for micro in plan[0].micro_batches:
            assert len(micro) == 4 and micro.masks_at_once == expected


@pytest.mark.parametrize(
    "compares, most, expected",
    [
        ("copy", 24, [(6, 4)]),
        ("copy", 9, [(2, 4)] * 3),
        ("copy", 3, [(1, 3)] * 6),
        ("group", 8, [(3, 2)] * 2),
        ("group", 2, [(3, 1)] * 2),
    ],
)
def test_a_micro_batch_in_parts_has_as_many_copies_at_once_as_fit(compares, most, expected):
    scored = torch.ones(6, 4, 5, dtype=torch.bool)
    masks = Masks(scored, scored, scored.double(), torch.ones(6), scored[:, 0])
    numbers = torch.arange(6)
    micro = Rows(episode=numbers, group=numbers // 3, masks=masks, masks_at_once=4)
    parts = list(split_micro_batches([micro], most, compares))
    assert [(len(part), part.masks_at_once) for part in parts] == expected
    assert torch.cat([part.episode for part in parts]).tolist() == numbers.tolist()


# The masks of an update, and old and reference logps on them.


@pytest.fixture
def seen():
    """What the probing algorithm was shown, call by call."""
    Probe.seen.clear()
    yield Probe.seen
    Probe.seen.clear()


def active_rollouts(config):
    """The first step's completions that change the loss, and the model that wrote them."""
    run, scored, advantages = first_step(config)
    return run.policy, scored.select(run.algorithm.active(advantages))


def probing(folder, **changes):
    """All completions in one micro-batch, one step, in float64."""
    settings = {"algorithm": PROBE, "algorithm_args": {}, "dtype": "float64", "per_device_batch_size": 64}
    return small_config(folder, **{**settings, "max_steps": 1, **changes})


def test_old_logps_are_the_sampling_models_on_each_iterations_masks(tmp_path, seen):
    train(probing(tmp_path / "run", num_iterations=3), quiet=True)
    assert len(seen) == 3
    policy, rollouts = active_rollouts(probing(tmp_path / "fresh"))
    for iteration, shown in enumerate(seen):
        with torch.no_grad():
            expected = naive_logps(policy.model, rollouts, shown["masks"], policy.mask_id)
        old = shown["batch"].old_logps
        assert torch.allclose(old, expected, atol=1e-10) and (old[~shown["masks"].scored] == 0).all()
        moved = float((shown["logps"] - old).abs().max())
        assert moved < 1e-10 if iteration == 0 else moved > 1e-3
        assert "ref_logps" not in shown["batch"]


def test_every_iteration_and_every_step_has_masks_of_its_own(tmp_path, seen):
    train(probing(tmp_path / "run", max_steps=2, num_iterations=2), quiet=True)
    drawn = [str(shown["masks"].scored.int().tolist()) for shown in seen]
    assert len(drawn) == len(set(drawn)) == 4
    assert all(shown["masks"].masked[:, :, :-10].any() for shown in seen), "p_mask_prompt of the paper"


def test_a_step_that_merges_adapters_for_its_rollout_is_that_of_one_that_does_not(place):
    runs = []
    for merges in (False, True):
        run = start(small_config(place(), dtype="float64", merge_for_rollouts=merges, **LORA), quiet=True)
        base = {name: p.clone() for name, p in run.policy.model.named_parameters() if not p.requires_grad}
        for _ in range(2):  # before the first step adapters do nothing
            train_step(run)
        left = dict(run.policy.model.named_parameters())
        assert all(torch.equal(left[name], numbers) for name, numbers in base.items())
        runs.append(torch.cat([p.detach().flatten() for p in run.parameters]))
    assert float((runs[0] - runs[1]).abs().max()) < 1e-9 and float(runs[0].norm()) > 0

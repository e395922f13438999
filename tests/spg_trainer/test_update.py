"""The gradient depends on neither micro-batch, passes nor processes; masks and logps are those of their update."""

import itertools

import pytest
import torch

from spg_trainer.batch import Batch
from spg_trainer.errors import ConfigError
from spg_trainer.models import load_model
from spg_trainer.run import start
from spg_trainer.seeding import numpy_generator
from spg_trainer.training import collect, train
from tests.common.likelihood_cases import naive_logps, relative
from tests.common.process_cases import (
    DTYPES,
    NORMALIZERS,
    gradient_config,
    half_dull,
    loop_config,
    one_step,
    two_processes,
)
from tests.common.trainer_cases import (
    LORA,
    PROBE,
    REFERENCE_PROBE,
    Probe,
    change,
    rows,
    small_config,
    tiny_folder,
    weights,
)

TOLERANCE = {"float64": 1e-10, "float32": 1e-5}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """New run folders."""
    return lambda: tmp_path_factory.mktemp("runs") / "run"


@pytest.fixture(scope="module")
def whole(place):
    """(dtype, normalizer) -> gradient and metrics of one process in one pass over everything, half of it dull."""
    return {
        key: one_step(gradient_config(place(), *key, per_device_batch_size=16))
        for key in itertools.product(DTYPES, NORMALIZERS)
    }


def assert_equal_metrics(found, expected, dtype):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=10 * TOLERANCE[dtype], abs=TOLERANCE[dtype]), name


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1, 2, 4, 6])
def test_micro_batches_and_passes_give_the_gradient_of_the_whole(place, whole, size, dtype, normalizer):
    """8 completions of 2 masks: one at a time in two passes and in one, two at a time, three and the rest."""
    found, metrics = one_step(gradient_config(place(), dtype, normalizer, per_device_batch_size=size))
    expected, metrics_of_whole = whole[dtype, normalizer]
    assert found.dtype == getattr(torch, dtype) and float(found.norm()) > 1e-3
    assert relative(found, expected) < TOLERANCE[dtype]
    assert_equal_metrics(metrics, metrics_of_whole, dtype)


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_two_passes_take_several_completions_at_once(place, size):
    """Four masks do not fit below 4, so the limit counts completions, each with one live mask."""
    settings = {"num_masks": 4, "masking": "block_active", "block_length": 4}
    config = gradient_config(place(), "float64", "length", algorithm_args=settings, per_device_batch_size=64)
    expected, metrics_of_whole = one_step(config)
    found, metrics = one_step(change(config, per_device_batch_size=size, output_dir=str(place())))
    assert relative(found, expected) < 1e-10
    assert_equal_metrics(metrics, metrics_of_whole, "float64")


@pytest.mark.parametrize("normalizer", NORMALIZERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_two_processes_give_the_gradient_of_one(whole, dtype, normalizer):
    """The second has nothing that changes the loss, and its completions and prompts have other lengths."""
    expected, metrics_of_one = whole[dtype, normalizer]
    for rank in (0, 1):
        found, metrics = torch.load(two_processes() / f"rank-{rank}.pt")[f"{dtype}-{normalizer}"]
        assert relative(found, expected) < TOLERANCE[dtype], rank
        assert_equal_metrics(metrics, metrics_of_one, dtype)


def first_step(config):
    """A run before its first step, and that step's scored completions."""
    run = start(config, quiet=True)
    scored = collect(run, 0)
    run.folder.release()
    return run, scored, run.algorithm.compute_advantages(torch.from_numpy(scored.rewards).view(4, 4))


@pytest.mark.parametrize("normalizer", NORMALIZERS)
def test_the_gradient_is_that_of_plain_autograd_over_every_completion(place, whole, normalizer):
    """Nothing skipped, nothing cut: whole softmax, all rows at once, masks keyed by problem and generation."""
    run, scored, advantages = first_step(gradient_config(place(), "float64", normalizer))
    rollouts = scored.rollouts
    lengths = rollouts.completion_mask.sum(-1)
    assert len(set(lengths[8:].tolist())) > 2 and len(set(lengths[:8].tolist())) > 2
    assert len(set(rollouts.prompt_mask.sum(-1).tolist())) > 1
    assert (scored.rewards[8:] == 0).all() and (scored.rewards[:8].reshape(2, 4).std(1) > 0).all()
    assert set(scored.index[8:].tolist()) == {int(i) for i in half_dull().split(",")}

    def streams(row, mask):
        key = (0, int(scored.index[row]), int(scored.generation[row]), 0, mask)
        return numpy_generator(0, "masks", *key)

    masks = run.algorithm.make_masking().draw(rollouts, streams)
    totals = {"completions": 16.0, "tokens": float(lengths.sum())}
    batch = Batch(rollouts.completion_mask, advantages, totals)
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


def test_a_process_without_active_completions_takes_part_with_old_logps(place):
    config = gradient_config(place(), "float64", "tokens", algorithm=PROBE, algorithm_args={})
    expected, _ = one_step(config)
    found = torch.load(two_processes() / "rank-1.pt")
    assert found["active"] == []
    assert relative(found["probe"][0], expected) < 1e-10


def test_a_whole_run_of_two_processes_is_that_of_one(place):
    """Float64, two updates a step; the folder is written once, by the first process."""
    folder, alone = two_processes() / "loop", place()
    train(loop_config(alone), quiet=True)
    for found, expected in zip(rows(folder / "metrics.jsonl"), rows(alone / "metrics.jsonl"), strict=True):
        assert_equal_metrics(found, expected, "float64")
    torch.testing.assert_close(weights(folder / "model"), weights(alone / "model"), rtol=1e-8, atol=1e-10)
    samples = [rows(place / "samples" / "step-000002.jsonl") for place in (folder, alone)]
    assert [row["completion"] for row in samples[0]] == [row["completion"] for row in samples[1]]
    names = [{path.relative_to(place) for path in place.rglob("*")} for place in (folder, alone)]
    assert names[0] == names[1]


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
    return run.policy, scored.rollouts.select(run.algorithm.active(advantages))


def probing(folder, **changes):
    """All completions in one micro-batch, three updates a step, in float64."""
    settings = {"algorithm": PROBE, "algorithm_args": {}, "dtype": "float64", "per_device_batch_size": 64}
    return small_config(folder, **{**settings, "num_iterations": 3, "max_steps": 1, **changes})


def test_old_logps_are_the_sampling_models_on_each_iterations_masks(tmp_path, seen):
    train(probing(tmp_path / "run"), quiet=True)
    assert len(seen) == 3
    policy, rollouts = active_rollouts(probing(tmp_path / "fresh"))
    for iteration, shown in enumerate(seen):
        with torch.no_grad():
            expected = naive_logps(policy.model, rollouts, shown["masks"], policy.mask_id)
        old = shown["batch"].old_logps
        assert torch.allclose(old, expected, atol=1e-10) and (old[~shown["masks"].scored] == 0).all()
        moved = float((shown["logps"] - old).abs().max())
        assert moved < 1e-10 if iteration == 0 else moved > 1e-3
        assert shown["batch"].ref_logps is None


def test_every_iteration_and_every_step_has_masks_of_its_own(tmp_path, seen):
    train(probing(tmp_path / "run", max_steps=2), quiet=True)
    drawn = [str(shown["masks"].scored.int().tolist()) for shown in seen]
    assert len(drawn) == len(set(drawn)) == 6
    assert all(shown["masks"].masked[:, :, :-10].any() for shown in seen), "p_mask_prompt of the paper"


def test_reference_logps_are_those_below_the_adapters(tmp_path, seen):
    with pytest.raises(ConfigError, match="--lora-r"):
        train(probing(tmp_path / "refused", algorithm=REFERENCE_PROBE), quiet=True)
    assert not (tmp_path / "refused").exists()
    config = probing(tmp_path / "run", algorithm=REFERENCE_PROBE, num_iterations=2, max_steps=2, **LORA)
    train(config, quiet=True)
    assert len(seen) == 4
    for shown in seen[:2]:
        assert torch.allclose(shown["batch"].ref_logps, shown["batch"].old_logps, atol=1e-10)
    base = load_model(str(tiny_folder()), dtype="float64", device="cpu")
    _, rollouts = active_rollouts(probing(tmp_path / "fresh", algorithm=REFERENCE_PROBE, **LORA))
    with torch.no_grad():
        expected = naive_logps(base.model, rollouts, seen[1]["masks"], base.mask_id)
    assert torch.allclose(seen[1]["batch"].ref_logps, expected, atol=1e-10)
    later = seen[2]["batch"]
    assert float((later.ref_logps - later.old_logps).abs().max()) > 1e-4
    assert torch.allclose(later.old_logps, seen[2]["logps"], atol=1e-10)

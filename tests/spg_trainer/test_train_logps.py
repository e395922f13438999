"""Masks are drawn anew for every update, and old and reference logps are those of the right weights on them."""

import itertools

import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.models import load_model
from spg_trainer.run import start
from spg_trainer.training import collect, train
from tests.common.likelihood_cases import naive_logps
from tests.common.trainer_cases import (
    LORA,
    PROBE,
    REFERENCE_PROBE,
    Probe,
    small_config,
    tiny_folder,
)


@pytest.fixture
def seen():
    """What the probing algorithm was shown, call by call."""
    Probe.seen.clear()
    yield Probe.seen
    Probe.seen.clear()


def active_rollouts(config):
    """The first step's completions that change the loss, and the model that wrote them."""
    run = start(config, quiet=True)
    scored = collect(run, 0)
    run.folder.release()
    advantages = run.algorithm.compute_advantages(torch.from_numpy(scored.rewards).view(4, 4))
    return run.policy, scored.rollouts.select(run.algorithm.active(advantages))


def probing(folder, **changes):
    """All completions in one micro-batch, three updates a step, in float64."""
    settings = {"algorithm": PROBE, "algorithm_args": {}, "dtype": "float64", "per_device_batch_size": 64}
    return small_config(folder, **{**settings, "num_iterations": 3, "max_steps": 1, **changes})


def test_old_logps_are_those_of_the_sampling_model_on_each_iterations_own_masks(tmp_path, seen):
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
    drawn = [shown["masks"].scored.flatten(1).int().tolist() for shown in seen]
    assert len(drawn) == 6
    for one, other in itertools.combinations(drawn, 2):
        assert one != other
    noise = [shown["masks"].masked[:, :, :-10].any().item() for shown in seen]
    assert all(noise), "p_mask_prompt of the paper"


def test_reference_logps_are_those_below_the_adapters(tmp_path, seen):
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


def test_a_reference_without_adapters_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="--lora-r"):
        train(probing(tmp_path / "run", algorithm=REFERENCE_PROBE), quiet=True)
    assert not (tmp_path / "run").exists()

"""Where memory runs out, half as much goes through the model at once, and nothing else changes."""

import pytest
import torch

from spg_trainer.models.out_of_memory import halved_until_it_fits
from spg_trainer.rollout import player as playing
from spg_trainer.rollout.player import Player
from spg_trainer.settings.decoding import Sampling
from spg_trainer.training import update as updates
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import gradient_config, one_step
from tests.common.rollout_cases import make_policy

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


def test_it_is_halved_until_it_fits_and_one_is_the_least(caplog):
    tried = []
    for attempt in halved_until_it_fits(9, "rows"):
        with attempt:
            tried.append(attempt.size)
            if attempt.size > 2:
                raise torch.OutOfMemoryError(FULL)
    assert tried == [9, 4, 2]
    assert caplog.messages[0] == ("9 rows at once do not fit, so from now on it is 4: CUDA out of memory.")


@pytest.mark.parametrize("size, repeatable, error", [(1, True, FULL), (4, False, FULL), (4, True, "")])
def test_what_cannot_be_tried_with_less_fails(size, repeatable, error):
    kind = torch.OutOfMemoryError if error else ValueError
    attempts = halved_until_it_fits(size, "rows", repeatable)
    with pytest.raises(kind), next(attempts):
        raise kind(error)


@pytest.mark.parametrize("fits", slow_if([8, 3, 1], lambda fits: fits != 3))
def test_an_update_that_runs_out_of_memory_has_the_gradient_of_the_whole(tmp_path, monkeypatch, caplog, fits):
    """It fails late, when other parts have gone backward already: these are forgotten."""
    expected, metrics = one_step(
        gradient_config(tmp_path / "whole", "float64", "tokens", per_device_batch_size=16)
    )
    accumulate, seen = updates.accumulate, []

    def short_of_memory(policy, rollouts, masks, *args, masks_at_once, **kwargs):
        seen.append(len(rollouts.completion_ids) * min(masks_at_once, masks.scored.shape[1]))
        result = accumulate(policy, rollouts, masks, *args, masks_at_once=masks_at_once, **kwargs)
        if seen[-1] > fits:
            raise torch.OutOfMemoryError(FULL)
        return result

    monkeypatch.setattr(updates, "accumulate", short_of_memory)
    found, metrics_found = one_step(
        gradient_config(tmp_path / "halved", "float64", "tokens", per_device_batch_size=16)
    )
    assert max(seen) > fits >= seen[-1]
    assert "masked copies of an update at once do not fit" in caplog.text
    assert relative(found, expected) < 1e-10
    for name, value in metrics.items():
        assert metrics_found[name] == pytest.approx(value, rel=1e-9, abs=1e-10), name


@pytest.mark.parametrize("cache", ["none", "dual"])
def test_a_rollout_that_runs_out_of_memory_writes_the_same_tokens(monkeypatch, caplog, cache):
    policy = make_policy(torch.float64)
    ids = torch.arange(1, 13).reshape(4, 3)
    encoded = ids, torch.ones_like(ids, dtype=torch.bool)
    sampling = Sampling(8, 4, diffusion_steps=4, temperature=1.0, cache=cache)
    keys = [("rollout", row) for row in range(4)]
    player = Player(policy, sampling)
    expected = player.sample(encoded, keys)
    sample, asked = playing.sample_completions, []

    def short_of_memory(*args, rows_per_forward, **kwargs):
        asked.append(rows_per_forward)
        rollouts = sample(*args, rows_per_forward=rows_per_forward, **kwargs)
        if rows_per_forward is None or rows_per_forward > 1:
            raise torch.OutOfMemoryError(FULL)
        return rollouts

    monkeypatch.setattr(playing, "sample_completions", short_of_memory)
    for _ in range(2):
        found = player.sample(encoded, keys)
        assert torch.equal(found.completion_ids, expected.completion_ids)
    assert asked == [None, 2, 1, 1]
    assert policy.most_rows == 1
    assert "4 completions of a rollout at once do not fit" in caplog.text

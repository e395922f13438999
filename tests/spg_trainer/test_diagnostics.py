"""Warnings name what looks wrong and the flag to change, once."""

import pytest

from spg_trainer.diagnostics import diagnose

GOOD = {"frac_reward_zero_std": 0.3, "correct": 0.4, "grad_norm": 1.0}
GOOD |= {"completions/clipped_ratio": 0.0, "rewards/format/mean": 0.9}


def history(*parts: tuple[int, dict]) -> list[dict]:
    """Rows: each part is so many steps with these values instead of the good ones."""
    rows = [{**GOOD, **values} for count, values in parts for _ in range(count)]
    return [{"step": step, **row} for step, row in enumerate(rows, 1)]


@pytest.mark.parametrize(
    ("good", "bad", "steps", "flags"),
    [
        (8, {"frac_reward_zero_std": 1.0}, 3, ["--temperature", "--num-generations", "sft"]),
        (8, {"frac_reward_zero_std": 1.0, "correct": 1.0}, 3, ["--max-steps", "--env-args"]),
        (8, {"completions/clipped_ratio": 0.6}, 3, ["--max-completion-length", "60%"]),
        (8, {"rewards/format/mean": 0.2}, 1, ["--learning-rate", "negatives=zero", "0.67", "0.90"]),
        (8, {"grad_norm": 50.0}, 2, ["--learning-rate", "--max-grad-norm", "50"]),
        (0, {"rewards/format/mean": 0.0}, 5, ["sft"]),
    ],
)
def test_each_trouble_is_told_once_with_its_flags(good, bad, steps, flags):
    told = [diagnose(history((good, {}), (count, bad))) for count in range(9)]
    assert [len(texts) for texts in told] == [int(count == steps) for count in range(9)]
    assert all(flag in told[steps][0] for flag in flags)


def test_a_good_run_is_left_in_peace():
    for count in range(40):
        assert diagnose(history((count, {}))) == []
    lacking = [{"step": step, "grad_norm": None, "rewards/format/mean": None} for step in range(30)]
    assert diagnose([]) == diagnose(lacking) == []
    assert diagnose(history((8, {}), (1, {"grad_norm": 500.0}))) == []
    assert diagnose(history((8, {"grad_norm": 0.01}), (3, {"grad_norm": 0.05}))) == []


def test_trouble_that_comes_back_late_is_reported_again_but_flapping_is_not():
    bad = {"completions/clipped_ratio": 0.9}
    assert diagnose(history((3, bad), (1, {}), (3, bad))) == []
    assert len(diagnose(history((3, bad), (12, {}), (3, bad)))) == 1

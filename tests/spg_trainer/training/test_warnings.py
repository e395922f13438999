"""Warnings name what looks wrong and the flag to change, once."""

import pytest

from spg_trainer.training.warnings import diagnose

GOOD = {
    "frac_reward_zero_std": 0.3,
    "frac_groups_all_correct": 0.2,
    "frac_groups_all_wrong": 0.1,
    "correct": 0.4,
    "grad_norm": 1.0,
}
GOOD |= {"frac_groups_identical": 0.1, "frac_groups_wrong_identical": 0.1}
GOOD |= {"completions/clipped_ratio": 0.0, "rewards/format/mean": 0.9}


def equal(share: float, right: float = 0.0, wrong: float = 0.0, same: float = 0.0) -> dict:
    """What a step with equal rewards in such a share of its groups measures."""
    names = ("reward_zero_std", "groups_all_correct", "groups_all_wrong", "groups_identical")
    return dict(zip((f"frac_{name}" for name in names), (share, right, wrong, same), strict=True))


def history(*parts: tuple[int, dict]) -> list[dict]:
    """Rows: each part is so many steps with these values instead of the good ones."""
    rows = [{**GOOD, **values} for count, values in parts for _ in range(count)]
    return [{"step": step, **row} for step, row in enumerate(rows, 1)]


def warnings(rows: list[dict], *, negatives: bool = True, right_teach: bool = False) -> list[str]:
    """Of an algorithm like SPG's mixture."""
    return diagnose(rows, negatives=negatives, right_teach=right_teach)


@pytest.mark.parametrize(
    ("good", "bad", "steps", "flags"),
    [
        (8, equal(0.9, right=0.02, wrong=0.88), 3, ["90% of the groups", "88% all wrong", "too hard", "sft"]),
        (8, equal(0.9, right=0.85, wrong=0.05), 3, ["85% of all groups", "harder", "--prompts-per-step"]),
        (8, equal(1.0, right=1.0), 3, ["little left to learn", "--max-steps", "--env-args"]),
        (8, equal(0.9, right=0.5, wrong=0.4), 3, ["always or never", "--temperature", "--num-generations"]),
        (8, equal(0.9, wrong=0.9, same=0.7), 3, ["same text", "70%", "--temperature"]),
        (8, equal(0.9, right=0.1, wrong=0.1), 3, ["70% mixed but paid alike", "--reward-weights"]),
        (8, {"completions/clipped_ratio": 0.6}, 3, ["--max-completion-length", "60%"]),
        (8, {"rewards/format/mean": 0.2}, 1, ["--learning-rate", "negatives=zero", "0.67", "0.90"]),
        (8, {"grad_norm": 50.0}, 2, ["--learning-rate", "50"]),
        (0, {"rewards/format/mean": 0.0}, 5, ["sft"]),
    ],
)
def test_each_trouble_is_told_once_with_its_flags(good, bad, steps, flags):
    told = [warnings(history((good, {}), (count, bad))) for count in range(9)]
    assert [len(texts) for texts in told] == [int(count == steps) for count in range(9)]
    assert all(flag in told[steps][0] for flag in flags)


def test_a_good_run_is_left_in_peace():
    for count in range(40):
        assert warnings(history((count, {}))) == []
    lacking = [{"step": step, "grad_norm": None, "rewards/format/mean": None} for step in range(30)]
    assert warnings([]) == warnings(lacking) == []
    assert warnings(history((8, {}), (1, {"grad_norm": 500.0}))) == []
    assert warnings(history((8, {"grad_norm": 0.01}), (3, {"grad_norm": 0.05}))) == []


def test_trouble_that_comes_back_late_is_reported_again_but_flapping_is_not():
    bad = {"completions/clipped_ratio": 0.9}
    assert warnings(history((3, bad), (1, {}), (3, bad))) == []
    assert len(warnings(history((3, bad), (12, {}), (3, bad)))) == 1


def test_what_does_not_apply_is_not_said():
    rows = history((8, {}), (3, equal(0.95, right=0.85, wrong=0.1)))
    assert warnings(rows) and not warnings(rows, right_teach=True), "groups that are all right teach, too"
    rows = history((8, {}), (3, equal(0.95, right=0.1, wrong=0.85)))
    assert "too hard" in warnings(rows, right_teach=True)[0]
    one_text = equal(0.95, right=0.1, wrong=0.85, same=0.6) | {"frac_groups_wrong_identical": 0.02}
    assert "same text" in warnings(history((8, {}), (3, one_text)))[0]
    assert "too hard" in warnings(history((8, {}), (3, one_text)), right_teach=True)[0], "they are right"
    one_text = equal(1.0, right=0.24, wrong=0.76, same=0.6) | {"frac_groups_wrong_identical": 0.45}
    assert "45% all completions are the same wrong text" in warnings([one_text] * 3, right_teach=True)[0]
    rows = history((8, {}), (3, equal(1.0, right=0.97, wrong=0.03)))
    assert "little left to learn" in warnings(rows, right_teach=True)[0]
    rows = history((8, {}), (1, {"rewards/format/mean": 0.2}))
    assert "negatives" not in warnings(rows, negatives=False)[0]

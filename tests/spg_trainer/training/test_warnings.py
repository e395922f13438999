"""The figures of a rollout count what its groups are; warnings name what looks wrong and the flag, once."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.rollout.collect import gather_groups
from spg_trainer.tensors import Rows
from spg_trainer.training import advice
from spg_trainer.training.advice import all_warnings, form_warning, new_warnings
from spg_trainer.training.loop import train
from spg_trainer.training.metrics import rollout_metrics
from spg_trainer.training.run import TrainingState
from tests.common.trainer_cases import small_config


def equal(
    share: float, right: float = 0.0, wrong: float = 0.0, same: float = 0.0, equal_right: float | None = None
) -> dict:
    """What a step with equal rewards in such a share of its groups measures.

    equal_right: the share of groups that are all right and have equal rewards; None: all that are all right.
    """
    return {
        "frac_reward_zero_std": share,
        "frac_reward_zero_std_not_all_correct": share - (right if equal_right is None else equal_right),
        "frac_groups_all_correct": right,
        "frac_groups_all_wrong": wrong,
        "frac_groups_wrong_identical": same,
    }


GOOD = {
    **equal(0.3, 0.2, 0.1, 0.1),
    "completions/clipped_ratio": 0.0,
    "completions/tokens_per_pass": 2.0,
    "env_errors": 0,
    "reward": 0.4,
    "rewards/correct/mean": 0.4,
    "rewards/format/mean": 1.0,
}
CUT = {"completions/clipped_ratio": 0.6}


def history(*parts: tuple[int, dict]) -> list[dict]:
    """Rows: each part is so many steps with these values instead of the good ones."""
    return [{**GOOD, **values} for count, values in parts for _ in range(count)]


def test_what_another_code_has_judged_warns_of_nothing() -> None:
    """Of 6 steps with a task that paid for form, and 4 with one that does not, the warnings see the last 4."""
    fallen = history((6, {}), (4, {"rewards/format/mean": 0.03, "reward": 0.6}))
    state = TrainingState(history=[{**row, "step": step} for step, row in enumerate(fallen, start=1)])
    assert "format" in all_warnings(state.comparable, False).popitem()[1]
    state.judged_since = 6
    assert len(state.comparable) == 4 and not all_warnings(state.comparable, False)


@pytest.mark.parametrize(
    ("bad", "steps", "words"),
    [
        (
            equal(0.9, right=0.02, wrong=0.88),
            10,
            ["90% of the groups", "such rewards teach nothing", "88% all wrong", "Take easier problems"],
        ),
        (equal(0.9, wrong=0.9, same=0.7), 10, ["70% the same wrong text", "Raise --temperature"]),
        (equal(0.9, right=0.1, wrong=0.1), 10, ["10% all wrong", "a reward that tells right from wrong"]),
        (CUT, 3, ["--max-completion-length", "60%"]),
        ({"completions/tokens_per_pass": 3.0}, 3, ["3.0 tokens, 2.0", "--max-tokens-per-step", "eval"]),
        (
            {"rewards/format/mean": 0.03, "reward": 0.6},
            3,
            ["format has fallen from 1.00 to 0.03", "My run learned nothing"],
        ),
        ({"env_errors": 2}, 1, ["2 completions", "--sample-steps"]),
    ],
)
def test_each_is_told_once_with_its_flags(bad, steps, words):
    told = [new_warnings(history((8, {}), (count, bad))) for count in range(13)]
    assert [len(texts) for texts in told] == [int(count == steps) for count in range(13)]
    assert all(word in told[steps][0] for word in words)


def test_the_first_step_warns_already():
    assert new_warnings([]) == []
    (text,) = new_warnings(history((1, {"env_errors": 2})))
    assert "2 completions" in text


def test_a_good_run_is_left_in_peace():
    assert all(new_warnings(history((count, {}))) == [] for count in range(20))


def test_a_component_may_fall_with_the_reward_or_where_it_was_hardly_there():
    fallen = {"rewards/format/mean": 0.03}
    assert new_warnings(history((8, {}), (3, {**fallen, "reward": 0.1}))) == []
    assert new_warnings(history((8, {"rewards/format/mean": 0.1}), (3, {**fallen, "reward": 0.6}))) == []
    right = {"rewards/correct/mean": 0.0, "reward": 0.6}
    assert new_warnings(history((8, {}), (3, right))) == []


def test_rare_right_answers_that_become_more_are_left_in_peace():
    """As in the main job: at first most groups are all wrong, and a few steps later they are mixed."""
    rises = [{**GOOD, **equal(0.95, wrong=0.95), "reward": 0.02 * 1.2**step} for step in range(16)]
    assert all(new_warnings(rises[:count]) == [] for count in range(17))
    stays = [{**row, "reward": 0.02} for row in rises]
    assert sum(len(new_warnings(stays[:count])) for count in range(17)) == 1


def test_cut_completions_of_which_most_are_right_are_left_in_peace():
    assert new_warnings(history((8, {}), (3, {**CUT, "correct": 0.9}))) == []


def test_what_comes_back_late_is_told_again_but_flapping_is_not():
    assert new_warnings(history((3, CUT), (1, {}), (3, CUT))) == []
    assert len(new_warnings(history((3, CUT), (12, {}), (3, CUT)))) == 1


def test_groups_that_are_all_right_are_no_trouble_where_they_teach():
    rows = history((8, equal(0.7, right=0.6)), (10, equal(0.95, right=0.85, wrong=0.1)))
    assert new_warnings(rows) and not new_warnings(rows, right_groups_teach=True)
    rows = history((8, {}), (10, equal(0.95, right=0.1, wrong=0.85)))
    assert "85% all wrong" in new_warnings(rows, right_groups_teach=True)[0]
    # Right ones whose form is rewarded, too, have unequal rewards: the equal groups are all wrong.
    rows = history((8, {}), (10, equal(0.8, right=0.2, wrong=0.8, equal_right=0.0)))
    assert new_warnings(rows, right_groups_teach=True)


def test_a_run_that_has_learned_its_problems_is_left_in_peace():
    """It is not to be told to stop; one whose problems were solved from the start is told."""
    solved = equal(0.9, right=0.85, wrong=0.05)
    assert all(new_warnings(history((8, {}), (count, solved))) == [] for count in range(20))
    (text,) = new_warnings(history((8, equal(0.3, right=0.8)), (10, solved)))
    assert "85% of all groups" in text and "take harder ones (--env-args)" in text


def test_a_few_wrong_groups_of_one_text_do_not_hide_that_the_problems_are_solved():
    (text,) = new_warnings(history((10, equal(1.0, right=0.98, wrong=0.02, same=0.02))))
    assert "98% of all groups are all right" in text and "The problems are solved" in text


@pytest.mark.parametrize(
    ("name", "arguments", "weights", "words"),
    [
        (
            "bgpo",
            {},
            {"correct": 0.0, "format": 0.0, "paper": 1.0},
            [
                "mean_std",
                "for paper",
                "--algorithm-args advantage=mean or --reward-weights correct=1 paper=0",
            ],
        ),
        (
            "spg",
            {"advantage": "mean_std"},
            {"correct": 1.0, "a": 0.1, "b": -0.1},
            ["for a, b", "correct=1 a=0 b=0"],
        ),
        ("tracerl", {}, {"correct": 1.0, "format": 0.5}, ["z_score", "--algorithm-args advantage=mean"]),
        ("justgrpo_repro", {}, {"format": 1.0}, ["mean_std", "Use --reward-weights correct=1 format=0."]),
        ("bgpo", {}, {"correct": 1.0, "format": 0.0}, None),
        ("bgpo", {"advantage": "mean"}, {"correct": 0.0, "paper": 1.0}, None),
        ("spg", {}, {"correct": 0.0, "paper": 1.0}, None),
        ("raft", {}, {"correct": 0.0, "paper": 1.0}, None),
    ],
)
def test_advantages_over_the_deviation_and_a_reward_for_form_are_told(name, arguments, weights, words):
    seldom, common = ({f"rewards/{name}/mean": share for name in weights} for share in (0.5, 0.99))
    text = form_warning(build(name, arguments), weights, seldom)
    assert bool(text) == (words is not None)
    assert not form_warning(build(name, arguments), weights, common), "what all have tells none apart"
    assert all(word in text for word in words or [])


@pytest.mark.parametrize("advantage", ["mean", "mean_std"])
def test_a_run_says_so_at_its_first_step(advantage, tmp_path, capsys):
    """Its reward pays for letters, too, which few have; without that it is silent."""
    for weights in ({}, {"correct": 1.0, "letters": 0.0}):
        arguments = {"masking": "random", "p_mask_prompt": 0.0, "advantage": advantage}
        config = small_config(tmp_path / str(len(weights)), algorithm_args=arguments, reward_weights=weights)
        train(replace(config, max_steps=1))
        told = "--algorithm-args advantage=mean" in capsys.readouterr().out.replace("\n", " ")
        assert told == (advantage == "mean_std" and not weights)


def test_groups_are_counted_by_what_they_have_in_common():
    correct = [1, 1, 0, 0, 0, 0, 1, 1]
    scored = Rows.full_groups(4, 2).with_columns(
        problems=[SimpleNamespace(task="")] * 8,
        extracted=[None] * 8,
        traceback=[None] * 8,
        replies=[None] * 8,
        truncated=np.zeros(8, bool),
        rewards=np.array([1.0, 1.0, 0.2, 0.2, 0.0, 0.3, 0.5, 0.5]),
        correct=np.array(correct, bool),
        reason=["ok" if c else "wrong" for c in correct],
        completions=["a", "b", "c", "c", "d", "e", "a", "a"],
        completion_mask=torch.ones(8, 3, dtype=torch.bool),
        unmask_step=torch.tensor([[0, 1, -1]] * 8),  # the last was given, not written
        unmask_logps=torch.tensor([[-1.0, -2.0, 0.0]] * 4 + [[-3.0, -4.0, 0.0]] * 4),
        components={"correct": np.array(correct, float)},
    )
    metrics = rollout_metrics(scored, [True] * 8)
    (groups,) = gather_groups(scored, scored.rewards)
    assert groups.tolist() == [[1.0, 1.0], [0.2, 0.2], [0.0, 0.3], [0.5, 0.5]]
    assert metrics["completions/entropy"] == 2.5
    shares = {name: value for name, value in metrics.items() if name.startswith("frac_")}
    assert shares == {
        "frac_reward_zero_std": 0.75,
        "frac_reward_zero_std_not_all_correct": 0.25,
        "frac_groups_all_correct": 0.5,
        "frac_groups_all_wrong": 0.5,
        "frac_groups_identical": 0.5,
        "frac_groups_wrong_identical": 0.25,
    }


def test_each_page_of_the_table_is_there() -> None:
    docs = Path(__file__).parents[3] / "docs"
    if not docs.is_dir():
        pytest.skip("no docs/ beside the tests")
    tables = [table for table in vars(advice).values() if isinstance(table, tuple | advice.Said)]
    rows = [row for table in tables for row in ([table] if isinstance(table, advice.Said) else table)]
    pages = {row.page for row in rows if isinstance(row, advice.Said)}
    assert len(pages) > 3 and all((docs / page).is_file() for page in pages)

"""Difficulty pools: who is drawn less often, by which law, and that a resumed run and several processes agree."""

import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.problems import Pools
from spg_trainer.settings.types import check_values
from spg_trainer.training.loop import train, train_step
from tests.common.process_cases import pools_config, pools_steps
from tests.common.trainer_cases import assert_equal_runs, rows, small_config, start
from tests.common.two_processes import left_by

RIGHT, WRONG, MIXED = [True, True], [False, False], [True, False]


def pools(size: int = 5, streaks: dict[int, int] | None = None, seed: int = 0) -> Pools:
    made = Pools(seed, size, all_right=0.25, all_wrong=0.5)
    made.streaks = streaks or {}
    return made


def test_problems_are_drawn_one_after_another_in_proportion_to_their_weights():
    weight, found = [1.0, 0.25, 0.5, 1.0], Counter()
    known = {1: 2, 2: -2, 3: 1}
    for step in range(6000):
        found[tuple(pools(4, known).choose(step, 0, 2).tolist())] += 1
    square = 0.0
    for a, b in itertools.permutations(range(4), 2):
        p = weight[a] / sum(weight) * weight[b] / (sum(weight) - weight[a])
        square += (found[a, b] - 6000 * p) ** 2 / (6000 * p)
    assert square < 31.3  # exceeded once in a thousand, of eleven degrees of freedom


def test_a_further_batch_has_other_problems_and_fewer_where_not_so_many_are_left():
    first = pools().choose(3, 0, 3).tolist()
    second = pools().choose(3, 1, 3, first).tolist()
    assert sorted(first + second) == list(range(5))
    assert pools().choose(3, 0, 3).tolist() == first != pools(seed=1).choose(3, 0, 3).tolist()
    assert len(pools().choose(0, 1, 3, list(range(5)))) == 0


def test_two_groups_alike_one_after_the_other_put_a_problem_aside_and_a_mixed_one_takes_it_back():
    known = pools()
    seen = {
        0: [RIGHT, RIGHT, RIGHT, MIXED],
        1: [WRONG, WRONG, RIGHT, RIGHT],
        2: [RIGHT, MIXED, RIGHT, MIXED],
        3: [WRONG, MIXED, WRONG, WRONG],
    }
    weights = []
    for groups in zip(*seen.values(), strict=True):
        counts = known.note(np.arange(4), np.array(groups))
        weights.append([known.weights.get(known.streaks.get(i), 1) for i in range(5)])
        assert counts == {
            f"pools/all_{name}": weights[-1].count(w) for name, w in (("right", 0.25), ("wrong", 0.5))
        }
    assert weights == [[1] * 5, [0.25, 0.5, 1, 1, 1], [0.25, 1, 1, 1, 1], [1, 0.25, 1, 0.5, 1]]
    assert known.streaks == {1: 2, 3: -2}


@pytest.mark.slow
def test_a_run_that_goes_on_draws_what_one_that_was_never_interrupted_draws(tmp_path):
    train(pools_config(tmp_path / "whole"), quiet=True)
    train(pools_config(tmp_path / "halves", max_steps=3), quiet=True)
    train(pools_config(tmp_path / "halves", resume=str(tmp_path / "halves")), quiet=True)
    assert_equal_runs(tmp_path / "halves", tmp_path / "whole")
    found = rows(tmp_path / "whole" / "metrics.jsonl")
    assert [row["pools/all_wrong"] for row in found] == sorted(row["pools/all_wrong"] for row in found)
    assert found[-1]["pools/all_wrong"] > 0


def test_a_step_that_was_not_finished_is_not_known_to_the_next(tmp_path):
    run = start(pools_config(tmp_path), quiet=True)
    train_step(run)
    known = {**run.source.pools.streaks}
    run.source.collect(1)
    assert run.source.pools.streaks == known != {}
    run.folder.release()


def test_two_processes_know_what_one_does(tmp_path):
    expected = pools_steps(tmp_path)
    assert expected[-1]
    for rank in (0, 1):
        assert left_by(rank)["pools"] == expected


def test_no_weight_is_so_low_that_drawing_takes_long():
    with pytest.raises(ConfigError, match=r"at least 0\.01 and at most 1"):
        check_values(replace(small_config(None).batch, pools=True, all_wrong_weight=0.001))

"""Which problems a step takes, and which it will take again."""

import numpy as np

from spg_trainer.rollout.problems import PATIENCE, choose_problems, remember


def test_at_most_half_of_a_step_comes_back_and_the_rest_is_as_drawn():
    drawn = choose_problems(3, 7, 6, 500).tolist()
    back = [drawn[2], *({11, 12, 13, 14} - set(drawn))]
    others = drawn[:2] + drawn[3:]
    assert choose_problems(3, 7, 6, 500, back).tolist() == [*back[:3], *others[:3]]
    assert choose_problems(3, 7, 6, 500, back[:1]).tolist() == [back[0], *others]
    everything = choose_problems(3, 7, 6, 6, [4, 2]).tolist()
    assert everything[:2] == [4, 2] and sorted(everything) == [0, 1, 2, 3, 4, 5]


def test_a_problem_comes_back_until_several_groups_in_a_row_are_equal():
    def step(returning, *groups):
        tried, mixed = zip(*groups, strict=True)
        return remember(returning, np.array(tried), np.array(mixed))

    first = step({}, (5, True), (6, False), (7, True))
    assert [*first.items()] == [(5, 0), (7, 0)], "6 showed nothing"
    second = step(first, (5, False), (8, True))
    assert [*second.items()] == [(7, 0), (5, 1), (8, 0)], "what waited longest comes first"
    assert [*first.items()] == [(5, 0), (7, 0)], "the step may have to be done again"
    assert step(second, (5, True))[5] == 0
    for _ in range(PATIENCE - 1):
        assert 5 in second
        second = step(second, (5, False))
    assert [*second] == [7, 8]

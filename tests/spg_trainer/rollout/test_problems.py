"""The problems of a step."""

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.problems import check_prompts, choose_problems, deal_groups


def test_a_step_has_distinct_problems_of_its_seed_and_number():
    drawn = choose_problems(3, 7, 6, 8).tolist()
    assert len(set(drawn)) == 6 and set(drawn) <= set(range(8))
    assert drawn == choose_problems(3, 7, 6, 8).tolist()
    assert drawn not in (choose_problems(3, 8, 6, 8).tolist(), choose_problems(4, 7, 6, 8).tolist())


def test_a_step_that_asks_for_more_problems_than_there_are_is_refused():
    check_prompts(8, 8, "letters")
    with pytest.raises(
        ConfigError, match=r"--prompts-per-step 9: letters has 8 to train on\. Use 8 or fewer\.$"
    ):
        check_prompts(9, 8, "letters")
    with pytest.raises(ConfigError, match=r"letters has 0 to train on\. Give it 9 or more\.$"):
        check_prompts(9, 0, "letters")
    with pytest.raises(ConfigError, match=r"Give it 9 or more that can be used\. All are too long\.$"):
        check_prompts(9, 0, "letters", "All are too long.")


@pytest.mark.parametrize("dealt_by", ["episode", "group"])
@pytest.mark.parametrize(("groups", "count"), [(6, 1), (6, 2), (8, 4), (7, 3), (5, 4), (2, 3)])
def test_completions_are_shared_evenly_by_number_and_length(monkeypatch, groups, count, dealt_by):
    """Groups stay whole while each process has equally many."""
    lengths, shares = [37 * group % 11 + 20 for group in range(groups)], []
    monkeypatch.setattr("spg_trainer.rollout.problems.world_size", lambda: count)
    for number in range(count):
        monkeypatch.setattr("spg_trainer.rollout.problems.rank", lambda number=number: number)
        shares.append(deal_groups(lengths, 4, dealt_by).tolist())
    assert sorted(row for share in shares for row in share) == list(range(4 * groups))
    assert all(share == sorted(share) for share in shares)
    sizes, split = list(map(len, shares)), [{row // 4 for row in share} for share in shares]
    divided = sum(map(len, split)) > groups
    assert divided == (dealt_by == "episode" and groups % count > 0)
    assert max(sizes) - min(sizes) <= (4 if dealt_by == "group" else 1 if groups % count else 0)
    if groups % count == 0:
        sums = [sum(lengths[group] for group in share) for share in split]
        assert max(sums) - min(sums) <= max(lengths) - min(lengths)

"""The problems of a step."""

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.sources import check_prompts, choose_problems
from tests.common.trainer_cases import Letters


def test_a_step_has_distinct_problems_of_its_seed_and_number():
    drawn = choose_problems(3, 7, 6, 8).tolist()
    assert len(set(drawn)) == 6 and set(drawn) <= set(range(8))
    assert drawn == choose_problems(3, 7, 6, 8).tolist()
    assert drawn not in (choose_problems(3, 8, 6, 8).tolist(), choose_problems(4, 7, 6, 8).tolist())


def test_a_step_that_asks_for_more_problems_than_there_are_is_refused():
    check_prompts(8, Letters())
    with pytest.raises(ConfigError, match=r"--prompts-per-step 9: Letters has 8"):
        check_prompts(9, Letters())

"""Processes agree: an error in one ends all of them alike."""

import pytest

from tests.common.two_processes import outcomes


@pytest.mark.parametrize(
    ("name", "rank", "error"),
    [
        # Evaluations, whose batches the processes have unequally many of.
        ("a_problem_of_a_batch_that_the_second_lacks", 0, "EnvError: no problem 8"),
        ("the_model_of_the_second", 1, "NotImplementedError: "),
        ("the_file_of_an_evaluation", 0, "CheckpointError: disk full"),
        # Steps.
        ("the_problems_of_a_step", 1, "ConfigError: no problems"),
        # Starts.
        ("the_choice_of_a_folder", 0, "PermissionError: not yours"),
        ("the_model_of_a_start", 1, "ModelError: no such model"),
        ("the_checkpoint_of_a_start", 1, "CheckpointError: torn"),
    ],
)
def test_an_error_in_one_process_is_raised_in_both(name: str, rank: int, error: str) -> None:
    said = outcomes(name)
    assert said[rank] == error
    assert said[1 - rank] == f"TrainingError: Process {rank} failed with {error}"


def test_an_evaluation_without_an_accelerator_calls_no_other_process() -> None:
    assert outcomes("an_evaluation_by_the_first_alone") == (3, False)


def test_a_stop_asked_of_one_process_in_the_last_step_stops_both() -> None:
    assert outcomes("a_stop_in_the_last_step") == ("KeyboardInterrupt: ", "KeyboardInterrupt: ")

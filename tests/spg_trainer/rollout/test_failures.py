"""What a run says of the author's code that raised: the frames of that code, or the message where it says all."""

import traceback

from envs.errors import EnvError
from spg_trainer.rollout.collect import own_frames


def trace_of(error: Exception) -> str:
    """The traceback of an error that a frame of this package raises, or of one that is raised here."""
    return "".join(traceback.format_exception(error))


def test_an_error_of_envs_alone_is_its_message() -> None:
    text = "the reward function few must return 4 numbers, and returned [0.0]."
    in_ours = trace_of(EnvError(text))
    assert own_frames(in_ours) == f"{text}\n"
    broken = "Traceback (most recent call last):\n" + in_ours.replace("envs.errors.EnvError", "ValueError")
    assert own_frames(broken) == broken, "of any other error, all there is"


def test_frames_of_the_authors_file_are_kept() -> None:
    try:
        raise EnvError("no digits")
    except EnvError as error:
        trace = trace_of(error)
    assert f'File "{__file__}"' in own_frames(trace) and "no digits" in own_frames(trace)

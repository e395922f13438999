"""What is the task? Gymnasium environments over text: a prompt in, a completion out, rewards with reasons."""

__version__ = __spg_trainer__ = "0.1.0"


def _check_verifiers() -> None:
    """Raises ImportError unless `verifiers` is ours: another project ships a package of the same name."""
    fix = f'pip install --force-reinstall --no-deps "spg-trainer=={__version__}"'
    try:
        import verifiers
    except ModuleNotFoundError as error:
        if error.name != "verifiers":
            raise
        raise ImportError(f'envs needs the package "verifiers", which Python does not find: {fix}') from None
    version = getattr(verifiers, "__spg_trainer__", None)
    if version != __version__:
        where = verifiers.__file__ or ", ".join(verifiers.__path__)
        why = "not part of spg-trainer" if version is None else f"of spg-trainer {version}, not {__version__}"
        raise ImportError(
            f'envs needs its own package "verifiers", but Python found {where} (it is {why}). If that is a folder of '
            f"yours, rename it or start elsewhere; if another distribution installed it: {fix}"
        )


_check_verifiers()

from envs import reasoning_gym, small  # noqa: E402
from envs.answers import judge, read_answer  # noqa: E402
from envs.checking import check  # noqa: E402
from envs.core import Problem, Prompt, Score, Scores, TextEnv  # noqa: E402
from envs.countdown import Countdown  # noqa: E402
from envs.errors import EnvError  # noqa: E402
from envs.gsm8k import GSM8K  # noqa: E402
from envs.math500 import MATH500  # noqa: E402
from envs.registry import make, make_vec, register, register_family, resolve  # noqa: E402
from envs.splits import draw_for, split_of  # noqa: E402
from envs.sudoku import Sudoku  # noqa: E402
from envs.vector import TextVectorEnv  # noqa: E402

register("spg/Countdown-v0", Countdown)
register("spg/GSM8K-v0", GSM8K)
register("spg/MATH500-v0", MATH500)
register("spg/Sudoku-v0", Sudoku)
register_family("reasoning_gym", reasoning_gym.class_of)
for _name, _cls in small.TASKS.items():
    register(f"spg/{_name}-v0", _cls)

__all__ = [
    "GSM8K",
    "MATH500",
    "Countdown",
    "EnvError",
    "Problem",
    "Prompt",
    "Score",
    "Scores",
    "Sudoku",
    "TextEnv",
    "TextVectorEnv",
    "check",
    "draw_for",
    "judge",
    "make",
    "make_vec",
    "read_answer",
    "register",
    "resolve",
    "split_of",
]

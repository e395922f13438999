"""What is the task? Gymnasium environments over text: a prompt in, a completion out, rewards with reasons."""

from envs.installed import require

__version__ = "0.1.0"
__spg_trainer__ = __version__

require("verifiers", __version__, "envs")

from envs import small  # noqa: E402
from envs.answers import judge, read_answer  # noqa: E402
from envs.checking import check  # noqa: E402
from envs.core import TextEnv  # noqa: E402
from envs.countdown import Countdown  # noqa: E402
from envs.divide import draw_for, split_of  # noqa: E402
from envs.errors import EnvError  # noqa: E402
from envs.gsm8k import GSM8K  # noqa: E402
from envs.math500 import MATH500  # noqa: E402
from envs.records import Problem, Prompt, Score, Scores  # noqa: E402
from envs.registry import make, make_vec, register, resolve  # noqa: E402
from envs.sudoku import Sudoku  # noqa: E402
from envs.vector import TextVectorEnv  # noqa: E402

register("spg/Countdown-v0", Countdown)
register("spg/GSM8K-v0", GSM8K)
register("spg/MATH500-v0", MATH500)
register("spg/Sudoku-v0", Sudoku)
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

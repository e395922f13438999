"""Tasks as Gymnasium environments over text: a prompt in, a completion out, rewards with reasons."""

from importlib import import_module

__version__ = "0.1.0"
__spg_trainer__ = __version__  # tells importers that this package is part of spg-trainer


def _check_verifiers() -> None:
    """Raises ImportError unless `verifiers` is ours: another project ships a package of the same name."""
    reinstall = "install spg-trainer again, in its checkout with: pip install -e ."
    try:
        import verifiers
    except ModuleNotFoundError as error:
        if error.name != "verifiers":
            raise
        raise ImportError(
            f'envs needs the package "verifiers", which Python does not find: {reinstall}'
        ) from None
    version = getattr(verifiers, "__spg_trainer__", None)
    if version != __version__:
        # A folder without __init__.py has no __file__.
        where = verifiers.__file__ or ", ".join(verifiers.__path__)
        why = "not part of spg-trainer" if version is None else f"of spg-trainer {version}, not {__version__}"
        raise ImportError(
            f'envs needs its own package "verifiers", but Python found {where} (it is {why}). If that is a folder of '
            "yours, rename it or start elsewhere. If another distribution installed it: pip uninstall verifiers, then "
            f"{reinstall}"
        )


_check_verifiers()

from envs.answer_block import judge, read_answer  # noqa: E402
from envs.checking import check  # noqa: E402
from envs.core import TextEnv  # noqa: E402
from envs.countdown import Countdown  # noqa: E402
from envs.errors import EnvError, NoDemonstration  # noqa: E402
from envs.files.sft_data import Texts  # noqa: E402
from envs.gsm8k import GSM8K  # noqa: E402
from envs.math500 import MATH500  # noqa: E402
from envs.problem import Problem, Prompt, Score, Scores  # noqa: E402
from envs.registry import make, make_vec, register, resolve  # noqa: E402
from envs.splits import draw_for, split_of  # noqa: E402
from envs.sudoku import Sudoku  # noqa: E402
from envs.text.shown_form import unpaid_form  # noqa: E402
from envs.vector import TextVectorEnv  # noqa: E402

ENVIRONMENTS = {
    "spg/Countdown-v0": "envs.countdown:Countdown",
    "spg/GSM8K-v0": "envs.gsm8k:GSM8K",
    "spg/MATH500-v0": "envs.math500:MATH500",
    "spg/Sudoku-v0": "envs.sudoku:Sudoku",
    "spg/Code-v0": "envs.code:Code",
    "spg/Arithmetic-v0": "envs.small.arithmetic:Arithmetic",
    "spg/Sorting-v0": "envs.small.sorting:Sorting",
    "spg/Edits-v0": "envs.small.edits:Edits",
    "spg/Coloring-v0": "envs.small.coloring:Coloring",
    "spg/Queens-v0": "envs.small.queens:Queens",
    "spg/Satisfiability-v0": "envs.small.satisfiability:Satisfiability",
    "spg/Guess-v0": "envs.small.guess:Guess",
}
"""{Gymnasium id: module and name of its class}. A new environment of this package needs its file and a line here."""

for _id, _target in ENVIRONMENTS.items():
    _module, _, _class = _target.partition(":")
    register(_id, getattr(import_module(_module), _class))

__all__ = [
    "GSM8K",
    "MATH500",
    "Countdown",
    "EnvError",
    "NoDemonstration",
    "Problem",
    "Prompt",
    "Score",
    "Scores",
    "Sudoku",
    "TextEnv",
    "TextVectorEnv",
    "Texts",
    "check",
    "draw_for",
    "judge",
    "make",
    "make_vec",
    "read_answer",
    "register",
    "resolve",
    "split_of",
    "unpaid_form",
]

"""What the name of an environment says without opening it; imports nothing heavy."""

import re


def short_name(env: str) -> str:
    """`spg/Sudoku-v0`, `./file.py:my/Sudoku-v0` and `sudoku` are all `sudoku`."""
    return re.sub(r"-v\d+$", "", re.split(r"[:/]", env)[-1]).lower()


def own_task(env: str) -> str | None:
    """`spg/Sudoku-v0`, `envs:spg/Sudoku-v0` and `sudoku` are all `sudoku`; a task of other people is None.

    Theirs may be called Sudoku too (`./my_task.py:my/Sudoku-v0`, `reasoning_gym:sudoku`) and be quite another task.
    """
    where, _, last = env.strip().rpartition(":")
    space, _, name = last.rpartition("/")
    if where.partition(".")[0] not in ("", "envs") or space not in ("", "spg"):
        return None
    return re.sub(r"-v\d+$", "", name).lower()

"""Samples, two ways to call `python -m verifiers`, and a task from an installed package that misbehaves on demand."""

import json
import os
import subprocess
import sys
from pathlib import Path

import verifiers
from verifiers import __main__ as command

PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
RIGHT, WRONG = f"<answer>{SOLUTION}</answer>", f"<answer>{SOLUTION[::-1]}</answer>"
ACTING = """
import os
from verifiers import Reason, Task, Tier, Verdict

def verify(completion, *, mode, mark):
    if completion == "spin":
        while True:
            pass
    if completion == "die" or (completion == "die once" and not os.path.exists(mark)):
        open(mark, "w").close()
        os._exit(7)
    return Verdict(True, 1.0, None, Reason.OK, Tier.TEXT)

TASK = Task("acting", ("mark",), verify)
"""


def sample(completion=RIGHT, **fields):
    return json.dumps({"completion": completion, "puzzle": PUZZLE, **fields})


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def call(capfd, *arguments):
    """Call the command here; (status, verdicts and maybe the summary as objects, the rest of standard error)."""
    status = command.main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    lines = out.splitlines()
    if "--json" in arguments and "--output" not in arguments:
        assert all('"reason"' in line for line in lines)
        lines += [line for line in err.splitlines() if line.startswith("{")]
        err = "".join(line + "\n" for line in err.splitlines() if not line.startswith("{"))
    return status, [json.loads(line) for line in lines], err


def install_acting_task(folder: Path) -> None:
    """Make a folder hold an installed package with the task "acting", whose completions are what it does."""
    (folder / "acting_task.py").write_text(ACTING)
    (folder / "acting_task-1.dist-info").mkdir()
    entry_points = "[spg.verifiers]\nacting = acting_task:TASK\n"
    (folder / "acting_task-1.dist-info" / "entry_points.txt").write_text(entry_points)


def environment(*folders: Path) -> dict[str, str]:
    """Of a process that finds the same package, and what is installed in `folders`."""
    paths = [Path(verifiers.__file__).parents[1], *folders]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}


def outside(*arguments, folder=None, **options):
    """Run the command in a fresh interpreter, with what is installed in `folder`."""
    return python("-m", "verifiers", *arguments, env=environment(*([folder] if folder else [])), **options)


def python(*arguments, **options):
    """Run a fresh interpreter that finds the same package."""
    options = {"env": environment(), "timeout": 240, "capture_output": True, **options}
    return subprocess.run([sys.executable, *map(str, arguments)], **options)

"""Samples, and two ways to call `python -m verifiers`: in this process and in a fresh interpreter."""

import json
import os
import subprocess
import sys
from pathlib import Path

import verifiers
from verifiers import __main__ as command

PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
RIGHT, WRONG = f"<answer>{SOLUTION}</answer>", f"<answer>{SOLUTION[::-1]}</answer>"


def sample(completion=RIGHT, **fields):
    return json.dumps({"completion": completion, "puzzle": PUZZLE, **fields})


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(line + "\n" for line in lines))
    return str(path)


def call(capfd, *arguments):
    """Call the command here; (status, lines of standard output as objects, standard error)."""
    status = command.main([str(argument) for argument in arguments])
    out, err = capfd.readouterr()
    return status, [json.loads(line) for line in out.splitlines()], err


def environment() -> dict[str, str]:
    """Of a process that finds the same package."""
    return {**os.environ, "PYTHONPATH": str(Path(verifiers.__file__).parents[1])}


def outside(*arguments, stdin=b""):
    """Run the command in a fresh interpreter."""
    line = [sys.executable, "-m", "verifiers", *map(str, arguments)]
    return subprocess.run(line, input=stdin, capture_output=True, env=environment(), timeout=120)

"""`python -m envs list | show | check | new`: which tasks there are, what they look like, and if they are sound."""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from envs.errors import EnvError, nearest

COMMANDS = {
    "list": "the environments there are, with their splits and sizes",
    "show": "a few problems, with the demonstration, the other habits and what each earns",
    "check": "whether an environment keeps its contract, with figures",
    "new": "write a working starting file for a task of your own",
}
_EPILOG = """\
ID is a name from `list` (sudoku, spg/Sudoku-v0), a file (./my_task.py:my/MyTask-v0), a module
(my_package.my_module:my/MyTask-v0), or reasoning_gym:NAME.

examples:
  python -m envs list
  python -m envs show sudoku -n 2 --split test --env-args blanks=4-11
  python -m envs check sudoku arithmetic
  python -m envs check --all -n 200 --json
  python -m envs new my_task.py && python -m envs check ./my_task.py:my/MyTask-v0

Exit status: 0 when all is well, 1 when a check fails, 2 when a name, a file or a flag cannot be used.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    args = list(sys.argv[1:] if arguments is None else arguments)
    if args and not args[0].startswith("-") and args[0] not in COMMANDS:
        return _complain(f'No command "{args[0]}". {nearest(args[0], COMMANDS)}Known: {", ".join(COMMANDS)}.')
    options = _parser().parse_args(args)
    if not sys.stdout.isatty():
        os.environ.setdefault("NO_COLOR", "1")  # boards are drawn without colours into a file
    try:
        return {"list": _list, "show": _show, "check": _check, "new": _new}[options.command](options)
    except (EnvError, ImportError) as error:
        return _complain(str(error))
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _complain(text: str) -> int:
    sys.stderr.write(f"error: {text}\n")
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m envs",
        description="Tasks for text models as Gymnasium environments.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parts = {
        name: commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        for name, text in COMMANDS.items()
    }
    show, check = parts["show"], parts["check"]
    show.add_argument("id", metavar="ID", help="an environment; see `python -m envs list`")
    show.add_argument("-n", metavar="N", type=_positive, default=3, help="how many problems (3)")
    show.add_argument("--split", default="train", help="train (default), validation or test")
    show.add_argument("--index", metavar="I", type=int, nargs="+", help="these problems")
    show.add_argument("--seed", metavar="S", type=int, help="problems drawn at random with this seed")
    check.add_argument("ids", metavar="ID", nargs="*", help="environments; see `python -m envs list`")
    check.add_argument("--all", action="store_true", help="every environment of this package")
    check.add_argument(
        "-n", metavar="N", type=_positive, default=1000, help="problems of each split to try (1000)"
    )
    check.add_argument("--json", action="store_true", help="one line of JSON for each environment")
    for part in (show, check):
        part.add_argument(
            "--env-args",
            metavar="KEY=VALUE",
            nargs="+",
            default=[],
            help="arguments of the environment, e.g. level=2 source=generated",
        )
    parts["new"].add_argument(
        "file", metavar="FILE.py", help="the file to write, e.g. my_task.py; it must not exist"
    )
    return parser


def _positive(text: str) -> int:
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of problems; use 1 or more")
    return value


def pairs(words: Sequence[str]) -> dict[str, Any]:
    """["level=2", "source=generated"] -> {"level": 2, "source": "generated"}; raises EnvError for other forms."""
    found: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise EnvError(f'--env-args: "{word}" should be KEY=VALUE, e.g. level=2.')
        if name in ("split", "render_mode"):
            raise EnvError(f"--env-args {word}: {name} is no argument here; `show` takes --split.")
        try:
            found[name] = json.loads(text)
        except ValueError:
            found[name] = text
    return found


def _list(options: argparse.Namespace) -> int:
    from envs._cli_show import listing

    listing()
    return 0


def _show(options: argparse.Namespace) -> int:
    from envs._cli_show import show

    show(options.id, options.split, options.n, options.index, options.seed, pairs(options.env_args))
    return 0


def _check(options: argparse.Namespace) -> int:
    from envs._cli_check import report

    if bool(options.ids) == options.all:
        raise EnvError("check wants the ID of one environment or several, or --all; see python -m envs list.")
    return report(options.ids, options.n, options.json, pairs(options.env_args))


def _new(options: argparse.Namespace) -> int:
    from envs.template import write_task

    id = write_task(options.file)
    name = f"{options.file if os.path.isabs(options.file) else os.path.join('.', options.file)}:{id}"
    sys.stdout.write(
        f"{options.file} holds {id}. What to do with it:\n"
        f"  python -m envs check {name}\n"
        f"  python -m envs show {name}\n"
        f"  python -m spg_trainer sft --env {name} --mix right=0.4 first=0.6\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m envs list | show | check | serve | new`: lists tasks, shows, checks, serves them, and begins a new one."""

import argparse
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any

from envs import __version__
from envs.authoring.new_file import with_folder, write_task
from envs.checking import Finding, check, check_lengths, demonstration_of, habits_of
from envs.combining.wrapper import author_task
from envs.core import TextEnv, render_turns
from envs.episodes import cause, play
from envs.errors import BadRows, EnvError, MissingPackage, with_flags
from envs.problem import Problem, check_index, read_problem
from envs.registry import known, make, offline_arguments, resolve, short_name
from envs.scoring import score_all
from envs.task import defines, summary
from verifiers.command.flags import Parser
from verifiers.serve.command import add_serving_flags
from verifiers.user_code import exit_is_error

_EPILOG = """\
In `show`, `check` and `serve`, ID is a name from `list` (sudoku, spg/Sudoku-v0), a file (./my_task.py:my/MyTask-v0),
a module (my_package.my_module:my/MyTask-v0), reasoning_gym:NAME, gymnasium:NAME, openenv:ADDRESS, or a file of rows
(rows.jsonl with --env-args verifier=NAME).

examples:
  python -m envs list
  python -m envs show sudoku -n 2 --split test --env-args blanks=4-11
  python -m envs check sudoku arithmetic
  python -m envs check --all -n 200
  python -m envs serve sudoku countdown --port 8000 --env-args sudoku.blanks=4-11
  python -m envs new my_task.py && python -m envs check ./my_task.py:my/MyTask-v0

Exit status: 0 when all is well, 1 when a check fails or the task raises an error, 2 when a name, a file or a flag
cannot be used.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    options = _parser().parse_args(words or ["--help"])
    try:
        _, run = COMMANDS[options.command]
        with exit_is_error():  # of a task's own code
            return run(options)
    except (EnvError, ImportError) as error:
        sys.stderr.write(f"error: {with_flags(error)}\n")
        return 2
    except BrokenPipeError:  # the reader of the output, such as `head`, has closed it
        # Python would write the rest when it ends, and complain. So the rest is sent to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130


def _parser() -> Parser:
    parser = Parser(
        prog="python -m envs",
        description="Tasks for text models as Gymnasium environments.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"spg-trainer {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    parsers = {}
    for name, (help_text, _) in COMMANDS.items():
        description = f"{help_text[0].upper()}{help_text[1:]}."
        parsers[name] = commands.add_parser(name, help=help_text, description=description, allow_abbrev=False)
    show, checks, new, serve = parsers["show"], parsers["check"], parsers["new"], parsers["serve"]
    show.add_argument("id", metavar="ID", help="an environment; see `python -m envs list`")
    show.add_argument("-n", metavar="N", type=_positive, default=3, help="the number of problems (3)")
    show.add_argument("--split", default="train", help="their split: train (default), validation or test")
    show.add_argument("--index", metavar="I", type=int, nargs="+", help="shows the problems of these numbers")
    text = "also prints what the model reads: the prompt, and the beginning of the completion"
    show.add_argument("--prompt", action="store_true", help=text)
    checks.add_argument("ids", metavar="ID", nargs="*", help="environments; see `python -m envs list`")
    checks.add_argument("--all", action="store_true", help="checks every environment of this package")
    text = "the number of problems of each split to try (1000); fewer are faster"
    checks.add_argument("-n", metavar="N", type=_positive, default=1000, help=text)
    text = "also measures whether all prompts fit this model: tiny, a folder, or a Hub id that is downloaded"
    checks.add_argument("--model", metavar="MODEL", help=text)
    text = "with --model: how many tokens a completion has (default: as in training this model)"
    checks.add_argument("--max-completion-length", metavar="T", type=_positive, default=0, help=text)
    serve.add_argument("ids", metavar="ID", nargs="+", help="environments; see `python -m envs list`")
    add_serving_flags(serve)
    for command in (show, checks, serve):  # see `environment_arguments`
        text = "arguments of the environment, e.g. level=2 source=generated"
        command.add_argument("--env-args", metavar="KEY=VALUE", nargs="+", default=[], help=text)
        text = "the verifier of a file of rows, e.g. text or gsm8k, or ./FILE.py:TASK of your own; short for "
        text += "--env-args verifier=NAME"
        command.add_argument("--verifier", metavar="NAME", help=text)
        text = "reward functions of a file of rows; short for --env-args reward=./FILE.py:FUNCTION"
        command.add_argument("--reward", metavar="NAME", help=text)
        text = "skip leaves out rows of a file that cannot be used (refuse, the default, refuses the file); short "
        text += "for --env-args bad_rows=NAME"
        command.add_argument("--bad-rows", metavar="NAME", help=text)
        text = "weights of reward components, as in training, e.g. correct=1 format=0.2"
        command.add_argument("--reward-weights", metavar="KEY=VALUE", nargs="+", default=[], help=text)
    text = "writes a task of several turns, in which the environment answers the model"
    new.add_argument("--turns", action="store_true", help=text)
    new.add_argument("file", metavar="FILE.py", help="the file to write, e.g. my_task.py; it must not exist")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of problems; use 1 or more")
    return int(text)


def environment_arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The environment's arguments from a command line: --env-args, and flags that are short for an argument."""
    flags = {name: getattr(options, name) for name in ("verifier", "reward", "bad_rows")}
    named = {name: value for name, value in flags.items() if value is not None}
    if options.reward_weights:
        named["reward_weights"] = key_values(options.reward_weights, "--reward-weights")
    return {**key_values(options.env_args), **named}


def key_values(words: Sequence[str], flag: str = "--env-args") -> dict[str, Any]:
    """["level=2", "source=generated"] -> {"level": 2, "source": "generated"}; raises EnvError for other forms.

    flag: the flag that has these words, for messages.
    """
    values: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            example = "level=2" if flag == "--env-args" else "correct=1"
            raise EnvError(f'{flag}: "{word}" should be KEY=VALUE, e.g. {example}.')
        if name in ("split", "render_mode"):
            raise EnvError(f"{flag} {word}: {name} is no argument here; `show` takes --split.")
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def _list(_: argparse.Namespace) -> int:
    """Prints a table of the registered environments without opening them, since some draw thousands of problems."""
    rows = [("--env", "id", "what it is")]
    for id, cls in known().items():
        rows.append((short_name(id) + ("*" if offline_arguments(id) else ""), id, summary(cls)))
    rows.append(("reasoning_gym:NAME", "", "a dataset of the reasoning-gym package (an optional extra)"))
    rows.append(
        ("gymnasium:NAME", "", "an environment of Gymnasium with discrete actions, e.g. Blackjack-v1")
    )
    rows.append(
        ("openenv:ADDRESS", "", "the environment of an OpenEnv server, e.g. openenv:http://127.0.0.1:8000")
    )
    for name, id, text in rows:
        sys.stdout.write(f"{name:19} {id:22} {text}\n")
    sys.stdout.write(
        "* Its problems come from a hub by default; --env-args source=generated makes them without any data.\n"
        "`python -m envs show ID` shows problems of one of them, and how many there are.\n"
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    """Prints problems as a person reads them, and what a right completion and each habit (a plausible wrong one) earn.

    Returns 1 if the author's `demonstration` or `score` raises.
    """
    score_errors: set[str] = set()
    demonstration_failed = False
    env = make(options.id, split=options.split, **environment_arguments(options))
    for index in options.index or range(min(options.n, len(env))):
        problem = read_problem(env, check_index(env, index))
        title = f"== {env.spec_name}, {options.split}, problem {index} of {len(env):,} =="
        sys.stdout.write(f"{title}\n{_for_stdout(env.render_text(problem, None))}\n")
        if options.prompt:
            sys.stdout.write(_model_reads(problem))
        texts = {}
        try:
            demonstration = demonstration_of(env, problem)
            if demonstration is not None:
                texts["right"] = demonstration
        except EnvError as error:
            sys.stdout.write(f"-- right: {with_flags(error)}\n")
            demonstration_failed = True
        for name, text in {**texts, **habits_of(env, problem)}.items():
            sys.stdout.write(_scored(env, index, problem, name, text, score_errors))
        sys.stdout.write("\n")
    return 1 if score_errors or demonstration_failed else 0


def _model_reads(problem: Problem) -> str:
    """What the model reads, as text: the prompt (of a chat, each message) and the completion's prefix or template."""
    if isinstance(problem.prompt, str):
        text = f"-- prompt:\n{problem.prompt}\n"
    else:
        messages = [f"-- prompt, {message['role']}:\n{message['content']}\n" for message in problem.prompt]
        text = "".join(messages)
    given = {"begins with": problem.completion_prefix, "fills": problem.completion_template}
    return text + "".join(f"-- the completion {verb}:\n{part}\n" for verb, part in given.items() if part)


def _for_stdout(text: str) -> str:
    """The text, without its colours if stdout is no terminal or NO_COLOR is set."""
    coloured = sys.stdout.isatty() and "NO_COLOR" not in os.environ
    return text if coloured else re.sub(r"\x1b\[[\d;]*m", "", text)


def _scored(
    env: TextEnv, index: int, problem: Problem, name: str, text: str | list[str], errors: set[str]
) -> str:
    """A text on a completion and its rewards, to be printed.

    text: the completion, or a list with one for each turn. errors: what `score` has raised so far; this function adds
    to it, since the traceback of each error is shown only once.
    """
    turns, replies = play(env, index, problem, text)
    scored = score_all(env, [index], [problem], [turns])
    rewards = ", ".join(f"{component} {values[0]:g}" for component, values in scored.rewards.items())
    read_as = "" if scored.extracted[0] is None else f", read as {scored.extracted[0]!r:.80}"
    head = (
        f"-- {name}: reward {scored.total[0]:g} ({rewards}), {scored.reason[0] or 'no reason given'}{read_as}"
    )
    scorer = author_task(env, problem)
    if (trace := scored.traceback[0]) is not None:
        why = cause(scorer, trace)
        shown = f"the same as above: {why}\n" if why in errors else trace
        errors.add(why)
        return f"{head}\n{shown}"
    if len(turns) > 1:
        return f"{head}\n{_for_stdout(render_turns(env, problem, turns, replies))}\n"
    completion = turns[0]
    lines = [head, f"{problem.completion_prefix}{completion}"]
    if defines(type(scorer), "render_text"):  # the base class's would show the prompt again
        lines.append(_for_stdout(env.render_text(problem, completion)))
    return "\n".join(lines) + "\n"


def _check(options: argparse.Namespace) -> int:
    """Prints what checks find; returns 1 if any fails.

    An environment whose problems come from a hub is checked with source=generated, unless --env-args name a source.
    """
    if bool(options.ids) == options.all:  # both or none are given
        raise EnvError("check wants the ID of one environment or several, or --all; see python -m envs list.")
    arguments = environment_arguments(options)
    all_ok = True
    for name in options.ids or [id for id in known() if id.startswith("spg/")]:
        try:
            env_args = {**offline_arguments(resolve(name)), **arguments}
            findings = check(name, options.n, **env_args)
            if options.model:
                length = options.max_completion_length
                findings.append(check_lengths(name, options.n, options.model, length, **env_args))
        except BadRows as error:
            findings = [Finding("rows", ok=False, written=with_flags(error))]
        except MissingPackage as error:
            if not options.all:
                raise
            sys.stdout.write(f"{name}\nnot checked: {with_flags(error)}\n")
            continue
        all_ok &= all(finding.ok for finding in findings)
        sys.stdout.write(f"{name}\n")
        for finding in findings:
            if not finding.ok:
                mark = "FAILS"
            else:
                mark = "note" if finding.is_note else "ok"
            sys.stdout.write(f"{mark:6} {finding.name:15} {finding.written}\n")
        sys.stdout.flush()
    return 0 if all_ok else 1


def _new(options: argparse.Namespace) -> int:
    """Writes a file with a task, and prints what to do with it."""
    id = write_task(options.file, turns=options.turns)
    name = f"{with_folder(options.file)}:{id}"
    habit = "biggest" if options.turns else "first"  # the file's name for a wrong way to answer
    sys.stdout.write(
        f"{options.file} holds {id}. What to do with it:\n"
        f"  python -m envs check {name}\n"
        f"  python -m envs show {name}\n"
        f"  python -m spg_trainer sft --env {name} --mix right=0.4 {habit}=0.6\n"
    )
    return 0


def _serve(options: argparse.Namespace) -> int:
    """Answers clients of OpenEnv until a signal."""
    from envs.serve.command import run

    return run(options, environment_arguments(options))


# {command: (its help, the function that runs it and returns the exit status)}
COMMANDS = {
    "list": ("lists the environments of this package, each with a sentence about it", _list),
    "show": (
        "prints a few problems with a right completion (demonstration), wrong ones (habits), and the rewards of each",
        _show,
    ),
    "check": ("tests whether an environment can be trained on, and explains what is wrong with it", _check),
    "serve": ("lets clients of OpenEnv, such as TRL, play environments over HTTP and WebSocket", _serve),
    "new": ("writes a file with a working task, which you change into your own", _new),
}

if __name__ == "__main__":
    sys.exit(main())

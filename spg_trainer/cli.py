"""The command line: `python -m spg_trainer [eval | diff | sft | compare | report | merge | push | lm-eval] ...`;
without a word: training.

A mistake of the user ends in one line and exit status 2; tracebacks are for bugs. `argparse` reads the words and draws
the help: tyro, which draws a nicer one, takes 0.13 s of every start.
"""

import argparse
import ast
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from functools import partial, reduce
from importlib import import_module
from inspect import cleandoc
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from spg_trainer import __version__, algorithms
from spg_trainer.distributed import is_on_all, rank
from spg_trainer.errors import ConfigError, SpgError, did_you_mean
from spg_trainer.settings import fields, packages
from spg_trainer.settings.fields import Config
from spg_trainer.settings.ranges import check_ranges
from spg_trainer.settings.recipes import Layer
from spg_trainer.settings.sources import apply, layers
from spg_trainer.settings.values import convert, parse_pairs

PROG = "python -m spg_trainer"
COMMANDS = {
    "eval": (fields.EvalCommand, "evaluation.command", "run_eval"),
    "diff": (fields.DiffCommand, "evaluation.diff", "run_diff"),
    "sft": (fields.SftCommand, "sft.command", "sft"),
    "compare": (fields.CompareCommand, "reporting.compare", "compare"),
    "report": (fields.ReportCommand, "reporting.page", "write"),
    "merge": (fields.MergeCommand, "export", "merge"),
    "push": (fields.PushCommand, "export", "push"),
}
"""{word: its settings, and the module and name of what it runs}; without a word it is `Config` and `train`."""
WORDS = (*COMMANDS, "lm-eval")
ALONE = {
    "ReportCommand": "runs",
    "MergeCommand": "source",
    "PushCommand": "run",
    "DiffCommand": "evaluations",
}
"""The setting of a command that words without a flag give."""
ELSEWHERE = {
    "lr": "learning-rate",
    "epochs": "max-steps",
    "num-train-epochs": "max-steps",
    "batch-size": "prompts-per-step",
    "per-device-train-batch-size": "per-device-batch-size",
    "model-name-or-path": "model",
    "dataset": "env",
    "dataset-name": "env",
    "task": "env",
    "max-new-tokens": "max-completion-length",
    "gen-length": "max-completion-length",
}
"""What TRL and the reference codes call a flag, and what it is called here."""
FLAGS: dict[Any, dict[str, Any]] = {
    bool: {"action": argparse.BooleanOptionalAction},
    dict: {"action": "extend", "nargs": "+", "metavar": "KEY=VALUE"},
    tuple: {"nargs": "+"},
}
"""How `argparse` reads flags of a type, if not as one word."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0 done, 1 a run of `compare` failed, 2 a mistake that the
    message explains, 130 stopped.
    """
    for name in ("stdout", "stderr"):  # closed by `>&-`: the next file that is opened would become it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    word = args.pop(0) if args and not args[0].startswith("-") else ""
    try:
        return run(word, args)
    except KeyboardInterrupt as error:
        say_once(error, "\nStopped.\n")
        return 130
    except (SpgError, ImportError, *packages.errors()) as error:
        say_once(error, f"error: {error}\n")
        return 2
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def say_once(error: BaseException, text: str) -> None:
    """Writes to standard error, of what has ended all processes in the first one alone."""
    if rank() == 0 or not is_on_all(error):
        sys.stderr.write(text)


def run(word: str, args: Sequence[str]) -> int:
    """Runs the command of a word, "" for training; returns the exit status."""
    prog = f"{PROG} {word}".rstrip()
    if not word and "--version" in args:
        sys.stdout.write(f"spg-trainer {__version__}\n")
    elif not word:
        run_train(resolve(Config, args, prog))
    elif word not in WORDS:
        nearest = did_you_mean(word, WORDS)
        raise ConfigError(
            f"No command {word!r}. {nearest}Known: {', '.join(WORDS)}; without one, --env ENV trains."
        )
    elif word not in ("eval", "sft") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"{prog} runs in one process. Start it without a launcher.")
    elif word == "lm-eval":  # its flags are lm-eval's own
        import_module("spg_trainer.evaluation.lm_eval").main(args)
    else:
        cls, module, name = COMMANDS[word]
        end = args.index("--") if word == "compare" and "--" in args else len(args)
        command = parse(cls, args[:end], prog)
        if word in ("eval", "sft", "merge"):
            import_module("spg_trainer.runs.early").look_first(command)
            quiet_libraries()
        call = getattr(import_module(f"spg_trainer.{module}"), name)
        if word == "compare":  # behind ` -- ` stand the flags of every training
            return call(command, args[end + 1 :])
        call(command)
        leave_processes()
    return 0


def parse(cls: type, args: Sequence[str], prog: str) -> Any:
    """The settings of a command line."""
    return apply(cls(), resolve(cls, args, prog))


def resolve(cls: type, args: Sequence[str], prog: str) -> list[Layer]:
    """The layers of a command line's settings: recipes, files and flags (`settings/sources.py`); shows --help."""
    words = [re.sub(r"^--[\w-]+", lambda flag: flag[0].replace("_", "-"), word) for word in args]
    typed, unknown = parser(cls, cls(), prog).parse_known_args(words)
    if unknown:
        flag = next((word for word in unknown if word.startswith("-")), "").partition("=")[0]
        name = ELSEWHERE.get(flag.removeprefix("--"), flag.removeprefix("--"))
        nearest = did_you_mean(name, flags(cls), "--{}")
        if cls is fields.CompareCommand and name in flags(Config) and not nearest:
            nearest = "Flags of training stand last, behind ` -- `. "
        what = f"No flag {flag}. {nearest}" if flag else f"{unknown[0]!r} belongs to no flag. "
        raise ConfigError(f"{what}All flags: {prog} --help")
    values: dict[str, Any] = {}
    for flag, (path, hint) in flags(cls).items():
        if flag in typed:
            place = reduce(lambda place, part: place.setdefault(part, {}), path[:-1], values)
            read = parse_pairs if get_origin(hint) is dict else partial(convert, hint=hint)
            place[path[-1]] = read(getattr(typed, flag), where=f"--{flag}")
    over = layers(cls, values)
    base = apply(cls(), over)
    check_ranges(base)
    if "help" in typed:
        sys.stdout.write(parser(cls, base, prog).format_help())
        sys.stdout.flush()
        sys.exit()
    if isinstance(base, fields.TaskSettings):
        packages.envs.resolve(base.env)
    if isinstance(base, Config):
        algorithms.locate(base.algorithm)
    return over


class Parser(argparse.ArgumentParser):
    """One that raises what is wrong."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{message.removeprefix('argument ')}. All flags: {self.prog} --help")


def parser(cls: type, base: Any, prog: str) -> Parser:
    """What reads the flags of a command; its help shows the values of `base` as defaults."""
    others = f" Other commands, each with its own --help: {', '.join(WORDS)}." * (cls is Config)
    if isinstance(base, fields.TaskSettings):
        others += f" Defaults are those of --env {base.env}; --env or --model before --help shows theirs."
    alone, absent = ALONE.get(cls.__name__, ""), dict[str, Any](argument_default=argparse.SUPPRESS)
    usage = f"{prog} [-h] [--FLAG VALUE ...] {alone.upper()}".rstrip()
    result = Parser(prog, usage, f"{cls.__doc__}{others}", allow_abbrev=False, add_help=False, **absent)
    result.add_argument("-h", "--help", action="store_true", help="Show this and end.")
    groups: dict[tuple[str, ...], Any] = {(): result}
    texts = docstrings()
    for flag, (path, hint) in flags(cls).items():
        *parts, name = path
        owner, kind = reduce(getattr, parts, base), get_origin(hint) or hint
        if path[:-1] not in groups:
            groups[path[:-1]] = result.add_argument_group(f"{parts[-1]} options", type(owner).__doc__)
        value = getattr(owner, name)
        words = [f"{k}={v}" for k, v in value.items()] if kind is dict else value
        shown = " ".join(map(str, words)) if kind in (dict, tuple) else value
        text = next(texts[of.__name__, name] for of in type(owner).__mro__ if (of.__name__, name) in texts)
        choices = next((get_args(h) for h in (hint, *get_args(hint)) if get_origin(h) is Literal), ())
        options = {"metavar": f"{{{','.join(choices)}}}" if choices else name.upper(), **FLAGS.get(kind, {})}
        options["help"] = f"{text} (default: {shown})".replace("%", "%%")
        if name == alone:
            result.add_argument(flag, **{**options, "nargs": "*" if kind is tuple else "?"})
        else:
            groups[path[:-1]].add_argument(*["-o"] * (flag == "output"), f"--{flag}", dest=flag, **options)
    return result


def docstrings() -> dict[tuple[str, str], str]:
    """(class, setting) -> the text below the setting in `settings/fields.py`."""
    texts, file = {}, Path(fields.__file__)
    for cls in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(cls, ast.ClassDef):
            for setting, text in pairwise(cls.body):
                if isinstance(setting, ast.AnnAssign) and isinstance(text, ast.Expr):
                    texts[cls.name, ast.unparse(setting.target)] = cleandoc(ast.literal_eval(text.value))
    return texts


def flags(cls: type, path: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Every flag of a command without the dashes in front: its place among the settings and its type."""
    places: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name, hint in get_type_hints(cls).items():
        inner = (*path, name)
        places |= flags(hint, inner) if is_dataclass(hint) else {name.replace("_", "-"): (inner, hint)}
    return places


def run_train(over: Sequence[Layer]) -> None:
    """Trains, or with --dry-run shows the settings and ends, in the first process alone."""
    config = apply(Config(), over)
    import_module("spg_trainer.runs.early").look_first(config)
    algorithms.build(
        config.algorithm, config.hyper_parameters
    )  # refuses wrong ones after torch, before all else
    if not config.dry_run:
        quiet_libraries()
        import_module("spg_trainer.training.loop").train(replace(config, config=None))
        leave_processes()
    elif rank() == 0:
        sys.stdout.write(import_module("spg_trainer.training.dry_run").show(config, over))


def leave_processes() -> None:
    """Takes this process out of its group, or a thread of gloo may abort it as it ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()


def quiet_libraries() -> None:
    """Our own messages only: transformers draws progress bars for every file it touches."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

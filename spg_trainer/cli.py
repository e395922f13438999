"""The command line: `python -m spg_trainer [eval | diff | sft | compare | report | merge | push | lm-eval] ...`;
without a word: training.

A mistake of the user ends in one line and exit status 2; tracebacks are for bugs.
"""

import logging
import os
import sys
import warnings
from collections.abc import Sequence
from dataclasses import is_dataclass, replace
from importlib import import_module
from itertools import takewhile
from typing import Any, get_origin, get_type_hints

import tyro

from spg_trainer import __version__
from spg_trainer.distributed import is_on_all, on_all, rank
from spg_trainer.errors import ConfigError, SpgError, did_you_mean
from spg_trainer.settings import packages
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.checks import check
from spg_trainer.settings.fields import (
    CompareCommand,
    Config,
    DiffCommand,
    EvalCommand,
    MergeCommand,
    PushCommand,
    ReportCommand,
    SftCommand,
    arithmetic,
)
from spg_trainer.settings.recipes import Layer
from spg_trainer.settings.sources import apply, layers, with_origins
from spg_trainer.settings.values import convert, parse_pairs

PROG = "python -m spg_trainer"
COMMANDS = {
    "eval": (EvalCommand, "evaluation.command", "run_eval"),
    "diff": (DiffCommand, "evaluation.diff", "run_diff"),
    "sft": (SftCommand, "sft.command", "sft"),
    "compare": (CompareCommand, "reporting.compare", "compare"),
    "report": (ReportCommand, "reporting.page", "write"),
    "merge": (MergeCommand, "export", "merge"),
    "push": (PushCommand, "export", "push"),
}
"""{word: its settings, and the module and name of what it runs}; without a word it is `Config` and `train`."""
WORDS = (*COMMANDS, "lm-eval")
POSITIONAL = {ReportCommand: "runs", MergeCommand: "source", PushCommand: "run", DiffCommand: "evaluations"}
"""The setting that words without a flag give."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0 done, 1 a run of `compare` failed, 2 a mistake that the
    message explains, 130 stopped.
    """
    for name in ("stdout", "stderr"):  # closed by `>&-`: the next file that is opened would become it
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    args = list(sys.argv[1:] if argv is None else argv)
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
        if word not in ("diff", "report", "compare"):
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
    asked = {"-h", "--help"} & {*args}
    over = layers(cls, read_flags(cls, [word for word in args if word not in asked], prog))
    base = apply(cls(), over)
    if asked:
        others = f"Other commands, each with its own --help: {', '.join(WORDS)}." * (cls is Config)
        shown = {
            "prog": prog,
            "description": f"{cls.__doc__} {others}",
            "config": (tyro.conf.OmitArgPrefixes,),
        }
        tyro.cli(cls, args=["--help"], default=base, **shown)
    if hasattr(base, "env_args"):
        packages.envs.resolve(base.env)  # a mistyped name is told before torch is loaded, which takes seconds
    return over


def read_flags(cls: type, args: Sequence[str], prog: str) -> dict[str, Any]:
    """What the flags of a command line say, nested as the settings are; ConfigError in one line."""
    places, words, values, alone = flags(cls), list(args), {}, []
    while words:
        flag, equals, value = words.pop(0).partition("=")
        if not flag.startswith("-"):
            alone.append(flag + equals + value)
            continue
        flag = "output" if flag == "-o" else flag.removeprefix("--").replace("_", "-")
        name = flag if flag in places else flag.removeprefix("no-")
        path, hint = places.get(name, ((), None))
        if hint is None or (name != flag and hint is not bool):
            raise ConfigError(
                f"No flag --{flag}. {did_you_mean(flag, places, '--{}')}All flags: {prog} --help"
            )
        if equals and hint is bool:
            raise ConfigError(f"--{flag}={value}: it takes no value. Use --{name} or --no-{name}.")
        following = [value] if equals else list(takewhile(lambda word: not word.startswith("--"), words))
        if get_origin(hint) not in (dict, tuple):
            following = following[: hint is not bool]
        del words[: 0 if equals else len(following)]
        place = values
        for part in path[:-1]:
            place = place.setdefault(part, {})
        if get_origin(hint) is dict and path[-1] in place:
            raise ConfigError(f"--{flag} is given twice. Put all pairs behind one --{flag} KEY=VALUE ...")
        place[path[-1]] = flag == name if hint is bool else read_words(following, hint, f"--{flag}")
    if alone:
        place = POSITIONAL.get(cls)
        if place is None:
            raise ConfigError(f"{alone[0]!r} belongs to no flag. All flags: {prog} --help")
        values[place] = read_words(alone, get_type_hints(cls)[place], place)
    return values


def read_words(words: Sequence[str], hint: Any, where: str) -> Any:
    """The words behind a flag as the annotated type; ConfigError for those that it cannot be."""
    several = get_origin(hint) in (dict, tuple)
    if len(words) != 1 and not (several and words):
        kind = "KEY=VALUE pair" if get_origin(hint) is dict else "value"
        count = f"at least one {kind}" if several else f"one {kind}"
        raise ConfigError(f"{where} takes {count}, not {' '.join(words) or 'none'}.")
    if get_origin(hint) is dict:
        return parse_pairs(words, where)
    return convert(words if several else words[0], hint, where)


def flags(cls: type, path: tuple[str, ...] = ()) -> dict[str, tuple[tuple[str, ...], Any]]:
    """Every flag of a command without the dashes in front: its place among the settings and its type."""
    places: dict[str, tuple[tuple[str, ...], Any]] = {}
    for name, hint in get_type_hints(cls).items():
        inner = (*path, name)
        places |= flags(hint, inner) if is_dataclass(hint) else {name.replace("_", "-"): (inner, hint)}
    return places


def run_train(over: Sequence[Layer]) -> None:
    """Trains, or with --dry-run shows the settings and ends, in the first process alone."""
    from spg_trainer import algorithms

    config = apply(Config(), over)
    if config.dry_run and rank() > 0:
        return
    algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    try:
        check(config, algorithm, processes)
    except ConfigError as error:
        raise on_all(error) from None
    if config.dry_run:
        settled = replace(refuse_early(config), dry_run=False)
        numbers = arithmetic(settled, algorithm, processes)
        sys.stdout.write(f"{with_origins(settled, over)}\n# {numbers}\n")
        return
    quiet_libraries()
    from spg_trainer.training.loop import train

    train(replace(config, config=None))
    leave_processes()


def leave_processes() -> None:
    """Takes this process out of its group, or a thread of gloo may abort it as it ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()


def refuse_early(config: Config) -> Config:
    """The settled settings of a training; raises for all that can be refused without opening the weights."""
    from spg_trainer.evaluation.evaluate import make_env
    from spg_trainer.models.resolve import resolve_model
    from spg_trainer.rollout.pairs import read_pairs, settle_pairs
    from spg_trainer.rollout.sampler import get_decoder
    from spg_trainer.rollout.sources import check_prompts
    from spg_trainer.runs.tracking import check_trackers

    config = settle_pairs(replace(config, model=settle(config.model)))
    env = make_env(config, "train")
    if config.pairs:
        read_pairs(config.pairs)
    else:
        check_prompts(config.batch.prompts_per_step, len(env), env.spec_name)
    resolve_model(config.model.model, config.env)
    get_decoder(config.rollout.remasking)
    check_trackers(config.output.track)
    return config


def quiet_libraries() -> None:
    """Our own messages only: transformers draws progress bars for every file it touches."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

"""The command line: `python -m spg_trainer [eval | diff | sft | compare | report | merge | push | lm-eval] ...`;
without a word: training.

A mistake of the user ends in one line and exit status 2; tracebacks are for bugs.
"""

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import tyro

from spg_trainer import __version__
from spg_trainer.distributed import rank
from spg_trainer.errors import ConfigError, SpgError, did_you_mean
from spg_trainer.models.adapters import settle
from spg_trainer.settings import packages
from spg_trainer.settings.fields import (
    FIELDS,
    CompareCommand,
    Config,
    DiffCommand,
    EvalCommand,
    MergeCommand,
    PushCommand,
    ReportCommand,
    SftCommand,
    arithmetic,
    check,
)
from spg_trainer.settings.sources import CONFIG, SFT, defaults, to_yaml

PROG = "python -m spg_trainer"
COMMANDS = {
    "eval": (EvalCommand, "evaluation.command", "run_eval"),
    "diff": (DiffCommand, "evaluation.diff", "run_diff"),
    "sft": (SftCommand, "sft.command", "sft"),
    "compare": (CompareCommand, "reporting.compare", "compare"),
    "report": (ReportCommand, "reporting.page", "write"),
    "merge": (MergeCommand, "merging", "merge"),
    "push": (PushCommand, "pushing", "push"),
}
"""{word: its settings, and the module and name of what it runs}; without a word it is `Config` and `train`."""
OTHERS = (
    "Other commands: eval (measure a model), diff (two evaluations, problem by problem), sft (make a base model from "
    "demonstrations), compare (many runs, one table), report (runs as one HTML page), merge (adapter into base), "
    "push (a model with its card to the Hub), lm-eval (a model on the tasks of "
    "lm-evaluation-harness); each has its own --help."
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0 done, 1 a run of `compare` failed, 2 a mistake that the
    message explains, 130 stopped.
    """
    open_closed_streams()
    args = list(sys.argv[1:] if argv is None else argv)
    word = args.pop(0) if args and not args[0].startswith("-") else ""
    try:
        if not word and "--version" in args:
            sys.stdout.write(f"spg-trainer {__version__}\n")
            return 0
        if not word:
            run_train(parse(Config, args, PROG, OTHERS))
            return 0
        known = (*COMMANDS, "lm-eval")
        if word not in known:
            hint = did_you_mean(word, known)
            raise ConfigError(
                f"No command {word!r}. {hint}Known: {', '.join(known)}; without one, --env ENV trains."
            )
        if word != "eval" and int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ConfigError(f"{PROG} {word} runs in one process. Start it without a launcher.")
        if word == "lm-eval":  # its flags are lm-eval's own
            import_module("spg_trainer.evaluation.lm_eval").main(args)
            return 0
        cls, module, name = COMMANDS[word]
        if word == "compare":
            command, more = read_compare(args)
            return getattr(import_module(f"spg_trainer.{module}"), name)(command, more)
        if word in ("diff", "report", "merge", "push"):
            check_flags(cls, args, f"{PROG} {word}")
            command = read_flags(cls, args, cls(), f"{PROG} {word}")
        else:
            command = parse(cls, args, f"{PROG} {word}")
        if word not in ("diff", "report"):
            quiet_libraries()
        getattr(import_module(f"spg_trainer.{module}"), name)(command)
        leave_processes()
    except KeyboardInterrupt:  # a training has said what it saved
        saved = {
            "compare": "Finished steps are saved; continue with the same command.",
            "sft": "Continue from the last evaluation with sft --resume and the folder, if there was one.",
        }
        sys.stderr.write(f"\nStopped. {saved.get(word, '')}".rstrip() + "\n")
        return 130
    except (SpgError, ImportError, *packages.errors()) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def open_closed_streams() -> None:
    """Gives a command that was started with `>&-` or `2>&-` a place for its words, or the next file becomes it."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))


def parse(cls: type, args: Sequence[str], prog: str, more: str = "") -> Any:
    """The settings of a command, from presets, files and flags (`settings.py`)."""
    check_flags(cls, args, prog)
    named = {name: peek(args, name) for name in ("env", "model", "algorithm", "config")}
    written = SFT if cls is SftCommand else CONFIG
    level = next((word.partition("=")[2] for word in args if word.startswith("level=")), None)
    base = defaults(cls, **named, lora_r=peek(args, "lora-r"), level=level, run=resumed(args, written))
    given = read_flags(cls, args, base, prog, more)
    packages.envs.resolve(given.env)  # a mistyped name is told before torch is loaded, which takes seconds
    pairs = {f.name for f in fields(given) if isinstance(getattr(given, f.name), dict)}
    return replace(given, **{name: {**getattr(base, name), **getattr(given, name)} for name in pairs})


def read_flags(cls: type, args: Sequence[str], base: Any, prog: str, more: str = "") -> Any:
    """`base` with what the flags say; ConfigError in one line for a value that cannot be read."""
    messages = io.StringIO()
    about = f"{str(cls.__doc__).partition(FIELDS)[0]} {more}".strip()
    markers = (tyro.conf.OmitArgPrefixes,)
    try:
        with redirect_stderr(messages):
            return tyro.cli(cls, args=list(args), default=base, prog=prog, description=about, config=markers)
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(f"{first_paragraph(messages.getvalue())} All flags: {prog} --help") from None


def read_compare(args: Sequence[str]) -> tuple[CompareCommand, Sequence[str]]:
    """The settings of `compare`, in front of ` -- `, and the flags of every training, behind it."""
    end = args.index("--") if "--" in args else len(args)
    prog = f"{PROG} compare"
    check_flags(CompareCommand, args[:end], prog)
    return read_flags(CompareCommand, args[:end], CompareCommand(), prog), args[end + 1 :]


def peek(args: Sequence[str], name: str) -> str | None:
    """The value of `--name VALUE` or `--name=VALUE` on a command line, the last one; None if absent."""
    last = None
    for i, text in enumerate(args):
        flag, equals, value = text.partition("=")
        if flag.replace("_", "-") == f"--{name}":  # tyro reads --output_dir as --output-dir
            last = value if equals else args[i + 1] if i + 1 < len(args) else last
    return last


def resumed(args: Sequence[str], name: str = CONFIG) -> str | None:
    """The folder whose own settings, the file `name` in it, a command line continues from; None if it starts afresh."""
    resume = peek(args, "resume")
    folder = peek(args, "output-dir") if resume == "auto" else resume
    if folder is None:
        return None
    place = Path(folder).resolve()  # a run folder, one of its checkpoints, or a superseded one
    return next((str(p) for p in (place, *list(place.parents)[:3]) if (p / name).is_file()), None)


def flags(settings: Any) -> dict[str, bool]:
    """Every flag of a command, without the dashes in front, and whether it takes KEY=VALUE pairs."""
    known: dict[str, bool] = {"help": False}
    for field in fields(settings):
        value, flag = getattr(settings, field.name), field.name.replace("_", "-")
        known |= flags(value) if is_dataclass(value) else {flag: isinstance(value, dict)}
        if isinstance(value, bool):
            known[f"no-{flag}"] = False
    return known


def check_flags(cls: type, args: Sequence[str], prog: str) -> None:
    """Raises ConfigError for a flag that does not exist, and for pairs given twice, of which the last would win."""
    known, seen = flags(cls()), set()
    for word in args:
        flag = word.partition("=")[0].replace("_", "-").removeprefix("--")
        if not word.startswith("--") or flag.startswith("tyro-"):
            continue
        if flag not in known:
            hint = did_you_mean(flag, known, shown_as="--{}")
            raise ConfigError(f"No flag --{flag}. {hint}All flags: {prog} --help")
        if flag in seen and known[flag]:
            raise ConfigError(f"--{flag} is given twice. Put all pairs behind one --{flag} KEY=VALUE ...")
        seen.add(flag)


def first_paragraph(box: str) -> str:
    """What tyro's framed message says first, as one line without the frame."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │╭╮╰╯") for line in text.splitlines()][1:]  # the first is its title
    rules = [number for number, line in enumerate(lines) if not line.strip("─-")]
    first = 1 if 0 in rules else 0
    last = next((number for number in rules if number > first), len(lines))
    return " ".join(lines[first:last]).removeprefix("Error parsing ").rstrip(".") + "."


def run_train(config: Config) -> None:
    """Trains, or with --dry-run shows the settings and ends, in the first process alone."""
    from spg_trainer import algorithms

    if config.dry_run and rank() > 0:
        return
    algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    check(config, algorithm, processes)
    if config.dry_run:
        config = refuse_early(config)
        numbers = arithmetic(config, algorithm, processes)
        sys.stdout.write(f"{to_yaml(replace(config, dry_run=False))}\n# {numbers}\n")
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
    from spg_trainer.models.source import resolve_model
    from spg_trainer.rollout.pairs import read_pairs, settle_pairs
    from spg_trainer.rollout.sampler import get_decoder
    from spg_trainer.rollout.sources import check_prompts
    from spg_trainer.runs.tracking import check_trackers

    config = settle_pairs(replace(config, model=settle(config.model)))
    env = make_env(config, "train")
    if config.pairs:
        read_pairs(config.pairs)
    else:
        check_prompts(config.batch.prompts_per_step, env)
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

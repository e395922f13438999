"""The command line: `python -m spg_trainer [eval | sft] --env ENV ...`; without a word it trains.

Errors that a user can mend end in one line and exit status 2; tracebacks are for bugs.
"""

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import tyro

from spg_trainer.config import Config, EvalCommand, SftCommand
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.resolve import defaults, peek

PROG = "python -m spg_trainer"
OTHERS = "Other commands: eval (measure a model), sft (make a base model from demonstrations); each has its own --help."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0 done, 2 a mistake that the message explains, 130 stopped."""
    args = list(sys.argv[1:] if argv is None else argv)
    commands: dict[str, tuple[type, Callable[[Any], None]]] = {
        "eval": (EvalCommand, run_eval),
        "sft": (SftCommand, run_sft),
    }
    word = ""
    try:
        if args and not args[0].startswith("-"):
            word, args = args[0], args[1:]
            if word not in commands:
                near = get_close_matches(word, commands, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise ConfigError(
                    f"No command {word!r}. {hint}Known: eval, sft; without a command, {PROG} --env ENV trains."
                )
            if int(os.environ.get("WORLD_SIZE", "1")) > 1:
                raise ConfigError(f"{PROG} {word} runs in one process. Start it without a launcher.")
            cls, run = commands[word]
            run(parse(cls, args, f"{PROG} {word}"))
        else:
            run_train(parse(Config, args, PROG, OTHERS))
    except KeyboardInterrupt:
        saved = (
            "Stopped."
            if word
            else "Stopped. Finished steps are saved; go on with --resume and the run folder."
        )
        sys.stderr.write(f"\n{saved}\n")
        return 130
    except (SpgError, ImportError) as error:
        return complain(error)
    except Exception as error:
        if any(base.__name__ in ("EnvError", "VerifierError") for base in type(error).__mro__):
            return complain(error)  # raised on purpose by packages that may not be importable here
        raise
    return 0


def complain(error: Exception) -> int:
    """One message on stderr, and the exit status of a mistake."""
    sys.stderr.write(f"error: {error}\n")
    return 2


def parse(cls: type, args: Sequence[str], prog: str, more: str = "") -> Any:
    """The settings of a command, from presets, files and flags (`resolve.py`)."""
    check_flags(cls, args, prog)
    named = {name: peek(args, name) for name in ("env", "model", "algorithm", "config")}
    base = defaults(cls, **named, run=resumed(args))
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            given = tyro.cli(
                cls,
                args=list(args),
                default=base,
                prog=prog,
                description=f"{cls.__doc__} {more}".strip(),
                config=(tyro.conf.OmitArgPrefixes,),
            )
    except SystemExit as end:
        if not end.code:
            raise
        raise ConfigError(f"{first_paragraph(said.getvalue())} All flags: {prog} --help") from None
    return merge_pairs(base, given)


def flags(settings: Any) -> dict[str, bool]:
    """Every flag of a command, e.g. `--max-steps`, and whether it takes KEY=VALUE pairs."""
    found: dict[str, bool] = {"--help": False}
    for name in (f.name for f in fields(settings)):
        value, flag = getattr(settings, name), name.replace("_", "-")
        if is_dataclass(value):
            found |= flags(value)
        else:
            found[f"--{flag}"] = isinstance(value, dict)
            if isinstance(value, bool):
                found[f"--no-{flag}"] = False
    return found


def check_flags(cls: type, args: Sequence[str], prog: str) -> None:
    """Raises ConfigError for a flag that does not exist, and for pairs given twice, of which the last would win."""
    known, seen = flags(cls()), set()
    for word in args:
        flag = word.partition("=")[0].replace("_", "-")
        if not word.startswith("--") or flag.startswith("--tyro-"):
            continue
        if flag not in known:
            near = get_close_matches(flag[2:], [name[2:] for name in known], n=1)
            hint = f"Did you mean --{near[0]}? " if near else ""
            raise ConfigError(f"No flag {flag}. {hint}All flags: {prog} --help")
        if flag in seen and known[flag]:
            raise ConfigError(f"{flag} is given twice. Put all pairs behind one {flag} KEY=VALUE KEY=VALUE.")
        seen.add(flag)


def first_paragraph(box: str) -> str:
    """What tyro's framed message says first, as one line without the frame."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", box)
    lines = [line.strip(" │╭╮╰╯") for line in plain.splitlines()][1:]  # the first is its title
    rules = [number for number, line in enumerate(lines) if not line.strip("─-")]
    first = 1 if 0 in rules else 0
    last = next((number for number in rules if number > first), len(lines))
    return " ".join(lines[first:last]).removeprefix("Error parsing ").rstrip(".") + "."


def merge_pairs(base: Any, given: Any) -> Any:
    """`given` with its KEY=VALUE settings laid over those of `base`, key by key."""
    merged = {
        f.name: {**getattr(base, f.name), **getattr(given, f.name)}
        for f in fields(given)
        if isinstance(getattr(given, f.name), dict)
    }
    return replace(given, **merged)


def resumed(args: Sequence[str]) -> str | None:
    """The run folder whose own settings a command line continues from; None if it starts afresh."""
    resume = peek(args, "resume")
    folder = peek(args, "output-dir") if resume == "auto" else resume
    if folder is None:
        return None
    place = Path(folder).resolve()  # a run folder, one of its checkpoints, or a superseded one
    runs = [p for p in (place, *list(place.parents)[:3]) if (p / "config.yaml").is_file()]
    return str(runs[0]) if runs else None


def run_train(config: Config) -> None:
    """Trains, or with --dry-run shows the settings and ends."""
    from spg_trainer import algorithms
    from spg_trainer.settings import algorithm_args, arithmetic, check, to_yaml

    algorithm = algorithms.build(config.algorithm, algorithm_args(config))
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    check(config, algorithm, processes)
    if config.dry_run:
        try_out(config)
        sys.stdout.write(
            to_yaml(replace(config, dry_run=False))
            + "\n# "
            + arithmetic(config, algorithm.num_masks, processes)
            + "\n"
        )
        return
    quiet_libraries()
    from spg_trainer.training import train

    train(replace(config, config=None))
    if processes > 1:
        from accelerate import PartialState

        PartialState().destroy_process_group()  # or a thread of gloo may abort the process as it ends


def try_out(config: Config) -> None:
    """Raises if environment, rewards, model or trackers of a run cannot be had; opens no weights."""
    from spg_trainer.installed import envs
    from spg_trainer.models.source import resolve_model
    from spg_trainer.tracking import check_trackers

    weights = {"reward_weights": dict(config.reward_weights)} if config.reward_weights else {}
    envs.make(config.env, split="train", **weights, **config.env_args)
    resolve_model(config.model.model, config.env)
    check_trackers(config.output.track)


def run_eval(command: EvalCommand) -> None:
    """Evaluates at each completion length and shows a table."""
    quiet_libraries()
    from spg_trainer.eval_command import evaluate_lengths

    evaluate_lengths(command)


def run_sft(command: SftCommand) -> None:
    """Makes a base model."""
    quiet_libraries()
    from spg_trainer.sft import sft

    sft(command)


def quiet_libraries() -> None:
    """Our own messages only: transformers draws progress bars for every file it touches."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

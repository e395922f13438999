"""The command line: `python -m spg_trainer [eval | sft] --env ENV ...`; without a word it trains.

Errors that a user can mend end in one line and exit status 2; tracebacks are for bugs.
"""

import logging
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
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
    try:
        if args and not args[0].startswith("-"):
            word, args = args[0], args[1:]
            if word not in commands:
                near = get_close_matches(word, commands, n=1)
                hint = f"Did you mean {near[0]!r}? " if near else ""
                raise ConfigError(
                    f"No command {word!r}. {hint}Known: eval, sft; without a command, {PROG} --env ENV trains."
                )
            cls, run = commands[word]
            run(parse(cls, args, f"{PROG} {word}"))
        else:
            run_train(parse(Config, args, PROG, OTHERS))
    except KeyboardInterrupt:
        sys.stderr.write(
            "\nStopped. Finished steps are saved; go on with --resume auto and the same --output-dir.\n"
        )
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
    base = defaults(
        cls, env=peek(args, "env"), model=peek(args, "model"), config=peek(args, "config"), run=resumed(args)
    )
    description = f"{cls.__doc__} {more}".strip()
    given = tyro.cli(
        cls,
        args=list(args),
        default=base,
        prog=prog,
        description=description,
        config=(tyro.conf.OmitArgPrefixes,),
    )
    return merge_pairs(base, given)


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
    run = Path(folder).parent.parent if Path(folder).parent.name == "checkpoints" else Path(folder)
    return str(run) if (run / "config.yaml").is_file() else None


def run_train(config: Config) -> None:
    """Trains, or with --dry-run shows the settings and ends."""
    from spg_trainer import algorithms
    from spg_trainer.settings import arithmetic, check, to_yaml

    algorithm = algorithms.build(config.algorithm, config.algorithm_args)
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    check(config, algorithm, processes)
    if config.dry_run:
        sys.stdout.write(to_yaml(config) + "\n# " + arithmetic(config, algorithm.num_masks, processes) + "\n")
        return
    quiet_libraries()
    from spg_trainer.train import train

    train(config)


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
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

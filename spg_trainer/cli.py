"""The command line: `python -m spg_trainer [eval | generate | diff | sft | compare | report | merge | convert | push |
algorithms | machine | lm-eval] ...`; without a word: training.

A mistake of the user ends in one line and exit status 2; tracebacks are for bugs.
"""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from spg_trainer import __version__, distributed
from spg_trainer.distributed import is_raised_by_all, rank
from spg_trainer.errors import ConfigError, SpgError, did_you_mean, in_flags, written
from spg_trainer.settings import configs, packages
from spg_trainer.settings.check import check
from spg_trainer.settings.flags import HELP, PROG, make_parser
from spg_trainer.settings.resolve import resolve

COMMANDS = {
    "eval": (configs.EvalCommand, "evaluation.command", "run_eval"),
    "generate": (configs.GenerateCommand, "evaluation.generate", "run_generate"),
    "diff": (configs.DiffCommand, "evaluation.diff", "run_diff"),
    "sft": (configs.Config, "training.loop", "train"),
    "compare": (configs.CompareCommand, "reporting.compare", "run_compare"),
    "report": (configs.ReportCommand, "reporting.page", "write"),
    "merge": (configs.MergeCommand, "export", "merge"),
    "convert": (configs.ConvertCommand, "export", "convert"),
    "push": (configs.PushCommand, "export", "push"),
}
"""{word: (its settings, the module and name of the function that it runs)}; without a word: `Config` and `train`."""
STANDS_FOR = {"sft": ("--source", "demonstrations")}
"""{word: the flags that it stands for}."""
OWN_FLAGS = {
    "algorithms": ("checking.command", "main"),
    "lm-eval": ("cli", "lm_eval"),
    "machine": ("runs.machine", "main"),
}
"""Commands that read their flags themselves: {word: (module, name) of the function that takes the further words}."""
LM_EVAL = "pip install 'lm-eval>=0.4.13,<0.5' 'pytablewriter>=1.2' requests"
WITHOUT_LM_EVAL = f"""\
usage: python -m spg_trainer lm-eval run --model spg_llada --model_args pretrained=MODEL --tasks TASK ...

Runs lm-evaluation-harness with a masked diffusion model, decoded by our sampler. All flags are the harness's own. They
are shown here once it is installed:

  {LM_EVAL}

Tasks whose answers are generated (gsm8k) and tasks whose choices are ranked by their log-likelihood (arc_easy,
hellaswag, mmlu) can stand in one command. --model_args takes what the flags of training take: pretrained, env,
max_completion_length, block_length, diffusion_steps, cache, ..., and num_masks for log-likelihoods.
"""
"""What `lm-eval --help` shows where lm-evaluation-harness is not installed."""
WORDS = (*COMMANDS, *OWN_FLAGS)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status: 0 done, 1 a run of `compare` failed, 2 a mistake that the
    message explains, 130 stopped.
    """
    for name in ("stdout", "stderr"):  # if closed (`>&-`), the next file opened would get its descriptor
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))
    args = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    word = args.pop(0) if args and not args[0].startswith("-") else ""
    try:
        return run_command(word, args)
    except KeyboardInterrupt as error:
        say_once(error, "\nStopped.\n")
        return 130
    except (SpgError, ImportError, *packages.errors()) as error:
        say_once(error, f"error: {in_flags(written(error))}\n")
        return 2
    except BrokenPipeError:  # the reader of the output, e.g. `head`, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def say_once(error: BaseException, text: str) -> None:
    """Writes to standard error; an error that all processes raised is written by the first process alone."""
    if rank() == 0 or not is_raised_by_all(error):
        sys.stderr.write(text)


def run_command(word: str, args: Sequence[str]) -> int:
    """Runs the command of a word, "" for training; returns the exit status."""
    if not word and "--version" in args:
        sys.stdout.write(f"spg-trainer {__version__}\n")
        return 0
    if word and word not in WORDS:
        nearest = did_you_mean(word, WORDS)
        if word in ("envs", "verifiers"):
            nearest = f"That is `python -m {word}`. "
        raise ConfigError(
            f"No command {word!r}. {nearest}Known: {', '.join(WORDS)}; without one, --env ENV trains."
        )
    if word not in ("", "eval", "sft") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(f"{PROG} {word} runs in one process. Start it without a launcher.")
    if word in OWN_FLAGS:
        module, name = OWN_FLAGS[word]
        return getattr(import_module(f"spg_trainer.{module}"), name)(args) or 0
    cls, module, name = COMMANDS.get(word, (configs.Config, "training.loop", "train"))
    own_args, args_of_runs = [*STANDS_FOR.get(word, ()), *args], []
    if word == "compare" and "--" in args:  # the flags behind ` -- ` are for the trainings that it starts
        place = args.index("--")
        own_args, args_of_runs = args[:place], args[place + 1 :]
    if HELP & {*own_args}:
        help_and_exit(cls, resolve(cls, own_args).config, word)
    with packages.verifiers.user_code.exit_is_error():  # from here on, only a user's own code may exit
        if cls is configs.Config:
            run_train(own_args)
            return 0
        resolved = resolve(cls, own_args)
        has_layers = issubclass(cls, (configs.TaskSettings, configs.GenerateCommand))
        check(resolved.config, resolved.origins)  # before anything is imported that takes seconds
        if has_layers or word in ("merge", "convert"):
            quiet_libraries()
        command = getattr(import_module(f"spg_trainer.{module}"), name)
        if word == "compare":
            return command(resolved.config, args_of_runs)
        command(resolved if has_layers else resolved.config)
        leave_processes()
        return 0


def help_and_exit(cls: Any, shown: Any, word: str) -> None:
    """Shows the help of a command, with the values of `shown` as defaults, and ends the process (SystemExit)."""
    note = "" if word else f"Other commands, each with its own --help: {', '.join(WORDS)}. "
    if word in STANDS_FOR:
        note = f"This is training with {' '.join(STANDS_FOR[word])}, and the recipe that belongs to it. "
    if isinstance(shown, configs.TaskSettings):
        note += f"The defaults below are those of --env {shown.env}. For another task or model, write it before --help."
    try:
        make_parser(cls, shown, note, word).parse_args(["--help"])
    finally:
        sys.stdout.flush()  # here `main` still handles a reader of the output that has ended


@contextmanager
def collecting_no_garbage() -> Iterator[None]:
    """Turns the garbage collector off inside: it takes a tenth of the time of imports, and finds nothing there."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def run_train(words: Sequence[str]) -> None:
    """Trains. With --dry-run, the first process shows the plan instead, and all processes end."""
    plan = import_module("spg_trainer.training.plan")
    with collecting_no_garbage():
        planned = plan.settle(words)
        if planned.config.dry_run:
            if rank() == 0:
                dry_run = import_module("spg_trainer.training.dry_run")
                sys.stdout.write(in_flags(dry_run.show(planned)))
            return
    quiet_libraries()
    import_module("spg_trainer.training.loop").train(planned)
    leave_processes()


def lm_eval(args: Sequence[str]) -> None:
    """lm-evaluation-harness's own command line, with our models added as `spg_llada`, on a GPU if there is one.

    Raises ImportError where the harness is not installed.
    """
    if find_spec("lm_eval") is None:
        if HELP & {*args}:
            sys.stdout.write(WITHOUT_LM_EVAL)
            return
        raise ImportError(f"lm-evaluation-harness is not installed: {LM_EVAL}")
    from lm_eval.__main__ import cli_evaluate

    import_module("spg_trainer.evaluation.lm_eval")  # adds `spg_llada` to the harness's models
    # The harness's own default is a GPU, which may not be there.
    is_our_model = any("spg_llada" in word for word in args)
    names_device = any(word.startswith("--device") for word in args)
    device = ["--device", "auto"] if is_our_model and not names_device else []
    sys.argv = ["lm-eval", *args, *device]
    cli_evaluate()


def leave_processes() -> None:
    """Takes this process out of its group; else a thread of gloo may abort the process as it ends."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from accelerate import PartialState

        # This object holds the models, and they keep the group and its threads alive.
        distributed.lockstep = None
        gc.collect()
        PartialState().destroy_process_group()


def quiet_libraries() -> None:
    """Silences the progress bars and notes of transformers, peft and bitsandbytes."""
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers|peft")
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    # bitsandbytes would complain of missing kernels, even where only peft imports it.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()

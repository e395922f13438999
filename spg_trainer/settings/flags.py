"""Reads the words of a command line: tyro finds the flags of the dataclasses in `fields.py`, `values.py` converts
values.

Only what tyro documents is used. The text of --help is made in `help.py`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import is_dataclass
from functools import cache
from itertools import chain, takewhile
from typing import Annotated, Any, get_origin

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.decoding import at_rate
from spg_trainer.settings.fields import CompareCommand, Config
from spg_trainer.settings.task import Task, join_tasks, parse_tasks
from spg_trainer.settings.values import convert, parse_pairs, settings_of

PROG = "python -m spg_trainer"
HELP = {"-h", "--help"}
ELSEWHERE = {
    "learning-rate": "lr",
    "max-steps": "steps epochs num-train-epochs",
    "prompts-per-step": "batch-size",
    "per-device-batch-size": "per-device-train-batch-size",
    "model": "model-name-or-path",
    "env": "dataset dataset-name task",
    "max-completion-length": "max-new-tokens gen-length",
}
"""{a flag of ours: what TRL and published code call it}, for the advice after an unknown flag."""
SHORT = {"--verifier": "verifier", "--reward": "reward", "--bad-rows": "bad_rows"}
"""{a flag: the argument of the environment that it is short for}: `--verifier gsm8k` is `--env-args verifier=gsm8k`."""
TOKENS_PER_STEP = "--tokens-per-step"
"""A flag that is short for a number of denoising steps: `--tokens-per-step 2` is `--diffusion-steps length/2`."""


class Words(list[str]):
    """The words behind a flag, as they were typed; the type that tyro is told for every flag but a switch."""


Shape = Callable[[Any, Any], list[Any]]
"""A function that takes a dataclass and its values, and returns tyro's fields for it."""


def as_flag(name: str) -> str:
    """`optimizer.learning_rate` -> `--learning-rate`."""
    return f"--{name.rpartition('.')[2].replace('_', '-')}"


def read_words(cls: Any, words: Sequence[str]) -> dict[str, Any]:
    """What a command line says: {name of a setting: the word or words behind its flag, or its KEY=VALUE pairs}.

    Raises ConfigError for an unknown flag, a flag without its value, and words that belong to no flag.
    """
    words = [word for word in words if word not in HELP]
    if "env_args" in settings_of(cls):
        words = with_arguments_of_rows(words)
    if takes_tokens_per_step(cls):
        words = with_steps(words)
    quiet = {"add_help": False, "console_outputs": False}
    # `typed` holds for each flag a list, with the words behind it for each time that it was typed; for a switch a bool.
    typed, left_over = run_tyro(cls, words, typed_flags, return_unknown_args=True, **quiet)
    parsed: dict[str, Any] = {}
    for name, occurrences in typed.items():
        if occurrences is None or occurrences == []:  # the flag was not typed
            continue
        _, hint = settings_of(cls)[name]
        kind = kind_of(hint)
        if kind is bool:
            parsed[name] = occurrences
            continue
        last = occurrences[-1]
        check_behind(cls, name, kind, last)
        if kind is dict:
            parsed[name] = parse_pairs([*chain(*occurrences)], as_flag(name))
        elif kind is tuple:
            parsed[name] = last
        elif name == "env":
            parsed[name] = join_tasks(last)
        else:
            parsed[name], *more = last
            left_over += more
    refuse_unknown(cls, left_over)
    if left_over and cls.positional:
        _, hint = settings_of(cls)[cls.positional]
        if kind_of(hint) is tuple:  # it takes all words
            parsed[cls.positional], left_over = left_over, []
        else:
            parsed[cls.positional], *left_over = left_over
    if left_over:
        refuse_without_flag(cls, left_over[0], words)
    return parsed


def kind_of(hint: Any) -> Any:
    """`dict` for `dict[str, object]`, `tuple` for `tuple[int, ...]`; another type as it is."""
    return get_origin(hint) or hint


def check_behind(cls: Any, name: str, kind: Any, words: Sequence[str]) -> None:
    """Raises ConfigError if a flag that takes a value has no `words` behind it, or an empty one."""
    if not words:
        how_many = "at least one argument" if kind in (dict, tuple) else "one argument"
        raise ConfigError(f"{as_flag(name)}: expected {how_many}. {all_flags(cls)}")
    if "" in words:
        raise ConfigError(f"{as_flag(name)} '': expected a value. Leave the flag out for its default.")


def refuse_without_flag(cls: Any, word: str, words: Sequence[str]) -> None:
    """Raises ConfigError for a word that belongs to no flag.

    tyro leaves the word `yes` of `--dry-run=yes` over too: the message then says that a switch takes no value.
    """
    switch = next((typed.partition("=")[0] for typed in words if typed.endswith(f"={word}")), "")
    advice = f" {switch} takes none: write it alone, or --no-{switch[2:]}." if switch else ""
    raise ConfigError(f"{word!r} belongs to no flag.{advice} {all_flags(cls)}")


def with_arguments_of_rows(words: Sequence[str]) -> list[str]:
    """The words with `--env-args NAME=VALUE` in place of each flag of `SHORT`."""
    result, rest = [], iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag not in SHORT:
            result.append(word)
            continue
        if not equals:
            value = next(rest, "")
        if not value or value.startswith("--"):
            example = "./mine.py:brevity" if flag == "--reward" else "gsm8k"
            raise ConfigError(f"{flag}: expected one argument, e.g. {flag} {example}.")
        tasks = tasks_among(words)
        if len(tasks) == 1 and ":" not in str(tasks[0]) and not is_rows(tasks[0]):
            raise ConfigError(
                f"{flag} {value}: {tasks[0].env} judges its answers itself. {flag} is for a file of your own rows, "
                f"e.g. --env rows.jsonl {flag} {value}."
            )
        # Among several tasks, an argument begins with the name of its task; a single task has no name.
        prefixes = [f"{task.name}." for task in tasks if task.name and is_rows(task)] or [""]
        result += ["--env-args", *(f"{prefix}{SHORT[flag]}={value}" for prefix in prefixes)]
    return result


def is_rows(task: Task) -> bool:
    """Whether a task is a file of the user's own rows."""
    return packages.envs.rows.names_file(task.env)


def takes_tokens_per_step(cls: Any) -> bool:
    """Whether a command has --tokens-per-step, which is short for its --diffusion-steps."""
    return "diffusion_steps" in settings_of(cls)


def with_steps(words: Sequence[str]) -> list[str]:
    """The words with `--diffusion-steps=length/N` in place of `--tokens-per-step N`; ConfigError for both."""
    result, rest = [], iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag.replace("_", "-") != TOKENS_PER_STEP:
            result.append(word)
            continue
        if not equals:
            value = next(rest, "")
        if not value or value.startswith("--"):
            raise ConfigError(f"{TOKENS_PER_STEP}: expected one argument, e.g. {TOKENS_PER_STEP} 2.")
        rate = convert(value, float, TOKENS_PER_STEP)
        if rate <= 0:
            raise ConfigError(f"{TOKENS_PER_STEP} {rate}: should be above 0.")
        if any(other.partition("=")[0] == "--diffusion-steps" for other in words):
            raise ConfigError(
                f"{TOKENS_PER_STEP} {value} and --diffusion-steps say the same thing. Leave one of them out."
            )
        result.append(f"--diffusion-steps={at_rate(rate)}")
    return result


def tasks_among(words: Sequence[str]) -> tuple[Task, ...]:
    """The tasks that the words name behind --env."""
    place_of_flag = next((place for place, word in enumerate(words) if word == "--env"), len(words))
    behind_flag = takewhile(lambda word: not word.startswith("--"), words[place_of_flag + 1 :])
    return parse_tasks(join_tasks(behind_flag))


def refuse_unknown(cls: Any, left_over: Sequence[str]) -> None:
    """Raises ConfigError for a flag among the words that no flag has taken; the error names the nearest known one."""
    flag = next((word for word in left_over if re.match(r"--?[A-Za-z]", word)), "").partition("=")[0]
    if not flag:
        return
    typed = flag.lstrip("-").replace("_", "-")
    dashes = "-" if len(typed) == 1 else "--"
    ours = next((ours for ours, theirs in ELSEWHERE.items() if typed in theirs.split()), typed)
    known = [as_flag(setting).removeprefix("--") for setting in settings_of(cls)]
    if takes_tokens_per_step(cls):
        known.append(TOKENS_PER_STEP.removeprefix("--"))
    if "env_args" in settings_of(cls):
        known += [short.removeprefix("--") for short in SHORT]
    nearest = did_you_mean(ours, known, "--{}")
    if cls is CompareCommand and (f"--{ours}" in SHORT or ours.replace("-", "_") in settings_of(Config)):
        nearest += "Flags of training stand last, behind ` -- `. "
    raise ConfigError(f"No flag {dashes}{typed}. {nearest}{all_flags(cls)}")


def all_flags(cls: Any) -> str:
    """A sentence that says where the flags of a command are listed."""
    return f"All flags: {program(cls)} --help"


def program(cls: Any) -> str:
    """What is typed to start a command, e.g. `python -m spg_trainer eval`."""
    return f"{PROG} {cls.word}".rstrip()


def run_tyro(cls: Any, words: Sequence[str], shape: Shape, **options: Any) -> Any:
    """Calls tyro on a command; `shape` says which flags each of its dataclasses has."""
    import tyro

    options |= {"registry": registry(shape), "config": (tyro.conf.OmitArgPrefixes,)}
    return tyro.cli(cls, **{"prog": program(cls), "args": words, **options})


@cache
def registry(shape: Shape) -> Any:
    """The rules for tyro: it reads a dataclass into a dict of the fields that `shape` gives, and flags into `Words`."""
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, StructConstructorSpec

    rules = ConstructorRegistry()

    @rules.primitive_rule
    def words(info: Any) -> PrimitiveConstructorSpec | None:
        return PrimitiveConstructorSpec("*", "", Words, lambda _: True, list) if info.type is Words else None

    @rules.struct_rule
    def settings(info: Any) -> StructConstructorSpec | None:
        if not is_dataclass(info.type):
            return None
        return StructConstructorSpec(dict, tuple(shape(info.type, info.default)))

    return rules


def typed_flags(cls: Any, _: Any) -> list[Any]:
    """tyro's fields for reading a command line: all settings on one level, and a flag may be typed several times."""
    from tyro import MISSING, conf
    from tyro.constructors import StructFieldSpec

    found = []
    for name, (_, hint) in settings_of(cls).items():
        if hint is bool:
            found.append(StructFieldSpec(name, conf.DisallowNone[bool | None], None))
        elif name != cls.positional:
            found.append(StructFieldSpec(name, flag(conf.UseAppendAction[list[Words]], name), MISSING))
    return found


def flag(kind: Any, name: str, metavar: str | None = None) -> Any:
    """The type `kind` with tyro's marks for a flag: `metavar` is shown for its value, and `--output` is also `-o`."""
    from tyro import conf

    return Annotated[kind, conf.arg(aliases=["-o"] if name == "output" else None, metavar=metavar)]

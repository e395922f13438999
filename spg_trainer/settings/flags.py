"""The flags of each command, made from its dataclass in `configs.py` with argparse: reads them, and writes --help."""

import argparse
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import dropwhile
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from spg_trainer.errors import SETTINGS, ConfigError, as_flag, did_you_mean
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.configs import CompareCommand, Config
from spg_trainer.settings.decoding import Decoding, steps_at_rate
from spg_trainer.settings.task import (
    ARGUMENTS,
    arguments_of,
    is_rows,
    join_tasks,
    parse_tasks,
    refuse_rows_arguments,
)
from spg_trainer.settings.types import (
    OwnFunction,
    Positive,
    convert,
    docstrings,
    hints,
    parse_pairs,
    settings_of,
    settings_value,
    summary,
)

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
    "importance-sampling-mode": "vllm-importance-sampling-mode",
    "importance-sampling-cap": "vllm-importance-sampling-cap",
}
"""{our flag: its names in TRL and published code}, for the advice after an unknown flag."""
RATE = "tokens_per_step"
"""The flag that is short for a number of denoising steps: `--tokens-per-step 2` is `--diffusion-steps length/2`."""
SHORT = {
    "verifier": (
        "env_args",
        "NAME",
        "The verifier that judges a file of your own rows, e.g. text or gsm8k, or ./mine.py:TASK of your own; short "
        "for --env-args verifier=NAME.",
    ),
    "reward": (
        "env_args",
        "FILE:FUNCTION",
        "A reward function of your own with TRL's signature, for a file of your own rows, e.g. ./mine.py:brevity. "
        "Several are given as ./mine.py:brevity+style and weighed by --reward-weights. Short for --env-args "
        "reward=FILE:FUNCTION.",
    ),
    "bad_rows": (
        "env_args",
        "{refuse,skip}",
        "What becomes of a file of your own rows in which some cannot be used: it is refused, or they are left out, "
        "counted and listed in FILE.bad-rows.txt. Short for --env-args bad_rows=NAME.",
    ),
    RATE: (
        "diffusion_steps",
        "N",
        "The number of tokens that a denoising step unmasks; short for --diffusion-steps length/N. Higher values are "
        "faster and less accurate.",
    ),
}
"""{flag that is short for another one: (the setting of that one, the placeholder of its value, its help)}."""
SETTINGS.update(SHORT)  # messages name these flags as `$verifier`, too


class Parser(argparse.ArgumentParser):
    """A parser whose mistakes are errors of ours."""

    def error(self, message: str) -> Any:
        text = message.removeprefix("argument ").replace(
            "ignored explicit argument", "takes no value, but got"
        )
        raise ConfigError(f"{text}. All flags: {self.prog} --help")


class _Layout(argparse.HelpFormatter):
    """Each flag stands on its own line, above its text."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=6)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        return str(action.metavar or default_metavar)


def make_parser(cls: Any, shown: Any = None, note: str = "", word: str = "") -> argparse.ArgumentParser:
    """The parser of the flags of a command; a flag that is not typed gets no value.

    shown: for --help, an instance of `cls`, whose values are shown as defaults; None = the parser has no texts. note:
    stands below the command's summary. word: the command's word, if that is not the word of its class.
    """
    prog = f"{PROG} {word or cls.word}".rstrip()
    positional = f" {cls.positional.upper()}" if cls.positional else ""
    parser = Parser(
        prog=prog,
        usage=f"{prog} [-h] [OPTIONS]{positional}",
        description=f"{summary(cls)} {note}".rstrip() if shown else None,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Layout,
        allow_abbrev=False,
    )
    # Settings of a group that the help shows at the top, e.g. --model in that of `eval`, come first; and in a group
    # about decoding, lengths and steps come before the settings that any decoding has.
    first, of_any_decoding, known = getattr(cls, "first", ()), hints(Decoding), settings_of(cls)
    groups: dict[str, Any] = {"": parser}
    for name in sorted(dict.fromkeys([*first, *known]), key=lambda name: name in of_any_decoding):
        path, _, _ = known[name][0].rpartition(".")
        owner, values = (hints(cls)[path], getattr(shown, path, None)) if path else (cls, shown)
        if path not in groups and name not in first:
            groups[path] = parser.add_argument_group(f"{path} options", summary(owner) if shown else None)
        group = groups["" if name in first else path]
        names, options = [as_flag(name)], options_of(name, known[name][1])
        if name == cls.positional:
            # In reading, what belongs to no flag is found between flags, too, where argparse finds none.
            if not shown:
                continue
            names, options = [name], {"metavar": name.upper(), "nargs": "*"}
        elif name == "output":
            names = ["-o", *names]
        if shown:
            default = "" if name == cls.positional else f" (default: {as_words(getattr(values, name))})"
            text = f"{docstrings(owner).get(name, '')}{default}"
            options["help"] = text.replace("%", "%%")  # argparse fills in %(default)s and the like
        group.add_argument(*names, **options)
        for short, (setting, placeholder, text) in SHORT.items():
            if setting == name:
                group.add_argument(as_flag(short), metavar=placeholder, help=f"{text} (default: unset)")
    return parser


def options_of(name: str, hint: Any) -> dict[str, Any]:
    """How argparse reads the words behind a flag, with their placeholder: `{none,phase}`, `KEY=VALUE ...`, the name."""
    kind = get_origin(hint) or hint
    if kind is bool:
        return {"action": argparse.BooleanOptionalAction}
    if kind is dict:
        return {"metavar": "KEY=VALUE ...", "nargs": "+", "action": "extend"}
    # In `Count | Literal["auto"]` and `tuple[Literal[...], ...]` the choices are one level down.
    choices = [
        word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)
    ]
    if choices and kind in (Union, UnionType):
        choices = [*choices, "./mine.py:NAME"] if OwnFunction in get_args(hint) else ["N", *choices]
    several = {"nargs": "+"} if kind is tuple or name == "env" else {}
    return {"metavar": f"{{{','.join(choices)}}}" if choices else name.upper(), **several}


def as_words(value: Any) -> str:
    """The words that one would type for a default; `unset` for None."""
    if value is None or value in ((), {}):
        return "unset"
    if isinstance(value, dict):
        return " ".join(f"{key}={item}" for key, item in value.items())
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def read_words(cls: Any, words: Sequence[str]) -> dict[str, Any]:
    """{name of a setting: the word or words behind its flag, or its KEY=VALUE pairs} from a command line.

    A flag may be typed several times: the last one counts, but pairs are merged. Raises ConfigError for an unknown
    flag, a flag without its value, and words that belong to no flag.
    """
    # A flag may be typed with underscores, as its name is in Python.
    dashes = [re.sub(r"^--[a-z][\w-]*", lambda flag: flag[0].replace("_", "-"), word) for word in words]
    parser, known = make_parser(cls), settings_of(cls)
    typed, left_over = parser.parse_known_args([word for word in dashes if word not in HELP])
    parsed = vars(typed)
    for name, value in parsed.items():
        if value in ("", [""]):  # an empty word, as from `--env ""`
            raise ConfigError(f"{as_flag(name)} '': expected a value. Leave the flag out for its default.")
        if name in known and get_origin(known[name][1]) is dict:
            parsed[name] = parse_pairs(value, as_flag(name))
        elif name == "env" and known[name][1] is str:
            parsed[name] = join_tasks(value)
    refuse_unknown(cls, left_over, parsed)
    if left_over and cls.positional:
        takes_all = get_origin(known[cls.positional][1]) is tuple
        parsed[cls.positional] = left_over if takes_all else left_over.pop(0)
        left_over = [] if takes_all else left_over
    if left_over:
        raise ConfigError(f"{left_over[0]!r} belongs to no flag. All flags: {parser.prog} --help")
    return without_short(parsed)


def refuse_unknown(cls: Any, left_over: Sequence[str], parsed: Mapping[str, Any]) -> None:
    """Raises ConfigError if a word that belongs to no flag looks like a flag; the error says where its name belongs.

    parsed: the known flags that were typed.
    """
    # The words from the first one on that looks like a flag; `-1` is a number.
    words = [*dropwhile(lambda word: not re.match(r"--?[A-Za-z]", word), left_over)]
    if not words:
        return
    flag, _, value = words[0].partition("=")
    name = flag.lstrip("-")
    ours = next((our_flag for our_flag, theirs in ELSEWHERE.items() if name in theirs.split()), name)
    flags = [as_flag(known).removeprefix("--") for known in flags_of(cls)]
    value = value or next((word for word in words[1:2] if not word.startswith("--")), "...")
    near = did_you_mean(ours, flags, "--{}")
    if ours == name:
        near = place_of(name.replace("-", "_"), value, parsed, flags_of(cls)) or near
    if cls is CompareCommand and ours.replace("-", "_") in flags_of(Config):
        near += "Flags of training stand last, behind ` -- `. "
    raise ConfigError(f"No flag {flag}. {near}All flags: {PROG} {cls.word}".rstrip() + " --help")


def flags_of(cls: Any) -> list[str]:
    """The names of a command's flags, without dashes, also of those that are short for others."""
    known = settings_of(cls)
    short = [name for name, (setting, *_) in SHORT.items() if setting in known]
    return [*(name for name in known if name != cls.positional), *short]


def place_of(name: str, value: object, given: Mapping[str, Any], known: Collection[str]) -> str:
    """A sentence on where a name belongs that is no setting, e.g. "psi is a hyper-parameter of wd1: ... "; or "".

    value: what the user gives for it. given: the user's settings, of which algorithm and tasks are read. known: the
    names of the command's flags.
    """
    from spg_trainer.algorithms.registry import algorithms_with, has_hyper_parameter

    if "algorithm_args" in known:
        algorithm = given.get("algorithm", Config.algorithm)
        having_it = algorithm if has_hyper_parameter(algorithm, name) else algorithms_with(name)
        if having_it:
            return f"{name} is a hyper-parameter of {having_it}: $algorithm_args {name}={value!s:.80}. "
    for task in parse_tasks(str(given.get("env", Config.env))) if "env_args" in known else ():
        if name in arguments_of(task):
            argument = f"{task.name}.{name}" if task.name else name
            return f"{name} is an argument of the task {task.last}: $env_args {argument}={value!s:.80}. "
    return ""


def read_keywords(cls: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """As `read_words`, from keywords: {name of a setting: value}, without keywords that are None.

    A user's function or class is replaced by its name in its file, as a run records it. Raises ConfigError for an
    unknown name, and for a function or class that is not in a file.
    """
    given = {name: as_name(name, settings_value(v)) for name, v in keywords.items() if v is not None}
    for name in given.keys() - {*flags_of(cls), cls.positional}:
        group = hints(cls).get(name)
        if is_dataclass(group):
            near = f"{name} is a group: give each of its settings by itself, e.g. {min(hints(group))}=... "
        else:
            near = place_of(name, given[name], given, flags_of(cls)) or did_you_mean(name, flags_of(cls))
        shown = f"{cls.__name__} has no setting {name} (={given[name]!r:.80})"
        raise ConfigError(f"{shown}. {near}`help({cls.__name__})` lists them.")
    if isinstance(args := given.get("env_args"), Mapping):
        given["env_args"] = {name: as_name(name, value) for name, value in args.items()}
    return without_short(given)


def as_name(setting: str, value: Any) -> Any:
    """The name of a function or class, `FILE.py:NAME`; of several rewards, their names; any other value as it is."""
    if setting == "reward" and not isinstance(value, str):  # a function, or a list of functions and names
        name_of = packages.envs.authoring.reward_functions.name_of
    elif isinstance(value, type) or inspect.isroutine(value):
        name_of = packages.envs.own_files.name_in_file
    else:
        return value
    try:
        return name_of(value)
    except packages.envs.EnvError as error:
        raise ConfigError(f"{setting}: {error}") from error


def without_short(given: dict[str, Any]) -> dict[str, Any]:
    """The given settings, with each flag that is short for another setting replaced by that setting."""
    of_rows = {name: given.pop(name) for name in ARGUMENTS if name in given}
    if of_rows:
        of_rows = arguments_of_rows(given.get("env", ""), of_rows, given.get("data"))
        given["env_args"] = {**given.get("env_args", {}), **of_rows}
    if RATE in given:
        tokens = given.pop(RATE)
        rate = convert(tokens, Positive, f"{as_flag(RATE)} ")
        if "diffusion_steps" in given:
            flag = f"{as_flag(RATE)} {tokens}"
            raise ConfigError(f"{flag} and --diffusion-steps say the same thing. Leave one of them out.")
        given["diffusion_steps"] = steps_at_rate(rate)
    return given


def arguments_of_rows(env: str, arguments: Mapping[str, Any], data: str | None) -> dict[str, Any]:
    """Arguments for files of rows, e.g. their verifier, named as --env-args names those of the tasks that are files.

    Among several tasks, an argument begins with the name of its task: `rows.verifier`. A single task has no name.
    Raises ConfigError if no task takes them. data: the file of --data.
    """
    refuse_rows_arguments(env, arguments, data)
    prefixes = [f"{task.name}." for task in parse_tasks(env) if task.name and is_rows(task)] or [""]
    return {f"{prefix}{name}": value for prefix in prefixes for name, value in arguments.items()}

"""The flags of each command, made from its dataclass in `configs.py` with argparse: reads them, and writes --help.

`types.py` converts the words to the types of the settings. `place_of` says where a name belongs that is no setting:
the sentence becomes part of the error for an unknown flag here, and for an unknown keyword or name in a file in
`resolve.py`.
"""

import argparse
import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass
from itertools import dropwhile
from typing import Any, Literal, get_args, get_origin

from spg_trainer.errors import SETTINGS, ConfigError, as_flag, did_you_mean
from spg_trainer.settings import packages  # `packages.envs` is ours, loaded on first use
from spg_trainer.settings.configs import CompareCommand, Config
from spg_trainer.settings.decoding import EvalDecoding, steps_at_rate
from spg_trainer.settings.model import LoadConfig
from spg_trainer.settings.recipes import recipe_of_all
from spg_trainer.settings.recorded import model_environment, read_yaml, recipe_kind
from spg_trainer.settings.task import (
    ARGUMENTS,
    Task,
    arguments_of,
    is_rows,
    join_tasks,
    parse_tasks,
    refuse_rows_arguments,
)
from spg_trainer.settings.types import (
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
}
"""{our flag: its names in TRL and published code}, for the advice after an unknown flag."""
SHORT = ARGUMENTS
"""Flags that are short for an argument of the environment: `--verifier gsm8k` is `--env-args verifier=gsm8k`."""
SETTINGS.update(SHORT)  # messages name these flags as `$verifier`, too
RATE = "tokens_per_step"
"""The flag that is short for a number of denoising steps: `--tokens-per-step 2` is `--diffusion-steps length/2`."""
SHORT_HELP = {
    "verifier": (
        "NAME",
        "The verifier that judges a file of your own rows, e.g. gsm8k or math500; short for --env-args verifier=NAME.",
    ),
    "reward": (
        "FILE:FUNCTION",
        "A reward function of your own with TRL's signature, for a file of your own rows, e.g. ./mine.py:brevity. "
        "Several are given as ./mine.py:brevity+style and weighed by --reward-weights. Short for --env-args "
        "reward=FILE:FUNCTION.",
    ),
    "bad_rows": (
        "{refuse,skip}",
        "What becomes of a file of your own rows in which some cannot be used: it is refused, or they are left out, "
        "counted and listed in FILE.bad-rows.txt. Short for --env-args bad_rows=NAME.",
    ),
    RATE: (
        "N",
        "The number of tokens that a denoising step unmasks; short for --diffusion-steps length/N. Higher values are "
        "faster and less accurate.",
    ),
}
"""{flag that is short for another one: (the placeholder of its value, its help)}."""


class _Parser(argparse.ArgumentParser):
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
    parser = _Parser(
        prog=prog,
        usage=f"{prog} [-h] [OPTIONS]{positional}",
        description=f"{summary(cls)} {note}".rstrip() if shown else None,
        argument_default=argparse.SUPPRESS,
        formatter_class=_Layout,
        allow_abbrev=False,
    )
    first = getattr(cls, "first", ())
    for name in first:  # settings of a group that the help shows at the top, e.g. --model in that of `eval`
        *groups, _ = settings_of(cls)[name][0].split(".")
        owner, values = cls, shown
        for group in groups:
            owner, values = hints(owner)[group], getattr(values, group, None)
        add_flag(parser, owner, name, values)
    add_flags(parser, parser, cls, shown, first)
    return parser


def add_flags(parser: Any, group: Any, cls: Any, shown: Any, without: Sequence[str]) -> None:
    """Adds the flags of a command's dataclass, or of one of its groups, to a group of the help.

    shown: an instance of `cls`, or None as for `make_parser`. without: names of flags that the parser has already.
    """
    # In a group about decoding, lengths and steps are shown before the settings that any decoding has.
    of_any_decoding = hints(EvalDecoding).keys()
    for name, hint in sorted(hints(cls).items(), key=lambda item: item[0] in of_any_decoding):
        if is_dataclass(hint):
            of_group = parser.add_argument_group(f"{name} options", summary(hint) if shown else None)
            add_flags(parser, of_group, hint, getattr(shown, name, None), without)
        elif name not in without:
            add_flag(group, cls, name, shown)
        for short in {"env_args": SHORT, "diffusion_steps": (RATE,)}.get(name, ()):
            placeholder, text = SHORT_HELP[short]
            group.add_argument(as_flag(short), metavar=placeholder, help=f"{text} (default: unset)")


def add_flag(group: Any, cls: Any, name: str, shown: Any) -> None:
    """Adds the flag of a setting of `cls` to a group of the help. shown: as for `add_flags`."""
    hint = hints(cls)[name]
    if name == getattr(cls, "positional", ""):
        if (
            shown
        ):  # in reading, what belongs to no flag is found between flags, too, where argparse finds none
            group.add_argument(name, metavar=name.upper(), nargs="*", help=docstrings(cls)[name])
        return
    options: dict[str, Any] = {"metavar": placeholder_of(name, hint)}
    kind = get_origin(hint) or hint
    if kind is bool:
        options = {"action": argparse.BooleanOptionalAction}
    elif kind is dict:
        options |= {"nargs": "+", "action": "extend"}
    elif kind is tuple or name == "env":
        options |= {"nargs": "+"}
    if shown:
        text = f"{docstrings(cls).get(name, '')} (default: {as_words(getattr(shown, name))})"
        options["help"] = text.replace("%", "%%")  # argparse fills in %(default)s and the like
    group.add_argument(*(["-o"] if name == "output" else []), as_flag(name), **options)


def placeholder_of(name: str, hint: Any) -> str:
    """The placeholder of a flag's value in the help: `{none,phase,layer}`, `KEY=VALUE ...`, or the flag's name."""
    # In `Literal[...] | None` and `tuple[Literal[...], ...]` the choices are one level down.
    literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
    choices = ",".join(get_args(literals[0])) if literals else ""
    if choices:
        return f"{{N,{choices}}}" if int in get_args(hint) else f"{{{choices}}}"
    return "KEY=VALUE ..." if get_origin(hint) is dict else name.upper()


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
    words = [
        re.sub(r"^--[a-z][\w-]*", lambda flag: flag[0].replace("_", "-"), word)
        for word in words
        if word not in HELP
    ]
    parser = make_parser(cls)
    typed, left_over = parser.parse_known_args(words)
    parsed = vars(typed)
    known = settings_of(cls)
    for name, value in parsed.items():
        if value == "" or value == [""]:  # an empty word, as from `--env ""`
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


def read_keywords(cls: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """As `read_words`, from keywords: {name of a setting: value}, without keywords that are None.

    A user's function or class is replaced by its name in its file, as a run records it. Raises ConfigError for a
    function or class that is not in a file.
    """
    given = {
        name: as_name(name, settings_value(value)) for name, value in keywords.items() if value is not None
    }
    if isinstance(args := given.get("env_args"), Mapping):
        given["env_args"] = {name: as_name(name, value) for name, value in args.items()}
    short = {name for name in (*SHORT, RATE) if name in given}
    # If a command has no such flag, the name stays, and `resolve` refuses it as unknown.
    return without_short(given) if short <= {*flags_of(cls)} else given


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
    for name in SHORT:
        if name in given:
            add_argument_of_rows(given, name, given.pop(name))
    if RATE in given:
        given["diffusion_steps"] = steps_at(given.pop(RATE), given)
    return given


def flags_of(cls: Any) -> list[str]:
    """The names of a command's flags, without dashes, also of those that are short for others."""
    known = settings_of(cls)
    short = [*(SHORT if "env_args" in known else ()), *((RATE,) if "diffusion_steps" in known else ())]
    return [*(name for name in known if name != cls.positional), *short]


def add_argument_of_rows(parsed: dict[str, Any], name: str, value: Any) -> None:
    """Adds an argument for files of rows, e.g. their verifier, to the arguments of the tasks that are such files."""
    env = parsed.get("env", "")
    refuse_rows_arguments(env, {name: value}, parsed.get("data"))
    tasks = parse_tasks(env)
    # Among several tasks, an argument begins with the name of its task. A single task has no name, so no prefix.
    prefixes = [f"{task.name}." for task in tasks if task.name and is_rows(task)] or [""]
    arguments = {f"{prefix}{name}": value for prefix in prefixes}
    parsed["env_args"] = {**parsed.get("env_args", {}), **arguments}


def steps_at(tokens: Any, parsed: Mapping[str, Any]) -> str:
    """The number of denoising steps, `length/2`, for `--tokens-per-step 2`; ConfigError if steps are given, too."""
    flag = as_flag(RATE)
    rate = convert(tokens, float, f"{flag} ")
    if rate <= 0:
        raise ConfigError(f"{flag} {rate}: should be above 0.")
    if "diffusion_steps" in parsed:
        raise ConfigError(f"{flag} {tokens} and --diffusion-steps say the same thing. Leave one of them out.")
    return steps_at_rate(rate)


def refuse_unknown(cls: Any, left_over: Sequence[str], parsed: Mapping[str, Any]) -> None:
    """Raises ConfigError if a word that belongs to no flag looks like a flag; the error says where its name belongs.

    The name may be that of a hyper-parameter or of an argument of the task, or similar to a flag's. parsed: the known
    flags that were typed.
    """
    # The words from the first one on that looks like a flag, known or not; `-1` is a number.
    words = [*dropwhile(lambda word: not re.match(r"--?[A-Za-z]", word), left_over)]
    if not words:
        return
    flag, _, value = words[0].partition("=")
    typed = flag.lstrip("-")
    dashes = "-" if len(typed) == 1 else "--"
    our_flags = {theirs: our_flag for our_flag, names in ELSEWHERE.items() for theirs in names.split()}
    ours = our_flags.get(typed, "")  # "" unless another tool's name of one of our flags was typed
    meant = ours or typed
    known = flags_of(cls)
    if not value:
        has_value = len(words) > 1 and not words[1].startswith("--")
        value = words[1] if has_value else "..."
    nearest = "" if ours else place_of(typed.replace("-", "_"), value, parsed, known)
    nearest = nearest or did_you_mean(meant, [as_flag(name).removeprefix("--") for name in known], "--{}")
    if cls is CompareCommand and (meant in SHORT or meant.replace("-", "_") in settings_of(Config)):
        nearest += "Flags of training stand last, behind ` -- `. "
    raise ConfigError(f"No flag {dashes}{typed}. {nearest}All flags: {PROG} {cls.word}".rstrip() + " --help")


def place_of(name: str, value: object, given: Mapping[str, Any], known: Collection[str]) -> str:
    """A sentence on where `name` belongs, e.g. "psi is a hyper-parameter of wd1: $algorithm_args psi=0.5. ".

    The result is "" for a name that belongs nowhere. value: what the user gives for the name. given: the user's other
    settings, by name; config, resume, env, algorithm, source and model are read. known: the names of the
    settings that the command has.
    """
    if not {*known} & {"algorithm_args", "env_args"}:
        return ""
    if file := given.get("config"):
        in_file = read_yaml(file)
        given = {**(in_file if isinstance(in_file, Mapping) else {}), **given}
    is_resumed = given.get("resume") is not None  # then algorithm and tasks are the run's, and not known here
    model = given.get("model")
    made_for = model_environment(model).get("env") if isinstance(model, str) else None
    tasks = () if is_resumed else parse_tasks(str(given.get("env") or made_for or Config.env))
    shown = f"{name}={value!s:.80}"
    if "algorithm_args" in known:
        from spg_trainer.algorithms.registry import algorithms_with, has_hyper_parameter

        named = given.get("algorithm")  # in a file of settings, it may be no name
        algorithm = named if isinstance(named, str) and named else usual_algorithm(tasks, given)
        if has_hyper_parameter(algorithm, name) and not is_resumed:
            return f"{name} is a hyper-parameter of {algorithm}: $algorithm_args {shown}. "
        if others := algorithms_with(name):
            than_these = "" if is_resumed else f", not of {algorithm}"
            return f"{name} is a hyper-parameter of {others}{than_these} ($algorithm_args {shown}). "
    if "env_args" not in known:
        return ""
    for task in tasks:
        if name in arguments_of(task):
            prefix = f"{task.name}." if task.name else ""
            return f"{name} is an argument of the task {task.last}: $env_args {prefix}{shown}. "
    return ""


def usual_algorithm(tasks: Sequence[Task], given: Mapping[str, Any]) -> str:
    """The algorithm of a run whose user names no algorithm."""
    if given.get("source") == "demonstrations":
        return "mle"
    name = given.get("model")
    model = name if isinstance(name, str) else LoadConfig.model
    layers = recipe_of_all(tasks, recipe_kind(model, model_environment(model)))
    in_recipes = [layer.values["algorithm"] for layer in layers if "algorithm" in layer.values]
    return in_recipes[-1] if in_recipes else Config.algorithm

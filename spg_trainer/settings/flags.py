"""Flags: the words of a command line, read by tyro as the dataclasses of `fields.py` say, and the text of --help.

tyro finds the flags; `values.py` reads their words, as it reads those of a file. Only what tyro documents is used.
"""

import re
from collections.abc import Sequence
from dataclasses import is_dataclass
from functools import cache
from inspect import cleandoc
from itertools import chain
from typing import Annotated, Any, Literal, get_args, get_origin

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.settings.fields import CompareCommand, Config
from spg_trainer.settings.values import hints, parse_pairs

PROG = "python -m spg_trainer"
HELP = {"-h", "--help"}
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


SHORT = {"--verifier": "verifier"}
"""Flags that stand for an argument of the environment: `--verifier gsm8k` is `--env-args verifier=gsm8k`."""


class Words(list[str]):
    """What stands behind a flag, as it was typed."""


def places(cls: type, path: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """The name of each setting of a command -> where it is among them; a name is there once."""
    found: dict[str, tuple[str, ...]] = {}
    for name, hint in hints(cls).items():
        found |= places(hint, (*path, name)) if is_dataclass(hint) else {name: (*path, name)}
    return found


def as_flag(name: str) -> str:
    """`optimizer.learning_rate` -> `--learning-rate`."""
    return f"--{name.rpartition('.')[2].replace('_', '-')}"


def program(cls: Any) -> str:
    """How a command is started."""
    return f"{PROG} {cls.word}".rstrip()


def read_words(cls: Any, words: Sequence[str]) -> dict[str, Any]:
    """What flags say, nested as the settings are, in words or as KEY=VALUE pairs; ConfigError for an unknown flag."""
    words = written_out([word for word in words if word not in HELP])
    typed, loose = run_tyro(cls, words, return_unknown_args=True)
    values = take(cls, typed, loose)
    if flag := next((word for word in loose if re.match(r"--?[A-Za-z]", word)), ""):
        flag = re.sub(r"(?<=\w)_", "-", flag.partition("=")[0])
        known, name = [as_flag(name).removeprefix("--") for name in places(cls)], flag.lstrip("-")
        nearest = did_you_mean(ELSEWHERE.get(name, name), known, "--{}")
        if cls is CompareCommand and not nearest and flag in map(as_flag, places(Config)):
            nearest = "Flags of training stand last, behind ` -- `. "
        raise ConfigError(f"No flag {flag}. {nearest}All flags: {program(cls)} --help")
    alone = getattr(cls, "positional", "")
    if loose and alone:
        many = get_origin(hints(cls)[alone]) is tuple
        values[alone] = [*loose] if many else loose.pop(0)
        loose = [] if many else loose
    if loose:
        switch = next((word.partition("=")[0] for word in words if word.endswith(f"={loose[0]}")), "")
        if switch:
            no = switch.replace("--", "--no-", 1)
            raise ConfigError(f"{switch} takes no value, so not {loose[0]!r}. Use {switch} or {no}.")
        raise ConfigError(f"{loose[0]!r} belongs to no flag. All flags: {program(cls)} --help")
    return values


def written_out(words: Sequence[str]) -> list[str]:
    """The words with `--env-args NAME=VALUE` in place of each flag of `SHORT`."""
    result, rest = [], iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag in SHORT:
            value = value if equals else next(rest, "")
            if not value or value.startswith("--"):
                raise ConfigError(f"{flag}: expected one argument, e.g. {flag} gsm8k.")
            result += ["--env-args", f"{SHORT[flag]}={value}"]
        else:
            result.append(word)
    return result


def take(cls: type, typed: dict[str, Any], loose: list[str]) -> dict[str, Any]:
    """What was typed, of what tyro returns: for each flag a list of its occurrences; the last counts.

    loose: words without a flag, to which those are added that stand behind the one word of a flag.
    """
    values: dict[str, Any] = {}
    for name, hint in hints(cls).items():
        given, kind = typed.get(name), get_origin(hint) or hint
        if is_dataclass(hint):
            if inner := take(hint, given, loose):
                values[name] = inner
        elif kind is bool and given is not None:
            values[name] = given
        elif kind is not bool and given:
            if not given[-1]:
                many = "at least one argument" if kind in (dict, tuple) else "one argument"
                raise ConfigError(f"{as_flag(name)}: expected {many}. All flags: {PROG} --help")
            if kind is dict:
                values[name] = parse_pairs([*chain(*given)], as_flag(name))
            else:
                values[name] = given[-1] if kind is tuple else given[-1][0]
                loose += [] if kind is tuple else given[-1][1:]
    return values


def show_help(cls: Any, base: Any, note: str = "") -> None:
    """Writes the help of a command to standard output and exits; defaults are the values of `base`."""
    run_tyro(cls, ["--help"], description=f"{cleandoc(cls.__doc__)}\n\n{note}".strip(), default=base)


def run_tyro(cls: Any, words: Sequence[str], **options: Any) -> Any:
    """Calls tyro: with `default`, for the help; without, for what was typed, as lists of occurrences."""
    import tyro

    shown, marks = "default" in options, (tyro.conf.OmitArgPrefixes,)
    more = {"registry": registry(shown), "add_help": shown, "console_outputs": shown, **options}
    return tyro.cli(cls, prog=program(cls), args=words, config=marks, **more)


@cache
def registry(shown: bool) -> Any:
    """How tyro sees a dataclass. shown: with defaults, texts and the words that need no flag, for the help."""
    from tyro import MISSING, conf
    from tyro.constructors import (
        ConstructorRegistry,
        PrimitiveConstructorSpec,
        StructConstructorSpec,
        StructFieldSpec,
    )

    def seen(name: str, hint: Any) -> Any:
        """The type of a setting for tyro: words; typed, a list of them for each time that the flag is there."""
        aliases = ["-o"] if name == "output" else None
        if hint is bool:
            return bool if shown else conf.DisallowNone[bool | None]
        kind = Words if shown else conf.UseAppendAction[list[Words]]
        return Annotated[kind, conf.arg(aliases=aliases, metavar=metavar(name, hint))]

    def default(info: Any, name: str, hint: Any) -> Any:
        if not shown:
            return None if hint is bool else MISSING
        value = getattr(info.default, name)
        return value if hint is bool or is_dataclass(hint) else Words(as_words(value))

    rules = ConstructorRegistry()

    @rules.primitive_rule
    def words(info: Any) -> PrimitiveConstructorSpec | None:
        return PrimitiveConstructorSpec("*", "", Words, lambda _: True, list) if info.type is Words else None

    @rules.struct_rule
    def settings(info: Any) -> StructConstructorSpec | None:
        if not is_dataclass(info.type):
            return None
        texts, found = docstrings(info.type) if shown else {}, []
        for name, hint in hints(info.type).items():
            if name == getattr(info.type, "positional", ""):
                if shown:
                    found.append(
                        StructFieldSpec(name, conf.Positional[seen(name, hint)], Words(["none"]), texts[name])
                    )
                continue
            kind = hint if is_dataclass(hint) else seen(name, hint)
            found.append(StructFieldSpec(name, kind, default(info, name, hint), texts.get(name)))
        return StructConstructorSpec(dict, tuple(found))

    return rules


def metavar(name: str, hint: Any) -> str:
    """What stands for the value of a flag in the help."""
    choices = next((get_args(h) for h in (hint, *get_args(hint)) if get_origin(h) is Literal), ())
    if choices:
        return f"{{{','.join(choices)}}}"
    return "KEY=VALUE ..." if get_origin(hint) is dict else name.upper()


def as_words(value: Any) -> list[str]:
    """A default as it would be typed; of what has none, `unset`."""
    if value is None or value in ((), {}):
        return ["unset"]
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    return [str(item) for item in value] if isinstance(value, tuple) else [str(value)]


def docstrings(cls: type) -> dict[str, str]:
    """Setting -> the text below it, of a dataclass and what it inherits from."""
    from docstring_parser import parse_from_object

    found = [parse_from_object(of).params for of in reversed(cls.__mro__) if is_dataclass(of)]
    return {text.arg_name: " ".join((text.description or "").split()) for texts in found for text in texts}

"""Makes the text of --help with tyro: the docstrings in the dataclasses of settings explain each setting."""

from dataclasses import is_dataclass
from functools import cache, partial
from inspect import cleandoc
from typing import Any, Literal, get_args, get_origin

from spg_trainer.settings.decoding import EvalDecoding
from spg_trainer.settings.fields import TaskSettings
from spg_trainer.settings.flags import Words, flag, run_tyro
from spg_trainer.settings.values import hints, settings_of

SHORT_HELP = {
    "verifier": "The verifier that judges a file of your own rows, e.g. gsm8k or math500; short for --env-args "
    "verifier=NAME.",
    "reward": "Reward functions of your own with TRL's signature, for a file of your own rows: ./FILE.py:FUNCTION, "
    "several as ./FILE.py:ONE+TWO, weighed by --reward-weights; short for --env-args reward=NAME.",
}
"""Flags that are short for an argument of the environment, with their help."""
RATE_HELP = (
    "The number of tokens that a denoising step unmasks; short for --diffusion-steps length/N. Higher values are "
    "faster and less accurate."
)


def show_help(cls: Any, base: Any, note: str = "") -> None:
    """Writes the help of a command to standard output and exits. base: an instance, whose values are the defaults."""
    shape = partial(explained_flags, first=getattr(cls, "first", ()))
    run_tyro(cls, ["--help"], shape, description=f"{cleandoc(cls.__doc__)}\n\n{note}".strip(), default=base)


def explained_flags(cls: Any, values: Any, first: tuple[str, ...]) -> list[Any]:
    """tyro's fields for the help of a command or of one of its groups.

    first: settings of a command's groups with which its help begins. They are left out where their group is explained;
    the group `model` is not left out, though one of its settings has the same name.
    """
    is_command = issubclass(cls, TaskSettings)
    found = [explained_in_group(cls, values, name) for name in first] if is_command else []
    last = hints(EvalDecoding).keys()  # lengths and steps come before what all decoding shares
    for name, hint in sorted(hints(cls).items(), key=lambda item: item[0] in last):
        if name not in first or is_dataclass(hint):
            found.append(explained(cls, values, name))
        if name == "env_args":
            found += [short_flag(short, "NAME", text) for short, text in SHORT_HELP.items()]
        if name == "diffusion_steps":
            found.append(short_flag("tokens_per_step", "N", RATE_HELP))
    return found


def explained_in_group(cls: Any, values: Any, name: str) -> Any:
    """tyro's field for a setting that stands in a group of a command."""
    dotted_name, _ = settings_of(cls)[name]
    *groups, _ = dotted_name.split(".")
    for group in groups:
        cls, values = hints(cls)[group], getattr(values, group)
    return explained(cls, values, name)


def explained(cls: Any, values: Any, name: str) -> Any:
    """tyro's field for a setting, with its default and text, or for a group of settings."""
    from tyro import conf
    from tyro.constructors import StructFieldSpec

    hint = hints(cls)[name]
    value = getattr(values, name)
    text = docstrings(cls).get(name)
    if hint is bool or is_dataclass(hint):
        return StructFieldSpec(name, hint, value, text)
    kind = flag(Words, name, metavar(name, hint))
    if name == getattr(cls, "positional", ""):
        return StructFieldSpec(name, conf.Positional[kind], Words(["none"]), text)  # shown as its default
    return StructFieldSpec(name, kind, Words(as_words(value)), text)


def short_flag(name: str, metavar: str, text: str) -> Any:
    """tyro's field for a flag that stands for another one."""
    from tyro.constructors import StructFieldSpec

    return StructFieldSpec(name, flag(Words, name, metavar), Words(["unset"]), text)


def metavar(name: str, hint: Any) -> str:
    """What stands for the value of a flag in the help: `{none,phase,layer}`, `KEY=VALUE ...`, or the flag's name."""
    # In `Literal[...] | None` and `tuple[Literal[...], ...]` the choices are one level down.
    choices = next((get_args(h) for h in (hint, *get_args(hint)) if get_origin(h) is Literal), ())
    if choices:
        return f"{{{','.join(choices)}}}"
    return "KEY=VALUE ..." if get_origin(hint) is dict else name.upper()


def as_words(value: Any) -> list[str]:
    """A default as it would be typed; `unset` if there is none."""
    if value is None or value in ((), {}):
        return ["unset"]
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return [str(value)]


@cache
def docstrings(cls: type) -> dict[str, str]:
    """{name of a field: the docstring below it} of a dataclass and of those that it inherits from."""
    from docstring_parser import parse_from_object

    dataclasses = [base for base in reversed(cls.__mro__) if is_dataclass(base)]
    params = [param for base in dataclasses for param in parse_from_object(base).params]
    return {param.arg_name: " ".join((param.description or "").split()) for param in params}

"""Writes --help with tyro, from the docstrings of the settings in their dataclasses."""

from dataclasses import is_dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from spg_trainer.settings.decoding import EvalDecoding
from spg_trainer.settings.explained import docstrings, summary
from spg_trainer.settings.fields import TaskSettings
from spg_trainer.settings.flags import PROG
from spg_trainer.settings.values import hints, settings_of

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
}
"""{flag that is short for an argument of the environment: (the placeholder of its value, its help)}."""
RATE_HELP = (
    "The number of tokens that a denoising step unmasks; short for --diffusion-steps length/N. Higher values are "
    "faster and less accurate."
)


class Words(list[str]):
    """The words that one would type for a setting's default. tyro is told this type for all settings but switches."""


def show_help(cls: Any, base: Any, note: str = "", word: str = "") -> None:
    """Writes the help of a command to standard output, and exits. base: an instance with the defaults to show.

    word: the command's word on the command line, if that is not the word of its class.
    """
    import tyro
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, StructConstructorSpec

    rules = ConstructorRegistry()

    @rules.primitive_rule
    def words(info: Any) -> PrimitiveConstructorSpec | None:
        """Called for each setting; tells tyro how to show a default of the type `Words`."""
        if info.type is not Words:
            return None
        return PrimitiveConstructorSpec(
            nargs="*",
            metavar="",
            instance_from_str=Words,
            is_instance=lambda _: True,
            str_from_instance=list,
        )

    @rules.struct_rule
    def settings(info: Any) -> StructConstructorSpec | None:
        """Called once for the command and once for each of its groups."""
        if not is_dataclass(info.type):
            return None
        tyro_fields = explained_flags(info.type, info.default, getattr(cls, "first", ()))
        return StructConstructorSpec(dict, tuple(tyro_fields))

    description = f"{summary(cls)}\n\n{note}".strip()
    omit = (tyro.conf.OmitArgPrefixes,)
    tyro.cli(
        cls,
        prog=f"{PROG} {word or cls.word}".rstrip(),
        args=["--help"],
        description=description,
        default=base,
        registry=rules,
        config=omit,
    )


def explained_flags(cls: Any, values: Any, first: tuple[str, ...]) -> list[Any]:
    """tyro's fields for the help of a command or of one of its groups.

    first: names of settings that are shown at the top of a command's help, and not again in their groups. E.g. the help
    of `eval` begins with --model, a setting of its group `model`.
    """
    has_first = issubclass(cls, TaskSettings)  # only commands on a task have `first`; a group has none
    tyro_fields = [explained_in_group(cls, values, name) for name in first] if has_first else []
    # In a group about decoding, lengths and steps are shown before the settings that any decoding has.
    of_any_decoding = hints(EvalDecoding).keys()
    for name, hint in sorted(hints(cls).items(), key=lambda item: item[0] in of_any_decoding):
        # All groups are shown, also the group `model`, which has the name of a setting in `first`.
        if name not in first or is_dataclass(hint):
            tyro_fields.append(explained(cls, values, name))
        if name == "env_args":
            for short, (placeholder, text) in SHORT_HELP.items():
                tyro_fields.append(short_flag(short, placeholder, text))
        if name == "diffusion_steps":
            tyro_fields.append(short_flag("tokens_per_step", "N", RATE_HELP))
    return tyro_fields


def explained_in_group(cls: Any, values: Any, name: str) -> Any:
    """tyro's field for a setting from a group of a command."""
    dotted_name, _ = settings_of(cls)[name]
    *groups, _ = dotted_name.split(".")
    for group in groups:
        cls, values = hints(cls)[group], getattr(values, group)
    return explained(cls, values, name)


def explained(cls: Any, values: Any, name: str) -> Any:
    """tyro's field for a setting, with its default and text, or for a group of settings.

    tyro is told that every setting has the type `Words`, and as its default the words that one would type for it, e.g.
    ["0.2"]. Only switches and groups keep their own types and values.
    """
    from tyro import conf
    from tyro.constructors import StructFieldSpec

    hint = hints(cls)[name]
    value = getattr(values, name)
    text = docstrings(cls).get(name)
    if hint is bool or is_dataclass(hint):
        return StructFieldSpec(name, hint, value, text)
    kind = flag(Words, name, placeholder_of(name, hint))
    if name == getattr(cls, "positional", ""):
        # It is typed without a flag and has no default, so the help shows "(default: none)".
        return StructFieldSpec(name, conf.Positional[kind], Words(["none"]), text)
    return StructFieldSpec(name, kind, Words(as_words(value)), text)


def short_flag(name: str, placeholder: str, text: str) -> Any:
    """tyro's field for a flag that is short for another one."""
    from tyro.constructors import StructFieldSpec

    return StructFieldSpec(name, flag(Words, name, placeholder), Words(["unset"]), text)


def flag(kind: Any, name: str, placeholder: str) -> Any:
    """The type `kind` with tyro's marks for a flag: the placeholder of its value, and `-o` as an alias of --output."""
    from tyro import conf

    return Annotated[kind, conf.arg(aliases=["-o"] if name == "output" else None, metavar=placeholder)]


def placeholder_of(name: str, hint: Any) -> str:
    """The placeholder of a flag's value in the help: `{none,phase,layer}`, `KEY=VALUE ...`, or the flag's name."""
    # In `Literal[...] | None` and `tuple[Literal[...], ...]` the choices are one level down.
    literals = [part for part in (hint, *get_args(hint)) if get_origin(part) is Literal]
    choices = get_args(literals[0]) if literals else ()
    takes_number = int in get_args(hint)
    if choices and takes_number:
        return f"{{N,{','.join(choices)}}}"
    if choices:
        return f"{{{','.join(choices)}}}"
    return "KEY=VALUE ..." if get_origin(hint) is dict else name.upper()


def as_words(value: Any) -> list[str]:
    """The words that one would type for a default; `unset` for None."""
    if value is None or value in ((), {}):
        return ["unset"]
    if isinstance(value, dict):
        return [f"{key}={item}" for key, item in value.items()]
    if isinstance(value, tuple):
        return [str(item) for item in value]
    return [str(value)]

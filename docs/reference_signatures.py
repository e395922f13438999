"""Writes signatures and fields into the pages of docs/reference, for readers of the checkout.

The site shows more of each `::: name` by itself, so it leaves out what stands between `<!-- signature -->` and
`<!-- end -->` (`notebooks.py`). Run `python docs/reference_signatures.py` when an object that these pages name changes.
"""

import inspect
import pydoc
import re
import textwrap
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from pathlib import Path
from types import ModuleType, UnionType
from typing import Any

PAGES = Path(__file__).with_name("reference")
BLOCK = re.compile(
    r"(^::: (\S+)\n)(?:<!-- signature -->\n.*?<!-- end -->\n)?", flags=re.MULTILINE | re.DOTALL
)
WIDTH = 110


def shown(name: str) -> str:
    """What a page shows of an object: its first sentence, and its signature, fields and methods."""
    found = pydoc.locate(name)
    if found is None:
        raise ValueError(f"::: {name}: there is no such object")
    if isinstance(found, ModuleType):
        members = [member for member in vars(found).values() if is_own(member, found)]
        lines = [line for member in members for line in of_object(member, member.__name__)]
    elif inspect.isclass(found) or inspect.isroutine(found):
        lines = of_object(found, name.rpartition(".")[2])
    elif isinstance(found, UnionType):
        lines = [f"{name.rpartition('.')[2]} = {found}"]
    else:  # a table
        lines = [f"{name.rpartition('.')[2]}: {type(found).__name__}"]
    return "```python\n" + "\n".join(lines) + "\n```\n"


def is_own(member: Any, module: ModuleType) -> bool:
    """Whether a public class or function is defined in a module."""
    named = inspect.isclass(member) or inspect.isfunction(member)
    return named and member.__module__ == module.__name__ and not member.__name__.startswith("_")


def of_object(found: Any, name: str) -> list[str]:
    """The lines of a function, or of a class with its fields and methods."""
    if not inspect.isclass(found):
        return [*comment(found), *wrapped(f"def {name}{signature(found)}: ...")]
    bases = [base.__name__ for base in found.__bases__ if base is not object]
    if hasattr(found, "_field_defaults"):
        bases = ["NamedTuple"]
    of_bases = f"({', '.join(bases)})" if bases else ""
    lines = [*comment(found), f"class {name}{of_bases}:"]
    if issubclass(found, Enum):
        lines += [f'    {member.name} = "{member.value}"' for member in found]
    elif is_dataclass(found):
        lines += [f"    {line}" for field in fields(found) for line in wrapped(of_field(field))]
    else:
        own = vars(found).get("__annotations__", {})
        lines += [
            f"    {attribute}: {typed(hint)}"
            for attribute, hint in own.items()
            if not attribute.startswith("_")
        ]
    for method, value in vars(found).items():
        function = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        if method.startswith("_"):
            continue
        if isinstance(value, property):
            lines += [f"    {line}" for line in wrapped(f"{method}: {type_of_property(value)}  # a property")]
        elif inspect.isfunction(function):
            lines += [f"    {line}" for line in wrapped(f"def {method}{signature(function)}: ...")]
    return lines


def type_of_property(value: property) -> str:
    """The type of what a property returns."""
    return typed(value.fget.__annotations__.get("return", Any))


def of_field(field: Any) -> str:
    """`top_k: int = 0`."""
    default = "" if field.default is MISSING else f" = {field.default!r}".replace("'", '"')
    return f"{field.name}: {typed(field.type)}" + (
        default or " = ..." * (field.default_factory is not MISSING)
    )


def typed(hint: Any) -> str:
    """A type without the names of modules, and without ranges."""
    text = hint if isinstance(hint, str) else hint.__name__ if inspect.isclass(hint) else str(hint)
    text = re.sub(r"ForwardRef\('(.*?)'\)", r"\1", text)
    text = re.sub(r"(?:typing\.)?Annotated\[(\w+), .*?\]", r"\1", text)
    text = re.sub(r"~(\w+)", r"\1", text)  # Python writes ~T for a type variable T
    text = re.sub(r"\b(?:[A-Za-z_]\w*\.)+(\w+)", r"\1", text)
    text = re.sub(r"\bOptional\[(\w+)\]", r"\1 | None", text)
    text = re.sub(r"\bUnion\[((?:[^\[\]]|\[[^\[\]]*\])*)\]", lambda found: with_bars(found[1]), text)
    return text.replace("NoneType", "None")


def with_bars(types: str) -> str:
    """`int, Literal['a', 'b'], None` -> `int | Literal['a', 'b'] | None`: commas in brackets stay."""
    return re.sub(r", (?![^\[]*\])", " | ", types)


def signature(function: Any) -> str:
    """The parameters and the result of a function, without the names of modules."""
    text = str(inspect.signature(function))
    text = re.sub(r"\"'([^'\"]*)'\"", '"\x00\\1\x00"', text)  # single quotes inside a text stay
    text = typed(re.sub(r"<(?:[^<>]|<[^<>]*>)*>", "...", text)).replace("'", '"').replace("\x00", "'")
    text = re.sub(r"( = [A-Z]\w*)\((?:[^()]|\([^()]*\))*\)", r"\1(...)", text)  # a default that is an object
    return re.sub(r'(: |-> )"([^"]*)"', r"\1\2", text)  # annotations that are texts


def wrapped(line: str) -> list[str]:
    return textwrap.wrap(
        line, WIDTH, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False
    )


def comment(found: Any) -> list[str]:
    """The first sentence of a docstring, as comments."""
    doc = (inspect.getdoc(found) or "").partition("\n\n")[0].partition("\nArgs:")[0]
    return textwrap.wrap(" ".join(doc.split()), WIDTH, initial_indent="# ", subsequent_indent="# ")


def with_signatures(page: str) -> str:
    """A page in which each `::: name` is followed by what `shown` says of it."""
    return BLOCK.sub(lambda found: f"{found[1]}<!-- signature -->\n{shown(found[2])}<!-- end -->\n", page)


if __name__ == "__main__":
    for path in sorted(PAGES.glob("*.md")):
        path.write_text(with_signatures(path.read_text(encoding="utf-8")), encoding="utf-8")

"""Explains settings in `--help` and `help(Config)`: by the docstring below each field, with its type and range."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache, wraps
from typing import Any, TypeVar, get_args, get_type_hints

from spg_trainer.errors import SETTINGS, ConfigError, did_you_mean
from spg_trainer.settings.ranges import ranges_of
from spg_trainer.settings.values import settings_value

Settings = TypeVar("Settings")
WIDTH = 100
"""The longest line of `help`."""


def explained(cls: type[Settings]) -> type[Settings]:
    """Decorates a dataclass of settings.

    - `help(cls)` lists the settings with plain types. This text, `cls.__doc__`, is made when it is asked for; `summary`
      returns the docstring alone.
    - Messages can name the settings (`errors.SETTINGS`).
    - `repr` shows the settings that differ from their defaults.
    - Numpy's numbers and the like become those of Python (`settings_value`).
    """
    cls.__init__.__annotations__ = get_type_hints(cls.__init__)  # plain types, without `Annotated`
    cls.__doc__ = _Help(cls.__doc__ or "")  # type: ignore[assignment]
    cls.__repr__ = _repr  # type: ignore[assignment, method-assign]
    cls.__init__ = _with_settings_values(cls.__init__)  # type: ignore[method-assign]
    SETTINGS.update(field.name for field in fields(cls))  # type: ignore[arg-type]
    return cls


def _with_settings_values(init: Callable[..., None]) -> Callable[..., None]:
    """Wraps the `__init__` of a dataclass: it gets `settings_value` of each argument, and refuses unknown names."""
    known = inspect.signature(init).parameters.keys() - {"self"}

    @wraps(init)
    def checked_init(self: Any, *arguments: Any, **keywords: Any) -> None:
        for name in keywords.keys() - known:
            near, cls = did_you_mean(name, known), type(self).__name__
            raise ConfigError(f"{cls}({name}=...): no such setting. {near}`help({cls})` lists them.")
        init(self, *map(settings_value, arguments), **settings_value(keywords))

    return checked_init


def _repr(settings: Any) -> str:
    """The repr of settings: `Sampling(max_completion_length=20, temperature=0.9)`."""
    values = {field: getattr(settings, field.name) for field in fields(settings)}
    changed = [f"{field.name}={value!r}" for field, value in values.items() if value != default_of(field)]
    return f"{type(settings).__name__}({', '.join(changed)})"


def default_of(field: "Field[Any]") -> Any:
    """The default of a field; MISSING if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


class _Help:
    """A descriptor for the `__doc__` of a class: its docstring, and a list of its settings."""

    def __init__(self, summary: str) -> None:
        self.summary = summary

    def __get__(self, instance: object, owner: type) -> str:
        return f"{inspect.cleandoc(self.summary)}\n\nSettings:\n{settings_text(owner)}"


def summary(cls: type) -> str:
    """The docstring of a class, without the list of its settings."""
    doc = vars(cls).get("__doc__") or ""
    return inspect.cleandoc(doc.summary if isinstance(doc, _Help) else doc)


def settings_text(cls: type) -> str:
    """Each setting of a dataclass with its type, range, default and meaning; a group with the names of its settings."""
    hints, docs = get_type_hints(cls, include_extras=True), docstrings(cls)
    entries = []
    for field in fields(cls):  # type: ignore[arg-type]
        hint = hints[field.name]
        if is_dataclass(hint):
            names = ", ".join(inner.name for inner in fields(hint))
            head = f"{field.name}: {hint.__name__}"
            text = (
                f"{summary(hint)} It has {names}; help({hint.__module__}.{hint.__qualname__}) explains them."
            )
        else:
            head, text = _headline(field, hint, get_type_hints(cls)[field.name]), docs.get(field.name, "")
        entries += [f"  {head}", _wrapped(text)]
    return "\n".join(entries)


def _headline(field: "Field[Any]", hint: Any, plain: Any) -> str:
    """The first line on a setting: `top_k: int = 0 (0 or more)`. hint, plain: its type, with and without ranges."""
    kind = plain.__name__ if isinstance(plain, type) else str(plain).replace("typing.", "")
    value = default_of(field)
    default = "" if value is MISSING else f" = {value!r}"
    # In `Count | None`, the range belongs to a part of the union.
    ranges = [allowed for part in (hint, *get_args(hint)) for allowed in ranges_of(part)]
    return f"{field.name}: {kind}{default}" + (f" ({ranges[0].expected})" if ranges else "")


def _wrapped(text: str) -> str:
    """A text in indented lines of up to `WIDTH` characters."""
    return textwrap.fill(
        text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6, break_on_hyphens=False
    )


@cache
def docstrings(cls: type) -> dict[str, str]:
    """{name of a field: the docstring below it} of a dataclass and its base classes.

    A class without source, e.g. from Python's prompt, has none.
    """
    docs: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if is_dataclass(base):
            docs |= _own_docstrings(base)
    return docs


@cache
def _own_docstrings(cls: type) -> dict[str, str]:
    """As `docstrings`, without those of base classes."""
    try:
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(cls))).body
    except (OSError, TypeError, SyntaxError):
        return {}
    docs = {}
    for node, below in zip(tree.body, tree.body[1:], strict=False):  # type: ignore[attr-defined]
        is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and is_text:
            docs[node.target.id] = " ".join(str(below.value.value).split())
    return docs

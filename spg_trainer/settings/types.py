"""Types of settings with their ranges, which pydantic checks, and settings as nested dicts, dotted names and JSON.

A range is written where a field is declared (`learning_rate: Positive`), and shown by messages and by `help`. A field
is explained by the docstring below it.
"""

import ast
import inspect
import json
import math
import re
import textwrap
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, fields, is_dataclass, replace
from functools import cache, wraps
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from annotated_types import Ge, Gt, Le, Lt, Predicate

from spg_trainer.errors import SETTINGS, ConfigError, did_you_mean, python_value

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Count = Annotated[int, Ge(1)]
CountOrZero = Annotated[int, Ge(0)]
LengthOrZero = Annotated[int, Ge(0), Le(10**6)]
Seed = Annotated[int, Ge(0), Le(2**63 - 1)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Temperature = Annotated[float, Ge(0), Le(100)]
Rate = Annotated[float, Gt(0), Le(1)]
Share = Annotated[float, Ge(0), Le(1)]
Weight = Annotated[float, Ge(0.01), Le(1)]
Probability = Annotated[float, Gt(0), Le(1)]
Below1 = Annotated[float, Ge(0), Lt(1)]
AtLeast1 = Annotated[float, Ge(1)]
Zero = Annotated[float, Ge(0), Le(0)]
OwnFunction = Annotated[str, Predicate(lambda text: ":" in text)]
"""A function of the user's, by its file or module: `./mine.py:NAME`."""

T = TypeVar("T")
NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false", types.NoneType: "none"}
BOUNDS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
FOLDERS = re.compile(
    r"(?:^|(?<=\+)|(?<=\+ ))"  # a path begins the text, or follows a + (several tasks: `./a.py:A + ./b.py:B`)
    r"(?:[A-Za-z]:|~|\.{1,2})?[/\\]"  # its first folder: `/`, or `C:/`, `~/`, `./`, `../`, each with / or \
    r"(?:[^:+]*[/\\])?"  # the others, up to the last / or \ before the `:ID` or the next +
)
"""Matches the folders before each path in a text, also in `FILE.py:ID`; but not `org/` in an id such as `org/model`."""


def setting_with_value(name: str, value: object) -> str:
    """A setting with its value, as a message writes it (`errors.py`)."""
    return f"${name}={value}"


def argument_with_value(name: str, value: object) -> str:
    """A hyper-parameter with its value, as a message writes it (`errors.py`)."""
    return f"$algorithm_args {name}={value}"


def expected(hint: Any) -> str:
    """What values a type has, in words: "a whole number, at least 1, or auto"."""
    kind, parts = get_origin(hint), get_args(hint)
    if hint == OwnFunction:
        return "./mine.py:NAME for a function of your own"
    if kind is Annotated:
        bounds = [f"{BOUNDS[type(part)]} {getattr(part, type(part).__name__.lower())}" for part in parts[1:]]
        return f"{NAMES[parts[0]]}, {' and '.join(bounds)}"
    if kind is Literal:
        return f"{'one of ' * (len(parts) > 1)}{', '.join(map(str, parts))}"
    if kind in (Union, types.UnionType):
        return ", or ".join(map(expected, parts))
    if kind in (tuple, dict):
        return f"a tuple, each item {expected(parts[0])}" if kind is tuple else "names with values"
    return NAMES.get(hint, getattr(hint, "__name__", str(hint)))


@cache
def adapter(hint: Any) -> "TypeAdapter[Any]":
    """What checks values of a type."""
    from pydantic import ConfigDict, TypeAdapter  # here, for commands that check nothing: it takes 0.1 s

    return TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False, arbitrary_types_allowed=True))


def validate(hint: Any, values: Sequence[Any], shown: str) -> Any:
    """The first of the values that is of the type and in its range; ConfigError if none is.

    An int counts as a float and becomes one, but a text is no number and a number is no bool. shown: the setting with
    the value, as the error begins.
    """
    for value in values:
        try:
            return adapter(hint).validate_python(value, strict=get_origin(hint) is not tuple)
        except ValueError:  # pydantic's ValidationError
            continue
    words = [
        word for part in (hint, *get_args(hint)) if get_origin(part) is Literal for word in get_args(part)
    ]
    near = did_you_mean(values[-1], words)
    # `a=1,b=2` is read as the text `1,b=2`.
    if isinstance(values[-1], str) and re.search(r",\s*\w+=", values[-1]):
        near = "Separate several KEY=VALUE by spaces, not by commas. "
    raise ConfigError(f"{shown}: expected {expected(hint)}. {near}".rstrip())


def check_values(settings: Any, shown: Callable[[str, object], str] = setting_with_value) -> None:
    """Raises ConfigError for a value that its type does not allow, in a dataclass and the dataclasses in it.

    shown: how the error writes the name and the value.
    """
    for name, hint in hints(type(settings)).items():
        value = getattr(settings, name)
        if is_dataclass(hint) and isinstance(value, hint):
            check_values(value, shown)
        elif is_dataclass(hint):
            raise ConfigError(f"{name}={value!r:.60}: {name} is a group of settings, {hint.__name__}(...).")
        else:
            validate(hint, [value], shown(name, repr(value)))


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as one of the type `hint`; ConfigError if it is none.

    A text is read as the word after a flag: "3" becomes 3 where an int is expected. Any other value, from YAML or
    Python, must be of the type already. where: what an error shows before the value, e.g. `--max-steps `.
    """
    if get_origin(hint) is tuple:
        items = value.split(",") if isinstance(value, str) else value
        items = items if isinstance(items, list | tuple) else [items]
        return tuple(convert(item, get_args(hint)[0], where) for item in items)
    read = scalar(value) if isinstance(value, str) else value
    return validate(hint, [read, value], f"{where}{read!r}")


def settings_value(value: Any) -> Any:
    """A value in Python's own types (`python_value`), and with it each value inside a dict, a list or a tuple.

    E.g. a number of numpy becomes a float.
    """
    if type(value) is dict:
        return {name: settings_value(item) for name, item in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(settings_value, value))
    return python_value(value)


def parse_pairs(words: Sequence[str], where: str) -> dict[str, object]:
    """`["a=1", "b=x"]` -> `{"a": 1, "b": "x"}`; ConfigError, which begins with `where`, for other or repeated words."""
    pairs: dict[str, object] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key or key in pairs:
            problem = "gives a key twice" if key in pairs else "is not of the form KEY=VALUE"
            raise ConfigError(f"{where}: {word} {problem}.")
        pairs[key] = scalar(value)
    return pairs


def read_word(flag: str, word: str) -> tuple[str, dict[str, object]]:
    """`spg:negatives=elbo,num_masks=4` -> ("spg", {"negatives": "elbo", "num_masks": 4}); values may have commas.

    A comma separates arguments only if KEY= follows it. flag: the first words of an error.
    """
    name, *arguments = re.split(r":(?=\w+=)", word, maxsplit=1)
    if not arguments:
        return name, {}
    return name, parse_pairs(re.split(r",(?=\w+=)", arguments[0]), f"{flag} {word}")


def scalar(text: str) -> object:
    """The int, float, bool or None that a text spells, or else the text itself.

    Numbers are read as in Python, because YAML 1.1 reads 1e-3 as text and 4:11 as a number.
    """
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


@cache
def hints(cls: type) -> dict[str, Any]:
    """The type of each field of a dataclass, with its range."""
    known = get_type_hints(cls, include_extras=True)
    return {field.name: known[field.name] for field in fields(cls)}


@cache
def settings_of(cls: type, path: str = "") -> Mapping[str, tuple[str, Any]]:
    """{name of a setting: (its dotted name, its type)} of a command, e.g. `"seed": ("seed", int)`.

    The dotted name of a setting in a group begins with the group: `"block_length": ("rollout.block_length", int)`. No
    two settings of a command have the same name. path: the groups that `cls` is in, for the recursion.
    """
    found: dict[str, tuple[str, Any]] = {}
    for name, hint in hints(cls).items():
        dotted = f"{path}{name}"
        found |= settings_of(hint, f"{dotted}.") if is_dataclass(hint) else {name: (dotted, hint)}
    return found


def read_nested(cls: type, values: Any, shown: Callable[[str], str], path: str = "") -> dict[str, Any]:
    """{dotted name: value converted to its type} of nested values for a dataclass: `{"batch.num_generations": 6}`.

    Each key of a dict field gets a dotted name, too: `env_args.blanks`. shown: turns a dotted name into what an error
    calls the setting, e.g. with its file. path: the groups that `cls` is in, for the recursion, e.g. `batch.`. Raises
    ConfigError for an unknown key or a wrong value.
    """
    group = path.rstrip(".")
    if not isinstance(values, Mapping):
        # The group `model` has a setting `model`, for which `model: tiny` was probably meant.
        nearest = f" Did you mean {group}: {{{group}: {values}}}?" if group in hints(cls) else ""
        raise ConfigError(f"{shown(group or 'it')} should hold `name: value` lines, not {values!r}.{nearest}")
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        name, hint = f"{path}{key}", hints(cls).get(key)
        if hint is None:
            meant, _ = settings_of(cls).get(key, (key, None))  # the setting of that name in a group
            near = did_you_mean(meant, [*hints(cls), *(dotted for dotted, _ in settings_of(cls).values())])
            known = ", ".join(hints(cls))
            raise ConfigError(f"{shown(name)}={value!r:.80}: no such setting. {near}Known: {known}.")
        if is_dataclass(hint):
            leaves |= read_nested(hint, value, shown, f"{name}.")
        else:
            leaves |= read_leaf(name, value, hint, f"{shown(name)}=")
    return leaves


def read_leaf(name: str, value: Any, hint: Any, where: str) -> dict[str, Any]:
    """{dotted name: value converted to its type} of one setting; a dict has an entry for each key: `env_args.blanks`.

    where: what an error shows before the value, e.g. `--max-steps `.
    """
    read = convert(value, hint, where)
    if isinstance(read, dict):
        return {f"{name}.{key}": item for key, item in read.items()}
    return {name: read}


def replace_nested(base: T, leaves: Mapping[str, Any]) -> T:
    """A copy of a dataclass with values replaced by `leaves`, {dotted name: value} as `read_nested` returns.

    `batch.num_generations` is a setting of a group; `env_args.blanks` is a key of a dict, whose other keys stay.
    """
    by_field: dict[str, dict[str, Any]] = {}
    for name, value in leaves.items():
        field_name, _, rest = name.partition(".")
        by_field.setdefault(field_name, {})[rest] = value
    changes: dict[str, Any] = {}
    for field_name, inner in by_field.items():
        old = getattr(base, field_name)
        if is_dataclass(old):
            changes[field_name] = replace_nested(old, inner)
        elif isinstance(old, dict):
            changes[field_name] = old | inner
        else:
            changes[field_name] = inner[""]  # "" is the rest of a name without a dot
    return replace(base, **changes)  # type: ignore[type-var]


def overlay(base: T, values: Any, source: str) -> T:
    """A copy of the dataclass `base` with values replaced by nested `values`; dicts are merged by key.

    source: what errors call the file of the values. Raises ConfigError as `read_nested`.
    """
    return replace_nested(base, read_nested(type(base), values, lambda name: f"{source} {name}"))


def plain(settings: Any) -> dict[str, Any]:
    """Settings as nested dicts of scalars and lists, which JSON and YAML can hold; anything else becomes text."""
    values = settings if isinstance(settings, Mapping) else asdict(settings)
    return json.loads(json.dumps(values, default=str))


def to_json(value: Any) -> Any:
    """`value` for JSON: arrays become numbers and lists, NaN and infinities null, other objects text."""
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, int | str):
        return value
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    return to_json(value.tolist()) if hasattr(value, "tolist") else str(value)


def json_document(content: Mapping[str, Any]) -> str:
    """The text of a JSON file for people: indented, with keys in the given order."""
    return json.dumps(to_json(content), indent=2, allow_nan=False) + "\n"


def flatten(tree: Mapping[str, Any], ignore: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` -> `{"a.b": 1}`, without the dotted names in `ignore`; an empty mapping leaves nothing.

    prefix: the dotted name of `tree` with a dot behind it, for the recursion.
    """
    leaves: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if name in ignore:
            continue
        if isinstance(value, Mapping):
            leaves |= flatten(value, ignore, f"{name}.")
        else:
            leaves[name] = value
    return leaves


def without_folders(value: Any) -> Any:
    """A setting, or a tree of settings, with paths cut to their last name: `/home/ada/puzzles.csv` -> `puzzles.csv`."""
    if isinstance(value, Mapping):
        return {name: without_folders(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_folders(item) for item in value]
    return FOLDERS.sub("", value) if isinstance(value, str) else value


def explained(cls: type[T]) -> type[T]:
    """Decorates a dataclass of settings.

    - `help(cls)` lists the settings; this text, `cls.__doc__`, is made when it is asked for.
    - Messages can name the settings (`errors.SETTINGS`).
    - `repr` shows the settings that differ from their defaults.
    - Unknown names are refused, and numpy's numbers and the like become those of Python (`settings_value`).
    """
    init, known = cls.__init__, [field.name for field in fields(cls)]  # type: ignore[arg-type]
    init.__annotations__ = get_type_hints(init)  # plain types, without ranges

    @wraps(init)
    def checked_init(self: Any, *arguments: Any, **keywords: Any) -> None:
        for name in keywords.keys() - known:
            near = did_you_mean(name, known)
            raise ConfigError(
                f"{cls.__name__}({name}=...): no such setting. {near}`help({cls.__name__})` lists them."
            )
        init(self, *map(settings_value, arguments), **settings_value(keywords))

    cls.__init__ = checked_init  # type: ignore[method-assign]
    cls.__repr__ = _repr  # type: ignore[assignment, method-assign]
    cls.__doc__ = _Help(cls.__doc__ or "")  # type: ignore[assignment]
    SETTINGS.update(known)
    return cls


def _repr(settings: Any) -> str:
    """The repr of settings: `Sampling(max_completion_length=20, temperature=0.9)`."""
    values = {field: getattr(settings, field.name) for field in fields(settings)}
    changed = [f"{field.name}={value!r}" for field, value in values.items() if value != default_of(field)]
    return f"{type(settings).__name__}({', '.join(changed)})"


def default_of(field: "Field[Any]") -> Any:
    """The default of a field; MISSING if it has none."""
    return field.default if field.default_factory is MISSING else field.default_factory()


class _Help:
    """The `__doc__` of a class of settings: its docstring, and each setting with type, range, default and meaning."""

    def __init__(self, summary: str) -> None:
        self.summary = summary

    def __get__(self, instance: object, owner: type) -> str:
        entries = [f"{inspect.cleandoc(self.summary)}\n\nSettings:"]
        for field in fields(owner):  # type: ignore[arg-type]
            hint, text = hints(owner)[field.name], docstrings(owner).get(field.name, "")
            head = f"  {field.name}: {expected(hint)}"
            if is_dataclass(hint):
                names = ", ".join(hints(hint))
                text = (
                    f"{summary(hint)} It has {names}; help({hint.__module__}.{hint.__name__}) explains them."
                )
            elif default_of(field) is not MISSING:
                head += f" (default: {default_of(field)!r})"
            indent = " " * 6
            entries += [head, textwrap.fill(text, 100, initial_indent=indent, subsequent_indent=indent)]
        return "\n".join(entries)


def summary(cls: type) -> str:
    """The docstring of a class, without the list of its settings."""
    doc = vars(cls).get("__doc__") or ""
    return inspect.cleandoc(doc.summary if isinstance(doc, _Help) else doc)


@cache
def docstrings(cls: type) -> dict[str, str]:
    """{name of a field: the docstring below it} of a dataclass and its base classes.

    A class without source, e.g. from Python's prompt, has none.
    """
    docs: dict[str, str] = {}
    for base in filter(is_dataclass, reversed(cls.__mro__)):
        try:
            (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        except (OSError, TypeError, SyntaxError):
            continue
        for node, below in zip(tree.body, tree.body[1:], strict=False):  # type: ignore[attr-defined]
            if isinstance(node, ast.AnnAssign) and isinstance(below, ast.Expr):
                docs[node.target.id] = " ".join(str(below.value.value).split())  # type: ignore[attr-defined, union-attr]
    return docs

"""Values of settings: their ranges as parts of a field's type, their conversion, and how `--help` explains them.

A range is written where a field is declared (`learning_rate: Positive`). Converted are `KEY=VALUE` words
(`parse_pairs`) and nested mappings (YAML, JSON): pydantic would save some thirty lines, but its import would add 0.16 s
to every start. A field is explained by the docstring below it, with its type and range.
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
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from spg_trainer.errors import SETTINGS, ConfigError, did_you_mean, python_value


class Range(NamedTuple):
    """The values that a number may have."""

    expected: str
    """What an error says would be right: "0 or more"."""
    holds: Callable[[Any], bool]
    """Whether a value is in the range."""
    advice: str = ""
    """What an error adds to `expected`, with the punctuation before it: why, or a value to try (". Try 1")."""


NOT_NEGATIVE = Range("0 or more", lambda v: 0 <= v < math.inf)
Count = Annotated[int, Range("at least 1", lambda v: v >= 1)]
CountOrZero = Annotated[int, NOT_NEGATIVE]
LengthOrZero = Annotated[int, Range("from 0 to 1000000", lambda v: 0 <= v <= 10**6)]
Seed = Annotated[int, Range("from 0 to 2**63 - 1", lambda v: 0 <= v < 2**63)]
NotNegative = Annotated[float, NOT_NEGATIVE]
Positive = Annotated[float, Range("above 0", lambda v: 0 < v < math.inf)]
Temperature = Annotated[float, Range("from 0 to 100", lambda v: 0 <= v <= 100, ". Try 1")]
Rate = Annotated[float, Range("above 0 and at most 1", lambda v: 0 < v <= 1, ". Try 1e-5")]
Share = Annotated[float, Range("from 0 to 1", lambda v: 0 <= v <= 1)]
Weight = Annotated[float, Range("from 0.01 to 1", lambda v: 0.01 <= v <= 1)]
Probability = Annotated[float, Range("above 0 and at most 1", lambda v: 0 < v <= 1)]
Below1 = Annotated[float, Range("from 0 up to, but not, 1", lambda v: 0 <= v < 1)]
AtLeast1 = Annotated[float, Range("1 or more", lambda v: 1 <= v < math.inf)]
Zero = Annotated[float, Range("0", lambda v: v == 0)]


def setting_with_value(name: str, value: object) -> str:
    """A setting with its value, as a message writes it (`errors.py`)."""
    return f"${name}={value}"


def argument_with_value(name: str, value: object) -> str:
    """A hyper-parameter with its value, as a message writes it (`errors.py`)."""
    return f"$algorithm_args {name}={value}"


def check_values(settings: Any, shown: Callable[[str, object], str] = setting_with_value) -> None:
    """Raises ConfigError for a value that its annotation does not allow, in a dataclass and the dataclasses in it.

    A number has to be in its `Range`, a choice among the words of its `Literal`, and a `bool` True or False: the text
    "false" would count as true. shown: how the error writes the name and the value.
    """
    annotated = get_type_hints(type(settings), include_extras=True)
    for field in fields(settings):
        name, value = field.name, getattr(settings, field.name)
        if is_dataclass(value):
            check_values(value, shown)
        check_number(annotated[name], name, value, shown)  # a type such as `Count`
        # The range may be in a part of the type, as in `Count | None` and `Count | str`. There None or a word may stand
        # in place of a number, so only a number is checked.
        if isinstance(value, Real):
            for part in get_args(annotated[name]):
                check_number(part, name, value, shown)
        check_choice(hints(type(settings))[name], name, value, shown)


def check_choice(hint: Any, name: str, value: Any, shown: Callable[[str, object], str]) -> None:
    """Raises ConfigError for a value that is no choice of `hint`: of bool, a Literal, several of these, or a union.

    hint: the type without `Annotated`.
    """
    if hint is bool and not isinstance(value, bool):
        raise ConfigError(f"{shown(name, repr(value))}: should be True or False.")
    if get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            example = f", ({value!r},)" if isinstance(value, str) else ""
            raise ConfigError(f"{shown(name, repr(value))}: should be a tuple{example}.")
        for item in value:
            check_choice(get_args(hint)[0], name, item, shown)
    is_union = get_origin(hint) in (Union, types.UnionType)
    options = get_args(hint) if is_union else (hint,)
    words = [word for option in options if get_origin(option) is Literal for word in get_args(option)]
    is_other_word = get_origin(hint) is Literal and value not in words
    is_other_text = is_union and isinstance(value, str) and str not in options and value not in words
    if is_other_word or is_other_text:
        choices = [*(NAMES[option] for option in options if option in NAMES), *map(str, words)] or [f"{hint}"]
        one_of = f"one of {', '.join(choices)}" if len(choices) > 1 else choices[0]
        raise ConfigError(f"{shown(name, value)}: expected {one_of}. {did_you_mean(value, words)}".rstrip())


def check_number(hint: Any, name: str, value: Any, shown: Callable[[str, object], str]) -> None:
    """Raises ConfigError if `hint` is a type with a range, such as `Positive`, and the value is no number in it."""
    for allowed in ranges_of(hint):
        expected = f"{allowed.expected}{allowed.advice}"
        kind, number = (Integral, "whole number") if hint.__origin__ is int else (Real, "number")
        if not isinstance(value, kind) or isinstance(value, bool):
            raise ConfigError(f"{shown(name, repr(value))}: should be a {number}, {expected}.")
        if not allowed.holds(value):
            raise ConfigError(f"{shown(name, value)}: should be {expected}.")


def ranges_of(hint: Any) -> list[Range]:
    """The ranges of an `Annotated` type such as `Positive`; [] for any other type, also for `Positive | None`."""
    return [part for part in getattr(hint, "__metadata__", ()) if isinstance(part, Range)]


T = TypeVar("T")
NAMES = {int: "a whole number", float: "a number", str: "text", dict: "names with values"}
"""{type: its name in errors}."""
FOLDERS = re.compile(
    r"(?:^|(?<=\+)|(?<=\+ ))"  # a path begins the text, or follows a + (several tasks: `./a.py:A + ./b.py:B`)
    r"(?:[A-Za-z]:|~|\.{1,2})?[/\\]"  # its first folder: `/`, or `C:/`, `~/`, `./`, `../`, each with / or \
    r"(?:[^:+]*[/\\])?"  # the others, up to the last / or \ before the `:ID` or the next +
)
"""Matches the folders before each path in a text, also in `FILE.py:ID`; but not `org/` in an id such as `org/model`."""


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
    """The type of each field of a dataclass, without `Annotated`."""
    known = get_type_hints(cls)
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
    ConfigError for an unknown key or a wrong type.
    """
    if not isinstance(values, Mapping):
        path_of_group = path.rstrip(".")
        _, _, group = path_of_group.rpartition(".")
        # The group `model` has a setting `model`, for which `model: tiny` was probably meant.
        nearest = f" Did you mean {group}: {{{group}: {values}}}?" if group in hints(cls) else ""
        name_in_error = shown(path_of_group or "it")  # the settings as a whole have no name
        raise ConfigError(f"{name_in_error} should hold `name: value` lines, not {values!r}.{nearest}")
    leaves: dict[str, Any] = {}
    for key, value in values.items():
        name, hint = f"{path}{key}", hints(cls).get(key)
        if hint is None:
            groups = {group: hints(inner) for group, inner in hints(cls).items() if is_dataclass(inner)}
            having_key = [group for group, names in groups.items() if key in names]
            if having_key:
                nearest = f"Did you mean '{having_key[0]}.{key}'? "
            else:
                nearest = did_you_mean(key, hints(cls))
            known = ", ".join(hints(cls))
            raise ConfigError(f"{shown(name)}={value!r}: no such setting. {nearest}Known: {known}.")
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


def convert(value: Any, hint: Any, where: str) -> Any:
    """`value` converted to the type `hint`, a scalar, Literal, optional, dict or tuple; ConfigError if it cannot be.

    A text is read like the word after a flag: "3" becomes 3 where an int is expected. Any other value, from YAML or
    Python, must have the type already. where: what an error shows before the value, e.g. `--max-steps `.
    """
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _convert_to_union(value, options, where)
    if origin is Literal:
        if value in options:
            return value
        choices = f"one of {', '.join(options)}. {did_you_mean(value, options)}".rstrip()
        raise ConfigError(f"{where}{value!r}: expected {choices}")
    if origin is tuple:
        items = value.split(",") if isinstance(value, str) else value
        items = items if isinstance(items, list | tuple) else [items]
        return tuple(convert(item, options[0], where) for item in items)
    return _convert_to_type(value, origin or hint, where)


def _convert_to_union(value: Any, options: Sequence[Any], where: str) -> Any:
    """As `convert`, to a union of `options`: `int | None`, `int | str` or `int | Literal["auto"]`."""
    if type(None) in options:
        rest = tuple(option for option in options if option is not type(None))
        return None if value in (None, "none", "None") else convert(value, Union[rest], where)  # noqa: UP007
    read = scalar(value) if isinstance(value, str) else value  # a number if the text is one
    words = [word for option in options for word in get_args(option)]  # the words of a Literal
    has_first_type = type(read) is options[0]
    if words and not has_first_type and value not in words:
        choices = " or ".join([NAMES[options[0]], *words])
        raise ConfigError(f"{where}{value!r}: expected {choices}.")
    if type(read) in options:
        return read
    # A word of the Literal, or the text of `int | str`, where also a number of another type becomes text.
    return str(value)


def _convert_to_type(value: Any, kind: type, where: str) -> Any:
    """As `convert`, to a scalar type or to a dict."""
    read = scalar(value) if isinstance(value, str) and kind is not str else value
    if kind is float and type(read) is int:
        read = float(read)
    if type(read) is not kind or (kind is float and not math.isfinite(read)):
        has_commas = isinstance(value, str) and re.search(r",\s*\w+=", value)
        advice = " Separate several KEY=VALUE by spaces, not by commas." if has_commas else ""
        raise ConfigError(f"{where}{value!r}: expected {NAMES.get(kind, 'true or false')}.{advice}")
    return read


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

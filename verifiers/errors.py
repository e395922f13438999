"""Every error that this package raises on purpose: about an argument or a reference, never about a completion."""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any


class VerifierError(Exception):
    """The base of all errors raised by `verifiers`; the text of each says what is wrong and what would be right.

    `argument` is the name of the wrong argument, "" if there is none; `index` the position in the batch, None outside a
    batch; `value` the wrong value.
    """

    def __init__(
        self, message: str, *, argument: str = "", index: int | None = None, value: Any = None
    ) -> None:
        super().__init__(message)
        self.argument = argument
        self.index = index
        self.value = value


class UnknownTaskError(VerifierError, LookupError):
    """A task name that is not registered."""


class ArgumentError(VerifierError, TypeError, ValueError):
    """A call that cannot be understood: a wrong mode, a missing field, a string where a sequence belongs."""


class InvalidReferenceError(VerifierError, ValueError):
    """A reference (a puzzle, an answer key) by which no completion can be judged."""


class CommandError(VerifierError):
    """A command line that cannot be carried out: a file that is not there, flags that do not fit together."""


class LineError(VerifierError):
    """A line that holds no sample; the text of the error completes the sentence "line 7 ...".

    `columns` are the line's columns, if they are known: some of them are written beside its error.
    """

    columns: Mapping[str, Any] = MappingProxyType({})


def shown(value: object, limit: int = 60) -> str:
    """`value` as it appears in an error message: its repr, shortened to `limit` characters."""
    try:
        text = repr(value)
    except ValueError:  # Python prints no integer of more than 4,300 digits
        return f"<{type(value).__name__} too long to print>"
    if len(text) <= limit:
        return text
    return f"{text[:limit]}... ({type(value).__name__}, {len(text)} characters)"


def invalid_reference(argument: str, value: object, problem: str, index: int | None) -> InvalidReferenceError:
    """The error "answer[3]='x' PROBLEM."; `index` is the row of a batch, None outside a batch."""
    where = argument if index is None else f"{argument}[{index}]"
    message = f"{where}={shown(value)} {problem}."
    return InvalidReferenceError(message, argument=argument, index=index, value=value)


def text_of_one(error: VerifierError) -> str:
    """The text of an error about a batch of one as `verify` says it: answer='x', not answer[0]='x'."""
    return str(error).replace(f"{error.argument}[0]=", f"{error.argument}=", 1).removeprefix("Row 0: ")


def plural(n: int, noun: str) -> str:
    """ "1 line", "2 lines"."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def nearest(name: object, known: Iterable[str]) -> str | None:
    """The known name closest to `name`, whatever the case; None if none is close enough to be what was meant.

    A number is close only to numbers with as many digits: 4090 to 4091, but not 1 to 17.
    """
    from difflib import get_close_matches

    word = str(name).lower()
    spelled = {other.lower(): other for other in known}  # {name in small letters: the name as it is written}
    if word.lstrip("+-").replace(".", "", 1).isdecimal():
        spelled = {other: spelling for other, spelling in spelled.items() if len(other) == len(word)}
    # Words whose letters have changed places may be too different for `get_close_matches`: "tyni" and "tiny".
    moved = [other for other in spelled if sorted(other) == sorted(word)]
    close = moved or get_close_matches(word, spelled, n=1, cutoff=0.65)
    return spelled[close[0]] if close else None


def did_you_mean(name: object, known: Iterable[str], shown_as: str = '"{}"') -> str:
    """'Did you mean "sudoku"? ' for the nearest known name, or "" if none is close. shown_as: "{}" is the name."""
    near = nearest(name, known)
    return "" if near is None else f"Did you mean {shown_as.format(near)}? "

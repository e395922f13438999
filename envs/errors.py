"""The errors of this package, and the check of arguments that raises them most often.

Messages are written with flags, for the command line; `str` of an error shows them as Python's keywords.
"""

import re
from ast import literal_eval
from collections.abc import Iterable, Sequence

from verifiers.errors import did_you_mean

_VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s,;`]*[^\s,;:.)`])"""
"""Matches a value: a text in quotes, or a word without the punctuation behind it."""
_FLAGS = re.compile(rf"--env-args((?: \w+={_VALUE})+)|--(verifier|reward) ([A-Z]+\b|{_VALUE}\.py{_VALUE})")
"""Matches flags for arguments of an environment, with their values: `--env-args level=2 source=hub`,
`--reward ./mine.py:brevity`, and placeholders as in `--verifier NAME`. Behind --verifier and --reward, any other word
belongs to the sentence: "the functions of --reward are given ..."."""


class EnvError(Exception):
    """An environment that is unknown, misused, or breaks its contract; the text names it and the problem.

    Its text shows arguments as keywords of `envs.make`; the command line shows `with_flags(error)`.
    """

    def __str__(self) -> str:
        return in_keywords(self.written())

    def written(self) -> str:
        """The message with flags, as it was written."""
        return super().__str__()


def with_flags(error: BaseException) -> str:
    """The text of an error for the command line, or as a part of another EnvError's message.

    Such a message is written with flags throughout, because `str` turns all of them into keywords.
    """
    return error.written() if isinstance(error, EnvError) else str(error)


def in_keywords(message: str) -> str:
    """A message for Python: `--env-args level=2 source=hub` -> `level=2, source="hub"`, and `--verifier NAME` ->
    `verifier=NAME`. A command between backticks stays as it is.
    """

    def keywords(found: re.Match[str]) -> str:
        """Flags that `_FLAGS` has found, as keywords."""
        pairs, flag, value = found.groups()
        if flag:
            return f"{flag}={_as_python(value)}"
        split = re.findall(rf" (\w+)=({_VALUE})", pairs)
        return ", ".join(f"{name}={_as_python(text)}" for name, text in split)

    parts = message.split("`")  # parts with odd numbers stand between backticks
    return "`".join(part if i % 2 else _FLAGS.sub(keywords, part) for i, part in enumerate(parts))


def _as_python(text: str) -> str:
    """The text of a value in Python: text in quotes; numbers, and placeholders in capitals, as they are."""
    if text.isupper() and text.isalpha():
        return text
    try:
        literal_eval(text)
    except (ValueError, SyntaxError):
        return f'"{text}"'
    return text


class MissingPackage(EnvError):
    """An environment that needs a package which is not installed; the text says how to get it."""


class NoDemonstration(EnvError):
    """An environment, or one of its problems, whose author gave no demonstration; the text says how to give one."""


class JudgeFailed(EnvError):
    """A reward function raised; the service that it uses may work the next time."""


class BadRows(EnvError):
    """Some rows of a user's file cannot be used; the text, made by `refused_rows`, names the first of them."""


class DataUnavailable(EnvError):
    """A published data set is not here and cannot be downloaded; the text names it, and what to use instead."""


SHOWN_ROWS = 10
"""How many rows that cannot be used an error names; the others are only counted."""


def refused_rows(file: str, wrong: Sequence[str], count: int) -> EnvError:
    """The error for rows that cannot be used: BadRows, or a plain EnvError if a file has several rows and all are bad.

    If all are bad, a wrong name of a column is the likely mistake. `python -m envs check` reports BadRows as a failed
    check of the task, and stops at any other EnvError. wrong: a sentence on each bad row, at least one, in the order of
    the file. count: how many rows the file has.
    """
    if count > 1 and len(wrong) == count:
        others = f"None of the other {count - 1:,} rows of {file} can be used either."
        if count == 2:
            others = f"The other row of {file} cannot be used either."
        return EnvError(f"{wrong[0]} {others}")
    if len(wrong) == 1:
        return BadRows(wrong[0])
    more = [f"... and {len(wrong) - SHOWN_ROWS:,} more."] if len(wrong) > SHOWN_ROWS else []
    head = f"{len(wrong):,} of {count:,} rows of {file} cannot be used:"
    return BadRows("\n  ".join([head, *wrong[:SHOWN_ROWS], *more]))


def check_choice(env: str, name: str, value: object, known: Iterable[object], other: str = "") -> None:
    """Raises EnvError unless `value` of the argument `name` of `env` is in `known`; the error names the nearest value.

    other: added by the error to the list of known values, e.g. "or the path of a file".
    """
    known = list(known)
    # Types are compared, too, because 1 == 1.0 == True, and the value is written into a run's config.
    if not any(type(value) is type(choice) and value == choice for choice in known):
        if same := [choice for choice in known if choice is not None and str(choice) == str(value)]:
            raise EnvError(f"{env}: {name}={value!r} should be {name}={same[0]!r}, {_kind(same[0])}.")
        words = [str(choice) for choice in known if choice is not None]  # None = the argument is left out
        hint = did_you_mean(value, words)
        # With --env-args level=2,size=4, the value of level is "2,size=4".
        if isinstance(value, str) and re.search(r",\w+=", value):
            hint = f"Divide arguments by spaces, --env-args {name}={value.replace(',', ' ')}. "
        or_other = f", {other}" if other else ""
        raise EnvError(f'{env}: {name}="{value}" is unknown. {hint}Known: {", ".join(words)}{or_other}.')


def _kind(value: object) -> str:
    """The kind of a value, in words."""
    kinds = {bool: "a truth value", int: "a whole number", float: "a number", str: "text"}
    return kinds.get(type(value), f"a {type(value).__name__}")

"""A parser of flags whose errors are one line, and name the flag or the word that was probably meant.

The flags themselves are declared in `verifiers.__main__`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

from verifiers.errors import did_you_mean

UNKNOWN = "unrecognized arguments: "


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors leave out the usage, which would fill the screen."""

    def error(self, message: str) -> NoReturn:
        word = message.removeprefix(UNKNOWN).split()[0].partition("=")[0]  # a flag without its value
        if message.startswith(UNKNOWN) and word.startswith("--"):
            known = [flag for flag in flags_of(self) if flag.startswith("--")]
            if word in known:
                message = f"{word} is a flag of another command"
            else:
                hint = did_you_mean(word, known, shown_as="{}")  # without quotes, as flags are typed
                message = f"there is no flag {word}. {hint}".rstrip()
        end_mark = "?" if message.endswith("?") else "."
        self.exit(2, f"error: {message.rstrip('.?')}{end_mark} See {self.prog} --help.\n")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuses a word that is no choice of an argument, e.g. an unknown command, and names the nearest choice."""
        if action.choices is None or value in action.choices:
            return
        words = [str(choice) for choice in action.choices]
        near = did_you_mean(value, words, shown_as="{}")
        raise argparse.ArgumentError(action, f"{value!r} is unknown. {near}Use one of {', '.join(words)}")


def flags_of(parser: argparse.ArgumentParser) -> Iterator[str]:
    """The flags of a parser and of its commands."""
    for action in parser._actions:
        yield from action.option_strings
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from flags_of(command)


def number_between(least: int, most: int) -> Callable[[str], int]:
    """A function that reads an argument: a whole number from `least` to `most`."""

    def read(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least:,} to {most:,}")
        return int(text)

    return read

"""How a message names a setting: as it is typed, `--block-length 0`, or as Python has it, `block_length=0`.

A message is written once, with `$block_length=0` where it names a setting with its value and `$block_length` where it
names it alone. Errors show it as Python has it (`SpgError`), and the command line as it is typed.
"""

import re
from functools import cache
from typing import get_origin

from spg_trainer.settings.fields import Config, EvalCommand
from spg_trainer.settings.values import settings_of

VALUE = r"""(?:'[^']*'|"[^"]*"|[^\s,;:()]*[^\s,;:().])"""
"""The value of a KEY=VALUE, without the punctuation of the sentence behind it."""
NAMED = re.compile(rf"\$([a-z][a-z0-9_]*)(=?)((?: \w+={VALUE})*)")
"""A setting in a message: its name, whether its value follows, and the KEY=VALUE behind it."""


@cache
def kinds() -> dict[str, object]:
    """{name of a setting of training or evaluation: its kind}; what else stands behind a `$` is no setting."""
    return {
        name: get_origin(hint) or hint
        for command in (EvalCommand, Config)
        for name, (_, hint) in settings_of(command).items()
    }


def as_flag(name: str) -> str:
    """`optimizer.learning_rate` -> `--learning-rate`."""
    return f"--{name.rpartition('.')[2].replace('_', '-')}"


def in_flags(message: str) -> str:
    """A message for the command line: `$block_length=0` -> `--block-length 0`, `$mix right=1` -> `--mix right=1`."""

    def flag(found: re.Match[str]) -> str:
        name, equals, pairs = found.groups()
        return as_flag(name) + " " * bool(equals) + pairs if name in kinds() else found[0]

    return NAMED.sub(flag, message) if "$" in message else message


def flags_as_names(text: str) -> str:
    """A text for the command line with the names that Python has: `--num-masks` -> `num_masks`."""

    def name(found: re.Match[str]) -> str:
        setting = found[1].replace("-", "_")
        return setting if setting in kinds() else found[0]

    return re.sub(r"--([a-z][a-z0-9]*(?:-[a-z0-9]+)*)", name, text)


def in_keywords(message: str) -> str:
    """A message for Python: `$block_length=0` -> `block_length=0`, `$pools` -> `pools=True`, `$mix right=1` ->
    `mix={"right": 1}`.
    """

    def keyword(found: re.Match[str]) -> str:
        name, equals, pairs = found.groups()
        if name not in kinds():
            return found[0]
        if pairs and kinds()[name] is dict:
            items = re.findall(rf" (\w+)=({VALUE})", pairs)
            return f"{name}={{{', '.join(f'{key!r}: {value}' for key, value in items)}}}"
        if not equals and kinds()[name] is bool:
            return f"{name}=True{pairs}"
        return name + equals + pairs

    return NAMED.sub(keyword, message) if "$" in message else message

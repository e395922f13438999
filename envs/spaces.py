"""Gymnasium's spaces of prompts and completions, and how `AsyncVectorEnv` shares prompts between processes."""

import json
import multiprocessing
from collections.abc import Iterator, Sequence
from typing import Any

import gymnasium
from gymnasium.vector.utils.shared_memory import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)

from envs.errors import EnvError
from envs.problem import Prompt, is_prompt

# `Unicode.sample` makes its texts from these.
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz 0123456789<>/\\{}=+-é±中"


class Unicode(gymnasium.Space[str]):
    """Every string. (`gymnasium.spaces.Text` knows only a fixed set of characters.)"""

    is_np_flattenable = False

    def sample(self, mask: None = None, probability: None = None) -> str:
        """A short random text; `mask` and `probability`, which Gymnasium passes, are not used."""
        picks = self.np_random.integers(len(_CHARACTERS), size=int(self.np_random.integers(40)))
        return "".join(_CHARACTERS[i] for i in picks)

    def contains(self, x: Any) -> bool:
        return isinstance(x, str)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self)

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class PromptText(Unicode):
    """Every string, and every chat: a list of {"role": str, "content": str}."""

    def contains(self, x: Any) -> bool:
        return is_prompt(x)


# The memory through which the processes of `AsyncVectorEnv` pass observations.

PROMPT_BYTES = 1 << 20
"""Bytes for the prompt of one environment, as JSON; pages that are never written take no memory."""
_HEAD = 4  # bytes for the length of a prompt


class SharedPrompts(Sequence[Prompt]):
    """The newest prompt of each of n environments; `deepcopy` gives a tuple of the present prompts."""

    def __init__(self, memory: Any, count: int) -> None:
        self._bytes, self._count = memoryview(memory.get_obj()).cast("B"), count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(self)[index]
        number = range(self._count)[index]  # -1 is the last; raises IndexError beyond the end
        head_start = number * PROMPT_BYTES
        start = head_start + _HEAD
        size = int.from_bytes(self._bytes[head_start:start])
        # The size is 0, and the prompt "", until a prompt is written.
        return json.loads(bytes(self._bytes[start : start + size])) if size else ""

    def __iter__(self) -> Iterator[Prompt]:
        return (self[index] for index in range(self._count))

    def __deepcopy__(self, memo: Any) -> tuple[Prompt, ...]:
        return tuple(self)


@create_shared_memory.register(PromptText)
def _create(space: PromptText, n: int = 1, ctx: Any = multiprocessing) -> Any:
    return ctx.Array("B", n * PROMPT_BYTES)


@read_from_shared_memory.register(PromptText)
def _read(space: PromptText, shared_memory: Any, n: int = 1) -> SharedPrompts:
    return SharedPrompts(shared_memory, n)


@write_to_shared_memory.register(PromptText)
def _write(space: PromptText, index: int, value: Prompt, shared_memory: Any) -> None:
    data = json.dumps(value).encode()
    if len(data) > PROMPT_BYTES - _HEAD:
        raise EnvError(
            f"A prompt takes {len(data):,} bytes, and AsyncVectorEnv has room for {PROMPT_BYTES - _HEAD:,}. Give it "
            "shared_memory=False."
        )
    start = index * PROMPT_BYTES
    view = memoryview(shared_memory.get_obj()).cast("B")
    view[start : start + _HEAD + len(data)] = len(data).to_bytes(_HEAD) + data

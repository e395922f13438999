"""What the checks of an environment try: spread problems, junk completions, digests that two processes compare."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from math import sqrt
from typing import Any

import numpy as np

from envs import registry
from envs.core import Problem, TextEnv, read_problem
from envs.errors import EnvError
from envs.splits import SPLITS

_Z = 1.959964


def spread(length: int, count: int) -> list[int]:
    """Up to `count` indices from 0 to length - 1, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).astype(np.int64)).tolist()


def content(problem: Problem) -> str:
    """What two equal problems have in common: prompt, prefix and reference, as text."""
    parts = [problem.prompt, problem.completion_prefix, problem.reference]
    return json.dumps(parts, sort_keys=True, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def digests(name: str, arguments: Mapping[str, Any], count: int, backwards: bool = False) -> dict[str, str]:
    """{"train 17": hash of that problem} for `count` problems of each split, asked for in either order."""
    found = {}
    for split in SPLITS:
        env = registry.make(name, split=split, **arguments)
        indices = spread(len(env), count)
        for index in reversed(indices) if backwards else indices:
            text = content(read_problem(env, index))
            found[f"{split} {index}"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return found


def demonstration(env: TextEnv, problem: Problem) -> str | None:
    """The author's demonstration; None if there is none."""
    if env.demonstration.__func__ is TextEnv.demonstration:  # type: ignore[attr-defined]
        return None
    try:
        return env.demonstration(problem)
    except EnvError as error:
        if "no demonstration" in str(error):
            return None
        raise


def prompt_text(problem: Problem) -> str:
    """What the model reads, without the roles of a chat."""
    prompt = problem.prompt
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def junk(problem: Problem, right: str | None, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """(what it is, completion): texts that solve no problem, some of them long, broken or hostile."""
    noise = "".join(map(chr, rng.integers(0, 0x3000, 200)))
    yield "nothing", ""
    yield "white space", " \n\t "
    yield "random bytes", rng.bytes(300).decode("latin-1")
    yield "random text", f"<answer>{noise}</answer>"
    yield "the prompt", prompt_text(problem)
    yield "an empty answer", "<answer></answer>"
    yield "end tokens", "<|eot_id|><|endoftext|>"
    yield "NUL", "<answer>\0</answer>"
    yield "a lone surrogate", "<answer>\ud800</answer>"
    yield "200,000 digits", f"<answer>{'9' * 200_000}</answer>"
    yield "20,000 open tags", "<answer>" * 20_000
    yield "20,000 brackets", f"<answer>{'(' * 20_000}</answer>"
    if right is not None:
        yield "an answer behind the end", f"<|endoftext|>{right}"


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a rate (Wilson 1927); (0, 1) for n = 0."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = successes / n, _Z * _Z
    centre, width = rate + z2 / (2 * n), _Z * sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    low = 0.0 if successes == 0 else (centre - width) / (1 + z2 / n)
    return low, 1.0 if successes == n else (centre + width) / (1 + z2 / n)

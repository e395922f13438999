"""Demonstrations of mixed quality, drawn from an environment and written as token ids.

A base model that RL can teach must *have* the right behaviour as one of several: `mix` says which share of the
demonstrations follows which habit of the environment; `right` is always its `demonstration`.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.packages import envs
from spg_trainer.seeding import numpy_generator

if TYPE_CHECKING:
    from envs import Problem, TextEnv


def mix_shares(mix: Mapping[str, object], env: "TextEnv") -> dict[str, float]:
    """The mix as shares that sum to 1, checked against the habits of the environment's first problem.

    Raises:
        ConfigError: a habit the environment does not have, or a share that is not a number >= 0.
    """
    mix = mix or {"right": 1.0}
    habits = env.habits(envs.core.read_problem(env, 0))
    if "right" in habits:
        raise ConfigError(
            f"{env.spec_name} has a habit named 'right', which always means its demonstration. Rename the habit."
        )
    known = {"right", *habits}
    for name, share in mix.items():
        if name not in known:
            raise ConfigError(
                f"--mix {name}={share}: {env.spec_name} has no habit {name!r}. Known: {', '.join(sorted(known))}."
            )
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise ConfigError(f"--mix {name}={share}: a share is a number >= 0, e.g. {name}=0.4.")
    total = sum(float(share) for share in mix.values())
    if total <= 0:
        raise ConfigError("--mix: all shares are 0. Give one habit a share, e.g. --mix right=1.")
    return {name: float(share) / total for name, share in mix.items()}


def suggestion(env: "TextEnv") -> str:
    """The end of a line that tells how to make a base model for `env`: which --mix its habits allow, if any."""
    habits = env.habits(envs.core.read_problem(env, 0))
    if not habits:
        return ""
    each = 0.6 / len(habits)
    return "; add --mix right=0.4 " + " ".join(f"{name}={each:.2g}" for name in habits) + " for its habits"


def draw_demonstrations(
    env: "TextEnv", mix: Mapping[str, float], seed: int, step: int, count: int
) -> "tuple[list[Problem], list[str]]":
    """`count` problems of the environment with a completion each, as (problems, completions).

    Row r of step s is a pure function of (seed, s, r).
    """
    names, edges = list(mix), np.cumsum(list(mix.values()))
    problems, completions = [], []
    for row in range(count):
        rng = numpy_generator(seed, "sft", step, row)
        problem = envs.core.read_problem(env, int(rng.integers(len(env))))
        name = names[min(int(np.searchsorted(edges, rng.random(), side="right")), len(names) - 1)]
        problems.append(problem)
        completions.append(env.demonstration(problem) if name == "right" else env.habits(problem)[name])
    return problems, completions


def encode_completions(policy: Policy, completions: Sequence[str], length: int) -> Tensor:
    """Token ids (B, length) int64: the text, one end token, then padding, as LLaDA's own training data ends.

    Raises:
        ConfigError: a completion that does not fit, naming the length that would.
    """
    end = policy.end_token_ids[-1]
    ids = policy.tokenizer(list(completions), add_special_tokens=False)["input_ids"]
    longest = max(len(row) for row in ids) + 1
    if longest > length:
        raise ConfigError(
            f"A demonstration has {longest} tokens with its end token, more than --max-completion-length {length}. "
            f"Use --max-completion-length {longest} or more."
        )
    out = torch.full((len(ids), length), policy.pad_id, dtype=torch.int64)
    for row, tokens in enumerate(ids):
        out[row, : len(tokens)] = torch.tensor(tokens)
        out[row, len(tokens)] = end
    return out

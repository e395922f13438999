"""One rollout: problems -> prompts -> completions -> rewards, for this process's share of the groups."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from spg_trainer.batch import Rollouts
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.installed import envs
from spg_trainer.rollout import Sampling, decode_completions, encode_prompts, rollout
from spg_trainer.seeding import generator, numpy_generator

MAX_ERROR_SHARE = 0.05
"""A step in which a larger share of the completions could not be scored stops the run."""


@dataclass(frozen=True)
class Scored:
    """Completions of some problems and what the environment said of them; every field has B entries."""

    index: np.ndarray
    """(B,) int64, problem of each completion."""
    generation: np.ndarray
    """(B,) int64, number of the completion in its group."""
    problems: list[Any]
    completions: list[str]
    rollouts: Rollouts
    rewards: np.ndarray
    """(B,) float64."""
    components: dict[str, np.ndarray]
    """Name -> (B,) float64."""
    correct: np.ndarray
    """(B,) bool."""
    reason: list[str]
    extracted: list[str | None]

    def __len__(self) -> int:
        return len(self.completions)


def choose_problems(seed: int, step: int, count: int, size: int) -> np.ndarray:
    """`count` distinct problem indices below `size` for a step, (count,) int64; the same for every process."""
    if count > size:
        raise ConfigError(
            f"--prompts-per-step {count} is more than the {size} problems of this split. Use {size} or fewer."
        )
    return numpy_generator(seed, "problems", step).choice(size, size=count, replace=False)


def sample_and_score(
    policy: Any,
    env: Any,
    index: np.ndarray,
    generation: np.ndarray,
    sampling: Sampling,
    *,
    key: Sequence[int | str],
    seed: int,
    rows_per_forward: int,
) -> Scored:
    """Writes one completion per (index, generation) pair and scores all of them in one verifier call.

    Args:
        env: a `TextEnv`; the split is its own.
        index, generation: (B,) int64; the noise of a row is keyed by (seed, *key, index, generation).
    """
    vector = envs.TextVectorEnv(env, num_envs=len(index))
    prompts, _ = vector.reset(options={"index": index})
    problems = [env.problem(int(i)) for i in index]
    prompt_ids, prompt_mask = encode_prompts(policy, prompts, [p.completion_prefix for p in problems])
    streams = None
    if sampling.draws_noise:
        keys = zip(index.tolist(), generation.tolist(), strict=True)
        streams = [generator(seed, *key, i, g, device=prompt_ids.device) for i, g in keys]
    rollouts = rollout(policy, prompt_ids, prompt_mask, sampling, streams, rows_per_forward=rows_per_forward)
    completions = decode_completions(policy, rollouts)
    completions = [p.completion_prefix + c for p, c in zip(problems, completions, strict=True)]
    _, rewards, _, _, info = vector.step(completions)
    stop_on_errors(env, index, info)
    return Scored(
        index=index,
        generation=generation,
        problems=problems,
        completions=completions,
        rollouts=rollouts,
        rewards=rewards,
        components=info["rewards"],
        correct=info["correct"],
        reason=list(info["reason"]),
        extracted=list(info["extracted"]),
    )


def stop_on_errors(env: Any, index: np.ndarray, info: dict[str, Any]) -> None:
    """Raises TrainingError when too many completions of a batch could not be scored."""
    failed = [row for row, reason in enumerate(info["reason"]) if reason == "error"]
    if len(failed) > MAX_ERROR_SHARE * len(index):
        first = failed[0]
        trace = info["traceback"][first] if "traceback" in info else None
        raise TrainingError(
            f"{type(env).__name__}.score failed on {len(failed)} of {len(index)} completions "
            f"(more than {MAX_ERROR_SHARE:.0%}); the first is problem {int(index[first])}. "
            f"Mend the environment, then go on with --resume auto.\n{trace or ''}".rstrip()
        )


def sample_rows(
    scored: Scored, *, env: Any, step: int, advantages: torch.Tensor | None = None
) -> list[dict[str, Any]]:
    """The rows of samples/step-N.jsonl: what was asked, written, rewarded, and when each token was revealed."""
    reveal = scored.rollouts.reveal_step.tolist()
    rows = []
    for b in range(len(scored)):
        row = {
            "step": step,
            "env": env.spec_name,
            "task": getattr(env, "task", ""),
            "index": int(scored.index[b]),
            "generation": int(scored.generation[b]),
            "prompt": scored.problems[b].prompt,
            "completion": scored.completions[b],
            "rewards": {name: float(values[b]) for name, values in scored.components.items()},
            "reward": float(scored.rewards[b]),
            "correct": bool(scored.correct[b]),
            "reason": scored.reason[b],
            "extracted": scored.extracted[b],
            "reveal_step": reveal[b],
            **scored.problems[b].reference,
        }
        if advantages is not None:
            row["advantage"] = float(advantages[b])
        rows.append(row)
    return rows

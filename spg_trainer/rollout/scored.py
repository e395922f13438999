"""Scored rows, which every source gives to the training loop, and their records in samples/."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from spg_trainer.distributed import gather
from spg_trainer.models import Policy
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.tensors import NEVER, Rows, cut_into_groups

if TYPE_CHECKING:
    from envs import Problem, TextEnv
    from spg_trainer.rollout.dealing import Pools


def given_rows(rows: Rows, rewards: np.ndarray, reason: list[str]) -> Rows:
    """Scored rows of given completions, which no environment judged; those with a reward above 0 count as right."""
    count = len(rows)
    return rows.with_columns(
        rewards=rewards,
        components={},
        correct=rewards > 0,
        reason=reason,
        extracted=[None] * count,
        traceback=[None] * count,
        replies=[None] * count,
        truncated=np.zeros(count, dtype=bool),
    )


def gather_groups(rows: Rows, *columns: np.ndarray) -> list[np.ndarray]:
    """Gathers each column from all processes and cuts it into groups, e.g. the rewards into (P, G).

    Every process must call this, or the others wait. columns: (B,) each, of this process's rows; an episode's value is
    taken from its last turn.
    """
    columns_here = (rows.episode.numpy(), rows.generation.numpy(), *columns)
    of_last_turns = [values[rows.last_turns] for values in columns_here]
    columns_by_process = gather([of_last_turns])  # each process gives one item, the list of its columns
    arrays_by_column = zip(*columns_by_process, strict=True)  # for each column, its arrays of all processes
    episode, generation, *gathered = [np.concatenate(arrays) for arrays in arrays_by_column]
    order = episode.argsort(kind="stable")
    return [cut_into_groups(values[order], generation[order]) for values in gathered]


class Source(Protocol):
    """What the training loop uses of a source of completions."""

    spec_name: str
    """The name of the task or the file that the problems come from, as samples/ records it."""
    notice: str
    """What the user should know of the problems, e.g. how many are skipped; "" = nothing."""
    env: "TextEnv | None"
    """The environment whose problems the model solves; None if completions are given."""
    mix: Mapping[str, float]
    """{`right` or a habit: its share among the demonstrations}; {} if no demonstrations are learned."""
    pools: "Pools | None"
    """The difficulty pools of the problems; None if all problems are drawn equally often."""

    def collect(self, step: int | str) -> Rows:
        """This process's completions of a step.

        step: its number, or "validation" for the held-out completions whose loss a validation measures.
        """

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """An episode for a terminal: the problem, its completions and the replies to them."""


def sample_rows(
    scored: Rows,
    *,
    policy: Policy,
    env: "TextEnv | Source",
    step: int,
    advantages: torch.Tensor | None = None,
    set_aside: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The rows of samples/step-N.jsonl: prompts, completions, rewards, and when each token was unmasked.

    "tokens", "reveal_step" and "confidence" (the model's probability of the token when it was unmasked) have an entry
    for each position. A position that stayed masked has "", -1 and null. A position whose token a template of the task
    gave has this token ("" for padding), -2 and null. An episode is one row, with its last completion; in an
    environment of several turns, "turns" has all completions of the episode, each with the reply to it.

    env: gives the task's name; for given completions, their `Source`. advantages: (B,), 0 for completions that were set
    aside. set_aside: (B,) bool, the completions that the step did not learn from; None if --max-rollout-batches is 1,
    since a step then learns from all.
    """
    rows, turns = [], []  # `turns` are those of the present episode, up to its last turn
    is_last_turn, has_turns = scored.is_last_turn.tolist(), scored.has_turns
    for b, tokens in enumerate(token_records(policy, scored)):
        if has_turns:
            turns.append({"completion": scored.completions[b], **tokens, "reply": scored.replies[b]})
            if advantages is not None:
                turns[-1]["advantage"] = float(advantages[b])
        if not is_last_turn[b]:
            continue
        components = {name: values[b] for name, values in scored.components.items()}
        row = {
            "step": step,
            "env": env.spec_name,
            "task": scored.problems[b].task or getattr(env, "task", ""),
            "index": int(scored.problem[b]),
            "generation": int(scored.generation[b]),
            "prompt": scored.problems[b].prompt,
            "completion": scored.completions[b],
            "rewards": {name: float(value) for name, value in components.items() if not np.isnan(value)},
            "reward": float(scored.rewards[b]),
            "correct": bool(scored.correct[b]),
            "reason": scored.reason[b],
            "extracted": scored.extracted[b],
            **tokens,
        }
        if has_turns:
            row |= {"turns": turns, "truncated": bool(scored.truncated[b])}
            turns = []
        if logged := envs.authoring.reward_functions.reports.logged_for(
            scored.problems[b], scored.completions[b]
        ):
            row["logged"] = logged  # by `log_extra` of reward functions
        if scored.traceback[b] is not None:
            row["traceback"] = scored.traceback[b]
        if advantages is not None:
            row["advantage"] = float(advantages[b])
        if set_aside is not None:
            row["set_aside"] = bool(set_aside[b])
        for name, value in scored.problems[b].reference.items():
            row.setdefault(name, value)  # a field of the reference does not replace a column of ours
        rows.append(row)
    return rows


def token_records(policy: Policy, rollouts: Rows) -> list[dict[str, Any]]:
    """The "reveal_step", "tokens" and "confidence" of each completion, B in all, as `sample_rows` describes them."""
    ids, steps = rollouts.completion_ids.tolist(), rollouts.unmask_step.tolist()
    different_ids = {token for row in ids for token in row}
    text_of = {token: policy.tokenizer.decode([token]) for token in different_ids}  # each is decoded once
    probabilities = rollouts.unmask_logps.exp().tolist()
    # The padding of a template is left out; a padding token that the model wrote is shown.
    is_padding_of_template = rollouts.given & (rollouts.completion_ids == policy.pad_id)
    has_token = ((rollouts.unmask_step != NEVER) & ~is_padding_of_template).tolist()
    records = []
    for b in range(len(ids)):
        tokens = zip(ids[b], has_token[b], strict=True)
        drawn = zip(probabilities[b], steps[b], strict=True)
        records.append(
            {
                "reveal_step": steps[b],
                "tokens": [text_of[token] if shown else "" for token, shown in tokens],
                "confidence": [round(probability, 4) if step >= 0 else None for probability, step in drawn],
            }
        )
    return records

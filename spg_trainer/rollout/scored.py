"""Completions that have been scored: what every source hands to the training loop, and how samples/ shows it."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from spg_trainer.distributed import gather, gathered_order
from spg_trainer.models import Policy
from spg_trainer.tensors import NEVER, Rollouts

if TYPE_CHECKING:
    from envs import Problem, TextEnv
    from spg_trainer.rollout.pools import Pools


@dataclass(frozen=True)
class Scored:
    """Completions of some problems and what the environment said of them; every field has B entries.

    Where the environment answers back, each turn of an episode is a completion; the turns of an episode stand together,
    in order, and what the episode earned is that of each.
    """

    index: np.ndarray
    """(B,) int64, problem of each completion."""
    generation: np.ndarray
    """(B,) int64, number of the episode in its group."""
    rows: np.ndarray
    """(B,) int64, ascending: number of the episode among those of all processes, group by group."""
    problems: "list[Problem]"
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
    traceback: list[str | None]
    """Where the author's `score` or `reply` raised."""
    replies: Sequence[str | None] = ()
    """What the environment said to each completion, None at the end of an episode; () where it says nothing."""
    truncated: np.ndarray | None = None
    """(B,) bool, whether the episode was cut off; None where every completion is an episode of its own."""
    no_room: int = 0
    """Episodes that ended because the next prompt was too long for the model."""
    skipped: int | None = None
    """Problems of the step, of all processes, that were skipped as too long for the model; None = none may be."""
    chosen: np.ndarray | None = None
    """(P,) int64, ascending: the groups of all processes that the step learns from; None = all that were sampled."""
    batches: int | None = None
    """How many batches of problems were sampled for the step; None = there may be one only."""

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def last(self) -> np.ndarray:
        """(B,) bool, the last turn of each episode: one for each, with what the episode earned."""
        return np.append(self.rows[1:] != self.rows[:-1], True)[: len(self)]

    @property
    def turn(self) -> np.ndarray:
        """(B,) int64, the number of each completion in its episode, from 0 on."""
        return np.arange(len(self)) - np.searchsorted(self.rows, self.rows)

    @classmethod
    def join(cls, parts: "Sequence[Scored]") -> "Scored":
        """The completions of all parts, one part after the other; the numbers of a later part's episodes are higher."""
        first = parts[0]
        if len(parts) == 1:
            return first
        found: dict[str, Any] = {}
        for name in (f.name for f in fields(cls)):
            values = [getattr(part, name) for part in parts]
            if isinstance(values[0], np.ndarray):
                found[name] = np.concatenate(values)
            elif isinstance(values[0], list):
                found[name] = [value for of_one in values for value in of_one]
        components = {name: np.concatenate([p.components[name] for p in parts]) for name in first.components}
        found |= {"components": components, "rollouts": Rollouts.join([part.rollouts for part in parts])}
        found["no_room"] = sum(part.no_room for part in parts)
        found["skipped"] = None if first.skipped is None else sum(part.skipped or 0 for part in parts)
        return replace(first, **found)

    def is_learned(self, num_generations: int) -> np.ndarray:
        """(B,) bool, whether the step learns from a completion."""
        if self.chosen is None:
            return np.ones(len(self), dtype=bool)
        return np.isin(self.rows // num_generations, self.chosen)

    def learned(self, num_generations: int) -> "Scored":
        """The completions that the step learns from; their episodes and groups are numbered anew, without gaps."""
        if self.chosen is None:
            return self
        kept = np.flatnonzero(self.is_learned(num_generations))
        group, generation = np.divmod(self.rows[kept], num_generations)
        return self.select(kept, np.searchsorted(self.chosen, group) * num_generations + generation)

    def select(self, kept: np.ndarray, rows: np.ndarray) -> "Scored":
        """Some of the completions, whole episodes, in the order of `kept`, (n,) int64; rows: (n,) their new numbers."""
        rollouts = self.rollouts.select(torch.from_numpy(kept).to(self.rollouts.completion_ids.device))
        if rollouts.episode is not None:
            rollouts = replace(rollouts, episode=torch.from_numpy(rows).to(rollouts.episode.device))
        found: dict[str, Any] = {}
        for name in (f.name for f in fields(self) if f.name != "chosen"):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                found[name] = value[kept]
            elif isinstance(value, list):
                found[name] = [value[b] for b in kept]
        components = {name: values[kept] for name, values in self.components.items()}
        found |= {"components": components, "rows": rows, "rollouts": rollouts, "chosen": None}
        return replace(self, **found)

    def of_groups(self, *names: str) -> "list[Groups]":
        """Columns by name, what they hold of each episode: those of the groups of all processes."""
        last = self.last
        order = gathered_order(self.rows[last])
        columns = [
            np.array(gather(getattr(self, name)[last].tolist()))[order] for name in (*names, "generation")
        ]
        return [in_groups(values, columns[-1]) for values in columns[:-1]]

    def episode(self, b: int) -> tuple[list[str], list[str]]:
        """(completions, replies) of the episode of completion b."""
        mine = np.flatnonzero(self.rows == self.rows[b])
        replies = [self.replies[i] for i in mine if self.replies and self.replies[i] is not None]
        return [self.completions[i] for i in mine], replies


Groups = np.ndarray | list[np.ndarray]
"""A value of each episode, group by group: (P, G), or P arrays where groups have unequal sizes (`--explore`)."""


def in_groups(values: np.ndarray, generation: np.ndarray) -> Groups:
    """Values (N,) of episodes that stand group by group; generation: (N,) int64, 0 where a group begins."""
    groups = np.split(values, np.flatnonzero(generation == 0)[1:])
    return np.stack(groups) if len({len(group) for group in groups}) == 1 else groups


class Source(Protocol):
    """What the training loop knows of where completions come from."""

    spec_name: str
    """What the problems are of, as samples/ records it."""
    notice: str
    """A line the user should read, or empty."""
    env: "TextEnv | None"
    """The environment that the model answers; None where completions are given."""
    pools: "Pools | None"
    """What is known of each problem's latest groups; None where problems are drawn alike."""

    def collect(self, step: int) -> Scored:
        """This process's completions of a step."""

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """A problem, its completions and the replies for a terminal."""


def sample_rows(
    scored: Scored,
    *,
    policy: Policy,
    env: "TextEnv | Source",
    step: int,
    advantages: torch.Tensor | None = None,
    set_aside: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The rows of samples/step-N.jsonl: what was asked, written, rewarded, and when each token was unmasked.

    "tokens", "reveal_step" and "confidence" (the model's probability of the token as it was unmasked) have an entry for
    each position; one that stayed masked has "", -1 and null; one that a template gave its token, or "" for padding, -2
    and null. Of an episode there is one row, that of its last completion; where the environment answers back, "turns"
    has all of them, with the reply to each. set_aside: (B,) bool, the completions that the step did not learn from;
    None = it could set none aside.
    """
    rows, ids = [], scored.rollouts.completion_ids.tolist()
    pieces = {token: policy.tokenizer.decode([token]) for token in {token for row in ids for token in row}}
    sure = scored.rollouts.unmask_logps.exp().tolist()
    padding = scored.rollouts.given & (scored.rollouts.completion_ids == policy.pad_id)
    shown = ((scored.rollouts.unmask_step != NEVER) & ~padding).tolist()
    steps, last, turns = scored.rollouts.unmask_step.tolist(), scored.last, []
    for b, unmask_step in enumerate(steps):
        written = {
            "completion": scored.completions[b],
            "reveal_step": unmask_step,
            "tokens": [pieces[ids[b][t]] if shown[b][t] else "" for t in range(len(unmask_step))],
            "confidence": [round(sure[b][t], 4) if at >= 0 else None for t, at in enumerate(unmask_step)],
        }
        if scored.truncated is not None:
            turns.append({**written, "reply": scored.replies[b]})
            if advantages is not None:
                turns[-1]["advantage"] = float(advantages[b])
        if not last[b]:
            continue
        row = {
            "step": step,
            "env": env.spec_name,
            "task": scored.problems[b].task or getattr(env, "task", ""),
            "index": int(scored.index[b]),
            "generation": int(scored.generation[b]),
            "prompt": scored.problems[b].prompt,
            "completion": written.pop("completion"),
            "rewards": {name: float(v[b]) for name, v in scored.components.items() if not np.isnan(v[b])},
            "reward": float(scored.rewards[b]),
            "correct": bool(scored.correct[b]),
            "reason": scored.reason[b],
            "extracted": scored.extracted[b],
            **written,
        }
        if scored.truncated is not None:
            row |= {"turns": turns, "truncated": bool(scored.truncated[b])}
            turns = []
        if scored.traceback[b] is not None:
            row["traceback"] = scored.traceback[b]
        if advantages is not None:
            row["advantage"] = float(advantages[b])
        if set_aside is not None:
            row["set_aside"] = bool(set_aside[b])
        rows.append({**row, **scored.problems[b].reference, **row})  # no author's key replaces one of ours
    return rows

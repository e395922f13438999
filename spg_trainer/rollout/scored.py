"""Completions that have been scored: what every source hands to the training loop, and how samples/ records them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from spg_trainer.distributed import gather
from spg_trainer.models import Policy
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.tensors import NEVER, Place, Rollouts

if TYPE_CHECKING:
    from envs import Problem, TextEnv
    from spg_trainer.rollout.pools import Pools


@dataclass(frozen=True)
class Scored:
    """B completions of some problems, and what the environment said of them.

    Where episodes have turns, each turn is a completion, and what the episode earned stands at each of its turns. All
    lists have B entries, one for each completion.
    """

    place: Place
    """Which problem, group, episode and turn each completion is of, in ascending order of episodes; on the CPU."""
    problems: "list[Problem]"
    completions: list[str]
    """Their texts."""
    rollouts: Rollouts
    """Their tokens."""
    rewards: np.ndarray
    """(B,) float64; where an environment scored, the weighted sum of `components`."""
    components: dict[str, np.ndarray]
    """{name of a reward: (B,) float64}, NaN where the problem's task has no such reward."""
    correct: np.ndarray
    """(B,) bool."""
    reason: list[str]
    """The verifier's verdict in a word."""
    extracted: list[str | None]
    """The answer that the verifier found in the completion, None if it found none."""
    traceback: list[str | None]
    """The traceback where the author's `score` or `reply` raised, else None."""
    replies: list[str | None]
    """What the environment said to each completion, None at the end of an episode."""
    truncated: np.ndarray
    """(B,) bool, whether the episode was cut off."""
    no_room: int = 0
    """Episodes that ended because the next prompt was too long for the model."""
    skipped: int | None = None
    """How many problems of the step, on all processes, were skipped as too long; None = --overlong does not skip."""
    chosen: np.ndarray | None = None
    """(P,) int64, ascending: the groups of all processes that the step learns from; None = all that were sampled."""
    batches: int | None = None
    """How many batches of problems were sampled for the step; None = --max-rollout-batches is 1."""

    def __len__(self) -> int:
        return len(self.completions)

    @property
    def episodes(self) -> np.ndarray:
        """(E,) int64, the row of each episode's last turn; `rewards[episodes]` are the rewards of the E episodes."""
        return self.place.last.nonzero()[:, 0].numpy()

    @classmethod
    def given(
        cls,
        place: Place,
        problems: "list[Problem]",
        completions: list[str],
        rollouts: Rollouts,
        rewards: np.ndarray,
        reason: list[str],
    ) -> "Scored":
        """Completions that no model sampled and no environment judged; one with a reward above 0 is right."""
        return cls(
            place=place,
            problems=problems,
            completions=completions,
            rollouts=rollouts,
            rewards=rewards,
            components={},
            correct=rewards > 0,
            reason=reason,
            extracted=[None] * len(completions),
            traceback=[None] * len(completions),
            replies=[None] * len(completions),
            truncated=np.zeros(len(completions), dtype=bool),
        )

    @classmethod
    def join(cls, parts: "Sequence[Scored]") -> "Scored":
        """The completions of all parts, one part after the other.

        The parts are this process's shares of several batches of one step. As part after part is in ascending order of
        episodes, so is the result.
        """
        first = parts[0]
        if len(parts) == 1:
            return first
        joined: dict[str, Any] = {}
        # Arrays and lists have an entry for each completion. The other fields follow one by one, except for `chosen`
        # and `batches`, which are None until all batches are joined.
        for name in (f.name for f in fields(cls)):
            values = [getattr(part, name) for part in parts]
            if isinstance(values[0], np.ndarray):
                joined[name] = np.concatenate(values)
            elif isinstance(values[0], list):
                joined[name] = [value for values_of_part in values for value in values_of_part]
        joined["components"] = {
            name: np.concatenate([part.components[name] for part in parts]) for name in first.components
        }
        joined["place"] = Place.join([part.place for part in parts])
        joined["rollouts"] = Rollouts.join([part.rollouts for part in parts])
        joined["no_room"] = sum(part.no_room for part in parts)
        if first.skipped is not None:  # of each batch it counts the problems of all processes
            joined["skipped"] = sum(part.skipped or 0 for part in parts)
        return replace(first, **joined)

    @property
    def is_learned(self) -> np.ndarray:
        """(B,) bool, whether the step learns from each completion."""
        if self.chosen is None:
            return np.ones(len(self), dtype=bool)
        return np.isin(self.place.group.numpy(), self.chosen)

    def learned(self, num_generations: int) -> "Scored":
        """The completions that the step learns from, with episodes and groups numbered anew, without gaps."""
        if self.chosen is None:
            return self
        kept = torch.from_numpy(np.flatnonzero(self.is_learned))
        place = self.place.select(kept)
        # The new number of a group is its place in the ascending `chosen`: of [2, 5, 6], group 5 becomes group 1.
        group = torch.searchsorted(torch.from_numpy(self.chosen), place.group)
        episode = group * num_generations + place.generation
        return self.select(kept, replace(place, group=group, episode=episode))

    def select(self, index: torch.Tensor, place: Place) -> "Scored":
        """The completions `index`, (n,) int64, in that order. Of an episode, `index` has all turns or none.

        place: the new places of the n completions.
        """
        selected: dict[str, Any] = {
            "place": place,
            "rollouts": self.rollouts.select(index.to(self.rollouts.completion_ids.device)),
            "components": {name: values[index.numpy()] for name, values in self.components.items()},
            "chosen": None,  # it would name groups by the numbers that they had before
        }
        for name in (f.name for f in fields(self) if f.name not in selected):
            value = getattr(self, name)
            if isinstance(value, np.ndarray):
                selected[name] = value[index.numpy()]
            elif isinstance(value, list):
                selected[name] = [value[b] for b in index.tolist()]
        return replace(self, **selected)

    def gather_groups(self, *columns: np.ndarray) -> list[np.ndarray]:
        """Gathers each column from all processes and cuts it into groups, e.g. the rewards into (P, G).

        Every process must call it, or the others wait. columns: (B,) each, of this process's completions; an episode's
        value is that of its last turn.
        """
        columns_here = (self.place.episode.numpy(), self.place.generation.numpy(), *columns)
        columns_by_process = gather([[values[self.episodes] for values in columns_here]])
        of_column = zip(*columns_by_process, strict=True)  # for each column, its arrays, one of each process
        episode, generation, *gathered = [np.concatenate(arrays) for arrays in of_column]
        order = episode.argsort(kind="stable")
        return [cut_into_groups(values[order], generation[order]) for values in gathered]

    def dialogue(self, b: int) -> tuple[list[str], list[str]]:
        """(completions, replies) of the whole episode to which completion b belongs."""
        turns = (self.place.episode == self.place.episode[b]).nonzero()[:, 0].tolist()
        replies = [reply for turn in turns if (reply := self.replies[turn]) is not None]
        return [self.completions[turn] for turn in turns], replies


def cut_into_groups(values: np.ndarray, generation: np.ndarray) -> np.ndarray:
    """(P, G) of values (N,) of episodes, which stand group by group.

    generation: (N,) int64, the number of each episode in its group; a group begins where it is 0.
    """
    return values.reshape((generation == 0).sum(), -1)


class Source(Protocol):
    """What the training loop knows of where completions come from."""

    spec_name: str
    """The name of the task or the file that the problems come from, as samples/ records it."""
    notice: str
    """A line the user should read, or empty."""
    env: "TextEnv | None"
    """The environment that the model answers; None where completions are given."""
    mix: Mapping[str, float]
    """The share of each habit among the completions, `right` among them; {} where no demonstrations are given."""
    pools: "Pools | None"
    """What is known of each problem's latest groups; None where all problems are drawn equally often."""

    def collect(self, step: int | str) -> Scored:
        """This process's completions of a step.

        step: its number, or "validation" where a validation measures the loss of completions that are held out.
        """

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """An episode for a terminal: the problem, its completions and the replies to them."""


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
    each position. A position that stayed masked has "", -1 and null. A position that a template filled has the token
    of the template, -2 and null; if that token is padding, it has "" instead of it. An episode is one row, with its
    last completion; where the environment answers back, "turns" has all completions of the episode, with the reply to
    each.

    env: names the task; for completions that are given it is their `Source`. advantages: (B,), 0 for completions that
    were set aside. set_aside: (B,) bool, the completions that the step did not learn from; None if
    --max-rollout-batches is 1, where a step learns from all.
    """
    rows, turns, place = [], [], scored.place
    is_last_turn, has_turns = place.last.tolist(), place.has_turns
    for b, tokens in enumerate(token_records(policy, scored.rollouts)):
        if has_turns:
            turns.append({"completion": scored.completions[b], **tokens, "reply": scored.replies[b]})
            if advantages is not None:
                turns[-1]["advantage"] = float(advantages[b])
        if not is_last_turn[b]:
            continue
        row = {
            "step": step,
            "env": env.spec_name,
            "task": scored.problems[b].task or getattr(env, "task", ""),
            "index": int(place.problem[b]),
            "generation": int(place.generation[b]),
            "prompt": scored.problems[b].prompt,
            "completion": scored.completions[b],
            "rewards": {name: float(v[b]) for name, v in scored.components.items() if not np.isnan(v[b])},
            "reward": float(scored.rewards[b]),
            "correct": bool(scored.correct[b]),
            "reason": scored.reason[b],
            "extracted": scored.extracted[b],
            **tokens,
        }
        if has_turns:
            row |= {"turns": turns, "truncated": bool(scored.truncated[b])}
            turns = []
        if logged := envs.functions.reports.columns_of(scored.problems[b], scored.completions[b]):
            row["logged"] = logged  # by `log_extra` of reward functions
        if scored.traceback[b] is not None:
            row["traceback"] = scored.traceback[b]
        if advantages is not None:
            row["advantage"] = float(advantages[b])
        if set_aside is not None:
            row["set_aside"] = bool(set_aside[b])
        for name, value in scored.problems[b].reference.items():
            row.setdefault(name, value)  # a reference with the name of one of our columns does not replace it
        rows.append(row)
    return rows


def token_records(policy: Policy, rollouts: Rollouts) -> list[dict[str, Any]]:
    """The "reveal_step", "tokens" and "confidence" of each completion, B in all, as `sample_rows` describes them."""
    ids, steps = rollouts.completion_ids.tolist(), rollouts.unmask_step.tolist()
    different_ids = {token for row in ids for token in row}
    text_of = {token: policy.tokenizer.decode([token]) for token in different_ids}  # each is decoded once
    probabilities = rollouts.unmask_logps.exp().tolist()
    # The padding of a template is left out; a padding token that the model wrote is shown.
    is_padding_of_template = rollouts.given & (rollouts.completion_ids == policy.pad_id)
    has_token = ((rollouts.unmask_step != NEVER) & ~is_padding_of_template).tolist()
    return [
        {
            "reveal_step": steps[b],
            "tokens": [
                text_of[token] if shown else "" for token, shown in zip(ids[b], has_token[b], strict=True)
            ],
            "confidence": [
                round(probability, 4) if step >= 0 else None
                for probability, step in zip(probabilities[b], steps[b], strict=True)
            ],
        }
        for b in range(len(ids))
    ]

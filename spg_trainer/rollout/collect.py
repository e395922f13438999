"""The completions of a step: episodes of an environment, played by the model round by round and scored in one call."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from spg_trainer.distributed import raising_on_all, world_size
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import (
    choose_more,
    choose_problems,
    deal_groups,
    deal_rows,
    prompt_length,
)
from spg_trainer.rollout.dialogues import Prompts, in_episodes, play
from spg_trainer.rollout.explore import Rounds
from spg_trainer.rollout.failures import Failures
from spg_trainer.rollout.overlong import SKIP, name_in, next_fitting, refuse_first
from spg_trainer.rollout.pools import Pools
from spg_trainer.rollout.scored import Scored
from spg_trainer.rollout.tokens import encode_canvas, encode_prompts, sample
from spg_trainer.rollout.trees import sample_trees
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Place, Rollouts

if TYPE_CHECKING:
    from envs import Problem, TextEnv
    from envs.episodes import Episodes


class EnvironmentSource:
    """The model's own completions of an environment's problems."""

    def __init__(
        self,
        env: "TextEnv",
        policy: Policy,
        config: Config,
        rows_per_forward: int | None,
        whole_groups: bool = False,
        record_entropy: bool = False,
        branches: int = 1,
        right_groups_teach: bool = False,
    ) -> None:
        self.whole_groups, self.record_entropy, self.branches = whole_groups, record_entropy, branches
        self.right_groups_teach = right_groups_teach
        b = config.batch
        self.pools = Pools(config.seed, len(env), b.all_right_weight, b.all_wrong_weight) if b.pools else None
        self.env, self.policy, self.config, self.rows_per_forward = env, policy, config, rows_per_forward
        self.spec_name, self.task, self.notice = env.spec_name, getattr(env, "task", ""), env.notice

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        return envs.core.render_turns(self.env, problem, turns, replies)

    def collect(self, step: int) -> Scored:
        """The completions of a step: of one batch of problems, or of further ones until enough of them teach.

        With `max_rollout_batches` above 1, the step learns from the groups whose rewards differ, in the order in which
        they were sampled (dynamic sampling, DAPO, arXiv 2503.14476); where there are too few, others fill it up.
        """
        batch = self.config.batch
        if batch.explore:
            return self.explore(step)
        with raising_on_all():
            index = self.choose(step, 0, [])
        parts = [self.sample(step, 0, index, 0)]
        if batch.max_rollout_batches == 1:
            return parts[0]
        taken, teaches = index, self.groups_that_teach(parts[0])
        for number in range(1, batch.max_rollout_batches):
            if teaches.sum() >= batch.prompts_per_step:
                break
            with raising_on_all():
                index = self.choose(step, number, taken.tolist())
            if len(index) < batch.prompts_per_step:  # the rest of a finite set is no batch for every process
                break
            parts.append(self.sample(step, number, index, len(taken)))
            taken = np.append(taken, index)
            teaches = np.append(teaches, self.groups_that_teach(parts[-1]))
        order = np.argsort(~teaches, kind="stable")
        chosen = np.sort(order[: batch.prompts_per_step])
        return replace(Scored.join(parts), chosen=chosen, batches=len(parts))

    def choose(self, step: int, number: int, taken: list[int]) -> np.ndarray:
        """The problems of a batch of a step; taken: those of its earlier batches."""
        seed, count, size = self.config.seed, self.config.batch.prompts_per_step, len(self.env)
        if self.pools is not None:
            return self.pools.choose(step, number, count, taken)
        if number == 0:
            return choose_problems(seed, step, count, size)
        return choose_more(seed, step, number, count, size, taken)

    def groups_that_teach(self, scored: Scored) -> np.ndarray:
        """Which groups of a batch, of all processes, have unequal rewards, or are all right where these teach too."""
        rewards, correct = scored.of_groups(scored.rewards, scored.correct)
        teaches = np.ptp(rewards, axis=1) > 0
        return teaches | correct.all(axis=1) if self.right_groups_teach else teaches

    def sample(self, step: int, number: int, index: np.ndarray, before: int) -> Scored:
        """The scored completions of a batch of a step. index: its problems. before: groups of earlier batches."""
        batch = self.config.batch
        with raising_on_all():
            index, skipped = self.fitting(index)
            dealt = deal_groups(self.lengths(index), batch.num_generations, self.whole_groups)
            group, generation = np.divmod(dealt, batch.num_generations)
            key = ("rollout", step, *(("batch", number) if number else ()))
            place = index[group], generation, dealt + before * batch.num_generations, group + before
            scored = replace(self.play(key, *place), skipped=skipped)
        Failures(len(index) * batch.num_generations).add(self.env, scored)
        self.note_groups(scored)
        return scored

    def explore(self, step: int) -> Scored:
        """The completions of a step whose groups get as many as `Rounds` says.

        Until all are there, an episode has a number that leaves room for all others in its group.
        """
        batch, size = self.config.batch, self.config.batch.prompts_per_step
        rounds, parts = Rounds(size, batch.num_generations, self.right_groups_teach), list[Scored]()
        room, groups_here = size * batch.num_generations, None
        with raising_on_all():
            index, skipped = self.fitting(self.choose(step, 0, []))
            lengths = self.lengths(index)
        while rounds.left:
            group, generation = rounds.next()
            drawn = len(group)
            with raising_on_all():
                dealt = self.deal_round(group, lengths, groups_here)
                groups_here = np.unique(group[dealt]) if groups_here is None else groups_here
                scored = None
                if len(dealt):  # the share of a process in a later round may be empty
                    group, generation = group[dealt], generation[dealt]
                    place = index[group], generation, group * room + generation, group
                    scored = self.play(("rollout", step), *place)
                    parts.append(scored)
            Failures(drawn).add(self.env, scored)
            rounds.note(scored)
        joined = Scored.join(parts)
        before = torch.from_numpy(np.cumsum(rounds.size) - rounds.size)
        place = replace(joined.place, episode=before[joined.place.group] + joined.place.generation)
        order = place.episode.argsort(stable=True)
        scored = replace(joined.select(order, place.select(order)), skipped=skipped)
        self.note_groups(scored)
        return scored

    def deal_round(
        self, group: np.ndarray, lengths: Sequence[int], groups_here: np.ndarray | None
    ) -> np.ndarray:
        """Which completions of a round this process samples.

        group: (B,), of each. groups_here: those of this process, None in the first round.
        """
        if groups_here is None:
            return deal_groups(lengths, len(group) // len(lengths), self.whole_groups)
        if self.whole_groups:
            return np.flatnonzero(np.isin(group, groups_here))
        return np.array(deal_rows([lengths[number] for number in group]), dtype=np.int64)

    def fitting(self, index: np.ndarray) -> tuple[np.ndarray, int | None]:
        """The problems of a step, in the place of those that are too long others, and how many these are."""
        if self.config.overlong != SKIP:
            return index, None
        return next_fitting(self.policy, self.env, index, self.config.rollout.max_completion_length)

    def lengths(self, index: np.ndarray) -> list[int]:
        """Those of the prompts, by which several processes share them."""
        return [prompt_length(self.env, int(i)) for i in index] if world_size() > 1 else [0] * len(index)

    def play(
        self,
        key: Sequence[int | str],
        problem: np.ndarray,
        generation: np.ndarray,
        episode: np.ndarray,
        group: np.ndarray,
    ) -> Scored:
        """The scored completions of some episodes, by `sample_and_score`; the columns are those of `Place`."""
        columns = map(torch.from_numpy, (problem, generation, np.zeros_like(episode), episode, group))
        return sample_and_score(
            self.policy,
            self.env,
            Place(*columns, max_turns=self.env.max_turns),
            self.config.rollout,
            key=key,
            seed=self.config.seed,
            rows_per_forward=self.rows_per_forward,
            record_entropy=self.record_entropy,
            branches=self.branches,
        )

    def note_groups(self, scored: Scored) -> None:
        """Lets the pools know what became of the problems of a step."""
        if self.pools is not None:
            problems, correct = scored.of_groups(scored.place.problem.numpy(), scored.correct)
            self.pools.note(np.array([of_group[0] for of_group in problems]), correct)


def sample_and_score(
    policy: Policy,
    env: "TextEnv",
    begun: Place,
    sampling: Sampling,
    *,
    key: Sequence[int | str],
    seed: int,
    rows_per_forward: int | None,
    record_entropy: bool = False,
    branches: int = 1,
) -> Scored:
    """Plays one episode for each row of `begun`, the place of its first turn, and scores all in one verifier call.

    The noise of a turn is keyed by (seed, *key, *its key), see `Place.keys`. record_entropy: as for
    `sample_completions`. branches: how many neighbours share the first half of their first turn, as for `sample_trees`.
    """
    index = begun.problem.tolist()
    episodes = envs.episodes.Episodes(env, index)
    problems = episodes.problems

    def write(encoded: Prompts, going: list[int], turn: int) -> Rollouts:
        place = begun.select(torch.tensor(going)).at_turn(turn)
        how = sampling, seed, [(*key, *row) for row in place.keys()], rows_per_forward, record_entropy
        length, templates = sampling.max_completion_length, [problems[i].completion_template for i in going]
        canvas = encode_canvas(policy, templates, length, lambda row: name_in(env, index[going[row]]))
        if branches > 1 and turn == 0:
            if canvas is not None:
                raise ConfigError(
                    f"{env.spec_name} gives completion templates, and trees of rollouts begin with an empty canvas. "
                    "Use another --algorithm than d_treerpo."
                )
            return sample_trees(policy, encoded, *how, branches=branches)
        rollouts = sample(policy, encoded, *how, canvas=canvas)
        unbranched = torch.zeros_like(rollouts.completion_mask[:, 0]) if branches > 1 else None
        return replace(rollouts, branched=unbranched)

    first = encode_prompts(policy, [p.prompt for p in problems], [p.completion_prefix for p in problems])
    refuse_first(policy, env, index, first[1].sum(-1).tolist(), sampling.max_completion_length)
    rounds = play(policy, episodes, first, list(range(len(index))), sampling, write)
    rollouts, owner = in_episodes(rounds)
    return score_episodes(episodes, begun.select(torch.from_numpy(owner)).with_turns(), rollouts, owner)


def score_episodes(episodes: "Episodes", place: Place, rollouts: Rollouts, owner: np.ndarray) -> Scored:
    """Episodes that have been played to their end, scored in one verifier call.

    place, rollouts: of all their turns, B rows; owner: (B,) int64, which of the episodes each row is of.
    """
    scores = episodes.score()
    return Scored(
        place=place,
        problems=[episodes.problems[i] for i in owner],
        completions=[text for turns in episodes.turns for text in turns],
        rollouts=rollouts,
        rewards=scores.total[owner],
        components={name: values[owner] for name, values in scores.rewards.items()},
        correct=scores.rewards["correct"][owner] == 1.0,
        reason=[scores.reason[i] for i in owner],
        extracted=[scores.extracted[i] for i in owner],
        traceback=[scores.traceback[i] for i in owner],
        replies=[reply for replies in episodes.replies for reply in [*replies, None]],
        truncated=episodes.truncated[owner],
        no_room=episodes.ended.count("no_room"),
    )

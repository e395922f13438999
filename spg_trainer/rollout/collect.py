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
        """rows_per_forward, record_entropy, branches: as for `sample_and_score`.

        whole_groups: whether a process samples a group whole. right_groups_teach: whether the algorithm learns from a
        group that is all right, too.
        """
        self.whole_groups, self.record_entropy, self.branches = whole_groups, record_entropy, branches
        self.right_groups_teach = right_groups_teach
        weights = config.batch.all_right_weight, config.batch.all_wrong_weight
        self.pools = Pools(config.seed, len(env), *weights) if config.batch.pools else None
        self.env, self.policy, self.config, self.rows_per_forward = env, policy, config, rows_per_forward
        self.spec_name, self.task, self.notice = env.spec_name, getattr(env, "task", ""), env.notice

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        return envs.core.render_turns(self.env, problem, turns, replies)

    def collect(self, step: int) -> Scored:
        """The completions of a step: of one batch of problems, or of further ones until enough of them teach.

        With `max_rollout_batches` above 1, the step learns from the groups whose rewards differ, in the order in which
        they were sampled (dynamic sampling, DAPO, arXiv 2503.14476); where there are too few, others fill it up.
        """
        config = self.config.batch
        if config.explore:
            return self.explore(step)
        with raising_on_all():
            index = self.choose(step, 0, [])
        parts = [self.sample(step, 0, index, 0)]
        if config.max_rollout_batches == 1:
            return parts[0]
        taken, teaches = index, self.groups_that_teach(parts[0])
        for batch in range(1, config.max_rollout_batches):
            if teaches.sum() >= config.prompts_per_step:
                break
            with raising_on_all():
                index = self.choose(step, batch, taken.tolist())
            if len(index) < config.prompts_per_step:  # the rest of a finite set is no batch for every process
                break
            parts.append(self.sample(step, batch, index, len(taken)))
            taken = np.append(taken, index)
            teaches = np.append(teaches, self.groups_that_teach(parts[-1]))
        teaching_first = np.argsort(~teaches, kind="stable")
        chosen = np.sort(teaching_first[: config.prompts_per_step])
        return replace(Scored.join(parts), chosen=chosen, batches=len(parts))

    def choose(self, step: int, batch: int, taken: list[int]) -> np.ndarray:
        """The problems of a batch of a step, (P,) int64.

        batch: its number in the step, from 0 on. taken: the problems of the step's earlier batches.
        """
        seed, count, size = self.config.seed, self.config.batch.prompts_per_step, len(self.env)
        if self.pools is not None:
            return self.pools.choose(step, batch, count, taken)
        if batch == 0:
            return choose_problems(seed, step, count, size)
        return choose_more(seed, step, batch, count, size, taken)

    def groups_that_teach(self, scored: Scored) -> np.ndarray:
        """Which groups of a batch, of all processes, have unequal rewards, or are all right where these teach too."""
        rewards, correct = scored.of_groups(scored.rewards, scored.correct)
        teaches = np.ptp(rewards, axis=1) > 0
        return teaches | correct.all(axis=1) if self.right_groups_teach else teaches

    def sample(self, step: int, batch: int, index: np.ndarray, groups_before: int) -> Scored:
        """The scored completions of a batch of a step.

        batch: its number in the step, from 0 on. index: its problems. groups_before: how many groups the step's earlier
        batches have; those of this one are numbered from there on.
        """
        num_generations = self.config.batch.num_generations
        with raising_on_all():
            index, skipped = self.replace_overlong(index)
            episode = deal_groups(self.prompt_lengths(index), num_generations, self.whole_groups)
            group, generation = np.divmod(episode, num_generations)
            # The key of the first batch has no number: its noise is that of a step which has one batch only.
            key = ("rollout", step, *(("batch", batch) if batch else ()))
            scored = self.play(
                key,
                problem=index[group],
                generation=generation,
                episode=episode + groups_before * num_generations,
                group=group + groups_before,
            )
            scored = replace(scored, skipped=skipped)
        Failures(len(index) * num_generations).add(self.env, scored)
        self.note_groups(scored)
        return scored

    def explore(self, step: int) -> Scored:
        """The completions of a step, sampled in rounds, whose groups get as many as `Rounds` says."""
        config = self.config.batch
        rounds = Rounds(config.prompts_per_step, config.num_generations, self.right_groups_teach)
        parts, groups_here = list[Scored](), None
        with raising_on_all():
            index, skipped = self.replace_overlong(self.choose(step, 0, []))
            lengths = self.prompt_lengths(index)
        while rounds.left:
            group, generation = rounds.next()
            completions_of_round = len(group)
            with raising_on_all():
                dealt = self.deal_round(group, lengths, groups_here)
                groups_here = np.unique(group[dealt]) if groups_here is None else groups_here
                scored = None
                if len(dealt):  # the share of a process in a later round may be empty
                    group, generation = group[dealt], generation[dealt]
                    scored = self.play(
                        ("rollout", step),
                        problem=index[group],
                        generation=generation,
                        # Until `by_groups`, a group has numbers for as many episodes as a step can give it.
                        episode=group * rounds.completions + generation,
                        group=group,
                    )
                    parts.append(scored)
            Failures(completions_of_round).add(self.env, scored)
            rounds.note(scored)
        scored = replace(by_groups(Scored.join(parts), rounds.size), skipped=skipped)
        self.note_groups(scored)
        return scored

    def deal_round(
        self, group: np.ndarray, lengths: Sequence[int], groups_here: np.ndarray | None
    ) -> np.ndarray:
        """Which completions of a round this process samples, ascending.

        group: (B,), the group of each completion. lengths: of the groups' prompts. groups_here: the groups of which
        this process samples completions, None in the first round, which deals them.
        """
        if groups_here is None:
            return deal_groups(lengths, len(group) // len(lengths), self.whole_groups)
        if self.whole_groups:
            return np.flatnonzero(np.isin(group, groups_here))
        return np.array(deal_rows([lengths[number] for number in group]), dtype=np.int64)

    def replace_overlong(self, index: np.ndarray) -> tuple[np.ndarray, int | None]:
        """With `--overlong skip`, puts other problems in the place of those that are too long, and counts these.

        Without it, returns the problems as they are, and None.
        """
        if self.config.overlong != SKIP:
            return index, None
        return next_fitting(self.policy, self.env, index, self.config.rollout.max_completion_length)

    def prompt_lengths(self, index: np.ndarray) -> list[int]:
        """How long each problem's prompt is, by which processes share the work evenly; 0 where there is one process."""
        return [prompt_length(self.env, int(i)) for i in index] if world_size() > 1 else [0] * len(index)

    def play(
        self,
        key: Sequence[int | str],
        *,
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


def by_groups(scored: Scored, sizes: np.ndarray) -> Scored:
    """The completions group by group, with their episodes numbered without gaps.

    sizes: (P,), how many episodes each group has on all processes. E.g. after groups of 4 and 2 episodes, the third
    group's are 6, 7 and so on.
    """
    first_of_group = torch.from_numpy(np.cumsum(sizes) - sizes)
    place = scored.place
    place = replace(place, episode=first_of_group[place.group] + place.generation)
    order = place.episode.argsort(stable=True)
    return scored.select(order, place.select(order))


def sample_and_score(
    policy: Policy,
    env: "TextEnv",
    first_turns: Place,
    sampling: Sampling,
    *,
    key: Sequence[int | str],
    seed: int,
    rows_per_forward: int | None,
    record_entropy: bool = False,
    branches: int = 1,
) -> Scored:
    """Plays one episode for each row of `first_turns`, and scores all in one verifier call.

    The noise of a turn is keyed by (seed, *key, *its key), see `Place.keys`. rows_per_forward,
    record_entropy: as for `sample_completions`. branches: how many neighbours share the first half of their first turn,
    as for `sample_trees`.
    """
    index = first_turns.problem.tolist()
    episodes = envs.episodes.Episodes(env, index)
    problems = episodes.problems

    def write(prompts: Prompts, going_on: list[int], turn: int) -> Rollouts:
        """Decodes a turn of the episodes that go on."""
        place = first_turns.select(torch.tensor(going_on)).at_turn(turn)
        noise_keys = [(*key, *of_turn) for of_turn in place.keys()]
        how = sampling, seed, noise_keys, rows_per_forward, record_entropy
        templates = [problems[i].completion_template for i in going_on]
        length = sampling.max_completion_length
        canvas = encode_canvas(policy, templates, length, lambda row: name_in(env, index[going_on[row]]))
        if branches > 1 and turn == 0:
            if canvas is not None:
                raise ConfigError(
                    f"{env.spec_name} gives completion templates, and trees of rollouts begin with an empty canvas. "
                    "Use another --algorithm than d_treerpo."
                )
            return sample_trees(policy, prompts, *how, branches=branches)
        rollouts = sample(policy, prompts, *how, canvas=canvas)
        if branches == 1:
            return rollouts
        # First turns say which of them branched; later ones, which all are written whole, say so too.
        return replace(rollouts, branched=torch.zeros_like(rollouts.completion_mask[:, 0]))

    prompts = encode_prompts(policy, [p.prompt for p in problems], [p.completion_prefix for p in problems])
    refuse_first(policy, env, index, prompts[1].sum(-1).tolist(), sampling.max_completion_length)
    rounds = play(policy, episodes, prompts, list(range(len(index))), sampling, write)
    rollouts, owner = in_episodes(rounds)
    place = first_turns.select(torch.from_numpy(owner)).with_turns()
    return score_episodes(episodes, place, rollouts, owner)


def score_episodes(episodes: "Episodes", place: Place, rollouts: Rollouts, owner: np.ndarray) -> Scored:
    """Scores episodes that have been played to their end, in one verifier call.

    place, rollouts: B rows, one for each turn of each episode. owner: (B,) int64, the episode of each row.
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

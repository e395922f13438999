"""Lets a model write: answers to prompts, and episodes of an environment, turn by turn.

A `Player` holds the model and all that decides what it writes; `generate` answers a user's prompts with one.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from spg_trainer.errors import ConfigError, naming_keywords, plural
from spg_trainer.models.out_of_memory import halved_until_it_fits
from spg_trainer.models.policy import Policy, check_policy
from spg_trainer.rollout import cache
from spg_trainer.rollout.long_prompts import Room, name_in
from spg_trainer.rollout.sampler import RolloutStopped, check_sampling, handing_over, sample_completions
from spg_trainer.rollout.tokens import Prompt, decode_completions, encode_prompts, encode_templates
from spg_trainer.seeding import generator
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.settings.recorded import lengths_left_out
from spg_trainer.settings.resolve import defaults
from spg_trainer.tensors import Record, Rows

Prompts = tuple[Tensor, Tensor]
"""Encoded prompts: ids (B, L) int64 and mask (B, L) bool, as `encode_prompts` returns them."""
NoiseKey = tuple[int | str, ...]
"""Tells the noise of a completion from that of all others with the same seed."""


@dataclass(frozen=True)
class Player:
    """A model that writes completions, and how it writes them."""

    policy: Policy
    sampling: Sampling
    seed: int = 0
    """Of the noise."""
    rows_per_forward: int | None = None
    """The most completions in one call of the model, as for `sample_completions`; None = the fastest number."""
    records: frozenset[Record] = frozenset()
    """What is recorded of each token besides its step and log-probability, as for `sample_completions`."""

    @property
    def room(self) -> Room:
        """How much room the model has for prompts beside a completion."""
        return Room(self.policy, self.sampling.max_completion_length)

    def memory_of_cache(self, num_rows: int) -> str:
        """A line on how much memory the keys and values of a rollout of `num_rows` rows take on each process."""
        model, sampling = self.policy.model, self.sampling
        length = sampling.max_completion_length
        at_once = cache.rows_in_flight(num_rows, self.rows_per_forward, sampling.block_length, model.device)
        column_bytes = cache.bytes_per_column(model.config, model.dtype.itemsize)
        return (
            f"Decoding keeps keys and values: {at_once} rows at once x (prompt + {length}) columns x "
            f"{column_bytes / 1024:.0f} KiB: {at_once * length * column_bytes / 2**30:.2f} GiB, and "
            f"{at_once * column_bytes / 2**20:.0f} MiB a token of the prompt."
        )

    def serving(self, step: int) -> AbstractContextManager[None]:
        """Inside, completions are written with the present weights, those of a step; all processes enter it."""
        return nullcontext()

    def sample(self, prompts: Prompts, keys: Sequence[NoiseKey], template_ids: Tensor | None = None) -> Rows:
        """One completion for each of B encoded prompts, its noise keyed by `seed` and the prompt's key.

        template_ids: (B, T) int64, as `canvas` of `sample_completions`. If memory runs out, all is sampled again with
        half as many rows at once, and later calls begin with that number.
        """
        policy, rows_per_forward = self.policy, self.rows_per_forward
        if policy.most_rows is not None:
            rows_per_forward = min(policy.most_rows, rows_per_forward or policy.most_rows)
        rows_at_first = min(rows_per_forward or len(keys), len(keys))

        for attempt in halved_until_it_fits(rows_at_first, "completions of a rollout"):
            with attempt:
                if attempt.size < rows_at_first:
                    policy.most_rows = rows_per_forward = attempt.size
                generators = None
                if self.sampling.draws_noise:
                    generators = [generator(self.seed, *key, device=policy.device) for key in keys]
                rollouts = sample_completions(
                    policy,
                    *prompts,
                    self.sampling,
                    generators,
                    rows_per_forward=rows_per_forward,  # None lets the sampler choose the fastest number
                    records=self.records,
                    canvas=template_ids,
                )
        return rollouts

    def play(self, env: "envs.TextEnv", first_turns: Rows, key: NoiseKey) -> Rows:
        """Plays an episode for each row of `first_turns`, and scores all; returns a row for each turn.

        All are scored in one verifier call at the end, but for those that `scoring_meanwhile` has scored.

        key: the noise of a turn is keyed by `seed`, `key`, and then by `Rows.noise_keys`. If the rollout is stopped,
        RolloutStopped has the scored completions of the finished episodes, provided that episodes have one turn.
        """
        index = first_turns.problem.tolist()
        episodes = envs.episodes.Episodes(env, index)
        problems = episodes.problems
        prompts = encode_prompts(
            self.policy, [p.prompt for p in problems], [p.completion_prefix for p in problems]
        )
        _, prompt_mask = prompts
        self.room.refuse_first(env, index, prompt_mask.sum(-1).tolist())
        going_on = list(range(len(index)))  # the episodes that `prompts` belong to
        rounds: list[Round] = []
        while going_on:
            rows = first_turns.select(torch.tensor(going_on))
            rows = rows.with_columns(turn=torch.full_like(rows.turn, len(rounds)))
            templates = [problems[i].completion_template for i in going_on]
            template_ids = encode_templates(
                self.policy,
                templates,
                self.sampling.max_completion_length,
                lambda row, numbers=going_on: name_in(env, index[numbers[row]]),
            )
            try:
                with self.scoring_meanwhile(episodes):
                    rollouts = self.sample(
                        prompts, [(*key, *of_turn) for of_turn in rows.noise_keys()], template_ids
                    )
            except RolloutStopped as stopped:
                if env.max_turns == 1 and stopped.finished:  # each finished row is a whole episode
                    stopped.scored = self._score_finished(env, first_turns, stopped)
                raise
            rounds.append((rollouts, going_on))
            prompts, going_on = self.take_turns(episodes, rollouts, going_on)
        return score_rounds(first_turns, episodes, rounds)

    def _score_finished(self, env: "envs.TextEnv", first_turns: Rows, stopped: RolloutStopped) -> Rows:
        """The scored completions that a rollout of episodes of one turn had finished when it was stopped."""
        chosen = torch.tensor(stopped.finished)
        first_turns, rollouts = first_turns.select(chosen), stopped.rollouts.select(chosen)
        episodes = envs.episodes.Episodes(env, first_turns.problem.tolist())
        all_episodes = list(range(len(chosen)))
        self.take_turns(episodes, rollouts, all_episodes)
        return score_rounds(first_turns, episodes, [(rollouts, all_episodes)])

    @contextmanager
    def scoring_meanwhile(self, episodes: "envs.episodes.Episodes") -> Iterator[None]:
        """Inside, finished completions are scored in a thread of their own while the others are decoded.

        This holds for tasks that allow it (`score_while_decoding`). Whenever no call is being made and some rows are
        still to be decoded, one call gets all finished completions that no call had. What is left is scored as without
        this, by `score_rounds`. No row's score depends on the calls, and at the end no call is being made. Raises what
        a call raised.
        """
        early = set(episodes.may_score_early())
        if not early:
            yield
            return
        call: Future[None] | None = None

        def take(finished: Sequence[int], rows_of: Callable[[Sequence[int]], Rows]) -> None:
            nonlocal call
            new = [i for i in finished if i in early]
            if not new or len(finished) == len(episodes):
                return
            if call is not None and (not call.done() or call.exception()):
                return
            early.difference_update(new)
            texts = self.texts_of(episodes, rows_of(new), new)
            call = thread.submit(episodes.score_early, texts)

        with ThreadPoolExecutor(1, thread_name_prefix="spg-scoring") as thread, handing_over(take):
            yield
        if call is not None:
            call.result()

    def texts_of(
        self, episodes: "envs.episodes.Episodes", rollouts: Rows, owners: Sequence[int]
    ) -> dict[int, str]:
        """{episode: its completion with the given beginning}; owners: the episodes of the rollouts."""
        texts = decode_completions(self.policy, rollouts, self.sampling.stop)
        return {
            i: episodes.problems[i].completion_prefix + text for i, text in zip(owners, texts, strict=True)
        }

    def take_turns(
        self, episodes: "envs.episodes.Episodes", rollouts: Rows, owners: Sequence[int]
    ) -> tuple[Prompts, list[int]]:
        """Gives the environment the completions of a round; returns the prompts of the next round, and their owners.

        `Episodes.take_turn` calls the environment's `reply`. An episode whose next prompt is too long for the model
        ends; the model does not read its last reply. owners: the episodes of the completions.
        """
        prefixes = [problem.completion_prefix for problem in episodes.problems]
        going_on = episodes.take_turn(self.texts_of(episodes, rollouts, owners))
        chats = [episodes.prompt(i) for i in going_on]
        ids, mask = encode_prompts(self.policy, chats, [prefixes[i] for i in going_on])
        lengths = mask.sum(-1)
        fits = lengths <= self.room.prompt
        width = int(lengths[fits].max()) if fits.any() else 0
        first = ids.shape[1] - width  # the columns before it are padding in all prompts that fit
        has_room = dict(zip(going_on, fits.tolist(), strict=True))
        episodes.cut([i for i in going_on if not has_room[i]])
        return (ids[fits][:, first:], mask[fits][:, first:]), [i for i in going_on if has_room[i]]


Round = tuple[Rows, list[int]]
"""The completions of a round, and the numbers of the episodes that they belong to."""


def score_rounds(first_turns: Rows, episodes: "envs.episodes.Episodes", rounds: Sequence[Round]) -> Rows:
    """The rows of episodes that have been played to their end, sorted by episode and then by turn.

    All episodes that are not scored yet are scored in one verifier call.
    """
    # (B,) int64, the episode of each completion.
    episode = np.array([i for _, episodes_of_round in rounds for i in episodes_of_round])
    rollouts = Rows.join([part for part, _ in rounds])
    if len(rounds) > 1:
        order = episode.argsort(kind="stable")
        rollouts, episode = rollouts.select(torch.from_numpy(order)), episode[order]
    rows, scores = first_turns.select(torch.from_numpy(episode)).with_turns(), episodes.score()
    return rows.with_columns(
        **vars(rollouts),
        problems=[episodes.problems[i] for i in episode],
        completions=[text for turns in episodes.turns for text in turns],
        rewards=scores.total[episode],
        components={name: values[episode] for name, values in scores.rewards.items()},
        correct=scores.rewards["correct"][episode] == 1.0,
        reason=[scores.reason[i] for i in episode],
        extracted=[scores.extracted[i] for i in episode],
        traceback=[scores.traceback[i] for i in episode],
        # The last turn of an episode gets no reply.
        replies=[reply for replies in episodes.replies for reply in [*replies, None]],
        truncated=episodes.truncated[episode],
        no_room=episodes.ended.count("no_room"),  # episodes whose next prompt was too long for the model
    )


@naming_keywords
def generate(
    policy: Policy,
    prompts: Sequence[Prompt],
    sampling: Sampling | None = None,
    *,
    seed: int = 0,
    completion_prefixes: Sequence[str] | None = None,
    canvas: Sequence[str] | None = None,
    rows_per_forward: int | None = None,
    num_return_sequences: int = 1,
    return_logps: bool = False,
) -> list[str] | tuple[list[str], list[Tensor]]:
    """Answers each prompt; returns the answers in order, as texts up to the first end token without special tokens.

    Args:
        policy: what `load_model` returned.
        prompts: texts, each sent as one user message, or lists of chat messages.
        sampling: how to decode; None = greedily, with the lengths that the model was trained with (from its
            environment.json), or default lengths for a model without this file. `defaults(Sampling, model=...,
            temperature=0.9)` keeps these lengths.
        seed: of the noise. Each answer draws from a stream of its own, by its place: another prompt after it, or
            another text in place of one before it, changes nothing.
        completion_prefixes: a text with which each answer is made to start; it is not part of the result.
        canvas: texts with holes, one for each prompt. Only the holes are written, and the whole text is returned.
            `[MASK]` is a hole of one token, `[MASK*8]` of eight, `[MASK*]` of as many as there is room for
            (`envs.text.template`). An end token in a hole ends the hole. "" = an answer as without a canvas.
        rows_per_forward: at most so many prompts in one call of the model; None = the fastest number.
        num_return_sequences: K, how many answers each prompt gets; they follow each other in the result. More than one
            needs a temperature.
        return_logps: whether to return also, for each answer, the log-probabilities (n,) of its tokens when they were
            unmasked. They are taken at temperature 1; with `top_k` or `top_p`, in the distribution drawn from.

    Raises ConfigError for settings that cannot decode, for a prompt too long for the model, and for a canvas without a
    hole or longer than max_completion_length; further errors as `encode_prompts`.
    """
    check_policy(policy, "generate")
    if not isinstance(prompts, Sized):
        raise ConfigError(
            f"prompts={prompts!r:.60}: should be a list of texts or of chats, one for each answer."
        )
    sampling = sampling or replace(defaults(Config, model=policy.source).rollout, temperature=0.0)
    check_sampling(policy, sampling)
    if note := lengths_left_out(sampling, policy.source):
        warnings.warn(note, stacklevel=3)  # level 3 is the caller, outside the wrapper `naming_keywords`
    rollouts = answer_prompts(
        Player(policy, sampling, seed, rows_per_forward),
        prompts,
        completion_prefixes=completion_prefixes,
        canvas=canvas,
        num_return_sequences=num_return_sequences,
    )
    texts = decode_completions(policy, rollouts, sampling.stop)
    if not return_logps:
        return texts
    return texts, [
        logps[mask] for logps, mask in zip(rollouts.unmask_logps, was_unmasked(rollouts), strict=True)
    ]


def was_unmasked(rollouts: Rows) -> Tensor:
    """(B, T) bool: the tokens up to the first end token that the model wrote; given tokens have no log-probability."""
    return rollouts.completion_mask & (rollouts.unmask_step >= 0)


def answer_prompts(
    player: Player,
    prompts: Sequence[Prompt],
    *,
    completion_prefixes: Sequence[str] | None = None,
    canvas: Sequence[str] | None = None,
    num_return_sequences: int = 1,
    first_number: int = 0,
) -> Rows:
    """The completions of `generate` as rows: ids, the step and the log-probability of each token.

    first_number: the place of the first prompt among those that are answered with this seed, which keys its noise.
    Other arguments, and what is raised, as for `generate`.
    """
    policy, sampling, count = player.policy, player.sampling, num_return_sequences
    if completion_prefixes is not None and len(completion_prefixes) != len(prompts):
        raise ConfigError(
            f"completion_prefixes has {len(completion_prefixes)} texts for {plural(len(prompts), 'prompt')}. Give one "
            "for each."
        )
    if count < 1 or (count > 1 and not sampling.draws_noise):
        wanted = "should be at least 1" if count < 1 else "needs a sampling with a temperature, e.g. 0.9"
        raise ConfigError(f"$num_return_sequences={count}: {wanted}.")
    prompt_ids, prompt_mask = encode_prompts(policy, prompts, completion_prefixes)
    encoded = (prompt_ids.repeat_interleave(count, 0), prompt_mask.repeat_interleave(count, 0))
    template_ids = _read_canvas(policy, canvas, len(prompts), length=sampling.max_completion_length)
    if template_ids is not None:
        template_ids = template_ids.repeat_interleave(count, 0)
    keys: list[NoiseKey] = []
    for i in range(first_number, first_number + len(prompts)):
        # The key of the first answer has no number, so that it equals the answer of num_return_sequences=1.
        keys += [("generate", i), *(("generate", i, k) for k in range(1, count))]
    return player.sample(encoded, keys, template_ids)


def _read_canvas(
    policy: Policy, canvas: Sequence[str] | None, num_prompts: int, length: int
) -> Tensor | None:
    """The token ids of the `canvas` of `generate`, as `encode_templates` returns them; None if there is no canvas.

    Raises ConfigError unless the canvas has one text for each prompt.
    """
    if canvas is None:
        return None
    if isinstance(canvas, str) or len(canvas) != num_prompts:
        given = f"the single string {canvas[:40]!r}" if isinstance(canvas, str) else f"{len(canvas)} texts"
        raise ConfigError(f"canvas is {given} for {num_prompts} prompts. Pass a list with a text for each.")
    return encode_templates(policy, canvas, length, lambda row: f"canvas {row} of generate")

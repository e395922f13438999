"""What each completion of a step is credited with: the algorithm's advantages, and what an update needs of them."""

from dataclasses import dataclass

import numpy as np
import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.distributed import gather_rows, raising_on_all
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.probe import probe
from spg_trainer.rollout.scored import Groups, Scored
from spg_trainer.seeding import generator
from spg_trainer.tensors import Place, Rollouts, StepView
from spg_trainer.training.fills import with_fills
from spg_trainer.training.micro_batches import Step
from spg_trainer.training.run import Run

ByKind = dict[str, np.ndarray]
"""{kind: (B,) bool, which completions of all processes are of it}; metrics are divided by the number of a kind."""


def credit(run: Run, scored: Scored, rewards: Groups) -> tuple[torch.Tensor, Step]:
    """The advantages (B,) of this process's completions, and what the updates need of those that change the loss.

    scored: the completions of this process. rewards: (G,) of each group of all processes.
    """
    rollouts = scored.rollouts
    if run.algorithm.score_tail:
        # What stands behind the end is learned too, as padding.
        rollouts = rollouts.count_tail(run.policy.pad_id)
    rollouts, fills = look_into_states(run, scored, rollouts)
    prepared = prepare_step(run, scored, rollouts, rewards)
    return own_part(run, scored, rollouts, fills, prepared)


@dataclass(frozen=True)
class Prepared:
    """What an algorithm has prepared of the completions of a step, those of all processes."""

    values: dict[str, torch.Tensor]
    """Of each completion, (B, ...) each, `advantages` among them."""
    place: Place
    """That of each completion."""
    lengths: np.ndarray
    """(B,) int64, tokens up to and including the end token."""


def prepare_step(run: Run, scored: Scored, rollouts: Rollouts, rewards: Groups) -> Prepared:
    """Gathers the completions of all processes and lets the algorithm prepare them.

    Its `prepare` sees groups of one size at a time, as a tensor of rewards (groups, size); what it returns for each
    size is put together by rows. Raises ConfigError where it returns something without a row for each completion.
    """
    algorithm = run.algorithm
    # Of all processes, by ascending episodes.
    everyone, place = gather_rows(scored.place.episode.numpy(), rollouts, scored.place)
    correct = scored.of_groups(scored.correct)[0] if "correct" in algorithm.needs else None
    sizes = torch.tensor([len(group) for group in rewards])
    values = dict[str, torch.Tensor]()
    for size in sizes.unique():
        groups = (sizes == size).nonzero()[:, 0].tolist()
        rows = (sizes[place.group] == size).nonzero()[:, 0]
        view = StepView(
            rewards=torch.from_numpy(np.stack([rewards[group] for group in groups])),
            rollouts=everyone.select(rows),
            place=place.select(rows),
            share_done=run.state.step / run.config.max_steps,
            num_iterations=run.config.batch.num_iterations,
            correct=None if correct is None else torch.from_numpy(np.stack([correct[i] for i in groups])),
            of_step=torch.from_numpy(np.concatenate(rewards)),
        )
        for name, column in algorithm.prepare(view).items():
            if len(column) != len(rows):
                raise ConfigError(
                    f"{type(algorithm).__name__}.prepare returned {len(column)} rows of {name!r} for {len(rows)} "
                    "completions. Return a row for each of them; view.place.spread(values) gives each turn of an "
                    "episode what holds for the episode."
                )
            values.setdefault(name, column.new_zeros(len(place), *column.shape[1:]))[rows] = column
    return Prepared(values, place, everyone.completion_mask.sum(-1).numpy(force=True))


def own_part(
    run: Run,
    scored: Scored,
    rollouts: Rollouts,
    fills: Rollouts | None,
    prepared: Prepared,
) -> tuple[torch.Tensor, Step]:
    """The advantages of this process's completions, and the part of the step that it updates with.

    prepared: of all processes. scored, rollouts, fills: of this one.
    """
    batch, algorithm, values = run.config.batch, run.algorithm, prepared.values
    group, episode = prepared.place.group.numpy(), prepared.place.episode.numpy()
    active = algorithm.active(values["advantages"]).numpy(force=True)
    counts, totals = count_minibatches(
        kinds_of_completions(algorithm, values, active),
        group % batch.num_minibatches,
        episode,
        prepared.lengths,
        batch.num_minibatches,
    )
    own = np.flatnonzero(np.isin(episode, scored.place.episode.numpy()))  # row numbers among all processes
    own_active = torch.from_numpy(active[own])  # whether each own row changes the loss
    own_active_rows = torch.from_numpy(own[active[own]])
    step = Step(
        rollouts=rollouts.select(own_active),
        place=scored.place.select(own_active),
        prepared={name: column[own_active_rows].to(run.policy.device) for name, column in values.items()},
        totals=totals,
        counts=counts,
        num_episodes=int(episode[-1]) + 1,
    )
    if "fills" in algorithm.needs:
        of_completions = {name: column[own] for name, column in values.items()}
        step = with_fills(step, scored.place, fills, rollouts.probe_steps, of_completions)
    return values["advantages"][own], step


def look_into_states(run: Run, scored: Scored, rollouts: Rollouts) -> tuple[Rollouts, Rollouts | None]:
    """Fills the half-written states of the completions that the algorithm asks for, and has the task judge the fills.

    Returns the rollouts with `probe_steps` and `probe_rewards`, what each state was worth, and the fills. Where the
    algorithm asks for no states, it returns the rollouts unchanged, and None for the fills. What is drawn is keyed by
    problem, generation and turn, so that it does not depend on the place of a row.
    """
    config, step_number, algorithm = run.config, run.state.step, run.algorithm
    row_keys = scored.place.keys("turn")

    def key(kind: str, b: int, *more: int) -> tuple[str | int, ...]:
        """The key of a random stream of completion b."""
        return kind, step_number, *row_keys[b], *more

    steps = algorithm.probe_steps(
        rollouts, config.batch.num_iterations, lambda b: generator(config.seed, *key("states", b))
    )
    if steps is None:
        return rollouts, None
    # Fills that are learned from are drawn; where they only tell what a state is worth, the likeliest tokens do.
    temperature = config.rollout.temperature if "fills" in algorithm.needs else 0.0
    with raising_on_all():
        return probe(
            run.policy,
            run.source.env,
            scored,
            rollouts,
            steps,
            run.rows_per_forward,
            sampling=config.rollout,
            seed=config.seed,
            keys=key,
            temperature=temperature,
        )


def kinds_of_completions(
    algorithm: Algorithm, prepared: dict[str, torch.Tensor], active: np.ndarray
) -> ByKind:
    """Which completions losses and metrics are divided by. active: (B,) bool, which change the loss themselves.

    A completion that does not may still be learned from, if fills of its states are.
    """
    learned = active
    if "fills" in algorithm.needs:
        learned = active | prepared["fill_advantages"].any(-1).numpy(force=True)
    return {
        "completions": np.ones_like(active),
        "scored_completions": active,
        "rewarded_completions": (prepared["advantages"] != 0).numpy(force=True),
        "learned_completions": learned,
    }


def count_minibatches(
    kinds: ByKind, minibatch: np.ndarray, episode: np.ndarray, lengths: np.ndarray, num_minibatches: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """(counts, totals), a dict for each minibatch, as in `Step`.

    counts: how many of its completions are of each kind. totals: how many episodes have one of each kind, and `tokens`,
    how many all its completions have together.

    minibatch, episode, lengths: (B,) of the completions of all processes.
    """
    by_minibatch = [
        {kind: rows & (minibatch == number) for kind, rows in kinds.items()}
        for number in range(num_minibatches)
    ]
    counts = [{kind: float(rows.sum()) for kind, rows in chosen.items()} for chosen in by_minibatch]
    totals = [
        {kind: float(len(np.unique(episode[rows]))) for kind, rows in chosen.items()}
        | {"tokens": float(lengths[chosen["completions"]].sum())}
        for chosen in by_minibatch
    ]
    return counts, totals

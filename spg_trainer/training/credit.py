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


def credit(run: Run, scored: Scored, rewards: Groups) -> tuple[torch.Tensor, Step]:
    """The advantages (B,) of this process's completions, and what the updates need of those that change the loss.

    rewards: of the groups of all processes.
    """
    rollouts = scored.rollouts
    if run.algorithm.score_tail:
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
    """Gathers the completions of all processes and lets the algorithm prepare them, groups of one size at a time.

    Raises ConfigError where it returns something that has not one row for each completion.
    """
    algorithm, share_done = run.algorithm, run.state.step / run.config.max_steps
    everyone, place = gather_rows(scored.place.episode.numpy(), rollouts, scored.place)
    correct = scored.of_groups(scored.correct)[0] if "correct" in algorithm.needs else None
    sizes = torch.tensor([len(group) for group in rewards])
    of_step, values = torch.from_numpy(np.concatenate(rewards)), dict[str, torch.Tensor]()
    for size in sizes.unique():
        groups = (sizes == size).nonzero()[:, 0].tolist()
        rows = (sizes[place.group] == size).nonzero()[:, 0]
        view = StepView(
            rewards=torch.from_numpy(np.stack([rewards[group] for group in groups])),
            rollouts=everyone.select(rows),
            place=place.select(rows),
            share_done=share_done,
            num_iterations=run.config.batch.num_iterations,
            correct=None if correct is None else torch.from_numpy(np.stack([correct[i] for i in groups])),
            of_step=of_step,
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
    """The advantages of this process's completions, and the part of the step that it updates with."""
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
    of_this_process = np.flatnonzero(np.isin(episode, scored.place.episode.numpy()))
    advantages, active = values["advantages"][of_this_process], active[of_this_process]
    rows = torch.from_numpy(of_this_process[active])
    step = Step(
        rollouts=rollouts.select(torch.from_numpy(active)),
        place=scored.place.select(torch.from_numpy(active)),
        prepared={name: column[rows].to(run.policy.device) for name, column in values.items()},
        totals=totals,
        counts=counts,
        num_episodes=int(episode[-1]) + 1,
    )
    if "fills" in algorithm.needs:
        of_each = {name: column[of_this_process] for name, column in values.items()}
        step = with_fills(step, scored.place, fills, rollouts.probe_steps, of_each)
    return advantages, step


def look_into_states(run: Run, scored: Scored, rollouts: Rollouts) -> tuple[Rollouts, Rollouts | None]:
    """Fills the half-written states of the completions that the algorithm asks for, and has the task judge the fills.

    Returns the rollouts with `probe_steps` and `probe_rewards`, what each state was worth, and the fills; both as they
    were, and None, where the algorithm asks for no states. What is drawn is keyed by problem, generation and turn, so
    that it does not depend on the place of a row.
    """
    config, number, algorithm = run.config, run.state.step, run.algorithm
    row_keys = scored.place.keys("turn")

    def key(kind: str, b: int, *more: int) -> tuple[str | int, ...]:
        return kind, number, *row_keys[b], *more

    steps = algorithm.probe_steps(
        rollouts, config.batch.num_iterations, lambda b: generator(config.seed, *key("states", b))
    )
    if steps is None:
        return rollouts, None
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
            temperature=config.rollout.temperature if "fills" in algorithm.needs else 0.0,
        )


def kinds_of_completions(
    algorithm: Algorithm, prepared: dict[str, torch.Tensor], active: np.ndarray
) -> dict[str, np.ndarray]:
    """Which completions of all processes losses and metrics are divided by, (B,) bool each. active: those of a loss."""
    kinds = {
        "completions": np.ones_like(active),
        "scored_completions": active,
        "rewarded_completions": (prepared["advantages"] != 0).numpy(force=True),
        "learned_completions": active,
    }
    if "fills" in algorithm.needs:
        kinds["learned_completions"] = active | prepared["fill_advantages"].any(-1).numpy(force=True)
    return kinds


def count_minibatches(
    kinds: dict[str, np.ndarray], minibatch: np.ndarray, episode: np.ndarray, lengths: np.ndarray, number: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Of each minibatch: how many completions of each kind, and how many episodes of each, with their tokens."""
    of_all = [{name: rows & (minibatch == m) for name, rows in kinds.items()} for m in range(number)]
    counts = [{name: float(rows.sum()) for name, rows in chosen.items()} for chosen in of_all]
    totals = [
        {name: float(len(np.unique(episode[rows]))) for name, rows in chosen.items()}
        | {"tokens": float(lengths[chosen["completions"]].sum())}
        for chosen in of_all
    ]
    return counts, totals

"""What each completion of a step is credited with: the algorithm's advantages, and what an update needs of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.distributed import gather_rows, gathered_order, raising_on_all
from spg_trainer.rollout.probe import probe
from spg_trainer.rollout.scored import Groups, Scored
from spg_trainer.seeding import generator
from spg_trainer.tensors import Rollouts, StepView
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
    episode: np.ndarray
    """(B,) int64, the number of each completion's episode in the step."""
    group: np.ndarray
    """(B,) int64, the number of its group."""
    lengths: np.ndarray
    """(B,) int64, tokens up to and including the end token."""


def prepare_step(run: Run, scored: Scored, rollouts: Rollouts, rewards: Groups) -> Prepared:
    """Gathers the completions of all processes and lets the algorithm prepare them, groups of one size at a time."""
    batch, algorithm = run.config.batch, run.algorithm
    everyone = gather_rows(rollouts, gathered_order(scored.rows))
    correct = scored.of_groups("correct")[0] if "correct" in algorithm.needs else None
    share_done = run.state.step / run.config.max_steps
    sizes, episode = np.array([len(group) for group in rewards]), everyone.owner.numpy()
    of_step, values = torch.from_numpy(np.concatenate(rewards)), dict[str, torch.Tensor]()
    group = np.repeat(np.arange(len(sizes)), sizes)
    for size in np.unique(sizes):
        groups, episodes = np.flatnonzero(sizes == size), np.flatnonzero(sizes[group] == size)
        rows = torch.from_numpy(np.flatnonzero(np.isin(episode, episodes)))
        part = everyone.select(rows)
        if part.episode is not None:
            part = replace(part, episode=torch.from_numpy(np.searchsorted(episodes, episode[rows])))
        right = None if correct is None else torch.from_numpy(np.stack([correct[i] for i in groups]))
        own = torch.from_numpy(np.stack([rewards[i] for i in groups]))
        view = StepView(own, part, share_done, batch.num_iterations, right, of_step)
        for name, column in algorithm.prepare(view).items():
            if len(column) < len(rows):  # what was prepared of episodes holds for each of their turns
                column = column[part.owner]
            values.setdefault(name, column.new_zeros(len(episode), *column.shape[1:]))[rows] = column
    return Prepared(values, episode, group[episode], everyone.completion_mask.sum(-1).numpy(force=True))


def own_part(
    run: Run,
    scored: Scored,
    rollouts: Rollouts,
    fills: Rollouts | None,
    prepared: Prepared,
) -> tuple[torch.Tensor, Step]:
    """The advantages of this process's completions, and the part of the step that it updates with."""
    batch, algorithm, values = run.config.batch, run.algorithm, prepared.values
    group = prepared.group
    active = algorithm.active(values["advantages"]).numpy(force=True)
    counts, totals = count_minibatches(
        kinds_of_completions(algorithm, values, active),
        group % batch.num_minibatches,
        prepared.episode,
        prepared.lengths,
        batch.num_minibatches,
    )
    own = np.flatnonzero(np.isin(prepared.episode, scored.rows))
    advantages, active = values["advantages"][own], active[own]
    rows = torch.from_numpy(own[active])
    step = Step(
        rollouts=rollouts.select(torch.from_numpy(active)),
        index=scored.index[active],
        generation=scored.generation[active],
        turn=scored.turn[active],
        rows=scored.rows[active],
        group=group[own[active]],
        prepared={name: column[rows].to(run.policy.device) for name, column in values.items()},
        totals=totals,
        counts=counts,
        num_episodes=int(prepared.episode[-1]) + 1,
    )
    if "fills" in algorithm.needs:
        of_own = {name: column[own] for name, column in values.items()}
        step = with_fills(
            step, scored, fills, rollouts.probe_steps, of_own, group[own], run.source.env.max_turns
        )
    return advantages, step


def look_into_states(run: Run, scored: Scored, rollouts: Rollouts) -> tuple[Rollouts, Rollouts | None]:
    """Fills the half-written states of the completions that the algorithm asks for, and has the task judge the fills.

    Returns the rollouts with `probe_steps` and `probe_rewards`, what each state was worth, and the fills; both as they
    were, and None, where the algorithm asks for no states. What is drawn is keyed by problem, generation and turn, so
    that it does not depend on the place of a row.
    """
    config, number, algorithm = run.config, run.state.step, run.algorithm
    turns = scored.turn.tolist()

    def key(kind: str, b: int, *more: int) -> tuple[str | int, ...]:
        turn = ("turn", turns[b]) if turns[b] else ()
        return kind, number, int(scored.index[b]), int(scored.generation[b]), *turn, *more

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

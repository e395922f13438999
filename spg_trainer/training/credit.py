"""What each completion of a step is credited with: the algorithm's advantages, and what an update needs of them."""

from dataclasses import dataclass

import numpy as np
import torch

from spg_trainer.algorithms import Algorithm
from spg_trainer.distributed import gather_rows, gathered_order, raising_on_all
from spg_trainer.rollout.probe import probe
from spg_trainer.rollout.scored import Scored
from spg_trainer.seeding import generator
from spg_trainer.tensors import Rollouts, StepView
from spg_trainer.training.fills import with_fills
from spg_trainer.training.micro_batches import Step
from spg_trainer.training.run import Run


def credit(run: Run, scored: Scored, rewards: np.ndarray) -> tuple[torch.Tensor, Step]:
    """The advantages (B,) of this process's completions, and what the updates need of those that change the loss.

    rewards: (P, G), of all processes.
    """
    rollouts = scored.rollouts
    if run.algorithm.score_tail:
        rollouts = rollouts.count_tail(run.policy.pad_id)
    rollouts, fills = look_into_states(run, scored, rollouts)
    prepared = prepare_step(run, scored, rollouts, rewards)
    return own_part(run, scored, rollouts, fills, prepared, rewards.size)


@dataclass(frozen=True)
class Prepared:
    """What an algorithm has prepared of the completions of a step, those of all processes."""

    values: dict[str, torch.Tensor]
    """Of each completion, (B, ...) each, `advantages` among them."""
    episode: np.ndarray
    """(B,) int64, the number of each completion's episode in the step."""
    lengths: np.ndarray
    """(B,) int64, tokens up to and including the end token."""


def prepare_step(run: Run, scored: Scored, rollouts: Rollouts, rewards: np.ndarray) -> Prepared:
    """Gathers the completions of all processes and lets the algorithm prepare them; rewards: (P, G)."""
    batch, algorithm = run.config.batch, run.algorithm
    everyone = gather_rows(rollouts, gathered_order(scored.rows))
    correct = None
    if "correct" in algorithm.needs:
        correct = torch.from_numpy(scored.of_groups(batch.num_generations, "correct")[0])
    share_done = run.state.step / run.config.max_steps
    view = StepView(torch.from_numpy(rewards), everyone, share_done, batch.num_iterations, correct)
    episode = everyone.owner
    values = {  # what was prepared of episodes holds for each of their turns
        name: column if len(column) == len(episode) else column[episode]
        for name, column in algorithm.prepare(view).items()
    }
    return Prepared(values, episode.numpy(), everyone.completion_mask.sum(-1).numpy(force=True))


def own_part(
    run: Run,
    scored: Scored,
    rollouts: Rollouts,
    fills: Rollouts | None,
    prepared: Prepared,
    num_episodes: int,
) -> tuple[torch.Tensor, Step]:
    """The advantages of this process's completions, and the part of the step that it updates with."""
    batch, algorithm, values = run.config.batch, run.algorithm, prepared.values
    group = prepared.episode // batch.num_generations
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
        num_episodes=num_episodes,
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

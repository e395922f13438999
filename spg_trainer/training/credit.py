"""What each completion of a step is credited with: its advantage, and all else that the updates need of it.

Axes: B completions, of one process or of all, as is said there; K probed states of a completion. A *fill* is such a
state whose masks one pass has filled; `fills` are rollouts with one row for each state, those of a completion together.
"""

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
"""{kind: (B,) bool, which completions of all processes are of this kind}, e.g. {"scored_completions": [True, False]}.
Losses and metrics are divided by how many there are of a kind."""


def credit(run: Run, scored: Scored, rewards: Groups) -> tuple[torch.Tensor, Step]:
    """The advantages (B,) of this process's completions, and what the updates need of those that change the loss.

    scored: the completions of this process that are learned from (`Scored.learned`), so that groups and episodes are
    numbered without gaps. rewards: those of the groups of all processes, (G,) each.
    """
    rollouts = scored.rollouts
    if run.algorithm.score_tail:
        # The places behind the end are learned too, with padding in them.
        rollouts = rollouts.count_tail(run.policy.pad_id)
    rollouts, fills = look_into_states(run, scored, rollouts)
    prepared = prepare_step(run, scored, rollouts, rewards)
    return own_part(run, scored, rollouts, fills, prepared)


@dataclass(frozen=True)
class Prepared:
    """What the algorithm's `prepare` returned for the B completions of a step, those of all processes."""

    values: dict[str, torch.Tensor]
    """Name -> its value for each completion, (B, ...); one name is `advantages`."""
    place: Place
    """The place of each completion in the step."""
    lengths: np.ndarray
    """(B,) int64, tokens up to and including the end token."""


def prepare_step(run: Run, scored: Scored, rollouts: Rollouts, rewards: Groups) -> Prepared:
    """Gathers the completions of all processes and lets the algorithm prepare them.

    Its `prepare` is called once for each size that groups have, with the groups of this size and their rewards
    (groups, size). Raises ConfigError where it returns something without a row for each completion.
    """
    algorithm = run.algorithm
    # The completions of all processes, in ascending order of their episodes.
    everyone, place = gather_rows(scored.place.episode.numpy(), rollouts, scored.place)
    correct = None
    if "correct" in algorithm.needs:
        (correct,) = scored.of_groups(scored.correct)
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
            if name not in values:
                values[name] = column.new_zeros(len(place), *column.shape[1:])
            values[name][rows] = column
    return Prepared(values, place, everyone.completion_mask.sum(-1).numpy(force=True))


def own_part(
    run: Run,
    scored: Scored,
    rollouts: Rollouts,
    fills: Rollouts | None,
    prepared: Prepared,
) -> tuple[torch.Tensor, Step]:
    """The advantages of this process's completions, and the part of the step that it updates with.

    prepared: that of all processes. scored, rollouts, fills: those of this one.
    """
    batch, algorithm, values = run.config.batch, run.algorithm, prepared.values
    group, episode = prepared.place.group.numpy(), prepared.place.episode.numpy()
    active = algorithm.active(values["advantages"]).numpy(force=True)  # which completions change the loss
    counts, totals = count_minibatches(
        kinds_of_completions(algorithm, values, active),
        minibatch=group % batch.num_minibatches,
        episode=episode,
        lengths=prepared.lengths,
        num_minibatches=batch.num_minibatches,
    )
    # Row numbers of this process's completions among those of all processes; then which of them are active.
    own = np.flatnonzero(np.isin(episode, scored.place.episode.numpy()))
    own_active = torch.from_numpy(active[own])
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
        step = with_fills(
            step,
            place=scored.place,
            fills=fills,
            probe_steps=rollouts.probe_steps,
            prepared={name: column[own] for name, column in values.items()},
        )
    return values["advantages"][own], step


def look_into_states(run: Run, scored: Scored, rollouts: Rollouts) -> tuple[Rollouts, Rollouts | None]:
    """Fills the half-written states that the algorithm asks for, in one pass each, and has the task judge the fills.

    Returns the rollouts with `probe_steps` and `probe_rewards`, which say what each state was worth, and the fills.
    Where the algorithm asks for no states, the rollouts are returned unchanged, and None for the fills. All noise is
    keyed by problem, generation and turn, so that it does not depend on the place of a row.
    """
    config, step_number, algorithm = run.config, run.state.step, run.algorithm
    row_keys = scored.place.keys("turn")  # (problem, generation), and from the second turn on also the turn

    def key(kind: str, b: int, *more: int) -> tuple[str | int, ...]:
        """The key of a random stream of completion b."""
        return kind, step_number, *row_keys[b], *more

    # (B, K), the denoising steps before which the states are looked at.
    steps = algorithm.probe_steps(
        rollouts, config.batch.num_iterations, lambda b: generator(config.seed, *key("states", b))
    )
    if steps is None:
        return rollouts, None
    # Fills that are learned from are drawn. Others only tell what a state is worth, and have the likeliest tokens.
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
    """The kinds by whose numbers losses and metrics are divided. active: (B,) bool, which completions change the loss.

    A completion that does not change the loss itself is still one of `learned_completions`, if a fill of it does.
    """
    learned = active
    if "fills" in algorithm.needs:
        learned = active | prepared["fill_advantages"].any(-1).numpy(force=True)
    return {
        "completions": np.ones_like(active),
        "scored_completions": active,  # with a reference also those with the advantage 0, which it still pulls
        "rewarded_completions": (prepared["advantages"] != 0).numpy(force=True),
        "learned_completions": learned,
    }


def count_minibatches(
    kinds: ByKind, *, minibatch: np.ndarray, episode: np.ndarray, lengths: np.ndarray, num_minibatches: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """(counts, totals) as in `Step`, each a dict for each minibatch.

    counts: how many completions of the minibatch are of each kind, by which metrics are divided. totals, by which
    losses are divided: how many of its episodes have a completion of each kind, and under `tokens`, how many tokens all
    its completions have together. With one turn, the two differ in `tokens` alone.

    minibatch, episode, lengths: (B,), for each completion of all processes.
    """
    # For each minibatch, {kind: (B,) bool, which completions are in it and of this kind}.
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

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
from spg_trainer.rollout.scored import Scored
from spg_trainer.seeding import generator
from spg_trainer.tensors import Place, Rollouts, StepView
from spg_trainer.training.fills import with_fills
from spg_trainer.training.micro_batches import Step
from spg_trainer.training.run import Run

ByKind = dict[str, np.ndarray]
"""{kind: (B,) bool, which completions of all processes are of this kind}, e.g. {"scored_completions": [True, False]}.
Losses and metrics are divided by how many there are of a kind."""


def credit(run: Run, scored: Scored, rewards: np.ndarray) -> tuple[torch.Tensor, Step]:
    """The advantages (B,) of this process's completions, and what the updates need of those that change the loss.

    scored: the completions of this process that are learned from (`Scored.learned`), so that groups and episodes are
    numbered without gaps. rewards: (P, G), those of the groups of all processes.
    """
    rollouts = scored.rollouts
    if run.algorithm.score_tail:
        # The places behind the end are learned too, with padding in them.
        rollouts = rollouts.count_tail(run.policy.pad_id)
    rollouts, fills = look_into_states(run, scored, rollouts)
    prepared = prepare_step(run, scored, rollouts, rewards)
    return step_of_process(run, scored, rollouts, fills, prepared)


@dataclass(frozen=True)
class Prepared:
    """What the algorithm's `prepare` returned for the B completions of a step, those of all processes."""

    values: dict[str, torch.Tensor]
    """Name -> its value for each completion, (B, ...); one name is `advantages`."""
    step_means: dict[str, float]
    """What the algorithm's `step_means` returned."""
    place: Place
    """The place of each completion in the step."""
    lengths: np.ndarray
    """(B,) int64, tokens up to and including the end token."""


def prepare_step(run: Run, scored: Scored, rollouts: Rollouts, rewards: np.ndarray) -> Prepared:
    """Gathers the completions of all processes and lets the algorithm prepare them.

    Raises ConfigError where `prepare` returns something without a row for each completion.
    """
    algorithm = run.algorithm
    # The completions of all processes, in ascending order of their episodes.
    everyone, place = gather_rows(scored.place.episode.numpy(), rollouts, scored.place)
    correct = None
    if "correct" in algorithm.needs:
        correct = torch.from_numpy(scored.gather_groups(scored.correct)[0])
    view = StepView(
        rewards=torch.from_numpy(rewards),
        rollouts=everyone,
        place=place,
        share_done=run.state.step / run.config.max_steps,
        num_iterations=run.config.batch.num_iterations,
        correct=correct,
    )
    values = dict(algorithm.prepare(view))
    for name, column in values.items():
        if len(column) != len(place):
            raise ConfigError(
                f"{type(algorithm).__name__}.prepare returned {len(column)} rows of {name!r} for {len(place)} "
                "completions. Return a row for each of them; view.place.spread(values) gives each turn of an episode "
                "what holds for the episode."
            )
    lengths = everyone.completion_mask.sum(-1).numpy(force=True)
    return Prepared(values, algorithm.step_means(view), place, lengths)


def step_of_process(
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
    # The row indices of this process's completions among those of all processes, and which of these are active.
    indices_here = np.flatnonzero(np.isin(episode, scored.place.episode.numpy()))
    active_here = torch.from_numpy(active[indices_here])
    active_indices = torch.from_numpy(indices_here[active[indices_here]])
    step = Step(
        rollouts=rollouts.select(active_here),
        place=scored.place.select(active_here),
        prepared={name: column[active_indices].to(run.policy.device) for name, column in values.items()},
        totals=totals,
        counts=counts,
        num_episodes=int(episode[-1]) + 1,
        step_means=prepared.step_means,
    )
    if "fills" in algorithm.needs:
        step = with_fills(
            step,
            place=scored.place,
            fills=fills,
            probe_steps=rollouts.probe_steps,
            prepared={name: column[indices_here] for name, column in values.items()},
        )
    return values["advantages"][indices_here], step


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
    counts: list[dict[str, float]] = []
    totals: list[dict[str, float]] = []
    for number in range(num_minibatches):
        # {kind: (B,) bool, which completions are in this minibatch and of this kind}
        members = {kind: is_kind & (minibatch == number) for kind, is_kind in kinds.items()}
        counts.append({kind: float(chosen.sum()) for kind, chosen in members.items()})
        num_tokens = float(lengths[members["completions"]].sum())
        num_episodes = {kind: float(len(np.unique(episode[chosen]))) for kind, chosen in members.items()}
        totals.append({**num_episodes, "tokens": num_tokens})
    return counts, totals

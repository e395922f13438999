"""From the rewards of a step to its advantages, and to the rows that its updates learn from.

Rewards become advantages in `compute_advantages` of algorithms/base.py, unless an algorithm has its own `prepare`,
which sees the completions of all processes.
"""

import numpy as np
import torch

from spg_trainer.algorithms.base import prepare_columns
from spg_trainer.distributed import gather, gather_rows, rank
from spg_trainer.rollout.tokens import ended
from spg_trainer.tensors import Rows, without_rounding
from spg_trainer.training.importance import importance_weights
from spg_trainer.training.run import Run

ByKind = dict[str, np.ndarray]
"""{kind: (B,) bool, which completions of all processes are of this kind}, e.g. {"scored_completions": [True, False]}.
Losses and metrics are divided by how many there are of a kind."""


def prepare(run: Run, rows: Rows) -> tuple[Rows, Rows]:
    """(the completions of a step with their `advantages`, those of them that change the loss).

    rows: the completions of this process with their rewards. Those that the step does not learn from
    (--max-rollout-batches, --mask-truncated) have an advantage of 0. The second table has all columns that the loss
    needs, in the order of groups; its `totals_of_minibatches` and `counts_of_minibatches` are what `count_minibatches`
    returns. Raises ConfigError as `prepare_columns`.
    """
    algorithm, config = run.algorithm, run.config
    scored = rows.learned(config.batch.num_generations)
    figures = {"rewards": torch.from_numpy(scored.rewards)}
    if config.batch.mask_truncated:
        figures["is_cut"] = ~torch.tensor(ended(run.policy, scored), dtype=torch.bool)
    if algorithm.score_tail:
        # The places behind the end are learned from, too, with padding in them.
        scored = scored.count_tail(run.policy.pad_id)
    elif run.policy.noise == "uniform":
        # They are hidden as the others are, and the model is taught that end tokens stand there.
        scored = scored.fill_tail(run.policy.pad_id)
    if "correct" in algorithm.needs:
        figures["correct"] = torch.from_numpy(scored.correct)
    of_all = gather_rows(scored.tensors().with_columns(**figures))
    # Rewards that are equal but for rounding are equal: dividing by their spread would make a signal of the rounding.
    rewards = torch.from_numpy(without_rounding(of_all.rewards.numpy()))
    of_all = of_all.with_columns(rewards=rewards, share_done=run.state.step / config.max_steps)
    prepared = prepare_columns(algorithm, of_all)
    if "engine_log_ratio" in of_all:
        weights = importance_weights(config, of_all)
        if config.weighs_tokens:
            prepared["token_weights"] = weights
        else:
            prepared["advantages"] = prepared["advantages"] * weights
    if "is_cut" in of_all:
        prepared["advantages"] = prepared["advantages"].masked_fill(of_all.is_cut, 0.0)
    of_all = of_all.with_columns(**prepared)
    own = of_all.advantages[torch.isin(of_all.episode, scored.episode)]
    advantages = torch.zeros(len(rows), dtype=own.dtype)
    advantages[torch.from_numpy(rows.is_learned)] = own
    return rows.with_columns(advantages=advantages), rows_to_learn(run, scored, of_all, [*prepared])


def rows_to_learn(run: Run, scored: Rows, of_all: Rows, names: list[str]) -> Rows:
    """The rows that this process updates with, as `prepare` returns them.

    scored: the completions of this process. of_all: those of all processes, on the CPU. names: the columns of `of_all`
    that the algorithm prepared.
    """
    group, episode = of_all.group.numpy(), of_all.episode.numpy()
    is_active = run.algorithm.active(of_all.advantages)  # which completions change the loss
    if "is_cut" in of_all:  # these do not, whatever a penalty says
        is_active &= ~of_all.is_cut
    active = is_active.numpy(force=True)
    num_minibatches = run.config.batch.num_minibatches
    counts, totals = count_minibatches(
        kinds_of_completions(of_all, active),
        minibatch=group % num_minibatches,
        episode=episode,
        lengths=of_all.length.numpy(force=True),
        num_minibatches=num_minibatches,
    )
    rows = shared_rows(scored, of_all, run.config.model.sequence_parallel)
    # The row indices of these rows among those of all processes.
    indices_here = torch.from_numpy(np.flatnonzero(np.isin(episode, rows.episode.numpy())))
    # `prepared_here` has what was gathered from all processes, `rows` all columns of the same rows.
    prepared_here = of_all.select(indices_here)
    num_episodes = int(episode[-1]) + 1  # episodes are numbered from 0, in ascending order
    learned = rows.with_columns(
        # The place of the episode in the step: some maskings spread the numbers of masks evenly over the episodes.
        quantile=prepared_here.episode.double() / num_episodes,
        **{name: prepared_here.get(name) for name in names},
    ).select(torch.from_numpy(active)[indices_here])
    columns = {name: learned.get(name) for name in names}
    on_device = {
        name: column.to(run.policy.device)
        for name, column in columns.items()
        if isinstance(column, torch.Tensor)
    }
    return learned.with_columns(
        **on_device, totals_of_minibatches=tuple(totals), counts_of_minibatches=tuple(counts)
    )


def shared_rows(scored: Rows, of_all: Rows, sequence_parallel: int) -> Rows:
    """The rows that this process updates with: its own, or with --sequence-parallel those of its whole group.

    scored: the completions of this process. of_all: those of all processes, on the CPU.
    """
    own = scored.tensors()
    if sequence_parallel == 1:
        return own
    episodes_by_process = gather([own.episode])
    first = rank() - rank() % sequence_parallel
    episodes = torch.cat(episodes_by_process[first : first + sequence_parallel])
    of_group = of_all.select(torch.isin(of_all.episode, episodes))
    columns = {name: column for name, column in vars(own).items() if isinstance(column, torch.Tensor)}
    return own.with_columns(
        shared_by=sequence_parallel,
        **{name: of_group.get(name).to(column.device) for name, column in columns.items()},
    )


def kinds_of_completions(rows: Rows, active: np.ndarray) -> ByKind:
    """{kind: which completions are of this kind}. active: (B,) bool, which completions change the loss."""
    return {
        "completions": np.ones_like(active),
        "scored_completions": active,  # usually those with an advantage, see `Algorithm.active`
        "rewarded_completions": (rows.advantages != 0).numpy(force=True),
    }


def count_minibatches(
    kinds: ByKind, *, minibatch: np.ndarray, episode: np.ndarray, lengths: np.ndarray, num_minibatches: int
) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """(counts, totals), each a dict for each minibatch.

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

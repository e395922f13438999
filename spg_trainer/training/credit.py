"""Turns the rewards of a step into what its updates need: the advantages of completions, and the rows to learn from.

Rewards become advantages in `compute_advantages` of algorithms/base.py, unless an algorithm has its own.

Axes: B completions, of one process or of all, as each function says.
"""

import numpy as np
import torch

from spg_trainer.algorithms.base import prepare_columns
from spg_trainer.distributed import gather_rows
from spg_trainer.tensors import Rows
from spg_trainer.training.run import Run

ByKind = dict[str, np.ndarray]
"""{kind: (B,) bool, which completions of all processes are of this kind}, e.g. {"scored_completions": [True, False]}.
Losses and metrics are divided by how many there are of a kind."""

MOST_WEIGHT = 2.0
"""The largest weight of a completion that an engine sampled."""


def credit(run: Run, scored: Rows) -> tuple[torch.Tensor, Rows]:
    """The advantages (B,) of this process's completions, and the rows that the updates of the step go through.

    scored: the completions of this process that are scored by the reward and learned from (`Rows.learned`); their
    groups and episodes are numbered without gaps.
    """
    if run.algorithm.score_tail:
        # The places behind the end are learned from, too, with padding in them.
        scored = scored.count_tail(run.policy.pad_id)
    all_rows, names = prepare_step(run, scored)
    return step_of_process(run, scored, all_rows, names)


def prepare_step(run: Run, scored: Rows) -> tuple[Rows, list[str]]:
    """The completions of all processes with what the algorithm prepares of them, and the names of these columns.

    Raises ConfigError as `prepare_columns`.
    """
    algorithm = run.algorithm
    figures = {"rewards": torch.from_numpy(scored.rewards)}
    if "correct" in algorithm.needs:
        figures["correct"] = torch.from_numpy(scored.correct)
    all_rows = gather_rows(scored.tensors().with_columns(**figures))
    all_rows = all_rows.with_columns(share_done=run.state.step / run.config.max_steps)
    prepared = prepare_columns(algorithm, all_rows)
    if "engine_logps" in all_rows:
        prepared["advantages"] = prepared["advantages"] * engine_weights(all_rows)
    return all_rows.with_columns(**prepared), [*prepared]


def engine_weights(rows: Rows) -> torch.Tensor:
    """(B,) float64, min(p / p_engine, `MOST_WEIGHT`), by which completions that an engine sampled are weighed.

    p is the probability with which the model itself unmasks the tokens of an episode as they were unmasked, and
    p_engine the one that the engine computed, which rounds differently: truncated importance sampling, as in TIS
    (Yao et al., 2025, "Your efficient RL framework secretly brings you off-policy RL training").
    """
    gap = (rows.unmask_logps.double() - rows.engine_logps.double()).sum(-1)
    return rows.spread(rows.total(gap)).exp().clamp(max=MOST_WEIGHT)


def step_of_process(run: Run, scored: Rows, all_rows: Rows, names: list[str]) -> tuple[torch.Tensor, Rows]:
    """The advantages of this process's completions, and the rows of the step that it updates with.

    scored: those of this process. all_rows: the completions of all processes. names: the columns of `all_rows`
    that `prepare` returned. The returned rows are those that change the loss, in the order of their groups. Their
    `totals_of_minibatches` and `counts_of_minibatches` are what `count_minibatches` returns.
    """
    batch, algorithm, device = run.config.batch, run.algorithm, run.policy.device
    group, episode = all_rows.group.numpy(), all_rows.episode.numpy()
    active = algorithm.active(all_rows.advantages).numpy(force=True)  # which completions change the loss
    counts, totals = count_minibatches(
        kinds_of_completions(all_rows, active),
        minibatch=group % batch.num_minibatches,
        episode=episode,
        lengths=all_rows.length.numpy(force=True),
        num_minibatches=batch.num_minibatches,
    )
    # The row indices of this process's completions among those of all processes.
    indices_here = torch.from_numpy(np.flatnonzero(np.isin(episode, scored.episode.numpy())))
    # `prepared_here` has what was gathered from all processes, `rows_here` all columns of the same rows.
    prepared_here = all_rows.select(indices_here)
    num_episodes = int(episode[-1]) + 1  # episodes are numbered from 0, in ascending order
    rows_here = scored.tensors().with_columns(
        # The place of the episode in the step: some maskings spread the numbers of masks evenly over the episodes.
        quantile=prepared_here.episode.double() / num_episodes,
        **{name: prepared_here.get(name) for name in names},
    )
    step = rows_here.select(torch.from_numpy(active)[indices_here])
    prepared_columns = {name: step.get(name) for name in names}
    prepared_tensors = {
        name: column.to(device)
        for name, column in prepared_columns.items()
        if isinstance(column, torch.Tensor)
    }
    step = step.with_columns(
        **prepared_tensors,
        totals_of_minibatches=tuple(totals),
        counts_of_minibatches=tuple(counts),
    )
    return prepared_here.advantages, step


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

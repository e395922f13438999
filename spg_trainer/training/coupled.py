"""What the trainer does for a `CoupledAlgorithm`, whose loss compares the completions of the whole update.

The loss is computed from a bound on the log-likelihood of each completion of all processes, without a graph. Its
gradient in this bound is the completion's coefficient, with which the bound then goes backward as any other loss does.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spg_trainer.algorithms.base import CoupledAlgorithm, Loss, rows_with_bounds
from spg_trainer.distributed import gather, rank
from spg_trainer.likelihood import token_logps
from spg_trainer.models import Policy
from spg_trainer.tensors import Rows


def couple(
    policy: Policy,
    algorithm: CoupledAlgorithm,
    micro_batches: list[Rows],
    totals: Mapping[str, float],
    shared_by: int,
) -> Loss:
    """Gives every completion its coefficient, the gradient of the coupled loss in the completion's bound.

    Every process computes the loss of the completions of all processes, and keeps the coefficients of its own
    completions as the column `coefficients`. The loss is returned on the first process only, and zero on the others,
    so that the sum over the processes is right. totals, shared_by: as in `Update`.
    """
    parts_here = []
    for micro in micro_batches:
        logps, _ = micro.masks.split(token_logps(policy, micro, micro.masks, micro.masks_at_once))
        parts_here.append(rows_with_bounds(algorithm, micro.masks, micro, logps).to("cpu"))
    # A list for each process, of whom those that share an update have the same parts.
    parts_by_process = gather([parts_here])[::shared_by]
    parts = [part for parts_of_process in parts_by_process for part in parts_of_process]
    rows = Rows.join(parts)
    episodes = rows_of_episodes(rows, totals)
    episodes.bounds.requires_grad_()
    result = algorithm.coupled_loss(episodes)
    (coefficients,) = torch.autograd.grad(result.loss, episodes.bounds)
    # From episodes back to the rows of their turns, and from these to the micro-batches.
    coefficients_of_parts = rows.spread(coefficients).split([len(part) for part in parts])
    # How many parts the processes before this one have.
    first = sum(map(len, parts_by_process[: rank() // shared_by]))
    coefficients_here = coefficients_of_parts[first : first + len(micro_batches)]
    micro_batches[:] = [
        micro.with_columns(coefficients=part.to(micro.advantages.device))
        for micro, part in zip(micro_batches, coefficients_here, strict=True)
    ]
    if rank() > 0:
        return Loss(torch.zeros(()), {})
    return replace(result, loss=result.loss.detach())


def rows_of_episodes(rows: Rows, totals: Mapping[str, float]) -> Rows:
    """The E episodes that a coupled loss compares, from the rows of their turns (`rows_with_bounds`).

    An episode has the advantage of any of its turns, which is the same, and the sums of their bounds and lengths.
    """
    same_in_all_turns = ("advantages", "episode", "group")
    columns = {name: column for name, column in vars(rows).items() if isinstance(column, Tensor)}
    return Rows(
        **{
            name: rows.first(column) if name in same_in_all_turns else rows.total(column)
            for name, column in columns.items()
        },
        totals=totals,
    )

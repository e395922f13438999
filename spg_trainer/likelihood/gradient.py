"""The gradient of any loss of log-probabilities (logps), in memory that does not grow with the number of masks.

The gradient is the same as autograd's. The logps are those of masked copies of completions (`logps.score`).
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from spg_trainer.likelihood.logps import CopyIndex, divide_into_passes, score, zero_logps
from spg_trainer.seeding import gpus
from spg_trainer.tensors import Masks, Rows

if TYPE_CHECKING:
    from spg_trainer.algorithms.base import Compares, Loss
    from spg_trainer.models import Policy


def accumulate(
    policy: "Policy",
    rollouts: Rows,
    masks: Masks,
    loss_fn: Callable[[Tensor], "Loss"],
    *,
    masks_at_once: int,
    compares: "Compares" = "completion",
) -> "Loss":
    """Adds the gradient of `loss_fn(logps)` to `.grad` and returns the loss and its metrics, both detached.

    loss_fn: a function of the logps (B, M, T), which are zero where nothing is scored. If the masks name a measure, the
    logps are (B, M, 2T): the T logps of a copy, then its T measured figures. masks_at_once: a number >= 1; at most
    masks_at_once * B masked copies hold a graph at a time. compares: what the terms of the loss compare
    (`Algorithm.compares`). "copy" = they compare nothing: each depends on one masked copy alone.

    If all copies fit at once, each goes through the model once, forward and backward. If not, they are divided into
    parts, and

    1. all parts but the last are scored without a graph, and the last one with a graph;
    2. the gradient of the loss in all logps is computed, and the last part goes backward;
    3. each other part is scored once more, now with a graph, and goes backward. Copies whose gradient is zero stay out,
       unless dropout acts.

    With "copy", each part instead goes backward as soon as it is scored, and none is scored twice.
    """
    model = policy.model
    parts = divide_into_passes(policy, rollouts, masks, masks_at_once)  # each part is an index of its copies
    each_alone = compares == "copy" and len(parts) > 1
    logps = None if len(parts) == 1 else zero_logps(policy, masks)  # of all parts so far
    scored_without_graph = []  # (copies, random state before they were scored)
    for copies in parts[:-1] if not each_alone else ():
        scored_without_graph.append((copies, _random_state(model)))
        with torch.no_grad():
            logps = logps + score(policy, rollouts, masks, copies)
    for copies in parts if each_alone else parts[-1:] or [None]:
        # Without copies, nothing is scored. If each part goes alone, the logps of all other copies are zero in its
        # loss; this does not change its gradient, since each of its copies has terms of its own.
        with_graph = logps if copies is None else score(policy, rollouts, masks, copies)
        values = (logps + with_graph if scored_without_graph else with_graph).detach().requires_grad_()
        result = loss_fn(values)
        coefficients = None  # the gradient of the loss in the logps; None if it does not depend on them
        if result.loss.requires_grad:
            (coefficients,) = torch.autograd.grad(result.loss, values)
        _send_back(with_graph, coefficients)
        if each_alone:
            logps = logps + with_graph.detach()
    if each_alone:
        with torch.no_grad():
            result = loss_fn(logps)
    del with_graph, values  # else their graph would be in memory beside those of the other parts
    if coefficients is not None:
        # (B, M), read once: this is the only place where the host waits for what a card computed.
        needed = (coefficients != 0).any(-1).numpy(force=True) if scored_without_graph else None
        for copies, random_state in scored_without_graph:
            needed_here = needed[copies.row, copies.mask]
            _score_again(policy, rollouts, masks, copies, needed_here, coefficients, random_state)
    metrics = {name: metric._replace(total=metric.total.detach()) for name, metric in result.metrics.items()}
    return replace(result, loss=result.loss.detach(), metrics=metrics)


def _send_back(logps: Tensor, coefficients: Tensor | None) -> None:
    """Runs the backward pass from the logps; does nothing if nothing is scored or the model has no weight to train."""
    if coefficients is not None and logps.requires_grad:
        logps.backward(coefficients)


def _score_again(
    policy: "Policy",
    rollouts: Rows,
    masks: Masks,
    copies: CopyIndex,
    needed: np.ndarray,
    coefficients: Tensor,
    random_state: list[Tensor] | None,
) -> None:
    """Sends S copies through the model once more, now with a graph, and backward; those with coefficients 0 stay out.

    needed: (S,) bool, which copies have a coefficient other than 0.
    random_state: what `_random_state` returned before these copies were scored without a graph, so that dropout now
    drops the same units; None = no dropout acts. If dropout acts, all copies go as soon as one has to: with fewer
    copies, dropout would drop other units.
    """
    if not needed.any():
        return
    if random_state is None:
        copies = copies.select(needed)
    device = coefficients.device
    with torch.random.fork_rng(gpus(device), enabled=random_state is not None):
        if random_state is not None:
            cpu_state, *gpu_states = random_state
            torch.set_rng_state(cpu_state)
            for gpu_state in gpu_states:  # one, or none without a GPU
                torch.cuda.set_rng_state(gpu_state, device)
        logps = score(policy, rollouts, masks, copies)
    _send_back(logps, coefficients)


def _random_state(model: nn.Module) -> list[Tensor] | None:
    """The states of the global generators (CPU, then the model's GPU) if dropout acts; None if no dropout acts."""
    for module in model.modules():
        rate = module.p if isinstance(module, nn.Dropout) else getattr(module, "attention_dropout", 0.0)
        if module.training and rate:
            device = next(model.parameters()).device
            gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
            return [torch.get_rng_state(), *gpu]
    return None

"""Fills as rows of a step, beside the completions from which they were made.

A fill is a half-written state of a completion, a probed state, whose masks one pass filled all at once.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from spg_trainer.tensors import Place, Rollouts
from spg_trainer.training.micro_batches import Step


def with_fills(
    step: Step,
    place: Place,
    fills: Rollouts,
    probe_steps: Tensor,
    prepared: Mapping[str, Tensor],
) -> Step:
    """The step with a row for each fill whose advantage is not 0, behind the rows of its episode.

    place: that of the B completions of this process, whether they change the loss or not. fills: one for each probed
    state, those of a completion together. probe_steps: (B, K), the denoising step before which each state was probed,
    -1 = none. prepared: what `prepare` returned for the B completions; `fill_advantages` (B, K) is for their fills.

    The row of a fill has the values of its completion, except that its advantage is its own, and it is marked by
    `prepared["fill"]`. Its turn is a number behind all that an episode may have, so that no noise is drawn twice.
    """
    device = step.rollouts.completion_ids.device
    # Of each fill: the number of its completion, and that of the state, 0..K-1.
    completion, state = (probe_steps.cpu() >= 0).nonzero(as_tuple=True)
    advantage = prepared["fill_advantages"][completion, state]
    is_learned = advantage != 0
    completion, state = completion[is_learned], state[is_learned]
    fill_place = place.select(completion)
    fill_place = replace(fill_place, turn=fill_place.turn + fill_place.max_turns * (1 + state))
    fill_prepared = {name: values[completion] for name, values in prepared.items()}
    fill_prepared["advantages"] = advantage[is_learned]
    both_places = Place.join([step.place, fill_place])
    order = both_places.episode.argsort(stable=True)
    order_on_device = order.to(device)

    def both(of_completions: Tensor, of_fills: Tensor) -> Tensor:
        """A column of the completions and that of the fills as one column, in the order of episodes."""
        return torch.cat([of_completions, of_fills.to(device)])[order_on_device]

    no_fill_step = torch.full((len(step.place),), -1, device=device)
    completions = replace(step.rollouts, fill_step=no_fill_step, probe_steps=None, probe_rewards=None)
    learned_fills = replace(fills.select(is_learned.to(device)), probe_steps=None, probe_rewards=None)
    is_fill = both(
        of_completions=torch.zeros_like(no_fill_step, dtype=torch.bool),
        of_fills=torch.ones(len(completion), dtype=torch.bool),
    )
    both_prepared = {name: both(values, fill_prepared[name]) for name, values in step.prepared.items()}
    return replace(
        step,
        rollouts=Rollouts.join([completions, learned_fills]).select(order_on_device),
        place=both_places.select(order),
        prepared={**both_prepared, "fill": is_fill},
    )

"""Fills of probed states as rows of a step, beside the completions whose states they are of."""

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
    """The step with a row for each fill that is worth something, behind the episode that it is of.

    place: of the B completions of this process, whether they are learned from or not. fills: one for each probed state,
    completion after completion. probe_steps: (B, K), at which step a state was probed, -1 for none. prepared: what
    `prepare` returned for these completions.

    A fill has all that its completion has, but an advantage of its own, `fill_advantages`, and is marked by
    `prepared["fill"]`. Its turn is one behind all that an episode may have, so that no noise is drawn twice.
    """
    completion, state = (probe_steps.cpu() >= 0).nonzero(as_tuple=True)  # of each fill
    worth, device = prepared["fill_advantages"][completion, state], step.rollouts.completion_ids.device
    is_learned = worth != 0
    completion, state = completion[is_learned], state[is_learned]
    fill_place = place.select(completion)
    fill_place = replace(fill_place, turn=fill_place.turn + fill_place.max_turns * (1 + state))
    fill_prepared = {name: values[completion] for name, values in prepared.items()}
    fill_prepared["advantages"] = worth[is_learned]
    both_places = Place.join([step.place, fill_place])
    order = both_places.episode.argsort(stable=True)
    order_on_device = order.to(device)

    def both(of_completions: Tensor, of_fills: Tensor) -> Tensor:
        """A column of the step with that of the fills behind it, by episodes."""
        return torch.cat([of_completions, of_fills.to(device)])[order_on_device]

    no_step = torch.full((len(step.place),), -1, device=device)
    completions = replace(step.rollouts, fill_step=no_step, probe_steps=None, probe_rewards=None)
    learned_fills = replace(fills.select(is_learned.to(device)), probe_steps=None, probe_rewards=None)
    is_fill = both(torch.zeros_like(no_step, dtype=torch.bool), torch.ones(len(completion), dtype=torch.bool))
    both_prepared = {name: both(values, fill_prepared[name]) for name, values in step.prepared.items()}
    return replace(
        step,
        rollouts=Rollouts.join([completions, learned_fills]).select(order_on_device),
        place=both_places.select(order),
        prepared={**both_prepared, "fill": is_fill},
    )

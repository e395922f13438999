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
    steps: Tensor,
    prepared: Mapping[str, Tensor],
) -> Step:
    """The step with a row for each fill that is worth something, behind the episode that it is of.

    place: of the B completions of this process, whether they are learned from or not. fills: row after row of steps
    (B, K), where -1 is none. prepared: what `prepare` returned for these completions. A fill has all that its
    completion has, but an advantage of its own (`fill_advantages`), and a turn behind all that an episode may have, so
    that no noise is drawn twice; `prepared["fill"]` tells them apart.
    """
    row, column = (steps.cpu() >= 0).nonzero(as_tuple=True)
    worth, device = prepared["fill_advantages"][row, column], step.rollouts.completion_ids.device
    learned = worth != 0
    filled = row[learned]
    place = place.select(filled)
    place = replace(place, turn=place.turn + place.max_turns * (1 + column[learned]))
    of_fills = {name: values[filled] for name, values in prepared.items()} | {"advantages": worth[learned]}
    joined = Place.join([step.place, place])
    order = joined.episode.argsort(stable=True)
    moved = order.to(device)

    def join(of_completions: Tensor, of_fills: Tensor) -> Tensor:
        return torch.cat([of_completions, of_fills.to(device)])[moved]

    none = torch.full((len(step.place),), -1, device=device)
    written = replace(step.rollouts, fill_step=none, probe_steps=None, probe_rewards=None)
    chosen = fills.select(learned.to(device))
    is_fill = join(torch.zeros_like(none, dtype=torch.bool), torch.ones(len(place), dtype=torch.bool))
    return replace(
        step,
        rollouts=Rollouts.join([written, replace(chosen, probe_steps=None, probe_rewards=None)]).select(
            moved
        ),
        place=joined.select(order),
        prepared={name: join(values, of_fills[name]) for name, values in step.prepared.items()}
        | {"fill": is_fill},
    )

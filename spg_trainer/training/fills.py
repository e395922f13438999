"""Fills of probed states as rows of a step, beside the completions whose states they are of."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spg_trainer.rollout.scored import Scored
from spg_trainer.tensors import Rollouts
from spg_trainer.training.micro_batches import Step


def with_fills(
    step: Step,
    scored: Scored,
    fills: Rollouts,
    steps: Tensor,
    prepared: Mapping[str, Tensor],
    group: np.ndarray,
    max_turns: int,
) -> Step:
    """The step with a row for each fill that is worth something, behind the episode that it is of.

    fills: of this process, row after row of steps (B, K), where -1 is none. prepared: what `prepare` returned for the B
    completions of this process, whether they are learned from or not. group: (B,) numbers of their groups. max_turns:
    of an episode; the number of a fill's turn begins there, so that no noise is drawn twice. A fill has all that its
    completion has, but an advantage of its own (`fill_advantages`); `prepared["fill"]` tells them apart.
    """
    row, column = (steps.cpu() >= 0).nonzero(as_tuple=True)
    worth, device = prepared["fill_advantages"][row, column], step.rollouts.completion_ids.device
    learned = worth != 0
    of = row[learned].numpy()
    turn = scored.turn[of] + max_turns * (1 + column[learned].numpy())
    own = {name: values[of] for name, values in prepared.items()} | {"advantages": worth[learned]}
    order = np.argsort(np.concatenate([step.rows, scored.rows[of]]), kind="stable")
    moved = torch.from_numpy(order).to(device)

    def join(ours: Any, theirs: Any) -> Any:
        if isinstance(ours, np.ndarray):
            return np.concatenate([ours, theirs])[order]
        return torch.cat([ours, theirs.to(device)])[moved]

    none = torch.full((len(step.rows),), -1, device=device)
    written = replace(step.rollouts, fill_step=none, probe_steps=None, probe_rewards=None)
    chosen = fills.select(learned.to(device))
    is_fill = join(torch.zeros_like(none, dtype=torch.bool), torch.ones(len(of), dtype=torch.bool))
    return replace(
        step,
        rollouts=Rollouts.join([written, replace(chosen, probe_steps=None, probe_rewards=None)]).select(
            moved
        ),
        index=join(step.index, scored.index[of]),
        generation=join(step.generation, scored.generation[of]),
        turn=join(step.turn, turn),
        rows=join(step.rows, scored.rows[of]),
        group=join(step.group, group[of]),
        prepared={name: join(values, own[name]) for name, values in step.prepared.items()}
        | {"fill": is_fill},
    )

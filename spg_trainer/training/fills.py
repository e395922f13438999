"""Adds fills to a step, as rows beside the completions from which they were made.

A fill is a half-written (probed) state of a completion whose masks were all filled in one pass.
"""

import torch

from spg_trainer.tensors import Rows


def with_fills(step: Rows, completions: Rows, fills: Rows) -> Rows:
    """The step with a row for each fill whose advantage is not 0, behind the rows of its episode.

    completions: the B of this process, whether they change the loss or not, with `fill_advantages` (B, K), those of
    their fills, and `probe_steps` (B, K), the denoising step before which each state was probed, -1 = none. fills: a
    row for each probed state; those of a completion are neighbours.

    The row of a fill has the values of its completion, except that it has its own advantage and that `fill_step` marks
    it. Its turn has a number above all turns of an episode, so that no noise is drawn twice.
    """
    # For each fill, the number of its completion and of the state, 0..K-1.
    completion, state = (completions.probe_steps.cpu() >= 0).nonzero(as_tuple=True)
    advantage = completions.fill_advantages[completion, state]
    is_learned = advantage != 0
    completion, state, filled = completion[is_learned], state[is_learned], fills.select(is_learned)
    their_completions = completions.select(completion)
    learned_fills = their_completions.with_columns(**vars(filled)).with_columns(
        turn=their_completions.turn + completions.max_turns * (1 + state),
        advantages=advantage[is_learned],
    )
    no_fill_step = torch.full((len(step),), -1, device=filled.fill_step.device)
    parts = [step.with_columns(fill_step=no_fill_step), learned_fills]
    joined = Rows.join([part.without("probe_steps", "probe_rewards") for part in parts])
    return joined.select(joined.episode.argsort(stable=True))

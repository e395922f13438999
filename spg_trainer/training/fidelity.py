"""How far decoding with a cache or by confidence is from exact decoding, on a few completions of a step.

Learning from completions that another sampler would write is what such decoding costs; these figures say how much.
"""

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spg_trainer.likelihood import Masks, token_logps
from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import sample
from spg_trainer.settings.fields import Decoding, Sampling
from spg_trainer.tensors import NEVER, Rollouts

if TYPE_CHECKING:
    from spg_trainer.rollout.scored import Scored

LAW = ("remasking", "position_temperature", "top_p", "top_k", "eos_penalty", "min_completion_length")
"""Settings of decoding that say what is drawn, whichever way it is computed."""
COMPLETIONS = 8
"""The first of a step, whichever processes have them."""


def fidelity_sums(
    policy: Policy, scored: "Scored", sampling: Sampling, seed: int, step: int, rows_per_forward: int | None
) -> list[float]:
    """What `fidelity_means` adds up, of those that this process has; its weights must be those that sampled."""
    rows = (scored.place.episode < COMPLETIONS).nonzero()[:, 0].to(policy.device)
    if not len(rows):
        return [0.0] * 4
    rollouts = scored.rollouts.select(rows).trim()
    written = rollouts.completion_mask
    same = {name: getattr(sampling, name) for name in LAW}
    exact = replace(sampling, **asdict(Decoding(**same)))
    keys = [("rollout", step, *row) for row in scored.place.keys()][: len(rows)]
    encoded, canvas = (rollouts.prompt_ids, rollouts.prompt_mask), rollouts.canvas(policy.mask_id)
    again = sample(policy, encoded, exact, seed, keys, rows_per_forward, canvas=canvas)
    equal = (again.completion_ids == rollouts.completion_ids) & again.completion_mask & written
    sums = (rollouts.unmask_logps * written, exact_logps(policy, rollouts) * written, equal, written)
    return [float(values.sum()) for values in sums]


def fidelity_means(sums: Sequence[Sequence[float]]) -> dict[str, float]:
    """Means over the tokens of all processes.

    `decoding/logp`: log-probability at which they were unmasked, under the law that drew. `decoding/logp_exact`: the
    model's own where all is computed.
    `decoding/equal_tokens`: share that exact decoding, of the same prompts with the same noise, writes at their place.
    """
    logp, exact, equal, written = (sum(column) for column in zip(*sums, strict=True))
    means = {"logp": logp / written, "logp_exact": exact / written, "equal_tokens": equal / written}
    return {f"decoding/{name}": mean for name, mean in means.items()}


def exact_logps(policy: Policy, rollouts: Rollouts) -> Tensor:
    """(B, T) log-probability of each token given all that had been unmasked before its step, nothing kept."""
    step = rollouts.unmask_step
    number = torch.arange(int(step.max()) + 1, device=step.device)[:, None]
    scored = (step[:, None] == number) & rollouts.completion_mask[:, None]
    hidden = (step[:, None] >= number) | (step[:, None] == NEVER)
    masks = Masks(
        masked=torch.cat([hidden.new_zeros(*hidden.shape[:2], rollouts.prompt_ids.shape[1]), hidden], -1),
        scored=scored,
        weight=scored.double(),
        scale=torch.ones(len(rollouts), dtype=torch.float64, device=step.device),
        part=rollouts.completion_mask,
    )
    return token_logps(policy.model, rollouts, masks, policy.mask_id).sum(1)

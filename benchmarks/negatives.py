"""What completions below their group's mean do to the direction of a step: losses held against the true gradient.

The task, the model and the policy gradient are those of estimator_errors.py; a step is 4 prompts x 8 generations. A
form is a masking, its masks, what completions below the mean take, whether equal ones are merged, and how rewards
become advantages. Prints the table of docs/learning.md, in a few minutes of one core:

    python benchmarks/negatives.py
"""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from estimator_errors import (
    GENERATIONS,
    Truth,
    cosines,
    draw_masks,
    find_truth,
    flat_gradient,
    make_masking,
    rewards_of,
    sample,
    score,
    steps_of,
    train_model,
)
from torch import Tensor

from spg_trainer.algorithms.shares import merge_equal
from spg_trainer.algorithms.spg import SPG
from spg_trainer.batch import Rollouts
from spg_trainer.likelihood import Masks, elbo, eubo, mixture
from spg_trainer.models import Policy
from spg_trainer.seeding import derive

Bound = Callable[[Tensor, Masks], Tensor]


def mix(logps: Tensor, masks: Masks) -> Tensor:
    return mixture(elbo(logps, masks), eubo(logps, masks, SPG.eubo_beta), SPG.mix_weight)


def tenth(logps: Tensor, masks: Masks) -> Tensor:
    return 0.1 * elbo(logps, masks)


def bounded(logps: Tensor, masks: Masks) -> Tensor:
    """The gradient of p in place of log p: none where the token was improbable anyway."""
    return elbo(logps * logps.detach().exp(), masks)


class Form(NamedTuple):
    """A way to make a step of scored completions."""

    masking: str
    num_masks: int
    negative: Bound | None = None
    """What completions below the mean take; None = they are not scored."""
    merge: bool = False
    """Whether equal completions of a group are scored once."""
    advantage: str = "mean"


FORMS = {
    "SPG, mixture": Form("random", 2, mix),
    "SPG, mixture, over the deviation": Form("random", 2, mix, advantage="mean_std"),
    "ELBO": Form("random", 2, elbo),
    "ELBO, merged": Form("random", 2, elbo, merge=True),
    "ELBO, negatives bounded": Form("random", 2, bounded),
    "ELBO, negatives weigh a tenth": Form("random", 2, tenth),
    "positives only": Form("random", 2),
    "positives only, merged": Form("random", 2, merge=True),
    "positives only, 8 masks": Form("random", 8),
    "positives only, merged, 8 masks": Form("random", 8, merge=True),
    "shares": Form("random", 2, merge=True, advantage="share"),
    "shares, 8 masks": Form("random", 8, merge=True, advantage="share"),
    "shares, 16 masks": Form("random", 16, merge=True, advantage="share"),
    "shares with negatives, ELBO": Form("random", 2, elbo, merge=True, advantage="share"),
    "the sampler's states": Form("trajectory", 2, elbo),
    "the sampler's states, negatives weigh a tenth": Form("trajectory", 2, tenth),
    "the sampler's states, positives only": Form("trajectory", 2),
    "the sampler's states, positives only, shares": Form("trajectory", 2, advantage="share"),
}


def gradients(
    policy: Policy, name: str, steps: Iterator[tuple[Rollouts, Tensor]], seed: int
) -> tuple[list[Tensor], float]:
    """The gradient of every step in which something was right and something wrong, and the mean passes of a step."""
    form = FORMS[name]
    found, passes = [], 0
    for number, (part, centred) in enumerate(steps):
        if not centred.any():
            continue
        rewards = rewards_of(part.completion_ids, part.completion_mask, part.prompt_ids)
        advantages = SPG(advantage=form.advantage).compute_advantages(rewards.view(-1, GENERATIONS))
        if form.merge:
            advantages = merge_equal(advantages, part, GENERATIONS)
        rows = (advantages != 0 if form.negative else advantages > 0).nonzero().squeeze(-1)
        some, weights = part.select(rows), advantages[rows]
        masks = draw_masks(make_masking(form.masking, form.num_masks), some, derive(seed, number))
        logps = score(policy, some, masks)
        bound = elbo(logps, masks)
        if form.negative:
            bound = torch.where(weights > 0, bound, form.negative(logps, masks))
        found.append(flat_gradient(policy, (weights * bound).sum() / len(part)))
        passes += masks.scored[..., 0].numel()
    return found, passes / len(found)


def table(policy: Policy, truth: Truth, steps: int, seed: int) -> Iterator[str]:
    """Markdown, a row per form."""
    trained = sample(policy, GENERATIONS * steps, derive(seed, "trained"))
    yield "| form | masks | passes of a step | cosine, mean | cosine, one step | error of one step |"
    yield "|---" * 6 + "|"
    for name, form in FORMS.items():
        found, passes = gradients(policy, name, steps_of(trained), derive(seed, "masks"))
        mean, step = cosines(found, truth.gradient)
        error = (1 / step**2 - 1) ** 0.5  # beside the true direction, for a step of length 1 along it
        yield f"| {name} | {form.num_masks} {form.masking} | {passes:.0f} | {mean:.2f} | {step:.2f} | {error:.2f} |"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=64, help="steps whose gradient is taken")
    parser.add_argument("--training-steps", type=int, default=1200, help="supervised steps before")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    policy = train_model(given.training_steps, given.seed)
    for line in table(policy, find_truth(policy), given.steps, given.seed):
        print(line, flush=True)


if __name__ == "__main__":
    main()

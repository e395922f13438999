"""What completions below their group's mean do to the direction of a step: losses held against the true gradient.

The task, the model and the policy gradient are those of estimator_errors.py; a step is 4 prompts x 8 generations. A
form is a masking, its masks, what completions below the mean take, whether equal ones are merged, and how rewards
become advantages. Prints the table of docs/learning.md; takes a few minutes of one core for each seed:

    python benchmarks/negatives.py
"""

import argparse
import statistics
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

from spg_trainer.algorithms.raft import merge_equal
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
) -> tuple[list[Tensor], float, float]:
    """The gradient of every step in which something was right and something wrong, and means over these steps.

    They are the passes of a step, and the length of the negatives' part of its gradient over the sum of both lengths.
    """
    form = FORMS[name]
    found, passes, shares = [], 0, 0.0
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
        up, down = (flat_gradient(policy, (w * bound).sum() / len(part)) for w in split(weights))
        found.append(up + down)
        shares += float(down.norm() / (up.norm() + down.norm()))
        passes += masks.scored[..., 0].numel()
    return found, passes / len(found), shares / len(found)


def split(weights: Tensor) -> tuple[Tensor, Tensor]:
    """What is above zero, and what is below."""
    return weights.clamp(min=0), weights.clamp(max=0)


def figures(policy: Policy, truth: Truth, steps: int, seed: int) -> list[tuple[float, ...]]:
    """Of each form: passes of a step, share of the negatives, cosine of the mean and of one step, error of one step."""
    trained = sample(policy, GENERATIONS * steps, derive(seed, "trained"))
    rows = []
    for name in FORMS:
        found, passes, share = gradients(policy, name, steps_of(trained), derive(seed, "masks"))
        mean, step = cosines(found, truth.gradient)
        error = (1 / step**2 - 1) ** 0.5  # beside the true direction, for a step of length 1 along it
        rows.append((passes, share, mean, step, error))
    return rows


def table(seeds: list[list[tuple[float, ...]]]) -> Iterator[str]:
    """Markdown, a row per form: the mean of the seeds, of the error also the lowest and the highest."""
    yield "| form | masks | passes of a step | negatives' share | cosine, mean | cosine, one step | error of one step |"
    yield "|---" * 7 + "|"
    for (name, form), *rows in zip(FORMS.items(), *seeds, strict=True):
        passes, share, mean, step, error = (statistics.mean(column) for column in zip(*rows, strict=True))
        errors = [row[-1] for row in rows]
        yield (
            f"| {name} | {form.num_masks} {form.masking} | {passes:.0f} | {share:.2f} | {mean:.2f} | {step:.2f} | "
            f"{error:.2f} ({min(errors):.2f} to {max(errors):.2f}) |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=64, help="steps whose gradient is taken")
    parser.add_argument("--training-steps", type=int, default=1200, help="supervised steps before")
    parser.add_argument("--seeds", type=int, default=3, help="each trains, samples and masks anew")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = []
    for seed in range(given.seeds):
        policy = train_model(given.training_steps, seed)
        found.append(figures(policy, find_truth(policy), given.steps, seed))
    print("\n".join(table(found)))


if __name__ == "__main__":
    main()

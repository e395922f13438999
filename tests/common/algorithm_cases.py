"""Losses of algorithms against plain autograd of their published formulas, one unpadded completion at a time."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Algorithm, CoupledAlgorithm, Loss
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.likelihood import Masks, accumulate
from spg_trainer.tensors import Rows
from tests.common.exact_likelihood import path_log_likelihood, predictor
from tests.common.likelihood_cases import (
    make_rollouts,
    naive_logps,
    policy_of,
    relative,
    seeded,
    tiny_model,
    whole_gradient,
)

MASK = 257
LENGTHS, SIZE, PROMPTS = [9, 4, 1, 7], 9, [4, 2, 3, 1]
ADVANTAGES = [0.75, -0.25, 0.4, -0.7]
WITH_ZERO = [0.75, -0.25, 0.0, -0.9]


@dataclass(frozen=True, eq=False)
class Row:
    """A completion of n tokens as a formula sees it: logps (M, n), current ones with a graph, and what was drawn."""

    number: int
    logps: Tensor
    old: Tensor
    """Those of `logps`, detached, where the weights have not moved."""
    ref: Tensor
    scored: Tensor
    """(M, n) bool."""
    weight: Tensor
    """(M, n)."""
    scale: float
    advantage: float
    length: int
    steps: list[int]
    """The step that unmasked each token."""
    reward: float
    group: list["Row"] = field(repr=False)
    """The completions of its group, this one too."""
    update: list["Row"] = field(repr=False)
    """The same of the update, as far as they are at hand."""
    path: "Path | None" = field(default=None, repr=False)
    """Where something is measured."""


@dataclass(frozen=True, eq=False)
class Path:
    """All T places of a completion, also behind its end: values (M, T), and what the sampler did there."""

    logps: Tensor
    measured: Tensor
    """With a graph, as `logps`."""
    old: Tensor
    old_measured: Tensor
    masked: Tensor
    """(M, T) bool."""
    scored: Tensor
    weight: Tensor
    steps: list[int]


def make_batch(
    mask: Tensor,
    advantages: list[float] = ADVANTAGES,
    completions: float = 8.0,
    scored: float = 6.0,
    place: Rows | None = None,
    prepared: dict[str, object] | None = None,
    **more: object,
) -> Rows:
    """A batch of an update that holds more completions than those at hand; each is a group unless `place` says more."""
    totals = {"completions": float(completions), "tokens": 50.0, "scored_completions": scored}
    place = place or Rows.full_groups(len(mask), 1)
    given = {"advantages": torch.tensor(advantages, dtype=torch.float64), **more}
    return place.with_columns(completion_mask=mask, totals=totals, **{**(prepared or {}), **given})


def view_of(
    rewards: Tensor,
    rollouts: Rows | None,
    place: Rows | None = None,
    correct: Tensor | None = None,
    **more: object,
) -> Rows:
    """What `prepare` sees of a step; one without turns unless `place` has some."""
    rows = place or Rows.full_groups(*rewards.shape)
    if rollouts is not None:
        rows = rows.with_columns(**vars(rollouts.without(*vars(rows))))
    if correct is not None:
        rows = rows.with_columns(correct=rows.spread(correct.reshape(-1)))
    return rows.with_columns(rewards=rows.spread(rewards.reshape(-1)), **more)


def in_turns(episode: list[int], group: list[int]) -> Rows:
    """Rows that are turns of episodes. episode: of each row; group: of each episode, which is of its problem."""
    whose = torch.tensor(episode)
    of_group = torch.tensor(group)[whose]
    first = torch.tensor([group.index(one) for one in group])[whose]
    place = Rows(problem=of_group, generation=whose - first, turn=whose, episode=whose, group=of_group)
    return place.with_columns(max_turns=3).with_turns()


def alone(rollouts: Rows, masks: Masks, row: int) -> tuple[Rows, Masks]:
    """One completion whose prompt has no padding."""
    one = torch.tensor([row])
    rollouts, masks = rollouts.select(one), masks.select(one)
    cut = rollouts.prompt_mask.shape[1] - int(rollouts.prompt_mask.sum())
    return rollouts.trim(), masks.without_columns(cut)


def moved(logps: Tensor, masks: Masks, spread: float, seed: int) -> Tensor:
    """Log-probabilities as of another model, where scored."""
    noise = torch.randn(logps.shape, generator=torch.Generator().manual_seed(seed), dtype=logps.dtype)
    return (logps.detach() + spread * noise) * masks.valued


def sampled(rows: int = 4) -> Rows:
    """Four or six completions of unequal lengths, with log-probabilities of the sampler.

    The first step unmasked nothing but tokens behind the end.
    """
    more = rows - len(LENGTHS)
    rollouts = make_rollouts([*LENGTHS, 5, 6][:rows], SIZE, [*PROMPTS, 4, 2][:rows] if more else PROMPTS)
    stream = torch.Generator().manual_seed(5)
    rollouts.unmask_step[:] = (rollouts.unmask_step + 1).where(rollouts.completion_mask, 0)
    rollouts.unmask_logps[:] = -4 * torch.rand(rollouts.unmask_logps.shape, generator=stream)
    falls_back = torch.rand(rollouts.unmask_step.shape, generator=stream) < 0.6
    return rollouts.with_columns(fallback=falls_back)


def prepare(algorithm: Algorithm, rewards: Tensor, rollouts: Rows) -> Rows:
    """The rollouts with what an algorithm makes of them in the middle of a run."""
    rows = view_of(rewards, rollouts, share_done=0.5, correct=rewards == 1)
    return rows.with_columns(**algorithm.prepare(rows))


def formula_error(
    algorithm: Algorithm,
    formula: Callable[[Row], Tensor],
    *,
    off_policy: float = 0.0,
    advantages: list[float] = ADVANTAGES,
    sizes: tuple[int, ...] = (1, 3, 4),
    masks_at_once: tuple[int, ...] = (1, 3, 99),
    group: int = 2,
) -> float:
    """Relative error of loss and gradient, in these ways to split rows and masks, to the sum of `formula` over rows.

    `group` neighbours are a group, in an update of 8 completions, 14 of them scored and 50 tokens. off_policy: how far
    the old logps lie from the current ones, nats; 0 = they are the same.
    """
    model, rollouts = tiny_model(layers=1), sampled(len(advantages))
    if algorithm.score_tail:
        rollouts = rollouts.count_tail(3)
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0]], dtype=torch.float64)[: len(advantages) // 2]
    rollouts = prepare(algorithm, rewards.view(-1, group), rollouts)
    masks = algorithm.make_masking().draw(rollouts, seeded(3))
    with torch.no_grad():
        logps = naive_logps(model, rollouts, masks, MASK)
    old, old_measured = masks.split(moved(logps, masks, off_policy, 1))
    ref = masks.split(moved(logps, masks, 0.3, 2))[0]
    more = {"old_logps": old, "old_measured": old_measured} if off_policy else {}
    batch = make_batch(
        rollouts.completion_mask, advantages, scored=14.0, place=rollouts, ref_logps=ref, **more
    )
    rows: list[Row] = []
    for number, advantage in enumerate(advantages):
        one, its = alone(rollouts, masks, number)
        n = int(one.completion_mask.sum())
        whole, measured = its.split(naive_logps(model, one, its, MASK))
        current = whole[0, :, :n]
        before = old[number, :, :n] if off_policy else current.detach()
        drawn = its.scored[0, :, :n], its.weight[0, :, :n], float(its.scale[0])
        steps, reward = one.unmask_step[0, :n].tolist(), float(rewards.flatten()[number])
        members = [] if number % group == 0 else rows[-1].group
        told = advantage, n, steps, reward, members, rows
        path = None
        if measured is not None:
            olds = (
                (old[number], old_measured[number])
                if off_policy
                else (whole[0].detach(), measured[0].detach())
            )
            shown = its.masked[0, :, -SIZE:], its.scored[0], its.weight[0]
            path = Path(whole[0], measured[0], *olds, *shown, one.unmask_step[0].tolist())
        rows.append(Row(number, current, before, ref[number, :, :n], *drawn, *told, path))
        members.append(rows[-1])
    if algorithm.compares == "update":
        batch = batch.with_columns(coefficients=coefficients(algorithm, masks, batch, logps))
    total = sum(map(formula, rows), torch.zeros((), dtype=torch.float64))
    return split_error(algorithm, model, rollouts, masks, batch, total, sizes, masks_at_once)


def coefficients(algorithm: CoupledAlgorithm, masks: Masks, batch: Rows, logps: Tensor) -> Tensor:
    """What the trainer tells the completions of an update whose loss compares them."""
    names = {"bounds": logps, "old_bounds": batch.get("old_logps", logps), "ref_bounds": batch.ref_logps}
    bounds = {name: algorithm.bound(values, masks).detach() for name, values in names.items()}
    bounds["bounds"].requires_grad_()
    episodes = batch.with_columns(length=batch.length, **bounds)
    return torch.autograd.grad(algorithm.coupled_loss(episodes).loss, bounds["bounds"])[0]


def split_error(
    algorithm: Algorithm,
    model: nn.Module,
    rollouts: Rows,
    masks: Masks,
    batch: Rows,
    total: Tensor,
    sizes: tuple[int, ...] = (1, 3, 4),
    masks_at_once: tuple[int, ...] = (1, 3, 99),
) -> float:
    """Relative error of loss and gradient to `total`, in micro-batches of `sizes` and of so many masks, at most all."""
    model.zero_grad(set_to_none=True)
    total.backward()
    expected, value, errors = whole_gradient(model), float(total.detach()), []
    assert float(expected.norm()) > 1e-6
    for size in sizes:
        for at_once in sorted({min(number, masks.scored.shape[1]) for number in masks_at_once}):
            model.zero_grad(set_to_none=True)
            loss, policy = 0.0, policy_of(model, MASK)
            for part in torch.arange(len(rollouts)).split(size):
                some = masks.select(part)
                loss_fn = partial(loss_of_values, algorithm, some, batch.select(part))
                options = {"masks_at_once": at_once}
                options |= declared(algorithm)
                loss += float(accumulate(policy, rollouts.select(part), some, loss_fn, **options).loss)
            errors.append(relative(whole_gradient(model), expected))
            if algorithm.compares != "update":  # whose value is that of the coefficients' sum
                errors.append(abs(loss - value) / max(abs(value), 1e-6))  # it may be 0 on policy
    return max(errors)


def declared(algorithm: Algorithm) -> dict[str, str]:
    """What an algorithm says of its loss, as `accumulate` takes it; a coupled one is sent back by its coefficients."""
    return {"compares": "copy" if algorithm.compares == "update" else algorithm.compares}


def logps_gradient(algorithm: Algorithm, masks: Masks, batch: Rows, logps: Tensor) -> tuple[Loss, Tensor]:
    """The loss, and its gradient in the logps."""
    logps = logps.detach().requires_grad_()
    loss = loss_of_values(algorithm, masks, batch, logps)
    (gradient,) = torch.autograd.grad(loss.loss, logps)
    return replace(loss, loss=loss.loss.detach()), gradient


def surrogate(log_ratio: Tensor, advantage: float, low: float, high: float, held: list[bool]) -> Tensor:
    """PPO's clipped objective; notes whether the clip took the gradient away."""
    ratio = torch.exp(log_ratio)
    value = float(ratio.detach())
    clipped = min(max(value, 1 - low), 1 + high)
    held.append(clipped * advantage < value * advantage)
    return clipped * advantage * torch.ones_like(ratio) if held[-1] else ratio * advantage


def k3(row: Row, at: tuple[int, ...], reference: Tensor) -> Tensor:
    """The estimate of the KL at one token."""
    other = reference[at].exp() / row.logps[at].exp()
    return other - other.log() - 1


def written() -> dict[int, list[int]]:
    """Number of tokens -> the step that unmasked each, of the completions that `formula_error` is about."""
    steps = make_rollouts(LENGTHS, SIZE, PROMPTS).unmask_step.tolist()
    return {n: of_one[:n] for n, of_one in zip(LENGTHS, steps, strict=True)}


def path_error(algorithm: Algorithm, weights: list[float], rollouts: Rows | None = None) -> float:
    """On policy, the relative error of the gradient to that of minus the weighted log-likelihoods of paths, by oracle.

    The four completions are the whole update, in two groups.
    """
    model, rollouts = tiny_model(), rollouts or make_rollouts(LENGTHS, SIZE, PROMPTS)
    for row, (weight, n) in enumerate(zip(weights, rollouts.completion_mask.sum(-1).tolist(), strict=True)):
        predict = predictor(model, rollouts.prompt_ids[row][rollouts.prompt_mask[row]])
        ids, steps = rollouts.completion_ids[row], rollouts.unmask_step[row]
        (-weight * path_log_likelihood(predict, ids, steps, n, MASK)).backward()
    expected = whole_gradient(model)
    model.zero_grad(set_to_none=True)
    view = view_of(torch.tensor([[1.0, 0.0]] * 2, dtype=torch.float64), rollouts)
    prepared = algorithm.prepare(view)
    masks = algorithm.make_masking().draw(rollouts, seeded(3))
    batch = make_batch(rollouts.completion_mask, completions=4, prepared=prepared)
    loss_fn = partial(loss_of_values, algorithm, masks, batch)
    options = {"masks_at_once": 2, **declared(algorithm)}
    accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, **options)
    return relative(whole_gradient(model), expected)


def two_tokens(count: int = 1) -> Masks:
    """`count` completions of two tokens, with one mask that scores both at weight 1."""
    both = torch.ones(count, 1, 2, dtype=torch.bool)
    return Masks(both, both, both.double(), torch.ones(count, dtype=torch.float64), both[:, 0])

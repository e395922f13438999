"""Checks what a masking estimates: its mean over all masks, written as the weight of each token in each context.

The bound that a masking gives is a weighted sum of log p(token | context) over M masked copies of a completion. A
context is the set of the completion's other tokens that a copy shows. If each token has the right weight in each
context, the mean of the bound over the masks is the known likelihood, or a bound on it, for every model; and only then.
So a masking is tried without a model, on a tiny completion. A weight here is the token's weight in the bound: its mean
over the M copies, times `Copies.scale`.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import combinations

import numpy as np
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.likelihood.masking import Completion, KeyedStreams, Masking, completions_of
from spg_trainer.seeding import numpy_generator
from spg_trainer.tensors import Rows

Weights = np.ndarray
"""(n, 2**n) float, what each of the n tokens weighs in each context.

A context is the number whose bit i is 1 if token i is shown. So token 1, predicted from the tokens 0 and 2, has the
weight `weights[1, 0b101]`."""
STEPS, ROWS = 32, 40
"""How many steps are drawn, and how many rows in each. The rows of a step may share random draws; steps do not."""
MAX_ERRORS = 6.0
"""By how many standard errors a mean may differ from the target."""
TOKENS, PLACES, BLOCK = 4, 5, 2
"""The tiny completion: how many tokens and how many places it has, and the length of its blocks. One of its places is
after its end."""
COPIES = 4
"""The most copies that are drawn: the mean over them is the same for more."""


def bits(tokens: Iterable[int]) -> int:
    """The context in which these tokens are shown: bits([0, 2]) is 0b101."""
    return sum(1 << token for token in tokens)


def add_any_order(weights: Weights, tokens: Sequence[int], before: int = 0) -> None:
    """Adds to `weights` those of the any-order ELBO of n tokens, all of which also see the context `before`.

    A set S of the n tokens precedes another one of them in |S|! (n - |S| - 1)! of the n! orders.
    """
    n = len(tokens)
    for token in tokens:
        others = [other for other in tokens if other != token]
        for size in range(n):
            for shown in combinations(others, size):
                share_of_orders = 1 / (n * math.comb(n - 1, size))
                weights[token, before | bits(shown)] += share_of_orders


# The targets follow. Each returns the weights that the mean over all masks should have.


def any_order(masking: Masking, row: Completion) -> Weights:
    """Each token, given each set of others, weighed by how many of the n! orders have just this set before it."""
    weights = no_weights(row)
    add_any_order(weights, range(row.length))
    return weights


def blocks(masking: Masking, row: Completion) -> Weights:
    """As `any_order` inside each block, given all tokens of earlier blocks."""
    weights = no_weights(row)
    for start, stop in zip(*row.blocks(masking.block_length), strict=True):  # type: ignore[attr-defined]
        add_any_order(weights, range(start, stop), before=bits(range(start)))
    return weights


def quadrature(masking: Masking, row: Completion) -> Weights:
    """For each of M nodes t of weight w, the mean over all sets of k = t n hidden tokens; each weighs w n/k in it."""
    weights, tokens = no_weights(row), range(row.length)
    nodes, node_weights = np.polynomial.legendre.leggauss(masking.num_masks)  # on -1..1
    for ratio, node_weight in zip((1 + nodes) / 2, node_weights / 2, strict=True):
        count = max(1, int(ratio * row.length + 1e-9))
        share_of_tokens = ratio if getattr(masking, "by_ratio", False) else count / row.length
        num_sets = math.comb(row.length, count)
        for hidden in combinations(tokens, count):
            context = bits(tokens) - bits(hidden)
            weights[list(hidden), context] += node_weight / share_of_tokens / num_sets
    return weights


def left_to_right(masking: Masking, row: Completion) -> Weights:
    """Each token, given all tokens before it."""
    weights = no_weights(row)
    for token in range(row.length):
        weights[token, bits(range(token))] = 1.0
    return weights


def path(masking: Masking, row: Completion) -> Weights:
    """Each token, given what was written before the segment of steps that wrote it."""
    weights, steps = no_weights(row), row.unmask_step[: row.length]
    starts, _, segment = masking.segments(steps)  # type: ignore[attr-defined]
    for token in range(row.length):
        shown = np.flatnonzero(steps < starts[segment[token]]).tolist()
        weights[token, bits(shown)] = 1.0
    return weights


def no_weights(row: Completion) -> Weights:
    """Weights of 0 for each token in each context."""
    return np.zeros((row.length, 2**row.length))


TARGETS: dict[str, tuple[str, Callable[[Masking, Completion], Weights]]] = {
    "any_order": ("the any-order ELBO", any_order),
    "blocks": ("the block ELBO of semi-autoregressive decoding", blocks),
    "quadrature": ("the quadrature of the any-order ELBO", quadrature),
    "left_to_right": ("the log-likelihood of writing from left to right", left_to_right),
    "path": ("the log-likelihood of the sampler's path, segment by segment", path),
}
"""{name, as in `Masking.target`: (the target in words, what each token weighs in each context)}."""
OWN = "own"
"""The `Masking.target` of a masking whose docstring states a target that is none of these."""


def tiny_completion() -> Rows:
    """`ROWS` rows of the same tiny completion, whose tokens the sampler wrote in the order 2, 0, 3, 1."""
    noise = numpy_generator(0, "target")
    unmask_step = torch.tensor([1, 3, 0, 2, -1])
    row = Rows(
        prompt_ids=torch.zeros(1, 3, dtype=torch.int64),
        prompt_mask=torch.ones(1, 3, dtype=torch.bool),
        completion_ids=torch.arange(PLACES)[None],
        completion_mask=torch.arange(PLACES)[None] < TOKENS,
        unmask_step=unmask_step[None],
        unmask_logps=torch.tensor([[-0.5, -1.0, -2.0, -0.1, 0.0]]),
        confidence_change=torch.from_numpy(noise.random((1, PLACES))),
    )
    return row.select(torch.zeros(ROWS, dtype=torch.int64))


def mean_weights(masking: Masking) -> tuple[Weights, Weights]:
    """(mean, standard error) of what each token weighs in each context, over `STEPS` steps of draws."""
    rows, drawn = tiny_completion(), []
    bit_of_token = 1 << np.arange(TOKENS)
    for step in range(STEPS):
        weights = np.zeros((TOKENS, 2**TOKENS))
        streams = KeyedStreams(0, ("target", step), [(number,) for number in range(ROWS)])
        for row in completions_of(rows, streams, iteration=0, num_iterations=1):
            copies = masking.copies(row)
            mask, token = copies.scored[:, :TOKENS].nonzero()
            context_of_copy = ~copies.masked[:, :TOKENS] @ bit_of_token  # as `bits` returns it
            context = context_of_copy[mask]
            weight = np.broadcast_to(copies.weight, copies.scored.shape)[mask, token]
            num_copies = len(copies.scored)
            # Unlike `+=`, this adds each weight, also those of several copies with the same token and context.
            np.add.at(weights, (token, context), weight * copies.scale / num_copies / ROWS)
        drawn.append(weights)
    return np.mean(drawn, axis=0), np.std(drawn, axis=0, ddof=1) / math.sqrt(STEPS)


@cache
def difference_from_target(masking: Masking) -> str:
    """How the mean of a masking differs from the target that it states, in words; "" if it does not.

    First, the sums over all contexts with equally many shown tokens are compared, as each is made of more draws; then
    each context alone.
    """
    target_in_words, weights_of = TARGETS[masking.target]
    if masking.num_masks > COPIES:
        with suppress(ConfigError):  # a masking may need more copies
            masking = replace(masking, num_masks=COPIES)
    if hasattr(masking, "block_length"):
        masking = replace(masking, block_length=BLOCK)  # type: ignore[call-arg]
    unused_streams = KeyedStreams(0, ("target",), [(0,)] * ROWS)  # a target draws nothing
    row = next(completions_of(tiny_completion(), unused_streams, iteration=0, num_iterations=1))
    target = weights_of(masking, row)
    mean, standard_error = mean_weights(masking)
    num_shown = np.array([context.bit_count() for context in range(2**TOKENS)])
    for count in range(TOKENS):
        chosen = num_shown == count
        total, expected = mean[:, chosen].sum(), target[:, chosen].sum()
        deviation = math.sqrt((standard_error[:, chosen] ** 2).sum())
        if abs(total - expected) > MAX_ERRORS * deviation + 1e-9:
            return (
                f"where {count} of {TOKENS} tokens are shown, all tokens together weigh {total:.3f} +- {deviation:.3f} "
                f"in the mean, and {expected:.3f} in {target_in_words}"
            )
    wrong = np.argwhere(abs(mean - target) > MAX_ERRORS * standard_error + 1e-9)  # (token, context) of each
    if not len(wrong):
        return ""
    token, context = wrong[0]
    names = [str(i) for i in range(TOKENS) if context & bits([i])]
    shown_in_words = "no token"
    if names:
        shown_in_words = f"{'token' if len(names) == 1 else 'tokens'} {' and '.join(names)}"
    return (
        f"where {shown_in_words} of {TOKENS} is shown, token {token} weighs {mean[token, context]:.3f} +- "
        f"{standard_error[token, context]:.3f} in the mean, and {target[token, context]:.3f} in {target_in_words}"
    )

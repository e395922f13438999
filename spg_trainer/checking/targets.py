"""Checks what a masking estimates: its mean over all masks, written as the weight of each token in each context.

The bound that a masking gives is a weighted sum of log p(token | context) over M masked copies of a completion. A
context is the set of the completion's other tokens that a copy shows. If each token has the right weight in each
context, the mean of the bound over the masks is the known likelihood, or a bound on it, for every model; and only then.
So a masking is tried without a model, on a tiny completion. A weight here is the token's weight in the bound: its mean
over the M copies, times `Copies.scale`.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache, partial
from itertools import combinations
from typing import Any

import numpy as np
import torch

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


def bits(tokens: Iterable[int]) -> int:
    """The context in which these tokens are shown: bits([0, 2]) is 0b101."""
    return sum(1 << token for token in tokens)


# The targets follow. Each returns the weights that the mean over all masks should have.


def blocks(masking: Masking, row: Completion, block_length: int | None = None) -> Weights:
    """The any-order ELBO inside each block, given all tokens of earlier blocks. block_length: None = the masking's.

    A token is weighed, in each set of the others, by how many of the n! orders of the block have just this set before
    it: for a set of k tokens, k! (n - k - 1)! of them.
    """
    weights = no_weights(row)
    starts, stops = row.blocks(block_length or masking.block_length)  # type: ignore[attr-defined]
    for start, stop in zip(starts, stops, strict=True):
        n = stop - start
        for token in range(start, stop):
            others = [other for other in range(start, stop) if other != token]
            for k in range(n):
                for shown in combinations(others, k):
                    weights[token, bits(range(start)) | bits(shown)] = 1 / (n * math.comb(n - 1, k))
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
    "any_order": ("the any-order ELBO", partial(blocks, block_length=PLACES)),
    "blocks": ("the block ELBO of semi-autoregressive decoding", blocks),
    "quadrature": ("the quadrature of the any-order ELBO", quadrature),
    "left_to_right": ("the log-likelihood of writing from left to right", partial(blocks, block_length=1)),
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


def drawn_weights(masking: Masking) -> np.ndarray:
    """(STEPS, n, 2**n) what each token weighs in each context, in the mean over the rows of each step."""
    rows, weights = tiny_completion(), np.zeros((STEPS, TOKENS, 2**TOKENS))
    for step in range(STEPS):
        streams = KeyedStreams(0, ("target", step), [(number,) for number in range(ROWS)])
        for row in completions_of(rows, streams, iteration=0, num_iterations=1):
            copies = masking.copies(row)
            mask, token = copies.scored[:, :TOKENS].nonzero()
            context = (~copies.masked[:, :TOKENS] @ (1 << np.arange(TOKENS)))[mask]  # as `bits` returns it
            weight = np.broadcast_to(copies.weight, copies.scored.shape)[mask, token]
            # Unlike `+=`, this adds each weight, also those of several copies with the same token and context.
            np.add.at(weights[step], (token, context), weight * copies.scale / len(copies.scored) / ROWS)
    return weights


@cache
def difference_from_target(masking: Masking) -> str:
    """How the mean of a masking differs from the target that it states, in words; "" if it does not.

    Each token is compared in each context, and then the sum of all weights, which many maskings draw without any error.
    """
    target_in_words, weights_of = TARGETS[masking.target]
    if hasattr(masking, "block_length"):
        masking = replace(masking, block_length=BLOCK)  # type: ignore[call-arg]
    unused_streams = KeyedStreams(0, ("target",), [(0,)] * ROWS)  # a target draws nothing
    row = next(completions_of(tiny_completion(), unused_streams, iteration=0, num_iterations=1))
    target, drawn = weights_of(masking, row), drawn_weights(masking)
    compared: list[tuple[str, Any]] = [
        (f"where the tokens {[*shown]} of {TOKENS} are shown, token {token} weighs", (token, bits(shown)))
        for count in range(TOKENS)
        for shown in combinations(range(TOKENS), count)
        for token in range(TOKENS)
    ]
    compared.append(("in all contexts, all tokens together weigh", np.s_[:, :]))
    for what, place in compared:
        found, expected = drawn[:, *place].reshape(STEPS, -1).sum(1), target[place].sum()
        mean, error = found.mean(), found.std(ddof=1) / math.sqrt(STEPS)
        if abs(mean - expected) > MAX_ERRORS * error + 1e-9:
            return f"{what} {mean:.3f} +- {error:.3f} in the mean, and {expected:.3f} in {target_in_words}"
    return ""

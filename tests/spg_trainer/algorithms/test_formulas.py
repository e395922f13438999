"""Every algorithm's loss and gradient through a real model, on and off policy, against the formula as it was published.

Each formula is written down independently: token by token, one unpadded completion at a time, by plain autograd.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from spg_trainer.algorithms import ALGORITHMS, Algorithm, build
from tests.common.algorithm_cases import (
    ADVANTAGES,
    LENGTHS,
    SIZE,
    WITH_ZERO,
    Row,
    formula_error,
    k3,
    sampled,
    surrogate,
)
from tests.common.likelihood_cases import seeded, seeded_stream
from tests.common.marks import REPRESENTATIVES, slow_if

Formula = Callable[[Algorithm, Row, list[bool]], Tensor]
"""What a completion adds to the loss of an update of 8 completions and 50 tokens; notes where a clip held."""


def bound_of(row: Row, logps: Tensor) -> Tensor:
    """The ELBO: weighed sums over what each mask scores, averaged over masks."""
    weighed = [(row.weight[m] * logps[m])[row.scored[m]].sum() for m in range(len(logps))]
    return row.scale * sum(weighed) / len(weighed)


def share(algorithm: Algorithm, row: Row) -> float:
    return {"tokens": 1 / 50, "completions": 1 / 8, "length": 1 / (8 * row.length)}[algorithm.normalizer]


# The ELBO and its upper bound.


def bounds(algorithm, row):
    """Both bounds in probabilities: sums over the tokens of the part that was drawn."""
    part, samples, beta = range(row.length), range(len(row.logps)), algorithm.eubo_beta
    if algorithm.masking == "block_active":
        start = int(row.scored.any(0).nonzero()[0]) // 4 * 4
        part = range(start, min(start + 4, row.length))
    ratio = [len(part) / int(row.scored[m].sum()) for m in samples]
    lower = sum(ratio[m] * (row.logps[m] * row.scored[m]).sum() for m in samples) / len(samples)
    upper, seen = 0.0, 0
    for i in part:
        if masked := [m for m in samples if row.scored[m, i]]:
            seen += 1
            power = sum(ratio[m] * row.logps[m, i].exp() ** beta for m in masked) / len(samples)
            upper = upper + power.log() / beta
    return row.scale * lower, row.scale * len(part) / seen * upper


def chosen(algorithm, lower, upper):
    """What a completion below the mean takes."""
    mixed = algorithm.mix_weight * upper + (1 - algorithm.mix_weight) * lower
    return {"zero": 0 * lower, "elbo": lower, "eubo": upper, "mix": mixed}[algorithm.negatives]


def spg(algorithm, row, held):
    lower, upper = bounds(algorithm, row)
    bound = lower if row.advantage >= 0 else chosen(algorithm, lower, upper)
    return -(row.advantage * bound + algorithm.elbo_bonus * lower) * share(algorithm, row)


def spg_eubo(algorithm, row, held):
    lower, upper = bounds(algorithm, row)
    bound = lower if row.advantage >= 0 else upper
    return -(row.advantage * bound + algorithm.elbo_bonus * lower) * share(algorithm, row)


def spg_repro(algorithm, row, held):
    """The reference code: means over masked tokens and over those masked at least once, times n."""
    n, samples, beta = row.length, range(len(row.logps)), algorithm.eubo_beta
    masked = [row.scored[s].nonzero().squeeze(-1).tolist() for s in samples]
    lower = sum(sum(row.logps[s, i] for i in masked[s]) / len(masked[s]) for s in samples) / len(samples)
    powers = {}
    for s in samples:
        for i in masked[s]:
            power = row.logps[s, i].exp() ** beta / (len(masked[s]) / n) / len(samples)
            powers[i] = powers.get(i, 0.0) + power
    upper = sum(value.log() for value in powers.values()) / len(powers) / beta
    bound = lower if row.advantage > 0 else chosen(algorithm, lower, upper)
    return -row.advantage * bound * n / 50


def stabledrl(algorithm, row, held):
    """SPG, its completions weighing by their shares of the group's ratios, which are cut at the top."""

    def ratio(one):
        moved = float(bound_of(one, one.logps).detach() - bound_of(one, one.old))
        return min(math.exp(moved / one.length), algorithm.ceiling)

    lower, upper = bounds(algorithm, row)
    bound = lower if row.advantage >= 0 else chosen(algorithm, lower, upper)
    weight = ratio(row) / sum(map(ratio, row.group))
    held.append(ratio(row) == algorithm.ceiling)  # its clip, of weights
    own = row.length if algorithm.normalizer == "length" else 1
    raised = weight * row.advantage * bound + algorithm.elbo_bonus / 2 * lower
    return -raised / own / 4  # groups of two in 8 completions


def likelihood(algorithm, row, held):
    return -row.advantage * bound_of(row, row.logps) * share(algorithm, row)


def wd1(algorithm, row, held):
    """-(w+ - w-) log p: the advantages are these weights."""
    repeats = 2 if algorithm.normalizer == "groups" else 1
    return -row.advantage * repeats * bound_of(row, row.logps) / 8


def vrpo(algorithm, row, held):
    """DPO without a log-sigmoid, of a group's chosen completion and its other one; 7 pairs in the update."""
    if row.advantage < 0:
        return 0.0 * row.logps.sum()
    (other,) = (one for one in row.group if one.advantage < 0)
    gain = [bound_of(one, one.logps) - bound_of(one, one.ref) for one in (row, other)]
    preference = (1 + (-algorithm.beta * (gain[0] - gain[1])).exp()).log()
    return (preference - algorithm.sft_weight * bound_of(row, row.logps) / row.length) / 7


def justgrpo(algorithm, row, held):
    """Every token once, from the mask that hides it and all behind it."""
    total = 0.0
    for i in range(row.length):
        (mask,) = row.scored[:, i].nonzero().squeeze(-1).tolist()
        total = total + row.logps[mask, i]
    assert int(row.scored.sum()) == row.length
    if algorithm.score_tail:  # the code divides by the window and by what has an advantage, here half
        assert row.length == SIZE
        return -row.advantage * total / SIZE / 4
    return -row.advantage * total / row.length / 8


# A ratio of whole completions.


def quadrature(row, logps, by_ratio):
    """The sum over nodes (t, w) of w n/k, or w/t, times the sum over the k masked tokens; nodes from tables."""
    nodes = {
        2: ([(3 - 3**0.5) / 6, (3 + 3**0.5) / 6], [1 / 2, 1 / 2]),
        3: ([(5 - 15**0.5) / 10, 1 / 2, (5 + 15**0.5) / 10], [5 / 18, 8 / 18, 5 / 18]),
    }[len(logps)]
    total = 0.0
    for t, w, value, masked in zip(*nodes, logps, row.scored, strict=True):
        k = int(masked.sum())
        assert k == max(1, math.floor(t * row.length + 1e-9))
        total = total + w * (1 / t if by_ratio else row.length / k) * value[masked].sum()
    return total


def gdpo(algorithm, row, held):
    new, old, ref = (quadrature(row, x, False) for x in (row.logps, row.old, row.ref))
    kl = torch.exp(ref - new) - (ref - new) - 1
    term = -surrogate(new - old, row.advantage, algorithm.epsilon, algorithm.epsilon_high, held) / row.length
    return (term + algorithm.beta * kl) / 8


def gdpo_repro(algorithm, row, held):
    """NeMo-RL's."""
    new, old = (quadrature(row, x, True) for x in (row.logps, row.old))
    return -surrogate((new - old) / row.length, row.advantage, algorithm.epsilon, algorithm.epsilon, held) / 8


def bgpo(algorithm, row, held):
    terms = []
    for j in range(len(row.logps)):
        where = row.scored[j]
        weight = row.weight[j][where] if algorithm.masking == "bernoulli" else row.length / int(where.sum())
        d = (weight * (row.logps[j][where] - row.old[j][where])).sum()
        terms.append((1 + d if row.advantage >= 0 else torch.exp(d)) * row.advantage)
    return -sum(terms) / len(terms) / 8


def coupled_bound(row, logps):
    """Mean over pairs of half of (n+1)/k of one side and (n+1)/(n-k) of the other; an empty side adds nothing."""
    total, n = 0.0, row.length
    for pair in range(0, len(logps), 2):
        one, other = row.scored[pair], row.scored[pair + 1]
        assert torch.equal(one, ~other)
        for masked, value in ((one, logps[pair]), (other, logps[pair + 1])):
            if masked.any():
                total = total + 0.5 * (n + 1) / int(masked.sum()) * value[masked].sum()
    return total / (len(logps) // 2)


def espo(algorithm, row, held):
    new, old, ref = (coupled_bound(row, x) for x in (row.logps, row.old, row.ref))
    assert row.length == SIZE or not algorithm.score_tail
    kl = (new - ref) ** 2 / 2 / (SIZE if algorithm.score_tail else 1)
    ratio = (new - old) / row.length
    term = -surrogate(ratio, row.advantage, algorithm.epsilon, algorithm.epsilon_high, held)
    return (term + algorithm.beta * kl) / 8


def mapg(algorithm, row, held):
    """The mean of token ratios and of position ratios; `end` is the last step of a segment, as the code counts."""
    path, size = row.path, algorithm.steps_per_segment

    def means(logps, measured):
        tokens, places = [], []
        for m, i in path.scored.nonzero().tolist():
            end = (path.steps[i] - 1) // size * size + size
            assert end - size < path.steps[i] <= end and path.masked[m, i] and i < row.length
            later = [j for j in range(SIZE) if path.steps[j] > end or path.steps[j] < 0]
            z = {j: (measured[m, j] / algorithm.position_temperature).exp() for j in [i, *later]}
            tokens.append(logps[m, i])
            places.append((z[i] / sum(z.values())).log())
        return sum(tokens) / len(tokens), sum(places) / len(places)

    new, old = means(path.logps, path.measured), means(path.old, path.old_measured)
    limits = algorithm.epsilon, algorithm.epsilon_high, held
    tokens, places = (surrogate(x - y, row.advantage, *limits) for x, y in zip(new, old, strict=True))
    return -(tokens + algorithm.position_weight * places) / 8


# A ratio of each token.


def clipped(algorithm, row, at, held):
    """PPO's objective at one token."""
    log_ratio = row.logps[at] - row.old[at]
    return surrogate(log_ratio, row.advantage, algorithm.epsilon, algorithm.epsilon, held)


def diffu_grpo(algorithm, row, held):
    """Equation 3, averaged as the masking weighs tokens."""
    total = 0.0
    for at in map(tuple, row.scored.nonzero().tolist()):
        term = clipped(algorithm, row, at, held) - algorithm.beta * k3(row, at, row.ref)
        total = total + row.weight[at] * term
    return -share(algorithm, row) * row.scale * total / len(row.logps)


def unigrpo(algorithm, row, held):
    """The mean over masked tokens of each copy that has any, then over all copies."""
    total = 0.0 * row.logps.sum()
    for m, i in row.scored.nonzero().tolist():
        penalty = algorithm.beta * k3(row, (m, i), row.ref)
        total = total + (clipped(algorithm, row, (m, i), held) - penalty) / int(row.scored[m].sum())
    return -total / len(row.logps) / 8


def unigrpo_repro(algorithm, row, held):
    """The same, but for a penalty that is a sum and from the model that sampled."""
    total = 0.0 * row.logps.sum()
    for m, i in row.scored.nonzero().tolist():
        term = clipped(algorithm, row, (m, i), held) / int(row.scored[m].sum())
        total = total + term - algorithm.beta * k3(row, (m, i), row.old)
    return -total / len(row.logps) / 8


def agrpo(algorithm, row, held):
    surprise, entropy = -sampled().unmask_logps[row.number, : row.length].double(), {}
    for t in set(row.steps):
        entropy[t] = 1e-8 + sum(float(surprise[i]) for i in range(row.length) if row.steps[i] == t)
    every, total = sum(entropy.values()), 0.0
    for m in range(len(row.logps)):
        ((t,)) = {row.steps[i] for i in range(row.length) if row.scored[m, i]}
        assert row.scored[m].tolist() == [step == t for step in row.steps], (
            "all that was unmasked at the step"
        )
        chance = 1 / len(entropy) if algorithm.segment_draw == "uniform" else entropy[t] / every
        for i in row.scored[m].nonzero().flatten().tolist():
            ratio = torch.exp(row.logps[m, i] - row.old[m, i])
            term = algorithm.beta * ratio * k3(row, (m, i), row.ref) - clipped(algorithm, row, (m, i), held)
            total = total + term / ((max(row.steps) + 1) * chance)
    return total / len(row.logps) / 8


def d2_stepmerge(algorithm, row, held):
    segments, last, total = algorithm.num_masks, max(row.steps) + 1, 0.0
    cuts = [k * last // segments for k in range(segments + 1)] if last > segments else range(last + 1)
    owner = [sum(start <= step for start in cuts) - 1 for step in row.steps]
    used = sorted(set(owner))
    for m, segment in itertools.zip_longest(range(len(row.logps)), used):
        assert row.scored[m].tolist() == [of_token == segment for of_token in owner]
    for i in range(row.length):
        at = used.index(owner[i]), i
        total = total + clipped(algorithm, row, at, held) - algorithm.beta * k3(row, at, row.ref)
    return -total / sum(one.length for one in row.group) / 4  # groups of two in 8 completions


def cj_grpo(algorithm, row, held):
    total = 0.0
    for i, step in enumerate(row.steps):
        (m,) = row.scored[:, i].nonzero().flatten().tolist()
        assert row.scored[m].tolist() == [other == step for other in row.steps]
        term = clipped(algorithm, row, (m, i), held) - algorithm.beta * k3(row, (m, i), row.ref)
        total = total + term / row.steps.count(step)
    return -total / len(set(row.steps)) / 8


def forkgrpo(algorithm, row, held):
    """The steps that fell back, each in a copy; a random few of them weigh as all do."""
    fell_back = sampled().fallback[row.number, : row.length].tolist()
    steps = sorted({step for step, fell in zip(row.steps, fell_back, strict=True) if fell})
    copies = [m for m in range(len(row.logps)) if row.scored[m].any()]
    assert len(copies) == min(len(steps), algorithm.num_masks)
    total = 0.0 * row.logps.sum()
    for m in copies:
        (t,) = {row.steps[i] for i in row.scored[m].nonzero().flatten().tolist()}
        assert t in steps and row.scored[m].tolist() == [step == t for step in row.steps]
        for i in row.scored[m].nonzero().flatten().tolist():
            term = clipped(algorithm, row, (m, i), held) - algorithm.beta * k3(row, (m, i), row.ref)
            total = total + term * len(steps) / len(copies)
    return -total / max(1, sum(fell_back)) / 8


def slim_rl(algorithm, row, held):
    """Of each copy that masks anything, the clipped ratio of the mean over its masked tokens, and their KL."""
    weights = {2: [1 / 2, 1 / 2], 3: [5 / 18, 8 / 18, 5 / 18]}[len(row.logps)]
    total = 0.0 * row.logps.sum()
    for q, weight in enumerate(weights):
        masked = row.scored[q].nonzero().flatten().tolist()
        if not masked:
            continue
        log_ratio = sum(row.logps[q, i] - row.old[q, i] for i in masked) / len(masked)
        penalty = sum(k3(row, (q, i), row.old) for i in masked) / SIZE
        term = surrogate(log_ratio, row.advantage, algorithm.epsilon, algorithm.epsilon, held)
        total = total + weight * (term - algorithm.beta * penalty)
    return -total / 8


def rspo(algorithm, row, held):
    """REINFORCE on the ELBO by the token, less beta times half the square of a centred distance to the anchor."""

    def anchor(one):
        return float(bound_of(one, one.ref if algorithm.anchor == "ref" else one.old)) / one.length

    def moved(one):
        return float(bound_of(one, one.logps).detach()) / one.length - anchor(one)

    centre = sum(map(moved, row.update)) / len(row.update) if algorithm.beta else 0.0
    s = bound_of(row, row.logps) / row.length
    penalty = (s - anchor(row) - centre) ** 2 / 2 if algorithm.beta else 0.0
    return (algorithm.beta * penalty - row.advantage * s) / 8


def tracerl(algorithm, row, held):
    every = [sampled().unmask_step[b, :n].tolist() for b, n in enumerate(LENGTHS)]
    merged = [[step // algorithm.steps_per_segment for step in steps] for steps in every]
    rows, total, of_token = 2 * sum(len(set(of_one)) for of_one in merged), 0.0, merged[row.number]
    for m, segment in enumerate(sorted(set(of_token))):
        tokens = [i for i in range(row.length) if of_token[i] == segment]
        assert row.scored[m].nonzero().flatten().tolist() == tokens
        for i in tokens:
            term = -clipped(algorithm, row, (m, i), held) / len(tokens)
            total = total + term + algorithm.beta * k3(row, (m, i), row.old)
    return total / rows


def coupled_grpo(algorithm, row, held):
    t = seeded_stream(3, -1, 0).uniform(0.2, 0.8)

    def phi(logps, i):
        inside = t if row.scored[1, i] else 1 - t
        return (logps[0, i] + logps[1 if row.scored[1, i] else 2, i] / inside) / 2

    assert row.scored[0].all() and torch.equal(row.scored[1], ~row.scored[2])
    total = 0.0
    for i in range(row.length):
        log_ratio = phi(row.logps, i) - phi(row.old, i)
        d = phi(row.ref, i) - phi(row.logps, i)
        term = surrogate(log_ratio, row.advantage, algorithm.epsilon, algorithm.epsilon, held)
        total = total + term - algorithm.beta * (torch.exp(d) - d - 1)
    return -total * share(algorithm, row)


@dataclass(frozen=True)
class Case:
    """An algorithm's formula and the settings that it is held to."""

    formula: Formula
    settings: list[dict]
    off_policy: float = 1.0
    """How far the log-probabilities of the model that sampled lie from the current ones, nats."""
    advantages: tuple[float, ...] = tuple(WITH_ZERO)
    clips: bool = False
    """Whether it has a clip, which then must hold some terms off policy, and others not."""
    whole_groups: bool = False
    group: int = 2


BLOCKS = {"masking": "block_active", "num_masks": 2, "block_length": 4}
RIGHT_ONES = (0.5625, 0.0, 0.28125, 0.0)
FORMS = [{}, {"normalizer": "tokens"}, {"normalizer": "completions"}, {"normalizer": "length"}]
BOTH_SIDES = {"epsilon": 0.02, "epsilon_high": 0.03}
CASES = {
    "spg": Case(
        spg,
        [
            {
                "masking": m,
                "negatives": n,
                "normalizer": d,
                "num_masks": k,
                "block_length": 4,
                "mix_weight": 0.3,
            }
            for m in ("random", "block", "block_active")
            for n in ("zero", "elbo", "eubo", "mix")
            for d, k in (("tokens", 2), ("completions", 3), ("length", 4))
        ]
        + [{"masking": "random", "negatives": n, "elbo_bonus": 0.3} for n in ("zero", "mix")],
        advantages=tuple(ADVANTAGES),
    ),
    "spg_eubo": Case(
        spg_eubo,
        [
            {"masking": m, "normalizer": d, "num_masks": k, "block_length": 4}
            for m, d, k in (
                ("random", "completions", 8),
                ("block", "tokens", 3),
                ("block_active", "length", 4),
            )
        ]
        + [{"elbo_bonus": 0.3}],
        advantages=tuple(ADVANTAGES),
    ),
    "spg_repro": Case(
        spg_repro,
        [
            {"masking": m, "negatives": n, "num_masks": k, "block_length": 4, "mix_weight": 0.3}
            for m in ("random", "block")
            for n in ("zero", "elbo", "eubo", "mix")
            for k in (2, 3)
        ],
    ),
    "stabledrl": Case(
        stabledrl,
        [
            {"block_length": 4, "ceiling": 2.5},
            {"negatives": "elbo", "ceiling": 1.5, "num_masks": 3, "block_length": 4},
            {
                "masking": "random",
                "normalizer": "completions",
                "p_mask_prompt": 0.0,
                "ceiling": 1.5,
                "elbo_bonus": 0.3,
            },
        ],
        off_policy=3.0,
        clips=True,
        whole_groups=True,
    ),
    "raft": Case(likelihood, [{**d, **m} for d in FORMS[1:] for m in ({}, BLOCKS)], advantages=RIGHT_ONES),
    "maxrl": Case(
        likelihood, [{**d, **m} for d in FORMS[1:] for m in ({}, BLOCKS)], advantages=tuple(ADVANTAGES)
    ),
    "wd1": Case(
        wd1,
        [
            {"normalizer": d, **m}
            for d in ("completions", "groups")
            for m in (
                {},
                {"num_masks": 3},
                {"masking": "random", "num_masks": 3},
                {"masking": "coupled", "num_masks": 2},
            )
        ],
    ),
    "wd1_repro": Case(wd1, [{}], advantages=tuple(ADVANTAGES)),
    "vrpo": Case(
        vrpo,
        [
            *(
                {"masking": m, "num_masks": 4, "beta": 0.7, "sft_weight": 0.3}
                for m in ("bernoulli", "coupled")
            ),
            {"masking": "block_steps", "block_length": 3, "beta": 0.7, "sft_weight": 0.3},
        ],
        advantages=(1.0, -1.0, -1.0, 1.0, 1.0, -1.0),
        whole_groups=True,
    ),
    "justgrpo": Case(justgrpo, [{}], advantages=tuple(ADVANTAGES)),
    "justgrpo_repro": Case(justgrpo, [{}], advantages=(0.75, 0.0, 0.4, -0.7)),
    "gdpo": Case(
        gdpo,
        [BOTH_SIDES, {**BOTH_SIDES, "beta": 0.05, "num_masks": 2}],
        off_policy=0.015,
        advantages=tuple(ADVANTAGES),
        clips=True,
    ),
    "gdpo_repro": Case(
        gdpo_repro, [{"epsilon": 0.005}], off_policy=0.015, advantages=tuple(ADVANTAGES), clips=True
    ),
    "bgpo": Case(
        bgpo,
        [{"masking": m, "num_masks": 5} for m in ("bernoulli", "random")],
        off_policy=0.02,
        advantages=tuple(ADVANTAGES),
    ),
    "espo": Case(
        espo,
        [{"beta": beta, "epsilon": 0.002, "epsilon_high": 0.001} for beta in (0.0, 0.05)],
        off_policy=0.1,
        advantages=tuple(ADVANTAGES),
        clips=True,
    ),
    "espo_repro": Case(
        espo,
        [{"beta": 0.05, "epsilon": 0.002, "epsilon_high": 0.001}],
        off_policy=0.1,
        advantages=tuple(ADVANTAGES),
        clips=True,
    ),
    "mapg": Case(
        mapg,
        [
            {"num_masks": 8, "steps_per_segment": 1},
            {
                "num_masks": 2,
                "steps_per_segment": 2,
                "position_temperature": 0.8,
                "position_weight": 0.5,
                "epsilon": 0.3,
            },
        ],
        off_policy=0.8,
        clips=True,
    ),
    "diffu_grpo": Case(
        diffu_grpo,
        [
            {},
            {"num_masks": 3},
            {"beta": 0.0},
            {"normalizer": "tokens", "epsilon": 0.1, "beta": 2.0},
            {"masking": "random", "num_masks": 3, "p_mask_prompt": 0.0},
            BLOCKS,
        ],
        clips=True,
    ),
    "diffu_grpo_repro": Case(diffu_grpo, [{}], clips=True),
    "unigrpo": Case(
        unigrpo, [{}, {"num_masks": 3, "beta": 0.5}, {"masking": "random"}], off_policy=0.4, clips=True
    ),
    "unigrpo_repro": Case(
        unigrpo_repro, [{"num_masks": 4, "beta": 0.5}, {"num_masks": 6}], off_policy=0.4, clips=True
    ),
    "agrpo": Case(
        agrpo,
        [
            {"num_masks": 3, "beta": 0.3},
            {"segment_draw": "entropy", "num_masks": 6},
            {"num_masks": 3, "beta": 0.3, "score_temperature": 1.5},
        ],
        clips=True,
    ),
    "d2_stepmerge": Case(
        d2_stepmerge,
        [
            {},
            {"num_masks": 2},
            {"num_masks": 3, "beta": 0.0, "p_mask_prompt": 0.0},
            {"num_masks": 3, "score_temperature": 0.5},
        ],
        clips=True,
    ),
    "cj_grpo": Case(
        cj_grpo, [{}, {"beta": 0.0, "epsilon": 0.1}, {"score_temperature": 0.5, "beta": 0.3}], clips=True
    ),
    "tracerl": Case(
        tracerl,
        [
            {"steps_per_segment": 2},
            {"steps_per_segment": 3, "beta": 0.7},
            {},
            {"steps_per_segment": 2, "beta": 0.7, "score_temperature": 0.5},
        ],
        clips=True,
    ),
    "forkgrpo": Case(
        forkgrpo,
        [{}, {"num_masks": 2, "beta": 0.3}, {"score_temperature": 0.8, "epsilon": 0.1}],
        clips=True,
    ),
    "slim_rl": Case(
        slim_rl,
        [{"block_length": 4}, {"num_masks": 2, "spread": 0.0, "beta": 0.7, "block_length": 3}],
        off_policy=0.3,
        advantages=tuple(ADVANTAGES),
        clips=True,
    ),
    "rspo": Case(
        rspo,
        [
            {"beta": 0.7},
            {"beta": 0.7, "anchor": "old"},
            {"beta": 0.0, "num_masks": 2},
            {"masking": "random", "beta": 0.7},
        ],
    ),
    "coupled_grpo": Case(
        coupled_grpo,
        [{}, {"beta": 0.0, "epsilon": 0.1}, {"normalizer": "length", "beta": 1.0}],
        off_policy=0.5,
        clips=True,
    ),
}


def test_every_algorithm_has_a_formula():
    assert list(CASES) != [] and set(CASES) == set(ALGORITHMS)


def shown_by_others(name: str, number: int, policy: str) -> bool:
    """Of SPG's three settings, which do not know each other, each pair of values is seen without these.

    What only codes as published do differently is tried in their first settings, and what knows old policies is tried
    on policy in its first ones.
    """
    if policy == "on" and number and (name, number, "off") in NUMBERED:
        return True
    if name not in ("spg", "spg_repro"):
        return name.endswith("_repro") and number > 0
    last = 3 if name == "spg" else 2  # values of the third
    if number >= 3 * 4 * last:  # the bonus
        return False
    masking, negatives = divmod(number // last, 4)
    return (masking + negatives + number) % last > 0


NUMBERED = [
    (name, number, policy)
    for name, case in CASES.items()
    for number in range(len(case.settings))
    for policy in (("on", "off") if "old" in build(name, case.settings[number]).needs else ("on",))
]


@pytest.mark.parametrize("name, number, policy", slow_if(NUMBERED, shown_by_others))
def test_loss_and_gradient_are_those_of_the_published_formula(name, number, policy, at_length):
    """In all ways of splitting rows and masks for the first settings of some, on policy; else with --slow alone."""
    case, held = CASES[name], []
    sizes, masks_at_once = (2, 4) if case.whole_groups else (3, 1, 4), (1, 3, 99)
    if (number or policy == "off" or name not in REPRESENTATIVES) and not at_length:
        sizes, masks_at_once = sizes[:1], masks_at_once[:1]
    algorithm = build(name, case.settings[number])
    off_policy = case.off_policy if policy == "off" else 0.0
    error = formula_error(
        algorithm,
        lambda row: case.formula(algorithm, row, held),
        off_policy=off_policy,
        advantages=list(case.advantages),
        sizes=sizes,
        masks_at_once=masks_at_once,
        group=case.group,
    )
    assert error < 1e-10
    if case.clips:
        assert set(held) == ({True, False} if off_policy else {False}), "both sides of the clip are seen"


def test_a_copy_in_which_nothing_is_masked_is_among_those_of_the_code_of_unigrpo():
    """So that it is known to count as zero."""
    masks = build("unigrpo_repro", {"num_masks": 6}).make_masking().draw(sampled(), seeded(3))
    assert (masks.scored.sum(-1) == 0).any()

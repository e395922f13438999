"""The oracle against brute force, the estimators against the oracle, and the real sampler against its law."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import Loss
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import accumulate, elbo, token_logps
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows
from tests.common.block_cases import PATTERNS, with_pattern
from tests.common.exact_likelihood import (
    END,
    MASK,
    VOCABULARY,
    Law,
    any_order_elbo,
    any_order_log_likelihood,
    block_elbo,
    block_log_likelihood,
    completion_law,
    context_logps,
    expected_reward,
    order_log_likelihood,
    path_log_likelihood,
    predictor,
)
from tests.common.exact_likelihood import policy_of_few_words as make_policy
from tests.common.likelihood_cases import relative, seeded, whole_gradient

PROMPT = torch.tensor([1, 0, 2])
MODES = [
    Sampling(4, block, steps, 0.7, remasking=remasking)
    for block, steps in ((2, 4), (4, 2))
    for remasking in ("low_confidence", "random")
]
each_mode = pytest.mark.parametrize("sampling", MODES, ids=lambda s: f"{s.remasking}-{s.block_length}")


def table(size, seed=0, spread=1.0, can_mask=True):
    """A model without a model: log-probabilities linear in the canvas; without mass on [MASK] if it must not."""
    stream = torch.Generator().manual_seed(seed)
    weights = spread * torch.randn(size, VOCABULARY, size * VOCABULARY, generator=stream, dtype=torch.float64)

    def predict(canvases):
        shown = torch.nn.functional.one_hot(canvases, VOCABULARY).to(weights).flatten(1)
        logits = torch.einsum("ivk,nk->niv", weights, shown)
        if not can_mask:
            logits[..., MASK] = -math.inf
        return logits.log_softmax(-1)

    return predict


def sample(policy, sampling, rows, seed=0):
    """Rows of one prompt; rows take their noise from one stream in turn, so that they are independent."""
    ids = PROMPT.repeat(rows, 1)
    noise = [generator(seed, "test")] * rows
    return sample_completions(policy, ids, torch.ones_like(ids, dtype=torch.bool), sampling, noise)


def law_of(policy, sampling):
    return completion_law(
        predictor(policy.model, PROMPT), sampling, mask_id=MASK, end_token_ids=policy.end_token_ids
    )


# Likelihoods.


def test_a_predictor_gives_the_logps_of_the_model():
    model = make_policy().model
    canvases = torch.tensor([[0, MASK, 2, MASK], [MASK, MASK, MASK, MASK]])
    ids = torch.cat([PROMPT.expand(2, -1), canvases], -1)
    expected = model(input_ids=ids).logits.log_softmax(-1)[:, 3:]
    torch.testing.assert_close(predictor(model, PROMPT)(canvases), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("length, size", [(1, 3), (3, 3), (4, 5)])
def test_dynamic_programming_equals_the_sum_over_orders(length, size):
    predict, ids = table(size, size), torch.arange(size) % 3
    logps = context_logps(predict, ids, length, MASK)
    paths = []
    for order in itertools.permutations(range(length)):
        canvas, total = torch.full((1, size), MASK), 0.0
        for token in order:
            total = total + predict(canvas)[0, token, ids[token]]
            canvas[0, token] = ids[token]
        assert float(order_log_likelihood(logps, order)) == pytest.approx(float(total), abs=1e-12)
        paths.append(total)
    paths = torch.stack(paths)
    likelihood = paths.logsumexp(0) - math.log(len(paths))
    assert float(any_order_log_likelihood(logps)) == pytest.approx(float(likelihood), abs=1e-12)
    assert float(any_order_elbo(logps)) == pytest.approx(float(paths.mean()), abs=1e-12)


@pytest.mark.parametrize("length, size, block_length", [(5, 6, 2), (3, 4, 1), (4, 4, 3)])
def test_block_likelihoods_sum_over_the_orders_of_each_block(length, size, block_length):
    logps = context_logps(table(size, 9), torch.arange(size) % 3, length, MASK)
    blocks = [range(s, min(s + block_length, length)) for s in range(0, length, block_length)]
    orders = itertools.product(*(itertools.permutations(block) for block in blocks))
    paths = torch.stack([order_log_likelihood(logps, [*itertools.chain(*order)]) for order in orders])
    likelihood = paths.logsumexp(0) - math.log(len(paths))
    assert float(block_log_likelihood(logps, block_length)) == pytest.approx(float(likelihood), abs=1e-12)
    assert float(block_elbo(logps, block_length)) == pytest.approx(float(paths.mean()), abs=1e-12)


def test_the_four_forms_of_the_elbo_are_one_number():
    n = 4
    logps = context_logps(table(n, 3), torch.tensor([0, 2, 1, 0]), n, MASK).numpy()
    # Polynomials in t of degree n - 1: twelve nodes are exact.
    nodes, weights = np.polynomial.legendre.leggauss(12)
    bernoulli = by_token = counted = 0.0
    for row in range((1 << n) - 1):
        masked = n - row.bit_count()
        total = logps[row].sum()
        counted += total / masked / math.comb(n, masked)
        for t, w in zip((nodes + 1) / 2, weights / 2, strict=True):
            bernoulli += w / t * t**masked * (1 - t) ** (n - masked) * total
            by_token += w * t ** (masked - 1) * (1 - t) ** (n - masked) * total
    found = [bernoulli, counted, float(any_order_elbo(torch.from_numpy(logps))), by_token]
    assert found == pytest.approx([bernoulli] * 4, abs=1e-12)


@pytest.mark.parametrize("spread", [0.0, 0.3, 1.0, 4.0])
def test_no_elbo_exceeds_its_log_likelihood(spread):
    gaps = []
    for seed in range(25):
        ids = torch.randint(3, (6,), generator=torch.Generator().manual_seed(seed))
        logps = context_logps(table(6, seed, spread), ids, 5, MASK)
        gaps.append(any_order_log_likelihood(logps) - any_order_elbo(logps))
        gaps.append(block_log_likelihood(logps, 2) - block_elbo(logps, 2))
    gaps = torch.stack(gaps)
    assert gaps.min() > (1e-4 if spread else -1e-12)
    assert spread or gaps.max() < 1e-12  # equal where contexts do not matter


def test_likelihoods_have_the_gradient_of_finite_differences():
    logps = context_logps(table(4, 5), torch.tensor([0, 2, 1, 0]), 4, MASK).requires_grad_()
    for function in (any_order_log_likelihood, any_order_elbo, lambda x: block_log_likelihood(x, 3)):
        assert torch.autograd.gradcheck(function, logps)


# The law of the sampler.


@each_mode
def test_the_path_holds_the_logps_that_the_sampler_recorded(sampling):
    policy = make_policy()
    predict = predictor(policy.model, PROMPT)
    rollouts = sample(policy, sampling, 32)
    recorded = (rollouts.unmask_logps * rollouts.completion_mask).sum(-1)
    lengths = rollouts.completion_mask.sum(-1).tolist()
    paths = [
        path_log_likelihood(predict, rollouts.completion_ids[row], rollouts.unmask_step[row], n, MASK)
        for row, n in enumerate(lengths)
    ]
    torch.testing.assert_close(torch.stack(paths), recorded, rtol=0, atol=1e-10)


@each_mode
@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize("ends", [(), (0, END)])
def test_a_law_is_a_distribution_over_finished_completions(sampling, temperature, ends):
    sampling = replace(sampling, temperature=temperature)
    law = completion_law(table(4, 2), sampling, mask_id=MASK, end_token_ids=ends)
    assert float(law.probabilities.detach().sum()) == pytest.approx(1, abs=1e-12)
    assert law.probabilities.min() > 0
    is_end = torch.isin(law.completion_ids, torch.tensor(ends))
    lengths = law.completion_mask.sum(-1)
    assert ((is_end.sum(-1) == 0) & (lengths == 4) | (is_end.int().argmax(-1) == lengths - 1)).all()
    if temperature:
        count = 4**4 if not ends else sum(2**n * 2 for n in range(4)) + 2**4
        assert len(law.probabilities) == count


def test_random_remasking_one_by_one_is_the_any_order_likelihood():
    predict = table(5, 7, can_mask=False)
    law = completion_law(predict, Sampling(5, 5, 5, 1.0, remasking="random"), mask_id=MASK)
    for row in range(0, len(law.probabilities), 97):
        logps = context_logps(predict, law.completion_ids[row], 5, MASK)
        assert float(law.probabilities[row].log()) == pytest.approx(
            float(any_order_log_likelihood(logps)), abs=1e-12
        )


@pytest.mark.parametrize("remasking", ["low_confidence", "random"])
def test_blocks_of_one_token_are_autoregressive(remasking):
    predict = table(4, 7, can_mask=False)
    law = completion_law(predict, Sampling(4, 1, 4, 1.0, remasking=remasking), mask_id=MASK)
    for row in range(0, len(law.probabilities), 23):
        logps = context_logps(predict, law.completion_ids[row], 4, MASK)
        chain = order_log_likelihood(logps, range(4))
        assert float(law.probabilities[row].log()) == pytest.approx(float(chain), abs=1e-12)


def test_equal_confidence_goes_by_position():
    logps = torch.tensor([0.5, 0.5, 1e-9, 1e-9, 1e-9], dtype=torch.float64).log().log_softmax(-1)
    seen = []

    def watched(canvases):
        seen.append(canvases)
        return logps.expand(*canvases.shape, -1)

    # So cold that only the two equal words are ever drawn: every confidence ties.
    completion_law(watched, Sampling(3, 3, 3, 0.02), mask_id=MASK)
    assert [(canvases != MASK).any(0).tolist() for canvases in seen] == [
        [False, False, False],
        [True, False, False],
        [True, True, False],
    ]


@pytest.mark.parametrize("seed", range(3))
def test_the_greedy_law_is_the_greedy_completion(seed):
    policy, sampling = make_policy(seed), Sampling(6, 6, 4)
    law = law_of(policy, sampling)
    assert law.probabilities.tolist() == [1.0]
    assert law.find(sample(policy, sampling, 1)).tolist() == [0]


def p_value(law: Law, rows) -> float:
    """Pearson's chi-square of the completions (B,) against a law; cells of fewer than five are put together."""
    expected = law.probabilities.detach() * len(rows)
    observed = torch.bincount(rows, minlength=len(expected)).double()
    small = expected < 5
    pooled = [torch.cat([x[~small], x[small].sum()[None]]) for x in (observed, expected)]
    keep = pooled[1] > 0
    observed, expected = pooled[0][keep], pooled[1][keep]
    statistic = ((observed - expected).square() / expected).sum()
    return float(torch.special.gammaincc(torch.tensor((len(expected) - 1) / 2), statistic / 2))


@pytest.mark.parametrize("count", [5_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("sampling", [MODES[0], MODES[3]], ids=lambda s: f"{s.remasking}-{s.block_length}")
def test_the_sampler_follows_its_law(sampling, count):
    policy = make_policy()
    rollouts = sample(policy, sampling, count)
    law = law_of(policy, sampling)
    assert p_value(law, law.find(rollouts)) > 1e-3
    other = {"low_confidence": "random"}.get(sampling.remasking, "low_confidence")
    for wrong in (
        replace(sampling, remasking=other),
        replace(sampling, temperature=0.7 + 0.02 * (100_000 / count) ** 0.5),
        replace(sampling, diffusion_steps=6 - sampling.diffusion_steps),
    ):
        law = law_of(policy, wrong)
        assert p_value(law, law.find(rollouts)) < 1e-6, wrong


@pytest.mark.parametrize(
    "name, remasking",
    [
        pytest.param("sequence", "random", marks=pytest.mark.slow),
        ("sequence, shifted", "low_confidence"),
        pytest.param("completion", "low_confidence", marks=pytest.mark.slow),
        ("full, shifted", "low_confidence"),
    ],
)
def test_the_sampler_follows_its_law_in_attention_blocks(name, remasking):
    """The prompt of 3 tokens holds the head of a block of 2, where blocks are counted from its start."""
    pattern, shift = PATTERNS[name]
    pattern = pattern if pattern.is_full else replace(pattern, block_size=2)
    policy = make_policy()
    with_pattern(policy.model, pattern, shift)
    sampling = Sampling(4, 2, 2, 0.7, remasking=remasking)
    rollouts = sample(policy, sampling if pattern.is_full else replace(sampling, cache="blocks"), 5_000)

    def law(spans, **other):
        with_pattern(policy.model, other.get("pattern", pattern), other.get("shift", shift))
        predict, ends = predictor(policy.model, PROMPT), policy.end_token_ids
        return completion_law(predict, sampling, mask_id=MASK, end_token_ids=ends, spans=spans)

    spans = pattern.spans(3, 4, 2)
    right = law(spans)
    assert p_value(right, right.find(rollouts)) > 1e-3
    wrong = [law(spans, shift=1 - shift)]
    if not pattern.is_full:
        wrong += [law([(0, 2), (2, 4)] if name.startswith("seq") else [(0, 1), (1, 3), (3, 4)])]
        wrong += [law(spans, pattern=Pattern())]
    for other in wrong:
        assert p_value(other, other.find(rollouts)) < 1e-6


@each_mode
def test_the_policy_gradient_is_that_of_finite_differences(sampling):
    policy = make_policy()
    law = law_of(policy, sampling)
    rewards = law.completion_ids.double().where(law.completion_mask, 0).square().sum(-1)
    parameters = list(policy.model.parameters())
    gradient = torch.autograd.grad(expected_reward(law, rewards), parameters)
    stream, h = torch.Generator().manual_seed(0), 1e-6
    for _ in range(3):
        along = [
            torch.randn(p.shape, generator=stream, dtype=p.dtype) * p.detach().abs().mean()
            for p in parameters
        ]
        slope = sum(float((g * a).sum()) for g, a in zip(gradient, along, strict=True))
        values = []
        for step in (h, -2 * h):
            with torch.no_grad():
                for p, a in zip(parameters, along, strict=True):
                    p.add_(a, alpha=step)
                moved = law_of(policy, sampling)
            assert torch.equal(moved.completion_ids, law.completion_ids)
            values.append(float(expected_reward(moved, rewards)))
        with torch.no_grad():
            for p, a in zip(parameters, along, strict=True):
                p.add_(a, alpha=h)
        assert abs(slope) > 1e-3
        assert slope == pytest.approx((values[0] - values[1]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize(
    "sampling, words",
    [
        (Sampling(13, 1, 13, 0.7), r"13 tokens.* 1 to 12"),
        (Sampling(11, 11, 1, 0.7), r"4194304 canvases.*more diffusion_steps"),
        (Sampling(4, 4, 4, 0.7, remasking="threshold"), r"'threshold' is unknown.*low_confidence, random"),
    ],
)
def test_what_cannot_be_enumerated_is_refused(sampling, words):
    with pytest.raises(ConfigError, match=words):
        completion_law(table(sampling.max_completion_length), sampling, mask_id=MASK)


def test_a_completion_outside_the_law_is_named():
    policy = make_policy()
    law = law_of(policy, MODES[0])
    rollouts = sample(policy, MODES[0], 4)
    strange = rollouts.with_columns(completion_ids=torch.full_like(rollouts.completion_ids, MASK))
    with pytest.raises(ConfigError, match=r"no completion \[4"):
        law.find(strange)


@pytest.mark.parametrize("temperature", [0.5, 1.7])
def test_paths_scored_at_their_temperature_sum_to_the_law_of_the_sampler_and_its_gradient(temperature):
    """Two tokens in any order, one a step: all 2 * 4^2 paths, log-probabilities as training takes them."""
    policy = replace(make_policy(), end_token_ids=())
    sampling = Sampling(2, 2, 2, temperature, remasking="random")
    law = completion_law(predictor(policy.model, PROMPT), sampling, mask_id=MASK)
    rewards = torch.sin(7.0 * torch.arange(len(law.probabilities), dtype=torch.float64))
    expected_reward(law, rewards).backward()
    exact = whole_gradient(policy.model)
    policy.model.zero_grad(set_to_none=True)
    count = len(law.completion_ids)
    assert count == 16
    steps = torch.tensor([[0, 1], [1, 0]]).repeat_interleave(count, 0)
    ids = law.completion_ids.repeat(2, 1)
    rollouts = Rows(
        prompt_ids=PROMPT.expand(2 * count, -1),
        prompt_mask=torch.ones(2 * count, 3, dtype=torch.bool),
        completion_ids=ids,
        completion_mask=torch.ones_like(ids, dtype=torch.bool),
        unmask_step=steps,
        unmask_logps=torch.zeros(ids.shape),
    )

    def gradient_at(score_temperature):
        """Of the expected reward, with the law that the scores give: the score-function estimator without noise."""
        masks = StepMergeMasking(2, score_temperature=score_temperature).draw(rollouts, seeded())
        path_logps = elbo(token_logps(policy, rollouts, masks), masks)
        chance = path_logps.exp() / 2  # of two orders
        found = Loss(torch.zeros(()), {})

        def loss_fn(logps):
            path = elbo(logps, masks)
            return replace(found, loss=(chance * rewards.repeat(2) * path).sum())

        policy.model.zero_grad(set_to_none=True)
        accumulate(policy, rollouts, masks, loss_fn, masks_at_once=2)
        return chance.view(2, -1).sum(0), whole_gradient(policy.model)

    chances, gradient = gradient_at(temperature)
    torch.testing.assert_close(chances, law.probabilities.detach(), rtol=0, atol=1e-12)
    assert relative(gradient, exact) < 1e-10
    chances, gradient = gradient_at(1.0)  # as the model has it: another law, some of which is on the mask
    assert float(chances.sum()) < 1 - 1e-6 and relative(gradient, exact) > 0.1

"""How far the estimators of a log-likelihood, and the gradients made of them, are from the truth; see estimators.py.

The truth is `spg_trainer.likelihood.exact`. The task is as small as it must be: three words, an end token, completions
of 8 tokens in 2 blocks, 2 tokens a step by confidence, temperature 0.9, which are LLaDA's defaults in small. The prompt
is three words; right is the palindrome that begins with them, and a third of what the model has learned.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms.spg import SPG
from spg_trainer.batch import Rollouts
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import MASKINGS, Masking, Masks, elbo, eubo, mixture
from spg_trainer.likelihood.exact import (
    Law,
    any_order_elbo,
    any_order_log_likelihood,
    block_elbo,
    block_log_likelihood,
    completion_law,
    context_logps,
    expected_reward,
    predictor,
)
from spg_trainer.models import LLaDAConfig, LLaDAForMaskedLM, Policy
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import derive, generator, numpy_generator
from spg_trainer.settings.fields import Sampling
from spg_trainer.sft.demonstrations import denoising_loss, draw_masked
from spg_trainer.sft.schedule import warmup_cosine
from spg_trainer.training.optimizer import apply_gradients, make_adamw

WORDS, END, MASK = 3, 3, 4
SAMPLING = Sampling(max_completion_length=8, block_length=4, diffusion_steps=4, temperature=0.9)
PROMPTS = torch.tensor([[0, 1, 2], [1, 1, 0], [2, 0, 0], [0, 2, 1]])
GENERATIONS = 8
ORACLES = {
    "log p, decoder": None,
    "log p, block": lambda logps: block_log_likelihood(logps, SAMPLING.block_length),
    "log p, any order": any_order_log_likelihood,
    "elbo, block": lambda logps: block_elbo(logps, SAMPLING.block_length),
    "elbo, any order": any_order_elbo,
}
"""Exact functions of `context_logps`; None is the law of the sampler."""


@dataclass(frozen=True)
class Row:
    """What is known of one estimator."""

    masking: str
    bound: str
    num_masks: int
    """0 for an oracle."""
    passes: int
    """Masked copies of a completion that go through the model."""
    bias_any_order: float
    """Nats per completion, against the exact any-order log-likelihood, in the mean over completions and masks."""
    bias_decoder: float
    """The same against the log-probability of the sampler writing this completion."""
    deviation: float
    """Nats, over the masks of a completion (root mean square over completions)."""
    cosine_mean: float
    """Of the expected gradient and the policy gradient."""
    cosine_step: float
    """Of the gradient of one step of 4 prompts x 8 generations and the policy gradient, in the mean over steps."""


# The model


def train_model(steps: int, seed: int) -> Policy:
    """Three habits, learned by the supervised loss of `sft`; float64, without a tokenizer: ids go in and out."""
    config = LLaDAConfig(
        d_model=32,
        n_layers=2,
        n_heads=2,
        mlp_hidden_size=64,
        max_sequence_length=16,
        vocab_size=WORDS + 2,
        mask_token_id=MASK,
        eos_token_id=END,
        pad_token_id=END,
        rope_theta=100.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "model"))
        model = LLaDAForMaskedLM(config)
    policy = Policy(model, None, MASK, END, (END,), "new")
    parameters, rows, length = list(model.parameters()), 64, SAMPLING.max_completion_length
    optimizer = make_adamw(parameters, 2e-3, 0.01)
    for step in range(steps):
        stream = numpy_generator(seed, "demonstrations", step)
        prompts = stream.integers(WORDS, size=(rows, 3))
        habits = stream.integers(3, size=rows)
        ids = torch.tensor([demonstrations(p)[h] for p, h in zip(prompts.tolist(), habits, strict=True)])
        prompt = torch.from_numpy(prompts), torch.ones(rows, 3, dtype=torch.bool)
        (denoising_loss(policy, prompt, ids, *draw_masked(rows, length, seed, step)) / rows).backward()
        apply_gradients(optimizer, warmup_cosine(2e-3, 50, steps, step))
        optimizer.zero_grad()
    model.double().eval()
    return policy


def demonstrations(prompt: list[int]) -> list[list[int]]:
    """The palindrome, which is right; the prompt twice; the prompt backwards. Filled with end tokens."""
    texts = [prompt + prompt[::-1], prompt + prompt, prompt[::-1]]
    return [text + [END] * (SAMPLING.max_completion_length - len(text)) for text in texts]


# The truth


@dataclass(frozen=True)
class Truth:
    """The laws of all prompts with their graphs, the rewards, and the gradient of the mean expected reward."""

    laws: list[Law]
    rewards: list[Tensor]
    gradient: Tensor


def find_truth(policy: Policy) -> Truth:
    laws = [law_of(policy, prompt) for prompt in PROMPTS]
    rewards = [
        rewards_of(law.completion_ids, law.completion_mask, prompt.expand(len(law.completion_ids), -1))
        for law, prompt in zip(laws, PROMPTS, strict=True)
    ]
    values = [expected_reward(law, r) for law, r in zip(laws, rewards, strict=True)]
    return Truth(laws, rewards, flat_gradient(policy, torch.stack(values).mean()))


def law_of(policy: Policy, prompt: Tensor) -> Law:
    predict = predictor(policy.model, prompt)
    return completion_law(predict, SAMPLING, mask_id=MASK, end_token_ids=policy.end_token_ids)


def rewards_of(completion_ids: Tensor, completion_mask: Tensor, prompts: Tensor) -> Tensor:
    """(B,) 1 for the palindrome with its end token, else 0."""
    right = torch.cat([prompts, prompts.flip(-1), torch.full((len(prompts), 1), END)], -1)
    same = completion_ids[:, : right.shape[1]] == right
    return (same.all(-1) & (completion_mask.sum(-1) == right.shape[1])).double()


def sample(policy: Policy, per_prompt: int, seed: int) -> Rollouts:
    """Completions of every prompt, prompt after prompt."""
    prompts = PROMPTS.repeat_interleave(per_prompt, 0)
    noise = [generator(seed, "rollouts", row) for row in range(len(prompts))]
    return sample_completions(policy, prompts, torch.ones_like(prompts, dtype=torch.bool), SAMPLING, noise)


def decoder_log_likelihoods(laws: list[Law], rollouts: Rollouts) -> Tensor:
    """(B,) the log-probability of each completion under the law of its prompt."""
    parts = zip(laws, torch.arange(len(rollouts)).chunk(len(laws)), strict=True)
    return torch.cat([law.probabilities[law.find(rollouts.select(rows))].log() for law, rows in parts])


def oracle_log_likelihoods(policy: Policy, truth: Truth, name: str, rollouts: Rollouts) -> Tensor:
    """(B,) exact log-likelihoods of an oracle, with their graph; equal completions are enumerated once."""
    function = ORACLES[name]
    if function is None:
        return decoder_log_likelihoods(truth.laws, rollouts)
    behind = rollouts.completion_ids.where(rollouts.completion_mask, MASK)
    distinct, inverse = torch.cat([rollouts.prompt_ids, behind], -1).unique(dim=0, return_inverse=True)
    width, found = PROMPTS.shape[1], []
    for row in distinct:
        length = int((row[width:] != MASK).sum())
        predict = predictor(policy.model, row[:width])
        found.append(function(context_logps(predict, row[width:], length, MASK)))
    return torch.stack(found)[inverse]


# The estimators


def make_masking(name: str, num_masks: int) -> Masking:
    """A masking of the table, clean prompts, in the blocks of the sampler."""
    given = {"num_masks": num_masks, "p_mask_prompt": 0.0, "block_length": SAMPLING.block_length}
    cls = MASKINGS[name]
    return cls(**{f.name: given[f.name] for f in fields(cls) if f.name in given})


def draw_masks(masking: Masking, rollouts: Rollouts, seed: int) -> Masks:
    """The masks of one update."""

    def stream(row: int, mask: int) -> np.random.Generator:
        return numpy_generator(seed, "masks", row, mask)

    return masking.draw(rollouts, stream)


def make_bounds(masking: Masking, logps: Tensor, masks: Masks) -> Iterator[tuple[str, Tensor]]:
    """Names and values (B,) of the bounds that a masking allows, at the settings of SPG's paper."""
    lower = elbo(logps, masks)
    yield "elbo", lower
    if masking.has_eubo:
        upper = eubo(logps, masks, SPG.eubo_beta)
        yield "eubo", upper
        yield "mix", mixture(lower, upper, SPG.mix_weight)


def score(policy: Policy, rollouts: Rollouts, masks: Masks) -> Tensor:
    """(B, M, T) logps at scored positions with their graph; equal canvases go through the model once."""
    ids = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], -1)
    shown = ids[:, None].where(~masks.masked, MASK).flatten(0, 1)
    distinct, inverse = shown.unique(dim=0, return_inverse=True)
    logps = predictor(policy.model, distinct.new_empty(0))(distinct)[:, PROMPTS.shape[1] :]
    targets = rollouts.completion_ids.repeat_interleave(masks.scored.shape[1], 0)
    logps = logps[inverse[:, None], torch.arange(targets.shape[1]), targets]
    return logps.view(masks.scored.shape) * masks.scored


def likelihood_errors(
    policy: Policy, masking: Masking, rollouts: Rollouts, repeats: int, seed: int
) -> tuple[int, dict[str, tuple[Tensor, Tensor]]]:
    """Passes, and per bound its mean and variance over `repeats` draws of the masks of each completion, (B,) each."""
    # All completions, then all again: a masking that spreads its draws over a step spreads those of each completion.
    many = rollouts.select(torch.arange(len(rollouts)).repeat(repeats))
    masks = draw_masks(masking, many, seed)
    with torch.no_grad():
        logps = score(policy, many, masks)
        found = {name: value.view(repeats, -1).T for name, value in make_bounds(masking, logps, masks)}
    return masks.scored.shape[1], {name: (v.mean(1), v.var(1)) for name, v in found.items()}


# Gradients


def flat_gradient(policy: Policy, value: Tensor) -> Tensor:
    """The gradient of a scalar with respect to all weights, in one vector."""
    parameters = list(policy.model.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, retain_graph=True)])


def steps_of(rollouts: Rollouts) -> Iterator[tuple[Rollouts, Tensor]]:
    """Steps of GENERATIONS completions of each prompt, and their advantages (B,), group after group."""
    numbers = torch.arange(len(rollouts)).view(len(PROMPTS), -1, GENERATIONS)
    for step in range(numbers.shape[1]):
        part = rollouts.select(numbers[:, step].flatten())
        rewards = rewards_of(part.completion_ids, part.completion_mask, part.prompt_ids)
        groups = rewards.view(-1, GENERATIONS)
        yield part, (groups - groups.mean(1, keepdim=True)).flatten()


def bound_gradients(
    policy: Policy, masking: Masking, rollouts: Rollouts, seed: int
) -> dict[str, list[Tensor]]:
    """The gradient of every step, per bound: good completions take the ELBO, the others the bound."""
    found: dict[str, list[Tensor]] = {}
    for step, (part, advantages) in enumerate(steps_of(rollouts)):
        if not advantages.any():
            continue
        masks = draw_masks(masking, part, derive(seed, step))
        bounds = dict(make_bounds(masking, score(policy, part, masks), masks))
        for name, value in bounds.items():
            taken = torch.where(advantages >= 0, bounds["elbo"], value)
            found.setdefault(name, []).append(flat_gradient(policy, (advantages * taken).mean()))
    return found


def oracle_gradients(policy: Policy, truth: Truth, name: str, rollouts: Rollouts) -> list[Tensor]:
    """The gradient of every step made of an exact log-likelihood."""
    return [
        flat_gradient(policy, (advantages * oracle_log_likelihoods(policy, truth, name, part)).mean())
        for part, advantages in steps_of(rollouts)
        if advantages.any()
    ]


def cosines(gradients: list[Tensor], truth: Tensor) -> tuple[float, float]:
    """Of the expected gradient with the truth, and the mean of those of single steps.

    The squared norm of the expected gradient is taken from products of different steps: that of their mean would hold
    its noise, and make a noisy estimator look biased.
    """
    stack, truth = torch.stack(gradients), truth / truth.norm()
    count, along, own = len(stack), stack @ truth, stack.square().sum(-1)
    square = (stack.sum(0).square().sum() - own.sum()) / (count * (count - 1))
    mean = float(along.mean()) / math.sqrt(square) if square > 0 else math.nan
    return mean, float((along / own.sqrt()).mean())


# All of it


def measure(
    policy: Policy,
    truth: Truth,
    *,
    num_masks: list[int],
    completions: int,
    repeats: int,
    steps: int,
    oracle_steps: int,
    seed: int,
) -> Iterator[Row]:
    """A row for every oracle, then for every masking, number of masks, and bound that it allows.

    completions: whose likelihood is estimated, per prompt. repeats: draws of the masks of each. steps: whose gradient
    is estimated, for the oracles `oracle_steps`.
    """
    scored = sample(policy, completions, derive(seed, "scored"))
    trained = sample(policy, GENERATIONS * steps, derive(seed, "trained"))
    with torch.no_grad():
        values = {name: oracle_log_likelihoods(policy, truth, name, scored) for name in ORACLES}
    any_order, decoder = values["log p, any order"], values["log p, decoder"]
    numbers = torch.arange(len(trained)).view(len(PROMPTS), -1)[:, : GENERATIONS * oracle_steps]
    few = trained.select(numbers.flatten())
    for name, value in values.items():
        biases = (float((value - target).mean()) for target in (any_order, decoder))
        gradients = oracle_gradients(policy, truth, name, few)
        yield Row("exact", name, 0, 0, *biases, 0.0, *cosines(gradients, truth.gradient))
    for name in MASKINGS:
        for count in num_masks:
            try:
                masking = make_masking(name, count)
                masking.check(SAMPLING.max_completion_length)
            except ConfigError:  # e.g. an odd number of masks where they come in pairs
                continue
            passes, found = likelihood_errors(policy, masking, scored, repeats, derive(seed, name, count))
            gradients = bound_gradients(policy, masking, trained, derive(seed, name, count, "gradient"))
            for bound, (mean, variance) in found.items():
                biases = (float((mean - target).mean()) for target in (any_order, decoder))
                deviation = float(variance.mean().sqrt())
                yield Row(
                    name, bound, count, passes, *biases, deviation, *cosines(gradients[bound], truth.gradient)
                )

"""ForkGRPO: its gradient against an enumeration of all paths of threshold decoding with a leftmost fallback."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import accumulate
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.models.forward import head_weight, hidden_states
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.check import check_algorithm
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows
from tests.common.algorithm_cases import declared, in_turns, make_batch, view_of
from tests.common.exact_likelihood import MASK, policy_of_few_words
from tests.common.likelihood_cases import make_rollouts, relative, seeded, whole_gradient
from tests.common.rollout_cases import streams

PROMPT, LENGTH, BLOCK = [1, 0, 2], 4, 2
FORKS = Sampling(LENGTH, BLOCK, LENGTH, 0.8, unmasking="threshold", threshold=0.7, fallback="leftmost")


def paths(policy, sampling):
    """Every (ids, steps, which fell back, probability) of decoding; tokens of sure steps without a graph."""

    def go_on(ids, steps, fell_back, chance, number):
        masked = [i for i in range(LENGTH) if ids[i] == MASK]
        if not masked:
            yield ids, steps, fell_back, chance
            return
        block = [i for i in masked if i // BLOCK == masked[0] // BLOCK]
        states = hidden_states(policy.model, torch.tensor([PROMPT + ids]))[0, len(PROMPT) :]
        logits = states @ head_weight(policy.model).T
        law = (logits[:, :MASK] / sampling.temperature).softmax(-1)  # the mask has the highest id
        sure = [i for i in block if float(logits[i].detach().softmax(-1).max()) >= sampling.threshold]
        for tokens in itertools.product(range(MASK), repeat=max(1, len(sure))):
            after = list(ids), list(steps), list(fell_back)
            probability = chance
            for i, token in zip(sure or block[:1], tokens, strict=True):
                after[0][i], after[1][i], after[2][i] = token, number, not sure
                probability = probability * (law[i, token].detach() if sure else law[i, token])
            yield from go_on(*after, probability, number + 1)

    empty = [MASK] * LENGTH, [-1] * LENGTH, [False] * LENGTH
    yield from go_on(*empty, torch.ones((), dtype=torch.float64), 0)


def rollouts_of(every):
    ids, steps, fell_back = (torch.tensor(column) for column in list(zip(*every, strict=True))[:3])
    return Rows(
        prompt_ids=torch.tensor(PROMPT).expand(len(ids), -1),
        prompt_mask=torch.ones(len(ids), 3, dtype=torch.bool),
        completion_ids=ids,
        completion_mask=torch.ones_like(ids, dtype=torch.bool),
        unmask_step=steps,
        unmask_logps=torch.zeros(ids.shape),
        fallback=fell_back,
    )


def gradient_of(algorithm, policy, rollouts, advantages):
    """Of the loss of completions that are a whole update."""
    policy.model.zero_grad(set_to_none=True)
    masks = algorithm.make_masking().draw(rollouts, seeded())
    prepared = algorithm.prepare(view_of(torch.zeros(len(rollouts) // 2, 2), rollouts))
    batch = make_batch(rollouts.completion_mask, advantages, completions=len(rollouts), prepared=prepared)
    loss_fn = partial(loss_of_values, algorithm, masks, batch)
    accumulate(policy, rollouts, masks, loss_fn, masks_at_once=9, **declared(algorithm))
    return whole_gradient(policy.model)


def test_without_the_number_of_steps_the_gradient_is_that_of_the_expected_reward():
    """Two blocks of two tokens; all paths, each with its probability times its reward as the advantage."""
    policy = replace(policy_of_few_words(), end_token_ids=())
    every = list(paths(policy, FORKS))
    chances = torch.stack([chance for *_, chance in every])
    assert float(chances.sum()) == pytest.approx(1, abs=1e-12)
    rewards = torch.sin(5.0 * torch.arange(len(every), dtype=torch.float64))
    (chances * rewards).sum().backward()
    exact, rollouts = whole_gradient(policy.model), rollouts_of(every)
    assert 0 < rollouts.fallback.double().mean() < 1 and len(every) % 2 == 0
    number = rollouts.fallback.sum(-1)
    advantages = (chances.detach() * rewards * number * len(every)).tolist()
    fork = build("forkgrpo", {"score_temperature": 0.8, "num_masks": LENGTH})
    assert relative(-gradient_of(fork, policy, rollouts, advantages), exact) < 1e-10
    at_1 = build("forkgrpo", {"num_masks": LENGTH})
    assert relative(-gradient_of(at_1, policy, rollouts, advantages), exact) > 0.05


def sampled_rows(policy, sampling, count=300):
    prompts = torch.tensor(PROMPT).expand(count, -1)
    mask = torch.ones_like(prompts, dtype=torch.bool)
    return sample_completions(
        policy, prompts, mask, sampling, streams(count), records=frozenset({"fallback"})
    )


def keys(rollouts):
    columns = rollouts.completion_ids, rollouts.unmask_step, rollouts.fallback
    return {tuple(map(tuple, row)) for row in zip(*(column.tolist() for column in columns), strict=True)}


@pytest.mark.slow
def test_the_sampler_takes_the_paths_of_the_law_and_records_which_steps_fell_back():
    policy = replace(policy_of_few_words(), end_token_ids=())
    law = keys(rollouts_of(list(paths(policy, FORKS))))
    found = keys(sampled_rows(policy, FORKS))
    assert found <= law and len(found) > 20
    drawn = keys(sampled_rows(policy, replace(FORKS, fallback="leftmost_drawn")))
    assert not drawn <= law, "whether a step falls back then depends on what was drawn"


def test_a_threshold_of_1_writes_from_left_to_right_with_the_gradient_of_justgrpo():
    policy = replace(policy_of_few_words(), end_token_ids=())
    rollouts = sampled_rows(policy, replace(FORKS, temperature=1.0, threshold=1.0), count=6)
    assert (rollouts.unmask_step == torch.arange(LENGTH)).all() and rollouts.fallback.all()
    advantages = [0.5, -1.0, 0.25, 0.75, -0.5, 1.5]
    fork, just = (gradient_of(build(name), policy, rollouts, advantages) for name in ("forkgrpo", "justgrpo"))
    assert relative(fork, just) < 1e-10


def test_the_steps_of_an_episode_are_those_of_all_its_turns_up_to_their_ends():
    rollouts = make_rollouts([4, 3, 2, 4], 4)
    rollouts = rollouts.with_columns(fallback=torch.tensor([[True, False, True, True]] * 4))
    place = in_turns([0, 0, 1, 2], [0, 0, 0])
    rewards = torch.tensor([[1.0, 0.0, 0.0]], dtype=torch.float64)
    found = build("forkgrpo").prepare(view_of(rewards, rollouts, place))
    assert found["fallbacks"].tolist() == [5, 5, 1, 3]


def test_completions_that_are_given_and_rollouts_without_a_fallback_are_refused():
    masking = StepMergeMasking(4, segment_draw="fallback")
    with pytest.raises(ConfigError, match="needs what only a rollout records: fallback"):
        masking.draw(make_rollouts([4], 4), seeded())
    for sampling in (Sampling(), Sampling(unmasking="threshold")):
        with pytest.raises(ConfigError, match=r"forkgrpo learns from .*--fallback leftmost"):
            check_algorithm(replace(Config(algorithm="forkgrpo"), rollout=sampling), build("forkgrpo"))
    careless = Sampling(temperature=0.9, unmasking="threshold", threshold=0.5, fallback="leftmost")
    check_algorithm(replace(Config(algorithm="forkgrpo"), rollout=careless), build("forkgrpo"))

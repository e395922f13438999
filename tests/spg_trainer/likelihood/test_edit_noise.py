"""Wrong tokens that a model is to correct: which ones are shown, and losses of them by plain autograd."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from spg_trainer import algorithms
from spg_trainer.algorithms.base import loss_of_values, prepare_columns
from spg_trainer.algorithms.registry import WITH_WRONG_TOKENS
from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import KeyedStreams, accumulate, token_logps
from spg_trainer.likelihood.noise import check_edit_noise, ordinary_tokens, with_wrong_tokens
from spg_trainer.models import Policy, new_policy
from spg_trainer.tensors import Rows
from spg_trainer.training.prepare import prepare
from spg_trainer.training.update import plan_updates
from tests.common.block_cases import block_numbers, plain_logits, with_pattern
from tests.common.likelihood_cases import make_masking, make_rollouts
from tests.common.marks import slow_if
from tests.common.trainer_cases import small_config, start

CHANCE, WEIGHT, SIZE = 0.4, 0.7, 9
PATTERNS = {"full": Pattern(), "blocks": Pattern(4)}
TOTALS = {"completions": 4.0, "scored_completions": 4.0, "rewarded_completions": 4.0, "tokens": 26.0}


@cache
def open_policy(pattern: str = "full") -> Policy:
    policy = new_policy(hidden_size=16, layers=2, heads=2, ffn=24, device="cpu")
    policy.model.double()
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(8)
    with_pattern(policy.model, PATTERNS[pattern], 0)
    return policy


def written(policy: Policy) -> Rows:
    """Four completions, one of which holds an end token, which is no ordinary one."""
    rows = make_rollouts([SIZE, 5, 3, SIZE], SIZE, [4, 2, 3, 1])
    rows.completion_ids[1, 4] = policy.end_token_ids[0]
    return rows.with_columns(
        episode=torch.arange(4),
        group=torch.tensor([0, 0, 1, 1]),
        generation=torch.tensor([0, 1, 0, 1]),
        problem=torch.tensor([0, 0, 1, 1]),
        turn=torch.zeros(4).long(),
    )


def streams_of(rows: Rows, seed: int = 0) -> KeyedStreams:
    return KeyedStreams(seed, ("masks", 1), rows.noise_keys())


def edited(policy, rows, masking, seed=0, chance=CHANCE):
    """(the masks with wrong tokens, the same masks without)."""
    streams = streams_of(rows, seed)
    plain = masking.draw(rows, streams)
    return with_wrong_tokens(plain, rows, streams, policy, edit_noise=chance, edit_weight=WEIGHT), plain


def by_hand(policy, rows, plain, seed=0):
    """(B, M, T) what stands at each place of the completion, and where it is wrong: drawn place by place."""
    words = [*range(256), 262, 263, 264, 265]  # not [MASK], the ends and the roles of the chat format
    width, streams = rows.prompt_ids.shape[1], streams_of(rows, seed)
    shown = torch.zeros(plain.scored.shape, dtype=torch.int64)
    is_wrong = torch.zeros(plain.scored.shape, dtype=torch.bool)
    for b, m in np.ndindex(*shown.shape[:2]):
        stream, right = streams.of_noise(b, m), rows.completion_ids[b].tolist()
        chances = stream.random(SIZE).tolist()
        others = [[word for word in words if word != token] for token in right]
        numbers = stream.integers([len(pool) for pool in others]).tolist()
        for i in range(SIZE):
            hidden = bool(plain.masked[b, m, width + i])
            is_wrong[b, m, i] = chances[i] < CHANCE and bool(rows.completion_mask[b, i]) and not hidden
            shown[b, m, i] = policy.mask_id if hidden else right[i]
            if is_wrong[b, m, i]:
                shown[b, m, i] = others[i][numbers[i]]
    return shown, is_wrong


def plain_logps(policy, rows, plain, shown, is_wrong):
    """(B, M, T) at masked and wrong places, with a graph: each token's own block as shown, all before it right."""
    model, width = policy.model, rows.prompt_ids.shape[1]
    logps = torch.zeros(shown.shape, dtype=torch.float64)
    pass_of = cache(
        lambda *tokens: plain_logits(model, list(tokens[1:]), tokens[0])
    )  # the tokens of a block share it
    for b, m, i in (plain.scored | is_wrong).nonzero().tolist():
        real, right = rows.prompt_mask[b], rows.completion_ids[b].tolist()
        prompt = rows.prompt_ids[b].masked_fill(plain.masked[b, m, :width], policy.mask_id)[real].tolist()
        numbers = block_numbers(model.pattern, len(prompt), SIZE)[len(prompt) :]
        seen = [
            int(shown[b, m, j]) if numbers[j] == numbers[i] else right[j]
            for j in range(SIZE)
            if numbers[j] <= numbers[i]
        ]
        logits = pass_of(len(prompt), *prompt, *seen)[len(prompt) + i]
        logps = logps.index_put(tuple(torch.tensor([b, m, i])), logits.log_softmax(-1)[right[i]])
    return logps


def test_which_tokens_are_wrong():
    policy = open_policy()
    rows = written(policy)
    width = rows.prompt_ids.shape[1]
    masks, plain = edited(policy, rows, make_masking("random", 200))
    wrong = masks.scored & ~plain.scored
    was_shown = rows.completion_mask[:, None] & ~plain.masked[:, :, width:]
    assert (wrong & ~was_shown).sum() == 0
    assert abs(wrong.sum() / was_shown.sum() - CHANCE) < 0.03
    assert (masks.shown != rows.completion_ids[:, None])[wrong].all()
    words = torch.from_numpy(ordinary_tokens(policy))
    assert torch.isin(masks.shown[wrong], words).all() and not torch.isin(policy.mask_id, words)
    assert len(masks.shown[wrong].unique()) > 0.9 * len(words)  # each may be drawn
    assert wrong[1, :, 4].any()  # an end token may be replaced, too
    # All else is as the masking drew it, and nothing is wrong in what it hides or in the prompt.
    assert (masks.weight[wrong] == WEIGHT).all() and torch.equal(masks.weight[~wrong], plain.weight[~wrong])
    assert (masks.shown[plain.masked[:, :, width:]] == policy.mask_id).all()
    assert torch.equal(masks.masked[:, :, width:], plain.masked[:, :, width:] | wrong)
    assert torch.equal(masks.masked[:, :, :width], plain.masked[:, :, :width])


def test_wrong_tokens_of_a_row_depend_on_its_key_alone():
    policy = open_policy()
    rows = written(policy)
    masking = make_masking("random", 5)
    masks, _ = edited(policy, rows, masking)
    some, _ = edited(policy, rows.select(torch.tensor([2, 0])), masking)
    assert torch.equal(some.shown, masks.shown[[2, 0]]) and torch.equal(some.scored, masks.scored[[2, 0]])
    other, _ = edited(policy, rows, masking, seed=1)
    assert not torch.equal(other.shown, masks.shown)


def test_only_the_part_that_the_masks_are_about_has_wrong_tokens():
    policy = open_policy("blocks")
    rows = written(policy)
    masks, plain = edited(policy, rows, make_masking("block_active", 20, block_length=4), chance=0.9)
    wrong = masks.scored & ~plain.scored
    assert wrong.any() and not (wrong & ~masks.part[:, None]).any()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_loss_of_sft_is_that_of_plain_autograd(pattern):
    """The masked tokens by n/k and the wrong ones by `edit_weight`, divided by the length and the completions."""
    policy = open_policy(pattern)
    rows = written(policy)
    algorithm = algorithms.build(
        "mle", {"edit_noise": CHANCE, "edit_weight": WEIGHT, "num_masks": 3, "p_mask_prompt": 0.2}
    )
    masks, plain = edited(policy, rows, algorithm.make_masking())
    shown, is_wrong = by_hand(policy, rows, plain)
    assert is_wrong.sum() >= 5
    logps = plain_logps(policy, rows, plain, shown, is_wrong)
    expected = logps.new_zeros(())
    for b in range(4):
        length = int(rows.completion_mask[b].sum())
        for m in range(3):
            of_masked = length / int(plain.scored[b, m].sum()) * logps[b, m][plain.scored[b, m]].sum()
            of_wrong = WEIGHT * logps[b, m][is_wrong[b, m]].sum()
            expected = expected - (of_masked + of_wrong) / 3 / length / 4
    check_gradient(policy, algorithm, rows, masks, expected, {})


NAMES = sorted(WITH_WRONG_TOKENS - {"mle"})


@pytest.mark.parametrize(
    "name, pattern",  # by default they take turns
    slow_if(
        product(NAMES, PATTERNS),
        lambda name, pattern: [*PATTERNS].index(pattern) != NAMES.index(name) % len(PATTERNS),
    ),
)
def test_the_gradient_of_each_algorithm_is_that_of_plain_autograd(name, pattern):
    policy = open_policy(pattern)
    rows = written(policy)
    own = {"masking": "random"} if name in ("diffu_grpo", "wd1", "spg") else {}
    own |= {"negatives": "elbo"} if name == "spg" else {}
    own |= {} if name == "vrpo" else {"p_mask_prompt": 0.0}
    algorithm = algorithms.build(name, {"edit_noise": CHANCE, "edit_weight": WEIGHT, "num_masks": 2, **own})
    rewards = {"rewards": torch.tensor([1.0, 0.0, 0.2, 1.0]).double()}
    prepared = prepare_columns(
        algorithm, rows.with_columns(**rewards, share_done=0.5, quantile=torch.arange(4) / 4)
    )
    masks, plain = edited(policy, rows, algorithm.make_masking())
    shown, is_wrong = by_hand(policy, rows, plain)
    assert is_wrong.any()
    logps = plain_logps(policy, rows, plain, shown, is_wrong)
    near = 0.05 * torch.randn(logps.shape, dtype=torch.float64, generator=torch.manual_seed(1))
    columns = {"old_logps": logps.detach() + near, "ref_logps": logps.detach() - near, **prepared}
    if algorithm.compares == "update":
        columns["coefficients"] = torch.tensor([0.3, -0.2, 0.0, 0.1]).double()
    by_weights = plain.with_columns(
        scored=plain.scored | is_wrong, weight=plain.weight.masked_fill(is_wrong, WEIGHT)
    )
    batch = rows.with_columns(**columns, totals=TOTALS)
    expected = loss_of_values(algorithm, by_weights, batch, logps).loss
    check_gradient(policy, algorithm, rows, masks, expected, columns)


def check_gradient(policy, algorithm, rows, masks, expected, columns):
    """Compares the loss and its gradient in all weights, in several divisions into passes, with a loss of one graph."""
    model = policy.model
    model.zero_grad()
    expected.backward()
    gradients = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    assert max(gradient.abs().max() for gradient in gradients.values()) > 1e-4
    columns = {"advantages": torch.ones(4).double(), **columns}
    batch = rows.with_columns(**columns, totals=TOTALS)
    for at_once in (1, 4):
        model.zero_grad()
        found = accumulate(
            policy,
            batch,
            masks,
            lambda values: loss_of_values(algorithm, masks, batch, values),
            masks_at_once=at_once,
            compares=algorithm.compares,
        )
        assert abs(float(found.loss.detach() - expected.detach())) <= 1e-9
        for key, p in model.named_parameters():
            if key in gradients:
                assert (p.grad - gradients[key]).abs().max() <= 1e-9, key


def test_old_reference_and_current_weights_see_the_same_wrong_tokens(tmp_path):
    """Nothing has changed yet, so that their values are equal, bit for bit; each iteration has tokens of its own."""
    arguments = {"edit_noise": 0.5, "beta": 0.1, "num_masks": 2}
    config = small_config(
        tmp_path / "run", algorithm="espo", algorithm_args=arguments, num_iterations=2, ref_copy=True
    )
    run = start(config, quiet=True)
    rows = run.source.collect(0)
    _, learned = prepare(run, rows)
    updates = plan_updates(run.policy, run.algorithm, learned, config.batch, seed=0, purpose=("masks", 0))
    run.folder.release()
    first, second = (update.micro_batches for update in updates)
    for micro in [*first, *second]:
        width = micro.prompt_ids.shape[1]
        is_wrong = micro.masks.masked[:, :, width:] & (micro.masks.shown != run.policy.mask_id)
        assert is_wrong.any() and (micro.masks.scored | ~is_wrong).all()
        current = token_logps(run.policy, micro, micro.masks, micro.masks_at_once)
        assert torch.equal(micro.ref_logps, current)
    for micro in second:
        current = token_logps(run.policy, micro, micro.masks, micro.masks_at_once)
        assert torch.equal(micro.old_logps, current)
    assert not torch.equal(first[0].masks.shown, second[0].masks.shown)


def test_without_the_setting_no_token_is_wrong(tmp_path):
    config = small_config(tmp_path / "run", algorithm="raft", algorithm_args={})
    run = start(config, quiet=True)
    _, learned = prepare(run, run.source.collect(0))
    updates = plan_updates(run.policy, run.algorithm, learned, config.batch, seed=0, purpose=("masks", 0))
    run.folder.release()
    assert updates and all(micro.masks.shown is None for update in updates for micro in update.micro_batches)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("wd1", {}, r"edit_noise=0\.1: should be left out with masking=all, which shows no tokens at random"),
        ("raft", {"masking": "flat"}, r"masking=flat: its models are shown random tokens anyway"),
        ("tracerl", {}, r"masking=step_merge, which shows no tokens at random, as masking=random does"),
        ("coupled_grpo", {}, r"edit_noise=0\.1: the loss of .*coupled_grpo is about .*use one of: bgpo"),
        ("diffu_grpo_repro", {"masking": "all"}, "masking=all"),
        (
            "spg",
            {"masking": "random"},
            r"negatives=mix: .*only where the shown tokens are right.*negatives=elbo",
        ),
    ],
)
def test_what_does_not_go_with_wrong_tokens_is_refused(name, arguments, message):
    with pytest.raises(ConfigError, match=message):
        algorithms.build(name, {**arguments, "edit_noise": 0.1})
    with pytest.raises(ConfigError, match=r"edit_weight.*left out without an edit_noise"):
        algorithms.build("raft", {"edit_weight": 2.0})


def test_models_that_cannot_edit_refuse_wrong_tokens():
    with pytest.raises(ConfigError, match=r"edit_noise=0\.1: this model has no \[MASK\]"):
        check_edit_noise("uniform", Pattern(8), 0.1)
    with pytest.raises(ConfigError, match=r"edit_noise=0\.1: this model draws a block's first token without"):
        check_edit_noise("mask", Pattern(8, context="causal"), 0.1)
    check_edit_noise("mask", Pattern(8), 0.1)
    check_edit_noise("uniform", Pattern(8), 0.0)

"""The constant-memory gradient against plain autograd."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from spg_trainer.algorithms import Loss, Metric
from spg_trainer.algorithms.spg import SPG
from spg_trainer.likelihood import accumulate, elbo, eubo
from spg_trainer.likelihood import logps as likelihood_logps
from spg_trainer.likelihood.logps import divide_into_passes, score
from spg_trainer.models import llada_config
from spg_trainer.models.lora import add_lora
from spg_trainer.tensors import Rows
from tests.common.likelihood_cases import (
    count_sequences,
    make_masking,
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


@pytest.fixture(autouse=True)
def _several_chunks(monkeypatch):
    monkeypatch.setattr(likelihood_logps, "rows_per_chunk", lambda vocabulary: 6)


def case(dtype=torch.float64, num_masks=3, masking="random", device="cpu", **settings):
    rollouts = make_rollouts(LENGTHS, SIZE, PROMPTS, device=device)
    masks = make_masking(masking, num_masks, 0.2, **settings).draw(rollouts, seeded())
    return tiny_model(dtype).to(device), rollouts, masks


def spg_like(masks, scale=(1.0, -0.5, 0.3, -1.2)):
    """A loss that couples the masks of a completion, as EUBO does."""

    def loss_fn(logps):
        lower, upper = elbo(logps, masks), eubo(logps, masks, 1.5)
        return Loss(
            (logps.new_tensor(scale) * (lower + upper)).sum(), {"lower": Metric(lower.sum(), "update")}
        )

    return loss_fn


def plain_gradient(model, rollouts, masks, loss_fn):
    model.zero_grad(set_to_none=True)
    loss_fn(naive_logps(model, rollouts, masks, MASK)).loss.backward()
    return whole_gradient(model)


def two_pass_gradient(model, rollouts, masks, loss_fn, masks_at_once):
    model.zero_grad(set_to_none=True)
    result = accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=masks_at_once)
    assert not result.loss.requires_grad and all(not x.total.requires_grad for x in result.metrics.values())
    return whole_gradient(model)


MASKINGS = [
    ("random", {}),
    ("block", {"block_length": 4}),
    ("block_active", {"block_length": 4}),
]


@pytest.mark.parametrize("masking, settings", MASKINGS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("dtype, tolerance", [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_one_pass_two_passes_and_plain_autograd_agree(dtype, tolerance, masking, settings, device):
    model, rollouts, masks = case(dtype, 4, masking, device, **settings)
    loss_fn = spg_like(masks)
    expected = plain_gradient(model, rollouts, masks, loss_fn)
    for masks_at_once in (1, 2, 3, 4, 9):
        found = two_pass_gradient(model, rollouts, masks, loss_fn, masks_at_once)
        assert relative(found, expected) < tolerance, masks_at_once


@pytest.mark.parametrize("masks_at_once, no_graph", [(3, 0), (1, 8), (2, 4)])
def test_early_masks_go_through_the_model_twice_and_the_last_once(monkeypatch, masks_at_once, no_graph):
    model, rollouts, masks = case()
    seen = count_sequences(monkeypatch)
    two_pass_gradient(model, rollouts, masks, spg_like(masks), masks_at_once)
    assert seen == {"graph": 12, "no graph": no_graph, "largest graph": masks_at_once * 4}


@pytest.mark.parametrize("masks_at_once", [1, 2, 3])
def test_a_loss_that_is_a_sum_over_masks_needs_each_copy_once(monkeypatch, masks_at_once):
    model, rollouts, masks = case()

    def loss_fn(logps):  # curved in the logps of a mask, but no term knows two masks
        terms = (masks.weight * logps).sum(-1).sin()
        return Loss(terms.sum(), {"terms": Metric(terms.sum(), "update")})

    expected = plain_gradient(model, rollouts, masks, loss_fn)
    seen = count_sequences(monkeypatch)
    model.zero_grad(set_to_none=True)
    once = accumulate(
        policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=masks_at_once, compares="copy"
    )
    assert relative(whole_gradient(model), expected) < 1e-12
    assert seen == {"graph": 12, "no graph": 0, "largest graph": masks_at_once * 4}
    whole = accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=3)
    assert float(once.loss) == pytest.approx(float(whole.loss), rel=1e-12)
    assert float(once.metrics["terms"].total) == pytest.approx(float(whole.metrics["terms"].total), rel=1e-12)


def test_copies_that_score_nothing_are_not_sent_through(monkeypatch):
    """A completion of n tokens costs n copies, however many the longest one has."""
    model, rollouts, masks = case(num_masks=256, masking="autoregressive")
    loss_fn = lambda logps: Loss((logps * masks.scored).sum(), {})  # noqa: E731
    expected = plain_gradient(model, rollouts, masks, loss_fn)
    for masks_at_once in (1, 4):
        seen = count_sequences(monkeypatch)
        model.zero_grad(set_to_none=True)
        accumulate(
            policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=masks_at_once, compares="copy"
        )
        assert relative(whole_gradient(model), expected) < 1e-12
        assert (seen["graph"], seen["no graph"]) == (sum(LENGTHS), 0)
        monkeypatch.undo()


def test_masks_that_score_nothing_give_a_loss_and_no_gradient():
    model, rollouts, masks = case()
    nothing = replace(masks, scored=torch.zeros_like(masks.scored))
    loss_fn = lambda logps: Loss(logps.sum() + 2.0, {"sum": Metric(logps.sum(), "update")})  # noqa: E731
    for compares in ("completion", "copy"):
        found = accumulate(
            policy_of(model, MASK), rollouts, nothing, loss_fn, masks_at_once=1, compares=compares
        )
        assert float(found.loss) == 2.0 and all(p.grad is None for p in model.parameters())


def test_completions_without_a_coefficient_are_not_sent_through_again(monkeypatch):
    model, rollouts, masks = case()
    loss_fn = spg_like(masks, (1.0, 0.0, 0.0, -1.0))
    expected = plain_gradient(model, rollouts, masks, loss_fn)
    seen = count_sequences(monkeypatch)
    assert relative(two_pass_gradient(model, rollouts, masks, loss_fn, masks_at_once=1), expected) < 1e-12
    assert seen["graph"] == 4 + 2 * 2
    accumulate(policy_of(model, MASK), rollouts, masks, loss_fn, masks_at_once=1)
    assert relative(whole_gradient(model), 2 * expected) < 1e-12, "gradients add to what is there"
    model.zero_grad(set_to_none=True)
    constant = lambda logps: Loss(torch.tensor(2.0), {})  # noqa: E731
    assert float(accumulate(policy_of(model, MASK), rollouts, masks, constant, masks_at_once=1).loss) == 2.0
    assert all(p.grad is None for p in model.parameters()), "a loss that ignores the logps"


@pytest.mark.parametrize("frozen", ["head", "body"])
def test_frozen_parts_get_no_gradient_and_the_rest_the_same(frozen):
    model, rollouts, masks = case()
    loss_fn = spg_like(masks)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(("lm_head" in name) == (frozen == "body"))
    expected = plain_gradient(model, rollouts, masks, loss_fn)
    for masks_at_once in (1, 3):
        assert relative(two_pass_gradient(model, rollouts, masks, loss_fn, masks_at_once), expected) < 1e-12
    assert (model.get_output_embeddings().weight.grad is None) == (frozen == "head")


def test_a_bfloat16_model_gets_bfloat16_gradients_near_the_exact_ones():
    model, rollouts, masks = case(torch.bfloat16)
    found = two_pass_gradient(model, rollouts, masks, spg_like(masks), masks_at_once=1)
    exact = two_pass_gradient(model.double(), rollouts, masks, spg_like(masks), masks_at_once=3)
    assert found.dtype == torch.bfloat16 and relative(found.double(), exact) < 0.03


# Other forms of the model: adapters, checkpointing, shared keys, tied head, dropout.

ROLLOUTS = make_rollouts(LENGTHS, SIZE, PROMPTS)
ADVANTAGES = torch.tensor([0.75, -0.25, 0.4, -0.9], dtype=torch.float64)
TOTALS = {"completions": 8.0, "tokens": 50.0}
BATCH = Rows.full_groups(1, len(ADVANTAGES)).with_columns(
    completion_mask=ROLLOUTS.completion_mask, advantages=ADVANTAGES, totals=TOTALS
)


def spg() -> SPG:
    return SPG(masking="random", num_masks=3, p_mask_prompt=0.15, block_length=4)


def make_model(form: str, dropout: float = 0.0) -> nn.Module:
    """A float64 model in training mode; `form` holds any of gqa, tied, lora, checkpointed."""
    sizes = {"d_model": 32, "n_layers": 2, "n_heads": 4, "n_kv_heads": 2 if "gqa" in form else 4}
    sizes |= {"mlp_hidden_size": 48, "max_sequence_length": 64, "vocab_size": 266}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = llada_config(**sizes, weight_tying="tied" in form, mask_token_id=MASK)
        model = config.model_class(config).double()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(6)
    if "lora" in form:
        model = add_lora(model, r=4, alpha=2, dropout=dropout, seed=0, base="x")
        stream = torch.Generator().manual_seed(1)
        with torch.no_grad():  # fresh adapters change nothing, so half of their gradients would be zero
            for weight in trained(model):
                weight.add_(0.1 * torch.randn(weight.shape, generator=stream, dtype=weight.dtype))
    if "checkpointed" in form:
        model.gradient_checkpointing_enable()
    return model.train()


def trained(model: nn.Module) -> list[Tensor]:
    return [weight for weight in model.parameters() if weight.requires_grad]


def two_pass(model: nn.Module, algorithm: SPG, masks_at_once: int) -> Tensor:
    masks = algorithm.make_masking().draw(ROLLOUTS, seeded())
    return two_pass_gradient(
        model, ROLLOUTS, masks, lambda logps: algorithm.loss(logps, masks, BATCH), masks_at_once
    )


FORMS = ["gqa", "tied checkpointed", "lora", "lora gqa tied checkpointed"]


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_autograd_for_every_form_of_model(form):
    plain, algorithm = make_model(form.replace("checkpointed", "")), spg()
    masks = algorithm.make_masking().draw(ROLLOUTS, seeded())
    algorithm.loss(naive_logps(plain, ROLLOUTS, masks, MASK), masks, BATCH).loss.backward()
    expected = whole_gradient(plain)
    assert all(weight.grad is not None and weight.grad.any() for weight in trained(plain))
    model = make_model(form)
    if "tied" in form:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for masks_at_once in (1, 2, 3):
        assert relative(two_pass(model, algorithm, masks_at_once), expected) < 1e-10, masks_at_once


def test_with_dropout_the_gradient_is_that_of_one_graph():
    model, algorithm = make_model("lora checkpointed", dropout=0.3), spg()
    masks = algorithm.make_masking().draw(ROLLOUTS, seeded())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [
            score(policy_of(model, MASK), ROLLOUTS, masks, copies)
            for copies in divide_into_passes(policy_of(model, MASK), ROLLOUTS, masks, 1)
        ]
        state = torch.get_rng_state()
        algorithm.loss(sum(parts), masks, BATCH).loss.backward()
        expected = whole_gradient(model)
        torch.manual_seed(0)
        assert relative(two_pass(model, algorithm, masks_at_once=1), expected) < 1e-10
        torch.manual_seed(0)
        two_pass(model, algorithm, masks_at_once=1)
        assert torch.equal(torch.get_rng_state(), state), "replaying leaves the generators as they were"
        assert relative(two_pass(model, algorithm, masks_at_once=1), expected) > 0.01, (
            "other noise, other gradient"
        )

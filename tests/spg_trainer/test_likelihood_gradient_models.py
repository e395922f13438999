"""The two-pass gradient on other forms of the model: adapters, checkpointing, shared keys, tied head, dropout."""

import pytest
import torch
from torch import Tensor, nn

from spg_trainer.algorithms.spg import SPG
from spg_trainer.batch import Batch
from spg_trainer.likelihood import accumulate, token_logps
from spg_trainer.models import LLaDAConfig, LLaDAForMaskedLM
from spg_trainer.models.lora import add_lora
from tests.common.likelihood_cases import make_rollouts, naive_logps, relative, seeded, whole_gradient

MASK, SIZE = 257, 9
ROLLOUTS = make_rollouts([9, 4, 1, 7], SIZE, [4, 2, 3, 1])
BATCH = Batch(
    ROLLOUTS.completion_mask,
    torch.tensor([0.75, -0.25, 0.4, -0.9], dtype=torch.float64),
    {"completions": 8.0, "tokens": 50.0},
)


def spg(masking: str = "random") -> SPG:
    return SPG(masking=masking, num_masks=3, p_mask_prompt=0.15, block_length=4)


def make_model(form: str, dropout: float = 0.0) -> nn.Module:
    """A small float64 model in training mode; `form` holds any of gqa, tied, lora, checkpointed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        config = LLaDAConfig(
            d_model=32,
            n_layers=2,
            n_heads=4,
            n_kv_heads=2 if "gqa" in form else 4,
            mlp_hidden_size=48,
            max_sequence_length=64,
            vocab_size=266,
            weight_tying="tied" in form,
            mask_token_id=MASK,
        )
        model = LLaDAForMaskedLM(config).double()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(6)
    if "lora" in form:
        model = add_lora(model, r=4, alpha=None, dropout=dropout, seed=0, base="x")
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
    model.zero_grad(set_to_none=True)
    accumulate(
        model,
        ROLLOUTS,
        masks,
        lambda logps: algorithm.loss(logps, masks, BATCH),
        mask_id=MASK,
        masks_at_once=masks_at_once,
        chunk_rows=5,
    )
    return whole_gradient(model)


FORMS = ["gqa", "gqa tied", "checkpointed", "lora", "lora checkpointed", "lora gqa tied checkpointed"]


@pytest.mark.parametrize("masking", ["random", "block_active"])
@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_is_that_of_plain_autograd_whatever_the_form_of_the_model(form, masking):
    plain, algorithm = make_model(form.replace("checkpointed", "")), spg(masking)
    masks = algorithm.make_masking().draw(ROLLOUTS, seeded())
    algorithm.loss(naive_logps(plain, ROLLOUTS, masks, MASK), masks, BATCH).loss.backward()
    expected = whole_gradient(plain)
    assert all(weight.grad is not None and weight.grad.any() for weight in trained(plain))
    model = make_model(form)
    if "tied" in form:
        assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for masks_at_once in (1, 2, 3):
        assert relative(two_pass(model, algorithm, masks_at_once), expected) < 1e-10, masks_at_once


@pytest.mark.parametrize("form", ["lora", "lora checkpointed"])
def test_with_dropout_the_gradient_is_that_of_one_graph_with_the_same_noise(form):
    model, algorithm = make_model(form, dropout=0.3), spg()
    masks = algorithm.make_masking().draw(ROLLOUTS, seeded())
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = [token_logps(model, ROLLOUTS, masks, slice(m, m + 1), MASK) for m in range(3)]
        algorithm.loss(torch.cat(parts, 1), masks, BATCH).loss.backward()
        expected = whole_gradient(model)
        torch.manual_seed(0)
        assert relative(two_pass(model, algorithm, masks_at_once=1), expected) < 1e-10
        assert relative(two_pass(model, algorithm, masks_at_once=1), expected) > 0.01, (
            "other noise, other gradient"
        )

"""Asking for some positions only gives what the whole pass gives there, gradients included."""

import pytest
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import flash_attention_mask

from spg_trainer.models import hidden_states, new_tiny
from spg_trainer.models.lora import add_lora

KEEP = torch.tensor([[5, 7, 11], [0, 1, 2], [11, 3, 4]])


def inputs(padded: bool) -> tuple[Tensor, Tensor | None]:
    ids = torch.randint(0, 250, (3, 12), generator=torch.Generator().manual_seed(3))
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[0, :4] = False
    return ids, mask if padded else None


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", ["plain", "lora", "checkpointed"])
def test_kept_positions_and_their_gradients_equal_the_whole_pass(
    kind: str, padded: bool, attention: str
) -> None:
    model = new_tiny(hidden_size=32, layers=3, heads=4, ffn=48, seed=1).double()
    model.set_attn_implementation(attention)
    if kind == "lora":
        model = add_lora(model, r=2, alpha=None, dropout=0.0, seed=0, base="x")
    if kind == "checkpointed":
        model.gradient_checkpointing_enable()
    model.train()
    ids, mask = inputs(padded)
    whole = hidden_states(model, ids, mask).gather(1, KEEP[..., None].expand(-1, -1, 32))
    kept = hidden_states(model, ids, mask, keep=KEEP)
    assert kept.shape == (3, 3, 32)
    torch.testing.assert_close(kept, whole, rtol=1e-12, atol=1e-12)
    trained = [p for p in model.parameters() if p.requires_grad]
    push = torch.randn(3, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    expected = torch.autograd.grad((whole * push).sum(), trained, allow_unused=True)
    found = torch.autograd.grad((kept * push).sum(), trained, allow_unused=True)
    for a, b in zip(found, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def flat_attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **options: object
) -> tuple[Tensor, None]:
    """Like flash attention: a mask (B, S) of keys, which counts the queries, too; or None."""
    rows, _, length, _ = query.shape
    if mask is not None:
        assert mask.shape == (rows, length) == (rows, key.shape[2])
        mask = mask[:, None, None].expand(-1, 1, length, -1)
    groups = query.shape[1] // key.shape[1]
    key, value = (x.repeat_interleave(groups, 1) for x in (key, value))
    output = nn.functional.scaled_dot_product_attention(query, key, value, mask, scale=options["scaling"])
    return output.transpose(1, 2), None


@pytest.mark.parametrize("padded", [False, True])
def test_attention_with_flat_masks_computes_the_whole_last_layer(padded: bool) -> None:
    AttentionInterface.register("flat", flat_attention)
    AttentionMaskInterface.register("flat", flash_attention_mask)
    model = new_tiny(hidden_size=32, layers=2, heads=4, ffn=48, seed=1).double()
    ids, mask = inputs(padded)
    expected = hidden_states(model, ids, mask, keep=KEEP)
    model.set_attn_implementation("flat")
    seen = []
    model.model.layers[-1].mlp.register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
    found = hidden_states(model, ids, mask, keep=KEEP)
    assert seen == [12 if padded else 3], "without a mask, the other positions are still left out"
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)

"""LLaDA's logits against a forward pass of the published architecture, written here in plain torch."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForMaskedLM

from spg_trainer.models import hidden_states
from tests.spg_trainer.test_models_format import hub_folder, some_ids


def _norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    wide = x.float()
    return weight * (wide / (wide.pow(2).mean(-1, keepdim=True) + eps).sqrt()).to(x.dtype)


def rotary(x: Tensor, positions: Tensor, theta: float) -> Tensor:
    """Rotary positions by complex numbers: component j and j + d/2 are one complex coordinate."""
    half = x.shape[-1] // 2
    speeds = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    turn = torch.polar(torch.ones(()), positions[:, None, :, None].float() * speeds)
    turned = torch.complex(x[..., :half].float(), x[..., half:].float()) * turn
    return torch.cat((turned.real, turned.imag), -1).to(x.dtype)


def reference_logits(weights: dict[str, Tensor], config: dict, ids: Tensor) -> Tensor:
    """The published architecture in plain torch, without padding. ids (B, S); returns (B, S, V)."""
    w = {name.removeprefix("model.transformer.").removesuffix(".weight"): x for name, x in weights.items()}
    heads, kv_heads, eps = config["n_heads"], config["n_kv_heads"], config["rms_norm_eps"]
    positions = torch.arange(ids.shape[1]).expand(ids.shape)
    x = w["wte"][ids]
    for layer in range(config["n_layers"]):
        b = {n.removeprefix(f"blocks.{layer}."): t for n, t in w.items() if n.startswith(f"blocks.{layer}.")}
        h = _norm(x, b["attn_norm"], eps)
        q = (h @ b["q_proj"].T).unflatten(-1, (heads, -1)).transpose(1, 2)
        k = (h @ b["k_proj"].T).unflatten(-1, (kv_heads, -1)).transpose(1, 2)
        v = (h @ b["v_proj"].T).unflatten(-1, (kv_heads, -1)).transpose(1, 2)
        q, k = rotary(q, positions, config["rope_theta"]), rotary(k, positions, config["rope_theta"])
        k, v = (t.repeat_interleave(heads // kv_heads, 1) for t in (k, v))
        attention = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, -1)
        x = x + (attention @ v).transpose(1, 2).flatten(2) @ b["attn_out"].T
        h = _norm(x, b["ff_norm"], eps)
        x = x + (F.silu(h @ b["ff_proj"].T) * (h @ b["up_proj"].T)) @ b["ff_out"].T
    return _norm(x, w["ln_f"], eps) @ w.get("ff_out", w["wte"]).T


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"n_kv_heads": 2, "rope_theta": 10000.0},
        {"n_kv_heads": None, "multi_query_attention": True},
        {"n_kv_heads": None},
        {"weight_tying": True},
        {"mlp_hidden_size": None, "mlp_ratio": 2},
        {"rms_norm_eps": 1e-2, "n_layers": 1},
    ],
    ids=["plain", "gqa", "mqa", "kv-heads-missing", "tied", "ffn-by-ratio", "eps"],
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_equal_the_published_architecture(tmp_path: Path, changes: dict, attention: str) -> None:
    plain = dict(changes)
    if "mlp_ratio" in plain:
        plain["mlp_hidden_size"] = 64
    if "n_kv_heads" in plain and plain["n_kv_heads"] is None:
        plain["n_kv_heads"] = 1 if "multi_query_attention" in plain else 4
    config, weights = hub_folder(tmp_path, **plain)
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, attn_implementation=attention)
    ids = some_ids(3, 40)
    with torch.no_grad():
        assert (model(ids).logits - reference_logits(weights, config, ids)).abs().max() < 1e-5


def test_every_row_of_a_left_padded_batch_equals_the_row_alone(tmp_path: Path) -> None:
    config, weights = hub_folder(tmp_path, n_kv_heads=2)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    lengths, width = [3, 17, 24], 24
    rows = [some_ids(1, length, seed=length)[0] for length in lengths]
    ids = torch.stack([F.pad(row, (width - len(row), 0), value=51) for row in rows])
    mask = torch.stack([torch.arange(width) >= width - length for length in lengths])
    with torch.no_grad():
        hidden = hidden_states(model, ids, mask)
        for row, length in zip(rows, lengths, strict=True):
            alone = reference_logits(weights, config, row[None])[0]
            logits = model.lm_head(hidden[lengths.index(length), width - length :])
            assert (logits - alone).abs().max() < 1e-5
        # What the padding holds must not matter at all.
        other = hidden_states(model, ids.where(mask, torch.tensor(7)), mask)
    assert torch.equal(other[mask], hidden[mask])


def test_a_batch_without_padding_is_the_same_with_and_without_a_mask(tmp_path: Path) -> None:
    hub_folder(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path)
    ids = some_ids(2, 9)
    with torch.no_grad():
        masked = hidden_states(model, ids, torch.ones_like(ids, dtype=torch.bool))
        assert torch.equal(masked, hidden_states(model, ids))
        assert torch.equal(model(ids).logits, model.lm_head(masked))

"""LLaDA against the published architecture, the Hub's files, and every way in which stock classes would be wrong."""

import json
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    AttentionMaskInterface,
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    DynamicCache,
)
from transformers.masking_utils import flash_attention_mask

from spg_trainer.errors import ModelError
from spg_trainer.models import hidden_states, llada_config, new_tiny
from spg_trainer.models.families import BY_ARCHITECTURE, register_again
from spg_trainer.models.lora import add_lora
from tests.common.model_cases import (
    HUB_CONFIG,
    hub_folder,
    hub_weights,
    reference_logits,
    rotary,
    small,
    some_ids,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


# The published architecture.


@pytest.mark.parametrize(
    "changes, spelled_out",
    [
        ({}, {}),
        ({"n_kv_heads": 2, "rope_theta": 10000.0}, {}),
        ({"n_kv_heads": None, "multi_query_attention": True}, {"n_kv_heads": 1}),
        ({"n_kv_heads": None}, {"n_kv_heads": 4}),
        ({"weight_tying": True}, {}),
        ({"mlp_hidden_size": None, "mlp_ratio": 2}, {"mlp_hidden_size": 64}),
        ({"rms_norm_eps": 1e-2, "n_layers": 1}, {}),
    ],
    ids=["plain", "gqa", "mqa", "kv-heads-missing", "tied", "ffn-by-ratio", "eps"],
)
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_logits_equal_the_published_architecture(tmp_path, changes, spelled_out, attention):
    config, weights = hub_folder(tmp_path, **(changes | spelled_out))
    (tmp_path / "config.json").write_text(json.dumps(config | changes))
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, attn_implementation=attention)
    ids = some_ids(3, 40)
    with torch.no_grad():
        assert (model(ids).logits - reference_logits(weights, config, ids)).abs().max() < 1e-5


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_every_row_of_a_left_padded_batch_equals_the_row_alone(tmp_path, attention):
    config, weights = hub_folder(tmp_path, n_kv_heads=2)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path, attn_implementation=attention)
    lengths, width = [3, 17, 24], 24
    rows = [some_ids(1, length, seed=length)[0] for length in lengths]
    ids = torch.stack([F.pad(row, (width - len(row), 0), value=51) for row in rows])
    mask = torch.stack([torch.arange(width) >= width - length for length in lengths])
    with torch.no_grad():
        states = hidden_states(model, ids, mask)
        for row, length, found in zip(rows, lengths, states, strict=True):
            alone = reference_logits(weights, config, row[None])[0]
            assert (model.lm_head(found[width - length :]) - alone).abs().max() < 1e-5
        # What the padding holds must not matter at all.
        other = hidden_states(model, ids.where(mask, torch.tensor(7)), mask)
        assert torch.equal(other[mask], states[mask])
        whole, full = ids[-1:], mask[-1:]
        assert torch.equal(hidden_states(model, whole, full), hidden_states(model, whole))
        assert torch.equal(model(whole).logits, model.lm_head(hidden_states(model, whole)))


# The Hub's files.


@pytest.mark.parametrize(
    "auto, trust, shards",
    [(AutoModel, None, 1), (AutoModelForCausalLM, True, 3), (AutoModelForMaskedLM, None, 3)],
)
def test_auto_classes_open_the_hub_shape_without_its_code(tmp_path, auto, trust, shards):
    _, weights = hub_folder(tmp_path, shards=shards)
    model, report = auto.from_pretrained(tmp_path, trust_remote_code=trust, output_loading_info=True)
    assert type(model) is BY_ARCHITECTURE["LLaDAModelLM"].model_class
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(model.lm_head.weight, weights["model.transformer.ff_out.weight"])
    down = weights["model.transformer.blocks.1.ff_out.weight"]
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, down)
    assert not hasattr(model.config, "auto_map")


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_has_the_hub_names_and_every_bit(tmp_path, tied):
    config, weights = hub_folder(tmp_path / "hub", shards=2, weight_tying=tied)
    model = AutoModel.from_pretrained(tmp_path / "hub")
    saved = tmp_path / "saved"
    model.save_pretrained(saved)
    stored = load_file(saved / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    written = json.loads((saved / "config.json").read_text())
    assert {key for key in config if config[key] != written.get(key)} <= {"auto_map", "transformers_version"}
    assert set(written) - set(config) <= {"torch_dtype", "bos_token_id"}
    assert "auto_map" not in written and not (saved / "generation_config.json").exists()
    ids = some_ids(2, 12)
    with torch.no_grad():
        assert torch.equal(AutoModel.from_pretrained(saved)(ids).logits, model(ids).logits)
    small().save_pretrained(tmp_path / "fresh", max_shard_size="10KB")
    index = json.loads((tmp_path / "fresh" / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == hub_weights(HUB_CONFIG).keys()


@pytest.mark.parametrize(
    "setting, value",
    [
        ("alibi", True),
        ("layer_norm_type", "default"),
        ("activation_type", "gelu"),
        ("block_group_size", 4),
        ("include_qkv_bias", True),
        ("rope", False),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ("residual_dropout", 0.1),
        ("is_causal", True),
        ("embedding_size", 64),
        ("n_heads", 3),
        ("n_kv_heads", 3),
    ],
)
def test_settings_of_another_architecture_are_refused_by_name(setting, value):
    with pytest.raises(ModelError, match=setting):
        llada_config(**(HUB_CONFIG | {setting: value}))


def test_the_names_of_a_config_become_those_of_transformers():
    config = llada_config(d_model=64, n_heads=2, n_kv_heads=None, vocab_size=10)
    assert (config.hidden_size, config.num_attention_heads) == (64, 2)
    assert (config.num_key_value_heads, config.head_dim) == (2, 32)
    assert type(config).from_dict(config.to_dict()).to_dict() == config.to_dict()
    default = llada_config()
    assert (default.vocab_size, default.intermediate_size, default.hidden_size) == (126464, 12288, 4096)


def test_registering_wins_back_a_name_that_another_package_took(tmp_path):
    llada = BY_ARCHITECTURE["LLaDAModelLM"]

    class Thief(llada):
        pass

    hub_folder(tmp_path)
    AutoConfig.register("llada", Thief, exist_ok=True)
    assert type(AutoConfig.from_pretrained(tmp_path)) is Thief
    register_again()
    register_again()
    assert type(AutoConfig.from_pretrained(tmp_path)) is llada


# Where stock transformers would silently be wrong.


def test_the_end_token_that_is_also_padding_learns(tmp_path):
    hub_folder(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    end = model.config.eos_token_id
    assert model.config.pad_token_id == end == 51
    model(torch.tensor([[3, end, 4]])).logits.square().sum().backward()
    gradient = model.model.embed_tokens.weight.grad
    assert gradient[end].abs().max() > 0 and gradient[3].abs().max() > 0
    assert new_tiny().model.embed_tokens.weight[256].abs().max() > 0


def test_a_layer_called_by_itself_is_not_causal():
    """The whole model is compared with the published architecture above."""
    model = small()
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, -1] += 1
    cosines = model.model.rotary_emb(x, torch.arange(6)[None])
    with torch.no_grad():
        outputs = [model.model.layers[0](y, position_embeddings=cosines)[0, 0] for y in (x, changed)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4
    assert model.config.is_causal is False
    settings = model.config.to_dict()
    with torch.no_grad():
        model(some_ids(1, 6))
    assert "is_causal" not in settings and model.config.to_dict() == settings


def test_labels_score_the_same_position_and_generate_is_refused():
    model, ids = small(), some_ids(2, 7)
    with torch.no_grad():
        output = model(ids, labels=ids)
    assert torch.allclose(output.loss, F.cross_entropy(output.logits.flatten(0, 1), ids.flatten()))
    with pytest.raises(ModelError, match=r"spg_trainer\.generate"):
        model.generate(ids)


@pytest.mark.parametrize("cast", [("bfloat16",), ("double",), ("to", "cpu", torch.bfloat16)])
def test_casting_the_model_keeps_the_frequencies(tmp_path, cast):
    hub_folder(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.float32)
    exact = model.model.rotary_emb.inv_freq.clone()
    model = getattr(model, cast[0])(*cast[1:])
    dtype, turn, ids = model.lm_head.weight.dtype, model.model.rotary_emb, some_ids(1, 400)
    assert dtype != torch.float32
    assert turn.inv_freq.dtype == turn.original_inv_freq.dtype == torch.float32
    assert torch.equal(turn.inv_freq, exact)
    assert all(x.dtype == torch.float32 for x in turn(torch.zeros(1, dtype=torch.bfloat16), some_ids(1, 3)))
    with torch.no_grad():
        opened = AutoModel.from_pretrained(tmp_path, dtype=dtype)
        assert torch.equal(opened(ids).logits, model(ids).logits)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
def test_bfloat16_queries_and_keys_are_rotated_in_float32(tmp_path, device, monkeypatch):
    """And rounded once, as published; stock Llama rotates in bfloat16, and many values come out different."""
    hub_folder(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16).to(device)
    attention, seen = model.model.layers[0].self_attn, {}
    for name in ("q_proj", "k_proj"):
        getattr(attention, name).register_forward_hook(lambda *a, name=name: seen.update({name: a[2]}))
    plain = F.scaled_dot_product_attention

    def spy(query: Tensor, key: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        seen.setdefault("rotated", (query, key))
        return plain(query, key, *args, **kwargs)

    monkeypatch.setattr(F, "scaled_dot_product_attention", spy)
    with torch.no_grad():
        model(some_ids(1, 400).to(device))
    for rotated, name in zip(seen["rotated"], ("q_proj", "k_proj"), strict=True):
        straight = seen[name].unflatten(-1, (4, 8)).transpose(1, 2).cpu()
        expected = rotary(straight, torch.arange(400)[None], 500000.0)
        assert rotated.dtype == torch.bfloat16
        assert (rotated.cpu() == expected).float().mean() > 0.995


def test_positions_stay_exact_under_autocast():
    turn, positions = small().model.rotary_emb, torch.arange(600)[None]
    plain = turn(torch.zeros(1), positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(plain, turn(torch.zeros(1), positions), strict=True))


def test_a_float64_model_computes_in_float64():
    model = small(5).double()
    x = torch.randn(1, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def body(embedded: Tensor) -> Tensor:
        return model.model(inputs_embeds=embedded).last_hidden_state[..., :2]

    # Finite differences see any rounding to float32 on the way, in norm, rotation or attention.
    assert torch.autograd.gradcheck(body, (x.requires_grad_(),), eps=1e-6, atol=1e-6)


# Running it.


def test_gradient_checkpointing_computes_twice():
    """That the gradients stay the same is asserted below, and in test_gradient."""
    model, calls = small().train(), []
    model.gradient_checkpointing_enable()
    model.model.layers[0].mlp.register_forward_pre_hook(lambda *_: calls.append(1))
    hidden_states(model, some_ids(2, 9)).sin().sum().backward()
    assert len(calls) == 2


def test_the_forward_arguments_of_transformers_work():
    model, ids, cache, mask = small(5), some_ids(2, 12), DynamicCache(), torch.ones(2, 12, dtype=torch.bool)
    mask[1, :3] = False
    with torch.no_grad():
        full = model(ids, past_key_values=cache, use_cache=True).logits
        cache.crop(-5)
        suffix = model(ids[:, 7:], past_key_values=cache, use_cache=True).logits
        torch.testing.assert_close(suffix, full[:, 7:], rtol=0, atol=1e-5)
        wanted = some_ids(2, 12, vocab=2).bool()
        torch.testing.assert_close(model(ids, logits_to_keep=wanted).logits, full[wanted], rtol=0, atol=1e-6)
        pairs = mask[:, None, None, :].expand(2, 1, 12, 12)
        positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
        by_pairs = model(ids, attention_mask=pairs, position_ids=positions).logits
        assert torch.equal(by_pairs[mask], model(ids, mask).logits[mask])
        assert len(model(ids, output_hidden_states=True).hidden_states) == 3
        mask[1] = False
        assert hidden_states(model, ids, mask).isfinite().all(), "padding never makes NaN"


# Some positions only.

KEEP = torch.tensor([[5, 7, 11], [0, 1, 2], [11, 3, 4]])


def keep_inputs(padded: bool) -> tuple[Tensor, Tensor | None]:
    mask = torch.ones(3, 12, dtype=torch.bool)
    mask[0, :4] = False
    return some_ids(3, 12, vocab=250, seed=3), mask if padded else None


@pytest.mark.parametrize("attention, kind", [("sdpa", "lora checkpointed"), ("eager", "plain")])
@pytest.mark.parametrize("padded", [False, True])
def test_kept_positions_and_their_gradients_equal_the_whole_pass(kind, padded, attention):
    model = small(layers=3, seed=1).double()
    model.set_attn_implementation(attention)
    if "lora" in kind:
        model = add_lora(model, r=2, alpha=1, dropout=0.0, seed=0, base="x")
    if "checkpointed" in kind:
        model.gradient_checkpointing_enable()
    model.train()
    ids, mask = keep_inputs(padded)
    whole = hidden_states(model, ids, mask).gather(1, KEEP[..., None].expand(-1, -1, 32))
    kept = hidden_states(model, ids, mask, keep=KEEP)
    assert kept.shape == (3, 3, 32)
    torch.testing.assert_close(kept, whole, rtol=1e-12, atol=1e-12)
    trained = [p for p in model.parameters() if p.requires_grad]
    push = torch.randn(3, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    expected, found = (
        torch.autograd.grad((x * push).sum(), trained, allow_unused=True) for x in (whole, kept)
    )
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
    output = F.scaled_dot_product_attention(query, key, value, mask, scale=options["scaling"])
    return output.transpose(1, 2), None


@pytest.mark.parametrize("padded", [False, True])
def test_attention_with_flat_masks_asks_for_all_columns_and_computes_the_rest_for_some(padded):
    AttentionInterface.register("flat", flat_attention)
    AttentionMaskInterface.register("flat", flash_attention_mask)
    model = small(seed=1).double()
    ids, mask = keep_inputs(padded)
    expected = hidden_states(model, ids, mask, keep=KEEP)
    model.set_attn_implementation("flat")
    seen, last = [], model.model.layers[-1]
    for part in (last.self_attn.o_proj, last.mlp):
        part.register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
    found = hidden_states(model, ids, mask, keep=KEEP)
    assert seen == [12 if padded else 3, 3], (
        "without a mask, attention leaves the other positions out as well"
    )
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_the_embedding_adds_later_gradients_in_place():
    ours = small(seed=1).double().model.embed_tokens
    stock = nn.Embedding.from_pretrained(ours.weight.detach().clone(), freeze=False)
    weights, places = torch.randn(2, 5, ours.embedding_dim, dtype=torch.float64), set()
    for numbers in ([[1, 1, 3, 2, 1], [0, 2, 2, 1, 7]], [[4, 1, 1, 1, 1], [9, 9, 0, 0, 3]]):
        for table in (ours, stock):
            (table(torch.tensor(numbers)) * weights).sum().backward()
        torch.testing.assert_close(ours.weight.grad, stock.weight.grad, rtol=0, atol=1e-14)
        places.add(ours.weight.grad.data_ptr())
    assert len(places) == 1

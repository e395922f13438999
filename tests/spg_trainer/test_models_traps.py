"""Every way in which stock transformers would silently give a wrong LLaDA: each has its test."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModel, DynamicCache, LlamaConfig, LlamaForCausalLM

from spg_trainer.errors import ModelError
from spg_trainer.models import Policy, hidden_states, load_model, new_tiny, save_model, tiny_tokenizer
from spg_trainer.models.llada import LLaDAForMaskedLM
from tests.spg_trainer.test_models_architecture import reference_logits, rotary
from tests.spg_trainer.test_models_format import HUB_CONFIG, hub_folder, hub_weights, some_ids

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def small(**changes: object) -> LLaDAForMaskedLM:
    return new_tiny(**({"hidden_size": 32, "layers": 2, "heads": 4, "ffn": 48} | changes))


def noticeable(model: LLaDAForMaskedLM) -> LLaDAForMaskedLM:
    """Weights large enough for positions and context to matter."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5) if parameter.dim() == 2 else None
    return model


# pad id


def test_the_end_token_that_is_also_padding_learns(tmp_path: Path) -> None:
    hub_folder(tmp_path)
    model = AutoModel.from_pretrained(tmp_path)
    end = model.config.eos_token_id
    assert model.config.pad_token_id == end == 51
    model(torch.tensor([[3, end, 4]])).logits.square().sum().backward()
    gradient = model.model.embed_tokens.weight.grad
    assert gradient[end].abs().max() > 0 and gradient[3].abs().max() > 0
    assert new_tiny().model.embed_tokens.weight[256].abs().max() > 0


# the causal fall-back


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("masked", [False, True])
def test_the_first_position_sees_the_last(attention: str, masked: bool) -> None:
    model = small()
    model.set_attn_implementation(attention)
    ids = some_ids(1, 10)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 60
    mask = torch.ones_like(ids, dtype=torch.bool) if masked else None
    with torch.no_grad():
        first, second = (hidden_states(model, x, mask)[0, 0] for x in (ids, changed))
        direct = (model(x).logits[0, 0] for x in (ids, changed))
    assert (first - second).abs().max() > 1e-3
    assert not torch.equal(*direct)


def test_a_layer_called_by_itself_is_not_causal() -> None:
    model = small()
    x = torch.randn(1, 6, 32, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, -1] += 1
    cosines = model.model.rotary_emb(x, torch.arange(6)[None])
    with torch.no_grad():
        outputs = [model.model.layers[0](y, position_embeddings=cosines)[0, 0] for y in (x, changed)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


def test_the_forward_pass_leaves_the_config_bidirectional() -> None:
    model = small()
    with torch.no_grad():
        model(some_ids(1, 4))
    assert model.config.is_causal is False
    assert "is_causal" not in model.config.to_dict()


def test_other_llama_models_stay_as_they_are() -> None:
    sizes = dict(
        vocab_size=20, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2
    )
    llama = LlamaForCausalLM(LlamaConfig(**sizes)).eval()
    ids = some_ids(1, 8, vocab=20)
    changed = ids.clone()
    changed[0, -1] = (ids[0, -1] + 1) % 20
    with torch.no_grad():
        assert torch.equal(llama(ids).logits[0, 0], llama(changed).logits[0, 0])
    assert not hasattr(llama.config, "is_causal")


def test_labels_score_the_same_position_and_generate_is_refused() -> None:
    model = small()
    ids = some_ids(2, 7)
    with torch.no_grad():
        output = model(ids, labels=ids)
    expected = F.cross_entropy(output.logits.flatten(0, 1), ids.flatten())
    assert torch.allclose(output.loss, expected)
    with pytest.raises(ModelError, match="left to right"):
        model.generate(ids)


# low precision


@pytest.mark.parametrize("how", ["bfloat16", "to", "half", "double", "device_and_dtype"])
def test_casting_the_model_keeps_the_frequencies(how: str) -> None:
    model = small()
    exact = model.model.rotary_emb.inv_freq.clone()
    casts = {
        "bfloat16": lambda m: m.bfloat16(),
        "to": lambda m: m.to(torch.bfloat16),
        "half": lambda m: m.half(),
        "double": lambda m: m.double(),
        "device_and_dtype": lambda m: m.to("cpu", torch.bfloat16),
    }
    model = casts[how](model)
    assert model.lm_head.weight.dtype != torch.float32
    turn = model.model.rotary_emb
    assert turn.inv_freq.dtype == turn.original_inv_freq.dtype == torch.float32
    assert torch.equal(turn.inv_freq, exact)
    assert all(x.dtype == torch.float32 for x in turn(torch.zeros(1, dtype=torch.bfloat16), some_ids(1, 3)))


def test_a_model_cast_to_bfloat16_equals_one_opened_in_bfloat16(tmp_path: Path) -> None:
    hub_folder(tmp_path)
    opened = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    cast = AutoModel.from_pretrained(tmp_path, dtype=torch.float32).bfloat16()
    ids = some_ids(1, 400)
    with torch.no_grad():
        assert torch.equal(opened(ids).logits, cast(ids).logits)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])])
def test_bfloat16_queries_and_keys_are_rotated_in_float32_and_rounded_once(
    tmp_path: Path, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As published; stock Llama rotates in bfloat16, and many values come out different."""
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
    ids = some_ids(1, 400).to(device)
    with torch.no_grad():
        model(ids)
    for rotated, name in zip(seen["rotated"], ("q_proj", "k_proj"), strict=True):
        straight = seen[name].unflatten(-1, (4, 8)).transpose(1, 2).cpu()
        expected = rotary(straight, torch.arange(400)[None], 500000.0)
        assert rotated.dtype == torch.bfloat16
        assert (rotated.cpu() == expected).float().mean() > 0.995


def test_bfloat16_is_as_close_to_float32_as_the_published_code(tmp_path: Path) -> None:
    config, weights = hub_folder(tmp_path)
    model = AutoModel.from_pretrained(tmp_path, dtype=torch.bfloat16)
    ids = some_ids(1, 400)
    low = {name: x.bfloat16() for name, x in weights.items()}
    with torch.no_grad():
        exact = reference_logits({name: x.float() for name, x in low.items()}, config, ids)
        errors = [
            (logits.float() - exact).pow(2).mean().sqrt()
            for logits in (model(ids).logits, reference_logits(low, config, ids))
        ]
    assert errors[0] < 1.1 * errors[1]


def test_positions_stay_exact_under_autocast() -> None:
    turn = small().model.rotary_emb
    positions = torch.arange(600)[None]
    plain = turn(torch.zeros(1), positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert all(torch.equal(a, b) for a, b in zip(plain, turn(torch.zeros(1), positions), strict=True))


def test_a_float64_model_computes_in_float64() -> None:
    model = noticeable(small()).double()
    x = torch.randn(1, 3, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x.requires_grad_()

    def body(embedded: Tensor) -> Tensor:
        return model.model(inputs_embeds=embedded).last_hidden_state[..., :2]

    # Finite differences see any rounding to float32 on the way, in norm, rotation or attention.
    assert torch.autograd.gradcheck(body, (x,), eps=1e-6, atol=1e-6)


# running it


def test_gradient_checkpointing_gives_the_same_gradients() -> None:
    ids, mask = some_ids(2, 9), torch.ones(2, 9, dtype=torch.bool)
    mask[0, :3] = False
    gradients = []
    for checkpointing in (False, True):
        model = noticeable(small()).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        calls = []
        model.model.layers[0].mlp.register_forward_pre_hook(lambda *_, seen=calls: seen.append(1))
        hidden_states(model, ids, mask)[mask].sin().sum().backward()
        assert len(calls) == 1 + checkpointing
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    assert all(torch.equal(gradients[0][name], gradients[1][name]) for name in gradients[0])


def test_logits_only_where_they_are_asked_for() -> None:
    model = small()
    ids = some_ids(2, 6)
    wanted = torch.tensor([[True, False, True, False, False, True], [False] * 5 + [True]])
    with torch.no_grad():
        kept = model(ids, logits_to_keep=wanted).logits
        assert torch.allclose(kept, model(ids).logits[wanted], atol=1e-6)


def test_cached_keys_and_values_give_the_suffix_of_the_full_pass() -> None:
    model = noticeable(small())
    ids, cache = some_ids(2, 12), DynamicCache()
    with torch.no_grad():
        full = model(ids, past_key_values=cache, use_cache=True).logits
        cache.crop(-5)
        suffix = model(ids[:, 7:], past_key_values=cache, use_cache=True).logits
    assert (suffix - full[:, 7:]).abs().max() < 1e-5


def test_a_mask_over_pairs_of_positions_is_taken_as_it_is() -> None:
    model = noticeable(small())
    ids, mask = some_ids(2, 8), torch.ones(2, 8, dtype=torch.bool)
    mask[1, :3] = False
    with torch.no_grad():
        pairs = mask[:, None, None, :].expand(2, 1, 8, 8)
        assert torch.equal(model(ids, attention_mask=pairs).logits[mask], model(ids, mask).logits[mask])


def test_the_body_can_be_recorded_and_padding_never_makes_nan() -> None:
    model = small()
    ids, mask = some_ids(2, 5), torch.tensor([[False] * 5, [True] * 5])
    with torch.no_grad():
        assert hidden_states(model, ids, mask).isfinite().all()
        assert len(model(ids, output_hidden_states=True).hidden_states) == 3


def test_a_checkpoint_with_other_tensors_is_not_opened_with_random_ones(tmp_path: Path) -> None:
    policy_folder = tmp_path / "model"
    save_model(Policy(small(), tiny_tokenizer(), 258, 256, (256, 257), ""), policy_folder)
    stored = load_file(policy_folder / "model.safetensors")
    lost = "model.transformer.blocks.0.up_proj.weight"
    save_file({n: x for n, x in stored.items() if n != lost}, policy_folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 missing keys.*up_proj"):
        load_model(str(policy_folder))
    save_file(stored | {"model.transformer.wpe.weight": torch.zeros(2)}, policy_folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"1 unexpected keys.*wpe"):
        load_model(str(policy_folder))


def test_the_reference_itself_notices_a_wrong_architecture() -> None:
    """Guards the oracle: theta, epsilon and the order of gate and up all change its logits."""
    ids = some_ids(1, 20)
    weights = hub_weights(HUB_CONFIG)
    base = reference_logits(weights, HUB_CONFIG, ids)
    swapped = {
        name.replace("ff_proj", "#").replace("up_proj", "ff_proj").replace("#", "up_proj"): x
        for name, x in weights.items()
    }
    assert (reference_logits(swapped, HUB_CONFIG, ids) - base).abs().max() > 1e-2
    for change in ({"rope_theta": 1e4}, {"rms_norm_eps": 1e-2}):
        assert (reference_logits(weights, HUB_CONFIG | change, ids) - base).abs().max() > 1e-3

"""The published families against what their original code computed, the Hub's files, and what cannot be opened."""

import json
import subprocess
import sys
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    DynamicCache,
    PreTrainedModel,
    Qwen3ForCausalLM,
)

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.export import merge
from spg_trainer.models import (
    Family,
    load_model,
    register_family,
    save_model,
    shard,
    tiny_tokenizer,
    weight_files,
)
from spg_trainer.models.body import pick
from spg_trainer.models.families import BY_ARCHITECTURE
from spg_trainer.settings.configs import MergeCommand
from spg_trainer.training.loop import train
from spg_trainer.training.timings import counting_choices, router_load
from tests.common.family_cases import BLOCKS, blocks_of, cases, doubled, family_folder
from tests.common.marks import slow_if
from tests.common.model_cases import edit, some_ids
from tests.common.trainer_cases import rows, small_config

EXACT = 1e-5
"""Largest difference of a logit, in standard deviations of the case's logits (about 3)."""


def opened(data, name: str, block: int | None = None, **options: object) -> PreTrainedModel:
    """A family's checkpoint; block: for what its config.json does not say, or says otherwise."""
    block = BLOCKS[name] or 0 if block is None else block
    return AutoModelForMaskedLM.from_pretrained(data / "models" / name, block_size=block, **options).eval()


def close(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).abs().max() <= EXACT * expected.std())


# The original code.


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", [*BLOCKS, "llada15"])
def test_logits_and_experts_are_those_of_the_original_in_every_case(published, name, attention):
    options = {"attn_implementation": attention}
    if name == "llada15":
        model = AutoModelForMaskedLM.from_pretrained(published / "models" / name, **options).eval()
    else:
        model = opened(published, name, **options)
    routed = []
    for module_name, module in model.named_modules():
        if module_name.endswith("mlp.gate"):
            module.register_forward_hook(lambda *call: routed.append(call[2]))
    compared = 0
    for case, given in cases(published, name).items():
        if case == "trap_none_is_causal":
            continue
        ids, mask = given["input_ids"], given.get("attention_mask")
        rows, length = ids.shape
        real = torch.ones_like(ids, dtype=torch.bool)
        if case == "doubled":
            mask = doubled(length // 2, 4 if name == "sdar" else 8)
            assert torch.equal(mask[0, 0], given["attention_mask"])
        elif mask is None:
            mask = torch.ones(rows, 1, length, length, dtype=torch.bool)
        elif mask.dim() == 4:
            real = mask.diagonal(dim1=2, dim2=3)[:, 0] & (ids != 150)
        elif mask.dtype == torch.bool:
            mask = mask[None, None].expand(rows, 1, length, length)
        else:
            real = mask = mask.bool()
        routed.clear()
        with torch.no_grad():
            logits = model(ids, attention_mask=mask, position_ids=given.get("position_ids")).logits
        assert close(logits[real], given["logits"][real]), case
        if "experts" in given:
            weights = torch.stack([layer[1] for layer in routed]).view(len(routed), rows, length, -1)
            chosen = torch.stack([layer[2] for layer in routed]).view(weights.shape)
            chosen, order = chosen.sort(-1)
            expected, theirs = given["experts"].sort(-1)
            assert torch.equal(chosen[:, real], expected[:, real]), case
            if "expert_weights" in given:
                wanted = given["expert_weights"].gather(-1, theirs)[:, real]
                torch.testing.assert_close(weights.gather(-1, order)[:, real], wanted, rtol=1e-5, atol=1e-7)
        compared += 1
    assert compared >= 5


@pytest.mark.parametrize("name", BLOCKS)
def test_without_a_mask_of_pairs_a_model_makes_its_own(published, name):
    """From its pattern, and on the left of padding as if a row stood alone."""
    model, block = opened(published, name, 8 if BLOCKS[name] else None), 8 if BLOCKS[name] else 0
    assert model.pattern == Pattern(block) and model.shift == (name in ("dream", "fastdllm_v2"))
    lengths, width = [9, 14, 24], 24
    rows = [some_ids(1, length, vocab=150, seed=length)[0] for length in lengths]
    ids = torch.stack([F.pad(row, (width - len(row), 0), value=150) for row in rows])
    mask = torch.arange(width) >= width - torch.tensor(lengths)[:, None]
    positions = []
    model.model.rotary_emb.register_forward_pre_hook(
        lambda *call: positions.append(call[2].get("position_ids", call[1][-1])), with_kwargs=True
    )
    with torch.no_grad():
        together = model(ids, attention_mask=mask.long()).logits
        assert positions[0][0].tolist() == [0] * 15 + list(range(9))
        for row, length, logits in zip(rows, lengths, together, strict=True):
            pairs = blocks_of(length, block) if block else torch.ones(1, 1, length, length, dtype=torch.bool)
            alone = model(row[None], attention_mask=pairs).logits[0]
            assert close(logits[width - length :], alone)
            assert torch.equal(model(row[None]).logits[0], alone) or close(model(row[None]).logits[0], alone)
        cache = DynamicCache()
        first = model(ids[-1:, :8], past_key_values=cache, use_cache=True).logits
        if block:  # later blocks are not seen, and a cache of transformers' own keeps what is seen
            second = model(ids[-1:, 8:], past_key_values=cache, use_cache=True).logits
            assert close(torch.cat((first, second), 1), together[-1:])
        else:
            assert not close(first, together[-1:, :8])


@pytest.mark.parametrize("name", ["dream", "llada2"])
def test_a_layer_called_by_itself_is_not_causal(published, name):
    model = opened(published, name)
    x = torch.randn(1, 6, 64, generator=torch.Generator().manual_seed(0))
    changed = x.clone()
    changed[0, -1] += 1
    cosines = model.model.rotary_emb(x, torch.arange(6)[None])
    with torch.no_grad():
        outputs = [model.model.layers[0](y, position_embeddings=cosines)[0, 0] for y in (x, changed)]
    assert (outputs[0] - outputs[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", BLOCKS)
def test_columns_that_are_kept_are_those_of_the_whole_pass(published, name):
    model = opened(published, name)
    body = model.base_model
    ids, keep = some_ids(2, 12, vocab=150), torch.tensor([[5, 7, 11], [0, 1, 2]])
    seen = []
    body.layers[-1].mlp.register_forward_hook(lambda *call: seen.append(call[2].shape[1]))
    with torch.no_grad():
        whole = body(ids).last_hidden_state.gather(1, keep[..., None].expand(-1, -1, 64))
        kept = body(ids, keep=keep).last_hidden_state
    assert seen == [12, 3]
    torch.testing.assert_close(kept, whole, rtol=0, atol=1e-5)
    model.train().gradient_checkpointing_enable()
    gradients = []
    for states in (body(ids, keep=keep), body(ids)):
        states = states.last_hidden_state
        (states if states.shape[1] == 3 else pick(states, keep)).sin().sum().backward()
        gradients.append(body.embed_tokens.weight.grad.clone())
        model.zero_grad()
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


@pytest.mark.parametrize("name", BLOCKS)
def test_every_weight_learns_also_an_end_token_that_pads(published, name):
    """LLaDA2's own code has no gradient for its experts in eval mode; padding_idx takes an end token's."""
    model = opened(published, name)
    ids = some_ids(4, 64, vocab=160)
    model(ids).logits.square().mean().backward()
    weights = {n: p for n, p in model.named_parameters() if not n.endswith("gate.weight")}
    assert all(p.grad is not None and p.grad.any() for p in weights.values())
    end = 150 if name != "illada" else 1
    assert model.config.pad_token_id in (end, 152, None)
    assert model.model.embed_tokens.weight.grad[model.config.pad_token_id or end].any()


def test_labels_are_scored_where_a_family_predicts_them(published):
    ids = some_ids(2, 9, vocab=150)
    for name, moved in (("dream", True), ("illada", False)):
        model = opened(published, name)
        with torch.no_grad():
            output = model(ids, labels=ids)
        logits, labels = (output.logits[:, :-1], ids[:, 1:]) if moved else (output.logits, ids)
        assert torch.allclose(output.loss, F.cross_entropy(logits.flatten(0, 1), labels.flatten()))
        with pytest.raises(ModelError, match=r"spg_trainer\.generate"):
            model.generate(ids)


@pytest.mark.parametrize("name", ["dream", "sdar", "illada", "qwen3_diffusion"])
def test_a_float64_model_computes_in_float64(published, name):
    """Except its router, whose choice is made in float32 as published; so not for experts."""
    model = opened(published, name).double()
    x = torch.randn(1, 2, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def body(embedded: Tensor) -> Tensor:
        return model.model(inputs_embeds=embedded).last_hidden_state[..., :2]

    assert torch.autograd.gradcheck(body, (x.requires_grad_(),), eps=1e-6, atol=1e-6, fast_mode=True)


@pytest.mark.parametrize("name", ["llada2", "lladamoe"])
def test_experts_are_multiplied_in_groups_and_equal_one_by_one(published, name, monkeypatch):
    ids, called = some_ids(2, 40, vocab=150), []
    found = {}
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        for implementation in (None, "eager"):
            model = opened(published, name, experts_implementation=implementation).to(dtype)
            logits = model(ids).logits
            logits.square().mean().backward()
            gradient = model.model.layers[1].mlp.experts.gate_up_proj.grad
            found[implementation] = (logits, gradient)
        for a, b in zip(found[None], found["eager"], strict=True):
            assert (a - b).norm() <= tolerance * b.norm()
    grouped = torch.nn.functional.grouped_mm
    monkeypatch.setattr(F, "grouped_mm", lambda *given, **more: called.append(1) or grouped(*given, **more))
    opened(published, name)(ids)
    assert len(called) == 2 * 2  # two layers with experts, two products each


def test_choices_of_experts_are_counted_by_layer(published):
    model, ids = opened(published, "lladamoe"), some_ids(3, 16, vocab=150)
    with counting_choices(model) as counts, torch.no_grad():
        model(ids)
        model(ids)
    model(ids)  # no longer counted
    layers = {name for name, _ in counts}
    assert len(layers) == 2 and len(counts) == 2 * 12
    assert sum(counts.values()) == 2 * 2 * ids.numel() * 3
    assert router_load(counts)["router/busiest"] > 1
    assert router_load({("a", 0): 3.0, ("a", 1): 1.0, ("b", 0): 2.0, ("b", 1): 2.0}) == {
        "router/busiest": 1.5
    }
    assert router_load({("a", 0): 0.0}) == {}
    with counting_choices(opened(published, "dream")) as counts:
        assert counts == {}


def test_a_cast_leaves_frequencies_and_the_routers_bias_in_float32(published):
    exact = dict(opened(published, "llada2").named_buffers())
    assert any("e_score_correction_bias" in name for name in exact)
    for model in (
        opened(published, "llada2").bfloat16(),
        opened(published, "llada2", dtype=torch.bfloat16),
    ):
        assert model.lm_head.weight.dtype == torch.bfloat16
        for name, buffer in model.named_buffers():
            assert torch.equal(buffer, exact[name]), name
        assert model(some_ids(1, 9)).logits.isfinite().all()


# The Hub's files.


@pytest.mark.parametrize("shard", [pytest.param("5GB", marks=pytest.mark.slow), "40KB"])
@pytest.mark.parametrize("name", BLOCKS)
def test_a_saved_model_has_the_hubs_names_settings_and_every_bit(published, tmp_path, name, shard):
    hub = published / "models" / name
    opened(published, name).save_pretrained(tmp_path, max_shard_size=shard)
    stored = {n: x for file in tmp_path.glob("*.safetensors") for n, x in load_file(file).items()}
    weights = load_file(hub / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(x.dtype == stored[n].dtype and torch.equal(x, stored[n]) for n, x in weights.items())
    settings = json.loads((hub / "config.json").read_text())
    written = json.loads((tmp_path / "config.json").read_text())
    answered = {"block_size": 0} if BLOCKS[name] is None else {}
    settings.pop("auto_map", None)
    assert written == settings | answered | {"transformers_version": written["transformers_version"]}
    ids = some_ids(2, 12)
    with torch.no_grad():
        again = AutoModel.from_pretrained(tmp_path)
        assert torch.equal(again(ids).logits, opened(published, name)(ids).logits)
    opened(published, name, dtype=torch.bfloat16).save_pretrained(tmp_path / "rounded")
    kind = "torch_dtype" if "torch_dtype" in settings else "dtype"
    rounded = json.loads((tmp_path / "rounded" / "config.json").read_text())
    assert rounded == written | {kind: "bfloat16"}


@pytest.mark.parametrize("name", [*BLOCKS, "llada15"])
def test_weights_that_are_written_whole_and_read_in_parts_keep_every_bit(
    published, tmp_path, name, monkeypatch
):
    """As a sharded run does; here in one process, which has all of every tensor."""
    monkeypatch.setattr(weight_files, "FILE_BYTES", 60_000)
    hub = published / "models" / name
    model = opened(published, name) if name != "llada15" else AutoModel.from_pretrained(hub)
    weight_files.save_whole(model, weight_files.whole_tensors(model), tmp_path)
    files = list(tmp_path.glob("*.safetensors"))
    stored = {n: x for file in files for n, x in load_file(file).items()}
    weights = load_file(hub / "model.safetensors")
    assert len(files) > 2 and stored.keys() == weights.keys()
    assert all(torch.equal(x, stored[n]) for n, x in weights.items())
    kept = {n: x.clone() for n, x in model.state_dict().items()}
    with torch.no_grad():
        for value in model.state_dict().values():
            value.zero_()
    weight_files.load_parts(model, tmp_path)
    assert all(torch.equal(x, kept[n]) for n, x in model.state_dict().items())


@pytest.mark.parametrize("name", [*BLOCKS, "llada15"])
def test_a_model_without_numbers_reads_all_that_one_has_that_is_opened(published, name):
    """Weights from the file, and what no file holds; here in one process, which has all of every tensor."""
    hub, ids = published / "models" / name, some_ids(2, 16, vocab=60)
    model = opened(published, name) if name != "llada15" else AutoModelForMaskedLM.from_pretrained(hub).eval()
    with torch.device("meta"):
        empty = AutoModelForMaskedLM.from_config(model.config, dtype=model.dtype)
    shard._read_parts(empty, torch.device("cpu"), hub)
    for kind in ("named_parameters", "named_buffers"):
        pairs = zip(getattr(empty, kind)(), getattr(model, kind)(), strict=True)
        assert all(a == b and torch.equal(x, y) for (a, x), (b, y) in pairs)
    assert torch.equal(empty.eval()(ids).logits, model(ids).logits)


@pytest.mark.parametrize(
    "architecture, experts, block",
    [
        ("LLaDA2MoeModelLM", {"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "use_qk_norm": True}, 8),
        ("SDARMoeForCausalLM", {"num_experts": 4, "norm_topk_prob": True}, 4),
        ("LLaDAMoEModelLM", {"num_experts": 4, "mlp_only_layers": [0]}, 0),
    ],
)
def test_a_model_made_from_settings_is_written_as_the_hub_has_it(tmp_path, architecture, experts, block):
    sizes = {"hidden_size": 32, "intermediate_size": 48, "moe_intermediate_size": 8, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 60}
    config = BY_ARCHITECTURE[architecture](
        **sizes, **heads, **experts, num_experts_per_tok=2, block_size=block, pad_token_id=5
    )
    model = AutoModel.from_config(config)
    assert model.model.embed_tokens.weight[5].any()  # the padding
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors")
    assert names["model.layers.1.mlp.experts.3.down_proj.weight"].shape == (32, 8)
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["num_experts"], written["architectures"]) == (4, [architecture])
    again = AutoModel.from_pretrained(tmp_path)
    assert type(again) is type(model) and again.pattern == Pattern(block)
    with torch.no_grad():
        assert torch.equal(again(some_ids(1, 20)).logits, model.eval()(some_ids(1, 20)).logits)


@pytest.mark.parametrize(
    "architecture", [name for name in BY_ARCHITECTURE if name != "DiffusionGemmaForBlockDiffusion"]
)
def test_a_model_made_by_auto_config_is_opened_again(tmp_path, architecture):
    """As one makes a small model of one's own, with no more settings than it needs."""
    config_class = BY_ARCHITECTURE[architecture]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 266}
    sizes |= {"num_attention_heads": 2, "num_key_value_heads": 2, "max_position_embeddings": 64}
    sizes |= {"block_size": 4} if config_class.block_size is None else {}
    rope = {"rope_theta": 12345.0, "rope_type": config_class.family.rope_type}
    if rope["rope_type"] == "yarn":
        rope |= {"factor": 4.0, "original_max_position_embeddings": 16, "llama_4_scaling_beta": 0.1}
    config = AutoConfig.for_model(config_class.model_type, **sizes, mask_token_id=258, rope_parameters=rope)
    model = AutoModelForMaskedLM.from_config(config).eval()
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    policy = load_model(str(tmp_path), device="cpu")
    assert policy.model.config.rope_parameters["rope_theta"] == 12345.0
    assert policy.model.pattern == model.pattern and type(policy.model) is type(model)
    assert policy.end_token_ids == (256, 257)  # the tokenizer's, none of the stock class's vocabulary
    with torch.no_grad():
        assert torch.equal(policy.model(some_ids(1, 20)).logits, model(some_ids(1, 20)).logits)


def test_a_model_that_could_be_written_but_not_opened_is_not_made():
    config = AutoConfig.for_model("llada", attention_bias=True)
    with pytest.raises(ModelError, match="include_qkv_bias = True, but LLaDAModelLM has False"):
        AutoModelForMaskedLM.from_config(config)


@pytest.mark.parametrize(
    ("family", "given", "instead"),
    [
        ("llada", {"d_model": 64}, "d_model is a name of config.json.*use hidden_size=64"),
        ("llada", {"hidden_size": 64, "mlp_ratio": 2}, "mlp_ratio is a name of config.json.*leave it out"),
        ("llada2_moe", {"num_experts": 8}, "num_experts is a name of config.json.*=8"),
    ],
)
def test_a_size_by_its_published_name_is_refused_before_a_large_model_is_made(family, given, instead):
    with pytest.raises(ModelError, match=instead), torch.device("meta"):
        AutoModelForMaskedLM.from_config(AutoConfig.for_model(family, **given))


@pytest.mark.slow
def test_a_fresh_process_opens_every_family_without_its_code(published, tmp_path):
    for name in BLOCKS:
        family_folder(published, name, tmp_path / name)
    script = f"""
import pathlib, transformers, spg_trainer.models
for name, block in {BLOCKS}.items():
    for auto in ("AutoModel", "AutoModelForCausalLM", "AutoModelForMaskedLM"):
        more = dict(block_size=8) if block is None else dict()
        place = pathlib.Path({str(tmp_path)!r}) / name
        model = getattr(transformers, auto).from_pretrained(place, trust_remote_code=None, **more)
        print(name, model.pattern.block_size, type(model).__name__)
"""
    lines = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert len(lines) == 3 * len(BLOCKS)
    blocks = {(line.split()[0], int(line.split()[1])) for line in lines}
    assert blocks == {(name, 8 if block is None else block) for name, block in BLOCKS.items()}
    assert "LLaDAMoEModelLM" in {line.split()[2] for line in lines}


@pytest.mark.parametrize(
    "name, setting, value",
    [
        ("dream", "use_mrope", True),
        ("dream", "rope_scaling", {"type": "yarn", "factor": 4.0}),
        ("dream", "use_sliding_window", True),
        ("sdar", "num_experts_of_a_new_kind", 8),
        ("sdar", "hidden_act", "gelu"),
        ("illada", "layer_norm_eps", 1e-5),
        ("lladamoe", "moe_router_enable_expert_bias", True),
        ("lladamoe", "shared_expert_intermediate_size", 64),
        ("lladamoe", "qk_layernorm", False),
        ("llada2", "score_function", "softmax"),
        ("llada2", "use_qk_norm", None),
        ("llada2", "use_bias", True),
        ("qwen3_diffusion", "rope_parameters", {"rope_type": "linear", "factor": 2.0}),
    ],
)
def test_a_setting_of_another_kind_is_refused_by_name(published, tmp_path, name, setting, value):
    folder = family_folder(published, name, tmp_path / name)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {setting: value}))
    for auto in (AutoModel, AutoModelForCausalLM):
        with pytest.raises(ModelError, match=setting):
            auto.from_pretrained(folder)
    with pytest.raises(ModelError, match=setting):
        load_model(str(folder))


@pytest.mark.parametrize("name", ["lladamoe", "dream", "llada2"])
def test_weights_of_other_names_are_refused_by_every_way_in(published, tmp_path, name):
    """LLaDA-MoE's folder, whose `model_type` is LLaDA's, once opened as a LLaDA with random layers."""
    folder = family_folder(published, name, tmp_path / name)
    settings = json.loads((folder / "config.json").read_text()) if name == "lladamoe" else {}
    sizes = {
        "n_layers": 2,
        "d_model": 64,
        "n_heads": 4,
        "mlp_ratio": 4,
        "mask_token_id": 153,
        "vocab_size": 160,
    }
    settings = dict.fromkeys(settings) | {"model_type": "llada", "architectures": ["LLaDAModelLM"], **sizes}
    if name == "llada2":
        file = folder / "model.safetensors"
        more = {
            "model.layers.46.post_attention_layernorm.weight": torch.zeros(64)
        }  # which stock GLM overlooks
        save_file(load_file(file) | more, file, metadata={"format": "pt"})
    else:
        edit(folder / "config.json", **(settings if name == "lladamoe" else {"num_hidden_layers": 4}))
    for open_it in (AutoModelForMaskedLM.from_pretrained, load_model):
        with pytest.raises(ModelError, match="unexpected_keys" if name == "llada2" else "missing_keys"):
            open_it(str(folder))


def test_a_tied_head_may_be_stored_twice(published, tmp_path):
    folder = family_folder(published, "illada", tmp_path / "hub")
    file = folder / "model.safetensors"
    weights = load_file(file)
    head = weights["model.embed_tokens.weight"].clone()
    save_file(weights | {"lm_head.weight": head}, file, metadata={"format": "pt"})
    model = AutoModel.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    with torch.no_grad():
        assert torch.equal(model(some_ids(1, 9)).logits, opened(published, "illada")(some_ids(1, 9)).logits)
    model.save_pretrained(tmp_path / "saved")
    assert load_file(tmp_path / "saved" / "model.safetensors").keys() == weights.keys()


# What the files do not say.


def test_blocks_that_config_does_not_say_are_asked_for_and_kept(published, tmp_path):
    folder = family_folder(published, "qwen3_diffusion", tmp_path / "hub")
    for open_it in (AutoModel.from_pretrained, load_model):
        with pytest.raises(ModelError, match="--attention-block"):
            open_it(str(folder))
    for block in (0, 8):
        policy = load_model(str(folder), attention_block=block)
        assert policy.model.pattern == Pattern(block)
        save_model(policy, tmp_path / f"saved-{block}")
        assert load_model(str(tmp_path / f"saved-{block}")).model.pattern == Pattern(block)
    adapted = load_model(str(folder), attention_block=8, mask_token_id=99, lora_r=2)
    save_model(adapted, tmp_path / "adapter")
    again = load_model(str(tmp_path / "adapter"))
    assert (again.model.get_base_model().pattern, again.mask_id) == (Pattern(8), 99)
    assert again.model.peft_config["default"].base_model_name_or_path == str(folder)
    save_model(load_model(str(tmp_path / "saved-8"), attention_block=0), tmp_path / "corrected")
    assert load_model(str(tmp_path / "corrected")).model.pattern == Pattern(0)
    assert load_model("tiny", attention_block=8).model.pattern == Pattern(8)


@pytest.mark.parametrize(
    "name, mask, ends",
    [
        ("dream", 154, (150, 152)),
        ("fastdllm_v2", 154, (150, 152)),
        ("illada", 5, (2,)),
        ("llada2", 153, (150, 151)),
        ("lladamoe", 153, (150, 151)),
        ("qwen3_diffusion", 155, (150, 152)),
        ("sdar", 155, (150, 152)),
    ],
)
def test_mask_and_end_tokens_are_found_in_config_tokenizer_and_vocabulary(
    published, tmp_path, name, mask, ends
):
    folder = family_folder(published, name, tmp_path / name)
    block = 8 if BLOCKS[name] is None else None
    policy = load_model(str(folder), attention_block=block)
    assert (policy.mask_id, policy.end_token_ids) == (mask, ends)
    assert load_model(str(folder), attention_block=block, mask_token_id=7).mask_id == 7
    tokenizer = (folder / "tokenizer.json").read_text()
    for word in ("<|mask|>", "|<MASK>|", "<[MASK]>"):
        tokenizer = tokenizer.replace(word, "<|other|>")
    (folder / "tokenizer.json").write_text(tokenizer)
    if name not in ("dream", "sdar"):  # config.json has it
        with pytest.raises(ModelError, match="mask_token_id"):
            load_model(str(folder), attention_block=block)


# Adapters.


@pytest.mark.parametrize(
    ("name", "experts"),
    slow_if(
        product(BLOCKS, (False, True)), lambda name, experts: experts and name not in ("dream", "llada2")
    ),
)
def test_adapters_sit_on_attention_and_where_asked_on_experts_never_on_the_router(
    published, tmp_path, name, experts
):
    folder = family_folder(published, name, tmp_path / "hub")
    options = {"attention_block": 8 if BLOCKS[name] is None else None}
    if experts and name not in ("llada2", "lladamoe"):
        with pytest.raises(ConfigError, match="--lora-experts"):
            load_model(str(folder), lora_r=2, lora_experts=True, **options)
        return
    plain = load_model(str(folder), **options).model
    policy = load_model(str(folder), lora_r=2, lora_experts=experts, **options)
    trained = {n: p for n, p in policy.model.named_parameters() if p.requires_grad}
    mixture = name in ("llada2", "lladamoe")
    assert all(".lora_" in n and "gate.weight" not in n for n in trained)
    assert any("q_proj" in n for n in trained)
    assert any("mlp" in n for n in trained) == (experts or not mixture)
    assert any("experts" in n and "shared" not in n for n in trained) == experts
    ids = some_ids(2, 20, vocab=150)
    with torch.no_grad():
        assert close(policy.model(ids).logits, plain(ids).logits)
        generator = torch.Generator().manual_seed(0)
        for weight in trained.values():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
        moved = policy.model(ids).logits
        assert not close(moved, plain(ids).logits)
        save_model(policy, tmp_path / "adapter")
        assert torch.equal(load_model(str(tmp_path / "adapter")).model(ids).logits, moved)
        merge(MergeCommand(source=str(tmp_path / "adapter"), output=str(tmp_path / "merged")))
        whole = load_model(str(tmp_path / "merged")).model
        assert (whole(ids).logits - moved).abs().max() <= 1e-4 * moved.std()
    assert (
        load_file(tmp_path / "merged" / "model.safetensors").keys()
        == load_file(folder / "model.safetensors").keys()
    )


@pytest.mark.parametrize("changes", [{"lora_r": 2, "lora_experts": True}, {"lora_r": 0}])
def test_a_mixture_is_trained_and_its_router_only_with_all_weights(published, tmp_path, changes):
    folder = family_folder(published, "lladamoe", tmp_path / "hub")
    config = small_config(tmp_path / "run", model=folder, max_steps=1, **changes)
    train(config, quiet=True)
    (row,) = rows(tmp_path / "run" / "timings.jsonl")
    assert 1 <= row["router/busiest"] <= 4  # 3 of 12 are chosen
    if changes["lora_r"]:
        return
    before, after = (load_file(place / "model.safetensors") for place in (folder, tmp_path / "run" / "model"))
    assert before.keys() == after.keys()
    for name in ("gate.weight", "experts.7.up_proj.weight"):
        name = f"model.layers.1.mlp.{name}"
        assert not torch.equal(before[name], after[name])


# A family from outside.


def test_a_family_from_outside_is_one_description_and_one_line(tmp_path):
    """A Qwen3 body with blocks of 8 that begin where the completion does."""
    mine = register_family(
        Family("mine", "MineForCausalLM", Qwen3ForCausalLM, block_size=8, origin="completion", shift=1)
    )
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "head_dim": 8}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 60}
    config = mine.config_class(**sizes, **heads, eos_token_id=3, mask_token_id=4)
    model = mine(config).eval()
    assert (model.pattern, model.shift) == (Pattern(8, "completion"), 1)
    model.save_pretrained(tmp_path)
    again = AutoModelForMaskedLM.from_pretrained(tmp_path)
    assert type(again) is mine
    written = json.loads((tmp_path / "config.json").read_text())
    assert (written["model_type"], written["architectures"]) == ("mine", ["MineForCausalLM"])
    ids, real = some_ids(1, 19), torch.ones(1, 19, dtype=torch.bool)
    number = model.pattern.blocks(real, start=3)
    with torch.no_grad():
        pairs = (number[:, None] <= number[:, :, None])[:, None]
        logits = again(ids, attention_mask=pairs).logits
        changed = ids.clone()
        changed[0, 11:] = 0
        assert torch.equal(again(changed, attention_mask=pairs).logits[:, :11], logits[:, :11])
        assert not torch.equal(again(changed, attention_mask=pairs).logits[:, 11:], logits[:, 11:])
    with pytest.raises(ModelError, match=r"\(B, 1, Q, K\)"):
        again(ids)

    class Thief(mine.config_class):
        pass

    AutoConfig.register("mine", Thief, exist_ok=True)
    load_model("tiny")
    assert type(AutoModelForMaskedLM.from_pretrained(tmp_path)) is mine
    with pytest.raises(ModelError, match="shift is 2"):
        Family("other", "Other", Qwen3ForCausalLM, shift=2)

"""The Hub's folder of a LLaDA model: opened without its code, written back under its names."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM

from spg_trainer.errors import ModelError
from spg_trainer.models import LLaDAConfig, LLaDAForMaskedLM, new_tiny, register

HUB_CONFIG = {
    "activation_type": "silu",
    "alibi": False,
    "alibi_bias_max": 8.0,
    "architectures": ["LLaDAModelLM"],
    "attention_dropout": 0.0,
    "attention_layer_norm": False,
    "attention_layer_norm_with_affine": True,
    "auto_map": {
        "AutoConfig": "configuration_llada.LLaDAConfig",
        "AutoModel": "modeling_llada.LLaDAModelLM",
        "AutoModelForCausalLM": "modeling_llada.LLaDAModelLM",
    },
    "bias_for_layer_norm": False,
    "block_group_size": 1,
    "block_type": "llama",
    "d_model": 32,
    "embedding_dropout": 0.0,
    "embedding_size": 60,
    "eos_token_id": 51,
    "flash_attention": False,
    "include_bias": False,
    "include_qkv_bias": False,
    "init_cutoff_factor": None,
    "init_device": "meta",
    "init_fn": "mitchell",
    "init_std": 0.02,
    "input_emb_norm": False,
    "layer_norm_type": "rms",
    "layer_norm_with_affine": True,
    "mask_token_id": 56,
    "max_sequence_length": 512,
    "mlp_hidden_size": 48,
    "mlp_ratio": 4,
    "model_type": "llada",
    "multi_query_attention": None,
    "n_heads": 4,
    "n_kv_heads": 4,
    "n_layers": 2,
    "pad_token_id": 51,
    "precision": "amp_bf16",
    "residual_dropout": 0.0,
    "rms_norm_eps": 1e-05,
    "rope": True,
    "rope_full_precision": True,
    "rope_theta": 500000.0,
    "scale_logits": False,
    "transformers_version": "4.46.3",
    "use_cache": False,
    "vocab_size": 60,
    "weight_tying": False,
}


def hub_weights(config: dict, seed: int = 0) -> dict[str, Tensor]:
    """Random weights under LLaDA's own names; norms away from 1 so that a forgotten one shows."""
    generator = torch.Generator().manual_seed(seed)
    d, ffn, vocab = config["d_model"], config["mlp_hidden_size"], config["vocab_size"]
    kv = d // config["n_heads"] * config["n_kv_heads"]
    shapes = {"wte": (vocab, d), "ln_f": (d,), "ff_out": (vocab, d)}
    if config["weight_tying"]:
        del shapes["ff_out"]
    for layer in range(config["n_layers"]):
        block = {"attn_norm": (d,), "ff_norm": (d,), "q_proj": (d, d), "k_proj": (kv, d), "v_proj": (kv, d)}
        block |= {"attn_out": (d, d), "ff_proj": (ffn, d), "up_proj": (ffn, d), "ff_out": (d, ffn)}
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in block.items()}
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    scaled = {name: x * 0.2 + 1 if x.dim() == 1 else x * x.shape[1] ** -0.5 for name, x in drawn.items()}
    return {f"model.transformer.{name}.weight": x for name, x in scaled.items()}


def hub_folder(folder: Path, *, shards: int = 1, **changes: object) -> tuple[dict, dict[str, Tensor]]:
    """A folder of the Hub's shape, remote code that must not run included."""
    config = HUB_CONFIG | changes
    weights = hub_weights(config)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("configuration_llada.py", "modeling_llada.py"):
        (folder / name).write_text("raise SystemExit('remote code was run')")
    if shards == 1:
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        return config, weights
    index = {"metadata": {}, "weight_map": {}}
    for shard in range(shards):
        name = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors"
        part = dict(list(weights.items())[shard::shards])
        save_file(part, folder / name, metadata={"format": "pt"})
        index["weight_map"] |= dict.fromkeys(part, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return config, weights


def some_ids(rows: int, length: int, vocab: int = 60, seed: int = 1) -> Tensor:
    return torch.randint(0, vocab, (rows, length), generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("auto", [AutoModel, AutoModelForCausalLM, AutoModelForMaskedLM])
@pytest.mark.parametrize("trust", [None, False, True])
@pytest.mark.parametrize("shards", [1, 3])
def test_auto_classes_open_the_hub_shape_without_its_code(
    tmp_path: Path, auto: type, trust: bool | None, shards: int
) -> None:
    _, weights = hub_folder(tmp_path, shards=shards)
    model, report = auto.from_pretrained(tmp_path, trust_remote_code=trust, output_loading_info=True)
    assert type(model) is LLaDAForMaskedLM
    assert not report["missing_keys"] and not report["unexpected_keys"]
    assert torch.equal(model.lm_head.weight, weights["model.transformer.ff_out.weight"])
    down = weights["model.transformer.blocks.1.ff_out.weight"]
    assert torch.equal(model.model.layers[1].mlp.down_proj.weight, down)
    assert not hasattr(model.config, "auto_map")


@pytest.mark.parametrize("tied", [False, True])
def test_a_saved_model_has_the_hub_names_and_every_bit(tmp_path: Path, tied: bool) -> None:
    config, weights = hub_folder(tmp_path / "hub", shards=2, weight_tying=tied)
    model = AutoModel.from_pretrained(tmp_path / "hub")
    model.save_pretrained(tmp_path / "saved")
    stored = load_file(tmp_path / "saved" / "model.safetensors")
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[name], weights[name]) for name in weights)
    written = json.loads((tmp_path / "saved" / "config.json").read_text())
    changed = {key for key in config if config[key] != written.get(key)}
    assert changed <= {"auto_map", "transformers_version"}
    assert set(written) - set(config) <= {"torch_dtype", "bos_token_id"}
    assert "auto_map" not in written and not (tmp_path / "saved" / "generation_config.json").exists()
    again = AutoModel.from_pretrained(tmp_path / "saved")
    ids = some_ids(2, 12)
    with torch.no_grad():
        assert torch.equal(again(ids).logits, model(ids).logits)


def test_a_fresh_model_is_saved_under_the_hub_names_too(tmp_path: Path) -> None:
    new_tiny(hidden_size=16, layers=2, heads=2, ffn=24).save_pretrained(tmp_path, max_shard_size="10KB")
    names = json.loads((tmp_path / "model.safetensors.index.json").read_text())["weight_map"]
    assert set(names) == set(hub_weights(HUB_CONFIG))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("alibi", True),
        ("layer_norm_type", "default"),
        ("activation_type", "gelu"),
        ("block_group_size", 4),
        ("block_type", "sequential"),
        ("include_bias", True),
        ("include_qkv_bias", True),
        ("attention_layer_norm", True),
        ("bias_for_layer_norm", True),
        ("rope", False),
        ("rope_scaling", {"rope_type": "linear", "factor": 2.0}),
        ("scale_logits", True),
        ("residual_dropout", 0.1),
        ("is_causal", True),
        ("embedding_size", 64),
        ("n_heads", 3),
        ("n_kv_heads", 3),
        ("n_layers", 0),
    ],
)
def test_settings_of_another_architecture_are_refused_by_name(setting: str, value: object) -> None:
    with pytest.raises(ModelError, match=setting):
        LLaDAConfig(**(HUB_CONFIG | {setting: value}))


def test_the_names_of_transformers_are_aliases() -> None:
    config = LLaDAConfig(hidden_size=64, num_attention_heads=2, vocab_size=10)
    assert (config.d_model, config.n_heads, config.num_key_value_heads, config.head_dim) == (64, 2, 2, 32)
    assert LLaDAConfig.from_dict(config.to_dict()).to_dict() == config.to_dict()
    default = LLaDAConfig()
    assert (default.vocab_size, default.intermediate_size, default.hidden_size) == (126464, 12288, 4096)


def test_registering_wins_back_a_name_that_another_package_took(tmp_path: Path) -> None:
    class Thief(LLaDAConfig):
        pass

    hub_folder(tmp_path)
    register()
    AutoConfig.register("llada", Thief, exist_ok=True)
    assert type(AutoConfig.from_pretrained(tmp_path)) is Thief
    register()
    register()
    assert type(AutoConfig.from_pretrained(tmp_path)) is LLaDAConfig


def test_new_tiny_depends_on_its_seed_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    again, other = (new_tiny(hidden_size=16, layers=1, heads=2, ffn=24, seed=seed) for seed in (3, 4))
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    assert not first.training


def test_importing_the_package_is_all_it_takes(tmp_path: Path) -> None:
    hub_folder(tmp_path)
    code = (
        "import spg_trainer.models, sys; from transformers import AutoModel; "
        f"print(type(AutoModel.from_pretrained({str(tmp_path)!r})).__name__, 'peft' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert run.stdout.split() == ["LLaDAForMaskedLM", "False"], run.stderr

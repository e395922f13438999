"""LLaDA folders of the Hub's shape, small models, and the published architecture in plain torch."""

import json
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from spg_trainer.models import Policy, new_tiny, save_model, tiny_tokenizer

HUB_CONFIG = json.loads(Path(__file__).with_name("llada_config.json").read_text())
"""A config.json as on the Hub, of a small model."""


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


def small(scale: float = 1.0, **sizes: int) -> PreTrainedModel:
    """An untrained model; a scale of 5 makes positions and context matter."""
    model = new_tiny(**({"hidden_size": 32, "layers": 2, "heads": 4, "ffn": 48} | sizes))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(scale)
    return model


def give_effect(model: nn.Module) -> nn.Module:
    """The model with second factors of its adapters, which start at zero, that change what it computes."""
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(0.1 * torch.randn(weight.shape, generator=stream))
    return model


def save_small(folder: Path, **sizes: int) -> Path:
    """Such a model with its tokenizer, as `save_model` writes it."""
    save_model(Policy(small(**sizes), tiny_tokenizer(), 258, 256, (256, 257), ""), folder)
    return folder


def edit(file: Path, **changes: object) -> None:
    """Changes entries of a JSON file; None removes one."""
    settings = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in settings.items() if value is not None}))


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

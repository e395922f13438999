"""Small models of the published families, as their original code was run on, beside what it computed (`tests/data`).

Their weights are random and filled from a seed, bit for bit where PyTorch draws with AVX2 or AVX-512 and within 1e-6
elsewhere. One small model was trained; its weights are stored.
"""

import json
import math
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

DATA = Path(__file__).resolve().parents[1] / "data"
SEEDS = {
    "dream": 101,
    "lladamoe": 102,
    "illada": 103,
    "sdar": 104,
    "llada2": 105,
    "fastdllm_v2": 106,
    "qwen3_diffusion": 107,
    "llada15": 108,
    "nemotron_labs": 20261127,
    "stable_diffcoder": 109,
}
MASKS = {
    "dream": 154,
    "fastdllm_v2": 154,
    "illada": 5,
    "llada15": 153,
    "llada2": 153,
    "lladamoe": 153,
    "nemotron_labs": 100,
    "qwen3_diffusion": 155,
    "sdar": 155,
    "stable_diffcoder": 5,
}
"""The id of each family's mask token."""
HEADS = (
    "lm_head.weight",
    "model.transformer.ff_out.weight",
    "diffusion_head.weight",
    "model.embed_tokens.weight",
)
"""The output embedding is the first of these that a family has."""
DECODERS = {"random": (1, 1.5, 1.0, 2.0), "scaled": (2, 2.5, 1.5, 4.0)}
"""Seed, gain of queries and keys, gain of the other layers, gain of the head."""


def write_published(folder: Path) -> Path:
    """Writes `models/FAMILY` and `decoding/NAME` with their weights to a folder, and returns it."""
    shutil.copytree(DATA, folder, dirs_exist_ok=True)
    shapes = json.loads((DATA / "models/shapes.json").read_text())
    for name in SEEDS:
        save_file(family_weights(name, shapes[name]), folder / "models" / name / "model.safetensors")
    for name in DECODERS:
        save_file(decoder_weights(name), folder / "decoding" / name / "model.safetensors")
    return folder


def family_weights(name: str, shapes: dict[str, list[int]]) -> dict[str, Tensor]:
    """The weights of a family: normal, drawn in the order of their names."""
    noise, weights = torch.Generator().manual_seed(SEEDS[name]), {}
    head = next(key for key in HEADS if key in shapes)
    for key in sorted(shapes):
        drawn = torch.randn(shapes[key], generator=noise)
        if key == head:
            weights[key] = drawn * 0.4
            weights[key][MASKS[name]] *= 0.05  # so that no decoder predicts masks
            if name == "nemotron_labs":
                weights[key][11] *= 0.5  # and not all end at once
        elif name == "nemotron_labs" and len(shapes[key]) == 2:
            weights[key] = drawn * (1.0 if "embed_tokens" in key else 0.2)
        elif "mlp.gate." in key:
            weights[key] = drawn * 0.15
        elif key.endswith("bias"):
            weights[key] = drawn * 0.3
        elif len(shapes[key]) == 1:
            weights[key] = 1 + drawn * 0.1
        else:
            attends = any(part in key for part in ("q_proj", "k_proj", "query_key_value"))
            weights[key] = drawn * (0.2 if attends else 0.128)
    return weights


def decoder_weights(name: str) -> dict[str, Tensor]:
    """The weights of a LLaDA of width 64 with 3 layers, whose first channel is the same 4.0 at every token."""
    seed, attention, gain, head_gain = DECODERS[name]
    noise, first = torch.Generator().manual_seed(seed), "model.transformer."
    embedding = torch.randn(160, 64, generator=noise)
    head = torch.randn(160, 64, generator=noise) * (head_gain / 8)
    weights = {f"{first}wte.weight": embedding, f"{first}ff_out.weight": head}
    layers = {"q_proj": (64, 64), "k_proj": (64, 64), "v_proj": (64, 64), "attn_out": (64, 64)}
    layers |= {"ff_proj": (176, 64), "up_proj": (176, 64), "ff_out": (64, 176)}
    for block in range(3):
        for layer, shape in layers.items():
            scale = attention if layer in ("q_proj", "k_proj") else gain
            weight = torch.randn(shape, generator=noise) * scale / math.sqrt(shape[1])
            if layer in ("attn_out", "ff_out"):
                weight[0] = 0
            weights[f"{first}blocks.{block}.{layer}.weight"] = weight
        for norm in ("attn_norm", "ff_norm"):
            weights[f"{first}blocks.{block}.{norm}.weight"] = torch.ones(64)
    weights[f"{first}ln_f.weight"] = torch.ones(64)
    embedding[:, 0], head[:, 0] = 4.0, 0.0
    head[150] = torch.tensor([-12.0] + [0.0] * 63)  # the mask token is never predicted
    return weights

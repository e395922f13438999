"""Decoding with stale keys spelled out: one row, no padding, a transformer written out by hand, float64."""

import math

import torch
from torch import Tensor
from transformers import PreTrainedModel

from spg_trainer.settings.decoding import Sampling
from tests.common.rollout_cases import Plain


class Body:
    """A LLaDA in which every column keeps the keys and values of the pass that computed it last."""

    def __init__(self, model: PreTrainedModel, columns: int) -> None:
        self.model, config = model, model.config
        self.heads, self.size = config.num_attention_heads, config.head_dim
        self.keys = torch.zeros(config.num_hidden_layers, columns, self.heads, self.size, dtype=torch.float64)
        self.values = torch.zeros_like(self.keys)
        turns = config.rope_parameters["rope_theta"] ** (
            -torch.arange(0, self.size, 2, dtype=torch.float64) / self.size
        )
        self.angles = torch.arange(columns)[:, None] * turns.float()

    def rotate(self, x: Tensor, columns: list[int]) -> Tensor:
        cos, sin = (f(self.angles[columns])[:, None].double() for f in (torch.cos, torch.sin))
        first, second = x.chunk(2, -1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)

    def logits(self, ids: Tensor, fresh: list[int], seen: list[int]) -> dict[int, Tensor]:
        """Computes the columns `fresh` anew, which attend to `seen`; the logits of each."""
        hidden = self.model.model.embed_tokens.weight[ids[fresh]]
        for layer, block in enumerate(self.model.model.layers):
            a = block.self_attn
            x = norm(hidden, block.input_layernorm)
            q, k, v = (
                (x @ p.weight.T).unflatten(-1, (self.heads, self.size))
                for p in (a.q_proj, a.k_proj, a.v_proj)
            )
            self.keys[layer, fresh], self.values[layer, fresh] = self.rotate(k, fresh), v
            scores = torch.einsum("qhd,khd->hqk", self.rotate(q, fresh), self.keys[layer, seen])
            weights = (scores / math.sqrt(self.size)).softmax(-1)
            mixed = torch.einsum("hqk,khd->qhd", weights, self.values[layer, seen]).flatten(1)
            hidden = hidden + mixed @ a.o_proj.weight.T
            x = norm(hidden, block.post_attention_layernorm)
            gate = torch.nn.functional.silu(x @ block.mlp.gate_proj.weight.T)
            hidden = hidden + (gate * (x @ block.mlp.up_proj.weight.T)) @ block.mlp.down_proj.weight.T
        out = norm(hidden, self.model.model.norm) @ self.model.lm_head.weight.T
        return dict(zip(fresh, out, strict=True))


def norm(x: Tensor, layer: torch.nn.Module) -> Tensor:
    return layer.weight * x / (x.square().mean(-1, keepdim=True) + layer.variance_epsilon).sqrt()


@torch.no_grad()
def stale_sampler(
    model: PreTrainedModel, prompt: list[int], s: Sampling, mask_id: int, noise: torch.Generator | None
) -> Plain:
    """What a row is when it is decoded alone, with every rule written out.

    Where logits are shifted, the column before what is computed is computed with it, and tells of its first token.
    """
    width, length, size, shift = len(prompt), s.max_completion_length, s.block_length, model.shift
    columns = width + length
    x = torch.tensor(prompt + [mask_id] * length)
    body = Body(model, columns)
    out = Plain([mask_id] * length, [-1] * length, [0.0] * length, [])
    number = prompt_computed = 0
    for start in range(width, columns, size):
        stop, first = start + size, number
        seen = list(range(columns))
        while masked := [c for c in range(start, stop) if x[c] == mask_id]:
            step = number - first
            if s.cache == "none" or step == 0:
                fresh = seen
                if number and number - prompt_computed < s.prompt_refresh_steps:
                    fresh = [c for c in seen if c >= width - shift]
                else:
                    prompt_computed = number
            elif s.cache == "prefix":
                fresh = [c for c in seen if c >= start - shift]
            elif s.cache == "dual":
                fresh = list(range(start - shift, stop))
            else:
                low, high = start - shift - s.window_tokens, stop + s.window_tokens
                fresh = [c for c in seen if low <= c < high]
            logits = {c + shift: of for c, of in body.logits(x, fresh, seen).items()}
            picks = []
            e = torch.empty(len(masked), logits[start].shape[-1])
            if s.temperature > 0:
                e.exponential_(generator=noise)
            for row, c in enumerate(masked):
                score = logits[c].clone()
                if s.temperature > 0:
                    score -= s.temperature * e[row].log()
                score[mask_id] = float("-inf")
                token = int(score.argmax())
                logps = logits[c].log_softmax(-1)
                sure = float(logps.max() if s.fallback == "leftmost" else logps[token])
                picks.append((sure, -c, token, float(logps[token])))
            ranked = sorted(picks, reverse=True)
            if s.fallback != "surest" and math.exp(ranked[0][0]) < s.threshold:
                ranked = [max(picks, key=lambda pick: pick[1])]
            for _, at, token, logp in ranked[: how_many([math.exp(p[0]) for p in ranked], step, s)]:
                x[-at] = token
                out.tokens[-at - width], out.steps[-at - width] = token, number
                out.logps[-at - width] = logp
            number += 1
    return out


def how_many(p: list[float], step: int, s: Sampling) -> int:
    """Tokens to unmask, given the probabilities of those that are masked, best first."""
    if s.unmasking == "schedule":
        count = s.block_length // s.steps_per_block + (step < s.block_length % s.steps_per_block)
    elif s.unmasking == "threshold":
        count = sum(c >= s.threshold for c in p)
    elif s.unmasking == "budget":
        count = s.block_length // s.steps_per_block + (step < s.block_length % s.steps_per_block)
        allowed = s.factor * (1 - s.threshold)
        while count < len(p) and p[count] > s.threshold and sum(1 - c for c in p[: count + 1]) <= allowed:
            count += 1
    else:
        count = 1
        while count < len(p) and p[count] >= 1 - s.factor / (count + 2):
            count += 1
        count += count == len(p) - 1
    return min(max(count, 1), s.max_tokens_per_step or len(p))

"""A plain LLaDA sampler to compare with: one row at a time, all logits, no padding, no early exit."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from spg_trainer.models import Policy, new_tiny, tiny_tokenizer
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling

LENGTHS = (9, 3, 14, 1, 9, 6)
SAMPLING = Sampling(max_completion_length=24, block_length=8, diffusion_steps=15)
MODES = [(t, r) for t in (0.0, 0.3, 1.0) for r in ("low_confidence", "random")]


@dataclass
class Plain:
    """What the plain sampler did with one row."""

    tokens: list[int]
    steps: list[int]
    logps: list[float]
    margins: list[float]  # per step: how close the closest decision was

    def end(self, ends: tuple[int, ...]) -> int:
        """How many tokens count: up to and including the first end token."""
        return next((i + 1 for i, token in enumerate(self.tokens) if token in ends), len(self.tokens))

    def done_at(self, ends: tuple[int, ...]) -> int:
        """The step after which nothing up to the first end token is masked."""
        return max(self.steps[: self.end(ends)])


def plain_sampler(
    model: nn.Module, prompt: list[int], sampling: Sampling, mask_id: int, noise: torch.Generator
) -> Plain:
    length, block_length = sampling.max_completion_length, sampling.block_length
    steps_per_block = sampling.diffusion_steps // (length // block_length)
    x = torch.tensor([prompt + [mask_id] * length])
    out = Plain([mask_id] * length, [-1] * length, [0.0] * length, [])
    for block in range(length // block_length):
        stop = len(prompt) + (block + 1) * block_length
        to_share = block_length
        for step in range(steps_per_block):
            left = steps_per_block - step
            count = -(-to_share // left)  # the remainder goes to the first steps
            to_share -= count
            with torch.no_grad():
                logits = model(input_ids=x).logits[0]
            masked = [i for i in range(len(prompt), stop) if x[0, i] == mask_id]
            score = logits.clone()
            if sampling.temperature > 0:
                e = torch.empty(len(masked), logits.shape[-1]).exponential_(generator=noise)
                score[masked] -= sampling.temperature * e.log()
            score[:, mask_id] = float("-inf")
            choice = score.argmax(-1)
            logps = logits.log_softmax(-1).gather(-1, choice[:, None])[:, 0]
            if sampling.remasking == "random":
                confidence = torch.rand(len(masked), generator=noise).tolist()
            else:
                confidence = logps[masked].tolist()
            ranked = sorted(range(len(masked)), key=lambda j: (-confidence[j], j))
            best = score[masked].topk(2, -1).values
            margin = (best[:, 0] - best[:, 1]).min().item()
            if count < len(ranked):
                margin = min(margin, confidence[ranked[count - 1]] - confidence[ranked[count]])
            out.margins.append(margin)
            for j in ranked[:count]:
                place = masked[j] - len(prompt)
                x[0, masked[j]] = choice[masked[j]]
                out.tokens[place] = int(choice[masked[j]])
                out.steps[place] = block * steps_per_block + step
                out.logps[place] = float(logps[masked[j]])
    return out


def make_policy(
    dtype: torch.dtype,
    seed: int = 0,
    ends: int = 12,
    device: str = "cpu",
    max_length: int = 64,
    layers: int = 2,
) -> Policy:
    """A random model, sharpened so that contexts matter, in which several token ids end a text."""
    tokenizer = tiny_tokenizer()
    model = new_tiny(hidden_size=32, layers=layers, heads=2, ffn=48, max_length=max_length, seed=seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(6)
        model.get_output_embeddings().weight.mul_(4)
    return Policy(
        model=model.to(device, dtype),
        tokenizer=tokenizer,
        mask_id=tokenizer.mask_token_id,
        pad_id=tokenizer.pad_token_id,
        end_token_ids=tuple(range(ends)),
        source="test",
    )


def make_prompts(policy: Policy, lengths: tuple[int, ...] = LENGTHS) -> list[list[int]]:
    stream = torch.Generator().manual_seed(5)
    return [torch.randint(0, policy.mask_id, (n,), generator=stream).tolist() for n in lengths]


def pad(policy: Policy, prompts: list[list[int]], extra: int = 0) -> tuple[Tensor, Tensor]:
    width = max(map(len, prompts)) + extra
    ids = torch.tensor([[policy.pad_id] * (width - len(p)) + p for p in prompts])
    mask = torch.tensor([[False] * (width - len(p)) + [True] * len(p) for p in prompts])
    return ids, mask


def streams(rows: int, seed: int = 0, device: str = "cpu") -> list[torch.Generator]:
    return [generator(seed, "test", row, device=device) for row in range(rows)]


def plain_rows(policy: Policy, prompts: list[list[int]], sampling: Sampling) -> list[Plain]:
    pairs = zip(prompts, streams(len(prompts)), strict=True)
    return [plain_sampler(policy.model, prompt, sampling, policy.mask_id, noise) for prompt, noise in pairs]

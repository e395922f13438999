"""Exact decoding against the plain LLaDA sampler: `python benchmarks/decoding.py`.

The baseline is written from LLaDA's published sampler (arXiv 2502.09992): at every step logits and
probabilities of all positions of all rows, in float32, and a loop over the rows to choose what is unmasked.
Both decode the same prompts with the same random model, greedily, turn by turn; the table shows medians and
their ratio. Fewer steps per block than the 16 of a real run change the ratio little, and to the disadvantage
of exact decoding, whose later steps in a block are the cheaper ones.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median

import torch
from torch import Tensor

from spg_trainer.batch import Rollouts
from spg_trainer.models import LLaDAConfig, LLaDAForMaskedLM, Policy, tiny_tokenizer
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.fields import Sampling

ROWS, PROMPT, COMPLETION, BLOCK = 4, 64, 128, 32
BARS = {126464: 2.5, 4096: 0.95}


@dataclass
class Result:
    """Seconds of every repetition, and what was written."""

    seconds: list[float]
    tokens: Tensor


def build(vocabulary: int) -> Policy:
    """A random model of the benchmark's size: 8 layers, width 512, 8 heads, feed-forward 1536."""
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=512,
        n_layers=8,
        n_heads=8,
        mlp_hidden_size=1536,
        max_sequence_length=256,
        vocab_size=vocabulary,
    )
    model = LLaDAForMaskedLM(config).eval()
    with torch.no_grad():  # far apart, so that rounding decides nothing
        model.get_output_embeddings().weight.mul_(20)
    return Policy(model, tiny_tokenizer(), vocabulary - 1, vocabulary - 2, (), "benchmark")


@torch.no_grad()
def plain(policy: Policy, prompt_ids: Tensor, sampling: Sampling) -> Tensor:
    """The published sampler at temperature 0, low-confidence remasking. Returns completions (B, T)."""
    rows, width = prompt_ids.shape
    x = torch.full((rows, width + sampling.max_completion_length), policy.mask_id)
    x[:, :width] = prompt_ids
    for block in range(sampling.num_blocks):
        stop = width + (block + 1) * sampling.block_length
        masked = int((x[0, :stop] == policy.mask_id).sum())
        base, more = divmod(masked, sampling.steps_per_block)
        for step in range(sampling.steps_per_block):
            is_mask = x == policy.mask_id
            logits = policy.model(input_ids=x).logits
            sampled = logits.argmax(-1)
            confidence = logits.softmax(-1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
            confidence[:, stop:] = float("-inf")
            confidence = torch.where(is_mask, confidence, float("-inf"))
            for row in range(rows):
                chosen = confidence[row].topk(base + (step < more)).indices
                x[row, chosen] = sampled[row, chosen]
    return x[:, width:]


def measure(repeats: int, **forms: Callable[[], Tensor]) -> dict[str, Result]:
    """Runs every form once per repetition, so that a slow moment of the machine meets all of them."""
    results = {name: Result([], torch.empty(0)) for name in forms}
    for _ in range(repeats):
        for name, form in forms.items():
            start = time.perf_counter()
            results[name].tokens = form()
            results[name].seconds.append(time.perf_counter() - start)
    return results


def stand_in_end_tokens(written: Tensor) -> tuple[int, ...]:
    """One token of each row, first met about a third into it, for texts as long as real answers."""
    end_tokens = []
    for row, tokens in enumerate(written.tolist()):
        start = COMPLETION // 4 + row * COMPLETION // 16
        early = {token for other in written.tolist() for token in other[: COMPLETION // 4]}
        end_tokens += [next((token for token in tokens[start:] if token not in early), tokens[start])]
    return tuple(end_tokens)


def report(title: str, results: dict[str, Result], slow: str, fast: str, note: str) -> None:
    """One line of the table."""
    a, b = median(results[slow].seconds), median(results[fast].seconds)
    ratios = [x / y for x, y in zip(results[slow].seconds, results[fast].seconds, strict=True)]
    spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
    print(f"{title:38s} {a:8.2f} {b:8.2f} {a / b:6.2f}x  {spread:16s}  {note}", flush=True)


def main() -> None:
    """Parses the flags and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps-per-block", type=int, default=4, help="of 32 tokens; a real run has 16")
    parser.add_argument("--repeats", type=int, default=5, help="interleaved repetitions; the median counts")
    parser.add_argument("--vocab", type=int, nargs="+", default=[126464, 4096], help="vocabulary sizes")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    sampling = Sampling(COMPLETION, BLOCK, COMPLETION // BLOCK * args.steps_per_block)
    print(
        f"batch {ROWS}, prompt {PROMPT}, completion {COMPLETION}, blocks of {BLOCK}, "
        f"{sampling.diffusion_steps} steps, temperature 0, float32, {args.threads} threads, "
        f"median of {args.repeats}"
    )
    print(f"{'':38s} {'before s':>8s} {'after s':>8s} {'ratio':>7s}")
    for vocabulary in args.vocab:
        policy = build(vocabulary)
        prompt_ids = torch.randint(0, vocabulary - 2, (ROWS, PROMPT))
        mask = torch.ones_like(prompt_ids, dtype=torch.bool)

        def exact(policy: Policy, prompt_ids: Tensor = prompt_ids, mask: Tensor = mask) -> Rollouts:
            return sample_completions(policy, prompt_ids, mask, sampling, None)

        ended = replace(policy, end_token_ids=stand_in_end_tokens(exact(policy).completion_ids))
        results = measure(
            args.repeats,
            plain=lambda p=policy, x=prompt_ids: plain(p, x, sampling),
            exact=lambda p=policy: exact(p).completion_ids,
            ended=lambda p=ended: exact(p).completion_ids,
        )
        same = (results["plain"].tokens == results["exact"].tokens).float().mean().item()
        bar = f", bar {BARS[vocabulary]}x" if vocabulary in BARS else ""
        report(f"plain -> exact, V={vocabulary}", results, "plain", "exact", f"{same:.1%} equal tokens{bar}")
        length = exact(ended).completion_mask.sum(-1).float().mean().item()
        note = f"mean length {length:.0f}"
        report(f"exact -> with end tokens, V={vocabulary}", results, "exact", "ended", note)


if __name__ == "__main__":
    main()

"""Exact decoding against the plain LLaDA sampler: `python benchmarks/decoding.py`.

The baseline is written from LLaDA's published sampler (arXiv 2502.09992): at every step logits and probabilities of
all positions of all rows, in float32, and a loop over the rows to choose what is unmasked. Both decode the same
prompts with the same random model, greedily, in turns; the table shows medians and their ratio. In the second row of
each vocabulary some tokens end a text, so that completions are as short as real answers. Fewer steps per block than
the 16 of a real run change the ratio little, and to the disadvantage of exact decoding, whose later steps in a block
are the cheaper ones.
"""

import argparse
from dataclasses import replace

import torch
from measuring import hardware, medians, print_head, print_row, wall_seconds
from torch import Tensor

from spg_trainer.batch import Rollouts
from spg_trainer.models import LLaDAConfig, LLaDAForMaskedLM, Policy, tiny_tokenizer
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.settings.fields import Sampling

ROWS, PROMPT, COMPLETION, BLOCK = 4, 64, 128, 32


def build(vocabulary: int, layers: int) -> Policy:
    """A random model of width 512, 8 heads, feed-forward 1536."""
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=512,
        n_layers=layers,
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
        count, remainder = divmod(masked, sampling.steps_per_block)
        for step in range(sampling.steps_per_block):
            is_mask = x == policy.mask_id
            logits = policy.model(input_ids=x).logits
            sampled = logits.argmax(-1)
            confidence = logits.softmax(-1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
            confidence[:, stop:] = float("-inf")
            confidence = torch.where(is_mask, confidence, float("-inf"))
            for row in range(rows):
                chosen = confidence[row].topk(count + (step < remainder)).indices
                x[row, chosen] = sampled[row, chosen]
    return x[:, width:]


def exact(policy: Policy, prompt_ids: Tensor, sampling: Sampling) -> Rollouts:
    """The trainer's sampler."""
    return sample_completions(
        policy, prompt_ids, torch.ones_like(prompt_ids, dtype=torch.bool), sampling, None
    )


def end_tokens(completion_ids: Tensor) -> tuple[int, ...]:
    """One token of each row, first met about a third into it."""
    early = set(completion_ids[:, : COMPLETION // 4].flatten().tolist())
    chosen = []
    for row, tokens in enumerate(completion_ids.tolist()):
        behind = tokens[COMPLETION // 4 + row * COMPLETION // 16 :]
        chosen.append(next((token for token in behind if token not in early), behind[0]))
    return tuple(chosen)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps-per-block", type=int, default=4, help="of 32 tokens; a real run has 16")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    parser.add_argument("--vocabulary", type=int, nargs="+", default=[126464, 4096], help="vocabulary sizes")
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (8)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    sampling = Sampling(COMPLETION, BLOCK, COMPLETION // BLOCK * given.steps_per_block)
    print(
        f"{hardware()}; {given.threads} threads, float32; batch {ROWS}, prompt {PROMPT}, completion {COMPLETION} in "
        f"blocks of {BLOCK}, {sampling.diffusion_steps} steps, temperature 0; median of {given.rounds}\n"
    )
    print_head(["vocabulary, mean length", "plain, s", "exact, s", "ratio", "equal tokens"])
    for vocabulary in given.vocabulary:
        policy = build(vocabulary, given.layers)
        prompt_ids = torch.randint(0, vocabulary - 2, (ROWS, PROMPT))
        published = plain(policy, prompt_ids, sampling)
        ending = replace(policy, end_token_ids=end_tokens(published))
        works = [
            lambda p=policy, x=prompt_ids: plain(p, x, sampling),
            lambda p=policy, x=prompt_ids: exact(p, x, sampling),
            lambda p=ending, x=prompt_ids: exact(p, x, sampling),
        ]
        slow, *fast = medians(works, given.rounds, wall_seconds)
        for each, took in zip((policy, ending), fast, strict=True):
            rollouts = exact(each, prompt_ids, sampling)
            written = rollouts.completion_mask
            length = written.sum(-1).float().mean().item()
            same = (rollouts.completion_ids == published)[written].float().mean().item()
            label = f"{vocabulary}, {length:.0f} tokens"
            print_row([label, f"{slow:.2f}", f"{took:.2f}", f"{slow / took:.2f}x", f"{same:.1%}"])


if __name__ == "__main__":
    main()

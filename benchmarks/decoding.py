"""Decoding against the published samplers, at every way to decode.

`plain` is LLaDA's generate.py in short (all logits at every step; at a temperature above 0 a float64 Gumbel draw for
each). `cached` is what Fast-dLLM's caches do (arXiv 2505.22618): keys and values by block, joined with the fresh ones
and rotated again at each pass, all logits of a pass, confidence as a float64 softmax. All of them decode the same
prompts with the same random model, in turns. `blocks` gives that model block-causal attention; theirs is then ours
without a cache. The table shows medians of processor time and their ratio. A step of
`plain` costs the same whatever it sees: --plain-steps of them are timed, times the number of steps.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import torch
from measuring import hardware, medians, print_head, print_row, seconds
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention, silu

from spg_trainer.models import Policy, llada_config, tiny_tokenizer
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling

WAYS = ("exact", "prefix", "dual", "threshold", "warm", "refill", "long", "blocks")


def build(vocabulary: int, layers: int, positions: int = 2048) -> Policy:
    """A random model of width 512, 8 heads, feed-forward 1536."""
    torch.manual_seed(0)
    config = llada_config(
        d_model=512,
        n_layers=layers,
        n_heads=8,
        mlp_hidden_size=1536,
        max_sequence_length=positions,
        vocab_size=vocabulary,
    )
    model = config.model_class(config).eval()
    with torch.no_grad():
        # Logits far apart, so that rounding decides nothing; tokens that depend on their prompt and their place.
        model.get_output_embeddings().weight.mul_(20)
        for weight in model.model.layers.parameters():
            if weight.ndim == 2:
                weight.mul_(10)
    return Policy(model, tiny_tokenizer(), vocabulary - 1, vocabulary - 2, (), "benchmark")


@torch.no_grad()
def plain(policy: Policy, prompt_ids: Tensor, sampling: Sampling, steps: int) -> Tensor:
    """The first steps of the published sampler. Returns completions (B, T)."""
    x = canvas(policy, prompt_ids, sampling)
    count = sampling.block_length // sampling.steps_per_block
    stop = prompt_ids.shape[1] + sampling.block_length
    for step in range(steps):
        if step and step % sampling.steps_per_block == 0:
            stop += sampling.block_length
        is_mask = x == policy.mask_id
        logits = policy.model(input_ids=x).logits
        sampled = gumbel(logits, sampling.temperature).argmax(-1)
        confidence = logits.softmax(-1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
        confidence[:, stop:] = float("-inf")
        reveal(x, sampled, torch.where(is_mask, confidence, float("-inf")), count)
    return x[:, prompt_ids.shape[1] :]


def gumbel(logits: Tensor, temperature: float) -> Tensor:
    if temperature == 0:
        return logits
    noise = torch.rand_like(logits, dtype=torch.float64)
    return logits.double().exp() / (-noise.log()) ** temperature


def reveal(x: Tensor, sampled: Tensor, confidence: Tensor, count: int) -> None:
    for row in range(len(x)):
        chosen = confidence[row].topk(count).indices
        x[row, chosen] = sampled[row, chosen]


def canvas(policy: Policy, prompt_ids: Tensor, sampling: Sampling) -> Tensor:
    masks = prompt_ids.new_full((len(prompt_ids), sampling.max_completion_length), policy.mask_id)
    return torch.cat([prompt_ids, masks], -1)


class Joining:
    """The body of the model with keys and values kept before rotation, as Fast-dLLM keeps them."""

    def __init__(self, policy: Policy) -> None:
        self.model, self.kept = policy.model, {}

    def logits(self, ids: Tensor, first: int, kept: slice | None) -> Tensor:
        """Of the columns `first`.., all of them; kept: the columns whose keys and values are as they were."""
        body, hidden = self.model.model, self.model.model.embed_tokens(ids)
        for number, layer in enumerate(body.layers):
            a, x = layer.self_attn, layer.input_layernorm(hidden)
            q, k, v = (
                p(x).unflatten(-1, (-1, a.head_dim)).transpose(1, 2) for p in (a.q_proj, a.k_proj, a.v_proj)
            )
            if kept is None:
                self.kept[number] = (k, v)
            else:
                old = self.kept[number]
                k, v = (
                    torch.cat([o[:, :, :first], n, o[:, :, kept]], 2)
                    for o, n in zip(old, (k, v), strict=True)
                )
            columns = torch.arange(k.shape[2])[None]
            cos, sin = body.rotary_emb(hidden, columns)
            k = turn(k, cos, sin)
            q = turn(q, cos[:, first : first + q.shape[2]], sin[:, first : first + q.shape[2]])
            mixed = scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            hidden = hidden + a.o_proj(mixed)
            x, m = layer.post_attention_layernorm(hidden), layer.mlp
            hidden = hidden + m.down_proj(silu(m.gate_proj(x)) * m.up_proj(x))
        return self.model.lm_head(body.norm(hidden))


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.float().chunk(2, -1)
    return (x.float() * cos[:, None] + torch.cat([-second, first], -1) * sin[:, None]).to(x.dtype)


@torch.no_grad()
def cached(policy: Policy, prompt_ids: Tensor, sampling: Sampling) -> Tensor:
    """Fast-dLLM's prefix or dual cache with the schedule. Returns completions (B, T)."""
    x, width, body = canvas(policy, prompt_ids, sampling), prompt_ids.shape[1], Joining(policy)
    count = sampling.block_length // sampling.steps_per_block
    for start in range(width, x.shape[1], sampling.block_length):
        stop = start + sampling.block_length
        for step in range(sampling.steps_per_block):
            end = stop if step and sampling.cache == "dual" else x.shape[1]
            first = start if step else 0
            logits = body.logits(x[:, first:end], first, slice(end, None) if step else None)
            sampled = gumbel(logits, sampling.temperature).argmax(-1)
            confidence = logits.double().softmax(-1).gather(-1, sampled.unsqueeze(-1)).squeeze(-1)
            part = x[:, first:end]
            confidence[(part != policy.mask_id)] = float("-inf")
            confidence[:, stop - first :] = float("-inf")
            reveal(part, sampled, confidence, count)
    return x[:, width:]


def ours(
    policy: Policy, prompt_ids: Tensor, sampling: Sampling, rows_per_forward: int | None = None
) -> Tensor:
    """The trainer's sampler."""
    noise = [generator(0, row) for row in range(len(prompt_ids))] if sampling.draws_noise else None
    real = torch.ones_like(prompt_ids, dtype=torch.bool)
    return sample_completions(
        policy, prompt_ids, real, sampling, noise, rows_per_forward=rows_per_forward
    ).completion_ids


def batches(policy: Policy, prompt_ids: Tensor, sampling: Sampling, batch_size: int) -> Tensor:
    """A batch of so many rows, and the next when all of it has ended."""
    return torch.cat([ours(policy, part, sampling, batch_size) for part in prompt_ids.split(batch_size)])


def texts(policy: Policy, completion_ids: Tensor) -> Tensor:
    """The same with padding behind their ends."""
    ends = torch.isin(completion_ids, torch.tensor(policy.end_token_ids))
    return completion_ids.where(ends.cumsum(-1) - ends.long() == 0, policy.pad_id)


def ending(policy: Policy, completion_ids: Tensor, share: float) -> Policy:
    """The same model with end tokens chosen so that completions end at about this mean share of their length."""
    length, token_ids = completion_ids.shape[1], completion_ids.tolist()
    wanted = [
        int(length * share * (0.25 + 1.5 * (row + 0.5) / len(token_ids))) for row in range(len(token_ids))
    ]
    before = {token for tokens, stop in zip(token_ids, wanted, strict=True) for token in tokens[:stop]}
    ends = {
        next((token for token in tokens[stop:] if token not in before), policy.pad_id)
        for tokens, stop in zip(token_ids, wanted, strict=True)
    }
    return replace(policy, end_token_ids=tuple(ends))


def compare(
    label: str, base: Callable[[], Tensor], work: Callable[[], Tensor], rounds: int, scale: float = 1.0
) -> None:
    found: dict[Callable[[], Tensor], Tensor] = {}
    works = [lambda w=w: found.__setitem__(w, w()) for w in (base, work)]
    slow, fast = medians(works, rounds, seconds)
    slow, their_tokens, our_tokens = slow * scale, found[base], found[work]
    same = f"{(their_tokens == our_tokens).float().mean().item():.1%}" if scale == 1 else ""
    print_row([label, f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.2f}x", same])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), help="what to measure (all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts (3)")
    parser.add_argument("--plain-steps", type=int, default=4, help="steps of `plain` that are timed (4)")
    parser.add_argument("--vocabulary", type=int, default=126464, help="vocabulary size (126464)")
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (8)")
    parser.add_argument("--rows", type=int, default=8, help="prompts (8); 12 times as many for refill")
    parser.add_argument(
        "--length", type=int, default=128, help="tokens of a completion (128), in blocks of 32"
    )
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    policy, rounds = build(args.vocabulary, args.layers), args.rounds
    exact = Sampling(args.length, 32, args.length // 2)
    x = torch.randint(0, args.vocabulary - 2, (args.rows, 64))
    dual, warm = replace(exact, cache="dual"), replace(exact, cache="dual", temperature=1.0)
    four = replace(dual, unmasking="threshold", threshold=1e-9, max_tokens_per_step=4)
    print(
        f"{hardware()}; {args.threads} thread(s), float32; {args.rows} prompts of 64, completions of "
        f"{args.length} in blocks of 32, {exact.diffusion_steps} steps; median of {rounds}, processor time\n"
    )
    print_head(["ours, against", "theirs, s", "ours, s", "ratio", "equal tokens"])
    steps = args.plain_steps
    for way, label, sampling in (
        ("exact", "exact, plain", exact),
        ("dual", "dual, plain", dual),
        ("threshold", "dual, threshold, 4 tokens a step, plain", four),
        ("warm", "dual at temperature 1, plain", warm),
    ):
        if way in args.ways:
            temperature = replace(exact, temperature=sampling.temperature)
            compare(
                label,
                lambda t=temperature: plain(policy, x, t, steps),
                lambda s=sampling: ours(policy, x, s),
                rounds,
                exact.diffusion_steps / steps,
            )
    for way in ("prefix", "dual"):
        if way in args.ways:
            sampling = replace(exact, cache=way)
            works = (lambda s=sampling: cached(policy, x, s), lambda s=sampling: ours(policy, x, s))
            compare(f"{way}, cached", *works, rounds)
    if "refill" in args.ways:
        many = torch.randint(0, args.vocabulary - 2, (12 * args.rows, 64))
        in_flight = 3 * args.rows
        written = ours(policy, many, dual, in_flight)
        ends = ending(policy, written, 0.4)
        share = (texts(ends, written) != policy.pad_id).float().mean().item()
        for label, without in (("whose ended rows leave", ends), ("that run to the end", policy)):
            works = (
                lambda p=without: texts(ends, batches(p, many, dual, in_flight)),
                lambda: texts(ends, ours(ends, many, dual, in_flight)),
            )
            text = f"{len(many)} texts of {share:.0%}, {in_flight} in flight, against batches of {in_flight} {label}"
            compare(text, *works, rounds)
    if "long" in args.ways:
        long = torch.randint(0, args.vocabulary - 2, (args.rows, 1024))
        short = replace(dual, block_length=8)
        kept = replace(short, prompt_refresh_steps=16)
        works = (lambda: ours(policy, long, short), lambda: ours(policy, long, kept))
        compare("prompt 1,024 kept for 16 steps, blocks of 8, dual", *works, rounds)
    if "blocks" in args.ways:  # the last way, as the model is now another
        policy.model.config.block_size = 8
        plain_blocks = Sampling(args.length, 8, args.length // 2)
        kept = replace(plain_blocks, cache="blocks")
        works = (lambda: ours(policy, x, plain_blocks), lambda: ours(policy, x, kept))
        compare("attention in blocks of 8: blocks, none", *works, rounds)


if __name__ == "__main__":
    main()

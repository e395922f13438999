"""A layer of many experts against a dense layer of the weights that a token meets in it.

    python benchmarks/experts.py [--experts 256] [--tokens 512] [--loop] [--device cuda --dtype bfloat16]

The router, eight experts and a shared one of LLaDA2 stand against a feed-forward part of nine times their width, which
does the same arithmetic for a token. --loop adds the experts one by one, as the stock class has it.
"""

import argparse
from collections.abc import Callable
from itertools import pairwise

import torch
from measuring import hardware, medians, one_core, print_head, print_row, seconds, wall_seconds
from torch import Tensor, nn
from transformers import AutoModel

import spg_trainer.models  # noqa: F401  (registers the families)
from spg_trainer.models.body import EXPERTS
from spg_trainer.models.families import BY_ARCHITECTURE


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--experts", type=int, default=256, help="of the layer, in eight groups (256)")
    parser.add_argument("--tokens", type=int, default=512)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--width", type=int, default=128, help="of an expert (128)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--loop", action="store_true", help="also one expert after the other")
    args = parser.parse_args()
    clock = wall_seconds if args.device.startswith("cuda") else seconds
    if clock is seconds:
        one_core()
        torch.set_num_threads(1)
    print(f"{hardware(args.device)}; {args.experts} experts, {args.tokens} tokens, {args.dtype}\n")
    body = make_body(args)
    dense, mixture = (layer.mlp for layer in body.layers)
    x = torch.randn(1, args.tokens, args.hidden_size, dtype=body.dtype, device=body.device)
    variants = {"dense": (dense, None), "grouped": (mixture, EXPERTS)}
    if args.loop:
        variants["one by one"] = (mixture, "eager")
    print_head(["", "forward, ms", "against dense", "forward and backward, ms", "against dense"])
    works = [work(body, *row, x, backward) for row in variants.values() for backward in (False, True)]
    times = medians(works, args.rounds, clock)
    for name, (forward, both) in zip(variants, list(pairwise(times))[::2], strict=True):
        ratios = [f"{taken / base:.2f}x" for taken, base in zip((forward, both), times[:2], strict=True)]
        print_row([name, f"{1e3 * forward:.1f}", ratios[0], f"{1e3 * both:.1f}", ratios[1]])


def make_body(args: argparse.Namespace) -> nn.Module:
    """A dense layer and one with experts."""
    config = BY_ARCHITECTURE["LLaDA2MoeModelLM"](
        hidden_size=args.hidden_size,
        intermediate_size=9 * args.width,
        moe_intermediate_size=args.width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        vocab_size=8,
        n_routed_experts=args.experts,
        num_experts_per_tok=8,
        n_group=8,
        topk_group=4,
        use_qk_norm=True,
    )
    return AutoModel.from_config(config).model.to(args.device, getattr(torch, args.dtype))


def work(
    body: nn.Module, layer: nn.Module, experts: str | None, x: Tensor, backward: bool
) -> Callable[[], None]:
    def once() -> None:
        body.config._experts_implementation = experts
        with torch.set_grad_enabled(backward):
            out = layer(x)
        if backward:
            out.sum().backward()
            layer.zero_grad()
        if x.is_cuda:
            torch.cuda.synchronize()

    return once


if __name__ == "__main__":
    main()

"""The likelihood of a block-causal model in one pass over two copies against a pass for each block.

Both score every completion token once, all of them masked, and send the gradient back, with the same random model and
completions, in turns. A pass for a block sees the prompt and what is clean up to it, with the block masked: `whole` has
all columns in it, as a trainer that only changes the masks would; `cut` ends with the block. The table shows medians of
processor time and the norm of the difference of the gradients over that of the gradient.

    python benchmarks/doubled.py [--blocks 8] [--block 16] [--rounds 3]
"""

import argparse
from functools import partial

import torch
from measuring import hardware, medians, print_head, print_row, seconds
from torch import Tensor, nn

from spg_trainer.algorithms import Loss
from spg_trainer.likelihood import MASKINGS, KeyedStreams, accumulate
from spg_trainer.models import Policy, llada_config
from spg_trainer.models.forward import head_weight, hidden_states
from spg_trainer.tensors import Masks, Rows


def build(args: argparse.Namespace) -> nn.Module:
    """A random model of width 512 with attention in blocks."""
    torch.manual_seed(0)
    config = llada_config(
        d_model=512, n_layers=args.layers, n_heads=8, mlp_hidden_size=1536, vocab_size=args.vocabulary
    )
    model = config.model_class(config).to(getattr(torch, args.dtype)).eval()
    model.config.block_size = args.block
    return model


def make_rollouts(args: argparse.Namespace) -> Rows:
    batch_size, length = args.rows, args.blocks * args.block
    prompt = torch.randint(0, args.vocabulary - 1, (batch_size, args.prompt))
    completion = torch.randint(0, args.vocabulary - 1, (batch_size, length))
    step = torch.arange(length).expand(batch_size, -1)
    ones = torch.ones_like(completion, dtype=torch.bool)
    return Rows(
        prompt_ids=prompt,
        prompt_mask=torch.ones_like(prompt, dtype=torch.bool),
        completion_ids=completion,
        completion_mask=ones,
        unmask_step=step,
        unmask_logps=step.float(),
    )


def doubled(model: nn.Module, rollouts: Rows, masks: Masks, mask_id: int) -> Tensor:
    policy = Policy(model, None, mask_id, pad_id=0, end_token_ids=(), source="")
    model.zero_grad(set_to_none=True)
    loss_fn = lambda logps: Loss(logps.sum(), {})  # noqa: E731
    accumulate(policy, rollouts, masks, loss_fn, masks_at_once=1, compares="copy")
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def score_by_block(model: nn.Module, rollouts: Rows, mask_id: int, cut: bool) -> Tensor:
    model.zero_grad(set_to_none=True)
    clean, width = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], 1), rollouts.prompt_ids.shape[1]
    size = model.pattern.block_size
    for start in range(width, clean.shape[1], size):
        ids, keep = clean.clone(), torch.arange(start, start + size).expand(len(clean), -1)
        ids[:, start : start + size] = mask_id
        states = hidden_states(model, ids[:, : start + size] if cut else ids, keep=keep)
        logps = (states @ head_weight(model).T).log_softmax(-1)
        logps.gather(-1, clean[:, start : start + size, None]).sum().backward()
    return torch.cat([p.grad.flatten() for p in model.parameters()])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value, meaning in (
        ("rounds", 3, "rounds, of which the median counts"),
        ("blocks", 8, "blocks of a completion"),
        ("block", 16, "tokens of a block"),
        ("prompt", 64, "tokens of a prompt, a multiple of a block"),
        ("rows", 2, "completions"),
        ("layers", 8, "layers of the model"),
        ("vocabulary", 1024, "vocabulary size; the output layer costs all of them the same"),
        ("threads", 1, "CPU threads"),
    ):
        parser.add_argument(f"--{name}", type=int, default=value, help=f"{meaning} ({value})")
    parser.add_argument("--dtype", default="float32", help="float32 or float64 (float32)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    model, rollouts, mask_id = build(args), make_rollouts(args), args.vocabulary - 1
    masks = MASKINGS["all"].draw(rollouts, KeyedStreams(0, (), [(row,) for row in range(len(rollouts))]))
    print(
        f"{hardware()}; {args.threads} thread(s), {args.dtype}; {args.rows} completions of {args.blocks} blocks\n"
    )
    print_head(["a pass for each block", "theirs, s", "ours, s", "ratio", "difference"])
    ours = partial(doubled, model, rollouts, masks, mask_id)
    for label, cut in (("whole", False), ("cut", True)):
        theirs = partial(score_by_block, model, rollouts, mask_id, cut)
        slow, fast = medians([theirs, ours], args.rounds, seconds)
        expected = theirs()
        difference = float((ours() - expected).norm() / expected.norm())
        print_row([label, f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.2f}x", f"{difference:.0e}"])


if __name__ == "__main__":
    main()

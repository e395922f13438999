"""Seconds and memory of one SPG training step against the all-positions form of SPG's public code.

Both forms compute the same loss and gradient (forward and backward, mixture, block masks) on the same completions.
The baseline scores every position of every masked copy and keeps the logits; ours scores masked completion tokens
only, a few rows of logits at a time, with the graphs of BATCH masked copies alive. Memory is what a step adds at its
highest point above weights and gradients, in a process of its own, after a small step that loads the libraries' code.
With one thread, seconds are those of the processor, which other processes lengthen less.

    python benchmarks/training_step.py [--rounds 5] [--vocabulary 126464] [--threads 1]
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import hardware, medians, print_head, print_row, seconds, wall_seconds
from torch import Tensor, nn
from transformers import PreTrainedModel

from spg_trainer.algorithms.spg import SPGRepro
from spg_trainer.likelihood import KeyedStreams, Masks, accumulate
from spg_trainer.models import Policy, llada_config
from spg_trainer.tensors import Rows

PROMPT, COMPLETION, BATCH, BLOCK = 64, 128, 6, 32


class Case(NamedTuple):
    """A model, completions of full length, half of them good, and their masks."""

    model: PreTrainedModel
    algorithm: SPGRepro
    rollouts: Rows
    masks: Masks


def make_model(args: argparse.Namespace) -> PreTrainedModel:
    """8 layers, d 512, 8 heads, ffn 1536, float32, with gradients already allocated."""
    torch.manual_seed(0)
    config = llada_config(
        d_model=512,
        n_layers=args.layers,
        n_heads=8,
        n_kv_heads=8,
        mlp_hidden_size=1536,
        max_sequence_length=512,
        vocab_size=args.vocabulary,
        mask_token_id=args.vocabulary - 1,
        eos_token_id=args.vocabulary - 2,
        pad_token_id=args.vocabulary - 2,
    )
    model = config.model_class(config).eval()
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    return model


def make_case(args: argparse.Namespace) -> Case:
    """The same for both forms."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(args.vocabulary - 2, (BATCH, PROMPT + COMPLETION), generator=generator)
    full = torch.ones(BATCH, PROMPT + COMPLETION, dtype=torch.bool)
    rollouts = Rows.full_groups(BATCH // 2, 2).with_columns(
        prompt_ids=ids[:, :PROMPT],
        prompt_mask=full[:, :PROMPT],
        completion_ids=ids[:, PROMPT:],
        completion_mask=full[:, PROMPT:],
        unmask_step=torch.arange(COMPLETION).repeat(BATCH, 1) // 2,
        unmask_logps=torch.zeros(BATCH, COMPLETION),
    )
    block = min(BLOCK, COMPLETION // args.num_masks)  # the reference draws as many different blocks as masks
    algorithm = SPGRepro(num_masks=args.num_masks, block_length=block)
    masks = algorithm.make_masking().draw(
        rollouts, KeyedStreams(0, ("masks",), [(row,) for row in range(BATCH)])
    )
    advantages = torch.tensor([1.0, -1.0] * (BATCH // 2))
    totals = {"completions": float(BATCH), "tokens": float(BATCH * COMPLETION)}
    rollouts = rollouts.with_columns(advantages=advantages, totals=totals)
    return Case(make_model(args), algorithm, rollouts, masks)


def baseline_step(case: Case) -> None:
    """The published computation: one forward of all copies, logits at all positions, two softmaxes, one backward."""
    model, masks, rollouts = case.model, case.masks, case.rollouts
    (batch_size, samples, size), beta, omega = masks.scored.shape, 1.5, 0.5
    ids = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], dim=1)
    shown = ids[:, None].expand(-1, samples, -1).masked_fill(masks.masked, model.config.mask_token_id)
    logits = model(input_ids=shown.flatten(0, 1)).logits.view(batch_size, samples, ids.shape[1], -1)[
        :, :, -size:
    ]
    index = rollouts.completion_ids[:, None, :, None].expand(-1, samples, -1, 1)
    logp = logits.log_softmax(-1).gather(-1, index).squeeze(-1).float()
    prob = logits.softmax(-1).gather(-1, index).squeeze(-1).float()
    scored, n = masks.scored.float(), rollouts.length.float()
    count = scored.sum(-1)
    elbo = ((scored * logp).sum(-1) / count).mean(1)
    y = (prob**beta * scored / (count / n[:, None])[..., None]).mean(1)
    eubo = torch.where(y > 0, y.clamp_min(1e-38).log(), 0.0).sum(-1) / beta / (y > 0).sum(-1)
    bound = torch.where(rollouts.advantages > 0, elbo, omega * eubo + (1 - omega) * elbo)
    ((-rollouts.advantages * bound * n).sum() / n.sum()).backward()


def policy_of(model: nn.Module) -> Policy:
    """A policy whose model and mask are all that is looked at."""
    return Policy(model, None, model.config.mask_token_id, pad_id=0, end_token_ids=(), source="")


def our_step(case: Case, masks_at_once: int = 1) -> None:
    """The trainer's own path, with the graphs of `masks_at_once` times BATCH masked copies alive."""
    accumulate(
        policy_of(case.model),
        case.rollouts,
        case.masks,
        lambda logps: case.algorithm.loss(logps, case.masks, case.rollouts),
        masks_at_once=masks_at_once,
        compares=case.algorithm.compares,
    )


STEPS = {"baseline": baseline_step, "ours": our_step}


def gradient(step: Callable[[Case], None], case: Case) -> Tensor:
    """The whole gradient of one step."""
    case.model.zero_grad(set_to_none=False)
    step(case)
    return torch.cat([p.grad.flatten() for p in case.model.parameters()])


def resident() -> tuple[float, float]:
    """Current and highest resident memory of this process, MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def peak_of(step: Callable[[], object]) -> float:
    """MB above what is resident now at the highest point of `step`."""
    before = resident()[0]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building the model
    step()
    return resident()[1] - before


def measure_peak(script: str, form: str, args: argparse.Namespace, num_masks: int) -> float:
    """`--peak-of` of a benchmark in a process of its own, MB."""
    command = [sys.executable, str(Path(script).resolve()), "--peak-of", form, "--num-masks", str(num_masks)]
    for name in ("vocabulary", "layers", "threads"):
        command += [f"--{name}", str(getattr(args, name))]
    return float(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)


def make_parser(description: str, vocabulary: int) -> argparse.ArgumentParser:
    """The flags that both benchmarks of a step have."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--vocabulary", type=int, default=vocabulary, help=f"tokens ({vocabulary})")
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (8)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (1)")
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--num-masks", type=int, default=2, help=argparse.SUPPRESS)
    return parser


def main() -> None:
    parser = make_parser(__doc__, 126464)
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (5)")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    case = make_case(args)
    if args.peak_of:
        step = STEPS[args.peak_of]
        step(make_case(argparse.Namespace(**{**vars(args), "vocabulary": 512, "layers": 1})))
        print(peak_of(lambda: step(case)))
        return
    peaks = {form: measure_peak(__file__, form, args, args.num_masks) for form in STEPS}
    slow, fast = medians(
        [lambda step=step: step(case) for step in STEPS.values()],
        args.rounds,
        seconds if args.threads == 1 else wall_seconds,
    )
    published, ours = (gradient(step, case) for step in STEPS.values())
    print(
        f"{hardware()}; {args.threads} threads, float32; {args.layers} layers, V {args.vocabulary}, "
        f"batch {BATCH}, prompt {PROMPT}, completion {COMPLETION}; median of {args.rounds}\n"
    )
    print_head(["one step", "all positions", "ours", "ratio"])
    print_row(["seconds", f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.2f}x"])
    print_row(
        ["extra MB", *(f"{peak:.0f}" for peak in peaks.values()), f"{peaks['baseline'] / peaks['ours']:.2f}x"]
    )
    print(
        f"\nrelative difference of the whole gradient: {float((ours - published).norm() / published.norm()):.1e}"
    )


if __name__ == "__main__":
    main()

"""Seconds and memory of one SPG training step against the all-positions form of SPG's public code.

Both forms compute the same loss and gradient (forward and backward, mixture, block masks) on the same completions.
The baseline scores every position of every masked copy and keeps the logits; ours scores masked completion tokens
only, a few rows of logits at a time, with at most one mask's graph alive. Run from a checkout or an installed wheel:

    python benchmarks/training_step.py [--rounds 5] [--vocabulary 126464] [--frozen-head] [--threads 1]
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from spg_trainer.algorithms.spg_repro import SPGRepro
from spg_trainer.batch import Batch, Rollouts
from spg_trainer.likelihood import Masks, accumulate
from spg_trainer.models import LLaDAConfig, LLaDAForMaskedLM
from spg_trainer.seeding import numpy_generator

PROMPT, COMPLETION, BATCH, BLOCK = 64, 128, 6, 32
SPEED_BAR, MEMORY_BAR = 1.8, 4.0


def make_model(vocabulary: int, frozen_head: bool) -> LLaDAForMaskedLM:
    """8 layers, d 512, 8 heads, ffn 1536, float32, with gradients already allocated."""
    torch.manual_seed(0)
    config = LLaDAConfig(
        d_model=512,
        n_layers=8,
        n_heads=8,
        n_kv_heads=8,
        mlp_hidden_size=1536,
        max_sequence_length=512,
        vocab_size=vocabulary,
        mask_token_id=vocabulary - 1,
        eos_token_id=vocabulary - 2,
        pad_token_id=vocabulary - 2,
    )
    model = LLaDAForMaskedLM(config).eval()
    if frozen_head:
        model.get_input_embeddings().weight.requires_grad_(False)
        model.get_output_embeddings().weight.requires_grad_(False)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    return model


def make_case(vocabulary: int, num_masks: int) -> tuple[SPGRepro, Rollouts, Masks, Batch]:
    """Completions of full length, half of them good, and their masks."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(vocabulary - 2, (BATCH, PROMPT + COMPLETION), generator=generator)
    full = torch.ones(BATCH, PROMPT + COMPLETION, dtype=torch.bool)
    rollouts = Rollouts(
        prompt_ids=ids[:, :PROMPT],
        prompt_mask=full[:, :PROMPT],
        completion_ids=ids[:, PROMPT:],
        completion_mask=full[:, PROMPT:],
        unmask_step=torch.arange(COMPLETION).repeat(BATCH, 1) // 2,
        unmask_logps=torch.zeros(BATCH, COMPLETION),
    )
    block = min(BLOCK, COMPLETION // num_masks)  # the reference draws as many different blocks as masks
    algorithm = SPGRepro(num_masks=num_masks, block_length=block)
    masks = algorithm.make_masking().draw(rollouts, lambda row, mask: numpy_generator(0, "masks", row, mask))
    advantages = torch.tensor([1.0, -1.0] * (BATCH // 2))
    totals = {"completions": float(BATCH), "tokens": float(BATCH * COMPLETION)}
    return algorithm, rollouts, masks, Batch(rollouts.completion_mask, advantages, totals)


def baseline_step(model: LLaDAForMaskedLM, rollouts: Rollouts, masks: Masks, batch: Batch) -> float:
    """The published computation: one forward of all copies, logits at all positions, two softmaxes, one backward."""
    (rows, samples, size), beta, omega = masks.scored.shape, 1.5, 0.5
    ids = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], dim=1)
    shown = ids[:, None].expand(-1, samples, -1).masked_fill(masks.masked, model.config.mask_token_id)
    logits = model(input_ids=shown.flatten(0, 1)).logits.view(rows, samples, ids.shape[1], -1)[:, :, -size:]
    index = rollouts.completion_ids[:, None, :, None].expand(-1, samples, -1, 1)
    logp = logits.log_softmax(-1).gather(-1, index).squeeze(-1).float()
    prob = logits.softmax(-1).gather(-1, index).squeeze(-1).float()
    scored, n = masks.scored.float(), batch.length.float()
    count = scored.sum(-1)
    elbo = ((scored * logp).sum(-1) / count).mean(1)
    y = (prob**beta * scored / (count / n[:, None])[..., None]).mean(1)
    eubo = torch.where(y > 0, y.clamp_min(1e-38).log(), 0.0).sum(-1) / beta / (y > 0).sum(-1)
    advantages = batch.advantages
    bound = torch.where(advantages > 0, elbo, omega * eubo + (1 - omega) * elbo)
    loss = (-advantages * bound * n).sum() / n.sum()
    loss.backward()
    return loss.item()


def our_step(
    model: LLaDAForMaskedLM,
    algorithm: SPGRepro,
    rollouts: Rollouts,
    masks: Masks,
    batch: Batch,
    masks_at_once: int,
) -> float:
    """The trainer's own path, with the graphs of `masks_at_once` masks alive."""
    found = accumulate(
        model,
        rollouts,
        masks,
        lambda logps: algorithm.loss(logps, masks, batch),
        mask_id=model.config.mask_token_id,
        masks_at_once=masks_at_once,
    )
    return found.loss.item()


def make_step(
    form: str, vocabulary: int, frozen_head: bool, num_masks: int
) -> tuple[torch.nn.Module, Callable[[], float]]:
    """A model, and a function that adds one step's gradient to it and returns the loss."""
    model = make_model(vocabulary, frozen_head)
    algorithm, rollouts, masks, batch = make_case(vocabulary, num_masks)
    if form == "baseline":
        return model, lambda: baseline_step(model, rollouts, masks, batch)
    masks_at_once = num_masks if form == "one_pass" else 1
    return model, lambda: our_step(model, algorithm, rollouts, masks, batch, masks_at_once)


def gradients(model: torch.nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


def measure_speed(arguments: argparse.Namespace) -> dict[str, float]:
    """Median seconds of both forms, taken in turns on one model, and the relative difference of their gradients."""
    model = make_model(arguments.vocabulary, arguments.frozen_head)
    algorithm, rollouts, masks, batch = make_case(arguments.vocabulary, 2)
    steps = {
        "baseline": lambda: baseline_step(model, rollouts, masks, batch),
        "ours": lambda: our_step(model, algorithm, rollouts, masks, batch, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    found: dict[str, Tensor] = {}
    for number in range(arguments.rounds):
        for name, step in steps.items():
            model.zero_grad(set_to_none=False)
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
            if number == 0:
                found[name] = gradients(model)
        if number == 0:
            difference = float((found["ours"] - found["baseline"]).norm() / found["baseline"].norm())
            found.clear()
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {**medians, "difference": difference}


def resident() -> tuple[float, float]:
    """Current and highest resident memory of this process, MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return tuple(int(fields[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))


def peak_of_step(form: str, vocabulary: int, frozen_head: bool, num_masks: int) -> float:
    """MB above weights and gradients at the highest point of one step, in this process."""
    return peak_of(make_step(form, vocabulary, frozen_head, num_masks)[1])


def peak_of(step: Callable[[], object]) -> float:
    """MB above what is resident now at the highest point of `step`."""
    before = resident()[0]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of building the model
    step()
    return resident()[1] - before


def measure_peak(
    form: str, arguments: argparse.Namespace, num_masks: int = 2, script: str = "training_step.py"
) -> float:
    """The same in a process of its own, MB. script: which of the benchmarks knows the form."""
    flags = ["--frozen-head"] if arguments.frozen_head else []
    command = [
        sys.executable,
        str(Path(__file__).with_name(script)),
        "--peak-of",
        form,
        "--num-masks",
        str(num_masks),
        *flags,
    ]
    command += ["--vocabulary", str(arguments.vocabulary), "--threads", str(arguments.threads)]
    return float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


def parser(description: str) -> argparse.ArgumentParser:
    """The flags that this and the memory curve share."""
    result = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("--vocabulary", type=int, default=126464)
    result.add_argument(
        "--frozen-head", action="store_true", help="train neither embeddings nor output layer"
    )
    result.add_argument("--threads", type=int, default=1)
    result.add_argument("--peak-of", help=argparse.SUPPRESS)
    result.add_argument("--num-masks", type=int, default=2, help=argparse.SUPPRESS)
    return result


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--rounds", type=int, default=5, help="timed rounds of each form")
    given = flags.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of:
        print(peak_of_step(given.peak_of, given.vocabulary, given.frozen_head, given.num_masks))
        return
    peaks = {form: measure_peak(form, given) for form in ("baseline", "ours")}
    speed = measure_speed(given)
    print(f"V {given.vocabulary}, frozen head {given.frozen_head}, median of {given.rounds}")
    print(f"{'':10}{'seconds':>10}{'extra MB':>10}")
    for form in ("baseline", "ours"):
        print(f"{form:10}{speed[form]:>10.2f}{peaks[form]:>10.0f}")
    faster, smaller = speed["baseline"] / speed["ours"], peaks["baseline"] / peaks["ours"]
    print(f"{'ratio':10}{faster:>9.2f}x{smaller:>9.2f}x   bars {SPEED_BAR}x and {MEMORY_BAR}x at V 126464")
    print(f"relative difference of the whole gradient: {speed['difference']:.1e}")


if __name__ == "__main__":
    main()

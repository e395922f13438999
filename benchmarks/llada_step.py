"""One full training step at LLaDA-8B's shape: rollout, then SPG's update with LoRA, on random weights.

Prints seconds and peak memory of the rollout and of the update (masks, bounds, backward, clipping, AdamW). The baseline
of both is the same model in a plain loop: a forward pass of every row at each denoising step, and forward and backward
of every masked copy, with logits at all positions. The weights are random, so no text ever ends: every completion has
its full length, the worst case. The defaults need a GPU of 80 GB; smaller shapes run in seconds on a CPU:

    python benchmarks/llada_step.py [--batch 8] [--gradient-checkpointing]
    python benchmarks/llada_step.py --device cpu --dtype float32 --layers 2 --hidden-size 128 --vocabulary 512 \\
        --prompt-length 16 --completion-length 32 --batch 2 --lora-r 4
"""

import argparse
import resource
import statistics
from collections.abc import Callable

import torch
from measuring import hardware, print_head, print_row, wall_seconds
from torch import Tensor
from transformers import AutoModelForMaskedLM

from spg_trainer.algorithms.spg import SPG
from spg_trainer.batch import Batch, Rollouts
from spg_trainer.likelihood import accumulate
from spg_trainer.models import LLaDAConfig, Policy, tiny_tokenizer
from spg_trainer.models.lora import add_lora
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import generator, numpy_generator
from spg_trainer.settings.fields import Sampling
from spg_trainer.training.update import micro_batch_size

HEAD_DIM, BLOCK, NUM_MASKS = 128, 32, 2


def make_policy(given: argparse.Namespace) -> Policy:
    """LLaDA's architecture with random weights, made on the device in its dtype, under fresh adapters."""
    heads = max(1, given.hidden_size // HEAD_DIM)
    config = LLaDAConfig(
        d_model=given.hidden_size,
        n_layers=given.layers,
        n_heads=heads,
        n_kv_heads=heads,
        mlp_hidden_size=3 * given.hidden_size,
        max_sequence_length=max(4096, given.prompt_length + given.completion_length),
        vocab_size=given.vocabulary,
        mask_token_id=given.vocabulary - 1,
        eos_token_id=given.vocabulary - 2,
        pad_token_id=given.vocabulary - 2,
    )
    torch.manual_seed(0)
    with torch.device(given.device):
        model = AutoModelForMaskedLM.from_config(config, dtype=getattr(torch, given.dtype))
    model = add_lora(model, r=given.lora_r, alpha=given.lora_r // 2, dropout=0.0, seed=0, base="random")
    if given.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    return Policy(
        model=model.train(),
        tokenizer=tiny_tokenizer(),
        mask_id=config.mask_token_id,
        pad_id=config.pad_token_id,
        end_token_ids=(),
        source="random weights",
    )


def write(policy: Policy, given: argparse.Namespace, number: int) -> Rollouts:
    """Completions of random prompts, half to all of the prompt's width long and padded on the left."""
    stream = torch.Generator().manual_seed(number)
    shape = (given.batch, given.prompt_length)
    ids = torch.randint(given.vocabulary - 2, shape, generator=stream)
    lengths = torch.randint(
        (given.prompt_length + 1) // 2, given.prompt_length + 1, shape[:1], generator=stream
    )
    real = torch.arange(given.prompt_length) >= given.prompt_length - lengths[:, None]
    block = min(BLOCK, given.completion_length)
    sampling = Sampling(given.completion_length, block, given.diffusion_steps, given.temperature)
    noise = [generator(0, "rollout", number, row, device=policy.device) for row in range(given.batch)]
    return sample_completions(policy, ids.masked_fill(~real, policy.pad_id), real, sampling, noise)


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollouts: Rollouts,
    given: argparse.Namespace,
    number: int,
) -> float:
    """One optimizer step on completions that are good and bad in turns. Returns the gradient's norm."""
    algorithm = SPG(num_masks=NUM_MASKS, block_length=min(BLOCK, given.completion_length))
    masks = algorithm.make_masking().draw(
        rollouts, lambda row, mask: numpy_generator(0, "masks", number, row, mask)
    )
    device = rollouts.completion_ids.device
    advantages = torch.tensor([(-1.0) ** row for row in range(given.batch)], device=device)
    totals = {"completions": float(given.batch), "tokens": float(rollouts.completion_mask.sum())}
    size, masks_at_once = micro_batch_size(given.per_device_batch_size, NUM_MASKS)
    for rows in torch.arange(given.batch, device=device).split(size):
        chosen, some = rollouts.select(rows), masks.select(rows)
        batch = Batch(chosen.completion_mask, advantages[rows], totals)
        accumulate(
            policy.model,
            chosen,
            some,
            lambda logps, some=some, batch=batch: algorithm.loss(logps, some, batch),
            mask_id=policy.mask_id,
            masks_at_once=masks_at_once,
        )
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = torch.nn.utils.clip_grad_norm_(trained, 0.2)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(norm)


def plain_rollout(policy: Policy, ids: Tensor, given: argparse.Namespace) -> None:
    """As many forward passes as the rollout has denoising steps."""
    with torch.no_grad():
        for _ in range(given.diffusion_steps):
            policy.model(input_ids=ids)


def plain_update(policy: Policy, ids: Tensor, given: argparse.Namespace) -> None:
    """Forward and backward of each masked copy, as many at once as have a live graph."""
    copies = ids.repeat(NUM_MASKS, 1)
    for rows in copies.split(given.per_device_batch_size):
        logits = policy.model(input_ids=rows).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), rows.flatten()).backward()
    policy.model.zero_grad(set_to_none=True)


def measure(device: torch.device, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds and highest memory of some work, GiB: allocated on the GPU meanwhile, or resident so far."""
    if device.type != "cuda":
        return wall_seconds(work), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux

    def synchronized() -> None:
        work()
        torch.cuda.synchronize(device)

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return wall_seconds(synchronized), torch.cuda.max_memory_allocated(device) / 2**30


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden-size", type=int, default=4096, help="a multiple of 128, or less than 256")
    parser.add_argument("--vocabulary", type=int, default=126464)
    parser.add_argument("--prompt-length", type=int, default=256)
    parser.add_argument("--completion-length", type=int, default=256, help="a multiple of 32, or less")
    parser.add_argument("--diffusion-steps", type=int, help="default: one per two tokens")
    parser.add_argument("--temperature", type=float, default=0.9)
    parser.add_argument("--batch", type=int, default=8, help="completions per step")
    parser.add_argument(
        "--per-device-batch-size", type=int, default=2, help="(completion, mask) pairs with a live graph"
    )
    parser.add_argument("--lora-r", type=int, default=128)
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float32"])
    parser.add_argument("--rounds", type=int, default=3, help="timed steps, after one that is not")
    given = parser.parse_args()
    given.diffusion_steps = given.diffusion_steps or given.completion_length // 2
    return given


def main() -> None:
    given = arguments()
    policy = make_policy(given)
    trained = [weight for weight in policy.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-6, betas=(0.9, 0.99), weight_decay=0.1)
    weights, adapters = (sum(w.numel() for w in group) for group in (policy.model.parameters(), trained))
    print(
        f"{hardware(given.device)}; {weights / 1e6:,.2f} M weights, {adapters / 1e6:.2f} M trained; {given.dtype}; "
        f"batch {given.batch}, prompt {given.prompt_length}, completion {given.completion_length} in "
        f"{given.diffusion_steps} steps, M = {NUM_MASKS}, {given.per_device_batch_size} live; "
        f"median of {given.rounds}\n"
    )
    state: dict[str, Rollouts | float] = {}
    shape = (given.batch, given.prompt_length + given.completion_length)
    ids = torch.randint(given.vocabulary - 2, shape, device=policy.device)
    works = {
        "plain rollout": lambda number: plain_rollout(policy, ids, given),
        "rollout": lambda number: state.update(rollouts=write(policy, given, number)),
        "plain update": lambda number: plain_update(policy, ids, given),
        "update": lambda number: state.update(
            norm=update(policy, optimizer, state["rollouts"], given, number)
        ),
    }
    measured: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(given.rounds + 1):
        for name, work in works.items():
            measured[name].append(measure(policy.device, lambda work=work, n=number: work(n)))
    # The first round compiles kernels and allocates the optimizer's state.
    seconds = {name: statistics.median(took for took, _ in rounds[1:]) for name, rounds in measured.items()}
    print_head(["part", "plain loop, s", "ours, s", "ratio", "completion tokens/s", "peak, GiB"])
    for name in ("rollout", "update"):
        slow, fast = seconds[f"plain {name}"], seconds[name]
        rate = given.batch * given.completion_length / fast
        peak = max(peak for _, peak in measured[name])
        print_row([name, f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.2f}x", f"{rate:.1f}", f"{peak:.2f}"])
    print(f"\ngradient norm of the last update: {state['norm']:.2e}")


if __name__ == "__main__":
    main()

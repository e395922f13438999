"""One full training step at LLaDA-8B's shape: rollout, then SPG's update of adapters or all weights, on random weights.

Prints seconds, completion tokens a second, MFU and peak memory of the rollout and of the update (masks, bounds,
backward, clipping, AdamW). The baseline of both is the same model in a plain loop: a forward pass of every row at each
denoising step, and forward and backward of every masked copy, with logits at all positions. The weights are random, so
no text ever ends: every completion has its full length, the worst case. No token is likely, either: a threshold unmasks
one token a pass, unless it is low. The defaults need a GPU of 80 GB; smaller shapes run in seconds on a CPU:

    python benchmarks/llada_step.py [--batch 8] [--gradient-checkpointing] [--cache dual] [--lora-r 0 --layers 8]
    python benchmarks/llada_step.py --batch 96 --prompt-length 200 --parts update --no-plain
    torchrun --nproc-per-node 8 benchmarks/llada_step.py --shard layer --lora-r 0 --no-plain
    python benchmarks/llada_step.py --device cpu --layers 2 --hidden-size 128 --vocabulary 512 \\
        --prompt-length 16 --completion-length 32 --batch 2 --lora-r 4

MFU is the share of the device's peak (--peak-tflops) that the model's own arithmetic takes. Of a rollout it is what the
passes compute, as torch counts it; of an update two operations for each weight of a layer and column, four for each
pair of columns and dimension, the head at scored tokens; twice that for the backward pass, once where weights are
frozen. What is computed a second time is not counted, nor are adapters.

With --shard every process has a batch of its own and a part of the weights: seconds and peak are those of the slowest
and the fullest, tokens a second those of all, MFU that of one.
"""

import argparse
import gc
import statistics
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch
from measuring import hardware, print_head, print_row, wall_seconds
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count
from training_step import resident
from transformers import AutoModelForMaskedLM

from spg_trainer.algorithms.spg import SPG
from spg_trainer.cli import leave_processes
from spg_trainer.distributed import gather, join, rank, world_size
from spg_trainer.estimate.memory import micro_batch_size
from spg_trainer.likelihood import KeyedStreams, Masks, accumulate
from spg_trainer.likelihood.logps import chunks_to_keep, rows_per_chunk
from spg_trainer.models import Policy, llada_config, tiny_tokenizer
from spg_trainer.models.cuda_graphs import Replays
from spg_trainer.models.load import divide_policy
from spg_trainer.models.lora import add_lora
from spg_trainer.models.shard import keep_wider, unsharded
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.tensors import Rows
from spg_trainer.training.optimize import clip_gradients, sum_gradients

HEAD_DIM, BLOCK, NUM_MASKS = 128, 32, 2
PEAK = {"bfloat16": 989.0, "float32": 67.0}
"""TFLOP/s of an H100 or H200 (SXM) by its data sheet: bfloat16 without sparsity, float32 without tensor cores."""
DECODING = [f for f in fields(Sampling) if f.name not in ("max_completion_length", "block_length")]
"""What else says how completions are decoded: a flag each."""


def make_policy(args: argparse.Namespace) -> Policy:
    """LLaDA's architecture with random weights, made on the device in its dtype, under fresh adapters or none."""
    heads = max(1, args.hidden_size // HEAD_DIM)
    config = llada_config(
        d_model=args.hidden_size,
        n_layers=args.layers,
        n_heads=heads,
        n_kv_heads=heads,
        mlp_hidden_size=3 * args.hidden_size,
        max_sequence_length=max(4096, args.prompt_length + args.completion_length),
        vocab_size=args.vocabulary,
        mask_token_id=args.vocabulary - 1,
        eos_token_id=args.vocabulary - 2,
        pad_token_id=args.vocabulary - 2,
    )
    torch.manual_seed(0)
    with torch.device(args.device):
        trained = "float32" if not args.lora_r else args.dtype
        model = AutoModelForMaskedLM.from_config(config, dtype=getattr(torch, trained))
    if trained != args.dtype and not args.shard:
        keep_wider(model, getattr(torch, args.dtype))
    if args.lora_r:
        model = add_lora(model, r=args.lora_r, alpha=args.lora_r // 2, dropout=0.0, seed=0, base="random")
    if args.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    policy = Policy(
        model=model,
        tokenizer=tiny_tokenizer(),
        mask_id=config.mask_token_id,
        pad_id=config.pad_token_id,
        end_token_ids=(),
        source="random weights",
        replays=Replays() if args.rollout_graphs == "auto" else None,
    )
    if args.shard:
        divide_policy(policy, ModelConfig(shard=args.shard, dtype=args.dtype), args.device)
    return policy


def make_prompts(policy: Policy, args: argparse.Namespace, number: int) -> tuple[Tensor, Tensor]:
    """Random prompts and their masks, half to all of the width long and padded on the left."""
    stream = torch.Generator().manual_seed(number)
    shape = (args.batch, args.prompt_length)
    ids = torch.randint(args.vocabulary - 2, shape, generator=stream)
    lengths = torch.randint(
        (args.prompt_length + 1) // 2, args.prompt_length + 1, shape[:1], generator=stream
    )
    real = torch.arange(args.prompt_length) >= args.prompt_length - lengths[:, None]
    return ids.masked_fill(~real, policy.pad_id), real


def write(policy: Policy, args: argparse.Namespace, number: int) -> Rows:
    """Completions of random prompts."""
    decoding = {f.name: getattr(args, f.name) for f in DECODING}
    sampling = Sampling(args.completion_length, min(BLOCK, args.completion_length), **decoding)
    noise = [generator(0, "rollout", number, row, device=policy.device) for row in range(args.batch)]
    rows_per_forward = args.rows_per_forward or None
    with unsharded(policy.model):
        return sample_completions(
            policy, *make_prompts(policy, args, number), sampling, noise, rows_per_forward=rows_per_forward
        )


def invent(policy: Policy, args: argparse.Namespace, number: int) -> Rows:
    """Random tokens as completions of the same prompts, where no rollout is measured."""
    ids, real = (column.to(policy.device) for column in make_prompts(policy, args, number))
    shape = (args.batch, args.completion_length)
    tokens = torch.randint(args.vocabulary - 2, shape, generator=torch.Generator().manual_seed(number))
    tokens = tokens.to(policy.device)
    every = torch.ones_like(tokens, dtype=torch.bool)
    return Rows(
        prompt_ids=ids,
        prompt_mask=real,
        completion_ids=tokens,
        completion_mask=every,
        unmask_step=torch.zeros_like(tokens),
        unmask_logps=torch.zeros(shape, device=policy.device),
    )


def update(
    policy: Policy,
    optimizer: torch.optim.Optimizer,
    rollouts: Rows,
    args: argparse.Namespace,
    number: int,
) -> tuple[float, Masks]:
    """One optimizer step on completions that are good and bad in turns. Returns the gradient's norm and the masks."""
    policy.model.train()  # activations are computed again in training alone
    algorithm = SPG(num_masks=NUM_MASKS, block_length=min(BLOCK, args.completion_length))
    masks = algorithm.make_masking().draw(
        rollouts, KeyedStreams(0, ("masks", number), [(row,) for row in range(args.batch)])
    )
    device = rollouts.completion_ids.device
    signs = [(-1.0) ** row for row in range(args.batch)]
    advantages = torch.tensor(signs, dtype=torch.float64, device=device)
    completions = args.batch * world_size()
    totals = {"completions": float(completions), "tokens": float(completions * args.completion_length)}
    places = Rows.full_groups(args.batch, 1, advantages=advantages, totals=totals).to(device)
    rollouts = rollouts.with_columns(**vars(places))
    size, masks_at_once = micro_batch_size(args.per_device_batch_size, NUM_MASKS)
    with unsharded(policy.model):
        for index in torch.arange(args.batch).split(size):
            chosen, some = rollouts.select(index), masks.select(index)
            accumulate(
                policy,
                chosen,
                some,
                lambda logps, some=some, chosen=chosen: algorithm.loss(logps, some, chosen),
                masks_at_once=masks_at_once,
            )
        sum_gradients(policy.model)
    trained = [weight for group in optimizer.param_groups for weight in group["params"]]
    norm = clip_gradients(trained, 0.2)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, masks


def plain_rollout(policy: Policy, ids: Tensor, args: argparse.Namespace) -> None:
    """As many forward passes as the schedule has denoising steps."""
    policy.model.eval()
    with torch.no_grad():
        for _ in range(args.diffusion_steps):
            policy.model(input_ids=ids)


def plain_update(policy: Policy, ids: Tensor, args: argparse.Namespace) -> None:
    """Forward and backward of each masked copy, as many at once as have a live graph."""
    policy.model.train()
    copies = ids.repeat(NUM_MASKS, 1)
    for ids_of_part in copies.split(args.per_device_batch_size):
        logits = policy.model(input_ids=ids_of_part).logits
        torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids_of_part.flatten()).backward()
    policy.model.zero_grad(set_to_none=True)


def forward_flops(args: argparse.Namespace, num_rows: int, columns: int, scored: float) -> float:
    """Of `num_rows` sequences of `columns` tokens, with logits at `scored` positions in all."""
    layer = (4 + 3 * 3) * args.hidden_size**2 * 2 + 4 * columns * args.hidden_size
    return num_rows * columns * args.layers * layer + scored * 2 * args.hidden_size * args.vocabulary


def update_flops(args: argparse.Namespace, masks: Masks) -> float:
    """Of forward and backward passes of all masked copies; the last layer's queries at scored tokens alone.

    Where the output layer learns, the logits of all chunks of a micro-batch but the last ones, which are kept, are
    computed twice.
    """
    num_rows, columns, scored = args.batch * NUM_MASKS, masks.masked.shape[-1], float(masks.scored.sum())
    query = (2 + 3 * 3) * args.hidden_size**2 * 2 + 4 * columns * args.hidden_size
    forward = forward_flops(args, num_rows, columns, scored) - (num_rows * columns - scored) * query
    if args.lora_r:
        return 2 * forward
    size, _ = micro_batch_size(args.per_device_batch_size, NUM_MASKS)
    chunk = rows_per_chunk(args.vocabulary)
    scored_at_once = masks.scored.flatten(1).sum(-1).split(size)
    bytes_of_head = getattr(torch, args.dtype).itemsize * args.hidden_size * args.vocabulary
    keep = chunks_to_keep(bytes_of_head, args.vocabulary)
    chunks = [-(-int(count.sum()) // chunk) for count in scored_at_once]
    computed_twice = sum(max(0, number - keep) * chunk for number in chunks)
    return 3 * forward + computed_twice * 2 * args.hidden_size * args.vocabulary


def counted(work: Callable[[], object]) -> float:
    """Operations of some work's matrix products, forward and backward."""

    def attention(query: tuple, key: tuple, value: tuple, *_: object, **__: object) -> int:
        return sdpa_flop_count(query, key, value)

    # torch counts the attention of a GPU alone.
    here = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention}
    with FlopCounterMode(display=False, custom_mapping=here) as counter:
        work()
    return counter.get_total_flops()


def measure(device: torch.device, work: Callable[[], object]) -> tuple[float, float]:
    """Seconds and highest memory of some work, GiB: allocated on the GPU meanwhile, or resident on Linux."""
    if device.type != "cuda":
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
        return wall_seconds(work), resident()[1] / 1024

    def synchronized() -> None:
        work()
        torch.cuda.synchronize(device)

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    return wall_seconds(synchronized), torch.cuda.max_memory_allocated(device) / 2**30


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    """words: None = those of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--hidden-size", type=int, default=4096, help="a multiple of 128, or less than 256")
    parser.add_argument("--vocabulary", type=int, default=126464)
    parser.add_argument("--prompt-length", type=int, default=256)
    parser.add_argument("--completion-length", type=int, default=256, help="a multiple of 32, or less")
    decoding = parser.add_argument_group("decoding", "as the flags of training")
    for field in DECODING:
        kind = int if field.default is None else type(field.default)
        decoding.add_argument(f"--{field.name.replace('_', '-')}", type=kind, default=field.default)
    parser.set_defaults(diffusion_steps=0, temperature=0.9)
    parser.add_argument("--batch", type=int, default=8, help="completions per step")
    parser.add_argument(
        "--per-device-batch-size", type=int, default=2, help="(completion, mask) pairs with a live graph"
    )
    parser.add_argument("--rows-per-forward", type=int, default=0, help="of a rollout; 0 = all, on a CPU few")
    parser.add_argument("--rollout-graphs", choices=["auto", "none"], default="auto")
    parser.add_argument("--lora-r", type=int, default=128, help="0 = train all weights")
    parser.add_argument("--gradient-checkpointing", action="store_true")
    parser.add_argument(
        "--shard", choices=["phase", "layer"], help="divide the weights among torchrun's processes"
    )
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument(
        "--dtype",
        choices=["bfloat16", "float32"],
        help="of a pass; default: bfloat16 on a GPU, else float32, as in training",
    )
    parser.add_argument("--parts", nargs="+", choices=["rollout", "update"], default=["rollout", "update"])
    parser.add_argument("--no-plain", action="store_true", help="leave out the baseline")
    parser.add_argument("--peak-tflops", type=float, help="default: an H100's or H200's; on a CPU none")
    parser.add_argument("--rounds", type=int, default=3, help="timed steps, after one that is not")
    args = parser.parse_args(words)
    on_gpu = torch.device(args.device).type == "cuda"
    args.dtype = args.dtype or ("bfloat16" if on_gpu else "float32")
    if args.shard and not args.no_plain:
        parser.error("--shard: the plain loop has all weights. Use --no-plain")
    args.peak_tflops = args.peak_tflops or (PEAK[args.dtype] if on_gpu else None)
    args.diffusion_steps = args.diffusion_steps or args.completion_length // 2
    return args


def main() -> None:
    args = arguments()
    if accelerator := join(args.device):
        args.device = str(accelerator.device)
    policy = make_policy(args)
    trained = [weight for weight in policy.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-6, betas=(0.9, 0.99), weight_decay=0.1)
    weights, moving = (sum(w.numel() for w in group) for group in (policy.model.parameters(), trained))
    chosen = [f"{f.name} {getattr(args, f.name)}" for f in DECODING if getattr(args, f.name) != f.default]
    peak = f"MFU of {args.peak_tflops:g} TFLOP/s" if args.peak_tflops else "no MFU without --peak-tflops"
    divided = f"; divided among {world_size()} processes by {args.shard}" if args.shard else ""
    head = (
        f"{hardware(args.device)}; {weights / 1e6:,.2f} M weights, {moving / 1e6:.2f} M trained; {args.dtype}; "
        f"batch {args.batch}, prompt {args.prompt_length}, completion {args.completion_length}, "
        f"{', '.join(chosen)}; M = {NUM_MASKS}, {args.per_device_batch_size} live; median of {args.rounds}; "
        f"{peak}{divided}\n"
    )
    rollouts, norm, flops = invent(policy, args, 0), 0.0, {}

    def rollout(number: int) -> None:
        nonlocal rollouts
        rollouts = write(policy, args, number)

    def one_update(number: int) -> None:
        nonlocal norm
        norm, masks = update(policy, optimizer, rollouts, args, number)
        flops["update"] = update_flops(args, masks)

    shape = (args.batch, args.prompt_length + args.completion_length)
    ids = torch.randint(args.vocabulary - 2, shape, device=policy.device)
    works = {"rollout": rollout, "update": one_update}
    plain = {"rollout": plain_rollout, "update": plain_update}
    seconds: dict[tuple[str, str], list[float]] = {}
    peaks: dict[str, float] = {}
    for number in range(args.rounds + 1):
        for part in args.parts:
            forms = {"ours": lambda part=part, n=number: works[part](n)}
            if not args.no_plain:
                forms = {"plain": lambda part=part: plain[part](policy, ids, args), **forms}
            for form, work in forms.items():
                if number == 0 and (part, form) == ("rollout", "ours"):
                    flops["rollout"] = counted(work)
                    continue
                took, memory = (max(gather([figure])) for figure in measure(policy.device, work))
                if number:  # the first round compiles kernels and allocates the optimizer's state
                    seconds.setdefault((part, form), []).append(took)
                    if form == "ours":
                        peaks[part] = max(peaks.get(part, 0.0), memory)
    if rank() == 0:
        print(head)
        print_table(args, seconds, peaks, flops)
        if "update" in args.parts:
            print(f"\ngradient norm of the last update: {norm:.2e}")
    leave_processes()


def print_table(
    args: argparse.Namespace,
    seconds: dict[tuple[str, str], list[float]],
    peaks: dict[str, float],
    flops: dict[str, float],
) -> None:
    """A line for each part of a step. seconds: of (part, form), a number for each round."""
    print_head(["part", "plain loop, s", "ours, s", "ratio", "completion tokens/s", "MFU", "peak, GiB"])
    for part in args.parts:
        fast = statistics.median(seconds[part, "ours"])
        slow = None if args.no_plain else statistics.median(seconds[part, "plain"])
        baseline = (
            ["", f"{fast:.2f}", ""] if slow is None else [f"{slow:.2f}", f"{fast:.2f}", f"{slow / fast:.2f}x"]
        )
        used = f"{flops[part] / fast / args.peak_tflops / 1e12:.1%}" if args.peak_tflops else ""
        rate = world_size() * args.batch * args.completion_length / fast
        print_row([part, *baseline, f"{rate:.1f}", used, f"{peaks[part]:.2f}"])


if __name__ == "__main__":
    main()

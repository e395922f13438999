"""Peak memory of an update as the number of masks grows: one pass against the constant memory of each algorithm.

Each figure is the memory above weights and gradients at the highest point of one step (forward, loss, backward), in a
process of its own. Shapes and model are those of training_step.py, with a vocabulary of 4096 by default, so that
activations rather than logits set the scale. The baseline holds the graphs of all masks at once (spg_repro).

    python benchmarks/memory.py [--masks 2 4 8 16] [--algorithms spg wd1 ...] [--vocabulary 4096] [--threads 1]

With --estimate, what `--dry-run` foretells (spg_trainer/estimate/memory.py) against the highest memory of a second
whole step, optimizer included, above that of the process before it had a model:

    python benchmarks/memory.py --estimate
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import hardware, print_head, print_row
from training_step import (
    BATCH,
    COMPLETION,
    Case,
    make_case,
    make_parser,
    measure_peak,
    our_step,
    peak_of,
    policy_of,
    resident,
)
from transformers import PreTrainedConfig

from spg_trainer.algorithms import build
from spg_trainer.estimate.memory import step_memory
from spg_trainer.likelihood import KeyedStreams, accumulate
from spg_trainer.models import Policy, llada_config, tiny_tokenizer
from spg_trainer.models.lora import add_lora
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import generator
from spg_trainer.settings.configs import BatchConfig, Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.model import ModelConfig
from spg_trainer.tensors import Rows
from spg_trainer.training.update import gradient, plan_updates

BASELINE = "all graphs at once"
ALGORITHMS = "spg raft diffu_grpo wd1 unigrpo gdpo bgpo espo justgrpo vrpo".split()
ALGORITHMS += "agrpo d2_stepmerge cj_grpo tracerl coupled_grpo stabledrl maxrl".split()
CLEAN = ("justgrpo", "vrpo", "agrpo", "cj_grpo", "tracerl")
"""Those that show the whole prompt."""
PROMPT = 64


class Foretold(NamedTuple):
    """What is estimated and measured: settings, and a model of width 512."""

    model: ModelConfig
    vocabulary: int = 4096
    layers: int = 8
    rows_per_forward: int = 0
    """Above 0, it is a rollout of so many rows that is measured."""


FORETOLD = {
    "all weights": Foretold(ModelConfig(dtype="float32")),
    "LoRA": Foretold(ModelConfig(dtype="float32", lora_r=16)),
    "LoRA, bfloat16": Foretold(ModelConfig(dtype="bfloat16", lora_r=16)),
    "checkpointing": Foretold(ModelConfig(dtype="float32", gradient_checkpointing=True)),
    "vocabulary 126464": Foretold(ModelConfig(dtype="float32"), 126464, 2),
    "rollout": Foretold(ModelConfig(dtype="float32"), 4096, 2, 16),
    "rollout, vocabulary 126464": Foretold(ModelConfig(dtype="float32"), 126464, 2, 8),
}


def update(name: str, case: Case, num_masks: int) -> None:
    """Adds the gradient of one update by an algorithm, one mask's graph at a time."""
    rollouts = case.rollouts
    count = num_masks + (name == "coupled_grpo")  # one full mask and pairs
    settings = {"num_masks": count, "p_mask_prompt": 0.0 if name in CLEAN else 0.15}
    algorithm = build(name, {**settings, "block_length": 8})
    masks = algorithm.make_masking().draw(rollouts, KeyedStreams(0, ("masks",), rollouts.noise_keys()))
    logps = torch.full(masks.scored.shape, -2.0).masked_fill(~masks.scored, 0.0)
    totals = {**rollouts.totals, "scored_completions": float(BATCH)}
    rewards = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(BATCH // 2)
    prepared = algorithm.prepare(rollouts.with_columns(rewards=rewards))
    batch = rollouts.with_columns(
        **{**prepared, "advantages": rollouts.advantages}, totals=totals, old_logps=logps, ref_logps=logps
    )
    accumulate(
        policy_of(case.model),
        rollouts,
        masks,
        lambda logps: algorithm.loss(logps, masks, batch),
        masks_at_once=1,
        compares=algorithm.compares,
    )


def settings_of(case: Foretold) -> Config:
    """Eight completions a step, four (completion, mask) sequences with a live graph."""
    num_rows = case.rows_per_forward
    batch = BatchConfig(max(4, num_rows // 2), 2, per_device_batch_size=max(4, num_rows // 4))
    return Config(model=case.model, rollout=Sampling(128, 32, 8, 1.0), batch=batch)


def shape_of(case: Foretold) -> PreTrainedConfig:
    """8 heads, feed-forward width 1536."""
    mask, end = case.vocabulary - 1, case.vocabulary - 2
    tokens = {"mask_token_id": mask, "eos_token_id": end, "pad_token_id": end, "vocab_size": case.vocabulary}
    return llada_config(
        d_model=512, n_layers=case.layers, n_heads=8, mlp_hidden_size=1536, max_sequence_length=512, **tokens
    )


def foretell(case: Foretold) -> float:
    """The estimate of a case, MB."""
    config = settings_of(case)
    algorithm = build("spg", {"block_length": 32})
    threads = 0 if case.rows_per_forward else torch.get_num_threads()
    words = {"dtype": case.model.dtype, "prompt_length": PROMPT, "cpu_threads": threads}
    result = step_memory(shape_of(case), config, algorithm, **words)
    weights = result.held["weights"] + sum(result.rollout.values())  # no optimizer is made for it here
    return (weights if case.rows_per_forward else result.update_peak) / 2**20


def observe(case: Foretold) -> float:
    """The highest memory of a case above that of this process before it has a model, MB."""
    prepare_step(case._replace(vocabulary=64, layers=1))()  # what the first step of any size loads
    before = resident()[0]
    step = prepare_step(case)
    step()
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    step()
    return resident()[1] - before


def prepare_step(case: Foretold) -> Callable[[], object]:
    """A model, and a rollout or an update with it that is ready to be called."""
    config, shape = settings_of(case), shape_of(case)
    torch.set_default_dtype(getattr(torch, case.model.dtype))
    model = shape.model_class(shape).eval()
    torch.set_default_dtype(torch.float32)
    if case.model.lora_r:
        model = add_lora(model, r=case.model.lora_r, alpha=8, dropout=0.0, seed=0, base="random")
    if case.model.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    policy = Policy(model, tiny_tokenizer(), shape.mask_token_id, shape.pad_token_id, (), "random weights")
    num_rows = config.batch.prompts_per_step * config.batch.num_generations
    length = config.rollout.max_completion_length
    ids = torch.randint(shape.pad_token_id, (num_rows, PROMPT + length), generator=generator(0, "ids"))
    real = torch.ones_like(ids, dtype=torch.bool)
    real[::2, :8] = False  # some padding
    prompt_ids, prompt_mask = ids[:, :PROMPT], real[:, :PROMPT]
    if case.rows_per_forward:
        chosen = slice(case.rows_per_forward)
        streams = [generator(0, "noise", row) for row in range(case.rows_per_forward)]
        return lambda: sample_completions(
            policy,
            prompt_ids[chosen],
            prompt_mask[chosen],
            config.rollout,
            streams,
            rows_per_forward=case.rows_per_forward,
        )
    steps = torch.zeros(num_rows, length, dtype=torch.int64)
    completion_mask = real[:, PROMPT:]
    totals = {
        "completions": float(num_rows),
        "tokens": float(num_rows * length),
        "scored_completions": float(num_rows),
    }
    step = Rows.full_groups(num_rows // 2, 2).with_columns(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=ids[:, PROMPT:],
        completion_mask=completion_mask,
        unmask_step=steps,
        unmask_logps=torch.zeros(num_rows, length),
        advantages=torch.tensor([1.0, -1.0] * (num_rows // 2), dtype=torch.float64),
        totals_of_minibatches=(totals,),
        counts_of_minibatches=(totals,),
    )
    algorithm = build("spg", {"block_length": 32})
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)

    def one() -> None:
        model.train()
        for planned in plan_updates(policy, algorithm, step, config.batch, seed=0, purpose=("masks", 0)):
            gradient(policy, algorithm, planned)
        torch.nn.utils.clip_grad_norm_(trained, 0.2)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return one


def main() -> None:
    parser = make_parser(__doc__, 4096)
    parser.add_argument("--masks", type=int, nargs="+", default=[2, 4, 8, 16], help="numbers of masks")
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS, help="some of them")
    parser.add_argument("--estimate", action="store_true", help="the estimate of a step against its peak")
    parser.add_argument("--cases", nargs="+", default=list(FORETOLD), help="with --estimate, some of them")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.peak_of in FORETOLD:
        print(observe(FORETOLD[args.peak_of]))
        return
    if args.peak_of == BASELINE:
        case = make_case(args)
        print(peak_of(lambda: our_step(case, masks_at_once=args.num_masks)))
        return
    if args.peak_of:
        wanted, args.num_masks = args.num_masks, 2
        case = make_case(args)
        print(peak_of(lambda: update(args.peak_of, case, wanted)))
        return
    if args.estimate:
        print(f"{hardware()}; MB at the highest point of a step\n")
        print_head(["step", "estimated", "measured", "ratio"])
        # Small tensors get pages of their own too, so that what is freed goes back to the system.
        os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
        for name in args.cases:
            foretold, peak = foretell(FORETOLD[name]), measure_peak(__file__, name, args, 2)
            print_row([name, f"{foretold:.0f}", f"{peak:.0f}", f"{foretold / peak:.2f}x"])
        return
    print(f"{hardware()}; MB above weights and gradients; {BATCH} completions of {COMPLETION} tokens\n")
    print_head(["masks", *args.masks, "last over first", f"less than {BASELINE}"])
    highest = 0.0
    for name in (BASELINE, *args.algorithms):
        peaks = [measure_peak(__file__, name, args, count) for count in args.masks]
        highest = highest or peaks[-1]
        ratios = (peaks[-1] / peaks[0], highest / peaks[-1])
        print_row([name, *(f"{peak:.0f}" for peak in peaks), *(f"{ratio:.2f}x" for ratio in ratios)])


if __name__ == "__main__":
    main()

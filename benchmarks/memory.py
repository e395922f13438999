"""Peak memory of an update as the number of masks grows: one pass against the constant memory of each algorithm.

Each figure is the memory above weights and gradients at the highest point of one step (forward, loss, backward), in a
process of its own. Shapes and model are those of training_step.py, with a vocabulary of 4096 by default, so that
activations rather than logits set the scale. The baseline holds the graphs of all masks at once (spg_repro).

    python benchmarks/memory_curve.py [--masks 2 4 8 16] [--algorithms spg wd1 ...] [--vocabulary 4096] [--threads 1]
"""

import torch
from training_step import BATCH, COMPLETION, make_case, make_model, measure_peak, parser, peak_of

from spg_trainer.algorithms import build
from spg_trainer.batch import Batch
from spg_trainer.likelihood import accumulate
from spg_trainer.seeding import numpy_generator

ALGORITHMS = "spg diffu_grpo wd1 unigrpo gdpo bgpo espo justgrpo vrpo".split()


def algorithm_step(name: str, vocabulary: int, num_masks: int):
    """A function that adds the gradient of one update by an algorithm, one mask's graph at a time."""
    _, rollouts, _, batch = make_case(vocabulary, 2)
    settings = {"num_masks": num_masks, "p_mask_prompt": 0.0 if name in ("justgrpo", "vrpo") else 0.15}
    algorithm = build(name, {**settings, "block_length": 8})
    masks = algorithm.make_masking().draw(rollouts, lambda row, mask: numpy_generator(0, "masks", row, mask))
    logps = torch.full(masks.scored.shape, -2.0).masked_fill(~masks.scored, 0.0)
    totals = {**batch.totals, "scored_completions": float(BATCH)}
    prepared = {"repeats": torch.ones(BATCH), "valid": torch.ones(BATCH)}
    batch = Batch(
        batch.completion_mask, batch.advantages, totals, torch.arange(BATCH) // 2, prepared, logps, logps
    )
    model = make_model(vocabulary, False)

    def step() -> None:
        accumulate(
            model,
            rollouts,
            masks,
            lambda logps: algorithm.loss(logps, masks, batch),
            mask_id=model.config.mask_token_id,
            masks_at_once=1,
            separable=algorithm.separable,
        )

    return step


def main() -> None:
    flags = parser(__doc__)
    flags.add_argument("--masks", type=int, nargs="+", default=[2, 4, 8, 16])
    flags.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    flags.set_defaults(vocabulary=4096)
    arguments = flags.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.peak_of:
        print(peak_of(algorithm_step(arguments.peak_of, arguments.vocabulary, arguments.num_masks)))
        return
    counts = arguments.masks
    print(
        f"MB above weights and gradients; {BATCH} completions of {COMPLETION} tokens, V {arguments.vocabulary}"
    )
    print(f"| masks | {' | '.join(map(str, counts))} | last over first |")
    print("|---" * (len(counts) + 2) + "|")
    rows = {"all graphs at once": ("one_pass", "training_step.py")}
    rows |= {name: (name, "memory_curve.py") for name in arguments.algorithms}
    for label, (form, script) in rows.items():
        peaks = [measure_peak(form, arguments, count, script) for count in counts]
        print(
            f"| {label} | {' | '.join(f'{p:.0f}' for p in peaks)} | {peaks[-1] / peaks[0]:.2f}x |", flush=True
        )


if __name__ == "__main__":
    main()

"""Peak memory of an update as the number of masks grows: one pass against the constant memory of each algorithm.

Each figure is the memory above weights and gradients at the highest point of one step (forward, loss, backward), in a
process of its own. Shapes and model are those of training_step.py, with a vocabulary of 4096 by default, so that
activations rather than logits set the scale. The baseline holds the graphs of all masks at once (spg_repro).

    python benchmarks/memory.py [--masks 2 4 8 16] [--algorithms spg wd1 ...] [--vocabulary 4096] [--threads 1]
"""

import torch
from measuring import hardware, print_head, print_row
from training_step import BATCH, COMPLETION, Case, make_case, make_parser, measure_peak, our_step, peak_of

from spg_trainer.algorithms import build
from spg_trainer.batch import Batch
from spg_trainer.likelihood import accumulate
from spg_trainer.seeding import numpy_generator

BASELINE = "all graphs at once"
ALGORITHMS = "spg diffu_grpo wd1 unigrpo gdpo bgpo espo justgrpo vrpo".split()


def update(name: str, case: Case, num_masks: int) -> None:
    """Adds the gradient of one update by an algorithm, one mask's graph at a time."""
    rollouts, batch = case.rollouts, case.batch
    settings = {"num_masks": num_masks, "p_mask_prompt": 0.0 if name in ("justgrpo", "vrpo") else 0.15}
    algorithm = build(name, {**settings, "block_length": 8})
    masks = algorithm.make_masking().draw(rollouts, lambda row, mask: numpy_generator(0, "masks", row, mask))
    logps = torch.full(masks.scored.shape, -2.0).masked_fill(~masks.scored, 0.0)
    totals = {**batch.totals, "scored_completions": float(BATCH)}
    prepared = {"repeats": torch.ones(BATCH), "valid": torch.ones(BATCH)}
    group = torch.arange(BATCH) // 2
    batch = Batch(batch.completion_mask, batch.advantages, totals, group, prepared, logps, logps)
    accumulate(
        case.model,
        rollouts,
        masks,
        lambda logps: algorithm.loss(logps, masks, batch),
        mask_id=case.model.config.mask_token_id,
        masks_at_once=1,
        separable=algorithm.separable,
    )


def main() -> None:
    parser = make_parser(__doc__, 4096)
    parser.add_argument("--masks", type=int, nargs="+", default=[2, 4, 8, 16], help="numbers of masks")
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS, help="some of them")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak_of == BASELINE:
        case = make_case(given)
        print(peak_of(lambda: our_step(case, masks_at_once=given.num_masks)))
        return
    if given.peak_of:
        wanted, given.num_masks = given.num_masks, 2
        case = make_case(given)
        print(peak_of(lambda: update(given.peak_of, case, wanted)))
        return
    print(f"{hardware()}; MB above weights and gradients; {BATCH} completions of {COMPLETION} tokens\n")
    print_head(["masks", *given.masks, "last over first", f"less than {BASELINE}"])
    highest = 0.0
    for name in (BASELINE, *given.algorithms):
        peaks = [measure_peak(__file__, name, given, count) for count in given.masks]
        highest = highest or peaks[-1]
        ratios = (peaks[-1] / peaks[0], highest / peaks[-1])
        print_row([name, *(f"{peak:.0f}" for peak in peaks), *(f"{ratio:.2f}x" for ratio in ratios)])


if __name__ == "__main__":
    main()

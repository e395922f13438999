"""One factor at a time on Sudoku level 4, from the main job's model: what is learned with it and what is lost.

    python benchmarks/factors.py FOLDER --model RUN [--only advantage ...] [--seeds 3] [--steps 30]

Most rows are the default line (shares) with one thing changed; two other algorithms and the published form change more.
All have equal rollouts and are evaluated on validation puzzles, as results are reported on others. Finished runs are
not repeated.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from spg_trainer.algorithms import Loss, Metric
from spg_trainer.algorithms.raft import merge_equal
from spg_trainer.algorithms.ratios import kl_k2
from spg_trainer.algorithms.spg import SPG
from spg_trainer.batch import Batch, Rollouts
from spg_trainer.distributed import world_size
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.likelihood import Masks
from spg_trainer.reporting.compare import Planned, compare, label, plan, read_word
from spg_trainer.reporting.results import mean_over
from spg_trainer.runs.files import read_lines
from spg_trainer.runs.folder import METRICS
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.fields import CompareCommand


@dataclass(frozen=True)
class Shares(SPG):
    """The default line's settings, for what derives from it here."""

    masking: str = "random"
    num_masks: int = 4
    p_mask_prompt: float = 0.0
    negatives: str = "zero"
    eubo_beta: float = 1.0
    normalizer: str = "length"
    advantage: str = "share"
    merge: bool = True


@dataclass(frozen=True)
class Weighted(Shares):
    """Negatives that weigh a part."""

    negatives: str = "elbo"
    weight: float = 0.1

    def negative(self, lower: Tensor, upper: Tensor | None) -> Tensor:
        return self.weight * super().negative(lower, upper)


@dataclass(frozen=True)
class Bounded(Shares):
    """Negatives with the gradient of p in place of log p: none where the token was improbable anyway."""

    negatives: str = "elbo"

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        below = (batch.advantages < 0)[:, None, None]
        return super().loss(torch.where(below, logps * logps.detach().exp(), logps), masks, batch)


@dataclass(frozen=True)
class WholeStep(Shares):
    """The mean of the whole step as baseline, each completion with its own weight."""

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        return (rewards - rewards.mean()).reshape(-1)


@dataclass(frozen=True)
class PerToken(Shares):
    """Credit per token: the mean reward of the group's completions with this token here, minus the group's mean."""

    def prepare(self, rewards: Tensor, rollouts: Rollouts) -> dict[str, Tensor]:
        size = rewards.shape[1]
        ids = rollouts.completion_ids.masked_fill(~rollouts.completion_mask, -1).unflatten(0, (-1, size))
        same = (ids[:, :, None] == ids[:, None]).to(rewards)
        credit = (same * rewards[:, None, :, None]).sum(2) / same.sum(2) - rewards.mean(1)[:, None, None]
        taught = (rewards != rewards[:, :1]).any(1).to(rewards).repeat_interleave(size)
        return {"advantages": merge_equal(taught, rollouts, size), "credit": credit.flatten(0, 1)}

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        return super().loss(logps * batch.prepared["credit"].to(logps)[:, None], masks, batch)


@dataclass(frozen=True)
class Anchored(Shares):
    """A KL penalty (k2, per scored token) to the model that training started from, at all completions."""

    beta: float = 0.01
    needs_ref_logps = True

    def active(self, advantages: Tensor) -> Tensor:
        return torch.ones_like(advantages, dtype=torch.bool)

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        whole = super().loss(logps, masks, batch)
        kl = (kl_k2(logps, batch.ref_logps) * masks.scored).sum((1, 2)) / masks.scored.sum((1, 2)).clamp(
            min=1
        )
        metrics = {**whole.metrics, "kl": Metric(kl.detach().sum(), "completions")}
        return Loss(whole.loss + self.beta * kl.sum() / batch.totals["completions"], metrics)


KEPT: list[tuple[Tensor, ...]] = []
"""For `Replayed`: prompt, completion and their masks of a right completion of each problem so far."""
COLUMNS = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")


@dataclass(frozen=True)
class Replayed(Shares):
    """Right completions of earlier steps, too, each with the weight of a solved problem.

    They are written over completions that change nothing, so samples/ shows texts and tokens of two. On a CPU, in one
    process; a run that is stopped forgets them: remove its folder.
    """

    count: int = 8

    def prepare(self, rewards: Tensor, rollouts: Rollouts) -> dict[str, Tensor]:
        if torch.cuda.is_available() or world_size() > 1:
            raise ConfigError(
                "Replayed writes over rollouts on the CPU. Start one process, with CUDA_VISIBLE_DEVICES= in front."
            )
        advantages = super().prepare(rewards, rollouts)["advantages"]
        best = advantages.view(rewards.shape).max(1)
        right = torch.arange(len(rewards)) * rewards.shape[1] + best.indices
        columns = [getattr(rollouts, name) for name in COLUMNS]
        new = [tuple(column[row].clone() for column in columns) for row in right[best.values > 0]]
        free = (advantages <= 0).nonzero().squeeze(1)
        stream = numpy_generator(0, "replay", len(KEPT))
        drawn = stream.choice(len(KEPT), size=min(self.count, len(KEPT), len(free)), replace=False)
        for place, which in zip(free.tolist(), drawn.tolist(), strict=False):
            for column, kept in zip(columns, KEPT[which], strict=True):
                column[place] = kept
            advantages[place] = 1 - rewards.mean()
        KEPT.extend(new)
        return {"advantages": advantages}


def here(cls: type[SPG], arguments: str = "") -> str:
    """An algorithm of this file as `--algorithms` reads it."""
    return f"{Path(__file__).resolve()}:{cls.__name__}{arguments and ':' + arguments}"


FACTORS = {
    "default": ["spg"],
    "rate": [
        "spg:learning_rate=2e-4",
        "spg:lr_schedule=constant",
        "spg:learning_rate=2e-4,lr_schedule=constant",
    ],
    "adam": [
        "spg:adam_beta2=0.9",
        "spg:adam_beta2=0.999",
        "spg:adam_epsilon=1e-6",
        "spg:max_grad_norm=0.002",
        "spg:weight_decay=0.1",
    ],
    "temperature": [
        "spg:temperature=1",
        "spg:temperature=2",
        "spg:temperature=auto",
        "spg:score_temperature=1.5",
    ],
    "advantage": [
        "spg:advantage=mean",
        "spg:advantage=mean_std",
        here(WholeStep),
    ],
    "negatives": [
        "spg:negatives=elbo",
        "spg:negatives=mix",
        "spg:negatives=mix,learning_rate=2e-4",
        here(Weighted),
        here(Bounded),
        here(PerToken),
        here(PerToken, "learning_rate=2e-4"),
    ],
    "masks": ["spg:num_masks=2", "spg:num_masks=8", "spg:merge=false", "spg:masking=trajectory,merge=false"],
    "batch": [
        "spg:prompts_per_step=16,num_generations=16",
        "spg:prompts_per_step=64,num_generations=4",
        "spg:problem_choice=mixed",
        # Some 22 mixed groups a step, of which alone `mean` learns (DAPO); as many completions as --steps 20.
        "spg:prompts_per_step=96,advantage=mean,max_steps=7",
        "spg:prompts_per_step=96,max_steps=7",
    ],
    "updates": [
        "spg:num_iterations=1",
        "spg:num_iterations=1,num_masks=12",
        "spg:num_iterations=6,num_masks=2",
    ],
    "replay": [here(Replayed), here(Replayed, "count=32")],
    "algorithm": ["gdpo", "espo"],
    "anchor": [here(Anchored, "beta=0.01,ref_copy=true"), here(Anchored, "beta=0.1,ref_copy=true")],
    "adapters": ["spg:lora_r=32", "spg:lora_r=32,learning_rate=2e-3"],
    "published": [
        "spg:negatives=mix,advantage=mean,merge=false,num_masks=2,num_iterations=1,temperature=1,learning_rate=2e-4,"
        "lr_schedule=constant"
    ],
}
"""What is varied -> settings."""
SHARED_FLAGS = (
    "--eval-split validation --temperature 1.5 --num-iterations 3 --learning-rate 6e-4 --lr-schedule linear"
)


def table(runs: Sequence[Planned], factors: Mapping[str, Sequence[str]]) -> str:
    """Markdown: what was solved, lost of what was, won of what was not, and how alike a group's completions became.

    minus default: seed by seed and puzzle by puzzle, over the seeds that both have.
    """
    found: dict[str, list[Planned]] = {}
    for run in runs:
        if run.result:
            found.setdefault(run.setting, []).append(run)
    lines = [
        "| factor | setting | seeds | before | after | minus default | lost | won | one text | seconds |",
        "|---" * 10 + "|",
    ]
    defaults = {run.config.seed: run.result.after for run in found.get("spg", []) if run.result}
    for factor, settings in factors.items():
        for setting in settings:
            finished = found.get(row_name(setting), [])
            if finished:
                lines.append(
                    f"| {factor} | `{row_name(setting)}` | {len(finished)} | {row_figures(finished, defaults)} |"
                )
    return "\n".join(lines) + "\n"


def row_figures(runs: Sequence[Planned], defaults: Mapping[int, np.ndarray]) -> str:
    """The figures of a row's seeds; of a run without its folder all but how alike texts were."""
    results = [run.result for run in runs]
    before, after = (np.stack([getattr(result, name) for result in results]) for name in ("before", "after"))
    rate = mean_over(after)
    low, high = rate.rate_interval
    pairs = [run.result.after - defaults[run.config.seed] for run in runs if run.config.seed in defaults]
    difference = mean_over(np.stack(pairs)) if pairs else None
    lost, won = (before * (1 - after)).sum() / before.sum(), ((1 - before) * after).sum() / (1 - before).sum()
    same = [row["frac_groups_identical"] for run in runs for row in [*read_lines(run.folder / METRICS)][-10:]]
    seconds = np.mean([result.summary["seconds"] for result in results])
    cells = [f"{before.mean():.3f}", f"{rate.value:.3f} [{low:.3f}, {high:.3f}]"]
    cells += [
        "{:+.3f} [{:+.3f}, {:+.3f}]".format(difference.value, *difference.interval) if difference else "-"
    ]
    cells += [f"{lost:.3f}", f"{won:.3f}"]
    return " | ".join([*cells, f"{np.mean(same):.2f}" if same else "-", f"{seconds:.0f}"])


def row_name(setting: str) -> str:
    """What `compare` calls it."""
    return label(*read_word("--algorithms", setting))


def main() -> int:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where the runs are")
    parser.add_argument("--model", required=True, help="the folder of `python -m spg_trainer --env sudoku`")
    parser.add_argument("--only", nargs="+", choices=FACTORS, default=[*FACTORS], help="some factors")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--jobs", type=int, default=0, help="processes at once; 0 = one for each core")
    parser.add_argument("--table-only", action="store_true", help="train nothing")
    given = parser.parse_args()
    factors = {name: FACTORS[name] for name in FACTORS if name in {"default", *given.only}}
    command = CompareCommand(
        env=("sudoku:level=4",),
        model=(given.model,),
        algorithms=tuple(setting for settings in factors.values() for setting in settings),
        seeds=given.seeds,
        jobs=given.jobs,
        output_dir=str(given.folder),
        table_only=given.table_only,
    )
    more = [*SHARED_FLAGS.split(), "--max-steps", str(given.steps)]
    try:
        status = compare(command, more)
        sys.stdout.write("\n" + table(plan(command, more), factors))
        return status
    except SpgError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The same command goes on.\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())

"""How many sequences go through the model in a training step, for each completion that the step samples.

Every algorithm has its recipe for tiny models, with 256 completions a step. A *pass* is one sequence in one call of
the model, whatever its length. Of sequences that look the same the sampler sends one through, so `sent` is less than
`rollout`, by far with a small model. Groups whose completions all earn the same are seldom scored: so the numbers
depend on the task and on how much of it the model solves. The first steps are counted.

The last two columns count tokens of an update, thousands for each completion, with padding: those that go through the
model, and how many they would be if each masked copy of a block-causal completion took its clean text along
(`models/shared_text.py`).

    python benchmarks/passes.py [--env countdown] [--model tiny] [--steps 2] [--algorithms spg raft rspo]
"""

import argparse
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from measuring import print_head, print_row

from spg_trainer.models.forward import base_model
from spg_trainer.rollout.passes import Columns
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.types import parse_pairs
from spg_trainer.training import loop
from spg_trainer.training.plan import settle
from spg_trainer.training.setup import open_run

ALGORITHMS = (
    "spg",
    "raft",
    "d2_stepmerge",
    "rspo",
)


def count(config: Config, steps: int) -> Counter[str]:
    """Passes of some steps by what they are for; `completions` are those sampled."""
    run, passes, part = open_run(settle(config), quiet=True), Counter[str](), "sent"

    def note(_module: Any, _arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        graph = " with gradient" if torch.is_grad_enabled() else ""
        ids, mask = keywords["input_ids"], keywords["attention_mask"]
        shares = keywords.get("shared") is not None
        passes[part + graph] += len(mask) if shares else len(ids)
        passes[f"tokens of {part}"] += ids.numel()
        passes[f"tokens of {part}, apart"] += len(mask) * mask.shape[-1] if shares else ids.numel()

    compute, apply = Columns.hidden_states, loop.apply

    def update(*arguments: Any) -> Any:
        nonlocal part
        part = "update"
        try:
            return apply(*arguments)
        finally:
            part = "sent"

    def asked(columns: Columns, rows: list[Any], *more: Any) -> Any:
        passes["rollout"] += len(rows)
        return compute(columns, rows, *more)

    base_model(run.policy.model).base_model.register_forward_pre_hook(note, with_kwargs=True)
    with (
        patch.object(Columns, "hidden_states", asked),
        patch.object(loop, "apply", update),
    ):
        for _ in range(steps):
            loop.train_step(run)
    run.folder.release()
    passes["completions"] = steps * config.batch.prompts_per_step * config.batch.num_generations
    return passes


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env", default="countdown")
    parser.add_argument("--env-args", nargs="*", default=[])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--prompts", type=int, help="of a step, in place of the recipe's")
    parser.add_argument("--algorithms", nargs="+", default=ALGORITHMS)
    args = parser.parse_args()
    parts = ("sent", "update", "update with gradient")
    print_head(
        (
            "algorithm",
            "rollout",
            *parts,
            "in all",
            f"against {args.algorithms[0]}",
            "thousand tokens",
            "apart",
        )
    )
    base = 0.0
    for name in args.algorithms:
        config = defaults(Config, env=args.env, model=args.model, algorithm=name)
        env_args = {**config.env_args, **parse_pairs(args.env_args, "--env-args")}
        quiet = replace(config.eval, eval_steps=0)
        batch = replace(config.batch, prompts_per_step=args.prompts or config.batch.prompts_per_step)
        with tempfile.TemporaryDirectory() as folder:
            output = replace(config.output, output_dir=str(Path(folder) / "run"), report=False)
            changed = replace(config, env_args=env_args, batch=batch, eval=quiet, output=output)
            passes = count(changed, args.steps)
        rollout_passes, *update_passes = (
            passes[part] / passes["completions"] for part in ("rollout", *parts)
        )
        total = sum(update_passes)
        base = base or total
        print_row(
            [
                name,
                *(f"{value:.2f}" for value in (rollout_passes, *update_passes, total)),
                f"{total / base:.2f}x",
                *(
                    f"{passes[f'tokens of update{how}'] / 1000 / passes['completions']:.2f}"
                    for how in ("", ", apart")
                ),
            ]
        )


if __name__ == "__main__":
    main()

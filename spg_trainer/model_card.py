"""The README.md of a model made by `sft`: what it was made from, how, what it scores, how to make it again."""

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING

import torch

from spg_trainer.evaluation.evaluate import Evaluation
from spg_trainer.runs.checkpoint import OPENING
from spg_trainer.settings.fields import SftCommand
from spg_trainer.settings.sources import defaults
from spg_trainer.sft.habits import HabitCounts

if TYPE_CHECKING:
    from spg_trainer.sft.loop import Fit

_ELSEWHERE = frozenset(
    "env env_args mix seed model output_dir resume config device gradient_checkpointing".split()
)
"""Settings that the command line names on its own, or that do not decide the weights."""


def model_card(fit: "Fit", results: Mapping[str, Evaluation], greedy: HabitCounts, sampled: HabitCounts) -> str:
    """Markdown with the Hub's front matter."""
    command, p = fit.command, fit.progress
    weights = sum(w.numel() for w in fit.policy.model.parameters())
    arguments = "".join(f" {k}={v}" for k, v in command.env_args.items())
    shares = " ".join(f"{k}={v:g}" for k, v in fit.mix.items())
    falling = "constant, then falling to 5%" if command.patience else "cosine to 5%"
    optimizer = {"adamw": "AdamW", "muon": "Muon"}[command.optimizer]
    kept = "whose weights these are" if command.patience else "but these are the last ones"
    lines = "\n".join(
        f"| {split} | {r.correct:.3f} | {r.low:.3f} to {r.high:.3f} | {r.n} | {r.rewards.get('format', 0):.3f} |"
        for split, r in results.items()
    )
    return f"""---
license: apache-2.0
library_name: transformers
tags: [masked-diffusion, llada, spg-trainer]
---
# A base model for `{command.env}`{arguments and f" ({arguments.strip()})"}

A masked diffusion language model of {weights:,} weights in LLaDA's own format. It is a base for reinforcement
learning: it imitates several habits, one of them right, and RL teaches it which of its habits pays. It knows no
other task.

- Start: {command.model.model}. Demonstrations: {shares} (`right` is the environment's own solution).
- {p.step} updates of {command.batch_size} demonstrations of {command.max_completion_length} tokens,
  {optimizer} {command.learning_rate:g}, warm-up {command.warmup_steps}, {falling}, seed {command.seed}.
- Last training loss {sum(p.losses) / len(p.losses):.4f} nats per token; lowest validation loss {p.best_loss:.4f} after
  {p.best_step} updates, {kept}. {p.seconds / 60:.1f} minutes on {fit.policy.model.device.type},
  {torch.get_num_threads()} threads.
- Validation completions, greedy: {greedy.shares}.
  At temperature {command.temperature:g}: {sampled.shares}; {sampled.signal}.

| split | solved, greedy | 95% interval | problems | format met |
|---|---|---|---|---|
{lines}

Make it again: `{command_line(command)}`
(bit-equal on the same machine with the same versions and threads).

## Open it

{OPENING}"""


def command_line(command: SftCommand) -> str:
    """What to type to make the model again: every setting that decides the weights and is not its default."""
    usual = defaults(SftCommand, env=command.env, model=command.model.model)
    words = ["python -m spg_trainer sft", f"--env {command.env}"]
    for name, pairs in {"env-args": command.env_args, "mix": command.mix or {"right": 1}}.items():
        if pairs:
            words.append(f"--{name} " + " ".join(f"{k}={v}" for k, v in pairs.items()))
    for given, default in ((command, usual), (command.model, usual.model)):
        for name in (f.name for f in fields(given) if f.name not in _ELSEWHERE):
            value = getattr(given, name)
            if value != getattr(default, name):
                words.append(f"--{name.replace('_', '-')} {value}")
    words += [f"--model {command.model.model}"] * (command.model.model != "new")
    return " ".join([*words, f"--seed {command.seed}"])

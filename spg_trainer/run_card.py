"""The README.md of a model that `push` uploads: what it learned, from what and how, what it scores, how to open it."""

import re
from collections.abc import Mapping
from typing import Any

from spg_trainer import __version__
from spg_trainer.reporting.runs import Completions, Recorded, changed_settings
from spg_trainer.runs.checkpoint import OPENING
from spg_trainer.runs.files import without_folders

CURVE = "curve.png"
_PLACES = frozenset("env env_args seed max_steps model.model config dry_run".split())
"""Settings that the card says elsewhere, or that name a place on this machine."""


def run_card(run: Recorded, repo: str, base: str | None, *, adapter: bool) -> str:
    """Markdown with the Hub's front matter.

    base: the Hub id of what the run started from; None = a folder, which the card does not name.
    """
    config, named = run.config, f"\nbase_model: {base}" if base else ""
    env, algorithm = without_folders([config.env, config.algorithm])
    evaluations = "\n".join(map(evaluation_row, run.evaluations))
    arguments = "".join(f" {k}={v}" for k, v in without_folders(config.env_args).items())
    arguments = arguments and f" ({arguments.strip()})"
    tags = "[masked-diffusion, llada, reinforcement-learning, spg-trainer]"
    start = f"`{base}`" if base else "a model folder of its author"
    start = "the model for this task that spg-trainer carries" if config.model.model == "tiny" else start
    kept = (
        ""
        if run.kept_step is None
        else f" These weights are of step {run.kept_step}, the best on validation."
    )
    return f"""---
library_name: {"peft" if adapter else "transformers"}
tags: {tags}{named}
---
# {repo.rpartition("/")[2]}

A masked diffusion language model{" (a LoRA adapter)" if adapter else ""}, trained by reinforcement learning with
`{algorithm}` on `{env}`{arguments} for {run.summary["steps"]} steps, seed {config.seed}.
It started from {start}.{kept}

![Share solved over the steps of training]({CURVE})

| evaluation | split | step | solved | 95% interval | problems | tokens, steps, block, temperature |
|---|---|---|---|---|---|---|
{evaluations}

{settings_table(run)}
Made with spg-trainer {__version__}: {versions(run.environment.get("versions", {}))}.

## Open it

{adapter_opening(repo, base) if adapter else opening(repo, env)}"""


def evaluation_row(one: Completions) -> str:
    """A row of the table of evaluations."""
    f, s = one.figures, one.figures["settings"]
    decoding = [s[k] for k in ("max_completion_length", "diffusion_steps", "block_length", "temperature")]
    figures = [
        f"{f['correct']:.3f}",
        f"{f['low']:.3f} to {f['high']:.3f}",
        f["n"],
        ", ".join(map(str, decoding)),
    ]
    step = "-" if one.step is None else one.step
    own = re.fullmatch(r"before|after|step-\d+", one.name)  # the name of another has its arguments in it
    name = one.name if own else without_folders(s["env"])
    return f"| {' | '.join(map(str, [name, one.split, step, *figures]))} |"


def settings_table(run: Recorded) -> str:
    """What differs from the preset of the task; a line where nothing does."""
    changed = changed_settings(run)
    if changed.rows is None:
        return "All settings are in config.yaml of the run.\n"
    note = f"{changed.note}\n" if changed.note else ""
    rows = [f"| {n} | {old} | {new} |" for n, old, new in without_folders(changed.rows) if n not in _PLACES]
    if not rows:
        return f"{note}All settings are those of the task's preset.\n"
    head = ["Settings that differ from the task's preset:\n", "| setting | preset | here |", "|---|---|---|"]
    return note + "\n".join([*head, *rows, ""])


def versions(found: Mapping[str, Any]) -> str:
    """`torch 2.13.0, transformers 5.23.0`."""
    return ", ".join(f"{name} {version}" for name, version in found.items() if name != "spg-trainer")


def opening(repo: str, env: str) -> str:
    """How to open whole weights from the Hub."""
    return OPENING.replace("PATH OF THIS FOLDER", repo).replace("--model PATH", f"--model {repo} --env {env}")


def adapter_opening(repo: str, base: str | None) -> str:
    """How to open an adapter from the Hub."""
    return f"""\
```python
import spg_trainer.models  # registers `llada` with transformers
from peft import PeftModel
from transformers import AutoModelForMaskedLM

model = PeftModel.from_pretrained(AutoModelForMaskedLM.from_pretrained("{base}"), "{repo}")
```
"""

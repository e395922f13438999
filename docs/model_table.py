"""Writes the README's table of models: `python docs/model_table.py`, after a change of recipes or of an estimate.

The smallest GPU and the hours are those that `--dry-run --gpu NAME` says of a training on Countdown by its recipe. In
README.md, the table stands between `<!-- table: models -->` and `<!-- end -->`.
"""

import re
from functools import cache
from pathlib import Path

from spg_trainer.training.dry_run import show
from spg_trainer.training.plan import settle

README = Path(__file__).parents[1] / "README.md"
MODELS = {
    "GSAI-ML/LLaDA-8B-Instruct": ("LLaDA, LLaDA-1.5", "all tokens"),
    "Dream-org/Dream-v0-Instruct-7B": ("Dream, DiffuCoder", "all tokens"),
    "JetLM/SDAR-1.7B-Chat": ("SDAR", "blocks of 4"),
    "JetLM/SDAR-8B-Chat": ("SDAR", "blocks of 4"),
    "Efficient-Large-Model/Fast_dLLM_v2_7B": ("Fast-dLLM v2", "blocks of 32"),
    "inclusionAI/LLaDA-MoE-7B-A1B-Instruct": ("LLaDA-MoE", "all tokens"),
    "inclusionAI/LLaDA2.1-mini": ("LLaDA2.0, LLaDA2.1 mini, 16B", "blocks of 32"),
    "nvidia/Nemotron-Labs-Diffusion-8B": ("Nemotron-Labs-Diffusion", "blocks of 32"),
}
"""{id on the Hub: (its family, which tokens a token sees)}."""
CARDS = {"4090": 24, "5090": 32, "L40S": 48, "H100": 80, "H200": 141, "B200": 180}
"""{name for --gpu: its GB}, from the smallest."""
ADAPTERS, ALL_WEIGHTS = ("--lora-r", "64"), ("--lora-r", "0")
FOR_HOURS = "H100"


def dry_run(model: str, card: str, *flags: str) -> str:
    """What `--dry-run` prints of a training of a model on Countdown on a card."""
    words = ["--env", "countdown", "--model", model, "--dry-run", "--gpu", card, *flags]
    return show(settle(words))


@cache
def smallest_card(model: str, trained: tuple[str, ...]) -> str:
    """The card with the least memory on which the training fits, or how many of the largest it takes."""
    checkpointing = ("--gradient-checkpointing",)
    for card, memory in CARDS.items():
        for more in ((), checkpointing):
            if "the run fits" in dry_run(model, card, *trained, *more):
                return f"{memory} GB ({card})"
    for processes in ("2", "4", "8", "16"):
        for shard in ("phase", "layer"):
            divided = ("--shard", shard, "--processes", processes, *checkpointing)
            if "the run fits" in dry_run(model, FOR_HOURS, *trained, *divided):
                return f"none alone ({processes} x {CARDS[FOR_HOURS]} GB)"
    return "more than 16 x 80 GB"


def hours(model: str) -> str:
    """The hours of the recipe's steps on one card with adapters, exactly decoded, and with a cache where that helps."""
    exact = dry_run(model, FOR_HOURS, *ADAPTERS, "--gradient-checkpointing")
    hours_of = [exact]
    if "--cache dual, which is an approximation" in exact:
        hours_of.append(dry_run(model, FOR_HOURS, *ADAPTERS, "--gradient-checkpointing", "--cache", "dual"))
    found = [f"{float(re.search(r'at least ([0-9.]+) hours', text)[1]):.0f}" for text in hours_of]
    return found[0] + (f"; {found[1]} with `--cache dual`" if len(found) > 1 else "")


def table() -> str:
    rows = [
        f"| {family} | [{name.rpartition('/')[2]}](https://huggingface.co/{name}) | {attention} | "
        f"{smallest_card(name, ADAPTERS)} | {smallest_card(name, ALL_WEIGHTS)} | {hours(name)} |"
        for name, (family, attention) in MODELS.items()
    ]
    sizes = "smallest GPU, adapters | smallest GPU, all weights | hours on one H100, adapters"
    head = f"| family | model | a token sees | {sizes} |"
    return "\n".join([head, "|---|---|---|---|---|--:|", *rows])


if __name__ == "__main__":
    text = README.read_text(encoding="utf-8")
    marks = r"(<!-- table: models -->\n).*?(\n<!-- end -->)"
    README.write_text(
        re.sub(marks, lambda found: found[1] + table() + found[2], text, flags=re.S), encoding="utf-8"
    )

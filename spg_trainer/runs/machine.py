"""`python -m spg_trainer machine`: says whether a machine is ready to train, or what to do first."""

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from spg_trainer.errors import first_line, in_flags
from spg_trainer.settings import packages  # `packages.envs` is loaded on first use

MODEL = "GSAI-ML/LLaDA-8B-Instruct"
LEAST_MEMORY, LEAST_DISK = 16 * 2**30, 40 * 2**30
"""Bytes that a model of 8 billion weights needs: on a card (with 4 bits or a small batch), and on disk for its files
and those of a run."""

Finding = tuple[bool, str]
"""What a check has found: (whether a training can use it as it is, what was measured or else what to do)."""


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 0 for "go", 1 if something is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m spg_trainer machine",
        description="Says whether this machine is ready to train, or what is wrong: the driver, the memory of its "
        "cards, the disk, and whether the Hub gives a model. Nothing is downloaded.",
        allow_abbrev=False,
    )
    text = f"the model that the Hub is asked for (default: {MODEL})"
    parser.add_argument("--model", default=MODEL, metavar="ORG/NAME", help=text)
    model = parser.parse_args(list(arguments)).model
    findings = [*cards(), disk(), hub(model)]
    for is_right, text in findings:
        sys.stdout.write(f"{'ok' if is_right else 'WRONG':6} {text}\n")
    num_missing = sum(not is_right for is_right, _ in findings)
    sys.stdout.write(f"not yet: {num_missing} of the lines above say what to do\n" if num_missing else "go\n")
    return int(num_missing > 0)


def cards() -> Iterator[Finding]:
    """The driver and each card: its name, its free memory, and whether it computes in bfloat16."""
    import torch

    if torch.version.cuda is None:
        yield (
            False,
            f"torch {torch.__version__} is built without CUDA. Install one with it, from the index that "
            "pytorch.org names for your driver",
        )
        return
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        yield (
            False,
            f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no card: {in_flags(first_line(error))}. "
            "`nvidia-smi` prints which CUDA the driver allows at most: install a torch that is not newer",
        )
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        major, minor = torch.cuda.get_device_capability(number)
        shown = (
            f"cuda:{number} {torch.cuda.get_device_name(number)} ({major}.{minor}): "
            f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        )
        if major < 8:
            shown += "; it has no bfloat16 units: train with --dtype float32"
        if is_full := free < LEAST_MEMORY:
            shown += (
                ". Another process may hold it (`nvidia-smi`); 8 billion weights need "
                f"{LEAST_MEMORY / 2**30:.0f}, a small model less"
            )
        yield not is_full, shown


def disk() -> Finding:
    """The free space where models are downloaded to."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    free = shutil.disk_usage(next(folder for folder in (place, *place.parents) if folder.is_dir())).free
    shown = f"{place}: {free / 1e9:.0f} GB free"
    if free < LEAST_DISK:
        shown += ". A model of 8 billion weights takes 16, its run some more: set HF_HOME to a larger disk"
    return free >= LEAST_DISK, shown


def hub(model: str) -> Finding:
    """Whether the Hub gives a model, and how large its files are."""
    if why := packages.envs.files.hub.why_offline():
        return (
            False,
            f"the Hub does not answer: {why}. Set a proxy (HTTPS_PROXY), or copy the model here and pass its folder",
        )
    from huggingface_hub import HfApi

    try:
        HfApi().auth_check(model)
        files = HfApi().model_info(model, files_metadata=True).siblings or []
    except Exception as error:  # whatever the Hub and its client can raise
        return (
            False,
            f"{model} cannot be downloaded: {in_flags(first_line(error))}. Check the id, and `hf auth login` where it "
            "is gated",
        )
    return True, f"{model}: {sum(file.size or 0 for file in files) / 1e9:.1f} GB to download"

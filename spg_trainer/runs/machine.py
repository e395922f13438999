"""`python -m spg_trainer machine`: says within a minute whether a machine is ready to train."""

import argparse
import importlib.util
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from spg_trainer.errors import first_line, in_flags
from spg_trainer.settings import packages  # `packages.envs` is loaded on first use

MODEL = "GSAI-ML/LLaDA-8B-Instruct"
SAMPLE = 64 * 2**20
"""Bytes of the model that are downloaded to measure the speed; they are thrown away."""
LEAST_MEMORY, LEAST_DISK = 16 * 2**30, 40 * 2**30
"""Bytes that a model of 8 billion weights needs: on a card (with 4 bits or a small batch), and on disk for its files
and those of a run."""
SLOW_DOWNLOAD, SLOW_PRODUCTS = 5e6, 20e12
"""Bytes a second of a download, and operations a second of a card, below which a first run is mostly waiting."""
DONE = 0
FAULT = 1
"""The exit statuses."""


Finding = tuple[bool, str]
"""What a check has found: (whether a training can use it as it is, what was measured or else what to do)."""


def ok(text: str) -> Finding:
    """What a check has found, if a training can use it."""
    return True, text


def wrong(text: str) -> Finding:
    """What a check has found, if the user has to do something first."""
    return False, text


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns 0 for "go", 1 if something is missing."""
    options = parser().parse_args(list(arguments))
    num_missing = 0
    for is_right, text in (*card(), disk(), download(options.model), *packages_of_gpu()):
        if not is_right:
            num_missing += 1
        sys.stdout.write(f"{'ok' if is_right else 'WRONG':6} {text}\n")
        sys.stdout.flush()
    if num_missing:
        sys.stdout.write(f"not yet: {num_missing} of the lines above say what to do\n")
        return FAULT
    sys.stdout.write("go\n")
    return DONE


def parser() -> argparse.ArgumentParser:
    """The parser of the command's options."""
    result = argparse.ArgumentParser(
        prog="python -m spg_trainer machine",
        description="Says in a minute whether this machine is ready to train, or what is wrong: the driver, the card's "
        "memory and speed, the disk, and the download of a model. Nothing is kept.",
        allow_abbrev=False,
    )
    text = f"the model whose first {SAMPLE // 2**20} MiB are downloaded (default: {MODEL})"
    result.add_argument("--model", default=MODEL, metavar="ORG/NAME", help=text)
    return result


def card() -> Iterator[Finding]:
    """The driver and each card: its name, free memory and how fast it multiplies."""
    import torch

    if torch.version.cuda is None:
        yield wrong(
            f"torch {torch.__version__} is built without CUDA. Install one with it, from the index that "
            "pytorch.org names for your driver"
        )
        return
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        yield wrong(
            f"torch {torch.__version__} (CUDA {torch.version.cuda}) finds no card: {in_flags(first_line(error))}. "
            "`nvidia-smi` prints which CUDA the driver allows at most: install a torch that is not newer"
        )
        return
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        major, minor = torch.cuda.get_device_capability(number)
        name = f"cuda:{number} {torch.cuda.get_device_name(number)} ({major}.{minor})"
        memory = f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        if free < LEAST_MEMORY:
            yield wrong(
                f"{name}: {memory}. Another process may hold it (`nvidia-smi`); 8 billion weights need "
                f"{LEAST_MEMORY / 2**30:.0f}, a small model less"
            )
        else:
            yield ok(f"{name}: {memory}")
        has_bfloat16 = major >= 8
        dtype = torch.bfloat16 if has_bfloat16 else torch.float32
        reached = products_a_second(torch.device("cuda", number), dtype)
        shown = f"{name}: {reached / 1e12:.0f} TFLOP/s in {str(dtype).removeprefix('torch.')}"
        advice = "" if has_bfloat16 else "; it has no bfloat16 units: train with --dtype float32"
        is_slow = reached < SLOW_PRODUCTS and has_bfloat16
        why_slow = ". It is busy, throttled or shared: compare with its data sheet" if is_slow else ""
        text = shown + advice + why_slow
        yield wrong(text) if is_slow else ok(text)


def products_a_second(device, dtype, size: int = 4096, seconds: float = 0.5) -> float:
    """Floating-point operations a second of a product of two (size, size) matrices. seconds: how long it is timed."""
    import torch

    left, right = (torch.ones(size, size, device=device, dtype=dtype) for _ in range(2))
    left @ right  # the first call loads kernels
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    wait()
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        left @ right
        wait()
        count += 1
    return 2 * size**3 * count / (time.perf_counter() - start)


def disk() -> Finding:
    """The free space where models are downloaded to."""
    from huggingface_hub import constants

    place = Path(constants.HF_HUB_CACHE)
    existing = next(folder for folder in (place, *place.parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    shown = f"{place}: {free / 1e9:.0f} GB free"
    if free < LEAST_DISK:
        return wrong(
            f"{shown}. A model of 8 billion weights takes 16, its run some more: set HF_HOME to a larger disk"
        )
    return ok(shown)


def download(model: str) -> Finding:
    """How fast the first bytes of a model come from the Hub."""
    if why := packages.envs.files.hub.why_offline():
        return wrong(
            f"the Hub does not answer: {why}. Set a proxy (HTTPS_PROXY), or copy the model here and pass its folder"
        )
    from huggingface_hub import HfApi, get_session, hf_hub_url
    from huggingface_hub.utils import build_hf_headers

    try:
        files = HfApi().model_info(model, files_metadata=True).siblings or []
        largest = max(files, key=lambda file: file.size or 0)
        headers = {**build_hf_headers(), "Range": f"bytes=0-{SAMPLE - 1}"}
        start = time.perf_counter()
        answer = get_session().get(
            hf_hub_url(model, largest.rfilename), headers=headers, follow_redirects=True
        )
        answer.raise_for_status()
        rate = len(answer.content) / (time.perf_counter() - start)
    except Exception as error:  # whatever the Hub and its client can raise
        return wrong(
            f"{model} cannot be downloaded: {in_flags(first_line(error))}. Check the id, and `hf auth login` where it "
            "is gated"
        )
    total = sum(file.size or 0 for file in files)
    shown = f"{model}: {rate / 1e6:.0f} MB/s, so that its {total / 1e9:.1f} GB take {total / rate / 60:.0f} minutes"
    if rate < SLOW_DOWNLOAD:
        return wrong(f"{shown}. Download it before the card is paid for")
    return ok(shown)


def packages_of_gpu() -> Iterator[Finding]:
    """The packages that some flags need on a GPU."""
    if importlib.util.find_spec("bitsandbytes") is None:
        yield ok("without bitsandbytes, which --load-4bit needs: pip install bitsandbytes")

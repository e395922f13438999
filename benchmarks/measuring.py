"""What the benchmarks share: clocks, interleaved rounds, the line about the machine, Markdown tables."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path


def one_core() -> None:
    """Keeps this process on one core, where the system can do that."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds(work: Callable[[], object]) -> float:
    """Processor time of one call, which other processes do not lengthen."""
    start = time.process_time()
    work()
    return time.process_time() - start


def wall_seconds(work: Callable[[], object]) -> float:
    """Elapsed time of one call, for work in several threads or on a GPU."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def medians(
    works: Sequence[Callable[[], object]],
    rounds: int,
    clock: Callable[[Callable[[], object]], float] = seconds,
) -> list[float]:
    """Median seconds of each work; they take turns, after one round that compiles and is not counted."""
    times = [[clock(work) for work in works] for _ in range(rounds + 1)]
    return [statistics.median(column) for column in zip(*times[1:], strict=True)]


def hardware(device: str = "cpu") -> str:
    """One line: processor or GPU, cores that this process may use, Python."""
    name = platform.machine()
    if device.startswith("cuda"):
        import torch

        name = torch.cuda.get_device_name(device)
    elif Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next((line.split(": ")[1] for line in lines if line.startswith("model name")), name)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{name}; {cores} core(s); Python {platform.python_version()}"


def print_head(columns: Iterable[str]) -> None:
    """The head of a Markdown table."""
    columns = list(columns)
    print_row(columns)
    print_row(["---", *["---:"] * (len(columns) - 1)])


def print_row(cells: Iterable[object]) -> None:
    """One row, shown at once."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)

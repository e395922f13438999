"""Verdicts per second in several processes, as datasets and Ray Data start them, against one call in one process.

Elapsed time, start of the processes included but for Ray's; columns go through Arrow, which `verify_batch` alone does
not. Ray is measured where it is installed (`pip install -e '.[ray]'`).

    python benchmarks/verdict_processes.py [gsm8k math500] [--rows 100000] [--processes 2] [--rounds 3]
"""

import argparse
import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from functools import partial

import datasets
from measuring import hardware, medians, print_head, print_row, wall_seconds

from verifiers import verify_batch

FILLER = "We take the number of apples and subtract those that were eaten, step by step. "


def columns_of(task: str, num_rows: int) -> dict[str, list[str]]:
    """Completions of 900 characters with their references; every second one is right."""
    halves = [(row % 97, row % 97 + row % 2) for row in range(num_rows)]
    written = r"\frac{%d}{2}" if task == "math500" else "%d"
    texts = [FILLER * 11 + rf"<answer>\boxed{{{written % numerator}}}</answer>" for numerator, _ in halves]
    answers = [written.replace("frac", "tfrac") % right for _, right in halves]
    return {"completion": texts, "answer": answers}


def judge(batch: dict[str, Sequence[str]], task: str) -> dict[str, list]:
    """The verdicts on a batch as columns."""
    verdicts = verify_batch(task, list(batch["completion"]), answer=list(batch["answer"]))
    return {"correct": verdicts.correct.tolist(), "reason": verdicts.reasons}


def by_datasets(data: datasets.Dataset, task: str, processes: int) -> None:
    """`datasets.map` in so many processes."""
    data.map(
        judge,
        batched=True,
        batch_size=10_000,
        num_proc=processes if processes > 1 else None,
        fn_kwargs={"task": task},
        remove_columns=data.column_names,
        load_from_cache_file=False,
    )


def by_ray(columns: dict[str, list[str]], processes: int) -> Callable[[str], None]:
    """Ray Data's `map_batches` on as many processes; its workers are started here."""
    import pyarrow
    import ray

    if not ray.is_initialized():
        ray.init(num_cpus=processes, include_dashboard=False, log_to_driver=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
    data = ray.data.from_arrow(pyarrow.table(columns)).repartition(2 * processes).materialize()
    return lambda task: data.map_batches(judge, batch_size=10_000, fn_kwargs={"task": task}).materialize()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("tasks", nargs="*", default=["gsm8k", "math500"], help="gsm8k, math500 or both")
    parser.add_argument("--rows", type=int, default=100_000, help="completions")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which the median counts")
    args = parser.parse_args()
    datasets.disable_progress_bars()
    with_ray = importlib.util.find_spec("ray") is not None
    print(f"{hardware()}; completions a second of elapsed time, of {args.rows:,}; median of {args.rounds}\n")
    names = ["verify_batch", "datasets.map, 1", f"datasets.map, {args.processes}"]
    print_head(["task", *names, *[f"Ray Data, {args.processes}"] * with_ray, "ratio of the two maps"])
    for task in args.tasks:
        columns = columns_of(task, args.rows)
        with (
            tempfile.TemporaryDirectory() as folder
        ):  # what is only in memory would be copied to each process
            datasets.Dataset.from_dict(columns).save_to_disk(folder)
            data = datasets.load_from_disk(folder)
            works = [partial(judge, columns, task)]
            works += [partial(by_datasets, data, task, processes) for processes in (1, args.processes)]
            if with_ray:
                works.append(partial(by_ray(columns, args.processes), task))
            took = medians(works, args.rounds, wall_seconds)
        rates = [f"{args.rows / seconds:,.0f}" for seconds in took]
        print_row([task, *rates, f"{took[1] / took[2]:.2f}x"])


if __name__ == "__main__":
    main()

"""Published sets, and files of their columns, as problems; with calls that the prompt does not show, made here."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from envs.datasets import NAMED_FORMATS, HubDataset, Row, load_rows, read_files, state_of
from envs.errors import EnvError
from envs.splits import split_of
from verifiers.code.published import Published, cases_of, read_row, reading
from verifiers.code.task import run
from verifiers.code.values import NOTHING, plain_reply, written

HUMANEVAL = {"test": HubDataset("openai/openai_humaneval", "openai_humaneval", "test", 164)}
MBPP = {
    split: HubDataset("google-research-datasets/mbpp", "sanitized", split, rows)
    for split, rows in (("train", 120), ("validation", 43), ("test", 257))
}
NAMED = {"humaneval": HUMANEVAL, "mbpp": MBPP}
COLUMNS = ("prompt",)
MADE = 24
"""So many calls are made by changing those of a problem; up to `hidden` of them are kept."""
SEED = 39_100_039
FUEL_OF_MANY = 2 * 10**9
"""Instructions that a test may take which comes with no reference; a program may take 20 times as many."""
REASONS = 3
"""So many reasons are told why rows cannot be used, the most frequent first."""


@dataclass(frozen=True)
class Exercise:
    """A row that can be used, with the calls that a program is judged by."""

    row: Published
    cases: tuple[dict[str, Any], ...]
    """Those of the set's own tests, then the hidden ones."""
    shows: int
    """How many of them the prompt shows."""
    fuel: int
    """Instructions that the reference takes; 0 where there is none."""


@cache
def load(
    source: str, split: str, hidden: int, rows: int, revision: str | None
) -> tuple[tuple[Exercise, ...], str, dict[str, str]]:
    """The exercises of a split, in their order; a notice of what was left out; and, of a set of the hub, {name: state}.

    source: "humaneval", "mbpp", a file, or a data set of the hub, which a hash of the prompt, or of the program that
    lacks a part, divides 80/10/10; of it the first `rows` rows are read. hidden: so many calls are added, at most, to
    those of a row whose prompt shows its tests. Raises EnvError where the source cannot be read or no row can be used.
    """
    rows_found, origin = _rows(source, split, rows, revision)
    readable, faults = _of_split(rows_found, source, split)
    recorded = cases_of([row for _, row in readable])
    made = [
        _changed(cases, number) if hidden and row.shown else []
        for number, ((_, row), (cases, _)) in enumerate(zip(readable, recorded, strict=True))
    ]
    calls = [cases + new for (cases, _), new in zip(recorded, made, strict=True)]
    replies = _replies([row for _, row in readable], calls)
    exercises, number_kept = [], 0
    for (where, row), (cases, lacks_some), new, reply in zip(readable, recorded, made, replies, strict=True):
        if not cases or lacks_some:
            faults.append((where, "has a test that is no call with a value"))
        elif row.reference and reply.get("met", [])[: len(cases)] != [True] * len(cases):
            faults.append((where, "has a reference that its tests refuse"))
        else:
            values = map(plain_reply, reply.get("replies", [])[len(cases) :])
            answered = zip(new, values, strict=False)  # the reference may have ended early
            kept = [{**call, "expected": value} for call, value in answered if value is not NOTHING]
            number_kept += len(kept)
            shows = row.shows or min(len(cases), row.shown.count("assert"))
            fuel = FUEL_OF_MANY if row.cases and not row.reference else reply.get("fuel") or 0
            exercises.append(Exercise(row, (*cases, *kept[:hidden]), shows, fuel))
    if not exercises:
        left_out = f" {_told(faults, len(rows_found))}" if faults else ""
        raise EnvError(f"code: source={source} leaves no problem for {split}.{left_out}")
    notice = f"code: {len(exercises):,} problems of {source}."
    if faults:
        notice += f" {_told(faults, len(rows_found))}"
    if number_made := sum(map(len, made)):
        share = number_kept / number_made
        notice += f" Of {number_made:,} calls that were made to be hidden, {share:.0%} have a plain value."
    if bare := sum(one.shows == len(one.cases) for one in exercises):
        notice += f" The prompts of {bare:,} show every call that they are judged by."
    return tuple(exercises), notice, origin


def _of_split(
    rows: Sequence[Row], source: str, split: str
) -> tuple[list[tuple[str, Published]], list[tuple[str, str]]]:
    """(where, row) of the rows that belong to a split, and (where, why not) of those that cannot be read."""
    readable: list[tuple[str, Published]] = []
    faults: list[tuple[str, str]] = []
    for where, values in rows:
        try:
            row = read_row(values)
            # Several rows may be made of one program, of which all are in one split.
            split_of_row = row.split or split_of(row.reference if row.around else row.prompt)
            if source in NAMED or split_of_row == split:
                readable.append((where, row))
        except (ValueError, TypeError, KeyError) as error:
            why = f"has no {error}" if isinstance(error, KeyError) else str(error)
            faults.append((where, why))
    return readable, faults


def _told(faults: Sequence[tuple[str, str]], num_rows: int) -> str:
    """How many of `num_rows` rows cannot be used, and why: for each reason how many, and the first of them.

    faults: (where, why) of each.
    """
    first_place = {why: where for where, why in reversed(faults)}
    count = Counter(why for _, why in faults)
    reasons = [
        f"{first_place[why]} {why}" + (f" (so do {number:,} rows)" if number > 1 else "")
        for why, number in count.most_common(REASONS)
    ]
    more = f"; {len(count) - REASONS:,} other reasons" if len(count) > REASONS else ""
    return (
        f"{len(faults):,} of {num_rows:,} rows cannot be used and are left out: {'; '.join(reasons)}{more}."
    )


def _rows(source: str, split: str, rows: int, revision: str | None) -> tuple[list[Row], dict[str, str]]:
    """The rows of a source, at most `rows` where it is not in `NAMED`; and of a set of the hub {name: state}."""
    if source in NAMED:
        if split not in NAMED[source]:
            raise EnvError(
                f"code: {source} has no {split} problems, test alone; train on source=mbpp, for example."
            )
        hub = replace(NAMED[source][split], revision=revision)
        found, commit = load_rows("code", "hub", hub, COLUMNS)
        return found, {hub.repo: state_of(found, commit)}
    if Path(source).is_file():
        return read_files("code", [Path(source)], ())[:rows], {}
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        known = ", ".join(["generated", *NAMED])
        raise EnvError(
            f"code: source={source} is no file; known are {known}, a file ({', '.join(NAMED_FORMATS)}), OWNER/NAME."
        )
    import datasets
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(source, revision=revision).sha
        table = datasets.load_dataset(source, split="train", streaming=True, revision=commit)
        found = [Row(f"{source}, row {number}", values) for number, values in enumerate(table.take(rows), 1)]
    except Exception as error:  # whatever a download, a cache and a file format can raise
        raise EnvError(
            f"code: {source} cannot be loaded from the Hugging Face hub ({str(error)[:200]})."
        ) from error
    return found, {source: state_of(found, commit)}


def _replies(rows: Sequence[Published], calls: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Runs each row's reference on its calls, in the sealed interpreter; {} for a row without a reference or calls.

    A reply has "met" (whether each value is the expected one), "replies" (the values) and "fuel".
    """
    replies: list[dict[str, Any]] = [{}] * len(rows)
    to_run = [i for i, row in enumerate(rows) if row.reference and calls[i]]
    jobs = [reading([rows[i].setup, rows[i].reference], rows[i].entry_point, calls[i]) for i in to_run]
    for i, reply in zip(to_run, run(jobs) if jobs else (), strict=True):
        replies[i] = reply
    return replies


def _changed(cases: Sequence[Mapping[str, Any]], number: int) -> list[dict[str, Any]]:
    """Up to MADE calls that differ from the cases in one or more arguments; they compare as the first case does."""
    rng = np.random.default_rng([SEED, number])
    with_arguments = [case for case in cases if case["args"] and case.get("compare") in (None, "close")]
    made: dict[str, dict[str, Any]] = {}  # by their arguments, so that none is there twice
    for _ in range(MADE if with_arguments else 0):
        case = with_arguments[int(rng.integers(len(with_arguments)))]
        new = {name: value for name, value in case.items() if name != "expected"}
        new["args"] = [changed(rng, value) for value in case["args"]]
        if all(new["args"] != other["args"] for other in cases):
            made.setdefault(written(new["args"]), new)
    return list(made.values())


def changed(rng: np.random.Generator, value: Any) -> Any:
    """Another value of the same type, sign and letters; empty only where `value` is, and sometimes the same."""
    if isinstance(value, bool):
        return bool(rng.integers(2))
    if isinstance(value, int | float):
        moved = value + type(value)(rng.integers(-3, 4))
        return moved if np.sign(moved) == np.sign(value) or value == 0 < moved else value
    if isinstance(value, str | list | tuple) and len(value):
        items = list(value)
        place, other = (int(i) for i in rng.integers(len(items), size=2))
        change = int(rng.integers(4))  # drop an item, repeat one, swap two, change one
        if change == 0 and len(items) > 1:
            del items[place]
        elif change == 1:
            items.insert(place, items[other])
        elif change == 2:
            items[place], items[other] = items[other], items[place]
        elif not isinstance(value, str):
            items[place] = changed(rng, items[place])
        return "".join(items) if isinstance(value, str) else type(value)(items)
    if isinstance(value, dict) and value:
        return {name: changed(rng, item) for name, item in value.items()}
    return value

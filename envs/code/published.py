"""Problems of published sets, or of files with the same columns, and the calls that are made for them.

The prompt does not show these calls. They are called hidden.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from envs.errors import EnvError
from envs.files.datasets import HubDataset, Row, load_rows, read_files, state_of
from envs.splits import split_of
from verifiers.code.published import Published, cases_of, job_of_calls, read_row
from verifiers.code.task import run
from verifiers.code.values import NOTHING, plain_reply, python_source
from verifiers.files import FORMATS

HUMANEVAL = {
    "test": HubDataset("openai/openai_humaneval", config="openai_humaneval", split="test", num_rows=164)
}
MBPP = {
    split: HubDataset("google-research-datasets/mbpp", config="sanitized", split=split, num_rows=num_rows)
    for split, num_rows in (("train", 120), ("validation", 43), ("test", 257))
}
NAMED = {"humaneval": HUMANEVAL, "mbpp": MBPP}
COLUMNS = ("prompt",)
CALLS_MADE = 24
"""How many calls are made by changing a problem's calls; up to `hidden` of them are kept."""
SEED = 39_100_039  # keeps the random changes apart from the streams of any other task
FUEL_WITHOUT_REFERENCE = 2 * 10**9
"""The `Exercise.fuel` of a row without a reference solution, whose tests are inputs with outputs."""
SHOWN_REASONS = 3
"""How many reasons a notice on rows that cannot be used gives, the most frequent first."""


@dataclass(frozen=True)
class Exercise:
    """A usable row, with the calls by which a program is judged."""

    row: Published
    cases: tuple[dict[str, Any], ...]
    """The calls of the set's own tests, then the hidden ones."""
    num_shown: int
    """How many of `cases` the prompt shows."""
    fuel: int
    """How many instructions the reference solution takes; a program may take 20 times as many. 0 = not known."""


@cache
def load(
    source: str, split: str, hidden: int, max_rows: int, revision: str | None
) -> tuple[tuple[Exercise, ...], str, dict[str, str]]:
    """The exercises of a split, in order; a notice of what was left out; and, for the hub, {data set: its commit}.

    source: "humaneval", "mbpp", a file, or a data set of the hub. From a file or a data set the first `max_rows` rows
    are read, and divided 80/10/10 by a hash of the prompt (of the whole program if a part of it is to be filled in).
    hidden: how many calls are added, at most, to a row whose prompt shows its tests. Raises EnvError if the source
    cannot be read, or if no row can be used.
    """
    rows_found, origin = _read_rows(source, split, max_rows, revision)
    readable, faults = _read_split(rows_found, source, split)
    published_rows = [row for _, row in readable]
    cases_of_rows = cases_of(published_rows)  # (calls, how many tests are no calls) of each row
    new_calls_of_rows = [
        _changed_calls(cases, number) if hidden and row.shown_tests else []
        for number, (row, (cases, _)) in enumerate(zip(published_rows, cases_of_rows, strict=True))
    ]
    all_calls = [
        cases + new_calls for (cases, _), new_calls in zip(cases_of_rows, new_calls_of_rows, strict=True)
    ]
    replies = _replies(published_rows, all_calls)
    exercises, number_kept = [], 0
    for number, (where, row) in enumerate(readable):
        cases, other_tests = cases_of_rows[number]
        new_calls, reply = new_calls_of_rows[number], replies[number]
        if not cases or other_tests:
            faults.append((where, "has a test that is no call with a value"))
            continue
        cases_met = reply.get("met", [])[: len(cases)]  # which of the set's own calls the reference meets
        if row.reference and cases_met != [True] * len(cases):
            faults.append((where, "has a reference that its tests refuse"))
            continue
        # The replies to the set's own calls come first.
        replies_to_new_calls = reply.get("replies", [])[len(cases) :]
        values = map(plain_reply, replies_to_new_calls)
        answered = zip(new_calls, values, strict=False)  # fewer values if the reference ended early
        kept = [{**call, "expected": value} for call, value in answered if value is not NOTHING]
        number_kept += len(kept)
        # A row whose tests are inputs with outputs says how many are shown; of tests in Python, each assert is one.
        num_shown = row.num_shown or min(len(cases), row.shown_tests.count("assert"))
        has_outputs_alone = row.cases and not row.reference  # inputs with outputs, and no solution
        fuel = FUEL_WITHOUT_REFERENCE if has_outputs_alone else (reply.get("fuel") or 0)
        exercises.append(Exercise(row, (*cases, *kept[:hidden]), num_shown, fuel))
    if not exercises:
        left_out = f" {_faults_text(faults, len(rows_found))}" if faults else ""
        raise EnvError(f"code: source={source} leaves no problem for {split}.{left_out}")
    notice = f"code: {len(exercises):,} problems of {source}."
    if faults:
        notice += f" {_faults_text(faults, len(rows_found))}"
    if number_made := sum(map(len, new_calls_of_rows)):
        share = number_kept / number_made
        notice += f" Of {number_made:,} calls that were made to be hidden, {share:.0%} have a plain value."
    if number_all_shown := sum(exercise.num_shown == len(exercise.cases) for exercise in exercises):
        notice += f" The prompts of {number_all_shown:,} show every call that they are judged by."
    return tuple(exercises), notice, origin


def _read_split(
    rows: Sequence[Row], source: str, split: str
) -> tuple[list[tuple[str, Published]], list[tuple[str, str]]]:
    """(where, row) of the rows that belong to a split, and (where, why not) of those that cannot be read."""
    readable: list[tuple[str, Published]] = []
    faults: list[tuple[str, str]] = []
    for where, values in rows:
        try:
            row = read_row(values)
            # All rows in which a part of the same program (`around`) is to be filled in are in one split.
            text_to_hash = row.reference if row.around else row.prompt
            split_of_row = row.split or split_of(text_to_hash)
            if source in NAMED or split_of_row == split:
                readable.append((where, row))
        except (ValueError, TypeError, KeyError) as error:
            why = f"has no {error}" if isinstance(error, KeyError) else str(error)
            faults.append((where, why))
    return readable, faults


def _faults_text(faults: Sequence[tuple[str, str]], num_rows: int) -> str:
    """A sentence on how many of `num_rows` rows cannot be used and why, with the first row for each reason.

    faults: (where, why) of each row that cannot be used.
    """
    first_place = {why: where for where, why in reversed(faults)}  # the first place of each reason
    count = Counter(why for _, why in faults)
    reasons = [
        f"{first_place[why]} {why}" + (f" (so do {number:,} rows)" if number > 1 else "")
        for why, number in count.most_common(SHOWN_REASONS)
    ]
    more = f"; {len(count) - SHOWN_REASONS:,} other reasons" if len(count) > SHOWN_REASONS else ""
    return (
        f"{len(faults):,} of {num_rows:,} rows cannot be used and are left out: {'; '.join(reasons)}{more}."
    )


def _read_rows(
    source: str, split: str, max_rows: int, revision: str | None
) -> tuple[list[Row], dict[str, str]]:
    """The rows of a source, at most `max_rows` if it is not in `NAMED`; and for the hub {data set: its commit}."""
    if source in NAMED:
        if split not in NAMED[source]:
            raise EnvError(
                f"code: {source} has no {split} problems, test alone; train on source=mbpp, for example."
            )
        hub = replace(NAMED[source][split], revision=revision)
        found, commit = load_rows("code", source="hub", hub=hub, columns=COLUMNS)
        return found, {hub.repo: state_of(found, commit)}
    if Path(source).is_file():
        origin: dict[str, str] = {}  # a file has no commit
        return read_files("code", [Path(source)], columns=())[:max_rows], origin
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        known = ", ".join(["generated", *NAMED])
        raise EnvError(
            f"code: source={source} is no file; known are {known}, a file ({', '.join(FORMATS)}), OWNER/NAME."
        )
    import datasets
    from huggingface_hub import HfApi

    try:
        commit = HfApi().dataset_info(source, revision=revision).sha
        table = datasets.load_dataset(source, split="train", streaming=True, revision=commit)
        found = [
            Row(f"{source}, row {number}", values) for number, values in enumerate(table.take(max_rows), 1)
        ]
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
    jobs = [job_of_calls([rows[i].setup, rows[i].reference], rows[i].entry_point, calls[i]) for i in to_run]
    for i, reply in zip(to_run, run(jobs) if jobs else (), strict=True):
        replies[i] = reply
    return replies


def _changed_calls(cases: Sequence[Mapping[str, Any]], number: int) -> list[dict[str, Any]]:
    """Up to CALLS_MADE different calls, each a random case with changed arguments and without its expected value.

    No call has the arguments of a case. number: the row's number, which keys the random stream.
    """
    rng = np.random.default_rng([SEED, number])
    # A case without arguments has nothing to change. A case whose test only asks for a true or a false value expects no
    # value, and is left out, too.
    to_change = [case for case in cases if case["args"] and case.get("compare") in (None, "close")]
    if not to_change:
        return []
    calls_by_arguments: dict[str, dict[str, Any]] = {}  # {arguments: call}, so that no call is made twice
    for _ in range(CALLS_MADE):
        case = to_change[int(rng.integers(len(to_change)))]
        new_call = {name: value for name, value in case.items() if name != "expected"}
        new_call["args"] = [changed(rng, value) for value in case["args"]]
        if all(new_call["args"] != other["args"] for other in cases):
            calls_by_arguments.setdefault(python_source(new_call["args"]), new_call)
    return list(calls_by_arguments.values())


def changed(rng: np.random.Generator, value: Any) -> Any:
    """A similar value: of the same type, a number of the same sign, a text of the same letters; maybe the same value.

    The result is empty only if `value` is.
    """
    if isinstance(value, bool):
        return bool(rng.integers(2))
    if isinstance(value, int | float):
        moved = value + type(value)(rng.integers(-3, 4))
        keeps_sign = np.sign(moved) == np.sign(value) or (value == 0 and moved > 0)  # 0 may become positive
        return moved if keeps_sign else value
    if isinstance(value, str | list | tuple) and len(value):
        items = list(value)
        i, j = rng.integers(len(items), size=2).tolist()
        change = int(rng.integers(4))
        if change == 0 and len(items) > 1:  # drops an item
            del items[i]
        elif change == 1:  # repeats one
            items.insert(i, items[j])
        elif change == 2:  # swaps two
            items[i], items[j] = items[j], items[i]
        elif not isinstance(value, str):  # changes one; a text stays as it is
            items[i] = changed(rng, items[i])
        return "".join(items) if isinstance(value, str) else type(value)(items)
    if isinstance(value, dict) and value:
        return {name: changed(rng, item) for name, item in value.items()}
    return value

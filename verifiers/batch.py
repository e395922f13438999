"""Judges many completions at once: each by its task's reader, in plain Python, or a batch first by a kernel of numba.

A kernel of `verifiers.kernels` finds the answers of most rows and decides many of them, in threads; the reader gets
the others. numba is imported, a kernel loaded from numba's disk cache, and one that is not there compiled, only when
judging without it has taken, or will take, longer than that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from itertools import pairwise
from math import isfinite
from threading import Lock
from typing import TYPE_CHECKING, Any

from verifiers import verdicts
from verifiers.errors import VerifierError
from verifiers.reading.answer import BLOCK, BOX, Found, find_answer
from verifiers.registry import MODES, Task, find
from verifiers.verdicts import (
    ERROR,
    MALFORMED,
    NO_ANSWER,
    OK,
    RATIONAL,
    REASONS,
    TEXT,
    TIERS,
    WRONG,
    Reason,
    Tier,
    Verdict,
    Verdicts,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
    Columns = tuple[
        npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.float64], npt.NDArray[np.int64]
    ]

Judged = tuple[int, int, float, int, int]
"""Reason, tier, score, start and end of the judged text in the completion; -1, -1 if no text was judged."""

# A thread judges so many characters at a time. A larger buffer would take three times as long, since the system would
# give it new pages each time.
SLICE_CHARACTERS = 1 << 17
MAX_THREADS = 8
LOCATED = -2  # in place of a reason, from a kernel that finds an answer but cannot read it
KERNEL_ROWS = 8  # fewer rows are judged sooner without a kernel, even if it is loaded
LOADING_SECONDS = 0.7  # processor time in which numba is imported and a kernel loaded from its disk cache
MAY_COMPILE = True
"""Whether a kernel that is not in the disk cache is compiled when that pays, not only by `prepare_kernels`."""
INTEGER_BITS = 2000  # a longer integer is no reference; Python prints none of more than 4,300 digits
MAX_EXACT_CHARACTERS = 400  # a Decimal or Fraction whose text is longer is no reference
TEXTS = "Array(uint8, 1, 'C', readonly=True), int64[::1]"  # numba's types of what `pack` returns
_ROWS = f"void({TEXTS}, int64, boolean, {{}}, int8[::1], float64[::1], int64[:, ::1], int64[::1])"
"""The signature of every kernel, with the types of its references in the middle."""
kernels: list[Kernel] = []
"""The kernels of the tasks that were used so far."""
_lock = Lock()


def as_text(completion: object) -> str | None:
    """`completion` as a plain `str`, even if a subclass overrides `__str__`; None if it is not a string."""
    if type(completion) is str:
        return completion
    return str.__str__(completion) if issubclass(type(completion), str) else None


def as_reference(value: object) -> str | None:
    """A text as it is; a finite number, also of numpy, Decimal or Fraction, as text (6.0 as "6"); else None.

    The noise of a calculation in binary is left out: 0.1 + 0.2 is 0.3, and not 0.30000000000000004.
    """
    if type(value) is str:
        return value
    if getattr(value, "shape", None) == ():  # a scalar of numpy or torch
        kind = str(value.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
        value = value.item()  # type: ignore[attr-defined]
        if kind in ("float32", "float16") and isfinite(value) and not value.is_integer():
            import numpy as np

            value = float(str(np.dtype(kind).type(value)))  # 0.1, not 0.10000000149, its value as a float32
    if type(value) is float and isfinite(value):
        short = f"{value:.15g}"  # 24.51 where 3 * 8.17 is 24.509999999999998
        is_noisy = len(short) < len(repr(value)) - 3
        value = int(value) if value.is_integer() else short if is_noisy else repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < INTEGER_BITS:
        return str(int(value))
    if type(value).__module__ in ("decimal", "_decimal", "fractions"):
        text = str(value)
        # Not "NaN", nor "1E+9" of a large Decimal.
        is_plain = text.removeprefix("-")[:1].isdigit() and "E" not in text
        return text if is_plain and len(text) <= MAX_EXACT_CHARACTERS else None
    return as_text(value)  # a float as text, a subclass of `str`, or no reference


@dataclass
class Kernel:
    """A function of `verifiers.kernels` that judges many rows, and when it pays.

    Attributes:
        name: of its module, whose function `judge` it is.
        references: numba's types of the columns that `pack` returns.
        pack: (columns of references) -> the arrays that the kernel reads; None if it can read none of them.
        tiers: {reason: the tier that decided}.
        memory: how many integers a thread of it writes to.
        saves: seconds of processor time by which a row is judged sooner than without it.
        compiling: seconds of processor time that compiling it takes.
        spent: how many seconds it would have saved so far.
        function: the compiled function, once it is loaded.
    """

    name: str
    references: str
    pack: Callable[..., tuple | None]
    tiers: dict[int, int]
    saves: float
    compiling: float
    memory: int = 1
    spent: float = 0.0
    function: Callable[..., None] | None = field(default=None, repr=False)
    is_missing: bool = False
    """Whether it cannot be loaded from the disk cache, or at all."""

    def worth_using(self, num_rows: int) -> Callable[..., None] | None:
        """The compiled function if judging so many rows with it pays, what it costs included; else None."""
        if num_rows < KERNEL_ROWS:
            return None
        if self.function is None:
            self.spent += num_rows * self.saves
            if self.spent > LOADING_SECONDS and not self.is_missing:
                self.load(only_cached=True)
            if self.function is None and self.spent > self.compiling and MAY_COMPILE:
                self.load()
        return self.function

    def load(self, only_cached: bool = False) -> None:
        """Loads the function from numba's disk cache, or compiles it and keeps it there.

        only_cached: whether it is never compiled. Where numba cannot be imported, nothing happens.
        """
        with _lock, suppress(ImportError):
            if self.function is None:
                from verifiers.kernels.disk_cache import compiled

                judge = import_module(f"verifiers.kernels.{self.name}").judge
                self.function = compiled(judge, _ROWS.format(self.references), only_cached)
            self.is_missing = self.function is None


def _pack_numbers(answers: list[Any], *settings: list[Any] | None) -> Packed | None:
    """References as texts, for the kernel that reads one plain number; None if one is neither a text nor a number.

    settings: columns of a decimal sign and a unit, which the kernel does not know; None also if one is there.
    """
    if any(column is not None for column in settings):
        return None
    are_all_text = set(map(type, answers)) == {str}
    texts = answers if are_all_text else [as_reference(answer) for answer in answers]
    return None if None in texts else pack(texts)


def judge_with(
    kernel: Kernel, texts: list[str], lenient: bool, columns: Sequence[list[Any]], into: Columns
) -> bool:
    """Writes the verdicts on the rows that a kernel decides, and a negative reason for the others.

    into: reason, tier, score (N,) and spans (N, 2), to be written to. Returns False if the kernel is not used.
    """
    import numpy as np

    function = kernel.worth_using(len(texts))
    references = None if function is None else kernel.pack(*columns)
    if function is None or references is None:
        return False
    reason, tier, score, spans = into
    latin1_texts = one_character_a_byte(texts)
    starts = starts_of(latin1_texts)
    slices = slices_of(starts)
    memories = np.empty((len(slices), kernel.memory), np.int64)

    def judge_slice(number: int) -> None:
        rows = slices[number]
        slice_starts = starts[rows.start : rows.stop + 1] - starts[rows.start]
        data = joined_bytes(latin1_texts[rows])
        written = reason[rows], score[rows], spans[rows], memories[number]
        function(data, slice_starts, rows.start, lenient, *references, *written)

    threads = min(len(slices), MAX_THREADS, cpus())
    if threads < 2:
        for number in range(len(slices)):
            judge_slice(number)
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="verifiers") as pool:
            list(pool.map(judge_slice, range(len(slices))))
    for code, deciding in kernel.tiers.items():
        tier[reason == code] = deciding
    return True


PLAIN_NUMBER = Kernel(
    "plain",
    references=TEXTS,
    pack=_pack_numbers,
    tiers={OK: RATIONAL, WRONG: RATIONAL},
    saves=20e-6,
    compiling=6.0,
)
"""Finds answers, and decides rows whose answer and reference are one plain number each."""


def locate_answers(texts: list[str], lenient: bool) -> tuple[list[int], npt.NDArray[np.int64]]:
    """(for each text LOCATED by a kernel, or what leaves it to the reader; spans (N, 2) in bytes).

    In strict mode, an answer that is located is in a box that stands alone in the block.
    """
    import numpy as np

    n = len(texts)
    spans = np.empty((n, 2), np.int64)
    reason = np.full(n, -1, np.int8)
    judge_with(PLAIN_NUMBER, texts, lenient, [[]], (reason, np.empty(n, np.int8), np.empty(n), spans))
    return reason.tolist(), spans


def mark_of(marks_only: bool, text: str, start: int) -> str:
    """What shows the answer that begins at text[start]: see `Verdict.mark`."""
    # The usual endings are told quickly: the answer stands right behind the last tag, or in a box behind it.
    tag = text.rfind("<answer>")
    before = text[tag + len("<answer>") : start].strip() if 0 <= tag < start else None
    if before == "" and text[start] != "\\":  # else it may begin a list of boxes
        return BLOCK
    if before == r"\boxed{":
        return BOX
    found = find_answer(text, marks_only=marks_only)
    return found.mark if found.mark and found.start <= start < found.end else "last"


def text_task(
    name: str,
    fields: tuple[str, ...],
    judge: Callable[..., Judged],
    *,
    optional: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    explain: Callable[..., str] | None = None,
    flexible: Callable[..., Judged] | None = None,
    kernel: Kernel | None = None,
    marks_only: bool = False,
    judge_all: Callable[..., Columns] | None = None,
) -> Task:
    """A task whose completions are text.

    Args:
        judge: (text, lenient, row, *reference) -> the verdict on one completion; raises for an invalid reference.
            `row` is the completion's row in its batch, None outside a batch. An optional field that is not given is
            None. Of a task with a kernel, it also takes `found`: where the answer stands, if the kernel has found it.
        flexible: (text, judged, *reference) -> the verdict in mode "flexible" on a completion that `judged`, the
            verdict of lenient mode, does not call right; None for a task without this mode.
        kernel: decides most rows of large batches.
        marks_only: no sentence names an answer of this task.
        judge_all: (texts, lenient, *columns) -> `Columns`, in place of one call of `judge` for each row; the column of
            an optional field that is not given is None.
    """
    all_fields = (*fields, *optional)
    mark = partial(mark_of, marks_only)

    def judge_one(
        text: str,
        mode: str,
        row: int | None,
        values: Sequence[object],
        judged: Judged | None = None,
        **found: Found,
    ) -> Judged:
        """The verdict on one completion; if reading it raises, its reason is "error", and its row's alone.

        judged: the verdict of lenient mode, if it is known.
        """
        try:
            judged = judged or judge(text, mode != "strict", row, *values, **found)
            if mode == "flexible" and judged[0] != OK:
                judged = flexible(text, judged, *values)  # type: ignore[misc]
            return judged
        except (VerifierError, ImportError):
            raise  # a wrong reference, or a package that is not installed
        except Exception:
            logging.getLogger("verifiers").exception(
                "%s: a completion could not be judged: %.200r", name, text
            )
            return ERROR, TEXT, 0.0, -1, -1

    def verify(completion: object, *, mode: str, **reference: object) -> Verdict:
        text = as_text(completion)
        values = [reference.get(field) for field in all_fields]
        # For what is not text, "" is judged, which checks the reference.
        reason, tier, score, start, end = judge_one(text or "", mode, None, values)
        if text is None:
            why = partial(verdicts.no_text, type(completion).__name__)
            return Verdict(False, 0.0, None, Reason.MALFORMED, Tier.TEXT, why)
        extracted = text[start:end] if start >= 0 else None
        why = None
        if explain is not None and reason != OK:
            why = partial(explain, extracted, REASONS[reason], **reference)
        where = partial(mark, text, start) if start >= 0 else None
        return Verdict(reason == OK, score, extracted, REASONS[reason], TIERS[tier], why, where)

    def judge_rows(texts: list[str], mode: str, *columns: list[Any] | None) -> Columns:
        import numpy as np

        n = len(texts)
        reason, tier, score = (np.empty(n, kind) for kind in (np.int8, np.int8, np.float64))
        spans = np.empty((n, 2), np.int64)
        undecided = np.arange(n)
        reason[:] = -1
        if kernel is not None and judge_with(
            kernel, texts, mode != "strict", columns, (reason, tier, score, spans)
        ):
            # Kernels of grids and formulas also say that there is no answer. Flexible mode looks for one elsewhere.
            is_open = (reason < 0) | ((reason == NO_ANSWER) & (mode == "flexible"))
            undecided = np.flatnonzero(is_open)
        # Lists are read and written sooner than arrays, place by place.
        known = zip(undecided.tolist(), reason[undecided].tolist(), spans[undecided].tolist(), strict=True)
        judged, places = [], []
        for row, code, place in known:
            text = texts[row]
            values = [None if column is None else column[row] for column in columns]
            if code == LOCATED:
                found = Found(OK, *(place if text.isascii() else in_characters(text, *place)), None, True)
                *decided, start, end = judge_one(text, mode, row, values, found=found)
            else:
                *decided, start, end = judge_one(text, mode, row, values)
            judged += decided
            places += (start, end) if text.isascii() else in_bytes(text, start, end)
        if judged:
            columns_of = np.array(judged).reshape(-1, 3).T
            reason[undecided], tier[undecided], score[undecided] = columns_of
            spans[undecided] = np.array(places).reshape(-1, 2)
        return reason, tier, score, spans

    def judge_together(texts: list[str], mode: str, *columns: list[Any] | None) -> Columns:
        """The columns by `judge_all` if the task has it; if it fails for a completion, by one call for each row."""
        if judge_all is None:
            return judge_rows(texts, mode, *columns)
        try:
            reason, tier, score, spans = judge_all(texts, mode != "strict", *columns)
        except (VerifierError, ImportError):
            raise
        except Exception:
            return judge_rows(texts, mode, *columns)
        for row in (reason != OK).nonzero()[0].tolist() if mode == "flexible" else []:
            text, values = texts[row], [None if column is None else column[row] for column in columns]
            known = reason[row].item(), tier[row].item(), score[row].item()
            judged = *known, *in_characters(text, *spans[row].tolist())
            *decided, start, end = judge_one(text, mode, row, values, judged)
            reason[row], tier[row], score[row] = decided
            spans[row] = in_bytes(text, start, end)
        return reason, tier, score, spans

    def verify_batch(completions: list[object], *, mode: str, **references: list[object]) -> Verdicts:
        texts, not_text = completions, []  # the second: the rows of completions that are not text
        are_all_text = set(map(type, completions)) <= {str}
        if not are_all_text:
            texts_or_none = [as_text(completion) for completion in completions]
            texts = [text or "" for text in texts_or_none]
            not_text = [row for row, text in enumerate(texts_or_none) if text is None]
        columns = [references.get(field) for field in all_fields]
        reason, tier, score, spans = judge_together(texts, mode, *columns)
        if not_text:  # indexing takes time even with an empty list
            reason[not_text], tier[not_text] = MALFORMED, TEXT
        kinds = {row: type(completions[row]).__name__ for row in not_text}
        return Verdicts(reason == OK, score, reason, tier, spans, texts, mark).with_kinds(kinds)

    modes = MODES if flexible else Task.modes
    if kernel is not None:
        kernels.append(kernel)
    return Task(name, fields, verify, verify_batch, optional, settings, explain=explain, modes=modes)


def prepare_kernels() -> None:
    """Loads the kernels of all tasks; compiles those that are not in the disk cache, in some ten seconds."""
    for task in ("countdown", "gsm8k", "sudoku"):
        find(task)
    for kernel in kernels:
        kernel.load()


def in_bytes(text: str, start: int, end: int) -> tuple[int, int]:
    """A span of characters as one of bytes of UTF-8; -1, -1 stays."""
    if start < 0 or text.isascii():
        return start, end
    before = len(verdicts.encoded(text[:start]))
    return before, before + len(verdicts.encoded(text[start:end]))


def in_characters(text: str, start: int, end: int) -> tuple[int, int]:
    """A span of bytes of UTF-8 as one of characters; -1, -1 stays."""
    if start < 0 or text.isascii():
        return start, end
    data = verdicts.encoded(text)
    before = len(data[:start].decode("utf-8", "surrogatepass"))
    return before, before + len(data[start:end].decode("utf-8", "surrogatepass"))


def pack(texts: Sequence[str]) -> Packed:
    """(the UTF-8 bytes of all texts in one read-only buffer (uint8), where each begins and the last ends (N + 1,))."""
    latin1_texts = one_character_a_byte(texts)
    return joined_bytes(latin1_texts), starts_of(latin1_texts)


def one_character_a_byte(texts: Sequence[str]) -> list[str]:
    """Each text with one character for each byte of its UTF-8, so that `len` counts bytes: "Ã©" for "é".

    Most texts are ASCII and stay as they are. Texts in this form are joined in half the time of `bytes`.
    """
    return [text if text.isascii() else verdicts.encoded(text).decode("latin-1") for text in texts]


def joined_bytes(latin1_texts: Sequence[str]) -> npt.NDArray[np.uint8]:
    """The bytes of all texts, each in the form of `one_character_a_byte`, in one read-only buffer (uint8)."""
    import numpy as np

    joined = "".join(latin1_texts).encode("latin-1")
    return np.frombuffer(joined or b"\0", np.uint8)  # never an empty buffer


def starts_of(parts: Sequence) -> npt.NDArray[np.int64]:
    """Where each of N parts begins when they are joined, and where the last one ends: (N + 1,) int64."""
    import numpy as np

    starts = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=starts[1:])
    return starts


def slices_of(starts: npt.NDArray[np.int64]) -> list[slice]:
    """The rows in slices of about SLICE_CHARACTERS. starts: what `starts_of` returns for the texts."""
    import numpy as np

    cuts = starts.searchsorted(np.arange(SLICE_CHARACTERS, starts[-1], SLICE_CHARACTERS))
    return [slice(*pair) for pair in pairwise(np.unique([0, *cuts, len(starts) - 1]).tolist())]


def cpus() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

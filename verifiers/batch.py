"""Judges many completions at once: packs them into one byte buffer for compiled loops, which run in threads.

numba is imported, and a loop compiled, only if a batch is large enough to be worth it. The compiled loop is cached on
disk, if that is possible. Everything here works without numba too, row by row.
"""

from __future__ import annotations

import logging
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, is_dataclass
from dataclasses import fields as dataclass_fields
from functools import cache, partial
from inspect import isfunction
from itertools import pairwise
from math import isfinite
from pathlib import Path
from threading import Lock, local
from time import perf_counter
from types import ModuleType
from typing import TYPE_CHECKING, Any

from verifiers import answer_words, characters, extract, last_line, named_value, sentence, verdicts
from verifiers.registry import MODES, Task
from verifiers.verdicts import MALFORMED, NO_ANSWER, OK, REASONS, TEXT, TIERS, Reason, Tier, Verdict, Verdicts

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Packed = tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]
    Columns = tuple[
        npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.float64], npt.NDArray[np.int64]
    ]

Judged = tuple[int, int, float, int, int]  # reason, tier, score, start and end of the judged text
Flexible = Callable[[bytes, int, int, int], tuple[int, int]]
"""(completion, reason, start and end of what lenient mode has judged) -> (start, end) of the text to judge instead, or
(-1, -1) if there is none."""

# A thread judges so many characters at a time. A larger buffer would take three times as long, since the system would
# give it new pages each time.
SLICE_CHARACTERS = 1 << 17
MAX_THREADS = 8
MIN_COMPILED_ROWS = 256  # judging so many without compiled code takes as long as importing numba
MIN_COMPILED_CHARACTERS = 1 << 20
TEXTS = "Array(uint8, 1, 'C', readonly=True), int64[::1]"  # numba's types of what `pack` returns
COLUMNS = "int8[::1], int8[::1], float64[::1], int64[:, ::1]"  # numba's types of `Columns`
INTEGER_BITS = 2000  # a longer integer is no reference; Python prints none of more than 4,300 digits
MAX_EXACT_CHARACTERS = 400  # a Decimal or Fraction whose text is longer is no reference
_registered: set[Any] = set()  # the functions that compiled code can call
_lock = Lock()
COMPILING_SECONDS = 15.0
"""About how long the first compilation of a loop takes."""


@dataclass
class Compiling:
    """When compiled code is used, and how long compiling has taken.

    Attributes:
        rows_left: how many more rows of large batches are judged without compiled code (small batches always are).
        seconds: how many more seconds are spent on judging without compiled code before a loop is compiled. A loop that
            is in numba's disk cache is used at once.
        begins: called with the name of the verifier before a loop is compiled; logs a line.
        taken: how many seconds compiling has taken so far.
    """

    rows_left: int = 0
    seconds: float = 0.0
    begins: Callable[[str], None] = lambda verifier: logging.getLogger("verifiers").warning(
        "Compiling the verifiers' part %s once, which may take a minute; numba keeps the result on disk.",
        verifier,
    )
    taken: float = 0.0


compiling = Compiling()


def as_text(completion: object) -> str | None:
    """`completion` as a plain `str`, even if a subclass overrides `__str__`; None if it is not a string."""
    if type(completion) is str:
        return completion
    return str.__str__(completion) if issubclass(type(completion), str) else None


def as_reference(value: object) -> str | None:
    """A text as it is; a finite number, also of numpy, Decimal or Fraction, as text (6.0 as "6"); else None."""
    if type(value) is str:
        return value
    if getattr(value, "shape", None) == ():  # a scalar of numpy or torch
        kind = str(value.dtype).removeprefix("torch.")  # type: ignore[attr-defined]
        value = value.item()  # type: ignore[attr-defined]
        if kind in ("float32", "float16") and isfinite(value) and not value.is_integer():
            import numpy as np

            value = float(str(np.dtype(kind).type(value)))  # 0.1, not 0.10000000149, its value as a float32
    if type(value) is float and isfinite(value):
        value = int(value) if value.is_integer() else repr(value)
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() < INTEGER_BITS:
        return str(int(value))
    if type(value).__module__ in ("decimal", "_decimal", "fractions"):
        text = str(value)
        # Not "NaN", nor "1E+9" of a large Decimal.
        is_plain = text.removeprefix("-")[:1].isdigit() and "E" not in text
        return text if is_plain and len(text) <= MAX_EXACT_CHARACTERS else None
    return as_text(value)  # a float as text, a subclass of `str`, or no reference


@dataclass(frozen=True)
class RowLoop:
    """A function that judges one completion, and what is needed to compile a loop that calls it for each of many.

    `judge(data, start, end, lenient, references, row, scratch)` judges data[start:end], the completion of a row of the
    batch, by the reference of this row. The function is plain Python that numba compiles too. If it returns a negative
    reason, the row must be judged outside compiled code. `references` is numba's type of the argument of that name, a
    tuple. `scratch` is the class of the object that the function may write to: a dataclass whose fields are integers,
    lists of integers, and such dataclasses. `modules` are the modules whose functions `judge` calls.
    """

    judge: Callable[..., Judged]
    references: str
    scratch: Callable[[], Any]
    modules: tuple[ModuleType, ...]


@cache
def struct_of(loop: RowLoop) -> np.dtype:
    """The type of `loop.scratch` in compiled code: a C struct with the same names."""
    import numpy as np

    return np.dtype(layout(loop.scratch()))


def layout(value: Any) -> Any:
    """numpy's type of an integer, a list of integers, or a dataclass of these and of such dataclasses."""
    if is_dataclass(value):
        return [(field.name, layout(getattr(value, field.name))) for field in dataclass_fields(value)]
    return ("int64", len(value)) if isinstance(value, list) else "int64"


@cache
def compiled_rows(loop: RowLoop, only_cached: bool = False) -> Callable[..., None] | None:
    """The loop as machine code; None in the cases that `compile_loop` names."""

    def signature() -> Any:
        from numba import from_dtype
        from numba.core.sigutils import normalize_signature

        argument_types, returned = normalize_signature(
            f"void({TEXTS}, boolean, Tuple(({loop.references})), {COLUMNS}, int64)"
        )
        memory = from_dtype(struct_of(loop))[::1]
        return returned(*argument_types, memory)

    return compile_loop(partial(_make_rows, loop), signature, *loop.modules, only_cached=only_cached)


def _kernel(loop: RowLoop) -> Callable[..., None] | None:
    """The loop as machine code if it is on disk, or if compiling it is worth the time by now; else None."""
    kernel = compiled_rows(loop, only_cached=True)
    if kernel is None and compiling.seconds <= 0:
        kernel = compiled_rows(loop)
    return kernel


def _make_rows(loop: RowLoop, checksum: int) -> Callable[..., None]:
    """The loop over many completions, ready to be compiled; `compile_loop` says what `checksum` is for.

    `first` of the loop is the row of its first completion in the batch. `memory` has one entry, the scratch of `judge`.
    """
    judge = loop.judge

    def judge_rows(data, starts, lenient, references, reason, tier, score, spans, first, memory):  # type: ignore[no-untyped-def]
        if checksum < 0:  # never: the loop closes over it, so that numba's cache key depends on it
            return
        scratch = memory[0]
        for i in range(len(starts) - 1):
            start, end, row = starts[i], starts[i + 1], first + i
            reason[i], tier[i], score[i], low, high = judge(
                data, start, end, lenient, references, row, scratch
            )
            # Spans count from the beginning of their completion; -1, -1 says that no text was judged, and stays.
            shift = start if low >= 0 else 0
            spans[i, 0], spans[i, 1] = low - shift, high - shift

    return judge_rows


def judge_texts(
    texts: list[str],
    lenient: bool,
    loop: RowLoop,
    judge_row: Callable[[bytes, int], Judged],
    references: Callable[[], tuple],
) -> Columns:
    """Reason, tier, score (N,) and spans (N, 2) of N texts: by the compiled loop, or one by one by `judge_row`.

    judge_row(data, row): judges one text without compiled code. references: makes the argument `references` of the
    compiled loop; only called if that loop is used.
    """
    import numpy as np

    n = len(texts)
    reason, tier, score = (np.empty(n, kind) for kind in (np.int8, np.int8, np.float64))
    spans = np.empty((n, 2), np.int64)
    undecided: Iterable[int] = range(n)  # the rows for `judge_row`
    kernel = None
    if is_large(texts):
        compiling.rows_left -= n
        if compiling.rows_left < 0:
            kernel = _kernel(loop)
    began = perf_counter()
    if kernel is not None:
        packed, latin1_texts = references(), one_character_a_byte(texts)
        starts = starts_of(latin1_texts)
        slices = slices_of(starts)
        memories = np.empty(len(slices), struct_of(loop))

        def arguments(number: int) -> tuple:
            """The arguments of the loop for the slice of that number."""
            part_rows = slices[number]
            part_starts = starts[part_rows.start : part_rows.stop + 1] - starts[part_rows.start]
            columns = (column[part_rows] for column in (reason, tier, score, spans))
            memory = memories[number : number + 1]
            data = joined_bytes(latin1_texts[part_rows])
            return data, part_starts, lenient, packed, *columns, part_rows.start, memory

        threads = min(len(slices), MAX_THREADS, cpus())
        if threads < 2:
            for number in range(len(slices)):
                kernel(*arguments(number))
        else:
            with ThreadPoolExecutor(threads, thread_name_prefix="verifiers") as pool:
                futures = [pool.submit(kernel, *arguments(number)) for number in range(len(slices))]
                for future in futures:
                    future.result()
        undecided = np.flatnonzero(reason < 0).tolist()
    for row in undecided:
        judged = judge_row(verdicts.encoded(texts[row]), row)
        reason[row], tier[row], score[row], spans[row, 0], spans[row, 1] = judged
    if kernel is None:
        compiling.seconds -= perf_counter() - began
    return reason, tier, score, spans


def text_task(
    name: str,
    fields: tuple[str, ...],
    judge: Callable[..., Judged],
    judge_all: Callable[..., Columns],
    optional: tuple[str, ...] = (),
    explain: Callable[..., str] | None = None,
    flexible: Flexible | None = None,
) -> Task:
    """A task whose completions are text; it has the mode "flexible" if `flexible` says what is judged in that mode.

    `judge(data, lenient, row, *reference)` judges one completion, and raises for an invalid reference; `row` is the
    completion's row in its batch, None outside a batch. `judge_all(texts, lenient, *columns)` judges many. For an
    optional field that is not given, `judge` gets None as its value, and `judge_all` None as its whole column.
    """

    all_fields = (*fields, *optional)

    def reread(data: bytes, judged: Judged, *reference: object) -> Judged:
        """The verdict on the text that `flexible` finds, if there is one and it can be read; else `judged`."""
        reason, _, _, start, end = judged
        low, high = flexible(data, reason, start, end) if flexible else (-1, -1)
        if low < 0:
            return judged
        marked = b"<answer>" + data[low:high] + b"</answer>"
        lenient, row = True, None
        reason, tier, score, _, _ = judge(marked, lenient, row, *reference)
        return judged if reason in (MALFORMED, NO_ANSWER) else (reason, tier, score, low, high)

    def verify(completion: object, *, mode: str, **reference: object) -> Verdict:
        text = as_text(completion)
        data = verdicts.encoded(text or "")  # for what is not text, "" is judged, which checks the reference
        values = [reference.get(field) for field in all_fields]
        lenient, row = mode != "strict", None
        judged = judge(data, lenient, row, *values)
        if mode == "flexible":
            judged = reread(data, judged, *values)
        reason, tier, score, start, end = judged
        if text is None:
            why = partial(verdicts.no_text, type(completion).__name__)
            return Verdict(
                correct=False,
                score=0.0,
                extracted=None,
                reason=Reason.MALFORMED,
                decided_by=Tier.TEXT,
                explain=why,
            )
        extracted = verdicts.cut(text, start, end)
        why = None
        if explain is not None and reason != OK:
            why = partial(explain, extracted, REASONS[reason], **reference)
        return Verdict(reason == OK, score, extracted, REASONS[reason], TIERS[tier], why)

    def verify_batch(completions: list[object], *, mode: str, **references: list[object]) -> Verdicts:
        import numpy as np

        texts, not_text = completions, []  # the second: the rows of completions that are not text
        are_all_text = set(map(type, completions)) <= {str}
        if not are_all_text:
            texts_or_none = [as_text(completion) for completion in completions]
            texts = [text or "" for text in texts_or_none]
            not_text = [row for row, text in enumerate(texts_or_none) if text is None]
        columns = [references.get(field) for field in all_fields]
        lenient = mode != "strict"
        reason, tier, score, spans = judge_all(texts, lenient, *columns)
        to_reread = np.flatnonzero(reason != OK).tolist() if mode == "flexible" else []
        for row in to_reread:
            judged = int(reason[row]), int(tier[row]), float(score[row]), *spans[row].tolist()
            values = [None if column is None else column[row] for column in columns]
            reason[row], tier[row], score[row], *span = reread(verdicts.encoded(texts[row]), judged, *values)
            spans[row] = span
        if not_text:  # indexing takes time even with an empty list
            reason[not_text], tier[not_text] = MALFORMED, TEXT
        kinds = {row: type(completions[row]).__name__ for row in not_text}
        return Verdicts(reason == OK, score, reason, tier, spans, texts).with_kinds(kinds)

    modes = MODES if flexible else Task.modes
    return Task(name, fields, verify, verify_batch, optional, explain=explain, modes=modes)


def compiled_task(
    name: str,
    fields: tuple[str, ...],
    loop: RowLoop,
    judge_one: Callable[..., Judged],
    pack_references: Callable[..., tuple],
    explain: Callable[..., str] | None = None,
    flexible: Flexible | None = None,
) -> Task:
    """A task whose completions are text, and whose batches are judged by `loop`.

    `judge_one(data, lenient, row, scratch, *reference)` is the `judge` of `text_task`, but may write to `scratch`.
    `pack_references(*columns)` returns the argument `references` of the loop.
    """

    memory_of_thread = local()

    def judge(data: bytes, lenient: bool, row: int | None, *reference: object) -> Judged:
        if not hasattr(memory_of_thread, "scratch"):
            memory_of_thread.scratch = loop.scratch()
        return judge_one(data, lenient, row, memory_of_thread.scratch, *reference)

    def judge_all(texts: list[str], lenient: bool, *columns: list[object]) -> Columns:
        scratch = loop.scratch()

        def judge_row(data: bytes, row: int) -> Judged:
            return judge_one(data, lenient, row, scratch, *[column[row] for column in columns])

        return judge_texts(texts, lenient, loop, judge_row, lambda: pack_references(*columns))

    return text_task(name, fields, judge, judge_all, explain=explain, flexible=flexible)


def pack_texts(text_of: Callable[[object, int], str]) -> Callable[[list[object]], Packed]:
    """`pack` for a column of references: if one of them is no `str`, `text_of(reference, row)` makes each a text."""

    def pack_column(references: list[object]) -> Packed:
        are_all_text = set(map(type, references)) == {str}
        texts = references if are_all_text else [text_of(value, row) for row, value in enumerate(references)]
        return pack(texts)  # type: ignore[arg-type]

    return pack_column


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


def is_large(texts: Sequence[str]) -> bool:
    """Whether a batch has so many rows or characters that it may be judged by compiled code."""
    return len(texts) > MIN_COMPILED_ROWS or sum(map(len, texts)) > MIN_COMPILED_CHARACTERS


class _NotCached(Exception):
    """numba is about to compile a loop that was only to be loaded."""


def _make_callable(*modules: ModuleType) -> None:
    """Makes the functions of modules callable from compiled code, some of them in another form."""
    from numba.extending import overload, register_jitable

    if not _registered:
        # {function: a function that returns what numba compiles in its place}, for numba's `overload`.
        compiled_forms: dict[Callable, Callable] = {
            extract.find_byte: lambda data, byte, start, end: extract.find_byte_in_array,
            extract.matches: lambda data, start, end, pattern: extract.matches_in_array,
            extract.is_end_token: lambda data, start, end: extract.is_end_token_in_array,
            extract.line_start: lambda data, start, end: extract.line_start_in_array,
            extract.last_command: lambda data, start, end, command: extract.last_command_in_array,
            sentence.may_name: lambda data, start, end: sentence.may_name_in_array,
        }
        for plain, give_form in compiled_forms.items():
            overload(plain)(give_form)
        _registered.update(compiled_forms)
    for module in modules:
        for member in vars(module).values():
            is_own_function = isfunction(member) and member.__module__ == module.__name__
            if is_own_function and member not in _registered:
                register_jitable(member)
                _registered.add(member)


def compile_loop(
    make: Callable[[int], Callable],
    signature: str | Callable[[], Any],
    *modules: ModuleType,
    only_cached: bool = False,
) -> Callable | None:
    """Compiles `make(checksum)` for one signature, with the functions of `modules` and of `extract` callable from it.

    Returns None if numba cannot be imported or, with `only_cached`, if the compiled function is not on disk or another
    process is compiling. The compiled function releases the GIL. It must not make an array, because it is compiled
    without numba's counting of references, and is a fifth faster for that. If no cache folder can be written, the
    function is compiled for this process only. Processes that would compile at the same time take turns, so that the
    second loads what the first has compiled.

    Args:
        make: makes the function, which must close over `checksum`, the checksum of the modules that it calls into.
            numba's disk cache notices a change of the file that holds the function, but not of those other files;
            and the cache keeps apart functions that close over different values.
        signature: a text that numba understands, or a function that returns one and may import numba.
        only_cached: whether the function is only loaded from disk, and never compiled.
    """
    try:
        import numba
        from numba.core import event
    except ImportError:
        return None

    class Watch(event.Listener):
        """What numba tells of each compilation whose result the disk cache lacks."""

        def on_start(self, started: Any) -> None:
            if started.data["dispatcher"].py_func is function:  # not a function that it calls
                if only_cached:
                    raise _NotCached
                last_module = (extract, *modules)[-1]
                compiling.begins(last_module.__name__.split(".")[1])  # verifiers.gsm8k.answer -> gsm8k
                compiling.taken -= perf_counter()

        def on_end(self, ended: Any) -> None:
            if ended.data["dispatcher"].py_func is function and not only_cached:
                compiling.taken += perf_counter()

    from verifiers.loop_cache import LoopCache, turn

    with _lock:
        _make_callable(extract, *modules)
        sources = b"".join(Path(str(module.__file__)).read_bytes() for module in (extract, *modules))
        function = make(zlib.crc32(sources))
        signature = signature() if callable(signature) else signature
        loop = numba.njit(nogil=True, _nrt=False)(function)
        folder = None
        with suppress(RuntimeError, OSError):  # the cache has no folder, or one that cannot be written
            loop._cache = LoopCache(function)
            folder = loop.stats.cache_path
        with (
            suppress(_NotCached),
            event.install_listener("numba:compile", Watch()),
            turn(folder, only_to_load=only_cached) as has_turn,
        ):
            if has_turn:
                loop.compile(signature)
                loop.disable_compile()
                return loop
    return None


@dataclass(slots=True)
class _Unused:
    """The scratch of a loop that does not need any."""

    nothing: int = 0


FIND_ANSWER_MODULES = (characters, answer_words, named_value, last_line, sentence)
"""The modules, beside `extract`, of the functions that `sentence.find_answer` calls."""
_LOCATE = RowLoop(sentence.find_row, references="", scratch=_Unused, modules=FIND_ANSWER_MODULES)


def locate_all(
    texts: list[str], lenient: bool
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.int8], npt.NDArray[np.int64]]:
    """`sentence.find_answer` on N texts: status (N,), 1 for a box (N,), start and end in UTF-8 bytes (N, 2)."""

    def locate_one(data: bytes, row: int) -> Judged:
        return sentence.find_row(data, 0, len(data), lenient, references=(), row=row, scratch=())

    no_references = tuple
    status, boxed, _, spans = judge_texts(texts, lenient, _LOCATE, locate_one, no_references)
    return status, boxed, spans

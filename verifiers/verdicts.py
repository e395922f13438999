"""What a verifier returns: a `Verdict` on one completion, or `Verdicts`, the arrays of many.

This module decides the names and the integer codes of reasons and tiers. A new one is only ever added at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


RULES = 4
"""The number of the rules by which answers are found and judged. It grows when a verdict on some text changes; runs,
evaluations and files of verdicts record it."""


class Reason(StrEnum):
    """Why a completion got its verdict; a member equals its text: `Reason.OK == "ok"`."""

    OK = "ok"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    MALFORMED = "malformed"
    RULE_BROKEN = "rule_broken"
    HEDGE = "hedge"
    TIMEOUT = "timeout"
    ERROR = "error"


class Tier(StrEnum):
    """Which tier of a verifier decided, cheapest first; a member equals its text."""

    TEXT = "text"
    GRAMMAR = "grammar"
    RATIONAL = "rational"
    TYPED = "typed"
    PROBE = "probe"
    CAS = "cas"


NO_MARK = (
    "No answer was found: in strict mode it stands in a closed <answer> block; in lenient mode it may also stand in a "
    r"\boxed{}, behind an unclosed <answer> or behind ####"
)
"""Where every task that reads answers looks for one; a sentence to go on with, so it has no full stop."""
DETAILS: dict[str, str] = {
    Reason.OK: "",
    Reason.WRONG: "The answer has another value than the reference.",
    Reason.NO_ANSWER: f"{NO_MARK}, for all tasks but Countdown, Sudoku and JSON in a sentence such as "
    '"The answer is 18." ("Is 18 the answer?" names none).',
    Reason.MALFORMED: "An answer was found, but in no notation that the task reads in this mode, or it is too long; "
    "the task's page lists the notations. In strict mode, GSM8K and MATH want \\boxed{...} inside <answer>.",
    Reason.RULE_BROKEN: "The answer breaks a rule of the task, or has not the form that the problem asks for.",
    Reason.HEDGE: "The answer names several values.",
    Reason.TIMEOUT: "The time or the instructions that an answer may use were used up.",
    Reason.ERROR: "What judges this answer failed or is not installed; the log says why.",
}
"""What each reason means, in one or two sentences."""
REASONS = tuple(Reason)
TIERS = tuple(Tier)
# The same as integer codes, for compiled code: OK is the place of `Reason.OK` in `REASONS`, and so on.
OK, WRONG, NO_ANSWER, MALFORMED, RULE_BROKEN, HEDGE, TIMEOUT, ERROR = range(len(REASONS))
TEXT, GRAMMAR, RATIONAL, TYPED, PROBE, CAS = range(len(TIERS))


def _detail(reason: str, extracted: str | None) -> str:
    """What a reason means; of an answer that cannot be read, also how it begins."""
    text = DETAILS.get(reason, "")
    if reason != Reason.MALFORMED or not extracted:
        return text
    return text.replace("An answer was found", f"The answer {extracted[:_QUOTED]!r} was found", 1)


_QUOTED = 60  # characters of an answer that are quoted


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on one completion. All but `correct` may be left out: `Verdict(correct=True)`.

    Attributes:
        correct: whether the answer is right; papers report this.
        score: partial credit in [0, 1], if the task has it; else 0 or 1.
        extracted: the text that was judged; None if none was found.
        reason: why the completion got this verdict; "ok" or "wrong" if left out.
        decided_by: the tier that decided; "text" if left out.
    """

    correct: bool
    score: float = None  # type: ignore[assignment]  # __post_init__ replaces it
    extracted: str | None = None
    reason: Reason = None  # type: ignore[assignment]  # also replaced
    decided_by: Tier = Tier.TEXT
    explain: Callable[[], str] | None = field(default=None, compare=False, repr=False)
    """Says what is wrong with this answer, if the task can say more than the reason; `detail` calls this function."""
    where: Callable[[], str | None] | None = field(default=None, compare=False, repr=False)
    """Says what shows the answer; `mark` calls this function."""

    @property
    def mark(self) -> str | None:
        r"""What shows the answer that was judged; None if none was found.

        "block" for an `<answer>` block, "box" for a `\boxed{}`, "hashes" for `####`, "named" for a sentence, heading or
        JSON field, "bold" for bold text in the last line, or "last" for what mode flexible finds without any of these,
        and for a program or JSON text outside of a block.
        """
        return self.where() if self.where else None

    def __post_init__(self) -> None:
        if self.score is None:
            object.__setattr__(self, "score", float(self.correct))
        if self.reason is None:
            object.__setattr__(self, "reason", Reason.OK if self.correct else Reason.WRONG)

    @property
    def detail(self) -> str:
        """What is wrong, in a sentence; for `no_answer` it says where an answer was looked for; "" for a right one."""
        return (self.explain() if self.explain else "") or _detail(self.reason, self.extracted)


class Verdicts(Sequence[Verdict]):
    """The verdicts on N completions as arrays, in order; `verdicts[i]` is a `Verdict`, a slice is `Verdicts`.

    Attributes:
        correct: (N,) bool.
        score: (N,) float64 in [0, 1].
        reason: (N,) int8, positions in `reason_names`.
        decided_by: (N,) int8, positions in `tier_names`.
        spans: (N, 2) int64, where the judged text begins and ends in the UTF-8 bytes of its completion; -1, -1 if no
            text was judged.
    """

    reason_names = tuple(reason.value for reason in REASONS)
    tier_names = tuple(tier.value for tier in TIERS)

    def __init__(
        self,
        correct: npt.NDArray[np.bool_],
        score: npt.NDArray[np.float64],
        reason: npt.NDArray[np.int8],
        decided_by: npt.NDArray[np.int8],
        spans: npt.NDArray[np.int64],
        texts: Sequence[str],
        mark: Callable[[str, int], str] | None = None,
    ) -> None:
        """texts: the N completions that `spans` point into, "" for one that is not text; they are not copied.

        mark: (completion, where its judged text begins) -> what shows it, as `Verdict.mark` says.
        """
        self.correct, self.score, self.reason, self.decided_by = correct, score, reason, decided_by
        self.spans, self._texts = spans, texts
        self._mark = mark
        self._wheres: Sequence[Callable[[], str | None] | None] | None = None  # of single verdicts
        self._explain: Callable[..., str] | None = None
        self._references: Mapping[str, Sequence[Any]] = {}
        self._kinds: Mapping[int, str] = {}

    @classmethod
    def of(cls, verdicts: Sequence[Verdict]) -> Verdicts:
        """The arrays of single verdicts, each with its extracted text in place of the completion."""
        import numpy as np

        texts = [verdict.extracted or "" for verdict in verdicts]
        spans = np.full((len(verdicts), 2), -1, np.int64)
        for row, verdict in enumerate(verdicts):
            if verdict.extracted is not None:
                spans[row] = 0, len(encoded(texts[row]))
        made = cls(
            np.array([verdict.correct for verdict in verdicts], np.bool_),
            np.array([verdict.score for verdict in verdicts], np.float64),
            np.array([REASONS.index(Reason(verdict.reason)) for verdict in verdicts], np.int8),
            np.array([TIERS.index(Tier(verdict.decided_by)) for verdict in verdicts], np.int8),
            spans,
            texts,
        )
        made._wheres = [verdict.where for verdict in verdicts]
        return made

    @cached_property
    def extracted(self) -> list[str | None]:
        """The judged text of each completion, cut out when first asked for; None if nothing was found."""
        return [
            text[start:end] if start >= 0 and text.isascii() else cut(text, start, end)
            for text, (start, end) in zip(self._texts, self.spans.tolist(), strict=True)
        ]

    def explained_by(self, explain: Callable[..., str], references: Mapping[str, Sequence[Any]]) -> Verdicts:
        """Makes the `explain` of a `Task` write the details; returns these verdicts themselves.

        references: {field: a value for each verdict}.
        """
        self._explain, self._references = explain, references
        return self

    def with_kinds(self, kinds: Mapping[int, str]) -> Verdicts:
        """Makes the details name the type of each completion that is not text; returns these verdicts themselves.

        kinds: {row of such a completion: the name of its type}.
        """
        self._kinds = kinds
        return self

    @cached_property
    def details(self) -> list[str]:
        """What is wrong with each completion, in a sentence, written when first asked for; "" for a right one."""
        if self._kinds:  # each verdict then writes its own sentence, which takes longer
            return [self[row].detail for row in range(len(self))]
        details = [DETAILS.get(reason, "") for reason in self.reasons]
        for row in (self.reason == MALFORMED).nonzero()[0].tolist():
            details[row] = _detail(Reason.MALFORMED, cut(self._texts[row], *self.spans[row].tolist()))
        if self._explain is not None:
            reasons, extracted = self.reason.tolist(), self.extracted
            for row in (~self.correct).nonzero()[0].tolist():
                reference = {name: column[row] for name, column in self._references.items()}
                explained = self._explain(extracted[row], REASONS[reasons[row]], **reference)
                details[row] = explained or details[row]
        return details

    @cached_property
    def marks(self) -> list[str | None]:
        """What shows the answer of each completion, read when first asked for: `Verdict.mark`."""
        return [where() if (where := self._where(row)) else None for row in range(len(self))]

    @cached_property
    def reasons(self) -> list[str]:
        """The name of each completion's reason."""
        return [self.reason_names[code] for code in self.reason.tolist()]

    @cached_property
    def tiers(self) -> list[str]:
        """The name of the tier that decided each completion."""
        return [self.tier_names[code] for code in self.decided_by.tolist()]

    def counts(self) -> dict[str, int]:
        """How many completions ended in each reason; reasons that did not occur are left out."""
        import numpy as np

        numbers = np.bincount(self.reason, minlength=len(REASONS)).tolist()
        return {name: number for name, number in zip(self.reason_names, numbers, strict=True) if number}

    def __len__(self) -> int:
        return len(self.correct)

    @overload
    def __getitem__(self, index: int) -> Verdict: ...
    @overload
    def __getitem__(self, index: slice) -> Verdicts: ...
    def __getitem__(self, index: int | slice) -> Verdict | Verdicts:
        if isinstance(index, slice):
            columns = (self.correct, self.score, self.reason, self.decided_by, self.spans)
            part = Verdicts(*(column[index] for column in columns), self._texts[index], self._mark)
            part._wheres = self._wheres[index] if self._wheres is not None else None
            if self._explain is not None:
                references = {name: column[index] for name, column in self._references.items()}
                part.explained_by(self._explain, references)
            rows = enumerate(range(len(self))[index])  # (row in the part, row in these verdicts)
            kinds = {part_row: self._kinds[row] for part_row, row in rows if row in self._kinds}
            return part.with_kinds(kinds)
        row = range(len(self))[index]  # counts a negative index from the end
        explain = None
        extracted = cut(self._texts[row], *self.spans[row].tolist())
        if self._explain is not None and not self.correct[row]:
            reference = {name: column[row] for name, column in self._references.items()}
            explain = partial(self._explain, extracted, REASONS[self.reason[row]], **reference)
        if row in self._kinds:
            explain = partial(no_text, self._kinds[row])
        return Verdict(
            bool(self.correct[row]),
            float(self.score[row]),
            extracted,
            REASONS[self.reason[row]],
            TIERS[self.decided_by[row]],
            explain,
            self._where(row),
        )

    def _where(self, row: int) -> Callable[[], str | None] | None:
        """What says which mark shows the answer of a row; None if it has none."""
        text, start = self._texts[row], int(self.spans[row, 0])
        if self._wheres is not None:
            return self._wheres[row]
        if start > 0 and not text.isascii():
            start = len(cut(text, 0, start) or "")
        return partial(self._mark, text, start) if self._mark and start >= 0 else None

    def __repr__(self) -> str:
        return f"Verdicts(n={len(self)}, correct={int(self.correct.sum())}, reasons={self.counts()})"


class Outcome(NamedTuple):
    """A verdict as files and answers over HTTP have it."""

    correct: bool
    score: float
    extracted: str | None
    reason: str
    decided_by: str
    mark: str | None
    detail: str


def outcomes_of(verdicts: Verdicts) -> Iterator[Outcome]:
    """Each verdict as an `Outcome`."""
    numbers_and_texts = (verdicts.correct.tolist(), verdicts.score.tolist(), verdicts.extracted)
    words = (verdicts.reasons, verdicts.tiers, verdicts.marks, verdicts.details)
    return map(Outcome, *numbers_and_texts, *words)


_CHAT_ADVICE = " Of a chat, give the content of its last message."
_ADVICE = {"list": _CHAT_ADVICE, "dict": _CHAT_ADVICE, "bytes": " Decode it."}
"""{type of a completion that is not text: what to do}."""


def no_text(kind: str) -> str:
    """The sentence that says what is wrong with a completion that is not text."""
    return f"The completion is of the type {kind}, not text.{_ADVICE.get(kind, '')}"


def encoded(text: str) -> bytes:
    """The text in UTF-8, also if it has lone surrogates."""
    return text.encode("utf-8", "surrogatepass")


def cut(text: str, start: int, end: int) -> str | None:
    """The bytes from `start` to `end` of the text in UTF-8, as text; None if `start` is -1."""
    if start < 0:
        return None
    if text.isascii():
        return text[start:end]
    return encoded(text)[start:end].decode("utf-8", "surrogatepass")

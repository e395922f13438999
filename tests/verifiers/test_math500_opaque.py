"""References that no grammar reads: they open, are equal to themselves in any layout, and to nothing else."""

import gzip
import json
from pathlib import Path

import pytest

from verifiers import Tier, verify, verify_batch
from verifiers.math500.normal_text import same_text, time_of

COLLEGE = r"""
\{x \mid x > 3\} || \{(x, y) \mid x + y = 4\} || \{x \in \mathbb{R} : x \neq 2\} || 3:4:5 || 2 : 7
\begin{pmatrix} 1 & 2 \\ 0 & 1 \end{pmatrix} \begin{pmatrix} x \\ y \end{pmatrix} || (1, 2, 0) + t(3, -1, 5)
\begin{pmatrix} 1 \\ 2 \end{pmatrix} + t \begin{pmatrix} 3 \\ -1 \end{pmatrix} || \langle 1, -2, 3 \rangle
\begin{bmatrix} 1 & 0 \\ 0 & 1 \end{bmatrix}^{-1} || \mathbf{i} - 2\mathbf{j} + 3\mathbf{k} || y = \frac{1}{4} x^2 - 3
x^2 + y^2 + z^2 = 25 || y = c_1 e^{2x} + c_2 e^{-3x} || c_1 e^{2x} + c_2 x e^{2x} || y(t) = C_1 \cos 3t + C_2 \sin 3t
f(x) = \begin{cases} x^2 & x \ge 0 \\ -x & x < 0 \end{cases} || \approx 3.72 || V \approx 12.57 \text{ cm}^3
1 + x + x^2 + \cdots + x^{n} || 1 - \frac{x^2}{2} + \frac{x^4}{24} - \cdots || \{1, 2, \ldots, n\} || \ln |x| + C
9.81 \text{ m/s}^2 || 4.2 \times 10^{3} \mathrm{~kg} / \mathrm{m}^{3} || 2.5 \mathrm{~km} \mathrm{~s}^{-1}
\frac{\pi}{4} + k\pi, k \in \mathbb{Z} || x = \frac{\pi}{6} + 2 k \pi \text{ or } x = \frac{5 \pi}{6} + 2 k \pi
\int_0^1 \sqrt{1 + 4x^2} \, dx || \lim_{n \to \infty} a_n = 2 || n \equiv 1 \pmod{4} || \sum_{k=1}^{n} k^2
a > 2 \text{ and } b \ne 0 || -1 \leq x \leq 1, 0 \leq y \leq 2 || k = 2n, n \in \mathbb{N}^* || p \lor q
A \cap B = \emptyset || \overline{CD} || a sentence, as it were? || -1 < x < 2
2x\,dx + 3y\,dy = 0 || \frac{\partial f}{\partial x} = 2xy || (f \circ g)(x) = 4x^2 - 1 || \max\{a, b\} || 25 \, \Omega
x = 2 + 3t, \; y = 1 - t, \; z = 4t || 20^{\circ}\mathrm{C} || \text{the line } y = x || \text{no solution}
-37_8 || 0.0011_{2} || \text{A5}_{11} || 1 2 || 5) || {5 || \frac{1} || \frac{0}{0} || <> || 1\phantom{0}
"""
GOLDS = [gold for line in COLLEGE.strip().splitlines() for gold in line.split(" || ")]
SAME = [
    (r"05\!:\!00", "5:00"), (r"9\text{ a.m.}", "9 AM"), (r"9\text{ a.m.}", r"9:00 \text{ a.m.}"),
    (r"\text{4:30 p.m.}", "4:30 p.m."), (r"\text{4:30 p.m.}", r"4\!:\!30 \text{ PM}"), (r"\text{A5}_{11}", "A5_{11}"),
    (r"4\!:\!51\!:\!06 \text{ p.m.}", r"\text{4:51:06 p.m.}"), (r"\overline{CD}", r"\overline{C D}"),
    (r"\langle 1, -2 \rangle", r"\left\langle 1,-2 \right\rangle"), ("1+x+\\cdots+x^{n}", "1 + x + \\ldots + x^n"),
]  # fmt: skip
DIFFERENT = [
    (r"\text{4:30 p.m.}", "4:30 a.m."), (r"\text{4:30 p.m.}", "4:31 p.m."), (r"9\text{ a.m.}", r"9\text{ p.m.}"),
    ("9:24", "924"), ("9:24", "24:9"), (r"\text{4:30 p.m.}", "4:30"), (r"\text{A5}_{11}", "A5_{12}"),
    (r"\overline{CD}", "CD"), ("x^{12}+\\cdots", "x^{1}2+\\cdots"), ("5)", "5"), ("1 2", "12"),
]  # fmt: skip


def test_golds_of_every_style_open_and_equal_themselves():
    boxed = [
        f"<answer>\\boxed{{{gold}}}</answer>" if gold != "{5" else "<answer>{5</answer>" for gold in GOLDS
    ]
    verdicts = verify_batch("math500", boxed, answer=GOLDS)
    assert [gold for gold, verdict in zip(GOLDS, verdicts, strict=True) if not verdict.correct] == []
    others = verify_batch("math500", ["<answer>137</answer>"] * len(GOLDS), answer=GOLDS)
    assert not others.correct.any()
    assert {"error", "malformed"}.isdisjoint(others.reasons)


@pytest.mark.parametrize("gold", ["5)", r"\frac{0}{0}", r"\langle 1 \rangle", "x" * 5000, "5\ud800", "a\0b"])
def test_what_no_grammar_reads_is_compared_as_text(gold):
    for answer, reason in ((gold, "ok"), ("5", "wrong")):
        verdict = verify("math500", f"<answer>{answer}</answer>", answer=gold)
        if reason == "ok" and verdict.reason == "malformed":
            assert "\0" in gold or "\ud800" in gold  # no answer may hold these
            continue
        assert (verdict.reason, verdict.decided_by) == (reason, Tier.TEXT)


def test_one_text_in_two_layouts():
    assert [pair for pair in SAME if not same_text(*pair)] == []
    assert [pair for pair in DIFFERENT if same_text(*pair)] == []
    unread = [*SAME, (r"\max\{a, b\}", r"\max \left\{ a,b \right\}")]
    golds, answers = zip(*unread, strict=True)
    verdicts = verify_batch("math500", [f"<answer>{answer}</answer>" for answer in answers], answer=golds)
    assert set(verdicts.reasons) == {"ok"} and verdicts.tiers[-1] == "text"
    refused = verify_batch("math500", ["<answer>5</answer>"], answer=[r"\sum_{k=1}^n k = 1 + \dots + n"])
    assert (refused.reasons, refused.tiers) == (["wrong"], ["text"])
    assert time_of("04:05") == ((4, 5), "") and time_of("12") is None and time_of("am") is None


@pytest.mark.parametrize(
    ("gold", "right", "wrong"),
    [
        (r"\text{(E)},", ("E", "(E)", r"\text{(E)},"), "D"), ("7;", ("7",), "8"),
        (r"\approx 8.24", ("8.24", r"\approx 8.24"), "8.2"),
    ],
)  # fmt: skip
def test_marks_around_a_gold_say_nothing(gold, right, wrong):
    assert all(verify("math500", f"\\boxed{{{text}}}", answer=gold).correct for text in right)
    assert not verify("math500", f"\\boxed{{{wrong}}}", answer=gold).correct


@pytest.mark.parametrize("gold", [6, 6.0, 6.5, -3, 1e-07])
def test_numbers_are_references_too(gold):
    for task in ("math", "gsm8k") if gold != 1e-07 else ("math",):
        assert verify(task, f"<answer>{gold}</answer>", answer=gold).correct
        assert not verify(task, f"<answer>{gold}1</answer>", answer=gold).correct


def test_every_published_gold_opens_and_is_right(shared_data: Path):
    for split, empty in (("train", 2), ("test", 0)):
        with gzip.open(shared_data / "math500" / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        kept = [row for row in rows if row["answer"].strip()]
        assert len(rows) - len(kept) == empty
        columns = {"answer": [row["answer"] for row in kept], "problem": [row["problem"] for row in kept]}
        boxed = [f"<answer>\\boxed{{{row['answer']}}}</answer>" for row in kept]
        for mode in ("lenient", "strict"):
            assert verify_batch("math500", boxed, mode=mode, **columns).correct.all()

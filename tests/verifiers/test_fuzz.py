"""No completion makes any built-in task raise, hang or contradict itself, alone or in a batch."""

import json
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.common import speed
from tests.common.command_cases import SOLUTION
from tests.common.soup import MODES, PIECES, REFERENCES, RIGHT, built_in, judge, soup, use_kernels
from verifiers import registry, verify
from verifiers.math500.task import CAS_HARD_SECONDS
from verifiers.verdicts import REASONS, TIERS

HARD_SECONDS = 3.5  # of processor time where `speed` was measured
SECONDS = dict(gsm8k=2.0, countdown=1.5, sudoku=2.0, math500=1.0, text=0.5, choice=0.5, json=1.0)
"""Processor time of one answer where `speed` was measured."""
FIRST = {task: references[0] for task, references in REFERENCES.items()}


class Awkward(str):
    """A string whose every hook lies."""

    def __str__(self):
        raise RuntimeError("no")

    encode = __len__ = __iter__ = __eq__ = __hash__ = isascii = __str__  # type: ignore[assignment]


class Liar:
    @property
    def __class__(self):
        raise RuntimeError


def check(task: str, completion: object, reference: dict) -> None:
    """One completion, alone in both modes: a verdict that makes sense, and no endless wait for it."""
    verdicts = []
    for mode in registry.find(task).modes:
        start, began = time.monotonic(), time.process_time()
        verdict = verify(task, completion, mode=mode, **reference)
        assert time.monotonic() - start < 20 * CAS_HARD_SECONDS  # a worker's limit counts its own time alone
        taken = time.process_time() - began
        assert taken < HARD_SECONDS or taken < speed.here(HARD_SECONDS)
        assert verdict.reason in REASONS and verdict.decided_by in TIERS
        assert type(verdict.correct) is bool and verdict.correct == (verdict.reason == "ok")
        assert 0 <= verdict.score <= 1 and (verdict.score == 1 or not verdict.correct)
        assert verdict.extracted is None or type(verdict.extracted) is str
        if isinstance(completion, Liar) or not isinstance(completion, str):
            assert (verdict.reason, verdict.score, verdict.extracted) == ("malformed", 0, None)
        json.dumps(verdict.extracted)
        verdicts.append(verdict)
    assert verdicts[0].correct or not verdicts[1].correct, "right in strict mode, wrong in lenient mode"


SHORT = st.text(max_size=5)
STRANGE = st.one_of(
    *(st.binary(max_size=40), st.none(), st.booleans(), st.integers(), st.floats(), st.builds(object)),
    *(st.just(verify), st.lists(SHORT, max_size=3), st.dictionaries(SHORT, SHORT, max_size=2)),
)
QUIET = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}


@pytest.mark.parametrize("task", built_in())
def test_any_text_gets_a_verdict(task):
    latin = st.binary(max_size=60).map(lambda raw: raw.decode("latin-1"))
    texts = soup() | soup(task) | st.text(max_size=60) | latin

    @settings(max_examples=150, **QUIET)
    @given(texts, st.sampled_from(REFERENCES[task]))
    def hold(text, reference):
        check(task, text, reference)

    hold()


@pytest.mark.parametrize("task", built_in())
def test_any_object_gets_a_verdict_alone_and_in_a_batch(task, monkeypatch):
    reference, right = FIRST[task], f"<answer>{RIGHT[task][0]}</answer>"
    known = [Liar(), {"content": right}, [right], right.encode(), Awkward(right), right]

    def hold(completions):
        for completion in completions:
            check(task, completion, reference)
        for mode in registry.find(task).modes:
            alone = [verify(task, completion, mode=mode, **reference) for completion in completions]
            for ever in (True, False):
                use_kernels(monkeypatch, ever)
                assert list(judge(task, completions, [reference] * len(completions), mode)) == alone

    hold([*known, RIGHT[task][0]])  # the last one marks no answer
    assert judge(task, known, [reference] * 6).correct.tolist() == [False] * 4 + [True] * 2
    strange = st.lists(STRANGE | soup(task) | soup().map(Awkward), min_size=1, max_size=6)
    settings(max_examples=25, **QUIET)(given(strange)(hold))()


DIGITS = "9" * 100_000
GIANTS = [
    *(piece * 9000 + "1" + "}" * 9000 for piece in ("{", "\\frac{", "\\sqrt{", "1^{", "\\boxed{", "\\text{")),
    "(" * 30_000 + "1" + ")" * 30_000, "-" * 60_001 + "1", "1," * 30_000, "1/" * 30_000 + "1", "1+" * 30_000 + "1",
    "1" * 300_000, "0." + "3" * 60_000, "1e" + "9" * 60_000, "1" * 30_000 + "/" + "3" * 30_000, "\u0664" * 30_000,
    "9^" * 20_000 + "9", "9!" * 20_000, "<answer>1</answer>" * 10_000, "<answer>" * 30_000 + "</answer>" * 30_000,
]  # fmt: skip
LONG = {
    "gsm8k": [
        DIGITS[:65_000], DIGITS, "1/" + DIGITS[:60_000], f"{'1' * 30_000}/{'1' * 30_000}", "1 " * 30_000, "1=" * 30_000,
        "\\frac{" * 10_000, "< " * 30_000, "/ " * 30_000, "{" * 60_000, "18\u200b" * 12_000, "1 1/" * 15_000,
        "18^" + "{" * 60_000, "18e" + "9" * 60_000, "-a" * 30_000, "(1" * 30_000, "1,234" * 12_000,
        "18" + " " * 60_000 + "18",
    ],
    "countdown": [
        "(" * 60_000 + "3*5+7", "-" * 60_000 + "3*5+7", "((" * 200 + "3*5+7" + "))" * 200, "\\frac{" * 9_000,
        "\\frac{1}{" * 200 + "1" + "}" * 200, "9" * 65_000, "3*5+7=" + "9" * 4_001,
        "3*5+7=" + "*".join(["9" * 3_900] * 16), "3*5+7=" + "/".join(["9" * 60] * 1_020),
        "3*5+7=" + "+".join(["1/7"] * 500), "+".join(["1"] * 30_000), "**".join(["9"] * 20_000), "`" * 60_000,
        "“" * 10_000 + "”" * 10_000, "the " * 16_000, "\\left" * 12_000, "\\left" + " " * 60_000,
        "=".join(["22"] * 20_000), "3*5+7" + " " * 70_000,
    ],
    "sudoku": ["\\boxed{ " * 50_000, "\\boxed{1}" * 50_000, "\\boxed{1} or " * 40_000, "or" * 200_000],
    "math500": [],
    "text": ["**" * 30_000, "\\text{" * 9_000 + "}" * 9_000, "$" * 60_000, "ﷺ" * 60_000, "spam" * 16_000],
    "choice": [
        "A " * 30_000, "(A)" * 20_000, "answer " * 9_000, "} " * 30_000, "\\textbf{" * 7_000, "B." + " " * 60_000 + "C",
    ],
    "json": [
        "[" * 60_000, '{"a":' * 12_000, "[1," * 20_000, '"\\' * 30_000, "```" * 20_000, "```json\n[" * 6_000,
        "[1] " * 16_000, "[" * 30_000 + "]" * 30_000, '{"' + '\\"' * 30_000, DIGITS[:65_000], "1e" + DIGITS[:60_000],
        "[1e99999999, -1e-99999999]",
    ],
}  # fmt: skip
LONG_AND_RIGHT = {  # in lenient mode
    "gsm8k": ["18" + " " * 60_000],
    "countdown": ["3*5+7" + "\u200b" * 20_000, "a" * 60_000 + " is 3*5+7"],
    "sudoku": [SOLUTION + " " * 60_000],
    "math500": [],
    "text": ["spam" + " " * 60_000],
    "choice": ["(B)" + " " * 60_000],
    "json": ['{"a": [1, 0.5],' + " " * 60_000 + '"b": null}'],
}
LONG_REFERENCE = {**FIRST, "gsm8k": {"answer": "18"}, "countdown": {"numbers": [3, 5, 7], "target": 22}}


@pytest.mark.parametrize("repeated", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("task", built_in())
def test_giant_answers_get_a_verdict_in_time(task, mode, repeated, record_property, monkeypatch):
    """repeated: characters of the texts that are one piece over and over; with 20,000 not all texts are tried."""
    reference, right = LONG_REFERENCE[task], LONG_AND_RIGHT[task]
    giants = [*(piece * (repeated // len(piece)) for piece in PIECES), *GIANTS]
    frames = ("{}", "<answer>{}</answer>", "<answer>{}")
    if repeated == 20_000:
        giants, frames = giants[::2], frames[1:2]
    texts = [*giants, *(f"<answer>\\boxed{{{text[:60_000]}}}</answer>" for text in giants)]
    texts += [frame.format(text) for frame in frames for text in LONG[task]]
    texts += [f"<answer>{text}</answer>" for text in right]
    alone, longest, which = [], 0.0, ""
    for text in texts:
        start = time.process_time()
        alone.append(verify(task, text, mode=mode, **reference))
        longest, which = max((longest, which), (time.process_time() - start, text))
    record_property("longest", f"{longest:.3f} s: {which[:40]!r}")
    assert longest < speed.here(SECONDS[task]), which[:40]
    # White space around an answer is nobody's mistake.
    expected = mode == "lenient" or task in ("sudoku", "text", "choice", "json")
    wrong = [False] * (len(texts) - len(right))
    assert [verdict.correct for verdict in alone] == wrong + [expected] * len(right)
    use_kernels(monkeypatch)
    assert list(judge(task, texts, [reference] * len(texts), mode)) == alone

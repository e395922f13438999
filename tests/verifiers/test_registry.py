"""The calls themselves: registry, errors, and what `Verdicts` offers."""

import importlib.util
import pickle
import sys
from decimal import Decimal
from fractions import Fraction
from importlib.metadata import EntryPoint

import numpy as np
import pytest

import verifiers
from tests.common.command_cases import PUZZLE, RIGHT, SOLUTION
from verifiers import Reason, Task, Tier, Verdict, VerifierError, registry, verify, verify_batch
from verifiers.errors import ArgumentError, InvalidReferenceError, UnknownTaskError


@pytest.fixture
def own_registry(monkeypatch):
    monkeypatch.setattr(registry, "_tasks", {})


@pytest.mark.parametrize(("task", "words"), [("sodoku", "'sodoku'.*\"sudoku\""), (3, "3"), ([], r"\[\]")])
def test_unknown_tasks_get_the_nearest_name(task, words):
    with pytest.raises(UnknownTaskError, match=words):
        verify(task, RIGHT, puzzle=PUZZLE)
    with pytest.raises(UnknownTaskError, match=words):
        verify_batch(task, [RIGHT], puzzle=[PUZZLE])


@pytest.mark.parametrize(
    ("task", "reference", "words"),
    [
        ("sudoku", {}, "needs puzzle="),
        ("sudoku", {"puzzel": PUZZLE}, "not take puzzel= and needs puzzle=. Did you mean"),
        ("sudoku", {"puzzle": PUZZLE, "answer": "1"}, "does not take answer="),
        ("sudoku", {"puzzle": PUZZLE, "mode": "loose"}, "'loose' is not a mode"),
        ("math500", {"answer": "5", "problm": "x"}, r"problm=.* answer=.*problem="),
        ("math500", {"problem": "x"}, "needs answer="),
        ("gsm8k", {"answer": "5", "problem": "x"}, "does not take problem="),
    ],
)
def test_a_wrong_call_names_the_argument(task, reference, words):
    with pytest.raises(ArgumentError, match=words):
        verify(task, RIGHT, **reference)


@pytest.mark.parametrize(
    ("completions", "puzzles", "words"),
    [
        (RIGHT, [PUZZLE], "completions='<answer>"),
        ([RIGHT], PUZZLE, "puzzle='4320004330100004'"), ([RIGHT], [PUZZLE] * 2, "puzzle .*2.* 1 "),
        (None, [PUZZLE], "completions=None"), (RIGHT.encode(), [PUZZLE], "is a bytes"),
        ({RIGHT}, [PUZZLE], "is a set"), ({0: RIGHT}, [PUZZLE], "is a dict"),
        (np.array(RIGHT), [PUZZLE], "is a ndarray"),
    ],
)  # fmt: skip
def test_a_batch_needs_sequences_of_one_length(completions, puzzles, words):
    with pytest.raises(ArgumentError, match=words):
        verify_batch("sudoku", completions, puzzle=puzzles)


def test_errors_survive_pickling():
    with pytest.raises(InvalidReferenceError) as caught:
        verify_batch("sudoku", [RIGHT], puzzle=["1"[:0]])
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.index, copy.argument, copy.value) == (str(caught.value), 0, "puzzle", "")
    assert isinstance(copy, ValueError) and isinstance(copy, VerifierError)


def test_verdicts_are_arrays_and_a_sequence():
    texts = [RIGHT, "none", f"<answer>é{SOLUTION}</answer>", f"é<answer>{SOLUTION[::-1]}</answer>"]
    verdicts = verify_batch("sudoku", np.array(texts), puzzle=(PUZZLE,) * 4)
    assert (verdicts.correct.dtype, verdicts.score.dtype) == (np.bool_, np.float64)
    assert verdicts.correct.tolist() == [True, False, False, False]
    assert verdicts.reasons == ["ok", "no_answer", "malformed", "rule_broken"]
    assert [verdicts.reason_names[code] for code in verdicts.reason] == verdicts.reasons
    assert [verdicts.tier_names[code] for code in verdicts.decided_by] == verdicts.tiers
    assert verdicts.tiers == ["grammar", "text", "grammar", "grammar"]
    assert verdicts.extracted == [SOLUTION, None, f"é{SOLUTION}", SOLUTION[::-1]]
    assert verdicts.extracted is verdicts.extracted and verdicts.reasons is verdicts.reasons  # made once
    assert verdicts.counts() == {"ok": 1, "no_answer": 1, "malformed": 1, "rule_broken": 1}
    assert list(verdicts) == [verdicts[i] for i in range(4)]
    assert verdicts[-1] == verdicts[3] == verify("sudoku", texts[3], puzzle=PUZZLE)
    assert [bool(verdict.detail) for verdict in verdicts] == [False, True, True, True]
    assert "<answer>" in verdicts[1].detail and "####" in verdicts[1].detail  # where it was looked for
    doubtful = verify("gsm8k", "Is 18 the answer?", answer="18")
    assert doubtful.reason == "no_answer" and '"Is 18 the answer?" names none' in doubtful.detail
    assert verdicts[0] == Verdict(True, 1.0, SOLUTION, Reason.OK, Tier.GRAMMAR)
    assert list(verdicts[1:3]) == [verdicts[1], verdicts[2]]
    with pytest.raises(IndexError):
        verdicts[4]
    assert list(verifiers.Verdicts.of(list(verdicts))) == list(verdicts)
    none = verify_batch("sudoku", [], puzzle=[])
    assert len(none) == 0 and none.counts() == {}


def judge_parity(completion, *, mode, answer):
    if not isinstance(answer, int):
        raise InvalidReferenceError(f"answer={answer!r} is no integer.", argument="answer", value=answer)
    right = completion == str(answer % 2)
    return Verdict(right, float(right), completion, Reason.OK, Tier.TEXT)


def test_a_registered_task_is_reached_like_ours(own_registry):
    verifiers.register("parity", fields=["answer"], verify=judge_parity)
    assert "parity" in verifiers.tasks() and "sudoku" in verifiers.tasks()
    assert verify("parity", "1", answer=3).correct
    verdicts = verify_batch("parity", ["1", None, "0"], answer=[3, 3, 3])
    assert verdicts.correct.tolist() == [True, False, False]
    assert verdicts.extracted == ["1", None, "0"]
    with pytest.raises(InvalidReferenceError, match="Row 1: answer='x'") as caught:
        verify_batch("parity", ["1", "1"], answer=[3, "x"])
    assert caught.value.index == 1
    verifiers.register("parity", fields=("answer",), verify=judge_parity)  # the same again is no conflict
    for name in ("parity", "sudoku"):
        with pytest.raises(ArgumentError, match=f'"{name}"'):
            verifiers.register(name, fields=("other",), verify=judge_parity)
    with pytest.raises(ArgumentError, match=r"fields='answer'"):
        verifiers.register("other", fields="answer", verify=judge_parity)
    with pytest.raises(ArgumentError, match=r"verify=3 should be a function"):
        verifiers.register("other", fields=["answer"], verify=3)


def test_an_edited_file_and_a_later_cell_replace_their_task(own_registry, tmp_path, monkeypatch):
    """A file of a user's is loaded anew where it has changed, under another name of its module."""
    code = "import verifiers\ndef judge(c, *, mode, answer):\n    return verifiers.Verdict(c == answer, 1.0, c)\n"
    file = tmp_path / "mine.py"
    for version in ("one", "two", "two"):  # the last as by importlib.reload
        file.write_text(f"{code}# {version}\n")
        spec = importlib.util.spec_from_file_location(f"mine_{version}", file)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        verifiers.register("mine", fields=["answer"], verify=module.judge)
        assert registry.find("mine").verify is module.judge
    with pytest.raises(ArgumentError, match='"mine" is already registered'):
        verifiers.register("mine", fields=["answer"], verify=judge_parity)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)  # as in a notebook
    for answer in (1, 2):

        def judge(completion, *, mode, answer=answer):
            return answer

        judge.__module__ = "__main__"
        verifiers.register("cell", fields=["answer"], verify=judge)
        assert registry.find("cell").verify is judge


def test_a_task_that_returns_no_verdict_is_named(own_registry):
    verifiers.register("yes", fields=["answer"], verify=lambda completion, *, mode, answer: True)
    with pytest.raises(VerifierError, match=r'task "yes" returned True, not a verifiers\.Verdict'):
        verify("yes", "1", answer="1")
    with pytest.raises(VerifierError, match=r'Row 0: The verifier of task "yes" returned True'):
        verify_batch("yes", ["1"], answer=["1"])


@pytest.mark.parametrize("task", ["gsm8k", "math", "sudoku"])
def test_a_completion_that_is_no_text_is_said_so(task):
    reference = {"puzzle": PUZZLE} if task == "sudoku" else {"answer": "18"}
    said = verify(task, b"18", **reference).detail
    assert said == "The completion is of the type bytes, not text. Decode it."
    texts = ["#### 18", b"18", ["18"]]
    many = verify_batch(task, texts, **{name: [value] * 3 for name, value in reference.items()})
    assert many[1].detail == many.details[1] == many[1:][0].detail == said
    of_chat = "The completion is of the type list, not text. Of a chat, give the content of its last message."
    assert many.details[2] == many[1:].details[1] == of_chat and "type" not in many.details[0]


def test_a_decimal_or_a_fraction_is_a_reference():
    assert verify("math", r"\boxed{5}", answer=Decimal(5)).correct
    assert verify("math", r"\boxed{0.5}", answer=Fraction(1, 2)).correct
    golds = [Decimal("18.0"), Decimal(18)]
    assert verify_batch("gsm8k", ["#### 18", "#### 17"], answer=golds).reasons == ["ok", "wrong"]
    with pytest.raises(InvalidReferenceError):
        verify("math", "5", answer=Decimal("NaN"))


PARITY = Task("parity", ("answer",), judge_parity)


def test_entry_points_add_tasks(own_registry, monkeypatch):
    targets = {"parity": f"{__name__}:PARITY", "broken": f"{__name__}:SOLUTION"}
    entries = {name: EntryPoint(name, target, registry.ENTRY_POINTS) for name, target in targets.items()}
    monkeypatch.setattr(registry, "_installed", lambda: entries)
    monkeypatch.setattr(EntryPoint, "load", lambda self: globals()[self.attr])
    assert verify("parity", "0", answer=2).correct
    with pytest.raises(VerifierError, match=r"not a verifiers\.Task"):
        verify("broken", "0")


def test_an_optional_field_may_be_left_out_and_is_named():
    assert verify("math500", "\\boxed{2+3}", answer="5").correct
    assert verify("math500", "\\boxed{2+3}", answer="5", problem=None).correct
    assert not verify("math500", "\\boxed{2+3}", answer="5", problem="What is 2+3?").correct
    with pytest.raises(ArgumentError, match=r"problem .*1.* 2 "):
        verify_batch("math500", ["5", "6"], answer=["5", "6"], problem=["x"])

r"""The rules of d1's evaluation code: what each of them reads, that nothing runs, and the recorded verdicts."""

import json
import time
from functools import partial

import pytest

from tests.common import speed
from tests.common.command_cases import call
from tests.verifiers.test_recorded import rows_of
from verifiers import ArgumentError, InvalidReferenceError, d1, verify, verify_batch

PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
GRID = {"puzzle": PUZZLE, "solution": SOLUTION}


def right(task: str, completion: object, **reference) -> bool:
    return verify(task, completion, rules="d1", **reference).correct


def gold(answer: str) -> dict:
    return {"answer": answer}


def game(target: object, *numbers: int) -> dict:
    return {"numbers": [*numbers], "target": target}


@pytest.mark.parametrize(
    ("task", "completion", "reference", "score"),
    [
        ("gsm8k", r"\boxed{18} and \boxed{19}", gold("18"), True),  # the first box
        ("gsm8k", r"\boxed{...} \boxed{18}", gold("18"), True),  # dots are no answer
        ("gsm8k", r"\boxed{6,250}", gold("6250"), False),  # the first number in a box is 6
        ("gsm8k", r"\boxed{6,250}", gold("6"), True),
        ("gsm8k", r"\boxed{none} <answer>3 of 18</answer>", gold("18"), True),  # the last number of the block
        ("gsm8k", r"<answer>17</answer> <answer>18</answer>", gold("17"), True),  # of the first block
        ("gsm8k", "<answer>18", gold("18"), False),  # which must be closed
        ("gsm8k", r"x <|eot_id|> \boxed{18}", gold("18"), True),  # text behind the end token counts
        ("gsm8k", r"\boxed{1e1}", gold("10"), True),
        ("gsm8k", r"\boxed{-10}", gold("-10"), False),  # the reference is read without its sign, and so not at all
        ("gsm8k", r"\boxed{1250}", gold("so 2 * 625\n#### 1,250"), True),
        ("gsm8k", r"\boxed{nan}", gold("18"), False),
        ("math500", r"\boxed{1} then \boxed{\frac12}", gold(r"\frac{1}{2}"), True),  # the last box, normalised
        ("math500", r"\boxed{0.5}", gold(r"\frac{1}{2}"), True),
        ("math500", r"\boxed{0.50}", gold(r"\frac{1}{2}"), False),  # text, not numbers
        ("math500", r"\boxed{2/4}", gold(r"\frac{2}{4}"), True),
        ("math500", r"\boxed{x=5}", gold("5"), True),
        ("math500", r"\boxed{10 \text{ cm}}", gold("10"), True),
        ("math500", r"\boxed{b+a}", gold("a+b"), False),
        ("math500", r"<answer>5</answer>", gold("5"), False),  # without a box the whole text is compared
        ("math500", r"\boxed{5 <answer>5</answer>", gold("5"), True),  # the block, where the box is not closed
        ("math", r"\boxed 5$ so", gold("5"), True),
        ("math500", r"\fbox{5}", gold("5"), False),
        ("math500", r"\boxed{x/2}", gold("x /2"), False),  # what cannot be normalised is compared as it stands
        ("countdown", r"\boxed{3*5+7}", game(22, 3, 5, 7), True),
        ("countdown", r"\boxed{3 \times 5 + 7 = 22}", game(22, 3, 5, 7), True),  # the left side of an equation
        ("countdown", r"\boxed{3*5+7 = 20}", game(22, 3, 5, 7), True),  # whatever its right side says
        ("countdown", "3*5+7=22 it is", game(22, 3, 5, 7), True),  # the whole text without a box
        ("countdown", r"\boxed{3*5+7-7+7}", game(22, 3, 5, 7), False),
        ("countdown", r"\boxed{2**3}", game(8, 2, 3), True),  # which the published filter lets through
        ("countdown", r"\boxed{7//2}", game(3, 7, 2), True),
        ("countdown", r"\boxed{1/3*3}", game(1, 1, 3, 3), True),
        ("countdown", r"\boxed{100000/3 - 99999/3}", game("1/3", 100000, 3, 99999, 3), True),  # floats, to within 1e-5
        ("countdown", r"\boxed{07+1}", game(8, 7, 1), False),  # no number of Python's
        ("countdown", r"\boxed{1/(3-3)}", game(1, 1, 3, 3), False),
        ("countdown", r"\boxed{(3)(5)}", game(15, 3, 5), False),
        ("countdown", r"\boxed{3+\n5}", game(8, 3, 5), False),
        ("countdown", "<answer>3+5</answer>", game(8, 3, 5), False),  # without a box the tags are part of the text
        ("sudoku", f"<answer>{SOLUTION}</answer>", GRID, True),
        ("sudoku", f"<answer>{SOLUTION}9</answer>", GRID, True),  # cut to 16
        ("sudoku", f"<answer>{SOLUTION[:-2]}</answer>", GRID, 7 / 8),  # filled up with zeros
        ("sudoku", f"<answer>{'9999' + SOLUTION[4:]}</answer>", GRID, 7 / 8),  # the givens are not looked at
        ("sudoku", f"<answer>grid ```\n{SOLUTION}\n```</answer>", GRID, True),
        ("sudoku", f"so </answer> {SOLUTION}<|eot_id|>", GRID, True),
        ("sudoku", f"it is {SOLUTION}.", GRID, True),
        ("sudoku", "none", GRID, False),
    ],
)  # fmt: skip
def test_each_task_reads_as_the_published_code(task, completion, reference, score):
    verdict = verify(task, completion, rules="d1", **reference)
    assert (verdict.score, verdict.correct) == (score, score == 1)


def test_nothing_runs_and_nothing_takes_long():
    began = time.process_time()
    hostile = [
        "9**9**9**9",
        "(" * 900 + "9" + ")" * 900,
        "-" * 1900 + "9",
        "9" * 5000,
        "9.real",
        "()",
        "9(9)",
    ]
    hostile += ["x= " * 400_000, "9" + "**-1" * 400, "1" * 200_000, "{" * 200_000, "<answer>" * 20_000]
    asked = {"countdown": game(9, 9, 9, 9, 9), "gsm8k": gold("17"), "math500": gold("17"), "sudoku": GRID}
    for text in hostile:
        for form in (r"\boxed{%s}", "<answer>%s</answer>", "%s"):
            assert not any(right(task, form % text, **reference) for task, reference in asked.items())
    for completion in (None, 5, b"\\boxed{18}", ["18"]):
        assert not right("gsm8k", completion, answer="18")
    assert time.process_time() - began < speed.here(5)


def test_what_the_rules_do_not_have_is_refused():
    with pytest.raises(ArgumentError, match=r"rules='d2' are not known; use ours or d1"):
        verify("gsm8k", "x", rules="d2", answer="18")
    with pytest.raises(ArgumentError, match="solution"):
        verify("sudoku", "x", rules="d1", puzzle=PUZZLE)
    with pytest.raises(ArgumentError, match="no strict mode"):
        verify("gsm8k", "x", rules="d1", mode="strict", answer="18")
    with pytest.raises(InvalidReferenceError, match="Row 1: puzzle"):
        verify_batch("sudoku", ["x"] * 2, rules="d1", puzzle=[PUZZLE, "12"], solution=[SOLUTION] * 2)


RATES = {
    "gsm8k": {128: 69.3, 512: 78.1},
    "math500": {128: 26.0, 512: 36.2},
    "countdown": {128: 20.7, 512: 16.0},
    "sudoku": {128: 11.7, 512: 5.5},
}


@pytest.mark.parametrize("task", RATES)
def test_recorded_completions_get_the_published_verdicts(shared_data, task):
    folder = shared_data / "llada_generations"
    rows, recorded = rows_of(folder / f"{task}.jsonl.gz"), json.loads((folder / "d1_rules.json").read_text())
    found = [d1.judge(task, row["completion"], row) for row in rows]
    said = [[finding.right, finding.of] if task == "sudoku" else finding.right for finding in found]
    assert said == recorded[task]
    for length, rate in RATES[task].items():
        part = [finding for finding, row in zip(found, rows, strict=True) if row["gen_length"] == length]
        share = sum(finding.right for finding in part) / sum(finding.of for finding in part)
        assert round(100 * share, 1) == rate


def evaluation_file(path, ground_truths, generations, indent=2):
    question, pairs = (
        f"Solve the following Sudoku puzzle: {PUZZLE}\n",
        zip(ground_truths, generations, strict=True),
    )
    rows = [{"question": question, "generations": text, "ground_truth": truth} for truth, text in pairs]
    path.write_text(json.dumps({"generations": rows, "metrics": {"wall_time": 1.0}}, indent=indent))
    return path


@pytest.mark.parametrize("indent", [2, None])
def test_evaluation_files_are_read_as_they_are(capfd, tmp_path, indent):
    run = partial(call, capfd)
    texts = [r"\boxed{18}", r"\boxed{17} or \boxed{18}", r"\boxed{1,800}", r"\boxed{10}"]
    one = evaluation_file(tmp_path / "gsm_0_generations.json", [18.0, 17.0, 1800.0, None], texts, indent)
    two = evaluation_file(tmp_path / "gsm_1_generations.json", [18.0], texts[:1], indent)
    status, rows, said = run("gsm8k", one, two, "--rules", "d1")
    assert status == 0 and [row["line"] for row in rows] == [1, 2, 3, 4, 1]
    assert [row["correct"] for row in rows] == [True, False, True, None, True]
    assert [row["d1"]["correct"] for row in rows] == [True, True, False, False, True]
    how = {"extracted": "1,800", "how": "the box, the first number in it"}
    assert rows[2]["d1"] == {"correct": False, "right": 0, "of": 1, **how}
    assert "rules of d1: 3 of 5 completions right, 60.00%" in said
    table = [line.split() for line in said.splitlines() if "the first" in line or line.split()[:1] == ["all"]]
    assert sorted(line[-2:] for line in table) == [["0", "1"], ["1", "0"], ["1", "1"]]
    assert run("gsm8k", "--rules", "d1", one, two)[1] == rows
    assert "d1" not in run("gsm8k", one)[1][0]
    status, rows, _ = run("gsm8k", one, "--preset", "d1", "--json", "--rules", "d1")
    assert rows[-1]["rules"]["rate"] == 0.5 and rows[-1]["n"] == 3


def test_sudoku_and_countdown_of_evaluation_files(capfd, tmp_path):
    run = partial(call, capfd)
    path = evaluation_file(tmp_path / "s.json", [SOLUTION] * 2, [f"<answer>{SOLUTION}</answer>", "12"])
    status, rows, said = run("sudoku", path, "--rules", "d1")
    assert status == 0 and [row["d1"]["right"] for row in rows] == [8, 0]
    assert "rules of d1: 8 of 16 empty cells right, 50.00%" in said and rows[0]["correct"]
    path = evaluation_file(tmp_path / "c.json", [[[3, 5, 7], 22]], [r"\boxed{3*5+7}"])
    status, rows, said = run("countdown", path, "--rules", "d1")
    assert status == 0 and rows[0]["correct"] and rows[0]["d1"]["correct"]
    assert "by one of the two alone" not in said, "no verdict differs"


def test_another_object_is_no_evaluation_file(capfd, tmp_path):
    (tmp_path / "x.json").write_text('{\n "rows": []\n}')
    status, rows, said = call(capfd, "gsm8k", tmp_path / "x.json")
    assert status == 1 and rows == [] and 'one JSON object without a list "generations"' in said

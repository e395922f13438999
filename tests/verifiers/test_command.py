"""`python -m verifiers TASK FILE`: what goes in, what comes out, and what is said of bad lines."""

import gzip
import io
import json
import sys
from functools import partial
from pathlib import Path

import pytest

import verifiers
from tests.common.command_cases import PUZZLE, RIGHT, SOLUTION, WRONG, call, sample, write
from verifiers.command import lines as reading

KEYS = ["line", "correct", "score", "extracted", "reason", "decided_by"]


@pytest.fixture
def run(capfd):
    return partial(call, capfd)


def test_one_verdict_per_line_in_order_and_a_summary(run, tmp_path):
    path = write(tmp_path / "a.jsonl", sample(), sample(WRONG), sample("é\ud800 none"), sample(None))
    status, rows, said = run("sudoku", path)
    assert status == 0
    assert [list(row) for row in rows] == [KEYS] * 4
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert [row["correct"] for row in rows] == [True, False, False, False]
    assert [row["reason"] for row in rows] == ["ok", "rule_broken", "no_answer", "malformed"]
    assert [row["extracted"] for row in rows] == [SOLUTION, SOLUTION[::-1], None, None]
    assert rows[0]["score"] == 1.0 and rows[0]["decided_by"] == "grammar"
    assert "4 judged, 1 right, 25.00% [4.56%, 69.94%]" in said  # Wilson 95 % of 1 in 4
    assert "ok 1" in said and "lines/s" in said


def test_json_puts_the_summary_on_standard_output(run, tmp_path):
    path = write(tmp_path / "a.jsonl", sample(), sample(WRONG), "x")
    status, (facts,), said = run(
        "sudoku", path, "--json", "--output", tmp_path / "v.jsonl", "--mode", "strict"
    )
    assert (status, facts["task"], facts["mode"]) == (0, "sudoku", "strict")
    assert (facts["n"], facts["correct"], facts["accuracy"], facts["invalid_lines"]) == (2, 1, 0.5, 1)
    assert facts["interval"] == pytest.approx([0.0945312, 0.9054688], abs=1e-6)
    assert facts["reasons"] == {"ok": 1, "rule_broken": 1} and facts["tiers"] == {"grammar": 2}
    assert facts["lines_per_second"] > 0
    assert said == "line 3 is not valid JSON (Expecting value, column 1).\n"
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 3
    status, rows, _ = run("sudoku", path, "--json")
    assert status == 0 and len(rows) == 4 and rows[3]["n"] == 2  # verdicts, then the summary


def test_copies_of_the_problem_are_judged_where_its_field_is_named(run, tmp_path):
    lines = [{"completion": "\\boxed{2+3}", "answer": "5", "prompt": "What is 2+3?"} for _ in range(2)]
    lines[1]["prompt"] = [{"role": "user", "content": "Add 2+3."}, {"role": "assistant", "content": "So"}]
    path = write(tmp_path / "a.jsonl", *map(json.dumps, lines))
    assert [row["reason"] for row in run("math", path)[1]] == ["ok", "ok"]
    assert [row["reason"] for row in run("math", path, "--problem-field", "prompt")[1]] == ["rule_broken"] * 2
    assert 'task "gsm8k" takes no problem' in run("gsm8k", path, "--problem-field", "prompt")[2]


LACKS = "it has {}. Name the right field with"


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "is not valid JSON (Expecting value, column 1)"),
        ('{"completion": "x", "puzzle": ', "is not valid JSON"), ("", "is not valid JSON (it is empty)"),
        ("[1]", "is a list"), ("null", "is null"), ("3", "is a number"), ("[" * 100_000, "nested too deeply"),
        ("1" * 5000, "cannot be read"),
        ('{"puzzle": "1"}', 'lacks "completion"; ' + LACKS.format("puzzle") + " --completion-field"),
        ('{"completion": "1"}', 'lacks "puzzle"; ' + LACKS.format("completion") + " --answer-field"),
        (sample(puzzle="123"), "has an invalid reference: puzzle='123' does not have n * n cells"),
        (sample(puzzle=None), "has an invalid reference: puzzle=None is a NoneType"),
        (sample(puzzle="\ud800" * 16), "has an invalid reference"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named_counted_and_passed_over(run, tmp_path, line, words):
    path = write(tmp_path / "a.jsonl", sample(), line, sample(WRONG))
    status, rows, said = run("sudoku", path)
    assert status == 0
    assert [row["correct"] for row in rows] == [True, None, False]
    assert words in rows[1]["error"] and rows[1]["line"] == 2
    assert f"line 2 {rows[1]['error']}" in said
    assert "2 judged" in said and "1 lines without a verdict" in said


def test_bytes_that_are_no_text_and_endless_lines(run, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(reading, "LINE_LIMIT", 5000)
    path = tmp_path / "a.jsonl"
    lines = [b"\xef\xbb\xbf" + sample().encode(), b"\xff\xfe{", b"x" * 50_000, sample(WRONG).encode() + b"\r"]
    path.write_bytes(b"\n".join(lines))  # no line end behind the last
    status, rows, said = run("sudoku", path)
    assert status == 0
    assert [row["correct"] for row in rows] == [True, None, None, False]
    assert "is not UTF-8 (byte 1)" in said and "line 3 is longer than" in said


def test_many_bad_lines_do_not_flood_the_terminal(run, tmp_path):
    path = write(tmp_path / "a.jsonl", *["{"] * 300, *[sample(puzzle="5" * 16)] * 300, sample())
    status, rows, said = run("sudoku", path)
    assert status == 0 and len(rows) == 601 and rows[600]["correct"] is True
    assert all("error" in row for row in rows[:600])
    assert said.count("\nline ") == 99 and "... and 500 more" in said


def test_gzip_standard_input_and_parquet_say_the_same(run, tmp_path, monkeypatch):
    lines = [sample(), sample(WRONG, more=[1, 2]), sample("é")]
    text = "".join(line + "\n" for line in lines).encode()
    plain, zipped, table = (tmp_path / name for name in ("a.jsonl", "a.jsonl.gz", "a.parquet"))
    plain.write_bytes(text)
    zipped.write_bytes(gzip.compress(text))
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist([json.loads(line) for line in lines]), table)
    expected = run("sudoku", plain)[1]
    assert len(expected) == 3
    for arguments in ([zipped], [table], [table, "--workers", 2]):
        assert run("sudoku", *arguments)[1] == expected
    for data in (text, gzip.compress(text)):

        class Input:
            buffer = io.BufferedReader(io.BytesIO(data))

        monkeypatch.setattr(sys, "stdin", Input)
        assert run("sudoku", "-")[1] == expected


def test_parquet_without_the_column_or_not_parquet_at_all(run, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"completion": [RIGHT, RIGHT], "other": [1, 2]}), path)
    status, rows, said = run("sudoku", path)
    assert status == 0 and [row["correct"] for row in rows] == [None, None] and 'lacks "puzzle"' in said
    path.write_bytes(b"PAR1 and then nothing")
    status, rows, said = run("sudoku", path)
    assert (status, rows) == (1, []) and "not readable as parquet" in said


def test_a_file_that_breaks_off_is_judged_as_far_as_it_goes(run, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(sample() + "\n" for _ in range(10)).encode())[:-20])
    status, rows, said = run("sudoku", path)
    assert status == 1 and all(row["correct"] for row in rows)
    assert "cannot be read past line" in said


def test_fields_can_have_other_names(run, tmp_path):
    path = write(tmp_path / "a.jsonl", json.dumps({"text": RIGHT, "question": PUZZLE, "puzzle": "x"}))
    for form in ("question", "puzzle=question"):
        status, (row,), _ = run("sudoku", path, "--completion-field", "text", "--answer-field", form)
        assert status == 0 and row["correct"]


def test_a_task_with_several_fields_names_each(run, tmp_path, monkeypatch):
    def judge(completion, *, mode, low, high):
        right = low <= len(str(completion)) <= high
        return verifiers.Verdict(right, float(right), None, verifiers.Reason.OK, verifiers.Tier.TEXT)

    monkeypatch.setattr(verifiers.registry, "_tasks", {})
    verifiers.register("length", fields=["low", "high"], verify=judge)
    lines = [{"completion": "abc", "a": 1, "high": 3}, {"completion": "a", "a": "?", "high": 2}]
    path = write(tmp_path / "a.jsonl", *map(json.dumps, lines))
    status, rows, said = run("length", path, "--answer-field", "low=a")
    assert status == 0 and rows[0]["correct"]
    assert "line 2 made the task fail: TypeError" in said, (
        "a task that breaks its contract does not end the run"
    )
    status, _, said = run("length", path, "--answer-field", "a")
    assert status == 2 and "has 2 fields; use --answer-field low=NAME --answer-field high=NAME" in said


def test_reads_the_samples_of_a_run_several_files_at_once(run, tmp_path):
    row = {
        "env": "sudoku", "task": "sudoku", "index": 3, "generation": 0, "prompt": f"sudoku {PUZZLE}",
        "completion": RIGHT, "rewards": {"correct": 1.0}, "reward": 1.0, "correct": True, "extracted": SOLUTION,
        "reason": "ok", "reveal_step": [0, 1, -1], "puzzle": PUZZLE, "advantage": 0.5,
    }  # fmt: skip
    names = [write(tmp_path / f"step-{n}.jsonl", json.dumps({"step": n, **row}), "x") for n in (1, 2)]
    status, rows, said = run("sudoku", *names)
    assert status == 0
    assert [(row["file"], row["line"], row["correct"]) for row in rows] == [
        (name, line, True if line == 1 else None) for name in names for line in (1, 2)
    ]
    assert f"{names[1]}, line 2 is not valid JSON" in said


def test_compare_lists_the_lines_that_differ(run, tmp_path):
    rows = sample("<answer>4321\n1243\n3412\n2134</answer>")
    path = write(tmp_path / "a.jsonl", sample(), rows, sample(WRONG), "x")
    lenient, strict = tmp_path / "lenient.jsonl", tmp_path / "strict.jsonl.gz"
    assert run("sudoku", path, "--output", lenient, "--json")[0] == 0
    with lenient.open("a") as file:  # a summary behind verdicts is no line
        file.write(json.dumps(run("sudoku", path, "--json")[1][-1]) + "\n")
    assert run("sudoku", path, "--output", strict, "--mode", "strict")[0] == 0
    for first in (path, lenient):  # samples that are judged now, or verdicts taken as they are
        status, (row,), said = run("sudoku", first, "--compare", strict)
        assert status == 0
        assert (row["line"], row["correct"], row["other"]["correct"]) == (2, True, False)
        assert (row["reason"], row["other"]["reason"]) == ("ok", "malformed")
        assert "1 of 4 lines disagree: 1 right here only, 0 there only" in said
        assert "line 4 is not valid JSON" in said  # also where the verdict file only passes it on
    assert run("sudoku", lenient, "--compare", path)[0] == 0
    status, rows, _ = run("sudoku", lenient, "--compare", lenient, "--json")
    counts = rows[0]["compared"]
    assert counts.pop("lines") == 4
    assert counts == dict.fromkeys(("disagree", "here", "there", "unjudged", "missing"), 0)


def test_compare_with_a_shorter_or_broken_file(run, tmp_path):
    path = write(tmp_path / "a.jsonl", *[sample()] * 5)
    other = write(tmp_path / "b.jsonl", '{"correct": true}', "?", '{"correct": "yes"}', '{"correct": 0}')
    status, rows, said = run("sudoku", path, "--compare", other)
    assert status == 0
    assert [(row["line"], row["other"]["correct"]) for row in rows] == [(2, None), (3, None), (4, False)]
    assert "has 1 lines fewer" in said and "3 of 4 lines disagree: 1 right here only" in said
    write(tmp_path / "b.jsonl", *['{"correct": true}'] * 7)
    assert "has 2 lines more" in run("sudoku", path, "--compare", other)[2]


def test_unknown_names_exit_with_2_and_the_nearest(run, tmp_path):
    path = write(tmp_path / "samples.jsonl", sample())
    for arguments, words in [
        (("sodoku", path), 'Did you mean "sudoku"?'),
        (("sudoku", tmp_path / "sample.jsonl"), f"Did you mean {path}?"),
        (("sudoku", tmp_path / "none" / "a.jsonl"), "There is no folder"),
        (("sudoku", tmp_path), "is a folder"),
        (("sudoku", "a\0b"), "No file"),
        (("sudoku", path, "--output", path), "is a file that is to be read"),
        (("sudoku", path, "--output", tmp_path / "none" / "v"), "cannot be written"),
        (("sudoku", path, path, "--compare", path), "give one FILE"),
        (("sudoku", path, "--compare", tmp_path / "none"), "No file"),
    ]:
        status, rows, said = run(*arguments)
        assert (status, rows) == (2, []) and words in said, arguments
    assert json.loads(Path(path).read_text())["completion"] == RIGHT
    for flags in (("--workers", "0"), ("--workers", "many"), ("--mode", "loose"), ("--jsn",)):
        with pytest.raises(SystemExit) as caught:
            run("sudoku", path, *flags)
        assert caught.value.code == 2


def test_an_empty_file_is_no_mistake(run, tmp_path):
    status, (facts,), said = run("sudoku", write(tmp_path / "a.jsonl"), "--json")
    assert (status, facts["n"], facts["accuracy"], facts["interval"], said) == (0, 0, None, None, "")
    assert "none judged" in run("sudoku", write(tmp_path / "a.jsonl"))[2]

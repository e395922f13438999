"""`python -m verifiers TASK FILE`: what goes in, what comes out, and what is said of bad lines."""

import gzip
import io
import json
import os
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

import verifiers
from tests.common.command_cases import PUZZLE, RIGHT, SOLUTION, WRONG, call, sample, write
from verifiers import __main__ as command
from verifiers import files

KEYS = ["line", "correct", "score", "extracted", "reason", "decided_by", "mark", "verifier_rules"]


@pytest.fixture
def run(capfd):
    return partial(call, capfd)


def test_one_verdict_per_line_in_order_and_a_summary(run, tmp_path):
    path = write(tmp_path / "a.jsonl", sample(), sample(WRONG), sample("é\ud800 none"), sample(None))
    status, rows, said = run("sudoku", path)
    assert status == 0
    assert [list(row) for row in rows] == [KEYS, *[[*KEYS, "detail"]] * 3]
    assert "####" in said and rows[3]["detail"].endswith(
        "NoneType, not text."
    )  # where it looked, what is wrong
    assert [row["line"] for row in rows] == [1, 2, 3, 4]
    assert [row["correct"] for row in rows] == [True, False, False, False]
    assert [row["reason"] for row in rows] == ["ok", "rule_broken", "no_answer", "malformed"]
    assert [row["extracted"] for row in rows] == [SOLUTION, SOLUTION[::-1], None, None]
    assert rows[0]["score"] == 1.0 and rows[0]["decided_by"] == "grammar"
    assert [row["mark"] for row in rows] == ["block", "block", None, None]
    assert {row["verifier_rules"] for row in rows} == {verifiers.RULES}
    assert "4 judged, 1 right, 25.00% [4.56%, 69.94%]" in said  # Wilson 95 % of 1 in 4
    assert "ok 1" in said and "lines/s" in said


def test_the_detail_of_a_line_says_what_is_wrong_with_its_answer(run, tmp_path):
    given = {"numbers": [3, 5, 7], "target": 22}
    texts = ["<answer>3*5+7</answer>", "<answer>3*5+5</answer>", "<answer>3+5+7</answer>"]
    path = write(tmp_path / "c.jsonl", *[json.dumps({"completion": text, **given}) for text in texts])
    _, rows, _ = run("countdown", path)
    assert [row.get("detail") for row in rows] == [None, "5 is used twice.", "It makes 15, not 22."]


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
    assert said.startswith("line 3 is not valid JSON")
    assert len((tmp_path / "v.jsonl").read_text().splitlines()) == 3
    status, rows, _ = run("sudoku", path, "--json")
    assert status == 0 and len(rows) == 4 and rows[3]["n"] == 2  # verdicts, then the summary


def test_a_setting_is_a_column_or_the_value_for_all_lines(run, tmp_path):
    lines = [{"completion": f"<answer>{i},50</answer>", "answer": f"{i},5", "sign": ","} for i in range(3)]
    path = write(tmp_path / "a.jsonl", *map(json.dumps, lines))
    assert run("gsm8k", path)[0] == 1  # none can be judged
    for value in (",", "sign"):
        status, rows, _ = run("gsm8k", path, "--setting", f"decimal={value}")
        assert status == 0 and [row["correct"] for row in rows] == [True] * 3
    *_, said = run("gsm8k", path, "--setting", "decimals=,")
    assert '"gsm8k" has no setting "decimals". Did you mean "decimal"?' in said
    references = write(tmp_path / "r.jsonl", *(json.dumps({"id": i, "answer": f"{i},5"}) for i in range(3)))
    alone = write(tmp_path / "c.jsonl", *(json.dumps({"id": i, **lines[i], "answer": "x"}) for i in range(3)))
    status, rows, _ = run("gsm8k", alone, "--references", references, "--on", "id", "--setting", "decimal=,")
    assert status == 0 and [row["correct"] for row in rows] == [True] * 3


def test_the_samples_of_a_run_are_judged_with_its_settings(run, tmp_path):
    line = {"completion": "<answer>12,50</answer>", "answer": "12,5", "decimal": ","}
    recorded = {**line, "env": "rows", "generation": 0, "rewards": {"correct": 1.0}}
    assert run("gsm8k", write(tmp_path / "run.jsonl", json.dumps(recorded)))[1][0]["correct"] is True
    # A column of the name in another file may be anything.
    assert run("gsm8k", write(tmp_path / "any.jsonl", json.dumps(line)))[0] == 1


def test_how_references_are_read_is_said_with_examples_and_lines(run, tmp_path):
    answers = ["5", "October 2024", "October 2024", "5 \\pmod 7", "12,50", ""]  # the last is invalid
    lines = [
        json.dumps({"completion": [f"<answer>{answer}</answer>"] * 2, "answer": answer}) for answer in answers
    ]
    path = write(tmp_path / "a.jsonl", *lines)
    _, _, said = run("math500", path)
    assert (
        "  3 of 5 references cannot be read as mathematics, only compared as text (`October 2024`, `5" in said
    )
    assert "  1 of 5 references is read as lists (`12,50`)" in said
    for workers in ("1", "2"):
        _, (*_, facts), _ = run("math", path, "--json", "--workers", workers)
        assert len(facts["references"]) == 2 and facts["references"][0].startswith(
            "1 of 5 references is read as li"
        )
    numbers = write(tmp_path / "b.jsonl", lines[0])
    assert "references" not in run("math500", numbers)[2] + run("gsm8k", numbers)[2]
    codes = ["BUG", "Bug", "SPAM"]
    labels = [json.dumps({"completion": f"<answer>{code}</answer>", "answer": code}) for code in codes]
    said = run("text", write(tmp_path / "c.jsonl", *labels))[2]
    assert "2 different references count as equal: 'BUG' (line 1) and 'Bug' (line 2)" in said


def test_thinking_that_never_ends_is_counted(run, tmp_path):
    texts = ("<think>so \\boxed{5} then", "<think>so</think> \\boxed{5}", "it is hard")
    path = write(tmp_path / "a.jsonl", *(json.dumps({"completion": text, "answer": "5"}) for text in texts))
    assert "  1 completion without an answer: thinking begins and never ends" in run("gsm8k", path)[2]
    _, (*_, facts), _ = run("gsm8k", path, "--json")
    assert facts["correct"] == 1 and facts["unended_thinking"] == 1


def test_copies_of_the_problem_are_judged_where_its_field_is_named(run, tmp_path):
    lines = [{"completion": "\\boxed{2+3}", "answer": "5", "prompt": "What is 2+3?"} for _ in range(2)]
    lines[1]["prompt"] = [{"role": "user", "content": "Add 2+3."}, {"role": "assistant", "content": "So"}]
    path = write(tmp_path / "a.jsonl", *map(json.dumps, lines))
    assert [row["reason"] for row in run("math", path)[1]] == ["ok", "ok"]
    assert [row["reason"] for row in run("math", path, "--problem-field", "prompt")[1]] == ["rule_broken"] * 2
    assert '"gsm8k" has no reference "problem"' in run("gsm8k", path, "--problem-field", "prompt")[2]


def test_a_column_of_the_name_problem_is_used_unless_it_is_left_out(run, tmp_path):
    line = {"completion": "\\boxed{2+3}", "answer": "5", "problem": "What is 2+3?"}
    path = write(tmp_path / "a.jsonl", json.dumps(line), json.dumps(line))
    _, rows, said = run("math", path)
    assert [row["reason"] for row in rows] == ["rule_broken"] * 2
    assert "The column problem is used" in said and "--problem-field ''" in said
    del line["problem"]  # one line alone lacks it: the others are judged as before
    mixed = write(tmp_path / "mixed.jsonl", json.dumps(line), *Path(path).read_text().splitlines())
    status, rows, said = run("math", mixed)
    assert status == 0 and [row["reason"] for row in rows] == [None, "rule_broken", "rule_broken"]
    assert 'line 1 lacks "problem"' in said and "Give --problem-field NAME, or --problem-field ''" in said
    few = write(tmp_path / "few.jsonl", *[json.dumps(line)] * 3, *Path(path).read_text().splitlines())
    status, _, said = run("math", few)
    assert status == 1 and "3 lines without a verdict" in said  # most lines
    _, rows, said = run("math", path, "--problem-field", "")
    assert [row["reason"] for row in rows] == ["ok"] * 2 and "column problem" not in said


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("not json", "is not valid JSON (Expecting value"),
        ('{"completion": "x", "puzzle": ', "is not valid JSON"),
        ("[1]", "is no JSON object"), ("null", "is no JSON object"), ("[" * 100_000, "is not valid JSON"),
        ("1" * 5000, "is not valid JSON"),
        ('{"puzzle": "1"}', 'lacks "completion"; it has puzzle. Give --completion-field'),
        ('{"completion": "1"}', 'lacks "puzzle"; it has completion. Give --answer-field.'),
        (sample(puzzle="123"), "has an invalid reference: puzzle='123'"),
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
    assert "2 judged" in said and "1 line without a verdict" in said


def test_blank_lines_are_no_rows_and_keep_the_numbers_of_the_others(run, tmp_path, monkeypatch):
    path = write(tmp_path / "a.jsonl", sample(), "", " \t", sample(WRONG), "", "no json", "")
    for block_bytes in (files.BLOCK_BYTES, 10):
        monkeypatch.setattr(files, "BLOCK_BYTES", block_bytes)
        status, rows, said = run("sudoku", path)
        assert status == 0 and [(row["line"], row["correct"]) for row in rows] == [
            (1, True),
            (4, False),
            (6, None),
        ]
        assert "line 6 is not valid JSON" in said and "1 line without a verdict" in said
    status, rows, said = run("sudoku", write(tmp_path / "b.jsonl", "", " "))
    assert (status, rows) == (1, []) and said.endswith(f"{tmp_path / 'b.jsonl'} holds no rows.\n")


def test_bytes_that_are_no_text_and_endless_lines(run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(files, "LINE_LIMIT", 5000)
    path = tmp_path / "a.jsonl"
    lines = [b"\xef\xbb\xbf" + sample().encode(), b"\xff\xfe{", b"x" * 50_000, sample(WRONG).encode() + b"\r"]
    path.write_bytes(b"\n".join(lines))  # no line end behind the last
    status, rows, said = run("sudoku", path)
    assert status == 0
    assert [row["correct"] for row in rows] == [True, None, None, False]
    assert "is not UTF-8 (byte 1)" in said and "line 3 is longer than" in said


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


def test_bytes_in_parquet_are_text_or_refused_with_their_column(run, tmp_path):
    """Spark, Hive and old pandas write texts as BINARY (r28)."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path, binary = tmp_path / "a.parquet", pyarrow.binary()
    texts = [f"{RIGHT}\né".encode(), f"{RIGHT}é".encode("latin-1"), None]
    columns = {
        "completion": pyarrow.array(texts, binary),
        "puzzle": pyarrow.array([PUZZLE.encode()] * 3, binary),
    }
    unread = pyarrow.array([b"\xff"] * 3, binary)
    parquet.write_table(pyarrow.table({**columns, "image": unread}), path)
    status, rows, said = run("sudoku", path)
    assert status == 0 and [row["correct"] for row in rows] == [True, None, False]
    assert 'line 2 has bytes that are not UTF-8 in the column "completion" (binary). Save it as text.' in said
    chats = [[{"role": "assistant", "content": text}] for text in texts[:2]]
    parquet.write_table(pyarrow.table({"completion": chats, "puzzle": [PUZZLE] * 2}), path)
    status, rows, said = run("sudoku", path)
    assert [row["correct"] for row in rows] == [True, None] and 'the column "completion" (list<' in said


def test_a_field_that_stands_twice_is_named(run, tmp_path):
    doubled = [sample()[:-1] + f', "puzzle": "{PUZZLE}"}}', sample(more={"a": 1})[:-2] + ', "a": 2}}']
    path = write(
        tmp_path / "a.ndjson", *doubled, sample(), sample(f'so "x": {RIGHT}', puzzle=PUZZLE, more={"a": 1})
    )
    status, rows, said = run("sudoku", path)
    assert status == 0 and [row["correct"] for row in rows] == [None, None, True, True]
    assert (
        '1 is not valid JSON (an object has the key "puzzle" twice).' in said
        and 'has the key "a" twice' in said
    )


def test_parquet_without_the_column_or_not_parquet_at_all(run, tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    parquet.write_table(pyarrow.table({"completion": [RIGHT, RIGHT], "other": [1, 2]}), path)
    status, rows, said = run("sudoku", path)
    assert (status, rows) == (1, []) and said.count("puzzle") == 1
    assert (
        'None of the 2 lines can be judged, so no verdicts are written: line 1 lacks "puzzle"; it has' in said
    )
    path.write_bytes(b"PAR1 and then nothing")
    status, rows, said = run("sudoku", path)
    assert (status, rows) == (1, []) and "cannot be read" in said


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_column_that_every_line_lacks_is_said_once_without_verdicts(run, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    lines = [json.dumps({"id": number, "output": "#### 18", "gold": "18"}) for number in range(300)]
    path = write(tmp_path / "a.jsonl", *lines)
    status, rows, said = run("gsm8k", path, "--workers", workers)
    assert (status, rows) == (1, [])
    assert said.startswith(
        'None of the 300 lines can be judged, so no verdicts are written: line 1 lacks "completion" and "answer"; it '
        "has id, output, gold. Give --completion-field and --answer-field. Also 299 more lines.\n"
        "gsm8k, lenient: 0 judged"
    )
    assert "300 lines without a verdict" in said and said.count("lacks") == 1
    assert run("gsm8k", path, "--completion-field", "output", "--answer-field", "gold")[0] == 0
    assert run("gsm8k", path, "--json")[1][0]["invalid_lines"] == 300
    good = json.dumps({"completion": "#### 18", "answer": "18"})
    for more in (good, "not json", json.dumps({"completion": "#### 18"})):  # in the last block
        write(tmp_path / "a.jsonl", *lines, more)
        status, rows, said = run("gsm8k", path, "--workers", workers)
        numbers = [*range(1, 302)] if more == good else []
        assert [row["line"] for row in rows] == numbers and status == 1
        assert "line 1 lacks" in said and "Also 299 more lines." in said
        assert (more == good) or ("None of the 301 lines" in said and "\nline 301 " in said)


def test_what_waits_for_a_line_that_can_be_judged_is_bounded(run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(command, "MAX_HELD_BYTES", 1000)
    path = write(tmp_path / "a.jsonl", *['{"output": "#### 18", "gold": "18"}'] * 3000)
    status, rows, said = run("gsm8k", path)
    assert (status, [row["line"] for row in rows]) == (1, [*range(1, 3001)]) and "line 1 lacks" in said


def test_an_output_that_is_no_file_stays_what_it_is(run, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as threads:
        text = threads.submit(pipe.read_text)
        assert run("sudoku", write(tmp_path / "a.jsonl", sample()), "--output", pipe)[0] == 0
        assert json.loads(text.result())["correct"] is True
    assert pipe.is_fifo() and [path.name for path in tmp_path.iterdir()] == ["pipe", "a.jsonl"]


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")
def test_a_full_disk_is_said_with_what_could_not_be_written(tmp_path):
    path = write(tmp_path / "a.jsonl", sample())
    with open("/dev/full", "w") as full:
        line = [sys.executable, "-m", "verifiers", "sudoku", path]
        done = subprocess.run(line, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(
        "Stopped: the verdicts cannot be written to standard output: No space left on device. Make room there"
    )


def test_a_file_that_breaks_off_is_judged_as_far_as_it_goes(run, tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress("".join(sample() + "\n" for _ in range(10)).encode())[:-20])
    status, rows, said = run("sudoku", path)
    assert status == 1 and all(row["correct"] for row in rows)
    assert f"{path} cannot be read (Compressed file ended" in said


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.csv.gz"])
def test_whole_lines_before_a_torn_end_are_judged_and_the_rest_is_counted(run, tmp_path, name):
    noise = [f"{number * 7919 % 100_003}" for number in range(3000)]  # does not compress away
    if name == "a.csv.gz":
        text = "puzzle,completion\n" + "".join(f"{PUZZLE},{each} {RIGHT}\n" for each in noise)
    else:
        text = "".join(sample(f"{each} {RIGHT}") + "\n" for each in noise)
    zipped = gzip.compress(text.encode())
    path = tmp_path / name
    path.write_bytes(zipped[: len(zipped) // 2])
    whole = zlib.decompressobj(31).decompress(zipped[: len(zipped) // 2]).count(b"\n") - (name == "a.csv.gz")
    status, (*rows, facts), said = run("sudoku", path, "--json")
    assert status == 1 and facts["broken_files"] == 1 and facts["n"] == len(rows)
    assert 1000 < whole - 200 <= len(rows) <= whole and all(row["correct"] for row in rows)
    assert f"cannot be read past line {len(rows) + (name == 'a.csv.gz')} (" in said  # the header is a line
    assert "1 file broke off" in run("sudoku", path)[2]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
def test_a_file_in_utf_16_is_named_as_such(run, tmp_path, name):
    text = {"a.csv": f"puzzle,completion\n{PUZZLE},{RIGHT}\n", "a.json": f"[{sample()}]"}.get(name, sample())
    written = text.encode("utf-16")
    path = tmp_path / name
    path.write_bytes(gzip.compress(written) if name.endswith(".gz") else written)
    status, rows, said = run("sudoku", path)
    assert rows == [] and "broke off" not in said
    assert f"{name} is UTF-16, not UTF-8. Save it as UTF-8, e.g. with iconv" in said and status == 2


def test_an_array_with_a_mistake_is_refused(run, tmp_path):
    path = tmp_path / "a.json"
    path.write_text(f"[{sample()},{sample()},,]")
    status, rows, said = run("sudoku", path)
    assert (status, rows) == (1, []) and f"{path} cannot be read (Expecting" in said


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
    assert (
        status == 2
        and '"length" has no reference "a". Use --answer-field low=NAME --answer-field high=NAME.' in said
    )
    status, _, said = run("length", path, "--answer-field", "lwo=a")
    assert status == 2 and '"length" has no reference "lwo". Did you mean "low"? Use' in said
    assert "Give --answer-field low=NAME." in run("length", path)[2]


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


LM_EVAL = {"doc_id": 0, "doc": {"question": "9 + 9?", "answer": "9 + 9 = 18\n#### 18"}, "target": "#### 18"}
PRESETS = {  # how each tool writes a right answer, and a wrong one
    "lm-eval": [{**LM_EVAL, "resps": [["so #### 18"]]}, {**LM_EVAL, "resps": [["so #### 17"]]}],
    "trl": [
        {"step": 1, "completion": [{"role": "assistant", "content": "#### 18"}], "solution": "18"},
        {"step": 1, "prompt": "9 + 9?", "completion": "#### 17", "answer": 18, "advantage": -1.0},
    ],
    "verl": [
        {"input": "9 + 9?", "output": "#### 18", "gts": "18", "score": 1.0, "step": 1},
        {"prompt": [], "responses": ["#### 17"], "reward_model": {"style": "rule", "ground_truth": "18"}},
    ],
    "qa": [{"question": "9 + 9?", "answer": "18", "response": f"#### {n}"} for n in (18, 17)],
}


@pytest.mark.parametrize("indent", [None, 4])
def test_predictions_of_opencompass_are_one_object(run, tmp_path, indent):
    rows = {"0": {"origin_prompt": "p", "prediction": "The answer is 18", "gold": "9 + 9 = 18\n#### 18"}}
    rows |= {str(number): {"prediction": f"\\boxed{{{number}}}", "gold": "10"} for number in range(1, 12)}
    path = tmp_path / "gsm8k.json"
    path.write_text(json.dumps(rows, indent=indent))
    status, verdicts, said = run("gsm8k", path)
    assert status == 0 and "Read as a file of opencompass;" in said
    assert [row["line"] for row in verdicts if row["correct"]] == [1, 11], "in the order of their numbers"
    path.write_text(json.dumps({"0": {"prediction": "1", "gold": "1"}, "accuracy": 50.0}, indent=indent))
    assert run("gsm8k", path)[0] == 1, "what is not all samples is not read as if it were"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_knows_the_names_of_a_tool(run, tmp_path, preset):
    path = write(tmp_path / "a.jsonl", *map(json.dumps, PRESETS[preset]))
    status, rows, said = run("gsm8k", path, "--preset", preset)
    assert (status, [row["correct"] for row in rows]) == (0, [True, False]), said
    assert "Read as" not in said
    again, recognised, said = run("gsm8k", path)
    assert (again, recognised) == (0, rows) and f"Read as a file of {preset};" in said


def test_a_first_line_without_a_field_says_nothing_of_the_tool(run, tmp_path):
    path = write(tmp_path / "a.jsonl", '{"response": "18"}', '{"response": "#### 18", "answer": "18"}')
    status, rows, said = run("gsm8k", path)
    assert (status, [row["correct"] for row in rows]) == (0, [None, True])
    assert "Read as a file of qa;" in said and 'line 1 lacks "answer"; it has response. Give' in said


@pytest.mark.parametrize("column", ["answer", "solution", "target"])
def test_a_column_of_answers_is_no_puzzle(run, tmp_path, column):
    """A finished grid is a puzzle without blanks, so that every other solution was wrong, silently."""
    grid = "3142423113242413"
    line = {"completion": f"<answer>{grid}</answer>", "resps": [[grid]], "response": grid, column: grid}
    path = write(tmp_path / "a.jsonl", json.dumps(line))
    for preset in ([], ["--preset", "trl"], ["--preset", "qa"], ["--preset", "lm-eval"]):
        status, rows, said = run("sudoku", path, *preset)
        assert status == 1 and not any(row["correct"] for row in rows), (preset, said)
        assert "puzzle" in said and "lacks" in said, said
    assert run("sudoku", path, "--answer-field", column)[0] == 0, "who says so, is believed"


@pytest.mark.parametrize("tool", ["lm-eval", "verl"])
def test_a_file_of_a_tool_is_known_if_a_flag_names_its_answers(run, tmp_path, tool):
    path = write(tmp_path / "a.jsonl", json.dumps({**PRESETS[tool][0], "mine": "18"}))
    status, rows, said = run("gsm8k", path, "--answer-field", "mine")
    assert (status, [row["correct"] for row in rows]) == (0, [True]) and f"a file of {tool}" in said, said


def test_a_file_of_a_tool_is_not_guessed_where_two_fit_or_a_flag_says(run, tmp_path):
    both = {**PRESETS["lm-eval"][0], "response": "#### 17", "answer": "18"}
    path = write(tmp_path / "a.jsonl", json.dumps(both))
    status, rows, said = run("gsm8k", path)
    assert (status, rows) == (2, []) and "--preset lm-eval" in said and "--preset qa" in said
    assert "trl" not in said and "verl" not in said
    for preset, right in (("lm-eval", True), ("qa", False)):
        assert [row["correct"] for row in run("gsm8k", path, "--preset", preset)[1]] == [right]
    assert run("gsm8k", path, "--answer-field", "target")[0] == 2, "the completion may still be of either"
    for flags in (["--preset", "trl"], ["--completion-field", "text"]):
        status, _, said = run("gsm8k", path, *flags)
        assert status == 1 and " lacks " in said and "Read as" not in said, flags
    write(tmp_path / "a.jsonl", json.dumps(PRESETS["lm-eval"][0]))
    assert ' lacks "answer"' in run("gsm8k", path, "--completion-field", "resps")[2]
    write(tmp_path / "a.jsonl", "not json", json.dumps({**both, "completion": "#### 18"}))
    status, rows, said = run("gsm8k", path)
    assert [row["correct"] for row in rows] == [None, True] and "Read as" not in said


def test_lists_are_judged_one_by_one_with_pass_at_k(run, tmp_path):
    lists = [[RIGHT, WRONG, WRONG, WRONG], [[WRONG, WRONG], [WRONG, None]], [RIGHT, RIGHT, RIGHT, WRONG]]
    path = write(tmp_path / "a.jsonl", *[sample(each) for each in lists], sample([[{"content": RIGHT}]]))
    for workers in (1, 2):
        status, rows, _ = run("sudoku", path, "--json", "--workers", workers)
        *rows, facts = rows
        assert status == 0 and [(row["line"], row.get("sample")) for row in rows] == [
            *((line, place) for line in (1, 2, 3) for place in (1, 2, 3, 4)),
            (4, None),
        ]
        assert (facts["n"], facts["correct"]) == (13, 5)
        # 1 - C(n-c, k) / C(n, k) of n = 4 and c = 1, 0, 3, by hand
        assert facts["pass_at"] == pytest.approx({"1": 1 / 3, "2": 0.5, "4": 2 / 3})
        assert facts["pass_at_of"] == {"lines": 3, "completions": 12}
    said = run("sudoku", path)[2]
    assert "pass@1 33.33%, pass@2 50.00%, pass@4 66.67%, of the 3 lines" in said
    assert "12 in all" in said and "38.46% right, of all 13 completions" in said


def test_a_csv_file_has_a_header_line(run, tmp_path):
    text = f'puzzle,completion\n{PUZZLE},"a, ""b""\n{RIGHT}"\n{PUZZLE},{WRONG}\n{PUZZLE}\n'
    for name, data in (("a.csv", text), ("a.tsv", text.replace(",", "\t")), ("b.csv", "\ufeff" + text)):
        path = tmp_path / name
        path.write_text(data, encoding="utf-8")
        status, rows, said = run("sudoku", path)
        assert status == 0 and [row["correct"] for row in rows] == [True, False, False], said
        zipped = tmp_path / (name + ".gz")
        zipped.write_bytes(gzip.compress(path.read_bytes()))
        assert run("sudoku", zipped)[1] == rows
    path.write_text(text + '"never closed')
    status, rows, said = run("sudoku", path)
    assert status == 1 and "cannot be read" in said
    path.write_bytes(text.encode() + b"\xff")
    assert run("sudoku", path)[0] == 1


@pytest.mark.parametrize(
    ("delimiter", "called"),
    [(",", "comma"), (";", "semicolon"), ("\t", "tab")],
    ids=["comma", "semicolon", "tab"],
)
def test_a_row_with_more_cells_than_the_header_is_an_error_of_its_line(run, tmp_path, delimiter, called):
    """An unquoted comma shifts all cells behind it: 1 would be judged against 250."""
    path = tmp_path / "a.csv"
    rows = (
        "completion,answer",
        "The answer is 1|250,1250",
        '"The answer is 1|250",1250',
        "The answer is 5,5,,",
    )
    path.write_text(
        "\n".join(rows).replace(",", delimiter).replace("|", delimiter if delimiter == "," else ",")
    )
    status, found, said = run("gsm8k", path)
    if delimiter != ",":  # then there is none too many
        assert [row["correct"] for row in found] == [True, True, True], said
        path.write_text(path.read_text().replace("1,250", f"1{delimiter}250"))
        status, found, said = run("gsm8k", path)
    assert (status, found[0]["correct"], found[2]["correct"]) == (0, None, True), said
    assert f"line 2 has 3 cells, and the header 2. Put a cell with a {called} into quotation marks." in said


def test_a_name_of_two_columns_is_refused(run, tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("completion,answer,,answer,\n5,5,,6,\n")
    status, _, said = run("gsm8k", path)
    assert status == 2 and 'has several columns "answer". Rename all but one.' in said


@pytest.mark.parametrize("numbers", ["[3, 5, 7]", "3 5 7", "[3 5  7]", "3,5,7"])
def test_a_table_holds_lists_as_text(run, tmp_path, numbers):
    path = tmp_path / "a.csv"
    lines = [
        f'<answer>3*5+7</answer>,"{numbers}",22',
        f'<answer>3*5</answer>,"{numbers}",22',
        '1,"[3, x]",22',
    ]
    path.write_text("\n".join(["completion,numbers,target", *lines]))
    status, rows, said = run("countdown", path)
    assert status == 0 and [row["reason"] for row in rows][1:] == ["rule_broken", None], said
    assert rows[0]["correct"] and "has an invalid reference: numbers='[3, x]'" in said


def test_a_json_array_is_read_item_by_item(run, tmp_path):
    items = [json.loads(sample(text)) for text in (RIGHT, "a\u2028b\n[" + RIGHT, "x" * 500 + WRONG, "é")]
    path = tmp_path / "a.json"
    for data in (json.dumps(items), json.dumps(items, indent=2, ensure_ascii=False)):
        path.write_text("\ufeff" * (data[1] == "\n") + data, encoding="utf-8")
        status, rows, said = run("sudoku", path)
        assert status == 0 and [row["correct"] for row in rows] == [True, True, False, False], said
        path.write_bytes(gzip.compress(path.read_bytes()))
        assert run("sudoku", path)[1] == rows
    path.write_text(f"[{sample()}, 12, null, [1]]")
    assert [row["correct"] for row in run("sudoku", path)[1]] == [True, None, None, None]
    path.write_text(f"[{sample()}")
    status, rows, said = run("sudoku", path)
    assert (status, rows) == (1, []) and f"{path} cannot be read (Expecting" in said


def test_an_object_that_holds_the_samples_and_a_table_of_semicolons_are_read(run, tmp_path):
    items = [json.loads(sample(text)) for text in (RIGHT, WRONG)]
    path = tmp_path / "a.json"
    for indent in (None, 2):
        path.write_text(json.dumps({"data": items}, indent=indent))
        assert [row["correct"] for row in run("sudoku", path)[1]] == [True, False]
    path = tmp_path / "a.csv"
    path.write_text(
        "completion;puzzle\n" + "".join(f"{item['completion']};{item['puzzle']}\n" for item in items)
    )
    assert [row["correct"] for row in run("sudoku", path)[1]] == [True, False]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "a.jsonl",
            json.dumps({"a": 1}, indent=1) + "\n" + json.dumps({"a": 1}, indent=1),
            "over several lines",
        ),
        ("a.json", json.dumps({"a": 1}, indent=1), "Write one object to a line"),
        ("a.jsonl", "", "holds no rows"),
        ("a.json", "[]", "holds no rows"),
        ("a.csv", "completion,puzzle\n", "holds no rows"),
    ],
)
def test_what_holds_no_samples_is_told_in_words(run, tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    status, rows, told = run("sudoku", tmp_path / name)
    assert (status, rows) == (1, []) and said in told


def test_a_file_of_malformed_answers_only_is_questioned(run, tmp_path):
    path = write(tmp_path / "a.jsonl", *[sample(other=[{"text": RIGHT}])] * 2)
    assert (
        "do the completions stand in another field?" in run("sudoku", path, "--completion-field", "other")[2]
    )
    assert "another field" not in run("sudoku", path)[2]


def test_what_is_wrong_with_many_lines_is_said_once(run, tmp_path):
    lines = [*["{"] * 150, sample(), *[sample(puzzle="5" * 16)] * 2, "{"]
    path, other = (write(tmp_path / f"{name}.jsonl", *lines) for name in "ab")
    for arguments, label in (([path], ""), ([path, other], f"{other}, ")):
        status, rows, said = run("sudoku", *arguments)
        assert status == 1 and [row["correct"] for row in rows[:154]] == [None] * 150 + [True] + [None] * 3
        assert said.count("not valid JSON") == len(arguments) == said.count("invalid reference")
        assert f"{label}line 1 is not valid JSON" in said and f"{label}line 152 has an invalid" in said
        assert said.count("Also 150 more lines.\n") == said.count("Also 1 more line.\n") == len(arguments)
    lines = [sample(puzzle=f"{number}") for number in range(20, 170)]  # faults that differ in a value alone
    said = run("sudoku", write(tmp_path / "a.jsonl", *lines, lines[-1]))[2]
    assert (
        said.count("line 1 has an invalid reference: puzzle='20'") == 1 and "Also 150 more lines.\n" in said
    )
    lines = [json.dumps({chr(number): 1}) for number in range(60, 90)]
    said = run("sudoku", write(tmp_path / "a.jsonl", *lines))[2]
    assert said.count("\nline ") == 9 and "... and 20 more lines with another problem\n" in said


def test_lines_without_a_completion_are_malformed_and_named(run, tmp_path):
    path = write(tmp_path / "a.jsonl", sample(), sample(None), sample([]), sample([None]), sample(None))
    status, rows, said = run("sudoku", path)
    assert status == 0 and [row["reason"] for row in rows] == ["ok"] + ["malformed"] * 4
    assert "line 2 has no completion" in said
    assert "Also 3 more lines.\n" in said and "5 judged" in said and "without a verdict" not in said


def test_nothing_judged_exits_with_1(run, tmp_path):
    status, (facts,), said = run("sudoku", write(tmp_path / "a.jsonl"), "--json")
    assert (status, facts["n"], facts["accuracy"], facts["interval"]) == (1, 0, None, None)
    assert said == f"{tmp_path / 'a.jsonl'} holds no rows.\n"
    status, _, said = run("sudoku", write(tmp_path / "a.jsonl", "x"))
    assert status == 1 and "line 1 " in said


def test_unknown_names_exit_with_2_and_the_nearest(run, tmp_path):
    path = write(tmp_path / "samples.jsonl", sample())
    for arguments, words in [
        (("sodoku", path), 'Did you mean "sudoku"?'),
        (("sudoku", tmp_path / "sample.jsonl"), f"Did you mean {path}?"),
        (("sudoku", tmp_path / "samples.json"), f"Did you mean {path}?"),
        (("sudoku", tmp_path / "a.jsonl"), "a.jsonl. Give a file"),  # another name with the same ending
        ((path, "sudoku"), f"The task comes first: python -m verifiers sudoku {path}"),
        (("sudoku", tmp_path / "none" / "a.jsonl"), f"{tmp_path}/none/a.jsonl"),
        (("sudoku", tmp_path), str(tmp_path)),
        (("sudoku", path, "--output", path), "--output"),
        (("sudoku", path, "--output", tmp_path / "none" / "v"), "--output"),
    ]:
        status, rows, said = run(*arguments)
        assert (status, rows) == (2, []) and words in said, arguments
    assert json.loads(Path(path).read_text())["completion"] == RIGHT
    for flags in (("--workers", "0"), ("--workers", "many"), ("--mode", "loose"), ("--jsn",)):
        with pytest.raises(SystemExit) as caught:
            run("sudoku", path, *flags)
        assert caught.value.code == 2


def test_an_unknown_flag_is_refused_in_one_line_with_the_nearest(run, capfd):
    with pytest.raises(SystemExit):
        run("sudoku", "samples.jsonl", "--worker", "2")
    said = capfd.readouterr().err
    assert "there is no flag --worker. Did you mean --workers?" in said and said.count("\n") == 1
    with pytest.raises(SystemExit):
        run("sudoku", "samples.jsonl", "--mode", "strickt")
    said = capfd.readouterr().err
    assert "--mode: 'strickt' is unknown. Did you mean strict? Use one of lenient, strict, flexible." in said


def test_a_table_in_another_encoding_is_named_with_its_line(run, tmp_path):
    path = tmp_path / "samples.csv"
    path.write_bytes("completion,answer\n1,2\ncafé,3\n".encode("latin-1"))
    status, rows, said = run("gsm8k", path)
    assert (status, len(rows)) == (1, 1) and "past line 2 (line 3 is not UTF-8; save it as UTF-8)" in said


BATCH = {"id": "batch_req_1", "custom_id": "7", "error": None}


def answered(*texts: str) -> dict:
    """The line of a request that was answered with so many choices."""
    choices = [
        {"index": i, "message": {"role": "assistant", "content": text}} for i, text in enumerate(texts)
    ]
    return {**BATCH, "response": {"status_code": 200, "body": {"choices": choices}}}


def test_batches_of_openai_judge_every_choice_and_count_failed_requests(tmp_path, capsys):
    lines = [
        answered("<answer>18</answer>"),
        answered("<answer>18</answer>", "<answer>17</answer>"),
        {**BATCH, "response": {"status_code": 429, "body": {"error": {"message": "slow down"}}}},
        {**BATCH, "response": None, "error": {"code": "batch_expired", "message": "too late"}},
    ]
    (tmp_path / "out.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "problems.jsonl").write_text('{"custom_id": "7", "answer": "18"}\n')
    files = [
        str(tmp_path / "out.jsonl"),
        "--references",
        str(tmp_path / "problems.jsonl"),
        "--on",
        "custom_id",
    ]
    assert command.main(["gsm8k", *files]) == 0
    printed = capsys.readouterr()
    assert "a request that failed" in printed.err and "2" in printed.err
    verdicts = [json.loads(line) for line in printed.out.splitlines()]
    assert [verdict["correct"] for verdict in verdicts] == [True, True, False, None, None]
    assert [verdict.get("sample") for verdict in verdicts] == [None, 1, 2, None, None]
    assert all("a request that failed" in verdict["error"] for verdict in verdicts[3:])
    assert command.main(["gsm8k", *files, "--keep", "custom_id"]) == 0
    verdicts = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [verdict["custom_id"] for verdict in verdicts] == ["7"] * 5


def test_a_batch_without_references_is_told_where_to_name_them(tmp_path, capsys):
    (tmp_path / "out.jsonl").write_text(json.dumps(answered("<answer>18</answer>")) + "\n")
    for flags in (["--preset", "openai"], []):
        assert command.main(["gsm8k", str(tmp_path / "out.jsonl"), *flags]) == 1
        assert "--references FILE --on custom_id" in capsys.readouterr().err


def test_a_batch_whose_answers_a_flag_names_is_read(run, tmp_path):
    path = write(tmp_path / "out.jsonl", json.dumps({**answered("<answer>18</answer>"), "gold": "18"}))
    for flags in ([], ["--preset", "openai"]):
        assert run("gsm8k", path, "--answer-field", "gold", *flags)[1][0]["correct"]


@pytest.mark.parametrize("last", ['{"completion": "<answer>18</ans', '{"completion": "x", "answer"'])
def test_a_file_whose_last_line_breaks_off_ends_with_1(tmp_path, capsys, last):
    whole = '{"completion": "<answer>18</answer>", "answer": "18"}\n'
    (tmp_path / "cut.jsonl").write_text(whole * 3 + last)
    assert command.main(["gsm8k", str(tmp_path / "cut.jsonl")]) == 1
    printed = capsys.readouterr()
    assert len(printed.out.splitlines()) == 3 and "past line 3 (its last line breaks off)" in printed.err
    (tmp_path / "bad.jsonl").write_text(whole + "{not json}")
    assert command.main(["gsm8k", str(tmp_path / "bad.jsonl")]) == 0, (
        "a line that is wrong is no file that is cut"
    )


def test_without_a_verdict_an_earlier_output_stays(run, tmp_path):
    path, output = write(tmp_path / "in.jsonl", '{"x": 1}'), tmp_path / "out.jsonl"
    output.write_text("verdicts of yesterday\n")
    assert run("gsm8k", path, "--output", str(output))[0] == 1
    assert output.read_text() == "verdicts of yesterday\n" and not list(tmp_path.glob("*.partial"))


def test_samples_of_lm_eval_in_two_files_are_two_models_and_all_are_judged(run, tmp_path):
    line = json.dumps(PRESETS["lm-eval"][0])
    paths = [write(tmp_path / name, line, line) for name in ("a.jsonl", "b.jsonl")]
    rows = run("gsm8k", *paths)[1]
    assert [(Path(row["file"]).name, row["correct"]) for row in rows] == [
        ("a.jsonl", True),
        ("b.jsonl", True),
    ]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_of_a_table_may_end_in_any_of_three_ways(run, tmp_path, end):
    path = tmp_path / "in.csv"
    path.write_bytes(f"completion,answer{end}<answer>1</answer>,1{end}<answer>2</answer>,1{end}".encode())
    assert [row["correct"] for row in run("gsm8k", str(path))[1]] == [True, False]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_lies_deep_in_another_column_is_no_matter(run, tmp_path, workers):
    deep = '{"completion": "<answer>1</answer>", "answer": "1", "other": ' + "[" * 600 + "]" * 600 + "}"
    status, rows, _ = run("gsm8k", write(tmp_path / "deep.jsonl", deep), "--workers", workers)
    assert status == 0 and rows[0]["correct"]


def test_scores_below_0_count_and_a_setting_needs_a_value(run, tmp_path):
    verify = "lambda completion, *, mode, answer: verifiers.Verdict(correct=False, score=-0.5)"
    task = f'import verifiers\nverifiers.register("below", fields=["answer"], verify={verify})\n'
    (tmp_path / "below.py").write_text(task)
    path = write(tmp_path / "two.jsonl", *['{"completion": "a", "answer": "1"}'] * 2)
    _, (*_, facts), _ = run(f"{tmp_path}/below.py:below", path, "--json")
    assert facts["mean_score"] == -0.5
    status, _, said = run("gsm8k", path, "--setting", "decimal=")
    assert status == 2 and "decimal is given nothing. Use --setting decimal=NAME" in said

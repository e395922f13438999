"""Completions and references in two files, joined by a field."""

import json
import re
from pathlib import Path

import pytest

from verifiers.__main__ import main


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def answer(text: str, key: object) -> dict:
    """A line of an OpenAI batch's output."""
    choices = [{"message": {"role": "assistant", "content": f"<answer>{text}</answer>"}}]
    return {"custom_id": key, "response": {"status_code": 200, "body": {"choices": choices}}}


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    completions = [
        answer("8", "b"),
        answer("7", "a"),
        answer("9", "nowhere"),
        {"response": "<answer>8</answer>"},
    ]
    references = [{"id": "a", "answer": "7"}, {"id": "b", "answer": "9"}]
    return [write(tmp_path / "out.jsonl", completions), write(tmp_path / "refs.jsonl", references)]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_completion_is_judged_by_the_reference_of_its_key(files, workers, capsys) -> None:
    completions, references = files
    words = ["gsm8k", completions, "--references", references, "--on", "custom_id=id", "--workers", workers]
    assert main(words) == 0
    out = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["correct"] for row in out] == [False, True, None, None]
    assert "'nowhere'" in out[2]["error"] and "refs.jsonl lacks" in out[2]["error"]
    assert 'lacks "custom_id"' in out[3]["error"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_columns_of_the_references_are_kept_and_counted_by(files, tmp_path, workers, capsys) -> None:
    references = [
        {"id": "a", "answer": "7", "level": "easy", "custom_id": "x"},
        {"id": "b", "answer": "9", "level": "hard", "custom_id": "y"},
    ]
    words = ["--references", write(tmp_path / "refs.jsonl", references), "--on", "custom_id=id"]
    words += ["--keep", "level", "custom_id", "--by", "level", "--workers", workers, "--json"]
    assert main(["gsm8k", files[0], *words]) == 0
    said = capsys.readouterr()
    rows = list(map(json.loads, said.out.splitlines()))
    facts = next(json.loads(line) for line in said.err.splitlines() if line.startswith("{"))
    assert [row.get("level") for row in rows] == ["hard", "easy", None, None]
    assert [row.get("custom_id") for row in rows] == ["b", "a", "nowhere", None]  # those of the completions
    groups = facts["by"]["groups"]
    assert {value: (group["n"], group["correct"]) for value, group in groups.items()} == {
        "hard": (1, 0),
        "easy": (1, 1),
    }
    assert "no such column" not in said.err
    write(tmp_path / "refs.jsonl", [*references, {**references[0], "level": "hard"}])
    assert main(["gsm8k", files[0], *words]) == 2
    assert "'a' has another reference or level or custom_id before" in capsys.readouterr().err


def test_plain_completions_and_several_fields(tmp_path: Path, capsys) -> None:
    completions = write(
        tmp_path / "a.jsonl", [{"id": 3, "completion": "<answer>2+5</answer>", "numbers": "old"}]
    )
    references = write(tmp_path / "b.jsonl", [{"id": "3", "numbers": [2, 5], "target": 7}])
    assert main(["countdown", completions, "--references", references, "--on", "id"]) == 0
    assert json.loads(capsys.readouterr().out)["correct"] is True


@pytest.mark.parametrize(
    ("rows", "words", "said"),
    [
        ([{"id": "a", "answer": "7"}], [], "go together"),
        ([{"id": "a"}], ["--on", "custom_id=id"], 'lacks "answer"; it has id. Give --answer-field.'),
        ([{"id": "a", "answer": "7"}], ["--on", "x=i"], 'lacks "i"; it has id, answer. Give --on COMPL'),
        (
            [{"id": "a", "answer": "7"}, {"id": "a", "answer": "8"}],
            ["--on", "custom_id=id"],
            "another reference",
        ),
    ],
)
def test_what_cannot_be_joined_is_said(files, tmp_path, rows, words, said, capsys) -> None:
    references = write(tmp_path / "refs.jsonl", rows)
    assert main(["gsm8k", files[0], "--references", references, *words]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("workers", ["1", "2"])
def test_keys_that_the_references_lack_are_one_problem_of_many_lines(tmp_path, workers, capsys) -> None:
    """`0.0` is no key `0`: it may be another row's, where keys are texts."""
    refs = write(tmp_path / "refs.jsonl", [{"id": i, "answer": "7"} for i in range(30)])
    rows = [{"id": f"{i}.0", "completion": "#### 7"} for i in range(20)]
    words = ["--references", refs, "--on", "id", "--workers", workers]
    assert main(["gsm8k", write(tmp_path / "out.jsonl", rows), *words]) == 1
    said = capsys.readouterr().err
    assert (
        f"None of the 20 lines can be judged, so no verdicts are written: line 1 has id '0.0', which {refs}"
        in said
    )
    assert "another problem" not in said and said.count("lacks") == 1
    rows = [{"id": 1, "completion": "#### 7"}, *rows, {"id": 2}, {"id": "x", "completion": "#### 7"}]
    assert main(["gsm8k", write(tmp_path / "out.jsonl", rows), *words]) == 1  # most lines have no verdict
    said = capsys.readouterr()
    assert f"line 2 has id '0.0', which {refs} lacks. Also 20 more lines.\n" in said.err
    assert "another problem" not in said.err
    assert 'line 22 lacks "completion"' in said.err
    assert "has id '3.0'" in json.loads(said.out.splitlines()[4])["error"]  # each line keeps its own text


def test_an_object_is_no_completion(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "odd.jsonl", [{"response": {"body": 1}, "answer": "7"}])
    assert main(["gsm8k", path]) == 1
    assert "Read as" not in capsys.readouterr().err


@pytest.mark.parametrize("names", [("strict", "flexible"), (None, None)])
def test_a_completion_that_lm_eval_logs_for_each_filter_is_counted_once(tmp_path, capsys, names):
    docs = [
        {"doc_id": n, "doc": {"answer": "7"}, "resps": [["<answer>7</answer>"]], "target": "7"}
        for n in (0, 1)
    ]
    rows = [
        {**doc, "filtered_resps": ["7"]} | ({"filter": name} if name else {})
        for name in names
        for doc in docs
    ]
    path = write(tmp_path / "lm.jsonl", rows)
    assert main(["gsm8k", path, "--workers", "2"]) == 0
    said = capsys.readouterr()
    assert [json.loads(line)["line"] for line in said.out.splitlines()] == [1, 2]
    assert "2 judged, 2 right" in said.err and "2 lines with the completion of an earlier one" in said.err
    assert main(["gsm8k", write(tmp_path / "one.jsonl", rows[:2])]) == 0
    assert "earlier" not in capsys.readouterr().err


def test_columns_are_kept_beside_verdicts_and_counted_by(tmp_path, capsys):
    rows = [
        {
            "id": f"p{n}",
            "level": n % 2,
            "doc": {"source": "a"},
            "completion": f"#### {n}",
            "answer": str(n - n % 2),
        }
        for n in range(6)
    ]
    path = write(tmp_path / "rows.jsonl", rows)
    assert main(["gsm8k", path, "--keep", "doc.source", "missing", "--by", "level", "--json"]) == 0
    said = capsys.readouterr()
    lines, facts = list(map(json.loads, said.out.splitlines())), json.loads(said.err.splitlines()[-1])
    assert [(line["id"], line["doc.source"]) for line in lines] == [(f"p{n}", "a") for n in range(6)]
    assert not any({"missing", "level"} & line.keys() for line in lines)
    groups = facts["by"]["groups"]
    assert facts["by"]["column"] == "level"
    assert {value: (group["n"], group["correct"]) for value, group in groups.items()} == {
        "0": (3, 3),
        "1": (3, 0),
    }
    assert main(["gsm8k", path, "--by", "level"]) == 0
    assert re.search(r"by level:\n    0  3 of 3, 100.00% .*\n    1  0 of 3, 0.00%", capsys.readouterr().err)
    references = write(tmp_path / "refs.jsonl", [{"id": row["id"], "answer": row["answer"]} for row in rows])
    asked = ["--references", references, "--on", "id", "--keep", "level", "--by", "level"]
    assert (
        main(["gsm8k", write(tmp_path / "c.jsonl", [{**row, "answer": None} for row in rows]), *asked]) == 0
    )
    said = capsys.readouterr()
    assert [json.loads(line)["level"] for line in said.out.splitlines()] == [
        0,
        1,
    ] * 3 and "by level" in said.err
    assert main(["gsm8k", path, "--keep", "score"]) == 2
    assert "--keep score: the verdict has a field of this name" in capsys.readouterr().err


def test_where_an_answer_is_looked_for_is_said_once(tmp_path, capsys):
    path = write(tmp_path / "rows.jsonl", [{"completion": "seven", "answer": "7"}] * 3)
    main(["gsm8k", path])
    said = capsys.readouterr()
    assert said.err.count("in strict mode it stands in a closed <answer> block") == 1
    assert {len(json.loads(line)["detail"]) < 60 for line in said.out.splitlines()} == {True}


def test_the_summary_says_where_the_answers_stand_that_cannot_be_read(tmp_path, capsys):
    rows = [{"completion": f"<answer>{text}</answer>", "answer": "9"} for text in ("half of 18", "9")]
    main(["gsm8k", write(tmp_path / "rows.jsonl", rows)])
    said = capsys.readouterr()
    assert [json.loads(line)["extracted"] for line in said.out.splitlines()] == ["half of 18", "9"]
    assert (
        'malformed: what cannot be read stands under "extracted" in its line, unless its marks are wrong'
        in said.err
    )
    main(["gsm8k", write(tmp_path / "right.jsonl", rows[1:])])
    assert "malformed" not in capsys.readouterr().err


def test_a_verdict_has_the_number_of_the_line_on_which_its_row_begins(tmp_path, capsys):
    path = tmp_path / "rows.csv"
    path.write_text('completion,answer\n"#### 1\n",1\n\n#### 2,2\n')
    assert main(["gsm8k", str(path)]) == 0
    assert [json.loads(line)["line"] for line in capsys.readouterr().out.splitlines()] == [2, 5]


def test_what_was_interrupted_is_told_from_a_whole_file(files, tmp_path, monkeypatch, capsys) -> None:
    import verifiers.__main__ as command

    rows = [{"completion": "<answer>7</answer>", "answer": "7"}] * 3
    path, output = write(tmp_path / "in.jsonl", rows), tmp_path / "verdicts.jsonl"
    assert main(["gsm8k", path, "--output", str(output)]) == 0
    assert len(output.read_text().splitlines()) == 3 and len([*tmp_path.glob("*.partial")]) == 0
    whole, judge = output.read_bytes(), command.judge_blocks

    def interrupted(*arguments):
        yield from judge(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "judge_blocks", interrupted)
    assert main(["gsm8k", path, "--output", str(output)]) == 130
    assert output.read_bytes() == whole and "3 completions judged" in capsys.readouterr().err
    assert len((tmp_path / "verdicts.jsonl.partial").read_text().splitlines()) == 3


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_a_column_that_no_line_has_is_said(tmp_path: Path, workers, capsys) -> None:
    rows = [{"completion": "<answer>7</answer>", "answer": "7", "level": "easy"}] * 3
    path = write(tmp_path / "rows.jsonl", [*rows, {"completion": "", "answer": "7"}, {**rows[0], "late": 1}])
    assert main(["gsm8k", path, "--keep", "levl", "late", "--by", "leel", "--workers", workers]) == 0
    said = capsys.readouterr().err
    assert '--keep levl: the first lines have no such column. Did you mean "level"?\n' in said
    assert '--by leel: the first lines have no such column. Did you mean "level"?\n' in said
    assert "late" not in said and "  by leel" not in said and "null" not in said
    assert main(["gsm8k", path, "--by", "leel", "--workers", workers, "--json"]) == 0
    facts = next(json.loads(line) for line in capsys.readouterr().err.splitlines() if line.startswith("{"))
    assert facts["by"] is None
    assert main(["gsm8k", path, "--by", "level", "--workers", workers]) == 0
    assert (
        "  null  0 of 1" in capsys.readouterr().err
    )  # a line without the column is a group if others have it
    assert main(["gsm8k", path, "--keep", "level", "--by", "level", "--workers", workers]) == 0
    assert "no such column" not in capsys.readouterr().err


def test_a_file_whose_first_lines_have_no_reference_is_known_by_its_completions(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("verifiers.files.BLOCK_BYTES", 300)
    completions = write(tmp_path / "out.jsonl", [answer("7", number) for number in range(40)])
    references = write(tmp_path / "refs.jsonl", [{"id": number, "answer": "7"} for number in (38, 39)])
    assert main(["gsm8k", completions, "--references", references, "--on", "custom_id=id"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["correct"] for row in rows] == [None] * 38 + [True, True]


def test_the_output_may_not_replace_the_references(files, capsys) -> None:
    completions, references = files
    words = ["--references", references, "--on", "custom_id=id", "--output", references]
    assert main(["gsm8k", completions, *words]) == 2
    assert "is a file that is to be read" in capsys.readouterr().err
    assert '"answer": "7"' in Path(references).read_text()


def test_a_setting_may_be_a_column_of_the_references(files, tmp_path, capsys) -> None:
    references = [{"id": "a", "answer": "7", "sign": ","}, {"id": "b", "answer": "8", "sign": "."}]
    words = ["--references", write(tmp_path / "refs.jsonl", references), "--on", "custom_id=id"]
    assert main(["gsm8k", files[0], *words, "--keep", "sign", "--setting", "decimal=sign"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["correct"], row.get("sign")) for row in rows[:2]] == [(True, "."), (True, ",")]

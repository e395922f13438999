"""Completions and references in two files, joined by a field."""

import json
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
        ([{"id": "a", "answer": "7"}], ["--on", "=id"], "COMPLETIONS_FIELD=REFERENCES_FIELD"),
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


def test_an_object_is_no_completion(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "odd.jsonl", [{"response": {"body": 1}, "answer": "7"}])
    assert main(["gsm8k", path]) == 1
    assert "Read as" not in capsys.readouterr().err


def test_a_file_with_several_filters_of_a_document_says_so(tmp_path: Path, capsys) -> None:
    row = {"doc": {"answer": "7"}, "resps": [["<answer>7</answer>"]], "target": "7"}
    path = write(tmp_path / "lm.jsonl", [{**row, "filter": name} for name in ("strict", "flexible")])
    assert main(["gsm8k", path]) == 0
    assert "(strict, flexible)" in capsys.readouterr().err
    assert main(["gsm8k", write(tmp_path / "one.jsonl", [{**row, "filter": "strict"}])]) == 0
    assert "filters" not in capsys.readouterr().err


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

"""Rows of published sets: from a folder laid out as on the hub, from plain files, and the errors where none is."""

import gzip
import json
import socket
import time
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from envs import EnvError
from envs.files.datasets import HubDataset, Row, load_rows
from envs.files.hub import why_offline

COLUMNS = ("question", "answer")
ROWS = [{"question": f"What is {i}?", "answer": f"It is {i}.\n#### {i}"} for i in range(5)]
CARD = """---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
---
"""


def write(file: Path, rows: list[dict]):
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), file)
        return
    text = "".join(json.dumps(row) + "\n" for row in rows)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == ".gz" else text.encode())


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as `hf download openai/gsm8k` writes it, and a cache of our own for what reads it."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "copy" / "gsm8k"
    write(folder / "main" / "train-00000-of-00001.parquet", ROWS)
    write(folder / "main" / "test-00000-of-00001.parquet", ROWS[:2])
    write(folder / "socratic" / "train-00000-of-00001.parquet", ROWS[:1])
    (folder / "README.md").write_text(CARD)
    return folder


def load(source: object, split: str = "train", **changes) -> tuple[list[Row], str | None]:
    hub = HubDataset(**{"repo": "openai/gsm8k", "config": "main", "split": split, "num_rows": 5, **changes})
    return load_rows("gsm8k", str(source), hub, COLUMNS)


@pytest.fixture
def asked(repo: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple]:
    """What the hub is asked for; it answers with `repo`."""
    import datasets

    real, questions = datasets.load_dataset_builder, []

    def builder(*question: object, revision: str | None):
        questions.append((*question, revision))
        built = real(str(repo), question[1])
        built.hash = "c0ffee00" * 5  # of a set on the hub this is the commit
        return built

    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    return questions


def test_the_hubs_rows_and_commit_are_returned(asked: list[tuple]):
    rows, commit = load("hub", revision="v1")
    assert [row.values for row in rows] == ROWS and commit == "c0ffee00" * 5
    assert rows[2].where == "openai/gsm8k (main, train) at revision v1, row 3"
    assert len(load("hub", "test", num_rows=2)[0]) == 2
    assert asked == [("openai/gsm8k", "main", "v1"), ("openai/gsm8k", "main", None)]
    with pytest.raises(EnvError, match=r"5 rows.* 7,473.*revision=COMMIT"):
        load("hub", num_rows=7473)


def test_missing_columns_of_the_hub_and_of_a_parquet_file_are_named(repo: Path, asked: list[tuple]):
    hub = HubDataset("openai/gsm8k", "main", "train", 5)
    for source in ("hub", str(repo)):
        with pytest.raises(EnvError, match=r"row 1 .*problem"):
            load_rows("math500", source, hub, ("problem",))


def test_without_a_network_the_error_says_what_would_work(monkeypatch: pytest.MonkeyPatch):
    tried = []

    def refuse(*_: object):
        tried.append(1)
        raise OSError("the network is blocked")

    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(EnvError) as caught:
        load("hub")
    assert len(tried) == 1, "and its clients do not try again and again for thirty seconds"
    text = str(caught.value)
    assert "openai/gsm8k (main, train)" in text and 'source="generated"' in text
    assert "hf download openai/gsm8k --repo-type dataset --local-dir gsm8k" in text


def test_a_hub_that_never_answers_is_noticed_in_two_seconds(monkeypatch: pytest.MonkeyPatch):
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        started = time.monotonic()
        assert why_offline()
    assert time.monotonic() - started < 2 + 5, "its clients would wait for ten seconds"


def test_a_folder_of_the_hubs_name_is_not_taken_for_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "openai" / "gsm8k").mkdir(parents=True)
    with pytest.raises(EnvError, match="openai/gsm8k"):
        load("hub")


def test_a_file_may_be_whatever_the_command_of_the_verifiers_reads(tmp_path: Path):
    (tmp_path / "mine.json").write_text(json.dumps(ROWS, indent=1))
    (tmp_path / "mine.tsv").write_text("question\tanswer\na\t1\n")
    assert [row.values for row in load(tmp_path / "mine.json", "test")[0]] == ROWS
    (row,), _ = load(tmp_path / "mine.tsv", "test")
    assert row == ("mine.tsv, line 2", {"question": "a", "answer": "1"})


@pytest.mark.parametrize("name", ["train.jsonl", "train.jsonl.gz", "train.parquet", "data/train.jsonl"])
def test_every_format_gives_the_same_rows(tmp_path: Path, name: str):
    write(tmp_path / name, ROWS)
    rows, _ = load(tmp_path)
    assert [row.values for row in rows] == ROWS
    unit = "row" if name.endswith("parquet") else "line"
    assert rows[4].where == f"{Path(name).name}, {unit} 5"


def test_which_files_are_read_is_never_guessed(tmp_path: Path):
    write(tmp_path / "mine.jsonl", ROWS[:3])
    assert len(load(tmp_path / "mine.jsonl", "test")[0]) == 3
    for name in ("train.jsonl", "train.parquet", "mine.txt"):
        write(tmp_path / name, ROWS)
    for source, split, message in (
        (tmp_path / "mine.jsonl", "train", r"train.jsonl"),
        (tmp_path, "train", r"train.jsonl, train.parquet"),
        ("nowhere", "train", r'source=nowhere .*source="generated"'),
        (
            tmp_path / "mine.txt",
            "test",
            r"mine.txt .*.jsonl, .ndjson, .json, .csv, .tsv, .parquet, .jsonl.gz",
        ),
    ):
        with pytest.raises(EnvError, match=message):
            load(source, split)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.jsonl", b'{"question": "a", "answer": "1"}\n\n{oops\n', "train.jsonl, line 3 "),
        ("train.jsonl", b'{"question": "a"}\n', r"line 1 .* question, answer"),
        ("train.jsonl", b"{}\n" + b"[" * 100_000, "line 2 "),
        ("train.jsonl", b"{}\n[1]\n", r'line 2 is no JSON object such as {"question": ..., "answer": ...}\.'),
        ("train.jsonl", b"\n", r"train.jsonl holds no rows\. Each row needs question, answer\."),
        ("train.jsonl", b'{"question": "\xff"}\n', "train"),
        ("train.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:-12], "train"),
        ("train.parquet", b"no parquet", "train"),
        ("train.csv", b"question,answer", r"train.jsonl"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, name: str, text: bytes, message: str):
    (tmp_path / name).write_bytes(text)
    with pytest.raises(EnvError, match=message):
        load(tmp_path)

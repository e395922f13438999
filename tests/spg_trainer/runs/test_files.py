"""A folder is put in place whole, nothing else is touched, and who cannot write is told in time."""

from pathlib import Path

import pytest

from spg_trainer.errors import CheckpointError
from spg_trainer.runs import files


def one_file(folder: Path) -> None:
    (folder / "weights").write_text("1")


def test_a_put_leaves_what_lies_beside_it(tmp_path):
    strangers = [tmp_path / ".editor.tmp", tmp_path / ".other.tmp", tmp_path / ".trash.deleted"]
    for path in [*strangers, tmp_path / ".model.tmp", tmp_path / ".model.deleted"]:
        path.mkdir()
        (path / "file").write_text("text")
    files.write_folder(tmp_path / "model", one_file)
    assert sorted(tmp_path.iterdir()) == [*strangers, tmp_path / "model"]
    assert all((path / "file").read_text() == "text" for path in strangers)
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == ["COMPLETE", "weights"]


def test_a_caller_names_its_own_way_on_after_a_refused_write(tmp_path):
    (tmp_path / "file").write_text("")
    for write, content in ((files.write_folder, one_file), (files.write_text, "text")):
        with pytest.raises(CheckpointError, match=r"Cannot write .*model: .*Choose another one\.$") as caught:
            write(tmp_path / "file" / "model", content, "Choose another one.")
        assert "--resume" not in str(caught.value)


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ("/home/ada/my data/puzzles.csv", "puzzles.csv"),
        ("~/task.py:my/T-v0", "task.py:my/T-v0"),
        ("../tasks/task.py:my/T-v0", "task.py:my/T-v0"),
        ("here/task.py:my/T-v0", "task.py:my/T-v0"),
        ("echo[file=/home/ada/a.txt,words=/home/ada/b.txt]", "echo[file=a.txt,words=b.txt]"),
        ("C:\\data\\a.csv", "a.csv"),
        ({"a": ["/b/c", 1.5], "d": None}, {"a": ["c", 1.5], "d": None}),
        ("GSAI-ML/LLaDA-8B", "GSAI-ML/LLaDA-8B"),
        ("spg/Sudoku-v0", "spg/Sudoku-v0"),
        ("3/4, a / b", "3/4, a / b"),
    ],
)
def test_settings_are_told_without_the_folders_of_this_machine(tmp_path, monkeypatch, setting, shown):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "task.py").touch()
    assert files.without_folders(setting) == shown


def test_a_folder_may_be_named_by_dots(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    files.write_folder(Path("../../c/."), one_file)
    files.write_folder(Path("../../d/e/.."), one_file)
    assert (tmp_path / "c" / "COMPLETE").is_file() and (tmp_path / "d" / "COMPLETE").is_file()
    monkeypatch.chdir(tmp_path)
    files.write_folder(Path("a/b/.."), one_file)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["COMPLETE", "weights"]

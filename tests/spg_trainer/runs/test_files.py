"""A folder is put in place whole, and nothing else is touched."""

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


def test_a_refused_write_names_the_path_and_what_to_do(tmp_path):
    (tmp_path / "file").write_text("")
    for write, content in ((files.write_folder, one_file), (files.write_text, "text")):
        with pytest.raises(CheckpointError, match=r"file/model: .*--resume"):
            write(tmp_path / "file" / "model", content)

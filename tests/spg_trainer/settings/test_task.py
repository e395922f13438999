"""A task as a value: what its word says, and the text that settings hold for several."""

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.task import (
    Task,
    join_arguments,
    join_names,
    join_tasks,
    parse_tasks,
    with_arguments,
)


@pytest.mark.parametrize(
    ("word", "task", "last", "short", "ours"),
    [
        ("sudoku", Task("", None, "sudoku"), "sudoku", "sudoku", "sudoku"),
        ("math", Task("", None, "math"), "math", "math", "math500"),
        ("spg/Sudoku-v0", Task("", None, "spg/Sudoku-v0"), "Sudoku-v0", "sudoku", "sudoku"),
        ("envs:spg/Sudoku-v0", Task("", None, "envs:spg/Sudoku-v0"), "Sudoku-v0", "sudoku", "sudoku"),
        ("./a=b/my.py:my/T-v0:size=3", Task("", "./a=b/my.py", "my/T-v0", {"size": 3}), "T-v0", "t", None),
        ("./my.py:Sudoku-v0", Task("", "./my.py", "Sudoku-v0"), "Sudoku-v0", "sudoku", None),
        ("./my.py", Task("", "./my.py", ""), "my.py", "my.py", None),
        ("gymnasium:Taxi-v3", Task("", None, "gymnasium:Taxi-v3"), "Taxi-v3", "taxi", None),
        (
            "gsm8k:level=3,source=a,b.jsonl,weight=0.5",
            Task("", None, "gsm8k", {"level": 3, "source": "a,b.jsonl"}, 0.5),
            "gsm8k",
            "gsm8k",
            "gsm8k",
        ),
    ],
)
def test_a_word_names_one_task_and_is_written_again(word, task, last, short, ours) -> None:
    assert Task.parse(word) == task and str(task) == word
    assert (task.last, task.short, task.ours) == (last, short, ours)
    (alone,) = parse_tasks(word)
    assert alone == task, "one task has no name among others"


def test_a_text_names_several_tasks_and_is_written_again() -> None:
    text = "countdown:level=2 + ./a/my.py:my/T-v0 + countdown:level=4,weight=2"
    tasks = parse_tasks(text)
    assert [task.name for task in tasks] == ["countdown", "t", "countdown-2"]
    assert join_tasks(tasks) == text == join_tasks(text.split())
    assert join_names(tasks) == "countdown + ./a/my.py:my/T-v0 + countdown"
    arguments = {"countdown.level": 2, "countdown-2.weight": 2, "countdown-2.level": 4}
    assert join_arguments(tasks) == arguments
    without_arguments = parse_tasks(join_names(tasks))
    assert tuple(with_arguments(task, arguments) for task in without_arguments) == tasks
    assert parse_tasks("") == ()
    assert parse_tasks(join_tasks(tasks)) is tasks, "a text is parsed once"


def test_a_path_may_have_what_reads_like_an_argument(tmp_path, monkeypatch) -> None:
    for folder in ("lr=1e-4", "x:weight=2", "a:b=c,d=e"):
        (tmp_path / folder).mkdir()
        for name in ("rows.jsonl", "task.py"):
            (tmp_path / folder / name).write_text("")
        rows, code = f"{tmp_path}/{folder}/rows.jsonl", f"{tmp_path}/{folder}/task.py"
        assert Task.parse(rows) == Task("", None, rows)
        assert Task.parse(f"{rows}:verifier=gsm8k,weight=3") == Task("", None, rows, {"verifier": "gsm8k"}, 3)
        assert Task.parse(f"{code}:my/T-v0:size=3") == Task("", code, "my/T-v0", {"size": 3})
        monkeypatch.chdir(tmp_path)
        assert Task.parse(f"./{folder}/rows.jsonl") == Task("", None, f"./{folder}/rows.jsonl")
        assert str(Task.parse(f"{rows}:weight=3")) == f"{rows}:weight=3"


def test_what_is_no_argument_is_refused_with_its_word() -> None:
    with pytest.raises(ConfigError, match=r"--env countdown:level=2,level=3: level=3 gives a key twice"):
        parse_tasks("sudoku + countdown:level=2,level=3")


def test_a_file_of_rows_takes_a_verifier_beside_arguments_of_its_own(tmp_path) -> None:
    words = ["--env", "countdown:level=2", "rows.jsonl:weight=2", "--verifier", "gsm8k"]
    given = resolve(Config, words).config.env_args
    assert given["rows.verifier"] == "gsm8k" and given["rows.weight"] == 2 and "verifier" not in given

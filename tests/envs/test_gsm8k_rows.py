"""The published GSM8K set, or a copy of it: answers, splits, prompts, what a bad row says."""

import json
from collections import Counter
from pathlib import Path

import pytest

import envs
from envs import EnvError
from envs.datasets import HubDataset, Row
from envs.gsm8k.dataset import read_row

SOLUTION = "Ann buys 3*4=<<3*4=12>>12 pens.\nShe has 12+1,000=<<12+1000=1012>>1,012 pens.\n#### 1,012"


def folder(tmp_path: Path, train: list[dict], test: list[dict]) -> Path:
    for name, rows in (("train", train), ("test", test)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def rows(count: int, answer: str = SOLUTION) -> list[dict]:
    return [{"question": f"Ann buys 3 packs of {i} pens. How many?", "answer": answer} for i in range(count)]


def test_a_worked_row_is_taken_apart() -> None:
    row = read_row(Row("x, line 1", {"question": "How many?", "answer": SOLUTION}))
    assert row.lines == ("Ann buys 3*4=12 pens.", "She has 12+1,000=1,012 pens.")
    assert (row.answer, row.gold) == ("1012", "1,012")
    assert (row.hasty, row.hasty_answer) == (("Ann buys 3*4=12 pens.",), "12")


@pytest.mark.parametrize(
    ("answer", "gold", "hasty"),
    [
        ("#### 18", "18", "0"),
        ("a #### 5 then\n#### -1,250", "-1250", "0"),
        ("18", "18", "0"),
        (18, "18", "0"),
        ("-3", "-3", "0"),
        ("0", "0", "1"),
        ("one <<1+1=2>>2 two <<2+1=3>>3\n#### 3", "3", "2"),
        ("x <<2+1=3>>3\n#### 3", "3", "0"),
        ("#### 2.50", "2.50", "0"),
    ],
)
def test_answers_are_read_from_behind_the_last_mark(answer: object, gold: str, hasty: str) -> None:
    row = read_row(Row("x, line 1", {"question": "How many?", "answer": answer}))
    assert (row.answer, row.hasty_answer) == (gold, hasty)


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (
            "How many?",
            "#### eighteen",
            r"train.jsonl, line 2 has the answer '#### eighteen'; it must be a number",
        ),
        ("How many?", "about 18", "line 2 has the answer"),
        ("How many?", "#### 1,25", "line 2 has the answer"),
        ("How many?", "#### ", "line 2 has the answer"),
        ("How many?", None, "line 2 has the answer None"),
        ("How many?", True, "line 2 has the answer True"),
        ("How many?", 1.5, "line 2 has the answer 1.5"),
        (" ", "18", "line 2 has the question ' '; it must be a text"),
        (7, "18", "line 2 has the question 7"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, question: object, answer: object, message: str) -> None:
    source = folder(tmp_path, [*rows(1), {"question": question, "answer": answer}], rows(1))
    with pytest.raises(EnvError, match=message):
        envs.make("gsm8k", source=str(source))


def test_validation_is_held_back_from_the_train_set(tmp_path: Path) -> None:
    both = rows(403)
    source = str(folder(tmp_path, both, both[400:]))  # the train file holds the test questions too
    held = {
        split: envs.make("gsm8k", source=source, split=split) for split in ("train", "validation", "test")
    }
    asked = {s: {e.problem(i).metadata["question"] for i in range(len(e))} for s, e in held.items()}
    assert not asked["train"] & asked["validation"] and len(asked["train"] | asked["validation"]) == 400
    assert not asked["test"] & (asked["train"] | asked["validation"])
    assert 8 <= len(asked["validation"]) <= 35 and len(asked["test"]) == 3
    assert held_back(" a question of no set 15\n") == held_back("a question of no set 15")
    assert held["test"].spec_name == f"gsm8k[{tmp_path.name}]"
    with pytest.raises(EnvError, match="leaves no problem for validation; it has 1 rows"):
        (tmp_path / "one").mkdir()
        envs.make("gsm8k", source=str(folder(tmp_path / "one", rows(1), rows(2)[1:])), split="validation")


def test_demonstrations_are_written_as_the_prompt_asks(tmp_path: Path) -> None:
    source = str(folder(tmp_path, rows(1), rows(1)))
    env = envs.make("gsm8k", source=source, split="test")
    problem = env.problem(0)
    assert env.prompt_style == "paper" and problem.prompt == (
        "\nAnswer in this format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n\n\n"
        "Ann buys 3 packs of 0 pens. How many?"
    )
    assert env.demonstration(problem) == (
        "<reasoning>\nAnn buys 3*4=12 pens.\nShe has 12+1,000=1,012 pens.\n</reasoning>\n<answer>\n1012\n</answer>\n"
    )
    assert env.habits(problem)["hasty"].endswith("pens.\n</reasoning>\n<answer>\n12\n</answer>\n")
    plain = envs.make("gsm8k", source=source, split="test", prompt_style="plain")
    assert plain.problem(0).prompt == problem.metadata["question"]
    assert plain.demonstration(problem).endswith("1,012 pens.<answer>1012</answer>")


def test_the_hubs_commit_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from envs import gsm8k

    source = str(folder(tmp_path, rows(40), rows(2)))
    known = gsm8k.worked_rows(source, "test", None)[0]
    monkeypatch.setattr(gsm8k, "worked_rows", lambda *asked: (known, "c0ffee"))
    env = envs.make("gsm8k", split="test", revision="v1")
    assert (
        env.origin == {"openai/gsm8k": "c0ffee"} and env.notice == "gsm8k: openai/gsm8k at revision c0ffee."
    )
    assert env.spec_name == "gsm8k[revision=v1]" and not envs.make("gsm8k", source="generated").origin


def test_the_published_sets_are_these() -> None:
    assert HUB == {
        "train": HubDataset("openai/gsm8k", "main", "train", 7473),
        "test": HubDataset("openai/gsm8k", "main", "test", 1319),
    }
    with pytest.raises(EnvError, match=r"source=generated"):
        envs.make("gsm8k")  # there is no hub in tests


def test_the_real_set(shared_data: Path) -> None:
    source = str(shared_data / "gsm8k")
    held = {
        split: envs.make("gsm8k", source=source, split=split) for split in ("train", "validation", "test")
    }
    assert {split: len(env) for split, env in held.items()} == {
        "train": 7069,
        "validation": 404,
        "test": 1319,
    }
    asked = [e.problem(i).metadata["question"].strip() for e in held.values() for i in range(len(e))]
    assert max(Counter(asked).values()) == 1  # no two splits share a question
    for split, env in held.items():
        many = envs.make_vec("gsm8k", len(env), source=source, split=split)
        many.reset(options={"index": range(len(env))})
        problems = [env.problem(i) for i in range(len(env))]
        rewards = many.step([env.demonstration(p) for p in problems])[4]["rewards"]
        assert rewards["correct"].all() and rewards["format"].all()
        many.reset(options={"index": range(len(env))})
        assert 0.005 < many.step([env.habits(p)["hasty"] for p in problems])[1].mean() < 0.05
    one_file = envs.make("gsm8k", source=f"{source}/test.jsonl.gz", split="test")
    assert one_file.problem(0) == held["test"].problem(0)

"""The published GSM8K set, or a copy of it: answers, splits, prompts, what a bad row says."""

from collections import Counter

import pytest

import envs
from envs import EnvError
from envs.datasets import HubDataset, Row
from envs.gsm8k import env as gsm8k_env
from envs.gsm8k.dataset import HUB, load_problems, read_row
from tests.common.env_cases import make_splits, write_dataset

SOLUTION = "Ann buys 3*4=<<3*4=12>>12 pens.\nShe has 12+1,000=<<12+1000=1012>>1,012 pens.\n#### 1,012"


def rows(count: int, answer: str = SOLUTION) -> list[dict]:
    return [{"question": f"Ann buys 3 packs of {i} pens. How many?", "answer": answer} for i in range(count)]


def test_a_worked_row_is_taken_apart():
    problem = read_row(Row("x, line 1", {"question": "How many?", "answer": SOLUTION}))
    assert problem.right == (("Ann buys 3*4=12 pens.", "She has 12+1,000=1,012 pens."), "1012")
    assert problem.gold == "1,012" and problem.hasty == (("Ann buys 3*4=12 pens.",), "12")


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
def test_answers_are_read_from_behind_the_last_mark(answer, gold, hasty):
    problem = read_row(Row("x, line 1", {"question": "How many?", "answer": answer}))
    assert (problem.right[1], problem.hasty[1]) == (gold, hasty)


@pytest.mark.parametrize(
    ("question", "answer", "message"),
    [
        (
            "How many?",
            "#### eighteen",
            r"train.jsonl, line 2 has the answer '#### eighteen'; it must be a num",
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
def test_a_bad_row_is_named(tmp_path, question, answer, message):
    source = write_dataset(tmp_path, [*rows(1), {"question": question, "answer": answer}], rows(1))
    with pytest.raises(EnvError, match=message):
        make_splits("gsm8k", source=source)


def test_validation_is_held_back_from_the_train_set(tmp_path):
    both = rows(403)
    splits = make_splits("gsm8k", source=write_dataset(tmp_path, both, both[400:]))
    asked = {s: {e.problem(i).metadata["question"] for i in range(len(e))} for s, e in splits.items()}
    assert [len(questions) for questions in asked.values()] == [len(env) for env in splits.values()]
    # The train file holds the test questions too.
    assert len(set.union(*asked.values())) == 403 == sum(map(len, asked.values()))
    assert 8 <= len(asked["validation"]) <= 35 and len(asked["test"]) == 3
    assert splits["test"].spec_name == f"gsm8k[{tmp_path.name}]"
    spaced = [{**row, "question": f" {row['question']}\n"} for row in both[:400]]
    padded = make_splits("gsm8k", source=write_dataset(tmp_path / "spaced", spaced, both[400:]))
    assert [len(env) for env in padded.values()] == [len(env) for env in splits.values()]
    with pytest.raises(EnvError, match="leaves no problem for validation; it has 1 rows"):
        envs.make("gsm8k", source=write_dataset(tmp_path / "one", rows(1), rows(2)[1:]), split="validation")


def test_demonstrations_are_written_as_the_prompt_asks(tmp_path):
    source = write_dataset(tmp_path, rows(1), rows(1))
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


def test_the_hubs_set_is_this_and_its_commit_is_recorded(tmp_path, monkeypatch):
    assert HUB["train"] == HubDataset("openai/gsm8k", "main", "train", 7473)
    assert HUB["test"] == HubDataset("openai/gsm8k", "main", "test", 1319)
    problems, _ = load_problems(write_dataset(tmp_path, rows(40), rows(2)), "test", None)
    monkeypatch.setattr(gsm8k_env, "load_problems", lambda *asked: (problems, {"openai/gsm8k": "c0ffee"}))
    env = envs.make("gsm8k", split="test", revision="v1")
    assert env.origin == {"openai/gsm8k": "c0ffee"}
    assert env.notice == "gsm8k: openai/gsm8k at revision c0ffee." and env.spec_name == "gsm8k[revision=v1]"
    assert not envs.make("gsm8k", source="generated").origin


def test_the_real_set(shared_data):
    source = str(shared_data / "gsm8k")
    splits = make_splits("gsm8k", source=source)
    assert [len(env) for env in splits.values()] == [7069, 404, 1319]
    asked = [e.problem(i).metadata["question"].strip() for e in splits.values() for i in range(len(e))]
    assert max(Counter(asked).values()) == 1  # no two splits share a question
    for env in splits.values():
        problems = [env.problem(i) for i in range(len(env))]
        right = env.score_batch(problems, [env.demonstration(p) for p in problems]).rewards
        assert right["correct"].all() and right["format"].all()
        hasty = env.score_batch(problems, [env.habits(p)["hasty"] for p in problems]).rewards
        assert 0.005 < hasty["correct"].mean() < 0.05
    one_file = envs.make("gsm8k", source=f"{source}/test.jsonl.gz", split="test")
    assert one_file.problem(0) == splits["test"].problem(0)

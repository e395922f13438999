"""Countdown's problems, levels, splits, prompts and demonstrations."""

import hashlib
import json
import subprocess
import sys
from importlib import resources

import gymnasium
import pytest
from gymnasium.utils.env_checker import check_env

import envs
from envs import EnvError
from envs.countdown.dataset import read_problems
from envs.countdown.dataset import test_file as committed_again
from envs.countdown.generator import LEVELS, fixed_set, key, owner

SPLITS = ("train", "validation", "test")
SHA256 = "038b0cb0a5f8b6a2b6da1460ddf77aa494dc82857fcf93392a1d749a1c8810c5"


def keys(split: str, count: int = 2000, **arguments) -> set:
    """What identifies the first problems of a split."""
    env = envs.make("countdown", split=split, **arguments)
    problems = [env.problem(i).reference for i in range(min(len(env), count))]
    return {key(p["numbers"], p["target"]) for p in problems}


@pytest.mark.parametrize("level", LEVELS)
def test_every_split_holds_only_problems_the_hash_gives_it(level):
    found = {split: keys(split, level=level) for split in SPLITS}
    for split in SPLITS:
        assert {owner(problem) for problem in found[split]} == {split}
    assert len(found["validation"]) == len(found["test"]) == 256


def test_the_hash_divides_80_10_10_and_knows_neither_order_nor_level():
    owners = [owner(key((a, b, 40), 10)) for a in range(1, 100) for b in range(a, 100)]
    shares = [owners.count(split) / len(owners) for split in SPLITS]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.015)
    assert owner(key((3, 1, 2), 6)) == owner(key((1, 2, 3), 6))
    everywhere = {split: set().union(*(keys(split, level=level) for level in LEVELS)) for split in SPLITS}
    assert not everywhere["train"] & everywhere["test"] and not everywhere["validation"] & everywhere["test"]
    assert not everywhere["train"] & everywhere["validation"]


@pytest.mark.parametrize("level", LEVELS)
def test_a_level_has_the_numbers_it_says_and_its_demonstrations_score_one(level):
    env = envs.make("countdown", level=level)
    problems = [env.problem(i) for i in range(1000 if level < 4 else 100)]
    for problem in problems:
        numbers, target = problem.reference["numbers"], problem.reference["target"]
        assert len(numbers) == LEVELS[level].count and target >= 1
        assert LEVELS[level].low <= min(numbers) and max(numbers) <= LEVELS[level].high
        assert level == 1 or target <= 100
    demonstrations = [env.demonstration(problem) for problem in problems]
    scores = env.score_batch(problems, demonstrations)
    assert all(scores.rewards[name].all() for name in ("correct", "format", "numbers_used"))
    used = set("".join(text[8:-9] for text in demonstrations)) & set("+-*/")
    assert used == (set("+-") if level == 1 else set("+-*/")) or level > 3


def test_level_one_is_no_lookup_and_the_habit_is_right_where_the_target_is_the_sum():
    level = LEVELS[1]
    width = level.high - level.low + 1
    assert (
        width * (width + 1) * (width + 2) // 6 * 3 > 10_000
    )  # three targets at least for every choice of numbers
    env = envs.make("countdown")
    problems = [env.problem(i) for i in range(4000)]
    assert len({problem.prompt for problem in problems}) > 3900
    scores = env.score_batch(problems, [env.habits(problem)["adder"] for problem in problems])
    sums = [sum(p.reference["numbers"]) == p.reference["target"] for p in problems]
    assert scores.rewards["correct"].tolist() == sums
    assert 0.1 < sum(sums) / 4000 < 0.2
    assert scores.rewards["format"].all() and scores.rewards["numbers_used"].all()


def test_the_committed_test_file_is_what_its_function_makes():
    text = resources.files("spg_data").joinpath("countdown/test.jsonl").read_bytes()
    assert text == committed_again().encode("ascii")
    assert hashlib.sha256(text).hexdigest() == SHA256
    env = envs.make("countdown", split="test")
    rows = [json.loads(line) for line in text.splitlines()]
    assert [env.problem(i).reference for i in range(len(env))] == rows


def test_a_released_problem_never_changes():
    found = {}
    for split in SPLITS:
        for level in LEVELS:
            env = envs.make("countdown", split=split, level=level)
            text = "\n".join(env.problem(i).prompt for i in range(100))
            found[f"{split} {level}"] = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert found == PINNED


def test_another_process_draws_the_same_problems():
    code = (
        "import envs\n"
        "for level in (5, 1): e = envs.make('countdown', level=level); print([e.problem(i).prompt for i in (7, 3)])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    shown = []
    for level in (5, 1):
        env = envs.make("countdown", level=level)
        shown.append(str([env.problem(i).prompt for i in (7, 3)]))
    assert out.splitlines() == shown


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
    assert paper.score(envs.Problem("", {"numbers": [3, 5, 9], "target": 30}), problem.prompt).rewards[
        "correct"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, 'split="dev" is unknown'),
        ({"level": 6}, 'level="6" is unknown. .*Known: 1, 2, 3, 4, 5'),
        ({"level": "1"}, 'level="1" is unknown'),
        ({"prompt_style": "papers"}, 'Did you mean "paper"'),
        ({"reward_preset": "spg"}, "Known: default, paper"),
    ],
)
def test_an_unknown_argument_is_told_at_once(arguments, message):
    with pytest.raises(EnvError, match=f"countdown: .*{message}"):
        envs.make("countdown", **arguments)


def test_indices_outside_the_split_are_refused():
    env = envs.make("countdown", split="test")
    for index in (256, -1):
        with pytest.raises(EnvError, match=r"countdown.*: no problem"):
            env.problem(index)


@pytest.mark.filterwarnings("error")
def test_gymnasium_accepts_it():
    env = gymnasium.make("envs:spg/Countdown-v0", render_mode="ansi").unwrapped
    check_env(env)
    prompt, info = env.reset(options={"index": 4})
    assert prompt == env.problem(4).prompt and info == {"index": 4}
    _, reward, terminated, truncated, told = env.step(env.demonstration(env.problem(4)))
    assert (reward, terminated, truncated, told["correct"]) == (1.0, True, False, True)
    assert "(right)" in env.render()


def test_names_of_results_show_the_arguments():
    assert envs.make("countdown").spec_name == "countdown"
    assert envs.make("countdown", split="test", level=2).spec_name == "countdown[level=2]"


def test_fixed_sets_leave_out_what_is_excluded():
    first = [key(*problem) for problem in fixed_set("validation", 1)[:20]]
    others = fixed_set("validation", 1, frozenset(first))
    assert len(others) == 256 and not {key(*problem) for problem in others} & set(first)


def test_source_replaces_the_test_and_is_kept_out_of_train_and_validation(tmp_path):
    plain = {split: envs.make("countdown", split=split) for split in ("train", "validation")}
    taken = [plain[split].problem(i).reference for split in plain for i in range(30)]
    path = tmp_path / "mine.jsonl"
    rows = [{"numbers": p["numbers"][::-1], "target": p["target"], "extra": 1} for p in taken]
    path.write_text("\n\n".join(map(json.dumps, rows)), encoding="utf-8")
    test = envs.make("countdown", split="test", source=str(path))
    shown = [test.problem(i).reference for i in range(len(test))]
    assert shown == [{"numbers": row["numbers"], "target": row["target"]} for row in rows]
    assert test.spec_name == "countdown[mine.jsonl]"
    removed = {key(p["numbers"], p["target"]) for p in taken}
    for split in plain:
        assert removed & keys(split, 30) and not removed & keys(split, 3000, source=str(path))
    # Elsewhere the training stream stays what it was.
    same = envs.make("countdown", source=str(path))
    assert sum(same.problem(i) == plain["train"].problem(i) for i in range(1000)) >= 960


def test_the_papers_file_is_read_whole_and_solved(shared_data):
    path = str(shared_data / "countdown/test.jsonl")
    test = envs.make("countdown", split="test", source=path)
    problems = [test.problem(i) for i in range(len(test))]
    assert len(problems) == 256
    assert test.score_batch(problems, [test.demonstration(p) for p in problems]).rewards["correct"].all()
    assert not keys("train", 3000, level=2, source=path) & keys("test", source=path)
    assert not keys("validation", level=2, source=path) & keys("test", source=path)
    habit = test.score_batch(problems, [test.habits(p)["adder"] for p in problems])
    assert habit.rewards["correct"].sum() == 12


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[" * 100_000, "line 2 is not JSON"),
        ("[1]", "must be an object"),
        ('{"numbers": [1, 2]}', "must be an object"),
        ('{"numbers": [1], "target": 1}', "2 to 6 whole numbers"),
        ('{"numbers": [1, 2, 3, 4, 5, 6, 7], "target": 1}', "2 to 6 whole numbers"),
        ('{"numbers": [1, 2.0], "target": 3}', "2 to 6 whole numbers"),
        ('{"numbers": [1, true], "target": 2}', "2 to 6 whole numbers"),
        ('{"numbers": [1, 2], "target": "3"}', "target '3'"),
        ('{"numbers": [1, 2], "target": 0}', "target 0"),
        ('{"numbers": [1, 2], "target": 99}', "cannot make 99"),
    ],
)
def test_a_bad_line_is_named_whatever_split_is_opened(tmp_path, line, message):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"numbers": [1, 2], "target": 3}\n' + line, encoding="utf-8")
    with pytest.raises(EnvError, match=message) as caught:
        envs.make("countdown", source=str(path))
    assert "line 2" in str(caught.value)


def test_a_missing_or_empty_file_says_what_to_do(tmp_path):
    with pytest.raises(EnvError, match="source=generated"):
        read_problems(str(tmp_path / "none.jsonl"))
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(EnvError, match="holds no problem"):
        read_problems(str(tmp_path / "empty.jsonl"))


PINNED = {
    "train 1": "424190525e34",
    "train 2": "92ed22ae5c7f",
    "train 3": "a0c6e3462b8d",
    "train 4": "e4b9e0f78544",
    "train 5": "8472974ab2d8",
    "validation 1": "3e5d0c3a2422",
    "validation 2": "32527f1b00aa",
    "validation 3": "2c088e3cb2fe",
    "validation 4": "b6d89714f26a",
    "validation 5": "616e043afde0",
    "test 1": "4c3e2117b047",
    "test 2": "c10821b83151",
    "test 3": "cc2b308dd097",
    "test 4": "1a0b6ad18351",
    "test 5": "4b032158a98b",
}

"""Code of a user gets values of its own, which it may change, and its exit is an error of that code."""

import asyncio
import json
import os
from itertools import product
from pathlib import Path
from typing import ClassVar

import pytest

import envs
import verifiers
from envs.__main__ import main
from envs.authoring.reward_functions import reports
from envs.checking import check, demonstration_of, habits_of
from envs.core import render_turns
from envs.episodes import Episodes, play
from envs.problem import Problem, read_problem
from envs.scoring import score_all
from envs.splits import content
from tests.common.marks import slow_if
from verifiers.user_code import CodeExited, exit_is_error


def use_up(problem: Problem) -> None:
    """Fails if an earlier call has changed the problem, then changes all that can be changed."""
    numbers, deep, seen = problem.reference["numbers"], problem.reference["deep"], problem.metadata["seen"]
    assert (numbers, deep, seen, len(problem.prompt)) == ([1, 2, 3], {"a": [{"b": 1}]}, {4}, 1)
    numbers.remove(2)
    deep["a"][0]["b"] = 2
    seen.clear()
    problem.prompt.append({"role": "assistant", "content": "6"})
    problem.prompt[0]["content"] = "changed"


class Uses(envs.TextEnv):
    """A task whose methods change the one problem that it has."""

    reward_weights: ClassVar = {"correct": 1.0}
    max_turns = 2

    def __init__(self, split: str = "train") -> None:
        numbers, deep = [1, 2, 3], {"a": [{"b": 1}]}
        chat = [{"role": "user", "content": "add"}]
        self.one = Problem(chat, {"numbers": numbers, "deep": deep}, metadata={"seen": {4}})

    def __len__(self) -> int:
        return 20

    def problem(self, index: int) -> Problem:
        return self.one

    def reply(self, problem, turns):
        use_up(problem)
        return "go on"

    def demonstration(self, problem):
        use_up(problem)
        return ["6", "6"]

    def habits(self, problem):
        use_up(problem)
        return {"careless": "5"}

    def render_text(self, problem, completion):
        use_up(problem)
        return "shown"

    def score(self, problem, completion):
        use_up(problem)
        return {"correct": float(completion == "6")}


class Batch(Uses):
    def score_batch(self, problems, completions):
        for problem in problems:
            use_up(problem)
        rewards = {"correct": [float(text == "6") for text in completions]}
        return envs.Scores(rewards, ["ok"] * len(problems), [None] * len(problems))

    score = envs.TextEnv.score


class Turns(Uses):
    def score_turns(self, problem, turns):
        use_up(problem)
        return {"correct": float(turns[-1] == "6")}


class Awaited(Uses):
    async def score(self, problem, completion):
        use_up(problem)
        await asyncio.sleep(0)
        return {"correct": float(completion == "6")}

    async def reply(self, problem, turns):
        use_up(problem)
        return "go on"


@pytest.mark.parametrize("cls", [Uses, Batch, Turns, Awaited])
def test_what_a_task_changes_is_its_own(cls) -> None:
    env = cls()
    before = content(env.one), {*env.one.metadata["seen"]}
    for _ in range(2):
        scored = score_all(env, [0] * 3, [env.one] * 3, [["6"], ["6"], ["5"]])
        assert scored.traceback == [None] * 3 and scored.total.tolist() == [1, 1, 0]
        episodes = Episodes(env, [0, 1])
        assert episodes.take_turn({0: "5", 1: "6"}) == [0, 1] and episodes.raised == [None, None]
        assert play(env, 0, env.one, ["5", "6"])[1] == ["go on"]
        assert demonstration_of(env, env.one) == ["6", "6"] and habits_of(env, env.one) == {"careless": "5"}
        assert render_turns(env, env.one, ["6"], []) == "shown"
        prompt, _ = env.reset(options={"index": 0})
        prompt.append({"role": "user", "content": "and more"})
        env.step("5")
    assert (content(env.one), env.one.metadata["seen"]) == before


class ShowsItsForm(envs.TextEnv):
    """Its reward pays no number behind ####, and its demonstration uses the numbers of the problem up."""

    reward_weights: ClassVar = {"correct": 1.0}

    def __init__(self, split: str = "train") -> None:
        self.problems = [
            Problem(f"Write the sum behind ####: {n} + 1", {"numbers": [n, 1]}) for n in range(9)
        ]

    def __len__(self) -> int:
        return len(self.problems)

    def problem(self, index: int) -> Problem:
        return self.problems[index]

    def demonstration(self, problem):
        return str(problem.reference["numbers"].pop(0) + problem.reference["numbers"].pop())

    def score(self, problem, completion):
        is_right = completion == str(sum(problem.reference["numbers"]))
        return envs.Score({"correct": float(is_right)}, extracted=completion.removeprefix("#### "))


def test_the_search_for_an_unpaid_form_leaves_the_problem_as_it_was() -> None:
    env = ShowsItsForm()
    for _ in range(2):
        assert "earns 0, no more than a wrong one" in envs.unpaid_form(env)
    assert [problem.reference["numbers"] for problem in env.problems] == [[n, 1] for n in range(9)]


def test_the_feedback_to_a_try_knows_the_problem_as_it_was() -> None:
    class Feedback(Uses):
        max_turns = 1
        reply = envs.TextEnv.reply

        def feedback(self, problem, score):
            use_up(problem)
            return "No."

    envs.register("my/Feedback-v0", Feedback)
    env = envs.make("my/Feedback-v0", tries=3)
    assert play(env, 0, read_problem(env, 0), ["4", "5", "6"])[1] == ["No. Try again."] * 2


CHANGING = """
import envs
class Changing(envs.TextEnv):
    reward_weights = {"correct": 1.0}
    def __init__(self, split="train"): self.start = ("train", "validation", "test").index(split) * 100
    def __len__(self): return 40
    def problem(self, index): return envs.Problem(f"add {self.start + index}", {"numbers": [self.start + index, 2]})
    def score(self, problem, completion):
        problem.reference["numbers"].pop()
        return {"correct": 0.0}
envs.register("my/Changing-v0", Changing)
"""


@pytest.mark.parametrize("change", ["pop", "reverse"])  # a second `reverse` would undo the first
def test_check_finds_a_task_that_changes_its_reference(change: str, tmp_path: Path) -> None:
    (tmp_path / "task.py").write_text(
        CHANGING.replace("pop()", f"{change}()").replace("my/C", f"my/{change}-C")
    )
    found = check(f"{tmp_path}/task.py:my/{change}-Changing-v0", 20)
    (fault,) = [finding.figure for finding in found if not finding.ok]
    assert fault.startswith("score changes problem 0 that it is given")


REWARDS = """
import asyncio

def takes_away(completions, numbers, deep, prompts, completion_ids=None):
    paid = []
    for text, left, nested in zip(completions, numbers, deep, strict=True):
        paid.append(float(left == [1, 2] and nested == {"a": [1]}))
        left.remove(1)
        nested["a"].append(2)
    numbers.clear()
    completions.pop()
    return paid

def puts_behind(prompts, completions, **kwargs):
    paid = [float(len(prompt) == 1 and len(text) == 1) for prompt, text in zip(prompts, completions, strict=True)]
    for prompt, text in zip(prompts, completions):
        prompt.extend(text)
        prompt[0]["content"] = "changed"
    kwargs["numbers"][0].append(9)
    kwargs["trainer_state"].global_step = 7
    return paid

async def waits(completions, numbers, trainer_state, log_extra):
    await asyncio.sleep(0)
    log_extra("left", numbers)
    paid = [float(left.pop() == 2 and trainer_state.global_step != 7) for left in numbers]
    return paid
"""


@pytest.mark.parametrize("names", ["takes_away", "puts_behind", "waits", "waits+takes_away+puts_behind"])
def test_what_reward_functions_change_is_their_own(names: str, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(REWARDS)
    rows = [
        {"prompt": [{"role": "user", "content": f"say {i}"}], "numbers": [1, 2], "deep": {"a": [1]}}
        for i in range(40)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    env = envs.make(str(tmp_path / "rows.jsonl"), reward=f"{tmp_path}/mine.py:{names}")
    problem = env.problem(0)
    before = content(problem)
    for _ in range(2):
        scored = score_all(env, [0] * 3, [problem] * 3, ["one", "two", "three"])
        assert scored.traceback == [None] * 3
        assert all(scored.rewards[name].tolist() == [1, 1, 1] for name in names.split("+"))
        assert reports.logged_for(problem, "one").get("left") == ([1, 2] if "waits" in names else None)
        problem_of_user = env.problem(1)
        problem_of_user.prompt.append({"role": "user", "content": "more"})
        assert len(env.problem(1).prompt) == 1
    assert content(problem) == before == content(env.problem(0))


def test_what_a_verifier_changes_is_its_own() -> None:
    def verify(completion, *, mode, numbers):
        numbers.remove(2)
        return verifiers.Verdict(True, 1.0, None, verifiers.Reason.OK, verifiers.Tier.TEXT)

    def verify_all(completions, *, mode, numbers):
        return verifiers.Verdicts.of(
            [verify(text, mode=mode, numbers=own) for text, own in zip(completions, numbers, strict=True)]
        )

    verifiers.register("uses_up", fields=["numbers"], verify=verify)
    verifiers.register("uses_all_up", fields=["numbers"], verify=verify, verify_batch=verify_all)
    numbers = [1, 2]
    for _ in range(2):
        for task in ("uses_up", "uses_all_up"):
            assert verifiers.verify(task, "x", numbers=numbers).correct
            assert verifiers.verify_batch(task, ["x", "y"], numbers=[numbers, numbers]).correct.all()
    assert numbers == [1, 2]


TASK = """
import os
import sys
import envs
{at_import}
class Exits(envs.TextEnv):
    reward_weights = {{"correct": 1.0}}
    def __init__(self, split="train"): {init}
    def __len__(self): {len}; return 40
    def problem(self, index): {problem}; return envs.Problem(f"say {{index}}", {{"word": str(index)}})
    def score(self, problem, completion): {score}; return {{"correct": float(completion == problem.reference["word"])}}
    def demonstration(self, problem): {demonstration}; return problem.reference["word"]
    def habits(self, problem): {habits}; return {{}}
envs.register("{id}", Exits)
"""
PLACES = ("at_import", "init", "len", "problem", "score", "demonstration", "habits")
EXITS = ("exit()", "sys.exit(0)", "raise SystemExit", "os._exit(0)")


@pytest.mark.parametrize(
    ("exits", "place"),
    slow_if(product(EXITS, PLACES), lambda *case: case not in (("exit()", "score"), ("os._exit(0)", "init"))),
)
def test_a_task_that_exits_is_an_error(place: str, exits: str, tmp_path: Path, capsys) -> None:
    file = tmp_path / "task.py"
    id = f"my/{tmp_path.name}-v0"
    file.write_text(TASK.format(id=id, **{name: exits if name == place else "0" for name in PLACES}))
    name = f"{file}:{id}"
    try:
        status = main(["check", name, "-n", "20"])
    except CodeExited as error:
        status = f"{error}"
    said = capsys.readouterr()
    assert status != 0 and "SystemExit" in f"{status} {said.out} {said.err}"
    if place == "init":
        with pytest.raises(CodeExited):
            envs.make(name)
    if place == "score":
        env = envs.make(name)
        scored = score_all(env, [0], [env.problem(0)], ["0"])
        assert scored.reason == ["error"] and "task.py" in scored.traceback[0]


def test_a_number_that_is_too_large_for_a_float_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "large.py").write_text("def large(completions): return [10**400] * len(completions)\n")
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "say {i}"}}\n' for i in range(40)))
    env = envs.make(str(tmp_path / "rows.jsonl"), reward=f"{tmp_path}/large.py:large")
    scored = score_all(env, [0], [env.problem(0)], ["0"])
    assert "must return finite numbers or None" in scored.traceback[0]

    class Large(Uses):
        max_turns, reply = 1, envs.TextEnv.reply

        def score(self, problem, completion):
            return {"correct": 10**400}

    env = Large()
    with pytest.raises(envs.EnvError, match="must be 0 or 1"):
        score_all(env, [0], [env.one], ["6"])


def test_check_says_a_fault_once(tmp_path: Path) -> None:
    id = f"my/{tmp_path.name}-v0"
    places = {name: "1 / 0" if name == "problem" else "0" for name in PLACES}
    (tmp_path / "task.py").write_text(TASK.format(id=id, **places))
    faults = [finding.figure for finding in check(f"{tmp_path}/task.py:{id}", 20) if not finding.ok]
    said = [fault for fault in faults if not fault.startswith("the same as ")]
    assert len(said) == len({*said}) < len(faults)


def test_a_reward_function_or_a_verifier_that_exits_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nimport sys\nimport verifiers\n"
        "def plain(completions): exit()\n"
        "def ends(completions): os._exit(0)\n"
        "async def awaited(completions): sys.exit(3)\n"
        "async def awaited_end(completions): os._exit(0)\n"
        "def verify(completion, *, mode, answer):\n    if completion: raise SystemExit\n"
        "    return verifiers.Verdict(False, 0.0, None, verifiers.Reason.WRONG, verifiers.Tier.TEXT)\n"
        "verifiers.register('exits', fields=['answer'], verify=verify)\n"
    )
    (tmp_path / "rows.jsonl").write_text(
        "".join(f'{{"prompt": "say {i}", "answer": "{i}"}}\n' for i in range(40))
    )
    rows = str(tmp_path / "rows.jsonl")
    opened = [
        envs.make(rows, reward=f"{tmp_path}/mine.py:{name}")
        for name in ("plain", "ends", "awaited", "awaited_end")
    ]
    for env in [*opened, envs.make(rows, verifier="exits")]:
        scored = score_all(env, [0], [env.problem(0)], ["0"])
        assert scored.reason == ["error"] and "exit" in scored.traceback[0].lower()
    with pytest.raises(CodeExited):
        verifiers.verify_batch("exits", ["a"], answer=["b"])


def test_code_that_exits_is_an_error_also_after_another_thread_s_has_returned() -> None:
    """And outside of the guard the function of `os` is as it was."""
    end_process, first, second = os._exit, exit_is_error(), exit_is_error()
    first.__enter__()
    with pytest.raises(CodeExited), second:
        first.__exit__(None, None, None)
        assert os._exit is not end_process  # else the next line would end the tests
        os._exit(0)
    assert os._exit is end_process


def test_what_is_wrong_with_a_reward_function_is_said_of_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "def exits(completions): raise SystemExit\n"
        "def one(completion, **kwargs): return [0.0]\n"
        "def column(completions, gaol): return [0.0]\n"
        "import json, os\n"
        "def ends(completions): os._exit(0)\n"
        "def reads(completions): return json.loads(completions[0] + '}')\n"
    )
    (tmp_path / "rows.jsonl").write_text("".join(f'{{"prompt": "{i}", "goal": "{i}"}}\n' for i in range(40)))
    rows = str(tmp_path / "rows.jsonl")
    for line, name, said in (
        (1, "exits", "exits raised SystemExit ("),
        (2, "one", "argument: 'completion' ("),
        (5, "ends", "ends raised SystemExit: 0 ("),
        (6, "reads", "reads raised JSONDecodeError: Extra data: line 1 column 2 (char 1) ("),
    ):
        env = envs.make(rows, reward=f"{tmp_path}/mine.py:{name}")
        trace = score_all(env, [0], [env.problem(0)], ["0"]).traceback[0]
        assert f"{said}{tmp_path}/mine.py, line {line})." in trace
    with pytest.raises(envs.EnvError, match='Did you mean "goal"'):
        envs.make(rows, reward=f"{tmp_path}/mine.py:column")

"""reasoning-gym's datasets as environments: none of its scorers runs an answer as code or for ever."""

import ast
import inspect
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import pytest

import envs
from envs.adapters.reasoning_gym import env as adapter
from envs.checking import check
from envs.errors import EnvError
from envs.splits import SPLITS, split_of

needed = pytest.mark.skipif(find_spec("reasoning_gym") is None, reason=f"needs {adapter.INSTALL}")

READS_CODE = {"eval", "exec", "parse_expr", "sympify", "compile", "__import__", "loads_code", "parse_latex"}
TRUSTED = {
    "basic_arithmetic": "evaluates the expression it has just made",
    "bitwise_arithmetic": "evaluates the expression it has just made",
    "gsm_symbolic": "evaluates fractions of its own templates",
    "number_sorting": "evaluates its own answer",
    "bf": "has a compiler of that name for the program it has just made",
}
"""Datasets whose modules contain such a call, but not on a model's answer (read in version 0.1.25)."""
SLOW = {
    *("advanced_geometry", "countdown", "futoshiki", "game_of_life", "game_of_life_halting", "jugs"),
    *("number_sequence", "polynomial_equations", "puzzle24", "quantum_lock", "rearc", "rubiks_cube"),
    *("sokoban", "sudoku", "zebra_puzzles"),
}
"""Datasets of which four problems of each split took over a minute on a shared core; futoshiki, with 0.2 s an item and
3 s for some of them, took 38. The last of 256 problems of validation asks for up to 4,000 items, as no other comes
twice, and a fresh process makes all of them again; the first asks for some ten."""


def make(name: str, **arguments: object) -> adapter.ReasoningGym:
    return envs.make(f"reasoning_gym:{name}", **arguments)


def answered(env: envs.TextEnv, text: str, index: int = 0) -> envs.Score:
    return env.score(env.problem(index), f"<answer>{text}</answer>")


@pytest.fixture
def unread():
    """Nothing that an earlier test read of the package, and nothing that this one reads afterwards."""
    adapter._datasets.cache_clear()
    yield
    adapter._datasets.cache_clear()


def test_without_the_package_one_line_says_how_to_get_it(monkeypatch, unread):
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    message = r'pip install "reasoning-gym==0\.1\.25"$'
    with pytest.raises(EnvError, match=message):
        make("leg_counting")


@needed
def test_another_version_is_refused(monkeypatch, unread):
    monkeypatch.setattr(adapter, "version", lambda name: "0.2.0")
    with pytest.raises(EnvError, match=r"0\.2\.0.*0\.1\.25"):
        make("leg_counting")


@needed
@pytest.mark.slow
@pytest.mark.parametrize("name", ["leg_counting", "chain_sum"])
def test_datasets_pass_the_check(name: str):
    wrong = [finding for finding in check(f"reasoning_gym:{name}", 8) if not finding.ok]
    assert not wrong


@needed
def test_names_arguments_and_splits():
    env = make("leg_counting", split="test", max_animals=4)
    assert env.spec_name == "reasoning_gym:leg_counting[max_animals=4]"
    assert env.problem(0).prompt.endswith("Put the final answer inside <answer> and </answer>.")
    assert len(env) == 256 and len(make("leg_counting", size=70)) == 70
    assert make("leg_counting", seed=1).problem(0).prompt != make("leg_counting").problem(0).prompt
    texts = [{make("coin_flip", split=s, size=300).problem(i).prompt for i in range(250)} for s in SPLITS]
    assert len(set().union(*texts)) == sum(map(len, texts)) and min(map(len, texts)) > 5
    for name, message in {
        "leg_countin": '"leg_countin".*"leg_counting"',
        "codeio": "reasoning_gym:codeio .*runs programs",
        "simple_integration": "simple_integration .*parse_expr",
        "list_functions": "list_functions .*seed",
    }.items():
        with pytest.raises(EnvError, match=message):
            make(name)
    with pytest.raises(EnvError, match=r"max_animal"):
        make("leg_counting", max_animal=4)
    with pytest.raises(EnvError, match='split="dev"'):
        make("leg_counting", split="dev")


@needed
def test_no_evaluation_problem_repeats_while_there_are_others():
    arguments = {"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 2}
    for split in ("validation", "test"):
        env, again = (make("chain_sum", split=split, **arguments) for _ in range(2))
        last = again.problem(255)  # whichever is asked for first
        questions = [env.problem(index).reference["question"] for index in range(256)]
        assert len(set(questions)) == 256 and questions[255] == last.reference["question"]
    few = make("coin_flip", split="test", size=300)
    prompts = [few.problem(index).prompt for index in range(256)]
    items = [few._item(index)["question"] for index in range(300)]
    all_there_are = {question + adapter.ASK for question in items if split_of(question) == "test"}
    count = len(all_there_are)
    assert set(prompts[:count]) == all_there_are and prompts[count:] == (prompts * 256)[count:256]


@needed
def test_partial_credit_is_shown_and_not_counted_as_correct():
    env = make("chain_sum")
    right = env.problem(0).reference["answer"]
    assert answered(env, right).rewards == {"correct": 1.0, "format": 1.0, "score": 1.0}
    near = answered(env, f"about {right}")
    assert near.rewards["correct"] == 0.0 and 0 < near.rewards["score"] < 1 and near.reason == "wrong"
    assert env.score(env.problem(0), right).reason == "no_answer"
    assert answered(env, "1" * 20_001).reason == "malformed"


@needed
@pytest.mark.parametrize("name", sorted(adapter.OWN_CHECKS))
def test_an_answer_is_never_run_as_code(name: str, tmp_path: Path):
    env, trace = make(name), tmp_path / "ran"
    problem = env.problem(0)
    assert env.score(problem, env.demonstration(problem)).rewards["correct"] == 1.0
    for code in (f"open({str(trace)!r}, 'w')", f"__import__('os').system('touch {trace}')", "9**9**9**9"):
        assert answered(env, code).rewards == {"correct": 0.0, "format": 1.0, "score": 0.0}
    assert not trace.exists()


@needed
def test_their_scorers_cannot_hang_or_eat_the_memory(monkeypatch):
    for name, text in {"coin_flip": "1e99999999", "rubiks_cube": "R99999999999"}.items():
        env = make(name)
        answered(env, "warm")  # opens the dataset in the worker
        monkeypatch.setattr(adapter._workers(), "soft", 0.5)
        monkeypatch.setattr(adapter._workers(), "hard", 2.0)
        start = time.monotonic()
        score = answered(env, text)
        monkeypatch.undo()
        assert score.rewards["correct"] == 0.0 and time.monotonic() - start < 30
        assert score.reason in ("timeout", "malformed", "wrong"), name


@needed
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_dataset_passes_the_check():
    wrong = {}
    for name in sorted(set(adapter._datasets()) - set(adapter.REFUSED)):
        found = check(f"reasoning_gym:{name}", 1 if name in SLOW else 4, size=4000)
        wrong[name] = [finding for finding in found if not finding.ok]
    assert not any(wrong.values()), wrong


def code_readers() -> dict[str, set[str]]:
    """Dataset -> the calls in its module that can run text as code."""
    from reasoning_gym.factory import DATASETS

    found: dict[str, set[str]] = {}
    for name, (cls, _) in DATASETS.items():
        module = Path(inspect.getfile(cls))
        files = [module, *module.parent.glob("generators_*.py")] if name == "gsm_symbolic" else [module]
        for file in files:
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func).rpartition(".")[2]
                    if called in READS_CODE and not ast.unparse(node.func).startswith("re."):
                        found.setdefault(name, set()).add(called)
    return found


@needed
def test_every_dataset_that_could_run_text_as_code_is_known():
    known = set(adapter.REFUSED) | set(adapter.OWN_CHECKS) | set(TRUSTED)
    found = code_readers()
    assert set(found) - known == set(), found
    assert {"countdown", "puzzle24", "n_queens", "string_insertion", "simple_integration"} <= set(found)
    offered = set(adapter._datasets())
    assert len(offered) > 100 and set(adapter.REFUSED) | set(adapter.OWN_CHECKS) <= offered

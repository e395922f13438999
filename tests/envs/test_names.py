"""Every way of naming an environment leads to the same class; every wrong way says what would be right."""

import gymnasium
import numpy as np
import pytest

import envs
from envs import EnvError, Problem, TextEnv
from envs.splits import DividedEnv, tenth

TASK = '''
"""A stranger's task."""
from envs import Problem, Score, TextEnv, register
import {helper}

class Echo(TextEnv):
    reward_weights = {{"correct": 1.0}}

    def __init__(self, word="hello"):
        self.word = word

    def __len__(self):
        return 40

    def problem(self, index):
        return Problem(f"{{self.word}} {{index}}", {{"index": index}})

    def score(self, problem, completion):
        return Score({{"correct": float({helper}.same(problem.prompt, completion))}}, "judged", completion)

register("{space}/Echo-v0", Echo)
'''


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """Writes a task file (and a neighbour it imports) under names no other test uses; returns a function."""
    monkeypatch.chdir(tmp_path)

    def write(space: str) -> str:
        helper = f"helper_{space}"
        (tmp_path / f"{helper}.py").write_text("def same(a, b):\n    return a == b\n")
        (tmp_path / f"task_{space}.py").write_text(TASK.format(helper=helper, space=space))
        return f"./task_{space}.py:{space}/Echo-v0"

    return write


@pytest.mark.parametrize(
    "name",
    ["sudoku", "Sudoku", "spg/Sudoku-v0", "spg/sudoku", "Sudoku-v0", "envs:spg/Sudoku-v0", "envs:sudoku"],
)
def test_all_names_of_sudoku(name):
    assert envs.resolve(name) == "spg/Sudoku-v0"
    assert type(envs.make(name)) is envs.Sudoku


def test_gymnasium_reaches_the_same_class():
    assert type(gymnasium.make("envs:spg/Sudoku-v0").unwrapped) is envs.Sudoku
    vector = gymnasium.make_vec("envs:spg/Sudoku-v0", num_envs=2)
    assert type(vector) is envs.TextVectorEnv and type(vector.env) is envs.Sudoku


@pytest.mark.parametrize("name", ["sodoku", "Sudoku-v1", "spg/Sudok-v0", "sudoko"])
def test_an_unknown_name_answers_with_the_nearest(name):
    with pytest.raises(EnvError, match=r'No environment ".*"\. Did you mean "(sudoku|spg/Sudoku-v0)"'):
        envs.make(name)


def test_a_far_name_answers_with_what_there_is():
    with pytest.raises(EnvError, match=r'No environment "qqqqqq"\. Known: .*sudoku.*To use your own: --env'):
        envs.make("qqqqqq")
    with pytest.raises(EnvError, match="No environment"):
        envs.make("CartPole-v1")


def test_a_stranger_s_file_with_a_neighbour_runs(stranger):
    name = stranger("alpha")
    env = envs.make(name, word="ahoy")
    assert env.reset(options={"index": 3})[0] == "ahoy 3"
    assert env.step("ahoy 3")[4]["correct"] and env.spec_name == "echo[word=ahoy]"
    assert type(envs.make(name)) is type(env)  # the file is not imported twice
    assert envs.make_vec(name, 3).reset(options={"index": [0, 0, 9]})[0] == ("hello 0", "hello 0", "hello 9")


def test_a_stranger_s_module_runs(stranger, tmp_path, monkeypatch):
    stranger("beta")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert envs.make("task_beta:beta/Echo-v0").problem(1).prompt == "hello 1"
    assert envs.resolve("task_beta:echo") == "beta/Echo-v0"  # whoever else has an Echo


def test_an_entry_point_is_found_by_name_and_by_id(stranger, tmp_path, monkeypatch):
    stranger("gamma")
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[spg.envs]\nparrot = task_gamma:Echo\nbroken = nothing_here\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert envs.resolve("parrot") == "gamma/Echo-v0"
    assert envs.resolve("gamma/Echo-v0") == "gamma/Echo-v0"
    with pytest.raises(EnvError, match=r"entry points of spg.envs that cannot be loaded: broken"):
        envs.resolve("zzz")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./missing.py:my/X-v0", "There is no file missing.py"),
        ("no_such_module_at_all:my/X-v0", "importing no_such_module_at_all raised ModuleNotFoundError"),
        ("json:my/X-v0", "json registers no environment"),
        ("./task.py", "say which environment in it"),
        ("", 'No environment ""'),
    ],
)
def test_wrong_modules_and_files_are_told(name, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EnvError, match=message):
        envs.make(name)


def test_a_file_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "torn.py").write_text("import envs\nthis is no python\n")
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(EnvError, match=r"importing \./torn\.py raised SyntaxError"):
            envs.make("./torn.py:my/Torn-v0")


def test_the_wrong_id_in_a_right_file_answers_with_the_nearest(stranger):
    name = stranger("delta").replace("Echo", "Ecco")
    with pytest.raises(EnvError, match=r'in \./task_delta\.py\. Did you mean "(delta/Echo-v0|echo)"'):
        envs.make(name)


def _new_class(name: str, module: str = __name__) -> type[TextEnv]:
    body = {
        "__module__": module,
        "reward_weights": {"correct": 1.0},
        "__len__": lambda self: 10,
        "problem": lambda self, index: Problem(f"{name} {index}", {}),
        "score": lambda self, problem, completion: {"correct": 0.0},
    }
    return type(name, (TextEnv,), body)


def test_a_taken_id_is_refused_to_another_class():
    first = _new_class("First")
    envs.register("test/Taken-v0", first)
    envs.register("test/Taken-v0", first)
    envs.register("test/Taken-v0", _new_class("First"))  # the same class, defined again as in a notebook
    with pytest.raises(EnvError, match=r'"test/Taken-v0" is taken by .*First.*Second needs another name'):
        envs.register("test/Taken-v0", _new_class("Second"))
    with pytest.raises(EnvError, match=r'"spg/Sudoku-v0" is taken by envs\.sudoku\.env\.Sudoku'):
        envs.register("spg/Sudoku-v0", _new_class("Sudoku"))


@pytest.mark.parametrize("id", ["Taken", "test/Taken", "Taken-v0", "a b/C-v0", "test/Taken-v"])
def test_a_badly_formed_id_is_refused(id):
    with pytest.raises(EnvError, match="is not an environment id"):
        envs.register(id, _new_class("Formless"))
    with pytest.raises(EnvError, match="not a class derived from"):
        envs.register("test/NoClass-v0", dict)


def test_a_short_name_means_the_newest_version_and_never_one_of_two_strangers():
    for version in (2, 10, 9):
        envs.register(f"test/Aged-v{version}", _new_class(f"Aged{version}"))
    assert envs.resolve("aged") == "test/Aged-v10" and envs.resolve("aged-v2") == "test/Aged-v2"
    envs.register("other/Aged-v1", _new_class("OtherAged"))
    with pytest.raises(EnvError, match=r"could be any of other/Aged-v1, test/Aged-v10"):
        envs.resolve("aged")
    envs.register("other/Sudoku-v7", _new_class("OtherSudoku"))
    assert envs.resolve("sudoku") == "spg/Sudoku-v0"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"splt": "test"}, r'takes no argument "splt"\. Did you mean "split"'),
        ({"render_mode": "human"}, 'there is only "ansi"'),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(EnvError, match=message):
        envs.make("sudoku", **arguments)


def test_a_class_without_splits_is_divided_by_a_hash_of_the_index(stranger):
    name = stranger("epsilon")
    whole = envs.make(name)
    parts = {split: envs.make(name, split=split) for split in ("train", "validation", "test")}
    assert len(whole) == 40 and not whole.notice
    prompts = {split: [env.problem(i).prompt for i in range(len(env))] for split, env in parts.items()}
    together = [prompt for part in prompts.values() for prompt in part]
    assert sorted(together) == sorted(whole.problem(i).prompt for i in range(40))
    assert "takes no `split`" in parts["train"].notice and isinstance(parts["test"], DividedEnv)
    parts["test"].reset(options={"index": 0})
    assert parts["test"].step(prompts["test"][0])[4]["reason"] == "judged"
    with pytest.raises(EnvError, match="no problem 35"):
        parts["train"].reset(options={"index": 35})
    with pytest.raises(EnvError, match="no problem -1"):
        parts["train"].problem(-1)
    with pytest.raises(EnvError, match='split="dev" is unknown'):
        envs.make(name, split="dev")
    shares = np.bincount(tenth(np.arange(100_000)), minlength=10) / 100_000
    assert np.abs(shares - 0.1).max() < 0.005
    assert tenth(np.arange(12)).tolist() == PINNED


def test_a_split_without_problems_is_told():
    tiny = _new_class("Tiny")
    tiny.__len__ = lambda self: 1
    envs.register("test/Tiny-v0", tiny)
    splits = [split for split in ("train", "validation", "test") if _opens("tiny", split)]
    assert len(splits) == 1
    with pytest.raises(EnvError, match="has 1 problems, of which none falls into"):
        envs.make("tiny", split="validation" if splits != ["validation"] else "test")


def test_more_problems_than_can_be_divided_are_told_and_not_listed():
    vast = _new_class("Vast")
    vast.__len__ = lambda self: 10**12
    envs.register("test/Vast-v0", vast)
    assert len(envs.make("vast")) == 10**12
    with pytest.raises(EnvError, match=r"vast has 1000000000000 problems, more than the 100000000 .*`split`"):
        envs.make("vast", split="train")


def test_the_division_does_not_depend_on_how_it_is_cut(monkeypatch):
    base = _new_class("Cut")()
    type(base).__len__ = lambda self: 1000
    whole = DividedEnv(base, "validation").indices
    monkeypatch.setattr("envs.splits._CHUNK", 7)
    assert np.array_equal(DividedEnv(base, "validation").indices, whole) and 60 < len(whole) < 140


def _opens(name: str, split: str) -> bool:
    try:
        return len(envs.make(name, split=split)) > 0
    except EnvError:
        return False


PINNED = [5, 5, 0, 3, 8, 8, 2, 7, 2, 8, 6, 3]  # the division of a released environment never changes

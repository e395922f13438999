"""Every way of naming an environment leads to the same class; every wrong way is one line that says what is right."""

import importlib
import pickle
import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import gymnasium
import numpy as np
import pytest

import envs
from envs import EnvError, Problem, TextEnv
from envs.__main__ import main
from envs.authoring import new_file
from envs.own_files import each_file_once
from tests.common.marks import slow_if
from tests.common.own_cases import Mine
from tests.common.task_file import task_text, write_task
from verifiers.worker import environment


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder that modules can be imported from."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def write_distribution(folder: Path, *points: str) -> None:
    """What pip leaves of an installed package with entry points."""
    info = folder / "an_author-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: an-author\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(["[spg.envs]", *points, ""]))


def new_class(name: str, length: int = 10) -> type[TextEnv]:
    body = {
        "__module__": __name__,
        "reward_weights": {"correct": 1.0},
        "__len__": lambda self: length,
        "problem": lambda self, index: Problem(f"{name} {index}", {}),
        "score": lambda self, problem, completion: {"correct": 0.0},
    }
    return type(name, (TextEnv,), body)


def test_all_names_lead_to_one_class_and_gymnasium_to_the_same():
    names = ("sudoku", "Sudoku", "spg/Sudoku-v0", "spg/sudoku", "Sudoku-v0")
    for name in (*names, "envs:spg/Sudoku-v0", "envs:sudoku"):
        assert envs.resolve(name) == "spg/Sudoku-v0" and type(envs.make(name)) is envs.Sudoku
    assert envs.resolve("Math") == "spg/MATH500-v0"
    assert type(gymnasium.make("envs:spg/Sudoku-v0").unwrapped) is envs.Sudoku
    vector = gymnasium.make_vec("envs:spg/Sudoku-v0", num_envs=2)
    assert type(vector) is envs.TextVectorEnv and type(vector.env) is envs.Sudoku


def test_a_data_set_of_the_hub_is_told_how_it_becomes_a_task():
    with pytest.raises(EnvError) as refused:
        envs.resolve("openai/gsm8k")
    assert "hf download openai/gsm8k --repo-type dataset" in str(refused.value)
    assert "--env gsm8k/FILE --verifier NAME" in str(refused.value)
    with pytest.raises(EnvError) as refused:
        envs.resolve("my/Task-v0")
    assert "hf download" not in str(refused.value)


def test_an_unknown_name_answers_with_the_nearest_or_with_what_there_is():
    for name in ("sodoku", "Sudoku-v1", "spg/Sudok-v0", "sudoko"):
        with pytest.raises(EnvError, match=f'"{name}".* "(sudoku|spg/Sudoku-v0)"'):
            envs.make(name)
    for name in ("qqqqqq", "CartPole-v1"):
        with pytest.raises(EnvError, match=f'"{name}".*sudoku.*my_package.my_module:my/'):
            envs.make(name)


def test_a_file_with_a_neighbour_runs(folder):
    (folder / "neighbour_of_parrot.py").write_text("loaded = []\n")
    new_file.write_task("parrot_zero.py")
    (folder / "parrot_zero.py").write_text(
        "import neighbour_of_parrot\nneighbour_of_parrot.loaded.append(1)\n"
        + Path("parrot_zero.py").read_text()
    )
    name = "./parrot_zero.py:my/ParrotZero-v0"
    assert envs.resolve("./parrot_zero.py") == "my/ParrotZero-v0"  # the only one in it
    env = envs.make(name, split="test")
    prompt = env.reset(options={"index": 3})[0]
    assert env.step(env.demonstration(env.problem(3)))[4]["correct"] and env.spec_name == "parrotzero"
    assert envs.make_vec(name, 3, split="test").reset(options={"index": [3, 3, 9]})[0][:2] == (prompt, prompt)
    assert type(envs.make(name)) is type(env)
    assert sys.modules["neighbour_of_parrot"].loaded == [1]  # the file is not imported twice


def test_a_module_and_an_entry_point_reach_the_same_task(folder):
    (folder / "author").mkdir()
    (folder / "author" / "__init__.py").write_text("")
    new_file.write_task(str(folder / "author" / "parrot_one.py"))
    write_distribution(folder, "polly = author.parrot_one:ParrotOne", "broken = nothing_here")
    names = ("Polly", "author.parrot_one:my/ParrotOne-v0", "author:parrotone", "my/ParrotOne-v0")
    assert {envs.resolve(name) for name in names} == {"my/ParrotOne-v0"}
    env = envs.make("polly", split="test")
    assert len(env) == 256 and env.score(env.problem(3), env.demonstration(env.problem(3))).reason == "ok"
    text = (folder / "author" / "parrot_one.py").read_text().replace("my/ParrotOne", "other/ParrotOne")
    (folder / "parrot_other.py").write_text(text)
    assert envs.resolve("parrot_other:parrotone") == "other/ParrotOne-v0"  # whoever else has a ParrotOne


class Bare(envs.TextEnv):
    reward_weights = {"correct": 1.0}  # noqa: RUF012


class Shown(envs.TextEnv):
    """Its only problem is what a file sets as its prompt."""

    reward_weights = {"correct": 1.0}  # noqa: RUF012

    def __len__(self):
        return 1

    def problem(self, index):
        return envs.Problem(PROMPT, {})  # noqa: F821

    def score(self, problem, completion):
        return {"correct": 1.0}


def write_shown(file: Path, name: str, prompt: str, head: str = "") -> None:
    write_task(file, Shown, id=f"my/{name}-v0", head=head, PROMPT=prompt)


FILES = {
    "empty.py": task_text(),
    "silent.py": task_text(Bare),
    "wrong.py": "1 / 0\n",
    "lacking.py": task_text(Bare, id="my/Lacking-v0"),
    "two.py": "".join(task_text(Shown, id=f"my/{name}-v0") for name in ("One", "Two")),
    "three.py": "".join(task_text(Shown, id=f"my/{name}-v0") for name in ("Three", "Four")),
    "badid.py": task_text(Bare, id="Bad"),
}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere.py:my/X-v0", "nowhere.py"),
        ("no_such_package.mod:my/X-v0", "no_such_package.mod.*ModuleNotFoundError"),
        ("./silent.py:my/Silent-v0", r"silent.py.*envs.register\("),
        ("./empty.py:sudoku", "empty.py"),  # and does not open ours
        ("./two.py", "./two.py:my/One-v0, ./two.py:my/Two-v0"),
        (
            "./three.py:my/Tree-v0",
            '"my/Tree-v0".*mean "./three.py:my/Three-v0".*registers my/Three-v0, my/Four-v0',
        ),
        ("./wrong.py:my/Wrong-v0", "./wrong.py.*ZeroDivisionError: division by zero"),
        ("./lacking.py:my/Lacking-v0", "my/Lacking-v0.*__len__, problem, score"),
        ("./badid.py:Bad", '"Bad" .* namespace/Name-vN'),
        ("quiet", '"quiet" .*silent:Silent'),
        ("gone", '"gone"'),
        ("", '""'),
    ],
)
def test_each_mistake_is_one_line(folder, name, message, capsys):
    for file, text in FILES.items():
        (folder / file).write_text(text)
    write_distribution(folder, "quiet = silent:Silent", "gone = not_there:Gone")
    sys.modules.pop("silent", None)
    for _ in range(2):  # a failed import leaves nothing behind
        with pytest.raises(EnvError, match=message):
            envs.make(name)
    assert main(["check", name]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_taken_id_is_refused_to_another_class():
    for _ in range(2):  # the same class, defined again as in a notebook
        envs.register("test/Taken-v0", new_class("First"))
    with pytest.raises(EnvError, match=r'"test/Taken-v0".*First.*Second'):
        envs.register("test/Taken-v0", new_class("Second"))
    with pytest.raises(EnvError, match=r'"spg/Sudoku-v0".*envs\.sudoku\.env\.Sudoku'):
        envs.register("spg/Sudoku-v0", new_class("Sudoku"))


@pytest.mark.parametrize("id", ["Taken", "test/Taken", "Taken-v0", "a b/C-v0", "test/Taken-v"])
def test_a_badly_formed_id_is_refused(id):
    with pytest.raises(EnvError, match=re.escape(id)):
        envs.register(id, new_class("Formless"))
    with pytest.raises(EnvError, match=r"dict.*TextEnv"):
        envs.register("test/NoClass-v0", dict)


def test_a_short_name_is_the_newest_version_never_one_of_two_authors():
    for version in (2, 10, 9):
        envs.register(f"test/Aged-v{version}", new_class(f"Aged{version}"))
    assert envs.resolve("aged") == "test/Aged-v10" and envs.resolve("aged-v2") == "test/Aged-v2"
    envs.register("other/Aged-v1", new_class("OtherAged"))
    with pytest.raises(EnvError, match=r"other/Aged-v1, test/Aged-v10"):
        envs.resolve("aged")
    envs.register("other/Sudoku-v7", new_class("OtherSudoku"))
    assert envs.resolve("sudoku") == "spg/Sudoku-v0"


class Loose(new_class("Loose", 100)):
    """Takes any argument, and none called split."""

    notice: ClassVar[str] = "Mind the gap."

    def __init__(self, **other: object) -> None:
        self.other = other


def test_a_class_without_split_is_divided_whatever_else_it_takes():
    envs.register("edges/Loose-v0", Loose)
    splits = {split: envs.make("edges/Loose-v0", split=split) for split in ("train", "validation", "test")}
    prompts = [{env.problem(i).prompt for i in range(len(env))} for env in splits.values()]
    assert sum(map(len, prompts)) == len(set().union(*prompts)) == 100
    assert splits["test"].notice.startswith("Mind the gap. ") and "80/10/10" in splits["test"].notice


def test_what_other_packages_need_is_imported_when_it_is_named():
    code = "import sys, envs; envs.make('sudoku').reset(seed=1); from envs.registry import ADAPTERS\n"
    code += "early = set(ADAPTERS.values()) & sys.modules.keys(); assert not early, early\n"
    code += "assert envs.make('gymnasium:FrozenLake-v1').max_turns > 1"
    subprocess.run([sys.executable, "-P", "-c", code], check=True, env=environment())


def test_a_file_that_was_edited_is_loaded_anew(folder):
    """As in a notebook, whose user edits a file between two calls."""
    file = folder / "edited.py"
    for prompt in ("one", "two", "one"):  # of one length, and within one second
        write_shown(file, "Edited", prompt)
        assert envs.make("./edited.py:my/Edited-v0").problem(0).prompt == prompt
    once = envs.make("./edited.py")
    assert type(envs.make("./edited.py")) is type(once)
    write_shown(file, "Renamed", "two")
    assert envs.make("./edited.py").problem(0).prompt == "two"  # its only one
    with pytest.raises(EnvError, match=r'registers no "my/Edited-v0".*my/Renamed-v0'):
        envs.make("./edited.py:my/Edited-v0")


def test_a_class_stands_for_what_its_file_holds_now(folder):
    """Also once the file has been loaded again, so that the class which the script has is an older self."""
    file = folder / "classy.py"
    write_shown(file, "Classy", "one")
    cls = importlib.import_module("classy").Classy
    assert envs.registry.name_of(cls) == f"{file.resolve()}:my/Classy-v0"
    assert envs.make(cls).problem(0).prompt == "one"
    for prompt in ("two", "six"):
        write_shown(file, "Classy", prompt)
        assert envs.make(cls).problem(0).prompt == envs.make("./classy.py").problem(0).prompt == prompt


def test_what_a_script_puts_into_an_imported_module_is_refused(folder):
    """For a class and a reward function alike: a resumed run reads the file, which does not have it."""
    write_shown(folder / "mine.py", "Mine", "one")
    (folder / "pay.py").write_text("def helper(): return 1\ndef pay(completions): return [helper()]\n")
    (folder / "rows.jsonl").write_text('{"prompt": "q"}\n' * 40)
    script = """if True:
        import envs, mine, pay
        def patch():
            mine.Mine.score = pay.helper = lambda *_: 0
        for change in (str, patch):
            change()
            for name in (mine.Mine, "./mine.py", "my/Mine-v0", "rows.jsonl"):
                try: print(envs.make(name, **({"reward": pay.pay} if name == "rows.jsonl" else {})).render_mode)
                except envs.EnvError as error: print(error)
        """
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True)
    said = [line.partition(" comes from this script")[0] for line in done.stdout.splitlines()]
    assert said == ["None"] * 4 + ["Mine.score"] * 3 + ["pay.helper"], done.stderr


@pytest.mark.parametrize(
    ("patch", "name"),
    [
        ("base.Base.score = lambda *_: {}", "Base.score"),  # of another module
        ("mine.Mine.notice = property(lambda self: '')", "Mine.notice"),
        ("mine.Mine.score = functools.partial(pay)", "Mine.score"),
        ("mine.Mine.weights = functools.cached_property(pay)", "Mine.weights"),
    ],
)
def test_a_patch_is_found_in_bases_and_in_what_wraps_a_function(folder, patch, name):
    (folder / "base.py").write_text(
        "import envs\nclass Base(envs.TextEnv):\n    def score(self, *_): return {}\n"
    )
    write_shown(folder / "mine.py", "Mine", "one")
    text = (folder / "mine.py").read_text()
    (folder / "mine.py").write_text("import base\n" + text.replace("envs.TextEnv", "base.Base"))
    script = f"import functools, envs, base, mine\ndef pay(*_): return {{}}\n{patch}\nenvs.make(mine.Mine)"
    done = subprocess.run([sys.executable, "-c", script], env=environment(), capture_output=True, text=True)
    assert f"EnvError: {name} comes from this script or notebook" in done.stderr


@pytest.mark.parametrize(
    "name", slow_if(["rows.jsonl", ["sudoku", "countdown"], "sudoku"], lambda name: name == "sudoku")
)
def test_an_environment_is_pickled_into_another_process(folder, name):
    """As joblib and multiprocessing do it."""
    (folder / "rows.jsonl").write_text("".join(f'{{"prompt": "q{i}", "answer": {i}}}\n' for i in range(60)))
    env = envs.make(
        name, **({"verifier": "gsm8k", "prompt_style": "instruct"} if name == "rows.jsonl" else {})
    )
    (folder / "env.pkl").write_bytes(pickle.dumps(env))
    code = "import pickle, sys; print(pickle.load(open(sys.argv[1], 'rb')).problem(1).prompt, end='')"
    done = subprocess.run(
        [sys.executable, "-c", code, folder / "env.pkl"],
        check=True,
        env=environment(),
        capture_output=True,
        text=True,
        cwd=folder.parent,  # the path of a file of rows need not be that of the present folder
    )
    assert done.stdout == env.problem(1).prompt
    assert type(pickle.loads(pickle.dumps(env))) is type(env)


def test_a_file_that_failed_behind_its_registration_works_when_it_is_mended(folder):
    file = folder / "failing.py"
    write_shown(file, "Failing", "one")
    file.write_text(f"{file.read_text()}\n1 / 0\n")
    with pytest.raises(EnvError, match="ZeroDivisionError"):
        envs.make("./failing.py")
    write_shown(file, "Failing", "two")
    assert envs.make("./failing.py").problem(0).prompt == "two"


def test_an_edit_during_a_run_waits_for_the_next_one(folder):
    file = folder / "steady.py"
    write_shown(file, "Steady", "one")
    envs.make("./steady.py")
    write_shown(file, "Steady", "two")
    with each_file_once():
        assert envs.make("./steady.py").problem(0).prompt == "two"
        write_shown(file, "Steady", "six")
        with each_file_once():
            assert envs.make("./steady.py").problem(0).prompt == "two"
    assert envs.make("./steady.py").problem(0).prompt == "six"


def test_a_file_that_a_script_imports_by_name_is_the_same_file(folder):
    for number, name_first in enumerate((True, False)):
        stem, name = f"both_{number}", f"Both{number}"
        write_shown(folder / f"{stem}.py", name, "one")
        if name_first:
            module = importlib.import_module(stem)
            assert type(envs.make(f"./{stem}.py:my/{name}-v0")) is getattr(module, name)
        else:
            envs.make(f"./{stem}.py:my/{name}-v0")
            module = importlib.import_module(stem)
        assert type(envs.make(f"./{stem}.py")) is type(envs.make(f"my/{name}-v0")) is getattr(module, name)
        write_shown(folder / f"{stem}.py", name, "two")
        assert envs.make(f"./{stem}.py").problem(0).prompt == "two"


def test_a_changed_helper_asks_for_a_new_python(folder):
    helper = folder / "helper_of_asker.py"
    helper.write_text("PROMPT = 'one'\ndef prompt(): return PROMPT\n")
    write_shown(folder / "asker.py", "Asker", "one", head="from helper_of_asker import prompt\n")
    envs.make("./asker.py")
    helper.write_text("PROMPT = 'two'\n")
    with pytest.raises(
        EnvError, match=r"helper_of_asker.py, which asker.py imports, has changed.*Restart Python"
    ):
        envs.make("./asker.py")


def test_a_changed_helper_that_a_file_no_longer_imports_is_not_its_concern(folder):
    """Until it imports it again, as Python still has what the helper held before."""
    helper, between, file = (folder / f"{name}_of_leaver.py" for name in ("helper", "between", "file"))
    task = task_text(Shown, id="my/Leaver-v0", PROMPT="one")
    helper.write_text("PROMPT = 'one'\n")
    between.write_text("from helper_of_leaver import PROMPT\n")
    file.write_text("from between_of_leaver import PROMPT\n" + task)
    envs.make("./file_of_leaver.py")
    helper.write_text("PROMPT = 'two'\n")
    for first in ("# from helper_of_leaver import PROMPT\n", "PROMPT = 'three'\n"):
        file.write_text(first + task)
        for _ in range(2):
            envs.make("./file_of_leaver.py")
    helper.write_text("PROMPT =\n")  # half typed
    for first in ("import helper_of_leaver", "from between_of_leaver import PROMPT", "import importlib"):
        file.write_text(f"{first}\n{task}")
        with pytest.raises(
            EnvError, match=r"helper_of_leaver.py, which file_of_leaver.py imports, has changed"
        ):
            envs.make("./file_of_leaver.py")


def test_a_data_file_that_was_opened_is_not_listed_as_a_task(folder):
    (folder / "opened.jsonl").write_text('{"prompt": "1+1", "answer": "2"}\n' * 30)
    envs.make("opened.jsonl", verifier="gsm8k")
    with pytest.raises(EnvError, match="Known: ") as refused:
        envs.make("qqqqqq")
    assert "opened" not in str(refused.value) and " sudoku" in str(refused.value)


def test_a_path_and_numbers_of_numpy_are_taken(tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(f'{{"prompt": "{i}", "answer": "{i}"}}\n' for i in range(40)))
    paths = envs.make(rows, verifier="gsm8k"), envs.make([rows, "sudoku"], **{"rows.verifier": "gsm8k"})
    assert paths[0].spec_name == envs.make(str(rows), verifier="gsm8k").spec_name and paths[1].parts
    weights = {"format": np.float32(0.5), "correct": np.int64(2)}
    env = envs.make("countdown", level=np.int64(2), reward_weights=weights)
    assert env.spec_name == "countdown[level=2]" and type(env.level) is int
    assert (env.reward_weights["format"], env.reward_weights["correct"]) == (0.5, 2.0)


def test_a_check_of_no_problems_is_refused():
    with pytest.raises(EnvError, match=r"problems=2\.5: should be at least 1, and whole"):
        envs.check("sudoku", problems=2.5)
    with pytest.raises(EnvError, match="problems=0: should be at least 1"):
        envs.check("countdown", problems=0)


def test_an_error_names_keywords_in_python_and_flags_on_the_command_line(folder, capsys):
    (folder / "rows.jsonl").write_text('{"q": "1+1?", "a": "2"}\n')
    with pytest.raises(EnvError, match="Name your columns: prompt=COLUMN, answer=COLUMN") as refused:
        envs.make("rows.jsonl", verifier="gsm8k")
    flags = "Name your columns: --env-args prompt=COLUMN answer=COLUMN"
    assert flags in refused.value.written()
    assert main(["show", "rows.jsonl", "--verifier", "gsm8k"]) == 2
    assert flags in capsys.readouterr().err
    for written, shown in (
        ("--env-args level=2 source=generated.", 'level=2, source="generated".'),
        ("Use --env-args source='my file.jsonl' now.", "Use source='my file.jsonl' now."),
        ("`a --env-args b=c`, --verifier gsm8k.py", "`a --env-args b=c`, --verifier gsm8k.py"),
        ("by --reward ./a.py:b+c: no", 'by reward="./a.py:b+c": no'),
        ("functions of --reward are", "functions of --reward are"),
    ):
        assert str(EnvError(written)) == shown


class Refusing(Mine):
    def __init__(self, split="train", unit="m"):
        if "k" + unit != "km":
            raise ValueError(f"unit {unit} is not known")
        self.split = split


@pytest.mark.parametrize(
    ("unit", "error"),
    [("mm", "ValueError: unit mm is not known"), ("3", "TypeError: can only concatenate str .*")],
)
def test_an_argument_that_an_author_refuses_is_one_line_with_its_place(unit, error, tmp_path, capsys):
    name = write_task(tmp_path / "refusing.py", Mine, Refusing, id=f"test/Refusing{unit}-v0")
    assert main(["check", name, "--env-args", f"unit={unit}"]) == 2
    said = capsys.readouterr().err
    words = rf"opening it raised {error} \(.*refusing.py, line \d+\)\."
    assert re.search(words, said) and said.count("\n") == 1

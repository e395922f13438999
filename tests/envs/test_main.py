"""`python -m envs`: help at once, a list that needs no network, problems as a person reads them, a starting file."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import envs
from envs.__main__ import key_values, main
from envs.checking import check
from envs.errors import EnvError
from envs.registry import known
from tests.common.marks import slow_if

HELP = """
import sys
from envs.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
heavy = {"torch", "transformers", "numba", "sympy", "datasets", "rich", "reasoning_gym", "pandas", "pyarrow"}
found = sorted(heavy & sys.modules.keys())
sys.exit(f"imported for help: {found}" if found else 0)
"""


def run(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    status = main(line.split())
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    "command",
    slow_if(["", "list", "show", "check", "new", "serve"], lambda command: command not in ("", "check")),
)
def test_help_imports_nothing_heavy(tmp_path: Path, command: str):
    line = [sys.executable, "-c", HELP, *command.split(), "--help"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    assert f"usage: python -m envs{command and ' ' + command}" in done.stdout


def test_list_names_every_environment_and_opens_none(capsys, monkeypatch):
    ours = {id: cls for id, cls in known().items() if id in envs.ENVIRONMENTS}  # not those of other tests
    monkeypatch.setattr("envs.__main__.known", lambda: ours)
    monkeypatch.setattr("envs.__main__.make", None)
    status, out, err = run("list", capsys)
    assert (status, err) == (0, "")
    lines = {line.split()[1]: line for line in out.splitlines() if "spg/" in line}
    assert set(lines) == set(envs.ENVIRONMENTS)
    assert "Sort whole numbers" in lines["spg/Sorting-v0"]
    assert lines["spg/GSM8K-v0"].split()[0] == "gsm8k*" and "--env-args source=generated" in out


def test_show_prints_problem_demonstration_habits_and_their_scores(capsys):
    status, out, err = run("show sorting --split test --index 5 0 --env-args level=2", capsys)
    assert (status, err) == (0, "")
    env = envs.make("sorting", split="test", level=2)
    first, second = out.split("== sorting[level=2], test, problem ")[1:]
    assert first.startswith("5 of 256 ==") and second.startswith("0 of 256 ==")
    problem = env.problem(5)
    wrong = env.habits(problem)["alphabetical"]
    assert problem.prompt in first and env.demonstration(problem) in first and wrong in first
    assert "-- right: reward 1 (correct 1, format 1), ok, read as" in first
    paid = env.score(problem, wrong)
    assert f"-- alphabetical: reward {paid.rewards['correct']:g} (" in first and f"), {paid.reason}" in first


def test_show_shows_what_score_raises_and_ends_with_1(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("new faulty.py", capsys)[0] == 0
    text = Path("faulty.py").read_text().replace("my/MyTask-v0", "my/Faulty-v0")
    head = re.search(r"    def score\(self.*:\n", text)[0]
    Path("faulty.py").write_text(text.replace(head, f"{head}        raise KeyError('an oversight')\n"))
    status, out, err = run("show ./faulty.py:my/Faulty-v0 -n 1", capsys)
    assert (status, err) == (1, "")
    assert out.count("Traceback") == 1 and out.count("the same as above: KeyError: 'an oversight'") == 1
    assert "-- right: reward 0 (" in out and "faulty.py" in out and "KeyError: 'an oversight'" in out


def test_show_prints_what_the_model_reads_where_it_is_asked_to(tmp_path, capsys):
    """A board says nothing of a prompt file: where it was divided, and what a completion begins with."""
    style = tmp_path / "prompt.txt"
    style.write_text("Shots\n---\nSolve {puzzle}\n---\n<reasoning>\n")
    words = ["show", "sudoku", "-n", "1", "--env-args", f"prompt_style={style}"]
    assert main([*words, "--prompt"]) == 0
    shown = capsys.readouterr().out
    assert re.search(
        r"-- prompt:\nShots\n---\nSolve \d{16}\n-- the completion begins with:\n<reasoning>\n", shown
    )
    assert main(words) == 0
    shown = capsys.readouterr().out
    assert "-- prompt" not in shown and re.search(r"-- right: .*\n<reasoning>\n", shown)
    assert main(["show", "arithmetic", "-n", "1", "--prompt", "--env-args", "tries=2"]) == 0
    assert "-- prompt" in capsys.readouterr().out


def test_show_has_no_colours_in_a_file(capsys):
    shown = run("show sudoku -n 2", capsys)[1]
    assert shown.count("== sudoku, train, problem ") == 2 and "------+------" in shown and "\x1b" not in shown


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("show sodoku", 'Did you mean "sudoku"?'),
        ("check", "--all"),
        ("check sudoku --all", "--all"),
        (
            "show sudoku:level=4",
            '"level=4" is an argument, not the name of an environment. Give it as --env-args level=4.',
        ),
        ("show sudoku --env-args level=2,size=4", "Divide arguments by spaces, --env-args level=2 size=4."),
        ("check sudoku,arithmetic", "Several are divided by spaces: sudoku arithmetic."),
        ("show sudoku --reward-weights cells", "KEY=VALUE, e.g. correct=1."),
        ("show gymnasium:Taxi", "Did you mean gymnasium:Taxi-v"),
        (
            "check zzz",
            "Your own is named by its module, my_package.my_module:my/MyTask-v0, or by its file, ./my",
        ),
        ("check ./mine.py:my/T-v0", "There is no file mine.py (looked in "),
        ("show sudoku --index 1000000", "no problem 1000000; indices are whole numbers, 0 to 999999"),
        ("show sudoku --split dev", '"dev"'),
        ("show sudoku --env-args blanks", "blanks"),
        ("show sudoku --env-args blnks=4", 'Did you mean "blanks"?'),
        ("show sudoku --env-args level=2 split=test", "--split"),
        ("new task.txt", "my_task.py"),
        ("new no/such/folder.py", "No such file or directory"),
        ("new 2nd.py", 'would name the class of the task "2nd", which Python does not allow.'),
        ("new none.py", 'would name the class of the task "None", which Python does not allow.'),
        ("new --turns true.py", '"True"'),
        ("new False.py", '"False"'),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(line, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = run(line, capsys)
    assert (status, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert message in err
    assert not list(tmp_path.iterdir())


def test_wrong_flags_are_refused_by_the_parser(capsys):
    for line in (
        "shw",
        "show",
        "check sudoku -n 0",
        "show sudoku --splitt test",
        "new",
        "check sudoku --split x",
    ):
        with pytest.raises(SystemExit) as end:
            main(line.split())
        assert end.value.code == 2
    said = capsys.readouterr().err
    assert "'0'" in said and "there is no flag --splitt. Did you mean --split?" in said
    assert "--split is a flag of another command." in said
    assert said.count("\n") == 6 and "usage" not in said, "a line for each"
    assert "'shw' is unknown. Did you mean show? Use one of list, show, check, serve, new." in said
    with pytest.raises(SystemExit) as end:
        main([])
    assert not end.value.code and "list      lists the env" in capsys.readouterr().out, "the commands"


def test_a_number_that_is_unknown_is_no_other_number_misspelled(capsys):
    status, _, said = run("show sudoku --env-args level=17", capsys)
    assert status == 2 and "Known: 1, 2, 3, 4" in said and "Did you mean" not in said


def test_pairs_are_read_as_what_they_look_like():
    read = key_values(["level=2", "source=generated", "blanks=4-11", "x=1.5", "y=true", "z=a=b", "w="])
    values = {"level": 2, "source": "generated", "blanks": "4-11"}
    assert read == {**values, "x": 1.5, "y": True, "z": "a=b", "w": ""}
    with pytest.raises(EnvError, match="KEY=VALUE"):
        key_values(["=2"])


def test_new_writes_a_task_that_passes_the_check(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("new largest_digit.py", capsys)
    assert status == 0 and "check ./largest_digit.py:my/LargestDigit-v0" in out
    text = Path("largest_digit.py").read_text()
    assert len(text.splitlines()) <= 60 and text.count("# ") >= 8
    assert "sft --env ./largest_digit.py:my/LargestDigit-v0 --mix right=0.4 first=0.6\n" in text
    findings = check("./largest_digit.py:my/LargestDigit-v0", 100)
    assert all(finding.ok for finding in findings), findings
    status, _, err = run("new largest_digit.py", capsys)
    assert status == 2 and "exists" in err
    assert Path("largest_digit.py").read_text() == text


def test_check_prints_figures_and_its_status_is_the_result(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("new half_broken.py", capsys)
    file = Path("half_broken.py")
    file.write_text(file.read_text().replace("answer == truth", "True"))
    status, out, _ = run("check sorting ./half_broken.py:my/HalfBroken-v0 -n 20", capsys)
    wrong = [line.split()[1] for line in out.splitlines() if line.startswith("FAILS")]
    assert status == 1 and wrong == ["junk"] and "alphabetical solves " in out
    assert "20 of 20 in train (100,000), 20 of 20 in validation (256)" in out


def test_check_of_a_file_names_its_bad_rows_and_fails(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [{"prompt": f"{i}?", "answer": "many" if i in (4, 11) else "1"} for i in range(60)]
    Path("mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    status, out, _ = run("check mine.jsonl --verifier gsm8k", capsys)
    assert status == 1 and out.startswith("mine.jsonl\nFAILS  rows            2 of 60 rows")
    assert "line 5:" in out and "line 12:" in out


def test_reward_weights_are_those_of_training(capsys):
    status, out, _ = run("show sudoku -n 1 --reward-weights correct=3 format=0.5", capsys)
    assert status == 0 and "-- right: reward 3.5 (" in out
    status, _, said = run("check sudoku --reward-weights frmat=1", capsys)
    assert status == 2 and 'reward_weights="frmat" is unknown. Did you mean "format"?' in said
    assert "--reward-weights: " in run("check sudoku --reward-weights format", capsys)[2]

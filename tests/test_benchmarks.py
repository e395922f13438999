"""Every benchmark runs at a small size; the bases of the gauntlet can be made: their lengths hold what they learn."""

import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

import envs
from spg_trainer.algorithms import ALGORITHMS
from spg_trainer.models import tiny_tokenizer
from spg_trainer.reporting.compare import plan, read_word
from spg_trainer.settings.fields import CompareCommand

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

if not (BENCHMARKS / "gauntlet.py").is_file():  # tests copied beside an installed wheel
    pytest.skip("the benchmarks are not here", allow_module_level=True)

SCRIPTS = sorted({file.stem for file in BENCHMARKS.glob("*.py")} - {"measuring", "roman"})
"""All but what they share, and an environment, which the gauntlet opens by its path."""
BATCH = "--rows 40 --rounds 1 --characters 60"
STEP = "--vocabulary 64 --layers 1"
SHAPE = "--layers 1 --hidden-size 128 --vocabulary 256 --prompt-length 8 --completion-length 16 --batch 2 --lora-r 2"


@pytest.fixture(autouse=True)
def _open(monkeypatch) -> None:
    """The scripts as modules, on whatever cores this process has."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr("os.sched_setaffinity", lambda pid, cores: None, raising=False)


def run(script: str, words: str, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", [f"{script}.py", *shlex.split(words)])
    importlib.import_module(script).main()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_benchmark_says_how_it_is_used(script: str, monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit) as end:
        run(script, "--help", monkeypatch)
    assert end.value.code == 0 and "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("script", "words", "rows"),
    [
        ("verify", f"gsm8k {BATCH}", 2),
        ("verify", f"math500 {BATCH} --file completions.jsonl", 3),
        ("verify", f"countdown {BATCH}", 2),
        ("verify", f"sudoku {BATCH}", 2),
        ("verify", "files --rows 200 --characters 60", 2),
        ("decoding", "--rounds 1 --vocabulary 400 --layers 1 --rows 1 --length 64", 9),
        ("training_step", f"{STEP} --rounds 1", 2),
        ("memory", f"{STEP} --masks 2 4 --algorithms spg", 2),
        ("llada_step", f"{SHAPE} --device cpu --dtype float32 --rounds 1 --gradient-checkpointing", 2),
        ("environments", "--num-envs 4 --rounds 1 --envs arithmetic", 1),
        (
            "estimators",
            "--maskings random --masks 2 --completions 1 --repeats 2 --steps 4 --training-steps 20",
            9,
        ),
    ],
)
def test_a_small_size_prints_a_table(
    script: str, words: str, rows: int, tmp_path, monkeypatch, capsys
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("completions.jsonl").write_text(
        json.dumps({"completion": r"so \boxed{\frac12}", "answer": "0.5", "correct": True}) + "\n"
    )
    if script in ("training_step", "memory"):  # two to four processes; `--peak-of` is tried below
        monkeypatch.setattr(f"{script}.measure_peak", lambda script, form, given, num_masks: 1.0)
    if script == "estimators":  # one prompt in place of four, and what so small a model gets right by chance
        module = importlib.import_module(script)
        monkeypatch.setattr(module, "PROMPTS", module.PROMPTS[:1])
        monkeypatch.setattr(
            module, "rewards_of", lambda ids, mask, prompts: (ids[:, 0] == prompts[:, 0]).double()
        )
    run(script, words, monkeypatch)
    text = capsys.readouterr().out
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + rows, text
    assert script == "estimators" or re.search(r"\d+\.\d+x", table[-1])
    if script == "training_step":
        assert float(text.split()[-1]) < 1e-5  # both forms have one gradient


@pytest.mark.parametrize(
    ("script", "form"),
    [
        ("training_step", "baseline"),
        ("training_step", "ours"),
        ("memory", "spg"),
        ("memory", "all graphs at once"),
    ],
)
def test_a_peak_is_measured(script: str, form: str, monkeypatch, capsys) -> None:
    run(script, f"{STEP} --peak-of '{form}' --num-masks 2", monkeypatch)
    assert float(capsys.readouterr().out) >= 0


def test_every_base_has_room_for_what_it_learns() -> None:
    gauntlet, tokenizer = importlib.import_module("gauntlet"), tiny_tokenizer()
    made = [task for task in gauntlet.TASKS if task.base.startswith("sft")]
    assert len(made) == 9
    for task in made:
        if "reasoning_gym" in task.env:
            pytest.importorskip("reasoning_gym")
        words = task.base.split()
        name, arguments = read_word("--env", task.env)
        length = int(words[words.index("--max-completion-length") + 1])
        mixed = {word.partition("=")[0] for word in words if "=0." in word} - {"right"}
        env = envs.make(name, **arguments)
        problems = [env.problem(index) for index in range(800)]
        written = [{"right": env.demonstration(problem), **env.habits(problem)} for problem in problems]
        assert mixed <= set.intersection(*map(set, written)), task.name
        texts = [text for some in written for text in some.values()]
        longest = max(map(len, tokenizer(texts, add_special_tokens=False)["input_ids"])) + 1
        assert longest <= length, task.name


@pytest.fixture
def calls(monkeypatch) -> list[list[str]]:
    """What would have been started."""
    calls: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: calls.append(list(words)))
    monkeypatch.setattr(subprocess, "call", lambda words: calls.append(list(words)) or 0)
    return calls


def test_the_gauntlet_makes_missing_bases_and_compares(calls, tmp_path, monkeypatch, capsys) -> None:
    made = tmp_path / "bases" / "queens"
    made.mkdir(parents=True)
    (made / "COMPLETE").touch()
    for seed, after in enumerate(([1] * 8, [0] * 8)):
        folder = tmp_path / f"queens-raft-s{seed}"
        (folder / "eval").mkdir(parents=True)
        (folder / "summary.json").touch()
        for name, solved in (("before", [1, 0] * 4), ("after", after)):
            lines = [json.dumps({"correct": bool(each)}) for each in solved]
            (folder / "eval" / f"{name}.jsonl").write_text("\n".join(lines))
    run("gauntlet", f"{tmp_path} --tasks queens edits --seeds 2 --max-steps 5", monkeypatch)
    base, compare = calls
    assert base[3:6] == ["sft", "--env", "edits"] and base[-4] == "--output-dir"
    assert compare[compare.index("--model") + 1] == str(made) and compare[-2:] == ["--max-steps", "5"]
    assert "| queens-raft | 2 | 1 | 1 |" in capsys.readouterr().out


def test_a_name_that_no_task_has_is_told(monkeypatch, capsys) -> None:
    with pytest.raises(SystemExit):
        run("gauntlet", "folder --tasks chess", monkeypatch)
    assert "Roman-v0" in capsys.readouterr().err


def test_each_factor_is_a_setting_that_training_has(calls, tmp_path, monkeypatch, capsys) -> None:
    if "raft" not in ALGORITHMS:
        pytest.skip("no algorithm raft yet")
    run("factors", f"{tmp_path} --model tiny", monkeypatch)
    words = calls[0][calls[0].index("--algorithms") + 1 :]
    rows = tuple(words[: words.index("--seeds")])
    command = CompareCommand(env=("sudoku:level=4",), algorithms=rows, seeds=1, output_dir=str(tmp_path))
    assert len(plan(command, words[words.index("--") + 1 :])) == len(rows)

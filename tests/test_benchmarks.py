"""Every benchmark runs at a small size; the gauntlet makes its bases, and factors are settings that training has."""

import importlib
import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from spg_trainer.reporting.compare import plan
from spg_trainer.settings.fields import CompareCommand

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

if not (BENCHMARKS / "gauntlet.py").is_file():  # tests copied beside an installed wheel
    pytest.skip("the benchmarks are not here", allow_module_level=True)
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


def test_each_factor_is_a_setting_that_training_has(calls, tmp_path, monkeypatch, capsys) -> None:
    run("factors", f"{tmp_path} --model tiny", monkeypatch)
    words = calls[0][calls[0].index("--algorithms") + 1 :]
    rows = tuple(words[: words.index("--seeds")])
    command = CompareCommand(env=("sudoku:level=4",), algorithms=rows, seeds=1, output_dir=str(tmp_path))
    assert len(plan(command, words[words.index("--") + 1 :])) == len(rows)

"""Every benchmark runs at a small size; the gauntlet makes its bases, and factors are settings that training has."""

import argparse
import importlib
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from spg_trainer.reporting.compare import plan_runs
from spg_trainer.rollout.passes import Columns
from spg_trainer.settings.configs import CompareCommand
from tests.common.pretend_cuda import pretend_cuda

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
        ("verify", f"math500 {BATCH} --rows 6 --file completions.jsonl", 3),
        pytest.param("verify", f"countdown {BATCH}", 2, marks=pytest.mark.slow),
        pytest.param("verify", f"sudoku {BATCH}", 2, marks=pytest.mark.slow),
        ("verify", "files --rows 200 --characters 60", 2),
        (
            "decoding",
            "--rounds 1 --vocabulary 400 --layers 1 --rows 1 --length 32 --plain-steps 1 "
            "--ways exact dual threshold blocks",
            5,
        ),
        pytest.param(
            "decoding",
            "--rounds 1 --vocabulary 400 --layers 1 --rows 1 --length 32",
            10,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "doubled",
            "--rounds 1 --rows 1 --blocks 2 --block 4 --prompt 8 --layers 1 --vocabulary 64",
            2,
            marks=pytest.mark.slow,
        ),
        pytest.param("training_step", f"{STEP} --rounds 1", 2, marks=pytest.mark.slow),
        pytest.param("passes", "--prompts 2 --steps 1 --algorithms raft rspo", 2, marks=pytest.mark.slow),
        pytest.param("turns", "--turns 2 --rounds 1 --groups 1", 1, marks=pytest.mark.slow),
        pytest.param("memory", f"{STEP} --masks 2 4 --algorithms spg", 2, marks=pytest.mark.slow),
        pytest.param("memory", "--estimate --cases LoRA rollout", 2, marks=pytest.mark.slow),
        ("verdict_processes", "gsm8k --rows 40 --rounds 1", 1),
        pytest.param(  # in other modes by default, below
            "llada_step",
            f"{SHAPE} --device cpu --dtype float32 --rounds 1 --gradient-checkpointing",
            2,
            marks=pytest.mark.slow,
        ),
        ("experts", "--experts 16 --tokens 8 --hidden-size 64 --width 8 --rounds 1 --loop", 3),
        ("environments", "--num-envs 4 --rounds 1 --envs arithmetic", 1),
        pytest.param("mixes", "--tasks sudoku --problems 1", 1, marks=pytest.mark.slow),
        pytest.param(
            "teaching",
            "--tasks countdown --maskings gift lift --seeds 1 --steps 2 --every 2 --problems 2 -- --prompts-per-step 2",
            2,
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "estimators",
            "--maskings random informed --masks 2 --completions 1 --repeats 2 --steps 4 --oracle-steps 4 "
            "--training-steps 20",
            11,
            marks=pytest.mark.slow,
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
    if (
        script == "estimators"
    ):  # one prompt in place of four, and what any model gets right in half of its samples
        module = importlib.import_module(script)
        monkeypatch.setattr(module, "PROMPTS", module.PROMPTS[:1])
        monkeypatch.setattr(module, "rewards_of", lambda ids, mask, prompts: (ids[:, 0] % 2 == 0).double())
    merged = Columns._distinct
    run(script, words, monkeypatch)
    assert Columns._distinct is merged, "what a benchmark switches off, it switches on again"
    text = capsys.readouterr().out
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len(table) == 2 + rows, text
    assert script in ("estimators", "mixes", "teaching") or re.search(r"\d+\.\d+x", table[-1])
    if script == "training_step":
        assert float(text.split()[-1]) < 1e-5  # both forms have one gradient


@pytest.mark.parametrize(
    ("words", "rows"),
    [
        pytest.param("--lora-r 0 --device cpu --peak-tflops 0.001", 2, marks=pytest.mark.slow),
        ("--lora-r 0 --device cuda --peak-tflops 0.001", 2),
        ("--parts update --no-plain --device cuda --peak-tflops 0.001", 1),
        ("--parts rollout --no-plain --device cuda --peak-tflops 0.001 --cache dual --rows-per-forward 1", 1),
        pytest.param(
            "--parts rollout --no-plain --device cuda --peak-tflops 0.001 --unmasking threshold --threshold 0.9",
            1,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_training_step_is_measured_in_every_mode(words: str, rows: int, monkeypatch, capsys) -> None:
    """Also on a GPU, which is pretended here."""
    with pretend_cuda():
        run("llada_step", f"{SHAPE} --rounds 1 {words}", monkeypatch)
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + rows and all(re.search(r"[1-9]\d*\.\d%", line) for line in table[2:])


@pytest.mark.slow
def test_what_one_card_gives_is_measured_on_a_pretended_one(tmp_path, monkeypatch) -> None:
    """Each work that has a bar, and the tokens by graphs are the same."""
    module, step = importlib.import_module("one_card"), importlib.import_module("llada_step")
    args = argparse.Namespace(
        small=True, device="cuda", vocabulary=512, prompt=16, results=str(tmp_path / "found")
    )
    found = {}
    with pretend_cuda():
        for part in ("decode", "update", "weights"):
            module.PARTS[part](step, args, lambda work, **figures: found.update({work: figures}))
    assert {work for work in module.BARS if "compiled" not in work} == found.keys()
    equal = found.pop("tokens by graphs, five seeds")["text"]
    assert equal.count("1.0000 (0.0e+00)") == 5 and "NOT" not in equal
    assert all(figures["seconds"] > 0 for figures in found.values())


def test_the_tensors_of_one_of_two_processes_are_half_of_the_weights_and_of_the_optimizer(
    monkeypatch, capsys
) -> None:
    """And at the highest point of an update less than all that one process alone has."""
    most, made = {}, {}
    for processes, flags in ((1, ""), (2, "--processes 2 --shard layer")):
        run("tensors", f"{SHAPE} --lora-r 0 --device cpu --dtype float32 {flags}", monkeypatch)
        text = capsys.readouterr().out
        most[processes] = float(re.findall(r"update: ([\d.]+) MiB", text)[0])
        rows = re.findall(r"^\| (weights|adam.py: _init_group) \| ([\d.]+) \|$", text, flags=re.M)
        made[processes] = {name: float(size) for name, size in rows}
    for name, whole in made[1].items():
        assert made[2][name] == pytest.approx(whole / 2, abs=0.01)
    assert made[1]["adam.py: _init_group"] == pytest.approx(2 * made[1]["weights"], abs=0.02)
    assert most[2] < most[1] and not torch.distributed.is_initialized()


def test_the_clock_of_a_step_starts_and_stops_when_the_gpu_has_nothing_to_do(monkeypatch) -> None:
    with pretend_cuda() as waits:
        importlib.import_module("llada_step").measure(torch.device("cuda"), lambda: waits.append("work"))
    assert [wait if wait == "work" else wait.kind for wait in waits] == ["synchronize", "work", "synchronize"]


def step_of(words: str, monkeypatch) -> tuple:
    """The benchmark of a step, its settings and its model."""
    module = importlib.import_module("llada_step")
    monkeypatch.setattr("sys.argv", ["llada_step.py", *shlex.split(f"{SHAPE} --device cpu {words}")])
    given = module.arguments()
    return module, given, module.make_policy(given)


@pytest.mark.parametrize("lora_r", [0, 2])
def test_the_arithmetic_of_a_step_is_what_torch_counts(lora_r: int, monkeypatch) -> None:
    words = f"--layers 2 --prompt-length 1 --per-device-batch-size 8 --lora-r {lora_r}"
    module, given, policy = step_of(words, monkeypatch)
    ids, found = torch.zeros(3, 5, dtype=torch.long), {}
    if not lora_r:
        assert module.counted(lambda: policy.model(ids)) == module.forward_flops(given, 3, 5, 15)
    optimizer = torch.optim.AdamW([p for p in policy.model.parameters() if p.requires_grad])
    rollouts = module.invent(policy, given, 0)

    def update() -> None:
        found["masks"] = module.update(policy, optimizer, rollouts, given, 0)[1]

    counted = module.counted(update)
    assert counted == pytest.approx(module.update_flops(given, found["masks"]), rel=0.1)
    policy.model.eval().gradient_checkpointing_enable()  # as a rollout leaves it
    assert module.counted(update) > 1.2 * counted


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
    (made / "summary.json").touch()
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
    command = CompareCommand(env=("sudoku:level=4",), algorithms=rows, seeds=(1,), output_dir=str(tmp_path))
    assert len(plan_runs(command, words[words.index("--") + 1 :])) == len(rows)


@pytest.mark.slow
def test_a_divided_step_has_the_gradient_of_a_whole_one() -> None:
    """Two processes have the same completions, each of which counts half."""
    script = [
        str(BENCHMARKS / "llada_step.py"),
        *shlex.split(f"{SHAPE} --lora-r 0 --device cpu --no-plain --rounds 1"),
    ]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    said = [
        subprocess.run(line, capture_output=True, text=True, timeout=300, check=True).stdout
        for line in ([sys.executable, *script], [*torchrun, *script, "--shard", "phase"])
    ]
    norms = [text.rpartition("update: ")[2] for text in said]
    assert norms[0] == norms[1] and float(norms[0]) > 0
    assert "divided among 2 processes" in said[1] and said[1].count("| rollout") == 1


@pytest.mark.slow
def test_two_processes_are_timed_against_one(monkeypatch, capsys) -> None:
    run("processes", "--rounds 1 --prompts 2 --layers 1 --max-steps 1", monkeypatch)
    text = capsys.readouterr().out
    assert "8 completions a step; median of 1 steps" in text
    assert (
        len(re.findall(r"^\| (?:rollout|update) \| [\d.]+ \| [\d.]+ \| [\d.]+x \|$", text, re.MULTILINE)) == 2
    )


def test_the_figure_of_estimators_shows_each_masking_and_the_exact_ones(tmp_path):
    import estimators

    names = ("log p, decoder", "log p, block", "log p, any order")
    exact = {name: estimators.Figures(0.0, 0.0, 1.0, 0.9 - 0.2 * place) for place, name in enumerate(names)}
    one, two = estimators.Figures(-1.0, 2.0, 0.6, 0.4), estimators.Figures(-1.0, 1.4, 0.6, 0.5)
    found = {("random", "elbo"): [one, two], ("random", "mix"): [None, two], ("all", "elbo"): [one, None]}
    estimators.draw(exact, found, [1, 2], tmp_path / "figure.svg")
    drawn = (tmp_path / "figure.svg").read_text()
    for words in ("random", "all", "exact log p, block", "the mixture of those below the mean"):
        assert words in drawn


@pytest.mark.parametrize(("figure", "named"), [("level4", "spg_eubo"), ("speed", "verdicts: math500")])
def test_a_figure_of_a_page_shows_each_row_of_its_table(
    figure: str, named: str, tmp_path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setattr(sys, "argv", ["page_figures.py", figure, str(tmp_path / "drawn.svg")])
    importlib.import_module("page_figures").main()
    drawn = (tmp_path / "drawn.svg").read_text()
    committed = (BENCHMARKS.parent / "docs" / "images" / f"{figure}.svg").read_text()
    labels = re.findall(r">([^<>]+)</text>", drawn)
    assert named in labels and labels == re.findall(r">([^<>]+)</text>", committed)

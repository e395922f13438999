"""The command line: mistakes end in one line that names what to change, help comes at once, settings read back."""

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, fields, is_dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import envs
from spg_trainer import __version__, cli
from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError, as_flag
from spg_trainer.estimate.memory import arithmetic
from spg_trainer.settings import check
from spg_trainer.settings.configs import CompareCommand, Config, EvalCommand
from spg_trainer.settings.flags import ELSEWHERE
from spg_trainer.settings.model import settle_adapters
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.types import settings_of
from tests.common.task_file import write_task
from tests.common.trainer_cases import save_tiny


class Levelled(envs.TextEnv):
    """A task with an argument of its own."""

    reward_weights = {"correct": 1.0}  # noqa: RUF012

    def __init__(self, split: str = "train", depth: int = 1) -> None:
        self.split, self.depth = split, depth

    def __len__(self) -> int:
        return 9

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"{index}?", {"answer": index})

    def score(self, problem: envs.Problem, completion: str) -> dict[str, float]:
        return {"correct": float(completion == str(problem.reference["answer"]))}


COMMANDS = {"": Config, "eval": EvalCommand, "sft": Config, "compare": CompareCommand}


@pytest.fixture(autouse=True)
def idle_machine(monkeypatch) -> None:
    """What a command says of other work on the machine is not part of what these tests compare."""
    monkeypatch.setattr(check, "others_running", lambda: 0)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of Sudoku."""
    folder = save_tiny(tmp_path_factory.mktemp("models") / "small")
    (folder / "environment.json").write_text(json.dumps({"env": "sudoku", "preset": "tiny"}))
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; the libraries' own loudness is left as it is."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    return tmp_path


@pytest.fixture
def refused(here: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Types a command line, expects exit status 2 and one line, and returns that line."""

    def type_it(line: str, *words: str) -> str:
        status = cli.main(shlex.split(line))
        out, message = capsys.readouterr()
        assert (status, out) == (2, "")
        assert message.startswith("error: ") and message.count("\n") == 1 and message.endswith("\n")
        assert "Traceback" not in message and "│" not in message
        for word in words:
            assert word in message
        return message

    return type_it


@pytest.mark.parametrize(
    ("line", "words"),
    [
        # Names.
        ("evl --env sudoku", ["'evl'", "Did you mean 'eval'?", "Known: eval, generate, diff, sft, compare"]),
        ("train --env sudoku", ["'train'", "--env ENV trains"]),
        ("--env sudko", ['"sudko"', 'Did you mean "sudoku"?', "its module, my_package.my_module:"]),
        ("eval --env sodoku", ['Did you mean "sudoku"?']),
        ("sft --env suduko", ['Did you mean "sudoku"?']),
        ("--algorithm grpo", ["Did you mean 'diffu_grpo'?", "For use: ", "For comparison: "]),
        (
            "--algorithm mle --dry-run",
            ["--algorithm mle learns from demonstrations: python -m spg_trainer sft"],
        ),
        ("--algorithm sft", ["--algorithm sft: no such algorithm. `python -m spg_trainer sft` trains by"]),
        ("sft --algorithm raft --dry-run", ["--algorithm raft learns only from what the model", "mle"]),
        ("--algorithm spgg", ["--algorithm spgg", "Did you mean 'spg'?", "spg_repro"]),
        ("--max-step 3", ["--max-step.", "Did you mean --max-steps?", "--help"]),
        ("--num_generation=4", ["--num-generation.", "Did you mean --num-generations?"]),
        ("-n 4", ["No flag -n. "]),
        # What is no flag but has a place behind one.
        ("--algorithm wd1 --psi 0.5", ["psi is a hyper-parameter of wd1: --algorithm-args psi=0.5. "]),
        ("--psi=0.5", ["psi is a hyper-parameter of wd1, wd1_repro: --algorithm-args psi=0.5. "]),
        ("--num-masks 4", ["num_masks is a hyper-parameter of spg: --algorithm-args num_masks=4. "]),
        ("--level 2", ["level is an argument of the task sudoku: --env-args level=2. "]),
        ("eval --env countdown --level 2", ["of the task countdown: --env-args level=2. "]),
        ("--env countdown sudoku --blanks 3", ["of the task sudoku: --env-args sudoku.blanks=3. "]),
        ("--algorithm-args psi=0.5", ["psi=0.5: spg has no such setting; these have it: wd1, wd1_repro."]),
        ("--env a.jsonl --verifer gsm8k", ["Did you mean --verifier?"]),
        ("--algorithm spg,raft", ["`compare` takes several, divided by spaces: spg raft."]),
        ("--no-env sudoku", ["--no-env", "--help"]),
        ("--qqqq", ["--qqqq. All flags: python -m spg_trainer --help"]),
        ("eval --num-problem 3", ["Did you mean --num-problems?", "python -m spg_trainer eval --help"]),
        ("sft --mixx right=1", ["Did you mean --mix?", "python -m spg_trainer --help"]),
        ("sft --steps 10", ["No flag --steps. Did you mean --max-steps?"]),
        ("sft --batch-size 10", ["No flag --batch-size. Did you mean --prompts-per-step?"]),
        ("--dry-run extra", ["'extra'", "--help"]),
        ("report", ["No run to report"]),
        ("report nothing/here", ["nothing/here: there is no such folder (looked in "]),
        ("merge nothing/here", ["nothing/here: there is no such folder (looked in ", "Give a run or the"]),
        ("--config none.yaml", ["none.yaml: there is no such file (looked in ", "a YAML file"]),
        ("--gpu H100", ["--gpu H100 is what --dry-run", "Add --dry-run, or leave it out."]),
        ("report run --outptu x.html", ["Did you mean --output?", "python -m spg_trainer report --help"]),
        # Values.
        ("--num-generations 1", ["--num-generations 1", "at least 2"]),
        ("--max-steps -1", ["--max-steps -1", "a whole number, at least 0"]),
        ("--max-steps many", ["--max-steps 'many'", "whole number"]),
        ("--learning-rate 1e10 --dry-run", ["--learning-rate 10000000000.0", "at most 1"]),
        ("--model a..b/model --dry-run", ["'a..b/model' is no folder", "a Hub id ORG/NAME"]),
        ("--model org/model- --dry-run", ["'org/model-' is no folder"]),
        ("--learning-rate 0", ["--learning-rate 0: expected a number, above 0 and at most 1."]),
        ("--max-grad-norm nan", ["--max-grad-norm nan: expected a number, above 0."]),
        ("--adam-beta2 1", ["--adam-beta2 1: expected a number, at least 0 and below 1."]),
        ("--temperature -1", ["--temperature -1"]),
        (
            "--temperature 0 --dry-run",
            ["--temperature 0:", "8 times the same", "--algorithm raft", "--force"],
        ),
        ("eval --model tiny --temperature 1e10", ["--temperature 10000000000.0", "at most 100"]),
        ("--block-length 24 --max-completion-length 64", ["--block-length 24", "Use --block-length 32"]),
        ("--lora-r 8 --lora-alpha 0", ["--lora-alpha 0", "at least 1"]),
        ("--dtype float8", ["--dtype 'float8'", "float32"]),
        ("--remasking low", ["'low'", "--remasking", "low_confidence"]),
        ("--seed", ["--seed", "expected one argument", "--help"]),
        ("--env-args split=test", ["--env-args split=test", "--eval-split"]),
        ("--env-args blank=3", ['no argument "blank"', 'Did you mean "blanks"?']),
        ("--reward-weights corect=1", ['"corect"', 'Did you mean "correct"?']),
        ("--reward-weights correct=much", ["'much'", "a finite number"]),
        ("eval --num-generations 0", ["--num-generations 0", "at least 1"]),
        ("eval --tokens-per-step 0", ["--tokens-per-step 0: expected a number, above 0."]),
        ("eval --max-completion-length", ["--max-completion-length", "at least one argument"]),
        ("eval --max-completion-length 128 many", ["--max-completion-length 'many'", "whole number"]),
        ("eval --split tset", ["--split 'tset'", "validation"]),
        ("--algorithm tracerl --editing-threshold 0.5", ["--editing-threshold 0.5", "--algorithm raft"]),
        ("sft --ref-copy --dry-run", ["--ref-copy: --algorithm mle asks for no reference"]),
        ("--mix right=1", ["--mix is for --source demonstrations, not environment"]),
        ("--source pairs", ["--source pairs learns from a file. Name it with --pairs."]),
        ("sft --num-generations 2", ["each demonstration is one completion", "--num-generations 1"]),
        ("--max-completion-length 0", ["--max-completion-length 0", "Only demonstrations leave it open"]),
        ("sft --hidden-size 15", ["15", "4 heads", "--hidden-size 16"]),
        ("sft --data rows.jsonl", ["--data rows.jsonl", "no such file", "looked in"]),
        ("--model org/name --revision 'a b' --dry-run", ["--revision 'a b'", "--revision main"]),
        ("--model org/name --revision a..b --dry-run", ["--revision 'a..b'"]),
        ("--model org/name --revision a/.b --dry-run", ["--revision 'a/.b'"]),
        ("--revision main --dry-run", ["--revision main", "--model tiny", "Leave it out"]),
        ("eval --revision main", ["--revision main", "--model tiny", "Leave it out"]),
        ("--output-dir '' --dry-run", ["--output-dir ''", "Leave the flag out"]),
        ("--device gpu --dry-run", ["--device 'gpu'", "cuda:0"]),
        ("--env math500 --verifier gsm8k", ["--verifier gsm8k: math500 judges", "of your own rows"]),
        ("sft --device cpu:7", ["--device 'cpu:7'", "Use auto, cpu"]),
        ("--resume nowhere --dry-run", ["--resume nowhere", "no such folder"]),
        ("--resume auto --dry-run", ["--resume auto", "no unfinished run"]),
        ("--env-args level=17 --dry-run", ['level="17" is unknown. Known: 1, 2']),
        ("--output-dir /dev/null/run --dry-run", ["Cannot write /dev/null/run", "Not a directory"]),
        ("compare --output-dir /dev/null/all", ["Cannot write /dev/null/all", "Not a directory"]),
        ("compare --env rows.jsonl --verifier gsm8k", ["No flag --verifier", "behind ` -- `"]),
        ("compare --env-args level=2", ["No flag --env-args", "behind ` -- `"]),
        (f"--seed {2**63} --dry-run", [f"--seed {2**63}", f"at most {2**63 - 1}"]),
        ("--max-completion-length 100000000 --dry-run", ["--max-completion-length 100000000", "1000000"]),
        ("--mask-token-id 999 --dry-run", ["mask_token_id 999", "266 embeddings", "--mask-token-id"]),
        ("--sample-steps 0 --sample-rows 3", ["--sample-rows 3 says nothing with --sample-steps 0"]),
        ("--report=false", ["--no-report", "'false'"]),
        ("sft --max-completion-length 10 --max-steps 1", ["19 tokens", "--max-completion-length 19"]),
        # Pairs.
        (
            "--algorithm cj_grpo --temperature 0.9 --algorithm-args score_temperature=0.5 --dry-run",
            ["score_temperature=0.5: completions are sampled at --temperature 0.9", "the same temperature"],
        ),
        ("--algorithm-args eubo_bta=2", ["eubo_bta", "Did you mean 'eubo_beta'?", "num_masks"]),
        ("--algorithm-args negatives=elbow", ["negatives='elbow'", "Did you mean 'elbo'?"]),
        ("--algorithm-args num_masks=two", ["num_masks='two'", "a whole number"]),
        ("--algorithm-args eubo_beta=0.5", ["eubo_beta=0.5", "at least 1"]),
        ("--algorithm-args masking=trajectory p_mask_prompt=0", ["negatives=mix", "negatives=elbo"]),
        ("--algorithm-args", ["--algorithm-args", "at least one argument"]),
        ("--algorithm-args num_masks", ["--algorithm-args: num_masks", "KEY=VALUE"]),
        ("--algorithm-args num_masks=2 num_masks=4", ["--algorithm-args: num_masks=4", "twice"]),
        (
            "--algorithm-args num_masks=2 --algorithm-args num_masks=4",
            ["--algorithm-args: num_masks=4", "twice"],
        ),
        ("sft --mix rigth=1", ["rigth=1", "right, careless"]),
        ("sft --mix right=-1", ["--mix right=-1", "a number >= 0"]),
        ("sft --mix right=0 careless=0", ["all shares are 0", "--mix right=1"]),
    ],
)
def test_a_mistake_names_its_flag_and_what_would_be_right(refused, line: str, words: list[str]) -> None:
    refused(line, *words)


def test_an_argument_of_a_task_of_ones_own_has_its_place(refused, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"question": "1+1?", "solution": "2"}\n')
    words = "--env rows.jsonl --verifier gsm8k"
    refused(f"{words} --prompt question", "of the task rows.jsonl: --env-args prompt=question.")
    refused(f"{words} --answer solution", "of the task rows.jsonl: --env-args answer=solution.")
    assert "argument of" not in refused(f"{words} --columns a") + refused("--env none.jsonl --prompt a")
    write_task("task.py", Levelled, id="test/Levelled-v0")
    refused("--env ./task.py --depth 3", "depth is an argument of the task task.py: --env-args depth=3.")


def test_a_command_of_another_package_is_named(refused) -> None:
    refused("envs list", "No command 'envs'", "That is `python -m envs`")


@pytest.mark.parametrize("flag", ["--env-args completion=word", "--verifier gsm8k", "--reward mine.py:f"])
def test_texts_of_a_file_take_nothing_that_a_task_takes(refused, flag: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "completion": "b", "word": "c"}\n')
    refused(f"sft --data {tmp_path / 'rows.jsonl'} {flag}", "with --data there is no task", "--env FILE")


@pytest.mark.parametrize("command", ["", "eval ", "sft --max-completion-length 30 "])
def test_an_unknown_model_path_answers_with_the_nearest(refused, model: Path, command: str) -> None:
    wrong = model.with_name("smal")
    refused(f"{command}--model {wrong}", f"Did you mean '{model}'?")
    assert "Did you mean" not in refused(f"{command}--model {model.with_name('zebra')}"), "another name there"
    refused(f"{command}--model ./nowhere", "./nowhere", "--model takes tiny, ", "a folder, or a Hub id")


def test_a_model_of_texts_is_not_taken_for_one_of_sudoku(refused, tmp_path: Path) -> None:
    texts = save_tiny(tmp_path / "texts")
    (texts / "environment.json").write_text(json.dumps({"preset": "tiny"}))
    for command in ("eval ", "sft ", ""):
        refused(f"{command}--model {texts}", "was made from texts", "--env")
    refused(f"eval --model {texts} --env sudoku --split tset", "--split 'tset'")


def test_too_few_completions_for_the_processes_name_the_way_out(refused, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "32")
    few = "--prompts-per-step 3 --num-generations 8 --dry-run"
    refused(few, "3 leaves some of 32 processes without a completion", "4 or more")
    refused(f"{few} --algorithm stabledrl", "3 leaves some of 32 processes", "32 or more")


def test_a_dry_run_shows_what_each_task_pays_and_who_says_so(capsys) -> None:
    assert cli.main(shlex.split("--env sudoku --reward-weights cells=0.25 --dry-run")) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# reward of ")]
    assert line.startswith("# reward of sudoku") and "1 x correct (" in line and "0.25 x cells (flag)" in line
    paper = "--env gsm8k --env-args source=generated reward_preset=paper --dry-run"
    assert cli.main(shlex.split(paper)) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# reward of ")]
    assert "2 x exact (its reward_preset (flag))" in line and "xml_count" in line
    assert cli.main(shlex.split("--env sudoku countdown --dry-run")) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("# reward of ")]
    assert [line.split()[3].rstrip(":").partition("[")[0] for line in lines] == ["sudoku", "countdown"]


def test_a_dry_run_says_how_references_are_read_as_the_start_of_a_run_does(here, capsys) -> None:
    rows = [{"prompt": f"Price {n}?", "answer": "12,50" if n % 2 else f"x\n+{n}"} for n in range(200)]
    (here / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert cli.main(shlex.split("--env rows.jsonl --verifier math500 --force --dry-run")) == 0
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("# data: ")]
    assert "100 of 200 references are read as lists (`12,50`)" in line
    yaml.safe_load(out)


def dry(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The settings and the line of arithmetic that --dry-run prints; the comments behind it are an estimate."""
    assert cli.main(shlex.split(f"{line} --dry-run")) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.rstrip("\n").split("\n")
    assert not re.search(r"^(dry_run|gpu|processes|link|config):", out, re.MULTILINE), "the run's alone"
    settings = [line for line in lines if not line.startswith("# ")]
    assert lines[: len(settings)] == settings
    numbers = lines[len(settings)]
    return "\n".join(settings), numbers.removeprefix("# ")


LINES = [
    "",
    "--model some/where --seed 7 --lora-r 8 --learning-rate 1e-5",
    "--env-args blanks=4-11 --algorithm-args num_masks=3 negatives=elbo --reward-weights cells=0.25 correct=1",
    "--algorithm spg_repro --max-minutes 2.5 --eval-steps=5 --block-length 10 --output-dir out",
]


@pytest.mark.parametrize("line", LINES)
def test_what_a_dry_run_prints_reads_back_to_the_same_settings(here, capsys, line: str) -> None:
    settings, numbers = dry(line, capsys)
    (here / "again.yaml").write_text(settings)
    config = resolve(Config, shlex.split(line)).config
    again = resolve(Config, ["--config", "again.yaml"]).config
    algorithm = build(config.algorithm, config.hyper_parameters)
    assert build(again.algorithm, again.hyper_parameters) == algorithm
    config = replace(
        config, config="again.yaml", model=settle_adapters(config.model), algorithm_args=asdict(algorithm)
    )
    assert again == config and numbers == arithmetic(config, algorithm)
    assert not (here / "out").exists() and not (here / "runs").exists()


def test_a_dry_run_says_where_each_value_comes_from(here, capsys, model: Path) -> None:
    (here / "some.yaml").write_text(
        "optimizer: {warmup_steps: 9, max_grad_norm: 2.0}\nenv_args: {blanks: 3}\n"
    )
    line = (
        f"--model {model} --algorithm raft --config some.yaml --max-grad-norm 3 --lora-r 8 --env-args level=4 "
        "--algorithm-args p_mask_prompt=0.1"
    )
    settings, _ = dry(line, capsys)
    for expected in (
        f"env: sudoku  # {model}/environment.json",
        "  blanks: 3  # some.yaml",
        "  level: 4  # flag",
        "  block_length: 20  # recipes/sudoku.yaml: tiny",
        "  prompts_per_step: 32  # recipes/default.yaml: tiny",
        "  temperature: 1.5  # algorithms/recipes.yaml: raft tiny",
        "  learning_rate: 0.0006  # algorithms/recipes.yaml: raft tiny sudoku",
        "  num_masks: 4  # default",
        "  p_mask_prompt: 0.1  # flag",
        "  block_length: 20  # rollout.block_length",
        "  warmup_steps: 9  # some.yaml",
        "  max_grad_norm: 3.0  # flag",
        "  lora_r: 8  # flag",
        "  adam_beta2: 0.99  # default",
        "  track: []  # default",
    ):
        assert expected in settings.split("\n"), expected


def test_the_arithmetic_of_a_step_is_spelled_out(here, capsys) -> None:
    _, numbers = dry(
        "--prompts-per-step 6 --num-generations 4 --max-completion-length 64 --block-length 16 --diffusion-steps 32 "
        "--num-iterations 2 --algorithm-args num_masks=3 --per-device-batch-size 10 --max-steps 9",
        capsys,
    )
    assert re.findall(r"\d+", numbers) == "6 4 24 64 16 32 2 3 3 9".split()


def test_a_dry_run_refuses_more_prompts_than_there_are_problems(refused) -> None:
    """As a real start does, in the same words."""
    line = "--env-args size=3 --env tests.common.trainer_cases:test/Letters-v0 --prompts-per-step 4"
    words = ["--prompts-per-step 4: letters[size=3] has 3 to train on", "Use 3 or fewer."]
    assert refused(f"{line} --dry-run", *words) == refused(f"{line} --device cpu", *words)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_dry_run_for_other_machines_asks_for_no_device_of_this_one(here, capsys) -> None:
    words = ["--env", "sudoku", "--device", "cuda", "--dry-run"]
    assert cli.main(words) == 2 and "cuda" in capsys.readouterr().err
    assert cli.main([*words, "--gpu", "H100"]) == 0
    assert "H100: the run fits" in capsys.readouterr().out


def test_a_dry_run_is_shown_by_the_first_process_alone(here, capsys, monkeypatch) -> None:
    said = []
    for rank in ("0", "1"):
        monkeypatch.setenv("WORLD_SIZE", "2")
        monkeypatch.setenv("RANK", rank)
        assert cli.main(["--dry-run"]) == 0
        said.append(capsys.readouterr().out)
    assert "(2 processes x " in said[0] and said[1] == ""


def leaves(settings: object) -> list[str]:
    """The name of every setting, however deeply it is nested."""
    values = ((f.name, getattr(settings, f.name)) for f in fields(settings))
    return [n for name, value in values for n in (leaves(value) if is_dataclass(value) else [name])]


@pytest.mark.parametrize("command", COMMANDS)
def test_flag_names_are_unique_and_all_in_the_help(capsys, command: str) -> None:
    names = leaves(COMMANDS[command]())
    assert len(names) == len(set(names))
    with pytest.raises(SystemExit) as end:
        cli.main([*command.split(), "--help"])
    assert not end.value.code
    text = capsys.readouterr().out
    shown = set(re.findall(r"(?<![\w-])--([a-z][a-z0-9-]*)", re.sub(r"`[^`]*`", "", text)))
    assert {name.replace("_", "-") for name in names} <= shown
    assert "default: " in text
    if command == "":
        assert "lm-eval" in re.sub(r"-\n\s*", "-", text) and "model options" in text
    if command == "eval":
        assert re.findall(r"^. --([a-z-]+)", text, re.MULTILINE)[:3] == ["model", "num-problems", "env"]


LIGHT = """
import sys
from spg_trainer.cli import main
heavy = {"torch", "transformers", "numba", "sympy", "datasets", "gymnasium", "accelerate", "peft", "pandas"}
heavy |= {"matplotlib"}
for command in sys.argv[1:]:
    try:
        main([*command.split(), "--help"])
    except SystemExit as end:
        assert not end.code, command
    if found := sorted(heavy & sys.modules.keys()):
        sys.exit(f"{command} --help imported {found}")
"""


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """In one process, as what an earlier command has not imported a later one still would."""
    commands = ["", *cli.COMMANDS, "algorithms", "machine"]
    line = [sys.executable, "-c", LIGHT, *commands]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.returncode == 0, done.stderr
    for command in commands:
        assert f"usage: python -m spg_trainer {command} [-h]".replace("  ", " ") in done.stdout


MISTAKES = ["--env sudko", "eval --env sudko", "sft --env sudko", "compare --env sudko", "--algorithm spgg"]
MISTAKES += ["compare --algorithms spgg", "--max-step 3", "eval --num-problem 3"]


REFUSED = ["--max-steps -5", "--resume ./nobody", "--output-dir file", "--model ./nobody", "--device cuda"]
REFUSED += [
    "eval --model ./nobody",
    "sft --output-dir file",
    "sft --resume ./nobody",
    "merge ./nobody",
    "push",
]


def test_what_names_and_files_show_is_told_before_torch_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    lines = MISTAKES + [line for line in REFUSED if "cuda" not in line or version("torch").endswith("+cpu")]
    code = "import sys\nfrom spg_trainer.cli import main\ntold = all(main(x.split()) == 2 for x in sys.argv[1:])\n"
    line = [sys.executable, "-c", f"{code}sys.exit('torch' in sys.modules or not told)", *lines]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.returncode == 0 and done.stderr.count("Did you mean") == len(MISTAKES), done.stderr
    assert done.stderr.count("error: ") == len(lines)


@pytest.fixture(scope="module")
def dry_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """What a dry run of an embedded model in a process of its own says, and what that process counts as it ends.

    `imported`: the large packages that it has imported. `collections`: how often garbage was collected. `frozen`: how
    many objects the collector need not look through.
    """
    code = "import atexit, gc, json, runpy, sys\nphases = []\n"
    code += "gc.callbacks.append(lambda phase, info: phases.append(phase))\n"
    code += "large = {'transformers', 'accelerate', 'peft', 'datasets'}\n"
    code += "count = lambda: {'imported': sorted(large & sys.modules.keys()), 'collections': phases.count('stop'),\n"
    code += "                 'frozen': gc.get_freeze_count()}\n"
    code += "atexit.register(lambda: print(json.dumps(count())))\n"
    code += "sys.argv[1:] = '--env sudoku --lora-r 4 --dry-run'.split()\n"
    code += "runpy.run_module('spg_trainer', run_name='__main__')"
    line, folder = [sys.executable, "-c", code], tmp_path_factory.mktemp("dry")
    done = subprocess.run(line, capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.returncode == 0, done.stderr
    return done, json.loads(done.stdout.splitlines()[-1])


def test_the_dry_run_of_an_embedded_model_imports_no_transformers(dry_run) -> None:
    """They take three times as long to be imported as all that it does."""
    done, counts = dry_run
    assert counts["imported"] == [] and "weights: 0.86 million" in done.stdout


def test_a_dry_run_spends_no_time_on_garbage(dry_run) -> None:
    """Most of its time goes to importing torch; collections on the way and at the end would take a quarter more."""
    _, counts = dry_run
    assert counts["collections"] < 250 and counts["frozen"] > 100_000


@pytest.mark.parametrize(
    "line", ["--env chess", "--env poem", "--algorithm ppo", "serve", "--verbose", "--clip 1"]
)
def test_a_name_that_is_unlike_all_others_suggests_none(refused, line: str) -> None:
    assert "Did you mean" not in refused(line)


@pytest.mark.parametrize("words", ["--algorithm raft", "--force", "--remasking random"])
def test_what_can_learn_from_a_greedy_rollout_may_have_one(here, capsys, words: str) -> None:
    assert cli.main(shlex.split(f"--env sudoku --temperature 0 --dry-run {words}")) == 0


def test_flags_of_other_trainers_lead_to_ours(capsys) -> None:
    known = {as_flag(name).removeprefix("--") for name in settings_of(Config)}
    assert ELSEWHERE.keys() <= known and not known & set(" ".join(ELSEWHERE.values()).split())
    assert cli.main(["--lr", "3"]) == 2
    assert "Did you mean --learning-rate?" in capsys.readouterr().err


def test_without_a_word_it_explains_itself(capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main([])
    assert "--env" in capsys.readouterr().out


def test_closed_streams_end_nothing(tmp_path: Path) -> None:
    code = "import sys\nfrom spg_trainer.cli import main\nsys.exit(main(['--version']) or main(['evl']) - 2)"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} >&- 2>err; echo $? $(cat err)"
    done = subprocess.run(line, shell=True, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    assert done.stdout.startswith("0 error: No command 'evl'"), done.stdout


def test_version_is_named_at_once(capsys) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"spg-trainer {__version__}\n"


def test_a_stop_by_hand_is_one_line_a_bug_keeps_its_traceback(here, capsys, monkeypatch) -> None:
    def fail(*settings: object) -> None:
        raise errors.pop()

    errors = [KeyError("a bug"), KeyboardInterrupt()]
    monkeypatch.setattr(cli, "run_train", fail)
    assert cli.main(["--env", "sudoku"]) == 130
    assert capsys.readouterr().err == "\nStopped.\n"
    with pytest.raises(KeyError, match="a bug"):
        cli.main(["--env", "sudoku"])


@pytest.mark.parametrize("words", ["--help", "compare --help"])
def test_a_reader_who_has_had_enough_is_no_error(words: str, tmp_path: Path) -> None:
    line = f"{sys.executable} -m spg_trainer {words}".split()
    with subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path
    ) as started:
        started.stdout.close()
        said = started.stderr.read()
    assert (started.returncode, said) == (0, "")


@pytest.mark.parametrize("words", [["--verifier", "gsm8k"], ["--verifier=gsm8k"]])
def test_the_verifier_of_a_file_of_rows_is_an_argument_of_the_environment(words, tmp_path) -> None:
    line = ["--env", "x.jsonl", *words, "--env-args", "prompt=question"]
    assert resolve(Config, line).config.env_args == {"prompt": "question", "verifier": "gsm8k"}
    with pytest.raises(ConfigError, match="--verifier"):
        resolve(Config, ["--env", "x.jsonl", "--verifier", "--seed", "1"])

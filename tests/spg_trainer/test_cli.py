"""Mistakes on the command line: exit status 2 and one line that names what to change."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from spg_trainer import cli
from spg_trainer.models import Policy, new_tiny, save_model, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model that counts as one of the embedded kind."""
    folder = tmp_path_factory.mktemp("models") / "small"
    tokenizer = tiny_tokenizer()
    ends = (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>"))
    network = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24)
    save_model(Policy(network, tokenizer, tokenizer.mask_token_id, tokenizer.pad_token_id, ends, ""), folder)
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


# names, with the nearest known one


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("evl --env sudoku", ["No command 'evl'", "Did you mean 'eval'?", "Known: eval, sft"]),
        ("train --env sudoku", ["No command 'train'", "--env ENV trains"]),
        ("--env sudko", ['No environment "sudko"', 'Did you mean "sudoku"?', "--env my_package.my_module:"]),
        ("--env sudko --dry-run", ['Did you mean "sudoku"?']),
        ("eval --env sodoku", ['Did you mean "sudoku"?']),
        ("sft --env suduko", ['Did you mean "sudoku"?']),
        ("--algorithm spgg", ["--algorithm spgg", "Did you mean 'spg'?", "spg_repro"]),
        ("--max-step 3", ["No flag --max-step.", "Did you mean --max-steps?", "--help"]),
        ("--num_generation=4", ["No flag --num-generation.", "Did you mean --num-generations?"]),
        ("--qqqq", ["No flag --qqqq. All flags: python -m spg_trainer --help"]),
        ("eval --num-problem 3", ["Did you mean --num-problems?", "python -m spg_trainer eval --help"]),
        ("sft --mixx right=1", ["Did you mean --mix?", "python -m spg_trainer sft --help"]),
        ("--dry-run extra", ["extra", "--help"]),
    ],
)
def test_an_unknown_name_answers_with_the_nearest(refused, line: str, words: list[str]) -> None:
    refused(line, *words)


@pytest.mark.parametrize("command", ["", "eval ", "sft --max-completion-length 30 "])
def test_an_unknown_model_path_answers_with_the_nearest(refused, model: Path, command: str) -> None:
    wrong = model.with_name("smal")
    refused(f"{command}--model {wrong}", "no such folder", f"did you mean {model}?")
    refused(f"{command}--model ./nowhere", "no such folder", "--model takes `tiny`, a folder, or a Hub id")


# values


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--num-generations 1", ["--num-generations 1", "at least 2", "Try 8"]),
        ("--prompts-per-step 0", ["--prompts-per-step 0: should be at least 1"]),
        ("--max-steps -1", ["--max-steps -1: should be 0 or more"]),
        ("--learning-rate 0", ["--learning-rate 0.0: should be above 0"]),
        ("--max-grad-norm nan", ["--max-grad-norm nan: should be above 0"]),
        ("--adam-beta2 1", ["--adam-beta2 1.0: should be from 0 up to, but not, 1"]),
        ("--temperature nan", ["temperature=nan"]),
        ("--lora-r 8 --lora-dropout 1", ["--lora-dropout 1.0"]),
        ("--lora-r 8 --lora-alpha 0", ["--lora-alpha 0: should be at least 1"]),
        ("--max-steps many", ["--max-steps", "'many'", "--help"]),
        ("--remasking low", ["'low'", "--remasking", "low_confidence"]),
        ("--seed", ["--seed"]),
        ("--env-args split=test", ["--env-args split=test", "--eval-split"]),
        ("--env-args blank=3", ['no argument "blank"', 'Did you mean "blanks"?']),
        ("--reward-weights corect=1", ['no reward component "corect"', 'Did you mean "correct"?']),
        ("--reward-weights correct=much", ["'much'", "a finite number"]),
        ("eval --num-generations 0", ["--num-generations 0: should be at least 1"]),
        ("eval --num-problems -1", ["--num-problems -1: should be 0 or more"]),
        ("eval --tokens-per-step 0", ["--tokens-per-step 0.0: should be above 0"]),
        ("eval --rows-per-forward 0", ["--rows-per-forward 0: should be at least 1"]),
        ("eval --max-completion-length", ["--max-completion-length needs at least one length"]),
        ("eval --split tset", ["'tset'", "--split", "validation"]),
        ("sft --steps 0", ["--steps 0: should be at least 1"]),
        ("sft --batch-size 0", ["--batch-size 0: should be at least 1"]),
        ("sft --learning-rate inf", ["--learning-rate inf: should be above 0"]),
        ("sft --hidden-size 15", ["15", "multiple of 2 * n_heads = 8"]),
        ("sft --max-completion-length 10 --steps 1", ["19 tokens", "Use --max-completion-length 19 or more"]),
    ],
)
def test_a_value_that_cannot_work_names_its_flag(refused, line: str, words: list[str]) -> None:
    refused(line, *words)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (
            "--max-completion-length 64 --block-length 24",
            ["block_length=24 does not divide max_completion_length=64", "64 / 24 = 2.67", "block_length=32"],
        ),
        (
            "--max-completion-length 64 --block-length 16 --diffusion-steps 30",
            ["30 / 4 = 7.50 steps per block", "Use diffusion_steps=32"],
        ),
        (
            "--max-completion-length 64 --block-length 16 --diffusion-steps 128",
            ["only 16 tokens to unmask", "Use diffusion_steps=64 or fewer"],
        ),
        (
            "eval --max-completion-length 32 60 --block-length 16",
            ["block_length=16 does not divide max_completion_length=60"],
        ),
    ],
)
def test_sizes_that_do_not_divide_are_spelled_out(refused, line: str, words: list[str]) -> None:
    refused(line, *words)


def test_prompts_that_the_processes_cannot_share_name_both_ways_out(refused, monkeypatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    refused("--prompts-per-step 6 --dry-run", "6 cannot be shared by 4 processes", "4 or 8", "1, 2, 3, 6")


# KEY=VALUE pairs


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--algorithm-args eubo_bta=2", ["eubo_bta=2", "Did you mean 'eubo_beta'?", "num_masks"]),
        ("--algorithm-args negatives=elbow", ["negatives=elbow", "Did you mean 'elbo'?"]),
        ("--algorithm-args num_masks=two", ["num_masks=two", "a whole number"]),
        ("--algorithm-args eubo_beta=0.5", ["eubo_beta=0.5", "1 or more"]),
        ("--algorithm-args masking=trajectory negatives=mix", ["negatives=mix", "negatives=elbo"]),
        ("--algorithm-args", ["--algorithm-args: needs at least one KEY=VALUE pair"]),
        ("--algorithm-args num_masks", ["--algorithm-args: 'num_masks' is not of the form KEY=VALUE"]),
        ("--algorithm-args num_masks=2 num_masks=4", ["'num_masks' is given twice"]),
        (
            "--algorithm-args num_masks=2 --algorithm-args eubo_beta=2",
            ["--algorithm-args is given twice", "Put all pairs behind one"],
        ),
        ("sft --mix rigth=1", ["rigth=1", "no habit 'rigth'", "careless, right"]),
        ("sft --mix right=-1", ["--mix right=-1", "a number >= 0"]),
        ("sft --mix right=most", ["--mix right=most", "a number >= 0"]),
        ("sft --mix right=nan", ["--mix right=nan", "a number >= 0"]),
        ("sft --mix right=0 careless=0", ["all shares are 0", "--mix right=1"]),
        ("sft --mix right", ["--mix: 'right' is not of the form KEY=VALUE"]),
        ("sft --mix", ["--mix: needs at least one KEY=VALUE pair"]),
    ],
)
def test_pairs_that_cannot_be_meant_are_explained(refused, line: str, words: list[str]) -> None:
    refused(line, *words)


# folders and models


def test_a_folder_that_holds_a_run_is_refused_before_anything_is_loaded(
    refused, model: Path, here: Path
) -> None:
    run = here / "runs" / "a"
    run.mkdir(parents=True)
    (run / "config.yaml").write_text("env: sudoku\n")
    (run / "metrics.jsonl").write_text('{"step": 3}\n')
    line = f"--model {model} --output-dir {run}"
    refused(
        line, str(run), "already holds a run (3 steps, unfinished)", "--resume auto", "another --output-dir"
    )
    assert sorted(path.name for path in run.iterdir()) == ["config.yaml", "metrics.jsonl"]


def test_resuming_what_is_not_there_is_refused(refused, model: Path, here: Path) -> None:
    (here / "empty").mkdir()
    refused(f"--model {model} --resume {here / 'empty'}", str(here / "empty"))
    refused(f"--model {model} --resume auto", "no unfinished run", "--output-dir", "without --resume")


def test_a_model_without_a_mask_token_is_refused(refused, model: Path, here: Path) -> None:
    folder = here / "maskless"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        settings.pop("mask_token_id", settings.pop("mask_token", None))
        (folder / name).write_text(json.dumps(settings))
    refused(f"eval --model {folder}", "mask", str(folder))
    refused(f"--model {folder}", "mask", str(folder))


@pytest.mark.parametrize("width", ["40", "200"])
def test_frames_of_any_width_become_one_line(refused, monkeypatch, width: str) -> None:
    monkeypatch.setenv("COLUMNS", width)
    line = refused("--algorithm-args num_masks=2 num_masks=4")
    assert (
        line
        == "error: --algorithm-args: 'num_masks' is given twice. All flags: python -m spg_trainer --help\n"
    )
    box = "\n".join(
        [
            "╭─ Value error ──────╮",
            "│ Error parsing --a: │",
            "│ wrong \x1b[1mvalue\x1b[0m        │",
            "│ ────────────────── │",
            "│ more               │",
            "╰────────────────────╯",
        ]
    )
    assert cli.first_paragraph(box) == "--a: wrong value."

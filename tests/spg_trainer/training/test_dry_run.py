"""A dry run refuses what the run refuses, in the same words, and promises what the run has before its first step."""

import json
import random
import shutil
from collections import Counter
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from spg_trainer.algorithms import ALGORITHMS
from spg_trainer.cli import main
from spg_trainer.errors import SpgError, in_flags, written
from spg_trainer.models import new_tiny
from spg_trainer.settings import packages
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.dry_run import show
from spg_trainer.training.plan import settle
from tests.common.pair_cases import pairs_file
from tests.common.pretend_cuda import pretend_cuda
from tests.common.trainer_cases import (
    ENV,
    finished_run,
    made_once,
    save_adapter,
    save_tiny,
    save_writing,
    start,
)

ROWS = [{"prompt": "write " + "x" * n, "answer": str(n), "completion": "a" * n} for n in (3, 5, 9, 40, 90)]


def files(folder: Path) -> None:
    """Models, rows and pairs that settings can name, some of which do not fit."""
    save_adapter(folder / "adapter")
    save_tiny(folder / "short", max_length=48)
    save_writing(new_tiny("block", hidden_size=16, layers=1, heads=2, ffn=24), folder / "block")
    texts = {
        "rows.jsonl": [*ROWS, *({**row, "prompt": row["prompt"] + "."} for row in ROWS)],
        "fitting.jsonl": [{**row, "prompt": f"{n} {row['prompt']}"} for n in range(40) for row in ROWS[:3]],
        "templates.jsonl": [{"prompt": "fill", "completion_template": "a" * 9 + "_" * 9, "answer": "1"}] * 9,
        "long_pairs.jsonl": [
            {"prompt": row["prompt"], "chosen": row["completion"], "rejected": "7"} for row in ROWS
        ],
        "few_pairs.jsonl": [{"prompt": "write", "chosen": "a", "rejected": "7"}] * 2,
        "equal_pairs.jsonl": [{"prompt": "write", "chosen": "a", "rejected": "a"}] * 9,
    }
    for name, lines in texts.items():
        (folder / name).write_text("".join(f"{json.dumps(line)}\n" for line in lines))


def place(name: str) -> str:
    """A file or a folder of `files`."""
    return str(made_once("drawn", files) / name)


TASKS = [ENV, ENV, "arithmetic", "sudoku", "countdown", ["countdown", "sudoku"], "gsm8k", "math500"]
MODELS = ["tiny:block", "new", "new:block", "new:shift", "short", "block", "adapter", "nowhere"]
CHANGES: list[dict[str, Any]] = [
    *({"prompts_per_step": n} for n in (1, 3, 10, 5000)),
    *({"num_generations": n} for n in (1, 2, 3, 8)),
    *({"num_iterations": n} for n in (2, 0)),
    *({"num_minibatches": n} for n in (2, 99)),
    {"max_rollout_batches": 2},
    {"pools": True},
    {"pools": True, "all_right_weight": 0.1},
    {"all_wrong_weight": 0.1},
    *({"per_device_batch_size": n} for n in (1, 7, "auto", 0)),
    *({"max_completion_length": n, "block_length": n, "diffusion_steps": n} for n in (8, 16, 32, 120)),
    *({"block_length": n} for n in (0, 1, 4, 5)),
    *({"diffusion_steps": n} for n in (1, 3, 16, "length/2")),
    *({"temperature": x} for x in (0.0, 0.5, 101.0)),
    *({"remasking": name} for name in ("random", "low_confidence", "entropy", "highest")),
    *({"unmasking": name, "threshold": 0.99, "max_tokens_per_step": 4} for name in ("threshold", "budget")),
    {"unmasking": "threshold", "threshold": 0.5, "force": True},
    {"unmasking": "factor"},
    {"threshold": 0.99},
    {"top_p": 0.5},
    *({"min_completion_length": n} for n in (3, 300)),
    *({"cache": name} for name in ("prefix", "dual", "blocks", "all")),
    {"cache": "dual", "prompt_refresh_steps": 3},
    {"cache": "window", "window_tokens": 2},
    *(
        {"lora_r": 2, **more}
        for more in ({}, {"lora_dropout": 0.1}, {"lora_alpha": 3}, {"lora_experts": True})
    ),
    *({"lora_r": 2, "load_4bit": True, **more} for more in ({}, {"shard": "phase"})),
    {"lora_alpha": 4},
    {"ref_copy": True},
    {"compile": True},
    {"gradient_checkpointing": True},
    *({"dtype": name} for name in ("float32", "bfloat16", "float64")),
    {"shard": "phase"},
    *({"attention_block": n} for n in (0, 4)),
    *({"mask_token_id": n} for n in (3, 260, 999)),
    *({"chat_template_args": {name: True}} for name in ("enable_thinking", "no_such_name")),
    {"revision": "main"},
    *({"device": name} for name in ("auto", "cuda", "cuda:7", "gpu")),
    {"optimizer": "muon"},
    {"optimizer": "muon", "adam_moments": "8bit"},
    {"adam_moments": "8bit"},
    *({"learning_rate": x} for x in (1e-4, 2.0)),
    {"lr_schedule": "warmup_stable_decay", "lr_decay_share": 0.5},
    {"lr_decay_share": 0.5},
    {"save_dtype": "bfloat16"},
    {"track": ("no_such_tracker",)},
    *({"eval_steps": n} for n in (0, 2)),
    *({"eval_problems": n} for n in (0, 10**6)),
    {"eval_steps": 2, "validation_problems": 10**6},
    {"eval_steps": 2, "patience": 2},
    {"patience": 2},
    *({"max_steps": n} for n in (0, 1, 2, 9)),
    *({"overlong": name} for name in ("skip", "skip", "cut")),
    {"force": True},
    {"seed": 5},
    *({"algorithm_args": args} for args in ({"num_masks": 3}, {"masking": "none"}, {"no_such_name": 1})),
    {"gpu": "H100"},
]
"""Settings that go beside others, or cannot."""


def drawn(number: int) -> dict[str, Any]:
    """Settings by name: a task, a model, a source of completions and up to three changes."""
    stream = random.Random(number)
    given: dict[str, Any] = {"eval_problems": 2, "validation_problems": 2, "device": "cpu"}
    source = stream.choice(["environment"] * 5 + ["rows", "pairs", "demonstrations", "data", "resumed"])
    if source in ("environment", "demonstrations"):
        given["env"] = stream.choice(TASKS)
        if given["env"] == ENV:  # which has eight problems
            given["prompts_per_step"] = 4
    if source in ("environment", "rows", "pairs") and stream.random() < 0.3:
        name = stream.choice(MODELS)
        given["model"] = place(name) if name in ("short", "block", "adapter") else name
    if source == "environment" and stream.random() < 0.5:
        given["algorithm"] = stream.choice(sorted(ALGORITHMS))
    if source == "rows":
        name = stream.choice(["rows.jsonl", "fitting.jsonl", "templates.jsonl"])
        given |= {"env": place(name), "verifier": "gsm8k", "prompts_per_step": 3, "force": True}
    if source == "pairs":
        name = stream.choice(["pairs", "long_pairs.jsonl", "few_pairs.jsonl", "equal_pairs.jsonl"])
        given |= {"env": ENV, "pairs": str(pairs_file()) if name == "pairs" else place(name)}
        given |= {"algorithm": "vrpo", "num_generations": 2, "ref_copy": True, "prompts_per_step": 3}
    if source in ("demonstrations", "data"):
        given |= {"source": "demonstrations", "model": stream.choice(["new", "tiny", "new:block"])}
        given |= {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "prompts_per_step": 3}
    if source == "data":
        given |= {"data": place(stream.choice(["rows.jsonl", "fitting.jsonl"]))}
    if source == "resumed":
        given = {"resume": "."}
    for change in stream.sample(CHANGES, stream.choice([0, 1, 1, 2, 2, 3])):
        given |= change
    return given


def begun(given: dict[str, Any], folder: Path, dry: bool) -> str | Config:
    """The settings that a run would have at its first step, or what refuses them."""
    if given.get("resume"):
        shutil.copytree(finished_run()[0], folder, dirs_exist_ok=True)
        given = {**given, "resume": str(folder)}
    else:
        given = {**given, "output_dir": str(folder)}
    try:
        config = replace(defaults(Config, **given), dry_run=dry or bool(given.get("gpu")))
        check(config)
        planned = settle(config)
        if config.dry_run:
            show(planned)
        else:
            run = start(planned, quiet=True)
            run.folder.release()
    except (SpgError, *packages.errors()) as error:
        return f"{type(error).__name__}: {in_flags(written(error))}"
    return replace(planned.config, dry_run=False)


def test_a_dry_run_refuses_and_promises_what_the_run_does(tmp_path, at_length) -> None:
    """Settings that are drawn, every tenth on a GPU."""
    refusals = Counter()
    for number in range(300 if at_length else 10):
        given = drawn(number)
        with pretend_cuda() if number % 10 == 9 else nullcontext():
            if number % 10 == 9:
                given["device"] = "cuda"
            dry, wet = (begun(given, tmp_path / str(number), dry) for dry in (True, False))
        assert dry == wet, given
        refusals[wet if isinstance(wet, str) else ""] += 1
    started, count = refusals.pop(""), 1 + number
    assert started > 0.15 * count and len(refusals) > 0.15 * count, "of both there are many"


GEMMA = Path(__file__).parents[2] / "data" / "models" / "diffusion_gemma"
UNTRAINABLE: dict[str, tuple[dict[str, str], str]] = {
    "unknown to transformers": (
        {"config.json": '{"model_type": "no_such_type"}'},
        "model_type 'no_such_type'; those that can be trained here are Dream",
    ),
    "left to right": (
        {"config.json": '{"model_type": "gpt2"}'},
        "model_type 'gpt2'; those that can be trained",
    ),
    "its config.json alone": ({"config.json": ""}, "there is no model*.safetensors or pytorch_model*.bin"),
    "no tokenizer": ({"config.json": "", "model.safetensors": ""}, "cannot be opened: "),
    "a word too many": ({"config.json": '{"model_type": "llada", "no_such_setting": 1}'}, "no_such_setting"),
}
"""{what is wrong with a folder: ({file: its text; "" = as in the fixture}, what refuses it)}."""


def test_a_dry_run_on_a_folder_that_a_run_refuses_says_the_same(tmp_path, capsys) -> None:
    for number, (files_of_folder, sentence) in enumerate(UNTRAINABLE.values()):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in files_of_folder.items():
            (folder / name).write_text(text) if text else shutil.copy(GEMMA / name, folder / name)
        given = {"env": "sudoku", "model": str(folder), "device": "cpu"}
        dry, wet = (begun(given, tmp_path / "run", dry) for dry in (True, False))
        assert isinstance(wet, str) and sentence in wet and dry == wet
        words = ["--env", "sudoku", "--model", str(folder), "--dry-run", "--gpu", "H200", "--processes", "8"]
        assert main(words) == 2
        said = capsys.readouterr()
        assert sentence in said.err and not said.out

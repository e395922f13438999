"""Each row of the tables of refusals is met by a command line, and says its sentence with the figures filled in."""

import re
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from spg_trainer.algorithms import build
from spg_trainer.errors import in_flags
from spg_trainer.settings import check as tables
from spg_trainer.settings.check import Refusal, check, check_algorithm, check_processes
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.model import settle_adapters
from spg_trainer.settings.resolve import resolve

LINES = {
    "OF_A_TASK": """
        --env-args split=test
        --env-args reward_weights=1
        --load-4bit --shard layer
        --expert-parallel 2
        --revision main
        --model ORG/NAME --revision a..b
        --device gpu
    """,
    "OF_A_START": """
        --model new --hidden-size 30
        --model new --dtype bfloat16
        --load-4bit
    """,
    "OF_ADAPTERS": "--lora-alpha 4",
    "OF_A_TRAINING": """
        --merge-for-rollouts
        --compile --shard phase
        --compile --sequence-parallel 2
        --expert-parallel 2 --shard layer --lora-experts --lora-r 4
        --pairs rows.jsonl --source environment
        --data rows.jsonl
        --mix right=1
        --source pairs
        --source demonstrations --data missing.jsonl
        --source demonstrations --data rows.jsonl --mix right=1
        --source demonstrations --data rows.jsonl --env-args level=2
        --source demonstrations --num-generations 2
        --num-generations 1
        --processes 2
        --gpu H100
        --gpu H100 --device cpu --dry-run
        --patience 2 --eval-steps 0
        --all-right-weight 0.5
        --all-wrong-weight 0.5
        --pools --pairs rows.jsonl
        --importance-sampling-mode token_mask
        --importance-sampling-cap 3
        --mask-truncated --pairs rows.jsonl
        --sample-steps 0 --sample-rows 3
        --prompts-per-step 2 --num-minibatches 3
        --lr-decay-share 0.5
        --optimizer muon --adam-moments 8bit
        --shard layer --optimizer muon
        --shard layer --adam-moments 8bit
        --shard phase --save-dtype bfloat16
        --save-dtype bfloat16 --lora-r 4
    """,
    "OF_AN_EVALUATION": """
        --num-generations 2
        --num-masks 16
        --num-masks 12 --perplexity rows.jsonl
    """,
    "OF_PROCESSES": """
        2 --device xpu:1
        1 --shard layer
        3 --sequence-parallel 2
        3 --expert-parallel 2 --shard layer
    """,
    "OF_AN_ALGORITHM": """
        1 --algorithm forkgrpo --fallback surest --unmasking threshold
        1 --unmasking ./own.py:rule
        1 --unmasking threshold
        1 --algorithm d2_stepmerge --editing-threshold 0.5
        1 --algorithm mle
        1 --pairs rows.jsonl
        1 --source demonstrations --max-completion-length 32 --block-length 32 --max-rollout-batches 2
        1 --pairs rows.jsonl --algorithm vrpo --ref-copy --num-generations 3
        1 --algorithm justgrpo --block-length 20 --diffusion-steps 20
        1 --algorithm justgrpo --num-iterations 2
        1 --algorithm d2_stepmerge --algorithm-args score_temperature=0.5
        1 --ref-copy
        1 --algorithm vrpo --lora-r 0 --no-ref-copy
        2 --algorithm coupled_grpo --algorithm-args beta=0.04 --ref-copy --shard layer
        40 --prompts-per-step 1
        1 --temperature 0
    """,
}
"""{a table: for each of its rows, in their order, a command line that it refuses}; a number is that of processes."""


@pytest.mark.parametrize("table", LINES)
def test_each_row_refuses_what_it_is_about(table: str, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    for row, line in zip(getattr(tables, table), LINES[table].strip().splitlines(), strict=True):
        words = shlex.split(line)
        num_processes = int(words.pop(0)) if words[0].isdecimal() else 1
        with pytest.raises(row.error) as refused:
            judge(EvalCommand if table == "OF_AN_EVALUATION" else Config, words, num_processes)
        assert re.fullmatch(pattern(row), str(refused.value)), line


def judge(cls: type, words: list[str], num_processes: int) -> None:
    """Checks the settings of a command line, as a start does."""
    command = resolve(cls, words).config
    check(command)
    check_processes(command.model, num_processes)
    algorithm = build(command.algorithm, command.hyper_parameters)
    check_algorithm(replace(command, model=settle_adapters(command.model)), algorithm, num_processes)


def pattern(row: Refusal) -> str:
    """What matches the sentence of a row, whatever its figures."""
    return re.sub(r"\\\{.*?\\\}", ".+", re.escape(in_flags(row.sentence)))


def test_a_table_without_a_command_line_for_each_row_is_noticed() -> None:
    names = {name for name, value in vars(tables).items() if isinstance(value, tuple) and name.isupper()}
    assert names == LINES.keys()

"""The table of recipes in docs/published.md says what the recipes hold."""

from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS
from spg_trainer.settings.fields import Config
from spg_trainer.settings.resolve import defaults

PAGE = Path(__file__).parents[3] / "docs" / "published.md"


def shown() -> dict[str, list[str]]:
    """Algorithm -> the cells of its row."""
    section = PAGE.read_text(encoding="utf-8").partition("## The recipes")[2] if PAGE.exists() else ""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if "| `" in line
    ]
    return {cells[0].strip("`"): cells[1:] for cells in rows}


@pytest.mark.skipif(not PAGE.exists(), reason="the pages stand in the repository only")
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_recipe_is_in_the_table_as_it_is(name: str) -> None:
    config = defaults(Config, env="gsm8k", model="GSAI-ML/LLaDA-8B-Instruct", algorithm=name)
    o, r, b, m = config.optimizer, config.rollout, config.batch, config.model
    rate, decay, trained, temperature, lengths, size, updates, steps, source, _ = shown()[name]
    words = temperature.replace(",", "").split()
    assert (float(rate.split(",")[0]), "cosine" in rate, "linear" in rate) == (
        o.learning_rate, o.lr_schedule == "cosine", o.lr_schedule == "linear",
    )  # fmt: skip
    assert [float(cell) for cell in decay.split(",")] == [o.weight_decay, o.adam_beta2, o.max_grad_norm]
    assert trained == (f"LoRA {m.lora_r}/{m.lora_alpha or m.lora_r // 2}" if m.lora_r else "all")
    assert float(words[0]) == r.temperature
    assert (f"top-p {r.top_p:g}" in temperature) == (r.top_p < 1) and ("top-k" in temperature) == (
        r.top_k > 0
    )
    assert lengths == f"{r.max_completion_length}/{r.diffusion_steps}/{r.block_length}"
    assert size == f"{b.prompts_per_step} x {b.num_generations}"
    assert (int(updates), int(steps)) == (b.num_iterations * b.num_minibatches, config.max_steps)
    assert source


def test_where_sources_differ_by_task() -> None:
    """Temperatures and lengths on Sudoku and Countdown, which the task's own recipe must not decide."""

    def rollout(name: str, task: str):
        config = defaults(Config, env=task, model="GSAI-ML/LLaDA-8B-Instruct", algorithm=name)
        return config.rollout.temperature, config.rollout.max_completion_length, config.max_steps

    assert [
        rollout(name, "sudoku")[0] for name in ("diffu_grpo", "diffu_grpo_repro", "wd1", "wd1_repro")
    ] == [0.9] * 4
    assert rollout("stabledrl", "sudoku") == (0.9, 256, 1000)
    assert rollout("d2_stepmerge", "sudoku")[:2] == (0.3, 128)
    assert [rollout("bgpo", task)[::2] for task in ("math500", "sudoku", "countdown")] == [
        (0.6, 700),
        (0.6, 400),
        (0.6, 560),
    ]
    assert rollout("agrpo", "sudoku")[0] == 0.6

"""The program of docs/one_page.md against the trainer: the same loss on the same rollouts and masks."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from spg_trainer import Config, load_model
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.plan import settle
from spg_trainer.training.prepare import prepare
from spg_trainer.training.setup import open_run
from spg_trainer.training.update import gradient, plan_updates

PROGRAM = Path(__file__).parents[3] / "docs" / "one_page.py"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not PROGRAM.is_file(), reason="no docs/ beside the tests"),
]


@pytest.fixture
def page():
    """The program as a module."""
    spec = importlib.util.spec_from_file_location("one_page", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_update_has_the_loss_and_the_gradient_of_the_trainer(page, tmp_path):
    words = ["--prompts", "32", "--group", "8", "--masks", "2", "--eubo-beta", "1.5"]
    s = page.settings(words)
    run = open_run(
        settle(
            defaults(
                Config,
                env="sudoku",
                model="tiny",
                output_dir=str(tmp_path / "run"),
                algorithm="spg",
                algorithm_args={"masking": "random", "p_mask_prompt": 0.0, "eubo_beta": 1.5, "num_masks": 2},
                reward_weights={"format": 0.2},
                prompts_per_step=32,
                num_generations=8,
                per_device_batch_size=512,
                eval_steps=0,
                seed=1,
            )
        ),
        quiet=True,
    )
    rows, learned = prepare(run, run.source.collect(0))
    (planned,) = plan_updates(
        run.policy, run.algorithm, learned, run.config.batch, seed=1, purpose=("masks", 0)
    )
    expected = gradient(run.policy, run.algorithm, planned)["loss", "update"]
    run.folder.release()

    policy = load_model("tiny", env="sudoku")
    prompt, real = page.encode(policy, rows.problems)
    assert torch.equal(prompt, rows.prompt_ids) and torch.equal(real, rows.prompt_mask)
    advantages = page.advantages_of(rows.rewards, 8)
    assert torch.allclose(advantages.double(), rows.advantages, atol=1e-7) and advantages.any()
    batch = (prompt, real, rows.completion_ids, rows.completion_mask)
    active = (rows.advantages != 0).nonzero()[:, 0]
    parts = torch.cat([micro.episode for micro in planned.micro_batches])
    assert torch.equal(parts, active), "the masks are those of the active completions, in their order"
    masks = [torch.zeros(len(rows), 2, 20).to(kind) for kind in (torch.bool, torch.bool, torch.float32)]
    for micro in planned.micro_batches:
        drawn = micro.masks
        hidden = drawn.masked[..., -20:]
        for whole, part in zip(masks, (hidden, drawn.scored, drawn.weight.float()), strict=True):
            whole[micro.episode] = part
    found = page.add_gradient(policy, batch, masks, advantages, s)
    assert abs(found - expected) < 1e-6 and abs(found) > 1e-3
    grads = [torch.cat([p.grad.flatten() for p in p_of.model.parameters()]) for p_of in (policy, run.policy)]
    assert float((grads[0] - grads[1]).norm() / grads[1].norm()) < 1e-4


def test_it_trains_resumes_and_draws_masks_as_the_trainer_does(page, tmp_path):
    few = ["--prompts", "4", "--test", "4", "--validation", "4", "--eval-steps", "1", "--seed", "1"]
    for out, steps in (
        ("whole", [["--max-steps", "2"]]),
        ("parts", [["--max-steps", "1"], ["--max-steps", "2", "--resume"]]),
    ):
        for words in steps:
            page.train(page.settings([*few, *words, "--out", str(tmp_path / out)]))
    metrics = [(tmp_path / out / "metrics.jsonl").read_text().splitlines() for out in ("whole", "parts")]
    assert metrics[0] == metrics[1] and len(metrics[0]) == 2
    assert json.loads(metrics[0][0])["step"] == 1
    shown = torch.arange(6) < torch.tensor([[6], [3]])
    hidden, scored, weight = page.draw_masks(shown, 2000, torch.Generator().manual_seed(0))
    assert not (scored & ~shown[:, None]).any() and hidden[1, :, 3:].all() and scored.any(-1).all()
    assert weight.sum(-1).eq(shown.sum(-1)[:, None]).all(), "n tokens in all, however many are hidden"

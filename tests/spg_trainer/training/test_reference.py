"""The reference: the weights that a run started from, unmoved by updates, resumes and deleted folders."""

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from spg_trainer import algorithms
from spg_trainer.errors import CheckpointError, ConfigError, ModelError
from spg_trainer.models import load_model
from spg_trainer.settings.check import check_algorithm
from spg_trainer.training.loop import train, train_step
from spg_trainer.training.records import save_checkpoint
from tests.common.likelihood_cases import naive_logps
from tests.common.marks import slow_if
from tests.common.trainer_cases import (
    LORA,
    PROBE,
    REFERENCE_PROBE,
    Probe,
    adam_state,
    flip_last_bit,
    same_weights,
    save_adapter,
    small_config,
    start,
    step,
    tiny_folder,
    weights,
)


@dataclass(frozen=True)
class Kind:
    """What a run trains, and from where."""

    source: Path
    start: dict
    """Its settings."""

    def config(self, folder, **changes):
        settings = {"algorithm": REFERENCE_PROBE, "algorithm_args": {}, "num_iterations": 2, **self.start}
        return small_config(folder, model=self.source, **{**settings, **changes})


KINDS = {
    "fresh adapters": lambda folder: Kind(tiny_folder(), {**LORA, "lora_dropout": 0.3}),
    "an adapter": lambda folder: Kind(save_adapter(folder), {"lora_dropout": 0.3}),
    "all weights": lambda folder: Kind(shutil.copytree(tiny_folder(), folder), {"ref_copy": True}),
}


@pytest.fixture(params=slow_if(KINDS, lambda name: name == "an adapter"))
def kind(request, tmp_path):
    return KINDS[request.param](tmp_path / "source")


@pytest.fixture
def from_adapter(tmp_path):
    return KINDS["an adapter"](tmp_path / "source")


IDS = torch.arange(40, 60)[None]


def logits(model):
    with torch.no_grad():
        return model(input_ids=IDS).logits


def reference_logits(policy):
    with policy.reference() as reference:
        model = reference.model
        assert not any(module.training for module in model.modules()), "no dropout"
        return logits(model)


def go_on(config, steps):
    """Starts or resumes a run, makes so many steps of an algorithm that asks for no reference, and saves it."""
    run = replace(start(config, quiet=True), algorithm=algorithms.build(PROBE, config.hyper_parameters))
    for _ in range(steps):
        train_step(run)
    save_checkpoint(run)
    run.folder.release()
    Probe.seen.clear()
    return run


def test_scoring_with_the_reference_leaves_the_trained_model_as_it_was(kind, tmp_path):
    run = go_on(kind.config(tmp_path / "run"), steps=1)
    model = run.policy.model
    state = {name: (p.requires_grad, p.detach().clone()) for name, p in model.named_parameters()}
    before = logits(model.eval())
    for p in run.parameters:
        p.grad = torch.ones_like(p)
    for training in (True, False):
        model.train(training)
        with pytest.raises(KeyError), run.policy.reference():
            raise KeyError
        reference_logits(run.policy)
        assert {module.training for module in model.modules()} == {training}
    for name, p in model.named_parameters():
        assert p.requires_grad == state[name][0] and torch.equal(p, state[name][1])
    assert all(bool((p.grad == 1).all()) for p in run.parameters)
    assert torch.equal(logits(model.eval()), before)


def test_the_reference_is_neither_trained_nor_saved(from_adapter, tmp_path):
    run = go_on(from_adapter.config(tmp_path / "run"), steps=1)
    names = {name for name, p in run.policy.model.named_parameters() if p.requires_grad}
    assert len(names) == len(run.parameters) == 14 and not any("reference" in name for name in names)
    assert sum(len(group["params"]) for group in run.optimizer.param_groups) == 14
    checkpoint, plain = step(tmp_path / "run", 1), tmp_path / "plain"
    train(from_adapter.config(plain, algorithm=PROBE, max_steps=1), quiet=True)
    names = [{path.relative_to(place) for path in place.rglob("*")} for place in (checkpoint, step(plain, 1))]
    assert names[0] == names[1] and weights(checkpoint).keys() == weights(step(plain, 1)).keys()
    assert not (plain / "reference").exists()
    assert same_weights(checkpoint, step(plain, 1)), "keeping a reference changes nothing"


def test_a_run_moved_away_from_its_deleted_start_resumes_bit_equal(kind, tmp_path):
    expected = logits(load_model(str(kind.source), device="cpu").model)
    whole = go_on(kind.config(tmp_path / "whole"), steps=2)
    assert whole.state.updates == 4 and torch.equal(reference_logits(whole.policy), expected)
    assert float((logits(whole.policy.model) - expected).abs().max()) > 1e-3
    torch.manual_seed(5)
    go_on(kind.config(tmp_path / "before"), steps=1)
    folder = shutil.move(tmp_path / "before", tmp_path / "run")
    if kind.source != tiny_folder():
        shutil.rmtree(kind.source)
    resumed = go_on(kind.config(folder, resume="auto"), steps=1)
    assert torch.equal(reference_logits(resumed.policy), expected)
    places = [step(tmp_path / name, 2) for name in ("whole", "run")]
    assert same_weights(*places)
    states = [adam_state(place) for place in places]
    assert states[0] and all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    for file in ("metrics.jsonl", "checkpoints/step-000002/environment.json"):
        assert (tmp_path / "whole" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()


def test_a_run_that_lost_its_copy_is_refused_unless_nothing_was_trained(from_adapter, tmp_path):
    folder = tmp_path / "run"
    start(from_adapter.config(folder), quiet=True).folder.release()
    shutil.rmtree(folder / "reference")  # as if it had been killed before it was written
    go_on(from_adapter.config(folder, resume="auto"), steps=1)
    kept = folder / "reference"
    for lose in (
        lambda: flip_last_bit(next(kept.glob("*.safetensors"))),
        (kept / "COMPLETE").unlink,
        lambda: shutil.rmtree(kept),
    ):
        lose()
        with pytest.raises(CheckpointError, match=r"reference .* --output-dir"):
            start(from_adapter.config(folder, resume="auto"), quiet=True)


def test_a_reference_of_whole_weights_must_be_asked_for(tmp_path):
    with pytest.raises(ConfigError, match=r"--lora-r.*--ref-copy"):
        train(small_config(tmp_path / "run", algorithm=REFERENCE_PROBE), quiet=True)
    assert not (tmp_path / "run").exists()
    with (
        pytest.raises(ModelError, match="reference=True"),
        load_model(str(tiny_folder()), device="cpu").reference(),
    ):
        pass


def test_an_update_is_given_the_reference_s_logps(kind, tmp_path):
    settings = {"dtype": "float64", "lora_dropout": None, "per_device_batch_size": 64, "max_steps": 2}
    Probe.seen.clear()
    train(kind.config(tmp_path / "run", **settings), quiet=True)
    seen = list(Probe.seen)
    Probe.seen.clear()
    base = load_model(str(kind.source), dtype="float64", device="cpu")
    for shown in seen:
        batch, masks = shown["batch"], shown["masks"]
        assert batch.ref_logps.shape == shown["logps"].shape and (batch.ref_logps[~masks.scored] == 0).all()
    run = start(kind.config(tmp_path / "fresh", **settings), quiet=True)
    rollouts = run.source.collect(0)
    run.folder.release()
    expected = naive_logps(base.model, rollouts, seen[0]["masks"], base.mask_id)
    assert torch.allclose(seen[0]["batch"].ref_logps, expected, atol=1e-10)
    later = seen[2]["batch"]
    assert float((later.ref_logps - later.old_logps).abs().max()) > 1e-4


MOVING = {"ref_model_sync_steps": 2, "ref_model_mixup_alpha": 0.6, "beta": 1.0}
"""Of coupled_grpo: every second update."""


def moving(output, **changes):
    return small_config(
        output, algorithm="coupled_grpo", algorithm_args=MOVING, ref_copy=True, num_iterations=3, **changes
    )


def flat(parameters):
    return torch.cat([p.detach().flatten() for p in parameters])


def test_a_reference_that_moves_takes_in_its_share_of_the_weights_every_so_many_updates(tmp_path):
    """Three updates a step: it moves after the second, the fourth and the sixth."""
    run = start(moving(tmp_path / "run"), quiet=True)
    begun, updates, plain = flat(run.parameters), [], run.optimizer.step

    def noted():
        plain()
        updates.append(flat(run.parameters))

    run.optimizer.step, expected = noted, begun
    for count in (3, 6):
        train_step(run)
        for number in range(count - 2, count + 1):
            after = updates[number - 1]
            expected = 0.4 * expected + 0.6 * after if number % 2 == 0 else expected
        with run.policy.reference() as reference:
            model = reference.model
            assert torch.allclose(flat(model.parameters()), expected, atol=1e-6)
            assert not any(p.requires_grad for p in model.parameters())
    run.folder.release()
    assert float((expected - begun).abs().max()) > 1e-3 and len(updates) == 6


def test_a_reference_that_has_moved_resumes_bit_equal(tmp_path):
    runs = []
    for name, parts in (("whole", [2]), ("halves", [1, 1])):
        for steps in parts:
            run = start(moving(tmp_path / name, resume="auto"), quiet=True)
            for _ in range(steps):
                train_step(run)
            save_checkpoint(run)
            run.folder.release()
        runs.append(run)
    whole, halves = runs
    assert torch.equal(flat(whole.policy.frozen.parameters()), flat(halves.policy.frozen.parameters()))
    assert torch.equal(flat(whole.parameters), flat(halves.parameters))
    assert whole.state.history[-1]["kl"] == halves.state.history[-1]["kl"] > 0


def test_a_reference_of_adapters_stays_and_that_of_divided_weights_may_not_move(tmp_path, capsys):
    start(small_config(tmp_path, algorithm="coupled_grpo", algorithm_args={}, lora_r=2)).folder.release()
    assert "The reference stays the start" in capsys.readouterr().out
    algorithm = algorithms.build("coupled_grpo", {})
    with pytest.raises(
        ConfigError, match=r"shard: the reference .* every 64 updates.*ref_model_sync_steps=0"
    ):
        check_algorithm(moving(None, shard="phase"), algorithm, num_processes=2)

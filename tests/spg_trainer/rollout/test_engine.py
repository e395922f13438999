"""Rollouts on a serving engine: the client against a small engine of ours, which has SGLang's routes."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import Loss
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.likelihood.logps import path_logps
from spg_trainer.models import load_model
from spg_trainer.models.forward import head_weight
from spg_trainer.models.lora import merged_weights
from spg_trainer.rollout import engine as client
from spg_trainer.rollout.engine import Engine
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.sglang_plugin import draw, places_to_unmask
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows
from spg_trainer.training.importance import capped, engine_metrics, importance_weights
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle
from tests.common.family_cases import untrained
from tests.common.rollout_cases import pad
from tests.common.small_engine import SmallEngine, by_own_sampler, served
from tests.common.trainer_cases import assert_equal_runs, rows, saved_steps, small_config

GREEDY = Sampling(10, 5, 6, 0.0)
PROMPTS = [[7, 8, 9, 10, 11], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [20, 21, 22, 23, 24]]
"""Prompts of whole blocks of 5: a block that the completion's end cuts is decoded whole by an engine alone."""


def config(output, url, family="sdar", **changes):
    """A run of three steps on an engine, with adapters that change what it writes."""
    return small_config(
        output,
        model=untrained(family),
        rollout_engine=f"sglang:{url}",
        **{"lora_r": 2, "save_steps": 1, "eval_problems": 1, **changes},
    )


def small(family="sdar"):
    return SmallEngine(load_model(str(untrained(family)), device="cpu"), by_own_sampler)


@pytest.mark.parametrize("family", ["sdar", "llada2"])
def test_rows_are_those_of_the_own_sampler(tmp_path, family):
    """Also in what stands behind the end, and with other weights than those with which the engine began."""
    policy = load_model(str(untrained(family)), device="cpu", lora_r=2)
    stream = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.copy_(torch.randn(weight.shape, generator=stream))
    keys = [("rollout", 0, row) for row in range(len(PROMPTS))]
    player = Player(policy, GREEDY)
    expected = player.sample(pad(policy, PROMPTS), keys)
    with served(small(family)) as url:
        engine = Engine(config(None, url), tmp_path)
        with engine.serving(policy, "now"):
            found = engine.sample(player, pad(policy, PROMPTS), keys)
    for name, column in vars(expected).items():
        if name != "unmask_logps":
            assert torch.equal(getattr(found, name), column), name
    assert torch.allclose(found.unmask_logps, expected.unmask_logps, atol=1e-5)
    assert not found.engine_log_ratio.any() and float(found.unmask_logps.abs().max()) > 0.1
    assert len({tuple(row) for row in found.completion_ids.tolist()}) == 3
    assert not list(tmp_path.iterdir())  # the weights that were sent are gone


def test_merged_weights_are_those_that_peft_merges():
    policy = load_model(str(untrained("sdar")), device="cpu", lora_r=2)
    with torch.no_grad():
        for name, weight in policy.model.named_parameters():
            if ".lora_B." in name:
                weight.fill_(0.1)
    before = {name: value.clone() for name, value in policy.model.state_dict().items()}
    found = {name: value.clone() for name, value in merged_weights(policy.model)}
    assert all(torch.equal(value, before[name]) for name, value in policy.model.state_dict().items())
    merged = policy.model.merge_and_unload()
    assert found.keys() == merged.state_dict().keys()
    assert all(torch.equal(found[name], value) for name, value in merged.state_dict().items())
    name = "model.layers.0.self_attn.q_proj"
    assert not torch.equal(found[f"{name}.weight"], before[f"base_model.model.{name}.base_layer.weight"])


def test_a_run_on_an_engine_learns_from_its_rows(tmp_path):
    engine = small()
    with served(engine) as url:
        train(config(tmp_path / "run", url), quiet=True)
    found = rows(tmp_path / "run/metrics.jsonl")
    assert [row["step"] for row in found] == [1, 2, 3]
    assert all(0 < row["engine/logp_gap"] < 1e-5 for row in found), [r["engine/logp_gap"] for r in found]
    assert engine.calls == ["health", *["update_weights_from_disk", "generate"] * 3]
    assert len(set(engine.sums)) == 3


@pytest.mark.parametrize(
    ("broken", "sentence"),
    [
        ("die", "died or cannot be reached"),
        ("hang", "has not answered"),
        ("old weights", "answered with the weights 'of another training', not with those"),
        ("deaf", "answered with the weights"),
        ("no plugin", "without the plugin"),
        ("foreign", "wrote the token 1000000, and the model has 266: it serves another model"),
    ],
)
def test_an_engine_that_fails_ends_the_step_with_a_sentence(tmp_path, broken, sentence):
    policy = load_model(str(untrained("sdar")), device="cpu")
    engine = small()
    with served(engine) as url:
        engine.broken = broken
        minutes = 0.02 if broken == "hang" else 2.0
        connection = Engine(config(None, url, timeout_minutes=minutes), tmp_path)
        with pytest.raises(TrainingError, match=sentence) as raised:
            with connection.serving(policy, "now"):
                player, keys = Player(policy, GREEDY), [("r", i) for i in range(3)]
                connection.sample(player, pad(policy, PROMPTS), keys)
    assert f"--resume {tmp_path}" in str(raised.value)


def test_an_engine_that_does_not_run_is_missed_before_the_model_is_opened(tmp_path):
    with served(small()) as url:
        pass
    with pytest.raises(ConfigError, match=f"nothing answers at {url}/health. Start the engine first"):
        train(config(tmp_path / "run", url), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_run_whose_engine_died_goes_on_as_if_it_had_not(tmp_path):
    whole = tmp_path / "whole"
    engine = small()
    with served(engine) as url:
        train(config(whole, url), quiet=True)
    cut = tmp_path / "cut"
    engine = small()

    def die(metrics, _):
        if metrics["step"] == 2:
            engine.broken = "die"

    with served(engine) as url, pytest.raises(TrainingError, match="No step is lost"):
        train(config(cut, url), quiet=True, on_step=die)
    assert saved_steps(cut)[-1] == 2
    with served(small()) as url:
        train(config(cut, url, resume=str(cut)), quiet=True)
    assert_equal_runs(cut, whole)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": None}, "is sampled by the trainer alone"),
        ({"rollout_engine": "vllm"}, "use sglang"),
        ({"rollout_engine": "sglang:host"}, "http://HOST:PORT"),
        ({"rollout_engine": "sglang"}, "is not installed"),
        ({"block_length": 1, "diffusion_steps": 10}, "--block-length 5"),
        ({"unmasking": "factor", "force": True}, "use one of schedule, threshold, dynamic"),
        ({"remasking": "random"}, "no --remasking random"),
        ({"top_p": 0.9}, "no --top-p 0.9"),
        ({"load_4bit": True}, "with --load-4bit"),
    ],
)
def test_what_an_engine_cannot_do_is_refused(tmp_path, changes, sentence, monkeypatch):
    monkeypatch.setattr(client, "find_spec", lambda name: None)
    settings = {
        "model": untrained("sdar"),
        "rollout_engine": "sglang:http://127.0.0.1:1",
        "lora_r": 2,
        **changes,
    }
    with pytest.raises(ConfigError) as raised:
        settle(small_config(tmp_path / "run", **settings))
    assert sentence in str(raised.value)


@pytest.mark.parametrize("temperature", [0.2, 1.0])
def test_an_engine_of_known_noise_has_the_weights_of_importance(tmp_path, temperature):
    """p / p_engine is what both models give the drawn tokens at the temperature of drawing."""
    policy = load_model(str(untrained("sdar")), device="cpu")
    theirs = load_model(str(untrained("sdar")), device="cpu")
    engine = small()
    head = head_weight(theirs.model).data
    engine.noise = 0.01 * temperature * torch.randn(head.shape, generator=torch.Generator().manual_seed(1))
    head += engine.noise
    # A step writes a whole block, so that chance decides on tokens alone and not on their order.
    sampling, prompts = Sampling(10, 5, 2, temperature), PROMPTS[:2] * 30
    with served(engine) as url:
        connection = Engine(config(None, url), tmp_path)
        with connection.serving(policy, "now"):
            keys = [("rollout", 0, row) for row in range(len(prompts))]
            rows = connection.sample(Player(policy, sampling), pad(policy, prompts), keys)
    here, there = (path_logps(p, rows, temperature) for p in (policy, theirs))
    log_ratio = rows.engine_log_ratio.sum(-1)
    assert torch.allclose(log_ratio, (here - there).sum(-1), atol=1e-4)
    # An importance weight is 1 on average over what the engine draws.
    weights = log_ratio.exp()
    assert weights.std() > 0.1 and abs(weights.mean() - 1) < 4 * weights.std() / len(weights) ** 0.5
    assert torch.allclose(capped(Config(), weights), weights.clamp(max=2))


def sampled_by_an_engine(ratios: list[list[float]], episode: list[int], turn: list[int]) -> Rows:
    """Completions whose tokens have these p / p_engine."""
    shape = torch.tensor(ratios)
    return Rows(
        engine_log_ratio=shape.double().log(),
        completion_mask=torch.ones_like(shape, dtype=torch.bool),
        unmask_step=torch.zeros_like(shape, dtype=torch.int64),
        episode=torch.tensor(episode),
        turn=torch.tensor(turn),
        max_turns=1 + max(turn),
    )


def test_the_effective_sample_size_is_the_number_of_episodes_unless_few_weigh_most():
    def metrics(*ratios: list[float], **settings: object) -> dict[str, float]:
        rows = sampled_by_an_engine([*ratios], episode=[0, 0, 1, 2], turn=[0, 1, 0, 0])
        return engine_metrics(Config(**settings), rows)

    assert metrics(*[[1.0, 1.0]] * 4)["engine/effective_sample_size"] == 3
    # The two turns of the first episode weigh 0.5 together.
    found = metrics([0.5, 1.0], [1.0, 1.0], [0.5, 1.0], [4.0, 1.0])
    assert found["engine/effective_sample_size"] == pytest.approx(3.0**2 / (0.25 + 0.25 + 4))
    assert found["engine/capped"] == pytest.approx(1 / 3)
    assert found["engine/logp_gap"] == pytest.approx((2 * np.log(2) + np.log(4)) / 8)
    tokens = metrics(*[[1.0, 3.0]] * 4, importance_sampling_mode="token_mask")
    assert tokens["engine/effective_sample_size"] == 4 and tokens["engine/capped"] == 0.5


@pytest.mark.parametrize(
    ("mode", "weights"),
    [
        ("sequence_truncate", [3.0, 0.5]),
        ("sequence_mask", [0.0, 0.5]),
        ("token_truncate", [[3.0, 2.0], [0.5, 1.0]]),
        ("token_mask", [[0.0, 2.0], [0.5, 1.0]]),
    ],
)
def test_a_mode_weighs_completions_or_tokens_and_cuts_or_masks_what_is_above_the_cap(mode, weights):
    rows = sampled_by_an_engine([[4.0, 2.0], [0.5, 1.0]], episode=[0, 1], turn=[0, 0])
    config = Config(importance_sampling_mode=mode, importance_sampling_cap=3.0)
    assert torch.allclose(importance_weights(config, rows), torch.tensor(weights).double())


def test_a_token_s_weight_multiplies_its_gradient_and_leaves_the_loss():
    """Of a loss that is no sum over tokens."""

    def product(logps, masks, batch) -> Loss:
        return Loss((logps.sum((1, 2)).exp() * batch.advantages).sum(), {})

    algorithm = SimpleNamespace(needs=frozenset(), loss=product)
    masks = SimpleNamespace(split=lambda values: (values, None))
    weights = torch.tensor([[0.5, 2.0, 0.0], [1.0, 1.0, 3.0]])

    def gradient(**columns: object) -> tuple[float, torch.Tensor]:
        values = torch.linspace(-3, -0.1, 12).view(2, 2, 3).requires_grad_()
        batch = Rows(advantages=torch.tensor([1.0, -1.0]), **columns)
        loss = loss_of_values(algorithm, masks, batch, values).loss
        return loss.item(), torch.autograd.grad(loss, values)[0]

    (plain, free), (weighed, scaled) = gradient(), gradient(token_weights=weights)
    assert weighed == plain and torch.allclose(scaled, free * weights.unsqueeze(1))


def test_an_engine_unlike_the_model_has_its_rows_weighed(tmp_path):
    """To it each token is e^5 times less probable, so all rows weigh 2, but for those of a cut block alone."""
    advantages = {}
    for broken in ("", "unlike"):
        engine = small()
        engine.broken = broken
        with served(engine) as url:
            train(config(tmp_path / f"run{broken}", url, max_steps=1), quiet=True)
        samples = rows(tmp_path / f"run{broken}/samples/step-000001.jsonl")
        advantages[broken] = [row["advantage"] for row in samples]
    pairs = list(zip(advantages["unlike"], advantages[""], strict=True))
    rates = [round(heavy / light, 4) for heavy, light in pairs if light]
    assert set(rates) <= {1.0, 2.0} and rates.count(2.0) > len(rates) / 2
    (row,) = rows(tmp_path / "rununlike/metrics.jsonl")
    assert 2 < row["engine/logp_gap"] < 4.9, row["engine/logp_gap"]  # none counts in a cut block
    assert 1 < row["engine/effective_sample_size"] <= len(samples)


def test_a_row_s_noise_is_its_own():
    logits = torch.randn(3, 9, generator=torch.Generator().manual_seed(0))
    wanted = {"spg_seed": 5, "spg_temperature": 1.0}

    def tokens(logits, **changes):
        at = {"start": 8, "number": 1, **changes}
        return draw(logits, 2, {**wanted, **at.pop("params", {})}, at["start"], at["number"])[0].tolist()

    flat = torch.zeros(30, 50)
    assert tokens(flat) == tokens(flat.clone())
    others = [{"start": 12}, {"number": 2}, {"params": {"spg_seed": 6}}]
    assert all(tokens(flat, **change) != tokens(flat) for change in others)
    likely_mask = logits.index_fill(1, torch.tensor([2]), 90.0)
    assert all(2 not in tokens(likely_mask, params={"spg_temperature": t}) for t in (0.0, 1.0))
    greedy, logps, drawn_logps = draw(logits, 2, {}, 0, 0)
    assert torch.equal(greedy, logits.index_fill(1, torch.tensor([2]), -9.0).argmax(-1))
    assert torch.allclose(logps, logits.log_softmax(-1).gather(1, greedy[:, None])[:, 0])
    assert torch.equal(drawn_logps, logps)
    cold, logps, drawn_logps = draw(logits, 2, {**wanted, "spg_temperature": 0.5}, 0, 0)
    without_mask = logits.index_fill(1, torch.tensor([2]), float("-inf"))
    assert torch.allclose(drawn_logps, (without_mask / 0.5).log_softmax(-1).gather(1, cold[:, None])[:, 0])
    assert torch.allclose(logps, logits.log_softmax(-1).gather(1, cold[:, None])[:, 0])


@pytest.mark.parametrize(
    ("wanted", "number", "expected"),
    [
        ({}, 0, [2]),
        ({"spg_counts": [2, 1]}, 0, [2, 0]),
        ({"spg_counts": [2, 1]}, 7, [2]),
        ({"spg_threshold": 0.5}, 0, [2, 0, 3]),
        ({"spg_threshold": 0.99}, 0, [2]),
        ({"spg_threshold": 0.5, "spg_most": 2}, 0, [2, 0]),
        ({"spg_threshold": 0.9, "spg_counts": [3]}, 0, [2, 0, 3]),
    ],
)
def test_a_pass_unmasks_the_surest_tokens(wanted, number, expected):
    logps = torch.tensor([0.6, 0.1, 0.9, 0.5000001]).log().tolist()
    assert places_to_unmask(logps, wanted, number) == expected

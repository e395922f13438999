"""Training where completions are templates: every algorithm learns from what was written, and nothing else moves."""

import json
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest

import envs
from spg_trainer import evaluate
from spg_trainer.algorithms import ALGORITHMS
from spg_trainer.errors import ConfigError
from spg_trainer.models import load_model
from spg_trainer.rollout.long_prompts import Room
from spg_trainer.rollout.player import Player
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import GIVEN, Rows
from spg_trainer.training.fidelity import fidelity_means, fidelity_sums
from spg_trainer.training.loop import train
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import algorithm_config, one_step
from tests.common.trainer_cases import Letters, rows, small_config, tiny_folder
from tests.common.turn_cases import Talk

BLANKS = "tests.spg_trainer.training.test_templates:test/Blanks-v0"
TEMPLATES = ("ab[MASK*3]c[MASK]d", "", "[MASK*]z", "xy[MASK*]")


class Blanks(Letters):
    """Write letters into a text: each template in turn, of which one leaves everything to write."""

    task = "blanks"
    templates: ClassVar = TEMPLATES

    def problem(self, index: int) -> envs.Problem:
        return replace(super().problem(index), completion_template=self.templates[index % 4])


class Conversation(Talk):
    """Several turns, in each of which a text is filled in."""

    def problem(self, index: int) -> envs.Problem:
        return replace(super().problem(index), completion_template=TEMPLATES[index % 4])


class TooLong(Blanks):
    """A template that no completion of ten tokens can hold."""

    templates: ClassVar = (*TEMPLATES[:3], "twelve [MASK*]letters")


for name, cls in (("Blanks", Blanks), ("Conversation", Conversation), ("TooLong", TooLong)):
    envs.register(f"test/{name}-v0", cls)


def has_form(index: int, text: str) -> bool:
    """Whether a completion is what a template can become."""
    begin, end = (("ab", "d"), ("", ""), ("", "z"), ("xy", ""))[index % 4]
    return text.startswith(begin) and text.endswith(end) and ("c" in text[2:] or index % 4 != 0)


MASKS = ("spg", "justgrpo", "mapg")
"""Algorithms that mask differently: blocks, a token a copy, drawn positions."""


@pytest.mark.parametrize(
    "algorithm",
    slow_if(sorted(ALGORITHMS), lambda name: name != "spg"),
)
def test_micro_batches_give_the_gradient_of_the_whole(algorithm, tmp_path):
    """Two updates, with old and reference logps where it asks for them."""
    whole, metrics = one_step(
        algorithm_config(tmp_path / "whole", algorithm, env=BLANKS, per_device_batch_size=999)
    )
    parts, _ = one_step(algorithm_config(tmp_path / "parts", algorithm, env=BLANKS, per_device_batch_size=3))
    assert float(whole.norm()) > 1e-6 and relative(parts, whole) < 1e-10
    assert all(np.isfinite(value) for value in metrics.values() if value is not None)


def test_samples_tell_what_was_given(tmp_path):
    train(small_config(tmp_path / "run", env=BLANKS, max_steps=1), quiet=True)
    (file,) = (tmp_path / "run" / "samples").glob("step-*.jsonl")
    seen = set()
    for row in rows(file):
        seen.add(row["index"] % 4)
        assert has_form(row["index"], row["completion"])
        given = [i for i, step in enumerate(row["reveal_step"]) if step == GIVEN]
        assert all(row["confidence"][i] is None for i in given)
        text = "".join(row["tokens"][i] for i in given if not row["tokens"][i].startswith("<|"))
        assert text == ("abcd", "", "z", "xy")[row["index"] % 4]
    assert len(seen) > 1
    config = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert config["steps"] == 1


@pytest.fixture(scope="module")
def policy():
    return load_model(str(tiny_folder()), dtype="float64", device="cpu")


def play(player, env, generations=2):
    begun = Rows.full_groups(4, generations, max_turns=env.max_turns)
    return player.play(env, begun, key=("rollout", 0))


def test_every_turn_fills_the_template_anew(policy):
    scored = play(Player(policy, Sampling(10, 5, 10, 1.0)), Conversation(), generations=4)
    assert scored.turn.max() > 0
    for index, text in zip(scored.problem.tolist(), scored.completions, strict=True):
        assert has_form(index, text)


@pytest.mark.parametrize("cache", ["none", "window"])
def test_exact_decoding_of_the_same_template_is_the_same(policy, cache):
    more = {"cache": "window", "window_tokens": 99} if cache == "window" else {}
    sampling = Sampling(10, 5, 10, 1.0, **more)
    player = Player(policy, sampling)
    scored = play(player, Blanks())
    means = fidelity_means([fidelity_sums(player, scored, step=0)])
    assert means["decoding/equal_tokens"] == 1.0
    assert means["decoding/logp"] == pytest.approx(means["decoding/logp_exact"], abs=1e-9)


def test_an_evaluation_fills_templates(policy):
    env = Blanks("test")
    found = evaluate(policy, env, Sampling(10, 10, 10, 0.0))
    assert all(has_form(row["index"], row["completion"]) for row in found.rows)
    ended = {row["index"] % 4: row["ended"] for row in found.rows}
    assert ended[0] and ended[2], "a text that goes on behind the last hole has an end"
    assert all(row["length"] <= 4 for row in found.rows if row["index"] % 4 == 0)


def test_a_template_that_does_not_fit_is_known_before_the_first_step(policy, tmp_path):
    wanted = r"problem 3: the template takes 16 tokens or more, and a completion has 10. Use --max-completion-length 16"
    with pytest.raises(ConfigError, match=wanted):
        Room(policy, 10).long_problems(TooLong(), range(8))
    with pytest.raises(ConfigError, match=wanted):
        train(
            small_config(tmp_path, env="tests.spg_trainer.training.test_templates:test/TooLong-v0"),
            quiet=True,
        )
    assert not list(tmp_path.glob("samples/*"))

"""What people add from outside, each in one place: an algorithm, a masking, a remasking rule, a decoder."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import MASKINGS, Copies, Masking
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.resolve import resolve
from spg_trainer.settings.rules import CACHES, REMASKING, UNMASKING, Cache, Remasking, Unmasking
from spg_trainer.training.loop import train
from tests.common.trainer_cases import rows, small_config, steps_of

MY_ALGORITHM = '''
"""PPO's clipped ratio on masked tokens."""
from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from spg_trainer.algorithms import Algorithm, Loss, Metric


@dataclass(frozen=True)
class ClippedRatio(Algorithm):
    epsilon: float = 0.2
    level: Literal["token", "sequence"] = "token"
    needs: ClassVar[frozenset[str]] = frozenset({"old"})

    def loss(self, logps, masks, batch) -> Loss:
        ratio = (logps - batch.old_logps).exp()
        advantages = batch.advantages.to(logps)[:, None, None]
        terms = -(ratio * advantages).minimum(ratio.clamp(1 - self.epsilon, 1 + self.epsilon) * advantages)
        loss = (terms * masks.scored).sum() / batch.totals["tokens"]
        return Loss(loss, {"ratio": Metric((ratio * masks.scored).detach().sum(), "scored_tokens")})


class Unfinished(Algorithm):
    pass


number = 7
'''


@pytest.fixture
def my_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_algorithm.py").write_text(MY_ALGORITHM)
    (tmp_path / "broken.py").write_text("1 / 0")


def outside(folder, **changes):
    return small_config(folder, **{"algorithm_args": {"masking": "random"}, "max_steps": 2, **changes})


def test_an_algorithm_of_a_file_trains_and_resumes(my_file, tmp_path):
    arguments = {"masking": "random", "epsilon": 0.1, "level": "token"}
    settings = {
        "algorithm": "./my_algorithm.py:ClippedRatio",
        "algorithm_args": arguments,
        "num_iterations": 2,
    }
    train(outside(tmp_path / "run", max_steps=1, **settings), quiet=True)
    train(outside(tmp_path / "run", resume="auto", **settings), quiet=True)
    assert steps_of(tmp_path / "run") == [1, 2]
    assert all(row["ratio"] > 0 and row["grad_norm"] > 0 for row in rows(tmp_path / "run" / "metrics.jsonl"))


@pytest.mark.parametrize(
    "name, words",
    [
        ("./my_algorithm.py:ClipedRatio", "Did you mean 'ClippedRatio'"),
        ("./my_algorithm.py:number", "no class derived from spg_trainer.algorithms.Algorithm"),
        ("./my_algorithm.py:Unfinished", "Unfinished lacks loss"),
        ("./nowhere.py:Mine", "no file nowhere.py"),
        ("./broken.py:Mine", "ZeroDivisionError"),
        ("no_such_package.mine:Mine", "for a file write ./no_such_package/mine.py:MyClass"),
        ("./my_algorithm.py", "--algorithm ./my_algorithm.py:MyClass"),
    ],
)
def test_an_algorithm_that_cannot_be_had_says_why(my_file, name, words):
    with pytest.raises(ConfigError) as caught:
        build(name)
    assert words in str(caught.value) and f"--algorithm {name}" in str(caught.value)


@dataclass(frozen=True)
class FirstTokens(Masking):
    """Masks everything and scores the first tokens: block_length of them."""

    block_length: int = 32

    def copies(self, row):
        scored = np.tile(np.arange(row.size) < min(self.block_length, row.length), (self.num_masks, 1))
        return Copies(np.ones_like(scored), scored, 1.0)


def test_a_masking_is_a_class_and_a_line_of_the_table(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="random, block, block_active, trajectory"):
        build("spg", {"masking": "first"})
    monkeypatch.setitem(MASKINGS, "first", FirstTokens())
    settings = {"masking": "first", "negatives": "elbo", "block_length": 3}
    assert build("spg", settings).make_masking() == FirstTokens(2, 0.15, 3)
    train(outside(tmp_path / "run", algorithm_args=settings), quiet=True)
    assert all(row["bound/elbo"] < 0 for row in rows(tmp_path / "run" / "metrics.jsonl"))


@dataclass(frozen=True)
class WithoutLikelihood(FirstTokens):
    """The same, which says that its mean is no likelihood."""

    is_likelihood: ClassVar[bool] = False


@pytest.mark.parametrize("name", ["gdpo", "espo", "raft", "maxrl", "bgpo", "rspo"])
def test_a_masking_from_outside_serves_losses_of_likelihoods_unless_it_says_that_it_has_none(
    monkeypatch, name
):
    monkeypatch.setitem(MASKINGS, "first", FirstTokens())
    assert isinstance(build(name, {"masking": "first"}).make_masking(), FirstTokens)
    monkeypatch.setitem(MASKINGS, "first", WithoutLikelihood())
    with pytest.raises(ConfigError, match="--algorithm-args masking=first: expected one of "):
        build(name, {"masking": "first"})


def from_the_left(logps, generators, counts):
    return -torch.arange(logps.shape[1], dtype=torch.float32).expand(logps.shape)


def all_at_once(now, sampling):
    return now.masked


def block_and_one_before(sampling):
    return 1, 0


@pytest.mark.parametrize(
    "flag, names, table, rule, steps",
    [
        (
            "remasking",
            "low_confidence, random",
            REMASKING,
            Remasking(from_the_left),
            [0, 0, 1, 1, 2, 3, 3, 4, 4, 5],
        ),
        ("unmasking", "schedule, threshold, factor", UNMASKING, Unmasking(all_at_once), [0] * 5 + [1] * 5),
        ("cache", "none, prefix, dual, window", CACHES, Cache(block_and_one_before), None),
    ],
)
def test_a_way_to_decode_is_a_function_and_a_line(tmp_path, monkeypatch, flag, names, table, rule, steps):
    for command in (Config, EvalCommand):
        assert "mine" in str(resolve(command, [f"--{flag}", "mine"]).config)
    with pytest.raises(ConfigError, match=f"--{flag} 'mine' is .* Use one of: {names}"):
        train(outside(tmp_path / "run", **{flag: "mine"}), quiet=True)
    assert not (tmp_path / "run").exists()
    monkeypatch.setitem(table, "mine", rule)
    train(outside(tmp_path / "run", **{flag: "mine"}, force=True, max_steps=1), quiet=True)
    for sample in rows(tmp_path / "run" / "samples" / "step-000001.jsonl"):
        unmasked = [step for step in sample["reveal_step"] if step >= 0]
        assert unmasked and (steps is None or unmasked == steps[: len(unmasked)])

"""Completions that are judged while others are decoded: it happens, and changes nothing but the time it takes."""

import threading

import numpy as np
import pytest
import torch

import envs
from envs.combining.own_rewards import OwnRewards
from spg_trainer.models import load_model
from spg_trainer.rollout import cache
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.sampler import RolloutStopped, watching
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows
from spg_trainer.training.loop import train
from tests.common.trainer_cases import Letters, assert_equal_runs, small_config, tiny_folder

WAVES = Sampling(10, 5, 6, 1.0, cache="dual")
"""Two rows of these are decoded at a time, so that some are finished while others have not begun."""


class Batch(Letters):
    """Write letters; a call judges many completions, and each on its own."""

    score_while_decoding = True

    def __init__(self, split: str = "train") -> None:
        super().__init__(split)
        self.began, self.calls, self.wait = threading.Event(), [], lambda: None

    def score_batch(self, problems, completions):
        self.calls.append((threading.current_thread(), list(completions)))
        self.began.set()
        self.wait()
        share = np.array([sum(map(str.isalpha, text)) / 10 for text in completions])
        right = (share > 0.5).astype(float)
        return envs.Scores({"correct": right, "letters": share}, ["judged"] * len(share), list(completions))

    score = envs.TextEnv.score


envs.register("test/Batch-v0", Batch)


@pytest.fixture(scope="module")
def policy():
    return load_model(str(tiny_folder()), dtype="float64", device="cpu")


def played(policy, env, sampling=WAVES, report=lambda share: None, **settings):
    player = Player(policy, sampling, seed=5, rows_per_forward=2)
    with watching(report, **settings):
        return player.play(env, Rows.full_groups(3, 2, max_turns=env.max_turns), key=("rollout", 0))


def equal(one: Rows, other: Rows) -> bool:
    assert vars(one).keys() == vars(other).keys()
    for name, values in vars(one).items():
        others = getattr(other, name)
        if isinstance(values, torch.Tensor):
            same = torch.equal(values, others)
        elif isinstance(values, dict):
            same = all(np.array_equal(values[key], others[key]) for key in values)
        else:
            same = np.array_equal(values, others)
        if not same:
            return False
    return True


def test_the_next_rows_are_decoded_while_the_first_are_judged_and_nothing_else_changes(policy):
    plain, slow = Batch(), Batch()
    plain.score_while_decoding = False
    expected = played(policy, plain)
    went_on = threading.Event()

    def report(share):
        if 1 / 3 <= share < 1 and slow.began.wait(3):  # the first two of six rows are finished
            went_on.set()

    def wait():
        assert went_on.wait(3), "no denoising step was made while the first completions were judged"

    slow.wait = wait
    found = played(policy, slow, report=report)
    assert equal(found, expected) and set(found.reason) == {"judged"} and len(found) == 6
    threads, texts = zip(*slow.calls, strict=True)
    assert len(texts) > 1 and sorted(text for call in texts for text in call) == sorted(expected.completions)
    assert len(set(threads[:-1])) == 1 and threads[0] is not threading.main_thread() is threads[-1]
    ((thread, at_once),) = plain.calls
    assert thread is threading.main_thread() and at_once == expected.completions


def test_rows_that_end_together_are_judged_in_one_call_of_the_main_thread(policy):
    env = Batch()
    player = Player(policy, Sampling(10, 5, 6, 1.0), seed=5)
    rows = player.play(env, Rows.full_groups(1, 1, max_turns=1), key=("rollout", 0))
    assert len(rows) == 1 and [thread for thread, _ in env.calls] == [threading.main_thread()]


def test_an_error_of_the_judge_is_that_of_a_call_at_the_end(policy):
    said = []
    for meanwhile in (False, True):
        env = Batch()
        env.score_while_decoding = meanwhile
        env.reward_weights = {"correct": 1.0}
        with pytest.raises(envs.EnvError) as raised:
            played(policy, env)
        said.append(str(raised.value))
    assert said[0] == said[1] and "they must be correct" in said[0] and len(env.calls) == 1
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("spg-scoring")]


def test_several_turns_and_reward_functions_are_judged_at_the_end(policy):
    several, rewarded = Batch(), Batch()
    several.max_turns = 2
    rewarded.own_rewards = own = OwnRewards(rewarded, {})
    own.score_batch = lambda problems, texts: envs.Scores({}, [""] * len(texts), [None] * len(texts))
    for env in (several, rewarded):
        played(policy, env)
        assert {thread for thread, _ in env.calls} == {threading.main_thread()}
        assert sum(len(texts) for _, texts in env.calls) == 6


def test_a_rollout_that_is_stopped_has_the_scores_of_its_finished_rows(policy):
    stopped_at = []
    for meanwhile in (False, True):
        env = Batch()
        env.score_while_decoding = meanwhile
        shares = []
        with pytest.raises(RolloutStopped) as stopped:
            played(policy, env, report=shares.append, stops=lambda shares=shares: shares[-1] > 0.6)
        stopped_at.append(stopped.value.scored)
    assert equal(*stopped_at) and 0 < len(stopped_at[0]) < 6


def test_the_steps_of_a_run_have_the_same_metrics_samples_and_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "POSITIONS_PER_THREAD", 1)  # one row is decoded at a time
    scorers, score_batch = [], Batch.score_batch

    def noting(self, problems, completions):
        scorers.append(threading.current_thread().name)
        return score_batch(self, problems, completions)

    monkeypatch.setattr(Batch, "score_batch", noting)
    folders = [tmp_path / "end", tmp_path / "meanwhile"]
    for folder in folders:
        monkeypatch.setattr(Batch, "score_while_decoding", folder.name == "meanwhile")
        train(small_config(folder, env=f"{__name__}:test/Batch-v0", cache="dual", max_steps=2), quiet=True)
        assert any(name.startswith("spg-scoring") for name in scorers) == (folder.name == "meanwhile")
    assert_equal_runs(*folders)

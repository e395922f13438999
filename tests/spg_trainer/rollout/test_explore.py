"""--explore: who gets the completions of a step, what they are compared with, and that all ways to do it agree."""

from collections import defaultdict
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.explore import Rounds
from spg_trainer.settings.algorithm_checks import check_algorithm
from spg_trainer.settings.plan import check_training
from spg_trainer.training.loop import train
from spg_trainer.training.setup import start
from tests.common.process_cases import EXPLORERS, LORA, explore_config, explore_step, one_step
from tests.common.trainer_cases import PROBLEMS, assert_equal_runs, change, rows, small_config
from tests.common.turn_cases import TALK
from tests.common.two_processes import left_by


def played(rounds: Rounds, reward) -> list[list[int]]:
    """All rounds, where `reward` (group, number) is what a completion earns, right if it is 1: the sizes after each."""
    sizes = []
    while rounds.left:
        group, number = rounds.next()
        earned = np.array([reward(g, n) for g, n in zip(group.tolist(), number.tolist(), strict=True)])
        place = SimpleNamespace(group=torch.from_numpy(group))
        scored = SimpleNamespace(
            place=place, rewards=earned, correct=earned == 1, episodes=np.arange(len(group))
        )
        rounds.note(scored)
        sizes.append(rounds.size.tolist())
    return sizes


def test_groups_that_are_all_wrong_get_what_the_others_leave():
    right_from = [1, 5, 100, 0]  # the first right completion of each group; the last group is all right

    def reward(group: int, number: int) -> float:
        return float(number >= right_from[group])

    assert played(Rounds(4, 8, False), reward) == [[4, 4, 4, 4], [4, 8, 8, 4], [4, 8, 16, 4]]
    assert played(Rounds(4, 9, False), reward) == [[4, 4, 4, 4], [4, 8, 8, 4], [4, 8, 16, 4], [4, 8, 20, 4]]


def test_groups_that_are_all_right_come_after_those_that_are_all_wrong_but_where_they_teach():
    def reward(group: int, number: int) -> float:
        return [float(number == 0), 1.0, 0.5 * (number < 7)][group]

    assert played(Rounds(3, 10, False), reward) == [[5, 5, 5], [5, 5, 10], [5, 10, 10], [5, 15, 10]]
    assert played(Rounds(3, 10, True), reward) == [[5, 5, 5], [5, 5, 10], [9, 8, 13]]


@pytest.mark.parametrize("reward", [lambda group, number: 0.0, lambda group, number: float(number == 1)])
def test_where_no_group_or_every_group_teaches_all_get_as_many(reward):
    assert played(Rounds(5, 7, False), reward)[-1] == [7] * 5


def test_a_step_in_which_no_group_teaches_is_the_step_without(tmp_path):
    found = []
    for name, explore in (("with", True), ("without", False)):
        dull = {"dull": ",".join(map(str, range(PROBLEMS)))}
        config = explore_config(tmp_path / name, explore=explore, env_args=dull)
        run = start(config, quiet=True)
        found.append(run.source.collect(0))
        run.folder.release()
    with_rounds, without = found
    for name in ("problem", "generation", "turn", "episode", "group"):
        assert torch.equal(getattr(with_rounds.place, name), getattr(without.place, name)), name
    assert (with_rounds.rewards == without.rewards).all()
    assert with_rounds.completions == without.completions
    assert torch.equal(with_rounds.rollouts.unmask_step, without.rollouts.unmask_step)


def groups_of(samples: list[dict]) -> dict[int, list[dict]]:
    found = defaultdict(list)
    for sample in samples:
        found[sample["index"]].append(sample)
    return found


def test_a_completion_is_compared_with_all_of_its_group_whatever_its_size(tmp_path):
    train(explore_config(tmp_path / "run", num_iterations=2, num_minibatches=2), quiet=True)
    unequal = 0
    for row in rows(tmp_path / "run" / "metrics.jsonl"):
        samples = rows(tmp_path / "run" / "samples" / f"step-{row['step']:06d}.jsonl")
        groups = groups_of(samples)
        assert len(samples) == 4 * 5 and len(groups) == 4
        sizes = {index: len(group) for index, group in groups.items()}
        unequal += len(set(sizes.values())) > 1
        for index, group in groups.items():
            assert [sample["generation"] for sample in group] == list(range(len(group)))
            assert not index % 2 or all(sample["reward"] == 0 for sample in group)
            mean = sum(sample["reward"] for sample in group) / len(group)
            assert [s["advantage"] for s in group] == pytest.approx([s["reward"] - mean for s in group])
        dull = [size for index, size in sizes.items() if index % 2]
        assert not dull or min(dull) >= max(size for index, size in sizes.items() if not index % 2)
        assert row["reward"] == pytest.approx(sum(s["reward"] for s in samples) / 20)
        means = [np.std([s["reward"] for s in group]) for group in groups.values()]
        assert row["reward_std"] == pytest.approx(np.mean(means))
        assert row["frac_groups_all_wrong"] == np.mean(
            [not any(s["correct"] for s in g) for g in groups.values()]
        )
    assert unequal


def test_raft_compares_with_the_mean_of_the_whole_step(tmp_path):
    config = explore_config(tmp_path / "run", algorithm="raft", algorithm_args={}, max_steps=1)
    train(config, quiet=True)
    samples = rows(tmp_path / "run" / "samples" / "step-000001.jsonl")
    mean = sum(sample["reward"] for sample in samples) / len(samples)
    sizes = set()
    for group in groups_of(samples).values():
        above = [max(0.0, sample["reward"] - mean) for sample in group]
        expected, first = defaultdict(float), {}
        for sample, one in zip(group, above, strict=True):
            text = tuple(sample["tokens"]), sample["completion"]
            expected[text] += one / (sum(above) or 1.0) * max(above)
            first.setdefault(text, sample["generation"])
        for sample in group:
            text = tuple(sample["tokens"]), sample["completion"]
            own = expected[text] if first[text] == sample["generation"] else 0.0
            assert sample["advantage"] == pytest.approx(own)
        sizes.add(len(group))
    assert len(sizes) > 1


def test_step_means_that_differ_between_parts_of_a_step_are_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(SPG, "step_means", lambda self, view: {"reward": float(view.rewards.mean())})
    with pytest.raises(ConfigError, match=r"SPG.step_means are .* Set whole_step = True"):
        train(explore_config(tmp_path, algorithm="spg", algorithm_args={}, max_steps=1), quiet=True)


def test_a_run_that_goes_on_samples_what_one_that_was_never_interrupted_samples(tmp_path):
    train(explore_config(tmp_path / "whole"), quiet=True)
    train(explore_config(tmp_path / "halves", max_steps=2), quiet=True)
    train(explore_config(tmp_path / "halves", resume=str(tmp_path / "halves")), quiet=True)
    assert_equal_runs(tmp_path / "halves", tmp_path / "whole")


def test_smaller_micro_batches_have_the_same_gradient(tmp_path):
    changes = {"dtype": "float64", "max_grad_norm": 1e9}
    found = [
        one_step(explore_config(tmp_path / str(n), per_device_batch_size=n, **changes))[0] for n in (3, 99)
    ]
    assert float((found[0] - found[1]).norm()) <= 1e-10 * float(found[1].norm()) > 0


@pytest.mark.parametrize("algorithm", EXPLORERS)
def test_two_processes_sample_and_learn_what_one_does(tmp_path, algorithm):
    expected, metrics = explore_step(tmp_path, algorithm)
    for rank in (0, 1):
        found, its = left_by(rank)["explore"][algorithm]
        assert float((found - expected).norm()) <= 1e-10 * float(expected.norm()) > 0
        for name, value in metrics.items():
            assert its[name] == pytest.approx(value, rel=1e-9, abs=1e-10), name


def test_episodes_of_several_turns_stay_whole_and_in_order(tmp_path):
    config = explore_config(tmp_path, env=TALK, env_args={}, prompts_per_step=2, num_generations=4)
    run = start(config, quiet=True)
    scored = run.source.collect(0)
    run.folder.release()
    place, episodes = scored.place, scored.place.episode.tolist()
    assert sorted(set(episodes)) == list(range(8)) and episodes == sorted(episodes)
    for episode in set(episodes):
        turns = np.flatnonzero(place.episode == episode)
        assert place.turn[turns].tolist() == list(range(len(turns)))
        assert len({*zip(place.problem[turns].tolist(), place.generation[turns].tolist(), strict=True)}) == 1
        assert [scored.replies[turn] is None for turn in turns] == [False] * (len(turns) - 1) + [True]


def test_pools_know_groups_of_unequal_sizes(tmp_path):
    run = start(explore_config(tmp_path, pools=True), quiet=True)
    scored = run.source.collect(0)
    run.folder.release()
    assert run.source.pools.noted.keys() == set(scored.place.problem.tolist()) <= set(range(PROBLEMS))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"pairs": "pairs.jsonl"}, "--explore: each of --pairs has a right and a wrong"),
        ({"num_generations": 3}, "--num-generations 3: the first round of --explore samples half of them"),
        ({"max_rollout_batches": 2}, "--explore with --max-rollout-batches 2"),
    ],
)
def test_what_has_no_rounds_is_refused(changes, said):
    with pytest.raises(ConfigError, match=said):
        check_training(small_config(None, **{"explore": True, "num_generations": 4, **changes}))


@pytest.mark.parametrize("name", ["justgrpo", "tracerl", "wd1_repro", "d_treerpo"])
def test_algorithms_that_measure_the_whole_step_refuse_it(name):
    config = small_config(None, explore=True, algorithm=name, algorithm_args={}, **LORA)
    if name == "justgrpo":
        config = change(config, block_length=1, diffusion_steps=10)
    with pytest.raises(ConfigError, match=f"--explore gives groups unequal sizes, which --algorithm {name}"):
        check_algorithm(config, build(name, {}))

"""--max-rollout-batches: sampling goes on until enough groups of a step have unequal rewards."""

import itertools

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.problems import choose_more, choose_problems
from spg_trainer.tensors import without_rounding
from spg_trainer.training.loop import train, train_step
from tests.common.process_cases import dynamic_config, one_step
from tests.common.trainer_cases import PROBLEMS, rows, small_config, start, weights
from tests.common.turn_cases import TALK
from tests.common.two_processes import left_by


def test_a_step_learns_from_groups_that_differ_and_samples_on_until_there_are_enough(tmp_path):
    train(dynamic_config(tmp_path / "run"), quiet=True)
    for row in rows(tmp_path / "run" / "metrics.jsonl"):
        assert row["rollout_batches"] > 1 and row["groups/all_wrong"] > row["groups/all_right"] == 0
        assert row["frac_reward_zero_std"] > 0.5, "the figures are those of all that was sampled"
        samples = rows(tmp_path / "run" / "samples" / f"step-{row['step']:06d}.jsonl")
        assert len(samples) == 4 * 4 * row["rollout_batches"]
        learned = [sample for sample in samples if not sample["set_aside"]]
        assert len(learned) == 4 * 4 and not any(sample["index"] % 4 for sample in learned)
        assert any(sample["advantage"] for sample in learned)
        assert all(sample["advantage"] == 0 for sample in samples if sample["set_aside"])


@pytest.mark.slow
def test_where_the_first_batch_is_enough_nothing_changes(tmp_path):
    changes = {"env_args": {}, "max_steps": 2}
    train(dynamic_config(tmp_path / "one", **changes, max_rollout_batches=1), quiet=True)
    train(dynamic_config(tmp_path / "ten", **changes), quiet=True)
    one, ten = (weights(tmp_path / name / "model") for name in ("one", "ten"))
    assert all((one[name] == ten[name]).all() for name in one)
    assert [row["rollout_batches"] for row in rows(tmp_path / "ten" / "metrics.jsonl")] == [1, 1]


def test_where_too_few_groups_differ_others_fill_the_step_up(tmp_path):
    """Of eight problems, two of which pay: two batches have them all, and a third has none left."""
    dull = ",".join(map(str, range(2, PROBLEMS)))
    run = start(dynamic_config(tmp_path, env_args={"dull": dull}), quiet=True)
    scored = run.source.collect(0)
    run.folder.release()
    assert scored.batches == 2 and len(scored) == 4 * PROBLEMS
    index = scored.problem.numpy().reshape(-1, 4)[:, 0]
    assert sorted(index) == list(range(PROBLEMS)), "no problem twice"
    assert len(scored.chosen) == 4 and {0, 1} <= set(index[[*scored.chosen]])
    learned = scored.learned(4)
    assert learned.episode.tolist() == list(range(16)) and learned.chosen is None
    assert learned.problem.tolist() == np.repeat(index[[*scored.chosen]], 4).tolist()


def test_right_groups_are_kept_by_an_algorithm_that_they_teach(tmp_path):
    found = {}
    for name in ("spg", "raft"):
        arguments = {"algorithm": name, "algorithm_args": {}, "env_args": {}}
        run = start(dynamic_config(tmp_path / name, **arguments), quiet=True)
        assert run.source.right_groups_teach == build(name).right_groups_teach
        scored = run.source.collect(0)
        scored.rewards[:], scored.correct[:] = 1.0, True
        found[name] = run.source.groups_that_teach(scored).tolist()
        run.folder.release()
    assert found == {"spg": [False] * 4, "raft": [True] * 4}


def test_a_problem_counts_by_its_chance_of_a_mixed_group(tmp_path, monkeypatch):
    """Of two problems, drawn equally often as from many of either kind, the expected number of mixed groups that a step
    learns from, by enumeration of all draws and rewards."""
    batches, chances = 2, (0.5, 0.1)  # of a right completion
    mixed = [2 * p * (1 - p) for p in chances]  # of two completions
    config = dynamic_config(tmp_path, prompts_per_step=1, num_generations=2, max_rollout_batches=batches)
    run = start(config, quiet=True)
    groups = list(
        itertools.product((0, 1), itertools.product((0.0, 1.0), repeat=2))
    )  # (problem, its rewards)
    sampled = {
        (batch, problem): run.source.sample(0, batch, np.array([problem]), batch)
        for batch in range(batches)
        for problem in (0, 1)
    }
    run.folder.release()
    expected = np.zeros(2)
    for drawn in itertools.product(groups, repeat=batches):

        def sample(step, batch, index, groups_before, drawn=drawn):
            problem, rewards = drawn[batch]
            figures = {"rewards": np.array(rewards), "correct": np.array(rewards) > 0}
            return sampled[batch, problem].with_columns(**figures)

        monkeypatch.setattr(run.source, "sample", sample)
        scored = run.source.collect(0)
        (learned,) = scored.chosen
        problem, rewards = drawn[learned]
        right = [
            chances[problem] if reward else 1 - chances[problem]
            for problem, rewards in drawn
            for reward in rewards
        ]
        expected[problem] += (rewards[0] != rewards[1]) * np.prod(right) / 2**batches
    one_batch = np.array(mixed) / 2
    goes_on = 1 - one_batch.sum()
    assert expected == pytest.approx(one_batch * (1 + goes_on))
    assert expected[0] / expected[1] == pytest.approx(mixed[0] / mixed[1])


@pytest.mark.slow
def test_a_resumed_run_and_smaller_parts_sample_the_same(tmp_path):
    train(dynamic_config(tmp_path / "whole", max_steps=3), quiet=True)
    train(dynamic_config(tmp_path / "halves", max_steps=1), quiet=True)
    train(dynamic_config(tmp_path / "halves", max_steps=3, resume=str(tmp_path / "halves")), quiet=True)
    whole, halves = (weights(tmp_path / name / "model") for name in ("whole", "halves"))
    assert all((whole[name] == halves[name]).all() for name in whole)
    found = [
        one_step(dynamic_config(tmp_path / str(n), dtype="float64", per_device_batch_size=n)) for n in (3, 99)
    ]
    assert float((found[0][0] - found[1][0]).norm()) <= 1e-10 * float(found[1][0].norm())


def test_two_processes_sample_and_learn_what_one_does(tmp_path):
    expected, metrics = one_step(dynamic_config(tmp_path, dtype="float64", max_grad_norm=1e9))
    assert metrics["rollout_batches"] > 1
    for rank in (0, 1):
        found, its = left_by(rank)["dynamic"]
        assert float((found - expected).norm()) <= 1e-10 * float(expected.norm()) > 0
        for name, value in metrics.items():
            assert its[name] == pytest.approx(value, rel=1e-9, abs=1e-10), name


def test_episodes_of_several_turns_are_chosen_whole(tmp_path):
    config = dynamic_config(tmp_path, env=TALK, env_args={}, prompts_per_step=2)
    run = start(config, quiet=True)
    train_step(run)
    scored = run.source.collect(1)
    run.folder.release()
    learned = scored.learned(4)
    place = learned
    assert sorted(set(place.episode.tolist())) == list(range(8)) and place.has_turns
    assert torch.equal(place.group, place.episode // 4) and torch.equal(place.generation, place.episode % 4)
    assert torch.equal(place.turn, place.with_turns().turn)


def test_further_problems_are_new_ones():
    first = choose_problems(0, 3, 6, 20)
    second = choose_more(0, 3, 1, 6, 20, first.tolist())
    third = choose_more(0, 3, 2, 12, 20, [*first, *second])
    assert len({*first, *second, *third}) == len(first) + len(second) + len(third) == 20
    assert second.tolist() != choose_more(0, 3, 2, 6, 20, first.tolist()).tolist()


def test_pairs_of_a_file_need_no_more_batches(tmp_path):
    pairs = {
        "algorithm": "vrpo",
        "algorithm_args": {},
        "env_args": {},
        "source": "pairs",
        "pairs": str(tmp_path / "pairs.jsonl"),
    }
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 9)
    with pytest.raises(ConfigError, match="--max-rollout-batches 10: with --source pairs nothing is sampled"):
        start(dynamic_config(tmp_path / "run", num_generations=2, **pairs), quiet=True)


@pytest.mark.parametrize("algorithm", ["tracerl", "vrpo"])
def test_rewards_that_are_equal_but_for_rounding_teach_nothing(algorithm, tmp_path):
    """They move no weight, count as equal, and another batch is sampled in place of theirs."""
    # NVIDIA-NeMo/RL#4161: normalised advantages of rewards that only rounding told apart.
    own = "tests.common.trainer_cases:test/Rounded-v0"
    settings = {"env": own, "algorithm": algorithm, "algorithm_args": {}, "max_rollout_batches": 3}
    settings |= {
        "max_steps": 1,
        "eval_steps": 0,
        "eval_problems": 1,
        "force": True,
        "ref_copy": algorithm == "vrpo",
    }
    train(small_config(tmp_path, **settings), quiet=True)
    (row,) = rows(tmp_path / "metrics.jsonl")
    rewards = {sample["reward"] for sample in rows(tmp_path / "samples/step-000001.jsonl")}
    assert rewards == {0.6, 0.6000000000000001}
    assert row["frac_reward_zero_std"] == 1 and row["reward_std"] == 0 and row["rollout_batches"] == 2
    assert row.get("grad_norm", 0.0) == 0


def test_only_rounding_is_taken_from_rewards():
    rewards = np.array([[0.1 + 0.2 + 0.3, 0.6, 1.0], [0.3, np.float32(0.3), 0.30001]])
    assert without_rounding(rewards).tolist() == [[0.6, 0.6, 1.0], [0.3, 0.3, 0.30001]]
    differing = np.array([-1.5, 0.0, 1e-6, 0.25, 1.0])
    assert without_rounding(differing).tolist() == differing.tolist()

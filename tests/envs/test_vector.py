"""The batched form: one call for all, errors named, no autoreset; that it equals single episodes: test_tasks.py."""

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import envs
from envs import EnvError, Scores, TextVectorEnv
from tests.common import env_cases  # noqa: F401 - registers "batching" and "torn"


def score_batch(problems, completions) -> Scores:
    """Doubling's scores, in one pass."""
    if "boom" in completions:
        raise RuntimeError("the author's mistake")
    correct = [c == str(p.reference["answer"]) for p, c in zip(problems, completions, strict=True)]
    rewards = {"correct": np.array(correct), "short": [1 / (1 + len(c)) for c in completions]}
    return Scores(rewards, ["ok" if c else "wrong" for c in correct], completions)


def batching(value, indices: list[int]) -> TextVectorEnv:
    many = envs.make_vec("batching", len(indices))
    many.env.value = value
    many.reset(options={"index": indices})
    return many


def test_one_call_scores_all_and_an_exception_marks_only_its_completion():
    calls = []
    many = batching(lambda *batch: calls.append(1) or score_batch(*batch), range(8))
    observations, rewards, terminated, truncated, info = many.step([str(2 * i) for i in range(8)])
    assert observations == ("",) * 8 and terminated.all() and not truncated.any()
    assert rewards.dtype == np.float64 and set(info) == {"index", "rewards", "correct", "reason", "extracted"}
    assert len(calls) == 1 and info["correct"].all() and info["rewards"]["short"].dtype == np.float64
    assert rewards.tolist() == [1.25] * 5 + [1 + 0.5 / 3] * 3
    _, rewards, _, _, info = batching(score_batch, [0, 1, 2, 3]).step(["0", "boom", "4", "9"])
    assert info["reason"] == ["ok", "error", "ok", "wrong"] and rewards.tolist() == [1.25, 0.0, 1.25, 0.25]
    assert [trace is not None for trace in info["traceback"]] == [False, True, False, False]
    assert "the author's mistake" in info["traceback"][1]


def test_a_batch_that_raises_while_its_rows_score_is_an_error():
    def uneven(problems, completions) -> Scores:
        return score_batch(problems, ["boom"] if len(completions) > 1 else completions)

    def short(problems, completions) -> Scores:
        scores = score_batch(problems, completions)
        return Scores(scores.rewards, scores.reason[1:], scores.extracted)

    for value, message in (
        (uneven, r"score_batch.*RuntimeError.*alone"),
        (short, r"reason=\['ok'\] for 2 completions"),
    ):
        with pytest.raises(EnvError, match=message):
            batching(value, [0, 1]).step(["0", "2"])


def test_wrong_completions_and_indices_are_refused():
    many = envs.make_vec("sudoku", 2, split="validation")
    many.reset(options={"index": [7, 8]})
    for actions, message in (
        *((actions, "sequence of 2 strings") for actions in ("ab", None, iter(["a", "b"]), ["a"])),
        (["a", None], r"sudoku, problem 8: the action is None"),
    ):
        with pytest.raises(EnvError, match=message):
            many.step(actions)
    for index in ([1], [1, 2, 3], 5, [[1, 2]], [1, [2]], "12", [0, 256], [0, -1], [0.0, 1.0]):
        with pytest.raises(EnvError, match=r"2 integers|whole numbers"):
            many.reset(options={"index": index})


def test_a_reset_that_fails_leaves_the_episodes_before_it():
    many = envs.make_vec("torn", 2)
    many.reset(options={"index": [0, 0]})
    with pytest.raises(EnvError, match="torn, problem 5: KeyError"):
        many.reset(options={"index": [0, 5]})
    info = many.step(["0", "0"])[4]
    assert info["index"].tolist() == [0, 0] and info["correct"].all()


def test_the_vector_environment_says_that_it_never_resets_itself():
    many = envs.make_vec("sudoku", 2)
    assert many.metadata["autoreset_mode"] is AutoresetMode.DISABLED
    with pytest.raises(EnvError, match="reset"):
        many.step(["", ""])
    many.reset(seed=1)
    many.step(["", ""])
    with pytest.raises(EnvError, match=r"step\(\)"):
        many.step(["", ""])
    many.reset(seed=1)
    many.step(["", ""])


def test_random_problems_follow_the_seed_and_spaces_hold_what_passes():
    many = envs.make_vec("sudoku", 5, render_mode="ansi")
    prompts, first = many.reset(seed=4)
    again, other = many.reset(seed=4)[1], many.reset()[1]
    assert again["index"].tolist() == first["index"].tolist() != other["index"].tolist()
    assert many.observation_space.contains(prompts) and many.action_space.contains(("é",) * 5)
    assert all(many.action_space.contains(many.action_space.sample()) for _ in range(5))
    assert len(many.render()) == 5
    with pytest.raises(EnvError, match="num_envs=0"):
        envs.make_vec("sudoku", 0)


@pytest.mark.parametrize("shared_memory", [True, False])
def test_gymnasiums_async_vector_env_works_with_its_default(shared_memory):
    import gymnasium
    from gymnasium.vector import AsyncVectorEnv

    one = gymnasium.make("envs:spg/Countdown-v0")
    vector = AsyncVectorEnv(
        [lambda: gymnasium.make("envs:spg/Countdown-v0")] * 2, shared_memory=shared_memory
    )
    try:
        prompts, info = vector.reset(seed=[1, 2])
        assert list(prompts) == [one.reset(options={"index": index})[0] for index in info["index"].tolist()]
        again, _ = vector.reset(seed=[3, 4])
        assert list(prompts) != list(again), "what was returned stays as it was"
        _, rewards, terminated, _, _ = vector.step(("a", "b"))
        assert rewards.tolist() == [0.0, 0.0] and terminated.all()
    finally:
        vector.close()


def test_chats_pass_through_shared_memory_and_too_long_ones_are_refused():
    from envs import spaces
    from envs.spaces import PromptText

    space, chat = PromptText(), [{"role": "user", "content": "é" * 1000}]
    memory = spaces.create_shared_memory(space, 2)
    seen = spaces.read_from_shared_memory(space, memory, 2)
    assert list(seen) == ["", ""]
    spaces.write_to_shared_memory(space, 1, chat, memory)
    assert list(seen) == ["", chat] and seen[-1] == chat and seen[:1] == ("",)
    with pytest.raises(EnvError, match="shared_memory=False"):
        spaces.write_to_shared_memory(space, 0, "a" * (1 << 20), memory)

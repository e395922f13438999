"""Demonstrations for base models: what is drawn, in which shares, and how it is written as tokens."""

from collections import Counter
from typing import ClassVar

import pytest
import torch

import envs
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation import mix_hint
from spg_trainer.models import Policy, new_tiny, tiny_tokenizer
from spg_trainer.supervised import draw_demonstrations, encode_completions, mix_shares


class Count(envs.TextEnv):
    """Write the number of the problem, three times over."""

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}

    def __init__(self, split: str = "train", offset: int = 0) -> None:
        self.split, self.offset = split, offset

    def __len__(self) -> int:
        return 9 if self.split == "train" else 2

    def problem(self, index: int) -> envs.Problem:
        return envs.Problem(f"count {index + self.offset}", {"number": index + self.offset})

    def score(self, problem: envs.Problem, completion: str) -> envs.Score:
        right = completion == self.demonstration(problem)
        return envs.Score({"correct": float(right), "format": float(completion.isdigit())})

    def demonstration(self, problem: envs.Problem) -> str:
        return str(problem.reference["number"]) * 3

    def habits(self, problem: envs.Problem) -> dict[str, str]:
        return {"short": str(problem.reference["number"]), "wordy": "a" * 7}


envs.register("test/Count-v0", Count)


@pytest.fixture(scope="module")
def policy() -> Policy:
    """A model of the embedded kind, untrained."""
    tokenizer = tiny_tokenizer()
    ends = (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>"))
    model = new_tiny(hidden_size=16, layers=1, heads=2, ffn=24)
    return Policy(model, tokenizer, tokenizer.mask_token_id, tokenizer.pad_token_id, ends, "")


# the mix


def test_the_note_on_a_base_model_names_the_habits() -> None:
    assert mix_hint(Count()) == "; add --mix right=0.4 short=0.3 wordy=0.3 for its habits"

    class Plain(Count):
        def habits(self, problem: envs.Problem) -> dict[str, str]:
            return {}

    assert mix_hint(Plain()) == ""


def test_a_habit_may_not_be_called_right() -> None:
    class Twice(Count):
        def habits(self, problem: envs.Problem) -> dict[str, str]:
            return {"right": "1"}

    with pytest.raises(ConfigError, match="Twice has a habit named 'right'"):
        mix_shares({"right": 1}, Twice())


# what is drawn


def test_a_problem_that_raises_is_named() -> None:
    class Torn(Count):
        def problem(self, index: int) -> envs.Problem:
            raise KeyError(f"row {index}")

    with pytest.raises(envs.EnvError, match="problem 0 of Torn: KeyError 'row 0'"):
        mix_shares({}, Torn())
    with pytest.raises(envs.EnvError, match=r"problem \d of Torn: KeyError"):
        draw_demonstrations(Torn(), {"right": 1.0}, 0, 0, 1)


def test_a_row_depends_on_seed_step_and_row_only() -> None:
    env, mix = Count(), {"right": 0.5, "short": 0.5}

    def drawn(seed: int, step: int, count: int) -> list[tuple[str, str]]:
        problems, texts = draw_demonstrations(env, mix, seed, step, count)
        return [(problem.prompt, text) for problem, text in zip(problems, texts, strict=True)]

    first = drawn(0, 3, 40)
    drawn(9, 9, 5)
    torch.rand(3)
    assert drawn(0, 3, 40) == first
    assert drawn(0, 3, 12) == first[:12]
    assert drawn(0, 4, 40) != first != drawn(1, 3, 40)
    assert len(set(first)) > 10


def test_each_habit_gets_its_share_and_every_problem_its_turn() -> None:
    mix = mix_shares({"right": 1, "short": 2, "wordy": 0}, Count())
    assert mix == {"right": 1 / 3, "short": 2 / 3, "wordy": 0}
    problems, texts = draw_demonstrations(Count(), mix, 0, 0, 600)
    lengths = Counter(len(text) for text in texts)
    assert set(lengths) == {1, 3}
    assert abs(lengths[3] / 600 - 1 / 3) < 0.07
    assert {problem.reference["number"] for problem in problems} == set(range(9))
    for problem, text in zip(problems, texts, strict=True):
        assert text in (str(problem.reference["number"]) * 3, str(problem.reference["number"]))


def test_without_a_mix_everything_is_right() -> None:
    assert mix_shares({}, Count()) == {"right": 1.0}


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        ({"sort": 1}, "no habit 'sort'. Known: right, short, wordy"),
        ({"right": -0.1}, "a share is a number >= 0"),
        ({"right": "half"}, "a share is a number >= 0"),
        ({"right": True}, "a share is a number >= 0"),
        ({"right": float("inf")}, "a share is a number >= 0"),
        ({"right": 0, "short": 0}, "all shares are 0"),
    ],
)
def test_a_mix_that_cannot_be_meant_is_refused(mix: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        mix_shares(mix, Count())


# how it is written


def test_a_completion_ends_with_one_end_token_and_then_padding(policy: Policy) -> None:
    ids = encode_completions(policy, ["12", "", "1234567"], 8)
    end, pad = policy.end_token_ids[-1], policy.pad_id
    assert ids.shape == (3, 8) and ids.dtype == torch.int64 and end != pad
    one, two = policy.tokenizer.convert_tokens_to_ids(["1", "2"])
    assert ids[0].tolist() == [one, two, end, pad, pad, pad, pad, pad]
    assert ids[1].tolist() == [end] + [pad] * 7
    assert ids[2, -1] == end and policy.tokenizer.decode(ids[2, :-1]) == "1234567"
    assert policy.tokenizer.decode([end]) == "<|eot_id|>"


def test_a_completion_that_is_too_long_names_the_length_that_fits(policy: Policy) -> None:
    with pytest.raises(
        ConfigError, match=r"9 tokens with its end token, .* Use --max-completion-length 9 or more"
    ):
        encode_completions(policy, ["1", "12345678"], 8)

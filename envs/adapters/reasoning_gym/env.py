"""One environment class for each dataset of the package reasoning-gym.

Some of its scorers run a model's answer as code: we never show an answer to these. Others can be made to run for hours:
we run these in a process that is killed when its time is up. We found both kinds by reading version 0.1.25, so no other
version is opened.
"""

import base64
import contextlib
import io
import json
import math
import pickle
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np

from envs.answer_block import only_answer, read_answer
from envs.core import TextEnv
from envs.errors import EnvError, check_choice
from envs.problem import Problem, Score, is_full
from envs.splits import SPLITS, split_of
from verifiers.errors import did_you_mean

VERSION = "0.1.25"
INSTALL = f'pip install "reasoning-gym=={VERSION}"'
ASK = "\nPut the final answer inside <answer> and </answer>."
_PARSES = "its scorer gives the answer to sympy's parse_expr, which runs it as Python"
_VARIES = "the same seed and index give another problem in another process"
# {dataset: why it is not opened}
REFUSED = {
    "simple_integration": _PARSES,
    "intermediate_integration": _PARSES,
    "polynomial_multiplication": _PARSES,
    "codeio": "it runs programs of its data file to make a problem, and not all of them give the same twice",
    "composite": "it is a mixture of other datasets; open those",
    "isomorphic_strings": _VARIES,
    "knight_swap": _VARIES,
    "list_functions": _VARIES,
    "propositional_logic": "its scorer takes any text as right where the premises contradict each other",
    "ransom_note": _VARIES,
    "word_ladder": _VARIES,
}
_EXAMPLES = {"graph_color": "possible_answer", "rubiks_cube": "example_correct_answer"}
"""{dataset in which many answers are right: the key of its metadata with an example of a right answer}."""
_MAX_DRAWS = 500
_SEED = 20_260_703  # keeps these streams apart from those of any other task
_MAX_LENGTH = 20_000
"""How many characters an answer may have; a longer one is malformed."""


# Our own checks: they take an answer and the item of the dataset, which reasoning-gym calls an entry, and return the
# score.


def _equals(answer: str, entry: Mapping[str, Any]) -> float:
    return float(answer == entry["answer"].strip())


def _is_listed(answer: str, entry: Mapping[str, Any]) -> float:
    return float(answer in entry["metadata"]["valid_answers"])


def _reaches_target(answer: str, entry: Mapping[str, Any]) -> float:
    """For countdown and puzzle24; the items of puzzle24 do not name their target, which is 24."""
    from verifiers import verify

    metadata = entry["metadata"]
    target = metadata.get("target", 24)
    return verify("countdown", f"<answer>{answer}</answer>", numbers=metadata["numbers"], target=target).score


OWN_CHECKS: dict[str, Callable[[str, Mapping[str, Any]], float]] = {
    "string_insertion": _equals,
    "spiral_matrix": _equals,
    "binary_matrix": _equals,
    "game_of_life_halting": _equals,
    "n_queens": _is_listed,
    "countdown": _reaches_target,
    "puzzle24": _reaches_target,
}
"""{dataset: our check, which replaces its scorer}. The scorer of game_of_life_halting accepts any text. The scorers
of the others would run the answer as code."""


class ReasoningGym(TextEnv):
    """The dataset `dataset` of reasoning-gym.

    Prompt: the dataset's question, and a line that asks for an <answer> block.

    Rewards:
        correct (0 or 1): the dataset's scorer gives the answer full marks.
        format (0 or 1): exactly one <answer> block, closed.
        score (0 to 1): what the scorer gives, partial credit included.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0, "score": 0.0}
    dataset: ClassVar[str] = ""

    def __init__(self, split: str = "train", seed: int = 0, size: int = 10_000, **config: Any) -> None:
        """Opens one split; raises EnvError for settings that the dataset does not take.

        seed, size: of the dataset; the problems of all splits are taken from its items. config: its other settings,
        e.g. max_animals=5 for leg_counting.
        """
        check_choice(self.dataset, "split", split, SPLITS)
        self.split, self.size = split, size
        self.settings = {"seed": seed, "size": size, **config}
        # The dataset, and {number: item} of the items that have been made so far.
        self._opened_dataset, self._made_items = open_dataset(
            self.dataset, json.dumps(self.settings, sort_keys=True)
        )
        # Only for validation and test: the items not looked at yet, and {question: problem} found so far.
        order = np.random.default_rng([_SEED, SPLITS.index(split)]).permutation(size)
        self._items_to_look_at = iter(order.tolist())
        self._problems_found: dict[str, Problem] = {}

    def __len__(self) -> int:
        """`size` for train, where some problems repeat; 256 for the other splits, with repeats if fewer differ."""
        return self.size if self.split == "train" else 256

    @property
    def spec_name(self) -> str:
        """The name with the package before it, since the package has a countdown and a sudoku, too."""
        return f"reasoning_gym:{super().spec_name}"

    def problem(self, index: int) -> Problem:
        """A random item among those whose question hashes to this split.

        In validation and test no question is repeated while there are unused ones, because confidence intervals assume
        different problems. So making problem `index` of these splits first makes all problems before it.
        """
        if self.split == "train":
            rng = np.random.default_rng([_SEED, index])
            for _ in range(_MAX_DRAWS):
                if problem := self._problem_in_split(int(rng.integers(self.size))):
                    return problem
            raise self._found_none(_MAX_DRAWS)
        while len(self._problems_found) <= index:
            item = next(self._items_to_look_at, None)
            if item is None:  # all have been looked at
                break
            if problem := self._problem_in_split(item):
                self._problems_found.setdefault(problem.reference["question"], problem)
        if not self._problems_found:
            raise self._found_none(self.size)
        return [*self._problems_found.values()][index % len(self._problems_found)]

    def _problem_in_split(self, index: int) -> Problem | None:
        """The problem of an item of the dataset if it belongs to this split, else None."""
        entry = self._item(index)
        question = entry["question"]
        if split_of(question) != self.split:
            return None
        reference = {"question": question, "answer": entry["answer"]}
        return Problem(question + ASK, reference, metadata={"entry": entry})

    def _found_none(self, searched: int) -> EnvError:
        """The error to raise if none of `searched` questions belongs to this split."""
        return EnvError(
            f"{self.spec_name}: of {searched} questions none belongs to {self.split}, too few differ. Give it a larger "
            "size, or settings with more variety."
        )

    def score(self, problem: Problem, completion: str) -> Score:
        """Scores the answer by the dataset's scorer, in a separate process, or by our own check if that is not safe.

        Reasons besides "ok" and "wrong": "no_answer", "malformed" (too long, or their scorer raised), "timeout".
        """
        answer = read_answer(completion)
        if answer is None:
            value, reason = 0.0, "no_answer"
        elif len(answer) > _MAX_LENGTH:
            value, reason = 0.0, "malformed"
        else:
            value, reason = self._value(answer, problem.metadata["entry"])
        has_format = only_answer(completion) is not None
        rewards = {"correct": float(is_full(value)), "format": float(has_format), "score": value}
        return Score(rewards, reason, answer)

    def demonstration(self, problem: Problem) -> str:
        """The dataset's answer, or its example of a right answer."""
        entry = problem.metadata["entry"]
        answer = entry["answer"]
        if answer is None:
            key_of_example = _EXAMPLES.get(self.dataset)  # None for most datasets, and then nothing is found
            answer = entry["metadata"].get(key_of_example)
        if answer is None:
            return super().demonstration(problem)
        return f"<answer>{answer if isinstance(answer, str) else json.dumps(answer)}</answer>"

    def _item(self, index: int) -> dict[str, Any]:
        """An item of the dataset, made once. Some datasets seed numpy's global generator, some print dots."""
        if index not in self._made_items:
            state = np.random.get_state()
            with contextlib.redirect_stdout(io.StringIO()):
                self._made_items[index] = self._opened_dataset[index]
            np.random.set_state(state)
        return self._made_items[index]

    def _value(self, answer: str, entry: dict[str, Any]) -> tuple[float, str]:
        """(score from 0 to 1, reason), by our check, or by the package in this process or in a separate one."""
        from reasoning_gym.dataset import ProceduralDataset

        has_plain_scorer = type(self._opened_dataset).score_answer is ProceduralDataset.score_answer
        reason = ""  # "" = "ok" or "wrong", by the score
        if self.dataset in OWN_CHECKS:
            value = OWN_CHECKS[self.dataset](answer, entry)
        elif has_plain_scorer:
            value = self._opened_dataset.score_answer(answer, {"answer": entry["answer"].strip()})
        else:
            # The process only scores a given entry, so it needs no size.
            settings = {name: setting for name, setting in self.settings.items() if name != "size"}
            job = {"dataset": self.dataset, "settings": settings, "answer": answer}
            job["entry"] = base64.b64encode(pickle.dumps(entry)).decode()
            reply = _workers().ask(job)
            value, reason = reply.get("value", 0.0), reply["outcome"]  # "" means that the scorer gave a value
            if reason == "error":  # the worker itself failed
                raise EnvError(f"{self.spec_name}: its scorer cannot be asked: {reply['detail']}")
        value = min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
        return value, reason or ("ok" if is_full(value) else "wrong")


@lru_cache(maxsize=8)
def open_dataset(name: str, settings: str) -> tuple[Any, dict[int, dict[str, Any]]]:
    """(the dataset, {number: item} for the items made so far); splits share both, since an item may take a second.

    settings: the dataset's configuration as a JSON object. Raises EnvError if the dataset does not take it.
    """
    from reasoning_gym import create_dataset

    try:
        return create_dataset(name, **json.loads(settings)), {}
    except Exception as error:  # asserts, ValueError and TypeError of its configuration
        raise EnvError(f"reasoning_gym:{name} cannot be opened with {settings}: {error}") from error


@cache
def class_of(name: str) -> type[ReasoningGym]:
    """The environment class of a dataset.

    Raises EnvError if the package is missing or of another version, and for a dataset that does not exist or is
    refused.
    """
    known = _datasets()
    if name not in known:
        hint = did_you_mean(name, known)
        raise EnvError(f'reasoning-gym has no dataset "{name}". {hint}It has {len(known)}.')
    if name in REFUSED:
        raise EnvError(f"reasoning_gym:{name} is refused: {REFUSED[name]}.")
    return type(name, (ReasoningGym,), {"dataset": name, "__doc__": f"The dataset {name} of reasoning-gym."})


@cache
def _datasets() -> tuple[str, ...]:
    """The names of all datasets; raises EnvError if the package is missing or of another version."""
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        if error.name != "reasoning_gym":
            raise
        raise EnvError(f"reasoning_gym:NAME needs the package reasoning-gym: {INSTALL}") from None
    if (installed := version("reasoning-gym")) != VERSION:
        raise EnvError(
            f"reasoning-gym {installed} is installed, but the scorers were read in {VERSION}: {INSTALL}"
        )
    return tuple(sorted(reasoning_gym.factory.DATASETS))


@cache
def _workers() -> Any:
    """The process that scores answers by the package; see `envs.adapters.reasoning_gym.worker`."""
    from verifiers.worker import Workers

    # `soft` limits a scorer's processor time, in seconds. `hard` limits its time by the clock; it is generous because
    # the first job also opens the dataset, perhaps on a busy machine.
    return Workers("envs.adapters.reasoning_gym.worker", size=1, soft=2.5, hard=30.0)

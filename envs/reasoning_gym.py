"""`reasoning_gym:NAME`: the datasets of the reasoning-gym package (an optional extra) as environments.

Its scorers were read in version 0.1.25, and that version is what is opened: some run a model's answer as code, some
can be made to run for hours. The former never see an answer here; the others work in a process that is killed.
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

from envs.answers import judge, read_answer
from envs.core import TextEnv
from envs.divide import SPLITS, split_of
from envs.errors import EnvError, nearest
from envs.records import Problem, Score

VERSION = "0.1.25"
INSTALL = f'pip install "reasoning-gym=={VERSION}"'
ASK = "\nPut the final answer inside <answer> and </answer>."
_PARSES = "its scorer gives the answer to sympy's parse_expr, which runs it as Python"
_VARIES = "the same seed and index give another problem in another process"
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
"""Datasets that are not opened, and why."""
_EXAMPLES = {
    "graph_color": "possible_answer",
    "rubiks_cube": "example_correct_answer",
}
"""Where a dataset without a single answer keeps an example of one, in its metadata."""
_DRAWS = 500
_DOMAIN = 20_260_703
_LONGEST = 20_000
"""Characters of an answer; a longer one is malformed."""


def _is_text(answer: str, entry: Mapping[str, Any]) -> float:
    return float(answer == entry["answer"].strip())


def _is_listed(answer: str, entry: Mapping[str, Any]) -> float:
    return float(answer in entry["metadata"]["valid_answers"])


def _reaches(answer: str, entry: Mapping[str, Any]) -> float:
    from verifiers import verify

    held = entry["metadata"]
    wrapped = f"<answer>{answer}</answer>"
    return verify("countdown", wrapped, numbers=held["numbers"], target=held.get("target", 24)).score


OWN: dict[str, Callable[[str, Mapping[str, Any]], float]] = {
    "string_insertion": _is_text,
    "spiral_matrix": _is_text,
    "binary_matrix": _is_text,
    "game_of_life_halting": _is_text,
    "n_queens": _is_listed,
    "countdown": _reaches,
    "puzzle24": _reaches,
}
"""Datasets whose own scorer would run the answer as code, and the check that takes its place; the scorer of
game_of_life_halting accepts any text at all."""


class ReasoningGym(TextEnv):
    """A dataset of reasoning-gym; `dataset` says which.

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

        seed, size: of the dataset; its items are drawn from for all splits. config: its other settings, e.g.
        max_animals=5 of leg_counting.
        """
        if split not in SPLITS:
            raise EnvError(f'{self.dataset}: there is no split "{split}"; there are {", ".join(SPLITS)}.')
        self.split, self.size = split, size
        self.settings = {"seed": seed, "size": size, **config}
        self._items, self._made = open_dataset(self.dataset, json.dumps(self.settings, sort_keys=True))

    def __len__(self) -> int:
        """`size` problems to train on, 256 in each other split; where few questions differ, some repeat."""
        return self.size if self.split == "train" else 256

    @property
    def spec_name(self) -> str:
        """With the package in front: it has a countdown and a sudoku too."""
        return f"reasoning_gym:{super().spec_name}"

    def problem(self, index: int) -> Problem:
        """An item whose question hashes to this split, drawn at random with the index as the seed."""
        rng = np.random.default_rng([_DOMAIN, index])
        for _ in range(_DRAWS):
            entry = self._item(int(rng.integers(self.size)))
            question, answer = entry["question"], entry["answer"]
            if split_of(question) == self.split:
                return Problem(
                    question + ASK, {"question": question, "answer": answer}, metadata={"entry": entry}
                )
        raise EnvError(
            f"{self.spec_name}: of {_DRAWS} questions none belongs to {self.split}, too few differ. Give it a larger "
            "size, or settings with more variety."
        )

    def score(self, problem: Problem, completion: str) -> Score:
        """The dataset's score of the answer, in a process of its own, or our check where theirs is not safe.

        Reasons beside "ok" and "wrong": "no_answer", "malformed" (too long, or their scorer raised), "timeout".
        """
        entry, answer = problem.metadata["entry"], read_answer(completion)
        if answer is None or len(answer) > _LONGEST:
            value, reason = 0.0, "no_answer" if answer is None else "malformed"
        else:
            value, reason = self._value(answer, entry)
        form = judge(completion, lambda _: value >= 1).rewards
        return Score({**form, "correct": float(value >= 1), "score": value}, reason, answer)

    def demonstration(self, problem: Problem) -> str:
        """The dataset's answer, or its example of one."""
        entry = problem.metadata["entry"]
        answer = entry["answer"]
        if answer is None and self.dataset in _EXAMPLES:
            answer = entry["metadata"][_EXAMPLES[self.dataset]]
        if answer is None:
            return super().demonstration(problem)
        return f"<answer>{answer if isinstance(answer, str) else json.dumps(answer)}</answer>"

    def _item(self, index: int) -> dict[str, Any]:
        if index not in self._made:
            state = np.random.get_state()
            with contextlib.redirect_stdout(
                io.StringIO()
            ):  # some print dots, some seed numpy's global generator
                self._made[index] = self._items[index]
            np.random.set_state(state)
        return self._made[index]

    def _value(self, answer: str, entry: dict[str, Any]) -> tuple[float, str]:
        if self.dataset in OWN:
            value, reason = OWN[self.dataset](answer, entry), ""
        elif _compares_text(self._items):
            value, reason = self._items.score_answer(answer, {"answer": entry["answer"].strip()}), ""
        else:
            settings = {name: value for name, value in self.settings.items() if name != "size"}
            job = {"dataset": self.dataset, "settings": settings, "answer": answer}
            job["entry"] = base64.b64encode(pickle.dumps(entry)).decode()
            reply = _workers().ask(job)
            value, reason = reply.get("value", 0.0), reply["outcome"]
            if reason == "error":  # of the worker, not of the answer
                raise EnvError(f"{self.spec_name}: its scorer cannot be asked: {reply['detail']}")
        value = min(max(value, 0.0), 1.0) if math.isfinite(value) else 0.0
        return value, reason or ("ok" if value >= 1 else "wrong")


@lru_cache(maxsize=8)
def open_dataset(name: str, settings: str) -> tuple[Any, dict[int, dict[str, Any]]]:
    """(the dataset, a store for the items made so far), shared by the splits: some take a second to make an item.

    settings: its configuration as a JSON object. Raises EnvError if the dataset does not take it.
    """
    from reasoning_gym import create_dataset

    try:
        return create_dataset(name, **json.loads(settings)), {}
    except Exception as error:  # asserts, ValueError and TypeError of its configuration
        raise EnvError(f"reasoning_gym:{name} cannot be opened with {settings}: {error}") from error


def _compares_text(items: Any) -> bool:
    """Whether the dataset has the package's plain scorer: the text, or a share for text that contains it."""
    from reasoning_gym.dataset import ProceduralDataset

    return type(items).score_answer is ProceduralDataset.score_answer


def environment_id(name: str) -> str:
    """Registers the dataset `name` as an environment, if it is not yet; returns its id.

    Raises EnvError if the package is missing or of another version, and for a dataset that does not exist or is
    refused.
    """
    known = _datasets()
    if name not in known:
        raise EnvError(f'reasoning-gym has no dataset "{name}". {nearest(name, known)}It has {len(known)}.')
    if name in REFUSED:
        raise EnvError(f"reasoning_gym:{name} is refused: {REFUSED[name]}.")
    from envs.registry import register

    id = f"reasoning_gym/{name}-v0"
    register(id, _class_of(name))
    return id


@cache
def _class_of(name: str) -> type[ReasoningGym]:
    return type(name, (ReasoningGym,), {"dataset": name, "__doc__": f"The dataset {name} of reasoning-gym."})


@cache
def _datasets() -> tuple[str, ...]:
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        if error.name != "reasoning_gym":
            raise
        raise EnvError(f"reasoning_gym:NAME needs the package reasoning-gym: {INSTALL}") from None
    if (found := version("reasoning-gym")) != VERSION:
        raise EnvError(
            f"reasoning-gym {found} is installed, but the scorers were read in {VERSION}: {INSTALL}"
        )
    return tuple(sorted(reasoning_gym.factory.DATASETS))


@cache
def _workers() -> Any:
    from verifiers.workers import Workers

    # Processor time stops a scorer; the clock is generous, because the first job opens the dataset on a busy machine.
    return Workers("envs.reasoning_gym_worker", size=1, soft=2.5, hard=30.0)

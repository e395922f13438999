"""The base class of tasks with a generator: levels, styles of prompts, fixed sets for evaluation, endless training."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from envs.answer_block import tagged_completion
from envs.core import TextEnv
from envs.errors import check_choice
from envs.problem import check_index
from envs.splits import SPLIT_SIZES, SPLITS, STREAMS, distinct
from envs.text.prompt_file import Template, check_style, read_style


class GeneratedEnv(TextEnv):
    """A task that generates its problems: one by one when they are asked for in `train`, as a fixed set elsewhere.

    `problem` gets a problem's content from `_item`; a task that opens a file in place of its generator sets `_items`.
    """

    task: ClassVar[str]
    """The task's name in messages; its verifier, if it has one, has the same name."""
    levels: Iterable[int]
    """The levels of the task."""
    prompt_styles: ClassVar[Sequence[str | None]] = ("plain",)
    prompt_fields: ClassVar[Sequence[str]] = ()
    """The fields in braces that a user's own prompt must have (`envs.text.prompt_file`); () = no own prompts."""
    reward_presets: ClassVar[Mapping[str, Mapping[str, float]]] = {}
    """{reward_preset: its reward weights}."""
    sizes: ClassVar[Mapping[str, int]] = SPLIT_SIZES
    """{split: how many problems it has}, for splits without a fixed set."""
    _items: Sequence[Any] | None = None
    """The contents of the split's problems, in order; None = each is drawn when it is asked for."""
    _template: Template | None = None
    """The user's own prompt, if `prompt_style` names its file."""

    def __init__(
        self, split: str, level: int, prompt_style: str | None = "plain", reward_preset: str | None = None
    ) -> None:
        """Raises EnvError for an unknown value, and for a file with a prompt that cannot be used."""
        check_choice(self.task, "split", split, SPLITS)
        if self.prompt_fields:
            self._template = read_style(self.task, prompt_style, self.prompt_styles, self.prompt_fields)
        else:
            check_style(self.task, prompt_style, self.prompt_styles)
        check_choice(self.task, "level", level, self.levels)
        if self.reward_presets:
            check_choice(self.task, "reward_preset", reward_preset, self.reward_presets)
            self.reward_weights = self.reward_presets[str(reward_preset)]
        self.split, self.level, self.prompt_style = split, level, prompt_style
        if self._template:  # `prompt_style` is the path of its file
            self.origin = {str(prompt_style): f"sha256 {self._template.sha256}"}

    def __len__(self) -> int:
        return self.sizes[self.split] if self._items is None else len(self._items)

    @abstractmethod
    def _draw(self, index: int) -> Any:
        """The content of problem number `index` in a split without a fixed set."""

    def _item(self, index: int) -> Any:
        """The content of problem number `index`."""
        i = check_index(self, index)
        return self._draw(i) if self._items is None else self._items[i]

    def _prompt(
        self, values: Mapping[str, object], plain: str, instruct: Callable[[], str]
    ) -> tuple[str, str]:
        """(prompt, completion prefix) in the prompt's style.

        values: of `prompt_fields`, for a user's own prompt. plain: the plain prompt. instruct: makes the instruct one.
        """
        if self._template:
            return self._template.fill(values), self._template.prefix
        return (plain if self.prompt_style == "plain" else instruct()), ""

    def _completion(self, answer: str, work: str, plain_work: str = "", end: str = "") -> str:
        """The completion with this answer in the prompt's style.

        work: the working before the answer; plain_work: the same in the plain style. end: a text behind the tags.
        """
        if self.prompt_style == "plain":
            return f"{plain_work}<answer>{answer}</answer>"
        completion = tagged_completion(work, answer) + end
        # The template's prefix, such as "<reasoning>", is not written by the model, so it is left out here.
        return self._template.behind_prefix(completion) if self._template else completion


def drawn_for_training(problems: ModuleType, level: int, index: int) -> Any:
    """Problem number `index` of the training stream of a level. problems: as for `fixed_set`."""
    rng = np.random.default_rng([problems.SEED, level, STREAMS["train"], index])
    return problems.draw(rng, level, split="train", turn=None)


@cache
def fixed_set(problems: ModuleType, level: int, split: str) -> tuple[Any, ...]:
    """The 256 different problems of `validation` or `test`, in their fixed order.

    problems: a task's module of problems, e.g. `envs.gsm8k.problems`, with these names:
        SEED: keeps its random streams apart from those of other tasks.
        draw(rng, level, split, turn): a random problem of a split. turn: the number of the draw, 0, 1, ..., in a fixed
            set; None in training.
        key(problem): a value that is equal for problems which count as the same.
    """
    rng = np.random.default_rng([problems.SEED, level, STREAMS[split]])
    return distinct(lambda turn: problems.draw(rng, level, split, turn), problems.key, count=256)

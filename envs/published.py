"""What GSM8K and MATH500 share: where their problems come from, and how these are shown.

Problems are those of a published set, of a copy of it on disk, or generated. "Paper" in names and values is about the
papers of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).
"""

from collections.abc import Mapping, Sequence
from functools import cache
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from envs.answers import tagged_completion
from envs.core import TextEnv
from envs.datasets import load_split
from envs.errors import EnvError, check_choice
from envs.problem import Problem, check_index
from envs.prompts import read_style
from envs.rendering import highlight_last, labelled, paint, printable
from envs.splits import SPLIT_SIZES, STREAMS, distinct

ANSWER_FORMAT = """
Answer in this format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>
"""


@cache
def fixed_set(problem_module: ModuleType, level: int, split: str) -> tuple[Any, ...]:
    """The 256 different generated problems of `validation` or `test`, in their fixed order."""
    rng = np.random.default_rng([problem_module.SEED, level, STREAMS[split]])
    text_field = problem_module.COLUMNS[0]
    # `distinct` calls the first function with the turns 0, 1, ... until the texts of 256 problems differ.
    return distinct(
        lambda turn: problem_module.draw(rng, level, split, turn),
        key=lambda item: getattr(item, text_field),
        count=256,
    )


class PublishedEnv(TextEnv):
    """A task with a published set and a generator."""

    task: ClassVar[str]
    """The task's name among the verifiers and in messages."""
    problem_module: ClassVar[ModuleType]
    """The task's module of problems, e.g. `envs.gsm8k.problems`.

    For generated problems it has LEVELS, SEED and `draw(rng, level, split, turn)`. `fixed_set` draws with the turns 0,
    1, 2, ...; in training, turn is None. For published problems it has the names that `envs.datasets.load_split` lists.
    COLUMNS[0] names both the column of a published set and the field of a problem that hold the problem's text."""
    instruction: ClassVar[str]
    """What the instruct prompt says before the text."""
    reward_presets: ClassVar[Mapping[str, Mapping[str, float]]]
    """{reward_preset: its reward weights}."""

    def __init__(
        self,
        split: str = "train",
        source: str = "hub",
        prompt_style: str | None = None,
        level: int = 1,
        reward_preset: str = "default",
        revision: str | None = None,
        test_revision: str | None = None,
    ) -> None:
        """Opens one split; raises EnvError for an unknown value and for data that cannot be loaded or used.

        Args:
            source: "hub" (the published sets), "generated" (our own problems, no data needed), or the path of a folder
                or file with the columns of the published sets.
            prompt_style: "plain", "instruct", or a file with a prompt of your own that holds {question}
                (`envs.prompts`); None = plain for generated problems, instruct for all others.
            level: of generated problems, 1 to 3.
            reward_preset: "default", or "paper" for the rewards of d1 and SPG.
            revision: branch, tag or commit of the hub's train set; None = its main branch.
            test_revision: branch, tag or commit of the hub's test set, for a task whose test set is another data set
                than its train set (MATH500).
        """
        check_choice(self.task, "split", split, SPLIT_SIZES)
        self._template = read_style(self.task, prompt_style, ["plain", "instruct", None], ["question"])
        check_choice(self.task, "level", level, self.problem_module.LEVELS)
        check_choice(self.task, "reward_preset", reward_preset, self.reward_presets)
        self.split, self.source, self.level = split, str(source), level
        self._generated = self.source == "generated"
        if level != 1 and not self._generated:
            why = f"level={level} is for source=generated; {self.source} has no levels"
            raise EnvError(f"{self.task}: {why}.")
        for name, value in (("revision", revision), ("test_revision", test_revision)):
            if value is not None and self.source != "hub":
                raise EnvError(f"{self.task}: {name}={value} is for source=hub, not for {self.source}.")
        if test_revision is not None and self.problem_module.TEST.repo == self.problem_module.TRAIN.repo:
            # One data set has both sets, and `revision` is the commit of both.
            raise EnvError(
                f"{self.task}: its test set is of the same data set; revision={test_revision} names both."
            )
        self.prompt_style = prompt_style or ("plain" if self._generated else "instruct")
        self.reward_weights = self.reward_presets[reward_preset]
        # None = training with generated problems, of which `problem` draws each one when it is asked for.
        self._problems: Sequence[Any] | None = None
        if not self._generated:
            self._problems, self.origin, self.notice = load_split(
                self.task, self.problem_module, self.source, split, revision, test_revision
            )
        elif split != "train":
            self._problems = fixed_set(self.problem_module, level, split)
        # `TextEnv.origin` is what a run writes down of the data. It is empty unless `load_split` has filled it with
        # {data set of the hub: commit}.
        if self.origin:
            commits = [f"{name} at revision {commit}" for name, commit in self.origin.items()]
            self.notice = f"{self.task}: {', '.join(commits)}. {self.notice}".rstrip()
        if self._template:  # a prompt of the user's own; prompt_style is the path of its file
            self.origin = {**self.origin, self.prompt_style: f"sha256 {self._template.sha256}"}

    @property
    def text_field(self) -> str:
        """The name of the field of a problem that holds its text: "question" or "problem"."""
        return self.problem_module.COLUMNS[0]

    def __len__(self) -> int:
        return SPLIT_SIZES["train"] if self._problems is None else len(self._problems)

    def problem(self, index: int) -> Problem:
        i = check_index(self, index)
        if self._problems is None:
            rng = np.random.default_rng([self.problem_module.SEED, self.level, STREAMS["train"], i])
            item = self.problem_module.draw(rng, self.level, "train", None)
        else:
            item = self._problems[i]
        text = getattr(item, self.text_field)
        if self._template:
            prompt, prefix = self._template.fill({"question": text}), self._template.prefix
        else:
            prompt = text if self.prompt_style == "plain" else f"{self.instruction}\n\n{text}"
            prefix = ""
        _, answer = item.right  # (steps, answer)
        # All fields of the item; the text is one of them and comes first.
        metadata = {self.text_field: text, **vars(item)}
        return Problem(prompt, {"answer": answer}, prefix, metadata=metadata)

    def _write(self, work: str, answer: str) -> str:
        """A completion in the prompt's style. work: the working before the answer."""
        if self.prompt_style == "plain":
            return f"{work}<answer>{answer}</answer>"
        completion = tagged_completion(work, answer) + "\n"
        if self._template:
            # The template's prefix, such as "<reasoning>", stands before what the model writes, so it is left out here.
            return self._template.behind_prefix(completion)
        return completion

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The problem, the completion with the part that was judged in green or red, the gold answer, the verdict."""
        # Problems of MATH500 have a subject; those of GSM8K have none.
        names = [name for name in ("subject", self.text_field) if problem.metadata.get(name)]
        # The lines that are shown, {label: text}.
        shown = {name: printable(problem.metadata[name]) for name in names}
        shown[self.text_field] = paint("bold", shown[self.text_field])
        gold = printable(problem.reference["answer"])
        if completion is None:
            shown["gold"] = gold
        else:
            score = self.score(problem, completion)
            style, verdict = ("green", "right") if score.rewards["correct"] else ("red", "wrong")
            if score.reason not in ("ok", "wrong"):
                verdict += f" ({score.reason})"
            judged = highlight_last(style, printable(completion), printable(score.extracted or ""))
            shown |= {"answer": judged, "gold": gold, "verdict": paint(style, verdict)}
        return "\n".join(labelled(label, text) for label, text in shown.items())

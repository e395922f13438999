"""The base class of GSM8K and MATH500: sources of problems, and how problems are shown.

Problems come from a published set, from a copy of it on disk, or from a generator. "Paper" in names and values means
the papers of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).
"""

from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

from envs.bases.generated import GeneratedEnv, drawn_for_training, fixed_set
from envs.errors import EnvError
from envs.files.datasets import load_split
from envs.problem import Problem
from envs.text.terminal import highlight_last, labelled, paint, printable

ANSWER_FORMAT = """
Answer in this format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>
"""


class PublishedEnv(GeneratedEnv):
    """A task with a published set and a generator."""

    problem_module: ClassVar[ModuleType]
    """The task's module of problems, e.g. `envs.gsm8k.problems`.

    For generated problems it has LEVELS and the names that `envs.bases.generated.fixed_set` lists; for published ones,
    the names that `envs.files.datasets.load_split` lists. COLUMNS[0] is the name of the problem's text, both as a
    column of the published set and as a field of a problem."""
    instruction: ClassVar[str]
    """The words of the instruct prompt before the problem's text."""
    prompt_styles = ("plain", "instruct", None)
    prompt_fields = ("question",)

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
            prompt_style: "plain", "instruct", or a file with your own prompt, which has {question}
                (`envs.text.prompt_file`); None = plain for generated problems, instruct for all others.
            level: of generated problems, 1 to 3.
            reward_preset: "default", or "paper" for the rewards of d1 and SPG.
            revision: branch, tag or commit of the hub's train set; None = its main branch.
            test_revision: branch, tag or commit of the hub's test set, for a task whose test set is another data set
                than its train set (MATH500).
        """
        self.levels = self.problem_module.LEVELS
        super().__init__(split, level, prompt_style, reward_preset)
        self.source = str(source)
        self._generated = self.source == "generated"
        if level != 1 and not self._generated:
            why = f"level={level} is for source=generated; {self.source} has no levels"
            raise EnvError(f"{self.task}: {why}.")
        for name, value in (("revision", revision), ("test_revision", test_revision)):
            if value is not None and self.source != "hub":
                raise EnvError(f"{self.task}: {name}={value} is for source=hub, not for {self.source}.")
        if test_revision is not None and self.problem_module.TEST.repo == self.problem_module.TRAIN.repo:
            # One data set has both splits, and `revision` is the commit of both.
            raise EnvError(
                f"{self.task}: its test set is of the same data set; revision={test_revision} names both."
            )
        self.prompt_style = prompt_style or ("plain" if self._generated else "instruct")
        commits: Mapping[str, str] = {}  # {data set of the hub: commit}
        if not self._generated:
            self._items, commits, self.notice = load_split(
                self.task, self.problem_module, self.source, split, revision, test_revision
            )
        elif split != "train":
            self._items = fixed_set(self.problem_module, level, split)
        if commits:
            at = [f"{name} at revision {commit}" for name, commit in commits.items()]
            self.notice = f"{self.task}: {', '.join(at)}. {self.notice}".rstrip()
        self.origin = {**commits, **self.origin}

    @property
    def text_field(self) -> str:
        """The name of the field of a problem that holds its text: "question" or "problem"."""
        return self.problem_module.COLUMNS[0]

    def _draw(self, index: int) -> Any:
        return drawn_for_training(self.problem_module, self.level, index)

    def problem(self, index: int) -> Problem:
        item = self._item(index)
        text = getattr(item, self.text_field)
        prompt, prefix = self._prompt({"question": text}, text, lambda: f"{self.instruction}\n\n{text}")
        _, answer = item.right  # (steps, answer)
        # All fields of the item; the text is one of them and comes first.
        metadata = {self.text_field: text, **vars(item)}
        return Problem(prompt, {"answer": answer}, prefix, metadata=metadata)

    def _write(self, work: str, answer: str) -> str:
        """A completion in the prompt's style. work: the working before the answer."""
        return self._completion(answer, work, plain_work=work, end="\n")

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """The problem, the completion (with the judged part in green or red), the gold answer and the verdict."""
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

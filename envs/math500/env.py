"""MATH, competition problems with LaTeX answers: the published sets, a copy of them, or our own generator."""

from collections.abc import Mapping, Sequence

import numpy as np

from envs.core import Problem, Scores, TextEnv, check_index
from envs.errors import EnvError, check_choice
from envs.math500.dataset import load_problems
from envs.math500.generator import LEVELS, fixed_set, train_problem
from envs.math500.render import render
from envs.math500.rewards import REWARD_PRESETS, equivalent, has_format, is_finished, tag_reward
from envs.math500.templates import MathProblem
from envs.splits import SPLIT_SIZES

_INSTRUCTION = r"""
Answer in this format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>


You are an expert in mathematics and get one problem. Solve it step by step. Wrap the final answer in a \boxed{}."""


class MATH500(TextEnv):
    """Competition mathematics (`spg/MATH500-v0`), after MATH (arXiv:2103.03874), evaluated on MATH-500.

    Prompt: the problem (plain), or the format to answer in, the request for \\boxed{} and the problem (paper: the
    training prompt of d1, arXiv:2504.12216, and SPG, arXiv:2510.09541). Action: a text with the answer, LaTeX,
    in <answer>...</answer> or in \\boxed{...}.

    Rewards:
        correct (0 or 1): the same mathematical object as the gold answer, by `verifiers.verify("math500")`,
            lenient; of generated problems also finished: `8-(3-2)` is no answer to what it is.
        format (0 or 1): exactly one closed <answer> block that is not empty; where the demonstration boxes its
            answer (all but level 1 in plain style) also a closed \\boxed{...} in it.
        with reward_preset="paper" also equivalent (0 or 1) and tags (0.25 or 0.75): `envs.math500.rewards`.

    Splits: source="generated": 1,000,000 train, 256 validation, 256 test problems, none in two of them.
    Otherwise test is MATH-500, and validation the twentieth of the train set that a hash picks.
    """

    reward_weights: Mapping[str, float] = REWARD_PRESETS["default"]

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

        source: "hub" (train and validation from ankner/math-500, test from HuggingFaceH4/MATH-500), "generated"
            (our own problems, no data needed), or the path of a folder or file with the columns problem and
            solution, or problem and answer.
        prompt_style: "plain" or "paper"; None = plain for generated problems, paper for all others.
        level: of generated problems: 1 (one rule, no arithmetic, at most 26 characters), 2 (fractions, quadratics,
            areas) or 3 (pairs, intervals, roots, residues, probabilities).
        reward_preset: "default", or "paper" for the rewards of d1 and SPG.
        revision, test_revision: branch, tag or commit of ankner/math-500 and of HuggingFaceH4/MATH-500; None =
            their main branch.
        """
        check_choice("math500", "split", split, SPLIT_SIZES)
        check_choice("math500", "prompt_style", prompt_style, ["plain", "paper", None])
        check_choice("math500", "level", level, LEVELS)
        check_choice("math500", "reward_preset", reward_preset, REWARD_PRESETS)
        self.split, self.source, self.level = split, str(source), level
        self._generated = self.source == "generated"
        if level != 1 and not self._generated:
            raise EnvError(f"math500: level={level} is for source=generated; {self.source} has no levels.")
        for name, value in (("revision", revision), ("test_revision", test_revision)):
            if value is not None and self.source != "hub":
                raise EnvError(f"math500: {name}={value} is for source=hub, not for {self.source}.")
        self.prompt_style = prompt_style or ("plain" if self._generated else "paper")
        self.reward_weights = REWARD_PRESETS[reward_preset]
        self._problems: Sequence[MathProblem] | None = None  # None: the training stream, drawn when asked for
        if not self._generated:
            self._problems, self.origin = load_problems(self.source, split, revision, test_revision)
        elif split != "train":
            self._problems = fixed_set(level, split)
        if self.origin:
            commits = [f"{name} at revision {commit}" for name, commit in self.origin.items()]
            self.notice = f"math500: {', '.join(commits)}."

    def __len__(self) -> int:
        return SPLIT_SIZES["train"] if self._problems is None else len(self._problems)

    def problem(self, index: int) -> Problem:
        i = check_index(self, index)
        item = train_problem(self.level, i) if self._problems is None else self._problems[i]
        prompt = item.problem if self.prompt_style == "plain" else f"{_INSTRUCTION}\n\n{item.problem}"
        metadata = {"problem": item.problem, "subject": item.subject, "right": item.right, "slip": item.slip}
        return Problem(prompt, {"answer": item.right[1]}, metadata=metadata)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        from verifiers import verify_batch

        answers = [problem.reference["answer"] for problem in problems]
        verdicts = verify_batch("math500", completions, answer=answers)
        correct, reasons = verdicts.correct.copy(), list(verdicts.reasons)
        extracted = list(verdicts.extracted)
        for i in np.flatnonzero(correct) if self._generated else ():
            if not is_finished(extracted[i] or "", answers[i], problems[i].metadata["problem"]):
                correct[i], reasons[i] = False, "rule_broken"
        boxed = self._boxes_answers
        rewards = {
            "correct": np.asarray(correct, np.float64),
            "format": np.array([has_format(text, boxed=boxed) for text in completions], np.float64),
        }
        if "equivalent" in self.reward_weights:
            pairs = zip(completions, answers, strict=True)
            rewards["equivalent"] = np.array([equivalent(*pair) for pair in pairs], np.float64)
            rewards["tags"] = np.array([tag_reward(text) for text in completions], np.float64)
        return Scores(rewards, reasons, extracted)

    def demonstration(self, problem: Problem) -> str:
        return self._write(*problem.metadata["right"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit of generated problems, "slip": the usual mistake of its template; none of published ones."""
        return {"slip": self._write(*problem.metadata["slip"])} if self._generated else {}

    def render_text(self, problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
        """The problem, the completion with the part that was judged, the gold answer and the verdict."""
        score = None if completion is None else self.score(problem, completion)
        return render(problem, completion, score, color=color)

    @property
    def _boxes_answers(self) -> bool:
        """A tiny model of level 1 is spared the eight tokens of a box; the tags alone mark its answer."""
        return not (self._generated and self.level == 1 and self.prompt_style == "plain")

    def _write(self, work: str, answer: str) -> str:
        if not self._boxes_answers:
            return f"{work}<answer>{answer}</answer>"
        boxed = f"\\boxed{{{answer}}}"
        if self.prompt_style == "plain":
            return f"{work}<answer>{boxed}</answer>"
        return f"<reasoning>\n{work}\n</reasoning>\n<answer>\n{boxed}\n</answer>\n"

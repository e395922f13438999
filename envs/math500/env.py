"""MATH, competition problems with LaTeX answers: the published sets, a copy of them, or our own generator."""

from collections.abc import Mapping, Sequence

import numpy as np

from envs.bases.published import ANSWER_FORMAT, PublishedEnv
from envs.math500 import problems as math_problems
from envs.math500.rewards import REWARD_PRESETS, equivalent, has_format, is_plain, tag_reward
from envs.problem import Problem, Scores

_INSTRUCTION = rf"""{ANSWER_FORMAT}

You are an expert in mathematics and get one problem. Solve it step by step. Wrap the final answer in a \boxed{{}}."""


class MATH500(PublishedEnv):
    """Competition mathematics (`spg/MATH500-v0`), after MATH (arXiv:2103.03874), evaluated on MATH-500.

    Prompt: the problem (plain), or the format to answer in, the request for \\boxed{} and the problem (instruct).
    Action: a text with the answer, LaTeX, in `<answer>...</answer>` or in `\\boxed{...}`.

    Rewards:
        correct (0 or 1): the same mathematical object as the gold answer, and no copy of the problem, by
            `verifiers.verify("math500")`, lenient. In generated problems it must also be in plain form: where 8(c+t) is
            to be expanded, `8(c+t)` is no answer.
        format (0 or 1): exactly one closed `<answer>` block that is not empty, and in it a closed \\boxed{...}
            (level 1 in plain style needs no box).
        with reward_preset="paper" also equivalent (0 or 1) and tags (0.25 or 0.75): `envs.math500.rewards`.

    Splits with source="generated": 1,000,000 train, 256 validation and 256 test problems, none in two of the splits.
    Level 1 has one rule, no arithmetic and at most 26 characters, level 2 fractions, quadratics and areas, level 3
    pairs, intervals, roots, residues and probabilities.

    Splits with source="hub": there are two published sets, whose names are alike. `test` is HuggingFaceH4/MATH-500 (500
    problems). `train` and `validation` are ankner/math-500 (12,000 problems) without those of `test`: a hash picks a
    twentieth for `validation`, and `train` is the rest. A folder's files `train` and `test` are used in the same way.
    The columns are `problem`, and `solution` or `answer`.
    """

    task = "math500"
    problem_module = math_problems
    instruction = _INSTRUCTION
    reward_presets = REWARD_PRESETS
    reward_weights: Mapping[str, float] = REWARD_PRESETS["default"]

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        from verifiers import verify_batch

        answers = [problem.reference["answer"] for problem in problems]
        statements = [problem.metadata["problem"] for problem in problems]
        verdicts = verify_batch("math500", completions, answer=answers, problem=statements)
        correct = verdicts.correct.copy()
        reasons, extracted = list(verdicts.reasons), list(verdicts.extracted)
        if self._generated:
            for i in np.flatnonzero(correct):
                if not is_plain(extracted[i] or "", answers[i]):
                    correct[i], reasons[i] = False, "rule_broken"
        boxed = self._boxes_answers
        rewards = {
            "correct": np.asarray(correct, np.float64),
            "format": np.array([has_format(text, boxed=boxed) for text in completions], np.float64),
        }
        if "equivalent" in self.reward_weights:  # reward_preset="paper"
            pairs = zip(completions, answers, strict=True)
            rewards["equivalent"] = np.array([equivalent(*pair) for pair in pairs], np.float64)
            rewards["tags"] = np.array([tag_reward(text) for text in completions], np.float64)
        return Scores(rewards, reasons, extracted)

    def demonstration(self, problem: Problem) -> str:
        return self._worked(*problem.metadata["right"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, a plausible wrong way, for generated problems: "slip" makes the usual mistake of the template.

        Published problems have none.
        """
        return {"slip": self._worked(*problem.metadata["slip"])} if self._generated else {}

    @property
    def _boxes_answers(self) -> bool:
        """Whether an answer stands in \\boxed{...}. Level 1 in plain style spares a tiny model the tokens of a box."""
        spares_box = self._generated and self.level == 1 and self.prompt_style == "plain"
        return not spares_box

    def _worked(self, work: str, answer: str) -> str:
        """The completion that writes a solution, in the prompt's style."""
        return self._write(work, f"\\boxed{{{answer}}}" if self._boxes_answers else answer)

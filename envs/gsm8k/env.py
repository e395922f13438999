"""GSM8K, word problems with one number as the answer: the published set, a copy of it, or our own generator."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from envs.bases.published import ANSWER_FORMAT, PublishedEnv
from envs.gsm8k import problems as word_problems
from envs.gsm8k.problems import Solution
from envs.gsm8k.rewards import REWARD_PRESETS, has_format, paper_rewards
from envs.problem import Problem, Scores


class GSM8K(PublishedEnv):
    """Grade-school mathematics (`spg/GSM8K-v0`), after openai/gsm8k (arXiv:2110.14168).

    Prompt: the question (plain), or the format to answer in and the question (instruct). Action: a text with
    the number in `<answer>...</answer>`.

    Rewards:
        correct (0 or 1): the number equals the gold answer exactly, by `verifiers.verify("gsm8k")`, lenient.
        format (0 or 1): exactly one closed `<answer>` block, and in it one plain number.
        with reward_preset="paper" also exact, integer, strict_format, soft_format (0 or 1 each) and xml_count
            (at most 0.5): `envs.gsm8k.rewards`.

    Splits with source="generated": 1,000,000 train, 256 validation and 256 test problems; no calculation is in two of
    the splits. Level 1 has two steps and at most 40 characters, level 2 sentences and multiplication, level 3 four
    steps, fractions, percentages and numbers that play no part. With any other source, `test` is the published test
    set, and a hash picks a twentieth of the published train set for `validation`; the columns are `question` and
    `answer`.
    """

    task = "gsm8k"
    problem_module = word_problems
    instruction = ANSWER_FORMAT
    reward_presets = REWARD_PRESETS
    reward_weights: Mapping[str, float] = REWARD_PRESETS["default"]
    reward_ranges: ClassVar[dict[str, tuple[float, float]]] = {"xml_count": (-float("inf"), 0.5)}

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        from verifiers import verify_batch

        answers = [problem.reference["answer"] for problem in problems]
        verdicts = verify_batch("gsm8k", completions, answer=answers)
        rewards = {
            "correct": np.asarray(verdicts.correct, np.float64),
            "format": np.array([has_format(completion) for completion in completions], np.float64),
        }
        if "exact" in self.reward_weights:  # reward_preset="paper"
            # `metadata` has the fields of a `WordProblem`: "gold" is the answer as published, with its commas.
            pairs = zip(completions, problems, strict=True)
            paid = [paper_rewards(completion, problem.metadata["gold"]) for completion, problem in pairs]
            names = [name for name in self.reward_weights if name not in rewards]
            rewards |= {name: np.array([values[name] for values in paid], np.float64) for name in names}
        return Scores(rewards, verdicts.reasons, verdicts.extracted)

    def demonstration(self, problem: Problem) -> str:
        return self._worked(problem.metadata["right"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, a plausible way that is often wrong: "hasty" adds up all numbers of a generated problem.

        In a published problem, it leaves out the last step of the solution.
        """
        return {"hasty": self._worked(problem.metadata["hasty"])}

    def _worked(self, solution: Solution) -> str:
        """The completion that writes a solution, in the prompt's style."""
        lines, answer = solution
        between_lines = " " if self.prompt_style == "plain" else "\n"
        return self._write(between_lines.join(lines), answer)

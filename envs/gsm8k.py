"""GSM8K, word problems with one number as the answer: the published set, a copy of it, or our own generator."""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from envs import gsm8k_board
from envs.core import Problem, Scores, TextEnv, check_index
from envs.errors import EnvError, check_choice
from envs.gsm8k_problems import LEVELS, SPLIT_SIZES, WordProblem, fixed_set, result, train_problem
from envs.gsm8k_rewards import PAPER_WEIGHTS, has_format, paper_parts
from envs.gsm8k_rows import HUB, Worked, worked_rows

_INSTRUCTION = """
Answer in this format:
<reasoning>
...
</reasoning>
<answer>
...
</answer>
"""


class GSM8K(TextEnv):
    """Grade-school mathematics (`spg/GSM8K-v0`), after openai/gsm8k (arXiv:2110.14168).

    Prompt: the question (plain), or the format to answer in and the question (paper: the training prompt of
    d1, arXiv:2504.12216, and SPG, arXiv:2510.09541). Action: a text with the number in <answer>...</answer>.

    Rewards:
        correct (0 or 1): the number equals the gold answer exactly, by `verifiers.verify("gsm8k")`, lenient.
        format (0 or 1): exactly one closed <answer> block, and in it one plain number.
        with reward_preset="paper" also exact, integer, strict_format, soft_format (0 or 1 each) and xml_count
            (at most 0.5): `envs.gsm8k_rewards`.

    Splits: source="generated": 1,000,000 train, 256 validation, 256 test problems, no calculation in two of
    them. Otherwise test is the set's own, and validation the twentieth of its train set that a hash picks.
    """

    reward_weights: ClassVar[dict[str, float]] = {"correct": 1.0, "format": 0.0}
    reward_ranges: ClassVar[dict[str, tuple[float, float]]] = {"xml_count": (-float("inf"), 0.5)}

    def __init__(
        self,
        split: str = "train",
        source: str = "hub",
        prompt_style: str | None = None,
        level: int = 1,
        reward_preset: str = "default",
        revision: str | None = None,
    ) -> None:
        """Opens one split; raises EnvError for an unknown value and for data that cannot be had or used.

        split: "train", "validation" or "test".
        source: "hub" (openai/gsm8k, configuration main), "generated" (our own problems, no data needed), or the
            path of a folder or file with the columns question and answer.
        prompt_style: "plain" or "paper"; None = plain for generated problems, paper for all others.
        level: of generated problems: 1 (two steps, at most 40 characters), 2 (sentences, multiplication) or 3
            (four steps, fractions and percentages, numbers that play no part).
        reward_preset: "default", or "paper" for the rewards of d1 and SPG.
        revision: branch, tag or commit of the hub's set; None = its main branch.
        """
        check_choice("gsm8k", "split", split, list(SPLIT_SIZES))
        check_choice("gsm8k", "prompt_style", prompt_style, ["plain", "paper", None])
        check_choice("gsm8k", "level", level, LEVELS)
        check_choice("gsm8k", "reward_preset", reward_preset, ["default", "paper"])
        self.split, self.source, self.level = split, str(source), level
        generated = self.source == "generated"
        if level != 1 and not generated:
            raise EnvError(f"gsm8k: level={level} is for source=generated; {self.source} has no levels.")
        if revision is not None and self.source != "hub":
            raise EnvError(f"gsm8k: revision={revision} is for source=hub, not for {self.source}.")
        self.prompt_style = prompt_style or ("plain" if generated else "paper")
        self._paper_rewards = reward_preset == "paper"
        if self._paper_rewards:
            self.reward_weights = PAPER_WEIGHTS
        self._rows: Sequence[Worked] | None = None
        commit = None
        if not generated:
            self._rows, commit = worked_rows(self.source, split, revision)
        if commit:
            self.origin = {HUB["train"].repo: commit}
            self.notice = f"gsm8k: {HUB['train'].repo} at revision {commit}."

    def __len__(self) -> int:
        """Problems of the split: 1,000,000, 256 and 256 generated ones, or the rows of the set."""
        return SPLIT_SIZES[self.split] if self._rows is None else len(self._rows)

    def problem(self, index: int) -> Problem:
        """Problem number `index`, the same for the same arguments, with its solution in the metadata."""
        i = check_index(self, index)
        if self._rows is not None:
            row = self._rows[i]
        elif self.split == "train":
            row = _as_worked(train_problem(self.level, i))
        else:
            row = _as_worked(fixed_set(self.level, self.split)[i])
        prompt = row.question if self.prompt_style == "plain" else f"{_INSTRUCTION}\n\n{row.question}"
        metadata = {
            "question": row.question,
            "gold": row.gold,
            "right": (row.lines, row.answer),
            "hasty": (row.hasty, row.hasty_answer),
        }
        return Problem(prompt, {"answer": row.answer}, metadata=metadata)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        """All components of n completions; `correct` by one verifier call."""
        from verifiers import verify_batch

        verdicts = verify_batch("gsm8k", completions, answer=[p.reference["answer"] for p in problems])
        rewards = {
            "correct": np.asarray(verdicts.correct, np.float64),
            "format": np.array([has_format(completion) for completion in completions], np.float64),
        }
        if self._paper_rewards:
            parts = [paper_parts(c, p.metadata["gold"]) for p, c in zip(problems, completions, strict=True)]
            names = [name for name in PAPER_WEIGHTS if name not in rewards]
            rewards |= {name: np.array([part[name] for part in parts], np.float64) for name in names}
        return Scores(rewards, verdicts.reasons, verdicts.extracted)

    def demonstration(self, problem: Problem) -> str:
        """The worked solution and the answer, written as the prompt asks."""
        return self._write(*problem.metadata["right"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit, "hasty": adds all numbers as they come; in the published set: stops one step early."""
        return {"hasty": self._write(*problem.metadata["hasty"])}

    def render_text(self, problem: Problem, completion: str | None, *, color: bool | None = None) -> str:
        """The question, the completion with the part that was judged, the gold answer and the verdict.

        color: with ANSI colours or not; None = with, unless the environment variable NO_COLOR is set.
        """
        return gsm8k_board.draw(problem, completion, color=color)

    def _write(self, lines: Sequence[str], answer: str) -> str:
        if self.prompt_style == "plain":
            return f"{' '.join(lines)}<answer>{answer}</answer>"
        body = "\n".join(lines)
        return f"<reasoning>\n{body}\n</reasoning>\n<answer>\n{answer}\n</answer>\n"


def _as_worked(made: WordProblem) -> Worked:
    answer = str(made.answer)
    return Worked(made.text, made.steps, answer, answer, made.hasty, str(result(made.hasty)))

"""Countdown: combine the given numbers, each once, so that they make the target."""

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from envs.bases.generated import GeneratedEnv
from envs.countdown import problems as puzzles
from envs.countdown.problems import Puzzle
from envs.countdown.rewards import REWARD_PRESETS, has_format, paper_reward, read_numbers, share_used
from envs.countdown.solver import Tree, format_expression, format_steps, solve, solve_signs, sum_tree
from envs.errors import EnvError
from envs.problem import Problem, Score, Scores
from envs.text.terminal import paint

_MAX_SHOWN = 200  # the most characters of an answer that `render_text` shows
_INSTRUCT_PROMPT = """\
Work out the task below. Write your reasoning first and your answer after it, in this form:
<reasoning>
...
</reasoning>
<answer>
...
</answer>

Make {target} from the numbers {numbers}: write an arithmetic expression whose value is exactly {target}. \
Use every number of the list, each exactly once, and no other number. The operations are +, -, * and /, and \
brackets are allowed. Inside <answer> and </answer> give only the expression, without an equals sign and without \
the target. With the numbers [3, 5, 9] and the target 30, for instance, this would be right:
<answer>
(9-3)*5
</answer>"""


class Countdown(GeneratedEnv):
    """Countdown (`spg/Countdown-v0`), the task of d1 (arXiv:2504.12216) and SPG (arXiv:2510.09541).

    Prompt: "countdown 36 18 15 = 3" (plain), or one user message with the rules and the tags (instruct). Action: a text
    with an expression in `<answer>...</answer>`.

    Rewards:
        correct (0 or 1): each number is used once and the value is the target, by `verifiers.verify("countdown")`.
        format (0 or 1): exactly one closed `<answer>` block, and in it an expression of digits, `+ - * / ( )`, spaces.
        numbers_used (0 to 1): the share of the given numbers that a readable expression uses exactly once.
        paper (0, 0.1 or 1; with reward_preset="paper" only): the reward of d1's and SPG's code, computed exactly.

    Splits: 1,000,000 train, 256 validation and 256 test problems; a hash of sorted numbers and target says which
    split a problem belongs to.
    """

    task = "countdown"
    levels = puzzles.LEVELS
    prompt_styles = ("plain", "instruct")
    prompt_fields = ("numbers", "target")
    reward_presets = REWARD_PRESETS
    reward_weights: Mapping[str, float] = REWARD_PRESETS["default"]

    def __init__(
        self,
        split: str = "train",
        source: str = "generated",
        prompt_style: str = "plain",
        level: int = 1,
        reward_preset: str = "default",
    ) -> None:
        """Opens one split; raises EnvError for an unknown value and for a file that cannot be used.

        Args:
            source: "generated", or the path of a file of {"numbers", "target"} rows, which are then the test problems;
                train and validation leave them out, also with their numbers in another order.
            prompt_style: "plain" (22 characters or so, for tiny models), "instruct" (for instruction-tuned ones), or
                a file with your own prompt, which has {numbers} and {target} (`envs.text.prompt_file`).
            level: 1 = three numbers, + and - suffice; 2 = three, 3 = four, 4 = five, 5 = six numbers with + - * /.
            reward_preset: "default" (solved or not) or "paper" (only the component `paper` is paid).
        """
        super().__init__(split, level, prompt_style, reward_preset)
        self.source = str(source)
        # The user's file is read for every split, to keep its problems out of the other splits, and to refuse a wrong
        # path at once.
        users_test = () if self.source == "generated" else puzzles.read_problems(self.source)
        self._excluded = frozenset(puzzles.key(*problem) for problem in users_test)
        if split == "test" and users_test:
            self._items = users_test
        elif split == "test" and level == 1:
            self._items = puzzles.test_problems()  # the shipped file, which equals fixed_set(1, "test")
        elif split != "train":
            self._items = puzzles.fixed_set(level, split, self._excluded)
        # In train, `_draw` makes each problem when it is asked for.

    def _draw(self, index: int) -> Puzzle:
        return puzzles.train_problem(self.level, index, self._excluded)

    def problem(self, index: int) -> Problem:
        numbers, target = self._item(index)
        reference = {"numbers": list(numbers), "target": target}
        plain = f"countdown {' '.join(map(str, numbers))} = {target}"
        prompt, prefix = self._prompt(reference, plain, lambda: _INSTRUCT_PROMPT.format(**reference))
        return Problem(prompt, reference, prefix)

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        from verifiers import verify_batch

        numbers = [problem.reference["numbers"] for problem in problems]
        targets = [problem.reference["target"] for problem in problems]
        verdicts = verify_batch("countdown", completions, numbers=numbers, target=targets)
        reasons, answers = verdicts.reasons, verdicts.extracted
        readable = [reason in ("ok", "wrong", "rule_broken") for reason in reasons]
        # 0 if an answer cannot be read. 1 if it is "ok" or "wrong": both use each number once, but a wrong one has
        # another value. If an answer breaks a rule, the share of the numbers that it uses.
        numbers_used = [1.0 if is_readable else 0.0 for is_readable in readable]
        for i, reason in enumerate(reasons):
            if reason == "rule_broken":
                numbers_used[i] = share_used(numbers[i], answers[i] or "")
        formatted = [
            is_readable and has_format(text) for is_readable, text in zip(readable, completions, strict=True)
        ]
        rewards = {"correct": verdicts.correct, "format": formatted, "numbers_used": numbers_used}
        if "paper" in self.reward_weights:  # reward_preset="paper"
            rewards["paper"] = list(map(paper_reward, completions, verdicts.correct))
        columns = {name: np.asarray(values, np.float64) for name, values in rewards.items()}
        return Scores(columns, reasons, answers)

    def demonstration(self, problem: Problem) -> str:
        """A solution. At level 1 it has only + and - if that is possible; otherwise it is the solver's first.

        Raises EnvError for a problem without a solution. All problems of this environment have one; a file with an
        unsolvable problem is refused.
        """
        numbers, target = problem.reference["numbers"], problem.reference["target"]
        tree = solve_signs(numbers, target) if self.level == 1 else None
        if tree is None:
            tree = solve(numbers, target)
        if tree is None:
            raise EnvError(f"{self.spec_name}: {numbers} cannot make {target}.")
        return self._write(tree)

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit (a plausible way that is often wrong), "adder": it adds the numbers, whatever the target."""
        return {"adder": self._write(sum_tree(problem.reference["numbers"]))}

    def feedback(self, problem: Problem, score: Score) -> str:
        from verifiers.countdown import explain

        explanation = ""
        if score.reason != "malformed":  # the general feedback on a malformed answer is enough
            explanation = explain(score.extracted, score.reason, **problem.reference)
        return explanation or super().feedback(problem, score)

    def _write(self, tree: Tree) -> str:
        """The completion with this expression as its answer, in the prompt's style."""
        return self._completion(format_expression(tree), work="\n".join(format_steps(tree)))

    def render_text(self, problem: Problem, completion: str | None) -> str:
        """Numbers and target, then what the completion wrote, and which numbers it used.

        (n) is a used number, .n a missing number, xn a number that is not given or is used more often than given.
        """
        from verifiers import verify

        numbers, target = problem.reference["numbers"], problem.reference["target"]
        head = paint("bold", f"numbers {' '.join(map(str, numbers))}   target {target}")
        if completion is None:
            return head
        verdict = verify("countdown", completion, numbers=numbers, target=target)
        if verdict.extracted is None:
            return f"{head}\nno expression in the answer ({verdict.reason})"
        answer = verdict.extracted.strip()
        in_quotes = ascii(answer[:_MAX_SHOWN])  # with any character but ASCII escaped
        without_quotes = in_quotes[1:-1]
        shown = without_quotes + ("..." if len(answer) > _MAX_SHOWN else "")
        style, word = ("green", "right") if verdict.correct else ("red", f"wrong: {verdict.reason}")
        return f"{head}\n{paint(style, f'{shown}   ({word})')}\n{_mark_numbers(numbers, answer)}"


def _mark_numbers(numbers: list[int], answer: str) -> str:
    """A line with each given number, marked as used or missing, and then the numbers that should not be used."""
    # Numbers of the answer that no given number has been matched to yet.
    unmatched = Counter(read_numbers(answer))
    parts = []
    for number in map(str, numbers):
        used = unmatched[number] > 0
        if used:
            unmatched[number] -= 1
        parts.append(paint("green", f"({number})") if used else paint("dim", f".{number}"))
    extra = [paint("red", f"x{number[:20]}") for number in unmatched.elements()]
    legend = "(n) used  .n missing" + ("  xn not given" if extra else "")
    return f"{' '.join([*parts, *extra[:20]])}   {legend}"

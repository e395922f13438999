"""Code: write a Python function that returns the right values, also in calls that the prompt does not show."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from envs.answer_block import only_answer
from envs.bases.generated import GeneratedEnv, drawn_for_training, fixed_set
from envs.code import generated
from envs.errors import EnvError, MissingPackage, NoDemonstration
from envs.problem import Problem, Score, Scores
from verifiers.errors import VerifierError

if TYPE_CHECKING:
    from envs.code.published import Exercise

_INSTRUCT = """\
Write a Python function f(x) that does the following to x, step by step: {sentence}.
For example, {calls}.
Answer with the whole function between <answer> and </answer>."""
# The prompts of published sets, as in lm-evaluation-harness: {prompt_style: (prompt, completion prefix)}.
_HUMANEVAL = {
    "plain": ("{prompt}", ""),
    "instruct": (
        "Write a solution to the following problem and make sure that it passes the tests:\n```python\n{prompt}\n```\n",
        "Here is the completed function:\n```python\n{prompt}\n",
    ),
}
_INFILLING = "Fill in what is missing in this Python program, so that it does what it says."
_MBPP = {
    "plain": (
        "You are an expert Python programmer, and here is your task: {prompt} Your code should pass these tests:\n\n"
        "{tests}\n[BEGIN]\n",
        "",
    ),
    "instruct": (
        "You are an expert Python programmer, and here is your task:\n{prompt}\nYour code should pass these tests:\n"
        "{tests}",
        "\n```python\n",
    ),
}
# In other sets, whose tests are inputs with outputs, a prompt is the question and one of these requests.
_PROGRAM = "Write a Python program that reads the input from standard input and prints the answer."
_FUNCTION = "Write the Python {what} {name}."


class Code(GeneratedEnv):
    """Python functions from a sentence and examples (`spg/Code-v0`), run in a sealed interpreter.

    Prompt: "f(4)=14 f(7)=20: add 3, mul 2" (plain), or a longer user message (instruct). Problems of a published set
    are asked as in lm-evaluation-harness (plain: as in its task for base models, instruct: as in its task for
    instruction-tuned ones). Action: a text with the function, or its body, in `<answer>...</answer>`, in a fenced
    block, or alone.

    Rewards:
        correct (0 or 1): every call, shown or not, returns the right value, by `verifiers.verify("code")`.
        passed (0 to 1): the share of calls that return the right value.
        format (0 or 1): exactly one closed `<answer>` block; in problems of a published set, exactly one fenced block.

    Splits: 1,000,000 train, 256 validation and 256 test problems; a hash of the sentence says which split a function
    belongs to. HumanEval and MBPP have splits of their own; other sets and files are divided by a hash of the prompt,
    80/10/10.
    """

    task = "code"
    levels = generated.LEVELS
    prompt_styles = ("plain", "instruct")
    reward_weights: Mapping[str, float] = {"correct": 1.0, "passed": 0.0, "format": 0.0}
    score_while_decoding = True

    def __init__(
        self,
        split: str = "train",
        source: str = "generated",
        prompt_style: str = "plain",
        level: int = 1,
        hidden: int = 8,
        rows: int = 2000,
        revision: str | None = None,
        hole: int = 32,
    ) -> None:
        """Opens one split.

        Args:
            source: "generated", "humaneval", "mbpp" (its sanitized part), a file (`verifiers.files.FORMATS`), or a data
                set of the hub. A file or data set has the columns of HumanEval, MBPP, HumanEval-infilling, KodCode or
                AceCode, or `problem` and `tests` (inputs with outputs).
            prompt_style: "plain" (32 characters or so, for tiny models) or "instruct" (for instruction-tuned ones).
            level: of generated problems: 1 = two steps with a number, 2 = a text, 3 = a list, 4 = a condition.
            hidden: how many calls that the prompt does not show are added, at most, if it shows all tests of its row.
                Running the reference solution gives their values.
            rows: the most rows of a file, or of a data set of the hub, that are read.
            revision: branch, tag or commit of a data set of the hub; None = its main branch.
            hole: how many tokens fit into the part of a program that is to be filled in (HumanEval-infilling).

        Raises EnvError for an unknown value and for data that cannot be used, and MissingPackage if the interpreter is
        not installed.
        """
        super().__init__(split, level, prompt_style)
        check_installed()
        if not isinstance(hole, int) or hole < 1:
            raise EnvError(f"code: hole={hole!r}: it is a number of tokens, 1 or more, e.g. 32.")
        self.source, self.hole = str(source), hole
        self._generated = self.source == "generated"
        if not self._generated:
            from envs.code import published

            loaded = published.load(self.source, split, hidden, rows, revision)
            self._items, self.notice, self.origin = loaded  # origin: {data set of the hub: commit}
        elif split != "train":
            self._items = fixed_set(generated, level, split)
        if revision is not None and not self.origin:
            raise EnvError(f"code: revision={revision} is for a set of the hub, not for source={source}.")

    def _draw(self, index: int) -> generated.Exercise:
        return drawn_for_training(generated, self.level, index)

    def problem(self, index: int) -> Problem:
        exercise = self._item(index)
        if not self._generated:
            return self._published(exercise)
        function = exercise.function
        calls = [f"f({x!r})={value!r}" for x, value in exercise.calls[: generated.SHOWN]]
        prompt = f"{' '.join(calls)}: {function.sentence}"
        if self.prompt_style == "instruct":
            prompt = _INSTRUCT.format(sentence=function.sentence, calls=" and ".join(calls))
        cases = [{"args": [x], "expected": value} for x, value in exercise.calls]
        reference = {"entry_point": "f", "cases": cases, "prompt": "def f(x):\n"}
        metadata = {"code": f"return {function.code}", "shown": generated.SHOWN}
        return Problem(prompt, reference, metadata=metadata)

    def _published(self, exercise: "Exercise") -> Problem:
        """The problem of a row of a published set."""
        row = exercise.row
        reference = {
            "entry_point": row.entry_point,
            "cases": list(exercise.cases),
            "prompt": row.setup,  # the code before an answer: imports, helpers, or the head of the function
            "reference_fuel": exercise.fuel,
        }
        metadata = {"code": row.reference, "shown": exercise.num_shown}
        if row.around:  # the program before and behind the part that is to be filled in
            template = self._fenced(f"[MASK*{self.hole}]".join(row.around))
            return Problem(_INFILLING, reference, metadata=metadata, completion_template=template)
        prompt, prefix = self._templates(exercise)
        words = {"prompt": row.prompt, "tests": row.shown_tests}
        return Problem(prompt.format(**words), reference, prefix.format(**words), metadata)

    def _templates(self, exercise: "Exercise") -> tuple[str, str]:
        """(prompt, completion prefix) for a row: templates with {prompt} and {tests}, which `_published` fills in."""
        row = exercise.row
        # `row.cases` are inputs with outputs. A row without them has tests in Python, from which `exercise.cases` were
        # made. Prompts of MBPP show these tests, prompts of HumanEval do not.
        if not row.cases:
            templates = _MBPP if row.shown_tests else _HUMANEVAL
            return templates[self.prompt_style]
        what = "method" if "." in row.entry_point else "function"
        request = _FUNCTION.format(what=what, name=row.entry_point) if row.entry_point else _PROGRAM
        prefix = "```python\n" if self.prompt_style == "instruct" else ""
        return "{prompt}\n\n" + request + "\n", prefix

    def score_batch(self, problems: Sequence[Problem], completions: Sequence[str]) -> Scores:
        from verifiers import verify_batch

        names = ("entry_point", "cases", "prompt", "reference_fuel")
        columns = {name: [problem.reference.get(name) for problem in problems] for name in names}
        verdicts = verify_batch("code", completions, **columns)
        rewards = {
            "correct": np.asarray(verdicts.correct, np.float64),
            "passed": verdicts.score,
            "format": np.array(list(map(self._has_form, problems, completions)), np.float64),
        }
        return Scores(rewards, list(map(_reason, verdicts.reasons, verdicts.extracted)), verdicts.extracted)

    def _has_form(self, problem: Problem, completion: str) -> bool:
        """Whether the reward `format` is 1."""
        if self._generated:
            return only_answer(completion) is not None
        # A run scores completions together with the prefix; other callers may leave it out.
        prefix = problem.completion_prefix
        text = completion if completion.startswith(prefix) else prefix + completion
        return text.count("```") == 2

    def demonstration(self, problem: Problem) -> str:
        """The right function; raises NoDemonstration if a published set has none."""
        if not problem.metadata["code"]:
            raise NoDemonstration(f"{self.spec_name} has no reference solutions.")
        return self._write(problem, problem.metadata["code"])

    def habits(self, problem: Problem) -> dict[str, str]:
        """One habit (a plausible way that is often wrong), "first": always returns the value of the first example.

        Problems in which a part of a program is to be filled in have none.
        """
        if problem.completion_template:
            return {}
        from verifiers.code.values import plain, python_source, read_value

        value = problem.reference["cases"][0].get("expected")
        entry_point = problem.reference["entry_point"]
        # "expected" is JSON, in which e.g. a set has a special form; `python_source` turns it into Python.
        body = f"return {python_source(plain(read_value(value)))}"
        if self._generated:
            code = body
        elif not entry_point:  # a program that reads its input
            code = f"print({value!r})"
        else:
            class_name, _, function_name = entry_point.rpartition(".")
            code = f"def {function_name}(*args):\n    {body}"
            if class_name:
                code = f"class {class_name}:\n    " + code.replace("\n", "\n    ")
        return {"first": self._write(problem, code)}

    def _write(self, problem: Problem, code: str) -> str:
        """A completion with this code, in the prompt's style. code: for a generated problem, the body of f alone."""
        if problem.completion_template:
            return self._fenced(code)
        if not self._generated:
            return f"{code}\n```" if problem.completion_prefix else f"```python\n{code}\n```"
        if self.prompt_style == "plain":
            return f"<answer>{code}</answer>"
        return f"<answer>\ndef f(x):\n    {code}\n</answer>"

    def _fenced(self, code: str) -> str:
        """A whole program as a completion, for a problem in which a part of the program is to be filled in."""
        return f"```python\n{code}\n```" if self.prompt_style == "instruct" else code

    def feedback(self, problem: Problem, score: Score) -> str:
        """The first shown call that fails, and what it returned."""
        from verifiers.code.task import first_failure

        reference = problem.reference
        failure = first_failure(score.extracted or "", reference, problem.metadata["shown"])
        return failure or super().feedback(problem, score)


def _reason(reason: str, extracted: str | None) -> str:
    """The verdict's reason; "missing_module" if the program imports a module that the interpreter lacks.

    That is the model's mistake. An "error" would be the verifier's, and too many errors end a run.
    """
    from verifiers.code.task import explain

    # For an "error", `explain` only says something if a module is missing.
    return "missing_module" if reason == "error" and explain(extracted, reason) else reason


def check_installed() -> None:
    """Raises MissingPackage, which says what to install, and EnvError if there is no place to keep the interpreter."""
    from verifiers.code import interpreter

    try:
        interpreter.check_installed()
    except VerifierError as error:
        raise MissingPackage(f"code: {error}") from error
    try:
        interpreter.own_folder()
    except VerifierError as error:
        raise EnvError(f"code: {error}") from error

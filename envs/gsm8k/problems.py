"""GSM8K's problems: generated ones, whose splits share no calculation, and the rows of the published set."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.errors import EnvError
from envs.files.datasets import HubDataset, Row
from envs.gsm8k.templates import NAMES, SIGNS, TEMPLATES, THINGS, LineTemplate, SentenceTemplate
from envs.splits import GSM8K as SPLIT_RULE
from envs.splits import pick
from verifiers.batch import as_reference

TRAIN = HubDataset("openai/gsm8k", config="main", split="train", num_rows=7473)
TEST = HubDataset("openai/gsm8k", config="main", split="test", num_rows=1319)
COLUMNS = ("question", "answer")
# `envs.files.datasets.load_split` hashes text_to_hash(question) to divide the published rows among the splits.
# Generated problems are divided by `split_of`.
text_to_hash = str.strip
LEVELS = tuple(TEMPLATES)
SEED = 8_000_008  # keeps these streams apart from those of any other task
_NUMBER = re.compile(r"-?(\d+|\d{1,3}(,\d{3})+)(\.\d+)?")
_CALCULATOR_MARK = re.compile(r"<<[^<>]*>>")  # as in 48/2=<<48/2=24>>24
Solution = tuple[tuple[str, ...], str]
"""Lines of working, ("12-5=7", "7+3=10"), and the answer, "10"."""


@dataclass(frozen=True)
class WordProblem:
    """A question, its solution, and a wrong solution."""

    question: str
    gold: str
    """The answer as the data set writes it, thousands separators included."""
    right: Solution
    hasty: Solution
    """The wrong solution that `env.GSM8K.habits` gives. In a generated problem, it adds all numbers of the question. In
    a published problem, it stops one calculation too early."""


def split_of(steps: Sequence[str]) -> str:
    """The split of a generated problem, by its calculation: a tenth is for validation, a tenth for test."""
    return SPLIT_RULE(" ".join(steps))


def key(problem: WordProblem) -> str:
    """The text by which problems are told apart."""
    return problem.question


def draw(rng: np.random.Generator, level: int, split: str, turn: int | None) -> WordProblem:
    """A random problem of a split. The template is drawn once, then numbers until the problem belongs to the split.

    If numbers do not suit the template, only numbers are drawn again; otherwise templates that few numbers suit would
    be rare. turn: not used here, see `envs.bases.generated.fixed_set`.
    """
    sentences = pick(rng, TEMPLATES[level]) if level > 1 else None
    # Only level 1 uses these two, but all levels draw them, so that the random stream gives the same problems as ever.
    line = pick(rng, TEMPLATES[1])
    signs = pick(rng, SIGNS)
    while True:
        problem = _fill_line(rng, line, signs) if sentences is None else _fill_sentences(rng, sentences)
        if problem is None:  # the numbers do not suit the template
            continue
        steps, _ = problem.right
        if split_of(steps) == split:
            return problem


def _fill_line(rng: np.random.Generator, template: LineTemplate, signs: str) -> WordProblem | None:
    """A level 1 problem with random numbers; None if a result has fewer than two digits.

    For example "Bus: 20 kids, gains 3, drops 4. Kids?" with the signs "+-" and the steps "20+3=23", "23-4=19".
    """
    a = int(rng.integers(12, 31))
    b = int(rng.integers(2, 6))
    c = int(rng.integers(2, 6))
    first_result = a + b if signs[0] == "+" else a - b
    second_result = first_result + c if signs[1] == "+" else first_result - c
    if min(first_result, second_result) < 10:
        return None
    verbs = []
    for sign in signs:
        verbs_of_sign = template.more if sign == "+" else template.less
        verbs.append(pick(rng, verbs_of_sign.split()))
    opening = template.opening.format(name=pick(rng, NAMES))
    unit = pick(rng, template.units.split())
    text = f"{opening} {a} {unit}, {verbs[0]} {b}, {verbs[1]} {c}. {unit.title()}?"
    steps = [f"{a}{signs[0]}{b}={first_result}", f"{first_result}{signs[1]}{c}={second_result}"]
    return _word_problem(text, steps, numbers=[a, b, c])


def _fill_sentences(rng: np.random.Generator, template: SentenceTemplate) -> WordProblem | None:
    """A problem of level 2 or 3 with random numbers; None if a step gives no whole number above zero."""
    values = {letter: pick(rng, choices) for letter, choices in template.numbers.items()}
    known = dict(values)  # {name: number} for the letters, and for the results so far: r1, r2, ...
    steps = []
    # Each side of a step is a name in `known` or a number in digits: ["r1", "*", "2"].
    for number, (left, sign, right) in enumerate(template.steps, 1):
        a = known[left] if left in known else int(left)
        b = known[right] if right in known else int(right)
        if sign == "/" and a % b:
            return None
        result = {"+": a + b, "-": a - b, "*": a * b, "/": a // b}[sign]
        if result < 1:
            return None
        known[f"r{number}"] = result
        steps.append(f"{a}{sign}{b}={result}")
    name, other = (NAMES[i] for i in rng.permutation(len(NAMES))[:2])
    text = template.text.format(name=name, other=other, things=pick(rng, THINGS), **values)
    return _word_problem(text, steps, numbers=list(values.values()))


def _word_problem(question: str, steps: list[str], numbers: list[int]) -> WordProblem:
    """The problem with both solutions: the right one is `steps`; the hasty one adds all the question's `numbers`."""
    sums = []
    total = numbers[0]
    for number in numbers[1:]:
        sums.append(f"{total}+{number}={total + number}")
        total += number
    answer = steps[-1].rpartition("=")[2]
    return WordProblem(question, answer, right=(tuple(steps), answer), hasty=(tuple(sums), str(total)))


def read_row(row: Row) -> WordProblem:
    """The problem of a published row, whose answer is the number behind the last ####.

    Without #### the whole column `answer` is read as the number. Raises EnvError, naming file and line, if there is no
    number.
    """
    solution = row.values["answer"]
    text = as_reference(solution) or ""  # a column of numbers is read as text; "" for what is neither
    working, _, gold = text.rpartition("####")  # without ####, `working` is "" and `gold` the whole text
    gold = gold.strip()
    if not _NUMBER.fullmatch(gold):
        wanted = 'a number such as 1,250 or -3, or a solution that ends in "#### 1,250"'
        raise EnvError(f"gsm8k: {row.where} has the answer {solution!r:.80}; it must be {wanted}.")
    number = gold.replace(",", "")
    lines = [line.rstrip() for line in working.strip().splitlines() if line.strip()]
    return WordProblem(
        row.values["question"],
        gold,
        right=_without_marks(lines, number),
        hasty=_one_step_early(lines, number),
    )


def _one_step_early(lines: list[str], number: str) -> Solution:
    """A hasty solution of a published problem: it stops one calculation too early.

    It ends with the line of the second to last calculation, and its answer is the result of this calculation. If there
    is no such calculation, or if its result is no number, the solution leaves out the last line instead. Its answer is
    then 0, or 1 if `number`, the right answer, is "0".
    """
    results = []  # (index of the line, result) of each calculation: <<48/2=24>> has the result "24"
    for i, line in enumerate(lines):
        for mark in _CALCULATOR_MARK.findall(line):
            _, _, result = mark.strip("<>").rpartition("=")
            results.append((i, result))
    line_number, result = results[-2] if len(results) >= 2 else (0, "")  # "" is no number
    if not _NUMBER.fullmatch(result):
        return _without_marks(lines[:-1], "0" if number != "0" else "1")
    return _without_marks(lines[: line_number + 1], result.replace(",", ""))


def _without_marks(lines: list[str], answer: str) -> Solution:
    """A solution of these lines, without the marks of the calculator in them, and this answer."""
    return tuple(_CALCULATOR_MARK.sub("", line) for line in lines), answer

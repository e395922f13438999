"""`python -m envs check`: whether an environment keeps its contract. Each check gives a figure, or the fault."""

import json
import math
import os
import string
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from envs.authoring import reward_functions
from envs.authoring.async_calls import call_all
from envs.combining.divided import Divided
from envs.combining.mixture import TOGETHER
from envs.combining.wrapper import author_task
from envs.core import TaskEnv, TextEnv
from envs.episodes import cause, play
from envs.errors import EnvError, NoDemonstration, in_keywords, with_flags
from envs.files.rows import Rows, answer_is_right, answer_text, judges_an_answer
from envs.problem import Problem, name_of, read_problem
from envs.registry import is_of_script, known, make, name_as_text, name_with_files
from envs.scoring import as_turns, score_all, scoring_of
from envs.splits import SPLITS, content, question
from envs.task import defines, limits_of
from envs.text.template import fits as fits_template
from verifiers import verify
from verifiers.statistics import wilson_interval
from verifiers.user_code import exit_is_error

MIN_DIFFERENT = 0.9
"""The share of problems of validation, and of test, that must differ from each other: a copy adds no evidence."""
SLOWEST = 2.0
"""The most seconds of processor time that scoring a completion may take."""
SMALL_SPLIT = 100
"""If validation or test has fewer problems, the check says how uncertain a rate over them is."""
# Advice on how to divide problems into splits.
_BY_CONTENT = (
    "Problems of a list are divided by content with envs.split_of, and made ones are drawn with "
    "envs.draw_for(self.split, index, ...)"
)
SHORT_ANSWER = 2
"""The most characters of a short answer. Nearly every long text contains such an answer by chance."""
_FEW_PROBLEMS = 16
"""How many problems the more costly checks take, e.g. to make them in a fresh process, or to score junk for them."""
_JUNK = "<answer>?</answer>"  # a completion that solves no problem
# Code for a fresh process: `contents` below, and the trainer's measurement of lengths.
_CONTENTS_CODE = (
    "import json, sys, envs.checking as c; json.dump(c.contents(*json.loads(sys.argv[1])), sys.stdout)"
)
_LENGTHS_CODE = "from spg_trainer.rollout.long_prompts import main; main()"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check."""

    name: str
    ok: bool
    written: str
    """What was measured if `ok`, else what is wrong. Arguments in it are written as flags of a command line."""
    is_note: bool = False
    """Whether this is only a hint to the author: the task can be trained on as it is."""

    @property
    def figure(self) -> str:
        """`written` for Python, with arguments as the keywords of `make`."""
        return in_keywords(self.written)


@dataclass(frozen=True)
class _Subject:
    """The environment that is checked, and what the checks have found so far."""

    name: str
    arguments: dict[str, Any]
    splits: dict[str, TextEnv]
    count: int
    """The most problems of a split that are looked at."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """{component of the reward: its lowest and its highest value so far}."""
    raised: set[str] = field(default_factory=set)
    """The errors that `score` has raised so far, each with its place."""
    notes: list[str] = field(default_factory=list)
    """Hints to the author from the check that is running; they do not make it fail."""

    def score(
        self, env: TextEnv, problems: dict[int, Problem], texts: Sequence[str | Sequence[str]]
    ) -> np.ndarray:
        """(n,) bool: which of n texts are right. `play` plays text i in an episode of the i-th problem.

        problems: {index: problem}, n of them. texts: a str is written in every turn of its episode; a list has one text
        for each turn. Adds to `ranges`. Raises EnvError if the author's code raises.
        """
        pairs = zip(problems.items(), texts, strict=True)
        episodes = [play(env, index, problem, text) for (index, problem), text in pairs]
        turns = [completions for completions, _ in episodes]
        scored = score_all(env, list(problems), list(problems.values()), turns)
        for index, completions, trace in zip(problems, turns, scored.traceback, strict=True):
            if trace is None:
                continue
            why = cause(author_task(env, problems[index]), trace)
            shown = completions[0] if len(completions) == 1 else completions
            where = f"on {name_of(index, problems[index])}, for {shown!r:.60}"
            if why in self.raised:  # an earlier finding has shown this error in full
                raise EnvError(f"score raised the same {where}")
            self.raised.add(why)
            raise EnvError(f"score raised {where}: {why}")
        for name, values in scored.rewards.items():
            # In a mixture, values are NaN for problems whose task does not have the component.
            values_here = values[~np.isnan(values)].tolist()
            range_before = self.ranges.get(name, ())  # () before the first value
            if values_so_far := [*range_before, *values_here]:
                self.ranges[name] = (min(values_so_far), max(values_so_far))
        return scored.rewards["correct"] == 1


def check(name: str | type | Sequence[str | type], problems: int = 1000, **arguments: Any) -> list[Finding]:
    """Checks an environment on up to `problems` problems of each split; docs/add_a_task.md describes the checks.

    name, arguments: as for `make`, without `split`. Raises EnvError if it cannot be opened at all.
    """
    if not isinstance(problems, int | np.integer) or problems < 1:
        raise EnvError(
            f"problems={problems!r:.60}: should be at least 1, and whole: how many problems of each split are looked "
            "at."
        )
    # A fresh process can open an environment that was registered here only if the name has its file.
    name = name_with_files(name_as_text(name))
    if arguments.get("reward") is not None:
        arguments["reward"] = reward_functions.name_of(arguments["reward"])
    splits = {split: make(name, split=split, **arguments) for split in SPLITS}
    subject = _Subject(name, arguments, splits, problems)
    findings: list[Finding] = []
    for title, run in _CHECKS.items():  # each returns what it has measured, or raises
        try:
            with exit_is_error():  # of `__len__`, for example
                findings.append(Finding(title, ok=True, written=run(subject)))
        except EnvError as error:
            findings.append(Finding(title, ok=False, written=error.written()))
        except Exception as error:  # any error of the author's code or of Gymnasium is a finding
            findings.append(Finding(title, ok=False, written=f"{type(error).__name__}: {error}"))
        if fault := next((f for f in findings[:-1] if not f.ok and f.written == findings[-1].written), None):
            findings[-1] = Finding(title, ok=False, written=f"the same as {fault.name}, above")
        findings += [Finding(title, ok=True, written=note, is_note=True) for note in subject.notes]
        subject.notes.clear()
    return findings


def check_lengths(name: str, problems: int, model: str, length: int = 0, **arguments: Any) -> Finding:
    """Whether prompts fit a model. The trainer measures this in a separate process: this package has no tokenizer.

    name, problems, arguments: as for `check`. model: as --model of the trainer. length: tokens of a completion; 0 = as
    the model is trained by default.
    """
    job = {"name": name, "arguments": arguments, "model": model, "count": problems, "length": length}
    process = _fresh_process(_LENGTHS_CODE, job)
    if process.returncode:
        why = f"the trainer cannot measure them: {_last_line(process.stderr)}"
        return Finding("lengths", ok=False, written=why)
    ok, figure = json.loads(_last_line(process.stdout))  # libraries may print lines before the result
    return Finding("lengths", ok, figure)


def _fresh_process(code: str, job: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process that finds the same packages, with `job` as JSON on its command line.

    That process has a fixed hash seed, while this one has a random seed. So an environment whose problems depend on the
    order of a set gives different problems in the two processes, and the check of purity notices it.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "1"},
    )


def _last_line(text: str) -> str:
    """The last line of what a process printed; of a traceback, the line with the error."""
    return text.strip().rpartition("\n")[2]


def try_scoring(env: TextEnv) -> None:
    """Plays and scores a demonstration (if there is one) and junk on the first problem of each task.

    Raises EnvError, with file and line, if the author's `demonstration`, `reply` or `score` raises. In a run, a
    completion for which `score` raises would only earn 0.
    """
    for part in env.parts.values() or [env]:  # the tasks of a mixture; any other environment has no `parts`
        subject = _Subject(part.spec_name, arguments={}, splits={}, count=1)
        problem = read_problem(part, 0)
        for is_demonstration in (True, False):
            try:
                text = demonstration_of(part, problem) if is_demonstration else _JUNK
                if text is not None:
                    subject.score(part, {0: problem}, [text])
            except EnvError as error:
                # Errors of an episode or `reply` begin with the name; errors of `score` or `demonstration` do not.
                message = error.written()
                has_name = message.startswith(part.spec_name)
                named_error = message if has_name else f"{part.spec_name}: {message}"
                more = "Nothing was trained; `python -m envs check` tries more completions."
                raise EnvError(f"{named_error.removesuffix('.')}. {more}") from error


def _gymnasium(subject: _Subject) -> str:
    """Gymnasium's own checker passes without a warning."""
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(make(subject.name, render_mode="ansi", **subject.arguments))
    if caught:
        raise EnvError(f"check_env warns: {caught[0].message}")
    return "check_env without a warning"


def _purity(subject: _Subject) -> str:
    """Problems depend only on the arguments and their index, and replies only on these and the completions."""
    job = [subject.name, subject.arguments, min(_FEW_PROBLEMS, subject.count)]
    # E.g. {"train 17": [the content of problem 17, the episodes in which given texts are written]}.
    forwards, backwards = contents(*job), contents(*job, backwards=True)
    compared = {"in another order": backwards}
    classes = known()
    ids_in_script = [id for id in subject.name.split(TOGETHER) if id in classes and is_of_script(classes[id])]
    if ids_in_script:
        subject.notes.append(
            f"{' and '.join(ids_in_script)} stands in the script that runs, so no fresh process has opened it; to "
            "check that too, write the class in a file of its own and name the file: ./my_task.py"
        )
    else:
        process = _fresh_process(_CONTENTS_CODE, job)
        if process.returncode:
            raise EnvError(f"a fresh process cannot open it: {_last_line(process.stderr)}")
        compared["in a fresh process"] = json.loads(process.stdout)
    for name, (problem_content, episodes) in forwards.items():
        for where, others in compared.items():
            other_content, other_episodes = others[name]
            if other_content != problem_content:
                raise EnvError(f"problem {name} is another one {where}; it must depend on its index only")
            if other_episodes != episodes:
                raise EnvError(
                    f"a reply to {name} is another one {where}; it must depend on problem and completions only"
                )
    for env in subject.splits.values():
        for index, problem in _problems(env, min(_FEW_PROBLEMS, subject.count)).items():
            if method := _method_that_changes(env, problem):
                raise EnvError(
                    f"{method} changes {name_of(index, problem)} that it is given. Other completions have the same "
                    "problem, so a run gives a copy to each call; work on a copy of your own: list(...), dict(...)"
                )
    num_replies = 0
    for _, episodes in forwards.values():
        num_replies += sum(len(replies) for _, replies in episodes.values())
    and_replies = f" and {num_replies} replies" if num_replies else ""
    return f"{len(forwards)} problems{and_replies} are the same {' and '.join(compared)}"


def _method_that_changes(env: TextEnv, problem: Problem) -> str:
    """The name of an author's method that changes the problem that it is given; "" if none does."""
    task = author_task(env, problem)
    if type(task).__module__.startswith("envs."):
        return ""
    demonstration = sound_demonstration_of(env, problem)
    texts = [_JUNK] if demonstration is None else [*as_turns(demonstration), _JUNK]
    given = problem.copy()
    calls = {"demonstration": [partial(task.demonstration, given)], "habits": [partial(task.habits, given)]}
    if defines(type(task), "reply"):
        calls["reply"] = [partial(task.reply, given, (text,)) for text in texts]
    if scoring_of(type(task)).batch:
        calls["score_batch"] = [partial(task.score_batch, [given], [text]) for text in texts]
    if scoring_of(type(task)).alone:
        calls["score"] = [partial(task.score_turns, given, (text,)) for text in texts]
    for method, calls_of_method in calls.items():
        for call in calls_of_method:
            # What it raises is found elsewhere. After each call, as two may undo each other's change: `reverse()`.
            call_all(lambda: task.spec_name, [call], limits_of(task))
            if content(given) != content(problem):
                return method
    return ""


def _splits(subject: _Subject) -> str:
    """No problem is in two splits, and few are in validation or in test twice."""
    first_split_of: dict[str, str] = {}  # {content of a problem: the first split that has it}
    first_place_of: dict[str, str] = {}  # {content of a problem: where that split has it}
    questions = _Questions()
    counts, faults, twins = [], [], []
    for split, env in subject.splits.items():
        problems = _problems(env, subject.count)
        for index, problem in problems.items():
            place = _place(index, problem, split)
            first_split = first_split_of.setdefault(content(problem), split)
            first_place = first_place_of.setdefault(content(problem), place)
            twin = first_place if first_split != split else ""
            if twin and not isinstance(env, Rows):
                faults.append(
                    f"problem {index} of {split} is in {first_split} too: {problem!r:.160}. {_BY_CONTENT}"
                )
            elif not twin:
                try:
                    twin = questions.add(split, index, problem)
                except EnvError as fault:
                    faults.append(with_flags(fault))
                if twin and not isinstance(env, Rows):
                    text = question(problem.prompt)
                    faults.append(
                        f"{place} is, but for capitals and spaces, {twin}: {text!r:.160}. {_BY_CONTENT}"
                    )
            if twin and isinstance(env, Rows):
                twins.append(f"{place} and {twin}")
        # Without faults, no problem of this split is in an earlier split, so all its different problems are counted.
        num_different = list(first_split_of.values()).count(split)
        if not (faults or twins) and split != "train" and num_different < MIN_DIFFERENT * len(problems):
            faults.append(
                f"{split} has only {num_different:,} different problems of {len(problems):,}, less than "
                f"{MIN_DIFFERENT:.0%}. {_advice_on_copies(split, env, problems, num_different)}"
            )
        # E.g. "990 of 1,000 in train (1,000,000)": of the 1,000,000 problems of the split, 1,000 are looked at.
        counts.append(f"{num_different:,} of {len(problems):,} in {split} ({len(env):,})")
    if twins:
        shown = "; ".join(twins[:3] + ([f"{len(twins) - 3:,} more"] if len(twins) > 3 else []))
        faults.append(
            f"two splits have the same question: {shown}. Remove each row from one of its two files"
        )
    text = f"different problems: {', '.join(counts)}; none is in two splits"
    train = subject.splits["train"]
    task = train.inner if isinstance(train, TaskEnv) else train
    is_divided = isinstance(task, Divided)
    notice = "" if is_divided else train.notice  # the notice of `Divided` is replaced by a clause below
    differing = ""
    if notice:
        subject.notes.append(notice)
    # A file of rows says in its notice which answers differ by its reward. With several turns, as in guessing a
    # number, a question may have several references.
    if not notice and not isinstance(task, Rows) and train.max_turns == 1:
        differing = questions.differing()
    if faults:
        raise EnvError("; ".join(filter(None, [faults[0], differing])))
    if differing:
        text += f"; {differing}"
    if is_divided:
        text += f"; __init__ takes no `split`, so they are divided by a hash of their index (80/10/10). {_BY_CONTENT}"
    for split in ("validation", "test"):
        count = len(subject.splits[split])
        if count < SMALL_SPLIT:
            points = 98 / count**0.5  # half of a 95% interval at a rate of one half: 1.96 * 0.5 / sqrt(count)
            text += f"; a rate over {count:,} {split} problems is uncertain by up to {points:.0f} points"
    return text


def _advice_on_copies(split: str, env: TextEnv, problems: Mapping[int, Problem], num_different: int) -> str:
    """Advice on problems that occur twice: rows of a file, or problems that a generator makes for several indices."""
    if not isinstance(env, Rows):
        return (
            "A generator makes the same problem for several indices: list what it can make once, so that the pool has "
            f"a size (of the {len(env):,} of {split} about {_pool(num_different, len(problems)):,} differ), and "
            "divide the list by envs.split_of(problem), which gives each to one split"
        )
    first_row_of: dict[str, str] = {}  # {content of a problem: the first row that has it}
    for problem in problems.values():
        row = problem.metadata["where"]
        first_row = first_row_of.setdefault(content(problem), row)
        if first_row != row:  # true of some row, since fewer problems differ than there are
            break
    return f"Leave out rows that come twice, e.g. {row}, which is {first_row} again"


def _pool(num_different: int, num_drawn: int) -> int:
    """An estimate of how many equally likely problems there are, if `num_different` of `num_drawn` drawn ones differ.

    The estimate is the smallest whole N with N (1 - exp(-n / N)) = d, rounded, for n = num_drawn and d = num_different.
    """
    low, high = num_different, max(num_different, 1) * num_drawn
    while low < high:
        middle = (low + high) // 2
        expected_different = -middle * math.expm1(-num_drawn / middle)  # the formula with N = middle
        if expected_different < num_different - 0.5:  # it would be rounded to less than `num_different`
            low = middle + 1
        else:
            high = middle
    return low


@dataclass
class _Questions:
    """The questions of all splits, and where each is asked. Runs of white space count as one space.

    Two problems are copies of each other if their questions are the same except for capitals, and their references are
    exactly the same. References are compared because capitals may carry the meaning: in `envs.small.satisfiability`,
    `A` is the opposite of `a`, so "sat Abc" has another reference than "sat abc".
    """

    without_capitals: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """{question in small letters: {its reference: (split, place) of the first problem with both}}. In it `add` finds
    copies in another split. A place is e.g. "problem 3 of train"."""
    with_capitals: dict[str, dict[str, str]] = field(default_factory=dict)
    """{question with its capitals: {its reference: place of the first problem with both}}. In it `differing` finds
    questions that have several references."""

    def add(self, split: str, index: int, problem: Problem) -> str:
        """Notes a problem; returns the place of a copy of it in another split, "" if there is none.

        Raises EnvError if it asks nothing.
        """
        place = _place(index, problem, split)
        text = question(problem.prompt)
        if not text:
            raise EnvError(f"{place} asks nothing: its prompt is empty")
        reference = json.dumps(problem.reference, sort_keys=True, default=str)
        text_with_capitals = question(problem.prompt, capitals=True)
        # The task is part of both keys, since two tasks may judge the same question differently. `setdefault` keeps the
        # entry of the first problem with this question and reference.
        place_of_reference = self.with_capitals.setdefault(f"{problem.task} {text_with_capitals}", {})
        place_of_reference.setdefault(reference, place)
        first_of_reference = self.without_capitals.setdefault(f"{problem.task} {text}", {})
        first_split, first_place = first_of_reference.setdefault(reference, (split, place))
        return first_place if first_split != split else ""

    def differing(self) -> str:
        """A clause on questions that have several references; "" if there are none."""
        places_of_twins = [
            list(place_of.values()) for place_of in self.with_capitals.values() if len(place_of) > 1
        ]
        if not places_of_twins:
            return ""
        shown = [" and ".join(places) for places in places_of_twins[:3]]
        count = "1 question has" if len(places_of_twins) == 1 else f"{len(places_of_twins):,} questions have"
        return f"{count} different references: {'; '.join(shown)}"


def _accepted_references(subject: _Subject) -> str:
    """A clause that says that the verifier of a file of rows accepts the answer of each row.

    It is "" for other environments, and for a verifier whose reference is no single answer. Raises EnvError for an
    answer that the verifier refuses, since no completion could be right then.
    """
    count = 0
    for split, env in subject.splits.items():
        verifier = env.verifier if isinstance(env, Rows) else ""
        if not judges_an_answer(verifier):
            return ""
        for index, problem in _problems(env, subject.count).items():
            reference = {name: problem.reference[name] for name in env.fields}
            answer = reference["answer"]
            if not answer_is_right(verifier, answer, reference):
                verdict = verify(verifier, f"<answer>{answer_text(answer)}</answer>", **reference)
                raise EnvError(
                    f"{_place(index, problem, split)} can never be earned: {verifier} refuses its own answer "
                    f"{answer!r:.60} ({verdict.reason}: {verdict.detail}) Correct the row, or take another verifier"
                )
            count += 1
    return f"all {count:,} answers are accepted for themselves"


def _demonstrations(subject: _Subject) -> str:
    """Every demonstration is right, and fills in its problem's template; a verifier accepts each answer of a file."""
    accepted = _accepted_references(subject)
    solved = 0
    for split, env in subject.splits.items():
        problems = _problems(env, subject.count)
        texts = []
        for index, problem in problems.items():
            try:
                texts.append(demonstration_of(env, problem))
            except EnvError as error:
                raise EnvError(f"problem {index} of {split}: {error.written()}") from error
        if None in texts and split == "test" and solved:
            # The other splits have demonstrations, and sft does not learn from the test split.
            continue
        lacking = ""
        if None in texts:
            lacking = (
                f"none for {texts.count(None):,} of {len(texts):,} problems of {split}: sft refuses them"
            )
            if isinstance(env, Rows):
                lacking += ", or leaves them out by --env-args bad_rows=skip"
            pairs = zip(list(problems), texts, strict=True)
            problems = {index: problems[index] for index, text in pairs if text is not None}
            texts = [text for text in texts if text is not None]
        if not texts:
            has_none = f"none for a problem of {split}: sft has nothing to learn from"
            return "; ".join(filter(None, [has_none, accepted]))
        for (index, problem), text in zip(problems.items(), texts, strict=True):
            template = problem.completion_template
            if template and not all(fits_template(template, turn) for turn in as_turns(text)):
                raise EnvError(f"problem {index} of {split}: {template!r:.200} cannot become {text!r:.80}")
        right = subject.score(env, problems, texts)
        if not right.all():
            first_wrong = int(np.argmin(right))
            index, problem = list(problems.items())[first_wrong]
            why = f"{_place(index, problem, split)} {why_not_solved(env, index, problem, texts[first_wrong])}"
            task = author_task(env, problem)
            if isinstance(task, Rows) and not task.names_demonstrations:
                subject.notes.append(
                    f"for sft, what the assistant says last in a chat is its demonstration, but {why}"
                )
                return "; ".join(filter(None, ["some do not solve their problem", accepted]))
            raise EnvError(why)
        if lacking:
            return "; ".join(filter(None, [lacking, accepted]))
        solved += len(problems)
    return "; ".join(filter(None, [f"all {solved:,} solve their problem", accepted]))


def _place(index: int, problem: Problem, split: str) -> str:
    """The place of a problem, e.g. "problem 3 of train (rows.jsonl, line 4)"."""
    return name_of(index, problem).replace(f"problem {index}", f"problem {index} of {split}", 1)


def why_not_solved(env: TextEnv, index: int, problem: Problem, text: str | list[str]) -> str:
    """A clause on a demonstration that is not right: why not and, if that is known, what would be right.

    E.g. "is not solved by '18': no_answer, No answer was found ... '<answer>18</answer>' would be right". If only
    reward functions judge, the clause says what the first of them pays.
    """
    clause = f"is not solved by {text!r:.80}"
    task = author_task(env, problem)
    turns, _ = play(env, index, problem, text)
    scored = score_all(env, [index], [problem], [turns])
    trace, reason = scored.traceback[0], scored.reason[0]  # of the only episode
    if trace:
        return f"{clause}: score raised {cause(task, trace)}"
    if not isinstance(task, Rows):
        return f"{clause}: {reason}" if reason else clause
    if not task.verifier:
        first_function = next(iter(task.functions))
        reward = scored.rewards[first_function][0]
        return f"{clause}: {first_function} pays {reward:g}, and an answer counts as right from 1 on"
    reference = {name: problem.reference[name] for name in task.fields}
    detail = verify(task.verifier, turns[-1], **reference).detail.rstrip(".")
    clause = f"{clause}: {reason}, {detail}"
    candidates = [text, answer_text(reference["answer"])] if judges_an_answer(task.verifier) else [text]
    for inside in candidates:
        candidate = f"<answer>{inside}</answer>"
        if verify(task.verifier, candidate, **reference).correct:
            return f"{clause}. {candidate!r:.80} would be right"
    return clause


DEMONSTRATIONS = 256
"""The most demonstrations of each task that are judged before they are learned: few enough to need no compiled code."""


class Demonstrated(NamedTuple):
    """Whether the demonstrations of a task are right, as found before they are learned."""

    looked_at: int
    """How many demonstrations were judged."""
    wrong: int
    """How many of these are not right."""
    first: str
    """A sentence on the first demonstration that is not right; "" if all are."""
    teaches: bool
    """False only if demonstrations were judged, and a verifier or the task's own `score` finds all of them wrong."""


def judge_demonstrations(env: TextEnv) -> Demonstrated:
    """Judges up to `DEMONSTRATIONS` demonstrations of a task, evenly spread; problems without one are left out.

    Raises EnvError if the author's `demonstration` or `reply` raises. If `score` raises, the demonstration counts as
    wrong.
    """
    problems = _problems(env, DEMONSTRATIONS)
    found = {index: demonstration_of(env, problem) for index, problem in problems.items()}
    texts = {index: text for index, text in found.items() if text is not None}
    if not texts:
        return Demonstrated(looked_at=0, wrong=0, first="", teaches=True)
    shown = {index: problems[index] for index in texts}
    episodes = [play(env, index, problem, texts[index]) for index, problem in shown.items()]
    turns = [completions for completions, _ in episodes]
    scored = score_all(env, list(shown), list(shown.values()), turns)
    task = author_task(env, next(iter(shown.values())))
    # A reward function has a scale of its own, on which 0 may be the best, so a 0 from it does not mean "wrong". If
    # functions alone judge, demonstrations are reported if all of them get 0 or less, and they are learned even then.
    functions_alone = isinstance(task, Rows) and not task.verifier
    right = scored.total > 0 if functions_alone else scored.rewards["correct"] == 1
    if right.all() or (functions_alone and right.any()):
        return Demonstrated(len(texts), wrong=0, first="", teaches=True)
    first_wrong = int(np.argmin(right))
    index = list(texts)[first_wrong]
    teaches = functions_alone or right.any()
    first = f"{name_of(index, shown[index])} {why_not_solved(env, index, shown[index], texts[index])}."
    return Demonstrated(len(texts), int((~right).sum()), first, teaches=bool(teaches))


def _habits(subject: _Subject) -> str:
    """How often each habit is right, with its interval.

    A habit is a way to answer that the author tries on every problem, such as a careless one: `habits(problem)` gives
    {"careless": "<answer>7</answer>"}.
    """
    env = subject.splits["train"]
    problems = _problems(env, subject.count)
    texts_of_habit: dict[str, dict[int, str | list[str]]] = {}  # {habit: {index of a problem: its text}}
    for index, problem in problems.items():
        for name, text in habits_of(env, problem).items():
            texts_of_habit.setdefault(name, {})[index] = text
    if "right" in texts_of_habit:
        raise EnvError('a habit is called "right", which is the name of the demonstration; call it otherwise')
    rates = []
    for name, texts in texts_of_habit.items():
        right = subject.score(env, {index: problems[index] for index in texts}, list(texts.values()))
        low, high = wilson_interval(int(right.sum()), len(right))
        rates.append(f"{name} solves {right.mean():.1%} [{low:.1%}, {high:.1%}] of {len(right):,}")
    return ", ".join(rates) or "none given"


def _junk(subject: _Subject) -> str:
    """Texts that answer nothing do not count as right, and scoring them raises no error and is fast."""
    env = subject.splits["train"]
    problems = _problems(env, _FEW_PROBLEMS)
    rng = np.random.default_rng(0)
    hint = _hint_at_lists(subject, problems)
    is_relative = _is_relative(env, problems)
    if is_relative:
        subject.notes.append(
            "a completion is paid otherwise together with others than alone, as by a judge that ranks a group; so "
            "whether texts that answer nothing count as right was not looked at"
        )
    tried, slowest = 0, 0.0
    for index, problem in problems.items():
        for kind, text in junk(problem, sound_demonstration_of(env, problem), rng):
            start = time.process_time()
            right = subject.score(env, {index: problem}, [text])
            seconds = time.process_time() - start
            if right.any() and not is_relative:
                solved = f"problem {index} counts as solved by {kind}: {text!r:.60}"
                raise EnvError("; ".join(filter(None, [solved, hint])))
            if seconds > SLOWEST:
                raise EnvError(f"problem {index}: {kind} took {seconds:.1f} s to score, {text!r:.60}")
            tried += 1
            slowest = max(slowest, seconds)
    subject.score(env, problems, [_JUNK] * len(problems))  # many at once, as in a run
    if is_relative:
        text = f"compared with others; none of {tried:,} raises or takes long"
    else:
        text = f"none of {tried:,} is right, raises or takes long"
    text += f" (at most {slowest * 1000:.0f} ms)"
    return "; ".join(filter(None, [text, hint]))


def _is_relative(env: TextEnv, problems: Mapping[int, Problem]) -> bool:
    """Whether a completion's reward depends on the other completions that are scored with it."""
    if env.max_turns > 1:
        return False
    index, problem = next(iter(problems.items()))
    texts = ["", _JUNK, "a longer text that answers nothing"]
    together = score_all(env, [index] * len(texts), [problem] * len(texts), texts)
    alone = [score_all(env, [index], [problem], [text]) for text in texts]
    if any(together.traceback) or any(scored.traceback[0] for scored in alone):
        return False  # the check itself will report this error
    return not np.allclose(together.total, [scored.total[0] for scored in alone], equal_nan=True)


def _hint_at_lists(subject: _Subject, problems: Mapping[int, Problem]) -> str:
    """A hint if short answers count wherever they occur, so that a model can list them all; "" if they do not."""
    with_short_answers = {index: problem for index, problem in problems.items() if _has_short_answer(problem)}
    if not with_short_answers:
        return ""
    rng = np.random.default_rng(1)
    words = [*string.ascii_letters, *map(str, range(10**SHORT_ANSWER))]
    lists = [" ".join(rng.permutation(words)) for _ in with_short_answers]
    num_right = int(subject.score(subject.splits["train"], with_short_answers, lists).sum())
    solves_most = 2 * num_right > len(with_short_answers)
    if not solves_most:
        return ""
    return (
        f"a text that lists every letter and the numbers below {10**SHORT_ANSWER} solves {num_right} of "
        f"{len(with_short_answers)} problems with answers of at most {SHORT_ANSWER} characters, so a model may learn "
        "to list them. Look for the answer where it has to stand, such as in the <answer> block "
        "(envs.answer_block.only_answer)"
    )


def _has_short_answer(problem: Problem) -> bool:
    """Whether a value of a problem's reference is a short text or number."""
    values = problem.reference.values()
    return any(isinstance(value, str | int) and len(str(value)) <= SHORT_ANSWER for value in values)


def _components(subject: _Subject) -> str:
    """In all checks so far, every component stayed in the range that `reward_ranges` declares, 0 to 1 by default."""
    if not subject.ranges:
        raise EnvError("nothing could be scored: the failed checks above say why")
    train = subject.splits["train"]
    weights = train.reward_weights
    for name, (low, high) in subject.ranges.items():
        declared_low, declared_high = train.reward_ranges.get(name, (0, 1))
        if low < declared_low or high > declared_high:
            outside = f"outside {declared_low:g} to {declared_high:g}"
            advice = "if that is meant, write reward_ranges in the class"
            raise EnvError(f"{name} went from {low:g} to {high:g}, {outside}; {advice}")
    # Components that have a weight and were 0 for every completion. Without demonstrations, no completion was meant to
    # be right; the first problem shows whether there are any.
    unpaid = [name for name, span in subject.ranges.items() if span == (0, 0) and weights.get(name)]
    if unpaid and sound_demonstration_of(train, read_problem(train, 0)) is None:
        subject.notes.append(
            f"none of the completions that were tried earned anything by {' or '.join(unpaid)}, as none was meant to "
            "be right. With demonstrations (of a file of rows: --env-args demonstration=COLUMN) right ones are tried"
        )
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in subject.ranges.items())


_CHECK_FUNCTIONS = (_gymnasium, _purity, _splits, _demonstrations, _habits, _junk, _components)
_CHECKS = {run.__name__.removeprefix("_"): run for run in _CHECK_FUNCTIONS}
"""{title: the check}. A check returns its figure, and raises if the environment fails."""


def _problems(env: TextEnv, count: int) -> dict[int, Problem]:
    """{index: problem} of up to `count` problems, evenly spread."""
    return {index: read_problem(env, index) for index in spread(len(env), count)}


def spread(length: int, count: int) -> list[int]:
    """Up to `count` indices from 0 to length - 1, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).astype(np.int64)).tolist()


def contents(
    name: str, arguments: Mapping[str, Any], count: int, backwards: bool = False
) -> dict[str, list[Any]]:
    """The content of `count` problems of each split, and the environment's replies, in types that JSON has.

    E.g. {"train 17": ["content of problem 17", {"right": [completions, replies], "junk": [completions, replies]}]}. If
    the environment has several turns, episodes are played with the demonstration ("right"), with each habit and with
    junk; else the dict of episodes is empty. backwards: whether the problems are made in descending order.
    """
    contents_of = {}
    for split in SPLITS:
        env = make(name, split=split, **arguments)
        indices = spread(len(env), count)
        for index in reversed(indices) if backwards else indices:
            problem = read_problem(env, index)
            played = {}
            if env.max_turns > 1:
                texts_of = {
                    "right": sound_demonstration_of(env, problem),
                    **habits_of(env, problem),
                    "junk": _JUNK,
                }
                # Lists, not tuples, since they are compared with what a fresh process sends as JSON.
                played = {
                    kind: list(play(env, index, problem, text))
                    for kind, text in texts_of.items()
                    if text is not None
                }
            contents_of[f"{split} {index}"] = [content(problem), played]
    return contents_of


def demonstration_of(env: TextEnv, problem: Problem) -> str | list[str] | None:
    """The author's demonstration; None if there is none.

    Raises EnvError, with file and line if known, if the author's code raises anything but NoDemonstration.
    """
    try:
        with exit_is_error():
            return env.demonstration(problem.copy())
    except NoDemonstration:
        return None
    except Exception as error:
        why = (
            with_flags(error)
            if isinstance(error, EnvError)
            else cause(author_task(env, problem), traceback.format_exc())
        )
        raise EnvError(f"demonstration raised for {_prompt_text(problem)!r:.60}: {why}") from error


def habits_of(env: TextEnv, problem: Problem) -> Mapping[str, str | list[str]]:
    """The author's habits, {name: completion}; raises EnvError if they are no dict."""
    with exit_is_error():
        habits = env.habits(problem.copy())
    if not isinstance(habits, Mapping):
        raise EnvError(
            f"{env.spec_name}: habits returned {habits!r:.80} for {_prompt_text(problem)!r:.60}; it should be a dict "
            'of names and completions, such as {"careless": "<answer>7</answer>"}'
        )
    return habits


def sound_demonstration_of(env: TextEnv, problem: Problem) -> str | list[str] | None:
    """The author's demonstration; None if there is none, or if it raises (the check of demonstrations reports that)."""
    try:
        return demonstration_of(env, problem)
    except EnvError:
        return None


def _prompt_text(problem: Problem) -> str:
    """What the model reads, without the roles of a chat."""
    prompt = problem.prompt
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def junk(
    problem: Problem, right: str | list[str] | None, rng: np.random.Generator
) -> Iterator[tuple[str, str]]:
    """Yields (description, completion): texts that solve no problem, some of them long, broken or hostile.

    right: the problem's demonstration, or None. The last text has it behind an end token.
    """
    noise = "".join(map(chr, rng.integers(0, 0x3000, 200)))
    yield "nothing", ""
    yield "white space", " \n\t "
    yield "random bytes", rng.bytes(300).decode("latin-1")
    yield "random text", f"<answer>{noise}</answer>"
    yield "the prompt", _prompt_text(problem)
    yield "an empty answer", "<answer></answer>"
    yield "end tokens", "<|eot_id|><|endoftext|>"
    yield "NUL", "<answer>\0</answer>"
    yield "a lone surrogate", "<answer>\ud800</answer>"
    yield "200,000 digits", f"<answer>{'9' * 200_000}</answer>"
    yield "20,000 open tags", "<answer>" * 20_000
    yield "20,000 brackets", f"<answer>{'(' * 20_000}</answer>"
    if right is not None:
        last = right if isinstance(right, str) else right[-1]
        # A completion ends at its end token (`answer_block.until_end`), so the answer behind it must not count.
        yield "an answer behind the end", f"<|endoftext|>{last}"

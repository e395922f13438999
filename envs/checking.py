"""Does an environment keep its contract? Figures for its author, and for every change to this package."""

import json
import os
import string
import subprocess
import sys
import time
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs import holes
from envs.core import TextEnv
from envs.episodes import cause, play
from envs.errors import EnvError, NoDemonstration
from envs.problem import Problem, name_of, read_problem
from envs.registry import make
from envs.scoring import as_turns, score_all
from envs.splits import SPLITS, DividedEnv, content, question
from verifiers.statistics import wilson_interval

DIFFERENT = 0.9
"""Share of the problems of validation and test that must differ: copies are no evidence."""
SLOWEST = 2.0
"""Seconds of processor time within which any completion must be scored."""
SMALL = 100
"""If validation or test has fewer problems, the check says how uncertain a rate over them is."""
_BY_CONTENT = (
    "Problems of a list are divided by content with envs.split_of, and made ones are drawn with "
    "envs.draw_for(self.split, index, ...) (docs/add_a_task.md)"
)
SHORT = 2
"""Characters of an answer that nearly every long text holds somewhere."""
_FEW = 16
"""Problems for the more costly checks: made again in a fresh process, scored with junk."""
_JUNK = "<answer>?</answer>"
_CHILD = "import json, sys, envs.checking as c; json.dump(c.contents(*json.loads(sys.argv[1])), sys.stdout)"
_LENGTHS = "from spg_trainer.rollout.overlong import main; main()"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; figure: what was measured, or what is wrong."""

    name: str
    ok: bool
    figure: str
    is_note: bool = False
    """Whether the figure is for the author to look at, though the task can be trained on as it is."""


@dataclass(frozen=True)
class _Subject:
    """The environment that is checked, and what the checks have found so far."""

    name: str
    arguments: dict[str, Any]
    splits: dict[str, TextEnv]
    count: int
    """The most problems of a split that are looked at."""
    ranges: dict[str, tuple[float, float]] = field(default_factory=dict)
    """{component: the lowest and the highest value so far}."""
    raised: set[str] = field(default_factory=set)
    """What `score` has raised so far, and where."""
    notes: list[str] = field(default_factory=list)
    """What the check that runs has found for the author to look at, though it fails nothing."""

    def score(
        self, env: TextEnv, problems: dict[int, Problem], texts: Sequence[str | Sequence[str]]
    ) -> np.ndarray:
        """(n,) bool, which texts are right, each played to the end of its episode as the answer to its problem.

        Adds to `ranges`. Raises EnvError where the author's code raises.
        """
        pairs = zip(problems.items(), texts, strict=True)
        turns = [play(env, index, problem, text)[0] for (index, problem), text in pairs]
        scored = score_all(env, list(problems), list(problems.values()), turns)
        for index, completions, trace in zip(problems, turns, scored.traceback, strict=True):
            if trace is not None:
                why = cause(env.author_of(problems[index]), trace)
                shown = completions[0] if len(completions) == 1 else completions
                where = f"on {name_of(index, problems[index])}, for {shown!r:.60}"
                if why in self.raised:
                    raise EnvError(f"score raised the same {where}")
                self.raised.add(why)
                raise EnvError(f"score raised {where}: {why}")
        for name, values in scored.rewards.items():
            seen = [*self.ranges.get(name, ()), *values[~np.isnan(values)].tolist()]
            if seen:  # a task of a mixture need not have the component
                self.ranges[name] = (min(seen), max(seen))
        return scored.rewards["correct"] == 1


def check(name: str, problems: int = 1000, **arguments: Any) -> list[Finding]:
    """Checks an environment on up to `problems` problems of each split; docs/add_a_task.md says what is looked at.

    name, arguments: as for `make`, without `split`. Raises EnvError if it cannot be opened at all.
    """
    splits = {split: make(name, split=split, **arguments) for split in SPLITS}
    subject = _Subject(name, arguments, splits, problems)
    findings = []
    for title, run in _CHECKS.items():
        try:
            findings.append(Finding(title, True, run(subject)))
        except EnvError as error:
            findings.append(Finding(title, False, str(error)))
        except Exception as error:  # what an author's code or Gymnasium raises is a finding too
            findings.append(Finding(title, False, f"{type(error).__name__}: {error}"))
        findings += [Finding(title, True, note, is_note=True) for note in subject.notes]
        subject.notes.clear()
    return findings


def check_lengths(name: str, problems: int, model: str, length: int = 0, **arguments: Any) -> Finding:
    """Whether prompts fit a model; the trainer measures it in a process of its own, as nothing here reads tokens.

    name, problems, arguments: as for `check`. model: as `--model` of the trainer. length: tokens of a completion, 0 =
    the model's own.
    """
    job = {"name": name, "arguments": arguments, "asked": model, "count": problems, "length": length}
    done = _fresh_process(_LENGTHS, job)
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        return Finding("lengths", False, f"the trainer cannot measure them: {why}")
    return Finding("lengths", *json.loads(done.stdout.rpartition("\n")[2]))


def _fresh_process(code: str, job: Any) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process that finds the same packages, with `job` as JSON on its command line."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return subprocess.run(
        [sys.executable, "-c", code, json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "1"},
    )


def try_scoring(env: TextEnv) -> None:
    """Plays and scores a demonstration, where there is one, and junk on the first problem of each task.

    Raises EnvError with file and line where the author's `demonstration`, `reply` or `score` raises. In a run, a
    completion for which `score` raises would only earn 0.
    """
    for part in env.parts.values() or [env]:
        subject, problem = _Subject(part.spec_name, {}, {}, 1), read_problem(part, 0)
        for demonstrated in (True, False):
            try:
                text = demonstration_of(part, problem) if demonstrated else _JUNK
                if text is not None:
                    subject.score(part, {0: problem}, [text])
            except EnvError as error:
                name = "" if str(error).startswith(part.spec_name) else f"{part.spec_name}: "
                more = "Nothing was trained; `python -m envs check` tries more completions."
                raise EnvError(f"{name}{error}. {more}") from error


def _gymnasium(subject: _Subject) -> str:
    """Gymnasium's own checker passes and has nothing to say."""
    from gymnasium.utils.env_checker import check_env

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(make(subject.name, render_mode="ansi", **subject.arguments))
    if caught:
        raise EnvError(f"check_env warns: {caught[0].message}")
    return "check_env without a warning"


def _purity(subject: _Subject) -> str:
    """A problem depends on the arguments and on its index, a reply on these and the completions: on nothing else."""
    job = [subject.name, subject.arguments, min(_FEW, subject.count)]
    first, backwards = contents(*job), contents(*job, backwards=True)
    done = _fresh_process(_CHILD, job)
    if done.returncode:
        raise EnvError(f"a fresh process cannot open it: {done.stderr.strip().rpartition(chr(10))[2]}")
    elsewhere = json.loads(done.stdout)
    for problem, text in first.items():
        for other, where in ((backwards, "in another order"), (elsewhere, "in a fresh process")):
            if other[problem] != text:
                same_problem = other[problem][0] == text[0]
                what = "a reply to" if same_problem else "problem"
                causes = "on problem and completions" if same_problem else "on its index"
                raise EnvError(f"{what} {problem} is another one {where}; it must depend {causes} only")
    replies = sum(len(episode[1]) for _, episodes in first.values() for episode in episodes.values())
    with_them = f" and {replies} replies" if replies else ""
    return f"{len(first)} problems{with_them} are the same in another order and in a fresh process"


def _splits(subject: _Subject) -> str:
    """No problem is in two splits, and those that are measured on hold few problems twice."""
    split_of: dict[str, str] = {}  # content of a problem -> the first split that has it
    questions = _Questions()
    different = []
    for split, env in subject.splits.items():
        problems = _problems(env, subject.count)
        for index, problem in problems.items():
            first_split = split_of.setdefault(content(problem), split)
            if first_split != split:
                raise EnvError(
                    f"problem {index} of {split} is in {first_split} too: {problem!r:.160}. {_BY_CONTENT}"
                )
            questions.add(split, index, problem)
        count = list(split_of.values()).count(split)
        if split != "train" and count < DIFFERENT * len(problems):
            raise EnvError(
                f"{split} has only {count:,} different problems of {len(problems):,}, less than {DIFFERENT:.0%}. Of a "
                f"file, leave out rows that come twice; of a generator, let __len__ of {split} be what it can make."
            )
        different.append(f"{count:,} of {len(problems):,} in {split} ({len(env):,})")
    text = f"different problems: {', '.join(different)}; none is in two splits"
    train = subject.splits["train"]
    if train.max_turns == 1 and not train.notice and (differing := questions.differing()):
        text += f"; {differing}"
    if train.notice and not isinstance(train, DividedEnv):
        subject.notes.append(train.notice)
    if isinstance(subject.splits["train"], DividedEnv):
        text += f"; __init__ takes no `split`, so they are divided by a hash of their index (80/10/10). {_BY_CONTENT}"
    for split in ("validation", "test"):
        if (count := len(subject.splits[split])) < SMALL:
            text += (
                f"; a rate over {count:,} {split} problems is uncertain by up to {98 / count**0.5:.0f} points"
            )
    return text


@dataclass
class _Questions:
    """The questions of all splits, without capitals and runs of white space, and where each is asked.

    Capitals may carry the meaning, as `a` and `A` do where one is the other's opposite. So two questions that differ in
    capitals alone count as the same only if their references are the same to the letter.
    """

    without_capitals: dict[str, dict[str, tuple[str, str]]] = field(default_factory=dict)
    """{question: {its reference: (split, place)}}"""
    with_capitals: dict[str, dict[str, str]] = field(default_factory=dict)
    """{question with its capitals: {its reference: place}}"""

    def add(self, split: str, index: int, problem: Problem) -> None:
        """Notes a problem. Raises EnvError for one that asks nothing, or that a problem of another split asks too."""
        place = name_of(index, problem).replace(f"problem {index}", f"problem {index} of {split}", 1)
        if not (text := question(problem.prompt)):
            raise EnvError(f"{place} asks nothing: its prompt is empty")
        answer = json.dumps(problem.reference, sort_keys=True, default=str)
        spelled = f"{problem.task} {question(problem.prompt, capitals=True)}"
        self.with_capitals.setdefault(spelled, {}).setdefault(answer, place)
        places = self.without_capitals.setdefault(f"{problem.task} {text}", {})
        first_split, first_place = places.setdefault(answer, (split, place))
        if first_split != split:
            raise EnvError(
                f"{place} is, but for capitals and spaces, {first_place}: {text!r:.160}. {_BY_CONTENT}"
            )

    def differing(self) -> str:
        """What to say where a question has different answers; "" where none has."""
        twins = [list(answers.values()) for answers in self.with_capitals.values() if len(answers) > 1]
        shown = [" and ".join(places) for places in twins[:3]]
        count = "1 question has" if len(twins) == 1 else f"{len(twins):,} questions have"
        return f"{count} different references: {'; '.join(shown)}" if twins else ""


def _demonstrations(subject: _Subject) -> str:
    """Every demonstration is right, and fills in its problem's template if there is one."""
    solved = 0
    for split, env in subject.splits.items():
        problems = _problems(env, subject.count)
        texts = []
        for index, problem in problems.items():
            try:
                texts.append(demonstration_of(env, problem))
            except EnvError as error:
                raise EnvError(f"problem {index} of {split}: {error}") from error
        if None in texts:
            return f"none for a problem of {split}: sft has nothing to learn from"
        for (index, problem), text in zip(problems.items(), texts, strict=True):
            template = problem.completion_template
            if template and not all(holes.fits(template, turn) for turn in as_turns(text)):
                raise EnvError(f"problem {index} of {split}: {template!r:.200} cannot become {text!r:.80}")
        right = subject.score(env, problems, texts)
        if not right.all():
            wrong = int(np.argmin(right))
            raise EnvError(
                f"problem {list(problems)[wrong]} of {split} is not solved by {texts[wrong]!r:.80}"
            )
        solved += len(problems)
    return f"all {solved:,} solve their problem"


def _habits(subject: _Subject) -> str:
    """How often each habit is right, with its interval."""
    env = subject.splits["train"]
    problems = _problems(env, subject.count)
    texts: dict[str, dict[int, str | list[str]]] = {}
    for index, problem in problems.items():
        for name, text in env.habits(problem).items():
            texts.setdefault(name, {})[index] = text
    if "right" in texts:
        raise EnvError('a habit is called "right", which is the name of the demonstration; call it otherwise')
    rates = []
    for name, tries in texts.items():
        right = subject.score(env, {index: problems[index] for index in tries}, list(tries.values()))
        low, high = wilson_interval(int(right.sum()), len(right))
        rates.append(f"{name} solves {right.mean():.1%} [{low:.1%}, {high:.1%}] of {len(right):,}")
    return ", ".join(rates) or "none given"


def _junk(subject: _Subject) -> str:
    """Texts that answer nothing do not count as right, and scoring them raises nothing and takes no time."""
    env, tried, slowest = subject.splits["train"], 0, 0.0
    rng, problems = np.random.default_rng(0), _problems(env, _FEW)
    hint = _paid_anywhere(subject, problems)
    for index, problem in problems.items():
        for kind, text in junk(problem, sound_demonstration_of(env, problem), rng):
            start = time.process_time()
            right = subject.score(env, {index: problem}, [text])
            seconds = time.process_time() - start
            if right.any():
                solved = f"problem {index} counts as solved by {kind}: {text!r:.60}"
                raise EnvError("; ".join(filter(None, [solved, hint])))
            if seconds > SLOWEST:
                raise EnvError(f"problem {index}: {kind} took {seconds:.1f} s to score, {text!r:.60}")
            tried, slowest = tried + 1, max(slowest, seconds)
    subject.score(env, problems, [_JUNK] * len(problems))  # as a run asks: many at once
    text = f"none of {tried:,} is right, raises or takes long (at most {slowest * 1000:.0f} ms)"
    return "; ".join(filter(None, [text, hint]))


def _paid_anywhere(subject: _Subject, problems: Mapping[int, Problem]) -> str:
    """A hint where short answers count wherever they occur, so that a model can list them all; "" where they do not."""
    env = subject.splits["train"]
    short = {
        index: problem
        for index, problem in problems.items()
        if any(
            isinstance(value, str | int) and len(str(value)) <= SHORT for value in problem.reference.values()
        )
    }
    rng, letters = np.random.default_rng(1), [*string.ascii_letters, *map(str, range(10**SHORT))]
    right = subject.score(env, short, [" ".join(rng.permutation(letters)) for _ in short]) if short else []
    if 2 * np.sum(right) <= len(short):
        return ""
    return (
        f"a text that lists every letter and the numbers below {10**SHORT} solves {np.sum(right)} of {len(short)} "
        f"problems with answers of at most {SHORT} characters, so a model may learn to list them. Look for the answer "
        "where it has to stand, such as in the <answer> block (envs.answers.only_answer)"
    )


def _components(subject: _Subject) -> str:
    """Every component stayed between its lowest and highest value."""
    if not subject.ranges:
        raise EnvError("nothing could be scored, for what stands above")
    train = subject.splits["train"]
    weights = train.reward_weights
    for name, (low, high) in subject.ranges.items():
        lowest, highest = train.reward_ranges.get(name, (0, 1))
        if low < lowest or high > highest:
            outside = f"outside {lowest:g} to {highest:g}; if that is meant, write reward_ranges in the class"
            raise EnvError(f"{name} went from {low:g} to {high:g}, {outside}")
    unpaid = [name for name, span in subject.ranges.items() if span == (0, 0) and weights.get(name)]
    if unpaid and sound_demonstration_of(train, read_problem(train, 0)) is None:
        subject.notes.append(
            f"none of the completions that were tried earned anything by {' or '.join(unpaid)}, as none was meant to "
            "be right. With demonstrations (of a file of rows: --env-args demonstration=COLUMN) right ones are tried"
        )
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in subject.ranges.items())


_RUNS = (_gymnasium, _purity, _splits, _demonstrations, _habits, _junk, _components)
_CHECKS = {run.__name__[1:]: run for run in _RUNS}


def _problems(env: TextEnv, count: int) -> dict[int, Problem]:
    return {index: read_problem(env, index) for index in spread(len(env), count)}


def spread(length: int, count: int) -> list[int]:
    """Up to `count` indices from 0 to length - 1, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).astype(np.int64)).tolist()


def contents(
    name: str, arguments: Mapping[str, Any], count: int, backwards: bool = False
) -> dict[str, list[Any]]:
    """{"train 17": [what is in that problem, {"right": [completions, replies]}]}, asked for in either order.

    Of `count` problems of each split. Where there are turns, the demonstration and the habits are played.
    """
    texts = {}
    for split in SPLITS:
        env = make(name, split=split, **arguments)
        indices = spread(len(env), count)
        for index in reversed(indices) if backwards else indices:
            problem, played = read_problem(env, index), {}
            if env.max_turns > 1:
                texts_of = {
                    "right": sound_demonstration_of(env, problem),
                    **env.habits(problem),
                    "junk": _JUNK,
                }
                played = {
                    name: list(play(env, index, problem, text))
                    for name, text in texts_of.items()
                    if text is not None
                }
            texts[f"{split} {index}"] = [content(problem), played]
    return texts


def demonstration_of(env: TextEnv, problem: Problem) -> str | list[str] | None:
    """The author's demonstration; None if he gave none.

    Raises EnvError, with file and line where that is known, if his code for it raises anything else.
    """
    try:
        return env.demonstration(problem)
    except NoDemonstration:
        return None
    except Exception as error:
        why = error if isinstance(error, EnvError) else cause(env.author_of(problem), traceback.format_exc())
        raise EnvError(f"demonstration raised for {_prompt_text(problem)!r:.60}: {why}") from error


def sound_demonstration_of(env: TextEnv, problem: Problem) -> str | list[str] | None:
    """The author's demonstration; None if there is none or it fails, which the check of demonstrations reports."""
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
    """(what it is, completion): texts that solve no problem, some of them long, broken or hostile."""
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
        yield "an answer behind the end", f"<|endoftext|>{last}"

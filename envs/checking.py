"""Does an environment keep its contract? Figures for its author, and for every change to this package."""

import hashlib
import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.core import Problem, TextEnv, read_problem, score_all
from envs.errors import EnvError
from envs.registry import make, make_vec
from envs.splits import SPLITS
from verifiers.statistics import wilson_interval

SLOWEST = 2.0
"""Seconds of processor time within which any completion must be scored."""
_FEW = 16
"""Problems for the more costly checks: made again in a fresh process, scored with junk, one by one."""
_CHILD = "import json, sys; from envs.checking import digests; json.dump(digests(*json.loads(sys.argv[1])), sys.stdout)"


@dataclass(frozen=True)
class Finding:
    """The outcome of one check; figure: what was measured, or what is wrong."""

    name: str
    ok: bool
    figure: str


@dataclass(frozen=True)
class Report:
    """The findings about one environment; figures: sizes of the splits, solved rates, ranges of the components."""

    env: str
    findings: list[Finding]
    figures: dict[str, Any]
    seconds: float

    @property
    def ok(self) -> bool:
        return all(finding.ok for finding in self.findings)


@dataclass(frozen=True)
class _Subject:
    """What the checks look at, and where they leave their figures."""

    name: str
    arguments: dict[str, Any]
    splits: dict[str, TextEnv]
    count: int
    figures: dict[str, Any]

    @property
    def train(self) -> TextEnv:
        return self.splits["train"]

    def problems(self, env: TextEnv, count: int | None = None) -> dict[int, Problem]:
        """{index: problem}, up to `count` of them, evenly spread."""
        return {i: read_problem(env, i) for i in spread(len(env), self.count if count is None else count)}

    def score(
        self, env: TextEnv, indices: list[int], problems: list[Problem], texts: list[str]
    ) -> np.ndarray:
        """Which texts are right; notes the range of each component, and raises EnvError for what `score` raised."""
        scored = score_all(env, indices, problems, texts)
        for index, text, trace in zip(indices, texts, scored.traceback, strict=True):
            if trace is not None:
                raise EnvError(f"score raised on problem {index}, for {text!r:.60}: {trace.splitlines()[-1]}")
        ranges = self.figures["components"]
        for name, values in scored.rewards.items():
            low, high = ranges.get(name, (np.inf, -np.inf))
            ranges[name] = (min(low, float(values.min())), max(high, float(values.max())))
        return scored.rewards["correct"] == 1


def check(name: str, problems: int = 1000, **arguments: Any) -> Report:
    """Checks an environment on up to `problems` problems of each split; docs/add_a_task.md says what is looked at.

    name, arguments: as for `make`, without `split`. Raises EnvError if it cannot be opened at all.
    """
    start = time.monotonic()
    splits = {split: make(name, split=split, **arguments) for split in SPLITS}
    sizes = {split: len(env) for split, env in splits.items()}
    subject = _Subject(name, arguments, splits, problems, {"problems": sizes, "components": {}})
    findings = []
    for title, run in _CHECKS.items():
        try:
            findings.append(Finding(title, True, run(subject)))
        except EnvError as error:
            findings.append(Finding(title, False, str(error)))
        except Exception as error:  # what an author's code or Gymnasium raises is a finding too
            findings.append(Finding(title, False, f"{type(error).__name__}: {error}"))
    return Report(subject.train.spec_name, findings, subject.figures, time.monotonic() - start)


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
    """A problem depends on the arguments and on its index, and on nothing else."""
    job = [subject.name, subject.arguments, min(_FEW, subject.count)]
    first, backwards = digests(*job), digests(*job, backwards=True)
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", _CHILD, json.dumps(job)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": paths, "PYTHONHASHSEED": "1"},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise EnvError(f"a fresh process cannot open it: {last}")
    elsewhere = json.loads(done.stdout)
    for problem, digest in first.items():
        for other, where in ((backwards, "in another order"), (elsewhere, "in a fresh process")):
            if other[problem] != digest:
                raise EnvError(f"problem {problem} is another one {where}; it must depend on its index only")
    return f"{len(first)} problems are the same in another order and in a fresh process"


def _splits(subject: _Subject) -> str:
    """No problem is in two splits."""
    seen: dict[str, str] = {}
    for split, env in subject.splits.items():
        for index, problem in subject.problems(env).items():
            other = seen.setdefault(_content(problem), split)
            if other != split:
                raise EnvError(f"problem {index} of {split} is in {other} too: {problem.prompt!r:.80}")
    different = (f"{sum(owner == split for owner in seen.values()):,} of {split}" for split in SPLITS)
    return f"{', '.join(different)} differ, none is in two"


def _demonstrations(subject: _Subject) -> str:
    """Every demonstration is right."""
    solved = 0
    for split, env in subject.splits.items():
        indices, problems = map(list, zip(*subject.problems(env).items(), strict=True))
        texts = [_demonstration(env, problem) for problem in problems]
        if None in texts:
            return f"none for problem {indices[texts.index(None)]} of {split}: sft has nothing to learn from"
        right = subject.score(env, indices, problems, texts)
        if not right.all():
            wrong = int(np.argmin(right))
            raise EnvError(f"problem {indices[wrong]} of {split} is not solved by {texts[wrong]!r:.80}")
        solved += len(indices)
    subject.figures["demonstrations"] = solved
    return f"all {solved:,} solve their problem"


def _habits(subject: _Subject) -> str:
    """How often each habit is right, with its interval."""
    env = subject.train
    rows: dict[str, list[tuple[int, Problem, str]]] = {}
    for index, problem in subject.problems(env).items():
        for name, text in env.habits(problem).items():
            rows.setdefault(name, []).append((index, problem, text))
    if "right" in rows:
        raise EnvError('a habit is called "right", which is the name of the demonstration; call it otherwise')
    rates = subject.figures["habits"] = {}
    for name, tries in rows.items():
        solved, n = int(subject.score(env, *map(list, zip(*tries, strict=True))).sum()), len(tries)
        rates[name] = {"solved": solved / n, "interval": wilson_interval(solved, n), "n": n}
    texts = [
        f"{name} solves {rate['solved']:.1%} [{rate['interval'][0]:.1%}, {rate['interval'][1]:.1%}] of {rate['n']:,}"
        for name, rate in rates.items()
    ]
    return ", ".join(texts) or "none given"


def _junk(subject: _Subject) -> str:
    """What is no answer is not right, raises nothing and takes no time."""
    env, tried, slowest = subject.train, 0, 0.0
    rng = np.random.default_rng(0)
    for index, problem in subject.problems(env, _FEW).items():
        for kind, text in junk(problem, _demonstration(env, problem), rng):
            start = time.process_time()
            right = subject.score(env, [index], [problem], [text])
            seconds = time.process_time() - start
            if right.any():
                raise EnvError(f"problem {index} counts as solved by {kind}: {text!r:.60}")
            if seconds > SLOWEST:
                raise EnvError(f"problem {index}: {kind} took {seconds:.1f} s to score, {text!r:.60}")
            tried, slowest = tried + 1, max(slowest, seconds)
    return f"none of {tried:,} is right, raises or takes long (at most {slowest * 1000:.0f} ms)"


def _components(subject: _Subject) -> str:
    """Each component stayed within its range."""
    seen = subject.figures["components"]
    for name, (low, high) in seen.items():
        lowest, highest = subject.train.reward_ranges.get(name, (0.0, 1.0))
        if low < lowest or high > highest:
            outside = f"outside {lowest:g} to {highest:g}; if that is meant, write reward_ranges in the class"
            raise EnvError(f"{name} went from {low:g} to {high:g}, {outside}")
    return ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in seen.items())


def _vector_form(subject: _Subject) -> str:
    """Many at once get what each gets alone."""
    env, rng = make(subject.name, split="train", **subject.arguments), np.random.default_rng(1)
    rows: list[tuple[int, str]] = []
    for index, problem in subject.problems(env, _FEW).items():
        right = _demonstration(env, problem)
        texts = [*env.habits(problem).values(), *([right] if right is not None else [])]
        texts += [text for _, text in junk(problem, right, rng)][:8]
        rows += [(index, text) for text in texts]
    many = make_vec(subject.name, len(rows), split="train", **subject.arguments)
    many.reset(options={"index": [index for index, _ in rows]})
    _, totals, _, _, infos = many.step([text for _, text in rows])
    for row, (index, text) in enumerate(rows):
        env.reset(options={"index": index})
        _, reward, _, _, info = env.step(text)
        batch = {name: float(values[row]) for name, values in infos["rewards"].items()}
        alone = (reward, info["rewards"], info["reason"], info["extracted"])
        if alone != (float(totals[row]), batch, infos["reason"][row], infos["extracted"][row]):
            raise EnvError(f"problem {index}: score and score_batch do not agree on {text!r:.60}")
    return f"{len(rows)} completions at once score as one by one"


_RUNS = (_gymnasium, _purity, _splits, _demonstrations, _habits, _junk, _components, _vector_form)
_CHECKS = {run.__name__[1:].replace("_", " "): run for run in _RUNS}


def spread(length: int, count: int) -> list[int]:
    """Up to `count` indices from 0 to length - 1, evenly spread."""
    return np.unique(np.linspace(0, length - 1, min(length, count)).astype(np.int64)).tolist()


def digests(name: str, arguments: Mapping[str, Any], count: int, backwards: bool = False) -> dict[str, str]:
    """{"train 17": hash of that problem} for `count` problems of each split, asked for in either order."""
    hashes = {}
    for split in SPLITS:
        env = make(name, split=split, **arguments)
        indices = spread(len(env), count)
        for index in reversed(indices) if backwards else indices:
            text = _content(read_problem(env, index)).encode("utf-8", "surrogatepass")
            hashes[f"{split} {index}"] = hashlib.sha256(text).hexdigest()[:16]
    return hashes


def _content(problem: Problem) -> str:
    """What two equal problems have in common: prompt, prefix and reference, as text."""
    parts = [problem.prompt, problem.completion_prefix, problem.reference]
    return json.dumps(parts, sort_keys=True, default=_as_json)


def _as_json(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return sorted(map(str, value)) if isinstance(value, set | frozenset) else str(value)


def _demonstration(env: TextEnv, problem: Problem) -> str | None:
    """The author's demonstration; None if there is none."""
    try:
        return env.demonstration(problem)
    except EnvError as error:
        if "no demonstration" in str(error):
            return None
        raise


def _prompt_text(problem: Problem) -> str:
    """What the model reads, without the roles of a chat."""
    prompt = problem.prompt
    return prompt if isinstance(prompt, str) else "\n".join(message["content"] for message in prompt)


def junk(problem: Problem, right: str | None, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
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
        yield "an answer behind the end", f"<|endoftext|>{right}"

"""Do two installations behave the same? Verdicts, problems, training runs and resume byte for byte; speed as a ratio.

    python benchmarks/compare_checkouts.py OLD_PYTHON NEW_PYTHON [--parts verdicts golds ...] [--count 1000000]

OLD_PYTHON and NEW_PYTHON are interpreters of two environments, each with one version of spg-trainer installed. Every
part runs in both and writes one line per case; differing lines are counted and the first ones shown. Verdicts that
ended by a deadline on one side are judged once more, alone, before they count. Exit status 1 if anything differs.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any

DATA = Path(os.environ.get("SPG_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
FIELDS = {
    "gsm8k": ["answer"],
    "math500": ["answer"],
    "countdown": ["numbers", "target"],
    "sudoku": ["puzzle"],
}
DEFAULT_RUNS = ["sudoku", "countdown", "gsm8k", "math500"]
REPLACED = [*"01-,.\\{}/x%(=\n½3_ ", "", "**"]

Case = tuple[str, str, dict[str, Any]]  # task, completion, reference


def read(path: Path) -> list[dict[str, Any]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def reference_of(task: str, row: dict[str, Any]) -> dict[str, Any]:
    if task == "sudoku" and "puzzle" not in row:
        return {"puzzle": row["question"].rpartition(":")[2].strip()}
    return {name: row[name] for name in FIELDS[task]}


# ---- cases of the verifiers -------------------------------------------------------------------------------


def real_cases() -> Iterator[Case]:
    """Completions of LLaDA-8B and the hostile answers."""
    for task in FIELDS:
        for row in read(DATA / "llada_generations" / f"{task}.jsonl.gz"):
            yield task, row["completion"], reference_of(task, row)
    for row in read(DATA / "hostile_answers.jsonl"):
        yield row["env"], row["completion"], reference_of(row["env"], row)


def gold_cases() -> Iterator[Case]:
    """Every MATH gold as its own answer, against its neighbour, and as a bare answer."""
    rows = [*read(DATA / "math500/train.jsonl.gz"), *read(DATA / "math500/test.jsonl.gz")]
    golds = [row["answer"] for row in rows]
    for gold, other in zip(golds, [*golds[1:], golds[0]], strict=True):
        yield "math500", f"\\boxed{{{gold}}}", {"answer": gold}
        yield "math500", f"\\boxed{{{other}}}", {"answer": gold}
        yield "math500", f"<answer>{gold}</answer>", {"answer": gold}


def edited(text: str, stream: random.Random) -> str:
    """The text after up to three random replacements, most of them in its last third, where the answer stands."""
    for _ in range(stream.randrange(4)):
        start = stream.randrange(len(text) * 2 // 3, len(text)) if text and stream.random() < 0.8 else 0
        text = text[:start] + stream.choice(REPLACED) + text[start + stream.randrange(3) :]
    return text


def generated_cases() -> Iterator[Case]:
    """Without end: real completions and written answers after random edits, four tasks in turn."""
    stream = random.Random(20)
    real = {task: [c for c in real_cases() if c[0] == task and isinstance(c[1], str)] for task in FIELDS}
    golds = [c for c in islice(gold_cases(), 0, None, 3)]
    numbers = [reference_of("countdown", row) for row in read(DATA / "countdown/test.jsonl")]
    grids = read(DATA / "sudoku/test.jsonl")
    while True:
        task, completion, reference = stream.choice(real["gsm8k"])
        yield task, edited(completion, stream), reference
        short = f"<answer>\n\\boxed{{{edited(str(reference['answer']), stream)}}}\n</answer>"
        yield task, short, reference
        task, completion, reference = stream.choice(real["math500"])
        yield task, edited(completion, stream), reference
        task, completion, reference = stream.choice(golds)
        yield task, edited(completion, stream), reference
        task, completion, reference = stream.choice(real["countdown"])
        yield task, edited(completion, stream), reference
        reference = stream.choice(numbers)
        signs = [stream.choice("+-*/") for _ in reference["numbers"]]
        sum_of = "".join(f"{n}{s}" for n, s in zip(reference["numbers"], signs, strict=True))[:-1]
        yield "countdown", f"<answer>{edited(sum_of, stream)}</answer>", reference
        task, completion, reference = stream.choice(real["sudoku"])
        yield task, edited(completion, stream), reference
        grid = stream.choice(grids)
        yield task, f"<answer>{edited(grid['solution'], stream)}</answer>", {"puzzle": grid["puzzle"]}


def judge(cases: Iterator[Case], out: Callable[[str], Any]) -> None:
    """One line per case and mode: the whole verdict, or the error of the reference."""
    from verifiers import VerifierError, verify, verify_batch

    while batch := list(islice(cases, 4096)):
        lines: dict[int, list[str]] = {row: [] for row in range(len(batch))}
        for mode in ("lenient", "strict"):
            for task in FIELDS:
                rows = [row for row, case in enumerate(batch) if case[0] == task]
                if not rows:
                    continue
                references = {name: [batch[row][2][name] for row in rows] for name in FIELDS[task]}
                completions = [batch[row][1] for row in rows]
                try:
                    verdicts = list(verify_batch(task, completions, mode=mode, **references))
                except VerifierError:  # one reference refuses a batch: judge each alone
                    verdicts = []
                    for row in rows:
                        try:
                            verdicts.append(verify(task, batch[row][1], mode=mode, **batch[row][2]))
                        except VerifierError as error:
                            verdicts.append(type(error).__name__)
                for row, verdict in zip(rows, verdicts, strict=True):
                    lines[row].append(text_of(verdict))
        for row, case in enumerate(batch):
            out(json.dumps([*case, *lines[row]], ensure_ascii=True))


def text_of(verdict: Any) -> str:
    if isinstance(verdict, str):
        return verdict
    return repr(
        (verdict.correct, verdict.score, verdict.extracted, str(verdict.reason), str(verdict.decided_by))
    )


# ---- problems ---------------------------------------------------------------------------------------------


def environments() -> Iterator[tuple[str, dict[str, Any]]]:
    for name, levels in (("gsm8k", 3), ("math500", 3), ("countdown", 5), ("sudoku", 4)):
        source = {"source": "generated"} if name in ("gsm8k", "math500") else {}
        for level in range(1, levels + 1):
            yield name, {**source, "level": level}
        yield name, {**source, "prompt_style": "paper"}
        yield name, {**source, "reward_preset": "paper"}
    yield "sudoku", {"size": 9}
    yield "gsm8k", {"source": str(DATA / "gsm8k")}
    yield "math500", {"source": str(DATA / "math500")}
    yield "countdown", {"source": str(DATA / "countdown/test.jsonl"), "prompt_style": "paper"}
    yield "sudoku", {"source": str(DATA / "sudoku/test.jsonl"), "prompt_style": "paper"}
    for name in ("arithmetic", "sorting", "edits", "coloring", "queens", "satisfiability"):
        for level in (1, 2, 3):
            yield name, {"level": level}


def problems(out: Callable[[str], Any], count: int) -> None:
    """Problem, demonstration, habits, and the rewards of each, of every environment, level and split."""
    import envs

    for name, arguments in environments():
        for split in ("train", "validation", "test"):
            try:
                env = envs.make(name, split=split, **arguments).unwrapped
                size = len(env)
            except envs.EnvError as error:
                out(json.dumps([name, arguments, split, type(error).__name__]))
                continue
            for index in range(min(count, size)):
                problem = env.problem(index)
                completions = {"right": env.demonstration(problem), "junk": "x", "empty": ""}
                completions |= env.habits(problem) if hasattr(env, "habits") else {}
                said = {key: [text, repr(env.score(problem, text))] for key, text in completions.items()}
                row = [problem.prompt, problem.reference, problem.completion_prefix, problem.metadata, said]
                out(json.dumps([name, arguments, split, size, index, row], default=repr))


# ---- runs -------------------------------------------------------------------------------------------------


def spg(python: str, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, "-m", "spg_trainer", *arguments], capture_output=True, text=True, env=environment
    )
    if check and done.returncode:
        raise SystemExit(f"{python} -m spg_trainer {' '.join(arguments)}:\n{done.stderr[-3000:]}")
    return done


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def compare_runs(old: str, new: str, folder: Path) -> list[tuple[str, str, str]]:
    """(what, old, new): digests of ten steps' metrics and samples of the default runs and spg_repro; then resume."""
    rows = []
    settings = [(env, "spg") for env in DEFAULT_RUNS] + [("sudoku", "spg_repro")]
    two_blocks = [
        "--block-length",
        "10",
        "--diffusion-steps",
        "20",
    ]  # spg_repro: a block of its own for each mask
    for env, algorithm in settings:
        for label, python in (("old", old), ("new", new)):
            spg(
                python, "--env", env, "--algorithm", algorithm, "--max-steps", "10", "--eval-problems", "16",
                "--save-steps", "5", "--sample-steps", "5",
                "--output-dir", str(folder / f"{label}-{env}-{algorithm}"), *(two_blocks * (algorithm != "spg")),
            )  # fmt: skip
        for file in ("metrics.jsonl", "samples/step-000010.jsonl", "model/model.safetensors"):
            at = [folder / f"{label}-{env}-{algorithm}" / file for label in ("old", "new")]
            if at[0].exists() or at[1].exists():
                found = [digest(path) if path.exists() else "absent" for path in at]
                rows.append((f"{env}, {algorithm}: {file}", *found))
    for env, algorithm in settings:
        run = folder / f"old-{env}-{algorithm}"
        further = [spg(python, "eval", "--model", str(run), "--num-problems", "16") for python in (old, new)]
        rows.append((f"{env}, {algorithm}: eval of the old run", *(solved(done.stdout) for done in further)))
        longer = folder / f"further-{env}-{algorithm}"
        for label, python in (("old", old), ("new", new)):
            subprocess.run(["cp", "-r", str(run), f"{longer}-{label}"], check=True)
            spg(python, "--resume", f"{longer}-{label}", "--max-steps", "12")
        ends = [digest(Path(f"{longer}-{label}") / "metrics.jsonl") for label in ("old", "new")]
        rows.append((f"{env}, {algorithm}: the old run resumed to step 12, metrics.jsonl", *ends))
    return rows


def solved(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if "solved" in line)


# ---- speed ------------------------------------------------------------------------------------------------


def time_verifiers() -> dict[str, float]:
    """Verdicts a second on the real completions, each task, best of three after a warm-up."""
    from verifiers import verify_batch
    from verifiers.registry import find

    rates = {}
    for task in FIELDS:
        cases = [case for case in real_cases() if case[0] == task][: 2260 if task == "gsm8k" else 1000]
        references = {name: [case[2][name] for case in cases] for name in FIELDS[task]}
        if "problem" in getattr(find(task), "optional", ()):  # with the check for copies, where there is one
            rows = read(DATA / "llada_generations" / f"{task}.jsonl.gz")
            references["problem"] = [row["question"] for row in rows[: len(cases)]]
        copies = 1 if task == "math500" else 8
        completions = [case[1] for case in cases] * copies
        references = {name: values * copies for name, values in references.items()}
        best = float("inf")
        for _ in range(4):
            start = time.perf_counter()
            verify_batch(task, completions, **references)
            best = min(best, time.perf_counter() - start)
        rates[f"verdicts/s {task}"] = len(completions) / best
    return rates


def time_training(folder: Path, python: str) -> dict[str, float]:
    """Seconds of ten steps of the Sudoku run after two of warm-up, from timings.jsonl."""
    spg(python, "--env", "sudoku", "--max-steps", "12", "--eval-problems", "16", "--output-dir", str(folder))
    rows = [json.loads(line) for line in (folder / "timings.jsonl").read_text().splitlines()][2:]
    return {f"ten steps, {name}, s": sum(row[name] for row in rows) for name in ("rollout", "update")}


def time_commands(python: str) -> dict[str, float]:
    """Wall seconds of whole processes."""
    verify = "import verifiers; verifiers.verify"
    commands = {
        "--help of training, s": ["-m", "spg_trainer", "--help"],
        "--help of eval, s": ["-m", "spg_trainer", "eval", "--help"],
        "--help of the verifiers, s": ["-m", "verifiers", "--help"],
        "--help of the environments, s": ["-m", "envs", "--help"],
        "cold sudoku verdict, s": ["-c", verify + "('sudoku', '3142423113242413', puzzle='0042420013040403')"],
        "cold math500 verdict, s": ["-c", verify + r"('math500', '\boxed{1/2}', answer='0.5')"],
    }  # fmt: skip
    seconds = {}
    for name, command in commands.items():
        start = time.perf_counter()
        subprocess.run([python, *command], check=True, stdout=subprocess.DEVNULL)
        seconds[name] = time.perf_counter() - start
    return seconds


def compare_speed(old: str, new: str, folder: Path, rounds: int) -> None:
    """Medians of `rounds` interleaved runs, and the median of the ratios pair by pair (above 1: new is faster)."""
    taken: dict[str, list[tuple[float, float]]] = {}
    for turn in range(rounds):
        pair = []
        for label, python in (("old", old), ("new", new)):
            rates = json.loads(call_probe(python, "speed"))
            rates |= time_training(folder / f"speed-{label}-{turn}", python)
            pair.append(rates | time_commands(python))
        for name in pair[0]:
            if name in pair[1]:
                taken.setdefault(name, []).append((pair[0][name], pair[1][name]))
    say(f"| speed, {rounds} interleaved rounds | old | new | new over old in speed |\n|---|---|---|---|")
    for name, pairs in taken.items():
        is_rate = "/s" in name or "per_second" in name
        ratio = statistics.median(b / a if is_rate else a / b for a, b in pairs)
        medians = [statistics.median(values) for values in zip(*pairs, strict=True)]
        say(f"| {name} | {medians[0]:,.3g} | {medians[1]:,.3g} | {ratio:.2f}x |")


# ---- the two sides ----------------------------------------------------------------------------------------


def call_probe(python: str, part: str, *arguments: str) -> str:
    """What this file prints when another interpreter runs one part of it."""
    command = [python, __file__, "--probe", part, *arguments]
    environment = {**os.environ, "SPG_SHARED_DATA": str(DATA), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, env=environment, cwd=tempfile.gettempdir()
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}")
    return done.stdout


def probe(part: str, count: int, path: str | None) -> None:
    if part == "speed":
        say(json.dumps(time_verifiers()))
        return
    if part == "one":  # a JSON list of cases on standard input, each judged alone
        for case in json.load(sys.stdin):
            judge(iter([tuple(case)]), say)
        return
    with open(path, "w", encoding="utf-8") as file:
        out = lambda line: file.write(line + "\n")  # noqa: E731
        if part == "problems":
            problems(out, count)
        else:
            cases = {"verdicts": real_cases, "golds": gold_cases, "generated": generated_cases}[part]()
            judge(islice(cases, count) if part == "generated" else cases, out)


def judged_again(pythons: tuple[str, str], pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Pairs that still differ when both sides judge each case alone: a deadline on a busy machine is no difference."""
    if not pairs:
        return []
    cases = json.dumps([json.loads(old)[:3] for old, _ in pairs])
    environment = {**os.environ, "SPG_SHARED_DATA": str(DATA)}
    sides = []
    for python in pythons:
        done = subprocess.run(
            [python, __file__, "--probe", "one"], input=cases, text=True, env=environment, check=True,
            stdout=subprocess.PIPE, cwd=tempfile.gettempdir(),
        )  # fmt: skip
        sides.append(done.stdout.splitlines())
    return [pair for pair in zip(*sides, strict=True) if pair[0] != pair[1]]


def compare_lines(old: str, new: str, part: str, count: int, folder: Path) -> bool:
    """Runs a part in both, in parallel, and says how many lines differ."""
    paths = [folder / f"{part}-{label}.jsonl" for label in ("old", "new")]
    environment = {**os.environ, "SPG_SHARED_DATA": str(DATA), "HF_HUB_OFFLINE": "1"}
    running = [
        subprocess.Popen(
            [python, __file__, "--probe", part, "--count", str(count), "--path", str(path)],
            env=environment,
            cwd=tempfile.gettempdir(),
        )
        for python, path in zip((old, new), paths, strict=True)
    ]
    if any([process.wait() for process in running]):
        raise SystemExit(f"{part}: one side failed")
    total, different, timeouts = 0, [], []
    with open(paths[0], encoding="utf-8") as left, open(paths[1], encoding="utf-8") as right:
        for a, b in zip_longest(left, right):
            total += 1
            if a != b:
                by_deadline = part != "problems" and a and b and "'timeout'" in a + b
                (timeouts if by_deadline else different).append((a, b))
    different += judged_again((old, new), timeouts)
    say(f"| {part} | {total:,} | {len(different):,} | {len(timeouts)} judged again after a deadline |")
    for a, b in different[:5]:
        say(f"old {(a or 'absent')[:1500].strip()}\nnew {(b or 'absent')[:1500].strip()}")
    return not different


def say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", nargs="?")
    parser.add_argument("new", nargs="?")
    parts = ["verdicts", "golds", "generated", "problems", "runs", "speed"]
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument(
        "--count", type=int, default=None, help="generated answers (1,000,000), problems (1,000)"
    )
    parser.add_argument("--rounds", type=int, default=5, help="of the speed comparison")
    parser.add_argument("--probe", help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.probe:
        probe(given.probe, given.count or 0, given.path)
        return
    if not (given.old and given.new):
        parser.error("two interpreters are needed: OLD_PYTHON NEW_PYTHON")
    same = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        say("| part | lines | different | |\n|---|---|---|---|")
        for part, default in (("verdicts", 0), ("golds", 0), ("generated", 1_000_000), ("problems", 1000)):
            if part in given.parts:
                same &= compare_lines(given.old, given.new, part, given.count or default, folder)
        if "runs" in given.parts:
            say("| runs | old | new |\n|---|---|---|")
            for what, old, new in compare_runs(given.old, given.new, folder):
                same &= old == new
                say(f"| {what} | {old} | {new if new != old else 'equal'} |")
        if "speed" in given.parts:
            compare_speed(given.old, given.new, folder, given.rounds)
    raise SystemExit(0 if same else 1)


if __name__ == "__main__":
    main()

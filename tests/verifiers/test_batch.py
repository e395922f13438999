"""Batches: kernels answer as the reader does, in threads, with and without a disk cache or numba."""

import dataclasses
import gzip
import json
import random
from pathlib import Path

import numpy as np
import pytest

import verifiers
from tests.common import speed
from tests.common.command_cases import PUZZLE, RIGHT, SOLUTION, python
from tests.common.soup import REFERENCES, judge, use_kernels
from tests.common.soup import RIGHT as RIGHT_ANSWERS
from verifiers import batch, registry, verify, verify_batch

WITH_KERNELS = ("gsm8k", "countdown", "sudoku")
# What answers that kernels decide, and near ones, are written with; a task's own pieces.
CHARACTERS = {"gsm8k": "0123456789.,-", "countdown": "3579+-*/() =", "sudoku": "12340 |", "math500": "0123/."}
ANSWERS = {
    "gsm8k": (r"18\text{ cm}", r"\$18", "18 eggs", r"50\%", r"\frac{36}{2}", "{18", r"18 \} 2", "18 or 19"),
    "countdown": ("3*5+7", "(25-5)*2+3", "4611686018427387904 + 1"),
    "sudoku": (SOLUTION, SOLUTION.replace("1", "2")),
}
BIG = 2**62
MORE_REFERENCES = {
    "countdown": [
        {"numbers": [BIG, 1], "target": BIG + 1}, {"numbers": [3, -5, 7], "target": "-22/7"},
        {"numbers": [-BIG - 1, 3], "target": -BIG}, {"numbers": [10**30, 5], "target": 22},
    ],
}  # fmt: skip
EDITS = [
    "<answer>", "</answer>", "\\boxed{", "}", "{", "####", "<|eot_id|>", "<|endoftext|>", "<|im_end|>", "<think>",
    "</think>", "<reasoning>", "</reasoning>", "</s>", "<", "\u00a0", "\x1c", "é", "×", "\u2019t", " not ", " or ",
    " and ", ", ", "</", "$", "\\boxed{7}", "\\boxed 7", "\\fbox{7}", "\\)", "**", ".", " hours", "12", " 18",
    " The answer is 12.", "1,250", "-", "\n", "\t", "\\", '"answer": "5"', "\nA: 5", " because ", "\x00", "\ud800", "=",
    "x=", "%", "\\text{ cm}", "\n#### 18", "<Answer>", "\\}", "\\\\", "", "", "", "",
]  # fmt: skip
WHOLE = (
    "We add 9 and 9.\n</reasoning>\n<answer>\n\\boxed{{{0}}}\n</answer><|eot_id|><|endoftext|>",
    "So it is \\boxed{{{0}}}.\n</answer><|eot_id|>",
    "First, \\boxed{{{1}}}.\n</reasoning>\n\n<answer>\n\\boxed{{{0}}}<|eot_id|>",
    "<reasoning>\nx < 5\n</reasoning>\n<answer>\n{0}\n</answer>",
    "x = \\boxed{{{1}}}, so\n</answer>\n<answer>\n\\boxed{{{0}}}\\) hours\n</answer>",
    "<answer>{1}</answer> and then <answer> {0}",
    "é <answer>{1}</answer><answer>{0}</answer>\n<|endoftext|>",
    "<think><answer>\\boxed{{ {0} }}</answer> so",
)
"""Completions as models write them, with an answer and another one."""


def edited(rng: random.Random, text: str) -> str:
    """The text with one to three pieces put in, cut out or put in the place of a tag, most of them near its end."""
    for _ in range(rng.choice((1, 1, 2, 3))):
        at = rng.randint(max(0, len(text) - rng.choice((20, 60, 200))), len(text))
        kind = rng.random()
        if kind < 0.6:
            text = text[:at] + rng.choice(EDITS) + text[at:]
        elif kind < 0.8:
            text = text[:at] + text[at + rng.choice((1, 2, 5, 10)) :]
        else:
            tags = "<answer>", "</answer>", "\\boxed{", "}", "</reasoning>"
            before, tag, behind = text.rpartition(rng.choice(tags))
            text = before + (rng.choice(EDITS) if tag else "") + behind
    return text


def assert_agrees(task: str, texts: list[str], references: list[dict], mode: str) -> None:
    """A batch that kernels judge gets the verdicts that its rows get alone."""
    rows = zip(texts, references, strict=True)
    alone = [verify(task, text, mode=mode, **reference) for text, reference in rows]
    assert list(judge(task, texts, references, mode)) == alone


@pytest.mark.parametrize("task", (*WITH_KERNELS, "math500"))
def test_kernels_and_the_reader_agree_on_edited_texts(task, at_length, monkeypatch):
    use_kernels(monkeypatch)
    rng = random.Random(5)
    answers = [*RIGHT_ANSWERS[task], *ANSWERS.get(task, ()), "18", "-3", "1250", "1234", "2*5", "5 3", ""]
    usual, known = REFERENCES[task][:3], REFERENCES[task] + MORE_REFERENCES.get(task, [])
    for mode in registry.find(task).modes:
        for batch_number in range(2_000 if at_length else 25):
            texts = []
            for _ in range(10):
                made = "".join(rng.choices(CHARACTERS[task], k=rng.randint(1, 18)))
                texts.append(
                    edited(rng, rng.choice(WHOLE).format(rng.choice([*answers, made]), rng.choice(answers)))
                )
            # References that no kernel reads leave their whole batch to the reader.
            assert_agrees(task, texts, rng.choices(known if batch_number % 4 == 0 else usual, k=10), mode)


@pytest.mark.parametrize("task", (*WITH_KERNELS, "math500"))
def test_kernels_and_the_reader_agree_on_recorded_texts(task, shared_data, monkeypatch):
    use_kernels(monkeypatch)
    with gzip.open(shared_data / "llada_generations" / f"{task}.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    texts = [row["completion"] for row in rows]
    references = [{field: row[field] for field in REFERENCES[task][0]} for row in rows]
    assert_agrees(task, texts, references, "lenient")
    assert_agrees(task, texts, references, "strict")


def decided(kernel: batch.Kernel, texts: list[str], reference: list) -> tuple[np.ndarray, ...]:
    """What a kernel says of each text: codes of reasons, scores and spans."""
    kernel.load()
    count = len(texts)
    into = np.empty(count, np.int8), np.empty(count, np.int8), np.empty(count), np.empty((count, 2), np.int64)
    assert batch.judge_with(kernel, texts, True, [[value] * count for value in reference], into)
    return into[0], into[2], into[3]


@pytest.mark.parametrize(
    ("task", "right", "without"),  # a sentence names an answer of GSM8K
    [("gsm8k", "1250", -1), ("countdown", "25*2-5-3", 2), ("sudoku", SOLUTION, 2)],
)
def test_a_kernel_decides_what_is_written_as_prompts_ask_for_it(task, right, without):
    text = f"<reasoning>\nWe add.\n</reasoning>\n<answer>\n{right}\n</answer><|eot_id|><|endoftext|>"
    registry.find(task)
    (kernel,) = [kernel for kernel in batch.kernels if kernel.name == {"gsm8k": "plain"}.get(task, task)]
    codes, scores, spans = decided(kernel, [text, "I think so."] * 4, [*REFERENCES[task][0].values()])
    assert codes.tolist() == [0, without] * 4 and scores[0] == 1
    assert text[slice(*spans[0].tolist())] == right


CODES = {
    0: [
        "<reasoning>\nWe add.\n</reasoning>\nThus \\boxed{18}.", "so \\boxed{3}. Thus \\boxed{18} eggs, which sell.",
        "2x + \\boxed{18}, because 2 + 16 = 18",
    ],
    -1: [
        "<answer>18, because 2 + 16 = 18</answer>", "<reasoning>\nThus \\boxed{18}.\n</reasoning>",
        "<answer>\\boxed{...}\n</answer>", "\\boxed{...}\n</answer>", "<answer>\\boxed{17} or \\boxed{18}</answer>",
        "so \\boxed 5, and \\boxed{18}", "\\boxed{18}. So the answer is 17.", "\\boxed{18}\n#### 17",
        "<think>\\boxed{18}", "<answer>The result: 18</answer>", "The answer is 18.",
    ],
    -2: ["\\boxed{18.0}", "\\boxed{018}"],
}  # fmt: skip


@pytest.mark.parametrize("code", CODES)
def test_the_kernel_decides_only_where_the_last_block_or_box_leaves_no_doubt(code):
    texts = CODES[code] * batch.KERNEL_ROWS
    assert decided(batch.PLAIN_NUMBER, texts, ["18"])[0].tolist() == [code] * len(texts)


def test_slices_in_threads_give_the_same_in_order(monkeypatch):
    use_kernels(monkeypatch)
    texts = [f"<answer>{SOLUTION if i % 3 else SOLUTION[::-1]}</answer>" * (i % 5) for i in range(700)]
    texts[::50] = ["\u0664" * i for i in range(14)]
    puzzles = [PUZZLE, "0" * 16] * 350
    whole = list(verify_batch("sudoku", texts, puzzle=puzzles))
    monkeypatch.setattr(batch, "SLICE_CHARACTERS", 500)
    monkeypatch.setattr(batch, "cpus", lambda: 4)
    assert len(batch.slices_of(batch.starts_of(texts))) > 30
    assert list(verify_batch("sudoku", texts, puzzle=puzzles)) == whole
    assert {verdict.reason.value for verdict in whole} == {"ok", "rule_broken", "no_answer"}
    puzzles[650] = "9" * 16
    with pytest.raises(verifiers.InvalidReferenceError, match=r"puzzle\[650\]"):
        verify_batch("sudoku", texts, puzzle=puzzles)


KERNEL = batch.Kernel("sudoku", batch.TEXTS, batch.pack, tiers={}, saves=1e-3, compiling=1.5, memory=256)


def small(data, starts, first, lenient, golds, gold_starts, reason, score, spans, scratch):
    """A kernel that is compiled in a moment."""
    reason[0] = first


def fresh_kernel(monkeypatch, tmp_path) -> tuple[batch.Kernel, list]:
    """A kernel that is in no cache, and what is asked of the compiler: whether only a cached kernel is wanted."""
    import numba

    from verifiers.kernels import disk_cache

    asked = []
    compiled = disk_cache.compiled

    def counted(function, signature, only_cached=False):
        asked.append(only_cached)
        again = numba.njit(nogil=True)(small)  # as in another process
        return compiled(again, signature, only_cached)

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(disk_cache, "compiled", counted)
    return dataclasses.replace(KERNEL), asked


def test_a_kernel_is_loaded_or_compiled_when_that_pays(monkeypatch, tmp_path):
    kernel, asked = fresh_kernel(monkeypatch, tmp_path)
    assert kernel.worth_using(600) is None and asked == [], "less is saved than numba's import takes"
    assert kernel.worth_using(600) is None and asked == [True], "not on disk, and not worth compiling yet"
    assert kernel.worth_using(2) is None and asked == [True]
    monkeypatch.setattr(batch, "MAY_COMPILE", False)  # as a server's process sets it
    assert kernel.worth_using(600) is None and asked == [True], "a server never compiles"
    monkeypatch.setattr(batch, "MAY_COMPILE", True)
    assert kernel.worth_using(8) is not None and asked == [True, False]
    another = dataclasses.replace(KERNEL)
    assert another.worth_using(800) is not None and asked == [True, False, True], "now it is on disk"


def test_compiles_where_no_cache_folder_can_be_written(monkeypatch, tmp_path):
    from numba.core import caching

    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    kernel, _ = fresh_kernel(monkeypatch, tmp_path)
    kernel.load()
    assert kernel.function is not None


@pytest.mark.parametrize(("kind", "size"), [(".nbi", 0), (".nbi", 60), (".nbc", 0), (".nbc", 100)])
def test_a_cut_file_of_the_disk_cache_counts_as_missing(monkeypatch, tmp_path, caplog, kind, size):
    fresh_kernel(monkeypatch, tmp_path)[0].load()
    (file,) = tmp_path.rglob(f"*{kind}")
    file.write_bytes(file.read_bytes()[:size])
    kernel = dataclasses.replace(KERNEL)
    kernel.load(only_cached=True)
    assert kernel.function is None
    kernel.load()
    again = dataclasses.replace(KERNEL)
    again.load(only_cached=True)
    assert kernel.function and again.function, "it was kept anew"
    (said,) = caplog.messages
    assert said.startswith(f"numba's cache in {file.parent} has a file that cannot be read (")
    assert "compiled anew" in said


def test_code_of_other_sources_is_kept_under_another_name(monkeypatch, tmp_path):
    from verifiers.kernels import disk_cache

    fresh_kernel(monkeypatch, tmp_path)[0].load()
    sources_of = disk_cache.sources_of
    monkeypatch.setattr(disk_cache, "sources_of", lambda function: sources_of(function)[:-1])
    kernel = dataclasses.replace(KERNEL)
    kernel.load(only_cached=True)
    assert kernel.function is None


WALL = """
import sys
class Wall:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top not in {allowed!r}:
            raise ImportError("walled off: " + name)
sys.meta_path.insert(0, Wall())
import verifiers
"""
MANY = f"""
from verifiers import batch
batch.prepare_kernels()
verdicts = verifiers.verify_batch("sudoku", ["{RIGHT}"] * 300, puzzle=["{PUZZLE}"] * 300)
print(int(verdicts.correct.sum()), verdicts[299].extracted, "numba" in sys.modules)
"""
FIRST = """
import os
os.environ["NUMBA_CACHE_DIR"] = os.getcwd()
texts = [f"<reasoning>We add {row} and 1.</reasoning>\\n<answer>{row + 1}</answer>" for row in range(2260)]
assert verifiers.verify_batch("gsm8k", texts, answer=[str(row + 1) for row in range(2260)]).correct.all()
print("numba" in sys.modules)
"""
ALONE = f"""
import time
assert verifiers.verify("sudoku", "{RIGHT}", puzzle="{PUZZLE}").correct
print(time.process_time(), any(name in sys.modules for name in ("numba", "numpy", "importlib.metadata")))
"""
COMPILING = """
import os, time
os.environ["NUMBA_CACHE_DIR"] = os.getcwd()
from verifiers import batch
began = time.process_time()
batch.prepare_kernels()
from verifiers.kernels import plain
shared = plain.locate, plain.next_tag, plain.is_whole, plain.judge
print(time.process_time() - began, *(len(function.signatures) for function in shared))
"""
MATH = """
assert verifiers.verify("math500", "<answer>2^{10}</answer>", answer="1024").correct
"""
COMPILER = "numpy numba llvmlite"


def fresh(code: str, folder: Path, allowed: str) -> list[str]:
    """What `code` prints in a new interpreter that can import the standard library, this package and `allowed`."""
    script = WALL.format(allowed={"verifiers", *allowed.split()}) + code
    done = python("-c", script, cwd=folder, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(("allowed", "with_numba"), [(COMPILER, "True"), ("numpy", "False")])
def test_works_with_numpy_and_numba_or_less(tmp_path, allowed, with_numba):
    assert fresh(MANY, tmp_path, allowed) == ["300", SOLUTION, with_numba]


def test_a_first_batch_of_a_few_thousand_rows_waits_for_no_compiler(tmp_path):
    assert fresh(FIRST, tmp_path, COMPILER) == ["False"]


@pytest.mark.parametrize(("code", "allowed"), [(ALONE, ""), (ALONE + MATH, ""), (ALONE, COMPILER)])
def test_a_single_verdict_comes_at_once_and_imports_nothing_heavy(tmp_path, code, allowed):
    seconds, heavy = fresh(code, tmp_path, allowed)
    assert float(seconds) < speed.here(0.3) and heavy == "False"


@pytest.mark.slow
def test_kernels_compile_in_eight_seconds_and_what_they_share_once(tmp_path):
    seconds, *signatures = fresh(COMPILING, tmp_path, COMPILER)
    assert signatures == ["1"] * 4
    assert float(seconds) < speed.here(8)

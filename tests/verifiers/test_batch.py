"""Batches: compiled code answers as interpreted code does, in threads, with and without a disk cache or numba."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifiers
from tests.common.command_cases import PUZZLE, RIGHT, SOLUTION
from tests.common.soup import REFERENCES, judge, soup
from verifiers import batch, registry, verify, verify_batch

COMPILED = ("gsm8k", "countdown", "sudoku")
_BIG = (
    st.integers(2**62 - 2, 2**62 + 2)
    | st.integers(-(2**62) - 2, -(2**62) + 2)
    | st.integers(-(10**30), 10**30)
)
_NUMBERS = st.lists(st.integers(-8, 8) | _BIG, min_size=1, max_size=4) | st.just([3, 5, 7])
_TARGETS = st.just(22) | st.fractions(max_denominator=8) | _BIG
MORE_REFERENCES = {"countdown": st.fixed_dictionaries({"numbers": _NUMBERS, "target": _TARGETS})}


def compiled(
    task: str, texts: list[str], references: list[dict], mode: str = "lenient"
) -> verifiers.Verdicts:
    """A batch that is judged by compiled code, however small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "MIN_COMPILED_ROWS", 0)
        return judge(task, texts, references, mode)


@pytest.mark.parametrize("task", COMPILED)
def test_compiled_and_interpreted_code_agree(task, at_length):
    references = st.sampled_from(REFERENCES[task]) | MORE_REFERENCES.get(task, st.nothing())

    @settings(max_examples=200 if at_length else 60, deadline=None)
    @given(st.lists(st.tuples(soup(task), references), min_size=1, max_size=8))
    def agree(rows):
        for mode in registry.find(task).modes:
            alone = [verify(task, text, mode=mode, **reference) for text, reference in rows]
            assert list(compiled(task, *map(list, zip(*rows, strict=True)), mode)) == alone
            for verdict in alone:
                assert 0 <= verdict.score <= 1 and verdict.correct is (verdict.reason == "ok")

    agree()


def test_slices_in_threads_give_the_same_in_order(monkeypatch):
    texts = [f"<answer>{SOLUTION if i % 3 else SOLUTION[::-1]}</answer>" * (i % 5) for i in range(700)]
    texts[::50] = ["\u0664" * i for i in range(14)]
    puzzles = [PUZZLE] * len(texts)
    whole = list(verify_batch("sudoku", texts, puzzle=puzzles))
    monkeypatch.setattr(batch, "SLICE_CHARACTERS", 500)
    monkeypatch.setattr(batch, "cpus", lambda: 4)
    assert len(batch.slices_of(batch.starts_of(texts))) > 30
    assert list(verify_batch("sudoku", texts, puzzle=puzzles)) == whole
    assert {verdict.reason.value for verdict in whole} == {"ok", "rule_broken", "no_answer"}
    puzzles[650] = "9" * 16
    with pytest.raises(verifiers.InvalidReferenceError, match=r"puzzle\[650\]"):
        verify_batch("sudoku", texts, puzzle=puzzles)


def test_compiles_where_no_cache_folder_can_be_written(monkeypatch):
    from numba.core import caching

    def make(checksum):
        def add(value):
            return value + checksum

        return add

    monkeypatch.setattr(caching.CodeLibraryCacheImpl, "_locator_classes", [], raising=False)
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    add = batch.compile_loop(make, "int64(int64)")
    assert add(2) == add(1) + 1


def test_what_is_not_in_the_disk_cache_is_compiled_only_where_that_is_asked_for(monkeypatch, tmp_path):
    import numba

    def make(checksum):
        def twice(value):
            return 2 * value

        return twice

    began = []
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(batch, "compiling", batch.Compiling(begins=lambda verifier: began.append(1)))
    assert batch.compile_loop(make, "int64(int64)", only_cached=True) is None
    assert began == [] and batch.compiling.taken == 0 and not [*tmp_path.rglob("*.nbc")]
    assert batch.compile_loop(make, "int64(int64)")(4) == 8
    assert began == [1] and 0 < batch.compiling.taken < 60
    assert batch.compile_loop(make, "int64(int64)", only_cached=True)(4) == 8
    assert began == [1]


def _thrice(checksum):
    def thrice(value):
        return 3 * value

    return thrice


@pytest.mark.parametrize(("kind", "size"), [(".nbi", 0), (".nbi", 60), (".nbc", 0), (".nbc", 100)])
def test_a_cut_file_of_the_disk_cache_counts_as_missing(monkeypatch, tmp_path, caplog, kind, size):
    import numba

    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    assert batch.compile_loop(_thrice, "int64(int64)")(4) == 12
    (file,) = tmp_path.rglob(f"*{kind}")
    file.write_bytes(file.read_bytes()[:size])
    assert batch.compile_loop(_thrice, "int64(int64)", only_cached=True) is None
    assert batch.compile_loop(_thrice, "int64(int64)")(5) == 15
    assert batch.compile_loop(_thrice, "int64(int64)", only_cached=True)(6) == 18, "it was kept anew"
    (said,) = (text for text in caplog.messages if not text.startswith("Compiling the verifiers"))
    assert said.startswith(f"numba's cache in {file.parent} has a file that cannot be read (")
    assert "compiled anew" in said


AT_ONCE = """
from verifiers import batch
from tests.verifiers.test_batch import _thrice
began = []
batch.compiling = batch.Compiling(begins=lambda verifier: began.append(1))
print(batch.compile_loop(_thrice, "int64(int64)")(4), len(began))
"""


def test_of_processes_that_compile_at_once_one_compiles_and_the_others_load(tmp_path):
    import numba  # noqa: F401 (so that its files are in memory)

    from verifiers.loop_cache import turn

    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    start = [sys.executable, "-c", AT_ONCE]
    processes = [subprocess.Popen(start, env=env, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    printed = sorted(process.communicate(timeout=200)[0].split() for process in processes)
    assert printed == [["12", "0"], ["12", "0"], ["12", "1"]]
    with turn(str(tmp_path), only_to_load=False), turn(str(tmp_path), only_to_load=True) as ours:
        assert not ours, "who only loads does not wait"


def test_a_loop_is_compiled_when_as_long_was_judged_without_it(monkeypatch):
    asked = []
    monkeypatch.setattr(batch, "compiled_rows", lambda loop, only_cached=False: asked.append(only_cached))
    monkeypatch.setattr(batch, "compiling", batch.Compiling(rows_left=300, seconds=1e-6))
    for _ in range(3):
        verify_batch("sudoku", [RIGHT] * 300, puzzle=[PUZZLE] * 300)
    assert asked == [True, False] * 2, "the first batch is too few rows, and takes longer than a microsecond"


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
verdicts = verifiers.verify_batch("sudoku", ["{RIGHT}"] * 300, puzzle=["{PUZZLE}"] * 300)
print(int(verdicts.correct.sum()), verdicts[299].extracted, "numba" in sys.modules)
"""
ALONE = f"""
import time
assert verifiers.verify("sudoku", "{RIGHT}", puzzle="{PUZZLE}").correct
print(time.process_time() < 0.3, any(name in sys.modules for name in ("numba", "numpy", "importlib.metadata")))
"""
MATH = """
assert verifiers.verify("math500", "<answer>2^{10}</answer>", answer="1024").correct
"""
COMPILER = "numpy numba llvmlite"


def fresh(code: str, folder: Path, allowed: str) -> list[str]:
    """What `code` prints in a new interpreter that can import the standard library, this package and `allowed`."""
    script = WALL.format(allowed={"verifiers", *allowed.split()}) + code
    env = {**os.environ, "PYTHONPATH": str(Path(verifiers.__file__).parent.parent)}
    options = {"capture_output": True, "text": True, "cwd": folder, "env": env, "timeout": 240}
    done = subprocess.run([sys.executable, "-c", script], **options)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("code", "allowed", "printed"),
    [
        (MANY, COMPILER, ["300", SOLUTION, "True"]),
        (MANY, "numpy", ["300", SOLUTION, "False"]),
        (ALONE, "", ["True", "False"]),
        (ALONE + MATH, "", ["True", "False"]),
        (ALONE, COMPILER, ["True", "False"]),  # at once: within 0.3 s, and nothing heavy is imported
    ],
)
def test_works_with_numpy_and_numba_or_less(tmp_path, code, allowed, printed):
    assert fresh(code, tmp_path, allowed) == printed


def test_a_compilation_is_announced_with_the_verifier_s_name(caplog):
    batch.Compiling().begins("gsm8k")
    assert (
        "Compiling the verifiers' part gsm8k once, which may take a minute; numba keeps the result on disk."
        in caplog.text
    )

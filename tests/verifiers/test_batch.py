"""Batches: compiled code answers as interpreted code does, in threads, with and without a disk cache or numba."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifiers
from tests.common.soup import MODES, REFERENCES, soup
from verifiers import VerifierError, batch, sudoku, verify, verify_batch

COMPILED = ("gsm8k", "countdown", "sudoku")
PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
_BIG = (
    st.integers(-(2**62) - 2, -(2**62) + 2)
    | st.integers(2**62 - 2, 2**62 + 2)
    | st.integers(-(10**30), 10**30)
)
_NUMBERS = st.lists(st.integers(-8, 8) | _BIG, min_size=1, max_size=4) | st.just([3, 5, 7])
_TARGETS = st.just(22) | st.fractions(max_denominator=8) | _BIG
MORE_REFERENCES = {"countdown": st.fixed_dictionaries({"numbers": _NUMBERS, "target": _TARGETS})}
INVALID = {
    "gsm8k": st.fixed_dictionaries({"answer": soup("gsm8k") | st.text(max_size=20)}),
    "countdown": st.fixed_dictionaries(
        {"numbers": _NUMBERS | st.just([]) | st.just(["3"]), "target": _TARGETS | soup("countdown")}
    ),
    "sudoku": st.fixed_dictionaries(
        {"puzzle": st.text("0123456789. ,|\n", max_size=300) | st.text(max_size=20)}
    ),
}


def columns(references: list[dict]) -> dict[str, list]:
    return {name: [reference[name] for reference in references] for name in references[0]}


def compiled(task: str, texts: list[str], mode: str, references: list[dict]) -> verifiers.Verdicts:
    """A batch that is judged by compiled code, however small."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batch, "MIN_COMPILED_ROWS", 0)
        return verify_batch(task, texts, mode=mode, **columns(references))


@pytest.mark.parametrize("task", COMPILED)
def test_compiled_and_interpreted_code_agree(task):
    references = st.sampled_from(REFERENCES[task]) | MORE_REFERENCES.get(task, st.nothing())

    @settings(max_examples=400, deadline=None)
    @given(st.lists(st.tuples(soup(task), references), min_size=1, max_size=8))
    def agree(rows):
        texts, given_references = [row[0] for row in rows], [row[1] for row in rows]
        for mode in MODES:
            alone = [verify(task, text, mode=mode, **reference) for text, reference in rows]
            assert list(compiled(task, texts, mode, given_references)) == alone
            for verdict in alone:
                assert 0 <= verdict.score <= 1 and verdict.correct is (verdict.reason == "ok")

    agree()


@pytest.mark.parametrize("task", COMPILED)
def test_compiled_and_interpreted_code_refuse_the_same_references(task):
    @settings(max_examples=300, deadline=None)
    @given(INVALID[task])
    def agree(reference):
        messages = []
        for judge in (compiled, lambda task, texts, mode, rows: verify_batch(task, texts, **columns(rows))):
            try:
                judge(task, ["<answer>18</answer>"], "lenient", [reference])
                messages.append("")
            except VerifierError as error:
                messages.append(str(error))
        assert messages[0] == messages[1]

    agree()


@pytest.mark.parametrize("task", COMPILED)
def test_without_numba_a_large_batch_gets_the_same_verdicts(task, monkeypatch):
    texts = [f"<answer>{text}</answer>" for text in ("25*2-5-3", "1250", SOLUTION, "7")] * 100
    references = [REFERENCES[task][0]] * 400
    expected = list(compiled(task, texts, "lenient", references))
    monkeypatch.setattr(batch, "compiled_rows", lambda loop: None)
    assert list(verify_batch(task, texts, **columns(references))) == expected
    assert verify_batch(task, [], **{name: [] for name in REFERENCES[task][0]}).counts() == {}


def test_slices_in_threads_give_the_same_in_order(monkeypatch):
    texts = [f"<answer>{SOLUTION if i % 3 else SOLUTION[::-1]}</answer>" * (i % 5) for i in range(700)]
    texts[::50] = ["\u0664" * i for i in range(14)]
    puzzles = [PUZZLE] * len(texts)
    whole = list(verify_batch("sudoku", texts, puzzle=puzzles))
    monkeypatch.setattr(batch, "SLICE_CHARACTERS", 500)
    monkeypatch.setattr(batch, "_cpus", lambda: 4)
    assert len(list(batch.packed_slices(texts))) > 30
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
    checksum = batch.source_checksum(verifiers.extract)
    assert batch.compile_loop(make, "int64(int64)")(1) == 1 + checksum


def test_the_cache_key_follows_every_source_file(tmp_path, monkeypatch):
    before = batch.source_checksum(sudoku, batch)
    copy = tmp_path / "copy.py"
    copy.write_text(Path(batch.__file__).read_text() + "\n")
    monkeypatch.setattr(batch, "__file__", str(copy))
    assert batch.source_checksum(sudoku, batch) != before


def fresh(code: str, folder: Path, allowed: str = "") -> str:
    """Run `code` in a new interpreter where only the standard library, this package and `allowed` can be imported."""
    guard = f"""
        import sys
        class Wall:
            def find_spec(self, name, path=None, target=None):
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in {{"verifiers", *{allowed.split()!r}}}:
                    raise ImportError("walled off: " + name)
        sys.meta_path.insert(0, Wall())
    """
    script = textwrap.dedent(guard) + textwrap.dedent(code)
    place = str(Path(verifiers.__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": place}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=folder, env=env, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_works_where_only_numpy_and_numba_can_be_imported(tmp_path):
    code = f"""
        import verifiers
        verdicts = verifiers.verify_batch("sudoku", ["<answer>{SOLUTION}</answer>"] * 300, puzzle=["{PUZZLE}"] * 300)
        print(int(verdicts.correct.sum()), verdicts[299].extracted, "numba" in sys.modules)
    """
    assert fresh(code, tmp_path, "numpy numba llvmlite").split() == ["300", SOLUTION, "True"]


def test_a_large_batch_works_without_numba_and_one_string_without_numpy(tmp_path):
    code = f"""
        import verifiers
        verdicts = verifiers.verify_batch("sudoku", ["<answer>{SOLUTION}</answer>"] * 300, puzzle=["{PUZZLE}"] * 300)
        print(int(verdicts.correct.sum()))
    """
    assert fresh(code, tmp_path, "numpy").split() == ["300"]
    code = f"""
        import verifiers
        print(verifiers.verify("sudoku", "<answer>{SOLUTION}</answer>", puzzle="{PUZZLE}").correct)
    """
    assert fresh(code, tmp_path).split() == ["True"]


@pytest.mark.parametrize("lines", [2000, 4000])
def test_the_command_compiles_nothing_for_a_small_file(tmp_path, lines):
    line = f'{{"completion": "<answer>{SOLUTION}</answer>", "puzzle": "{PUZZLE}"}}\n'
    (tmp_path / "samples.jsonl").write_text(line * lines)
    code = """
        from verifiers.__main__ import main
        assert main(["sudoku", "samples.jsonl", "--output", "verdicts.jsonl"]) == 0
        print("numba" in sys.modules)
    """
    assert fresh(code, tmp_path, "numpy numba llvmlite").split() == [str(lines > 2500)]
    assert (tmp_path / "verdicts.jsonl").read_text().count('"correct": true') == lines


def test_one_string_is_judged_at_once_in_a_fresh_interpreter(tmp_path):
    code = f"""
        import time
        import verifiers
        assert verifiers.verify("sudoku", "<answer>{SOLUTION}</answer>", puzzle="{PUZZLE}").correct
        print(time.process_time(), any(name in sys.modules for name in ("numba", "numpy", "importlib.metadata")))
    """
    seconds, heavy = fresh(code, tmp_path, "numpy numba llvmlite").split()
    assert float(seconds) < 0.3
    assert heavy == "False"

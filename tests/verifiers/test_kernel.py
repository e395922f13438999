"""The compiled path answers as the plain one does: in threads, with and without a disk cache or numba."""

import ast
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import verifiers
from verifiers import _batch, _compile, sudoku, verify, verify_batch

PUZZLE, SOLUTION = "4320004330100004", "4321124334122134"
NINE = "530070000600195000098000060800060003400803001700020006060000280000419005000080079"
NINE_SOLVED = "534678912672195348198342567859761423426853791713924856961537284287419635345286179"

_PIECES = st.sampled_from(
    [
        *(
            "<answer>",
            "</answer>",
            "\\boxed",
            "\\boxed{",
            "{",
            "}",
            "\\",
            "####",
            "<|eot_id|>",
            "<|endoftext|>",
            "<",
        ),
        *(
            SOLUTION,
            NINE_SOLVED,
            "4321\n1243\n3412\n2134",
            "1",
            "12 ",
            ".",
            " or ",
            "\\text{ or }",
            "|",
            "\n",
            "\x00",
        ),
        *(
            "\ud800",
            "\udfff",
            "\u0664",
            "\u00a0",
            "\u200b",
            "\u2500",
            "\U0001d7ce",
            "é",
            "\\begin{array}{cc}",
            "\\hline",
        ),
        *("\\end{array}", "\\frac", "&", "\\\\", "~", "0", " " * 70, "x" * 70),
    ]
)
_TEXTS = st.lists(_PIECES | st.characters(codec=None) | st.text(max_size=5), max_size=12).map("".join)
_COMPLETIONS = _TEXTS | _TEXTS.map(lambda text: f"<answer>{text}</answer>")
_SIXTEEN = " ".join(["0"] * 256)


def by_kernel(texts: list[str], puzzles: list[str], mode: str) -> verifiers.Verdicts:
    n = len(texts)
    columns = np.empty(n, np.int8), np.empty(n, np.int8), np.empty(n), np.empty((n, 2), np.int64)
    sudoku._run(sudoku._kernel(), texts, puzzles, mode == "lenient", columns)
    reason, tier, score, spans = columns
    return verifiers.Verdicts(reason == 0, score, reason, tier, spans, texts)


@settings(max_examples=300, deadline=None)
@given(st.lists(_COMPLETIONS, min_size=1, max_size=8), st.sampled_from([PUZZLE, NINE, _SIXTEEN, "0"]))
def test_kernel_and_plain_path_agree(texts, puzzle):
    for mode in ("lenient", "strict"):
        plain = [verify("sudoku", text, mode=mode, puzzle=puzzle) for text in texts]
        assert list(by_kernel(texts, [puzzle] * len(texts), mode)) == plain
        assert all(
            0 <= verdict.score <= 1 and verdict.correct is (verdict.reason == "ok") for verdict in plain
        )


@settings(max_examples=200, deadline=None)
@given(st.text("0123456789. ,|\n", max_size=300) | st.text(max_size=20))
def test_kernel_and_plain_path_refuse_the_same_puzzles(puzzle):
    messages = []
    for judge in (verify_batch, lambda task, texts, puzzle: by_kernel(texts, puzzle, "lenient")):
        try:
            judge("sudoku", ["<answer>1</answer>"], puzzle=[puzzle])
            messages.append("")
        except verifiers.VerifierError as error:
            messages.append(str(error))
    assert messages[0] == messages[1]


def test_slices_in_threads_give_the_same_in_order(monkeypatch):
    texts = [f"<answer>{SOLUTION if i % 3 else SOLUTION[::-1]}</answer>" * (i % 5) for i in range(700)]
    texts[::50] = ["\u0664" * i for i in range(14)]
    puzzles = [PUZZLE] * len(texts)
    whole = list(verify_batch("sudoku", texts, puzzle=puzzles))
    monkeypatch.setattr(_batch, "SLICE_CHARACTERS", 500)
    monkeypatch.setattr(_batch, "_cpus", lambda: 4)
    assert len(list(_batch.packed_slices(texts))) > 30
    assert list(verify_batch("sudoku", texts, puzzle=puzzles)) == whole
    assert {verdict.reason.value for verdict in whole} == {"ok", "rule_broken", "no_answer"}
    puzzles[650] = "9" * 16
    with pytest.raises(verifiers.InvalidReferenceError, match=r"puzzle\[650\]"):
        verify_batch("sudoku", texts, puzzle=puzzles)


def test_compiles_where_no_cache_folder_can_be_written(monkeypatch):
    from numba.core import caching

    def make(mark):
        def add(value):
            return value + mark

        return add

    monkeypatch.setattr(caching.CodeLibraryCacheImpl, "_locator_classes", [], raising=False)
    monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
    assert _compile.compile_rows(make, "int64(int64)", (), 41)(1) == 42


def test_the_cache_key_follows_every_source_file(tmp_path, monkeypatch):
    before = _compile.stamp(sudoku, _batch)
    copy = tmp_path / "copy.py"
    copy.write_text(Path(_batch.__file__).read_text() + "\n")
    monkeypatch.setattr(_batch, "__file__", str(copy))
    assert _compile.stamp(sudoku, _batch) != before


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
def test_the_command_compiles_nothing_for_a_file_that_is_judged_before_that_would_be_done(tmp_path, lines):
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


# What one file may import and no other may.
_ALGEBRA = frozenset({"sympy", "math_verify", "latex2sympy2_extended"})
_ITS_OWN = {
    "__main__.py": {"pyarrow", "rich"},
    "_cli_pool.py": {"subprocess"},
    "_workers.py": {"subprocess"},
    "_worker_child.py": {"ctypes"},
    "cas_worker.py": _ALGEBRA,
    "sympy_compare.py": _ALGEBRA,
    "sympy_reader.py": _ALGEBRA,
    "intervals.py": {"flint"},
}


def test_the_package_runs_no_text_and_imports_nothing_heavy():
    files = sorted(Path(verifiers.__file__).parent.rglob("*.py"))
    assert len(files) > 5
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "compile", "__import__"}, file
                continue
            else:
                continue
            tops = {name.partition(".")[0] for name in names} - _ITS_OWN.get(file.name, set())
            assert not tops & {"re", "pickle", "marshal", "shelve", "ctypes", "subprocess"}, (file, tops)
            assert tops <= {*sys.stdlib_module_names, "verifiers", "numpy", "numba"}, (file, tops)

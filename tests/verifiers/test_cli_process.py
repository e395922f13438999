"""`python -m verifiers` as a process: workers, memory, terminals, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tests.common.command_cases import RIGHT, SOLUTION, call, environment, outside, sample, write
from verifiers import _cli_judge, _cli_pool, _cli_read


@pytest.fixture
def run(capfd):
    return partial(call, capfd)


@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_kept_over_blocks_and_workers(run, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(_cli_read, "BLOCK_BYTES", 2000)
    completions = [RIGHT if i % 3 else f"{i} <answer>{i}</answer>" for i in range(200)]
    path = write(tmp_path / "a.jsonl", *[sample(text) for text in completions], "broken")
    status, rows, said = run("sudoku", path, "--workers", workers)
    assert status == 0
    assert [row["line"] for row in rows] == list(range(1, 202))
    assert [row["extracted"] for row in rows] == [SOLUTION if i % 3 else str(i) for i in range(200)] + [None]
    assert "line 201 is not valid JSON" in said and "200 judged, 133 right" in said


def test_a_worker_that_dies_costs_nothing(run, tmp_path, monkeypatch):
    judge, killed = _cli_pool._Child.judge, []

    def kill_once(self, block):
        if not killed:
            killed.append(block.first)
            self._process.kill()
        return judge(self, block)

    monkeypatch.setattr(_cli_read, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(_cli_pool._Child, "judge", kill_once)
    status, rows, _ = run("sudoku", write(tmp_path / "a.jsonl", *[sample()] * 60), "--workers", 2)
    assert status == 0 and len(killed) == 1
    assert [(row["line"], row["correct"]) for row in rows] == [(line, True) for line in range(1, 61)]


def test_a_block_that_kills_every_worker_costs_that_block_only(run, tmp_path, monkeypatch):
    judge = _cli_pool._Child.judge

    def kill(self, block):
        if block.first == 1:
            self._process.kill()
        return judge(self, block)

    monkeypatch.setattr(_cli_read, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(_cli_pool._Child, "judge", kill)
    status, rows, said = run("sudoku", write(tmp_path / "a.jsonl", *[sample()] * 60), "--workers", 2)
    assert status == 0
    correct = [row["correct"] for row in rows]
    lost = correct.count(None)
    assert 0 < lost < 30 and correct == [None] * lost + [True] * (60 - lost)
    assert f"line {lost} was not judged: its worker process died twice" in said


def test_only_a_few_blocks_are_under_way():
    given = []

    def blocks():
        for number in range(1, 41):
            given.append(number)
            yield _cli_read.Block("", number, sample().encode())

    job = _cli_judge.Job("sudoku", "lenient", "completion", {"puzzle": "puzzle"})
    with _cli_pool.Pool(job, 2) as pool:
        for taken, judged in enumerate(pool.map(blocks()), 1):
            assert judged.marks == "1" and len(given) < taken + 2 * 2 + 1
    assert given == list(range(1, 41))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak memory of a process")
def test_memory_does_not_grow_with_the_file(tmp_path):
    code = (
        "import sys\nfrom verifiers.__main__ import main\nassert main(sys.argv[1:]) == 0\n"
        "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    peaks = []
    for count in (4000, 40_000):
        path = write(tmp_path / "a.jsonl", *[sample("x" * 600 + RIGHT)] * count)
        line = [sys.executable, "-c", code, "sudoku", path, "--output", str(tmp_path / "v.jsonl")]
        done = subprocess.run(line, capture_output=True, env=environment(), timeout=240, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.2 * peaks[0]


def test_in_a_fresh_interpreter(tmp_path):
    text = (sample() + "\n").encode()
    done = outside("sudoku", "-", stdin=text * 3)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3 and b"3 judged" in done.stderr
    assert outside("sudoku", tmp_path / "none.jsonl").returncode == 2
    assert outside("nothing", "-").returncode == 2


def test_a_reader_that_stops_early_is_no_mistake(tmp_path):
    path = write(tmp_path / "a.jsonl", *[sample()] * 20_000)
    line = [sys.executable, "-m", "verifiers", "sudoku", path]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert json.loads(process.stdout.readline())["correct"]
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0 and b"Traceback" not in said and b"Exception" not in said


def test_what_is_not_needed_is_not_imported(tmp_path):
    code = (
        "import sys\nfrom verifiers.__main__ import main\nmain(sys.argv[1:])\n"
        "print(sorted({'rich', 'pyarrow', 'sympy'} & set(sys.modules)))"
    )
    line = [sys.executable, "-c", code, "sudoku", write(tmp_path / "a.jsonl", sample()), "--json"]
    done = subprocess.run(line, capture_output=True, env=environment(), timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == b"[]"


def test_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys, time\nstart = time.process_time()\nfrom verifiers.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'numpy', 'numba', 'rich', 'pyarrow', 'sympy'} & set(sys.modules)\n"
        "print('\\n', time.process_time(), sorted(heavy))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60
    )
    assert "--completion-field" in done.stdout and "sudoku" in done.stdout
    seconds, heavy = done.stdout.split("\n")[-2].split(maxsplit=1)
    assert float(seconds) < 0.5 and heavy == "[]"


def test_progress_shows_on_a_terminal_only(tmp_path):
    pty = pytest.importorskip("pty")
    path = write(tmp_path / "a.jsonl", *[sample()] * 2000, "x")
    reader, writer = pty.openpty()
    env = {**environment(), "TERM": "xterm", "COLUMNS": "100"}
    line = [sys.executable, "-m", "verifiers", "sudoku", path, "--output", str(tmp_path / "v.jsonl")]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=writer, env=env) as process:
        os.close(writer)
        seen = b""
        try:
            while piece := os.read(reader, 65536):
                seen += piece
        except OSError:  # the other end is closed
            pass
    assert process.returncode == 0
    assert b"lines/s" in seen and b"right 100.0%" in seen and b"\x1b[" in seen
    assert b"line 2001 is not valid JSON" in seen
    assert b"\x1b[" not in outside("sudoku", path).stderr


@pytest.mark.parametrize("way", ["kill", "interrupt"])
def test_no_worker_outlives_the_command(way):
    line = [sys.executable, "-m", "verifiers", "sudoku", "-", "--workers", "2"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=environment(), start_new_session=True, **pipes) as process:
        table = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not table.exists():
            process.kill()
            pytest.skip("needs /proc")
        workers = wait_for(lambda: len(found := table.read_text().split()) == 2 and found)
        if way == "kill":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process in the foreground
        assert process.wait(60) == (-signal.SIGKILL if way == "kill" else 130)
        assert process.stderr.read() == b""
    wait_for(lambda: not any(Path(f"/proc/{worker}/cmdline").exists() for worker in workers))


def wait_for(condition):
    """What `condition` returns as soon as it is true; fails after a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")

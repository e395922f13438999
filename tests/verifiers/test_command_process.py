"""`python -m verifiers` as a process: workers, memory, terminals, closed streams, and how it ends."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.common import speed
from tests.common.command_cases import (
    RIGHT,
    SOLUTION,
    call,
    environment,
    install_acting_task,
    outside,
    python,
    sample,
    write,
)
from tests.common.worker_cases import SLOW, ends
from verifiers import files
from verifiers.command import judge

MAIN = "import sys, time\nfrom verifiers.__main__ import main\n"
HEAVY = (
    "print(sorted({'numba', 'rich', 'pyarrow', 'sympy', 'flint'} & set(sys.modules)), time.process_time())"
)


@pytest.mark.parametrize("workers", [1, 3])
def test_order_is_kept_over_blocks_and_workers(capfd, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(files, "BLOCK_BYTES", 2000)
    completions = [RIGHT if i % 3 else f"{i} <answer>{i}</answer>" for i in range(200)]
    path = write(tmp_path / "a.jsonl", *[sample(text) for text in completions], "broken")
    status, rows, said = call(capfd, "sudoku", path, "--workers", workers)
    assert status == 0
    assert [row["line"] for row in rows] == list(range(1, 202))
    assert [row["extracted"] for row in rows] == [SOLUTION if i % 3 else str(i) for i in range(200)] + [None]
    assert "line 201 is not valid JSON" in said and "200 judged, 133 right" in said


@pytest.mark.parametrize(("action", "verdicts"), [("die once", [True, True]), ("die", [None, True])])
def test_a_worker_that_dies_costs_its_block_at_most(tmp_path, action, verdicts):
    install_acting_task(tmp_path)
    padding = "x" * files.BLOCK_BYTES  # so that each line is a block of its own
    acts = [{"completion": action, "mark": str(tmp_path / "mark"), "padding": padding}]
    acts += [{"completion": "x", "mark": ""}]
    path = write(tmp_path / "a.jsonl", *map(json.dumps, acts))
    done = outside("acting", path, "--workers", 2, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["correct"] for line in done.stdout.splitlines()] == verdicts
    assert (b"line 1 was not judged: its worker process failed on this part" in done.stderr) is (
        None in verdicts
    )


def test_only_a_few_blocks_are_under_way():
    given = []

    def blocks():
        for number in range(1, 41):
            given.append(number)
            yield files.Block("", [(number, sample().encode())])

    job = judge.Job("sudoku", "lenient", {"completion": ("completion",), "puzzle": ("puzzle",)}, {})
    for taken, judged in enumerate(judge.judge_blocks(job, blocks(), 2), 1):
        assert judged.counts["lines"]["correct"] == 1 and len(given) < taken + 2 * 2 + 1
    assert given == list(range(1, 41))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs the peak memory of a process")
@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path):
    peak = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    peaks = []
    for count in (40_000, 160_000):  # both by the kernel, which takes 100 MB; the texts take 27 and 108 MB
        path = write(tmp_path / "a.jsonl", *[sample("x" * 600 + RIGHT)] * count)
        code = MAIN + "assert main(sys.argv[1:]) == 0\n" + peak
        done = python("-c", code, "sudoku", path, "--output", tmp_path / "v.jsonl", check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] <= 1.2 * peaks[0]


@pytest.mark.parametrize("workers", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_a_reader_that_stops_early_is_no_mistake(tmp_path, workers):
    path = write(tmp_path / "a.jsonl", *[sample()] * 5_000)  # whose verdicts fill a pipe several times
    line = [sys.executable, "-m", "verifiers", "sudoku", path, "--workers", workers]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as process:
        assert json.loads(process.stdout.readline())["correct"]
        process.stdout.close()
        said = process.stderr.read()
    assert process.returncode == 0 and b"Traceback" not in said and b"Exception" not in said


def test_what_is_not_needed_is_not_imported_and_help_is_quick(tmp_path):
    path = write(tmp_path / "a.jsonl", sample())
    done = python("-c", f"{MAIN}main(sys.argv[1:])\n{HEAVY}", "sudoku", path, "--json", check=True, text=True)
    assert done.stdout.splitlines()[-1].startswith("[] ")
    code = f"{MAIN}try:\n    main(['--help'])\nexcept SystemExit:\n    {HEAVY}\n    print('numpy' in sys.modules)"
    done = python("-c", code, check=True, text=True)
    assert "--completion-field" in done.stdout and "sudoku" in done.stdout
    *_, heavy, numpy = done.stdout.splitlines()
    assert heavy.startswith("[] ") and float(heavy.split()[1]) < speed.here(0.5) and numpy == "False"


@pytest.mark.parametrize("way", ["kill", "interrupt"])
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
def test_no_worker_outlives_the_command(tmp_path, way):
    install_acting_task(tmp_path)
    line = [sys.executable, "-m", "verifiers", "acting", "-", "--workers", "2"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, env=environment(tmp_path), start_new_session=True, **pipes) as process:
        padding = " " * files.BLOCK_BYTES
        act = json.dumps({"completion": "spin", "mark": "", "padding": padding}).encode() + b"\n"
        feeder = threading.Thread(target=feed, args=(process.stdin, act * 3))
        feeder.start()
        workers = wait_for(lambda: len(found := children(process.pid)) == 2 and found)
        time.sleep(0.5)  # until they are at it
        if way == "kill":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process in the foreground
        assert all(ends(pid) for pid in workers), "what they are at would never end"
        assert process.wait(60) == (-signal.SIGKILL if way == "kill" else 130)
        said = b"" if way == "kill" else b"\nStopped: 0 completions judged.\n"
        assert process.stderr.read() == said
        feeder.join(SLOW)


def feed(stream, data):
    try:
        stream.write(data)
        stream.flush()
    except OSError:  # the command has ended
        pass


def children(pid):
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for table in tasks for child in table.read_text().split()]


def wait_for(condition):
    """What `condition` returns as soon as it is true; fails after a minute."""
    end = time.monotonic() + SLOW
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.05)
    raise AssertionError("it did not happen within a minute")

"""Runs of four and two processes, as a launcher starts them: killed, resumed by fewer, one of them failing."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spg_trainer.models import load_model
from spg_trainer.settings.recorded import to_yaml
from tests.common import divided_runs, sequence_runs
from tests.common.family_cases import untrained
from tests.common.process_cases import run_processes
from tests.common.small_engine import SmallEngine, by_own_sampler, served
from tests.common.trainer_cases import (
    LORA,
    child_environment,
    rows,
    saved_steps,
    small_config,
    weights,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
SETTINGS = {"dtype": "float64", "env_args": {"dull": "0,3,5"}, "num_iterations": 2, "save_steps": 1}
"""In most steps of four processes one has no signal."""


@pytest.fixture
def launch(tmp_path):
    """Trains with some settings in so many processes, and goes on where they were before."""
    file = tmp_path / "settings.yaml"

    def run(folder, config, count, *flags, module="spg_trainer"):
        file.write_text(to_yaml(config))
        return run_processes(
            module,
            *("--config", str(file), "--output-dir", str(folder), "--resume", "auto", *flags),
            count=count,
        )

    return run


def assert_same_run(folder, expected, tolerance=1e-10, of_metrics=1e-8):
    """Equal completions; metrics and weights equal up to the order of sums."""
    for found, row in zip(rows(folder / "metrics.jsonl"), rows(expected / "metrics.jsonl"), strict=True):
        assert found == pytest.approx(row, rel=of_metrics, abs=of_metrics / 10)
    for place in sorted((expected / "samples").iterdir()):
        found = [row["completion"] for row in rows(folder / "samples" / place.name)]
        assert found == [row["completion"] for row in rows(place)], place.name
    found, saved = weights(folder / "model"), weights(expected / "model")
    assert list(found) == list(saved)
    for name, value in saved.items():
        # A bias of a router's choice is 0.
        assert float((found[name] - value).norm()) <= tolerance * float(value.norm()), name


@pytest.mark.parametrize(
    "changes",
    [{}, *({"shard": shard, **more} for shard in ("phase", "layer") for more in ({}, LORA))],
    ids=["whole", *(f"{what}, by {shard}" for shard in ("phase", "layer") for what in ("all", "adapters"))],
)
def test_ten_steps_of_four_processes_are_those_of_one(tmp_path, launch, changes):
    config = small_config(None, **{**SETTINGS, **changes, "max_steps": 10})
    launch(tmp_path / "four", config, 4)
    launch(tmp_path / "one", config, 1, "--shard", "none")
    assert_same_run(tmp_path / "four", tmp_path / "one")


@pytest.fixture(scope="module")
def of_one_process(tmp_path_factory):
    """The folder of the runs that one process has made."""
    folder = tmp_path_factory.mktemp("one")
    divided_runs.make_all(folder, "none")
    return folder


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("count", [2, 4])
def test_runs_of_eight_algorithms_by_layer_are_those_of_one(tmp_path, of_one_process, count):
    """On three tasks, one of them with turns, with all weights (and a frozen copy as reference) and with adapters."""
    run_processes("tests.common.divided_runs", str(tmp_path), count=count, timeout=3000)
    for case in divided_runs.CASES:
        found, expected = (divided_runs.place(folder, *case) for folder in (tmp_path, of_one_process))
        assert all(row["grad_norm"] > 1e-6 for row in rows(expected / "metrics.jsonl")), case
        assert_same_run(found, expected, of_metrics=1e-10)


@pytest.fixture(scope="module")
def whole_columns(tmp_path_factory):
    """The folder of the runs that one process has made, which computes all columns."""
    folder = tmp_path_factory.mktemp("whole columns")
    sequence_runs.make_all(folder, 1)
    return folder


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("count", "size"), [(2, 2), (4, 2), (4, 4)])
def test_runs_whose_columns_processes_share_are_those_of_one(tmp_path, whole_columns, count, size):
    """Three algorithms on three families, with all weights and adapters, whole and divided; and every family."""
    run_processes("tests.common.sequence_runs", str(tmp_path), str(size), count=count, timeout=3000)
    for case in sequence_runs.CASES:
        found, expected = (sequence_runs.place(folder, *case) for folder in (tmp_path, whole_columns))
        assert all(row["grad_norm"] > 1e-6 for row in rows(expected / "metrics.jsonl")), case
        # The router of a mixture computes in float32.
        assert_same_run(found, expected, tolerance=1e-7, of_metrics=1e-8)


@pytest.mark.parametrize("changes", [{}, LORA], ids=["all weights", "adapters"])
def test_a_run_whose_columns_were_shared_goes_on_with_other_processes(tmp_path, launch, changes):
    """Four in two groups, two in one, with divided weights, one alone, four that share nothing."""
    folder, config = tmp_path / "run", small_config(None, **{**SETTINGS, **changes})
    shared, layer = ("--sequence-parallel", "2"), ("--shard", "layer")
    parts = [(4, shared), (2, shared), (2, (*shared, *layer)), (1, ()), (4, ()), (4, (*shared, *layer))]
    for steps, (count, flags) in enumerate(parts, 1):
        said = launch(folder, config, count, *flags, "--max-steps", str(steps))
        assert saved_steps(folder)[-1] == steps
        assert steps == 1 or f"from step {steps - 1}" in said[0]
    launch(tmp_path / "one", config, 1, "--max-steps", "6")
    assert_same_run(folder, tmp_path / "one")


@pytest.mark.parametrize("changes", [{}, LORA], ids=["all weights", "adapters"])
def test_a_run_goes_on_with_half_the_processes_and_again(tmp_path, launch, changes):
    """Four sharded, two sharded alike and otherwise, two whole, one alone, and two sharded again."""
    folder, config = tmp_path / "run", small_config(None, **{**SETTINGS, **changes})
    phase, layer = ("--shard", "phase"), ("--shard", "layer")
    parts = [(4, layer), (2, layer), (2, phase), (2, ()), (1, ()), (2, layer)]
    for steps, (count, flags) in enumerate(parts, 1):
        said = launch(folder, config, count, *flags, "--max-steps", str(steps))
        assert saved_steps(folder)[-1] == steps
        assert steps == 1 or f"from step {steps - 1}" in said[0]
    launch(tmp_path / "one", config, 1, "--max-steps", "6")
    assert_same_run(folder, tmp_path / "one")


def children(process):
    """The processes that a process has started."""
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(number) for number in listed]


@pytest.mark.parametrize("by", ["phase", "layer"])
def test_a_process_killed_in_a_step_ends_all_and_the_run_goes_on(tmp_path, launch, by):
    config, folder, marks = small_config(None, **SETTINGS, max_steps=6), tmp_path / "run", tmp_path / "marks"
    marks.mkdir()
    file = tmp_path / "killed.yaml"
    file.write_text(to_yaml(config))
    module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "spg_trainer"]
    flags = ["--config", str(file), "--output-dir", str(folder), "--resume", "auto", "--shard", by]
    launched = subprocess.Popen(
        [sys.executable, *module, *flags],
        env=child_environment(LETTERS_MARKS=str(marks)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    started, scored = time.monotonic(), marks / "score"
    while len(saved_steps(folder)) < 2 or time.time() - scored.stat().st_mtime > 0.05:
        assert launched.poll() is None and time.monotonic() - started < 200
        time.sleep(0.002)
    os.kill(children(launched.pid)[1], signal.SIGKILL)
    said = launched.communicate(timeout=200)[0]
    assert launched.returncode != 0 and not (folder / "summary.json").exists(), said
    assert len(rows(folder / "metrics.jsonl")) < 6
    launch(folder, config, 2, "--shard", by)
    launch(tmp_path / "one", config, 1)
    assert_same_run(folder, tmp_path / "one")


def launched(folder, config, tmp_path, *flags):
    """torchrun with a run of some settings, in a session of its own."""
    file = tmp_path / "restarted.yaml"
    file.write_text(to_yaml(config))
    module = ["-m", "torch.distributed.run", *flags, "--max-restarts", "3", "-m", "spg_trainer"]
    ours = ["--config", str(file), "--output-dir", str(folder), "--resume", "auto"]
    return subprocess.Popen(
        [sys.executable, *module, *ours],
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def wait_for_step(folder, launchers, number):
    """Until a run has saved a step."""
    started = time.monotonic()
    while len(saved_steps(folder)) < number:
        assert all(launcher.poll() is None for launcher in launchers) and time.monotonic() - started < 200
        time.sleep(0.01)


@pytest.mark.parametrize("by", ["phase", "layer"])
def test_a_process_that_is_killed_is_started_again(tmp_path, launch, by):
    """By the launcher; the run goes on from its last checkpoint, as one that nothing disturbed."""
    config, folder = small_config(None, **SETTINGS, max_steps=8, shard=by, keep=9), tmp_path / "run"
    launcher = launched(folder, config, tmp_path, "--standalone", "--nproc-per-node", "2")
    wait_for_step(folder, [launcher], 2)
    os.kill(children(launcher.pid)[1], signal.SIGKILL)
    said = launcher.communicate(timeout=250)[0]
    assert launcher.returncode == 0 and "from step" in said, said
    launch(tmp_path / "one", config, 1, "--shard", "none")
    assert_same_run(folder, tmp_path / "one")


def test_a_run_goes_on_with_the_nodes_that_are_left(tmp_path, launch):
    """Two nodes of one process each, of which the second is lost for good."""
    config, folder = small_config(None, **SETTINGS, max_steps=12, keep=20), tmp_path / "run"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = ["--nnodes", "1:2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "one"]
    flags += ["--rdzv-endpoint", f"localhost:{port}", "--rdzv-conf", "last_call_timeout=20,timeout=120"]
    nodes = [launched(folder, config, tmp_path, *flags) for _ in range(2)]
    wait_for_step(folder, nodes, 2)
    hosts = [node for node in nodes if is_listening(node.pid, port)]
    lost = next(node for node in nodes if node not in hosts)
    for process in (*children(lost.pid), lost.pid):
        os.kill(process, signal.SIGKILL)
    (left,) = hosts
    said = left.communicate(timeout=280)[0]
    lost.wait()
    assert left.returncode == 0 and "from step" in said and "1 process on" in said, said
    launch(tmp_path / "one", config, 1)
    assert_same_run(folder, tmp_path / "one")


def is_listening(process, port):
    """Whether a process has the socket on which others find one another."""
    inodes = {
        line.split()[9]
        for name in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
        if line.split()[1].endswith(f":{port:04X}") and line.split()[3] == "0A"
    }
    held = {os.readlink(file) for file in Path(f"/proc/{process}/fd").iterdir() if file.is_symlink()}
    return any(f"socket:[{inode}]" in held for inode in inodes)


@pytest.mark.parametrize("by", ["none", "phase", "layer"])
def test_a_process_that_hangs_is_named_by_the_others(tmp_path, launch, by):
    config = small_config(None, **SETTINGS, timeout_minutes=0.15, shard=by)
    with pytest.raises(RuntimeError) as failed:
        launch(tmp_path / "run", config, 2, module="tests.common.one_hangs")
    said = str(failed.value)
    assert "Process 0 has waited for 0.15 minutes in the updates of step 1" in said, said
    assert "process 1 was in the updates of step 1" in said and "--timeout-minutes" in said


@pytest.mark.parametrize("by", ["phase", "layer"])
def test_an_error_in_one_process_ends_all_with_one_message(tmp_path, launch, by):
    config = small_config(None, **SETTINGS)
    with pytest.raises(RuntimeError) as failed:
        launch(tmp_path / "run", config, 2, "--shard", by, module="tests.common.one_fails")
    said = str(failed.value)
    assert said.count("Process 1 failed with RuntimeError: out of memory") == 1, said
    assert saved_steps(tmp_path / "run") == []


@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("changes", [{}, LORA], ids=["all weights", "adapters"])
@pytest.mark.parametrize(
    "together", [{"shard": "layer"}, {"sequence_parallel": 2}], ids=["weights", "columns"]
)
def test_an_error_inside_a_layer_ends_all_at_once(tmp_path, launch, monkeypatch, where, changes, together):
    """The others wait there for weights or heads, and cannot be told: the launcher ends them."""
    monkeypatch.setenv("SPG_TEST_FAILS_IN", where)
    config, started = small_config(None, **{**SETTINGS, **changes, **together}), time.monotonic()
    with pytest.raises(RuntimeError) as failed:
        launch(tmp_path / "run", config, 2, module="tests.common.one_fails_inside")
    assert time.monotonic() - started < 120
    said = str(failed.value)
    assert "out of memory" in said and "Process 0" not in said, said
    assert saved_steps(tmp_path / "run") == []


@pytest.mark.parametrize("algorithm", ["spg", "stabledrl"])
def test_groups_that_do_not_go_up_in_processes_are_shared_all_the_same(tmp_path, launch, algorithm):
    """Of five groups, four completions each, two processes have ten each, or three and two whole groups."""
    settings = {**SETTINGS, "prompts_per_step": 5, "num_generations": 4, "max_steps": 3, "sample_steps": 1}
    arguments = (
        {} if algorithm == "spg" else {"algorithm": algorithm, "algorithm_args": {}, "num_iterations": 1}
    )
    config = small_config(None, **{**settings, **arguments})
    launch(tmp_path / "two", config, 2)
    launch(tmp_path / "one", config, 1)
    assert_same_run(tmp_path / "two", tmp_path / "one")


def test_processes_that_share_an_engine_make_the_run_of_one(tmp_path, launch):
    """Each step sends the weights once, and each process its own prompts."""
    calls = {}
    for count in (1, 2):
        policy = load_model(str(untrained("sdar")), device="cpu", dtype="float64")
        engine = SmallEngine(policy, by_own_sampler)
        with served(engine) as url:
            settings = {**SETTINGS, "model": untrained("sdar"), "rollout_engine": f"sglang:{url}"}
            launch(tmp_path / str(count), small_config(None, **settings, eval_steps=0), count)
        calls[count] = engine.calls
        assert len(set(engine.sums)) == 3
    sent = "update_weights_from_disk"
    assert calls == {1: [sent, "generate"] * 3, 2: [sent, "generate", "generate"] * 3}
    assert_same_run(tmp_path / "2", tmp_path / "1")


def test_settings_that_no_process_can_use_are_told_once(tmp_path, launch):
    config = small_config(None, prompts_per_step=1, algorithm="stabledrl", algorithm_args={})
    with pytest.raises(RuntimeError) as failed:
        launch(tmp_path / "run", config, 2)
    assert str(failed.value).count("leaves some of 2 processes without a completion") == 1

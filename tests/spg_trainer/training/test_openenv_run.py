"""A run on `openenv:` is, step by step, the run on the environment itself; also resumed, and in two processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spg_trainer import train
from spg_trainer.settings.recorded import to_yaml
from tests.common.serving import Server, served
from tests.common.trainer_cases import child_environment, rows, same_weights, saved_steps
from tests.common.turn_cases import TALK, talk_config


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with served(TALK, package="envs") as one:
        yield one


def assert_same_run(folder: Path, expected: Path, exact: bool = True) -> None:
    """Metrics, completions and rewards; only the name of the task and its references differ."""
    for found, row in zip(rows(folder / "metrics.jsonl"), rows(expected / "metrics.jsonl"), strict=True):
        assert found == (row if exact else pytest.approx(row, rel=1e-8, abs=1e-9))
    names = ["completion", "rewards", "reward", "correct", "reason", "extracted", "index"]
    names += ["advantage", "turns"] * exact  # of two processes, equal up to the order of sums
    for place in sorted((expected / "samples").iterdir()):
        found, wanted = (
            [[row.get(name) for name in names] for row in rows(path)]
            for path in (folder / "samples" / place.name, place)
        )
        assert found == wanted, place.name
    assert not exact or same_weights(folder / "model", expected / "model")


@pytest.mark.slow
def test_a_run_on_a_server_is_that_on_its_environment(server, tmp_path):
    """Episodes of one, two and three turns; the server's name and version are in the run."""
    there = talk_config(tmp_path / "there", env=f"openenv:{server.address}", max_steps=2)
    train(there, quiet=True)
    train(talk_config(tmp_path / "here", max_steps=2), quiet=True)
    assert_same_run(tmp_path / "there", tmp_path / "here")
    turns = {len(row.get("turns", [])) for row in rows(tmp_path / "there" / "samples" / "step-000002.jsonl")}
    assert len(turns) > 1
    assert (
        f'"{server.address}": "test/Talk-v0 talk, version '
        in (tmp_path / "there" / "environment.json").read_text()
    )


def command(folder: Path, file: Path, processes: int) -> list[str]:
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "spg_trainer"]
    module = launcher if processes > 1 else ["-m", "spg_trainer"]
    return [sys.executable, *module, "--config", str(file), "--output-dir", str(folder), "--resume", "auto"]


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("processes", [1, 2])
def test_twenty_steps_that_are_killed_and_resumed_are_those_of_the_environment(server, tmp_path, processes):
    folders = {}
    for name, env in (("here", TALK), ("there", f"openenv:{server.address}")):
        file, folders[name] = tmp_path / f"{name}.yaml", tmp_path / name
        file.write_text(to_yaml(talk_config(None, env=env, max_steps=20, save_steps=1, dtype="float64")))
        words = command(folders[name], file, processes)
        if name == "there":
            with subprocess.Popen(
                words,
                env=child_environment(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            ) as victim:
                started = time.monotonic()
                while len(saved_steps(folders[name])) < 1 or max(saved_steps(folders[name])) < 8:
                    assert victim.poll() is None and time.monotonic() - started < 400
                    time.sleep(0.02)
                os.killpg(victim.pid, signal.SIGKILL)
            assert not (folders[name] / "summary.json").exists()
        done = subprocess.run(words, env=child_environment(), capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stdout + done.stderr
    assert len(rows(folders["there"] / "metrics.jsonl")) == 20
    assert_same_run(folders["there"], folders["here"], exact=processes == 1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_server_of_another_version_is_noticed(tmp_path):
    """A run goes on only with the server that it began with: here another environment answers at its address."""
    with served(TALK, package="envs") as server:
        address, port = server.address, server.port
        train(talk_config(tmp_path / "run", env=f"openenv:{address}", max_steps=2, save_steps=1), quiet=True)
    arguments = ["--env-args", "word=less"]
    with served(TALK, *arguments, "--port", str(port), package="envs"):
        file = tmp_path / "more.yaml"
        file.write_text(to_yaml(talk_config(None, env=f"openenv:{address}", max_steps=4, save_steps=1)))
        words = command(tmp_path / "run", file, 1)
        done = subprocess.run(words, env=child_environment(), capture_output=True, text=True, timeout=300)
        assert done.returncode != 0 and address in done.stdout + done.stderr, done.stdout + done.stderr

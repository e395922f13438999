"""--per-device-batch-size auto: as many masked copies at once as memory holds by estimate."""

from dataclasses import replace

import pytest
import torch
import yaml

from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError
from spg_trainer.estimate import batch
from spg_trainer.settings.fields import Config
from spg_trainer.settings.updates import BatchConfig
from spg_trainer.settings.values import overlay
from spg_trainer.training import dry_run, setup
from spg_trainer.training.loop import train
from spg_trainer.training.plan import plan_training
from tests.common.trainer_cases import rows, small_config

AUTO = Config(batch=BatchConfig(4, 3, per_device_batch_size="auto"))


@pytest.mark.parametrize(
    ("usable", "processes", "size"),
    [(0, 1, 1), (50, 1, 4), (59, 1, 4), (60, 1, 5), (10**9, 1, 24), (10**9, 5, 6)],
)
def test_auto_is_the_most_copies_that_fit_up_to_all_of_a_step(usable, processes, size) -> None:
    """A step takes 10 bytes and 10 for each copy; of 12 completions, 2 copies each, a process of five has at most 3."""
    asked = batch.with_fitting_batch(
        AUTO, build("spg"), lambda c: 10 + 10 * c.batch.per_device_batch_size, usable, processes
    )
    assert asked == replace(AUTO, batch=replace(AUTO.batch, per_device_batch_size=size))


def test_a_number_stays() -> None:
    config = replace(AUTO, batch=BatchConfig(per_device_batch_size=7))
    assert batch.with_fitting_batch(config, build("spg"), lambda c: 0.0, 1.0, 1) is config


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a whole number or auto"):
        overlay(Config(), {"batch": {"per_device_batch_size": "all"}}, "settings.yaml")


def test_a_gpu_has_what_is_free_and_what_the_process_has_reserved(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 20)
    assert batch.usable_here(torch.device("cuda"), 8) == pytest.approx(0.9 * 80)
    assert 2**28 < batch.usable_here(torch.device("cpu"), 1) < 2**44


def test_processes_of_a_machine_share_its_memory_and_a_container_has_its_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(batch, "CGROUP", tmp_path)
    free = {"/proc/meminfo MemAvailable:": 2**30, "/proc/self/status VmRSS:": 2**20}  # in KiB
    number_in = batch._number_in
    monkeypatch.setattr(
        batch, "_number_in", lambda file, name: free.get(f"{file} {name}") or number_in(file, name)
    )

    def usable(processes: int) -> float:
        """In GiB, of which this process has 1 already."""
        return batch.usable_here(torch.device("cpu"), processes) / 0.9 / 2**30

    assert [usable(1), usable(4)] == pytest.approx([1024 + 1, 256 + 1])
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # the other two are elsewhere
    assert usable(4) == pytest.approx(512 + 1)
    (tmp_path / "memory.current").write_text(f"{40 * 2**30}\n")
    for limit, stat, left in (
        ("max", "", 1024),
        (64 * 2**30, "", 24),
        (64 * 2**30, f"inactive_file {2**33}", 32),
    ):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        (tmp_path / "memory.stat").write_text(f"anon 5\n{stat}\n")
        assert usable(4) == pytest.approx(left / 2 + 1)


@pytest.mark.parametrize(
    ("usable", "size", "said"), [(0.0, 1, "1 masked copy"), (1e9, 32, "32 masked copies")]
)
def test_a_run_takes_the_number_that_its_dry_run_says_and_learns_the_same(
    tmp_path, monkeypatch, usable, size, said
) -> None:
    """A step has 16 completions in 2 masked copies each."""
    for module in (setup, dry_run):
        monkeypatch.setattr(module, "usable_here", lambda device, processes: usable)
    for name, asked in (("number", 8), ("auto", "auto")):
        config = small_config(tmp_path / name, dtype="float32", max_steps=1, per_device_batch_size=asked)
        shown = dry_run.show(plan_training(replace(config, dry_run=True)), 1)
        train(config)
    assert f"this machine holds {said} at once" in shown
    (timings,) = rows(tmp_path / "auto" / "timings.jsonl")
    assert timings["per_device_batch_size"] == size
    (found,), (expected,) = (rows(tmp_path / name / "metrics.jsonl") for name in ("auto", "number"))
    assert found.keys() == expected.keys()
    assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    recorded = yaml.safe_load((tmp_path / "auto" / "config.yaml").read_text())
    assert recorded["batch"]["per_device_batch_size"] == "auto"

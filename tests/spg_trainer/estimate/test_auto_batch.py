"""--per-device-batch-size auto: as many masked copies at once as memory holds by estimate."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
import yaml

from spg_trainer.algorithms import build
from spg_trainer.errors import ConfigError
from spg_trainer.estimate import fits
from spg_trainer.estimate.memory import Memory
from spg_trainer.models import new_policy
from spg_trainer.settings.configs import BatchConfig, Config
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.types import overlay
from spg_trainer.training import dry_run, setup
from spg_trainer.training.loop import train, train_step
from spg_trainer.training.plan import settle
from tests.common.pretend_cuda import pretend_cuda
from tests.common.trainer_cases import rows, small_config, start

AUTO = Config(batch=BatchConfig(4, 3, per_device_batch_size="auto"))


def taking(copies: int, rows: int | None) -> Memory:
    """10 bytes, and for each copy of an update 10 more, or for each completion of a rollout 3."""
    held, rows = {"weights": 10.0, "gradients": 0.0}, rows or 0
    return Memory(
        held, {"update": 10.0 * copies}, {"rollout": 3.0 * rows}, 0.0, copies, rows, weight_parts=1.0
    )


@pytest.mark.parametrize(
    ("usable", "processes", "copies", "rows"),
    [
        (0, 1, 1, 1),
        (50, 1, 4, 12),
        (39, 1, 2, 9),
        (60, 1, 5, 12),
        (10**9, 1, 24, 12),
        (10**9, 5, 6, 3),
    ],
)
def test_auto_is_the_most_that_fits_up_to_all_of_a_step(usable, processes, copies, rows) -> None:
    """Of 12 completions, 2 copies each, a process of five has at most 3."""
    found = fits.fitting_batch(AUTO, build("spg"), taking, usable, processes=processes)
    assert found == (copies, rows)


def test_a_cpu_and_divided_weights_take_few_copies_and_rows_by_the_rule() -> None:
    divided = replace(AUTO, model=ModelConfig(shard="phase"))
    for config, on_cuda in ((AUTO, False), (divided, True)):
        found = [
            fits.fitting_batch(config, build("spg"), taking, usable, on_cuda=on_cuda) for usable in (50, 1e9)
        ]
        assert found == [(4, None), (8, None)]


def test_a_number_stays() -> None:
    config = replace(AUTO, batch=BatchConfig(per_device_batch_size=7))
    found = fits.fitting_batch(config, build("spg"), taking, 1.0)
    assert found == (7, None) and fits.with_masked_copies(config, 7) == config


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a whole number, at least 1, or auto"):
        overlay(Config(), {"batch": {"per_device_batch_size": "all"}}, "settings.yaml")


def test_a_run_of_divided_weights_counts_a_part_of_them_for_each_process(monkeypatch) -> None:
    policy, counted = new_policy(hidden_size=16, layers=1, heads=2, ffn=24, device="cpu"), []

    def fitting_batch(config, algorithm, memory_of, usable, **more):
        counted.append(memory_of(2, None).held["weights"])
        return 2, None

    monkeypatch.setattr(setup, "fitting_batch", fitting_batch)
    for shard in ("none", "phase"):
        config = replace(AUTO, model=ModelConfig(shard=shard, device="cpu"))
        planned = SimpleNamespace(config=config, algorithm=build("spg"), before=None)
        assert setup.batch_of_device(planned, policy, num_processes=2) == (2, None)
    assert counted[1] == counted[0] / 2


def test_a_gpu_has_what_is_free_and_what_the_process_has_reserved(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (60, 100))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 20)
    assert fits.usable_here(torch.device("cuda"), 8) == pytest.approx(0.9 * 80)
    assert 2**28 < fits.usable_here(torch.device("cpu"), 1) < 2**44


def test_processes_of_a_machine_share_its_memory_and_a_container_has_its_limit(tmp_path, monkeypatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr(fits, "CGROUP", tmp_path)
    free = {"/proc/meminfo MemAvailable:": 2**30, "/proc/self/status VmRSS:": 2**20}  # in KiB
    number_in = fits._number_in
    monkeypatch.setattr(
        fits, "_number_in", lambda file, name: free.get(f"{file} {name}") or number_in(file, name)
    )

    def usable(processes: int) -> float:
        """In GiB, of which this process has 1 already."""
        return fits.usable_here(torch.device("cpu"), processes) / 0.9 / 2**30

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
    monkeypatch.setattr(fits, "_number_in", lambda file, name: 0.0)
    monkeypatch.setattr(fits, "CGROUP", tmp_path / "none")
    assert usable(4) == float("inf"), "a system without /proc does not say what is free"


@pytest.mark.parametrize(
    ("usable", "size", "said"),
    [(0.0, 1, "does not even hold 1 masked copy"), (1e9, 8, "holds 8 masked copies")],
)
def test_a_run_takes_the_number_that_its_dry_run_says_and_learns_the_same(
    tmp_path, monkeypatch, usable, size, said
) -> None:
    """A step has 16 completions in 2 masked copies each, of which a CPU takes 8 at once."""
    for module in (setup, dry_run):
        monkeypatch.setattr(module, "usable_here", lambda device, processes: usable)
    for name, asked in (("number", 6), ("auto", "auto")):
        config = small_config(tmp_path / name, dtype="float32", max_steps=1, per_device_batch_size=asked)
        shown = dry_run.show(settle(replace(config, dry_run=True)))
        train(config)
    assert f"this machine {said} of an update at once" in shown
    (timings,) = rows(tmp_path / "auto" / "timings.jsonl")
    assert timings["per_device_batch_size"] == size
    (found,), (expected,) = (rows(tmp_path / name / "metrics.jsonl") for name in ("auto", "number"))
    assert found.keys() == expected.keys()
    assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    recorded = yaml.safe_load((tmp_path / "auto" / "config.yaml").read_text())
    assert recorded["batch"]["per_device_batch_size"] == "auto"
    for module in (setup, dry_run):
        monkeypatch.setattr(module, "usable_here", lambda device, processes: 1e9)
    run = start(replace(config, max_steps=2, output=replace(config.output, resume="auto")), quiet=True)
    run.folder.release()
    assert run.config.batch.per_device_batch_size == size, "a run that goes on rounds as it did"
    output = replace(config.output, output_dir=str(tmp_path / "number"), resume="auto")
    run = start(replace(config, max_steps=2, output=output), quiet=True)
    run.folder.release()
    assert run.config.batch.per_device_batch_size == 8, "its 6 were given by hand"


def test_auto_is_the_default_of_large_models_and_fills_a_gpu_with_copies_and_completions(tmp_path) -> None:
    for algorithm in ("spg", "mle"):
        source = {"source": "demonstrations"} if algorithm == "mle" else {}
        large = defaults(
            Config, env="countdown", model="GSAI-ML/LLaDA-8B-Instruct", algorithm=algorithm, **source
        )
        assert large.batch.per_device_batch_size == "auto"
    config = small_config(tmp_path, device="cuda", max_steps=1, per_device_batch_size="auto")
    with pretend_cuda():
        run = start(config, quiet=True)
        train_step(run)
        run.folder.release()
    (timings,) = rows(tmp_path / "timings.jsonl")
    assert (timings["per_device_batch_size"], timings["rows_per_forward"]) == (32, 16)

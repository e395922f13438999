"""`machine`: each thing that a first minute on a rented card shows, and what it says where that is missing."""

from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from spg_trainer.cli import main
from spg_trainer.runs import machine
from spg_trainer.runs.machine import products_a_second
from spg_trainer.settings.packages import envs


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    """A machine on which all is well, but for what a test changes."""
    found = {"free": 70 * 2**30, "speed": 400e12, "disk": 100 * 10**9, "rate": 2**20, "offline": ""}
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name, value in {
        "init": lambda: None,
        "device_count": lambda: 1,
        "mem_get_info": lambda number: (found["free"], 80 * 2**30),
        "get_device_name": lambda number: "H100",
        "get_device_capability": lambda number: (9, 0),
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(machine, "products_a_second", lambda device, dtype: found["speed"])
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=found["disk"]))
    monkeypatch.setattr(envs.files.hub, "why_offline", lambda: found["offline"])
    files = [SimpleNamespace(rfilename="a.json", size=10), SimpleNamespace(rfilename="w", size=16 * 10**9)]
    info = SimpleNamespace(siblings=files)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, model, files_metadata: info)
    content = bytes(64 * 2**20)

    def get(url: str, **options: object) -> SimpleNamespace:
        assert url.endswith("/w") and options["headers"]["Range"] == "bytes=0-67108863"
        clock["now"] += len(content) / found["rate"]
        return SimpleNamespace(content=content, raise_for_status=lambda: None)

    clock = {"now": 0.0}
    monkeypatch.setattr(machine.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: SimpleNamespace(get=get))
    found["rate"] = 100 * 10**6
    return found


def test_a_machine_on_which_all_is_well_is_a_go(pretend, capsys) -> None:
    assert main(["machine"]) == 0
    out = capsys.readouterr().out
    assert "H100 (9.0): 70.0 of 80.0 GiB free" in out and "400 TFLOP/s in bfloat16" in out
    assert "100 MB/s, so that its 16.0 GB take 3 minutes" in out and out.endswith("\ngo\n")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("free", 2**30, "1.0 of 80.0 GiB free. Another process may hold it"),
        ("speed", 3e12, "3 TFLOP/s in bfloat16. It is busy, throttled or shared"),
        ("disk", 10**9, "set HF_HOME to a larger disk"),
        ("rate", 10**6, "1 MB/s, so that its 16.0 GB take 267 minutes. Download it before"),
        ("offline", "no route", "the Hub does not answer: no route"),
    ],
)
def test_what_is_wrong_is_said_with_the_way_out(pretend, name: str, value, said: str, capsys) -> None:
    pretend[name] = value
    assert main(["machine"]) == 1
    out = capsys.readouterr().out
    (line,) = [line for line in out.splitlines() if line.startswith("WRONG")]
    assert said in line and out.endswith("not yet: 1 of the lines above say what to do\n")


def test_a_machine_without_a_card_is_told_what_torch_says(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise RuntimeError("The NVIDIA driver on your system is too old (found version 11040).")

    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", refuse)
    ((is_there, text),) = machine.card()
    assert not is_there and "too old" in text and "nvidia-smi" in text
    monkeypatch.setattr(torch.version, "cuda", None)
    ((is_there, text),) = machine.card()
    assert not is_there and "built without CUDA" in text


def test_products_are_counted() -> None:
    assert 1e7 < products_a_second(torch.device("cpu"), torch.float32, size=64, seconds=0.05) < 1e15

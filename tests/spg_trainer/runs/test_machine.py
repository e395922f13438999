"""`machine`: each thing that a training needs of a machine, and what it says where that is missing."""

from types import SimpleNamespace

import huggingface_hub
import pytest
import torch

from spg_trainer.cli import main
from spg_trainer.runs import machine
from spg_trainer.settings.packages import envs


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch):
    """A machine on which all is well, but for what a test changes."""
    found = {"free": 70 * 2**30, "disk": 100 * 10**9, "offline": "", "gated": "", "capability": (9, 0)}
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    for name, value in {
        "init": lambda: None,
        "device_count": lambda: 1,
        "mem_get_info": lambda number: (found["free"], 80 * 2**30),
        "get_device_name": lambda number: "H100",
        "get_device_capability": lambda number: found["capability"],
    }.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda place: SimpleNamespace(free=found["disk"]))
    monkeypatch.setattr(envs.files.hub, "why_offline", lambda: found["offline"])
    files = [SimpleNamespace(rfilename="a.json", size=10), SimpleNamespace(rfilename="w", size=16 * 10**9)]
    info = SimpleNamespace(siblings=files)
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda self, model, files_metadata: info)

    def auth_check(self, model: str) -> None:
        if found["gated"]:
            raise OSError(found["gated"])

    monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", auth_check)
    return found


def test_a_machine_on_which_all_is_well_is_a_go(pretend, capsys) -> None:
    assert main(["machine"]) == 0
    out = capsys.readouterr().out
    assert "H100 (9.0): 70.0 of 80.0 GiB free" in out and "bfloat16" not in out
    assert "GSAI-ML/LLaDA-8B-Instruct: 16.0 GB to download" in out and out.endswith("\ngo\n")


def test_an_old_card_is_a_go_in_float32(pretend, capsys) -> None:
    pretend["capability"] = (7, 0)
    assert main(["machine"]) == 0
    assert "no bfloat16 units: train with --dtype float32" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("free", 2**30, "1.0 of 80.0 GiB free. Another process may hold it"),
        ("disk", 10**9, "set HF_HOME to a larger disk"),
        ("gated", "Access is restricted", "Access is restricted. Check the id, and `hf auth login`"),
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
    ((is_there, text),) = machine.cards()
    assert not is_there and "too old" in text and "nvidia-smi" in text
    monkeypatch.setattr(torch.version, "cuda", None)
    ((is_there, text),) = machine.cards()
    assert not is_there and "built without CUDA" in text

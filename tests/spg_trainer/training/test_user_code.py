"""A user's algorithm or order of unmasking that exits ends a run with an error, not with status 0 and no word."""

from pathlib import Path

import pytest

import envs.__main__
from spg_trainer import cli
from spg_trainer.checking.checks import check_algorithm
from spg_trainer.errors import ConfigError
from spg_trainer.training.loop import train
from tests.common.marks import slow_if
from tests.common.trainer_cases import small_config
from verifiers.user_code import CodeExited

CODE = """
import os
from dataclasses import dataclass
from spg_trainer.algorithms.spg import SPG
{at_import}
calls = [0]
@dataclass(frozen=True)
class Mine(SPG):
    def prepare(self, view):
        {prepare}
        return super().prepare(view)
    def loss(self, logps, masks, batch):
        {loss}
        return super().loss(logps, masks, batch)
def order(logps, places, generators):
    calls[0] += 1
    {order}
    return logps
"""
PLACES = ("at_import", "prepare", "loss", "order")


@pytest.mark.parametrize("place", slow_if(PLACES, lambda place: place != "loss"))
def test_code_that_exits_is_an_error(place: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    exits = {"order": "if calls[0] > 8: exit()", "loss": "os._exit(0)"}.get(place, "raise SystemExit")
    file.write_text(CODE.format(**{name: exits if name == place else "" for name in PLACES}))
    own = {"remasking": f"{file}:order"} if place == "order" else {"algorithm": f"{file}:Mine"}
    settings = {"max_steps": 1, "eval_problems": 0, "validation_problems": 0, "save_steps": 0}
    with pytest.raises((CodeExited, ConfigError), match="exit"):
        train(small_config(tmp_path / "run", **settings, **own), quiet=True)
    if place in ("prepare", "loss"):
        faults = [finding.figure for finding in check_algorithm(f"{file}:Mine") if not finding.ok]
        assert any("SystemExit" in fault for fault in faults)


@pytest.mark.parametrize("words", [["--env", "sudoku"], ["eval", "--env", "sudoku"], ["check", "sudoku"]])
def test_a_command_inside_which_code_exits_has_not_status_0(words: list[str], monkeypatch) -> None:
    def exits(*_):
        raise SystemExit(0)

    monkeypatch.setattr(cli, "run_train", exits)
    monkeypatch.setattr(cli, "check", exits)
    said, _ = envs.__main__.COMMANDS["check"]
    monkeypatch.setitem(envs.__main__.COMMANDS, "check", (said, exits))
    main = envs.__main__.main if words[0] == "check" else cli.main
    with pytest.raises(CodeExited):
        main(words)

"""Trackers: the run folder is the record, and a broken tracker costs nothing but itself."""

import math

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.tracking import Trackers, check_trackers, open_trackers


class Fake:
    def __init__(self, name: str, broken: bool = False):
        self.name, self.broken, self.logged, self.finished = name, broken, [], False

    def log(self, values, step):
        if self.broken:
            raise ConnectionError("no route")
        self.logged.append((step, values))

    def finish(self):
        self.finished = True


def test_numbers_go_to_every_tracker_a_broken_one_is_dropped(caplog):
    good, bad = Fake("good"), Fake("bad", broken=True)
    trackers = Trackers([bad, good])
    for step in (1, 3):
        trackers.log({"time/rollout": 1.5, "step": step, "reward": 0.5, "kl": math.nan, "note": "x"}, step)
    trackers.finish()
    assert good.logged == [(step, {"time/rollout": 1.5, "step": step, "reward": 0.5}) for step in (1, 3)]
    assert good.finished
    assert caplog.text.count("Tracker bad failed and is no longer used: no route") == 1


def test_a_missing_package_is_named_with_the_command_that_installs_it(tmp_path):
    with pytest.raises(ConfigError, match=r"--track absent_tracker: .*pip install 'spg-trainer\[track\]'"):
        check_trackers(["absent_tracker"])
    with pytest.raises(ConfigError):
        open_trackers(["absent_tracker"], tmp_path, {})


def test_tensorboard_writes_into_the_run_folder(tmp_path):
    pytest.importorskip("tensorboard")
    trackers = Trackers(open_trackers(["tensorboard"], tmp_path, {"batch": {"keep": None, "lr": 1e-3}}))
    trackers.log({"step": 1, "reward": 0.5}, 1)
    trackers.finish()
    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_tracker_that_does_not_start_is_left_out_with_a_message(tmp_path, monkeypatch, caplog):
    from accelerate import tracking

    class Login:
        requires_logging_directory = False

        def __init__(self, run_name):
            self.name = "json"

        def start(self):
            raise PermissionError("api_key not configured")

    class Fine(Login):
        def start(self):
            self.started = True

        def store_init_configuration(self, values):
            self.values = values

    # Names of packages that are installed everywhere.
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "json", Login)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "csv", Fine)
    config = {"seed": 0, "batch": {"keep": None, "names": ["a"]}}
    (opened,) = open_trackers(["json", "csv"], tmp_path, config)
    assert opened.started and opened.values == {"seed": 0, "batch.keep": "None", "batch.names": "['a']"}
    assert caplog.text.count("Tracker json failed and is no longer used: api_key not configured") == 1

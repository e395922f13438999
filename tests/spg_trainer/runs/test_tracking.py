"""Trackers: the run folder is the record, and a broken tracker costs nothing but itself."""

import math

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.runs.tracking import Trackers, check_trackers, open_trackers


class Fake:
    def __init__(self, name: str, broken: bool = False):
        self.name, self.broken, self.logged, self.finished = name, broken, [], False

    def log(self, values, step):
        if self.broken:
            raise ConnectionError("no route")
        self.logged.append((step, values))

    def log_table(self, table_name, columns, data, step):
        self.logged.append((step, table_name, columns, data))

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


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(ConfigError, match=r"--track absent_tracker.*pip install absent_tracker"):
        check_trackers(["absent_tracker"])


def test_completions_go_to_a_table(tmp_path):
    row = {
        "prompt": [{"role": "user"}],
        "completion": "a|b\n",
        "reward": 0.5,
        "correct": True,
        "reason": None,
    }
    fake = Fake("wandb")
    Trackers([fake]).table("samples", [row] * 40, 3)
    ((step, name, columns, data),) = fake.logged
    assert (step, name, len(data)) == (3, "samples", 32) and columns == [*row]
    assert data[0] == ['[{"role": "user"}]', "a|b\n", 0.5, True, ""]


def test_tensorboard_gets_numbers_and_tables_in_the_run_folder(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers = Trackers(open_trackers(["tensorboard"], tmp_path, {"batch": {"keep": None, "lr": 1e-3}}))
    trackers.log({"step": 1, "reward": 0.5}, 1)
    trackers.table("samples", [{"prompt": "p", "completion": "a|b\nc", "reward": 1.0}], 1)
    trackers.finish()
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [event.value for event in events.Scalars("reward")] == [0.5]
    (event,) = events.Tensors("samples/text_summary")
    assert "| p | a\\|b<br>c | 1.0 |  |  |" in event.tensor_proto.string_val[0].decode()


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_all_runs_are_of_one_project_under_their_folder_name(tmp_path, monkeypatch, name):
    from accelerate import tracking

    given = {}

    class Kind(Fake):
        def __init__(self, project, **options):
            super().__init__(name)
            given.update(options, project=project)

        def start(self): ...

        def store_init_configuration(self, values): ...

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, Kind)
    monkeypatch.setattr("spg_trainer.runs.tracking.find_spec", lambda name: True)
    open_trackers([name], tmp_path / "run-1", {})
    assert (given["project"], given["name"]) == ("spg-trainer", "run-1")
    assert given.get("dir") in ((str(tmp_path / "run-1"),) if name == "wandb" else (None,))


def test_a_tracker_that_does_not_start_is_left_out_with_a_message(tmp_path, monkeypatch, caplog):
    from accelerate import tracking

    class Login:
        requires_logging_directory = False

        def __init__(self, project, **options):
            self.name = "wandb"

        def start(self):
            raise PermissionError("api_key not configured")

    class Fine(Login):
        def start(self):
            self.started = True

        def store_init_configuration(self, values):
            self.values = values

    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "wandb", Login)
    monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, "trackio", Fine)
    monkeypatch.setattr("spg_trainer.runs.tracking.find_spec", lambda name: True)
    config = {"seed": 0, "batch": {"keep": None, "names": ["a"]}}
    (opened,) = open_trackers(["wandb", "trackio"], tmp_path, config)
    assert opened.started and opened.values == {"seed": 0, "batch.keep": "None", "batch.names": "['a']"}
    assert caplog.text.count("Tracker wandb failed and is no longer used: api_key not configured") == 1

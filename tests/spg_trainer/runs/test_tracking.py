"""Trackers: the run folder is the record, and a broken tracker costs nothing but itself."""

import math
from types import SimpleNamespace

import pytest
from accelerate import tracking

from spg_trainer.errors import ConfigError
from spg_trainer.runs.tracking import Trackers, check_trackers


class Fake:
    """A tracker of accelerate that keeps what it gets; one of the project `broken` raises at the first step."""

    def __init__(self, project, **options):
        self.project, self.options, self.logged, self.finished = project, options, [], False

    def start(self):
        if self.project == "login":
            raise PermissionError("api_key not configured")
        self.run = SimpleNamespace(id=self.options.get("id", "fresh7"))

    def store_init_configuration(self, values):
        self.values = values

    def log(self, values, step):
        if self.project == "broken":
            raise ConnectionError("no route")
        self.logged.append((step, values))

    def log_table(self, table_name, columns, data, step):
        self.logged.append((step, table_name, columns, data))

    def finish(self):
        self.finished = True


@pytest.fixture
def opened(monkeypatch, tmp_path):
    """Opens W&B and trackio as fakes, W&B's in this project; returns the trackers and all fakes."""

    def open_fakes(project=None):
        fakes = {}
        for name in ("wandb", "trackio"):

            def fake(project, kind=name, **options):
                fakes[kind] = Fake(project, **options)
                fakes[kind].name = kind
                return fakes[kind]

            monkeypatch.setitem(tracking.LOGGER_TYPE_TO_CLASS, name, fake)
        if project:
            monkeypatch.setenv("WANDB_PROJECT", project)
        trackers = Trackers()
        config = {"seed": 0, "batch": {"keep": None, "names": ["a"]}}
        (tmp_path / "run-1").mkdir(exist_ok=True)
        trackers.open(["wandb", "trackio"], tmp_path / "run-1", config)
        return trackers, fakes

    return open_fakes


@pytest.mark.parametrize(
    ("project", "why"), [("broken", "no route"), ("login", "api_key not configured"), (None, None)]
)
def test_numbers_go_to_every_tracker_and_a_broken_one_is_dropped(opened, caplog, project, why):
    trackers, fakes = opened(project)
    for step in (1, 3):
        trackers.log({"time/rollout": 1.5, "step": step, "reward": 0.5, "kl": math.nan, "note": "x"}, step)
    trackers.finish()
    fine = [fakes["trackio"]] if project else [*fakes.values()]
    for fake in fine:
        assert fake.logged == [(step, {"time/rollout": 1.5, "step": step, "reward": 0.5}) for step in (1, 3)]
        assert fake.finished and fake.values == {"seed": 0, "batch.keep": "None", "batch.names": "['a']"}
        assert (fake.project, fake.options["name"]) == ("spg-trainer", "run-1")
    assert caplog.text.count("Tracker wandb failed and is no longer used: ") == (project is not None)
    assert why is None or why in caplog.text


def test_a_run_that_goes_on_goes_on_in_its_trackers(opened):
    _, first = opened()
    assert not {"id", "resume"} & {*first["wandb"].options, *first["trackio"].options}
    _, second = opened()
    assert (second["wandb"].options["id"], second["wandb"].options["resume"]) == ("fresh7", "allow")
    assert (second["trackio"].options["name"], second["trackio"].options["resume"]) == ("run-1", "allow")


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    with pytest.raises(ConfigError, match=r"absent_tracker.*pip install absent_tracker"):
        check_trackers(["absent_tracker"])


ROW = {"prompt": [{"role": "user"}], "completion": "a|b\nc", "reward": 0.5, "correct": True, "reason": "ok"}


def test_completions_go_to_a_table(opened):
    trackers, fakes = opened()
    trackers._trackers.remove(fakes["trackio"])  # whose tables are its package's
    trackers.table("samples", [ROW] * 40, 3)
    ((step, name, columns, data),) = fakes["wandb"].logged
    assert (step, name, len(data)) == (3, "samples", 32) and columns == [*ROW]
    assert data[0] == ["[{'role': 'user'}]", "a|b\nc", "0.5", "True", "ok"]

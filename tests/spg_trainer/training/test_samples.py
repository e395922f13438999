"""samples/: which completions of a step are written."""

import json

from spg_trainer import train
from tests.common.trainer_cases import small_config


def test_some_rows_of_every_step_are_written(tmp_path):
    def samples(name: str, **changes: object) -> list[list[dict]]:
        train(small_config(tmp_path / name, max_steps=2, **changes), quiet=True)
        files = sorted((tmp_path / name / "samples").iterdir())
        return [[json.loads(line) for line in file.read_text().splitlines()] for file in files]

    every = samples("all")
    some = samples("some", sample_rows=3)
    assert [len(rows) for rows in every] == [16, 16]
    assert some == [rows[:3] for rows in every]

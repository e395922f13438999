"""Columns divided among processes: the gradient, the run and its checkpoints are those of one process."""

import pytest

from spg_trainer.errors import ConfigError
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import ONLY_SLOW, SEQUENCE_PARALLEL, sequence_config, watched_step
from tests.common.trainer_cases import small_config
from tests.common.two_processes import left_by

ROUNDING = 1e-8
"""In float64; a mixture's router computes in float32."""


@pytest.mark.parametrize("name", slow_if(SEQUENCE_PARALLEL, lambda name: name in ONLY_SLOW))
def test_a_step_of_two_processes_has_the_gradient_of_one(tmp_path, name):
    """And each of them computes half of the columns of every pass."""
    config = sequence_config(tmp_path / "run", name, shard="none")
    expected, metrics, columns = watched_step(config)
    assert columns and float(expected.norm()) > 1e-3
    for rank in (0, 1):
        found, metrics_of_process, own_columns = left_by(rank)[f"sequence {name}"]
        assert relative(found, expected) < ROUNDING
        assert metrics_of_process == pytest.approx(metrics, rel=ROUNDING, abs=ROUNDING / 10)
        assert max(own_columns) <= (max(columns) + 1) // 2


def test_groups_that_processes_or_heads_cannot_make_are_refused(tmp_path):
    alone = small_config(tmp_path / "run", sequence_parallel=2)
    with pytest.raises(
        ConfigError, match=r"sequence.parallel.2 makes groups of 2 processes, and there is one process"
    ):
        train(alone, quiet=True)
    three = small_config(None, sequence_parallel=3, processes=3, dry_run=True)
    with pytest.raises(ConfigError, match=r"sequence.parallel.3.*the model has 2 key-value heads"):
        settle(three)
    with pytest.raises(ConfigError, match=r"are 4 processes. Start a multiple of 3"):
        settle(small_config(None, sequence_parallel=3, processes=4, dry_run=True))
    with pytest.raises(ConfigError, match=r"compile: layers whose columns .*sequence.parallel divides"):
        settle(small_config(None, sequence_parallel=2, processes=2, compile=True, dry_run=True))

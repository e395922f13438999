"""Training on demonstrations by two processes, stopped and resumed, is that of one."""

import json
from dataclasses import replace

import pytest
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.rollout.problems import deal_rows
from spg_trainer.settings.recorded import to_yaml
from spg_trainer.training.plan import settle
from tests.common.likelihood_cases import relative
from tests.common.marks import slow_if
from tests.common.process_cases import SFT, run_processes, sft_command
from tests.common.sft_cases import SMALL, sft
from tests.common.trainer_cases import weights
from tests.common.two_processes import two_processes


@pytest.mark.parametrize("name", slow_if(SFT, lambda name: name == "sft-phase"))
def test_two_processes_make_the_model_of_one(tmp_path, name):
    sft(sft_command(tmp_path / "one", **{**SFT[name], "shard": "none"}))
    found, expected = (weights(place / "model") for place in (two_processes() / name, tmp_path / "one"))
    assert list(found) == list(expected)
    for key, value in expected.items():
        assert relative(found[key], value) < 1e-10, key
    summaries = [
        json.loads((place / "summary.json").read_text())
        for place in (two_processes() / name, tmp_path / "one")
    ]
    for key in ("steps", "updates", "ended_by", "eval_after"):
        assert summaries[0][key] == summaries[1][key], key
    losses = [summary["validation"]["best"] for summary in summaries]
    assert losses[0] == pytest.approx(losses[1], rel=1e-10)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_process_that_hangs_is_named_by_the_other(tmp_path):
    texts = [{"prompt": f"say {n}", "completion": f"{n}"} for n in range(30)]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts))
    command = replace(SMALL, env="", data=str(tmp_path / "texts.jsonl"), timeout_minutes=0.15)
    (tmp_path / "settings.yaml").write_text(to_yaml(command))
    words = ("--config", str(tmp_path / "settings.yaml"), "--output-dir", str(tmp_path / "model"))
    with pytest.raises(RuntimeError) as failed:
        run_processes("tests.common.one_hangs", *words, count=2)
    said = str(failed.value)
    assert (
        "Process 0 has waited for 0.15 minutes in the updates of step 1: process 1 was in the updates of step 1"
        in said
    ), said


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_rows_are_dealt_once_and_evenly_by_length(monkeypatch, count):
    lengths = torch.randint(1, 400, (50,), generator=torch.Generator().manual_seed(count)).tolist()
    monkeypatch.setattr("spg_trainer.rollout.problems.world_size", lambda: count)
    shares = []
    for number in range(count):
        monkeypatch.setattr("spg_trainer.rollout.problems.rank", lambda number=number: number)
        shares.append(deal_rows(lengths))
    assert sorted(row for share in shares for row in share) == list(range(50))
    assert all(share == sorted(share) for share in shares)
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    sums = [sum(lengths[row] for row in share) for share in shares]
    assert max(sums) - min(sums) <= max(lengths)


@pytest.mark.parametrize(
    ("changes", "remedy"),
    [
        ({"optimizer": "muon"}, "--optimizer adamw"),
        ({"save_dtype": "bfloat16"}, "--save-dtype auto"),
    ],
)
def test_what_a_divided_model_cannot_is_refused(tmp_path, changes, remedy):
    with pytest.raises(ConfigError, match=f"shard.*Use {remedy}"):
        settle(sft_command(tmp_path / "run", shard="phase", dry_run=True, processes=2, **changes))

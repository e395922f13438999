"""--data: a base of texts from a file, for no task or measured on one, and the same resume."""

import json
import os
import signal
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from envs import EnvError
from spg_trainer import cli, generate, load_model
from spg_trainer.errors import ConfigError
from spg_trainer.settings.check import check
from spg_trainer.settings.configs import Config, EvalCommand
from spg_trainer.settings.resolve import defaults
from spg_trainer.training.criteria import LOSS
from spg_trainer.training.evaluations import loss_without_gradient
from spg_trainer.training.records import closing_lines, next_steps
from spg_trainer.training.update import Update
from tests.common.sft_cases import SMALL, before_step, first_update, sft
from tests.common.trainer_cases import change, same_weights
from tests.spg_trainer.training.test_sft import prepared


@pytest.fixture
def texts(tmp_path: Path) -> Config:
    """Settings of four updates on the texts of a file."""
    file = tmp_path / "texts.jsonl"
    file.write_text(
        "".join(json.dumps({"prompt": f"say {n}", "completion": f"{n}" * 3}) + "\n" for n in range(60))
    )
    return change(
        SMALL,
        env="",
        data=str(file),
        max_steps=4,
        eval_steps=2,
        save_steps=2,
        output_dir=str(tmp_path / "run"),
    )


def test_a_base_of_texts_is_of_no_task_and_writes_at_its_own_lengths(texts: Config) -> None:
    folder = sft(texts)
    record = json.loads((folder / "environment.json").read_text())
    assert "env" not in record
    assert json.loads((folder / "inputs.json").read_text())["data"]["path"] == texts.data
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["eval_before"] is summary["eval_after"] is None and summary["validation"]["best"] > 0
    assert summary["env"] == "texts.jsonl"
    words = ["eval", "--model", str(folder), "--perplexity", texts.data, "--output-dir", str(folder / "out")]
    assert cli.main([*words, "--num-masks", "8"]) == 0, "no task need be named"
    assert json.loads((folder / "out" / "perplexity-texts.json").read_text())["texts"] == 60
    ((logps,),) = (generate(load_model(str(folder), device="cpu"), ["say 7"], return_logps=True)[1],)
    assert len(logps) <= texts.rollout.max_completion_length
    assert defaults(EvalCommand, "countdown", str(folder)).rollout.max_completion_length == (8,)


def test_a_data_set_of_the_hub_is_learned_as_a_file_of_its_rows_is(texts, tmp_path, monkeypatch) -> None:
    import datasets
    import pyarrow.parquet

    rows = [json.loads(line) for line in Path(texts.data).read_text().splitlines()]
    copy, asked, real = tmp_path / "copy", [], datasets.load_dataset_builder
    copy.mkdir()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), copy / "train-00000-of-00001.parquet")

    def builder(*question: object, revision: str | None):
        asked.append(question)
        return real(str(copy))

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets, "load_dataset_builder", builder)
    of_file = sft(texts)
    of_hub = sft(change(texts, data="someone/sayings:main", output_dir=str(tmp_path / "hub")))
    assert asked == [("someone/sayings", "main")] and same_weights(of_file / "model", of_hub / "model")
    assert "sayings" in json.loads((of_hub / "summary.json").read_text())["env"]
    copy.joinpath("train-00000-of-00001.parquet").unlink()
    pyarrow.parquet.write_table(pyarrow.table({"question": ["a"]}), copy / "train-00000-of-00001.parquet")
    wrong = change(texts, data="someone/questions", output_dir=str(tmp_path / "wrong"))
    with pytest.raises(
        EnvError, match=r"someone/questions \(train\), row 1 has question. Each row needs `prompt`"
    ):
        sft(wrong)


def padding(update: Update) -> float:
    """The share of padding among the positions of the prompts and completions of an update."""
    parts = update.micro_batches
    tokens = sum(int(part.prompt_mask.sum()) + part.completion_ids.numel() for part in parts)
    return 1 - tokens / sum(part.prompt_mask.numel() + part.completion_ids.numel() for part in parts)


def content(update: Update) -> set[str]:
    """What is in the rows of an update, without their padding, in no order."""
    found = set()
    for micro in update.micro_batches:
        r, m = micro, micro.masks
        rows = zip(r.prompt_ids, r.prompt_mask, r.completion_ids, m.scored, m.weight, strict=True)
        found |= {
            str([ids[real].tolist(), *(column.tolist() for column in more)]) for ids, real, *more in rows
        }
    return found


def test_parts_hold_texts_of_similar_length_so_that_few_positions_are_padding(texts: Config) -> None:
    rows = [{"prompt": "a" * int(1.12**n), "completion": f"{n}"} for n in range(42)]
    Path(texts.data).write_text("".join(json.dumps(row) + "\n" for row in rows))
    drawn, losses = {}, {}
    for size in (24, 4, 1):
        run = prepared(change(texts, prompts_per_step=24, per_device_batch_size=size))
        drawn[size] = first_update(run)
        losses[size] = loss_without_gradient(run.policy, run.algorithm, drawn[size])
    assert [len(update.micro_batches) for update in drawn.values()] == [1, 6, 24]
    assert content(drawn[24]) == content(drawn[4]) == content(drawn[1]) and len(content(drawn[24])) == 24
    assert losses[4] == pytest.approx(losses[24], rel=1e-6) and losses[1] == pytest.approx(
        losses[24], rel=1e-6
    )
    assert padding(drawn[24]) > 0.5 and padding(drawn[4]) < 0.2 and padding(drawn[1]) == 0


def test_it_is_measured_on_a_task_that_is_named(texts: Config) -> None:
    folder = sft(change(texts, env="count", max_steps=1))
    assert json.loads((folder / "model" / "environment.json").read_text())["env"] == "count"
    assert json.loads((folder / "summary.json").read_text())["eval_after"]["n"] == 2


def test_the_command_after_it_leaves_out_what_was_for_the_texts_alone(texts: Config) -> None:
    """No package task takes `bad_rows`, and a model that recorded it could not be evaluated on its task."""
    summary = {"model": "run/model", "worse": None, "eval_before": None, "eval_after": None}
    summary |= {"steps": 2, "ended_by": "max_steps"}
    for env, words in (("", "--env ENV"), ("count", "--env count --env-args offset=1")):
        config = change(texts, env=env, env_args={"bad_rows": "skip"} | ({"offset": 1} if env else {}))
        assert next_steps(summary, config)[0] == f"python -m spg_trainer {words} --model run"
    rows = {"verifier": "gsm8k", "bad_rows": "skip"}
    of_rows = change(texts, env=texts.data, env_args=rows)
    assert "verifier=gsm8k bad_rows=skip" in next_steps(summary, of_rows)[0]


def test_a_run_that_learned_its_rows_by_heart_is_not_told_to_make_more_steps(texts: Config) -> None:
    """The loss of its validations was lowest at step 10, and has risen since."""
    summary = {"model": "run/model", "worse": None, "eval_before": None, "eval_after": None}
    summary |= {
        "steps": 30,
        "max_steps": 30,
        "ended_by": "max_steps",
        "seconds": 60.0,
        "env": "texts",
        "lost": {},
    }
    for losses, has_risen in (
        ({0: 5.0, 10: 1.0, 20: 1.4, 30: 1.8}, True),
        ({0: 5.0, 10: 1.0, 20: 0.9}, False),
    ):
        validations = LOSS.summary(losses, LOSS.best_step(losses))
        lines = closing_lines(summary | {"validation": validations}, texts)
        assert any("--max-steps 60" in line for line in lines) != has_risen


def ended_at(step: int, number: int) -> AbstractContextManager[None]:
    """Inside, this process gets a signal in an update."""
    return before_step(step - 1, lambda: os.kill(os.getpid(), number))


def test_it_resumes_bit_for_bit_unless_its_file_has_changed(texts, tmp_path) -> None:
    whole = sft(change(texts, output_dir=str(tmp_path / "whole")))
    with ended_at(3, signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        sft(texts)
    file = Path(texts.data)
    before = file.read_text()
    file.write_text(before.replace("say 1", "tell 1"))
    with pytest.raises(ConfigError, match=r"texts\.jsonl has changed since"):
        sft(change(texts, resume="auto"))
    file.write_text(before)
    assert same_weights(sft(change(texts, resume="auto")) / "model", whole / "model")


def test_a_data_set_of_the_hub_that_has_changed_is_noticed_on_resume(texts, tmp_path, monkeypatch) -> None:
    from envs.files import datasets
    from envs.files import sft_data as reading

    rows = [json.loads(line) for line in Path(texts.data).read_text().splitlines()]
    kept = {"a" * 40: rows, "b" * 40: [{**row, "prompt": row["prompt"].upper()} for row in rows]}
    newest = ["a" * 40]

    def load(task: str, hub: datasets.HubDataset, advice: str) -> tuple[list[datasets.Row], str]:
        commit = hub.revision or newest[-1]
        return [datasets.Row(f"row {i}", row) for i, row in enumerate(kept[commit])], commit

    monkeypatch.setattr(reading, "hub_rows", load)
    texts = change(texts, data="someone/sayings")
    whole = sft(change(texts, output_dir=str(tmp_path / "whole")))
    record = json.loads((whole / "environment.json").read_text())
    assert record["origin"] == {"someone/sayings": "a" * 40}
    with ended_at(3, signal.SIGTERM), pytest.raises(KeyboardInterrupt):
        sft(texts)
    newest.append("b" * 40)
    reading._read.cache_clear()
    with pytest.raises(ConfigError) as refused:
        sft(change(texts, resume="auto"))
    said = str(refused.value)
    assert "someone/sayings has changed" in said and "b" * 40 in said and "--output-dir" in said
    pinned = f"someone/sayings@{'a' * 40}"
    assert f"--data {pinned}" in said
    with pytest.raises(ConfigError, match=r"data was 'someone/sayings', now 'someone/sayings@b+'"):
        sft(change(texts, resume="auto", data=f"someone/sayings@{'b' * 40}"))
    assert same_weights(sft(change(texts, resume="auto", data=pinned)) / "model", whole / "model")


def test_what_does_not_go_with_a_file_is_refused_before_training(texts: Config) -> None:
    with pytest.raises(ConfigError, match=r"of 60 completions have more than 3 tokens.*length 7"):
        sft(change(texts, max_completion_length=3))
    with pytest.raises(ConfigError, match="mix"):
        check(change(texts, mix={"right": 1}))

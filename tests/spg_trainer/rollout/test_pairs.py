"""Pairs of a file: read with the line of every fault, each once in a pass, trained on as if they had been sampled."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
import yaml

import envs
from envs.errors import EnvError
from spg_trainer import cli
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy, load_model
from spg_trainer.rollout.pairs import PairFile, as_rollouts, read_pairs
from spg_trainer.rollout.tokens import decode_completions
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train
from tests.common.likelihood_cases import relative
from tests.common.pair_cases import COUNT, pair_config, pairs_file
from tests.common.process_cases import one_step
from tests.common.trainer_cases import (
    ENV,
    assert_equal_runs,
    change,
    rows,
    tiny_folder,
)
from tests.common.two_processes import outcomes

TEXT = {"prompt": "say a letter", "chosen": "abc", "rejected": "1"}
CHAT = {
    "prompt": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}],
    "chosen": [{"role": "assistant", "content": "hello"}],
    "rejected": [{"role": "assistant", "content": "no"}],
}


def write(path: Path, values: list) -> Path:
    """The rows in a file of the kind that its name says."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(values), path)
        return path
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt") as file:
        file.write("".join(f"{value if isinstance(value, str) else json.dumps(value)}\n" for value in values))
    return path


@pytest.fixture(scope="module")
def policy():
    return load_model(str(tiny_folder()), dtype="float64", device="cpu")


# Files.


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz", ".parquet"])
def test_every_kind_of_file_and_of_column_is_read(tmp_path, ending):
    texts = read_pairs(str(write(tmp_path / f"texts{ending}", [TEXT, {**TEXT, "more": 1}])))
    chats = read_pairs(str(write(tmp_path / f"chats{ending}", [CHAT])))
    assert [*texts.values()] == [("say a letter", "abc", "1")] * 2
    assert [*chats.values()] == [(CHAT["prompt"], "hello", "no")]


@pytest.mark.parametrize(
    "value, said",
    [
        ("{", "JSON"),
        ({"prompt": "a", "chosen": "b"}, "rejected"),
        ({**TEXT, "prompt": 3}, "prompt 3"),
        ({**TEXT, "prompt": []}, "prompt"),
        ({**TEXT, "prompt": [{"role": "user"}]}, "prompt"),
        ({**TEXT, "chosen": None}, "chosen None"),
        ({**TEXT, "rejected": CHAT["prompt"]}, "rejected"),
        ({**TEXT, "chosen": [{"role": "user", "content": "x"}]}, "chosen"),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path, value, said):
    with pytest.raises((ConfigError, EnvError), match=f"p.jsonl, line 2 .*{said}"):
        read_pairs(str(write(tmp_path / "p.jsonl", [TEXT, value])))


@pytest.mark.parametrize(
    "name, values, said",
    [
        ("p.jsonl", [], "prompt, chosen, rejected"),
        ("p.txt", [TEXT], ".jsonl"),
        ("p.parquet", [{"chosen": "a", "prompt": "b"}], "rejected"),
        ("none.jsonl", None, "none.jsonl"),
    ],
)
def test_files_that_hold_no_pairs_are_refused(tmp_path, name, values, said):
    with pytest.raises((ConfigError, EnvError), match=re.escape(said)):
        read_pairs(str(tmp_path / name if values is None else write(tmp_path / name, values)))


# The pairs of a step.


def opened_pairs(config: Config, policy: Policy) -> PairFile:
    return PairFile(config, policy, read_pairs(config.pairs))


def test_a_prompt_that_stands_inside_both_completions_is_taken_out(tmp_path):
    asked = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
    chosen, rejected = ([*asked, {"role": "assistant", "content": text}] for text in ("hello", "go"))
    row = {"chosen": chosen, "rejected": rejected}
    file = tmp_path / "pairs.jsonl"
    rows_of_file = [row, {"prompt": "hi", **row}, {"prompt": asked, **row}]
    file.write_text("".join(json.dumps(one) + "\n" for one in rows_of_file))
    assert [*read_pairs(str(file)).values()] == [(asked, "hello", "go")] * 3
    file.write_text(json.dumps({"prompt": "something else", **row}) + "\n")
    with pytest.raises(ConfigError, match="line 1 has chosen"):
        read_pairs(str(file))


def test_each_pair_comes_once_in_a_pass_and_passes_differ(tmp_path, policy):
    values = [{**TEXT, "rejected": "a" * (10 if number in (3, 8) else 2)} for number in range(12)]
    config = pair_config(None, write(tmp_path / "p.jsonl", values), seed=3, overlong="skip")
    pairs = opened_pairs(config, policy)
    drawn = np.concatenate([pairs.choose(step) for step in range(10)])  # four passes, some within a step
    passes = drawn.reshape(4, 10)
    assert [sorted(one) for one in passes.tolist()] == [[0, 1, 2, 4, 5, 6, 7, 9, 10, 11]] * 4
    assert len({tuple(one) for one in passes.tolist()}) == 4
    assert not np.array_equal(drawn[:4], opened_pairs(change(config, seed=4), policy).choose(0))


def test_completions_of_a_file_look_sampled_up_to_their_first_end(policy):
    rollouts = as_rollouts(policy, ["p", "prompt", "p"], ["ab", "abcdefghi", "ab<|eot_id|>cd"], 10)
    end = policy.end_token_ids[-1]
    assert rollouts.completion_ids[0, 2:].tolist() == [end] + [policy.mask_id] * 7
    assert rollouts.completion_mask.sum(-1).tolist() == [3, 10, 3]
    assert rollouts.unmask_step.tolist() == [[0] * 3 + [-1] * 7, [0] * 10, [0] * 3 + [-1] * 7]
    assert (rollouts.completion_ids[2, 3:] == policy.mask_id).all()
    assert decode_completions(policy, rollouts) == ["ab", "abcdefghi", "ab"]
    assert rollouts.prompt_mask.sum(-1).tolist()[1] == rollouts.prompt_mask.sum(-1).tolist()[0] + 5


def test_a_pair_is_shown_as_a_text_also_if_its_prompt_is_a_chat(tmp_path, policy):
    source = opened_pairs(pair_config(None, write(tmp_path / "p.jsonl", [TEXT, CHAT] * 4)), policy)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    assert source.render_turns(envs.Problem("Why?", {}), ["So."], []) == "Why?\nSo."
    shown = source.render_turns(envs.Problem(messages, {}), ["So."], [])
    assert shown == "system: Be brief.\nuser: Why?\nSo."


def test_pairs_that_do_not_fit_are_refused_by_line_or_skipped_and_counted(tmp_path, policy):
    fits, longer = {**TEXT, "chosen": "a" * 9}, {**TEXT, "rejected": "a" * 10}
    values = [fits, longer, TEXT, {**TEXT, "prompt": "long " * 40}, {**TEXT, "rejected": "abc"}, CHAT]
    config = pair_config(None, write(tmp_path / "p.jsonl", values), prompts_per_step=3, overlong="skip")
    source = opened_pairs(config, policy)
    assert source.index.tolist() == [0, 2, 5]
    assert "1 of 6 problems is too long for the model" in source.notice
    assert "1 of 12 completions has more than 10 tokens" in source.notice
    assert source.notice.count("They are skipped.") == 2
    assert "1 of 6 pairs is left out: its two completions are equal." in source.notice
    twice = change(config, pairs=str(write(tmp_path / "twice.jsonl", values * 2)))
    notice = opened_pairs(twice, policy).notice
    assert "2 of 12 pairs are left out: their two completions are equal." in notice
    assert notice.count("They are skipped.") == 2
    with pytest.raises(ConfigError, match=r"--prompts-per-step 4: .* has 3"):
        opened_pairs(change(config, prompts_per_step=4), policy)
    assert opened_pairs(pair_config(None, write(tmp_path / "q.jsonl", [TEXT] * 4)), policy).notice == ""
    with pytest.raises(ConfigError, match=r"too long for the model: .*p.jsonl, line 4 \(.* --overlong skip"):
        opened_pairs(change(config, overlong="error"), policy)
    short = change(config, overlong="error", pairs=str(write(tmp_path / "r.jsonl", values[:3])))
    with pytest.raises(
        ConfigError, match=r"r.jsonl, line 2 \(11 tokens\).*--max-completion-length 11 or more"
    ):
        opened_pairs(short, policy)


# Runs.


@pytest.fixture(scope="module")
def file():
    """Ten pairs: letters are better than digits; read only."""
    return pairs_file()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, file):
    """Five steps of four pairs: two passes."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(pair_config(folder, file), quiet=True)
    return folder


def test_a_run_learns_the_pairs_of_its_file_and_writes_them_down(whole, file):
    written = json.loads(file.read_text().splitlines()[7])
    seen = [row for number in range(1, 6) for row in rows(whole / "samples" / f"step-{number:06d}.jsonl")]
    assert sorted(row["index"] for row in seen) == sorted([*range(COUNT)] * 4)
    good, bad = [row for row in seen if row["index"] == 7][:2]
    assert (good["completion"], bad["completion"]) == (written["chosen"], written["rejected"])
    assert good["prompt"] == bad["prompt"] == written["prompt"] and good["env"] == str(file)
    assert (good["reward"], good["advantage"], good["reason"]) == (1.0, 1.0, "chosen")
    assert (bad["reward"], bad["advantage"], bad["reason"]) == (0.0, -1.0, "rejected")
    found = rows(whole / "metrics.jsonl")
    assert found[0]["pairs/margin"] == 0 and found[-1]["pairs/accuracy"] > 0.7
    assert found[-1]["loss/preference"] < found[0]["loss/preference"]
    inputs = json.loads((whole / "inputs.json").read_text())
    assert inputs["pairs"] == {
        "path": str(file),
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "copy": "",
    }
    assert json.loads((whole / "summary.json").read_text())["eval_before"]["settings"]["env"] == "letters"


def test_given_pairs_count_as_no_solved_problems(tmp_path, file, capsys):
    train(pair_config(tmp_path / "run", file, max_steps=1))
    (row,) = rows(tmp_path / "run" / "metrics.jsonl")
    assert "pairs/accuracy" in row and not {"correct", "reward", "completions/entropy"} & row.keys()
    (line,) = re.findall("^step 1/1.*$", capsys.readouterr().out, re.MULTILINE)
    assert "pairs/accuracy" in line and "solved" not in line and "tokens/s" not in line


def test_a_resumed_run_is_bit_equal(tmp_path, whole, file):
    train(pair_config(tmp_path / "run", file, max_steps=3), quiet=True)
    train(pair_config(tmp_path / "run", file, resume="auto"), quiet=True)
    assert_equal_runs(tmp_path / "run", whole)


def test_another_file_is_refused_when_the_run_goes_on(tmp_path, file):
    own = tmp_path / "own.jsonl"
    own.write_bytes(file.read_bytes())
    train(pair_config(tmp_path / "run", own, max_steps=1), quiet=True)
    own.write_text(own.read_text().replace("abc", "abd"))
    command = resolve(Config, ["--resume", str(tmp_path / "run"), "--max-steps", "2"]).config
    for again in (pair_config(tmp_path / "run", own, resume="auto"), command):
        with pytest.raises(
            ConfigError, match=r"own.jsonl has changed .* put the old one back.* --output-dir"
        ):
            train(again, quiet=True)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"algorithm": "spg"}, "--algorithm spg .* --algorithm vrpo"),
        ({"num_generations": 4}, "--num-generations 4.* --num-generations 2"),
        ({"pairs": "none.jsonl"}, "--pairs none.jsonl: No such file"),
    ],
)
def test_settings_that_do_not_go_with_pairs_are_refused(tmp_path, file, changes, said):
    with pytest.raises(ConfigError, match=said):
        train(pair_config(tmp_path / "run", file, **changes), quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_dry_run_reads_the_pairs(tmp_path, file, capsys):
    command = ["--model", str(tiny_folder()), "--env", ENV, "--algorithm", "vrpo", "--ref-copy", "--dry-run"]
    command += ["--num-generations", "2", "--prompts-per-step", "4", "--pairs"]
    assert cli.main([*command, str(file)]) == 0
    said = capsys.readouterr().out
    assert yaml.safe_load(said)["pairs"] == str(file)
    assert f"4 pairs of {file} = 8 completions" in said
    assert cli.main([*command, str(write(tmp_path / "broken.jsonl", [TEXT, 3]))]) == 2
    assert "broken.jsonl, line 2" in capsys.readouterr().err


# Two processes.


@pytest.mark.slow
def test_two_processes_share_the_pairs_of_a_step(tmp_path, file):
    expected, metrics = one_step(pair_config(tmp_path / "one", file, max_grad_norm=1e9))
    for found, again in outcomes("a_step_of_pairs"):
        assert relative(found, expected) < 1e-10 and float(found.norm()) > 1e-3
        assert again == pytest.approx(metrics, rel=1e-9, abs=1e-9)

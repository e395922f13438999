"""What a command prints as the next one can be pasted into a shell, also where a folder's name has a space."""

import re
import shlex

import pytest

from spg_trainer import cli
from spg_trainer.settings.recorded import to_yaml
from tests.common.trainer_cases import small_config


def commands(text: str) -> list[list[str]]:
    """The words of each command that a text shows."""
    return [shlex.split(line) for line in re.findall(r"python -m spg_trainer (.*)", text)]


def test_each_command_at_the_end_of_a_run_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "my runs" / "run one"
    config = small_config(folder, max_steps=1)
    (tmp_path / "config.yaml").write_text(to_yaml(config))
    assert cli.main(["--env", config.env, "--config", "config.yaml"]) == 0
    shown = commands(capsys.readouterr().out)
    assert [words[0] for words in shown] == ["diff", "eval", "--resume"]
    for words in shown:
        assert str(folder) in " ".join(words)
        assert cli.main(words) == 0, words
        capsys.readouterr()
    assert (folder / "checkpoints" / "step-000002").is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [[], ["--env-args", "level=2"]])
def test_what_sft_prints_names_all_that_its_model_was_made_for(tmp_path, capsys, arguments):
    folder = tmp_path / "my base"
    sizes = "--hidden-size 16 --num-layers 1 --num-heads 1 --intermediate-size 16 --max-steps 1"
    sizes += " --prompts-per-step 2 --eval-problems 2 --max-completion-length 16"
    words = [
        "sft",
        "--env",
        "countdown",
        *arguments,
        *sizes.split(),
        "--output-dir",
        str(folder),
        "--device",
        "cpu",
    ]
    assert cli.main(words) == 0
    shown = commands(capsys.readouterr().out)
    assert ["--env", "countdown", *arguments, "--model", str(folder)] in shown

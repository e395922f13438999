"""--dry-run --gpu: the cards, whether a run fits, the flags by which it would, hours, disk and download."""

import re
import shlex
from dataclasses import replace

import pytest

from spg_trainer.algorithms import build
from spg_trainer.architecture.shape import find_config
from spg_trainer.cli import main
from spg_trainer.estimate.fits import checkpoint_bytes
from spg_trainer.estimate.memory import step_memory
from spg_trainer.estimate.seconds import CARDS, find_card, step_seconds
from spg_trainer.models import llada_config
from spg_trainer.settings.configs import Config
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.types import docstrings
from spg_trainer.training.loop import train
from tests.common.trainer_cases import small_config

LLADA = "--env countdown --model GSAI-ML/LLaDA-8B-Instruct --dry-run"


def lines(capsys, words: str) -> list[str]:
    """The last four lines of a dry run: fit, hours, disk, and what the figures are."""
    assert main(shlex.split(words)) == 0
    return capsys.readouterr().out.splitlines()[-4:]


def test_every_card_of_the_flag_is_in_the_table() -> None:
    named = re.split(r"[:,\s]+", docstrings(Config)["gpu"])
    assert set(CARDS) <= set(named), "--help names them all"
    for card in CARDS.values():
        assert card.wide_flops < card.flops or (card.wide_flops == card.flops and "no bfloat16" in card.note)


def test_an_unknown_card_is_refused_with_the_list(capsys) -> None:
    assert main([*LLADA.split(), "--gpu", "4091"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in CARDS) and "Did you mean '4090'" in error
    assert find_card("32GiB").memory == find_card("32 gb").memory == 32 * 2**30
    assert find_card("h100") is CARDS["H100"]
    assert main(["--env", "countdown", "--gpu", "4090"]) == 2
    assert "Add --dry-run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "start, kind", [("", "4bit"), ("--lora-r 0", "lora-r"), ("--per-device-batch-size 2", "")]
)
@pytest.mark.parametrize("card", ["4090", "A100-40"])
def test_the_flags_that_are_named_make_it_fit(capsys, card: str, start: str, kind: str) -> None:
    asked = f"{LLADA} --gpu {card} --lora-targets all --max-completion-length 512 {start}"
    fit, *_, last = lines(capsys, asked)
    assert last == "# These figures are computed from data sheets, not measured."
    if "does not fit" not in fit:
        assert card == "A100-40" and start in ("", "--per-device-batch-size 2")
        return
    flags = fit.rpartition("with ")[2].partition(": ")[0]  # on the cards that there are
    assert flags.startswith("--") and (kind == "4bit" or f"--{kind}" in flags)
    now, *_ = lines(capsys, f"{asked} {flags}")
    taken, most = map(float, re.findall(r"takes ([\d.]+) GiB, and tensors can take ([\d.]+)", now)[0])
    assert "the run fits" in now and taken <= most
    assert f"{taken:.1f} GiB" in fit


def test_a_slow_rollout_is_told_of_a_cache_and_a_fast_one_is_not(capsys) -> None:
    def seconds(words: str) -> str:
        assert main(shlex.split(f"{LLADA} --gpu 4090 {words}")) == 0
        (line,) = (line for line in capsys.readouterr().out.splitlines() if "seconds of a step" in line)
        return line

    slow, cached = seconds(""), seconds("--cache dual")
    told = re.search(r"--cache dual, which is an approximation, makes it a rollout of ([\d.]+)", slow)
    assert told and f"rollout {told[1]}, update" in cached and "--cache dual" not in cached
    assert "--cache" not in seconds("--max-completion-length 32 --diffusion-steps 4")


def test_where_all_weights_are_trained_they_are_divided_before_adapters_are_proposed(
    capsys, monkeypatch
) -> None:
    """The fewest cards on which a run fits; that it fits there is what a dry run of so many processes says."""
    asked = f"{LLADA} --gpu H100 --lora-r 0 --max-completion-length 256"
    fit, *_ = lines(capsys, asked)
    flags, _, rest = fit.partition("It would fit with ")[2].partition(" on ")
    processes = int(rest.split()[0])
    assert "--shard" in flags and "--lora-r" not in flags and "--nproc-per-node" in rest
    monkeypatch.setenv("WORLD_SIZE", str(processes))
    now, *_ = lines(capsys, f"{asked} {flags}")
    assert "the run fits" in now


def test_hours_are_those_of_steps_evaluations_and_validations(capsys) -> None:
    words = "--gpu H200 --max-steps 100 --eval-steps 30 --validation-problems 40 --eval-problems 50"
    _, hours, rest, _ = lines(capsys, f"{LLADA} {words}")
    config = defaults(
        Config, env="countdown", model="GSAI-ML/LLaDA-8B-Instruct", max_steps=100, per_device_batch_size=96
    )
    step = step_seconds(llada_config(), config, build("spg", config.hyper_parameters), CARDS["H200"])
    steps, problems = 100 * (step.rollout + step.update) / 3600, 2 * 50 + 5 * 40
    asked = problems * step.rollout / 96 / 3600
    parts = round(steps, 1), round(asked, 1)
    assert (
        f"takes at least {sum(parts):.1f} hours: {parts[0]} for 100 steps, {parts[1]} for {problems}" in hours
    )
    for count in (100, 101):  # of 101 steps the exact sum would be shown as 5.7, and its parts as 5.6 and 0.2
        _, hours, *_ = lines(capsys, f"{LLADA} {words.replace('100', str(count))}")
        whole, *parts = map(float, re.findall(r"([\d.]+) (?:hours|for)", hours))
        assert len(parts) == 2 and round(sum(parts), 1) == whole, hours
    assert "downloads 16.0 GB" in rest and "4 checkpoints of 2.0" in rest


def test_large_checkpoints_are_kept_in_fewer_numbers(capsys) -> None:
    rest = lines(capsys, f"{LLADA} --lora-r 0 --eval-steps 10 --gpu H200")[2]
    assert "3 checkpoints of 96" in rest and "of the best step the weights alone" in rest


@pytest.mark.parametrize("shard", ["none", "phase", "layer"])
def test_a_checkpoint_is_as_large_however_weights_are_divided(capsys, shard: str) -> None:
    rest = lines(capsys, f"{LLADA} --lora-r 0 --gpu H200 --processes 8 --shard {shard}")[2]
    assert "checkpoints of 96.19" in rest  # 8.016e9 weights and two moments of each, in float32


def test_nothing_fits_where_one_layer_is_too_large(monkeypatch, capsys) -> None:
    small = replace(CARDS["L4"], memory=2.0**30)
    monkeypatch.setitem(CARDS, "L4", small)
    assert "No flags make it fit" in "\n".join(lines(capsys, f"{LLADA} --gpu L4"))


def test_a_checkpoint_is_as_large_as_was_computed(tmp_path) -> None:
    config = small_config(tmp_path / "run", max_steps=1)
    train(config, quiet=True)
    newest = tmp_path / "run" / "checkpoints" / "step-000001"
    real = sum((newest / name).stat().st_size for name in ("model.safetensors", "training.pt"))
    algorithm = build(config.algorithm, config.hyper_parameters)
    memory = step_memory(find_config(config.model, config.env), config, algorithm, dtype="float32")
    assert 0 <= real - checkpoint_bytes(config, memory) < 15_000  # names of tensors

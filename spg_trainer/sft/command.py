"""The `sft` command: a base model from an environment's demonstrations and habits, and what it is worth as a base.

What is learned is in `demonstrations.py`, how long and at which rate in `fitting.py`.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.evaluate import Evaluation, evaluate, make_env, train_longer
from spg_trainer.model_card import model_card
from spg_trainer.models import Policy, new_tiny, open_policy, tiny_tokenizer
from spg_trainer.rollout.sampler import get_decoder
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import (
    CHOOSE_ANOTHER,
    COMPLETE,
    CONTINUE,
    incomplete,
    write_folder,
    writing,
)
from spg_trainer.runs.folder import LOCK, lock, unlock
from spg_trainer.settings.adapters import settle
from spg_trainer.settings.checks import check_sft
from spg_trainer.settings.fields import Sampling, SftCommand
from spg_trainer.settings.sources import (
    SFT,
    differences,
    read_sft,
    recipe_kind,
    task_record,
    task_settings,
    to_json,
)
from spg_trainer.settings.values import flatten
from spg_trainer.sft.demonstrations import completion_length, mix_shares
from spg_trainer.sft.habits import NO_BASE, Look, look
from spg_trainer.sft.loop import Fit

EVAL_PROBLEMS = 256
"""Problems of each split that a finished model is evaluated on; some test splits have thousands."""
GROUPS, GENERATIONS = 32, 8
"""Validation problems, and completions of each, that show whether RL would find right and wrong answers to compare."""
MAY_CHANGE = frozenset("steps patience temperature per_device_batch_size output_dir resume config".split())
"""Settings that may change on resume."""


def sft(command: SftCommand, *, quiet: bool = False) -> Path:
    """Trains a model on demonstrations and writes it with environment.json and a model card; returns its folder.

    Raises:
        ConfigError: a number out of range, an unknown habit, a length that is too small, a folder that is not empty,
            or holds a model of other settings than those to resume.
        CheckpointError: the folder cannot be written, which is checked before the training.
        TrainingError: a gradient is not finite.
    """
    check_sft(command)
    console = Console(quiet=quiet)
    folder = choose_folder(command)
    with taken(folder):
        if not command.resume:
            refuse_used(folder)  # two may have passed the first look together
        make(command, folder, console)
    return folder


def make(command: SftCommand, folder: Path, console: Console) -> None:
    """What `sft` does once the folder is its own."""
    # The last is where the model will be evaluated: without problems there, nothing is begun.
    train, validation, _ = (make_env(command, split) for split in ("train", "validation", "test"))
    mix = mix_shares(command.mix, train)
    command = replace(command, model=settle(command.model))
    sampling = eval_sampling(command) if command.max_completion_length else None
    policy = base_policy(command)
    if sampling is None:
        command = replace(command, max_completion_length=completion_length(policy, train, mix))
        sampling = eval_sampling(command)
    if policy.note:
        console.warn(policy.note)
    fit = Fit(policy, train, validation, mix, command, sampling, folder)
    if before := earlier_settings(folder, command):
        resume(fit, before)
        console.say(f"Continuing {folder} from update {fit.progress.step}.")
    with console:
        fit.run(console)
        publish(fit, console)


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder that is made if it is not there; a new one without a file goes again."""
    new = not folder.exists()
    with writing(folder, CHOOSE_ANOTHER):
        folder.mkdir(parents=True, exist_ok=True)
        lock(folder)
    try:
        yield
    finally:
        (folder / LOCK).unlink(missing_ok=True)
        unlock(folder)
        if new and not any(folder.iterdir()):
            folder.rmdir()


def choose_folder(command: SftCommand) -> Path:
    """The folder to write: that to resume, or one that must be new or empty."""
    name = command.env.rpartition("/")[2]
    folder = Path(command.output_dir or f"models/{name}-sft-s{command.seed}")
    if command.resume not in (None, "auto"):
        if command.output_dir and folder.resolve() != Path(command.resume).resolve():
            text = f"--resume {command.resume} continues in its own folder, not in --output-dir {folder}"
            raise ConfigError(
                f"{text}. Leave that out, or train a new model from it: --model {command.resume}."
            )
        folder = Path(command.resume)
        if not (folder / SFT).is_file():
            raise ConfigError(f"--resume {folder}: it holds no {SFT}, so no `sft` has saved anything there.")
    if not (command.resume and (folder / SFT).is_file()):
        refuse_used(folder)
    return folder


def refuse_used(folder: Path) -> None:
    """Raises ConfigError unless a folder is new, or holds nothing but hidden files."""
    if folder.resolve() == Path.cwd():
        raise ConfigError(f"--output-dir {folder} is the folder you are in. Use e.g. {folder / 'model'}.")
    if folder.exists() and not (folder.is_dir() and all(p.name.startswith(".") for p in folder.iterdir())):
        more = ", or go on with the model there: --resume auto" if (folder / SFT).is_file() else ""
        raise ConfigError(
            f"--output-dir {folder} is no empty folder. Choose a new one, or remove it first{more}."
        )


def earlier_settings(folder: Path, command: SftCommand) -> SftCommand | None:
    """The settings a folder was begun with, None if it is new; ConfigError if this command may not go on there."""
    if not (folder / SFT).is_file():
        return None
    before = read_sft(folder / SFT)
    stretches = before.patience > 0 and command.patience > 0  # a cosine is of one length only
    ignored = MAY_CHANGE if stretches else MAY_CHANGE - {"steps", "patience"}
    if changed := differences(*(flatten(to_json(c), ignored) for c in (before, command))):
        raise ConfigError(
            f"{folder} was made with other settings: {changed}. Resume it with its own: sft --resume {folder}; or "
            f"start a second stage from its weights: --model {folder} --output-dir ANOTHER."
        )
    return before


def resume(fit: Fit, before: SftCommand) -> None:
    """Puts the newest checkpoint of the folder back; of a finished model, that before its rate fell."""
    folder, finished = fit.folder, incomplete(fit.folder) is None
    if path := checkpoint.latest_complete(folder):
        fit.restore(path)
    if (done := fit.progress.step) > fit.command.steps:
        raise ConfigError(
            f"{folder} goes on from update {done}, later than --steps {fit.command.steps}. Use {done} or more."
        )
    if not finished:
        return
    if path is None or not before.patience:
        raise ConfigError(
            f"{folder} is finished: its rate has fallen over {before.steps} updates. Train longer in a second stage, "
            f"from its weights: --model {folder} --output-dir ANOTHER."
        )
    if fit.progress.fall is None and fit.command.steps <= before.steps:
        raise ConfigError(
            f"{folder} is finished, after {before.steps} updates. Train longer with --steps {2 * before.steps}."
        )
    if fit.progress.fall is not None:
        fit.progress = replace(fit.progress, fall=None, stale=0)


def base_policy(command: SftCommand) -> Policy:
    """The model to train: a new one of the embedded kind, or an existing one."""
    m = command.model
    if m.model != "new":
        return open_policy(m, env=command.env, seed=command.seed)
    sizes = {"hidden_size": command.hidden_size, "layers": command.num_layers, "heads": command.num_heads}
    model = new_tiny(**sizes, ffn=command.intermediate_size, seed=command.seed)
    if m.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if m.device == "auto" else m.device
    tokenizer = tiny_tokenizer()
    ends = (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>"))
    return Policy(model.to(device), tokenizer, tokenizer.mask_token_id, tokenizer.pad_token_id, ends, "new")


def eval_sampling(command: SftCommand) -> Sampling:
    """Greedy decoding at the command's length, with its own block, steps and remasking where it has them.

    Else a tiny model unmasks one token a step, others as many as the preset; the preset's blocks if they divide the
    length, else one block.
    """
    kind = recipe_kind(command.model.model)
    preset = task_settings(command.env, command.model.model).rollout
    length, block = command.max_completion_length, command.block_length or preset.block_length
    if not command.block_length and length % block:
        block = length
    remasking = command.remasking or preset.remasking
    get_decoder(remasking)
    if not command.diffusion_steps:
        rate = 1 if kind == "tiny" else preset.tokens_per_step
        return Sampling.at_rate(length, block, rate, remasking=remasking)
    sampling = Sampling(length, block, command.diffusion_steps, remasking=remasking)
    sampling.check()
    return sampling


def publish(fit: Fit, console: Console) -> None:
    """Writes the model with its card into its folder, beside what it can go on from, and says what it is worth."""
    policy, command, folder = fit.policy, fit.command, fit.folder
    dtypes = (torch.bfloat16 if command.save_dtype == "bfloat16" else policy.model.dtype, policy.model.dtype)
    for dtype in dtypes:  # rounded if asked for: what is evaluated is what is saved
        policy.model.to(dtype)
    results = {split: evaluate_split(policy, command, split, console) for split in ("test", "validation")}
    greedy = look(fit.validation, results["validation"].rows)
    sampled = look(fit.validation, fit.sample(GROUPS, GENERATIONS))
    aside = folder / ".model"

    def write(place: Path) -> None:
        checkpoint.write_model(place, policy, task_record(command, fit.sampling))
        (place / SFT).write_text(fit.settings, encoding="utf-8")
        (place / "README.md").write_text(model_card(fit, results, greedy, sampled), encoding="utf-8")

    policy.model.to(dtypes[0])
    write_folder(aside, write, CONTINUE)
    policy.model.to(dtypes[1])
    with writing(folder, CONTINUE):
        (folder / COMPLETE).unlink(missing_ok=True)
        for path in sorted(aside.iterdir(), key=lambda path: path.name == COMPLETE):  # that one last
            os.replace(path, folder / path.name)
        aside.rmdir()
    for line in closing_lines(fit, results, greedy, sampled):
        console.say(line)
    if sampled.problem:
        console.warn(f"{NO_BASE}: {sampled.problem}. {train_longer(command, str(folder), fit.train)}")


def closing_lines(fit: Fit, results: Mapping[str, Evaluation], greedy: Look, sampled: Look) -> list[str]:
    """What was made, what it is worth as a base, and what to type next."""
    p, command = fit.progress, fit.command
    name = fit.train.spec_name
    lines = [
        f"{p.step} updates, {p.seconds / 60:.1f} minutes; the best validation loss, {p.best_loss:.4f} nats per token, "
        f"was after {p.best_step}."
    ]
    lines += [
        f"{name}, solved on {split}, greedy: {r.solved.removeprefix('solved ')}."
        for split, r in results.items()
    ]
    lines += [
        f"Validation completions, greedy: {greedy.shares}.",
        f"At temperature {command.temperature:g}: {sampled.shares}; {sampled.signal}.",
        f"The model is in {fit.folder}. Train it: python -m spg_trainer --env {command.env} --model {fit.folder}",
    ]
    return lines


def evaluate_split(policy: Policy, command: SftCommand, split: str, console: Console) -> Evaluation:
    """The greedy solved rate of what was made, on up to 256 problems."""
    env, sampling = make_env(command, split), eval_sampling(command)
    count = min(EVAL_PROBLEMS, len(env))
    with console.progress(count, f"eval {split}") as advance:
        return evaluate(policy, env, sampling, split=split, num_problems=count, advance=advance)

"""How a run is put together from its settings, anew or from a checkpoint."""

from dataclasses import asdict, replace
from pathlib import Path

import torch
from accelerate import Accelerator

from spg_trainer import algorithms
from spg_trainer.distributed import decide_on_main, gather, raising_on_all
from spg_trainer.errors import CheckpointError
from spg_trainer.models import Policy, divide_policy, open_policy
from spg_trainer.models.shard import unsharded
from spg_trainer.models.states import base_model, trainable_parameters
from spg_trainer.rollout.cache import budget
from spg_trainer.rollout.collect import EnvironmentSource
from spg_trainer.rollout.pairs import PairFile, settle_pairs
from spg_trainer.rollout.tokens import length_warning
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console
from spg_trainer.runs.files import incomplete
from spg_trainer.runs.folder import RunFolder, choose_folder
from spg_trainer.runs.identity import refuse_changes
from spg_trainer.runs.machine import crowded_cores
from spg_trainer.runs.own_code import ALGORITHM, ENVIRONMENT, keep, refuse_changed_files
from spg_trainer.runs.tracking import Trackers
from spg_trainer.settings.adapters import REFERENCE, find_adapter, settle
from spg_trainer.settings.fields import Config
from spg_trainer.settings.sources import CONFIG, model_environment, to_yaml
from spg_trainer.training.dry_run import arithmetic, check_attention, examine
from spg_trainer.training.optimize import make_optimizer
from spg_trainer.training.records import environment_record
from spg_trainer.training.run import Run, TrainingState
from spg_trainer.training.warnings import form_warning


def start(config: Config, *, quiet: bool = False) -> Run:
    """Checks the settings, loads everything, and continues from a checkpoint where `resume` says so."""
    device = config.model.device
    accelerator = Accelerator(cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()))
    with raising_on_all():
        algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
        config = settle_pairs(config)
    path, newest = decide_on_main(lambda: choose_folder(config))
    with raising_on_all():
        if config.output.resume and (path / CONFIG).is_file():
            refuse_changes(path / CONFIG, config)
            refuse_changed_files(path, config)
        config = replace(config, model=settle(config.model, path), algorithm_args=asdict(algorithm))
        splits = examine(config, algorithm, accelerator.num_processes)
    policy = open_model(config, algorithm, path, newest, accelerator)
    with raising_on_all():
        check_attention(config, algorithm, base_model(policy.model).pattern)
    rows_per_forward = None if policy.device.type == "cpu" else 4 * config.batch.per_device_batch_size
    with raising_on_all():
        if config.pairs:
            source = PairFile(config, policy)
        else:
            source = EnvironmentSource(
                splits["train"], policy, config, rows_per_forward, algorithm.whole_groups
            )
    with raising_on_all():
        optimizer = make_optimizer(config.optimizer, trainable_parameters(policy.model).values())
    state, folder = TrainingState(), RunFolder(path)
    if newest is not None:
        with raising_on_all():
            saved = checkpoint.load(newest, policy, optimizer)
            state = TrainingState(**{name: saved[name] for name in ("step", "updates", "skipped", "seconds")})
    run = Run(
        config=config,
        state=state,
        policy=policy,
        algorithm=algorithm,
        optimizer=optimizer,
        source=source,
        splits=splits,
        folder=folder,
        console=Console(quiet=quiet),
        trackers=Trackers(),
        accelerator=accelerator,
        rows_per_forward=rows_per_forward,
    )
    prepare_folder(run)
    introduce(run)
    state.history = decide_on_main(folder.history)
    if config.eval.eval_steps and newest is not None:  # else the start's is made again, and its weights saved
        state.validations = decide_on_main(folder.validations)
    run.trackers.open(config.output.track, path, config)
    return run


def open_model(
    config: Config, algorithm: algorithms.Algorithm, run: Path, newest: Path | None, accelerator: Accelerator
) -> Policy:
    """The model to train; of a run that continues with a reference, from its own copy of what it started from."""
    kept = decide_on_main(lambda: kept_weights(config, run, newest)) if algorithm.needs_ref_logps else None
    device = str(accelerator.device) if config.model.device == "auto" else config.model.device
    with raising_on_all():
        policy = open_policy(
            replace(config.model, model=str(kept)) if kept else config.model,
            env=config.env,
            seed=config.seed,
            device=device,
            reference=algorithm.needs_ref_logps,
        ).ending_with(algorithm.end_tokens)
    if config.model.shard:
        divide_policy(policy, config.model, device)
    if kept:
        policy.source = model_environment(str(kept))["base_model"]
    return policy


def introduce(run: Run) -> None:
    """The first lines of a run: what it trains on what, and what the user should know before."""
    config, console, path = run.config, run.console, run.folder.path
    env, crowded = run.source.env, crowded_cores(run.policy.device)
    form, short = "", ""
    if env is not None:
        form = form_warning(run.algorithm, env.reward_weights)
        short = length_warning(run.policy, env, config.rollout.max_completion_length)
    for note in (run.policy.note, run.source.notice, crowded, form, short):
        if note:
            console.warn(note)
    if run.state.step:
        console.say(f"Continuing {path} from step {run.state.step}.")
    devices = gather([str(run.policy.device)])
    where = f"{len(devices)} process{'es' * (len(devices) > 1)} on {', '.join(dict.fromkeys(devices))}"
    console.say(
        f"{run.splits['train'].spec_name}, {config.algorithm}, model {config.model.model}, {where}; run folder {path}"
    )
    console.say(arithmetic(config, run.algorithm, run.accelerator.num_processes))
    if config.rollout.cache != "none" and env is not None:
        rows = -(-config.batch.prompts_per_step * config.batch.num_generations // len(devices))
        with unsharded(run.policy.model):  # apart, weights have the type that is trained
            model = run.policy.model
            console.say(
                budget(model.config, model.dtype, model.device, config.rollout, rows, run.rows_per_forward)
            )


def prepare_folder(run: Run) -> None:
    """Makes the run folder, or cuts what is later than the checkpoint; keeps what a resumed run cannot make again."""
    config, path, policy = run.config, run.folder.path, run.policy
    # What a new run with --config needs, and the next --resume: without the folder that this run resumed from.
    settings = to_yaml(replace(config, output=replace(config.output, resume=None)))
    with raising_on_all():
        if (path / CONFIG).is_file():
            run.folder.truncate_after(run.state.step)
            run.folder.config(settings)
        else:
            run.folder.create(settings, environment_record(run))
        if run.accelerator.is_main_process:
            keep(path, ENVIRONMENT, config.env)
            keep(path, ALGORITHM, config.algorithm)
    kept = run.algorithm.needs_ref_logps and not policy.fresh_adapters
    if kept and decide_on_main(lambda: incomplete(path / REFERENCE)):
        with raising_on_all():
            checkpoint.export(path / REFERENCE, policy, environment_record(run))


def kept_weights(config: Config, run: Path, newest: Path | None) -> Path | None:
    """The run's own copy of the weights it started from; None before it is written, and for fresh adapters.

    Raises CheckpointError if a run with a checkpoint has lost its copy.
    """
    folder = run / REFERENCE
    if not (config.model.ref_copy or find_adapter(config.model.model) or folder.is_dir()):
        return None
    problem = incomplete(folder)
    if problem and newest:
        text = f"{folder} {problem}: the reference of this run cannot be made again from trained weights"
        raise CheckpointError(f"{text}. Restore it, or start a new run with another --output-dir.")
    return None if problem else folder

"""A run: put together from its settings (`start`), with the counters, files and lines that each step leaves behind."""

import platform
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator

from spg_trainer import __version__, algorithms
from spg_trainer.distributed import decide_on_main, gather, missing_processes, raising_on_all
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.evaluation.evaluate import Evaluation, evaluate, make_env
from spg_trainer.models import Policy, open_policy
from spg_trainer.rollout.pairs import Preferences, open_pairs, settle_pairs
from spg_trainer.rollout.problems import Returning
from spg_trainer.rollout.sampler import get_decoder
from spg_trainer.rollout.scored import Scored, check_prompts, sample_rows
from spg_trainer.runs import checkpoint
from spg_trainer.runs.console import Console, processes_line
from spg_trainer.runs.environment_file import keep
from spg_trainer.runs.files import incomplete
from spg_trainer.runs.folder import REPORT, RunFolder, find_unfinished
from spg_trainer.runs.tracking import Trackers, check_trackers, open_trackers
from spg_trainer.settings.adapters import REFERENCE, settle
from spg_trainer.settings.checks import check
from spg_trainer.settings.fields import Config, Sampling, arithmetic
from spg_trainer.settings.packages import envs
from spg_trainer.settings.sources import (
    CONFIG,
    model_environment,
    read_config,
    refuse_changes,
    task_record,
    to_yaml,
)
from spg_trainer.training import validation
from spg_trainer.training.optimizer import Guard, linear_decay, make_adamw
from spg_trainer.training.warnings import diagnose

if TYPE_CHECKING:
    from envs import TextEnv


@dataclass
class Run:
    """Everything a training step needs, and the counters that a checkpoint keeps."""

    config: Config
    accelerator: Accelerator
    policy: Policy
    env: "TextEnv"
    algorithm: algorithms.Algorithm
    optimizer: torch.optim.Optimizer
    folder: RunFolder
    console: Console
    trackers: Trackers = field(default_factory=Trackers)
    guard: Guard = field(default_factory=Guard)
    history: list[dict[str, Any]] = field(default_factory=list)
    """The rows of metrics.jsonl."""
    step: int = 0
    """Finished steps."""
    updates: int = 0
    """Applied updates."""
    validations: dict[int, list[bool]] = field(default_factory=dict)
    """Step -> whether each validation problem was solved; empty where --eval-steps is 0."""
    earlier_seconds: float = 0.0
    """Time that earlier processes of this run took, up to the checkpoint."""
    returning: Returning = field(default_factory=dict)
    """Problems that later steps take again; none unless --problem-choice is mixed."""
    skipped: int = 0
    """Non-finite updates in a row at the end of the last finished step."""
    started: float = field(default_factory=time.monotonic)
    """When this process began, on the monotonic clock."""
    spent: float = 0.0
    """Share of --max-minutes, and of the time before, that was over when the next step began; of all processes."""
    stop: bool = False
    """Whether the user asked to end after this step."""
    evaluating: bool = False
    """Whether to end at once when asked: a resumed run makes an evaluation again. Several processes stay together."""
    pairs: Preferences | None = None
    """What steps learn from in place of completions of `env`."""
    splits: Mapping[str, "TextEnv"] = field(default_factory=dict)
    """`env` in each split that is evaluated."""
    clean: bool = True
    """Whether the weights are those of the last finished step, and its row is written."""

    @property
    def seconds(self) -> float:
        """Time spent on this run, over all resumes."""
        return self.earlier_seconds + time.monotonic() - self.started

    @property
    def sampling(self) -> Sampling:
        """How the next step's completions are sampled."""
        return self.config.rollout

    @property
    def rows_per_forward(self) -> int | None:
        """Completions decoded at once: four times as many as may hold a graph; on a CPU what stays in its cache."""
        return None if self.policy.device.type == "cpu" else 4 * self.config.batch.per_device_batch_size

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The trainable parameters, in the model's order."""
        return [p for p in self.policy.model.parameters() if p.requires_grad]

    def due(self, every: int) -> bool:
        """Whether what happens every so many steps happens at this one; the last step counts."""
        return every > 0 and (self.step % every == 0 or self.step == self.config.max_steps)

    def environment(self) -> dict[str, Any]:
        """What environment.json holds."""
        kept = self.folder.path / REFERENCE  # may outlive what it was copied from
        model = replace(self.config.model, model=str(kept)) if kept.is_dir() else self.config.model
        made = replace(self.config, model=model)
        return {
            **task_record(made, self.config.rollout, origin=dict(self.env.origin)),
            "ends": self.algorithm.end_tokens,
            "dtype": str(self.policy.model.dtype).removeprefix("torch."),
            "base_model": self.policy.source,
            "versions": versions(),
        }

    def save(self) -> None:
        """Writes a checkpoint of the last finished step."""
        checkpoint.save(
            self.folder.path,
            self.step,
            self.policy,
            self.optimizer.state_dict() if self.accelerator.is_main_process else {},
            state={
                "updates": self.updates,
                "seconds": self.seconds,
                "skipped": self.skipped,
                "returning": [*self.returning.items()],
            },
            environment=self.environment(),
            keep=self.config.output.keep,
            validations=self.validations,
        )

    def restore(self, path: Path) -> None:
        """Puts a checkpoint's weights, optimizer and counters back."""
        state = checkpoint.load(path, self.policy, self.optimizer)
        self.step, self.updates, self.earlier_seconds = state["step"], state["updates"], state["seconds"]
        self.guard.skipped = self.skipped = state["skipped"]
        self.returning = dict(state.get("returning", ()))  # older checkpoints have none

    def record_step(
        self, scored: Scored, advantages: torch.Tensor, metrics: dict[str, Any], timings: dict[str, Any]
    ) -> None:
        """Writes and shows a finished step; from here on what is saved contains it.

        metrics, timings: rows for metrics.jsonl and timings.jsonl; `step` is added. advantages: (B,).
        """
        output, metrics = self.config.output, {"step": self.step, **metrics}
        source = self.pairs or self.env
        self.folder.metrics(metrics)
        self.folder.timings({"step": self.step, **timings})
        self.trackers.log({**timings, **metrics}, self.step)
        self.clean, self.skipped = True, self.guard.skipped
        self.history.append(metrics)
        if self.due(output.sample_steps):
            rows = sample_rows(scored, policy=self.policy, env=source, step=self.step, advantages=advantages)
            rows = gather(rows)
            self.folder.samples(self.step, rows)
            self.trackers.table("samples", rows, self.step)
        figures = {**metrics, **timings}
        if (solved := self.validate()) is not None:
            figures["validation"] = solved
        limit = 60 * self.config.max_minutes
        left = max(0.0, limit - (time.monotonic() - self.started)) if limit else None
        self.console.step(figures, total=self.config.max_steps, seconds_left=left)
        if self.due(output.render_steps):
            self.console.say(source.render_text(scored.problems[0], scored.completions[0]))
        right_teach = self.algorithm.advantage == "share"
        for warning in diagnose(self.history, negatives=self.has_negatives, right_teach=right_teach):
            self.console.warn(warning)

    def validate(self, last: bool = False) -> float | None:
        """Validates the finished step, where its turn has come and this run has not; returns the solved rate.

        A new best is saved; a fall below the start is told. last: whether the run ends here, so that its turn has come.
        """
        settings = self.config.eval
        if not settings.eval_steps or self.step in self.validations:
            return None
        if not (last or self.due(settings.eval_steps)):
            return None
        result = self.evaluate(f"step-{self.step:06d}", "validation", self.step, settings.validation_problems)
        self.validations[self.step] = [row["correct"] for row in result.rows]
        if validation.best_step(self.validations) == self.step:
            self.save()
        falls = self.config.optimizer.lr_schedule == "linear"
        how = {"stops": False, "falls": falls, "negatives": self.has_negatives}
        if text := validation.warning(self.validations, **how):
            self.console.warn(text)
        return result.correct

    @property
    def has_negatives(self) -> bool:
        """Whether the algorithm pushes bad completions down, and can do without."""
        return getattr(self.algorithm, "negatives", "zero") != "zero"

    def keep_best(self) -> int:
        """Writes model/ and returns its step: the best by validation, else the last. Its weights are loaded then."""
        step = decide_on_main(self.best_kept)
        if step != self.step:
            with raising_on_all():
                checkpoint.load(checkpoint.at_step(self.folder.path, step), self.policy)
        checkpoint.export(self.folder.path / "model", self.policy, {**self.environment(), "step": step})
        return step

    def best_kept(self) -> int:
        """The best step whose weights are there, or the last; a better one whose checkpoint was lost is told."""
        if not self.validations:
            return self.step
        best = validation.best_step(self.validations)
        places = {step: checkpoint.at_step(self.folder.path, step) for step in self.validations}
        lost = {s: why for s, place in places.items() if s != self.step and (why := incomplete(place))}
        if best not in lost:
            return best
        step = validation.best_step({s: v for s, v in self.validations.items() if s not in lost})
        fewer = sum(self.validations[step]) < sum(self.validations.get(0, ()))
        worse = ", which solves fewer validation problems than the start" if fewer else ""
        self.console.warn(f"{places[best]}, the best step, {lost[best]}; model/ is step {step}{worse}.")
        return step

    def evaluate(self, name: str, split: str, step: int, num_problems: int) -> Evaluation:
        """Evaluates the weights of `step` on a split, at --eval-temperature, and writes eval/NAME."""
        env = self.splits[split]
        count = min(num_problems or len(env), len(env))
        self.evaluating = self.accelerator.num_processes == 1
        try:
            with self.console.progress(count, f"eval {name} ({split})") as advance:
                result = evaluate(
                    self.policy,
                    env,
                    replace(self.config.rollout, temperature=0.0),
                    split=split,
                    num_problems=count,
                    seed=self.config.seed,
                    rows_per_forward=self.rows_per_forward,
                    accelerator=self.accelerator,
                    advance=advance,
                )
        finally:
            self.evaluating = False
        with raising_on_all():
            self.folder.evaluation(name, {"step": step, **result.summary()}, result.rows)
        figures = {**result.rewards, "correct": result.correct, "low": result.low, "high": result.high}
        figures["mean_length"] = result.mean_length
        self.trackers.log({f"eval/{split}/{key}": value for key, value in figures.items()}, self.step)
        self.trackers.table(f"eval/{split}/samples", result.rows, self.step)
        self.console.say(f"{env.spec_name} {split} {name}: {result.solved}")
        return result

    def evaluate_once(self, name: str, step: int) -> dict[str, Any]:
        """The figures of an evaluation of `step`'s weights on --eval-split, read again where this run has made it."""
        found = decide_on_main(lambda: self.folder.figures(name))
        if found and found.get("step", step) == step:
            return found
        settings = self.config.eval
        result = self.evaluate(name, settings.eval_split, step, settings.eval_problems)
        return {"step": step, **result.summary()}

    def evaluate_before(self) -> dict[str, Any]:
        """The evaluation of the base model; CheckpointError if it was lost."""
        file = self.folder.evaluation_path("before")
        if self.step > 0 and not decide_on_main(file.is_file):
            text = f"{file} is missing and cannot be made again after step {self.step}"
            raise CheckpointError(f"{text}. Restore it, or start a new run with another --output-dir.")
        return self.evaluate_once("before", 0)

    def report(self) -> None:
        """Writes report.html; what stands in its way is told, and fails nothing."""
        if not (self.config.output.report and self.accelerator.is_main_process):
            return
        from spg_trainer.reporting.page import report

        path = self.folder.path
        try:
            self.console.say(f"Report: {report(path).save(path / REPORT)}")
        except Exception as error:  # a finished run is worth more than its picture
            again = f"Try again with: python -m spg_trainer report {path}"
            self.console.warn(f"{REPORT} was not written ({type(error).__name__}: {error}). {again}")

    def summary(self, before: dict[str, Any], after: dict[str, Any], ended_by: str) -> dict[str, Any]:
        """What summary.json holds. after: of model/. ended_by: the flag that ended the run."""
        keys = ("correct", "n", "low", "high", "rewards", "mean_length", "clipped_ratio", "settings")
        return {
            "env": self.env.spec_name,
            "algorithm": self.config.algorithm,
            "seed": self.config.seed,
            "steps": self.step,
            "max_steps": self.config.max_steps,
            "ended_by": ended_by,
            "updates": self.updates,
            "seconds": round(self.seconds, 1),
            "eval_before": {key: before[key] for key in keys},
            "eval_after": {key: after[key] for key in keys},
            "gain": after["correct"] - before["correct"],
            "validation": validation.summary(self.validations, after["step"]),
            "model": str(self.folder.path / "model"),
            "base_model": self.policy.source,
            "processes": self.accelerator.num_processes,
            "device": str(self.accelerator.device),
            "threads": torch.get_num_threads(),
            "versions": versions(),
        }


def start(config: Config, *, quiet: bool = False) -> Run:
    """Checks the settings, loads everything, and continues from a checkpoint where `resume` says so."""
    device = config.model.device
    accelerator = Accelerator(cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()))
    with raising_on_all():
        algorithm = algorithms.build(config.algorithm, config.hyper_parameters)
        config = settle_pairs(config)
    path, newest = decide_on_main(lambda: choose_folder(config))
    with raising_on_all():
        config = replace(config, model=settle(config.model, path))
        check(config, algorithm, accelerator.num_processes)
        get_decoder(config.rollout.remasking)
        check_trackers(config.output.track)
        env = make_env(config, "train")
        if config.pairs is None:
            check_prompts(config.batch.prompts_per_step, env)
        splits = open_splits(config)
    console = Console(quiet=quiet)
    kept = decide_on_main(lambda: kept_weights(config, path, newest)) if algorithm.needs_ref_logps else None
    with raising_on_all():
        policy = open_policy(
            replace(config.model, model=str(kept)) if kept else config.model,
            env=config.env,
            seed=config.seed,
            device=str(accelerator.device) if device == "auto" else device,
            reference=algorithm.needs_ref_logps,
        ).ending_with(algorithm.end_tokens)
        pairs = open_pairs(config, policy) if config.pairs else None
    if kept:
        policy.source = model_environment(str(kept))["base_model"]
    for note in (policy.note, env.notice, pairs and pairs.note):
        if note:
            console.warn(note)
    o = config.optimizer
    trainable = [p for p in policy.model.parameters() if p.requires_grad]
    betas = o.adam_beta1, o.adam_beta2
    optimizer = make_adamw(trainable, o.learning_rate, o.weight_decay, betas, o.adam_epsilon)
    folder, more = RunFolder(path), {"pairs": pairs, "splits": splits}
    run = Run(config, accelerator, policy, env, algorithm, optimizer, folder, console, **more)
    if newest is not None:
        with raising_on_all():
            run.restore(newest)
        console.say(f"Continuing {path} from step {run.step}.{rate_note(run)}")
    if absent := missing_processes(accelerator.num_processes):
        console.warn(absent)
    where = processes_line(gather([str(policy.device)]))
    console.say(
        f"{env.spec_name}, {config.algorithm}, model {config.model.model}, {where}; run folder {path}"
    )
    if config.model.lora_dropout and (algorithm.needs_old_logps or algorithm.needs_ref_logps):
        console.warn(
            f"dropout {config.model.lora_dropout} acts on updates, not on old and reference log-probabilities, so that "
            "ratios differ from 1 before any step. --lora-dropout 0 makes them exact."
        )
    console.say(arithmetic(config, algorithm, accelerator.num_processes))
    # What a new run with --config needs, and the next --resume: without the folder that this run resumed from.
    settings = to_yaml(replace(config, output=replace(config.output, resume=None)))
    with raising_on_all():
        if (path / CONFIG).is_file():
            run.folder.truncate_after(run.step)
            run.folder.config(settings)
        else:
            run.folder.create(settings, run.environment())
        if accelerator.is_main_process:
            keep(path, config.env)
    run.history = decide_on_main(run.folder.history)  # it steers the temperature of all processes
    if config.eval.eval_steps and newest is not None:  # else the start's is made again, and its weights saved
        run.validations = decide_on_main(run.folder.validations)
    if algorithm.needs_ref_logps and not policy.fresh_adapters and not kept:
        with raising_on_all():
            checkpoint.export(path / REFERENCE, policy, run.environment())
    run.trackers = Trackers(open_trackers(config.output.track, path, config))
    return run


def rate_note(run: Run) -> str:
    """Where a resumed run's --max-steps takes a rate that falls over it; empty where it stays as it was."""
    before, now = read_config(run.folder.path / CONFIG).max_steps, run.config.max_steps
    o = run.config.optimizer
    if o.lr_schedule != "linear" or before == now or run.step >= now:
        return ""
    new, old = (
        o.learning_rate * linear_decay(run.step, steps) if run.step < steps else 0.0
        for steps in (now, before)
    )
    falls = f" --lr-schedule linear falls over {now} steps, no longer {before}"
    return f"{falls}: the rate goes on at {new:.2g}, not {old:.2g}."


def open_splits(config: Config) -> "dict[str, TextEnv]":
    """The environment in the splits that a run evaluates on; ConfigError if it has no validation problems."""
    splits = {config.eval.eval_split: make_env(config, config.eval.eval_split)}
    if config.eval.eval_steps and "validation" not in splits:
        try:
            splits["validation"] = make_env(config, "validation")
        except envs.EnvError as error:
            text = f"{error} Validation needs this split: --eval-steps 0 trains without."
            raise ConfigError(text) from error
    return splits


def kept_weights(config: Config, run: Path, newest: Path | None) -> Path | None:
    """The run's own copy of the weights it started from; None before it is written, and for fresh adapters.

    Raises CheckpointError if a run with a checkpoint has lost its copy.
    """
    folder = run / REFERENCE
    if not (config.model.ref_copy or config.model.is_adapter or folder.is_dir()):
        return None
    problem = incomplete(folder)
    if problem and newest:
        text = f"{folder} {problem}: the reference of this run cannot be made again from trained weights"
        raise CheckpointError(f"{text}. Restore it, or start a new run with another --output-dir.")
    return None if problem else folder


def choose_folder(config: Config) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint to continue from if there is one.

    Raises SpgError if the folder is taken, or is no run of these settings.
    """
    resume, out = config.output.resume, config.output.output_dir
    if resume is None:
        env = re.split(r"[:/]", config.env)[-1]
        path = Path(out) if out else RunFolder.default_path(env, config.algorithm, config.seed)
        RunFolder(path).refuse_other_run()
        return path, None
    if resume == "auto":
        path = Path(out) if out else find_unfinished(Path("runs"), config)
        if path is None:
            text = "--resume auto: runs/ holds no unfinished run of these settings"
            raise ConfigError(f"{text}. Give its folder with --output-dir, or leave out --resume.")
        newest = checkpoint.latest_complete(path)
    else:
        path, newest = checkpoint.locate(Path(resume))
        if out and Path(out).resolve() != path.resolve():
            text = f"--resume {resume} continues in its own folder {path}, not in --output-dir {out}"
            raise ConfigError(
                f"{text}. Leave that out, or start a new run from these weights: --model {resume}."
            )
    if (path / CONFIG).is_file():
        refuse_changes(path / CONFIG, config)
    elif resume != "auto":
        raise ConfigError(f"--resume {resume}: {path} holds no run. Give a run folder or a checkpoint of it.")
    return path, newest


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    names = ("torch", "transformers", "accelerate", "peft", "numpy", "numba", "gymnasium")
    ours = {"python": platform.python_version(), "spg-trainer": __version__}
    return ours | {name: version(name) for name in names}

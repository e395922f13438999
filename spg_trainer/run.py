"""Puts a run together from its settings: processes, model, environment, algorithm, optimizer, folder, console."""

import platform
import re
import time
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list

from spg_trainer import algorithms, checkpoint
from spg_trainer.config import Config, Sampling
from spg_trainer.console import Console
from spg_trainer.demonstrations import suggestion
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.files import write_whole
from spg_trainer.installed import envs
from spg_trainer.models import Policy, open_policy
from spg_trainer.optimizer import Guard, make_adamw
from spg_trainer.resolve import preset_kind
from spg_trainer.run_folder import CONFIG, RunFolder, find_unfinished
from spg_trainer.settings import FREE, algorithm_args, arithmetic, check, plain, refuse_changes, to_yaml
from spg_trainer.tracking import Tracker, check_trackers, open_trackers

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
    tracker: Tracker | None = None
    guard: Guard = field(default_factory=Guard)
    history: list[dict[str, Any]] = field(default_factory=list)
    """The rows of metrics.jsonl."""
    step: int = 0
    """Finished steps."""
    updates: int = 0
    """Applied updates."""
    seconds: float = 0.0
    """Time spent in finished steps and evaluations, over all resumes."""
    skipped: int = 0
    """Non-finite updates in a row at the end of the last finished step."""
    started: float = field(default_factory=time.monotonic)
    """When this process began, on the monotonic clock."""
    stop: bool = False
    """Whether the user asked to end after this step."""
    clean: bool = True
    """Whether the weights are those of the last finished step, and its row is written."""

    @property
    def sampling(self) -> Sampling:
        """How training completions are drawn."""
        return Sampling(**asdict(self.config.rollout))

    @property
    def eval_sampling(self) -> Sampling:
        """How evaluations are decoded: the same lengths, another temperature."""
        return replace(self.sampling, temperature=self.config.eval.eval_temperature)

    @property
    def rows_per_forward(self) -> int | None:
        """Completions decoded at once: four times as many as may hold a graph; on a CPU what stays in its cache."""
        return None if self.policy.device.type == "cpu" else 4 * self.config.batch.per_device_batch_size

    @property
    def parameters(self) -> list[torch.Tensor]:
        """The trainable parameters, in the model's order."""
        return [p for p in self.policy.model.parameters() if p.requires_grad]

    def environment(self) -> dict[str, Any]:
        """What goes into environment.json: the task a model belongs to, the lengths it was trained at, versions."""
        rollout = self.config.rollout
        return {
            "env": self.config.env,
            "env_args": dict(self.config.env_args),
            "origin": dict(self.env.origin),
            "preset": preset_kind(self.config.model.model),
            "rollout": {
                "max_completion_length": rollout.max_completion_length,
                "block_length": rollout.block_length,
                "diffusion_steps": rollout.diffusion_steps,
                "remasking": rollout.remasking,
            },
            "ends": self.algorithm.end_tokens,
            "dtype": str(self.policy.model.dtype).removeprefix("torch."),
            "base_model": self.policy.source,
            "versions": versions(),
        }

    def save(self) -> None:
        """Writes a checkpoint of the last finished step."""
        state = {"updates": self.updates, "seconds": self.seconds, "skipped": self.skipped}
        optimizer = self.optimizer.state_dict() if self.accelerator.is_main_process else {}
        checkpoint.save(
            self.folder.path,
            self.step,
            self.policy,
            optimizer,
            state=state,
            environment=self.environment(),
            keep=self.config.output.keep,
        )

    def restore(self, found: Path) -> None:
        """Puts a checkpoint's weights, optimizer and counters back."""
        state = checkpoint.load(found, self.policy, self.optimizer)
        self.step, self.updates, self.seconds = state["step"], state["updates"], state["seconds"]
        self.guard.skipped = self.skipped = state["skipped"]

    def finish_step(self) -> None:
        """From here on the step is done: what is saved now contains it."""
        self.clean, self.skipped = True, self.guard.skipped


def start(config: Config, *, quiet: bool = False) -> Run:
    """Checks the settings, loads everything, and continues from a checkpoint where `resume` says so."""
    device = config.model.device
    accelerator = Accelerator(cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()))
    algorithm = algorithms.build(config.algorithm, algorithm_args(config))
    check(config, algorithm, accelerator.num_processes)
    check_trackers(config.output.track)
    env = make_env(config, "train")
    if config.batch.prompts_per_step > len(env):
        raise ConfigError(
            f"--prompts-per-step {config.batch.prompts_per_step}: {env.spec_name} has {len(env)} problems. Use fewer."
        )
    console = Console(quiet=quiet or not accelerator.is_main_process)
    path, found = find_folder(config, accelerator)
    place = str(accelerator.device) if device == "auto" else device
    policy = open_policy(config.model, env=config.env, seed=config.seed, device=place)
    policy = policy.ending_with(algorithm.end_tokens)
    if policy.note:
        console.warn(policy.note + suggestion(env))
    if env.notice:
        console.warn(env.notice)
    o = config.optimizer
    trainable = [p for p in policy.model.parameters() if p.requires_grad]
    optimizer = make_adamw(trainable, o.learning_rate, o.weight_decay, (o.adam_beta1, o.adam_beta2))
    run = Run(config, accelerator, policy, env, algorithm, optimizer, RunFolder(path), console)
    if found is not None:
        run.restore(found)
        console.say(f"Continuing {path} from step {run.step}.")
    console.say(f"{env.spec_name}, {config.algorithm}, model {config.model.model}; run folder {path}")
    console.say(arithmetic(config, algorithm.num_masks, accelerator.num_processes))
    if (path / CONFIG).is_file():
        run.folder.truncate_after(run.step)
        if accelerator.is_main_process:
            write_whole(path / CONFIG, recorded(config))  # the next --resume starts from these settings
        run.history = run.folder.history()
    else:
        run.folder.create(recorded(config), run.environment())
    run.tracker = Tracker(run.folder, open_trackers(config.output.track, run.folder, asdict(config)))
    return run


def recorded(config: Config) -> str:
    """The text of config.yaml: what a new run with --config needs, so without the folder this one went on from."""
    return to_yaml(replace(config, output=replace(config.output, resume=None)))


def make_env(config: Config, split: str) -> "TextEnv":
    """The environment of a run, in one of its splits."""
    weights = {"reward_weights": dict(config.reward_weights)} if config.reward_weights else {}
    return envs.make(config.env, split=split, **weights, **config.env_args)


def find_folder(config: Config, accelerator: Accelerator) -> tuple[Path, Path | None]:
    """The run folder, and the checkpoint to continue from if there is one; the main process decides for all."""
    if accelerator.num_processes == 1:
        return choose_folder(config)
    answer: list[Any] = [None, None, ""]
    if accelerator.is_main_process:
        try:
            answer[:2] = choose_folder(config)
        except SpgError as error:
            answer[2] = str(error)
    path, found, problem = broadcast_object_list(answer)
    if problem:
        raise ConfigError(problem)
    return path, found


def choose_folder(config: Config) -> tuple[Path, Path | None]:
    """As `find_folder`, on one process. Raises SpgError if the folder is taken, or is no run of these settings."""
    resume, out = config.output.resume, config.output.output_dir
    if resume is None:
        path = Path(out) if out else RunFolder.default_path(spec_label(config), config.algorithm, config.seed)
        RunFolder(path).refuse_other_run()
        return path, None
    if resume == "auto" and not out:
        newest = find_unfinished(Path("runs"), plain(asdict(config)), ignore=sorted(FREE))
        if newest is None:
            raise ConfigError(
                "--resume auto: runs/ holds no unfinished run of these settings. Give its folder with --output-dir, "
                "or start a new run without --resume."
            )
        return newest, checkpoint.latest_complete(newest)
    if resume == "auto":
        path, found = Path(out), checkpoint.latest_complete(Path(out))
    else:
        path, found = checkpoint.locate(Path(resume))
        if out and Path(out).resolve() != path.resolve():
            raise ConfigError(
                f"--resume {resume} goes on in its own folder {path}, not in --output-dir {out}. Leave out "
                f"--output-dir, or start a new run from these weights with --model {resume}."
            )
    if (path / CONFIG).is_file():
        refuse_changes(path / CONFIG, config)
    elif resume != "auto":
        raise ConfigError(
            f"--resume {resume}: {path} holds no run ({CONFIG} is missing). Give a run folder or one of its "
            "checkpoints."
        )
    return path, found


def spec_label(config: Config) -> str:
    """The environment's part of a run folder's name."""
    return re.split(r"[:/]", config.env)[-1]


def versions() -> dict[str, str]:
    """Versions of what decides a result."""
    found = {"python": platform.python_version()}
    for name in ("spg-trainer", "torch", "transformers", "accelerate", "peft", "numpy", "numba", "gymnasium"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found

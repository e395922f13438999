"""From gradients to new weights, for RL and for `sft`: sum, clip, finite check, learning rate, optimizer step."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from spg_trainer.distributed import all_reduce_gradients, gather, on_all, rank
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.models.parts import is_part, whole
from spg_trainer.models.shard import reduce_gradients
from spg_trainer.runs.files import json_document, write_text
from spg_trainer.settings.updates import BaseOptimizerConfig, OptimizerConfig
from spg_trainer.training.muon import Muon

if TYPE_CHECKING:
    from spg_trainer.training.run import Run

MAX_SKIPPED = 3
"""Non-finite updates in a row that stop a run."""


def make_optimizer(o: BaseOptimizerConfig, parameters: Mapping[str, Tensor]) -> torch.optim.Optimizer:
    """Muon, torch's AdamW, or torchao's with moments of 8 bits. parameters: those that are trained, by name.

    Raises ConfigError where torchao is not installed or cannot run.
    """
    trained = list(parameters.values())
    options: dict[str, Any] = {
        "lr": o.learning_rate,
        "betas": (0.9, o.adam_beta2),
        "weight_decay": o.weight_decay,
    }
    if o.optimizer == "muon":
        return Muon(parameters, **options)
    if o.adam_moments == "float32":
        return torch.optim.AdamW(trained, **options)
    try:
        from torchao.optim import AdamW8bit
    except ImportError as error:
        text = f"--adam-moments 8bit is torchao's, which cannot be imported here ({error})"
        raise ConfigError(f"{text}. `pip install torchao`, or use --adam-moments float32.") from error
    if missing := missing_compiler(trained[0].device):
        text = f"--adam-moments 8bit: torchao compiles its step, which needs {missing}"
        raise ConfigError(f"{text}, and there is none. Install it, or use --adam-moments float32.")
    return AdamW8bit(trained, **options)


def missing_compiler(device: torch.device) -> str:
    """What torch needs to compile for a device and does not find; empty where it is here."""
    if device.type == "cpu":
        has_compiler = any(map(shutil.which, ("c++", "g++", "clang++")))
        return "" if has_compiler else "a C++ compiler on a CPU"
    return "" if find_spec("triton") else "triton on a GPU"


def sum_gradients(model: nn.Module) -> None:
    """Sums the gradients of all processes, inside `unsharded`; each is left with the sum for what it keeps."""
    reduce_gradients(model)
    rest = [p for p in model.parameters() if p.requires_grad and not is_part(p)]
    if rest:
        all_reduce_gradients(rest)


def clip_gradients(parameters: Sequence[Tensor], limit: float) -> float:
    """Scales the gradients so that their common norm is at most `limit`; returns what it was.

    Of divided tensors, each process scales its own part by the norm of the whole.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = whole(torch.nn.utils.get_total_norm(gradients))
    torch.nn.utils.clip_grads_with_norm_(parameters, limit, norm)
    return float(norm)


class Stepped(NamedTuple):
    """What became of an update."""

    norm: float
    """Of the gradient before it was clipped."""
    applied: bool
    """Whether the weights changed: loss and gradient are finite."""


def optimizer_step(
    optimizer: torch.optim.Optimizer,
    parameters: Sequence[Tensor],
    *,
    loss: float,
    learning_rate: float,
    max_grad_norm: float,
    before_change: Callable[[], None] = lambda: None,
) -> Stepped:
    """Clips the summed gradients, changes the weights if all is finite, and drops the gradients.

    loss: of all processes, so that they decide alike. before_change: called just before the weights change.
    """
    norm = clip_gradients(parameters, max_grad_norm)
    finite = math.isfinite(loss) and math.isfinite(norm)  # equal on all processes: sums over them
    if finite:
        before_change()
        set_rate(optimizer, learning_rate)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return Stepped(norm, finite)


def count_skipped(run: "Run", completions: Sequence[tuple[int, int]], number: int) -> None:
    """Counts an update that is not finite; at `MAX_SKIPPED` in a row names the last in a file and raises TrainingError.

    completions: (problem, generation) of those that this process had in the update. number: its number in the step.
    """
    run.state.skipped += 1
    rate = run.config.optimizer.learning_rate
    if run.state.skipped < MAX_SKIPPED:
        return
    everyones = gather(list(completions))
    file = run.folder.path / f"nonfinite-step-{run.state.step}.json"
    if rank() == 0:
        batch = {"step": run.state.step, "update": number, "index_generation": everyones}
        write_text(file, json_document(batch))
    text = (
        f"The loss or its gradient was NaN or infinite {MAX_SKIPPED} times in a row; the weights are those of the last "
        f"finite update. {file} names the batch. Lower --learning-rate {rate} or --max-grad-norm in a new run; "
        "--model with the path of a checkpoint begins from its weights."
    )
    raise on_all(TrainingError(text))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Sets the learning rate; compiled optimizers keep it in a tensor, so that they are not compiled for each."""
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate


def learning_rate(o: OptimizerConfig, *, updates: int, share_done: float) -> float:
    """The learning rate of the next update of RL: it rises with the updates so far and falls with the share of steps.

    updates: made so far. share_done: of the run's steps, 0 to 1. The rate of `sft` is `Progress.learning_rate`.
    """
    above_floor = {
        "constant": 1.0,
        "linear": 1 - share_done,
        "cosine": 0.5 * (1 + math.cos(math.pi * share_done)),
        "warmup_stable_decay": min(1.0, (1 - share_done) / o.lr_decay_share),
    }
    of_peak = o.lr_floor + (1 - o.lr_floor) * above_floor[o.lr_schedule]
    return of_peak * (o.learning_rate * min(1.0, (updates + 1) / max(1, o.warmup_steps)))

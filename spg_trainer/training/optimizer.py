"""The optimizer: how it is built, its learning rate, and the guard that keeps non-finite gradients from the weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spg_trainer.distributed import rank
from spg_trainer.errors import TrainingError


def make_adamw(
    parameters: Sequence[Tensor], learning_rate: float, weight_decay: float, betas=(0.9, 0.99), epsilon=1e-8
) -> torch.optim.AdamW:
    """AdamW over the trainable parameters."""
    return torch.optim.AdamW(
        parameters, lr=learning_rate, betas=betas, eps=epsilon, weight_decay=weight_decay
    )


def linear_warmup(peak: float, warmup_steps: int, step: int) -> float:
    """The learning rate of the update after `step` others: linear warm-up, then constant."""
    return peak * min(1.0, (step + 1) / max(1, warmup_steps))


def linear_decay(step: int, max_steps: int) -> float:
    """The share of the learning rate in the step after `step` others: 1 in the first, 1/max_steps in the last."""
    return 1 - step / max_steps


def apply_gradients(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """One optimizer step at a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    optimizer.step()


def all_finite(tensors: Iterable[Tensor | None]) -> bool:
    """True if no value of any tensor is NaN or infinite; None (a parameter without gradient) is finite.

    tensors: any shapes and dtypes, on one device, which is synchronised once.
    """
    checks = [tensor.detach().isfinite().all() for tensor in tensors if tensor is not None]
    return not checks or bool(torch.stack(checks).all())


@dataclass
class Guard:
    """Counts updates that had to be skipped and stops the run after `limit` in a row.

    All processes must be asked with the same verdict, or they would part ways. `skipped` is the present count; kept in
    a checkpoint and given back on resume, an interrupted run stops where another would.
    """

    limit: int = 3
    skipped: int = 0

    def check(self, ok: bool, dump: Callable[[], Mapping[str, Any]], folder: Path) -> bool:
        """True if the update may be applied. Raises TrainingError after `limit` skipped updates in a row.

        dump: called only when the run must stop; names what made the batch, with `step` among the keys. folder: where
        `nonfinite-step-N.pt` is written (`nonfinite-step-N-rank-R.pt` by process R > 0), for `torch.load`.
        """
        self.skipped = 0 if ok else self.skipped + 1
        if self.skipped >= self.limit:
            raise TrainingError(
                f"The loss or its gradient was NaN or infinite {self.skipped} times in a row; the weights are those of "
                f"the last finite update. {_write(dump(), folder)} Start a new run with a lower --learning-rate or "
                "--max-grad-norm; --model with the path of a checkpoint begins from its weights."
            )
        return ok


def _write(content: Mapping[str, Any], folder: Path) -> str:
    suffix = f"-rank-{rank()}" if rank() else ""
    path = folder / f"nonfinite-step-{content['step']}{suffix}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(_loadable(content), path)
    except (OSError, RuntimeError) as error:
        return f"The batch could not be written to {path}: {error}."
    return f"The batch is in {path}."


def _loadable(value: Any) -> Any:
    """`value` in types that `torch.load(weights_only=True)` accepts; tensors on the CPU without a graph."""
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {key: _loadable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_loadable(item) for item in value]
    return value.tolist() if hasattr(value, "tolist") else value

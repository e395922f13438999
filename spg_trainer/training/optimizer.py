"""The optimizer: how it is built, its learning rate, and the guard that keeps non-finite gradients from the weights."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spg_trainer.distributed import rank
from spg_trainer.errors import TrainingError
from spg_trainer.runs.files import json_document, write_text


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

    def check(self, ok: bool, name_batch: Callable[[], Mapping[str, Any]], folder: Path) -> bool:
        """True if the update may be applied. Raises TrainingError after `limit` skipped updates in a row.

        name_batch: what the file `nonfinite-step-N.json` in `folder` will say of the last one, `step` among the keys;
        called on every process.
        """
        self.skipped = 0 if ok else self.skipped + 1
        if self.skipped >= self.limit:
            batch = name_batch()
            file = folder / f"nonfinite-step-{batch['step']}.json"
            if rank() == 0:
                write_text(file, json_document(batch))
            raise TrainingError(
                f"The loss or its gradient was NaN or infinite {self.skipped} times in a row; the weights are those of "
                f"the last finite update. {file} names the batch. Start a new run with a lower --learning-rate or "
                "--max-grad-norm; --model with the path of a checkpoint begins from its weights."
            )
        return ok

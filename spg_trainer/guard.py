"""Non-finite gradients never reach the weights; a run that keeps making them stops with its evidence."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.distributed import rank
from spg_trainer.errors import TrainingError

if TYPE_CHECKING:
    from torch import Tensor


def all_finite(tensors: "Iterable[Tensor | None]") -> bool:
    """True if no value of any tensor is NaN or infinite; None (a parameter without gradient) is finite.

    tensors: any shapes, dtypes and devices; one synchronisation per device.
    """
    import torch

    checks: dict[torch.device, list[Tensor]] = {}
    for tensor in tensors:
        if tensor is not None:
            checks.setdefault(tensor.device, []).append(tensor.detach().isfinite().all())
    return all(bool(torch.stack(found).all()) for found in checks.values())


@dataclass
class Guard:
    """Counts updates that had to be skipped and stops the run after `limit` in a row.

    All processes must be asked with the same verdict, or they would part ways. `skipped` is the present
    count; kept in a checkpoint and given back on resume, an interrupted run stops where another would.
    """

    limit: int = 3
    skipped: int = 0

    def check(self, ok: bool, dump: Callable[[], Mapping[str, Any]], folder: Path) -> bool:
        """True if the update may be applied.

        dump: called only when the run must stop; names what made the batch, with `step` among the keys.
        folder: where `nonfinite-step-N.pt` is written (`nonfinite-step-N-rank-R.pt` by process R > 0); open
        it with `torch.load(path, weights_only=True)`.
        Raises TrainingError after `limit` skipped updates in a row.
        """
        if ok:
            self.skipped = 0
            return True
        self.skipped += 1
        if self.skipped >= self.limit:
            raise TrainingError(
                f"The loss or its gradient was NaN or infinite {self.skipped} times in a row; the weights "
                f"are those of the last good update. {_write(dump(), folder)} "
                "Start a new run with a lower --learning-rate or --max-grad-norm; --model with the path of a "
                "checkpoint begins from its weights."
            )
        return False


def _write(content: Mapping[str, Any], folder: Path) -> str:
    import torch

    suffix = f"-rank-{rank()}" if rank() else ""
    path = folder / f"nonfinite-step-{content.get('step', 'unknown')}{suffix}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(_loadable(content), path)
    except (OSError, RuntimeError) as error:
        return f"The batch could not be written to {path}: {error}."
    return f"The batch is in {path}."


def _loadable(value: Any) -> Any:
    """`value` in types that `torch.load(weights_only=True)` accepts; tensors on the CPU without a graph."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _loadable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_loadable(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _loadable(getattr(value, field.name)) for field in fields(value)}
    if hasattr(value, "tolist"):
        return _loadable(value.tolist())
    return str(value)

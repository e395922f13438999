"""What the processes of a run share: their number, sums, errors and decisions. Each works alone where there is one.

Imports torch and accelerate only where there are several processes, so that `rank` costs a command nothing.
"""

import io
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from spg_trainer.errors import ProcessLost, SpgError, TrainingError, written

if TYPE_CHECKING:
    import numpy as np
    import torch
    from accelerate import Accelerator
    from torch import Tensor

    from spg_trainer.tensors import Rows

T = TypeVar("T")
K = TypeVar("K")
E = TypeVar("E", bound=BaseException)
R = TypeVar("R", bound="Rows")


lockstep: Any = None
"""A `spg_trainer.models.lockstep.Lockstep` if passes call other processes, because each holds a part of the weights.

Its passes are ended (`end_passes`) before the processes call one another in any other way."""


def _distributed():
    """torch.distributed where a process group has been made, else None."""
    module = sys.modules.get("torch.distributed")
    return module if module and module.is_available() and module.is_initialized() else None


def rank() -> int:
    """This process's number among those of the run, 0 when it is alone; only rank 0 writes and prints."""
    distributed = _distributed()
    return distributed.get_rank() if distributed else int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """The number of processes that have joined this run."""
    distributed = _distributed()
    return distributed.get_world_size() if distributed else 1


def join(device: str, timeout_minutes: float = 30.0) -> "Accelerator | None":
    """Meets the processes that a launcher has started; None for a process that is alone.

    device: a setting; auto = this process's GPU if there is one. timeout_minutes: as in `make_accelerator`.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return None if alone else make_accelerator(device, timeout_minutes)


def make_accelerator(device: str, timeout_minutes: float = 30.0) -> "Accelerator":
    """What joins the processes of a run; a process that is alone has one, too.

    device: a setting, as in `join`. timeout_minutes: after which a process no longer waits for the others.
    """
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState

    global lockstep
    lockstep = None  # of the models of an earlier run
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    known = AcceleratorState._shared_state.get("device")
    # accelerate keeps the device of the first run of a Python session, and refuses the next run another one.
    if world_size() == 1 and known is not None and (known.type == "cpu") != on_cpu:
        AcceleratorState._reset_state(reset_partial_state=True)
    waits = InitProcessGroupKwargs(timeout=timedelta(minutes=timeout_minutes))
    return Accelerator(cpu=on_cpu, kwargs_handlers=[waits])


def begin(phase: str) -> None:
    """Tells the other processes what this one is at, for the line of `naming_the_lost`."""
    if (distributed := _distributed()) and world_size() > 1:
        distributed.distributed_c10d._get_default_store().set(f"phase of {rank()}", phase)


@contextmanager
def naming_the_lost(timeout_minutes: float) -> Iterator[None]:
    """Raises ProcessLost, which says where each process is, in place of torch's error that one has not answered."""
    begin("the start of the run")
    try:
        yield
    except RuntimeError as error:
        # By its words it is an error of torch's gloo; an environment may raise a timeout of its own.
        is_of_gloo = any(text in str(error) for text in ("Timed out waiting", "Application timeout"))
        if world_size() == 1 or isinstance(error, SpgError) or not is_of_gloo:
            raise
        store = _distributed().distributed_c10d._get_default_store()
        others = [r for r in range(world_size()) if r != rank()]
        phases = {r: store.get(f"phase of {r}").decode() for r in (rank(), *others)}
        where = ", ".join(f"process {r} was in {phases[r]}" for r in others)
        raise ProcessLost(
            f"Process {rank()} has waited for {timeout_minutes:g} minutes in {phases[rank()]}: {where}. Look at what "
            "that process does, or raise $timeout_minutes; go on from the last checkpoint with $resume=auto."
        ) from error


def own_device(device: str, accelerator: "Accelerator | None") -> str:
    """The device of this process: `auto` is that of its accelerator, if it has one."""
    return str(accelerator.device) if accelerator and device == "auto" else device


def gather(items: list[T]) -> list[T]:
    """The items of all processes in the order of ranks, on every process."""
    if world_size() == 1:
        return items
    from accelerate.utils import gather_object

    end_passes()
    return [item for part in gather_object([_pickled(items)]) for item in pickle.loads(part)]


def _pickled(items: list[Any]) -> bytes:
    """Pickles tensors of the CPU as arrays: as tensors each of them takes ten times as long."""
    import torch

    class Pickler(pickle.Pickler):
        def reducer_override(self, value: Any) -> Any:
            if type(value) is not torch.Tensor or value.device.type != "cpu" or value.dtype == torch.bfloat16:
                return NotImplemented
            return torch.from_numpy, (value.numpy(force=True),)

    file = io.BytesIO()
    Pickler(file, pickle.HIGHEST_PROTOCOL).dump(items)
    return file.getvalue()


def end_passes() -> None:
    """Ends the passes of all processes, where the processes make their passes together."""
    if lockstep is not None:
        lockstep.drain()


def all_reduce_numbers(numbers: list[int], device: "torch.device") -> list[int]:
    """The sums of whole numbers, at the same place of each list, over the processes.

    Unlike the others it does not end the passes first, because lockstep itself calls it.
    """
    import torch

    total = torch.tensor(numbers, device=device)
    if world_size() > 1:
        _distributed().all_reduce(total)
    return total.tolist()


def gathered_order(numbers: "np.ndarray") -> "np.ndarray":
    """The indices that put what `gather` returns into the order of its numbers; equal ones keep their order.

    numbers: (n,), one for each item of this process.
    """
    import numpy as np

    return np.argsort(np.concatenate(gather([numbers])), kind="stable")


def gather_rows(rows: R) -> R:
    """The rows of all processes, on the CPU, sorted by episode; those of one episode keep their order."""
    parts = gather([rows.to("cpu")])
    joined = type(rows).join(parts)
    return joined.select(joined.episode.argsort(stable=True)) if len(parts) > 1 else joined


def all_reduce_gradients(parameters: "Sequence[Tensor]") -> None:
    """Sums `.grad` over the processes in one all-reduce; a process without completions takes part with zeros."""
    import torch

    end_passes()
    for p in parameters:
        if p.grad is None:
            p.grad = torch.zeros_like(p)
    if world_size() > 1:
        total = torch.cat([p.grad.reshape(-1) for p in parameters])
        _distributed().all_reduce(total)
        for p, part in zip(parameters, total.split([p.numel() for p in parameters]), strict=True):
            p.grad.copy_(part.view_as(p))


def sum_metrics(sums: Mapping[K, float]) -> dict[K, float]:
    """Adds up the sums of all processes by key; one that a process lacks counts as 0 there."""
    parts = gather([dict(sums)])
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


@contextmanager
def raising_on_all() -> Iterator[None]:
    """Runs a block that calls no other process; an error in one is raised on all, or the others would wait for ever.

    Where it happened it stays what it is; elsewhere it is a TrainingError that says where and what.
    """
    error = None
    try:
        yield
    except Exception as raised:
        error = raised
    if error is not None and lockstep is not None and lockstep.is_inside:
        raise error  # the others wait inside a pass; the launcher ends them when this process has ended
    text = f"Process {rank()} failed with {type(error).__name__}: {written(error)}" if error else ""
    texts = [text for text in gather([text]) if text]
    if error is not None:
        raise raised_by_all(error)
    if texts:
        raise raised_by_all(TrainingError(texts[0]))


def raised_by_all(error: E) -> E:
    """Marks an error as one that is raised on every process, so that they can still work together afterwards."""
    error.__dict__["on_all_processes"] = True
    return error


def is_raised_by_all(error: BaseException) -> bool:
    """Whether the other processes have met the same error."""
    return "on_all_processes" in error.__dict__


def decide_on_main(decide: Callable[[], T]) -> T:
    """What `decide` returns on the main process, on all of them; an error there is raised on each."""
    answer = None
    with raising_on_all():
        if rank() == 0:
            answer = decide()
    return gather([answer])[0]

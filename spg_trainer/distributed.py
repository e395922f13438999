"""What the processes of a run share: their number, sums, errors, decisions, and tensors of which each has a part.

All of it works for a single process, and for tensors that are whole.

torch and accelerate are imported only if there are several processes, so that `rank` costs a command nothing.
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
    from torch.distributed.device_mesh import DeviceMesh

    from spg_trainer.tensors import Rows

T = TypeVar("T")
K = TypeVar("K")
E = TypeVar("E", bound=BaseException)
R = TypeVar("R", bound="Rows")


lockstep: Any = None
"""A `spg_trainer.models.shard.Lockstep` if each process holds a part of the weights, so that all processes make the
passes of the model together; else None.

Before processes communicate in any other way, the passes must be ended (`end_passes`)."""
is_inside_pass = False
"""Whether other processes wait for this one within a pass of the model, or its backward pass, that they make together.

They cannot be told of an error then, and this process must not communicate with them in any other way."""
_meshes: dict[tuple[int, str], "DeviceMesh"] = {}
"""{(size, type of device): what `process_mesh` has made}."""


def _distributed():
    """torch.distributed if a process group has been made, else None."""
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
    """Joins the processes that a launcher has started, by `make_accelerator`; None for a process that is alone.

    device: a setting; auto = this process's GPU if there is one. timeout_minutes: as in `make_accelerator`.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    return None if alone else make_accelerator(device, timeout_minutes)


def make_accelerator(device: str, timeout_minutes: float = 30.0) -> "Accelerator":
    """accelerate's object that joins the processes of a run; a process that is alone gets one, too.

    device: a setting, as in `join`. timeout_minutes: how long a process waits for the others.
    """
    import torch
    from accelerate import Accelerator, InitProcessGroupKwargs
    from accelerate.state import AcceleratorState

    global lockstep, is_inside_pass
    lockstep, is_inside_pass = None, False  # an earlier run of this Python session may have set them
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
    # accelerate keeps the device of the first run of a Python session, and refuses another device in the next run.
    kept_device = AcceleratorState._shared_state.get("device")
    if world_size() == 1 and kept_device is not None and (kept_device.type == "cpu") != on_cpu:
        AcceleratorState._reset_state(reset_partial_state=True)
    waits = InitProcessGroupKwargs(timeout=timedelta(minutes=timeout_minutes))
    return Accelerator(cpu=on_cpu, kwargs_handlers=[waits])


def process_mesh(size: int, device_type: str, timeout_minutes: float = 30.0) -> "DeviceMesh":
    """All processes of the run in groups of `size` neighbours, as a mesh of the shape (world_size / size, size).

    Its dimension `group` holds the processes of this process's group, its dimension `across` those that stand at the
    same place in their groups. With 4 processes in groups of 2, process 3 is in the group (2, 3), and across (1, 3).
    All processes must make the first call for a size together; later calls return the same mesh.

    size: a divisor of the number of processes. device_type: `cpu` or `cuda`. timeout_minutes: as in `make_accelerator`.
    """
    import torch
    from torch.distributed.device_mesh import DeviceMesh

    if (size, device_type) not in _meshes:
        numbers = torch.arange(world_size()).view(-1, size)
        across, group = (
            _distributed().new_subgroups_by_enumeration(
                lists.tolist(), timeout=timedelta(minutes=timeout_minutes)
            )[0]
            for lists in (numbers.T, numbers)
        )
        _meshes[size, device_type] = DeviceMesh.from_group(
            [across, group], device_type, mesh=numbers, mesh_dim_names=("across", "group")
        )
    return _meshes[size, device_type]


def begin_phase(phase: str) -> None:
    """Tells the other processes which phase this one begins, e.g. "the rollout of step 3", for `naming_the_lost`."""
    if (distributed := _distributed()) and world_size() > 1:
        distributed.distributed_c10d._get_default_store().set(f"phase of {rank()}", phase)


@contextmanager
def naming_the_lost(timeout_minutes: float) -> Iterator[None]:
    """Inside, torch's error about a process that does not answer becomes ProcessLost, which says where each one is."""
    begin_phase("the start of the run")
    try:
        yield
    except RuntimeError as error:
        # An environment may time out, too. Only gloo's own error has these words.
        is_of_gloo = any(text in str(error) for text in ("Timed out waiting", "Application timeout"))
        if world_size() == 1 or isinstance(error, SpgError) or not is_of_gloo:
            raise
        store = _distributed().distributed_c10d._get_default_store()
        others = [number for number in range(world_size()) if number != rank()]
        phases = {number: store.get(f"phase of {number}").decode() for number in (rank(), *others)}
        where = ", ".join(f"process {number} was in {phases[number]}" for number in others)
        raise ProcessLost(
            f"Process {rank()} has waited for {timeout_minutes:g} minutes in {phases[rank()]}: {where}. Look at what "
            "that process does, or raise $timeout_minutes; go on from the last checkpoint with $resume=auto."
        ) from error


def own_device(device: str, accelerator: "Accelerator | None") -> str:
    """The device of this process; `auto` is the device of its accelerator, if it has one."""
    return str(accelerator.device) if accelerator and device == "auto" else device


def gather(items: list[T]) -> list[T]:
    """The items of all processes in the order of ranks, on every process."""
    if world_size() == 1:
        return items
    from accelerate.utils import gather_object

    end_passes()
    return [item for part in gather_object([_pickled(items)]) for item in pickle.loads(part)]


def _pickled(items: list[Any]) -> bytes:
    """The items, pickled. Tensors on the CPU are pickled as arrays, because a tensor takes ten times as long."""
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
    """Ends the passes of all processes if they make their passes together (`lockstep`)."""
    if lockstep is not None:
        lockstep.drain()


def all_reduce_numbers(numbers: list[int], device: "torch.device") -> list[int]:
    """The sum over all processes of each of several whole numbers.

    Unlike the other functions here it does not end the passes first, because lockstep itself calls it.
    """
    import torch

    total = torch.tensor(numbers, device=device)
    if world_size() > 1:
        _distributed().all_reduce(total)
    return total.tolist()


def gathered_order(numbers: "np.ndarray") -> "np.ndarray":
    """The indices that sort by number the items that `gather` returns; items with equal numbers keep their order.

    numbers: (n,), one for each item of this process.
    """
    import numpy as np

    return np.argsort(np.concatenate(gather([numbers])), kind="stable")


def gather_rows(rows: R) -> R:
    """The rows of all processes, on the CPU, sorted by episode; rows of one episode keep their order."""
    parts = gather([rows.to("cpu")])
    joined = type(rows).join(parts)
    return joined.select(joined.episode.argsort(stable=True)) if len(parts) > 1 else joined


def all_reduce_gradients(parameters: "Sequence[Tensor]") -> None:
    """Sums `.grad` over the processes in one all-reduce; a process without completions takes part with zeros.

    parameters: of any shapes, the same ones in each process.
    """
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
    """The sums over all processes by key; a key that a process lacks counts as 0 there."""
    parts = gather([dict(sums)])
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0.0) for part in parts) for name in names}


@contextmanager
def raising_on_all() -> Iterator[None]:
    """Inside, an error in one process is raised on all; else the others would wait for ever.

    The block must not communicate with other processes. The failing process raises its own error, all others a
    TrainingError that says which process failed and how.
    """
    error: BaseException | None = None
    try:
        yield
    except (Exception, SystemExit) as raised:  # SystemExit: of a user's code
        error = raised
    if error is not None and is_inside_pass:
        raise error  # the launcher ends the others once this process has ended
    own_text = f"Process {rank()} failed with {type(error).__name__}: {written(error)}" if error else ""
    failures = [text for text in gather([own_text]) if text]
    if error is not None:
        raise raised_by_all(error)
    if failures:
        raise raised_by_all(TrainingError(failures[0]))


def raised_by_all(error: E) -> E:
    """The same error, marked as raised on every process: the processes can then still work together afterwards."""
    error.__dict__["on_all_processes"] = True
    return error


def is_raised_by_all(error: BaseException) -> bool:
    """Whether all other processes have raised this error, too."""
    return "on_all_processes" in error.__dict__


def decide_on_main(decide: Callable[[], T]) -> T:
    """Returns on every process what `decide` returns on the main one; an error there is raised on all."""
    answer = None
    with raising_on_all():
        if rank() == 0 or world_size() == 1:  # a dry run joins no other processes, whatever its number
            answer = decide()
    answer_of_main, *_ = gather([answer])
    return answer_of_main


def whole(value: "Tensor") -> "Tensor":
    """The whole of a divided tensor (any shape); all processes call this together. A whole tensor stays as it is."""
    part: Any = value
    return part.full_tensor() if is_part(value) else value


def own_part(value: "Tensor", like: Any) -> "Tensor":
    """A copy of this process's part of a whole tensor (any shape), divided like `like`; others need not call this."""
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value, like.device_mesh, like.placements, src_data_rank=None).clone()


def local(value: "Tensor") -> "Tensor":
    """What this process holds of a tensor (any shape): its part of a divided one, or all of a whole one."""
    part: Any = value
    return part.to_local() if is_part(value) else value


def mesh_of(value: "Tensor") -> Any:
    """The mesh of processes among which a tensor (any shape) is divided; None for a whole tensor."""
    part: Any = value
    return part.device_mesh if is_part(value) else None


def is_part(value: "Tensor") -> bool:
    """Whether a tensor (any shape) is divided, so that this process has a part of it."""
    # The module is slow to import. If anything has been divided, it has been imported.
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(value, module.DTensor)


def is_expert_part(value: "Tensor") -> bool:
    """Whether a tensor (any shape) holds some whole experts of a layer, as this process has them."""
    mesh = mesh_of(value)
    return mesh is not None and mesh.mesh_dim_names == ("group",)

"""A GPU played on the CPU: inside `pretend_cuda()` the device `cuda` exists, and what fails on a real one fails here.

Tensors keep their numbers on the CPU; which device a tensor is on is a note on its storage, so views, parameters and
gradients agree about it. Two modes of torch keep the notes: `_Calls` sees what Python asks for (devices by name, numpy,
generators), `_Kernels` what the device would be given, in backward passes and inside libraries too. Speed and memory
are the CPU's, and so are the numbers.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

import torch
from torch import Tensor
from torch.distributed import device_mesh
from torch.distributed.fsdp._fully_shard import (
    _fsdp_collectives,
    _fsdp_init,
    _fsdp_param_group,
    _fsdp_state,
    _fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import PreTrainedModel

import spg_trainer
from spg_trainer.models import cuda_graphs

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
PACKAGE = str(Path(spg_trainer.__file__).parent)

aten = torch.ops.aten
READS = {
    *(aten._local_scalar_dense, aten.nonzero, aten.masked_select, aten.equal, aten.bincount),
    *(aten._unique2, aten.unique_dim, aten.unique_consecutive, aten.unique_dim_consecutive),
    aten.repeat_interleave,
}
"""Kernels whose result, or its shape, the host must know before it goes on."""
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
LISTS = {aten.cat, aten.stack}
"""They do not take single numbers of the CPU, as other kernels do."""
UPLOADS = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor, Tensor.to, Tensor.cuda}
TO_NUMPY = {Tensor.numpy, Tensor.__array__}
TO_PYTHON = {*TO_NUMPY, Tensor.tolist, Tensor.__repr__}
CONTAINERS = list, tuple, dict
PLACED = {*TO_PYTHON, Tensor.__deepcopy__, Tensor.new_tensor, Tensor.to, Tensor.cuda, Tensor.cpu}
"""What concerns a device without naming one by keyword."""
NO_TENSORS = {torch.device, torch._C._nn._parse_to}
"""They speak of devices and make nothing there."""


class Wait(NamedTuple):
    """A call for which the host waits until the device has done all before it."""

    kind: str
    """`read`: the host needs values of the device; `upload`: the device values of the host; `synchronize`."""
    call: str
    where: str
    """File and line, the innermost of spg_trainer."""


def place(tensor: Tensor) -> torch.device:
    """Where a tensor is: where torch says, unless it was made on the GPU or brought there."""
    if isinstance(tensor, DTensor):  # of which this process has a part
        return place(tensor._local_tensor)
    storage = tensor.untyped_storage()
    noted = storage.__dict__.get("place")
    return noted if noted is not None else storage.__dict__.setdefault("place", storage.device)


@contextmanager
def pretend_cuda() -> Iterator[list[Wait]]:
    """Inside, `cuda` is a device; yields the waits so far."""
    waits: list[Wait] = []

    def wait(kind: str, call: object) -> None:
        _refuse_while_recording(kind, call)
        waits.append(Wait(kind, getattr(call, "__name__", str(call)), _site()))

    calls, backward = _Calls(wait), torch.autograd._engine_run_backward

    def run_backward(*args: Any, **kwargs: Any) -> Any:
        with calls:  # checkpointed layers run again in there
            return backward(*args, **kwargs)

    tensors = {
        "device": property(place),
        "is_cuda": property(lambda self: place(self) == GPU),
        "is_cpu": property(lambda self: place(self) == CPU),
        "get_device": lambda self: 0 if place(self) == GPU else -1,
    }
    cuda = {
        "get_rng_state": lambda device="cuda": torch.zeros(16, dtype=torch.uint8),
        "set_rng_state": lambda state, device="cuda": None,
        "get_device_name": lambda device=None: "a pretended GPU",
        "mem_get_info": lambda device=None: (2**37, 2**37),
        **dict.fromkeys(
            ("max_memory_allocated", "memory_allocated", "memory_reserved"), lambda device=None: 0
        ),
        "reset_peak_memory_stats": lambda device=None: None,
        "synchronize": lambda device=None: wait("synchronize", "synchronize"),
    }
    with ExitStack() as stack:
        for owner, doubles in ((Tensor, tensors), (torch.cuda, cuda)):
            for name, double in doubles.items():
                stack.enter_context(patch.object(owner, name, double))
        for module in (_fsdp_init, _fsdp_collectives, _fsdp_param_group, _fsdp_state):
            stack.enter_context(patch.object(module, "_get_device_handle", lambda kind: torch.cpu))
        for module in (_fsdp_init, _fully_shard):
            stack.enter_context(patch.object(module, "_get_device_from_mesh", lambda mesh: GPU))
        stack.enter_context(patch.object(device_mesh, "init_device_mesh", _init_device_mesh))
        stack.enter_context(patch.object(cuda_graphs, "Recording", _Recording))
        stack.enter_context(patch.object(torch, "Generator", _Generator))
        stack.enter_context(patch.object(torch.autograd, "_engine_run_backward", run_backward))
        stack.enter_context(patch.object(PreTrainedModel, "from_pretrained", _from_pretrained))
        stack.enter_context(calls)
        stack.enter_context(_Kernels(wait))
        yield waits


recording: "_Recording | None" = None
"""What is being recorded, or replayed, at present."""


def _refuse_while_recording(kind: str, call: object) -> None:
    if recording is not None:
        name = getattr(call, "__name__", str(call))
        raise RuntimeError(f"operation not permitted when stream is capturing: {kind} by {name} at {_site()}")


class _Recording:
    """Runs `work` again in place of a replay, and sees to it that a graph would have done the same.

    Inside, nothing may be read from the GPU or brought there. A graph reads and writes the memory that it was recorded
    with: where `work` uses other memory in a replay, RuntimeError is raised.
    """

    def __init__(
        self, work: Callable[[], tuple[Tensor, ...]], device: torch.device, before: "_Recording | None"
    ) -> None:
        self.work, self.replayed = work, 0
        self.result, self.memory = self._run()

    def replay(self) -> None:
        result, memory = self._run()
        if memory != self.memory:
            raise AssertionError("a replayed pass uses memory that was not recorded")
        with self._present():
            for kept, new in zip(self.result, result, strict=True):
                kept.copy_(new)
        self.replayed += 1

    def _run(self) -> tuple[tuple[Tensor, ...], set[int]]:
        memory = _Memory()
        with self._present(), memory:
            return self.work(), memory.outside

    @contextmanager
    def _present(self) -> Iterator[None]:
        """Inside, this is what is being recorded or replayed."""
        global recording
        recording = self
        try:
            yield
        finally:
            recording = None


class _Memory(TorchDispatchMode):
    """Collects the memory that kernels take and that was there before them."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: set[int] = set()
        self.made: dict[int, Any] = {}
        """By address, and held so that no address is given twice."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        # A number of the host, e.g. one that is assigned, is recorded with its kernel.
        on_gpu = [t for t in _tensors((args, kwargs or {})) if t.numel() and place(t) == GPU]
        given = {t.untyped_storage().data_ptr() for t in on_gpu}
        self.outside |= given - self.made.keys()
        for tensor in _tensors((out,)):
            if tensor.untyped_storage().data_ptr() not in given | self.outside:
                self.made[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return out


class _Generator(torch.Generator):
    """A generator of the CPU that says it is where it was asked for."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        self = super().__new__(cls)
        self.at = torch.device(device)
        return self

    def __init__(self, device: Any = "cpu") -> None: ...

    @property
    def device(self) -> torch.device:
        return self.at


_mesh = device_mesh.init_device_mesh


def _init_device_mesh(kind: str, *args: Any, **kwargs: Any) -> Any:
    """A mesh whose processes talk by gloo, as those of the CPU do."""
    mesh = _mesh("cpu", *args, **kwargs)
    mesh._device_type = kind
    return mesh


_open = PreTrainedModel.from_pretrained.__func__


@classmethod
def _from_pretrained(cls: type, *args: Any, device_map: Any = None, **kwargs: Any) -> Any:
    """Loads on the CPU, then moves: safetensors would look for a real device."""
    out = _open(cls, *args, **kwargs)
    if device_map:
        (out[0] if isinstance(out, tuple) else out).to(device_map[""])
    return out


class _Calls(TorchFunctionMode):
    """Makes and moves tensors where they are asked for."""

    def __init__(self, wait: Callable[[str, object], None]) -> None:
        super().__init__()
        self.wait = wait

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        names_none = kwargs.get("device") is None and kwargs.get("generator") is None
        if names_none and func not in PLACED:
            return func(*args, **kwargs)
        at = place(args[0]) if args and isinstance(args[0], Tensor) else CPU
        if func in TO_PYTHON and at == GPU:
            if func in TO_NUMPY and not kwargs.get("force"):
                raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")
            self.wait("read", func)
            return func(_put(args[0].detach().clone(), CPU), *args[1:], **kwargs)
        if func is Tensor.__deepcopy__:
            return _put(func(*args, **kwargs), at)
        target = at if func is Tensor.new_tensor else _asked_for(func, args, kwargs)
        if (generator := kwargs.get("generator")) and generator.device.type != (target or at).type:
            text = f"Expected a '{target or at}' generator device but found '{generator.device}'"
            raise RuntimeError(text)
        if target not in (CPU, GPU) or func in NO_TENSORS:
            return func(*args, **kwargs)
        if "device" in kwargs:
            kwargs = {**kwargs, "device": CPU}
        if func is Tensor.cuda:
            func, args = Tensor.clone, args[:1]
        elif func is Tensor.to:
            args = tuple(CPU if isinstance(x, str | torch.device) else x for x in args)
        out = func(*args, **kwargs)
        if at == GPU and target == CPU:
            self.wait("read", func)
        elif func in UPLOADS and (at == CPU or func is Tensor.new_tensor):
            if target == GPU:
                _refuse_while_recording("upload", func)
            if target == GPU and not kwargs.get("non_blocking"):
                self.wait("upload", func)
        return _put(out.clone() if place(out) != target and _is_among(out, args) else out, target)


class _Kernels(TorchDispatchMode):
    """Refuses kernels whose tensors are apart, and notes where results are."""

    def __init__(self, wait: Callable[[str, object], None]) -> None:
        super().__init__()
        self.wait = wait

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors(args)
        if kwargs:
            given += _tensors(kwargs)
        for tensor in given:
            if isinstance(tensor, DTensor):
                return NotImplemented  # the parts that processes have come here one by one
        with torch._C.DisableTorchFunction():
            device = self.launch(func, args, given)
            out = func(*args, **kwargs)
            for tensor in _tensors((out,)):
                if not tensor.is_meta:
                    tensor.untyped_storage().__dict__.setdefault("place", device)
            return out

    def launch(self, func: Any, args: Any, given: list[Tensor]) -> torch.device:
        """Where a kernel of the tensors `given` runs. Raises RuntimeError if they are on different devices."""
        kernel = func.overloadpacket
        if kernel == aten.copy_:
            to, source = map(place, given[:2])
            if to != source:
                _refuse_while_recording("copy", func)
            if to != source and (to == CPU or not args[2:]):
                self.wait("read" if to == CPU else "upload", func)
            return to
        on_gpu = bool(given) and place(given[0]) == GPU
        if on_gpu and kernel in INDEXING:
            index = _tensors(args[1])
            if any(place(i) == CPU for i in index):
                self.wait("upload", func)
            if any(i.dtype == torch.bool and place(i) == GPU for i in index):
                self.wait("read", func)
            given = [args[0], *_tensors(args[2:])]
        places = [place(tensor) for tensor in given]
        if GPU not in places:
            return CPU
        if CPU in places:
            strict = kernel in LISTS or (kernel in INDEXING and not on_gpu)
            if any(at == CPU and (t.ndim or strict) for t, at in zip(given, places, strict=True)):
                found = ", ".join(f"{tuple(t.shape)} on {at}" for t, at in zip(given, places, strict=True))
                raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got {found}")
        if kernel in READS:
            self.wait("read", func)
        return GPU


def _asked_for(func: Any, args: Any, kwargs: Any) -> torch.device | None:
    """The device that a call names, None = that of its tensors."""
    if func in (Tensor.cuda, Tensor.cpu):
        return GPU if func is Tensor.cuda else CPU
    named = kwargs.get("device")
    if named is None and func is Tensor.to and len(args) > 1:
        named = place(args[1]) if isinstance(args[1], Tensor) else args[1]
    if not isinstance(named, str | torch.device):
        return None
    named = torch.device(named)
    return GPU if named.type == "cuda" else named


def _tensors(values: Any) -> list[Tensor]:
    """Those in the arguments or the results of a kernel: a list, a tuple or a dictionary, also of such ones."""
    found: list[Tensor] = []
    for value in values.values() if isinstance(values, dict) else values:
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, CONTAINERS):
            found += _tensors(value)
    return found


def _is_among(tensor: Tensor, given: Any) -> bool:
    storage = tensor.untyped_storage()
    return any(t.untyped_storage() is storage for t in _tensors(given))


def _put(tensor: Tensor, device: torch.device) -> Tensor:
    tensor.untyped_storage().place = device
    return tensor


def _site() -> str:
    frame = sys._getframe()
    while frame and not frame.f_code.co_filename.startswith(PACKAGE):
        frame = frame.f_back
    return f"{frame.f_code.co_filename[len(PACKAGE) + 1 :]}:{frame.f_lineno}" if frame else "elsewhere"

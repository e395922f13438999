"""Passes of a rollout that are replayed as CUDA graphs, so that a GPU does not wait for Python (`--rollout-graphs`).

A pass starts some fifty kernels a layer. With few rows, Python takes longer to start them than a GPU to compute them; a
graph starts all of them at once. They are the same kernels on the same shapes, so states are equal to the bit.
"""

import logging
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spg_trainer import distributed
from spg_trainer.models.forward import hidden_states

MOST_POSITIONS = 4096
"""Passes over more positions (rows x columns) are not recorded: a GPU takes longer to compute them than Python to start
them, and a graph holds their memory."""
MOST_GRAPHS = 128
"""How many shapes of work one rollout records."""

logger = logging.getLogger(__name__)


class Recording:
    """The kernels that `work` starts on a GPU, recorded once; `replay` starts them again and overwrites `result`.

    work: may not read values from the GPU, and takes and returns tensors that keep their place in memory.
    """

    def __init__(
        self, work: Callable[[], tuple[Tensor, ...]], device: torch.device, before: "Recording | None"
    ) -> None:
        """before: another recording, whose memory this one shares. Raises RuntimeError if `work` cannot be recorded."""
        self.graph = torch.cuda.CUDAGraph()
        # CUDA records no graph on the default stream, which may be the present one.
        present = torch.cuda.current_stream(device)
        self.aside = torch.cuda.Stream(device) if before is None else before.aside
        self.aside.wait_stream(present)
        with torch.cuda.stream(self.aside):
            # Calls of other threads, e.g. of the progress bar, do not disturb the recording.
            pool = None if before is None else before.graph.pool()
            self.graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self.result = work()
            finally:
                self.graph.capture_end()
        present.wait_stream(self.aside)

    def replay(self) -> None:
        self.graph.replay()


class Replays:
    """The recorded work of a rollout, by the shapes of its input tensors.

    Work of a shape is run normally the first time, recorded the second time, and replayed from then on. The recordings
    end with the rollout, because its keys, values and casts of adapters are freed then; their memory is used again.
    """

    def __init__(self) -> None:
        self.seen: set[Any] = set()
        self.graphs: dict[Any, tuple[Recording, dict[str, Tensor]]] = {}
        """{shape: (the recording, the tensors that it reads)}; a replay first overwrites these tensors."""
        self.memory: Recording | None = None
        """The last recording, perhaps of an earlier rollout, whose memory the next recording shares."""
        self.failed: set[str] = set()
        """Names of work that could not be recorded; it is run normally from then on."""

    @contextmanager
    def during_rollout(self) -> Iterator[None]:
        """Inside, passes are recorded and replayed. The model's weights must keep their place in memory."""
        try:
            yield
        finally:
            self.graphs.clear()
            self.seen.clear()

    def run(
        self,
        name: str,
        work: Callable[[dict[str, Tensor]], tuple[Tensor, ...]],
        tensors: dict[str, Tensor],
        fixed: Hashable,
    ) -> tuple[Tensor, ...]:
        """What `work(tensors)` returns. The next call of this shape may overwrite these tensors.

        tensors: of any shapes; each set of shapes has a recording. work: is run, recorded or replayed. It may neither
        read values from the GPU nor copy any to it. Besides `tensors` it may use and change tensors that keep their
        place for the whole rollout. Running it twice must have the same effect as once. fixed: everything else that
        decides what `work` does.
        """
        if name in self.failed:
            return work(tensors)
        shapes = tuple((label, tensor.shape, tensor.dtype) for label, tensor in tensors.items())
        key = (name, fixed, shapes)
        is_first_time = key not in self.seen
        no_more_graphs = key not in self.graphs and len(self.graphs) == MOST_GRAPHS
        if is_first_time or no_more_graphs:
            self.seen.add(key)
            return work(tensors)
        if key not in self.graphs:
            inputs = {
                label: tensor.clone(memory_format=torch.contiguous_format)
                for label, tensor in tensors.items()
            }
            device = next(iter(tensors.values())).device
            try:
                recording = Recording(lambda: work(inputs), device, self.memory)
            except RuntimeError as error:
                if not self.failed:
                    reason, _, _ = str(error).strip().partition("\n")
                    logger.warning(
                        f"Passes are not replayed as CUDA graphs, which changes no token: {reason}"
                    )
                self.failed.add(name)
                return work(tensors)
            self.memory = recording
            self.graphs[key] = recording, inputs
        recording, inputs = self.graphs[key]
        torch._foreach_copy_([*inputs.values()], [tensors[label] for label in inputs])
        recording.replay()
        return recording.result

    def hidden_states(
        self,
        model: nn.Module,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        *,
        keep: Tensor,
        cache: Any,
        positions: Tensor | None = None,
        start: int | None = None,
        blocks: Tensor | None = None,
    ) -> Tensor:
        """As `models.forward.hidden_states`, with tensors of the same shapes, without autograd."""
        given: dict[str, Any] = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "keep": keep,
            "positions": positions,
            "blocks": blocks,
        }
        from_cache = {} if cache is None else cache.indices()
        tensors = {
            name: value for name, value in {**given, **from_cache}.items() if isinstance(value, Tensor)
        }
        fixed = {name: value for name, value in from_cache.items() if name not in tensors}

        def work(inputs: dict[str, Tensor]) -> tuple[Tensor]:
            """The pass with `inputs` in place of `tensors`."""
            arguments = {name: inputs.get(name) for name in given}
            cache_of_inputs = None
            if cache is not None:
                indices = {name: inputs[name] for name in from_cache if name in inputs}
                cache_of_inputs = replace(cache, **indices)
            return (hidden_states(model, **arguments, cache=cache_of_inputs, start=start),)

        is_short = input_ids.numel() <= MOST_POSITIONS
        if not (is_short and input_ids.is_cuda and distributed.lockstep is None):
            return work(tensors)[0]
        kept_columns = None if cache is None else (id(cache.store), cache.first, cache.end)
        (states,) = self.run("hidden_states", work, tensors, (str(fixed), start, kept_columns))
        return states.clone()  # the next replay may overwrite it

"""Tensors that one of N processes holds at the highest point of a rollout and of an update, by what made them.

The other processes are pretended: what they are asked comes back at once, with any numbers. So one process is enough
for any N, and what is counted does not depend on the machine. Nothing is counted that a library takes inside of one
operation, as gloo does for a copy of what it sums. Further flags are those of llada_step.py:

    python benchmarks/tensors.py --processes 4 --shard layer --device cpu --layers 12 --hidden-size 1024 \\
        --vocabulary 16384 --lora-r 0 --prompt-length 32 --completion-length 64 --batch 4 --diffusion-steps 2
"""

import argparse
import gc
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from llada_step import arguments, invent, make_policy, update, write
from measuring import print_head, print_row
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from spg_trainer import distributed
from spg_trainer.distributed import local

OURS = ("spg_trainer", "transformers/models", "_fully_shard", "optim/adam", "nn/utils", "autograd/graph")
"""Parts of the paths of files whose lines are named."""
MIB = 2**20


class Held(TorchDispatchMode):
    """The bytes of all storages that operations have made and that are still alive, and where they were most."""

    def __init__(self) -> None:
        super().__init__()
        self.alive: dict[int, tuple[int, str]] = {}
        self.total = self.most = 0
        self.at_most: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                self.note(local(value).untyped_storage(), maker())
        return result

    def note(self, storage: torch.UntypedStorage, label: str) -> None:
        """Counts a storage, or what has become of its size."""
        key = storage._cdata
        before, known = self.alive.get(key, (0, label))
        if key not in self.alive:
            weakref.finalize(storage, self.forget, key)
        self.alive[key] = storage.nbytes(), known if before else label
        self.total += storage.nbytes() - before
        if self.total > self.most:
            self.most, self.at_most = self.total, Counter()
            for size, name in self.alive.values():
                self.at_most[name] += size

    def forget(self, key: int) -> None:
        self.total -= self.alive.pop(key)[0]

    def highest(self, work: Callable[[], object]) -> tuple[float, list[tuple[str, int]]]:
        """MiB at the highest point of some work, and the bytes of it by what made them."""
        gc.collect()
        self.most = 0
        with self:
            work()
        return self.most / MIB, self.at_most.most_common()


def maker() -> str:
    """The innermost line of the trainer, or of what it stands on, that is being run."""
    frame: Any = sys._getframe(2)
    while frame and not any(part in frame.f_code.co_filename for part in OURS):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}: {frame.f_code.co_name}" if frame else "this benchmark"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--processes", type=int, default=1, help="of the run, above 1 with --shard (1)")
    args, others = parser.parse_known_args()
    step_args = arguments([*others, "--no-plain"])
    if args.processes == 1:
        count(args, step_args)
        return
    from torch.testing._internal.distributed.fake_pg import FakeStore

    torch.distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=args.processes)
    try:
        with patch.object(distributed, "gather", lambda items: items):
            count(args, step_args)
    finally:
        distributed.lockstep = None
        torch.distributed.destroy_process_group()


def count(args: argparse.Namespace, step_args: argparse.Namespace) -> None:
    """Prints a table for each part of a second step, in which the optimizer has its state."""
    policy, held = make_policy(step_args), Held()
    trained = [weight for weight in policy.model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=3e-6)
    rollouts = invent(policy, step_args, 0)
    resize = torch.UntypedStorage.resize_

    def noted(storage: torch.UntypedStorage, size: int) -> Any:
        result = resize(storage, size)
        held.note(storage, maker())
        return result

    for weight in policy.model.parameters():
        held.note(local(weight.detach()).untyped_storage(), "weights")
    with patch.object(torch.UntypedStorage, "resize_", noted):
        works = {
            "rollout": lambda: write(policy, step_args, 1),
            "update": lambda: update(policy, optimizer, rollouts, step_args, 1),
        }
        held.highest(works["update"])
        for name, work in works.items():
            most, parts = held.highest(work)
            print(f"{name}: {most:.2f} MiB at most in a process of {args.processes}\n")
            print_head(["made by", "MiB"])
            for label, size in parts:
                if size > 0.002 * MIB * most:
                    print_row([label, f"{size / MIB:.2f}"])
            print()


if __name__ == "__main__":
    main()

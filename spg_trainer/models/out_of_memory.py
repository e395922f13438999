"""Repeats work with half as much at once if a GPU runs out of memory: rollouts, and updates (training/update.py)."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from spg_trainer import distributed

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def halved_until_it_fits(work: Callable[[int], Result], size: int, what: str) -> tuple[Result, int]:
    """(what `work(size)` returns, the size that fitted): `size` is halved until the work fits into memory.

    work: may be called again from its start. size: how many of `what` it has in memory at once. Raises
    torch.OutOfMemoryError if even 1 does not fit, and if processes make their passes together (`lockstep`).
    """
    while True:
        try:
            return work(size), size
        except torch.OutOfMemoryError as error:
            if size <= 1 or distributed.lockstep is not None:
                raise
            reason, _, _ = str(error).partition(". ")
        # Only here, outside the handler, are the tensors of the failed attempt gone.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning(f"{size} {what} at once do not fit, so from now on it is {size // 2}: {reason}.")
        size //= 2

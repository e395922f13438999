"""Work that is repeated with half as much at once, where a GPU's memory does not hold it."""

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from spg_trainer import distributed

Result = TypeVar("Result")

logger = logging.getLogger(__name__)


def halved_until_it_fits(work: Callable[[int], Result], size: int, what: str) -> tuple[Result, int]:
    """What `work(size)` returns, and the size with which it did: this one, or half of it, and so on.

    work: may be called again from its start. size: how many of `what` it has in memory at once. Raises
    torch.OutOfMemoryError where one is too many, and where processes make their passes together.
    """
    while True:
        try:
            return work(size), size
        except torch.OutOfMemoryError as error:
            if size <= 1 or distributed.lockstep is not None:
                raise
            reason = str(error).partition(". ")[0]
        # Only here, behind the handler, are the tensors of the failed attempt gone.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning(f"{size} {what} at once do not fit, so from now on it is {size // 2}: {reason}.")
        size //= 2

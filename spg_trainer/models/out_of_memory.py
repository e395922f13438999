"""Repeats work with half as much at once for as long as memory runs out."""

import logging
from collections.abc import Iterator
from types import TracebackType

import torch

from spg_trainer import distributed

logger = logging.getLogger(__name__)


class Attempt:
    """One attempt at some work, with `size` of its items in memory at once; a context around the work.

    If memory runs out inside and less would be possible, the error is logged and ends here. Less is not possible if
    `size` is 1, if processes make their passes together (`lockstep`), or if the work cannot be `repeated`.
    """

    def __init__(self, size: int, items: str, repeatable: bool) -> None:
        self.size, self.items, self.repeatable = size, items, repeatable
        self.has_succeeded = False

    def __enter__(self) -> "Attempt":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.has_succeeded = error is None
        can_halve = self.repeatable and self.size > 1 and distributed.lockstep is None
        if not isinstance(error, torch.OutOfMemoryError) or not can_halve:
            return False
        reason, _, _ = str(error).partition(". ")
        logger.warning(
            f"{self.size} {self.items} at once do not fit, so from now on it is {self.size // 2}: {reason}."
        )
        return True


def halved_until_it_fits(size: int, items: str, repeatable: bool = True) -> Iterator[Attempt]:
    """Yields attempts, each with half the size of the one before, until one succeeds.

    ```python
    for attempt in halved_until_it_fits(64, "rows"):
        with attempt:
            result = work(attempt.size)
    ```

    items: what is counted, for the log. repeatable: whether the work may be begun again; if not, there is one attempt.
    """
    attempt = Attempt(size, items, repeatable)
    yield attempt
    while not attempt.has_succeeded:
        # Only here, outside the context, are the tensors of the failed attempt gone.
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        attempt = Attempt(attempt.size // 2, items, repeatable)
        yield attempt

"""`python -m tests.common.one_fails ARGUMENTS`: a training whose second process fails in its second update."""

import itertools
import sys

from spg_trainer.cli import main
from spg_trainer.distributed import rank
from spg_trainer.training import update

original, calls = update.gradient, itertools.count()


def gradient(*arguments):
    if rank() == 1 and next(calls) == 1:
        raise RuntimeError("out of memory")
    return original(*arguments)


if __name__ == "__main__":
    update.gradient = gradient
    sys.exit(main(sys.argv[1:]))

"""`python -m tests.common.one_hangs ARGUMENTS`: a training whose second process hangs in its first update."""

import sys
import time

from spg_trainer.cli import main
from spg_trainer.distributed import rank
from spg_trainer.training import loop

original = loop.gradient


def gradient(*arguments):
    if rank() == 1:
        time.sleep(100)
    return original(*arguments)


if __name__ == "__main__":
    loop.gradient = gradient
    sys.exit(main(sys.argv[1:]))

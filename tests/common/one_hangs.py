"""`python -m tests.common.one_hangs ARGUMENTS`: a training or `sft` whose second process hangs in its first update."""

import sys
import time

from spg_trainer.cli import main
from spg_trainer.distributed import rank
from spg_trainer.training import update


def hanging(original):
    """A function that the second process does not come back from."""

    def hangs(*arguments):
        if rank() == 1:
            time.sleep(100)
        return original(*arguments)

    return hangs


if __name__ == "__main__":
    update.gradient = hanging(update.gradient)
    sys.exit(main(sys.argv[1:]))

"""`python -m spg_trainer`: see `cli.py`."""

import gc
import sys

from spg_trainer.cli import main

if __name__ == "__main__":
    status = main()
    gc.freeze()  # else Python looks through all objects for garbage before it ends: 0.2 s with torch
    sys.exit(status)

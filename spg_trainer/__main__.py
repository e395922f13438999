"""`python -m spg_trainer`: see `cli.py`."""

import sys

from spg_trainer.cli import main

if __name__ == "__main__":
    sys.exit(main())

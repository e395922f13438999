"""How rewards teach: one file per algorithm, each a masking, a likelihood and an objective."""

from spg_trainer.algorithms.base import Algorithm, Loss
from spg_trainer.algorithms.registry import ALGORITHMS, build, get

__all__ = ["ALGORITHMS", "Algorithm", "Loss", "build", "get"]

"""How rewards teach: one file per algorithm, each a masking, a likelihood and an objective."""

from spg_trainer.algorithms.base import Algorithm, CoupledAlgorithm, Loss, Metric
from spg_trainer.algorithms.registry import ALGORITHMS, build, find_algorithm, get

__all__ = ["ALGORITHMS", "Algorithm", "CoupledAlgorithm", "Loss", "Metric", "build", "find_algorithm", "get"]

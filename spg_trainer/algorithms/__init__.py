"""How rewards become a loss: a file for each algorithm, with its masking, its likelihood and its objective."""

from spg_trainer.algorithms.base import Algorithm, CoupledAlgorithm, Loss, Metric
from spg_trainer.algorithms.registry import ALGORITHMS, build, find_algorithm, get

__all__ = ["ALGORITHMS", "Algorithm", "CoupledAlgorithm", "Loss", "Metric", "build", "find_algorithm", "get"]

"""Likelihoods of completions under masked diffusion: masks, logps, bounds, and the gradient of a loss of logps."""

from spg_trainer.likelihood.bounds import elbo, eubo, mixture
from spg_trainer.likelihood.gradient import accumulate
from spg_trainer.likelihood.logps import token_logps
from spg_trainer.likelihood.masking import Completion, Copies, KeyedStreams, Masking, Streams
from spg_trainer.likelihood.random_masks import MASKINGS
from spg_trainer.tensors import Masks

__all__ = [
    "MASKINGS",
    "Completion",
    "Copies",
    "KeyedStreams",
    "Masking",
    "Masks",
    "Streams",
    "accumulate",
    "elbo",
    "eubo",
    "mixture",
    "token_logps",
]

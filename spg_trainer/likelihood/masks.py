"""The maskings of the package by name: one for each way to estimate a completion's log-likelihood.

A new one is a class derived from `masking.Masking` that says all `copies` of a completion, and a line of `MASKINGS`
below; `masking=NAME` chooses it.
"""

from spg_trainer.likelihood.block_masks import ActiveBlockMasking, AllBlocksMasking, BlockMasking
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import AutoregressiveMasking, StepMergeMasking
from spg_trainer.likelihood.subset_masks import (
    BernoulliMasking,
    CoupledMasking,
    FullCoupledMasking,
    FullMasking,
    GaussMasking,
    RandomMasking,
    RisingMasking,
)

MASKINGS: dict[str, Masking] = {
    "random": RandomMasking(),
    "block": BlockMasking(),
    "block_active": ActiveBlockMasking(),
    "trajectory": StepMergeMasking(segment_draw="uniform"),
    "all": FullMasking(),
    "bernoulli": BernoulliMasking(),
    "coupled": CoupledMasking(),
    "gauss": GaussMasking(),
    "rising": RisingMasking(),
    "autoregressive": AutoregressiveMasking(),
    "step_merge": StepMergeMasking(),
    "coupled_full": FullCoupledMasking(),
    "all_blocks": AllBlocksMasking(),
}
"""What `--algorithm-args masking=NAME` chooses from, each before an algorithm's fields are put in."""


def likelihoods() -> dict[str, Masking]:
    """Those of `MASKINGS` that say `is_likelihood`."""
    return {name: masking for name, masking in MASKINGS.items() if masking.is_likelihood}

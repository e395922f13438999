"""`MASKINGS`, the package's maskings by name: each is a way to mask a completion so that it can be scored.

To add one, write a subclass of `masking.Masking` whose `copies` returns the masked copies of a completion, and add a
line to `MASKINGS` below.
"""

from spg_trainer.likelihood.block_masks import (
    ActiveBlockMasking,
    BlockMasking,
    GaussBlocksMasking,
)
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import AutoregressiveMasking, StepMergeMasking
from spg_trainer.likelihood.subset_masks import (
    BernoulliMasking,
    CoupledMasking,
    FullCoupledMasking,
    FullMasking,
    GaussMasking,
    InformedMasking,
    RandomMasking,
    RisingMasking,
)

MASKINGS: dict[str, Masking] = {
    "random": RandomMasking(),
    "block": BlockMasking(),
    "block_active": ActiveBlockMasking(),
    "trajectory": StepMergeMasking(segment_draw="uniform"),
    "informed": InformedMasking(),
    "all": FullMasking(),
    "bernoulli": BernoulliMasking(),
    "coupled": CoupledMasking(),
    "gauss": GaussMasking(),
    "rising": RisingMasking(),
    "autoregressive": AutoregressiveMasking(),
    "step_merge": StepMergeMasking(),
    "coupled_full": FullCoupledMasking(),
    "gauss_blocks": GaussBlocksMasking(),
}
"""What `--algorithm-args masking=NAME` chooses from, with default fields. An algorithm replaces the fields that it also
has, such as num_masks."""


def likelihoods() -> dict[str, Masking]:
    """The maskings of `MASKINGS` whose ELBO bounds, or is, a log-likelihood in the mean (`Masking.is_likelihood`)."""
    return {name: masking for name, masking in MASKINGS.items() if masking.is_likelihood}

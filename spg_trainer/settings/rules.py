"""The rules of decoding by name, each with what other parts of the trainer ask of it. No torch is imported here.

The functions are in `rollout/unmasking.py`, which says what they take and return. To add a rule to the package, write
its function and a line here; from outside, `UNMASKING["mine"] = Unmasking(function)`. A rule in a user's file,
`--unmasking ./mine.py:count`, needs no line: OWN_UNMASKING and OWN_REMASKING say what is assumed of it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Unmasking:
    """How many tokens a pass unmasks (--unmasking)."""

    function: str | Callable[..., Any]
    """The rule (`UnmaskingRule`), or its name in `rollout/unmasking.py`."""
    reads: tuple[str, ...] = ("max_tokens_per_step",)
    """The settings of decoding that it reads, of those that some other rule does not read."""
    counts_sure: bool = True
    """Whether it counts tokens that the model is sure of, so that the most probable ones must be unmasked first."""
    is_planned: bool = False
    """Whether the settings alone decide how many tokens each pass unmasks."""
    follows_schedule: bool = False
    """Whether a pass unmasks at least as many tokens as --diffusion-steps says."""
    on_engine: bool = False
    """Whether an engine has it, too (--rollout-engine)."""
    redraws: bool = False
    """Whether it is for models that hide a token by a random one, and writes whole canvases (`rollout/redraw.py`)."""

    def is_sure(self, threshold: float, factor: float) -> bool:
        """Whether the model is sure of what is unmasked together: of each token, and with little doubt in all."""
        return "threshold" in self.reads and threshold >= 0.95 and ("factor" not in self.reads or factor <= 1)


@dataclass(frozen=True)
class Remasking:
    """In what order a pass unmasks tokens (--remasking)."""

    function: str | Callable[..., Any]
    """The rule (`RemaskingRule`), or its name in `rollout/unmasking.py`."""
    measure: str | Callable[..., Any] = ""
    """The measure of the probabilities at each position that the rule gets in place of the drawn token's
    log-probability, or its name in `rollout/unmasking.py`; "" = none."""
    surest_first: bool = False
    """Whether the most probable tokens come first, as unmasking by confidence needs them."""
    draws: bool = False
    """Whether the order depends on chance."""


@dataclass(frozen=True)
class Cache:
    """Which keys and values are kept between passes (--cache)."""

    margins: Callable[[Any], tuple[int, int | None]] | None
    """From a `Sampling`: how many columns a pass computes before its block, and how many after it (None = all after
    it). Without a function every pass computes all columns, and nothing is kept."""
    reads: tuple[str, ...] = ()
    """The settings of decoding that it reads, of those that some other cache does not read."""
    keeps_blocks: bool = False
    """Whether it keeps finished blocks, which never change in a model with attention by blocks, and so is exact."""


OWN_UNMASKING = Unmasking("", counts_sure=False)
OWN_REMASKING = Remasking("", draws=True)

UNMASKING = {
    "schedule": Unmasking(
        "scheduled_counts", (), counts_sure=False, is_planned=True, follows_schedule=True, on_engine=True
    ),
    "threshold": Unmasking(
        "counts_above_threshold", ("threshold", "fallback", "max_tokens_per_step"), on_engine=True
    ),
    "factor": Unmasking("counts_within_factor", ("factor", "max_tokens_per_step")),
    "dynamic": Unmasking(
        "counts_above_threshold_or_scheduled",
        ("threshold", "max_tokens_per_step"),
        follows_schedule=True,
        on_engine=True,
    ),
    "budget": Unmasking(
        "counts_within_budget", ("threshold", "factor", "max_tokens_per_step"), follows_schedule=True
    ),
    "entropy_bound": Unmasking("", (), counts_sure=False, redraws=True),
}
"""{NAME of --unmasking: rule}."""
REMASKING = {
    "low_confidence": Remasking("surest_first", surest_first=True),
    "random": Remasking("random_order", draws=True),
    "entropy": Remasking("surest_first", measure="certainty"),
    "margin": Remasking("surest_first", measure="margin"),
    "sequential": Remasking("leftmost_first"),
}
"""{NAME of --remasking: rule}."""
CACHES = {
    "none": Cache(None),
    "prefix": Cache(lambda sampling: (0, None), ("prompt_refresh_steps",)),
    "dual": Cache(lambda sampling: (0, 0), ("prompt_refresh_steps",)),
    "window": Cache(
        lambda sampling: (sampling.window_tokens, sampling.window_tokens),
        ("prompt_refresh_steps", "window_tokens"),
    ),
    "blocks": Cache(lambda sampling: (0, 0), keeps_blocks=True),
}
"""{NAME of --cache: cache}. `prefix` and `dual` are Fast-dLLM's (arXiv 2505.22618), `window` is dInfer's vicinity
(arXiv 2510.08666). With `blocks` a row is refreshed in its first pass only, and a later pass computes the block of
attention that holds the active block."""

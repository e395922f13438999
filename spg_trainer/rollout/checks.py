"""Which settings of decoding go together, and with a model; what `--dry-run` can ask before a model is opened."""

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.cache import CACHES
from spg_trainer.rollout.unmasking import REMASKING, UNMASKING
from spg_trainer.settings.decoding import Sampling


def check_names(sampling: Sampling) -> None:
    """Raises ConfigError for a cache, unmasking or remasking that no table has; it lists the known ones."""
    for flag, table in (("cache", CACHES), ("unmasking", UNMASKING), ("remasking", REMASKING)):
        name = getattr(sampling, flag)
        if name not in table:
            raise ConfigError(f"--{flag} {name!r} is unknown. Use one of: {', '.join(table)}.")


def check_pattern(pattern: Pattern, sampling: Sampling) -> None:
    """Raises ConfigError for a cache or blocks that do not go with who attends to whom in a model."""
    size, block, cache = pattern.block_size, sampling.block_length, sampling.cache
    if pattern.is_full:
        if cache == "blocks":
            raise ConfigError(
                "cache=blocks keeps the keys of finished blocks, which change in this model: every token attends to "
                "every other. Use cache=none, or cache=dual, which is an approximation."
            )
        return
    if size % block:
        fits = max(n for n in range(1, min(block, size) + 1) if size % n == 0)
        raise ConfigError(
            f"block_length={block} does not divide the {size} tokens of a block of the model's attention. Use "
            f"{' or '.join(f'block_length={n}' for n in sorted({fits, size}))}."
        )
    if cache not in ("none", "blocks"):
        raise ConfigError(
            f"cache={cache} approximates a model whose tokens all attend to each other; in this one finished blocks "
            "never change. Use cache=blocks, which is exact."
        )

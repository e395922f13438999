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
    block_length, cache = sampling.block_length, sampling.cache
    if pattern.is_full:
        if cache == "blocks":
            raise ConfigError(
                "cache=blocks keeps the keys of finished blocks, which change in this model: every token attends to "
                "every other. Use cache=none, or cache=dual, which is an approximation."
            )
        return
    attention_block = pattern.block_size
    if attention_block % block_length:
        up_to = min(block_length, attention_block)
        nearest = max(n for n in range(1, up_to + 1) if attention_block % n == 0)
        raise ConfigError(
            f"block_length={block_length} does not divide the {attention_block} tokens of a block of the model's "
            f"attention. Use {' or '.join(f'block_length={n}' for n in sorted({nearest, attention_block}))}."
        )
    if cache not in ("none", "blocks"):
        raise ConfigError(
            f"cache={cache} approximates a model whose tokens all attend to each other; in this one finished blocks "
            "never change. Use cache=blocks, which is exact."
        )

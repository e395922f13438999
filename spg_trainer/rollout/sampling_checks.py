"""Refuses settings of decoding that cannot work, in themselves or with a model's attention; weights are not needed."""

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.rollout.cache import CACHES
from spg_trainer.rollout.unmasking import FALLBACKS, REMASKING, UNMASKING, own_order, unmasking_rule
from spg_trainer.settings.decoding import Sampling


def check_names(sampling: Sampling) -> None:
    """Raises ConfigError for an unknown name of a cache, unmasking, fallback or remasking, and lists the known ones.

    A rule from a user's file or module (`own_order`, `unmasking_rule`) is loaded and tried.
    """
    for flag, table in (
        ("cache", CACHES),
        ("unmasking", UNMASKING),
        ("fallback", FALLBACKS),
        ("remasking", REMASKING),
    ):
        name = getattr(sampling, flag)
        if flag == "remasking" and ":" in name:
            own_order(name)
        elif flag == "unmasking" and ":" in name:
            unmasking_rule(sampling)
        elif name not in table:
            own = {"remasking": "order", "unmasking": "count"}.get(flag)
            or_own = f", or ./mine.py:{own} for one of your own" if own else ""
            raise ConfigError(f"${flag}={name!r} is unknown. Use one of: {', '.join(table)}{or_own}.")


def check_pattern(pattern: Pattern, sampling: Sampling) -> None:
    """Raises ConfigError for a cache or a block length that does not go with `pattern`: which tokens see which."""
    block_length, cache = sampling.block_length, sampling.cache
    if pattern.is_full:
        if cache == "blocks":
            raise ConfigError(
                "$cache=blocks keeps the keys of finished blocks, which change in this model: every token attends to "
                "every other. Use $cache=none, or $cache=dual, which is an approximation."
            )
        return
    if pattern.has_causal_context and sampling.editing_threshold is not None:
        raise ConfigError(
            f"editing_threshold={sampling.editing_threshold}: in this model a block's first token is drawn before the "
            "others, which it does not see, so that it cannot be drawn again beside them. Leave out editing_threshold."
        )
    attention_block = pattern.block_size
    if attention_block % block_length:
        up_to = min(block_length, attention_block)
        largest_divisor = max(n for n in range(1, up_to + 1) if attention_block % n == 0)
        fitting = sorted({largest_divisor, attention_block})
        raise ConfigError(
            f"$block_length={block_length} does not divide the {attention_block} tokens of a block of the model's "
            f"attention. Use {' or '.join(f'$block_length={n}' for n in fitting)}."
        )
    if cache not in ("none", "blocks"):
        raise ConfigError(
            f"$cache={cache} approximates a model whose tokens all attend to each other; in this one finished blocks "
            "never change. Use $cache=blocks, which is exact."
        )

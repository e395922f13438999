"""Which columns the passes over a row compute, from the settings alone: what decoding costs."""

from collections.abc import Iterator

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.rollout.cache import CACHES, window
from spg_trainer.settings.decoding import Sampling


def passes(sampling: Sampling, prompt_length: int, pattern: Pattern) -> Iterator[tuple[int, int, int]]:
    """(columns computed, columns seen, masked tokens of the block) in each pass over a row, as `columns.py` has them.

    Without `--unmasking schedule` these are the most passes that a row can take: each then unmasks a single token.
    """
    keeps = CACHES[sampling.cache] is not None
    end = prompt_length + sampling.max_completion_length
    by_schedule = sampling.unmasking == "schedule"
    steps_of_full_block = sampling.steps_per_block if by_schedule else sampling.block_length
    passes_before = prompt_computed = 0
    for first, last in pattern.spans(prompt_length, sampling.max_completion_length, sampling.block_length):
        start, stop, size = prompt_length + first, prompt_length + last, last - first
        steps = -(-size * steps_of_full_block // sampling.block_length)
        attention_start, seen = start, end
        if not pattern.is_full:  # nobody sees what stands behind attention's block
            edges = pattern.block_of(first, prompt_length)
            attention_start, seen = (min(end, prompt_length + edge) for edge in edges)
        for step in range(steps):
            is_refresh = step == 0 or not keeps
            if passes_before == 0:
                computed = seen
            elif sampling.cache == "blocks":
                computed = seen - attention_start
                if step == 0 and start == attention_start:
                    # The block before has no keys yet of the tokens that were written last: it is computed too.
                    computed += pattern.block_size
            elif not is_refresh:
                left, right = window(start, stop, seen, sampling)
                computed = right - left
            elif passes_before - prompt_computed < sampling.prompt_refresh_steps:
                computed = seen - prompt_length
            else:
                computed, prompt_computed = seen, passes_before
            yield computed, seen, size * (steps - step) // steps
            passes_before += 1

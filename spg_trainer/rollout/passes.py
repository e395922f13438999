"""Works out, from the settings alone, which columns each forward pass over a row computes: what decoding costs."""

import math
from collections.abc import Iterator

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.rollout.cache import CACHES, window_of_block
from spg_trainer.settings.decoding import Sampling


def rollout_passes(
    sampling: Sampling, prompt_length: int, pattern: Pattern
) -> Iterator[tuple[int, int, int]]:
    """Yields (columns computed, columns seen, tokens drawn) for each pass over a row.

    A pass draws a token for each masked place of its block. `columns.py` computes these columns. Without `--unmasking
    schedule`, each pass counts here as unmasking a single token, so a row may need fewer passes than this.
    """
    keeps_columns = CACHES[sampling.cache] is not None
    columns = prompt_length + sampling.max_completion_length
    by_schedule = sampling.unmasking == "schedule"
    steps_of_full_block = sampling.steps_per_block if by_schedule else sampling.block_length
    passes_before = 0
    prompt_computed = 0  # the number of the pass that last computed the prompt
    for first, end in pattern.spans(prompt_length, sampling.max_completion_length, sampling.block_length):
        start, stop, size = prompt_length + first, prompt_length + end, end - first
        steps = math.ceil(size * steps_of_full_block / sampling.block_length)  # its share of the steps
        attention_start, seen = start, columns
        if not pattern.is_full:  # columns after the block of attention are not seen
            edges = pattern.block_of(first, prompt_length)
            attention_start, seen = (min(columns, prompt_length + edge) for edge in edges)
        # With a causal context, a pass of its own writes the first token of a block of attention.
        first_has_own_pass = pattern.has_causal_context and start == attention_start
        if first_has_own_pass:
            steps = 1 + math.ceil((size - 1) * steps_of_full_block / sampling.block_length)
        for step in range(steps):
            is_refresh = step == 0 or not keeps_columns
            if passes_before == 0:  # the first pass of a row is a refresh with every cache
                computed = seen
            elif sampling.cache == "blocks":
                computed = seen - attention_start
                if step == 0 and start == attention_start:
                    # The last tokens of the block before were written after its keys: they are computed again.
                    computed += pattern.block_size
            elif not is_refresh:
                first_column, end_column = window_of_block(start, stop, seen, sampling)
                computed = end_column - first_column
            elif passes_before - prompt_computed < sampling.prompt_refresh_steps:
                computed = seen - prompt_length  # the prompt is kept
            else:
                computed, prompt_computed = seen, passes_before
            # How many places of the block are still masked.
            if not first_has_own_pass:
                drawn = size * (steps - step) // steps
            elif step == 0:
                drawn = 1
            else:
                drawn = (size - 1) * (steps - step) // (steps - 1)
            yield computed, seen, drawn
            passes_before += 1

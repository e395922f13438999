"""Works out, from the settings alone, which columns each forward pass over a row computes: what decoding costs."""

from collections.abc import Iterator

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.rollout.cache import CACHES, window
from spg_trainer.settings.decoding import Sampling


def rollout_passes(
    sampling: Sampling, prompt_length: int, pattern: Pattern
) -> Iterator[tuple[int, int, int]]:
    """Yields (columns computed, columns seen, tokens drawn: the block's masked ones) for each pass over a row.

    `columns.py` computes these columns. Without `--unmasking schedule` a row may need fewer passes: here each pass
    unmasks a single token.
    """
    keeps_columns = CACHES[sampling.cache] is not None
    columns = prompt_length + sampling.max_completion_length
    by_schedule = sampling.unmasking == "schedule"
    steps_of_full_block = sampling.steps_per_block if by_schedule else sampling.block_length
    passes_before = 0
    prompt_computed = 0  # the number of the pass that last computed the prompt
    for first, last in pattern.spans(prompt_length, sampling.max_completion_length, sampling.block_length):
        start, stop, size = prompt_length + first, prompt_length + last, last - first
        steps = -(-size * steps_of_full_block // sampling.block_length)  # rounded up
        attention_start, seen = start, columns
        if not pattern.is_full:  # columns behind the block of attention are not seen
            edges = pattern.block_of(first, prompt_length)
            attention_start, seen = (min(columns, prompt_length + edge) for edge in edges)
        # The first token of such a block is written by a pass of its own.
        first_token_alone = pattern.has_causal_context and start == attention_start
        if first_token_alone:
            steps = 1 - (1 - size) * steps_of_full_block // sampling.block_length  # rounded up
        for step in range(steps):
            is_refresh = step == 0 or not keeps_columns
            if passes_before == 0:
                computed = seen
            elif sampling.cache == "blocks":
                computed = seen - attention_start
                if step == 0 and start == attention_start:
                    # The last tokens of the block before were written after its keys were computed: it comes again.
                    computed += pattern.block_size
            elif not is_refresh:
                first_column, end_column = window(start, stop, seen, sampling)
                computed = end_column - first_column
            elif passes_before - prompt_computed < sampling.prompt_refresh_steps:
                computed = seen - prompt_length  # the prompt is kept
            else:
                computed, prompt_computed = seen, passes_before
            masked = size * (steps - step) // steps
            if first_token_alone:
                masked = (size - 1) * (steps - step) // (steps - 1) if step else 1
            yield computed, seen, masked
            passes_before += 1

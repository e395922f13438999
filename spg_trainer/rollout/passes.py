"""Which columns the passes over a row compute, from the settings alone: what decoding costs."""

from collections.abc import Iterator

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.rollout.cache import CACHES, window
from spg_trainer.settings.decoding import Sampling


def passes(s: Sampling, prompt: int, pattern: Pattern) -> Iterator[tuple[int, int, int]]:
    """(columns computed, columns seen, masked tokens of the block) in each pass over a row; without a schedule at most,
    a token at a time.
    """
    kept, end, number, fresh_prompt = CACHES[s.cache], prompt + s.max_completion_length, 0, 0
    of_whole = s.steps_per_block if s.unmasking == "schedule" else s.block_length
    for first, last in pattern.spans(prompt, s.max_completion_length, s.block_length):
        start, stop, size = prompt + first, prompt + last, last - first
        steps = -(-size * of_whole // s.block_length)
        if pattern.is_full:
            own, seen = start, end
        else:  # nobody sees what stands behind attention's block
            own, seen = (min(end, prompt + edge) for edge in pattern.block_of(first, prompt))
        for step in range(steps):
            masked = size * (steps - step) // steps
            if s.cache == "blocks":  # the first step of attention's block also computes the one before it
                entered = step == 0 and start == own
                yield seen - own + entered * pattern.block_size if number else seen, seen, masked
            elif kept and step:
                left, right = window(start, stop, seen, s)
                yield right - left, seen, masked
            elif number and number - fresh_prompt < s.prompt_refresh_steps:
                yield seen - prompt, seen, masked
            else:
                yield seen, seen, masked
                fresh_prompt = number
            number += 1

"""How a completion is decoded: lengths, steps, temperature, how many tokens a step reveals. No torch."""

import math
from dataclasses import dataclass
from typing import Literal, get_args

from spg_trainer.errors import ConfigError

Remasking = Literal["low_confidence", "random"]


@dataclass(frozen=True)
class Sampling:
    """How completions are decoded; the defaults are LLaDA's.

    A completion is `max_completion_length` hidden tokens, cut into blocks of `block_length` that are denoised
    from left to right. `diffusion_steps` counts model calls over all blocks. `temperature` scales the Gumbel
    noise on the logits (0 = greedy). `remasking` says which of the sampled tokens stay: those the model is
    surest of, or random ones.
    """

    max_completion_length: int = 256
    block_length: int = 32
    diffusion_steps: int = 128
    temperature: float = 0.0
    remasking: Remasking = "low_confidence"

    @classmethod
    def at_rate(
        cls,
        max_completion_length: int,
        block_length: int,
        tokens_per_step: float,
        temperature: float = 0.0,
        remasking: Remasking = "low_confidence",
    ) -> "Sampling":
        """Blocks no longer than the completion, and the steps that reveal about so many tokens each.

        The steps are rounded to a multiple of the number of blocks, so that every block has as many.
        """
        block = min(block_length, max_completion_length)
        blocks = max(1, max_completion_length // block) if block > 0 else 1  # `check` tells of block 0
        steps = max(1, round(max_completion_length / blocks / tokens_per_step)) * blocks
        return cls(max_completion_length, block, steps, temperature, remasking)

    @property
    def num_blocks(self) -> int:
        """Blocks of a completion."""
        return self.max_completion_length // self.block_length

    @property
    def steps_per_block(self) -> int:
        """Denoising steps spent on each block."""
        return self.diffusion_steps // self.num_blocks

    @property
    def draws_noise(self) -> bool:
        """Whether decoding is random at all; if not, no generators are needed."""
        return self.temperature > 0 or self.remasking == "random"

    def check(self) -> None:
        """Makes sure that these numbers can decode.

        Raises:
            ConfigError: a number out of range, or lengths and steps that do not divide, with the arithmetic.
        """
        for name in ("max_completion_length", "block_length", "diffusion_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r} must be a whole number of at least 1.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature={self.temperature} must be 0 (greedy) or a finite number above.")
        if self.remasking not in get_args(Remasking):
            known = ", ".join(get_args(Remasking))
            raise ConfigError(f"remasking={self.remasking!r} is unknown. Use one of: {known}.")
        self._check_division()

    def _check_division(self) -> None:
        length, block, steps = self.max_completion_length, self.block_length, self.diffusion_steps
        if length % block:
            raise ConfigError(
                f"block_length={block} does not divide max_completion_length={length}: {length} / {block} = "
                f"{length / block:.2f} blocks. Use block_length={_nearest_divisor(length, block)} or "
                f"max_completion_length={_round_up(length, block)}."
            )
        blocks = length // block
        if steps % blocks:
            raise ConfigError(
                f"diffusion_steps={steps} cannot be shared by {blocks} blocks ({length} tokens / {block} per "
                f"block): {steps} / {blocks} = {steps / blocks:.2f} steps per block. "
                f"Use diffusion_steps={min(_round_up(steps, blocks), length)}."
            )
        if steps > length:
            raise ConfigError(
                f"diffusion_steps={steps} over {blocks} blocks is {steps // blocks} steps per block, but a "
                f"block has only {block} tokens to reveal. Use diffusion_steps={length} or fewer."
            )


def reveal_counts(hidden: int, steps: int) -> list[int]:
    """How many of `hidden` tokens each of `steps` steps reveals: evenly, the first steps one more.

    Source: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`.
    """
    base, more = divmod(hidden, steps)
    return [base + (step < more) for step in range(steps)]


def _nearest_divisor(length: int, block: int) -> int:
    divisors = (d for d in range(1, length + 1) if length % d == 0)
    return min(divisors, key=lambda d: (abs(d - block), -d))


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit

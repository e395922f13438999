"""The settings of decoding: lengths, steps, temperature, and what a denoising step computes and unmasks.

`Sampling` has the settings for one completion, and for a training. `eval` has `EvalRollout`, with several lengths and
numbers of steps, and makes an `EvalSampling` for each pair of these.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from numbers import Integral
from typing import Any, Literal, Self

from spg_trainer.errors import ConfigError
from spg_trainer.settings.rules import (
    CACHES,
    OWN_REMASKING,
    OWN_UNMASKING,
    REMASKING,
    UNMASKING,
    Remasking,
    Unmasking,
)
from spg_trainer.settings.types import (
    Count,
    CountOrZero,
    LengthOrZero,
    NotNegative,
    Positive,
    Probability,
    Temperature,
    check_values,
    explained,
    scalar,
    without_folders,
)

Steps = int | str
"""Denoising steps of a completion: a number, or `length/2` for as many as unmask about two tokens each."""

LENGTHS = ("max_completion_length", "block_length", "diffusion_steps")
"""The settings of lengths. All three must come from one source (a recipe, a model), since they must divide each
other."""
DRAW_SETTINGS = (
    "remasking",
    "top_p",
    "top_k",
    "eos_penalty",
    "min_completion_length",
    "stop",
    "editing_threshold",
)
"""The settings of `Decoding` that change how tokens and their positions are drawn, and where a completion ends. The
other settings save time: they change how many tokens a step unmasks, and what it computes anew."""


@explained
@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a denoising step computes and unmasks: by default exactly what the plain LLaDA sampler does."""

    remasking: str = "low_confidence"
    """Which masked positions a step unmasks first. low_confidence takes those whose token has the highest probability
    (it is named after those that stay masked), entropy those with the lowest entropy, margin those with the largest gap
    between the best and the second-best token (Dream), random any, and sequential the leftmost. ./mine.py:order names a
    function of your own. Set it to what the model's authors decode with."""
    unmasking: str = "schedule"
    """How many tokens a step unmasks. schedule spreads the completion over --diffusion-steps; threshold unmasks every
    token with a probability of at least --threshold, and factor as many as --factor allows (Fast-dLLM); dynamic is
    threshold, but never fewer than the schedule's number (SDAR); budget is dynamic, but stops where the tokens' doubts
    add up to --factor times (1 - --threshold) (SLIM-RL). entropy_bound is for models that hide tokens by random
    ones (DiffusionGemma) and for no others: it decodes as their generation_config.json says, and reads no
    --temperature. ./mine.py:count names a function of your own. All but schedule
    and entropy_bound decode faster and are approximations."""
    fallback: Literal["surest", "leftmost", "leftmost_drawn"] = "surest"
    """What --unmasking threshold writes in a step in which no token reaches the threshold. surest is the most probable
    token (Fast-dLLM), leftmost the token of the first masked position. leftmost compares the highest probability at
    each position with the threshold, so that the text so far decides which positions a step writes; leftmost_drawn
    compares the drawn token's probability, as in the paper on Fork-dLLM. For --algorithm forkgrpo."""
    threshold: Probability = 0.95
    """The probability, above 0 and up to 1, from which --unmasking threshold, dynamic and budget unmask a token. Lower
    values decode faster and less exactly."""
    factor: Positive = 1.0
    """How much doubt --unmasking factor and budget allow, above 0. Both unmask the n most probable tokens together, for
    the largest n that is allowed. factor: the n-th probability must be at least 1 - factor / (n + 1). budget: the sum
    of 1 - probability over the n tokens must be at most factor * (1 - threshold). Raise it to decode faster."""
    max_tokens_per_step: CountOrZero = 0
    """The most tokens that a step may unmask; 0 sets no limit. Training with --unmasking threshold, dynamic, budget or
    factor needs a limit such as 4."""
    top_p: Probability = 1.0
    """Nucleus sampling: tokens are drawn only from the most probable ones whose probabilities add up to this value,
    above 0 and up to 1; 1 allows all. Lower it to draw fewer unlikely tokens. It does nothing at temperature 0."""
    top_k: CountOrZero = 0
    """The number of most probable tokens that may be drawn; 0 allows all. Lower it to draw fewer unlikely tokens. It
    does nothing at temperature 0."""
    eos_penalty: NotNegative = 0.0
    """What is subtracted from the logits of end tokens before anything is drawn. Raise it, to 1 or more, if completions
    end too early."""
    min_completion_length: CountOrZero = 0
    """The number of first tokens of a completion among which no end token may be drawn. Raise it if completions are
    empty, or end before their answer."""
    stop: str = ""
    """A text that ends a completion as an end token does, such as "Question:"; it is not part of what is judged. Set it
    if the model runs on behind its answer. Blocks behind the one in which the text stands are not written."""
    cache: str = "none"
    """The tokens whose keys and values are kept between steps. none keeps nothing and is exact; prefix keeps the tokens
    before the block; dual those before and after it; window all except the block and --window-tokens on each side;
    blocks the finished blocks, which is exact, for models whose attention goes by blocks. Set one to decode faster."""
    window_tokens: CountOrZero = 16
    """The number of tokens on either side of the block that --cache window computes anew in each step. Raise it if the
    cache changes completions too much."""
    editing_threshold: NotNegative | None = None
    """The probability above which a step also replaces a token that was already unmasked (LLaDA2.1). If it is left out,
    tokens stay as they are. A training takes it with algorithms that learn from the finished text alone."""
    prompt_refresh_steps: CountOrZero = 0
    """The age in steps from which a cached prompt is computed anew at the start of a block; 0 computes it anew for
    every block. Raise it to decode faster after a long prompt."""

    @property
    def unmasking_rule(self) -> Unmasking:
        """What is known of the rule of `unmasking`."""
        return UNMASKING.get(self.unmasking, OWN_UNMASKING)

    @property
    def remasking_rule(self) -> Remasking:
        """What is known of the rule of `remasking`."""
        return REMASKING.get(self.remasking, OWN_REMASKING)

    @property
    def shortcuts(self) -> list[str]:
        """The settings that make decoding an approximation, e.g. `["cache dual"]`; `cache blocks` is exact."""
        return self._changed(without=DRAW_SETTINGS)

    @property
    def unusual(self) -> list[str]:
        """The settings that the name of an evaluation lists: the `shortcuts`, and those that change what is written."""
        listed = ("top_p", "top_k", "remasking", "editing_threshold")
        return self._changed(without=[name for name in DRAW_SETTINGS if name not in listed])

    def _changed(self, without: Sequence[str]) -> list[str]:
        """The settings that differ from their defaults, with their values, e.g. `["cache dual"]`.

        without: names of settings that are left out; so are `cache blocks` and `unmasking entropy_bound`.
        """
        # A subclass also has lengths, steps and a temperature, which are not listed here.
        changed = [f.name for f in fields(Decoding) if getattr(self, f.name) != f.default]
        # Names of evaluations have these texts, so a rule of one's own is shown without its folders.
        if self.cache in CACHES and CACHES[self.cache].keeps_blocks:
            without = [*without, "cache"]
        if self.unmasking_rule.redraws:  # the only decoding of the models that have it
            without = [*without, "unmasking"]
        return [f"{name} {without_folders(getattr(self, name))}" for name in changed if name not in without]


@explained
@dataclass(frozen=True)
class Sampling(Decoding):
    """How completions are sampled. `eval` takes the lengths and steps from here, but has its own temperature."""

    max_completion_length: LengthOrZero = 256
    """The length of a completion in tokens (T). Raise it if completions are cut off. Where demonstrations are learned,
    0 takes 10% more than the longest of 2,000 of them, in whole blocks."""
    block_length: CountOrZero = 32
    """The length of a block in tokens; blocks are decoded from left to right. It must divide the completion length.
    Where demonstrations are learned, 0 takes the blocks of the model's attention; if it has none, those of a training
    by RL on the task, if they divide the completion, or else the whole completion."""
    diffusion_steps: Steps = 128
    """The number of denoising steps of a whole completion, a multiple of its number of blocks; or length/N, for about N
    tokens a step. Fewer steps decode faster and less accurately."""
    temperature: Temperature = 0.0
    """The sampling temperature; 0 is greedy, with which only raft can train. Raise it if all completions of
    a problem are alike."""

    def __post_init__(self) -> None:
        """Turns `length/N` into a number of steps, unless the lengths are still open (`is_settled`)."""
        if isinstance(self.diffusion_steps, str) and self.is_settled:
            steps = count_steps(self.max_completion_length, self.block_length, self.diffusion_steps)
            object.__setattr__(self, "diffusion_steps", steps)

    @classmethod
    def of(cls, length: int, block_length: int, steps: Steps, **more: Any) -> Self:
        """Decoding of completions of a length; a block is at most as long as the completion.

        steps: a number, or `length/N` for about N tokens a step; all blocks then take equally many steps.
        `of(64, 32, "length/2")` has 32 steps. more: any other setting.

        Raises ConfigError for impossible numbers, and for text that is not `length/N`.
        """
        block = min(block_length, length)
        count = count_steps(length, block, steps)
        sampling = cls(max_completion_length=length, block_length=block, diffusion_steps=count, **more)
        sampling.check()
        return sampling

    @property
    def is_settled(self) -> bool:
        """Whether the lengths of a completion and its blocks are set and fit, so that steps can be counted."""
        length, block = self.max_completion_length, self.block_length
        are_numbers = isinstance(length, Integral) and isinstance(block, Integral)
        return are_numbers and length > 0 and block > 0 and length % block == 0

    @property
    def num_blocks(self) -> int:
        return self.max_completion_length // self.block_length

    @property
    def steps_per_block(self) -> int:
        return self.diffusion_steps // self.num_blocks

    @property
    def tokens_per_step(self) -> float:
        return self.max_completion_length / self.diffusion_steps

    @property
    def draws_noise(self) -> bool:
        """Whether decoding may be random, and so needs generators. A user's own order of unmasking counts as random."""
        return self.temperature > 0 or self.remasking_rule.draws or self.unmasking_rule.redraws

    def check(self) -> None:
        """Raises ConfigError for numbers out of their ranges, and for what `check_together` refuses."""
        check_values(self)
        self.check_together()

    def check_together(self) -> None:
        """Raises ConfigError for settings that are allowed one by one but not together.

        E.g. a block length that does not divide the completion length, a setting that has no effect with another one,
        or a cache that has nothing to keep.
        """
        self._check_lengths()
        self._check_choices()

    def _check_lengths(self) -> None:
        """Raises ConfigError for lengths and steps that do not fit together."""
        length, block, steps = self.max_completion_length, self.block_length, self.diffusion_steps
        for name, value in (("max_completion_length", length), ("block_length", block)):
            if value < 1:
                raise ConfigError(
                    f"${name}={value}: should be at least 1. Only demonstrations leave it open."
                )
        check_steps(steps)
        if length % block:
            divisors = (d for d in range(1, length + 1) if length % d == 0)
            nearest = min(divisors, key=lambda d: (abs(d - block), -d))  # of two as near, the larger
            raise ConfigError(
                f"$block_length={block} does not divide $max_completion_length={length}. Use $block_length={nearest} "
                f"or $max_completion_length={length + block - length % block}."
            )
        if self.min_completion_length > length:
            raise ConfigError(
                f"$min_completion_length={self.min_completion_length} is longer than a completion, which has "
                f"$max_completion_length={length} tokens. Use {length} or less."
            )
        blocks = length // block
        if steps % blocks or steps > length:
            next_multiple = min((steps // blocks + 1) * blocks, length)
            raise ConfigError(
                f"$diffusion_steps={steps} should be a multiple of the {blocks} blocks ({length} tokens / {block} per "
                f"block) and at most one for each token. Use $diffusion_steps={next_multiple}."
            )

    def _check_choices(self) -> None:
        """Raises ConfigError for an unknown rule, and for a setting that cannot work or has no effect with another."""
        for choice, table, own in (
            ("unmasking", UNMASKING, "count"),
            ("remasking", REMASKING, "order"),
            ("cache", CACHES, ""),
        ):
            chosen = getattr(self, choice)
            if chosen not in table and not (own and ":" in chosen):
                or_own = f", or ./mine.py:{own} for one of your own" if own else ""
                known = ", ".join(table)
                raise ConfigError(f"${choice}={chosen!r} is unknown. Use one of: {known}{or_own}.")
        if self.unmasking_rule.counts_sure and not self.remasking_rule.surest_first:
            raise ConfigError(
                f"$remasking={self.remasking} with $unmasking={self.unmasking}, which counts the tokens that the model "
                "is sure of. Use $remasking=low_confidence or $unmasking=schedule."
            )
        for choice, rules in (("unmasking", UNMASKING), ("cache", CACHES)):
            chosen = getattr(self, choice)
            for instead, name in [(other, name) for other, rule in rules.items() for name in rule.reads]:
                value = getattr(self, name)
                if chosen in rules and name not in rules[chosen].reads and value != getattr(Decoding, name):
                    raise ConfigError(
                        f"${name}={value} says nothing with ${choice}={chosen}. Leave it out, or use another "
                        f"${choice}, e.g. ${choice}={instead}."
                    )
        # A block's first step computes all columns anew, except for a prompt that is kept for several blocks. So with
        # one step a block, other columns that are kept are never used.
        one_step_a_block = self.unmasking_rule.is_planned and self.steps_per_block == 1
        keeps_prompt = self.prompt_refresh_steps > 0
        cache = CACHES[self.cache]
        keeps_columns = cache.margins is not None and not cache.keeps_blocks
        if keeps_columns and one_step_a_block and not keeps_prompt:
            raise ConfigError(
                f"$cache={self.cache} keeps nothing where a block takes one step ({self.diffusion_steps} steps, "
                f"{self.num_blocks} blocks). Use $cache=none."
            )


@explained
@dataclass(frozen=True)
class EvalSampling(Sampling):
    """How an evaluation samples completions."""


@explained
@dataclass(frozen=True)
class EvalRollout(Decoding):
    """How completions are decoded, once for each length with each number of steps."""

    max_completion_length: tuple[int, ...] = (256,)
    """One or several lengths of a completion in tokens, each of which is evaluated. Raise it if completions are cut
    off. With --perplexity, the places on which a completion is measured; if it is left out, as many as the model was
    taught, and 0 = as many as the completion has tokens."""
    block_length: int = 32
    """The length of a block in tokens; a shorter completion is one block. With --perplexity, each block of so many
    tokens is measured by itself, given what is before it, as it is decoded; if it is left out, a text is measured as a
    whole."""
    diffusion_steps: tuple[Steps, ...] = ("length/2",)
    """One or several numbers of denoising steps of a completion, each of which is combined with every length; length/N
    is as many as unmask about N tokens each. If it is left out, a step unmasks as many tokens as in a training on the
    task."""
    temperature: Temperature = 0.0
    """The sampling temperature; 0 is greedy. Set it above 0 if --num-generations is above 1."""

    def samplings(self) -> list[EvalSampling]:
        """One `EvalSampling` for each length with each number of steps; ConfigError for those that do not fit."""
        more = {f.name: getattr(self, f.name) for f in fields(Decoding)}
        return [
            EvalSampling.of(length, self.block_length, steps, temperature=self.temperature, **more)
            for length in self.max_completion_length
            for steps in self.diffusion_steps
        ]


@explained
@dataclass(frozen=True)
class GenerateRollout(Decoding):
    """How answers are decoded. Lengths and steps that are left out are those that the model was taught."""

    max_completion_length: Count | None = None
    """The length of a completion in tokens. Raise it if completions are cut off."""
    block_length: Count | None = None
    """The length of a block in tokens; a shorter completion is one block."""
    diffusion_steps: Steps | None = None
    """The number of denoising steps of a completion; length/N is as many as unmask about N tokens each."""
    temperature: Temperature = 0.0
    """The sampling temperature; 0 is greedy. Set it above 0 if --num-return-sequences is above 1."""


def steps_at_rate(tokens: float) -> str:
    """The value of --diffusion-steps for about `tokens` tokens a step: `length/2` for 2."""
    return f"length/{repr(float(tokens)).removesuffix('.0')}"


def count_steps(length: int, block_length: int, steps: Steps) -> int:
    """The number of denoising steps of a completion of `length` tokens; with `length/N`, equally many in each block.

    An impossible `block_length` is refused elsewhere (`Sampling.check`). Raises ConfigError as `check_steps`.
    """
    check_steps(steps)
    if isinstance(steps, int):
        return steps
    blocks = max(1, length // block_length) if block_length > 0 else 1
    tokens_per_step = float(steps.removeprefix("length/"))
    return max(1, round(length / blocks / tokens_per_step)) * blocks


def check_steps(steps: Steps) -> None:
    """Raises ConfigError for a number below 1, and for text that is not `length/N` with N above 0."""
    if isinstance(steps, int):
        is_possible = steps >= 1
    else:
        length, _, tokens = str(steps).partition("/")
        number = scalar(tokens)
        is_positive = isinstance(number, int | float) and 0 < number < math.inf
        is_possible = length == "length" and is_positive
    if not is_possible:
        raise ConfigError(
            f"$diffusion_steps={steps}: should be a number of steps, at least 1, or length/N for about N tokens a "
            "step, with N above 0. Try length/2."
        )

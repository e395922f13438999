"""Demonstrations that are too long for the model or for a completion: named before the first update, or skipped."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.demonstrations import draw_demonstration, write_habit
from spg_trainer.rollout.lines import is_file
from spg_trainer.rollout.overlong import (
    IN_A_ROW,
    SKIP,
    Overlong,
    check_fits,
    first_of,
    measure,
    name_of,
    refuse_first,
    room,
)
from spg_trainer.rollout.tokens import completion_rows, encode_prompts, pad_completions
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import Problem, TextEnv


class Drawn(NamedTuple):
    """Demonstrations that fit, B rows."""

    index: list[int]
    """Of the problem in its environment."""
    problems: "list[Problem]"
    texts: list[str]
    prompt_ids: Tensor
    """(B, L) int64, left-padded."""
    prompt_mask: Tensor
    """(B, L) bool."""
    completion_ids: Tensor
    """(B, T) int64 on the CPU, padded."""


def check_lengths(policy: Policy, splits: "list[TextEnv]", mix: Mapping[str, float], config: Config) -> str:
    """A note on the problems and texts that are skipped as too long, "" where there are none.

    Prompts are measured in all splits that have an end. Completions are measured for a user's file only, because
    another task may have to play a game for each of them. Raises ConfigError where something is too long and may not be
    skipped (--overlong).
    """
    length, overlong, long, num_texts = config.rollout.max_completion_length, Overlong(), {}, 0
    for env in splits:
        measure(policy, env, length, overlong)
        for part in [*env.parts.values()] or [env]:
            if is_file(part):
                long_of_part, texts_of_part = long_texts(policy, part, mix, length)
                long |= long_of_part
                num_texts += texts_of_part
    note_on_prompts = check_fits(policy, overlong, length, config.overlong)
    if not long:
        # Of a stream, the demonstrations of the first step are looked at before anything is written.
        draw_fitting(policy, splits[0], mix, config, 0, config.batch.prompts_per_step)
        return note_on_prompts
    verb = "has" if len(long) == 1 else "have"
    text = (
        f"{splits[0].spec_name}: {len(long):,} of {num_texts:,} completions {verb} more than {length:,} tokens with "
        f"the end token: {first_of(long)}."
    )
    if config.overlong == SKIP:
        return f"{note_on_prompts} {text} They are skipped.".lstrip()
    raise ConfigError(
        f"{text} Use --max-completion-length {max(long.values())} or more, leave them out, or train on the others with "
        "--overlong skip."
    )


def long_texts(
    policy: Policy, env: "TextEnv", mix: Mapping[str, float], length: int
) -> tuple[dict[str, int], int]:
    """{problem: tokens with the end token} of texts longer than a completion; and how many texts there are."""
    texts: list[tuple[int, str]] = []
    for index in range(len(env)):
        problem = envs.problem.read_problem(env, index)
        for name in {"right", *env.habits(problem)} & {name for name, share in mix.items() if share}:
            texts += [(index, text) for text in envs.scoring.as_turns(write_habit(env, problem, name))]
    # In ASCII no tokenizer makes two tokens of a character, so that short texts need not be encoded; elsewhere it may.
    may_be_long = [(index, text) for index, text in texts if len(text) >= length or not text.isascii()]
    encoded = completion_rows(policy, [text for _, text in may_be_long]) if may_be_long else []
    long = {
        index: len(ids) for (index, _), ids in zip(may_be_long, encoded, strict=True) if len(ids) > length
    }
    return {name_of(env, index): tokens for index, tokens in long.items()}, len(texts)


def draw_fitting(
    policy: Policy,
    env: "TextEnv",
    mix: Mapping[str, float],
    config: Config,
    step: int | str,
    count: int,
) -> Drawn:
    """`count` demonstrations, as `draw_demonstrations` draws them, encoded.

    In the place of one that is too long comes the next problem of the split, or ConfigError, as --overlong says.
    """
    length, longest_prompt = (
        config.rollout.max_completion_length,
        room(policy, config.rollout.max_completion_length),
    )
    passed_over = [0] * count  # problems, for each row
    drawn = [draw_demonstration(env, mix, config.seed, step, row) for row in range(count)]
    while True:
        indices, problems, texts = (list(column) for column in zip(*drawn, strict=True))
        prompts = encode_prompts(
            policy, [p.prompt for p in problems], [p.completion_prefix for p in problems]
        )
        prompt_lengths, completions = prompts[1].sum(-1).tolist(), completion_rows(policy, texts)
        too_long = [
            row
            for row in range(count)
            if prompt_lengths[row] > longest_prompt or len(completions[row]) > length
        ]
        if not too_long:
            return Drawn(indices, problems, texts, *prompts, pad_completions(policy, completions, length))
        first = too_long[0]
        name, tokens = name_of(env, indices[first]), len(completions[first])
        if config.overlong != SKIP:
            refuse_first(
                policy, env, [indices[first]], [prompt_lengths[first]], length
            )  # if it is the prompt
            raise ConfigError(
                f"{env.spec_name}: the completion of {name} has {tokens:,} tokens with its end token, more "
                f"than {length:,}. Use --max-completion-length {tokens} or more, or train on the others with "
                "--overlong skip."
            )
        for row in too_long:
            passed_over[row] += 1
            if passed_over[row] >= IN_A_ROW:
                raise ConfigError(
                    f"{env.spec_name}: {IN_A_ROW:,} problems in a row, up to {name}, are too long for the model or "
                    f"for --max-completion-length {length:,}. Raise it, or use shorter problems."
                )
            drawn[row] = draw_demonstration(env, mix, config.seed, step, row, passed_over[row])

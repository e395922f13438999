"""Demonstrations that are too long for the model or for a completion: named before the first update, or skipped."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
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
from spg_trainer.settings.fields import Config, SftCommand
from spg_trainer.settings.packages import envs
from spg_trainer.sft.demonstrations import draw_demonstration, write_habit

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


def check_lengths(
    policy: Policy, splits: "list[TextEnv]", mix: Mapping[str, float], command: SftCommand
) -> str:
    """What to say of problems and texts that are skipped as too long; ConfigError where they may not be.

    Of splits that have an end, prompts are measured; of a user's file, all that the mix may write, too. Elsewhere a
    game may be played to write it, which costs much.
    """
    length, found, long, count = command.rollout.max_completion_length, Overlong(), {}, 0
    for env in splits:
        measure(policy, env, length, found)
        for part in [*env.parts.values()] or [env]:
            if is_file(part):
                own, texts = long_texts(policy, part, mix, length)
                long, count = long | own, count + texts
    said = check_fits(policy, found, length, command.overlong)
    if not long:
        return said
    verb = "has" if len(long) == 1 else "have"
    text = (
        f"{splits[0].spec_name}: {len(long):,} of {count:,} completions {verb} more than {length:,} tokens with "
        f"the end token: {first_of(long)}."
    )
    if command.overlong == SKIP:
        return f"{said} {text} They are skipped.".lstrip()
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
    # In ASCII no tokenizer makes two tokens of a character; elsewhere it may.
    asked = [(index, text) for index, text in texts if len(text) >= length or not text.isascii()]
    rows = completion_rows(policy, [text for _, text in asked]) if asked else []
    long = {index: len(row) for (index, _), row in zip(asked, rows, strict=True) if len(row) > length}
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
    length, past = config.rollout.max_completion_length, [0] * count
    drawn = [draw_demonstration(env, mix, config.seed, step, row) for row in range(count)]
    while True:
        problems = [problem for _, problem, _ in drawn]
        prompt = encode_prompts(policy, [p.prompt for p in problems], [p.completion_prefix for p in problems])
        rows, lengths = completion_rows(policy, [text for *_, text in drawn]), prompt[1].sum(-1).tolist()
        most = room(policy, length)
        long = [i for i in range(count) if lengths[i] > most or len(rows[i]) > length]
        if not long:
            index, texts = [one[0] for one in drawn], [one[2] for one in drawn]
            return Drawn(index, problems, texts, *prompt, pad_completions(policy, rows, length))
        first = long[0]
        name = name_of(env, drawn[first][0])
        if config.overlong != SKIP:
            refuse_first(policy, env, [drawn[first][0]], [lengths[first]], length)
            raise ConfigError(
                f"{env.spec_name}: the completion of {name} has {len(rows[first]):,} tokens with its end token, more "
                f"than {length:,}. Use --max-completion-length {len(rows[first])} or more, or train on the others with "
                "--overlong skip."
            )
        for row in long:
            past[row] += 1
            if past[row] >= IN_A_ROW:
                raise ConfigError(
                    f"{env.spec_name}: {IN_A_ROW:,} problems in a row, up to {name}, are too long for the model or "
                    f"for --max-completion-length {length:,}. Raise it, or use shorter problems."
                )
            drawn[row] = draw_demonstration(env, mix, config.seed, step, row, past[row])

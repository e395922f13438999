"""`tries=N` on any environment of one turn: it says what is wrong with an answer, and lets the model try again."""

import inspect
from collections.abc import Awaitable, Mapping, Sequence
from functools import partial

from envs.core import Problem, Score, TextEnv
from envs.errors import EnvError


def allow_tries(env: TextEnv, tries: int) -> None:
    """Lets an environment answer wrong completions with its `feedback`, until one is right or `tries` are used up.

    The last completion is what the episode earns. Raises EnvError unless `tries` is a whole number, at least 1, and
    the environment has one turn.
    """
    if isinstance(tries, bool) or not isinstance(tries, int) or tries < 1:
        raise EnvError(f"{env.spec_name}: tries={tries!r:.80} must be a whole number, at least 1.")
    if env.max_turns > 1:
        raise EnvError(f"{env.spec_name} takes no tries: it has {env.max_turns} turns of its own.")
    if tries > 1:
        env.max_turns, env.reply = tries, partial(try_again, env, tries)  # type: ignore[method-assign]


def try_again(
    env: TextEnv, tries: int, problem: Problem, turns: Sequence[str]
) -> str | Awaitable[str | None] | None:
    """What is said of a wrong completion; None where it is right, or was the last that is allowed."""
    if len(turns) >= tries:
        return None
    score = env.score(problem, turns[-1])
    return _said_later(env, problem, score) if inspect.isawaitable(score) else _said(env, problem, score)


async def _said_later(
    env: TextEnv, problem: Problem, score: Awaitable[Score | Mapping[str, float]]
) -> str | None:
    return _said(env, problem, await score)


def _said(env: TextEnv, problem: Problem, score: Score | Mapping[str, float]) -> str | None:
    score = score if isinstance(score, Score) else Score(dict(score))
    return None if score.rewards["correct"] == 1 else f"{env.feedback(problem, score)} Try again."

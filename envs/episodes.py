"""Episodes side by side: what the model writes, what the environment replies, how each ends and what it earns."""

import copy
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, repeat
from typing import Literal

import numpy as np

from envs.authoring.async_calls import Outcome, call_all
from envs.combining.wrapper import author_task
from envs.errors import EnvError
from envs.problem import Problem, Prompt, broken, read_problem
from envs.scoring import ScoredBatch, entries_at, score_all
from envs.task import Task, limits_of, own_problems
from verifiers.user_code import own_copy

Ending = Literal["over", "max_turns", "no_room", "raised"]
"""How an episode ended.

- `over`: `reply` returned None
- `raised`: `reply` raised
- `max_turns`: that many turns were played, and `reply` would have gone on
- `no_room`: the next prompt was too long for the model
"""


class Episodes:
    """n episodes of an environment: what was written in each, what the environment replied, and what it earned.

    An episode is known by its number, 0 to n - 1, and every field has an entry for each. `TextEnv.step` plays one
    episode with it, `TextVectorEnv.step` many, `play` plays given texts, and the trainer plays what a model writes.
    """

    def __init__(
        self,
        env: Task,
        indices: Sequence[int],
        problems: Sequence[Problem] | None = None,
        begun: Sequence[tuple[Sequence[str], Sequence[str]]] | None = None,
    ) -> None:
        """Starts an episode of each problem in `indices`; raises EnvError for a problem that cannot be read.

        problems: the problems of `indices`, if they have been read already. begun: (completions, replies) so far of
        each episode; None = all start at their first turn.
        """
        self.env, self.indices = env, list(indices)
        if problems is None:
            read = {index: read_problem(env, index) for index in dict.fromkeys(self.indices)}
            problems = [read[index] for index in self.indices]
        self.problems = list(problems)
        begun = [((), ())] * len(self) if begun is None else begun
        self.turns: list[list[str]] = [list(turns) for turns, _ in begun]
        """The completions of each episode so far."""
        self.replies: list[list[str]] = [list(replies) for _, replies in begun]
        """The environment's replies to these completions; the last completion of an ended episode has none."""
        self.ended: list[Ending | None] = [None] * len(self)
        """None while an episode goes on."""
        self.raised: list[str | None] = [None] * len(self)
        """For each episode the traceback of the author's `reply` if it raised, else None."""
        self.scores = ScoredBatch.filled(env.reward_weights, len(self), value=0.0)
        """The rewards of the episodes; 0 before they are scored. New scores are put into a copy of `scores`, since
        copies of these episodes share the object."""
        self._scored_early: dict[int, str] = {}
        """{episode: the completion for which `score_early` has put its score into `scores`}."""

    def __len__(self) -> int:
        return len(self.indices)

    def copy(self) -> "Episodes":
        """A copy of the episodes; playing the copy does not change these."""
        other = copy.copy(self)
        other.turns = [list(turns) for turns in self.turns]
        other.replies = [list(replies) for replies in self.replies]
        other.ended, other.raised = self.ended[:], self.raised[:]
        other._scored_early = dict(self._scored_early)
        return other

    @property
    def terminated(self) -> np.ndarray:
        """(n,) bool, the episodes that the environment has ended."""
        return np.array([ending in ("over", "raised") for ending in self.ended], bool)

    @property
    def truncated(self) -> np.ndarray:
        """(n,) bool, the episodes that were cut off: by `max_turns`, or because the next prompt was too long."""
        return np.array([ending in ("max_turns", "no_room") for ending in self.ended], bool)

    def prompt(self, episode: int) -> Prompt:
        """What the model reads next in an episode: the problem's prompt, or the chat so far."""
        return chat(self.problems[episode], self.turns[episode], self.replies[episode])

    def take_turn(self, completions: Mapping[int, str]) -> list[int]:
        """Takes the next completion of some episodes, {episode: text}; returns those that go on, each with a reply.

        If the author's `reply` raises, the episode has ended. Raises EnvError, and changes nothing, for an episode that
        had ended before, a completion that is no string, and a reply that is neither a string nor None.
        """
        self._check(completions)
        episodes = list(completions)
        turns = [[*self.turns[i], completions[i]] for i in episodes]
        indices, problems = [self.indices[i] for i in episodes], [self.problems[i] for i in episodes]
        outcomes = _replies(self.env, indices, problems, turns)
        going_on = []
        for i, turns_of_i, outcome in zip(episodes, turns, outcomes, strict=True):
            self.turns[i], self.raised[i] = turns_of_i, outcome.traceback
            if outcome.value is None:
                self.ended[i] = "over" if outcome.traceback is None else "raised"
            elif len(turns_of_i) >= self.env.max_turns:
                self.ended[i] = "max_turns"
            else:
                self.replies[i].append(outcome.value)
                going_on.append(i)
        return going_on

    def cut(self, episodes: Sequence[int]) -> None:
        """Ends episodes whose next prompt is too long for the model, and drops their last replies, which are unread."""
        for i in episodes:
            self.ended[i] = "no_room"
            self.replies[i].pop()

    def score(self, episodes: Sequence[int] | None = None) -> ScoredBatch:
        """Scores some episodes in one call, and puts them into `scores`; returns the scores of all.

        episodes: None = all but those that `score_early` has scored.
        """
        columns = (self.indices, self.problems, self.turns, self.raised)
        if episodes is None and not self._scored_early:
            self.scores = score_all(self.env, *columns)
            return self.scores
        if episodes is None:
            episodes = [i for i in range(len(self)) if not self._has_early_score(i)]
        if episodes:
            self._put(episodes, score_all(self.env, *(entries_at(episodes, column) for column in columns)))
        return self.scores

    def may_score_early(self) -> list[int]:
        """The episodes that may be scored in another thread before others are written (`score_while_decoding`).

        A user's reward functions (`own_rewards`) may report something of all completions that they are called with.
        """
        if self.env.max_turns > 1:
            return []
        authors = [author_task(self.env, problem) for problem in self.problems]
        return [
            i for i, author in enumerate(authors) if author.score_while_decoding and not author.own_rewards
        ]

    def score_early(self, completions: Mapping[int, str]) -> None:
        """Scores completions, {episode: text}, before `take_turn` gets them; `score` then leaves their episodes out."""
        columns = [entries_at(list(completions), column) for column in (self.indices, self.problems)]
        self._put(list(completions), score_all(self.env, *columns, [[text] for text in completions.values()]))
        self._scored_early |= completions

    def _has_early_score(self, episode: int) -> bool:
        """Whether an episode was scored early, with the completion that it then had, and `reply` did not raise."""
        early = self._scored_early.get(episode)
        return self.turns[episode] == [early] and self.raised[episode] is None

    def _put(self, episodes: Sequence[int], scores: ScoredBatch) -> None:
        """Puts the scores of some episodes into a copy of `scores`."""
        self.scores = self.scores.copy()
        self.scores.put(episodes, scores)

    def _check(self, completions: Mapping[int, str]) -> None:
        """Raises EnvError for an episode that has ended, and for a completion that is no string."""
        env = self.env
        if ended := [str(self.indices[i]) for i in completions if self.ended[i]]:
            what = "a second step() on" if env.max_turns == 1 else "step() after the end of"
            raise EnvError(
                f"{env.spec_name}: {what} problem {', '.join(ended[:4])}. Call reset() for the next problem."
            )
        for i, text in completions.items():
            if not isinstance(text, str):
                raise broken(
                    env, self.indices[i], f"the action is {text!r:.80}; it must be the completion as a str."
                )


def before_reset(env: Task) -> str:
    """The error message of a `step` before `reset`."""
    return f"{env.spec_name}: step() before reset(). Call reset() first; it returns the prompt."


def _replies(
    env: Task, indices: Sequence[int], problems: Sequence[Problem], turns: Sequence[Sequence[str]]
) -> list[Outcome]:
    """What the author's `reply` returns for each of n episodes (None at an episode's end), or what it raises.

    Raises EnvError, naming environment and problem, for a reply that is neither a text nor None.
    """
    calls = []
    for problem, texts in zip(problems, turns, strict=True):
        (own_problem,) = own_problems(author_task(env, problem), [problem])
        calls.append(partial(env.reply, own_problem, tuple(texts)))
    outcomes = call_all(lambda: env.spec_name, calls, limits_of(env))
    for index, outcome in zip(indices, outcomes, strict=True):
        if not isinstance(outcome.value, str | None):
            wrong = f"reply returned {outcome.value!r:.80}; it must be a str, or None at the end."
            raise broken(env, index, wrong)
    return outcomes


def cause(env: Task, trace: str) -> str:
    """The error of the author's code and its place, from a traceback: 'ValueError: no digits (File "task.py", line 9)'.

    The place is the last line of the traceback in the author's own file; without such a line, the last line of all.
    """
    lines = trace.rstrip().splitlines()
    own_file = str(getattr(sys.modules.get(type(env).__module__), "__file__", ""))
    places = [line.strip() for line in lines if line.startswith('  File "')]
    places_in_own_file = [place for place in places if own_file in place]
    place = places_in_own_file[-1] if places_in_own_file else places[-1]
    return f"{lines[-1]} ({place})"


def chat(problem: Problem, turns: Sequence[str], replies: Sequence[str]) -> Prompt:
    """What the model reads next: the problem's prompt or, after completions with a reply to each, the chat so far."""
    prompt = own_copy(problem.prompt)  # which the caller may go on with
    if not turns:
        return prompt
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
    for turn, reply in zip(turns, replies, strict=True):
        messages += [{"role": "assistant", "content": turn}, {"role": "user", "content": reply}]
    return messages


def play(
    env: Task, index: int, problem: Problem, text: str | Sequence[str] | Callable[[int], str]
) -> tuple[list[str], list[str]]:
    """(completions, replies) of an episode in which the model writes `text`.

    text: one text for every turn, a list with a text for each turn, or a function from the number of a turn (0, 1, ...)
    to its text. The episode ends when the environment ends it, at `max_turns`, or with the last text of a list. Raises
    EnvError if texts are left after the end, or if `reply` raises.
    """
    episodes = Episodes(env, [index], [problem])
    is_list = False
    if isinstance(text, str):
        completions = repeat(text)
    elif callable(text):
        completions = map(text, count())
    else:
        completions, is_list = iter(text), True
    for completion in completions:
        goes_on = episodes.take_turn({0: completion})
        if (trace := episodes.raised[0]) is not None:
            why = cause(author_task(env, problem), trace)
            raise broken(env, index, f"reply raised after {episodes.turns[0]!r:.200}: {why}")
        if not goes_on:
            break
    turns = episodes.turns[0]
    if is_list and len(turns) < len(text):
        why = ""
        if episodes.ended[0] == "max_turns":
            why = f", as max_turns of the class is {env.max_turns} (the default is 1)"
        raise broken(env, index, f"the episode is over after turn {len(turns)} of {text!r:.200}{why}")
    # A reply to the last text of a list is left out, as nobody reads it.
    return turns, episodes.replies[0][: len(turns) - 1]

"""One environment class for each of Gymnasium's environments with discrete actions: `gymnasium:NAME`.

The state is shown as text and an action is a word. Every game is played from its seed, so that a reply depends on the
problem and the completions alone.
"""

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Any, ClassVar

import gymnasium
import numpy as np

from envs.answer_block import read_answer
from envs.core import TextEnv
from envs.errors import EnvError, NoDemonstration, check_choice
from envs.problem import Problem, Score, check_index
from envs.splits import STREAMS
from verifiers.errors import did_you_mean

SIZES = {"train": 1_000_000, "validation": 256, "test": 10_000}
"""How many seeds each split has."""
SIZES_OF_ONE_GAME = {"train": 1_000_000, "validation": 16, "test": 1}
"""How many seeds each split has if the game is the same under every seed (`is_one_game`).

In such a game, the seed decides nothing but how `GymnasiumGame.habits` plays at random.
"""
_SEED = 20_261_123  # keeps these streams apart from those of any other task
Transitions = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]
"""A table of transitions, as in Gymnasium's toy text: {state: {action: its outcomes}}. An outcome is (probability, next
state, reward, whether the game ends)."""


@dataclass(frozen=True)
class Game:
    """Facts about an environment of Gymnasium that Gymnasium does not tell."""

    actions: tuple[str, ...]
    """A word for each action."""
    state: str = "{}"
    """The format string that writes the observation; an observation that is a tuple fills several {}."""
    solved_from: float | None = None
    """An episode is solved if its return is at least this; None = the environment's own threshold."""
    illegal_reward: float = 0.0
    """The reward of an answer that is no legal action. In a game with a table of transitions, `P` (FrozenLake,
    CliffWalking and Taxi), the answer gets the lowest reward in the table instead, if that is lower: otherwise the
    model would learn to avoid bad actions by writing nonsense."""
    forfeits: bool = False
    """Whether an answer that is no legal action ends the game. Set this where the game could otherwise go on and be
    won, as in FrozenLake, where such an answer costs nothing: the model would learn to give such answers."""
    habits: Mapping[str, Callable[[Any, Any], str]] = field(default_factory=dict)
    """{name: rule of thumb}. A rule is a function of the observation and of Gymnasium's environment that returns the
    word of an action. Rules are plausible and often wrong; only `basic`, in Blackjack, is the best play."""


def basic_strategy(observation: tuple[int, int, int], _: Any) -> str:
    """The best action of Blackjack, given one's own sum, the dealer's card and whether one's ace counts as 11.

    Source: Sutton and Barto, Reinforcement Learning, second edition, figure 5.2. It earns -0.047 a hand.
    """
    total, dealer, ace = observation
    dealer_is_strong = dealer == 1 or dealer > 6  # 1 is an ace
    if ace:
        stick_from = 19 if dealer in (1, 9, 10) else 18
    elif dealer_is_strong:
        stick_from = 17
    else:
        stick_from = 12 if dealer in (4, 5, 6) else 13
    return "stick" if total >= stick_from else "hit"


_LAKE = Game(
    ("left", "down", "right", "up"),
    forfeits=True,
    # Down to the last row, then right to the goal in its corner.
    habits={"hasty": lambda cell, lake: "down" if cell < lake.ncol * (lake.nrow - 1) else "right"},
)
# A step costs 1 and a fall from the cliff 100, so a game with a fall has a return below -99.
_CLIFF = Game(("up", "right", "down", "left"), solved_from=-99)
GAMES = {
    "Blackjack": Game(
        ("stick", "hit"),
        "you {}, dealer {}, ace {}",
        solved_from=1,
        illegal_reward=-1,
        forfeits=True,
        habits={
            "basic": basic_strategy,
            "bold": lambda hand, _: "hit" if hand[0] < 20 else "stick",
            "cautious": lambda hand, _: "hit" if hand[0] < 12 else "stick",
        },
    ),
    "FrozenLake": _LAKE,
    "FrozenLake8x8": _LAKE,
    "CliffWalking": _CLIFF,
    "CliffWalkingSlippery": _CLIFF,
    "Taxi": Game(("south", "north", "east", "west", "pickup", "dropoff")),
}
"""{name without its version: its Game}. In any other environment the actions are called 0, 1, 2, ..."""


@dataclass(frozen=True)
class Play:
    """The state of a game."""

    observation: Any
    info: Mapping[str, Any]
    total: float
    """The sum of the rewards so far."""
    terminated: bool
    """Whether the game has ended by its own rules."""
    truncated: bool
    """Whether the game has been cut off by the environment's own limit of steps."""


class _Last:
    """The game that was played last: its seed, its completions and its state; `play` is None before the first game.

    A deep copy has no game, because a copy of Gymnasium's environment need not be in the state of the original.
    """

    seed: int = 0
    turns: tuple[str, ...] = ()
    play: Play | None = None

    def __reduce__(self) -> tuple[type, tuple[()]]:
        """Makes `copy.deepcopy` and `pickle` copy this as `_Last()`, without its attributes."""
        return _Last, ()


class GymnasiumGame(TextEnv):
    """The environment `game` of Gymnasium, with one action at a turn.

    Prompt: the name, the state and the actions that are legal, "FrozenLake 0: left, down, right or up?". Answer at
    each turn: an action. A reply is the state that follows, with the legal actions if these change from turn to turn.
    A word that is no legal action leaves the state as it is, and the reply says so. Such a word costs as much as the
    worst action if the game has a table of transitions, and otherwise nothing, unless `Game.illegal_reward` says that
    it costs more. In Blackjack and FrozenLake it loses the game (`Game.forfeits`).

    Rewards:
        return: the sum of the environment's own rewards. Only this component has a weight by default.
        correct (0 or 1): whether the game has ended with a return that is high enough. It must be at least
            `Game.solved_from`. Where that is None, it must be at least the environment's `reward_threshold`, and where
            the environment has none, above 0.
    """

    reward_weights: ClassVar[dict[str, float]] = {"return": 1.0, "correct": 0.0}
    reward_ranges: ClassVar[dict[str, tuple[float, float]]] = {"return": (-np.inf, np.inf)}
    game: ClassVar[str] = ""

    def __init__(
        self, split: str = "train", turns: int = 20, prompt_style: str = "plain", **settings: Any
    ) -> None:
        """Opens one split; raises EnvError for settings that Gymnasium refuses, and for actions that are not discrete.

        turns: the most actions of an episode. prompt_style: "plain", or "rules", which puts the environment's own
        description first. settings: the environment's own, e.g. is_slippery=False.
        """
        check_choice(self.game, "split", split, SIZES)
        check_choice(self.game, "prompt_style", prompt_style, ["plain", "rules"])
        if isinstance(turns, bool) or not isinstance(turns, int) or turns < 1:
            raise EnvError(f"gymnasium:{self.game}: turns={turns!r:.80} must be a whole number, at least 1.")
        self.split, self.prompt_style, self.max_turns = split, prompt_style, turns
        try:
            self._env = gymnasium.make(self.game, disable_env_checker=True, **settings)
        except Exception as error:  # any error of a package that the user has installed
            raise EnvError(f"gymnasium:{self.game} with {settings} cannot be opened: {error}") from error
        self._last = _Last()
        self.name = self._env.spec.name
        self.is_one_game = is_one_game(self._env)
        if not isinstance(space := self._env.action_space, gymnasium.spaces.Discrete):
            raise EnvError(
                f"gymnasium:{self.game} has the actions {space}; they must be gymnasium.spaces.Discrete."
            )
        self.first_action = int(space.start)
        self.worst = worst_reward(self._env)
        numbers = tuple(str(self.first_action + i) for i in range(int(space.n)))
        self.rules = GAMES.get(self.name, Game(actions=numbers))

    def __len__(self) -> int:
        sizes = SIZES_OF_ONE_GAME if self.is_one_game else SIZES
        return sizes[self.split]

    @property
    def spec_name(self) -> str:
        return f"gymnasium:{super().spec_name}"

    def problem(self, index: int) -> Problem:
        """A game that begins with a seed of its own."""
        rng = np.random.default_rng([_SEED, STREAMS[self.split], check_index(self, index)])
        # The seed modulo 3 is the split's number in STREAMS, so no seed is in two splits.
        seed = 3 * int(rng.integers(2**29)) + STREAMS[self.split]
        prompt = f"{self.name} {self.show(self.played(seed, ()), with_actions=True)}"
        if self.prompt_style == "rules":
            description = inspect.cleandoc(self._env.unwrapped.__doc__ or "")
            first_paragraph, _, _ = description.partition("\n\n")
            one_line = first_paragraph.replace("\n", " ")
            request = "Answer with one action inside <answer> and </answer>."
            prompt = f"{one_line}\n{prompt}\n{request}".lstrip()
        return Problem(prompt, {"seed": seed})

    def reply(self, problem: Problem, turns: Sequence[str]) -> str | None:
        *earlier, last = turns
        legal_actions = self.legal(self.played(problem.reference["seed"], earlier))
        play = self.played(problem.reference["seed"], turns)
        if play.terminated or play.truncated:
            return None
        if read_answer(last) in legal_actions:
            return self.show(play)
        return f"No such action. {self.show(play, with_actions=True)}"

    def score_turns(self, problem: Problem, turns: Sequence[str]) -> Score:
        """Reasons: "ok", "wrong", and "unfinished" if the game is not over."""
        play = self.played(problem.reference["seed"], turns)
        threshold = self.rules.solved_from
        if threshold is None:
            threshold = self._env.spec.reward_threshold
        is_enough = play.total > 0 if threshold is None else play.total >= threshold
        solved = play.terminated and is_enough
        reason = "unfinished"
        if play.terminated:
            reason = "ok" if solved else "wrong"
        return Score({"return": play.total, "correct": float(solved)}, reason, read_answer(turns[-1]))

    def demonstration(self, problem: Problem) -> str:
        """Raises NoDemonstration, which names the habits for `sft` instead: even the best play may lose."""
        names = [*self.rules.habits, "random"]
        if self.plan:
            names = ["planned", *names]
        mix = " ".join(f"{name}=1" for name in names)
        raise NoDemonstration(f"{self.spec_name} has no demonstrations. Name its habits: sft --mix {mix}.")

    def habits(self, problem: Problem) -> dict[str, list[str]]:
        """The habit "random" takes any legal action; in a game with a table of transitions, "planned" takes the best.

        Blackjack has "basic", the best play by the dealer's card, "bold", which sticks from 20 on, and "cautious",
        which sticks from 12 on. FrozenLake has "hasty", which walks down and then right; on Gymnasium's maps that leads
        into a hole.
        """
        rng = np.random.default_rng([_SEED, problem.reference["seed"]])

        def any_legal(play: Play) -> str:
            words = self.legal(play)
            return words[int(rng.integers(len(words)))]

        def best(play: Play) -> str:
            worth_of = self.plan[play.observation]
            return max(self.legal(play), key=lambda word: worth_of[word])

        completions = {"random": self.completions_by(problem, any_legal)}
        for name, rule in self.rules.habits.items():

            def by_rule(play: Play, rule: Callable[[Any, Any], str] = rule) -> str:
                return rule(play.observation, self._env.unwrapped)

            completions[name] = self.completions_by(problem, by_rule)
        if self.plan:
            completions["planned"] = self.completions_by(problem, best)
        return completions

    def completions_by(self, problem: Problem, choose: Callable[[Play], str]) -> list[str]:
        """The completions of a whole game in which `choose` picks each action by the state of the game."""
        seed = problem.reference["seed"]
        turns: list[str] = []
        play = self.played(seed, ())
        while len(turns) < self.max_turns and not play.terminated and not play.truncated:
            turns.append(f"<answer>{choose(play)}</answer>")
            play = self.played(seed, turns)
        return turns

    @cached_property
    def plan(self) -> list[dict[str, float]]:
        """For each state {action: its worth}, as `worths` computes it; [] in a game without a table of transitions."""
        table = getattr(self._env.unwrapped, "P", None)
        if not table:
            return []
        return [dict(zip(self.rules.actions, row, strict=True)) for row in worths(table)]

    def played(self, seed: int, turns: Sequence[str]) -> Play:
        """The state of the game of this seed after these completions.

        A completion without a legal action leaves the state as it is. It earns `Game.illegal_reward`, and it ends the
        game if `Game.forfeits` is true.

        The last call is remembered, so that an episode is not played again from its start at every turn: if `turns`
        begins with the completions of that call, and the seed is the same, only the other completions are played.
        """
        last = self._last
        turns_played, play = last.turns, last.play
        last.play = None  # if an action raises, this stays None, and the next call begins from the seed
        continues_last = last.seed == seed and tuple(turns[: len(turns_played)]) == turns_played
        if play is None or not continues_last:
            observation, info = self._env.reset(seed=seed)
            turns_played, play = (), Play(observation, info, total=0.0, terminated=False, truncated=False)
        for turn in turns[len(turns_played) :]:
            if play.terminated or play.truncated:
                break
            if (word := read_answer(turn)) in self.legal(play):
                action = self.first_action + self.rules.actions.index(word)
                observation, reward, terminated, truncated, info = self._env.step(action)
                play = Play(observation, info, play.total + float(reward), terminated, truncated)
            else:
                total = play.total + min(self.worst, self.rules.illegal_reward)
                play = replace(play, total=total, terminated=self.rules.forfeits)
        last.seed, last.turns, last.play = seed, tuple(turns), play
        return play

    def legal(self, play: Play) -> list[str]:
        """The words of the legal actions: those that the game's own mask allows, or all if it has no mask."""
        mask = play.info.get("action_mask", np.ones(len(self.rules.actions)))
        return [word for word, allowed in zip(self.rules.actions, mask, strict=True) if allowed]

    def show(self, play: Play, with_actions: bool = False) -> str:
        """The state, and the legal actions if `with_actions` is true or if the game's legal actions change."""
        values = play.observation if isinstance(play.observation, tuple) else (play.observation,)
        state = self.rules.state.format(*values)
        *words, last = self.legal(play)
        actions = f"{', '.join(words)} or {last}" if words else last
        legal_actions_change = "action_mask" in play.info
        return f"{state}: {actions}?" if with_actions or legal_actions_change else state


def is_one_game(env: gymnasium.Env[Any, Any]) -> bool:
    """Whether every game is known to be the same: each begins in the same state, and nothing is left to chance.

    A table of transitions (Gymnasium's toy text) tells this. Without one it is not known, and the result is False.
    """
    start = getattr(env.unwrapped, "initial_state_distrib", None)
    table = getattr(env.unwrapped, "P", None)
    if start is None or table is None:
        return False
    begins_in_one_state = max(start) == 1  # one state has all of the probability
    return begins_in_one_state and all(len(outcomes) == 1 for outcomes in outcomes_of_actions(table))


def worst_reward(env: gymnasium.Env[Any, Any]) -> float:
    """The lowest reward in the game's table of transitions; 0 if that is above 0, or if the game has no table."""
    table = getattr(env.unwrapped, "P", None) or {}
    rewards = (float(reward) for outcomes in outcomes_of_actions(table) for _, _, reward, *_ in outcomes)
    return min(0.0, min(rewards, default=0.0))


def outcomes_of_actions(table: Transitions) -> Iterator[Sequence[tuple[float, int, float, bool]]]:
    """The outcomes of each action in each state."""
    for actions in table.values():
        yield from actions.values()


def worths(table: Transitions) -> np.ndarray:
    """(states, actions): the value of each action in each state if the best actions follow, the Q of value iteration.

    Rewards are discounted by 0.99 an action, so that the shorter of two ways to the goal is better.
    """
    most_outcomes = max(map(len, outcomes_of_actions(table)))
    # If an action has fewer outcomes than others, the rest have probability 0.
    transitions = np.zeros((len(table), len(table[0]), most_outcomes, 4))
    for state, actions in table.items():
        for action, outcomes in actions.items():
            transitions[state, action, : len(outcomes)] = outcomes
    # Each of the four has the shape (states, actions, outcomes).
    probability, next_state, reward, ends = np.moveaxis(transitions, -1, 0)
    worth = np.zeros(transitions.shape[:2])
    change = 1.0
    while change > 1e-9:
        worth_before = worth
        worth_of_next_state = worth_before.max(1)[next_state.astype(int)]
        worth = (probability * (reward + 0.99 * (1 - ends) * worth_of_next_state)).sum(-1)
        change = float(np.abs(worth - worth_before).max())
    return worth


@cache
def class_of(name: str) -> type[GymnasiumGame]:
    """The environment class for an id of Gymnasium; raises EnvError if Gymnasium does not know it."""
    if ":" not in name:  # the environments of "module:NAME" are not known before the module is imported
        try:
            gymnasium.spec(name)
        except gymnasium.error.Error as error:
            near = did_you_mean(name, gymnasium.registry, "gymnasium:{}")
            raise EnvError(f"gymnasium:{name}: {str(error).rstrip('.')}. {near}".rstrip()) from error
    _, class_name, _ = gymnasium.envs.registration.parse_env_id(name.rpartition(":")[2])
    return type(class_name, (GymnasiumGame,), {"game": name, "__doc__": f"{name} of Gymnasium, in words."})

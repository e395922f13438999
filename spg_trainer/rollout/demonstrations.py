"""The source of completions with `--source demonstrations`: right solutions, and habits (typical wrong ones).

Where the settings leave lengths open, `settled_decoding` chooses them by the demonstrations.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.architecture.shape import pattern_of
from spg_trainer.distributed import raising_on_all
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.collect import given_rows
from spg_trainer.rollout.long_prompts import IN_A_ROW, SKIP, Room, TooLong, name_of
from spg_trainer.rollout.problems import deal_rows, is_file
from spg_trainer.rollout.tokens import completion_rows, count_tokens, encode_prompts, pad_completions
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Sampling, count_steps
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.settings.resolve import resolve
from spg_trainer.tensors import Rows

MEASURED = 2000
"""How many turns of demonstrations are measured to choose the length of a completion: 2,000 problems of one turn, 200
of ten turns."""


class Demonstrations:
    """Gives --prompts-per-step demonstrations a step, drawn by `draw_demonstrations`; each of them counts as right."""

    env, pools = None, None
    """Only a source that samples has an environment and pools of problems."""

    def __init__(
        self,
        train: "envs.TextEnv",
        held_out: "envs.TextEnv",
        policy: Policy,
        config: Config,
        mix: Mapping[str, float],
        notice: str = "",
    ) -> None:
        """train: the split that is learned. held_out: the split on which a validation measures the loss.

        mix: {`right` or a habit: its share}; the shares sum to 1.
        """
        self.train, self.validation, self.policy, self.config, self.mix = train, held_out, policy, config, mix
        self.spec_name, self.notice = train.spec_name, notice

    def collect(self, step: int) -> Rows:
        """This process's share of the demonstrations of a step, as `drawn` returns them."""
        return self.drawn(self.train, step, self.config.batch.prompts_per_step)

    def held_out(self) -> Rows:
        """This process's share of the demonstrations whose loss a validation measures; these are always the same."""
        count = self.config.eval.validation_problems or len(self.validation)
        return self.drawn(self.validation, "validation", count)

    def drawn(self, env: "envs.TextEnv", key: int | str, count: int) -> Rows:
        """This process's share of `count` demonstrations: one group, sorted by the lengths of their prompts.

        So a micro-batch has prompts of similar length. All processes get about as many demonstrations, of about the
        same lengths. The whole canvas is learned: padding after a completion's end counts like any other token.

        key: what they are drawn for. Raises ConfigError for a demonstration that is too long, unless such ones are
        skipped.
        """
        room = Room(self.policy, self.config.rollout.max_completion_length)
        with raising_on_all():
            drawn = draw_fitting(room, env, self.mix, self.config, key, count)
            index, problems, texts = (list(column) for column in zip(*drawn, strict=True))
            prefixes = [problem.completion_prefix for problem in problems]
            prompt_ids, prompt_mask = encode_prompts(self.policy, [p.prompt for p in problems], prefixes)
            rows = completion_rows(self.policy, texts)
        # The demonstration with the k-th shortest prompt is episode k. `deal_rows` returns this process's episodes.
        lengths = prompt_mask.sum(-1).cpu()
        shortest_first = lengths.argsort(stable=True)
        episode = torch.tensor(deal_rows(lengths[shortest_first].tolist()), dtype=torch.long)
        row_indices, zeros = shortest_first[episode], torch.zeros_like(episode)
        chosen, device = row_indices.tolist(), self.policy.device
        completion_ids = pad_completions(self.policy, [rows[row] for row in chosen], room.length).to(device)
        drawn_rows = Rows(
            problem=torch.tensor(index)[row_indices],
            generation=episode,
            turn=zeros,
            episode=episode,
            group=zeros,
            problems=[problems[row] for row in chosen],
            completions=[texts[row] for row in chosen],
            prompt_ids=prompt_ids[row_indices.to(device)],
            prompt_mask=prompt_mask[row_indices.to(device)],
            completion_ids=completion_ids,
            completion_mask=torch.ones_like(completion_ids, dtype=torch.bool),
            unmask_step=torch.zeros_like(completion_ids),
            unmask_logps=torch.zeros(completion_ids.shape, device=device),
        )
        return given_rows(drawn_rows.trim(), np.ones(len(chosen)), reason=["given"] * len(chosen))

    def render_turns(self, problem: "envs.Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """A prompt and its demonstration for a terminal."""
        return f"{problem.prompt}\n{turns[0]}"


def check_lengths(
    room: Room, splits: "Sequence[envs.TextEnv]", mix: Mapping[str, float], config: Config
) -> str:
    """A note on the problems and texts that are skipped as too long; "" if there are none.

    Prompts are measured in all splits that are not streams. Completions are all measured for a user's file; for any
    other task, which may have to play a game for each of them, only those of a first step. Raises ConfigError for a
    text that is too long and may not be skipped (--overlong).
    """
    too_long = TooLong(room)
    learned_names = {name for name, share in mix.items() if share}  # `right` and habits
    for env in splits:
        too_long.add_split(env)
        for part in [*env.parts.values()] or [env]:
            if not is_file(part):
                continue
            texts: list[tuple[int, str]] = []
            for index in range(len(part)):
                problem = envs.problem.read_problem(part, index)
                for name in {"right", *part.habits(problem.copy())} & learned_names:
                    written = envs.scoring.as_turns(write_habit(part, problem, name))
                    texts += [(index, text) for text in written]
            too_long.completions += len(texts)
            long = room.long_completions(texts)
            too_long.long_completions |= {name_of(part, index): tokens for index, tokens in long.items()}
    note = too_long.note(config.overlong, source=splits[0].spec_name)
    # Raises ConfigError if a demonstration of the first step is too long, were it a step of any one task of a mixture.
    parts = splits[0].parts or {splits[0].spec_name: splits[0]}
    for task, rules in known_rules(splits[0]).items():
        own_mix = {name: share for name, share in mix.items() if name in rules}
        draw_fitting(room, parts[task], own_mix, config, step=0, count=config.batch.prompts_per_step)
    return note


def draw_fitting(
    room: Room, env: "envs.TextEnv", mix: Mapping[str, float], config: Config, step: int | str, count: int
) -> "list[tuple[int, envs.Problem, str]]":
    """`count` demonstrations, as `draw_demonstrations` draws them: (index, problem, completion) of each.

    A demonstration that is too long raises ConfigError. With --overlong skip, the demonstration of the next problem of
    the split takes its place.
    """
    drawn = [draw_demonstration(env, mix, config.seed, step, row) for row in range(count)]
    for distance in range(1, IN_A_ROW + 1):
        long_prompts = room.long_prompts({row: problem for row, (_, problem, _) in enumerate(drawn)})
        long_texts = room.long_completions([(row, text) for row, (*_, text) in enumerate(drawn)])
        long = sorted(long_prompts.keys() | long_texts.keys())
        if not long:
            return drawn
        first = long[0]
        index, _, _ = drawn[first]
        name = name_of(env, index)  # also for the error after the loop
        if config.overlong != SKIP:
            prompt_tokens = long_prompts.get(first, 0)  # 0 = the prompt is not too long, and is not refused
            room.refuse_first(env, [index], [prompt_tokens])
            tokens = long_texts[first]
            raise ConfigError(
                f"{env.spec_name}: the completion of {name} has {tokens:,} tokens with its end token, more "
                f"than {room.length:,}. Use $max_completion_length={tokens} or more, or train on the others with "
                "$overlong=skip."
            )
        for row in long:
            drawn[row] = draw_demonstration(env, mix, config.seed, step, row, past=distance)
    raise ConfigError(
        f"{env.spec_name}: {IN_A_ROW:,} problems in a row, up to {name}, are too long for the model or for "
        f"$max_completion_length={room.length:,}. Raise it, or use shorter problems."
    )


def mix_shares(mix: Mapping[str, float], env: "envs.TextEnv") -> dict[str, float]:
    """The mix as shares that sum to 1; ConfigError for habits and shares that the environment cannot have."""
    mix = mix or {"right": 1.0}  # without a mix, all demonstrations are right
    known = known_rules(env)
    names = list(dict.fromkeys(name for rules in known.values() for name in rules))
    for name, share in mix.items():
        if name not in names:
            raise ConfigError(
                f"$mix {name}={share}: {env.spec_name} has no such habit. Use: {', '.join(names)}."
            )
        if not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise ConfigError(f"$mix {name}={share}: a share is a number >= 0, e.g. {name}=0.4.")
    if sum(mix.values()) == 0:
        raise ConfigError("$mix: all shares are 0. Give one habit a share, e.g. $mix right=1.")
    for task, rules in known.items():
        if not any(mix.get(name) for name in rules):
            raise ConfigError(f"$mix has nothing for {task}. Give a share to one of: {', '.join(rules)}.")
    return shares_of(mix)


def known_rules(env: "envs.TextEnv") -> dict[str, list[str]]:
    """{name of a task: its rules, by which completions are written}: `right`, and the habits of its first problem.

    E.g. {"sudoku": ["right", "careless"]}; a mixture of tasks has an entry for each of them.
    """
    parts = env.parts or {env.spec_name: env}
    return {
        task: ["right", *envs.checking.habits_of(part, envs.problem.read_problem(part, 0))]
        for task, part in parts.items()
    }


def shares_of(mix: Mapping[str, float]) -> dict[str, float]:
    """The shares of a mix, divided by their sum, so that they add up to 1."""
    total = sum(mix.values())
    return {name: share / total for name, share in mix.items()}


def shares_for(env: "envs.TextEnv", problem: "envs.Problem", mix: Mapping[str, float]) -> Mapping[str, float]:
    """The part of the mix that a problem can follow: all of it, or in a mixture of tasks `right` and its own habits."""
    if not env.parts:
        return mix
    return {name: share for name, share in mix.items() if name in ("right", *env.habits(problem.copy()))}


def draw_demonstrations(
    env: "envs.TextEnv", mix: Mapping[str, float], seed: int, step: int | str, count: int
) -> "tuple[list[envs.Problem], list[str]]":
    """`count` problems of the environment, and a completion of each; row r is a pure function of (seed, step, r).

    In an environment of several turns, a row is one turn of an episode, and its problem's prompt is the chat so far.
    """
    drawn = [draw_demonstration(env, mix, seed, step, row) for row in range(count)]
    return [problem for _, problem, _ in drawn], [text for *_, text in drawn]


def draw_demonstration(
    env: "envs.TextEnv", mix: Mapping[str, float], seed: int, step: int | str, row: int, past: int = 0
) -> "tuple[int, envs.Problem, str]":
    """(index, problem, completion) of a row of `draw_demonstrations`.

    past: how far after the drawn problem the row's problem stands in the split. It is 0, unless the problems before are
    too long for the model.
    """
    rng = numpy_generator(seed, "sft", step, row)
    index = (int(rng.integers(len(env))) + past) % len(env)
    problem = envs.problem.read_problem(env, index)
    shares = shares_for(env, problem, mix)
    text = write_habit(env, problem, draw_habit(shares, rng))
    if env.max_turns > 1:
        problem, text = draw_turn(env, index, problem, text, partial(draw_habit, shares, rng), rng)
    return index, problem, text


def draw_habit(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    """Draws the name of a rule, `right` or a habit, in proportion to its share; the shares need not sum to 1."""
    edges = np.cumsum(list(shares.values()))
    place = int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))
    last = len(shares) - 1  # a product that is rounded up to the last edge would be past it
    return list(shares)[min(place, last)]


def draw_turn(
    env: "envs.TextEnv",
    index: int,
    problem: "envs.Problem",
    text: str | list[str],
    draw: Callable[[], str],
    rng: np.random.Generator,
) -> "tuple[envs.Problem, str]":
    """Plays an episode and draws one of its turns: (problem, completion); the problem's prompt is the chat so far.

    text: a list of all completions of the episode, or a text for its first turn. After a text, every later turn follows
    a rule (`right` or a habit) whose name `draw` draws anew.
    """
    prefix = problem.completion_prefix
    # The completions of the episode so far, without the prefix; `write` adds turns.
    written = [text] if isinstance(text, str) else list(text)

    def write(turn: int) -> str:
        """The completion of a turn, with the prefix; a turn that is not written yet follows a newly drawn rule."""
        if turn == len(written):
            episode = envs.scoring.as_turns(write_habit(env, problem, draw()))
            # A habit that writes fewer turns repeats its last one.
            written.append(episode[min(turn, len(episode) - 1)])
        return prefix + written[turn]

    # `play` takes a list of all turns, or a function that writes one turn after the other.
    completions = write if isinstance(text, str) else [prefix + completion for completion in written]
    turns, replies = envs.episodes.play(env, index, problem, completions)
    turn = int(rng.integers(len(turns)))
    chat = envs.episodes.chat(problem, turns[:turn], replies[:turn])
    return replace(problem, prompt=chat), written[turn]


def write_habit(env: "envs.TextEnv", problem: "envs.Problem", name: str) -> str | list[str]:
    """The completion of a problem by the habit `name`, or for `right` its demonstration; a list has one for each turn.

    Raises ConfigError if the problem has no such habit.
    """
    if name == "right":
        return env.demonstration(problem.copy())
    habits = envs.checking.habits_of(env, problem)
    if name not in habits:
        text = f"$mix {name}: {env.spec_name} has no habit of this name for {problem.prompt!r:.80}"
        raise ConfigError(f"{text}. Leave it out, or name it in habits() for every problem.")
    return habits[name]


def completion_length(policy: Policy, env: "envs.TextEnv", mix: Mapping[str, float]) -> int:
    """How many tokens a completion gets: as many as the longest of `MEASURED` demonstrations, and a tenth more.

    The end token is counted. The tenth is for longer demonstrations among those that are not measured.
    """
    written = []
    # Each task is sampled by itself, since a stride through a mixture may meet one task only.
    for part in [*env.parts.values()] or [env]:
        stride = max(1, len(part) // max(1, MEASURED // part.max_turns))
        for index in range(0, len(part), stride):
            problem = envs.problem.read_problem(part, index)
            # In a mixture of tasks, only some names of the mix are those of this task's habits.
            names = mix if part is env else {"right", *part.habits(problem.copy())} & mix.keys()
            written += [write_habit(part, problem, name) for name in names]
    texts = [text for turns in written for text in envs.scoring.as_turns(turns)]
    longest = max(count_tokens(policy, texts)) + 1  # with the end token
    return longest + math.ceil(longest / 10)


def settled_decoding(
    config: Config,
    policy: Policy,
    train: "envs.TextEnv | None",
    mix: Mapping[str, float],
) -> Sampling:
    """The decoding of a run on demonstrations, with all its lengths; lengths that are set stay as they are.

    policy: its tokenizer and configuration are enough. train: the split that is learned; None if a length is given and
    the data is not here. mix: as `mix_shares` returns it. Raises ConfigError for settings that cannot decode.
    """
    rollout = config.rollout
    length, block = rollout.max_completion_length, rollout.block_length
    if not length:  # 0 = it is chosen here
        length = completion_length(policy, train, mix)
        if block:  # the completion gets whole blocks
            length = math.ceil(length / block) * block
    if not block:
        training = resolve(Config, env=config.env, model=config.model.model).config
        block = fitting_block(length, training.rollout.block_length, pattern_of(policy.model.config))
    block = min(block, length)
    sampling = replace(
        rollout,
        max_completion_length=length,
        block_length=block,
        diffusion_steps=count_steps(length, block, rollout.diffusion_steps),
    )
    sampling.check()
    return sampling


def fitting_block(length: int, of_training: int, pattern: Pattern) -> int:
    """The length of a block of a completion of `length` tokens that learns from demonstrations.

    If the model's attention has blocks, it is the largest length that divides both the completion and a block of
    attention. Otherwise it is that of a training by RL on the task (`of_training`), if it divides the completion; if
    not, the whole completion is one block.
    """
    if not pattern.is_full:
        return math.gcd(length, pattern.block_size)
    return length if length % of_training else of_training

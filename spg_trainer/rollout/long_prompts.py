"""The room that a model has for a prompt besides a completion, and the problems that do not fit into it.

Every source asks one `Room` what fits. A split that is read from a file, or that has few problems
(`is_measured_whole`), is measured as a whole before the first step: the tokens of all its prompts are counted. Any
other split is a stream: its problems are made when they are asked for, and a problem that does not fit is found when it
is drawn.
"""

import json
import re
import sys
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from spg_trainer.errors import ConfigError, SpgError, in_flags, written
from spg_trainer.models import Policy
from spg_trainer.models.load import without_weights
from spg_trainer.rollout.problems import is_measured_whole, parts_measured_whole, place_of
from spg_trainer.rollout.tokens import (
    TemplateRefuses,
    completion_rows,
    encode_plain,
    prompt_texts,
    template_rows,
)
from spg_trainer.settings.configs import Config
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.packages import envs, errors  # our `envs`, not another package of that name
from spg_trainer.settings.resolve import defaults

Key = TypeVar("Key", bound=Hashable)
SMALL_MODEL = 1024
"""A model of at most so many positions counts as small: prompts for large models are too long for it."""
LISTED = 3
"""How many problems a message names."""
IN_A_ROW = 1000
"""The search for a problem that fits ends after so many problems in a row that do not."""
_BATCH = 1000
"""How many problems are read before their prompts are encoded in one call of the tokenizer."""
SKIP = "skip"
"""The value of --overlong with which problems that do not fit are left out; with "error" they are refused."""
_NUMBER = re.compile(r"([0-9]+)")


@dataclass(frozen=True)
class Room:
    """The room for a prompt beside a completion of `length` tokens."""

    policy: Policy
    """The model, whose weights are not needed."""
    length: int

    @property
    def prompt(self) -> int:
        """How many tokens a prompt may have."""
        return self.policy.room(self.length)

    def long_prompts(self, problems: "Mapping[Key, envs.Problem]") -> dict[Key, int]:
        """The problems that leave no room for a completion: {problem: tokens of its prompt}."""
        given = list(problems.values())
        texts = prompt_texts(self.policy, [p.prompt for p in given], [p.completion_prefix for p in given])
        # No tokenizer makes two tokens of an ASCII character, so a short ASCII text need not be encoded.
        keys_and_texts = zip(problems, texts, strict=True)
        unsure = {key: text for key, text in keys_and_texts if len(text) >= self.prompt or not text.isascii()}
        encoded = zip(unsure, encode_plain(self.policy, list(unsure.values())), strict=True)
        return {key: len(ids) for key, ids in encoded if len(ids) > self.prompt}

    def long_completions(self, texts: Sequence[tuple[Key, str]]) -> dict[Key, int]:
        """The completions that are longer than `length`: {name: tokens, with the end token}.

        If several completions of one name are too long, the longest counts.
        """
        unsure = [(key, text) for key, text in texts if len(text) >= self.length or not text.isascii()]
        rows = completion_rows(self.policy, [text for _, text in unsure]) if unsure else []
        long: dict[Key, int] = {}
        for (key, _), ids in zip(unsure, rows, strict=True):
            if len(ids) > self.length:
                long[key] = max(len(ids), long.get(key, 0))
        return long

    def long_problems(self, env: "envs.TextEnv", indices: Sequence[int]) -> dict[int, int]:
        """The problems of an environment that leave no room for a completion: {problem: tokens of its prompt}.

        A problem that the environment cannot make is left out; the environment's error is raised when the problem is
        used. Raises ConfigError for a completion template of more than `length` tokens, and for prompts that the
        model's chat template refuses, even with --overlong skip.
        """
        long: dict[int, int] = {}
        indices = [int(index) for index in indices]  # from NumPy's integers
        for start in range(0, len(indices), _BATCH):
            problems = {}
            for index in indices[start : start + _BATCH]:
                try:
                    problems[index] = envs.problem.read_problem(env, index)
                except envs.EnvError:
                    continue
            self.refuse_long_templates(env, problems)
            try:
                long |= self.long_prompts(problems)
            except TemplateRefuses as error:
                raise self._error_of_chat_template(env, indices) from error
        return long

    def _error_of_chat_template(self, env: "envs.TextEnv", indices: Sequence[int]) -> ConfigError:
        """The error that names the problems whose prompts the model's chat template refuses.

        indices: problems, of which the template refuses at least one.
        """
        reasons: dict[str, str] = {}  # {name of a refused problem: why}
        for index in indices:
            try:
                prompt = envs.problem.read_problem(env, index).prompt
                prompt_texts(self.policy, [prompt], completion_prefixes=[""])
            except TemplateRefuses as error:
                reasons[name_of(env, index)] = written(error)
            except envs.EnvError:
                continue
        shown = list(reasons)[:LISTED]
        first_reason = reasons[shown[0]]
        if len(reasons) > LISTED:
            shown.append(f"{len(reasons) - LISTED:,} more")
        return ConfigError(
            f"{env.spec_name}, {', '.join(shown)}: {first_reason}. Change or leave out such rows, or give the model's "
            "tokenizer a chat_template that takes them."
        )

    def refuse_long_templates(self, env: "envs.TextEnv", problems: "Mapping[int, envs.Problem]") -> None:
        """Raises ConfigError if one of {index: problem} has a completion template of more than `length` tokens."""
        if templates := {i: p.completion_template for i, p in problems.items() if p.completion_template}:
            indices = list(templates)
            # `template_rows` encodes templates, and raises for one that is too long; its result is not needed.
            template_rows(
                self.policy, list(templates.values()), self.length, lambda row: name_in(env, indices[row])
            )

    def fitting(self, env: "envs.TextEnv", indices: Sequence[int], overlong: str) -> list[int]:
        """The problems of an evaluation that fit.

        Raises ConfigError if `overlong` is "error" and one does not fit, or if none fits.
        """
        too_long = TooLong(self)
        long = too_long.add(env, indices)
        too_long.note(overlong)  # raises, if `overlong` is "error"
        if long and len(long) == len(indices):
            raise ConfigError(f"{too_long.text} None is left to evaluate.")
        return [index for index in indices if index not in long]

    def next_fitting(self, env: "envs.TextEnv", indices: np.ndarray) -> tuple[np.ndarray, int]:
        """(problems of a step, how many were skipped): the next that fits replaces each one that does not fit.

        indices: (P,) int64, distinct. Raises ConfigError after `IN_A_ROW` problems in a row that do not fit.
        """
        long = self.long_problems(env, indices)
        chosen, skipped = indices.copy(), 0
        taken = {int(index) for index in indices} - long.keys()
        for place, index in enumerate(indices.tolist()):
            if index in long:
                chosen[place], skipped_here = self._first_fitting(env, index, taken)
                taken.add(int(chosen[place]))
                skipped += skipped_here
        return chosen, skipped

    def _first_fitting(self, env: "envs.TextEnv", index: int, taken: Collection[int]) -> tuple[int, int]:
        """(the first problem from `index` on that fits and is not taken, how many problems were skipped before it).

        A problem is skipped if it does not fit; one that is taken does not count. After the last problem, the search
        goes on at the first one. Raises ConfigError as `next_fitting`.
        """
        skipped = 0
        for distance in range(IN_A_ROW):
            candidate = (index + distance) % len(env)
            if candidate in taken:
                continue
            if not self.long_problems(env, [candidate]):
                return candidate, skipped
            skipped += 1
        raise ConfigError(
            f"{name_in(env, index)}: neither it nor one of the {IN_A_ROW - 1:,} that follow fits the model. "
            f"{self.limits}"
        )

    def refuse_first(self, env: "envs.TextEnv", indices: Sequence[int], lengths: Sequence[int]) -> None:
        """Raises ConfigError that names the first problem whose prompt leaves no room; lengths: the prompts' tokens."""
        for index, tokens in zip(indices, lengths, strict=True):
            if tokens > self.prompt:
                raise ConfigError(
                    f"{env.spec_name}: the prompt of {name_of(env, int(index))} has {tokens:,} tokens. "
                    f"{self.limits} {self.ways_out(tokens)}"
                )

    @property
    def limits(self) -> str:
        """A sentence with the positions of the model, and how many of them a completion and a prompt may take."""
        return (
            f"The model has {self.prompt + self.length:,} positions, of which $max_completion_length takes "
            f"{self.length:,}; a prompt may have {max(0, self.prompt):,} tokens."
        )

    def ways_out(self, longest: int) -> str:
        """A sentence on what to do about prompts of up to `longest` tokens."""
        shorten_completions = ""
        for_completion = self.policy.room(longest)  # positions that such a prompt leaves
        if 0 < for_completion < self.length:
            shorten_completions = f"lower $max_completion_length to {for_completion:,} or less, "
        use_short_prompts = ""
        positions = self.policy.room(0)  # all that the model has
        if longest > positions // 2 and positions <= SMALL_MODEL:
            use_short_prompts = (
                "A task's recipe for large models asks with long prompts: a small one of your own is better asked with "
                "$env_args prompt_style=plain, where the task has it, and $max_completion_length, $block_length and "
                "$diffusion_steps to match. Or: "
            )
        return (
            f"{use_short_prompts}Leave them out or shorten them, {shorten_completions}or train and evaluate on the "
            "others with $overlong=skip."
        )


@dataclass
class TooLong:
    """A count of the prompts and completions that were measured, with those that are too long."""

    room: Room
    measured: int = 0
    """How many prompts were measured."""
    named: dict[tuple[str, str], int] = field(default_factory=dict)
    """{(task or file, name of a problem whose prompt does not fit): tokens of its prompt}."""
    splits: dict[str, list[str]] = field(default_factory=dict)
    """{task or file: its splits in which some problem does not fit}."""
    completions: int = 0
    """How many completions were measured; only given ones are (demonstrations, pairs)."""
    long_completions: dict[str, int] = field(default_factory=dict)
    """{name of a problem with a completion that does not fit: tokens of the completion}."""

    def add(self, env: "envs.TextEnv", indices: Sequence[int]) -> dict[int, int]:
        """Measures problems of a split; returns those that do not fit, {problem: tokens of its prompt}."""
        long = self.room.long_problems(env, indices)
        named = {name_of(env, index): tokens for index, tokens in long.items()}
        self.add_prompts(env.spec_name, split_of(env), len(indices), named)
        return long

    def add_prompts(self, source: str, split: str, measured: int, long: Mapping[str, int]) -> None:
        """Adds prompts that have been measured.

        source: their task or file. split: "" if the source has none. measured: how many there are. long: {name of a
        problem: tokens} of the prompts that do not fit.
        """
        self.measured += measured
        if long:
            self.splits.setdefault(source, []).append(split)
            self.named |= {(source, name): tokens for name, tokens in long.items()}

    def add_split(self, env: "envs.TextEnv") -> None:
        """Measures all problems of a split, unless it is a stream; of a mixture of tasks, the split of each task."""
        for part, indices in parts_measured_whole(env):
            self.add(part, indices)

    @property
    def text(self) -> str:
        """A text on how many problems do not fit, which are the first, and why; "" if all fit."""
        if not self.named:
            return ""
        tasks = (f"{name} {' and '.join(splits)}".rstrip() for name, splits in self.splits.items())
        verb = "is" if len(self.named) == 1 else "are"
        if len(self.splits) == 1:  # the text begins with the name of the only task
            named = {name: tokens for (_, name), tokens in self.named.items()}
        else:
            named = {f"{task}, {name}": tokens for (task, name), tokens in self.named.items()}
        return (
            f"{', '.join(tasks)}: {len(self.named):,} of {self.measured:,} problems {verb} too long for the model: "
            f"{first_of(named)}. {self.room.limits}"
        )

    @property
    def text_of_completions(self) -> str:
        """A text on how many given completions do not fit, and which are the first; "" if all fit."""
        if not self.long_completions:
            return ""
        verb = "has" if len(self.long_completions) == 1 else "have"
        return (
            f"{len(self.long_completions):,} of {self.completions:,} completions {verb} more than "
            f"{self.room.length:,} tokens with the end token: {first_of(self.long_completions)}."
        )

    def note(self, overlong: str, source: str = "") -> str:
        """What the user should know of the problems and completions that do not fit; "" if all fit.

        With --overlong skip, the note says that they are skipped. With --overlong error there is no such note: if one
        does not fit, ConfigError is raised.

        source: the task or the file of the completions; not needed if only prompts were measured.
        """
        is_refused = overlong != SKIP
        sentences = []
        if self.text:
            if is_refused:
                raise ConfigError(f"{self.text} {self.room.ways_out(max(self.named.values()))}")
            sentences.append(f"{self.text} They are skipped.")
        if self.text_of_completions:
            of_completions = f"{source}: {self.text_of_completions}"
            if is_refused:
                raise ConfigError(
                    f"{of_completions} Use $max_completion_length={max(self.long_completions.values())} or more, leave "
                    "them out, or train on the others with $overlong=skip."
                )
            sentences.append(f"{of_completions} They are skipped.")
        return " ".join(sentences)


def first_of(named: Mapping[str, int]) -> str:
    """The first `LISTED` problems of {name: tokens}, and how many more there are.

    E.g. "line 9 (70 tokens), line 10 (81 tokens), line 12 (90 tokens), 5 more".
    """

    def sort_key(name: str) -> list[tuple[bool, int | str]]:
        """A key that puts "line 9" before "line 10": the numbers in a name are compared as numbers."""
        # Whether a part is a number stands first, so that no number is compared with a text.
        return [(part.isdigit(), int(part) if part.isdigit() else part) for part in _NUMBER.split(name)]

    order = sorted(named, key=sort_key)
    shown = [f"{name} ({named[name]:,} tokens)" for name in order[:LISTED]]
    if len(order) > LISTED:
        shown.append(f"{len(order) - LISTED:,} more")
    return ", ".join(shown)


def split_of(env: "envs.TextEnv") -> str:
    """The split of an environment; "" if it does not say."""
    return str(getattr(env, "split", ""))


def name_of(env: "envs.TextEnv", index: int) -> str:
    """A problem's name in messages: its line in a file, or else its number, e.g. "train problem 7"."""
    return place_of(envs.problem.read_problem(env, index)) or f"{split_of(env)} problem {index}".lstrip()


def name_in(env: "envs.TextEnv", index: int) -> str:
    """A problem's name in messages about several tasks: its task, then as in `name_of`."""
    return f"{env.spec_name}, {name_of(env, index)}"


def report(name: str, arguments: Mapping[str, Any], model: str, count: int, length: int) -> tuple[bool, str]:
    """(whether all prompts of a task fit a model, a sentence on what was measured), for `envs check --model`.

    The model's weights are not read. name, arguments: the task, as for `envs.make`. model: as --model. count: how many
    problems of each stream are measured. length: tokens of a completion; 0 = as the model is trained by default. Raises
    SpgError or EnvError for a task or model that cannot be opened.
    """
    length = length or defaults(Config, env=name, model=model).rollout.max_completion_length
    room = Room(without_weights(ModelConfig(model=model), name), length)
    too_long = TooLong(room)
    for split in envs.splits.SPLITS:
        env = envs.make(name, split=split, **arguments)
        for part in [*env.parts.values()] or [env]:
            whole = is_measured_whole(part)
            too_long.add(part, range(len(part)) if whole else envs.checking.spread(len(part), count))
    if too_long.text:
        return False, f"{too_long.text} {room.ways_out(max(too_long.named.values()))}"
    return True, f"{too_long.measured:,} prompts leave room for a completion. {room.limits}"


def main() -> None:
    """Prints the `report` as JSON, for arguments given as JSON: `envs check --model` starts this."""
    try:
        ok, text = report(**json.loads(sys.argv[1]))
    except (SpgError, *errors()) as error:
        ok, text = False, written(error)
    json.dump([ok, in_flags(text)], sys.stdout)

"""Finds problems whose prompts leave no room for a completion.

A split that is read from a file, or that has at most `MEASURED_WHOLE` problems, is measured as a whole before the first
step. Any other split is a stream: its problems are made when they are asked for, and one that does not fit is found
when it is drawn.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spg_trainer.architecture.shape import open_config
from spg_trainer.errors import ConfigError, SpgError
from spg_trainer.models import Policy
from spg_trainer.models.load import open_tokenizer
from spg_trainer.rollout.lines import is_file, place_of
from spg_trainer.rollout.tokens import TemplateRefuses, canvas_rows, encode_plain, prompt_texts
from spg_trainer.settings.fields import Config
from spg_trainer.settings.model import ModelConfig
from spg_trainer.settings.packages import envs, errors  # our `envs`, not another package of that name
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.weights import resolve_model

if TYPE_CHECKING:
    from envs import Problem, TextEnv

MEASURED_WHOLE = 20_000
"""A split of at most so many problems is measured as a whole, wherever it comes from."""
SMALL_MODEL = 1024
"""A model of at most so many positions is a small one, for which the prompts of large ones are too long."""
LISTED = 3
"""How many problems a message names."""
IN_A_ROW = 1000
"""The search for a problem that fits ends after so many in a row that do not."""
_BATCH = 1000
"""How many problems are read before their prompts are encoded in one call of the tokenizer."""
SKIP = "skip"
"""The value of --overlong with which problems that do not fit are left out; with "error" they are refused."""
_NUMBER = re.compile(r"([0-9]+)")


@dataclass
class Overlong:
    """The result of measuring problems: how many were measured, and which of them do not fit."""

    measured: int = 0
    named: dict[tuple[str, str], int] = field(default_factory=dict)
    """{(task, name of a problem that does not fit): tokens of its prompt}."""
    splits: dict[str, list[str]] = field(default_factory=dict)
    """{task: its splits in which some problem does not fit}."""

    def add(self, env: "TextEnv", indices: Sequence[int], long: Mapping[int, int]) -> None:
        """Adds the problems `indices` of a split. long: those that do not fit, {problem: tokens of its prompt}."""
        self.measured += len(indices)
        if long:
            self.splits.setdefault(env.spec_name, []).append(split_of(env))
            self.named |= {(env.spec_name, name_of(env, index)): tokens for index, tokens in long.items()}

    def text(self, policy: Policy, length: int) -> str:
        """How many problems do not fit, the first of them and why; "" if all fit. length: tokens of a completion."""
        if not self.named:
            return ""
        tasks = (f"{name} {' and '.join(splits)}".rstrip() for name, splits in self.splits.items())
        verb = "is" if len(self.named) == 1 else "are"
        if len(self.splits) == 1:  # the task has been named already
            named = {name: tokens for (_, name), tokens in self.named.items()}
        else:
            named = {f"{task}, {name}": tokens for (task, name), tokens in self.named.items()}
        return (
            f"{', '.join(tasks)}: {len(self.named):,} of {self.measured:,} problems {verb} too long for the model: "
            f"{first_of(named)}. {limits(policy, length)}"
        )


def first_of(named: Mapping[str, int]) -> str:
    """The first `LISTED` problems of {name: tokens}, and how many there are besides.

    E.g. "line 9 (70 tokens), line 10 (81 tokens), line 12 (90 tokens), 5 more".
    """

    def with_numbers(name: str) -> list[tuple[bool, int | str]]:
        """A key that sorts "line 9" before "line 10"."""
        return [(part.isdigit(), int(part) if part.isdigit() else part) for part in _NUMBER.split(name)]

    order = sorted(named, key=with_numbers)
    shown = [f"{name} ({named[name]:,} tokens)" for name in order[:LISTED]]
    if len(order) > LISTED:
        shown.append(f"{len(order) - LISTED:,} more")
    return ", ".join(shown)


def split_of(env: "TextEnv") -> str:
    """The split of an environment, "" where it does not say."""
    return str(getattr(env, "split", ""))


def name_of(env: "TextEnv", index: int) -> str:
    """What a message calls a problem: its line in a file, or else its number, as "train problem 7"."""
    return place_of(envs.problem.read_problem(env, index)) or f"{split_of(env)} problem {index}".lstrip()


def name_in(env: "TextEnv", index: int) -> str:
    """What a message calls a problem where several tasks may be meant: its task, then as `name_of`."""
    return f"{env.spec_name}, {name_of(env, index)}"


def room(policy: Policy, length: int) -> int:
    """How many tokens a prompt may have where a completion has `length` tokens."""
    return policy.model.config.max_position_embeddings - length


def limits(policy: Policy, length: int) -> str:
    """A sentence with the positions of the model, and how many of them a completion and a prompt may take."""
    positions = policy.model.config.max_position_embeddings
    return (
        f"The model has {positions:,} positions, of which --max-completion-length takes {length:,}; a prompt may have "
        f"{max(0, positions - length):,} tokens."
    )


def ways_out(policy: Policy, length: int, longest: int) -> str:
    """A sentence on what to do about prompts of up to `longest` tokens. length: tokens of a completion."""
    positions = policy.model.config.max_position_embeddings
    for_completion = positions - longest
    lower = ""
    if 0 < for_completion < length:
        lower = f"lower --max-completion-length to {for_completion:,} or less, "
    plain = ""
    if longest > positions // 2 and positions <= SMALL_MODEL:
        plain = (
            "A task's recipe for large models asks with long prompts: a small one of your own is better asked with "
            "--env-args prompt_style=plain, where the task has it, and --max-completion-length, --block-length and "
            "--diffusion-steps to match. Or: "
        )
    return f"{plain}Leave them out or shorten them, {lower}or train and evaluate on the others with --overlong skip."


def too_long(policy: Policy, env: "TextEnv", indices: Sequence[int], length: int) -> dict[int, int]:
    """The problems that leave no room for a completion of `length` tokens: {problem: tokens of its prompt}.

    A problem that the environment cannot make is passed over; its error is raised where it is used. Raises ConfigError
    for a completion template of more than `length` tokens and for prompts that the model's chat template refuses, even
    with --overlong skip.
    """
    overlong: dict[int, int] = {}
    indices = [int(index) for index in indices]  # from NumPy's integers
    most = room(policy, length)
    for start in range(0, len(indices), _BATCH):
        problems = {}
        for index in indices[start : start + _BATCH]:
            try:
                problems[index] = envs.problem.read_problem(env, index)
            except envs.EnvError:
                continue
        refuse_long_templates(policy, env, problems, length)
        try:
            counts = prompt_counts(policy, list(problems.values()), most)
        except TemplateRefuses as error:
            raise refused_rows(policy, env, indices) from error
        overlong |= {index: tokens for index, tokens in zip(problems, counts, strict=True) if tokens > most}
    return overlong


def refused_rows(policy: Policy, env: "TextEnv", indices: Sequence[int]) -> ConfigError:
    """The error that names the problems whose prompts the model's chat template refuses, of which there is one."""
    refused: dict[str, str] = {}
    for index in indices:
        try:
            problem = envs.problem.read_problem(env, index)
            prompt_texts(policy, [problem.prompt], [""])
        except TemplateRefuses as error:
            refused[name_of(env, index)] = str(error)
        except envs.EnvError:
            continue
    names, more = [*refused][:LISTED], len(refused) - LISTED
    listed = ", ".join([*names, f"{more:,} more"] if more > 0 else names)
    return ConfigError(
        f"{env.spec_name}, {listed}: {refused[names[0]]}. Change or leave out such rows, or give the model's tokenizer "
        "a chat_template that takes them."
    )


def refuse_long_templates(
    policy: Policy, env: "TextEnv", problems: "Mapping[int, Problem]", length: int
) -> None:
    """Raises ConfigError if a problem of {index: problem} has a completion template of more than `length` tokens."""
    if templates := {i: p.completion_template for i, p in problems.items() if p.completion_template}:
        indices = list(templates)
        # `canvas_rows` encodes templates, and raises for one that is too long; its result is not needed.
        canvas_rows(policy, list(templates.values()), length, lambda row: name_in(env, indices[row]))


def prompt_counts(policy: Policy, problems: "Sequence[Problem]", most: int) -> list[int]:
    """How many tokens each prompt has, or for a prompt that cannot have more than `most`, how many characters.

    To save time, a short prompt of ASCII characters is not encoded: no tokenizer makes two tokens of such a character.
    """
    texts = prompt_texts(policy, [p.prompt for p in problems], [p.completion_prefix for p in problems])
    to_encode = [i for i, text in enumerate(texts) if len(text) >= most or not text.isascii()]
    encoded = encode_plain(policy, [texts[i] for i in to_encode])
    tokens = {i: len(ids) for i, ids in zip(to_encode, encoded, strict=True)}
    return [tokens.get(i, len(text)) for i, text in enumerate(texts)]


def is_measured_whole(env: "TextEnv") -> bool:
    """Whether a split is no stream, so that it is measured as a whole before the first step."""
    return len(env) <= MEASURED_WHOLE or is_file(env)


def measure(policy: Policy, env: "TextEnv", length: int, found: Overlong) -> None:
    """Measures all problems of a split and adds them to `found`, unless the split is a stream.

    Of a mixture of tasks, the split of each task is measured.
    """
    for part in [*env.parts.values()] or [env]:
        if is_measured_whole(part):
            found.add(part, range(len(part)), too_long(policy, part, range(len(part)), length))


def check_fits(policy: Policy, found: Overlong, length: int, overlong: str) -> str:
    """A notice on problems that do not fit and are skipped, or ""; ConfigError for them where `overlong` is "error"."""
    text = found.text(policy, length)
    if not text:
        return ""
    if overlong == SKIP:
        return f"{text} They are skipped."
    raise ConfigError(f"{text} {ways_out(policy, length, max(found.named.values()))}")


def report(name: str, arguments: Mapping[str, Any], model: str, count: int, length: int) -> tuple[bool, str]:
    """Whether all prompts of a task fit a model, and a sentence on what was measured: a line of `envs check --model`.

    The model's weights are not read. name, arguments: the task, as `envs.make` takes it. model: as `--model`. count:
    how many problems of each stream are measured. length: tokens of a completion, 0 = as the model is trained by
    default. Raises SpgError or EnvError for what cannot be opened.
    """
    model_config = ModelConfig(model=model)
    length = length or defaults(Config, env=name, model=model).rollout.max_completion_length
    weights = resolve_model(model, name)
    config = open_config(weights, model_config)
    if config is None:
        raise ConfigError(
            f"--model {model}: its config.json is not here. Give a folder, or download the model."
        )
    policy = open_tokenizer(config, weights, model_config)  # without weights
    found = Overlong()
    for split in envs.splits.SPLITS:
        env = envs.make(name, split=split, **arguments)
        for part in [*env.parts.values()] or [env]:
            indices = range(len(part)) if is_measured_whole(part) else envs.checking.spread(len(part), count)
            found.add(part, indices, too_long(policy, part, indices, length))
    if text := found.text(policy, length):
        return False, f"{text} {ways_out(policy, length, max(found.named.values()))}"
    return True, f"{found.measured:,} prompts leave room for a completion. {limits(policy, length)}"


def main() -> None:
    """Writes the `report` for arguments that the command line gives as JSON: `envs check --model` starts this."""
    try:
        ok, text = report(**json.loads(sys.argv[1]))
    except (SpgError, *errors()) as error:
        ok, text = False, str(error)
    json.dump([ok, text], sys.stdout)


def fitting(policy: Policy, env: "TextEnv", indices: Sequence[int], length: int, overlong: str) -> list[int]:
    """The problems of an evaluation that fit.

    Raises ConfigError if none fits, and for one that does not fit if `overlong` is "error".
    """
    long = too_long(policy, env, indices, length)
    found = Overlong()
    found.add(env, indices, long)
    check_fits(policy, found, length, overlong)
    if long and len(long) == len(indices):
        raise ConfigError(f"{found.text(policy, length)} None is left to evaluate.")
    return [index for index in indices if index not in long]


def next_fitting(policy: Policy, env: "TextEnv", indices: np.ndarray, length: int) -> tuple[np.ndarray, int]:
    """The problems of a step, and how many were skipped: each that does not fit is replaced by the next one that does.

    indices: (P,) int64, distinct. Raises ConfigError after `IN_A_ROW` problems in a row that do not fit.
    """
    long = too_long(policy, env, indices, length)
    chosen, skipped = indices.copy(), 0
    taken = {int(index) for index in indices} - long.keys()
    for place, index in enumerate(indices.tolist()):
        if index not in long:
            continue
        for distance in range(IN_A_ROW):  # 0 is the problem itself, which is counted as skipped
            candidate = (index + distance) % len(env)
            if candidate in taken:
                continue
            if not too_long(policy, env, [candidate], length):
                break
            skipped += 1
        else:
            raise ConfigError(
                f"{env.spec_name}, {split_of(env)} problem {index}: neither it nor one of the {IN_A_ROW - 1:,} that "
                f"follow fits the model. {limits(policy, length)}"
            )
        taken.add(candidate)
        chosen[place] = candidate
    return chosen, skipped


def refuse_first(
    policy: Policy, env: "TextEnv", indices: Sequence[int], lengths: Sequence[int], length: int
) -> None:
    """Raises ConfigError that names the first problem whose prompt leaves no room for a completion of `length` tokens.

    lengths: how many tokens each prompt has.
    """
    for index, tokens in zip(indices, lengths, strict=True):
        if tokens > room(policy, length):
            raise ConfigError(
                f"{env.spec_name}: the prompt of {name_of(env, int(index))} has {tokens:,} tokens. "
                f"{limits(policy, length)} {ways_out(policy, length, tokens)}"
            )

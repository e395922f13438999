"""Pairs of a chosen and a rejected completion from a file (--pairs), in place of completions that the model samples.

The file has TRL's preference columns, `prompt`, `chosen` and `rejected`, as texts or as chat messages.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from spg_trainer.batch import Rollouts
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.scored import Scored
from spg_trainer.rollout.tokens import Prompt, encode_completions, encode_prompts, is_message
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import Problem

COLUMNS = ("prompt", "chosen", "rejected")
AT_ONCE = 1024
"""Pairs whose tokens are counted together."""


class Pair(NamedTuple):
    """Two completions of one prompt, the better one first."""

    prompt: Prompt
    chosen: str
    rejected: str


@dataclass(frozen=True)
class Preferences:
    """The pairs of a file that a model can be trained on; stands where a step's environment would."""

    spec_name: str
    """The file."""
    pairs: Sequence[Pair]
    index: np.ndarray
    """(n,) int64, numbers of the usable pairs in the file, from 0."""

    def __len__(self) -> int:
        return len(self.index)

    @property
    def note(self) -> str:
        """A line the user should read, or empty."""
        total, left = len(self.pairs), len(self.pairs) - len(self)
        why = "longer than --max-completion-length or the model's positions, or two equal completions"
        return f"{self.spec_name}: {left} of {total} pairs are left out ({why})." if left else ""

    def choose(self, seed: int, step: int, count: int) -> np.ndarray:
        """The pairs of a step, (count,) int64: each once in a pass over the file, and each pass in another order."""
        places, size = np.arange(step * count, (step + 1) * count), len(self)
        passes = [numpy_generator(seed, "pairs", int(p)).permutation(size) for p in np.unique(places // size)]
        order = np.concatenate(passes)
        return self.index[order[places - places[0] // size * size]]

    def collect(self, policy: Policy, index: np.ndarray, length: int) -> Scored:
        """Some pairs as if they had been sampled: 2n completions, each chosen one of reward 1 before its rejected."""
        pairs, count = [self.pairs[i] for i in index], len(index)
        problems: list[Problem] = [envs.Problem(pair.prompt, {}) for pair in pairs for _ in range(2)]
        completions = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
        rewards = np.tile([1.0, 0.0], count)
        return Scored(
            index=np.repeat(index, 2),
            generation=np.tile([0, 1], count),
            problems=problems,
            completions=completions,
            rollouts=as_rollouts(policy, [problem.prompt for problem in problems], completions, length),
            rewards=rewards,
            components={},
            correct=rewards > 0,
            reason=["chosen", "rejected"] * count,
            extracted=[None] * (2 * count),
            traceback=[None] * (2 * count),
        )

    def render_text(self, problem: "Problem", completion: str) -> str:
        """A completion under its prompt."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return f"{prompt}\n{completion}"


def settle_pairs(config: Config) -> Config:
    """The settings with the sha256 of the file of pairs; ConfigError if it is not the one that they already name."""
    if config.pairs is None:
        return config
    try:
        with open(config.pairs, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(
            f"--pairs {config.pairs}: cannot be read ({error.strerror}). Give a file's path."
        ) from error
    if config.pairs_sha256 not in (None, digest):
        raise ConfigError(
            f"--pairs {config.pairs}: the file is not the one that these settings were made with; its sha256 is "
            f"{digest}, not {config.pairs_sha256}. Restore it, or start a new run with another --output-dir."
        )
    return replace(config, pairs_sha256=digest)


def read_pairs(path: str) -> list[Pair]:
    """The pairs of a .jsonl, .jsonl.gz or .parquet file, in its order.

    Raises ConfigError or EnvError for another kind of file, and for a row that is no pair, naming its line.
    """
    formats = envs.datasets.FORMATS
    if not path.endswith(formats):
        raise ConfigError(f"--pairs {path}: should end in {', '.join(formats)}.")
    rows = envs.datasets.read_files("--pairs", [Path(path)], COLUMNS)
    return [
        Pair(_prompt(where, row["prompt"]), *(_answer(where, name, row[name]) for name in COLUMNS[1:]))
        for where, row in rows
    ]


def open_pairs(config: Config, policy: Policy) -> Preferences:
    """The pairs of --pairs that fit the model and the completion length; ConfigError if a step has not enough."""
    pairs, usable = read_pairs(config.pairs), []
    length, positions = config.rollout.max_completion_length, policy.model.config.max_position_embeddings
    for start in range(0, len(pairs), AT_ONCE):
        some = pairs[start : start + AT_ONCE]
        prompts = encode_prompts(policy, [pair.prompt for pair in some])[1].sum(-1).tolist()
        chosen, rejected = (
            policy.tokenizer(texts, add_special_tokens=False)["input_ids"]
            for texts in ([pair.chosen for pair in some], [pair.rejected for pair in some])
        )
        usable += [
            max(len(good), len(bad)) + 1 <= length and prompt + length <= positions and good != bad
            for prompt, good, bad in zip(prompts, chosen, rejected, strict=True)
        ]
    found = Preferences(config.pairs, pairs, np.flatnonzero(usable))
    if config.batch.prompts_per_step > len(found):
        raise ConfigError(
            f"--prompts-per-step {config.batch.prompts_per_step}: {config.pairs} has {len(found)} pairs to train on. "
            f"Use fewer. {found.note}".rstrip()
        )
    return found


def as_rollouts(
    policy: Policy, prompts: Sequence[Prompt], completions: Sequence[str], length: int
) -> Rollouts:
    """Given completions in the sampler's words, (B, length): all tokens up to the end unmasked at step 0, none behind.

    Raises ConfigError for a completion that with its end token is longer than `length`.
    """
    prompt_ids, prompt_mask = encode_prompts(policy, prompts)
    ids = encode_completions(policy, completions, length).to(policy.device)
    is_end = torch.isin(ids, torch.tensor(policy.end_token_ids, device=policy.device)).long()
    real = is_end.cumsum(-1) == is_end  # nothing before the token is an end token
    return Rollouts(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=ids.masked_fill(~real, policy.mask_id),
        completion_mask=real,
        unmask_step=real.long() - 1,
        unmask_logps=torch.zeros(real.shape, device=policy.device),
    )


def _prompt(where: str, value: Any) -> Prompt:
    if isinstance(value, str) or (isinstance(value, list) and value and all(map(is_message, value))):
        return value
    messages = '[{"role": "user", "content": "..."}]'
    raise ConfigError(
        f"--pairs: {where} has the prompt {value!r:.80}; it should be text, or messages {messages}."
    )


def _answer(where: str, name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if (
        isinstance(value, list)
        and len(value) == 1
        and is_message(value[0])
        and value[0]["role"] == "assistant"
    ):
        return value[0]["content"]
    message = '[{"role": "assistant", "content": "..."}]'
    raise ConfigError(
        f"--pairs: {where} has {name} {value!r:.80}; it should be text, or one message {message}."
    )

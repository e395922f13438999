"""Pairs of a chosen and a rejected completion from a file (--pairs), in place of completions that the model samples.

The file has TRL's preference columns, `prompt`, `chosen` and `rejected`, as texts or as chat messages.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from spg_trainer.batch import Rollouts
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.scored import Scored
from spg_trainer.rollout.sources import own_share
from spg_trainer.rollout.tokens import Prompt, encode_completions, encode_prompts, is_message
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs

if TYPE_CHECKING:
    from envs import Problem

COLUMNS = ("prompt", "chosen", "rejected")
TOKENIZED_AT_ONCE = 1024


class Pair(NamedTuple):
    """Two completions of one prompt, the better one first."""

    prompt: Prompt
    chosen: str
    rejected: str


class PairFile:
    """The pairs of --pairs that fit the model and the completion length; ConfigError if a step has not enough."""

    env = None

    def __init__(self, config: Config, policy: Policy) -> None:
        self.policy, self.config, self.spec_name = policy, config, config.pairs
        self.pairs = read_pairs(config.pairs)
        self.index = np.flatnonzero(usable(self.pairs, policy, config.rollout.max_completion_length))
        unused = len(self.pairs) - len(self.index)
        why = "longer than --max-completion-length or the model's positions, or two equal completions"
        self.notice = f"{config.pairs}: {unused} of {len(self.pairs)} pairs are left out ({why})." * bool(
            unused
        )
        if config.batch.prompts_per_step > len(self.index):
            raise ConfigError(
                f"--prompts-per-step {config.batch.prompts_per_step}: {config.pairs} has {len(self.index)} pairs to "
                f"train on. Use fewer. {self.notice}".rstrip()
            )

    def choose(self, step: int) -> np.ndarray:
        """The pairs of a step, int64: each once in a pass over the file, and each pass in another order."""
        count, size = self.config.batch.prompts_per_step, len(self.index)
        places = np.arange(step * count, (step + 1) * count)
        passes = [
            numpy_generator(self.config.seed, "pairs", int(number)).permutation(size)
            for number in np.unique(places // size)
        ]
        return self.index[np.concatenate(passes)[places - places[0] // size * size]]

    def collect(self, step: int) -> Scored:
        """The pairs of a step as if they had been sampled: a chosen one has reward 1, its rejected one 0."""
        index = own_share(self.choose(step))
        pairs, count = [self.pairs[i] for i in index], len(index)
        problems = [envs.Problem(pair.prompt, {}) for pair in pairs for _ in range(2)]
        completions = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
        length = self.config.rollout.max_completion_length
        rewards = np.tile([1.0, 0.0], count)
        return Scored(
            index=np.repeat(index, 2),
            generation=np.tile([0, 1], count),
            problems=problems,
            completions=completions,
            rollouts=as_rollouts(self.policy, [p.prompt for p in problems], completions, length),
            rewards=rewards,
            components={},
            correct=rewards > 0,
            reason=["chosen", "rejected"] * count,
            extracted=[None] * (2 * count),
            traceback=[None] * (2 * count),
        )

    def render_text(self, problem: "Problem", completion: str) -> str:
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
        raise ConfigError(f"--pairs {config.pairs}: {error.strerror}. Give a file's path.") from error
    if config.pairs_sha256 not in (None, digest):
        raise ConfigError(
            f"--pairs {config.pairs}: its sha256 is {digest}, these settings were made with {config.pairs_sha256}. "
            "Restore the file, or start a new run with another --output-dir."
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
        Pair(_prompt(where, row["prompt"]), *(_completion(where, name, row[name]) for name in COLUMNS[1:]))
        for where, row in rows
    ]


def usable(pairs: Sequence[Pair], policy: Policy, length: int) -> list[bool]:
    """Whether each pair fits the model and `length`, and its completions differ."""
    fits, positions = [], policy.model.config.max_position_embeddings
    for start in range(0, len(pairs), TOKENIZED_AT_ONCE):
        prompts, *completions = zip(*pairs[start : start + TOKENIZED_AT_ONCE], strict=True)
        prompt_lengths = encode_prompts(policy, prompts)[1].sum(-1).tolist()
        chosen, rejected = (
            policy.tokenizer(texts, add_special_tokens=False)["input_ids"] for texts in completions
        )
        fits += [
            max(len(good), len(bad)) + 1 <= length and prompt + length <= positions and good != bad
            for prompt, good, bad in zip(prompt_lengths, chosen, rejected, strict=True)
        ]
    return fits


def as_rollouts(
    policy: Policy, prompts: Sequence[Prompt], completions: Sequence[str], length: int
) -> Rollouts:
    """Given completions as rollouts, (B, length): all tokens up to the end unmasked at step 0, none behind it.

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
    raise ConfigError(f"--pairs: {where} has the prompt {value!r:.80}; give text, or messages {messages}.")


def _completion(where: str, name: str, value: Any) -> str:
    match value:
        case str():
            return value
        case [{"role": "assistant", "content": str(text)}]:
            return text
    message = '[{"role": "assistant", "content": "..."}]'
    raise ConfigError(f"--pairs: {where} has {name} {value!r:.80}; give text, or one message {message}.")

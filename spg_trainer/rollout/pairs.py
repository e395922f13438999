"""Pairs of a chosen and a rejected completion from a file (--pairs), in place of completions that the model samples.

The file has TRL's preference columns, `prompt`, `chosen` and `rejected`, as texts or as chat messages.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import check_prompts, deal_groups
from spg_trainer.rollout.overlong import SKIP, first_of, limits, prompt_counts, room, ways_out
from spg_trainer.rollout.scored import Scored
from spg_trainer.rollout.tokens import Prompt, completion_rows, encode_completions, encode_prompts, is_chat
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.fields import Config
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Place, Rollouts

if TYPE_CHECKING:
    from envs import Problem

COLUMNS = ("prompt", "chosen", "rejected")


class Pair(NamedTuple):
    """Two completions of one prompt, the better one first."""

    prompt: Prompt
    chosen: str
    rejected: str


class PairFile:
    """The pairs of --pairs; ConfigError for one that is too long, as --overlong says, or if a step has not enough."""

    env = None

    def __init__(self, config: Config, policy: Policy, pairs: Mapping[str, Pair]) -> None:
        """pairs: those of the file, as `read_pairs` returns them."""
        self.policy, self.config, self.spec_name = policy, config, config.pairs
        self.pools, self.pairs = None, [*pairs.values()]
        length = config.rollout.max_completion_length
        fits, said = fitting_pairs(policy, config.pairs, [*pairs], self.pairs, length, config.overlong)
        differ = np.array([pair.chosen != pair.rejected for pair in self.pairs])
        self.index = np.flatnonzero(fits & differ)
        equal = int((fits & ~differ).sum())
        if equal:
            said.append(
                f"{config.pairs}: {equal:,} of {len(self.pairs):,} pairs are left out: their two completions are equal."
            )
        self.notice = " ".join(said)
        check_prompts(config.batch.prompts_per_step, len(self.index), config.pairs, self.notice)

    def choose(self, step: int) -> np.ndarray:
        """The pairs of a step, int64: each once in a pass over the file, and each pass in another order."""
        count, size = self.config.batch.prompts_per_step, len(self.index)
        drawn = np.arange(step * count, (step + 1) * count)  # numbers among all pairs that the run ever takes
        passes = np.unique(drawn // size)
        orders = [
            numpy_generator(self.config.seed, "pairs", int(number)).permutation(size) for number in passes
        ]
        return self.index[np.concatenate(orders)[drawn - passes[0] * size]]

    def collect(self, step: int) -> Scored:
        """The pairs of a step as if they had been sampled: a chosen one has reward 1, its rejected one 0."""
        chosen = self.choose(step)
        episode = torch.from_numpy(
            deal_groups([len(str(self.pairs[i])) for i in chosen], 2, whole_groups=True)
        )
        problem = torch.from_numpy(chosen)[episode // 2]
        pairs = [self.pairs[i] for i in problem[::2].tolist()]
        count = len(pairs)
        problems = [envs.Problem(pair.prompt, {}) for pair in pairs for _ in range(2)]
        completions = [text for pair in pairs for text in (pair.chosen, pair.rejected)]
        length = self.config.rollout.max_completion_length
        return Scored.given(
            Place(problem, episode % 2, torch.zeros_like(episode), episode, episode // 2),
            problems,
            completions,
            as_rollouts(self.policy, [p.prompt for p in problems], completions, length),
            rewards=np.tile([1.0, 0.0], count),
            reason=["chosen", "rejected"] * count,
        )

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        return f"{problem.prompt}\n{turns[0]}"


def read_pairs(path: str) -> dict[str, Pair]:
    """{the name of a line: its pair} of a .jsonl, .jsonl.gz, .parquet or .csv file, in its order.

    Raises ConfigError or EnvError for another kind of file, for one without rows, and for a row that is no pair, naming
    its line.
    """
    formats = envs.datasets.FORMATS
    if not path.endswith(formats):
        raise ConfigError(f"--pairs {path}: should end in {', '.join(formats)}.")
    rows = envs.datasets.read_files("--pairs", [Path(path)], COLUMNS)
    return {where: read_pair(where, row) for where, row in rows}


def read_pair(where: str, row: Mapping[str, Any]) -> Pair:
    """A row as a pair: the prompt a text or messages, a completion a text or one message of the assistant."""
    values = []
    for name in COLUMNS:
        value, is_prompt = row[name], name == "prompt"
        if not is_prompt and is_chat(value) and [message["role"] for message in value] == ["assistant"]:
            value = value[0]["content"]
        if not (isinstance(value, str) or (is_prompt and is_chat(value))):
            kind = "chat messages" if is_prompt else "one message of the assistant"
            raise ConfigError(f"--pairs: {where} has {name} {value!r:.80}; give text, or {kind}.")
        values.append(value)
    return Pair(*values)


def fitting_pairs(
    policy: Policy, path: str, places: Sequence[str], pairs: Sequence[Pair], length: int, overlong: str
) -> tuple[np.ndarray, list[str]]:
    """Which pairs fit the model and `length`, (N,) bool, and what to say of those that do not.

    places: names of their lines. Raises ConfigError for one that does not where `overlong` is "error".
    """
    most, count = room(policy, length), f"{len(pairs):,}"
    prompts = prompt_counts(policy, [envs.Problem(pair.prompt, {}) for pair in pairs], most)
    chosen, rejected = (
        [len(row) for row in completion_rows(policy, texts)]
        for texts in ([pair.chosen for pair in pairs], [pair.rejected for pair in pairs])
    )
    completions = np.maximum(chosen, rejected)
    far = {where: n for where, n in zip(places, prompts, strict=True) if n > most}
    long = {where: int(n) for where, n in zip(places, completions, strict=True) if n > length}
    said = []
    if far:
        verb = "is" if len(far) == 1 else "are"
        text = f"{path}: {len(far):,} of {count} prompts {verb} too long for the model: {first_of(far)}. "
        text += limits(policy, length)
        if overlong != SKIP:
            raise ConfigError(f"{text} {ways_out(policy, length, max(far.values()))}")
        said.append(f"{text} They are skipped.")
    if long:
        verb = "has" if len(long) == 1 else "have"
        text = f"{path}: {len(long):,} of {count} pairs {verb} a completion of more than {length:,} tokens with its "
        text += f"end token: {first_of(long)}."
        if overlong != SKIP:
            raise ConfigError(
                f"{text} Use --max-completion-length {max(long.values())} or more, leave them out, or train on the "
                "others with --overlong skip."
            )
        said.append(f"{text} They are skipped.")
    return (np.array(prompts) <= most) & (completions <= length), said


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

"""Pairs of a chosen and a rejected completion from a file (--pairs), in place of completions that the model samples.

The file has TRL's preference columns, `prompt`, `chosen` and `rejected`, as texts or as chat messages; `chosen` and
`rejected` may contain the prompt. In the training loop, `PairFile` takes the place of `EnvironmentSource`: there is no
environment, and a pair is a group of two.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy
from spg_trainer.rollout.canvas import until_end
from spg_trainer.rollout.collect import given_rows
from spg_trainer.rollout.long_prompts import Room, TooLong
from spg_trainer.rollout.problems import check_prompts, deal_groups
from spg_trainer.rollout.tokens import Prompt, encode_completions, encode_prompts, is_chat
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.configs import Config
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.tensors import NEVER, Rows

COLUMNS = ("prompt", "chosen", "rejected")


Pair = tuple[Prompt, str, str]
"""(prompt, chosen completion, rejected completion): the values of `COLUMNS`."""


class PairFile:
    """The source of completions of a training with --pairs.

    Raises ConfigError for a pair that is too long unless --overlong is skip, and if there are fewer pairs than a step
    takes.
    """

    env = None
    """No environment judges these completions: the file says which of a pair is better."""
    pools = None
    """There are no difficulty pools (`rollout/problems.py`): all pairs are drawn equally often."""
    mix: Mapping[str, float] = {}
    """Only demonstrations have a mix (--mix): {habit, a named way of answering: its share among them}."""

    def __init__(self, config: Config, policy: Policy, pairs: Mapping[str, Pair]) -> None:
        """pairs: the file's pairs, as `read_pairs` returns them: {"pairs.jsonl, line 3": pair}."""
        self.policy, self.config, self.spec_name = policy, config, config.pairs
        self.pairs = list(pairs.values())
        room = Room(policy, config.rollout.max_completion_length)
        fits, self.notice = fitting_pairs(room, config.pairs, pairs, config.overlong)
        differ = np.array([chosen != rejected for _, chosen, rejected in self.pairs])
        self.index = np.flatnonzero(fits & differ)
        """The numbers of the `pairs` that are trained on, int64."""
        if equal := int((fits & ~differ).sum()):
            why = "is left out: its" if equal == 1 else "are left out: their"
            note = f"{config.pairs}: {equal:,} of {len(self.pairs):,} pairs {why} two completions are equal."
            self.notice = f"{self.notice} {note}".strip()
        check_prompts(config.batch.prompts_per_step, len(self.index), config.pairs, self.notice)

    def choose(self, step: int) -> np.ndarray:
        """The pairs of a step, (P,) int64. Steps go through the file again and again, each time in another order."""
        # An epoch goes through the file once, in an order of its own. Each step takes the next `count` pairs of these
        # orders, one order after the other. E.g. with 10 pairs and `count` 4, step 2 takes the places 8 to 11: the last
        # two of epoch 0 and the first two of epoch 1.
        count, size = self.config.batch.prompts_per_step, len(self.index)
        places = np.arange(step * count, (step + 1) * count)  # counted over all epochs
        epochs = np.unique(places // size)
        streams = [numpy_generator(self.config.seed, "pairs", int(epoch)) for epoch in epochs]
        order_of_epochs = np.concatenate([stream.permutation(size) for stream in streams])
        first_place = epochs[0] * size  # the place at which the first of these epochs begins
        return self.index[order_of_epochs[places - first_place]]

    def collect(self, step: int) -> Rows:
        """This process's pairs of a step, like sampled completions: a chosen one has reward 1, a rejected one 0."""
        index = self.choose(step)
        # Pair p of the step is group p; its chosen completion is episode 2p and its rejected one is episode 2p + 1.
        # `deal_groups` returns the ascending numbers of this process's episodes. Every process gets pairs of about the
        # same lengths, and never half of a pair.
        lengths = [len(str(self.pairs[i])) for i in index]  # about the characters of prompt and completions
        episode = torch.from_numpy(deal_groups(lengths, 2, dealt_by="group"))
        group, generation = episode // 2, episode % 2
        problem = torch.from_numpy(index)[group]
        # The two episodes of a pair stand together, so every second episode gives each pair once.
        pairs_here = problem[::2]
        pairs = [self.pairs[i] for i in pairs_here.tolist()]
        prompts = [prompt for prompt, _, _ in pairs for _chosen_or_rejected in range(2)]
        problems = [envs.Problem(prompt, {}) for prompt in prompts]
        completions = [text for _, chosen, rejected in pairs for text in (chosen, rejected)]
        length = self.config.rollout.max_completion_length
        rows = as_rollouts(self.policy, prompts, completions, length).with_columns(
            problem=problem,
            generation=generation,
            turn=torch.zeros_like(episode),
            episode=episode,
            group=group,
            problems=problems,
            completions=completions,
        )
        rewards = np.tile([1.0, 0.0], len(pairs))
        return given_rows(rows, rewards, reason=["chosen", "rejected"] * len(pairs))

    def render_turns(self, problem: "envs.Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """A prompt and its completion for a terminal; the messages of a chat are shown with their roles."""
        prompt = problem.prompt
        if not isinstance(prompt, str):
            prompt = "\n".join(f"{message['role']}: {message['content']}" for message in prompt)
        return f"{prompt}\n{turns[0]}"


def read_pairs(path: str) -> dict[str, Pair]:
    """The pairs of a .jsonl, .jsonl.gz, .parquet or .csv file, in its order: {"pairs.jsonl, line 3": pair}.

    Raises ConfigError or EnvError for another kind of file, for a file without rows, and for a row that is no pair,
    naming its line.
    """
    formats = envs.files.datasets.FORMATS
    if not path.endswith(formats):
        raise ConfigError(f"$pairs={path}: should end in {', '.join(formats)}.")
    rows = envs.files.datasets.read_files("--pairs", [Path(path)], COLUMNS, with_prompt_apart)
    return {line: read_pair(line, row) for line, row in rows}


def with_prompt_apart(row: dict[str, Any]) -> dict[str, Any]:
    """A row with the prompt taken out of `chosen` and `rejected`, if both begin with the same messages.

    Such rows are those of TRL's implicit prompts, without a `prompt`, and those of UltraFeedback, where `prompt` is the
    text of the last of these messages. A row with any other `prompt` stays as it is, and is refused later.
    """
    row = {
        name: envs.files.row_forms.as_messages(value) if name in COLUMNS else value
        for name, value in row.items()
    }
    chosen, rejected, prompt = row.get("chosen"), row.get("rejected"), row.get("prompt")
    both_are_chats = is_chat(chosen) and is_chat(rejected)
    if not both_are_chats or len(chosen) < 2 or chosen[:-1] != rejected[:-1]:
        return row
    shared = chosen[:-1]
    has_no_prompt = prompt in (None, "")
    if has_no_prompt or prompt in (shared, shared[-1]["content"]):
        return {**row, "prompt": shared, "chosen": chosen[-1:], "rejected": rejected[-1:]}
    return row


def read_pair(line: str, row: Mapping[str, Any]) -> Pair:
    """The pair of a row. The prompt must be text or messages, each completion text or one message of the assistant.

    line: the row's name in errors.
    """
    values: list[Any] = []
    for name in COLUMNS:
        value, is_prompt = row[name], name == "prompt"
        is_one_answer = is_chat(value) and len(value) == 1 and value[0]["role"] == "assistant"
        if is_one_answer and not is_prompt:
            value = value[0]["content"]  # a completion as one message becomes its text
        if not (isinstance(value, str) or (is_prompt and is_chat(value))):
            kind = "chat messages" if is_prompt else "one message of the assistant"
            raise ConfigError(f"$pairs: {line} has {name} {value!r:.80}; give text, or {kind}.")
        values.append(value)
    prompt, chosen, rejected = values
    return prompt, chosen, rejected


def fitting_pairs(room: Room, path: str, pairs: Mapping[str, Pair], overlong: str) -> tuple[np.ndarray, str]:
    """((N,) bool, which of N pairs have a prompt and completions that fit; a notice on those that are skipped).

    If `overlong` is "error", ConfigError is raised for pairs that do not fit. pairs: {name in messages: pair}.
    """
    texts = [(line, text) for line, (_, chosen, rejected) in pairs.items() for text in (chosen, rejected)]
    problems = {line: envs.Problem(prompt, {}) for line, (prompt, _, _) in pairs.items()}
    long_prompts = room.long_prompts(problems)
    long_completions = room.long_completions(texts)
    names_too_long = long_prompts.keys() | long_completions.keys()
    # `TooLong` writes the notice, or raises the error.
    too_long = TooLong(room, completions=len(texts), long_completions=long_completions)
    no_split = ""  # messages name a file of pairs by its path alone
    too_long.add_prompts(path, no_split, len(pairs), long_prompts)
    notice = too_long.note(overlong, source=path)
    return np.array([line not in names_too_long for line in pairs], dtype=bool), notice


def as_rollouts(policy: Policy, prompts: Sequence[Prompt], completions: Sequence[str], length: int) -> Rows:
    """Makes rollouts of T = `length` positions from completions that no sampler wrote.

    Their tokens up to and including the first end token count as unmasked at step 0; positions after it count as
    masked.

    Raises ConfigError for a completion that is longer than `length` with its end token.
    """
    prompt_ids, prompt_mask = encode_prompts(policy, prompts)
    ids = encode_completions(policy, completions, length).to(policy.device)
    is_written = until_end(ids, torch.tensor(policy.end_token_ids, device=policy.device))
    return Rows(
        prompt_ids=prompt_ids,
        prompt_mask=prompt_mask,
        completion_ids=ids.masked_fill(~is_written, policy.blank_id),
        completion_mask=is_written,
        unmask_step=torch.where(is_written, 0, NEVER),
        unmask_logps=torch.zeros(is_written.shape, device=policy.device),
    )

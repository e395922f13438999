"""Scores half-written completions: one pass fills in all their masks, and the episode is played on.

A *state* is a completion as it was before one of its denoising steps. The *fill* of a state is the completion that one
pass makes of it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor

from spg_trainer.models import Policy
from spg_trainer.models.states import head_weight, hidden_states
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD
from spg_trainer.rollout.canvas import until_end
from spg_trainer.rollout.dialogues import Prompts, play, take_turns
from spg_trainer.rollout.draw import Generators, sample_tokens
from spg_trainer.rollout.failures import Failures
from spg_trainer.rollout.room import name_in
from spg_trainer.rollout.tokens import encode_templates, sample
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.packages import envs  # our `envs`, not another package of that name
from spg_trainer.tensors import Record, Rows

if TYPE_CHECKING:
    from envs import TextEnv


@torch.no_grad()
def fill_states(
    policy: Policy,
    rollouts: Rows,
    steps: Tensor,
    *,
    temperature: float = 0.0,
    generators: Generators = None,
    rows_per_forward: int | None = None,
) -> Rows:
    """Fills in all masks that each completion had before a denoising step, in a single pass.

    Tokens that were unmasked before that step stay; every other place takes a new token. E.g. the tokens of "a b c"
    were unmasked in the steps 0, 2 and 1: with step 2, it keeps a and c, and b is replaced by a new token.

    steps: (B,) int64, the step of each completion. temperature: 0 takes the likeliest tokens; else they are drawn with
    B generators, as in the sampler. Returns completions that can be trained on like any others; their new tokens have
    the step of `steps`.
    """
    if rows_per_forward is None and rollouts.completion_ids.device.type == "cpu":
        num_columns = rollouts.prompt_ids.shape[1] + rollouts.completion_ids.shape[1]
        rows_per_forward = max(1, POSITIONS_PER_THREAD * torch.get_num_threads() // num_columns)
    rows_per_forward = rows_per_forward or len(rollouts)
    was_unmasked = (rollouts.unmask_step >= 0) & (rollouts.unmask_step < steps[:, None])
    stays = was_unmasked | rollouts.given
    ids = rollouts.completion_ids.masked_fill(~stays, policy.mask_id)
    logps = rollouts.unmask_logps * stays
    width = rollouts.prompt_ids.shape[1]
    prompt_lengths = rollouts.prompt_mask.sum(-1)
    order = torch.arange(len(rollouts), device=ids.device)
    if rollouts.has_turns:  # prompts grow from turn to turn: those of similar length share a call
        order = prompt_lengths.argsort(stable=True)
    parts = order.split(rows_per_forward) if len(order) else ()
    for index in parts:
        padding = 0  # prompt columns left out, because they are padding in all of these rows
        if rollouts.has_turns:
            padding = width - int(prompt_lengths[index].max())
        shown = torch.cat([rollouts.prompt_ids[index, padding:], ids[index]], 1)
        attention = torch.cat([rollouts.prompt_mask[index, padding:], torch.ones_like(stays[index])], 1)
        start = width - padding  # the completion's first column
        columns = torch.arange(start, shown.shape[1], device=shown.device).expand(len(shown), -1)
        states = hidden_states(policy.model, shown, attention, keep=columns, start=start)
        masked = ~stays[index]
        row_generators = None if generators is None else [generators[row] for row in index.tolist()]
        counts = masked.sum(-1).tolist()
        head = head_weight(policy.model)  # read after the pass, since only then is it whole with --shard
        tokens, new_logps, _ = sample_tokens(
            states[masked], head, policy.mask_id, temperature, row_generators, counts
        )
        ids[index] = ids[index].masked_scatter(masked, tokens)
        logps[index] = logps[index].masked_scatter(masked, new_logps.to(logps))
    ends = torch.tensor(policy.end_token_ids, device=ids.device)
    recorded = {name: rollouts.get(name) * stays for name in get_args(Record) if name in rollouts}
    return rollouts.with_columns(
        completion_ids=ids,
        completion_mask=until_end(ids, ends, rollouts.given),
        unmask_step=rollouts.unmask_step.where(stays, steps[:, None]),
        unmask_logps=logps,
        fill_step=steps,
        **recorded,
    )


def probe(
    policy: Policy,
    env: "TextEnv",
    scored: Rows,
    steps: Tensor,
    rows_per_forward: int | None,
    *,
    sampling: Sampling,
    seed: int,
    keys: Callable[[str, int, int], tuple[int | str, ...]],
    temperature: float = 0.0,
) -> tuple[Rows, Rows]:
    """Fills in states of completions, each in one pass, and scores the fills.

    Returns the completions with `probe_steps` and `probe_rewards` (B, K), a reward of 0 where no state is taken; and
    the fills: a row for each state, those of a completion together. If the environment replies to a fill, the model
    plays on with `sampling`, and the reward is the whole episode's. Raises TrainingError if too many episodes could not
    be scored.

    steps: (B, K) int64, the denoising steps before which up to K states of each completion are taken; -1 = none.
    temperature: 0 fills in the likeliest tokens; else they are drawn. keys: the noise is keyed by `seed` and
    keys("fills", b, k) for state k of completion b, and for the turns after it by keys("after fills", b, k) and the
    turn.
    """
    row, column = (steps >= 0).nonzero(as_tuple=True)
    states = list(zip(row.tolist(), column.tolist(), strict=True))  # (b, k) of each
    device = scored.completion_ids.device
    generators = None
    if temperature > 0:
        generators = [generator(seed, *keys("fills", *state), device=device) for state in states]
    policy.model.eval()
    fills = fill_states(
        policy,
        scored.tensors().select(row),
        steps[row, column].to(device),
        temperature=temperature,
        generators=generators,
        rows_per_forward=rows_per_forward,
    )
    rewards = torch.zeros(steps.shape, dtype=torch.float64)
    if states:
        noise_keys = [keys("after fills", *state) for state in states]
        completions = [b for b, _ in states]
        rewards[row, column] = _play_on(
            policy,
            env,
            scored,
            completions,
            fills,
            rows_per_forward=rows_per_forward,
            sampling=sampling,
            seed=seed,
            noise_keys=noise_keys,
        )
    return scored.with_columns(probe_steps=steps.to(device), probe_rewards=rewards.to(device)), fills


def _play_on(
    policy: Policy,
    env: "TextEnv",
    scored: Rows,
    completions: list[int],
    fills: Rows,
    *,
    rows_per_forward: int | None,
    sampling: Sampling,
    seed: int,
    noise_keys: list[tuple[int | str, ...]],
) -> Tensor:
    """Gives the environment each of N fills in place of a completion, and plays on; returns the rewards, (N,) float64.

    completions: N rows of `scored`, which the fills replace. noise_keys: N keys, to which later turns add their number.
    """
    index = scored.problem[completions].tolist()
    problems = [scored.problems[b] for b in completions]
    turns_before = {b: _turns_before(scored, b) for b in set(completions)}
    episodes = envs.episodes.Episodes(env, index, problems, [turns_before[b] for b in completions])

    def write(prompts: Prompts, going_on: list[int], turn: int) -> Rows:
        """The completions of a turn in the episodes `going_on`. prompts: the encoded prompts of these episodes."""
        keys = [(*noise_keys[i], turn) for i in going_on]
        templates = [problems[i].completion_template for i in going_on]
        length = sampling.max_completion_length
        template_ids = encode_templates(
            policy, templates, length, lambda row: name_in(env, index[going_on[row]])
        )
        return sample(policy, prompts, sampling, seed, keys, rows_per_forward, template_ids=template_ids)

    prompts, going_on = take_turns(policy, episodes, fills, range(len(fills)), sampling)
    play(policy, episodes, prompts, going_on, sampling, write)
    scores = episodes.score()
    outcomes = list(zip(index, scores.reason, scores.traceback, strict=True))
    # A process without fills does not come here, so each process counts its failures alone.
    Failures(len(index), of_all_processes=False).note(env, outcomes)
    return torch.from_numpy(scores.total)


def _turns_before(scored: Rows, b: int) -> tuple[list[str], list[str]]:
    """(completions, replies) of the turns before completion b in its episode."""
    turns, replies = scored.dialogue(b)
    number = int(scored.turn[b])
    return turns[:number], replies[:number]

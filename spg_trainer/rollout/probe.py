"""What recorded states of a rollout are worth: one pass fills all masks of each, and the episode is played out."""

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from spg_trainer.models import Policy
from spg_trainer.models.states import head_weight, hidden_states
from spg_trainer.rollout.cache import POSITIONS_PER_THREAD
from spg_trainer.rollout.canvas import until_end
from spg_trainer.rollout.dialogues import Prompts, answer, play
from spg_trainer.rollout.draw import Generators, sample_tokens
from spg_trainer.rollout.failures import Failures
from spg_trainer.rollout.overlong import name_in
from spg_trainer.rollout.scored import Scored
from spg_trainer.rollout.tokens import encode_canvas, sample
from spg_trainer.seeding import generator
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Rollouts

if TYPE_CHECKING:
    from envs import TextEnv


@torch.no_grad()
def fill_states(
    policy: Policy,
    rollouts: Rollouts,
    steps: Tensor,
    *,
    has_turns: bool = False,
    temperature: float = 0.0,
    generators: Generators = None,
    rows_per_forward: int | None = None,
) -> Rollouts:
    """Fills all masks that each completion had before a denoising step, in a single pass.

    steps: (B,) int64; a token that was unmasked earlier stays, every other place takes a new one. has_turns: as of
    `Place`; then completions with prompts of like length go together. temperature: 0 takes the likeliest token; else
    generators are B, as for the sampler. Returns completions that can be trained on as any others: the new tokens were
    unmasked at that step.
    """
    if rows_per_forward is None and rollouts.completion_ids.device.type == "cpu":
        columns = rollouts.prompt_ids.shape[1] + rollouts.completion_ids.shape[1]
        rows_per_forward = max(1, POSITIONS_PER_THREAD * torch.get_num_threads() // columns)
    given = rollouts.given
    kept = ((rollouts.unmask_step >= 0) & (rollouts.unmask_step < steps[:, None])) | given
    ids = rollouts.completion_ids.masked_fill(~kept, policy.mask_id)
    logps, width = rollouts.unmask_logps * kept, rollouts.prompt_ids.shape[1]
    size = rows_per_forward or len(rollouts)
    lengths = rollouts.prompt_mask.sum(-1)
    order = lengths.argsort(stable=True) if has_turns else torch.arange(len(rollouts), device=ids.device)
    for some in order.split(size) if len(order) else ():
        # A turn is not padded to the prompt of a later one.
        cut = width - int(lengths[some].max()) if has_turns else 0
        shown = torch.cat([rollouts.prompt_ids[some, cut:], ids[some]], 1)
        attention = torch.cat([rollouts.prompt_mask[some, cut:], torch.ones_like(kept[some])], 1)
        places = torch.arange(width - cut, shown.shape[1], device=shown.device).expand(len(shown), -1)
        states = hidden_states(policy.model, shown, attention, keep=places, start=width - cut)
        free = ~kept[some]
        streams = None if generators is None else [generators[row] for row in some.tolist()]
        counts = free.sum(-1).tolist()
        head = head_weight(policy.model)  # of divided weights it is whole after a pass
        tokens, found, _ = sample_tokens(states[free], head, policy.mask_id, temperature, streams, counts)
        ids[some] = ids[some].masked_scatter(free, tokens)
        logps[some] = logps[some].masked_scatter(free, found.to(logps))
    ends = torch.tensor(policy.end_token_ids, device=ids.device)
    return replace(
        rollouts,
        completion_ids=ids,
        completion_mask=until_end(ids, ends, given),
        unmask_step=rollouts.unmask_step.where(kept, steps[:, None]),
        unmask_logps=logps,
        unmask_entropy=None if rollouts.unmask_entropy is None else rollouts.unmask_entropy * kept,
        unmask_order=None if rollouts.unmask_order is None else rollouts.unmask_order * kept,
        fill_step=steps,
    )


def probe(
    policy: Policy,
    env: "TextEnv",
    scored: Scored,
    rollouts: Rollouts,
    steps: Tensor,
    rows_per_forward: int | None,
    *,
    sampling: Sampling,
    seed: int,
    keys: Callable[[str, int, int], tuple[int | str, ...]],
    temperature: float = 0.0,
) -> tuple[Rollouts, Rollouts]:
    """The rollouts with what their states were worth: what a completion in one pass earns; and these completions.

    rollouts: those of `scored`. steps: (B, K) int64, each the denoising step before which a state is looked at, -1 =
    none. temperature: 0 takes the likeliest completion; else one is drawn. Where the environment answers a completion,
    the model plays on with `sampling`, and the reward is that of the whole episode. keys: (what for, row, column) ->
    what, with the seed, keys the noise. The completions stand row after row. Raises TrainingError where too many
    episodes could not be scored.
    """
    row, column = (steps >= 0).nonzero(as_tuple=True)
    device, rewards = rollouts.completion_ids.device, torch.zeros(steps.shape, dtype=torch.float64)
    states, at = rollouts.select(row.to(device)), steps[row, column].to(device)
    places = list(zip(row.tolist(), column.tolist(), strict=True))
    generators = None
    if temperature > 0:
        generators = [generator(seed, *keys("fills", *place), device=device) for place in places]
    policy.model.eval()
    how = {"temperature": temperature, "generators": generators, "rows_per_forward": rows_per_forward}
    filled = fill_states(policy, states, at, has_turns=scored.place.has_turns, **how)
    if places:
        begun = {b: before(scored, b) for b in set(row.tolist())}
        index = scored.place.problem[row].tolist()
        problems = [scored.problems[b] for b, _ in places]
        episodes = envs.episodes.Episodes(env, index, problems, [begun[b] for b, _ in places])

        def write(encoded: Prompts, going: list[int], turn: int) -> Rollouts:
            noise_keys = [(*keys("after fills", *places[i]), turn) for i in going]
            templates, length = (
                [problems[i].completion_template for i in going],
                sampling.max_completion_length,
            )
            canvas = encode_canvas(
                policy,
                templates,
                length,
                lambda row: name_in(env, index[going[row]]),
            )
            return sample(policy, encoded, sampling, seed, noise_keys, rows_per_forward, canvas=canvas)

        prompts, going = answer(policy, episodes, filled, range(len(places)), sampling)
        play(policy, episodes, prompts, going, sampling, write)
        scores = episodes.score()
        judged = list(zip(index, scores.reason, scores.traceback, strict=True))
        Failures(len(index), shared=False).note(env, judged)
        rewards[row, column] = torch.from_numpy(scores.total)
    return replace(rollouts, probe_steps=steps.to(device), probe_rewards=rewards.to(device)), filled


def before(scored: Scored, b: int) -> tuple[list[str], list[str]]:
    """(completions, replies) of the turns before completion b in its episode."""
    turns, replies = scored.dialogue(b)
    behind = int(scored.place.turn[b])
    return turns[:behind], replies[:behind]

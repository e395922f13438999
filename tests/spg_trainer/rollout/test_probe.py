"""States of a rollout: the entropy that the sampler records, fills of their masks, and what these are worth."""

from dataclasses import replace

import pytest
import torch

import envs
from spg_trainer.errors import TrainingError
from spg_trainer.likelihood import elbo, token_logps
from spg_trainer.rollout.collect import sample_and_score
from spg_trainer.rollout.probe import fill_states, probe
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.rollout.tokens import decode_completions, encode_prompts
from spg_trainer.seeding import generator
from spg_trainer.tensors import Rows
from tests.common.likelihood_cases import make_masking, seeded
from tests.common.rollout_cases import SAMPLING, make_policy, make_prompts, pad, streams
from tests.common.trainer_cases import Letters

RECORDS = frozenset({"entropy", "confidence_change"})


def rollout(policy, **changes):
    inputs = pad(policy, make_prompts(policy), extra=2)
    sampling = replace(SAMPLING, temperature=1.0, **changes)
    return sample_completions(policy, *inputs, sampling, streams(len(inputs[0])), records=RECORDS)


def logits_of(policy, out, row, step):
    """(T, V) at the places of a completion whose tokens of earlier steps are shown, without padding."""
    kept = (out.unmask_step[row] >= 0) & (out.unmask_step[row] < step)
    ids = out.completion_ids[row].masked_fill(~kept, policy.mask_id)
    prompt = out.prompt_ids[row][out.prompt_mask[row]]
    with torch.no_grad():
        return policy.model(input_ids=torch.cat([prompt, ids])[None]).logits[0, len(prompt) :], kept


@pytest.mark.parametrize("remasking", ["low_confidence", "margin", "entropy"])
def test_the_recorded_entropy_is_that_of_the_law_at_the_step_and_changes_no_token(remasking):
    policy = make_policy(torch.float64)
    out = rollout(policy, remasking=remasking)
    plain = sample_completions(
        policy,
        out.prompt_ids,
        out.prompt_mask,
        replace(SAMPLING, temperature=1.0, remasking=remasking),
        streams(len(out)),
    )
    assert torch.equal(out.completion_ids, plain.completion_ids) and "entropy" not in plain
    assert torch.allclose(out.unmask_logps, plain.unmask_logps, rtol=0, atol=1e-12)
    taken = [(row, step) for row in (0, 2, 5) for step in (0, 1, 4) if (out.unmask_step[row] == step).any()]
    assert len(taken) > 4
    for row, step in taken:
        logits, _ = logits_of(policy, out, row, step)
        found = logits.log_softmax(-1)
        expected = -(found.exp() * found).sum(-1)
        at = out.unmask_step[row] == step
        assert torch.allclose(out.entropy[row][at], expected[at], rtol=0, atol=1e-10)
    assert not out.entropy[out.unmask_step < 0].any()


@pytest.mark.parametrize("block_length, steps, unmasking", [(8, 15, ""), (24, 24, ""), (24, 24, "threshold")])
def test_the_recorded_change_is_that_of_the_highest_probability_after_tokens_nearby(
    block_length, steps, unmasking
):
    policy = make_policy(torch.float64)
    changes = {"block_length": block_length, "diffusion_steps": steps}
    if unmasking:  # then the rows of a pass have unequal numbers of masked places
        changes |= {"unmasking": unmasking, "threshold": 0.2}
    out = rollout(policy, **changes)
    far = 0
    for row in (0, 2, 5):
        step = out.unmask_step[row].tolist()
        highest = [logits_of(policy, out, row, t)[0].softmax(-1).amax(-1) for t in range(max(step) + 1)]
        expected = torch.zeros(24, dtype=torch.float64)
        for place, own in enumerate(step):
            block = range(place // block_length * block_length, (place // block_length + 1) * block_length)
            others = [step[i] for i in block if step[i] >= 0]
            for t in range(min(others, default=0) + 1, own + 1 if own >= 0 else max(others, default=0) + 1):
                written = [i for i, s in enumerate(step) if s == t - 1]
                if any(abs(i - place) <= 10 for i in written):
                    expected[place] += (highest[t][place] - highest[t - 1][place]).abs()
                far += bool(written) and all(abs(i - place) > 10 for i in written)
        assert torch.allclose(out.confidence_change[row], expected, rtol=0, atol=1e-10)
        assert expected.count_nonzero() > 5
    assert far or block_length < 24


def test_a_fill_takes_the_likeliest_token_of_one_pass_wherever_the_state_had_a_mask():
    policy = make_policy(torch.float64)
    out = rollout(policy)
    steps = torch.tensor([0, 2, 1, 3, 4, 2])
    for rows_per_forward in (None, 2):
        filled = fill_states(policy, out, steps, rows_per_forward=rows_per_forward)
        for row, step in enumerate(steps.tolist()):
            logits, kept = logits_of(policy, out, row, step)
            logps = logits.log_softmax(-1)
            logits[:, policy.mask_id] = -torch.inf
            ids = torch.where(kept, out.completion_ids[row], logits.argmax(-1))
            assert torch.equal(filled.completion_ids[row], ids)
            own = logps.gather(1, ids[:, None])[:, 0]
            assert torch.allclose(filled.unmask_logps[row][~kept], own[~kept], rtol=0, atol=1e-10)
            ends = [i for i, token in enumerate(ids.tolist()) if token in policy.end_token_ids]
            length = ends[0] + 1 if ends else len(ids)
            assert filled.completion_mask[row].tolist() == [i < length for i in range(len(ids))]
    assert torch.equal(
        filled.unmask_step, out.unmask_step.where(filled.unmask_step < steps[:, None], steps[:, None])
    )


def test_a_fill_is_a_row_that_can_be_trained_on():
    """Its last step unmasked all that it filled: their log-probability is that of the fill's own pass."""
    policy = make_policy(torch.float64)
    out = rollout(policy)
    filled = fill_states(
        policy, out, torch.full((len(out),), 2), temperature=1.0, generators=streams(len(out), 3)
    )
    again = fill_states(
        policy, out, torch.full((len(out),), 2), temperature=1.0, generators=streams(len(out), 3)
    )
    greedy = fill_states(policy, out, torch.full((len(out),), 2))
    assert torch.equal(filled.completion_ids, again.completion_ids)
    assert not torch.equal(filled.completion_ids, greedy.completion_ids)
    masks = make_masking("step_merge", 9).draw(filled, seeded())
    logps = token_logps(policy.model, filled, masks, policy.mask_id)
    own = filled.unmask_logps * filled.completion_mask
    early = out.unmask_step < 2
    assert torch.allclose(logps.sum(1)[~early], own[~early], rtol=0, atol=1e-10)
    assert elbo(logps, masks).isfinite().all()


def test_a_fill_keeps_what_was_recorded_of_the_tokens_that_stay_and_has_nothing_of_its_own():
    policy = make_policy(torch.float64)
    out = rollout(policy)
    filled = fill_states(policy, out, torch.full((len(out),), 2))
    stays = (out.unmask_step >= 0) & (out.unmask_step < 2)
    for name in RECORDS:
        recorded = out.get(name)
        assert recorded[stays].any() and recorded[~stays].any()
        assert torch.equal(filled.get(name), recorded.where(stays, 0.0))


class Sized(Letters):
    """Pays for the size of a text, so that an untrained model earns various things."""

    def score(self, problem, completion):
        return envs.Score({"correct": float(len(completion) % 2), "letters": len(completion) % 7 / 7})


DRAWN = replace(SAMPLING, temperature=1.0)
HOW = {"sampling": DRAWN, "seed": 0, "keys": lambda *place: place}
"""How a probe plays on where the environment answers."""


def scored(policy, env, index=(0, 1, 2, 1), generation=(0, 0, 0, 1)):
    more = {"key": ("rollout", 0), "seed": 0, "rows_per_forward": None, "records": frozenset({"entropy"})}
    episode = torch.arange(len(index))
    begun = Rows(
        problem=torch.tensor(index),
        generation=torch.tensor(generation),
        turn=0 * episode,
        episode=episode,
        group=torch.tensor(index),
        max_turns=env.max_turns,
    )
    return sample_and_score(policy, env, begun, DRAWN, **more)


def test_states_are_worth_what_the_environment_says_of_their_fills():
    envs.register("test/Sized-v0", Sized)
    policy, env = make_policy(torch.float64), envs.make("test/Sized-v0")
    given = scored(policy, env)
    assert "entropy" in given
    steps = torch.tensor([[0, 3], [2, -1], [-1, -1], [1, 0]])
    found, fills = probe(policy, env, given, steps, 2, **HOW)
    assert fills.fill_step.tolist() == [0, 3, 2, 1, 0]
    assert torch.equal(found.probe_steps, steps)
    for row, column in (steps >= 0).nonzero().tolist():
        one = given.select(torch.tensor([row]))
        (text,) = decode_completions(policy, fill_states(policy, one, steps[row, column : column + 1]))
        rewards = env.score(env.problem(int(given.problem[row])), text).rewards
        expected = 0.5 * rewards["correct"] + rewards["letters"]
        assert float(found.probe_rewards[row, column]) == pytest.approx(expected)
    rewards = found.probe_rewards
    assert not rewards[steps < 0].any() and len(rewards.unique()) > 2
    nothing, _ = probe(policy, env, given, torch.full((4, 2), -1), None, **HOW)
    assert not nothing.probe_rewards.any()


class Chat(Sized):
    """Answers three completions of four, and pays for all that was written."""

    max_turns = 3

    def reply(self, problem, turns):
        return None if len(turns[-1]) % 4 == 0 else f"and then, after {len(turns[-1])}?"

    def score_turns(self, problem, turns):
        return self.score(problem, "".join(turns))


def played_on(policy, env, given, row, column, step):
    """What an episode earns whose turn `row` is filled before a step, played alone; and how many turns follow."""
    one = given.select(torch.tensor([row]))
    (text,) = decode_completions(policy, fill_states(policy, one, torch.tensor([step])))
    problem = env.problem(int(given.problem[row]))
    mine = [b for b in range(len(given)) if given.episode[b] == given.episode[row] and b < row]
    turns, replies = [given.completions[b] for b in mine] + [text], [given.replies[b] for b in mine]
    later = 0
    while len(turns) < env.max_turns and (reply := env.reply(problem, turns)) is not None:
        replies.append(reply)
        encoded = encode_prompts(policy, [envs.episodes.chat(problem, turns, replies)])
        noise = [generator(0, "after fills", row, column, later)]
        turns += decode_completions(policy, sample_completions(policy, *encoded, DRAWN, noise))
        later += 1
    rewards = env.score_turns(problem, turns).rewards
    return 0.5 * rewards["correct"] + rewards["letters"], later


@pytest.mark.slow
def test_where_the_environment_answers_a_state_is_worth_the_episode_played_on_from_it():
    envs.register("test/Chat-v0", Chat)
    policy, env = make_policy(torch.float64, max_length=256), envs.make("test/Chat-v0")
    given = scored(policy, env, 4 * [0, 1, 2, 3], [i // 4 for i in range(16)])
    assert set(given.turn.tolist()) == {0, 1, 2}
    steps = torch.tensor([[0, 3]]).repeat(len(given), 1)
    steps[1, 1] = -1
    found, _ = probe(policy, env, given, given, steps, None, **HOW)
    follow = set()
    for row, column in (steps >= 0).nonzero().tolist():
        expected, later = played_on(policy, env, given, row, column, int(steps[row, column]))
        assert float(found.probe_rewards[row, column]) == pytest.approx(expected)
        follow.add((int(given.turn[row]), later))
    assert follow >= {(0, 0), (0, 2), (1, 0), (1, 1), (2, 0)}
    assert len(found.probe_rewards.unique()) > 3


def test_what_cannot_be_judged_is_no_worth():
    policy, env = make_policy(torch.float64), Letters()
    given = scored(policy, env)

    class Broken(Letters):
        def score(self, problem, completion):
            raise ValueError("no such letter")

    envs.register("test/Broken-v0", Broken)
    steps = torch.zeros(4, 1, dtype=torch.int64)
    with pytest.raises(TrainingError, match="no such letter"):
        probe(policy, envs.make("test/Broken-v0"), given, steps, None, **HOW)

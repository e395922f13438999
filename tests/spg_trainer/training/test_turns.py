"""Training on dialogues: gradients against plain autograd turn by turn, what a turn depends on, records, resuming."""

import json
from unittest.mock import patch

import numpy as np
import pytest
import torch

from spg_trainer.algorithms import ALGORITHMS, Algorithm
from spg_trainer.algorithms.base import loss_of_values
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.diff import group_by_problem
from spg_trainer.evaluation.evaluate import evaluate
from spg_trainer.likelihood import KeyedStreams
from spg_trainer.likelihood.bounds import elbo, eubo
from spg_trainer.models import load_model
from spg_trainer.rollout.collect import gather_groups
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.tokens import encode_prompts
from spg_trainer.tensors import Rows
from spg_trainer.training import records
from spg_trainer.training.loop import train, train_step
from spg_trainer.training.metrics import rollout_metrics
from spg_trainer.training.prepare import prepare
from spg_trainer.training.update import gradient, order_by_length, plan_updates
from tests.common import turn_processes
from tests.common.algorithm_cases import alone
from tests.common.likelihood_cases import naive_measure, relative
from tests.common.marks import slow_if
from tests.common.process_cases import one_step, run_processes
from tests.common.trainer_cases import (
    EVALUATION,
    SELF_NORMALISED,
    assert_equal_runs,
    change,
    rows,
    start,
    tiny_folder,
)
from tests.common.turn_cases import Talk, talk_algorithm, talk_config

MANY_MASKS = ("agrpo", "bgpo", "cj_grpo", "d2_stepmerge", "tracerl", "unigrpo_repro", "vrpo")


class Played:
    """A step on policy `run` and its second update, after the weights have moved; everything by row (turn)."""

    def __init__(self, config, moved: bool = True) -> None:
        self.run = run = start(config, quiet=True)
        run.folder.release()
        scored = run.source.collect(0)
        self.scored = scored
        batch = run.config.batch
        (self.rewards,) = gather_groups(scored, scored.rewards)
        self.metrics = rollout_metrics(scored, [True] * len(scored))
        rows, self.step = prepare(run, scored)
        self.advantages = rows.advantages
        self.updates = plan_updates(
            run.policy, run.algorithm, self.step, batch, seed=run.config.seed, purpose=("masks", 0)
        )
        stream = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in run.parameters if moved else ():
                p.add_(0.02 * torch.randn(p.shape, generator=stream, dtype=p.dtype))
        self.update = self.updates[-1]
        self.number = batch.num_iterations - 1

    def found(self) -> tuple[float, torch.Tensor]:
        """The loss and its gradient, as a run computes them."""
        figures = gradient(self.run.policy, self.run.algorithm, self.update)
        grads = torch.cat([p.grad.flatten() for p in self.run.parameters])
        for p in self.run.parameters:
            p.grad = None
        return figures["loss", "update"], grads

    def equals(self, loss: torch.Tensor) -> bool:
        """Whether a loss with a graph and its gradient are those of the run."""
        value, grads = self.found()
        return abs(value - loss.item()) < 1e-10 and relative(grads, self.gradient_of(loss)) < 1e-10

    def logps(self):
        """(R, M, T) with a graph, one turn at a time, and the masks; old and reference ones as they were planned."""
        run, iterations = self.run, self.run.config.batch.num_iterations
        streams = KeyedStreams(
            run.config.seed, ("masks", 0), row_keys=self.step.noise_keys("turn"), update=(self.number,)
        )
        masks = run.algorithm.make_masking().draw(self.step, streams, self.number, iterations)
        policy, parts = run.policy, []
        for row in range(len(self.step)):
            one, its = alone(self.step, masks, row)
            parts.append(plain_logps(policy.model, one, its, policy.mask_id))
        planned = self.update.micro_batches
        whole = run.algorithm.compares in ("group", "episode")
        place = np.arange(len(parts)) if whole else order_by_length(self.step).argsort()
        known = {
            name: torch.cat([b.get(name) for b in planned])[place]
            for name in ("old_logps", "old_measured", "ref_logps")
            if planned[0].get(name) is not None
        }
        return torch.cat(parts), masks, known

    def gradient_of(self, loss) -> torch.Tensor:
        found = torch.autograd.grad(loss, self.run.parameters, allow_unused=True)
        pairs = zip(found, self.run.parameters, strict=True)
        return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs])


def plain_logps(model, one, its, mask_id: int) -> torch.Tensor:
    """(1, M, T) of one turn alone by the model's own forward, its masked copies side by side; zero if not scored.

    Where the masks measure something, it stands behind, (1, M, 2T).
    """
    ids = torch.cat([one.prompt_ids[0], one.completion_ids[0]])
    shown = torch.where(its.masked[0], mask_id, ids)
    logits = model(input_ids=shown).logits[:, len(one.prompt_ids[0]) :]
    written = one.completion_ids[0].expand(len(shown), -1)
    chosen = logits.log_softmax(-1).gather(-1, written[..., None]).squeeze(-1)
    if its.measured is not None:
        copies = zip(logits, written, its.scored[0], strict=True)
        further = [naive_measure(its.measure, *of_copy) for of_copy in copies]
        chosen = torch.cat([chosen, torch.stack(further)], -1)
    return (chosen * its.valued[0])[None]


def sums(values: torch.Tensor, episodes: list[int]) -> torch.Tensor:
    """By hand: one entry for each episode, in ascending order."""
    return torch.stack([values[[e == one for e in episodes]].sum() for one in sorted(set(episodes))])


@pytest.mark.parametrize(
    "algorithm", slow_if(sorted(ALGORITHMS), lambda name: name not in ("spg", "vrpo", "rspo", "mapg"))
)
def test_every_algorithm_equals_plain_autograd_turn_by_turn(algorithm, tmp_path):
    few = {"algorithm_args": {"num_masks": 4}} if algorithm in MANY_MASKS else {}
    played = Played(talk_algorithm(tmp_path, algorithm, per_device_batch_size=20, prompts_per_step=3, **few))
    step, scored, run = played.step, played.scored, played.run
    assert len(set(np.bincount(scored.episode).tolist())) == 3  # episodes of one, two and three turns
    logps, masks, known = played.logps()
    episodes = scored.episode.tolist()
    judged = torch.from_numpy(played.rewards)
    if "correct" in run.algorithm.needs:
        judged = torch.from_numpy(scored.correct[scored.last_turns].reshape(judged.shape)).double()
    worth = run.algorithm.compute_advantages(judged)
    lengths = (
        scored.completion_mask.sum(-1) if not run.algorithm.score_tail else torch.full((len(scored),), 10)
    )
    (totals,) = step.totals_of_minibatches
    assert totals["completions"] == 12 and totals["tokens"] == float(lengths.sum())
    if "raft" not in algorithm:  # raft merges equal completions
        assert torch.equal(played.advantages, worth[episodes])
    batch = step.with_columns(totals=totals, **known)
    loss = lambda values, masks, batch: loss_of_values(run.algorithm, masks, batch, values)  # noqa: E731
    if run.algorithm.compares == "update":
        loss = lambda *given: run.algorithm.coupled_loss(rows_of_episodes(played, *given))  # noqa: E731
    assert played.equals(loss(logps, masks, batch).loss)


def rows_of_episodes(played, logps, masks, batch) -> Rows:
    """What a coupled loss sees of episodes."""
    episodes, bound = played.step.episode.tolist(), played.run.algorithm.bound
    first = [episodes.index(one) for one in sorted(set(episodes))]
    current = sums(bound(logps, masks), episodes)
    others = {
        name: sums(bound(scores, masks), episodes)
        for name, scores in (("old_bounds", batch.get("old_logps")), ("ref_bounds", batch.get("ref_logps")))
        if scores is not None
    }
    return Rows(
        bounds=current,
        advantages=batch.advantages[first],
        group=batch.group[first],
        length=sums(batch.length, episodes),
        totals=batch.totals,
        **{"old_bounds": current, **others},
    )


def by_hand(played, name, logps, masks, known):
    """The loss of all episodes, written for episodes: no turn, but for what is summed over them."""
    a, step = played.run.algorithm, played.step
    episodes, length = step.episode.tolist(), step.completion_mask.sum(-1).double()
    bound, n = sums(elbo(logps, masks), episodes), sums(length, episodes)
    which = sorted(set(episodes))
    worth = a.compute_advantages(torch.from_numpy(played.rewards))[which]
    group = torch.tensor(which) // 4
    old, ref = [
        sums(elbo(known[its], masks), episodes) if its in known else None
        for its in ("old_logps", "ref_logps")
    ]
    if name in ("spg", "stabledrl"):
        (totals,) = step.totals_of_minibatches
        divisor = {"completions": 16, "length": 16 * length, "tokens": totals["tokens"]}[a.normalizer]
        lower = sums(elbo(logps, masks) / divisor, episodes)
        upper = sums(eubo(logps, masks, a.eubo_beta) / divisor, episodes)
        chosen = torch.where(worth >= 0, lower, a.mix_weight * upper + (1 - a.mix_weight) * lower)
        if name == "spg":
            return -(worth * chosen).sum()
        u = ((bound - old) / n).detach().clamp(max=np.log(a.ceiling))
        weight = [u[group == g].softmax(0) * (group == g).sum() for g in sorted(set(group.tolist()))]
        return -(torch.cat(weight) * worth * chosen).sum()
    if name in ("gdpo", "espo"):
        ratio = ((bound - old) / (n if name == "espo" else 1)).exp()
        held = ratio.clamp(1 - a.epsilon, 1 + a.epsilon)
        terms = -torch.minimum(ratio * worth, held * worth) / (n if name == "gdpo" else 1)
        if a.beta:
            d = ref - bound
            terms = terms + a.beta * (d.exp() - d - 1 if name == "gdpo" else d.square() / 2)
        return terms.sum() / 16
    if name == "vrpo":
        gain, pairs, terms = bound - ref, (worth > 0).sum(), 0.0
        for best in np.flatnonzero(worth > 0):
            (worst,) = np.flatnonzero((group == group[best]).numpy() & (worth < 0).numpy())
            margin = a.beta * (gain[best] - gain[worst])
            terms = terms - torch.nn.functional.logsigmoid(margin) - a.sft_weight * bound[best] / n[best]
        return terms / pairs
    if name == "wd1":
        return -(worth * bound).sum() / 16
    if name == "justgrpo":
        return -(worth * sums(elbo(logps, masks) / length, episodes)).sum() / 16
    ratio = ((bound.detach() - old) / n).exp().clamp(1 - a.epsilon, 1 + a.epsilon)
    return -(ratio * worth * bound).sum() / ratio.sum()


@pytest.mark.parametrize(
    "name",
    slow_if(
        ["spg", "gdpo", "espo", "stabledrl", "vrpo", "wd1", "justgrpo", SELF_NORMALISED],
        lambda name: name not in ("spg", "vrpo", SELF_NORMALISED),
    ),
)
def test_a_bound_of_an_episode_is_the_sum_of_its_turns(name, tmp_path):
    more = {"algorithm_args": {"masking": "random"}} if name in ("spg", "stabledrl") else {}
    sizes = {"per_device_batch_size": 20, "prompts_per_step": 4}
    if name == "vrpo":
        more = {"algorithm_args": {"num_masks": 4}}
    played = Played(talk_algorithm(tmp_path, name, **more, **sizes))
    logps, masks, known = played.logps()
    assert played.equals(by_hand(played, name, logps, masks, known))


def test_an_algorithm_that_prepares_no_row_for_each_turn_is_told_what_to_return(tmp_path, monkeypatch):
    def of_episodes(self, rows):
        return {"advantages": self.compute_advantages(rows.cut_into_groups(rows.rewards))}

    monkeypatch.setattr(Algorithm, "prepare", of_episodes)
    said = r"SPG.prepare returned 12 rows of 'advantages' for (1[3-9]|2\d) completions.*rows.spread\(values\)"
    with pytest.raises(ConfigError, match=said):
        Played(talk_config(tmp_path, prompts_per_step=3))


def collected(env: Talk, policy, turns_of=3):
    begun = Rows.full_groups(4, 3, max_turns=env.max_turns)
    return Player(policy, EVALUATION, seed=5).play(env, begun, key=("rollout", 0))


def test_nothing_of_a_later_turn_reaches_an_earlier_one(monkeypatch):
    """Other words of the environment, and other completions after them, change no token and no score before them."""
    policy = load_model(str(tiny_folder()), device="cpu")
    one, other = collected(Talk(word="more"), policy), collected(Talk(word="quite another word"), policy)
    short = collected(Talk(turns=1), policy)
    first = [np.flatnonzero(s.turn == 0) for s in (one, other, short)]
    assert (one.turn > 0).sum() > 3 and [one.completions[i] for i in first[0]] == short.completions
    later = [[s.completions[i] for i in np.flatnonzero(s.turn == 1)] for s in (one, other)]
    assert later[0] != later[1]
    for name in ("completion_ids", "completion_mask", "unmask_step", "unmask_logps"):
        columns = [s.get(name)[rows] for s, rows in zip((one, other, short), first, strict=True)]
        assert torch.equal(columns[0], columns[1]) and torch.equal(columns[0], columns[2])


def test_the_prompt_of_a_turn_is_the_chat_so_far():
    policy = load_model(str(tiny_folder()), device="cpu")
    scored = collected(Talk(), policy)
    for b in np.flatnonzero(scored.turn == 2):
        turns, replies = scored.dialogue(b)
        chat = [{"role": "user", "content": scored.problems[b].prompt}]
        for turn, reply in zip(turns[:2], replies[:2], strict=True):
            chat += [{"role": "assistant", "content": turn}, {"role": "user", "content": reply}]
        ids, _ = encode_prompts(policy, [chat])
        mine = scored.prompt_ids[b][scored.prompt_mask[b]]
        assert torch.equal(mine, ids[0])
        assert scored.completions[b] == turns[2] and scored.replies[b] is None
    assert scored.truncated.any() and not scored.truncated.all()
    assert set(scored.reason) <= {"ok", "wrong"} and len(scored.last_turns) == 12


def test_a_chat_that_no_longer_fits_ends_the_episode(tmp_path):
    train(talk_config(tmp_path / "run", env_args={"word": 40 * "long "}, eval_steps=0))
    steps = rows(tmp_path / "run" / "metrics.jsonl")
    assert steps[0]["turns/no_room"] > 0 and steps[0]["turns/mean"] == 1.0
    assert steps[0]["turns/truncated"] == steps[0]["turns/no_room"]


def test_metrics_samples_evaluations_and_the_report_know_turns(tmp_path):
    from spg_trainer.reporting.page import report

    folder = tmp_path / "run"
    summary = train(talk_config(folder, eval_steps=2), quiet=True)
    first = rows(folder / "metrics.jsonl")[0]
    samples = rows(folder / "samples" / "step-000001.jsonl")
    assert len(samples) == 16
    turns = [len(row["turns"]) for row in samples]
    assert first["turns/mean"] == pytest.approx(np.mean(turns))
    assert first["turns/truncated"] == sum(row["truncated"] for row in samples)
    for n in set(turns):
        own = [row["reward"] for row in samples if len(row["turns"]) == n]
        assert first[f"turns/reward_of_{n}"] == pytest.approx(np.mean(own))
    for row in samples:
        assert row["completion"] == row["turns"][-1]["completion"] and row["turns"][-1]["reply"] is None
        assert all(turn["reply"] for turn in row["turns"][:-1])
        assert len(row["turns"][-1]["tokens"]) == 10 and row["tokens"] == row["turns"][-1]["tokens"]
    after = json.loads((folder / "eval" / "after.json").read_text())
    by = after["solved_by"]
    assert by[max(by)] == after["correct"] >= by["1"] and after["n"] == 4
    assert list(group_by_problem(folder / "eval" / "after.jsonl")) == [0, 1, 2, 3]
    page = report(folder).html
    assert '"reply":"more x' in page
    assert summary["steps"] == 3


def test_the_report_renders_every_turn_of_an_episode():
    from spg_trainer.reporting.page import render

    turns = [{"completion": "zz", "reply": "more xx"}, {"completion": "b", "reply": None}]
    html = render(Talk("test"), {"index": 0, "completion": "b", "turns": turns})
    assert "assistant: zz\nuser: more xx\nassistant: b" in html


def test_an_evaluation_counts_what_is_solved_by_each_turn():
    policy = load_model(str(tiny_folder()), device="cpu")
    result = evaluate(policy, Talk("test"), EVALUATION, num_generations=3)
    by = [np.mean([row["correct"] and len(row["turns"]) <= k for row in result.rows]) for k in (1, 2, 3)]
    assert list(result.solved_by.values()) == pytest.approx(by) and by[2] == result.correct
    assert result.n == 24 and "solved_by" in result.summary()
    again = evaluate(policy, Talk("test"), EVALUATION, num_generations=3, rows=result.rows[:7])
    assert again.rows == result.rows


def test_a_run_of_dialogues_goes_on_exactly(tmp_path):
    whole, parts = (
        talk_config(tmp_path / "whole", save_steps=1),
        talk_config(tmp_path / "parts", save_steps=1),
    )
    train(whole, quiet=True)
    run = start(parts, quiet=True)
    with patch.object(records, "save_checkpoint"):
        train_step(run)
    run.folder.release()  # as if it had been killed in its second step, before anything was saved
    train(change(parts, resume="auto"), quiet=True)
    assert_equal_runs(tmp_path / "parts", tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_give_the_gradient_of_one(tmp_path):
    run_processes("tests.common.turn_processes", str(tmp_path), timeout=800)
    for name in turn_processes.ALGORITHMS:
        expected, metrics = one_step(turn_processes.config(tmp_path / f"one-{name[-6:]}", name))
        assert metrics["turns/mean"] > 1 and float(expected.norm()) > 1e-6
        for rank in (0, 1):
            found, other = torch.load(tmp_path / f"rank-{rank}.pt")[name]
            assert relative(found, expected) < 1e-10
            assert other == pytest.approx(metrics, rel=1e-9, abs=1e-10)

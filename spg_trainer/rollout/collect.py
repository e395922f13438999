"""The completions of a step: episodes of an environment, played by the model round by round and scored in one call.

Every `Source` gives the training loop scored rows; `sample_rows` makes their records in samples/. Completions that
could not be scored are counted by reason (`Failures`), and too many of them end a run.
"""

import re
import sysconfig
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch

import spg_trainer
from spg_trainer.distributed import gather, raising_on_all, world_size
from spg_trainer.errors import ConfigError, ScoringFailed
from spg_trainer.models import Policy
from spg_trainer.models.forward import base_model
from spg_trainer.rollout import problems
from spg_trainer.rollout.long_prompts import SKIP
from spg_trainer.rollout.player import Player
from spg_trainer.settings.configs import Config
from spg_trainer.settings.packages import envs, verifiers  # ours, not other packages of these names
from spg_trainer.tensors import NEVER, Rows, cut_into_groups, without_rounding


class EnvironmentSource:
    """The source of completions of a training on an environment: the model plays its problems.

    A group *teaches* if an algorithm can learn from it: its rewards differ, or its completions are all right and the
    algorithm learns from such groups, too.
    """

    def __init__(
        self,
        env: "envs.TextEnv",
        player: Player,
        config: Config,
        dealt_by: Literal["episode", "group"] = "episode",
        right_groups_teach: bool = False,
    ) -> None:
        """dealt_by: as for `deal_groups`.

        right_groups_teach: whether the algorithm learns from a group that is all right, too.
        """
        self.env, self.player, self.config = env, player, config
        self.dealt_by = dealt_by
        self.right_groups_teach = right_groups_teach
        self.spec_name, self.task, self.notice = env.spec_name, getattr(env, "task", ""), env.notice
        self.mix: dict[str, float] = {}  # only demonstrations follow a mix
        self.pools = None  # without difficulty pools, all problems are drawn equally often
        if config.batch.pools:
            self.pools = problems.Pools(
                config.seed,
                size=len(env),
                all_right=config.batch.all_right_weight,
                all_wrong=config.batch.all_wrong_weight,
            )

    def render_turns(self, problem: "envs.Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """An episode for a terminal: the problem, the model's turns and the environment's replies."""
        return envs.core.render_turns(self.env, problem, turns, replies)

    def collect(self, step: int) -> Rows:
        """The completions of a step: of one batch of problems, or of further ones until enough groups teach.

        With `max_rollout_batches` above 1, the step learns from the groups that teach, in the order in which they were
        sampled (dynamic sampling, DAPO, arXiv 2503.14476). If too few groups teach, other groups fill the step up.
        """
        envs.authoring.reward_functions.reports.begin(step, self.config.max_steps)
        with self.player.serving(step):
            return self.collect_batches(step)

    def collect_batches(self, step: int) -> Rows:
        """As `collect`, inside the step."""
        config = self.config.batch
        with raising_on_all():
            index = self.choose(step, batch=0, taken=[])
        parts = [self.sample(step, batch=0, index=index, groups_before=0)]
        if config.max_rollout_batches == 1:
            return parts[0]
        taken = index
        teaches = self.groups_that_teach(parts[0])
        for batch in range(1, config.max_rollout_batches):
            if teaches.sum() >= config.prompts_per_step:
                break
            with raising_on_all():
                index = self.choose(step, batch, taken.tolist())
            if len(index) < config.prompts_per_step:
                break  # too few problems are left to give each process its share
            parts.append(self.sample(step, batch, index, groups_before=len(taken)))
            taken = np.append(taken, index)
            teaches = np.append(teaches, self.groups_that_teach(parts[-1]))
        # The groups that teach come first, and within each kind the order of sampling stays. The first of these groups
        # are chosen; `chosen` has their numbers in the order of sampling.
        teaching_first = np.argsort(~teaches, kind="stable")
        chosen = np.sort(teaching_first[: config.prompts_per_step])
        counts = {"no_room": sum(part.no_room for part in parts)}  # totals over the step's batches
        if parts[0].skipped is not None:  # each batch's `skipped` already counts for all processes
            counts["skipped"] = sum(part.skipped or 0 for part in parts)
        # The parts are in ascending order of episodes, and so are the joined rows.
        return Rows.join(parts).with_columns(chosen=tuple(chosen.tolist()), batches=len(parts), **counts)

    def choose(self, step: int, batch: int, taken: list[int]) -> np.ndarray:
        """The problems of a batch of a step, (P,) int64.

        batch: its number in the step, from 0 on. taken: the problems that the step's earlier batches chose, which are
        not chosen again. With --overlong skip, `sample` may have replaced some of these by others, which `taken` does
        not list: they may be chosen once more.
        """
        seed, count = self.config.seed, self.config.batch.prompts_per_step
        if self.pools is not None:
            return self.pools.choose(step, batch, count, taken)
        allowed = self.problems_at(step)
        first, size = allowed.start, len(allowed)
        if batch == 0:
            return first + problems.choose_problems(seed, step, count, size)
        return first + problems.choose_more(
            seed, step, batch, count, size, [index - first for index in taken]
        )

    def problems_at(self, step: int) -> range:
        """The problems from which the task lets a step draw; ConfigError if they are too few, or none of its own."""
        allowed, count = self.env.problems_at(step), self.config.batch.prompts_per_step
        has_such = isinstance(allowed, range) and allowed.step == 1 and 0 <= allowed.start
        if not has_such or allowed.stop > len(self.env) or len(allowed) < count:
            raise ConfigError(
                f"{self.spec_name}: problems_at({step}) returned {allowed!r:.80}. It must return a range within "
                f"range({len(self.env)}) of at least $prompts_per_step={count} problems."
            )
        return allowed

    def note_results(self, scored: Rows) -> dict[str, float]:
        """Metrics of the difficulty pools, which draw a problem less often if its groups were all right or all wrong.

        {} without --pools.
        """
        if self.pools is None:
            return {}
        problem, correct = gather_groups(scored, scored.problem.numpy(), scored.correct)  # (P, G) each
        return self.pools.note(problem[:, 0], correct)  # all completions of a group are of one problem

    def groups_that_teach(self, scored: Rows) -> np.ndarray:
        """(P,) bool, which groups of a batch (of all processes) teach."""
        rewards, correct = gather_groups(scored, scored.rewards, scored.correct)
        teaches = np.ptp(without_rounding(rewards), axis=1) > 0  # the largest reward minus the smallest
        if self.right_groups_teach:
            teaches |= correct.all(axis=1)
        return teaches

    def sample(self, step: int, batch: int, index: np.ndarray, groups_before: int) -> Rows:
        """This process's scored completions of a batch of a step.

        batch: its number in the step, from 0 on. index: (P,), the problems of the batch. groups_before: how many groups
        the step's earlier batches have; the groups of this batch are numbered from there on.
        """
        num_generations = self.config.batch.num_generations
        with raising_on_all():
            skipped = None
            if self.config.overlong == SKIP:  # other problems take the place of those that are too long
                index, skipped = self.player.room.next_fitting(self.env, index)
            # Only several processes, which share the work evenly, need the lengths of prompts.
            lengths = [problems.prompt_length(self.env, int(i)) if world_size() > 1 else 0 for i in index]
            episode = problems.deal_groups(lengths, num_generations, self.dealt_by)
            group, generation = np.divmod(episode, num_generations)
            first_turns = Rows(
                problem=torch.from_numpy(index[group]),
                generation=torch.from_numpy(generation),
                turn=torch.from_numpy(np.zeros_like(episode)),
                episode=torch.from_numpy(episode + groups_before * num_generations),
                group=torch.from_numpy(group + groups_before),
                max_turns=self.env.max_turns,
            )
            # The key of the first batch has no number, so its noise is the same as in a step with one batch.
            batch_key = ("batch", batch) if batch else ()
            scored = self.player.play(self.env, first_turns, key=("rollout", step, *batch_key))
            scored = scored.with_columns(skipped=skipped)
        # `add` raises if too many completions of this batch, on all processes, could not be scored.
        Failures(len(index) * num_generations).add(self.env, scored)
        return scored


MAX_ERROR_SHARE = 0.05
"""A step or evaluation in which a larger share of the completions could not be scored stops the run."""


def is_failure(reason: str, traceback: str | None) -> bool:
    """Whether a completion could not be scored: the author's code raised, or the environment's reason is "error"."""
    return traceback is not None or reason == "error"


def counts_text(counts: Mapping[str, float]) -> str:
    """A text on how often each reason occurred: "3 error, 1 timeout"."""
    return ", ".join(f"{number:.0f} {reason}" for reason, number in sorted(counts.items()))


class Failures:
    """Counts the completions of a step or evaluation that its environment could not score.

    expected: how many completions the step or evaluation has. of_all_processes: whether the failures of all processes
    are counted together; each process then calls `add` equally often. `count` is {reason: how many completions}.
    """

    def __init__(self, expected: int, of_all_processes: bool = True) -> None:
        self.expected, self.of_all_processes = expected, of_all_processes
        self.count: Counter[str] = Counter()

    def add(self, env: "envs.TextEnv", scored: Rows | None) -> None:
        """Counts the failures among completions (None = there are none); raises ScoringFailed if they are too many."""
        outcomes = []
        if scored is not None:
            problem = scored.problem.tolist()
            last_turns = scored.last_turns  # an episode of several turns counts once
            outcomes = [(problem[b], scored.reason[b], scored.traceback[b]) for b in last_turns]
        self.note(env, outcomes)

    def note(self, env: "envs.TextEnv", outcomes: list[tuple[int, str, str | None]]) -> None:
        """Counts the failures among outcomes (index of the problem, reason, traceback); raises as `add`."""
        failed = [
            (index, reason, traceback)
            for index, reason, traceback in outcomes
            if is_failure(reason, traceback)
        ]
        failed = gather(failed) if self.of_all_processes else failed
        self.count.update(reason for _, reason, _ in failed)
        if failed and self.count.total() > MAX_ERROR_SHARE * self.expected:
            index, reason, traceback = failed[0]
            name = envs.problem.name_of(index, envs.problem.read_problem(env, index))
            raise ScoringFailed(
                f"The score of {env.spec_name} failed on {self.count.total()} of {self.expected} completions (more "
                f"than {MAX_ERROR_SHARE:.0%}; {counts_text(self.count)}), among them one of {name} "
                f"(reason {reason}).",
                own_frames(traceback or ""),
            )


def own_frames(trace: str) -> str:
    """A traceback without the frames of installed packages and of our packages.

    If no frame is left, an error of `envs` becomes its message, which is enough; any other traceback stays whole.
    trace: a text of `traceback.format_exception`.
    """
    kept: list[str] = []
    in_installed_frame = found_own_frame = False
    for line in trace.splitlines():
        if frame := re.match(r'  File "(.*?)", line ', line):
            in_installed_frame = any(Path(frame[1]).is_relative_to(folder) for folder in installed())
            found_own_frame |= not in_installed_frame
        elif not line.startswith("   "):
            # Lines that are indented further are the source of the frame above them; this line belongs to no frame.
            in_installed_frame = False
        if not in_installed_frame:
            kept.append(line)
    if not found_own_frame and (ours := re.search(r"^envs\.errors\.\w+: ", trace, re.MULTILINE)):
        return trace[ours.end() :]
    return "\n".join(kept) if found_own_frame else trace


@cache
def installed() -> tuple[str, ...]:
    """The folders of Python's own modules, of site-packages, and of our packages (elsewhere in a checkout)."""
    our_packages = (spg_trainer, envs, verifiers)
    ours = [str(Path(str(package.__file__)).parent) for package in our_packages]
    return (sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), *ours)


def given_rows(rows: Rows, rewards: np.ndarray, reason: list[str]) -> Rows:
    """Scored rows of given completions, which no environment judged; those with a reward above 0 count as right."""
    count = len(rows)
    return rows.with_columns(
        rewards=rewards,
        components={},
        correct=rewards > 0,
        reason=reason,
        extracted=[None] * count,
        traceback=[None] * count,
        replies=[None] * count,
        truncated=np.zeros(count, dtype=bool),
    )


def gather_groups(rows: Rows, *columns: np.ndarray) -> list[np.ndarray]:
    """Gathers each column from all processes and cuts it into groups, e.g. the rewards into (P, G).

    Every process must call this, or the others wait. columns: (B,) each, of this process's rows; an episode's value is
    taken from its last turn.
    """
    columns_here = (rows.episode.numpy(), rows.generation.numpy(), *columns)
    of_last_turns = [values[rows.last_turns] for values in columns_here]
    columns_by_process = gather([of_last_turns])  # each process gives one item, the list of its columns
    arrays_by_column = zip(*columns_by_process, strict=True)  # for each column, its arrays of all processes
    episode, generation, *gathered = [np.concatenate(arrays) for arrays in arrays_by_column]
    order = episode.argsort(kind="stable")
    return [cut_into_groups(values[order], generation[order]) for values in gathered]


class Source(Protocol):
    """What the training loop uses of a source of completions."""

    spec_name: str
    """The name of the task or the file that the problems come from, as samples/ records it."""
    notice: str
    """What the user should know of the problems, e.g. how many are skipped; "" = nothing."""
    env: "envs.TextEnv | None"
    """The environment whose problems the model solves; None if completions are given."""
    mix: Mapping[str, float]
    """{`right` or a habit: its share among the demonstrations}; {} if no demonstrations are learned."""
    pools: problems.Pools | None
    """The difficulty pools of the problems; None if all problems are drawn equally often."""

    def collect(self, step: int) -> Rows:
        """This process's completions of a step, with their rewards."""

    def render_turns(self, problem: "envs.Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """An episode for a terminal: the problem, its completions and the replies to them."""


def sample_rows(
    scored: Rows,
    *,
    policy: Policy,
    env: "envs.TextEnv | Source",
    step: int,
    advantages: torch.Tensor | None = None,
    set_aside: np.ndarray | None = None,
) -> list[dict[str, Any]]:
    """The rows of samples/step-N.jsonl: prompts, completions, rewards, and when each token was unmasked.

    "tokens", "reveal_step" and "confidence" (the model's probability of the token when it was unmasked) have an entry
    for each position. A position that stayed masked has "", -1 and null. A position whose token a template of the task
    gave has this token ("" for padding), -2 and null. An episode is one row, with its last completion; in an
    environment of several turns, "turns" has all completions of the episode, each with the reply to it. A model that
    writes canvases from random tokens adds "path" (`paths`).

    env: gives the task's name; for given completions, their `Source`. advantages: (B,), 0 for completions that were set
    aside. set_aside: (B,) bool, the completions that the step did not learn from; None if --max-rollout-batches is 1,
    since a step then learns from all.
    """
    rows, turns = [], []  # `turns` are those of the present episode, up to its last turn
    is_last_turn, has_turns = scored.is_last_turn.tolist(), scored.has_turns
    for b, tokens in enumerate(token_records(policy, scored)):
        if has_turns:
            turns.append({"completion": scored.completions[b], **tokens, "reply": scored.replies[b]})
            if advantages is not None:
                turns[-1]["advantage"] = float(advantages[b])
        if not is_last_turn[b]:
            continue
        components = {name: values[b] for name, values in scored.components.items()}
        row = {
            "step": step,
            "env": env.spec_name,
            "task": scored.problems[b].task or getattr(env, "task", ""),
            "index": int(scored.problem[b]),
            "generation": int(scored.generation[b]),
            "prompt": scored.problems[b].prompt,
            "completion": scored.completions[b],
            "rewards": {name: float(value) for name, value in components.items() if not np.isnan(value)},
            "reward": float(scored.rewards[b]),
            "correct": bool(scored.correct[b]),
            "reason": scored.reason[b],
            "extracted": scored.extracted[b],
            **tokens,
        }
        if has_turns:
            row |= {"turns": turns, "truncated": bool(scored.truncated[b])}
            turns = []
        if logged := envs.authoring.reward_functions.reports.logged_for(
            scored.problems[b], scored.completions[b]
        ):
            row["logged"] = logged  # by `log_extra` of reward functions
        if scored.traceback[b] is not None:
            row["traceback"] = scored.traceback[b]
        if advantages is not None:
            row["advantage"] = float(advantages[b])
        if set_aside is not None:
            row["set_aside"] = bool(set_aside[b])
        for name, value in scored.problems[b].reference.items():
            row.setdefault(name, value)  # a field of the reference does not replace a column of ours
        rows.append(row)
    return rows


def token_records(policy: Policy, rollouts: Rows) -> list[dict[str, Any]]:
    """The "reveal_step", "tokens", "confidence" and "path" of each completion, B in all, as `sample_rows` says."""
    ids, steps = rollouts.completion_ids.tolist(), rollouts.unmask_step.tolist()
    text_of = cache(lambda token: policy.tokenizer.decode([token]))  # each is decoded once
    probabilities = rollouts.unmask_logps.exp().tolist()
    # The padding of a template is left out; a padding token that the model wrote is shown.
    is_padding_of_template = rollouts.given & (rollouts.completion_ids == policy.pad_id)
    has_token = ((rollouts.unmask_step != NEVER) & ~is_padding_of_template).tolist()
    records = []
    for b in range(len(ids)):
        tokens = zip(ids[b], has_token[b], strict=True)
        drawn = zip(probabilities[b], steps[b], strict=True)
        records.append(
            {
                "reveal_step": steps[b],
                "tokens": [text_of(token) if shown else "" for token, shown in tokens],
                "confidence": [round(probability, 4) if step >= 0 else None for probability, step in drawn],
            }
        )
    if "canvases" in rollouts:
        for record, path in zip(
            records, paths(rollouts, base_model(policy.model).pattern.block_size), strict=True
        ):
            record["path"] = [
                [[step, None if token is None else text_of(token)] for step, token in changes]
                for changes in path
            ]
    return records


def paths(rollouts: Rows, size: int) -> list[list[list[tuple[int, int | None]]]]:
    """How each place of completions that were redrawn in canvases of `size` places came to its token.

    For each of B rows and T places, the steps after which it held something else than after the step before, in
    ascending order: (step, the token that the step accepted, or None if it drew the place anew at random). Steps are
    counted over all canvases of a row. The last entry is the last step of the canvas with the token that stays, the
    most probable one. A place of a canvas that was not begun has no entry.
    """
    canvases, finals = rollouts.canvases.numpy(force=True), rollouts.completion_ids.tolist()
    num_steps = canvases.shape[1] - 1
    bits = np.unpackbits(rollouts.accepted.numpy(force=True), axis=1, count=num_steps, bitorder="little")
    found = []
    for accepted, seen, final in zip(bits, canvases, finals, strict=True):
        path: list[list[tuple[int, int | None]]] = []
        first = 0  # the number of the canvas's first step
        for start in range(0, len(final), size):
            in_canvas = slice(start, start + size)
            made = int(accepted[:, in_canvas].any(-1).sum())  # every step accepts at least one token
            for place in range(start, start + size):
                held = np.where(accepted[:, place], seen[1:, place], -1)[: max(0, made - 1)]
                changes = np.flatnonzero(np.diff(held, prepend=-2))
                path.append([(first + int(s), None if held[s] < 0 else int(held[s])) for s in changes])
                if made:
                    path[-1].append((first + made - 1, final[place]))
            first += made
        found.append(path)
    return found

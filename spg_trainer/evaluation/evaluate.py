"""How often a model solves a task: the solved rate with its interval, on problems it was not trained on."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from spg_trainer.distributed import gather, raising_on_all
from spg_trainer.errors import ConfigError, naming_keywords, plural
from spg_trainer.evaluation.habits import count_habits, shares
from spg_trainer.evaluation.statistics import clustered_interval, majority_vote, pass_at_k, reason_of
from spg_trainer.models.policy import Policy, check_policy
from spg_trainer.rollout.collect import Failures, is_failure, sample_rows
from spg_trainer.rollout.long_prompts import SKIP, Room
from spg_trainer.rollout.player import Player
from spg_trainer.rollout.problems import deal_rows, prompt_length
from spg_trainer.rollout.sampler import RolloutStopped, check_sampling, watching
from spg_trainer.rollout.tokens import ended
from spg_trainer.settings.configs import Config
from spg_trainer.settings.decoding import Sampling
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import lengths_left_out
from spg_trainer.settings.resolve import defaults
from spg_trainer.settings.task import task_names
from spg_trainer.settings.types import to_json
from spg_trainer.tensors import Rows

BATCH = 256
"""Completions that are written and scored at once."""


@dataclass(frozen=True)
class Evaluation:
    """The figures of one evaluation; `rows` has every completion, in the form of the files in a run's samples/."""

    correct: float
    """Solved rate over all completions, 0..1."""
    n: int
    """Completions judged."""
    low: float
    """Lower end of the 95% interval of `correct` over problems; see `statistics.clustered_interval`."""
    high: float
    """Upper end of that interval."""
    rewards: dict[str, float]
    """Mean of each reward component."""
    mean_length: float
    """Mean tokens of a completion, the end token included."""
    clipped_ratio: float
    """Share of completions without an end token."""
    tokens_per_pass: float
    """How many tokens a denoising step, one pass of the model, unmasked in the mean."""
    reasons: dict[str, int]
    """{reason: how many completions have it}; "right" or "wrong" for a task that gives no reasons."""
    pass_at: dict[int, float]
    """k -> unbiased pass@k, for every power of two below the number of generations, and for that number."""
    majority: float | None
    """Share of the problems whose most frequent answer is right; None if each has one completion. See
    `statistics.majority_vote`."""
    follows: dict[str, int]
    """{`right`, each habit, `none of these`: how many completions follow it}. A habit is a plausible way to answer that
    is often wrong; the figure is empty where a task has no habits."""
    settings: dict[str, Any]
    """Environment, split, sampling: what must be equal for two figures to be comparable."""
    rows: list[dict[str, Any]] = field(repr=False, default_factory=list)
    solved_by: dict[int, float] = field(default_factory=dict)
    """Turn -> share of the episodes, each one try at a problem, that are solved within so many turns; empty where the
    environment has one turn."""
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Task -> its own `solved` rate with `low` and `high`, `n` and `rewards`; empty where there is one task."""

    overlong_skipped: int = 0
    """Problems that were not asked because their prompts are too long for the model."""

    def __repr__(self) -> str:
        task_and_split = f"{self.settings['env']}, {self.settings['split']}"
        return f"<{task_and_split}: {figures(self)}; .summary() and .rows hold all>"

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON."""
        optional = ("solved_by", "tasks", "overlong_skipped")
        left_out = {"rows", *(name for name in optional if not getattr(self, name))}
        return {name: value for name, value in asdict(self).items() if name not in left_out}

    @property
    def solved(self) -> str:
        """The solved rate as a text: `solved 0.043 [0.024, 0.075] of 256`, or `... of 64 problems x 4`."""
        generations, count = self.settings["num_generations"], str(self.n)
        if generations > 1:
            count = f"{plural(self.n // generations, 'problem')} x {generations}"
        return f"solved {self.correct:.3f} [{self.low:.3f}, {self.high:.3f}] of {count}"


@naming_keywords
@envs.own_files.each_file_once()
def evaluate(
    policy: Policy,
    env: "str | type | Sequence[str | type] | envs.TextEnv | None" = None,
    sampling: Sampling | None = None,
    *,
    split: str | None = None,
    num_generations: int = 1,
    num_problems: int = 0,
    seed: int = 0,
    rows_per_forward: int | None = None,
    accelerator: Accelerator | None = None,
    advance: Callable[[float], None] = lambda problems: None,
    rows: Iterable[dict[str, Any]] = (),
    keep: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    overlong: str = "error",
    env_args: Mapping[str, Any] | None = None,
    verifier: str | None = None,
    reward: Any = None,
    bad_rows: str | None = None,
) -> Evaluation:
    """Solves the problems of a split; returns the solved rate with its interval, and further figures.

    Args:
        policy: what `load_model` returns.
        env: the task. A name for `envs.make`, a registered class, or several of these are opened with the arguments
            that suit the model; a `TextEnv` is taken as it is. None = the task that the model was taught, by its
            environment.json, and Sudoku for a model without this file.
        split: the problems to solve. None = the split in which `envs.make` opened a `TextEnv`, else "test". A `TextEnv`
            of a class without splits is divided here. For a `TextEnv` that does not say its split, this name is
            recorded.
        sampling: completion length, steps, temperature. None = the model's own lengths (from its environment.json,
            else from the recipe that suits it) at temperature 0. `defaults(Sampling, env, model=...,
            temperature=0.9)` keeps these lengths.
        num_generations: completions per problem; more than 1 needs a temperature above 0.
        num_problems: different problems from the start of the split; 0 = all. A problem that occurs twice is asked
            once.
        rows_per_forward: how many completions are decoded at once. It changes memory and speed, not the figures. None =
            all of a batch on a GPU, and on a CPU as many as fill a forward pass.
        accelerator: its processes share the completions, evenly by the length of their prompts; each process gets the
            same result, or the same error.
        advance: called with the problems done so far; a part of a problem is a fraction.
        rows: the rows of the same evaluation from before an interruption; these completions are not made again. Rows
            of other problems are refused; whether their seed is the same is not checked.
        keep: called in each process with the new rows of all processes, a batch at a time.
        overlong: "error" refuses problems whose prompts are too long for the model, "skip" leaves them out.
        env_args: arguments of the environment that a name opens, {"level": 2}. They override those that suit the model.
        verifier, reward, bad_rows: arguments of a file of rows, as in `defaults`.

    Raises:
        ConfigError: a number out of range, several generations at temperature 0, a prompt too long for the model, a
            split other than that of the `TextEnv`, or environment arguments besides a `TextEnv`.
        TrainingError: the environment failed on too many completions, or another process failed.
    """
    check_policy(policy, "evaluate")
    opened_split = getattr(env, "split", None) if isinstance(env, envs.TextEnv) else None
    if split is not None and opened_split not in (None, split):
        raise ConfigError(
            f"split={split}: this environment was opened in the split {opened_split}. Open it with envs.make(..., "
            f"split={split!r}), or leave split out."
        )
    split = split or opened_split or "test"
    if overlong not in ("error", SKIP):
        raise ConfigError(f"overlong={overlong!r}: expected error or {SKIP}.")
    arguments = {"env_args": env_args, "verifier": verifier, "reward": reward, "bad_rows": bad_rows}
    given = {name: value for name, value in arguments.items() if value is not None}
    if env is None:
        env = defaults(Config, model=policy.source).env
    if not isinstance(env, envs.TextEnv):
        env = task_names(env)
    elif given:
        raise ConfigError(
            f"{next(iter(given))}: this environment is open already. Give its arguments to envs.make, or its name to "
            "evaluate."
        )
    # The recipe has the arguments with which a name is opened, and the lengths if none are given.
    if sampling is None or isinstance(env, str):
        if isinstance(env, str):
            name = env
        else:
            name, _, _ = env.spec_name.partition("[")  # without arguments: `sudoku` of `sudoku[level=2]`
        recipe = defaults(Config, name, policy.source, **given)
        sampling = sampling or replace(recipe.rollout, temperature=0.0)
    check_counts(num_problems, num_generations, sampling)
    is_one_of_several = accelerator is not None and accelerator.num_processes > 1
    with raising_on_all() if is_one_of_several else nullcontext():
        check_sampling(policy, sampling)
        if note := lengths_left_out(sampling, policy.source):
            # Level 4 is the caller of `evaluate`, outside the wrappers `naming_keywords` and `each_file_once`.
            warnings.warn(note, stacklevel=4)
        if isinstance(env, str):
            env = envs.make(recipe.env, split=split, **recipe.env_args)
        elif (divided := envs.registry.in_split(env, split)) is not env:
            env = divided
            warnings.warn(env.notice, stacklevel=4)
        rows = list(rows)
        refuse_rows_of_others(env, split, rows)
    return evaluate_checked(
        Player(policy, sampling, seed, rows_per_forward),
        env,
        split=split,
        num_generations=num_generations,
        num_problems=num_problems,
        accelerator=accelerator,
        advance=advance,
        rows=rows,
        keep=keep,
        overlong=overlong,
    )


def refuse_rows_of_others(env: "envs.TextEnv", split: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raises ConfigError for a row of another task: its prompt is not the prompt of the problem that its `index` names.

    Rows without `prompt` and episodes of several turns are not compared. Prompts are compared as JSON has them, because
    rows may come from a file.
    """
    if env.max_turns > 1:
        return
    for row in rows:
        index, prompt = row["index"], row.get("prompt")
        if prompt is None:
            continue
        asked = None  # an index behind the last problem
        if index < len(env):
            asked = envs.problem.read_problem(env, index).prompt
        if to_json(asked) != to_json(prompt):
            raise ConfigError(
                f"rows: a row of problem {index} asks {prompt!r:.60}, and problem {index} of {env.spec_name} "
                f"{split} does not. Give rows of the same evaluation alone, with its task, arguments and seed."
            )


@envs.own_files.each_file_once()
def evaluate_checked(
    player: Player,
    env: "envs.TextEnv",
    *,
    split: str,
    num_generations: int = 1,
    num_problems: int = 0,
    accelerator: Accelerator | None = None,
    advance: Callable[[float], None] = lambda problems: None,
    rows: Sequence[dict[str, Any]] = (),
    keep: Callable[[list[dict[str, Any]]], None] = lambda rows: None,
    overlong: str = "error",
    stops: Callable[[], bool] = lambda: False,
) -> Evaluation:
    """`evaluate` for settings that a plan has checked: those of a training or of the command `eval`.

    stops: whether to end early. It is called after every denoising step; with several processes, after every batch. The
    evaluation then keeps the completions that are finished (in episodes of several turns, the finished batches) and
    raises RolloutStopped.

    Raises ConfigError for a prompt too long for the model, and TrainingError as `evaluate`.
    """
    world = accelerator.num_processes if accelerator else 1
    agreeing = raising_on_all if world > 1 else nullcontext
    with agreeing():
        indices, num_skipped = problems_to_ask(player.room, env, num_problems, overlong)
    num_problems_asked = len(indices)
    # Completions that could not be scored are made again: the environment may be repaired by now.
    completed = {pair(row): row for row in rows if not is_failure(row["reason"], row.get("traceback"))}
    wanted_pairs = [(problem, generation) for problem in indices for generation in range(num_generations)]
    missing = [wanted for wanted in wanted_pairs if wanted not in completed]
    num_completions = len(wanted_pairs)
    failures = Failures(num_completions, of_all_processes=world > 1)
    problems_of_process = max(1, BATCH // num_generations)  # in each batch
    batch_size = problems_of_process * num_generations * world
    # Several processes have to stay together, so they ask `stops` only after a batch.
    stops_within_batch = stops if world == 1 else lambda: False
    for batch in batches(missing, batch_size, num_done=len(completed)):
        done, in_batch = len(completed) / num_generations, len(batch) / num_generations

        # Bound as defaults, so that the function keeps the values of this batch.
        def report(share: float, problems_done: float = done, problems_in_batch: float = in_batch) -> None:
            advance(problems_done + share * problems_in_batch)

        try:
            with agreeing(), watching(report, stops_within_batch):
                pairs_here = batch
                if world > 1:  # a small last batch may leave nothing for a process
                    lengths = [prompt_length(env, problem) for problem, _ in batch]
                    pairs_here = [batch[row] for row in deal_rows(lengths)]
                scored = solve(player, env, pairs_here) if pairs_here else None
                new_rows = evaluated_rows(player.policy, env, scored) if scored is not None else []
        except RolloutStopped as stopped:
            if stopped.scored is not None:  # the completions of this batch that are finished
                keep(sorted(evaluated_rows(player.policy, env, stopped.scored), key=pair))
            raise
        new_rows = sorted(gather(new_rows) if world > 1 else new_rows, key=pair)
        with agreeing():
            keep(new_rows)
        failures.add(env, scored)
        completed |= {pair(row): row for row in new_rows}
        is_asked_to_stop = any(gather([stops()])) if world > 1 else stops()
        if is_asked_to_stop and len(completed) < num_completions:
            raise RolloutStopped()
    advance(num_problems_asked)
    settings = evaluation_settings(
        env, player.sampling, num_generations, num_problems_asked, player.seed, split
    )
    all_rows = [completed[pair_of_row] for pair_of_row in sorted(completed)]
    with agreeing():
        follows = count_habits(env, all_rows).counts
    tasks = figures_by_task(env, all_rows, settings)
    return replace(summarize(all_rows, follows, settings), tasks=tasks, overlong_skipped=num_skipped)


def batches(
    missing: Sequence[tuple[int, int]], size: int, num_done: int
) -> Iterator[Sequence[tuple[int, int]]]:
    """Yields the missing completions in batches of `size`, which are the same as without an interruption.

    If a batch was interrupted, its rest is the first batch, which then is smaller. E.g. with `size` 4 and 6 completions
    done, the first batch has 2. num_done: how many completions there are already.
    """
    start = 0
    while start < len(missing):
        done_of_batch = (num_done + start) % size  # 0 for all batches but the first
        stop = start + size - done_of_batch
        yield missing[start:stop]
        start = stop


def problems_to_ask(
    room: Room, env: "envs.TextEnv", num_problems: int, overlong: str
) -> tuple[list[int], int]:
    """(the different problems to ask, how many were skipped as too long); num_problems 0 = all of the split.

    Raises ConfigError as `Room.fitting`.
    """
    different = envs.splits.distinct_problems(env, num_problems)
    indices = room.fitting(env, different, overlong)
    return indices, len(different) - len(indices)


def solve(player: Player, env: "envs.TextEnv", pairs: Sequence[tuple[int, int]]) -> Rows:
    """Samples and scores a completion for each (problem, generation) pair."""
    problem, generation = torch.tensor(pairs).T
    episode = torch.arange(len(pairs))
    first_turns = Rows(
        problem=problem,
        generation=generation,
        turn=torch.zeros_like(episode),
        episode=episode,
        group=problem,
        max_turns=env.max_turns,
    )
    return player.play(env, first_turns, key=("eval",))


def check_counts(num_problems: int, num_generations: int, sampling: Sampling) -> None:
    """Raises ConfigError for numbers of problems and completions that cannot be evaluated."""
    if num_problems < 0:
        raise ConfigError(f"$num_problems={num_problems}: should be 0 (the whole split) or more.")
    if num_generations < 1:
        raise ConfigError(f"$num_generations={num_generations}: should be at least 1.")
    if num_generations > 1 and sampling.temperature == 0:
        raise ConfigError(f"$num_generations={num_generations} at temperature 0: set a temperature above 0.")


def figures_by_task(
    env: "envs.TextEnv", rows: list[dict[str, Any]], settings: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """The figures of each task of a mixture, from the rows of that task; a task without rows is left out."""
    figures_of_tasks = {}
    for task in env.parts:
        if rows_of_task := [row for row in rows if row["task"] == task]:
            result = summarize(rows_of_task, follows={}, settings=settings)
            figures_of_tasks[task] = {"solved": result.correct, "low": result.low, "high": result.high}
            figures_of_tasks[task] |= {"n": result.n, "rewards": result.rewards}
    return figures_of_tasks


def note_of_fewer_problems(env: "envs.TextEnv", split: str, num_problems: int, count: int) -> str:
    """A note if a split has fewer different problems than were asked for; else "". num_problems: 0 = the whole split.

    count: how many different problems are asked, at most `num_problems`.
    """
    wanted = min(num_problems or len(env), len(env))
    if count < wanted:
        return f"{env.spec_name} {split}: only {count} of {wanted} problems differ; each is asked once."
    if count < num_problems:
        return (
            f"{env.spec_name} {split}: there {'is' if count == 1 else 'are'} {plural(count, 'problem')}, not the "
            f"{num_problems:,} that are set; all are asked."
        )
    return ""


def pair(row: dict[str, Any]) -> tuple[int, int]:
    """(problem, generation) of a row: its problem, and its number among the completions of this problem."""
    return row["index"], row["generation"]


def evaluated_rows(policy: Policy, env: "envs.TextEnv", scored: Rows) -> list[dict[str, Any]]:
    """The rows of an evaluation's file: as in samples/, with the tokens of all turns and whether all of them ended."""
    # The turns of an episode stand together. `reduceat` joins the values from each first turn up to the next one.
    first_turns = np.flatnonzero(scored.turn == 0)
    lengths = np.add.reduceat(scored.completion_mask.sum(-1).numpy(force=True), first_turns)
    ends = np.logical_and.reduceat(ended(policy, scored), first_turns)
    no_step = -1  # the completions are not of a training step
    rows = sample_rows(scored, policy=policy, env=env, step=no_step)
    parts = zip(rows, lengths.tolist(), ends.tolist(), strict=True)
    return [{**row, "length": length, "ended": end} for row, length, end in parts]


def summarize(rows: list[dict[str, Any]], follows: dict[str, int], settings: dict[str, Any]) -> Evaluation:
    """Computes the figures of an evaluation from the rows of all processes.

    rows: in the order of problems and generations. follows, settings: taken over into the fields of these names.
    """
    num_generations = settings["num_generations"]
    correct = np.array([row["correct"] for row in rows], dtype=float).reshape(-1, num_generations)
    right_of_problem = correct.sum(axis=1)
    low, high = clustered_interval(correct)
    pass_at = {}
    for k in sorted({2**i for i in range(num_generations.bit_length())} | {num_generations}):
        chances = [pass_at_k(int(right), num_generations, k) for right in right_of_problem]
        pass_at[k] = float(np.mean(chances))
    groups = [rows[i : i + num_generations] for i in range(0, len(rows), num_generations)]
    # A task whose `score` returns a plain dict never says what it extracted; a mixture may have tasks of both kinds.
    extracting = {row["task"] for row in rows if row["extracted"] is not None}
    votes = [majority_vote(group, extracts=group[0]["task"] in extracting) for group in groups]
    components: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row["rewards"].items():
            components.setdefault(name, []).append(value)
    episodes = [row for row in rows if "turns" in row]
    # How many turns each episode took to be solved, 0 if it was not.
    turns_to_solve = [len(row["turns"]) if row["correct"] else 0 for row in episodes]
    solved_by = {}
    for turn in range(1, 1 + max((len(row["turns"]) for row in episodes), default=0)):
        solved_by[turn] = float(np.mean([0 < turns <= turn for turns in turns_to_solve]))
    return Evaluation(
        correct=float(correct.mean()),
        n=len(rows),
        low=low,
        high=high,
        rewards={name: float(np.mean(values)) for name, values in components.items()},
        mean_length=float(np.mean([row["length"] for row in rows])),
        clipped_ratio=1 - float(np.mean([row["ended"] for row in rows])),
        tokens_per_pass=tokens_per_pass(rows),
        reasons=dict(Counter(map(reason_of, rows)).most_common()),
        pass_at=pass_at,
        majority=None if num_generations == 1 else float(np.mean(votes)),
        follows=follows,
        settings=settings,
        solved_by=solved_by,
        rows=rows,
    )


def tokens_per_pass(rows: Sequence[dict[str, Any]]) -> float:
    """How many tokens a denoising step, one pass of the model, unmasked in the mean over all turns of all rows."""
    turns = [turn for row in rows for turn in row.get("turns", [row])]  # a row without turns is a single one
    # For each turn, the step that unmasked each of its tokens. Steps are counted from 0; -1 = no step unmasked it.
    unmasked = sum(step >= 0 for turn in turns for step in turn["reveal_step"])
    # A turn in which no step unmasked a token counts as 0 passes. A canvas that is redrawn also takes steps in which
    # its text stays the same; the last of them ends the path of its places.
    passes = 0
    for turn in turns:
        of_path = [changes[-1][0] for changes in turn.get("path", []) if changes]
        passes += 1 + max(-1, *(of_path or turn["reveal_step"]))
    return unmasked / max(1, passes)


def evaluation_settings(
    env: "envs.TextEnv", sampling: Sampling, num_generations: int, num_problems: int, seed: int, split: str
) -> dict[str, Any]:
    """The settings that must be equal for two evaluations to be comparable."""
    origin = {"origin": dict(env.origin)} if env.origin else {}
    return {
        "env": env.spec_name,
        **origin,
        "split": getattr(env, "split", split),  # an author's environment need not keep its split
        "seed": seed,
        "num_problems": num_problems,
        "num_generations": num_generations,
        **asdict(sampling),
    }


def figures(result: Evaluation) -> str:
    """The figures of one evaluation in one line."""
    means = {f"pass@{k}": chance for k, chance in result.pass_at.items() if k > 1}
    if result.majority is not None:
        means["majority"] = result.majority
    means |= {name: mean for name, mean in result.rewards.items() if name != "correct"}
    shown = "".join(f"{name} {mean:.3f}, " for name, mean in means.items())
    line = f"{result.solved}; {shown}mean length {result.mean_length:.1f}, no end {result.clipped_ratio:.3f}"
    line += f", {result.tokens_per_pass:.2f} tokens a pass"
    if result.solved_by:
        by = ", ".join(f"{turn} {rate:.3f}" for turn, rate in result.solved_by.items())
        line += f"; solved by turn {by}"
    for task, figures_of_task in result.tasks.items():
        line += f"; {task} {figures_of_task['solved']:.3f} of {figures_of_task['n']}"
    if result.overlong_skipped:
        line += f"; {plural(result.overlong_skipped, 'problem')} skipped, too long for the model"
    return f"{line}; {shares(result.follows, result.n)}" if result.follows else line

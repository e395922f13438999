"""Computes the metrics of a step's rollout for metrics.jsonl, over the completions of all processes.

A completion is one turn of an episode; if the environment does not answer back, each episode has one.
"""

from collections import Counter
from operator import itemgetter

import numpy as np

from spg_trainer.distributed import gather
from spg_trainer.rollout.collect import is_failure
from spg_trainer.settings.packages import envs
from spg_trainer.tensors import Rows, cut_into_groups, without_rounding


def reported_means() -> dict[str, float]:
    """The means of what reward functions logged by `log_metric`, over all processes."""
    values: dict[str, list[float]] = {}
    for reported in gather([envs.authoring.reward_functions.reports.metrics]):
        for name, logged in reported.items():
            values.setdefault(name, []).extend(logged)
    return {f"logged/{name}": float(np.mean(logged)) for name, logged in sorted(values.items())}


def rollout_metrics(scored: Rows, ended: list[bool]) -> dict[str, float]:
    """The metrics of a rollout, over the completions of all processes.

    The metrics do not depend on how the groups were shared among processes. ended: for each completion of this process,
    whether it has an end token.
    """
    completions = gathered_columns(scored, ended)
    texts, tasks, failures = gathered_episodes(scored)
    failed = Counter(reason for reason in failures if reason is not None)
    # The reward of an episode is in the row of its last turn.
    is_last_turn = np.append(np.diff(completions["episode"]) != 0, True)
    episodes = {name: values[is_last_turn] for name, values in completions.items()}
    generation = episodes.pop("generation")  # each episode's number in its group; a 0 begins a group
    rewards = cut_into_groups(without_rounding(episodes["reward"]), generation)
    correct = cut_into_groups(episodes["correct"], generation)
    written, passes = completions["written"].sum(), completions["passes"].sum()
    metrics = {
        "reward": float(episodes["reward"].mean()),
        **group_metrics(rewards, correct, cut_into_groups(texts, generation)),
        "correct": float(episodes["correct"].mean()),
        **component_means(episodes),
        "completions/mean_length": float(completions["length"].mean()),
        "completions/clipped_ratio": float(completions["clipped"].mean()),
        "completions/repeated_4grams": float(completions["repeated"].mean()),
        # An estimate of the entropy: the mean of -log p over all tokens that the model wrote, up to the end tokens.
        "completions/entropy": float(completions["nats"].sum() / max(1.0, written)),
        "completions/tokens_per_pass": float(completions["unmasked"].sum() / max(1.0, passes)),
        "num_tokens": int(completions["length"].sum()),
        "env_errors": failed.total(),
        **{f"env_errors/{reason}": count for reason, count in sorted(failed.items())},
        **reported_means(),
    }
    if scored.chosen is not None:  # with --max-rollout-batches, the step learns from these groups alone
        metrics |= set_aside_metrics(scored, correct)
    if scored.skipped is not None:
        metrics["overlong_skipped"] = scored.skipped
    if scored.has_turns:
        metrics |= turn_metrics(episodes, sum(gather([scored.no_room])))
    lengths = np.bincount(np.cumsum(np.append(False, is_last_turn[:-1])), weights=completions["length"])
    if (correlation := correlation_of(episodes["reward"], lengths)) is not None:
        metrics["completions/reward_length_correlation"] = correlation
    return metrics | task_metrics(episodes, tasks, is_first=generation == 0)


def gathered_columns(scored: Rows, ended: list[bool]) -> dict[str, np.ndarray]:
    """{name: (B,) float64}, a value for each completion of all processes, in ascending order of episodes.

    `length` counts the places of a completion up to its end token, also those that stayed masked. `written` counts the
    places among them that the model unmasked, and `unmasked` all places that it unmasked, also behind the end. None of
    the three counts what a template gave. `nats` is the sum of -log p over the `written` tokens, `repeated` their
    `repeated_share`, and `passes` the number of denoising steps.
    """
    written = scored.completion_mask & (scored.unmask_step >= 0)
    ids_and_written = zip(scored.completion_ids.cpu(), written.cpu(), strict=True)
    written_ids = [ids[is_written].tolist() for ids, is_written in ids_and_written]
    columns = {
        "episode": scored.episode.numpy(),
        "generation": scored.generation.numpy(),
        "reward": scored.rewards,
        "correct": scored.correct,
        "length": scored.completion_mask.sum(-1).numpy(force=True),
        "clipped": ~np.array(ended),
        "repeated": np.array([repeated_share(row) for row in written_ids]),
        "nats": -(scored.unmask_logps * written).sum(-1).numpy(force=True).astype(float),
        "written": written.sum(-1).numpy(force=True),
        "unmasked": (scored.unmask_step >= 0).sum(-1).numpy(force=True),
        # Denoising steps are counted from 0, so there are one more than the number of the last one.
        "passes": (scored.passes if "passes" in scored else 1 + scored.unmask_step.amax(-1)).numpy(
            force=True
        ),
        **{f"rewards/{name}/mean": values for name, values in scored.components.items()},
    }
    if scored.has_turns:
        columns |= {"turn": scored.turn.numpy(), "truncated": scored.truncated}
    parts = gather([columns])
    gathered = {name: np.concatenate([part[name] for part in parts]).astype(float) for name in columns}
    order = gathered["episode"].argsort(kind="stable")
    return {name: values[order] for name, values in gathered.items()}


def repeated_share(ids: list[int], n: int = 4) -> float:
    """The share of the runs of n tokens of a completion that it has had before; 0 for fewer than n tokens."""
    runs = [tuple(ids[start : start + n]) for start in range(len(ids) - n + 1)]
    return 1 - len(set(runs)) / len(runs) if runs else 0.0


def correlation_of(rewards: np.ndarray, lengths: np.ndarray) -> float | None:
    """The correlation of rewards (E,) and lengths (E,), from -1 to 1; None if all rewards or all lengths are equal."""
    if np.ptp(without_rounding(rewards)) == 0 or np.ptp(lengths) == 0:
        return None
    return float(np.corrcoef(rewards, lengths)[0, 1])


def gathered_episodes(scored: Rows) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(texts, tasks, failures), an entry for each episode of all processes, in ascending order of episodes.

    A text is all that the model wrote in the episode. A failure is the reason why the episode could not be scored; None
    if it was scored.
    """
    episodes_here = [
        (
            int(scored.episode[b]),
            "\n".join(scored.dialogue(b)[0]),
            scored.problems[b].task,
            scored.reason[b] if is_failure(scored.reason[b], scored.traceback[b]) else None,
        )
        for b in scored.last_turns
    ]
    by_episode = itemgetter(0)
    episodes = np.array(sorted(gather(episodes_here), key=by_episode), dtype=object)
    _, texts, tasks, failures = episodes.T
    return texts, tasks, failures


def group_metrics(rewards: np.ndarray, correct: np.ndarray, texts: np.ndarray) -> dict[str, float]:
    """Metrics that say how alike the episodes of a group are. rewards, correct, texts: (P, G), a row for each group."""
    all_correct = [bool((group == 1).all()) for group in correct]
    all_wrong = [bool((group == 0).all()) for group in correct]
    identical = [bool((group == group[0]).all()) for group in texts]
    # Equal texts are judged alike, so the first verdict of such a group is that of all.
    wrong_identical = [same and not group[0] for same, group in zip(identical, correct, strict=True)]
    # The range of equal rewards is exactly 0. Their standard deviation may not be: of rewards of 0.1 it is 1e-17.
    equal = [bool(np.ptp(group) == 0) for group in rewards]
    equal_not_all_correct = [same and not right for same, right in zip(equal, all_correct, strict=True)]
    return {
        "reward_std": float(np.mean([group.std() for group in rewards])),
        "frac_reward_zero_std": float(np.mean(equal)),
        "frac_reward_zero_std_not_all_correct": float(np.mean(equal_not_all_correct)),
        "frac_groups_all_correct": float(np.mean(all_correct)),
        "frac_groups_all_wrong": float(np.mean(all_wrong)),
        "frac_groups_identical": float(np.mean(identical)),
        "frac_groups_wrong_identical": float(np.mean(wrong_identical)),
    }


def set_aside_metrics(scored: Rows, correct: np.ndarray) -> dict[str, int]:
    """How many batches of groups a step sampled, and how many groups it set aside that are all right or all wrong.

    The step learns from the groups with the numbers `scored.chosen`, and sets the others aside. correct: (P, G), of all
    groups that were sampled.
    """
    set_aside = np.setdiff1d(np.arange(len(correct)), scored.chosen)
    return {
        "rollout_batches": scored.batches,
        "groups/all_right": int(correct[set_aside].all(axis=1).sum()),
        "groups/all_wrong": int((correct[set_aside] == 0).all(axis=1).sum()),
    }


def turn_metrics(episodes: dict[str, np.ndarray], no_room: int) -> dict[str, float]:
    """How many turns episodes had, how they ended, and the mean reward of those with 1 turn, with 2, and so on.

    no_room: how many episodes ended because their next prompt was too long.
    """
    turns = episodes["turn"] + 1
    return {
        "turns/mean": float(turns.mean()),
        "turns/truncated": int(episodes["truncated"].sum()),
        "turns/no_room": no_room,
        **{
            f"turns/reward_of_{n:.0f}": float(episodes["reward"][turns == n].mean()) for n in np.unique(turns)
        },
    }


def task_metrics(episodes: dict[str, np.ndarray], task: np.ndarray, is_first: np.ndarray) -> dict[str, float]:
    """The figures of each task of a mixture; none if the environment is a single task.

    task: (N,), the name of each episode's task, "" for a single one. is_first: (N,) bool, whether an episode is the
    first of its group.
    """
    metrics: dict[str, float] = {}
    for name in sorted({*task} - {""}):
        columns_of_task = {column: values[task == name] for column, values in episodes.items()}
        figures = {"solved": columns_of_task["correct"].mean(), "reward": columns_of_task["reward"].mean()}
        figures |= component_means(columns_of_task)
        metrics |= {f"{name}/{figure}": float(value) for figure, value in figures.items()}
        metrics[f"{name}/groups"] = int((is_first & (task == name)).sum())
    return metrics


def component_means(episodes: dict[str, np.ndarray]) -> dict[str, float]:
    """The mean of each reward component over the episodes whose task has it; the values of other episodes are NaN."""
    means = {}
    for name, values in episodes.items():
        if name.startswith("rewards/"):
            values = values[~np.isnan(values)]
            if len(values):
                means[name] = float(values.mean())
    return means

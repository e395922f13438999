"""How often a model solves a task: the solved rate with its Wilson interval, on problems it was not trained on."""

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from spg_trainer.batch import Rollouts
from spg_trainer.config import Sampling
from spg_trainer.errors import ConfigError
from spg_trainer.installed import envs
from spg_trainer.models import Policy
from spg_trainer.resolve import load_preset, model_environment, preset_kind
from spg_trainer.rollouts import Failures, Scored, sample_and_score, sample_rows
from spg_trainer.statistics import pass_at_k, solved_rate, wilson
from spg_trainer.tasks import short_name

if TYPE_CHECKING:
    from accelerate import Accelerator

    from envs import TextEnv


@dataclass(frozen=True)
class Evaluation:
    """The figures of one evaluation; `rows` holds every completion in the format of samples/."""

    correct: float
    """Solved rate over all completions, 0..1."""
    n: int
    """Completions judged."""
    low: float
    """Lower end of the Wilson 95% interval of `correct`; problems, not completions, are its sample size."""
    high: float
    """Upper end of that interval."""
    rewards: dict[str, float]
    """Mean of each reward component."""
    mean_length: float
    """Mean tokens of a completion, the end token included."""
    clipped_ratio: float
    """Share of completions without an end token."""
    reasons: dict[str, int]
    """Outcome -> completions."""
    pass_at: dict[int, float]
    """k -> unbiased pass@k, for every power of two up to the number of generations."""
    settings: dict[str, Any]
    """Environment, split, sampling: what must be equal for two figures to be comparable."""
    rows: list[dict[str, Any]] = field(repr=False, default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON."""
        return {k: v for k, v in asdict(self).items() if k != "rows"}


def evaluate(
    policy: Policy,
    env: "str | TextEnv" = "sudoku",
    sampling: Sampling | None = None,
    *,
    split: str = "test",
    num_generations: int = 1,
    num_problems: int = 0,
    seed: int = 0,
    rows_per_forward: int | None = None,
    accelerator: "Accelerator | None" = None,
    advance: Callable[[int], None] | None = None,
) -> Evaluation:
    """Solves the problems of a split and counts.

    Args:
        policy: what `load_model` returns.
        env: a name for `envs.make`, opened with the arguments that suit the model, or a `TextEnv` made before.
        split: problems to solve; of a `TextEnv` that does not say its split, the name to record.
        sampling: completion length, steps, temperature; by default the model's own lengths (of its
            environment.json, else of the preset that suits it) at temperature 0.
        num_generations: completions per problem; more than 1 needs a temperature above 0.
        num_problems: problems from the start of the split; 0 = all.
        rows_per_forward: completions decoded at once; memory only. None = see `rollout`.
        accelerator: shares the problems among its processes; the result is the same on each of them.
        advance: called with the number of problems done since the last call.

    Raises:
        ConfigError: a number out of range, several generations at temperature 0.
    """
    name = env if isinstance(env, str) else env.spec_name.partition("[")[0]
    sampling = sampling or preset_sampling(policy, name)
    check_counts(num_problems, num_generations, sampling)
    env = envs.make(env, split=split, **preset_arguments(policy, env)) if isinstance(env, str) else env
    count = min(num_problems or len(env), len(env))
    world, rank = (accelerator.num_processes, accelerator.process_index) if accelerator else (1, 0)
    rows: list[dict[str, Any]] = []
    mine = np.arange(count)[rank::world]
    chunk = max(1, 256 // num_generations)
    failures = Failures(len(mine) * num_generations)
    for start in range(0, len(mine), chunk):
        index = np.repeat(mine[start : start + chunk], num_generations)
        scored = sample_and_score(
            policy,
            env,
            index,
            np.tile(np.arange(num_generations), len(index) // num_generations),
            sampling,
            key=("eval",),
            seed=seed,
            rows_per_forward=rows_per_forward,
            failures=failures,
        )
        rows += evaluation_rows(policy, env, scored)
        if advance:
            advance(len(mine[start : start + chunk]) * world)
    split = getattr(env, "split", split)  # an author need not keep the argument
    return count_up(gathered(rows, world), env, sampling, num_generations, seed, split)


def gathered(rows: list[dict[str, Any]], num_processes: int) -> list[dict[str, Any]]:
    """The rows of all processes, in the order of problems and generations."""
    if num_processes > 1:
        from accelerate.utils import gather_object

        rows = gather_object(rows)
    return sorted(rows, key=lambda row: (row["index"], row["generation"]))


def check_counts(num_problems: int, num_generations: int, sampling: Sampling) -> None:
    """Raises ConfigError for numbers that no evaluation can have."""
    if num_problems < 0:
        raise ConfigError(f"num_problems={num_problems}: should be 0 (the whole split) or more.")
    if num_generations < 1:
        raise ConfigError(f"num_generations={num_generations}: should be at least 1.")
    if num_generations > 1 and sampling.temperature == 0:
        raise ConfigError(
            f"num_generations={num_generations} at temperature 0 gives equal completions. Set a temperature above 0."
        )


def evaluation_rows(policy: Policy, env: "TextEnv", scored: Scored) -> list[dict[str, Any]]:
    """The rows of samples/, each with its `length` in tokens and whether it `ended`; no key is the author's."""
    lengths = scored.rollouts.completion_mask.sum(-1).tolist()
    rows = sample_rows(scored, env=env, step=-1)
    return [
        {**row, "length": length, "ended": done}
        for row, length, done in zip(rows, lengths, ended(policy, scored.rollouts), strict=True)
    ]


def ended(policy: Policy, rollouts: Rollouts) -> list[bool]:
    """Whether each completion has an end token."""
    found = False
    for token in policy.end_token_ids:
        found = found | (rollouts.completion_ids == token)
    return (found & rollouts.completion_mask).any(-1).tolist()


def count_up(
    rows: list[dict[str, Any]], env: Any, sampling: Sampling, num_generations: int, seed: int, split: str
) -> Evaluation:
    """The figures of the rows of all processes."""
    per_problem = [
        [r["correct"] for r in rows[i : i + num_generations]] for i in range(0, len(rows), num_generations)
    ]
    rate = solved_rate([r["correct"] for r in rows])
    if num_generations > 1:  # completions of one problem are not independent
        mean = sum(sum(group) for group in per_problem) / len(rows)
        rate["low"], rate["high"] = wilson(mean * len(per_problem), len(per_problem))
    powers = [2**i for i in range(num_generations.bit_length()) if 2**i <= num_generations]
    return Evaluation(
        **rate,
        rewards={name: float(np.mean([r["rewards"][name] for r in rows])) for name in rows[0]["rewards"]},
        mean_length=float(np.mean([r["length"] for r in rows])),
        clipped_ratio=1 - float(np.mean([r["ended"] for r in rows])),
        reasons=dict(Counter(r["reason"] for r in rows).most_common()),
        pass_at={k: float(np.mean([pass_at_k(sum(g), len(g), k) for g in per_problem])) for k in powers},
        settings=settings(env, sampling, num_generations, len(per_problem), seed, split),
        rows=rows,
    )


def settings(
    env: "TextEnv", sampling: Sampling, num_generations: int, num_problems: int, seed: int, split: str
) -> dict[str, Any]:
    """What must be equal for two evaluations to be comparable."""
    return {
        "env": env.spec_name,
        **({"origin": dict(env.origin)} if env.origin else {}),
        "split": split,
        "seed": seed,
        "num_problems": num_problems,
        "num_generations": num_generations,
        **asdict(sampling),
    }


def preset_sampling(policy: Policy, env: str) -> Sampling:
    """Greedy decoding at the lengths that the model was made with for this task, else at its preset's."""
    rollout = {**load_preset(env, preset_kind(policy.source))["rollout"], **recorded(policy, env, "rollout")}
    return Sampling(**{**rollout, "temperature": 0.0})


def preset_arguments(policy: Policy, env: str) -> dict[str, Any]:
    """The environment's arguments that the model was made with for this task, over those of its preset."""
    preset = load_preset(env, preset_kind(policy.source))
    return {**preset.get("env_args", {}), **recorded(policy, env, "env_args")}


def recorded(policy: Policy, env: str, name: str) -> dict[str, Any]:
    """An entry of the model's environment.json, if the model was made for this task; the command line's rule."""
    found = model_environment(policy.source)
    return dict(found.get(name) or {}) if short_name(str(found.get("env"))) == short_name(env) else {}

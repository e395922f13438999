"""What every algorithm has in common: hyper-parameters, a masking, advantages and a pure loss.

Axes: P prompts, G generations, B completions, M masks, T completion tokens.

A loss is made of log-probabilities (logps). For these, the model sees M copies of each completion, each with some of
its tokens masked. Tokens whose log-probability is taken are *scored*. A masking (likelihood/masking.py) decides both.

In the formulas of the other files, b is one of N completions, with n_b tokens, the reward R_b and the advantage A_b. i
is a token. r is its importance ratio: its probability under the current model, divided by its probability under the
model that sampled it. k3 is its KL penalty (both are in ratios.py).
"""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args

from spg_trainer.errors import ConfigError, did_you_mean
from spg_trainer.settings import packages
from spg_trainer.settings.types import Below1, Count, Positive, argument_with_value, check_values

if TYPE_CHECKING:
    from torch import Tensor

    from spg_trainer.likelihood.masking import Masking
    from spg_trainer.tensors import Masks, Record, Rows


Per = Literal[
    "completions",
    "scored_completions",
    "scored_tokens",
    "rewarded_completions",
    "rewarded_tokens",
    "update",
    "max",
    "min",
]
"""What the sum of a metric is divided by, or that it is no sum: see `Metric.per`."""


class Metric(NamedTuple):
    """A figure of an update: `total` is summed over all micro-batches and processes, and the sum is divided by `per`.

    E.g. the mean KL of scored tokens is Metric(kl.sum(), "scored_tokens"), and the largest is Metric(kl.max(), "max").
    """

    total: Tensor
    """Scalar, without a graph."""
    per: Per
    """What the sum is divided by: the number of these in the update.

    - `completions`: all completions
    - `scored_completions`: those that were scored
    - `scored_tokens`: scored tokens of all masks
    - `rewarded_completions`, `rewarded_tokens`: the scored ones that have an advantage; others may be scored for a
      penalty, for example
    - `update`: 1

    With `max` or `min`, `total` is an extreme of the completions at hand, and the metric is that of the whole step.
    """


@dataclass(frozen=True)
class Loss:
    """What an algorithm's `loss` returns: the loss, and the metrics to report."""

    loss: Tensor
    """Scalar to minimise: a sum over the completions at hand, divided by totals over the whole update."""
    metrics: dict[str, Metric]
    """Figures by name; they add up over micro-batches and processes."""


OF_THE_TRAINER = re.compile(
    "|step|loss|learning_rate|grad_norm(_max)?|updates_skipped|is_applied"  # of updates; "" is no name
    "|reward(_std)?|correct|num_tokens|frac_.+|rollout_batches|overlong_skipped|env_errors"  # of rollouts
    "|(completions|decoding|engine|env_errors|groups|logged|pools|rewards|turns|user|validation)/.+"
    "|.+/(solved|reward|groups|rewards/.+/mean)"  # of a task in a mixture
    "|rollout|update|tokens_per_second|per_device_batch_size|rows_per_forward|passes_for_others|router/.+"  # timings
)
"""Matches the names of the trainer's own figures of a step, which a metric of the same name would replace."""


def fault_of_name(metric: str) -> str:
    """Why a loss may not return a metric of this name, as the object of a sentence; "" if it may."""
    if not OF_THE_TRAINER.fullmatch(metric):
        return ""
    return (
        f"the metric {metric!r}, the name of a figure of the trainer, which it would replace. Rename it, e.g. to "
        f"'mine_{metric.replace('/', '_')}'"
    )


Advantage = Literal["mean", "mean_std", "z_score", "leave_one_out"]
"""How a reward becomes an advantage.

- `mean`: the reward minus the mean reward of its group
- `mean_std`: `mean`, divided by (the group's sample standard deviation + 1e-4), as in GRPO
- `z_score`: `mean`, divided by the group's population standard deviation
- `leave_one_out`: the reward minus the mean reward of the others in its group
"""
Compares = Literal["copy", "completion", "episode", "group", "update"]
"""What the terms of a loss compare.

- `copy`: nothing is compared; each masked copy has terms of its own
- `completion`: the masked copies of a completion
- `episode`: the turns of an episode
- `group`: the completions of a group
- `update`: the completions of the whole update
"""
Need = Literal["old", "reference", "pairs", "demonstrations", "correct", "measured"]
"""What an algorithm may ask of the trainer: see `Algorithm.needs`."""


def with_penalty(beta: float, *others: Need) -> frozenset[Need]:
    """The needs `others`, and "reference" if beta, the weight of a penalty for leaving the reference, is above 0.

    E.g. with_penalty(0.04, "old") is {"old", "reference"}, and with_penalty(0.0, "old") is {"old"}.
    """
    return frozenset({*others, "reference"} if beta > 0 else others)


@dataclass(frozen=True)
class Algorithm(ABC):
    """Hyper-parameters, each settable by `--algorithm-args`; most defaults are those of the SPG paper.

    A subclass is a frozen dataclass with a `loss`. It may add fields: numbers, words, bools, Literals, and optional
    values or tuples of these.
    """

    masking: str = "block"
    """What the model is shown when a completion is scored: a name of `MASKINGS`."""
    num_masks: Count = 2
    """M, masked copies of each completion."""
    p_mask_prompt: Below1 = 0.0
    """Chance that a prompt token is masked; with the masking `block`, a token of an earlier block, too. The code of d1
    has 0.15."""
    block_length: Count = 32
    """Tokens of a block, for the maskings `block` and `block_active`; usually as many as in the rollout."""
    advantage: Advantage = "mean"
    """How a reward becomes an advantage: see `Advantage`."""
    score_tail: bool = False
    """Whether the positions after the first end token are scored, too, up to T. They then hold padding, whatever was
    sampled; LLaDA is padded with end tokens."""
    end_tokens: Literal["any", "eos"] = "any"
    """Which tokens end a completion: any of the model's end tokens, or only the one its tokenizer calls eos."""

    edit_noise: Below1 = 0.0
    """Chance that a completion token which a copy shows is replaced by a wrong one, and scored: so the model learns to
    correct what it wrote (LLaDA2.1). Set it, e.g. to 0.1, for a model that decodes with --editing-threshold."""
    edit_weight: Positive = 1.0
    """What a wrong token weighs in the bound; a token shown as [MASK] weighs what the masking says."""

    compares: ClassVar[Compares] = "completion"
    """What `loss` must see at once: no term of the loss goes beyond one completion, one group and so on.

    - `completion`: the trainer keeps all copies of a completion in one micro-batch
    - `episode`, `group`: the trainer keeps the active completions of an episode or group in one micro-batch
    - `copy`: the gradient in the logps of a masked copy depends on this copy alone, so each goes through the model once
    - `update`: see `CoupledAlgorithm`
    """
    needs: ClassVar[frozenset[Need]] = frozenset()
    """What else the trainer provides.

    - `old`: `batch.old_logps`, the logps under the model that sampled; in the first update of a step that is still the
      current model, so they are the current logps, detached
    - `reference`: `batch.ref_logps`, under the model that training started from
    - `pairs`: nothing more, but the algorithm can learn from the pairs of a file (--pairs), which no model sampled
    - `demonstrations`: nothing more, but the algorithm can learn from demonstrations (`sft`)
    - `correct`: for `prepare` the column `correct`, which says which completions are right
    - `measured`: `batch.measured`, a figure of the model at positions that the masking names
    """
    ref_model_sync_steps: ClassVar[int] = 0
    """How many updates lie between two moves of the reference towards the current weights; 0 = the reference stays the
    model that training started from. It also stays if adapters are trained: what they add to the weights cannot be
    mixed."""
    ref_model_mixup_alpha: ClassVar[float] = 1.0
    """How far the reference moves: its weights become alpha * (current weights) + (1 - alpha) * (its old weights)."""
    right_groups_teach: ClassVar[bool] = False
    """Whether a group whose completions are all correct has advantages, e.g. because rewards are compared over the
    whole step."""
    trust_region: ClassVar[float] = math.inf
    """How far a token's logps may be from its old ones before the loss has no gradient by its own rule: the check of an
    algorithm draws them within it."""
    left_to_right: ClassVar[bool] = False
    """Whether completions must be sampled token by token, with --block-length 1."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        if not cls.__module__.startswith("spg_trainer."):
            # A run names the class by its file, and must take it from the module that Python has.
            packages.envs.own_files.note_registration(cls)

    @property
    def dealt_by(self) -> Literal["episode", "group"]:
        """What a rollout divides among the processes: episodes, or whole groups if the loss compares them."""
        return "group" if self.compares == "group" else "episode"

    @property
    def records(self) -> frozenset[Record]:
        """What a rollout must record for the algorithm and its masking."""
        return self.make_masking().records

    @property
    def reads_path(self) -> bool:
        """Whether it learns from how the sampler wrote a completion, and not from the finished text alone."""
        return self.left_to_right or bool(self.records) or self.make_masking().follows_path

    def __post_init__(self) -> None:
        check_values(self, argument_with_value)
        if self.masking not in (names := self.maskings()):
            choice = f"expected one of {', '.join(names)}. {did_you_mean(self.masking, names)}".rstrip()
            raise ConfigError(f"{argument_with_value('masking', self.masking)}: {choice}")
        # The trainer asks for these words by name, so one that is misspelt would be as if it were not there.
        for name, said, words in (
            ("compares", [self.compares], get_args(Compares)),
            ("needs", self.needs, get_args(Need)),
        ):
            for word in said:
                if word not in words:
                    choice = f"expected one of {', '.join(words)}. {did_you_mean(word, words)}".rstrip()
                    raise ConfigError(f"{type(self).__name__}.{name} says {word!r}: {choice}")
        if self.masking == "trajectory":
            shows_prompt = self.p_mask_prompt == 0
            expected = "0 for masking=trajectory, which shows what the sampler saw"
            self.require("p_mask_prompt", shows_prompt, expected)
        if self.masking in ("trajectory", "step_merge", "block_steps", "trace"):
            expected = f"false for masking={self.masking}, which has no such tail"
            self.require("score_tail", not self.score_tail, expected)
        if self.compares == "update" and not isinstance(self, CoupledAlgorithm):
            raise ConfigError(
                f"{type(self).__name__} compares the completions of an update, so it must be a CoupledAlgorithm, "
                "whose coupled_loss sees them all"
            )
        masking = self.make_masking()  # raises ConfigError for settings that the masking refuses
        if self.edit_noise:
            if masking.noise == "uniform":
                expected = f"left out with masking={self.masking}: its models are shown random tokens anyway"
            else:
                no_tokens = "which shows no tokens at random, as masking=random does"
                expected = f"left out with masking={self.masking}, {no_tokens}"
            shows_at_random = masking.noise == "mask" and not masking.follows_path and self.masking != "all"
            self.require("edit_noise", shows_at_random, expected)
        else:
            self.require(
                "edit_weight", self.edit_weight == 1, "left out without an edit_noise, whose weight it is"
            )

    def require(self, name: str, fine: bool, expected: str) -> None:
        """Raises ConfigError unless the value of a field is `fine`; the message says what is `expected`."""
        if not fine:
            raise ConfigError(f"{argument_with_value(name, getattr(self, name))}: should be {expected}.")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        """{name: masking}, the choices of the field `masking`."""
        from spg_trainer.likelihood.random_masks import MASKINGS

        return MASKINGS

    def make_masking(self) -> Masking:
        """The chosen masking, whose settings have the values of the hyper-parameters of the same names.

        E.g. `num_masks` and `block_length` of the algorithm become those of a `BlockMasking`.
        """
        chosen = self.maskings()[self.masking]
        names = [setting.name for setting in fields(chosen) if hasattr(self, setting.name)]
        settings = {name: getattr(self, name) for name in names}
        return replace(chosen, **settings)

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """The columns that `loss` needs, `advantages` among them, computed once a step, before its updates.

        `advantages` is (B,) float64. Other columns may be tensors of B rows, or numbers that hold for the whole step;
        `loss` finds them in its batch, e.g. as `batch.segments`.

        rows: those of all processes, on the CPU. B is P*G; if episodes have turns, it is the number of all turns.
        `rows.cut_into_groups(rows.rewards)` are the rewards (P, G), and `rows.spread` gives each turn what holds for
        its episode.
        """
        return {"advantages": rows.spread(self.compute_advantages(rows.cut_into_groups(rows.rewards)))}

    def compute_advantages(self, rewards: Tensor) -> Tensor:
        """(P*G,) advantages of rewards (P, G), group after group, as the field `advantage` says.

        They are exactly zero where all rewards of a group are equal. Raises ConfigError for groups of one completion.
        """
        if rewards.ndim != 2:
            shape = tuple(rewards.shape)
            raise ConfigError(
                f"rewards of the shape {shape} are not cut into groups; compute_advantages takes (P, G), as "
                "rows.cut_into_groups(rows.rewards) returns them"
            )
        size = rewards.shape[1]
        if size < 2:
            raise ConfigError("a group of 1 has nothing to be compared with; set $num_generations=2 or more")
        # The group's first reward is subtracted first, so that equal rewards have advantages of exactly 0.
        shifted = rewards - rewards[:, :1]
        advantages = shifted - shifted.mean(1, keepdim=True)
        if self.advantage == "mean_std":  # 1e-4 is as in TRL's GRPO
            advantages = advantages / (shifted.std(1, keepdim=True) + 1e-4)
        elif self.advantage == "z_score":
            deviation = rewards.std(1, correction=0, keepdim=True)
            advantages = advantages / deviation.where(deviation > 0, 1.0)
        elif self.advantage == "leave_one_out":
            # The distance from the mean of the others is G/(G-1) times the distance from the mean of all.
            advantages = advantages * (size / (size - 1))
        return advantages.reshape(-1)

    def active(self, advantages: Tensor) -> Tensor:
        """(B,) bool, which completions change the loss; the others are not scored.

        Usually those with an advantage do. If the loss has a penalty for leaving the reference, all do.
        """
        return (advantages != 0) | ("reference" in self.needs)

    @abstractmethod
    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        """The loss of B completions, differentiable in logps (B, M, T), which are zero where not scored.

        Pure: no randomness, no logging, no model.
        """


def prepare_columns(algorithm: Algorithm, rows: Rows) -> dict[str, Tensor | float]:
    """The columns that `algorithm.prepare` returns for the rows of a step.

    A tensor without axes becomes a number, which holds for the whole step. Raises ConfigError for any other tensor that
    does not have one row for each row of the step, and for a name that rows have already.
    """
    import torch

    returned, who_returned = algorithm.prepare(rows), f"{type(algorithm).__name__}.prepare returned"
    if not isinstance(returned, Mapping):
        raise ConfigError(
            f"{who_returned} {returned!r:.80}. It must return a dict of columns, {{}} for none."
        )
    prepared = dict(returned)
    if "advantages" not in prepared:
        raise ConfigError(
            f"{who_returned} no 'advantages'. Return one for each completion, e.g. with "
            "{**super().prepare(rows), ...}."
        )
    # `advantages` is a column that `Rows` declares, but only `prepare` makes it.
    reserved_names = {*type(rows).__annotations__, *dir(rows)} - {"advantages"}
    for name, column in prepared.items():
        if name in reserved_names:
            raise ConfigError(f"{who_returned} {name!r}, which rows have already. Give it another name.")
        if not isinstance(column, torch.Tensor):
            continue
        if column.ndim == 0 and name != "advantages":  # each row must have an advantage of its own
            prepared[name] = float(column)
        elif column.ndim == 0 or len(column) != len(rows):
            returned_size = f"{len(column)} rows of" if column.ndim else "one number as"
            raise ConfigError(
                f"{who_returned} {returned_size} {name!r} for {len(rows)} completions. Return a row for each of them; "
                "rows.spread(values) gives each turn of an episode what holds for the episode."
            )
    return prepared


def loss_of_values(algorithm: Algorithm, masks: Masks, batch: Rows, values: Tensor) -> Loss:
    """The `Loss` of an algorithm for the values that a pass through the model returned, as the trainer computes it.

    values: log-probabilities (B, M, T). If the masks measure a figure, they are (B, M, 2T), with the figures last. In
    the first update of a step no weight has changed yet, so the old values are the current ones, detached.
    """
    logps, measured = masks.split(values)
    columns = {}
    if "token_weights" in batch:
        # The values stay, and the gradient of each token is multiplied by its weight.
        weights = batch.token_weights.unsqueeze(1).to(logps.dtype)
        logps = logps.detach() + weights * (logps - logps.detach())
    if "measured" in algorithm.needs:
        columns["measured"] = measured
    if "old" in algorithm.needs and "old_logps" not in batch:
        columns["old_logps"] = logps.detach()
        if "measured" in algorithm.needs:
            columns["old_measured"] = measured.detach()
    return algorithm.loss(logps, masks, batch.with_columns(**columns))


class CoupledAlgorithm(Algorithm):
    """An algorithm whose loss compares all completions of an update, on all processes, by one bound each.

    Of this package, only `rspo` is one: it centres distances from an anchor over the update, under the weights of now,
    so that no loss of some completions, and nothing that is prepared before the update, could say it.

    The trainer computes the bounds of all completions first, without a graph. The gradient of `coupled_loss` in a bound
    is a coefficient, with which the bound of that completion then goes backward. This example divides clipped ratios of
    sequences by their sum over the update:

    ```python
    from dataclasses import dataclass
    from typing import ClassVar

    from spg_trainer.algorithms import CoupledAlgorithm, Loss, Metric


    @dataclass(frozen=True)
    class SelfNormalised(CoupledAlgorithm):
        masking: str = "random"
        epsilon: float = 0.2
        needs: ClassVar[frozenset[str]] = frozenset({"old"})

        def coupled_loss(self, episodes) -> Loss:
            log_ratio = (episodes.bounds.detach() - episodes.old_bounds) / episodes.length
            ratio = log_ratio.exp().clamp(1 - self.epsilon, 1 + self.epsilon)
            loss = -(ratio * episodes.advantages * episodes.bounds).sum() / ratio.sum()
            return Loss(loss, {"ratio/mean": Metric(ratio.sum(), "scored_completions")})
    ```
    """

    compares: ClassVar[Compares] = "update"

    def bound(self, logps: Tensor, masks: Masks) -> Tensor:
        """(B,) the number by which `coupled_loss` compares a completion, linear in logps: the ELBO."""
        from spg_trainer.likelihood.bounds import elbo

        return elbo(logps, masks)

    def active(self, advantages: Tensor) -> Tensor:
        # A completion without an advantage is compared with the others, too.
        return advantages.new_ones(advantages.shape).bool()

    @abstractmethod
    def coupled_loss(self, episodes: Rows) -> Loss:
        """The loss of all E episodes of an update, on all processes, differentiable in their bounds. Pure, as `loss`.

        episodes: a row for each, with `bounds` (E,), and with `advantages`, `group`, `length` and `totals` as in a
        batch. If the algorithm needs `old`, `old_bounds` are the bounds under the model that sampled. If it needs
        `reference`, `ref_bounds` are those under the reference.
        """

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        """A sum with the gradient of `coupled_loss`, but not its value.

        `batch.coefficients` are the derivatives of `coupled_loss` by the bounds, as the trainer computed them before.
        """
        return Loss((batch.coefficients * self.bound(logps, masks)).sum(), {})


def rows_with_bounds(algorithm: CoupledAlgorithm, masks: Masks, batch: Rows, logps: Tensor) -> Rows:
    """What a coupled loss compares of the completions of a batch: their `bounds` (B,), and those before.

    `old_bounds` are the current ones if there are no `old_logps`; `ref_bounds` are there if there are `ref_logps`.
    """
    from spg_trainer.tensors import Rows

    bounds = algorithm.bound(logps, masks)
    columns = {name: getattr(batch, name) for name in ("advantages", "length", "episode", "group")}
    columns["old_bounds"] = algorithm.bound(batch.get("old_logps", logps), masks).detach()
    if "ref_logps" in batch:
        columns["ref_bounds"] = algorithm.bound(batch.ref_logps, masks)
    return Rows(bounds=bounds, **columns, max_turns=batch.max_turns)


def divide_by_normalizer(bounds: Tensor, batch: Rows, normalizer: str) -> Tensor:
    """(B,) bounds of completions (B,), divided as an algorithm's `normalizer` says.

    - `completions`, `tokens`: divided by the number of completions, or of tokens, of the update
    - `length`: divided by the completion's own tokens, and by the number of completions of the update

    The turns of an episode count as one completion. But `length` divides a turn by the tokens of this turn, not of the
    episode: otherwise the shortest episodes, lucky ones too, would count most.
    """
    if normalizer == "length":
        return bounds * (1 / (batch.length.double() * batch.totals["completions"])).to(bounds)
    return bounds * (1 / batch.totals[normalizer])

"""Tries, without a model, whether an algorithm keeps its contract: `python -m spg_trainer algorithms check FILE:CLASS`.

Each check tries a property on random rollouts, rewards and log-probabilities; the property must hold for all of them.
A check returns a text on what it found, and raises CheckFailed if the algorithm does not have the property. `CHECKS`
lists the checks.

Axes: B completions, M masked copies of each, T completion tokens; P prompts, G generations of each.
"""

import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from spg_trainer.algorithms.base import (
    Algorithm,
    CoupledAlgorithm,
    Loss,
    Metric,
    Need,
    Per,
    loss_of_values,
    prepare_columns,
)
from spg_trainer.algorithms.registry import build, exit_is_error
from spg_trainer.errors import ConfigError, written
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.likelihood.masking_check import OWN, TARGETS, difference_from_target
from spg_trainer.seeding import generator, numpy_generator
from spg_trainer.tensors import Masks, Record, Rows

PROMPTS, GENERATIONS = 3, 4
"""The problems of the random step that is checked, and the completions of each problem."""
PROMPT_TOKENS, TOKENS, BLOCK = 5, 8, 4
"""The tokens of a prompt, of a completion (at most) and of a block in this step."""
STEP = 1e-5
"""How far a log-probability is moved for a finite difference, in float64."""
TRIED = 24
"""For how many log-probabilities a finite difference is taken."""
CLOSE = 1e-5
"""How far a gradient may be from its finite differences, relative to its largest entry."""
PROVIDED: dict[str, Need] = {
    "old_logps": "old",
    "ref_logps": "reference",
    "measured": "measured",
    "old_measured": "measured",
}
"""{column of a batch: the name in `needs` for which the trainer provides it}."""
OF_THE_TRAINER = re.compile(
    "|step|loss|learning_rate|grad_norm(_max)?|updates_skipped|is_applied"  # of updates; "" is no name
    "|reward(_std)?|correct|num_tokens|frac_.+|rollout_batches|overlong_skipped|env_errors"  # of rollouts
    "|(completions|decoding|engine|env_errors|groups|logged|pools|rewards|turns|user|validation)/.+"
    "|.+/(solved|reward|groups|rewards/.+/mean)"  # of a task in a mixture
    "|rollout|update|tokens_per_second|per_device_batch_size|rows_per_forward|passes_for_others|router/.+"  # timings
)
"""Matches the names of the trainer's own figures of a step, which a metric of the same name would replace."""
DRAWS = 40
"""Over how many draws of the masked copies the mean weight of a token is taken."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. figure: what was measured; after a failure, what is wrong and what would be right."""

    name: str
    ok: bool
    figure: str


@dataclass(frozen=True)
class Case:
    """A whole update: the completions that change an algorithm's loss, with all that the trainer hands to the loss."""

    algorithm: Algorithm
    logps: Tensor
    """(B, M, T) float64, zero where not scored. If the masks also measure a figure of each token
    (`likelihood/logps.py`), (B, M, 2T): the figures are the last T columns."""
    masks: Masks
    batch: Rows

    def loss(self, logps: Tensor | None = None, **changes: object) -> Loss:
        """The loss at some logps (B, M, T); None = those of this case. changes: columns of the batch to replace."""
        batch = self.batch.with_columns(**changes)
        logps = self.logps if logps is None else logps
        if not isinstance(self.algorithm, CoupledAlgorithm):
            return checked_loss("loss", loss_of_values(self.algorithm, self.masks, batch, logps))

        def bound(values: Tensor) -> Tensor:
            return self.algorithm.bound(values, self.masks)

        episodes = Rows(
            bounds=bound(logps),
            old_bounds=bound(batch.get("old_logps", logps)).detach(),
            advantages=batch.advantages,
            group=batch.group,
            length=batch.length,
            totals=batch.totals,
        )
        if "ref_logps" in batch:
            episodes = episodes.with_columns(ref_bounds=bound(batch.ref_logps))
        return checked_loss("coupled_loss", self.algorithm.coupled_loss(episodes))

    def gradient(self, logps: Tensor | None = None) -> Tensor:
        """(B, M, T) the gradient of the loss in `logps`, of the same shape; None = those of this case."""
        logps = (self.logps if logps is None else logps).clone().requires_grad_()
        loss = self.loss(logps).loss
        if not loss.requires_grad:
            return torch.zeros_like(logps)
        return torch.autograd.grad(loss, logps, allow_unused=True)[0]

    def select(self, chosen: Tensor) -> "Case":
        """The case of some of the completions, whose batch keeps the totals of all. chosen: (B,) bool."""
        return Case(self.algorithm, self.logps[chosen], self.masks.select(chosen), self.batch.select(chosen))


def checked_loss(method: str, loss: object) -> Loss:
    """Returns `loss` as it is; raises CheckFailed if the trainer cannot take it.

    method: the name of the algorithm's method that returned it, for the message.
    """
    if not isinstance(loss, Loss):
        raise CheckFailed(
            f"{method} returned {type(loss).__name__}; it must return Loss(loss, metrics), with a scalar tensor"
        )
    if not isinstance(loss.loss, Tensor) or loss.loss.shape:
        shape = tuple(getattr(loss.loss, "shape", ()))
        described = f"{type(loss.loss).__name__} of the shape {shape}" if shape else f"{loss.loss!r:.80}"
        raise CheckFailed(
            f"{method} returned Loss(loss, metrics) with the loss {described}; it must be a scalar tensor"
        )
    if not torch.isfinite(loss.loss):
        raise CheckFailed(
            f"{method} returned Loss(loss, metrics) with the loss {float(loss.loss)}; it must be finite. Look for a "
            "division by 0 and a logarithm of 0"
        )
    if not isinstance(loss.metrics, Mapping):
        raise CheckFailed(
            f"{method} returned Loss(loss, metrics) with metrics={loss.metrics!r:.80}; it must be a dict"
        )
    for name, metric in loss.metrics.items():
        if fault := fault_of_name(str(name)):
            raise CheckFailed(f"{method} returned {fault}")
        has_scalar_total = (
            isinstance(metric, Metric) and isinstance(metric.total, Tensor) and not metric.total.shape
        )
        if not has_scalar_total or metric.per not in get_args(Per):
            raise CheckFailed(
                f"{method} returned the metric {name!r} as {metric!r:.80}; it must be Metric(total, per), with a "
                f"scalar tensor and one of {', '.join(get_args(Per))}"
            )
    return loss


def fault_of_name(metric: str) -> str:
    """Why a loss may not return a metric of this name, as the object of a sentence; "" if it may."""
    if not OF_THE_TRAINER.fullmatch(metric):
        return ""
    return (
        f"the metric {metric!r}, the name of a figure of the trainer, which it would replace. Rename it, e.g. to "
        f"'mine_{metric.replace('/', '_')}'"
    )


def check_algorithm(name: str, args: dict[str, object] | None = None) -> list[Finding]:
    """The findings of all checks on an algorithm. Raises ConfigError if it cannot be built.

    name: what --algorithm takes, e.g. `spg` or `./mine.py:Mine`. args: hyper-parameters; None = the defaults.
    """
    algorithm = build(name, {"block_length": BLOCK, **(args or {})})
    findings = []
    with exit_is_error():
        for title, check in CHECKS.items():
            try:
                finding = Finding(title, ok=True, figure=check(algorithm))
            except CheckFailed as failure:
                finding = Finding(title, ok=False, figure=str(failure))
            except (Exception, SystemExit) as error:  # what an author's code raises is a finding, too
                # A known fault says more than the error that it led to.
                what = fault_of_loss(algorithm) or f"{type(error).__name__}: {error}"
                finding = Finding(title, ok=False, figure=what)
            findings.append(finding)
    return findings


def fault_of_loss(algorithm: Algorithm) -> str:
    """The reason why the trainer cannot use an algorithm's loss, in words for its author; "" if none is known.

    The known reasons: the loss or `prepare` returned something invalid, the loss has no gradient or raised an error,
    advantages are not finite, also those of equal rewards, or the loss reads a column that `needs` does not name.
    """
    tried = "prepare"
    try:
        case = draw_case(algorithm)
        draw_case(algorithm, torch.ones(PROMPTS, GENERATIONS, dtype=torch.float64))
        tried = "loss"
        if not case.loss(case.logps.clone().requires_grad_()).loss.requires_grad:
            return "the loss has no gradient, so that nothing is learned. Compute it from logps, and detach it nowhere"
    except CheckFailed as failed:
        return str(failed)
    except ConfigError as error:  # of `prepare`
        return written(error)
    except (Exception, SystemExit) as error:
        if isinstance(error, AttributeError) and error.name in PROVIDED:
            need = PROVIDED[error.name]
            return (
                f"loss reads batch.{error.name}, which is not there, since needs does not name {need!r}. "
                f'Write needs: ClassVar[frozenset[str]] = frozenset({{"{need}"}})'
            )
        # Not for what raises only here: `prepare` may look at what real completions alone have, and a tensor of the
        # loss may have the sizes, the type and the device of a run. The check or the run that meets the fault shows it.
        if tried == "loss" and not isinstance(error, RuntimeError):
            file = getattr(sys.modules.get(type(algorithm).__module__), "__file__", None)
            frames = traceback.extract_tb(error.__traceback__)
            frame = [*frames[-1:], *(frame for frame in frames if frame.filename == file)][-1]
            return f"loss raised {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
    return ""


def refuse_unsound_loss(name: str, algorithm: Algorithm) -> None:
    """Raises ConfigError if `fault_of_loss` finds a fault in an algorithm from outside this package."""
    if what := fault_of_loss(with_short_blocks(algorithm)):
        raise ConfigError(
            f"$algorithm={name}: {what.rstrip('.')}. `python -m spg_trainer algorithms check {name}` tries more."
        )


def refuse_unsound_masking(name: str, algorithm: Algorithm) -> None:
    """Raises ConfigError if an algorithm's masking comes from outside this package and does not pass `masks_soundly`.

    So a user learns of the fault before a model is opened.
    """
    masking = type(algorithm.make_masking())
    if masking.__module__.startswith("spg_trainer."):
        return
    try:
        masks_soundly(with_short_blocks(algorithm))
    except CheckFailed as failed:
        what = str(failed)
    except (Exception, SystemExit) as error:  # whatever an author's masking can raise
        what = f"it raised {type(error).__name__}: {error}"
    else:
        return
    file = getattr(sys.modules.get(masking.__module__), "__file__", None) or masking.__module__
    raise ConfigError(
        f"$algorithm={name}: the masking {masking.__name__} ({file}), tried on {PROMPTS * GENERATIONS} completions of "
        f"up to {TOKENS} tokens: {what}. `python -m spg_trainer algorithms check {name}` tries more."
    )


def with_short_blocks(algorithm: Algorithm) -> Algorithm:
    """The algorithm with blocks that fit into the short completions which are tried here."""
    return replace(algorithm, block_length=BLOCK) if hasattr(algorithm, "block_length") else algorithm


class CheckFailed(Exception):
    """An algorithm did not pass a check; the text says what is wrong and what would be right."""


def draw_rollouts(seed: int = 0) -> Rows:
    """Completions of a sampler that unmasked one position a step, in random order.

    The lengths are random, except those of the first three: the longest, the shortest, and a short one whose first
    steps unmasked the positions after its end.
    """
    stream = numpy_generator(seed, "check")
    count = PROMPTS * GENERATIONS
    lengths = torch.from_numpy(stream.integers(1, TOKENS + 1, count))
    lengths[:3] = torch.tensor([TOKENS, 1, 3])
    unmask_step = torch.stack([torch.from_numpy(stream.permutation(TOKENS)) for _ in range(count)])
    unmask_step[2] = torch.arange(TOKENS).flip(0)
    ids = torch.from_numpy(stream.integers(0, 50, (count, PROMPT_TOKENS + TOKENS)))
    logps = -torch.from_numpy(stream.random((count, TOKENS))) - 0.05
    return Rows(
        prompt_ids=ids[:, :PROMPT_TOKENS],
        prompt_mask=torch.ones(count, PROMPT_TOKENS, dtype=torch.bool),
        completion_ids=ids[:, PROMPT_TOKENS:],
        completion_mask=torch.arange(TOKENS) < lengths[:, None],
        unmask_step=unmask_step,
        unmask_logps=logps,
        order=torch.zeros_like(unmask_step),  # each token is the only one of its step
        confidence_change=torch.from_numpy(stream.random((count, TOKENS))),
        fallback=torch.from_numpy(stream.random((count, TOKENS)) < 0.7),
    )


def draw_view(
    algorithm: Algorithm,
    rewards: Tensor | None = None,
    seed: int = 0,
    correct: Tensor | None = None,
    turns: int = 1,
) -> Rows:
    """A view: the rows of a step in the middle of a run, with the columns that `algorithm.prepare` may read.

    rewards: (P, G); by default 0 and 1 at random. correct: (P, G) bool; by default true where the reward is 1. turns:
    how many turns each episode has; all turns of an episode are equal.
    """
    stream = numpy_generator(seed, "check rewards")
    if rewards is None:
        rewards = torch.from_numpy(stream.integers(0, 2, (PROMPTS, GENERATIONS)).astype(float))
        rewards[:, 0], rewards[:, 1] = 1.0, 0.0  # every group is mixed
    episode = torch.arange(rewards.numel()).repeat_interleave(turns)
    groups = Rows.full_groups(*rewards.shape, max_turns=turns, rewards=rewards.reshape(-1), share_done=0.5)
    rows = groups.with_columns(**vars(draw_rollouts(seed))).select(episode).with_turns()
    not_recorded = set(get_args(Record)) - algorithm.records
    rows = rows.without(*not_recorded)
    if algorithm.score_tail:
        rows = rows.count_tail(pad_id=0)
    if pilot := algorithm.make_masking().pilot:
        seen = pilot.draw(rows, KeyedStreams(seed, ("check pilot",), rows.noise_keys())).scored
        figures = torch.from_numpy(numpy_generator(seed, "check figures").random(seen.shape))
        rows = rows.with_columns(pilot=figures.masked_fill(~seen, float("-inf")))
    if "correct" in algorithm.needs:
        is_right = rewards == 1 if correct is None else correct
        rows = rows.with_columns(correct=rows.spread(is_right.reshape(-1)))
    return rows


def draw_case(
    algorithm: Algorithm, rewards: Tensor | None = None, seed: int = 0, correct: Tensor | None = None
) -> Case:
    """The update that `case_of` makes of the rows that `draw_view` draws, which takes rewards and correct (P, G)."""
    view = draw_view(algorithm, rewards=rewards, seed=seed, correct=correct)
    return case_of(algorithm, view, seed)


def case_of(algorithm: Algorithm, view: Rows, seed: int = 0) -> Case:
    """An update with the rows of `view` (`draw_view`). Old and reference log-probabilities differ from current ones."""
    batch = view.with_columns(**prepare_columns(algorithm, view))
    streams = KeyedStreams(seed, ("check masks",), batch.noise_keys())
    masks, advantages = algorithm.make_masking().draw(batch, streams), batch.advantages
    if not torch.isfinite(advantages).all():
        raise CheckFailed(
            f"advantages of the rewards {view.rewards.tolist()} are {advantages.tolist()}; they must be finite. Look "
            "for a division by the spread of equal rewards"
        )
    active = algorithm.active(advantages)
    totals = {
        "completions": float(len(batch)),
        "tokens": float(batch.completion_mask.sum()),
        "scored_completions": float(active.sum()),
        "rewarded_completions": float((advantages != 0).sum()),
    }

    def random_values(key: str, highest: float) -> Tensor:
        """Uniform numbers from 0 to `highest` where a value is scored or measured, 0 elsewhere."""
        uniform = torch.rand(masks.valued.shape, generator=generator(seed, key), dtype=torch.float64)
        return highest * uniform * masks.valued

    logps = -random_values("check logps", 2.0) - 0.1 * masks.valued
    batch = batch.with_columns(totals=totals)
    if "old" in algorithm.needs:
        old, measured = masks.split(logps + random_values("check old", 0.02))
        batch = batch.with_columns(old_logps=old)
        if "measured" in algorithm.needs:
            batch = batch.with_columns(old_measured=measured)
    if "reference" in algorithm.needs:
        ref_logps, _ = masks.split(logps + random_values("check ref", 0.1))
        batch = batch.with_columns(ref_logps=ref_logps)
    return Case(algorithm, logps, masks, batch).select(active)


def is_pure(algorithm: Algorithm) -> str:
    """The loss is the same twice, draws nothing from a global stream and changes nothing that it is given."""
    case = draw_case(algorithm)
    before = [tensor.clone() for tensor in tensors_of(case)]
    state = torch.random.get_rng_state()
    first, second = case.loss().loss, case.loss().loss
    if not torch.equal(first, second):
        raise CheckFailed(
            f"loss gave {float(first):.6g}, then {float(second):.6g}, for equal arguments; draw nothing in it"
        )
    if not torch.equal(state, torch.random.get_rng_state()):
        raise CheckFailed("loss or prepare drew from torch's global stream; it must draw nothing")
    unchanged = [torch.equal(old, new) for old, new in zip(before, tensors_of(case), strict=True)]
    if not all(unchanged):
        raise CheckFailed("loss changed a tensor that it was given; make a new one")
    return f"equal twice ({float(first):.6g})"


def has_its_gradient(algorithm: Algorithm) -> str:
    """Autograd's gradient of the loss equals finite differences, at `TRIED` random places."""
    case = draw_case(algorithm)
    gradient = case.gradient()
    largest = float(gradient.abs().max())
    if not torch.isfinite(gradient).all():
        raise CheckFailed("the gradient is not finite; look for a division whose result is masked afterwards")
    if bool((gradient != 0)[~case.masks.valued].any()):
        raise CheckFailed(
            "a position that is not scored has a gradient; multiply by masks.scored or masks.weight"
        )
    if largest == 0:
        raise CheckFailed(
            "the gradient is zero though every group has right and wrong completions; is logps read?"
        )
    places = case.masks.valued.nonzero()  # (row, mask, token) of each value that the loss may read
    order = torch.randperm(len(places), generator=generator(0, "check places"))
    tried = places[order[:TRIED]]
    differences = torch.tensor([finite_difference(case, *place) for place in tried.tolist()])

    def distance(of_autograd: Tensor) -> float:
        """How far autograd's gradient is from the finite differences at most, relative to its largest entry."""
        rows, masks, tokens = tried.T
        return float((of_autograd[rows, masks, tokens] - differences).abs().max()) / largest

    if (worst := distance(gradient)) <= CLOSE:
        return f"equals finite differences to {worst:.0e}"
    # If the two agree once nothing is detached, the loss is right, and only its author can say what should be constant.
    with nothing_detached():
        whole_gradient = case.gradient()
    if distance(whole_gradient) > CLOSE:
        raise CheckFailed(
            f"autograd differs from finite differences by {worst:.1g} of the largest derivative"
        )
    return "equals finite differences, but for what the loss detaches: is that part meant to be constant?"


def finite_difference(case: Case, row: int, mask: int, token: int) -> float:
    """The derivative of the loss in one log-probability."""
    losses = []
    for sign in (1, -1):
        moved = case.logps.clone()
        moved[row, mask, token] += sign * STEP
        losses.append(float(case.loss(moved).loss))
    loss_above, loss_below = losses
    return (loss_above - loss_below) / (2 * STEP)


@contextmanager
def nothing_detached() -> Iterator[None]:
    """Inside, autograd also goes through what a loss detaches."""
    detach = torch.Tensor.detach
    torch.Tensor.detach = lambda tensor: tensor  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.Tensor.detach = detach  # type: ignore[method-assign]


def ignores_equal_rewards(algorithm: Algorithm) -> str:
    """Nothing is learned from the reward if all completions of a group earn the same and no completion is right."""
    rewards = torch.ones(PROMPTS, GENERATIONS, dtype=torch.float64)
    case = draw_case(algorithm, rewards, correct=torch.zeros_like(rewards, dtype=torch.bool))
    if bool((case.batch.advantages != 0).any()):
        raise CheckFailed(
            f"advantages of equal rewards are {case.batch.advantages.tolist()[:4]}; they must be zero"
        )
    # A penalty for leaving the reference and SPG's bonus have a gradient whatever the completions earn.
    has_gradient_without_rewards = "reference" in algorithm.needs or getattr(algorithm, "elbo_bonus", 0)
    nothing_is_scored = len(case.logps) == 0  # usually so for completions that have no advantage
    if has_gradient_without_rewards or nothing_is_scored:
        return "advantages are zero"
    if bool((case.gradient() != 0).any()):
        raise CheckFailed("the gradient is not zero though all rewards are equal")
    return "advantages and gradient are zero"


def divides_by_totals(algorithm: Algorithm) -> str:
    """The loss of the same completions is half as large if the update has twice as many completions and tokens."""
    if isinstance(algorithm, CoupledAlgorithm):
        return "is its own: it sees the whole update"
    case = draw_case(algorithm)
    doubled = {name: 2 * total for name, total in case.batch.totals.items()}
    loss, with_double = float(case.loss().loss), float(case.loss(totals=doubled).loss)
    if abs(with_double - loss / 2) > 1e-9 * max(1.0, abs(loss)):
        raise CheckFailed(
            f"with totals twice as large the loss is {with_double:.6g}, not half of {loss:.6g}. Divide by "
            "batch.totals, not by what is at hand: that would depend on the micro-batch and on the number of processes"
        )
    return "halves if an update has twice as many"


def adds_up(algorithm: Algorithm) -> str:
    """The losses of two micro-batches add up to the loss of both together.

    A group is not divided between them if the loss compares its completions.
    """
    if isinstance(algorithm, CoupledAlgorithm):
        return "is its own: it sees the whole update"
    case = draw_case(algorithm)
    by_group = algorithm.compares == "group"
    in_first = case.batch.group == 0 if by_group else torch.arange(len(case.logps)) % 2 == 0
    at_once = float(case.loss().loss)
    in_parts = sum(float(case.select(chosen).loss().loss) for chosen in (in_first, ~in_first))
    if abs(at_once - in_parts) > 1e-9 * max(1.0, abs(at_once)):
        hint = "" if by_group else ' If it compares completions of a group, set compares = "group".'
        raise CheckFailed(f"two micro-batches give {in_parts:.6g}, both together {at_once:.6g}.{hint}")
    return "over micro-batches"


def compares_what_it_says(algorithm: Algorithm) -> str:
    """`compares` names a unit: the gradient in the log-probabilities of a unit does not depend on those outside it."""
    if isinstance(algorithm, CoupledAlgorithm):
        return "the whole update, by the bounds of its completions"
    case, unit = draw_case(algorithm), algorithm.compares
    inside = torch.zeros_like(case.masks.valued)
    if unit == "copy":  # the first copy of each completion
        inside[:, 0] = True
    elif unit == "group":  # the first group
        inside[case.batch.group == case.batch.group[0]] = True
    else:  # the first completion, which is an episode, too, as there are no turns
        inside[0] = True
    moved = torch.where(inside, case.logps, case.logps - 0.3 * case.masks.valued)
    if not torch.allclose(case.gradient()[inside], case.gradient(moved)[inside], rtol=1e-9, atol=1e-12):
        raise CheckFailed(
            f"compares = {unit!r} says that the gradient of a {unit} depends on this {unit} alone, and it does not"
        )
    return f"nothing beyond a {unit}"


def needs_what_it_says(algorithm: Algorithm) -> str:
    """Each name in `needs` changes the gradient. (A loss that reads a column which `needs` does not name raises.)"""
    needs = algorithm.needs
    case = draw_case(algorithm)
    before = case.gradient()
    for name, column in (("old", "old_logps"), ("reference", "ref_logps")):
        if column not in case.batch:
            continue
        values = case.batch.get(column)
        noise = torch.rand(values.shape, generator=generator(0, "check needs"), dtype=values.dtype)
        shifted = case.batch.with_columns(**{column: values - 0.1 * noise * case.masks.scored})
        if torch.equal(before, replace(case, batch=shifted).gradient()):
            raise CheckFailed(
                f"needs names {name!r}, but batch.{column} does not change the gradient; leave it out"
            )
    view = draw_view(algorithm)
    # Functions, as a view has only the columns that the algorithm needs.
    other_views = {
        "correct": lambda: view.with_columns(correct=~view.correct),
    }
    for name in needs & other_views.keys():
        after = case_of(algorithm, other_views[name]()).gradient()
        if torch.equal(before, after):
            raise CheckFailed(f"needs names {name!r}, which does not change the gradient; leave it out")
    gradient_in_measured = before[..., TOKENS:]  # without measured figures, there are no such columns
    if "measured" in needs and not gradient_in_measured.any():
        raise CheckFailed(
            "needs names 'measured', but batch.measured does not change the gradient; leave it out"
        )
    return ", ".join(sorted(needs)) or "nothing beyond the completions"


def masks_soundly(algorithm: Algorithm) -> str:
    """The masks have the right shapes and are drawn from their own streams alone.

    The returned text says what a token weighs in the mean.
    """
    view, masking = draw_view(algorithm), algorithm.make_masking()
    keys = view.noise_keys()

    def draw_masks(seed: int) -> Masks:
        return masking.draw(view, KeyedStreams(seed, ("check masking",), keys))

    state = torch.random.get_rng_state()
    first, again = draw_masks(0), draw_masks(0)
    num_rows, num_copies = len(view), masking.count(TOKENS)
    if bool((first.weight[~first.scored] != 0).any()) or not bool(torch.isfinite(first.weight).all()):
        raise CheckFailed("a weight is not finite, or not 0 where nothing is scored")
    expected = {
        "masked": (num_rows, num_copies, PROMPT_TOKENS + TOKENS),
        "scored": (num_rows, num_copies, TOKENS),
        "weight": (num_rows, num_copies, TOKENS),
        "scale": (num_rows,),
        "part": (num_rows, TOKENS),
    }
    for name, shape in expected.items():
        if tuple(getattr(first, name).shape) != shape:
            raise CheckFailed(f"masks.{name} is {tuple(getattr(first, name).shape)}, not {shape}")
        if not torch.equal(getattr(first, name), getattr(again, name)):
            raise CheckFailed(f"equal streams gave other masks.{name}; draw from `row.streams` alone")
    if not torch.equal(state, torch.random.get_rng_state()):
        raise CheckFailed("the masking drew from a global stream; draw from `row.streams` alone")
    if bool((first.scored & ~first.masked[..., PROMPT_TOKENS:]).any()):
        raise CheckFailed("a token is scored though it is shown; scored must be a part of masked")
    all_masks = map(draw_masks, range(DRAWS))
    weights = torch.stack([(masks.weight.sum(-1).mean(-1) * masks.scale).double() for masks in all_masks])
    per_token = weights / view.completion_mask.sum(-1)
    mean = float(per_token.mean())
    standard_error = float(per_token.std(0).mean()) / (DRAWS * num_rows) ** 0.5
    return f"a token weighs {mean:.3f} +- {standard_error:.3f} in the mean of {DRAWS} draws; in a bound it weighs 1"


def masks_average_to_their_target(algorithm: Algorithm) -> str:
    """On a tiny completion, the mean over all masks is the masking's `target` (`likelihood/masking_check.py`)."""
    masking = algorithm.make_masking()
    known_targets = ", ".join(TARGETS)
    if masking.target in TARGETS:
        if difference := difference_from_target(masking):
            raise CheckFailed(
                f"target = {masking.target!r}, but {difference}. Correct what is masked or its weights, or name "
                f"another target ({known_targets}, or {OWN!r} if the docstring states one), or, if the mean is no "
                "likelihood, set is_likelihood = False"
            )
        description, _ = TARGETS[masking.target]
        return f"the mean over masks is {description}"
    if masking.target == OWN:
        return "is its own, which the masking's docstring states"
    if masking.target:
        raise CheckFailed(f"target = {masking.target!r} is none of {known_targets}, {OWN!r}")
    if masking.is_likelihood:
        raise CheckFailed(
            "the masking has is_likelihood = True, but its target does not say which likelihood. Write target: "
            f"ClassVar[str] = one of {known_targets}, or {OWN!r} if its docstring states another; if the mean over its "
            "masks is no likelihood, write is_likelihood = False"
        )
    return "none: the mean over masks is no likelihood"


def prepares_each_turn(algorithm: Algorithm) -> str:
    """`prepare` returns a row for each turn if episodes have two turns."""
    try:
        prepare_columns(algorithm, draw_view(algorithm, turns=2))
    except ConfigError as error:
        raise CheckFailed(str(error)) from error
    return "have a row each"


def tensors_of(case: Case) -> list[Tensor]:
    """All tensors that the loss of a case is given."""
    given = [case.logps, *vars(case.masks).values(), *vars(case.batch).values()]
    return [value for value in given if isinstance(value, Tensor)]


CHECKS: dict[str, Callable[[Algorithm], str]] = {
    "purity": is_pure,
    "gradient": has_its_gradient,
    "equal rewards": ignores_equal_rewards,
    "divisor": divides_by_totals,
    "micro-batches": adds_up,
    "compares": compares_what_it_says,
    "needs": needs_what_it_says,
    "turns": prepares_each_turn,
    "masking": masks_soundly,
    "target": masks_average_to_their_target,
}
"""{title: check}. The docstring of each check states what must hold."""

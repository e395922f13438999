"""The checks of `python -m spg_trainer algorithms check FILE:CLASS`, and what a start tries of a user's own class.

Each check tries a property on random rollouts, rewards and log-probabilities; the property must hold for all of them.
A check returns a text on what it found, and raises CheckFailed if the algorithm does not have the property. `CHECKS`
lists the checks.
"""

import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, CoupledAlgorithm, Need, prepare_columns
from spg_trainer.algorithms.registry import build, exit_is_error
from spg_trainer.checking.cases import (
    BLOCK,
    GENERATIONS,
    PROMPT_TOKENS,
    PROMPTS,
    TOKENS,
    Case,
    CheckFailed,
    case_of,
    draw_case,
    draw_view,
)
from spg_trainer.checking.targets import OWN, TARGETS, difference_from_target
from spg_trainer.errors import ConfigError, written
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.seeding import generator
from spg_trainer.tensors import Masks

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
DRAWS = 40
"""Over how many draws of the masked copies the mean weight of a token is taken."""


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. figure: what was measured; after a failure, what is wrong and what would be right."""

    name: str
    ok: bool
    figure: str


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


def refuse_unsound(name: str, algorithm: Algorithm) -> None:
    """Raises ConfigError for a user's own class whose masking or loss the trainer cannot use.

    So a user learns of it before a model is opened. A masking of this package is not tried.
    """
    if hasattr(algorithm, "block_length"):
        algorithm = replace(algorithm, block_length=BLOCK)  # fits into the short completions
    masking = type(algorithm.make_masking())
    what = ""
    if not masking.__module__.startswith("spg_trainer."):
        try:
            masks_soundly(algorithm)
        except (Exception, SystemExit) as error:  # whatever an author's masking can raise
            said = (
                str(error) if isinstance(error, CheckFailed) else f"it raised {type(error).__name__}: {error}"
            )
            what = (
                f"the masking {masking.__name__} ({file_of(masking) or masking.__module__}), tried on "
                f"{PROMPTS * GENERATIONS} completions of up to {TOKENS} tokens: {said}"
            )
    if what := what or fault_of_loss(algorithm):
        raise ConfigError(
            f"$algorithm={name}: {what.rstrip('.')}. `python -m spg_trainer algorithms check {name}` tries more."
        )


def file_of(cls: type) -> str | None:
    """The file of a user's class."""
    return getattr(sys.modules.get(cls.__module__), "__file__", None)


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
            frames = traceback.extract_tb(error.__traceback__)
            in_file = [frame for frame in frames if frame.filename == file_of(type(algorithm))]
            frame = [*frames[-1:], *in_file][-1]
            return f"loss raised {type(error).__name__}: {error} ({frame.filename}, line {frame.lineno})"
    return ""


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
        hint = (
            "; if it lies outside a trust region of the loss's own, say how wide this is: trust_region: "
            "ClassVar[float] = 0.001"
        )
        raise CheckFailed(
            "the gradient is zero though every group has right and wrong completions; is logps read?"
            f"{hint if 'old' in algorithm.needs else ''}"
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
    if "correct" in needs:
        view = draw_view(algorithm)
        if torch.equal(before, case_of(algorithm, view.with_columns(correct=~view.correct)).gradient()):
            raise CheckFailed("needs names 'correct', which does not change the gradient; leave it out")
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
    # Under random tokens every token is predicted, also one that is not hidden: the model does not know which are.
    may_score_shown = masking.noise == "uniform"
    if not may_score_shown and bool((first.scored & ~first.masked[..., PROMPT_TOKENS:]).any()):
        raise CheckFailed("a token is scored though it is shown; scored must be a part of masked")
    all_masks = map(draw_masks, range(DRAWS))
    weights = torch.stack([(masks.weight.sum(-1).mean(-1) * masks.scale).double() for masks in all_masks])
    per_token = weights / view.completion_mask.sum(-1)
    mean = float(per_token.mean())
    standard_error = float(per_token.std(0).mean()) / (DRAWS * num_rows) ** 0.5
    # `masks_average_to_their_target` says of the others what they are.
    is_bound = masking.is_likelihood and masking.target not in ("quadrature", "own")
    of_bound = "; in a bound it weighs 1" if is_bound else ""
    return f"a token weighs {mean:.3f} +- {standard_error:.3f} in the mean of {DRAWS} draws{of_bound}"


def masks_average_to_their_target(algorithm: Algorithm) -> str:
    """On a tiny completion, the mean over all masks is the masking's `target` (`targets.py`)."""
    masking = algorithm.make_masking()
    if masking.meaning:
        return masking.meaning
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

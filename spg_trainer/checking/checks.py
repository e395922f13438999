"""The checks of `python -m spg_trainer algorithms check FILE:CLASS`, and what a start tries of a user's own class.

Each check tries a property on random rollouts, rewards and log-probabilities; the property must hold for all of them.
A check returns a text on what it found, and raises CheckFailed if the algorithm does not have the property. `CHECKS`
lists the checks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from unittest.mock import patch

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, prepare_columns
from spg_trainer.algorithms.registry import build, exit_is_error
from spg_trainer.checking.cases import (
    BLOCK,
    GENERATIONS,
    PROMPT_TOKENS,
    PROMPTS,
    TOKENS,
    CheckFailed,
    described,
    draw_case,
    draw_view,
)
from spg_trainer.checking.targets import OWN, TARGETS, difference_from_target
from spg_trainer.errors import ConfigError, written
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.seeding import generator
from spg_trainer.tensors import Masks

STEP = 1e-5
"""How far log-probabilities are moved for a finite difference, in float64."""
CLOSE = 1e-7
"""How far a derivative may be from its finite difference, relative to the length of the gradient."""
EQUAL_REWARDS = torch.full((PROMPTS, GENERATIONS), 0.5, dtype=torch.float64)


@dataclass(frozen=True)
class Finding:
    """The outcome of one check. figure: what was found; after a failure, what is wrong and what would be right."""

    name: str
    ok: bool
    figure: str


def check_algorithm(name: str, args: dict[str, object] | None = None) -> list[Finding]:
    """The findings of all checks on an algorithm. Raises ConfigError if it cannot be built.

    After a failure of "loss" the list ends, since the checks that follow call the loss.

    name: what --algorithm takes, e.g. `spg` or `./mine.py:Mine`. args: hyper-parameters; None = the defaults.
    """
    algorithm = build(name, {"block_length": BLOCK, **(args or {})})
    findings = []
    with exit_is_error():
        for title, check in CHECKS.items():
            try:
                finding = Finding(title, ok=True, figure=check(algorithm))
            except (CheckFailed, ConfigError) as failure:
                finding = Finding(title, ok=False, figure=written(failure))
            except (Exception, SystemExit) as error:  # what an author's code raises is a finding, too
                finding = Finding(title, ok=False, figure=f"it {described(error, algorithm)}")
            findings.append(finding)
            if title == "loss" and not finding.ok:
                break
    return findings


def refuse_unsound(name: str, algorithm: Algorithm) -> None:
    """Raises ConfigError for a user's own class whose masking or loss the trainer cannot use.

    So a user learns of it before a model is opened. A masking of this package is not tried.
    """
    if hasattr(algorithm, "block_length"):
        algorithm = replace(algorithm, block_length=BLOCK)  # fits into the short completions
    try:
        if not type(algorithm.make_masking()).__module__.startswith("spg_trainer."):
            has_sound_masks(algorithm)
        has_usable_loss(algorithm)
    except (CheckFailed, ConfigError) as fault:
        raise ConfigError(
            f"$algorithm={name}: {written(fault).rstrip('.')}. `python -m spg_trainer algorithms check {name}` tries "
            "more."
        ) from fault
    except (Exception, SystemExit):
        # `prepare` may look at what real completions alone have, and a tensor of the loss may have the sizes, the type
        # and the device of a run. The run that meets the fault shows it.
        return


def has_sound_masks(algorithm: Algorithm) -> str:
    """The masks are drawn from their own streams alone, their weights are finite, and only what is hidden is scored."""
    view, masking = draw_view(algorithm), algorithm.make_masking()

    def draw_masks() -> Masks:
        try:
            return masking.draw(view, KeyedStreams(0, ("check masking",), view.noise_keys()))
        except (Exception, SystemExit) as error:  # whatever an author's masking can raise
            raise CheckFailed(
                f"the masking {type(masking).__name__}, tried on completions of 1 to {TOKENS} tokens, "
                f"{described(error, algorithm)}"
            ) from error

    first, again = draw_masks(), draw_masks()
    if not torch.isfinite(first.weight).all():
        raise CheckFailed("a weight is not finite")
    for name in ("masked", "scored", "weight", "scale", "part"):
        if not torch.equal(getattr(first, name), getattr(again, name)):
            raise CheckFailed(f"equal streams gave other masks.{name}; draw from `row.streams` alone")
    # Under random tokens every token is predicted, also one that is not hidden: the model does not know which are.
    may_score_shown = masking.noise == "uniform"
    if not may_score_shown and (first.scored & ~first.masked[..., PROMPT_TOKENS:]).any():
        raise CheckFailed("a token is scored though it is shown; scored must be a part of masked")
    return f"{first.scored.shape[1]} copies of a completion, the same from equal streams"


def averages_to_its_target(algorithm: Algorithm) -> str:
    """On a tiny completion, the mean over all masks is the masking's `target` (`targets.py`)."""
    masking = algorithm.make_masking()
    target = masking.target
    if masking.meaning:
        return masking.meaning
    if target in TARGETS:
        if difference := difference_from_target(masking):
            raise CheckFailed(
                f"target = {target!r}, but {difference}. Correct what is masked or its weights, or name another "
                f"target ({', '.join(TARGETS)}, or {OWN!r} if the docstring states one), or, if the mean is no "
                "likelihood, set is_likelihood = False"
            )
        description, _ = TARGETS[target]
        return f"the mean over masks is {description}"
    if target == OWN:
        return "is its own, which the masking's docstring states"
    if target or masking.is_likelihood:
        raise CheckFailed(
            f"target = {target!r} does not say which likelihood the mean over the masks is. Write target: "
            f"ClassVar[str] = one of {', '.join(TARGETS)}, or {OWN!r} if the docstring states another; if the mean is "
            "no likelihood, write is_likelihood = False and no target"
        )
    return "none: the mean over masks is no likelihood"


def has_usable_loss(algorithm: Algorithm) -> str:
    """`prepare` and `loss` return what the trainer can take, and read only what `needs` names."""
    draw_case(algorithm, draw_view(algorithm, EQUAL_REWARDS))
    case = draw_case(algorithm)
    loss = case.loss(case.logps.clone().requires_grad_()).loss
    if not loss.requires_grad:
        raise CheckFailed(
            "the loss has no gradient, so that nothing is learned. Compute it from logps, and detach it nowhere"
        )
    return f"a number with a gradient ({loss.item():.6g})"


def is_pure(algorithm: Algorithm) -> str:
    """The loss is the same twice and changes nothing that it is given."""
    case = draw_case(algorithm)
    given = [case.logps, *vars(case.masks).values(), *vars(case.batch).values()]
    tensors = [value for value in given if isinstance(value, Tensor)]
    before = [tensor.clone() for tensor in tensors]
    first, second = case.loss().loss, case.loss().loss
    if not torch.equal(first, second):
        raise CheckFailed(
            f"loss gave {first.item():.6g}, then {second.item():.6g}, for equal arguments; draw nothing in it"
        )
    if not all(map(torch.equal, before, tensors)):
        raise CheckFailed("loss changed a tensor that it was given; make a new one")
    return "equal twice"


def has_its_gradient(algorithm: Algorithm) -> str:
    """Autograd's gradient of the loss equals a finite difference, and is 0 where nothing is scored."""
    case = draw_case(algorithm)
    gradient, is_valued = case.gradient(), case.masks.valued
    if not torch.isfinite(gradient).all():
        raise CheckFailed("the gradient is not finite; look for a division whose result is masked afterwards")
    if gradient[~is_valued].any():
        raise CheckFailed(
            "a position that is not scored has a gradient; multiply by masks.scored or masks.weight"
        )
    if not gradient.any():
        raise CheckFailed(
            "the gradient is zero though every group has right and wrong completions; is logps read? If the gradient "
            "lies outside a trust region of the loss's own, say how wide this is: trust_region: ClassVar[float] = 0.001"
        )
    # All log-probabilities are moved at once, each by its own random multiple of a step.
    direction = (
        torch.randn(is_valued.shape, generator=generator(0, "check step"), dtype=torch.float64) * is_valued
    )
    above, below = (case.loss(case.logps + step * direction).loss for step in (STEP, -STEP))
    difference = (above - below) / (2 * STEP)

    def distance() -> float:
        """How far the derivative by autograd is from the finite difference, as `CLOSE` says."""
        return float(((case.gradient() * direction).sum() - difference).abs() / gradient.norm())

    if distance() <= CLOSE:
        return "equals a finite difference"
    # If the two agree once nothing is detached, the loss is right, and only its author can say what should be constant.
    with patch.object(torch.Tensor, "detach", lambda tensor: tensor):
        off = distance()
    if off > CLOSE:
        raise CheckFailed(f"autograd differs from a finite difference, by {off:.1g} of the gradient's length")
    return "equals a finite difference, but for what the loss detaches: is that part meant to be constant?"


def adds_up(algorithm: Algorithm) -> str:
    """An update can be divided into micro-batches and among processes: the losses of its parts add up.

    A part is what `compares` names, which the trainer keeps together.
    """
    unit = algorithm.compares
    if unit == "update":
        return "are its own: the loss sees the whole update"
    case = draw_case(algorithm)
    loss, gradient = case.loss().loss, case.gradient()
    doubled = {name: 2 * total for name, total in case.batch.totals.items()}
    with_doubled = case.loss(totals=doubled).loss
    if not torch.isclose(with_doubled, loss / 2, rtol=1e-9, atol=1e-9):
        raise CheckFailed(
            f"with totals twice as large the loss is {with_doubled.item():.6g}, not half of {loss.item():.6g}. Divide "
            "by batch.totals, not by what is at hand: that would depend on the micro-batch and the number of processes"
        )
    parts = [case.batch.units(unit) == number for number in case.batch.units(unit).unique()]
    loss_of_parts = torch.stack([case.select(part).loss().loss for part in parts]).sum()
    if not torch.isclose(loss_of_parts, loss, rtol=1e-9, atol=1e-9):
        hint = "" if unit == "group" else ' If it compares completions of a group, set compares = "group".'
        raise CheckFailed(
            f"micro-batches of a {unit} each give {loss_of_parts.item():.6g}, all together {loss.item():.6g}.{hint}"
        )
    # Of copies that do not fit at once, the trainer computes the gradient of some while the others have the value 0.
    alone = torch.zeros_like(case.masks.valued)
    if unit == "copy":
        alone[:, 0] = True  # the first copy of each completion
    else:
        alone[parts[0]] = True
    if not torch.allclose(case.gradient(case.logps * alone)[alone], gradient[alone], rtol=1e-9, atol=1e-12):
        raise CheckFailed(
            f"compares = {unit!r}, but the gradient of a {unit} depends on more than this {unit}"
        )
    return f"add up; nothing is compared beyond a {unit}"


def needs_what_it_says(algorithm: Algorithm) -> str:
    """What `needs` names changes the gradient. (A loss that reads a column which `needs` does not name raises.)"""
    needs, case, changed = algorithm.needs, draw_case(algorithm), dict[str, Tensor]()
    for need, column in (("old", "old_logps"), ("reference", "ref_logps")):
        if need in needs:
            changed[need] = case.gradient(**{column: 1.1 * case.batch.get(column)})
    if "correct" in needs:
        view = draw_view(algorithm)
        changed["correct"] = draw_case(algorithm, view.with_columns(correct=~view.correct)).gradient()
    for need, gradient in changed.items():
        if torch.equal(gradient, case.gradient()):
            raise CheckFailed(f"needs names {need!r}, which does not change the gradient; leave it out")
    said = ", ".join(sorted(needs)) or "nothing beyond the completions"
    if "reference" in needs:
        said += "; training compares with the start: it needs --ref-copy, or adapters (--lora-r, or those of --model)"
    return said


def has_sound_advantages(algorithm: Algorithm) -> str:
    """Advantages of equal rewards are 0, and each turn of an episode has one."""
    view = draw_view(algorithm, EQUAL_REWARDS)
    advantages = view.with_columns(**prepare_columns(algorithm, view)).advantages
    if advantages.any():
        raise CheckFailed(f"advantages of equal rewards are {advantages.tolist()[:4]}; they must be zero")
    prepare_columns(algorithm, draw_view(algorithm, turns=2))
    return "zero for equal rewards, and one for each turn"


CHECKS: dict[str, Callable[[Algorithm], str]] = {
    "masking": has_sound_masks,
    "target": averages_to_its_target,
    "loss": has_usable_loss,
    "purity": is_pure,
    "gradient": has_its_gradient,
    "micro-batches": adds_up,
    "needs": needs_what_it_says,
    "advantages": has_sound_advantages,
}
"""{title: check}. The docstring of each check states what must hold."""

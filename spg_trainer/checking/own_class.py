"""What a start tries of a user's own class before a model is opened: its loss, `prepare`, and its masking."""

import sys
import traceback
from dataclasses import replace

import torch

from spg_trainer.algorithms.base import Algorithm, Need
from spg_trainer.checking.cases import (
    BLOCK,
    GENERATIONS,
    PROMPT_TOKENS,
    PROMPTS,
    TOKENS,
    CheckFailed,
    draw_case,
    draw_view,
)
from spg_trainer.errors import ConfigError, written
from spg_trainer.likelihood.masking import KeyedStreams
from spg_trainer.tensors import Masks

PROVIDED: dict[str, Need] = {
    "old_logps": "old",
    "ref_logps": "reference",
    "measured": "measured",
    "old_measured": "measured",
}
"""{column of a batch: the name in `needs` for which the trainer provides it}."""
DRAWS = 40
"""Over how many draws of the masked copies the mean weight of a token is taken."""


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

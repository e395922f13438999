"""How probable a model finds a text: a lower bound of its log-likelihood, SPG's EUBO, and their standard errors."""

import warnings
from dataclasses import dataclass

import numpy as np
import torch

from spg_trainer.errors import ConfigError, ModelError, naming_keywords
from spg_trainer.evaluation.log_likelihood import (
    COPIES_AT_ONCE,
    attention_end,
    blocks_of,
    draw_masks,
    masked_logps,
    tries_all,
)
from spg_trainer.models.policy import Policy, check_policy
from spg_trainer.rollout.tokens import Prompt, completion_rows, encode_prompts
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.recorded import taught_length


@dataclass(frozen=True)
class LogLikelihood:
    """Estimates for a text in nats, summed over its tokens: its log-likelihood is at least `elbo`."""

    elbo: float
    """The evidence lower bound (LLaDA, arXiv 2502.09992, equation 6)."""
    eubo: float
    """SPG's EUBO (arXiv 2510.09541, Corollary 1) without the bound's constant, as in the algorithm spg. So the
    log-likelihood may lie above it. It is a logarithm of means over masks: with few masks it is too low, even below
    `elbo`. `eubo_error` does not include this bias."""
    elbo_error: float
    """The standard error of `elbo` that comes from the drawn masks; 0 where every way to mask was tried."""
    eubo_error: float
    """The standard error of `eubo` that comes from the drawn masks."""
    tokens: int
    """Tokens of the text, its end token included."""
    num_masks: int
    """Masked copies of each block of the text; fewer than asked for where there are no more ways to mask."""
    max_completion_length: int
    """Places of the canvas, the row of places that the text stands on: `tokens` for the text, all others masked."""


@naming_keywords
def log_likelihood(
    policy: Policy,
    prompt: Prompt,
    completion: str,
    *,
    num_masks: int = 128,
    eubo_beta: float = 1.0,
    seed: int = 0,
    ended: bool = True,
    max_completion_length: int | None = None,
) -> LogLikelihood:
    """A lower bound of a completion's log-likelihood after a prompt, and SPG's EUBO, each with its standard error.

    The completion stands on a canvas of the length that the model was taught, as when the model writes: the places
    after its end token are masked and not scored, as in training by RL. So the bounds are for the probability that the
    model writes this answer, whatever follows the end.

    Args:
        policy: what `load_model` returned.
        prompt: a text, sent as one user message, or a list of chat messages.
        completion: the text that is scored; it may spell its end token.
        num_masks: masked copies of each block. From 2 ** n - 1 on, the ELBO of a text of n tokens is exact.
        eubo_beta: the exponent of the EUBO, above 0; the algorithm spg has it too.
        seed: of the masks. The same text has the same masks in every model.
        ended: whether the end token that the model writes after a completion is scored too. If not, the bounds are for
            the probability that a completion begins with the text.
        max_completion_length: places of the canvas. 0 = as many as the text has tokens, as in LLaDA's evaluation. None
            = as many as the model was taught, by its environment.json; the same as 0 for a model without this file, and
            (with a warning) for a text that is longer than the model was taught.

    If the completion is empty, only its end token is scored. Raises ConfigError for numbers out of range, for an empty
    completion with `ended=False`, and for a text that is too long for the model or for `max_completion_length`.
    """
    check_policy(policy, "log_likelihood")
    if not isinstance(completion, str):
        raise ConfigError(
            f"completion={completion!r:.60}: should be one text. For several texts, call log_likelihood for each."
        )
    if not isinstance(prompt, str | list):
        raise ConfigError(f"prompt={prompt!r:.60}: should be a text or a list of chat messages.")
    if num_masks < 2 or eubo_beta <= 0:
        raise ConfigError(
            f"num_masks={num_masks}, eubo_beta={eubo_beta}: a standard error needs 2 masks or more, and the EUBO "
            "an exponent above 0."
        )
    encoded_prompts, _ = encode_prompts(policy, [prompt])
    prompt_ids = encoded_prompts[0].tolist()
    (with_end_token,) = completion_rows(policy, [completion])
    completion_ids = with_end_token if ended else with_end_token[:-1]
    tokens, positions = len(completion_ids), policy.model.config.max_position_embeddings
    if max_completion_length and tokens > max_completion_length:
        raise ConfigError(
            f"max_completion_length={max_completion_length}: the completion has {tokens:,} tokens. Use {tokens} or "
            "more, or 0 for its own length."
        )
    places = max_completion_length
    if places is None:
        places = taught_length(policy.source)  # 0 for a model that does not say what length it was taught
        if tokens > places > 0:
            warnings.warn(
                f"the completion has {tokens:,} tokens, and the model was taught to write {places:,}: it is measured "
                "at its own length.",
                stacklevel=3,  # the caller, outside the wrapper `naming_keywords`
            )
    canvas = max(places, tokens)
    if not completion_ids or len(prompt_ids) + canvas > positions:
        raise ConfigError(
            f"a prompt of {len(prompt_ids):,} tokens and a completion of {tokens:,} on {canvas:,} places: the "
            f"completion needs one token or more, and the model has {positions:,} positions. With "
            "max_completion_length=0, a completion stands on as many places as it has tokens."
        )
    rng = numpy_generator(seed, "log-likelihood", *completion_ids)
    elbo, eubo, variances, copies = 0.0, 0.0, np.zeros(2), 0
    for start, stop in blocks_of(policy, len(prompt_ids), len(completion_ids)):
        masked_in_block, weights = draw_masks(stop - start, num_masks, rng)
        masked = np.zeros((len(weights), len(completion_ids)), bool)
        masked[:, start:stop] = masked_in_block
        # What the block sees behind itself is masked, as the decoder has not written it yet.
        masked[:, stop : attention_end(policy, len(prompt_ids), start, len(completion_ids))] = True
        logps = logps_of_block(policy, prompt_ids, completion_ids, masked, slice(start, stop), canvas)
        block_elbo, block_eubo = bounds_of_block(logps, masked_in_block, weights, eubo_beta)
        elbo, eubo, copies = elbo + block_elbo, eubo + block_eubo, max(copies, len(weights))
        if not tries_all(stop - start, num_masks):
            variances += jackknife(logps, masked_in_block, weights, eubo_beta)
    if not np.isfinite([elbo, eubo]).all():
        raise ModelError(
            f"the ELBO is {elbo} and the EUBO {eubo}: the model's logits are not finite (NaN or infinite). Are its "
            "weights whole, and is its dtype wide enough?"
        )
    elbo_error, eubo_error = np.sqrt(variances).tolist()
    return LogLikelihood(elbo, eubo, elbo_error, eubo_error, tokens, copies, canvas)


@torch.no_grad()
def logps_of_block(
    policy: Policy,
    prompt_ids: list[int],
    completion_ids: list[int],
    masked: np.ndarray,
    block: slice,
    max_completion_length: int,
) -> np.ndarray:
    """(M, n) float64 log-probabilities of a block's tokens in each masked copy (M, T), 0 where a token is shown."""
    scored = np.zeros_like(masked)
    scored[:, block] = masked[:, block]
    parts = []
    for first in range(0, len(masked), COPIES_AT_ONCE):
        copies = slice(first, first + COPIES_AT_ONCE)
        masks = torch.from_numpy(masked[copies]), torch.from_numpy(scored[copies])
        logps = masked_logps(policy, prompt_ids, completion_ids, *masks, max_completion_length)
        parts.append(logps.double().cpu().numpy())
    return np.concatenate(parts)[:, block]


def bounds_of_block(
    logps: np.ndarray, masked: np.ndarray, weights: np.ndarray, beta: float
) -> tuple[float, float]:
    """ELBO and EUBO of a block, from the log-probabilities (M, n), what is masked (M, n), and each copy's weight (M,).

    The weights add up to a mean over copies, see `draw_masks`.
    """
    elbo = float((weights[:, None] * logps).sum())
    powers = np.where(masked, np.log(weights)[:, None] + beta * logps, -np.inf)
    measured = masked.any(0)  # which tokens any copy masks
    log_means = np.logaddexp.reduce(powers[:, measured], axis=0)
    num_tokens, num_measured = masked.shape[1], max(1, int(measured.sum()))
    # The other tokens count as much as these on average.
    return elbo, float(log_means.sum()) * num_tokens / num_measured / beta


def jackknife(logps: np.ndarray, masked: np.ndarray, weights: np.ndarray, beta: float) -> np.ndarray:
    """The variances (2,) of both bounds over the draw of M copies, by leaving out each copy once."""
    copies = len(weights)
    bounds = []
    for left_out in range(copies):
        kept = np.arange(copies) != left_out
        kept_weights = weights[kept] * copies / (copies - 1)
        bounds.append(bounds_of_block(logps[kept], masked[kept], kept_weights, beta))
    return (copies - 1) * np.array(bounds).var(0)

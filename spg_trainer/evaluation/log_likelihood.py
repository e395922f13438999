"""How probable a masked diffusion model finds a text: a bound by random masks, exact if all can be tried.

The ELBO of n tokens is the mean over k = 1..n, and over the ways to mask k of them, of n/k times the sum of the masked
tokens' log-probabilities (LLaDA, arXiv 2502.09992, equation 6). If attention goes by blocks, or a model decodes in
blocks from left to right, each block is masked on its own: all tokens before it are clean, and all after it masked, as
the decoder sees them. The bounds of the blocks add up (block diffusion, arXiv 2503.09573).

A text may stand on a canvas that is longer than the text. The places after it are then masked in every copy and scored
in none, like the places after an end token in decoding and in training by RL. `log_likelihood` takes a text and gives
SPG's EUBO and standard errors, too; `elbo_of_ids` takes token ids. `eval --perplexity FILE` measures the ELBO of each
text of a file (`read_texts`, `measure_perplexity`).
"""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spg_trainer.architecture.head import head_logits
from spg_trainer.errors import ConfigError, ModelError, naming_keywords
from spg_trainer.models import head_weight, hidden_states
from spg_trainer.models.forward import base_model
from spg_trainer.models.policy import Policy, check_policy
from spg_trainer.rollout.tokens import (
    Prompt,
    completion_rows,
    encode_plain,
    encode_prompts,
    is_chat,
    special_tokens,
    spell_apart,
)
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import taught_length

COPIES_AT_ONCE = 32
"""Masked copies of a text that go through the model together."""
ESTIMATES = 8
"""How many estimates of a text's ELBO `elbo_of` makes, each by a part of the masks; their spread gives the standard
error."""
Encoded = tuple[list[int], list[int]]
"""The token ids of a prompt, which may be empty, and of what is measured after it."""


def tries_all(length: int, num_masks: int) -> bool:
    """Whether there are at most `num_masks` ways to mask one or more of `length` tokens."""
    # The first comparison saves computing a huge power.
    return length <= num_masks.bit_length() and 2**length - 1 <= num_masks


def draw_masks(length: int, num_masks: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Which of `length` tokens are masked in each copy, (M, length) bool, and the weight of each copy, (M,) float64.

    The weighted sum over copies is the ELBO; n = length, and k is how many tokens a copy masks.

    If there are at most num_masks ways to mask (2 ** n - 1), each is a copy, and the sum is exact. The weight of a copy
    is n/k times its probability: all k are equally likely, and so are all ways to mask k tokens.

    Otherwise num_masks copies are drawn, and the sum is a mean. Their k are spread evenly over 1..n, as in LLaDA's
    evaluation. The weight of each copy is n/k / num_masks.
    """
    if tries_all(length, num_masks):
        chosen = [places for k in range(1, length + 1) for places in combinations(range(length), k)]
        masked = np.zeros((len(chosen), length), bool)
        for row, places in zip(masked, chosen, strict=True):
            row[list(places)] = True
        counts = masked.sum(1)
        # n/k, times 1/n for the draw of k, times 1/ways for the draw of k tokens: the n cancel.
        ways = np.bincount(counts, minlength=length + 1)
        return masked, 1 / counts / ways[counts]
    first = rng.integers(length)
    counts = (first + np.floor(np.arange(num_masks) * length / num_masks).astype(int)) % length + 1
    # In each copy the tokens get random ranks, and those with the lowest k ranks are masked.
    ranks = rng.random((num_masks, length)).argsort(1).argsort(1)
    return ranks < counts[:, None], length / counts / num_masks


@torch.no_grad()
def elbo_of_ids(
    policy: Policy,
    prompt_ids: Sequence[int],
    completion_ids: Sequence[int],
    rng: np.random.Generator,
    *,
    num_masks: int = 128,
    block_length: int = 0,
    max_completion_length: int = 0,
) -> float:
    """The ELBO of a completion after a prompt, in nats; the prompt may be empty.

    num_masks: masked copies for each block. block_length: tokens of a block; 0 = the blocks of attention (one block if
    all tokens see each other). If several blocks lie in one block of attention, each goes through the model by itself.
    max_completion_length: places of the canvas that the completion stands on; it has at least as many as the completion
    has tokens, whatever is given.
    """
    blocks = blocks_of(policy, len(prompt_ids), len(completion_ids), block_length)
    drawn = [draw_masks(stop - start, num_masks, rng) for start, stop in blocks]
    most_copies = max(len(weights) for _, weights in drawn)
    ends = [attention_end(policy, len(prompt_ids), start, len(completion_ids)) for start, _ in blocks]
    # The rank of a block is its number within its block of attention. Blocks of one rank share a pass of the model.
    ranks = [ends[:number].count(end) for number, end in enumerate(ends)]
    total = 0.0
    for rank in range(max(ranks) + 1):
        masked = np.zeros((most_copies, len(completion_ids)), bool)
        weights = np.zeros((most_copies, len(completion_ids)))  # 0 = the token is not scored in this copy
        for number in np.flatnonzero(np.array(ranks) == rank):
            (start, stop), (masked_in_block, weights_of_copies) = blocks[number], drawn[number]
            used = slice(len(masked_in_block))  # a short block has fewer copies: one for each way to mask it
            masked[used, start:stop] = masked_in_block
            # The tokens behind the block that it sees are masked, as the decoder sees them, but not scored here.
            masked[used, stop : ends[number]] = True
            weights[used, start:stop] = masked_in_block * weights_of_copies[:, None]
        for first in range(0, most_copies, COPIES_AT_ONCE):
            chosen = slice(first, first + COPIES_AT_ONCE)
            masked_here, weights_here = torch.from_numpy(masked[chosen]), torch.from_numpy(weights[chosen])
            logps = masked_logps(
                policy, prompt_ids, completion_ids, masked_here, weights_here > 0, max_completion_length
            )
            total += float((logps.double().cpu() * weights_here).sum())
    return total


def blocks_of(
    policy: Policy, prompt_length: int, length: int, block_length: int = 0
) -> list[tuple[int, int]]:
    """(first token, end) of each block of a completion of `length` tokens; each of them is masked on its own.

    block_length: tokens of a block, counted from where attention's blocks are counted; 0 = the blocks of attention, or
    one block if attention has none.
    """
    pattern = base_model(policy.model).pattern
    return list(pattern.spans(prompt_length, length, block_length or pattern.block_size or length))


def attention_end(policy: Policy, prompt_length: int, token: int, length: int) -> int:
    """The end of the block of attention in which a token lies, among the `length` tokens of a completion."""
    pattern = base_model(policy.model).pattern
    if pattern.is_full:
        return length
    _, end = pattern.block_of(token, prompt_length)
    return min(end, length)


def masked_logps(
    policy: Policy,
    prompt_ids: Sequence[int],
    completion_ids: Sequence[int],
    masked: Tensor,
    scored: Tensor | None = None,
    max_completion_length: int = 0,
) -> Tensor:
    """Log-probabilities (M, T) of the masked tokens in M copies of a completion; 0 for tokens that are shown.

    scored: (M, T) bool, which of the masked tokens are asked for; None = all. max_completion_length: places of the
    canvas; those after the T tokens are masked. Below T, the canvas ends with the completion.
    """
    device, width = policy.device, len(prompt_ids)
    masked = masked.to(device)
    scored = masked if scored is None else scored.to(device)
    behind = [policy.mask_id] * max(0, max_completion_length - len(completion_ids))
    text = torch.tensor([*prompt_ids, *completion_ids, *behind], device=device).expand(len(masked), -1)
    shown, end = text.clone(), width + len(completion_ids)
    shown[:, width:end].masked_fill_(masked, policy.mask_id)
    columns = torch.arange(width, end, device=device).expand(len(masked), -1)
    states = hidden_states(policy.model, shown, keep=columns, start=width, clean=text)
    base = base_model(policy.model)
    logits = head_logits(states[scored], head_weight(base), base.float32_logits)
    logps = logits.log_softmax(-1).gather(-1, text[:, width:end][scored].unsqueeze(-1)).squeeze(-1)
    return torch.zeros_like(masked, dtype=logps.dtype).masked_scatter_(scored, logps)


@torch.no_grad()
def is_greedy(policy: Policy, prompt_ids: Sequence[int], completion_ids: Sequence[int]) -> bool:
    """Whether greedy decoding, one token at a time and the most probable first, writes the completion."""
    masked = torch.ones(len(completion_ids), dtype=torch.bool, device=policy.device)
    text = torch.tensor([*prompt_ids, *completion_ids], device=policy.device)
    width, pattern = len(prompt_ids), base_model(policy.model).pattern
    for start, stop in blocks_of(policy, width, len(completion_ids)):
        while masked[start:stop].any():
            shown = text.clone()
            shown[width:].masked_fill_(masked, policy.mask_id)
            columns = torch.arange(width + start, width + stop, device=policy.device)[None]
            states = hidden_states(policy.model, shown[None], keep=columns, start=width)
            base = base_model(policy.model)
            logits = head_logits(states[0], head_weight(base), base.float32_logits).float()
            logits[:, policy.mask_id] = float("-inf")
            best = logits.log_softmax(-1).max(-1)
            highest_logps = best.values.masked_fill(~masked[start:stop], float("-inf"))
            # In a causal context a block's first token is written before the others.
            begins_block = pattern.has_causal_context and pattern.block_of(start, width)[0] == start
            place = 0 if begins_block and masked[start] else int(highest_logps.argmax())
            if best.indices[place] != text[width + start + place]:
                return False
            masked[start + place] = False
    return True


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
        eubo_beta: the exponent of the EUBO, 1 or more; the algorithm spg has it too.
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
    if num_masks < 2 or eubo_beta < 1:
        raise ConfigError(
            f"num_masks={num_masks}, eubo_beta={eubo_beta}: a standard error needs 2 masks or more, and the EUBO "
            "an exponent of 1 or more."
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


@dataclass(frozen=True)
class Perplexity:
    """The ELBO of the tokens of some texts, nats a token, with the standard error that comes from the drawn masks."""

    elbo: float
    standard_error: float
    tokens: int
    texts: int

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% interval of the perplexity: exp(-ELBO) at both ends of the ELBO's interval, which is cut off at 0.

        No model gives a token a probability above 1, so a perplexity is at least 1, whatever the masks' noise.
        """
        low, high = (self.elbo + sign * 1.96 * self.standard_error for sign in (-1, 1))
        return math.exp(-min(high, 0.0)), math.exp(-min(low, 0.0))

    def summary(self) -> dict[str, Any]:
        """The content of perplexity-NAME.json. Its `perplexity` is an upper bound, since the ELBO is a lower bound."""
        return {**vars(self), "perplexity": math.exp(-self.elbo)}


def read_texts(policy: Policy, file: str) -> list[Encoded]:
    """The texts of a .jsonl, .json, .csv or .parquet file, encoded.

    A row has `text`, or `prompt` (text or chat messages) and `completion`; the forms of other tools are read, too. If a
    row has a completion, only the completion is measured, with its end token. Raises ConfigError or EnvError, which
    name the line, for a row of another shape and for a text that is longer than the model's positions.
    """
    rows = envs.files.datasets.read_files("--perplexity", [Path(file)], ())
    return [encode_row(policy, where, row) for where, row in rows]


def choose_canvas(policy: Policy, texts: Sequence[Encoded], length: int | None) -> tuple[int, str]:
    """(how many places a canvas has, a note on this or "").

    A canvas is the row of places on which a completion is measured: its tokens, and masks behind them. 0 places = each
    completion is measured at its own length. length: the user's --max-completion-length; None = the length that the
    model was taught. Raises ConfigError for completions that are longer than `length`, and for a prompt that leaves no
    room for the canvas.
    """
    canvas = taught_length(policy.source) if length is None else length
    with_prompt = [(prompt, completion) for prompt, completion in texts if prompt]
    if not canvas or not with_prompt:
        return 0, ""
    completion_lengths = [len(completion) for _, completion in with_prompt]
    longest_prompt = max(len(prompt) for prompt, _ in with_prompt)
    longest_completion = max(completion_lengths)
    if length and longest_completion > length:
        raise ConfigError(
            f"--max-completion-length {length}: a completion has {longest_completion:,} tokens. Use "
            f"{longest_completion} or more, or 0 to measure each at its own length."
        )
    if (room := policy.room(longest_prompt)) < canvas:
        raise ConfigError(
            f"--perplexity: a prompt has {longest_prompt:,} tokens, which leaves {room:,} of the model's positions, "
            f"and completions stand on {canvas:,}. With --max-completion-length 0, each is measured at its own length."
        )
    origin = "--max-completion-length says" if length else "the model was taught"
    note = f"Completions stand on {canvas:,} places, as {origin}"
    if longer := sum(tokens > canvas for tokens in completion_lengths):
        note += f"; {longer:,} of {len(completion_lengths):,} are longer and are measured at their own length"
    return canvas, f"{note}. With --max-completion-length 0, each is measured at its own length."


def measure_perplexity(
    policy: Policy,
    texts: Sequence[Encoded],
    *,
    num_masks: int = 128,
    block_length: int = 0,
    max_completion_length: int = 0,
    seed: int = 0,
    advance: Callable[[float], None] = lambda done: None,
) -> Perplexity:
    """The ELBO of every text, with `num_masks` masked copies of each, and its standard error.

    The ELBO of a text is exact if each of its blocks can be masked in at most `num_masks` ways.

    texts: one at least, as `read_texts` returns them. block_length: tokens of a block. Each block is masked on its own;
    those before it are clean and those after it masked, as a decoder in blocks sees them. 0 = the blocks of attention,
    or the whole text if all tokens see each other. max_completion_length: places of the canvas that a completion stands
    on; those after the completion are masked. 0 = as many places as its tokens; this also holds for a longer
    completion and for a text without a prompt. advance: is called with the number of finished texts after each.
    """
    total, variance, tokens = 0.0, 0.0, 0
    for number, (prompt, wanted) in enumerate(texts):
        key = (seed, "perplexity", number)
        options = {
            "block_length": block_length,
            "max_completion_length": max_completion_length if prompt else 0,
        }
        elbo, variance_of_elbo = elbo_of(policy, prompt, wanted, num_masks, key, **options)
        total, variance, tokens = total + elbo, variance + variance_of_elbo, tokens + len(wanted)
        advance(number + 1)
    return Perplexity(total / tokens, math.sqrt(variance) / tokens, tokens, len(texts))


def elbo_of(
    policy: Policy,
    prompt: list[int],
    wanted: list[int],
    num_masks: int,
    key: tuple[int | str, ...],
    *,
    block_length: int,
    max_completion_length: int,
) -> tuple[float, float]:
    """(the ELBO of the tokens `wanted` after `prompt` in nats, the variance of this estimate: 0 if it is exact).

    The other arguments are those of `measure_perplexity`; key: of the random streams that draw the masks.
    """
    blocks = blocks_of(policy, len(prompt), len(wanted), block_length)
    arguments = (policy, prompt, wanted)
    options = {"block_length": block_length, "max_completion_length": max_completion_length}
    if tries_all(max(stop - start for start, stop in blocks), num_masks):
        rng = numpy_generator(*key)
        return elbo_of_ids(*arguments, rng, num_masks=num_masks, **options), 0.0
    options["num_masks"] = num_masks // ESTIMATES
    estimates = [
        elbo_of_ids(*arguments, numpy_generator(*key, number), **options) for number in range(ESTIMATES)
    ]
    return float(np.mean(estimates)), float(np.var(estimates, ddof=1)) / ESTIMATES


def with_answer(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as `envs` reads it (Alpaca, ShareGPT, chats). If a chat ends with an answer, the answer is the completion.

    A row with `text` is returned as it is.
    """
    if isinstance(row.get("text"), str) and row["text"]:
        return {**row}
    forms = envs.files.row_forms
    known_form = forms.row_with_prompt(row)
    if known_form.get("completion") is None and (answer := forms.last_answer(known_form.get("prompt"))):
        known_form |= {"prompt": forms.before_answer(known_form["prompt"]), "completion": answer}
    return known_form


def encode_row(policy: Policy, where: str, row: Mapping[str, Any]) -> Encoded:
    """(ids of the prompt, ids of what is measured) of one row of the file. where: names the row in errors."""
    row = with_answer(row)
    special = special_tokens(policy).values()
    # `spell_apart`: where a text spells a special token, such as the mask, its characters are measured as text.
    if isinstance(row.get("text"), str) and row["text"]:
        prompt: list[int] = []
        (wanted,) = encode_plain(policy, [spell_apart(row["text"], special)])
    elif isinstance(row.get("completion"), str) and (
        isinstance(row.get("prompt"), str) or is_chat(row.get("prompt"))
    ):
        ids, _ = encode_prompts(policy, [row["prompt"]])
        (written,) = encode_plain(policy, [spell_apart(row["completion"], special)])
        # A model is taught to write the last of its end tokens after a completion (`Policy.end_token_ids`).
        prompt, wanted = ids[0].tolist(), [*written, policy.end_token_ids[-1]]
    else:
        raise ConfigError(
            f"--perplexity: {where} has {', '.join(row) or 'nothing'}; give it text, or prompt and completion."
        )
    limit = policy.model.config.max_position_embeddings
    if len(prompt) + len(wanted) > limit:
        raise ConfigError(
            f"--perplexity: {where} has {len(prompt) + len(wanted):,} tokens, and the model has {limit:,} positions. "
            "Divide the text, or leave it out."
        )
    return prompt, wanted

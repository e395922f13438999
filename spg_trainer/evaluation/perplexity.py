"""`eval --perplexity FILE`: how probable a model finds the tokens of given texts, by the ELBO of each text."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.log_likelihood import blocks_of, elbo_of_ids, tries_all
from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import encode_plain, encode_prompts, is_chat, special_tokens, spell_apart
from spg_trainer.seeding import numpy_generator
from spg_trainer.settings.packages import envs
from spg_trainer.settings.recorded import taught_length

ESTIMATES = 8
"""How many estimates of a text's ELBO are made, each by a part of the masks; their spread gives the standard error."""
Encoded = tuple[list[int], list[int]]
"""The token ids of a prompt, which may be empty, and of what is measured after it."""


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

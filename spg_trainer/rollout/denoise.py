"""The sampler: plain LLaDA decoding without the work that cannot change a token up to the first end token.

Left out: logits and the last layer outside the hidden positions of the active block, rows whose text is
already finished, padding common to the rows of a forward pass, and all but one of several rows that look the same
to the model at a step. What remains is the same function of the same inputs, up to the rounding of the matrix products.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from spg_trainer.batch import Rollouts
from spg_trainer.config import Sampling
from spg_trainer.errors import ConfigError
from spg_trainer.models.load import Policy, head_weight, hidden_states
from spg_trainer.rollout.sample import earliest_first, sample_tokens
from spg_trainer.rollout.schedule import reveal_counts

_POSITIONS_PER_THREAD = 1024
"""Forward passes of so many positions stay in a CPU's cache: 1.3 to 1.6 times faster than larger ones."""


def rollout(
    policy: Policy,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    sampling: Sampling,
    generators: Sequence[torch.Generator] | None,
    *,
    rows_per_forward: int | None = None,
) -> Rollouts:
    """Writes one completion for each prompt, as the plain LLaDA sampler would.

    Runs in evaluation mode without gradients; every module's mode is restored afterwards.

    Args:
        policy: model and the ids of its mask, padding and end tokens.
        prompt_ids: (B, L) int64, left-padded.
        prompt_mask: (B, L) bool, false on padding.
        sampling: lengths, steps, temperature, remasking; checked here.
        generators: B generators on the model's device; None where nothing is random. The noise of a row and
            step is one float32 draw of Exp(1) over the active block's hidden positions, in order, times the
            vocabulary; random remasking draws one uniform number per hidden position after it.
        rows_per_forward: at most so many rows in one call of the model, which bounds memory; None = what is
            fastest: all on an accelerator, few enough to stay in the cache on a CPU.

    Returns:
        Rollouts on the model's device. `reveal_logps` is float64 when the model is. Positions that were still
        hidden when a row was finished hold the mask id, step -1 and log-probability 0.

    Raises:
        ConfigError: settings that cannot decode, a prompt too long for the model, too few generators.

    Source: LLaDA (arXiv 2502.09992), semi-autoregressive low-confidence remasking.
    """
    sampling.check()
    device = policy.model.device
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device, torch.bool)
    _check_inputs(policy, prompt_mask, sampling, generators, rows_per_forward)
    with torch.no_grad(), _evaluating(policy.model):
        canvas = _Canvas(policy, prompt_ids, prompt_mask, sampling)
        for block in range(sampling.num_blocks):
            canvas.open_block(block)
            for step, count in enumerate(reveal_counts(sampling.block_length, sampling.steps_per_block)):
                if not canvas.active:
                    return canvas.finish()
                hidden = canvas.hidden_at_block(rows_per_forward)
                streams = [generators[row] for row in canvas.active] if sampling.draws_noise else None
                drawn = sample_tokens(hidden, canvas.head, policy.mask_id, sampling, streams)
                canvas.reveal(*drawn, count, block * sampling.steps_per_block + step)
        return canvas.finish()


class _Canvas:
    """Prompts and completions under work. Rows that are finished stay, but leave `active`."""

    def __init__(self, policy: Policy, prompt_ids: Tensor, prompt_mask: Tensor, sampling: Sampling) -> None:
        rows, self.width = prompt_ids.shape
        length, device = sampling.max_completion_length, prompt_ids.device
        self.policy, self.block_length, self.prompt_mask = policy, sampling.block_length, prompt_mask
        self.head = head_weight(policy.model)
        self.ends = torch.tensor(policy.end_token_ids, dtype=torch.int64, device=device)
        self.ids = torch.cat([prompt_ids, prompt_ids.new_full((rows, length), policy.mask_id)], -1)
        self.real = torch.cat([prompt_mask, prompt_mask.new_ones((rows, length))], -1)
        self.step = torch.full((rows, length), -1, dtype=torch.int64, device=device)
        dtype = torch.float64 if self.head.dtype == torch.float64 else torch.float32
        self.logps = torch.zeros((rows, length), dtype=dtype, device=device)
        self.active = list(range(rows))
        self.rows = torch.arange(rows, device=device)
        self.hidden = torch.empty((rows, 0), dtype=torch.int64, device=device)

    def open_block(self, block: int) -> None:
        """Sets `hidden` (b, n) of the active rows to the positions of a block, ascending within 0..T-1."""
        start = block * self.block_length
        span = torch.arange(start, start + self.block_length, device=self.rows.device)
        self.hidden = span.expand(len(self.active), -1)

    def hidden_at_block(self, rows_per_forward: int | None) -> Tensor:
        """Last hidden states at `hidden`, (b, n, D); rows that are equal are computed once."""
        seen = self.ids[self.rows].masked_fill(~self.real[self.rows], -1)
        # Sorting puts the rows with most padding first, so rows of like length share a forward pass.
        distinct, inverse = torch.unique(seen, dim=0, return_inverse=True)
        where = self.hidden.new_empty(len(distinct), self.hidden.shape[1])
        where[inverse] = self.width + self.hidden
        size = rows_per_forward or _fast_rows(distinct)
        parts = zip(distinct.split(size), where.split(size), strict=True)
        return torch.cat([self._forward(rows, columns) for rows, columns in parts])[inverse]

    def _forward(self, seen: Tensor, where: Tensor) -> Tensor:
        real = seen >= 0
        shortest, longest = torch.stack(real.sum(-1).aminmax()).tolist()
        padding = seen.shape[1] - longest
        seen, real, where = seen[:, padding:], real[:, padding:], where - padding
        return hidden_states(
            self.policy.model,
            seen.masked_fill(~real, self.policy.pad_id),
            None if shortest == longest else real,
            keep=where,
        )

    def reveal(self, tokens: Tensor, logps: Tensor, priority: Tensor, count: int, step: int) -> None:
        """Writes the `count` best tokens of every active row, then lets finished rows go."""
        now, later = earliest_first(priority, count)
        rows, where = self.rows.unsqueeze(-1), self.hidden.gather(1, now)
        self.ids[rows, self.width + where] = tokens.gather(1, now)
        self.logps[rows, where] = logps.gather(1, now)
        self.step[rows, where] = step
        self.hidden = self.hidden.gather(1, later)
        self._release()

    def _release(self) -> None:
        if not len(self.ends) or not self.active:
            return
        end = _first(torch.isin(self.ids[self.rows, self.width :], self.ends))
        # With the block complete, any end token found will do: later blocks are still hidden.
        hole = self.hidden[:, 0] if self.hidden.shape[1] else self.step.shape[1]
        kept = (end >= hole).nonzero().squeeze(-1).tolist()
        if len(kept) < len(self.active):
            self.active = [self.active[i] for i in kept]
            self.rows, self.hidden = self.rows[kept], self.hidden[kept]

    def finish(self) -> Rollouts:
        """The record of everything revealed so far."""
        completion_ids = self.ids[:, self.width :].contiguous()
        end = _first(torch.isin(completion_ids, self.ends))
        places = torch.arange(completion_ids.shape[1], device=end.device)
        return Rollouts(
            prompt_ids=self.ids[:, : self.width],
            prompt_mask=self.prompt_mask,
            completion_ids=completion_ids,
            completion_mask=places <= end.unsqueeze(-1),
            reveal_step=self.step,
            reveal_logps=self.logps,
        )


def _check_inputs(
    policy: Policy,
    prompt_mask: Tensor,
    sampling: Sampling,
    generators: Sequence[torch.Generator] | None,
    rows_per_forward: int | None,
) -> None:
    rows, given = len(prompt_mask), None if generators is None else len(generators)
    if sampling.draws_noise and given != rows:
        raise ConfigError(
            f"temperature={sampling.temperature}, remasking={sampling.remasking!r} draws noise: {rows} "
            f"prompts need {rows} generators, got {given}. "
            "Make one for each with spg_trainer.seeding.generator."
        )
    if rows_per_forward is not None and rows_per_forward < 1:
        raise ConfigError(f"rows_per_forward={rows_per_forward} must be at least 1, or None for all rows.")
    if bool((prompt_mask[:, :-1] & ~prompt_mask[:, 1:]).any()):
        raise ConfigError("prompt_mask has padding behind a token. Pad on the left, as encode_prompts does.")
    limit = getattr(policy.model.config, "max_position_embeddings", None)
    lengths = prompt_mask.sum(-1)
    longest = int(lengths.max()) if lengths.numel() else 0
    asked = sampling.max_completion_length
    if limit is not None and longest + asked > limit:
        raise ConfigError(
            f"prompt {int(lengths.argmax())} has {longest} tokens; with max_completion_length={asked} "
            f"that is {longest + asked}, but the model has {limit} positions. "
            f"Shorten the prompt (it is never cut silently), or use max_completion_length="
            f"{max(0, limit - longest)} or less."
        )


def _first(found: Tensor) -> Tensor:
    """Index of the first true column of found (b, n), or n where there is none: (b,) int64."""
    columns = torch.arange(found.shape[1], device=found.device)
    return columns.masked_fill(~found, found.shape[1]).amin(-1)


def _fast_rows(seen: Tensor) -> int:
    rows, width = seen.shape
    if seen.device.type == "cpu":
        return max(1, _POSITIONS_PER_THREAD * torch.get_num_threads() // width)
    return max(1, rows)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; afterwards every module is in the mode it was in, whatever happened."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True

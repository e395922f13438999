"""How completions are made: plain LLaDA decoding without the work that cannot change a token up to the first end token.

`sample_completions` calls the decoder that `--remasking` names in `DECODERS`. Those here denoise block by block and
differ in the rule that ranks masked positions; a new rule is a function like `by_confidence`, another way to decode a
function like `denoise_blocks`, and either a line of the table.

Left out: logits and the last layer outside the masked positions of the active block, rows whose text is already
finished, padding common to the rows of a forward pass, and all but one of several rows that look the same to the model
at a step. What remains is the same function of the same inputs, up to the rounding of the matrix products.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from spg_trainer.batch import Rollouts
from spg_trainer.errors import ConfigError
from spg_trainer.models.load import Policy, head_weight, hidden_states
from spg_trainer.settings.fields import Sampling

Generators = Sequence[torch.Generator] | None
"""One per row, on the model's device; None where nothing is random."""
Decoder = Callable[[Policy, Tensor, Tensor, Sampling, Generators, int | None], Rollouts]
"""(policy, prompt_ids, prompt_mask, sampling, generators, rows_per_forward) -> Rollouts; see `sample_completions`."""
RemaskingRule = Callable[[Tensor, Generators], Tensor]
"""(logps (b, n) of the sampled tokens, b generators) -> priority (b, n): the higher, the earlier it is unmasked."""

_watcher: ContextVar[Callable[[float], None] | None] = ContextVar("watcher", default=None)
_POSITIONS_PER_THREAD = 1024
"""Forward passes of so many positions stay in a CPU's cache: 1.3 to 1.6 times faster than larger ones."""
_MAX_LOGITS = 2**26
"""Logits alive at once (256 MB in float32); whole rows only, because a row's noise is one draw."""
_MIN_EXPONENTIAL = torch.finfo(torch.float32).tiny
"""Guards against an exact 0 only, whose infinite logarithm would turn the forbidden mask's score into NaN. Real draws
go down to 2**-24 on CUDA and below 2**-30 on a CPU; a larger bound would change what rare tokens score."""


def sample_completions(
    policy: Policy,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    sampling: Sampling,
    generators: Generators,
    *,
    rows_per_forward: int | None = None,
) -> Rollouts:
    """Writes one completion for each prompt, in evaluation mode, with the decoder that `sampling.remasking` names.

    prompt_ids: (B, L) int64, left-padded. prompt_mask: (B, L) bool, false on padding. generators: B on the model's
    device; None where nothing is random. rows_per_forward: at most so many rows in one call of the model, which bounds
    memory; None = what is fastest: all on an accelerator, few enough to stay in the cache on a CPU.

    Returns Rollouts on the model's device; positions that were still masked when a row was finished hold the mask id,
    step -1 and log-probability 0. Raises ConfigError for settings that cannot decode, a prompt too long for the model.
    """
    sampling.check()
    decode = get_decoder(sampling.remasking)
    device = policy.model.device
    prompt_ids, prompt_mask = prompt_ids.to(device), prompt_mask.to(device, torch.bool)
    _check_prompts_fit(policy, prompt_mask, sampling.max_completion_length)
    with torch.no_grad(), _evaluating(policy.model):
        return decode(policy, prompt_ids, prompt_mask, sampling, generators, rows_per_forward)


def get_decoder(remasking: str) -> Decoder:
    """The decoder of a name. Raises ConfigError that lists the known ones."""
    if remasking not in DECODERS:
        raise ConfigError(f"--remasking {remasking!r} is unknown. Use one of: {', '.join(DECODERS)}.")
    return DECODERS[remasking]


@contextmanager
def watching(report: Callable[[float], None]) -> Iterator[None]:
    """Inside, `report` is told after every denoising step what share of the steps of its rows is done, 0 to 1."""
    token = _watcher.set(report)
    try:
        yield
    finally:
        _watcher.reset(token)


def by_confidence(logps: Tensor, generators: Generators) -> Tensor:
    """The tokens that the model is surest of first."""
    return logps


def at_random(logps: Tensor, generators: Generators) -> Tensor:
    """Any tokens first: one uniform float32 number per masked position, drawn after the noise of the tokens."""
    priority = torch.empty(logps.shape, dtype=torch.float32, device=logps.device)
    for row, generator in zip(priority, generators, strict=True):
        row.uniform_(generator=generator)
    return priority


def denoise_blocks(
    policy: Policy,
    prompt_ids: Tensor,
    prompt_mask: Tensor,
    sampling: Sampling,
    generators: Generators,
    rows_per_forward: int | None,
    *,
    rule: RemaskingRule = by_confidence,
) -> Rollouts:
    """Semi-autoregressive decoding as LLaDA does it: blocks from left to right, in each the best tokens first.

    Equal priorities go by position. Source: LLaDA (arXiv 2502.09992).
    """
    canvas = _Canvas(policy, prompt_ids, prompt_mask, sampling)
    counts = unmask_counts(sampling.block_length, sampling.steps_per_block)
    report = _watcher.get()
    for block in range(sampling.num_blocks):
        canvas.open_block(block)
        for step, count in enumerate(counts):
            if not canvas.active:
                return canvas.finish()
            states = canvas.hidden_states(rows_per_forward)
            streams = [generators[row] for row in canvas.active] if sampling.draws_noise else None
            tokens, logps = sample_tokens(states, canvas.head, policy.mask_id, sampling.temperature, streams)
            canvas.unmask(tokens, logps, rule(logps, streams), count, block * len(counts) + step)
            if report:
                report((block * len(counts) + step + 1) / sampling.diffusion_steps)
    return canvas.finish()


DECODERS: dict[str, Decoder] = {
    "low_confidence": partial(denoise_blocks, rule=by_confidence),
    "random": partial(denoise_blocks, rule=at_random),
}
"""What `--remasking NAME` chooses from."""


def unmask_counts(masked: int, steps: int) -> list[int]:
    """How many of `masked` tokens each of `steps` steps unmasks: evenly, the first steps one more.

    Source: LLaDA (arXiv 2502.09992), `get_num_transfer_tokens`.
    """
    base, more = divmod(masked, steps)
    return [base + (step < more) for step in range(steps)]


def sample_tokens(
    hidden_states: Tensor, head: Tensor, mask_id: int, temperature: float, generators: Generators
) -> tuple[Tensor, Tensor]:
    """Draws a token for every masked position of the active block, in the order of positions.

    A token is the argmax of logits - temperature * log E with E ~ Exp(1), which is a draw from softmax(logits /
    temperature); the additive form needs no exp and cannot overflow. Only the mask id is forbidden: rows of the
    embedding that the tokenizer does not know can be drawn, exactly as the plain LLaDA sampler would. Log-probabilities
    are un-tempered, over the whole vocabulary (mask id included, as in training), and taken relative to the largest
    logit, which keeps them exact to 1e-7 where the model is sure.

    hidden_states: (b, n, D) at the n masked positions. head: (V, D) output embedding. temperature: 0 = greedy.
    generators: b; the noise of a row is one float32 draw of Exp(1) of shape (n, V).
    Returns tokens (b, n) int64 and logps (b, n) float32, or float64 when the model is.
    """
    rows, count, vocabulary = hidden_states.shape[0], hidden_states.shape[1], head.shape[0]
    chunk = max(1, _MAX_LOGITS // max(1, count * vocabulary))
    tokens, logps = [], []
    for start in range(0, rows, chunk):
        part = slice(start, start + chunk)
        logits = linear(hidden_states[part], head)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        noise = None
        if temperature > 0:
            noise = log_exponential(logits.shape[1:], generators[part], logits.device).mul_(temperature)
        token, logp = _choose(logits, noise, mask_id)
        tokens.append(token)
        logps.append(logp)
    return torch.cat(tokens), torch.cat(logps)


def log_exponential(
    shape: Sequence[int], generators: Sequence[torch.Generator], device: torch.device
) -> Tensor:
    """log E with E ~ Exp(1), one draw of `shape` from each generator: (len(generators), *shape) float32.

    Always float32, so that a float64 model sees the same noise as its float32 twin.
    """
    noise = torch.empty((len(generators), *shape), dtype=torch.float32, device=device)
    for row, generator in zip(noise, generators, strict=True):
        row.exponential_(generator=generator)
    return noise.clamp_(min=_MIN_EXPONENTIAL).log_()


def _choose(logits: Tensor, noise: Tensor | None, mask_id: int) -> tuple[Tensor, Tensor]:
    """The best token under the noise and its log-probability. Overwrites `logits` (c, n, V)."""
    mask_logit = logits[..., mask_id].clone()
    logits[..., mask_id] = float("-inf")
    if noise is None:
        best, token = logits.max(-1)
        peak = torch.maximum(best, mask_logit)
    else:
        token = (logits - noise).argmax(-1)
        best = logits.gather(-1, token.unsqueeze(-1)).squeeze(-1)
        peak = torch.maximum(logits.amax(-1), mask_logit)
    mass = logits.sub_(peak.unsqueeze(-1)).exp_().sum(-1) + (mask_logit - peak).exp()
    return token, (best - peak) - mass.log()


class _Canvas:
    """Prompts and completions under work. Rows that are finished stay, but leave `active`."""

    def __init__(self, policy: Policy, prompt_ids: Tensor, prompt_mask: Tensor, sampling: Sampling) -> None:
        rows, self.width = prompt_ids.shape
        length, device = sampling.max_completion_length, prompt_ids.device
        self.policy, self.block_length, self.prompt_mask = policy, sampling.block_length, prompt_mask
        self.head = head_weight(policy.model)
        self.end_tokens = torch.tensor(policy.end_token_ids, dtype=torch.int64, device=device)
        self.ids = torch.cat([prompt_ids, prompt_ids.new_full((rows, length), policy.mask_id)], -1)
        self.real = torch.cat([prompt_mask, prompt_mask.new_ones((rows, length))], -1)
        self.unmask_step = torch.full((rows, length), -1, dtype=torch.int64, device=device)
        dtype = torch.promote_types(self.head.dtype, torch.float32)
        self.unmask_logps = torch.zeros((rows, length), dtype=dtype, device=device)
        self.active = list(range(rows))
        self.rows = torch.arange(rows, device=device)
        self.masked = torch.empty((rows, 0), dtype=torch.int64, device=device)

    def open_block(self, block: int) -> None:
        """Sets `masked` (b, n) of the active rows to the positions of a block, ascending within 0..T-1."""
        start = block * self.block_length
        span = torch.arange(start, start + self.block_length, device=self.rows.device)
        self.masked = span.expand(len(self.active), -1)

    def hidden_states(self, rows_per_forward: int | None) -> Tensor:
        """Last hidden states at `masked`, (b, n, D); rows that are equal are computed once."""
        seen = self.ids[self.rows].masked_fill(~self.real[self.rows], -1)
        # Sorting puts the rows with most padding first, so rows of like length share a forward pass.
        distinct, inverse = torch.unique(seen, dim=0, return_inverse=True)
        where = self.masked.new_empty(len(distinct), self.masked.shape[1])
        where[inverse] = self.width + self.masked
        size = rows_per_forward or len(distinct)
        if rows_per_forward is None and distinct.device.type == "cpu":
            size = max(1, _POSITIONS_PER_THREAD * torch.get_num_threads() // distinct.shape[1])
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

    def unmask(self, tokens: Tensor, logps: Tensor, priority: Tensor, count: int, step: int) -> None:
        """Writes the `count` best tokens of every active row, then lets finished rows go."""
        order = priority.argsort(dim=-1, descending=True, stable=True)
        now, later = order[:, :count], order[:, count:].sort(-1).values
        rows, where = self.rows.unsqueeze(-1), self.masked.gather(1, now)
        self.ids[rows, self.width + where] = tokens.gather(1, now)
        self.unmask_logps[rows, where] = logps.gather(1, now)
        self.unmask_step[rows, where] = step
        self.masked = self.masked.gather(1, later)
        end = self._end(self.rows)
        # With the block complete, any end token will do: later blocks are still masked.
        first_masked = self.masked[:, 0] if self.masked.shape[1] else self.unmask_step.shape[1]
        kept = (end >= first_masked).nonzero().squeeze(-1).tolist()
        if len(kept) < len(self.active):
            self.active = [self.active[i] for i in kept]
            self.rows, self.masked = self.rows[kept], self.masked[kept]

    def finish(self) -> Rollouts:
        """The record of everything unmasked so far."""
        completion_ids = self.ids[:, self.width :].contiguous()
        positions = torch.arange(completion_ids.shape[1], device=completion_ids.device)
        return Rollouts(
            prompt_ids=self.ids[:, : self.width],
            prompt_mask=self.prompt_mask,
            completion_ids=completion_ids,
            completion_mask=positions <= self._end(slice(None)).unsqueeze(-1),
            unmask_step=self.unmask_step,
            unmask_logps=self.unmask_logps,
        )

    def _end(self, rows: Tensor | slice) -> Tensor:
        """(b,) int64, the position of the first end token of some completions, T where there is none."""
        is_end = torch.isin(self.ids[rows, self.width :], self.end_tokens)
        columns = torch.arange(is_end.shape[1], device=is_end.device)
        return columns.masked_fill(~is_end, is_end.shape[1]).amin(-1)


def _check_prompts_fit(policy: Policy, prompt_mask: Tensor, asked: int) -> None:
    limit = policy.model.config.max_position_embeddings
    longest = int(prompt_mask.sum(-1).max()) if len(prompt_mask) else 0
    if longest + asked > limit:
        raise ConfigError(
            f"a prompt has {longest} tokens; with max_completion_length={asked} that is {longest + asked}, but the "
            f"model has {limit} positions. Shorten the prompt (it is never cut), or use max_completion_length="
            f"{max(0, limit - longest)} or less."
        )


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

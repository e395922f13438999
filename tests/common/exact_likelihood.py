"""What the estimators estimate, without error: likelihoods, their bounds and the sampler's law by enumeration.

For completions of up to 12 tokens: a likelihood costs 2**n canvases, the law of the sampler every canvas that it can
reach, so a few words of vocabulary. Everything is float64 and differentiable in the weights of the model.

Axes: N canvases, T completion tokens, V vocabulary, n scored tokens of one completion, K completions of a law. A canvas
is a completion with the mask id where a token is hidden. The model comes as a function of canvases, `Predict`, so that
a table of numbers will do; `predictor` makes one of a model and a prompt.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from spg_trainer.architecture.pattern import Pattern
from spg_trainer.errors import ConfigError
from spg_trainer.models import Policy, llada_config
from spg_trainer.models.forward import base_model, head_weight, hidden_states
from spg_trainer.rollout.unmasking import unmask_counts
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows

Predict = Callable[[Tensor], Tensor]
"""Canvases (N, T) int64 to log-probabilities (N, T, V) float64 over the whole vocabulary, mask id included."""

MAX_TOKENS = 12
MAX_OUTCOMES = 2**21
"""Canvases that one denoising step may lead to: about 1 GB with their graph."""
_CANVASES_AT_ONCE = 256


END, MASK, VOCABULARY = 3, 4, 5
"""Of `policy_of_few_words`."""


def policy_of_few_words(seed: int = 1, dtype: torch.dtype = torch.float64) -> Policy:
    """Three words, one end token, and weights so large that contexts matter; no tokenizer, ids go in and out."""
    config = llada_config(
        d_model=16,
        n_layers=2,
        n_heads=2,
        mlp_hidden_size=24,
        max_sequence_length=32,
        vocab_size=VOCABULARY,
        mask_token_id=MASK,
        eos_token_id=END,
        pad_token_id=END,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = config.model_class(config).to(dtype).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(12)
    return Policy(model, None, MASK, END, (END,), "test")


def predictor(model: nn.Module, prompt_ids: Tensor, clean: Tensor | None = None) -> Predict:
    """A model behind a prompt (L,) int64 without padding; softmax in float64, whatever the model's dtype.

    clean: (T,) int64, a completion that is scored. Under block-causal attention a token then sees earlier blocks as
    they stand there and its own as the canvas has it, one pass for each block, as a sampler that has finished these
    and as `Scorer`. Without, it sees the canvas alone, as the sampler does.
    """
    family, start = base_model(model), len(prompt_ids)

    def logps(canvases: Tensor) -> Tensor:
        prompt = prompt_ids.to(canvases).expand(len(canvases), -1)
        states = hidden_states(model, torch.cat([prompt, canvases], -1).to(model.device), start=start)
        logits = states[:, start:] @ head_weight(model).T
        return logits.to(canvases.device, torch.float64).log_softmax(-1)

    def by_blocks(canvases: Tensor) -> Tensor:
        parts, end = [], 0
        while end < canvases.shape[1]:
            begin, end = end, min(family.pattern.block_of(end, start)[1], canvases.shape[1])
            shown = torch.cat(
                [clean[:begin].to(canvases).expand(len(canvases), -1), canvases[:, begin:end]], -1
            )
            parts.append(logps(shown)[:, begin:])
        return torch.cat(parts, 1)

    return logps if clean is None or family.pattern.is_full else by_blocks


# Likelihoods


def context_logps(predict: Predict, completion_ids: Tensor, length: int, mask_id: int) -> Tensor:
    """log p(token i | the tokens of S), for every set S of shown tokens: (2**n, n), 0 where i is in S.

    completion_ids: (T,) int64. length: n, 1 to 12; the tokens behind the first n stay masked. Bit i of a row's number
    says whether token i is shown: row 0 holds the one-step (mean-field) logps. Raises ConfigError beyond 12 tokens.
    """
    _check_length(length)
    shown = _bits(length).to(completion_ids.device)
    canvases = completion_ids.new_full((len(shown), len(completion_ids)), mask_id)
    canvases[:, :length] = completion_ids[:length].where(shown, mask_id)
    targets = completion_ids[:length, None]
    parts = [
        predict(part)[:, :length].gather(-1, targets.expand(len(part), -1, 1)).squeeze(-1)
        for part in canvases.split(_CANVASES_AT_ONCE)
    ]
    return torch.cat(parts).masked_fill(shown, 0.0)


def order_log_likelihood(logps: Tensor, order: Sequence[int]) -> Tensor:
    """log p of writing the tokens in one order, each given those before it; () from `context_logps` (2**n, n).

    order: a permutation of 0..n-1; range(n) is autoregressive.
    """
    shown = list(itertools.accumulate((1 << token for token in order), initial=0))[:-1]
    return logps[shown, list(order)].sum()


def any_order_log_likelihood(logps: Tensor) -> Tensor:
    """log of the mean likelihood over all n! orders, (); the likelihood of decoding one random position at a time.

    logps: (2**n, n) from `context_logps`. Dynamic programming over sets S of written tokens:
    f(S) = sum over i in S of f(S without i) p(i | S without i), in log space.
    """
    n = logps.shape[1]
    bits = _bits(n).to(logps.device)
    size = bits.sum(-1)
    place = torch.empty_like(size)  # of a set among the sets of its size
    totals = logps.new_zeros(1)
    for count in range(n + 1):
        sets = (size == count).nonzero().squeeze(-1)
        place[sets] = torch.arange(len(sets), device=sets.device)
        if count:
            last = bits[sets].nonzero()[:, 1].view(-1, count)
            before = sets[:, None] - (1 << last)
            totals = (totals[place[before]] + logps[before, last]).logsumexp(-1)
    return totals.squeeze(0) - math.lgamma(n + 1)


def any_order_elbo(logps: Tensor) -> Tensor:
    """The mean over all orders of the log-likelihood, (): the ELBO of masked diffusion, at most the log of the mean.

    logps: (2**n, n) from `context_logps`. A set of k shown tokens precedes a given other one in k! (n-k-1)! orders.
    Source: LLaDA (arXiv 2502.09992), equation 3, in the limit of exact expectations.
    """
    n = logps.shape[1]
    share = [math.exp(math.lgamma(k + 1) + math.lgamma(n - k) - math.lgamma(n + 1)) for k in range(n)]
    size = _bits(n).sum(-1).to(logps.device)
    return (logps.new_tensor([*share, 0.0])[size][:, None] * logps).sum()


def block_log_likelihood(logps: Tensor, block_length: int) -> Tensor:
    """The sum over blocks of `any_order_log_likelihood` within a block, earlier blocks shown, later ones masked; ()."""
    return torch.stack([any_order_log_likelihood(part) for part in _blocks(logps, block_length)]).sum()


def block_elbo(logps: Tensor, block_length: int) -> Tensor:
    """The sum over blocks of `any_order_elbo` within a block, earlier blocks shown, later ones masked; ()."""
    return torch.stack([any_order_elbo(part) for part in _blocks(logps, block_length)]).sum()


def path_log_likelihood(
    predict: Predict, completion_ids: Tensor, unmask_step: Tensor, length: int, mask_id: int
) -> Tensor:
    """The sum of the logps of the first `length` tokens, each as the sampler saw it when it unmasked it; ().

    completion_ids, unmask_step: (T,) int64 of a rollout; tokens behind the end are shown from their step on. Nothing is
    said of the order: under low-confidence remasking its probability is a factor that is left out here.
    """
    steps = unmask_step[:length].unique()
    written = (unmask_step >= 0) & (unmask_step < steps[:, None])
    logps = predict(completion_ids.where(written, mask_id))
    logps = logps.gather(-1, completion_ids.expand(len(steps), -1)[..., None]).squeeze(-1)[:, :length]
    return logps[unmask_step[:length] == steps[:, None]].sum()


def _blocks(logps: Tensor, block_length: int) -> list[Tensor]:
    """Per block, the rows and columns of `context_logps` that concern its tokens: all earlier ones shown, no later."""
    n = logps.shape[1]
    parts = []
    for start in range(0, n, block_length):
        inside = torch.arange(1 << min(block_length, n - start), device=logps.device)
        parts.append(logps[(1 << start) - 1 + (inside << start), start : start + block_length])
    return parts


def _bits(n: int) -> Tensor:
    """(2**n, n) bool, the bits of every number of n bits, the lowest first."""
    return (torch.arange(1 << n)[:, None] >> torch.arange(n)) & 1 == 1


def _check_length(length: int) -> None:
    if not 1 <= length <= MAX_TOKENS:
        raise ConfigError(f"a completion of {length} tokens: enumeration is for 1 to {MAX_TOKENS}.")


# The law of the sampler


class Law(NamedTuple):
    """Every completion that the sampler can write, up to and including its first end token, and how probable it is."""

    completion_ids: Tensor
    """(K, T) int64, the mask id behind the end."""
    completion_mask: Tensor
    """(K, T) bool."""
    probabilities: Tensor
    """(K,) float64, all above 0; they sum to 1."""

    def find(self, rollouts: Rows) -> Tensor:
        """(B,) int64, the row of each completion. Raises ConfigError for one that the law does not know."""
        behind = self.completion_ids.new_full((), -1)
        own = self.completion_ids.where(self.completion_mask, behind)
        asked = rollouts.completion_ids.where(rollouts.completion_mask, behind).to(own.device)
        distinct, inverse = torch.cat([own, asked]).unique(dim=0, return_inverse=True)
        rows = inverse.new_full((len(distinct),), -1)
        rows[inverse[: len(own)]] = torch.arange(len(own), device=rows.device)
        places = rows[inverse[len(own) :]]
        if (places < 0).any():
            completion = asked[places < 0][0].tolist()
            raise ConfigError(
                f"the law has no completion {completion} (-1 = behind the end): is it of this sampler?"
            )
        return places


def completion_law(
    predict: Predict,
    sampling: Sampling,
    *,
    mask_id: int,
    end_token_ids: Sequence[int] = (),
    spans: Sequence[tuple[int, int]] | None = None,
) -> Law:
    """The exact distribution of `sample_completions` for one prompt, for low_confidence and random.

    A step draws a token for each masked position of the active block from softmax(logits / temperature) without the
    mask id, and unmasks as many as the sampler's: those of highest un-tempered log-probability, ties by position, or
    any. Rows end with their first end token. Canvases that several paths reach are merged, so that orders are summed.
    spans: first token and end of each block as `Pattern.spans` cuts them; None = as full attention does.

    The probabilities are differentiable; at temperature 0 they are constants. Under low_confidence the ranking of
    tokens is piecewise constant in the weights, and the gradient is that between its jumps. Raises ConfigError for
    completions of more than 12 tokens, for a step with more than 2**21 outcomes, for a remasking without a law here.
    Source: LLaDA (arXiv 2502.09992), as in `spg_trainer.rollout.sampler`.
    """
    sampling.check()
    _check_length(sampling.max_completion_length)
    if changed := [text for text in sampling.unusual if not text.startswith("remasking ")]:
        raise ConfigError(f"{', '.join(changed)}: only exact decoding by schedule has an exact law.")
    if sampling.remasking not in ("low_confidence", "random"):
        raise ConfigError(f"remasking={sampling.remasking!r} has no exact law. Use low_confidence or random.")
    canvases = torch.full((1, sampling.max_completion_length), mask_id)
    masses = torch.ones(1, dtype=torch.float64)
    ends = torch.tensor(end_token_ids, dtype=torch.int64)
    finished: list[tuple[Tensor, Tensor]] = []
    counts = unmask_counts(sampling.block_length, sampling.steps_per_block)
    for span, count in _steps(spans or Pattern().spans(0, canvases.shape[1], sampling.block_length), counts):
        if not len(canvases):
            break
        proposals = _propose(predict, canvases, span, sampling, mask_id)
        canvases, masses = _unmask(canvases, masses, proposals, count, sampling)
        end, masked = _first(torch.isin(canvases, ends)), _first(canvases == mask_id)
        done = end < masked
        behind = torch.arange(canvases.shape[1]) > end[:, None]
        finished.append((canvases.masked_fill(behind, mask_id)[done], masses[done]))
        canvases, masses = canvases[~done], masses[~done]
    completion_ids, probabilities = _merge(
        torch.cat([canvases, *(c for c, _ in finished)]), torch.cat([masses, *(m for _, m in finished)])
    )
    return Law(completion_ids, completion_ids != mask_id, probabilities)


def _steps(spans: Sequence[tuple[int, int]], counts: Sequence[int]) -> Iterator[tuple[tuple[int, int], int]]:
    """Each step's block and how many tokens it unmasks: no more than are masked."""
    for start, stop in spans:
        left = stop - start
        for count in counts:
            if left:
                yield (start, stop), min(count, left)
            left -= min(count, left)


def expected_reward(law: Law, rewards: Tensor) -> Tensor:
    """sum over completions of probability times reward, (); its gradient is the true policy gradient.

    rewards: (K,), of the rows of `law.completion_ids`.
    """
    return (law.probabilities * rewards.to(law.probabilities)).sum()


class _Proposals(NamedTuple):
    """What a step may draw at the m masked places of N canvases, W words at each."""

    places: Tensor
    """(N, m) int64, columns of the canvas."""
    tokens: Tensor
    """(N, m, W) int64."""
    chances: Tensor
    """(N, m, W), how probably each is drawn."""
    confidence: Tensor
    """(N, m, W), how it then ranks, without a graph."""


def _propose(
    predict: Predict, canvases: Tensor, span: tuple[int, int], sampling: Sampling, mask_id: int
) -> _Proposals:
    """All draws at the masked places of a block; at temperature 0 the best word alone."""
    start, stop = span
    is_masked = canvases[:, start:stop] == mask_id
    places = start + is_masked.nonzero()[:, 1].view(len(canvases), -1)
    logps = predict(canvases)
    words = torch.arange(logps.shape[-1])
    tokens = words[words != mask_id].expand(*places.shape, -1)
    logps = logps.gather(1, places[..., None].expand(-1, -1, len(words)))
    logps = logps.gather(-1, tokens)
    if sampling.temperature > 0:
        return _Proposals(places, tokens, (logps / sampling.temperature).softmax(-1), logps.detach())
    best = logps.argmax(-1, keepdim=True)
    confidence = logps.detach().gather(-1, best)
    return _Proposals(places, tokens.gather(-1, best), torch.ones_like(confidence), confidence)


def _unmask(
    canvases: Tensor, masses: Tensor, proposals: _Proposals, count: int, sampling: Sampling
) -> tuple[Tensor, Tensor]:
    """All canvases that unmasking `count` places leads to, and their probabilities."""
    places, tokens, chances, confidence = proposals
    masked, words = tokens.shape[1:]
    outcomes = len(canvases) * math.comb(masked, count) * words**count
    if outcomes > MAX_OUTCOMES:
        raise ConfigError(
            f"a denoising step leads to {outcomes} canvases, more than {MAX_OUTCOMES}. Take shorter blocks, more "
            "diffusion_steps, or fewer words."
        )
    draws = torch.cartesian_prod(*[torch.arange(words)] * count).view(-1, count)
    reached = []
    for chosen in itertools.combinations(range(masked), count):
        index = torch.tensor(chosen)
        entries = (slice(None), index, draws)  # (N, W**count, count) of a table (N, m, W)
        others_stay: Tensor | float = 1 / math.comb(masked, count)
        if sampling.remasking == "low_confidence":
            others_stay = _others_are_less_sure(chances, confidence, confidence[entries], index)
        chance = chances[entries].prod(-1) * others_stay
        after = canvases[:, None].repeat(1, len(draws), 1)
        after.scatter_(2, places[:, None, index].expand(-1, len(draws), -1), tokens[entries])
        mass = masses[:, None] * chance
        possible = mass.detach() > 0
        reached.append((after[possible], mass[possible]))
    return _merge(torch.cat([c for c, _ in reached]), torch.cat([m for _, m in reached]))


def _others_are_less_sure(chances: Tensor, confidence: Tensor, kept: Tensor, index: Tensor) -> Tensor:
    """(N, D), how probably every other place draws a token that ranks below all the kept ones (N, D, count)."""
    worst = kept.amin(-1, keepdim=True)
    last = index.where(kept == worst, -1).amax(-1, keepdim=True)  # of equals, the one that ranks lowest
    result = kept.new_ones(kept.shape[:2])
    for other in set(range(confidence.shape[1])) - set(index.tolist()):
        rank = confidence[:, None, other]
        below = (rank < worst) | ((rank == worst) & (other > last))
        result = result * torch.where(below, chances[:, None, other], 0.0).sum(-1)
    return result


def _merge(canvases: Tensor, masses: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct canvases and the sums of their masses."""
    distinct, inverse = canvases.unique(dim=0, return_inverse=True)
    return distinct, masses.new_zeros(len(distinct)).index_add(0, inverse, masses)


def _first(hits: Tensor) -> Tensor:
    """(N,) int64, the first true column of (N, T), T where there is none."""
    columns = torch.arange(hits.shape[1])
    return columns.masked_fill(~hits, hits.shape[1]).amin(-1)

"""Measures how far fast decoding is from exact decoding, on a few completions of a step.

Decoding is faster with a cache (--cache), and if each step unmasks all tokens that the model is sure of (--unmasking
threshold, dynamic, factor or budget). But the model then learns from completions that it would not have written by
exact decoding. These figures say how different they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from spg_trainer.likelihood.logps import path_logps
from spg_trainer.models import Policy
from spg_trainer.rollout.tokens import sample
from spg_trainer.settings.decoding import DRAW_SETTINGS, Decoding, Sampling
from spg_trainer.tensors import Rows

EPISODES = 8
"""How many episodes are looked at: the first ones of a step, over all processes. Each turn of them is a completion."""


def fidelity_sums(
    policy: Policy,
    scored: Rows,
    sampling: Sampling,
    seed: int,
    step: int,
    rows_per_forward: int | None,
    *,
    episodes: int = EPISODES,
) -> dict[str, float]:
    """Sums over the tokens of this process's completions, as far as they are looked at, for `fidelity_means`.

    `logp` and `logp_exact` sum the recorded and the exact log-probabilities, `equal_tokens` counts the tokens that
    exact decoding writes, too, and `tokens` counts all tokens. The first two are left out if they would be of different
    distributions (`records_logps_of_model`).

    Call it before an update: the policy must have the weights that sampled. episodes: how many are looked at, from the
    first on. All must be of the step's first rollout batch (--max-rollout-batches), because the noise of later batches
    has other keys.
    """
    is_looked_at = scored.episode < episodes
    row_indices = is_looked_at.nonzero()[:, 0]
    names = ["equal_tokens", "tokens"]
    if records_logps_of_model(sampling):
        names = ["logp", "logp_exact", *names]
    if not len(row_indices):
        return dict.fromkeys(names, 0.0)
    rollouts = scored.tensors().select(row_indices).trim()
    written = rollouts.completion_mask
    # Exact decoding draws in the same way, and has the default of every setting that only saves time.
    drawn_as_before = {name: getattr(sampling, name) for name in DRAW_SETTINGS}
    exact = replace(sampling, **asdict(Decoding(**drawn_as_before)))
    # The keys of the noise in the rollout, so that exact decoding draws the same noise.
    noise_keys = [("rollout", step, *key) for key in rollouts.noise_keys()]
    decoded_exactly = sample(
        policy,
        (rollouts.prompt_ids, rollouts.prompt_mask),
        exact,
        seed,
        noise_keys,
        rows_per_forward,
        template_ids=rollouts.canvas(policy.mask_id),
    )
    is_equal = decoded_exactly.completion_ids == rollouts.completion_ids
    is_equal &= decoded_exactly.completion_mask & written
    values = {"equal_tokens": is_equal, "tokens": written}
    if "logp" in names:
        values |= {
            "logp": rollouts.unmask_logps * written,
            "logp_exact": path_logps(policy.model, rollouts, policy.mask_id) * written,
        }
    return {name: float(values[name].sum()) for name in names}


def records_logps_of_model(sampling: Sampling) -> bool:
    """Whether the rollout records the log-probabilities that the model itself gives the tokens, as `path_logps` does.

    With `top_p` or `top_k` it records those of the tempered and cut distribution that it draws from, and with
    `eos_penalty` or `min_completion_length` those after the logits of end tokens were lowered (`rollout/draw.py`).
    """
    cuts = sampling.temperature > 0 and (sampling.top_p < 1 or sampling.top_k > 0)
    return not (cuts or sampling.eos_penalty or sampling.min_completion_length)


def fidelity_means(sums: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the tokens of all processes. sums: what `fidelity_sums` returned in each process.

    `decoding/logp`: the log-probability that was recorded when a token was unmasked. `decoding/logp_exact`: the one
    that the model gives the token at that step when no cache is used. `decoding/equal_tokens`: the share of tokens that
    exact decoding, with the same prompts and the same noise, writes at the same place.
    """
    totals = {name: sum(sums_of_process[name] for sums_of_process in sums) for name in sums[0]}
    tokens = totals.pop("tokens")
    return {f"decoding/{name}": total / tokens for name, total in totals.items()}

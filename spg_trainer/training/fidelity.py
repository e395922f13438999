"""Measures how far fast decoding is from exact decoding, on a few completions of a step.

Decoding is faster with a cache (--cache), and if each step unmasks all tokens that the model is sure of (--unmasking
threshold, dynamic, factor or budget). But the model then learns from completions that it would not have written by
exact decoding.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace

from spg_trainer.distributed import gather, raising_on_all
from spg_trainer.likelihood.logps import path_logps
from spg_trainer.rollout.player import Player
from spg_trainer.settings.decoding import DRAW_SETTINGS, Decoding, Sampling
from spg_trainer.tensors import Rows
from spg_trainer.training.run import Run

EPISODES = 8
"""How many episodes are looked at: the first ones of a step, over all processes. Each turn of them is a completion."""


def decoding_fidelity(run: Run, scored: Rows) -> dict[str, float]:
    """Metrics that say how far a step's decoding is from exact decoding. Call this before the weights change.

    The result is {} in four cases: the metrics are not due (--sample-steps); the run decodes exactly, without
    `shortcuts`; an engine samples, whose noise cannot be drawn again; or completions are given, not sampled.
    """
    config, steps_before = run.config, run.state.step
    # `run.due` looks at the step that was finished last, and this step is not finished yet.
    this_step, every = steps_before + 1, config.output.sample_steps
    is_due = every > 0 and (this_step % every == 0 or this_step == config.max_steps)
    by_itself = run.source.env is not None and not config.rollout_engine
    if not is_due or not config.rollout.shortcuts or not by_itself:
        return {}
    # Later batches of a step (--max-rollout-batches) are not looked at, since their noise has other keys.
    first_batch = config.batch.prompts_per_step * config.batch.num_generations
    with raising_on_all():
        sums = fidelity_sums(run.player, scored, steps_before, episodes=min(EPISODES, first_batch))
    return fidelity_means(gather([sums]))


def fidelity_sums(player: Player, scored: Rows, step: int, *, episodes: int = EPISODES) -> dict[str, float]:
    """Sums over the tokens of this process's completions, as far as they are looked at, for `fidelity_means`.

    `logp` and `logp_exact` sum the recorded and the exact log-probabilities, `equal_tokens` counts the tokens that
    exact decoding writes, too, and `tokens` counts all tokens. The first two are left out if they would be of different
    distributions (`records_logps_of_model`).

    player: wrote the completions, and has the same weights still, so call it before an update. episodes: how many are
    looked at, from the first on. All must be of the step's first rollout batch (--max-rollout-batches), because the
    noise of later batches has other keys.
    """
    policy, sampling = player.policy, player.sampling
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
    decoded_exactly = replace(player, sampling=exact).sample(
        (rollouts.prompt_ids, rollouts.prompt_mask), noise_keys, rollouts.canvas(policy.mask_id)
    )
    is_equal = decoded_exactly.completion_ids == rollouts.completion_ids
    is_equal &= decoded_exactly.completion_mask & written
    values = {"equal_tokens": is_equal, "tokens": written}
    if "logp" in names:
        values |= {
            "logp": rollouts.unmask_logps * written,
            "logp_exact": path_logps(policy, rollouts) * written,
        }
    return {name: float(values[name].sum()) for name in names}


def records_logps_of_model(sampling: Sampling) -> bool:
    """Whether the rollout records the log-probabilities that the model itself gives the tokens, as `path_logps` does.

    With `top_p` or `top_k` it records those of the tempered and cut distribution that it draws from, and with
    `eos_penalty` or `min_completion_length` those after the logits of end tokens were lowered (`rollout/draw.py`).
    With `editing_threshold`, a token that was replaced has been seen by others, and is not in the path that is left.
    """
    cuts = sampling.temperature > 0 and (sampling.top_p < 1 or sampling.top_k > 0)
    edits = sampling.editing_threshold is not None
    return not (cuts or edits or sampling.eos_penalty or sampling.min_completion_length)


def fidelity_means(sums: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the tokens of all processes. sums: what `fidelity_sums` returned in each process.

    `decoding/logp`: the log-probability that was recorded when a token was unmasked. `decoding/logp_exact`: the one
    that the model gives the token at that step when no cache is used. `decoding/equal_tokens`: the share of tokens that
    exact decoding, with the same prompts and the same noise, writes at the same place.
    """
    totals = {name: sum(sums_of_process[name] for sums_of_process in sums) for name in sums[0]}
    tokens = totals.pop("tokens")
    return {f"decoding/{name}": total / tokens for name, total in totals.items()}

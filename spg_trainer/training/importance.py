"""How much counts what an engine sampled: p / p_engine, up to a cap (--importance-sampling-mode and its cap).

p is the probability with which the model itself draws a token where it was unmasked, and p_engine the one with which
the engine drew it, which rounds differently. Both are taken at the temperature of drawing, where alone their ratio is
an importance weight: truncated importance sampling, as in TIS (Yao et al., 2025, "Your efficient RL framework secretly
brings you off-policy RL training"). The four modes are those of TRL.
"""

import numpy as np
import torch
from torch import Tensor

from spg_trainer.distributed import gather
from spg_trainer.settings.configs import Config
from spg_trainer.tensors import Rows


def importance_weights(config: Config, rows: Rows) -> Tensor:
    """The weights of rows that an engine sampled, float64: (B,) of their episodes, or (B, T) of their tokens."""
    log_ratio = rows.engine_log_ratio.double()
    if not config.weighs_tokens:
        log_ratio = rows.spread(rows.total(log_ratio.sum(-1)))
    return capped(config, log_ratio.exp())


def capped(config: Config, ratio: Tensor) -> Tensor:
    """Weights of any shape from ratios p / p_engine: above the cap they are the cap, or 0 with a mode that masks."""
    cap = config.importance_sampling_cap
    if config.importance_sampling_mode.endswith("truncate"):
        return ratio.clamp(max=cap)
    return ratio.masked_fill(ratio > cap, 0.0)


def engine_metrics(config: Config, rows: Rows) -> dict[str, float]:
    """How far an engine is from the model, over the completions of all processes; {} if no engine has sampled them.

    `engine/logp_gap` is the mean distance of a token's log-probability in the engine from that in the model,
    `engine/effective_sample_size` is (sum of weights)^2 / sum of squared weights, of episodes or of tokens, and
    `engine/capped` is the share of these whose p / p_engine is above the cap.
    """
    if "engine_log_ratio" not in rows:
        return {}
    log_ratio = rows.engine_log_ratio.double().cpu()
    of_tokens = log_ratio[(rows.completion_mask & (rows.unmask_step >= 0)).cpu()]
    ratio = (of_tokens if config.weighs_tokens else rows.total(log_ratio.sum(-1))).exp()
    # Sorted, so that sums do not depend on how the processes share the rows.
    gaps, ratios = (np.sort(np.concatenate(gather([values.numpy()]))) for values in (of_tokens.abs(), ratio))
    weights = capped(config, torch.from_numpy(ratios)).numpy()
    return {
        "engine/logp_gap": float(gaps.sum() / max(1, len(gaps))),
        "engine/effective_sample_size": float(weights.sum() ** 2 / max(np.square(weights).sum(), 1e-300)),
        "engine/capped": float((ratios > config.importance_sampling_cap).mean()),
    }

"""MDPO: fills every state of the sampler's path in one pass, and trains the fills at the steps that matter most.

    rho_t   = reward of the fill of the state before step t; rho_0 = 0
    score_t = rho_t - rho_(t-1) + mean_{u > t} rho_u       (the last step: + its own rho)
    loss    = 1/N sum_b sum_{its K steps of largest |A_t|} 1/m sum_{i filled} c_i [-n/m PPO(r_i, A_t) + beta k2_i]

A fill is what the model writes if it samples all masks of a state in one pass: m of the n tokens. A_t is score_t minus
its mean over the group, divided by its deviation there. Token i had the probability c_i in that pass. r_i is its ratio,
k2_i its KL to the reference, and PPO the clipped objective. If an episode has several turns, rho_t is the reward of the
episode that goes on from the fill. Source: arXiv 2508.13148, formulas as in its code (autonomousvision/mdpo);
docs/algorithms/mdpo.md.

Axes: B rows, P groups of G episodes, E = P*G; S steps of a turn at most. Each of an episode's turns has S columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, Need, with_penalty
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k2, token_metrics
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.masks import MASKINGS
from spg_trainer.settings.ranges import Below1, Count, NotNegative, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class MDPO(Algorithm):
    """Trains on the fills of a few states of each completion. Raises ConfigError for values out of range."""

    masking: str = "all"
    """Without effect: only fills are trained on, and a fill is always scored from the state that it filled."""
    num_masks: Count = 1
    """1: a fill is scored as it was made, in one pass."""
    p_mask_prompt: Zero = 0.0
    """0: that pass saw the whole prompt."""
    advantage: Literal["mean_std"] = "mean_std"
    """How the score of a step becomes its advantage."""
    top_steps: Count = 8
    """K, steps of each completion that are trained on; if an episode has several turns, of each turn."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio; it never acts if a rollout has one update, as in the code's runs."""
    beta: NotNegative = 0.02
    """Weight of the KL to the reference; 0 = no reference."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    @property
    def needs(self) -> frozenset[Need]:
        return with_penalty(self.beta, "old", "fills")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"all": MASKINGS["all"]}

    def probe_steps(
        self, rows: Rows, num_iterations: int, streams: Callable[[int], torch.Generator]
    ) -> Tensor:
        """(B, T), all steps of each completion up to the one that unmasked its last token; -1 after them."""
        last = rows.unmask_step.cpu().masked_fill(~rows.completion_mask.cpu(), -1).amax(-1)
        all_steps = torch.arange(rows.completion_ids.shape[1]).expand(len(last), -1)
        return all_steps.masked_fill(all_steps > last[:, None], -1)

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`fill_advantages` (B, T), 0 except at the chosen steps; `advantages`, for display, the one furthest from 0.

        After its last step a completion stays what it is, so its reward stands for the fills of later steps. If
        episodes have several turns, their steps go on from turn to turn, and steps that no episode of the group has do
        not count.
        """
        rewards = rows.cut_into_groups(rows.rewards)
        is_step, reward = rows.probe_steps.cpu() >= 0, rewards.reshape(-1)
        most_steps = int(is_step.any(0).sum())  # S
        is_step, probed = is_step[:, :most_steps], rows.probe_rewards.cpu()[:, :most_steps]
        # From here on there is a row for each episode, with turns * S columns.
        rho = rows.rows_to_episodes(probed.where(is_step, rows.spread(reward)[:, None]), reward)
        has_step = rows.rows_to_episodes(is_step, torch.zeros_like(reward, dtype=torch.bool))
        before = step_before(rho.unflatten(1, (-1, most_steps)), has_step.unflatten(1, (-1, most_steps)))
        score = rho - before + mean_of_later_steps(rho, self.counted_steps(has_step, rows))
        # Each step is compared within its group: (turns * S * P, G).
        score_in_groups = score.view(*rewards.shape, -1).permute(2, 0, 1).reshape(-1, rewards.shape[1])
        step_advantages = self.compute_advantages(score_in_groups).view(rho.shape[1], -1).T
        step_advantages = rows.episodes_to_rows(step_advantages) * is_step
        top = step_advantages.abs().topk(min(self.top_steps, most_steps), 1).indices
        chosen = torch.zeros_like(rows.probe_rewards, device="cpu")
        chosen = chosen.scatter(1, top, step_advantages.gather(1, top))
        advantages = step_advantages.gather(1, top[:, :1]).squeeze(1)
        return {"advantages": advantages, "fill_advantages": chosen}

    def counted_steps(self, has_step: Tensor, rows: Rows) -> Tensor:
        """(E, turns * S) bool, the steps that any episode of the group has; all if each episode has one turn.

        has_step: (E, turns * S) bool.
        """
        if not rows.has_turns:
            return torch.ones_like(has_step)
        groups = rows.cut_into_groups(rows.rewards).shape
        any_has_step = has_step.view(*groups, -1).any(1, keepdim=True)
        return any_has_step.expand(*groups, -1).reshape_as(has_step)

    def active(self, advantages: Tensor) -> Tensor:
        return torch.zeros_like(advantages, dtype=torch.bool)  # only their fills are trained on

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        """The loss. It is not linear in logps, not even on policy: a token weighs as much as it was probable."""
        log_ratio, advantages = logps - batch.old_logps, batch.advantages.to(logps)[:, None, None]
        objective, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon)
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        num_filled = masks.scored.sum(-1, keepdim=True).clamp(min=1).to(logps)  # m
        terms = -objective * batch.length.to(logps)[:, None, None] / num_filled
        if self.beta > 0:
            kl = kl_k2(logps, batch.ref_logps)
            terms = terms + self.beta * kl
            metrics["kl"] = Metric(kl.detach().sum(), "scored_tokens")
        weights = batch.old_logps.exp() * masks.scored / num_filled * batch.is_fill[:, None, None]  # c_i / m
        metrics["fills"] = Metric(logps.new_tensor(float(batch.is_fill.sum())), "completions")
        return Loss((weights * terms).sum() / batch.totals["completions"], metrics)


def mean_of_later_steps(rho: Tensor, counted: Tensor) -> Tensor:
    """(E, turns * S) for each step the mean of rho over the later steps that count; if none does, the step's own rho.

    rho: (E, turns * S). counted: (E, turns * S) bool, which steps count.
    """
    values = rho * counted
    later_sum = values.flip(1).cumsum(1).flip(1) - values
    later_count = counted.flip(1).cumsum(1).flip(1) - counted.long()
    return (later_sum / later_count.clamp(min=1)).where(later_count > 0, rho)


def step_before(rho: Tensor, has_step: Tensor) -> Tensor:
    """(E, turns * S) for each step the rho of the step before it, 0 for the first. rho: (E, turns, S).

    The first step of a turn follows the last one of the turn before. has_step: (E, turns, S) bool, which steps an
    episode has.
    """
    # In a turn that an episode does not have, rho is the episode's reward everywhere.
    last = (has_step.sum(-1, keepdim=True) - 1).clamp(min=0)
    ends_of_turns = rho.gather(-1, last)[:, :-1]
    before_first_steps = torch.cat([torch.zeros_like(rho[:, :1, :1]), ends_of_turns], 1)
    return torch.cat([before_first_steps, rho[:, :, :-1]], -1).flatten(1)

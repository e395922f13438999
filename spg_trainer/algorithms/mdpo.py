"""MDPO: of every denoising step, what its state would have become at once; the steps that matter most are trained.

    rho_t   = reward of a fill of all masks before step t, sampled in one pass; rho_0 = 0 (in a dialogue, what the
              episode earns that goes on from this fill)
    score_t = rho_t - rho_(t-1) + mean_{u > t} rho_u       (the last step: + its own rho)
    loss    = 1/N sum_b sum_{its K steps of largest |A_t|} 1/k sum_{i filled} c_i [-n/k PPO(r_i, A_t) + beta k2_i]

A_t is score_t less its mean over the group's, over their deviation; k of the n tokens were filled, and c_i was the
probability of the token. Source: arXiv 2508.13148, formulas as in its code (autonomousvision/mdpo);
docs/algorithms/mdpo.md.
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
from spg_trainer.settings.ranges import Below1, Count, Nothing, NotNegative
from spg_trainer.tensors import Batch, Masks, Rollouts, StepView


@dataclass(frozen=True)
class MDPO(Algorithm):
    """Trains on the fills of a few states of each completion. Raises ConfigError for values out of range."""

    masking: str = "all"
    """Only fills are trained on, which show the state that they fill."""
    num_masks: Count = 1
    """A fill is scored in the pass that made it."""
    p_mask_prompt: Nothing = 0.0
    """0: that pass saw the whole prompt."""
    advantage: Literal["mean_std"] = "mean_std"
    """What the score of a step is compared with."""
    top_steps: Count = 8
    """K, steps of each completion that are trained on; in a dialogue, of each turn."""
    epsilon: Below1 = 0.2
    """Clip of a token's ratio; idle with one update of a rollout, as in the code's runs."""
    beta: NotNegative = 0.02
    """Weight of the KL to the reference; 0 = no reference."""

    compares: ClassVar[Compares] = "copy"

    @property
    def needs(self) -> frozenset[Need]:
        return with_penalty(self.beta, "old", "fills")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"all": MASKINGS["all"]}

    def probe_steps(
        self, rollouts: Rollouts, num_iterations: int, streams: Callable[[int], torch.Generator]
    ) -> Tensor:
        last = rollouts.unmask_step.cpu().masked_fill(~rollouts.completion_mask.cpu(), -1).amax(-1)
        every = torch.arange(rollouts.completion_ids.shape[1]).expand(len(last), -1)
        return every.masked_fill(every > last[:, None], -1)

    def prepare(self, view: StepView) -> dict[str, Tensor]:
        """`fill_advantages` (B, K), 0 but for the chosen steps; of them a completion shows the one furthest from 0.

        After its last step a completion stays what it is: its reward stands for the fills of later steps. The steps of
        an episode go on from turn to turn; those that no episode of its group has do not count.
        """
        rewards, rollouts, place = view.rewards, view.rollouts, view.place
        known, reward = rollouts.probe_steps.cpu() >= 0, rewards.reshape(-1)
        columns = int(known.any(0).sum())
        known, probed = known[:, :columns], rollouts.probe_rewards.cpu()[:, :columns]
        rho = place.by_episode(probed.where(known, place.spread(reward)[:, None]), reward)
        there = place.by_episode(known, torch.zeros_like(reward, dtype=torch.bool))
        steps = rho.shape[1]
        in_group = there.view(*rewards.shape, steps).any(1, keepdim=True).expand(*rewards.shape, steps)
        in_group = in_group.reshape_as(rho) | (not place.has_turns)
        counted = rho * in_group
        behind = counted.flip(1).cumsum(1).flip(1) - counted
        counts = in_group.flip(1).cumsum(1).flip(1) - in_group.long()
        later = (behind / counts.clamp(min=1)).where(counts > 0, rho)
        score = rho - step_before(rho.unflatten(1, (-1, columns)), there.unflatten(1, (-1, columns))) + later
        of_step = score.view(*rewards.shape, steps).permute(2, 0, 1).reshape(-1, rewards.shape[1])
        worth = place.by_turn(self.compute_advantages(of_step).view(steps, -1).T) * known
        top = worth.abs().topk(min(self.top_steps, columns), 1).indices
        chosen = torch.zeros_like(rollouts.probe_rewards, device="cpu").scatter(1, top, worth.gather(1, top))
        return {"advantages": worth.gather(1, top[:, :1]).squeeze(1), "fill_advantages": chosen}

    def active(self, advantages: Tensor) -> Tensor:
        return torch.zeros_like(advantages, dtype=torch.bool)  # only their fills are trained on

    def loss(self, logps: Tensor, masks: Masks, batch: Batch) -> Loss:
        """Not linear in logps on policy either: they say how sure the model was."""
        log_ratio, advantages = logps - batch.old_logps, batch.advantages.to(logps)[:, None, None]
        objective, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon)
        metrics = token_metrics(logps, log_ratio, clipped, masks)
        filled = masks.scored.sum(-1, keepdim=True).clamp(min=1).to(logps)
        terms = -objective * batch.length.to(logps)[:, None, None] / filled
        if self.beta > 0:
            kl = kl_k2(logps, batch.ref_logps)
            terms = terms + self.beta * kl
            metrics["kl"] = Metric(kl.detach().sum(), "scored_tokens")
        sure = batch.old_logps.exp() * masks.scored / filled * batch.fill[:, None, None]
        metrics["fills"] = Metric(logps.new_tensor(float(batch.fill.sum())), "completions")
        return Loss((sure * terms).sum() / batch.totals["completions"], metrics)


def step_before(rho: Tensor, there: Tensor) -> Tensor:
    """(E, turns * K) of rho (E, turns, K), what the state one step earlier was worth, 0 before the first.

    The first step of a turn follows the last one of the turn before. there: (E, turns, K) bool, which steps there are.
    """
    # In a turn that an episode does not have, rho is the episode's reward everywhere.
    last = (there.sum(-1, keepdim=True) - 1).clamp(min=0)
    ends = rho.gather(-1, last)[:, :-1]
    begins = torch.cat([torch.zeros_like(rho[:, :1, :1]), ends], 1)
    return torch.cat([begins, rho[:, :, :-1]], -1).flatten(1)

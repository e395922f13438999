"""EGSPO: GRPO of whole denoising steps, those in which the sampler was least sure; EGSPO-SA judges their states too.

    loss = -1/(n N M) sum_b sum_{M steps t} [min(r A, clip(r, 1 - epsilon, 1 + epsilon_high) A) - beta k3(sum_i d_i)]
    r    = exp sum_{i unmasked at t} (log p_i - log p_i of the model that sampled),  d_i = log p_i(reference) - log p_i
    A    = R - mean of R over the group                                                 (EGSPO)
    A    = V - mean of V over the group,   V = (R + lambda (R - rho_k)) / (1 + lambda)  (EGSPO-SA)

N is the number of completions of the update, M the number of denoising steps of each that the update scores
(`num_masks`), and n the mean number of tokens that a step unmasks. k is the rank of a step in its completion, by
uncertainty. rho_k is the reward of the text that one greedy pass makes of the state before that step: a baseline that
depends on the state alone. (In an episode of several turns, rho_k is the reward of the episode that goes on from this
text.) Source: arXiv 2603.12554, formulas as in its code (vishnutez/egspo-dllm-rl); docs/algorithms/egspo.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Algorithm, Compares, Loss, Metric, Need, with_penalty
from spg_trainer.algorithms.ratios import clipped_surrogate, kl_k3
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import StepMergeMasking
from spg_trainer.settings.ranges import Below1, Count, NotNegative, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class EGSPO(Algorithm):
    """One clipped ratio for each of a completion's most uncertain denoising steps.

    Defaults are the code's. Raises ConfigError for values out of range.
    """

    masking: str = "step_merge"
    """A copy shows what the sampler saw at a step."""
    num_masks: Count = 2
    """M, steps of each completion in an update. The most uncertain steps are in a rollout's first update."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    epsilon: Below1 = 0.2
    """A step's ratio is clipped below 1 - epsilon."""
    epsilon_high: NotNegative = 0.5
    """A step's ratio is clipped above 1 + epsilon_high."""
    beta: NotNegative = 0.04
    """Weight of the KL to the reference, of a step as a whole; 0 = no reference."""

    compares: ClassVar[Compares] = "copy"  # each copy has a term of its own

    @property
    def needs(self) -> frozenset[Need]:
        return with_penalty(self.beta, "old", "entropy")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"step_merge": StepMergeMasking(segment_draw="top")}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages`, and `step_tokens`, the mean number of tokens that a denoising step unmasked."""
        return {**super().prepare(rows), "step_tokens": tokens_of_a_step(rows)}

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        num_tokens = masks.scored.sum(-1)  # (B, M), of the step that each copy scores
        step_logps = (logps * masks.scored).sum(-1)
        log_ratio = step_logps - batch.old_logps.sum(-1)
        advantages = self.step_advantages(masks, batch).to(logps)
        objective, clipped = clipped_surrogate(log_ratio, advantages, self.epsilon, self.epsilon_high)
        metrics = {
            "logps": Metric(step_logps.detach().sum(), "scored_tokens"),
            "ratio/mean": Metric((log_ratio.detach().exp() * num_tokens).sum(), "scored_tokens"),
            "ratio/clip_fraction": Metric((clipped * num_tokens).sum(), "rewarded_tokens"),
        }
        if self.beta > 0:
            kl = kl_k3(step_logps, batch.ref_logps.sum(-1))
            objective = objective - self.beta * kl
            metrics["kl"] = Metric(kl.detach().sum(), "scored_tokens")
        divisor = batch.step_tokens * batch.totals["completions"] * logps.shape[1]  # n N M
        has_tokens = num_tokens > 0  # false in a copy for which the completion has no step left
        return Loss(-((objective * has_tokens).sum(-1) / divisor).sum(), metrics)

    def step_advantages(self, masks: Masks, batch: Rows) -> Tensor:
        """(B, M) the advantage of the step that each copy scores."""
        return batch.advantages[:, None].expand(masks.scored.shape[:2])


@dataclass(frozen=True)
class EGSPOSA(EGSPO):
    """EGSPO in which the advantage of a step depends on what its state was worth. Raises ConfigError as `EGSPO`."""

    probe_weight: NotNegative = 0.5
    """lambda, how much the reward of a state's greedy completion counts; with 0 this is EGSPO, at a higher cost."""

    def probe_steps(
        self, rows: Rows, num_iterations: int, streams: Callable[[int], torch.Generator]
    ) -> Tensor:
        """(B, M * num_iterations), each completion's most uncertain steps; -1 if it has fewer."""
        masking, count = self.make_masking(), self.num_masks * num_iterations
        is_scored = rows.completion_mask.cpu()
        chosen = torch.full((len(is_scored), count), -1)
        all_steps, all_entropies = rows.unmask_step.cpu(), rows.entropy.double().cpu()
        for row, (steps, entropy, scored) in enumerate(zip(all_steps, all_entropies, is_scored, strict=True)):
            by_entropy, _ = masking.by_entropy(steps[scored].numpy(), entropy[scored].numpy())
            most_uncertain = by_entropy[:count]
            chosen[row, : len(most_uncertain)] = torch.from_numpy(most_uncertain)
        return chosen

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """As `EGSPO`, with `step_advantages` (B, T), for each token the advantage of the step that unmasked it.

        A step that `probe_steps` did not choose has the advantage 0. `advantages` has, for each completion, the step
        advantage that is furthest from 0: it is 0 only if the completion has nothing to teach. A turn is compared with
        the same turn of the other episodes of the group, also of those that have ended before.
        """
        rewards = rows.cut_into_groups(rows.rewards)  # (P, G)
        steps = rows.probe_steps.cpu()  # (B, K), the K chosen steps of each completion; -1 = it has fewer
        is_step = steps >= 0
        probed = rows.probe_rewards.cpu().to(rewards)
        # From here on, a row is one of the E episodes, and the columns are the chosen steps of all turns. An episode
        # that has ended is compared in the turns that it lacks: whatever completes it earns the episode's own reward.
        reward = rewards.flatten()  # (E,)
        probed = rows.rows_to_episodes(probed, absent=reward)
        is_compared = rows.rows_to_episodes(is_step, absent=torch.ones_like(reward, dtype=torch.bool))
        of_episode = reward.unsqueeze(1)  # (E, 1), the same in all columns
        returns = (of_episode + self.probe_weight * (of_episode - probed)) / (1 + self.probe_weight)
        # Both are (P, G, turns * K).
        returns_of_group = returns.view(*rewards.shape, -1)
        is_compared = is_compared.view(*rewards.shape, -1)
        # The group's first return is subtracted first, so that equal returns have advantages of exactly 0.
        shifted = (returns_of_group - returns_of_group[:, :1]) * is_compared
        mean = shifted.sum(1, keepdim=True) / is_compared.sum(1, keepdim=True).clamp(min=1)
        advantages = rows.episodes_to_rows(((shifted - mean) * is_compared).view_as(returns))
        furthest = advantages.abs().argmax(1, keepdim=True)
        # Whether a chosen step unmasked a token, (B, K, T). Tokens that no step unmasked have negative numbers, too.
        unmasked_at = rows.unmask_step.cpu()[:, None] == steps[:, :, None]
        unmasked_at &= is_step[:, :, None]
        return {
            "advantages": advantages.gather(1, furthest).squeeze(1),
            "step_advantages": (advantages[:, :, None] * unmasked_at).sum(1),
            "step_tokens": tokens_of_a_step(rows),
        }

    def step_advantages(self, masks: Masks, batch: Rows) -> Tensor:
        # A copy scores the tokens of one step. All of them have the step's advantage, so the first one's is read.
        first_scored = masks.scored.int().argmax(-1)
        return batch.step_advantages.gather(1, first_scored)


def tokens_of_a_step(rows: Rows) -> float:
    """The mean number of tokens that a denoising step unmasked."""
    steps = rows.unmask_step.cpu()
    num_tokens = int((steps >= 0).sum())
    num_steps = int((steps.amax(-1) + 1).sum())  # the steps of a completion are numbered from 0
    return num_tokens / num_steps

"""d-TreeRPO: GRPO on trees of rollouts. A half of a completion is compared with others that began in the same state.

    loss = 1/C sum_c [1/L_c sum_i (-min(r_i A_c, clip(r_i, 1 +- epsilon) A_c) + beta k3_i)] + lambda SD
    A_c  = V_c - mean V of its siblings,   V(leaf) = R,   V(node) = mean of its leaves
    SD   = mean over places of -sum_c w_c log p(token of c at the place),   w_c = e^(A_c/tau) / sum of these

Several completions, the leaves of a node, share one first half; the nodes of a problem are its tree. An update has C
children of two kinds:

- first halves, whose siblings are the first halves of all nodes of the same problem
- second halves, whose siblings are the second halves of all leaves of the same node

Each child is scored in one pass from the state in which it began. Its L_c tokens i have the ratios r_i and, to the
reference, the KL k3_i. SD is the self-distillation. At each place it sums over the siblings that have A_c > 0 and a
token there; places without such a sibling are left out. Source: arXiv 2512.09675, formulas as in its code
(THU-BPM/d-TreeRPO); docs/algorithms/d_treerpo.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spg_trainer.algorithms.base import Loss, Metric
from spg_trainer.algorithms.ratios import TokenRatio
from spg_trainer.likelihood.masking import Masking
from spg_trainer.likelihood.path_masks import HalvesMasking
from spg_trainer.settings.ranges import Below1, Branches, Count, NotNegative, Positive, Zero
from spg_trainer.tensors import Masks, Rows


@dataclass(frozen=True)
class DTreeRPO(TokenRatio):
    """Clipped ratios of tokens in halves of completions, and self-distillation from the better siblings.

    Defaults are the code's. Raises ConfigError for values out of range.
    """

    masking: str = "halves"
    """Two copies show what the sampler saw at the root, and at the node in the middle of the completion."""
    num_masks: Count = 2
    """2: one for each half."""
    p_mask_prompt: Zero = 0.0
    """0: the sampler saw the whole prompt."""
    advantage: Literal["leave_one_out", "mean"] = "leave_one_out"
    """What a value is compared with: the mean of the other siblings (code), or the value of the parent (paper)."""
    branches: Branches = 4
    """Leaves of a node: completions that share a first half. A tree has num_generations leaves."""
    epsilon: Below1 = 0.4
    """Clip of a token's ratio."""
    beta: NotNegative = 0.01
    """Weight of the KL to the reference; 0 = no reference."""
    distil_weight: NotNegative = 3e-3
    """lambda at the end of the run; it rises from 0. 0 = no self-distillation."""
    distil_temperature: Positive = 2.0
    """tau at the start of the run; it falls towards 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require("num_masks", self.num_masks == 2, "2, one for each half")
        self.require("score_tail", not self.score_tail, "false for masking=halves, which has no such tail")

    @classmethod
    def maskings(cls) -> Mapping[str, Masking]:
        return {"halves": HalvesMasking()}

    def prepare(self, rows: Rows) -> dict[str, Tensor | float]:
        """`advantages` (B,), `half_advantages` (B, 2), and `distil` (B, T), weights of logps in lambda * SD.

        All leaves of a node share one first half, which is scored with the first leaf alone: in the other leaves, the
        advantage of the first half is 0. A tree branches in the first turn of its episodes; in later turns both halves
        have the advantage of their leaf. Raises ConfigError for groups that are no trees.

        The loss takes `half_advantages`. `advantages` are for the trainer: it records one number for each completion,
        and takes 0 to mean that the completion has nothing to teach. So this number is the half advantage that is
        further from 0; it is 0 only if both are.
        """
        rewards = rows.cut_into_groups(rows.rewards)
        divides = rewards.shape[1] % self.branches == 0
        self.require("branches", divides, f"a divisor of the group's {rewards.shape[1]} completions")
        leaves = rewards.reshape(-1, self.branches)
        # Sorted, so that nodes with equal leaves have equal means, bit for bit.
        nodes = leaves.sort(1).values.mean(1).view(len(rewards), -1)
        leaf_advantages = self.compute_advantages(leaves).view_as(leaves)
        node_advantages = torch.zeros_like(nodes)  # a single node has no siblings
        if nodes.shape[1] > 1:
            node_advantages = self.compute_advantages(nodes).view_as(nodes)
        halves = torch.stack([torch.zeros_like(leaf_advantages), leaf_advantages], -1)  # (node, leaf, half)
        halves[:, 0, 0] = node_advantages.reshape(-1)  # of each node, only its first leaf
        is_later_turn = rows.turn > 0
        # A leaf is an episode. `spread` gives each of its turns, which are rows, the values of the episode.
        advantages_of_first_turns = rows.spread(halves.view(-1, 2))
        advantages_of_later_turns = rows.spread(leaf_advantages.reshape(-1, 1))
        half_advantages = torch.where(
            is_later_turn[:, None], advantages_of_later_turns, advantages_of_first_turns
        )
        first_turns = rows.select(~is_later_turn)
        distil = torch.zeros(rows.completion_mask.shape, dtype=half_advantages.dtype)
        distil[~is_later_turn] = self.distil_weights(
            node_advantages, leaf_advantages, first_turns, rows.share_done
        )
        larger_half = half_advantages.abs().argmax(1, keepdim=True)
        advantages = half_advantages.gather(1, larger_half)[:, 0]
        return {"advantages": advantages, "half_advantages": half_advantages, "distil": distil}

    def distil_weights(
        self, node_advantages: Tensor, leaf_advantages: Tensor, rollouts: Rows, share_done: float
    ) -> Tensor:
        """(P*G, T) the weights `distil` of `prepare`, from the advantages of nodes (P, n) and leaves (P*n, k).

        A problem has n nodes of k leaves each. rollouts: the rows of first turns. share_done: the share of the run's
        steps that are done.
        """
        written = rollouts.completion_mask.cpu().view(*leaf_advantages.shape, -1)
        middle = written.shape[-1] // 2
        # How tau and lambda change over the run is the code's (docs/algorithms/d_treerpo.md).
        tau = self.distil_temperature * (1 - share_done) ** 0.7
        first_halves = written[:, 0, :middle].reshape(*node_advantages.shape, middle)
        shares = torch.zeros(written.shape, dtype=leaf_advantages.dtype)
        shares[:, 0, :middle] = sibling_shares(node_advantages, first_halves, tau).reshape(-1, middle)
        shares[:, :, middle:] = sibling_shares(leaf_advantages, written[..., middle:], tau)
        num_places = shares.sum()  # the shares of the siblings at a place sum to 1
        distil_weight = self.distil_weight * math.expm1(2 * share_done) / math.expm1(2)
        # `loss` divides by the number of completions, which are the leaves; this undoes that division.
        scale = distil_weight * leaf_advantages.numel() / num_places.clamp(min=1)
        return (shares * scale).flatten(0, 1)

    def token_advantages(self, batch: Rows) -> Tensor:
        return batch.half_advantages[:, :, None]

    def weigh(self, objective: Tensor, masks: Masks, batch: Rows) -> Tensor:
        # A half scores no token if it is empty, or if it is scored with another leaf.
        lengths = masks.scored.sum(-1).clamp(min=1)
        # Each completion has a second half of its own, and `branches` completions share one first half.
        num_children = batch.totals["completions"] * (1 + 1 / self.branches)
        return ((objective * masks.scored).sum(-1) / lengths).sum(-1) / num_children

    def loss(self, logps: Tensor, masks: Masks, batch: Rows) -> Loss:
        policy = super().loss(logps, masks, batch)
        weights = batch.distil.to(logps)[:, None] * masks.scored
        distil = -(weights * logps).sum() / batch.totals["completions"]
        metrics = {
            "distil": Metric(distil.detach(), "update"),
            "distil/share": Metric((weights > 0).sum(), "scored_tokens"),
        }
        return Loss(policy.loss + distil, policy.metrics | metrics)


def sibling_shares(advantages: Tensor, written: Tensor, temperature: float) -> Tensor:
    """(F, C, H) the share of each of C siblings, in F families, at H places; over C they sum to 1, or all are 0.

    A sibling has a share at a place if it has a token there and an advantage above 0. These shares are in proportion to
    exp(advantage / temperature). advantages: (F, C). written: (F, C, H) bool, where a sibling has a token.
    """
    is_counted = (advantages > 0)[:, :, None] & written
    logits = (advantages / temperature)[:, :, None].where(is_counted, float("-inf"))
    logits = logits.where(is_counted.any(1, keepdim=True), 0.0)  # a softmax of nothing would give NaN
    return logits.softmax(1).where(is_counted, 0.0)

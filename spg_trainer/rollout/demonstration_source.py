"""The source of completions where demonstrations are learned (`--source demonstrations`): right ones and habits."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from spg_trainer.distributed import raising_on_all
from spg_trainer.models import Policy
from spg_trainer.rollout.dealing import deal_rows
from spg_trainer.rollout.fitting import draw_fitting
from spg_trainer.rollout.scored import Scored
from spg_trainer.settings.fields import Config
from spg_trainer.tensors import Place, Rollouts

if TYPE_CHECKING:
    from envs import Problem, TextEnv


class Demonstrations:
    """--prompts-per-step demonstrations a step, as `draw_demonstrations` draws them; each of them counts as right."""

    env, pools = None, None
    """What a source that samples has: its environment, and its pools of problems."""

    def __init__(
        self,
        train: "TextEnv",
        held_out: "TextEnv",
        policy: Policy,
        config: Config,
        mix: Mapping[str, float],
        notice: str = "",
    ) -> None:
        """train, held_out: what is learned, and of what a validation measures the loss. mix: shares that sum to 1."""
        self.train, self.held_out, self.policy, self.config, self.mix = train, held_out, policy, config, mix
        self.spec_name, self.notice = train.spec_name, notice

    def collect(self, step: int | str) -> Scored:
        """This process's share of the demonstrations of a step: one group, in the order of their prompts' lengths.

        step: its number, or "validation" for those whose loss a validation measures, which are always the same. A
        micro-batch holds prompts of similar length, and several processes have about as many and as long ones. The
        whole canvas is the completion: padding behind its end is learned like any other token. Raises ConfigError for
        one that is too long, unless those are skipped.
        """
        env, count = self.train, self.config.batch.prompts_per_step
        if step == "validation":
            env, count = self.held_out, self.config.eval.validation_problems or len(self.held_out)
        with raising_on_all():
            drawn = draw_fitting(self.policy, env, self.mix, self.config, step, count)
        lengths = drawn.prompt_mask.sum(-1).cpu()
        order = lengths.argsort(stable=True)
        episode = torch.tensor(deal_rows(lengths[order].tolist()), dtype=torch.long)
        row_indices, first = order[episode], torch.zeros_like(episode)
        place = Place(
            problem=torch.tensor(drawn.index)[row_indices],
            generation=episode,
            turn=first,
            episode=episode,
            group=first,
        )
        chosen, device = row_indices.tolist(), self.policy.device
        completion_ids = drawn.completion_ids[row_indices].to(device)
        rollouts = Rollouts(
            prompt_ids=drawn.prompt_ids[row_indices.to(device)],
            prompt_mask=drawn.prompt_mask[row_indices.to(device)],
            completion_ids=completion_ids,
            completion_mask=torch.ones_like(completion_ids, dtype=torch.bool),
            unmask_step=torch.zeros_like(completion_ids),
            unmask_logps=torch.zeros(completion_ids.shape, device=device),
        )
        return Scored.given(
            place,
            [drawn.problems[row] for row in chosen],
            [drawn.texts[row] for row in chosen],
            rollouts.trim(),
            rewards=np.ones(len(chosen)),
            reason=["given"] * len(chosen),
        )

    def render_turns(self, problem: "Problem", turns: Sequence[str], replies: Sequence[str]) -> str:
        """A prompt and its demonstration as they are shown."""
        return f"{problem.prompt}\n{turns[0]}"

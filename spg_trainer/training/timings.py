"""Measures a step for timings.jsonl: seconds, batches that fitted, the load of experts, passes for other processes.

None of these is among the metrics, which neither another machine nor another batching must change.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from spg_trainer import distributed
from spg_trainer.training.run import Run


class StepTimings:
    """What a step takes, from when this is made until `row` is called. The step calls `rollout`, then `updates`."""

    def __init__(self, run: Run) -> None:
        self.run, self.started_at = run, time.monotonic()
        # With `--shard layer` a process whose own passes are done makes further passes, so that the others can go on.
        self.for_others_before = distributed.lockstep.for_others if distributed.lockstep else 0

    @contextmanager
    def rollout(self) -> Iterator[None]:
        """Inside, completions are collected. If a process is lost, `naming_the_lost` says that it was here."""
        distributed.begin_phase(f"the rollout of step {self.run.state.step + 1}")
        yield
        self.sampled_at = time.monotonic()

    @contextmanager
    def updates(self) -> Iterator[None]:
        """Inside, the updates are planned and made."""
        distributed.begin_phase(f"the updates of step {self.run.state.step + 1}")
        with counting_choices(self.run.policy.model) as self.choices:
            yield

    def row(self, num_tokens: float | None = None) -> dict[str, Any]:
        """The row of timings.jsonl. num_tokens: how many the rollout wrote; None if completions are given."""
        run, rollout = self.run, self.sampled_at - self.started_at
        row: dict[str, Any] = {"rollout": rollout, "update": time.monotonic() - self.sampled_at}
        if num_tokens is not None:
            row["tokens_per_second"] = num_tokens / rollout
        # The numbers that were used. Once memory has run out, they are `most_copies` and `most_rows` of the policy.
        row["per_device_batch_size"] = run.policy.most_copies or run.config.batch.per_device_batch_size
        if run.player.rows_per_forward is not None:
            row["rows_per_forward"] = run.policy.most_rows or run.player.rows_per_forward
        if lockstep := distributed.lockstep:
            passes = float(lockstep.for_others - self.for_others_before)
            row |= distributed.sum_metrics({"passes_for_others": passes})
        # Padding chooses experts, too, so these figures depend on the batching.
        if self.choices:
            row |= router_load(distributed.sum_metrics(self.choices))
        return row


@contextmanager
def counting_choices(model: nn.Module) -> Iterator[dict[tuple[str, int], float]]:
    """Counts how often each expert is chosen in the passes made inside; yields {(router's name, expert): times}.

    Padding counts as well, and what is computed twice counts twice. The dict stays empty for a model without experts.
    """
    counts: dict[tuple[str, int], float] = {}
    hooks = []

    def count(name: str, chosen: Any, experts: int) -> None:
        for expert, times in enumerate(chosen.flatten().bincount(minlength=experts).tolist()):
            counts[name, expert] += times

    for name, module in model.named_modules():
        if name.endswith("mlp.gate") and hasattr(module, "top_k"):
            counts |= {(name, expert): 0.0 for expert in range(module.num_experts)}
            # A router returns (logits, weights, chosen experts).
            hooks.append(
                module.register_forward_hook(
                    lambda router, _, out, name=name: count(name, out[2], router.num_experts)
                )
            )
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()


def router_load(counts: Mapping[tuple[str, int], float]) -> dict[str, float]:
    """{"router/busiest": how often the busiest expert of any layer is chosen}, where 1 is an even share.

    Empty for a model without experts, or if no pass was made. counts: from `counting_choices`, summed over processes.
    """
    layers: dict[str, list[float]] = {}
    for (name, _), times in counts.items():
        layers.setdefault(name, []).append(times)
    # How often the busiest expert of each layer is chosen, divided by the mean of the layer's experts.
    busiest = [max(times) * len(times) / sum(times) for times in layers.values() if sum(times)]
    return {"router/busiest": max(busiest)} if busiest else {}

"""Bias, deviation and direction of every masking and bound, against the exact likelihood and the true policy gradient.

The truth is `tests/common/exact_likelihood.py`. The task is as small as it must be: three words, an end token, and
completions of 8 tokens in 2 blocks, 2 tokens a step by confidence, temperature 0.9, which are LLaDA's defaults in
small. The prompt is three words; right is the palindrome that begins with them, and a third of what a model of 21,000
weights learned.
docs/experiments/estimators.md explains the columns. Some minutes on one core:

    PYTHONPATH=. python benchmarks/estimators.py [--maskings random block ...] [--masks 1 2 4 8] [--figure FILE.svg]
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
from measuring import print_head, print_row
from torch import Tensor

from spg_trainer.algorithms.mle import MLE
from spg_trainer.algorithms.spg import SPG
from spg_trainer.errors import ConfigError
from spg_trainer.likelihood import MASKINGS, KeyedStreams, Masking, Masks, accumulate, elbo, eubo, mixture
from spg_trainer.models import Policy, llada_config
from spg_trainer.reporting.curves import METADATA, STYLE
from spg_trainer.rollout.sampler import sample_completions
from spg_trainer.seeding import derive, generator, numpy_generator
from spg_trainer.settings.decoding import Sampling
from spg_trainer.tensors import Rows
from tests.common.exact_likelihood import (
    Law,
    any_order_elbo,
    any_order_log_likelihood,
    block_elbo,
    block_log_likelihood,
    completion_law,
    context_logps,
    expected_reward,
    predictor,
)

WORDS, END, MASK = 3, 3, 4
SAMPLING = Sampling(max_completion_length=8, block_length=4, diffusion_steps=4, temperature=0.9)
PROMPTS = torch.tensor([[0, 1, 2], [1, 1, 0], [2, 0, 0], [0, 2, 1]])
GENERATIONS = 8
ORACLES = {
    "log p, decoder": None,
    "log p, block": lambda logps: block_log_likelihood(logps, SAMPLING.block_length),
    "log p, any order": any_order_log_likelihood,
    "elbo, block": lambda logps: block_elbo(logps, SAMPLING.block_length),
    "elbo, any order": any_order_elbo,
}
"""Exact functions of `context_logps`; None is the law of the sampler."""


class Figures(NamedTuple):
    """What is known of one estimator."""

    bias: float
    """Nats per completion, against the exact any-order log-likelihood, in the mean over completions and masks."""
    deviation: float
    """Nats, over the masks of a completion (root mean square over completions)."""
    cosine_mean: float
    """Of the expected gradient and the policy gradient."""
    cosine_step: float
    """Of the gradient of one step of 4 prompts x 8 generations and the policy gradient, in the mean over steps."""


COLUMNS = ("bias", "s.d.", "cosine, mean", "cosine, one step")
BOUNDS = ("elbo", "eubo", "mix")
PANELS = {"elbo": "the ELBO of all completions", "mix": "the mixture of those below the mean"}
"""The bounds that the figure shows, with their titles."""


def train_model(steps: int, seed: int) -> Policy:
    """Three habits, learned by the supervised loss of `sft`; float64, without a tokenizer: ids go in and out."""
    config = llada_config(
        d_model=32,
        n_layers=2,
        n_heads=2,
        mlp_hidden_size=64,
        max_sequence_length=16,
        vocab_size=WORDS + 2,
        mask_token_id=MASK,
        eos_token_id=END,
        pad_token_id=END,
        rope_theta=100.0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(derive(seed, "model"))
        model = config.model_class(config)
    policy = Policy(model, None, MASK, END, (END,), "new")
    batch_size = 64
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, betas=(0.9, 0.99), weight_decay=0.01)
    done = [max(0, step - 50) / (steps - 50) for step in range(steps)]  # a warm-up of 50, then a cosine to 5%
    rate = [min(1.0, (s + 1) / 50) * (0.525 + 0.475 * math.cos(math.pi * d)) for s, d in enumerate(done)]
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate.__getitem__)
    for step in range(steps):
        stream = numpy_generator(seed, "demonstrations", step)
        prompts = stream.integers(WORDS, size=(batch_size, 3))
        habits = stream.integers(3, size=batch_size)
        ids = torch.tensor([demonstrations(p)[h] for p, h in zip(prompts.tolist(), habits, strict=True)])
        shown = Rows.full_groups(1, batch_size).with_columns(
            prompt_ids=torch.from_numpy(prompts),
            prompt_mask=torch.ones(batch_size, 3, dtype=torch.bool),
            completion_ids=ids,
            completion_mask=torch.ones_like(ids, dtype=torch.bool),
            unmask_step=torch.zeros_like(ids),
            unmask_logps=torch.zeros(ids.shape),
        )
        streams = KeyedStreams(seed, ("masks", step), shown.noise_keys())
        masks = MLE().make_masking().draw(shown, streams)
        batch = shown.with_columns(advantages=torch.ones(batch_size), totals={"completions": batch_size})
        loss = partial(MLE().loss, masks=masks, batch=batch)
        accumulate(policy, shown, masks, loss, masks_at_once=1, compares="copy")
        optimizer.step()
        optimizer.zero_grad()
        if step + 1 < steps:
            schedule.step()
    model.double().eval()
    return policy


def demonstrations(prompt: list[int]) -> list[list[int]]:
    """The palindrome, which is right; the prompt twice; the prompt backwards. Filled with end tokens."""
    texts = [prompt + prompt[::-1], prompt + prompt, prompt[::-1]]
    return [text + [END] * (SAMPLING.max_completion_length - len(text)) for text in texts]


class Truth(NamedTuple):
    """The laws of all prompts with their graphs, and the gradient of the mean expected reward."""

    laws: list[Law]
    gradient: Tensor


def find_truth(policy: Policy) -> Truth:
    laws, values = [], []
    for prompt in PROMPTS:
        predict = predictor(policy.model, prompt)
        law = completion_law(predict, SAMPLING, mask_id=MASK, end_token_ids=policy.end_token_ids)
        prompts = prompt.expand(len(law.completion_ids), -1)
        laws.append(law)
        values.append(expected_reward(law, rewards_of(law.completion_ids, law.completion_mask, prompts)))
    return Truth(laws, flat_gradient(policy, torch.stack(values).mean()))


def rewards_of(completion_ids: Tensor, completion_mask: Tensor, prompts: Tensor) -> Tensor:
    """(B,) 1 for the palindrome with its end token, else 0."""
    right = torch.cat([prompts, prompts.flip(-1), torch.full((len(prompts), 1), END)], -1)
    same = completion_ids[:, : right.shape[1]] == right
    return (same.all(-1) & (completion_mask.sum(-1) == right.shape[1])).double()


def sample(policy: Policy, per_prompt: int, seed: int) -> Rows:
    """Completions of every prompt, prompt after prompt."""
    prompts = PROMPTS.repeat_interleave(per_prompt, 0)
    noise = [generator(seed, "rollouts", row) for row in range(len(prompts))]
    is_token = torch.ones_like(prompts, dtype=torch.bool)
    records = frozenset({"confidence_change"})  # for the masking `informed`
    return sample_completions(policy, prompts, is_token, SAMPLING, noise, records=records)


def oracle_log_likelihoods(policy: Policy, truth: Truth, name: str, rollouts: Rows) -> Tensor:
    """(B,) exact log-likelihoods of an oracle, with their graph; equal completions are enumerated once."""
    function = ORACLES[name]
    if function is None:
        parts = zip(truth.laws, torch.arange(len(rollouts)).chunk(len(truth.laws)), strict=True)
        return torch.cat([law.probabilities[law.find(rollouts.select(index))].log() for law, index in parts])
    behind = rollouts.completion_ids.where(rollouts.completion_mask, MASK)
    distinct, inverse = torch.cat([rollouts.prompt_ids, behind], -1).unique(dim=0, return_inverse=True)
    width, values = PROMPTS.shape[1], []
    for row in distinct:
        length = int((row[width:] != MASK).sum())
        values.append(
            function(context_logps(predictor(policy.model, row[:width]), row[width:], length, MASK))
        )
    return torch.stack(values)[inverse]


def make_masking(name: str, num_masks: int) -> Masking:
    """A masking of the table, clean prompts, in the blocks of the sampler."""
    settings = {"num_masks": num_masks, "p_mask_prompt": 0.0, "block_length": SAMPLING.block_length}
    known = {f.name for f in fields(MASKINGS[name])}
    return replace(MASKINGS[name], **{key: value for key, value in settings.items() if key in known})


def draw_masks(masking: Masking, rollouts: Rows, seed: int) -> Masks:
    """The masks of one update."""
    return masking.draw(rollouts, KeyedStreams(seed, ("masks",), [(row,) for row in range(len(rollouts))]))


def make_bounds(masking: Masking, logps: Tensor, masks: Masks) -> dict[str, Tensor]:
    """(B,) the bounds that a masking allows, at the settings of SPG's paper."""
    lower = elbo(logps, masks)
    if not masking.has_eubo:
        return {"elbo": lower}
    upper = eubo(logps, masks, SPG.eubo_beta)
    return {"elbo": lower, "eubo": upper, "mix": mixture(lower, upper, SPG.mix_weight)}


def score(policy: Policy, rollouts: Rows, masks: Masks) -> Tensor:
    """(B, M, T) logps at scored positions with their graph; equal canvases go through the model once."""
    ids = torch.cat([rollouts.prompt_ids, rollouts.completion_ids], -1)
    canvases = ids[:, None].where(~masks.masked, MASK).flatten(0, 1)
    distinct, inverse = canvases.unique(dim=0, return_inverse=True)
    logps = predictor(policy.model, distinct.new_empty(0))(distinct)[:, PROMPTS.shape[1] :]
    targets = rollouts.completion_ids.repeat_interleave(masks.scored.shape[1], 0)
    logps = logps[inverse[:, None], torch.arange(targets.shape[1]), targets]
    return logps.view(masks.scored.shape) * masks.scored


@torch.no_grad()
def likelihoods(
    policy: Policy, masking: Masking, rollouts: Rows, repeats: int, seed: int
) -> dict[str, Tensor]:
    """Of each bound its values (B, repeats) with as many draws of the masks."""
    # All completions, then all again: a masking that spreads its draws over a step spreads those of each completion.
    repeated = rollouts.select(torch.arange(len(rollouts)).repeat(repeats))
    masks = draw_masks(masking, repeated, seed)
    bounds = make_bounds(masking, score(policy, repeated, masks), masks)
    return {name: value.view(repeats, -1).T for name, value in bounds.items()}


def flat_gradient(policy: Policy, value: Tensor) -> Tensor:
    """The gradient of a scalar with respect to all weights, in one vector."""
    parameters = list(policy.model.parameters())
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, parameters, retain_graph=True)])


def steps_of(rollouts: Rows, count: int) -> Iterator[tuple[int, Rows, Tensor]]:
    """Number, completions and advantages (B,) of the first steps in which some are right and some wrong."""
    numbers = torch.arange(len(rollouts)).view(len(PROMPTS), -1, GENERATIONS)
    for step in range(count):
        part = rollouts.select(numbers[:, step].flatten())
        groups = rewards_of(part.completion_ids, part.completion_mask, part.prompt_ids).view(-1, GENERATIONS)
        advantages = (groups - groups.mean(1, keepdim=True)).flatten()
        if advantages.any():
            yield step, part, advantages


def bound_gradients(
    policy: Policy, masking: Masking, rollouts: Rows, steps: int, seed: int
) -> dict[str, list[Tensor]]:
    """The gradient of every step, per bound: good completions take the ELBO, the others the bound."""
    gradients: dict[str, list[Tensor]] = {}
    for step, part, advantages in steps_of(rollouts, steps):
        masks = draw_masks(masking, part, derive(seed, step))
        bounds = make_bounds(masking, score(policy, part, masks), masks)
        for name, value in bounds.items():
            loss = (advantages * torch.where(advantages >= 0, bounds["elbo"], value)).mean()
            gradients.setdefault(name, []).append(flat_gradient(policy, loss))
    return gradients


def cosines(gradients: list[Tensor], truth: Tensor) -> tuple[float, float]:
    """Of the expected gradient with the truth, and the mean of those of single steps.

    The squared norm of the expected gradient is taken from products of different steps: that of their mean would hold
    its noise, and make a noisy estimator look biased.
    """
    stack, truth = torch.stack(gradients), truth / truth.norm()
    count, along, squares = len(stack), stack @ truth, stack.square().sum(-1)
    square = (stack.sum(0).square().sum() - squares.sum()) / (count * (count - 1))
    mean = float(along.mean()) / math.sqrt(square) if square > 0 else math.nan
    return mean, float((along / squares.sqrt()).mean())


def oracle_rows(
    policy: Policy, truth: Truth, values: dict[str, Tensor], trained: Rows, steps: int
) -> Iterator[tuple[str, Figures]]:
    """What exact likelihoods are worth: no masks, what is left is the noise of 32 completions."""
    for name, value in values.items():
        bias = float((value - values["log p, any order"]).mean())
        gradients = [
            flat_gradient(policy, (advantages * oracle_log_likelihoods(policy, truth, name, part)).mean())
            for _, part, advantages in steps_of(trained, steps)
        ]
        yield name, Figures(bias, 0.0, *cosines(gradients, truth.gradient))


def print_figures(masking: str, bound: str, figures: list[Figures | None]) -> None:
    """A row: in each cell the numbers of masks side by side; `-` where a masking allows no such bound."""
    forms = ("{:+.2f}", "{:.2f}", "{:.2f}", "{:.2f}")
    cells = []
    for number, form in enumerate(forms):
        values = [each and each[number] for each in figures]
        cells.append(" · ".join("-" if v is None or math.isnan(v) else form.format(v) for v in values))
    print_row([masking, bound, *cells])


def draw(
    exact: dict[str, Figures],
    found: dict[tuple[str, str], list[Figures | None]],
    masks: list[int],
    path: Path,
) -> None:
    """Writes the cosine of one step over the number of masks as an SVG, the ELBO's and the mixture's side by side."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context({**STYLE, "svg.hashsalt": "estimators"}):
        figure = Figure(figsize=(9.6, 4.2), layout="constrained")
        panels = dict(zip(PANELS, figure.subplots(1, 2, sharey=True), strict=True))
        names = dict.fromkeys(name for name, _ in found)
        styles = {
            name: (f"C{number % 10}", "-" if number < 10 else "--") for number, name in enumerate(names)
        }
        for bound, axes in panels.items():
            for name, (color, line) in styles.items():
                values = found.get((name, bound), [])
                known = [
                    (count, each.cosine_step) for count, each in zip(masks, values, strict=False) if each
                ]
                if known:
                    axes.plot(*zip(*known, strict=True), color=color, linestyle=line, marker="o", label=name)
            for name in ("log p, decoder", "log p, block", "log p, any order"):
                axes.axhline(exact[name].cosine_step, color="#808080", linewidth=1, linestyle=":")
                axes.annotate(
                    f"exact {name}", (masks[0], exact[name].cosine_step), va="bottom", fontsize="small"
                )
            axes.set(
                title=PANELS[bound],
                xlabel="masks of a completion",
                xscale="log",
                ylim=(0, 1),
                xlim=(masks[0] / 1.2, masks[-1] * 1.2),
            )
            axes.set_xticks(masks, [str(count) for count in masks])
            axes.minorticks_off()
            axes.grid(alpha=0.3)
            axes.set_frame_on(False)
        panels["elbo"].set_ylabel("cosine of one step with the policy gradient")
        figure.legend(*panels["elbo"].get_legend_handles_labels(), frameon=False, loc="outside right center")
        figure.savefig(path, metadata=METADATA, transparent=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--maskings", nargs="*", choices=MASKINGS, default=[*MASKINGS], help="some of them")
    parser.add_argument("--masks", type=int, nargs="+", default=[1, 2, 4, 8], help="numbers of masks M")
    parser.add_argument("--completions", type=int, default=32, help="per prompt, to score")
    parser.add_argument("--repeats", type=int, default=128, help="draws of the masks of each of them")
    parser.add_argument("--steps", type=int, default=256, help="steps whose gradient is taken")
    parser.add_argument("--oracle-steps", type=int, default=64, help="the same for exact likelihoods")
    parser.add_argument("--training-steps", type=int, default=1200, help="supervised steps before")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--figure", type=Path, help="where to draw the cosines of one step, as an SVG")
    args = parser.parse_args()
    torch.set_num_threads(1)
    policy = train_model(args.training_steps, args.seed)
    truth = find_truth(policy)
    scored = sample(policy, args.completions, derive(args.seed, "scored"))
    trained = sample(policy, GENERATIONS * args.steps, derive(args.seed, "trained"))
    oracle_steps = min(args.steps, args.oracle_steps)
    mixed_steps = sum(1 for _ in steps_of(trained, oracle_steps))
    if mixed_steps < 2:  # the squared norm of an expected gradient takes two
        parser.error(
            f"--training-steps {args.training_steps}: of {oracle_steps} steps only {mixed_steps} had both right and "
            "wrong completions, and a cosine needs two such steps. Train for longer, or give more --steps and "
            "--oracle-steps."
        )
    with torch.no_grad():
        exact = {name: oracle_log_likelihoods(policy, truth, name, scored) for name in ORACLES}
    print_head(["masking", "bound", *COLUMNS])
    oracles = dict(oracle_rows(policy, truth, exact, trained, oracle_steps))
    for name, figures in oracles.items():
        print_figures("exact", name, [figures])
    found: dict[tuple[str, str], list[Figures | None]] = {}
    for name in args.maskings:
        table: dict[str, list[Figures | None]] = {}
        for place, count in enumerate(args.masks):
            try:
                masking = make_masking(name, count)
            except ConfigError:  # e.g. an odd number of masks where they come in pairs
                continue
            seed = derive(args.seed, name, count)
            values = likelihoods(policy, masking, scored, args.repeats, seed)
            gradients = bound_gradients(
                policy, masking, trained, args.steps, derive(args.seed, name, count, "gradient")
            )
            for bound, steps in gradients.items():
                value = values[bound]
                bias = float((value.mean(1) - exact["log p, any order"]).mean())
                deviation = float(value.var(1).mean().sqrt())
                row = table.setdefault(bound, [None] * len(args.masks))
                row[place] = Figures(bias, deviation, *cosines(steps, truth.gradient))
        for bound in (bound for bound in BOUNDS if bound in table):
            print_figures(name, bound, table[bound])
            found[name, bound] = table[bound]
    if args.figure:
        draw(oracles, found, args.masks, args.figure)


if __name__ == "__main__":
    main()

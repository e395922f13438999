"""SPG on a verifiable task, as one page: rollout, rewards, masks, bounds, update, validation, checkpoint, resume.

    python docs/one_page.py --env sudoku --seed 1

Writes metrics.jsonl, checkpoint.pt and model/ to --out. `docs/one_page.md` says what each part is in the trainer.
"""

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

import envs
from spg_trainer import load_model, save_model

TASK = {
    "env": "sudoku",
    "model": "tiny",
    "prompts": 32,
    "group": 8,
    "length": 20,
    "steps": 20,
    "temperature": 1.0,
}
SPG = {
    "masks": 2,
    "eubo_beta": 1.0,
    "mix_weight": 0.5,
    "lr": 2e-4,
    "warmup": 5,
    "weight_decay": 0.01,
    "clip": 1.0,
}
RUN = {"seed": 0, "max_steps": 40, "micro": 32, "eval_steps": 10, "validation": 64, "test": 256, "out": "run"}


def settings(words=None):
    parser = argparse.ArgumentParser()
    for name, value in {**TASK, **SPG, **RUN}.items():
        parser.add_argument("--" + name.replace("_", "-"), type=type(value), default=value)
    parser.add_argument("--reward-weights", type=json.loads, default={"format": 0.2})
    parser.add_argument("--resume", action="store_true")
    return parser.parse_args(words)


def encode(policy, problems):
    """Prompts in the model's chat format, padded on the left: ids (B, L), and which of them are no padding."""
    texts = [
        policy.tokenizer.apply_chat_template(
            [{"role": "user", "content": problem.prompt}], tokenize=False, add_generation_prompt=True
        )
        + problem.completion_prefix
        for problem in problems
    ]
    batch = policy.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    return batch.input_ids, batch.attention_mask.bool()


def logits_of(policy, prompt, real, answer):
    """Logits (B, T, V) at the places of the answers (B, T)."""
    attention = torch.cat([real, torch.ones_like(answer, dtype=torch.bool)], 1)
    position = (attention.long().cumsum(-1) - 1).clamp(min=0)
    ids = torch.cat([prompt, answer], 1)
    body = policy.model.base_model(input_ids=ids, attention_mask=attention, position_ids=position)
    return policy.model.lm_head(body.last_hidden_state[:, prompt.shape[1] :]).float()


@torch.no_grad()
def sample(policy, prompt, real, s, temperature, generator):
    """LLaDA's sampler, one block: each of s.steps passes writes the tokens of which the model is surest."""
    answer = torch.full((len(prompt), s.length), policy.mask_id)
    for step in range(s.steps):
        count = s.length // s.steps + (step < s.length % s.steps)
        logits = logits_of(policy, prompt, real, answer)
        logits[..., policy.mask_id] = -math.inf
        noise = torch.empty_like(logits).exponential_(generator=generator).log() if temperature else 0.0
        token = (logits - temperature * noise).argmax(-1)
        sure = logits.log_softmax(-1).gather(-1, token[..., None])[..., 0]
        place = sure.masked_fill(answer != policy.mask_id, -math.inf).topk(count, dim=-1).indices
        answer.scatter_(1, place, token.gather(1, place))
    return answer


def play(policy, env, index, group, s, temperature, generator):
    """`group` completions of each problem with their scores: (prompt, real, answer, shown), texts, scores."""
    index = [int(i) for i in index for _ in range(group)]
    problems = [env.problem(i) for i in index]
    prompt, real = encode(policy, problems)
    parts = zip(prompt.split(64), real.split(64), strict=True)
    answer = torch.cat([sample(policy, *part, s, temperature, generator) for part in parts])
    ends = torch.isin(answer, torch.tensor(policy.end_token_ids))
    shown = ends.cumsum(-1) - ends.long() == 0  # up to and with the first end token
    texts = [
        problem.completion_prefix + policy.tokenizer.decode(ids[written], skip_special_tokens=True)
        for problem, ids, written in zip(problems, answer, shown & ~ends, strict=True)
    ]
    episodes = envs.episodes.Episodes(env, index, problems)
    episodes.take_turn(dict(enumerate(texts)))
    return (prompt, real, answer, shown), texts, episodes.score()


def advantages_of(rewards, group):
    """(B,) the reward of each completion minus the mean reward of its group."""
    rewards = torch.from_numpy(rewards).view(-1, group)
    advantages = (rewards - rewards.mean(1, keepdim=True)).flatten()
    return advantages.where(advantages.abs() > 1e-9, 0.0).float()


def draw_masks(shown, count, generator):
    """For `count` copies of each completion: what is hidden, what is scored, what a scored token weighs (B, M, T)."""
    size = shown.sum(-1)[:, None, None]  # n tokens, up to the end
    shape = (len(shown), count, shown.shape[1])
    order = torch.rand(shape, generator=generator).masked_fill(~shown[:, None], 2.0).argsort(-1).argsort(-1)
    k = 1 + (torch.rand((len(shown), count, 1), generator=generator) * size).long()  # uniform on 1..n
    scored = order < k
    return scored | ~shown[:, None], scored, torch.where(scored, size / k, 0.0)


def spg_terms(logps, scored, weight, shown, advantages, s):
    """(B,) terms of the loss: raises the ELBO of good completions, lowers a mixture of ELBO and EUBO of the others."""
    elbo = (weight * logps).sum(-1).mean(-1)
    powers = torch.where(scored, weight.log() + s.eubo_beta * logps, -math.inf)
    seen = scored.any(1)
    means = torch.where(seen, powers.logsumexp(1) - math.log(s.masks), 0.0)
    eubo = shown.sum(-1) / seen.sum(-1).clamp(min=1) * means.sum(-1) / s.eubo_beta
    return -advantages * torch.where(advantages >= 0, elbo, s.mix_weight * eubo + (1 - s.mix_weight) * elbo)


def add_gradient(policy, batch, masks, advantages, s):
    """Adds the gradient of the loss to `.grad`, a few completions at a time; returns the loss."""
    prompt, real, answer, shown = batch
    hidden, scored, weight = masks
    loss = 0.0
    for rows in (advantages != 0).nonzero()[:, 0].split(max(1, s.micro // s.masks)):
        if not len(rows):
            continue
        seen = answer[rows, None].masked_fill(hidden[rows], policy.mask_id).flatten(0, 1)
        prompts, reals, targets = (x[rows].repeat_interleave(s.masks, 0) for x in (prompt, real, answer))
        logps = logits_of(policy, prompts, reals, seen).log_softmax(-1).gather(-1, targets[..., None])[..., 0]
        logps = logps.view(len(rows), s.masks, -1) * scored[rows]
        terms = spg_terms(logps, scored[rows], weight[rows], shown[rows], advantages[rows], s)
        part = terms.sum() / len(answer)
        part.backward()
        loss += float(part.detach())
    return loss


def update(policy, optimizer, batch, masks, advantages, s, step):
    policy.model.train()
    loss = add_gradient(policy, batch, masks, advantages, s)
    norm = float(torch.nn.utils.clip_grad_norm_(policy.model.parameters(), s.clip))
    if math.isfinite(norm) and math.isfinite(loss):
        optimizer.param_groups[0]["lr"] = s.lr * min(1.0, (step + 1) / s.warmup)
        optimizer.step()
    optimizer.zero_grad()
    policy.model.eval()
    return {"loss": loss, "grad_norm": norm}


def solved(policy, s, split, count):
    """The share of problems that are solved at temperature 0."""
    env = envs.make(s.env, split=split, reward_weights=s.reward_weights)
    *_, scores = play(policy, env, range(count), 1, s, 0.0, None)
    return float((scores.rewards["correct"] == 1).mean())


def train(s):
    out = Path(s.out)
    out.mkdir(parents=True, exist_ok=True)
    policy = load_model(s.model, env=s.env)
    env = envs.make(s.env, split="train", reward_weights=s.reward_weights)
    optimizer = torch.optim.AdamW(
        policy.model.parameters(), lr=s.lr, betas=(0.9, 0.99), weight_decay=s.weight_decay
    )
    first, best, log = 0, (-1.0, -1), (out / "metrics.jsonl").open("a")
    if s.resume:
        state = torch.load(out / "checkpoint.pt")
        policy.model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, best = state["step"], state["best"]
    before, began = solved(policy, s, "test", s.test), time.time()
    for step in range(first, s.max_steps):
        generator = torch.Generator().manual_seed(
            1_000_003 * s.seed + step
        )  # so a resumed run repeats itself
        index = np.random.default_rng([s.seed, step]).integers(len(env), size=s.prompts)
        batch, texts, scores = play(policy, env, index, s.group, s, s.temperature, generator)
        advantages = advantages_of(scores.total, s.group)
        masks = draw_masks(batch[-1], s.masks, generator)
        row = {"step": step + 1, "reward": float(scores.total.mean())}
        row |= update(policy, optimizer, batch, masks, advantages, s, step)
        if (step + 1) % s.eval_steps == 0 or step + 1 == s.max_steps:
            row["validation"] = solved(policy, s, "validation", s.validation)
            if (row["validation"], step) > best:
                best = (row["validation"], step)
                save_model(policy, out / "model")
            state = {"model": policy.model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "step": step + 1, "best": best}, out / "checkpoint.tmp")
            (out / "checkpoint.tmp").rename(out / "checkpoint.pt")
        print(json.dumps(row), file=log, flush=True)
        print("  ".join(f"{name} {value:.3f}" for name, value in row.items()), repr(texts[0]))
    after = solved(load_model(str(out / "model")), s, "test", s.test)
    print(f"test, {s.test} problems: {before:.3f} -> {after:.3f}, {time.time() - began:.0f} s")
    return before, after


if __name__ == "__main__":
    train(settings())

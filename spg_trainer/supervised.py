"""The `sft` command: a base model from demonstrations, by masked-denoising cross-entropy as LLaDA is trained.

A base model that RL can teach must *have* the right behaviour as one of several: `mix` says which share of the
demonstrations follows which habit of the environment; `right` is always its `demonstration`.

In every completion of T tokens k are masked, k uniform on 1..T, and scored with weight 1/k: the ELBO per token
(`docs/algorithms/spg.md`, form b). Padding behind the end token is learned like any other token.
"""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from spg_trainer.adapters import settle
from spg_trainer.checkpoint import export
from spg_trainer.config import Sampling, SftCommand, check_sft
from spg_trainer.console import Console
from spg_trainer.errors import ConfigError, TrainingError
from spg_trainer.evaluation import Evaluation, evaluate, make_env
from spg_trainer.files import CHOOSE_ANOTHER, check_replaceable, write_text
from spg_trainer.model_card import model_card
from spg_trainer.models import Policy, head_weight, hidden_states, new_tiny, open_policy, tiny_tokenizer
from spg_trainer.optimizer import apply_gradients, make_adamw, warmup_cosine
from spg_trainer.packages import envs
from spg_trainer.seeding import derive, numpy_generator
from spg_trainer.settings import load_preset, preset_kind, preset_sampling, task_record
from spg_trainer.text import encode_completions, encode_prompts

if TYPE_CHECKING:
    from envs import Problem, TextEnv

EVAL_PROBLEMS = 256
"""Problems of each split that a finished model is evaluated on; some test splits have thousands."""


def sft(command: SftCommand, *, quiet: bool = False) -> Path:
    """Trains a model on demonstrations and writes it with environment.json and a model card; returns its folder.

    Raises:
        ConfigError: a number out of range, an unknown habit, a length that is too small, a folder that is not empty.
        CheckpointError: the folder cannot be written, which is checked before the training.
        TrainingError: the loss is not finite; nothing is written then.
    """
    check_sft(command)
    console = Console(quiet=quiet)
    folder = empty_folder(command)
    env = make_env(command, "train")
    mix = mix_shares(command.mix, env)
    check_replaceable(folder, CHOOSE_ANOTHER)
    policy = base_policy(command)
    if policy.note:
        console.warn(policy.note)
    started = time.monotonic()
    dropout = settle(command.model).lora_dropout > 0
    with torch.random.fork_rng(enabled=dropout):  # dropout knows the global stream only
        if dropout:
            torch.manual_seed(derive(command.seed, "sft-dropout"))
        loss = fit(policy, env, mix, command, console)
    seconds = time.monotonic() - started
    trained = policy.model.dtype
    if command.save_dtype == "bfloat16":
        policy.model.bfloat16()
    export(folder, policy, task_record(command, eval_sampling(command)), advice=CHOOSE_ANOTHER)
    policy.model.to(trained)  # rounded by now if asked for: what is evaluated is what was saved
    results = {split: evaluate_split(policy, command, split, console) for split in ("test", "validation")}
    card = model_card(command, mix, policy, loss, seconds, results)
    write_text(folder / "README.md", card, CHOOSE_ANOTHER)
    for split, result in results.items():
        console.say(f"{env.spec_name}, solved on {split}, greedy: {result.solved.removeprefix('solved ')}.")
    line = f"python -m spg_trainer --env {command.env} --model {folder}"
    console.say(f"The model is in {folder}. Train it: {line}")
    return folder


def empty_folder(command: SftCommand) -> Path:
    """The folder to write, which must be new or empty."""
    name = command.env.rpartition("/")[2]
    folder = Path(command.output_dir or f"models/{name}-sft-s{command.seed}")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"--output-dir {folder} is no empty folder. Choose a new one, or remove it first.")
    if folder.resolve() == Path.cwd():  # it is replaced whole, and nobody should be left in the old one
        raise ConfigError(f"--output-dir {folder} is the folder you are in. Use e.g. {folder / 'model'}.")
    return folder


def base_policy(command: SftCommand) -> Policy:
    """The model to train: a new one of the embedded kind, or an existing one."""
    m = command.model
    if m.model != "new":
        return open_policy(m, env=command.env, seed=command.seed)
    sizes = {"hidden_size": command.hidden_size, "layers": command.num_layers, "heads": command.num_heads}
    model = new_tiny(**sizes, ffn=command.intermediate_size, seed=command.seed)
    if m.gradient_checkpointing:
        model.gradient_checkpointing_enable()
    device = ("cuda" if torch.cuda.is_available() else "cpu") if m.device == "auto" else m.device
    tokenizer = tiny_tokenizer()
    ends = (tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|eot_id|>"))
    return Policy(model.to(device), tokenizer, tokenizer.mask_token_id, tokenizer.pad_token_id, ends, "new")


def mix_shares(mix: Mapping[str, object], env: "TextEnv") -> dict[str, float]:
    """The mix as shares that sum to 1; ConfigError for habits and shares that the environment cannot have."""
    mix = mix or {"right": 1.0}
    habits = env.habits(envs.core.read_problem(env, 0))
    if "right" in habits:
        raise ConfigError(
            f"{env.spec_name} has a habit named 'right', which is its demonstration. Rename it."
        )
    known = sorted({"right", *habits})
    for name, share in mix.items():
        if name not in known:
            text = f"--mix {name}={share}: {env.spec_name} has no habit {name!r}"
            raise ConfigError(f"{text}. Known: {', '.join(known)}.")
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise ConfigError(f"--mix {name}={share}: a share is a number >= 0, e.g. {name}=0.4.")
    total = sum(float(share) for share in mix.values())
    if total <= 0:
        raise ConfigError("--mix: all shares are 0. Give one habit a share, e.g. --mix right=1.")
    return {name: float(share) / total for name, share in mix.items()}


def draw_demonstrations(
    env: "TextEnv", mix: Mapping[str, float], seed: int, step: int, count: int
) -> "tuple[list[Problem], list[str]]":
    """`count` problems of the environment and a completion of each; row r is a pure function of (seed, step, r)."""
    names, edges = list(mix), np.cumsum(list(mix.values()))
    problems, completions = [], []
    for row in range(count):
        rng = numpy_generator(seed, "sft", step, row)
        problem = envs.core.read_problem(env, int(rng.integers(len(env))))
        name = names[min(int(np.searchsorted(edges, rng.random(), side="right")), len(names) - 1)]
        problems.append(problem)
        completions.append(env.demonstration(problem) if name == "right" else env.habits(problem)[name])
    return problems, completions


def draw_masked(batch_size: int, length: int, seed: int, step: int) -> tuple[Tensor, Tensor]:
    """Which completion tokens are masked, (B, T) bool, and the weight 1/k of each row, (B,) float32."""
    rng = numpy_generator(seed, "sft-masks", step)
    count = rng.integers(1, length + 1, size=batch_size)
    rank = rng.random((batch_size, length)).argsort(axis=1).argsort(axis=1)
    masked = torch.from_numpy(rank < count[:, None])
    return masked, torch.from_numpy(1.0 / count).float()


def denoising_loss(
    policy: Policy, prompt: tuple[Tensor, Tensor], completion_ids: Tensor, masked: Tensor, weight: Tensor
) -> Tensor:
    """Sum over the rows of weight * sum over masked tokens of -log p, a scalar in nats.

    prompt: ids (B, L) int64, left-padded, and mask (B, L) bool. completion_ids, masked: (B, T). weight: (B,) float32.
    """
    prompt_ids, prompt_mask = prompt
    length = prompt_ids.shape[1]
    input_ids = torch.cat([prompt_ids, torch.where(masked, policy.mask_id, completion_ids)], dim=1)
    attention = torch.cat([prompt_mask, torch.ones_like(masked)], dim=1)
    states = hidden_states(policy.model, input_ids, attention)[:, length:]
    logits = torch.nn.functional.linear(states[masked], head_weight(policy.model))
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    nats = torch.nn.functional.cross_entropy(logits, completion_ids[masked], reduction="none")
    return (nats * weight[:, None].expand_as(masked)[masked]).sum()


def fit(
    policy: Policy, env: "TextEnv", mix: Mapping[str, float], command: SftCommand, console: Console
) -> float:
    """All updates; returns the mean loss per token of the last hundred, in nats."""
    parameters = [p for p in policy.model.parameters() if p.requires_grad]
    optimizer = make_adamw(parameters, command.learning_rate, command.weight_decay)
    recent: list[float] = []
    policy.model.train()
    with console.progress(command.steps, "sft") as progress:
        for step in range(command.steps):
            problems, texts = draw_demonstrations(env, mix, command.seed, step, command.batch_size)
            prefixes = [p.completion_prefix for p in problems]
            prompt = encode_prompts(policy, [p.prompt for p in problems], prefixes)
            ids = encode_completions(policy, texts, command.max_completion_length)
            masked, weight = draw_masked(len(texts), command.max_completion_length, command.seed, step)
            total = 0.0
            for rows in torch.arange(len(texts)).split(command.per_device_batch_size or len(texts)):
                micro_batch = (t[rows].to(policy.model.device) for t in (ids, masked, weight))
                loss = denoising_loss(policy, (prompt[0][rows], prompt[1][rows]), *micro_batch) / len(texts)
                loss.backward()
                total += float(loss.detach())
            norm = torch.nn.utils.clip_grad_norm_(parameters, command.max_grad_norm)
            if not torch.isfinite(norm):
                raise TrainingError(
                    f"The gradient of sft step {step} is not finite. Lower --learning-rate {command.learning_rate}."
                )
            peak, warmup = command.learning_rate, command.warmup_steps
            apply_gradients(optimizer, warmup_cosine(peak, warmup, command.steps, step))
            optimizer.zero_grad(set_to_none=True)
            recent = [*recent[-99:], total]
            progress(1, f"loss {sum(recent) / len(recent):.3f}")
    policy.model.eval()
    return sum(recent) / len(recent)


def eval_sampling(command: SftCommand) -> Sampling:
    """Greedy decoding at the command's length: the preset's tokens per step, its blocks if they divide, else one."""
    preset = preset_sampling(load_preset(command.env, preset_kind(command.model.model)))
    length, block = command.max_completion_length, preset.block_length
    block = block if length % block == 0 else length
    return Sampling.at_rate(length, block, preset.tokens_per_step, remasking=preset.remasking)


def evaluate_split(policy: Policy, command: SftCommand, split: str, console: Console) -> Evaluation:
    """The greedy solved rate of what was made, on up to 256 problems."""
    env, sampling = make_env(command, split), eval_sampling(command)
    count = min(EVAL_PROBLEMS, len(env))
    with console.progress(count, f"eval {split}") as advance:
        return evaluate(policy, env, sampling, split=split, num_problems=count, advance=advance)

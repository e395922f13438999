"""What a converted language model keeps: solved left to right before, by blocks after `convert` and steps of `sft`.

    python benchmarks/converted.py FOLDER [--seeds 0 1] [--causal-steps 2000] [--steps 50 100 200]

A tiny model of Qwen3's shape learns GSM8K[generated] from left to right. `convert` makes an SDAR model of it, and of
the same model with its first, random weights; `sft` trains both on equally many tokens.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measuring import hardware, print_head, print_row
from transformers import Qwen3Config, Qwen3ForCausalLM

import envs
from spg_trainer.cli import main as command
from spg_trainer.evaluation.command import run_eval
from spg_trainer.models.tiny import tiny_tokenizer
from spg_trainer.seeding import derive
from spg_trainer.settings.configs import EvalCommand
from spg_trainer.settings.resolve import resolve
from spg_trainer.training.loop import train
from spg_trainer.training.plan import settle

BATCH, LENGTH, PROBLEMS = 64, 20, 256
SIZES = {"hidden_size": 96, "intermediate_size": 256, "num_hidden_layers": 3, "num_attention_heads": 4}
SIZES |= {"num_key_value_heads": 4, "head_dim": 24, "max_position_embeddings": 1024}
TASK = "--env gsm8k --env-args source=generated"
DECODING = f"--max-completion-length {LENGTH} --block-length 4 --diffusion-steps {LENGTH}"
SFT = f"--source demonstrations --lora-r 0 --prompts-per-step {BATCH} --per-device-batch-size 192 --eval-steps 0 "
SFT += "--eval-problems 1 --optimizer adamw --learning-rate 1e-3 --lr-schedule constant --warmup-steps 20 --keep 999"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--causal-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, nargs="+", default=[50, 100, 200])
    args = parser.parse_args()
    print(f"{hardware()}\n", flush=True)
    print_head(
        ["seed", "weights", "left to right", *(f"by blocks, step {step}" for step in [0, *args.steps])]
    )
    for seed in args.seeds:
        for name, steps in (("causal", args.causal_steps), ("random", 0)):
            source, made, run = (args.folder / f"{name}-{seed}{part}" for part in ("", "-sdar", "-run"))
            before = train_causal(source, steps, seed)
            words = ["--family", "sdar", "--block-length", "4", "--output", str(made)]
            command(["convert", str(source), *words])
            words = f"{TASK} {DECODING} {SFT} --model {made} --seed {seed} --output-dir {run}".split()
            saved = int(np.gcd.reduce(args.steps))
            train(
                settle([*words, "--max-steps", str(max(args.steps)), "--save-steps", str(saved)]), quiet=True
            )
            models = [made, *(run / "checkpoints" / f"step-{step:06d}" for step in args.steps)]
            print_row([seed, name, f"{before:.3f}", *(f"{solved_by_blocks(model):.3f}" for model in models)])
    return 0


def solved_by_blocks(model: Path) -> float:
    """The greedy solved rate of test problems, one token a step."""
    words = f"{TASK} {DECODING} --model {model} --num-problems {PROBLEMS} --output-dir {model}-eval"
    (result,) = run_eval(resolve(EvalCommand, words.split()), quiet=True)
    return float(np.mean([row["correct"] for row in result.rows]))


def train_causal(folder: Path, steps: int, seed: int) -> float:
    """Trains a language model from left to right and saves it; returns the greedy solved rate of its own decoding."""
    tokenizer = tiny_tokenizer()
    tokens = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "bos_token_id": None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive(seed, "causal"))
        model: Any = Qwen3ForCausalLM(Qwen3Config(**SIZES, **tokens, pad_token_id=tokenizer.pad_token_id))
    task = envs.make("gsm8k", split="train", source="generated").unwrapped
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps + 1)
    draw = np.random.default_rng(derive(seed, "causal problems"))
    for _ in range(steps):
        problems = [task.problem(int(index)) for index in draw.integers(len(task), size=BATCH)]
        prompts = asked(tokenizer, problems)
        answers = [task.demonstration(problem) + tokenizer.eos_token for problem in problems]
        rows = tokenizer(
            [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)], padding=True
        )
        ids, places = torch.tensor(rows.input_ids), torch.arange(len(rows.input_ids[0]))
        lengths = torch.tensor([len(tokenizer.encode(answer)) for answer in answers])
        is_answer = places >= len(places) - lengths[:, None]  # rows are padded on the left
        labels = ids.masked_fill(~is_answer, -100)
        loss = model(input_ids=ids, attention_mask=torch.tensor(rows.attention_mask), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    task = envs.make("gsm8k", split="test", source="generated").unwrapped
    problems = [task.problem(index) for index in range(PROBLEMS)]
    rows = tokenizer(
        asked(tokenizer, problems), padding=True, return_tensors="pt", return_token_type_ids=False
    )
    found = model.eval().generate(**rows, max_new_tokens=LENGTH, do_sample=False)[
        :, rows.input_ids.shape[1] :
    ]
    texts = [text.split(tokenizer.eos_token)[0] for text in tokenizer.batch_decode(found)]
    scores = [task.score(problem, text) for problem, text in zip(problems, texts, strict=True)]
    return float(np.mean([score.rewards["correct"] for score in scores]))


def asked(tokenizer: Any, problems: list[Any]) -> list[str]:
    """The prompts, each as a user's message, as the trainer asks them."""
    chats = [[{"role": "user", "content": problem.prompt}] for problem in problems]
    return [tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) for chat in chats]


if __name__ == "__main__":
    sys.exit(main())

"""Training in several processes, one thread each, against one: seconds of a step's rollout and of its updates.

    python benchmarks/processes.py [--processes 2] [--rounds 2] [--prompts 8] [--layers 8] [flags of training]

Whole runs of `python -m spg_trainer` with a random model of width 512 take turns; medians are over all their steps.
Every completion earns something, and so all of them are in the update.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from measuring import hardware, print_head, print_row
from transformers.utils.logging import disable_progress_bar

from spg_trainer.models import llada_config, tiny_tokenizer

ENV = f"{Path(__file__).resolve().parent / 'letters.py'}:bench/Letters-v0"
FLAGS = (
    "--force --max-steps 4 --num-generations 4 --num-iterations 4 --per-device-batch-size 8 --max-completion-length 32 "
    "--block-length 32 --diffusion-steps 32 --eval-steps 0 --eval-problems 4 --validation-problems 0 --warmup-steps 0"
)


def save_model(folder: Path, layers: int) -> None:
    """Writes a random model of width 512, 8 heads, feed-forward 1536, with the tiny tokenizer."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    ids = {"mask_token_id": tokenizer.mask_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = llada_config(
        d_model=512,
        n_layers=layers,
        n_heads=8,
        mlp_hidden_size=1536,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        **ids,
    )
    config.model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def timings(words: list[str], processes: int, folder: Path) -> list[dict[str, float]]:
    """What each step of a run took."""
    launcher = [sys.executable, "-m"]
    if processes > 1:
        launcher += ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    run = subprocess.run(
        [*launcher, "spg_trainer", *words, "--output-dir", str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        sys.exit(run.stderr)
    return [json.loads(line) for line in (folder / "timings.jsonl").open()]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--processes", type=int, default=2, help="processes, each of one thread (2)")
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind (2)")
    parser.add_argument("--prompts", type=int, default=8, help="of a step, each with 4 completions (8)")
    parser.add_argument("--layers", type=int, default=8, help="layers of the model (8)")
    args, training = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        disable_progress_bar()
        save_model(folder / "model", args.layers)
        words = ["--env", ENV, "--model", str(folder / "model"), "--prompts-per-step", str(args.prompts)]
        words += [*FLAGS.split(), *training]
        steps: dict[int, list[dict[str, float]]] = {1: [], args.processes: []}
        for number in range(args.rounds):
            for processes, found in steps.items():
                found += timings(words, processes, folder / f"{processes}-{number}")
    print(
        f"{hardware()}; {args.layers} layers of width 512; {4 * args.prompts} completions a step; median of "
        f"{len(steps[1])} steps, elapsed time\n"
    )
    print_head(["", "1 process, s", f"{args.processes} processes, s", "ratio"])
    for part in ("rollout", "update"):
        one, several = (statistics.median(step[part] for step in found) for found in steps.values())
        print_row([part, f"{one:.2f}", f"{several:.2f}", f"{one / several:.2f}x"])


if __name__ == "__main__":
    main()

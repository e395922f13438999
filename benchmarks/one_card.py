"""What one card gives: decoding and updates at the shapes of published models, beside those of another checkout.

Each part runs in a process of its own that may take so many seconds, first in this checkout and then, with --before, in
the other. Results are written to a file as they come, and what is left out or fails is named in the table. Weights are
random, so no text ends by itself. A *pass* is the difference of two rollouts that differ in their number of cached
passes, divided by that number, sampling included.

    python benchmarks/one_card.py [--before ../checkout-of-another-commit] [--seconds 290] [--results one_card.jsonl]
    python benchmarks/one_card.py --small --device cpu --parts decode update weights

    decode    8B's layers under adapters of rank 128, --cache dual: a pass, two rollouts, tokens with and without graphs
    update    the same model: an update of 8 x 128 with 2 copies at once, and one of 48 x 256 with 4
    weights   SDAR-1.7B's shape, all weights trained: a quarter of the updates of a step of the gsm8k recipe
    compiled  the updates of `update` again, with --compile; in this checkout only, as
    profile   which kernels a cached pass and an update spend their time in
"""

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
LIMITS = {"decode": 80, "update": 60, "weights": 60, "compiled": 90, "profile": 45}
"""Seconds that a part may take in one checkout, its start included."""
BARS = {
    "pass of 8 rows x 32 columns": "<= 0.016",
    "rollout of 12 x 256, 128 steps": "<= 3",
    "rollout of 32 x 256, 128 steps": "<= 7.5",
    "update of 8 x 128, 2 copies": "<= 0.7",
    "update of 48 x 256, 4 copies": "<= 3.2",
    "update of 8 x 128, 2 copies, compiled": "<= 0.7",
    "update of 48 x 256, 4 copies, compiled": "<= 3.2",
    "4 updates of all weights, gsm8k recipe": "<= 26",
    "tokens by graphs, five seeds": "equal",
}
"""What each piece of work should take, in seconds, on an H100."""

Note = Callable[..., None]
"""note(work, seconds=..., peak=..., text=...) writes a line of results."""


def decode(step: Any, args: argparse.Namespace, note: Note) -> None:
    """step: the module `llada_step` of the checkout that is measured."""

    def given(rows: int, length: int, steps: int) -> Any:
        words = f"--batch {rows} --completion-length {length} --diffusion-steps {steps} --cache dual"
        return step.arguments(f"{shape_8b(args)} --prompt-length {args.prompt} {words}".split())

    short, long = (8, 32) if args.small else (64, 256)
    # Long ones, as what draws tokens is replayed from the third block on.
    many, few = given(8, long, long // 2), given(8, long, long // 4)
    policy = step.make_policy(many)

    def took(given: Any, number: int) -> tuple[float, float]:
        return step.measure(policy.device, lambda: step.write(policy, given, number))

    took(few, 0)
    (seconds_of_many, _), (seconds_of_few, _) = took(many, 1), took(few, 1)
    note("pass of 8 rows x 32 columns", seconds=(seconds_of_many - seconds_of_few) / (long // 2 - long // 4))
    for rows in (12, 32):
        seconds, peak = took(given(rows, long, long // 2), 3)
        note(f"rollout of {rows} x 256, 128 steps", seconds=seconds, peak=peak)
    if getattr(policy, "replays", None) is not None:
        policy.end_token_ids = tuple(range(args.vocabulary // 50))  # so that rows leave at different times
        equal = []
        for seed in range(5):
            graphs, eager = (
                step.write(replace(policy, replays=replays), given(12, short, short // 2), seed)
                for replays in (policy.replays, None)
            )
            same = (graphs.completion_ids == eager.completion_ids).float().mean()
            logps = (graphs.unmask_logps - eager.unmask_logps).abs().max()
            equal.append(f"{float(same):.4f} ({float(logps):.1e})")
        # An older checkout has one word for all that could not be recorded.
        failed = getattr(policy.replays, "failed", None) or not getattr(policy.replays, "works", True)
        works = f"; NOT recorded: {failed}" if failed else ""
        note(
            "tokens by graphs, five seeds",
            text=f"equal share (largest difference): {', '.join(equal)}{works}",
        )


def update(step: Any, args: argparse.Namespace, note: Note, compiled: bool = False) -> None:
    import torch

    def took(given: argparse.Namespace, number: int) -> tuple[float, float]:
        rollouts = step.invent(policy, given, 0)
        return step.measure(policy.device, lambda: step.update(policy, optimizer, rollouts, given, number))

    policy = optimizer = None
    for rows, length, prompt, copies, rounds in ((8, 128, 256, 2, 3), (48, 256, 200, 4, 1)):
        if args.small:
            rows, length, prompt = 8, length // 8, prompt // 16
        words = f"--batch {rows} --completion-length {length} --prompt-length {prompt}"
        given = step.arguments(f"{shape_8b(args)} {words} --per-device-batch-size {copies}".split())
        if policy is None:
            policy = step.make_policy(given)
            if compiled:
                from spg_trainer.models.load import compile_layers

                compile_layers(policy.model)
            trained = [p for p in policy.model.parameters() if p.requires_grad]
            optimizer = torch.optim.AdamW(trained, lr=3e-6)
        took(replace_namespace(given, batch=copies * 2), 0)
        found = [took(given, number) for number in range(1, rounds + 1)]
        size = f"{8 if copies == 2 else 48} x {128 if copies == 2 else 256}"
        all_seconds = ", ".join(f"{seconds:.2f}" for seconds, _ in found)
        note(
            f"update of {size}, {copies} copies{', compiled' if compiled else ''}",
            seconds=sorted(seconds for seconds, _ in found)[len(found) // 2],
            peak=max(peak for _, peak in found),
            text=f"of {all_seconds}" if rounds > 1 else "",
        )


def compiled(step: Any, args: argparse.Namespace, note: Note) -> None:
    update(step, args, note, compiled=True)


def weights(step: Any, args: argparse.Namespace, note: Note) -> None:
    """A quarter of a step's updates; in a checkout that computes in float32, a sixteenth."""
    import torch
    from transformers import AutoModelForMaskedLM

    from spg_trainer.architecture.shape import find_config
    from spg_trainer.models import Policy, tiny_tokenizer
    from spg_trainer.settings.model import ModelConfig

    config = find_config(ModelConfig(model="JetLM/SDAR-1.7B-Chat"), "gsm8k")
    if args.small:
        config.vocab_size = args.vocabulary
        config.num_hidden_layers, config.hidden_size, config.intermediate_size = 2, 64, 64
        config.num_attention_heads = config.num_key_value_heads = 2
        config.head_dim = 32
        config.layer_types = config.layer_types[:2] if getattr(config, "layer_types", None) else None
    try:
        from spg_trainer.models.shard import keep_wider
    except ImportError:
        keep_wider = None
    step.BLOCK = 4
    with torch.device(args.device):
        model = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    if keep_wider:
        keep_wider(model, torch.bfloat16)
    rows = 96 if keep_wider else 24
    if args.small:
        rows //= 12
    given = step.arguments(
        f"--device {args.device} --lora-r 0 --dtype {'bfloat16' if keep_wider else 'float32'} --batch {rows} "
        f"--prompt-length {args.prompt} --completion-length {32 if args.small else 256} "
        "--per-device-batch-size 6".split()
    )
    given.vocabulary = config.vocab_size
    policy = Policy(model, tiny_tokenizer(), config.vocab_size - 1, 0, (), source="random weights")
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-6)
    few = replace_namespace(given, batch=6)
    step.update(policy, optimizer, step.invent(policy, few, 0), few, 0)
    rollouts = step.invent(policy, given, 0)
    seconds, peak = step.measure(policy.device, lambda: step.update(policy, optimizer, rollouts, given, 1))
    times = 4 * (8 if args.small else 96) // rows
    text = f"{times} times {seconds:.2f}, which was measured"
    note("4 updates of all weights, gsm8k recipe", seconds=times * seconds, peak=peak, text=text)


def profile(step: Any, args: argparse.Namespace, note: Note) -> None:
    """Writes tables of kernels behind the results."""
    from torch.profiler import ProfilerActivity, profile

    words = f"{shape_8b(args)} --prompt-length {args.prompt} --batch 8 --per-device-batch-size 2 --cache dual"
    given = step.arguments(f"{words} --completion-length 32 --diffusion-steps 32".split())
    few = replace_namespace(given, batch=2)
    policy = step.make_policy(given)

    def table(name: str, work: Callable[[], object]) -> None:
        work()
        on_gpu = args.device != "cpu"
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
        with profile(activities=activities) as found:
            step.measure(policy.device, work)
        by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        averages = found.key_averages()
        calls = sum(row.count for row in averages if row.key.startswith("aten::"))
        busy = sum(getattr(row, by) for row in averages) / 1e6
        note(f"profile: {name}", text=f"{calls} ATen calls; {busy:.3f} s on the device")
        text = averages.table(sort_by=by, row_limit=25, max_name_column_width=70)
        with Path(args.results).with_suffix(f".{name.split()[0]}.txt").open("a") as file:
            file.write(f"{name}\n{text}\n")

    def one_update() -> object:
        return step.update(policy, optimizer, step.invent(policy, few, 0), few, 1)

    table("rollout of 8 x 32 in 32 steps", lambda: step.write(policy, given, 1))
    import torch

    optimizer = torch.optim.AdamW([p for p in policy.model.parameters() if p.requires_grad], lr=3e-6)
    table("update of 2 x 32, 2 copies", one_update)


PARTS = {
    "decode": decode,
    "update": update,
    "weights": weights,
    "compiled": compiled,
    "profile": profile,
}


def replace_namespace(given: argparse.Namespace, **changes: Any) -> argparse.Namespace:
    return argparse.Namespace(**{**vars(given), **changes})


def shape_8b(args: argparse.Namespace) -> str:
    """LLaDA-8B's shape, or a small one."""
    layers, width, rank = (2, 128, 4) if args.small else (32, 4096, 128)
    return (
        f"--device {args.device} --dtype bfloat16 --layers {layers} --hidden-size {width} "
        f"--vocabulary {args.vocabulary} --lora-r {rank}"
    )


def run_part(args: argparse.Namespace) -> None:
    """Measures one part in the checkout `args.tree`, which alone is imported."""
    own = str(Path(__file__).resolve().parent)
    sys.path[:] = [
        str(Path(args.tree) / "benchmarks"),
        str(args.tree),
        *(path for path in sys.path if path not in (own, str(HERE))),
    ]

    def note(work: str, **found: Any) -> None:
        line = {"tree": args.name, "work": work, **found}
        with Path(args.results).open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(line, flush=True)

    started = time.monotonic()
    try:
        import llada_step

        import spg_trainer

        assert Path(spg_trainer.__file__).parents[1] == Path(args.tree).resolve(), spg_trainer.__file__
        PARTS[args.part](llada_step, args, note)
    except Exception as error:
        traceback.print_exc()
        note(f"{args.part}: failed", text=f"{type(error).__name__}: {error}"[:300])
    note(f"{args.part}: whole process", seconds=time.monotonic() - started)


def run_all(args: argparse.Namespace) -> None:
    """The parts one after the other while there is time, then the table."""
    trees = {"now": HERE, **({"before": Path(args.before).resolve()} if args.before else {})}
    end = time.monotonic() + args.seconds
    Path(args.results).unlink(missing_ok=True)
    for part in args.parts:
        for name, tree in trees.items():
            if part in ("compiled", "profile") and name == "before":
                continue
            left = end - time.monotonic()
            if left < 15:
                print(f"{part} ({name}): left out, no time", flush=True)
                continue
            words = [sys.executable, __file__, "--part", part, "--tree", tree, "--name", name, "--results"]
            words += [args.results, "--device", args.device, *(["--small"] if args.small else [])]
            try:
                subprocess.run(
                    list(map(str, words)),
                    timeout=min(left, LIMITS[part]),
                    check=False,
                    env={
                        **os.environ,
                        "PYTHONPATH": os.pathsep.join([str(tree), os.environ.get("PYTHONPATH", "")]),
                    },
                )
            except subprocess.TimeoutExpired:
                print(f"{part} ({name}): ended after {min(left, LIMITS[part]):.0f} s", flush=True)
    print_results(Path(args.results))


def print_results(file: Path) -> None:
    """A Markdown table of the works whose bars are named, and below it what else was written."""
    lines = [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
    found = {(line["tree"], line["work"]): line for line in lines}
    print("\n| work | before, s | now, s | ratio | bar, s | peak before, now, GiB |")
    print("|---|---:|---:|---:|---:|---:|")
    for work, bar in BARS.items():
        before, now = found.get(("before", work), {}), found.get(("now", work), {})
        seconds = [line.get("seconds") for line in (before, now)]
        ratio = f"{seconds[0] / seconds[1]:.2f}" if all(seconds) else ""
        shown = [f"{value:.4f}" if value else "" for value in seconds]
        if "seconds" not in now:
            shown[1] = now.get("text", "")
        peaks = ", ".join(f"{line['peak']:.2f}" for line in (before, now) if "peak" in line)
        print(f"| {work} | {shown[0]} | {shown[1]} | {ratio} | {bar} | {peaks} |")
    for line in lines:
        if line["work"] not in BARS or (line.get("text") and "seconds" in line):
            print(line)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--before", help="the folder of another checkout, to compare with")
    parser.add_argument("--seconds", type=float, default=290, help="after which no part goes on")
    parser.add_argument("--results", default="one_card.jsonl")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--small", action="store_true", help="small shapes, to try the program on a CPU")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--tree", help=argparse.SUPPRESS)
    parser.add_argument("--name", default="now", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.vocabulary, args.prompt = (512, 16) if args.small else (126464, 200)
    if args.part:
        run_part(args)
    else:
        run_all(args)


if __name__ == "__main__":
    main()

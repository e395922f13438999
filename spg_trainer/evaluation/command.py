"""The `eval` command: a model at every length and number of steps asked for, each result in a file of its own.

The name of a file says what was measured and ends with a digest of all of it: settings, problems, weights. Another
evaluation has another name; the same one is read again, or goes on where it was cut short.
"""

import hashlib
import json
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from spg_trainer import __version__
from spg_trainer.distributed import decide_on_main, raising_on_all
from spg_trainer.errors import ConfigError
from spg_trainer.evaluation.evaluate import (
    Evaluation,
    evaluate,
    evaluation_settings,
    figures,
    make_env,
    mix_hint,
    summarize,
)
from spg_trainer.models import Policy, load_model
from spg_trainer.models.source import resolve_model
from spg_trainer.rollout.sampler import get_decoder
from spg_trainer.runs.console import Console
from spg_trainer.runs.environment_file import digest
from spg_trainer.runs.files import CHOOSE_ANOTHER, check_writable
from spg_trainer.runs.folder import RunFolder
from spg_trainer.settings.checks import check_eval
from spg_trainer.settings.fields import EvalCommand, Sampling
from spg_trainer.settings.recipes import own_task
from spg_trainer.settings.sources import ENVIRONMENT, model_environment, run_holding

PAPERS: dict[str, Any] = {
    "max_completion_length": (128, 256, 512),
    "block_length": 32,
    "diffusion_steps": (),
    "tokens_per_step": 2.0,
    "temperature": 0.0,
    "remasking": "low_confidence",
    "num_generations": 1,
}
"""How d1 (arXiv 2504.12216) and SPG (arXiv 2510.09541) decode in evaluations."""
PAPERS_TASKS = ("countdown", "gsm8k", "math500", "sudoku")


def run_eval(command: EvalCommand, *, quiet: bool = False) -> list[Evaluation]:
    """Evaluates a model as often as the command has protocols, lengths and numbers of steps; results in that order.

    Raises:
        ConfigError: numbers that cannot work.
        CheckpointError: the results cannot be written, which is checked before the model is opened.
    """
    check_eval(command)
    get_decoder(command.remasking)
    console = Console(quiet=quiet)
    m = command.model
    parts = [by_protocol(command, protocol) for protocol in command.protocol]
    planned = [
        (part, env, s) for part in parts for env in [make_env(part, part.split)] for s in samplings(part)
    ]
    run = run_holding(m.model)
    folder = RunFolder(command.output_dir or run) if command.output_dir or run else None
    if folder is not None:
        check_writable(folder.path / "eval", CHOOSE_ANOTHER)
    device, accelerator = m.device, None
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        accelerator = Accelerator(cpu=device == "cpu" or (device == "auto" and not torch.cuda.is_available()))
        device = str(accelerator.device) if device == "auto" else device
    with raising_on_all():
        policy = load_model(m.model, env=command.env, dtype=m.dtype, device=device, revision=m.revision)
    policy = policy.ending_with(model_environment(m.model).get("ends", "any"))
    if policy.note:
        console.warn(policy.note + mix_hint(planned[0][1]))
    step = model_step(m.model)
    made = {"weights": weights_digest(policy), "environment": digest(command.env), "version": __version__}
    made |= {"dtype": str(policy.model.dtype), "end_token_ids": list(policy.end_token_ids)}
    rows_per_forward = None if policy.device.type == "cpu" else command.rows_per_forward
    results = []
    for part, env, sampling in planned:
        count = min(part.num_problems or len(env), len(env))
        shared = {"split": part.split, "num_generations": part.num_generations, "seed": part.seed}
        shared["num_problems"] = count
        settings = evaluation_settings(env, sampling, **shared)
        name = result_name(
            settings, count < len(env), step, key={**settings, **made, "weighted": env.reward_weights}
        )
        what = f"{env.spec_name} {command.split}, {sampling.max_completion_length} tokens in "
        what += f"{sampling.diffusion_steps} steps"
        rows = decide_on_main(partial(folder.evaluation_rows, name)) if folder else None
        if rows is not None:
            result = summarize(rows, part.num_generations, settings)
            console.say(f"{what}: {figures(result)}{cells_line(result)}")
            console.say(f"Measured before: {folder.evaluation_path(name)}; remove it to measure again.")
        else:
            with console.progress(count, f"eval {what}") as advance:
                more = {"rows_per_forward": rows_per_forward, "advance": advance, "accelerator": accelerator}
                if folder is not None:
                    more["known"] = decide_on_main(partial(folder.kept_rows, name))
                    more["keep"] = partial(folder.keep_rows, name)
                result = evaluate(policy, env, sampling, **shared, **more)
            console.say(f"{what}: {figures(result)}{cells_line(result)}")
            if folder is not None:
                content = {
                    **result.summary(),
                    "cell_accuracy": cell_accuracy(result),
                    "model": policy.source,
                    "step": step,
                    "made_with": made,
                }
                with raising_on_all():
                    path = folder.evaluation(name, content, result.rows, CHOOSE_ANOTHER)
                folder.drop_rows(name)
                console.say(f"Written: {path}")
        results.append(result)
    return results


def by_protocol(command: EvalCommand, protocol: str) -> EvalCommand:
    """The command as one of its protocols has it; ConfigError for a task that the papers do not have."""
    if protocol == "ours":
        return command
    if own_task(command.env) not in PAPERS_TASKS:
        text = f"--protocol papers: the papers have {', '.join(PAPERS_TASKS)}, not {command.env}"
        raise ConfigError(f"{text}. Leave it out.")
    style = {"prompt_style": "paper", "reward_preset": "paper"}
    return replace(command, env_args={**command.env_args, **style}, **PAPERS)


def cell_accuracy(result: Evaluation) -> float | None:
    """Right blanks of all blanks, what the papers call the accuracy of Sudoku; None where it is not measured."""
    if "paper_cells" not in result.rewards:
        return None
    right = [row["rewards"]["paper_cells"] for row in result.rows]
    return float(np.average(right, weights=[row["puzzle"].count("0") for row in result.rows]))


def cells_line(result: Evaluation) -> str:
    """`; cell accuracy 0.342`, or nothing."""
    return "" if (cells := cell_accuracy(result)) is None else f"; cell accuracy {cells:.3f}"


def samplings(command: EvalCommand) -> list[Sampling]:
    """How to decode, once for each length and number of steps; ConfigError for those that do not divide."""
    more = {"temperature": command.temperature, "remasking": command.remasking}
    block, found = command.block_length, []
    for length in command.max_completion_length:
        if command.diffusion_steps:
            found += [Sampling(length, min(block, length), n, **more) for n in command.diffusion_steps]
        else:
            found.append(Sampling.at_rate(length, block, command.tokens_per_step, **more))
    for sampling in found:
        sampling.check()
    return found


def result_name(settings: dict[str, Any], part: bool, step: int | None, key: dict[str, Any]) -> str:
    """ENV-SPLIT-LENGTHxSTEPS, what is unusual, the model's step, and 8 hex digits of all that was measured.

    Unusual: -pPROBLEMS of a part of the split, -tTEMPERATURE, -gGENERATIONS, -sSEED. No character needs quotes in a
    shell or means something to `glob`.
    """
    env = re.sub(r"[^\w.=,+-]+", "-", settings["env"]).strip("-.")[:80]
    name = f"{env}-{settings['split']}-{settings['max_completion_length']}x{settings['diffusion_steps']}"
    name += f"-p{settings['num_problems']}" if part else ""
    name += f"-t{settings['temperature']:g}" if settings["temperature"] else ""
    name += f"-g{settings['num_generations']}" if settings["num_generations"] > 1 else ""
    name += f"-s{settings['seed']}" if settings["seed"] else ""
    name += "" if step is None else f"-step{step}"
    return f"{name}-{hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()[:8]}"


def weights_digest(policy: Policy) -> str:
    """12 hex digits that tell models apart wherever they lie: of 64 values of each tensor, spread over it."""
    found = hashlib.sha256()
    for name, tensor in policy.model.named_parameters():
        values = tensor.detach().flatten()
        values = values[:: max(1, values.numel() // 64)].double().cpu()
        found.update(f"{name} {tuple(tensor.shape)}".encode() + values.numpy().tobytes())
    return found.hexdigest()[:12]


def model_step(model: str) -> int | None:
    """The training step of a run's model or checkpoint; None for other models."""
    source = resolve_model(model) if Path(model).is_dir() else None
    for name in (ENVIRONMENT, "state.json") if source else ():
        file = (source.adapter or Path(source.base)) / name
        if file.is_file() and "step" in (content := json.loads(file.read_text(encoding="utf-8"))):
            return int(content["step"])
    return None

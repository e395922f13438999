"""The `eval` command: one evaluation per completion length, a table, and files where they belong."""

from pathlib import Path
from typing import Any

from spg_trainer.config import EvalCommand
from spg_trainer.console import Console
from spg_trainer.evaluate import Evaluation, evaluate
from spg_trainer.installed import envs
from spg_trainer.models import load_model
from spg_trainer.policy import ending_with
from spg_trainer.resolve import model_environment
from spg_trainer.rollout import Sampling
from spg_trainer.run_folder import RunFolder
from spg_trainer.settings import check_eval


def evaluate_lengths(command: EvalCommand, *, quiet: bool = False) -> dict[int, Evaluation]:
    """Evaluates a model at every completion length of the command; returns length -> evaluation.

    Raises:
        ConfigError: numbers out of range, sizes that do not divide, several generations at temperature 0.
    """
    check_eval(command)
    console = Console(quiet=quiet)
    samplings = [sampling(command, length) for length in command.max_completion_length]
    weights = {"reward_weights": dict(command.reward_weights)} if command.reward_weights else {}
    env = envs.make(command.env, split=command.split, **weights, **command.env_args)
    m = command.model
    policy = load_model(m.model, env=command.env, dtype=m.dtype, device=m.device, revision=m.revision)
    policy = ending_with(policy, model_environment(m.model).get("ends", "any"))
    if policy.note:
        console.warn(policy.note)
    found: dict[int, Evaluation] = {}
    for chosen in samplings:
        length = chosen.max_completion_length
        with console.progress(
            min(command.num_problems or len(env), len(env)), f"eval {length} tokens"
        ) as advance:
            found[length] = evaluate(
                policy,
                env,
                chosen,
                split=command.split,
                num_generations=command.num_generations,
                num_problems=command.num_problems,
                seed=command.seed,
                rows_per_forward=None if policy.device.type == "cpu" else command.rows_per_forward,
                advance=advance,
            )
        console.say(line(env.spec_name, command.split, length, found[length]))
        folder = output_folder(command)
        if folder is not None:
            name = f"{env.spec_name}-{command.split}-{length}"
            path = folder.evaluation(
                name, found[length].summary() | {"model": policy.source}, found[length].rows
            )
            console.say(f"Written: {path}")
    return found


def sampling(command: EvalCommand, length: int) -> Sampling:
    """How to decode completions of a length; a block is never longer than the completion."""
    steps = max(1, round(length / command.tokens_per_step))
    block = min(command.block_length, length)
    chosen = Sampling(length, block, steps, command.temperature, command.remasking)
    chosen.check()
    return chosen


def output_folder(command: EvalCommand) -> RunFolder | None:
    """Where results go: --output-dir, else the run folder that --model names, else nowhere."""
    if command.output_dir:
        return RunFolder(command.output_dir)
    model = Path(command.model.model)
    return RunFolder(model) if (model / "config.yaml").is_file() else None


def line(env: str, split: str, length: int, found: Evaluation) -> str:
    """The figures of one evaluation in one line."""
    more: dict[str, Any] = {f"pass@{k}": f"{v:.3f}" for k, v in found.pass_at.items() if k > 1}
    more |= {name: f"{value:.3f}" for name, value in found.rewards.items() if name != "correct"}
    more |= {"mean length": f"{found.mean_length:.1f}", "no end": f"{found.clipped_ratio:.3f}"}
    extra = ", ".join(f"{k} {v}" for k, v in more.items())
    rate = f"solved {found.correct:.3f} [{found.low:.3f}, {found.high:.3f}] of {found.n}"
    return f"{env} {split}, {length} tokens: {rate}; {extra}"

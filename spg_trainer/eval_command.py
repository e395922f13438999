"""The `eval` command: one evaluation per completion length, a table, and files where they belong."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.config import EvalCommand, Sampling
from spg_trainer.console import Console
from spg_trainer.demonstrations import suggestion
from spg_trainer.errors import ConfigError
from spg_trainer.evaluate import Evaluation, evaluate, settings
from spg_trainer.files import probe
from spg_trainer.installed import envs
from spg_trainer.models import load_model
from spg_trainer.resolve import model_environment
from spg_trainer.run_folder import RunFolder
from spg_trainer.settings import check_eval

if TYPE_CHECKING:
    from envs import TextEnv

ADVICE = "Free space, fix the permissions, or choose another --output-dir."


def evaluate_lengths(command: EvalCommand, *, quiet: bool = False) -> dict[int, Evaluation]:
    """Evaluates a model at every completion length of the command; returns length -> evaluation.

    Raises:
        ConfigError: numbers out of range, sizes that do not divide, several generations at temperature 0, a file of
            another result in the way.
        CheckpointError: the results cannot be written, which is told before the model is opened.
    """
    check_eval(command)
    console = Console(quiet=quiet)
    samplings = [sampling(command, length) for length in command.max_completion_length]
    weights = {"reward_weights": dict(command.reward_weights)} if command.reward_weights else {}
    env = envs.make(command.env, split=command.split, **weights, **command.env_args)
    folder = output_folder(command)
    if folder is not None:
        probe(folder.path / "eval", ADVICE)
    m = command.model
    policy = load_model(m.model, env=command.env, dtype=m.dtype, device=m.device, revision=m.revision)
    policy = policy.ending_with(model_environment(m.model).get("ends", "any"))
    if policy.note:
        console.warn(policy.note + suggestion(env))
    for chosen in samplings if folder else ():
        refuse_other_result(folder, command, env, chosen, policy.source)
    found: dict[int, Evaluation] = {}
    count = min(command.num_problems or len(env), len(env))
    for chosen in samplings:
        length = chosen.max_completion_length
        with console.progress(count, f"eval {length} tokens") as advance:
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
        if folder is not None:
            content = found[length].summary() | {"model": policy.source}
            path = folder.evaluation(
                result_name(command, env.spec_name, length), content, found[length].rows, ADVICE
            )
            console.say(f"Written: {path}")
    return found


def result_name(command: EvalCommand, env: str, length: int) -> str:
    """ENV-SPLIT-LENGTH, and what is unusual: -tTEMPERATURE, -gGENERATIONS, -sSEED."""
    unusual = f"-t{command.temperature:g}" if command.temperature else ""
    unusual += f"-g{command.num_generations}" if command.num_generations != 1 else ""
    unusual += f"-s{command.seed}" if command.seed else ""
    return f"{env}-{command.split}-{length}{unusual}"


def refuse_other_result(
    folder: RunFolder, command: EvalCommand, env: "TextEnv", chosen: Sampling, model: str
) -> None:
    """Raises ConfigError if the file to be written holds a result of other settings, or of another model."""
    path = folder.evaluation_path(result_name(command, env.spec_name, chosen.max_completion_length))
    if not path.exists():
        return
    try:
        held = dict(json.loads(path.read_text(encoding="utf-8")))
        before = {**held["settings"], "model": held.get("model")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is in the way and holds no result ({error}). {ADVICE}") from error
    count, split = min(command.num_problems or len(env), len(env)), getattr(env, "split", command.split)
    after = settings(env, chosen, command.num_generations, count, command.seed, split) | {"model": model}
    changed = [name for name in after if name in before and before[name] != after[name]]
    if changed:
        listed = "; ".join(f"{name} was {before.get(name)!r}, now {after[name]!r}" for name in changed)
        raise ConfigError(
            f"{path} holds another result: {listed}. Move it away, or choose another --output-dir."
        )


def sampling(command: EvalCommand, length: int) -> Sampling:
    """How to decode completions of a length. Raises ConfigError for sizes that do not divide."""
    chosen = Sampling.at_rate(
        length, command.block_length, command.tokens_per_step, command.temperature, command.remasking
    )
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

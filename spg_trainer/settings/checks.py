"""Settings that cannot work, refused before anything is loaded, each with a value that would."""

from typing import Any

from spg_trainer.errors import ConfigError
from spg_trainer.settings.adapters import find_adapter
from spg_trainer.settings.fields import Config, EvalCommand, ModelConfig, SftCommand
from spg_trainer.settings.ranges import check_ranges
from spg_trainer.settings.weights import is_embedded


def check(config: Config, algorithm: Any, num_processes: int = 1) -> None:
    """Raises ConfigError for settings of a training that cannot work."""
    b, m, r, name = config.batch, config.model, config.rollout, f"--algorithm {config.algorithm}"
    check_common(config)
    r.check()
    algorithm.make_masking().check(r.max_completion_length)
    by_threshold = r.unmasking in ("threshold", "dynamic")  # dynamic: those, or as many as the schedule
    least = r.threshold * (1 - r.threshold_slack) if by_threshold else 0.0
    safe = config.force or (least >= 0.95 and r.max_tokens_per_step)
    if r.unmasking != "schedule" and not safe:
        raise ConfigError(
            f"{', '.join(r.shortcuts)}: unmasking by confidence feeds on what RL raises. Train with --unmasking "
            "threshold or dynamic, a threshold that stays at 0.95 or more, slack included, and --max-tokens-per-step "
            "4, or insist with --force."
        )
    if r.editing_threshold is not None:
        raise ConfigError(
            f"--editing-threshold {r.editing_threshold}: a token that was replaced has stood beside others as another "
            "one, so no masked copy of the completion shows what they were drawn from, and no bound of a likelihood "
            "holds for what the sampler does. Leave it out of training; eval decodes with it."
        )
    if algorithm.needs_sampler_logps and r.shortcuts:
        raise ConfigError(
            f"{name} uses the probabilities with which tokens were drawn; with {', '.join(r.shortcuts)} these are not "
            "the model's. Use --cache none --unmasking schedule."
        )
    if config.pairs and not algorithm.learns_from_pairs:
        raise ConfigError(f"--pairs: {name} learns only from what the model samples. Use --algorithm vrpo.")
    if config.pairs and b.num_generations != 2:
        raise ConfigError(f"--num-generations {b.num_generations}: a pair is two. Use --num-generations 2.")
    if algorithm.left_to_right and r.block_length != 1:
        steps = f"--block-length 1 --diffusion-steps {r.max_completion_length}"
        raise ConfigError(f"{name} samples token by token, not in blocks of {r.block_length}. Use {steps}.")
    if algorithm.left_to_right and b.num_iterations * b.num_minibatches > 1:
        updates = "--num-iterations 1 --num-minibatches 1"
        raise ConfigError(f"{name} has no ratio for several updates of a rollout. Use {updates}.")
    if b.num_minibatches > (groups := b.prompts_per_step):
        raise ConfigError(
            f"--num-minibatches {b.num_minibatches}: a step has {groups} groups. Use {groups} or fewer."
        )
    if m.ref_copy and not algorithm.needs_ref_logps:
        raise ConfigError(
            f"--ref-copy: {name} asks for no reference. Leave it out, or give a KL term its weight, e.g. "
            "--algorithm-args beta=0.04, where the algorithm has one."
        )
    if algorithm.needs_ref_logps and not (m.lora_r or m.ref_copy or find_adapter(m.model)):
        raise ConfigError(
            f"{name} needs a reference, and all weights are trained. Set --lora-r, e.g. 128, start from an adapter "
            "(--model PATH), or keep a frozen copy of the weights (--ref-copy)."
        )
    if num_processes > 1 and ":" in m.device:
        raise ConfigError(f"--device {m.device} is one GPU, not {num_processes}. Leave out --device.")
    check_shard(m, num_processes)
    if m.shard and config.optimizer.adam_moments == "8bit":
        raise ConfigError(
            "--shard with --adam-moments 8bit: blocks of them share a scale, so that another number of processes could "
            "not resume. Use --adam-moments float32."
        )
    together = b.num_generations if algorithm.whole_groups or config.pairs else 1
    if b.prompts_per_step * b.num_generations < num_processes * together:
        raise ConfigError(
            f"--prompts-per-step {b.prompts_per_step} leaves some of {num_processes} processes without a completion. "
            f"Use {-(-num_processes * together // b.num_generations)} or more."
        )


def check_shard(m: ModelConfig, num_processes: int) -> None:
    """Raises ConfigError where weights shall be divided and there is nobody to share them with."""
    if m.shard and num_processes == 1:
        raise ConfigError(
            "--shard divides the weights among processes, and this is the only one. Start several, e.g. with `torchrun "
            "--nproc-per-node 8 -m spg_trainer`, or leave it out."
        )


def check_eval(command: EvalCommand) -> None:
    """Raises ConfigError for settings of `eval` that cannot work; sizes that do not divide are `Sampling`'s to find."""
    check_common(command)
    if command.num_generations > 1 and command.temperature == 0:
        count = f"--num-generations {command.num_generations}"
        raise ConfigError(
            f"{count} at --temperature 0 gives equal completions. Raise it, e.g. --temperature 0.9."
        )


def check_sft(command: SftCommand, num_processes: int = 1) -> None:
    """Raises ConfigError for settings of `sft` that cannot work."""
    check_common(command)
    m, save = command.model, command.save_dtype
    if m.ref_copy:
        raise ConfigError("--ref-copy: sft compares with no reference. Leave it out.")
    check_shard(m, num_processes)
    if m.shard and command.patience:
        raise ConfigError(
            f"--shard with --patience {command.patience}: of a divided model the best weights are not kept apart. Use "
            "--patience 0, a cosine of --steps."
        )
    if m.shard and command.optimizer == "muon":
        raise ConfigError("--shard: Muon needs whole matrices. Use --optimizer adamw.")
    if m.shard and save != "auto":
        raise ConfigError(
            f"--shard writes weights as they are trained, not in {save}. Use --save-dtype auto."
        )
    if save != "auto" and (m.lora_r or find_adapter(m.model)):
        raise ConfigError(f"--save-dtype {save} is for whole models, not adapters. Use auto.")


def check_common(command: Config | EvalCommand | SftCommand) -> None:
    """Raises ConfigError for what is wrong in every command: ranges, adapters, arguments that have flags."""
    check_ranges(command)
    flags = {"split": "--split or --eval-split", "reward_weights": "--reward-weights"}
    for name in flags.keys() & command.env_args.keys():
        raise ConfigError(f"--env-args {name}={command.env_args[name]}: use {flags[name]} instead.")
    m = command.model
    if not isinstance(m, ModelConfig):
        return
    if m.load_4bit and not (m.lora_r or find_adapter(m.model)):
        raise ConfigError("--load-4bit stores a base that is not trained. Set --lora-r, e.g. 64.")
    if m.load_4bit and m.shard:
        raise ConfigError("--shard: weights in 4 bits are not divided. Leave out --shard or --load-4bit.")
    if (m.lora_alpha is not None or m.lora_dropout) and not (m.lora_r or find_adapter(m.model)):
        raise ConfigError("--lora-alpha and --lora-dropout need adapters. Set --lora-r, e.g. 128.")
    if is_embedded(m.model, "new") and (m.lora_r or m.revision or m.dtype not in ("auto", "float32")):
        raise ConfigError(
            f"--model {m.model} takes no --lora-r, --revision or --dtype: they need --model PATH."
        )

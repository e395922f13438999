"""Every setting of a command: its default, unit, meaning (the docstrings are the text of `--help`) and range.

Where a value comes from is in `resolve.py`, what cannot work in `plan.py`. Imports nothing heavy.
"""

import math
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, NamedTuple, Self

from spg_trainer.errors import ConfigError
from spg_trainer.settings.ranges import (
    Below1,
    Count,
    CountOrZero,
    Group,
    Length,
    LengthOrZero,
    NotNegative,
    Positive,
    Probability,
    Rate,
    Seed,
    Temperature,
    Weight,
    check_ranges,
)
from spg_trainer.settings.values import scalar

Pairs = dict[str, object]
"""`KEY=VALUE ...` flags, the same for every command."""
Steps = int | str
"""Denoising steps of a completion: a number, or `length/2` for as many as unmask about two tokens each."""


@dataclass(frozen=True)
class LoadConfig:
    """The weights to open, their number type and their device."""

    model: str = "tiny"
    """The model: `tiny`, which is a small model that comes with the package and knows the task; `tiny:TASK`, such as
    tiny:countdown, which is that of another task; a folder; a run folder; or an id on the Hugging Face Hub. For `sft`
    also `new`, which is a small model with fresh weights."""
    revision: str | None = None
    """The branch, tag or commit of the model on the Hub. Set it to keep a run reproducible when the Hub's copy
    changes."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """The number type that weights are loaded in; auto takes bfloat16 on a GPU and float32 elsewhere. Choose float32 if
    rounding on a GPU disturbs a training or changes completions."""
    device: str = "auto"
    """The device that the model runs on: `cpu`, `cuda`, `cuda:1`, ...; auto takes the GPU of this process if there is
    one."""
    attention_block: CountOrZero | None = None
    """The number of tokens in a block of the model's attention, where each block sees itself and all blocks before it;
    0 means that all tokens see each other. Set it only where the model's config.json does not say it or is wrong."""
    mask_token_id: CountOrZero | None = None
    """The id of the [MASK] token. Set it only where no file of the model says it."""
    load_4bit: bool = False
    """Stores the linear layers of the base in 4 bits (QLoRA), so that an 8B model takes 6 GB instead of 16. It needs
    the package bitsandbytes. Only adapters can then be trained: --lora-r, or a model that is an adapter."""
    shard: Literal["none", "phase", "layer"] = "none"
    """Divides the weights, and in training the optimizer's state, among the processes. phase gathers all weights for a
    whole rollout or update, which is fast, but every GPU must hold them once; layer gathers a layer at a time in every
    pass, so that each GPU holds its part alone. Set it if one GPU cannot hold the model. --dtype is then the type of
    the computation, and weights that are trained stay in float32."""

    @property
    def is_divided(self) -> bool:
        """Whether the weights are divided among the processes."""
        return self.shard != "none"


@dataclass(frozen=True)
class TrainedModelConfig(LoadConfig):
    """The weights to open, and what of them is trained."""

    lora_r: CountOrZero = 0
    """The rank of fresh LoRA adapters on the seven linear layers of each transformer layer (in a mixture of experts, on
    the four of attention). 0 adds none: then all weights are trained, or, if --model is an adapter, that adapter. Lower
    it to save memory."""
    lora_alpha: Count | None = None
    """The scale of the adapters, whose output is multiplied by alpha / rank. If it is left out, a loaded adapter keeps
    its own, and fresh ones have half the rank, as in the papers (64 for rank 128). Raise it to let the same update move
    the model further."""
    lora_dropout: Below1 | None = None
    """The dropout rate inside the adapters, from 0 to below 1. If it is left out, a loaded adapter keeps its own, and
    fresh ones have 0; above 0 the gradient depends on --per-device-batch-size. Raise it if the model memorises a small
    set of problems."""
    lora_experts: bool = False
    """Puts adapters on the dense layers and on every expert of a mixture of experts as well, but never on its router.
    Set it if adapters on attention alone learn too little; it takes more memory."""
    gradient_checkpointing: bool = False
    """Recomputes activations in the backward pass. Set it if memory runs out: updates take about a third longer and
    need far less memory."""


@dataclass(frozen=True)
class ModelConfig(TrainedModelConfig):
    """The weights of a training by RL, which may be compared with those that it started from."""

    ref_copy: bool = False
    """Keeps a frozen copy of the start weights as the reference of a KL term when all weights are trained by RL. Set it
    if training ends with a message that asks for a reference; it costs a second set of weights in memory and on
    disk."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a denoising step computes and unmasks: by default exactly what the plain LLaDA sampler does."""

    remasking: str = "low_confidence"
    """Which masked positions a step unmasks first. low_confidence takes those whose token has the highest probability
    (it is named after those that stay masked), entropy those with the lowest entropy, margin those with the largest gap
    between the best and the second-best token (Dream), random any, and sequential the leftmost. plackett_luce draws
    them: the surer the model is of a position, the more likely it is (for --algorithm mapg). Set it to what the model's
    authors decode with."""
    position_temperature: Positive = 0.5
    """How far --remasking plackett_luce departs from the surest positions, above 0: of the masked positions of a block,
    each is drawn in proportion to the highest probability that a token has there, to the power of 1 over this value.
    Raise it to explore more orders."""
    unmasking: str = "schedule"
    """How many tokens a step unmasks. schedule spreads the completion over --diffusion-steps; threshold unmasks every
    token with a probability of at least --threshold, and factor as many as --factor allows (Fast-dLLM); dynamic is
    threshold, but never fewer than the schedule's number (SDAR). The last three decode faster and are
    approximations."""
    threshold: Probability = 0.95
    """The probability, above 0 and up to 1, from which --unmasking threshold and dynamic unmask a token. Lower values
    decode faster and less exactly."""
    factor: Positive = 1.0
    """How much doubt --unmasking factor allows, above 0: the n most probable tokens are unmasked together, for the
    largest n whose n-th probability is at least 1 - factor / (n + 1). Raise it to decode faster."""
    max_tokens_per_step: CountOrZero = 0
    """The most tokens that a step may unmask; 0 sets no limit. Training with --unmasking threshold, dynamic or factor
    needs a limit such as 4."""
    top_p: Probability = 1.0
    """Nucleus sampling: tokens are drawn only from the most probable ones whose probabilities add up to this value,
    above 0 and up to 1; 1 allows all. Lower it to draw fewer unlikely tokens. It does nothing at temperature 0."""
    top_k: CountOrZero = 0
    """The number of most probable tokens that may be drawn; 0 allows all. Lower it to draw fewer unlikely tokens. It
    does nothing at temperature 0."""
    eos_penalty: NotNegative = 0.0
    """What is subtracted from the logits of end tokens before anything is drawn. Raise it, to 1 or more, if completions
    end too early."""
    min_completion_length: CountOrZero = 0
    """The number of first tokens of a completion among which no end token may be drawn. Raise it if completions are
    empty, or end before their answer."""
    cache: str = "none"
    """Which keys and values are kept between steps. none keeps nothing and is exact; prefix keeps those of the tokens
    before the block; dual those before and after it; window all but those of the block and of --window-tokens on each
    side; blocks those of finished blocks, which is exact, for models whose attention goes by blocks. Set one to decode
    faster."""
    window_tokens: CountOrZero = 16
    """The number of tokens on either side of the block that --cache window computes anew in each step. Raise it if the
    cache changes completions too much."""
    prompt_refresh_steps: CountOrZero = 0
    """The cached prompt is computed anew at the start of a block only if it is older than so many steps; 0 computes it
    anew for every block. Raise it to decode faster after a long prompt."""

    @property
    def shortcuts(self) -> list[str]:
        """What differs from exact decoding, e.g. `cache dual`."""
        decoding = EvalDecoding if isinstance(self, EvalDecoding) else Decoding
        changed = [f.name for f in fields(decoding) if getattr(self, f.name) != f.default]
        law = ("remasking", "position_temperature", "eos_penalty", "min_completion_length")
        named = [f"{name} {getattr(self, name)}" for name in changed if name not in law]
        return [name for name in named if name != "cache blocks"]


@dataclass(frozen=True, kw_only=True)
class EvalDecoding(Decoding):
    """Decoding that may also replace tokens, as no training may."""

    editing_threshold: NotNegative | None = None
    """The probability above which a step also replaces a token that was already unmasked (LLaDA2.1). If it is left out,
    tokens stay as they are."""


@dataclass(frozen=True)
class Sampling(Decoding):
    """How completions are sampled; `eval` uses the same lengths and steps with its own temperature."""

    max_completion_length: Length = 256
    """The length of a completion in tokens (T). Raise it if completions are cut off."""
    block_length: Count = 32
    """The length of a block in tokens; blocks are decoded from left to right. It must divide the completion length."""
    diffusion_steps: Count = 128
    """The number of denoising steps of a whole completion, a multiple of its number of blocks. Fewer steps decode
    faster and less accurately."""
    temperature: Temperature = 0.0
    """The sampling temperature; 0 is greedy, by which only raft, distil and opsd can train. Raise it if all completions
    of a problem are alike."""

    editing_threshold = None  # it is a setting of `EvalSampling` alone

    @classmethod
    def of(cls, length: int, block_length: int, steps: Steps, **more: Any) -> Self:
        """Blocks no longer than the completion. Of `length/N` each block has the same number of steps.

        Raises ConfigError for numbers that cannot be, and text that is not `length/N`.
        """
        check_steps(steps)
        block = min(block_length, length)
        if not isinstance(steps, int):
            blocks = max(1, length // block) if block > 0 else 1  # `check` tells of block 0
            tokens_per_step = float(steps.removeprefix("length/"))
            steps = max(1, round(length / blocks / tokens_per_step)) * blocks
        sampling = cls(length, block, steps, **more)
        sampling.check()
        return sampling

    @property
    def num_blocks(self) -> int:
        return self.max_completion_length // self.block_length

    @property
    def steps_per_block(self) -> int:
        return self.diffusion_steps // self.num_blocks

    @property
    def tokens_per_step(self) -> float:
        return self.max_completion_length / self.diffusion_steps

    @property
    def draws_noise(self) -> bool:
        """Whether decoding is random at all; if not, no generators are needed."""
        return self.temperature > 0 or self.remasking not in ("low_confidence", *_QUIET)

    def check(self) -> None:
        """Raises ConfigError for numbers out of range, lengths and steps that do not divide, and what says nothing."""
        check_ranges(self)
        self.check_together()

    def check_together(self) -> None:
        """Raises ConfigError for numbers, each of which is in its range, and choices that do not go together."""
        self._check_lengths()
        self._check_choices()

    def _check_lengths(self) -> None:
        length, block, steps = self.max_completion_length, self.block_length, self.diffusion_steps
        if length % block:
            divisors = (d for d in range(1, length + 1) if length % d == 0)
            nearest = min(divisors, key=lambda d: (abs(d - block), -d))
            raise ConfigError(
                f"block_length={block} does not divide max_completion_length={length}. Use block_length={nearest} or "
                f"max_completion_length={length + block - length % block}."
            )
        if self.min_completion_length > length:
            raise ConfigError(
                f"min_completion_length={self.min_completion_length} is longer than a completion, which has "
                f"max_completion_length={length} tokens. Use {length} or less."
            )
        blocks = length // block
        if steps % blocks or steps > length:
            fits = min((steps // blocks + 1) * blocks, length)
            raise ConfigError(
                f"diffusion_steps={steps} should be a multiple of the {blocks} blocks ({length} tokens / {block} per "
                f"block) and at most one for each token. Use diffusion_steps={fits}."
            )

    def _check_choices(self) -> None:
        if self.unmasking != "schedule" and self.remasking in ("random", "plackett_luce", *_QUIET):
            raise ConfigError(
                f"remasking={self.remasking} with unmasking={self.unmasking}, which counts the tokens that the model "
                "is sure of. Use remasking=low_confidence or unmasking=schedule."
            )
        for name, choice, values, instead in UNREAD:
            value, chosen = getattr(self, name), getattr(self, choice)
            if chosen in values and value != getattr(Decoding, name):
                raise ConfigError(
                    f"{name}={value} says nothing with {choice}={chosen}. Leave it out, or use another {choice}, e.g. "
                    f"{choice}={instead}."
                )
        scheduled = self.unmasking == "schedule" and self.steps_per_block == 1
        if self.cache not in ("none", "blocks") and scheduled and not self.prompt_refresh_steps:
            raise ConfigError(
                f"cache={self.cache} keeps nothing where a block takes one step ({self.diffusion_steps} steps, "
                f"{self.num_blocks} blocks). Use cache=none."
            )


def at_rate(tokens: float) -> str:
    """`length/2`: as many steps as unmask so many tokens each, however long a completion is."""
    return f"length/{repr(float(tokens)).removesuffix('.0')}"


def check_steps(steps: Steps) -> None:
    """Raises ConfigError for a number below 1, and for text that is not `length/N` with N above 0."""
    if isinstance(steps, int):
        holds = steps >= 1
    else:
        length, _, tokens = steps.partition("/")
        number = scalar(tokens)
        holds = length == "length" and isinstance(number, int | float) and 0 < number < math.inf
    if not holds:
        raise ConfigError(
            f"--diffusion-steps {steps}: should be a number of steps, at least 1, or length/N for about N tokens a "
            "step, with N above 0. Try length/2."
        )


@dataclass(frozen=True)
class EvalSampling(Sampling, EvalDecoding):
    """How an evaluation samples completions."""


_QUIET = ("entropy", "margin", "sequential")
"""Remaskings that draw nothing."""


class Unread(NamedTuple):
    """A setting that says nothing where another one has one of some values; `instead` is one that reads it."""

    name: str
    choice: str
    values: tuple[str | None, ...]
    instead: str


UNREAD = (
    Unread("position_temperature", "remasking", ("low_confidence", "random", *_QUIET), "plackett_luce"),
    Unread("threshold", "unmasking", ("schedule", "factor"), "threshold"),
    Unread("factor", "unmasking", ("schedule", "threshold", "dynamic"), "factor"),
    Unread("max_tokens_per_step", "unmasking", ("schedule",), "threshold"),
    Unread("prompt_refresh_steps", "cache", ("none", "blocks"), "dual"),
    Unread("window_tokens", "cache", ("none", "prefix", "dual", "blocks"), "window"),
)


@dataclass(frozen=True)
class BatchConfig:
    """The size of a step and its updates. All but the last change what is learned; the last changes memory alone."""

    prompts_per_step: Count = 16
    """The number of problems that a step samples, over all processes. More of them make the gradient less noisy and the
    step longer."""
    num_generations: Group = 6
    """The number of completions of each problem (the group, G), at least 2. Raise it if few groups hold both right and
    wrong completions."""
    max_rollout_batches: Count = 1
    """How many times --prompts-per-step problems are sampled for a step at most, until so many groups have unequal
    rewards; only these are learned from, as far as there are enough (dynamic sampling). 1 learns from what is sampled
    first. Raise it, to 10, if most groups are all wrong or all right."""
    explore: bool = False
    """Samples half of --num-generations for each problem first, and spends the other half of the step's completions on
    groups of which all are wrong. Set it if few groups hold both right and wrong completions."""
    pools: bool = False
    """Draws a problem less often once its last two groups were all right, or all wrong, until a group of it is mixed
    again. Set it if many groups are alike and problems come again; a checkpoint holds what is known of each."""
    all_right_weight: Weight = 0.2
    """How likely --pools draws a problem whose last two groups were all right, against one whose groups are mixed, from
    0.01 to 1. Raise it if the model forgets what it solved."""
    all_wrong_weight: Weight = 0.2
    """The same for a problem whose last two groups were all wrong. Raise it if hard problems are to be tried more
    often."""
    num_iterations: Count = 1
    """How many updates are made with the completions of a step, each with fresh masks. Raise it if rollouts are slow,
    but only with an algorithm that has an importance ratio, or with raft."""
    num_minibatches: Count = 1
    """Divides the groups of a step into so many parts, and makes one update with each. More than 1 is off-policy: raise
    it if rollouts are slow, with an algorithm that has ratios."""
    per_device_batch_size: Count = 8
    """How many masked copies of completions go through the model at once in an update; a rollout on a GPU decodes four
    times as many completions at once. Lower it if memory runs out: the result stays the same."""


@dataclass(frozen=True)
class BaseOptimizerConfig:
    """AdamW or Muon with linear warm-up."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """The optimizer. muon gives the matrices of layers steps with all singular values near 1, about as large as those
    of AdamW, which updates the rest (Muon). Try it where AdamW needs too many updates; it does not go with --shard."""
    learning_rate: Rate = 3e-6
    """The highest learning rate, after the warm-up. Of `sft` it stays constant for four fifths of --steps and then
    falls to 5%, or with --patience 0 falls by a cosine. Lower it if rewards collapse, the loss jumps or updates are
    skipped."""
    warmup_steps: CountOrZero = 0
    """The number of updates over which the rate rises linearly from 0. Raise it if the first updates make the model
    worse."""
    weight_decay: Below1 = 0.1
    """The decoupled weight decay, from 0 to below 1. Set it to 0 if weights without a gradient must not change. Raise
    it if the validation loss of `sft` rises while its training loss falls."""
    max_grad_norm: Positive = 0.2
    """Gradient clipping: a gradient with a larger norm is scaled down to this norm. Raise it if nearly every step
    reports a larger `grad_norm` and the run learns too slowly. Lower it if the loss jumps."""

    adam_beta2, adam_moments = 0.99, "float32"  # settings of `OptimizerConfig` alone


@dataclass(frozen=True)
class OptimizerConfig(BaseOptimizerConfig):
    """AdamW or Muon with linear warm-up, then a constant or falling rate."""

    lr_schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] = "constant"
    """What the rate does after the warm-up: constant keeps it, linear and cosine let it fall from step to step, towards
    --lr-floor at --max-steps; warmup_stable_decay keeps it, and lets it fall in a line over the last steps alone
    (--lr-decay-share). Let it fall if a rate that learns fast makes later steps worse."""
    lr_floor: Below1 = 0.0
    """The learning rate at the end of a falling --lr-schedule, as a share of --learning-rate, from 0 to below 1. Raise
    it if the reward still rises when the run ends."""
    lr_decay_share: Probability = 0.2
    """The share of --max-steps, above 0 and up to 1, over which --lr-schedule warmup_stable_decay lets the rate fall,
    at the end of the run. Lower it to train longer at the full rate."""
    adam_beta2: Below1 = 0.99
    """AdamW's second decay, from 0 to below 1; the first is 0.9. Raise it for steadier steps where the gradient is
    noisy."""
    adam_moments: Literal["float32", "8bit"] = "float32"
    """The number type of AdamW's moments. 8bit takes a quarter of the memory (pip install torchao) and does not go with
    --shard."""


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation before and after training, and validation on the way, which chooses the model that is kept."""

    eval_steps: CountOrZero = 0
    """The number of steps between validations. With validations the best step becomes the model; with 0 there are none,
    and the last step becomes the model. Lower it to find the best step more exactly."""
    patience: CountOrZero = 0
    """The run ends after this number of validations in a row that solve no more problems than the best before them; 0
    goes on to --max-steps. Set it where you do not know how many steps are enough."""
    validation_problems: CountOrZero = 64
    """The number of problems of a validation; 0, or more than there are, takes the whole validation split. More
    problems make the choice of the best step more reliable and take longer."""
    eval_problems: CountOrZero = 0
    """The number of problems of the evaluations before and after training; 0 takes the whole split. Fewer are faster
    and leave wider intervals."""
    eval_split: Literal["test", "validation"] = "test"
    """The split of the evaluations before and after training. Choose validation while you compare settings."""


@dataclass(frozen=True)
class FolderConfig:
    """Where results are written."""

    output_dir: str | None = None
    """The folder to write. If it is left out, it is runs/ENV-ALGORITHM-sSEED-UTCTIME; of `sft` it is
    models/ENV-sft-sSEED. `eval` writes results (JSON) and completions (JSONL) to MODEL/eval if the model is a run
    folder, and otherwise nothing."""


@dataclass(frozen=True)
class BaseOutputConfig(FolderConfig):
    """Where a run lives, and who else is told of it."""

    resume: str | None = None
    """The run folder or checkpoint to continue; of `sft` the folder of its model, or a checkpoint in it. `auto` takes
    the run in --output-dir; a training by RL without --output-dir takes the newest unfinished run with the same
    settings."""
    report: bool = True
    """Writes report.html, a page about the run, when it ends."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Sends the metrics to these experiment trackers as well. Each needs the package of its name, e.g. pip install
    wandb."""
    accept_changed_code: bool = False
    """With --resume, goes on though the code of your task, algorithm or reward has changed, for example because you
    repaired what stopped the run. The code as it is now may then not change from here on."""

    @property
    def recorded(self) -> Self:
        """What the run's own file of settings says: without what one start of the run alone was told."""
        return replace(self, resume=None, accept_changed_code=False)


@dataclass(frozen=True)
class OutputConfig(BaseOutputConfig):
    """Where a run lives and what it keeps."""

    save_steps: CountOrZero = 10
    """The number of steps between checkpoints; 0 writes one only at the end. Lower it where runs are
    often interrupted."""
    keep: Count | None = None
    """How many of the newest checkpoints are kept, besides the one of the best step. If it is left out, two are kept,
    or one where a checkpoint takes more than 16 GB. Raise it to be able to go back further. Of a best step that is
    older than these, a checkpoint above 16 GB keeps the weights alone."""
    sample_steps: CountOrZero = 10
    """Every so many steps completions are written to samples/, and one of them is shown; 0 does neither. Lower it to
    watch more closely how the model writes."""


@dataclass(frozen=True)
class TaskSettings:
    """What every command on a task has."""

    env: str = "sudoku"
    """The task: a name such as `countdown`, a file of your own (`./my_task.py:my/MyTask-v0`), a module
    (`my_package.my_module:my/MyTask-v0`), or a file of your own rows together with --verifier NAME, the verifier that
    judges them (`rows.jsonl --verifier gsm8k`). Several tasks are mixed in one run by their weights: `countdown
    gsm8k:weight=2`. If it is left out, it is the task that the model was made for."""
    env_args: Pairs = field(default_factory=dict)
    """Arguments of the task, e.g. `prompt_style=paper`; `python -m envs show ENV` lists them."""
    overlong: Literal["error", "skip"] = "error"
    """What to do with problems whose prompts are too long for the model: error names them before anything is trained or
    evaluated, skip leaves them out and counts them. Set it to skip if a few rows of your data are too long."""
    seed: Seed = 0
    """The seed of all random numbers. Use another one to repeat a run with other random numbers."""
    config: str | None = None
    """A YAML file of settings, nested like config.yaml of a run folder. Flags override it."""


@dataclass(frozen=True)
class RewardedTask(TaskSettings):
    """What every command has that rewards completions."""

    reward_weights: Pairs = field(default_factory=dict)
    """The weights of the task's reward components, e.g. `correct=1 cells=0.2`."""


@dataclass(frozen=True)
class Config(RewardedTask):
    """Train a masked diffusion language model by RL on a verifiable task."""

    word, positional = "", ""

    algorithm: str = "spg"
    """The algorithm: a name such as spg or raft, `./my_algorithm.py:MyClass` or `my_module:MyClass`. If it is left out,
    the recipe of the task decides."""
    algorithm_args: Pairs = field(default_factory=dict)
    """Hyper-parameters of the algorithm, e.g. `negatives=elbo num_masks=4 masking=block_active`; --dry-run lists
    all."""
    pairs: str | None = None
    """A .jsonl, .jsonl.gz, .parquet or .csv file of pairs (prompt, chosen, rejected) to learn from in place of sampled
    completions. It needs --algorithm vrpo and --num-generations 2."""
    pairs_sha256: str | None = None
    """The sha256 that the file of --pairs must have. If it is left out, the run records the sha256 of the file that it
    finds, and --resume refuses a file that has changed since."""
    force: bool = False
    """Trains although the trainer would refuse: because none of 256 completions or more is right (of the small models
    on another task: of any number), or because the decoding is unsafe (a threshold below 0.95, --unmasking factor, or
    no --max-tokens-per-step)."""
    max_steps: CountOrZero = 100
    """The number of steps of the run. A step is one rollout and its --num-iterations updates."""
    max_minutes: NotNegative = 0.0
    """The number of minutes after which the run finishes the current step, evaluates, saves and ends; 0 sets no
    limit."""
    timeout_minutes: Positive = 30.0
    """The number of minutes after which a run of several processes ends because one of them does not answer. Raise it
    if a single problem takes longer to be judged."""
    dry_run: bool = False
    """Trains nothing: prints every setting and where its value comes from (a flag, a file, a recipe, a default), in the
    format of --config, and estimates memory and time."""
    gpu: str | None = None
    """The graphics card that --dry-run computes for: 3090, 3090Ti, 4090, 5090, A10, A6000, L40S, V100, L4, A100-40,
    A100-80, H100, H200, B200, or a size such as 32GiB. The dry run then says whether the run fits, which flags would
    make it fit, and how many hours, how much disk and how much download it needs. If it is left out, times are computed
    for an H200."""
    processes: CountOrZero = 0
    """The number of processes, one for each card, that --dry-run computes for; 0 takes those that a launcher has
    started."""
    link: Literal["nvlink", "pcie", "ib400"] | None = None
    """What joins the cards that --dry-run computes for: nvlink within a node of SXM cards, pcie within another, ib400 a
    network card of 400 Gb/s for each GPU. If it is left out, it is ib400, or pcie for cards without NVLink."""
    model: ModelConfig = field(default_factory=ModelConfig)
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.9))
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """The algorithm's; masks take the rollout's blocks unless set."""
        return {"block_length": self.rollout.block_length, **self.algorithm_args}


@dataclass(frozen=True)
class ReportCommand:
    """Write one HTML page about runs, with curves, replays of completions, samples, failures and settings."""

    word, positional = "report", "runs"

    runs: tuple[str, ...] = ()
    """Run folders, finished or not. Runs that differ only in their seed are drawn as one band."""
    output: str | None = None
    """The file to write. If it is left out, it is report.html in the run folder, or for several runs in the working
    directory."""


@dataclass(frozen=True)
class MergeCommand:
    """Merge an adapter into its base, and write the whole model under the base's own tensor names."""

    word, positional = "merge", "source"

    source: str = ""
    """A run that trained an adapter, or the folder of an adapter."""
    output: str | None = None
    """The folder to write, new or empty. If it is left out, it is `merged` beside the adapter (RUN/merged)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """The number type of the weights that are written, after a sum in float32; auto takes that of the adapter's
    training."""


@dataclass(frozen=True)
class PushCommand:
    """Upload a finished run's model to the Hugging Face Hub, with a card of settings, evaluations and the curve."""

    word, positional = "push", "run"

    run: str = ""
    """A finished run."""
    repo: str = ""
    """The repository to upload to, NAME/ID. It is made if it does not exist."""
    private: bool = False
    """Makes the repository private; one that exists and is public is refused."""
    merged: bool = False
    """Uploads the whole model that `merge RUN` has written, in place of the adapter."""
    dry_run: bool = False
    """Writes the card to RUN/card and uploads nothing."""


@dataclass(frozen=True)
class EvalRollout(EvalDecoding):
    """How completions are decoded, once for each length with each number of steps."""

    max_completion_length: tuple[int, ...] = (256,)
    """One or several lengths of a completion in tokens, each of which is evaluated. Raise it if completions are cut
    off."""
    block_length: int = 32
    """The length of a block in tokens; a shorter completion is one block. With --perplexity: measures each block of so
    many tokens by itself, as a model that decodes in them goes by; if it is left out, a text is measured as a whole."""
    diffusion_steps: tuple[Steps, ...] = ("length/2",)
    """One or several numbers of denoising steps of a completion, each of which is combined with every length; length/N
    is as many as unmask about N tokens each. If it is left out, it is what a training on the task unmasks."""
    temperature: Temperature = 0.0
    """The sampling temperature; 0 is greedy. Set it above 0 if --num-generations is above 1."""

    def samplings(self) -> list[EvalSampling]:
        """How to decode, once for each length and number of steps; ConfigError for those that do not divide."""
        more = {f.name: getattr(self, f.name) for f in fields(EvalDecoding)}
        return [
            EvalSampling.of(length, self.block_length, steps, temperature=self.temperature, **more)
            for length in self.max_completion_length
            for steps in self.diffusion_steps
        ]


@dataclass(frozen=True)
class EvalCommand(RewardedTask):
    """Measure a model's solved rate on a task."""

    word, positional, first = "eval", "", ("model", "num_problems")

    split: Literal["test", "validation", "train"] = "test"
    """The split to evaluate on."""
    num_problems: CountOrZero = 0
    """The number of problems, taken from the start of the split; 0 takes all."""
    num_generations: Count = 1
    """The number of completions of each problem. More than 1 also reports pass@k and the solved rate of the most
    frequent answer, and needs a --temperature above 0."""
    protocol: tuple[Literal["ours", "papers"], ...] = ("ours",)
    """`papers` measures as d1 and SPG do: lengths of 128, 256 and 512 in half as many steps, blocks of 32, greedy, and
    cell accuracy for Sudoku, and refuses flags for these. The prompt is prompt_style=paper, or the exact prompt of
    a paper from a file of your own (`--env-args prompt_style=FILE`)."""
    rules: tuple[Literal["ours", "d1"], ...] = ("ours",)
    """Which rules judge the completions: `--rules ours d1` also reports the verdicts of d1's published evaluation code,
    which SPG, wd1 and others use, beside ours, and lists where the two differ."""
    perplexity: str | None = None
    """In place of a task: a .jsonl, .json, .csv or .parquet file whose rows have `text`, or `prompt` and `completion`.
    Reports the ELBO of its tokens in nats, with the standard error that comes from the masks, and the perplexity."""
    num_masks: Count = 128
    """For --perplexity: the number of masked copies of each text. More of them make the standard error smaller."""
    rows_per_forward: Count = 64
    """The number of completions that a GPU decodes at once; a CPU decodes as many as fit into its cache. Lower it if
    memory runs out: the result stays the same."""
    model: LoadConfig = field(default_factory=LoadConfig)
    rollout: EvalRollout = field(default_factory=EvalRollout)
    output: FolderConfig = field(default_factory=FolderConfig)


@dataclass(frozen=True)
class SftRollout:
    """How the model decodes when its training is over."""

    max_completion_length: LengthOrZero = 20
    """The length of a completion in tokens (T), padding included; 0 takes 10% more than the longest of 2,000
    demonstrations, in whole blocks of --block-length. It is stored with the model, like the next two settings, and RL
    and `eval` take it from there."""
    block_length: CountOrZero = 0
    """The length of a block in tokens when the model decodes; 0 takes the blocks of the model's attention, or the whole
    completion. If it is left out, it is that of a training, or 0 if that does not divide the completion."""
    diffusion_steps: Steps = "length/1"
    """The number of denoising steps of a completion, or length/N for about N tokens a step."""
    remasking: str = "low_confidence"
    """Which masked positions a step unmasks first: low_confidence, random, entropy, margin, sequential or
    plackett_luce, as in training."""
    temperature: Positive = 1.0
    """The sampling temperature at which habits are counted. Use the temperature that RL will have."""


@dataclass(frozen=True)
class SftBatch:
    """The size of an update. The first setting changes what is learned; the second changes memory alone."""

    batch_size: Count = 192
    """The number of demonstrations of an update. More of them make the gradient less noisy and the update longer."""
    per_device_batch_size: CountOrZero = 0
    """The number of demonstrations that a forward and backward pass takes at once; 0 takes all of an update. Lower it
    if memory runs out: the result stays the same."""


@dataclass(frozen=True)
class SftEval:
    """Validation on the way, which ends the training."""

    eval_steps: Count = 100
    """The number of updates between evaluations. An evaluation measures the validation loss, counts which habits some
    sampled completions follow, and writes a checkpoint. Raise it if evaluations take too long."""
    patience: CountOrZero = 5
    """Training ends when so many evaluations in a row have not lowered the best validation loss by 1%, and the best
    weights are kept. With 0 all --steps are made, the last weights are kept, and the learning rate falls by a
    cosine."""


@dataclass(frozen=True)
class SftCommand(TaskSettings):
    """Make a base model by supervised learning from a task's demonstrations, which are right completions, and habits,
    which are plausible completions that are often wrong."""

    word, positional = "sft", ""

    data: str | None = None
    """A .jsonl, .json, .csv or .parquet file to learn from in place of the task's demonstrations, with `prompt` and
    `completion` or chat `messages`; or ORG/NAME, a data set on the hub (ORG/NAME:CONFIG). A tenth of its rows is held
    out for the validation loss. If --env is given too, the finished model is evaluated on it."""
    mix: Pairs = field(default_factory=dict)
    """The share of the training texts that follow the demonstration, which is called `right`, and the share of each
    habit, e.g. `right=0.4 careless=0.6`. If it is left out, all are right."""
    steps: Count = 3000
    """The largest number of updates. Raise it if the validation loss still falls at the end."""
    hidden_size: Count = 128
    """The width of a new model (--model new)."""
    num_layers: Count = 4
    """The number of layers of a new model."""
    num_heads: Count = 4
    """The number of attention heads of a new model."""
    intermediate_size: Count = 344
    """The width of a new model's feed-forward layers."""
    save_dtype: Literal["auto", "bfloat16"] = "auto"
    """The number type of the weights on disk; auto keeps that of training. bfloat16 halves the file, and the final
    evaluation then measures the rounded weights."""
    timeout_minutes: Positive = 30.0
    """The number of minutes after which a training by several processes ends because one of them does not answer. Raise
    it if a single problem takes longer to be judged."""
    model: TrainedModelConfig = field(default_factory=lambda: TrainedModelConfig(model="new"))
    rollout: SftRollout = field(default_factory=SftRollout)
    batch: SftBatch = field(default_factory=SftBatch)
    optimizer: BaseOptimizerConfig = field(
        default_factory=lambda: BaseOptimizerConfig(
            learning_rate=2e-3, warmup_steps=50, weight_decay=0.01, max_grad_norm=1.0
        )
    )
    eval: SftEval = field(default_factory=SftEval)
    output: BaseOutputConfig = field(default_factory=BaseOutputConfig)


@dataclass(frozen=True)
class DiffCommand:
    """Compare two evaluations problem by problem: the difference with its interval, and what was fixed or broken."""

    word, positional = "diff", "evaluations"

    evaluations: tuple[str, ...] = ()
    """Two evaluations of the same problems: files in eval/, or run folders, which stand for their eval/after."""


@dataclass(frozen=True)
class CompareCommand:
    """Train several settings on several tasks and seeds, and write a table of what they learn.

    Flags for every training come last, behind ` -- `. The same command continues after an interruption.
    """

    word, positional = "compare", ""

    env: tuple[str, ...] = ("sudoku",)
    """The tasks, with arguments behind a colon: `sudoku countdown:level=2,source=my.jsonl
    ./my_task.py:my/MyTask-v0`."""
    algorithms: tuple[str, ...] = ("spg",)
    """The algorithms, or several settings of one: `spg wd1 spg:negatives=elbo,temperature=2`. A key is a flag of
    training where there is one of that name, else a hyper-parameter."""
    model: tuple[str, ...] = ("tiny",)
    """The model that runs start from: one for all tasks, or one for each task in the order of --env."""
    seeds: Count = 3
    """The number of runs of each setting on each task; their seeds are 0, 1, ..."""
    jobs: CountOrZero = 0
    """The number of runs at the same time; 0 starts one for each CPU core, with one thread each, or a single one on a
    GPU."""
    output_dir: str = "runs/compare"
    """The folder that holds a run folder for each run, the table (compare.md) and the curves (curves.svg)."""

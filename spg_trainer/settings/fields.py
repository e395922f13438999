"""Every setting of a command: its default, unit, meaning (the docstrings are the text of `--help`) and range.

Where a value comes from is in `resolve.py`, what cannot work in `validate.py`. Imports nothing heavy.
"""

from dataclasses import dataclass, field, fields
from typing import Any, Literal, NamedTuple

from spg_trainer.errors import ConfigError
from spg_trainer.settings.ranges import (
    Below1,
    Count,
    CountOrZero,
    Group,
    NotNegative,
    Positive,
    Probability,
    check_ranges,
)

Pairs = dict[str, object]
"""`KEY=VALUE ...` flags, the same for every command."""


@dataclass(frozen=True)
class LoadConfig:
    """Which weights, their type and device."""

    model: str = "tiny"
    """`tiny` (embedded), a folder, a run folder or a hub id; for `sft` also `new`, a small model with fresh weights."""
    revision: str | None = None
    """Hub revision (branch, tag or commit) of the model."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Type of the weights; auto = bfloat16 on a GPU, float32 elsewhere."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, ...; auto = the GPU of this process if there is one."""
    attention_block: CountOrZero | None = None
    """Blocks from left to right, each of so many tokens, that a token sees up to its own; 0 = all tokens see all. Only
    where the model's config.json does not say it, or is wrong."""
    mask_token_id: CountOrZero | None = None
    """The id of [MASK], where no file of the model says it."""
    load_4bit: bool = False
    """Store the linear layers of the base in 4 bits (QLoRA) and train adapters on them: an 8B model then takes 6 GB
    instead of 16. Needs bitsandbytes, and --lora-r or an adapter in training."""


@dataclass(frozen=True)
class ModelConfig(LoadConfig):
    """Which weights, their type and device, and what of them is trained."""

    lora_r: CountOrZero = 0
    """Rank of fresh LoRA adapters on the seven linear layers of a block, of a mixture of experts on the four of
    attention; 0 = train what --model is, all or adapter."""
    lora_alpha: Count | None = None
    """Scale of the adapters; unset = half the rank (the papers' 64 for rank 128), or that of the adapter."""
    lora_dropout: Below1 | None = None
    """Dropout in the adapters; unset = the adapter's own, or 0. Above 0 micro-batches change the gradient."""
    lora_experts: bool = False
    """Of a mixture of experts: adapters on every expert and dense layer too; the router has none in any case."""
    ref_copy: bool = False
    """Where all weights are trained, keep a frozen copy as reference: a second set in memory and on disk."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, far less memory."""
    shard: bool = False
    """Divide weights and optimizer among the processes; --dtype is then what is computed, and trained is float32."""


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """What a denoising step computes and unmasks: by default exactly what the plain LLaDA sampler does."""

    remasking: str = "low_confidence"
    """Which masked positions are unmasked first, by name: low_confidence = the most confident, random = any, entropy,
    margin = the surest by either (Dream), sequential = the leftmost."""
    unmasking: str = "schedule"
    """How many a step unmasks, by name: schedule = the completion in --diffusion-steps; threshold, factor = those the
    model is sure of (Fast-dLLM), in as many steps as it takes; dynamic = those, or the schedule's if more (SDAR)."""
    threshold: Probability = 0.95
    """Of --unmasking threshold and dynamic: the probability from which tokens are unmasked."""
    threshold_slack: Below1 = 0.0
    """Lets the threshold fall by up to this share as less is masked (Streaming-dLLM); 0 = constant."""
    factor: Positive = 1.0
    """Of --unmasking factor: the n surest are unmasked if their probabilities are above 1 - factor / (n + 1)."""
    max_tokens_per_step: CountOrZero = 0
    """Most tokens that a step unmasks; 0 = no limit."""
    editing_threshold: NotNegative | None = None
    """Each step also replaces unmasked tokens of the block where another one is drawn with more than this probability
    (LLaDA2.1); unset = what is unmasked stays. Not for training."""
    max_post_steps: CountOrZero = 16
    """Of --editing-threshold: steps that a block may have after its last token was unmasked."""
    cache: str = "none"
    """Which keys and values are kept between steps, by name: none = exact; prefix = all before the block; dual = all
    around it; window = all further away than --window-tokens; blocks = finished blocks, exact, for models whose
    attention is by blocks."""
    window_tokens: CountOrZero = 16
    """Of --cache window: columns on either side of the block that each step computes with it."""
    refresh_steps: CountOrZero = 0
    """With a cache: all is computed anew at a block's start and every so many steps; 0 = at its start alone."""
    prompt_refresh_steps: CountOrZero = 0
    """With a cache: the prompt is computed anew only this many steps after the last time; 0 = at each refresh."""
    suffix_tokens: CountOrZero | None = None
    """Masked tokens behind the block that the model sees, besides the last one (Streaming-dLLM); unset = all."""

    @property
    def shortcuts(self) -> list[str]:
        """What differs from exact decoding, e.g. `cache dual`."""
        changed = [f.name for f in fields(Decoding) if getattr(self, f.name) != f.default]
        named = [f"{name} {getattr(self, name)}" for name in changed if name != "remasking"]
        return [name for name in named if name != "cache blocks"]


@dataclass(frozen=True)
class Sampling(Decoding):
    """How completions are sampled; `eval` uses the same lengths and steps with its own temperature."""

    max_completion_length: Count = 256
    """Tokens of a completion (T)."""
    block_length: Count = 32
    """Tokens of a block; blocks are decoded left to right. Divides the completion length."""
    diffusion_steps: Count = 128
    """Denoising steps for a whole completion; a multiple of the number of blocks."""
    temperature: NotNegative = 0.0
    """Sampling temperature; 0 = greedy."""

    @classmethod
    def at_rate(cls, length: int, block_length: int, tokens_per_step: float, **more: Any) -> "Sampling":
        """Blocks no longer than the completion, steps that unmask about so many tokens each, as many in any block."""
        block = min(block_length, length)
        blocks = max(1, length // block) if block > 0 else 1  # `check` tells of block 0
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
        self.check_fit()

    def check_fit(self) -> None:
        """`check` of what goes together, where the ranges are known to hold."""
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
        blocks = length // block
        if steps % blocks or steps > length:
            fits = min((steps // blocks + 1) * blocks, length)
            raise ConfigError(
                f"diffusion_steps={steps} should be a multiple of the {blocks} blocks ({length} tokens / {block} per "
                f"block) and at most one for each token. Use diffusion_steps={fits}."
            )

    def _check_choices(self) -> None:
        if self.unmasking != "schedule" and self.remasking in ("random", *_QUIET):
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


_QUIET = ("entropy", "margin", "sequential")
"""Remaskings that draw nothing."""


class Unread(NamedTuple):
    """A setting that says nothing where another one has one of some values; `instead` is one that reads it."""

    name: str
    choice: str
    values: tuple[str | None, ...]
    instead: str


UNREAD = (
    Unread("threshold", "unmasking", ("schedule", "factor"), "threshold"),
    Unread("threshold_slack", "unmasking", ("schedule", "factor"), "threshold"),
    Unread("factor", "unmasking", ("schedule", "threshold", "dynamic"), "factor"),
    Unread("max_tokens_per_step", "unmasking", ("schedule",), "threshold"),
    Unread("max_post_steps", "editing_threshold", (None,), "0.9"),
    Unread("refresh_steps", "cache", ("none", "blocks"), "dual"),
    Unread("prompt_refresh_steps", "cache", ("none", "blocks"), "dual"),
    Unread("window_tokens", "cache", ("none", "prefix", "dual", "blocks"), "window"),
)


@dataclass(frozen=True)
class BatchConfig:
    """All but the last change the maths; that one only memory."""

    prompts_per_step: Count = 16
    """Problems per rollout, over all processes."""
    num_generations: Group = 6
    """Completions per problem (the group, G), at least 2."""
    num_iterations: Count = 1
    """How often the completions of a rollout are used; fresh masks each time."""
    num_minibatches: Count = 1
    """Parts of whole groups that the completions are divided into, one update each; more than 1 is off-policy."""
    per_device_batch_size: Count = 8
    """(completion, mask) sequences whose graph is in memory at once; rollouts on a GPU take four times as many."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up, then a constant or falling rate."""

    learning_rate: Positive = 3e-6
    """Rate after the warm-up."""
    warmup_steps: CountOrZero = 0
    """Updates over which the rate rises linearly from 0."""
    lr_schedule: Literal["constant", "linear"] = "constant"
    """What follows: the same rate, or one that falls step by step to 1/--max-steps of it in the last."""
    adam_beta2: Below1 = 0.99
    """AdamW's second decay; the first is 0.9."""
    weight_decay: Below1 = 0.1
    """AdamW's decoupled weight decay."""
    adam_moments: Literal["float32", "8bit"] = "float32"
    """Type of AdamW's moments; 8bit = torchao's, a quarter of the memory (pip install torchao), not for --shard."""
    max_grad_norm: Positive = 0.2
    """The gradient's norm is clipped to this."""


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation before and after training, and validation on the way, which chooses the model that is kept."""

    eval_steps: CountOrZero = 0
    """Validate at the start, every so many steps and at the end, and keep the best step; 0 = keep the last."""
    validation_problems: CountOrZero = 64
    """Problems per validation; 0 = the whole validation split."""
    eval_problems: CountOrZero = 0
    """Problems of the evaluations before and after training; 0 = the whole split."""
    eval_split: Literal["test", "validation"] = "test"
    """Split of the evaluations before and after training."""


@dataclass(frozen=True)
class OutputConfig:
    """Where a run lives and what it keeps."""

    output_dir: str | None = None
    """Run folder; unset = runs/ENV-ALGORITHM-sSEED-UTCTIME."""
    resume: str | None = None
    """A run folder or checkpoint to continue; `auto` = that of --output-dir, or the newest unfinished run like this."""
    save_steps: CountOrZero = 10
    """A checkpoint every so many steps; 0 = only at the end."""
    keep: Count = 2
    """Newest complete checkpoints kept; that of the best step stays, too."""
    sample_steps: CountOrZero = 10
    """Every so many steps completions are written to samples/, and one is shown; 0 = never."""
    report: bool = True
    """Write report.html, the run as a page to look at, when it ends."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Trackers besides the run folder (each a package of its name: pip install wandb)."""


@dataclass(frozen=True)
class TaskSettings:
    """What every command on a task has."""

    env: str = "sudoku"
    """The task: a name such as `countdown`, a file of your own (`./my_task.py:my/MyTask-v0`), a module
    (`my_package.my_module:my/MyTask-v0`), or a file of rows with the verifier that judges it (`rows.jsonl --verifier
    gsm8k`); unset = the task that the model was made for."""
    env_args: Pairs = field(default_factory=dict)
    """Arguments of the environment, e.g. `prompt_style=paper`."""
    seed: CountOrZero = 0
    """Seed of every random stream."""
    config: str | None = None
    """A YAML file, nested as config.yaml of a run folder; flags override it."""


@dataclass(frozen=True)
class Config(TaskSettings):
    """Train a masked diffusion language model by RL on a verifiable task."""

    word, positional = "", ""

    reward_weights: Pairs = field(default_factory=dict)
    """Weights of the reward components, e.g. `correct=1 cells=0.2`."""
    algorithm: str = "spg"
    """A name such as spg or raft, `./my_algorithm.py:MyClass` or `my_module:MyClass`; unset = the task's recipe's."""
    algorithm_args: Pairs = field(default_factory=dict)
    """Hyper-parameters of the algorithm, e.g. `negatives=elbo num_masks=4 masking=block_active`."""
    pairs: str | None = None
    """A .jsonl, .jsonl.gz or .parquet file of pairs to learn from in place of sampled completions: prompt, chosen and
    rejected. Needs --algorithm vrpo and --num-generations 2."""
    pairs_sha256: str | None = None
    """The sha256 that the file must have; unset = whatever it is, from then on the run's."""
    force: bool = False
    """Train all the same: on a task that the model never solves, or by unsafe decoding (a threshold below 0.95, a
    factor, no --max-tokens-per-step)."""
    max_steps: CountOrZero = 100
    """Steps in all; a step is one rollout and its num_iterations updates."""
    max_minutes: NotNegative = 0.0
    """Stop after the step in which so many minutes have passed, evaluate and save; 0 = no limit."""
    dry_run: bool = False
    """Print every setting with where it comes from, in a form that --config reads, then end."""
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
    """Write runs into one HTML page: curves, how texts came to be, samples, failures, settings."""

    word, positional = "report", "runs"

    runs: tuple[str, ...] = ()
    """Run folders, finished or not. Seeds of one setting become a band."""
    output: str | None = None
    """The file to write; unset = report.html in the run folder, of several runs in the working directory."""


@dataclass(frozen=True)
class MergeCommand:
    """Work an adapter into the weights below it: a whole model under LLaDA's own tensor names."""

    word, positional = "merge", "source"

    source: str = ""
    """A run that trained an adapter, or an adapter's folder."""
    output: str | None = None
    """The folder to write, new or empty; unset = `merged` beside the adapter (RUN/merged)."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the weights that are written, after a sum in float32; auto = as the adapter was trained."""


@dataclass(frozen=True)
class PushCommand:
    """Upload a finished run's model to the Hugging Face Hub, with a card: task, settings, evaluations, curve."""

    word, positional = "push", "run"

    run: str = ""
    """A finished run."""
    repo: str = ""
    """Where to: NAME/ID. It is made if it is not there."""
    private: bool = False
    """Make it private; refused if it is there and public."""
    merged: bool = False
    """The whole model that `merge RUN` has written, in place of the adapter."""
    dry_run: bool = False
    """Write the card to RUN/card and upload nothing."""


@dataclass(frozen=True)
class EvalCommand(TaskSettings, Decoding):
    """Measure a model's solved rate on a task."""

    word, positional = "eval", ""

    reward_weights: Pairs = field(default_factory=dict)
    """Weights of the reward components."""
    split: Literal["test", "validation", "train"] = "test"
    """Problems to solve."""
    num_problems: CountOrZero = 0
    """Problems taken from the start of the split; 0 = all."""
    num_generations: Count = 1
    """Completions per problem; more than 1 gives pass@k and the majority's answer, and needs --temperature above 0."""
    max_completion_length: tuple[int, ...] = (256,)
    """One or several completion lengths, each evaluated."""
    block_length: int = 32
    """Tokens of a block; a shorter completion is one block."""
    diffusion_steps: tuple[int, ...] = ()
    """Denoising steps of a completion, one or several, each with every length; unset = length / --tokens-per-step."""
    tokens_per_step: Positive = 2.0
    """Tokens unmasked per denoising step where --diffusion-steps is unset."""
    temperature: float = 0.0
    """Sampling temperature; 0 = greedy."""
    protocol: tuple[Literal["ours", "papers"], ...] = ("ours",)
    """`papers` = as d1 and SPG measure, whatever other flags say: their prompts, lengths 128, 256, 512 in half as many
    steps, blocks of 32, greedy, cell accuracy for Sudoku."""
    rows_per_forward: Count = 64
    """Completions decoded at once on a GPU; on a CPU, as many as stay in its cache. Memory only."""
    output_dir: str | None = None
    """Folder for result and completions (JSON, JSONL); unset = MODEL/eval for a run folder, else nothing is written."""
    model: LoadConfig = field(default_factory=LoadConfig)


@dataclass(frozen=True)
class SftCommand(TaskSettings):
    """Make a base model from an environment's demonstrations and habits (supervised, masked denoising)."""

    word, positional = "sft", ""

    mix: Pairs = field(default_factory=dict)
    """Share of `right`, the demonstration, and of each habit, e.g. `right=0.4 careless=0.6`; unset = all right."""
    steps: Count = 3000
    """Updates at most."""
    patience: CountOrZero = 5
    """Evaluations without a validation loss 1% below the best, after which training ends with the best weights; 0 = all
    updates under a cosine, and the last weights."""
    eval_steps: Count = 100
    """Every so many updates: the validation loss, the habits of some validation completions, and a checkpoint."""
    batch_size: Count = 192
    """Demonstrations per update."""
    per_device_batch_size: CountOrZero = 0
    """Demonstrations whose graph is in memory at once; 0 = all of an update. Memory only."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """`muon` takes steps of one size in all directions of a layer's matrices and leaves the rest to AdamW."""
    learning_rate: Positive = 2e-3
    """Peak rate; linear warm-up, then constant until the last fifth of the updates, which takes it to 5%."""
    warmup_steps: CountOrZero = 50
    """Updates of warm-up."""
    weight_decay: Below1 = 0.01
    """Decoupled weight decay."""
    max_grad_norm: Positive = 1.0
    """The gradient's norm is clipped to this."""
    max_completion_length: CountOrZero = 20
    """Tokens of a completion (T), padding included; 0 = a tenth more than the longest of 2,000 demonstrations."""
    block_length: CountOrZero = 0
    """Tokens of a block when the model decodes; 0 = the recipe's, or the whole completion if that does not divide it.
    These three are written down with the model, and RL and `eval` take them from there."""
    diffusion_steps: CountOrZero = 0
    """Denoising steps of a completion; 0 = one for each token (llada: half as many)."""
    remasking: str | None = None
    """Which masked positions are unmasked first; unset = as the recipe has it."""
    temperature: Positive = 1.0
    """Sampling temperature at which habits are counted: that of RL."""
    hidden_size: Count = 128
    """Width of a new model (--model new)."""
    num_layers: Count = 4
    """Layers of a new model."""
    num_heads: Count = 4
    """Attention heads of a new model."""
    intermediate_size: Count = 344
    """Feed-forward width of a new model."""
    save_dtype: Literal["auto", "bfloat16"] = "auto"
    """Type of the weights on disk; auto = as trained. bfloat16 halves the file; what is measured is what is saved."""
    output_dir: str | None = None
    """Folder of the model; unset = models/ENV-sft-sSEED."""
    resume: str | None = None
    """The folder of a model made by `sft` to go on with; `auto` = that of --output-dir."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(model="new"))


@dataclass(frozen=True)
class DiffCommand:
    """Compare two evaluations problem by problem: the difference with its interval, what was fixed and what broke."""

    word, positional = "diff", "evaluations"

    evaluations: tuple[str, ...] = ()
    """Files of eval/ on the same problems, or run folders, whose eval/after is taken."""


@dataclass(frozen=True)
class CompareCommand:
    """Train settings on tasks with several seeds and tabulate what they learn; the same command again goes on with it.

    Flags of training, for every run, come last, behind ` -- `.
    """

    word, positional = "compare", ""

    env: tuple[str, ...] = ("sudoku",)
    """Tasks, with arguments behind a colon: `sudoku countdown:level=2,source=my.jsonl ./my_task.py:my/MyTask-v0`."""
    algorithms: tuple[str, ...] = ("spg",)
    """Algorithms, or settings of one: `spg wd1 spg:negatives=elbo,temperature=2`. A key is a flag of training where
    there is one of that name, else a hyper-parameter."""
    model: tuple[str, ...] = ("tiny",)
    """What runs start from: one for all tasks, or one for each, in the order of --env."""
    seeds: Count = 3
    """Runs of each setting on each task, with the seeds 0, 1, ..."""
    jobs: CountOrZero = 0
    """Runs at once; 0 = one for each CPU core, with one thread, or on a GPU one alone."""
    output_dir: str = "runs/compare"
    """Holds a run folder for each run, compare.md (the table) and curves.svg."""

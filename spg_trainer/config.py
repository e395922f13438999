"""Every setting of a run, with its default, its unit and its meaning; the docstrings are the text of `--help`.

Precedence: these defaults < the environment's preset < the model folder's environment.json < --config FILE < flags
(`resolve.py`). Imports nothing heavy: `--help` answers at once.
"""

import math
from dataclasses import dataclass, field
from typing import Annotated, Literal

from spg_trainer.errors import ConfigError
from spg_trainer.pairs import PAIRS

Pairs = Annotated[dict[str, object], PAIRS]


@dataclass(frozen=True)
class LoadConfig:
    """Which weights, and how they are held."""

    model: str = "tiny"
    """`tiny` (the embedded model), a folder, a run folder, or a hub id such as GSAI-ML/LLaDA-8B-Instruct."""
    revision: str | None = None
    """Hub revision (branch, tag or commit) of the model."""
    dtype: Literal["auto", "float32", "bfloat16", "float64"] = "auto"
    """Type of the weights; auto = bfloat16 on a GPU, float32 elsewhere."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, ...; auto = the GPU of this process if there is one."""


@dataclass(frozen=True)
class ModelConfig(LoadConfig):
    """Which weights, how they are held, and what of them is trained."""

    lora_r: int = 0
    """Rank of LoRA adapters on all seven linear layers of a block; 0 = train all weights."""
    lora_alpha: int | None = None
    """Scale of the adapters; unset = half the rank (the papers' 64 for rank 128)."""
    lora_dropout: float = 0.0
    """Dropout in the adapters, 0..1; above 0 the gradient depends on the micro-batch and the number of processes."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: about a third slower, far less memory."""


@dataclass(frozen=True)
class RolloutConfig:
    """How completions are sampled; `eval` uses the same lengths and steps with its own temperature."""

    max_completion_length: int = 256
    """Tokens of a completion (T)."""
    block_length: int = 32
    """Tokens of a block; blocks are decoded left to right. Divides the completion length."""
    diffusion_steps: int = 128
    """Denoising steps for a whole completion; a multiple of the number of blocks."""
    temperature: float = 0.9
    """Sampling temperature; 0 = greedy."""
    remasking: Literal["low_confidence", "random"] = "low_confidence"
    """Which hidden positions are revealed first: the most confident ones, or any."""


@dataclass(frozen=True)
class BatchConfig:
    """The first three change the maths, the last one memory only."""

    prompts_per_step: int = 16
    """Problems per rollout, over all processes."""
    num_generations: int = 6
    """Completions per problem (the group, G), at least 2."""
    num_iterations: int = 1
    """Updates per rollout; fresh masks each time."""
    per_device_batch_size: int = 8
    """(completion, mask) sequences with a live graph at once; rollouts on a GPU take four times as many. Memory
    only."""


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with linear warm-up and then a constant rate."""

    learning_rate: float = 3e-6
    """Rate after the warm-up."""
    warmup_steps: int = 0
    """Updates over which the rate rises linearly from 0."""
    adam_beta1: float = 0.9
    """AdamW's first decay."""
    adam_beta2: float = 0.99
    """AdamW's second decay."""
    weight_decay: float = 0.1
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = 0.2
    """The gradient's norm is clipped to this."""


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation before and after training, and on the way."""

    eval_steps: int = 0
    """Every so many steps, evaluate on validation problems; 0 = never."""
    eval_problems: int = 0
    """Problems per evaluation; 0 = the whole split."""
    eval_temperature: float = 0.0
    """Sampling temperature of evaluations."""
    eval_split: Literal["test", "validation"] = "test"
    """Split of the evaluations before and after training."""


@dataclass(frozen=True)
class OutputConfig:
    """Where a run lives and what it keeps."""

    output_dir: str | None = None
    """Run folder; unset = runs/ENV-ALGORITHM-sSEED-UTCTIME."""
    resume: str | None = None
    """`auto` = go on from the newest complete checkpoint (of --output-dir, or of the newest unfinished run with equal
    settings); or the path of a run folder or checkpoint."""
    save_steps: int = 10
    """A checkpoint every so many steps; 0 = only at the end."""
    keep: int = 2
    """Complete checkpoints kept, the newest ones."""
    sample_steps: int = 10
    """Completions are written to samples/ every so many steps; 0 = never."""
    board_steps: int = 10
    """A completion is shown as a picture every so many steps; 0 = never."""
    track: tuple[Literal["tensorboard", "wandb"], ...] = ()
    """Trackers besides the run folder (pip install 'spg-trainer[track]')."""


@dataclass(frozen=True)
class Config:
    """Train a masked diffusion language model by RL on a verifiable task."""

    env: str = "sudoku"
    """Task: a name, `my_package.my_module:my/MyTask-v0`, or `./my_task.py:my/MyTask-v0`."""
    env_args: Pairs = field(default_factory=dict)
    """Arguments of the environment, e.g. `prompt_style=paper`."""
    reward_weights: Pairs = field(default_factory=dict)
    """Weights of the reward components, e.g. `correct=1 cells=0.2`."""
    algorithm: str = "spg"
    """RL algorithm: spg, spg_repro."""
    algorithm_args: Pairs = field(default_factory=dict)
    """Hyper-parameters of the algorithm, e.g. `negatives=elbo num_masks=4 masking=block_active`."""
    max_steps: int = 100
    """Steps in all; a step is one rollout and its num_iterations updates."""
    max_minutes: float = 0.0
    """Stop after the step in which so many minutes have passed, evaluate and save; 0 = no limit."""
    seed: int = 0
    """Seed of every random stream."""
    config: str | None = None
    """A YAML file nested as config.yaml of a run folder; flags override it."""
    dry_run: bool = False
    """Print the resolved settings and the batch arithmetic, then end."""
    model: ModelConfig = field(default_factory=ModelConfig)
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    output: OutputConfig = field(default_factory=OutputConfig)


@dataclass(frozen=True)
class EvalCommand:
    """Measure a model's solved rate on a task."""

    env: str = "sudoku"
    """Task; unset with a run folder as --model = the run's own."""
    env_args: Pairs = field(default_factory=dict)
    """Arguments of the environment, e.g. `source=papers.jsonl`."""
    reward_weights: Pairs = field(default_factory=dict)
    """Weights of the reward components."""
    split: Literal["test", "validation", "train"] = "test"
    """Problems to solve."""
    num_problems: int = 0
    """Problems taken from the start of the split; 0 = all."""
    num_generations: int = 1
    """Completions per problem; more than 1 also gives pass@k and needs --temperature above 0."""
    max_completion_length: tuple[int, ...] = (256,)
    """One or several completion lengths, each evaluated."""
    block_length: int = 32
    """Tokens of a block."""
    tokens_per_step: float = 2.0
    """Tokens revealed per denoising step, so that diffusion steps = completion length / this."""
    temperature: float = 0.0
    """Sampling temperature; 0 = greedy."""
    remasking: Literal["low_confidence", "random"] = "low_confidence"
    """Which hidden positions are revealed first."""
    rows_per_forward: int = 64
    """Completions decoded at once on a GPU; on a CPU, as many as stay in its cache. Memory only."""
    seed: int = 0
    """Seed of the sampling noise."""
    output_dir: str | None = None
    """Folder for result and completions (JSON, JSONL); unset = MODEL/eval for a run folder, else nothing is written."""
    config: str | None = None
    """A YAML file with these settings; flags override it."""
    model: LoadConfig = field(default_factory=LoadConfig)


@dataclass(frozen=True)
class SftCommand:
    """Make a base model from an environment's demonstrations and habits (supervised, masked denoising)."""

    env: str = "sudoku"
    """Task whose `demonstration` (named `right`) and `habits` are learned."""
    env_args: Pairs = field(default_factory=dict)
    """Arguments of the environment, e.g. `blanks=4-11`."""
    mix: Pairs = field(default_factory=dict)
    """Share of each habit, e.g. `right=0.4 careless=0.6`, divided by their sum; unset = all right."""
    steps: int = 3000
    """Updates."""
    batch_size: int = 192
    """Demonstrations per update."""
    per_device_batch_size: int = 0
    """Demonstrations with a live graph at once; 0 = all of an update. Memory only."""
    learning_rate: float = 2e-3
    """Peak rate of AdamW; linear warm-up, then a cosine down to 5% of it."""
    warmup_steps: int = 50
    """Updates of warm-up."""
    weight_decay: float = 0.01
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = 1.0
    """The gradient's norm is clipped to this."""
    max_completion_length: int = 20
    """Tokens of a completion (T); shorter demonstrations are filled with padding, which is learned too."""
    hidden_size: int = 128
    """Width of a new model (--model new)."""
    num_layers: int = 4
    """Layers of a new model."""
    num_heads: int = 4
    """Attention heads of a new model."""
    intermediate_size: int = 344
    """Feed-forward width of a new model."""
    seed: int = 0
    """Seed of the weights and of every draw."""
    save_dtype: Literal["auto", "bfloat16"] = "auto"
    """Type of the weights on disk; auto = as trained. bfloat16 halves the file; what is measured is what is saved."""
    output_dir: str | None = None
    """Folder of the model; unset = models/ENV-sft-sSEED."""
    config: str | None = None
    """A YAML file with these settings; flags override it."""
    model: ModelConfig = field(default_factory=lambda: ModelConfig(model="new"))


@dataclass(frozen=True)
class Sampling:
    """How completions are decoded; the defaults are LLaDA's.

    A completion is `max_completion_length` hidden tokens, cut into blocks of `block_length` that are denoised
    from left to right. `diffusion_steps` counts model calls over all blocks. `temperature` scales the Gumbel
    noise on the logits (0 = greedy). `remasking` says which of the sampled tokens stay: those the model is
    surest of, or random ones.
    """

    max_completion_length: int = 256
    block_length: int = 32
    diffusion_steps: int = 128
    temperature: float = 0.0
    remasking: str = "low_confidence"

    @classmethod
    def at_rate(
        cls,
        max_completion_length: int,
        block_length: int,
        tokens_per_step: float,
        temperature: float = 0.0,
        remasking: str = "low_confidence",
    ) -> "Sampling":
        """Blocks no longer than the completion, and the steps that reveal about so many tokens each.

        The steps are rounded to a multiple of the number of blocks, so that every block has as many.
        """
        block = min(block_length, max_completion_length)
        blocks = max(1, max_completion_length // block) if block > 0 else 1  # `check` tells of block 0
        steps = max(1, round(max_completion_length / blocks / tokens_per_step)) * blocks
        return cls(max_completion_length, block, steps, temperature, remasking)

    @property
    def num_blocks(self) -> int:
        """Blocks of a completion."""
        return self.max_completion_length // self.block_length

    @property
    def steps_per_block(self) -> int:
        """Denoising steps spent on each block."""
        return self.diffusion_steps // self.num_blocks

    @property
    def draws_noise(self) -> bool:
        """Whether decoding is random at all; if not, no generators are needed."""
        return self.temperature > 0 or self.remasking == "random"

    def check(self) -> None:
        """Makes sure that these numbers can decode.

        Raises:
            ConfigError: a number out of range, or lengths and steps that do not divide, with the arithmetic.
        """
        for name in ("max_completion_length", "block_length", "diffusion_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r} must be a whole number of at least 1.")
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ConfigError(f"temperature={self.temperature} must be 0 (greedy) or a finite number above.")
        if self.remasking not in ("low_confidence", "random"):
            known = ", ".join(("low_confidence", "random"))
            raise ConfigError(f"remasking={self.remasking!r} is unknown. Use one of: {known}.")
        self._check_division()

    def _check_division(self) -> None:
        length, block, steps = self.max_completion_length, self.block_length, self.diffusion_steps
        if length % block:
            raise ConfigError(
                f"block_length={block} does not divide max_completion_length={length}: {length} / {block} = "
                f"{length / block:.2f} blocks. Use block_length={_nearest_divisor(length, block)} or "
                f"max_completion_length={_round_up(length, block)}."
            )
        blocks = length // block
        if steps % blocks:
            raise ConfigError(
                f"diffusion_steps={steps} cannot be shared by {blocks} blocks ({length} tokens / {block} per "
                f"block): {steps} / {blocks} = {steps / blocks:.2f} steps per block. "
                f"Use diffusion_steps={min(_round_up(steps, blocks), length)}."
            )
        if steps > length:
            raise ConfigError(
                f"diffusion_steps={steps} over {blocks} blocks is {steps // blocks} steps per block, but a "
                f"block has only {block} tokens to reveal. Use diffusion_steps={length} or fewer."
            )


def _nearest_divisor(length: int, block: int) -> int:
    divisors = (d for d in range(1, length + 1) if length % d == 0)
    return min(divisors, key=lambda d: (abs(d - block), -d))


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit

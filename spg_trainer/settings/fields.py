"""The settings of each command, as a dataclass. The docstring below a field is its text in `--help`.

The groups of settings that commands hold have files of their own: `model.py`, `decoding.py`, `updates.py`,
`results.py`. `resolve.py` finds the value of each setting, and `check.py` refuses values that cannot work. This file
imports nothing heavy.

Class attributes of a command: `word` is its name on the command line, `positional` the setting that is typed without a
flag ("" = none), and `first` the settings from its groups that are shown first in its help.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from spg_trainer.settings.decoding import EvalRollout, Sampling
from spg_trainer.settings.explained import explained
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.settings.ranges import Count, CountOrZero, NotNegative, Positive, Seed
from spg_trainer.settings.results import EvalConfig, OutputConfig
from spg_trainer.settings.updates import BatchConfig, OptimizerConfig

Assignments = dict[str, object]
"""The type of a setting that a command line gives as `KEY=VALUE ...`."""


@explained
@dataclass(frozen=True)
class TaskSettings:
    """What every command on a task has."""

    env: str = "sudoku"
    """The task: a name such as `countdown`, a file of your own (`./my_task.py:my/MyTask-v0`), a module
    (`my_package.my_module:my/MyTask-v0`), or a file of your own rows together with --verifier NAME, the verifier that
    judges them (`rows.jsonl` with --verifier gsm8k). Several tasks are mixed in one run by their weights: `countdown
    gsm8k:weight=2`. If it is left out, the task that the model was made for is taken."""
    env_args: Assignments = field(default_factory=dict)
    """Arguments of the task, e.g. `prompt_style=instruct`; `python -m envs show ENV` lists them."""
    reward_weights: Assignments = field(default_factory=dict)
    """The weights of the task's reward components, e.g. `correct=1 cells=0.2`."""
    overlong: Literal["error", "skip"] = "error"
    """What to do with problems whose prompts are too long for the model: error names them before anything is trained or
    evaluated, skip leaves them out and counts them. Set it to skip if a few rows of your data are too long."""
    seed: Seed = 0
    """The seed of all random numbers. Use another one to repeat a run with other random numbers."""
    config: str | None = None
    """A YAML file of settings, nested like config.yaml of a run folder. Flags override it."""


@explained
@dataclass(frozen=True)
class Config(TaskSettings):
    """Train a masked diffusion language model by RL on a verifiable task, or from completions that are given."""

    word, positional = "", ""

    source: Literal["environment", "pairs", "demonstrations"] = "environment"
    """Where the completions come from that a step learns from. environment: the model samples them. pairs: a file has a
    better and a worse one for each prompt; --pairs sets this source. demonstrations: the task's right completions and
    its habits (--mix), or those of a file (--data); the command `sft` sets this source, with a recipe for base
    models."""
    algorithm: str = "spg"
    """The algorithm: spg, raft, justgrpo, d2_stepmerge, forkgrpo, slim_rl, wd1, gdpo, bgpo, diffu_grpo, unigrpo or
    vrpo; for comparison, another that `python -m spg_trainer algorithms list` names; or yours, as
    `./my_algorithm.py:MyClass` or `my_module:MyClass`. If it is left out, the recipe of the task decides."""
    algorithm_args: Assignments = field(default_factory=dict)
    """Hyper-parameters of the algorithm, e.g. `negatives=elbo num_masks=4 masking=block_active`; --dry-run lists
    all."""
    pairs: str | None = None
    """A .jsonl, .jsonl.gz, .parquet or .csv file of pairs (prompt, chosen, rejected) to learn from in place of sampled
    completions (--source pairs). It needs --algorithm vrpo and --num-generations 2."""
    data: str | None = None
    """With --source demonstrations: a .jsonl, .json, .csv or .parquet file to learn from in place of the task's own,
    with `prompt` and `completion` or chat `messages`; or ORG/NAME, a data set on the hub (ORG/NAME:CONFIG). A tenth of
    its rows is held out for the validation loss. If --env is given too, the model is evaluated on it."""
    mix: Assignments = field(default_factory=dict)
    """With --source demonstrations: the share of the task's right completions, called `right`, and of each habit (a
    plausible way to solve a problem that is often wrong), e.g. `right=0.4 careless=0.6`. If it is left out, all are
    right."""
    force: bool = False
    """Trains even if the trainer would refuse: because none of 256 or more completions is right (for a small model that
    comes with the package, on a task that it does not know: none of any number), because no demonstration is right, or
    because decoding is unsafe (a threshold below 0.95, --unmasking factor, or no --max-tokens-per-step)."""
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
    model: ModelConfig = field(default_factory=ModelConfig)
    rollout: Sampling = field(default_factory=lambda: Sampling(temperature=0.9))
    batch: BatchConfig = field(default_factory=BatchConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    output: OutputConfig = field(default_factory=OutputConfig)

    @property
    def hyper_parameters(self) -> dict[str, Any]:
        """The arguments with which the algorithm is made: `algorithm_args`, and the rollout's `block_length` unless
        these set another one.
        """
        return {"block_length": self.rollout.block_length, **self.algorithm_args}

    @property
    def is_for_other_machines(self) -> bool:
        """Whether this is a dry run for other machines than this one."""
        return self.dry_run and (self.gpu is not None or self.processes > 0)

    @property
    def samples(self) -> bool:
        """Whether the model itself samples the completions that it learns from."""
        return self.source == "environment"

    @property
    def validates(self) -> Literal["solved", "loss"]:
        """What a validation measures: the problems that are solved, or the loss of held-out demonstrations."""
        return "loss" if self.source == "demonstrations" else "solved"


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
    force: bool = False
    """Replaces the folder if it holds a model already."""


@dataclass(frozen=True)
class ConvertCommand:
    """Make a masked diffusion model of a published family from an autoregressive one, for `sft` to train."""

    word, positional = "convert", "source"

    source: str = ""
    """The folder or the Hub id of a language model: Qwen2 (for dream and fastdllm_v2), Qwen3 (sdar, qwen3_diffusion),
    Qwen3-MoE (sdar_moe) or Llama (llada, illada)."""
    family: str = "sdar"
    """The family of the new model: dream, fastdllm_v2, illada, llada, qwen3_diffusion, sdar or sdar_moe."""
    block_length: CountOrZero | None = None
    """The length of an attention block in tokens; 0 = all tokens see all. If it is left out, the family's own, where it
    has one."""
    output: str | None = None
    """The folder to write, new or empty. If it is left out, it is SOURCE-FAMILY in the working directory."""


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
    """Writes the card to RUN/card, lists the files that would be uploaded with their sizes, and uploads nothing."""


@explained
@dataclass(frozen=True)
class EvalCommand(TaskSettings):
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
    cell accuracy for Sudoku, and refuses flags for these. The prompt is prompt_style=instruct, which is ours, or
    the exact prompt of a paper from a file of your own (`--env-args prompt_style=FILE`)."""
    rules: tuple[Literal["ours", "d1"], ...] = ("ours",)
    """Which rules judge the completions: `--rules ours d1` also reports the verdicts of d1's published evaluation code,
    which SPG, wd1 and others use, and lists the completions that it judges otherwise than ours."""
    perplexity: str | None = None
    """In place of a task: a .jsonl, .json, .csv or .parquet file whose rows have `text`, or `prompt` and `completion`.
    Reports the ELBO of its tokens in nats, with the standard error that comes from the masks, and the perplexity."""
    num_masks: Count = 128
    """For --perplexity: the number of masked copies of each text. More of them make the standard error smaller."""
    rows_per_forward: Count = 64
    """The number of completions that a GPU decodes at once; a CPU decodes as many as fit into its cache. Lower it if
    memory runs out: the result stays the same."""
    output_dir: str | None = None
    """The folder to write: results (JSON) and completions (JSONL). If it is left out, that is MODEL/eval if the model
    is a run folder, and otherwise no files are written."""
    model: LoadConfig = field(default_factory=LoadConfig)
    rollout: EvalRollout = field(default_factory=EvalRollout)


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
    seeds: tuple[int, ...] = (3,)
    """The number of runs of each setting on each task, whose seeds are 0, 1, ...; or several numbers, the seeds
    themselves: `--seeds 3 4 5`."""
    jobs: CountOrZero = 0
    """The number of runs at the same time; 0 starts one for each CPU core, with one thread each, or a single one on a
    GPU."""
    output_dir: str = "runs/compare"
    """The folder that holds a run folder for each run, the table (compare.md), the figures of each run (compare.csv)
    and the curves (curves.svg)."""
    dry_run: bool = False
    """Trains nothing: prints the settings in which the columns of each task differ, which compare.md has too."""

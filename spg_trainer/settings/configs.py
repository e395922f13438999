"""The settings of each command, as a dataclass. The docstring below a field is its text in `--help`.

The groups of settings about the model and its decoding have files of their own, `model.py` and `decoding.py`.
`resolve.py` finds the value of each setting, and `check.py` refuses values that cannot work. This file
imports nothing heavy.

Class attributes of a command: `word` is its name on the command line, `positional` the setting that is typed without a
flag ("" = none), and `first` the settings from its groups that are shown first in its help.
"""

from dataclasses import dataclass, field, replace
from typing import Any, Literal, Self

from spg_trainer.settings.decoding import EvalRollout, GenerateRollout, Sampling
from spg_trainer.settings.model import LoadConfig, ModelConfig
from spg_trainer.settings.task import BAD_ROWS, arguments_of, parse_tasks
from spg_trainer.settings.types import (
    AtLeast1,
    Below1,
    Count,
    CountOrZero,
    NotNegative,
    OwnFunction,
    Positive,
    Probability,
    Rate,
    Seed,
    Weight,
    explained,
)

AUTO = "auto"
"""The value of --per-device-batch-size for as many copies as fit into memory."""
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
class BatchConfig:
    """The size of a step and its updates. The last setting changes memory alone; the others change what is learned."""

    prompts_per_step: Count = 16
    """The number of problems that a step samples, or of demonstrations that it learns, over all processes. More of them
    make the gradient less noisy and the step longer."""
    num_generations: Count = 6
    """The number of completions of each problem (the group, G), at least 2; with demonstrations 1. More of them make a
    group with right and wrong completions likelier, but in our measurements the same number of completions taught more
    when spread over more problems."""
    max_rollout_batches: Count = 1
    """The most batches of --prompts-per-step problems that a step samples. It stops when --prompts-per-step groups have
    unequal rewards, and learns from these; if there are too few such groups, others fill the step up (dynamic
    sampling). 1 learns from the first batch, whatever its rewards. Raise it, to 10, if most groups have equal rewards
    and an update takes longer than a rollout: a step then teaches more, but each sampled completion less."""
    pools: bool = False
    """Draws a problem less often once its last two groups were all right, or all wrong, until a group of it is mixed
    again. Set it if many groups are all right or all wrong and problems are drawn more than once."""
    all_right_weight: Weight = 0.2
    """How likely --pools draws a problem whose last two groups were all right, relative to one whose groups are mixed,
    from 0.01 to 1. Raise it if the model forgets what it solved."""
    all_wrong_weight: Weight = 0.2
    """How likely --pools draws a problem whose last two groups were all wrong, relative to one whose groups are mixed,
    from 0.01 to 1. Raise it to try hard problems more often."""
    mask_truncated: bool = False
    """Learns nothing from completions that the length cut, which have no end; they still count in their groups. Set it
    if a cut completion says little about the answer that it would have given."""
    num_iterations: Count = 1
    """How many updates are made with the completions of a step, each with fresh masks. Raise it if rollouts are slow,
    but only with an algorithm that has an importance ratio, or with raft."""
    num_minibatches: Count = 1
    """The number of parts that the groups of a step are divided into, with one update for each part. More than 1 is
    off-policy: raise it if rollouts are slow, but only with an algorithm that has an importance ratio."""
    per_device_batch_size: Count | Literal["auto"] = 8
    """How many masked copies of completions go through the model at once in an update; a rollout on a GPU decodes four
    times as many completions at once. auto fills a GPU by the estimate of --dry-run, in an update with copies and in a
    rollout with completions, but with no more of them than a step has. On a CPU, and with --shard or
    --sequence-parallel, auto takes at most 8 copies. If a GPU's memory runs out, the number is halved and the work is
    repeated. The result stays the same, except for rounding; set a number if it should be the same to the bit on
    another GPU."""


@explained
@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW or Muon with linear warm-up, then a constant or falling rate."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """The optimizer. muon updates the matrices of layers by Muon, whose steps are as large as AdamW's but have nearly
    equal singular values, and all other weights by AdamW. Try it if AdamW needs too many updates; it does not work with
    --shard."""
    learning_rate: Rate = 3e-6
    """The highest learning rate, after the warm-up. Lower it if rewards collapse, the loss jumps or updates are
    skipped."""
    warmup_steps: CountOrZero = 0
    """The number of updates over which the rate rises linearly from 0. Raise it if the first updates make the model
    worse."""
    weight_decay: Below1 = 0.1
    """The decoupled weight decay, from 0 to below 1. Set it to 0 if weights without a gradient must not change. Raise
    it if a validation loss rises while the training loss falls."""
    max_grad_norm: Positive = 0.2
    """Gradient clipping: a gradient with a larger norm is scaled down to this norm. Raise it if nearly every step
    reports a larger `grad_norm` and the run learns too slowly. Lower it if the loss jumps."""
    lr_schedule: Literal["constant", "linear", "cosine", "warmup_stable_decay"] | OwnFunction = "constant"
    """What the learning rate does after the warm-up: constant keeps it; linear and cosine let it fall from step to
    step, to --lr-floor at --max-steps; warmup_stable_decay keeps it, and lets it fall linearly over the last steps only
    (--lr-decay-share), or once --patience is used up. ./mine.py:NAME is a function of your own, NAME(update, total),
    that returns the share of --learning-rate for an update, from 0 on, of the run's total. Let it fall if a rate that
    learns fast makes later steps worse. A run with warmup_stable_decay that is resumed with a larger --max-steps
    continues from where its rate began to fall."""
    lr_floor: Below1 = 0.0
    """The learning rate at the end of a falling --lr-schedule, as a share of --learning-rate, from 0 to below 1. Raise
    it if the reward still rises when the run ends."""
    lr_decay_share: Probability = 0.2
    """The share of the run, above 0 and up to 1, over which --lr-schedule warmup_stable_decay lets the rate fall, at
    its end. Lower it to train longer at the full rate."""
    adam_beta2: Below1 = 0.99
    """AdamW's second decay, from 0 to below 1; the first is 0.9. Raise it for steadier steps where the gradient is
    noisy."""
    adam_moments: Literal["float32", "8bit"] = "float32"
    """The number type of AdamW's moments. 8bit takes a quarter of the memory (pip install torchao) and does not work
    with --shard."""


@explained
@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation before and after training, and validation during it, which chooses the model that is kept.

    A validation solves problems; if demonstrations are learned, it measures the loss of held-out ones.
    """

    eval_steps: CountOrZero = 0
    """The number of steps between validations. With validations the best step becomes the model; with 0 there are none,
    and the last step becomes the model. Lower it to find the best step more exactly."""
    patience: CountOrZero = 0
    """The run ends after this number of validations in a row without an improvement. A validation is an improvement if
    it solves more problems than the best before it, or if its loss is more than 1% below that of the last improvement.
    With --lr-schedule warmup_stable_decay the learning rate falls from then on, and the run ends when it has fallen. 0
    goes on to --max-steps. Set it if you do not know how many steps are enough."""
    validation_problems: CountOrZero = 64
    """The number of problems of a validation, or of demonstrations whose loss it measures; 0, or more than there are,
    takes the whole validation split. More problems make the choice of the best step more reliable and take longer."""
    eval_problems: CountOrZero = 0
    """The number of problems of the evaluations before and after training; 0 takes the whole split. Fewer are faster
    and leave wider intervals."""
    eval_split: Literal["test", "validation"] = "test"
    """The split of the evaluations before and after training. Choose validation while you compare settings."""

    keep_worse: bool = False
    """Keeps the trained model in model/ even if it solves fewer problems than the start, by more than chance. Without
    this flag, such a run puts the start back into model/."""


@explained
@dataclass(frozen=True)
class OutputConfig:
    """Where a run is written, which run is resumed, what it keeps, and where else its metrics are sent."""

    output_dir: str | None = None
    """The folder to write. If it is left out, a training writes runs/ENV-ALGORITHM-sSEED-UTCTIME."""
    resume: str | None = None
    """The run folder or checkpoint to continue. `auto` takes the run in --output-dir, or without --output-dir the
    newest unfinished run with the same settings."""
    report: bool = True
    """Writes report.html, a page about the run, when it ends."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Sends the metrics to these experiment trackers as well. Each needs the package of its name, e.g. pip install
    wandb."""
    accept_changed_code: bool = False
    """With --resume, goes on even if the code of your task, algorithm or reward has changed, for example because you
    repaired what stopped the run. Later changes of the code are refused again."""
    save_steps: CountOrZero = 10
    """The number of steps between checkpoints; 0 writes one only at the end. Lower it if runs are often interrupted."""
    save_minutes: NotNegative = 0.0
    """The number of minutes since the last checkpoint after which a step is followed by one as well; 0 lets
    --save-steps alone decide. For steps that take long, or whose time is not known."""
    keep: Count | None = None
    """How many of the newest checkpoints are kept, besides the one of the best step. If it is left out, two are kept,
    or one if a checkpoint takes more than 16 GB. Raise it to be able to go back further. If the best step is older than
    these, and its checkpoint takes more than 16 GB, only its weights are kept."""
    sample_steps: CountOrZero = 10
    """The number of steps after which completions are written to samples/ and one of them is shown; 0 does neither.
    Lower it to watch more closely how the model writes."""
    sample_rows: CountOrZero = 0
    """How many episodes --sample-steps writes of a step, the first of its groups; 0 writes all. Set it to see some of
    every step (--sample-steps 1) without the disk that all would take."""
    save_dtype: Literal["auto", "bfloat16"] = "auto"
    """The number type of the weights in model/; auto keeps that of training. bfloat16 halves the file, and the last
    evaluation then measures the rounded weights."""

    @property
    def recorded(self) -> Self:
        """The settings for the run's config.yaml: without those that are for a single start of the run."""
        return replace(self, resume=None, accept_changed_code=False)


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
    rollout_engine: str | None = None
    """Samples the completions that a step learns from on a serving engine: sglang starts SGLang on the GPU of this
    process, and sglang:http://HOST:PORT uses one that runs. Only for models whose attention goes by blocks (SDAR,
    LLaDA2). If it is left out, the trainer samples itself. Set it if rollouts take most of the time."""
    importance_sampling_mode: Literal[
        "sequence_truncate", "sequence_mask", "token_truncate", "token_mask"
    ] = "sequence_truncate"
    """How much counts what --rollout-engine sampled, whose probabilities differ from the model's by rounding: sequence
    multiplies an episode's advantage by p / p_engine of all its tokens, token the gradient of each token by its own.
    truncate takes a weight above --importance-sampling-cap for the cap, mask for 0. Take token for long completions,
    whose products leave the cap."""
    importance_sampling_cap: AtLeast1 = 2.0
    """The largest importance weight of what --rollout-engine sampled. Lower it if `engine/effective_sample_size` falls
    far below the number of episodes."""
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
        these set another one, or it is still open.
        """
        block = self.rollout.block_length
        return {**({"block_length": block} if block else {}), **self.algorithm_args}

    @property
    def task_arguments(self) -> dict[str, Any]:
        """The arguments of the task: `env_args`, but without `bad_rows` if only the texts of --data take it."""
        if not self.data or BAD_ROWS not in self.env_args:
            return self.env_args
        tasks = parse_tasks(self.env)
        if len(tasks) == 1 and BAD_ROWS in arguments_of(tasks[0]):
            return self.env_args
        return {name: value for name, value in self.env_args.items() if name != BAD_ROWS}

    @property
    def weighs_tokens(self) -> bool:
        """Whether what an engine sampled is weighed token by token."""
        return self.importance_sampling_mode.startswith("token")

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
    """The file to write, which ends in .html. If it is left out, it is report.html in the run folder, or for several
    runs in the working directory."""


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
    Qwen3-MoE (sdar_moe) or Llama (llada, illada, stable_diffcoder)."""
    family: str = "sdar"
    """The family of the new model: dream, fastdllm_v2, illada, llada, qwen3_diffusion, sdar, sdar_moe or
    stable_diffcoder."""
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


@explained
@dataclass(frozen=True)
class GenerateCommand:
    """Let a model answer a prompt, the prompts of a file or of standard input, or, on a terminal, a chat line by line.

    On a terminal the completion is shown while it is denoised. Settings of decoding that you leave out are those that
    the model was taught with, at temperature 0.
    """

    word, positional, first = "generate", "prompt", ("model",)

    prompt: str | None = None
    """The prompt. If it is left out, standard input is the prompt; on a terminal, each line is a message of a chat."""
    prompts: str | None = None
    """A .jsonl, .json, .csv or .parquet file of rows with a `prompt`: a text, or chat messages, as `eval` writes
    them."""
    num_return_sequences: Count = 1
    """The number of completions of each prompt; more than one needs a --temperature above 0."""
    seed: Seed = 0
    """The seed of the noise with which completions are drawn at a --temperature above 0."""
    plain: bool = False
    """Shows each completion when it is finished, also on a terminal."""
    json: bool = False
    """Writes a JSON line for each completion: prompt, completion, and the id, step and log-probability of each
    token."""
    rows_per_forward: Count = 64
    """The number of completions that a GPU decodes at once; a CPU decodes as many as fit into its cache. Lower it if
    memory runs out: the result stays the same."""
    model: LoadConfig = field(default_factory=LoadConfig)
    rollout: GenerateRollout = field(default_factory=GenerateRollout)


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

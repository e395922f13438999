"""The settings of evaluation and output: what a run measures while it trains, before and after, and what it writes."""

from dataclasses import dataclass, replace
from typing import Literal, Self

from spg_trainer.settings.explained import explained
from spg_trainer.settings.ranges import Count, CountOrZero


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
    keep: Count | None = None
    """How many of the newest checkpoints are kept, besides the one of the best step. If it is left out, two are kept,
    or one if a checkpoint takes more than 16 GB. Raise it to be able to go back further. If the best step is older than
    these, and its checkpoint takes more than 16 GB, only its weights are kept."""
    sample_steps: CountOrZero = 10
    """The number of steps after which completions are written to samples/ and one of them is shown; 0 does neither.
    Lower it to watch more closely how the model writes."""
    save_dtype: Literal["auto", "bfloat16"] = "auto"
    """The number type of the weights in model/; auto keeps that of training. bfloat16 halves the file, and the last
    evaluation then measures the rounded weights."""

    @property
    def recorded(self) -> Self:
        """The settings for the run's config.yaml: without those that are for a single start of the run."""
        return replace(self, resume=None, accept_changed_code=False)

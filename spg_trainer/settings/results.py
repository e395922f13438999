"""The settings of evaluation and output: what a run measures while it trains, before and after, and what it writes."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from spg_trainer.settings.ranges import Count, CountOrZero


@dataclass(frozen=True)
class EvalConfig:
    """Greedy evaluation before and after training, and validation during it, which chooses the model that is kept."""

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

    keep_worse: bool = False
    """Keep the trained model in model/ even if it solves fewer problems than the start by more than chance. Otherwise
    model/ is the start then."""

    criterion: ClassVar[Literal["solved", "loss"]] = "solved"
    """What a validation measures: how many problems the model solves, or the loss of held-out completions. A run by RL
    always has `solved`, so it is no setting and no field."""


@dataclass(frozen=True)
class LossEvalConfig(EvalConfig):
    """Validation by the loss of held-out completions, as `sft` has it."""

    criterion = "loss"


@dataclass(frozen=True)
class SftEval:
    """Validation during the training, which decides when it ends."""

    eval_steps: Count = 100
    """The number of updates between evaluations. An evaluation measures the validation loss, counts how many of some
    sampled completions follow each habit (--mix), and writes a checkpoint. Raise it if evaluations take too long."""
    patience: CountOrZero = 5
    """The number of evaluations in a row after which training ends if none of them has lowered the best validation loss
    by 1%; the best weights are kept. With 0 all --steps are made, the last weights are kept, and the learning rate
    falls by a cosine."""


@dataclass(frozen=True)
class FolderConfig:
    """Where results are written."""

    output_dir: str | None = None
    """The folder to write. If it is left out, a training writes runs/ENV-ALGORITHM-sSEED-UTCTIME, `sft` writes
    models/ENV-sft-sSEED, and `eval` writes MODEL/eval if the model is a run folder, and otherwise no files. `eval`
    writes results (JSON) and completions (JSONL)."""


@dataclass(frozen=True)
class BaseOutputConfig(FolderConfig):
    """Where a run is written, which run goes on, and where else its metrics are sent."""

    resume: str | None = None
    """The run folder or checkpoint to continue; for `sft`, the folder of its model, or a checkpoint in it. `auto` takes
    the run in --output-dir; in a training by RL without --output-dir, it takes the newest unfinished run with the same
    settings."""
    report: bool = True
    """Writes report.html, a page about the run, when it ends."""
    track: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Sends the metrics to these experiment trackers as well. Each needs the package of its name, e.g. pip install
    wandb."""
    accept_changed_code: bool = False
    """With --resume, goes on though the code of your task, algorithm or reward has changed, for example because you
    repaired what stopped the run. Later changes of the code are refused again."""

    @property
    def recorded(self) -> Self:
        """The settings as the run's own file holds them: without those that are for a single start of it."""
        return replace(self, resume=None, accept_changed_code=False)


@dataclass(frozen=True)
class OutputConfig(BaseOutputConfig):
    """Where a run is written, and what it keeps."""

    save_steps: CountOrZero = 10
    """The number of steps between checkpoints; 0 writes one only at the end. Lower it where runs are
    often interrupted."""
    keep: Count | None = None
    """How many of the newest checkpoints are kept, besides the one of the best step. If it is left out, two are kept,
    or one where a checkpoint takes more than 16 GB. Raise it to be able to go back further. If the best step is older
    than these, and its checkpoint takes more than 16 GB, only the weights of it are kept."""
    sample_steps: CountOrZero = 10
    """The number of steps after which completions are written to samples/ and one of them is shown; 0 does neither.
    Lower it to watch more closely how the model writes."""

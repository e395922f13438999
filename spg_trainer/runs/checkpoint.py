"""Writes, finds, loads and deletes the checkpoints of a run.

A checkpoint is a folder, e.g. checkpoints/step-000100. It is written aside and renamed (`files.write_folder`), so that
an interrupted save leaves no checkpoint that looks whole. It opens with `AutoModel` or `PeftModel` like any model.
With --shard, each process writes its part of the optimizer's state, and any number of processes can read it.
"""

import json
import logging
import os
import shlex
import shutil
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, TypeAlias

from spg_trainer import distributed
from spg_trainer.errors import CheckpointError, first_line
from spg_trainer.runs import files
from spg_trainer.settings.recorded import write_record
from spg_trainer.settings.types import json_document

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from spg_trainer.models.policy import Policy

TRAINING = "training.pt"
"""File of a checkpoint that holds the optimizer's state and, if it moves during training, the reference model."""
OPTIMIZER = "optimizer"
"""Folder of a checkpoint that holds the optimizer's state of a sharded model."""
LARGE = 16e9
"""A checkpoint of more bytes than these is large; a run keeps fewer large ones by default."""
_SUPERSEDED = "superseded"
_log = logging.getLogger(__name__)
Weights: TypeAlias = "Iterator[tuple[str, Tensor]] | None"
"""The weights of a sharded model, as (name, whole tensor); None for any other model, which has whole weights itself."""


def save(
    folder: Path,
    step: int,
    policy: "Policy",
    optimizer_state: dict[str, Any],
    *,
    state: Mapping[str, Any],
    environment: Mapping[str, Any],
    keep: int | None = None,
    needed: Callable[[list[int]], Collection[int]] = lambda kept: (),
    resumable: Collection[int] = (),
    **tensors: Any,
) -> Path:
    """Writes checkpoints/step-NNNNNN of the run in `folder`, and then deletes old checkpoints (`delete_old`).

    state: counters, as JSON. environment: the content of environment.json. tensors: what training.pt holds besides the
    optimizer's state; `reference` if it moves. keep: how many of the newest checkpoints stay, at least 1; None = as
    many as `newest_kept` says. needed: is called with the steps of these, and returns the steps of others that must be
    kept, too, such as the best. resumable: further steps whose checkpoints stay whole.

    A complete checkpoint of this step is left as it is. All processes get the path. Rank 0 writes alone, except for a
    sharded model that is trained: all processes write it together, to one file system. Raises CheckpointError if the
    disk refuses; earlier checkpoints are untouched then.
    """
    target, divided = folder_of_step(folder, step), _is_divided(policy)
    # `incomplete` says what is missing, and returns None for a whole checkpoint.
    if divided:
        nothing_to_write = distributed.decide_on_main(lambda: files.incomplete(target) is None)
    else:
        nothing_to_write = distributed.rank() > 0 or files.incomplete(target) is None
    if nothing_to_write:
        return target
    # The optimizer's state of a divided model goes to the folder `OPTIMIZER`, each process's part by itself.
    training_content = tensors if divided else {"optimizer": optimizer_state, **tensors}

    def write(aside: Path, weights: "Weights") -> None:
        """Writes all that the first process writes of the checkpoint into the folder `aside`."""
        import torch

        write_model(aside, policy, environment, weights)
        if training_content:
            torch.save(training_content, aside / TRAINING)
        (aside / "state.json").write_text(json_document({"step": step, **state}), encoding="utf-8")

    def prepare() -> None:
        """Puts the run's rows on the disk, and removes what an interrupted save or deletion left."""
        for path in folder.glob("*.jsonl"):
            with files.writing(path):
                files.sync(path)  # like the checkpoint, the rows up to its step must survive a power cut
        for path in [*target.parent.glob(".step-*.tmp"), *target.parent.glob(".step-*.deleted")]:
            shutil.rmtree(path, ignore_errors=True)

    if divided:
        write_together(target, policy, optimizer_state, prepare, write)
    else:
        prepare()
        files.write_folder(target, lambda aside: write(aside, None))
    if distributed.rank() == 0:
        num_bytes = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
        delete_old(folder, keep, needed, num_bytes, resumable)
    return target


def write_together(
    target: Path,
    policy: "Policy",
    optimizer_state: Mapping[str, Any],
    prepare: Callable[[], None],
    write: "Callable[[Path, Weights], None]",
) -> None:
    """As `write_folder`, for a sharded model.

    Rank 0 writes all but the optimizer's state; then each process writes its part of this state.
    """

    def begin(weights: "Weights") -> None:
        prepare()
        files.begin_folder(target, lambda aside: write(aside, weights))

    try:
        with distributed.raising_on_all():
            with_weights(policy, begin)
        save_sharded_optimizer(files.aside_of(target) / OPTIMIZER, policy.model, optimizer_state)
        with distributed.raising_on_all():
            if distributed.rank() == 0:
                files.finish_folder(target)
    finally:
        if distributed.rank() == 0:
            shutil.rmtree(files.aside_of(target), ignore_errors=True)


def with_weights(policy: "Policy", write: "Callable[[Weights], None]") -> None:
    """Calls `write` on rank 0 with the whole weights of a sharded model, and with None for any other model.

    All processes must call this, since each has a part of the weights. They gather the weights one tensor after the
    other, so each process goes through all of them, even if `write` does not.
    """
    from spg_trainer.models.weight_files import whole_tensors

    weights = whole_tensors(policy.model) if _is_divided(policy) else None
    try:
        if distributed.rank() == 0:
            write(weights)
    finally:
        for _ in weights or ():  # gathers the tensors that `write` has not taken
            pass


def newest_kept(keep: int | None, size: float) -> int:
    """How many of the newest checkpoints a run keeps: `keep`, or if it is None, two, or one if they are large.

    size: bytes of a checkpoint.
    """
    if keep:
        return keep
    return 1 if size > LARGE else 2


def delete_old(
    folder: Path,
    keep: int | None,
    needed: Callable[[list[int]], Collection[int]],
    size: int,
    resumable: Collection[int] = (),
) -> None:
    """Deletes a run's checkpoints that are neither among the newest `keep` nor `resumable` nor `needed` (see `save`).

    size: bytes of a checkpoint. If it is above `LARGE`, checkpoints that are only `needed` keep just their weights.
    """
    keep = newest_kept(keep, size)
    others = (path for path in _checkpoints(folder) if step_of(path) not in resumable)
    complete = [path for path in others if files.incomplete(path) is None]
    also_needed = needed([step_of(path) for path in complete[-keep:]])
    for path in complete[:-keep]:
        try:
            if step_of(path) not in also_needed:
                files.delete_folder(path)
            elif size > LARGE:
                files.delete_parts(path, (TRAINING, OPTIMIZER))
        except OSError as error:  # a checkpoint too many takes disk, but must not end the run
            _log.warning("The old checkpoint %s cannot be deleted: %s", path, error)


def export(folder: Path, policy: "Policy", environment: Mapping[str, Any]) -> None:
    """Writes a trained model with its environment.json to `folder` by `write_folder`; all processes must call it."""
    with_weights(
        policy,
        lambda weights: files.write_folder(
            folder, lambda aside: write_model(aside, policy, environment, weights)
        ),
    )


def write_model(
    folder: Path, policy: "Policy", environment: Mapping[str, Any], weights: "Weights" = None
) -> None:
    """Writes weights, tokenizer, environment.json and a README on how to open them into an existing folder."""
    from spg_trainer.models.body import base_of_adapter
    from spg_trainer.models.load import save_weights
    from spg_trainer.models.weight_files import save_whole

    if weights is None:
        save_weights(policy, folder)
    else:
        model: Any = policy.model
        save_whole(model, weights, folder)
        policy.tokenizer.save_pretrained(str(folder))
    usage = how_to_open(base=base_of_adapter(folder))
    (folder / "README.md").write_text(usage, encoding="utf-8")
    write_record(folder, environment)


def how_to_open(name: str = "PATH OF THIS FOLDER", env: str = "", base: str | None = None) -> str:
    """How to open a model or adapter, in Markdown.

    name: its folder or Hub id. env: the task to measure it on. base: the base of an adapter; None for a whole model.
    """
    kind, with_peft, with_env = "A masked diffusion language model", "", f" --env {env}" if env else ""
    if base is not None:
        kind = f"An adapter of PEFT on the masked diffusion language model `{base}`"
        with_peft = f"""
These lines put the adapter on its base. PEFT does the same:

```python
from peft import PeftModel

model = PeftModel.from_pretrained(AutoModelForMaskedLM.from_pretrained("{base}"), "{name}")
```

`python -m spg_trainer merge {name}` writes the whole model.
"""
    return f"""\
{kind}; transformers opens it where spg-trainer is installed:

```python
import spg_trainer.models  # tells transformers of its architecture
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```
{with_peft}
`python -m spg_trainer eval --model {name}{with_env}` measures it.
"""


def latest_complete(run: Path) -> Path | None:
    """The newest whole checkpoint of a run folder, or None; incomplete ones are skipped, and logged."""
    for path in reversed(_checkpoints(run)):
        if (problem := files.incomplete(path)) is None:
            return path
        _log.warning("Checkpoint %s %s; it is passed over.", path, problem)
    return None


def has_checkpoints(run: Path) -> bool:
    """Whether a run folder holds any checkpoint, whole or not."""
    return bool(_checkpoints(run))


def run_of(path: Path) -> Path:
    """The run folder for the PATH of --resume, which may be a checkpoint in it; CheckpointError if it is no folder."""
    if not path.is_dir():
        raise CheckpointError(f"$resume={path}: no such folder. Give a run folder, a checkpoint, or auto.")
    if not path.name.startswith("step-"):
        return path
    # RUN/checkpoints/step-N, or RUN/checkpoints/superseded/step-N.
    parent = path.resolve().parent
    checkpoints = parent.parent if parent.name == _SUPERSEDED else parent
    return checkpoints.parent


def find_checkpoint(path: Path) -> tuple[Path, Path | None]:
    """(run folder, checkpoint) for the PATH of --resume, which may be either; checkpoint None = start at step 0.

    Raises CheckpointError if the path does not exist, or names a checkpoint that is not whole.
    """
    run = run_of(path)
    if not path.name.startswith("step-"):
        return run, latest_complete(run)
    require_complete(path)
    return run, path


def load(folder: Path, policy: "Policy", optimizer: "Optimizer | None" = None) -> dict[str, Any]:
    """Restores weights and optimizer in place, bit for bit, and returns the saved counters.

    optimizer: None = the weights only. Parameters stay the same objects. Raises CheckpointError if the checkpoint is
    incomplete, or of another kind of model.
    """
    from safetensors import SafetensorError

    from spg_trainer.models.shard import is_sharded
    from spg_trainer.models.weight_files import load_parts

    require_complete(folder)
    try:
        if hasattr(policy.model, "peft_config"):
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(policy.model, load_peft_weights(str(folder), device="cpu"))
        elif is_sharded(policy.model):
            load_parts(policy.model, folder)
        else:
            from spg_trainer.models.load import no_progress_bars

            with no_progress_bars():  # they would break up our live line
                saved = type(policy.model).from_pretrained(folder, dtype=policy.model.dtype)
            policy.model.load_state_dict(saved.state_dict())
        if optimizer is not None:
            load_optimizer(folder, policy, optimizer)
            load_reference(folder, policy)
        return json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError) as error:
        raise CheckpointError(
            f"Checkpoint {folder} does not fit this run: {first_line(error)}. Resume with the run's own $model and "
            "$lora_r, or from another of its checkpoints with $resume=PATH."
        ) from error


def load_optimizer(folder: Path, policy: "Policy", optimizer: "Optimizer") -> None:
    """Restores an optimizer's state, even if another number of processes saved it, sharded or not."""
    import torch

    from spg_trainer.models.forward import trainable_parameters

    if (folder / OPTIMIZER).is_dir():
        state = load_sharded_optimizer(folder / OPTIMIZER, policy.model)
        saved = {**optimizer.state_dict(), "state": state}
    else:
        divided = _is_divided(policy)
        file = folder / TRAINING
        if not file.is_file():
            raise CheckpointError(
                f"Checkpoint {folder} holds the weights alone, not the optimizer: it was the best step, and each "
                f"checkpoint of this run takes more than {LARGE / 1e9:.0f} GB. Continue from a later "
                f"checkpoint, or begin a new run from these weights with $model={folder}."
            )
        # If the weights are divided, the file is mapped, since the whole state may exceed the memory.
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=divided)["optimizer"]
        if divided:
            parameters = list(trainable_parameters(policy.model).values())
            for number, entry in saved["state"].items():
                weight = parameters[number]
                # Moments have the shape of their weight, and this process keeps its part of them; a count stays whole.
                moments = {key: value for key, value in entry.items() if value.shape == weight.shape}
                entry |= {key: distributed.own_part(value, weight) for key, value in moments.items()}
    optimizer.load_state_dict(saved)


def load_reference(folder: Path, policy: "Policy") -> None:
    """Restores a reference that moves during training (`Policy.move_reference`)."""
    import torch

    if policy.frozen is not None and (file := folder / TRAINING).is_file():
        saved = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        if "reference" in saved:
            policy.frozen.load_state_dict(saved["reference"])


def require_complete(folder: Path) -> None:
    """Raises CheckpointError, saying what is missing, unless `folder` is a whole checkpoint."""
    if problem := files.incomplete(folder):
        raise CheckpointError(
            f"Checkpoint {folder} {problem}. Give another, or the run folder for the newest."
        )


def refuse_damaged(folder: Path) -> None:
    """Raises CheckpointError if bytes of a checkpoint have changed since it was written, e.g. on a failing disk.

    All files are read for this. The message names the newest earlier checkpoint from which the run can go on.
    """
    if problem := files.damaged(folder):
        run = run_of(folder)
        earlier = (path for path in reversed(_checkpoints(run)) if step_of(path) < step_of(folder))
        # A run can go on from a checkpoint that has the optimizer's state.
        can_go_on = (path for path in earlier if (path / TRAINING).is_file() or (path / OPTIMIZER).is_dir())
        before = next((path for path in can_go_on if files.damaged(path) is None), None)
        remedy = "begin a new run with another $output_dir"
        if before:
            remedy = f"make the steps since the checkpoint before again: $resume={shlex.quote(str(before))}"
        raise CheckpointError(f"Checkpoint {folder} {problem}. Put back what was written, or {remedy}.")


def set_aside_after(run: Path, step: int) -> None:
    """Moves checkpoints later than `step`, at which a run continues, to checkpoints/superseded.

    The moved checkpoints belong to another continuation of the run, so they are kept; incomplete ones are deleted.
    """
    for path in (path for path in _checkpoints(run) if step_of(path) > step):
        if files.incomplete(path):
            files.delete_folder(path)
            continue
        place = files.unused(path.parent / _SUPERSEDED / path.name)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
        _log.warning("A later checkpoint was moved to %s.", place)


def require_up_to(run: Path, step: int) -> Path:
    """The newest whole checkpoint of a run that is no later than `step`; CheckpointError if it has none."""
    complete = [
        path for path in _checkpoints(run) if step_of(path) <= step and files.incomplete(path) is None
    ]
    if not complete:
        raise CheckpointError(
            f"{run} has no checkpoint up to step {step}, and with these settings its learning rate falls differently "
            f"from that step on. Begin a new run from its weights: $model={shlex.quote(str(run))}."
        )
    return complete[-1]


def folder_of_step(run: Path, step: int) -> Path:
    """The path of a step's checkpoint, which may not exist."""
    return run / "checkpoints" / f"step-{step:06d}"


def _is_divided(policy: "Policy") -> bool:
    """Whether the trained weights are divided, so that processes must write and read the optimizer together."""
    from spg_trainer.models.shard import trains_parts

    return distributed.world_size() > 1 and trains_parts(policy.model)


def _checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, whole or incomplete, oldest first; not the hidden folders of an interrupted save."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted((path for path in folders if path.name.removeprefix("step-").isdigit()), key=step_of)


def step_of(path: Path) -> int:
    """The step of a checkpoint, from the name of its folder."""
    return int(path.name.removeprefix("step-"))


def save_sharded_optimizer(folder: Path, model: "nn.Module", optimizer_state: Mapping[str, Any]) -> None:
    """Writes an optimizer's state; all processes must call this. Raises CheckpointError on all of them if one cannot
    write its part.

    torch.distributed.checkpoint records every tensor by name (here PARAMETER/exp_avg and the like), and where its parts
    lie, so that any number of processes can read them.
    """
    from torch.distributed import checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException

    from spg_trainer.models.forward import trainable_parameters

    names = list(trainable_parameters(model))
    named = {
        f"{names[number]}/{key}": value
        for number, entry in optimizer_state["state"].items()
        for key, value in entry.items()
    }
    try:
        dcp.save(named, checkpoint_id=folder)
    except CheckpointException as error:  # a BaseException, which no `except Exception` would catch
        process, (reason, _) = next(iter(error.failures.items()))
        raise distributed.raised_by_all(
            CheckpointError(
                f"Process {process} cannot write {folder}: {reason}. What was saved before is untouched: free space or "
                "fix the permissions and continue with $resume."
            )
        ) from error


def load_sharded_optimizer(folder: Path, model: "nn.Module") -> dict[int, dict[str, Any]]:
    """The `state` of an optimizer's state_dict, with this process's part of each tensor, without communication.

    Raises KeyError, RuntimeError or OSError for a state that is missing or does not fit.
    """
    import torch
    from torch.distributed import checkpoint as dcp

    from spg_trainer.models.forward import trainable_parameters

    reader, parameters = dcp.FileSystemReader(folder), trainable_parameters(model)
    numbers = {name: number for number, name in enumerate(parameters)}
    wanted: dict[str, Tensor] = {}
    saved: Any
    for key, saved in reader.read_metadata().state_dict_metadata.items():
        name, _, _ = key.rpartition("/")
        parameter, dtype = parameters[name], saved.properties.dtype
        if saved.size == parameter.shape:
            wanted[key] = torch.zeros_like(parameter, dtype=dtype)  # divided like the parameter
        else:
            wanted[key] = torch.zeros(saved.size, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # as intended
        dcp.load(wanted, storage_reader=reader, no_dist=True)
    state: dict[int, dict[str, Any]] = {}
    for key, value in wanted.items():
        name, _, field = key.rpartition("/")
        state.setdefault(numbers[name], {})[field] = value
    return state

"""Checkpoints: checkpoints/step-000100 of a run is whole (`files.write_folder`) or does not exist.

The folder opens with `AutoModel` or `PeftModel` like any model.
"""

import json
import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from spg_trainer.distributed import rank
from spg_trainer.errors import CheckpointError
from spg_trainer.runs.files import (
    delete_folder,
    incomplete,
    json_document,
    sync,
    unused,
    write_folder,
    writing,
)
from spg_trainer.settings.sources import ENVIRONMENT
from spg_trainer.training.validation import Validations, needed_steps

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from spg_trainer.models.load import Policy

_SUPERSEDED = "superseded"
_log = logging.getLogger(__name__)


def save(
    folder: Path,
    step: int,
    policy: "Policy",
    optimizer_state: dict[str, Any],
    *,
    state: Mapping[str, Any],
    environment: Mapping[str, Any],
    keep: int,
    validations: Validations | None = None,
    **tensors: Any,
) -> Path:
    """Writes checkpoints/step-NNNNNN of the run in `folder` and deletes all but the newest `keep` (>= 1) and the best.

    state: counters, as JSON. validations: those of the run, which say which was the best at each one that is kept.
    tensors: for training.pt, beside the optimizer's. A complete checkpoint of this step is left as it is. Only rank 0
    writes; all get the path. Raises CheckpointError if the disk refuses; earlier checkpoints are untouched then.
    """
    target = at_step(folder, step)
    if rank() or incomplete(target) is None:
        return target

    def write(aside: Path) -> None:
        import torch

        write_model(aside, policy, environment)
        torch.save({"optimizer": optimizer_state, **tensors}, aside / "training.pt")
        (aside / "state.json").write_text(json_document({"step": step, **state}), encoding="utf-8")

    for path in folder.glob("*.jsonl"):
        with writing(path):
            sync(path)  # rows up to this step must outlive a power cut as the checkpoint does
    for path in [*target.parent.glob(".step-*.tmp"), *target.parent.glob(".step-*.deleted")]:
        shutil.rmtree(path, ignore_errors=True)  # what an interrupted save or deletion left
    write_folder(target, write)
    whole = [path for path in _checkpoints(folder) if incomplete(path) is None]
    needed = needed_steps(validations or {}, [_step(path) for path in whole[-keep:]])
    for path in whole[:-keep]:
        try:
            if _step(path) not in needed:
                delete_folder(path)
        except OSError as error:  # one checkpoint too many costs disk, not the run
            _log.warning("The old checkpoint %s cannot be deleted: %s", path, error)
    return target


def export(folder: Path, policy: "Policy", environment: Mapping[str, Any]) -> None:
    """Writes a trained model with its environment.json to `folder`, as `write_folder` does; rank 0 only."""
    if rank() == 0:
        write_folder(folder, lambda aside: write_model(aside, policy, environment))


def write_model(folder: Path, policy: "Policy", environment: Mapping[str, Any]) -> None:
    """Writes weights, tokenizer, environment.json and how to open them into a folder that is there."""
    from spg_trainer.models.load import save_model

    save_model(policy, folder)
    (folder / "README.md").write_text(opening(), encoding="utf-8")
    (folder / ENVIRONMENT).write_text(json_document(environment), encoding="utf-8")


def opening(name: str = "PATH OF THIS FOLDER", env: str = "") -> str:
    """How to open a model or adapter, in Markdown. name: its folder or Hub id. env: to measure it on."""
    return f"""\
A masked diffusion language model of the architecture `llada`; transformers opens it where spg-trainer is installed:

```python
import spg_trainer.models  # registers `llada` with transformers
from transformers import AutoModelForMaskedLM, AutoTokenizer

model = AutoModelForMaskedLM.from_pretrained("{name}")
tokenizer = AutoTokenizer.from_pretrained("{name}")
```

`python -m spg_trainer eval --model {name}{env and f" --env {env}"}` measures it.
"""


def latest_complete(run: Path) -> Path | None:
    """The newest whole checkpoint of a run folder, or None; each torn one that is passed over is logged."""
    for path in reversed(_checkpoints(run)):
        if (problem := incomplete(path)) is None:
            return path
        _log.warning("Checkpoint %s %s; it is passed over.", path, problem)
    return None


def locate(path: Path) -> tuple[Path, Path | None]:
    """What `--resume PATH` means: (run folder, checkpoint), for the path of either; None = start at step 0.

    Raises CheckpointError if the path does not exist, or names a checkpoint that is not whole.
    """
    if not path.is_dir():
        raise CheckpointError(f"--resume {path}: no such folder. Give a run folder, a checkpoint, or auto.")
    if not path.name.startswith("step-"):
        return path, latest_complete(path)
    check(path)
    home = path.resolve().parent
    return (home.parent if home.name == _SUPERSEDED else home).parent, path


def load(folder: Path, policy: "Policy", optimizer: "Optimizer | None" = None) -> dict[str, Any]:
    """Puts weights and optimizer back in place, bit for bit, and returns the saved counters.

    optimizer: None = the weights only. Parameters keep their identity. Raises CheckpointError if the checkpoint is
    torn, or of another kind of model.
    """
    import torch
    from safetensors import SafetensorError

    check(folder)
    try:
        if hasattr(policy.model, "peft_config"):
            from peft import load_peft_weights, set_peft_model_state_dict

            set_peft_model_state_dict(policy.model, load_peft_weights(str(folder), device="cpu"))
        else:
            from spg_trainer.models.load import no_progress_bars

            with no_progress_bars():  # a progress bar would cut through the live line
                saved = type(policy.model).from_pretrained(folder, dtype=policy.model.dtype)
            policy.model.load_state_dict(saved.state_dict())
        if optimizer is not None:
            training = torch.load(folder / "training.pt", map_location="cpu", weights_only=True)
            optimizer.load_state_dict(training["optimizer"])
        return json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError) as error:
        from spg_trainer.models.resolve import first_line

        raise CheckpointError(
            f"Checkpoint {folder} does not fit this run: {first_line(error)}. Resume with the run's own --model and "
            "--lora-r, or from another of its checkpoints with --resume PATH."
        ) from error


def check(folder: Path) -> None:
    """Raises CheckpointError, saying what is missing, unless `folder` is a whole checkpoint."""
    if problem := incomplete(folder):
        raise CheckpointError(
            f"Checkpoint {folder} {problem}. Give another, or the run folder for the newest."
        )


def set_aside_after(run: Path, step: int) -> None:
    """Moves whole checkpoints later than `step`, where a run continues, to checkpoints/superseded; deletes torn ones.

    They belong to another continuation and are not ours to delete.
    """
    for path in (path for path in _checkpoints(run) if _step(path) > step):
        if incomplete(path):
            delete_folder(path)
            continue
        place = unused(path.parent / _SUPERSEDED / path.name)
        place.parent.mkdir(exist_ok=True)
        os.replace(path, place)
        _log.warning("A later checkpoint was moved to %s.", place)


def at_step(run: Path, step: int) -> Path:
    """The checkpoint of a step, there or not."""
    return run / "checkpoints" / f"step-{step:06d}"


def _checkpoints(run: Path) -> list[Path]:
    """Visible checkpoints of a run, whole or torn, oldest first."""
    folders = (run / "checkpoints").glob("step-*")
    return sorted((path for path in folders if path.name[5:].isdigit()), key=_step)


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))

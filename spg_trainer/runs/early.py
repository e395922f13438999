"""What a command asks for that cannot be, found before torch is loaded, which takes seconds.

Names, numbers and devices, and the files and folders that it reads and writes.
"""

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.runs.files import writing
from spg_trainer.runs.folder import choose_folder
from spg_trainer.settings.checks import check_common, check_eval
from spg_trainer.settings.fields import Config, EvalCommand, MergeCommand, SftCommand
from spg_trainer.settings.sources import SFT
from spg_trainer.settings.weights import is_embedded, resolve_model


def look_first(command: Any) -> None:
    """Raises SpgError for a command line that would fail later for what its files and names already say."""
    if isinstance(command, MergeCommand):
        if command.source:
            resolve_model(command.source)
        return
    if not isinstance(command, Config | EvalCommand | SftCommand):
        return
    check_common(command)
    check_device(command.model.device)
    if not is_embedded(command.model.model, "new"):
        resolve_model(command.model.model, command.env)
    if isinstance(command, EvalCommand):
        check_eval(command)
    elif isinstance(command, SftCommand):
        goes_on(command, sft_folder(command))
    elif not command.dry_run:
        choose_folder(command)


def check_device(name: str) -> None:
    """Raises ModelError for a CUDA device where the installed torch has no CUDA."""
    try:
        build = version("torch")
    except PackageNotFoundError:  # its import will say so
        return
    if name.startswith("cuda") and build.endswith("+cpu"):
        raise ModelError(
            f"device {name!r}: torch {build} is built without CUDA; use --device cpu, or install torch for CUDA "
            "(pytorch.org)"
        )


def sft_folder(command: SftCommand) -> Path:
    """The folder that `sft` writes into. Raises ConfigError for one to resume that holds no model of `sft`."""
    if command.resume in (None, "auto"):
        return Path(command.output_dir or f"models/{command.env.rpartition('/')[2]}-sft-s{command.seed}")
    folder = Path(command.resume)
    if not (folder / SFT).is_file():
        raise ConfigError(f"--resume {folder}: it holds no {SFT}. Name the folder of a model made by `sft`.")
    return folder


def goes_on(command: SftCommand, folder: Path) -> bool:
    """Whether the folder holds what the command resumes; SpgError where it holds something else."""
    if command.resume and (folder / SFT).is_file():
        return True
    names: list[str] = []
    if folder.exists():
        with writing(folder):
            names = os.listdir(folder)
    if any(not name.startswith(".") for name in names):
        raise ConfigError(f"--output-dir {folder} is not empty. Choose another, or use --resume auto.")
    return False

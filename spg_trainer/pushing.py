"""`push`: a finished run's model on the Hugging Face Hub, in one commit, with a card."""

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from spg_trainer.errors import ConfigError
from spg_trainer.merging import MERGED
from spg_trainer.models.source import looks_local, resolve_model
from spg_trainer.reporting.figures import curve
from spg_trainer.reporting.runs import read_run
from spg_trainer.run_card import CURVE, run_card
from spg_trainer.runs.files import (
    CHOOSE_ANOTHER,
    COMPLETE,
    incomplete,
    json_document,
    without_folders,
    write_text,
    writing,
)
from spg_trainer.runs.folder import SUMMARY
from spg_trainer.settings.fields import PushCommand
from spg_trainer.settings.packages import envs
from spg_trainer.settings.sources import ENVIRONMENT

README = "README.md"


def push(command: PushCommand) -> None:
    """Uploads, and says where. Raises ConfigError before anything is sent if it can."""
    check_repo(command.repo)
    if not command.run:
        raise ConfigError("No run to push. Give a finished run, e.g. runs/NAME.")
    run = read_run(command.run)
    folder = run.path / (MERGED if command.merged else "model")
    if run.summary is None:
        raise ConfigError(
            f"{run.path} is not finished: {SUMMARY} is missing. Finish it with --resume {run.path}."
        )
    if problem := incomplete(folder):
        todo = f" Write it with: python -m spg_trainer merge {run.path}" if command.merged else ""
        raise ConfigError(f"{folder} {problem}.{todo}")
    source = resolve_model(str(folder))
    base = hub_id(source.base if source.adapter else run.config.model.model)
    if source.adapter and base is None:
        raise ConfigError(
            f"{folder} is an adapter on {source.base}, a folder that nobody else has. Push the whole model: "
            f"python -m spg_trainer merge {run.path}, then this command with --merged."
        )
    card = run_card(run, command.repo, base, adapter=source.adapter is not None)
    with tempfile.TemporaryDirectory() as aside:
        curve([run.path], Path(aside) / CURVE)
        files: dict[str, Any] = {README: card.encode(), CURVE: (Path(aside) / CURVE).read_bytes()}
    if command.dry_run:
        place = run.path / "card"
        write_text(place / README, card, CHOOSE_ANOTHER)
        with writing(place / CURVE, CHOOSE_ANOTHER):
            (place / CURVE).write_bytes(files[CURVE])
        sys.stdout.write(f"{place / README}\n")
        return
    for path in sorted(path for path in folder.iterdir() if path.name not in (README, COMPLETE)):
        files[path.name] = without_places(path) if path.name == ENVIRONMENT else path
    sys.stdout.write(f"{upload(command, files)}\n")


def check_repo(repo: str) -> None:
    """Raises ConfigError unless it is a NAME/ID of the Hub."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repo)
        if "/" not in repo:
            raise HFValidationError("your name or your organisation's is missing")
    except HFValidationError as error:
        raise ConfigError(
            f"--repo {repo!r}: {error}. Give NAME/ID, e.g. --repo my-name/llada-sudoku"
        ) from None


def hub_id(base: str) -> str | None:
    """The base if it is one of the Hub; None for `tiny` and folders."""
    return None if base == "tiny" or Path(base).is_dir() or looks_local(base) else base


def without_places(file: Path) -> bytes:
    """environment.json without the folders of this machine."""
    record = without_folders(json.loads(file.read_text(encoding="utf-8")))
    if "base_model" in record and hub_id(record["base_model"]) is None:
        record["base_model"] = Path(record["base_model"]).name
    return json_document(record).encode()


def upload(command: PushCommand, files: dict[str, Any]) -> str:
    """One commit of all files; returns its address. Raises ConfigError with what the Hub said, and what to do."""
    from huggingface_hub import CommitOperationAdd, HfApi, get_token
    from huggingface_hub.errors import HTTPError

    if get_token() is None:
        raise ConfigError(
            "The Hub needs a token with the right to write: `hf auth login`, or HF_TOKEN=... in front."
        )
    if why := envs.hub.why_offline():
        raise ConfigError(f"The Hub does not answer: {why}. The card alone, without a network: --dry-run")
    api, repo = HfApi(), command.repo
    try:
        url = api.create_repo(repo, private=command.private or None, exist_ok=True)
        if command.private and not api.model_info(repo).private:
            raise ConfigError(
                f"{repo} is there and is public. Choose another --repo, or make it private on the Hub."
            )
        added = [CommitOperationAdd(name, content) for name, content in files.items()]
        api.create_commit(repo, added, commit_message=f"Model and card of {Path(command.run).name}")
    except HTTPError as error:
        said = str(error).strip().splitlines()[0].rstrip(".")
        owner = repo.partition("/")[0]
        raise ConfigError(
            f"The Hub refused {repo}: {said}. Is the token one of {owner}, to write?"
        ) from error
    return str(url)

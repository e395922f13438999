"""The folder of a run: what it holds, who may write to it, and what a resumed run cuts to do it again."""

import json
import logging
import math
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from spg_trainer.distributed import rank
from spg_trainer.errors import CheckpointError, ConfigError, ModelError
from spg_trainer.runs.checkpoint import set_aside_after
from spg_trainer.runs.environment_file import FOLDER
from spg_trainer.runs.files import (
    CHOOSE_ANOTHER,
    RESUME,
    json_document,
    json_line,
    read_json,
    unused,
    write_text,
    writing,
)
from spg_trainer.settings.adapters import REFERENCE
from spg_trainer.settings.sources import CONFIG, ENVIRONMENT, PRESET, identity, read_config

if TYPE_CHECKING:
    from filelock import FileLock

    from spg_trainer.settings.fields import Config

METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"
SUMMARY = "summary.json"
REPORT = "report.html"
LOCK = ".lock"
_OURS = {CONFIG, PRESET, METRICS, TIMINGS, SUMMARY, REPORT, ENVIRONMENT, FOLDER, REFERENCE}
_OURS |= {"samples", "eval", "checkpoints", "model"}
_STEP = re.compile(r"step-(\d+)")
_LOCKS: "dict[Path, FileLock]" = {}
_log = logging.getLogger(__name__)


class RunFolder:
    """Writes a run's files, on rank 0 only; every writer raises CheckpointError if the disk refuses."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @staticmethod
    def default_path(env: str, algorithm: str, seed: int) -> Path:
        """runs/ENV-ALGORITHM-sSEED-UTCTIME, not yet taken; ask on rank 0 only, because clocks differ."""
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        name = re.sub(r"[^\w.\[\]=-]+", "_", f"{env}-{algorithm}-s{seed}-{moment}").strip("._")
        return unused(Path("runs") / name)

    def refuse_other_run(self) -> None:
        """Raises ConfigError if the folder holds another run, or anything but logs and hidden files."""
        if rank():
            return
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--output-dir {self.path} is a file. Choose a folder that is new or empty.")
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if names & (_OURS - {ENVIRONMENT}):
            rows = self.history()
            steps = rows[-1].get("step", len(rows)) if rows else 0
            finished = (self.path / SUMMARY).exists()
            end = "finished: it needs a larger --max-steps" if finished else "unfinished"
            text = f"--output-dir {self.path} already holds a run ({steps} steps, {end})"
            raise ConfigError(f"{text}. Continue it with --resume auto, or choose another --output-dir.")
        foreign = sorted(
            n for n in names - {ENVIRONMENT} if not n.startswith(".") and not n.endswith((".log", ".out"))
        )
        if foreign:
            text = f"--output-dir {self.path} is not empty and holds no run"
            entries = f"{len(foreign)} entries: {', '.join(foreign[:3])}"
            raise ConfigError(f"{text} ({entries}). Choose a folder that is new or empty.")

    def create(
        self, config_yaml: str, environment: Mapping[str, Any], preset_yaml: str | None = None
    ) -> None:
        """Starts a run here and keeps other processes out; ConfigError if the folder is taken or cannot be made.

        preset_yaml: what the settings were before any flag.
        """
        if rank():
            return
        try:
            self.refuse_other_run()
            self.path.mkdir(parents=True, exist_ok=True)
            lock(self.path)
            self.refuse_other_run()  # two runs may have passed the first look together
            write_text(self.path / ENVIRONMENT, json_document(environment))
            write_text(self.path / CONFIG, config_yaml)
            if preset_yaml is not None:
                write_text(self.path / PRESET, preset_yaml)
        except (OSError, CheckpointError) as error:
            raise ConfigError(f"--output-dir {self.path} cannot be used: {error}. Choose another.") from error

    def config(self, config_yaml: str) -> None:
        self._write(CONFIG, config_yaml)

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a row of reproducible values (`step` among them) to metrics.jsonl; NaN becomes null."""
        self._append(METRICS, row)

    def timings(self, row: Mapping[str, Any]) -> None:
        """Appends a row of seconds and rates (`step` among them) to timings.jsonl."""
        self._append(TIMINGS, row)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Writes samples/step-NNNNNN.jsonl, one completion per line."""
        return self._write(f"samples/step-{step:06d}.jsonl", "".join(map(json_line, rows)))

    def evaluation(
        self, name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], advice: str = RESUME
    ) -> Path:
        """Writes eval/NAME.jsonl (a line per completion), then eval/NAME.json; returns the latter."""
        file = self.evaluation_path(name).relative_to(self.path)
        self._write(f"{file}l", "".join(map(json_line, rows)), advice)
        return self._write(file, json_document(result), advice)

    def evaluation_path(self, name: str) -> Path:
        """Where the figures of the evaluation NAME are written; characters that trouble a shell become `_`."""
        return self.path / "eval" / (re.sub(r"[^\w.\[\]=,+-]+", "_", name) + ".json")

    def summary(self, content: Mapping[str, Any]) -> None:
        """Writes summary.json, which marks the run as finished."""
        self._write(SUMMARY, json_document(content))

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl so far, oldest first; torn lines are left out."""
        return self.rows(METRICS)

    def rows(self, name: str) -> list[dict[str, Any]]:
        """The rows of a JSONL file of the run so far; torn lines are left out, an absent file has none."""
        return [json.loads(text) for text in _whole_lines(self.path / name)]

    def figures(self, name: str) -> dict[str, Any] | None:
        """What the evaluation NAME found, if it has been made."""
        return read_json(self.evaluation_path(name))

    def evaluation_rows(self, name: str) -> list[dict[str, Any]] | None:
        """Every completion of the evaluation NAME, if it has been made and both of its files are there."""
        file = self.evaluation_path(name)
        return (self.rows(f"eval/{file.name}l") or None) if file.is_file() else None

    def keep_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends completions of the evaluation NAME, which is not done, to a file of this process, whichever it is."""
        path = self.path / "eval" / f".{name}.part-{rank()}"
        with writing(path, CHOOSE_ANOTHER), open(path, "a", encoding="utf-8") as file:
            file.write("\n" + "".join(map(json_line, rows)))  # behind a line that a kill may have torn

    def kept_rows(self, name: str) -> list[dict[str, Any]]:
        """What all processes have kept of the evaluation NAME."""
        return [json.loads(text) for path in self._parts(name) for text in _whole_lines(path)]

    def drop_rows(self, name: str) -> None:
        """Removes what was kept of the evaluation NAME."""
        if rank() == 0:
            for path in self._parts(name):
                path.unlink()

    def _parts(self, name: str) -> list[Path]:
        return sorted((self.path / "eval").glob(f".{name}.part-*"))

    def validations(self) -> dict[int, list[bool]]:
        """Step -> whether each problem was solved, of the validations made so far."""
        files = {int(file.stem[5:]): file for file in (self.path / "eval").glob("step-*.json")}
        return {
            step: [json.loads(text)["correct"] for text in _whole_lines(files[step].with_suffix(".jsonl"))]
            for step in sorted(files)
        }

    def truncate_after(self, step: int) -> None:
        """Readies the folder for a run that continues from `step`: what came later will be done again.

        Cuts later rows and torn lines, removes summary, report, later samples and evaluations (`after` too, if
        that was of a later step), moves later checkpoints to checkpoints/superseded, and keeps other processes out. A
        folder that holds no run is left as it is.
        Raises ConfigError if another process is writing here.
        """
        if rank() or not self.path.is_dir() or not {entry.name for entry in self.path.iterdir()} & _OURS:
            return
        with writing(self.path):
            lock(self.path)
            for path in self.path.glob(".*.tmp-*"):
                path.unlink()
            for file in (self.path / METRICS, self.path / TIMINGS):
                if file.exists():
                    rows = [text for text in _whole_lines(file) if json.loads(text).get("step", 0) <= step]
                    write_text(file, "".join(text + "\n" for text in rows))
            for path in [*self.path.glob("samples/*"), *self.path.glob("eval/*")]:
                match = _STEP.match(path.name)
                if ".tmp-" in path.name or (match and int(match[1]) > step):
                    path.unlink()
            if (after := self.figures("after")) and after.get("step", math.inf) > step:
                self.evaluation_path("after").unlink()
            for name in (SUMMARY, REPORT):
                (self.path / name).unlink(missing_ok=True)
            for path in set_aside_after(self.path, step):
                _log.warning(
                    "A later checkpoint was moved to %s: the run continues from step %d.", path, step
                )

    def release(self) -> None:
        """Lets other processes write here again; the end of the process does so too."""
        unlock(self.path)

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if rank() == 0:
            with writing(self.path / name), open(self.path / name, "a", encoding="utf-8") as file:
                file.write(json_line(row))

    def _write(self, name: str | Path, text: str, advice: str = RESUME) -> Path:
        if rank() == 0:
            write_text(self.path / name, text, advice)
        return self.path / name


def lock(folder: Path) -> None:
    """Takes a folder for this process until it ends or unlocks it, however it ends; ConfigError if another has it."""
    place = folder.resolve()
    if place in _LOCKS:
        return
    own, owner = _try_lock(place)
    if owner is not None:
        text = f"{folder} is being written by another process ({owner})"
        raise ConfigError(f"{text}. Wait for it, stop it, or choose another --output-dir.")
    (place / LOCK).write_text(f"pid {os.getpid()}", encoding="utf-8")
    _LOCKS[place] = own


def unlock(folder: Path) -> None:
    """Lets other processes have the folder again."""
    if own := _LOCKS.pop(folder.resolve(), None):
        own.release()


def find_unfinished(root: Path, config: "Config") -> Path | None:
    """The newest unfinished run under `root` that `config` may continue, for `--resume auto`.

    Those in which another process is writing at this moment are passed over with a message.
    """
    runs = []
    for file in root.glob(f"*/{CONFIG}"):
        run = file.parent
        try:
            own = read_config(file)
            if (run / SUMMARY).exists() or own.model.model != config.model.model:
                continue
            if identity(own, run) != identity(config, run):
                continue
        except (ConfigError, ModelError) as error:
            _log.warning("%s is passed over: %s", run, error)
            continue
        owner = None
        if run.resolve() not in _LOCKS and (run / LOCK).exists():
            other, owner = _try_lock(run)
            other.release()
        if owner is None:
            runs.append((file.stat().st_mtime_ns, run.name, run))
        else:
            _log.warning("%s has the same config but is being trained (%s); it is passed over.", run, owner)
    return max(runs)[-1] if runs else None


def _whole_lines(path: Path) -> list[str]:
    """Lines that end in a newline and hold a JSON object, without the newline; an absent file has none."""
    whole = []
    for text in path.read_bytes().split(b"\n")[:-1] if path.exists() else ():
        with suppress(ValueError):
            if isinstance(json.loads(text), dict):
                whole.append(text.decode())
    return whole


def _try_lock(run: Path) -> "tuple[FileLock, str | None]":
    """The lock of a run folder, and who holds it if that is another process; where nothing can be locked, nobody."""
    from filelock import FileLock, Timeout

    own = FileLock(run / LOCK, blocking=False, fallback_to_soft=False)
    try:
        own.acquire()
    except Timeout:
        return own, (run / LOCK).read_text(encoding="utf-8") or "unknown pid"
    except (OSError, NotImplementedError):  # a file system or platform without locks
        pass
    return own, None

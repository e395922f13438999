"""The folder of a run: what it holds, who may write to it, and what a resumed run cuts to do it again."""

import itertools
import json
import logging
import os
import re
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from spg_trainer.checkpoint import ENVIRONMENT, set_aside_after
from spg_trainer.errors import CheckpointError, ConfigError
from spg_trainer.files import RESUME, document, flat, line, plain, rank, write_whole, writing

CONFIG = "config.yaml"
METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"
SUMMARY = "summary.json"
_OURS = (CONFIG, METRICS, TIMINGS, SUMMARY, ENVIRONMENT, "samples", "eval", "checkpoints", "model")
_STEP = re.compile(r"step-(\d+)")
_LOCKS: dict[Path, IO[str]] = {}
_log = logging.getLogger(__name__)


class RunFolder:
    """Writes a run's records; on every process but rank 0 the writers do nothing.

    Raises CheckpointError from any writer if the disk refuses.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._continued = False

    @staticmethod
    def default_path(env: str, algorithm: str, seed: int) -> Path:
        """runs/ENV-ALGORITHM-sSEED-UTCTIME, not yet taken; ask on rank 0 only, because clocks differ."""
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        name = re.sub(r"[^\w.\[\]=-]+", "_", f"{env}-{algorithm}-s{seed}-{moment}").strip("._")
        names = (name if number == 1 else f"{name}-{number}" for number in itertools.count(1))
        return next(path for path in (Path("runs") / name for name in names) if not path.exists())

    def refuse_other_run(self) -> None:
        """Raises ConfigError if a new run cannot live here, because of another run or of foreign files.

        An absent folder is fine, and so is one with nothing but logs and hidden files.
        """
        if rank():
            return
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"--output-dir {self.path} is a file. Choose a folder that is new or empty.")
        names = {entry.name for entry in self.path.iterdir()} if self.path.is_dir() else set()
        if names & set(_OURS):
            raise ConfigError(
                f"--output-dir {self.path} already holds a run ({self._content()}). "
                "Continue it with --resume auto (and a larger --max-steps if it is finished), "
                "or choose another --output-dir."
            )
        foreign = sorted(n for n in names if not n.startswith(".") and not n.endswith((".log", ".out")))
        if foreign:
            shown = ", ".join(foreign[:3]) + (", ..." if len(foreign) > 3 else "")
            raise ConfigError(
                f"--output-dir {self.path} is not empty and holds no run ({len(foreign)} entries: {shown}). "
                "Choose a folder that is new or empty."
            )

    def create(self, config_yaml: str, environment: Mapping[str, Any]) -> None:
        """Starts a run here: writes config.yaml and environment.json and keeps other processes out.

        After `truncate_after` on a folder that holds a run, that run is started anew.
        Raises ConfigError as `refuse_other_run` does, or if the folder cannot be made.
        """
        if rank():
            return
        try:
            if not self._continued:
                self.refuse_other_run()
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
            if not self._continued:
                self.refuse_other_run()  # two runs may have passed the first look together
            write_whole(self.path / ENVIRONMENT, document(environment))
            write_whole(self.path / CONFIG, config_yaml)
        except (OSError, CheckpointError) as error:
            text = f"--output-dir {self.path} cannot be used: {error}. Choose another folder."
            raise ConfigError(text) from error

    def metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a row of reproducible values (`step` among them) to metrics.jsonl; NaN becomes null."""
        self._append(METRICS, row)

    def timings(self, row: Mapping[str, Any]) -> None:
        """Appends a row of seconds and rates (`step` among them) to timings.jsonl."""
        self._append(TIMINGS, row)

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Writes samples/step-NNNNNN.jsonl, one completion per line."""
        return self._lines(self.path / "samples" / f"step-{step:06d}.jsonl", rows)

    def evaluation(
        self, name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], advice: str = RESUME
    ) -> Path:
        """Writes eval/NAME.jsonl (a line per completion), then eval/NAME.json; returns the latter."""
        path = self.evaluation_path(name)
        self._lines(path.with_name(f"{path.name}l"), rows, advice)
        if not rank():
            write_whole(path, document(result), advice)
        return path

    def evaluation_path(self, name: str) -> Path:
        """Where the figures of the evaluation NAME are written; characters that trouble a shell become `_`."""
        return self.path / "eval" / (re.sub(r"[^\w.\[\]=,+-]+", "_", name) + ".json")

    def summary(self, content: Mapping[str, Any]) -> None:
        """Writes summary.json, which marks the run as finished."""
        if not rank():
            write_whole(self.path / SUMMARY, document(content))

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl so far, oldest first; torn lines are left out."""
        return [json.loads(text) for text in _whole_lines(self.path / METRICS)]

    def truncate_after(self, step: int) -> None:
        """Readies the folder for a run that goes on from `step`: what came later will be done again.

        Cuts later rows and torn lines of metrics.jsonl and timings.jsonl, removes summary.json and later
        samples and evaluations, moves later checkpoints to checkpoints/superseded, and keeps other processes
        out. A folder that is absent or holds no run is left as it is.
        Raises ConfigError if another process is writing here.
        """
        if rank() or not self.path.is_dir() or not {entry.name for entry in self.path.iterdir()} & set(_OURS):
            return
        self._lock()
        self._continued = True
        with writing(self.path):
            for path in self.path.glob(".*.tmp-*"):
                path.unlink()
            for name in (METRICS, TIMINGS):
                _cut(self.path / name, step)
            for path in [*self.path.glob("samples/*"), *self.path.glob("eval/*")]:
                found = _STEP.search(path.name)
                if path.name.startswith(".") or (found and int(found[1]) > step):
                    path.unlink()
            (self.path / SUMMARY).unlink(missing_ok=True)
            for path in set_aside_after(self.path, step):
                _log.warning("A later checkpoint was moved to %s: the run goes on from step %d.", path, step)

    def release(self) -> None:
        """Lets other processes write here again; the end of the process does so too."""
        handle = _LOCKS.pop(self.path.resolve(), None)
        if handle is not None:
            handle.close()

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if not rank():
            with writing(self.path / name), open(self.path / name, "a", encoding="utf-8") as file:
                file.write(line(row))

    def _lines(self, path: Path, rows: Sequence[Mapping[str, Any]], advice: str = RESUME) -> Path:
        if not rank():
            write_whole(path, "".join(line(row) for row in rows), advice)
        return path

    def _content(self) -> str:
        rows = self.history()
        end = "finished" if (self.path / SUMMARY).exists() else "unfinished"
        return f"{rows[-1].get('step', len(rows)) if rows else 0} steps, {end}"

    def _lock(self) -> None:
        """Takes the folder for this process until it ends or releases it, however it ends."""
        key = self.path.resolve()
        if key in _LOCKS:
            return
        handle = open(key / ".lock", "a+", encoding="utf-8")
        owner = _flock(handle)
        if owner is not None:
            handle.close()
            raise ConfigError(
                f"{self.path} is being written by another process ({owner}). "
                "Wait for it or stop it, or choose another --output-dir."
            )
        handle.seek(0)
        handle.truncate()
        handle.write(f"pid {os.getpid()}")
        handle.flush()
        _LOCKS[key] = handle


def find_unfinished(root: Path, config: Mapping[str, Any], ignore: Collection[str] = ()) -> Path | None:
    """The newest run folder under `root` with an equal config and no summary.json, for `--resume auto`.

    config: nested, as config.yaml holds it. ignore: fields that may differ, by dotted path.
    Folders in which another process is writing at this moment are passed over with a message.
    """
    import yaml

    wanted = flat(plain(config), ignore)
    found = []
    for file in root.glob(f"*/{CONFIG}"):
        run = file.parent
        try:
            held = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            _log.warning("%s cannot be read and is passed over: %s", file, error)
            continue
        if (run / SUMMARY).exists() or not isinstance(held, Mapping) or flat(plain(held), ignore) != wanted:
            continue
        owner = _owner(run)
        if owner is None:
            found.append((file.stat().st_mtime_ns, run.name, run))
        else:
            _log.warning("%s has the same config but is being trained (%s); it is passed over.", run, owner)
    return max(found)[-1] if found else None


def _whole_lines(path: Path) -> list[str]:
    """Lines that end in a newline and hold a JSON object, without the newline; an absent file has none."""
    if not path.exists():
        return []
    whole = []
    for text in path.read_bytes().split(b"\n")[:-1]:
        try:
            if isinstance(json.loads(text), dict):
                whole.append(text.decode())
        except ValueError:
            continue
    return whole


def _cut(path: Path, step: int) -> None:
    if path.exists():
        kept = [text for text in _whole_lines(path) if json.loads(text).get("step", 0) <= step]
        write_whole(path, "".join(text + "\n" for text in kept))


def _flock(handle: IO[str]) -> str | None:
    """Locks an open file, or says who holds it; file systems and platforms without locks grant it."""
    try:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        handle.seek(0)
        return handle.read() or "unknown pid"
    except (ImportError, OSError):
        pass
    return None


def _owner(run: Path) -> str | None:
    """The other process that writes to a run folder now; None if there is none."""
    lock = run / ".lock"
    if run.resolve() in _LOCKS or not lock.exists():
        return None
    try:
        with open(lock, encoding="utf-8") as handle:
            return _flock(handle)
    except OSError:
        return None

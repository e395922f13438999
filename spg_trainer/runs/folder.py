"""The folder of a run: what it holds, which process may write to it, and what is removed when the run is resumed."""

import logging
import os
import re
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from spg_trainer import algorithms
from spg_trainer.distributed import rank
from spg_trainer.errors import ConfigError, ModelError
from spg_trainer.runs.checkpoint import find_checkpoint, latest_complete, run_of, set_aside_after
from spg_trainer.runs.files import (
    check_place,
    claim,
    json_line,
    read_json,
    read_lines,
    unused,
    write_text,
    writing,
)
from spg_trainer.runs.inputs import (
    ALGORITHM_COPIES,
    INPUTS,
    TASK_COPIES,
    Inputs,
    file_settings,
    find_inputs,
    write_inputs,
)
from spg_trainer.runs.resume import MAY_CHANGE, changed_settings, pin
from spg_trainer.settings.decoding import LENGTHS
from spg_trainer.settings.recorded import CONFIG, ENVIRONMENT, read_config
from spg_trainer.settings.task import parse_tasks
from spg_trainer.settings.types import json_document

if TYPE_CHECKING:
    from filelock import FileLock

    from spg_trainer.settings.configs import Config

METRICS = "metrics.jsonl"
TIMINGS = "timings.jsonl"
SUMMARY = "summary.json"
REPORT = "report.html"
LOCK = ".lock"
OTHER_CODE = "eval/other_code"
"""The folder for evaluations that the task's *other code* has judged: its code as it was before it was changed, and the
change accepted (--accept-changed-code)."""
LAST_STEP = "last_step.json"
"""The file in that folder with the last step that the other code has judged."""
_STEP = re.compile(r"(?:^|-)step-?(\d+)\.jsonl?$")
"""Names of files about a step: samples, validations, and evaluations that `eval` made of its checkpoint."""
_LOCKS: "dict[Path, FileLock]" = {}
"""{absolute path of a folder: the lock that this process holds on it}."""
_log = logging.getLogger(__name__)


class RunFolder:
    """Writes a run's files, on rank 0 only; every method that writes raises CheckpointError if the disk refuses."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._is_locked = False  # by this object

    @property
    def holds_run(self) -> bool:
        """Whether a run has begun here."""
        return (self.path / CONFIG).is_file()

    @property
    def go_on(self) -> str:
        """The words behind `python -m spg_trainer` that continue the run."""
        return f"--resume {shlex.quote(str(self.path))}"

    @staticmethod
    def default_path(env: str, algorithm: str, seed: int) -> Path:
        """runs/ENV-ALGORITHM-sSEED-UTCTIME, not yet taken. Call it on rank 0 only, because clocks differ."""
        moment = time.strftime("%Y%m%d-%H%M%S", time.gmtime())
        name = re.sub(r"[^\w.\[\]=+-]+", "_", f"{env}-{algorithm}-s{seed}-{moment}").strip("._")
        return unused(Path("runs") / name)

    def refuse_other_run(self) -> None:
        """Raises ConfigError if the folder holds another run, or anything but logs and hidden files."""
        if rank() or not self.path.exists():
            return
        with writing(self.path):
            names = os.listdir(self.path)
        # `create` writes these before the settings, so with them alone no run has begun.
        allowed = {ENVIRONMENT, INPUTS, TASK_COPIES, ALGORITHM_COPIES}

        def may_be_there(name: str) -> bool:
            return name.startswith(".") or name.endswith((".log", ".out")) or name in allowed

        taken = [name for name in names if not may_be_there(name)]
        if CONFIG in taken:
            raise self.error_of_overwriting()
        if taken:
            raise ConfigError(
                f"$output_dir={self.path} is not empty ({', '.join(sorted(taken)[:3])}) and holds no run that this "
                "command can continue. Choose a folder that is new or empty."
            )

    def error_of_overwriting(self) -> ConfigError:
        """The error to raise if a new run would be written over this one."""
        count = len(self.history())
        steps = "1 step" if count == 1 else f"{count} steps"
        resume = f"$resume={shlex.quote(str(self.path))}"
        return ConfigError(
            f"$output_dir={self.path} already holds a run of {steps}. Continue it with "
            f"{resume} (a finished one with a larger $max_steps), or choose another $output_dir."
        )

    def create(
        self, config_yaml: str, environment: Mapping[str, Any], inputs: Inputs = MappingProxyType({})
    ) -> None:
        """Starts a run here and locks out other processes; ConfigError if there is a run already.

        config_yaml, environment, inputs: the content of three files. The first of them marks a run, so it is written
        last. `choose_folder` has checked before that the folder holds nothing else.
        """
        if rank():
            return
        with writing(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock()
        if self.holds_run:  # another process began a run since the folder was chosen
            raise self.error_of_overwriting()
        write_text(self.path / ENVIRONMENT, json_document(environment))
        write_inputs(self.path, inputs)
        self.write_config(config_yaml)

    def write_config(self, config_yaml: str) -> None:
        """Writes the file of the run's settings."""
        self._write(CONFIG, config_yaml)

    def append_metrics(self, row: Mapping[str, Any]) -> None:
        """Appends a row of reproducible values (`step` among them) to metrics.jsonl; NaN becomes null."""
        self._append(METRICS, [row])

    def append_timings(self, row: Mapping[str, Any]) -> None:
        """Appends a row of seconds and rates (`step` among them) to timings.jsonl."""
        self._append(TIMINGS, [row])

    def last_timings(self) -> dict[str, Any]:
        """The last row of timings.jsonl; {} before the first step."""
        return (read_lines(self.path / TIMINGS) or [{}])[-1]

    def write_samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes samples/step-NNNNNN.jsonl, one completion per line."""
        self._write(f"samples/step-{step:06d}.jsonl", "".join(map(json_line, rows)))

    def write_evaluation(
        self, name: str, result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]
    ) -> Path:
        """Writes eval/NAME.jsonl, a line per completion, then eval/NAME.json. Returns the path of the JSON file."""
        self._write(self._completions_file(name), "".join(map(json_line, rows)))
        return self._write(f"eval/{self.evaluation_path(name).name}", json_document(result))

    def write_perplexity(self, texts: str, result: Mapping[str, Any]) -> Path:
        """Writes the result for texts NAME.jsonl to perplexity-NAME.json, and returns this file.

        For another file of texts that has the same name, it is perplexity-NAME-2.json.
        """
        name = re.sub(r"[^\w.+-]+", "_", Path(texts).stem)
        file, number = f"perplexity-{name}.json", 1
        # An earlier result is overwritten only if it is for the same texts.
        while (earlier := read_json(self.path / file)) and earlier["file"] != texts:
            number += 1
            file = f"perplexity-{name}-{number}.json"
        return self._write(file, json_document(result))

    def evaluation_path(self, name: str) -> Path:
        """The file for the figures of the evaluation NAME; characters that a shell would interpret become `_`."""
        return self.path / "eval" / (re.sub(r"[^\w.\[\]=,+-]+", "_", name) + ".json")

    def _completions_file(self, name: str) -> str:
        """The file, within the run's folder, for the completions of the evaluation NAME."""
        return f"eval/{self.evaluation_path(name).stem}.jsonl"

    def figures(self, name: str) -> dict[str, Any] | None:
        """The results of the evaluation NAME; None if it has not been made."""
        return read_json(self.evaluation_path(name))

    def add_completions(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Appends completions to those of the unfinished evaluation NAME."""
        self._append(self._completions_file(name), rows)

    def completions(self, name: str) -> list[dict[str, Any]]:
        """The completions of the evaluation NAME so far."""
        return read_lines(self.path / self._completions_file(name))

    def validations(self) -> dict[int, Any]:
        """{step: whether each problem was solved, or the loss of the held-out texts}, of the validations so far."""
        found: dict[int, Any] = {}
        for file in sorted((self.path / "eval").glob("step-*.json")):
            figures, step = self.figures(file.stem) or {}, int(file.stem.removeprefix("step-"))
            if "loss" in figures:
                found[step] = figures["loss"]
            elif "correct" in figures:  # otherwise the validation is not finished
                found[step] = [row["correct"] for row in self.completions(file.stem)]
        return found

    def set_aside_evaluations(self, step: int) -> None:
        """Moves all evaluations to `OTHER_CODE`: other code has judged them, so later ones are not compared with them.

        step: the last step that the other code has judged.
        """
        if rank():
            return
        with writing(self.path):
            (self.path / OTHER_CODE).mkdir(parents=True, exist_ok=True)
            for path in (self.path / "eval").glob("*.json*"):
                os.replace(path, unused(self.path / OTHER_CODE / path.name))
        self._write(f"{OTHER_CODE}/{LAST_STEP}", json_document({"step": step}))

    def last_step_of_other_code(self, step: int) -> int:
        """The last step up to `step` whose completions the task's other code has judged; 0 = none.

        step: the step from which the run goes on; later steps are made again.
        """
        recorded = read_json(self.path / OTHER_CODE / LAST_STEP) or {"step": 0}
        return min(step, recorded["step"])

    @property
    def folder_of_other_start(self) -> str | None:
        """The folder with the evaluation before the first step, if the task's other code has judged it; else None."""
        aside = self.path / OTHER_CODE
        return str(aside) if (aside / self.evaluation_path("before").name).is_file() else None

    def write_summary(self, content: Mapping[str, Any]) -> None:
        """Writes summary.json, which marks the run as finished."""
        self._write(SUMMARY, json_document(content))

    def history(self) -> list[dict[str, Any]]:
        """The rows of metrics.jsonl so far, oldest first."""
        return read_lines(self.path / METRICS)

    def truncate_after(self, step: int) -> None:
        """Prepares the folder for a run that continues from `step` and does all later work again.

        Others are locked out; ConfigError if another run is writing, also one of this process. Summary and report are
        removed, and what the run has written of later steps: rows, incomplete lines, samples and validations. What
        `eval` has measured of later checkpoints is moved to eval/superseded, and the later checkpoints to
        checkpoints/superseded.
        """
        if rank():
            return
        with writing(self.path):
            self._lock()
            for name in (METRICS, TIMINGS):
                rows = read_lines(self.path / name)
                self._write(name, "".join(json_line(row) for row in rows if row["step"] <= step))
            for path in [*self.path.glob("samples/*"), *self.path.glob("eval/*")]:
                if (match := _STEP.search(path.name)) and int(match[1]) > step:
                    if path.name.startswith("step-"):
                        path.unlink()
                    else:  # an evaluation by `eval` of a checkpoint, which is moved, too, and not deleted
                        aside = path.parent / "superseded"
                        aside.mkdir(exist_ok=True)
                        os.replace(path, unused(aside / path.name))
            if (after := self.figures("after")) and after["step"] > step:
                self.evaluation_path("after").unlink()
            for path in [self.path / SUMMARY, self.path / REPORT, *self.path.rglob(".*.tmp-*")]:
                path.unlink(missing_ok=True)
            # The later steps are made again, and judged by the present code.
            if (self.path / OTHER_CODE / LAST_STEP).is_file():
                last_step = self.last_step_of_other_code(step)
                self._write(f"{OTHER_CODE}/{LAST_STEP}", json_document({"step": last_step}))
            set_aside_after(self.path, step)

    def _lock(self) -> None:
        if not self._is_locked:
            lock(self.path)
            self._is_locked = True

    def release(self) -> None:
        """Lets others write here again, as the end of the process would. What another run has locked stays locked."""
        if self._is_locked:
            unlock(self.path)
            self._is_locked = False

    def _append(self, name: str, rows: Sequence[Mapping[str, Any]]) -> None:
        if rank() == 0:
            with writing(self.path / name), open(self.path / name, "a", encoding="utf-8") as file:
                file.write("".join(map(json_line, rows)))

    def _write(self, name: str, text: str) -> Path:
        if rank() == 0:
            write_text(self.path / name, text)
        return self.path / name


def lock(folder: Path) -> None:
    """Locks a folder until this process ends or calls `unlock`; ConfigError if it is locked, also by this process."""
    place = folder.resolve()
    file_lock = _lock_or_refuse(folder)
    (place / LOCK).write_text(f"pid {os.getpid()}", encoding="utf-8")
    _LOCKS[place] = file_lock


def unlock(folder: Path) -> None:
    """Lets others lock the folder again."""
    if file_lock := _LOCKS.pop(folder.resolve(), None):
        file_lock.release()


def refuse_locked(folder: Path) -> None:
    """Raises ConfigError if the folder is locked, also by this process; does not lock the folder itself."""
    _lock_or_refuse(folder).release()  # it was only taken to see whether another run holds it


def _lock_or_refuse(folder: Path) -> "FileLock":
    """The lock of a folder, taken; ConfigError if it is locked, by another process or by a run of this one."""
    place = folder.resolve()
    if place in _LOCKS:
        raise _locked_by("another run of this process", folder)
    file_lock, owner = _try_lock(place)
    if owner is not None:
        raise _locked_by(f"another process ({owner})", folder)
    return file_lock


def find_unfinished(root: Path, config: "Config") -> Path | None:
    """The newest unfinished run under `root` that `config` may continue, for `--resume auto`; None if there is none.

    Changed code is not looked at here; it is refused later. A run to which another process is writing is skipped with a
    message.
    """
    files = [file for file in root.glob(f"*/{CONFIG}") if not (file.parent / SUMMARY).exists()]
    if not files:
        return None
    pinned = pin(config, algorithms.build(config.algorithm, config.hyper_parameters))
    lengths = {name: getattr(config.rollout, name) for name in LENGTHS}
    # Lengths that a training on demonstrations leaves open are chosen once its data is open.
    left_open = {f"rollout.{name}" for name, value in lengths.items() if not value or isinstance(value, str)}
    if not config.rollout.block_length:
        left_open.add("algorithm_args.block_length")
    may_change = MAY_CHANGE | left_open
    inputs = find_inputs(file_settings(pinned))
    for file in sorted(files, key=lambda file: file.stat().st_mtime_ns, reverse=True):
        run = file.parent
        try:
            if changed_settings(run, read_config(file), pinned, inputs, may_change):
                continue
        except (ConfigError, ModelError) as error:
            _log.warning("%s is passed over: %s", run, error)
            continue
        file_lock, owner = _try_lock(run)
        file_lock.release()  # it was only taken to see whether another process holds it
        if owner is None:
            return run
        _log.warning("%s has the same config but is being trained (%s); it is passed over.", run, owner)
    return None


def newest_unfinished(root: Path) -> Path | None:
    """The newest unfinished run under `root`, with any settings; None if there is none."""
    files = [file for file in root.glob(f"*/{CONFIG}") if not (file.parent / SUMMARY).exists()]
    return max(files, key=lambda file: file.stat().st_mtime_ns).parent if files else None


def choose_folder(command: "Config") -> tuple[Path, bool, Path | None]:
    """(path, is_resumed, checkpoint): the folder of a training, and whether a run in it is resumed.

    checkpoint: the checkpoint to resume from; None = the first step is the next one. Raises SpgError if the folder is
    taken, or if there is no run to resume.
    """
    resume, out = command.output.resume, command.output.output_dir
    if resume in (None, "auto"):
        path = Path(out) if out else default_folder(command, resume)
        folder = RunFolder(path)
        if resume and folder.holds_run:
            refuse_locked(path)
            is_resumed, checkpoint = True, latest_complete(path)
            return path, is_resumed, checkpoint
        folder.refuse_other_run()
        check_place(path)
        is_resumed, checkpoint = False, None
        return path, is_resumed, checkpoint
    path = run_of(Path(resume))
    if out and Path(out).resolve() != path.resolve():
        text = f"$resume={resume} continues in its own folder {path}, not in $output_dir={out}"
        raise ConfigError(f"{text}. Leave that out, or start a new run from these weights: $model={resume}.")
    if not RunFolder(path).holds_run:
        raise ConfigError(
            f"$resume={resume}: {path} holds no run. Give the folder of one, or a checkpoint in it."
        )
    refuse_locked(path)  # comes first, since a process that trains this run replaces its checkpoints
    _, checkpoint = find_checkpoint(Path(resume))
    is_resumed = True
    return path, is_resumed, checkpoint


def default_folder(command: "Config", resume: str | None) -> Path:
    """The folder of a training whose settings name none: a new one, or with --resume auto the newest unfinished run's.

    Raises ConfigError if --resume auto finds no such run.
    """
    if resume is None:
        # The name of a folder has no paths and modules.
        tasks = "+".join(task.last for task in parse_tasks(command.env or command.data))
        path = RunFolder.default_path(tasks, command.algorithm, command.seed)
        return path if command.dry_run else claim(path)
    path = find_unfinished(Path("runs"), command)
    if path is None:
        text = "$resume=auto: runs/ holds no unfinished run of these settings"
        if other := newest_unfinished(Path("runs")):
            remedy = (
                f"The newest of other settings is {other}: continue it with $resume={shlex.quote(str(other))}, or "
                "leave out $resume to begin a new run."
            )
        else:
            remedy = "Give its folder with $output_dir, or leave out $resume."
        raise ConfigError(f"{text}. {remedy}")
    return path


def _locked_by(owner: str, folder: Path) -> ConfigError:
    """The error to raise if `owner`, another process or another run of this process, has locked a run folder."""
    return ConfigError(
        f"{folder} is being written by {owner}, which trains this run. Wait until it ends or stop "
        "it, and then continue the run; for a run beside it, choose another $output_dir."
    )


def _try_lock(run: Path) -> "tuple[FileLock, str | None]":
    """(the lock of a run folder, its holder if that is another process).

    The holder is None, too, if the file system has no locks.
    """
    from filelock import FileLock, Timeout

    file_lock = FileLock(run / LOCK, blocking=False, fallback_to_soft=False)
    try:
        file_lock.acquire()
    except Timeout:
        return file_lock, (run / LOCK).read_text(encoding="utf-8") or "unknown pid"
    except (OSError, NotImplementedError):  # a file system or platform without locks
        pass
    return file_lock, None

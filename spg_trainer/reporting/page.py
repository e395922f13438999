"""The report on runs: one HTML file, made of `page.html`, `page.css` and `page.js`, that needs no network."""

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from spg_trainer import __version__
from spg_trainer.errors import ConfigError
from spg_trainer.reporting.curves import draw_panels
from spg_trainer.reporting.runs import Completions, Recorded, Row, group_by_setting, read_run
from spg_trainer.runs.files import as_path, write_text
from spg_trainer.runs.folder import REPORT
from spg_trainer.runs.progress import clean
from spg_trainer.settings.configs import ReportCommand
from spg_trainer.settings.packages import envs, verifiers
from spg_trainer.settings.recorded import shown_settings, to_yaml

MAX_BYTES = 3_000_000
"""Bytes that the completions of a page may take. A set of them, such as those of one evaluation, shows only its first
rows if all would take more than its share."""
RENDERED = 48
"""Problems before and after training that are also shown as their environment renders them."""
COLUMNS = ("index", "generation", "completion", "correct", "reward", "rewards", "reason", "tokens")
"""What the page's script gets of a completion as it was recorded."""


class Report:
    """A page about one or several runs; a notebook shows it. `html` is the page, `runs` are the folders."""

    def __init__(self, html: str, runs: Sequence[str] = ()) -> None:
        self.html, self.runs = html, tuple(runs)

    def __repr__(self) -> str:
        size = f"{len(self.html.encode()) / 1e6:.1f} MB"
        return f"<report on {', '.join(self.runs)}, {size}: .save(FILE.html) writes it, a notebook shows it>"

    def save(self, path: str | Path) -> Path:
        """Writes the page and returns where; raises CheckpointError if the disk refuses."""
        write_text(Path(path), self.html)
        return Path(path)

    def _repr_html_(self) -> str:
        return f'<iframe srcdoc="{escape(self.html)}" style="width:100%;height:900px;border:0"></iframe>'


def report(*runs: str | Path) -> Report:
    """A report on runs, as one HTML page that needs no network.

    Several runs share axes; the seeds of a setting are drawn as one band.

    runs: run folders, finished or not. Raises ConfigError for a folder that holds no run.
    """
    from jinja2 import Environment, StrictUndefined

    if not runs:
        raise ConfigError("No run to report. Give a run folder, e.g. runs/NAME.")
    opened = [read_run(as_path(run, "report")) for run in runs]
    groups = group_by_setting(opened)
    budget = MAX_BYTES // len(opened)
    data_of_runs = [page_data(run, budget) for run in opened]
    # Within a script element, only a `<` could end the element.
    for_script = json.dumps([data["script"] for data in data_of_runs], separators=(",", ":"))
    for_script = for_script.replace("<", "\\u003c")
    code = source("page.js")
    layout = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    page = layout.from_string(source("page.html")).render(
        groups=groups,
        panels=draw_panels(groups),
        runs=[
            {"run": run, "settings": to_yaml(shown_settings(run.config)), "cost": cost(run), **data}
            for run, data in zip(opened, data_of_runs, strict=True)
        ],
        data=for_script,
        css=source("page.css"),
        code=code,
        # The page's Content-Security-Policy allows only the script with this hash.
        digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        version=__version__,
    )
    return Report(page, [str(run) for run in runs])


def write(command: ReportCommand) -> None:
    """The `report` command; ConfigError for a place that bears another ending than a page's, as it may hold data."""
    if command.output and Path(command.output).suffix not in (".html", ".htm"):
        raise ConfigError(f"--output {command.output}: a report is a page. Give a file that ends in .html.")
    default = Path(command.runs[0], REPORT) if len(command.runs) == 1 else Path(REPORT)
    sys.stdout.write(f"{report(*command.runs).save(command.output or default)}\n")


def source(name: str) -> str:
    """The text of a file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: `1:05:00`."""
    return str(timedelta(seconds=round(seconds)))


def cost(run: Recorded) -> dict[str, str]:
    """{figure: text} of what the run cost: times, tokens and the device."""
    rollout = sum(row.get("rollout", 0) for row in run.metrics)
    update = sum(row.get("update", 0) for row in run.metrics)
    tokens = sum(row.get("num_tokens", 0) for row in run.metrics)
    entries = {"updates": clock(update)}
    if run.config.samples:
        entries = {"rollouts": clock(rollout), **entries, "tokens sampled": f"{tokens:,}"}
        if rollout:
            entries["tokens a second"] = f"{tokens / rollout:,.0f}"
    if summary := run.summary:
        entries["evaluations and files"] = clock(max(0.0, summary["seconds"] - rollout - update))
        entries["whole run"] = clock(summary["seconds"])
        entries["device"] = f"{summary['processes']} x {summary['device']}, {summary['threads']} threads each"
    return entries


def page_data(run: Recorded, budget: int) -> dict[str, Any]:
    """What the page shows of a run's completions.

    `script` holds the completions for the page's script, `failures` what `failures` returns, and `task` what
    `task_and_prompt` returns. `note` says why the environment cannot be opened; "" if it can. budget: the bytes that
    the completions may take.
    """
    sets = [completions for completions in [*run.evaluations, *run.samples] if completions.rows]
    before_after = run.before_after
    env, note = open_environment(run, before_after[0].split if before_after else "train")
    shown = []
    for completions in sets:
        rows = fitting([page_row(row) for row in completions.rows], budget // len(sets))
        if env and completions in before_after:
            for row, recorded in zip(rows[:RENDERED], completions.rows, strict=False):
                row["html"] = render(env, recorded)
        shown.append(
            {
                "name": completions.name,
                "split": completions.split,
                "total": len(completions.rows),
                "rows": rows,
            }
        )
    script = {"name": run.path.name, "block": run.block_length, "sets": shown}
    return {
        "script": script,
        "failures": failures(run, env),
        "note": note,
        "task": task_and_prompt(env, sets),
    }


def task_and_prompt(env: "envs.TextEnv | None", sets: list[Completions]) -> dict[str, str]:
    """The task's description by its author, and the prompt of one of its problems; "" for what is not known."""
    sentence = envs.task.summary(type(envs.combining.wrapper.innermost(env))) if env else ""
    return {"sentence": sentence, "prompt": prompt_text(sets[0].rows[0]["prompt"]) if sets else ""}


def page_row(row: Row) -> Row:
    """A completion as the page's script reads it."""
    shown = {
        **{name: row[name] for name in COLUMNS},
        "prompt": prompt_text(row["prompt"]),
        "length": row.get("length", sum(step >= 0 for step in row["reveal_step"])),
        **written(row),
    }
    if "turns" in row:
        shown["turns"] = [
            {**written(turn), "tokens": turn["tokens"], "reply": turn["reply"]} for turn in row["turns"]
        ]
    return shown


def written(record: Row) -> Row:
    """How a completion came to be, as the page's script reads it; "path" only if the model redrew canvases."""
    shown = {"reveal": record["reveal_step"], "sure": percent(record["confidence"])}
    return {**shown, "path": record["path"]} if "path" in record else shown


def percent(confidence: list[float | None]) -> list[int | None]:
    """Probabilities as whole percentages."""
    return [value if value is None else round(100 * value) for value in confidence]


def fitting(rows: list[Row], budget: int) -> list[Row]:
    """The first rows that take up to `budget` bytes together, at least one."""
    bytes_left = budget
    for number, row in enumerate(rows):
        bytes_left -= len(json.dumps(row, separators=(",", ":")))
        if bytes_left < 0:
            return rows[: max(1, number)]
    return rows


def prompt_text(prompt: str | list[dict[str, str]]) -> str:
    """A prompt as one text."""
    if isinstance(prompt, str):
        return prompt
    return "\n\n".join(f"{message['role']}: {message['content']}" for message in prompt)


def open_environment(run: Recorded, split: str) -> "tuple[envs.TextEnv | None, str]":
    """The run's environment, or None and why it cannot be opened here."""
    try:
        with verifiers.user_code.exit_is_error():
            env = envs.make(run.environment["env"], split=split, **run.config.task_arguments)
            env.problem(0)
    except Exception as error:  # an author's file may be gone, or fail in any way
        return None, f"{type(error).__name__}: {error}"
    return env, ""


def render(env: "envs.TextEnv", row: Row) -> str:
    """A completion as its environment renders it; if that raises, the error's text."""
    try:
        with verifiers.user_code.exit_is_error():
            problem = env.problem(row["index"])
            if "turns" not in row:
                return coloured_html(env.render_text(problem, row["completion"]))
            turns = [turn["completion"] for turn in row["turns"]]
            replies = [turn["reply"] for turn in row["turns"][:-1]]
            return coloured_html(envs.core.render_turns(env, problem, turns, replies))
    except Exception as error:  # an author's code may fail in any way
        return f"<p>{escape(f'render_text raised {type(error).__name__}: {error}')}</p>"


def coloured_html(shown: str) -> str:
    """A terminal's text as HTML in its colours; nothing in it can become markup."""
    console, text = Console(record=True, file=StringIO(), force_jupyter=False), clean(shown, colours=True)
    # A character that UTF-8 does not have, a lone surrogate, becomes a question mark.
    console.print(Text.from_ansi(text.encode(errors="replace").decode()), soft_wrap=True)
    return console.export_html(
        inline_styles=True, code_format='<pre style="white-space:pre-wrap">{code}</pre>'
    )


def failures(run: Recorded, env: "envs.TextEnv | None") -> list[dict[str, Any]]:
    """Each reason of a wrong completion, with an example, and with its counts before and after training.

    A count is (the name of a set of completions, how many are wrong for this reason, how many there are). The reason
    that is the most frequent after training comes first.
    """
    sets = run.before_after or run.samples[-1:]
    wrong = {
        completions.name: [row for row in completions.rows if not row["correct"]] for completions in sets
    }
    examples: dict[str, Row] = {}
    for completions in sets:
        # The first completion with a reason is its example; one after training is preferred to one before.
        examples |= {row["reason"]: row for row in reversed(wrong[completions.name])}
    shown = []
    for reason, example in examples.items():
        counts = []
        for completions in sets:
            for_this_reason = [row for row in wrong[completions.name] if row["reason"] == reason]
            counts.append((completions.name, len(for_this_reason), len(completions.rows)))
        html = render(env, example) if env else ""
        prompt = prompt_text(example["prompt"])
        shown.append({"reason": reason, "counts": counts, "row": example, "prompt": prompt, "html": html})

    def how_many_after(failure: dict[str, Any]) -> int:
        _, num_wrong, _ = failure["counts"][-1]
        return num_wrong

    return sorted(shown, key=how_many_after, reverse=True)

"""The report on runs: one HTML file, made of `page.html`, `page.css` and `page.js`, that needs no network."""

import base64
import hashlib
import json
import sys
from collections.abc import Sequence
from datetime import timedelta
from html import escape
from pathlib import Path

from spg_trainer import __version__
from spg_trainer.errors import ConfigError
from spg_trainer.reporting.completions import MAX_BYTES, page_data
from spg_trainer.reporting.curves import draw_panels
from spg_trainer.reporting.runs import Recorded, group_by_setting, read_run
from spg_trainer.runs.files import write_text
from spg_trainer.runs.folder import REPORT
from spg_trainer.settings.fields import ReportCommand
from spg_trainer.settings.recorded import shown_settings, to_yaml


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
    opened = [read_run(run) for run in runs]
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
    """The `report` command."""
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

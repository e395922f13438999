"""The page: what runs hold, laid out by `page.html`, `page.css` and `page.js` into one file without a network."""

import base64
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from spg_trainer import __version__
from spg_trainer.errors import ConfigError
from spg_trainer.reporting.completions import MAX_BYTES, page_data
from spg_trainer.reporting.curves import draw_panels
from spg_trainer.reporting.runs import Recorded, group_by_setting, read_run
from spg_trainer.runs.files import write_text
from spg_trainer.runs.folder import REPORT
from spg_trainer.settings.fields import ReportCommand
from spg_trainer.settings.sources import to_yaml

HEIGHT = 900
"""Pixels of the frame in a notebook."""


@dataclass(frozen=True)
class Report:
    """A page about one or several runs; a notebook shows it."""

    html: str = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Writes the page and returns where; raises CheckpointError if the disk refuses."""
        write_text(Path(path), self.html)
        return Path(path)

    def _repr_html_(self) -> str:
        style = f"width:100%;height:{HEIGHT}px;border:0"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}"></iframe>'


def report(*runs: str | Path) -> Report:
    """What runs hold, as one HTML page without a network; several share their curves, seeds of a setting are a band.

    runs: run folders, finished or not. Raises ConfigError for a folder that holds no run.
    """
    if not runs:
        raise ConfigError("No run to report. Give a run folder, e.g. runs/NAME.")
    opened = [read_run(run) for run in runs]
    groups = group_by_setting(opened)
    data = [page_data(run, MAX_BYTES // len(opened)) for run in opened]
    code = source("page.js")
    page = template().render(
        groups=groups,
        panels=draw_panels(groups),
        runs=[{**describe(run), **one} for run, one in zip(opened, data, strict=True)],
        # Inside of a script element only `<` could end it.
        data=json.dumps([one["script"] for one in data], separators=(",", ":")).replace("<", "\\u003c"),
        css=source("page.css"),
        code=code,
        digest=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        version=__version__,
    )
    return Report(page)


def write(command: ReportCommand) -> None:
    """The `report` command."""
    default = Path(command.runs[0], REPORT) if len(command.runs) == 1 else Path(REPORT)
    sys.stdout.write(f"{report(*command.runs).save(command.output or default)}\n")


@cache
def template() -> Any:
    """The page's layout; every value is escaped unless the layout says that it is safe."""
    from jinja2 import Environment, StrictUndefined

    made = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"percent": percent, "duration": duration}
    return made.from_string(source("page.html"))


def source(name: str) -> str:
    """A file beside this one."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def percent(share: float) -> str:
    """`98.8%`; an end of the scale is only said of what is exactly there."""
    return f"{100 * share:.1f}%" if 0 < share < 1 else f"{100 * share:.0f}%"


def duration(seconds: float) -> str:
    """`3 h 05 min`, `4 min 10 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def describe(run: Recorded) -> dict[str, Any]:
    """What the layout shows of a run besides curves and completions."""
    return {
        "run": run,
        "steps": run.metrics[-1]["step"] if run.metrics else 0,
        "settings": to_yaml(run.config),
        "cost": cost(run.metrics, run.summary),
        "versions": run.environment.get("versions", {}),
    }


def cost(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any] | None) -> dict[str, str]:
    """What the run took."""
    rollout, update = (sum(row.get(name, 0) for row in metrics) for name in ("rollout", "update"))
    tokens = sum(row["num_tokens"] for row in metrics)
    rows = {"rollouts": duration(rollout), "updates": duration(update), "tokens sampled": f"{tokens:,}"}
    if rollout:
        rows["tokens a second"] = f"{tokens / rollout:,.0f}"
    if summary is None:
        return rows
    rest = max(0.0, summary["seconds"] - rollout - update)
    return {
        "whole run": duration(summary["seconds"]),
        **rows,
        "evaluations and files": duration(rest),
        "device": summary["device"],
        "processes": str(summary["processes"]),
        "threads of each": str(summary["threads"]),
    }

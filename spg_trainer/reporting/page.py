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
from spg_trainer.reporting.completions import MAX_BYTES, OUTCOMES, Pool, page_data, paired
from spg_trainer.reporting.curves import draw_panels
from spg_trainer.reporting.runs import Recorded, changed_settings, group_by_setting, read_run
from spg_trainer.runs.files import CHOOSE_ANOTHER, write_text
from spg_trainer.runs.folder import REPORT
from spg_trainer.settings.fields import ReportCommand

HEIGHT = 900
"""Pixels of the frame in a notebook."""


@dataclass(frozen=True)
class Report:
    """A page about one or several runs; a notebook shows it."""

    html: str = field(repr=False)

    def save(self, path: str | Path) -> Path:
        """Writes the page and returns where; raises CheckpointError if the disk refuses."""
        write_text(Path(path), self.html, CHOOSE_ANOTHER)
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
    read = [read_run(run) for run in runs]
    groups, pool = group_by_setting(read), Pool()
    data = [page_data(run, pool, MAX_BYTES // len(read)) for run in read]
    script = {"texts": list(pool.texts), "runs": [one["script"] for one in data]}
    code = source("page.js")
    page = template().render(
        groups=groups,
        panels=draw_panels(groups),
        runs=[{**describe(run), **one} for run, one in zip(read, data, strict=True)],
        # Inside of a script element only `<` could end it.
        data=json.dumps(script, separators=(",", ":")).replace("<", "\\u003c"),
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
    counts: dict[str, int] = {}
    if len(run.before_after) == 2:
        before, after = run.before_after
        counts = {name: len(couples) for name, couples in paired(before.rows, after.rows).items()}
    return {
        "run": run,
        "steps": run.metrics[-1]["step"] if run.metrics else 0,
        "evaluations": run.evaluations,
        "outcomes": {name: counts.get(name, 0) for name in OUTCOMES.values()} if counts else {},
        "changed": changed_settings(run),
        "cost": cost(run.metrics, run.summary or {}),
        "versions": run.environment.get("versions", {}),
    }


def cost(metrics: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> dict[str, str]:
    """What the run took."""
    rollout, update = (sum(row.get(name, 0) for row in metrics) for name in ("rollout", "update"))
    tokens = sum(row.get("num_tokens", 0) for row in metrics)
    found = {"rollouts": duration(rollout), "updates": duration(update)}
    if summary:
        rest = max(0.0, summary["seconds"] - rollout - update)
        found = {"whole run": duration(summary["seconds"]), **found, "evaluations and files": duration(rest)}
    found |= {"tokens sampled": f"{tokens:,}"}
    if rollout:
        found["tokens a second"] = f"{tokens / rollout:,.0f}"
    shown = {"device": "device", "processes": "processes", "threads": "threads of each"}
    return found | {label: str(summary[key]) for key, label in shown.items() if key in summary}

"""What `python -m envs check` prints: a table of findings for each environment, or one line of JSON."""

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from envs import registry
from envs._cli_show import console, offline
from envs.checking import Report, check


def report(names: Sequence[str], problems: int, as_json: bool, arguments: dict[str, Any]) -> int:
    """Checks `names`, or every environment of this package if there are none; 0 if all is well, else 1.

    An environment that would ask a hub is checked with source=generated, unless `arguments` name a source.
    """
    ok = True
    for name in names or [id for id in registry.known() if id.startswith("spg/")]:
        found = check(name, problems, **{**offline(registry.resolve(name)), **arguments})
        ok &= found.ok
        if as_json:
            sys.stdout.write(json.dumps({"ok": found.ok, **asdict(found)}) + "\n")
            sys.stdout.flush()
        else:
            _print(found)
    return 0 if ok else 1


def _print(found: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    sizes = ", ".join(f"{number:,} {split}" for split, number in found.figures["problems"].items())
    title = Text(f"{found.env}: {sizes} ({found.seconds:.1f} s)")
    table = Table(box=None, show_header=False, title=title, title_justify="left")
    for finding in found.findings:
        mark = Text("ok", "green") if finding.ok else Text("FAILS", "red")
        table.add_row(mark, finding.name, Text(finding.figure))
    screen = console()
    screen.print(table)
    if not found.ok:
        wrong = sum(not finding.ok for finding in found.findings)
        screen.print(f"{found.env}: {wrong} of {len(found.findings)} checks fail")

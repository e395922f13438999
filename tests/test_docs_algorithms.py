"""docs/algorithms: a page for each algorithm, all in one form, with every option."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS, get
from spg_trainer.settings.sources import task_settings

PAGES = Path(__file__).resolve().parents[1] / "docs" / "algorithms"
TASKS = {"gsm8k": "GSM8K", "math500": "MATH500", "countdown": "Countdown", "sudoku": "Sudoku"}
SECTIONS = ["Objective", "Estimator", "Options", "Implementation details", "Results here", "Known failure"]


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.endswith("_repro")])
def test_every_algorithm_has_a_page_in_the_form_with_all_its_options(name: str) -> None:
    if not PAGES.is_dir():
        pytest.skip("no docs beside the tests")
    text = (PAGES / f"{name}.md").read_text()
    top, *rest = re.split(r"^## (.*)\n", text, flags=re.M)
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    assert re.match(rf"# .+\n\n`--algorithm {name}`.+\n\n.+(\n.+)*\n\n$", top), (
        "title, names and source, idea"
    )
    assert list(sections) == SECTIONS and all(body.strip() for body in sections.values())
    shown = re.findall(r"`(\w+)`", sections["Options"])
    assert {field.name for field in fields(get(name))} <= set(shown)


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.endswith("_repro")])
def test_pages_show_what_the_presets_set(name: str) -> None:
    if not PAGES.is_dir():
        pytest.skip("no docs beside the tests")
    text = (PAGES / f"{name}.md").read_text()
    rows = [row for which in (name, f"{name}_repro") if which in ALGORITHMS for row in preset_rows(which)]
    found = [line for line in text.splitlines() if re.match(rf"\| `{name}(_repro)?` \| `", line)]
    assert found == rows, "the table under `Options` should read:\n" + "\n".join(rows)


def preset_rows(name: str) -> list[str]:
    """Rows of a page's table: options to which a preset gives another value than the algorithm's own default."""
    given = {
        model: {env: task_settings(env, model, name).algorithm_args for env in TASKS}
        for model in ("tiny", "GSAI-ML/LLaDA-8B-Instruct")
    }
    rows = []
    for option, own in ((field.name, field.default) for field in fields(get(name))):
        cells = [shown([args.get(option, own) for args in tasks.values()]) for tasks in given.values()]
        if {*cells} != {shown([own])}:
            rows.append(f"| `{name}` | `{option}` | {' | '.join([shown([own]), *cells])} |")
    return rows


def shown(values: list[object]) -> str:
    """One value for all tasks, or the most frequent one and the tasks that differ: `1.5; Sudoku 1`."""
    texts = [
        f"{v:g}" if isinstance(v, int | float) and not isinstance(v, bool) else str(v).lower() for v in values
    ]
    usual = max(texts, key=texts.count)
    others = [f"{task} {text}" for task, text in zip(TASKS.values(), texts, strict=False) if text != usual]
    return "; ".join([usual, *others])

"""docs/algorithms: a page for each algorithm, all in one form, with every option."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS, get

PAGES = Path(__file__).resolve().parents[1] / "docs" / "algorithms"
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

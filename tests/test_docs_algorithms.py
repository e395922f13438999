"""docs/algorithms: a page for each algorithm, with every option."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from spg_trainer.algorithms import ALGORITHMS, get

PAGES = Path(__file__).resolve().parents[1] / "docs" / "algorithms"
pytestmark = pytest.mark.skipif(not PAGES.is_dir(), reason="no docs beside the tests")


@pytest.mark.parametrize("name", [name for name in ALGORITHMS if not name.endswith("_repro")])
def test_every_algorithm_has_a_page_with_all_its_options(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text()
    assert f"`--algorithm {name}`" in text
    assert {field.name for field in fields(get(name))} <= set(re.findall(r"`(\w+)", text))

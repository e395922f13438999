"""The page on MATH: what its table calls accepted and rejected is."""

import re
from pathlib import Path

import pytest

from verifiers import verify

PAGE = Path(__file__).parents[2] / "docs" / "verifiers" / "math500.md"


def rows() -> list[list[list[str]]]:
    """The rows of the table of meanings: the texts in backticks of each of its three columns."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    lines = text.partition("## 3. Meaning")[2].partition("## 4.")[0].splitlines()
    table = lines[: next((i for i, line in enumerate(lines) if line.startswith("- ")), 0)]
    return [
        [re.findall(r"`([^`]+)`", cell) for cell in line.split("|")[1:-1]]
        for line in table
        if line.startswith("| `")
    ]


@pytest.mark.skipif(not PAGE.is_file(), reason="no pages beside the tests")
def test_the_table_of_meanings_holds() -> None:
    assert len(rows()) > 15
    for references, accepted, rejected in rows():
        for answers, right in ((accepted, True), (rejected, False)):
            for answer in answers:
                box = rf"<answer>\boxed{{{answer}}}</answer>"
                correct = [verify("math500", box, answer=reference).correct for reference in references]
                assert any(correct) is right, (references, answer)

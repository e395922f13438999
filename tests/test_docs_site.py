"""The docs as a site: every page is in its menu, every public name in its reference, links and the notebook hold."""

import json
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
NOTEBOOK = DOCS / "first_hour.ipynb"
pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="no pages beside the tests")
PAGES = [page for page in DOCS.rglob("*.md") if "runs" not in page.relative_to(DOCS).parts]
PACKAGES = ("verifiers", "envs", "spg_trainer", "spg_trainer.algorithms")


def leaves(menu: list | dict | str) -> Iterator[str]:
    """The pages of a part of the menu."""
    if isinstance(menu, str):
        yield menu
    else:
        for part in menu.values() if isinstance(menu, dict) else menu:
            yield from leaves(part)


def without_blocks(text: str) -> str:
    """Markdown without its blocks of code, in which a `#` is no heading."""
    return re.sub(r"^( *)```.*?^\1```", "", text, flags=re.S | re.M)


def anchors(page: Path) -> set[str]:
    """The anchors that a git host gives the headings of a page; mkdocs checks its own."""
    titles = re.findall(r"^#+ (.+)$", without_blocks(page.read_text()), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_menu_holds_each_page_once() -> None:
    import yaml

    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text())
    written = [page.relative_to(DOCS).as_posix() for page in (*PAGES, NOTEBOOK)]
    assert sorted(leaves(config["nav"])) == sorted(written)


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *PAGES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_anchors_of_a_page_exist(page: Path) -> None:
    text = re.sub(r"`[^`\n]+`", "", without_blocks(page.read_text()))
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_public_name_is_in_the_reference() -> None:
    shown = {
        name
        for page in DOCS.glob("reference/*.md")
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.M)
    }
    promised = {f"{package}.{name}" for package in PACKAGES for name in import_module(package).__all__}
    assert promised - shown == set()


def test_the_notebook_is_stored_as_it_ran() -> None:
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    kinds = {output["output_type"] for cell in cells for output in cell["outputs"]}
    assert kinds == {"stream", "execute_result"}  # no error
    assert not any(output.get("name") == "stderr" for cell in cells for output in cell["outputs"])
    assert NOTEBOOK.stat().st_size < 1_000_000


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path) -> None:
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=1500, resources={"metadata": {"path": tmp_path}}).execute()
    printed = "".join(
        output["text"] for cell in notebook.cells for output in cell.get("outputs", []) if "text" in output
    )
    solved = re.search(r"before (\S+) after (\S+)", printed)
    assert solved and float(solved[1]) < 0.2 and float(solved[2]) > 0.8
    assert "0 broken" in printed and "FAIL" not in printed

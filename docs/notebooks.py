"""Hook of mkdocs.yml: it makes a page of each notebook, with the site's colours and checked links.

It also leaves out the signatures that the reference pages have for readers of the checkout; the site makes its own.
"""

import re
from pathlib import PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import CoalesceStreamsPreprocessor


def on_files(files: Files, **_: Any) -> Files:
    """Makes notebooks pages, under their own names, so that links to them work on a git host, too."""
    for file in filter(is_notebook, files):
        file.is_documentation_page = lambda: True
        file.dest_uri = str(PurePosixPath(file.src_uri).with_suffix(".html"))
    return files


def on_page_read_source(page: Page, **_: Any) -> str | None:
    """The Markdown of a notebook with its outputs; None, to read it as usual, for every other page."""
    if not is_notebook(page.file):
        return None
    exporter = MarkdownExporter()
    exporter.register_preprocessor(CoalesceStreamsPreprocessor, enabled=True)  # a cell's lines in one block
    return exporter.from_filename(page.file.abs_src_path)[0]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """A page without the signatures that `reference_signatures.py` writes."""
    return re.sub(r"^<!-- signature -->\n.*?<!-- end -->\n", "", markdown, flags=re.MULTILINE | re.DOTALL)


def is_notebook(file: File) -> bool:
    """Whether a file is a Jupyter notebook."""
    return file.src_uri.endswith(".ipynb")

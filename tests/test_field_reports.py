"""What people reported in public threads of this field's repositories is right here: the table, kind by kind."""

from typing import Any

import pytest

from tests.common import field_reports
from tests.common.field_reports import Report, cases
from verifiers import verify


@pytest.mark.parametrize(("given", "right"), cases((*field_reports.VERDICTS, *field_reports.REASONING)))
def test_a_reported_completion_gets_the_right_verdict(given: Any, right: bool) -> None:
    task, completion, reference = given
    assert verify(task, completion, **reference).correct is right


def test_every_row_names_its_thread() -> None:
    sections = [rows for rows in vars(field_reports).values() if isinstance(rows, tuple)]
    rows = [row for section in sections for row in section if isinstance(row, Report)]
    assert rows and all("/" in row.source and row.source.partition("#")[2].isdecimal() for row in rows)

"""What holds in every test of the verifiers."""

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_answer_fails_to_be_judged(request, caplog) -> Iterator[None]:
    """Fails a test in which the code of a verdict raised what it did not mean to raise, unless it is marked so."""
    yield
    failed = [
        record.getMessage()
        for record in caplog.get_records("call")
        if "as judging it failed" in record.getMessage()
    ]
    assert not failed or "judging_fails" in request.fixturenames, failed


@pytest.fixture
def judging_fails() -> None:
    """Asked for by a test that makes judging fail."""

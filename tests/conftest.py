"""Marks and their default skip, and the one place that knows where outside data lies."""

import gc
import os
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # with -n: one core each, before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")
# Where it is set, each of the hundred processes that the tests start would compile our packages anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

FIRST = """test_shard.py test_worker.py test_awaiting.py test_verifiers_package.py test_math500_copies.py
test_every_algorithm.py test_benchmarks.py test_batch.py test_auto_batch.py test_compare.py test_inputs.py
test_moved.py test_fuzz.py test_tasks.py test_sft.py test_jobs.py test_data.py test_math500_cas.py test_reference.py
test_docs_scale.py test_command_process.py test_mixture.py test_page_of_a_step.py test_invariants.py""".split()
"""Files that come first with -n. While one process of the tests waits for the two that `test_shard.py` starts, which
need more than its core, the other runs tests that mostly wait. Then come files that take long for their number of
tests, so that none is left for the end."""
MARKS = {"slow": "takes minutes", "gpu": "needs a CUDA device", "network": "needs a model or data hub"}


def pytest_addoption(parser: pytest.Parser) -> None:
    for name, why in MARKS.items():
        parser.addoption(f"--{name}", action="store_true", help=f"also run tests marked {name}: {why}")
    parser.addoption(
        "--part", metavar="K/N", help="of the tests that are selected, each N-th from the K-th (from 0)"
    )


def pytest_configure(config: pytest.Config) -> None:
    for name, why in MARKS.items():
        config.addinivalue_line("markers", f"{name}: {why}; skipped unless --{name} is given")
    config.addinivalue_line("markers", "timeout(seconds): limit of one test, if pytest-timeout is installed")
    # A shell that starts pytest in the background lets it ignore Ctrl-C, and so would every command a test starts.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):  # with -n: the process that starts the others
        # Read by tests/common/process_cases.py, in processes of its own.
        os.environ["SPG_TEST_SLOW"] = "1" if config.getoption("--slow") else ""
        os.environ["SPG_TEST_SESSION"] = tempfile.mkdtemp(
            prefix="tests-"
        )  # tests/common/trainer_cases.py: SESSION


def pytest_unconfigure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        shutil.rmtree(os.environ.pop("SPG_TEST_SESSION", ""), ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_collection() -> Iterator[None]:
    """What imports have made stays: the garbage collector need not look through it again and again.

    Its default, a look after every 700 objects, is a tenth of the time of a small training.
    """
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(20_000)
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file stays in one process: what a module makes once for its tests is made once."""
    if config.getvalue("dist") != "load":  # `-n` alone means that
        return None
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False  # by their number of tests; `FIRST` comes first instead
    return LoadFileScheduling(config, log)


@pytest.hookimpl(trylast=True)  # after -m, so that --part divides what it selects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        for name, why in MARKS.items():
            if name in item.keywords and not config.getoption(f"--{name}"):
                item.add_marker(pytest.mark.skip(reason=f"{why}; run with --{name}"))
    if part := config.getoption("--part"):
        first, step = (int(number) for number in part.split("/"))
        chosen = [item for item in items if not any(item.iter_markers("skip"))]
        items[:] = chosen[first::step]
    if "PYTEST_XDIST_WORKER" in os.environ:
        files = [item.nodeid.partition("::")[0] for item in items]
        tests, rank = Counter(files), {name: number for number, name in enumerate(FIRST)}
        order = {file: (rank.get(Path(file).name, len(FIRST)), -tests[file], file) for file in tests}
        items.sort(key=lambda item: order[item.nodeid.partition("::")[0]])


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of others' texts ($SPG_SHARED_DATA, else ../shared/data beside the checkout); skips where absent."""
    folder = Path(
        os.environ.get("SPG_SHARED_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data"
    )
    if not folder.is_dir():
        pytest.skip(f"needs the texts of others' data sets, which are not shipped; SPG_SHARED_DATA={folder}")
    return folder


@pytest.fixture(scope="session")
def published() -> Path:
    """A folder with small `models` of the published families, and what their original code computed with them."""
    from tests.common.published import write_published
    from tests.common.trainer_cases import made_once

    return made_once("published", write_published)


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk() -> Iterator[None]:
    """No test cuts the power, and a training of a few small steps waits as long for the disk as it computes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(params=[False, pytest.param(True, marks=pytest.mark.slow)], ids=["few", "all"])
def at_length(request: pytest.FixtureRequest) -> bool:
    """Whether a test tries all combinations of what it varies, or enough to see each value."""
    return request.param


@pytest.fixture(autouse=True)
def _no_hub(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """No test reaches a hub unless it is marked `network`."""
    if "network" not in request.keywords:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """Runs a test on the CPU and, with --gpu, on a CUDA device."""
    return request.param


@pytest.fixture(autouse=True)
def _same_environ(monkeypatch: pytest.MonkeyPatch) -> None:
    """`datasets.map` with processes puts a copy in the place of `os.environ`, whose first object rich keeps."""
    monkeypatch.setattr(os, "environ", os.environ)

"""Verdicts in several processes: datasets.map, Ray Data, and what is pickled on the way."""

import multiprocessing
import pickle
from collections.abc import Iterator
from types import ModuleType

import pytest

from tests.common.marks import slow_if
from verifiers import reward_function, verify_batch

ROWS = range(60)
COLUMNS = {
    "gsm8k": ([f"<answer>{n % 7}</answer>" for n in ROWS], {"answer": [str(n % 5) for n in ROWS]}),
    "math500": (
        [rf"\boxed{{\frac{{{n % 7}}}{{2}}}}" if n % 3 else r"\boxed{\sin^2 x + \cos^2 x}" for n in ROWS],
        {"answer": [str(n % 4 / 2) if n % 3 else "1" for n in ROWS]},
    ),
}


def judge(batch: dict, task: str) -> dict:
    """The verdicts on a batch as columns."""
    references = {name: list(values) for name, values in batch.items() if name != "completion"}
    verdicts = verify_batch(task, list(batch["completion"]), **references)
    return {"correct": verdicts.correct, "score": verdicts.score, "reason": verdicts.reasons}


def expected(task: str) -> tuple[dict, dict]:
    """The columns of a task, and the verdicts on them of one process; some are right and some are not."""
    completions, references = COLUMNS[task]
    columns = {"completion": completions, **references}
    alone = judge(columns, task)
    assert 0 < alone["correct"].sum() < len(completions)
    return columns, {name: list(values) for name, values in alone.items()}


@pytest.mark.parametrize("task", slow_if(COLUMNS, lambda task: task != "gsm8k"))
def test_two_processes_of_datasets_give_the_verdicts_of_one_in_order(task: str) -> None:
    columns, alone = expected(task)  # first here, so that children inherit what has been started
    import datasets  # takes seconds, as it imports torch

    data = datasets.Dataset.from_dict(columns)
    options = {"batched": True, "num_proc": 2, "load_from_cache_file": False}
    judged = data.map(judge, batch_size=7, fn_kwargs={"task": task}, **options)
    assert {name: judged[name][:] for name in alone} == alone
    assert judged["completion"][:] == columns["completion"]


@pytest.fixture(scope="module")
def ray() -> Iterator[ModuleType]:
    """Ray with two workers, where it is installed: `pip install -e '.[ray]'`."""
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.data")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.parametrize("task", COLUMNS)
def test_ray_gives_the_verdicts_of_one_process_in_order(ray: ModuleType, task: str) -> None:
    columns, alone = expected(task)
    rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    data = ray.data.from_items(rows, override_num_blocks=4)
    judged = data.map_batches(judge, batch_size=7, fn_kwargs={"task": task}).take_all()
    assert {name: [row[name] for row in judged] for name in alone} == alone


def test_a_spawned_process_is_sent_rewards_and_sends_verdicts() -> None:
    completions, references = COLUMNS["gsm8k"]
    reward = reward_function("gsm8k", mode="strict", partial=True)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        rewards = pool.apply(reward, (completions,), references)
        verdicts = pool.apply(verify_batch, ("gsm8k", completions), references)
    assert rewards == reward(completions, **references)
    assert list(verdicts) == list(verify_batch("gsm8k", completions, **references))
    assert pickle.loads(pickle.dumps(reward)).__name__ == "gsm8k_strict_partial"

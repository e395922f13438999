"""Blocks judged in this process or in worker processes, a few ahead of the one that is due, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict

from verifiers import batch
from verifiers.command.judge import ROWS_BEFORE_COMPILING, Job, Judged, Tally, judge_block, unjudged_block
from verifiers.command.lines import Block

_AHEAD = 2  # blocks under way for each worker
_LOST = "was not judged: its worker process failed on this part of the file"


def judge_blocks(job: Job, blocks: Iterable[Block], processes: int) -> Iterator[Judged]:
    """What came of each block, in the order of the blocks; reads at most a few blocks ahead.

    One process is this one. Close the iterator to end the others.
    """
    if processes == 1:
        for block in blocks:
            yield judge_block(job, block)
        return
    from verifiers.worker import Workers, WorkerUnavailable

    workers = Workers(__name__, size=processes, soft=None, hard=None)
    threads = ThreadPoolExecutor(processes, thread_name_prefix="verifiers-command")

    def judge(block: Block) -> Judged:
        sample = {"job": asdict(job), "label": block.label, "first": block.first, "payload": block.raw}
        try:
            reply = workers.ask(sample, patient=True)
        except WorkerUnavailable as error:
            raise OSError(str(error)) from error  # `main` says it in one line
        if "marks" not in reply:
            return unjudged_block(block, f"{_LOST} ({reply['detail']}).")
        tally = Tally.of(reply["tally"])
        problems = [(number, problem) for number, problem in reply["problems"]]
        return Judged(block.label, reply["payload"], reply["marks"], tally, problems)

    under_way: deque[Future[Judged]] = deque()
    try:
        for block in blocks:
            under_way.append(threads.submit(judge, block))
            if len(under_way) >= _AHEAD * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()
    finally:
        workers.close(for_good=True)  # so that no thread waits for an answer
        threads.shutdown(cancel_futures=True)


def _prepare() -> Callable[[dict], dict]:
    batch.delay_compilation(ROWS_BEFORE_COMPILING)
    batch.MAX_THREADS = 1  # the cores are shared out between processes already

    def answer(job: dict) -> dict:
        judged = judge_block(Job(**job["job"]), Block(job["label"], job["first"], job["payload"]))
        return {
            "payload": judged.output,
            "marks": judged.marks,
            "tally": vars(judged.tally),
            "problems": judged.problems,
        }

    return answer


def main() -> None:
    from verifiers.worker import serve

    serve(_prepare, None)

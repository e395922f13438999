"""Blocks judged in this process or in child processes, a few ahead of the one that is due, in order."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import IO

from verifiers._cli_judge import PATIENCE, Job, Judged, Tally, judge_block, lost_block
from verifiers._cli_read import Block

_AHEAD = 2  # blocks under way for each worker
_LOST = "was not judged: its worker process died twice on this part of the file."


class Pool:
    """`map` judges blocks with `workers` processes; with one, here. Use it in a `with` statement."""

    def __init__(self, job: Job, workers: int) -> None:
        self._job, self._workers = job, workers
        self._children: list[_Child] = []
        self._idle: SimpleQueue[_Child] = SimpleQueue()
        self._threads: ThreadPoolExecutor | None = None
        self._stopped = False

    def __enter__(self) -> Pool:
        if self._workers > 1:
            self._threads = ThreadPoolExecutor(self._workers, thread_name_prefix="verifiers-command")
            for _ in range(self._workers):
                child = _Child(self._job)
                self._children.append(child)
                self._idle.put(child)
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped = True
        for child in self._children:
            child.end()  # so that no thread waits for an answer
        if self._threads is not None:
            self._threads.shutdown(cancel_futures=True)
        for child in self._children:
            child.end()  # one that was being started anew meanwhile

    def map(self, blocks: Iterable[Block]) -> Iterator[Judged]:
        """What came of each block, in the order of the blocks; reads at most a few blocks ahead."""
        if self._threads is None:
            for block in blocks:
                yield judge_block(self._job, block)
            return
        under_way: deque[Future[Judged]] = deque()
        for block in blocks:
            under_way.append(self._threads.submit(self._judge, block))
            if len(under_way) >= _AHEAD * self._workers:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()

    def _judge(self, block: Block) -> Judged:
        child = self._idle.get()
        try:
            for _ in range(2):
                try:
                    return child.judge(block)
                except (OSError, ValueError):  # it died: its pipe is closed, or its answer is torn
                    child.end()
                    if not self._stopped:
                        child.start()
            return lost_block(block, _LOST)
        finally:
            self._idle.put(child)


class _Child:
    """A process that judges one block after the other and ends when its standard input does.

    Blocks and answers travel as bytes behind one line of JSON. It has a session of its own, so that Ctrl-C
    reaches it through the end of its input only.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self.start()

    def start(self) -> None:
        """Start the process; the one before must have ended."""
        paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "verifiers._cli_pool"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            start_new_session=True,
        )

    def judge(self, block: Block) -> Judged:
        """Judge a block there; raises OSError or ValueError if the process dies over it."""
        sink, source = self._process.stdin, self._process.stdout
        if sink is None or source is None:
            raise OSError("no pipes")
        header = {
            "job": asdict(self._job),
            "label": block.label,
            "first": block.first,
            "size": len(block.raw),
        }
        sink.write(json.dumps(header).encode() + b"\n" + block.raw)
        sink.flush()
        answer = json.loads(source.readline())
        output = source.read(answer["size"])
        if len(output) != answer["size"]:
            raise OSError("the answer is torn")
        tally = Tally.of(answer["tally"])
        problems = [(number, problem) for number, problem in answer["problems"]]
        return Judged(block.label, output, answer["marks"], tally, problems)

    def end(self) -> None:
        """Kill the process, which keeps nothing."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            try:
                if pipe is not None:
                    pipe.close()
            except OSError:  # what it had not read is lost, as it should be
                continue


def serve(source: IO[bytes], sink: IO[bytes]) -> None:
    """The child's side: judge the blocks that come from `source` until it ends."""
    while line := source.readline():
        header = json.loads(line)
        block = Block(header["label"], header["first"], source.read(header["size"]))
        judged = judge_block(Job(**header["job"]), block)
        answer = {
            "size": len(judged.output),
            "marks": judged.marks,
            "tally": vars(judged.tally),
            "problems": judged.problems,
        }
        sink.write(json.dumps(answer).encode() + b"\n" + judged.output)
        sink.flush()


def _main() -> None:
    from verifiers import _batch, _compile

    _compile.be_patient(PATIENCE)
    _batch.MAX_WORKERS = 1  # the cores are shared out between processes already
    sink = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else writes to standard output must not tear an answer
    try:
        serve(sys.stdin.buffer, sink)
    except BrokenPipeError:
        os._exit(1)


if __name__ == "__main__":
    _main()

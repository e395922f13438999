"""Verdicts a second over HTTP, against one process that calls `verify_batch`, and the seconds that an answer takes.

Clients and server share the cores of this machine. 64 clients send requests of 1 to 64 completions of GSM8K and MATH,
each over a connection of its own, first as fast as they are answered, then at half that rate at random moments. Every
answer is compared with what `verify_batch` says, byte for byte.

    python benchmarks/serve.py [--requests 20000] [--clients 64] [--workers 1]
"""

import argparse
import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple

from measuring import hardware, print_head, print_row

from verifiers import batch, verify_batch
from verifiers.serve.judging import answers

FILLER = "We take the number of apples and subtract those that were eaten, step by step. "
DIFFERENT = 1000


class Request(NamedTuple):
    """The bytes of a request, the body that must answer it, and its task, completions and references."""

    sent: bytes
    expected: bytes
    task: str
    completions: list[str]
    answers: list[str]


def requests_of(seed: int, count: int) -> list[Request]:
    """Different requests of 1 to 64 completions; half of the completions are right."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        task, size = rng.choice(["gsm8k", "math500"]), rng.randrange(1, 65)
        written = r"\frac{%d}{2}" if task == "math500" else "%d"
        numbers = [rng.randrange(1000) for _ in range(size)]
        filler = [FILLER * rng.randrange(4, 12) for _ in range(size)]
        texts = [
            text + rf"<answer>\boxed{{{written % n}}}</answer>"
            for text, n in zip(filler, numbers, strict=True)
        ]
        truths = [written % (n + rng.randrange(2)) for n in numbers]
        body = json.dumps({"completions": texts, "answer": truths}).encode()
        (answer,) = answers([(f"verify/{task}", body)], seconds=60)
        head = f"POST /verify/{task} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        made.append(Request(head + body, answer.body.encode(), task, texts, truths))
    return made


class Client(asyncio.Protocol):
    """A connection, over which a request is sent and its answer compared with the expected one."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def ask(self, request: Request) -> asyncio.Future[bool]:
        """Whether the answer is equal."""
        self.request, self.got = request, b""
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request.sent)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.got += data
        head, _, body = self.got.partition(b"\r\n\r\n")
        size = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or -1)
        if len(body) == size:
            self.answer.set_result(head.startswith(b"HTTP/1.1 200") and body == self.request.expected)

    def connection_lost(self, _: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_result(False)


async def load(
    port: int, todo: list[Request], clients: int, rate: float | None
) -> tuple[float, list[float], Counter]:
    """(seconds in all, seconds of each request, counts). rate: requests a second; None = as many as are answered."""
    loop = asyncio.get_running_loop()
    connected = [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(clients)]
    free: asyncio.Queue[Client] = asyncio.Queue()
    for client in connected:
        free.put_nowait(client)
    taken: list[float] = []
    seen: Counter = Counter()
    rng, began = random.Random(1), time.perf_counter()

    async def one(client: Client, request: Request, due: float) -> None:
        seen["equal" if await client.ask(request) else "other"] += 1
        taken.append(time.perf_counter() - due)  # a wait for a free connection counts, too
        free.put_nowait(client)

    if rate is None:
        left = iter(todo)

        async def ask_on(client: Client) -> None:
            for request in left:
                await one(client, request, time.perf_counter())

        await asyncio.gather(*map(ask_on, connected))
    else:

        async def when_free(request: Request, due: float) -> None:
            await one(await free.get(), request, due)

        due, tasks = began, []
        for request in todo:
            due += rng.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            tasks.append(asyncio.create_task(when_free(request, due)))
        await asyncio.gather(*tasks)
    seconds = time.perf_counter() - began
    for client in connected:
        client.transport.close()
    return seconds, sorted(taken), seen


def run(work: Coroutine[Any, Any, Any]) -> Any:
    """What a coroutine returns; the clients are part of the load, so by the event loop that costs less."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def processor_seconds(server: int) -> tuple[float, float, float]:
    """Of this process, of the server's, and of those that judge for it; by Linux's /proc."""
    judging, front = 0.0, 0.0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        seconds = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        if int(fields[1]) == server:
            judging += seconds
        elif int(folder.name) == server:
            front = seconds
    return time.process_time(), front, judging


def in_one_process(todo: list[Request], threads: int) -> float:
    """Seconds of `verify_batch` for the same completions, in calls of 20,000 of a task."""
    seconds, batch.MAX_THREADS = 0.0, threads
    for task in ("gsm8k", "math500"):
        mine = [request for request in todo if request.task == task]
        texts = [text for request in mine for text in request.completions]
        truths = [truth for request in mine for truth in request.answers]
        verify_batch(task, texts[:1000], answer=truths[:1000])  # compiles
        began = time.perf_counter()
        for start in range(0, len(texts), 20_000):
            verify_batch(task, texts[start : start + 20_000], answer=truths[start : start + 20_000])
        seconds += time.perf_counter() - began
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    print(hardware())
    different = requests_of(7, min(DIFFERENT, args.requests))
    todo = [different[i % len(different)] for i in range(args.requests)]
    completions = sum(len(request.completions) for request in todo)
    command = [sys.executable, "-m", "verifiers", "serve", "--port", "0", "--workers", str(args.workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            said = next(line for line in server.stderr if line.startswith("Serving"))  # it may compile before
            port = int(said.split(" at ")[1].split()[0].rpartition(":")[2])
            run(load(port, todo[:500], args.clients, None))
            before = [in_one_process(todo, threads) for threads in (8, 1)]
            spent = processor_seconds(server.pid)
            full = run(load(port, todo, args.clients, None))
            spent = [now - then for now, then in zip(processor_seconds(server.pid), spent, strict=True)]
            after = [in_one_process(todo, threads) for threads in (8, 1)]
            rate = 0.5 * len(todo) / full[0]
            half = run(load(port, todo[: len(todo) // 4], args.clients, rate))
        finally:
            server.send_signal(signal.SIGTERM)
    alone, one_core = (2 * completions / (first + last) for first, last in zip(before, after, strict=True))
    print_head(
        [
            "load",
            "requests/s",
            "verdicts/s",
            "of verify_batch",
            "of it on one core",
            "p50 ms",
            "p99 ms",
            "equal answers",
            "others",
        ]
    )
    for name, (seconds, taken, seen) in {"full": full, "half": half}.items():
        judged = completions * len(taken) / len(todo) / seconds
        p50, p99 = (1000 * taken[int(share * (len(taken) - 1))] for share in (0.5, 0.99))
        figures = [
            f"{len(taken) / seconds:,.0f}",
            f"{judged:,.0f}",
            f"{judged / alone:.2f}",
            f"{judged / one_core:.2f}",
            f"{p50:.1f}",
            f"{p99:.1f}",
        ]
        print_row([name, *figures, f"{seen['equal']:,}", f"{seen['other']:,}"])
    each = ", ".join(
        f"{1e6 * seconds / len(todo):.0f} of {who}"
        for who, seconds in zip(("the clients", "the front", "what judges"), spent, strict=True)
    )
    print(
        f"\nmicroseconds of a processor for a request at full load: {1e6 * sum(spent) / len(todo):.0f} ({each})"
    )
    print(f"verify_batch in one process: {alone:,.0f} verdicts/s on all cores, {one_core:,.0f} on one")


if __name__ == "__main__":
    main()

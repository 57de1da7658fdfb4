"""A generator of requests: as many connections as asked, each with one request at a time, or requests at a fixed rate.

`python -m bench.knocking PORT many|one|batches|wait:ASSET` prints `{answers, p50_ms, p99_ms}` as JSON, and fails where an
answer is not what was wanted. Requests are written and answers looked at as bytes: a client that did more would be slower
than the server.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import zlib
from collections.abc import Awaitable, Callable
from typing import cast

import uvloop

from bench.door import BATCH, CONNECTIONS, RATE_PER_SECOND, SECONDS
from bench.measure import percentile

__all__ = ["main"]

WARM_SECONDS = 1.0
NOTE = "n" * 60
Pair = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def event(name: str) -> str:
    """One event; its id is its name."""
    at, number = '"at":"2026-01-01T00:00:00"', zlib.crc32(name.encode())
    return f'{{"event_id":"{name}","key":"k{number % 1000:04d}","amount":{number % 997},{at},"note":"{NOTE}"}}'


def single(name: str) -> str:
    """The body of a request with one event."""
    return event(name)


def array(name: str) -> str:
    """The body of a request with many."""
    return f"[{','.join(event(f'{name}-{place}') for place in range(BATCH))}]"


def request(port: int, body: str, query: str = "") -> bytes:
    """A request as it goes over the wire."""
    head = f"POST /v1/assets/events/events{query} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
    return f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


async def asked(pair: Pair, sent: bytes) -> bytes:
    """Send one request; the body of its answer. Raises AssertionError for another status."""
    reader, writer = pair
    writer.write(sent)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200"), head
    return await reader.readexactly(length_in(head))


class Knocker(asyncio.Protocol):
    """One connection that asks again as soon as it is answered, until its time is over."""

    def __init__(self, place: int, port: int, body: Callable[[str], str], took: list[float]) -> None:
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._place, self._port, self._body, self._took = place, port, body, took
        self._begins_at = time.perf_counter() + WARM_SECONDS
        self._number = 0
        self._got = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the first time."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def data_received(self, data: bytes) -> None:
        """Take the answer as it comes; once it is whole, ask again."""
        self._got += data
        head, found, body = self._got.partition(b"\r\n\r\n")
        if not found or len(body) < length_in(head):
            return
        if not head.startswith(b"HTTP/1.1 202") or b'"parked":0' not in body:
            self.over.set_exception(AssertionError(self._got))
            return
        if self._begun >= self._begins_at:
            self._took.append((time.perf_counter() - self._begun) * 1_000)
        self._got = b""
        self._ask()

    def _ask(self) -> None:
        self._begun = time.perf_counter()
        if self._begun >= self._begins_at + SECONDS:
            self._transport.close()
            self.over.set_result(None)
            return
        self._number += 1
        self._transport.write(request(self._port, self._body(f"{os.getpid()}-{self._place}-{self._number}")))


def length_in(head: bytes) -> int:
    """The length of the body, as the head of an answer says it."""
    return int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])


async def steadily(port: int, connections: int, body: Callable[[str], str]) -> list[float]:
    """Milliseconds of each request, for connections that ask again as soon as they are answered."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda place=place: Knocker(place, port, body, took), "127.0.0.1", port)  # type: ignore[misc]
        for place in range(connections)
    ]
    await asyncio.gather(*(knocker.over for _, knocker in made))
    return took


async def waiting(port: int, asset: str) -> list[float]:
    """Milliseconds to the verdict of each event, sent at a fixed rate over connections that are free."""
    free: asyncio.Queue[Pair] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    took: list[float] = []

    async def one(number: int, due_at: float) -> None:
        pair = await free.get()
        answer = await asked(pair, request(port, event(f"w-{number}"), f"?wait={asset}&timeout_ms=10000"))
        took.append((time.perf_counter() - due_at) * 1_000)
        assert json.loads(answer)["rows"], answer
        free.put_nowait(pair)

    begun, tasks = time.perf_counter(), []
    warm = int(WARM_SECONDS * RATE_PER_SECOND)
    for number in range(warm + int(SECONDS * RATE_PER_SECOND)):
        due_at = begun + number / RATE_PER_SECOND
        await asyncio.sleep(max(0.0, due_at - time.perf_counter()))
        tasks.append(asyncio.create_task(one(number, due_at)))
    await asyncio.gather(*tasks)
    return took[warm:]


def main(port: int, kind: str) -> dict[str, float]:
    """Ask, and sum up."""
    kinds: dict[str, Callable[[], Awaitable[list[float]]]] = {
        "many": lambda: steadily(port, CONNECTIONS, single),
        "one": lambda: steadily(port, 1, single),
        "batches": lambda: steadily(port, CONNECTIONS, array),
    }
    ask = kinds.get(kind) or (lambda: waiting(port, kind.removeprefix("wait:")))
    took = uvloop.run(_all(ask))
    return {"answers": len(took), "p50_ms": percentile(took, 50), "p99_ms": percentile(took, 99)}


async def _all(ask: Callable[[], Awaitable[list[float]]]) -> list[float]:
    return await ask()


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2])))

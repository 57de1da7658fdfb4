"""A served project is killed while it takes events as fast as they come: what it acknowledged is there exactly once.

Three kinds of senders work against one process that is killed and started again: single events that are sent again
until they are acknowledged (their topic has an id), batches under an `Idempotency-Key`, and long streams of lines under
one (their topic has no id, so only the key keeps them from being counted twice).
"""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPException
from typing import Any

import pytest

from tests.e2e.conftest import Project, until

PROJECT = """[project]
name = "killed"

[assets.singles]
kind = "topic"
id = "id"
[assets.singles.columns]
id = "varchar"
n = "integer"

[assets.batches]
kind = "topic"
[assets.batches.columns]
n = "integer"

[assets.streams]
kind = "topic"
[assets.streams.columns]
n = "integer"
"""
COUNTS = """-- mode: realtime
select count(*) as events, sum(n) as total from singles
"""
KILLS = int(os.environ.get("TIDEMILL_KILLS", "2"))
ACKNOWLEDGED_BETWEEN_KILLS = 150
STREAM_LINES = 150_000

Started = Callable[..., "subprocess.Popen[str]"]


class Senders:
    """Threads that send until they are stopped, to wherever the server is just then."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.singles: set[str] = set()
        self.batches: Counter[int] = Counter()
        self.streams: Counter[int] = Counter()
        self.is_over = threading.Event()
        self.acknowledged = 0
        self._numbers = iter(range(10**9))
        self._lock = threading.Lock()
        work = [self._single] * 4 + [self._batch] * 2 + [self._stream]
        self._threads = [threading.Thread(target=self._until_over, args=(send,)) for send in work]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Let each finish what it began."""
        self.is_over.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _until_over(self, send: Callable[[int], None]) -> None:
        while not self.is_over.is_set():
            with self._lock:
                number = next(self._numbers)
            send(number)
            self.acknowledged += 1

    def _single(self, number: int) -> None:
        id_ = f"e{number}"
        self._delivered("singles", lambda: json.dumps({"id": id_, "n": number}).encode(), {})
        self.singles.add(id_)

    def _batch(self, number: int) -> None:
        body = json.dumps([{"n": number}] * 20).encode()
        self._delivered("batches", lambda: body, {"Idempotency-Key": f"batch {number}"})
        self.batches[number] += 20

    def _stream(self, number: int) -> None:
        line = b'{"n":%d}\n' % number
        headers = {"Idempotency-Key": f"stream {number}", "Content-Type": "application/x-ndjson"}
        self._delivered("streams", lambda: parts(line), headers)
        self.streams[number] += STREAM_LINES

    def _delivered(self, asset: str, body: Callable[[], Any], headers: dict[str, str]) -> None:
        """Send the same request until it is acknowledged."""
        until(lambda: self._is_acknowledged(asset, body(), headers), f"{asset} takes it", 60)

    def _is_acknowledged(self, asset: str, body: Any, headers: dict[str, str]) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(
                "POST", f"/v1/assets/{asset}/events", body, headers, encode_chunked=not isinstance(body, bytes)
            )
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
        assert answer.status in (202, 409), said  # 409: the request before it has not noticed yet that nobody listens
        return answer.status == 202


def parts(line: bytes) -> Iterator[bytes]:
    for _ in range(100):
        yield line * (STREAM_LINES // 100)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(project: Project, started: Started, port: int) -> subprocess.Popen[str]:
    process = started(project, "serve", "--port", str(port), "--json")
    assert process.stdout is not None
    assert json.loads(process.stdout.readline())["address"].endswith(str(port))
    return process


def counted(project: Project, asset: str, column: str) -> Counter[Any]:
    rows = project.json("query", f"select {column} as value, count(*) as times from {asset} group by all")
    return Counter({row["value"]: row["times"] for row in rows})


@pytest.mark.slow
def test_what_was_acknowledged_is_there_once_however_often_the_server_is_killed(
    project: Project, started: Started, record_property: Callable[[str, object], None]
) -> None:
    project.write({"tidemill.toml": PROJECT, "jobs/counts.sql": COUNTS})
    port, seed = free_port(), random.randrange(2**32)
    chance = random.Random(seed)
    record_property("seed", seed)
    process = serve(project, started, port)
    senders = Senders(port)
    try:
        for _ in range(KILLS):
            goal = senders.acknowledged + ACKNOWLEDGED_BETWEEN_KILLS
            until(lambda: senders.acknowledged >= goal, "events are acknowledged", 60)  # noqa: B023 - asked at once
            threading.Event().wait(chance.random() * 0.2)  # a kill at any moment, not only after an answer
            os.kill(process.pid, signal.SIGKILL)
            process.wait(20)
            process = serve(project, started, port)
    finally:
        senders.stop()
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 143
    singles = counted(project, "singles", "id")
    assert set(singles.values()) == {1}
    assert senders.singles == set(singles)
    assert counted(project, "batches", "n") == senders.batches
    assert counted(project, "streams", "n") == senders.streams
    assert len(senders.streams) >= 1
    project.cli("run")
    [row] = project.json("query", "select events, total from counts")
    assert row["events"] == len(singles)

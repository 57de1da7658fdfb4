"""Memory of a served project under everything at once, for ten minutes, while two of its readers are far too slow.

Single events, arrays, packed lines, batches of which half is wrong, and senders that wait for a verdict come in together;
two followers read a little every second, so that what they have not read piles up somewhere. Measured is the resident size
of the server alone (VmRSS), every second. Target: less than 600 MB, and flat: as much at the end as after the start. And at
the end every acknowledged event is in its topic, once.

`python -m bench mixed`, or within `make soak`; TIDEMILL_SOAK_SECONDS says how long.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path

from bench.idle import ask, served
from bench.measure import Figure
from bench.projects import write_project
from bench.throughput import COUNT

__all__ = ["run"]

SECONDS = float(os.environ.get("TIDEMILL_SOAK_SECONDS", "600"))
SINGLE_SENDERS = 8
MEMORY_MB_MAX = 600.0
GROWTH_MAX = 1.25
"""So many times the memory of the second quarter may be needed in the last one; allocators are not exact."""

ADDRESS = "/v1/assets/events/events"
NDJSON = {"Content-Type": "application/x-ndjson"}


def _event(id_: str, number: int) -> str:
    at = '"at":"2026-01-01T00:00:00"'
    return f'{{"event_id":"{id_}","key":"k{number % 1000:04d}","amount":{number % 997},{at},"note":"{"n" * 60}"}}'


@dataclass
class Load:
    """What is done to one server until it is over, and what came of it."""

    host: str
    port: int
    over: threading.Event = field(default_factory=threading.Event)
    accepted: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def connection(self) -> HTTPConnection:
        """A connection of its own for one sender."""
        return HTTPConnection(self.host, self.port, timeout=60)

    def send(
        self, name: str, pause_seconds: float, bodies: Iterator[bytes], path: str = ADDRESS, **headers: str
    ) -> None:
        """Send one body after the other, with a pause between; what was acknowledged is counted."""
        connection = self.connection()
        self.accepted[name] = self.refused[name] = 0
        try:
            for body in bodies:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                said = json.loads(answer.read())
                self.accepted[name] += said.get("accepted", 0)
                self.refused[name] += answer.status >= 300
                if self.over.wait(pause_seconds):
                    return
        except (OSError, HTTPException, ValueError) as error:
            if not self.over.is_set():
                self.failures.append(f"{name}: {error!r}")
        finally:
            connection.close()

    def follow_slowly(self, path: str) -> None:
        """Follow changes, and read a few hundred bytes a second of them."""
        with socket.create_connection((self.host, self.port)) as reader:
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n\r\n".encode())
            while not self.over.wait(1.0):
                if not reader.recv(512):
                    self.failures.append(f"{path}: the server ended it")
                    return


def _singles(name: str) -> Iterator[bytes]:
    return (_event(f"{name}-{number}", number).encode() for number in itertools.count())


def _arrays() -> Iterator[bytes]:
    for number in itertools.count():
        yield f"[{','.join(_event(f'array-{number}-{place}', place) for place in range(100))}]".encode()


def _packed_lines() -> Iterator[bytes]:
    for number in itertools.count():
        yield gzip.compress("\n".join(_event(f"lines-{number}-{place}", place) for place in range(5_000)).encode(), 1)


def _half_wrong() -> Iterator[bytes]:
    for number in itertools.count():
        good = [_event(f"half-{number}-{place}", place) for place in range(10)]
        yield "\n".join([*good, *('{"event_id": "x", "amount": "much"}', "no JSON") * 5]).encode()


def _tasks(load: Load) -> list[Callable[[], None]]:
    packed = {**NDJSON, "Content-Encoding": "gzip"}
    waiting = f"{ADDRESS}?wait=count&timeout_ms=2000"
    singles = [f"single{number}" for number in range(SINGLE_SENDERS)]
    return [
        *(lambda name=name: load.send(name, 0.01, _singles(name)) for name in singles),
        lambda: load.send("arrays", 0.1, _arrays()),
        lambda: load.send("lines", 2.0, _packed_lines(), **packed),
        lambda: load.send("half wrong", 0.5, _half_wrong(), **NDJSON),
        lambda: load.send("waiting", 0.1, _singles("waiting"), waiting),
        lambda: load.follow_slowly("/v1/assets/events/changes?from=0&follow=true"),
        lambda: load.follow_slowly("/v1/assets/count/changes?from=now&follow=true"),
    ]


def _resident_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def _under_load(load: Load, pid: int) -> list[float]:
    """The resident size, second by second, while all of it goes on."""
    threads = [threading.Thread(target=task, daemon=True) for task in _tasks(load)]
    for thread in threads:
        thread.start()
    ends_at, found = time.perf_counter() + SECONDS, []
    while time.perf_counter() < ends_at:
        found.append(_resident_mb(pid))
        load.over.wait(1.0)
    load.over.set()
    for thread in threads:
        thread.join()
    return found


def run(folder: Path) -> list[Figure]:
    """Peak and growth; raises AssertionError where memory grows, a sender fails, or an acknowledged event is not there."""
    write_project(folder / "project", {"count.sql": COUNT}, has_id=True)
    with served(folder / "project") as (process, connection):
        load = Load(connection.host, connection.port)
        sizes = _under_load(load, process.pid)
        head = next(
            each["head"] for each in ask(connection, "GET", "/v1/status")["assets"] if each["asset"] == "events"
        )
    assert load.failures == [], load.failures
    accepted = sum(load.accepted.values())
    assert head == accepted, f"{accepted} events were acknowledged, and {head} are there"
    quarter = max(1, len(sizes) // 4)
    early, late = statistics.median(sizes[quarter : 2 * quarter]), statistics.median(sizes[-quarter:])
    assert max(sizes) < MEMORY_MB_MAX, f"{max(sizes):.0f} MB"
    assert late < early * GROWTH_MAX, f"from {early:.0f} to {late:.0f} MB"
    minutes = SECONDS / 60
    return [
        Figure(f"peak memory, {minutes:g} min of mixed load, slow readers", max(sizes), "MB", None, "", "< 600 MB"),
        Figure("memory in the last quarter", late, "MB", early, "in the second", "flat: 1.0 x"),
        Figure("events acknowledged meanwhile, all there once", accepted / SECONDS, "events/s"),
        Figure("requests refused meanwhile", float(sum(load.refused.values())), "", None, "", "0"),
    ]

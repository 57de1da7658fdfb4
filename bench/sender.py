"""Another process that writes events: one at a time, over the connection that commands keep to the owner.

`python -m bench.sender FOLDER COUNT` prints the median milliseconds of a question that does nothing, as JSON.
"""

from __future__ import annotations

import json
import statistics
import sys
import threading
import time

from bench.measure import timed
from tidemill.project.owner import Address, acquire
from tidemill.server.client import RemoteMill

__all__ = ["event", "main"]

PAUSE_SECONDS = 0.02


def event(number: int) -> bytes:
    """An event that says when it was written."""
    at = f'"at":"2026-01-01T00:00:00","note":"{time.time()}"'
    return f'{{"event_id":"e{number:06d}","key":"k","amount":1,{at}}}\n'.encode()


def main(folder: str, count: int) -> float:
    """Emit the events; the pause lets the runs of one event end before the next is written."""
    owner = acquire(folder, command="emit")
    assert isinstance(owner, Address), "nobody serves this project"
    mill, pause, trips = RemoteMill(owner), threading.Event(), []
    for number in range(count):
        trips.append(timed(lambda: mill.mark("events", "nothing")))
        mill.emit("events", event(number))
        pause.wait(PAUSE_SECONDS)
    mill.close()
    return statistics.median(trips)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]))))

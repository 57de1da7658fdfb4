"""Lines about runs while a command goes on: JSON on stdout for a program, words on stderr for a person.

Rules of this file:
  * a thread of its own writes, so who reads slowly, or not at all, stops no run; beyond `LINES_MAX` waiting lines are
    dropped, and their number is told;
  * who stopped reading ends the command: nobody would ever see more.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any

from tidemill.cli.output import counted, say
from tidemill.cli.progress import line_of

__all__ = ["LINES_MAX", "RunFeed"]

LINES_MAX = 10_000
LAST_SECONDS = 5.0
"""How long the lines that wait at the end may take."""
_ENDED = ("succeeded", "failed", "held", "cancelled")


class RunFeed:
    """Told of runs, it writes a line for each that ended; with `is_json` in the shape of `tidemill runs --json`.

    A context manager: what it is told waits for `start`, so that something else can be the first line. `stop` is set when
    nobody reads any more, and the end raises BrokenPipeError then.
    """

    def __init__(self, stop: threading.Event, *, is_json: bool) -> None:
        self._stop = stop
        self._is_json = is_json
        self._stream = sys.stdout if is_json else sys.stderr  # while a job works, another stands there
        self._lines: queue.Queue[str] = queue.Queue(LINES_MAX)
        self._dropped = 0
        self._is_over = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._work, name="tidemill-feed", daemon=True)

    def __enter__(self) -> RunFeed:
        return self

    def start(self) -> None:
        """Write, from now on."""
        self._thread.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._thread.ident is None:
            return
        self._is_over.set()
        with suppress(queue.Full):
            self._lines.put_nowait("")  # wakes who waits for a line
        self._thread.join(LAST_SECONDS)
        dropped = self._dropped + self._lines.qsize()
        if dropped and self._error is None:
            say(f"{counted(dropped, 'line')} about runs came faster than they were read, and were dropped")
        if self._error is not None and error is None:
            raise self._error

    def __call__(self, said: dict[str, Any]) -> None:
        """One report; never waits."""
        if said["state"] not in _ENDED:
            return
        line = json.dumps(said, ensure_ascii=False) if self._is_json else line_of(said)
        try:
            self._lines.put_nowait(f"{line}\n")
        except queue.Full:
            self._dropped += 1

    def _work(self) -> None:
        # Beside the stream, whose lock a thread that waits for its reader would hold for ever.
        descriptor = self._stream.fileno()
        try:
            while not (self._is_over.is_set() and self._lines.empty()):
                line = self._lines.get().encode()
                while line:
                    line = line[os.write(descriptor, line) :]
        except OSError as error:
            self._error = error
            self._stop.set()

"""What a job's function prints goes to its run's log: stdout, stderr, and through them logging and warnings.

Rules of this file:
  * text belongs to the run whose context printed it, however many run at once; threads that a function starts itself
    have no run: what they print goes to the console's stderr, for stdout is the answer's alone;
  * nothing of it ever stops or slows a run: a log that is full, or over, drops what comes;
  * the streams are replaced only while something is captured, and what was bound to ours meanwhile (a logging handler)
    goes on to work afterwards.

Theory of operation. `sys.stdout` and `sys.stderr` are replaced by two lasting objects that look up, at every write, whose
text it is (a context variable, so that asyncio and copied contexts are followed) and else pass it on to what was there.
"""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

__all__ = ["LINE_CHARACTERS_MAX", "aside", "captured", "tell_failure"]

LINE_CHARACTERS_MAX = 10_000
"""A line that is longer (a progress bar that never ends its line) is cut into several."""

_OURS = str(Path(__file__).parent)
_PACKAGE = str(Path(__file__).parents[2])

Log = Callable[[str], object]


class _Lines:
    """Makes lines of what is written to the two streams."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._rests = {"stdout": "", "stderr": ""}
        self._lock = threading.RLock()
        self._is_over = False

    def write(self, stream: str, text: str) -> None:
        with self._lock:
            if self._is_over:
                return
            *whole, rest = (self._rests[stream] + text).split("\n")
            for line in whole:
                self._log(line)
            while len(rest) > LINE_CHARACTERS_MAX:
                self._log(rest[:LINE_CHARACTERS_MAX])
                rest = rest[LINE_CHARACTERS_MAX:]
            self._rests[stream] = rest

    def end(self) -> None:
        """Log what has no line break yet, and drop what comes after."""
        with self._lock:
            for rest in filter(None, self._rests.values()):
                self._log(rest)
            self._is_over = True


_current: ContextVar[_Lines | None] = ContextVar("tidemill_lines", default=None)


class _Stream:
    """Stands in for one of the standard streams."""

    def __init__(self, name: str) -> None:
        self.name = f"<{name}>"
        self._stream = name
        self._before: TextIO = getattr(sys, f"__{name}__")
        self._passing = threading.local()

    def replace(self) -> None:
        """Stand before what is there now."""
        standing = getattr(sys, self._stream)
        if standing is not self:
            self._before = standing
            setattr(sys, self._stream, self)

    def put_back(self) -> None:
        """Go, unless somebody else stands before us: then what comes is passed on."""
        if getattr(sys, self._stream) is self:
            setattr(sys, self._stream, self._before)

    def write(self, text: str) -> int:
        lines = _current.get()
        if lines is None:
            return self.write_beyond(text)
        lines.write(self._stream, text)
        return len(text)

    def write_beyond(self, text: str) -> int:
        """Write to what was there before."""
        if getattr(self._passing, "is_on", False):  # who stands behind us writes to us
            return int(getattr(sys, f"__{self._stream}__").write(text))
        self._passing.is_on = True
        try:
            return self._beyond().write(text)
        finally:
            self._passing.is_on = False

    def writelines(self, texts: Iterable[str]) -> None:
        for text in texts:
            self.write(text)

    def flush(self) -> None:
        if _current.get() is None:
            self._beyond().flush()

    def isatty(self) -> bool:
        return _current.get() is None and self._beyond().isatty()

    def fileno(self) -> int:
        """Where a child process of a job may print: not into the answer."""
        return (_STDERR if _current.get() else self)._beyond().fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._beyond(), name)

    def _beyond(self) -> TextIO:
        """What was there before; a thread that nobody knows never writes to the stdout of who started the runs."""
        is_stray = _count and threading.current_thread() is not threading.main_thread()
        found = _STDERR._before if is_stray else self._before
        original: TextIO = getattr(sys, f"__{self._stream}__")
        return original if found.closed else found


_STDOUT, _STDERR = _Stream("stdout"), _Stream("stderr")
_changing = threading.Lock()
_count = 0


def _change(by: int) -> None:
    """Put the streams in place with the first capture, and back after the last."""
    global _count
    with _changing:
        was, _count = _count, _count + by
        for stream in (_STDOUT, _STDERR):
            if not was:
                stream.replace()
            elif not _count:
                stream.put_back()


@contextmanager
def captured(log: Log | None) -> Iterator[None]:
    """Within: what this context prints goes to `log`, line by line, and an exception with its traceback too. Without a
    log nothing changes."""
    if log is None:
        yield
        return
    with _taken(log):
        try:
            yield
        except BaseException as error:
            tell_failure(error)
            raise


@contextmanager
def _taken(log: Log) -> Iterator[None]:
    lines = _Lines(log)
    token = _current.set(lines)
    _change(+1)
    try:
        yield
    finally:
        _change(-1)
        _current.reset(token)
        lines.end()


@contextmanager
def aside() -> Iterator[None]:
    """Within: what this context prints to stdout goes to the console's stderr."""
    with _taken(lambda line: _STDERR.write_beyond(f"{line}\n")):
        yield


def tell_failure(error: BaseException) -> None:
    """Print the traceback of what a function raised, from the function on, where somebody captures it."""
    lines = _current.get()
    if lines is None:
        return
    at = error.__traceback__
    while at is not None and at.tb_frame.f_code.co_filename.startswith(_OURS):
        at = at.tb_next
    if at is None:
        return  # it is ours, and its message says all
    told = traceback.TracebackException(type(error), error, at)
    last = told
    while last.__context__ is not None:  # what we were handling when we called it is not its affair
        if last.__context__.stack and last.__context__.stack[0].filename.startswith(_PACKAGE):
            last.__context__ = None
        else:
            last = last.__context__
    lines.write("stderr", "".join(told.format()))

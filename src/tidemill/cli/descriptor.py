"""Descriptor 1 belongs to the answer: what a job starts would else print beside it.

Rules of this file:
  * while a command works, descriptor 1 is stderr, so a child process of a job (and a C library) prints there;
  * the answer is written to a kept duplicate, which child processes do not inherit;
  * a stdout that somebody else put there (a test, a caller's own stream) is left alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["answer_alone"]

_STDOUT, _STDERR = 1, 2


@contextmanager
def answer_alone() -> Iterator[None]:
    """Within: `sys.stdout` writes where descriptor 1 pointed, and descriptor 1 points to stderr."""
    before = sys.__stdout__  # None where the process was started without one
    if before is None or sys.stdout is not before or sys.__stderr__ is None:
        yield
        return
    before.flush()
    kept = os.dup(_STDOUT)
    answer = os.fdopen(
        kept, "w", encoding=before.encoding, errors=before.errors, buffering=1 if os.isatty(kept) else -1
    )
    os.dup2(_STDERR, _STDOUT)
    sys.stdout = answer
    try:
        yield
    finally:
        sys.stdout = before
        with suppress(BrokenPipeError):  # nobody reads any more
            answer.flush()
        os.dup2(kept, _STDOUT)
        with suppress(BrokenPipeError):
            answer.close()

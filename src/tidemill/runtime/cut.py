"""Ending from another thread what a transaction computes, so that who closes a project waits for nothing that can be done again.

Rules of this file:
  * only what is thrown away when it fails is done under a cut;
  * after the cut nothing begins;
  * an interrupt reaches the transaction it is meant for: none ends, and gives its session to others, before it is let go.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from tidemill.core.errors import OperatorError, RunCancelled

__all__ = ["Cut", "Interruptible"]


class Interruptible(Protocol):
    """A transaction whose statement another thread can end."""

    def interrupt(self) -> None:
        """End the statement that runs now, if one does: it raises OperatorError. Any thread."""


class Cut:
    """Whether work is to end, and the transaction that does it now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going: Interruptible | None = None
        self._is_over = False

    @contextmanager
    def over(self, transaction: Interruptible) -> Iterator[None]:
        """Work that may be cut short. Raises RunCancelled where it is, or was before it began."""
        with self._lock:
            self._check()
            self._going = transaction
        try:
            yield
        except OperatorError:
            self._check()
            raise
        finally:
            with self._lock:
                self._going = None

    def cut(self) -> None:
        """End what goes on, and let nothing more begin. Between two statements nothing can be ended: call it again."""
        with self._lock:
            self._is_over = True
            if self._going is not None:
                self._going.interrupt()

    def _check(self) -> None:
        if self._is_over:
            raise RunCancelled(
                "it was cut short, because the project is being closed", mend="ask again when it is open"
            )

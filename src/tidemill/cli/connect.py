"""How a command gets at its project: by being the owner, or by asking the owner.

Rules of this file:
  * a command is a function of the operations (`ask`), so it can be begun again when the owner it asked went away;
  * who owns answers others: the local API comes up as soon as owning takes longer than `ANSWER_AFTER_SECONDS`
    (most commands are over before that, and whoever waits tries the lock again anyway);
  * closing is in one order: no new questions, the questions asked are answered, the project is closed, the lock let go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from tidemill.cli import late
from tidemill.cli.settings import Settings
from tidemill.core.errors import TidemillError
from tidemill.project.operations import Operations, Progress
from tidemill.project.owner import WAIT_SECONDS, Address, Owner, acquire
from tidemill.server.client import OwnerLeft, RemoteMill

__all__ = ["ANSWER_AFTER_SECONDS", "Answering", "ask", "own"]

ANSWER_AFTER_SECONDS = 0.25
"""How long a command owns a project before it begins to answer others: starting to costs about as much."""

T = TypeVar("T")


def ask(settings: Settings, command: str, work: Callable[[Operations], T], *, mode: str = "command") -> T:
    """What `work` gives for the operations of the project."""
    ends_at = time.monotonic() + WAIT_SECONDS
    while True:
        owner = acquire(settings.folder, max(0.0, ends_at - time.monotonic()), command=command)
        if isinstance(owner, Owner):
            with own(settings, owner, mode=mode) as mill:
                return work(mill)
        remote = RemoteMill(owner)
        try:
            return work(remote)
        except OwnerLeft:
            if time.monotonic() >= ends_at:
                raise
        finally:
            remote.close()


@contextmanager
def own(
    settings: Settings, owner: Owner | Address, *, mode: str, answers: bool = True, progress: Progress | None = None
) -> Iterator[Any]:
    """The opened project, which this process owns; others are answered meanwhile. `progress` is told of every run."""
    assert isinstance(owner, Owner)
    open_mill = late("tidemill.project.mill:open_mill")
    with owner, open_mill(settings.folder, settings.env, mode=mode, progress=progress) as mill:
        answering = Answering(owner, mill) if answers else None
        try:
            yield mill
        except BaseException:
            if answering:
                answering.stop(at_once=True)
            raise
        if answering:
            answering.stop()


class Answering:
    """The local API of an owner, from a moment on until it is stopped."""

    def __init__(self, owner: Owner, operations: Operations, after_seconds: float = ANSWER_AFTER_SECONDS) -> None:
        self._owner = owner
        self._operations = operations
        self._server: Any = None
        self._is_over = False
        self._timer = threading.Timer(after_seconds, self._begin)
        self._timer.daemon = True
        self._timer.start()

    def _begin(self) -> None:
        create_app = late("tidemill.server.app:create_app")
        local_server = late("tidemill.server.local:LocalServer")
        if self._is_over:
            return
        with suppress(TidemillError):  # without an address others wait for the lock
            self._server = local_server(create_app(self._operations, token=self._owner.token)).start()
            self._owner.announce(self._server.address)

    def stop(self, *, at_once: bool = False) -> None:
        """Take no more questions, and answer those that were asked (unless `at_once`).

        Waits for a server that is still being loaded: a thread that the end of the process meets there keeps the
        project's stores from going.
        """
        self._is_over = True
        self._timer.cancel()
        self._timer.join()
        if self._server:
            self._owner.hide()
            self._server.stop(at_once=at_once)

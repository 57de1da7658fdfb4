"""Commands that go on until they are stopped: `run --watch`, `dev`, `serve`.

Rules of this file:
  * they own the project for as long as they live, so they never ask another owner;
  * SIGINT and SIGTERM stop them in order: what was begun is finished, then the exit code says which signal it was.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NoReturn

from tidemill.cli.connect import own
from tidemill.cli.ending import until_signalled
from tidemill.cli.feed import RunFeed
from tidemill.cli.output import print_json, say
from tidemill.cli.settings import Settings
from tidemill.core.errors import InvariantError
from tidemill.project.owner import Owner, acquire
from tidemill.server.app import create_app
from tidemill.server.door import is_loopback
from tidemill.server.local import HOST, LocalServer

__all__ = ["keep_going"]

GRACE_SECONDS = 5


def keep_going(
    settings: Settings,
    command: str,
    *,
    mode: str,
    host: str = HOST,
    port: int | None = None,
    tells_runs: bool = False,
) -> NoReturn:
    """Work until a signal comes. With a port, users' HTTP is open there; without, only other commands are answered.

    With `tells_runs` each run that ended is a line.
    """
    owner = acquire(settings.folder, command=command, may_ask=False)
    with until_signalled() as stop, ExitStack() as stack:
        feed = stack.enter_context(RunFeed(stop, is_json=settings.is_json))
        progress = feed if tells_runs else None
        mill = stack.enter_context(own(settings, owner, mode=mode, answers=False, progress=progress))
        assert isinstance(owner, Owner)
        address = stack.enter_context(_serving(owner, mill, host, port))
        _greet(settings, owner, address if port is not None else "")
        if tells_runs:
            feed.start()
        with _settled_heap():
            mill.watch(stop)
    raise InvariantError(f"{command} ended without being stopped")


@contextmanager
def _serving(owner: Owner, mill: Any, host: str, port: int | None) -> Iterator[str]:
    app = create_app(mill, token=owner.token, is_open=port is not None, is_local=is_loopback(host))
    server = LocalServer(
        app,
        host,
        port or 0,
        grace_seconds=GRACE_SECONDS,
        limits=mill.server.limits,
        on_stop=app.stop_following,
        has_keys=bool(mill.access),
    ).start()
    try:
        owner.announce(server.address)
        yield server.address
    finally:
        owner.hide()
        server.stop()


@contextmanager
def _settled_heap() -> Iterator[None]:
    """What is loaded by now stays loaded: the garbage collector does not look through it again and again.

    It takes tens of milliseconds each time, in which nothing is answered and nothing runs.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()  # at the end everything is let go


def _greet(settings: Settings, owner: Owner, address: str) -> None:
    if settings.is_json:
        print_json({"project": str(owner.state.parent), "address": f"http://{address}" if address else None})
        return
    say(f"tidemill watches {owner.state.parent}" + (f" and answers at http://{address}" if address else ""))
    say("stop with Ctrl-C")

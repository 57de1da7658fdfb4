"""How a command ends other than well: what is said of an error, and what a signal does.

Rules of this file:
  * SIGINT and SIGTERM raise in the main thread, so that everything open is closed on the way out: 130 and 143;
  * an error is said on stderr as message, place and mend; with `--json` as `{"error": {kind, message, place, mend}}`;
  * wrong use is 2 (`UserError`, and what click finds), anything else that failed is 1.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

import click

from tidemill.core.errors import TidemillError, UserError

__all__ = ["Interrupted", "Terminated", "complain", "on_terminate", "until_signalled"]


class Interrupted(BaseException):
    """SIGINT came."""


class Terminated(BaseException):
    """SIGTERM came."""


@contextmanager
def on_terminate() -> Iterator[None]:
    """Within: SIGTERM raises Terminated. Only the main thread can hear signals; elsewhere nothing changes."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _terminated)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminated(_: int, __: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # one is enough: closing must not be interrupted by a second
    raise Terminated


@contextmanager
def until_signalled() -> Iterator[threading.Event]:
    """Within: the first SIGINT or SIGTERM sets the event, and is raised at the end; a second one raises at once."""
    stop = threading.Event()
    heard: list[int] = []

    def hear(number: int, _: FrameType | None) -> None:
        if heard:
            _raise(number)
        heard.append(number)
        stop.set()

    before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:
        _raise(heard[0])


def _raise(number: int) -> NoReturn:
    raise KeyboardInterrupt if number == signal.SIGINT else Terminated


def complain(error: BaseException, *, is_json: bool) -> int:
    """Say what went wrong; returns the exit code. Hands on what is not an error (such as SystemExit)."""
    if isinstance(error, SystemExit):
        raise error
    kind, message, place, mend = _said(error)
    if is_json:
        said = {"error": {"kind": kind, "message": message, "place": place, "mend": mend}}
        click.echo(json.dumps(said, ensure_ascii=False), err=True)
    else:
        click.echo(
            "Error: " + "\n  ".join(filter(None, [message, place and f"at: {place}", mend and f"mend: {mend}"])),
            err=True,
        )
    if kind == "Defect" and os.environ.get("TIDEMILL_TRACE"):
        traceback.print_exception(error, file=sys.stderr)
    return 2 if isinstance(error, UserError | click.UsageError) else 1


def _said(error: BaseException) -> tuple[str, str, str, str]:
    """Kind, message, place and mend of an error."""
    if isinstance(error, TidemillError):
        return type(error).__name__, error.message, error.place, error.mend
    if isinstance(error, click.ClickException):
        message, _, mend = error.format_message().partition("\n  mend: ")
        context = getattr(error, "ctx", None)
        return "UserError", message, "", mend or (f"see: {context.command_path} --help" if context else "")
    if isinstance(error, OSError) and error.strerror:
        return "OperatorError", error.strerror, str(error.filename or ""), ""
    message = f"tidemill failed: {type(error).__name__}: {error}"
    return "Defect", message, "", "this is a defect of tidemill: set TIDEMILL_TRACE=1 to see where"

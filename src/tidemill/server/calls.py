"""Operations called by name, as other processes' commands do.

Rules of this file:
  * the table says every operation there is, with its arguments and their types; nothing else can be called;
  * arguments come as one JSON object, but for `emit`, whose body is the events and whose arguments stand in the address;
  * what is `FOLLOWED` answers line by line: `{"progress": ...}` as often as there is any, then one `{"answer": ...}` or
    `{"error": ...}`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor
from contextlib import suppress
from functools import partial
from typing import Any

from starlette.responses import StreamingResponse

from tidemill.core.errors import NotFound, UserError
from tidemill.project.operations import Operations
from tidemill.server.answer import error_value, json_bytes

__all__ = ["ARGUMENTS", "FOLLOWED", "OWNERS", "called", "streamed"]

ARGUMENTS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "add_key": {"key": str, "scopes": list},
    "apply": {},
    "assets": {},
    "audit": {"name": str, "from_": (int, str), "to": (int, str), "repair": bool},
    "backfill": {"job": str, "start": str, "end": str, "partitions": list},
    "backup": {"target": str},
    "cancel": {"run": str},
    "dead": {"asset": str, "limit": int},
    "discard_dead": {"ids": list},
    "edit_dead": {"id": str, "payload": str},
    "emit": {"asset": str, "source": str, "mark": str},
    "explain": {"job": str},
    "keys": {},
    "logs": {"run": str},
    "map": {},
    "mark": {"asset": str, "source": str},
    "mode": {"job": str, "word": (str, type(None))},
    "pause": {"job": str},
    "plan": {},
    "query": {"sql": str},
    "reconcile": {"name": str, "repair": bool, "against": str},
    "remove_key": {"key": str},
    "replay": {"job": str, "start": str, "into": str, "is_dry": bool, "rate": (int, float), "is_abandoned": bool},
    "replay_dead": {"ids": list},
    "resume": {"job": str, "start": str},
    "retry": {"job": str},
    "rotate_key": {"key": str, "overlap_seconds": (int, float)},
    "run": {"jobs": list, "force": bool},
    "runs": {"job": str, "state": str, "run": str, "limit": int},
    "shadow": {
        "job": str,
        "mode": str,
        "sql": str,
        "file": str,
        "against": str,
        "samples": int,
        "promote": bool,
        "equal_for": (int, float),
        "accept": int,
        "abandon": bool,
    },
    "status": {},
    "touch": {"asset": str, "version": str},
}

FOLLOWED = frozenset({"audit", "backfill", "reconcile", "replay", "run"})
"""Operations that report their progress while they work."""

OWNERS = frozenset({"add_key", "keys", "remove_key", "rotate_key"})
"""Operations that no access key opens, lest a key make itself another: only who may read the owner's token has them."""


def called(operations: Operations, name: str, body: bytes, asked: dict[str, str]) -> Callable[..., Any]:
    """The call that a request asks for. Raises NotFound or UserError where there is no such call."""
    if name not in ARGUMENTS:
        raise NotFound(f"there is no operation {name}", mend=f"the operations are {', '.join(ARGUMENTS)}")
    if name == "emit":
        _check(name, asked)
        return partial(operations.emit, data=body, **asked)
    arguments = _arguments(body)
    _check(name, arguments)
    return partial(getattr(operations, name), **arguments)


def _arguments(body: bytes) -> dict[str, Any]:
    try:
        arguments = json.loads(body or b"{}")
    except ValueError as error:
        raise UserError(f"the arguments are not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise UserError("the arguments are not a JSON object")
    return arguments


def _check(name: str, arguments: dict[str, Any]) -> None:
    known = ARGUMENTS[name]
    for word, value in arguments.items():
        if word not in known:
            raise UserError(f"{name} has no argument {word}", mend=f"its arguments are {', '.join(known) or 'none'}")
        if not isinstance(value, known[word]) or (isinstance(value, bool) and known[word] is not bool):
            raise UserError(f"{name}: {word} has the wrong type")
    needed = next(
        (word for word in ("asset", "id", "ids", "job", "key", "name", "run", "sql", "target") if word in known), ""
    )
    if needed and needed not in arguments and name not in ("dead", "runs"):
        raise UserError(f"{name} needs {needed}")


def streamed(work: Callable[..., Any], threads: Executor) -> StreamingResponse:
    """A call that reports its progress while it works. An asker that leaves does not end the work."""
    return StreamingResponse(_lines(work, threads), media_type="application/x-ndjson")


async def _lines(work: Callable[..., Any], threads: Executor) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    def say(said: dict[str, Any]) -> None:
        with suppress(RuntimeError):  # the server is closing, so nobody listens any more
            loop.call_soon_threadsafe(heard.put_nowait, said)

    threads.submit(_worked, work, say)
    while True:
        said = await heard.get()
        yield json_bytes(said) + b"\n"
        if "progress" not in said:
            return


def _worked(work: Callable[..., Any], say: Callable[[dict[str, Any]], None]) -> None:
    try:
        say({"answer": work(progress=lambda said: say({"progress": said}))})
    except Exception as error:  # noqa: BLE001 - whatever it is, the asker gets it as the last line
        say(error_value(error))

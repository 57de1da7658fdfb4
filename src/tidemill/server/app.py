"""The routes: which address asks which operation.

Rules of this file:
  * `/v1/...` for users has the shapes of the command line; `/v1/operations/{name}` is for other processes' commands;
  * an answer to events is given after they are durable, never before; their road (events.py) passes no framework;
  * every operation runs in a thread: waiting runs have their own, so that they never hold up a question.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tidemill import __version__
from tidemill.core.errors import NotFound, OperatorError, UserError
from tidemill.project.reports import found
from tidemill.project.serving import Served
from tidemill.server import metrics, openapi, rows
from tidemill.server.answer import error_answer, json_answer
from tidemill.server.bell import Bell
from tidemill.server.body import Room, too_large
from tidemill.server.calls import FOLLOWED, OWNERS, called, streamed
from tidemill.server.committer import Committer
from tidemill.server.counts import Counts
from tidemill.server.door import Door, Endpoint
from tidemill.server.events import Events
from tidemill.server.following import Following
from tidemill.server.front import Front
from tidemill.server.hooks import Hooks
from tidemill.server.metrics import Load
from tidemill.server.refusals import Forbidden
from tidemill.server.tracking import ADDRESSES, Tracking

__all__ = ["CALLS_MAX", "RUNS_MAX", "create_app"]

CALLS_MAX = 32
"""Questions answered at the same time; more wait."""

RUNS_MAX = 8
"""Commands that wait for `run` at the same time."""

LIST_MAX = 10_000

T = TypeVar("T")


def create_app(served: Served, *, token: str, is_open: bool = False, is_local: bool = True) -> Front:
    """The application over an open project: for other processes of its owner, and if it `is_open` for users."""
    limits = served.server.limits
    door = Door(token, served.server, served.access, is_open=is_open, is_local=is_local)
    room, counts, bell = Room(limits), Counts(), Bell(served.listen)
    committer = Committer(served.take, limits.waiting_requests_max, counts)
    events = Events(served, door, committer, room)
    tracking, hooks = Tracking(served, door, committer, room), Hooks(served, committer, room)
    arrivals = [
        Route("/v1/assets/{asset}/events", events, methods=["POST"]),
        Route("/v1/hooks/{name}", door.signed(hooks), methods=["POST"]),
        *(Route(path, door.taking(tracking), methods=["POST"]) for path in ADDRESSES),
    ]
    load = Load(counts, room, committer)
    pages = _pages(_Routes(served, door, load, bell), Following(served, bell), door, arrivals)
    return Front(door, committer, bell, counts, events=events, pages=pages, cors=served.server.cors)


def _pages(routes: _Routes, following: Following, door: Door, arrivals: list[Route]) -> Starlette:
    gets: dict[str, Endpoint] = {
        "/v1/assets": routes.assets,
        "/v1/assets/{asset}": routes.asset,
        "/v1/jobs": routes.jobs,
        "/v1/map": routes.map,
        "/v1/runs": routes.runs,
        "/v1/status": routes.status,
        "/v1/assets/{asset}/rows": routes.rows,
        "/v1/assets/{asset}/changes": following,
        "/metrics": routes.metrics,
        "/openapi.json": _openapi,
    }
    return Starlette(
        routes=[
            Route("/healthz", door.public(_healthz), methods=["GET"]),
            Route("/readyz", door.public(routes.readyz), methods=["GET"]),
            Route("/v1/owner", door.owning(_owner), methods=["GET"]),
            Route("/v1/operations/{name}", door.owning(routes.operation), methods=["POST"]),
            *arrivals,
            *(Route(path, door.reading(endpoint), methods=["GET"]) for path, endpoint in gets.items()),
        ],
        exception_handlers={404: _unknown, 405: _wrong_method},
    )


class _Routes:
    """The endpoints of one open project."""

    def __init__(self, served: Served, door: Door, load: Load, bell: Bell) -> None:
        self._door = door
        self._operations = served
        self._load = load
        self._bell = bell
        self._most = served.server.limits.request_bytes_max
        self._calls = CapacityLimiter(CALLS_MAX)
        self._runs = ThreadPoolExecutor(RUNS_MAX, thread_name_prefix="tidemill-asked-run")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work, limiter=self._calls)

    async def assets(self, _: Request) -> Response:
        return json_answer(await self._in_thread(self._operations.assets))

    async def asset(self, request: Request) -> Response:
        name = request.path_params["asset"]
        listed = await self._in_thread(self._operations.assets)
        return json_answer(found({each["asset"]: each for each in listed}, name, "asset"))

    async def jobs(self, _: Request) -> Response:
        return json_answer((await self._in_thread(self._operations.status))["jobs"])

    async def map(self, _: Request) -> Response:
        return json_answer(await self._in_thread(self._operations.map))

    async def status(self, _: Request) -> Response:
        return json_answer(await self._in_thread(self._operations.status))

    async def runs(self, request: Request) -> Response:
        asked = request.query_params
        unknown = sorted(asked.keys() - {"job", "state", "run", "limit"})
        if unknown:
            raise UserError(f"unknown parameter {unknown[0]}", mend="the parameters are job, state, run and limit")
        limit = rows.whole(asked.get("limit", "100"), "limit", LIST_MAX)
        texts = {name: asked.get(name, "") for name in ("job", "state", "run")}
        return json_answer(await self._in_thread(partial(self._operations.runs, **texts, limit=limit)))

    async def rows(self, request: Request) -> Response:
        asked = rows.asked_in(request.query_params.multi_items(), is_for_arrow=rows.is_arrow(request))
        found = await self._in_thread(lambda: self._operations.rows(request.path_params["asset"], asked))
        return rows.answer(request, asked, found)

    async def readyz(self, _: Request) -> Response:
        if self._bell.is_over:
            raise OperatorError("the server is closing", mend="ask the one that follows")
        if not await self._in_thread(self._operations.is_alive):
            raise OperatorError("events are not being handled", mend="see the log of the owner, and tidemill doctor")
        return json_answer({"status": "ready"})

    async def metrics(self, _: Request) -> Response:
        status = await self._in_thread(self._operations.status)
        return PlainTextResponse(metrics.text(status, self._load), media_type="text/plain; version=0.0.4")

    async def _body(self, request: Request) -> bytes:
        parts: list[bytes] = []
        size = 0
        async for part in request.stream():
            size += len(part)
            if size > self._most:
                raise too_large(self._most)
            parts.append(part)
        return b"".join(parts)

    async def operation(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name in OWNERS and not self._door.is_owner(request.headers):
            raise Forbidden(f"no key may do {name}", mend="do it on the machine of the server: tidemill keys")
        work = called(self._operations, name, await self._body(request), dict(request.query_params))
        if name in FOLLOWED:
            return streamed(work, self._runs)
        return json_answer(await self._in_thread(work))


async def _healthz(_: Request) -> Response:
    return json_answer({"status": "ok"})


async def _openapi(_: Request) -> Response:
    return json_answer(openapi.document())


async def _owner(_: Request) -> Response:
    return json_answer({"pid": os.getpid(), "version": __version__})


async def _unknown(request: Request, _: Exception) -> Response:
    return error_answer(NotFound(f"there is nothing at {request.url.path}", mend="the addresses begin with /v1/"))


async def _wrong_method(request: Request, error: Exception) -> Response:
    answer = error_answer(UserError(f"{request.method} is not possible at {request.url.path}"), 405)
    if isinstance(error, HTTPException) and error.headers:
        answer.headers.update(error.headers)
    return answer

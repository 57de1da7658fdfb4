"""Asking the owner: every operation as a request to the process that holds the project.

Rules of this file:
  * an answer, and an error with its class, are what the owner's own call would have given;
  * one connection, kept open, used by one thread at a time;
  * an owner that went away is `OwnerLeft` where the question was surely not carried out or may be asked twice, so that
    the asker may begin again; anything else says that nobody knows.
"""

from __future__ import annotations

import json
import select
import threading
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException, HTTPResponse
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlencode

from tidemill.core import errors
from tidemill.core.errors import OperatorError, TidemillError
from tidemill.server import refusals

if TYPE_CHECKING:
    from tidemill.project.operations import Bound, Json, Progress
    from tidemill.project.owner import Address

__all__ = ["OwnerLeft", "RemoteMill"]

_CONNECT_SECONDS = 5.0
_BROKEN_OFF = 500
_CHANGES = frozenset(
    {
        "emit",
        "touch",
        "mode",
        "pause",
        "resume",
        "retry",
        "cancel",
        "apply",
        "backup",
        "add_key",
        "rotate_key",
        "remove_key",
        "replay_dead",
        "edit_dead",
        "discard_dead",
    }
)


class OwnerLeft(OperatorError):
    """The owner went away before it carried out what it was asked, or was asked something that may be asked again."""


class RemoteMill:
    """The operations of a project that another process owns."""

    def __init__(self, owner: Address) -> None:
        self._owner = owner
        self._connection: HTTPConnection | None = None
        self._one_at_a_time = threading.Lock()

    @property
    def pid(self) -> int:
        """The process that owns the project."""
        return self._owner.pid

    def emit(self, asset: str, data: bytes, *, source: str = "", mark: str = "") -> Json:
        """See Operations."""
        asked = urlencode({"asset": asset, "source": source, "mark": mark})
        return self._ask("emit", data, f"?{asked}")

    def mark(self, asset: str, source: str) -> str:
        """See Operations."""
        return cast("str", self._call("mark", asset=asset, source=source))

    def touch(self, asset: str, version: str = "") -> Json:
        """See Operations."""
        return self._call("touch", asset=asset, version=version)

    def run(self, jobs: Sequence[str] = (), *, force: bool = False, progress: Progress | None = None) -> Json:
        """See Operations."""
        return self._followed("run", progress, {"jobs": list(jobs), "force": force})

    def audit(
        self, name: str = "", *, from_: Bound = 0, to: Bound = 0, repair: bool = False, progress: Progress | None = None
    ) -> Json:
        """See Operations."""
        return self._followed("audit", progress, {"name": name, "from_": from_, "to": to, "repair": repair})

    def reconcile(
        self, name: str, *, repair: bool = False, against: str = "", progress: Progress | None = None
    ) -> Json:
        """See Operations."""
        return self._followed("reconcile", progress, {"name": name, "repair": repair, "against": against})

    def replay(
        self,
        job: str,
        *,
        start: str = "",
        into: str = "",
        is_dry: bool = False,
        rate: float = 0.0,
        is_abandoned: bool = False,
        progress: Progress | None = None,
    ) -> Json:
        """See Operations."""
        said = {"job": job, "start": start, "into": into, "is_dry": is_dry, "rate": rate, "is_abandoned": is_abandoned}
        return self._followed("replay", progress, said)

    def shadow(
        self,
        job: str,
        *,
        mode: str = "",
        sql: str = "",
        file: str = "",
        against: str = "",
        samples: int = 0,
        promote: bool = False,
        equal_for: float = 0.0,
        accept: int = 0,
        abandon: bool = False,
    ) -> Json:
        """See Operations."""
        return self._call(
            "shadow",
            job=job,
            mode=mode,
            sql=sql,
            file=file,
            against=against,
            samples=samples,
            promote=promote,
            equal_for=equal_for,
            accept=accept,
            abandon=abandon,
        )

    def backfill(
        self,
        job: str,
        *,
        start: str = "",
        end: str = "",
        partitions: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Json:
        """See Operations."""
        said = {"job": job, "start": start, "end": end, "partitions": list(partitions)}
        return self._followed("backfill", progress, said)

    def replay_dead(self, ids: Sequence[str]) -> Json:
        """See Operations."""
        return self._call("replay_dead", ids=list(ids))

    def edit_dead(self, id: str, payload: str) -> Json:
        """See Operations."""
        return self._call("edit_dead", id=id, payload=payload)

    def discard_dead(self, ids: Sequence[str]) -> Json:
        """See Operations."""
        return self._call("discard_dead", ids=list(ids))

    def query(self, sql: str) -> list[Json]:
        """See Operations."""
        return cast("list[Json]", self._call("query", sql=sql))

    def map(self) -> list[Json]:
        """See Operations."""
        return cast("list[Json]", self._call("map"))

    def assets(self) -> list[Json]:
        """See Operations."""
        return cast("list[Json]", self._call("assets"))

    def status(self) -> Json:
        """See Operations."""
        return self._call("status")

    def runs(self, *, job: str = "", state: str = "", run: str = "", limit: int = 100) -> list[Json]:
        """See Operations."""
        return cast("list[Json]", self._call("runs", job=job, state=state, run=run, limit=limit))

    def logs(self, run: str) -> list[str]:
        """See Operations."""
        return cast("list[str]", self._call("logs", run=run))

    def explain(self, job: str) -> Json:
        """See Operations."""
        return self._call("explain", job=job)

    def mode(self, job: str, word: str | None = None) -> Json:
        """See Operations."""
        return self._call("mode", job=job, word=word)

    def pause(self, job: str) -> Json:
        """See Operations."""
        return self._call("pause", job=job)

    def resume(self, job: str, start: str = "last") -> Json:
        """See Operations."""
        return self._call("resume", job=job, start=start)

    def keys(self) -> list[Json]:
        """See Operations."""
        return cast("list[Json]", self._call("keys"))

    def add_key(self, key: str, scopes: Sequence[str]) -> Json:
        """See Operations."""
        return self._call("add_key", key=key, scopes=list(scopes))

    def rotate_key(self, key: str, overlap_seconds: float) -> Json:
        """See Operations."""
        return self._call("rotate_key", key=key, overlap_seconds=overlap_seconds)

    def remove_key(self, key: str) -> Json:
        """See Operations."""
        return self._call("remove_key", key=key)

    def retry(self, job: str) -> Json:
        """See Operations."""
        return self._call("retry", job=job)

    def cancel(self, run: str) -> Json:
        """See Operations."""
        return self._call("cancel", run=run)

    def plan(self) -> Json:
        """See Operations."""
        return self._call("plan")

    def apply(self) -> Json:
        """See Operations."""
        return self._call("apply")

    def dead(self, *, asset: str = "", limit: int = 100) -> list[Json]:
        """See Operations."""
        return cast("list[Json]", self._call("dead", asset=asset, limit=limit))

    def backup(self, target: str) -> Json:
        """See Operations."""
        return self._call("backup", target=target)

    def close(self) -> None:
        """Let go of the connection; idempotent."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    # ------------------------------------------------------------------------------------------ the wire

    def _call(self, name: str, **arguments: Any) -> Any:
        return self._ask(name, json.dumps(arguments, ensure_ascii=False).encode())

    def _ask(self, name: str, body: bytes, asked: str = "") -> Any:
        with self._one_at_a_time:
            answer = self._sent(name, body, asked)
            try:
                text = answer.read()
            except (OSError, HTTPException) as error:
                raise self._gone(name) from error
        if answer.status >= _BROKEN_OFF and not text.startswith(b"{"):
            raise self._gone(name)
        said = _read(text)
        return said if answer.status == 200 else _answer(said)

    def _followed(self, name: str, progress: Progress | None, arguments: dict[str, Any]) -> Any:
        """A call that reports its progress before it answers."""
        last = None
        with self._one_at_a_time:
            for said in self._stream(name, json.dumps(arguments, ensure_ascii=False).encode()):
                if "progress" not in said:
                    last = said
                elif progress:
                    progress(said["progress"])
        if last is not None:
            return _answer(last)
        raise OwnerLeft(f"process {self.pid} stopped before the {name} was done", mend="ask again")

    def _stream(self, name: str, body: bytes) -> Iterator[dict[str, Any]]:
        answer = self._sent(name, body, "")
        try:
            while line := answer.readline():
                yield _read(line)
        except (OSError, HTTPException) as error:
            raise self._gone(name) from error

    def _sent(self, name: str, body: bytes, asked: str) -> HTTPResponse:
        connection = self._connected()
        headers = {"Authorization": f"Bearer {self._owner.token}", "Content-Type": "application/json"}
        try:
            connection.request("POST", f"/v1/operations/{name}{asked}", body, headers)
            return connection.getresponse()
        except (OSError, HTTPException) as error:
            raise self._gone(name) from error

    def _connected(self) -> HTTPConnection:
        if self._connection is None or _has_ended(self._connection):
            self.close()
            host, port = self._owner.host_and_port
            connection = HTTPConnection(host, port, timeout=_CONNECT_SECONDS)
            try:
                connection.connect()
            except OSError as error:
                raise OwnerLeft(f"process {self.pid} does not answer any more", mend="try again") from error
            connection.sock.settimeout(None)
            self._connection = connection
        return self._connection

    def _gone(self, name: str) -> OperatorError:
        self.close()
        message = f"process {self.pid} stopped while it was asked to {name}"
        if name in _CHANGES:
            return OperatorError(f"{message}: whether it was done is not known", mend="look with: tidemill status")
        return OwnerLeft(message, mend="try again")


def _has_ended(connection: HTTPConnection) -> bool:
    """Whether a connection that waits has been closed by the other side."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise OperatorError("the owner's answer is not JSON: is it another version of tidemill?") from error


def _answer(said: Any) -> Any:
    """The answer in what was said; an error in it is raised as what it was."""
    if isinstance(said, dict) and "error" in said:
        told = said["error"]
        room = next((room for room in (errors, refusals) if told["kind"] in room.__all__), None)
        raise getattr(room, told["kind"], TidemillError)(told["message"], place=told["place"], mend=told["mend"])
    if isinstance(said, dict) and "answer" in said:
        return said["answer"]
    raise OperatorError("the owner answered with something unknown: is it another version of tidemill?")

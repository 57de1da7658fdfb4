"""One owner process at a time: the lock, and the address under which the owner answers others.

Rules of this file:
  * the lock is `flock` on `.tidemill/lock`, so it ends with its process, however that ends; the file is never removed;
  * `.tidemill/address` (readable by its user only) says who the owner is and where it answers; it is written beside and
    renamed, and believed only when that process answers with that token, so a stale one does no harm;
  * who comes second asks the owner, or tries lock and address again until the time is over, and then names the pid.

Theory of operation. `acquire` gives either an `Owner` (the lock is held; `announce` makes the address known, `hide`
withdraws it, `release` lets go) or the `Address` of a living owner that answered.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType

from tidemill.core.errors import NotFound, OperatorError

__all__ = ["LONG", "WAIT_SECONDS", "Address", "Owner", "acquire", "address_of", "answers", "state_folder"]

WAIT_SECONDS = 30.0
"""How long a command tries to become the owner, or to reach it, before it gives up."""

LONG = ("dev", "run --watch", "serve")
"""Commands that own a project until they are stopped: there is no point in waiting for them."""

ADDRESS = "address"
LOCK = "lock"
RESTORING = "restoring"
STATE = ".tidemill"

_MARKS_OF_A_PROJECT = ("tidemill.toml", "jobs", STATE)
_TRY_AGAIN_SECONDS = 0.05
_ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Address:
    """Who owns a project, and where that process answers (`host:port`; "" while it does not answer)."""

    pid: int
    address: str = ""
    token: str = ""
    command: str = ""

    @property
    def host_and_port(self) -> tuple[str, int]:
        """The two parts of the address."""
        host, _, port = self.address.rpartition(":")
        return host.strip("[]"), int(port)


class Owner:
    """The ownership of one project by this process."""

    def __init__(self, state: Path, lock: int, command: str) -> None:
        self.state = state
        self.token = secrets.token_urlsafe(32)
        self._lock = lock
        self._command = command
        self.hide()

    def announce(self, address: str) -> None:
        """Say where this process answers."""
        self._write(Address(os.getpid(), address, self.token, self._command))

    def hide(self) -> None:
        """Say that this process owns the project, and answers nowhere."""
        if self._lock >= 0:
            self._write(Address(os.getpid(), command=self._command))

    def release(self) -> None:
        """Let go; idempotent. The address goes first, so nobody asks a process that no longer owns."""
        if self._lock >= 0:
            with suppress(OSError):
                (self.state / ADDRESS).unlink()
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> Owner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write(self, address: Address) -> None:
        beside = self.state / f"{ADDRESS}.{os.getpid()}"
        with suppress(FileNotFoundError):
            beside.unlink()
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(address), file)
        beside.replace(self.state / ADDRESS)


def state_folder(project: str | Path) -> Path:
    """Where the state of a project is: a folder's own, or that of the folder a single file stands in."""
    path = Path(project).resolve()
    return (path.parent if path.is_file() else path) / STATE


def acquire(
    project: str | Path,
    wait_seconds: float = WAIT_SECONDS,
    *,
    command: str = "",
    may_ask: bool = True,
    is_mending: bool = False,
) -> Owner | Address:
    """Become the owner of a project, or find the one that answers.

    With `may_ask` False only becoming the owner will do. `is_mending` opens a state whose restore was interrupted.
    Raises OperatorError naming the pid when neither works in time.
    """
    state = _prepared(project)
    ends_at = time.monotonic() + wait_seconds
    while True:
        lock = _try_lock(state)
        if lock is not None:
            return _opened(state, lock, command, is_mending=is_mending)
        owner = address_of(state)
        if owner and may_ask and answers(owner):
            return owner
        is_over = time.monotonic() >= ends_at
        if owner and (is_over or (owner.command in LONG and not may_ask)):
            raise _taken(owner, wait_seconds if is_over else 0.0)
        if is_over:
            raise OperatorError(
                "another process has this project open, and does not say which", place=str(state / LOCK), mend=_MEND
            )
        time.sleep(_TRY_AGAIN_SECONDS)


_MEND = "wait for it, stop it, or ask it from the same machine and user"


def address_of(state: Path) -> Address | None:
    """The recorded address; None where there is none that can be read."""
    try:
        said = json.loads((state / ADDRESS).read_text(encoding="utf-8"))
        return Address(int(said["pid"]), str(said["address"]), str(said["token"]), str(said.get("command", "")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def answers(owner: Address) -> bool:
    """Whether that process, and no other that got its port since, answers there."""
    if not owner.address:
        return False
    host, port = owner.host_and_port
    connection = HTTPConnection(host, port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", "/v1/owner", headers={"Authorization": f"Bearer {owner.token}"})
        answer = connection.getresponse()
        return bool(answer.status == 200 and json.loads(answer.read())["pid"] == owner.pid)
    except (OSError, HTTPException, ValueError, KeyError, TypeError):
        return False
    finally:
        connection.close()


def _prepared(project: str | Path) -> Path:
    path = Path(project)
    if not path.is_file() and not any((path / name).exists() for name in _MARKS_OF_A_PROJECT):
        raise NotFound(
            f"there is no project in {path.resolve()}", mend="go to one, or make one with: tidemill init DIR"
        )
    state = state_folder(project)
    try:
        state.mkdir(exist_ok=True)
    except OSError as error:
        raise OperatorError(f"the state folder cannot be made: {error.strerror}", place=str(state)) from error
    return state


def _try_lock(state: Path) -> int | None:
    try:
        lock = os.open(state / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise OperatorError(f"the lock cannot be opened: {error.strerror}", place=str(state / LOCK)) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except BaseException:
        os.close(lock)
        raise
    return lock


def _opened(state: Path, lock: int, command: str, *, is_mending: bool) -> Owner:
    if (state / RESTORING).exists() and not is_mending:
        os.close(lock)
        raise OperatorError(
            "a restore of this project was interrupted", place=str(state), mend="run the same restore again"
        )
    try:
        return Owner(state, lock, command)
    except OSError as error:
        os.close(lock)
        raise OperatorError(f"the address cannot be written: {error.strerror}", place=str(state / ADDRESS)) from error


def _taken(owner: Address, waited_seconds: float) -> OperatorError:
    by = f"process {owner.pid}" + (f" (tidemill {owner.command})" if owner.command else "")
    waited = f", and did not let go in {waited_seconds:.0f} s" if waited_seconds else ""
    return OperatorError(f"{by} has this project open{waited}", mend=f"wait for it, or stop it: kill {owner.pid}")

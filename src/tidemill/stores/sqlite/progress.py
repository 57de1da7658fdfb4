"""Progress of jobs, set by compare-and-set inside the transaction that writes their outputs.

Rules of this file:
  * `expected` is compared on version, cursors and run; any difference is a Conflict and nothing is set;
  * a cursor never moves back within one version and one generation, and never passes its input's head; both are a
    corrupt state (a restored or tampered store), never a reason to count from zero. Only heads that live in this
    store can be compared; the tables check their own.
"""

from __future__ import annotations

from typing import Any

import msgspec

from tidemill.core.errors import Conflict, StateCorrupt
from tidemill.core.ports import Progress
from tidemill.stores.sqlite import catalog
from tidemill.stores.sqlite.connection import Connection

__all__ = ["all_progress", "check", "progress_of", "settle"]

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Progress).decode


def progress_of(connection: Connection, job: str) -> Progress | None:
    """What the file says of a job."""
    row = connection.one("select body from progress where job = ?", (job,))
    return None if row is None else _decode(row[0])


def all_progress(connection: Connection) -> dict[str, Progress]:
    """What the file says of every job."""
    return {job: _decode(body) for job, body in connection.all("select job, body from progress")}


def settle(connection: Connection, progress: Progress, expected: Progress | None) -> None:
    """Set a job's progress if it still is `expected` (port `Transaction.settle`)."""
    check(connection, progress, expected, progress_of(connection, progress.job))
    connection.execute(
        "insert or replace into progress (job, version, run, body) values (?, ?, ?, ?)",
        (progress.job, progress.version, progress.run, _encode(progress).decode()),
    )


def check(
    connection: Connection,
    progress: Progress,
    expected: Progress | None,
    current: Progress | None,
    *,
    has_overlay: bool = False,
) -> None:
    """Raise Conflict or StateCorrupt where a progress cannot follow the current one."""
    if _fingerprint(current) != _fingerprint(expected):
        raise Conflict(f"job {progress.job}: somebody else moved its cursor")
    for asset, cursor in progress.cursors.items():
        found = catalog.end(connection, asset, has_overlay=has_overlay)
        if found is not None and not found[1] and cursor > found[0].offset:
            raise _corrupt(progress, asset, f"would be {cursor}, beyond the head {found[0].offset}")
        if current is None or current.version != progress.version:
            continue
        is_same_log = current.generations.get(asset) == progress.generations.get(asset)
        if is_same_log and cursor < current.cursors.get(asset, 0):
            raise _corrupt(progress, asset, f"would move back from {current.cursors[asset]} to {cursor}")


def _fingerprint(progress: Progress | None) -> Any:
    return None if progress is None else (progress.version, dict(progress.cursors), progress.run)


def _corrupt(progress: Progress, asset: str, why: str) -> StateCorrupt:
    return StateCorrupt(
        f"job {progress.job}: its cursor on {asset} {why}",
        mend="the stores disagree: restore both from the same backup, or rebuild the job with `tidemill replay`",
    )

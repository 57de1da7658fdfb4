"""`tidemill doctor`: is the machine fit, and the state whole?"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import statistics
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, print_table, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import TidemillError
from tidemill.project.operations import Operations
from tidemill.project.owner import Address, address_of, answers, state_folder

LIBRARIES = ("tidemill", "duckdb", "pyarrow", "sqlglot", "starlette", "uvicorn")
FREE_BYTES_MIN = 1_000_000_000
FSYNC_SECONDS_MAX = 0.05
FSYNCS = 9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `state` is ok, warn or fail."""

    check: str
    state: str
    detail: str
    mend: str = ""


@declare("tidemill doctor", "tidemill doctor --json")
def command(settings: Settings) -> int:
    """Check versions, disk space, the time of an fsync, who owns the project, and the health of its state.

    Exit code 1 if something must be mended.
    """
    findings = list(_findings(settings))
    if settings.is_json:
        print_json([asdict(finding) for finding in findings])
    else:
        print_table(["check", "state", "detail"], [[each.check, each.state, each.detail] for each in findings])
        for finding in findings:
            if finding.mend:
                say(f"{finding.check}: {finding.mend}")
    return 1 if any(finding.state == "fail" for finding in findings) else 0


def _findings(settings: Settings) -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    yield Finding("versions", "ok", ", ".join(f"{name} {_version(name)}" for name in LIBRARIES))
    yield Finding("sqlite", "ok", sqlite3.sqlite_version)
    folder = settings.folder
    if not folder.exists():
        yield Finding("project", "fail", f"there is no {folder}", "name a project with --project DIR")
        return
    yield _disk(folder)
    state = state_folder(folder)
    if not state.is_dir():
        yield Finding("state", "ok", "none yet: nothing ran here")
        return
    yield _fsync(state)
    yield _owner(state)
    yield from _health(settings, state)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < FREE_BYTES_MIN:
        return Finding(
            "disk", "warn", f"{free / 1e9:.1f} GB free", "make room: work stops, unharmed, when the disk is full"
        )
    return Finding("disk", "ok", f"{free / 1e9:.1f} GB free")


def _fsync(state: Path) -> Finding:
    probe = state / f"doctor.{os.getpid()}"
    try:
        seconds = statistics.median(_fsync_seconds(probe) for _ in range(FSYNCS))
    except OSError as error:
        return Finding("fsync", "fail", f"the state folder cannot be written: {error.strerror}", f"mend {state}")
    finally:
        probe.unlink(missing_ok=True)
    detail = f"{seconds * 1000:.2f} ms"
    if seconds > FSYNC_SECONDS_MAX:
        return Finding("fsync", "warn", detail, "every commit waits that long: put the project on a faster disk")
    return Finding("fsync", "ok", detail)


def _fsync_seconds(probe: Path) -> float:
    with probe.open("wb") as file:
        file.write(os.urandom(4_096))
        file.flush()
        begin = time.perf_counter()
        os.fsync(file.fileno())
        return time.perf_counter() - begin


def _owner(state: Path) -> Finding:
    owner: Address | None = address_of(state)
    if owner is None:
        return Finding("owner", "ok", "nobody has the project open")
    if answers(owner):
        return Finding("owner", "ok", f"process {owner.pid} ({owner.command}) answers at {owner.address}")
    return Finding(
        "owner", "ok", f"process {owner.pid} had it open, and does not answer: it ended, or opens or closes now"
    )


def _health(settings: Settings, state: Path) -> Iterator[Finding]:
    ledger = state / "ledger.db"
    if not ledger.exists():
        yield Finding("state", "ok", "none yet: nothing ran here")
        return
    yield _ledger(ledger)
    sizes = {path.name: path.stat().st_size for path in state.iterdir() if path.is_file()}
    yield Finding(
        "size", "ok", ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sorted(sizes.items()) if size)
    )
    try:
        alarms = ask(settings, "doctor", _alarms)
    except TidemillError as error:
        yield Finding("open", "fail", error.message, error.mend)
        return
    yield Finding("open", "ok", "the project opens")
    for alarm in alarms:
        yield Finding("alarm", "warn", f"{alarm['kind']} {alarm.get('job', '')}: {alarm['reason']}")


def _alarms(mill: Operations) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = mill.status().get("alarms", [])
    return found


def _ledger(path: Path) -> Finding:
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as ledger:
            journal = ledger.execute("pragma journal_mode").fetchone()[0]
            said = ledger.execute("pragma quick_check(5)").fetchall()
    except sqlite3.Error as error:
        return Finding("ledger", "fail", str(error), "put the last backup back: tidemill restore DIR")
    if said != [("ok",)]:
        return Finding("ledger", "fail", str(said[0][0]), "put the last backup back: tidemill restore DIR")
    if journal != "wal":
        return Finding(
            "ledger", "warn", f"journal mode {journal}, not wal", "a tool changed it; it is set again at the next start"
        )
    return Finding("ledger", "ok", f"whole, journal mode {journal}")

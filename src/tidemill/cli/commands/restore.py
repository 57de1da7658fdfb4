"""`tidemill restore`: put a backup back."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import click

from tidemill.cli.output import listed, print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import NotFound, OperatorError
from tidemill.project.owner import RESTORING, Owner, acquire

STORES = ("ledger.db", "tables.duckdb")
LEFT_BEHIND = ("ledger.db-wal", "ledger.db-shm", "tables.duckdb.wal")


@declare("tidemill restore backups/monday")
@click.argument("source", metavar="DIR")
def command(settings: Settings, source: str) -> None:
    """Put the state of a backup back. No other process may have the project open.

    What was there is kept beside, in .tidemill/replaced-TIME. If it is interrupted, run it again.
    """
    files = _files(Path(source))
    owner = acquire(settings.folder, command="restore", may_ask=False, is_mending=True)
    assert isinstance(owner, Owner)
    with owner:
        try:
            kept = _put_back(files, owner.state)
        except OSError as error:
            mend = "make room, and run the same restore again"
            raise OperatorError(
                f"the backup was not put back: {error.strerror}", place=str(error.filename), mend=mend
            ) from error
    if settings.is_json:
        print_json({"source": source, "files": [file.name for file in files], "replaced": str(kept) if kept else None})
        return
    click.echo(f"restored {listed([file.name for file in files])} from {source}")
    if kept:
        say(f"what was there before is in {kept}")


def _files(source: Path) -> list[Path]:
    files = [source / name for name in STORES]
    for file in files:
        if not file.is_file():
            raise NotFound(
                f"{source} is not a backup: it has no {file.name}", mend="name the folder of a tidemill backup"
            )
    return files


def _put_back(files: list[Path], state: Path) -> Path | None:
    """Copy beside, then swap by renames; the mark says to every opener that the swap is not over."""
    beside = [state / f"{file.name}.{RESTORING}" for file in files]
    for file, copy in zip(files, beside, strict=True):
        shutil.copyfile(file, copy)
        _synced(copy)
    (state / RESTORING).write_text(str(files[0].parent.resolve()), encoding="utf-8")
    _synced(state)
    kept = _set_aside((state / name for name in (*STORES, *LEFT_BEHIND)), state)
    for file, copy in zip(files, beside, strict=True):
        copy.replace(state / file.name)
    _synced(state)
    (state / RESTORING).unlink()
    _synced(state)
    return kept


def _set_aside(files: Iterable[Path], state: Path) -> Path | None:
    there = [file for file in files if file.exists()]
    if not there:
        return None
    folder = state / f"replaced-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    folder.mkdir()
    for file in there:
        file.replace(folder / file.name)
    return folder


def _synced(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

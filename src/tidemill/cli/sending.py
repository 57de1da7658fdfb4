"""Sending events in blocks: from a file that may be resumed, from a stream, or one by one.

Rules of this file:
  * a block is whole lines, about `BLOCK_BYTES` of them; an index in an answer counts from the first event of all;
  * a file's progress is kept with each block under the hash of its content, so the same content resumes wherever the
    file was moved, and a finished file is sent anew;
  * a stream is sent as it comes: nothing waits for a block to be full.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from tidemill.cli.output import is_terminal
from tidemill.core.errors import NotFound, UserError
from tidemill.project.operations import Operations
from tidemill.server.lines import lines_of

__all__ = ["BLOCK_BYTES", "Total", "send_file", "send_row", "send_stream"]

BLOCK_BYTES = 4_000_000

RESULTS_MAX = 1_000
"""How many of the events that were not accepted are listed; all are counted."""


class Stream(Protocol):
    """Bytes that arrive over time."""

    def read1(self, most: int, /) -> bytes:
        """What has arrived, or what comes next; b"" at the end."""


@dataclass(slots=True)
class Total:
    """The sum of the answers to all blocks."""

    accepted: int = 0
    duplicate: int = 0
    parked: int = 0
    events: int = 0
    results: list[dict[str, Any]] = field(default_factory=list)
    warning: str = ""

    def add(self, block: bytes, answer: dict[str, Any]) -> None:
        """Count the answer to a block."""
        self.accepted += answer["accepted"]
        self.duplicate += answer["duplicate"]
        self.parked += answer["parked"]
        self.warning = self.warning or answer.get("warning", "")
        room = RESULTS_MAX - len(self.results)
        self.results += [{**said, "index": said["index"] + self.events} for said in answer.get("results", [])[:room]]
        self.events += block.count(b"\n") + (not block.endswith(b"\n"))

    def as_json(self) -> dict[str, Any]:
        """The shape of the outer contract."""
        counts = {"accepted": self.accepted, "duplicate": self.duplicate, "parked": self.parked}
        return {**counts, "results": self.results, "warning": self.warning}


def send_row(mill: Operations, asset: str, rows: Sequence[str]) -> Total:
    """Send events that were written as arguments. Raises UserError for what is not a JSON object."""
    for row in rows:
        try:
            is_object = isinstance(json.loads(row), dict)
        except ValueError as error:
            raise UserError(f"--row is not JSON: {error}", mend='write an object, such as {"id": "1"}') from error
        if not is_object:
            raise UserError("--row is not a JSON object", mend='write an object, such as {"id": "1"}')
    return _sent(mill, asset, [b"".join(lines_of(row.encode()) for row in rows)])


def send_stream(mill: Operations, asset: str, stream: Stream) -> Total:
    """Send what comes in on a stream, as it comes."""
    return _sent(mill, asset, _arriving(stream))


def send_file(mill: Operations, asset: str, name: str, *, is_quiet: bool) -> Total:
    """Send a file, from where it was interrupted before."""
    total = Total()
    with _opened(name) as file, _bar(is_quiet=is_quiet) as bar:
        source, size = _identity(file)
        begin = _resumed(mill.mark(asset, source), size)
        task = bar.add_task(asset, total=size, completed=begin)
        file.seek(begin)
        for block, end in _blocks(file, begin):
            total.add(block, mill.emit(asset, block, source=source, mark=str(end)))
            bar.update(task, completed=end)
    return total


def _sent(mill: Operations, asset: str, blocks: Iterable[bytes]) -> Total:
    total = Total()
    for block in blocks:
        total.add(block, mill.emit(asset, block))
    return total


def _arriving(stream: Stream) -> Iterator[bytes]:
    rest = b""
    while arrived := stream.read1(BLOCK_BYTES):
        whole, newline, rest = (rest + arrived).rpartition(b"\n")
        if newline:
            yield whole + newline
    if rest.strip():
        yield rest + b"\n"


@contextmanager
def _opened(name: str) -> Iterator[BinaryIO]:
    """A file of lines; a file that is one JSON array is turned into lines first."""
    path = Path(name)
    if not path.is_file():
        raise NotFound(f"there is no file {name}", mend="name a file of events, or - for stdin")
    with path.open("rb") as file:
        begin = file.read(64).lstrip()
        file.seek(0)
        yield BytesIO(lines_of(file.read())) if begin.startswith(b"[") else file


def _identity(file: BinaryIO) -> tuple[str, int]:
    """What identifies the content, and its size."""
    digest = hashlib.sha256()
    while part := file.read(BLOCK_BYTES):
        digest.update(part)
    return f"file:{digest.hexdigest()}", file.tell()


def _resumed(mark: str, size: int) -> int:
    """Where to begin: at the mark, unless there is none or the file was finished."""
    return int(mark) if mark.isdigit() and int(mark) < size else 0


def _blocks(file: BinaryIO, begin: int) -> Iterator[tuple[bytes, int]]:
    """Blocks of whole lines with the position after each."""
    end = begin
    while block := file.read(BLOCK_BYTES):
        if not block.endswith(b"\n"):
            block += file.readline()
        end += len(block)
        yield block, end


@contextmanager
def _bar(*, is_quiet: bool) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    is_shown = is_terminal(sys.stderr) and not is_quiet
    with Progress(*columns, console=Console(stderr=True), disable=not is_shown, transient=True) as bar:
        yield bar

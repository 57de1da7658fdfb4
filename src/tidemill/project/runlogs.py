"""What runs print and log: one text file a run, of bounded size, and boundedly many.

Rules of this file:
  * a run that prints nothing has no file; attempts of one run write to the same one;
  * a log that cannot be written (a full disk) never fails a run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["LOGS_MAX", "LOG_BYTES_MAX", "RunLogs"]

LOG_BYTES_MAX = 1_000_000
"""So much of what the function of a run prints is kept, over all its attempts; the log says where it ends."""

LOGS_MAX = 10_000
"""So many logs are kept, those of the newest runs."""

_FULL = f"... the log of this run is full ({LOG_BYTES_MAX:,} bytes): what came after is not kept\n".encode()


class RunLogs:
    """The logs of a project's runs, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, run: str) -> Path:
        """The log file of a run; its folder is made when first needed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{run}.log"

    @contextmanager
    def opened(self, run: str) -> Iterator[Callable[[str], None]]:
        """Within: a function that appends a line to the run's log, as far as there is room."""
        log = _Log(self, run)
        try:
            yield log.write
        finally:
            log.close()

    def read(self, run: str) -> list[str]:
        """The lines of a run's log; none where it wrote nothing."""
        path = self.folder / f"{run}.log"
        return path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []

    def trim(self) -> int:
        """Remove the logs of the oldest runs where there are too many; returns how many went."""
        logs = sorted(self.folder.glob("*.log")) if self.folder.is_dir() else []  # run ids begin with their time
        gone = logs[: max(0, len(logs) - LOGS_MAX)]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)


class _Log:
    """The log of a run that goes on."""

    def __init__(self, logs: RunLogs, run: str) -> None:
        self._logs = logs
        self._run = run
        self._file: BinaryIO | None = None
        self._room_bytes = LOG_BYTES_MAX

    def write(self, line: str) -> None:
        """Append a line."""
        if self._room_bytes <= 0:
            return
        with suppress(OSError):
            if self._file is None:
                self._file = self._logs.path(self._run).open("ab")
                self._room_bytes -= self._file.tell()
                if self._room_bytes <= 0:
                    return
            data = f"{line}\n".encode(errors="replace")
            self._room_bytes -= len(data)
            self._file.write(data if self._room_bytes > 0 else _FULL)
            self._file.flush()

    def close(self) -> None:
        """Nothing more comes."""
        self._room_bytes = 0
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

"""Commands as real processes on a real project."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROJECT = """
[project]
name = "flights"

[assets.departures]
kind = "topic"
id = "event_id"
[assets.departures.columns]
event_id = "varchar"
carrier = "varchar"
delay = "integer"

[assets.end_of_day]
kind = "external"
"""
TOTALS = """
select carrier, count(*) as flights, sum(delay) as delay from departures group by carrier
"""


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def json(self) -> Any:
        return json.loads(self.stdout)


class Project:
    """A project folder, and commands in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "jobs").mkdir(parents=True)
        self.write("tidemill.toml", PROJECT)
        self.write("jobs/totals.sql", TOTALS)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def __call__(self, *words: str, stdin: str = "") -> Ended:
        done = subprocess.run(
            [sys.executable, "-m", "tidemill", *words],
            cwd=self.folder,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    @contextmanager
    def begun(self, *words: str, **said: Any) -> Iterator[subprocess.Popen[str]]:
        """A command that goes on until it is killed or ends."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "tidemill", *words]
        process = subprocess.Popen(command, cwd=self.folder, stdout=pipe, stderr=pipe, stdin=pipe, text=True, **said)
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                assert stream is not None
                stream.close()

    @property
    def owner(self) -> dict[str, Any]:
        """What the address file says."""
        found: dict[str, Any] = json.loads((self.folder / ".tidemill" / "address").read_text())
        return found


def event(number: int, carrier: str = "UA") -> str:
    return json.dumps({"event_id": str(number), "carrier": carrier, "delay": number})

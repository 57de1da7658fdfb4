"""Small projects for benchmarks, and waiting for what they do."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from tidemill.core.ports import RunRecord
from tidemill.project.mill import Mill, open_mill

__all__ = ["Ended", "project", "write_project"]

TOPIC = """
[project]
name = "bench"
[assets.events]
kind = "topic"
{id}
[assets.events.columns]
event_id = "varchar"
key = "varchar"
amount = "integer"
at = "timestamp"
note = "varchar"
"""


def write_project(folder: Path, jobs: Mapping[str, str], *, has_id: bool = False, settings: str = "") -> None:
    """Write a project with one topic (or other settings) and these files under jobs/."""
    (folder / "jobs").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(settings or TOPIC.format(id='id = "event_id"' if has_id else ""))
    for name, text in jobs.items():
        (folder / "jobs" / name).write_text(text)


def project(folder: Path, jobs: Mapping[str, str], *, has_id: bool = False, settings: str = "") -> Mill:
    """Such a project, opened to run."""
    write_project(folder, jobs, has_id=has_id, settings=settings)
    mill = open_mill(folder, mode="run")
    mill.run()
    return mill


class Ended:
    """Waits for a job to commit up to an offset of an input."""

    def __init__(self, mill: Mill, job: str, asset: str) -> None:
        self._job = job
        self._asset = asset
        self._reached = 0
        self._changed = threading.Condition()
        mill.machine.journal.listeners.append(self._hear)

    def _hear(self, record: RunRecord) -> None:
        if record.job == self._job and record.state == "succeeded":
            with self._changed:
                self._reached = max(self._reached, record.inputs[self._asset][1])
                self._changed.notify_all()

    def wait(self, offset: int, timeout_seconds: float = 120.0) -> None:
        """Until the job has committed this offset. Raises TimeoutError."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._reached >= offset, timeout_seconds):
                raise TimeoutError(f"{self._job} did not reach {offset}")

"""Metrics in the Prometheus text format, made from `status` and what the server counted: base units, bounded labels,
never a key."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tidemill import __version__
from tidemill.server.body import Room
from tidemill.server.committer import Committer
from tidemill.server.counts import BUCKETS_SECONDS, Counts

__all__ = ["Load", "text"]

_OF_JOBS = {
    "lag_changes": ("tidemill_lag_records", "Changes that a job has not taken yet."),
    "lag_seconds": ("tidemill_lag_seconds", "Age of the oldest change that a job has not taken yet."),
    "freshness_seconds": ("tidemill_freshness_seconds", "Age of a job's newest result."),
}
_OF_ASSETS = {
    "head": ("tidemill_asset_head", "Offset of an asset's last change."),
    "rows": ("tidemill_asset_rows", "Rows of an asset."),
}


@dataclass(frozen=True, slots=True)
class Load:
    """What a server has done, and what waits in it."""

    counts: Counts
    room: Room
    committer: Committer


def text(status: dict[str, Any], load: Load) -> str:
    """The metrics of a status and a load."""
    return "\n".join([*_lines(status), *_of_load(load)]) + "\n"


def _of_load(load: Load) -> Iterator[str]:
    counts = load.counts
    yield from _head("tidemill_rows_total", "Events that came over HTTP, by what became of them.", "counter")
    for (asset, status), count in sorted(counts.rows.items()):
        yield _line("tidemill_rows_total", {"asset": asset, "status": status}, count)
    yield from _head("tidemill_http_responses_total", "Answers by status code.", "counter")
    for code, count in sorted(counts.answers.items()):
        yield _line("tidemill_http_responses_total", {"code": str(code)}, count)
    yield from _head("tidemill_commit_seconds", "How long commits of events took.", "histogram")
    total = 0
    for bound, count in zip((*map(str, BUCKETS_SECONDS), "+Inf"), counts.commits, strict=True):
        total += count
        yield _line("tidemill_commit_seconds_bucket", {"le": bound}, total)
    yield f"tidemill_commit_seconds_sum {counts.commit_seconds}"
    yield f"tidemill_commit_seconds_count {total}"
    yield from _head("tidemill_waiting_bytes", "Bytes of requests that are held and not durable yet.")
    yield f"tidemill_waiting_bytes {load.room.bytes_held}"
    yield from _head("tidemill_waiting_requests", "Requests that wait for their commit.")
    yield f"tidemill_waiting_requests {load.committer.waiting}"


def _lines(status: dict[str, Any]) -> Iterator[str]:
    yield from _head("tidemill_build_info", "The version that answers.")
    yield f'tidemill_build_info{{version="{_escaped(__version__)}"}} 1'
    for field, (name, help_text) in _OF_JOBS.items():
        yield from _head(name, help_text)
        yield from (
            _line(name, {"job": job["job"]}, job.get(field)) for job in status["jobs"] if _is_number(job, field)
        )
    yield from _head("tidemill_job_state", "1 for the state a job is in.")
    yield from (_line("tidemill_job_state", {"job": job["job"], "state": job["state"]}, 1) for job in status["jobs"])
    for field, (name, help_text) in _OF_ASSETS.items():
        yield from _head(name, help_text)
        found = (asset for asset in status["assets"] if _is_number(asset, field))
        yield from (_line(name, {"asset": asset["asset"]}, asset[field]) for asset in found)
    yield from _head("tidemill_alarms", "Alarms that are on.")
    yield f"tidemill_alarms {len(status.get('alarms', []))}"


def _head(name: str, help_text: str, kind: str = "gauge") -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} {kind}"


def _line(name: str, labels: dict[str, str], value: Any) -> str:
    shown = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels.items())
    return f"{name}{{{shown}}} {value}"


def _is_number(said: dict[str, Any], field: str) -> bool:
    return isinstance(said.get(field), int | float)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

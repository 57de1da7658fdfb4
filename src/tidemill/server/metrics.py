"""Metrics in the Prometheus text format, made from `status`: base units, bounded labels, never a key."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidemill import __version__

__all__ = ["text"]

_OF_JOBS = {
    "lag_changes": ("tidemill_lag_changes", "Changes that a job has not taken yet."),
    "lag_seconds": ("tidemill_lag_seconds", "Age of the oldest change that a job has not taken yet."),
    "freshness_seconds": ("tidemill_freshness_seconds", "Age of a job's newest result."),
}
_OF_ASSETS = {
    "head": ("tidemill_asset_head", "Offset of an asset's last change."),
    "rows": ("tidemill_asset_rows", "Rows of an asset."),
}


def text(status: dict[str, Any]) -> str:
    """The metrics of a status."""
    return "\n".join(_lines(status)) + "\n"


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


def _head(name: str, help_text: str) -> Iterator[str]:
    yield f"# HELP {name} {help_text}"
    yield f"# TYPE {name} gauge"


def _line(name: str, labels: dict[str, str], value: Any) -> str:
    shown = ",".join(f'{label}="{_escaped(said)}"' for label, said in labels.items())
    return f"{name}{{{shown}}} {value}"


def _is_number(said: dict[str, Any], field: str) -> bool:
    return isinstance(said.get(field), int | float)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

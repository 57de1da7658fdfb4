"""Plans that survive a restart: what a compiled SQL job is as plain data, and what it is called by.

Rules of this file:
  * a plan is called by everything that it is made of: the SQL and the views in it, each input's kind, columns and whether
    its rows can go, the declared key, what the output is, the versions of the planner, of tidemill and of DuckDB;
  * losing what is kept only costs time: what is not there, is called otherwise or does not read is compiled again;
  * what reads a kept plan parses no SQL and asks DuckDB nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import duckdb

from tidemill.core.model import Asset, Column, Job
from tidemill.core.ports import Plan
from tidemill.engines.stages import Layout
from tidemill.sql import PLAN_VERSION

__all__ = ["Plans", "name_of", "read", "written"]

_MADE_BY = ("sql", "engines")
"""The rooms whose code decides what a plan is."""


class Plans(Protocol):
    """Where compiled plans are kept, one a job."""

    def get(self, job: str, name: str) -> Any:
        """The plan that was kept for this job under this name; None where there is none, or another."""

    def put(self, job: str, name: str, plan: Mapping[str, Any]) -> None:
        """Keep a plan in place of what was kept for this job. A place that cannot be written is no error."""


def name_of(job: Job, inputs: Mapping[str, Asset], views: Mapping[str, str]) -> str:
    """What the plan of this job over these inputs is called."""
    made_of = {
        "versions": _versions(),
        "job": [job.name, job.outputs, job.transform, job.key, str(job.materialized), job.gate is not None],
        "home": str(job.home),
        "inputs": {
            name: [str(asset.kind), asset.can_retract, [_plain(column) for column in asset.columns]]
            for name, asset in inputs.items()
        },
        "views": _named(job.transform, views),
    }
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()


def _named(text: str, views: Mapping[str, str]) -> Mapping[str, str]:
    """All views, where the text can name any of them; no look is taken for that, so it may say so of one too many."""
    lower = text.lower()
    return views if any(name.lower().replace('"', '""') in lower for name in views) else {}


@cache
def _versions() -> list[str]:
    """Whatever decides beside the definitions; the planner's own code too, so that no plan outlives what made it."""
    package = Path(__file__).parent.parent
    code = hashlib.sha256()
    for room in _MADE_BY:
        for path in sorted((package / room).rglob("*.py")):
            code.update(path.read_bytes())
    return [PLAN_VERSION, version("tidemill"), duckdb.__version__, code.hexdigest()]


def _plain(column: Column) -> list[Any]:
    return [column.name, column.type, column.required]


def _column(data: list[Any]) -> Column:
    name, kind, required = data
    return Column(name, kind, required)


def written(plan: Plan) -> dict[str, Any]:
    """A plan as plain JSON data."""
    return {
        "kind": plan.kind,
        "columns": [_plain(column) for column in plan.columns],
        "key": None if plan.key is None else list(plan.key),
        "reason": plan.reason,
        "statement": plan.statement,
        "is_mirrored": plan.is_mirrored,
        "layout": plan.detail.to_dict() if isinstance(plan.detail, Layout) else None,
    }


def read(data: Any) -> Plan | None:
    """What `written` gave; None where it is something else."""
    try:
        layout = None if data["layout"] is None else Layout.from_dict(data["layout"])
        return Plan(
            kind=data["kind"],
            columns=tuple(_column(column) for column in data["columns"]),
            key=None if data["key"] is None else tuple(data["key"]),
            reason=data["reason"],
            statement=data["statement"],
            is_mirrored=data["is_mirrored"],
            tables={} if layout is None else layout.tables,
            detail=layout,
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return None

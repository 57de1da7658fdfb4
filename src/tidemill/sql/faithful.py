"""Which values survive the way through Arrow and back by a cast, told by the type of their column."""

from __future__ import annotations

import re

__all__ = ["is_faithful"]

_FAITHFUL = re.compile(
    r"(boolean|(u?)(tinyint|smallint|integer|bigint)|real|float|double|varchar|blob|date|uuid|json"
    r"|decimal\(\d+, ?\d+\)|timestamp|timestamptz|timestamp with time zone)(\[\])*",
    re.IGNORECASE,
)


def is_faithful(kind: str) -> bool:
    """Whether the values of a DuckDB type come back from Arrow as they were."""
    return _FAITHFUL.fullmatch(kind) is not None

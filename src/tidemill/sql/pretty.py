"""Statements laid out over lines, for people to read.

Rules of this file: only how a text is laid out changes; a text that does not parse is shown as it is.
"""

from __future__ import annotations

import sqlglot
from sqlglot.errors import SqlglotError

__all__ = ["pretty"]


def pretty(text: str) -> str:
    """The statement, a clause a line."""
    try:
        return sqlglot.parse_one(text, dialect="duckdb").sql(dialect="duckdb", pretty=True, comments=False)
    except SqlglotError:
        return text

"""Put relations in the place of a statement's inputs, at run time, without parsing.

Rules of this file:
  * only whole quoted identifiers `"@input:<asset>"` are replaced; text inside strings and other identifiers never is;
  * a relation is whatever may stand after FROM: a quoted table name or a query in parentheses;
  * an input without a relation is an error, for the statement would read something else or nothing.

Theory: the statement comes from our own writer, which quotes strings with ' and identifiers with " and doubles the
quote inside; so one expression that steps over both kinds finds exactly the placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tidemill.core.errors import InvariantError

__all__ = ["INPUT", "bind", "quoted"]

INPUT = "@input:"
_QUOTED = re.compile(r"""'(?:[^']|'')*'|"((?:[^"]|"")*)\"""")


def quoted(name: str) -> str:
    """A name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def bind(statement: str, relations: Mapping[str, str]) -> str:
    """The statement with each input read from the relation given for its asset."""

    def put(match: re.Match[str]) -> str:
        name = match[1]
        if name is None or not name.startswith(INPUT):
            return match[0]
        asset = name.removeprefix(INPUT).replace('""', '"')
        if asset not in relations:
            raise InvariantError(f"no relation was given for the input {asset!r}")
        return relations[asset]

    return _QUOTED.sub(put, statement)

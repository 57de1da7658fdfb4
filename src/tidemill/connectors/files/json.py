"""JSON and NDJSON: one object a row, each field read as the declared column says, every refusal at its line.

Rules of this file:
  * NDJSON has one object a line (blank lines are none); JSON is one array of objects, or one object;
  * what becomes of fields that are not declared is the asset's policy (drift.py); a field that a row does not have is
    null there, or an error where it is required;
  * numbers with a fraction are kept as written until the column's type is known, so that decimals are exact.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import msgspec
import pyarrow as pa

from tidemill.connectors.files.columns import array_of, from_json
from tidemill.connectors.files.content import rejected, text_bytes
from tidemill.connectors.files.drift import foreign, matched, stranger
from tidemill.core.model import Column
from tidemill.core.schema import Policy, type_of

__all__ = ["infer", "line_of", "names", "read"]

_BROKEN = (msgspec.DecodeError, RecursionError)

Rows = Iterator[tuple[int, Mapping[str, Any]]]


def read(
    data: bytes, file: str, columns: Sequence[Column], options: Mapping[str, Any], policy: Policy, *, lines: bool
) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows of a file, in declared columns, and the names of fields left out. Raises UpstreamError."""
    text = text_bytes(data, file, str(options.get("encoding", "utf-8")))
    exact = any(column.type.startswith("decimal") or column.type == "json" for column in columns)
    values: dict[str, list[Any]] = {column.name: [] for column in columns}
    strangers: dict[str, None] = {}
    is_ours = not columns
    for line, found in _rows(text, file, exact, lines):
        row = found
        if not found.keys() <= values.keys():
            known = matched(found, columns)
            others = [name for name in found if name not in known]
            if others and policy is Policy.STRICT:
                raise stranger(min(others), file, line, "field")
            strangers.update(dict.fromkeys(others))
            row = {known[name]: value for name, value in found.items() if name in known}
        is_ours = is_ours or bool(row)
        for column in columns:
            values[column.name].append(_value(row, column, file, line))
    if strangers and not is_ours:
        raise foreign(list(strangers), file, 0)
    try:
        table = pa.table({column.name: array_of(values[column.name], column) for column in columns})
    except ValueError as error:
        raise rejected(file, 0, str(error)) from None
    return table, tuple(strangers) if policy is Policy.IGNORE else ()


def _value(row: Mapping[str, Any], column: Column, file: str, line: int) -> Any:
    value = row.get(column.name)
    if value is None and column.required:
        raise rejected(file, line, f"the required field {column.name} is missing")
    try:
        return from_json(value, column)
    except ValueError as error:
        raise rejected(file, line, str(error)) from None


def _rows(text: bytes, file: str, exact: bool, lines: bool) -> Rows:
    decoder = msgspec.json.Decoder(float_hook=Decimal if exact else None)
    return _line_rows(text, file, decoder) if lines else _array_rows(text, file, decoder)


def _line_rows(text: bytes, file: str, decoder: msgspec.json.Decoder[Any]) -> Rows:
    for number, line in enumerate(text.split(b"\n"), start=1):
        if line and not line.isspace():
            try:
                row = decoder.decode(line)
            except _BROKEN as error:
                raise rejected(file, number, f"it is not JSON: {error}") from None
            yield number, _object(row, file, number)


def _array_rows(text: bytes, file: str, decoder: msgspec.json.Decoder[Any]) -> Rows:
    if not text.strip():
        return
    try:
        found = decoder.decode(text)
    except _BROKEN as error:
        raise rejected(file, _line_of_error(text), f"it is not JSON: {error}") from None
    for row in found if isinstance(found, list) else [found]:
        yield 0, _object(row, file, 0)


def _line_of_error(text: bytes) -> int:
    try:
        json.loads(text.decode())  # bytes would be searched for another encoding
    except json.JSONDecodeError as error:
        return error.lineno
    except RecursionError:
        return 0
    return 0


def _object(row: Any, file: str, line: int) -> Mapping[str, Any]:
    if not isinstance(row, dict):
        raise rejected(file, line, f"a row is an object, and this is {json.dumps(row, default=str)[:40]}")
    return row


def line_of(data: bytes, index: int, options: Mapping[str, Any]) -> int:
    """The line of a row of a file of lines, by its place (from 0)."""
    text = text_bytes(data, "", str(options.get("encoding", "utf-8")))
    lines = (number for number, line in enumerate(text.split(b"\n"), start=1) if line and not line.isspace())
    return next(islice(lines, index, None), 0)


def names(data: bytes, file: str, options: Mapping[str, Any], *, lines: bool) -> list[str]:
    """The fields that any row has."""
    text = text_bytes(data, file, str(options.get("encoding", "utf-8")))
    return list({name: None for _, row in _rows(text, file, False, lines) for name in row})


def infer(
    data: bytes, file: str, options: Mapping[str, Any], *, lines: bool, takes_empty: bool = True
) -> tuple[Column, ...]:
    """The columns that a file tells itself: a nested value is json, and so is a field of several types.

    Without `takes_empty`, those that have a value.
    """
    text = text_bytes(data, file, str(options.get("encoding", "utf-8")))
    values: dict[str, list[Any]] = {}
    for _, row in _rows(text, file, False, lines):
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    kept = {name: found for name, found in values.items() if takes_empty or any(each is not None for each in found)}
    return tuple(Column(name, type_of(found)) for name, found in kept.items())

"""CSV: typed by the declared columns, exactly, and every refusal at its line.

Rules of this file:
  * the header names the columns, in any order and case; what becomes of others is the asset's policy (drift.py);
  * an unquoted text of the `null` list (default: nothing at all) is null; a quoted one is text;
  * the fast reader is only believed when it accepts a file; whatever it refuses is read again value by value, and
    that reading decides and knows the line.

Options: `delimiter`, `null` (text or list), `encoding`, `quote`, `header` (false: columns in declared order).
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from tidemill.connectors.files.columns import array_of, arrow_type, from_text, type_name
from tidemill.connectors.files.content import rejected, text_bytes
from tidemill.connectors.files.drift import settled
from tidemill.core.model import Column
from tidemill.core.schema import Policy

__all__ = ["infer", "line_of", "names", "read"]

_FAST = ("varchar", "double", "float", "date", "tinyint", "smallint", "integer", "bigint", "timestamp")
_LEADING_ZERO = r"^[+-]?0[0-9]"


def read(
    data: bytes, file: str, columns: Sequence[Column], options: Mapping[str, Any], policy: Policy
) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows of a file, in declared columns, and the names of columns left out. Raises UpstreamError."""
    text = text_bytes(data, file, str(options.get("encoding", "utf-8")))
    names, left_out = settled(_header(text, file, columns, options), columns, policy, file, 1)
    if not text.strip():
        return _empty(columns), ()
    try:
        table = _fast(text, names, columns, options)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowKeyError, ValueError):
        table = _exact(text, file, names, columns, options)
    _check_required(table, text, file, columns, options)
    return table, left_out


def infer(data: bytes, file: str, options: Mapping[str, Any], *, takes_empty: bool = True) -> tuple[Column, ...]:
    """The columns that a file tells itself; without `takes_empty`, those that have a value."""
    text = text_bytes(data, file, str(options.get("encoding", "utf-8")))
    if not text.strip():
        return ()
    names = _header(text, file, (), options)
    try:
        table = arrow_csv.read_csv(
            pa.BufferReader(text), _read_options(names, options), _parse_options(options),
            arrow_csv.ConvertOptions(null_values=_nulls(options), strings_can_be_null=True, quoted_strings_can_be_null=False),
        )  # fmt: skip
    except pa.ArrowInvalid as error:
        _exact(text, file, names, [Column(name, "varchar") for name in names], options)
        raise rejected(file, 0, f"it is not CSV: {error}") from None
    texts = _texts(text, names, options)
    kept = [name for name in names if takes_empty or texts.column(name).null_count < table.num_rows]
    return tuple(Column(name, _inferred(table.column(name), texts.column(name))) for name in kept)


def names(data: bytes, file: str, options: Mapping[str, Any]) -> list[str]:
    """The columns that the header names; none where there is no header."""
    text = text_bytes(data, file, str(options.get("encoding", "utf-8")))
    return _header(text, file, (), options) if options.get("header", True) is not False else []


def _inferred(column: pa.ChunkedArray, text: pa.ChunkedArray) -> str:
    """The type of a column; digits with a leading zero are a code, not a number."""
    name = type_name(column.type)
    if name in ("bigint", "double") and pc.any(pc.match_substring_regex(text, _LEADING_ZERO)).as_py():
        return "varchar"
    return "varchar" if name == "null" else name


def _empty(columns: Sequence[Column]) -> pa.Table:
    return pa.table({column.name: pa.array([], arrow_type(column.type)) for column in columns})


def _delimiter(options: Mapping[str, Any]) -> str:
    return str(options.get("delimiter", ",")).replace("\\t", "\t")


def _nulls(options: Mapping[str, Any]) -> list[str]:
    said = options.get("null", [""])
    return [said] if isinstance(said, str) else [str(text) for text in said]


def _header(text: bytes, file: str, columns: Sequence[Column], options: Mapping[str, Any]) -> list[str]:
    """The names of the columns, as the file has them."""
    first = next(_records(text, options), (1, []))[1]
    if options.get("header", True) is False:
        return [column.name for column in columns] or [f"column{index}" for index in range(len(first))]
    names = [name.strip() for name in first]
    doubled = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if doubled is not None:
        raise rejected(file, 1, f"the header names {doubled or 'nothing'} twice")
    return names


def _records(text: bytes, options: Mapping[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Every record with the line it begins on; blank lines are none."""
    quote = str(options.get("quote", '"'))
    lines = io.StringIO(text.decode(), newline="")
    reader = csv.reader(lines, delimiter=_delimiter(options), quotechar=quote or None,
                        quoting=csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE)  # fmt: skip
    csv.field_size_limit(1 << 30)
    before = 0
    for record in reader:
        if record:
            yield before + 1, record
        before = reader.line_num


def _read_options(names: Sequence[str], options: Mapping[str, Any], threads: bool = True) -> Any:
    skip = 0 if options.get("header", True) is False else 1
    return arrow_csv.ReadOptions(column_names=list(names), skip_rows_after_names=0, skip_rows=skip, use_threads=threads)


def _parse_options(options: Mapping[str, Any]) -> Any:
    quote = str(options.get("quote", '"'))
    return arrow_csv.ParseOptions(delimiter=_delimiter(options), quote_char=quote or False, newlines_in_values=True)


def _fast(text: bytes, names: Sequence[str], columns: Sequence[Column], options: Mapping[str, Any]) -> pa.Table:
    """The columnar reader; types it might read otherwise than we do are left to the exact one."""
    present = [column for column in columns if column.name in names]
    if any(column.type not in _FAST and not column.type.startswith("decimal") for column in present):
        raise ValueError("not for the fast reader")
    convert = arrow_csv.ConvertOptions(
        column_types={column.name: arrow_type(column.type) for column in present},
        include_columns=[column.name for column in present],
        null_values=_nulls(options),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    table = arrow_csv.read_csv(pa.BufferReader(text), _read_options(names, options), _parse_options(options), convert)
    if any(pa.types.is_floating(found.type) and pc.any(pc.is_inf(found)).as_py() for found in table.columns):
        raise ValueError("too large for a double, or the word for infinity: the exact reader knows")
    return _completed(table, columns)


def _completed(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """All declared columns in their order; null where the file has none."""
    arrays = [
        table.column(column.name)
        if column.name in table.column_names
        else pa.nulls(table.num_rows, arrow_type(column.type))
        for column in columns
    ]
    return pa.table(arrays, names=[column.name for column in columns])


def _texts(text: bytes, names: Sequence[str], options: Mapping[str, Any]) -> pa.Table:
    """All values as they are written, null where they are null."""
    convert = arrow_csv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        null_values=_nulls(options),
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    read_options = _read_options(names, options, threads=False)
    return arrow_csv.read_csv(pa.BufferReader(text), read_options, _parse_options(options), convert)


def _exact(
    text: bytes, file: str, names: Sequence[str], columns: Sequence[Column], options: Mapping[str, Any]
) -> pa.Table:
    """Value by value; raises UpstreamError at the first that does not fit."""
    _check_shape(text, file, names, options)
    try:
        table = _texts(text, names, options)
    except pa.ArrowInvalid as error:
        raise rejected(file, 0, f"it is not CSV: {error}") from None
    arrays = []
    for column in columns:
        if column.name in names:
            arrays.append(_column(table.column(column.name).to_pylist(), column, text, file, options))
        else:
            arrays.append(pa.nulls(table.num_rows, arrow_type(column.type)))
    return pa.table(arrays, names=[column.name for column in columns])


def _check_shape(text: bytes, file: str, names: Sequence[str], options: Mapping[str, Any]) -> None:
    try:
        for line, record in _records(text, options):
            if len(record) != len(names):
                raise rejected(file, line, f"{len(record)} values where the header has {len(names)} columns")
    except csv.Error as error:
        raise rejected(file, 0, f"it is not CSV: {error}") from None


def _column(values: list[str | None], column: Column, text: bytes, file: str, options: Mapping[str, Any]) -> pa.Array:
    found = []
    for index, value in enumerate(values):
        try:
            found.append(None if value is None else from_text(value, column))
        except ValueError as error:
            raise rejected(file, _line_of(index, text, options), str(error)) from None
    try:
        return array_of(found, column)
    except ValueError as error:
        raise rejected(file, 0, str(error)) from None


def _check_required(
    table: pa.Table, text: bytes, file: str, columns: Sequence[Column], options: Mapping[str, Any]
) -> None:
    for column in columns:
        if column.required and table.column(column.name).null_count:
            index = pc.index(table.column(column.name).is_null(), True).as_py()
            raise rejected(file, _line_of(index, text, options), f"the required column {column.name} is null")


def line_of(data: bytes, index: int, options: Mapping[str, Any]) -> int:
    """The line that a row of a file begins on, by its place (from 0)."""
    return _line_of(index, text_bytes(data, "", str(options.get("encoding", "utf-8"))), options)


def _line_of(index: int, text: bytes, options: Mapping[str, Any]) -> int:
    """The line that the row of this place begins on."""
    skip = 0 if options.get("header", True) is False else 1
    for number, (line, _) in enumerate(_records(text, options)):
        if number == index + skip:
            return line
    return 0

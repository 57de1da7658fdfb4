"""From stored lines back to typed columns.

Rules of this file:
  * both ways of decoding give the same columns: structs (msgspec), and pyarrow's JSON reader where every type allows;
  * where the fast way fails (a value spelt in a way it does not know) the exact way decides.

Theory of operation. A struct costs about a microsecond a row and nothing to start: it serves few rows. pyarrow reads
whole blocks without holding Python's lock: it serves many.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.json as pajson

from tidemill.core.model import Column
from tidemill.stores.sqlite.kinds import Kind
from tidemill.stores.sqlite.nested import kind_of

__all__ = ["Decoder", "is_plain_name"]

FEW_ROWS = 256
"""Up to so many rows are decoded with structs."""

BLOCK_BYTES = 512 << 10
"""What one thread of pyarrow's reader takes at once."""


class Decoder:
    """Decodes NDJSON of one shape."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self.columns = tuple(columns)
        self.kinds = [kind_of(column.type) for column in columns]
        self.schema = pa.schema([(column.name, kind.arrow) for column, kind in zip(columns, self.kinds, strict=True)])
        names = {f"c{place}": column.name for place, column in enumerate(columns)}
        fields = [(name, _field(kind), None) for name, kind in zip(names, self.kinds, strict=True)]
        self._names = list(names)
        self._rows: Any = None  # where a name cannot be a struct's field, each value is decoded by itself
        if all(is_plain_name(column.name) for column in columns):
            self._rows = msgspec.json.Decoder(msgspec.defstruct("Row", fields, rename=names, gc=False))
        self._is_bulk = bool(columns) and all(kind.bulk is not None for kind in self.kinds)
        self._bulk_schema = pa.schema(
            [(column.name, kind.bulk) for column, kind in zip(columns, self.kinds, strict=True) if kind.bulk]
        )

    def table(self, payloads: Sequence[bytes], count: int) -> pa.Table:
        """The columns of these payloads, which hold `count` lines."""
        if not self.columns or not count:
            return self._empty(count)
        data = payloads[0] if len(payloads) == 1 else b"\n".join(payloads)
        if count > FEW_ROWS and self._is_bulk:
            table = self._in_bulk(data)
            if table is not None and table.num_rows == count:
                return table
        return self._by_row(data)

    def _empty(self, count: int) -> pa.Table:
        arrays = [pa.nulls(count, kind.arrow) for kind in self.kinds]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _in_bulk(self, data: bytes) -> pa.Table | None:
        try:
            table = pajson.read_json(
                pa.BufferReader(data),
                read_options=pajson.ReadOptions(block_size=BLOCK_BYTES),
                parse_options=pajson.ParseOptions(
                    explicit_schema=self._bulk_schema, unexpected_field_behavior="ignore"
                ),
            )
        except pa.ArrowInvalid:
            return None
        return table if table.schema == self.schema else table.cast(self.schema, safe=False)

    def _by_row(self, data: bytes) -> pa.Table:
        if self._rows is None:
            return self._by_value(data)
        rows = self._rows.decode_lines(data)
        arrays = [
            _array([getattr(row, name) for row in rows], kind)
            for name, kind in zip(self._names, self.kinds, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def _by_value(self, data: bytes) -> pa.Table:
        rows = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode_lines(data)
        arrays = []
        for column, kind in zip(self.columns, self.kinds, strict=True):
            raws = [row.get(column.name, _NULL) for row in rows]
            arrays.append(_array([msgspec.json.decode(raw, type=_field(kind)) for raw in raws], kind))
        return pa.Table.from_arrays(arrays, schema=self.schema)


_NULL = msgspec.Raw(b"null")


def is_plain_name(name: str) -> bool:
    """Whether a struct can have a field of that name."""
    return name.isprintable() and not {'"', "\\"} & set(name)


def _field(kind: Kind) -> Any:
    return kind.fast if kind.fast is msgspec.Raw else kind.fast | None


def _array(values: list[Any], kind: Kind) -> pa.Array:
    load = kind.load
    if load is not None:
        values = [None if value is None else load(value) for value in values]
    return pa.array(values, kind.arrow)

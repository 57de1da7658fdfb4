"""Which row is which: a row of a file is its file, its content, and how many equal rows stood before it.

Rules of this file:
  * `_rid` = path # content hash # occurrence (rule 4), `_parent` = path; neither depends on where in the file the row
    stands, so a row that moved is the same row;
  * content is the values of the columns in the asset's order, each with its length, so that no two rows look alike;
  * two equal rows of a file are two rows.
"""

from __future__ import annotations

import json
from hashlib import blake2b

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core.change import PARENT, RID

__all__ = ["identified"]


def identified(table: pa.Table, path: str) -> pa.Table:
    """The rows with `_rid` and `_parent` in front."""
    seen: dict[str, int] = {}
    rids = []
    for line in _lines(table):
        content = blake2b(line.encode(), digest_size=16).hexdigest()
        occurrence = seen.get(content, 0)
        seen[content] = occurrence + 1
        rids.append(f"{path}#{content}#{occurrence}")
    table = table.add_column(0, RID, pa.array(rids, pa.string()))
    return table.add_column(1, PARENT, pa.array([path] * len(rids), pa.string()))


def _lines(table: pa.Table) -> list[str]:
    """Each row's values as one text from which they could be read back."""
    if not table.num_columns:
        return [""] * table.num_rows
    parts = [_lengthed(_as_text(table.column(name))) for name in table.column_names]
    lines: list[str] = pc.binary_join_element_wise(*parts, "").to_pylist()
    return lines


def _as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_binary(column.type):
        return pa.chunked_array([pa.array([None if v is None else v.hex() for v in column.to_pylist()], pa.string())])
    if pa.types.is_nested(column.type):
        texts = [None if v is None else json.dumps(v, default=str, sort_keys=True) for v in column.to_pylist()]
        return pa.chunked_array([pa.array(texts, pa.string())])
    return column.cast(pa.string())


def _lengthed(column: pa.ChunkedArray) -> pa.ChunkedArray:
    lengths = pc.binary_length(column).cast(pa.string())
    return pc.fill_null(pc.binary_join_element_wise(lengths, column, ":"), "n")

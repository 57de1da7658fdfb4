"""Ranges of columns in files: a file with a value beyond one is rejected, with the place of the first.

Rules of this file:
  * a null is in every range: whether a value must be there is another question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.connectors.files.columns import arrow_type, from_json
from tidemill.connectors.files.content import rejected
from tidemill.core.model import Column, Range

__all__ = ["check_ranges"]


def check_ranges(
    table: pa.Table,
    file: str,
    columns: Sequence[Column],
    ranges: Mapping[str, Range],
    line_of: Callable[[int], int],
) -> None:
    """Raise UpstreamError for the first value beyond the range of its column; `line_of` tells the line of a row's place."""
    for column in columns:
        range_ = ranges.get(column.name)
        if range_ is not None:
            _check(table.column(column.name), file, column, range_, line_of)


def _check(values: pa.ChunkedArray, file: str, column: Column, range_: Range, line_of: Callable[[int], int]) -> None:
    bounds = (("less than the minimum", range_.minimum, pc.less), ("more than the maximum", range_.maximum, pc.greater))
    for word, bound, is_beyond in bounds:
        if bound is None:
            continue
        limit = pa.scalar(from_json(bound, column), arrow_type(column.type))
        place = pc.index(is_beyond(values, limit), True).as_py()
        if place >= 0:
            line = line_of(place)
            where = "" if line else f"row {place + 1}: "
            raise rejected(file, line, f"{where}column {column.name} is {values[place]}, {word} {bound}")

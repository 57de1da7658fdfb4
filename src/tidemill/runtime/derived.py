"""The derived log of a gated job with outside effects: what its runs are shown (rules 10, 21).

Rules of this file:
  * of an input with the gate's column a run sees the values that it takes and no others: all rows of a value that opens,
    what changed since it was shown of one that is corrected; its state is the released values, each as it was released;
  * inputs without the column show as they are;
  * the changes shown depend on the pinned run alone, so every attempt sees the same, whoever makes it.

Theory of operation. A pure job reads what its gate released inside its own transaction, which has written the release
already. An outside effect happens before anything is settled, and the tables know nothing of a gate that the ledger
keeps: so here each slice is cut by value as it passes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import pyarrow as pa

from tidemill.core.change import OFFSET, RID, WEIGHT, ArrowStream, Images, Slice, Statement
from tidemill.core.model import Job
from tidemill.core.ports import Head
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.gate import gated_inputs, of_values, released_positions
from tidemill.runtime.perform import Snapshot
from tidemill.runtime.rows import as_table

__all__ = ["DerivedReader"]


class DerivedReader:
    """A snapshot cut to what one run of a gated job may see; see `tidemill.core.ports.Reader`."""

    def __init__(self, catalog: Catalog, job: Job, inner: Snapshot, opens: Mapping[str, Mapping[str, int]]) -> None:
        """`opens`: the values that the run takes, each with the positions up to which it was shown before."""
        self._inner = inner
        self._job = job
        self._opens = opens
        column = job.gate.column if job.gate is not None else ""
        self._columns = {asset.name: column for asset in gated_inputs(catalog, job)}

    def ranges(self, taken: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
        """Per input the part of its log in which this run's rows lie."""
        return {
            asset: (min(self._beginnings(asset).values(), default=to), to) if asset in self._columns else (from_, to)
            for asset, (from_, to) in taken.items()
        }

    def head(self, asset: str) -> Head:
        """The end of the asset's log in this snapshot."""
        return self._inner.head(asset)

    def read(self, part: Slice) -> ArrowStream:
        """The rows of a slice, of gated inputs those that the run may see."""
        shown: ArrowStream = self._shown(part) if part.asset in self._columns else self._inner.read(part)
        return shown

    def evaluate(self, statement: Statement) -> ArrowStream:
        """The rows of a statement over the tables store (extracts)."""
        relations = {
            name: self._shown(what) if isinstance(what, Slice) and what.asset in self._columns else what
            for name, what in statement.relations.items()
        }
        return self._inner.evaluate(replace(statement, relations=relations))

    def _shown(self, part: Slice) -> pa.Table:
        if part.images == Images.STATE:
            released = released_positions(self._inner, self._job).get(part.asset, {})
            ends = {**released, **dict.fromkeys(self._opens, part.to)}
            return self._together(part, [(replace(part, to=at), values) for at, values in _by_place(ends)])
        beginnings = self._beginnings(part.asset)
        return self._together(part, [(replace(part, from_=at), values) for at, values in _by_place(beginnings)])

    def _beginnings(self, asset: str) -> dict[str, int]:
        """The position after which each value that the run takes was not shown yet."""
        return {value: before.get(asset, 0) for value, before in self._opens.items()}

    def _together(self, part: Slice, pieces: Iterable[tuple[Slice, list[str]]]) -> pa.Table:
        column = self._columns[part.asset]
        nothing = as_table(self._inner.read(replace(part, from_=part.to))).slice(0, 0)
        found = [of_values(as_table(self._inner.read(piece)), column, values) for piece, values in pieces]
        rows = pa.concat_tables([nothing, *found])
        order = [name for name in (OFFSET, RID, WEIGHT) if name in rows.column_names]
        return rows.sort_by([(name, "ascending") for name in order])


def _by_place(places: Mapping[str, int]) -> list[tuple[int, list[str]]]:
    """The values at each place, places in order."""
    found: dict[int, list[str]] = {}
    for value, place in places.items():
        found.setdefault(place, []).append(value)
    return sorted(found.items())

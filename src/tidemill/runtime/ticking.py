"""Clock assets: one row with the present moment, whose changes are changes like any other.

Rules of this file:
  * a clock shows the present moment cut to a multiple of `every` since 1970-01-01 UTC; it is late, never ahead;
  * a tick replaces the one row, so its log is the history of the clock: what was computed can be computed again;
  * ticks that were missed are one tick; a clock that was set back does not tick until time has passed what is shown;
  * nothing here polls or reads a clock: time is handed in, and `next_at` says when to come again.

Theory of operation. `tick` writes all clocks that are due, each where its own row shows an earlier moment: what is stored
is the truth, and what is remembered here (when each is due next) is only there to ask for no more than is needed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from tidemill.core.change import RID, Images, Replaced, Slice
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Head, Store, Transaction
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.rows import dicts

__all__ = ["Ticker", "shown_at"]

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - timestamps of the tables are UTC without saying so
_ROW = "now"
_SCHEMA = pa.schema([(RID, pa.string()), ("now", pa.timestamp("us"))])


def shown_at(every_seconds: float, now: float) -> datetime:
    """What a clock shows at a moment (seconds since the epoch): UTC, cut to a multiple of its `every`."""
    every = timedelta(seconds=every_seconds)
    moment = datetime.fromtimestamp(now, UTC).replace(tzinfo=None)
    return moment - (moment - _EPOCH) % every


class Ticker:
    """Ticks the clocks of a project; any thread."""

    def __init__(self, catalog: Catalog, tables: Store) -> None:
        self._catalog = catalog
        self._tables = tables
        self._next_at: dict[tuple[str, float], float] = {}
        self._lock = threading.Lock()
        self.is_running = False
        """Whether clocks tick by themselves (`serve`, `run --watch`, `dev`); else only when asked."""

    def next_at(self) -> float | None:
        """When the next clock is due (seconds), while they tick by themselves; 0 where one was not looked at yet."""
        if not self.is_running:
            return None
        return min((self._next_at.get(_name(clock), 0.0) for clock in self._clocks()), default=None)

    def is_due(self, now: float) -> bool:
        """Whether a clock is due to tick by itself."""
        at = self.next_at()
        return at is not None and at <= now

    def expect(self, now: float) -> None:
        """Somebody is about to tick: the clocks are due again after their next moment."""
        for clock in self._clocks():
            following = shown_at(clock.every_seconds, now) + timedelta(seconds=clock.every_seconds)
            self._next_at[_name(clock)] = following.replace(tzinfo=UTC).timestamp()

    def tick(self, now: float) -> dict[str, Head]:
        """Let every clock show this moment, where it shows an earlier one; the heads of those that moved."""
        self.expect(now)
        clocks = list(self._clocks())
        if not clocks:
            return {}
        with self._lock:
            transaction = self._tables.begin()
            try:
                moved = [clock.name for clock in clocks if self._is_moved(transaction, clock, now)]
                heads = transaction.commit() if moved else {}
                return {name: heads[name] for name in moved}
            finally:
                transaction.rollback()

    def _clocks(self) -> Iterable[Asset]:
        return [asset for asset in self._catalog.assets.copy().values() if asset.kind is AssetKind.CLOCK]

    def _is_moved(self, transaction: Transaction, clock: Asset, now: float) -> bool:
        head = transaction.define(self._catalog.table(clock.name))
        moment = shown_at(clock.every_seconds, now)
        shown = dicts(transaction.read(Slice(clock.name, 0, head.offset, Images.STATE)))
        if shown and shown[0]["now"] >= moment:
            return False
        row = pa.Table.from_pylist([{RID: _ROW, "now": moment}], schema=_SCHEMA)
        transaction.write(clock.name, Replaced(row, [_ROW]))
        return True


def _name(clock: Asset) -> tuple[str, float]:
    return clock.name, clock.every_seconds

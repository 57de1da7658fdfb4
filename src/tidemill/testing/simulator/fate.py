"""Commits that fail as the history says: the process dies at them, or survives an error; before them, or after.

Rules of this file:
  * after means that the commit happened and only the answer is lost;
  * `Died` is no `Exception`: nothing that handles errors may survive the death of its process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tidemill.core.change import ArrowStream, Output, Slice
from tidemill.core.ports import Head, Positions, Progress, Store, Table, Transaction

__all__ = ["Died", "Fate", "FatedStore"]


class Died(BaseException):
    """The process ended here."""


@dataclass(slots=True)
class Fate:
    """What is going to happen at the next commits: (home, after, commits left, whether the process dies)."""

    coming: list[tuple[str, bool, int, bool]] = field(default_factory=list)

    def strike(self, home: str) -> tuple[bool, bool] | None:
        """A commit begins: (after, dies) of what is to happen to it, or None."""
        found, rest = None, []
        for at, is_after, left, dies in self.coming:
            if at == home and left <= 1 and found is None:
                found = (is_after, dies)
            else:
                rest.append((at, is_after, left - (at == home), dies))
        self.coming = rest
        return found


class FatedStore:
    """A store whose commits meet their fate; see `tidemill.core.ports.Store`."""

    def __init__(self, inner: Store, fate: Fate) -> None:
        self.inner = inner
        self.home = inner.home
        self.fate = fate
        self.claim = inner.claim
        self.trim = inner.trim
        self.close = inner.close

    def positions(self) -> Positions:
        """See `Store.positions`."""
        return self.inner.positions()

    def begin(self, *, exclusive: bool = True) -> Transaction:
        """See `Store.begin`."""
        return FatedTransaction(self, self.inner.begin(exclusive=exclusive))

    def expire(self, asset: str, below: int) -> int:
        """See `Store.expire`: a commit like any other."""
        fate = self.fate.strike(str(self.home))
        if fate is not None and not fate[0]:
            raise _blow(fate[1])
        gone = self.inner.expire(asset, below)
        if fate is not None:
            raise _blow(fate[1])
        return gone

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """See `Store.drop`."""
        self.inner.drop(assets=assets, jobs=jobs)


class FatedTransaction:
    """A transaction of a `FatedStore`."""

    def __init__(self, store: FatedStore, inner: Transaction) -> None:
        self._store = store
        self.inner = inner

    def head(self, asset: str) -> Head:
        """See `Reader.head`."""
        return self.inner.head(asset)

    def read(self, part: Slice) -> ArrowStream:
        """See `Reader.read`."""
        return self.inner.read(part)

    def progress(self, job: str) -> Progress | None:
        """See `Transaction.progress`."""
        return self.inner.progress(job)

    def define(self, table: Table) -> Head:
        """See `Transaction.define`."""
        return self.inner.define(table)

    def write(self, asset: str, output: Output) -> int:
        """See `Transaction.write`."""
        return self.inner.write(asset, output)

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """See `Transaction.settle`."""
        self.inner.settle(progress, expected)

    def commit(self) -> Mapping[str, Head]:
        """See `Transaction.commit`."""
        fate = self._store.fate.strike(str(self._store.home))
        if fate is not None and not fate[0]:
            raise _blow(fate[1])
        heads = self.inner.commit()
        if fate is not None:
            raise _blow(fate[1])
        return heads

    def rollback(self) -> None:
        """See `Transaction.rollback`."""
        self.inner.rollback()


def _blow(dies: bool) -> BaseException:
    return Died() if dies else OSError("the commit failed, or its answer was lost")

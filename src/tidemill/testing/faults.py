"""A store that fails on purpose: what goes wrong is an input of a test, never something patched in.

Rules of this file:
  * `Faulty(store, plan)` wraps any store and is a store; it counts every call of the port, from 1;
  * an error at an operation comes before the operation does anything; an error before a commit leaves it undone; an
    error after a commit leaves it done and only loses the acknowledgement, like a cut connection;
  * what is wrapped stays reachable as `inner`, so a test can look at what really happened.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidemill.core.change import ArrowStream, Output, Slice
from tidemill.core.errors import OperatorError
from tidemill.core.ports import Head, Positions, Progress, Store, Table, Transaction

__all__ = ["FaultPlan", "Faulty", "FaultyTransaction", "Injected"]


class Injected(OperatorError):
    """An error that a test asked for."""


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """What fails: the N-th call of the port, the N-th commit before it happens, or the N-th after it happened.

    Each number counts from 1; 0 never fails. `error` is what is raised.
    """

    operation: int = 0
    before_commit: int = 0
    after_commit: int = 0
    error: type[Exception] = Injected


class Faulty:
    """A store around another that fails as planned; see `tidemill.core.ports.Store`."""

    def __init__(self, inner: Store, plan: FaultPlan) -> None:
        self.inner = inner
        self.plan = plan
        self.home = inner.home
        self.operations = 0
        self.commits = 0

    def operation(self, name: str) -> None:
        """Count a call, and fail if it is its turn."""
        self.operations += 1
        if self.operations == self.plan.operation:
            raise self.plan.error(f"injected at operation {self.operations}: {name}")

    def claim(self) -> int:
        """See `Store.claim`."""
        self.operation("claim")
        return self.inner.claim()

    def positions(self) -> Positions:
        """See `Store.positions`."""
        self.operation("positions")
        return self.inner.positions()

    def begin(self, *, exclusive: bool = True) -> FaultyTransaction:
        """See `Store.begin`."""
        self.operation("begin")
        return FaultyTransaction(self, self.inner.begin(exclusive=exclusive))

    def trim(self, asset: str, below: int, keep: Sequence[int] = ()) -> int:
        """See `Store.trim`."""
        self.operation("trim")
        return self.inner.trim(asset, below, keep)

    def expire(self, asset: str, below: int) -> int:
        """See `Store.expire`."""
        self.operation("expire")
        return self.inner.expire(asset, below)

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """See `Store.drop`."""
        self.operation("drop")
        self.inner.drop(assets=assets, jobs=jobs)

    def close(self) -> None:
        """See `Store.close`; never fails."""
        self.inner.close()


class FaultyTransaction:
    """A transaction around another that fails as planned; see `tidemill.core.ports.Transaction`."""

    def __init__(self, store: Faulty, inner: Transaction) -> None:
        self._store = store
        self.inner = inner

    def head(self, asset: str) -> Head:
        """See `Reader.head`."""
        self._store.operation("head")
        return self.inner.head(asset)

    def read(self, part: Slice) -> ArrowStream:
        """See `Reader.read`."""
        self._store.operation("read")
        return self.inner.read(part)

    def progress(self, job: str) -> Progress | None:
        """See `Transaction.progress`."""
        self._store.operation("progress")
        return self.inner.progress(job)

    def define(self, table: Table) -> Head:
        """See `Transaction.define`."""
        self._store.operation("define")
        return self.inner.define(table)

    def write(self, asset: str, output: Output) -> int:
        """See `Transaction.write`."""
        self._store.operation("write")
        return self.inner.write(asset, output)

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """See `Transaction.settle`."""
        self._store.operation("settle")
        self.inner.settle(progress, expected)

    def commit(self) -> Mapping[str, Head]:
        """See `Transaction.commit`."""
        store = self._store
        store.operation("commit")
        store.commits += 1
        if store.commits == store.plan.before_commit:
            raise store.plan.error(f"injected before commit {store.commits}")
        heads = self.inner.commit()
        if store.commits == store.plan.after_commit:
            raise store.plan.error(f"injected after commit {store.commits}: the acknowledgement is lost")
        return heads

    def rollback(self) -> None:
        """See `Transaction.rollback`; never fails."""
        self.inner.rollback()

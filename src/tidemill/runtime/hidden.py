"""What a shadow stands on: hidden names, definitions beside the live ones, and stores that it cannot hold up.

Rules of this file:
  * a hidden name has a `~`, which no user's name has; everything of a shadow is called by it, so that all of it can go;
  * the live definitions are read and never written;
  * nothing here takes a transaction that others wait for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from tidemill.core.model import Asset, AssetKind, Job
from tidemill.core.ports import Positions, Store, Table, Transaction
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.cut import Interruptible
from tidemill.runtime.mirror import Mending

__all__ = ["HiddenCatalog", "Taking", "Unhurried", "hidden", "hidden_job", "is_hidden", "of_hidden"]

_MARK = "~shadow"


def hidden(name: str) -> str:
    """The hidden name that stands for a job's or an asset's."""
    return name + _MARK


def is_hidden(name: str) -> bool:
    """Whether a name is a shadow's: of its job, its table, or what is kept beside them."""
    return name.partition("@")[0].endswith(_MARK)


def of_hidden(names: Iterable[str], job: str, output: str) -> list[str]:
    """Those of the names that belong to the shadow of a job with this output."""
    owners = {hidden(job), hidden(output)}
    return [name for name in names if name.partition("@")[0] in owners]


def hidden_job(job: Job) -> Job:
    """The job as it runs in the shadow: of the same version, into hidden tables; what it asserts is asked when it is promoted."""
    return replace(job, name=hidden(job.name), outputs=tuple(hidden(output) for output in job.outputs), asserts=())


class Taking(Mending, Interruptible, Protocol):
    """A transaction of the tables store in which one asset can take the rows of another."""

    def take_over(self, asset: str, other: str) -> int:
        """Let the asset's rows become those of another of the same columns, identities included; counts the changes."""


@dataclass(slots=True)
class HiddenCatalog(Catalog):
    """The definitions that a shadow sees: the live assets as they are, its own job, its hidden tables."""

    live: Catalog = field(default_factory=Catalog)

    def add(self, job: Job) -> None:
        """Define the shadow's job and its tables."""
        self.assets = {**self.live.assets, **{name: Asset(name, AssetKind.TABLE) for name in job.outputs}}
        self.put(job)

    def asset(self, name: str) -> Asset:
        """An asset with its columns as far as they are known."""
        return Catalog.asset(self, name) if is_hidden(name) else self.live.asset(name)

    def table(self, name: str) -> Table:
        """The shape that an asset has, exactly as whoever writes it defines it."""
        return Catalog.table(self, name) if is_hidden(name) else self.live.table(name)


class Unhurried:
    """A store all of whose transactions read a snapshot: nobody waits for them but for the moment of their commit."""

    def __init__(self, inner: Store) -> None:
        self.home = inner.home
        self._inner = inner

    def claim(self) -> int:
        """See `Store.claim`."""
        return self._inner.claim()

    def positions(self) -> Positions:
        """See `Store.positions`."""
        return self._inner.positions()

    def begin(self, *, exclusive: bool = False) -> Transaction:  # noqa: ARG002 - the port's signature
        """See `Store.begin`; never exclusive."""
        return self._inner.begin(exclusive=False)

    def trim(self, asset: str, below: int) -> int:
        """See `Store.trim`."""
        return self._inner.trim(asset, below)

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """See `Store.drop`."""
        self._inner.drop(assets=assets, jobs=jobs)

    def close(self) -> None:
        """See `Store.close`."""
        self._inner.close()

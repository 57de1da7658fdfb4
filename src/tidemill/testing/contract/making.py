"""What a store must offer to be put through the suite."""

from __future__ import annotations

from typing import ClassVar

from tidemill.core.change import Appended
from tidemill.core.ports import Store
from tidemill.testing.contract.probe import head, rows, write

__all__ = ["STATEMENTS", "WIDENING", "Making"]

STATEMENTS = "statements"
"""The gap of a store that cannot compute SQL."""

WIDENING = "widening"
"""The gap of a store whose assets cannot get more columns in place."""

MIRRORED = "mirrored"


class Making:
    """How the suite gets stores. `gaps` names what this kind of store refuses to do."""

    gaps: ClassVar[frozenset[str]] = frozenset()

    def make(self) -> Store:
        """A new, empty store."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """The store as the next process finds it after this one died: what was not committed is lost."""
        raise NotImplementedError

    def topic(self, store: Store, *ids: int) -> str:
        """Append rows `(id, n<id>)` to one append topic or to the mirror of one, each alone, at the next offsets from 1.

        Returns its name.
        """
        for id_ in ids:
            offset = head(store, MIRRORED).offset + 1
            write(store, MIRRORED, Appended(rows((id_, f"n{id_}"), offset=[offset]), head=offset))
        return MIRRORED

    def twin(self, store: Store) -> Store:
        """A second store object over the same storage, while the first one is still there."""
        return self.reopen(store)

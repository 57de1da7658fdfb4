"""What a store must offer to be put through the suite."""

from __future__ import annotations

from typing import ClassVar

from tidemill.core.ports import Store

__all__ = ["STATEMENTS", "WIDENING", "Making"]

STATEMENTS = "statements"
"""The gap of a store that cannot compute SQL."""

WIDENING = "widening"
"""The gap of a store whose assets cannot get more columns in place."""


class Making:
    """How the suite gets stores. `gaps` names what this kind of store refuses to do."""

    gaps: ClassVar[frozenset[str]] = frozenset()

    def make(self) -> Store:
        """A new, empty store."""
        raise NotImplementedError

    def reopen(self, store: Store) -> Store:
        """The store as the next process finds it after this one died: what was not committed is lost."""
        raise NotImplementedError

    def twin(self, store: Store) -> Store:
        """A second store object over the same storage, while the first one is still there."""
        return self.reopen(store)

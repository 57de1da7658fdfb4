"""The shared suite of the `Store` port: what every implementation must pass, ours, fakes and third parties'.

Rules of this folder:
  * a sentence of the port's docstrings is a test here; its name is the claim;
  * a test uses the port only, so that it means the same for every store;
  * what a store cannot do is a named gap (`gaps`), and the suite checks that it is really refused.

Use it by naming a factory:

    class TestMyStore(StoreContract):
        def make(self) -> Store:
            return MyStore()

        def reopen(self, store: Store) -> Store:
            ...  # the store as the next process finds it after this one died

It needs pytest and Hypothesis. `failures(contract)` runs the suite without pytest and names what failed: so a planted
bug can be shown to be caught.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Iterator

import pytest

from tidemill.core.ports import Store

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{room}"
        for room in ("changing", "committing", "expiring", "failing", "laws", "probe", "reading", "writing")
    )
)

from tidemill.testing.contract.changing import Changing  # noqa: E402 - after asking for readable assertions
from tidemill.testing.contract.committing import Committing  # noqa: E402
from tidemill.testing.contract.expiring import Expiring  # noqa: E402
from tidemill.testing.contract.failing import Failing  # noqa: E402
from tidemill.testing.contract.laws import Laws  # noqa: E402
from tidemill.testing.contract.reading import Reading  # noqa: E402
from tidemill.testing.contract.writing import Writing  # noqa: E402

__all__ = ["StoreContract", "failures"]


class StoreContract(Writing, Changing, Reading, Committing, Expiring, Failing, Laws):
    """All that a store must do. Subclass it and say how to make one."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """A new, empty store that has been claimed."""
        store = self.make()
        store.claim()
        yield store
        store.close()


def failures(contract: StoreContract, only: str = "") -> list[str]:
    """Run the suite without pytest; returns the names of the tests that fail."""
    names = [name for name in dir(contract) if name.startswith("test_") and only in name]
    return [name for name in names if not _passes(contract, name)]


def _passes(contract: StoreContract, name: str) -> bool:
    test = getattr(contract, name)
    store = contract.make()
    store.claim()
    try:
        test(store) if "store" in inspect.signature(test).parameters else test()
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - any failure at all is what is asked for
        return False
    finally:
        with contextlib.suppress(Exception):
            store.close()
    return True

"""The simulator finds what it is for: every planted bug is caught, in histories that production itself survives."""

from __future__ import annotations

import pytest

from tests.sim.planted import PLANTED
from tidemill.testing.simulator import sweep

SEEDS = range(1, 1001)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(bug: str) -> None:
    caught_by = sweep(SEEDS, factory=PLANTED[bug])

    assert caught_by is not None, f"{bug}: not caught in {len(SEEDS)} histories"
    assert sweep([caught_by]) is None, "production fails the same history"

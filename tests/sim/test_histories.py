"""Whole histories, with seeds nobody has tried before: at the end of each, every table is the batch recomputation.

The base seed may be set (`TIDEMILL_SEED=123`); a failure prints the command that shows it again.
"""

from __future__ import annotations

import pytest

from tests.seeds import first_seed
from tidemill.testing.simulator import simulate

BASE = first_seed()
BATCHES = 20
HISTORIES_EACH = 105


@pytest.mark.parametrize("batch", range(BATCHES))
def test_every_history_ends_at_the_batch_recomputation(batch: int) -> None:
    first = BASE + batch * HISTORIES_EACH
    for seed in range(first, first + HISTORIES_EACH):
        simulate(seed)

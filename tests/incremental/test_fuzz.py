"""Random queries over random schemas: whatever DuckDB answers, tidemill maintains.

Seeds are new each time (`tests/seeds.py`); `TIDEMILL_FUZZ_SECONDS` says how long. A failure is shown as
small as it gets, with the command that shows it again.
"""

from __future__ import annotations

import os
import time

import pytest

from tests.incremental.fuzz.campaign import DEFECTS, Found, Tally, case_of, run_seed
from tests.incremental.planted import LastChangeLost
from tests.incremental.queries import queries
from tests.seeds import first_seed

SECONDS = float(os.environ.get("TIDEMILL_FUZZ_SECONDS") or 45)
BASE = first_seed()


def test_random_queries_are_maintained() -> None:
    end, seed, tally = time.monotonic() + SECONDS, BASE, Tally()
    while time.monotonic() < end:
        run_seed(seed, tally)
        seed += 1
    assert tally.invalid.total() <= 0.1 * tally.queries, f"the grammar makes what DuckDB does not take: {tally}"
    assert tally.refused.total() <= 0.1 * tally.queries, f"too much is refused: {tally}"


def test_cases_of_the_fuzzer_are_not_trivial() -> None:
    tally = Tally()
    for seed in range(6):
        run_seed(seed, tally)
    assert tally.rich > 0.6 * tally.queries, f"too many tables hardly have rows, or hardly ever change: {tally}"


def test_what_the_fuzzer_finds_is_shown_small() -> None:
    with pytest.raises(Found) as found:
        run_seed(1, Tally(), LastChangeLost, shrink_seconds=12)
    case = found.value.case
    assert len(case.trees) == 1
    assert len(case.source.later) <= 2
    assert f"--seed {found.value.seed}" in str(found.value)
    assert str(case.trees[0]) in str(found.value)


def test_what_the_fuzzer_leaves_out_is_a_defect_that_a_query_shows() -> None:
    assert DEFECTS.keys() <= {name for name, query in queries("market").items() if query.defect}


def test_a_seed_says_everything() -> None:
    one, other = (case_of(5, Tally()) for _ in range(2))
    assert one.trees == other.trees
    assert [list(changes) for changes in one.source.later] == [list(changes) for changes in other.source.later]
    assert all(
        edit.rows.equals(other.source.first[name].rows) and edit.gone == other.source.first[name].gone
        for name, edit in one.source.first.items()
    )

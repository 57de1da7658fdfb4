"""Events expire in the middle of histories: what is not refused stays what the whole history gives.

The reference forgets nothing. Seeds are new each time (`tests/seeds.py`); a failure names the one to play again.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from tests.incremental.bench import MEMORY, Bench
from tests.incremental.history import History, Lost
from tests.incremental.market import market
from tests.incremental.queries import Query, queries
from tests.seeds import first_seed
from tidemill.core.model import Job
from tidemill.core.ports import Plan
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.runtime.catalog import Catalog
from tidemill.stores.duckdb import DuckDBStore

BASE = first_seed()
SEEDS = (BASE, BASE + 1)

MARKET = [query for query in queries("market").values() if "visit" in query.inputs and not query.defect]
OWN = [
    Query("by_page", "select page, count(*) as n, sum(ms) as s, min(ms) as lo, max(ms) as hi from visit group by page"),
    Query(
        "spread", "select n, count(*) as c from (select person, count(*) as n from visit group by person) group by n"
    ),
    Query(
        "most",
        "select page, n from (select page, count(*) as n from visit group by page) order by n desc, page limit 2",
    ),
    Query("passed", "select id, upper(page) as page from visit where page is not null"),
    Query("beside", "select id, page as name from visit union all select id, name from person"),
    Query("pages", "select distinct page from visit"),
]


def played(seed: int, chosen: list[Query], path: str | Path = MEMORY, bench_type: type[Bench] = Bench) -> History:
    """One history of these queries in which events expire."""
    paces = ("realtime",)
    history = History(market(seed), chosen, random.Random(seed), 8, paces, path, bench_type, expires=True)
    try:
        history.play()
    except Lost as error:
        raise AssertionError(f"{error}\nthe seed is {seed}") from error
    return history


def test_tables_maintained_from_what_is_new_stay_right_while_events_expire(tmp_path: Path) -> None:
    histories = [played(seed, OWN, tmp_path / f"{seed}.duckdb" if seed % 2 else MEMORY) for seed in SEEDS]
    assert sum(history.expired for history in histories) > 20
    assert sum(history.refused for history in histories) >= len(OWN)


def test_no_query_is_ever_wrong_because_events_expire() -> None:
    histories = [played(seed, [query]) for seed, query in enumerate(MARKET, BASE)]
    assert any(history.expired for history in histories)
    assert any(not history.expired for history in histories), "what needs all rows keeps them"


class Careless(Bench):
    """A bench whose plans do not say which inputs they need whole."""

    class Engine(DuckDBEngine):
        """Plans that promise to need nothing."""

        def plan(self, job: Job, inputs: object) -> Plan:
            return replace(super().plan(job, inputs), history={})  # type: ignore[arg-type]

    def make_engine(self, tables: DuckDBStore, catalog: Catalog) -> DuckDBEngine:
        return self.Engine(tables, catalog.asset, dict)


WHOLE = [
    Query("joined", "select v.id, p.name from visit v join person p on p.id = v.person"),
    Query("numbered", "select id, row_number() over (partition by person order by ts, id) as r from visit"),
    Query("persons", "select page, count(distinct person) as c from visit group by page"),
    Query("last", "select id, ts from visit order by ts desc, id limit 3"),
]


@pytest.mark.parametrize("query", WHOLE, ids=lambda query: query.name)
def test_a_plan_that_needs_expired_rows_and_does_not_say_so_is_refused_and_never_wrong(query: Query) -> None:
    said = [_refusal(seed, query) for seed in range(BASE, BASE + 4)]
    assert any(said), "in no history did rows expire that it needs"
    assert all("the history of `visit` has expired" in each for each in said if each)


def _refusal(seed: int, query: Query) -> str:
    try:
        played(seed, [query], bench_type=Careless)
    except AssertionError as error:
        return str(error)
    return ""

"""What it costs to plan the 22 queries of TPC-H: compiled first, and warm from what the project keeps.

Compiling is everything from text to a plan whose statements have DuckDB's types. The floor is what the parser alone needs
for the same text, in the same run.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import sqlglot

from bench.measure import Figure, timed
from tests.incremental.queries import Query, queries
from tests.incremental.tpch import SCALE, bases
from tidemill.core.model import Asset, Job, Place, Takes
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.project.plancache import PlanCache
from tidemill.stores.duckdb import DuckDBStore

__all__ = ["run"]

ROUNDS = 5


def run(folder: Path) -> list[Figure]:
    """Both figures, worst and median of the queries."""
    assets = {base.name: base.asset() for base in bases(SCALE).values()}
    store = DuckDBStore(":memory:")
    try:
        costs = [_costs(query, assets, store, folder) for query in queries("tpch").values()]
    finally:
        store.close()
    worst = max(costs, key=lambda cost: cost[1])
    parse, first, warm = (statistics.median(values) for values in zip(*costs, strict=True))
    slowest_warm = max(costs, key=lambda cost: cost[2])
    parsed = "parsing it"
    return [
        Figure("TPC-H: first compile, worst query", worst[1], "ms", worst[0], parsed, "<= 300 ms"),
        Figure("TPC-H: first compile, median", first, "ms", parse, parsed),
        Figure("TPC-H: warm, worst query", slowest_warm[2], "ms", slowest_warm[0], parsed, "<= 5 ms"),
        Figure("TPC-H: warm, median", warm, "ms", parse, parsed),
    ]


def _costs(query: Query, assets: dict[str, Asset], store: DuckDBStore, folder: Path) -> tuple[float, float, float]:
    """Milliseconds of parsing a query, compiling it and taking it from what is kept."""
    inputs = {name: assets[name] for name in query.inputs}
    job = Job(query.name, tuple(inputs), (query.name,), Takes.SQL, query.sql, "1", place=Place(f"{query.name}.sql", 1))
    plans = PlanCache(folder / "plans")
    cold = DuckDBEngine(store, assets.__getitem__, dict)
    kept = DuckDBEngine(store, assets.__getitem__, dict, plans=plans)
    kept.plan(job, inputs)
    return (
        _median(lambda: sqlglot.parse_one(query.sql, dialect="duckdb")),
        _median(lambda: cold.plan(job, inputs)),
        _median(lambda: kept.plan(job, inputs)),
    )


def _median(work: Callable[[], object]) -> float:
    return statistics.median(timed(work) for _ in range(ROUNDS))

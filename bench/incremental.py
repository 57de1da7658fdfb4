"""What it costs to maintain SQL from change sets: one changed row and ten thousand, over small and large inputs.

The engine and the store are driven as a run drives them: read, compute, write, settle, commit. The topic's mirror is filled
by one statement, because the figure is about maintaining and not about taking events in; adding to the mirror is not in
the figures, for it is done once for all readers.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from pathlib import Path

import duckdb
import pyarrow as pa

from bench.measure import Figure
from tidemill.core.change import Appended, Became, Statement
from tidemill.core.model import Asset, AssetKind, Column, Job, Place, Takes
from tidemill.core.ports import Plan, Progress, Table, Work
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.sql import analyse
from tidemill.stores.duckdb import DuckDBStore

SMALL, LARGE = 1_000_000, 10_000_000
MANY = 10_000
ROUNDS = 15
CUSTOMERS = 100_000
QUERIES = {
    "grouped, 97 groups": "select few, count(*) as n, sum(amount) as total from events group by few",
    "grouped, 100,000 groups": "select customer, count(*) as n, sum(amount) as total, max(ts) as latest from events "
    "group by customer",
    "join and group": "select c.segment, count(*) as n, sum(e.amount) as total from events e "
    "join customers c on c.customer = e.customer group by c.segment",
    "top 3 of each key": "select customer, id, amount, row_number() over (partition by customer order by amount desc, id) "
    "as place from events qualify place <= 3",
}
WANTED = {
    ("grouped, 97 groups", 1): "<= 12 ms, <= 6x, within 1.5x of the smaller base",
    ("grouped, 100,000 groups", 1): "<= 12 ms, <= 6x, within 1.5x of the smaller base",
    ("join and group", 1): "<= 15 ms",
    ("top 3 of each key", 1): "<= 25 ms",
    ("grouped, 97 groups", MANY): "<= 40 ms",
    ("grouped, 100,000 groups", MANY): "<= 40 ms",
}
EVENTS = Asset(
    name="events",
    kind=AssetKind.TOPIC,
    columns=tuple(
        Column(name, kind)
        for name, kind in [
            ("id", "bigint"),
            ("customer", "bigint"),
            ("few", "integer"),
            ("amount", "integer"),
            ("ts", "timestamp"),
        ]
    ),
)
CUSTOMER = Asset(
    name="customers",
    kind=AssetKind.TABLE,
    columns=(Column("customer", "bigint"), Column("segment", "varchar")),
    key=("customer",),
)
ASSETS = {asset.name: asset for asset in (EVENTS, CUSTOMER)}


class Base:
    """A store with a topic's mirror of this many rows, a table, and jobs over them."""

    def __init__(self, path: Path, rows: int) -> None:
        self.store = DuckDBStore(path)
        self.engine = DuckDBEngine(self.store, ASSETS.__getitem__, dict)
        self.head = rows
        self.jobs: dict[str, tuple[Job, Plan]] = {}
        fill = (
            f"select i as id, (hash(i) % {CUSTOMERS})::bigint as customer, (hash(i * 7) % 97)::integer as few, "
            f"(i % 1000)::integer as amount, timestamp '2026-01-01' + to_seconds(i) as ts, i as _offset, "
            f"i::varchar as _rid from range(1, {rows} + 1) r(i)"
        )
        people = f"select i as customer, 'segment ' || (i % 50) as segment from range({CUSTOMERS}) r(i)"
        transaction = self.store.begin()
        for asset in ASSETS.values():
            transaction.define(Table(asset.name, asset.columns, asset.key or None))
        transaction.write("events", Appended(Statement(fill, {}), head=rows))
        transaction.write("customers", Became(Statement(people, {}), ("customer",)))
        transaction.commit()

    def define(self, name: str, query: str) -> None:
        inputs = analyse(query, "bench.sql").inputs
        job = Job(name, inputs, (f"of {name}",), Takes.SQL, transform=query, version="1", place=Place("bench.sql", 1))
        self.jobs[name] = job, self.engine.plan(job, {asset: ASSETS[asset] for asset in inputs})

    def add(self, count: int) -> None:
        """Events come into the mirror."""
        ids = range(self.head + 1, self.head + count + 1)
        transaction = self.store.begin()
        rows = pa.table(
            {
                "id": list(ids),
                "customer": [number * 7919 % CUSTOMERS for number in ids],
                "few": pa.array([number % 97 for number in ids], pa.int32()),
                "amount": pa.array([number % 1000 for number in ids], pa.int32()),
                "ts": pa.array([1_767_225_600_000_000 + number for number in ids], pa.timestamp("us")),
                "_offset": list(ids),
                "_rid": [str(number) for number in ids],
            }
        )
        transaction.write("events", Appended(rows, head=self.head + count))
        transaction.commit()
        self.head += count

    def run(self, *names: str) -> float:
        """Milliseconds of one transaction in which these jobs take what is there."""
        start = time.perf_counter()
        transaction = self.store.begin()
        for name in names:
            job, plan = self.jobs[name]
            before = transaction.progress(name)
            cursors = before.cursors if before is not None else {}
            ranges = {asset: (cursors.get(asset, 0), transaction.head(asset).offset) for asset in job.inputs}
            for asset, output in self.engine.compute(Work(job, plan, ranges, "run"), transaction):
                transaction.define(plan.tables.get(asset) or Table(asset, plan.columns, plan.key))
                transaction.write(asset, output)
            ends = {asset: to for asset, (_, to) in ranges.items()}
            run = f"{name} {self.head}"
            transaction.settle(Progress(name, "1", ends, dict.fromkeys(ends, 1), run), before)
        transaction.commit()
        return (time.perf_counter() - start) * 1_000

    def plain(self, query: str) -> float:
        """Milliseconds of the plain query into a table of its own, in the same database."""
        session = self.store._site.take_session()
        try:
            start = time.perf_counter()
            session.run(f"CREATE OR REPLACE TABLE store.plain AS {query}")
            return (time.perf_counter() - start) * 1_000
        finally:
            session.run("DROP TABLE IF EXISTS store.plain")
            self.store._site.give_back(session)


def floor_ms(folder: Path) -> float:
    """Milliseconds of one row inserted and committed in a DuckDB file."""
    connection = duckdb.connect(str(folder / "floor.duckdb"))
    connection.execute("CREATE OR REPLACE TABLE one (id BIGINT, body VARCHAR)")
    times = []
    for number in range(60):
        start = time.perf_counter()
        connection.execute(f"INSERT INTO one VALUES ({number}, 'x')")
        times.append((time.perf_counter() - start) * 1_000)
    connection.close()
    return statistics.median(times)


def medians(base: Base, names: Iterable[str], changes: int, rounds: int) -> dict[str, float]:
    """The median of each job over change sets of this size."""
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        base.add(changes)
        for name, found in times.items():
            found.append(base.run(name))
    return {name: statistics.median(found) for name, found in times.items()}


def of_size(folder: Path, rows: int) -> list[Figure]:
    """First builds, one row and many rows, for every query over a base of this size."""
    base = Base(folder / f"{rows}.duckdb", rows)
    figures = []
    for name, query in QUERIES.items():
        base.define(name, query)
        built, plain = base.run(name), min(base.plain(query) for _ in range(3))
        what = f"{name}: whole, {rows:,} rows"
        figures.append(Figure(what, built, "ms", plain, "plain CREATE TABLE AS", "<= 1.25x"))
    for changes, rounds in ((1, ROUNDS), (MANY, 5)):
        floor = floor_ms(folder)
        for name, found in medians(base, QUERIES, changes, rounds).items():
            wanted = WANTED.get((name, changes), "") if rows == LARGE else ""
            what = f"{name}: {changes:,} changed of {rows:,}"
            figures.append(Figure(what, found, "ms", floor, "one-row DuckDB commit", wanted))
    for name, query in QUERIES.items():
        base.add(1)
        found, plain = base.run(name), min(base.plain(query) for _ in range(3))
        what = f"{name}: 1 changed of {rows:,} against recomputing"
        figures.append(Figure(what, found, "ms", plain, "plain CREATE TABLE AS", "<= 0.1x" if rows == LARGE else ""))
    if rows == SMALL:
        figures.append(twenty(base))
    base.store.close()
    return figures


def twenty(base: Base) -> Figure:
    """Twenty jobs on one topic in one transaction, beside one of them alone."""
    query = QUERIES["grouped, 97 groups"]
    names = [f"job {number}" for number in range(20)]
    for name in names:
        base.define(name, query)
        base.run(name)
    alone, together = [], []
    for _ in range(ROUNDS):
        base.add(1)
        alone.append(base.run(names[0]))
        base.run(*names[1:])
        base.add(1)
        together.append(base.run(*names))
    found, one = statistics.median(together), statistics.median(alone)
    return Figure("20 jobs on one topic, one event", found, "ms", one, "one of them", "<= 10x")


def run(folder: Path) -> list[Figure]:
    """Both sizes."""
    return [figure for rows in (SMALL, LARGE) for figure in of_size(folder, rows)]

"""The right answer without tidemill: the project's own SQL, run once by DuckDB over the raw events and files.

Rules of this file:
  * nothing of tidemill's engines is used, only the texts of `project/`: the jobs' SQL (their headers are comments to
    DuckDB) and the columns declared in tidemill.toml;
  * the Python job has an independent twin here, so that a mistake there cannot hide itself;
  * a gated job is given the released rows only: dates for which every expected site's weather has landed;
  * tables are compared as bags, by the column types of the expected side; a hash does not depend on row order.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa

from tidemill.demo.timeline import PLANES_PATH, Moment

__all__ = ["JOBS", "KEYS", "Comparison", "compare", "expected", "table_hash", "write_raw"]

PROJECT = Path(__file__).parent / "project"

JOBS = ("flight_state", "delay_by_carrier", "late_flights", "fleet_usage", "daily_operations", "daily_report")
"""Every job of the project, each after those it reads from."""

KEYS: dict[str, tuple[str, ...]] = {
    "flight_state": ("flight_id",),
    "delay_by_carrier": ("carrier", "date"),
    "late_flights": ("flight_id",),
    "fleet_usage": ("tailnum",),
    "daily_operations": ("date", "origin"),
    "daily_report": ("date",),
}
"""What identifies a row of each result; lets `compare` tell a different row from a missing and an extra one."""

EVENTS_FILE = "events.ndjson"

Rows: TypeAlias = pa.Table | Sequence[Mapping[str, Any]]
"""A table as Arrow, or as row objects."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How an actual table stands to the expected one. `different` rows share a key but not all values."""

    rows: int
    missing: int
    extra: int
    different: int

    @property
    def equal(self) -> bool:
        """Whether both hold the same rows, each the same number of times."""
        return not (self.missing or self.extra or self.different)


def write_raw(arrivals: Iterable[Moment], folder: Path) -> Path:
    """Write the history as plain files: all events as NDJSON, of each file the version that landed last."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / EVENTS_FILE).open("wb") as events:
        for arrival in arrivals:
            if arrival.kind == "event":
                events.write(arrival.payload + b"\n")
            elif arrival.kind == "file":
                path = folder / arrival.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(arrival.payload)
    return folder


def expected(raw: Path) -> dict[str, pa.Table]:
    """Job -> the rows its output must have, from the files that `write_raw` wrote."""
    project = tomllib.loads((PROJECT / "tidemill.toml").read_text(encoding="utf-8"))
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        read_inputs(database, project["assets"], raw)
        for job in JOBS:
            if job == "late_flights":
                columns = project["assets"][job]["columns"]
                create_from_rows(database, job, late_flights(raw), columns)
            else:
                create_from_sql(database, job)
        return {job: database.table(job).to_arrow_table() for job in JOBS}


def read_inputs(database: duckdb.DuckDBPyConnection, assets: Mapping[str, Any], raw: Path) -> None:
    """The three inputs as tables, and in the schema `released` those that a gated job may see."""
    events, weather, planes = (assets[name]["columns"] for name in ("flight_events", "weather", "planes"))
    inside = {name: type_ for name, type_ in weather.items() if name not in {"origin", "date"}}
    statements = {
        "flight_events": (f"from read_json($path, format = 'nd', columns = {literal(events)})", EVENTS_FILE),
        "planes": (f"from read_csv($path, nullstr = 'NA', columns = {literal(planes)})", PLANES_PATH),
        "weather": (
            f"""select split_part(filename, '/', -2) as origin,
                       replace(split_part(filename, '/', -1), '.csv', '')::date as date,
                       * exclude filename
                from read_csv($path, nullstr = 'NA', filename = true, columns = {literal(inside)})""",
            "landing/weather/*/*.csv",
        ),
    }
    for name, (sql, path) in statements.items():
        database.execute(f"create table {name} as {sql}", {"path": (raw / path).as_posix()})
    expected_sites = assets["weather"]["complete"]["origin"]
    database.execute("create schema released")
    database.execute(
        "create table released.dates as select date from weather where origin in (select unnest($sites)) "
        "group by date having count(distinct origin) = len($sites)",
        {"sites": expected_sites},
    )


def create_from_sql(database: duckdb.DuckDBPyConnection, job: str) -> None:
    """Run one SQL job of the project as it is written; if it is gated, over released rows."""
    sql = (PROJECT / "jobs" / f"{job}.sql").read_text(encoding="utf-8")
    if "\n-- gate: date\n" in sql:
        for name in ("flight_state", "weather"):
            released = f"select * from main.{name} where date in (from released.dates)"
            database.execute(f"create view released.{name} as {released}")
        database.execute("set search_path = 'released,main'")
    database.execute(f"create table main.{job} as {sql}")
    database.execute("set search_path = 'main'")


def create_from_rows(
    database: duckdb.DuckDBPyConnection, table: str, rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]
) -> None:
    """A table of the declared columns from plain rows."""
    found = pa.Table.from_pylist(list(rows))
    casts = ", ".join(f"{quoted(name)}::{type_} as {quoted(name)}" for name, type_ in columns.items())
    database.register("found", found)
    database.execute(f"create table {table} as select {casts} from found")
    database.unregister("found")


def late_flights(raw: Path) -> Iterator[dict[str, Any]]:
    """The twin of the project's Python job: every landing an hour late or more."""
    with (raw / EVENTS_FILE).open(encoding="utf-8") as lines:
        for line in lines:
            event = json.loads(line)
            if event["kind"] == "landed" and (event["arr_delay"] or 0) >= 60:
                yield {
                    "flight_id": event["flight_id"],
                    "carrier": event["carrier"],
                    "origin": event["site"],
                    "dest": event["dest"],
                    "landed_at": datetime.fromisoformat(event["happened_at"]).replace(tzinfo=None),
                    "minutes_late": event["arr_delay"],
                }


def compare(actual: Rows, wanted: pa.Table, key: Sequence[str] = ()) -> Comparison:
    """Compare two tables as bags of rows. Columns go by name; values are compared in types that lose nothing."""
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        database.register("wanted_given", wanted)
        types = {row[0]: lossless(row[1]) for row in database.execute("describe wanted_given").fetchall()}
        given = as_table(actual, list(types))
        if set(given.column_names) != set(types):
            raise ValueError(f"columns {sorted(given.column_names)} are not {sorted(types)}")
        database.register("actual_given", given)
        casts = ", ".join(f"{quoted(name)}::{type_} as {quoted(name)}" for name, type_ in types.items())
        for name, one, other in (("missing", "wanted", "actual"), ("extra", "actual", "wanted")):
            one_sql, other_sql = f"select {casts} from {one}_given", f"select {casts} from {other}_given"
            database.execute(f"create temp table {name} as {one_sql} except all {other_sql}")
        missing, extra = count(database, "from missing"), count(database, "from extra")
        different = shared_keys(database, key) if key else 0
    return Comparison(wanted.num_rows, missing - different, extra - different, different)


def lossless(type_: str) -> str:
    """The type to compare in: a cast of the other side to it must not round a difference away."""
    if type_.startswith("DECIMAL") or type_.endswith("INT") or type_ == "INTEGER":
        return "DECIMAL(38, 10)"
    return "TIMESTAMP" if type_ == "DATE" else type_


def shared_keys(database: duckdb.DuckDBPyConnection, key: Sequence[str]) -> int:
    """How many keys stand once on each side of the difference: rows that differ rather than lack."""
    columns = ", ".join(quoted(column) for column in key)
    singles = (f"select {columns} from {side} group by all having count(*) = 1" for side in ("missing", "extra"))
    return count(database, " intersect ".join(singles))


def count(database: duckdb.DuckDBPyConnection, query: str) -> int:
    """The number of rows of a query."""
    row = database.execute(f"select count(*) from ({query})").fetchone()
    return int(row[0]) if row else 0


def table_hash(rows: Rows) -> str:
    """A hash of a table's content that does not depend on the order of rows or columns, nor on integer widths."""
    table = as_table(rows, [])
    names = sorted(table.column_names)
    digest = hashlib.sha256(json.dumps(names).encode())
    if not names:
        return digest.hexdigest()
    with duckdb.connect() as database:
        database.execute("set timezone = 'UTC'")
        database.register("given", table)
        values = ", ".join(f"{quoted(name)}::varchar" for name in names)
        lines = database.execute(f"select sha256(to_json([{values}])::varchar) as line from given order by line")
        while batch := lines.fetchmany(10_000):
            digest.update("".join(line for (line,) in batch).encode())
    return digest.hexdigest()


def as_table(rows: Rows, columns: Sequence[str]) -> pa.Table:
    """Rows as a table; no rows at all are an empty table of the given columns."""
    if isinstance(rows, pa.Table):
        return rows
    return pa.Table.from_pylist([dict(row) for row in rows]) if rows else pa.table({name: [] for name in columns})


def quoted(name: str) -> str:
    """A column name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(columns: Mapping[str, str]) -> str:
    """Columns as a DuckDB struct literal: {'name': 'type', ...}."""
    return "{" + ", ".join(f"'{name}': '{type_}'" for name, type_ in columns.items()) + "}"

"""How a store lies in DuckDB: its tables, its names, and what is known of each asset.

Rules of this file:
  * each asset is one versioned table `store."<asset>"`: the asset's own columns, then `_rid`, `_parent`, `_from`,
    `_until`; a row image lives in [`_from`, `_until`), and `_until` is the largest bigint while it is current;
  * no PRIMARY KEY and no index: uniqueness is checked by what writes;
  * what is known of assets and jobs is one small table `tidemill.state`, so that a commit updates it with one
    statement; `tidemill.progress` and `tidemill.tables` are views of it for people.

Theory of operation. Because every image says when it came and when it went, the table is its own change log: nothing
else is written for a change, and nothing can disagree with it. The state at p is the images with `_from <= p` and
`_until > p`; the changes of (a, b] are the images that came or went within it.

What is known of an asset's floor (what trimming has removed) has a row of its own in `tidemill.state`: trimming then
never conflicts with a transaction that is writing the asset.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tidemill.core.change import FROM, PARENT, RID, UNTIL
from tidemill.core.errors import StateCorrupt, StateTooNew
from tidemill.core.model import Column
from tidemill.core.ports import Head, Positions, Progress, Table
from tidemill.stores.duckdb.database import CATALOG, Session, literal, quoted

__all__ = [
    "CURRENT",
    "SCHEMA_VERSION",
    "Held",
    "Known",
    "create_asset",
    "create_layout",
    "drop_asset",
    "is_internal",
    "load",
    "read_epoch",
    "save",
    "table_name",
    "widen_asset",
    "write_epoch",
]

CURRENT = 2**63 - 1
"""`_until` of a current image."""

SCHEMA_VERSION = 1
"""Layout of these tables; a file with a higher one was written by a newer tidemill."""

_STATE = f"{CATALOG}.tidemill.state"
_META = f"{CATALOG}.tidemill.meta"
_CASES_MAX = 16

_LAYOUT = (
    f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.store",
    f"CREATE SCHEMA IF NOT EXISTS {CATALOG}.tidemill",
    f"CREATE TABLE {_META} (name VARCHAR, value BIGINT)",
    f"CREATE TABLE {_STATE} (id VARCHAR, body VARCHAR)",
    f"""CREATE VIEW {CATALOG}.tidemill.progress AS SELECT id[5:] AS job, body->>'version' AS version,
        body->'cursors' AS cursors, body->'generations' AS generations, body->>'run' AS run,
        (body->>'served_at')::DOUBLE AS served_at, (body->>'succeeded')::BOOLEAN AS succeeded,
        body->'pinned' AS pinned FROM {_STATE} WHERE id LIKE 'job %'""",
    f"""CREATE VIEW {CATALOG}.tidemill.tables AS SELECT a.id[7:] AS asset,
        (s.body->>'generation')::BIGINT AS generation, (a.body->>'offset')::BIGINT AS head,
        (a.body->>'rows')::BIGINT AS rows, coalesce((f.body->>'floor')::BIGINT, 0) AS floor,
        s.body->'columns' AS columns, s.body->'key' AS key FROM {_STATE} a
        JOIN {_STATE} s ON s.id = 'shape ' || a.id[7:]
        LEFT JOIN {_STATE} f ON f.id = 'floor ' || a.id[7:] WHERE a.id LIKE 'asset %'""",
    f"INSERT INTO {_META} VALUES ('schema', {SCHEMA_VERSION}), ('epoch', 0)",
)


@dataclass(frozen=True, slots=True)
class Held:
    """What is known of one asset in the store.

    `kept` are the positions below the floor whose state is still there.
    `rows` counts what came and did not end, `gone` how many of these have expired, `expired` up to which offset.
    `offset` is its head, `floor` the highest offset that history was trimmed to, `closed` the last offset at which an
    image ended (0: none ever did, so no change set has an old image), `is_marked` whether this generation has had its
    first write, `is_mirror` whether its offsets are given from elsewhere.
    """

    asset: str
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] | None = None
    generation: int = 1
    offset: int = 0
    rows: int = 0
    floor: int = 0
    closed: int = 0
    is_marked: bool = False
    is_mirror: bool = False
    expired: int = 0
    gone: int = 0
    kept: frozenset[int] = frozenset()

    @property
    def head(self) -> Head:
        """The asset's head, as the port shows it."""
        return Head(self.offset, self.generation, self.rows - self.gone, self.expired)

    @property
    def names(self) -> list[str]:
        """The columns' names as SQL identifiers."""
        return [quoted(column.name) for column in self.columns]

    def has_shape(self, table: Table) -> bool:
        """Whether the asset has this shape already: the same names and types in the same order, and the same key."""
        mine = [(column.name, column.type) for column in self.columns]
        return mine == [(column.name, column.type) for column in table.columns] and self.key == table.key


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of all assets and jobs at one moment. Never changed in place: a commit makes a new one."""

    tables: Mapping[str, Held] = field(default_factory=dict)
    jobs: Mapping[str, Progress] = field(default_factory=dict)

    def positions(self) -> Positions:
        """All of it as the port shows it."""
        return Positions({name: held.head for name, held in self.tables.items()}, dict(self.jobs))

    def after(self, tables: Mapping[str, Held], jobs: Mapping[str, Progress]) -> Known:
        """This, with some assets and jobs known anew."""
        return Known({**self.tables, **tables}, {**self.jobs, **jobs})

    def without(self, assets: Iterable[str], jobs: Iterable[str]) -> Known:
        """This, with some assets and jobs forgotten."""
        gone, stopped = set(assets), set(jobs)
        return Known(
            {name: held for name, held in self.tables.items() if name not in gone},
            {name: progress for name, progress in self.jobs.items() if name not in stopped},
        )


def table_name(asset: str) -> str:
    """The versioned table of an asset."""
    return f"{CATALOG}.store.{quoted(asset)}"


def view_name(asset: str) -> str:
    """The view of an asset's current rows."""
    return f"{CATALOG}.main.{quoted(asset)}"


def is_internal(asset: str) -> bool:
    """Whether an asset is tidemill's own and has no view."""
    return "@" in asset


def create_layout(session: Session) -> None:
    """Make the tables of a new store, or check that this tidemill can read the ones that are there."""
    known = session.rows(
        f"SELECT 1 FROM duckdb_tables() WHERE database_name = '{CATALOG}' AND schema_name = 'tidemill'"
    )
    if not known:
        session.begin()
        for statement in _LAYOUT:
            session.run(statement)
        session.commit()
        return
    [(version,)] = session.rows(f"SELECT value FROM {_META} WHERE name = 'schema'")
    if version > SCHEMA_VERSION:
        raise StateTooNew(
            f"the tables have layout {version}, this tidemill knows {SCHEMA_VERSION}", mend="install the newer tidemill"
        )


def read_epoch(session: Session) -> int:
    """The epoch of the last owner."""
    [(epoch,)] = session.rows(f"SELECT value FROM {_META} WHERE name = 'epoch'")
    return int(epoch)


def write_epoch(session: Session, epoch: int) -> None:
    """Set the epoch durably."""
    session.run(f"UPDATE {_META} SET value = {epoch} WHERE name = 'epoch'")


def create_asset(session: Session, table: Table) -> None:
    """Make the versioned table of an asset, and the view of its current rows."""
    columns = [f"{quoted(column.name)} {column.type}" for column in table.columns]
    hidden = [f"{RID} VARCHAR", f"{PARENT} VARCHAR", f"{FROM} BIGINT", f"{UNTIL} BIGINT"]
    session.run(f"CREATE TABLE {table_name(table.asset)} ({', '.join(columns + hidden)})")
    _create_view(session, table)


def _create_view(session: Session, table: Table) -> None:
    if not is_internal(table.asset):
        names = ", ".join(quoted(column.name) for column in table.columns) or "NULL AS nothing"
        session.run(
            f"CREATE OR REPLACE VIEW {view_name(table.asset)} AS "
            f"SELECT {names} FROM {table_name(table.asset)} WHERE {UNTIL} = {CURRENT}"
        )


def widen_asset(session: Session, held: Held, table: Table) -> None:
    """Add the columns that an asset does not have yet, null in every image there is, and widen the types of others."""
    known = {column.name: column.type for column in held.columns}
    if not is_internal(table.asset):
        session.run(f"DROP VIEW IF EXISTS {view_name(table.asset)}")
    for column in table.columns:
        name, had = quoted(column.name), known.get(column.name)
        if had is None:
            session.run(f"ALTER TABLE {table_name(table.asset)} ADD COLUMN {name} {column.type}")
        elif had != column.type:
            session.run(f"ALTER TABLE {table_name(table.asset)} ALTER COLUMN {name} TYPE {column.type}")
    _create_view(session, table)


def drop_asset(session: Session, asset: str) -> None:
    """Forget an asset's rows, and its view."""
    if not is_internal(asset):
        session.run(f"DROP VIEW IF EXISTS {view_name(asset)}")
    session.run(f"DROP TABLE IF EXISTS {table_name(asset)}")


def save(session: Session, before: Known, tables: Iterable[Held], jobs: Iterable[Progress]) -> None:
    """Store what is known anew of some assets and jobs: one statement for what was there, one for what is new."""
    old: dict[str, str] = {}
    new: dict[str, str] = {}
    for held in tables:
        earlier = before.tables.get(held.asset)
        for identity, body in _bodies_of(held).items():
            if earlier is None or identity not in (bodies := _bodies_of(earlier)):
                new[identity] = body
            elif bodies[identity] != body:
                old[identity] = body
    for progress in jobs:
        (old if progress.job in before.jobs else new)[f"job {progress.job}"] = _body_of_job(progress)
    _update(session, old)
    _insert(session, new)


def save_floor(session: Session, before: Held, held: Held) -> None:
    """Store how far an asset's history has been trimmed, and its rows have expired."""
    (_update if before.floor else _insert)(session, {f"floor {held.asset}": _floor_of(held)})


def forget(session: Session, assets: Iterable[str], jobs: Iterable[str]) -> None:
    """Remove assets and jobs from the state."""
    names = [f"{kind} {asset}" for asset in assets for kind in ("asset", "shape", "floor")] + [
        f"job {job}" for job in jobs
    ]
    if names:
        session.run(f"DELETE FROM {_STATE} WHERE id IN ({', '.join(map(literal, names))})")


def load(session: Session) -> Known:
    """Everything the store knows, from storage."""
    bodies: dict[str, dict[str, Any]] = {"asset": {}, "shape": {}, "floor": {}, "job": {}}
    for identity, text in session.rows(f"SELECT id, body FROM {_STATE}"):
        kind, _, name = identity.partition(" ")
        bodies[kind][name] = json.loads(text)
    assets, shapes, floors = bodies["asset"], bodies["shape"], bodies["floor"]
    if assets.keys() != shapes.keys() or floors.keys() - assets.keys():
        names = sorted((assets.keys() ^ shapes.keys()) | (floors.keys() - assets.keys()))
        raise StateCorrupt(f"the store knows only parts of {', '.join(names)}")
    tables = {name: _asset_of(name, moving, shapes[name], floors.get(name, {})) for name, moving in assets.items()}
    return Known(tables, {name: _job_of(name, body) for name, body in bodies["job"].items()})


def _update(session: Session, bodies: Mapping[str, str]) -> None:
    """Change rows of the state that are there; a CASE is the cheapest statement for a few of them."""
    if not bodies:
        return
    identities = {literal(identity): literal(body) for identity, body in bodies.items()}
    if len(bodies) == 1:
        [(identity, body)] = identities.items()
        statement = f"UPDATE {_STATE} SET body = {body} WHERE id = {identity}"
    elif len(bodies) <= _CASES_MAX:
        cases = " ".join(f"WHEN {identity} THEN {body}" for identity, body in identities.items())
        statement = f"UPDATE {_STATE} SET body = CASE id {cases} END WHERE id IN ({', '.join(identities)})"
    else:
        values = ", ".join(f"({identity}, {body})" for identity, body in identities.items())
        statement = f"UPDATE {_STATE} SET body = v.body FROM (VALUES {values}) v(id, body) WHERE state.id = v.id"
    if session.run(statement) != len(bodies):
        raise StateCorrupt(f"the state has no row for one of {', '.join(bodies)}")


def _insert(session: Session, bodies: Mapping[str, str]) -> None:
    """Add rows to the state."""
    if bodies:
        values = ", ".join(f"({literal(identity)}, {literal(body)})" for identity, body in bodies.items())
        session.run(f"INSERT INTO {_STATE} VALUES {values}")


def _bodies_of(held: Held) -> dict[str, str]:
    """An asset's rows in the state: what every commit changes, what a definition changes, what trimming changes."""
    moving = {"offset": held.offset, "rows": held.rows, "closed": held.closed}
    bodies = {
        f"asset {held.asset}": json.dumps({**moving, "marked": held.is_marked, "mirror": held.is_mirror}),
        f"shape {held.asset}": _shape_of(held.columns, held.key, held.generation),
    }
    if held.floor:
        bodies[f"floor {held.asset}"] = _floor_of(held)
    return bodies


def _floor_of(held: Held) -> str:
    expired = {"expired": held.expired, "gone": held.gone} if held.expired else {}
    kept = {"kept": sorted(held.kept)} if held.kept else {}
    return json.dumps({"floor": held.floor, **expired, **kept})


@cache
def _shape_of(columns: tuple[Column, ...], key: tuple[str, ...] | None, generation: int) -> str:
    listed = [[column.name, column.type, column.required] for column in columns]
    return json.dumps({"columns": listed, "key": key, "generation": generation})


def _asset_of(name: str, moving: Mapping[str, Any], shape: Mapping[str, Any], floor: Mapping[str, Any]) -> Held:
    return Held(
        asset=name,
        columns=tuple(Column(*column) for column in shape["columns"]),
        key=None if shape["key"] is None else tuple(shape["key"]),
        generation=shape["generation"],
        offset=moving["offset"],
        rows=moving["rows"],
        floor=floor.get("floor", 0),
        closed=moving["closed"],
        is_marked=moving["marked"],
        is_mirror=moving["mirror"],
        expired=floor.get("expired", 0),
        gone=floor.get("gone", 0),
        kept=frozenset(floor.get("kept", ())),
    )


def _body_of_job(progress: Progress) -> str:
    return json.dumps(
        {
            "version": progress.version,
            "cursors": dict(progress.cursors),
            "generations": dict(progress.generations),
            "run": progress.run,
            "served_at": progress.served_at,
            "succeeded": progress.succeeded,
            "pinned": None if progress.pinned is None else dict(progress.pinned),
            "opens": {value: dict(before) for value, before in progress.opens.items()},
        }
    )


def _job_of(name: str, body: Mapping[str, Any]) -> Progress:
    pinned = body["pinned"]
    return Progress(
        job=name,
        version=body["version"],
        cursors=body["cursors"],
        generations=body["generations"],
        run=body["run"],
        served_at=body["served_at"],
        succeeded=body["succeeded"],
        pinned=None if pinned is None else {asset: (first, last) for asset, (first, last) in pinned.items()},
        opens=body.get("opens", {}),
    )

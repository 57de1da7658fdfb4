"""Queries over assets: what each of them is to SQL, whatever home it has and whether anything was ever written.

Rules of this file:
  * topics are read from their mirrors, brought to head first; views are put in;
  * an output that never ran exists and is empty; where nobody knows its columns yet it is empty too, and naming a column
    of it is an error that says what would tell the columns;
  * an extract is its file as it is now, in its job's types; what has only versions has no rows to ask for.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tidemill.connectors.extract import reading
from tidemill.core.errors import BrokenJob, TidemillError, UserError
from tidemill.core.model import Asset, AssetKind, Column, Home, Job
from tidemill.project.deadbook import take_down
from tidemill.project.reports import found
from tidemill.project.system import DEAD, quoting
from tidemill.project.wiring import Machine
from tidemill.sql import NotOneQuery, analyse, expand, parse

__all__ = ["answer"]

UNKNOWN = "(no columns yet)"
"""The one column of a relation whose columns nobody knows; no answer shows it."""


def answer(machine: Machine, sql: str) -> pa.Table:
    """The rows of a query. Raises UserError for what has no rows, NotFound for what is no asset."""
    inputs, text = _inputs(machine, quoting(sql))
    if DEAD in inputs:
        take_down(machine)
    known = {name.lower(): name for name in machine.catalog.assets}
    named = [found(machine.catalog.assets, known.get(name.lower(), name), "asset") for name in inputs]
    machine.mirrors.catch_up_all(asset.name for asset in named if asset.kind is AssetKind.TOPIC)
    _make_empty(machine, [asset for asset in named if asset.home is Home.TABLES])
    relations, unknown = _relations(machine, named)
    try:
        rows: pa.Table = machine.tables.query(text, relations)
    except BrokenJob as error:
        if not unknown:
            raise
        raise _columns_unknown(machine, unknown[0], error) from error
    return rows.drop_columns([name for name in rows.column_names if name == UNKNOWN])


def _inputs(machine: Machine, sql: str) -> tuple[tuple[str, ...], str]:
    """What a query reads, and its text with the views put in."""
    try:
        inputs = analyse(sql, "query").inputs
    except NotOneQuery as error:
        mend = "ask one SELECT at a time; rows come in by tidemill emit, and tables are written by jobs"
        raise UserError(f"rows are asked for by one query, and {error.found}", place=error.place, mend=mend) from error
    views = dict(machine.definitions.views)
    if not {name.lower() for name in inputs} & {view.lower() for view in views}:
        return inputs, sql
    text = expand(parse(sql, "query", 1), views, "query").sql(dialect="duckdb")
    return analyse(text, "query").inputs, text


def _make_empty(machine: Machine, wanted: list[Asset]) -> None:
    """An output that never ran exists and is empty."""
    transaction = machine.tables.begin()
    try:
        fresh = [asset.name for asset in wanted if asset.kind is not AssetKind.TOPIC and _is_new(transaction, asset)]
        shapes = [shape for shape in map(machine.catalog.table, fresh) if shape.columns]
        for shape in shapes:
            transaction.define(shape)
        if shapes:
            transaction.commit()
    finally:
        transaction.rollback()


def _is_new(transaction: Any, asset: Asset) -> bool:
    return bool(transaction.head(asset.name).offset == 0)


def _relations(machine: Machine, named: list[Asset]) -> tuple[dict[str, str], list[Asset]]:
    """The SQL that stands for what is no table, and the assets whose columns nobody knows."""
    shapes = machine.tables.shapes()
    relations: dict[str, str] = {}
    unknown = []
    for asset in named:
        if asset.kind is AssetKind.EXTERNAL:
            raise UserError(
                f"`{asset.name}` is held elsewhere: it has versions and no rows",
                mend="see how far it is: tidemill status",
            )
        if asset.kind is AssetKind.EXTRACT:
            path = machine.definitions.folder / asset.path
            columns = _columns_of_extract(machine, asset)
            if path.exists() or columns:
                relations[asset.name] = reading(path, asset.format or "csv", columns)
                continue
        if asset.kind is AssetKind.EXTRACT or (asset.home is Home.TABLES and asset.name not in shapes):
            relations[asset.name] = f'select null as "{UNKNOWN}" where false'
            unknown.append(asset)
    return relations, unknown


def _writer(machine: Machine, asset: Asset) -> Job | None:
    return next((job for job in machine.catalog.jobs.copy().values() if asset.name in job.outputs), None)


def _columns_of_extract(machine: Machine, asset: Asset) -> tuple[Column, ...]:
    """What its job makes now; nothing where that is not known."""
    writer = _writer(machine, asset)
    try:
        return machine.catalog.plan(writer).columns if writer is not None else ()
    except TidemillError:
        return ()


def _columns_unknown(machine: Machine, asset: Asset, error: BrokenJob) -> UserError:
    writer = _writer(machine, asset)
    if writer is not None:
        why = f"job `{writer.name}` has not written it"
        mend = f"run it: tidemill run {writer.name}, or declare its columns"
    elif asset.kind is AssetKind.FILES:
        why, mend = "no file has landed", f"land a file, or write [assets.{asset.name}.columns]"
    else:
        why, mend = "nothing has written it", f"write [assets.{asset.name}.columns]"
    first = error.message.partition("\n")[0]
    return UserError(f"the columns of `{asset.name}` are not known yet, for {why} ({first})", mend=mend)

"""Landing files: what a listing shows that has not landed yet, or is not what it was (rule 4).

Rules of this file:
  * the listing is the truth; notifications only say that it is worth listing;
  * the rows of a file and the fact that it landed are committed in one transaction of the tables store;
  * a file is taken when it is stable; a file that does not parse is rejected whole, with its line, and satisfies no gate;
  * columns that a file adds are added to the asset (`schema = "evolve"`), in the transaction that lands the file;
  * the same content again is no change; with `on_delete = keep` a file that vanished stays landed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from tidemill.core.change import ORDINAL, PARENT, RID, ArrowStream, Replaced, Slice
from tidemill.core.errors import UpstreamError
from tidemill.core.model import Asset, Column
from tidemill.core.ports import Head, Source, SourceFile, Store, Table, Transaction
from tidemill.runtime.rows import as_table, dicts, table_of
from tidemill.runtime.stability import DELAY_SECONDS, Stability

__all__ = ["BINARY_COLUMNS", "Landed", "Landing", "columns_of", "landings_asset"]

_COLUMNS = (
    Column("path", "varchar"),
    Column("size_bytes", "bigint"),
    Column("stamp", "varchar"),
    Column("hash", "varchar"),
    Column("state", "varchar"),
    Column("reason", "varchar"),
    Column("partition", "varchar"),
)
_SCHEMA = pa.schema(
    [
        *(pa.field(c.name, pa.int64() if c.type == "bigint" else pa.string()) for c in _COLUMNS),
        pa.field(PARENT, pa.string()),
        pa.field(ORDINAL, pa.int64()),
    ]
)


BINARY_COLUMNS = (Column("path", "varchar"), Column("size_bytes", "bigint"), Column("hash", "varchar"))
"""The rows of a binary files asset: one a file, so that its landing is the change; what its path says comes besides."""


def columns_of(asset: Asset) -> tuple[Column, ...]:
    """The columns of a files asset, as far as they are declared."""
    if asset.format != "binary":
        return asset.columns
    own = {column.name for column in BINARY_COLUMNS}
    in_path = [column.name for column in asset.columns if f"{{{column.name}}}" in asset.path]
    return (*BINARY_COLUMNS, *(Column(name, "varchar") for name in in_path if name not in own))


def landings_asset(asset: str) -> str:
    """The name of the internal asset that says which files of a files asset have landed."""
    return f"{asset}@landings"


@dataclass(slots=True)
class Landed:
    """What one look at a files asset did: the head now, files taken, and files rejected with the reason."""

    head: Head
    taken: list[str] = field(default_factory=list)
    rejected: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    is_settled: bool = True
    """False while files are there that are not stable yet: look again shortly."""


class Landing:
    """Lands the files of one asset."""

    def __init__(self, asset: Asset, source: Source, tables: Store, delay_seconds: float = DELAY_SECONDS) -> None:
        self.asset = asset
        self._source = source
        self._tables = tables
        self._stability = Stability(delay_seconds)

    def look(self, now: float, *, trusts_all: bool = False) -> Landed:
        """List, and land what is new and stable; `now` is any time that does not jump, in seconds.

        `trusts_all` takes files without waiting for a second look; marked files never wait, the marker is their word.
        """
        listing = {file.path: file for file in self._source.list()}
        known = self._known()
        fresh = [file for path, file in sorted(listing.items()) if _differs(file, known.get(path))]
        is_marked = bool(self.asset.marker or self.asset.options.get("manifest"))
        stable = fresh if trusts_all or is_marked else self._stability.stable(fresh, now)
        gone = self._gone(known, listing)
        landed = self._land(stable, gone, known, self._given_up(known, listing))
        landed.is_settled = len(stable) == len(fresh)
        return landed

    def _known(self) -> dict[str, Mapping[str, object]]:
        reader = self._tables.begin(exclusive=False)
        try:
            head = reader.head(landings_asset(self.asset.name))
            if not head.rows:
                return {}
            rows = dicts(reader.read(Slice(landings_asset(self.asset.name), 0, head.offset)))
            return {str(row["path"]): row for row in rows}
        finally:
            reader.rollback()

    def _gone(self, known: Mapping[str, Mapping[str, object]], listing: Mapping[str, SourceFile]) -> list[str]:
        if self.asset.on_delete != "retract":
            return []
        return [path for path, row in known.items() if path not in listing and row["state"] != "gone"]

    def _given_up(self, known: Mapping[str, Mapping[str, object]], listing: Mapping[str, SourceFile]) -> list[str]:
        """Rejected files that were taken away: nobody waits for them to be mended any more; rows they had stay."""
        if self.asset.on_delete == "retract":
            return []
        return [path for path, row in known.items() if path not in listing and row["state"] == "rejected"]

    def _land(
        self,
        files: Iterable[SourceFile],
        gone: Iterable[str],
        known: Mapping[str, Mapping[str, object]],
        given_up: Sequence[str],
    ) -> Landed:
        landed = Landed(Head())
        transaction = self._tables.begin()
        try:
            transaction.define(Table(landings_asset(self.asset.name), _COLUMNS))
            for file in files:
                self._take(transaction, file, known.get(file.path), landed)
            for path in gone:
                self._retract(transaction, path, landed)
            for path in given_up:
                self._give_up(transaction, known[path], landed)
            landed.head = transaction.head(self.asset.name)
            if landed.taken or landed.rejected or given_up:
                landed.head = transaction.commit().get(self.asset.name, landed.head)
            return landed
        finally:
            transaction.rollback()

    def _take(
        self, transaction: Transaction, file: SourceFile, before: Mapping[str, object] | None, landed: Landed
    ) -> None:
        try:
            content = self._source.read(file)
        except OSError:
            return
        except UpstreamError as error:
            landed.rejected[file.path] = str(error)
            self._note(transaction, file, str(before["hash"]) if before is not None else "", "rejected", str(error))
            return
        if before is None or before["hash"] != content.hash or before["state"] != "landed":
            if content.columns:
                self.asset = replace(self.asset, columns=content.columns)
            rows = self._binary(file, content.hash) if self._is_binary else content.rows
            landed.rows += self._write(transaction, file, rows)
        landed.taken.append(file.path)
        self._note(transaction, file, content.hash, "landed", ", ".join(content.left_out))

    @property
    def _is_binary(self) -> bool:
        return self.asset.format == "binary"

    def _binary(self, file: SourceFile, digest: str) -> pa.Table:
        row = {**file.partition, "path": file.path, "size_bytes": file.size_bytes, "hash": digest}
        return pa.Table.from_pylist([{**row, RID: file.path, PARENT: file.path}])

    def _write(self, transaction: Transaction, file: SourceFile, rows: ArrowStream) -> int:
        table = as_table(rows)
        transaction.define(self._table())
        return transaction.write(self.asset.name, Replaced(table, [file.path]))

    def _table(self) -> Table:
        """The shape of the asset: columns that are new, in its files or its declaration, are added to those there are."""
        return Table(self.asset.name, columns_of(self.asset), widens=True)

    def _retract(self, transaction: Transaction, path: str, landed: Landed) -> None:
        transaction.define(self._table())
        empty = table_of(pa.schema([pa.field(PARENT, pa.string()), pa.field(ORDINAL, pa.int64())]), [])
        transaction.write(self.asset.name, Replaced(empty, [path]))
        self._note(transaction, SourceFile(path, 0, ""), "", "gone", "")
        landed.taken.append(path)

    def _give_up(self, transaction: Transaction, rejected: Mapping[str, object], landed: Landed) -> None:
        """A rejected file was taken away: what had landed of it before stands, and is there for gates again."""
        path, digest = str(rejected["path"]), str(rejected["hash"])
        partition = dict(part.split("\x1f", 1) for part in str(rejected["partition"]).split("\x1e") if part)
        self._note(transaction, SourceFile(path, 0, "", partition), digest, "landed" if digest else "removed", "")
        if digest:
            landed.taken.append(path)

    def _note(self, transaction: Transaction, file: SourceFile, digest: str, state: str, reason: str) -> None:
        partition = "\x1e".join(f"{name}\x1f{value}" for name, value in file.partition.items())
        row = {
            "path": file.path,
            "size_bytes": file.size_bytes,
            "stamp": file.stamp,
            "hash": digest,
            "state": state,
            "reason": reason,
            "partition": partition,
            PARENT: file.path,
            ORDINAL: 0,
        }
        transaction.write(landings_asset(self.asset.name), Replaced(table_of(_SCHEMA, [row]), [file.path]))


def _differs(file: SourceFile, known: Mapping[str, object] | None) -> bool:
    return known is None or known["size_bytes"] != file.size_bytes or known["stamp"] != file.stamp

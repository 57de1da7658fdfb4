"""Transactions over the tables: reads at a snapshot, outputs, progress, and one commit.

Rules of this file:
  * an exclusive transaction holds the site's lock from begin to end and writes at once, on the site's one writer;
  * any other reads its own snapshot on its own connection. It adds images at once (that conflicts with nobody) but
    ends images only in `commit`, under the lock: DuckDB lets the first of two writers of a row win, and a long batch
    must never make a realtime commit fail. Reading an asset it has written ends them earlier;
  * under the lock it compares what it read with what is known now, and only then commits;
  * after an error in `write`, DuckDB has given the transaction up: only `rollback` is left.

Theory of operation. What is known of assets and jobs is in memory (see site.py), and a transaction stages its changes of
it beside: nothing is read back, several runs can share one transaction, and a rollback drops the staging. One statement
in `commit` stores all of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from tidemill.core.change import (
    OFFSET,
    RID,
    UNTIL,
    Appended,
    ArrowStream,
    Became,
    Changed,
    Output,
    Replaced,
    Slice,
    Statement,
)
from tidemill.core.errors import (
    BrokenJob,
    Conflict,
    ContractViolation,
    DefinitionError,
    Expired,
    Fenced,
    InvariantError,
    NotFound,
    OperatorError,
    StateCorrupt,
)
from tidemill.core.ports import Head, Progress, Table
from tidemill.sql.identity import key_identity
from tidemill.stores.duckdb.database import Session, in_memory, literal, not_unique, quoted
from tidemill.stores.duckdb.difference import (
    Source,
    appending,
    by_content,
    closing,
    consolidated,
    current_images,
    difference,
    doubled,
    given,
    opening,
    same_parents,
    taken,
    unlogged,
)
from tidemill.stores.duckdb.few import (
    PARENTS_MAX,
    FewChanges,
    current_rows,
    few_appended,
    few_changes,
    few_consolidated,
)
from tidemill.stores.duckdb.inputs import Inputs
from tidemill.stores.duckdb.layout import (
    CURRENT,
    Held,
    Known,
    create_asset,
    drop_asset,
    save,
    table_name,
    widen_asset,
)
from tidemill.stores.duckdb.site import Site

__all__ = ["DuckDBTransaction"]


@dataclass(frozen=True, slots=True)
class Closing:
    """A statement that ends current images of an asset; `removals` is how many there must be (None: all it finds)."""

    asset: str
    statement: str
    removals: int | None = None

    def run(self, session: Session) -> int:
        """End the images; returns how many. Raises StateCorrupt where they are not those that must be there."""
        count = session.run(self.statement)
        if self.removals is not None and count != self.removals:
            raise StateCorrupt(
                f"{self.asset}: the change set removes a row that is not there "
                f"({self.removals} removals, {count} rows that they name)",
                mend="rebuild the table of the job that writes it",
            )
        return count


@dataclass(slots=True)
class Staged:
    """What a transaction has changed and not committed; `closings` are not run yet, by asset."""

    tables: dict[str, Held] = field(default_factory=dict)
    jobs: dict[str, Progress] = field(default_factory=dict)
    closings: dict[str, list[Closing]] = field(default_factory=dict)
    lines: int = 0


class DuckDBTransaction:
    """One atomic unit of work; see `tidemill.core.ports.Transaction`."""

    def __init__(self, site: Site, epoch: int, *, exclusive: bool) -> None:
        self._site = site
        self._epoch = epoch
        self._exclusive = exclusive
        self._staged = Staged()
        self._session: Session | None = None
        self._base = Known()
        self._is_broken = False
        self._is_over = False
        if exclusive:
            site.lock.acquire()
            try:
                self._begin(exclusive=True)
            except BaseException:
                site.lock.release()
                raise

    def head(self, asset: str) -> Head:
        """See `Reader.head`."""
        held = self._held(asset)
        return held.head if held else Head()

    def progress(self, job: str) -> Progress | None:
        """See `Transaction.progress`."""
        self._open()
        return self._staged.jobs.get(job) or self._base.jobs.get(job)

    def read(self, part: Slice) -> ArrowStream:
        """See `Reader.read`."""
        session = self._open()
        with self._inputs(session) as inputs, self._breaking():
            stream: ArrowStream = inputs.read(part)
            return stream

    def evaluate(self, statement: Statement) -> Any:
        """The rows of a statement in this snapshot, as an Arrow table (beyond the port: extracts, append topics)."""
        session = self._open()
        with self._inputs(session) as inputs, self._breaking():
            return session.few(inputs.query(statement))

    def interrupt(self) -> None:
        """End the statement that runs now, if one does (beyond the port). Any thread."""
        if self._session is not None:
            self._session.interrupt()

    def define(self, table: Table) -> Head:
        """See `Transaction.define`."""
        session = self._open()
        held = self._held(table.asset)
        if held is not None and held.has_shape(table):
            return held.head
        if held is not None and table.is_wider(held.columns, held.key):
            return self._widen(session, held, table)
        with self._breaking():
            if held is not None:
                drop_asset(session, table.asset)
            _define(session, table, create_asset)
        self._staged.closings.pop(table.asset, None)
        fresh = Held(table.asset, table.columns, table.key)
        if held is not None:
            fresh = replace(
                fresh, generation=held.generation + 1, offset=held.offset, floor=held.offset, closed=held.closed
            )
        self._staged.tables[table.asset] = fresh
        return fresh.head

    def _widen(self, session: Session, held: Held, table: Table) -> Head:
        """Add columns in place. What was put off was written for the columns before, so it is run first."""
        with self._breaking():
            self._end_images(table.asset)
            _define(session, table, lambda session, table: widen_asset(session, held, table))
        self._staged.tables[table.asset] = replace(held, columns=table.columns)
        return held.head

    def write(self, asset: str, output: Output) -> int:
        """See `Transaction.write`."""
        session = self._open()
        held = self._held(asset)
        if held is None:
            raise NotFound(f"the store has no asset {asset}", mend="define it before writing it")
        with self._inputs(session) as inputs, self._breaking(is_writing=True):
            self._end_images(asset)
            if isinstance(output, Replaced):
                return self._unique(session, held, output, self._replace(session, held, inputs, output))
            if isinstance(output, Appended):
                return self._unique(session, held, output, self._append(session, held, inputs, output))
            if isinstance(output, Became):
                return self._apply(session, held, _whole(inputs.source(output.rows), held, output.key), None, False)
            return self._change(session, held, inputs, output)

    def _unique(self, session: Session, held: Held, output: Appended | Replaced, changes: int) -> int:
        """The number of changes, once it is sure that a key which the rows do not get by construction is unique."""
        if not changes or not held.key or output.head is not None:
            return changes
        self._end_images(held.asset)
        twice = session.rows(doubled(held, changes))
        if twice:
            rows = ", ".join(str(dict(zip(held.key, row, strict=True))) for row in twice)
            raise ContractViolation(
                f"{held.asset}: the key is not unique: {rows}", mend="make the key columns identify one row"
            )
        return changes

    def tidy(self, asset: str) -> int:
        """Take away current rows that no log made, and count the rows anew; returns how many went.

        Those are rows that came by hand: a second one of an identity, one without an identity, one from beyond the head
        (beyond the port: repair). Readers never saw them come, so they do not see them go.
        """
        session, held = self._open(), self._held(asset)
        if held is None:
            return 0
        with self._breaking(is_writing=True):
            self._end_images(asset)
            gone = session.run(unlogged(held))
            [(rows,)] = session.rows(f"SELECT count(*) FROM {table_name(asset)} WHERE {UNTIL} = {CURRENT}")
        self._staged.tables[asset] = replace(held, rows=int(rows) + held.gone)
        return gone

    def empty(self, asset: str) -> None:
        """Forget all rows of a mirror, history included, so that it is filled again from 0 (beyond the port: repair)."""
        session, held = self._open(), self._held(asset)
        if held is None or not held.is_mirror:
            raise InvariantError(f"{asset} is no mirror: what it holds cannot be had again")
        with self._breaking(is_writing=True):
            session.run(f"DELETE FROM {table_name(asset)}")
        self._staged.closings.pop(asset, None)
        self._staged.tables[asset] = replace(held, offset=0, rows=0, closed=0, gone=0)

    def take_over(self, asset: str, other: str) -> int:
        """Let an asset's shape and rows become those of another, with their identities and what they belong to.

        Rows that are the same already get no change. Returns the changes (beyond the port: shadows).
        """
        source = self._held(other)
        if source is None:
            raise NotFound(f"the store has no asset {other}")
        self.define(Table(asset, source.columns, source.key))
        session, held = self._open(), self._held(asset)
        assert held is not None, "it was defined just now"
        with self._breaking(is_writing=True):
            self._end_images(asset, other)
            rows = current_images(source)
            count = self._apply(session, held, difference(rows, held, RID, is_distinct=True), None, False)
            self._end_images(asset)
            session.run(same_parents(held, source))
        return count

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """See `Transaction.settle`."""
        current = self.progress(progress.job)
        if not is_same(current, expected):
            raise Conflict(f"job {progress.job}: its progress is not what this run began from")
        for asset, cursor in progress.cursors.items():
            self._check_cursor(progress, current, asset, cursor)
        self._staged.jobs[progress.job] = progress

    def commit(self) -> Mapping[str, Head]:
        """See `Transaction.commit`."""
        if self._is_over or self._is_broken:
            raise InvariantError("the transaction is over, or a call in it failed: it can only be rolled back")
        session = self._open()
        if not self._exclusive:
            self._site.lock.acquire()
        try:
            self._commit(session)
        except BaseException:
            self._end(rolling_back=True, has_lock=True)
            raise
        heads = {asset: held.head for asset, held in self._staged.tables.items()}
        self._end(rolling_back=False, has_lock=True)
        return heads

    def rollback(self) -> None:
        """See `Transaction.rollback`."""
        if not self._is_over:
            self._end(rolling_back=True, has_lock=self._exclusive)

    # What is known, and the snapshot.

    def _held(self, asset: str) -> Held | None:
        self._open()
        return self._staged.tables.get(asset) or self._base.tables.get(asset)

    def _open(self) -> Session:
        """The session, with its snapshot taken at the first use."""
        if self._is_over:
            raise InvariantError("the transaction is over")
        if self._session is None:
            with self._site.fence:
                self._begin(exclusive=False)
        assert self._session is not None
        return self._session

    def _begin(self, *, exclusive: bool) -> None:
        self._base = self._site.known
        session = self._site.writer if exclusive else self._site.take_session()
        session.begin()
        if not exclusive:
            session.rows("SELECT 1 FROM tidemill.meta LIMIT 1")
        self._session = session

    @contextmanager
    def _inputs(self, session: Session) -> Iterator[Inputs]:
        inputs = Inputs(session, self._held_to_read, self._site.shapes, self._site.images_max)
        yield inputs
        inputs.release()

    @contextmanager
    def _breaking(self, *, is_writing: bool = False) -> Iterator[None]:
        """What fails in here leaves nothing but `rollback`; a slice that is refused to a reader has not failed."""
        try:
            yield
        except BaseException as error:
            if not is_writing and isinstance(error, StateCorrupt | NotFound | Expired) and error.__cause__ is None:
                raise
            self._is_broken = True
            if isinstance(error, OperatorError):
                self._site.learn(None)
            raise

    # Writing.

    def _append(self, session: Session, held: Held, inputs: Inputs, output: Appended) -> int:
        base = _base(held, output.head)
        rows = output.rows if isinstance(output.rows, Statement) else in_memory(output.rows)
        few = None if isinstance(rows, Statement) else inputs.few_rows(rows)
        text = None if few is None else few_appended(held, few, base, output.head)
        if text is None:
            source = inputs.source(rows)
            has_offsets = output.head is not None and OFFSET in source.names
            text = "" if source.is_empty else appending(held, source, base, has_offsets=has_offsets)
        count = session.run(text) if text else 0
        self._stage(held, base, count, output.head, opened=count, closed=0)
        if output.expired > held.expired:
            staged = self._staged.tables[held.asset]
            floor = max(held.floor, output.expired)
            self._staged.tables[held.asset] = replace(staged, floor=floor, expired=output.expired)
        return count

    def _replace(self, session: Session, held: Held, inputs: Inputs, output: Replaced) -> int:
        """Make the difference for some parents: here where rows and parents are few, else in SQL."""
        rows = output.rows if isinstance(output.rows, Statement) else in_memory(output.rows)
        parents = None if output.parents is None else inputs.identities(output.parents)
        if isinstance(parents, list) and len(parents) <= PARENTS_MAX:
            count = self._replace_few(session, held, inputs.few_rows(rows), parents, output.head)
            if count is not None:
                return count
        source = inputs.source(rows)
        has_offsets = output.head is not None and OFFSET in source.names
        text = difference(
            source,
            held,
            given(source),
            has_offsets=has_offsets,
            parents=", ".join(map(literal, parents)) or "NULL" if isinstance(parents, list) else parents or "",
            is_distinct=source.is_distinct,
        )
        return self._apply(session, held, text, output.head, has_offsets)

    def _replace_few(self, session: Session, held: Held, rows: Any, parents: list[str], head: int | None) -> int | None:
        if rows is None:
            return None
        base = _base(held, head)
        old = session.few(current_rows(held, parents))
        made = few_changes(held, rows, parents, old=old, base=base, head=head)
        return None if made is None else self._make(session, held, made, base, head=head)

    def _make(
        self,
        session: Session,
        held: Held,
        made: FewChanges,
        base: int,
        *,
        head: int | None = None,
        removals: int | None = None,
    ) -> int:
        """Make a few changes: one statement for the images that end, one for those that begin."""
        if made.ended:
            self._close(session, Closing(held.asset, made.closing(held), removals))
        if made.opening:
            session.run(made.opening)
        self._stage(held, base, made.count, head, opened=len(made.begun), closed=len(made.ended))
        return made.count

    def _change(self, session: Session, held: Held, inputs: Inputs, output: Changed) -> int:
        """Make exactly these changes: consolidated here where the lines are few, else in SQL."""
        base = _base(held, None)
        rows = output.rows if isinstance(output.rows, Statement) else in_memory(output.rows)
        few = None if isinstance(rows, Statement) else inputs.few_rows(rows)
        made = None if few is None else few_consolidated(held, few, base)
        if made is not None:
            if output.is_checked:
                _check_free(session, held, [rid for rid in made.begun if rid not in made.ended])
            return self._make(session, held, made, base, removals=len(made.ended))
        lines, text = self._lines_name(), consolidated(inputs.source(rows), held, is_checked=output.is_checked)
        count = session.run(f"CREATE OR REPLACE TEMP TABLE {quoted(lines)} AS {text}")
        removals = opened = 0
        if count:
            [(removals,)] = session.rows(f"SELECT sum(_removals)::BIGINT FROM {quoted(lines)}")
            if removals:
                self._close(session, Closing(held.asset, closing(held, lines, base, None), removals))
            opened = session.run(opening(held, lines, base, None))
        self._stage(held, base, count, None, opened=opened, closed=removals)
        return count

    def _apply(self, session: Session, held: Held, text: str, head: int | None, has_offsets: bool) -> int:
        """Apply a difference: close what it closes, open what it opens."""
        base = _base(held, head)
        lines = self._lines_name()
        count = session.run(f"CREATE OR REPLACE TEMP TABLE {quoted(lines)} AS {text}")
        opened = closed = 0
        if count:
            end = head if has_offsets else None
            if held.rows:
                ended = self._close(session, Closing(held.asset, closing(held, lines, base, end)))
                closed = _lines_closing(session, lines) if ended is None else ended
            opened = session.run(opening(held, lines, base, end))
        self._stage(held, base, count, head, opened=opened, closed=closed)
        return count

    def _lines_name(self) -> str:
        if self._exclusive:
            return "@lines"
        self._staged.lines += 1
        return f"@lines{self._staged.lines}"

    def _close(self, session: Session, ending: Closing) -> int | None:
        """End images: now, where nobody else can write; else later, and then None is returned."""
        if self._exclusive:
            return ending.run(session)
        self._staged.closings.setdefault(ending.asset, []).append(ending)
        return None

    def _held_to_read(self, asset: str) -> Held | None:
        """What is known of an asset that a slice, a gate or a statement is about to read: nothing is put off then."""
        self._end_images(asset)
        return self._held(asset)

    def _end_images(self, *assets: str) -> None:
        """Run what was put off for these assets."""
        for asset in assets:
            for put_off in self._staged.closings.pop(asset, ()):
                assert self._session is not None
                put_off.run(self._session)

    def _stage(self, held: Held, base: int, count: int, head: int | None, *, opened: int, closed: int) -> None:
        end = base + count if head is None else head
        if end < held.offset:
            raise StateCorrupt(f"{held.asset}: the head would move back from {held.offset} to {end}")
        self._staged.tables[held.asset] = replace(
            held,
            offset=end,
            rows=held.rows + opened - closed,
            closed=end if closed else held.closed,
            is_marked=held.is_marked or head is None,
            is_mirror=head is not None,
        )

    # Settling and committing.

    def _check_cursor(self, progress: Progress, current: Progress | None, asset: str, cursor: int) -> None:
        held = self._held(asset)
        if held is not None and not held.is_mirror and cursor > held.offset:
            raise StateCorrupt(f"job {progress.job}: its cursor on {asset} would be {cursor}, past head {held.offset}")
        if current is None or current.version != progress.version:
            return
        is_same_log = current.generations.get(asset) == progress.generations.get(asset)
        if is_same_log and cursor < current.cursors.get(asset, 0):
            raise StateCorrupt(
                f"job {progress.job}: its cursor on {asset} would move back from {current.cursors[asset]} to {cursor}"
            )

    def _commit(self, session: Session) -> None:
        newest = self._site.known
        if not self._exclusive:
            self._verify(newest)
        self._end_images(*list(self._staged.closings))
        save(session, self._base, self._staged.tables.values(), self._staged.jobs.values())
        tables = {asset: _with_floor(held, newest.tables.get(asset)) for asset, held in self._staged.tables.items()}
        with self._site.fence:
            if self._epoch != self._site.epoch:
                raise Fenced(f"epoch {self._epoch} is over: the owner is now {self._site.epoch}")
            self._site.commit(session, newest.after(tables, self._staged.jobs))

    def _verify(self, newest: Known) -> None:
        """Compare what the snapshot showed with what is known now."""
        for asset in self._staged.tables:
            if _head(self._base, asset) != _head(newest, asset):
                raise Conflict(f"{asset} has changed since this transaction read it")
        for job in self._staged.jobs:
            if not is_same(self._base.jobs.get(job), newest.jobs.get(job)):
                raise Conflict(f"job {job} has been run since this transaction read it")

    def _end(self, *, rolling_back: bool, has_lock: bool) -> None:
        self._is_over = True
        session, self._session = self._session, None
        try:
            if session is not None and rolling_back:
                session.rollback()
            if session is not None and not self._exclusive:
                self._put_away(session)
        finally:
            if has_lock:
                self._site.lock.release()

    def _put_away(self, session: Session) -> None:
        """A session with temporary tables is closed, which frees them."""
        if self._staged.lines:
            session.close()
        else:
            self._site.give_back(session)


def is_same(one: Progress | None, other: Progress | None) -> bool:
    """Whether two progresses are the same for compare-and-set."""
    if one is None or other is None:
        return one is other
    return (one.version, one.run, dict(one.cursors)) == (other.version, other.run, dict(other.cursors))


def _base(held: Held, head: int | None) -> int:
    """The offset before the first change of a write: the first write of a generation spends one on its marker."""
    return held.offset if held.is_marked or head is not None else held.offset + 1


def _head(known: Known, asset: str) -> tuple[int, int] | None:
    held = known.tables.get(asset)
    return (held.generation, held.offset) if held else None


def _with_floor(held: Held, newest: Held | None) -> Held:
    """An asset that was trimmed, or of which rows expired, while this transaction was open."""
    if newest is None or newest.generation != held.generation:
        return held
    if (newest.floor, newest.expired) <= (held.floor, held.expired):
        return held
    return replace(held, floor=newest.floor, expired=newest.expired, gone=newest.gone, kept=newest.kept)


def _whole(source: Source, held: Held, key: tuple[str, ...] | None) -> str:
    """The difference over the whole asset: by key, or by content."""
    if key is None:
        return difference(source, held, by_content(held), is_content=True)
    return difference(source, held, key_identity(key))


def _lines_closing(session: Session, lines: str) -> int:
    [(count,)] = session.rows(f"SELECT count(*) FROM {quoted(lines)} WHERE _closes")
    return int(count)


def _check_free(session: Session, held: Held, rids: list[str]) -> None:
    """Raise ContractViolation where a current row has one of these identities."""
    text = f"{taken(held, ', '.join(map(literal, rids)))} ORDER BY {RID} LIMIT 5"
    found = session.rows(text) if rids else []
    if found:
        raise not_unique(", ".join(rid for (rid,) in found))


def _define(session: Session, table: Table, make: Callable[[Session, Table], None]) -> None:
    try:
        make(session, table)
    except BrokenJob as error:
        raise DefinitionError(
            f"asset {table.asset}: {error.message}", mend="use type names that DuckDB knows"
        ) from error

"""The sockets of the heart: what stores, logs, engines, sources, clocks and notifiers must do.

Rules of this file:
  * a docstring here is a contract: when it is called, how often, by which thread, whether it is idempotent, what a
    crash just before or just after means, and what is *not* guaranteed;
  * a port has at most eight methods, is synchronous, and knows no library: rows cross as `ArrowStream`;
  * every implementation, fakes included, passes the shared suite of its port (`tidemill.testing.contract`).

Theory of operation. A *store* is one home of assets: it holds their rows, their logs and the progress of the jobs that
write them, so that all three change in one transaction (rule 9). There are two: the tables (DuckDB) and the ledger
(SQLite). Everything a job must remember besides its output is itself kept as rows of an internal asset of the same
store and written in the same transaction: its parked set (`JOB@parked`), the partition values its gate has released
(`JOB@gate`), the files that have landed (`ASSET@landings`). An internal asset's name has an `@`, which no user name has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from tidemill.core.change import ArrowStream, Output, Slice
from tidemill.core.model import Asset, Column, Home, Job
from tidemill.core.schema import lost

__all__ = [
    "Clock",
    "Engine",
    "FileContent",
    "Head",
    "Ledger",
    "Log",
    "Notifier",
    "Plan",
    "Positions",
    "Progress",
    "Reader",
    "Receipt",
    "Refusal",
    "RunRecord",
    "Sending",
    "Source",
    "SourceFile",
    "Store",
    "Table",
    "Transaction",
    "Work",
]


@dataclass(frozen=True, slots=True)
class Head:
    """The end of an asset's log: the offset of its last change, within one generation of the log.

    A generation ends when the asset's columns change; offsets go on counting. `rows` is how many rows there are now.
    Rows recorded at or below `expired` are gone, because their retention is over (`Store.expire`).
    """

    offset: int = 0
    generation: int = 1
    rows: int = 0
    expired: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """What one job has done, committed in the same transaction as its outputs.

    `cursors` maps each input to the offset it has been read to, `generations` to the log generation that offset
    belongs to. `run` is the id of the last committed run. `served_at` is the moment (seconds) of the last schedule or
    period served. `succeeded` says whether this version ever succeeded on a record (rule 14). `pinned` holds the
    ranges of a run with outside effects that has begun and not been settled: every retry takes exactly these. `opens`
    says what this run takes from behind its gate: the partition value it opens or corrects, then late values that join
    it, each with the positions of the inputs up to which it was shown before.
    """

    job: str
    version: str
    cursors: Mapping[str, int] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    run: str = ""
    served_at: float = 0.0
    succeeded: bool = False
    pinned: Mapping[str, tuple[int, int]] | None = None
    opens: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Positions:
    """All a store knows of positions: enough, with the definitions, to rebuild the heart's state (rule 12)."""

    heads: Mapping[str, Head] = field(default_factory=dict)
    progress: Mapping[str, Progress] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Table:
    """The physical shape of an asset in a store: its columns and, where rows have one, its key.

    `key` None means rows are identified by a hidden row id. `widens`: where this has more columns or wider types than
    are held, those are changed in place, so that rows and history stay (null in what is new); only stores of tables can,
    and others begin a new generation.
    """

    asset: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] | None = None
    widens: bool = False

    def is_wider(self, columns: tuple[Column, ...], key: tuple[str, ...] | None) -> bool:
        """Whether this is the shape of these columns and this key, with more columns or wider types, and may take its
        place."""
        return self.widens and self.key == key and lost(columns, self.columns) is None


class Reader(Protocol):
    """Reads parts of assets at one consistent snapshot."""

    def head(self, asset: str) -> Head:
        """The end of the asset's log in this snapshot; `Head(0)` for an asset that never changed."""

    def read(self, part: Slice) -> ArrowStream:
        """The rows of a slice, ordered by offset then row identity.

        Columns: `_rid` (text), `_offset` (bigint), for `CHANGES` also `_weight` (tinyint), then the asset's columns.
        `STATE`: rows as they are at `part.to`. `CHANGES`: the consolidated change set of (from_, to].
        `ADDED`: only its new images. Raises StateCorrupt where `to` is beyond the head or history below the
        trimmed floor is asked for; Expired where rows that have expired belong to the slice.
        """


class Transaction(Reader, Protocol):
    """One atomic unit of work on a store, used by one thread. Nothing is visible to others before `commit`."""

    def progress(self, job: str) -> Progress | None:
        """The job's progress in this snapshot; None before its first commit."""

    def define(self, table: Table) -> Head:
        """Make the asset have this shape: create it, or begin a new, empty generation where columns or key differ.

        Idempotent where the shape is the same. Returns the head, whose offset goes on counting over generations.
        With `table.widens`, more columns and wider types are taken in place: rows, history and generation stay.
        """

    def write(self, asset: str, output: Output) -> int:
        """Apply an output to the asset's rows and log; returns the number of changes (one per row identity).

        Each change gets the next offset, in a deterministic order. A write that changes nothing moves no head.
        The first write to a table asset also counts one *marker* offset, even for no rows (rule 27).
        Raises ContractViolation for a key that is not unique, naming up to five offending rows.
        A `Changed` output gives its changes offsets in the order of row identity; the `PARENT` of its rows is null, and
        the values of a removal serve only to cancel additions: the row that goes is found by its identity. It raises
        StateCorrupt where it removes a row that is not there, at the latest in `commit`; ContractViolation where, after
        consolidating, one identity has two additions, or (`is_checked`) an identity that is added is taken.
        After an error in here nothing but `rollback` may follow.
        """

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """Set a job's progress, if it still is `expected` (compare-and-set on version, cursors and run).

        Raises Conflict where it is not, StateCorrupt where a cursor would move back or pass its input's head.
        Called once per run, before `commit`.
        """

    def commit(self) -> Mapping[str, Head]:
        """Make everything durable at once; returns the new heads of the assets written.

        Raises Fenced where the owner epoch moved on, StateCorrupt where a `Changed` output removes a row that is not
        there. A crash before it returns leaves either all or nothing.
        """

    def rollback(self) -> None:
        """Forget everything; idempotent, also after `commit` (where it does nothing)."""


class Store(Protocol):
    """One home of assets: rows, logs and progress that change together."""

    home: Home

    def claim(self) -> int:
        """Become the owner: raise the epoch durably and return it. Transactions begun before are fenced off."""

    def positions(self) -> Positions:
        """Every head and every job's progress, from storage and not from memory. Called at start."""

    def begin(self, *, exclusive: bool = True) -> Transaction:
        """Start a transaction. `exclusive` ones wait for each other and see the newest state; the others see a
        snapshot from their first read and take the commit lock only in `commit`. Any thread."""

    def trim(self, asset: str, below: int, keep: Sequence[int] = ()) -> int:
        """Forget images that ended at or below this offset; returns how many. Never changes the current rows.

        Images that were current at one of the positions `keep` stay, where they are still there: the state at that
        position and the changes since can be read on (of a row that went since, at an earlier offset). The other positions
        below are refused from then on; a store may keep more.
        """

    def expire(self, asset: str, below: int) -> int:
        """Forget what was recorded at or below this offset, because its retention is over; returns how many.

        Of append topics and their mirrors the rows themselves go: from the oldest on, never one above `below`, a few below
        it may stay (a topic forgets whole blocks). That is no change: no offset is spent, and readers beyond it hear of
        nothing. `Head.expired` says how far it went; a slice that such rows belong to raises Expired from then on.
        Anything else is trimmed. One commit; idempotent; nobody waits for it but other commits.
        """

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """Forget assets (rows and logs) and jobs (progress and their internal assets) in one transaction."""

    def close(self) -> None:
        """Release files; idempotent. Open transactions are rolled back."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why the door did not take an event: `index` is its place in what was sent (from 0)."""

    index: int
    reason: str
    payload: str
    column: str = ""


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of what was sent to the door: counts that add up to what was sent (rule 5).

    The accepted events have the last `accepted` offsets up to `head`. `duplicates` are (place in what was sent, offset
    of the event it repeats; 0 for a stale version, which repeats none). `undeclared` are fields that the events carry
    and their topic does not declare.
    """

    accepted: int = 0
    duplicate: int = 0
    parked: int = 0
    head: int = 0
    refusals: tuple[Refusal, ...] = ()
    duplicates: tuple[tuple[int, int], ...] = ()
    undeclared: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sending:
    """Events on their way to a topic together with others' (`SQLiteStore.append_all`).

    `count` is how many events there are where the sender knows: one a line, none blank; 0 where nobody counted them.
    A strict sending is refused whole, with nothing kept, where one of its events would be parked. `refused` were
    refused before they came here, and are parked with the rest. `keep` makes of the receipt a note (topic, name,
    value) that is stored in the same transaction, unless a strict sending was refused. `letter` is the id of the dead
    letter that is replayed by it, and so leaves the parked ones in that transaction. `traceparent` is the trace that the
    sender says its events belong to ("" where it says none): it stays with those that are taken, and with those parked.
    """

    asset: Asset
    events: bytes
    count: int = 0
    is_strict: bool = False
    refused: tuple[Refusal, ...] = ()
    keep: Callable[[Receipt], tuple[str, str, Any]] | None = None
    letter: str = ""
    traceparent: str = ""


class Log(Protocol):
    """The hot log of topics, external versions and extract versions: durable when the call returns."""

    def append(self, asset: Asset, events: bytes, *, source: str = "", mark: str = "") -> Receipt:
        """Take events (NDJSON) through the asset's contract, dedup and upsert rules; durable on return (FULL sync).

        Raises SchemaDrift, with nothing taken, where the asset evolves and the events need columns that it does not
        have. No events at all give the topic the columns of the asset, from its head on.

        One transaction: the block, the ids, the parked events and the `mark` (resume position of a file being
        emitted, as text; stored under `source`). Thread-safe; calls are serialised.
        """

    def touch(self, asset: str, version: str) -> Receipt:
        """An external asset changed to `version`; the same version again is a duplicate ("" always is a change)."""

    def mark(self, asset: str, source: str) -> str:
        """The last mark stored with `source`, or ""."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run as people see it: a report, never the truth about what was committed (rule 9).

    Of `rows_in` offsets `parked` were put aside and `skipped` came to nothing: counted for jobs that work row by row over
    an input that only grows; of any other everything goes into the whole. The rest was taken: `readiness["taken"]` says how
    many where that is counted in what was written.
    """

    run: str
    job: str
    state: str
    attempt: int = 1
    inputs: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    started_at: float = 0.0
    finished_at: float | None = None
    rows_in: int = 0
    rows_out: int = 0
    parked: int = 0
    mode: str = ""
    error: str = ""
    readiness: Mapping[str, Any] = field(default_factory=dict)
    skipped: int = 0


class Ledger(Protocol):
    """The control store's records: run reports, notes (overrides, pauses, applied definitions), dead letters."""

    def record(self, runs: Sequence[RunRecord]) -> None:
        """Insert or replace run reports by run id, in one commit."""

    def runs(self, *, job: str = "", state: str = "", run: str = "", limit: int = 100) -> list[RunRecord]:
        """Run reports, newest first."""

    def note(self, topic: str, name: str, value: Any) -> None:
        """Durably keep a JSON value under (topic, name); None forgets it."""

    def note_all(self, topic: str, values: Mapping[str, Any]) -> None:
        """Keep many values under a topic, in one commit."""

    def notes(self, topic: str) -> dict[str, Any]:
        """All values kept under a topic."""

    def dead(self, *, asset: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Events parked at the door, newest first: `{id, asset, job, stage, reason, payload, attempts, state,
        traceparent}`."""

    def traces(self, asset: str, ranges: Sequence[tuple[int, int]]) -> list[list[str]]:
        """For each range (from, to] of a topic's offsets the traces that senders said the events belong to: the newest
        ten different ones, the newest first; none of an asset that is no topic, and of events that are gone."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How an engine will maintain a job: `rowwise` (outputs belong to input rows), `keyed` (to the input rows of one key),
    `incremental` (in stages), or `recompute` and difference.

    `columns` and `key` shape the output table; `reason` says why a SQL job is not row-wise. `is_mirrored` asks for the
    topics among the inputs to be read from their typed mirrors in the tables store. `tables` gives the shapes of the
    internal assets (`JOB@...`) that the engine writes beside the outputs. `history` names the inputs all of whose rows the
    plan may have to read again, each with the reason; of the others it reads what is new. `detail` is what the engine itself knows of the
    plan; nobody else reads it.
    """

    kind: str
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] | None = None
    reason: str = ""
    statement: str = ""
    is_mirrored: bool = False
    tables: Mapping[str, Table] = field(default_factory=dict)
    history: Mapping[str, str] = field(default_factory=dict)
    detail: object | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One run for an engine: the job, its plan, and per input the range (from, to] to work on.

    `whole` asks for the result over the whole inputs as they are at `to` (rebuilds, gates): `Became`, or for row-wise
    work `Replaced` with `parents` None. `released` names the gated job whose released rows alone are seen.
    `excluding` are row identities per input that are parked, or about to be; `excluding_before` those that were parked
    when the run began: what earlier runs left out (none for a whole result). `traceparents` are the
    traces that the senders of its events named; only runs with outside effects are told. `value` is the partition value that a gated
    run with outside effects takes: of inputs with that column it is shown the rows of the value alone.
    """

    job: Job
    plan: Plan
    ranges: Mapping[str, tuple[int, int]]
    run: str
    whole: bool = False
    released: str = ""
    excluding: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attempt: int = 1
    value: str = ""
    excluding_before: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    traceparents: tuple[str, ...] = ()


class Engine(Protocol):
    """Computes. Pure towards the stores: it reads through a reader and returns outputs; it never writes."""

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        """Decide how the job is maintained. Raises DefinitionError with the place and the mend."""

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """The outputs by asset name, one at a time.

        Each is written in the run's transaction before the next is asked for, so that a later one may read what an
        earlier one wrote. An asset may be internal (`JOB@...`) if `plan.tables` gives its shape. Any exception is the
        transform's: the runtime retries, parks or holds.
        """


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file as a listing shows it: path relative to the project, size in bytes, modification stamp."""

    path: str
    size_bytes: int
    stamp: str
    partition: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FileContent:
    """What one file says: its rows and the hash of its content.

    `columns` are those of the rows, which files may have added to (empty: those of the asset); `left_out` names columns
    of the file that are not in the rows.
    """

    rows: ArrowStream
    hash: str
    columns: tuple[Column, ...] = ()
    left_out: tuple[str, ...] = ()


class Source(Protocol):
    """Where rows come from when tidemill fetches them: for now, files."""

    def list(self) -> Iterable[SourceFile]:
        """All files that are there now: the truth (notifications only wake). Any order; may raise OSError."""

    def read(self, file: SourceFile) -> FileContent:
        """The rows of one file and the hash of its content. Columns that it adds count for the files read after it.

        Raises UpstreamError naming the file and the line for content that does not parse, OSError where it vanished.
        """


class Clock(Protocol):
    """The only source of time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC. May jump; nothing correct may depend on it."""


class Notifier(Protocol):
    """Wakes the loop: a hint, never a fact. Lost and doubled notifications must change nothing (rule 12)."""

    def notify(self, asset: str) -> None:
        """Something may have changed about this asset. Any thread; must not block."""

"""Histories: change sets written one after the other, jobs that take them at different paces, and a look at each table.

Rules of this file:
  * every lane of a query runs the same text; lanes differ only in how many change sets a run takes, so wherever two
    have read everything their tables are equal to the bit (rule 16);
  * the first lane takes each change set alone, and its table is compared with plain DuckDB after every one;
  * in the end each table is made anew, and that must change nothing: increments and rebuilds are one query; where rows
    that it was made of have expired, it is refused.

Theory of operation. `History.play` writes the first rows, then a change set a step; after each it lets every lane that
is due run and looks at its table. What happens besides (histories trimmed, events expired, processes begun anew,
commits shared) is drawn from the same seed. What a history went through is counted in a `Report`, so that a test can see it was no
trivial one.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.incremental.bench import MEMORY, Bench
from tests.incremental.queries import Query
from tests.incremental.reference import Reference, Wrong
from tests.incremental.tables import Base, ChangeSet, Source, edit_of
from tidemill.core.errors import Expired, TidemillError

REALTIME, MICROBATCH, BATCH, LATE, SWITCHING = "realtime", "microbatch", "batch", "late", "switching"
PACES = (REALTIME, MICROBATCH, BATCH, LATE, SWITCHING)

BenchType = Callable[[Iterable[Base], str | Path], Bench]


@dataclass
class Report:
    """What happened to the tables of one query in one history, or in many."""

    runs: int = 0
    comparisons: int = 0
    changes: int = 0
    changed_runs: int = 0
    rows_max: int = 0
    kinds: set[str] = field(default_factory=set)

    def add(self, other: Report) -> None:
        """Count another report too."""
        self.runs += other.runs
        self.comparisons += other.comparisons
        self.changes += other.changes
        self.changed_runs += other.changed_runs
        self.rows_max = max(self.rows_max, other.rows_max)
        self.kinds |= other.kinds

    def check(self, query: Query) -> None:
        """Raise Wrong where a history was too poor to prove anything about its query."""
        if self.rows_max < query.rows_min:
            raise Wrong(f"{query.name}: at most {self.rows_max} rows in a whole history, want {query.rows_min}")
        if self.changed_runs < 2:
            raise Wrong(f"{query.name}: its table hardly ever changed")


class Lost(AssertionError):
    """A history in which something was wrong: which query, which lane, after which step."""

    def __init__(self, query: Query, lane: str, step: int, error: Exception) -> None:
        self.query = query
        self.step = step
        what = f"{type(error).__name__}: {error}"
        super().__init__(f"query {query.name}, {lane} lane, after change set {step}: {what}\n\n{query.text}")


@dataclass
class Lane:
    """One job over a query's text: its pace, and how far its published change sets have been read."""

    query: Query
    pace: str
    is_leading: bool
    begins: int
    read_to: int = 0
    is_followed: bool = False

    @property
    def name(self) -> str:
        """The name of its job and table; other queries read the leading lane's."""
        return self.query.name if self.is_leading else f"{self.query.name}__{self.pace}"

    def is_due(self, step: int, last: int, choose: random.Random) -> bool:
        """Whether it takes what there is after this step."""
        if self.is_leading or step == last:
            return True
        if step < self.begins or self.pace == BATCH:
            return False
        if self.pace == SWITCHING:
            return (step // 3) % 2 == 0
        return self.pace == LATE or choose.random() < 0.4


@dataclass
class History:
    """One history of some queries: where its rows come from, how long it is, and at which paces jobs take it."""

    source: Source
    queries: Sequence[Query]
    random: random.Random
    steps: int = 10
    paces: Sequence[str] = (REALTIME, MICROBATCH)
    path: str | Path = MEMORY
    bench_type: BenchType = Bench
    reports: dict[str, Report] = field(default_factory=dict)
    written: list[ChangeSet] = field(default_factory=list)
    expires: bool = False
    expired: int = 0
    refused: int = 0

    def play(self) -> dict[str, Report]:
        """Play it; the reports by query. Raises Lost, or DefinitionError for a query that is refused."""
        names = self.bases_read()
        bases = [self.source.bases[name] for name in names]
        self._bench, self._reference = self.bench_type(bases, self.path), Reference(bases)
        try:
            lanes = self._define()
            self._write({base.name: edit_of(base, {}) for base in bases})
            if self.random.random() < 0.5:
                self._take([lane for lane in lanes if lane.is_leading], -1)
            self._write(self.source.load(names))
            for step in range(self.steps):
                self._take([lane for lane in lanes if lane.is_due(step, self.steps - 1, self.random)], step)
                self._between(lanes)
                if step < self.steps - 1:
                    self._write(self.source.change_set(names))
            self._rebuild(lanes)
        finally:
            self._bench.close()
            self._reference.close()
        return self.reports

    def bases_read(self) -> list[str]:
        """The base assets that the queries read."""
        read = {name for query in self.queries for name in query.inputs}
        return [name for name in self.source.bases if name.lower() in read]

    def _define(self) -> list[Lane]:
        lanes = []
        for query in self.queries:
            report = self.reports[query.name] = Report()
            self._reference.name(query.name, query.expected)
            for pace in self.paces:
                lane = Lane(query, pace, pace == self.paces[0], self.random.randrange(self.steps))
                plan = self._bench.define(lane.name, query.text)
                report.kinds.add(plan.kind)
                lanes.append(lane)
        return lanes

    def _write(self, changes: ChangeSet) -> None:
        self.written.append(changes)
        self._reference.write(changes)
        self._bench.write(changes)

    def _take(self, lanes: Sequence[Lane], step: int) -> None:
        """Let lanes that have news run, each alone or some in one transaction; then look at what they made."""
        ran = self._take_together(lanes, step) if self.random.random() < 0.3 else []
        for lane in lanes:
            if self._bench.has_news(lane.name):  # asked late: a lane before it may just have made some
                self._attempt(lane, step, lambda lane=lane: self._run(lane))
                ran.append(lane)
        for lane in lanes:
            if lane in ran:
                self._attempt(lane, step, lambda lane=lane: self._look(lane))

    def _take_together(self, lanes: Sequence[Lane], step: int) -> list[Lane]:
        """Let all lanes that have news now run in one transaction (group commit)."""
        ready = [lane for lane in lanes if self._bench.has_news(lane.name)]
        if ready:
            self._attempt(ready[-1], step, lambda: self._bench.run_together([lane.name for lane in ready]))
        return ready

    def _run(self, lane: Lane) -> None:
        self._bench.run(lane.name, exclusive=self.random.random() < 0.5)

    def _attempt(self, lane: Lane, step: int, doing: Callable[[], object]) -> None:
        try:
            doing()
        except (Wrong, TidemillError) as error:
            raise Lost(lane.query, lane.pace, step, error) from error

    def _look(self, lane: Lane) -> None:
        """Compare a table with the answer (or with the leading lane's table), and with what was published of it."""
        report, head = self.reports[lane.query.name], self._bench.head(lane.name)
        columns, rows = self._bench.columns(lane.name), self._bench.rows(lane.name)
        if not lane.is_followed:
            self._reference.follow(lane.name, columns)
            lane.is_followed = True
        if head.offset > lane.read_to:
            changes = self._bench.published(lane.name, lane.read_to, head.offset)
            self._reference.apply(lane.name, changes, columns, (lane.read_to, head.offset))
            lane.read_to = head.offset
            report.changes += changes.num_rows
            report.changed_runs += bool(changes.num_rows)
        self._reference.check_reader(lane.name, rows, columns)
        if lane.is_leading:
            count = self._reference.check(lane.query.expected, rows, columns, lane.query.close)
            report.rows_max = max(report.rows_max, count)
        elif self._bench.digest(lane.name) != self._bench.digest(lane.query.name):
            raise Wrong(f"its bits are not those of the {self.paces[0]} lane")
        report.runs += 1
        report.comparisons += 2

    def _between(self, lanes: Sequence[Lane]) -> None:
        """What may happen at any time: histories are trimmed, events expire, a process ends and the next begins."""
        if self.random.random() < 0.2:
            self._bench.trim({lane.name: lane.read_to for lane in lanes})
        if self.random.random() < 0.15:
            self._bench.reopen()
        if self.expires and self.random.random() < 0.5:
            self.expired += self._bench.expire(self.random)

    def _rebuild(self, lanes: Sequence[Lane]) -> None:
        """Make every table anew: it must be the same to the bit, and its readers must hear nothing."""
        for lane in lanes:
            if lane.is_followed:
                self._attempt(lane, self.steps, lambda lane=lane: self._rebuild_one(lane))

    def _rebuild_one(self, lane: Lane) -> None:
        before = self._bench.head(lane.name).offset, self._bench.digest(lane.name)
        if self._bench.has_expired(lane.name):
            self._is_refused(lane)
        else:
            self._bench.run(lane.name, is_rebuild=True)
        self._look(lane)
        if before != (self._bench.head(lane.name).offset, self._bench.digest(lane.name)):
            raise Wrong("made anew, the table is not what the increments had made")

    def _is_refused(self, lane: Lane) -> None:
        self.refused += 1
        try:
            self._bench.run(lane.name, is_rebuild=True)
        except Expired:
            return
        raise Wrong("it was made anew of rows some of which have expired")

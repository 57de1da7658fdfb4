"""What must be true at the end of every history: the batch recomputation over the final inputs, minus the parked set.

Rules of this file:
  * what the sources hold is known from the history, not from the stores; each table is recomputed from that in plain
    Python, jobs upstream first;
  * a job that has not read its inputs to their heads needs an excuse that lies in its definition or in its rows;
  * an excused job is still right about what it has read: it is recomputed over its inputs at its cursors.

Theory of operation. `judge` forces jobs whose own condition holds them back (`each`, expressions, `on`), then walks the
jobs from the sources down. Besides each table it checks what readers were told (the published changes, replayed from
nothing, give the table), the parked sets, the gates, and what reached the outside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pyarrow as pa

from tidemill.core import when
from tidemill.core.change import OFFSET, RID, WEIGHT, Change, ChangeSet, Images, Slice
from tidemill.core.errors import StateCorrupt
from tidemill.core.mapping import ObjectMapping
from tidemill.core.model import Home
from tidemill.core.orchestrate import Phase
from tidemill.core.ports import Head, Progress, Transaction
from tidemill.runtime.gate import gate_asset
from tidemill.runtime.landing import landings_asset
from tidemill.runtime.parking import parked_asset
from tidemill.testing.simulator import gates
from tidemill.testing.simulator.definitions import asset_of, job_of
from tidemill.testing.simulator.deliveries import check_held, check_ranges, check_values_delivered, distinct
from tidemill.testing.simulator.gates import Row
from tidemill.testing.simulator.player import Player
from tidemill.testing.simulator.transforms import Pair, raises, recompute
from tidemill.testing.simulator.words import JobSpec, SourceSpec

__all__ = ["Wrong", "check_moment", "judge"]


class Wrong(AssertionError):
    """Something that must be true is not."""


def judge(player: Player) -> None:
    """Raise Wrong for the first thing that is not as it must be."""
    _Judge(player).all()


def check_moment(player: Player) -> None:
    """Raise Wrong where a table is not what its job makes of exactly what it has read: true at every moment (rule 9)."""
    _Judge(player).moment()


@dataclass(slots=True)
class _Judge:
    player: Player
    truth: dict[str, list[Row]] = field(default_factory=dict)

    def all(self) -> None:
        specs = self.player.site.jobs
        order = _from_the_sources_down(specs)
        self._force(order)
        for source in self.player.site.sources.values():
            self.truth[source.name] = list(_source_rows(self, source))
            self._check_source(source)
        for name in order:
            self._check_job(specs[name])
        if self.player.site.scandals:
            raise Wrong(f"a run met an error that no history may bring about: {self.player.site.scandals[0]}")
        twice = [opened for opened, count in Counter(self.player.site.opened).items() if count > 1]
        if twice:
            raise Wrong(f"a gate opened twice: {twice}")
        for spec in specs.values():
            if spec.takes == "run":
                self._check_deliveries(spec)

    def _check_deliveries(self, spec: JobSpec) -> None:
        site = self.player.site
        delivered = distinct(spec, site.deliveries)
        check_held(spec, delivered, site.released)
        progress = self.progress(spec)
        gated = self._partitioned(spec) if spec.gate is not None else []
        check_ranges(spec, progress, delivered, [asset for asset in spec.inputs if asset not in gated])
        if spec.gate is not None:
            rows = [
                row
                for asset, rows in zip(spec.inputs, self._inputs(spec, progress), strict=True)
                if asset in gated
                for row in rows
            ]
            check_values_delivered(spec.gate, delivered, gated, rows)

    def moment(self) -> None:
        for spec in self.player.site.jobs.values():
            progress = self.progress(spec)
            if progress is None or spec.takes == "run" or spec.to_topic or not self._is_of_now(spec, progress):
                continue
            try:
                inputs = [self._read_so_far(spec, progress, asset) for asset in spec.inputs]
            except StateCorrupt:
                continue
            table, bad = recompute(spec, [[row[:2] for row in rows] for rows in inputs])
            self._check_table(spec, table)
            self._check_parked(spec, bad)

    def _is_of_now(self, spec: JobSpec, progress: Progress) -> bool:
        """Whether the job's result was made by its present version, from the present logs of its inputs."""
        if spec.takes == "run" or spec.to_topic:
            return True
        heads = {asset: self.head(asset) for asset in spec.inputs}
        is_same_log = all(heads[asset].generation == at for asset, at in progress.generations.items())
        return progress.version == job_of(spec).version and is_same_log

    def _read_so_far(self, spec: JobSpec, progress: Progress, asset: str) -> list[Row]:
        if spec.gate is None or asset not in self._partitioned(spec):
            return self._as_it_was(asset, progress.cursors.get(asset, 0), spec)
        released = self.rows(gate_asset(spec.name), home=job_of(spec).home)
        values = {row["value"]: row["position"] for row in released if row["input"] == asset}
        return [row for day, at in values.items() for row in self._as_it_was(asset, at) if row[2] == day]

    # --------------------------------------------------------------------------------------- reading stores

    def transaction(self, home: Home) -> Transaction:
        return self.player.machine.inner[home].begin(exclusive=False)

    def home(self, asset: str) -> Home:
        return self.player.machine.catalog.assets[asset].home

    def head(self, asset: str) -> Head:
        return self.transaction(self.home(asset)).head(asset)

    def rows(self, asset: str, to: int | None = None, home: Home | None = None) -> list[dict[str, Any]]:
        """The rows of an asset, now or as they were."""
        transaction = self.transaction(home or self.home(asset))
        head = transaction.head(asset).offset
        if not head:
            return []
        to, expired = head if to is None else to, transaction.head(asset).expired
        part = Slice(asset, expired, max(to, expired), Images.ADDED) if expired else Slice(asset, 0, to)
        gone = self.player.site.gone.get(asset, {}) if expired else {}
        found = [row for at, row in sorted(gone.items()) if at <= min(to, expired)]
        left: list[dict[str, Any]] = pa.table(transaction.read(part)).to_pylist()
        return [*found, *left]

    def progress(self, spec: JobSpec) -> Progress | None:
        return self.player.machine.progress(spec)

    # ---------------------------------------------------------------------------------------------- the jobs

    def _force(self, order: list[str]) -> None:
        """Start what its own condition holds back, until nothing is left that only its condition holds back."""
        before: list[object] = []
        patience = 2
        while shy := [name for name in order if self._is_shy(self.player.site.jobs[name])]:
            reached = [self._reached(self.player.site.jobs[name]) for name in shy]
            patience = 2 if reached != before else patience - 1
            if not patience:
                return
            before = reached
            self.player.force(shy)
            self.player.let_time_pass()

    def _reached(self, spec: JobSpec) -> object:
        """How far a job has come: its cursors, and the values its gate has released."""
        progress = self.progress(spec)
        cursors = dict(progress.cursors) if progress is not None else {}
        return cursors, self.transaction(job_of(spec).home).head(gate_asset(spec.name)).offset

    def _is_shy(self, spec: JobSpec) -> bool:
        if spec.gate is not None:
            return bool(spec.on) or spec.when not in ("", "any", "all")
        if not self._behind(spec):
            return False
        return bool(spec.on) or not self._condition_holds(spec)

    def _behind(self, spec: JobSpec) -> list[str]:
        progress = self.progress(spec)
        cursors = progress.cursors if progress is not None else {}
        return [asset for asset in spec.inputs if cursors.get(asset, 0) < self.head(asset).offset]

    def _condition_holds(self, spec: JobSpec) -> bool:
        word = spec.when or ("all" if spec.mode == "batch" else "any")
        news = self._behind(spec)
        if word == "any":
            return True
        if word == "all":
            return all(self.head(asset).offset for asset in spec.inputs)
        if word == "each":
            return len(news) == len(set(spec.inputs))
        return when.holds(when.parse(word), news)

    def _check_job(self, spec: JobSpec) -> None:
        progress = self.progress(spec)
        is_stale = progress is not None and not self._is_of_now(spec, progress)
        if is_stale or (spec.gate is None and self._behind(spec)):
            self._check_excuse(spec)
        if spec.takes == "run":
            self._inputs(spec, progress)
            return
        is_made = progress is not None and not is_stale
        if is_made:
            table, bad = recompute(spec, [[row[:2] for row in rows] for rows in self._inputs(spec, progress)])
        else:
            # Nothing was committed by this version (held, with an excuse): what was there before still stands.
            self._released(spec)
            table, bad = self._bag(spec.output), self._parked_before(spec)
        self._check_table(spec, table, is_made)
        self._check_parked(spec, bad)
        self._check_changes(spec.output)
        self.truth[spec.output] = [(k, v, "") for k, v in table.elements()]

    def _inputs(self, spec: JobSpec, progress: Progress | None) -> list[list[Row]]:
        """What the job has read: the truth where it is at the head, else what the store says it was."""
        positions = self._released(spec)
        found: list[list[Row]] = []
        for asset in spec.inputs:
            cursor = progress.cursors.get(asset, 0) if progress is not None else 0
            head = self.head(asset).offset
            if cursor > head:
                raise Wrong(f"{spec.name}: its cursor on {asset} is {cursor}, the head {head}")
            if spec.gate is not None and asset in self._partitioned(spec):
                was = partial(self._as_it_was, asset)
                may_lag = spec.gate.on_late == "next" or self._is_held(spec)
                found.append(gates.released_rows(positions.get(asset, {}), None if may_lag else self.truth[asset], was))
            else:
                found.append(self.truth[asset] if cursor == head else self._as_it_was(asset, cursor, spec))
        return found

    def _partitioned(self, spec: JobSpec) -> list[str]:
        """The inputs that have the gate's column."""
        sources = self.player.site.sources
        return [asset for asset in spec.inputs if asset in sources and sources[asset].kind == "files"]

    def _released(self, spec: JobSpec) -> dict[str, dict[str, int]]:
        """What the job's gate says it has released: input -> value -> position; checked against what landed."""
        if spec.gate is None:
            return {}
        found: dict[str, dict[str, int]] = {}
        for row in self.rows(gate_asset(spec.name), home=job_of(spec).home):
            found.setdefault(row["input"], {})[row["value"]] = row["position"]
        sources = [self.player.site.sources[asset] for asset in self._partitioned(spec)]
        values = {value for positions in found.values() for value in positions}
        wrong = gates.check_values(spec.gate, values, sources, {s.name: _arrived(self, s) for s in sources})
        job = self.player.machine.loop.state.jobs[spec.name]
        if wrong and not self._is_held(spec) and self._condition_holds(spec):
            raise Wrong(f"{spec.name}: {wrong}; it is {job.phase} ({job.reason})")
        return found

    def _as_it_was(self, asset: str, to: int, spec: JobSpec | None = None) -> list[Row]:
        """An asset as the store shows it at an offset (a mirror knows a topic only at the heads it caught up to)."""
        home = Home.TABLES if spec is not None and spec.takes == "sql" else self.home(asset)
        return [(row["k"], row["v"], row.get("day", "")) for row in self.rows(asset, to, home)] if to else []

    def _is_held(self, spec: JobSpec) -> bool:
        """Whether bad rows hold this job: with `on_error: stop` one does, else only if it never met a good one."""
        if self.player.machine.loop.state.jobs[spec.name].phase is not Phase.HELD:
            return False
        rows = [row for asset in spec.inputs for row in self.truth[asset]]
        bad = [row for row in rows if raises(spec, row[:2])]
        return bool(bad) and (spec.on_error == "stop" or self.progress(spec) is None)

    def _check_excuse(self, spec: JobSpec) -> None:
        """A job behind its heads must be held for a reason that lies in its rows, or never have been due."""
        state = self.player.machine.loop.state
        job = state.jobs[spec.name]
        progress = self.progress(spec)
        is_stale = progress is not None and not self._is_of_now(spec, progress)
        if not is_stale and spec.when in ("all", "each", "") and not self._condition_holds(spec):
            return
        behind = self._behind(spec)
        if job.phase is Phase.HELD:
            fresh = [row for asset in (spec.inputs if is_stale else behind) for row in self._fresh(spec, asset)]
            bad = [row for row in fresh if raises(spec, row)]
            if bad and (spec.on_error == "stop" or len(bad) == len(fresh)):
                return
        why = "; ".join(state.readiness(spec.name, self.player.site.now).because)
        raise Wrong(
            f"{spec.name} has not read {', '.join(behind)} to the head: it is {job.phase} ({job.reason}); {why}"
        )

    def _fresh(self, spec: JobSpec, asset: str) -> list[Pair]:
        """The rows that the job would take now; all it has read where it would be rebuilt."""
        progress = self.progress(spec)
        cursor = progress.cursors.get(asset, 0) if progress is not None else 0
        transaction = self.transaction(self.home(asset))
        part = Slice(asset, cursor, transaction.head(asset).offset, Images.ADDED)
        if progress is not None and not self._is_of_now(spec, progress):
            is_new_log = progress.generations.get(asset, 1) != transaction.head(asset).generation
            part = Slice(asset, 0, part.to if is_new_log else cursor)
        return [(row["k"], row["v"]) for row in pa.table(transaction.read(part)).to_pylist()]

    def _check_table(self, spec: JobSpec, table: Counter[Pair], is_made: bool = True) -> None:
        rows = self.rows(spec.output)
        there = Counter((row["k"], row["v"]) for row in rows)
        if there != table:
            raise Wrong(f"{spec.output}: too many {dict(there - table)}, missing {dict(table - there)}")
        if len({row[RID] for row in rows}) != len(rows):
            raise Wrong(f"{spec.output}: two rows have one identity")
        if is_made and spec.is_wide and any(row["w"] != row["v"] * 2 for row in rows):
            raise Wrong(f"{spec.output}: a column is not what it was computed as")

    def _bag(self, asset: str) -> Counter[Pair]:
        return Counter((row["k"], row["v"]) for row in self.rows(asset))

    def _parked_before(self, spec: JobSpec) -> list[Counter[Pair]]:
        parked = self._parked(spec)
        return [Counter(_pair(row["payload"]) for row in parked if row["input"] == asset) for asset in spec.inputs]

    def _check_parked(self, spec: JobSpec, bad: list[Counter[Pair]]) -> None:
        there = Counter((row["input"], *_pair(row["payload"])) for row in self._parked(spec))
        expected = Counter(
            (asset, *pair) for asset, pairs in zip(spec.inputs, bad, strict=True) for pair in pairs.elements()
        )
        if there != expected:
            raise Wrong(
                f"{spec.name}: parked that must not be {dict(there - expected)}, not parked {dict(expected - there)}"
            )

    def _parked(self, spec: JobSpec) -> list[dict[str, Any]]:
        return self.rows(parked_asset(spec.name), home=job_of(spec).home)

    def _check_changes(self, asset: str) -> None:
        """Readers who take the published changes piece by piece get the table."""
        transaction = self.transaction(self.home(asset))
        head = transaction.head(asset)
        if not head.offset:
            return
        cuts = sorted({head.offset // 3, 2 * head.offset // 3, head.offset})
        try:
            rows = _replayed(transaction, asset, cuts)
        except StateCorrupt:
            rows = _replayed(transaction, asset, [head.offset])
        now = {row.pop(RID): _values(row) for row in self.rows(asset)}
        if rows != now:
            raise Wrong(f"{asset}: its published changes, replayed from nothing, do not give the table")

    def _check_source(self, source: SourceSpec) -> None:
        if source.kind == "external":
            return
        there = Counter((row["k"], row["v"], row.get("day", "")) for row in self.rows(source.name))
        expected = Counter(self.truth[source.name])
        if there != expected:
            raise Wrong(f"{source.name}: holds too much {dict(there - expected)}, and lacks {dict(expected - there)}")


def _from_the_sources_down(specs: dict[str, JobSpec]) -> list[str]:
    mapping = ObjectMapping.of(job_of(spec) for spec in specs.values())
    order: list[str] = []
    left = dict.fromkeys(specs)
    while left:
        ready = [name for name in left if not any(upper in left for upper in mapping.producers(mapping.jobs[name]))]
        order.extend(ready)
        for name in ready:
            del left[name]
    return order


def _arrived(judge: _Judge, source: SourceSpec) -> set[tuple[str, str]]:
    """(day, store) of the files that count as arrived."""
    there = set(judge.player.site.files.get(source.name, {}))
    landings = judge.rows(landings_asset(source.name), home=Home.TABLES)
    paths = [row["path"].split("/") for row in landings if row["state"] == "landed"]
    return there if source.retracts else there | {(day, name.removesuffix(".csv")) for _, day, name in paths}


def _source_rows(judge: _Judge, source: SourceSpec) -> Iterator[Row]:
    """What a source holds at the end, from the history alone (but for files that are gone: the last that landed)."""
    site = judge.player.site
    if source.kind == "append":
        yield from ((k, v, "") for k, v, _ in site.emitted.get(source.name, ()) if v is not None)
    elif source.kind == "upsert":
        yield from ((k, v, "") for k, v in _latest(site.emitted.get(source.name, ())).items() if v is not None)
    elif source.kind == "files":
        files = {key: rows or () for key, (_, rows) in site.files.get(source.name, {}).items()}
        if asset_of(source).on_delete != "retract":
            files = {**_landed(judge, source), **files}
        for (day, _store), rows in files.items():
            yield from ((k, v, day) for k, v in rows)


def _latest(rows: Iterable[tuple[str, int | None, int]]) -> dict[str, int | None]:
    versions: dict[str, int] = {}
    latest: dict[str, int | None] = {}
    for k, v, version in rows:
        if version >= versions.get(k, version):
            versions[k], latest[k] = version, v
    return latest


def _landed(judge: _Judge, source: SourceSpec) -> dict[tuple[str, str], tuple[tuple[str, int], ...]]:
    """The content of every file as it last landed: its hash is its content, written as Python.

    Of a file that was rejected since (and perhaps removed then), what its rows say: nothing else knows what was there before.
    """
    found = {}
    for row in judge.rows(landings_asset(source.name), home=Home.TABLES):
        _, day, name = row["path"].split("/")
        if row["hash"]:
            found[day, name.removesuffix(".csv")] = tuple(_literal(row["hash"]))
        elif row["state"] in ("rejected", "removed"):
            held = [each for each in judge.rows(source.name) if each[RID].startswith(f"{row['path']}#")]
            found[day, name.removesuffix(".csv")] = tuple((each["k"], each["v"]) for each in held)
    return found


def _literal(text: str) -> list[tuple[str, int]]:
    pairs = json.loads(text.replace("(", "[").replace(",)", "]").replace(")", "]").replace("'", '"'))
    return [(k, v) for k, v in pairs]


def _pair(payload: str) -> Pair:
    row = json.loads(payload)
    return row["k"], row["v"]


def _values(row: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted((name, value) for name, value in row.items() if name not in (OFFSET, WEIGHT, RID)))


def _replayed(transaction: Transaction, asset: str, cuts: Iterable[int]) -> dict[str, Any]:
    """The rows that a reader has who took the published changes up to each cut. Raises StateCorrupt where trimmed."""
    rows: dict[str, Any] = {}
    before = 0
    for cut in cuts:
        rows = _changes(transaction, asset, before, cut).apply(rows)
        before = cut
    return rows


def _changes(transaction: Transaction, asset: str, from_: int, to: int) -> ChangeSet:
    images: dict[str, dict[int, Any]] = {}
    for row in pa.table(transaction.read(Slice(asset, from_, to, Images.CHANGES))).to_pylist():
        images.setdefault(row[RID], {})[row[WEIGHT]] = _values(row)
    return ChangeSet(tuple(Change(0, rid, pair.get(-1), pair.get(1)) for rid, pair in images.items()))

"""What an event comes to in another asset, while its sender waits: when it is there, and which rows it produced.

Rules of this file:
  * "there" is decided from what jobs have committed: every job between has read past what it was to read;
  * rows are the event's own where they can be told apart: those that belong to it (row by row jobs), or those of its
    key (where the event names the whole key); otherwise those that changed with it and agree with it in the columns
    of the key that both have.

Theory of operation. The event's offset is the first target. A job that has read all its targets has committed what
they come to, so the head of its output at that moment is a target for the readers of that output; and so on, down to
the asset that is waited for. Where jobs that go at once lead there, nobody waits for those that have a moment of their own
(a model that is made anew at night). A head that has moved on since only makes the wait longer, never wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tidemill.core.change import HIDDEN, RID, Images, Slice
from tidemill.core.errors import UserError
from tidemill.core.model import Asset, Home, Job, Mode
from tidemill.core.orchestrate import State
from tidemill.project import reports
from tidemill.project.asking import Asked
from tidemill.project.reading import changes, rows
from tidemill.project.wiring import Machine, from_the_sources_down

__all__ = ["Journey", "journey", "produced"]

CHANGES_MAX = 10_000
"""So many changes are looked through for those of an event."""


@dataclass(slots=True)
class Journey:
    """The way from a topic to an asset: the jobs between, in order, and how far each must have read."""

    topic: str
    asset: str
    jobs: tuple[Job, ...]
    began_at: int
    targets: dict[str, int] = field(default_factory=dict)

    def set_out(self, offset: int) -> None:
        """Begin with the offset of the event."""
        self.targets = {self.topic: offset}

    def is_over(self, state: State) -> bool:
        """Whether what the event comes to is committed there. Called on the loop's thread."""
        for job in self.jobs:
            if all(output in self.targets for output in job.outputs):
                continue
            known = state.jobs.get(job.name)
            wanted = {asset: self.targets[asset] for asset in job.inputs if asset in self.targets}
            if known is None or any(known.cursors.get(asset, 0) < target for asset, target in wanted.items()):
                return False
            self.targets |= {output: state.head(output) for output in job.outputs}
        return True


def journey(machine: Machine, topic: str, asset: str) -> Journey:
    """The way from a topic to an asset. Raises NotFound or UserError where there is none."""
    target = reports.found(machine.catalog.assets, asset, "asset").name
    ordered = from_the_sources_down(machine.catalog.jobs)
    jobs = _between([job for job in ordered if _goes_at_once(job)], topic, target) or _between(ordered, topic, target)
    if target != topic and not jobs:
        raise UserError(f"nothing of {topic} comes to {asset}", mend="see what reads it: tidemill map")
    return Journey(topic, target, jobs, machine.loop.state.head(target))


def _goes_at_once(job: Job) -> bool:
    """Whether the job takes an event as it comes, and no moment is waited for."""
    waits = job.schedule or job.on or job.after_seconds or job.gate is not None
    return job.mode is Mode.REALTIME and not waits


def _between(ordered: Sequence[Job], topic: str, target: str) -> tuple[Job, ...]:
    """The jobs over which changes of the topic come to the target, from the sources down; none where none do."""
    below, between = {topic}, []
    for job in ordered:
        if below & set(job.inputs):
            between.append(job)
            below |= set(job.outputs)
    needed = {target}
    for job in reversed(between):
        if needed & set(job.outputs):
            needed |= set(job.inputs) & below
    return tuple(job for job in between if needed & set(job.outputs))


def produced(machine: Machine, way: Journey, offsets: Sequence[int]) -> list[dict[str, Any]]:
    """The rows of the asset that these events of the topic produced."""
    events = _events(machine, way.topic, offsets)
    if way.topic == way.asset:
        return [_shown(event) for event in events]
    if not events:
        return []
    parents = _descent(machine, way, [str(event[RID]) for event in events])
    if parents is not None:
        return parents
    asset = reports.shaped(machine, way.asset)
    if asset.key and all(column in events[0] for column in asset.key):
        return _by_keys(machine, asset, events)
    return _changed(machine, asset, way, events)


def _events(machine: Machine, topic: str, offsets: Sequence[int]) -> list[dict[str, Any]]:
    reader = machine.ledger.begin(exclusive=False)
    try:
        found: list[dict[str, Any]] = []
        for low, high in _runs(offsets):
            table: Any = reader.read(Slice(topic, low, high, Images.ADDED))
            found += table.to_pylist()
        return found
    finally:
        reader.rollback()


def _runs(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Offsets as ranges (from, to] without gaps."""
    ranges: list[tuple[int, int]] = []
    for offset in sorted(set(offsets)):
        if ranges and ranges[-1][1] == offset - 1:
            ranges[-1] = (ranges[-1][0], offset)
        else:
            ranges.append((offset - 1, offset))
    return ranges


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {column: reports.plain(value) for column, value in row.items() if column not in HIDDEN}


def _descent(machine: Machine, way: Journey, parents: list[str]) -> list[dict[str, Any]] | None:
    """The rows that belong to these, over jobs that work row by row; None where one on the way does not."""
    rows_: list[dict[str, Any]] = []
    at = way.topic
    for job in way.jobs:
        is_traced = job.home is Home.TABLES and machine.catalog.plan(job).kind == "rowwise"
        if not is_traced or job.inputs != (at,) or len(job.outputs) != 1:
            return None
        at = job.outputs[0]
        rows_ = machine.tables.belonging(at, parents).to_pylist() if machine.tables.head(at) else []
        parents = [str(row[RID]) for row in rows_]
    return [_shown(row) for row in rows_]


def _by_keys(machine: Machine, asset: Asset, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for event in events:
        key = tuple("" if event[column] is None else str(reports.plain(event[column])) for column in asset.key)
        if key not in found and all(event[column] is not None for column in asset.key):
            conditions = tuple((column, "", text) for column, text in zip(asset.key, key, strict=True))
            found[key] = reports.plain_rows(rows(machine, asset.name, Asked(conditions)))
    return [row for group in found.values() for row in group]


def _changed(machine: Machine, asset: Asset, way: Journey, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows that changed while the events were worked on, and that agree with one of them in the key."""
    if way.targets.get(asset.name, 0) <= way.began_at:
        return []
    listed, _ = changes(machine, asset.name, way.began_at, CHANGES_MAX)
    common = [column for column in asset.key if column in events[0]]
    wanted = {tuple(reports.plain(event[column]) for column in common) for event in events}
    after = [change["after"] for change in listed if change["after"] is not None]
    return [row for row in after if tuple(row[column] for column in common) in wanted]

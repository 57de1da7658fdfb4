"""`backfill`: history that a job never processed, in slices, beside live work (rule 28).

Rules of this file:
  * what was never processed is what is recorded as skipped; `--from` and `--to` choose from it, and add nothing to it;
  * each slice is told to the loop like a run's commit, so that readers follow, or wait for the end where they ask for it;
  * what cannot be processed in parts is made anew whole: the result is the same, and readers get one difference.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tidemill.core.errors import OperatorError, TidemillError, UserError
from tidemill.core.event import Backfilled, Landed
from tidemill.core.model import Home, Job
from tidemill.core.ports import Progress as Pinned
from tidemill.core.ports import RunRecord
from tidemill.core.slices import Span, within
from tidemill.project.operations import Json, Progress
from tidemill.project.replay import made_anew
from tidemill.project.replaying import offset_of
from tidemill.project.slicing import Pacer, pace_of, tried
from tidemill.project.wiring import Machine
from tidemill.runtime.backfill import Backfill, Filled, backfill_of

__all__ = ["Chosen", "backfill"]

_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a person chose of what was skipped; "" and () leave it open."""

    start: str = ""
    end: str = ""
    partitions: tuple[str, ...] = ()


def backfill(
    machine: Machine, job: Job, chosen: Chosen, run_anew: Callable[[], Json], progress: Progress | None
) -> Json:
    """Process what a job never processed, or go on with doing so."""
    work = _Filling(machine, job, Backfill(job, machine.services.performer, machine.services.outside), progress)
    if machine.ledger.noted("paused", job.name):
        raise UserError(f"job `{job.name}` is paused", mend=f"tidemill resume {job.name}, then backfill it")
    if chosen.partitions and not (job.is_outside and job.gate is not None):
        raise UserError(
            f"job `{job.name}` has no gate that opens values outside: its history is not kept by value",
            mend="choose by offset or time: --from, --to",
        )
    if not job.is_outside and not work.fill.is_by_row:
        return work.anew(chosen, run_anew)
    machine.loop.post(Backfilled(job.name, machine.clock.now(), is_going=True))
    try:
        return work.values(chosen) if job.gate is not None else work.spans(chosen)
    finally:
        machine.loop.post(Backfilled(job.name, machine.clock.now(), is_going=False))


@dataclass(slots=True)
class _Filling:
    """One backfill at work, with its counts."""

    machine: Machine
    job: Job
    fill: Backfill
    progress: Progress | None
    runs: int = 0
    rows: int = 0
    total: int = 0
    done: Filled = field(default_factory=Filled)
    error: str = ""

    # Ranges.

    def spans(self, chosen: Chosen) -> Json:
        """Slice after slice, oldest first, until all that was chosen is processed."""
        wanted = within(self.fill.skipped(), self._bounds(chosen))
        asked = wanted + [span for span in self._pinned_spans() if within([span], wanted) != [span]]
        self.total = sum(span.changes for span in wanted)
        self._check_history(wanted)
        if self._is_held([[span.asset, span.from_, span.to] for span in asked], sum(each.changes for each in asked)):
            return self._answer("held", asked)
        try:
            self._finish_pinned()
        except Exception as error:  # noqa: BLE001 - what the effect raised is told and reported
            return self._failed(error, asked)
        pacer = Pacer(self.machine, self.job.name, pace_of(self.machine))
        while left := within(self.fill.skipped(), wanted):
            if pacer.is_stopped():
                return self._answer("paused", left)
            try:
                pacer.take(lambda changes, left=left: self._slice(left, changes))  # type: ignore[misc]
            except Exception as error:  # noqa: BLE001 - what the transform or the effect raised is told and reported
                return self._failed(error, left)
        self.machine.ledger.note("backfill", self.job.name, None)
        return self._answer("finished", ())

    def _bounds(self, chosen: Chosen) -> list[Span]:
        if len(self.job.inputs) != 1 and (chosen.start.isdigit() or chosen.end.isdigit()):
            raise UserError(
                f"job `{self.job.name}` has {len(self.job.inputs)} inputs, and an offset is of one log",
                mend="give times",
            )
        machine = self.machine
        ends = {name: machine.stores[machine.catalog.home(name)].head(name) for name in self.job.inputs}
        return [
            Span(
                name,
                offset_of(machine, name, chosen.start) if chosen.start else 0,
                offset_of(machine, name, chosen.end) if chosen.end else end,
            )
            for name, end in ends.items()
        ]

    def _check_history(self, wanted: Sequence[Span]) -> None:
        """Raise OperatorError where what was skipped is not there any more."""
        for span in wanted:
            floor = self.machine.stores[self.machine.catalog.home(span.asset)].floor(span.asset)
            is_topic = self.machine.catalog.home(span.asset) is Home.LEDGER
            if (span.from_ if is_topic or span.from_ else span.to) < floor:
                raise OperatorError(
                    f"the history of `{span.asset}` is gone up to offset {floor}, so what `{self.job.name}` skipped in "
                    f"({span.from_}, {span.to}] cannot be told any more",
                    mend=f"take what is left: --from {floor}"
                    if floor < span.to
                    else "let a job of another name begin with it: start_from: beginning",
                )

    def _slice(self, left: Sequence[Span], changes: int) -> int:
        is_topic = self.machine.catalog.home(left[0].asset) is Home.LEDGER
        most = min(changes, self.job.max_changes or changes)
        # The log of a table may be trimmed within what was skipped: then only the whole of it can be read.
        span = replace(left[0], to=min(left[0].to, left[0].from_ + most)) if is_topic else left[0]
        if self.job.is_outside:
            self._deliver(self.fill.pin(span))
        else:
            self._try({span.asset: span}, lambda run, _began: self.fill.fill(span, run))
        self.rows += span.changes
        self._show()
        return span.changes

    # Values of a gate.

    def values(self, chosen: Chosen) -> Json:
        """Value after value that the gate released and no run took."""
        try:
            self._finish_pinned()
        except Exception as error:  # noqa: BLE001 - what the effect raised is told and reported
            return self._failed(error, list(self.fill.values()))
        known = self.fill.values()
        unknown = [value for value in chosen.partitions if value not in known]
        if unknown:
            raise UserError(
                f"`{unknown[0]}` is no value that `{self.job.name}` never took",
                mend=f"there are {', '.join(known)}" if known else "it took all that its gate released",
            )
        wanted = {value: known[value] for value in chosen.partitions or known}
        self.total = len(wanted)
        if self._is_held(list(wanted), sum(self.fill.touched(*each) for each in wanted.items())):
            return self._answer("held", wanted)
        for count, (value, positions) in enumerate(wanted.items()):
            if self.machine.ledger.noted("paused", self.job.name):
                return self._answer("paused", list(wanted)[count:])
            try:
                self._deliver(self.fill.pin_value(value, positions))
            except Exception as error:  # noqa: BLE001 - what the effect raised is told and reported
                return self._failed(error, list(wanted)[count:])
            self.rows += 1
            self._show()
        self.machine.ledger.note("backfill", self.job.name, None)
        return self._answer("finished", ())

    # Made anew.

    def anew(self, chosen: Chosen, run_anew: Callable[[], Json]) -> Json:
        """What cannot be processed in parts: the result over whole inputs, and the difference."""
        if chosen.start or chosen.end:
            raise UserError(
                f"job `{self.job.name}` has no result of a part of its input: what it skipped is processed by making its "
                "table anew",
                mend="leave out --from and --to",
            )
        if not self.fill.skipped():
            return self._answer("finished", ())
        done = made_anew(self.machine, self.job.name, run_anew, self.progress)
        return {**self._answer("failed" if done["failed"] else "finished", self.fill.skipped()), **done}

    # Together.

    def _is_held(self, what: Sequence[object], most: int) -> bool:
        """Whether so many rows outside wait for a person: durably, and for exactly what was chosen."""
        if not self.job.is_outside or most <= self.job.hold_above:
            return False
        known = self.machine.ledger.noted("backfill", self.job.name)
        if known is None or not self._is_part(what, known["what"]):
            known = {"token": f"{int(self.machine.clock.now() * 1000)}", "what": list(what)}
            self.machine.ledger.note("backfill", self.job.name, known)
        return bool(self.machine.ledger.noted("released", backfill_of(self.job.name)) != known["token"])

    @staticmethod
    def _is_part(what: Sequence[object], of: Sequence[object]) -> bool:
        """Whether this is what was chosen then, or what is left of it."""
        if not all(isinstance(each, list) for each in (*what, *of)):
            return set(map(str, what)) <= set(map(str, of))
        spans = [Span(*each) for each in what if isinstance(each, list)]
        return within(spans, [Span(*each) for each in of if isinstance(each, list)]) == sorted(spans)

    def _pinned_spans(self) -> list[Span]:
        """What is pinned, where something is."""
        pinned = self.fill.pinned if self.job.is_outside else None
        taken = (pinned.pinned or {}) if pinned is not None else {}
        return [Span(asset, from_, to) for asset, (from_, to) in taken.items() if to > from_]

    def _finish_pinned(self) -> None:
        """A slice that was pinned before a crash or a failure goes first, as it was pinned."""
        pinned = self.fill.pinned if self.job.is_outside else None
        if pinned is not None:
            self._deliver(pinned)

    def _deliver(self, pinned: Pinned) -> None:
        taken = {asset: Span(asset, *span) for asset, span in (pinned.pinned or {}).items()}
        self._try(
            taken,
            lambda run, began: tried(lambda _attempt: self.fill.deliver(pinned, run, began), self.job.retries),
        )

    def _try(self, taken: dict[str, Span], work: Callable[[str, float], Filled]) -> None:
        """Do a slice, given its run id and when it began, and tell of it, whatever becomes of it."""
        began, run = self.machine.clock.now(), self._run()
        said = RunRecord(run, self.job.name, "failed", started_at=began)
        try:
            filled = work(run, began)
        except Exception as error:
            self._told(replace(said, error=_reason(error)), taken, Filled())
            raise
        self._told(replace(said, state="succeeded"), taken, filled)

    def _run(self) -> str:
        return f"{int(self.machine.clock.now() * 1000):011x}-fill{next(_numbers)}"

    def _told(self, said: RunRecord, taken: dict[str, Span], filled: Filled) -> None:
        """A run among the runs, labelled; and news of what it wrote."""
        now = self.machine.clock.now()
        readiness = {"because": ["history that it never processed: tidemill backfill"], "rebuild": False, "value": ""}
        record = replace(
            said,
            inputs={asset: (span.from_, span.to) for asset, span in taken.items()},
            finished_at=now,
            rows_in=sum(span.changes for span in taken.values()),
            rows_out=filled.written,
            parked=filled.parked,
            mode="backfill",
            readiness=readiness,
        )
        self.machine.ledger.record([record])
        self.runs += said.state == "succeeded"
        self.done = self.done.then(filled)
        for asset, head in filled.heads.items():
            self.machine.loop.post(Landed(asset, head, now))

    def _show(self) -> None:
        if self.progress is not None:
            said = {"run": "", "job": self.job.name, "state": "working", "what": "backfilling"}
            self.progress({**said, "done": self.rows, "total": self.total})

    def _failed(self, error: Exception, left: Sequence[object]) -> Json:
        self.error = _reason(error)
        return self._answer("failed", left)

    def _answer(self, state: str, left: Sequence[object] | dict[str, dict[str, int]]) -> Json:
        failed = int(state == "failed")
        waiting = [[each.asset, each.from_, each.to] if isinstance(each, Span) else each for each in left]
        counts = {"runs": self.runs + failed, "succeeded": self.runs, "failed": failed, "changes": self.done.written}
        told = {"state": state, "rows": self.rows, "parked": self.done.parked, "left": waiting, "error": self.error}
        return {"job": self.job.name, **counts, **told}


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TidemillError) else f"{type(error).__name__}: {error}"

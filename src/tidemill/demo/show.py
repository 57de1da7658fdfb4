"""The demo itself: plays the history into a project, shows what happens, and checks every table against the truth.

Rules of this file:
  * it uses an open project as any Python user would: events in, files landed, rows asked for;
  * every number it shows was measured or counted in this run; every `equal` was compared row by row;
  * it ends by itself, and says with its answer whether everything was equal.
"""

from __future__ import annotations

import bisect
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv

from tidemill.demo import mending, oracle, source, timeline
from tidemill.demo.timeline import Moment
from tidemill.project.mill import Mill, open_mill

__all__ = ["Outcome", "run_demo"]

BURST_EVENTS = 400
"""Events that arrive together at the most."""
SWITCHED = {"delay_by_carrier": "batch", "fleet_usage": "realtime"}
"""The two jobs whose mode is switched, and the word they are switched to."""

Say = Callable[[str], None]


@dataclass(slots=True)
class Outcome:
    """What the demo found. `tables` maps each table to its comparison; `hashes` to its hash before and after.

    `mended` is what the reconciliation found of the rows that were lost on purpose, `after` every table after it.
    """

    label: str
    changes: Counter[str] = field(default_factory=Counter)
    runs: Counter[str] = field(default_factory=Counter)
    latencies_seconds: list[float] = field(default_factory=list)
    tables: dict[str, oracle.Comparison] = field(default_factory=dict)
    hashes: dict[str, tuple[str, str]] = field(default_factory=dict)
    mended: mending.Mended | None = None
    after: dict[str, oracle.Comparison] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether every table was equal, no hash changed with the modes, and what was lost was found and put back."""
        same = all(before == after for before, after in self.hashes.values())
        tables = [*self.tables.values(), *self.after.values()]
        return all(table.equal for table in tables) and same and self.mended is not None and self.mended.is_right

    def as_json(self) -> dict[str, Any]:
        """The outcome as a JSON value."""
        return {
            "label": self.label,
            "changes": dict(self.changes),
            "runs": dict(self.runs),
            "latency_seconds": {f"p{p}": percentile(self.latencies_seconds, p) for p in (50, 90, 99)},
            "tables": {
                name: {
                    "equal": c.equal,
                    "rows": c.rows,
                    "missing": c.missing,
                    "extra": c.extra,
                    "different": c.different,
                }
                for name, c in self.tables.items()
            },
            "hashes": {name: {"before": one, "after": other} for name, (one, other) in self.hashes.items()},
            "reconciled": asdict(self.mended) if self.mended else None,
            "equal": self.is_equal,
            "seconds": round(self.seconds, 3),
        }


def run_demo(
    *, full: bool = False, folder: Path | None = None, say: Say = print, dataset: source.Dataset | None = None
) -> Outcome:
    """Play the history twice, in two sets of modes, compare, then lose rows and mend them.

    `folder` keeps the project; without it all goes. `dataset` is what is played, by default January 2013, or with `full`
    the whole year. Raises NotFound where the whole year is asked for and not installed.
    """
    started = time.monotonic()
    dataset = dataset or (source.full_year() if full else source.january())
    with tempfile.TemporaryDirectory(prefix="tidemill-demo-") as scratch:
        outcome = Outcome(dataset.label)
        first = folder or Path(scratch) / "flights"
        say(f"Flights that left New York, {dataset.label}: events as they happened, weather as files, in {first}")
        moments = list(timeline.moments(dataset))
        rows = _play(first, moments, outcome, say)
        say("Comparing each table with the same SQL run directly by DuckDB over the raw files")
        expected = oracle.expected(oracle.write_raw(iter(moments), Path(scratch) / "raw"))
        for name in oracle.JOBS:
            outcome.tables[name] = oracle.compare(rows[name], expected[name], key=oracle.KEYS[name])
        _say_tables(outcome, say)
        say(
            f"Switching modes by one word: {', '.join(f'{job} -> {word}' for job, word in SWITCHED.items())}; rebuilding"
        )
        again = _play_at_once(Path(scratch) / "switched", moments, say)
        for name in oracle.JOBS:
            outcome.hashes[name] = (oracle.table_hash(rows[name]), oracle.table_hash(again[name]))
        _say_hashes(outcome, say)
        _lose_and_mend(first, expected, outcome, say)
    outcome.seconds = time.monotonic() - started
    verdict = "every table equal" if outcome.is_equal else "NOT EQUAL"
    say(f"Done in {outcome.seconds:.1f} s: {verdict}")
    return outcome


# ------------------------------------------------------------------------------------------------- playing


def _play(folder: Path, moments: list[Moment], outcome: Outcome, say: Say) -> dict[str, pa.Table]:
    """The history in its natural order, while the project runs."""
    source.write_project(folder)
    with open_mill(folder, mode="run") as mill:
        latency = _Latency()
        mill.machine.journal.listeners.append(latency.hear)
        total, done, shown = len(moments), 0, 0
        for part in _bursts(moments):
            _arrive(mill, folder, part, latency)
            outcome.changes[part[0].kind] += len(part)
            done += len(part)
            if done * 10 // total > shown:
                shown = done * 10 // total
                say(f"  {shown * 10:3d} %  {part[-1].at:%Y-%m-%d}  {done:,} of {total:,} arrivals")
        mill.run()
        outcome.latencies_seconds = sorted(latency.seconds)
        modes = {row["job"]: row["mode"] for row in mill.map()}
        outcome.runs.update(modes[run["job"]] for run in mill.runs(limit=1_000_000) if run["state"] == "succeeded")
        _say_summary(outcome, say)
        return _rows(mill, folder)


def _play_at_once(folder: Path, moments: list[Moment], say: Say) -> dict[str, pa.Table]:
    """The same history into a project with two modes switched: everything is there before the first run."""
    source.write_project(folder)
    with (folder / "tidemill.toml").open("a", encoding="utf-8") as settings:
        for job, word in SWITCHED.items():
            settings.write(f'\n[jobs.{job}]\nmode = "{word}"\n')
    for moment in moments:
        if moment.kind == "file":
            _write_file(folder, moment)
    with open_mill(folder, mode="run") as mill:
        events = [moment.payload for moment in moments if moment.kind == "event"]
        for start in range(0, len(events), 20_000):
            mill.emit("flight_events", b"\n".join(events[start : start + 20_000]) + b"\n")
        for moment in moments:
            if moment.kind == "end_of_day":
                mill.touch(moment.asset, moment.payload.decode())
        counts = mill.run()
        say(f"  {counts['runs']} runs, {counts['failed']} failed")
        return _rows(mill, folder)


def _lose_and_mend(folder: Path, expected: dict[str, pa.Table], outcome: Outcome, say: Say) -> None:
    """Lose rows behind the engine's back, let a reconciliation find and mend them, and compare every table again."""
    lost = mending.lose(folder)
    say(f"Deleting {lost} rows of {mending.LOST_TABLE} behind the engine's back; reconciling")
    with open_mill(folder, mode="run") as mill:
        outcome.mended = mending.mend(mill, lost, say)
        rows = _rows(mill, folder)
    for name in oracle.JOBS:
        outcome.after[name] = oracle.compare(rows[name], expected[name], key=oracle.KEYS[name])
    unequal = [name for name, found in outcome.after.items() if not found.equal]
    say(f"  {'NOT equal: ' + ', '.join(unequal) if unequal else f'all {len(outcome.after)} tables equal again'}")


def _bursts(moments: Iterable[Moment]) -> Iterator[list[Moment]]:
    """Consecutive events together, up to a bound; everything else alone."""
    burst: list[Moment] = []
    for moment in moments:
        if burst and (moment.kind != "event" or len(burst) >= BURST_EVENTS):
            yield burst
            burst = []
        if moment.kind == "event":
            burst.append(moment)
        else:
            yield [moment]
    if burst:
        yield burst


def _arrive(mill: Mill, folder: Path, part: list[Moment], latency: _Latency) -> None:
    first = part[0]
    if first.kind == "event":
        receipt = mill.emit(first.asset, b"\n".join(moment.payload for moment in part) + b"\n")
        latency.accepted(receipt["head"])
    elif first.kind == "file":
        _write_file(folder, first)
        mill.land(trusts_all=True)
    else:
        mill.touch(first.asset, first.payload.decode())


def _write_file(folder: Path, moment: Moment) -> None:
    """Land a file as careful senders do: written beside, then renamed."""
    path = folder / moment.path
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.part")
    beside.write_bytes(moment.payload)
    shutil.move(beside, path)


def _rows(mill: Mill, folder: Path) -> dict[str, pa.Table]:
    rows = {name: mill.arrow(f'select * from "{name}"') for name in oracle.JOBS if name != "daily_report"}
    rows["daily_report"] = pyarrow.csv.read_csv(folder / "reports" / "daily_report.csv")
    return rows


class _Latency:
    """From an event's acceptance to the commit of the realtime run that took it."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._heads: list[int] = []
        self._times: list[float] = []

    def accepted(self, head: int) -> None:
        """A burst was accepted now, up to this offset."""
        self._heads.append(head)
        self._times.append(time.time())

    def hear(self, record: Any) -> None:
        """A run's report."""
        taken = (
            record.inputs.get("flight_events") if record.state == "succeeded" and record.mode == "realtime" else None
        )
        if taken is None:
            return
        for index in range(bisect.bisect_right(self._heads, taken[0]), bisect.bisect_right(self._heads, taken[1])):
            self.seconds.append(max(0.0, record.finished_at - self._times[index]))


# ------------------------------------------------------------------------------------------------- showing


def percentile(ordered: list[float], percent: int) -> float:
    """A percentile of ordered values, by the nearest rank; 0 where there are none."""
    return round(ordered[min(len(ordered) - 1, len(ordered) * percent // 100)], 6) if ordered else 0.0


def _say_summary(outcome: Outcome, say: Say) -> None:
    counts = ", ".join(f"{count:,} {kind.replace('_', ' ')}" for kind, count in outcome.changes.items())
    say(f"Arrived: {counts}")
    say(f"Runs: {', '.join(f'{count:,} {mode}' for mode, count in sorted(outcome.runs.items()))}")
    times = "  ".join(f"p{p} {percentile(outcome.latencies_seconds, p) * 1_000:.0f} ms" for p in (50, 90, 99))
    say(f"From acceptance to committed result, realtime, under full load: {times}")


def _say_tables(outcome: Outcome, say: Say) -> None:
    for name, found in outcome.tables.items():
        verdict = (
            "equal"
            if found.equal
            else f"NOT equal: {found.missing} missing, {found.extra} extra, {found.different} different"
        )
        say(f"  {name:<18} {found.rows:>7,} rows  {verdict}")


def _say_hashes(outcome: Outcome, say: Say) -> None:
    for name, (before, after) in outcome.hashes.items():
        say(f"  {name:<18} {before[:16]}  {'unchanged' if before == after else 'CHANGED to ' + after[:16]}")

"""Timing, floors, and how results are shown and kept.

Rules of this file:
  * an absolute time is not evidence on a shared machine: every figure stands beside a floor of the same run;
  * medians and percentiles of many, never one timing.
"""

from __future__ import annotations

import json
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

__all__ = ["Figure", "Floors", "floors", "percentile", "save", "show", "timed"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured figure, what it is compared with, and what was wanted."""

    what: str
    value: float
    unit: str
    floor: float | None = None
    floor_is: str = ""
    wanted: str = ""

    @property
    def ratio(self) -> float | None:
        """The figure in floors."""
        return None if not self.floor else self.value / self.floor


@dataclass(frozen=True, slots=True)
class Floors:
    """What the two stores need for the smallest durable commit, in milliseconds."""

    sqlite_ms: float
    duckdb_ms: float

    @property
    def both_ms(self) -> float:
        """One after the other."""
        return self.sqlite_ms + self.duckdb_ms


def timed(work: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1_000


def percentile(values: list[float], percent: int) -> float:
    """By the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@contextmanager
def _sqlite(folder: Path) -> Iterator[Callable[[], None]]:
    connection = sqlite3.connect(folder / "floor.db", isolation_level=None)
    connection.execute("pragma journal_mode = wal")
    connection.execute("pragma synchronous = full")
    connection.execute("create table t (x integer)")

    def commit() -> None:
        connection.execute("begin immediate")
        connection.execute("insert into t values (1)")
        connection.execute("commit")

    yield commit
    connection.close()


@contextmanager
def _duckdb(folder: Path) -> Iterator[Callable[[], None]]:
    connection = duckdb.connect(str(folder / "floor.duckdb"))
    connection.execute("create table t (x integer)")

    def commit() -> None:
        connection.begin()
        connection.execute("insert into t values (1)")
        connection.commit()

    yield commit
    connection.close()


def floors(folder: Path, times: int = 200) -> Floors:
    """Measure both floors now, one commit of each in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    with _sqlite(folder) as sqlite_commit, _duckdb(folder) as duckdb_commit:
        pairs = [(timed(sqlite_commit), timed(duckdb_commit)) for _ in range(times)]
    return Floors(statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs))


def show(figures: list[Figure]) -> None:
    """A table for people."""
    width = max((len(figure.what) for figure in figures), default=0)
    for figure in figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:6.1f} x {figure.floor_is} ({figure.floor:.3g})"
        print(f"{figure.what:<{width}}  {figure.value:>12,.3f} {figure.unit:<9} {ratio:<44} {figure.wanted}")


def save(figures: list[Figure], path: Path) -> None:
    """All figures as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [{**asdict(figure), "ratio": figure.ratio} for figure in figures]
    path.write_text(json.dumps({"measured_at": time.time(), "figures": kept}, indent=2) + "\n")

"""How long the heart takes to decide, for 10, 1,000 and 100,000 jobs.

Jobs stand in chains of ten, as real projects do: each asset has one reader. Measured is one `step(Landed)` that starts
the first job of a chain, and the `step(Finished)` that let the next one start; the last is a batch over all of them. Target: at most 100 microseconds, and
not more than 1.5 times as long for 100,000 jobs as for 10.
"""

from __future__ import annotations

import gc
import statistics
import time
from pathlib import Path

from bench.measure import Figure
from tidemill.core.event import Defined, Event, Finished, Landed
from tidemill.core.model import Job, Mode, Takes
from tidemill.core.orchestrate import State, step
from tidemill.core.ports import Head, Progress

__all__ = ["run"]

SIZES = (10, 1_000, 100_000)
CHAIN = 10
ROUNDS = 4_000


def jobs(count: int) -> list[Job]:
    """Chains of ten: j0 reads s0 and writes a0, j1 reads a0, ..., j9 is a batch over a8."""
    return [
        Job(
            f"j{index}",
            (f"s{index}" if index % CHAIN == 0 else f"a{index - 1}",),
            (f"a{index}",),
            Takes.SQL,
            "select 1",
            "1",
            mode=Mode.BATCH if index % CHAIN == CHAIN - 1 else Mode.REALTIME,
        )
        for index in range(count)
    ]


def defined(count: int, *, backwards: bool = False) -> tuple[State, float]:
    """A state with so many jobs, and the seconds it took to define them."""
    state, made = State(), jobs(count)
    begun = time.perf_counter()
    for job in reversed(made) if backwards else made:
        step(state, Defined(job, None, 0.0))
    return state, time.perf_counter() - begun


def timed(state: State, event: Event) -> float:
    """Microseconds of one step."""
    begun = time.perf_counter_ns()
    step(state, event)
    return (time.perf_counter_ns() - begun) / 1_000


def cascade(state: State, chain: int, head: int) -> tuple[float, list[float]]:
    """A change lands, and the jobs of its chain run one after another: the times of the steps."""
    first, finished = chain * CHAIN, []
    landed = timed(state, Landed(f"s{first}", Head(head), 0.0))
    for index in range(first, first + CHAIN):
        source = f"s{index}" if index == first else f"a{index - 1}"
        progress = Progress(f"j{index}", "1", {source: head}, {source: 1})
        finished.append(timed(state, Finished(f"j{index}", progress, {f"a{index}": Head(head)}, 0.0)))
    return landed, finished


def measure(count: int) -> tuple[float, float, float, float]:
    """Microseconds of Landed and Finished, seconds of defining forwards and backwards."""
    _, backwards = defined(count, backwards=True)
    state, forwards = defined(count)
    chains = count // CHAIN
    heads = dict.fromkeys(range(chains), 0)
    landed: list[float] = []
    finished: list[float] = []
    gc.collect()
    gc.freeze()
    for turn in range(ROUNDS):
        chain = turn * 7_919 % chains
        heads[chain] += 1
        first, rest = cascade(state, chain, heads[chain])
        landed.append(first)
        finished.extend(rest)
    gc.unfreeze()
    return statistics.median(landed), statistics.median(finished), forwards, backwards


def run(folder: Path) -> list[Figure]:
    """The figures of every size; the floor is the smallest size, whose jobs all fit into the processor's cache."""
    del folder
    figures = []
    floors = (0.0, 0.0)
    for count in SIZES:
        landed, finished, forwards, backwards = measure(count)
        floors = floors if any(floors) else (landed, finished)
        beside, wanted = f"{SIZES[0]} jobs", "<= 100 us, ratio <= 1.5"
        figures += [
            Figure(f"step(Landed), {count:,} jobs", landed, "us", floors[0], beside, wanted),
            Figure(f"step(Finished), {count:,} jobs", finished, "us", floors[1], beside, wanted),
        ]
        if count == SIZES[-1]:
            figures.append(Figure(f"defining {count:,} jobs from the sources down", forwards, "s", None, "", "< 10 s"))
            figures.append(Figure(f"defining {count:,} jobs from the ends up", backwards, "s", None, "", "< 10 s"))
    return figures

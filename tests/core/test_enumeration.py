"""Every history of a few small projects up to some depth, not a sample: each is followed by rest, and checked at each step.

States that differ only in what cannot matter later (the clock, the tale of past starts) count as one, so a depth of
eight events needs thousands of steps, not millions.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.core.jobs import GATE, job
from tests.core.world import World
from tidemill.core.event import Landed
from tidemill.core.model import Job, Mode
from tidemill.core.ports import Head
from tidemill.core.retry import Failure

Step = Callable[[World], object]


@dataclass(frozen=True)
class Project:
    """Jobs, the assets that news comes to, the words about them that are tried, and how deep."""

    jobs: tuple[Job, ...]
    sources: tuple[str, ...]
    words: tuple[str, ...]
    depth: int


def moves(world: World, project: Project) -> Iterator[tuple[str, Step]]:
    """Everything that can happen next."""
    for asset in project.sources:
        if world.head(asset) < 3:
            yield f"land {asset}", lambda w, a=asset: w.land(a)
    for name in world.running:
        yield f"finish {name}", lambda w, n=name: w.finish(n)
        for failure in (Failure.TRANSIENT, Failure.CONFLICT, Failure.FINAL):
            if str(failure) in project.words:
                yield f"{failure} {name}", lambda w, n=name, f=failure: w.fail(n, f)
    for name in world.looks:
        yield f"answer {name}", lambda w, n=name: w.answer(n)
    if world.state.next_at() is not None:
        yield "tick", lambda w: w.tick()
    yield from _words(world, project)


def _words(world: World, project: Project) -> Iterator[tuple[str, Step]]:
    first = project.jobs[0]
    if "late" in project.words and world.head(project.sources[0]):
        yield "late head", lambda w: w.do(Landed(project.sources[0], Head(1), w.at, stirs=True))
    if "pause" in project.words:
        yield "pause", lambda w: w.pause(first.name)
        yield "resume", lambda w: w.resume(first.name)
    if "redefine" in project.words:
        yield "version 2", lambda w: w.define(_second(first))
    if "remove" in project.words:
        yield "remove", lambda w: w.remove(first.name)
        yield "define", lambda w: w.define(first)
    if "force" in project.words:
        yield "force", lambda w: w.request(first.name, is_forced=True)
    if "later" in project.words:
        yield "nightly", lambda w: w.define(job(first.name, first.inputs, first.outputs, schedule="2"))


def _second(first: Job) -> Job:
    return job(first.name, first.inputs, first.outputs, version="2", mode=first.mode, gate=first.gate, on=first.on)


def essence(world: World) -> object:
    """What can matter later: the clock only as the time until something, the tale of past starts not at all."""
    state, at = world.state, world.at
    return (
        sorted(state.heads.items()),
        sorted(world.heads.items()),
        sorted(
            (n, p.version, sorted(p.cursors.items()), sorted(p.generations.items())) for n, p in world.progress.items()
        ),
        sorted(
            (n, s.attempt, s.is_rebuild, s.is_forced, s.value, s.on_offset, sorted((s.ends or {}).items()), j.version)
            for n, (s, j) in world.running.items()
        ),
        sorted(world.looks),
        sorted(world.released.items()),
        sorted(
            (
                n,
                j.job.version,
                j.job.schedule,
                j.phase,
                j.pauses,
                j.attempt,
                j.looking,
                j.is_forced,
                j.version,
                sorted(j.cursors.items()),
                j.retry_at - at if j.phase == "retrying" else 0,
                (min(at - j.held_at, 60.0), sorted(j.held_heads.items())) if j.phase == "held" else (),
                j.timer_at is not None and j.timer_at - at,
                j.started is None,
                j.looked is not None and (j.looked.is_ready, j.looked.value, sorted(j.looked.ends.items())),
            )
            for n, j in state.jobs.items()
        ),
        [(n, sorted(state.waits.pending(n))) for n in sorted(state.jobs)],
        sorted(state.drained),
    )


PROJECTS = {
    "a reader beside its feeder": Project(
        (job("u", ["s"], ["u"], retries=1), job("r", ["s", "u"], ["r"], mode=Mode.BATCH)),
        ("s",),
        ("transient", "conflict", "late", "pause"),
        8,
    ),
    "a diamond": Project(
        (job("u", ["s"], ["u"]), job("v", ["s"], ["v"]), job("r", ["u", "v"], ["r"], mode=Mode.BATCH)),
        ("s",),
        ("final", "later"),
        9,
    ),
    "a chain of waits": Project(
        (
            job("u", ["s"], ["u"]),
            job("v", ["s", "u"], ["v"], mode=Mode.BATCH),
            job("r", ["s", "v"], ["r"], mode=Mode.BATCH),
        ),
        ("s",),
        ("conflict", "remove"),
        8,
    ),
    "a gate and its reader": Project(
        (job("g", ["s"], ["g"], gate=GATE), job("r", ["s", "g"], ["r"], mode=Mode.BATCH)),
        ("s",),
        ("conflict", "redefine", "pause"),
        8,
    ),
    "a delay and its reader": Project(
        (job("d", ["s"], ["d"], after_seconds=60.0), job("r", ["s", "d"], ["r"], mode=Mode.BATCH)),
        ("s",),
        ("late", "pause"),
        9,
    ),
    "a job with two inputs started by a third": Project(
        (job("j", ["s", "t"], ["j"], on="e", retries=0, mode=Mode.BATCH),),
        ("s", "t", "e"),
        ("transient", "redefine"),
        7,
    ),
    "one job and everything a person can say": Project(
        (job("j", ["s"], ["j"], retries=1),),
        ("s",),
        ("transient", "conflict", "final", "late", "pause", "redefine", "remove", "force"),
        6,
    ),
}


@pytest.mark.parametrize("project", PROJECTS.values(), ids=PROJECTS.keys())
def test_whatever_happens_nothing_is_forgotten_and_nothing_starts_twice(project: Project) -> None:
    begin = World.of(*project.jobs)
    seen: set[object] = set()
    layer = [(pickle.dumps(begin), ())]
    for _ in range(project.depth):
        following = []
        for frozen, story in layer:
            for name, move in list(moves(pickle.loads(frozen), project)):
                world = pickle.loads(frozen)
                told = (*story, name)
                try:
                    move(world)
                    found = repr(essence(world))
                    if found in seen:
                        continue
                    seen.add(found)
                    following.append((pickle.dumps(world), told))
                    world.quiet()
                except AssertionError as error:
                    raise AssertionError(f"after {' / '.join(told)}: {error}") from error
        layer = following
    assert len(seen) > 100

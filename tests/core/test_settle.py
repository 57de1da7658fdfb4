"""How long a `when: all` job waits for its upstream, and for whom it does not."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.jobs import GATE, job
from tests.core.world import World
from tidemill.core.model import Mode
from tidemill.core.retry import Failure

BATCH = {"mode": Mode.BATCH}


def settled(*jobs: Any) -> World:
    """A world where everything has run once, so that every table has arrived."""
    world = World.of(*jobs)
    world.land("s")
    world.land("t")
    world.quiet()
    world.starts.clear()
    return world


def started(world: World) -> list[str]:
    return [start.job for start in world.starts]


def test_a_diamond_runs_its_end_once() -> None:
    world = settled(job("u", ["s"], ["u"]), job("v", ["s"], ["v"]), job("r", ["u", "v"], ["r"], **BATCH))
    world.land("s")
    assert world.finish("u") == []
    assert world.finish("v") == ["r"]
    world.quiet()
    assert started(world) == ["u", "v", "r"]


def test_a_reader_of_the_source_and_of_the_end_of_a_chain_runs_once() -> None:
    world = settled(
        job("r", ["s", "w"], ["r"], **BATCH),
        job("u", ["s"], ["u"]),
        job("v", ["u"], ["v"]),
        job("w", ["v"], ["w"]),
    )
    assert world.land("s") == ["u"]
    assert world.finish("u") == ["v"]
    assert world.finish("v") == ["w"]
    assert world.finish("w") == ["r"]
    world.quiet()
    assert started(world) == ["u", "v", "w", "r"]


def test_waits_upon_waits_end_from_the_sources_down() -> None:
    world = settled(
        job("u", ["s"], ["u"]), job("v", ["s", "u"], ["v"], **BATCH), job("r", ["s", "u", "v"], ["r"], **BATCH)
    )
    assert world.land("s") == ["u"]
    assert world.finish("u") == ["v"]
    assert world.finish("v") == ["r"]


def test_a_feeder_that_has_nothing_to_do_is_not_waited_for() -> None:
    world = settled(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH))
    assert world.land("s") == ["r"]


UNTROUBLED: dict[str, Any] = {
    "held": lambda world: (world.land("t"), world.fail("u", Failure.FINAL)),
    "paused": lambda world: (world.pause("u"), world.land("t")),
    "due later": lambda world: (world.define(job("u", ["t"], ["u"], schedule="2"), first_seen_at=0.0), world.land("t")),
    "waiting for its own news": lambda world: world.define(job("u", ["t", "s2"], ["u"], when="each", version="1")),
    "removed": lambda world: world.remove("u"),
}


@pytest.mark.parametrize("trouble", UNTROUBLED.values(), ids=UNTROUBLED.keys())
def test_a_reader_does_not_wait_for_a_feeder_that_is(trouble: Any) -> None:
    world = settled(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH))
    trouble(world)
    assert "r" not in world.running
    assert world.land("s") == ["r"]


LETTING_GO: dict[str, Any] = {
    "commits": lambda world: world.finish("u"),
    "is held": lambda world: world.fail("u", Failure.FINAL),
    "is removed": lambda world: world.remove("u"),
    "is defined as nightly while between attempts": lambda world: (
        world.fail("u"),
        world.define(job("u", ["t"], ["u"], schedule="2")),
    )[1],
    "is paused between attempts": lambda world: (world.fail("u"), world.pause("u"))[1],
}


@pytest.mark.parametrize("event", LETTING_GO.values(), ids=LETTING_GO.keys())
def test_a_wait_ends_when_the_running_feeder(event: Any) -> None:
    world = settled(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH))
    assert world.land("t") == ["u"]
    assert world.land("s") == []
    assert event(world) == ["r"]


def test_a_wait_lasts_while_the_feeder_is_between_attempts() -> None:
    world = settled(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH))
    world.land("t", "s")
    assert world.fail("u") == []
    assert world.tick() == ["u"]
    assert world.finish("u") == ["r"]


def test_a_wait_lasts_while_the_feeders_gate_is_looked_at_and_has_values() -> None:
    world = settled(job("u", ["s"], ["u"], gate=GATE), job("r", ["t", "u"], ["r"], **BATCH))
    world.land("s", count=2)
    world.quiet()
    assert world.land("s", "t", count=3) == ["u?"]
    assert world.answer("u") == ["u"]
    assert world.finish("u") == ["u?"]
    assert world.answer("u") == ["u"]
    assert world.finish("u") == ["u?"]
    assert world.answer("u") == ["r"]


def test_a_paused_reader_waits_for_nobody_and_begins_anew_when_resumed() -> None:
    world = settled(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH))
    world.land("t", "s")
    world.pause("r")
    assert not world.state.waits.pending("r")
    assert world.resume("r") == []
    assert world.finish("u") == ["r"]


def test_a_forced_reader_does_not_wait() -> None:
    world = settled(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH))
    world.land("t", "s")
    assert world.request("r", is_forced=True) == ["r"]


def test_feeders_that_were_not_asked_for_are_not_waited_for() -> None:
    world = World.of(job("u", ["t"], ["u"]), job("r", ["s", "u"], ["r"], **BATCH), only=frozenset({"r"}))
    world.land("t", "u")
    assert world.land("s") == ["r"]


FEEDERS: dict[str, dict[str, Any]] = {
    "realtime": {},
    "capped": {"max_changes": 3},
    "microbatch": {"mode": Mode.MICROBATCH, "every_seconds": 30.0},
    "batch": {"mode": Mode.BATCH},
    "delayed": {"after_seconds": 60.0},
    "gated": {"gate": GATE},
    "nightly": {"schedule": "2"},
}


@pytest.mark.parametrize("details", FEEDERS.values(), ids=FEEDERS.keys())
@pytest.mark.parametrize("is_told_first", [True, False], ids=["news first", "outcomes first"])
def test_under_continuous_load_a_reader_still_gets_its_turn(details: dict[str, Any], is_told_first: bool) -> None:
    """Two feeders in a row, always busy: news lands before every outcome, and the reader must not starve."""
    world = settled(job("u", ["s"], ["u"], **details), job("v", ["u"], ["v"]), job("r", ["t", "v"], ["r"], **BATCH))
    for turn in range(150):
        world.at += 5.0
        # A gate whose values complete as fast as they run is waited for until it has none.
        brings_news = "gate" not in details or turn % 3 == 0
        if brings_news and is_told_first:
            world.land("s", "t")
        elif brings_news:
            world.arrive("s")
            world.arrive("t")
        for name in list(world.running):
            world.finish(name)
        for name in list(world.looks):
            world.answer(name)
        world.tick(world.at)
        if brings_news and not is_told_first:
            world.land("s", "t")
    assert started(world).count("r") >= 5

"""Histories in which the heart once did the wrong thing; each names the promise it broke."""

from __future__ import annotations

from typing import Any

import pytest

from tests.core.jobs import GATE, job
from tests.core.world import DAY, World
from tidemill.core.errors import DefinitionError
from tidemill.core.event import Defined, Finished, Landed, Looked, Paused, Requested, Resumed
from tidemill.core.model import Mode
from tidemill.core.ports import Head, Progress
from tidemill.core.retry import Failure


def test_a_job_that_is_paused_while_it_runs_is_not_tried_again() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.pause("j")
    world.fail("j")
    assert world.state.jobs["j"].phase == "paused"
    assert world.state.next_at() is None or world.tick() == []
    assert world.resume("j") == ["j"]


def test_a_job_that_is_removed_and_defined_again_while_it_runs_is_not_started_twice() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.remove("j")
    assert world.state.is_busy
    assert world.define(job("j", ["a"], ["b"])) == []
    world.land("a")
    assert world.finish("j") == []
    world.quiet()
    assert [start.job for start in world.starts] == ["j"]


def test_a_run_of_a_removed_job_that_ends_leaves_the_world_idle() -> None:
    world = World.of(job("j", ["a"], ["b"]), job("k", ["a"], ["c"]))
    world.land("a")
    world.remove("j")
    world.remove("k")
    world.finish("j")
    world.fail("k")
    assert not world.state.is_busy


def test_an_answer_about_an_earlier_definition_is_not_taken() -> None:
    world = World.of(job("j", ["a"], ["b"], after_seconds=60.0))
    assert world.land("a") == ["j?"]
    world.at = 60.0
    seen = world.see("j")
    assert seen.is_ready
    assert world.define(job("j", ["a"], ["b"], after_seconds=DAY)) == []
    assert world.answer("j", seen) == ["j?"]
    assert world.answer("j") == []
    assert world.state.next_at() == DAY


def test_an_answer_about_a_removed_definition_is_not_taken() -> None:
    world = World.of(job("j", ["a"], ["b"], after_seconds=60.0))
    world.land("a")
    world.at = 60.0
    seen = world.see("j")
    world.remove("j")
    assert world.define(job("j", ["a"], ["b"], after_seconds=DAY)) == []
    assert world.answer("j", seen) == ["j?"]


def test_a_job_that_lost_its_gate_while_it_was_looked_at_starts() -> None:
    world = World.of(job("j", ["a"], ["b"], gate=GATE))
    assert world.land("a") == ["j?"]
    world.define(job("j", ["a"], ["b"]))
    assert "j" in [start.job for start in world.starts] or world.answer("j") == ["j"]


def test_what_a_person_released_while_a_look_was_out_is_looked_at_again() -> None:
    world = World.of(job("j", ["a"], ["b"], gate=GATE))
    world.land("a")
    seen = Looked("j", False, world.at, because=("late rows wait for a person",))
    world.resume("j")
    assert world.answer("j", seen) == ["j?"]


def test_a_run_that_commits_while_a_look_is_out_makes_its_answer_stale() -> None:
    """Only a rebuild starts without waiting for its look."""
    world = World.of(job("j", ["a"], ["b"], gate=GATE))
    world.land("a", count=2)
    world.answer("j")
    world.finish("j")
    assert world.looks == ["j"]
    seen = world.see("j")
    assert world.define(job("j", ["a"], ["b"], gate=GATE, version="2")) == ["j"]
    world.land("a", count=2)
    world.finish("j")
    world.answer("j", seen)
    world.quiet()


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    world = World.of(job("j", ["a"], ["b"], gate=GATE))
    world.land("a", count=2)
    seen = world.see("j")
    assert world.answer("j") == ["j"]
    assert world.finish("j") == ["j?"]
    world.answer("j")
    assert world.do(seen) == []
    assert len(world.starts) == 1


def test_later_news_of_a_running_feeder_never_extends_a_wait() -> None:
    """Under load the feeder starts again in the moment it commits; its reader must not wait for that."""
    world = World.of(job("u", ["a"], ["b"]), job("r", ["a", "b"], ["c"], when="all"))
    world.land("b")
    assert world.land("a") == ["u"]
    committed = Finished("u", Progress("u", "1", {"a": 1}, {"a": 1}), {"b": Head(2)}, world.at)
    assert world.land("a") == []
    del world.running["u"]
    assert set(world.do(committed)) == {"u", "r"}


def test_a_feeder_under_load_lets_its_reader_go_once_it_passed_the_targets() -> None:
    world = World.of(job("u", ["a"], ["b"], max_changes=1), job("r", ["a", "b"], ["c"], when="all"))
    world.land("b")
    assert world.land("a", count=3) == ["u"]
    for _ in range(2):
        world.land("a")
        assert world.finish("u") == ["u"]
    world.land("a")
    assert set(world.finish("u")) == {"u", "r"}
    world.quiet()


def test_a_conflict_that_shows_the_feeder_past_its_targets_lets_its_reader_go() -> None:
    world = World.of(job("u", ["a"], ["b"]), job("r", ["a", "b"], ["c"], when="all"))
    world.land("b")
    world.land("a")
    world.land("a")
    world.progress["u"] = Progress("u", "1", {"a": 1}, {"a": 1})
    assert set(world.fail("u", Failure.CONFLICT)) == {"u", "r"}


def test_a_feeder_that_is_looked_at_all_the_time_does_not_stall_its_reader() -> None:
    """Continuous news keeps a look out at every moment; the answer that came after the wait began must count."""
    world = World.of(job("u", ["a"], ["b"], after_seconds=3_600.0), job("r", ["a", "b"], ["c"], when="all"))
    world.land("b")
    world.land("a")
    for _ in range(4):
        if "r" in world.running:
            break
        world.at += 1.0
        world.land("a")
        world.answer("u")
    assert "r" in world.running


def test_a_wait_ends_when_the_retrying_feeder_gets_another_definition() -> None:
    world = World.of(job("u", ["a"], ["b"]), job("r", ["a", "b"], ["c"], when="all"), at=1.0)
    world.land("b")
    world.land("a")
    world.fail("u")
    assert "r" not in world.running
    started = world.define(job("u", ["a"], ["b"], schedule="2"))
    assert started == ["r"]


def test_a_wait_ends_when_the_feeder_is_defined_as_paused() -> None:
    world = World.of(job("u", ["a"], ["b"]), job("r", ["a", "b"], ["c"], when="all"))
    world.land("b")
    world.land("a")
    world.fail("u")
    assert world.define(job("u", ["a"], ["b"]), is_paused=True) == ["r"]


def test_a_wait_ends_when_a_job_in_the_middle_of_the_chain_is_removed() -> None:
    world = World.of(job("u", ["a"], ["b"]), job("v", ["b"], ["c"]), job("r", ["a", "c"], ["d"], when="all"))
    world.land("c")
    world.land("a")
    assert set(world.running) == {"u"}
    assert world.remove("u") == ["r"]


def test_a_wait_ends_when_a_job_of_the_chain_writes_something_else_now() -> None:
    world = World.of(job("u", ["a"], ["b"]), job("v", ["b"], ["c"]), job("r", ["a", "c"], ["d"], when="all"))
    world.land("c")
    world.land("a")
    assert world.define(job("u", ["a"], ["other"])) == ["r"]
    world.finish("u")
    world.quiet()


def test_a_wait_ends_when_a_person_moves_the_feeder_past_its_news() -> None:
    world = World.of(
        job("t", ["x"], ["y"]), job("u", ["a", "y"], ["b"], when="all"), job("r", ["a", "b"], ["c"], when="all")
    )
    world.land("y", "b", "a")
    world.quiet()
    world.land("x")
    world.land("a")
    assert set(world.running) == {"t"}
    world.state.waits.end("u")
    world.progress["u"] = Progress("u", "1", {"a": world.head("a"), "y": world.head("y")}, {"a": 1, "y": 1})
    world.do(Resumed("u", world.at, world.progress["u"]))
    world.finish("t")
    world.quiet()


def test_a_rebuild_does_not_use_up_the_change_that_starts_the_job() -> None:
    """A rebuild takes nothing new, so the evening it happens in must still be worked on."""
    world = World.of(job("j", ["a"], ["b"], on="evening", mode=Mode.BATCH))
    world.land("a", "evening")
    world.finish("j")
    world.land("a")
    world.pause("j")
    world.land("evening")
    world.define(job("j", ["a"], ["b"], on="evening", mode=Mode.BATCH, version="2"))
    assert world.resume("j") == ["j"]
    assert world.starts[-1].is_rebuild
    assert world.finish("j") == ["j"]
    world.quiet()
    assert world.progress["j"].cursors == {"a": 2, "on:evening": 2}


def test_a_definition_that_comes_while_the_old_one_fails_for_good_is_tried() -> None:
    """What is held was the old definition; the mended one must not wait for another mend."""
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.define(job("j", ["a"], ["b"], version="2"))
    assert world.fail("j", Failure.FINAL) == ["j"]
    assert world.alerts == []
    world.quiet()


def test_a_rebuild_made_from_a_newer_generation_than_the_heart_was_told_of_is_not_repeated() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.arrive("a", generation=2)
    assert world.finish("j") == []
    assert len(world.starts) == 1


def test_a_retry_that_has_become_a_rebuild_takes_no_cuts_and_releases_nothing() -> None:
    world = World.of(job("j", ["a"], ["b"], gate=GATE))
    world.land("a", count=2)
    world.answer("j")
    world.finish("j")
    world.answer("j")
    world.land("a", count=2)
    world.answer("j")
    world.fail("j")
    world.arrive("a", generation=2)
    world.tell("a")
    world.tick()
    start = world.starts[-1]
    assert start.is_rebuild
    assert (start.ends, start.value, start.payload, start.on_offset) == (None, "", None, None)
    world.quiet()


def test_forcing_a_job_that_runs_starts_it_once_more() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.request("j", is_forced=True)
    assert world.finish("j") == ["j"]
    assert world.starts[-1].is_forced
    assert world.finish("j") == []


def test_an_ordinary_request_does_not_take_back_a_forced_one() -> None:
    world = World.of(job("j", ["a"], ["b"], gate=GATE))
    assert world.request("j", is_forced=True) == ["j?"]
    world.request("j")
    assert world.answer("j") == ["j"]


def test_a_forced_run_that_conflicts_is_still_forced() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.request("j", is_forced=True)
    assert world.fail("j", Failure.CONFLICT) == ["j"]
    assert world.starts[-1].is_forced
    world.fail("j")
    world.tick()
    assert world.starts[-1].is_forced
    assert world.finish("j") == []


def test_a_definition_with_a_condition_that_does_not_parse_changes_nothing() -> None:
    world = World.of()
    with pytest.raises(DefinitionError):
        world.define(job("j", ["a"], ["b"], when="a &"))
    assert world.land("a") == []


@pytest.mark.parametrize(
    "event",
    [
        Paused("gone", 1.0),
        Resumed("gone", 1.0),
        Requested(1.0, ("gone",)),
        Finished("gone", Progress("gone", "1"), {}, 1.0),
    ],
    ids=lambda event: type(event).__name__,
)
def test_a_word_about_a_job_that_is_gone_changes_nothing(event: Paused) -> None:
    assert World.of().do(event) == []


def test_a_late_definition_does_not_move_cursors_back() -> None:
    """The loader may have read the progress just before the run that it speaks of committed."""
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.finish("j")
    old = world.progress["j"]
    world.define(job("j", ["a"], ["b"], version="2"))
    world.land("a")
    world.finish("j")
    world.quiet()
    count = len(world.starts)
    world.do(Defined(job("j", ["a"], ["b"], version="2"), old, world.at))
    assert len(world.starts) == count


def test_a_run_that_waits_for_a_person_is_not_started_again_by_news() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.fail("j", Failure.WAITS)
    world.land("a")
    world.tick(1_000.0)
    world.land("a")
    assert world.state.jobs["j"].phase == "held"
    assert [alert.kind for alert in world.alerts] == ["held"]
    assert world.resume("j") == ["j"]


def test_a_fenced_process_starts_nothing_again_by_itself() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.land("a")
    world.fail("j", Failure.FENCED)
    world.tick(1_000.0)
    assert world.land("a") == []


def test_a_doubled_head_of_an_older_generation_says_nothing() -> None:
    world = World.of(job("j", ["a"], ["b"]))
    world.arrive("a", generation=2)
    world.tell("a")
    assert world.do(Landed("a", Head(99, 1), 0.0)) == []
    assert world.state.heads["a"] == Head(1, 2)


def test_asking_for_one_job_makes_no_other_due() -> None:
    world = World.of(
        job("j", ["a"], ["b"], mode=Mode.MICROBATCH), job("k", ["a"], ["c"], mode=Mode.MICROBATCH), at=1_000.0
    )
    world.define(job("k", ["a"], ["c"], mode=Mode.MICROBATCH), first_seen_at=1_000.0)
    world.define(job("j", ["a"], ["b"], mode=Mode.MICROBATCH), first_seen_at=1_000.0)
    assert world.land("a") == []
    assert world.request("j") == ["j"]
    assert not world.state.readiness("k", world.at).is_ready
    assert world.tick() == ["k"]
    assert world.at == 1_300.0


def _reader_that_waits_for_a_rebuild() -> World:
    """`r` has to be rebuilt, and waits for `u`, which is rebuilt first."""
    world = World.of(job("u", ["a"], ["b"]), job("r", ["b", "t"], ["c"]))
    world.land("a", "t")
    world.quiet()
    world.define(job("u", ["a"], ["b"], version="2"))
    world.arrive("t", generation=2)
    assert world.tell("t") == []
    assert set(world.running) == {"u"}
    return world


def test_a_reader_does_not_wait_for_the_rebuild_of_a_job_that_is_removed() -> None:
    world = _reader_that_waits_for_a_rebuild()
    assert world.remove("u") == ["r"]


def test_a_reader_does_not_wait_for_the_rebuild_of_a_job_that_is_as_it_was_again() -> None:
    world = _reader_that_waits_for_a_rebuild()
    assert world.define(job("u", ["a"], ["b"])) == ["r"]


def test_a_reader_does_not_wait_for_the_rebuild_of_a_job_that_writes_something_else_now() -> None:
    world = _reader_that_waits_for_a_rebuild()
    assert world.define(job("u", ["a"], ["other"], version="2")) == ["r"]


def test_a_reader_starts_when_a_run_of_an_earlier_definition_is_what_its_feeder_needs() -> None:
    world = _reader_that_waits_for_a_rebuild()
    world.define(job("u", ["a"], ["b"], version="3"))
    assert world.define(job("u", ["a"], ["b"], version="2")) == []
    world.running.pop("u")
    assert world.do(Finished("u", Progress("u", "2", {"a": 1}, {"a": 1}), {}, world.at)) == ["r"]


@pytest.mark.parametrize(
    ("details", "may_take_news"),
    [
        ({}, True),
        ({"mode": Mode.BATCH}, True),
        ({"when": "each"}, False),
        ({"schedule": "2"}, False),
        ({"gate": GATE}, False),
        ({"after_seconds": 60.0}, False),
    ],
)
def test_a_rebuild_may_go_on_to_the_heads_only_where_a_run_might(details: dict[str, Any], may_take_news: bool) -> None:
    world = World.of(job("j", ["a", "x"], ["b"], **details))
    world.land("a", "x")
    world.quiet()
    world.define(job("j", ["a", "x"], ["b"], version="2", **details), is_paused=True)
    world.land("a")
    world.resume("j")
    assert [(start.is_rebuild, start.may_take_news) for start in world.starts[-1:]] == [(True, may_take_news)]

"""When a job starts and when it does not: the rules of readiness as tables of little histories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.core.jobs import GATE, job
from tests.core.world import DAY, World
from tidemill.core.event import Finished, Landed, Looked, Resumed
from tidemill.core.model import Missing, Mode
from tidemill.core.orchestrate import Phase
from tidemill.core.ports import Head, Progress
from tidemill.core.retry import Failure

HOUR = 3_600.0


def phase(world: World, name: str = "j") -> Phase:
    return world.state.jobs[name].phase


def because(world: World, name: str = "j") -> str:
    return "; ".join(world.state.readiness(name, world.at).because)


# ------------------------------------------------------------------------------------------------ when

WHEN: dict[str, tuple[dict[str, Any], str, str]] = {
    # What the job says, what lands one after another, after which of them it starts (they are left unread before).
    "realtime is any": ({}, "a", "a"),
    "any": ({"when": "any", "mode": Mode.BATCH}, "b", "b"),
    "batch is all": ({"mode": Mode.BATCH}, "ab", "b"),
    "all needs every input once": ({"when": "all"}, "aaab", "b"),
    "each": ({"when": "each"}, "aab", "b"),
    "and": ({"when": "a & b"}, "ab", "b"),
    "and waits": ({"when": "a & b"}, "aa", ""),
    "or": ({"when": "a | b"}, "b", "b"),
    "an expression": ({"when": "c & (a | b)"}, "abc", "c"),
    "an expression that waits": ({"when": "c & (a | b)"}, "ab", ""),
    "and before or": ({"when": "a | b & c"}, "bbc", "c"),
}


@pytest.mark.parametrize("case", WHEN.values(), ids=WHEN.keys())
def test_when(case: tuple[dict[str, Any], str, str]) -> None:
    details, landings, expected = case
    when = details.get("when", "")
    inputs = ("a", "b", "c") if "c &" in when or "& c" in when else ("a", "b")
    world = World.of(job("j", inputs, ["out"], **details))
    started = ""
    for asset in landings:
        if world.land(asset) == ["j"]:
            started = asset
            break
    assert started == expected
    if not expected:
        assert "waits" in because(world)


def test_each_needs_news_in_every_input_again_after_a_run() -> None:
    world = World.of(job("j", ["a", "b"], ["out"], when="each"))
    assert world.land("a", "b") == ["j"]
    world.finish("j")
    assert world.land("a") == []
    assert because(world) == "waits for news in b (each)"
    assert world.land("b") == ["j"]


def test_all_needs_news_in_one_input_after_everything_has_arrived() -> None:
    world = World.of(job("j", ["a", "b"], ["out"], mode=Mode.BATCH))
    assert world.land("a") == []
    assert because(world) == "waits for the first arrival of b"
    assert world.land("b") == ["j"]
    assert world.finish("j") == []
    assert world.land("b") == ["j"]


def test_without_news_a_job_does_not_run() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    assert because(world) == "no input has news"
    assert world.do(Landed("a", Head(0), 0.0, stirs=True)) == []


def test_what_lands_while_a_job_runs_is_taken_by_one_more_run() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    committed = Finished("j", Progress("j", "1", {"a": 1}, {"a": 1}), {"out": Head(1)}, world.at)
    assert world.land("a") == []
    assert world.land("a") == []
    del world.running["j"]
    assert world.do(committed) == ["j"]
    assert world.finish("j") == []


def test_a_job_that_reads_less_than_everything_goes_on_at_once() -> None:
    world = World.of(job("j", ["a"], ["out"], max_changes=2))
    world.land("a", count=5)
    assert world.finish("j") == ["j"]
    assert world.finish("j") == ["j"]
    assert world.finish("j") == []


# ---------------------------------------------------------------------------------------------- notices


@pytest.mark.parametrize(
    "told",
    [[3], [3, 3], [1, 2, 3], [3, 1, 2], [2, 3, 1], [3, 0]],
    ids=["the last only", "doubled", "in order", "late ones", "mixed", "nothing"],
)
def test_lost_doubled_and_reordered_heads_lead_to_the_same_place(told: list[int]) -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.arrive("a", 3)
    for offset in told:
        world.do(Landed("a", Head(offset), world.at))
    assert world.state.head("a") == 3
    assert len(world.starts) == 1
    world.quiet()
    assert len(world.starts) == 1


def test_more_urgent_jobs_start_first() -> None:
    world = World.of(*(job(f"p{p}", ["a"], [f"o{p}"], priority=p) for p in (1, 3, 2)), job("look", ["a"], gate=GATE))
    assert world.land("a") == ["p3", "p2", "p1", "look?"]


def test_jobs_of_one_priority_start_in_the_order_they_were_defined() -> None:
    world = World.of(*(job(name, ["a"]) for name in ("z", "a", "m")))
    assert world.land("a") == ["z", "a", "m"]


def test_only_the_jobs_asked_for_start() -> None:
    world = World.of(job("j", ["a"], ["b"]), job("k", ["a", "b"], ["c"]), only=frozenset({"k"}))
    assert world.land("a") == ["k"]
    world.finish("k")
    assert world.request("j", is_forced=True) == []


# ------------------------------------------------------------------------------------------------- pace


def test_a_microbatch_starts_every_so_often_if_there_is_news() -> None:
    world = World.of(at=1_000.0)
    world.define(job("j", ["a"], ["out"], mode=Mode.MICROBATCH, every_seconds=300.0), first_seen_at=1_000.0)
    assert world.land("a") == []
    assert world.state.next_at() == 1_300.0
    assert world.tick() == ["j"]
    world.at = 1_350.0
    assert world.finish("j") == []
    assert world.land("a") == []
    assert world.state.next_at() == 1_600.0
    assert world.tick() == ["j"]
    world.finish("j")
    assert world.state.next_at() is None


def test_a_microbatch_that_ran_longer_than_its_period_starts_at_once() -> None:
    world = World.of(job("j", ["a"], ["out"], mode=Mode.MICROBATCH, every_seconds=300.0), at=1_000.0)
    assert world.land("a") == ["j"]
    world.finish("j")
    world.at = 1_301.0
    assert world.land("a") == ["j"]


def test_a_request_makes_microbatches_due_until_everything_is_drained() -> None:
    slow = {"mode": Mode.MICROBATCH, "every_seconds": DAY}
    world = World.of(job("j", ["a"], ["b"], **slow), job("k", ["b"], ["c"], **slow), at=DAY)
    for name in ("j", "k"):
        world.define(world.state.jobs[name].job, first_seen_at=DAY)
    assert world.land("a") == []
    assert world.request() == ["j"]
    assert world.finish("j") == ["k"]
    assert world.finish("k") == []
    assert not world.state.is_busy
    world.drained()
    assert world.land("a") == []


SCHEDULES: dict[str, tuple[float, list[float], float]] = {
    # When it was first seen, when changes land, when it starts (hour of the day 2).
    "the next moment": (1 * HOUR, [1.5 * HOUR], 2 * HOUR),
    "news after the moment wait for the next": (3 * HOUR, [4 * HOUR], DAY + 2 * HOUR),
    "news of days are one run": (1 * HOUR, [1.2 * HOUR, 1.4 * HOUR], 2 * HOUR),
    "a moment that passed without news is still due": (1 * HOUR, [5 * HOUR], 5 * HOUR),
}


@pytest.mark.parametrize("case", SCHEDULES.values(), ids=SCHEDULES.keys())
def test_schedule(case: tuple[float, list[float], float]) -> None:
    first_seen_at, landings, starts_at = case
    world = World.of(at=first_seen_at)
    world.define(job("j", ["a"], ["out"], mode=Mode.BATCH, schedule="2"), first_seen_at=first_seen_at)
    for moment in landings:
        world.at = moment
        world.land("a")
    if not world.running:
        world.tick()
    assert world.starts[-1].at == starts_at
    world.finish("j")
    assert len(world.starts) == 1


def test_missed_moments_are_one_run() -> None:
    world = World.of(job("j", ["a"], ["out"], schedule="2"))
    world.land("a")
    assert world.tick(10 * DAY) == ["j"]
    world.finish("j")
    world.land("a")
    assert world.state.next_at() == 10 * DAY + 2 * HOUR


def test_on_starts_a_job_whose_inputs_have_news() -> None:
    world = World.of(job("j", ["a"], ["out"], mode=Mode.BATCH, on="evening"))
    assert world.land("a") == []
    assert because(world) == "waits for `evening` to change (on)"
    assert world.land("evening") == ["j"]
    assert world.starts[-1].on_offset == 1
    world.finish("j")
    assert world.land("a") == []
    assert world.land("evening") == ["j"]


def test_a_change_that_starts_a_job_is_used_once() -> None:
    world = World.of(job("j", ["a"], ["out"], on="evening"))
    world.land("evening")
    assert world.land("a") == ["j"]
    assert world.finish("j") == []
    assert world.land("a") == []


def test_an_evening_that_comes_while_the_job_runs_starts_it_again() -> None:
    world = World.of(job("j", ["a"], ["out"], on="evening"))
    world.land("a", "evening")
    world.arrive("a")
    world.land("evening")
    world.progress["j"] = Progress("j", "1")
    assert world.starts[-1].on_offset == 1
    world.finish("j")
    assert world.land("a") == ["j"]
    assert world.starts[-1].on_offset == 2


def test_an_attempt_made_again_serves_the_evening_of_the_first_one() -> None:
    world = World.of(job("j", ["a"], ["out"], on="evening"))
    world.land("a", "evening")
    world.fail("j")
    world.land("evening")
    world.tick()
    assert (world.starts[-1].attempt, world.starts[-1].on_offset) == (2, 1)


# ------------------------------------------------------------------------------------------------ looks


def test_a_delayed_job_starts_when_its_changes_are_old_enough() -> None:
    world = World.of(job("j", ["a"], ["out"], after_seconds=HOUR))
    assert world.land("a") == ["j?"]
    assert world.answer("j") == []
    world.at = 60.0
    assert world.land("a") == ["j?"]
    world.answer("j")
    assert world.state.next_at() == HOUR
    assert world.tick() == ["j?"]
    assert world.answer("j") == ["j"]
    assert world.starts[-1].ends == {"a": 1}
    assert world.finish("j") == ["j?"]
    world.answer("j")
    assert world.state.next_at() == HOUR + 60.0


def test_a_gate_is_looked_at_again_after_every_run() -> None:
    world = World.of(job("j", ["a"], ["out"], gate=GATE))
    world.land("a", count=5)
    assert world.answer("j") == ["j"]
    assert world.starts[-1].value == "1"
    assert world.finish("j") == ["j?"]
    assert world.answer("j") == ["j"]
    assert world.finish("j") == ["j?"]
    assert world.answer("j") == []
    assert world.land("a") == ["j?"]
    assert world.answer("j") == ["j"]


def test_a_no_is_asked_again_where_something_happened_meanwhile() -> None:
    world = World.of(job("j", ["a"], ["out"], gate=GATE))
    world.land("a")
    seen = world.see("j")
    assert world.land("a") == []
    assert world.answer("j", seen) == ["j?"]
    assert world.answer("j") == ["j"]


def test_a_yes_is_taken_whatever_happened_meanwhile() -> None:
    """Otherwise continuous news would ask for ever."""
    world = World.of(job("j", ["a"], ["out"], gate=GATE))
    world.land("a", count=2)
    for _ in range(5):
        world.land("a")
    assert world.answer("j") == ["j"]


def test_a_look_that_failed_is_tried_again_at_the_moment_it_names() -> None:
    world = World.of(job("j", ["a"], ["out"], gate=GATE))
    world.land("a")
    assert world.answer("j", Looked("j", False, 0.0, because=("looking failed: x",), next_at=1.0)) == []
    assert because(world) == "looking failed: x"
    assert world.tick() == ["j?"]


def test_a_missed_deadline_is_told_once() -> None:
    world = World.of(job("j", ["a"], ["out"], gate=GATE))
    world.land("a")
    late = Looked("j", False, 0.0, because=("2024-03-01: waiting for x",), overdue=("2024-03-01",))
    world.answer("j", late)
    world.land("a")
    world.answer("j", replace(late, because=("2024-03-01: waiting for y",)))
    told = [("deadline", "the deadline of 2024-03-01 passed: 2024-03-01: waiting for x", False)]
    assert [(alert.kind, alert.reason, alert.is_failure) for alert in world.alerts] == told
    world.land("a")
    world.answer("j", replace(late, overdue=("2024-03-01", "2024-03-02")))
    assert [alert.reason for alert in world.alerts][1:] == ["the deadline of 2024-03-02 passed"]


def test_a_missed_deadline_fails_where_the_gate_says_so() -> None:
    gate = replace(GATE, deadline="06:00", on_missing=Missing.FAIL)
    world = World.of(job("j", ["a"], ["out"], gate=gate))
    world.land("a")
    world.answer("j", Looked("j", False, 0.0, overdue=("2024-03-01",)))
    assert [alert.is_failure for alert in world.alerts] == [True]


def test_stirred_readers_look_again_though_no_row_changed() -> None:
    """An empty file can complete a gate."""
    world = World.of(job("j", ["a"], ["out"], gate=GATE))
    world.land("a")
    world.answer("j")
    assert world.tell("a") == []
    assert world.tell("a", stirs=True) == ["j?"]


# --------------------------------------------------------------------------------------------- failures


def test_a_failing_job_is_tried_again_then_held_until_news_a_minute_later() -> None:
    world = World.of(job("j", ["a"], ["out"], retries=2))
    world.land("a")
    for attempt in (2, 3):
        assert world.fail("j") == []
        assert phase(world) is Phase.RETRYING
        assert world.state.is_busy
        assert world.tick() == ["j"]
        assert (world.starts[-1].attempt, world.starts[-1].run) == (attempt, "r")
    assert world.fail("j") == []
    assert phase(world) is Phase.HELD
    assert not world.state.is_busy
    assert [alert.kind for alert in world.alerts] == ["held"]
    held_at = world.at
    assert world.state.next_at() is None
    assert world.land("a") == []
    assert world.state.next_at() == held_at + 60.0
    assert world.tick() == ["j"]
    assert (world.starts[-1].attempt, world.starts[-1].run) == (1, "")


LEAVING_HOLD = {
    "resume": lambda world: world.resume("j"),
    "a new definition": lambda world: world.define(job("j", ["a"], ["out"], version="2")),
    "a new run": lambda world: world.request(),
    "force": lambda world: world.request("j", is_forced=True),
    "news after a minute": lambda world: (world.tick(1_000.0), world.land("a"))[1],
}


@pytest.mark.parametrize("leave", LEAVING_HOLD.values(), ids=LEAVING_HOLD.keys())
def test_a_held_job_starts_again_by(leave: Any) -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    world.fail("j", Failure.FINAL)
    assert phase(world) is Phase.HELD
    assert leave(world) == ["j"]


def test_a_held_job_does_not_spin() -> None:
    world = World.of(job("j", ["a"], ["out"], retries=0))
    world.land("a")
    for second in range(1, 600):
        world.at = float(second)
        if "j" in world.running:
            world.fail("j")
        world.land("a")
    assert len(world.starts) <= 11


def test_a_conflict_is_evaluated_anew_at_once() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    assert world.fail("j", Failure.CONFLICT) == ["j"]
    assert world.starts[-1].attempt == 1
    world.progress["j"] = Progress("j", "1", {"a": 1}, {"a": 1})
    assert world.fail("j", Failure.CONFLICT) == []
    assert phase(world) is Phase.IDLE


def test_full_storage_is_tried_again_for_ever() -> None:
    world = World.of(job("j", ["a"], ["out"], retries=0))
    world.land("a")
    for _ in range(200):
        world.fail("j", Failure.STORAGE)
        assert world.tick() == ["j"]
    assert world.alerts == []


def test_a_retry_does_not_start_early_because_of_news() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    world.fail("j")
    assert world.land("a") == []
    assert world.tick() == ["j"]


def test_a_person_cuts_a_retry_short() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    world.fail("j")
    assert world.resume("j") == ["j"]
    assert world.starts[-1].attempt == 2


def test_a_failed_job_blocks_only_those_that_need_its_news() -> None:
    world = World.of(job("j", ["a"], ["b"]), job("other", ["a"], ["c"]), job("needs", ["b"], ["d"]))
    assert world.land("a") == ["j", "other"]
    world.fail("j", Failure.FINAL)
    world.finish("other")
    assert world.land("b") == ["needs"]


# ----------------------------------------------------------------------------------------------- people


def test_a_paused_job_finishes_what_runs_and_starts_nothing() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    world.pause("j")
    assert phase(world) is Phase.RUNNING
    world.land("a")
    assert world.finish("j") == []
    assert phase(world) is Phase.PAUSED
    assert world.land("a") == []
    assert world.request("j", is_forced=False) == []
    assert world.resume("j") == ["j"]


def test_pausing_a_job_between_attempts_ends_them() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    world.fail("j")
    world.pause("j")
    assert not world.state.is_busy
    assert world.tick(1_000.0) == []
    assert world.resume("j") == ["j"]
    assert world.starts[-1].attempt == 1


def test_a_job_can_be_defined_as_paused() -> None:
    world = World.of()
    world.define(job("j", ["a"], ["out"]), is_paused=True)
    assert world.land("a") == []
    assert because(world) == "paused"
    assert world.resume("j") == ["j"]


def test_force_starts_a_job_that_is_not_due() -> None:
    world = World.of(job("j", ["a"], ["out"], schedule="2"))
    assert world.request("j", is_forced=True) == ["j"]
    assert world.starts[-1].is_forced
    assert world.finish("j") == []


def test_resuming_from_now_skips_what_is_there() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.pause("j")
    world.land("a", count=5)
    world.progress["j"] = Progress("j", "1", {"a": 5}, {"a": 1})
    assert world.do(Resumed("j", world.at, world.progress["j"])) == []
    assert world.land("a") == ["j"]


# ------------------------------------------------------------------------------------------ definitions


def test_another_version_is_rebuilt_at_once_and_then_goes_on() -> None:
    world = World.of(job("j", ["a"], ["out"], schedule="2"))
    world.land("a")
    world.tick()
    world.finish("j")
    world.land("a")
    assert world.define(job("j", ["a"], ["out"], schedule="2", version="2")) == ["j"]
    assert world.starts[-1].is_rebuild
    assert world.finish("j") == []
    assert world.state.jobs["j"].cursors == {"a": 1}
    world.tick()
    assert world.state.jobs["j"].phase is Phase.RUNNING
    assert not world.starts[-1].is_rebuild


def test_a_first_build_waits_for_readiness() -> None:
    world = World.of(job("j", ["a"], ["out"], schedule="2"))
    assert world.define(job("j", ["a"], ["out"], schedule="2", version="2")) == []


def test_what_is_not_rebuilt_takes_new_code_from_its_cursor_on() -> None:
    world = World.of(job("j", ["a"], ["out"], rebuilds=False))
    world.land("a")
    world.finish("j")
    assert world.define(job("j", ["a"], ["out"], rebuilds=False, version="2")) == []
    assert world.land("a") == ["j"]
    assert not world.starts[-1].is_rebuild


def test_changed_columns_of_an_input_rebuild_its_readers() -> None:
    world = World.of(job("j", ["a"], ["out"]), job("run", ["a"], ["x"], rebuilds=False))
    world.land("a")
    world.finish("j")
    world.finish("run")
    world.arrive("a", generation=2)
    assert world.tell("a") == ["j", "run"]
    assert [start.is_rebuild for start in world.starts[-2:]] == [True, False]
    assert world.finish("j") == ["j"]
    assert not world.starts[-1].is_rebuild
    assert world.finish("j") == []


def test_a_definition_that_changes_while_the_job_runs_is_built_after_it() -> None:
    world = World.of(job("j", ["a"], ["out"]))
    world.land("a")
    assert world.define(job("j", ["a"], ["out"], version="2")) == []
    assert world.finish("j") == ["j"]
    assert world.starts[-1].is_rebuild


def test_a_removed_job_is_not_started() -> None:
    world = World.of(job("j", ["a"], ["out"]), job("k", ["a"]))
    world.remove("j")
    assert world.land("a") == ["k"]


def test_a_restart_knows_from_the_stores_what_is_still_to_do() -> None:
    before = World.of(job("j", ["a"], ["b"]), job("k", ["b"], ["c"]))
    before.land("a")
    before.finish("j")
    after = World.of()
    after.heads, after.progress = before.heads, before.progress
    for asset in after.heads:
        after.tell(asset)
    assert after.define(job("j", ["a"], ["b"])) == []
    assert after.define(job("k", ["b"], ["c"])) == ["k"]


def test_a_restart_fed_from_the_sources_down_waits_as_before() -> None:
    """A job that is defined before its feeder cannot know of it: heads first, then jobs in the order of the data."""
    after = World.of()
    for asset in ("a", "b"):
        after.arrive(asset)
        after.tell(asset)
    assert after.define(job("u", ["a"], ["b"])) == ["u"]
    assert after.define(job("r", ["a", "b"], ["c"], when="all")) == []
    assert after.finish("u") == ["r"]


def test_explaining_changes_nothing() -> None:
    world = World.of(job("u", ["a"], ["b"]), job("r", ["a", "b"], ["c"], when="all"))
    world.land("b", "a")
    before = repr(world.state.jobs)
    assert because(world, "r") == "waits for upstream to settle: u"
    assert because(world, "u") == "running"
    assert repr(world.state.jobs) == before

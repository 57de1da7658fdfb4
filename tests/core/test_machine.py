"""Random histories of whole little projects: whatever happens, nothing is forgotten once the world goes quiet."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.core.jobs import GATE, job
from tests.core.world import World
from tidemill.core.event import Landed, Looked
from tidemill.core.model import Job, Mode
from tidemill.core.ports import Head
from tidemill.core.retry import Failure

SOURCES = ("s", "t", "e")
# A diamond over s and t and a tail; then the same jobs over other edges.
SHAPES: dict[str, tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]] = {
    "U": ((("s",), ("u",)), (("t",), ("u", "x"))),
    "V": ((("s", "t"), ("v",)), (("s", "u"), ("v",))),
    "R": ((("u", "v"), ("r",)), (("v", "s"), ("r",))),
    "Q": ((("r", "t"), ("q",)), (("u", "r"), ("q",))),
}
PACES: tuple[dict[str, Any], ...] = (
    {"mode": Mode.REALTIME},
    {"mode": Mode.MICROBATCH, "every_seconds": 300.0},
    {"mode": Mode.BATCH},
    {"mode": Mode.BATCH, "schedule": "2"},
    {"mode": Mode.BATCH, "on": "e"},
    {"mode": Mode.REALTIME, "when": "each"},
    {"mode": Mode.REALTIME, "after_seconds": 3_600.0},
    {"mode": Mode.BATCH, "after_seconds": 60.0},
    {"mode": Mode.BATCH, "gate": GATE},
    {"mode": Mode.REALTIME, "gate": GATE},
    {"mode": Mode.REALTIME, "max_changes": 1},
    {"mode": Mode.REALTIME, "retries": 0, "rebuilds": False},
)
names = st.sampled_from(tuple(SHAPES))
paces = st.sampled_from(PACES)
failures = st.sampled_from([Failure.TRANSIENT, Failure.CONFLICT, Failure.FINAL, Failure.STORAGE, Failure.WAITS])
picks = st.integers(0, 10)


class Projects(RuleBasedStateMachine):
    """Everything that can happen to a project, in any order; the world checks its invariants after every step."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World.of()
        self.version = 0
        self.seen: dict[str, Looked] = {}

    def made(self, name: str, pace: dict[str, Any], version: str, shape: int = 0) -> Job:
        inputs, outputs = SHAPES[name][shape]
        return job(name, inputs, outputs, version=f"{version}.{shape}", **pace)

    @initialize(all_paces=st.tuples(paces, paces, paces, paces))
    def begin(self, all_paces: tuple[dict[str, Any], ...]) -> None:
        for name, pace in zip(SHAPES, all_paces, strict=True):
            self.world.define(self.made(name, pace, "0"))

    @rule(asset=st.sampled_from(SOURCES), count=st.integers(1, 3), is_told=st.booleans())
    def something_lands(self, asset: str, count: int, is_told: bool) -> None:
        self.world.arrive(asset, count)
        if is_told:
            self.world.tell(asset)

    @rule(asset=st.sampled_from((*SOURCES, "u", "v", "r")), back=st.integers(0, 3), stirs=st.booleans())
    def a_head_is_told_late_or_again(self, asset: str, back: int, stirs: bool) -> None:
        head = self.world.heads.get(asset, Head())
        self.world.do(Landed(asset, Head(max(0, head.offset - back), head.generation), self.world.at, stirs))

    @rule(asset=st.sampled_from(SOURCES), is_told=st.booleans())
    def columns_change(self, asset: str, is_told: bool) -> None:
        head = self.world.heads.get(asset, Head())
        self.world.arrive(asset, 1, generation=head.generation + 1)
        if is_told:
            self.world.tell(asset)

    @precondition(lambda self: self.world.running)
    @rule(pick=picks)
    def a_run_commits(self, pick: int) -> None:
        self.world.finish(sorted(self.world.running)[pick % len(self.world.running)])

    @precondition(lambda self: self.world.running)
    @rule(pick=picks, failure=failures, jitter=st.sampled_from([0.0, 0.5, 1.0]))
    def a_run_fails(self, pick: int, failure: Failure, jitter: float) -> None:
        self.world.fail(sorted(self.world.running)[pick % len(self.world.running)], failure, jitter)

    @precondition(lambda self: self.world.looks)
    @rule(pick=picks)
    def a_look_sees_but_does_not_answer_yet(self, pick: int) -> None:
        name = self.world.looks[pick % len(self.world.looks)]
        self.seen[name] = self.world.see(name)

    @precondition(lambda self: self.world.looks)
    @rule(pick=picks)
    def a_look_answers(self, pick: int) -> None:
        name = self.world.looks[pick % len(self.world.looks)]
        self.world.answer(name, self.seen.pop(name, None))

    @rule(seconds=st.sampled_from([0.0, 1.0, 59.0, 61.0, 3_600.0, 90_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.world.tick(self.world.at + seconds)

    @precondition(lambda self: self.world.state.next_at() is not None)
    @rule()
    def the_next_moment_comes(self) -> None:
        self.world.tick()

    @rule(name=names)
    def a_person_pauses(self, name: str) -> None:
        self.world.pause(name)

    @rule(name=names)
    def a_person_resumes(self, name: str) -> None:
        self.world.resume(name)

    @rule(chosen=st.lists(names, max_size=2), is_forced=st.booleans())
    def a_person_runs(self, chosen: list[str], is_forced: bool) -> None:
        self.world.request(*chosen, is_forced=is_forced)

    @precondition(lambda self: not self.world.state.is_busy)
    @rule()
    def nothing_was_due_any_more(self) -> None:
        self.world.drained()

    @rule(name=names, pace=paces, is_other=st.booleans(), shape=st.integers(0, 1), is_paused=st.booleans())
    def a_definition_changes(
        self, name: str, pace: dict[str, Any], is_other: bool, shape: int, is_paused: bool
    ) -> None:
        self.version += is_other
        defined = self.made(name, pace, str(self.version), shape)
        self.world.define(defined, is_paused=is_paused, first_seen_at=self.world.at)

    @rule(name=names)
    def a_job_is_removed(self, name: str) -> None:
        self.world.remove(name)

    @rule()
    def the_world_goes_quiet(self) -> None:
        self.world.quiet()

    def teardown(self) -> None:
        self.world.quiet()


Projects.TestCase.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestProjects = Projects.TestCase

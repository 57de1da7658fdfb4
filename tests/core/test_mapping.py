"""The object mapping against a model that keeps nothing but the jobs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.core.jobs import job
from tidemill.core.errors import DefinitionError
from tidemill.core.mapping import ObjectMapping
from tidemill.core.model import Job, Place

ASSETS = ("a", "b", "c", "d", "e")
NAMES = ("J1", "J2", "J3", "J4")
some = st.lists(st.sampled_from(ASSETS), max_size=2, unique=True)
definitions = st.builds(
    lambda name, inputs, outputs, on: job(name, inputs, outputs, on=on),
    st.sampled_from(NAMES),
    some,
    some,
    st.sampled_from(("", "", *ASSETS)),
)


def edges(jobs: dict[str, Job]) -> set[tuple[str, str]]:
    """(producer, reader) for every asset between two jobs."""
    return {
        (producer.name, reader.name)
        for producer, reader in itertools.product(jobs.values(), repeat=2)
        if set(producer.outputs) & set(reader.inputs)
    }


def closure(jobs: dict[str, Job]) -> set[tuple[str, str]]:
    """Every (upper, lower) that a chain of edges joins."""
    found = edges(jobs)
    for middle, upper, lower in itertools.product(jobs, repeat=3):
        if (upper, middle) in found and (middle, lower) in found:
            found.add((upper, lower))
    return found


def is_legal(jobs: dict[str, Job]) -> bool:
    outputs = [asset for each in jobs.values() for asset in each.outputs]
    return len(outputs) == len(set(outputs)) and all(upper != lower for upper, lower in closure(jobs))


def shown(mapping: ObjectMapping) -> object:
    """All that can be asked of a mapping, without the order in which jobs came."""
    return (
        dict(mapping.jobs),
        {asset: sorted(mapping.concerned(asset)) for asset in ASSETS},
        {name: sorted(mapping.upstream(each)) for name, each in mapping.jobs.items()},
        dict(mapping.writer),
    )


class Mappings(RuleBasedStateMachine):
    """Jobs come, change and go; the mapping always says what the jobs say."""

    @initialize()
    def start(self) -> None:
        self.mapping = ObjectMapping()
        self.jobs: dict[str, Job] = {}

    @rule(definition=definitions)
    def add(self, definition: Job) -> None:
        wanted = {**self.jobs, definition.name: definition}
        if is_legal(wanted):
            self.mapping.add(definition)
            self.jobs = wanted
            return
        before = shown(self.mapping)
        with pytest.raises(DefinitionError):
            self.mapping.add(definition)
        assert shown(self.mapping) == before

    @rule(name=st.sampled_from(NAMES))
    def remove(self, name: str) -> None:
        self.mapping.remove(name)
        self.jobs.pop(name, None)

    @invariant()
    def says_what_the_jobs_say(self) -> None:
        mapping, jobs = self.mapping, self.jobs
        assert mapping.jobs == jobs
        for asset in ASSETS:
            concerned = list(mapping.concerned(asset))
            assert len(concerned) == len(set(concerned))
            assert set(concerned) == {each.name for each in jobs.values() if asset in (*each.inputs, each.on)}
        assert mapping.writer == {asset: each.name for each in jobs.values() for asset in each.outputs}
        reached = closure(jobs)
        for name, each in jobs.items():
            assert set(mapping.producers(each)) == {upper for upper, lower in edges(jobs) if lower == name}
            assert mapping.upstream(each) == {upper for upper, lower in reached if lower == name}
            assert mapping.downstream(name) == {lower for upper, lower in reached if upper == name}

    @invariant()
    def keeps_nothing_of_jobs_that_are_gone(self) -> None:
        assert set(self.mapping.readers) == {asset for each in self.jobs.values() for asset in each.inputs}
        assert set(self.mapping.starters) == {each.on for each in self.jobs.values() if each.on}


Mappings.TestCase.settings = settings(max_examples=150, stateful_step_count=20, deadline=None)
TestMappings = Mappings.TestCase


@given(st.lists(definitions, max_size=5, unique_by=lambda each: each.name))
def test_many_jobs_at_once_make_the_mapping_that_one_after_another_makes(jobs: list[Job]) -> None:
    if not is_legal({each.name: each for each in jobs}):
        with pytest.raises(DefinitionError):
            ObjectMapping.of(jobs)
        return
    one_by_one = ObjectMapping()
    for each in jobs:
        one_by_one.add(each)
    assert shown(ObjectMapping.of(jobs)) == shown(one_by_one)


def test_two_writers_are_refused_by_name_with_the_place_and_the_mend() -> None:
    mapping = ObjectMapping.of([job("first", ["a"], ["out"])])
    with pytest.raises(DefinitionError) as error:
        mapping.add(job("second", ["b"], ["out"], place=Place("second.sql", 1)))
    assert error.value.message == "`first` and `second` both write `out`"
    assert error.value.place == "second.sql:1"
    assert "one writer" in error.value.mend


def test_a_circle_is_told_in_the_direction_the_data_would_flow() -> None:
    mapping = ObjectMapping.of([job("one", ["a"], ["b"]), job("two", ["b"], ["c"])])
    with pytest.raises(DefinitionError) as error:
        mapping.add(job("three", ["c"], ["a"]))
    assert error.value.message in {
        "circular mapping: one -> two -> three -> one",
        "circular mapping: two -> three -> one -> two",
        "circular mapping: three -> one -> two -> three",
    }
    assert "what it writes" in error.value.mend


def test_a_job_that_reads_what_it_writes_is_a_circle() -> None:
    with pytest.raises(DefinitionError, match="circular mapping: self -> self"):
        ObjectMapping().add(job("self", ["a"], ["a"]))


def test_an_asset_may_start_the_job_that_writes_it() -> None:
    """`on` carries no rows, so it cannot close a circle."""
    mapping = ObjectMapping.of([job("j", ["a"], ["b"], on="b")])
    assert list(mapping.concerned("b")) == ["j"]


def test_a_definition_with_the_same_edges_takes_the_place_of_the_old_one() -> None:
    mapping = ObjectMapping.of([job("j", ["a"], ["b"]), job("k", ["a"], ["c"])])
    mapping.add(job("j", ["a"], ["b"], version="2"))
    assert mapping.jobs["j"].version == "2"
    assert list(mapping.concerned("a")) == ["j", "k"]


def test_a_refused_change_keeps_the_old_definition_where_it_was() -> None:
    mapping = ObjectMapping.of([job("j", ["a"], ["b"]), job("k", ["b"], ["c"])])
    with pytest.raises(DefinitionError):
        mapping.add(job("j", ["c"], ["b"]))
    assert mapping.jobs["j"].inputs == ("a",)
    assert mapping.upstream(mapping.jobs["k"]) == {"j"}


def test_a_long_chain_defined_from_its_end_costs_no_more_than_from_its_start() -> None:
    """The check for circles looks from both sides at once; a chain of this length would take minutes otherwise."""
    length = 20_000
    mapping = ObjectMapping()
    for index in reversed(range(length)):
        mapping.add(job(f"j{index}", [f"a{index}"], [f"a{index + 1}"]))
    with pytest.raises(DefinitionError, match="circular mapping"):
        mapping.add(job("back", [f"a{length}"], ["a0"]))
    assert len(mapping.jobs) == length

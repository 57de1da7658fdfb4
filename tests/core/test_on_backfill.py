"""Readers of what is being backfilled: they follow, or take it at once when it is over."""

from __future__ import annotations

import pytest

from tests.core.jobs import job
from tests.core.world import World
from tidemill.core.event import Backfilled
from tidemill.core.model import OnBackfill


def filling(word: OnBackfill) -> World:
    """A reader of a table and of another topic, while the table's job is backfilled."""
    world = World.of(job("u", ["s"], ["u"]), job("r", ["u", "t"], ["r"], on_backfill=word))
    world.quiet()
    world.do(Backfilled("u", world.at, is_going=True))
    return world


def test_who_follows_starts_on_each_slice() -> None:
    world = filling(OnBackfill.FOLLOW)
    assert world.land("u") == ["r"]
    world.quiet()
    assert world.land("u") == ["r"]


def test_who_coalesces_starts_once_when_it_is_over_whatever_else_came() -> None:
    world = filling(OnBackfill.COALESCE)
    assert [*world.land("u"), *world.land("u"), *world.land("t")] == []
    assert "waits for the backfill of `u` to end" in world.state.readiness("r", world.at).because[0]
    assert world.do(Backfilled("u", world.at, is_going=False)) == ["r"]


@pytest.mark.parametrize("word", OnBackfill)
def test_a_backfill_of_another_job_is_none_of_its_business(word: OnBackfill) -> None:
    world = filling(word)
    world.do(Backfilled("u", world.at, is_going=False))
    world.do(Backfilled("x", world.at, is_going=True))
    assert world.land("u") == ["r"]

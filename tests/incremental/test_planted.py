"""The histories find what they are for: every planted bug is caught, in a history that production itself survives."""

from __future__ import annotations

import pytest

from tests.incremental import planted_stages
from tests.incremental.history import Lost
from tests.incremental.planted import PLANTED, WrongBench
from tests.incremental.queries import Query, queries
from tests.incremental.sets import play

SEEDS = range(1, 4)


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_caught(bug: str) -> None:
    check_caught(bug, PLANTED[bug])


@pytest.mark.parametrize("bug", planted_stages.PLANTED)
def test_a_bug_planted_in_the_stages_is_caught(bug: str) -> None:
    check_caught(bug, planted_stages.PLANTED[bug])


def check_caught(bug: str, planted: type[WrongBench]) -> None:
    for query in [queries("market")[name] for name in planted.queries]:
        play("market", [query], SEEDS[0], paces=planted.paces)
        caught_by = next((seed for seed in SEEDS if is_lost(query, seed, planted)), None)
        assert caught_by is not None, f"{bug}: {query.name} does not show it in {len(SEEDS)} histories"


def is_lost(query: Query, seed: int, planted: type[WrongBench]) -> bool:
    try:
        play("market", [query], seed, paces=planted.paces, bench_type=planted)
    except Lost:
        return True
    return False

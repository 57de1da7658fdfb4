"""The sets of queries, each with its source: what tests, soak and the command line play."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.incremental.bench import MEMORY, Bench
from tests.incremental.history import BenchType, History, Report
from tests.incremental.market import market
from tests.incremental.queries import Query, queries
from tests.incremental.tables import Source
from tests.incremental.tpch import SCALE, Tpch

SETS = ("market", "chains", "tpch")
STEPS: Mapping[str, int] = {"market": 10, "chains": 10, "tpch": 6}


def source(name: str, seed: int, scale: float = SCALE) -> Source:
    """Where the rows of a set come from."""
    return Tpch(seed, scale) if name == "tpch" else market(seed)


def play(
    set_name: str,
    chosen: Sequence[Query],
    seed: int,
    *,
    paces: Sequence[str] = ("realtime", "microbatch"),
    steps: int = 0,
    path: str | Path = MEMORY,
    scale: float = SCALE,
    bench_type: BenchType = Bench,
) -> dict[str, Report]:
    """Play one history of these queries of a set. Raises Lost, or DefinitionError for a query that is refused."""
    history = History(
        source(set_name, seed, scale),
        chosen,
        random.Random(seed),
        steps or STEPS[set_name],
        paces,
        path,
        bench_type,
    )
    return history.play()


def with_needs(set_name: str, names: Sequence[str]) -> list[Query]:
    """The queries of these names, after those whose tables they read."""
    known = queries(set_name)
    found: dict[str, Query] = {}

    def add(name: str) -> None:
        for read in known[name].inputs:
            if read in known:
                add(read)
        found.setdefault(name, known[name])

    for name in names:
        add(name)
    return list(found.values())

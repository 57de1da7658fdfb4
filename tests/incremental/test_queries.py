"""After every change set the table of a query is what plain DuckDB answers to the query's own text.

The seed of a history is fixed, so that it can be asked not to be a poor one; the fuzzer and the histories of
test_paces.py have seeds nobody has tried before. One query alone, with other seeds, longer, or with its plan:
`python -m tests.incremental NAME --seed 7 --seeds 20 --plan`.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from tests.incremental.queries import Query, queries
from tests.incremental.sets import play

SEED = 1


def parameters(chosen: Iterable[Query]) -> list[object]:
    """Queries as parameters; those that the product is known to get wrong are expected to fail, and to be struck out."""
    return [
        pytest.param(
            query,
            id=query.name,
            marks=[pytest.mark.xfail(reason=query.defect, strict=True)] if query.defect else [],
        )
        for query in chosen
    ]


@pytest.mark.parametrize("query", parameters(queries("market").values()))
def test_a_table_is_its_query_after_every_change_set(query: Query) -> None:
    play("market", [query], SEED)[query.name].check(query)


@pytest.mark.parametrize("query", parameters(queries("tpch").values()))
def test_tpch_is_maintained(query: Query) -> None:
    play("tpch", [query], SEED)[query.name].check(query)


def test_jobs_that_read_each_others_tables_are_maintained_by_what_those_publish() -> None:
    chained = list(queries("chains").values())
    reports = play("chains", chained, SEED)
    for query in chained:
        reports[query.name].check(query)


def test_the_sets_are_as_large_as_promised() -> None:
    assert len(queries("tpch")) == 22
    assert len(queries("market")) + len(queries("chains")) > 200
    assert sum(bool(query.defect) for name in ("market", "chains", "tpch") for query in queries(name).values()) == 0

"""Types that may take another's place, and what values tell."""

from __future__ import annotations

from decimal import Decimal
from itertools import product

import pytest

from tidemill.core.model import Asset, AssetKind, Column
from tidemill.core.schema import Policy, is_wider, lost, policy_of, type_of, wider_types

TYPES = (
    "tinyint smallint integer bigint hugeint utinyint usmallint uinteger ubigint uhugeint float double varchar uuid json "
    "timestamp timestamp_s timestamp_ms timestamp_ns boolean date decimal(5,2) decimal(9,2) decimal(9,4) decimal(4,3)"
).split()


def test_to_be_wider_holds_for_itself_goes_on_and_never_goes_back() -> None:
    for one, two, three in product(TYPES, repeat=3):
        assert is_wider(one, one)
        if is_wider(one, two) and is_wider(two, three):
            assert is_wider(one, three), (one, two, three)
        if one != two and is_wider(one, two):
            assert not is_wider(two, one)


@pytest.mark.parametrize(
    ("old", "new", "holds"),
    [
        ("integer", "double", True),
        ("bigint", "double", False),  # 2**53 + 1 has no place there
        ("decimal(5,2)", "decimal(9,4)", True),
        ("decimal(5,2)", "decimal(5,4)", False),
        ("enum('a','b')", "varchar", True),
        ("timestamp", "timestamp_ns", True),
        ("integer", "varchar", False),
    ],
)
def test_a_type_is_wider_where_no_value_is_lost(old: str, new: str, holds: bool) -> None:
    assert is_wider(old, new) is holds
    assert (new in wider_types(old)) is (holds and not new.startswith("decimal"))


def test_what_a_shape_loses_is_the_first_column_without_room() -> None:
    before = (Column("a", "integer"), Column("b", "varchar"), Column("c", "bigint"))
    assert lost(before, (*before, Column("d", "date"))) is None
    assert lost(before, (Column("a", "bigint"), Column("c", "bigint"))) == before[1]
    assert lost(before, (Column("a", "bigint"), Column("b", "varchar"), Column("c", "integer"))) == before[2]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ([], "varchar"),
        ([None, True], "boolean"),
        ([1, None, 2], "bigint"),
        ([1, 1 << 63], "hugeint"),
        ([1, 1.5], "double"),
        ([Decimal("1.5")], "double"),
        (["a"], "varchar"),
        (["a", 1], "json"),
        ([True, 1], "json"),
        ([{"x": 1}], "json"),
        ([[1]], "json"),
    ],
)
def test_a_type_is_told_by_all_values(values: list[object], told: str) -> None:
    assert type_of(values) == told


def test_files_are_strict_and_topics_leave_out_unless_they_say_otherwise() -> None:
    assert policy_of(Asset("f", AssetKind.FILES)) is Policy.STRICT
    assert policy_of(Asset("t", AssetKind.TOPIC)) is Policy.IGNORE
    assert policy_of(Asset("t", AssetKind.TOPIC, options={"schema": "evolve"})) is Policy.EVOLVE

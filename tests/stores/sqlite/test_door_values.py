"""What the door does with each kind of value: taken as it is, cast without loss, or refused (rule 7)."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pytest

from tests.stores.sqlite.ledger import ndjson, stored, topic, values
from tidemill.core.errors import DefinitionError
from tidemill.core.model import Column
from tidemill.stores.sqlite import SQLiteStore

REFUSED = "refused: no such value"
BIG = 10**37


def moment(*parts: int) -> dt.datetime:
    return dt.datetime(*parts)  # type: ignore[arg-type] # noqa: DTZ001 - the column has no zone


# type, JSON as sent -> the value in the column, or refused; with a third part: the JSON as stored.
CASES: list[tuple[Any, ...]] = [
    ("integer", "5", 5),
    ("integer", '"5"', 5, "5"),
    ("integer", "5.0", 5, "5"),
    ("integer", "5e0", 5, "5"),
    ("integer", '" 5 "', 5, "5"),
    ("integer", '"5.0"', 5, "5"),
    ("integer", "5.7", REFUSED),
    ("integer", '"5.7"', REFUSED),
    ("integer", '"five"', REFUSED),
    ("integer", '""', REFUSED),
    ("integer", '"1_000"', REFUSED),
    ("integer", '"٣"', REFUSED),
    ("integer", "true", REFUSED),
    ("integer", "[5]", REFUSED),
    ("integer", "2147483647", 2**31 - 1),
    ("integer", "2147483648", REFUSED),
    ("integer", "1e400", REFUSED),
    ("integer", "null", None),
    ("tinyint", "-129", REFUSED),
    ("utinyint", "255", 255),
    ("utinyint", "-1", REFUSED),
    ("utinyint", "-0.0", 0, "0"),
    ("bigint", "9223372036854775807", 2**63 - 1),
    ("bigint", '"9223372036854775807"', 2**63 - 1, "9223372036854775807"),
    ("bigint", "9223372036854775808", REFUSED),
    ("bigint", "9007199254740993.0", 2**53 + 1, "9007199254740993"),
    ("ubigint", "18446744073709551615", 2**64 - 1),
    ("ubigint", "18446744073709551616", REFUSED),
    ("hugeint", str(BIG), Decimal(BIG)),
    ("hugeint", "-5", Decimal(-5)),
    ("hugeint", "1" + "0" * 38, REFUSED),
    ("double", "1", 1.0),
    ("double", "0.1", 0.1),
    ("double", '"0.1"', 0.1, "0.1"),
    ("double", '"NaN"', REFUSED),
    ("double", '"Infinity"', REFUSED),
    ("double", "1e400", REFUSED),
    ("double", "false", REFUSED),
    ("float", "0.5", 0.5),
    ("float", "1e39", REFUSED),
    ("boolean", "true", True),
    ("boolean", '"False"', False, "false"),
    ("boolean", "1", REFUSED),
    ("varchar", '"x"', "x"),
    ("varchar", '"\\u0000x"', "\x00x"),
    ("varchar", '"\\ud83d\\ude00"', "😀"),
    ("varchar", "5", "5", '"5"'),
    ("varchar", "12345678901234567890123", "12345678901234567890123", '"12345678901234567890123"'),
    ("varchar", "1.50", REFUSED),
    ("varchar", "true", REFUSED),
    ("varchar", "{}", REFUSED),
    ("decimal(10,2)", "1.5", Decimal("1.50")),
    ("decimal(10,2)", '"1.50"', Decimal("1.50")),
    ("decimal(10,2)", "1.500", Decimal("1.50")),
    ("decimal(10,2)", "1e2", Decimal("100.00")),
    ("decimal(10,2)", "1.505", REFUSED),
    ("decimal(10,2)", "99999999.99", Decimal("99999999.99")),
    ("decimal(10,2)", "100000000", REFUSED),
    ("decimal(10,2)", "1e999999999", REFUSED),
    ("decimal(10,2)", "1e-999999999", REFUSED),
    ("decimal(38,4)", "1234567890123456789012345678901234.5678", Decimal("1234567890123456789012345678901234.5678")),
    ("uuid", '"6a6c1f5e-8f0c-4b5e-9d7f-1f1f1f1f1f1f"', "6a6c1f5e-8f0c-4b5e-9d7f-1f1f1f1f1f1f"),
    (
        "uuid",
        '"6A6C1F5E8F0C4B5E9D7F1F1F1F1F1F1F"',
        "6a6c1f5e-8f0c-4b5e-9d7f-1f1f1f1f1f1f",
        '"6a6c1f5e-8f0c-4b5e-9d7f-1f1f1f1f1f1f"',
    ),
    ("uuid", '"nope"', REFUSED),
    ("blob", '"AAEC"', b"\x00\x01\x02"),
    ("blob", '"A"', REFUSED),
    ("json", '{"a": [1.10, null]}', '{"a": [1.10, null]}'),
    ("json", '"text"', '"text"'),
    ("json", "null", None),
    ("enum('a', 'b')", '"a"', "a"),
    ("enum('a', 'b')", '"c"', REFUSED),
    ("date", '"2024-02-29"', dt.date(2024, 2, 29)),
    ("date", '"2023-02-29"', REFUSED),
    ("date", '"2024-02-29T00:00:00"', dt.date(2024, 2, 29), '"2024-02-29"'),
    ("date", '"2024-02-29T10:00:00"', REFUSED),
    ("time", '"10:11:12.5"', dt.time(10, 11, 12, 500_000)),
    ("time", '"10:11"', dt.time(10, 11), '"10:11:00"'),
    ("time", '"10:11:12Z"', REFUSED),
    ("time", '"10:11:12.1234567"', REFUSED),
    ("integer[]", "[1, null, 3]", [1, None, 3]),
    ("integer[]", '[1, "2"]', [1, 2], "[1,2]"),
    ("integer[]", "[1.5]", REFUSED),
    ("integer[2]", "[1]", REFUSED),
    ("integer[2]", "[1, 2]", [1, 2]),
    ("decimal(5,1)[]", '[1.5, "2"]', [Decimal("1.5"), Decimal("2.0")]),
    ("struct(a integer, b varchar[])", '{"b": ["x"], "c": 1}', {"a": None, "b": ["x"]}),
    ("struct(a integer)", '{"a": "1", "c": 1}', {"a": 1}, '{"a":1,"c":1}'),
    ("struct(a integer)", '{"a": "x"}', REFUSED),
    ("struct(a timestamp)", '{"a": "2024-01-01T00:00:00+01:00"}', {"a": moment(2023, 12, 31, 23)}),
    ("map(varchar, integer)", '{"x": 1, "y": null}', [("x", 1), ("y", None)]),
    ("map(integer, date)", '{"7": "2024-01-01"}', [(7, dt.date(2024, 1, 1))]),
    ("map(integer, date)", '{"x": "2024-01-01"}', REFUSED),
    ("json[]", '[{"a": 1}, null]', ['{"a": 1}', None]),
]

# Offsets, daylight saving and digits: (type, text) -> the moment in UTC, or refused.
MOMENTS: list[tuple[str, str, Any]] = [
    ("timestamp", "2026-03-29T01:59:59+01:00", moment(2026, 3, 29, 0, 59, 59)),
    ("timestamp", "2026-03-29T03:00:00+02:00", moment(2026, 3, 29, 1)),
    ("timestamp", "2026-10-25T02:30:00+02:00", moment(2026, 10, 25, 0, 30)),
    ("timestamp", "2026-10-25T02:30:00+01:00", moment(2026, 10, 25, 1, 30)),
    ("timestamp", "2026-10-25T02:30:00", moment(2026, 10, 25, 2, 30)),
    ("timestamp", "2026-01-01T00:00:00+05:45", moment(2025, 12, 31, 18, 15)),
    ("timestamp", "2026-01-01T00:00:00-0930", moment(2026, 1, 1, 9, 30)),
    ("timestamp", "2026-01-01T00:00:00+14", moment(2025, 12, 31, 10)),
    ("timestamp", "2026-01-01 00:00:00Z", moment(2026, 1, 1)),
    ("timestamp", "2026-01-01t00:00:00z", moment(2026, 1, 1)),
    ("timestamp", "2026-01-01", moment(2026, 1, 1)),
    ("timestamp", "2026-01-01T10:30", moment(2026, 1, 1, 10, 30)),
    ("timestamp", "2024-02-29T23:59:59.999999Z", moment(2024, 2, 29, 23, 59, 59, 999_999)),
    ("timestamp", "2026-01-01T00:00:00.1234560Z", moment(2026, 1, 1, 0, 0, 0, 123_456)),
    ("timestamp", "2026-01-01T00:00:00.1234567Z", REFUSED),
    ("timestamp", "2026-01-01T00:00:00.9999999Z", REFUSED),
    ("timestamp", "2026-02-30T00:00:00", REFUSED),
    ("timestamp", "2026-01-01T24:00:01", REFUSED),
    ("timestamp", "2026-06-30T23:59:60Z", REFUSED),
    ("timestamp", "0001-01-01T00:00:00+02:00", REFUSED),
    ("timestamp", "9999-12-31T23:59:59-02:00", REFUSED),
    ("timestamp", "0001-01-01T00:00:00Z", moment(1, 1, 1)),
    ("timestamp", "yesterday", REFUSED),
    ("timestamptz", "2026-10-25T02:30:00+01:00", moment(2026, 10, 25, 1, 30)),
    ("timestamptz", "2026-10-25T02:30:00", moment(2026, 10, 25, 2, 30)),
    ("timestamptz", "2026-01-01", moment(2026, 1, 1)),
    ("timestamp_s", "2026-01-01T00:00:05+01:00", moment(2025, 12, 31, 23, 0, 5)),
    ("timestamp_s", "2026-01-01T00:00:05.5", REFUSED),
    ("timestamp_ms", "2026-01-01T00:00:05.125", moment(2026, 1, 1, 0, 0, 5, 125_000)),
    ("timestamp_ms", "2026-01-01T00:00:05.1255", REFUSED),
    ("timestamp_ns", "2026-01-01T00:00:05.125", moment(2026, 1, 1, 0, 0, 5, 125_000)),
    ("timestamp_ns", "2026-01-01T00:00:05.1234567891", REFUSED),
]


def through_the_door(kind: str, *lines: str) -> tuple[list[Any], list[str]]:
    store = SQLiteStore()
    try:
        store.append(topic(Column("x", kind)), ndjson(*lines))
        return [row["x"] for row in values(store)], stored(store) if values(store) else []
    finally:
        store.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1][:24]}")
def test_a_value_is_taken_cast_or_refused(case: tuple[Any, ...]) -> None:
    kind, sent, expected, *rewritten = case
    line = f'{{ "x": {sent} }}'
    found, lines = through_the_door(kind, line)
    if expected is REFUSED:
        assert found == []
    else:
        assert found == [expected]
        assert type(found[0]) is type(expected)
        assert lines == [f'{{"x":{rewritten[0]}}}' if rewritten else line]


@pytest.mark.parametrize(("kind", "text", "expected"), MOMENTS, ids=lambda part: str(part)[:32])
def test_a_moment_is_kept_exactly_or_refused(kind: str, text: str, expected: Any) -> None:
    found, _ = through_the_door(kind, f'{{"x":"{text}"}}')
    if expected is REFUSED:
        assert found == []
    elif kind == "timestamptz":
        assert [each.astimezone(dt.UTC).replace(tzinfo=None) for each in found] == [expected]
    else:
        assert found == [expected]


def test_many_rows_decode_as_few_do() -> None:
    """Both decoders, over every value that passes, in blocks of one spelling and of several."""
    for kind in dict.fromkeys([case[0] for case in CASES] + [case[0] for case in MOMENTS]):
        sent = [f'{{"x":{case[1]}}}' for case in CASES if case[0] == kind and case[2] is not REFUSED]
        sent += [f'{{"x":"{case[1]}"}}' for case in MOMENTS if case[0] == kind and case[2] is not REFUSED]
        few = [through_the_door(kind, line)[0][0] for line in sent]
        many, _ = through_the_door(kind, *(line for line in sent for _ in range(300)))
        assert many == [value for value in few for _ in range(300)], kind


@pytest.mark.parametrize("kind", ["nonsense", "decimal(39,1)", "decimal(3,4)", "integer[", "struct()", "enum(a)", ""])
def test_an_unknown_type_is_refused_by_name(kind: str) -> None:
    with pytest.raises(DefinitionError, match="not known at the door"):
        through_the_door(kind, "{}")


@pytest.mark.parametrize(
    ("name", "same"),
    [
        ("INT", "integer"),
        ("text", "varchar"),
        ("VARCHAR(20)", "varchar"),
        ("timestamp with time zone", "timestamptz"),
        ("DECIMAL(5, 1)", "decimal(5,1)"),
    ],
)
def test_types_go_by_all_their_names(name: str, same: str) -> None:
    line = {"varchar": '"a"', "timestamptz": '"2026-01-01T00:00:00Z"'}.get(same, "1")
    assert through_the_door(name, f'{{"x":{line}}}') == through_the_door(same, f'{{"x":{line}}}')


def test_columns_may_have_any_name() -> None:
    store = SQLiteStore()
    names = ("select", "a b", 'q"q', "back\\slash", "it's", "ü", "_x", "c0", "")
    asset = topic(*(Column(name, "integer") for name in names))
    store.append(asset, ndjson({name: str(place) for place, name in enumerate(names)}))
    assert values(store) == [{name: place for place, name in enumerate(names)}]
    store.close()

"""Ranges of columns: declared with the asset, checked at the door and in files, told with row, column and reason."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.door.conftest import Front, served
from tests.e2e.conftest import Project, ran
from tests.stores.sqlite.ledger import ndjson
from tidemill.core.model import Asset, AssetKind, Column, Range
from tidemill.core.schema import SchemaDrift
from tidemill.project.loading import load
from tidemill.stores.sqlite import SQLiteStore
from tidemill.stores.sqlite.contract import Contract

COLUMNS = """id = "varchar"
percent = {type = "integer", minimum = 0, maximum = 100}
price = {type = "decimal(10,2)", minimum = 0.01, required = true}
ratio = {type = "double", maximum = 1}
day = {type = "date", minimum = 2020-01-01, maximum = "2030-12-31"}
at = {type = "timestamp", minimum = 2020-01-01T00:00:00Z}
hour = {type = "time", maximum = "18:00"}
state = "enum('new', 'paid')"
"""
PROJECT = f"""
[assets.sales]
kind = "topic"
id = "id"
[assets.sales.columns]
{COLUMNS}
[assets.growing]
kind = "topic"
schema = "evolve"
[assets.growing.columns]
n = {{type = "integer", minimum = 10}}
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    with served(tmp_path_factory.mktemp("ranges") / "project", PROJECT) as front:
        yield front


def sale(id_: str, **more: Any) -> dict[str, Any]:
    return {"id": id_, "price": 1, **more}


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("percent", -1, "-1 is less than the minimum 0"),
        ("percent", "101", '"101" is more than the maximum 100'),
        ("percent", 100.0, ""),
        ("percent", 0, ""),
        ("percent", None, ""),
        ("percent", 5.5, "not a lossless integer"),
        ("price", 0.01, ""),
        ("price", "0.010", ""),
        ("price", 0, "0 is less than the minimum 0.01"),
        ("ratio", 1, ""),
        ("ratio", 1.0000000000000002, "1.0000000000000002 is more than the maximum 1"),
        ("day", "2019-12-31", '"2019-12-31" is less than the minimum 2020-01-01'),
        ("day", "2031-01-01T00:00:00", "more than the maximum 2030-12-31"),
        ("day", "2030-12-31", ""),
        ("at", "2020-01-01T00:30:00+01:00", "less than the minimum 2020-01-01T00:00:00"),
        ("at", "2020-01-01T01:00:00+01:00", ""),
        ("hour", "18:00:00.000001", "more than the maximum 18:00"),
        ("hour", "18:00:00", ""),
        ("state", "gone", "it must be one of new, paid"),
        ("state", "paid", ""),
    ],
)
def test_a_value_beyond_its_range_is_parked_with_its_column_and_reason(
    shop: Front, column: str, value: object, reason: str
) -> None:
    event = sale(f"{column} {value}", **{column: value})
    answer = shop.post("sales", [sale(f"before {column} {value}"), event])
    assert answer.json["accepted"] == (1 if reason else 2), answer.json
    if reason:
        (result,) = answer.json["results"]
        assert (result["index"], result["column"], result["status"]) == (1, column, "parked")
        assert reason in result["reason"]


def test_a_batch_that_is_to_be_taken_whole_is_refused_for_one_value(shop: Front) -> None:
    answer = shop.post("sales", [sale("s1"), sale("s2", percent=200)], Prefer="handling=strict")
    assert (answer.status, answer.json["results"][0]["column"]) == (422, "percent")
    assert shop.rows("select * from sales where id in ('s1', 's2')") == []


def test_a_type_that_is_widened_keeps_its_range_and_a_refused_event_adds_nothing(shop: Front) -> None:
    assert shop.post("growing", {"n": 5_000_000_000}).json["accepted"] == 1
    answer = shop.post("growing", [{"n": -5_000_000_000_000_000_000_000, "new": 1}, {"n": 9, "other": 1}])
    assert [each["column"] for each in answer.json["results"]] == ["n", "n"]
    shown = shop.ask("GET", "/v1/assets/growing").json
    assert (shown["columns"], shown["ranges"]) == ({"n": "bigint"}, {"n": {"minimum": 10}})


def test_the_ranges_can_be_asked_for(shop: Front) -> None:
    ranges = shop.ask("GET", "/v1/assets/sales").json["ranges"]
    assert ranges["percent"] == {"minimum": 0, "maximum": 100}
    assert ranges["price"] == {"minimum": "0.01"}
    assert ranges["day"] == {"minimum": "2020-01-01", "maximum": "2030-12-31"}


@given(
    st.lists(st.integers(-5, 15) | st.decimals(-5, 15, places=1) | st.none(), min_size=1, max_size=6),
    st.integers(-3, 5),
    st.integers(5, 12),
)
def test_many_events_are_judged_as_each_alone(values: list[Any], low: int, high: int) -> None:
    asset = Asset("t", AssetKind.TOPIC, (Column("n", "decimal(4,1)"),), ranges={"n": Range(low, high)})
    lines = [json.dumps({"n": None if value is None else float(value)}).encode() for value in values]
    checked = Contract(asset).check(b"\n".join(lines))
    good = [place for place, value in enumerate(values) if value is None or low <= value <= high]
    assert [checked.place(number) for number in range(checked.count)] == good
    assert [each.index for each in checked.refusals] == [n for n in range(len(values)) if n not in good]


def test_a_range_that_is_declared_later_counts_from_then_on() -> None:
    store = SQLiteStore()
    plain = Asset("t", AssetKind.TOPIC, (Column("n", "integer"),))
    ranged = Asset("t", AssetKind.TOPIC, plain.columns, ranges={"n": Range(1)})
    assert store.append(plain, ndjson({"n": 0})).accepted == 1
    assert store.append(ranged, ndjson({"n": 0}, {"n": 1})).accepted == 1
    assert store.append(plain, ndjson({"n": 0})).head == 3
    assert len(store.schemas("t")) == 1
    evolving = replace(ranged, options={"schema": "evolve"})
    with pytest.raises(SchemaDrift) as drift:
        store.append(evolving, ndjson({"n": 0, "x": 1}, {"n": 1, "y": 1}))
    assert [column.name for column in drift.value.columns] == ["n", "y"]
    store.close()


# Their words.


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("n = {type = 'integer', minimum = 'x'}", 'column n: "x" is not a lossless integer'),
        ("n = {type = 'integer', minimum = 0.5}", "column n: 0.5 is not a lossless integer: it has a fraction"),
        ("n = {type = 'integer', minimum = true}", "column n: True is not a number and not a time"),
        ("n = {type = 'integer', minimum = 5, maximum = 4}", "column n: the minimum 5 is more than the maximum 4"),
        ("n = {type = 'varchar', maximum = 4}", "column n: a varchar has no minimum and no maximum"),
        ("n = {type = 'date', maximum = 4}", "column n: 4 is not a lossless date"),
        ("n = {type = 'integer', minimun = 4}", "column n has no minimun (did you mean minimum?)"),
        ("n = {minimum = 4}", "column n has no type; write n = {type = "),
    ],
)
def test_a_wrong_range_is_a_problem_with_its_place(tmp_path: Path, line: str, message: str) -> None:
    text = f'[project]\nname = "p"\n\n[assets.t]\nkind = "topic"\n[assets.t.columns]\n{line}\n'
    (tmp_path / "tidemill.toml").write_text(text)
    [problem] = load(tmp_path).problems
    assert message in problem.message
    assert problem.place.startswith("tidemill.toml:")


def test_what_a_job_makes_has_no_range(tmp_path: Path) -> None:
    text = "[assets.t]\nkind = 'table'\n[assets.t.columns]\nn = {type = 'integer', minimum = 1}\n"
    (tmp_path / "tidemill.toml").write_text(f'[project]\nname = "p"\n\n{text}')
    [problem] = load(tmp_path).problems
    assert "minimum is for topics and files; of what a job makes, the job asserts it" in problem.message


def test_bounds_are_exactly_what_is_written(tmp_path: Path) -> None:
    columns = "a = {type = 'decimal(9,2)', minimum = 0.10}\nb = {type = 'timestamp', maximum = 2020-01-01}\n"
    text = f'[project]\nname = "p"\n\n[assets.t]\nkind = "topic"\n[assets.t.columns]\n{columns}'
    (tmp_path / "tidemill.toml").write_text(text)
    loaded = load(tmp_path)
    assert loaded.problems == []
    assert loaded.assets["t"].ranges == {"a": Range(Decimal("0.1")), "b": Range(None, dt.date(2020, 1, 1).isoformat())}


# In files.

FILES = """[project]
name = "files"
[assets.landed]
kind = "files"
path = "landing/{name}"
format = "%s"
[assets.landed.columns]
n = {type = "integer", minimum = 1, maximum = 9}
at = {type = "timestamp", minimum = 2020-01-01}
"""


@pytest.mark.parametrize(
    ("format_", "good", "bad", "where"),
    [
        ("csv", "n,at\n1,2020-01-01\n9,\n", 'n,at\n1,"2021-01-01"\n,\n10,\n', "bad:4: column n is 10"),
        ("ndjson", '{"n": 1}\n{"n": null}\n', '{"n": 1}\n\n{"n": 0}\n', "bad:3: column n is 0"),
        ("json", '[{"n": 1}, {"n": 9}]', '[{"n": 1}, {"at": "2019-12-31"}]', "row 2: column at is 2019-12-31 00:00:00"),
    ],
)
def test_a_file_with_a_value_beyond_its_range_is_rejected_whole_with_its_place(
    project: Project, format_: str, good: str, bad: str, where: str
) -> None:
    project.write({"tidemill.toml": FILES % format_, "landing/good": good, "landing/bad": bad})
    with project.open() as mill:
        ran(mill)
        assert mill.query("select distinct name from landed") == [{"name": "good"}]
        (letter,) = mill.dead()
        assert where in letter["reason"]

"""The right answers are not trivial, and a comparison sees every difference."""

import tomllib
from collections import Counter
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tidemill.demo import oracle, timeline

ONE = {"day": date(2013, 1, 1), "site": "EWR", "mean": Decimal("36.8"), "flights": 305}
TWO = {"day": date(2013, 1, 1), "site": "JFK", "mean": None, "flights": 297}
TABLE = pa.Table.from_pylist([ONE, TWO])


def rows(january: Any, job: str) -> list[dict[str, Any]]:
    return january.expected[job].to_pylist()


def test_every_job_of_the_project_has_an_answer_and_a_key(january: Any):
    jobs = {path.stem for path in (oracle.PROJECT / "jobs").iterdir() if path.suffix in {".sql", ".py"}}
    assert set(january.expected) == set(oracle.JOBS) == set(oracle.KEYS) == jobs


def test_the_answers_are_not_trivial(january: Any):
    assert {job: table.num_rows for job, table in january.expected.items()} == {
        "flight_state": 27_004,
        "delay_by_carrier": 460,
        "late_flights": 1_899,
        "fleet_usage": 3_141,
        "daily_operations": 93,
        "daily_report": 31,
    }


def test_the_keys_identify_the_rows(january: Any):
    for job, key in oracle.KEYS.items():
        assert len({tuple(row[name] for name in key) for row in rows(january, job)}) == january.expected[job].num_rows


def test_flights_end_landed_cancelled_or_diverted(january: Any):
    states = Counter(row["state"] for row in rows(january, "flight_state"))
    assert states == {"landed": 26_468, "cancelled": 521, "departed": 15}


def test_the_state_agrees_with_the_flights_file(january: Any):
    """Independent of events: sums straight from the file."""
    flights = list(january.dataset.flights())
    arrivals = [int(row["arr_delay"]) for row in flights if row["arr_delay"] != "NA"]
    state = rows(january, "flight_state")
    assert sum(row["arr_delay"] or 0 for row in state) == sum(arrivals)
    by_carrier = rows(january, "delay_by_carrier")
    assert sum(row["delay_minutes"] for row in by_carrier) == sum(max(delay, 0) for delay in arrivals)
    assert sum(row["arrived"] for row in by_carrier) == len(arrivals)
    assert len(rows(january, "late_flights")) == sum(delay >= 60 for delay in arrivals)


def test_aircraft_that_the_registry_does_not_know_stay_visible(january: Any):
    unknown = [row for row in rows(january, "fleet_usage") if not row["is_known"]]
    assert len(unknown) == 536  # of 539: the others never left
    assert all(row["manufacturer"] is None and row["flights"] for row in unknown)


def test_the_report_holds_the_corrected_temperature(january: Any):
    (corrected,) = (
        row for row in rows(january, "daily_operations") if (row["origin"], row["date"]) == ("LGA", date(2013, 1, 15))
    )
    assert corrected["temp_max"] < 100


def test_a_day_without_all_three_weather_files_is_not_released(january: Any, tmp_path: Path):
    kept = [moment for moment in january.moments if moment.path != "landing/weather/JFK/2013-01-10.csv"]
    found = oracle.expected(oracle.write_raw(kept, tmp_path))
    assert date(2013, 1, 10) not in found["daily_operations"].column("date").to_pylist()
    assert found["daily_operations"].num_rows == 90
    assert found["flight_state"].num_rows == 27_004


def test_the_project_declares_the_columns_that_events_and_files_have(january: Any):
    assets = tomllib.loads((oracle.PROJECT / "tidemill.toml").read_text())["assets"]
    declared = {name: list(assets[name]["columns"]) for name in ("flight_events", "weather", "planes")}
    titles = {m.asset: m.payload.decode().splitlines()[0].split(",") for m in january.moments if m.kind == "file"}
    assert all(list(event) == declared["flight_events"] for event in january.events)
    assert ["origin", "date", *titles["weather"]] == declared["weather"]
    assert titles["planes"] == declared["planes"]


def test_equal_bags_are_equal_whatever_the_order_and_the_carrier_of_the_rows():
    assert oracle.compare(pa.Table.from_pylist([TWO, ONE]), TABLE).equal
    as_json = [{"day": "2013-01-01", "site": "EWR", "mean": "36.80", "flights": 305}, TWO | {"day": "2013-01-01"}]
    assert oracle.compare(as_json, TABLE, key=("day", "site")).equal


@pytest.mark.parametrize(
    ("actual", "missing", "extra", "different"),
    [
        ([ONE], 1, 0, 0),
        ([], 2, 0, 0),
        ([ONE, TWO, TWO], 0, 1, 0),
        ([ONE, TWO | {"flights": 298}], 0, 0, 1),
        ([ONE, TWO | {"mean": Decimal("0.0")}], 0, 0, 1),
        ([ONE | {"mean": Decimal("36.84")}, TWO], 0, 0, 1),
        ([ONE, TWO | {"site": "LGA"}], 1, 1, 0),
    ],
)
def test_a_comparison_counts_missing_extra_and_different_rows(
    actual: list[dict[str, Any]], missing: int, extra: int, different: int
):
    found = oracle.compare(actual, TABLE, key=("day", "site"))
    assert (found.missing, found.extra, found.different) == (missing, extra, different)
    assert not found.equal


def test_a_table_with_other_columns_is_refused_by_name():
    with pytest.raises(ValueError, match="site"):
        oracle.compare([{"day": date(2013, 1, 1)}], TABLE)


def test_the_hash_forgets_order_and_integer_width_and_nothing_else():
    wide = TABLE.set_column(3, "flights", TABLE.column("flights").cast(pa.int16()))
    same = {oracle.table_hash(table) for table in (TABLE, wide, pa.Table.from_pylist([TWO, ONE]), [TWO, ONE])}
    assert len(same) == 1
    others = [[ONE], [ONE, ONE], [ONE, TWO | {"flights": 1}], [ONE, TWO | {"mean": Decimal("0.0")}], []]
    assert len({oracle.table_hash(rows_) for rows_ in others} | same) == 6


def test_the_final_version_of_a_file_is_the_one_that_counts(january: Any):
    landed = [m for m in january.moments if m.path == "landing/weather/LGA/2013-01-15.csv"]
    assert isinstance(landed[-1], timeline.Moment)
    assert (january.raw / landed[-1].path).read_bytes() == landed[-1].payload != landed[0].payload

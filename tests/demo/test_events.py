"""Flights become events with the right instants, identities and nulls."""

import itertools
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.demo import events, source

AIRPORTS = [
    {"faa": "MIA", "tzone": "America/New_York"},
    {"faa": "LAX", "tzone": "America/Los_Angeles"},
    {"faa": "XXX", "tzone": "\\N"},
]
CLOCKS = events.zones(AIRPORTS)


def row(**given_: str) -> dict[str, str]:
    """A flight of the night in which New York's clocks go back, unless said otherwise."""
    usual = {"year": "2013", "month": "11", "day": "3", "dep_time": "130", "sched_dep_time": "130", "dep_delay": "0"}
    usual |= {"arr_time": "430", "sched_arr_time": "430", "arr_delay": "0", "carrier": "UA", "flight": "1"}
    usual |= {"tailnum": "N1", "origin": "EWR", "dest": "MIA", "air_time": "150", "distance": "1085"}
    return usual | {"hour": "1", "minute": "30", "time_hour": "2013-11-03T05:00:00Z"} | given_


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[arg-type, misc]


def kinds(*rows: dict[str, str]) -> list[str]:
    return [event.kind for event in events.flight_events(rows, AIRPORTS)]


@pytest.mark.parametrize(("time_hour", "hour"), [("2013-11-03T05:00:00Z", 5), ("2013-11-03T06:00:00Z", 6)])
def test_the_two_half_past_ones_of_the_autumn_night_are_an_hour_apart(time_hour: str, hour: int):
    flight = events.flight_of(row(time_hour=time_hour), CLOCKS)
    assert flight.scheduled_at == flight.departed_at == utc(2013, 11, 3, hour, 30)


@pytest.mark.parametrize(
    ("schedule", "delay", "departed"),
    [
        (("0", "50", "2013-11-03T04:00:00Z"), "25", utc(2013, 11, 3, 5, 15)),  # still in summer time
        (("1", "30", "2013-11-03T06:00:00Z"), "-5", utc(2013, 11, 3, 6, 25)),  # already in the second 01:25
        (("0", "50", "2013-11-03T04:00:00Z"), "80", utc(2013, 11, 3, 7, 10)),  # 02:10 on the wall: 140 minutes later
    ],
)
def test_a_delay_is_read_from_the_wall_clock_across_the_clock_change(
    schedule: tuple[str, str, str], delay: str, departed: datetime
):
    hour, minute, time_hour = schedule
    given_ = row(hour=hour, minute=minute, time_hour=time_hour, dep_delay=delay, arr_time="600")
    assert events.flight_of(given_, CLOCKS).departed_at == departed


@pytest.mark.parametrize(("air_time", "landed"), [("60", utc(2013, 11, 3, 5, 40)), ("130", utc(2013, 11, 3, 6, 40))])
def test_a_landing_in_the_doubled_hour_is_the_first_one_the_time_in_the_air_allows(air_time: str, landed: datetime):
    given_ = row(hour="0", minute="10", time_hour="2013-11-03T04:00:00Z", arr_time="140", air_time=air_time)
    assert events.flight_of(given_, CLOCKS).landed_at == landed


def test_a_landing_at_a_time_that_spring_skips_is_read_in_the_old_offset():
    given_ = row(month="3", day="9", hour="21", minute="45", time_hour="2013-03-10T02:00:00Z", dep_delay="81")
    flight = events.flight_of(given_ | {"arr_time": "203", "air_time": "141"}, CLOCKS)
    assert (flight.departed_at, flight.landed_at) == (utc(2013, 3, 10, 4, 6), utc(2013, 3, 10, 7, 3))


def test_a_landing_is_told_by_the_clock_of_the_destination():
    given_ = row(dest="LAX", hour="20", time_hour="2013-11-04T01:00:00Z", arr_time="2400", air_time="330")
    assert events.flight_of(given_, CLOCKS).landed_at == utc(2013, 11, 4, 8, 0)


def test_a_departure_after_midnight_belongs_to_the_day_of_its_schedule():
    given_ = row(day="5", hour="23", minute="50", time_hour="2013-11-06T04:00:00Z", dep_time="31", dep_delay="41")
    flight = events.flight_of(given_, CLOCKS)
    assert str(flight.date) == "2013-11-05"
    assert flight.flight_id == "2013-11-05-UA-1-EWR"
    assert flight.departed_at == utc(2013, 11, 6, 5, 31)


def test_a_flight_is_scheduled_departs_and_lands():
    assert kinds(row()) == ["scheduled", "departed", "landed"]


def test_a_flight_without_departure_is_cancelled_at_its_scheduled_time_and_has_real_nulls():
    never = row(dep_time="NA", dep_delay="NA", arr_time="NA", arr_delay="NA", air_time="NA", tailnum="NA")
    scheduled, cancelled = events.flight_events([never], AIRPORTS)
    body = msgspec.json.decode(cancelled.payload)
    assert (scheduled.kind, cancelled.kind, cancelled.seq) == ("scheduled", "cancelled", 2)
    assert body["happened_at"] == body["scheduled_at"] == "2013-11-03T05:30:00Z"
    assert {body[name] for name in ("tailnum", "dep_delay", "arr_delay", "air_time")} == {None}


def test_a_diverted_flight_stays_departed_or_lands_without_a_delay():
    assert kinds(row(arr_time="NA", arr_delay="NA", air_time="NA")) == ["scheduled", "departed"]
    *_, landed = events.flight_events([row(arr_delay="NA", air_time="NA")], AIRPORTS)
    body = msgspec.json.decode(landed.payload)
    assert (body["kind"], body["dep_delay"], body["arr_delay"]) == ("landed", 0, None)


def test_an_event_tells_only_what_was_known_at_its_moment():
    scheduled, departed, landed = (
        msgspec.json.decode(event.payload)
        for event in events.flight_events([row(dep_delay="7", arr_delay="3")], AIRPORTS)
    )
    assert (scheduled["dep_delay"], scheduled["arr_delay"]) == (None, None)
    assert (departed["dep_delay"], departed["arr_delay"]) == (7, None)
    assert (landed["dep_delay"], landed["arr_delay"], landed["air_time"]) == (7, 3, 150)


def test_flights_in_file_order_of_months_are_refused_rather_than_sent_in_the_wrong_order():
    october = row(month="10", time_hour="2013-10-03T05:00:00Z")
    with pytest.raises(ValueError, match="by day"):
        list(events.flight_events([october, row(month="2", time_hour="2013-02-03T06:00:00Z")], AIRPORTS))


@given(st.integers(0, 400 * 24 * 60), st.sampled_from(["America/New_York", "America/Phoenix", "Pacific/Honolulu"]))
def test_every_instant_is_found_again_from_its_wall_clock(minutes: int, name: str):
    instant = utc(2013, 1, 1) + events.timedelta(minutes=minutes)
    zone = events.ZoneInfo(name)
    wall = instant.astimezone(zone).replace(tzinfo=None, fold=0)
    found = events.instants(wall, zone)
    assert instant in found
    assert found == sorted(found)


def claims_of_order(found: list[events.Event]) -> None:
    order = [event[:3] for event in found]
    assert order == sorted(order)
    assert len({event.event_id for event in found}) == len(found)
    seen: dict[str, int] = {}
    for event in found:
        assert event.seq > seen.get(event.flight.flight_id, 0), event
        seen[event.flight.flight_id] = event.seq


def test_january_arrives_in_natural_order_with_each_flights_events_in_sequence(january: Any):
    found = list(events.flight_events(january.dataset.flights(), january.dataset.airports()))
    claims_of_order(found)
    assert Counter(event.kind for event in found) == {
        "scheduled": 27_004,
        "departed": 26_483,
        "landed": 26_468,
        "cancelled": 521,
    }


def test_january_has_flights_that_left_on_the_day_after_their_schedule(january: Any):
    after = [
        event
        for event in events.flight_events(january.dataset.flights(), january.dataset.airports())
        if event.kind == "departed" and event.happened_at.astimezone(events.NEW_YORK).date() > event.flight.date
    ]
    assert len(after) == 52


def unknown_aircraft(dataset: source.Dataset) -> set[str]:
    registered = {line.split(",", 1)[0] for line in dataset.planes().decode().splitlines()[1:]}
    return {flight["tailnum"] for flight in dataset.flights()} - registered - {"NA"}


def test_january_names_539_aircraft_that_the_registry_does_not_know(january: Any):
    assert len(unknown_aircraft(january.dataset)) == 539


@pytest.mark.slow
def test_the_whole_year_has_unique_flights_and_721_unknown_aircraft(year: source.Dataset):
    clocks = events.zones(year.airports())
    ids = [events.flight_of(flight, clocks).flight_id for flight in year.flights()]
    assert len(set(ids)) == len(ids) == 336_776
    assert len(unknown_aircraft(year)) == 721


@pytest.mark.slow
def test_the_whole_year_arrives_in_natural_order_and_lands_within_four_hours_of_its_time_in_the_air(
    year: source.Dataset,
):
    latest, events_count, timed = None, 0, 0
    for event in events.flight_events(year.flights(), year.airports()):
        assert latest is None or latest < event[:3]
        latest, events_count = event[:3], events_count + 1
        flight = event.flight
        if event.kind == "landed" and flight.air_time is not None and flight.departed_at is not None:
            on_ground = (event.happened_at - flight.departed_at).total_seconds() / 60 - flight.air_time
            assert 0 <= on_ground <= 240, flight
            timed += 1
    assert (events_count, timed) == (1_001_615, 327_346)


@pytest.mark.slow
def test_the_calendar_replaces_the_order_of_the_file(year: source.Dataset):
    months = [int(row_["month"]) for row_ in year.flights()]
    assert [month for month, _ in itertools.groupby(months)] == list(range(1, 13))

"""Everything that arrives from outside, as one stream in time: events, files, and the ends of business days.

Decisions that the data does not make, all fixed (`SEED`), so that two demos see the same history:
  * a site's weather file of a day lands between 00:10 and 00:50 New York time of the next day;
  * about 3 in 100 are late by 6 to 47 hours, drawn by site and day; JFK of 2013-01-10 always lands two days late;
  * LGA of 2013-01-15 lands with one hour's temperature ten times too high, and lands again, correct, at 09:00;
  * the planes file lands at noon of the first day: until then every tail number is unknown;
  * a business day ends at 04:00 New York time of the next day. Days keep ending until one ends after the last news, so
    that a job started by the end of a day sees everything.
Hours that the weather data misses stay missing.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal

from tidemill.demo.events import NEW_YORK, Event, flight_events
from tidemill.demo.source import Dataset, WeatherDay

__all__ = ["CORRECTED", "LATE", "SEED", "Moment", "landings", "moments", "timeline"]

SEED = 2013
LATE = {("JFK", date(2013, 1, 10)): timedelta(days=2)}
CORRECTED = {("LGA", date(2013, 1, 15))}
LATE_SHARE = 0.03
NOON, DAY_ENDS_AT, CORRECTED_AT = time(12), time(4), time(9)
PLANES_PATH = "landing/planes.csv"
KINDS = {"file": 0, "event": 1, "end_of_day": 2}
"""What arrives first at one and the same moment."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One arrival: an event (JSON in `payload`), a file (`path` in the project, bytes in `payload`), or the end of a
    business day (its date in `payload`, to be used as the version of the external asset)."""

    at: datetime
    kind: str
    asset: str
    payload: bytes
    path: str = ""

    @property
    def order(self) -> tuple[datetime, int]:
        """Its place in the stream; among equals the order of their own stream holds."""
        return self.at, KINDS[self.kind]


def moments(dataset: Dataset) -> Iterator[Moment]:
    """The timeline of a dataset."""
    return timeline(dataset.flights(), dataset.weather(), dataset.planes(), dataset.airports())


def timeline(
    flights: Iterable[Mapping[str, str]],
    weather: Iterable[WeatherDay],
    planes: bytes,
    airports: Iterable[Mapping[str, str]],
) -> Iterator[Moment]:
    """Everything that arrives, in order; one pass, memory bounded by a few days of flights and the weather texts."""
    rows = iter(flights)
    first = next(rows, None)
    if first is None:
        return
    first_day = date(int(first["year"]), int(first["month"]), int(first["day"]))
    events = event_moments(flight_events(itertools.chain([first], rows), airports))
    files = sorted([planes_landing(first_day, planes), *landings(weather)], key=lambda moment: moment.order)
    yield from with_ends_of_days(heapq.merge(events, files, key=lambda moment: moment.order), first_day)


def event_moments(events: Iterable[Event]) -> Iterator[Moment]:
    """The events as arrivals in the topic."""
    for event in events:
        yield Moment(event.happened_at, "event", "flight_events", event.payload)


def planes_landing(first_day: date, planes: bytes) -> Moment:
    """The one file of planes."""
    return Moment(in_new_york(first_day, NOON), "file", "planes", planes, PLANES_PATH)


def landings(weather: Iterable[WeatherDay]) -> Iterator[Moment]:
    """Every landing of a weather file; a corrected one lands twice under the same path."""
    for report in weather:
        path = f"landing/weather/{report.origin}/{report.date}.csv"
        at = landing_at(report.origin, report.date)
        if (report.origin, report.date) in CORRECTED:
            yield Moment(at, "file", "weather", with_wrong_temperature(report.text).encode(), path)
            at = in_new_york(report.date + timedelta(days=1), CORRECTED_AT)
        yield Moment(at, "file", "weather", report.text.encode(), path)


def landing_at(origin: str, day: date) -> datetime:
    """When a site's weather file of a day lands first."""
    draw = random.Random(f"{SEED}:{origin}:{day}")
    usual = in_new_york(day + timedelta(days=1), time(0, draw.randrange(10, 50)))
    drawn = timedelta(hours=draw.randrange(6, 48)) if draw.random() < LATE_SHARE else timedelta()
    return usual + LATE.get((origin, day), drawn)


def with_wrong_temperature(text: str) -> str:
    """The file with the temperature of its 14 o'clock line ten times too high."""
    header, *lines = text.splitlines(keepends=True)
    hour, temp = (header.rstrip("\n").split(",").index(name) for name in ("hour", "temp"))
    changed = [header]
    for line in lines:
        cells = line.split(",")
        if cells[hour] == "14":
            cells[temp] = str(Decimal(cells[temp]) * 10)
        changed.append(",".join(cells))
    return "".join(changed)


def with_ends_of_days(arrivals: Iterable[Moment], first_day: date) -> Iterator[Moment]:
    """The arrivals, and between them the end of each business day; the last one stands after all of them."""
    day, end = first_day, day_end(first_day)
    for arrival in arrivals:
        while end.at < arrival.at:
            yield end
            day += timedelta(days=1)
            end = day_end(day)
        yield arrival
    yield end


def day_end(day: date) -> Moment:
    """The end of one business day."""
    at = in_new_york(day + timedelta(days=1), DAY_ENDS_AT)
    return Moment(at, "end_of_day", "end_of_day", day.isoformat().encode())


def in_new_york(day: date, clock: time) -> datetime:
    """The instant at which New York's clock shows that day and time."""
    return datetime.combine(day, clock, NEW_YORK).astimezone(UTC)

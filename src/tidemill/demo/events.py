"""From rows of flights to the events that three airports send, in the order in which they become known.

One flight sends up to three events: `scheduled` on the evening before, then `departed` and `landed`, or `cancelled`.
A diverted flight that never reached its destination stays `departed`. `site` is the airport of origin: it reports the
flight from schedule to landing.

What the data says, and what it does not:
  * `time_hour` is UTC and so tells the two 01:30s of an autumn night apart; `hour` does not;
  * `dep_delay` is the difference of two clocks on the wall, also across a clock change. The departure is therefore
    read from the wall clock; of two instants with that clock the one nearest to schedule + delay is taken;
  * `arr_time` is the wall clock of the destination. The landing is the first time after departure that this clock
    shows it, and not before `air_time` has passed; over the whole year this leaves 0 to 4 hours on the ground
    for each of the 327,346 flights with an `air_time`, which no other reading of the zones does;
  * a wall time that spring skips (02:03 in Florida on 2013-03-10) was written in the old offset, and is read so;
  * not in the data, so decided here: a day's flights are announced at 18:00 New York time on the evening before, and
    a cancellation becomes known at the scheduled departure.

Pure: rows in, events out; no clock, no files. Memory is bounded by a few days of flights.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

import msgspec

__all__ = ["Event", "Flight", "flight_events", "flight_of", "instants", "number", "zones"]

NEW_YORK = ZoneInfo("America/New_York")
ANNOUNCED_AT = time(18, 0)

ZONES_MISSING = dict.fromkeys(("BQN", "PSE", "SJU", "STT"), "America/Puerto_Rico")
"""The four destinations that the airports file does not know: Puerto Rico and the Virgin Islands share a clock."""


@dataclass(frozen=True, slots=True)
class Flight:
    """One flight with its instants in UTC. None is what the data calls `NA`."""

    flight_id: str
    date: date
    carrier: str
    flight: int
    tailnum: str | None
    origin: str
    dest: str
    scheduled_at: datetime
    departed_at: datetime | None
    landed_at: datetime | None
    dep_delay: int | None
    arr_delay: int | None
    air_time: int | None
    distance: int


class Event(NamedTuple):
    """One thing that became known about one flight. Its order is the order of arrival: moment, site, id."""

    happened_at: datetime
    site: str
    event_id: str
    kind: str
    seq: int
    flight: Flight

    @property
    def payload(self) -> bytes:
        """The JSON object that the site sends, times in UTC; it tells only what was known at its moment."""
        flight = self.flight
        departed, landed = self.kind in {"departed", "landed"}, self.kind == "landed"
        body = {
            "event_id": self.event_id,
            "flight_id": flight.flight_id,
            "seq": self.seq,
            "kind": self.kind,
            "site": self.site,
            "date": flight.date,
            "carrier": flight.carrier,
            "flight": flight.flight,
            "tailnum": flight.tailnum,
            "dest": flight.dest,
            "scheduled_at": flight.scheduled_at,
            "happened_at": self.happened_at,
            "dep_delay": flight.dep_delay if departed else None,
            "arr_delay": flight.arr_delay if landed else None,
            "air_time": flight.air_time if landed else None,
            "distance": flight.distance,
        }
        return msgspec.json.encode(body)


def flight_events(flights: Iterable[Mapping[str, str]], airports: Iterable[Mapping[str, str]]) -> Iterator[Event]:
    """Every event of the flights, in order of arrival.

    The flights must come by calendar day (as `Dataset.flights` gives them): nothing about a day is known before it is
    announced, so all earlier events can be let go before the next day is read.
    """
    clocks = zones(airports)
    waiting: list[Event] = []
    latest = date.min
    parsed = (flight_of(row, clocks) for row in flights)
    for day, group in itertools.groupby(parsed, key=lambda flight: flight.date):
        if day <= latest:
            raise ValueError(f"flights must come by day: {day} after {latest}")
        latest = day
        yield from pop_before(waiting, announced_at(day))
        for flight in group:
            for event in events_of(flight):
                heapq.heappush(waiting, event)
    yield from pop_before(waiting, None)


def pop_before(waiting: list[Event], limit: datetime | None) -> Iterator[Event]:
    """Take the events before `limit` (None: all) off the heap, in order."""
    while waiting and (limit is None or waiting[0].happened_at < limit):
        yield heapq.heappop(waiting)


def events_of(flight: Flight) -> Iterator[Event]:
    """The events of one flight: two if it was cancelled or never arrived, else three."""
    yield event_of(flight, "scheduled", 1, announced_at(flight.date))
    if flight.departed_at is None:
        yield event_of(flight, "cancelled", 2, flight.scheduled_at)
        return
    yield event_of(flight, "departed", 2, flight.departed_at)
    if flight.landed_at is not None:
        yield event_of(flight, "landed", 3, flight.landed_at)


def event_of(flight: Flight, kind: str, seq: int, happened_at: datetime) -> Event:
    """One event of a flight; its id stays the same whenever it is sent again."""
    return Event(happened_at, flight.origin, f"{flight.flight_id}-{kind}", kind, seq, flight)


def flight_of(row: Mapping[str, str], clocks: Mapping[str, ZoneInfo]) -> Flight:
    """One row of the flights file, understood. Carrier, number, origin and day name a flight uniquely all year."""
    day = date(int(row["year"]), int(row["month"]), int(row["day"]))
    scheduled_at = datetime.fromisoformat(row["time_hour"]) + timedelta(minutes=int(row["minute"]))
    dep_delay, air_time = number(row["dep_delay"]), number(row["air_time"])
    departed_at = departure(scheduled_at, dep_delay)
    return Flight(
        flight_id=f"{day}-{row['carrier']}-{row['flight']}-{row['origin']}",
        date=day,
        carrier=row["carrier"],
        flight=int(row["flight"]),
        tailnum=None if row["tailnum"] == "NA" else row["tailnum"],
        origin=row["origin"],
        dest=row["dest"],
        scheduled_at=scheduled_at,
        departed_at=departed_at,
        landed_at=landing(departed_at, number(row["arr_time"]), air_time, clocks[row["dest"]]),
        dep_delay=dep_delay,
        arr_delay=number(row["arr_delay"]),
        air_time=air_time,
        distance=int(row["distance"]),
    )


def departure(scheduled_at: datetime, dep_delay: int | None) -> datetime | None:
    """When the flight left: the clock on the wall moved by the delay; of two such instants the one nearest to it."""
    if dep_delay is None:
        return None
    delay = timedelta(minutes=dep_delay)
    wall = scheduled_at.astimezone(NEW_YORK).replace(tzinfo=None, fold=0) + delay
    return min(instants(wall, NEW_YORK), key=lambda instant: abs(instant - (scheduled_at + delay)))


def landing(
    departed_at: datetime | None, arr_time: int | None, air_time: int | None, zone: ZoneInfo
) -> datetime | None:
    """When the flight landed: the first time the destination's clock shows `arr_time` once it can be there."""
    if departed_at is None or arr_time is None:
        return None
    earliest = departed_at + timedelta(minutes=air_time or 1)
    midnight = datetime.combine(departed_at.astimezone(zone).date(), time())
    clock = timedelta(hours=arr_time // 100, minutes=arr_time % 100)
    walls = (midnight + timedelta(days=days) + clock for days in (-1, 0, 1, 2))
    return next(instant for wall in walls for instant in instants(wall, zone) if instant >= earliest)


def instants(wall: datetime, zone: ZoneInfo) -> list[datetime]:
    """The instants (UTC, ascending) at which the wall clock shows `wall`: one, or two in the doubled hour of autumn.

    A time that spring skips is read in the offset before the change, as those who wrote it down did.
    """
    first = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    second = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return [first, second] if first < second else [first]


@functools.lru_cache(maxsize=8)
def announced_at(day: date) -> datetime:
    """When the flights of a day become known: the evening before, New York time."""
    return datetime.combine(day - timedelta(days=1), ANNOUNCED_AT, NEW_YORK).astimezone(UTC)


def zones(airports: Iterable[Mapping[str, str]]) -> dict[str, ZoneInfo]:
    """Airport -> its time zone, for those airports whose zone is known."""
    names = {row["faa"]: row["tzone"] for row in airports} | ZONES_MISSING
    return {airport: ZoneInfo(name) for airport, name in names.items() if "/" in name}


def number(text: str) -> int | None:
    """A whole number, or None for `NA`."""
    return None if text == "NA" else int(text)

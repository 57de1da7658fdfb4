"""The demo as a whole, over three days: every table equal, in either modes, and after a loss that was mended."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import pytest

from tidemill.demo import mending, show, source

DAYS = 3


@pytest.fixture
def three_days(tmp_path: Path) -> source.Dataset:
    january = source.january()

    def first_days(file: Path, column: str) -> Path:
        names, lines = source.read_lines(file)
        place = names.index(column)
        kept = [line for line in lines if int(line.split(",")[place]) <= DAYS]
        short = tmp_path / file.name
        short.write_bytes(gzip.compress((",".join(names) + "\n" + "".join(kept)).encode()))
        return short

    return replace(
        january,
        label="three days",
        flights_file=first_days(january.flights_file, "day"),
        weather_file=first_days(january.weather_file, "day"),
    )


def test_the_demo_ends_with_every_table_equal_and_a_loss_found_and_mended(
    three_days: source.Dataset, tmp_path: Path
) -> None:
    said: list[str] = []
    outcome = show.run_demo(folder=tmp_path / "flights", say=said.append, dataset=three_days)
    assert outcome.tables["flight_state"].rows > 2_000
    assert {name: found.equal for name, found in outcome.tables.items()} == dict.fromkeys(outcome.tables, True)
    assert {before == after for before, after in outcome.hashes.values()} == {True}
    lost = mending.LOST_ROWS
    assert outcome.mended == mending.Mended(lost=lost, missing=lost, wrong=0, repaired=lost, is_equal=True)
    assert {name: found.equal for name, found in outcome.after.items()} == dict.fromkeys(outcome.tables, True)
    assert outcome.is_equal
    assert any("5 put back; equal" in line for line in said)


def test_a_loss_that_is_not_found_is_not_called_equal() -> None:
    right = mending.Mended(lost=5, missing=5, wrong=0, repaired=5, is_equal=True)
    assert right.is_right
    for wrong in (
        replace(right, missing=4),
        replace(right, repaired=4),
        replace(right, wrong=1),
        replace(right, is_equal=False),
        replace(right, lost=0, missing=0, repaired=0),
    ):
        assert not wrong.is_right
    assert not show.Outcome("nothing was mended").is_equal

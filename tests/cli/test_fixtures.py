"""`tidemill test`: fixtures in all three modes, and what is said of differences."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.processes import Project
from tidemill.core.errors import DefinitionError, NotFound
from tidemill.project.fixtures import read_fixtures

GIVEN = """
[given.departures]
rows = [
  { event_id = "1", carrier = "UA", delay = 4 },
  { event_id = "2", carrier = "B6", delay = 1 },
  { event_id = "3", carrier = "UA", delay = 2 },
  { event_id = "3", carrier = "UA", delay = 2 },
]
"""
RIGHT = GIVEN + '[expect.totals]\nrows = [{ carrier = "B6", flights = 1 }, { carrier = "UA", flights = 2 }]\n'
WRONG = GIVEN + '[expect.totals]\nrows = [{ carrier = "UA", flights = 3 }]\n'


@pytest.fixture
def flights(tmp_path: Path) -> Project:
    return Project(tmp_path / "flights")


def test_a_fixture_runs_in_all_three_modes_and_leaves_the_project_alone(flights: Project) -> None:
    flights.write("fixtures/right.toml", RIGHT)
    done = flights("test", "--json")
    assert done.json == {"fixtures": 1, "passed": 3, "failed": 0, "differences": []}
    assert done.code == 0
    assert not (flights.folder / ".tidemill").exists()
    assert "passed right (realtime)" in flights("test").stdout


def test_differences_are_reported_row_by_row(flights: Project) -> None:
    flights.write("fixtures/right.toml", RIGHT)
    flights.write("fixtures/wrong.toml", WRONG)
    done = flights("test", "wrong", "--json")
    assert done.code == 1
    assert (done.json["fixtures"], done.json["failed"]) == (1, 3)
    [found] = done.json["differences"][0]["differences"]
    assert found["asset"] == "totals"
    assert found["missing"] == [{"carrier": "UA", "flights": 3}]
    assert sorted(row["flights"] for row in found["extra"]) == [1, 2]
    shown = flights("test", "wrong")
    assert "FAILED wrong (batch)" in shown.stdout
    assert "totals: missing {'carrier': 'UA', 'flights': 3}" in shown.stderr


def test_a_fixture_may_land_files_and_read_events_from_a_file(flights: Project) -> None:
    weather = '[assets.weather]\nkind = "files"\npath = "landing/{day}.csv"\nformat = "csv"\n'
    toml = (flights.folder / "tidemill.toml").read_text()
    flights.write("tidemill.toml", f'{toml}\n{weather}[assets.weather.columns]\nday = "date"\ntemp = "integer"\n')
    flights.write("jobs/warm.sql", "select day, max(temp) as temp from weather group by day")
    flights.write("fixtures/two.ndjson", '{"event_id": "1", "carrier": "UA", "delay": 4}\n')
    flights.write(
        "fixtures/landed.toml",
        '[[given.weather]]\nto = "landing/2013-01-01.csv"\ntext = "temp\\n1\\n5\\n"\n'
        '[given.departures]\nfile = "two.ndjson"\n'
        '[expect.warm]\nrows = [{ day = 2013-01-01, temp = 5 }]\n[expect.totals]\nrows = [{ carrier = "UA" }]\n',
    )
    done = flights("test", "--json")
    assert done.json["differences"] == []
    assert done.code == 0


def test_a_project_without_fixtures_is_told_how_to_write_one(flights: Project) -> None:
    done = flights("test")
    assert done.code == 2
    assert "there are no fixtures" in done.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[given", "this is not TOML"),
        ("[givn.departures]\nrows = []", "unknown table givn"),
        ("[given.departures]\nrows = []", "it expects nothing"),
        ("[expect.totals]\nrow = []", "expect.totals has no rows"),
        ("[given.departures]\nrws = []\n[expect.totals]\nrows = []", "given.departures is not understood"),
        ("[given.departures]\nrows = 1\n[expect.totals]\nrows = []", "rows is not a list"),
    ],
)
def test_a_fixture_that_is_not_right_says_why(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "fixtures").mkdir()
    (tmp_path / "fixtures" / "one.toml").write_text(text)
    with pytest.raises(DefinitionError, match=message):
        read_fixtures(tmp_path)


def test_an_unknown_fixture_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="there is no fixture other"):
        read_fixtures(tmp_path, ["other"])


def test_values_that_mean_the_same_are_the_same(flights: Project) -> None:
    flights.write(
        "jobs/totals.sql",
        "select 1.50::decimal(5,2) as d, timestamp '2013-01-01 05:00' as t, null as n from departures",
    )
    at = datetime(2013, 1, 1, 5, tzinfo=UTC).replace(tzinfo=None).isoformat()
    flights.write(
        "fixtures/same.toml",
        '[given.departures]\nrows = [{ event_id = "1", carrier = "UA", delay = 4 }]\n'
        f"[expect.totals]\nrows = [{{ d = 1.5, t = {at} }}]\n",
    )
    done = flights("test", "--json")
    assert done.json["differences"] == []

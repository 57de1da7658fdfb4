"""Events, files and ends of days arrive in one order, with the late and the corrected files in it."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.demo import source, timeline


def weather(january: Any) -> list[timeline.Moment]:
    return [moment for moment in january.moments if moment.asset == "weather"]


def test_all_of_january_arrives_in_order(january: Any):
    assert Counter(moment.kind for moment in january.moments) == {"event": 80_476, "file": 95, "end_of_day": 32}
    order = [moment.order for moment in january.moments]
    assert order == sorted(order)


def test_the_same_dataset_gives_the_same_history_again(january: Any):
    assert list(timeline.moments(january.dataset)) == january.moments


def test_every_site_lands_one_file_per_day(january: Any):
    paths = {moment.path for moment in weather(january)}
    assert len(paths) == 3 * 31
    assert "landing/weather/EWR/2013-01-01.csv" in paths


def test_a_weather_file_keeps_na_and_leaves_site_and_day_to_its_path(january: Any):
    first = next(moment for moment in weather(january))
    header, line, *_ = first.payload.decode().splitlines()
    assert header == "hour,temp,dewp,humid,wind_dir,wind_speed,wind_gust,precip,pressure,visib,time_hour"
    assert ",NA," in line


def test_the_file_of_jfk_on_the_tenth_lands_two_days_late(january: Any):
    (landed,) = [moment for moment in weather(january) if moment.path == "landing/weather/JFK/2013-01-10.csv"]
    assert datetime(2013, 1, 13, 5, tzinfo=UTC) < landed.at < datetime(2013, 1, 13, 6, tzinfo=UTC)


def test_some_other_files_are_late_too_and_most_are_not(january: Any):
    late = {
        (report.origin, str(report.date))
        for report in january.dataset.weather()
        if timeline.landing_at(report.origin, report.date) > timeline.day_end(report.date).at
    }
    assert late == {("JFK", "2013-01-10"), ("LGA", "2013-01-26"), ("EWR", "2013-01-29")}


def test_the_file_of_laguardia_on_the_fifteenth_lands_wrong_and_then_right(january: Any):
    wrong, right = (moment for moment in weather(january) if moment.path == "landing/weather/LGA/2013-01-15.csv")
    assert right.at - wrong.at > timedelta(hours=8)
    pairs = zip(wrong.payload.decode().splitlines(), right.payload.decode().splitlines(), strict=True)
    ((wrong_line, right_line),) = [pair for pair in pairs if pair[0] != pair[1]]
    assert float(wrong_line.split(",")[1]) == 10 * float(right_line.split(",")[1])


def test_the_wrong_file_is_seen_by_a_report_before_it_is_corrected(january: Any):
    end = timeline.day_end(source.date(2013, 1, 15))
    wrong, right = (moment for moment in weather(january) if moment.path == "landing/weather/LGA/2013-01-15.csv")
    assert wrong.at < end.at < right.at


def test_hours_that_the_data_misses_stay_missing(january: Any):
    hours = {m.path: m.payload.count(b"\n") - 1 for m in weather(january)}
    assert {path: n for path, n in hours.items() if n != 24} == {
        "landing/weather/EWR/2013-01-01.csv": 22,
        "landing/weather/JFK/2013-01-01.csv": 22,
        "landing/weather/LGA/2013-01-01.csv": 23,
        "landing/weather/LGA/2013-01-06.csv": 23,
    }


def test_planes_arrive_once_after_the_first_flights_left(january: Any):
    (planes,) = [moment for moment in january.moments if moment.asset == "planes"]
    before = january.moments[: january.moments.index(planes)]
    assert any(b'"departed"' in moment.payload for moment in before)


def test_business_days_end_once_each_in_order_and_the_last_one_after_all_news(january: Any):
    ends = [moment for moment in january.moments if moment.kind == "end_of_day"]
    days = [moment.payload.decode() for moment in ends]
    assert days == [str(source.date(2013, 1, 1) + timedelta(days=n)) for n in range(32)]
    assert january.moments[-1] is ends[-1]


def test_no_flights_are_an_empty_history():
    assert list(timeline.timeline([], [], b"", [])) == []

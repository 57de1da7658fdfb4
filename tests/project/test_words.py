"""The words of a job: one table for SQL headers, decorators and overrides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.model import Gate, Late, Missing, Mode
from tidemill.project.types import column_type
from tidemill.project.words import SECONDS, WORDS, clock_time, duration, fields, nearest, schedule, when, when_names

UNITS = sorted(SECONDS)
NAMES = st.sampled_from(["orders", "stock", "prices", "a", "b_2"])
CONDITIONS = st.recursive(
    NAMES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["&", "|", " & ", " | "]), inner).map("".join),
        inner.map(lambda text: f"({text})"),
    ),
    max_leaves=8,
)


@given(st.integers(0, 10_000), st.sampled_from(UNITS))
def test_a_duration_is_a_number_of_a_unit(number: int, unit: str) -> None:
    assert duration(f"{number}{unit}") == number * SECONDS[unit]


@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from(UNITS)), min_size=1, max_size=4))
def test_durations_add_up(parts: list[tuple[int, str]]) -> None:
    said = "".join(f"{number}{unit}" for number, unit in parts)
    assert duration(said) == pytest.approx(sum(number * SECONDS[unit] for number, unit in parts))


@given(st.text(max_size=12))
def test_text_is_a_duration_or_refused_with_the_form(said: str) -> None:
    try:
        seconds = duration(said)
    except ValueError as error:
        seconds, message = 0.0, str(error)
        assert message.endswith("is not a duration; write a number and a unit, such as 250ms, 90s, 5m, 3h or 1d")
    assert seconds >= 0


@given(CONDITIONS)
def test_a_condition_names_its_inputs(said: str) -> None:
    names = when_names(when(said))
    assert set(names) <= {"orders", "stock", "prices", "a", "b_2"}
    assert all(name in said for name in names)


@given(CONDITIONS, st.sampled_from(["&", "|", ")", "&&"]))
def test_a_condition_with_something_left_over_is_refused(said: str, extra: str) -> None:
    with pytest.raises(ValueError, match="is not a condition; write any, all, each"):
        when(said + extra)


@pytest.mark.parametrize("word", ["any", "all", "each"])
def test_the_three_words_name_no_input(word: str) -> None:
    assert when_names(when(word)) == ()


@pytest.mark.parametrize(
    ("said", "line"),
    [("02:00", "0 2 * * *"), ("2:05", "5 2 * * *"), (" */5  * * * * ", "*/5 * * * *"), ("0 2 * * 1-5", "0 2 * * 1-5")],
)
def test_a_schedule_is_a_cron_line(said: str, line: str) -> None:
    assert schedule(said) == line


@pytest.mark.parametrize("said", ["25:00", "daily", "* * * *", "61 * * * *", "* * * * * *", 5])
def test_anything_else_is_no_schedule(said: object) -> None:
    with pytest.raises(ValueError, match='is not a schedule; write a time such as "02:00" or a five-field cron line'):
        schedule(said)


@given(st.integers(0, 23), st.integers(0, 59))
def test_every_minute_of_the_day_is_a_time(hour: int, minute: int) -> None:
    assert clock_time(f"{hour}:{minute:02d}") == f"{hour:02d}:{minute:02d}"


@pytest.mark.parametrize(
    ("word", "value", "message"),
    [
        ("mode", "realtme", 'mode: "realtme" is not one of realtime, microbatch, batch (did you mean realtime?)'),
        ("retries", "-1", 'retries: "-1" is not a whole number of 0 or more'),
        ("retries", True, "retries: True is not a whole number of 0 or more"),
        ("every", "0s", 'every: "0s" is no time at all; write a duration above zero, such as 5m'),
        ("every", 5, "every: 5 is not a duration; write a number and a unit, such as 250ms, 90s, 5m, 3h or 1d"),
        ("key", "a, a", 'key: "a, a" names something twice'),
        ("deadline", "6 am", 'deadline: "6 am" is not a time of day; write hours and minutes, such as 06:00'),
        ("isolation", "thrad", 'isolation: "thrad" is not one of thread, process (did you mean thread?)'),
    ],
)
def test_a_wrong_value_is_told_with_what_is_allowed(word: str, value: object, message: str) -> None:
    gated = {"gate": "date"} if word == "deadline" else {}
    _, wrong = fields({word: value, **gated})
    assert [each.message for each in wrong] == [message]


def test_an_unknown_word_names_the_nearest() -> None:
    _, wrong = fields({"materialised": "view"})
    assert [(each.message, each.mend) for each in wrong] == [("unknown word materialised", "write materialized")]


def test_the_words_of_a_gate_become_one_gate() -> None:
    found, wrong = fields({"gate": "date", "deadline": "6:00", "on_missing": "run", "on_late": "next"})
    assert found == {"gate": Gate("date", "06:00", Missing.RUN, Late.NEXT)}
    assert wrong == []


def test_late_rows_wait_for_a_person_where_the_output_leaves_tidemill() -> None:
    assert fields({"gate": "date"}, is_outside=True)[0] == {"gate": Gate("date", on_late=Late.HOLD)}


def test_a_word_of_a_gate_without_a_gate_is_wrong() -> None:
    assert [each.message for each in fields({"deadline": "06:00"})[1]] == ["deadline says nothing without a gate"]


def test_the_three_places_say_the_same() -> None:
    header = {"mode": "batch", "key": "a, b", "retries": "5", "tags": "x", "every": "5m"}
    toml = {"mode": "batch", "key": ["a", "b"], "retries": 5, "tags": ["x"], "every": "5m"}
    assert fields(header) == fields(toml)
    assert fields(header)[0]["mode"] is Mode.BATCH


def test_every_word_says_what_it_allows() -> None:
    assert all(word.allowed for word in WORDS.values())


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("INT", "integer"), ("string", "varchar"), ("TimestampTZ", "timestamp with time zone"),
        ("decimal( 10 , 2 )", "decimal(10,2)"), ("numeric(5)", "decimal(5,0)"), ("int[]", "integer[]"),
        ("varchar(20)", "varchar"), ("double precision", "double"),
    ],
)  # fmt: skip
def test_a_type_has_one_spelling(said: str, name: str) -> None:
    assert column_type(said) == name


def test_a_type_that_is_not_there_names_the_nearest() -> None:
    with pytest.raises(ValueError, match='there is no type "intger"; did you mean integer'):
        column_type("intger")


def test_the_nearest_name_ignores_case_first() -> None:
    assert nearest("Orders", ["order", "orders"]) == "orders"
    assert nearest("zzz", ["orders"]) == ""

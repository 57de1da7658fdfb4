"""The header: what is a word, what is prose, and that no typo passes."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.errors import DefinitionError
from tidemill.sql import HEADER_WORDS, parse_header


def test_words_and_body_are_told_apart_and_know_their_lines() -> None:
    header = parse_header("-- output: late\n\n-- prose, no colon\n-- mode:  realtime \nselect 1\n-- key: no", "a.sql")
    assert {name: (word.value, word.line) for name, word in header.words.items()} == {
        "output": ("late", 1),
        "mode": ("realtime", 4),
    }
    assert (header.body, header.body_line) == ("select 1\n-- key: no", 5)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("-- outptu: x\nselect 1", 1, "output"),
        ("-- prose\n-- materialised: view\nselect 1", 2, "materialized"),
        ("-- on-late: next\nselect 1", 1, "on_late"),
        ("-- note: this is an unknown word\nselect 1", 1, "leave out the colon"),
        ("-- mode: batch\n-- Mode: realtime\nselect 1", 2, "twice"),
        ("-- mode:\nselect 1", 1, "no value"),
    ],
)
def test_a_wrong_header_line_is_an_error_that_names_it(text: str, line: int, says: str) -> None:
    with pytest.raises(DefinitionError) as caught:
        parse_header(text, "jobs/a.sql")
    assert caught.value.place == f"jobs/a.sql:{line}"
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "line", ["-- see https://example.com/x", "-- https://example.com", "-- just words", "--", "-- a::int"]
)
def test_prose_is_ignored(line: str) -> None:
    assert parse_header(f"{line}\n-- mode: batch\nselect 1", "a.sql").get("mode") == "batch"


def test_byte_order_mark_and_carriage_returns_do_not_matter() -> None:
    plain = "-- output: a\n-- mode: batch\nselect 1\nfrom t"
    assert parse_header("\ufeff" + plain.replace("\n", "\r\n"), "a.sql") == parse_header(plain, "a.sql")


def test_a_file_of_comments_has_no_body() -> None:
    header = parse_header("-- output: a\n-- more", "a.sql")
    assert (header.body, header.body_line) == ("", 3)


VALUES = (
    st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp"), blacklist_characters="\ufeff"), min_size=1)
    .map(str.strip)
    .filter(lambda text: text and not text.startswith(("//", ":")) and len(text.splitlines()) == 1)
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(HEADER_WORDS)), VALUES), st.lists(st.just("-- prose"), max_size=2))
def test_what_is_written_is_read(words: dict[str, str], prose: list[str]) -> None:
    lines = [*prose, *(f"-- {name}: {value}" for name, value in words.items()), "select 1", "from t"]
    header = parse_header("\n".join(lines), "a.sql")
    assert {name: word.value for name, word in header.words.items()} == words
    assert header.body == "select 1\nfrom t"
    assert lines[header.body_line - 1] == "select 1"

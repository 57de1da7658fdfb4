"""Path patterns: what belongs, and what its name tells."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.connectors.files.pattern import Pattern

PARTS = st.text("abcxyz0189-=", min_size=1, max_size=8)


@given(PARTS, PARTS)
def test_what_is_put_into_a_pattern_comes_out_again(site: str, date: str) -> None:
    found = Pattern.of("landing/{site}/{date}.csv").match(f"landing/{site}/{date}.csv")
    assert found == {"site": site, "date": date}


@given(st.lists(st.sampled_from(["{a}", "{b}", "x", ".", "-", "/", "*", "+", "(", "?"]), min_size=1, max_size=10))
def test_every_pattern_compiles_and_its_prefix_holds_no_sign(pieces: list[str]) -> None:
    pattern = Pattern.of("in/" + "".join(pieces))
    assert not re.search(r"[{*?]", pattern.prefix)
    assert pattern.text.startswith(pattern.prefix)


@given(st.text("ab/.{}", max_size=20))
def test_a_pattern_without_signs_matches_itself_alone(path: str) -> None:
    plain = "in/" + path.replace("{", "").replace("}", "").replace(".", "_")
    assert Pattern.of(plain).match(plain) == {}
    assert Pattern.of(plain).match(plain + "x") is None


@pytest.mark.parametrize(
    ("pattern", "path", "found"),
    [
        ("in/{d}.csv", "in/a/b.csv", None),
        ("in/{d}/{d}.csv", "in/1/1.csv", {"d": "1"}),
        ("in/{d}/{d}.csv", "in/1/2.csv", None),
        ("in/*.csv", "in/a.csv", {}),
        ("in/*.csv", "in/a.csv.gz", None),
        ("in/**/{d}.csv", "in/x/y/z.csv", {"d": "z"}),
        ("in/**/{d}.csv", "in/z.csv", {"d": "z"}),
        ("in/day={d}/part-?.csv", "in/day=1/part-7.csv", {"d": "1"}),
        ("in/a.csv", "in/aXcsv", None),
        ("planes.csv", "planes.csv", {}),
    ],
)
def test_signs_mean_what_they_say(pattern: str, path: str, found: dict[str, str] | None) -> None:
    assert Pattern.of(pattern).match(path) == found


@pytest.mark.parametrize("name", [".x.csv", "x.tmp", "x.csv.part", "x.csv~", "x.filepart", ".hidden/x.csv", "_SUCCESS"])
def test_hidden_and_half_written_names_never_belong(name: str) -> None:
    assert Pattern.of("in/**").match(f"in/{name}") is None


def test_a_name_that_the_pattern_spells_belongs() -> None:
    assert Pattern.of("in/.export/{d}.csv").match("in/.export/1.csv") == {"d": "1"}

"""A marker is the word that a file is complete: it lands then, at the first look."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Project, rows

SHOP = """
[assets.sales]
kind = "files"
path = "in/{{day}}.csv"
{word}
[assets.sales.columns]
amount = "integer"
"""
MARKS = {
    "a marker for all": ('marker = "_SUCCESS"', "in/_SUCCESS", b""),
    "a marker a file": ('marker = "{file}.done"', "in/1.csv.done", b""),
    "a manifest": ('manifest = "MANIFEST"', "in/MANIFEST", b"1.csv\n"),
}


@pytest.mark.parametrize("case", MARKS)
def test_a_file_lands_when_it_is_marked_and_at_once(project: Project, case: str) -> None:
    word, name, text = MARKS[case]
    project.write({"tidemill.toml": SHOP.format(word=word), "in/1.csv": "amount\n7\n"})
    with project.open() as mill:
        assert mill.land(waits=False)[0]["taken"] == []
        project.write({name: text})
        assert mill.land(waits=False)[0]["taken"] == ["in/1.csv"]
        assert rows(mill, "select amount from sales") == [(7,)]

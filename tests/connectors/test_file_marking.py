"""Files land once they are marked as complete, and not before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.connectors.test_files import asset_of
from tidemill.connectors.files import FilesSource

PATH = "in/{d}/{f}.csv"


def put(root: Path, *names: str, text: str = "") -> None:
    for name in names:
        path = root / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def listed(root: Path, **words: object) -> list[str]:
    return sorted(file.path for file in FilesSource(asset_of(PATH, **words), root).list())


MARKERS = {
    "one for all": ("_SUCCESS", "two/_SUCCESS", ["in/two/a.csv", "in/two/b.csv"]),
    "one a file": ("{file}.done", "two/a.csv.done", ["in/two/a.csv"]),
    "one a file, before its name": ("ready-{file}", "two/ready-b.csv", ["in/two/b.csv"]),
    "one a file, with its ending": ("*.done", "one/a.csv.done", ["in/one/a.csv"]),
    "one a file, without its ending": ("*.done", "one/a.done", ["in/one/a.csv"]),
    "none of this file": ("{file}.done", "two/a.done", []),
}


@pytest.mark.parametrize("case", MARKERS)
def test_only_marked_files_are_there(tmp_path: Path, case: str) -> None:
    marker, name, expected = MARKERS[case]
    put(tmp_path, "one/a.csv", "two/a.csv", "two/b.csv")
    assert listed(tmp_path, marker=marker) == []
    put(tmp_path, name)
    assert listed(tmp_path, marker=marker) == expected


def test_a_manifest_lists_what_is_complete(tmp_path: Path) -> None:
    put(tmp_path, "one/a.csv", "one/stray.csv", "two/a.csv")
    put(tmp_path, "one/MANIFEST", text="# of today\n\na.csv\n")
    assert listed(tmp_path, options={"manifest": "MANIFEST"}) == ["in/one/a.csv"]


def test_nothing_of_a_manifest_is_there_before_all_of_it(tmp_path: Path) -> None:
    put(tmp_path, "one/a.csv", "one/c.csv")
    put(tmp_path, "one/1.manifest", text="a.csv\nb.csv\n")
    put(tmp_path, "one/2.manifest", text="c.csv\n")
    assert listed(tmp_path, options={"manifest": "*.manifest"}) == ["in/one/c.csv"]
    put(tmp_path, "one/b.csv")
    assert listed(tmp_path, options={"manifest": "*.manifest"}) == ["in/one/a.csv", "in/one/b.csv", "in/one/c.csv"]

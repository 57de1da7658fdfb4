"""`--select`: a job, with all upstream of it, all downstream, or both."""

from __future__ import annotations

import pytest

from tests.cli.fake import FakeMill
from tidemill.cli.selection import selected
from tidemill.core.errors import NotFound


@pytest.mark.parametrize(
    ("jobs", "select", "expected"),
    [
        ([], [], []),
        (["report"], [], ["report"]),
        ([], ["report"], ["report"]),
        ([], ["+report"], ["totals", "report"]),
        ([], ["report+"], ["report", "send"]),
        ([], ["+report+"], ["totals", "report", "send"]),
        ([], ["+send"], ["totals", "report", "send"]),
        (["other"], ["totals+"], ["totals", "report", "send", "other"]),
    ],
)
def test_what_is_selected(mill: FakeMill, jobs: list[str], select: list[str], expected: list[str]) -> None:
    assert selected(mill, jobs, select) == expected


def test_an_unknown_job_is_answered_with_the_nearest(mill: FakeMill) -> None:
    with pytest.raises(NotFound, match="did you mean report") as caught:
        selected(mill, [], ["+reprot"])
    assert caught.value.message == "there is no job reprot"

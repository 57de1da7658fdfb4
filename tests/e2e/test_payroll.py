"""The story of a payroll, with the template `payroll`: complete, balanced, paid once, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import Project, alarms, ran

SHEET = "day,hours\n2026-01-05,8\n2026-01-06,7.5\n"
EMPLOYEES = "id,hourly,tax,net\nada,50.00,0.300,0.700\nbob,40.00,0.250,0.750\ncid,30.00,0.200,{net}\n"


@pytest.fixture
def story(tmp_path: Path) -> Project:
    project = Project(tmp_path / "wages")
    project.cli_free("init", str(project.folder), "--template", "payroll")
    return project


def sheet(project: Project, employee: str, period: str = "2026-01") -> None:
    project.write({f"landing/timesheets/{period}/{employee}.csv": SHEET.replace("2026-01", period)})


def paid(project: Project) -> list[list[str]]:
    """The lines of every pay file, file by file; half-written ones would stand beside them."""
    return [path.read_text().splitlines() for path in sorted((project.folder / "paid").glob("*.csv"))]


def test_nobody_is_paid_before_every_sheet_is_in_and_the_missing_one_is_named(story: Project) -> None:
    with story.open() as mill:
        ran(mill)
        assert paid(story) == []
        assert "cid" in " ".join(mill.explain("ledger")["because"])
        sheet(story, "cid")
        ran(mill)
    [lines] = paid(story)
    assert lines == ["employee,periods,amount", "ada,2026-01,542.50", "bob,2026-01,465.00", "cid,2026-01,372.00"]


def test_a_power_cut_in_the_middle_leaves_exactly_one_pay_file(story: Project) -> None:
    sheet(story, "cid")
    story.write({"unplug": ""})
    story.cli("run", code=-9)
    assert paid(story) == []
    assert len(list((story.folder / "paid").iterdir())) == 1, "it was in the middle of writing"
    story.remove("unplug")
    story.cli("run")
    story.cli("run")
    [lines] = paid(story)
    assert len(lines) == 4
    assert len(list((story.folder / "paid").iterdir())) == 1


def test_a_late_sheet_is_paid_with_the_next_period(story: Project) -> None:
    sheet(story, "cid")
    with story.open() as mill:
        ran(mill)
        story.write({"landing/timesheets/2026-01/ada.csv": SHEET + "2026-01-07,2\n"})
        ran(mill)
        assert len(paid(story)) == 1, "the period is closed"
        for employee in ("ada", "bob", "cid"):
            sheet(story, employee, "2026-02")
        ran(mill)
        first, second = paid(story)
        assert first[1] == "ada,2026-01,542.50"
        assert second[1:3] == ["ada,2026-01 2026-02,612.50", "bob,2026-02,465.00"]


def test_an_unbalanced_ledger_pays_nobody_until_it_is_mended(story: Project) -> None:
    story.write({"landing/employees.csv": EMPLOYEES.format(net="0.799")})
    sheet(story, "cid")
    with story.open() as mill:
        assert ran(mill)["failed"]  # once, or again for a file that was found later
        assert paid(story) == []
        assert any('assertion "balanced": 1 row breaks it: {"employee": "cid"}' in reason for reason in alarms(mill))
        story.write({"landing/employees.csv": EMPLOYEES.format(net="0.800")})
        ran(mill)
        assert len(paid(story)) == 1
        assert alarms(mill) == []

"""The story of an object mapping, with the template `objects`: five jobs that do not know each other."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import Project, until, watching


@pytest.fixture
def story(tmp_path: Path) -> Project:
    """The template, as `tidemill init` writes it, with File 1 taken away."""
    project = Project(tmp_path / "story")
    project.cli_free("init", str(project.folder), "--template", "objects")
    shutil.move(project.folder / "landing/file_1.csv", tmp_path / "file_1.csv")
    return project


def log(project: Project) -> list[str]:
    return [line.split()[0] for line in project.lines("work/log.txt")]


def land_file_1(project: Project) -> None:
    shutil.move(project.folder.parent / "file_1.csv", project.folder / "landing/file_1.csv")


def test_nothing_that_needs_file_1_starts_before_it_lands_and_all_of_it_does_within_a_second(story: Project) -> None:
    with watching(story) as mill:
        until(lambda: sorted(log(story)) == ["job_2", "job_4"])
        runs = len(mill.runs())
        assert mill.explain("job_1")["ready"] is False
        assert "file_1" in " ".join(mill.explain("job_1")["because"])
        until(lambda: not mill.machine.loop.state.is_busy)
        assert len(mill.runs()) == runs == 2  # no retry, no poll
        landed_at = time.time()
        land_file_1(story)
        until(lambda: sorted(log(story)) == ["job_1", "job_2", "job_3", "job_4", "job_5"])
        (first,) = mill.runs(job="job_1")
        assert first["started_at"] - landed_at < 2.0
        until(lambda: len(mill.runs(state="succeeded")) == 5)


def test_a_failed_job_stops_only_what_needs_its_table_and_mending_it_runs_only_that(story: Project) -> None:
    land_file_1(story)
    story.write({"work/job_2.broken": ""})
    summary = story.json("run", code=1)
    assert (summary["failed"], sorted(set(log(story)))) == (1, ["job_1", "job_4", "job_5"])
    before = len(log(story))
    story.remove("work/job_2.broken")
    summary = story.json("run")
    assert summary["failed"] == 0
    assert log(story)[before:] == ["job_2", "job_3"]
    assert story.json("run") == {"runs": 0, "succeeded": 0, "failed": 0, "changes": 0}


def test_a_sixth_job_on_an_existing_object_is_one_added_table(story: Project) -> None:
    land_file_1(story)
    story.cli("run")
    assert sorted(log(story)) == ["job_1", "job_2", "job_3", "job_4", "job_5"]
    toml = (story.folder / "tidemill.toml").read_text()
    sixth = '\n[jobs.job_6]\ninputs = ["table_3"]\noutputs = ["table_6"]\nstart_from = "beginning"\ncommand = ["python", "work/job.py", "job_6"]\n'
    story.write({"tidemill.toml": toml + sixth})
    story.cli("run")
    assert log(story)[5:] == ["job_6"]


def test_the_mapping_is_read_from_a_table_and_shown_as_one(story: Project) -> None:
    mapping = {each["job"]: (each["inputs"], each["outputs"]) for each in story.json("map")}
    assert mapping["job_3"] == (["table_1", "table_2"], ["table_3"])
    assert mapping["job_5"] == (["table_1", "table_4"], ["report"])
    assert len(mapping) == 5


def test_a_changed_file_runs_only_what_follows_from_it(story: Project) -> None:
    land_file_1(story)
    story.cli("run")
    before = len(log(story))
    story.write({"landing/file_1.csv": "a,b\n9,9\n"})
    story.cli("run")
    assert sorted(log(story)[before:]) == ["job_1", "job_3", "job_5"]

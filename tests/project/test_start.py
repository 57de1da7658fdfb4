"""Beginning a project: templates that load, and an object mapping that becomes jobs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.core.errors import OperatorError, UserError
from tidemill.project import import_mapping, init, load
from tidemill.project.secrets import Secret
from tidemill.project.start import TEMPLATES


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_loads_without_a_problem(tmp_path: Path, template: str) -> None:
    files = init(tmp_path / "shop", template)
    loaded = load(tmp_path / "shop")
    assert (loaded.name, loaded.problems, loaded.warnings) == ("shop", [], [])
    assert loaded.jobs
    assert all((tmp_path / "shop" / name).is_file() for name in files)


def test_the_objects_template_is_five_jobs_that_name_no_other(tmp_path: Path) -> None:
    init(tmp_path / "o", "objects")
    jobs = load(tmp_path / "o").jobs
    needs = {
        name: {other.name for other in jobs.values() if set(other.outputs) & set(job.inputs)}
        for name, job in jobs.items()
    }
    assert needs == {
        "job_1": set(),
        "job_2": set(),
        "job_3": {"job_1", "job_2"},
        "job_4": set(),
        "job_5": {"job_1", "job_4"},
    }


def test_nothing_that_is_there_is_overwritten(tmp_path: Path) -> None:
    init(tmp_path / "shop")
    with pytest.raises(UserError) as caught:
        init(tmp_path / "shop")
    assert str(caught.value) == "shop is a project already: it has a tidemill.toml\n  mend: choose another folder"


def test_an_unknown_template_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"there is no template object\n  mend: choose objects"):
        init(tmp_path / "shop", "object")


MAPPING = """Job,Source,Target,Command
load sales,sales.csv,sales,python load.py "all sales"
report,sales; stock,report,python report.py
report,prices,report,
"""


def test_a_mapping_becomes_jobs_with_what_nobody_writes_declared(tmp_path: Path) -> None:
    text = import_mapping(MAPPING)
    (tmp_path / "tidemill.toml").write_text(text)
    loaded = load(tmp_path)
    assert loaded.problems == []
    assert {job.name: (job.inputs, job.outputs, job.transform) for job in loaded.jobs.values()} == {
        "load_sales": (("sales.csv",), ("sales",), '["python", "load.py", "all sales"]'),
        "report": (("sales", "stock", "prices"), ("report",), '["python", "report.py"]'),
    }
    assert sorted(loaded.assets) == ["prices", "report", "sales", "sales.csv", "stock"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "job,target\na,b\n",
            "map.csv:1: the column source is missing\n  mend: the columns are job, source, target, command",
        ),
        ("job,source,target\n,a,b\n", "map.csv:2: the line names no job\n  mend: write the job's name first"),
        (
            "job,source,target,command\na,b,c,x\na,d,c,y\n",
            "map.csv:3: job a has two commands\n  mend: give all its lines the same command",
        ),
        (
            "job,source,target\na,b,c\n",
            "map.csv: job a has no command\n  mend: give one of its lines the command that it runs",
        ),
    ],
)
def test_a_mapping_that_does_not_read_names_its_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        import_mapping(text, "map.csv")
    assert str(caught.value) == message


def test_a_secret_is_revealed_late_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hush\n")
    known = {"NAME": "ada", "PASSWORD": "hush"}
    secret = Secret("postgres://${NAME}:${PASSWORD}@db")
    assert secret.reveal(known) == "postgres://ada:hush@db"
    assert Secret("file:token", tmp_path).reveal() == "hush"
    assert "hush" not in f"{secret} {secret!r} {[secret]}"


def test_a_secret_that_is_not_set_names_the_reference() -> None:
    with pytest.raises(OperatorError) as caught:
        Secret("${NOT_SET}").reveal({})
    assert str(caught.value) == "${NOT_SET}: NOT_SET is not set\n  mend: set NOT_SET in the environment"

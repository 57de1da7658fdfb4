"""`tidemill logs RUN`: what a run's function printed, wherever it was called, and nothing of it in the answer."""

from __future__ import annotations

import json

import pytest

from tests.e2e.conftest import ORDERS, Project, order, ran, until

TALKING = """
import logging, sys
import pyarrow as pa
import tidemill as tm

print("loading")
logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")

def talk(name):
    print(f"{name} on stdout")
    print(f"{name} on stderr", file=sys.stderr)
    logging.info("%s in the log", name)

@tm.job(inputs="orders", output="by_row", isolation="ISOLATION")
def by_row(row: dict) -> dict:
    talk("row")
    return {"id": row["id"]}

@tm.job(inputs="orders", output="by_table", isolation="ISOLATION")
def by_table(changes: pa.Table) -> pa.Table:
    talk("table")
    return changes

@tm.job(inputs="orders", output="by_full", takes="full", isolation="ISOLATION")
def by_full(orders: pa.Table) -> pa.Table:
    talk("full")
    return orders

@tm.job(inputs="orders", output="sent", isolation="ISOLATION")
def by_run(run: tm.Run) -> None:
    talk("run")
    run.log("run said")
"""


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_prints_and_logging_of_every_kind_of_job_are_the_runs_log_and_not_the_answer(
    project: Project, isolation: str
) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/talking.py": TALKING.replace("ISOLATION", isolation)})
    project.cli("emit", "orders", "--row", json.dumps(order(1)))
    done = project.cli("run", "--json")
    assert done.stdout == '{"runs": 4, "succeeded": 4, "failed": 0, "changes": 4}\n'
    assert "on std" not in done.stderr
    for run in project.json("runs"):
        name = run["job"].removeprefix("by_")
        lines = project.json("logs", run["run"])
        begin = ["loading"] * (
            isolation == "process" and "loading" in lines
        )  # the first call of a worker loads the file
        talked = [f"{name} on stdout", f"{name} on stderr", f"INFO {name} in the log"]
        assert lines == begin + talked + ["run said"] * (name == "run"), run["job"]


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize(
    "given",
    ["row: dict) -> dict", "changes: pa.Table) -> pa.Table", "run: tm.Run) -> None"],
    ids=["row", "table", "run"],
)
def test_what_a_function_raises_is_in_the_log_with_the_line_that_raised_it(
    project: Project, isolation: str, given: str
) -> None:
    source = (
        "import pyarrow as pa\nimport tidemill as tm\n"
        f"@tm.job(inputs='orders', output='out', retries=0, isolation='{isolation}')\n"
        f"def broken({given}:\n    print('so far')\n    return deeper()\n"
        "def deeper():\n    raise LookupError('the map is upside down')\n"
    )
    with project.write({"tidemill.toml": ORDERS, "jobs/broken.py": source}).open() as mill:
        mill.emit("orders", [order(1)])
        assert ran(mill)["failed"] == 1
        lines = mill.logs(mill.runs()[0]["run"])
    assert lines[0] == "so far"
    assert "Traceback (most recent call last):" in lines
    assert any("broken.py" in line and "line 8, in deeper" in line for line in lines)
    assert "LookupError: the map is upside down" in lines
    assert not any("engines/python/apply" in line for line in lines)


def test_a_function_that_ran_out_of_time_prints_into_its_own_log_and_no_other(project: Project) -> None:
    source = (
        "import pathlib, threading\nimport tidemill as tm\n"
        "@tm.job(inputs='orders', output='out', retries=0, timeout='300ms')\n"
        "def slow(row: dict) -> dict:\n    print('begun')\n"
        "    while not pathlib.Path('go').exists():\n        threading.Event().wait(0.02)\n"
        "    print('too late')\n    pathlib.Path('gone').touch()\n    return row\n"
    )
    with project.write(
        {"tidemill.toml": ORDERS, "jobs/slow.py": source.replace("pathlib.Path('", f"pathlib.Path('{project.folder}/")}
    ).open() as mill:
        mill.emit("orders", [order(1)])
        assert ran(mill)["failed"] == 1
        (project.folder / "go").touch()
        until((project.folder / "gone").exists)
        assert mill.logs(mill.runs()[0]["run"]) == ["begun"]


def test_a_run_that_printed_nothing_says_so_beside_the_answer(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/n.sql": "select count(*) as n from orders"})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        run = str(mill.runs()[0]["run"])
    done = project.cli("logs", run)
    assert (done.stdout, done.stderr) == ("", "the run printed nothing\n")


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_what_a_child_process_of_a_job_prints_is_never_in_the_answer(project: Project, isolation: str) -> None:
    source = (
        "import os, subprocess\nimport tidemill as tm\n"
        f"@tm.job(inputs='orders', output='out', isolation='{isolation}')\n"
        "def calling(row: dict) -> dict:\n    subprocess.run(['echo', 'from a child'], check=True)\n"
        "    os.system('echo from a shell')\n    os.write(1, b'from a library\\n')\n    return {'id': row['id']}\n"
    )
    project.write({"tidemill.toml": ORDERS, "jobs/calling.py": source})
    project.cli("emit", "orders", "--row", json.dumps(order(1)))
    done = project.cli("run", "--json")
    assert done.stdout == '{"runs": 1, "succeeded": 1, "failed": 0, "changes": 1}\n'
    assert [line for line in done.stderr.splitlines() if line.startswith("from")] == [
        "from a child",
        "from a shell",
        "from a library",
    ]

"""What is wrong is said at its place with its mend, and nothing else stops."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import ORDERS, Project, alarms, job_state, order, ran, rows
from tidemill.core.errors import TidemillError
from tidemill.project.checking import check

FILES = '[assets.readings]\nkind = "files"\npath = "in/{site}.%s"\nformat = "%s"\n[assets.readings.columns]\nname = "varchar"\nvalue = "integer"\n'


def command(name: str, source: str, target: str) -> str:
    return f'[jobs.{name}]\ninputs = ["{source}"]\noutputs = ["{target}"]\ncommand = ["python", "-c", "pass"]\n'


CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "an unknown asset names the nearest": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "select count(*) n from order_s"},
        ["jobs/j.sql:1", "order_s", "orders"],
    ),
    "an unknown word of a header names the nearest": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "-- modus: realtime\nselect count(*) n from orders"},
        ["jobs/j.sql:1", "modus", "mode"],
    ),
    "a mode that is none": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "-- mode: realtme\nselect count(*) n from orders"},
        ["jobs/j.sql:1", "realtme", "realtime"],
    ),
    "a circular mapping": (
        {"tidemill.toml": ORDERS + command("a", "one", "two") + command("b", "two", "one")},
        ["circular mapping", "a", "b"],
    ),
    "two jobs that write one table": (
        {
            "tidemill.toml": ORDERS,
            "jobs/a.sql": "-- output: t\nselect id from orders",
            "jobs/b.sql": "-- output: t\nselect id from orders",
        },
        ["jobs/b.sql", " a", "t"],
    ),
    "a template pasted in": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "select * from {{ ref('orders') }}"},
        ["jobs/j.sql:1", "ref", "orders"],
    ),
    "time that is not data": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "select id, now() as at from orders"},
        ["jobs/j.sql", "now"],
    ),
    "outputs in different homes": (
        {
            "tidemill.toml": ORDERS + '[assets.alerts]\nkind = "topic"\n[assets.alerts.columns]\nid = "varchar"\n',
            "jobs/j.py": "import tidemill as tm\n@tm.job(inputs='orders', outputs=['alerts', 'copies'])\ndef j(row: dict) -> dict:\n    return {}\n",
        },
        ["jobs/j.py", "alerts", "copies"],
    ),
    "an unknown word of an asset": (
        {"tidemill.toml": ORDERS.replace('id = "id"', 'ide = "id"', 1)},
        ["tidemill.toml", "ide", "id"],
    ),
    "a schedule that is none": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "-- schedule: 25:00\nselect id from orders"},
        ["jobs/j.sql:1", "25:00"],
    ),
    "a gate on a column that no input has": (
        {"tidemill.toml": ORDERS, "jobs/j.sql": "-- gate: dya\nselect id from orders"},
        ["jobs/j.sql", "dya"],
    ),
    "a Python file that does not parse": (
        {"tidemill.toml": ORDERS, "jobs/j.py": "import tidemill as tm\n\ndef broken(:\n"},
        ["jobs/j.py:3"],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_said_with_its_place(project: Project, case: str) -> None:
    files, words = CASES[case]
    project.write(files)
    done = project.cli("check", code=2)
    said = done.stdout + done.stderr
    assert [word for word in words if word not in said] == [], said
    assert "mend" in said or "write" in said, said
    assert "Traceback" not in said


def test_an_unknown_column_fails_the_run_and_names_the_nearest(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/j.sql": "-- mode: realtime\nselect\n  custmer\nfrom orders"})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        assert ran(mill)["failed"] == 1
        (run,) = mill.runs()
        assert [word for word in ("jobs/j.sql", "custmer", "customer") if word not in run["error"]] == []


def test_a_key_that_is_not_unique_fails_the_run_and_says_which_rows(project: Project) -> None:
    sql = "select customer, sum(amount) s from orders group by customer, id"
    project.write({"tidemill.toml": ORDERS, "jobs/j.sql": f"-- mode: realtime\n-- key: customer\n{sql}"})
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada"), order(2, "bob")])
        ran(mill)
        mill.emit("orders", [order(3, "ada", 2)])
        assert ran(mill)["failed"] == 1
        error = mill.runs()[0]["error"]
        assert "key" in error
        assert "ada" in error
        assert rows(mill, "select customer, s from j order by 1") == [("ada", 1), ("bob", 1)]


@pytest.mark.parametrize(
    ("form", "content", "line"),
    [
        ("csv", "name,value\na,1\nb,2,3\n", 3),
        ("csv", 'name,value\n"a\nb",1\nc,x\n', 4),
        ("csv", "nme,value\na,1\n", 1),
        ("ndjson", '{"name": "a", "value": 1}\n{"name": "b", \n', 2),
        ("ndjson", '{"name": "a", "value": 1}\n\n{"name": "b", "value": "x"}\n', 3),
        ("json", '[{"name": "a", "value": 1},\n{"name": "b" "value": 2}]', 2),
    ],
)
def test_a_malformed_file_is_named_with_its_line(project: Project, form: str, content: str, line: int) -> None:
    project.write({"tidemill.toml": FILES % (form, form), "jobs/j.sql": "-- mode: realtime\nselect name from readings"})
    good = {"csv": "name,value\nz,1\n", "ndjson": '{"name": "z", "value": 1}\n', "json": '[{"name": "z", "value": 1}]'}[
        form
    ]
    project.write({f"in/bad.{form}": content, f"in/good.{form}": good})
    with project.open() as mill:
        (landed,) = mill.land(waits=False, trusts_all=True)
        (reason,) = landed["rejected"].values()
        assert f":{line}" in reason or f"line {line}" in reason, reason
        ran(mill)
        assert rows(mill, "select name from j") == [("z",)]
        assert any(f"bad.{form}" in str(alarm) for alarm in mill.status()["alarms"])


@pytest.mark.parametrize(
    "event",
    [
        {"id": "o1", "customer": 5, "amount": 1},
        {"id": "o1", "customer": "ada", "amount": 5.7},
        {"id": "o1", "customer": "ada", "amount": 2**40},
        {"id": "o1", "customer": "ada", "amount": True},
        {"id": None, "customer": "ada", "amount": 1},
        {"customer": "ada", "amount": 1},
    ],
)
def test_a_value_that_does_not_fit_the_contract_parks_the_event(project: Project, event: dict[str, object]) -> None:
    with project.write({"tidemill.toml": ORDERS}).open() as mill:
        receipt = mill.emit("orders", [event])
        if event["customer"] == 5:  # a number has a lossless text
            assert receipt["accepted"] == 1
            return
        assert (receipt["accepted"], receipt["parked"]) == (0, 1), receipt
        assert len(mill.dead()) == 1


def test_a_python_output_that_does_not_fit_its_columns_parks_its_row(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/j.py": "import tidemill as tm\n@tm.job(inputs='orders', output='j', mode='realtime', columns={'id': 'varchar', 'n': 'integer'})\n"
            "def j(row: dict) -> dict:\n    return {'id': row['id'], 'n': 'many' if row['amount'] == 13 else row['amount']}\n",
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1), order(2, amount=13), order(3)])
        ran(mill)
        assert rows(mill, "select id from j order by 1") == [("o1",), ("o3",)]
        assert len(mill.dead()) == 1


def test_names_that_nothing_answers_to_are_said_with_the_nearest(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, "jobs/total.sql": "select count(*) n from orders"}).open() as mill:
        for ask in (
            lambda: mill.emit("order", []),
            lambda: mill.explain("totl"),
            lambda: mill.query("select * from totl"),
            lambda: mill.run(["totl"]),
        ):
            with pytest.raises(TidemillError, match=r"total|orders"):
                ask()


def test_events_for_something_else_than_a_topic_are_refused(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, "jobs/total.sql": "select count(*) n from orders"}).open() as mill:
        with pytest.raises(TidemillError, match="topic"):
            mill.emit("total", [{"n": 1}])
        with pytest.raises(TidemillError):
            mill.query("delete from orders")
        with pytest.raises(TidemillError):
            mill.query("select 1; select 2")


def test_a_job_that_fails_for_everyone_says_why_in_status_and_explain(project: Project) -> None:
    project.write(
        {"tidemill.toml": ORDERS, "jobs/j.sql": "-- mode: realtime\nselect cast(customer as integer) n from orders"}
    )
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        assert job_state(mill, "j") == "held"
        assert any("ada" in reason for reason in alarms(mill))
        assert "ada" in " ".join(mill.explain("j")["because"])


LINES = {
    "an unknown column": ("select id,\n  amonut\nfrom orders", 4, "unknown column 'amonut'"),
    "an unknown column of a reader of a view": ("select id,\n  amonut\nfrom big", 4, "unknown column 'amonut'"),
    "a function that is not there": ("select id,\n\n  frobnicate(amount)\nfrom orders", 5, "frobnicate"),
    "a function of other types": ("select id,\n  sum(customer)\nfrom orders group by all", 4, "sum(VARCHAR)"),
}


@pytest.mark.parametrize("case", LINES)
def test_an_error_in_sql_stands_at_its_own_line(project: Project, case: str) -> None:
    sql, line, said = LINES[case]
    view = "-- materialized: view\nselect id, customer, amount from orders"
    project.write({"tidemill.toml": ORDERS, "jobs/big.sql": view, "jobs/j.sql": f"-- mode: realtime\n\n{sql}"})
    found = check(project.folder).problems
    assert [(problem.place, said in problem.message) for problem in found] == [(f"jobs/j.sql:{line}", True)]
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada")])
        assert ran(mill)["failed"] == 1
        assert mill.runs()[0]["error"].startswith(f"jobs/j.sql:{line}: ")


def test_what_is_wrong_in_a_view_is_said_of_the_view_and_not_of_its_readers(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/big.sql": "-- materialized: view\nselect id,\n  amonut\nfrom orders",
            "jobs/bigger.sql": "-- materialized: view\nselect id from big",
            "jobs/j.sql": "select id from bigger",
            "jobs/fine.sql": "select id from orders",
        }
    )
    (problem,) = check(project.folder).problems
    assert str(problem) == "jobs/big.sql:3: unknown column 'amonut'\n  mend: did you mean 'amount'?"

"""What each kind of job promises: SQL, Python (row, table, full, run) and commands (rules 10, 17, 32)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, job_state, order, ran, rows, states, until
from tidemill.core.errors import TidemillError

DAY = '[assets.day]\nkind = "external"\n'


def python(*definitions: str) -> str:
    return "import pyarrow as pa\nimport pyarrow.compute as pc\nimport tidemill as tm\n\n" + "\n".join(definitions)


def command(script: str, more: str = "") -> dict[str, str]:
    return {
        "tidemill.toml": f'{DAY}[jobs.j]\ninputs = ["day"]\noutputs = ["done"]\ncommand = ["python", "j.py"]\n{more}\n',
        "j.py": script,
    }


def test_sql_that_stays_row_by_row_and_sql_in_stages_follow_every_change(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": STOCK,
            "jobs/low.sql": "-- mode: realtime\nselect item, level * 2 as twice from stock where level < 10",
            "jobs/total.sql": "-- mode: realtime\nselect count(*) n, sum(level) total, max(level) top from stock",
        }
    )
    with project.open() as mill:
        maintained = {job["job"]: job["maintained"] for job in mill.plan()["jobs"]}
        assert maintained["low"].startswith("row by row")
        assert maintained["total"].startswith("incremental")
        for level, seq in ((5, 1), (50, 2), (7, 3)):
            mill.emit("stock", [{"item": "a", "level": level, "seq": seq}, {"item": "b", "level": 3, "seq": seq}])
            ran(mill)
            expected = [("a", 2 * level)] if level < 10 else []
            assert rows(mill, "select * from low order by 1") == [*expected, ("b", 6)]
            assert rows(mill, "select n, total, top from total") == [(2, level + 3, max(level, 3))]
        mill.emit("stock", [{"item": "a", "seq": 4, "_deleted": True}])
        ran(mill)
        assert rows(mill, "select * from low") == [("b", 6)]
        assert rows(mill, "select n, total, top from total") == [(1, 3, 3)]


def test_outputs_of_a_row_job_belong_to_their_input_row(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": STOCK,
            "jobs/units.py": python(
                "@tm.job(inputs='stock', output='units', mode='realtime', columns={'item': 'varchar', 'unit': 'integer'})",
                "def units(row: dict) -> list[dict]:",
                "    return [{'item': row['item'], 'unit': n} for n in range(row['level'])]",
            ),
        }
    )
    with project.open() as mill:
        mill.emit("stock", [{"item": "a", "level": 3, "seq": 1}, {"item": "b", "level": 1, "seq": 1}])
        ran(mill)
        assert rows(mill, "select item, count(*) from units group by 1 order by 1") == [("a", 3), ("b", 1)]
        mill.emit("stock", [{"item": "a", "level": 1, "seq": 2}, {"item": "b", "seq": 2, "_deleted": True}])
        ran(mill)
        assert rows(mill, "select item, unit from units") == [("a", 0)]


def test_table_full_and_run_jobs_are_given_what_their_annotations_say(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/all.py": python(
                "@tm.job(inputs='orders', output='dear', mode='realtime', columns={'id': 'varchar', 'cents': 'bigint'})",
                "def dear(changes: pa.Table) -> pa.Table:",
                "    big = changes.filter(pc.greater(changes['amount'], 10))",
                "    return pa.table({'id': big['id'], 'cents': pc.multiply(big['amount'].cast(pa.int64()), 100)})",
                "",
                "@tm.job(inputs='orders', output='ranked', takes='full', mode='realtime', key='id', columns={'id': 'varchar', 'place': 'bigint'})",
                "def ranked(orders: pa.Table) -> pa.Table:",
                "    orders = orders.sort_by([('amount', 'descending'), ('id', 'ascending')])",
                "    return pa.table({'id': orders['id'], 'place': list(range(1, orders.num_rows + 1))})",
                "",
                "@tm.job(inputs='ranked', outputs='told', mode='realtime')",
                "def tell(run: tm.Run) -> None:",
                "    changes = run.changes('ranked')",
                "    run.log(f'told {changes.num_rows}')",
            ),
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=5), order(2, amount=50)])
        ran(mill)
        assert rows(mill, "select * from dear") == [("o2", 5000)]
        assert rows(mill, "select id, place from ranked order by 2") == [("o2", 1), ("o1", 2)]
        run = mill.runs(job="tell")[0]
        assert mill.logs(run["run"]) == ["told 2"]
        mill.emit("orders", [order(3, amount=20)])
        ran(mill)
        assert rows(mill, "select id, place from ranked order by 2") == [("o2", 1), ("o3", 2), ("o1", 3)]
        run = mill.runs(job="tell")[0]
        assert mill.logs(run["run"]) == ["told 3"]  # o3 is new; o1 went from 2 to 3: an old and a new image


def test_a_table_job_that_is_not_row_wise_is_held_with_the_reason(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/share.py": python(
                "@tm.job(inputs='orders', output='share', mode='realtime', columns={'id': 'varchar', 'share': 'double'})",
                "def share(changes: pa.Table) -> pa.Table:",
                "    total = pc.sum(changes['amount']).as_py() or 1",
                "    return pa.table({'id': changes['id'], 'share': [a / total for a in changes['amount'].to_pylist()]})",
            ),
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=5), order(2, amount=50), order(3, amount=1), order(4, amount=2)])
        ran(mill)
        assert job_state(mill, "share") == "held"
        assert rows(mill, "select * from share") == []
        assert mill.dead() == []


def test_a_job_appends_to_a_topic_that_others_read(project: Project) -> None:
    alerts = '[assets.alerts]\nkind = "topic"\n[assets.alerts.columns]\nid = "varchar"\namount = "integer"\n'
    project.write(
        {
            "tidemill.toml": ORDERS + alerts,
            "jobs/find.sql": "-- output: alerts\n-- mode: realtime\nselect id, amount from orders where amount > 10",
            "jobs/alerted.sql": "-- mode: realtime\nselect count(*) n, max(amount) top from alerts",
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=11), order(2, amount=3)])
        ran(mill)
        mill.emit("orders", [order(3, amount=30)])
        ran(mill)
        assert rows(mill, "select n, top from alerted") == [(2, 30)]


def test_a_job_that_can_retract_may_not_write_an_append_topic(project: Project) -> None:
    alerts = '[assets.alerts]\nkind = "topic"\n[assets.alerts.columns]\nitem = "varchar"\nlevel = "integer"\n'
    project.write(
        {
            "tidemill.toml": STOCK + alerts,
            "jobs/find.sql": "-- output: alerts\n-- mode: realtime\nselect item, level from stock",
        }
    )
    with pytest.raises(TidemillError, match="alerts"):
        project.open()


# Commands.


def test_a_command_learns_its_run_from_the_environment(project: Project) -> None:
    project.write(
        command("import os\nopen('told.txt', 'a').write(os.environ['TIDEMILL_RUN'] + '\\n')\nprint('hello')\n")
    )
    with project.open() as mill:
        mill.touch("day")
        ran(mill)
        (told,) = map(json.loads, project.lines("told.txt"))
        (run,) = mill.runs()
        assert (told["run"], told["job"], told["attempt"]) == (run["run"], "j", 1)
        assert (told["inputs"]["day"]["from"], told["inputs"]["day"]["to"]) == (0, 1)
        assert told["outputs"] == ["done"]
        assert len(told["idempotency_key"]) >= 32
        assert mill.logs(run["run"]) == ["hello"]


def test_an_exit_code_fails_the_run_with_what_stderr_said_last(project: Project) -> None:
    project.write(command("import sys\nsys.exit('the printer is on fire')\n", "retries = 0"))
    with project.open() as mill:
        mill.touch("day")
        assert ran(mill)["failed"] == 1
        (run,) = mill.runs()
        assert run["state"] == "failed"
        assert "the printer is on fire" in run["error"]
        assert job_state(mill, "j") == "held"
        assert mill.status()["assets"][1]["head"] == 0  # nothing was produced


def test_a_timeout_kills_a_command_with_everything_it_started(project: Project) -> None:
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open('child.txt', 'w').write(str(child.pid))\ntime.sleep(60)\n"
    )
    project.write(command(script, 'retries = 0\ntimeout = "2s"'))
    with project.open() as mill:
        mill.touch("day")
        assert ran(mill)["failed"] == 1
        assert "longer than 2 s" in mill.runs()[0]["error"]
        pid = int(project.lines("child.txt")[0])
        until(lambda: not is_alive(pid), "the child is gone")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_idempotency_key_is_the_same_over_retries_and_new_for_new_work(project: Project) -> None:
    script = (
        "import json, os, pathlib, sys\n"
        "run = json.loads(os.environ['TIDEMILL_RUN'])\n"
        "open('tries.txt', 'a').write(run['idempotency_key'] + ' ' + str(run['attempt']) + '\\n')\n"
        "sys.exit(0 if pathlib.Path('works').exists() or run['attempt'] > 1 else 1)\n"
    )
    project.write(command(script))
    with project.open() as mill:
        mill.touch("day")
        ran(mill)
        mill.touch("day")
        ran(mill)
        tries = [line.split() for line in project.lines("tries.txt")]
        assert [attempt for _, attempt in tries] == ["1", "2", "1", "2"]
        assert tries[0][0] == tries[1][0] != tries[2][0] == tries[3][0]
        assert [state for _, state in states(mill)] == ["succeeded", "succeeded"]


# Isolation.

SLOW = python(
    "import time",
    "@tm.job(inputs='orders', output='slow', mode='realtime', isolation='process', timeout='2s', retries=0,",
    "        columns={'id': 'varchar', 'pid': 'bigint'})",
    "def slow(row: dict) -> dict:",
    "    import os",
    "    if row['amount'] == 13:",
    "        time.sleep(60)",
    "    if row['amount'] == 99:",
    "        os._exit(7)",
    "    return {'id': row['id'], 'pid': os.getpid()}",
)


def test_a_function_in_a_process_of_its_own_is_killed_when_its_time_is_over(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/slow.py": SLOW})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        assert rows(mill, "select id from slow") == [("o1",)]
        mill.emit("orders", [order(2, amount=13)])
        assert ran(mill)["failed"] == 1
        assert "2 s" in mill.runs()[0]["error"]
        assert mill.dead() == []


def test_a_function_that_ends_its_process_does_not_end_ours(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/slow.py": SLOW})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        mill.emit("orders", [order(2, amount=99)])
        mill.emit("orders", [order(3)])
        ran(mill)
        assert rows(mill, "select id from slow order by 1") == [("o1",), ("o3",)]
        (letter,) = mill.dead()  # a record that ends the process is a record the transform cannot process
        assert "exit code 7" in letter["reason"]


def test_a_job_that_joins_a_topic_without_events_runs(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS + STOCK,
            "jobs/joined.sql": "-- when: any\nselect o.id, s.level from orders o left join stock s on s.item = o.customer",
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        assert ran(mill)["succeeded"] == 1
        assert rows(mill, "select id, level from joined") == [("o1", None)]
        mill.emit("stock", [{"item": "ada", "level": 4, "seq": 1}])
        ran(mill)
        assert rows(mill, "select id, level from joined") == [("o1", 4)]

"""Dead letters are an asset: they can be queried and followed, and each letter's story is told once."""

from __future__ import annotations

from tests.e2e.conftest import ORDERS, Project, order, ran, rows, until, watching
from tidemill.project.deadbook import take_down

STATES = "select asset, job, stage, state from tidemill.dead order by stage, asset"
CASTING = {"jobs/cast_.sql": "-- mode: realtime\nselect id, customer::integer as number from orders"}
FAILING = """import json
import tidemill as tm

@tm.job(inputs='tidemill.dead', output='numbers', mode='realtime', columns={'number': 'integer'})
def failing(row: dict) -> dict:
    return {'number': int(json.loads(row['payload'])['id'])}
"""


def test_a_parked_event_is_a_row_before_anything_runs_and_tells_what_became_of_it(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS}).open() as mill:
        mill.emit("orders", [{**order(1), "amount": "much"}, order(2)])
        assert rows(mill, STATES) == [("orders", "", "door", "parked")]
        ((id_, reason, payload),) = rows(mill, "select id, reason, payload from tidemill.dead")
        assert "not a lossless integer" in reason
        assert '"amount":"much"' in payload
        mill.edit_dead(id_, '{"id": "o1", "customer": "c", "amount": 3}')
        mill.replay_dead([id_])
        assert rows(mill, STATES) == [("orders", "", "door", "replayed")]
        changed = mill.machine.tables.head("tidemill.dead")
        assert rows(mill, STATES) == [("orders", "", "door", "replayed")]
        assert mill.machine.tables.head("tidemill.dead") == changed


def test_a_row_that_a_job_parked_is_settled_once_the_job_is_mended(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **CASTING}).open() as mill:
        mill.emit("orders", [{**order(1), "customer": "7"}, {**order(2), "customer": "x"}])
        ran(mill)
        assert rows(mill, STATES) == [("orders", "cast_", "transform", "parked")]
    project.write({"jobs/cast_.sql": CASTING["jobs/cast_.sql"].replace("::integer", "")})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, STATES) == [("orders", "cast_", "transform", "settled")]


def test_a_job_follows_dead_letters_and_cannot_feed_itself(project: Project) -> None:
    counts = "-- mode: realtime\nselect asset, state, count(*) as n from tidemill.dead group by all"
    project.write({"tidemill.toml": ORDERS, "jobs/letters.sql": counts, "jobs/failing.py": FAILING})
    with watching(project) as mill:
        mill.emit("orders", [{**order(1), "id": id_, "amount": "much"} for id_ in ("1", "x")])
        until(lambda: rows(mill, "select * from letters") == [("orders", "parked", 2)])
        until(lambda: [letter["job"] for letter in mill.dead() if letter["stage"] == "transform"] == ["failing"])
        assert rows(mill, STATES) == [("orders", "", "door", "parked")] * 2


def test_what_is_beyond_the_letters_looked_at_is_not_taken_for_settled(project: Project) -> None:
    last = FAILING.replace("tidemill.dead", "orders").replace("failing", "last").replace("numbers", "lasts")
    last = last.replace("json.loads(row['payload'])['id']", "row['customer']")
    project.write({"tidemill.toml": ORDERS, "jobs/last.py": last, "jobs/failing.py": FAILING})
    with project.open() as mill:
        mill.emit("orders", [{**order(1), "id": id_, "amount": "much"} for id_ in ("1", "x")])
        mill.emit("orders", [{**order(3), "customer": "7"}, {**order(4), "customer": "x"}])
        ran(mill)
        take_down(mill.machine)
        ran(mill)
        assert [letter["job"] for letter in mill.dead()] == ["", "", "failing", "failing", "last"]
        take_down(mill.machine, letters_max=4)  # all but the last, and two of them are about rows of the table itself
        told = mill.machine.tables.query("select state from \"tidemill.dead\" where job = 'last'").to_pylist()
        assert told == [{"state": "parked"}]

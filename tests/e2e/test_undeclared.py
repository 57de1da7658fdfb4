"""Fields that nobody declared are told where they were sent, and in status while it is so."""

from __future__ import annotations

import json
from typing import Any

from tests.e2e.conftest import ORDERS, Project, alarms, order, ran
from tidemill.core.model import Asset, AssetKind, Column
from tidemill.project.undeclared import FIELDS_MAX, Undeclared

TOPIC = Asset("orders", AssetKind.TOPIC, (Column("id", "varchar"), Column("amount", "integer")), id="id")


class Kept:
    """Notes in memory."""

    def __init__(self) -> None:
        self.kept: dict[str, Any] = {}
        self.written = 0

    def note(self, topic: str, name: str, value: Any) -> None:
        self.kept[name] = value
        self.written += 1

    def notes(self, topic: str) -> dict[str, Any]:
        return dict(self.kept)


def lines(*events: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def test_a_new_field_is_kept_once_and_known_to_the_next_process() -> None:
    kept = Kept()
    undeclared = Undeclared(kept)
    assert undeclared.look(TOPIC, lines({"id": "1", "amuont": 2}, {"id": "2", "x": 1, "_deleted": True})) == [
        "amuont",
        "x",
    ]
    assert undeclared.look(TOPIC, lines({"id": "3", "amuont": 2})) == ["amuont"]
    assert kept.written == 1
    ((name, told),) = Undeclared(kept).standing({"orders": TOPIC})
    assert name == "orders"
    assert "events of orders carry what it does not declare: amuont (did you mean amount?), x;" in told


def test_a_topic_without_columns_and_lines_that_are_no_events_tell_nothing() -> None:
    undeclared = Undeclared(Kept())
    assert undeclared.look(Asset("any", AssetKind.TOPIC), lines({"x": 1})) == []
    assert undeclared.look(TOPIC, b'[1]\n\n{"id": \n\xff\n') == []


def test_of_a_batch_every_event_is_looked_at() -> None:
    undeclared = Undeclared(Kept())
    many = [{"id": str(number)} for number in range(5_000)]
    assert undeclared.look(TOPIC, lines(*many)) == []
    assert undeclared.look(TOPIC, lines(*many, {"late": 1}, {"later": 1, "id": "x"})) == ["late", "later"]


def test_a_column_whose_name_is_no_plain_text_is_declared_like_others() -> None:
    topic = Asset("odd", AssetKind.TOPIC, (Column('a"b', "integer"), Column("é", "integer")))
    undeclared = Undeclared(Kept())
    assert undeclared.look(topic, lines({'a"b': 1, "é": 2})) == []
    assert undeclared.look(topic, lines({'a"b': 1, "e": 2})) == ["e"]


def test_fields_whose_names_are_data_are_kept_up_to_a_number() -> None:
    kept = Kept()
    undeclared = Undeclared(kept)
    for start in range(0, 3 * FIELDS_MAX, 500):
        undeclared.look(TOPIC, lines({f"customer {number}": 1 for number in range(start, start + 500)}))
    assert len(kept.kept["orders"]) == FIELDS_MAX
    assert kept.written == 2
    assert len(undeclared.look(TOPIC, lines({str(number): 1 for number in range(2 * FIELDS_MAX)}))) == FIELDS_MAX


def test_emit_warns_beside_its_answer_and_status_says_it_until_it_is_declared(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/n.sql": "select count(*) n from orders"})
    event = json.dumps({**order(1), "custmer": "eve"})
    done = project.cli("emit", "orders", "--row", event, "--json")
    assert json.loads(done.stdout) == {"accepted": 1, "duplicate": 0, "parked": 0, "results": []}
    assert done.stderr.startswith(
        "warning: events of orders carry what it does not declare: custmer (did you mean customer?);"
    )
    assert "alarm: undeclared fields: events of orders carry" in project.cli("status").stderr
    project.write({"tidemill.toml": ORDERS + 'custmer = "varchar"\n'})
    with project.open() as mill:
        ran(mill)
        assert alarms(mill) == []

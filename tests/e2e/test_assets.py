"""What each kind of asset promises, as a user sees it (rules 1 to 7)."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, order, ran, rows
from tidemill.core.errors import TidemillError

COUNT = {
    "jobs/total.sql": "-- mode: realtime\nselect customer, count(*) n, sum(amount) amount from orders group by all"
}
LEVELS = {"jobs/levels.sql": "-- mode: realtime\nselect item, level from stock"}


def sensors(*, form: str = "csv", more: str = "", declares: bool = True) -> str:
    columns = '[assets.sensors.columns]\nname = "varchar"\nvalue = "integer"\n' if declares else ""
    return (
        f'[assets.sensors]\nkind = "files"\npath = "landing/{{site}}/{{day}}.{form}"\nformat = "{form}"\n'
        f'{more}\n{columns}[project]\nname = "s"\n'
    )


READ = {"jobs/read.sql": "-- mode: realtime\nselect site, day, name, value from sensors"}


# Topics.


def test_the_same_event_again_is_a_duplicate_and_changes_nothing(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        first = mill.emit("orders", [order(1), order(2)])
        again = mill.emit("orders", [order(1), order(3)])
        assert (first["accepted"], again["accepted"], again["duplicate"]) == (2, 1, 1)
        ran(mill)
        assert rows(mill, "select n, amount from total") == [(3, 3)]
        assert mill.dead() == []


def test_the_same_id_with_other_content_is_a_dead_letter(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        mill.emit("orders", [order(1, amount=1)])
        receipt = mill.emit("orders", [order(1, amount=2)])
        assert (receipt["accepted"], receipt["parked"]) == (0, 1)
        ran(mill)
        assert rows(mill, "select amount from total") == [(1,)]
        (letter,) = mill.dead()
        assert (letter["asset"], letter["stage"]) == ("orders", "door")
        assert json.loads(letter["payload"])["amount"] == 2


def test_an_event_that_does_not_fit_the_contract_parks_and_its_neighbours_do_not(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        receipt = mill.emit("orders", [order(1), {**order(2), "amount": "5.7"}, order(3)])
        assert (receipt["accepted"], receipt["parked"]) == (2, 1)
        (result,) = receipt["results"]
        assert (result["index"], result["column"]) == (1, "amount")
        assert "5.7" in result["reason"]
        ran(mill)
        assert rows(mill, "select n from total") == [(2,)]


def test_a_line_that_is_not_json_parks_alone(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        good = json.dumps(order(1)).encode()
        receipt = mill.emit("orders", good + b'\n{"id": "o2", \n' + json.dumps(order(3)).encode())
        assert (receipt["accepted"], receipt["parked"], receipt["results"][0]["index"]) == (2, 1, 1)


def test_an_upsert_topic_keeps_the_latest_row_and_a_stale_version_counts_as_duplicate(project: Project) -> None:
    with project.write({"tidemill.toml": STOCK, **LEVELS}).open() as mill:
        mill.emit("stock", [{"item": "a", "level": 5, "seq": 2}])
        stale = mill.emit("stock", [{"item": "a", "level": 9, "seq": 1}])
        assert (stale["accepted"], stale["duplicate"]) == (0, 1)
        mill.emit("stock", [{"item": "a", "level": 6, "seq": 2}])  # an equal version: the later wins
        ran(mill)
        assert rows(mill, "select * from levels") == [("a", 6)]
        mill.emit("stock", [{"item": "a", "seq": 3, "_deleted": True}, {"item": "b", "level": 1, "seq": 1}])
        late = mill.emit("stock", [{"item": "a", "level": 1, "seq": 2}])  # older than the tombstone
        assert late["accepted"] == 0
        ran(mill)
        assert rows(mill, "select * from levels") == [("b", 1)]


def test_a_null_version_is_parked(project: Project) -> None:
    with project.write({"tidemill.toml": STOCK, **LEVELS}).open() as mill:
        assert mill.emit("stock", [{"item": "a", "level": 5, "seq": None}])["parked"] == 1


def test_events_survive_the_process(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        mill.emit("orders", [order(1)])
    with project.open() as mill:
        assert mill.emit("orders", [order(1)])["duplicate"] == 1
        mill.emit("orders", [order(2)])
        ran(mill)
        assert rows(mill, "select n from total") == [(2,)]


def test_a_topic_itself_answers_queries(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS + STOCK, **COUNT}).open() as mill:
        assert rows(mill, "select * from orders") == []
        mill.emit("orders", [order(1)])
        assert rows(mill, "select id, amount from orders") == [("o1", 1)]
        mill.emit("stock", [{"item": "a", "level": 5, "seq": 1}])
        mill.emit("stock", [{"item": "a", "level": 7, "seq": 2}])
        assert rows(mill, "select item, level from stock") == [("a", 7)]


# Files.


def test_files_land_with_their_partitions_and_a_corrected_file_replaces_its_rows(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ})
    project.write(
        {"landing/x/2024-01-01.csv": "name,value\na,1\na,1\nb,2\n", "landing/y/2024-01-01.csv": "name,value\nc,3\n"}
    )
    with project.open() as mill:
        ran(mill)
        everything = "select site, day, name, value from read order by all"
        assert rows(mill, everything) == [
            ("x", "2024-01-01", "a", 1),
            ("x", "2024-01-01", "a", 1),
            ("x", "2024-01-01", "b", 2),
            ("y", "2024-01-01", "c", 3),
        ]
        project.write({"landing/x/2024-01-01.csv": "name,value\na,1\nb,20\n"})
        ran(mill)
        assert rows(mill, everything) == [
            ("x", "2024-01-01", "a", 1),
            ("x", "2024-01-01", "b", 20),
            ("y", "2024-01-01", "c", 3),
        ]


def test_the_same_content_again_is_no_change(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ, "landing/x/1.csv": "name,value\na,1\n"})
    with project.open() as mill:
        ran(mill)
        project.write({"landing/x/1.csv": "name,value\na,1\n"})
        assert ran(mill)["runs"] == 0
        assert len(mill.runs()) == 1


@pytest.mark.parametrize(("on_delete", "left"), [("keep", 2), ("retract", 1)])
def test_a_file_that_vanished_stays_landed_unless_its_asset_retracts(
    project: Project, on_delete: str, left: int
) -> None:
    project.write({"tidemill.toml": sensors(more=f'on_delete = "{on_delete}"'), **READ})
    project.write({"landing/x/1.csv": "name,value\na,1\n", "landing/x/2.csv": "name,value\nb,2\n"})
    with project.open() as mill:
        ran(mill)
        project.remove("landing/x/1.csv")
        ran(mill)
        assert rows(mill, "select count(*) from read") == [(left,)]
        project.write({"landing/x/1.csv": "name,value\na,1\n"})
        ran(mill)
        assert rows(mill, "select count(*) from read") == [(2,)]


def test_a_file_that_does_not_parse_is_rejected_whole_and_named_with_its_line(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ})
    project.write({"landing/x/1.csv": "name,value\na,1\nb,many\n", "landing/x/2.csv": "name,value\nc,3\n"})
    with project.open() as mill:
        (landed,) = mill.land(waits=False, trusts_all=True)
        assert list(landed["rejected"]) == ["landing/x/1.csv"]
        assert ":3" in landed["rejected"]["landing/x/1.csv"] or "line 3" in landed["rejected"]["landing/x/1.csv"]
        ran(mill)
        assert rows(mill, "select name from read") == [("c",)]
        assert any("many" in str(alarm) for alarm in mill.status()["alarms"])
        project.write({"landing/x/1.csv": "name,value\na,1\nb,2\n"})
        ran(mill)
        assert rows(mill, "select name from read order by 1") == [("a",), ("b",), ("c",)]
        assert not any("many" in str(alarm) for alarm in mill.status()["alarms"])  # mended: the alarm is over


def test_a_rejected_correction_keeps_the_rows_that_landed_before(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ, "landing/x/1.csv": "name,value\na,1\n"})
    with project.open() as mill:
        ran(mill)
        project.write({"landing/x/1.csv": "name,value\na,oops\n"})
        ran(mill)
        assert rows(mill, "select name, value from read") == [("a", 1)]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("ndjson", b'{"name": "a", "value": 1}\n{"name": "b", "value": 2}\n'),
        ("json", b'[{"name": "a", "value": 1}, {"name": "b", "value": 2}]'),
        ("csv", b"name,value\r\na,1\r\nb,2\r\n"),
    ],
)
@pytest.mark.parametrize("declares", [True, False], ids=["declared", "inferred"])
def test_text_formats_give_the_same_rows(project: Project, form: str, content: bytes, declares: bool) -> None:
    project.write({f"landing/x/1.{form}": content, "tidemill.toml": sensors(form=form, declares=declares), **READ})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select site, day, name, value from read order by all") == [
            ("x", "1", "a", 1),
            ("x", "1", "b", 2),
        ]


def test_parquet_files_land(project: Project) -> None:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"name": ["a", "b"], "value": pa.array([1, 2], pa.int32())}), sink)
    project.write(
        {"landing/x/1.parquet": sink.getvalue().to_pybytes(), "tidemill.toml": sensors(form="parquet"), **READ}
    )
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select name, value from read order by all") == [("a", 1), ("b", 2)]


def test_binary_files_drive_commands_that_are_told_which_files_changed(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": '[assets.pictures]\nkind = "files"\npath = "in/{name}.png"\nformat = "binary"\n'
            '[jobs.shrink]\ninputs = ["pictures"]\noutputs = ["small"]\ncommand = ["python", "shrink.py"]\n',
            "shrink.py": "import os\nopen('told.txt', 'a').write(os.environ['TIDEMILL_RUN'] + '\\n')\n",
            "in/one.png": b"\x89PNG\x00\xff",
        }
    )
    with project.open() as mill:
        ran(mill)
        told = json.loads(project.lines("told.txt")[-1])
        assert told["inputs"]["pictures"]["files"] == ["in/one.png"]
        project.write({"in/two.png": b"\x00"})
        ran(mill)
        told = json.loads(project.lines("told.txt")[-1])
        assert told["inputs"]["pictures"]["files"] == ["in/two.png"]
        ran(mill)
        assert len(project.lines("told.txt")) == 2


def test_inferred_columns_are_frozen_by_the_first_file(project: Project) -> None:
    project.write({"tidemill.toml": sensors(declares=False), **READ, "landing/x/1.csv": "name,value\na,1\n"})
    with project.open() as mill:
        ran(mill)
        project.write({"landing/x/2.csv": "name,value\nb,not a number\n"})
        (landed,) = mill.land(waits=False, trusts_all=True)
        assert "landing/x/2.csv" in landed["rejected"]
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select name, value from read") == [("a", 1)]


def test_a_file_that_is_still_being_written_waits_until_it_rests(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ, "landing/x/1.csv": "name,value\na,1\n"})
    with project.open() as mill:
        (landed,) = mill.land(waits=False)
        assert (landed["taken"], landed["settled"]) == ([], False)
        (landed,) = mill.land(waits=True)
        assert (landed["taken"], landed["settled"]) == (["landing/x/1.csv"], True)


def test_an_empty_file_lands_without_rows(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ, "landing/x/1.csv": "name,value\n"})
    with project.open() as mill:
        (landed,) = mill.land(waits=False, trusts_all=True)
        assert landed["taken"] == ["landing/x/1.csv"]
        ran(mill)
        assert rows(mill, "select * from read") == []


def test_a_file_that_vanishes_between_listing_and_reading_is_no_error(project: Project) -> None:
    project.write({"tidemill.toml": sensors(), **READ})
    project.write({"landing/x/1.csv": "name,value\na,1\n", "landing/x/2.csv": "name,value\nb,2\n"})
    with project.open() as mill:
        (landed,) = mill.land(waits=False)
        assert not landed["taken"]
        project.remove("landing/x/1.csv")
        (landed,) = mill.land(waits=True)
        assert landed["taken"] == ["landing/x/2.csv"]


# Views, extracts, externals.


def test_a_view_stands_in_its_readers_and_in_queries(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/big.sql": "-- materialized: view\nselect id, customer, amount from orders where amount > 10",
            "jobs/per.sql": "-- mode: realtime\nselect customer, count(*) n from big group by all",
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=5), order(2, amount=50)])
        ran(mill)
        assert rows(mill, "select * from per") == [("ada", 1)]
        assert rows(mill, "select id from big") == [("o2",)]
        mill.emit("orders", [order(3, amount=70)])
        assert rows(mill, "select count(*) from big") == [(2,)]
        listed = {asset["asset"]: asset for asset in mill.assets()}
        assert (listed["big"]["reads"], listed["big"]["readers"]) == (["orders"], ["per"])
        assert listed["orders"]["readers"] == ["per", "big"]
    assert project.cli("map").stdout.splitlines()[-1].split() == ["big", "orders", "per"]
    chart = project.cli("map", "--mermaid").stdout.splitlines()
    assert chart[-2:] == ["  a0 -.-> a2", "  a2 -.-> j0"]


def test_a_python_reader_of_a_view_is_refused_with_the_mend(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/big.sql": "-- materialized: view\nselect id from orders where amount > 10",
            "jobs/reader.py": "import tidemill as tm\n@tm.job(inputs='big', output='copy')\ndef reader(row: dict) -> dict:\n    return row\n",
        }
    )
    with pytest.raises(TidemillError, match="materialized: table"):
        project.open()


@pytest.mark.parametrize("order_by", ["order by amount desc", "order by amount desc limit 9"])
def test_the_rows_of_an_extract_lie_in_the_order_that_is_asked_for(project: Project, order_by: str) -> None:
    sql = f"-- materialized: extract\n-- mode: realtime\nselect customer, amount from orders {order_by}"
    project.write(
        {
            "tidemill.toml": ORDERS + '[assets.totals]\nkind = "extract"\npath = "totals.csv"\nformat = "csv"\n',
            "jobs/totals.sql": sql,
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(n, name, amount=n * 7 % 5) for n, name in enumerate(["d", "c", "b", "a", "e"])])
        ran(mill)
    rows = [line.split(",") for line in project.lines("totals.csv")[1:]]
    amounts = [float(amount) for _, amount in rows]
    assert amounts == sorted(amounts, reverse=True)
    assert len(set(amounts)) == 5
    project.write({"jobs/totals.sql": sql.replace(" desc", "")})
    with project.open() as mill:
        ran(mill)
    assert [line.split(",") for line in project.lines("totals.csv")[1:]] == rows[::-1]


@pytest.mark.parametrize("form", ["csv", "parquet", "ndjson"])
def test_an_extract_is_a_file_whose_version_is_its_content(project: Project, form: str) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS
            + f'[assets.totals]\nkind = "extract"\npath = "out/totals.{form}"\nformat = "{form}"\n'
            '[jobs.send]\ninputs = ["totals"]\noutputs = ["sent"]\nmode = "realtime"\ncommand = ["python", "send.py"]\n',
            "jobs/totals.sql": "-- materialized: extract\n-- mode: realtime\nselect customer, sum(amount) amount from orders group by all order by all",
            "send.py": "open('sent.txt', 'a').write('sent\\n')\n",
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=3)])
        ran(mill)
        assert (project.folder / f"out/totals.{form}").exists()
        assert len(project.lines("sent.txt")) == 1
        said = next(job for job in mill.plan()["jobs"] if job["job"] == "totals")
        assert said["maintained"] == "recomputed, and the file rewritten whole: beside, then renamed"
        assert said["guarantee"].startswith("each change at least once: the file is the old or the new one")
        before = (project.folder / f"out/totals.{form}").read_bytes()
        mill.emit("orders", [order(2, "bob", amount=0)])
        mill.emit("orders", [order(3, "bob", amount=0)])
        ran(mill)
        sent = len(project.lines("sent.txt"))
        assert sent > 1
        mill.emit("orders", [order(4, "bob", amount=0)])  # the same content: the same version, so nobody is told
        ran(mill)
        assert len(project.lines("sent.txt")) == sent
        assert (project.folder / f"out/totals.{form}").read_bytes() != before


def test_the_same_version_of_an_external_asset_is_no_change_and_none_always_is_one(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": '[assets.day]\nkind = "external"\n'
            '[jobs.j]\ninputs = ["day"]\noutputs = ["done"]\ncommand = ["python", "j.py"]\n',
            "j.py": "open('ran.txt', 'a').write('x\\n')\n",
        }
    )
    with project.open() as mill:
        assert mill.touch("day", "v1")["accepted"] == 1
        ran(mill)
        assert mill.touch("day", "v1")["duplicate"] == 1
        ran(mill)
        assert len(project.lines("ran.txt")) == 1
        for _ in range(2):
            assert mill.touch("day")["accepted"] == 1
            ran(mill)
        assert len(project.lines("ran.txt")) == 3


def test_an_undeclared_output_of_a_command_is_an_external_asset_that_starts_its_readers(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": '[assets.day]\nkind = "external"\n'
            '[jobs.one]\ninputs = ["day"]\noutputs = ["middle"]\ncommand = ["python", "j.py"]\n'
            '[jobs.two]\ninputs = ["middle"]\ncommand = ["python", "j.py"]\n',
            "j.py": "import os, json\nopen('ran.txt', 'a').write(json.loads(os.environ['TIDEMILL_RUN'])['job'] + '\\n')\n",
        }
    )
    with project.open() as mill:
        mill.touch("day")
        ran(mill)
        assert project.lines("ran.txt") == ["one", "two"]
        assert {a["asset"]: a["kind"] for a in mill.assets()} == {
            "day": "external",
            "middle": "external",
            "two": "external",
        }


def test_undeclared_columns_of_a_python_output_are_frozen_by_its_first_rows(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/big.py": "import tidemill as tm\n\n@tm.job(inputs='orders', output='big', mode='realtime')\n"
            "def big(row: dict) -> dict | None:\n"
            "    return {'id': row['id'], 'amount': row['amount']} if row['amount'] < 100 else {'id': row['id'], 'amount': 'much'}\n",
            "jobs/sum.sql": "-- mode: realtime\nselect sum(amount) s from big",
        }
    )
    with project.open() as mill:
        ran(mill)
        mill.emit("orders", [order(1, amount=5), order(2, amount=6)])
        ran(mill)
        assert rows(mill, "select s from sum") == [(11,)]
    with project.open() as mill:
        mill.emit("orders", [order(3, amount=500), order(4, amount=7)])
        ran(mill)
        assert rows(mill, "select id, amount from big order by 1") == [("o1", 5), ("o2", 6), ("o4", 7)]
        assert rows(mill, "select s from sum") == [(18,)]
        (letter,) = mill.dead()
        assert (letter["job"], letter["asset"]) == ("big", "orders")


def test_an_output_that_never_ran_exists_and_is_empty(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        assert mill.query("select customer, n from total") == []


def test_answers_are_json_values(project: Project) -> None:
    with project.write({"tidemill.toml": ORDERS, **COUNT}).open() as mill:
        sql = "select 9007199254740993::bigint i, 1.50::decimal(10,2) d, 'NaN'::double f, timestamp '2024-01-02 03:04:05' t, [1, 2] l"
        answer: dict[str, Any] = mill.query(sql)[0]
        assert answer == {"i": 9007199254740993, "d": "1.50", "f": None, "t": "2024-01-02T03:04:05", "l": [1, 2]}

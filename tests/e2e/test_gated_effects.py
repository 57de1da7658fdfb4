"""Effects behind a gate: each run sees the rows released for its value, and is told the value (rules 10, 21, 26)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, job_state, ran, settled, until
from tidemill.core.effect import idempotency_key
from tidemill.project.mill import Mill

WEATHER = """[assets.weather]
kind = "files"
path = "in/{station}/{day}.csv"
format = "csv"
complete.station = ["x", "y"]
[assets.weather.columns]
degrees = "integer"
"""
STATIONS = """[assets.stations]
kind = "topic"
key = ["id"]
semantics = "upsert"
[assets.stations.columns]
id = "varchar"
"""
SEND = """import tidemill as tm
import json, pathlib

HERE = pathlib.Path(__file__).parent.parent

@tm.job(inputs=["weather"MORE_INPUTS], outputs="sent", gate="day"MORE)
def send(run: tm.Run) -> None:
    changes = run.changes("weather").to_pylist()
    told = {"value": run.value, "key": run.idempotency_key, "attempt": run.attempt, "inputs": run.inputs,
        "rows": sorted([r["_weight"], r["day"], r["station"], r["degrees"]] for r in changes),
        "keys": run.keys("weather"), "all": sorted([r["day"], r["degrees"]] for r in run.rows("weather").to_pylist())}
    if "stations" in run.inputs:
        told["stations"] = run.changes("stations")["id"].to_pylist()
    with (HERE / "sent.txt").open("a") as file:
        file.write(json.dumps(told) + "\\n")
    if (HERE / "broken").exists():
        raise RuntimeError("the other side is down")
"""


def sending(more: str = "", more_inputs: str = "") -> dict[str, str]:
    code = SEND.replace("MORE_INPUTS", more_inputs).replace("MORE", more)
    return {"tidemill.toml": WEATHER + (STATIONS if more_inputs else ""), "jobs/send.py": code}


def landed(station: str, day: str, *degrees: int) -> dict[str, str]:
    return {f"in/{station}/{day}.csv": "degrees\n" + "".join(f"{each}\n" for each in degrees)}


def sent(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.lines("sent.txt")]


D1, D2, D3 = "2024-01-01", "2024-01-02", "2024-01-03"
BOTH = {**landed("x", D1, 5), **landed("y", D1, 6)}


@pytest.mark.parametrize("more", ["", ', isolation="process"'])
def test_a_gated_run_job_sees_the_rows_of_the_value_that_opened_and_no_others(project: Project, more: str) -> None:
    project.write({**sending(more), **BOTH, **landed("x", D2, 7), **landed("x", D3, 8), **landed("y", D3, 9)})
    with project.open() as mill:
        ran(mill)
        first, third = sent(project)
        assert (first["value"], first["rows"]) == (D1, [[1, D1, "x", 5], [1, D1, "y", 6]])
        assert (third["value"], third["rows"]) == (D3, [[1, D3, "x", 8], [1, D3, "y", 9]])
        assert first["all"] == [[D1, 5], [D1, 6]]
        assert third["all"] == [[D1, 5], [D1, 6], [D3, 8], [D3, 9]]
        project.write(landed("y", D2))
        ran(mill)
        assert (sent(project)[2]["value"], sent(project)[2]["rows"]) == (D2, [[1, D2, "x", 7]])
        ran(mill)
        assert len(sent(project)) == 3


def test_late_rows_of_a_value_are_one_run_that_sees_what_changed(project: Project) -> None:
    project.write({**sending(', on_late="correct"'), **BOTH, **landed("x", D2, 7)})
    with project.open() as mill:
        ran(mill)
        project.write(landed("x", D1, 50))
        ran(mill)
        opened, corrected = sent(project)
        assert (corrected["value"], corrected["rows"]) == (D1, [[-1, D1, "x", 5], [1, D1, "x", 50]])
        assert corrected["all"] == [[D1, 6], [D1, 50]]
        assert opened["key"] != corrected["key"]


def test_late_rows_that_leave_tidemill_wait_for_a_person_by_default(project: Project) -> None:
    project.write({**sending(), **BOTH})
    with project.open() as mill:
        ran(mill)
        project.write(landed("x", D1, 50))
        ran(mill)
        assert len(sent(project)) == 1
        mill.apply()
        ran(mill)
        assert [(each["value"], each["rows"]) for each in sent(project)[1:]] == [
            (D1, [[-1, D1, "x", 5], [1, D1, "x", 50]])
        ]


def test_late_rows_that_join_the_next_value_come_with_its_rows(project: Project) -> None:
    project.write({**sending(', on_late="next"'), **BOTH})
    with project.open() as mill:
        ran(mill)
        project.write(landed("x", D1, 50))
        ran(mill)
        project.write({**landed("x", D2, 1), **landed("y", D2, 2)})
        ran(mill)
        assert (sent(project)[1]["value"], sent(project)[1]["rows"]) == (
            D2,
            [[-1, D1, "x", 5], [1, D1, "x", 50], [1, D2, "x", 1], [1, D2, "y", 2]],
        )


def test_an_input_without_the_partition_column_joins_with_its_changes(project: Project) -> None:
    project.write({**sending("", ', "stations"'), **BOTH})
    with project.open() as mill:
        mill.emit("stations", [{"id": "x"}])
        ran(mill)
        mill.emit("stations", [{"id": "y"}])
        ran(mill)
        assert [each["stations"] for each in sent(project)] == [["x"]]
        project.write({**landed("x", D2, 1), **landed("y", D2, 2)})
        ran(mill)
        assert [each["stations"] for each in sent(project)] == [["x"], ["y"]]


def test_every_retry_keeps_value_rows_and_key_whatever_opened_since(project: Project) -> None:
    project.write(
        {**sending(', retries=0, on_late="correct"'), **landed("x", D2, 7), **landed("y", D2, 8), "broken": ""}
    )
    with project.open() as mill:
        ran(mill)
        assert job_state(mill, "send") == "held"
    project.remove("broken")
    # An earlier value is complete now, and the value that was begun has late rows: both come after it.
    project.write({**BOTH, **landed("x", D2, 70)})
    with project.open() as mill:
        ran(mill)
    begun, again, *rest = sent(project)
    assert begun["value"] == again["value"] == D2
    for what in ("rows", "key", "keys", "inputs"):
        assert begun[what] == again[what]
    assert [(each["value"], len(each["rows"])) for each in rest] == [(D1, 2), (D2, 2)]
    assert len({each["key"] for each in sent(project)}) == 3


def test_a_pinned_value_goes_on_even_where_its_members_are_no_longer_complete(project: Project) -> None:
    toml = WEATHER.replace('complete.station = ["x", "y"]', 'complete.station = "stations.id"') + STATIONS
    project.write({**sending(", retries=0"), "tidemill.toml": toml, **BOTH, "broken": ""})
    with project.open() as mill:
        mill.emit("stations", [{"id": "x"}, {"id": "y"}])
        ran(mill)
        mill.emit("stations", [{"id": "z"}])
        project.remove("broken")
    with project.open() as mill:
        ran(mill)
        assert [(each["value"], len(each["rows"])) for each in sent(project)] == [(D1, 2), (D1, 2)]


def test_a_process_killed_within_a_gated_effect_repeats_it_with_its_value_and_key(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    files = sending()
    slow = files["jobs/send.py"].replace('if (HERE / "broken").exists():', 'while (HERE / "broken").exists():')
    project.write({**files, "jobs/send.py": slow.replace('raise RuntimeError("the other side is down")', "pass")})
    project.write({**BOTH, "broken": ""})
    process = started(project, "run")
    until(lambda: len(sent(project)) == 1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.remove("broken")
    project.cli("run")
    first, again = sent(project)
    assert (first["value"], first["key"], first["rows"]) == (again["value"], again["key"], again["rows"])
    project.cli("run")
    assert len(sent(project)) == 2


def test_too_many_rows_of_one_value_are_held_and_apply_releases_that_value_alone(project: Project) -> None:
    project.write({**sending(", hold_above=3"), **landed("x", D1, 1, 2, 3), **landed("y", D1, 4)})
    project.write({**landed("x", D2, 1, 2, 3), **landed("y", D2, 4), **landed("x", D3, 1), **landed("y", D3, 2)})
    with project.open() as mill:
        ran(mill)
        assert sent(project) == []
        assert f"4 rows outside for {D1}" in str(mill.runs()[0]["error"])
    with project.open() as mill:  # what was pinned stays pinned, and apply means exactly that
        settled(mill)
        assert mill.apply()["released"] == ["send"]
        ran(mill)
        assert [each["value"] for each in sent(project)] == [D1]
        assert job_state(mill, "send") == "held"
        assert mill.apply()["released"] == ["send"]
        settled(mill)
        assert [each["value"] for each in sent(project)] == [D1, D2, D3]


def test_few_rows_of_a_value_are_not_held_for_the_rows_of_others(project: Project) -> None:
    project.write({**sending(", hold_above=3"), **BOTH, **landed("x", D2, *range(50))})
    with project.open() as mill:
        ran(mill)
        assert [each["value"] for each in sent(project)] == [D1]


COMMAND = """[jobs.report]
inputs = ["weather"]
outputs = ["reported"]
gate = "day"
on_late = "correct"
command = ["python", "report.py"]
"""
REPORT = "import os\nopen('told.txt', 'a').write(os.environ['TIDEMILL_RUN'] + '\\n')\n"


def told(project: Project) -> list[dict[str, Any]]:
    return [json.loads(line) for line in project.lines("told.txt")]


def test_a_gated_command_is_told_its_value_and_the_files_of_that_value(project: Project) -> None:
    project.write({"tidemill.toml": WEATHER + COMMAND, "report.py": REPORT, **BOTH, **landed("x", D2, 7)})
    with project.open() as mill:
        ran(mill)
        project.write(landed("y", D2, 8))
        ran(mill)
        project.write(landed("x", D1, 50))
        ran(mill)
    files = [(each["value"], each["inputs"]["weather"]["files"]) for each in told(project)]
    assert files == [
        (D1, [f"in/x/{D1}.csv", f"in/y/{D1}.csv"]),
        (D2, [f"in/x/{D2}.csv", f"in/y/{D2}.csv"]),
        (D1, [f"in/x/{D1}.csv"]),
    ]
    assert len({each["idempotency_key"] for each in told(project)}) == 3


def test_a_gated_command_over_files_without_rows_is_told_the_files_of_its_value(project: Project) -> None:
    toml = WEATHER.replace('format = "csv"', 'format = "binary"').partition("[assets.weather.columns]")[0]
    project.write({"tidemill.toml": toml + COMMAND, "report.py": REPORT, **BOTH, **landed("x", D2, 7)})
    with project.open() as mill:
        ran(mill)
        project.write(landed("y", D2, 8))
        ran(mill)
        project.write(landed("x", D1, 50))
        ran(mill)
    assert [(each["value"], len(each["inputs"]["weather"]["files"])) for each in told(project)] == [
        (D1, 2),
        (D2, 2),
        (D1, 1),
    ]


def test_a_gated_extract_holds_the_released_rows_alone(project: Project) -> None:
    sql = "-- materialized: extract\n-- gate: day\nselect day, station, degrees from weather"
    project.write({"tidemill.toml": WEATHER, "jobs/report.sql": sql, **BOTH, **landed("x", D2, 7)})
    with project.open() as mill:
        ran(mill)
        assert extracted(project) == [f"{D1},x,5", f"{D1},y,6"]
        project.write({**landed("y", D2, 8), **landed("x", D3, 1)})
        ran(mill)
        assert extracted(project) == [f"{D1},x,5", f"{D1},y,6", f"{D2},x,7", f"{D2},y,8"]


def extracted(project: Project) -> list[str]:
    return sorted(line.replace('"', "") for line in project.lines("extracts/report.csv")[1:])


def test_on_starts_a_gated_effect_for_every_value_that_is_complete_by_then(project: Project) -> None:
    files = sending(', on="end_of_day"')
    project.write({**files, "tidemill.toml": WEATHER + '[assets.end_of_day]\nkind = "external"\n'})
    project.write({**BOTH, **landed("x", D2, 7), **landed("y", D2, 8)})
    with project.open() as mill:
        ran(mill)
        assert sent(project) == []
        mill.touch("end_of_day", "d2")
        ran(mill)
        assert [each["value"] for each in sent(project)] == [D1, D2]
        project.write({**landed("x", D3, 7), **landed("y", D3, 8)})
        ran(mill)
        assert len(sent(project)) == 2


def test_a_gated_effect_that_is_added_later_has_behind_it_what_was_complete(project: Project) -> None:
    project.write({"tidemill.toml": WEATHER, "jobs/n.sql": "-- mode: realtime\nselect count(*) n from weather"})
    project.write({**BOTH, **landed("x", D2, 7)})
    project.run()
    project.write(sending())
    with project.open() as mill:
        ran(mill)
        assert sent(project) == []
        project.write(landed("y", D2, 8))
        ran(mill)
        assert [(each["value"], len(each["rows"])) for each in sent(project)] == [(D2, 2)]


def test_the_key_of_a_gated_run_is_that_of_its_job_ranges_and_value(project: Project) -> None:
    project.write({**sending(), **BOTH})
    with project.open() as mill:
        ran(mill)
        [run] = mill.runs()
        taken = {"weather": tuple(run["inputs"]["weather"])}
        assert sent(project)[0]["key"] == idempotency_key("send", taken, D1)  # type: ignore[arg-type]
        assert run["readiness"]["value"] == D1


def test_rows_without_a_partition_value_open_nothing(project: Project, tmp_path: Path) -> None:
    toml = (
        '[assets.sales]\nkind = "topic"\nid = "id"\ncomplete.shop = ["x"]\n[assets.sales.columns]\nid = "varchar"\n'
        'shop = "varchar"\nday = "date"\n'
    )
    code = SEND.replace("MORE_INPUTS", "").replace("MORE", "").replace("weather", "sales")
    code = code.replace('r["day"], r["station"], r["degrees"]', 'str(r["day"]), r["shop"], r["id"]')
    code = code.replace('[r["day"], r["degrees"]]', '[str(r["day"]), r["id"]]')
    project.write({"tidemill.toml": toml, "jobs/send.py": code})
    with project.open() as mill:
        mill.emit("sales", [{"id": "a", "shop": "x", "day": D1}, {"id": "b", "shop": "x", "day": None}])
        ran(mill)
        assert [(each["value"], each["rows"]) for each in sent(project)] == [(D1, [[1, D1, "x", "a"]])]
        assert explained(mill) == []


def explained(mill: Mill) -> list[str]:
    return [reason for reason in mill.explain("send")["because"] if "None" in reason]

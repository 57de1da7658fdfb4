"""What commands print: the shapes of the outer contract with `--json`, plain aligned text where nobody looks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from tests.cli.conftest import Command
from tests.cli.fake import FakeMill
from tidemill.cli import program

ROW = '{"id": "1", "carrier": "UA", "delay": 3}'


def answer(tidemill: Command, *words: str, code: int = 0, **said: Any) -> Any:
    result = tidemill(*words, "--json", **said)
    assert result.exit_code == code, result.output
    assert result.stderr == ""
    return json.loads(result.stdout)


def text(tidemill: Command, *words: str, code: int = 0) -> str:
    result = tidemill(*words)
    assert result.exit_code == code, result.output
    return result.stdout


def test_emit_then_run_then_query(tidemill: Command) -> None:
    sent = answer(tidemill, "emit", "departures", "--row", ROW)
    assert sent == {"accepted": 1, "duplicate": 0, "parked": 0, "results": []}
    assert answer(tidemill, "run") == {"runs": 1, "succeeded": 1, "failed": 0, "changes": 1}
    assert answer(tidemill, "run") == {"runs": 0, "succeeded": 0, "failed": 0, "changes": 0}
    assert answer(tidemill, "query", "select * from totals") == [{"carrier": "UA", "flights": 1, "delay": 3}]


def test_a_run_that_fails_is_exit_code_1(tidemill: Command, mill: FakeMill) -> None:
    mill.fails_on = "totals"
    tidemill("emit", "departures", "--row", ROW)
    assert answer(tidemill, "run", code=1) == {"runs": 1, "succeeded": 0, "failed": 1, "changes": 0}


def test_run_says_a_line_per_run_to_stderr_and_the_sum_to_stdout(tidemill: Command, mill: FakeMill) -> None:
    tidemill("emit", "departures", "--row", ROW)
    result = tidemill("run")
    assert result.stderr == "succeeded totals (1 rows)\n"
    assert result.stdout == "1 runs: 1 succeeded, 0 failed, 1 changes\n"
    mill.fails_on = "totals"
    result = tidemill("run", "totals", "--force")
    assert result.stderr == "failed totals: division by zero\nsee why: tidemill runs --state failed\n"
    assert tidemill("run", "other").stdout == "nothing was due\n"


def test_run_select_takes_what_is_upstream(tidemill: Command) -> None:
    tidemill("emit", "departures", "--row", ROW)
    assert answer(tidemill, "run", "--select", "other+")["runs"] == 0
    assert answer(tidemill, "run", "--select", "+report")["runs"] == 1


def test_a_dry_run_runs_nothing(tidemill: Command) -> None:
    tidemill("emit", "departures", "--row", ROW)
    dry = answer(tidemill, "run", "totals", "--dry-run")
    assert [(job["job"], job["ready"], job["because"]) for job in dry["jobs"]] == [
        ("totals", True, ["departures has 1 changes"])
    ]
    assert answer(tidemill, "runs") == []
    assert text(tidemill, "run", "totals", "--dry-run").splitlines()[1].split() == (
        "totals yes departures has 1 changes".split()
    )


def test_map_is_the_mapping(tidemill: Command) -> None:
    mapping = answer(tidemill, "map")
    assert mapping[0] == {"job": "totals", "inputs": ["departures"], "outputs": ["totals"], "mode": "batch"}
    assert answer(tidemill, "lineage") == mapping
    assert text(tidemill, "map").splitlines()[3] == "send    report, end_of_day  sent     realtime"


def test_map_as_a_mermaid_chart(tidemill: Command) -> None:
    chart = text(tidemill, "map", "--mermaid").splitlines()
    assert chart[0] == "flowchart LR"
    assert '  a0[("departures")]' in chart
    assert '  j0["totals<br/>batch"]' in chart
    assert {"  a0 --> j0", "  j0 --> a1"} <= set(chart)


def test_status(tidemill: Command, mill: FakeMill) -> None:
    status = answer(tidemill, "status")
    assert status["jobs"][0] == {
        "job": "totals",
        "mode": "batch",
        "state": "idle",
        "lag_changes": 0,
        "lag_seconds": 90.0,
        "freshness_seconds": 7300.0,
    }
    assert status["assets"][0].keys() == {"asset", "kind", "head", "rows", "freshness_seconds"}
    mill.fails_on = "report"
    shown = tidemill("status")
    assert shown.stdout.splitlines()[1] == "totals  batch       idle     0  1.5m      2.03h"
    assert shown.stderr == "alarm: held report: it failed\n"


def test_runs(tidemill: Command) -> None:
    tidemill("emit", "departures", "--row", ROW)
    tidemill("run")
    [run] = answer(tidemill, "runs", "--job", "totals", "--state", "succeeded", "--limit", "5")
    assert run == {
        "run": "r1",
        "job": "totals",
        "state": "succeeded",
        "attempt": 1,
        "inputs": {"departures": [0, 1]},
        "started_at": 1.0,
        "finished_at": 2.0,
        "rows_in": 1,
        "rows_out": 1,
        "error": "",
    }
    assert "1970-01-01T00:00:01Z" in text(tidemill, "runs")
    assert answer(tidemill, "logs", "r1") == ["begun", "[done] 100%"]
    assert text(tidemill, "logs", "r1") == "begun\n[done] 100%\n"
    assert answer(tidemill, "cancel", "r1") == {"run": "r1", "state": "cancelled"}


def test_explain(tidemill: Command) -> None:
    said = answer(tidemill, "why", "totals")
    assert (said["job"], said["ready"], said["because"]) == ("totals", False, ["no input has news"])
    assert text(tidemill, "explain", "totals") == "totals (batch, idle): not ready\n  no input has news\n"


def test_plan_and_apply(tidemill: Command) -> None:
    plan = answer(tidemill, "plan")
    assert plan["changes"] == [{"job": "totals", "change": "rebuild", "why": "its SQL changed"}]
    assert {"job", "maintained", "reason", "guarantee", "ready", "because"} <= plan["jobs"][0].keys()
    assert "totals: would not run\n  because:    no input has news\n  maintained: recompute" in text(tidemill, "plan")
    assert answer(tidemill, "apply") == {"applied": ["totals"], "released": []}
    assert text(tidemill, "apply") == "applied totals\n"


def test_ls(tidemill: Command) -> None:
    found = answer(tidemill, "ls")
    assert found["assets"][0]["asset"] == "departures"
    assert found["jobs"] == answer(tidemill, "map")
    assert "totals      table           3  totals  report" in text(tidemill, "ls")


@pytest.mark.parametrize(
    ("words", "said", "shown"),
    [
        (["mode", "totals"], {"job": "totals", "mode": "batch", "override": False}, "totals: batch"),
        (["mode", "totals", "realtime"], {"job": "totals", "mode": "realtime", "override": True}, "(overridden)"),
        (["pause", "totals"], {"job": "totals", "state": "paused"}, "totals: paused"),
        (["resume", "totals", "--from", "now"], {"job": "totals", "state": "idle"}, "totals: idle"),
        (["retry", "totals"], {"job": "totals", "state": "due"}, "totals: due"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_steering(tidemill: Command, words: list[str], said: dict[str, Any], shown: str) -> None:
    assert answer(tidemill, *words) == said
    assert shown in text(tidemill, *words)


def test_dead_letters(tidemill: Command) -> None:
    answer(tidemill, "emit", "departures", "--row", '{"id": "x"}', code=1)
    [letter] = answer(tidemill, "dead", "list")
    assert letter.keys() == {"id", "asset", "job", "stage", "reason", "payload", "attempts", "state"}
    assert answer(tidemill, "dlq", "list", "--asset", "elsewhere") == []
    assert answer(tidemill, "dead") == [letter]
    assert answer(tidemill, "dead", "show", "1") == letter
    assert 'payload:   {"id": "x"}\n' in text(tidemill, "dead", "show", "1")
    assert "dead letter 7" in tidemill("dead", "show", "7").stderr


def test_backup(tidemill: Command, tmp_path: Path) -> None:
    made = answer(tidemill, "backup", str(tmp_path / "copy"))
    assert made == {"target": str(tmp_path / "copy"), "files": ["all.json"], "bytes": 2}
    again = tidemill("backup", str(tmp_path / "copy"))
    assert again.exit_code == 2
    assert "is not empty" in again.stderr


def test_an_error_says_message_place_and_mend(tidemill: Command) -> None:
    result = tidemill("query", "select * from absent")
    assert result.exit_code == 2
    assert result.stderr.splitlines() == [
        "Error: the query fails: no such table: absent",
        "  at: query",
        "  mend: see: tidemill ls",
    ]


def test_an_error_is_json_where_json_is_asked_for(tidemill: Command) -> None:
    result = tidemill("explain", "nothing", "--json")
    assert result.exit_code == 2
    assert result.stdout == ""
    said = {"kind": "NotFound", "message": "there is no job nothing", "place": "", "mend": "did you mean totals?"}
    assert json.loads(result.stderr) == {"error": said}


def test_options_count_before_and_after_the_name(owned: Path) -> None:
    before = CliRunner().invoke(program, ["--json", "--project", str(owned), "map"])
    after = CliRunner().invoke(program, ["map", "--json", "--project", str(owned)])
    assert before.exit_code == after.exit_code == 0
    assert before.stdout == after.stdout


def test_query_reads_its_sql_from_stdin(tidemill: Command) -> None:
    assert answer(tidemill, "query", "-", stdin="select 1 as one") == [{"one": 1}]


def test_a_query_without_rows_says_so_beside_the_answer(tidemill: Command) -> None:
    result = tidemill("query", "select * from totals")
    assert (result.stdout, result.stderr) == ("", "no rows\n")


def test_values_are_shown_on_one_line_and_numbers_to_the_right(tidemill: Command) -> None:
    result = tidemill("query", "select 'a\nb' as text, 5 as number, null as none union all select 'c', 12, null")
    assert result.stdout == "text  number  none\na b        5  -\nc         12  -\n"


def test_a_folder_that_is_no_project_is_left_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(program, ["status", "--project", str(tmp_path)])
    assert result.exit_code == 2
    assert "there is no project in" in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_the_project_is_found_from_a_folder_inside_it(owned: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside = owned / "jobs" / "deep"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    assert CliRunner().invoke(program, ["map"]).exit_code == 0


def test_completion_scripts() -> None:
    for shell in ("bash", "zsh", "fish"):
        result = CliRunner().invoke(program, ["completion", shell])
        assert "_TIDEMILL_COMPLETE" in result.stdout


def test_doctor_finds_the_machine_fit_and_names_the_owner(tidemill: Command) -> None:
    findings = {finding["check"]: finding for finding in answer(tidemill, "doctor")}
    assert {"python", "versions", "sqlite", "disk", "fsync", "owner"} <= findings.keys()
    assert "(serve) answers at 127.0.0.1:" in findings["owner"]["detail"]
    assert findings["fsync"]["state"] in {"ok", "warn"}

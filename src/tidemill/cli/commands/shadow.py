"""`tidemill shadow`: another mode, another query or another system beside a live job, compared as they go."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import counted, duration, print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import NotFound, UserError
from tidemill.project.words import duration as seconds_of

_SIGNS = {"shadow_only": "+", "live_only": "-"}


@declare(
    "tidemill shadow daily_report --mode realtime",
    "tidemill shadow verdicts --sql new_rule.sql",
    "tidemill shadow daily_report --against nightly_report",
    "tidemill shadow verdicts",
    "tidemill shadow verdicts --rows 100",
    "tidemill shadow verdicts --promote --equal-for 1h",
    "tidemill shadow verdicts --promote --accept 3",
    "tidemill shadow verdicts --abandon",
)
@click.argument("job")
@click.option("--mode", type=click.Choice(["realtime", "microbatch", "batch"]), help="Run it in this mode beside.")
@click.option("--sql", "file", metavar="FILE", help="Run this query beside: the whole new file of the job.")
@click.option("--against", default="", metavar="ASSET", help="Compare with what another system makes.")
@click.option("--report", is_flag=True, help="Show what was found so far (as without any option).")
@click.option(
    "--rows", type=click.IntRange(0), default=0, metavar="N", help="Show up to N differing rows of each kind."
)
@click.option("--promote", is_flag=True, help="Let the job go on as its shadow, where both are equal.")
@click.option("--equal-for", default="", metavar="TIME", help="Promote only if equal for this long, such as 1h.")
@click.option("--accept", type=click.IntRange(0), default=0, metavar="N", help="Promote though exactly N rows differ.")
@click.option("--abandon", is_flag=True, help="Let the shadow go; nothing of it stays.")
def command(
    settings: Settings,
    job: str,
    *,
    mode: str | None,
    file: str | None,
    against: str,
    report: bool,
    rows: int,
    promote: bool,
    equal_for: str,
    accept: int,
    abandon: bool,
) -> int:
    """Run a job in another mode or with another query beside the live one, on the same inputs, and compare continuously.

    The shadow writes hidden tables that nobody reads, works when the live jobs rest, and outlives the process. It is compared
    with the live table where both have read equally far. Exit code 1 where the two differ, or were not compared yet.
    """
    if sum(map(bool, (mode, file, against, report or rows, promote, abandon))) > 1:
        raise UserError(
            "one at a time", mend="start with --mode, --sql or --against; then --report, --promote or --abandon"
        )
    if (equal_for or accept) and not promote:
        raise UserError("--equal-for and --accept say when to promote", mend="add --promote")
    wanted = {
        "mode": mode or "",
        "sql": _text(file) if file else "",
        "file": file or "",
        "against": against,
        "samples": rows,
        "promote": promote,
        "equal_for": _seconds(equal_for) if equal_for else 0.0,
        "accept": accept,
        "abandon": abandon,
    }
    answer = ask(settings, "shadow", lambda mill: mill.shadow(job, **wanted))  # type: ignore[arg-type]
    if settings.is_json:
        print_json(answer)
    elif abandon:
        click.echo(f"{job}: its shadow is gone")
    else:
        _show(job, answer)
    return 0 if abandon or answer.get("promoted", answer["equal"]) else 1


def _text(file: str) -> str:
    path = Path(file)
    if not path.is_file():
        raise NotFound(f"there is no file {file}", mend="give the file with the whole new query, header and all")
    return path.read_text(encoding="utf-8-sig")


def _seconds(text: str) -> float:
    try:
        return seconds_of(text)
    except ValueError as error:
        raise UserError(str(error), mend="write --equal-for 1h") from None


def _show(job: str, answer: dict[str, Any]) -> None:
    if answer.get("promoted"):
        what = f"mode {answer['word']}" if answer["kind"] == "mode" else answer["word"]
        click.echo(f"{job}: goes on as {what}; its shadow is gone")
        return
    click.echo(f"{job} beside {answer['kind']} {answer['word']}: {_verdict(answer)}")
    for kind, sign in _SIGNS.items():
        for row in answer["samples"].get(kind, ()):
            click.echo(f"  {sign} {_line(row)}")
    for pair in answer["samples"].get("changed", ()):
        click.echo(f"  - {_line(pair['live'])}\n  + {_line(pair['shadow'])}")
    for name in ("live", "shadow"):
        if answer[name]["runs"]:
            click.echo(f"  {name}: {_took(answer[name])}")
    if answer["parked"]:
        say(f"{counted(answer['parked'], 'row')} parked by the shadow alone")
    if answer["lag_changes"]:
        say(f"the shadow is {counted(answer['lag_changes'], 'change')} behind the job")
    if answer["error"]:
        say(f"the shadow does not work: {answer['error']}")
    if "reason" in answer:
        say(f"not promoted: {answer['reason']}")


def _verdict(answer: dict[str, Any]) -> str:
    compared = counted(answer["compared"], "comparison")
    if not answer["compared"]:
        return "not compared yet"
    if answer["equal"]:
        return f"equal, {counted(answer['rows'], 'row')} ({compared}, {answer['unequal']} of them unequal)"
    counts = answer["counts"]
    found = f"{counts['changed']} changed, {counts['shadow_only']} new, {counts['live_only']} gone"
    columns = f"; columns: {answer['columns']}" if answer["columns"] else ""
    return f"{counted(answer['different'], 'row')} of {answer['rows']} different: {found}{columns} ({compared})"


def _took(side: dict[str, Any]) -> str:
    latency = side["latency_seconds"]
    return (
        f"{counted(side['runs'], 'run')} over {counted(side['rows_in'], 'change')} took {duration(side['seconds'])}; "
        f"news waited {duration(latency['p50'])} (median), {duration(latency['p99'])} (99 of 100)"
    )


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)

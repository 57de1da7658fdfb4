"""`tidemill run`: do all that is due, and stop when idle."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.live import keep_going
from tidemill.cli.output import counted, is_terminal, print_json, print_table, say
from tidemill.cli.progress import Live, RunLines, Tally, TroubleLines
from tidemill.cli.selection import selected
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.project.operations import Operations, Progress

WRONG = 2


@declare(
    "tidemill run",
    "tidemill run delay_by_carrier --force",
    "tidemill run --select +daily_report",
    "tidemill run file.py",
    "tidemill run --watch --json",
)
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option(
    "--select", "select", multiple=True, metavar="[+]JOB[+]", help="JOB, with what is upstream or downstream."
)
@click.option("--watch", is_flag=True, help="Go on as things change, until stopped.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would run, and run nothing.")
@click.option("--force", is_flag=True, help="Run the named jobs even if nothing is due.")
def command(
    settings: Settings, *, jobs: tuple[str, ...], select: tuple[str, ...], watch: bool, is_dry: bool, force: bool
) -> int:
    """Do all that is due (of these jobs, or of all), wait for retries, and stop when idle.

    Exit code 1 if a run failed or a file was rejected, 2 if a definition does not load (who follows the project then
    goes on with the old one). Rows that a job parked are told and fail nothing: tidemill dead list. The first JOB may be
    a Python file, which then is the project. With --watch --json every run that ended is a line, as `runs` has it; a
    signal stops it in order, and the exit code says which: 130 or 143.
    """
    if jobs and jobs[0].endswith(".py") and Path(jobs[0]).is_file():
        settings, jobs = replace(settings, project=jobs[0]), jobs[1:]
    if force and not (jobs or select):
        raise click.UsageError("--force needs the jobs to run\n  mend: name them: tidemill run JOB --force")
    if watch and (jobs or select or is_dry or force):
        raise click.UsageError("--watch runs whatever is due\n  mend: leave out the other words")
    if watch:
        keep_going(settings, "run --watch", mode="watch", tells_runs=True)
    if is_dry:
        return _dry(settings, jobs, select)
    answer, tally = ask(settings, "run", lambda mill: _run(settings, mill, jobs, select, force), mode="once")
    _show(settings, answer, tally)
    if answer["failed"] or tally.rejected:
        return 1
    return WRONG if tally.unloaded else 0


def _run(
    settings: Settings, mill: Operations, jobs: tuple[str, ...], select: tuple[str, ...], force: bool
) -> tuple[Any, Tally]:
    chosen = selected(mill, jobs, select)
    with _progress(settings) as progress:
        tally = Tally(progress)
        return mill.run(chosen, force=force, progress=tally), tally


def _progress(settings: Settings) -> AbstractContextManager[Progress]:
    if settings.is_json:
        return TroubleLines()
    if is_terminal(sys.stderr):
        return Live()
    return RunLines()


def _show(settings: Settings, answer: Any, tally: Tally) -> None:
    if settings.is_json:
        print_json({name: answer[name] for name in ("runs", "succeeded", "failed", "changes")})
        return
    counts = f"{answer['runs']} runs: {answer['succeeded']} succeeded, {answer['failed']} failed"
    told = [f"{counts}, {answer['changes']} changes" if answer["runs"] else "nothing was due"]
    told += [f"{counted(tally.parked, 'row')} parked"] if tally.parked else []
    told += [f"{counted(tally.rejected, 'file')} rejected"] if tally.rejected else []
    click.echo(", ".join(told))
    if answer["failed"]:
        say(f"see why: tidemill runs --state {'held' if tally.held else 'failed'}")
    if tally.parked or tally.rejected:
        say("see what was left out: tidemill dead list")


def _dry(settings: Settings, jobs: tuple[str, ...], select: tuple[str, ...]) -> int:
    plan = ask(settings, "run --dry-run", lambda mill: _planned(mill, jobs, select))
    if settings.is_json:
        print_json(plan)
    else:
        rows = [[job["job"], job["ready"], "; ".join(job["because"])] for job in plan["jobs"]]
        print_table(["job", "would run", "because"], rows, "there are no jobs")
    return 0


def _planned(mill: Operations, jobs: tuple[str, ...], select: tuple[str, ...]) -> Any:
    chosen = selected(mill, jobs, select)
    plan = mill.plan()
    return {**plan, "jobs": [job for job in plan["jobs"] if not chosen or job["job"] in chosen]}

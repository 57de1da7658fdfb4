"""Jobs that are commands: a program is started with the run in its environment, and its exit code is the verdict.

Rules of this file:
  * the command is a list of words; no shell reads it; it runs in the project's folder;
  * `TIDEMILL_RUN` (JSON) tells it everything: run, idempotency key, job, attempt, the value of its gate ("" without
    one), the traces that its events belong to (`TRACEPARENT`, the newest), and per input the range and files; behind a gate the rows of the value within the range are the run's, and
    the files are those that hold them;
  * it gets a process group of its own, so that a timeout ends it with all it started: asked first, then killed;
  * what it prints goes to the run's log; of a failure the last lines of stderr are the reason.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from tidemill.core.errors import JobFailed, UserError
from tidemill.core.ports import Work

__all__ = ["ENVIRONMENT", "CommandFailed", "CommandTimedOut", "end_command", "payload", "run_command"]

ENVIRONMENT = "TIDEMILL_RUN"
"""The environment variable that a command reads."""
TRACEPARENT = "TRACEPARENT"
"""The environment variable in which OpenTelemetry's tools look for the trace that they continue."""
GRACE_SECONDS = 5.0
"""How long a command that ran out of time may take to end by itself."""
LAST_LINES = 10

Files = Mapping[str, Sequence[str]]


class CommandFailed(JobFailed):
    """A command ended with an exit code that is not zero."""


class CommandTimedOut(JobFailed):
    """A command took longer than its timeout and was ended."""


def payload(work: Work, key: str, files: Files | None = None) -> dict[str, Any]:
    """What a command is told."""
    given = files or {}
    inputs = {
        asset: {"from": from_, "to": to, "files": list(given.get(asset, ()))}
        for asset, (from_, to) in work.ranges.items()
    }
    return {
        "run": work.run,
        "idempotency_key": key,
        "job": work.job.name,
        "attempt": work.attempt,
        "value": work.value,
        "traceparents": list(work.traceparents),
        "inputs": inputs,
        "outputs": list(work.job.outputs),
    }


def run_command(
    work: Work,
    key: str,
    *,
    folder: Path,
    log: Path,
    files: Files | None = None,
    environment: Mapping[str, str] | None = None,
    started: Callable[[subprocess.Popen[bytes]], None] = lambda _: None,
) -> None:
    """Run a job's command once, to its end; `started` is told the process, so that it can be ended.

    Raises CommandFailed, CommandTimedOut, or UserError where there is no such program.
    """
    command = json.loads(work.job.transform)
    told = json.dumps(payload(work, key, files), ensure_ascii=False)
    traced = {TRACEPARENT: work.traceparents[0]} if work.traceparents else {}
    surroundings = {**_surroundings(), **(environment or {}), **traced, ENVIRONMENT: told}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(
                f"job {work.job.name}: {command[0]} cannot be started: {error.strerror}",
                place=str(work.job.place),
                mend="name a program that is on PATH, or give its path from the project's folder",
            ) from error
        started(process)
        _finish(process, work, output)


def end_command(process: subprocess.Popen[bytes]) -> None:
    """End a command and all it started: asked first, then killed."""
    _end(process)


def _surroundings() -> dict[str, str]:
    """Our environment, in which `python` is the Python we run on."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, "PATH": path}


def _finish(process: subprocess.Popen[bytes], work: Work, output: IO[bytes]) -> None:
    last: deque[str] = deque(maxlen=LAST_LINES)
    assert process.stderr is not None
    pump = threading.Thread(target=_copy, args=(process.stderr, output, last), daemon=True)
    pump.start()
    try:
        code = process.wait(timeout=work.job.timeout_seconds or None)
    except subprocess.TimeoutExpired:
        _end(process)
        raise CommandTimedOut(
            f"job {work.job.name}: the command took longer than {work.job.timeout_seconds:g} s and was ended",
            mend="raise timeout, or see what it waits for in the run's log",
        ) from None
    except BaseException:
        _end(process)
        raise
    finally:
        pump.join(timeout=1.0)
    if code != 0:
        said = "\n".join(last).strip() or "it wrote nothing to stderr"
        how = f"exit code {code}" if code > 0 else f"signal {signal.Signals(-code).name}"
        mend = f"see all that it wrote: tidemill logs {work.run}"
        raise CommandFailed(f"job {work.job.name}: the command ended with {how}: {said}", mend=mend)


def _copy(errors: IO[bytes], output: IO[bytes], last: deque[str]) -> None:
    """Copy stderr to the log and keep its last lines."""
    try:
        for line in errors:
            last.append(line.decode(errors="replace").rstrip())
            output.write(line)
            output.flush()
    except ValueError:
        return  # the log is closed: what a left-over child still prints is nobody's


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the whole process group: ask, wait, kill."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except (ProcessLookupError, PermissionError):
            break
        try:
            process.wait(timeout=GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            continue
    process.poll()

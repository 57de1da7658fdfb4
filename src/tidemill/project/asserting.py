"""The word `assert`: what may be asserted of a job's output, read from a header, `@tm.job(assert_=...)` or tidemill.toml.

Rules of this file:
  * one text is one assertion: `[warn | block] [NAME:] CHECK`; a header may have several `-- assert:` lines;
  * a query reads the job's own outputs and nothing else, for only these are as they would be;
  * what cannot be read is told with what is allowed; columns are checked where they are known (`check`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

from tidemill.core.assertion import Assertion, Check
from tidemill.core.errors import DefinitionError, TidemillError
from tidemill.core.model import Column, Job, Materialized
from tidemill.core.ports import Plan
from tidemill.runtime.asserting import broken_rows
from tidemill.sql import analyse
from tidemill.sql.header import REPEATED

__all__ = ["ALLOWED", "asserted", "assertions", "unfit"]

ALLOWED = (
    "not null COLUMNS | unique COLUMNS | rows between N and N | rows within N% of the last N runs | "
    "a query that gives no rows; before it: warn, NAME:"
)
_SEVERITY = re.compile(r"(warn|block)\s+(?=\S)", re.IGNORECASE)
_NAMED = re.compile(r"([A-Za-z_][\w -]*?)\s*:(?!:)\s*")
_QUERY = re.compile(r"(select|with|from)\b", re.IGNORECASE)
_OF_COLUMNS = re.compile(r"(not\s+null|unique)\s+(.+)", re.IGNORECASE | re.DOTALL)
_BETWEEN = re.compile(r"rows\s+between\s+([\d_]+)\s+and\s+([\d_]+)", re.IGNORECASE)
_CLOSE = re.compile(r"rows\s+within\s+(\d+(?:\.\d+)?)\s*%\s+of\s+(?:the\s+)?last\s+(\d+)\s+runs?", re.IGNORECASE)
RUNS_MAX = 100
"""`rows within` may look back over so many runs."""


def assertions(value: object) -> tuple[Assertion, ...]:
    """The assertions of a text, or of a list of texts. Raises ValueError with what is allowed."""
    texts = value.split(REPEATED) if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) and text.strip() for text in texts):
        raise ValueError(f"{value!r} is not an assertion, nor a list of them")
    found = tuple(_assertion(text.strip()) for text in texts)
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise ValueError(f'two assertions are called "{twice}"; give one another name, such as totals: {twice}')
    return found


def _assertion(text: str) -> Assertion:
    severity = _SEVERITY.match(text)
    said = text[severity.end() :] if severity else text
    named = _NAMED.match(said)
    check = said[named.end() :] if named else said
    name = named[1] if named else " ".join(said.split())
    is_warning = severity is not None and severity[1].lower() == "warn"
    return _checked(Assertion(name, Check.QUERY, is_warning=is_warning), check.strip().rstrip(";"))


def _checked(base: Assertion, check: str) -> Assertion:
    common = {"name": base.name, "is_warning": base.is_warning}
    if _QUERY.match(check):
        return Assertion(check=Check.QUERY, sql=check, **common)  # type: ignore[arg-type]
    if match := _OF_COLUMNS.fullmatch(check):
        columns = tuple(part.strip().strip('"') for part in match[2].split(",") if part.strip())
        kind = Check.UNIQUE if match[1].lower() == "unique" else Check.NOT_NULL
        return Assertion(check=kind, columns=columns, **common)  # type: ignore[arg-type]
    if match := _BETWEEN.fullmatch(check):
        least, most = int(match[1]), int(match[2])
        if least > most:
            raise ValueError(f'"{check}": {least} is above {most}, so no number of rows would do')
        return Assertion(check=Check.ROWS, least=least, most=most, **common)  # type: ignore[arg-type]
    if match := _CLOSE.fullmatch(check):
        runs = int(match[2])
        if not 1 <= runs <= RUNS_MAX:
            raise ValueError(f'"{check}": it can look back over 1 to {RUNS_MAX} runs')
        return Assertion(check=Check.CLOSE, share=float(match[1]) / 100, runs=runs, **common)  # type: ignore[arg-type]
    raise ValueError(f'"{check}" is not a check; write {ALLOWED}')


def asserted(job: Job) -> Iterator[tuple[str, str]]:
    """What is wrong with a job's assertions, whatever its columns are: (what, mend)."""
    if not job.asserts:
        return
    if job.is_outside or job.materialized is Materialized.EXTRACT:
        yield "it asserts something of rows, and has none here", "assert it of the table that it reads"
        return
    for one in job.asserts:
        yield from _wrong_query(one, job)


def _wrong_query(one: Assertion, job: Job) -> Iterator[tuple[str, str]]:
    if one.check is not Check.QUERY:
        return
    own = {output.lower() for output in job.outputs}
    try:
        query = analyse(one.sql, f'assertion "{one.name}"')
    except DefinitionError as error:
        yield f'assertion "{one.name}": {error.message}', error.mend or "write one SELECT"
        return
    for refusal in query.refusals:
        yield f'assertion "{one.name}": {refusal.message}', refusal.mend
    others = [name for name in query.inputs if name.lower() not in own]
    if others:
        yield (
            f'assertion "{one.name}" reads {", ".join(others)}',
            f"it can read what the job writes: {', '.join(job.outputs)}",
        )


def unfit(
    job: Job, plan: Plan, describe: Callable[[str, Mapping[str, tuple[Column, ...]]], object]
) -> Iterator[DefinitionError]:
    """Assertions that do not fit the columns of the job's output, as far as these are known."""
    if not plan.columns:
        return
    for one in job.asserts:
        if any(_wrong_query(one, job)):
            continue  # told already
        try:
            describe(broken_rows(one, job.outputs[0]), dict.fromkeys(job.outputs, plan.columns))
        except TidemillError as error:
            message = error.message.partition("\n")[0]
            known = ", ".join(column.name for column in plan.columns)
            yield DefinitionError(
                f'job {job.name}: assertion "{one.name}" does not fit its output: {message}',
                place=str(job.place),
                mend=f"the columns are {known}",
            )

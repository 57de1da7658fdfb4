"""Checking what a job asserts of its output, inside its run, before anything is published.

Rules of this file:
  * a table is looked at as it would be after the commit, whole; of a topic, which only grows, what the run adds;
  * an assertion that blocks raises `AssertionBroken`: the transaction is rolled back, so the output, its log and the
    cursor stay as they were; one that warns is handed back, and told;
  * how many rows there were after each run is remembered only for jobs that compare with it, in the same transaction.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tidemill.core.assertion import Assertion, Check, is_close
from tidemill.core.change import ORDINAL, PARENT, ArrowStream, Images, Replaced, Slice, Statement
from tidemill.core.errors import AssertionBroken, TidemillError
from tidemill.core.model import Column, Home, Job
from tidemill.core.ports import Table, Transaction
from tidemill.runtime.rows import dicts, table_of
from tidemill.sql.bind import quoted

__all__ = ["SAMPLES", "Asserted", "Asserting", "broken_rows", "counts_asset"]

SAMPLES = 5
"""So many rows that break an assertion are shown."""
_COUNTS = (Column("run", "varchar"), Column("rows", "bigint"))
_COUNTS_SCHEMA = pa.schema([("run", pa.string()), ("rows", pa.int64()), (PARENT, pa.string()), (ORDINAL, pa.int64())])
_COUNTED = (Check.ROWS, Check.CLOSE)
_IN_WORDS = ("of the last run", "of the last {} runs")


@dataclass(frozen=True, slots=True)
class Asserted:
    """An assertion that does not hold, and why in words, with up to `SAMPLES` rows."""

    assertion: Assertion
    reason: str
    samples: Sequence[Mapping[str, Any]] = ()


def counts_asset(job: str) -> str:
    """The internal asset that remembers how many rows a job's output had after its last runs."""
    return f"{job}@counts"


def broken_rows(assertion: Assertion, output: str) -> str:
    """The query over plainly named outputs that gives what breaks an assertion; for a count the one row with it."""
    of = quoted(output)
    names = [quoted(name) for name in assertion.columns]
    if assertion.check is Check.QUERY:
        return assertion.sql
    if assertion.check is Check.NOT_NULL:
        return f"SELECT * FROM {of} WHERE {' OR '.join(f'{name} IS NULL' for name in names)}"
    if assertion.check is Check.UNIQUE:
        known = " AND ".join(f"{name} IS NOT NULL" for name in names)
        listed = ", ".join(names)
        return f"SELECT {listed}, count(*) AS rows FROM {of} WHERE {known} GROUP BY {listed} HAVING count(*) > 1"
    return f"SELECT count(*) AS rows FROM {of}"


@dataclass(slots=True)
class Asserting:
    """The checks of one run; `before` are the heads of the outputs when it began.

    `evaluate` computes a statement: in the run's own transaction, or for a topic over rows that are handed over.
    """

    job: Job
    run: str
    transaction: Transaction
    evaluate: Callable[[Statement], ArrowStream]
    before: Mapping[str, int]
    columns: Mapping[str, tuple[Column, ...]]

    def check(self) -> tuple[Asserted, ...]:
        """What only warns. Raises AssertionBroken for the assertions that block, all of them together."""
        found = [broken for one in self.job.asserts if (broken := self._broken(one)) is not None]
        blocking = [broken for broken in found if not broken.assertion.is_warning]
        if blocking:
            raise AssertionBroken(
                "; ".join(f'job `{self.job.name}`: assertion "{b.assertion.name}": {b.reason}' for b in blocking),
                mend="nothing was published and no input counts as read: mend the data, the job or the assertion, "
                f"then `tidemill retry {self.job.name}`",
            )
        self._remember()
        return tuple(found)

    def _broken(self, one: Assertion) -> Asserted | None:
        """Why it does not hold; None where it does."""
        try:
            rows = self._rows(one)
        except TidemillError as error:
            raise AssertionBroken(
                f'job `{self.job.name}`: assertion "{one.name}" cannot be checked: {error.message}',
                mend="mend the assertion",
            ) from error
        if one.check in _COUNTED:
            reason = _miscounted(one, int(rows["samples"][0]["rows"]), self._counts() if one.runs else ())
            return Asserted(one, reason) if reason else None
        if not rows["found"]:
            return None
        samples = rows["samples"]
        what = "1 row breaks it" if rows["found"] == 1 else f"{rows['found']} rows break it"
        shown = ", ".join(json.dumps(sample, default=str, ensure_ascii=False) for sample in samples)
        return Asserted(one, f"{what}: {shown}", samples)

    def _rows(self, one: Assertion) -> dict[str, Any]:
        """How many rows there are that break it, and the first of them."""
        if any(name not in self.columns for name in self.job.outputs):  # nothing was ever written
            return {"found": 0, "samples": [{"rows": 0}]}
        named = ", ".join(f"{quoted(name)} AS ({self._plain(name)})" for name in self.job.outputs)
        text = (
            f"WITH {named}, _broken AS MATERIALIZED ({broken_rows(one, self.job.outputs[0])}\n) "
            f"SELECT (SELECT count(*) FROM _broken) AS found, "
            f"(SELECT list(_row) FROM (SELECT _row FROM _broken AS _row LIMIT {SAMPLES})) AS samples"
        )
        relations: dict[str, Slice | ArrowStream] = {name: self._shown(name) for name in self.job.outputs}
        (row,) = dicts(self.evaluate(Statement(text, relations)))
        return row

    def _plain(self, output: str) -> str:
        names = ", ".join(quoted(column.name) for column in self.columns[output])
        return f"SELECT {names} FROM {quoted('@input:' + output)}"

    def _shown(self, output: str) -> Slice | ArrowStream:
        head = self.transaction.head(output).offset
        if self.job.home is Home.TABLES:
            return Slice(output, 0, head)
        return self.transaction.read(Slice(output, self.before.get(output, 0), head, Images.ADDED))

    # How many rows there were.

    def _counts(self) -> list[int]:
        """The number of rows after the last runs, oldest first."""
        return [row["rows"] for row in self._remembered()]

    def _remembered(self) -> list[dict[str, Any]]:
        asset = counts_asset(self.job.name)
        head = self.transaction.head(asset)
        return dicts(self.transaction.read(Slice(asset, 0, head.offset))) if head.rows else []

    def _remember(self) -> None:
        runs_max = max((one.runs for one in self.job.asserts), default=0)
        if not runs_max:
            return
        asset = counts_asset(self.job.name)
        self.transaction.define(Table(asset, _COUNTS))
        known = [row["run"] for row in self._remembered()]
        count = Assertion("rows", Check.ROWS)
        row = {"run": self.run, "rows": self._rows(count)["samples"][0]["rows"], PARENT: self.run, ORDINAL: 0}
        leaving = known[: max(0, len(known) + 1 - runs_max)]
        self.transaction.write(asset, Replaced(table_of(_COUNTS_SCHEMA, [row]), [*leaving, self.run]))


def _miscounted(one: Assertion, rows: int, before: Sequence[int]) -> str:
    """Why a number of rows does not do; "" where it does."""
    if one.check is Check.ROWS:
        return "" if one.least <= rows <= one.most else f"{rows} rows, not between {one.least} and {one.most}"
    if is_close(rows, before, one):
        return ""
    last = before[-one.runs :]
    which = _IN_WORDS[one.runs > 1].format(one.runs)
    return f"{rows} rows, more than {one.share:.0%} away from the {sum(last) / len(last):g} {which}"

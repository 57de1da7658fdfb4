"""Jobs by key: a function over all current rows of one key, called for the keys that a change set touches and no other.

Rules of this file:
  * the keys come from both images of the change set, so that a key which a row left is looked at too;
  * the rows of the keys are found by the tables store, a bounded number at a time: the whole input is never here;
  * a key's rows come in an order that no mode can change: as they arrived where rows are only ever added, else by content;
  * outputs belong to their key: the identity of the key is their parent.

Theory of operation. `Affected` asks the store for the keys of a change set, hands them back as a relation, and gets their
current rows. Keys are joined with `=`; keys with a NULL in them have a branch of their own, which is only there when there
is such a key. A first run, a rebuild and a gate take every key there is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from typing import Any, cast

import pyarrow as pa

from tidemill.core.change import OFFSET, PARENT, RID, Images, Slice, Statement
from tidemill.core.errors import DefinitionError, JobFailed, PoisonRecord
from tidemill.core.model import Asset, Job
from tidemill.core.ports import Plan, Reader, Work
from tidemill.sql.bind import quoted
from tidemill.sql.identity import key_identity

__all__ = ["KEYED", "Affected", "keyed_plan"]

KEYED = "keyed"
"""The kind of plan that is maintained by key."""
ROWS_MAX = 200_000
"""Rows that are held at a time; only a key that has more by itself is held whole."""
_ROWS, _KEYS, _CHANGES = '"@input:rows"', '"@input:keys"', '"@input:changes"'


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a plan by key knows of its input: the types of the key's columns, and whether its rows are only ever added."""

    types: Mapping[str, str]
    is_growing: bool

    def text(self) -> str:
        return json.dumps([dict(self.types), self.is_growing])

    @classmethod
    def read(cls, text: str) -> _Shape:
        return cls(*json.loads(text))


def keyed_plan(job: Job, inputs: Mapping[str, Asset]) -> Plan:
    """How a job by key is maintained. Raises DefinitionError for several inputs, and for a column that is not there."""
    if len(inputs) != 1:
        raise DefinitionError(
            f"job {job.name} is called by {', '.join(job.by)} and has {len(inputs)} inputs",
            place=str(job.place),
            mend="give it one input: a SQL job can join several into a table first",
        )
    ((name, asset),) = inputs.items()
    known = [column.name for column in asset.columns]
    missing = next((column for column in job.by if known and column not in known), None)
    if missing is not None:
        near = next(iter(get_close_matches(missing, known, 1, 0.5)), "")
        raise DefinitionError(
            f"job {job.name}: by names {missing}, which is not a column of {name}",
            place=str(job.place),
            mend=f"write {near}" if near else f"the columns are {', '.join(known)}",
        )
    types = {column.name: column.type for column in asset.columns if column.name in job.by}
    shape = _Shape(types, not asset.can_retract)
    reason = f"by key: the function is called for each {', '.join(job.by)} whose rows changed"
    history = {name: "the function is given all rows of a key"}
    return Plan(KEYED, job.columns, None, reason, shape.text(), is_mirrored=True, history=history)


class Affected:
    """The keys that one run looks at, and their rows."""

    def __init__(self, work: Work, reader: Reader, rows_max: int = ROWS_MAX) -> None:
        self._work = work
        self._reader = reader
        self._rows_max = rows_max
        self._asset = work.job.inputs[0]
        self._shape = _Shape.read(work.plan.statement)
        self._by = work.job.by

    @property
    def _range(self) -> tuple[int, int]:
        return self._work.ranges[self._asset]

    @property
    def is_whole(self) -> bool:
        """Whether every key is looked at: what was there before counts for nothing."""
        return self._work.whole or self._range[0] == 0

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to look at."""
        from_, to = self._range
        return not to or (to <= from_ and not self._work.whole)

    @property
    def parents(self) -> tuple[str, ...] | None:
        """The identities of the keys, whose outputs are to be replaced; None for those of all keys."""
        return None if self.is_whole else tuple(self._keys.column(PARENT).to_pylist())

    def chunks(self) -> Iterator[pa.Table]:
        """The rows of the keys, those of one key together and never apart; PARENT has the identity of their key."""
        if self.is_empty or not self._keys.num_rows:
            return
        rows = self._rows(self._keys, f" LIMIT {self._rows_max + 1}")
        if rows.num_rows <= self._rows_max:
            yield rows
            return
        for keys in self._portions():
            yield self._rows(keys)

    def failure(self, failed: Mapping[str, str]) -> Exception:
        """The error of a run whose function failed for these keys (by identity, with what it raised).

        It names the rows of these keys that are in the change set; where a key has lost rows only, no row is at fault.
        """
        about = {key: f"{reason}, for {self._shown(key)}" for key, reason in failed.items()}
        listed = pa.table({PARENT: pa.array(list(failed), pa.string())})
        found = self._evaluate(
            f"SELECT r.{RID}, {self._identity('r.')} AS {PARENT} FROM {_CHANGES} r "
            f"WHERE {self._identity('r.')} IN (SELECT {PARENT} FROM {_KEYS}) ORDER BY r.{OFFSET}, r.{RID}",
            changes=self._state if self.is_whole else self._added,
            keys=listed,
        )
        named = found.column(PARENT).to_pylist()
        unnamed = next((reason for key, reason in about.items() if key not in named), "")
        if unnamed:
            mend = "mend the function: the rows that are left are none that could be parked"
            return JobFailed(f"job {self._work.job.name}: {unnamed}, which has lost rows", mend=mend)
        others = f" (and {len(failed) - 1} more keys)" if len(failed) > 1 else ""
        error = PoisonRecord(f"job {self._work.job.name}: {next(iter(about.values()))}{others}")
        error.rows = tuple((self._asset, rid) for rid in found.column(RID).to_pylist())
        error.reasons = tuple(about[key] for key in named)
        return error

    # What the store is asked.

    @cached_property
    def _keys(self) -> pa.Table:
        """Each key once: its identity, then its columns."""
        columns = ", ".join(map(quoted, self._by))
        text = f"SELECT DISTINCT {self._identity()} AS {PARENT}, {columns} FROM {_CHANGES} ORDER BY {PARENT}"
        return self._evaluate(text, changes=self._state if self.is_whole else self._changes)

    def _portions(self) -> Iterator[pa.Table]:
        """The keys in portions that have at most so many rows together, or are one key."""
        text = f"SELECT {PARENT}, count(*) AS n FROM ({self._of_keys(self._keys)}) GROUP BY {PARENT}"
        counted = self._evaluate(text, rows=self._state, keys=self._keys)
        counts = dict(zip(counted.column(PARENT).to_pylist(), counted.column("n").to_pylist(), strict=True))
        begin, total = 0, 0
        for place, key in enumerate(self._keys.column(PARENT).to_pylist()):
            count = counts.get(key, 0)
            if place > begin and total + count > self._rows_max:
                yield self._keys.slice(begin, place - begin)
                begin, total = place, 0
            total += count
        yield self._keys.slice(begin)

    def _rows(self, keys: pa.Table, limit: str = "") -> pa.Table:
        order = f"{PARENT}, {OFFSET}, {RID}" if self._shape.is_growing else "ALL"
        text = f"SELECT * EXCLUDE ({OFFSET}, {RID}) FROM ({self._of_keys(keys)}) ORDER BY {order}{limit}"
        return self._evaluate(text, rows=self._state, keys=keys)

    def _of_keys(self, keys: pa.Table) -> str:
        """The SELECT of the rows of these keys. Equal values with different texts (0.0 and -0.0) are different keys."""
        is_key = f"{self._identity('r.')} = k.{PARENT}"
        plain = " AND ".join(f"r.{quoted(name)} = {self._typed(name)}" for name in self._by)
        text = f"SELECT k.{PARENT}, r.* FROM {_ROWS} r JOIN {_KEYS} k ON {plain} WHERE {is_key}"
        if not any(keys.column(name).null_count for name in self._by):
            return text
        safe = " AND ".join(f"r.{quoted(name)} IS NOT DISTINCT FROM {self._typed(name)}" for name in self._by)
        some = " OR ".join(f"{quoted(name)} IS NULL" for name in self._by)
        nulls = f"(SELECT * FROM {_KEYS} WHERE {some}) k"
        return f"{text} UNION ALL SELECT k.{PARENT}, r.* FROM {_ROWS} r JOIN {nulls} ON {safe} WHERE {is_key}"

    def _typed(self, name: str) -> str:
        """A value of a key that went through Arrow, in the type of its column again."""
        kind = self._shape.types.get(name)
        return f"CAST(k.{quoted(name)} AS {kind})" if kind else f"k.{quoted(name)}"

    def _identity(self, prefix: str = "") -> str:
        return key_identity(self._by, prefix)

    def _shown(self, identity: str) -> str:
        values: Sequence[object] = json.loads(identity)
        return ", ".join(f"{name} = {value!r}" for name, value in zip(self._by, values, strict=True))

    @property
    def _excluding(self) -> tuple[str, ...]:
        return tuple(self._work.excluding.get(self._asset, ()))

    @property
    def _state(self) -> Slice:
        return Slice(self._asset, 0, self._range[1], Images.STATE, self._work.released, self._excluding)

    @property
    def _changes(self) -> Slice:
        return Slice(self._asset, *self._range, Images.CHANGES)

    @property
    def _added(self) -> Slice:
        return Slice(self._asset, *self._range, Images.ADDED, excluding=self._excluding)

    def _evaluate(self, text: str, **relations: Any) -> pa.Table:
        evaluating = cast(Any, self._reader)  # the snapshot of a run computes; beyond the port, as for staged SQL
        rows: pa.Table = evaluating.evaluate(Statement(text, relations))
        return rows

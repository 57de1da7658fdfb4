"""Maintaining the stages of a job over one change set, in order, each by the cheapest of its rules.

Rules of this file:
  * every rule writes the same rows with the same identities into the same table: the choice is never seen in a result;
  * a stage none of whose leaves has changed is not touched; a stage that was never filled is filled whole;
  * rows that are parked are in no state: those parked before the run are left out of the old one, those parked now of
    the new one, and the change set leaves the first out of its removals and the others out of its additions.

Theory of operation. `run` yields one output a stage, and goes on when it has been written: then the stage's own change set
can be read like that of any asset. The old state of anything is a slice at an older position, because tables keep
their history (docs/design/0002). Small change sets are computed here into Arrow, so that the store needs no temporary
table for them; large ones stay in DuckDB as statements.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core.change import Appended, ArrowStream, Became, Changed, Images, Output, Replaced, Slice, Statement
from tidemill.core.ports import Reader, Work
from tidemill.engines.stages import texts
from tidemill.engines.stages.choose import MERGE, SMALL_CHANGES, TERMS, WHOLE, Chooser, Situation
from tidemill.engines.stages.few import KEYS_MAX, merge_few
from tidemill.engines.stages.layout import Layout
from tidemill.sql.bind import quoted
from tidemill.sql.faithful import is_faithful
from tidemill.sql.identity import key_identity
from tidemill.sql.stages import DELTA, NEW, OLD, OUTPUT, WEIGHT, Stage

__all__ = ["Maintenance"]

LINES_MAX = 100_000
"""Lines of a change set that are held in memory; more are computed where they are written."""
_MENTIONED = re.compile(r'"@input:(\w+)"')
Relations = dict[str, Slice | ArrowStream]


class Evaluating(Reader, Protocol):
    """A reader that also computes."""

    def evaluate(self, statement: Statement) -> Any:
        """The rows of a statement at this snapshot, as an Arrow table."""


@dataclass(slots=True)
class Maintenance:
    """One run over the stages of one job."""

    work: Work
    layout: Layout
    reader: Evaluating
    chooser: Chooser
    ranges: dict[str, tuple[int, int]] = field(default_factory=dict)
    lines: dict[str, Any] = field(default_factory=dict)
    """The change sets of stages of this run, where they are few lines in memory: nobody has to read them back."""

    def run(self) -> Iterator[tuple[str, Output]]:
        """The outputs, stage by stage."""
        self.ranges = dict(self.work.ranges)
        is_anew = self._is_anew()
        for stage in self.layout.stages:
            asset = self.layout.assets[stage.name]
            before = self.reader.head(asset).offset
            changed = self._changed(stage)
            if is_anew or changed:
                yield from self._maintained(stage, asset, changed, is_anew)
            self.ranges[f"@{stage.name}"] = (before, self.reader.head(asset).offset)

    def _maintained(self, stage: Stage, asset: str, changed: list[int], is_anew: bool) -> Iterator[tuple[str, Output]]:
        heads = [self.reader.head(self.layout.asset_of(leaf)) for leaf in stage.region.leaves]
        situation = Situation(
            stage,
            changes=sum(self._length(stage.region.leaves[number]) for number in changed),
            rows=sum(head.rows for head in heads),
            is_anew=is_anew,
            has_expired=any(head.expired for head in heads),
            mark=self.layout.mark,
        )
        with self.chooser.timing(self.work.job.name, situation, self.work.run) as rule:
            output = self._output(stage, rule, changed, situation)
            if isinstance(output, Changed) and isinstance(output.rows, pa.Table) and output.rows.num_rows <= KEYS_MAX:
                self.lines[f"@{stage.name}"] = output.rows
            yield asset, output

    def _is_anew(self) -> bool:
        """Whether every stage is filled whole: a rebuild, a first run, or stages that nobody has filled yet."""
        if self.work.whole or not any(from_ for from_, _ in self.work.ranges.values()):
            return True
        return any(not self.reader.head(asset).offset for asset in self.layout.assets.values())

    def _state(self, asset: str, from_: int, to: int, excluding: tuple[str, ...]) -> Slice:
        """The rows of an asset. A job that a person let begin behind what has expired begins with what it is given."""
        is_behind = 0 < self.reader.head(asset).expired <= from_
        is_first = not self.reader.head(self.layout.assets[OUTPUT]).offset
        if is_behind and is_first and not self.work.whole:
            return Slice(asset, from_, to, Images.ADDED, excluding=excluding)
        return Slice(asset, 0, to, Images.STATE, excluding=excluding)

    def _changed(self, stage: Stage) -> list[int]:
        """The leaves with a change set."""
        return [number for number, leaf in enumerate(stage.region.leaves) if self._length(leaf)]

    def _length(self, leaf: str) -> int:
        from_, to = self.ranges[leaf]
        return to - from_

    # The rules.

    def _output(self, stage: Stage, rule: str, changed: list[int], situation: Situation) -> Output:
        if rule == WHOLE:
            return self._whole(stage)
        is_small = situation.changes <= SMALL_CHANGES
        if rule == TERMS:
            return self._linear(stage, changed, is_small)
        if rule == MERGE:
            return self._merged(stage, changed, situation)
        return self._affected(stage, self._keys(stage, changed), is_small)

    def _types(self, stage: Stage) -> Mapping[str, str]:
        return self.layout.types[stage.name]

    def _whole(self, stage: Stage) -> Output:
        statement = self._statement(stage, texts.whole(stage, self._types(stage)))
        key = self._declared_key(stage)
        is_group = stage.rule == "group" or bool(stage.accumulators)
        if not is_group and (key is not None or not stage.region.has_identity):
            return Became(statement, key)
        is_empty = not self.reader.head(self.layout.assets[stage.name]).rows
        is_identity = key is None or key == tuple(column for _, column in stage.keys)
        return Appended(statement) if is_empty and is_identity else Replaced(statement, None)

    def _declared_key(self, stage: Stage) -> tuple[str, ...] | None:
        return self.work.plan.key if stage.name == OUTPUT else None

    def _linear(self, stage: Stage, changed: list[int], is_small: bool) -> Output:
        key = self._declared_key(stage)
        identity = "" if key is None else key_identity(key)
        text = texts.linear_changes(stage, self._types(stage), changed, identity)
        if key is None and not stage.region.retracts:
            return Appended(self._rows(self._statement(stage, f"SELECT * EXCLUDE ({WEIGHT}) FROM ({text})"), is_small))
        return Changed(self._rows(self._statement(stage, text), is_small), is_checked=key is not None)

    def _merged(self, stage: Stage, changed: list[int], situation: Situation) -> Output:
        few = self._merged_few(stage, changed) if situation.changes <= KEYS_MAX else None
        return few or self._merged_in_sql(stage, changed, situation.changes <= SMALL_CHANGES)

    def _merged_few(self, stage: Stage, changed: list[int]) -> Output | None:
        sums = self.reader.evaluate(self._statement(stage, texts.sums(stage, self._types(stage), changed)))
        if sums.num_rows > KEYS_MAX:
            return None
        kept = texts.looked_up(stage, sums.column("_rid").to_pylist())
        merged = merge_few(stage, sums, self.reader.evaluate(self._statement(stage, kept)))
        if merged is None:
            return None
        lines = merged.table()
        return Changed(self._with_looked_at(stage, lines, merged.keys()) if merged.dirty else lines)

    def _with_looked_at(self, stage: Stage, lines: Any, keys: Any) -> Any:
        """The lines and, for the keys whose extreme may be gone, what their rows say now."""
        again = texts.keyed_changes(stage, self._types(stage), has_null=_has_null(keys), shows_old=False)
        looked = self.reader.evaluate(self._statement(stage, again, keys))
        return pa.concat_tables([lines, looked.select(lines.column_names)])

    def _merged_in_sql(self, stage: Stage, changed: list[int], is_small: bool) -> Output:
        may_be_dirty = any(one.gone for one in stage.accumulators if one.merge in ("min", "max"))
        text = texts.merged(stage, self._types(stage), changed, may_be_dirty=may_be_dirty)
        statement = self._statement(stage, text)
        if not may_be_dirty:
            return Changed(self._rows(statement, is_small))
        lines = self.reader.evaluate(statement)
        is_dirty = lines.column(texts.DIRTY)
        clean = lines.filter(pc.invert(is_dirty)).drop_columns([texts.DIRTY])
        if clean.num_rows == lines.num_rows:
            return Changed(clean)
        keys = lines.filter(is_dirty).select([column for _, column in stage.keys])
        keys = keys.rename_columns([key for key, _ in stage.keys])
        return Changed(self._with_looked_at(stage, clean, keys))

    def _keys(self, stage: Stage, changed: list[int]) -> Any:
        if not stage.keys:
            return None
        return self.reader.evaluate(self._statement(stage, texts.changed_keys(stage, self._types(stage), changed)))

    def _affected(self, stage: Stage, keys: Any, is_small: bool) -> Output:
        has_null = keys is not None and _has_null(keys)
        text = texts.keyed_changes(stage, self._types(stage), has_null=has_null)
        return Changed(self._rows(self._statement(stage, text, keys), is_small))

    def _rows(self, statement: Statement, is_small: bool) -> ArrowStream | Statement:
        """The lines of a change set: here where it and what follows from it are small, else as they are computed."""
        if not is_small:
            return statement
        bounded = Statement(f"SELECT * FROM ({statement.sql}) LIMIT {LINES_MAX + 1}", statement.relations)
        rows = self.reader.evaluate(bounded)
        return statement if rows.num_rows > LINES_MAX else rows

    # Relations.

    def _statement(self, stage: Stage, text: str, keys: Any = None) -> Statement:
        """The text with the slices that it mentions."""
        relations: Relations = {}
        for name in dict.fromkeys(_MENTIONED.findall(text)):
            if name == texts.KEYS:
                relations[name] = keys
            elif name == texts.STATE:
                asset = self.layout.assets[stage.name]
                relations[name] = Slice(asset, 0, self.reader.head(asset).offset, Images.STATE)
            elif name[0] in (NEW, OLD, DELTA) and name[1:].isdigit():
                leaves = stage.region.leaves
                text = self._bind(text, relations, name, leaves[int(name[1:])], is_joined=len(leaves) > 1)
        return Statement(text, relations)

    def _bind(self, text: str, relations: Relations, name: str, leaf: str, *, is_joined: bool) -> str:
        """Say what a relation of the text is; returns the text, which says more of some.

        A few changes that are joined are read first: DuckDB then knows how few they are, and looks up instead of hashing
        what they are joined with.
        """
        asset, (from_, to) = self.layout.asset_of(leaf), self.ranges[leaf]
        was, now = self.work.excluding_before.get(leaf, ()), self.work.excluding.get(leaf, ())
        if name[0] == NEW:
            relations[name] = self._state(asset, from_, to, now)
        elif name[0] == OLD:
            relations[name] = Slice(asset, 0, from_, Images.STATE, excluding=was)
        elif leaf in self.lines:
            relations[name] = self.lines[leaf]
            types = self.layout.types[leaf[1:]]
            return text.replace(quoted(f"@input:{name}"), texts.as_typed(quoted(f"@input:{name}"), types))
        else:
            part = Slice(asset, from_, to, Images.CHANGES, excluding=now if was == now else ())
            types = self.layout.types[leaf[1:]] if leaf.startswith("@") else self.layout.inputs[leaf]
            if was == now and is_joined and 0 < to - from_ <= KEYS_MAX and all(map(is_faithful, types.values())):
                relations[name] = self.reader.read(part)
                return text.replace(quoted(f"@input:{name}"), texts.as_typed(quoted(f"@input:{name}"), types))
            relations[name] = part
            if was != now:
                return text.replace(quoted(f"@input:{name}"), _without_parked(quoted(f"@input:{name}"), was, now))
        return text


def _has_null(keys: Any) -> bool:
    return any(column.null_count for column in keys.columns)


def _without_parked(relation: str, was: tuple[str, ...], now: tuple[str, ...]) -> str:
    """A change set without the removals of rows that were not in, and the additions of rows that are left out."""
    tests = [
        f"NOT ({WEIGHT} {sign} 0 AND _rid IN ({', '.join(_literal(rid) for rid in rids)}))"
        for sign, rids in (("<", was), (">", now))
        if rids
    ]
    return f"(SELECT * FROM {relation} WHERE {' AND '.join(tests)})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"

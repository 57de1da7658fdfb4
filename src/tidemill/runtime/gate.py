"""Gates at run time: gathering what has arrived, and releasing a value in the run's own transaction (rule 21).

Rules of this file:
  * released values are rows of the internal asset `JOB@gate`: partition column, value, input, and the position of the
    input up to which the value's rows have been released;
  * they are written by the run that takes the value, with its outputs and cursor: a gate cannot open twice;
  * what is complete is decided in `core/gate.py`; here are only the facts.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core import gate as rules
from tidemill.core.change import ORDINAL, PARENT, Images, Replaced, Slice
from tidemill.core.event import Looked
from tidemill.core.model import Asset, AssetKind, Column, Gate, Job, Late
from tidemill.core.ports import Progress, Reader, Table, Transaction
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.landing import landings_asset
from tidemill.runtime.rows import as_table, dicts, table_of

__all__ = [
    "LetGo",
    "Opening",
    "gate_asset",
    "gated_inputs",
    "held_late",
    "look",
    "of_values",
    "opened_by_now",
    "release",
    "released_positions",
]

_COLUMNS = (
    Column("partition", "varchar"),
    Column("value", "varchar"),
    Column("input", "varchar"),
    Column("position", "bigint"),
)
_SCHEMA = pa.schema(
    [
        pa.field("partition", pa.string()),
        pa.field("value", pa.string()),
        pa.field("input", pa.string()),
        pa.field("position", pa.int64()),
        pa.field(PARENT, pa.string()),
        pa.field(ORDINAL, pa.int64()),
    ]
)


LetGo = Mapping[str, Mapping[str, Sequence[int]]]
"""Late rows that a person let go, by value and input: (position the value was released at, position let go up to).

It is used up by the run that takes them: the value is released at another position from then on.
"""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a run releases: these values of the gated inputs, up to these positions."""

    values: tuple[str, ...]
    positions: Mapping[str, int]
    is_last: bool = True
    """False while further values are ready: the job's `on` asset is then not yet used up."""
    is_correction: bool = False
    """Whether the value was released before, and rows came late."""


def gate_asset(job: str) -> str:
    """The name of the internal asset that holds the values a job's gate has released."""
    return f"{job}@gate"


def release(transaction: Transaction, job: Job, opening: Opening) -> None:
    """Release values, inside the transaction of the run that takes them."""
    if job.gate is None:
        return
    asset = gate_asset(job.name)
    transaction.define(Table(asset, _COLUMNS))
    rows = [
        {
            "partition": job.gate.column,
            "value": value,
            "input": name,
            "position": position,
            PARENT: f"{name}\x1f{value}",
            ORDINAL: 0,
        }
        for value in opening.values
        for name, position in opening.positions.items()
    ]
    transaction.write(asset, Replaced(table_of(_SCHEMA, rows), [str(row[PARENT]) for row in rows]))


def look(
    catalog: Catalog,
    job: Job,
    reader: Reader,
    now: float,
    *,
    let_go: LetGo | None = None,
    begun: Progress | None = None,
) -> Looked:
    """Judge a job's gate in this snapshot: which value it may take next.

    `begun` is the progress of a job with outside effects: a run that it has pinned is what comes next, whatever arrived
    since.
    """
    gate = _gate_of(job)
    gated = gated_inputs(catalog, job)
    values = _values(gated, gate, released_positions(reader, job), reader, let_go or {})
    positions = {asset.name: reader.head(asset.name).offset for asset in gated}
    verdict = rules.decide(gate, values, now, catalog.timezone)
    if let_go and gate.on_late is Late.HOLD and verdict.value is not None and verdict.is_correction:
        positions = {asset: let_go[verdict.value][asset][1] for asset in positions}
    if begun is not None and begun.pinned is not None and begun.opens:
        verdict = _again(tuple(begun.opens), values)
        positions = {asset: begun.pinned[asset][1] for asset in positions if asset in begun.pinned}
    rest = _without(values, {verdict.value, *verdict.joining})
    following = rules.decide(gate, rest, now, catalog.timezone)
    return _answer(job, verdict, positions, now, is_last=following.value is None, gaps=_wide_gaps(values))


def held_late(catalog: Catalog, job: Job, reader: Reader) -> LetGo:
    """The late rows that wait for a person in this snapshot, as what letting them go would say."""
    gate = _gate_of(job)
    if gate.on_late is not Late.HOLD:
        return {}
    gated, released = gated_inputs(catalog, job), released_positions(reader, job)
    heads = {asset.name: reader.head(asset.name).offset for asset in gated}
    late = [value.value for value in _values(gated, gate, released, reader, {}) if value.has_late]
    return {
        value: {asset: (released.get(asset, {}).get(value, 0), head) for asset, head in heads.items()} for value in late
    }


def opened_by_now(catalog: Catalog, job: Job, reader: Reader, now: float) -> Opening:
    """All that the gate would open in this snapshot, as one opening: what a job that starts from now has behind it."""
    gate = _gate_of(job)
    gated = gated_inputs(catalog, job)
    values = _values(gated, gate, released_positions(reader, job), reader, {})
    opened: list[str] = []
    while (verdict := rules.decide(gate, values, now, catalog.timezone)).value is not None:
        opened += [verdict.value, *verdict.joining]
        values = _without(values, set(opened))
    return Opening(tuple(dict.fromkeys(opened)), {asset.name: reader.head(asset.name).offset for asset in gated})


def _gate_of(job: Job) -> Gate:
    if job.gate is None:
        raise ValueError(f"job {job.name} has no gate")
    return job.gate


def gated_inputs(catalog: Catalog, job: Job) -> list[Asset]:
    """The inputs that have the column of the job's gate; none where it has no gate."""
    if job.gate is None:
        return []
    return [asset for asset in map(catalog.asset, job.inputs) if _has_column(asset, job.gate.column)]


def of_values(rows: pa.Table, column: str, values: Iterable[str]) -> pa.Table:
    """The rows whose partition value is one of these."""
    return rows.filter(pc.is_in(pc.cast(rows.column(column), pa.string()), pa.array(list(values), pa.string())))


def _values(
    gated: Sequence[Asset], gate: Gate, released: Mapping[str, Mapping[str, int]], reader: Reader, let_go: LetGo
) -> list[rules.Value]:
    """What is known of every value."""
    late = {value for asset in gated for value in _late(reader, asset, gate.column, released.get(asset.name, {}))}
    arrivals = {asset.name: _arrivals(reader, asset, gate.column) for asset in gated}
    expected = {asset.name: _expected(reader, asset, gate.column) for asset in gated if asset.complete}
    opened = {value for values in released.values() for value in values}
    seen = {value for arrived in arrivals.values() for value in arrived}
    return [
        rules.Value(
            value,
            rules.missing_members(expected, {name: arrivals[name].get(value, set()) for name in expected}),
            is_released=value in opened,
            has_late=value in late,
            is_let_go=value in let_go and _still_stands(let_go[value], value, released, gated),
        )
        for value in rules.expected_values(seen | opened)
    ]


def _still_stands(
    said: Mapping[str, Sequence[int]], value: str, released: Mapping[str, Mapping[str, int]], gated: Iterable[Asset]
) -> bool:
    """Whether the late rows that a person let go have not been taken since."""
    return all(
        asset.name in said and said[asset.name][0] == released.get(asset.name, {}).get(value, 0) for asset in gated
    )


def _without(values: Iterable[rules.Value], taken: Collection[str | None]) -> list[rules.Value]:
    """The values as they are once these have been taken."""
    return [replace(value, is_released=True, has_late=False) if value.value in taken else value for value in values]


def _again(opens: Sequence[str], values: Iterable[rules.Value]) -> rules.Verdict:
    """The verdict that a pinned run was begun with."""
    value, *joining = opens
    is_correction = any(known.is_released for known in values if known.value == value)
    because = (f"{value}: a run over it has begun, and is tried again",)
    return rules.Verdict(value, is_correction, tuple(joining), because=because)


def _wide_gaps(values: Iterable[rules.Value]) -> tuple[str, ...]:
    """What to say of dates that lie so far apart that one of them is rather a mistake."""
    return tuple(
        f"nothing landed between {one} and {other}: the days between are not expected, for they are more than "
        f"{rules.GAP_DAYS_MAX:,}"
        for one, other in rules.wide_gaps(value.value for value in values)
    )


def _answer(
    job: Job,
    verdict: rules.Verdict,
    positions: dict[str, int],
    now: float,
    *,
    is_last: bool,
    gaps: tuple[str, ...],
) -> Looked:
    because = (*verdict.because, *(f"{value}: late rows wait for a person" for value in verdict.held), *gaps)
    overdue = verdict.overdue
    if verdict.value is None:
        return Looked(job.name, False, now, next_at=verdict.next_at, because=because, overdue=overdue)
    opening = Opening((verdict.value, *verdict.joining), positions, is_last, verdict.is_correction)
    return Looked(
        job.name,
        True,
        now,
        value=verdict.value,
        payload=opening,
        next_at=verdict.next_at,
        because=because,
        overdue=overdue,
    )


def _has_column(asset: Asset, column: str) -> bool:
    return asset.column(column) is not None or f"{{{column}}}" in asset.path


def released_positions(reader: Reader, job: Job) -> dict[str, dict[str, int]]:
    """input -> value -> position released to."""
    asset = gate_asset(job.name)
    head = reader.head(asset)
    found: dict[str, dict[str, int]] = {}
    for row in dicts(reader.read(Slice(asset, 0, head.offset))) if head.rows else ():
        found.setdefault(row["input"], {})[row["value"]] = row["position"]
    return found


def _late(reader: Reader, asset: Asset, column: str, released: Mapping[str, int]) -> set[str]:
    """The released values of one input whose rows changed after they were released.

    Each position is looked at by itself: in a longer change set a row that came before it and went after it vanishes.
    """
    head = reader.head(asset.name).offset
    late: set[str] = set()
    for position in {position for position in released.values() if position < head}:
        changes = as_table(reader.read(Slice(asset.name, position, head, Images.CHANGES)))
        late.update(value for value in _texts(changes.column(column)) if released.get(value) == position)
    return late


def _texts(column: pa.ChunkedArray) -> list[str]:
    """The values as text; a null is the value of no partition."""
    return [str(value) for value in pc.drop_null(pc.cast(column, pa.string())).to_pylist()]


def _arrivals(reader: Reader, asset: Asset, column: str) -> dict[str, set[str]]:
    """value -> members that have arrived. For files a landing is an arrival, even of an empty file."""
    member = next((name for name in asset.complete if name != column), column)
    found: dict[str, set[str]] = {}
    for value, who in _landed_pairs(reader, asset, column, member) or _row_pairs(reader, asset, column, member):
        found.setdefault(value, set()).add(who)
    return found


def _landed_pairs(reader: Reader, asset: Asset, column: str, member: str) -> list[tuple[str, str]]:
    """(value, member) of every landed file of a files asset whose path says both; nothing for other assets."""
    in_path = all(f"{{{name}}}" in asset.path for name in (column, member))
    source = landings_asset(asset.name)
    if asset.kind is not AssetKind.FILES or not in_path or not reader.head(source).rows:
        return []
    rows = dicts(reader.read(Slice(source, 0, reader.head(source).offset)))
    partitions = [_partition(str(row["partition"])) for row in rows if row["state"] == "landed"]
    return [(parts[column], parts[member]) for parts in partitions]


def _partition(text: str) -> dict[str, str]:
    return dict(pair.split("\x1f", 1) for pair in text.split("\x1e")) if text else {}


def _row_pairs(reader: Reader, asset: Asset, column: str, member: str) -> list[tuple[str, str]]:
    """(value, member) of the rows, each pair once."""
    head = reader.head(asset.name)
    if not head.rows:
        return []
    rows = as_table(reader.read(Slice(asset.name, 0, head.offset)))
    pairs = pa.table({"value": rows.column(column), "member": rows.column(member)}).group_by(["value", "member"])
    seen = pairs.aggregate([]).drop_null()
    return list(zip(_texts(seen.column("value")), _texts(seen.column("member")), strict=True))


def _expected(reader: Reader, asset: Asset, column: str) -> list[str]:
    """The members that make one value of an input complete."""
    members = next((m for key, m in asset.complete.items() if key != column), ())
    if not isinstance(members, str):
        return list(members)
    source, _, of = members.partition(".")
    head = reader.head(source)
    if not head.rows:
        return []
    state = as_table(reader.read(Slice(source, 0, head.offset)))
    return sorted(set(_texts(state.column(of))))

"""The statements that maintain one stage, as SQL text over relations `"@input:<role><leaf>"`.

Rules of this file:
  * text only; which slice a relation is decides `maintain.py`;
  * a stage's rows are cast to the stage's own types before they are compared with anything;
  * keys are joined with `=`; a key with a NULL in it has a branch of its own, which is only there when such a key is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tidemill.sql.bind import quoted
from tidemill.sql.identity import key_identity
from tidemill.sql.spelling import normal_text
from tidemill.sql.stages import ROWS, WEIGHT, Accumulator, Stage

__all__ = [
    "DIRTY",
    "KEYS",
    "STATE",
    "as_typed",
    "changed_keys",
    "keyed_changes",
    "linear_changes",
    "looked_up",
    "merged",
    "sums",
    "terms",
    "whole",
    "whole_untyped",
]

STATE, KEYS = "state", "keys"
DIRTY = "_dirty"
"""Whether a merged key must be looked at anew, because what was its extreme may be gone."""
_INPUT = "@input:"
Types = Mapping[str, str]


def _relation(name: str) -> str:
    return quoted(_INPUT + name)


def whole(stage: Stage, types: Types) -> str:
    """All rows of the stage."""
    rows = _block(stage, stage.region.rows, types) if stage.block else stage.region.rows
    return _typed(rows, stage, types)


def whole_untyped(stage: Stage) -> str:
    """All rows of the stage, with the types that come about."""
    return _block(stage, stage.region.rows, {}) if stage.block else stage.region.rows


def _block(stage: Stage, rows: str, types: Types) -> str:
    """The stage's block over these rows of its region."""
    return f"WITH {_relation(ROWS)} AS ({_spelled(rows, stage, types)}) {stage.block}"


def _spelled(rows: str, stage: Stage, types: Types) -> str:
    """Rows of a region whose keys are written in one way each, for a key's identity is made of its text."""
    keys = [(quoted(key), normal_text(quoted(key), types.get(column, ""))) for key, column in stage.keys]
    changed = [f"{text} AS {key}" for key, text in keys if text != key]
    return f"SELECT * REPLACE ({', '.join(changed)}) FROM ({rows})" if changed and _is_group(stage) else rows


def _typed(text: str, stage: Stage, types: Types, *hidden: str) -> str:
    identity = ["_rid"] if _has_identity(stage) else []
    casts = [f"CAST({quoted(name)} AS {types[name]}) AS {quoted(name)}" for name in stage.columns]
    return f"SELECT {', '.join([*identity, *hidden, *casts])} FROM ({text})"


def as_typed(relation: str, types: Types) -> str:
    """Lines that were in memory, in the types of their stage."""
    casts = [f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}" for name, kind in types.items()]
    return f"(SELECT _rid, {WEIGHT}, {', '.join(casts)} FROM {relation})"


def _has_identity(stage: Stage) -> bool:
    return _is_group(stage) or stage.region.has_identity


def _is_group(stage: Stage) -> bool:
    return stage.rule == "group" or bool(stage.accumulators)


def terms(stage: Stage, changed: Sequence[int]) -> str:
    """The change set of the region, for these changed leaves; not consolidated."""
    return " UNION ALL ".join(f"({stage.region.terms[number]})" for number in changed)


def linear_changes(stage: Stage, types: Types, changed: Sequence[int], identity: str = "") -> str:
    """The change set of a linear stage; `identity` is the expression that names a row where it is not its origin."""
    text = _typed(terms(stage, changed), stage, types, WEIGHT)
    return f"SELECT * REPLACE ({identity} AS _rid) FROM ({text})" if identity else text


def changed_keys(stage: Stage, types: Types, changed: Sequence[int]) -> str:
    """The keys that the change set touches."""
    keys = ", ".join(quoted(key) for key, _ in stage.keys)
    return f"SELECT DISTINCT {keys} FROM ({_spelled(terms(stage, changed), stage, types)})"


def restricted(stage: Stage, has_null: bool) -> str:
    """The rows of the region that belong to the keys in the relation KEYS."""
    if not stage.keys:
        return stage.region.rows
    return _of_keys(f"({stage.region.rows})", ["*"], [(key, key) for key, _ in stage.keys], has_null)


def _of_keys(relation: str, shown: Sequence[str], pairs: Sequence[tuple[str, str]], has_null: bool) -> str:
    """The rows of a relation whose columns hold a key of KEYS; `pairs` are (column of KEYS, column of the relation).

    Keys are found by `=`, which DuckDB pushes down to what it reads; a NULL in one is found by a branch of its own.
    """
    columns = ", ".join(f"r.{name}" for name in shown)
    plain = " AND ".join(f"r.{quoted(column)} = k.{quoted(key)}" for key, column in pairs)
    texts = [f"SELECT {columns} FROM {relation} r JOIN {_relation(KEYS)} k ON {plain}"]
    if has_null:
        safe = " AND ".join(f"r.{quoted(column)} IS NOT DISTINCT FROM k.{quoted(key)}" for key, column in pairs)
        some = " OR ".join(f"{quoted(key)} IS NULL" for key, _ in pairs)
        nulls = f"(SELECT * FROM {_relation(KEYS)} WHERE {some}) k"
        texts.append(f"SELECT {columns} FROM {relation} r JOIN {nulls} ON {safe}")
    return " UNION ALL ".join(texts)


def keyed_changes(stage: Stage, types: Types, *, has_null: bool, shows_old: bool = True) -> str:
    """The rows of the keys in KEYS as they are now, and minus those as they were in STATE."""
    new = _typed(_block(stage, restricted(stage, has_null), types), stage, types)
    names = ", ".join(["_rid", *map(quoted, stage.columns)])
    lines = [f"SELECT {names}, 1::TINYINT AS {WEIGHT} FROM ({new})"]
    if shows_old:
        lines.append(f"SELECT {names}, (-1)::TINYINT AS {WEIGHT} FROM ({_old_rows(stage, names, has_null)})")
    return " UNION ALL ".join(lines)


def _old_rows(stage: Stage, names: str, has_null: bool) -> str:
    state = _relation(STATE)
    if not stage.keys:
        return f"SELECT {names} FROM {state}"
    if _is_group(stage):
        keys = key_identity([key for key, _ in stage.keys])
        return f"SELECT {names} FROM {state} WHERE _rid IN (SELECT {keys} FROM {_relation(KEYS)})"
    return _of_keys(state, ["_rid", *map(quoted, stage.columns)], stage.keys, has_null)


def sums(stage: Stage, types: Types, changed: Sequence[int]) -> str:
    """What the change set adds to each key: `_rid`, the key, and `+column` and `-column` per accumulator."""
    keys = [key for key, _ in stage.keys]
    shown = [f"{key_identity(keys)} AS _rid", *(f"{quoted(key)} AS {quoted(column)}" for key, column in stage.keys)]
    for one in stage.accumulators:
        shown.append(f"{one.added} AS {quoted('+' + one.column)}")
        if one.gone:
            shown.append(f"{one.gone} AS {quoted('-' + one.column)}")
    by = f" GROUP BY {', '.join(map(quoted, keys))}" if keys else ""
    return f"SELECT {', '.join(shown)} FROM ({_spelled(terms(stage, changed), stage, types)}){by}"


def looked_up(stage: Stage, identities: Sequence[str]) -> str:
    """What is kept of these keys."""
    names = ", ".join(["_rid", *map(quoted, stage.columns)])
    texts = ", ".join("'" + identity.replace("'", "''") + "'" for identity in identities)
    return f"SELECT {names} FROM {_relation(STATE)} WHERE _rid IN ({texts or 'NULL'})"


def merged(stage: Stage, types: Types, changed: Sequence[int], *, may_be_dirty: bool) -> str:
    """The lines of a group whose accumulators take in the change set: the old images and the new ones.

    With `may_be_dirty` the new images also say whether they are DIRTY, which are then not to be believed.
    """
    dirty = _dirty(stage) if may_be_dirty else ""
    old = [f"s.{quoted(name)} AS {quoted('o' + name)}" for name in stage.columns]
    new = [f"g.{quoted(column)} AS {quoted('n' + column)}" for _, column in stage.keys]
    new += [
        f"CAST({_merge(one, stage)} AS {types[one.column]}) AS {quoted('n' + one.column)}" for one in stage.accumulators
    ]
    pair = ["g._rid AS _rid", "s._rid IS NOT NULL AS _is_old", *old, *new, *([f"{dirty} AS {DIRTY}"] if dirty else [])]
    pairs = f"SELECT {', '.join(pair)} FROM g LEFT JOIN {_relation(STATE)} s ON s._rid = g._rid"
    before = ", ".join(f"{quoted('o' + name)} AS {quoted(name)}" for name in stage.columns)
    after = ", ".join(f"{quoted('n' + name)} AS {quoted(name)}" for name in stage.columns)
    is_left = f" WHERE {quoted('n' + _count_of(stage))} <> 0" if stage.keys and _count_of(stage) else ""
    return (
        f"WITH g AS MATERIALIZED ({sums(stage, types, changed)}), p AS MATERIALIZED ({pairs}) "
        f"SELECT _rid, (-1)::TINYINT AS {WEIGHT}, {before}{f', false AS {DIRTY}' if dirty else ''} FROM p WHERE _is_old "
        f"UNION ALL SELECT _rid, 1::TINYINT, {after}{f', {DIRTY}' if dirty else ''} FROM p{is_left}"
    )


def _count_of(stage: Stage) -> str:
    """The column that counts a key's rows, where rows can go ('' where they cannot)."""
    if not stage.region.retracts:
        return ""
    return next(one.column for one in stage.accumulators if one.whole == "count(*)")


def _merge(one: Accumulator, stage: Stage) -> str:
    """The new value of an accumulator, from what is kept and what the change set brings."""
    kept, added = f"s.{quoted(one.column)}", f"g.{quoted('+' + one.column)}"
    if one.merge in ("min", "max"):
        return f"{'least' if one.merge == 'min' else 'greatest'}({kept}, {added})"
    if not one.gone:
        return f"CASE WHEN {kept} IS NULL THEN {added} WHEN {added} IS NULL THEN {kept} ELSE {kept} + {added} END"
    total = f"coalesce({kept}, 0) + coalesce({added}, 0) - coalesce(g.{quoted('-' + one.column)}, 0)"
    counted = next(other for other in stage.accumulators if other.column == one.counted)
    return f"CASE WHEN ({_merge(counted, stage)}) > 0 THEN {total} END"


def _dirty(stage: Stage) -> str:
    """Whether what was the least or greatest value may be gone; '' where no accumulator has one."""
    tests = []
    for one in stage.accumulators:
        if one.merge in ("min", "max") and one.gone:
            gone, kept = f"g.{quoted('-' + one.column)}", f"s.{quoted(one.column)}"
            sign = "<=" if one.merge == "min" else ">="
            tests.append(f"({gone} IS NOT NULL AND ({kept} IS NULL OR {gone} {sign} {kept}))")
    return " OR ".join(tests)

"""What the jobs of a history compute: a menu of transforms, each written once over plain rows.

Rules of this file:
  * a row is (k, v); what a transform does to rows is plain Python that knows nothing of engines, stores or Arrow;
  * `function_of` wraps it as the function that the engine calls, `recompute` is the batch recomputation of the oracle:
    rows that raise are left out and told, everything else goes in;
  * which rows raise depends on the job alone, never on other rows or on how often it is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.testing.simulator.words import JobSpec

__all__ = ["PAIRED", "ROWWISE", "WHOLE", "Pair", "function_of", "raises", "recompute"]

Pair = tuple[str, int]
MODULUS = 97
POISON_MODULUS = 13

_OUT = pa.schema([("k", pa.string()), ("v", pa.int64())])
_OUT_WIDE = pa.schema([*_OUT, ("w", pa.int64())])


def _map(pair: Pair, factor: int) -> list[Pair]:
    return [(pair[0], (pair[1] * factor + 1) % MODULUS)]


def _keep(pair: Pair, factor: int) -> list[Pair]:
    return [pair] if pair[1] % 3 != factor % 3 else []


def _split(pair: Pair, factor: int) -> list[Pair]:
    return [(pair[0], (pair[1] * factor + n) % MODULUS) for n in range(pair[1] % 3)]


def _sum(rows: Sequence[Pair], factor: int) -> list[Pair]:
    sums: Counter[str] = Counter()
    for k, v in rows:
        sums[k] += v * factor
    return [(k, sums[k]) for k in dict.fromkeys(k for k, _ in rows)]


def _count(rows: Sequence[Pair], factor: int) -> list[Pair]:
    return sorted(Counter(f"{v % (factor + 1)}" for _, v in rows).items())


def _distinct(rows: Sequence[Pair], factor: int) -> list[Pair]:
    return sorted({(k, v % (7 * factor)) for k, v in rows})


def _join(left: Sequence[Pair], right: Sequence[Pair], factor: int) -> list[Pair]:
    lefts, rights = dict(_sum(left, factor)), dict(_sum(right, 1))
    return [(k, lefts[k] + rights[k]) for k in lefts if k in rights]


def _union(left: Sequence[Pair], right: Sequence[Pair], factor: int) -> list[Pair]:
    return [*((k, v * factor % MODULUS) for k, v in left), *right]


ROWWISE: Mapping[str, Callable[[Pair, int], list[Pair]]] = {"map": _map, "keep": _keep, "split": _split}
"""Transforms of one row."""
WHOLE: Mapping[str, Callable[[Sequence[Pair], int], list[Pair]]] = {"sum": _sum, "count": _count, "distinct": _distinct}
"""Transforms of one whole input."""
PAIRED: Mapping[str, Callable[[Sequence[Pair], Sequence[Pair], int], list[Pair]]] = {"join": _join, "union": _union}
"""Transforms of two whole inputs."""


def raises(spec: JobSpec, pair: Pair) -> bool:
    """Whether the job's transform raises on this row."""
    return spec.poison >= 0 and pair[1] % POISON_MODULUS == spec.poison


def recompute(spec: JobSpec, inputs: Sequence[Iterable[Pair]]) -> tuple[Counter[Pair], list[Counter[Pair]]]:
    """The job's table over these inputs, and per input the rows that raise."""
    kept = [[pair for pair in rows if not raises(spec, pair)] for rows in inputs]
    bad = [Counter(pair for pair in rows if raises(spec, pair)) for rows in inputs]
    return Counter(transform(spec, kept)), bad


def transform(spec: JobSpec, inputs: Sequence[Sequence[Pair]]) -> list[Pair]:
    """What the job makes of these rows."""
    if spec.shape in ROWWISE:
        return [made for pair in inputs[0] for made in ROWWISE[spec.shape](pair, spec.factor)]
    if spec.shape in WHOLE:
        return WHOLE[spec.shape](inputs[0], spec.factor)
    return PAIRED[spec.shape](inputs[0], inputs[1], spec.factor)


def function_of(spec: JobSpec) -> Callable[..., Any]:
    """The function that the engine calls."""

    def on_row(row: Mapping[str, Any]) -> list[dict[str, Any]]:
        pair = (row["k"], row["v"])
        _refuse(spec, [pair])
        return [_fields(spec, made) for made in transform(spec, [[pair]])]

    def on_tables(*tables: pa.Table) -> pa.Table:
        inputs = [list(zip(t.column("k").to_pylist(), t.column("v").to_pylist(), strict=True)) for t in tables]
        for rows in inputs:
            _refuse(spec, rows)
        made = [_fields(spec, pair) for pair in transform(spec, inputs)]
        return pa.Table.from_pylist(made, schema=_OUT_WIDE if spec.is_wide else _OUT)

    return on_row if _is_by_row(spec) else on_tables


def _is_by_row(spec: JobSpec) -> bool:
    return spec.takes == "row" or (spec.takes == "sql" and spec.shape in ROWWISE)


def _refuse(spec: JobSpec, rows: Iterable[Pair]) -> None:
    for pair in rows:
        if raises(spec, pair):
            raise ValueError(f"cannot process {pair}")


def _fields(spec: JobSpec, pair: Pair) -> dict[str, Any]:
    fields: dict[str, Any] = {"k": pair[0], "v": pair[1]}
    return {**fields, "w": pair[1] * 2} if spec.is_wide else fields

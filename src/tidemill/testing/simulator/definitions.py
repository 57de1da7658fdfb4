"""From the words of a history to the nouns of the heart: assets, jobs and their columns."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from tidemill.core.model import (
    Asset,
    AssetKind,
    Column,
    Gate,
    Home,
    Job,
    Late,
    Missing,
    Mode,
    OnError,
    Semantics,
    StartFrom,
    Takes,
)
from tidemill.testing.simulator.transforms import PAIRED, WHOLE
from tidemill.testing.simulator.words import JobSpec, SourceSpec

__all__ = ["asset_of", "inner_takes", "job_of", "output_of"]

_PAIR = (Column("k", "varchar"), Column("v", "bigint"))
_APPEND = (*_PAIR, Column("at", "timestamp"))
_NAMED = (*_APPEND, Column("id", "varchar"))
_UPSERT = (*_PAIR, Column("n", "bigint"))
_FILE = (*_PAIR, Column("day", "varchar"), Column("store", "varchar"))
_WIDE = (*_PAIR, Column("w", "bigint"))
VERSION = (Column("version", "varchar"),)


@lru_cache(maxsize=1000)
def asset_of(source: SourceSpec) -> Asset:
    """The asset of a source."""
    if source.kind == "append":
        columns = _NAMED if source.has_ids else _APPEND
        return Asset(source.name, AssetKind.TOPIC, columns, event_time="at", id="id" if source.has_ids else "")
    if source.kind == "upsert":
        return Asset(source.name, AssetKind.TOPIC, _UPSERT, ("k",), semantics=Semantics.UPSERT, version="n")
    if source.kind == "external":
        return Asset(source.name, AssetKind.EXTERNAL, VERSION)
    return Asset(
        source.name,
        AssetKind.FILES,
        _FILE,
        path=f"{source.name}/{{day}}/{{store}}.csv",
        complete={"store": source.members} if source.members else {},
        on_delete="retract" if source.retracts else "keep",
    )


@lru_cache(maxsize=1000)
def output_of(spec: JobSpec) -> Asset:
    """The asset that a job writes."""
    if spec.takes == "run":
        return Asset(spec.output, AssetKind.EXTERNAL, VERSION)
    if spec.to_topic:
        return Asset(spec.output, AssetKind.TOPIC, _PAIR)
    return Asset(spec.output, AssetKind.TABLE)


@lru_cache(maxsize=1000)
def job_of(spec: JobSpec) -> Job:
    """The job."""
    takes = Takes(spec.takes)
    goes_on = takes is Takes.RUN or spec.to_topic
    return Job(
        spec.name,
        spec.inputs,
        (spec.output,),
        takes,
        spec.shape,
        _version(spec),
        mode=Mode(spec.mode),
        key=("k",) if spec.is_keyed else None,
        columns=() if takes is Takes.RUN else _WIDE if spec.is_wide else _PAIR,
        home=Home.LEDGER if goes_on else Home.TABLES,
        rebuilds=not goes_on,
        when=spec.when,
        every_seconds=spec.every,
        schedule=spec.schedule,
        on=spec.on,
        after_seconds=spec.after,
        max_changes=spec.max_changes,
        on_error=OnError(spec.on_error),
        start_from=StartFrom.BEGINNING,
        gate=_gate(spec),
        hold_above=spec.hold_above,
    )


def _gate(spec: JobSpec) -> Gate | None:
    if spec.gate is None:
        return None
    return Gate("day", spec.gate.deadline, Missing(spec.gate.on_missing), Late(spec.gate.on_late))


def _version(spec: JobSpec) -> str:
    """What identifies the transform: all but the name and the pace (rule 24)."""
    said = (spec.shape, spec.takes, spec.inputs, spec.output, spec.factor, spec.poison, spec.is_wide, spec.is_keyed)
    return hashlib.sha256(repr((*said, spec.gate)).encode()).hexdigest()[:12]


def inner_takes(spec: JobSpec) -> Takes:
    """How the stand-in for SQL is carried out in Python."""
    return Takes.FULL if spec.shape in WHOLE or spec.shape in PAIRED else Takes.ROW

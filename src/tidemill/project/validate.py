"""Checks that need the whole project: names that meet nothing, writers that collide, circles, words that do not fit.

Rules of this file:
  * every check sees the whole project and reports all it finds; one finding hides no other;
  * a finding names the job or asset, its file and line, and what to write instead;
  * findings stay in the project's order: assets as declared, jobs as read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from graphlib import CycleError, TopologicalSorter

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, AssetKind, Home, Job, Materialized, Place, Semantics, Takes
from tidemill.project import asserting
from tidemill.project.assets import NAME
from tidemill.project.definitions import Definitions
from tidemill.project.words import nearest, when_names

__all__ = ["validate"]

PlaceOfInput = Callable[[Job, str], Place]
Finding = tuple[str, Place, str]

_WITHOUT_ROWS = (AssetKind.EXTERNAL, AssetKind.EXTRACT)


def validate(loaded: Definitions, place_of_input: PlaceOfInput) -> None:
    """Add what is wrong with the whole to `problems`, and what is risky to `warnings`."""
    checks = (
        _names,
        _inputs,
        _outputs,
        _one_writer,
        _homes,
        _words,
        _keys,
        _gates,
        _circles,
        _topics_written,
        _asserts,
    )
    for check in checks:
        for message, place, mend in check(loaded, place_of_input):
            loaded.problems.append(DefinitionError(message, place=str(place), mend=mend))
    for message, place, mend in _doors(loaded):
        loaded.warnings.append(DefinitionError(message, place=str(place), mend=mend))


def _names(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        for name in (job.name, *job.outputs):
            if not NAME.fullmatch(name):
                yield f'job {job.name}: "{name}" is not a name', job.place, "use letters, digits, _ and -"
    spelled: dict[str, str] = {}
    for name in loaded.assets:
        other = spelled.setdefault(name.lower(), name)
        if other != name:
            yield (
                f"assets {other} and {name} differ only in case",
                loaded.assets[name].place,
                "SQL sees one name: rename one",
            )


def _inputs(loaded: Definitions, place_of_input: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        if not (job.inputs or job.on or job.schedule):
            mend = "read an asset, or make constants a view: -- materialized: view"
            yield f"job {job.name} reads no asset, so nothing would ever start it", job.place, mend
        for name in job.inputs:
            asset = loaded.assets.get(name)
            place = place_of_input(job, name)
            if asset is None:
                yield f"job {job.name}: there is no asset {name}", place, _mend_of_unknown(name, job, loaded)
            else:
                yield from ((message, place, mend) for message, mend in _unreadable(asset, job, loaded))


def _mend_of_unknown(name: str, job: Job, loaded: Definitions) -> str:
    hint = nearest(name, loaded.assets)
    if hint:
        return f"write {hint}, or declare {name}"
    if not (loaded.folder / "tidemill.toml").exists() and job.takes is not Takes.SQL:
        return f'declare it: {name} = tm.topic("{name}", columns={{...}})'
    return f"declare [assets.{name}] in tidemill.toml, or add the job that writes it"


def _unreadable(asset: Asset, job: Job, loaded: Definitions) -> Iterator[tuple[str, str]]:
    if asset.kind is AssetKind.VIEW and job.takes is not Takes.SQL:
        mend = f"say materialized: table in {asset.place.file or asset.name}"
        yield f"job {job.name}: {asset.name} is a view, and a view has no changes to give to a {job.takes} job", mend
    if asset.kind in _WITHOUT_ROWS and not job.is_outside:
        by = "on" if asset.kind is AssetKind.EXTERNAL else ""
        mend = (
            f"let it start the job instead: {by}: {asset.name}" if by else f"read what {_writer(asset, loaded)} reads"
        )
        yield f"job {job.name}: {asset.name} is {_a(asset.kind)}, which has no rows to read", mend


def _writer(asset: Asset, loaded: Definitions) -> str:
    return next((job.name for job in loaded.jobs.values() if asset.name in job.outputs), "its job")


def _a(kind: AssetKind) -> str:
    return f"an {kind}" if kind in _WITHOUT_ROWS else f"a {kind}"


def _outputs(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        for name in job.outputs:
            yield from ((message, job.place, mend) for message, mend in _unwritable(loaded.assets[name], job))
        if job.materialized is Materialized.EXTRACT and job.takes is not Takes.SQL and not job.is_outside:
            yield (
                f"job {job.name}: only a SQL job makes an extract",
                job.place,
                "write a table, and extract that with SQL",
            )


def _unwritable(asset: Asset, job: Job) -> Iterator[tuple[str, str]]:
    if asset.kind in (AssetKind.VIEW, AssetKind.CLOCK) or (asset.kind is AssetKind.FILES and not job.is_outside):
        yield f"job {job.name} writes {asset.name}, which is {_a(asset.kind)}", "give the job another output"
    if job.is_outside and asset.kind in (AssetKind.TABLE, AssetKind.EXTRACT):
        mend = "return rows from a row, table or full job, or declare the output as external"
        yield f"job {job.name}: a {job.takes} job cannot write the {asset.kind} {asset.name}", mend
    if not job.is_outside and asset.kind is AssetKind.EXTERNAL:
        yield (
            f"job {job.name} writes {asset.name}, which is external: tidemill cannot put rows there",
            "make it a table or an extract, and send it with a run job or a command",
        )


def _one_writer(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    writers: dict[str, Job] = {}
    for job in loaded.jobs.values():
        for name in dict.fromkeys(job.outputs):
            first = writers.setdefault(name, job)
            if first is not job:
                yield (
                    f"jobs {first.name} and {job.name} both write {name}",
                    job.place,
                    f"an asset has one writer: give one of them another output ({first.name} stands at {first.place})",
                )


def _homes(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        homes: dict[Home, str] = {}
        for name in job.outputs:
            asset = loaded.assets[name]
            if not (job.is_outside and asset.kind is AssetKind.FILES):
                homes.setdefault(asset.home, name)
        if len(homes) > 1:
            one, other = homes.values()
            yield (
                (
                    f"job {job.name}: its outputs {one} ({loaded.assets[one].kind}) and {other} "
                    f"({loaded.assets[other].kind}) live in different stores, so they cannot be committed together"
                ),
                job.place,
                "make them of one kind, or make two jobs of it",
            )


def _words(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        for name in when_names(job.when) if job.when else ():
            if name not in job.inputs:
                hint = nearest(name, job.inputs)
                mend = f"write {hint}" if hint else f"the inputs are {', '.join(job.inputs)}"
                yield f"job {job.name}: when names {name}, which is not an input", job.place, mend
        if job.on and job.on not in loaded.assets:
            hint = nearest(job.on, loaded.assets)
            mend = f"write on: {hint}" if hint else f'declare [assets.{job.on}] with kind = "external"'
            yield f"job {job.name}: on names {job.on}, which is no asset", job.place, mend


def _keys(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        known = [column.name for column in job.columns]
        for column in job.key or ():
            if known and column not in known:
                hint = nearest(column, known)
                mend = f"write {hint}" if hint else f"the columns are {', '.join(known)}"
                yield f"job {job.name}: key names {column}, which is not a column of its output", job.place, mend
    for asset in loaded.assets.values():
        for column, members in asset.complete.items():
            named = members.rpartition(".")[0] if isinstance(members, str) else ""
            if named and named not in loaded.assets:
                hint = nearest(named, loaded.assets)
                mend = f"write {hint}" if hint else f"declare [assets.{named}]"
                yield f"asset {asset.name}: complete.{column} names {named}, which is no asset", asset.place, mend


def _gates(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        inputs = [loaded.assets[name] for name in job.inputs if name in loaded.assets]
        if job.gate is None or not inputs:
            continue
        column = job.gate.column
        if all(asset.columns and asset.column(column) is None for asset in inputs):
            hint = nearest(column, (known.name for asset in inputs for known in asset.columns))
            mend = f"write gate: {hint}" if hint else "name a column of an input"
            yield f"job {job.name}: gate names {column}, which no input has", job.place, mend
        elif not any(asset.complete for asset in inputs):
            yield (
                f"job {job.name}: no input says what makes a {column} complete, so its gate would never open",
                job.place,
                'add complete.COLUMN = ["..."] to the asset that arrives in parts',
            )
        yield from _manifold(job, inputs)


def _manifold(job: Job, inputs: list[Asset]) -> Iterator[Finding]:
    """Values of these types are spelled in several ways, so what is released would not be found again."""
    assert job.gate is not None
    for asset in inputs:
        found = asset.column(job.gate.column)
        if found is not None and found.type.lower().startswith(("timestamp", "datetime", "float", "double", "real")):
            yield (
                f"job {job.name}: gate names {found.name}, which is a {found.type} in {asset.name}",
                job.place,
                "gate on a date, a varchar or a whole number",
            )


def _circles(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    writer = {name: job.name for job in loaded.jobs.values() for name in job.outputs}
    graph = {job.name: {writer[name] for name in job.inputs if name in writer} for job in loaded.jobs.values()}
    while True:
        try:
            TopologicalSorter(graph).prepare()
            return
        except CycleError as error:
            ring: list[str] = error.args[1]
        first = loaded.jobs[ring[0]]
        path = " -> ".join(ring)
        yield f"circular mapping: {path}", first.place, "a job cannot read, even through others, what it writes"
        graph[ring[1]].discard(ring[0])  # each writes what the next one reads


def _topics_written(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        for name in job.outputs:
            asset = loaded.assets[name]
            is_append = asset.semantics is Semantics.APPEND
            if asset.kind is AssetKind.TOPIC and not job.is_outside and (is_append or job.by):
                reason = _retracts(job, loaded)
                if reason:
                    yield (
                        f"job {job.name} can take rows back ({reason}), and {name} is {'an append' if is_append else 'a'} topic",
                        job.place,
                        "write a table" if job.by else "write a table, or make the topic upsert with a key",
                    )


def _retracts(job: Job, loaded: Definitions) -> str:
    """Why a job's output can lose rows it had, or ""."""
    inputs = [loaded.assets[name] for name in job.inputs if name in loaded.assets]
    retracting = next((asset.name for asset in inputs if asset.can_retract), "")
    if retracting:
        return f"its input {retracting} can"
    if job.by:
        return f"all rows of a {', '.join(job.by)} are made anew"
    if job.takes is Takes.FULL:
        return "a full job's result is compared with the one before"
    return ""


def _asserts(loaded: Definitions, _: PlaceOfInput) -> Iterator[Finding]:
    for job in loaded.jobs.values():
        if job.reconcile and (job.is_outside or job.materialized is Materialized.EXTRACT):
            mend = "reconcile the table that it reads"
            yield f"job {job.name}: reconcile finds no rows here to compare", job.place, mend
        for what, mend in asserting.asserted(job):
            yield f"job {job.name}: {what}", job.place, mend


def _doors(loaded: Definitions) -> Iterator[Finding]:
    written = {name for job in loaded.jobs.values() for name in job.outputs}
    for asset in loaded.assets.values():
        if asset.kind is AssetKind.TOPIC and not asset.id and asset.name not in written:
            yield (
                f"topic {asset.name} has no id, so an event that is sent again counts again (at-least-once at the door)",
                asset.place,
                'add id = "COLUMN", the column that identifies an event',
            )

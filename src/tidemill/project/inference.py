"""Assets that nobody declared: what a job writes exists because the job does.

Rules of this file:
  * an undeclared output is a table (SQL and Python), an extract (`materialized: extract`), or external (commands and
    run jobs, rule 1);
  * what is declared of an output and what its job says of it are put together before the job gets its version.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tidemill.core.model import Asset, AssetKind, Home, Job, Materialized
from tidemill.project.definitions import Definitions

__all__ = ["adopt_asset_words", "infer", "settled"]


def adopt_asset_words(job: Job, assets: Mapping[str, Asset]) -> Job:
    """The job with the columns and the key that its one declared output has, where it says none itself."""
    declared = assets.get(job.outputs[0]) if len(job.outputs) == 1 else None
    if declared is None or declared.kind not in (AssetKind.TABLE, AssetKind.TOPIC):
        return _marked_extract(job, declared)
    key = job.key if job.key is not None else declared.key or None
    return replace(job, columns=job.columns or declared.columns, key=key)


def _marked_extract(job: Job, declared: Asset | None) -> Job:
    """A SQL job whose output is declared as an extract makes one, without saying it twice."""
    if declared is not None and declared.kind is AssetKind.EXTRACT and not job.is_outside:
        return replace(job, materialized=Materialized.EXTRACT)
    return job


def infer(loaded: Definitions) -> None:
    """Add the assets that jobs write and nobody declared; complete the tables that are declared."""
    for job in loaded.jobs.values():
        for name in job.outputs:
            declared = loaded.assets.get(name)
            if declared is None:
                loaded.assets[name] = _inferred(name, job)
            elif declared.kind is AssetKind.TABLE:
                key = job.key if job.key is not None else declared.key
                loaded.assets[name] = replace(declared, columns=declared.columns or job.columns, key=key)


def settled(job: Job, assets: Mapping[str, Asset]) -> Job:
    """The job with the home of its outputs, and whether another version makes them anew (rule 25)."""
    outputs = [assets[name] for name in job.outputs]
    homes = {asset.home for asset in outputs}
    home = Home.TABLES if homes == {Home.TABLES} and not job.is_outside else Home.LEDGER
    into_topics = any(asset.kind is AssetKind.TOPIC and not asset.can_retract for asset in outputs)
    return replace(job, home=home, rebuilds=not job.is_outside and not into_topics)


def _inferred(name: str, job: Job) -> Asset:
    said = {"place": job.place, "description": job.description, "owner": job.owner, "tags": job.tags}
    if job.is_outside:
        return Asset(name, AssetKind.EXTERNAL, place=job.place)
    if job.materialized is Materialized.EXTRACT:
        return Asset(name, AssetKind.EXTRACT, path=f"extracts/{name}.csv", format="csv", **said)  # type: ignore[arg-type]
    columns = job.columns if len(job.outputs) == 1 else ()
    return Asset(name, AssetKind.TABLE, columns, job.key or (), **said)  # type: ignore[arg-type]

"""Checking a whole project without running it: what loading cannot see, planning does.

Rules of this file:
  * nothing of the project's state is touched: types are asked of an empty database in memory. What is read of it are the
    shadows of jobs: one that the definitions have no room for any more is a warning, for nothing rests on it;
  * every SQL and Python job is planned; what cannot be planned is a problem with file, line and mend;
  * a job that reads the output of a broken one is not blamed for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

from tidemill.core.errors import DefinitionError, TidemillError
from tidemill.core.mapping import ObjectMapping
from tidemill.core.model import Job, Takes
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.engines.python import PythonEngine
from tidemill.project.asserting import unfit
from tidemill.project.definitions import Definitions
from tidemill.project.loading import load
from tidemill.project.pilot import Pilot, pilots_in
from tidemill.project.sqljobs import written
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.retention import why_all
from tidemill.sql import analyse
from tidemill.stores.duckdb import DuckDBStore

__all__ = ["check", "drop_contradictions"]


def check(folder: str | Path, env: str | None = None) -> Definitions:
    """Load a project and plan every job; what is wrong is in `problems`."""
    loaded = load(folder, env)
    drop_contradictions(loaded)
    store = DuckDBStore(":memory:")
    try:
        loaded.problems += _unplannable(loaded, store)
        _check_shadows(loaded, env, store)
    finally:
        store.close()
    return loaded


def _check_shadows(loaded: Definitions, env: str | None, store: DuckDBStore) -> None:
    """Show the shadows beside the jobs, and warn of those that could not work with these definitions."""
    for pilot in pilots_in(loaded.folder / ".tidemill"):
        loaded.shadows.append({"job": pilot.job, "kind": pilot.kind, "word": pilot.word})
        wrong = _wrong_with(pilot, loaded, env, store)
        if wrong is not None:
            reason = wrong.message.rstrip(".")
            mend = f"{wrong.mend}, or let the shadow go: tidemill shadow {pilot.job} --abandon"
            told = f"the shadow of {pilot.job} ({pilot.kind} {pilot.word}) cannot work: {reason}"
            loaded.warnings.append(DefinitionError(told, place=pilot.word, mend=mend))


def _wrong_with(pilot: Pilot, loaded: Definitions, env: str | None, store: DuckDBStore) -> DefinitionError | None:
    live = loaded.jobs.get(pilot.job)
    if live is None:
        is_broken = bool(loaded.problems)  # it may be there once they are mended
        return None if is_broken else DefinitionError(f"there is no job {pilot.job} any more", mend="put the job back")
    if pilot.kind == "against" and pilot.word not in loaded.assets:
        return DefinitionError(f"there is no asset {pilot.word}", mend="declare it")
    if pilot.kind != "sql":
        return None
    file = live.place.file
    if not file.endswith(".sql"):
        return DefinitionError(f"{pilot.job} is not made of a SQL file any more", mend="put the file back")
    instead = load(loaded.folder, env, instead={file: pilot.sql})
    problems = [*instead.problems, *_unplannable(instead, store)]
    return next((problem for problem in problems if problem.place.partition(":")[0] == file), None)


def drop_contradictions(loaded: Definitions) -> None:
    """Leave out jobs that contradict the ones before them (two writers, a circle); loading has said so already."""
    mapping = ObjectMapping()
    for name, job in list(loaded.jobs.items()):
        try:
            mapping.add(job)
        except DefinitionError as error:
            del loaded.jobs[name]
            if not loaded.problems:
                loaded.problems.append(error)


def _unplannable(loaded: Definitions, store: DuckDBStore) -> list[DefinitionError]:
    catalog = Catalog(dict(loaded.assets), dict(loaded.jobs), timezone=loaded.timezone)
    python = PythonEngine(loaded.jobs.values(), loaded.functions)
    sql = DuckDBEngine(store, catalog.asset, lambda: loaded.views, lambda job: written(loaded.folder, job))
    catalog.engines = {Takes.SQL: sql, **dict.fromkeys((Takes.ROW, Takes.TABLE, Takes.FULL, Takes.RUN), python)}
    problems: dict[str, DefinitionError] = {}
    broken: set[str] = set()
    for job in (*_views(loaded), *loaded.jobs.values()):
        if broken & set(loaded.named.get(job.name, ())):
            broken |= {job.name} & set(loaded.views)
            continue  # a view that it reads is wrong, and has been told
        try:
            plan = catalog.plan(job)
            problems |= {str(found): found for found in unfit(job, plan, store.describe)}
            loaded.warnings += _held_back(catalog, job)
        except KeyError:
            continue  # what it reads, or what that is made of, is not there: loading has said so
        except TidemillError as error:
            found = DefinitionError(error.message, place=error.place or str(job.place), mend=error.mend)
            problems.setdefault(str(found), found)
            broken |= {job.name} & set(loaded.views)
    python.close()
    return list(problems.values())


def _held_back(catalog: Catalog, job: Job) -> Iterator[DefinitionError]:
    """The topics whose retention a job makes impossible, because it needs all their rows."""
    for name in job.inputs if job.name in catalog.jobs else ():
        topic = catalog.assets[name]
        reason = why_all(catalog, job, name) if topic.retention_seconds and catalog.is_append_topic(name) else ""
        if reason:
            yield DefinitionError(
                f"job {job.name} needs all rows of {name} ({reason}), so nothing of {name} expires as long as it is there",
                place=str(job.place),
                mend=f"let it read a table that a job makes of {name} from what is new, or take the retention of {name} away",
            )


def _views(loaded: Definitions) -> Iterator[Job]:
    """Views as jobs that nobody runs, those first that others read, so that what is wrong in one is told of it alone."""
    known = {name.lower(): name for name in loaded.assets}
    graph = {name: [read for read in loaded.named.get(name, ()) if read in loaded.views] for name in loaded.views}
    for name in TopologicalSorter(graph).static_order():
        text = loaded.views[name]
        inputs = tuple(known.get(read.lower(), read) for read in analyse(text, name).inputs)
        place = loaded.assets[name].place
        yield Job(name, inputs, (name,), Takes.SQL, text, f"view {name}", place=place)

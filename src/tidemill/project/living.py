"""Definitions that change while the project runs (rules 24 to 27).

Rules of this file:
  * a definition that does not load or cannot be planned keeps the old one, and raises an alarm; so does an asset whose
    new shape has no room for what came in before;
  * a change that would make a reader unplannable is refused, unless the same load mends that reader;
  * under `serve`, what rebuilds a table, removes a job or acts outside waits for `apply`; everything else is at once.

Theory of operation. A reload is compared with what runs: `Difference` names the jobs that are new, changed and gone.
They are tried on a copy of the catalog first; only what can be planned there reaches the running one, as `Defined` and
`Removed` events.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tidemill.core.errors import DefinitionError, TidemillError
from tidemill.core.event import Alert, Removed
from tidemill.core.model import Job, Takes
from tidemill.project import wiring
from tidemill.project.definitions import Definitions
from tidemill.project.toml import FILE
from tidemill.project.wiring import Machine
from tidemill.runtime.backfill import backfill_of
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.delivered import replay_of

__all__ = ["Difference", "apply_pending", "compare", "forget_absent", "reload"]


@dataclass(slots=True)
class Difference:
    """What a reload would change."""

    new: list[Job] = field(default_factory=list)
    changed: list[Job] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.gone)


def compare(machine: Machine, loaded: Definitions) -> Difference:
    """What differs between the running definitions and a load; what failed to load counts as unchanged.

    Nothing is gone while tidemill.toml does not load: whatever is not there may be so for that alone.
    """
    broken = {problem.place.partition(":")[0] for problem in loaded.problems}
    running = machine.definitions.jobs
    missing = [name for name in running if name not in loaded.jobs] if FILE not in broken else []
    gone = [name for name in missing if running[name].place.file not in broken]
    return Difference(
        [job for name, job in loaded.jobs.items() if name not in running],
        [job for name, job in loaded.jobs.items() if name in running and running[name] != job],
        gone,
    )


def reload(machine: Machine, loaded: Definitions, *, applies_at_once: bool) -> list[str]:
    """Take a load into the running project; returns the names of the jobs that changed now."""
    misshapen = wiring.settle_shapes(machine, loaded.assets)
    for name, error in misshapen.items():
        if name not in machine.definitions.assets:
            raise error
        loaded.assets[name] = machine.definitions.assets[name]
    difference = compare(machine, loaded)
    refused = _refusals(machine, loaded, difference)
    _raise_alarms(machine, [*loaded.problems, *misshapen.values(), *refused.values()])
    new = [job for job in difference.new if job.name not in refused]
    changed = [job for job in difference.changed if job.name not in refused]
    gone = [name for name in difference.gone if name not in refused]
    if not applies_at_once:
        new, changed, gone = _hold_back(machine, new, changed, gone)
    _take_assets(machine, loaded, refused)
    machine.python.adopt(loaded.jobs.values(), loaded.functions)
    return _apply(machine, [*new, *changed], gone)


def apply_pending(machine: Machine) -> list[str]:
    """Apply what waits for it."""
    waiting, machine.pending = machine.pending, {}
    jobs = [job for job in waiting.values() if job is not None]
    return _apply(machine, jobs, [name for name, job in waiting.items() if job is None])


def _apply(machine: Machine, jobs: Iterable[Job], gone: Iterable[str]) -> list[str]:
    now = machine.clock.now()
    applied = []
    for name in gone:
        machine.definitions.jobs.pop(name, None)
        machine.catalog.remove(name)
        machine.loop.post(Removed(name, now))
        _forget(machine, name)
        applied.append(name)
    events = []
    ordered = wiring.from_the_sources_down({job.name: job for job in jobs})
    if not ordered:
        return applied
    held, said = machine.positions(), wiring.Said.read(machine)
    for job in ordered:  # all of them are in the catalog before the first is judged: they may read each other
        machine.definitions.jobs[job.name] = job
        events.append(wiring.defined(machine, job, held[job.home], said, is_first=False))
        applied.append(job.name)
    said.keep(machine)
    for event in events:
        machine.loop.post(event)
    return applied


def forget_absent(machine: Machine) -> list[str]:
    """Forget jobs that were removed while nobody ran the project; what failed to load is not gone."""
    if machine.definitions.problems:
        return []
    gone = [name for name in machine.ledger.notes("definition") if name not in machine.definitions.jobs]
    for name in gone:
        _forget(machine, name)
    return gone


def _forget(machine: Machine, name: str) -> None:
    """A removed job's progress goes, so that a job of that name begins anew; its table stays until nobody names it."""
    for store in machine.stores.values():
        store.drop(jobs=(name, replay_of(name), backfill_of(name)))
    machine.watch.begin_anew(name)
    machine.ledger.note("definition", name, None)
    machine.ledger.note("paused", name, None)
    machine.ledger.note("let_go", name, None)
    machine.ledger.note("backfill", name, None)
    machine.ledger.note("counts_from", name, None)


def _take_assets(machine: Machine, loaded: Definitions, refused: dict[str, DefinitionError]) -> None:
    kept = {output for name in refused for output in _outputs(machine, name)}
    fresh = {name: asset for name, asset in loaded.assets.items() if name not in kept}
    machine.catalog.assets = {**machine.catalog.assets, **fresh}  # another one: others may be going through the old one
    machine.definitions.assets.update(fresh)
    machine.definitions.views.clear()
    machine.definitions.views.update(loaded.views)
    machine.definitions.named = loaded.named
    machine.definitions.problems = loaded.problems
    machine.definitions.server = loaded.server
    machine.definitions.hooks = loaded.hooks
    machine.definitions.settings = loaded.settings
    wiring.complete_columns(machine, fresh.values())


def _outputs(machine: Machine, name: str) -> tuple[str, ...]:
    job = machine.definitions.jobs.get(name)
    return job.outputs if job is not None else ()


def _hold_back(
    machine: Machine, new: list[Job], changed: list[Job], gone: list[str]
) -> tuple[list[Job], list[Job], list[str]]:
    """What waits for `apply` under `serve` (rule 26)."""
    machine.pending.clear()  # what was taken back waits no longer
    machine.pending.update({job.name: job for job in new if job.is_outside})
    machine.pending.update({job.name: job for job in changed if job.is_outside or _rebuilds(machine, job)})
    machine.pending.update(dict.fromkeys(gone))
    return (
        [job for job in new if job.name not in machine.pending],
        [job for job in changed if job.name not in machine.pending],
        [],
    )


def _rebuilds(machine: Machine, job: Job) -> bool:
    return job.version != machine.definitions.jobs[job.name].version


def _refusals(machine: Machine, loaded: Definitions, difference: Difference) -> dict[str, DefinitionError]:
    """Jobs of a load that cannot be taken: unplannable themselves, or making a reader so."""
    refused: dict[str, DefinitionError] = {}
    touched = [*difference.new, *difference.changed]
    concerned = _concerned(machine, loaded, difference)
    while concerned:
        left = [job for job in touched if job.name not in refused]
        found = _unplannable(machine, loaded, left, difference, concerned - refused.keys())
        if not found:
            break
        refused.update(found)
    return refused


def _concerned(machine: Machine, loaded: Definitions, difference: Difference) -> set[str]:
    """The jobs whose plans a load may change: those it touches, and all that read from there on.

    A load that changes nothing concerns nobody: to plan ten thousand jobs takes half a minute.
    """
    running = machine.definitions
    if loaded.views != running.views:  # their SQL stands in their readers
        return {*running.jobs, *loaded.jobs}
    names = loaded.assets.keys() | running.assets.keys()
    waiting = [name for name in names if loaded.assets.get(name) != running.assets.get(name)]
    concerned = {job.name for job in (*difference.new, *difference.changed)}
    jobs = {**running.jobs, **loaded.jobs}
    waiting += [output for name in (*concerned, *difference.gone) for output in jobs[name].outputs]
    readers: dict[str, list[Job]] = {}
    for job in jobs.values() if waiting else ():
        for asset in job.inputs:
            readers.setdefault(asset, []).append(job)
    while waiting:
        for job in readers.pop(waiting.pop(), ()):
            concerned.add(job.name)
            waiting += job.outputs
    return concerned


def _unplannable(
    machine: Machine,
    loaded: Definitions,
    touched: list[Job],
    difference: Difference,
    concerned: set[str],
) -> dict[str, DefinitionError]:
    jobs = {name: job for name, job in machine.definitions.jobs.items() if name not in difference.gone}
    jobs.update({job.name: job for job in touched})
    trial = Catalog({**machine.catalog.assets, **loaded.assets}, jobs, machine.catalog.engines)
    changed = {job.name for job in touched}
    for job in jobs.values():
        if job.takes is not Takes.SQL or job.name not in concerned:
            continue
        error = _planning_error(trial, job)
        if error is None:
            continue
        if job.name in changed:
            return {job.name: error}
        culprits = {other.name for other in touched if set(other.outputs) & set(job.inputs)}
        return dict.fromkeys(culprits, error)
    return {}


def _planning_error(trial: Catalog, job: Job) -> DefinitionError | None:
    try:
        trial.plan(job)
    except DefinitionError as error:
        return error
    except TidemillError as error:
        return DefinitionError(str(error), place=str(job.place))
    return None


def _raise_alarms(machine: Machine, problems: list[DefinitionError]) -> None:
    """The alarms of this load stand in place of those of the load before."""
    for key in [key for key in machine.journal.alarms if key[0] == "definition"]:
        machine.journal.alarms.pop(key, None)
    for problem in problems:
        machine.journal.alert(Alert("definition", problem.place, str(problem), machine.clock.now()))

"""Load a project: every file is read, every definition built, every problem kept, and what is good is given back.

Rules of this file:
  * it is the order of things and nothing else: toml, assets, jobs, views, inferred assets, checks;
  * a definition that does not load takes nothing with it but itself; all problems come back together;
  * nothing is connected to, no row is read, no state but the cache of looked-at SQL is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidemill.core.errors import DefinitionError, NotFound
from tidemill.core.model import Asset, AssetKind, Job, Place
from tidemill.project import commands, pyjobs, sqljobs
from tidemill.project.alarmwords import alarm_words
from tidemill.project.assets import asset_of
from tidemill.project.definitions import Definitions
from tidemill.project.hooks import hook_of
from tidemill.project.identity import Draft
from tidemill.project.inference import adopt_asset_words, infer, settled
from tidemill.project.secrets import exposed, referenced
from tidemill.project.serving import server_words
from tidemill.project.system import SYSTEM
from tidemill.project.toml import FILE, Document, read
from tidemill.project.validate import validate
from tidemill.project.words import nearest

__all__ = ["STATE", "load"]

STATE = ".tidemill"
_CACHE = "definitions-cache.json"
_TABLES = ("project", "connections", "assets", "jobs", "server", "hooks")
_SETTINGS = ("alarms",)
_ELSEWHERE = "keep it elsewhere and write its name: ${NAME} in the environment, or file:PATH"


def load(folder: str | Path, env: str | None = None, *, instead: Mapping[str, str] = {}) -> Definitions:
    """Load a project folder, or a single Python file as a project; `instead` gives SQL texts to read in place of files'.

    Never raises for what is wrong inside: that is in `problems`, with file, line and mend, and `check()` raises it.
    Raises NotFound where there is no such folder or file.
    """
    path = Path(folder).resolve()
    if path.is_file() and path.suffix == ".py":
        return _Load(Definitions(path.parent, path.stem), Document(), {}).run(path)
    if not path.is_dir():
        raise NotFound(f"{folder} is not a project folder", mend="name a folder, or make one with: tidemill init DIR")
    loaded = Definitions(path, path.name)
    try:
        document = read(path, env)
    except DefinitionError as error:
        loaded.problems.append(error)
        return loaded
    if not (path / FILE).exists() and not (path / "jobs").is_dir():
        loaded.problems.append(
            DefinitionError(f"there is no {FILE} here", place=path.name, mend="make a project with: tidemill init DIR")
        )
    return _Load(loaded, document, instead).run(None)


class _Load:
    """One load: the definitions as they grow."""

    def __init__(self, loaded: Definitions, document: Document, instead: Mapping[str, str]) -> None:
        self.loaded = loaded
        self.document = document
        self.instead = instead
        self.drafts: dict[str, Draft] = {}
        self.input_places: dict[tuple[str, str], Place] = {}
        self.overridden: set[str] = set()

    def run(self, single: Path | None) -> Definitions:
        """Everything in order."""
        self.read_settings()
        self.read_assets()
        files = list(self.python_files(single))
        self.add_declarations(files)
        if single is None:
            self.add_sql_jobs()
        self.add_python_jobs(files)
        self.add_commands()
        self.finish()
        return self.loaded

    def problem(self, message: str, place: Place | str, mend: str) -> None:
        """Keep a problem."""
        self.loaded.problems.append(DefinitionError(message, place=str(place), mend=mend))

    def table(self, name: str) -> Mapping[str, Any]:
        """A table of tidemill.toml; a problem where it is none."""
        try:
            return self.document.table(name)
        except DefinitionError as error:
            self.loaded.problems.append(error)
            return {}

    def subtables(self, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The named tables below one."""
        for key, said in self.table(name).items():
            if isinstance(said, Mapping):
                yield key, said
            else:
                self.problem(f"{name}.{key} is not a table", self.document.place(name, key), f"write [{name}.{key}]")

    def read_settings(self) -> None:
        """[project], [connections] and the tables of other rooms; unknown tables are problems."""
        for key in self.document.tables:
            if key not in (*_TABLES, *_SETTINGS):
                hint = nearest(key, (*_TABLES, *_SETTINGS, "env"))
                mend = f"write [{hint}]" if hint else f"the tables are {', '.join((*_TABLES, 'env', *_SETTINGS))}"
                self.problem(f"unknown table {key}", self.document.place(key), mend)
        self.read_project()
        for name, said in self.subtables("connections"):
            for path in exposed(said):
                place = self.document.place("connections", name, *path)
                self.problem(f"connection {name}: a secret stands in {'.'.join(path)}", place, _ELSEWHERE)
            self.loaded.connections[name] = cast("Mapping[str, object]", referenced(said, self.loaded.folder))
        self.loaded.server, problems = server_words(self.table("server"), self.document.place)
        self.loaded.problems += problems
        for name in _SETTINGS:
            if self.table(name):
                self.loaded.settings[name] = cast(
                    "Mapping[str, object]", referenced(self.table(name), self.loaded.folder)
                )
        try:
            alarm_words(self.loaded.settings.get("alarms", {}))
        except DefinitionError as error:
            self.loaded.problems.append(error)
            self.loaded.settings.pop("alarms", None)

    def read_project(self) -> None:
        """[project]: a name and a time zone."""
        for key, value in self.table("project").items():
            place = self.document.place("project", key)
            if key not in ("name", "timezone", "description"):
                hint = nearest(key, ("name", "timezone", "description"))
                self.problem(f"unknown key {key}", place, f"write {hint}" if hint else "the keys are name, timezone")
            elif not isinstance(value, str) or not value:
                self.problem(f"{key} is not text", place, f'write {key} = "..."')
            elif key == "timezone" and not _is_zone(value):
                self.problem(f'there is no time zone "{value}"', place, 'use a name such as "Europe/Berlin"')
            elif key != "description":
                setattr(self.loaded, key, value)

    def read_assets(self) -> None:
        """[hooks.*], then [assets.*]: a topic that a hook lands in has columns given, and need not be declared."""
        self.read_hooks()
        targets = {hook.asset: hook for hook in self.loaded.hooks.values()}
        for name, said in self.subtables("assets"):
            given = {"hooks": True} if name in targets and said.get("kind") == "topic" else {}
            self.keep_asset(name, {**said, **given}, self.places("assets", name))
        for name, hook in targets.items():
            known = self.loaded.assets.get(name)
            if known is not None and known.kind is not AssetKind.TOPIC:
                self.problem(f"hook {hook.name}: {name} is no topic", hook.place, "name a topic")
            elif name not in self.table("assets"):
                self.keep_asset(name, {"kind": "topic", "hooks": True}, self.places("hooks", hook.name))

    def read_hooks(self) -> None:
        """[hooks.*]."""
        for name, said in self.subtables("hooks"):
            hook, problems = hook_of(name, said, self.loaded.folder, self.places("hooks", name))
            self.loaded.problems += problems
            if hook is not None:
                self.loaded.hooks[name] = hook

    def places(self, *path: str) -> Callable[..., Place]:
        """Where a table and the words in it stand."""
        return lambda *word: self.document.place(*path, *word)

    def keep_asset(self, name: str, said: Mapping[str, Any], place_of: Callable[..., Place]) -> None:
        """Build an asset and keep it, or its problems."""
        asset, problems = asset_of(name, said, place_of)
        self.loaded.problems += problems
        known = {known.lower(): known for known in self.loaded.assets}
        if name.lower() in known:
            self.problem(f"asset {name} stands twice", place_of(), f"keep one of {known[name.lower()]} and {name}")
        elif asset:
            self.loaded.assets[name] = asset

    def python_files(self, single: Path | None) -> Iterator[pyjobs.PythonFile]:
        """The Python files of the project."""
        if single is None:
            yield from pyjobs.read_all(self.loaded.folder, self.loaded.problems)
            return
        try:
            yield pyjobs.read_file(single, self.loaded.folder)
        except DefinitionError as error:
            self.loaded.problems.append(error)

    def add_declarations(self, files: list[pyjobs.PythonFile]) -> None:
        """Assets that Python files declare."""
        for file in files:
            for declared in file.assets:
                place = Place(file.file, declared.place.line)
                self.keep_asset(declared.name, declared.said, lambda *_, place=place: place)

    def overrides(self, name: str) -> Mapping[str, object]:
        """The words of [jobs.NAME] that override a file's."""
        said = self.table("jobs").get(name, {})
        if name not in self.drafts and isinstance(said, Mapping):
            self.overridden.add(name)
            return said
        return {}

    def add_sql_jobs(self) -> None:
        """jobs/*.sql: views first, for their readers need them."""
        cache = sqljobs.Cache(self.loaded.folder / STATE / _CACHE)
        files = list(sqljobs.read_all(self.loaded.folder, cache, self.loaded.problems, self.instead))
        views = {}
        for sql in files:
            if sqljobs.is_view(sql, self.table("jobs").get(sql.name, {})):
                view = sqljobs.view_asset(sql)
                views[view.name.lower()] = sql
                self.overridden.add(sql.name)
                self.loaded.assets.setdefault(view.name, view)
        views |= {name.lower(): found for name, found in self.declared_views(cache) if name.lower() not in views}
        self.keep_views(views)
        view_files = {view.file for view in views.values()}
        known = {name.lower(): asset for name, asset in self.loaded.assets.items()}
        known |= {
            _output_name(sql).lower(): Asset(_output_name(sql), AssetKind.TABLE)
            for sql in files
            if _output_name(sql).lower() not in known
        }
        for sql in files:
            if sql.file not in view_files:
                self.add_sql_job(sql, views, known)
        if not self.instead:  # what only might come to be is not worth keeping
            cache.save()

    def declared_views(self, cache: sqljobs.Cache) -> Iterator[tuple[str, sqljobs.SqlFile]]:
        """Views of tidemill.toml, read like files."""
        for name, asset in self.loaded.assets.items():
            if asset.kind is AssetKind.VIEW and asset.place.file == self.document.file:
                try:
                    yield name, sqljobs.SqlFile(name, str(asset.place), cache.read(asset.sql, str(asset.place)))
                except DefinitionError as error:
                    self.loaded.problems.append(error)

    def keep_views(self, views: Mapping[str, sqljobs.SqlFile]) -> None:
        """Views with the views they read put in."""
        for name, view in views.items():
            spelled = view.name if name == view.name.lower() else name
            try:
                others = {other: found for other, found in views.items() if other != name}
                self.loaded.views[spelled] = sqljobs.expanded(view, others).read.query.text
            except DefinitionError as error:
                self.loaded.problems.append(error)
            self.keep_named(spelled, view)

    def keep_named(self, name: str, sql: sqljobs.SqlFile) -> None:
        """What a SQL text names, spelled as the catalogue does."""
        known = {known.lower(): known for known in self.loaded.assets}
        self.loaded.named[name] = tuple(known.get(each.lower(), each) for each in sql.read.query.inputs)

    def add_sql_job(
        self, sql: sqljobs.SqlFile, views: Mapping[str, sqljobs.SqlFile], known: Mapping[str, Asset]
    ) -> None:
        """One SQL file that is a job."""
        try:
            whole = sqljobs.expanded(sql, views)
        except DefinitionError as error:
            self.loaded.problems.append(error)
            return
        draft, problems = sqljobs.built(whole, self.overrides(sql.name), self.places("jobs", sql.name), known)
        if whole is not sql:
            self.keep_named(sql.name, sql)
        for name, line in zip(sql.read.query.inputs, sql.read.query.lines, strict=True):
            self.input_places[sql.name, name.lower()] = Place(sql.file, line)
        self.keep(draft, problems)

    def add_python_jobs(self, files: list[pyjobs.PythonFile]) -> None:
        """jobs/*.py."""
        for file in files:
            for definition in file.jobs:
                overrides = self.overrides(definition.name)
                places = self.places("jobs", definition.name)
                self.keep(*pyjobs.built(definition, file.file, self.loaded.folder, overrides, places))

    def add_commands(self) -> None:
        """[jobs.*] with a command; without one they must override a job that a file defines."""
        for name, said in self.subtables("jobs"):
            place_of = self.places("jobs", name)
            if "command" in said and name in self.overridden:
                self.problem(
                    f"job {name} stands twice: a file defines it too", place_of("command"), "rename one of them"
                )
            elif "command" in said:
                self.keep(*commands.built(name, said, place_of))
            elif name not in self.overridden:
                hint = nearest(name, self.drafts)
                mend = f"write [jobs.{hint}]" if hint else f'add command = ["..."], or a file jobs/{name}.sql'
                self.problem(f"there is no job {name} to override", place_of(), mend)

    def keep(self, draft: Draft | None, problems: list[DefinitionError]) -> None:
        """Keep a built job, or its problems."""
        self.loaded.problems += problems
        if draft is None:
            return
        job = draft.job
        if job.name in self.drafts:
            other = self.drafts[job.name].job.place
            self.problem(f"job {job.name} stands twice: here and at {other}", job.place, "rename one of them")
        else:
            self.drafts[job.name] = draft

    def finish(self) -> None:
        """Put jobs and assets together, and check the whole."""
        for name, draft in self.drafts.items():
            job = adopt_asset_words(draft.job, self.loaded.assets)
            self.loaded.jobs[name] = replace(draft, job=job).finished(self.loaded.assets)
            if draft.function is not None:
                self.loaded.functions[name] = draft.function
        named = {name for job in self.loaded.jobs.values() for name in job.inputs}
        self.loaded.assets.update({name: asset for name, asset in SYSTEM.items() if name in named})
        infer(self.loaded)
        self.loaded.jobs = {name: settled(job, self.loaded.assets) for name, job in self.loaded.jobs.items()}
        validate(self.loaded, self.place_of_input)

    def place_of_input(self, job: Job, asset: str) -> Place:
        """Where a job names an input."""
        return self.input_places.get((job.name, asset.lower()), job.place)


def _is_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _output_name(sql: sqljobs.SqlFile) -> str:
    return sql.read.words.get("output", sql.name).strip()

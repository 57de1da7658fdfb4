"""What loading a project gives: its definitions, and everything that is wrong with them.

Rules of this file:
  * plain values; a definition that did not load is not in `jobs` or `assets`, its reason is in `problems`;
  * `problems` keep something from loading, `warnings` do not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, Job
from tidemill.project.hooks import Hook
from tidemill.project.serving import ServerWords

__all__ = ["Definitions"]


@dataclass(slots=True)
class Definitions:
    """A loaded project.

    `jobs` are those that run; `functions` holds the callable of each Python job by job name; `views` maps the name of
    a view to its SQL (views have no job: their SQL stands in their readers), and `named` what the SQL of each view, and of
    each job that reads one, names. `settings` are the tables of tidemill.toml that other rooms read (`[alarms]`);
    `server` are the words of `[server]`. `shadows` are `{job, kind, word}` of those that a check found beside its jobs.
    """

    folder: Path
    name: str = ""
    timezone: str = "UTC"
    assets: dict[str, Asset] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    functions: dict[str, Callable[..., Any]] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    named: dict[str, tuple[str, ...]] = field(default_factory=dict)
    connections: dict[str, Mapping[str, object]] = field(default_factory=dict)
    settings: dict[str, Mapping[str, object]] = field(default_factory=dict)
    hooks: dict[str, Hook] = field(default_factory=dict)
    server: ServerWords = field(default_factory=ServerWords)
    problems: list[DefinitionError] = field(default_factory=list)
    warnings: list[DefinitionError] = field(default_factory=list)
    shadows: list[dict[str, str]] = field(default_factory=list)

    def check(self) -> None:
        """Raise everything that is wrong as one error; nothing happens where all is well."""
        if len(self.problems) == 1:
            raise self.problems[0]
        if self.problems:
            listed = "\n".join(str(problem) for problem in self.problems)
            raise DefinitionError(f"{len(self.problems)} problems\n{listed}")

"""Beginning: a small project that works (`init`), or one made of an object mapping that exists already (`import_mapping`).

Rules of this file:
  * nothing that is there is ever overwritten;
  * what is written loads without a problem, and each line in it can stay when the project grows.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tidemill.core.errors import UserError
from tidemill.project.toml import FILE
from tidemill.project.words import nearest

__all__ = ["TEMPLATES", "import_mapping", "init"]

TEMPLATES = ("basic", "fraud", "inventory", "objects", "payroll")
_HERE = Path(__file__).parent / "templates"
_COLUMNS = ("job", "source", "target", "command")
_IGNORED = ".tidemill/\n"


def init(folder: str | Path, template: str = "basic") -> list[str]:
    """Write a project into a folder and give back the names of its files. Raises UserError where one is there already."""
    if template not in TEMPLATES:
        hint = nearest(template, TEMPLATES)
        mend = f"choose {hint}" if hint else f"choose one of {', '.join(TEMPLATES)}"
        raise UserError(f"there is no template {template}", mend=mend)
    target = Path(folder)
    if (target / FILE).exists():
        raise UserError(f"{target.name} is a project already: it has a {FILE}", mend="choose another folder")
    contents = {**_files(_HERE / template, target.resolve().name), ".gitignore": _IGNORED}
    taken = [name for name in contents if (target / name).exists() and name != ".gitignore"]
    if taken:
        raise UserError(f"{taken[0]} exists already in {target.name}", mend="choose an empty folder")
    for name, text in contents.items():
        path = target / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    return sorted(contents)


def _files(template: Path, name: str) -> dict[str, str]:
    paths = sorted(path for path in template.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    spelled = json.dumps(name)[1:-1]
    return {path.relative_to(template).as_posix(): path.read_text("utf-8").replace("$name", spelled) for path in paths}


@dataclass(slots=True)
class _Mapped:
    """One job of a mapping, gathered from its lines."""

    sources: dict[str, None] = field(default_factory=dict)
    targets: dict[str, None] = field(default_factory=dict)
    command: str = ""


def import_mapping(text: str, file: str = "mapping.csv", known: Mapping[str, object] | None = None) -> str:
    """The text of tidemill.toml for an object mapping: a CSV of job, source, target and command, a line an edge.

    Sources that no job writes are declared as external, unless `known` has them. Raises UserError at the line that
    does not read, and for a job with two commands or none.
    """
    jobs: dict[str, _Mapped] = {}
    for line, row in _rows(text, file):
        mapped = jobs.setdefault(row["job"], _Mapped())
        mapped.sources |= dict.fromkeys(_names(row["source"]))
        mapped.targets |= dict.fromkeys(_names(row["target"]))
        if mapped.command and row["command"] not in ("", mapped.command):
            raise UserError(
                f"job {row['job']} has two commands", place=f"{file}:{line}", mend="give all its lines the same command"
            )
        mapped.command = mapped.command or row["command"]
    without = next((name for name, mapped in jobs.items() if not mapped.command), "")
    if without:
        raise UserError(
            f"job {without} has no command", place=file, mend="give one of its lines the command that it runs"
        )
    if not jobs:
        raise UserError("there is no job in it", place=file, mend=f"write a line for each edge: {','.join(_COLUMNS)}")
    return "\n".join(_toml(jobs, set(known or ())))


def _rows(text: str, file: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), skipinitialspace=True)
    names = [name.strip().lower() for name in reader.fieldnames or ()]
    missing = [name for name in _COLUMNS[:3] if name not in names]
    if missing:
        raise UserError(
            f"the column {missing[0]} is missing", place=f"{file}:1", mend=f"the columns are {', '.join(_COLUMNS)}"
        )
    reader.fieldnames = names
    for row in reader:
        said = {name: (row.get(name) or "").strip() for name in _COLUMNS}
        if not any(said.values()):
            continue
        if not said["job"]:
            raise UserError(
                "the line names no job", place=f"{file}:{reader.line_num}", mend="write the job's name first"
            )
        yield reader.line_num, said


def _names(said: str) -> list[str]:
    """Names in one cell, with anything between them; made into names that SQL can say."""
    return [re.sub(r"[^\w.-]+", "_", part.strip()) for part in re.split(r"[;|,]", said) if part.strip()]


def _toml(jobs: Mapping[str, _Mapped], known: set[str]) -> Iterator[str]:
    written = {target for job in jobs.values() for target in job.targets}
    read = dict.fromkeys(source for job in jobs.values() for source in job.sources)
    for source in read:
        if source not in written and source not in known:
            yield f"[assets.{_key(source)}]"
            yield 'kind = "external"'
            yield ""
    for name, job in jobs.items():
        yield f"[jobs.{_key(_names(name)[0])}]"
        yield f"inputs = {_list(job.sources)}"
        if job.targets:
            yield f"outputs = {_list(job.targets)}"
        yield f"command = {_list(shlex.split(job.command))}"
        yield ""


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name) else json.dumps(name, ensure_ascii=False)


def _list(names: Mapping[str, None] | list[str]) -> str:
    return "[" + ", ".join(json.dumps(name, ensure_ascii=False) for name in names) + "]"

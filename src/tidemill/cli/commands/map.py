"""`tidemill map`: the object mapping."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import listed, print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import NotFound, UserError
from tidemill.project import import_mapping
from tidemill.project.operations import Operations
from tidemill.project.toml import FILE


@declare("tidemill map", "tidemill map --mermaid > map.mmd", "tidemill map --import mapping.csv")
@click.option("--mermaid", is_flag=True, help="Print a Mermaid flowchart.")
@click.option(
    "--import", "source", metavar="CSV", help="Make jobs of a table with the columns job, source, target, command."
)
def command(settings: Settings, mermaid: bool, source: str | None) -> None:
    """Show which jobs read and write which assets: read from the definitions, never kept by hand."""
    if mermaid and (settings.is_json or source is not None):
        other = "--json" if settings.is_json else "--import"
        raise click.UsageError(f"--mermaid and {other} exclude each other\n  mend: choose one")
    if source is not None:
        _import(settings, source)
        return
    mapping, views = ask(settings, "map", _found)
    if mermaid:
        click.echo("\n".join(_mermaid(mapping, views)))
    elif settings.is_json:
        print_json(mapping)
    else:
        rows = [[job["job"], listed(job["inputs"]), listed(job["outputs"]), job["mode"]] for job in mapping]
        print_table(["job", "inputs", "outputs", "mode"], rows, "there are no jobs")
        if views:
            click.echo()
            named = [[view["asset"], listed(view["reads"]), listed(view["readers"])] for view in views]
            print_table(["view", "reads", "stands in"], named)


def _found(mill: Operations) -> tuple[Any, Any]:
    """The mapping, and the views, which are no jobs: their SQL stands in their readers."""
    return mill.map(), [asset for asset in mill.assets() if asset["kind"] == "view"]


def _import(settings: Settings, source: str) -> None:
    """Add the jobs of a mapping to tidemill.toml; all of them, or none where the whole would not be right."""
    mapping, target = Path(source), settings.folder / FILE
    if not mapping.is_file():
        raise NotFound(f"there is no file {source}", mend="name a CSV file")
    before = target.read_text(encoding="utf-8") if target.exists() else ""
    known = tomllib.loads(before).get("assets", {})
    written = import_mapping(mapping.read_text(encoding="utf-8"), mapping.name, known)
    jobs = list(tomllib.loads(written).get("jobs", {}))
    _write(target, f"{before.rstrip()}\n\n{written}" if before.strip() else written, mapping.name)
    if settings.is_json:
        print_json({"file": str(target), "jobs": jobs})
    else:
        click.echo(f"{target}: {len(jobs)} jobs added: {listed(jobs)}")


def _write(target: Path, text: str, source: str) -> None:
    try:
        tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        mend = f"take out of {source} what {FILE} has already"
        raise UserError(f"{source} does not fit into {FILE}: {error}", place=str(target), mend=mend) from error
    beside = target.with_name(f"{target.name}.new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(target)


def _mermaid(mapping: Sequence[dict[str, Any]], views: Sequence[dict[str, Any]]) -> Iterator[str]:
    read = [name for job in mapping for name in (*job["inputs"], *job["outputs"])]
    assets = dict.fromkeys([*read, *(name for view in views for name in (view["asset"], *view["reads"]))])
    ids = {name: f"a{number}" for number, name in enumerate(assets)}
    yield "flowchart LR"
    for name, short in ids.items():
        yield f'  {short}[("{_quoted(name)}")]'
    for number, job in enumerate(mapping):
        yield f'  j{number}["{_quoted(job["job"])}<br/>{job["mode"]}"]'
        yield from (f"  {ids[name]} --> j{number}" for name in job["inputs"])
        yield from (f"  j{number} --> {ids[name]}" for name in job["outputs"])
    numbers = {job["job"]: number for number, job in enumerate(mapping)}
    for view in views:
        yield from (f"  {ids[name]} -.-> {ids[view['asset']]}" for name in view["reads"])
        yield from (f"  {ids[view['asset']]} -.-> j{numbers[name]}" for name in view["readers"] if name in numbers)


def _quoted(name: str) -> str:
    return name.replace('"', "#quot;")

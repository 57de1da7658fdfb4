"""Assets: from the tables of tidemill.toml, or from a declaration in a Python file, to `Asset`.

Rules of this file:
  * one table says which words an asset may have, which kinds may have them, and how each is read;
  * an error names the asset, the word, the line and the mend; one wrong word does not hide the next;
  * a files asset's columns include the names in braces of its path: they come from the path, not from the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, AssetKind, Column, Place, Semantics
from tidemill.core.schema import RESERVED, Policy
from tidemill.project.ranges import BOUNDS, ranges_of
from tidemill.project.ranges import KINDS as RANGED
from tidemill.project.types import column_type
from tidemill.project.words import choice, duration, names, nearest, positive_duration, text, whole
from tidemill.stores.sqlite.nested import kind_of

__all__ = ["FORMATS", "FORMAT_OPTIONS", "GIVEN", "NAME", "asset_of", "columns_of", "partition_names"]

NAME = re.compile(r"[A-Za-z_][\w.-]*")
FORMATS = ("csv", "ndjson", "json", "parquet", "binary")
_BRACES = re.compile(r"\{([A-Za-z_]\w*)\}")
_ASCII_MAX = 127
_ALL = tuple(AssetKind)
_HELD = (AssetKind.TOPIC, AssetKind.TABLE, AssetKind.FILES)
_ON_DISK = (AssetKind.FILES, AssetKind.EXTRACT)

PlaceOf = Callable[..., Place]


@dataclass(frozen=True, slots=True)
class Word:
    """A word of an asset: the field it sets ("" = an option of that name), its reader and the kinds that may say it."""

    field: str
    parse: Callable[[Any], Any]
    kinds: tuple[AssetKind, ...]


def _one_of(allowed: tuple[str, ...], value: object) -> str:
    if value not in allowed:
        hint = nearest(str(value), allowed)
        raise ValueError(f'"{value}" is not one of {", ".join(allowed)}' + (f" (did you mean {hint}?)" if hint else ""))
    return str(value)


def _complete(value: object) -> dict[str, tuple[str, ...] | str]:
    """Per partition column its members: a list, or `asset.column`."""
    if not isinstance(value, Mapping) or not value:
        raise ValueError('say it per column, such as complete.site = ["A", "B"] or complete.site = "sites.id"')
    found: dict[str, tuple[str, ...] | str] = {}
    for column, members in value.items():
        if isinstance(members, str) and re.fullmatch(r"[\w-]+\.\w+", members.strip()):
            found[column] = members.strip()
        elif isinstance(members, list | tuple):
            found[column] = tuple(str(member) for member in members)
        else:
            raise ValueError(f'complete.{column} is a list of members, or "asset.column"')
    return found


def _tracking(value: object) -> object:
    if isinstance(value, bool):
        return value
    return list(names(value))


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError("write true or false")
    return value


def _character(value: object) -> str:
    """One character, or none; `\\t` is a tab."""
    if not isinstance(value, str) or len(value.replace("\\t", "\t")) > 1:
        raise ValueError("write one character")
    return value


def _delimiter(value: object) -> str:
    """One character that can stand between values; `\\t` is a tab."""
    found = _character(value)
    if not found or found in '\r\n"' or ord(found.replace("\\t", "\t")) > _ASCII_MAX:
        raise ValueError('write one character that is no quote, such as ";"')
    return found


def _beside(value: object) -> str:
    """The name of a file in the same folder."""
    name = text(value)
    if not name or "/" in name or "{" in name:
        raise ValueError(f'"{name}" is not the name of a file beside the others, such as MANIFEST or *.manifest')
    return name


def _marker(value: object) -> str:
    name = text(value)
    if not name or "/" in name or "{" in name.replace("{file}", ""):
        raise ValueError(f'"{name}" is not a marker; write a name such as _SUCCESS, or {{file}}.done for one a file')
    return name


def _nulls(value: object) -> str | list[str]:
    if not isinstance(value, str) and not (isinstance(value, list) and all(isinstance(each, str) for each in value)):
        raise ValueError('write a text or a list of texts, such as ["NA", ""]')
    return value


def _encoding(value: object) -> str:
    name = text(value)
    try:
        "a".encode(name)
    except LookupError:
        raise ValueError(
            f'"{name}" is not an encoding; write utf-8, utf-16, latin-1, cp1252 or another that Python knows'
        ) from None
    return name


WORDS: Mapping[str, Word] = {
    "key": Word("key", names, _HELD),
    "event_time": Word("event_time", text, _HELD),
    "id": Word("id", text, (AssetKind.TOPIC,)),
    "semantics": Word("semantics", partial(choice, Semantics), (AssetKind.TOPIC,)),
    "version": Word("version", text, (AssetKind.TOPIC,)),
    "dedup_window": Word("dedup_window_seconds", duration, (AssetKind.TOPIC,)),
    "retention": Word("retention_seconds", positive_duration, (AssetKind.TOPIC,)),
    "tracking": Word("", _tracking, (AssetKind.TOPIC,)),
    "on_error": Word("", partial(_one_of, ("park", "stop")), (AssetKind.TOPIC,)),
    "cloudevents": Word("", _flag, (AssetKind.TOPIC,)),
    "hooks": Word("", _flag, (AssetKind.TOPIC,)),
    "path": Word("path", text, _ON_DISK),
    "format": Word("format", partial(_one_of, FORMATS), _ON_DISK),
    "schema": Word("", partial(_one_of, tuple(Policy)), (AssetKind.FILES, AssetKind.TOPIC)),
    "complete": Word("complete", _complete, _HELD),
    "restate": Word("restate", partial(_one_of, ("replace", "append")), (AssetKind.FILES,)),
    "on_delete": Word("on_delete", partial(_one_of, ("keep", "retract")), (AssetKind.FILES,)),
    "marker": Word("marker", _marker, (AssetKind.FILES,)),
    "manifest": Word("", _beside, (AssetKind.FILES,)),
    "unpacked_bytes_max": Word("", partial(whole, least=1), (AssetKind.FILES,)),
    "unpacked_ratio_max": Word("", partial(whole, least=1), (AssetKind.FILES,)),
    "sql": Word("sql", text, (AssetKind.VIEW,)),
    "every": Word("every_seconds", positive_duration, (AssetKind.CLOCK,)),
    "connection": Word("", text, _ALL),
    "freshness": Word("freshness_seconds", positive_duration, _ALL),
    "description": Word("description", text, _ALL),
    "owner": Word("owner", text, _ALL),
    "tags": Word("tags", names, _ALL),
}
"""Every word of an asset besides `kind`, `columns` and the table of its format's options."""

FORMAT_OPTIONS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "csv": {"delimiter": _delimiter, "null": _nulls, "encoding": _encoding, "quote": _character, "header": _flag},
    "ndjson": {"encoding": _encoding},
    "json": {"encoding": _encoding},
    "parquet": {},
    "binary": {},
}
"""Every option in the table of a format, and its reader."""

_GIVEN_COLUMNS = {
    "tracking": ("message_id", {
        "message_id": "varchar", "type": "varchar", "event": "varchar", "user_id": "varchar", "anonymous_id": "varchar",
        "event_time": "timestamp", "received_at": "timestamp", "properties": "json", "context": "json",
    }),
    "cloudevents": ("event_id", {
        "event_id": "varchar", "id": "varchar", "source": "varchar", "type": "varchar", "subject": "varchar",
        "event_time": "timestamp", "datacontenttype": "varchar", "data": "json",
    }),
    "hooks": ("event_id", {
        "hook": "varchar", "event_id": "varchar", "type": "varchar", "event_time": "timestamp",
        "received_at": "timestamp", "payload": "json",
    }),
}  # fmt: skip
"""What a topic gets by one word: the column that identifies its events, and columns beside those it declares."""

CLOCK_EVERY_LEAST_SECONDS = 1.0
"""A clock ticks no more often: what reads it is computed at each tick."""

GIVEN = frozenset(_GIVEN_COLUMNS)
"""The words that give a topic its columns."""


def asset_of(name: str, said: Mapping[str, Any], place_of: PlaceOf) -> tuple[Asset | None, list[DefinitionError]]:
    """The asset, and everything wrong with it; None where it cannot be used. `place_of()` and `place_of(word)` tell where."""
    problems: list[DefinitionError] = []

    def wrong(message: str, mend: str, *word: str) -> None:
        problems.append(DefinitionError(f"asset {name}: {message}", place=str(place_of(*word)), mend=mend))

    if not NAME.fullmatch(name):
        wrong("this is not a name", "use letters, digits, _ and -, beginning with a letter")
    kind = _kind(said, wrong)
    if kind is None:
        return None, problems
    found = dict(_fields(kind, said, wrong))
    if not problems:
        asset = _completed(Asset(name=name, kind=kind, place=place_of(), **found))
        for message, mend in _misfits(asset):
            wrong(message, mend)
    return (asset if not problems else None), problems


def _kind(said: Mapping[str, Any], wrong: Callable[..., None]) -> AssetKind | None:
    kinds = ", ".join(AssetKind)
    if "kind" not in said:
        wrong("it has no kind", f'add kind = "...", one of {kinds}')
        return None
    try:
        return AssetKind(choice(AssetKind, said["kind"]))
    except ValueError as error:
        wrong(f"kind: {error}", f"kind is one of {kinds}", "kind")
        return None


def _fields(kind: AssetKind, said: Mapping[str, Any], wrong: Callable[..., None]) -> Iterator[tuple[str, Any]]:
    """The fields of an asset; options of the reader are gathered in one mapping."""
    options: dict[str, object] = {}
    for word, value in said.items():
        try:
            if word == "columns":
                columns = columns_of(value, has_ranges=kind in RANGED)
                if kind is AssetKind.TOPIC:
                    _check_at_door(columns)
                yield "columns", columns
                yield "ranges", ranges_of(value, columns)
            elif word in FORMATS and kind in _ON_DISK:
                options |= _format_options(said, word, value)
            elif word in WORDS and kind in WORDS[word].kinds:
                entry = WORDS[word]
                if entry.field:
                    yield entry.field, entry.parse(value)
                else:
                    options[word] = entry.parse(value)
            elif word != "kind":
                wrong(*_misplaced(kind, word), word)
        except ValueError as error:
            wrong(f"{word}: {error}", f"mend {word}", word)
    yield "options", options


def _check_at_door(columns: Iterable[Column]) -> None:
    """Raise ValueError for a column whose type no event can bring."""
    for column in columns:
        try:
            kind_of(column.type)
        except DefinitionError:
            raise ValueError(
                f"column {column.name}: events cannot bring {column.type}; take varchar, and cast it in SQL"
            ) from None


def _format_options(said: Mapping[str, Any], word: str, value: object) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ValueError(f'options stand in a table of their own, such as {word}.null = "NA"')
    if said.get("format", word) != word:
        raise ValueError(f"the format is {said['format']}, so options of {word} say nothing")
    return {name: _format_option(word, str(name), option) for name, option in value.items()}


def _format_option(format_: str, name: str, value: object) -> object:
    known = FORMAT_OPTIONS[format_]
    if name not in known:
        hint = nearest(name, known)
        meant = f"did you mean {hint}?" if hint else f"its options are {', '.join(known) or 'none'}"
        raise ValueError(f"{format_} has no option {name} ({meant})")
    try:
        return known[name](value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _misplaced(kind: AssetKind, word: str) -> tuple[str, str]:
    if word in WORDS:
        kinds = ", ".join(WORDS[word].kinds)
        return f"{word} says nothing for kind {kind}", f"leave {word} out, or choose a kind that has it: {kinds}"
    allowed = {"kind", "columns", *(known for known, entry in WORDS.items() if kind in entry.kinds)}
    hint = nearest(word, allowed)
    return f"unknown word {word}", f"write {hint}" if hint else f"the words are {', '.join(sorted(allowed))}"


def columns_of(value: object, *, has_ranges: bool = False) -> tuple[Column, ...]:
    """Columns from `name = "type"`, `name = "type not null"` or `name = {type = ..., required = true}`.

    With `has_ranges` such a table may say `minimum` and `maximum` too (see ranges.py).
    """
    if not isinstance(value, Mapping):
        raise ValueError('write a table of columns, each name = "type"')
    return tuple(_column(str(name), said, has_ranges=has_ranges) for name, said in value.items())


def _column(name: str, said: object, *, has_ranges: bool) -> Column:
    if name in RESERVED:
        raise ValueError(f"{name} is a name that tidemill keeps for itself")
    if isinstance(said, Mapping):
        _check_words(name, said, has_ranges=has_ranges)
        return replace(_typed(name, said["type"]), required=bool(said.get("required", False)))
    if not isinstance(said, str):
        raise ValueError(f'the type of {name} is text, such as {name} = "integer"')
    return _typed(name, said)


def _check_words(name: str, said: Mapping[str, Any], *, has_ranges: bool) -> None:
    """Raise ValueError for a word that a column has not."""
    known = ("type", "required", *BOUNDS)
    for word in said:
        if word not in known:
            hint = nearest(str(word), known)
            meant = f"did you mean {hint}?" if hint else f"its words are {', '.join(known)}"
            raise ValueError(f"column {name} has no {word} ({meant})")
        if word in BOUNDS and not has_ranges:
            raise ValueError(f"column {name}: {word} is for topics and files; of what a job makes, the job asserts it")
    if not isinstance(said.get("type"), str):
        raise ValueError(f'column {name} has no type; write {name} = {{type = "integer"}}')


def _typed(name: str, said: str) -> Column:
    plain = re.sub(r"\s+not\s+null\s*$", "", said, flags=re.IGNORECASE)
    try:
        return Column(name, column_type(plain), plain != said)
    except ValueError as error:
        raise ValueError(f"column {name}: {error}") from None


def partition_names(path: str) -> tuple[str, ...]:
    """The names in braces of a path, in order."""
    return tuple(dict.fromkeys(_BRACES.findall(path)))


def _completed(asset: Asset) -> Asset:
    """Defaults that depend on other words: the format from the path, partition and tracking columns."""
    if asset.kind is AssetKind.FILES:
        return _completed_files(asset)
    word = next((word for word in _GIVEN_COLUMNS if asset.options.get(word)), "")
    if word:
        id_, given = _GIVEN_COLUMNS[word]
        declared = tuple(column for column in asset.columns if column.name not in given)
        columns = columns_of(given) + declared
        ranges = {name: range_ for name, range_ in asset.ranges.items() if name not in given}
        return replace(
            asset, columns=columns, ranges=ranges, id=asset.id or id_, event_time=asset.event_time or "event_time"
        )
    if asset.kind is AssetKind.CLOCK:
        return replace(asset, columns=asset.columns or (Column("now", "timestamp"),))
    if asset.kind is AssetKind.EXTRACT:
        path = asset.path or f"extracts/{asset.name}.csv"
        return replace(asset, path=path, format=asset.format or format_of(path) or "csv")
    return asset


def _completed_files(asset: Asset) -> Asset:
    columns = asset.columns
    if columns or asset.format == "binary":
        known = {column.name for column in columns}
        columns += tuple(Column(name, "varchar", True) for name in partition_names(asset.path) if name not in known)
    return replace(asset, columns=columns, format=asset.format or format_of(asset.path))


def format_of(path: str) -> str:
    """The format that the end of a path tells, or ""."""
    bare = re.sub(r"\.(gz|zst|bz2)$", "", path.lower())
    ends = {"csv": "csv", "tsv": "csv", "ndjson": "ndjson", "jsonl": "ndjson", "json": "json", "parquet": "parquet"}
    return ends.get(bare.rpartition(".")[2], "")


def _misfits(asset: Asset) -> Iterator[tuple[str, str]]:
    """What does not fit together in an asset whose words are each fine."""
    known = {column.name for column in asset.columns}
    if asset.columns:
        for word, named in _column_words(asset):
            if named not in known:
                hint = nearest(named, known)
                yield (
                    f"{word} names {named}, which is not a column",
                    f"write {hint}" if hint else f"add {named} to columns",
                )
    yield from _KIND_MISFITS.get(asset.kind, _no_misfits)(asset)


def _column_words(asset: Asset) -> Iterator[tuple[str, str]]:
    yield from (("key", column) for column in asset.key)
    yield from ((word, named) for word, named in (("event_time", asset.event_time), ("id", asset.id)) if named)
    if asset.version:
        yield "version", asset.version
    yield from (("complete", column) for column in asset.complete)


def _no_misfits(_: Asset) -> Iterator[tuple[str, str]]:
    yield from ()


def _topic_misfits(asset: Asset) -> Iterator[tuple[str, str]]:
    if not asset.columns:
        yield "it declares no columns", f'add [assets.{asset.name}.columns] with name = "type"'
    given = next((word for word in _GIVEN_COLUMNS if asset.options.get(word)), "")
    if given and asset.options.get("schema"):
        yield f"{given} gives its columns", "leave schema out"
    if asset.semantics is Semantics.UPSERT and not asset.key:
        yield "semantics upsert needs a key", "add key = [...], the columns that identify a row"
    if asset.version and asset.semantics is not Semantics.UPSERT:
        yield "version says something only for upsert", 'add semantics = "upsert", or leave version out'


def _files_misfits(asset: Asset) -> Iterator[tuple[str, str]]:
    if not asset.path:
        yield "it has no path", 'add path = "landing/{date}.csv"'
    elif asset.marker and asset.options.get("manifest"):
        yield "it has a marker and a manifest", "leave one of them out"
    elif not asset.format:
        yield "its path does not tell the format", f"add format, one of {', '.join(FORMATS)}"


def _view_misfits(asset: Asset) -> Iterator[tuple[str, str]]:
    if not asset.sql:
        yield "it has no sql", 'add sql = "select ..."'


def _clock_misfits(asset: Asset) -> Iterator[tuple[str, str]]:
    if not asset.every_seconds:
        yield "it does not say how often it ticks", 'add every = "1h"'
    elif asset.every_seconds < CLOCK_EVERY_LEAST_SECONDS:
        yield (
            f"every is {asset.every_seconds:g} s, and a clock ticks once a second at most",
            'write every = "1s" or more',
        )
    if [(column.name, column.type) for column in asset.columns] != [("now", "timestamp")]:
        yield "a clock has one column, now, which is given", "leave columns out"


_KIND_MISFITS: Mapping[AssetKind, Callable[[Asset], Iterator[tuple[str, str]]]] = {
    AssetKind.TOPIC: _topic_misfits,
    AssetKind.FILES: _files_misfits,
    AssetKind.VIEW: _view_misfits,
    AssetKind.CLOCK: _clock_misfits,
}

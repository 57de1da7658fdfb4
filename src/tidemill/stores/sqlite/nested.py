"""Kinds made of kinds (lists, structs, maps), and the parser of DuckDB's type names.

Rules of this file:
  * `kind_of` takes any spelling DuckDB takes for the types we support, and refuses the others with the mend;
  * a nested kind is exact where its parts are, and can be read in bulk where its parts can.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa

from tidemill.core.errors import DefinitionError
from tidemill.stores.sqlite import kinds
from tidemill.stores.sqlite.kinds import Kind, refuse

__all__ = ["kind_of"]


def _range(bits: int) -> tuple[int, int]:
    return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1


def _simple() -> dict[str, Kind]:
    """The kinds that have no parameters, by every name they go by."""
    wide = 10**38 - 1
    found = {
        ("tinyint", "int1"): kinds.integer("tinyint", *_range(8), pa.int8()),
        ("smallint", "int2", "short"): kinds.integer("smallint", *_range(16), pa.int16()),
        ("integer", "int", "int4", "signed"): kinds.integer("integer", *_range(32), pa.int32()),
        ("bigint", "int8", "long"): kinds.integer("bigint", *_range(64), pa.int64()),
        ("hugeint", "int128"): kinds.integer("hugeint", -wide, wide, pa.decimal128(38, 0)),
        ("utinyint", "uint8"): kinds.integer("utinyint", 0, 2**8 - 1, pa.uint8()),
        ("usmallint", "uint16"): kinds.integer("usmallint", 0, 2**16 - 1, pa.uint16()),
        ("uinteger", "uint32"): kinds.integer("uinteger", 0, 2**32 - 1, pa.uint32()),
        ("ubigint", "uint64"): kinds.integer("ubigint", 0, 2**64 - 1, pa.uint64()),
        ("uhugeint", "uint128"): kinds.integer("uhugeint", 0, wide, pa.decimal128(38, 0)),
        ("float", "real", "float4"): kinds.real("float", 3.4028235677973362e38, pa.float32()),
        ("double", "float8", "double precision"): kinds.real("double", 1.7976931348623157e308, pa.float64()),
        ("boolean", "bool", "logical"): kinds.boolean("boolean"),
        ("varchar", "text", "string", "char", "bpchar", "nvarchar"): kinds.text("varchar"),
        ("blob", "bytea", "binary", "varbinary"): kinds.bytes_("blob"),
        ("uuid", "guid"): kinds.identifier("uuid"),
        ("json",): kinds.anything("json"),
        ("date",): kinds.date("date"),
        ("time", "time without time zone"): kinds.time("time"),
        ("timestamp", "datetime", "timestamp_us", "timestamp without time zone"): kinds.timestamp("timestamp", 6),
        ("timestamptz", "timestamp with time zone"): kinds.timestamp("timestamptz", 6, is_zoned=True),
        ("timestamp_s",): kinds.timestamp("timestamp_s", 0),
        ("timestamp_ms",): kinds.timestamp("timestamp_ms", 3),
        ("timestamp_ns",): kinds.timestamp("timestamp_ns", 9),
    }
    return {name: kind for names, kind in found.items() for name in names}


SIMPLE = _simple()

_TOKEN = re.compile(r"""\s*(?:'((?:[^']|'')*)'|"((?:[^"]|"")*)"|([A-Za-z_][A-Za-z_0-9]*|[0-9]+)|([()\[\],]))""")


@lru_cache(maxsize=4096)
def kind_of(name: str) -> Kind:
    """The kind of a DuckDB type name; raises DefinitionError for one the door does not know."""
    parser = _Parser(name)
    kind = parser.kind()
    if parser.peek():
        raise parser.unknown()
    return kind


class _Parser:
    """Recursive descent over the tokens of one type name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.tokens = self._tokens(name.strip())
        self.at = 0

    def _tokens(self, name: str) -> list[tuple[str, str]]:
        tokens, position = [], 0
        while position < len(name):
            match = _TOKEN.match(name, position)
            if not match:
                raise self.unknown()
            literal, quoted, word, mark = match.groups()
            if literal is not None:
                tokens.append(("literal", literal.replace("''", "'")))
            elif quoted is not None:
                tokens.append(("name", quoted.replace('""', '"')))
            else:
                tokens.append(("word", word) if word else ("mark", mark))
            position = match.end()
        return tokens

    def unknown(self) -> DefinitionError:
        mend = "use one of DuckDB's types, such as varchar, bigint, double, decimal(18, 3), timestamp, json"
        return DefinitionError(f"the column type {self.name!r} is not known at the door", mend=mend)

    def peek(self) -> tuple[str, str] | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> tuple[str, str]:
        token = self.peek()
        if token is None:
            raise self.unknown()
        self.at += 1
        return token

    def accept(self, mark: str) -> bool:
        if self.peek() == ("mark", mark):
            self.at += 1
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.accept(mark):
            raise self.unknown()

    def kind(self) -> Kind:
        """type := name [ '(' parameters ')' ] { '[' [size] ']' }."""
        kind = self._scalar()
        while self.accept("["):
            if not self.accept("]"):
                size = self._size()
                self.expect("]")
                kind = array_of(kind, size)
            else:
                kind = list_of(kind)
        return kind

    def _scalar(self) -> Kind:
        words = []
        while (token := self.peek()) and token[0] == "word":
            words.append(self.take()[1].lower())
        name = " ".join(words)
        if self.accept("("):
            return self._with_parameters(name)
        if name in {"decimal", "numeric", "dec"}:
            return kinds.decimal("decimal(18, 3)", 18, 3)
        if name not in SIMPLE:
            raise self.unknown()
        return SIMPLE[name]

    def _with_parameters(self, name: str) -> Kind:
        if name == "struct":
            return self._struct()
        if name == "map":
            key = self.kind()
            self.expect(",")
            value = self.kind()
            self.expect(")")
            return map_of(key, value)
        if name == "enum":
            return kinds.choice("enum", self._literals())
        if name in {"decimal", "numeric", "dec"}:
            return self._decimal()
        if SIMPLE.get(name) is SIMPLE["varchar"]:
            self._size()
            self.expect(")")
            return SIMPLE["varchar"]
        raise self.unknown()

    def _size(self) -> int:
        _, size = self.take()
        if not size.isdigit():
            raise self.unknown()
        return int(size)

    def _decimal(self) -> Kind:
        precision, scale = self._size(), 0
        if self.accept(","):
            scale = self._size()
        self.expect(")")
        if not 1 <= precision <= 38 or scale > precision:
            raise self.unknown()
        return kinds.decimal(f"decimal({precision}, {scale})", precision, scale)

    def _literals(self) -> tuple[str, ...]:
        values = []
        while True:
            sort, value = self.take()
            if sort != "literal":
                raise self.unknown()
            values.append(value)
            if self.accept(")"):
                return tuple(values)
            self.expect(",")

    def _struct(self) -> Kind:
        members: dict[str, Kind] = {}
        while True:
            sort, name = self.take()
            if sort not in {"word", "name"}:
                raise self.unknown()
            members[name] = self.kind()
            if self.accept(")"):
                return struct_of(members)
            self.expect(",")


def _nullable(kind: Kind) -> Any:
    return kind.fast if kind.fast is msgspec.Raw else kind.fast | None


def _door(kind: Kind) -> Any:
    return kind.door if kind.door is msgspec.Raw else kind.door | None


def list_of(item: Kind) -> Kind:
    """A list; items may be null."""
    name = f"{item.name}[]"

    def check(value: Any) -> Any:
        if not isinstance(value, list):
            raise refuse(value, name)
        checked = [None if each is None else item.check(each) for each in value]
        return value if all(a is b for a, b in zip(checked, value, strict=True)) else checked

    load, dump = item.load, item.dump
    return Kind(
        name,
        pa.list_(item.arrow),
        pa.list_(item.bulk) if item.bulk and item.bulk == item.arrow else None,
        list[_nullable(item)],  # type: ignore[misc]
        check,
        list[_door(item)] if item.is_exact else Any,  # type: ignore[misc]
        load and (lambda value: [None if each is None else load(each) for each in value]),
        dump and (lambda value: [None if each is None else dump(each) for each in value]),
        item.is_exact,
        item.has_fraction,
    )


def array_of(item: Kind, size: int) -> Kind:
    """A list of exactly `size` items."""
    inner = list_of(item)

    def check(value: Any) -> Any:
        if isinstance(value, list) and len(value) != size:
            raise refuse(value, f"{item.name}[{size}]", f"it has {len(value)} items")
        return inner.check(value)

    arrow = pa.list_(item.arrow, size)
    return Kind(
        f"{item.name}[{size}]", arrow, None, inner.fast, check, Any, inner.load, inner.dump, False, item.has_fraction
    )


def struct_of(members: dict[str, Kind]) -> Kind:
    """An object with these members; missing ones are null."""
    places = {f"m{place}": name for place, name in enumerate(members)}
    name = "struct(" + ", ".join(f"{key} {kind.name}" for key, kind in members.items()) + ")"

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise refuse(value, name)
        changed = {}
        for key, kind in members.items():
            found = value.get(key)
            if found is not None and (checked := kind.check(found)) is not found:
                changed[key] = checked
        return {**value, **changed} if changed else value

    def load(value: Any) -> Any:
        return {key: _loaded(kind, getattr(value, place)) for (place, key), kind in zip(pairs, kinds_, strict=True)}

    def dump(value: Any) -> Any:
        return {key: _dumped(kind, value.get(key)) for key, kind in members.items()}

    pairs, kinds_ = tuple(places.items()), tuple(members.values())
    is_bulk = all(kind.bulk and kind.bulk == kind.arrow for kind in kinds_)
    arrow = pa.struct([(key, kind.arrow) for key, kind in members.items()])
    is_exact = all(kind.is_exact for kind in kinds_)
    fast = _object(places, [_nullable(kind) for kind in kinds_])
    door = _object(places, [_door(kind) for kind in kinds_]) if is_exact else Any
    has_fraction = any(kind.has_fraction for kind in kinds_)
    return Kind(name, arrow, arrow if is_bulk else None, fast, check, door, load, dump, is_exact, has_fraction)


def _object(places: dict[str, str], types: list[Any]) -> Any:
    fields = [(place, type_, None) for place, type_ in zip(places, types, strict=True)]
    return msgspec.defstruct("Member", fields, rename=places, gc=False)


def _loaded(kind: Kind, value: Any) -> Any:
    return value if value is None or kind.load is None else kind.load(value)


def _dumped(kind: Kind, value: Any) -> Any:
    return value if value is None or kind.dump is None else kind.dump(value)


def map_of(key: Kind, value_kind: Kind) -> Kind:
    """A map as a JSON object: its keys are texts, checked (and stored) as the text of the key's kind."""
    name = f"map({key.name}, {value_kind.name})"

    def check(value: Any) -> Any:
        if not isinstance(value, dict):
            raise refuse(value, name)
        checked: dict[Any, Any] = {}
        for each, found in value.items():
            checked[_key_text(key.check(each))] = None if found is None else value_kind.check(found)
        if len(checked) != len(value):
            raise refuse(value, name, "two of its keys are the same value")
        is_same = all(a == b and checked[a] is value[b] for a, b in zip(checked, value, strict=True))
        return value if is_same else checked

    def load(value: Any) -> Any:
        return [(_loaded(key, _key(each)), _loaded(value_kind, found)) for each, found in value.items()]

    def _key(each: str) -> Any:
        return msgspec.convert(each, key.fast, strict=False)

    def dump(value: Any) -> Any:
        return {_key_text(_dumped(key, each)): _dumped(value_kind, found) for each, found in value}

    arrow = pa.map_(key.arrow, value_kind.arrow)
    fast = dict[str, _nullable(value_kind)]  # type: ignore[misc,valid-type]
    return Kind(name, arrow, None, fast, check, Any, load, dump, False, key.has_fraction or value_kind.has_fraction)


def _key_text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.to_builtins(value, str_keys=True).__str__()

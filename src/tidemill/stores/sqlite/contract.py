"""The typed door: which events an asset takes, and what is stored of them.

Rules of this file:
  * the stored line is the sender's line; it is rewritten only where a lossless cast changed a value (rule 7);
  * `Contract.check` is pure: bytes in, a verdict out; it needs no lock, so that many senders check at once;
  * a verdict on an event never depends on the events that were sent with it.

Theory of operation. Checking each line by itself costs several microseconds; decoding a whole batch into structs of
the declared types costs half of one. So a batch is first decoded as a whole (`_at_once`). That says yes only where
every line is certain to pass unchanged: the types of the struct are chosen so (`kinds.Kind.door`), and what they
cannot see is guarded by scans over the bytes - one object per line, no line too long or too deep, no digits beyond
microseconds, valid UTF-8. Whatever is not certain goes line by line (`_one`), where `Kind.check` decides and says why.

What is not declared: under `ignore` the extra fields of an event stay in its line and are no columns; `strict` refuses
the event; under `evolve` they are drift, and so is a value that does not fit its column (`evolve.py` says what becomes of
that). An asset without columns takes any JSON object. A `required` column refuses null and absence; a tombstone (`_deleted: true` on an upsert topic) needs
only its key and version. Empty lines are no events, and a byte order mark is no
part of an event. An event of a topic with `id` must have one.
"""

from __future__ import annotations

import re
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import msgspec

from tidemill.core.errors import UserError
from tidemill.core.model import Asset, Column, Semantics
from tidemill.core.ports import Refusal
from tidemill.core.schema import RESERVED, Policy, policy_of
from tidemill.stores.sqlite.decode import is_plain_name
from tidemill.stores.sqlite.kinds import Kind
from tidemill.stores.sqlite.nested import kind_of
from tidemill.stores.sqlite.ranges import ranged

__all__ = [
    "BATCH_BYTES_MAX",
    "COLUMNS_MAX",
    "DELETED",
    "DEPTH_MAX",
    "EVENT_BYTES_MAX",
    "Checked",
    "Contract",
    "Identity",
    "Refused",
    "id_in",
    "key_text",
    "pieces_of",
]

EVENT_BYTES_MAX = 1 << 20
"""The longest line that is taken as an event (1 MiB)."""

DEPTH_MAX = 64
"""How deep an event may be nested."""

COLUMNS_MAX = 1_000
"""So many columns a topic may have by what events bring."""

BATCH_BYTES_MAX = 256 << 20
"""The most that one call of `append` takes (256 MiB); send larger files in parts."""

PIECE_BYTES = 4 << 20
"""How much is decoded at once, so that memory stays flat."""

DELETED = "_deleted"
"""The field of an upsert event that says its key is gone."""

_TOO_FINE = re.compile(rb"\.[0-9]{7}")
_EDGES = (b'"0001-01-01', b'"9999-12-31')

_decode = msgspec.json.Decoder(float_hook=Decimal).decode
_encode = msgspec.json.Encoder(decimal_format="number").encode


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides the fate of an event: its id, and for upsert topics its key, version and whether it deletes."""

    id: str = ""
    key: str = ""
    version: Any = None
    deleted: bool = False


@dataclass(slots=True)
class Checked:
    """The verdict on a batch: `pieces` of accepted NDJSON with their counts, in order; `ids` only for topics with one.

    `places` says where each accepted event stood in what was sent; None where nothing was refused. `has_drift`: events of
    a topic that evolves have fields or values that its columns have no room for.
    """

    sent: int = 0
    pieces: list[tuple[bytes, int]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    places: list[int] | None = None
    has_drift: bool = False

    @property
    def count(self) -> int:
        """How many events passed."""
        return sum(count for _, count in self.pieces)

    def lines(self) -> list[bytes]:
        """The accepted lines."""
        return [line for payload, _ in self.pieces for line in payload.split(b"\n")]

    def place(self, index: int) -> int:
        """Where the accepted event `index` stood in what was sent."""
        return index if self.places is None else self.places[index]


class Refused(Exception):
    """Why a line is not taken."""

    def __init__(self, reason: str, column: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.column = column


class Contract:
    """The contract of one topic."""

    def __init__(self, asset: Asset) -> None:
        self.asset = asset
        self.is_upsert = asset.semantics is Semantics.UPSERT
        self.policy = policy_of(asset) if asset.columns else Policy.IGNORE
        self._check_names(asset)
        self._kinds = {column.name: _kind(asset, column) for column in asset.columns}
        self._required = [column.name for column in asset.columns if column.required]
        self._others = {asset.id, asset.version, asset.event_time, *asset.key, DELETED} - self._kinds.keys()
        self._folded = {name.lower(): name for name in self._kinds}
        self._batch: Any = None  # where a name cannot be a struct's field, every line is checked by itself
        self._id_field = ""
        if all(is_plain_name(name) for name in self._kinds):
            self._batch = self._door(asset)
        self._inexact = self._loose_columns()
        self._has_fraction = any(kind.has_fraction for kind in self._kinds.values())
        self._ids = _identity_decoder({"id": asset.id} if asset.id else {})
        self._identity, self._fields = self._identities()

    def _check_names(self, asset: Asset) -> None:
        if self.is_upsert and not asset.key:
            raise UserError(f"upsert topic {asset.name} has no key", place=str(asset.place), mend='add `key = ["..."]`')
        odd = [name for name in (asset.id, asset.version, *asset.key) if not is_plain_name(name)]
        if odd:
            raise UserError(f"{asset.name}: {odd[0]!r} cannot be an id, key or version", place=str(asset.place))

    def _door(self, asset: Asset) -> msgspec.json.Decoder[Any]:
        """The struct of the shortcut: one field per column, and the id where it is no column."""
        fields: list[Any] = []
        names = {}
        for number, column in enumerate(asset.columns):
            kind = self._kinds[column.name]
            type_: Any = kind.door if kind.is_exact else Any
            if column.required and type_ is msgspec.Raw:
                type_ = Any
            if column.required and type_ is not Any:
                fields.append((f"c{number}", type_))
            else:
                fields.append((f"c{number}", type_ if type_ is msgspec.Raw else type_ | None, None))
            names[f"c{number}"] = column.name
        if asset.id and asset.id not in self._kinds:
            fields.append(("id", Any, None))
            names["id"] = asset.id
        if self.policy is not Policy.IGNORE:
            others = [name for name in self._others if name and name not in names.values()]
            fields += [(f"o{number}", msgspec.Raw, msgspec.Raw()) for number, _ in enumerate(others)]
            names |= {f"o{number}": name for number, name in enumerate(others)}
        fields.sort(key=len)
        forbids = self.policy is not Policy.IGNORE
        struct = msgspec.defstruct("Event", fields, rename=names, gc=False, forbid_unknown_fields=forbids)
        self._id_field = next((each for each, name in names.items() if name == asset.id), "")
        return msgspec.json.Decoder(struct, float_hook=Decimal)

    def _loose_columns(self) -> list[tuple[str, Kind, bool]]:
        """The columns whose struct field accepts more than the contract does."""
        loose = []
        for number, column in enumerate(self.asset.columns):
            kind = self._kinds[column.name]
            if not kind.is_exact or (column.required and kind.door is msgspec.Raw):
                loose.append((f"c{number}", kind, column.required))
        return loose

    def _identities(self) -> tuple[msgspec.json.Decoder[Any], dict[str, str]]:
        """A decoder of what identifies an event, and the field of each of its columns: one column may be key, version, id."""
        columns = [*self.asset.key, self.asset.version, self.asset.id, DELETED]
        fields = {name: f"f{place}" for place, name in enumerate(dict.fromkeys(columns)) if name}
        return _identity_decoder({each: name for name, each in fields.items()}, self._kinds), fields

    # The verdict.

    def check(self, events: bytes) -> Checked:
        """Check a batch of NDJSON."""
        if len(events) > BATCH_BYTES_MAX:
            raise UserError(
                f"{len(events)} bytes at once are too many for {self.asset.name} (at most {BATCH_BYTES_MAX})",
                mend="send the file in parts; `tidemill emit --file` does",
            )
        checked = Checked()
        for piece in pieces_of(events):
            if not self._at_once(piece, checked):
                self._by_line(piece, checked)
        return checked

    def _at_once(self, piece: bytes, checked: Checked) -> bool:
        """Take a piece as a whole, if every line of it is certain to pass unchanged."""
        count = piece.count(b"\n") + 1
        if self._batch is None or not self._is_plain(piece, count):
            return False
        try:
            events = self._batch.decode_lines(piece)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        if len(events) != count or not self._are_unchanged(events):
            return False
        if self._id_field:
            ids = [getattr(event, self._id_field) for event in events]
            if not all(type(each) is str for each in ids):
                if None in ids:
                    return False
                ids = [_id_text(each) for each in ids]
            checked.ids += ids
        if checked.places is not None:
            checked.places += range(checked.sent, checked.sent + count)
        checked.pieces.append((piece, count))
        checked.sent += count
        return True

    def _is_plain(self, piece: bytes, count: int) -> bool:
        """Whether each line is one object, none too long or too deep, and no time is finer than microseconds.

        Where a line ends with `}` and the next begins with `{`, no JSON value can reach over the line break; with as
        many values as lines, each line then is exactly one.
        """
        if not (piece.startswith(b"{") and piece.endswith(b"}") and piece.count(b"}\n{") == count - 1):
            return False
        if piece.count(b"{") + piece.count(b"[") > count + DEPTH_MAX and not _is_shallow(piece):
            return False
        if len(piece) > EVENT_BYTES_MAX and not _has_short_lines(piece):
            return False
        if self._has_fraction and (_TOO_FINE.search(piece) or any(edge in piece for edge in _EDGES)):
            return False
        return piece.isascii() or _is_utf8(piece)

    def _are_unchanged(self, events: list[Any]) -> bool:
        for name, kind, is_required in self._inexact:
            check = kind.check
            for event in events:
                value = getattr(event, name)
                if value is None:
                    if is_required:
                        return False
                    continue
                try:
                    if check(value) is not value:
                        return False
                except ValueError:
                    return False
        return True

    def _by_line(self, piece: bytes, checked: Checked) -> None:
        """Check a piece line by line."""
        kept: list[bytes] = []
        if checked.places is None:
            checked.places = list(range(checked.sent))
        for number, raw in enumerate(piece.split(b"\n"), 1):
            line = raw.strip()
            if not line:
                continue
            line = line.removeprefix(BOM_UTF8)
            try:
                accepted = self._one(line, checked)
                if self.asset.id:
                    checked.ids.append(self._id_of(accepted))
            except Refused as refused:
                checked.has_drift = checked.has_drift or self.policy is Policy.EVOLVE
                reason = f"line {number}: {refused.reason}" if not refused.column else refused.reason
                payload = line[:EVENT_BYTES_MAX].decode(errors="replace")
                checked.refusals.append(Refusal(checked.sent, reason, payload, refused.column))
            else:
                kept.append(accepted)
                checked.places.append(checked.sent)
            checked.sent += 1
        if kept:
            checked.pieces.append((b"\n".join(kept), len(kept)))

    def _one(self, line: bytes, checked: Checked) -> bytes:
        """One line as it will be stored; raises Refused."""
        event = self.event(line)
        changed = self._cast(event)
        if self.policy is not Policy.IGNORE:
            checked.has_drift = self.strangers(event) != [] or checked.has_drift
        return _encode({**event, **changed}) if changed else line

    def strangers(self, event: dict[str, Any]) -> list[str]:
        """The fields of an event that may become columns; raises Refused for one that may not, or that nobody wants."""
        found = []
        for name, value in event.items():
            if name in self._kinds or name in self._others:
                continue
            if self.policy is Policy.STRICT:
                raise Refused(f"the field {name} is not declared", name)
            if value is not None:
                self._check_name(name)
                found.append(name)
        return found

    def _check_name(self, name: str) -> None:
        """Raise Refused for a name that no column can have beside the others."""
        other = self._folded.get(name.lower())
        if other is not None:
            raise Refused(f"the field {name} and the column {other} are one name in SQL", name)
        if not is_plain_name(name) or not name or name.lower() in RESERVED:
            raise Refused(f"the field {name!r} cannot become a column by its name", name)
        if len(self._kinds) >= COLUMNS_MAX:
            raise Refused(f"the field {name} is not declared, and {COLUMNS_MAX} columns are enough", name)

    def event(self, line: bytes) -> dict[str, Any]:
        """The object that a line is; raises Refused."""
        if len(line) > EVENT_BYTES_MAX:
            raise Refused(f"the event has {len(line)} bytes, at most {EVENT_BYTES_MAX} are taken")
        if not _is_utf8(line):
            raise Refused("the event is not valid UTF-8")
        if _depth(line) > DEPTH_MAX:
            raise Refused(f"the event is nested deeper than {DEPTH_MAX}")
        try:
            event = _decode(line)
        except (msgspec.DecodeError, ValueError) as error:
            raise Refused(str(error)) from None
        if not isinstance(event, dict):
            raise Refused("an event must be a JSON object")
        return event

    def _cast(self, event: dict[str, Any]) -> dict[str, Any]:
        """The values that a lossless cast changes."""
        changed = {}
        for name, kind in self._kinds.items():
            value = event.get(name)
            if value is None:
                continue
            try:
                checked = kind.check(value)
            except ValueError as error:
                raise Refused(str(error), name) from None
            if checked is not value:
                changed[name] = checked
        self.check_needed(event)
        return changed

    def check_needed(self, event: dict[str, Any]) -> None:
        """Raise Refused for a value that must be there and is not."""
        for name in self.asset.key if self.is_upsert and event.get(DELETED) is True else self._required:
            if event.get(name) is None:
                raise Refused("a required value is missing", name)

    def _id_of(self, line: bytes) -> str:
        value = self._ids.decode(line).id
        if value is None:
            raise Refused("the event has no id", self.asset.id)
        return _id_text(value)

    # Upsert topics.

    def identities(self, lines: list[bytes]) -> Iterator[Identity | Refusal]:
        """The key, version and id of each accepted line; a refusal (index 0) where a key or version is null."""
        fields, asset = self._fields, self.asset
        loads = [self._load(name) for name in asset.key]
        for line in lines:
            event = self._identity.decode(line)
            values = [getattr(event, fields[name]) for name in asset.key]
            if None in values:
                missing = asset.key[values.index(None)]
                yield Refusal(0, "the key is null", line.decode(), missing)
                continue
            version = getattr(event, fields[asset.version]) if asset.version else None
            if asset.version and version is None:
                yield Refusal(0, "the version is null", line.decode(), asset.version)
                continue
            key = key_text([load(value) for load, value in zip(loads, values, strict=True)])
            id_ = _id_text(getattr(event, fields[asset.id])) if asset.id else ""
            yield Identity(id_, key, version, getattr(event, fields[DELETED]) is True)

    def _load(self, name: str) -> Any:
        kind = self._kinds.get(name)
        return kind.load if kind and kind.load else lambda value: value

    def comparable(self, version: Any) -> Any:
        """A version as it is compared: the value of its column."""
        return version if version is None else self._load(self.asset.version)(version)

    def stored_version(self, text: str) -> Any:
        """A version that was stored as JSON, as it is compared."""
        kind = self._kinds.get(self.asset.version)
        return self.comparable(msgspec.json.decode(text, type=Any if kind is None else kind.fast | None))


def key_text(values: list[Any]) -> str:
    """The identity of a row of an upsert topic: the JSON text of its key values."""
    return msgspec.json.encode(values).decode()


def _identity_decoder(names: dict[str, str], kinds: dict[str, Kind] | None = None) -> msgspec.json.Decoder[Any]:
    known = kinds or {}
    types = {field_: known[name].fast | None if name in known else Any for field_, name in names.items()}
    struct = msgspec.defstruct("Identity", [(each, types[each], None) for each in names], rename=names, gc=False)
    return msgspec.json.Decoder(struct)


def _id_text(value: Any) -> str:
    return value if type(value) is str else msgspec.json.encode(value).decode()


def id_in(line: bytes, column: str) -> str:
    """The id of a stored event."""
    return _id_text(msgspec.json.decode(line)[column])


def pieces_of(events: bytes) -> Iterator[bytes]:
    """The events in pieces of whole lines, without the blanks around them."""
    data = events.replace(b"\r\n", b"\n") if b"\r" in events else events
    start, end = 0, len(data)
    while start < end:
        cut = end if end - start <= PIECE_BYTES else data.rfind(b"\n", start, start + PIECE_BYTES)
        if cut < 0:
            cut = data.find(b"\n", start + PIECE_BYTES)
            cut = end if cut < 0 else cut
        piece = data[start:cut].strip(b" \t\r\n")
        if piece:
            yield piece
        start = cut + 1


def _has_short_lines(piece: bytes) -> bool:
    """Whether every window of half the longest event has a line break, so that no line is too long."""
    half = EVENT_BYTES_MAX // 2
    return all(piece.find(b"\n", start, start + half) >= 0 for start in range(0, len(piece) - half, half))


def _is_shallow(piece: bytes) -> bool:
    """Whether no line has more opening brackets than levels are allowed."""
    return all(line.count(b"{") + line.count(b"[") <= DEPTH_MAX for line in piece.split(b"\n"))


def _kind(asset: Asset, column: Column) -> Kind:
    """What a column takes: the values of its type, within its range."""
    kind, range_ = kind_of(column.type), asset.ranges.get(column.name)
    return kind if range_ is None else ranged(kind, range_)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _depth(line: bytes) -> int:
    """How deep a line is nested (brackets inside texts do not count)."""
    if line.count(b"{") + line.count(b"[") <= DEPTH_MAX:
        return 0
    depth = deepest = 0
    in_text = escaped = False
    for byte in line:
        if in_text:
            in_text = escaped or byte != 0x22
            escaped = byte == 0x5C and not escaped
        elif byte == 0x22:
            in_text = True
        elif byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"}]":
            depth -= 1
    return deepest

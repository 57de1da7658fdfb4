"""Access keys: who may ask the server what. They are made and changed by `tidemill keys`, and kept in the ledger.

Rules of this file:
  * only hashes are kept. A key is 32 random bytes, so its SHA-256 gives nothing away and needs no slow hash;
  * a key is shown once, when it is made; afterwards nobody can show it again, and it can only be changed (rotated);
  * after a change the old one counts for `overlap_seconds` more, so that its users can be told the new one.

Scopes: `ingest` (into every topic), `ingest:TOPIC`, `read` (rows, changes, status), `operate` (run, pause, apply, ...).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tidemill.core.errors import NotFound, UserError
from tidemill.project.words import nearest

__all__ = ["OVERLAP_SECONDS", "PREFIX", "SCOPES", "Key", "Keys"]

SCOPES = ("ingest", "read", "operate")
PREFIX = "tm_"
"""How every key begins, so that one that got lost somewhere is recognised."""

OVERLAP_SECONDS = 86_400.0

_TOPIC = "key"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,63}")

Json = Any


class Notes(Protocol):
    """Where keys are kept."""

    def note(self, topic: str, name: str, value: Any) -> None: ...
    def notes(self, topic: str) -> dict[str, Any]: ...


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: hashes with the time each counts until (None: for good), and what it may."""

    name: str
    scopes: tuple[str, ...]
    hashes: tuple[tuple[str, float | None], ...]
    created_at: float

    def may(self, scope: str) -> bool:
        """Whether this scope is one of its own, or within one: `ingest:orders` within `ingest`."""
        return scope in self.scopes or scope.partition(":")[0] in self.scopes


class Keys:
    """The keys of a project; any thread may ask."""

    def __init__(self, notes: Notes, now: Callable[[], float]) -> None:
        self._notes = notes
        self._now = now
        self._keys = {name: _key(name, said) for name, said in notes.notes(_TOPIC).items()}
        self._by_hash: dict[str, Key] = {}
        self._index()

    def __bool__(self) -> bool:
        return bool(self._keys)

    def find(self, presented: str) -> Key | None:
        """The key that somebody presents; None where it is none of ours, or counts no more."""
        hashed = _hash(presented)
        key = self._by_hash.get(hashed)
        if key is None:
            return None
        until = dict(key.hashes)[hashed]
        return key if until is None or self._now() < until else None

    def listed(self) -> list[Json]:
        """Every key without itself: `[{key, scopes, created_at, old_until}]`."""
        return [
            {
                "key": key.name,
                "scopes": list(key.scopes),
                "created_at": key.created_at,
                "old_until": max((until for _, until in key.hashes if until and until > self._now()), default=None),
            }
            for key in self._keys.values()
        ]

    def add(self, name: str, scopes: Sequence[str]) -> Json:
        """Make a key: `{key, scopes, secret}`, the secret for this once."""
        if not _NAME.fullmatch(name):
            raise UserError(f"`{name}` is not a name for a key", mend="use letters, digits, _ . and -, at most 64")
        if name in self._keys:
            raise UserError(f"there is a key {name} already", mend=f"change it: tidemill keys rotate {name}")
        _check(scopes)
        secret = _new_secret()
        self._keep(Key(name, tuple(dict.fromkeys(scopes)), ((_hash(secret), None),), self._now()))
        return {"key": name, "scopes": list(self._keys[name].scopes), "secret": secret}

    def rotate(self, name: str, overlap_seconds: float = OVERLAP_SECONDS) -> Json:
        """Make another secret for a key; the present one counts for a while more: `{key, scopes, secret, old_until}`."""
        key = self._known(name)
        until = self._now() + overlap_seconds
        secret = _new_secret()
        present = next(hashed for hashed, ends in key.hashes if ends is None)
        self._keep(Key(name, key.scopes, ((_hash(secret), None), (present, until)), key.created_at))
        return {"key": name, "scopes": list(key.scopes), "secret": secret, "old_until": until}

    def remove(self, name: str) -> Json:
        """Let a key count no more, at once."""
        self._known(name)
        self._notes.note(_TOPIC, name, None)
        self._keys = {known: key for known, key in self._keys.items() if known != name}
        self._index()
        return {"key": name, "removed": True}

    def _known(self, name: str) -> Key:
        if name not in self._keys:
            hint = nearest(name, self._keys)
            raise NotFound(
                f"there is no key {name}", mend=f"did you mean {hint}?" if hint else "see: tidemill keys list"
            )
        return self._keys[name]

    def _keep(self, key: Key) -> None:
        said = {"scopes": list(key.scopes), "hashes": [list(pair) for pair in key.hashes], "created_at": key.created_at}
        self._notes.note(_TOPIC, key.name, said)
        self._keys = {**self._keys, key.name: key}
        self._index()

    def _index(self) -> None:
        self._by_hash = {hashed: key for key in self._keys.values() for hashed, _ in key.hashes}


def _key(name: str, said: Json) -> Key:
    hashes = tuple((str(hashed), until) for hashed, until in said["hashes"])
    return Key(name, tuple(said["scopes"]), hashes, said["created_at"])


def _check(scopes: Sequence[str]) -> None:
    if not scopes:
        raise UserError("a key without a scope may do nothing", mend=f"add --scope, one of {', '.join(SCOPES)}")
    for scope in scopes:
        kind, _, topic = scope.partition(":")
        if kind not in SCOPES or (":" in scope and (kind != "ingest" or not topic)):
            hint = nearest(kind, SCOPES)
            mend = f"write {hint}" if hint and hint != kind else "the scopes are ingest, ingest:TOPIC, read and operate"
            raise UserError(f"`{scope}` is not a scope", mend=mend)


def _new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()

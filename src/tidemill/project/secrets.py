"""Secrets: named where they are used, looked up when they are needed, never shown.

Rules of this file:
  * a secret stands in a project only as a reference: `${NAME}` (environment) or `file:PATH` (relative to the project);
  * what is named like a secret and stands there itself is found by `exposed`, which tells where and never what;
  * it is resolved at the last moment, by `reveal`, and never kept;
  * `repr`, `str` and formatting show the reference, so a secret cannot reach a log by accident.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tidemill.core.errors import OperatorError

__all__ = ["Secret", "exposed", "is_reference", "referenced"]

_NAME = re.compile(r"\$\{([A-Za-z_]\w*)\}")
_TELLTALE = "password|passwd|pwd|passphrase|secret|token|api_?key|access_?key|secret_?key|private_?key|credentials?"
_SECRET_KEY = re.compile(rf"(?:.*[_-])?(?:{_TELLTALE})", re.IGNORECASE)
_NO_SECRET = re.compile(
    r"[~./].*|.*\.(?:json|pem|key|p12)|anon|anonymous|cloud|cache|browser|google_default|default|none", re.IGNORECASE
)
"""Values of such keys that are seen by everybody: where a file is, and words for "look for it yourself"."""
_IN_ADDRESS = re.compile(r"^[a-z][a-z0-9+.-]*://[^/?#\s:@]*:([^/?#\s]+)@", re.IGNORECASE)
_IN_OPTIONS = re.compile(rf"(?:^|[?&;\s])(?:\w*_)?(?:{_TELLTALE})=([^&;\s]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Secret:
    """A reference to a value that must not be seen: text with `${NAME}` in it, or `file:PATH`."""

    reference: str
    folder: Path = Path()

    def reveal(self, environment: Mapping[str, str] | None = None) -> str:
        """The value, now. Raises OperatorError naming the reference (never a value) where it is not set."""
        if self.reference.startswith("file:"):
            return self._from_file()
        known = os.environ if environment is None else environment
        return _NAME.sub(lambda match: self._from_environment(match[1], known), self.reference)

    def _from_environment(self, name: str, known: Mapping[str, str]) -> str:
        if name not in known:
            raise OperatorError(f"{self.reference}: {name} is not set", mend=f"set {name} in the environment")
        return known[name]

    def _from_file(self) -> str:
        path = self.folder / self.reference.removeprefix("file:")
        try:
            return path.read_text(encoding="utf-8").rstrip("\r\n")
        except OSError as error:
            raise OperatorError(f"{self.reference} cannot be read: {error.strerror}", mend="write that file") from error

    def __repr__(self) -> str:
        return f"Secret({self.reference})"

    def __str__(self) -> str:
        return self.reference


def is_reference(value: object) -> bool:
    """Whether a value of the project refers to a secret."""
    return isinstance(value, str) and (value.startswith("file:") or _NAME.search(value) is not None)


def exposed(said: Mapping[str, object]) -> Iterator[tuple[str, ...]]:
    """Where a secret stands itself and not as a reference: the keys that lead to it, at any depth."""
    for name, value in said.items():
        if isinstance(value, Mapping):
            yield from ((name, *path) for path in exposed(value))
        elif any(_is_exposed(name, each) for each in (value if isinstance(value, list) else [value])):
            yield (name,)


def _is_exposed(name: str, value: object) -> bool:
    if _SECRET_KEY.fullmatch(name) and isinstance(value, str) and value and not _NO_SECRET.fullmatch(value):
        return not is_reference(value)
    found = [match for pattern in (_IN_ADDRESS, _IN_OPTIONS) for match in pattern.finditer(str(value))]
    return any(not is_reference(match[1]) for match in found)


def referenced(value: object, folder: Path) -> object:
    """The same value with every reference in it, at any depth, as a `Secret`."""
    if isinstance(value, Mapping):
        return {name: referenced(inner, folder) for name, inner in value.items()}
    if isinstance(value, list):
        return [referenced(inner, folder) for inner in value]
    return Secret(value, folder) if isinstance(value, str) and is_reference(value) else value

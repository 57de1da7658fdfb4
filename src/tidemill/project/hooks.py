"""`[hooks.NAME]` of tidemill.toml: who may call `POST /v1/hooks/NAME`, and where what they say lands.

Rules of this file:
  * a hook names its sender's way of signing (`scheme`), the topic (`asset`, by default its own name) and the secret;
  * a secret stands in the file only as a reference; several are a rotation: a signature by any of them counts. What is
    public (an ed25519 key, `whpk_...`) may stand there as it is;
  * the library for ed25519 is loaded when a signature needs it, and said to be missing then.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tidemill.core.errors import DefinitionError, OperatorError
from tidemill.core.model import Place
from tidemill.project.secrets import Secret, is_reference
from tidemill.project.words import duration, nearest

__all__ = ["PUBLIC", "SCHEMES", "TOLERANCE_SECONDS", "Hook", "hook_of", "is_signed_by"]

SCHEMES = ("standard", "github", "stripe", "shopify")
TOLERANCE_SECONDS = 300.0
"""How old, or how far ahead, a signed time may be (Standard Webhooks, Stripe)."""

PUBLIC = "whpk_"
"""How an ed25519 public key of Standard Webhooks begins."""

_WORDS = ("scheme", "asset", "secret", "tolerance")


@dataclass(frozen=True, slots=True)
class Hook:
    """One sender."""

    name: str
    scheme: str
    asset: str
    secrets: tuple[Secret, ...]
    tolerance_seconds: float = TOLERANCE_SECONDS
    place: Place = field(default_factory=Place)


def hook_of(
    name: str, said: Mapping[str, Any], folder: Path, place_of: Callable[..., Place]
) -> tuple[Hook | None, list[DefinitionError]]:
    """The hook of a table, and what is wrong with it."""
    problems: list[DefinitionError] = []

    def wrong(message: str, mend: str, *word: str) -> None:
        problems.append(DefinitionError(f"hook {name}: {message}", place=str(place_of(*word)), mend=mend))

    for word in said:
        if word not in _WORDS:
            hint = nearest(word, _WORDS)
            wrong(f"unknown word {word}", f"write {hint}" if hint else f"the words are {', '.join(_WORDS)}", word)
    scheme = said.get("scheme", "standard")
    if scheme not in SCHEMES:
        hint = nearest(str(scheme), SCHEMES)
        mend = f"write {hint}" if hint else f"choose one of {', '.join(SCHEMES)}"
        wrong(f'"{scheme}" is not a scheme', mend, "scheme")
    asset = said.get("asset", name)
    if not isinstance(asset, str) or not asset:
        wrong("asset is not the name of a topic", f'write asset = "{name}"', "asset")
    secrets = _secrets(said.get("secret"), folder, wrong)
    tolerance = TOLERANCE_SECONDS
    try:
        tolerance = duration(said.get("tolerance", "5m"))
    except ValueError as error:
        wrong(f"tolerance: {error}", "mend tolerance", "tolerance")
    if problems:
        return None, problems
    return Hook(name, str(scheme), str(asset), secrets, tolerance, place_of()), []


def _secrets(said: object, folder: Path, wrong: Callable[..., None]) -> tuple[Secret, ...]:
    listed = said if isinstance(said, list) else [said]
    mend = 'write secret = "${NAME}", or a list of such while a secret is being changed'
    if said is None or not listed:
        wrong("it has no secret, so anybody could call it", mend)
        return ()
    texts = [each for each in listed if isinstance(each, str) and (is_reference(each) or each.startswith(PUBLIC))]
    if len(texts) < len(listed):
        wrong("a secret stands in the file", mend, "secret")
        return ()
    return tuple(Secret(each, folder) for each in texts)


def is_signed_by(public_key: bytes, content: bytes, signature: bytes) -> bool:
    """Whether an ed25519 signature is of this key and content.

    Raises OperatorError where the library for it is not installed.
    """
    try:
        ed25519 = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
        invalid = importlib.import_module("cryptography.exceptions").InvalidSignature
    except ImportError as error:
        raise OperatorError(
            "ed25519 signatures need the library cryptography", mend="pip install 'tidemill[ed25519]'"
        ) from error
    try:
        ed25519.Ed25519PublicKey.from_public_bytes(public_key).verify(signature, content)
    except (invalid, ValueError):
        return False
    return True

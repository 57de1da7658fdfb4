"""Whether a webhook comes from whom it says: the senders' ways of signing, as tables of rules.

Rules of this file:
  * the bytes that were sent are what is verified, before anything is read from them;
  * comparisons take the same time whatever differs; any of several secrets, and any of several signatures, will do;
  * where the sender signs a time, it must be near ours, so that nobody can play an old call again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from tidemill.core.errors import OperatorError
from tidemill.project.hooks import PUBLIC, Hook, is_signed_by
from tidemill.server.refusals import WrongSignature

__all__ = ["SCHEMES", "Scheme", "verify"]

_SECRET = "whsec_"  # noqa: S105 - how a secret begins, not one


@dataclass(frozen=True, slots=True)
class Signed:
    """What a signature header says: the signed time ("" where there is none), and signatures by their version."""

    timestamp: str
    signatures: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How one kind of sender signs and names its events.

    `signature` is the header and `read` what it says; `before` is put before the body where it is signed, with the id
    and the time filled in; `timestamp` is the header of the time where the signature does not carry it. `id`, `type`
    and `time` say where the event's own are: `header NAME` or `body FIELD`. `is_encoded`: a secret is base64.
    """

    signature: str
    read: Callable[[str], Signed]
    before: str
    id: str
    type: str
    time: str
    timestamp: str = ""
    is_encoded: bool = False


def _listed(said: str) -> Signed:
    """`v1,BASE64 v1a,BASE64`: versions with a comma, parted by blanks."""
    pairs = (each.partition(",") for each in said.split())
    return Signed("", tuple(_decoded((version, text) for version, _, text in pairs)))


def _pairs(said: str) -> Signed:
    """`t=SECONDS,v1=HEX,v1=HEX`."""
    pairs = [each.strip().partition("=") for each in said.split(",")]
    timestamp = next((text for name, _, text in pairs if name == "t"), "")
    return Signed(timestamp, tuple(("v1", _hex(text)) for name, _, text in pairs if name == "v1"))


def _prefixed(said: str) -> Signed:
    """`sha256=HEX`."""
    name, _, text = said.partition("=")
    return Signed("", (("v1", _hex(text)),) if name == "sha256" else ())


def _bare(said: str) -> Signed:
    """BASE64."""
    return Signed("", tuple(_decoded([("v1", said)])))


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text.strip())
    except ValueError:
        return b""


def _decoded(pairs: Iterable[tuple[str, str]]) -> Iterable[tuple[str, bytes]]:
    for version, text in pairs:
        try:
            yield version, base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue


SCHEMES: Mapping[str, Scheme] = {
    "standard": Scheme(
        signature="webhook-signature",
        read=_listed,
        before="{id}.{timestamp}.",
        id="header webhook-id",
        type="body type",
        time="body timestamp",
        timestamp="webhook-timestamp",
        is_encoded=True,
    ),
    "github": Scheme(
        signature="x-hub-signature-256",
        read=_prefixed,
        before="",
        id="header x-github-delivery",
        type="header x-github-event",
        time="",
    ),
    "stripe": Scheme(
        signature="stripe-signature",
        read=_pairs,
        before="{timestamp}.",
        id="body id",
        type="body type",
        time="body created",
    ),
    "shopify": Scheme(
        signature="x-shopify-hmac-sha256",
        read=_bare,
        before="",
        id="header x-shopify-webhook-id",
        type="header x-shopify-topic",
        time="header x-shopify-triggered-at",
    ),
}


def verify(hook: Hook, headers: Mapping[str, str], body: bytes, now: float) -> None:
    """Raise WrongSignature where the body is not signed by one of the hook's secrets, or was too long ago."""
    scheme = SCHEMES[hook.scheme]
    written = headers.get(scheme.signature, "")
    if not written:
        raise WrongSignature(f"the header {scheme.signature} is missing", mend=f"sign it as {hook.scheme} does")
    signed = scheme.read(written)
    timestamp = headers.get(scheme.timestamp, "") if scheme.timestamp else signed.timestamp
    if "{timestamp}" in scheme.before:
        _check_time(timestamp, hook.tolerance_seconds, now)
    id_ = headers.get(scheme.id.removeprefix("header "), "")
    content = scheme.before.format(id=id_, timestamp=timestamp).encode("latin-1") + body
    if not any(_fits(secret.reveal(), scheme, content, signed) for secret in hook.secrets):
        raise WrongSignature(
            f"no signature fits any secret of hook {hook.name}",
            mend="check the secret, and that the body is sent as signed",
        )


def _check_time(written: str, tolerance_seconds: float, now: float) -> None:
    if not (written.isascii() and written.isdigit()) or len(written) > 12:
        raise WrongSignature("the signed time is missing or no number of seconds", mend="send seconds since 1970")
    away = abs(now - int(written))
    if away > tolerance_seconds:
        raise WrongSignature(
            f"it was signed {away:.0f} s from now, more than {tolerance_seconds:.0f} s are not taken",
            mend="sign it when it is sent, and check both clocks",
        )


def _fits(secret: str, scheme: Scheme, content: bytes, signed: Signed) -> bool:
    """Whether one of the signatures is by this secret."""
    if secret.startswith(PUBLIC):
        key = _key(secret.removeprefix(PUBLIC))
        return any(is_signed_by(key, content, each) for version, each in signed.signatures if version == "v1a")
    key = _key(secret.removeprefix(_SECRET)) if scheme.is_encoded else secret.encode()
    expected = hmac.digest(key, content, hashlib.sha256)
    return any(hmac.compare_digest(expected, each) for version, each in signed.signatures if version == "v1")


def _key(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise OperatorError(
            "a secret of the hook is not base64", mend="write it as its sender gave it: whsec_..."
        ) from None

"""Telling people of alarms: kept in `tidemill.alarms`, and delivered to a command or a signed webhook.

Rules of this file:
  * an alarm is one thing from when it is raised to when it is resolved, whatever its reason says meanwhile: it is told
    when it is raised, again every `again` while it stands, and when it is resolved;
  * what is to be told is noted before it is delivered, so a delivery that fails, or a process that dies, tells it later:
    at least once, under one id for the same words;
  * webhooks are signed as Standard Webhooks; anything but 2xx within the time is a failure, and no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import logging
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tidemill.core.errors import TidemillError
from tidemill.project.alarms import alarms
from tidemill.project.alarmwords import AlarmWords, alarm_words
from tidemill.project.promises import notice
from tidemill.project.recording import keep, moment
from tidemill.project.secrets import Secret
from tidemill.project.system import ALARMS
from tidemill.project.wiring import Machine

__all__ = ["follow", "signed", "tend"]

NOTES = "alarm"
"""Notes of the alarms that stand, or whose end is still to be told, by what they are about."""
TIMEOUT_SECONDS = 15.0
LOOK_SECONDS = 2.0
"""How often `follow` looks whether anything was committed since it last asked for alarms."""
REST_SECONDS = 60.0
"""How often it asks although nothing was: promises are broken by time alone."""
REST_FACTOR = 200
"""So many times as long as asking took it rests."""

LOG = logging.getLogger("tidemill.alarms")
Said = dict[str, Any]


# ------------------------------------------------------------------------------------------------ the book


def follow(machine: Machine, stop: threading.Event) -> None:
    """Tend alarms as they come and go, until told to stop."""
    seen: object = None
    due_at = rest_until = 0.0
    while not stop.wait(LOOK_SECONDS):
        now, stamp = time.monotonic(), (machine.stamp(), len(machine.journal.alarms))
        if now < rest_until or (stamp == seen and now < due_at):
            continue
        try:
            for said in tend(machine):
                LOG.warning("alarm %s: %s", said["state"], said["reason"])
        except Exception as error:  # noqa: BLE001 - what fails is told; the next look makes up for it
            LOG.error("looking after alarms failed: %s", error)
        seen, ended = (machine.stamp(), len(machine.journal.alarms)), time.monotonic()
        due_at, rest_until = ended + REST_SECONDS, ended + (ended - now) * REST_FACTOR


def tend(machine: Machine) -> list[Said]:
    """Take down what has been raised and resolved, and deliver what is to be told; returns what was told.

    One at a time, for an alarm has one entry in the book: where somebody is at it, the next look makes up for this one.
    """
    if not machine.tending.acquire(blocking=False):
        return []
    try:
        return _tended(machine)
    finally:
        machine.tending.release()


def _tended(machine: Machine) -> list[Said]:
    notice(machine)
    words, now = alarm_words(machine.definitions.settings.get("alarms", {})), machine.clock.now()
    book: dict[str, Said] = machine.ledger.notes(NOTES)
    standing = {_about(said): said for said in alarms(machine)}
    changed = _taken_down(book, standing, words, now)
    if changed:
        machine.ledger.note_all(NOTES, changed)
        keep(machine, ALARMS, [_row(said) for said in changed.values()])
    return _told(machine, {**book, **changed}, words)


def _about(said: Said) -> str:
    """What an alarm is about: its reason may go on changing (counts, times)."""
    subject = said["job"] or said.get("asset") or hashlib.sha256(said["reason"].encode()).hexdigest()[:12]
    return f"{said['kind']} {subject}"


def _taken_down(
    book: Mapping[str, Said], standing: Mapping[str, Said], words: AlarmWords, now: float
) -> dict[str, Said]:
    """The entries that are new, to be told again, or over."""
    changed: dict[str, Said] = {}
    for name, said in standing.items():
        known = book.get(name)
        if known is None or known["state"] == "resolved":
            entry = {**said, "id": f"{name} {int(now * 1000)}", "raised_at": now, "resolved_at": None}
            changed[name] = {**entry, "state": "raised", "untold": True, "told_at": now}
        elif now - known["told_at"] >= words.again_seconds and not known["untold"]:
            changed[name] = {**known, "reason": said["reason"], "state": "standing", "untold": True, "told_at": now}
    for name, known in book.items():
        if name not in standing and known["state"] != "resolved":
            changed[name] = {**known, "state": "resolved", "resolved_at": now, "told_at": now, "untold": True}
    return changed


def _row(said: Said) -> Said:
    times = {word: moment(said[word]) for word in ("raised_at", "told_at", "resolved_at")}
    return {"alarm": said["id"], **{word: said[word] for word in ("kind", "job", "reason", "state")}, **times}


def _told(machine: Machine, book: Mapping[str, Said], words: AlarmWords) -> list[Said]:
    """Deliver what was not told yet, oldest first; what is over and told is forgotten."""
    told = []
    for name, said in sorted(book.items(), key=lambda item: item[1]["told_at"]):
        if not said["untold"]:
            continue
        reason = _delivered(machine, said, words)
        if reason:
            machine.undelivered[name] = reason
            continue
        machine.undelivered.pop(name, None)
        told.append(said)
        machine.ledger.note(NOTES, name, None if said["state"] == "resolved" else {**said, "untold": False})
    return told


# ------------------------------------------------------------------------------------------------ delivery


def _delivered(machine: Machine, said: Said, words: AlarmWords) -> str:
    """Deliver one; returns why that failed, or ""."""
    body = {word: said.get(word) for word in ("kind", "job", "asset", "reason", "state", "raised_at", "resolved_at")}
    body |= {"project": machine.definitions.name, "alarm": said["id"]}
    payload = json.dumps({"type": f"alarm.{said['state']}", "timestamp": said["told_at"], "data": body}).encode()
    ways: list[Callable[[], None]] = []
    if words.command:
        ways.append(lambda: _command(words.command, payload, machine.definitions.folder))
    if words.url:
        id_ = hashlib.sha256(f"{said['id']} {said['told_at']}".encode()).hexdigest()[:32]
        ways.append(lambda: _post(_revealed(words.url), f"alarm_{id_}", payload, _revealed(words.secret), time.time()))
    for deliver in ways:
        try:
            deliver()
        except (OSError, subprocess.SubprocessError, TidemillError, ValueError) as error:
            return f"{type(error).__name__}: {error}".partition("\n")[0]
    return ""


def _revealed(value: str | Secret) -> str:
    return value.reveal() if isinstance(value, Secret) else value


def _command(command: tuple[str, ...], payload: bytes, folder: Path) -> None:
    subprocess.run(command, input=payload, cwd=folder, timeout=TIMEOUT_SECONDS, check=True, capture_output=True)


class _Stays(urllib.request.HTTPRedirectHandler):
    """A receiver that has moved has not received."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow nothing: the answer is then an error."""


_OPENER = urllib.request.build_opener(_Stays)


def _post(url: str, id_: str, body: bytes, secret: str, now: float) -> None:
    """Post it, signed. Raises OSError where it was not taken."""
    headers = {"content-type": "application/json", **signed(id_, body, secret, now)}
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310 - http and https alone, checked
    with _OPENER.open(request, timeout=TIMEOUT_SECONDS):
        return


def signed(id_: str, body: bytes, secret: str, now: float) -> dict[str, str]:
    """The headers of Standard Webhooks: id, time, and the HMAC-SHA256 of `id.time.body` under a `whsec_` secret."""
    stamp = str(int(now))
    key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    digest = hmac.digest(key, f"{id_}.{stamp}.".encode() + body, hashlib.sha256)
    signature = base64.b64encode(digest).decode()
    return {"webhook-id": id_, "webhook-timestamp": stamp, "webhook-signature": f"v1,{signature}"}

"""Telling people of alarms: kept in `tidemill.alarms`, and delivered to a command or a signed webhook.

Rules of this file:
  * an alarm is one thing from when it is raised to when it is resolved, whatever its reason says meanwhile: it is told
    when it is raised, again every `again` while it stands, and when it is resolved;
  * what is to be told is noted with the alarm, for each receiver by itself, before it is delivered: a delivery that fails,
    or a process that dies, tells it later, at least once, in order and under one id for the same words;
  * a receiver that fails rests the longer the more often it failed, and the longer it let us wait; others get theirs;
  * webhooks are signed as Standard Webhooks; anything but 2xx within the time is a failure, and no redirect is followed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import json
import logging
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tidemill.core.errors import TidemillError
from tidemill.project.alarms import RECEIVERS, alarms
from tidemill.project.alarmwords import AlarmWords, alarm_words
from tidemill.project.deadbook import take_down
from tidemill.project.promises import notice
from tidemill.project.recording import keep, moment
from tidemill.project.secrets import Secret
from tidemill.project.system import ALARMS
from tidemill.project.wiring import Machine

__all__ = ["follow", "signed", "tend"]

NOTES = "alarm"
"""Notes of the alarms that stand, or of which something is still to be told, by what they are about."""
_TEXTS = ("kind", "job", "asset", "reason", "state")
_TOLD = (*_TEXTS, "id", "raised_at", "resolved_at", "told_at")
WAITING_MAX = 100
"""So many words about one alarm wait for their receivers; older ones are dropped."""
TIMEOUT_SECONDS = 15.0
STOP_SECONDS = 0.05
"""How often it is looked, during a delivery, whether somebody wants to stop."""
REST_SECONDS_MAX = 600.0
HANGING_FACTOR = 40
QUICK_SECONDS = 1.0
"""A receiver that takes longer to fail than this hangs."""
LOOK_SECONDS = 2.0
"""How often `follow` looks whether anything was committed since it last asked for alarms."""
REST_SECONDS = 60.0
"""How often it asks although nothing was: promises are broken by time alone."""
REST_FACTOR = 200
"""So many times as long as asking took it rests."""

LOG = logging.getLogger("tidemill.alarms")
Said = dict[str, Any]
Deliver = Callable[[bytes, str], None]
"""Gives words, under an id, to a receiver. Raises what went wrong."""


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
            for said in tend(machine, stop):
                LOG.warning("alarm %s: %s", said["state"], said["reason"])
        except Exception as error:  # noqa: BLE001 - what fails is told; the next look makes up for it
            LOG.error("looking after alarms failed: %s", error)
        seen, ended = (machine.stamp(), len(machine.journal.alarms)), time.monotonic()
        due_at, rest_until = ended + REST_SECONDS, ended + (ended - now) * REST_FACTOR


def tend(machine: Machine, stop: threading.Event | None = None) -> list[Said]:
    """Take down what has been raised and resolved, and deliver what is to be told; returns what was taken down.

    One at a time, for an alarm has one entry in the book: where somebody is at it, the next look makes up for this one.
    Once `stop` is set nothing more is delivered, nor waited for.
    """
    if not machine.tending.acquire(blocking=False):
        return []
    try:
        return _tended(machine, stop or threading.Event())
    finally:
        machine.tending.release()


def _tended(machine: Machine, stop: threading.Event) -> list[Said]:
    notice(machine)
    take_down(machine)
    words, now = alarm_words(machine.definitions.settings.get("alarms", {})), machine.clock.now()
    receivers = _receivers(words, machine.definitions.folder)
    noted: dict[str, Said] = machine.ledger.notes(NOTES)
    book = {name: _without_strangers(said, receivers) for name, said in noted.items()}
    standing = {_about(said): said for said in alarms(machine)}
    changed = _taken_down(book, standing, words.again_seconds, receivers, now)
    book |= changed
    machine.ledger.note_all(NOTES, {name: _kept(said) for name, said in book.items() if said != noted.get(name)})
    keep(machine, ALARMS, [_row(said) for said in changed.values()])
    gone = [receiver for receiver in machine.ledger.notes(RECEIVERS) if receiver not in receivers]
    machine.ledger.note_all(RECEIVERS, dict.fromkeys(gone))
    for receiver, deliver in receivers.items():
        if not stop.is_set():
            _tell(machine, receiver, deliver, book, stop)
    return list(changed.values())


def _about(said: Said) -> str:
    """What an alarm is about: its reason may go on changing (counts, times)."""
    subject = " ".join(said[word] for word in ("job", "asset", "path", "receiver") if said.get(word))
    return f"{said['kind']} {subject or hashlib.sha256(said['reason'].encode()).hexdigest()[:12]}"


def _without_strangers(said: Said, receivers: Iterable[str]) -> Said:
    """An entry of the book without what was to be told to receivers that are no more."""
    return {**said, "to_tell": [each for each in said.get("to_tell", ()) if each["to"] in receivers]}


def _kept(said: Said) -> Said | None:
    """What is kept of an entry: nothing of what is over and told."""
    return said if said["state"] != "resolved" or said["to_tell"] else None


def _taken_down(
    book: Mapping[str, Said], standing: Mapping[str, Said], again_seconds: float, receivers: Iterable[str], now: float
) -> dict[str, Said]:
    """The entries that are new, to be told again, or over."""
    changed: dict[str, Said] = {}
    for name, said in standing.items():
        known = book.get(name)
        if known is None or known["state"] == "resolved":
            left = known["to_tell"] if known is not None else []
            fresh = {**said, "id": f"{name} {int(now * 1000)}", "raised_at": now, "resolved_at": None, "to_tell": left}
            changed[name] = _to_tell(fresh, "raised", receivers, now)
        elif now - known["told_at"] >= again_seconds:
            waiting = {each["to"] for each in known["to_tell"]}
            free = [receiver for receiver in receivers if receiver not in waiting]
            changed[name] = _to_tell({**known, "reason": said["reason"]}, "standing", free, now)
    for name, known in book.items():
        if name not in standing and known["state"] != "resolved":
            changed[name] = _to_tell({**known, "resolved_at": now}, "resolved", receivers, now)
    return changed


def _to_tell(said: Said, state: str, receivers: Iterable[str], now: float) -> Said:
    """The entry in its new state, with the words that each receiver is to be told: the newest, where many wait."""
    told = {**said, "state": state, "told_at": now}
    words = {word: told.get(word) for word in _TOLD}
    fresh = [{**words, "to": receiver} for receiver in receivers if receiver != said.get("receiver")]
    return {**told, "to_tell": [*said["to_tell"], *fresh][-WAITING_MAX:]}


def _row(said: Said) -> Said:
    times = {word: moment(said[word]) for word in ("raised_at", "told_at", "resolved_at")}
    return {"alarm": said["id"], **{word: said.get(word) or "" for word in _TEXTS}, **times}


def _tell(machine: Machine, receiver: str, deliver: Deliver, book: dict[str, Said], stop: threading.Event) -> None:
    """Deliver to one receiver what it was not told yet, oldest first, until it fails; not while it rests."""
    failed = machine.ledger.noted(RECEIVERS, receiver) or {"times": 0, "until": 0.0}
    if 0 < failed["until"] - machine.clock.now() <= REST_SECONDS_MAX:
        return
    waiting = [(name, words) for name, said in book.items() for words in said["to_tell"] if words["to"] == receiver]
    for name, words in sorted(waiting, key=lambda item: float(item[1]["told_at"])):
        began = time.monotonic()
        reason = _waited_for(deliver, _payload(machine, words), _id(words), stop)
        if reason is None:
            return  # nobody waits for it any more; it is told again
        if reason:
            times, took = failed["times"] + 1, time.monotonic() - began
            until = machine.clock.now() + _rest_seconds(times, took)
            machine.ledger.note(RECEIVERS, receiver, {"times": times, "until": until, "reason": reason})
            return
        book[name] = {**book[name], "to_tell": [each for each in book[name]["to_tell"] if each != words]}
        machine.ledger.note(NOTES, name, _kept(book[name]))
    if failed["times"]:
        machine.ledger.note(RECEIVERS, receiver, None)


def _rest_seconds(times: int, took_seconds: float) -> float:
    """How long a receiver rests that has failed so many times in a row, and took so long to do so.

    One that failed at once and once is tried at the next occasion; one that hangs costs a fortieth of the time.
    """
    again = float(2 ** min(times, 10)) if times > 1 else 0.0
    return min(REST_SECONDS_MAX, again + took_seconds * HANGING_FACTOR if took_seconds > QUICK_SECONDS else again)


# ------------------------------------------------------------------------------------------------ delivery


def _receivers(words: AlarmWords, folder: Path) -> dict[str, Deliver]:
    """Who is told, by name, each with how."""
    found: dict[str, Deliver] = {}
    if words.command:
        found["command"] = lambda payload, _id: _command(words.command, payload, folder)
    if words.url:
        found["webhook"] = lambda payload, id_: _post(
            _revealed(words.url), id_, payload, _revealed(words.secret), time.time()
        )
    return found


def _payload(machine: Machine, words: Said) -> bytes:
    body = {word: words.get(word) for word in ("kind", "job", "asset", "reason", "state", "raised_at", "resolved_at")}
    body |= {"project": machine.definitions.name, "alarm": words["id"]}
    return json.dumps({"type": f"alarm.{words['state']}", "timestamp": words["told_at"], "data": body}).encode()


def _id(words: Said) -> str:
    """The same for the same words, however often they are delivered."""
    said = f"{words['id']} {words['told_at']}"
    return f"alarm_{hashlib.sha256(said.encode()).hexdigest()[:32]}"


def _waited_for(deliver: Deliver, payload: bytes, id_: str, stop: threading.Event) -> str | None:
    """Deliver one; returns why that failed, "" where it did not, None where somebody wanted to stop meanwhile."""
    said: list[str] = []
    worker = threading.Thread(
        target=lambda: said.append(_delivered(deliver, payload, id_)), name="tidemill-delivery", daemon=True
    )
    worker.start()
    while worker.is_alive():
        worker.join(STOP_SECONDS)
        if worker.is_alive() and stop.is_set():
            return None
    return said[0] if said else "it ended without an answer"


def _delivered(deliver: Deliver, payload: bytes, id_: str) -> str:
    try:
        deliver(payload, id_)
    except (OSError, subprocess.SubprocessError, http.client.HTTPException, TidemillError, ValueError) as error:
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

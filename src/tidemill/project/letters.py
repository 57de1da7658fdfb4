"""Dead letters that people settle: events parked at the door are mended, sent through it again, or let go.

Rules of this file:
  * an event goes back with its own identity, through the contract as it is now, and gets a new offset;
  * that it was taken and that its letter is settled is one commit; where the door refuses it again, it stays parked;
  * a letter that is settled is kept, with what has become of it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from tidemill.core.errors import NotFound, UserError
from tidemill.core.ports import Receipt, Sending
from tidemill.project import evolving
from tidemill.project.operations import Json
from tidemill.project.reports import dead_letters
from tidemill.project.wiring import Machine

__all__ = ["discard", "edit", "parked", "replay"]

_ALL = 1_000_000
_MENDS = {
    "land": "mend the file, or take it away: it is looked at again",
    "transform": "mend the job, then every parked row is tried again: tidemill replay {job}",
}


def parked(machine: Machine, ids: Sequence[str]) -> list[dict[str, Any]]:
    """The letters of these ids, all of them parked at the door. Raises NotFound or UserError."""
    known = {str(letter["id"]): letter for letter in dead_letters(machine, "", _ALL)}
    found = []
    for wanted in ids:
        letter = known.get(wanted)
        if letter is None:
            raise NotFound(f"there is no dead letter {wanted}", mend="list them with: tidemill dead list")
        if letter["stage"] in _MENDS:
            where = "a file that was rejected" if letter["stage"] == "land" else f"parked by job `{letter['job']}`"
            raise UserError(f"{wanted} is {where}", mend=_MENDS[letter["stage"]].format(job=letter["job"]))
        if letter["state"] != "parked":
            raise UserError(f"{wanted} is settled already: it was {letter['state']}", mend="see: tidemill dead list")
        found.append(letter)
    return found


def replay(machine: Machine, letter: dict[str, Any]) -> tuple[Json, Receipt]:
    """Send one parked event through the door again."""
    topic = machine.catalog.assets.get(letter["asset"])
    if topic is None:
        raise NotFound(
            f"there is no asset `{letter['asset']}` any more", mend="declare it again, or discard the letter"
        )
    line = letter["payload"].replace("\r", " ").replace("\n", " ").encode() + b"\n"
    sending = Sending(topic, line, is_strict=True, letter=letter["id"], traceparent=letter["traceparent"])
    (receipt,) = evolving.append_all(machine, [sending])
    if isinstance(receipt, Exception):
        raise receipt
    if receipt.refusals:
        reason = receipt.refusals[0].reason
        machine.ledger.change_letter(letter["id"], reason=reason, attempts=letter["attempts"] + 1)
        return {"id": letter["id"], "state": "parked", "reason": reason}, receipt
    reason = "" if receipt.accepted else "the topic has this event already"
    return {"id": letter["id"], "state": "replayed", "reason": reason}, receipt


def edit(machine: Machine, letter: str, payload: str) -> Json:
    """Put another payload in a parked event's place. Raises UserError where it is no JSON object."""
    (found,) = parked(machine, [letter])
    try:
        event = json.loads(payload)
    except ValueError as error:
        raise UserError(f"the payload is not JSON: {error}", mend="give one JSON object") from error
    if not isinstance(event, dict):
        raise UserError("the payload is not a JSON object", mend='give one JSON object, such as {"id": "a1"}')
    machine.ledger.change_letter(found["id"], payload=payload)
    return {"id": found["id"], "state": "parked", "payload": payload}


def discard(machine: Machine, ids: Sequence[str]) -> Json:
    """Let parked events go: they are kept, and count as settled."""
    letters = parked(machine, ids)
    for letter in letters:
        machine.ledger.change_letter(letter["id"], state="discarded")
    return [{"id": letter["id"], "state": "discarded", "reason": letter["reason"]} for letter in letters]

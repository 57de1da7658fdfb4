"""`[alarms]` of tidemill.toml: where alarms are delivered to, and how often they are told again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidemill.core.errors import DefinitionError
from tidemill.project.secrets import Secret
from tidemill.project.words import duration, nearest

__all__ = ["AlarmWords", "alarm_words"]

AGAIN_SECONDS = 4 * 3_600.0
_WORDS = ("command", "url", "secret", "again")


@dataclass(frozen=True, slots=True)
class AlarmWords:
    """What `[alarms]` says: where alarms are delivered to, and how often they are told again (seconds)."""

    command: tuple[str, ...] = ()
    url: str | Secret = ""
    secret: str | Secret = ""
    again_seconds: float = AGAIN_SECONDS


def alarm_words(said: Mapping[str, Any]) -> AlarmWords:
    """`[alarms]` of tidemill.toml. Raises DefinitionError for what it cannot say."""
    for word in said:
        if word not in _WORDS:
            hint = nearest(word, _WORDS)
            mend = f"write {hint}" if hint else f"the words are {', '.join(_WORDS)}"
            raise DefinitionError(f"alarms: unknown word {word}", place="tidemill.toml", mend=mend)
    command = said.get("command", [])
    if not isinstance(command, list) or not all(isinstance(word, str) for word in command):
        raise _wrong("command is not a list of words", 'write command = ["python", "tell.py"]')
    url, secret = said.get("url", ""), said.get("secret", "")
    if isinstance(url, str) and url and not url.startswith(("http://", "https://")):
        raise _wrong(f"url {url} is no web address", 'write url = "https://..."')
    if url and not isinstance(secret, Secret):
        raise _wrong("a webhook is signed, and there is no reference to its secret", 'write secret = "${ALARM_SECRET}"')
    try:
        again = duration(said["again"]) if "again" in said else AGAIN_SECONDS
    except ValueError as error:
        raise _wrong(f"again: {error}", 'write again = "4h"') from None
    return AlarmWords(tuple(command), url, secret, again)


def _wrong(message: str, mend: str) -> DefinitionError:
    return DefinitionError(f"alarms: {message}", place="tidemill.toml", mend=mend)

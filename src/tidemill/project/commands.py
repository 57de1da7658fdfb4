"""Jobs that are commands: `[jobs.x]` tables of tidemill.toml with a `command`.

Rules of this file:
  * a command is a list of words and no shell ever sees it;
  * a command job says its inputs and outputs, for nobody can read them from it; without outputs it has one external
    asset of its own name, which changes when it succeeds;
  * a `[jobs.x]` table without `command` overrides words of the job x that a file defines.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Job, Place, Takes
from tidemill.project.identity import Draft
from tidemill.project.words import fields, names

__all__ = ["OWN_WORDS", "built"]

OWN_WORDS = ("command", "inputs", "outputs", "input", "output", "version")


def built(
    name: str, said: Mapping[str, Any], place_of: Callable[..., Place]
) -> tuple[Draft | None, list[DefinitionError]]:
    """The job of a table with a command, and what is wrong with it."""
    problems: list[DefinitionError] = []

    def wrong(message: str, mend: str, *word: str) -> None:
        problems.append(DefinitionError(f"job {name}: {message}", place=str(place_of(*word)), mend=mend))

    found, misread = fields(said, also=OWN_WORDS, is_outside=True)
    for one in misread:
        wrong(one.message, one.mend, one.word)
    command = said.get("command")
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        wrong("command is not a list of words", 'write command = ["python", "send.py"]', "command")
    inputs, outputs = _assets(said, "input", wrong), _assets(said, "output", wrong) or (name,)
    if not inputs:
        wrong("it has no inputs", 'add inputs = ["..."]: a job runs when an asset it reads changes')
    if problems:
        return None, problems
    transform = json.dumps(command, ensure_ascii=False)
    job = Job(
        name=name,
        inputs=inputs,
        outputs=outputs,
        takes=Takes.COMMAND,
        transform=transform,
        version="",
        place=place_of(),
        **found,
    )
    return Draft(job, transform, str(said.get("version", ""))), []


def _assets(said: Mapping[str, Any], word: str, wrong: Callable[..., None]) -> tuple[str, ...]:
    try:
        return names(said.get(word, ())) + names(said.get(f"{word}s", ()))
    except ValueError as error:
        wrong(f"{word}s: {error}", f'write {word}s = ["..."]', f"{word}s")
        return ()

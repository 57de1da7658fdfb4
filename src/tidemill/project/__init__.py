"""A project: a folder of definitions, read into the nouns of the heart, and opened to run.

Rules of this room:
  * loading reads and checks; it runs nothing and connects to nothing;
  * every problem names its file, its line and the mend, and all of them come together;
  * opening (`mill.py`) is done by one process at a time (`owner.py`).

The room's public names are loaded when first used: asking an owner needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.project.definitions import Definitions
    from tidemill.project.loading import load
    from tidemill.project.mill import Mill, open  # noqa: A004 - the public name is `tidemill.open`
    from tidemill.project.start import import_mapping, init

__all__ = ["Definitions", "Mill", "import_mapping", "init", "load", "open"]

_FILES = {
    "Definitions": "definitions",
    "Mill": "mill",
    "import_mapping": "start",
    "init": "start",
    "load": "loading",
    "open": "mill",
}


def __getattr__(name: str) -> object:
    """Fetch a public name from its file on first use."""
    file = _FILES.get(name)
    if file is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"tidemill.project.{file}"), name)
    globals()[name] = value
    return value

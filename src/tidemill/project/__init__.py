"""A project: a folder of definitions, read into the nouns of the heart, and opened to run.

Rules of this room:
  * loading reads and checks; it runs nothing and connects to nothing;
  * every problem names its file, its line and the mend, and all of them come together;
  * opening (`mill.py`) is done by one process at a time (`owner.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tidemill.project.definitions import Definitions
from tidemill.project.loading import load
from tidemill.project.start import import_mapping, init

if TYPE_CHECKING:
    from tidemill.project.mill import Mill, open  # noqa: A004 - the public name is `tidemill.open`

__all__ = ["Definitions", "Mill", "import_mapping", "init", "load", "open"]


def __getattr__(name: str) -> object:
    """Opening needs every room; it is loaded when first asked for."""
    if name in ("Mill", "open"):
        from tidemill.project import mill  # noqa: PLC0415 - loaded when first asked for

        return getattr(mill, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

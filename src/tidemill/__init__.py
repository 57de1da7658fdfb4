"""tidemill: one platform for data that moves.

The front door. It names everything that is public, and loads none of it: a name is imported from its room when it is
first used (PEP 562), so `import tidemill` costs next to nothing and pulls in no database, no parser and no server.

Rules of this file:
  * a public name stands in three places, checked by tests: `__all__`, `_ROOMS`, and the type checker's imports;
  * nothing inside the package imports from here, except the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tidemill.core.change import ChangeSet
    from tidemill.core.errors import TidemillError
    from tidemill.core.model import Asset, Job, Mode
    from tidemill.engines.python import Run, asset, job, topic
    from tidemill.project import open  # noqa: A004 - `tidemill.open` is the public name, like `gzip.open`

__all__ = [
    "Asset",
    "ChangeSet",
    "Job",
    "Mode",
    "Run",
    "TidemillError",
    "__version__",
    "asset",
    "job",
    "open",
    "topic",
]

__version__ = "0.1.0"

_ROOMS = {
    "Asset": "tidemill.core.model",
    "ChangeSet": "tidemill.core.change",
    "Job": "tidemill.core.model",
    "Mode": "tidemill.core.model",
    "Run": "tidemill.engines.python",
    "TidemillError": "tidemill.core.errors",
    "asset": "tidemill.engines.python",
    "job": "tidemill.engines.python",
    "open": "tidemill.project",
    "topic": "tidemill.engines.python",
}


def __getattr__(name: str) -> object:
    """Fetch a public name from its room on first use, and keep it."""
    room = _ROOMS.get(name)
    if room is None:
        raise AttributeError(f"module 'tidemill' has no attribute {name!r}")
    value: object = getattr(import_module(room), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})

"""Files: a folder, or anything fsspec knows, as a source of rows.

Rules of this room:
  * a listing is the truth, a notification only a hint;
  * what a file says is taken exactly or the file is rejected with its line.
"""

from __future__ import annotations

from tidemill.connectors.files.source import FilesSource
from tidemill.connectors.files.stability import Look, Stability
from tidemill.connectors.files.watch import FilesWatcher

__all__ = ["FilesSource", "FilesWatcher", "Look", "Stability"]

"""Files: a folder, or anything fsspec knows, as a source of rows.

Rules of this room:
  * a listing is the truth; when a file counts as landed is decided by who asks (`runtime/landing.py`);
  * what a file says is taken exactly or the file is rejected with its line.
"""

from __future__ import annotations

from tidemill.connectors.files.source import FilesSource

__all__ = ["FilesSource"]

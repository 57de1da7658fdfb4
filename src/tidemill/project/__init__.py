"""A project: a folder of definitions, read into the nouns of the heart.

Rules of this room:
  * it reads and checks; it runs nothing and connects to nothing;
  * every problem names its file, its line and the mend, and all of them come together.
"""

from __future__ import annotations

from tidemill.project.definitions import Definitions
from tidemill.project.loading import load

__all__ = ["Definitions", "load"]

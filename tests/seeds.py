"""Where tests that draw lots begin.

At a desk every run draws anew. In CI (`CI` is set) the first seed is made of the tree that is tested: every change is
tried on other cases, and the same change gives the same answer on every machine. `TIDEMILL_SEED` overrules both.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

IS_CI = bool(os.environ.get("CI"))
LIMIT = 10**9


def first_seed() -> int:
    """The first seed of this run, below 10**9."""
    given = os.environ.get("TIDEMILL_SEED")
    if given:
        return int(given)
    tree = _tree() if IS_CI else ""
    return int(tree, 16) % LIMIT if tree else random.SystemRandom().randrange(LIMIT)


def _tree() -> str:
    """The hash of the committed files; empty outside of a checkout."""
    asked = ["git", "rev-parse", "HEAD^{tree}"]
    told = subprocess.run(asked, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return told.stdout.strip() if told.returncode == 0 else ""

"""How the random tests of the heart run: no time limit for one example, and a failure prints how to repeat it."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("heart", deadline=None, print_blob=True)
settings.load_profile("heart")

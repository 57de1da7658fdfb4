"""What holds for all tests: a busy machine makes them slow, not wrong; CI gives one answer for one tree (`seeds.py`)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.seeds import IS_CI

settings.register_profile(
    "tidemill", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=IS_CI, print_blob=True
)
settings.load_profile("tidemill")

"""Settings of every test run: reproducible property tests."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# Derandomized: a failure seen in one run is seen in the next. No deadline: the first call of a kernel may compile it.
settings.register_profile(
    "default", deadline=None, derandomize=True, max_examples=25, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("quick", settings.get_profile("default"), max_examples=5)
settings.register_profile("thorough", settings.get_profile("default"), max_examples=500, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

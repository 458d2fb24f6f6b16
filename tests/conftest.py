"""Assertions of the helper modules tell what they compared; how far hypothesis searches."""

import os

import pytest
from hypothesis import HealthCheck, settings

for helper in ("compare", "gradcheck", "sequences"):
    pytest.register_assert_rewrite(f"tests.{helper}")

# A first example may compile kernels for seconds.
settings.register_profile(
    "ci",
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("long", settings.get_profile("ci"), max_examples=4000, derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

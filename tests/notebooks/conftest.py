"""Every test starts as a new process does, without a warning given, and NumPy is quiet."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from fastrnn.notebooks import _shared

for helper in ("errata", "oracle"):
    pytest.register_assert_rewrite(f"tests.notebooks.{helper}")


@pytest.fixture(autouse=True)
def new_and_quiet() -> Iterator[None]:
    """NumPy warns where the notebooks overflow, and the oracles with them; `warned` listens."""
    told = _shared.told.copy()
    _shared.told.clear()
    with np.errstate(all="ignore"):
        yield
    _shared.told.clear()
    _shared.told.update(told)

"""Layers that spread even the smallest call over threads, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastrnn.layer
import fastrnn.threads


def in_every_call(put: Callable[[Any, str, Any], None] = setattr, awaited: bool = True) -> None:
    """Let every call have all threads of its layer, from its beginning on if `awaited`.

    put : `setattr`, or a monkeypatch's.
    """
    for work in "WOKEN_WORK", "AWAKE_WORK", "STEP_WORK":
        put(fastrnn.layer, work, 1)
    put(fastrnn.layer, "cpu_count", lambda: 64)
    if awaited:
        put(fastrnn.threads, "PATIENCE", 2_000_000)

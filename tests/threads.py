"""Layers that spread even the smallest call over threads, on any machine, or cut it in chunks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastrnn.layer
import fastrnn.lstm
import fastrnn.packing
import fastrnn.rnn
import fastrnn.threads
from fastrnn.kernels import team


def in_chunks(rows: int, put: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let input products be taken for so many rows at once.

    put : `setattr`, or a monkeypatch's.
    """
    put(fastrnn.packing, "CHUNK_BYTES", 1)
    put(fastrnn.packing, "CHUNK_ROWS", rows)
    fresh = getattr(fastrnn.packing.chunk, "__wrapped__", fastrnn.packing.chunk)
    for module in fastrnn.packing, fastrnn.rnn, fastrnn.lstm:
        put(module, "chunk", fresh)  # which remembers nothing


def in_every_call(put: Callable[[Any, str, Any], None] = setattr, awaited: bool = True) -> None:
    """Let every call have all threads of its layer, from its beginning on if `awaited`.

    put : `setattr`, or a monkeypatch's.
    """
    for work in "WOKEN_WORK", "AWAKE_WORK", "STEP_WORK":
        put(fastrnn.layer, work, 1)
    for module in fastrnn.layer, fastrnn.threads:
        put(module, "cpu_count", lambda: 64)
    put(fastrnn.threads, "_shared", None)  # they know how many CPUs there were
    put(fastrnn.threads, "CROWDED", 0)
    serve = team.serve
    # There may be fewer CPUs: then some of them have to help on that of the leader.
    put(team, "serve", lambda address, looks, _: serve(address, looks, True))
    if awaited:
        put(fastrnn.threads, "PATIENCE", 2_000_000)

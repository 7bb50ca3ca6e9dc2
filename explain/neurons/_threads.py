"""Threads for compiled code: it lets go of the interpreter's lock, so plain threads do."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numba import config
from numpy.typing import NDArray

__all__ = ["share_out", "spread", "threads"]


def threads() -> int:
    """Return how many threads this process may use: its share of the cores, or $NUMBA_NUM_THREADS."""
    return int(getattr(config, "NUMBA_NUM_THREADS", 1))


def spread(indptr: NDArray[np.int64], parts: int) -> list[range]:
    """Cut rows ``0 … len(indptr) - 2`` into at most so many ranges that hold about as many entries each."""
    rows, weight = len(indptr) - 1, indptr + np.arange(len(indptr))  # a row without entries is some work too
    edges = np.searchsorted(weight, np.linspace(0, weight[-1], parts + 1))
    edges = np.unique(np.clip(edges, 0, rows))
    return [range(a, b) for a, b in pairwise(edges.tolist())]


def share_out(rows: int, workers: int | None = None) -> list[range]:
    """Cut ``rows`` rows into one range per thread; `threads` of them where None."""
    parts = max(1, min(workers or threads(), rows))
    return [range(rows * part // parts, rows * (part + 1) // parts) for part in range(parts)]

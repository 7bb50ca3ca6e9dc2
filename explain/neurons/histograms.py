"""How often each unit takes which values: exact counts in bins that are known before the first value comes.

Bins follow the bits of the numbers: 16 to a power of two, from 2^-16 to 2^16, for both signs. So shards and processes
can be added, in any order, and the reader can join bins into wider ones without any count being split.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.neurons._histogram import FIRST, LEVELS, SHIFT, count_bits
from explain.neurons._threads import share_out

__all__ = ["BINS", "Histogram", "bin_edges", "count_dense", "save_histograms"]

BINS = 2 * LEVELS + 1
"""The middle one is of zero and what is smaller than 2^-16; the outer ones take all that is larger than 2^16."""

Ints = NDArray[np.int64]


class Histogram:
    """Counts of the values of each unit so far, on the device of the maps: int64 ``(units, BINS)``."""

    def __init__(self, units: int, device: torch.device | str = "cpu") -> None:
        self._counts = torch.zeros(units, BINS, dtype=torch.int64, device=device)

    def update(self, maps: Tensor) -> None:
        """Take in the maps ``(b, u, h, w)`` of one batch."""
        bits = maps.detach().float().contiguous().view(torch.int32).flatten(2)
        units = bits.shape[1]
        if bits.device.type == "cpu":
            plain, counts = bits.numpy(), self._counts.numpy()
            parts = share_out(units)
            with ThreadPoolExecutor(len(parts)) as pool:
                list(pool.map(lambda part: count_bits(plain, counts, part.start, part.stop), parts))
            return
        self._counts += count_dense(bits)

    def counts(self) -> Ints:
        """Return the counts, int64 ``(u, BINS)``."""
        return np.asarray(self._counts.cpu().numpy(), np.int64)

    def add(self, counts: Ints) -> None:
        """Add what another process or an earlier one counted."""
        self._counts += torch.from_numpy(np.asarray(counts, np.int64)).to(self._counts.device)


def count_dense(bits: Tensor) -> Tensor:
    """Return int64 ``(u, BINS)`` of int32 bits ``(b, u, p)``, on their device: what the compiled loop counts."""
    units = bits.shape[1]
    level = (((bits & 0x7FFFFFFF) >> SHIFT) - FIRST + 1).clamp(0, LEVELS).long()
    level = torch.where(bits >= 0, LEVELS + level, LEVELS - level)
    level += BINS * torch.arange(units, device=bits.device)[:, None]
    return torch.bincount(level.flatten(), minlength=units * BINS).view(units, BINS)


def bin_edges() -> NDArray[np.float64]:
    """Return float64 ``(BINS + 1,)``, ascending: a value v > 0 is in bin i where ``edges[i] <= v < edges[i + 1]``.

    Negative values are the mirror image of positive ones.
    """
    bits = (np.arange(LEVELS + 1, dtype=np.int32) + FIRST) << SHIFT
    above = bits.view(np.float32).astype(np.float64)
    return np.concatenate([-above[::-1], above])


def save_histograms(counts: Ints, path: Path) -> None:
    """Write the counts and the edges of their bins."""
    np.savez_compressed(path, counts=counts, edges=bin_edges())

"""The compiled inner loop of `explain.neurons.histograms`: count values by the bits of the number.

Arguments are `Any` because numba gives them their types.
"""

from __future__ import annotations

from typing import Any

from explain.compiling import compiled

__all__ = ["FIRST", "LEVELS", "SHIFT", "count_bits"]

SHIFT = 19
"""Bits of a float32 that are left out: 16 bins per power of two."""
LEVELS = 512
"""Bins for positive numbers, and as many for negative ones."""
FIRST = (127 - 16) << 4
"""The bits of 2^-16 that are left: smaller numbers count as zero."""


@compiled
def count_bits(bits: Any, counts: Any, begin: int, end: int) -> None:
    """Add values, given as the int32 bits of float32 ``(b, u, p)``, to ``counts`` (u, 2 LEVELS + 1)."""
    for unit in range(begin, end):
        for image in range(bits.shape[0]):
            for place in range(bits.shape[2]):
                sign = bits[image, unit, place]
                level = ((sign & 0x7FFFFFFF) >> SHIFT) - FIRST + 1
                level = min(max(level, 0), LEVELS)
                counts[unit, LEVELS + level if sign >= 0 else LEVELS - level] += 1

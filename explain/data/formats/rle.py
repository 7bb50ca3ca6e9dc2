"""Masks of COCO: run lengths, plain or packed into text, and polygons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from explain.errors import DataError

__all__ = ["polygon_mask", "rle_mask", "unpacked_counts"]


def unpacked_counts(text: str) -> list[int]:
    """Unpack the run lengths of a compressed RLE.

    A number takes as many characters as it needs, five bits in each, the lowest first; bit 5 says that more follow,
    bit 4 of the last one is the sign, and 48 is added to make it a letter. From the fourth number on, the
    difference to the number two places before is written.

    Raises
    ------
    DataError
        A character that cannot occur, or a number that breaks off.
    """
    counts: list[int] = []
    value = shift = 0
    for place, letter in enumerate(text):
        bits = ord(letter) - 48
        if not 0 <= bits < 64:
            raise DataError(f"character {letter!r} at place {place} cannot occur in a compressed RLE")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    if shift:
        raise DataError("the compressed RLE breaks off inside a number")
    return counts


def rle_mask(counts: str | Sequence[int], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask ``(h, w)`` of run lengths: column by column, background and object in turn.

    Parameters
    ----------
    counts : str or sequence of int
        Compressed, or the run lengths themselves; the first run is background and may be 0.
    size : tuple
        (height, width)

    Raises
    ------
    DataError
        Negative runs, or runs that do not add up to the size.
    """
    runs = unpacked_counts(counts) if isinstance(counts, str) else list(counts)
    height, width = size
    if any(run < 0 for run in runs) or sum(runs) != height * width:
        least = min(runs, default=0)
        raise DataError(f"run lengths add up to {sum(runs)} pixels (the least is {least}), not to {width}x{height}")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def polygon_mask(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the mask ``(h, w)`` of the pixels whose centre lies in one of the polygons.

    COCO's own rasteriser follows the outline at five times the resolution; masks differ from it along outlines,
    by part of a pixel.

    Parameters
    ----------
    polygons : sequence of sequence of float
        ``x, y, x, y, …`` of each, in pixels; (0, 0) is the corner of the first pixel.
    size : tuple
        (height, width)
    """
    # A heavy import, and polygons are drawn only when a job asks for masks.
    from skimage.draw import polygon

    mask = np.zeros(size, np.bool_)
    for points in polygons:
        corners = np.asarray(points, np.float64).reshape(-1, 2)
        rows, columns = polygon(corners[:, 1] - 0.5, corners[:, 0] - 0.5, size)  # type: ignore[no-untyped-call]
        mask[rows, columns] = True
    return mask

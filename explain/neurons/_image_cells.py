"""The distinct label sets of one image: the compiled inner loop of `explain.neurons.cells`."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.errors import InputError
from explain.types import Labels

__all__ = ["ImageCells", "image_cells"]

Ints = NDArray[np.int64]


class ImageCells(NamedTuple):
    """The label sets of one image, before they are numbered globally."""

    local: NDArray[Any]
    """uint16 or uint32 ``(h, w)``: the number of the pixel's label set; the largest value where ignored."""
    counts: Ints
    """int64 ``(K,)``: pixels of each."""
    keys: tuple[bytes, ...]
    """K label sets: ascending concept numbers as big-endian int32, so that bytes sort as the numbers do."""
    annotated: tuple[str, ...] | None = None
    """The categories that the image was annotated for; None: all of them."""


def image_cells(labels: Labels) -> ImageCells:
    """Find the distinct label sets of one image, exactly (label columns are compared, not only hashed).

    A concept that several layers give to one pixel counts once. Pure, so it may run in worker processes.

    Raises
    ------
    InputError
        The label maps are not ``(layers, h, w)``, or ``ignored`` is not ``(h, w)``.
    """
    maps = np.ascontiguousarray(labels.maps, np.int32)
    if maps.ndim != 3:
        raise InputError(f"label maps must be (layers, h, w), got shape {maps.shape}")
    size = (maps.shape[1], maps.shape[2])
    ignored = np.zeros(size, np.bool_)
    if labels.ignored is not None:
        ignored = np.ascontiguousarray(labels.ignored, np.bool_)
    if ignored.shape != size:
        raise InputError(f"the mask of ignored pixels is {ignored.shape}, the label maps are {size}")
    flat = maps.reshape(len(maps), size[0] * size[1])
    kind = np.uint16 if size[0] * size[1] < 0xFFFF else np.uint32
    ids, first, counts = _distinct_columns(flat, ignored.reshape(-1))
    numbers, ends = _label_sets(flat, first, np.array(labels.whole, np.int32))
    data, edges = numbers.astype(">i4").tobytes(), (4 * ends).tolist()
    keys = tuple(data[begin:end] for begin, end in pairwise([0, *edges]))
    # -1 (ignored) becomes the largest value of the unsigned type.
    local = ids.astype(kind).reshape(size)
    return ImageCells(local, counts, keys, labels.annotated)


@compiled
def _label_sets(maps: Any, first: Any, whole: Any) -> Any:  # pragma: no cover - compiled
    """Return the labels of the columns ``first``, each set ascending and without repeats, and where each ends."""
    numbers = np.empty(len(first) * (len(maps) + len(whole)), np.int32)
    ends = np.empty(len(first), np.int64)
    end = np.int64(0)
    for column in range(len(first)):
        begin = end
        for layer in range(len(maps) + len(whole)):
            label = maps[layer, first[column]] if layer < len(maps) else whole[layer - len(maps)]
            place = end
            while place > begin and numbers[place - 1] > label:
                place -= 1
            if label == -1 or (place > begin and numbers[place - 1] == label):
                continue
            for at in range(end, place, -1):
                numbers[at] = numbers[at - 1]
            numbers[place] = label
            end += 1
        ends[column] = end
    return numbers[:end].copy(), ends


@compiled
def _distinct_columns(
    maps: NDArray[np.int32], ignored: NDArray[np.bool_]
) -> tuple[Ints, Ints, Ints]:  # pragma: no cover - compiled
    """Number the distinct columns of ``(layers, pixels)`` in order of first sight; ignored pixels get -1."""
    pixels = maps.shape[1]
    mask = 1023
    slots = np.full(mask + 1, -1, np.int64)
    ids = np.full(pixels, -1, np.int64)
    first = np.empty(pixels, np.int64)
    counts = np.zeros(pixels, np.int64)
    found, last = 0, -1
    for pixel in range(pixels):
        if ignored[pixel]:
            continue
        if last >= 0 and _same_column(maps, last, pixel):  # row runs are long
            ids[pixel] = ids[last]
            counts[ids[pixel]] += 1
            continue
        last = pixel
        if 2 * found > mask:
            mask = 2 * mask + 1
            slots = np.full(mask + 1, -1, np.int64)
            for number in range(found):
                slots[_free_slot(maps, slots, first, first[number])] = number
        slot = _free_slot(maps, slots, first, pixel)
        if slots[slot] < 0:
            slots[slot] = found
            first[found] = pixel
            found += 1
        ids[pixel] = slots[slot]
        counts[ids[pixel]] += 1
    return ids, first[:found].copy(), counts[:found].copy()


@compiled
def _free_slot(maps: NDArray[np.int32], slots: Ints, first: Ints, pixel: int) -> Any:  # pragma: no cover - compiled
    """Return the slot that holds this pixel's column, or the empty one where it belongs."""
    mixed = np.uint64(1469598103934665603)
    for layer in range(maps.shape[0]):
        mixed = (mixed ^ np.uint64(maps[layer, pixel] + 1)) * np.uint64(1099511628211)
        mixed ^= mixed >> np.uint64(29)
    mask = len(slots) - 1
    slot = np.int64(mixed & np.uint64(mask))
    while slots[slot] >= 0 and not _same_column(maps, first[slots[slot]], pixel):
        slot = (slot + 1) & mask
    return slot


@compiled
def _same_column(maps: NDArray[np.int32], one: int, other: int) -> bool:  # pragma: no cover - compiled
    for layer in range(maps.shape[0]):
        if maps[layer, one] != maps[layer, other]:
            return False
    return True

"""The distinct label sets of one image: the compiled inner loop of `explain.neurons.cells`.

A pixel's labels in all layers are packed into one 64-bit key, so that runs of alike pixels are found by comparing
numbers, and a new key is looked up in a small hash table once per run. Each layer takes as many bits as the labels of
this image need. Where 64 bits are too few, the key is a hash, and the labels themselves are compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled, inner
from explain.errors import InputError
from explain.types import Labels

__all__ = ["ImageCells", "ids_type", "image_cells", "image_cells_of"]

Ints = NDArray[np.int64]


class ImageCells(NamedTuple):
    """The label sets of one image, before they are numbered globally."""

    local: NDArray[Any]
    """`ids_type` ``(h, w)``: the number of the pixel's label set; the largest value where ignored."""
    counts: Ints
    """int64 ``(K,)``: pixels of each."""
    numbers: NDArray[np.int32]
    """The K label sets one after the other: concept numbers, ascending within a set."""
    ends: Ints
    """int64 ``(K,)``: where each set ends in ``numbers``."""
    annotated: tuple[str, ...] | None = None
    """The categories that the image was annotated for; None: all of them."""


def ids_type(sets: int) -> type[np.unsignedinteger[Any]]:
    """Return the smallest type for the numbers of so many label sets and the mark for ignored pixels."""
    if sets <= 0xFF:
        return np.uint8
    return np.uint16 if sets <= 0xFFFF else np.uint32


def image_cells(labels: Labels) -> ImageCells:
    """Find the distinct label sets of one image, exactly (where keys are hashes, label columns are compared).

    A concept that several layers give to one pixel counts once. Pure, and without the interpreter's lock for nearly
    all of its time, so it may run in threads and worker processes.

    Raises
    ------
    InputError
        The label maps are not ``(layers, h, w)``, or ``ignored`` is not ``(h, w)``.
    """
    return image_cells_of([labels])[0]


def image_cells_of(images: Sequence[Labels]) -> list[ImageCells]:
    """Return the `image_cells` of several images, in memory that they share."""
    work: dict[int, Any] = {}
    found = []
    for labels in images:
        maps = np.require(labels.maps, np.int32, ["C", "W"])
        if maps.ndim != 3:
            raise InputError(f"label maps must be (layers, h, w), got shape {maps.shape}")
        size = (maps.shape[1], maps.shape[2])
        pixels = size[0] * size[1]
        ignored: NDArray[np.bool_] = np.zeros(0, np.bool_)
        if labels.ignored is not None:
            ignored = np.require(labels.ignored, np.bool_, ["C", "W"])
            if ignored.shape != size:
                raise InputError(f"the mask of ignored pixels is {ignored.shape}, the label maps are {size}")
        if pixels not in work:
            local = np.empty(pixels, np.uint16 if pixels < 0xFFFF else np.uint32)
            work[pixels] = (np.empty(pixels, np.uint64), np.empty(pixels + 1, np.int64), local)
        counts, numbers, ends = _find_sets(
            maps.reshape(len(maps), pixels), ignored.reshape(-1), np.array(labels.whole, np.int32), *work[pixels]
        )
        # The mark for ignored pixels, all bits set, stays the largest value in a smaller type.
        local = work[pixels][2].astype(ids_type(len(counts))).reshape(size)
        found.append(ImageCells(local, counts, numbers, ends, labels.annotated))
    return found


@compiled
def _find_sets(
    maps: Any, ignored: Any, whole: Any, keys: Any, begins: Any, local: Any
) -> Any:  # pragma: no cover - compiled
    """Number the distinct columns of ``maps (layers, pixels)`` in order of first sight, into ``local``.

    Return the pixels of each, their labels with ``whole``, each set ascending and without repeats, and where each ends.
    ``ignored``: bool ``(pixels,)``, or empty. ``keys``, ``begins``: memory, one entry per pixel and one more.
    """
    exact = _packed(maps, keys)
    runs = _runs(maps, ignored, keys, exact, begins, local)
    numbers, first, counts = np.empty(runs, local.dtype), np.empty(runs, np.int64), np.zeros(runs, np.int64)
    size, found = 1024, np.int64(-1)
    while found < 0:
        found = _number_runs(maps, ignored, keys, exact, begins, size, numbers, first, counts)
        size *= 8
    for pixel in range(len(local)):
        local[pixel] = numbers[local[pixel]]
    sets, ends = _label_sets(maps, first[:found], whole)
    return counts[:found].copy(), sets, ends


@inner
def _number_runs(
    maps: Any, ignored: Any, keys: Any, exact: bool, begins: Any, size: int, numbers: Any, first: Any, counts: Any
) -> Any:  # pragma: no cover - compiled
    """Number the label sets of the runs by a hash table; return how many there are, or -1 where it is too small."""
    slots, slot_keys = np.full(size, -1, np.int32), np.empty(size, np.uint64)
    counts[:] = 0
    found = np.int64(0)
    for run in range(len(numbers)):
        pixel = begins[run]
        if len(ignored) > 0 and ignored[pixel]:
            numbers[run] = np.int64(-1)  # all bits set
            continue
        key = keys[pixel]
        slot = _mixed(key) & (size - 1)
        while slots[slot] >= 0 and not (
            slot_keys[slot] == key and (exact or _same_column(maps, first[slots[slot]], pixel))
        ):
            slot = (slot + 1) & (size - 1)
        number = np.int64(slots[slot])
        if number < 0:
            if 2 * found >= size:
                return -1
            number = found
            slots[slot], slot_keys[slot], first[number] = number, key, pixel
            found += 1
        numbers[run] = number
        counts[number] += begins[run + 1] - pixel
    return found


@inner
def _runs(
    maps: Any, ignored: Any, keys: Any, exact: bool, begins: Any, run_of: Any
) -> Any:  # pragma: no cover - compiled
    """Find runs of alike pixels: where each begins (and the end), and the run of each pixel; return how many.

    Without branches, as runs are too short to foresee their ends.
    """
    pixels = len(keys)
    begins[0] = 0
    run_of[: min(1, pixels)] = 0
    run = np.int64(0)
    if exact and len(ignored) == 0:
        for pixel in range(1, pixels):
            begins[run + 1] = pixel  # stays where the next line counts it
            run += np.int64(keys[pixel] != keys[pixel - 1])
            run_of[pixel] = run
    else:
        for pixel in range(1, pixels):
            other = keys[pixel] != keys[pixel - 1] or not (exact or _same_column(maps, pixel - 1, pixel))
            if len(ignored) > 0:
                other = other or ignored[pixel] != ignored[pixel - 1]
            begins[run + 1] = pixel
            run += np.int64(other)
            run_of[pixel] = run
    run += min(1, pixels)
    begins[run] = pixels
    return run


@inner
def _packed(maps: Any, keys: Any) -> Any:  # pragma: no cover - compiled
    """Make a key per column; return whether it is the column's labels themselves, not a hash of them."""
    layers, pixels = maps.shape
    keys[:] = 0
    used = np.uint64(0)
    for layer in range(layers):
        row = maps[layer]
        met, bits = np.uint32(0), np.uint64(0)
        for pixel in range(pixels):
            met |= np.uint32(row[pixel] + np.int32(1))
        while met > 0:
            met >>= np.uint32(1)
            bits += np.uint64(1)
        used += bits
        for pixel in range(pixels):
            keys[pixel] = (keys[pixel] << bits) | np.uint64(np.uint32(row[pixel] + np.int32(1)))
    if used > 64:
        keys[:] = 0
        for layer in range(layers):
            row = maps[layer]
            for pixel in range(pixels):
                mixed = (keys[pixel] ^ np.uint64(np.uint32(row[pixel]))) * np.uint64(0x9E3779B97F4A7C15)
                keys[pixel] = mixed ^ (mixed >> np.uint64(29))
    return used <= 64


@inner
def _mixed(key: Any) -> Any:  # pragma: no cover - compiled
    """Return the slot of a key, before it is cut to the table's size: every bit of the key moves the lower ones."""
    mixed = (key ^ (key >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mixed >> np.uint64(33))


@inner
def _same_column(maps: Any, one: int, other: int) -> bool:  # pragma: no cover - compiled
    for layer in range(maps.shape[0]):
        if maps[layer, one] != maps[layer, other]:
            return False
    return True


@inner
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

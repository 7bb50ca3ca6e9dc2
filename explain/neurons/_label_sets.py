"""Label sets of many images, numbered once each: a hash table of sets, in compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled

__all__ = ["LabelSets"]

Ints = NDArray[np.int64]


class LabelSets:
    """Distinct label sets with counts, in order of first sight; sets are compared, not only their hashes."""

    def __init__(self) -> None:
        self._used = 0
        self._slots = np.full(1024, -1, np.int64)
        self._hashes = np.empty(256, np.uint64)
        self._counts = np.zeros(256, np.int64)
        self._indptr = np.zeros(257, np.int64)
        self._indices = np.empty(1024, np.int32)

    def __len__(self) -> int:
        return self._used

    def add(self, numbers: NDArray[np.int32], ends: Ints, counts: Ints) -> Ints:
        """Add sets ``numbers[ends[k - 1]:ends[k]]``, ascending, each so many times; return the number of each."""
        self._make_room(len(ends), len(numbers))
        found = np.empty(len(ends), np.int64)
        sets = (self._slots, self._hashes, self._counts, self._indptr, self._indices)
        self._used = int(_add_sets(sets, self._used, numbers, ends, counts, found))
        return found

    def in_order(self, concepts: int) -> tuple[Ints, Ints, NDArray[np.int32], Ints]:
        """Return ``counts, indptr, indices`` sorted as tuples of numbers, and the new number of each set.

        ``concepts``: all numbers lie below.
        """
        indptr = self._indptr[: self._used + 1]
        sizes = np.diff(indptr)
        # As words of several numbers each; numbers count from 1 there, so that a set comes before what extends it.
        bits = max(1, int(concepts).bit_length())
        words = np.zeros((-(-int(sizes.max(initial=0)) // (64 // bits)), self._used), np.uint64)
        _pack_sets(indptr, self._indices, bits, words)
        order = np.lexsort(words[::-1]) if len(words) else np.arange(self._used)
        renumber = np.empty(self._used, np.int64)
        renumber[order] = np.arange(self._used)
        ends = np.concatenate([[0], np.cumsum(sizes[order])]).astype(np.int64)
        taken = np.repeat(indptr[order] - ends[:-1], sizes[order]) + np.arange(ends[-1])
        return self._counts[order], ends, self._indices[taken], renumber

    def _make_room(self, sets: int, numbers: int) -> None:
        wanted = self._used + sets
        if wanted > len(self._counts):
            size = max(wanted, 2 * len(self._counts))
            self._hashes = _larger(self._hashes, size)
            self._counts = _larger(self._counts, size)
            self._indptr = _larger(self._indptr, size + 1)
        wanted_numbers = int(self._indptr[self._used]) + numbers
        if wanted_numbers > len(self._indices):
            self._indices = _larger(self._indices, max(wanted_numbers, 2 * len(self._indices)))
        if 2 * wanted > len(self._slots):
            self._slots = np.full(1 << (4 * wanted - 1).bit_length(), -1, np.int64)
            _place_again(self._slots, self._hashes, self._used)


def _larger(array: NDArray[Any], size: int) -> NDArray[Any]:
    found = np.zeros(size, array.dtype)
    found[: len(array)] = array
    return found


@compiled
def _add_sets(
    sets: Any, used: int, numbers: Any, ends: Any, times: Any, found: Any
) -> Any:  # pragma: no cover - compiled
    slots, hashes, counts, indptr, indices = sets
    mask, begin = len(slots) - 1, np.int64(0)
    for row in range(len(ends)):
        end = ends[row]
        mixed = np.uint64(end - begin)
        for at in range(begin, end):
            mixed = (mixed ^ np.uint64(numbers[at])) * np.uint64(0x9E3779B97F4A7C15)
            mixed ^= mixed >> np.uint64(29)
        slot = np.int64(mixed & np.uint64(mask))
        while True:
            known = slots[slot]
            if known < 0:
                known, slots[slot] = used, used
                hashes[used], counts[used] = mixed, 0
                for at in range(end - begin):
                    indices[indptr[used] + at] = numbers[begin + at]
                indptr[used + 1] = indptr[used] + end - begin
                used += 1
                break
            if hashes[known] == mixed and indptr[known + 1] - indptr[known] == end - begin:
                alike = True
                for at in range(end - begin):
                    if indices[indptr[known] + at] != numbers[begin + at]:
                        alike = False
                if alike:
                    break
            slot = (slot + 1) & mask
        counts[known] += times[row]
        found[row] = known
        begin = end
    return used


@compiled
def _place_again(slots: Any, hashes: Any, used: int) -> None:  # pragma: no cover - compiled
    mask = len(slots) - 1
    for number in range(used):
        slot = np.int64(hashes[number] & np.uint64(mask))
        while slots[slot] >= 0:
            slot = (slot + 1) & mask
        slots[slot] = number


@compiled
def _pack_sets(indptr: Any, indices: Any, bits: int, words: Any) -> None:  # pragma: no cover - compiled
    per = 64 // bits
    for row in range(len(indptr) - 1):
        for at in range(indptr[row + 1] - indptr[row]):
            shift = np.uint64(bits * (per - 1 - at % per))
            words[at // per, row] |= np.uint64(indices[indptr[row] + at] + 1) << shift

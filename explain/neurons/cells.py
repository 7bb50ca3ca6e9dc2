"""Cells: the distinct label sets of a probe set, with their pixel counts.

Pixels with the same set of labels cannot be told apart by any logical formula, so every count over pixels
is a sum over cells, in whole numbers and exact. Network dissection (Bau et al. 2017) and compositional
explanations (Mu & Andreas 2020) count the same pixels one by one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from explain.errors import InputError
from explain.neurons._image_cells import ImageCells, image_cells
from explain.neurons.cell_table import Cells, formula_cells, load_cells, save_cells
from explain.types import Concept, Labels

__all__ = [
    "CellBuilder",
    "CellIndex",
    "Cells",
    "ImageCells",
    "build_index",
    "cell_map",
    "formula_cells",
    "image_cells",
    "load_cells",
    "merge_cells",
    "merge_indexes",
    "save_cells",
]

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class CellIndex:
    """The cell of every pixel of N images, with the table of cells."""

    cells: Cells
    local: NDArray[np.uint16] | NDArray[np.uint32]
    """``(N, h, w)``: number of the label set within its image; the type's largest value where ignored."""
    start: Ints
    """int64 ``(N + 1,)``: where each image begins in ``lookup``."""
    lookup: Ints
    """int64: the cell of (image i, local number k) is ``lookup[start[i] + k]``."""
    annotated: NDArray[np.bool_] | None = None
    """bool ``(N, G)``: which images the data says were annotated for each of ``cells.categories``; None: all for all.
    See `explain.neurons.domains.annotated_images`."""

    def __len__(self) -> int:
        return len(self.local)

    def cell_ids(self, image: int) -> Ints:
        """Return int64 ``(h, w)``: the cell of each pixel of one image, -1 where ignored."""
        local = self.local[image]
        table = np.append(self.lookup[self.start[image] : self.start[image + 1]], -1)
        # The mark for ignored pixels lies behind every local number, so it is cut down to the -1 at the end.
        return np.asarray(table[np.minimum(local, len(table) - 1)], np.int64)


class CellBuilder:
    """Collects the label sets of images one after the other; `finish` gives the index."""

    def __init__(self, concepts: Sequence[Concept]) -> None:
        self.concepts = tuple(concepts)
        self._numbers: dict[bytes, int] = {}
        self._counts: list[int] = []
        self._local: list[NDArray[Any]] = []
        self._lookup: list[list[int]] = []
        self._annotated: list[tuple[str, ...] | None] = []

    def add(self, image: Labels | ImageCells) -> None:
        """Add the next image: its labels, or what `image_cells` made of them in a worker.

        Raises
        ------
        InputError
            The size differs from the images before.
        """
        found = image_cells(image) if isinstance(image, Labels) else image
        if self._local and found.local.shape != self._local[0].shape:
            raise InputError(f"label maps of {found.local.shape} after {self._local[0].shape}: use one resolution")
        row = [self._numbers.setdefault(key, len(self._numbers)) for key in found.keys]
        self._counts.extend([0] * (len(self._numbers) - len(self._counts)))
        for number, count in zip(row, found.counts.tolist(), strict=True):
            self._counts[number] += count
        self._local.append(found.local)
        self._lookup.append(row)
        self._annotated.append(found.annotated)

    def finish(self) -> CellIndex:
        """Number the cells in their final order and return the index; `InputError` without images."""
        if not self._local:
            raise InputError("no images were added: there is nothing to build cells from")
        cells, (renumber,) = _unite(self.concepts, [(list(self._numbers), np.array(self._counts, np.int64))])
        sizes = [0, *map(len, self._lookup)]
        flat = np.array([number for row in self._lookup for number in row], np.int64)
        annotated = _annotation(self._annotated, cells.categories)
        return CellIndex(cells, self._stacked(), np.cumsum(sizes, dtype=np.int64), renumber[flat], annotated)

    def _stacked(self) -> NDArray[Any]:
        """Return all local numbers as one array, moved there one by one: they are not in memory twice."""
        whole = np.empty((len(self._local), *self._local[0].shape), self._local[0].dtype)
        for image in range(len(whole)):
            whole[image] = self._local[image]
            self._local[image] = whole[image]
        return whole


def _annotation(rows: Sequence[tuple[str, ...] | None], categories: tuple[str, ...]) -> NDArray[np.bool_] | None:
    if all(row is None for row in rows):
        return None
    return np.array([[row is None or name in row for name in categories] for row in rows], np.bool_)


def build_index(concepts: Sequence[Concept], labels: Iterable[Labels]) -> CellIndex:
    """Return the index of all images, in order."""
    builder = CellBuilder(concepts)
    for image in labels:
        builder.add(image)
    return builder.finish()


def _unite(concepts: tuple[Concept, ...], tables: Sequence[tuple[list[bytes], Ints]]) -> tuple[Cells, list[Ints]]:
    """Unite tables of (keys, counts); return the cells in order and the new number of each old row."""
    order = sorted({key for keys, _ in tables for key in keys})
    place = {key: number for number, key in enumerate(order)}
    counts = np.zeros(len(order), np.int64)
    maps = []
    for keys, own in tables:
        numbers = np.array([place[key] for key in keys], np.int64)
        counts[numbers] += own  # keys are unique within a table
        maps.append(numbers)
    indices = np.frombuffer(b"".join(order), ">i4").astype(np.int32)
    if len(indices) and not (indices.min() >= 0 and indices.max() < len(concepts)):
        wrong = indices[(indices < 0) | (indices >= len(concepts))][0]
        raise InputError(f"labels name concept {wrong}, but there are {len(concepts)} concepts (numbers from 0)")
    indptr = np.cumsum([0, *(len(key) // 4 for key in order)], dtype=np.int64)
    return Cells(concepts, counts, indptr, indices), maps


def _keys(cells: Cells) -> list[bytes]:
    data, ends = cells.indices.astype(">i4").tobytes(), (4 * cells.indptr).tolist()
    return [data[begin:end] for begin, end in pairwise(ends)]


def _merged(tables: Sequence[Cells]) -> tuple[Cells, list[Ints]]:
    if any(table.concepts != tables[0].concepts for table in tables):
        raise InputError("cells of different concept lists cannot be merged: unite the concepts first")
    return _unite(tables[0].concepts, [(_keys(table), table.counts) for table in tables])


def merge_cells(a: Cells, b: Cells) -> Cells:
    """Return the table of two shards: the same, bit for bit, as one pass over both.

    Raises
    ------
    InputError
        The concepts differ.
    """
    return _merged([a, b])[0]


def cell_map(source: Cells, target: Cells) -> Ints:
    """Return int64 ``(M of source,)``: the number of each cell of a shard in the merged table."""
    place = {key: number for number, key in enumerate(_keys(target))}
    try:
        return np.array([place[key] for key in _keys(source)], np.int64)
    except KeyError:
        raise InputError("the table of cells does not hold all cells of the shard: merge the shards first") from None


def merge_indexes(indexes: Sequence[CellIndex]) -> CellIndex:
    """Return the index of all shards' images, in the order of the shards."""
    cells, maps = _merged([index.cells for index in indexes])
    lookup = np.concatenate([numbers[index.lookup] for numbers, index in zip(maps, indexes, strict=True)])
    sizes = np.concatenate([[0], *(np.diff(index.start) for index in indexes)])
    local = np.concatenate([index.local for index in indexes])
    annotated = None
    if any(index.annotated is not None for index in indexes):
        every = [np.ones((len(index), len(cells.categories)), np.bool_) for index in indexes]
        parts = [one if index.annotated is None else index.annotated for one, index in zip(every, indexes, strict=True)]
        annotated = np.concatenate(parts)
    return CellIndex(cells, local, np.cumsum(sizes, dtype=np.int64), lookup, annotated)

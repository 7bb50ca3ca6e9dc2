"""Over which pixels IoU is taken: all, those of annotated images, or NetDissect-Lite's.

A data set seldom annotates everything everywhere: an image without part masks shows parts all the same. Three rules are
in circulation, and they differ only in which of a *unit's* pixels count for a concept of category g:

===================  =================================================================================================
``all``              all active pixels of the unit, in all images (Mu & Andreas 2020)
``annotated``        its pixels in the images that were annotated for g (Bau et al. 2017, section 2.3: sums run over the
                     images that have at least one labelled concept of the same category)
``netdissect-lite``  its pixels in the images where at least one of them lies on a label of g: the rule of the released
                     codes NetDissect and NetDissect-Lite
===================  =================================================================================================

All of a concept's pixels, and so those it shares with the unit, lie in images annotated for its category; they are the
same in all three. A unit's pixels never get more from one rule to the next, so its IoU never falls.

Which images are annotated, the data says (`explain.types.Labels.annotated`); an image that shows a label of g is taken
to be annotated for g in any case. This is wider than the paper's words: an image that was annotated and shows nothing
of g counts as well, where the data tells the two apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from explain.errors import InputError, near
from explain.neurons.cells import CellIndex, Cells
from explain.neurons.counts import UnitCounts
from explain.neurons.evidence.parts import Measured
from explain.neurons.firing import Firing, count_firing

__all__ = ["RULES", "Domains", "IouRule", "annotated_images", "check_rule", "unit_domains"]

IouRule = Literal["all", "annotated", "netdissect-lite"]
RULES: tuple[IouRule, ...] = get_args(IouRule)

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_UNITS = 64  # units counted at one time: what is counted per image is larger than what is kept


def check_rule(rule: str) -> None:
    """Raise `InputError` for a rule that there is not."""
    if rule not in RULES:
        raise InputError(f"unknown iou rule {rule!r}{near(rule, RULES)}: use {', '.join(map(repr, RULES))}")


@dataclass(frozen=True, eq=False)
class Domains:
    """A unit's active pixels that count for each category: ``all >= annotated >= overlapping``."""

    categories: tuple[str, ...]
    """G names: `Cells.categories`."""
    all: Ints
    """int64 ``(U,)``: the same for every category."""
    annotated: Ints
    """int64 ``(U, G)``: in images annotated for the category."""
    overlapping: Ints
    """int64 ``(U, G)``: in images where the unit overlaps with a label of the category."""

    def of(self, rule: IouRule) -> Ints:
        """Return int64 ``(U, G)``: the pixels that count under a rule."""
        check_rule(rule)
        if rule == "all":
            return np.repeat(self.all[:, None], len(self.categories), axis=1)
        return self.annotated if rule == "annotated" else self.overlapping


def annotated_images(index: CellIndex) -> Bools:
    """Return bool ``(N, G)``: which images are annotated for each of ``index.cells.categories``.

    Those of which the data says so, and those that show a label of the category (on a pixel that is counted).
    """
    has = _cell_categories(index.cells)
    image = _image_of(index)
    shown = np.zeros((len(index), has.shape[1]), np.bool_)
    for category in range(has.shape[1]):
        shown[image[has[index.lookup, category]], category] = True
    return np.ones_like(shown) if index.annotated is None else shown | index.annotated


def unit_domains(
    measured: Measured,
    images: Bools | None = None,
    *,
    workers: int | None = None,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Domains:
    """Count the active pixels of each unit that count for each category, exactly.

    Parameters
    ----------
    measured
        The units on a probe set.
    images
        bool ``(N,)``: the images to count; all where None.
    workers, device
        See `explain.neurons.firing.count_firing`.
    progress
        Called with the number of units done and in all.
    """
    index = measured.index
    coarse, of_cell = _by_category(index)
    image, annotated = _image_of_cells(coarse), annotated_images(index)
    laid = None if images is None else np.where(images, np.arange(len(index)), -1)
    none = np.zeros((0, annotated.shape[1]), np.int64)
    every, known, met = [np.zeros(0, np.int64)], [none], [none]
    indptr = measured.firing.indptr(measured.units)
    for begin in range(0, measured.units, _UNITS):
        end = min(begin + _UNITS, measured.units)
        counts = count_firing(
            _some(measured.firing, indptr, begin, end),
            measured.thresholds[begin:end],
            coarse,
            units=end - begin,
            images=laid,
            upper=None if measured.upper is None else measured.upper[begin:end],
            upsampling=measured.upsampling,
            workers=workers,
            device=device,
        )
        every.append(counts.active)
        for part, rows in zip((known, met), _sums(counts, image, of_cell, annotated), strict=True):
            part.append(rows)
        if progress is not None:
            progress(end, measured.units)
    return Domains(index.cells.categories, np.concatenate(every), np.concatenate(known), np.concatenate(met))


def _sums(counts: UnitCounts, image: Ints, of_cell: Bools, annotated: Bools) -> tuple[Ints, Ints]:
    """Return int64 ``(U, G)`` twice: the pixels in annotated images, and in those where a label is met.

    ``image (M,)`` and ``of_cell (M, G)``: the image and the categories of each coarse cell, by image ascending.
    """
    unit = np.repeat(np.arange(len(counts)), np.diff(counts.indptr))
    where = image[counts.cells]
    if not len(where):
        return (np.zeros((len(counts), annotated.shape[1]), np.int64),) * 2
    new = np.concatenate([[True], (unit[1:] != unit[:-1]) | (where[1:] != where[:-1])])
    begins = np.flatnonzero(new)
    pixels = np.add.reduceat(counts.counts, begins)[:, None]
    meets = np.logical_or.reduceat(of_cell[counts.cells], begins, axis=0)
    edges = np.searchsorted(unit[begins], np.arange(len(counts) + 1))
    sums = []
    for taken in (annotated[where[begins]], meets):
        total = np.concatenate([np.zeros((1, taken.shape[1]), np.int64), np.cumsum(pixels * taken, axis=0)])
        sums.append(np.diff(total[edges], axis=0))
    return sums[0], sums[1]


def _by_category(index: CellIndex) -> tuple[CellIndex, Bools]:
    """Return an index whose cells are (image, set of categories), by image, and bool ``(M, G)``: the sets."""
    has = _cell_categories(index.cells)
    sets = np.zeros(len(has), np.int64)
    for column in range(has.shape[1]):  # numbers of the sets, made smaller at each step
        sets = np.unique(2 * sets + has[:, column], return_inverse=True)[1].reshape(-1)
    first = np.zeros(int(sets.max(initial=-1)) + 1, np.int64)
    first[sets] = np.arange(len(sets))
    kinds = len(first)
    keys, lookup = np.unique(_image_of(index) * kinds + sets[index.lookup], return_inverse=True)
    count = len(keys)
    # Counting needs to know how many cells there are, and nothing else of them.
    cells = Cells((), np.ones(count, np.int64), np.zeros(count + 1, np.int64), np.zeros(0, np.int32))
    coarse = replace(index, cells=cells, lookup=lookup.reshape(-1).astype(np.int64), annotated=None)
    return coarse, has[first[keys % max(kinds, 1)]]


def _image_of(index: CellIndex) -> Ints:
    """Return int64, one per entry of ``index.lookup``: its image."""
    return np.repeat(np.arange(len(index)), np.diff(index.start))


def _image_of_cells(coarse: CellIndex) -> Ints:
    image = np.zeros(len(coarse.cells), np.int64)
    image[coarse.lookup] = _image_of(coarse)
    return image


def _cell_categories(cells: Cells) -> Bools:
    """Return bool ``(M, G)``: the categories of each cell's concepts."""
    number = {name: place for place, name in enumerate(cells.categories)}
    category = np.array([number[concept.category] for concept in cells.concepts], np.int64)
    has = np.zeros((len(cells), len(number)), np.bool_)
    if len(cells.indices):
        has[np.repeat(np.arange(len(cells)), np.diff(cells.indptr)), category[cells.indices]] = True
    return has


def _some(firing: Firing, indptr: Ints, begin: int, end: int) -> Firing:
    """Return the maps of units ``begin … end - 1``, numbered from 0, without a copy of the maps."""
    part = slice(indptr[begin], indptr[end])
    return Firing(firing.unit[part] - begin, firing.image[part], firing.maps[part])

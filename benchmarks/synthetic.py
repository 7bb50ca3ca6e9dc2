"""A synthetic probe set with the statistics of Broden, image by image from a seed, and units planted in it.

Specification
-------------
*Concepts* (C in all, numbered in this order): 11 colours, then ``C // 25`` textures, ``3 C // 10`` scenes, ``17 C //
100`` parts, and objects for the rest. A *world*, drawn once from the seed and C, says what goes with what: each scene
(Zipf, exponent 1.05) has three stuffs for its ground and 16 objects, drawn by a Zipf law over classes (exponent 1.1,
as in ADE20K: few classes hold most pixels); nearly half of the object classes have one to four parts, some parts have
parts of their own; each object has a palette of four colours.

*Images*: number i of a seed is a pure function of (seed, i). One scene for the whole image; on 4 % of the images a
texture for the whole image too. The ground is three bands with wavy borders; seven things on average, ellipses and
boxes of log-normal size, cover it from large to small; one class in sixteen is drawn from all objects, not the
scene's. Parts (layer one) and parts of parts (layer two) are boxes within their thing. Unlabelled blobs cover 7 % of
the pixels. Each thing has its palette's colours in patches of a few pixels, with speckle (noisy colours). Label maps:
objects, parts, parts of parts, colours. All lengths are shares of the side, so that resolutions show the same image.

*Units*: each is planted on a left-deep formula of two to four leaves which holds for 0.2 to 4 % of the pixels. A map
is 7 x 7: the share of the formula's pixels under each position, times the image's own strength, plus normal noise.
The threshold is the exact top 0.5 % of all values (`explain.neurons.thresholds`).

Cells, thresholds and counts are the library's own; images come in chunks, so memory is the index (1 byte per pixel)
and the maps that exceed their threshold.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.neurons.cells import CellBuilder, CellIndex, Cells, formula_cells
from explain.neurons.counts import UnitCounts
from explain.neurons.firing import Firing, count_firing, firing_from_pieces
from explain.neurons.formula import And, Formula, Leaf, Not, Or
from explain.neurons.thresholds import TopValues
from explain.types import Concept, Labels

COLOURS = ("black", "grey", "white", "brown", "blue", "green", "red", "yellow", "orange", "pink", "purple")
KINDS = {"object": 0.5, "part": 0.15, "color": 0.2, "scene": 0.12, "texture": 0.03}  # of planted leaves
TEXTURED = 0.04
_NO_SCENE = 0.3
QUANTILE = 0.005
SIDE = 7  # of a unit's map
CHUNK = 256  # images
_THINGS, _PALETTE, _PARTS = 16, 4, 4
_SPECKLE = 105  # of 1024 pixels
_MIX = (0.66, 0.86, 0.935, 0.975)  # cumulated shares of a thing's colours; the rest is any colour

Ints = NDArray[np.int64]


class World(NamedTuple):
    """What goes with what; rows are numbers of concepts, -1 for none."""

    scene: Any
    """float64 ``(S,)``: cumulated shares of the scenes."""
    object: Any
    """float64 ``(O,)``: cumulated shares of the objects."""
    ground: Any
    """int64 ``(S, 3)``: objects."""
    things: Any
    """int64 ``(S, 16)``: objects, the likely ones first."""
    parts: Any
    """int64 ``(C, 4)``: parts of an object, or of a part."""
    palette: Any
    """int64 ``(C, 4)``: colours of an object."""
    bounds: Any
    """int64 ``(5,)``: first texture, scene, part, object, and C."""


class Built(NamedTuple):
    """A synthetic set, ready to be searched."""

    index: CellIndex
    firing: Firing
    thresholds: NDArray[np.float32]
    """float32 ``(U,)``."""
    counts: UnitCounts
    planted: tuple[Formula, ...]
    """The formula behind each unit."""
    seconds: dict[str, float]
    """What the library took: cells, quantiles, counts; and what the generator took: drawing, maps."""


def bounds(concepts: int) -> Ints:
    """Return the first texture, scene, part and object among C concepts, and C; `ValueError` below 60."""
    if concepts < 60:
        raise ValueError(f"a synthetic set needs at least 60 concepts, got {concepts}")
    sizes = [len(COLOURS), concepts // 25, 3 * concepts // 10, 17 * concepts // 100]
    return np.array([*np.cumsum(sizes), concepts], np.int64)


def concept_list(concepts: int) -> tuple[Concept, ...]:
    """Return the C concepts: colours by name, others as ``object-17``."""
    texture, scene, part, thing, end = bounds(concepts).tolist()
    found = [Concept(name, "color") for name in COLOURS]
    for category, begin, stop in (
        ("texture", texture, scene),
        ("scene", scene, part),
        ("part", part, thing),
        ("object", thing, end),
    ):
        found += [Concept(f"{category}-{number - begin}", category) for number in range(begin, stop)]
    return tuple(found)


@functools.cache
def make_world(seed: int, concepts: int) -> World:
    """Draw what goes with what."""
    rng = np.random.default_rng([seed, concepts])
    edges = bounds(concepts)
    _, scene, part, thing, end = edges.tolist()
    scenes, objects, parts = part - scene, end - thing, thing - part
    shares = (np.arange(objects) + 3.0) ** -1.1
    shares /= shares.sum()
    stuff = np.arange(min(30, objects))
    ground = np.array([rng.choice(stuff, 3, False, 1 / (stuff + 2) / (1 / (stuff + 2)).sum()) for _ in range(scenes)])
    things = np.array([rng.choice(objects, _THINGS, False, shares) for _ in range(scenes)])
    whole_parts = max(1, 7 * parts // 10)  # parts of objects; the others are parts of parts
    members = np.full((concepts, _PARTS), -1, np.int64)
    for number in range(thing, end):
        if rng.random() < 0.5:
            count = rng.integers(1, _PARTS)
            members[number, :count] = part + rng.integers(0, whole_parts, count)
    for number in range(part, part + whole_parts):
        if rng.random() < 0.3:
            count = rng.integers(1, 3)
            members[number, :count] = part + rng.integers(whole_parts, parts, count)
    weights = 1 / np.arange(2.0, len(COLOURS) + 2)
    palette = np.array([rng.choice(len(COLOURS), _PALETTE, False, weights / weights.sum()) for _ in range(concepts)])
    zipf = (np.arange(scenes) + 3.0) ** -0.8
    return World(
        np.cumsum(zipf / zipf.sum()),
        np.cumsum(shares),
        (ground + thing).astype(np.int64),
        (things + thing).astype(np.int64),
        members,
        palette.astype(np.int64),
        edges,
    )


def labels(seed: int, number: int, resolution: int, concepts: int, *, textures: float = TEXTURED) -> Labels:
    """Return the labels of one image, ``(4, resolution, resolution)`` and its whole-image concepts."""
    maps = np.empty((4, resolution, resolution), np.int32)
    whole = np.empty(2, np.int64)
    _draw(make_world(seed, concepts), np.array([seed, number], np.uint64), textures, maps, whole)
    return Labels(maps, tuple(one for one in whole.tolist() if one >= 0))


def images_of(seed: int, begin: int, end: int, resolution: int, concepts: int) -> Iterator[Labels]:
    """Yield the labels of the images ``begin … end - 1``."""
    for number in range(begin, end):
        yield labels(seed, number, resolution, concepts)


@compiled
def _hash(value: Any) -> Any:
    """Return 64 mixed bits (the finaliser of SplitMix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def _next(state: Any) -> Any:
    """Return the next number of a stream, uniform in 0…1."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.float64(_hash(state[0]) >> np.uint64(11)) / 9007199254740992.0


@compiled
def _normal(state: Any) -> Any:
    """Return the next normal number (sum of four uniforms: light tails, fast)."""
    return (_next(state) + _next(state) + _next(state) + _next(state) - 2.0) * 1.7320508075688772


@compiled
def _pick(cumulated: Any, at: float) -> Any:
    low, high = 0, len(cumulated) - 1
    while low < high:
        middle = (low + high) // 2
        if cumulated[middle] > at:
            high = middle
        else:
            low = middle + 1
    return low


@compiled
def _draw(world: Any, key: Any, textures: float, maps: Any, whole: Any) -> None:
    """Draw image ``key = (seed, number)`` into ``maps (4, h, w)`` and ``whole (2,)``."""
    state = np.empty(1, np.uint64)
    state[0] = _hash(key[0] * np.uint64(0x9E3779B97F4A7C15) + key[1] + np.uint64(1))
    side = maps.shape[1]
    scene = _pick(world.scene, _next(state))
    whole[0], whole[1] = world.bounds[1] + scene, -1
    if _next(state) < _NO_SCENE:
        whole[0] = -1
    if _next(state) < textures:
        count = world.bounds[1] - world.bounds[0]
        whole[1] = world.bounds[0] + np.int64(_next(state) * count)
    owner = np.empty((side, side), np.int64)  # which thing a pixel shows
    shown = np.full(32, -1, np.int64)  # its class
    things = _draw_ground(world, state, scene, maps, owner, shown)
    things = _draw_things(world, state, scene, maps, owner, shown, things)
    _draw_colours(world, state, maps, owner, shown, things)


@compiled
def _draw_ground(world: Any, state: Any, scene: int, maps: Any, owner: Any, shown: Any) -> Any:
    side = maps.shape[1]
    first, second = 0.2 + 0.3 * _next(state), 0.55 + 0.3 * _next(state)
    phase, wave, high = 6.28 * _next(state), 2.0 + 6.0 * _next(state), 0.02 + 0.06 * _next(state)
    for band in range(3):
        shown[band] = world.ground[scene, band]
    for x in range(side):
        shift = high * math.sin(phase + wave * (x + 0.5) / side)
        for y in range(side):
            at = (y + 0.5) / side + shift
            band = 0 if at < first else (1 if at < second else 2)
            owner[y, x] = band
            maps[0, y, x] = shown[band]
            maps[1, y, x] = -1
            maps[2, y, x] = -1
    return 3


@compiled
def _draw_things(world: Any, state: Any, scene: int, maps: Any, owner: Any, shown: Any, first: int) -> Any:
    """Cover the ground, the largest first; the last blobs are unlabelled."""
    labelled = 6 + np.int64(_next(state) * 7)
    blank = 1 + np.int64(_next(state) * 2)
    sizes = np.empty(labelled)
    for one in range(labelled):
        sizes[one] = 0.155 * math.exp(0.5 * _normal(state))
    sizes.sort()
    for one in range(labelled + blank):
        number = first + one
        if one < labelled:
            size = sizes[labelled - 1 - one]
            if _next(state) < 0.35:
                shown[number] = world.bounds[3] + _pick(world.object, _next(state))
            else:
                at = _next(state)
                shown[number] = world.things[scene, np.int64(_THINGS * at * at)]
        else:
            size = 0.115 * math.exp(0.35 * _normal(state))
        aspect = math.exp(0.4 * _normal(state))
        box = np.empty(4)
        box[0], box[1] = _next(state), 0.15 + 0.8 * _next(state)
        box[2], box[3] = size * aspect, size / aspect
        round_ = _next(state) < 0.6
        _paint(maps, owner, box, round_, number, shown[number])
        if shown[number] >= 0:
            _draw_parts(world, state, maps, owner, box, number, shown[number])
    return first + labelled + blank


@compiled
def _paint(maps: Any, owner: Any, box: Any, round_: bool, number: int, label: int) -> None:
    side = maps.shape[1]
    for y in range(max(0, int((box[1] - box[3]) * side)), min(side, int((box[1] + box[3]) * side) + 1)):
        dy = ((y + 0.5) / side - box[1]) / box[3]
        for x in range(max(0, int((box[0] - box[2]) * side)), min(side, int((box[0] + box[2]) * side) + 1)):
            dx = ((x + 0.5) / side - box[0]) / box[2]
            if dx * dx + dy * dy < 1.0 if round_ else max(abs(dx), abs(dy)) < 0.85:
                owner[y, x] = number
                maps[0, y, x] = label
                maps[1, y, x] = -1
                maps[2, y, x] = -1


@compiled
def _draw_parts(world: Any, state: Any, maps: Any, owner: Any, box: Any, number: int, label: int) -> None:
    for one in range(_PARTS):
        part = world.parts[label, one]
        present = _next(state) < 0.7
        x, y = box[0] + box[2] * (1.4 * _next(state) - 0.7), box[1] + box[3] * (1.4 * _next(state) - 0.7)
        width, height = box[2] * (0.25 + 0.35 * _next(state)), box[3] * (0.25 + 0.35 * _next(state))
        if part < 0 or not present:
            continue
        _paint_part(maps, owner, x, y, width, height, number, 1, part)
        for inner in range(2):
            small = world.parts[part, inner]
            left, up = _next(state) - 0.5, _next(state) - 0.5
            if small >= 0:
                _paint_part(maps, owner, x + left * width, y + up * height, width / 2, height / 2, number, 2, small)


@compiled
def _paint_part(
    maps: Any, owner: Any, x: float, y: float, width: float, height: float, number: int, layer: int, part: int
) -> None:
    side = maps.shape[1]
    for row in range(max(0, int((y - height) * side)), min(side, int((y + height) * side) + 1)):
        for column in range(max(0, int((x - width) * side)), min(side, int((x + width) * side) + 1)):
            if owner[row, column] == number:
                maps[layer, row, column] = part


@compiled
def _draw_colours(world: Any, state: Any, maps: Any, owner: Any, shown: Any, things: int) -> None:
    """Give each thing its own mix of its palette, in patches of 1/28 of the side and with speckle."""
    side = maps.shape[1]
    mix = np.empty((things, 5), np.int64)
    for thing in range(things):
        for at in range(_PALETTE):
            mix[thing, at] = world.palette[shown[thing], at] if shown[thing] >= 0 else np.int64(_next(state) * 11)
        mix[thing, 4] = np.int64(_next(state) * 2)  # which colour of the palette comes first
    salt = state[0]
    for y in range(side):
        for x in range(side):
            patch = _hash(salt + np.uint64((y * 28 // side) * 64 + x * 28 // side))
            speckle = _hash(salt ^ np.uint64(((y * 112 // side) * 128 + x * 112 // side + 1) << 20))
            at = np.float64(patch >> np.uint64(11)) / 9007199254740992.0
            if (speckle & np.uint64(1023)) < np.uint64(_SPECKLE):
                at = np.float64((speckle >> np.uint64(20)) & np.uint64(0xFFFFF)) / 1048576.0
            thing = owner[y, x]
            first = mix[thing, 4]
            if at < _MIX[0]:
                place = first
            elif at < _MIX[1]:
                place = 1 - first
            elif at < _MIX[2]:
                place = 2
            elif at < _MIX[3]:
                place = 3
            else:
                maps[3, y, x] = np.int64((at - _MIX[3]) / (1.0 - _MIX[3]) * 11)
                continue
            maps[3, y, x] = mix[thing, place]


def build_cells(
    images: int,
    concepts: int,
    seed: int,
    *,
    resolution: int = 112,
    seconds: dict[str, float] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> CellIndex:
    """Return the index of all images, which are drawn some at a time.

    ``seconds`` is told how long it took: ``"drawing"`` for the generator, ``"cells"`` for the library.
    """
    spent = seconds if seconds is not None else {}
    spent |= {"drawing": 0.0, "cells": 0.0}
    builder = CellBuilder(concept_list(concepts))
    for begin in range(0, images, CHUNK):
        end = min(begin + CHUNK, images)
        started = time.perf_counter()
        drawn = list(images_of(seed, begin, end, resolution, concepts))
        drawing = time.perf_counter()
        for one in drawn:
            builder.add(one)
        spent["drawing"] += drawing - started
        spent["cells"] += time.perf_counter() - drawing
        progress(end)
    started = time.perf_counter()
    index = builder.finish()
    spent["cells"] += time.perf_counter() - started
    return index


def _numbers(cells: Cells, kind: str, share: NDArray[np.float64], least: float, most: float) -> Ints:
    own = np.array([concept.category == kind for concept in cells.concepts])
    return np.flatnonzero(own & (share > least) & (share < most))


def _leaf(cells: Cells, numbers: dict[str, Ints], rng: np.random.Generator) -> Leaf:
    usable = {kind: weight for kind, weight in KINDS.items() if len(numbers[kind])}
    weights = np.array(list(usable.values()))
    kind = list(usable)[rng.choice(len(usable), p=weights / weights.sum())]
    return Leaf(cells.concepts[rng.choice(numbers[kind])].name)


def plant(cells: Cells, units: int, seed: int) -> tuple[Formula, ...]:
    """Return a formula of two to four leaves for each unit that holds for 0.2 to 4 % of the pixels."""
    rng = np.random.default_rng([seed, 1])
    share = cells.concept_pixels / cells.total
    usable = {kind: _numbers(cells, kind, share, 3e-4, 1.0) for kind in KINDS}
    first = {kind: _numbers(cells, kind, share, 1e-3, 0.06) for kind in KINDS}
    found: list[Formula] = []
    while len(found) < units:
        formula: Formula = _leaf(cells, first, rng)
        for _ in range(rng.integers(1, 4)):
            leaf = _leaf(cells, usable, rng)
            op = rng.choice(4)
            formula = Or((formula, leaf)) if op < 2 else And((formula, leaf if op == 2 else Not(leaf)))
        holds = cells.counts[formula_cells(cells, formula)].sum() / cells.total
        if 0.002 < holds < 0.04:
            found.append(formula)
    return tuple(found)


def unit_maps(
    index: CellIndex, planted: NDArray[np.bool_], seed: int, begin: int, end: int, noise: float = 0.2
) -> NDArray[np.float32]:
    """Return the maps float32 ``(b, U, 7, 7)`` of the images ``begin … end - 1``.

    ``planted`` bool ``(M, U)``: the cells of each unit's formula (`planted_cells`).
    """
    maps = np.empty((end - begin, planted.shape[1], SIDE, SIDE), np.float32)
    most = int(np.diff(index.start)[begin:end].max(initial=1))
    _fill_maps(
        np.require(index.local[begin:end], np.uint16, ["C", "W"]),
        index.start[begin : end + 1],
        index.lookup,
        planted,
        np.array([seed, begin], np.uint64),
        noise,
        np.zeros((SIDE * SIDE, most), np.int64),
        maps,
    )
    return maps


def planted_cells(cells: Cells, planted: tuple[Formula, ...]) -> NDArray[np.bool_]:
    """Return bool ``(M, U)``: the cells where each formula holds."""
    found = np.empty((len(cells), len(planted)), np.bool_)
    for unit, formula in enumerate(planted):
        found[:, unit] = formula_cells(cells, formula)
    return found


@compiled
def _fill_maps(
    local: Any, start: Any, lookup: Any, planted: Any, key: Any, noise: float, histogram: Any, maps: Any
) -> None:
    side, places = local.shape[1], histogram.shape[0]
    area = np.float64(side * side) / places  # 112 is 7 times 16: all positions see as many pixels
    state = np.empty(1, np.uint64)
    inside = np.zeros((places, maps.shape[1]), np.int64)
    for image in range(len(maps)):
        sets = start[image + 1] - start[image]
        _count_places(local, image, sets, histogram)
        for place in range(places):
            for unit in range(maps.shape[1]):
                inside[place, unit] = 0
            for at in range(sets):
                if histogram[place, at] > 0:
                    _add_planted(planted, lookup[start[image] + at], histogram[place, at], inside, place)
        state[0] = _hash(key[0] * np.uint64(0xD1B54A32D192ED03) + key[1] + np.uint64(image))
        for unit in range(maps.shape[1]):
            strength = 0.5 + _next(state)
            for place in range(places):
                value = strength * inside[place, unit] / area + noise * _normal(state)
                maps[image, unit, place // SIDE, place % SIDE] = np.float32(max(value, 0.0))


@compiled
def _count_places(local: Any, image: int, sets: int, histogram: Any) -> None:
    """Count the pixels of each label set under each position of the maps."""
    side = local.shape[1]
    for place in range(histogram.shape[0]):
        for at in range(histogram.shape[1]):
            histogram[place, at] = 0
    for y in range(side):
        for x in range(side):
            if local[image, y, x] < sets:
                histogram[(y * SIDE // side) * SIDE + x * SIDE // side, local[image, y, x]] += 1


@compiled
def _add_planted(planted: Any, cell: int, pixels: int, inside: Any, place: int) -> None:
    for unit in range(planted.shape[1]):
        if planted[cell, unit]:
            inside[place, unit] += pixels


def build(
    images: int,
    concepts: int,
    units: int,
    seed: int,
    *,
    resolution: int = 112,
    progress: Callable[[str, int], None] = lambda stage, done: None,
) -> Built:
    """Build cells, plant units; take thresholds and the maps that fire in one pass over the units' maps, then count."""
    seconds: dict[str, float] = {"maps": 0.0, "quantiles": 0.0}
    index = build_cells(
        images, concepts, seed, resolution=resolution, seconds=seconds, progress=lambda done: progress("cells", done)
    )
    formulas = plant(index.cells, units, seed)
    planted = planted_cells(index.cells, formulas)
    step = max(1, min(512, (1 << 23) // max(1, units * SIDE * SIDE)))
    top = TopValues(units, QUANTILE, images * SIDE * SIDE)
    pieces: list[tuple[Ints, Ints, NDArray[np.float32]]] = []
    for begin in range(0, images, step):
        started = time.perf_counter()
        maps = unit_maps(index, planted, seed, begin, min(begin + step, images))
        made = time.perf_counter()
        top.update(torch.from_numpy(maps))
        image, unit = np.nonzero(maps.max((2, 3)) > top.bound().numpy())  # the bound only rises
        pieces.append((unit, image + begin, maps[image, unit]))
        seconds["maps"] += made - started
        seconds["quantiles"] += time.perf_counter() - made
        progress("maps", begin + len(maps))
    started = time.perf_counter()
    thresholds = top.threshold().numpy()
    seconds["quantiles"] += time.perf_counter() - started
    started = time.perf_counter()
    firing = firing_from_pieces([_above(piece, thresholds) for piece in pieces], (SIDE, SIDE))
    counts = count_firing(firing, thresholds, index, units=units)
    seconds["counts"] = time.perf_counter() - started
    return Built(index, firing, thresholds, counts, formulas, seconds)


def _above(
    piece: tuple[Ints, Ints, NDArray[np.float32]], thresholds: NDArray[np.float32]
) -> tuple[Ints, Ints, NDArray[np.float32]]:
    unit, image, maps = piece
    keep = maps.max((1, 2)) > thresholds[unit]
    return unit[keep], image[keep], maps[keep]

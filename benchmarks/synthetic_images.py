"""The images of the synthetic probe set: their labels drawn from a seed, as `synthetic` specifies."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from explain.compiling import compiled
from explain.types import Concept, Labels

COLOURS = ("black", "grey", "white", "brown", "blue", "green", "red", "yellow", "orange", "pink", "purple")
TEXTURED = 0.04
_NO_SCENE = 0.3
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
def hash_of(value: Any) -> Any:
    """Return 64 mixed bits (the finaliser of SplitMix64)."""
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))


@compiled
def uniform(state: Any) -> Any:
    """Return the next number of a stream, uniform in 0…1."""
    state[0] += np.uint64(0x9E3779B97F4A7C15)
    return np.float64(hash_of(state[0]) >> np.uint64(11)) / 9007199254740992.0


@compiled
def normal(state: Any) -> Any:
    """Return the next normal number (sum of four uniforms: light tails, fast)."""
    return (uniform(state) + uniform(state) + uniform(state) + uniform(state) - 2.0) * 1.7320508075688772


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
    state[0] = hash_of(key[0] * np.uint64(0x9E3779B97F4A7C15) + key[1] + np.uint64(1))
    side = maps.shape[1]
    scene = _pick(world.scene, uniform(state))
    whole[0], whole[1] = world.bounds[1] + scene, -1
    if uniform(state) < _NO_SCENE:
        whole[0] = -1
    if uniform(state) < textures:
        count = world.bounds[1] - world.bounds[0]
        whole[1] = world.bounds[0] + np.int64(uniform(state) * count)
    owner = np.empty((side, side), np.int64)  # which thing a pixel shows
    shown = np.full(32, -1, np.int64)  # its class
    things = _draw_ground(world, state, scene, maps, owner, shown)
    things = _draw_things(world, state, scene, maps, owner, shown, things)
    _draw_colours(world, state, maps, owner, shown, things)


@compiled
def _draw_ground(world: Any, state: Any, scene: int, maps: Any, owner: Any, shown: Any) -> Any:
    side = maps.shape[1]
    first, second = 0.2 + 0.3 * uniform(state), 0.55 + 0.3 * uniform(state)
    phase, wave, high = 6.28 * uniform(state), 2.0 + 6.0 * uniform(state), 0.02 + 0.06 * uniform(state)
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
    labelled = 6 + np.int64(uniform(state) * 7)
    blank = 1 + np.int64(uniform(state) * 2)
    sizes = np.empty(labelled)
    for one in range(labelled):
        sizes[one] = 0.155 * math.exp(0.5 * normal(state))
    sizes.sort()
    for one in range(labelled + blank):
        number = first + one
        if one < labelled:
            size = sizes[labelled - 1 - one]
            if uniform(state) < 0.35:
                shown[number] = world.bounds[3] + _pick(world.object, uniform(state))
            else:
                at = uniform(state)
                shown[number] = world.things[scene, np.int64(_THINGS * at * at)]
        else:
            size = 0.115 * math.exp(0.35 * normal(state))
        aspect = math.exp(0.4 * normal(state))
        box = np.empty(4)
        box[0], box[1] = uniform(state), 0.15 + 0.8 * uniform(state)
        box[2], box[3] = size * aspect, size / aspect
        round_ = uniform(state) < 0.6
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
        present = uniform(state) < 0.7
        x, y = box[0] + box[2] * (1.4 * uniform(state) - 0.7), box[1] + box[3] * (1.4 * uniform(state) - 0.7)
        width, height = box[2] * (0.25 + 0.35 * uniform(state)), box[3] * (0.25 + 0.35 * uniform(state))
        if part < 0 or not present:
            continue
        _paint_part(maps, owner, x, y, width, height, number, 1, part)
        for inner in range(2):
            small = world.parts[part, inner]
            left, up = uniform(state) - 0.5, uniform(state) - 0.5
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
            mix[thing, at] = world.palette[shown[thing], at] if shown[thing] >= 0 else np.int64(uniform(state) * 11)
        mix[thing, 4] = np.int64(uniform(state) * 2)  # which colour of the palette comes first
    salt = state[0]
    for y in range(side):
        for x in range(side):
            patch = hash_of(salt + np.uint64((y * 28 // side) * 64 + x * 28 // side))
            speckle = hash_of(salt ^ np.uint64(((y * 112 // side) * 128 + x * 112 // side + 1) << 20))
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

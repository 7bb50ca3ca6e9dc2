"""The main objects of the drawn scenes: eleven classes, the natural ones made of named parts.

Shapes are in units of their own (x to the right, y down); a scene scales and places them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from explain.data.scene_paint import COLORS, Paint, Ring, rings_of

__all__ = ["CLASSES", "PARTS", "STANDING", "Piece", "draw_object", "ellipse"]

PARTS = (
    "roof",
    "wall",
    "door",
    "window",
    "trunk",
    "crown",
    "body",
    "wheel",
    "hull",
    "sail",
    "petals",
    "stem",
)
"""Part names, in the order of their ids (from 1)."""

STANDING = ("house", "tree", "car", "boat", "flower")
"""Classes that stand on the ground; the others hang anywhere."""

Points = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Piece:
    """A part of an object (or the whole of a simple one): its outline and its paint."""

    rings: tuple[Ring, ...]
    paint: Paint
    part: str | None = None


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, count: int = 48) -> Points:
    """Return the outline of an ellipse."""
    around = np.linspace(0, 2 * math.pi, count, endpoint=False)
    across, down = rx * np.cos(around), ry * np.sin(around)
    return np.stack(
        [
            x + across * math.cos(turn) - down * math.sin(turn),
            y + across * math.sin(turn) + down * math.cos(turn),
        ],
        axis=1,
    )


def _rect(x0: float, y0: float, x1: float, y1: float) -> Points:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)], np.float64)


def _pick(rng: Generator, names: Sequence[str], avoid: Collection[str]) -> str:
    free = [name for name in names if name not in avoid] or list(names)
    return str(free[rng.integers(len(free))])


def _coat(rng: Generator, color: str, avoid: Collection[str], plain: float = 0.3) -> Paint:
    """Return a paint with a random texture; half of the patterns are of two basic colours."""
    texture = "plain"
    if rng.random() >= plain:
        texture = ("striped", "dotted", "checked", "wavy", "grainy")[rng.integers(5)]
    second = None
    if texture not in ("plain", "grainy") and (rng.random() < 0.6 or color in ("black", "white")):
        second = _pick(rng, list(COLORS), {*avoid, color})
    return Paint(color, texture, second, period=float(rng.uniform(11, 20)))


def _simple(rng: Generator, rings: tuple[Ring, ...], avoid: Collection[str]) -> list[Piece]:
    return [Piece(rings, _coat(rng, _pick(rng, list(COLORS), avoid), avoid))]


def _circle(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    return _simple(rng, rings_of(ellipse(0, 0, 1, 1, count=96)), avoid)


def _square(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    return _simple(rng, rings_of(_rect(-1, -1, 1, 1)), avoid)


def _triangle(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    tip = rng.uniform(-0.3, 0.3)
    return _simple(rng, rings_of([(tip, -1.0), (1.0, 0.8), (-1.0, 0.8)]), avoid)


def _star(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    around = np.arange(10) * (math.pi / 5) - math.pi / 2
    reach = np.where(np.arange(10) % 2 == 0, 1.0, rng.uniform(0.4, 0.5))
    return _simple(rng, rings_of(np.stack([reach * np.cos(around), reach * np.sin(around)], 1)), avoid)


def _ring(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    hole = rng.uniform(0.5, 0.62)
    outline: tuple[Ring, ...] = (
        (ellipse(0, 0, 1, 1, count=96), True),
        (ellipse(0, 0, hole, hole, count=96), False),
    )
    return _simple(rng, outline, avoid)


def _cross(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    arm = rng.uniform(0.27, 0.36)
    return _simple(rng, rings_of(_rect(-arm, -1, arm, 1), _rect(-1, -arm, 1, arm)), avoid)


def _house(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    wall = _pick(rng, ("white", "yellow", "pink", "orange", "blue", "red"), avoid)
    roof = _pick(rng, ("red", "brown", "grey", "black", "purple"), {*avoid, wall})
    slope, top = rng.uniform(0.0, 0.5), rng.uniform(-1.0, -0.8)
    door_at = rng.choice([-0.45, 0.0, 0.45])
    door = _pick(rng, ("brown", "green", "red", "blue", "white"), {wall})
    glass = Paint(_pick(rng, ("blue", "yellow", "black", "white"), {wall}))
    windows = [x for x in (-0.52, 0.0, 0.52) if abs(x - door_at) > 0.3]
    pieces = [
        Piece(rings_of(_rect(-0.85, -0.25, 0.85, 0.9)), _coat(rng, wall, avoid), "wall"),
        Piece(
            rings_of([(-slope, top), (slope, top), (1.08, -0.2), (-1.08, -0.2)]),
            _coat(rng, roof, avoid),
            "roof",
        ),
        Piece(rings_of(_rect(door_at - 0.17, 0.25, door_at + 0.17, 0.9)), Paint(door), "door"),
    ]
    panes = [_rect(x - 0.16, 0.02, x + 0.16, 0.4) for x in windows]
    return [*pieces, Piece(rings_of(*panes), glass, "window")]


def _tree(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    crown = _pick(rng, ("green", "green", "green", "orange", "pink", "yellow", "red"), ())
    trunk = Piece(
        rings_of([(-0.13, 0.0), (0.13, 0.0), (0.19, 1.0), (-0.19, 1.0)]),
        Paint("brown", "striped" if rng.random() < 0.5 else "grainy", period=6),
        "trunk",
    )
    if rng.random() < 0.4:
        wide = rng.uniform(0.55, 0.72)
        tiers = [
            [
                (0.0, -1.1 + 0.45 * k),
                (wide * (0.6 + 0.2 * k), -0.4 + 0.45 * k),
                (-wide * (0.6 + 0.2 * k), -0.4 + 0.45 * k),
            ]
            for k in range(3)
        ]
        leaves = rings_of(*tiers)
    else:
        blobs = [ellipse(0, -0.35, 0.62, 0.55)]
        for around in np.linspace(0, 2 * math.pi, 7, endpoint=False) + rng.uniform(0, 1):
            size = rng.uniform(0.26, 0.36)
            blobs.append(ellipse(0.5 * math.cos(around), -0.35 + 0.42 * math.sin(around), size, size))
        leaves = rings_of(*blobs)
    shade = 0.86 if crown == "green" else 1.0  # stands out from grass
    texture = ("grainy", "plain", "dotted", "wavy")[rng.integers(4)]
    return [trunk, Piece(leaves, Paint(crown, texture, None, 10.0, shade), "crown")]


def _car(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    color = _pick(rng, ("red", "blue", "yellow", "white", "orange", "green", "purple", "pink"), avoid)
    nose = rng.uniform(0.0, 0.12)
    body = [
        (-1.0, 0.32), (-1.0, -0.02), (-0.92, -0.08), (-0.62, -0.12), (-0.36, -0.5), (0.3, -0.5),
        (0.62, -0.1), (0.96, -0.02 + nose), (1.0, 0.08 + nose), (1.0, 0.32),
    ]  # fmt: skip
    panes = [
        [(-0.46, -0.12), (-0.28, -0.41), (-0.05, -0.41), (-0.05, -0.12)],
        [(0.04, -0.12), (0.04, -0.41), (0.25, -0.41), (0.45, -0.12)],
    ]
    glass = Paint(_pick(rng, ("black", "blue", "grey", "white"), {color}))
    wheels = [ellipse(x, 0.33, 0.22, 0.22) for x in (-0.56, 0.56)]
    hubs = [ellipse(x, 0.33, 0.1, 0.1) for x in (-0.56, 0.56)]
    return [
        Piece(rings_of(body), _coat(rng, color, avoid, plain=0.5), "body"),
        Piece(rings_of(*panes), glass, "window"),
        Piece(rings_of(*wheels), Paint("black"), "wheel"),
        Piece(rings_of(*hubs), Paint("grey", shade=1.3), "wheel"),
    ]


def _boat(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    hull = _pick(rng, ("brown", "red", "white", "green", "black", "orange"), avoid)
    sail = _pick(rng, ("white", "red", "yellow", "orange", "pink", "purple"), {*avoid, hull})
    lean = rng.uniform(-0.08, 0.08)
    sails = [
        [(-0.02 + lean, -1.0), (-0.05, 0.4), (-0.85, 0.4)],
        [(0.09 + lean, -0.85), (0.09, 0.4), (rng.uniform(0.5, 0.72), 0.4)],
    ]
    mast = [(0.0 + lean, -1.08), (0.05 + lean, -1.08), (0.06, 0.55), (-0.01, 0.55)]
    return [
        Piece(rings_of(mast), Paint("brown"), "hull"),
        Piece(rings_of(*sails), _coat(rng, sail, avoid), "sail"),
        Piece(
            rings_of([(-1.0, 0.5), (1.05, 0.5), (0.72, 0.95), (-0.7, 0.95)]),
            _coat(rng, hull, avoid, plain=0.6),
            "hull",
        ),
    ]


def _flower(rng: Generator, avoid: Collection[str]) -> list[Piece]:
    color = _pick(rng, ("red", "pink", "purple", "yellow", "white", "orange", "blue"), avoid)
    count, wide = int(rng.integers(5, 9)), 1.5
    petals = []
    for around in np.arange(count) * (2 * math.pi / count) + rng.uniform(0, 1):
        x, y = 0.42 * math.cos(around), -0.4 + 0.42 * math.sin(around)
        petals.append(ellipse(x, y, 0.3, wide / count, around))
    bend = rng.uniform(-0.15, 0.15)
    stem = [(-0.05, -0.4), (0.05, -0.4), (0.06 + bend, 0.4), (0.05, 1.1), (-0.06, 1.1), (-0.06 + bend, 0.4)]
    leaf = ellipse(0.25 + bend, 0.55, 0.3, 0.1, -0.6)
    heart = _pick(rng, ("yellow", "brown", "orange", "white"), {color})
    return [
        Piece(rings_of(stem, leaf), Paint("green", shade=0.78), "stem"),
        Piece(rings_of(*petals), _coat(rng, color, avoid, plain=0.5), "petals"),
        Piece(rings_of(ellipse(0, -0.4, 0.21, 0.21)), Paint(heart, "grainy"), "petals"),
    ]


_MAKERS: Mapping[str, Callable[[Generator, Collection[str]], list[Piece]]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "cross": _cross,
    "house": _house,
    "tree": _tree,
    "car": _car,
    "boat": _boat,
    "flower": _flower,
}

CLASSES = tuple(_MAKERS)
"""The class labels, in the order of their indices (from 0) and object ids (from 1)."""


def draw_object(name: str, rng: Generator, avoid: Collection[str]) -> list[Piece]:
    """Return the pieces of an object, back to front; colours in ``avoid`` are kept off its larger parts."""
    return _MAKERS[name](rng, avoid)

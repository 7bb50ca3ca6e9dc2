"""The places of the drawn scenes: skies, grounds and what stands around, back to front."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from explain.data.scene_paint import SIDE, Canvas, Paint, Ring, brighten, lay, rings_of
from explain.data.scene_shapes import CLASSES, ellipse

__all__ = ["OBJECTS", "SCENES", "draw_place", "object_id", "scatter"]

OBJECTS = (
    *CLASSES,
    *("sky", "grass", "sand", "sea", "road", "building", "snow", "mountain"),
    *("cloud", "sun", "moon", "stone", "bird", "bush"),
)
"""Object names, in the order of their ids (from 1): classes, what places are made of, what lies around."""

_WIDE = np.linspace(-4, SIDE + 4, 48)


def object_id(name: str) -> int:
    """Return the id of an object in the mask layer ``mask``."""
    return OBJECTS.index(name) + 1


def _ridge(rng: Generator, level: float, rough: float) -> NDArray[np.float64]:
    """Return a line across the picture, around ``level`` pixels from the top."""
    line = np.full_like(_WIDE, level)
    for octave in range(1, 5):
        waves = rng.uniform(0.5, 1.2) * octave
        line += rough / octave * rng.uniform(0.3, 1) * np.sin(_WIDE / SIDE * 2 * math.pi * waves + rng.uniform(0, 7))
    return np.stack([_WIDE, line], 1)


def _below(line: NDArray[np.float64]) -> tuple[Ring, ...]:
    corners = np.array([(SIDE + 4.0, SIDE + 4.0), (-4.0, SIDE + 4.0)])
    return rings_of(np.concatenate([line, corners]))


def _everywhere() -> tuple[Ring, ...]:
    return rings_of([(-4, -4), (SIDE + 4, -4), (SIDE + 4, SIDE + 4), (-4, SIDE + 4)])


def _sky(canvas: Canvas, rng: Generator, paint: Paint) -> None:
    lay(canvas, _everywhere(), paint, rng, object_id("sky"))


def _hills(canvas: Canvas, rng: Generator, level: float, paint: Paint, rough: float = 14) -> None:
    lay(canvas, _below(_ridge(rng, level, rough)), paint, rng, object_id("mountain"))


def _peaks(canvas: Canvas, rng: Generator, level: float, paint: Paint, caps: bool) -> None:
    for _ in range(int(rng.integers(2, 4))):
        x, high, wide = rng.uniform(0, SIDE), rng.uniform(34, 70), rng.uniform(50, 90)
        top = level - high
        lay(
            canvas,
            rings_of([(x, top), (x + wide, level + 20), (x - wide, level + 20)]),
            paint,
            rng,
            object_id("mountain"),
        )
        if caps:
            part = 0.3 * (high + 20) / (high + 20)
            drop, reach = part * (high + 20), part * wide
            zigzag = [(x, top), (x + reach, top + drop), (x + reach / 3, top + drop * 0.75)]
            zigzag += [(x - reach / 4, top + drop * 1.1), (x - reach, top + drop)]
            lay(canvas, rings_of(zigzag), Paint("white"), rng, object_id("mountain"))


def _ground(canvas: Canvas, rng: Generator, name: str, level: float, paint: Paint, rough: float = 4) -> None:
    lay(canvas, _below(_ridge(rng, level, rough)), paint, rng, object_id(name))


def _windows(canvas: Canvas, rng: Generator, wall: tuple[float, float, float, float], lit: bool) -> None:
    x0, y0, x1, y1 = wall
    color = "yellow" if lit else str(rng.choice(["white", "black", "blue"]))
    panes = [
        [(x, y), (x + 4.5, y), (x + 4.5, y + 6), (x, y + 6)]
        for y in np.arange(y0 + 6, y1 - 6, 12)
        for x in np.arange(x0 + 5, x1 - 8, 9.5)
        if rng.random() < (0.45 if lit else 0.9)
    ]
    if panes:
        lay(canvas, rings_of(*panes), Paint(color), rng, object_id("building"))


def _skyline(canvas: Canvas, rng: Generator, level: float, colors: Sequence[str], shade: float) -> None:
    x = rng.uniform(-20, 0)
    while x < SIDE:
        wide, high = rng.uniform(24, 46), rng.uniform(30, 92)
        color = str(rng.choice(colors))
        window = str(rng.choice(["white", "black", "blue"]))
        walls = Paint(color, "checked", window if rng.random() < 0.5 else None, 9.0, shade, level=True)
        if rng.random() < 0.6 or shade < 0.8:
            walls = Paint(color, "plain", shade=shade)
        box = [(x, level - high), (x + wide, level - high), (x + wide, level + 8), (x, level + 8)]
        lay(canvas, rings_of(box), walls, rng, object_id("building"))
        if walls.texture == "plain":
            _windows(canvas, rng, (x, level - high, x + wide, level - 8), lit=shade < 0.8)
        x += wide + (rng.uniform(2, 14) if rng.random() < 0.5 else 0)


def _meadow(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint("blue", shade=1.08, fade=0.6))
    if rng.random() < 0.6:
        _hills(canvas, rng, level - 8, Paint(str(rng.choice(["purple", "grey"])), shade=1.05))
    texture = str(rng.choice(["grainy", "grainy", "striped", "dotted"]))
    second = str(rng.choice(["white", "yellow"])) if texture == "dotted" else None
    _ground(canvas, rng, "grass", level, Paint("green", texture, second, float(rng.uniform(12, 22))), 7)


def _beach(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint("blue", shade=1.1, fade=0.75))
    _ground(canvas, rng, "sea", level, Paint("blue", "wavy", None, float(rng.uniform(9, 15)), 0.85), 0)
    shore = level + rng.uniform(24, 44)
    line = _ridge(rng, shore, 7)
    lay(canvas, _below(line - (0, 4)), Paint("white"), rng, object_id("sea"))
    lay(
        canvas,
        _below(line),
        Paint("yellow", "grainy", shade=0.98, tint=(226, 206, 160)),
        rng,
        object_id("sand"),
    )


def _city(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint(str(rng.choice(["blue", "grey", "white"])), shade=1.1, fade=0.5))
    _skyline(canvas, rng, level + 10, ["grey", "brown", "red", "orange", "white"], 0.95)
    _ground(canvas, rng, "road", level + 10, Paint("grey", "grainy", shade=0.7), 0)
    middle, dash = rng.uniform(level + 36, SIDE - 24), rng.uniform(20, 34)
    for x in np.arange(rng.uniform(-dash, 0), SIDE, 2 * dash):
        stripe = [(x, middle), (x + dash, middle), (x + dash + 3, middle + 6), (x + 3, middle + 6)]
        lay(canvas, rings_of(stripe), Paint("white"), rng, object_id("road"))


def _night(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint("black", shade=0.8, fade=0.14, tint=(16, 24, 62)))
    for _ in range(int(rng.integers(30, 60))):
        x, y, size = rng.uniform(0, SIDE), rng.uniform(0, level), rng.uniform(0.5, 1.5)
        lay(canvas, rings_of(ellipse(x, y, size, size, count=10)), Paint("white"), rng, object_id("sky"))
    if rng.random() < 0.5:
        _skyline(canvas, rng, level + 8, ["black", "purple", "blue"], 0.55)
        _ground(canvas, rng, "road", level + 8, Paint("black", "grainy", shade=1.6), 0)
    else:
        _peaks(canvas, rng, level, Paint("purple", shade=0.45), caps=False)
        _ground(canvas, rng, "grass", level, Paint("green", "grainy", shade=0.5), 7)


def _winter(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint(str(rng.choice(["grey", "blue", "pink"])), shade=1.12, fade=0.5))
    _peaks(canvas, rng, level, Paint(str(rng.choice(["grey", "purple"])), "plain", shade=0.9), caps=True)
    _ground(canvas, rng, "snow", level, Paint("white", str(rng.choice(["plain", "grainy", "wavy"])), None, 22), 8)


def _desert(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint(str(rng.choice(["blue", "orange", "pink"])), shade=1.05, fade=0.55))
    if rng.random() < 0.6:
        _peaks(canvas, rng, level, Paint(str(rng.choice(["brown", "red"])), "striped", None, 18), caps=False)
    color = str(rng.choice(["orange", "yellow", "brown"]))
    texture = str(rng.choice(["wavy", "grainy", "striped"]))
    _ground(canvas, rng, "sand", level, Paint(color, texture, None, float(rng.uniform(16, 26))), 10)
    _ground(canvas, rng, "sand", level + 40, Paint(color, texture, None, float(rng.uniform(16, 26)), 0.95), 14)


def _sunset(canvas: Canvas, rng: Generator, level: float) -> None:
    _sky(canvas, rng, Paint("purple", shade=1.0))
    for color, share in (("pink", 0.35), ("orange", 0.7)):
        _ground(canvas, rng, "sky", level * share, Paint(color, fade=0.25), 5)
    _hills(canvas, rng, level - 4, Paint("black", shade=1.2), 10)
    second = str(rng.choice(["pink", "blue"])) if rng.random() < 0.5 else None
    _ground(canvas, rng, "sea", level, Paint("purple", "wavy", second, float(rng.uniform(11, 16)), 0.85), 0)


_PLACES: Mapping[str, Callable[[Canvas, Generator, float], None]] = {
    "meadow": _meadow,
    "beach": _beach,
    "city": _city,
    "night": _night,
    "winter": _winter,
    "desert": _desert,
    "sunset": _sunset,
}

SCENES = tuple(_PLACES)
"""Scene names. None of them is the name of an object: concepts of one name would be one concept."""


def draw_place(canvas: Canvas, scene: str, rng: Generator) -> float:
    """Paint the background of a scene over the whole canvas; return the horizon, in pixels from the top."""
    level = float(rng.uniform(0.42, 0.6) * SIDE)
    _PLACES[scene](canvas, rng, level)
    return level


def _blobs(rng: Generator, x: float, y: float, size: float, flat: float) -> tuple[Ring, ...]:
    shapes = [ellipse(x, y, size, size * flat)]
    for step in (-0.8, -0.35, 0.35, 0.8):
        lift, reach = rng.uniform(0, 0.3), rng.uniform(0.4, 0.6)
        shapes.append(ellipse(x + step * size, y - lift * size * flat, size * reach, size * reach * flat))
    return rings_of(*shapes)


def _cloud(rng: Generator, x: float, y: float, size: float) -> tuple[Ring, ...]:
    puffs = [ellipse(x, y, size * 1.1, size * 0.26)]
    for step, high in ((-0.65, 0.3), (-0.2, 0.5), (0.3, 0.42), (0.7, 0.25)):
        reach = size * high * rng.uniform(0.85, 1.15)
        puffs.append(ellipse(x + step * size, y - 0.45 * reach, reach, reach))
    return rings_of(*puffs)


def _stone(rng: Generator, x: float, y: float, size: float) -> tuple[Ring, ...]:
    around = np.sort(rng.uniform(0, 2 * math.pi, 11))
    reach = rng.uniform(0.8, 1.1, 11) * size
    return rings_of(np.stack([x + reach * np.cos(around), y + 0.65 * reach * np.sin(around)], 1))


def _bird(x: float, y: float, size: float) -> tuple[Ring, ...]:
    wing = [(0, 0.25), (0.4, -0.2), (1, -0.3), (0.5, 0.05), (0, 0.55)]
    outline = [*wing, *[(-across, down) for across, down in reversed(wing)]]
    return rings_of([(x + size * across, y + size * down) for across, down in outline])


def _in_the_sky(canvas: Canvas, scene: str, level: float, rng: Generator) -> None:
    x, y = rng.uniform(20, SIDE - 20), rng.uniform(16, max(level - 40, 24))
    shining = np.isin(canvas.objects, [object_id("sun"), object_id("moon")]).any()
    if scene == "night" and shining:
        return  # one moon is enough
    if scene == "night":
        size = float(rng.uniform(9, 14))
        disc = ellipse(x, y, size, size)
        brighten(canvas, rings_of(disc), 12, 1.2)
        cut = (ellipse(x + size * 0.6, y - 2, size * 0.85, size * 0.85), False)
        lay(canvas, (*rings_of(disc), cut), Paint("yellow", shade=1.05), rng, object_id("moon"))
        return
    kind = str(rng.choice(["sun", "cloud", "cloud", "bird"]))
    if kind == "sun" and not shining:
        size = float(rng.uniform(9, 14))
        disc = ellipse(x, y, size, size)
        brighten(canvas, rings_of(disc), 14, 0.5)
        lay(canvas, rings_of(disc), Paint("yellow", shade=1.1), rng, object_id("sun"))
    elif kind != "bird":
        color = str(rng.choice(["white", "white", "grey"]))
        rings = _cloud(rng, x, y, float(rng.uniform(14, 25)))
        lay(canvas, rings, Paint(color, shade=1.05), rng, object_id("cloud"))
    else:
        lay(canvas, _bird(x, y, float(rng.uniform(8, 14))), Paint("black"), rng, object_id("bird"))


def _on_the_ground(canvas: Canvas, scene: str, level: float, rng: Generator) -> None:
    x, y = rng.uniform(10, SIDE - 10), rng.uniform(min(level + 50, SIDE - 20), SIDE - 8)
    dim = 0.55 if scene == "night" else 1.0
    if scene in ("meadow", "night", "winter") and rng.random() < 0.5:
        rings = _blobs(rng, x, y, float(rng.uniform(10, 17)), 0.7)
        lay(canvas, rings, Paint("green", "grainy", shade=0.7 * dim), rng, object_id("bush"))
    else:
        paint = Paint("grey", "grainy", shade=0.95 * dim)
        lay(canvas, _stone(rng, x, y, float(rng.uniform(8, 15))), paint, rng, object_id("stone"))


def scatter(canvas: Canvas, scene: str, level: float, rng: Generator) -> None:
    """Add up to three small things that are not classes."""
    for _ in range(int(rng.integers(0, 4))):
        draw = _in_the_sky if rng.random() < 0.6 else _on_the_ground
        draw(canvas, scene, level, rng)

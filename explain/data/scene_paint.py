"""Paint for the drawn scenes: a canvas whose every pixel carries labels, basic colours, and textures.

The picture is drawn with soft edges, the masks with hard ones: a shape owns the pixels it covers by half.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

__all__ = [
    "COLORS",
    "SIDE",
    "TEXTURES",
    "Canvas",
    "Paint",
    "Ring",
    "blank_canvas",
    "brighten",
    "coverage",
    "hard_pixels",
    "lay",
    "rings_of",
    "soft_shadow",
]

SIDE = 224
"""Pixels along each side of a scene."""

COLORS: Mapping[str, tuple[int, int, int]] = {
    "red": (206, 44, 42),
    "orange": (238, 132, 38),
    "yellow": (243, 208, 62),
    "green": (84, 156, 66),
    "blue": (62, 118, 208),
    "purple": (124, 72, 172),
    "pink": (242, 150, 188),
    "brown": (124, 80, 48),
    "black": (34, 34, 40),
    "white": (242, 241, 236),
    "grey": (138, 141, 147),
}
"""The eleven basic colours, in the order of their ids (from 1)."""

TEXTURES = ("plain", "striped", "dotted", "checked", "wavy", "grainy")
"""The textures, in the order of their ids (from 1)."""

Field = NDArray[np.float32]
Mask = NDArray[np.uint8]
Ring = tuple[NDArray[np.float64], bool]
"""Corner points ``(n, 2)`` as x, y, and whether the ring adds area or cuts a hole."""

_FINE = 3  # drawn three times larger per side, then averaged: soft edges


@dataclass(frozen=True)
class Paint:
    """How an area looks: its colour, its texture, and the second colour of the texture."""

    color: str
    texture: str = "plain"
    second: str | None = None
    """The other colour of a pattern; None takes a darker or lighter shade of the same colour."""
    period: float = 14.0
    """Pixels from one stripe, dot or check to the next."""
    shade: float = 1.0
    """Brightness, 1 as the basic colour."""
    fade: float = 0.0
    """How far the colour fades to white from top to bottom: far skies."""
    tint: tuple[int, int, int] | None = None
    """A hue that the colour leans to by half, keeping its name: pale sand, a night sky."""
    level: bool = False
    """True where a pattern is upright, as the windows of a building are."""


@dataclass(frozen=True, eq=False)
class Canvas:
    """The picture in the making and its label layers; the arrays are written in place."""

    rgb: Field
    """``(3, 224, 224)``: colour planes, which numpy works on much faster than on interleaved colours."""
    objects: Mask
    parts: Mask
    colors: Mask
    textures: Mask


def blank_canvas() -> Canvas:
    """Return a canvas without any label."""
    rgb = np.zeros((3, SIDE, SIDE), np.float32)
    layers = [np.zeros((SIDE, SIDE), np.uint8) for _ in range(4)]
    return Canvas(rgb, *layers)


def rings_of(*points: Sequence[tuple[float, float]] | NDArray[np.float64]) -> tuple[Ring, ...]:
    """Return outlines that each add their area."""
    return tuple((np.asarray(outline, np.float64), True) for outline in points)


def _window(rings: Sequence[Ring]) -> tuple[int, int, int, int]:
    corners = np.concatenate([points for points, adds in rings if adds])
    low = np.clip(np.floor(corners.min(0)).astype(int) - 1, 0, SIDE)
    high = np.clip(np.ceil(corners.max(0)).astype(int) + 2, 0, SIDE)
    return int(low[0]), int(low[1]), int(high[0]), int(high[1])


def coverage(rings: Sequence[Ring]) -> tuple[Field, tuple[slice, slice]]:
    """Return how much of each pixel the rings cover, in the window that holds them."""
    x0, y0, x1, y1 = _window(rings)
    if x1 <= x0 or y1 <= y0:
        return np.zeros((0, 0), np.float32), (slice(0, 0), slice(0, 0))
    sheet = Image.new("L", ((x1 - x0) * _FINE, (y1 - y0) * _FINE))
    pen = ImageDraw.Draw(sheet)
    for points, adds in rings:
        moved = (points - (x0, y0)) * _FINE - 0.5
        pen.polygon(moved.ravel().tolist(), fill=255 if adds else 0)
    small = np.asarray(sheet.reduce(_FINE), np.float32) / np.float32(255)
    return small, (slice(y0, y1), slice(x0, x1))


def hard_pixels(rings: Sequence[Ring]) -> int:
    """Return the number of pixels that belong to the rings."""
    return int((coverage(rings)[0] >= 0.5).sum())


def _rgb(color: str, paint: Paint, rng: Generator) -> Field:
    red, green, blue = (value / 255 for value in COLORS[color])
    hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
    hue += rng.uniform(-0.014, 0.014)
    saturation = min(1.0, saturation * rng.uniform(0.88, 1.08))
    value = min(1.0, value * rng.uniform(0.92, 1.06) * paint.shade)
    rgb = np.asarray(colorsys.hsv_to_rgb(hue % 1, saturation, value), np.float32) * np.float32(255)
    if paint.tint is not None:
        rgb = (rgb + np.asarray(paint.tint, np.float32)) / 2
    return rgb.reshape(3, 1, 1)


def _other_shade(rgb: Field) -> Field:
    return rgb * np.float32(1.5) + 26 if float(rgb.mean()) < 70 else rgb * np.float32(0.74)


def _stripes(along: Field, period: float) -> Field:
    # Signed distance to the nearest edge, in pixels: positive inside a stripe.
    distance: Field = np.abs((along / period) % 1 - 0.5) * period - period / 4
    return distance


def _pattern(paint: Paint, x: Field, y: Field, rng: Generator) -> Field | None:
    """Return a signed distance to the edges of the second colour, or None where there is no pattern."""
    texture, period = paint.texture, paint.period
    if texture in ("plain", "grainy"):
        return None
    angle = float(rng.uniform(-0.6, 0.6) + (math.pi / 2) * rng.integers(2))
    if texture == "wavy" or paint.level:
        angle = 0.0 if paint.level else float(rng.uniform(-0.15, 0.15))
    shift = rng.uniform(0, period, 2).astype(np.float32)
    u = x * math.cos(angle) + y * math.sin(angle) + shift[0]
    v = -x * math.sin(angle) + y * math.cos(angle) + shift[1]
    if texture == "striped":
        return _stripes(u, period)
    if texture == "wavy":
        return _stripes(v + 0.28 * period * np.sin(u * (2 * math.pi / (2.1 * period))), period)
    if texture == "checked":
        across, down = _stripes(u, period), _stripes(v, period)
        checks: Field = np.sign(across * down) * np.minimum(np.abs(across), np.abs(down))
        return checks
    du, dv = (u / period) % 1 - 0.5, (v / period) % 1 - 0.5
    dots: Field = period * (0.29 - np.hypot(du, dv))
    return dots


def _grain(shape: tuple[int, int], rng: Generator) -> Field:
    fine = rng.standard_normal(shape, np.float32)
    coarse = rng.standard_normal((shape[0] // 2 + 1, shape[1] // 2 + 1), np.float32)
    return 0.05 * fine + 0.075 * coarse.repeat(2, 0).repeat(2, 1)[: shape[0], : shape[1]]


def _light(x: Field, y: Field, rng: Generator, strength: float) -> Field:
    angle = float(rng.uniform(0, 2 * math.pi))
    slope = x * math.cos(angle) + y * math.sin(angle)
    low, high = float(slope.min()), float(slope.max())
    light: Field = slope * np.float32(2 * strength / max(high - low, 1e-6))
    light += np.float32(1 - strength * (high + low) / max(high - low, 1e-6))
    return light


def _fill(
    paint: Paint, shape: tuple[int, int], origin: tuple[int, int], rng: Generator
) -> tuple[Field, NDArray[np.bool_] | None]:
    """Return the colours of a window and, for a pattern of two basic colours, where the second one is."""
    y = np.arange(shape[0], dtype=np.float32)[:, None]
    x = np.arange(shape[1], dtype=np.float32)[None]
    rgb = _rgb(paint.color, paint, rng)
    second_at = None
    field = _pattern(paint, x + origin[1], y + origin[0], rng)
    if field is not None:
        other = _rgb(paint.second, paint, rng) if paint.second else _other_shade(rgb)
        rgb = rgb + np.clip(field + 0.5, 0, 1) * (other - rgb)
        second_at = field > 0 if paint.second else None
    light = _light(x, y, rng, float(rng.uniform(0.05, 0.14)))
    if paint.texture == "grainy":
        light = light * (1 + _grain(shape, rng))
    rgb = rgb * light
    if paint.fade:
        rgb += paint.fade * (y / max(shape[0] - 1, 1)) * (250 - rgb)
    return rgb, second_at


def lay(canvas: Canvas, rings: Sequence[Ring], paint: Paint, rng: Generator, object_id: int, part_id: int = 0) -> None:
    """Paint an area and write its labels: it hides whatever was there."""
    cover, window = coverage(rings)
    if cover.size == 0:
        return
    origin = (window[0].start, window[1].start)
    rgb, second_at = _fill(paint, (cover.shape[0], cover.shape[1]), origin, rng)
    under = canvas.rgb[:, window[0], window[1]]
    under += cover * (rgb - under)
    hard = cover >= 0.5
    canvas.objects[window][hard] = object_id
    canvas.parts[window][hard] = part_id
    canvas.textures[window][hard] = TEXTURES.index(paint.texture) + 1
    names = list(COLORS)
    canvas.colors[window][hard] = names.index(paint.color) + 1
    if second_at is not None and paint.second:
        canvas.colors[window][hard & second_at] = names.index(paint.second) + 1


def soft_shadow(canvas: Canvas, rings: Sequence[Ring], blur: float, strength: float) -> None:
    """Darken the picture softly under an area; labels stay."""
    cover, window = coverage(rings)
    sheet = np.zeros((SIDE, SIDE), np.float32)
    sheet[window] = cover
    _multiply(canvas, sheet, blur, -strength)


def brighten(canvas: Canvas, rings: Sequence[Ring], blur: float, strength: float) -> None:
    """Lighten the picture softly around an area (the glow of sun and moon); labels stay."""
    soft_shadow(canvas, rings, blur, -strength)


def _multiply(canvas: Canvas, sheet: Field, blur: float, gain: float) -> None:
    picture = Image.fromarray((sheet * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(blur))
    canvas.rgb[...] *= 1 + np.float32(gain / 255) * np.asarray(picture, np.float32)

"""Concepts made from the pixels themselves: basic colour terms, places in the image, brightness."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageColor

from explain.errors import DataError, InputError, near
from explain.types import Concept, Labels, ProbeSet

__all__ = ["COLOR_TERMS", "PixelKind", "brightness_map", "cielab", "color_map", "position_map", "with_pixel_concepts"]

PixelKind = Literal["color", "position", "brightness"]

# The 138 named colours of CSS 3, as tables of web colours group them. Their groups "violet" and "gray and black" are
# purple, and grey with black apart; "cyan" is no basic term: its colours are blue, or green where G > B. The light
# ones of their "brown" go where their likes are: goldenrod, wheat, navajowhite and bisque to yellow, blanchedalmond and
# cornsilk to white.
_CSS = {
    "black": "black",
    "blue": "midnightblue navy darkblue mediumblue blue royalblue steelblue dodgerblue deepskyblue cornflowerblue"
    " skyblue lightskyblue lightsteelblue lightblue powderblue teal darkcyan cadetblue darkturquoise aqua"
    " paleturquoise lightcyan",
    "brown": "maroon brown saddlebrown sienna chocolate darkgoldenrod peru rosybrown sandybrown tan burlywood",
    "grey": "darkslategray dimgray slategray gray lightslategray darkgray silver lightgray gainsboro",
    "green": "darkgreen green darkolivegreen forestgreen seagreen olive olivedrab mediumseagreen limegreen lime"
    " springgreen mediumspringgreen darkseagreen mediumaquamarine yellowgreen lawngreen chartreuse lightgreen"
    " greenyellow palegreen lightseagreen mediumturquoise turquoise aquamarine",
    "orange": "orangered tomato darkorange coral orange",
    "pink": "mediumvioletred deeppink palevioletred hotpink lightpink pink",
    "purple": "indigo purple darkmagenta darkviolet darkslateblue blueviolet darkorchid fuchsia slateblue"
    " mediumslateblue mediumorchid mediumpurple orchid violet plum thistle lavender",
    "red": "darkred red firebrick crimson indianred lightcoral salmon darksalmon lightsalmon",
    "white": "mistyrose antiquewhite linen beige whitesmoke lavenderblush oldlace aliceblue seashell ghostwhite"
    " honeydew floralwhite azure mintcream snow ivory white blanchedalmond cornsilk",
    "yellow": "darkkhaki gold khaki peachpuff yellow palegoldenrod moccasin papayawhip lightgoldenrodyellow"
    " lemonchiffon lightyellow goldenrod wheat navajowhite bisque",
}

COLOR_TERMS = tuple(_CSS)
"""The eleven basic colour terms of Berlin and Kay (1969), in the order of their numbers."""

_VIVID = 13.0
"""Chroma of CIELAB from which on nothing is grey; the largest one of a named grey (darkslategray) is 12.3."""

_PLACES = (
    *("top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom", "bottom right"),
)  # fmt: skip
_LEVELS = ("dark", "mid", "bright")

_NAMES: dict[PixelKind, tuple[str, ...]] = {
    "color": tuple(f"{term}-c" for term in COLOR_TERMS),  # Broden's way of writing colours
    "position": _PLACES,
    "brightness": _LEVELS,
}

_TO_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
_WHITE = np.array([0.95047, 1.0, 1.08883])


def cielab(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return ``L*, a*, b*`` (CIE 1976, white D65) of sRGB values ``(…, 3)`` from 0 to 255 (IEC 61966-2-1)."""
    values = pixels / 255.0
    linear = np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92)
    ratio = linear @ _TO_XYZ.T / _WHITE
    root = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = root[..., 0], root[..., 1], root[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


@cache
def _term_table() -> NDArray[np.uint8]:
    """Return the term of each colour of `color_map`'s steps, ``(64, 64, 64)`` by red, green and blue."""
    pairs = [(term, name) for term, names in enumerate(_CSS.values()) for name in names.split()]
    prototypes = cielab(np.array([ImageColor.getrgb(name)[:3] for _, name in pairs], np.uint8))
    terms = np.array([term for term, _ in pairs], np.uint8)
    table = np.empty((64, 64, 64), np.uint8)
    middles = np.arange(2, 256, 4, dtype=np.uint8)
    for red in range(64):  # one step of red at a time, for the sake of memory
        colours = cielab(np.stack(np.broadcast_arrays(middles[red], middles[:, None], middles[None]), axis=-1))
        # |p|² - 2 x·p has its least where |x - p|² has.
        distance = (prototypes**2).sum(1) - 2 * colours @ prototypes.T
        vivid = np.hypot(colours[..., 1], colours[..., 2]) >= _VIVID
        distance[vivid[..., None] & (terms == COLOR_TERMS.index("grey"))] = np.inf
        table[red] = terms[distance.argmin(-1)]
    return table


def color_map(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return the basic colour term of each pixel of ``(h, w, 3)``, as places in `COLOR_TERMS`.

    The term is that of the named colour of CSS which is nearest in CIELAB (Euclidean distance, CIE 1976) to the
    middle of the pixel's step, four values of red, green and blue wide: (0, 101, 255) counts as (2, 102, 254). Where
    the chroma is 13 or more, greys are left out: few named colours are dull, and they would take all dull pixels.
    """
    red, green, blue = np.moveaxis(pixels >> 2, -1, 0)
    found: NDArray[np.int32] = _term_table()[red, green, blue].astype(np.int32)
    return found


def position_map(size: tuple[int, int]) -> NDArray[np.int32]:
    """Return the cell 0 to 8 of each pixel's centre in a grid of three rows and columns over ``(h, w)``."""
    rows, columns = ((2 * np.arange(count, dtype=np.int32) + 1) * 3 // (2 * count) for count in size)
    found: NDArray[np.int32] = (3 * rows[:, None] + columns[None]).astype(np.int32)
    return found


def brightness_map(pixels: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return 0 where ``L*`` of CIELAB is below 100/3, 1 below 200/3, else 2, for pixels ``(h, w, 3)``."""
    lightness = cielab(pixels)[..., 0]
    return (lightness >= 100 / 3).astype(np.int32) + (lightness >= 200 / 3)


def _pixels(image: Any, size: tuple[int, int], what: str) -> NDArray[np.uint8]:
    """Return an image squashed to ``size``, each pixel the mean of those that it covers (Pillow's BOX), as RGB."""
    if isinstance(image, torch.Tensor):
        raise DataError(
            f"{what} is a preprocessed tensor, whose colours cannot be known: ask for 'position' only, or give"
            " files or pictures"
        )
    try:
        if not isinstance(image, Path):
            return np.asarray(image.convert("RGB").resize(size[::-1], Image.Resampling.BOX))
        with Image.open(image) as picture:
            return np.asarray(picture.convert("RGB").resize(size[::-1], Image.Resampling.BOX))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{what}: {image} cannot be read ({error}): replace the file") from None


@dataclass(frozen=True, eq=False)
class _PixelLabels:
    """Labels of a probe set with layers of concepts made from pixels."""

    labels: Callable[[int, tuple[int, int]], Labels]
    images: Sequence[Any]
    names: tuple[str, ...]
    first: tuple[tuple[PixelKind, int], ...]
    """The kinds, each with the number of its first concept."""

    def __call__(self, index: int, size: tuple[int, int]) -> Labels:
        """Return the labels of image ``index`` at ``size = (height, width)``."""
        found = self.labels(index, size)
        look = any(kind != "position" for kind, _ in self.first)
        pixels = _pixels(self.images[index], size, f"image {self.names[index]!r}") if look else None
        layers = [first + _layer(kind, pixels, size) for kind, first in self.first]
        annotated = found.annotated
        return replace(
            found,
            maps=np.concatenate([found.maps, np.stack(layers).astype(np.int32)]),
            annotated=None if annotated is None else (*annotated, *(kind for kind, _ in self.first)),
        )


def _layer(kind: PixelKind, pixels: NDArray[np.uint8] | None, size: tuple[int, int]) -> NDArray[np.int32]:
    if pixels is None or kind == "position":
        return position_map(size)
    return color_map(pixels) if kind == "color" else brightness_map(pixels)


def _with_images(probe: ProbeSet) -> tuple[tuple[Path, ...], ...]:
    """Return the files behind each image's labels and colours; none where images are not files."""
    paths = [Path(image) for image in probe.images if isinstance(image, str | Path)]
    if len(paths) < len(probe) or not probe.files:
        return ()
    return tuple((*row, path) for row, path in zip(probe.files, paths, strict=True))


def with_pixel_concepts(
    probe: ProbeSet, kinds: PixelKind | Sequence[PixelKind] = ("color", "position", "brightness")
) -> ProbeSet:
    """Return a probe set with concepts made from its pixels, each kind in a label layer and category of its own.

    Parameters
    ----------
    probe
        The set; its images are files or pictures, unless only ``"position"`` is asked for.
    kinds
        ``"color"``: the eleven basic terms (Berlin and Kay 1969), ``"red-c"`` and so on as in Broden: the term of the
        named colour of CSS nearest in CIELAB. ``"position"``: three by three places, ``"top left"`` to
        ``"bottom right"``. ``"brightness"``: ``"dark"``, ``"mid"``, ``"bright"``, thirds of CIELAB's lightness.

    Returns
    -------
    ProbeSet
        Its labels look at each image squashed to their resolution, as the network sees it: every pixel is the mean
        (of sRGB values) of the stored pixels that it covers. No pixel is without colour, place and brightness.

    Raises
    ------
    InputError
        No kinds, or an unknown one.
    DataError
        A concept of that name is there already; preprocessed tensors, for colour and brightness.
    """
    chosen: list[PixelKind] = list(dict.fromkeys((kinds,) if isinstance(kinds, str) else kinds))
    wrong = [kind for kind in chosen if kind not in _NAMES]
    if wrong or not chosen:
        told = f"unknown kind {wrong[0]!r}{near(str(wrong[0]), _NAMES)}" if wrong else "there are no kinds"
        raise InputError(f"{told}: give some of {', '.join(_NAMES)}")
    known = {concept.name for concept in probe.concepts}
    added = [Concept(name, kind) for kind in chosen for name in _NAMES[kind]]
    clash = [concept.name for concept in added if concept.name in known]
    if clash:
        raise DataError(f"{probe.name} has concept {clash[0]!r} already: leave out the kind that makes it again")
    if len(probe) and isinstance(probe.images[0], torch.Tensor) and chosen != ["position"]:
        _pixels(probe.images[0], (1, 1), f"image {probe.names[0]!r} of {probe.name}")
    sizes = [0, *np.cumsum([len(_NAMES[kind]) for kind in chosen]).tolist()]
    first = tuple((kind, len(probe.concepts) + start) for kind, start in zip(chosen, sizes, strict=False))
    return replace(
        probe,
        concepts=(*probe.concepts, *added),
        labels=_PixelLabels(probe.labels, probe.images, probe.names, first),
        hash=hashlib.sha256(f"{probe.hash}\npixels: {' '.join(chosen)}".encode()).hexdigest(),
        files=probe.files if chosen == ["position"] else _with_images(probe),
    )

"""Sheets of results: the maps of an image by class and by method, with names, scores, scales and boxes.

What a sheet is put together from (colours, overlays, panels, grids) is in `explain.drawing`, and is given out here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from explain.drawing import (
    PAPER,
    Map,
    Picture,
    as_array,
    as_img_tag,
    as_picture,
    colorize,
    draw_boxes,
    grid,
    overlay,
    panel,
    stacked,
)
from explain.errors import InputError
from explain.opencv import largest_component

if TYPE_CHECKING:
    from explain.types import Geometry, Saliency

__all__ = [
    "as_img_tag",
    "as_picture",
    "box_of",
    "colorize",
    "compare",
    "draw_boxes",
    "grid",
    "overlay",
    "panel",
    "saliency_overlay",
    "saliency_picture",
    "shared_scale",
]

Box = tuple[int, int, int, int]
KnownBoxes = Sequence[Sequence[float] | None]
"""One box (or None) per class, in pixels of the result's frame."""

_PANEL, _COLUMNS = 320, 6


def box_of(values: Map, threshold: float = 0.2) -> Box | None:
    """Return the half-open box of the largest 8-connected region above ``threshold`` of the map's maximum.

    ``values`` ``(h, w)`` are at the resolution that the box is wanted in. Without a positive maximum, or with
    nothing above the threshold, there is no box.
    """
    array = np.nan_to_num(as_array(values), nan=-np.inf)
    top = array.max(initial=-np.inf)
    if not top > 0 or not np.isfinite(top):
        return None
    return largest_component(array > array.dtype.type(threshold) * top)


def saliency_picture(
    saliency: Saliency, index: int = 0, *, boxes: bool | KnownBoxes = True, image: Picture | None = None
) -> Image.Image:
    """Return image ``index`` of a result with its maps as one picture.

    The photo (for tensors: the maps alone), then one panel per class: the map over the photo, class name and
    logit above, the raw scale below, and with ``boxes`` the box of the 20 % rule.

    Parameters
    ----------
    boxes
        False: none. A list: these boxes (or None), one per class, in pixels of ``saliency.frame``.
    image
        The picture to lie under the maps, where the result has none: the tensor ``(c, h, w)`` that was explained,
        a file, … (see `explain.pictures.as_picture`).
    """
    photo, place = _ground(saliency, index, image)
    panels = _map_panels(saliency, index, photo, place, boxes)
    if photo is not None:
        panels.insert(0, _photo_panel(photo, place))
    return stacked([(_note(saliency), grid(panels, min(len(panels), _COLUMNS)))])


def compare(
    saliencies: Sequence[Saliency],
    index: int = 0,
    *,
    boxes: bool | Sequence[bool | KnownBoxes] = True,
    image: Picture | None = None,
) -> Image.Image:
    """Return image ``index`` as several results see it: a row per result (method, layer, model), a column per class.

    Each map has its own raw scale: the units of different methods cannot be compared, places can.

    Parameters
    ----------
    saliencies
        Results on the same images; classes may differ, and stand above each map.
    boxes
        False: none. A list: for each result, what `saliency_picture` takes.
    image
        See `saliency_picture`.

    Raises
    ------
    InputError
        No results, or results on different numbers of images.
    """
    if not saliencies or len({len(one) for one in saliencies}) > 1:
        counts = ", ".join(str(len(one)) for one in saliencies) or "none"
        raise InputError(f"compare needs results on the same images, got results on {counts}: give at least one")
    rows = []
    columns = max(one.values.shape[1] for one in saliencies)
    for number, saliency in enumerate(saliencies):
        photo, place = _ground(saliency, index, image)
        known = boxes if isinstance(boxes, bool) else boxes[number]
        panels = _map_panels(saliency, index, photo, place, known)
        size = panels[0].size
        panels += [Image.new("RGB", size, PAPER)] * (columns - len(panels))
        if photo is not None:
            panels.insert(0, _photo_panel(photo, place) if number == 0 else Image.new("RGB", size, PAPER))
        rows.append((_note(saliency), grid(panels, len(panels))))
    return stacked(rows)


def saliency_overlay(
    saliency: Saliency,
    index: int,
    rank: int,
    *,
    longest: int = 480,
    image: Picture | None = None,
    scale: tuple[float, float] | None = None,
) -> Image.Image:
    """Return one map over its photo, in the photo's proportions, without title, colour bar or box.

    ``scale``: the raw values (low, high) that the colours span; the map's own where None. See `shared_scale`.
    """
    photo, place = _ground(saliency, index, image)
    if photo is None:
        raise InputError("maps of tensors have no photo to lie over: explain pictures, or give image=")
    factor = min(1.0, longest / max(photo.size))
    size = (max(1, round(photo.height * factor)), max(1, round(photo.width * factor)))
    shown = _spread(_enlarging(saliency, index, rank), size, place.scaled(size))
    low, high = scale or (None, None)
    return overlay(photo.resize(size[::-1], Image.Resampling.LANCZOS), shown, alpha=0.5, low=low, high=high)


def shared_scale(saliency: Saliency, index: int) -> tuple[float, float]:
    """Return the lowest and the highest raw value of all maps of an image, zero between them.

    Maps of several classes that are drawn on it can be compared by their colours.
    """
    values = saliency.values[index].detach().float()
    finite = values[values.isfinite()]
    if not len(finite):
        return 0.0, 0.0
    return min(0.0, float(finite.min())), max(0.0, float(finite.max()))


@dataclass(frozen=True)
class _Place:
    """Where a map lies."""

    size: tuple[int, int]
    """(height, width) of the frame that boxes are in."""
    region: tuple[float, float, float, float]
    """(top, left, bottom, right) of what the map covers, in that frame."""
    panel: tuple[int, int]
    """(width, height) of the picture that is drawn."""

    def scaled(self, size: tuple[int, int]) -> list[float]:
        """Return the region in a picture of ``size = (height, width)``."""
        factors = (size[0] / self.size[0], size[1] / self.size[1]) * 2
        return [edge * by for edge, by in zip(self.region, factors, strict=True)]


def _ground(saliency: Saliency, index: int, image: Picture | None) -> tuple[Image.Image | None, _Place]:
    """Return the picture that lies under the maps of an image, if there is one, and where they lie on it."""
    if not -len(saliency) <= index < len(saliency):
        raise InputError(f"there is no image {index}: the result has {len(saliency)} image(s)")
    if image is None and saliency.images is not None:
        image = saliency.images[index]
    photo = as_picture(image) if image is not None else None
    geometry = saliency.geometries[index] if saliency.geometries is not None else None
    return photo, _place(photo, geometry, saliency.input_size)


def _place(photo: Image.Image | None, geometry: Geometry | None, input_size: tuple[int, int]) -> _Place:
    size = (photo.height, photo.width) if photo is not None else input_size
    region = (0.0, 0.0, float(size[0]), float(size[1]))
    if geometry is not None:
        size = geometry.original
        top, left = geometry.offset
        height, width = (pixels * scale for pixels, scale in zip(geometry.input, geometry.scale, strict=True))
        region = (top, left, top + height, left + width)
    factor = min(_PANEL / size[0], 1.5 * _PANEL / size[1])
    return _Place(size, region, (max(1, round(size[1] * factor)), max(1, round(size[0] * factor))))


def _enlarging(saliency: Saliency, index: int, rank: int) -> Callable[[tuple[int, int]], NDArray[Any]]:
    """Return what upsamples one map to (height, width), laid over the input as ``saliency.align`` says."""
    plane = torch.from_numpy(as_array(saliency.values[index, rank]))[None, None]
    return lambda size: saliency.upsampled(plane, size)[0, 0].numpy()


def _spread(
    enlarge: Callable[[tuple[int, int]], NDArray[Any]], size: tuple[int, int], region: Sequence[float]
) -> NDArray[Any]:
    """Upsample a map to ``region`` (rounded to pixels) of an image of ``size``; NaN outside it."""
    top, left, bottom, right = (round(edge) for edge in region)
    inner = enlarge((max(1, bottom - top), max(1, right - left)))
    if (top, left, bottom, right) == (0, 0, *size):
        return inner
    canvas = np.full(size, np.nan, dtype=inner.dtype)
    upper, outer = max(0, top), max(0, left)
    piece = inner[upper - top : size[0] - top, outer - left : size[1] - left]
    canvas[upper : upper + piece.shape[0], outer : outer + piece.shape[1]] = piece
    return canvas


def _note(saliency: Saliency) -> str:
    """Return the line under a row of maps: method, layer, exact or not."""
    exact = "exact" if saliency.exact else "not exact"
    residual = f", residual {saliency.residual:.1e}" if math.isfinite(saliency.residual) else ""
    return f"{saliency.method} at {saliency.layer}: {exact}{residual}"


def _photo_panel(photo: Image.Image, place: _Place) -> Image.Image:
    return panel(photo.resize(place.panel, Image.Resampling.LANCZOS))


def _map_panels(
    saliency: Saliency, index: int, photo: Image.Image | None, place: _Place, boxes: bool | KnownBoxes
) -> list[Image.Image]:
    """One panel per class: the map over the photo (or alone), its box, its title and its scale."""
    width, height = place.panel
    ground = photo.resize(place.panel, Image.Resampling.LANCZOS) if photo is not None else None
    panels = []
    for rank in range(saliency.values.shape[1]):
        values = as_array(saliency.values[index, rank])
        low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
        enlarge = _enlarging(saliency, index, rank)
        shown = _spread(enlarge, (height, width), place.scaled((height, width)))
        if ground is None:
            picture = Image.fromarray(colorize(shown, low, high))
        else:
            picture = overlay(ground, shown, low=low, high=high)
        if isinstance(boxes, bool):
            box: Sequence[float] | None = box_of(_spread(enlarge, place.size, place.region)) if boxes else None
        else:
            box = boxes[rank]
        factors = (width / place.size[1], height / place.size[0]) * 2
        drawn = [[edge * by for edge, by in zip(box, factors, strict=True)]] if box is not None else []
        name = saliency.name(int(saliency.classes[index, rank]))
        number = f"  {float(saliency.scores[index, rank]):.2f}"
        panels.append(panel(picture, name, number, (low, high), drawn))
    return panels

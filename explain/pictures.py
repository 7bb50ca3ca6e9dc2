"""Pictures from maps, boxes and photos: tensors, arrays and Pillow, no model.

Numbers stay visible: a map's colours have a bar with the raw scale beside them, and zero is dark, so that
evidence for a class (warm) and against it (blue) cannot be confused with the absence of both.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from explain.errors import InputError
from explain.opencv import largest_component

if TYPE_CHECKING:
    from explain.types import Geometry, Saliency

__all__ = ["as_img_tag", "box_of", "colorize", "draw_boxes", "grid", "overlay", "saliency_picture"]

Map = NDArray[Any] | Tensor
Box = tuple[int, int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Equally spaced points of matplotlib's "inferno" (CC0), and a blue counterpart that starts at the same black.
# Lightness rises along both, so they also read in grey and for colour-blind eyes.
_WARM = (
    "000004 0c0826 240c4f 420a68 5d126e 781c6d 932667 ae305c c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4"
)
_COLD = "000004 08152e 0c2a52 124074 1d5793 3070ab 4a89be 6ba2cf 8fbbde b5d3ea dcebf6"

_INK, _MUTED, _PAPER, _BOX = (28, 27, 25), (98, 95, 90), (255, 255, 255), (0, 230, 160)
_PANEL, _GAP, _BAR = 320, 14, 12


def colorize(values: Map, low: float | None = None, high: float | None = None) -> NDArray[np.uint8]:
    """Return RGB colours ``(h, w, 3)`` of a map ``(h, w)``.

    From ``low`` (dark) to ``high`` (bright); the map's own minimum and maximum where not given. Where ``low``
    is negative, zero is dark: positive values are warm, negative ones blue, both on the same scale. A flat
    map is dark, and so is what is not finite.
    """
    array = _array(values).astype(np.float64)
    finite = np.isfinite(array)
    array = np.where(finite, array, 0.0)
    low = (float(array.min()) if finite.any() else 0.0) if low is None else low
    high = (float(array.max()) if finite.any() else 0.0) if high is None else high
    start, scale = (0.0, max(-low, high)) if low < 0 else (low, high - low)
    level = (array - start) / scale if scale > 0 else np.zeros_like(array)
    level[~finite] = 0.0
    warm, cold = _look_up(_WARM, level), _look_up(_COLD, -level)
    return np.where(level[..., None] < 0, cold, warm)


def overlay(
    image: Image.Image,
    values: Map,
    *,
    alpha: float = 0.6,
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """Lay the colours of a map ``(h, w)`` over a picture; the map is upsampled to it (bilinear).

    Places where a map of the picture's own size is NaN show the picture untouched.
    """
    photo = np.asarray(image.convert("RGB"), dtype=np.float32)
    array = _array(values)
    if array.shape != photo.shape[:2]:
        array = _upsample(array, (photo.shape[0], photo.shape[1]))
    weight = np.where(np.isnan(array), 0.0, alpha)[..., None].astype(np.float32)
    mixed = photo * (1 - weight) + colorize(array, low, high) * weight
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def draw_boxes(
    image: Image.Image,
    boxes: Sequence[Sequence[float]],
    colors: Sequence[tuple[int, int, int]] | None = None,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """Draw half-open boxes ``(x1, y1, x2, y2)`` on a copy of a picture, each with its colour and label."""
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 160))
    font = _font(max(11, round(max(picture.size) / 26)))
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        color = colors[index] if colors else _BOX
        right, bottom = max(x2 - 1, x1), max(y2 - 1, y1)  # Pillow's rectangles include their last pixel
        draw.rectangle((x1 - 1, y1 - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=width + 2)
        draw.rectangle((x1, y1, right, bottom), outline=color, width=width)
        if labels and labels[index]:
            text = _plain(labels[index])
            place = (x1 + width + 2, y1 + width + 1)
            draw.rectangle(draw.textbbox(place, text, font=font), fill=(0, 0, 0))
            draw.text(place, text, fill=color, font=font)
    return picture


def grid(images: Sequence[Image.Image], columns: int, labels: Sequence[str] | None = None) -> Image.Image:
    """Arrange pictures in rows of ``columns``, each with its label above it, on white."""
    if not images or columns < 1:
        raise InputError(f"a grid needs pictures and at least one column, got {len(images)} and {columns}")
    font = _font(15)
    width, height = max(image.width for image in images), max(image.height for image in images)
    head = 24 if labels else 0
    rows, columns = math.ceil(len(images) / columns), min(columns, len(images))
    size = (columns * (width + _GAP) + _GAP, rows * (height + head + _GAP) + _GAP)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(images):
        left = _GAP + index % columns * (width + _GAP)
        top = _GAP + index // columns * (height + head + _GAP)
        if labels:
            draw.text((left, top), _fit(labels[index], font, width), fill=_INK, font=font)
        sheet.paste(image, (left, top + head))
    return sheet


def box_of(values: Map, threshold: float = 0.2) -> Box | None:
    """Return the half-open box of the largest 8-connected region above ``threshold`` of the map's maximum.

    ``values`` ``(h, w)`` are at the resolution that the box is wanted in. Without a positive maximum, or with
    nothing above the threshold, there is no box.
    """
    array = np.nan_to_num(_array(values), nan=-np.inf)
    top = array.max(initial=-np.inf)
    if not top > 0 or not np.isfinite(top):
        return None
    return largest_component(array > array.dtype.type(threshold) * top)


def saliency_picture(saliency: Saliency, index: int = 0, *, boxes: bool = True) -> Image.Image:
    """Return image ``index`` of a result with its maps as one picture.

    The photo (for tensors: the maps alone), then one panel per class: the map over the photo, class name and
    logit above, the raw scale below, and with ``boxes`` the box of the 20 % rule.
    """
    if not -len(saliency) <= index < len(saliency):
        raise InputError(f"there is no image {index}: the result has {len(saliency)} image(s)")
    photo = saliency.images[index].convert("RGB") if saliency.images is not None else None
    geometry = saliency.geometries[index] if saliency.geometries is not None else None
    place = _place(photo, geometry, saliency.input_size)
    ranks = range(saliency.values.shape[1])
    panels = [_map_panel(saliency, index, rank, photo, place, boxes) for rank in ranks]
    if photo is not None:
        panels.insert(0, _panel(photo.resize(place.panel, Image.Resampling.LANCZOS), ("", ""), None))
    sheet = grid(panels, min(len(panels), 6))
    exact = "exact" if saliency.exact else "not exact"
    note = f"{saliency.method} at {saliency.layer}: {exact}, residual {saliency.residual:.1e}"
    font = _font(13)
    foot = Image.new("RGB", (sheet.width, sheet.height + 24), _PAPER)
    foot.paste(sheet, (0, 0))
    text = _fit(note, font, sheet.width - 2 * _GAP)
    ImageDraw.Draw(foot).text((_GAP, sheet.height), text, fill=_MUTED, font=font)
    return foot


def saliency_overlay(saliency: Saliency, index: int, rank: int, *, longest: int = 480) -> Image.Image:
    """Return one map over its photo, in the photo's proportions, without title, scale or box."""
    if saliency.images is None:
        raise InputError("maps of tensors have no photo to lie over: explain pictures instead")
    photo = saliency.images[index].convert("RGB")
    geometry = saliency.geometries[index] if saliency.geometries is not None else None
    place = _place(photo, geometry, saliency.input_size)
    factor = min(1.0, longest / max(photo.size))
    size = (max(1, round(photo.height * factor)), max(1, round(photo.width * factor)))
    factors = (size[0] / place.size[0], size[1] / place.size[1]) * 2
    region = [edge * by for edge, by in zip(place.region, factors, strict=True)]
    shown = _spread(_array(saliency.values[index, rank]), size, region)
    return overlay(photo.resize(size[::-1], Image.Resampling.LANCZOS), shown, alpha=0.5)


def as_img_tag(image: Image.Image, alt: str = "class maps over the image") -> str:
    """Return an ``<img>`` tag that carries the picture itself (WebP), for notebooks and reports."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="WEBP", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}"'
        f' alt="{html.escape(alt)}" style="max-width:100%;height:auto">'
    )


@dataclass(frozen=True)
class _Place:
    """Where a map lies."""

    size: tuple[int, int]
    """(height, width) of the frame that boxes are in."""
    region: tuple[float, float, float, float]
    """(top, left, bottom, right) of what the map covers, in that frame."""
    panel: tuple[int, int]
    """(width, height) of the picture that is drawn."""


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


def _spread(values: NDArray[Any], size: tuple[int, int], region: Sequence[float]) -> NDArray[Any]:
    """Upsample a map to ``region`` (rounded to pixels) of an image of ``size``; NaN outside it."""
    top, left, bottom, right = (round(edge) for edge in region)
    inner = _upsample(values, (max(1, bottom - top), max(1, right - left)))
    if (top, left, bottom, right) == (0, 0, *size):
        return inner
    canvas = np.full(size, np.nan, dtype=inner.dtype)
    upper, outer = max(0, top), max(0, left)
    piece = inner[upper - top : size[0] - top, outer - left : size[1] - left]
    canvas[upper : upper + piece.shape[0], outer : outer + piece.shape[1]] = piece
    return canvas


def _map_panel(
    saliency: Saliency, index: int, rank: int, photo: Image.Image | None, place: _Place, boxes: bool
) -> Image.Image:
    """One class: the map over the photo (or alone), its box, its title and its scale."""
    values = _array(saliency.values[index, rank])
    low, high = min(0.0, float(values.min())), max(0.0, float(values.max()))
    width, height = place.panel
    factors = (height / place.size[0], width / place.size[1]) * 2
    region = [edge * by for edge, by in zip(place.region, factors, strict=True)]
    shown = _spread(values, (height, width), region)
    if photo is None:
        picture = Image.fromarray(colorize(shown, low, high))
    else:
        picture = overlay(photo.resize(place.panel, Image.Resampling.LANCZOS), shown, low=low, high=high)
    box = box_of(_spread(values, place.size, place.region)) if boxes else None
    if box is not None:
        x1, y1, x2, y2 = box
        picture = draw_boxes(picture, [(x1 * factors[1], y1 * factors[0], x2 * factors[1], y2 * factors[0])])
    name = saliency.name(int(saliency.classes[index, rank]))
    return _panel(picture, (name, f"  {float(saliency.scores[index, rank]):.2f}"), (low, high))


def _panel(picture: Image.Image, title: tuple[str, str], scale: tuple[float, float] | None) -> Image.Image:
    """A picture with its name and number above it and, where a scale is given, the colour bar below."""
    font, small = _font(16), _font(12)
    panel = Image.new("RGB", (picture.width, picture.height + 26 + _BAR + 24), _PAPER)
    draw = ImageDraw.Draw(panel)
    name, number = title
    name = _fit(name, font, picture.width - font.getlength(number))
    draw.text((0, 2), name + number, fill=_INK, font=font)
    panel.paste(picture, (0, 26))
    if scale is None:
        return panel
    low, high = scale
    top = 26 + picture.height + 6
    bar = np.linspace(low, high, picture.width)[None].repeat(_BAR, axis=0)
    panel.paste(Image.fromarray(colorize(bar, low, high)), (0, top))
    ticks = [(low, 0.0), (high, 1.0)]
    if low < 0 < high:
        ticks.insert(1, (0.0, -low / (high - low)))
    for value, share in ticks if high > low else [(0.0, 0.0)]:
        text = f"{value:.3g}"
        length = small.getlength(text)
        edge = min(max(0.0, share * picture.width - length / 2), picture.width - length)
        if value != 0 or not low < 0 < high or _GAP + length < edge < picture.width - 2 * length - _GAP:
            draw.text((edge, top + _BAR + 2), text, fill=_MUTED, font=small)
    return panel


def _array(values: Map) -> NDArray[Any]:
    array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"a map has two dimensions (height, width), got shape {tuple(array.shape)}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _upsample(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    resized: Tensor = F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0]
    return resized.numpy()


def _look_up(palette: str, level: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Interpolate a palette of hexadecimal colours at levels 0…1 (clipped)."""
    points = np.array([list(bytes.fromhex(color)) for color in palette.split()], dtype=np.float64)
    steps = np.linspace(0, 1, len(points))
    channels = [np.interp(level, steps, points[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _font(size: int) -> Font:
    return ImageFont.load_default(size)


def _plain(text: str) -> str:
    return " ".join(text.split())


def _fit(text: str, font: Font, width: float) -> str:
    """Return ``text`` on one line, shortened with an ellipsis where it would be wider than ``width``."""
    text = _plain(text)
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"

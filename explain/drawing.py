"""Colours, overlays, boxes, panels and grids: tensors, arrays, files and Pillow; no model and no result types.

Numbers stay visible: a map's colours have a bar with the raw scale beside them, and zero is dark, so that
evidence for a class (warm) and against it (blue) cannot be confused with the absence of both.
"""

from __future__ import annotations

import base64
import html
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps, UnidentifiedImageError
from torch import Tensor

from explain.errors import DataError, InputError

__all__ = ["Picture", "as_img_tag", "as_picture", "colorize", "draw_boxes", "grid", "overlay", "panel"]

Map = NDArray[Any] | Tensor
Picture = Image.Image | Tensor | NDArray[Any] | str | Path
"""A Pillow image, a tensor ``(c, h, w)``, a uint8 array ``(h, w)`` or ``(h, w, 3)``, or a file."""
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

# Equally spaced points of matplotlib's "inferno" (CC0), and a blue counterpart that starts at the same black.
# Lightness rises along both, so they also read in grey and for colour-blind eyes.
_WARM = (
    "000004 0c0826 240c4f 420a68 5d126e 781c6d 932667 ae305c c73e4c dd513a ed6925 f8850f fca50a fac62d f2e661 fcffa4"
)
_COLD = "000004 08152e 0c2a52 124074 1d5793 3070ab 4a89be 6ba2cf 8fbbde b5d3ea dcebf6"
_STEPS = 1024

INK, MUTED, PAPER, _BOX = (28, 27, 25), (98, 95, 90), (255, 255, 255), (0, 230, 160)
GAP, _BAR, _HEAD, _FOOT = 14, 12, 26, 24


def colorize(values: Map, low: float | None = None, high: float | None = None) -> NDArray[np.uint8]:
    """Return RGB colours ``(h, w, 3)`` of a map ``(h, w)``.

    From ``low`` (dark) to ``high`` (bright); the map's own minimum and maximum where not given. Where ``low``
    is negative, zero is dark: positive values are warm, negative ones blue, both on the same scale. A flat
    map is dark, and so is what is not finite.
    """
    array = as_array(values).astype(np.float64)
    finite = np.isfinite(array)
    array = np.where(finite, array, 0.0)
    low = (float(array.min()) if finite.any() else 0.0) if low is None else low
    high = (float(array.max()) if finite.any() else 0.0) if high is None else high
    start, scale = (0.0, max(-low, high)) if low < 0 else (low, high - low)
    level = (array - start) / scale if scale > 0 else np.zeros_like(array)
    level[~finite] = 0.0
    steps = np.rint(level.clip(-1, 1) * _STEPS).astype(np.intp) + _STEPS
    colors: NDArray[np.uint8] = _palette()[steps]
    return colors


def as_picture(image: Picture, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> Image.Image:
    """Return an RGB picture of whatever an image is given as.

    A floating point tensor ``(c, h, w)`` is an input of a network: with the subject's ``mean`` and ``std`` it is
    taken back to the photo's colours, without them its values are spread from its minimum to its maximum (all
    channels together, so that hues are kept). One channel, or any number but three, is shown in grey (the mean).
    A file is turned as its EXIF orientation says.

    Raises
    ------
    InputError
        A tensor or array of another shape or type; ``mean`` and ``std`` that do not fit the channels.
    DataError
        A file that is missing or cannot be decoded.
    """
    if isinstance(image, Image.Image):
        return image.convert("RGB")
    if isinstance(image, (str, Path)):
        return _opened(Path(image))
    if isinstance(image, Tensor) and image.ndim == 3 and image.dtype != torch.uint8:
        return _of_input(image.detach().float().cpu(), mean, std)
    array = image.detach().cpu().movedim(0, -1).numpy() if isinstance(image, Tensor) and image.ndim == 3 else image
    if isinstance(array, np.ndarray) and array.dtype == np.uint8:
        array = array[..., 0] if array.ndim == 3 and array.shape[2] == 1 else array
        if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
            return Image.fromarray(np.ascontiguousarray(array)).convert("RGB")
    shape = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, (Tensor, np.ndarray)) else type(image).__name__
    raise InputError(f"{shape} is no picture: give a tensor (c, h, w), a uint8 array (h, w, 3), a PIL image or a file")


def overlay(
    image: Picture,
    values: Map,
    *,
    alpha: float = 0.6,
    low: float | None = None,
    high: float | None = None,
) -> Image.Image:
    """Lay the colours of a map ``(h, w)`` over a picture (see `as_picture`); the map is upsampled to it (bilinear).

    Places where a map of the picture's own size is NaN show the picture untouched.
    """
    photo = np.asarray(as_picture(image), dtype=np.float32)
    array = as_array(values)
    if array.shape != photo.shape[:2]:
        array = upsample(array, (photo.shape[0], photo.shape[1]))
    weight = np.where(np.isnan(array), 0.0, alpha)[..., None].astype(np.float32)
    mixed = photo * (1 - weight) + colorize(array, low, high) * weight
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def panel(
    picture: Picture,
    title: str = "",
    number: str = "",
    scale: tuple[float, float] | None = None,
    boxes: Sequence[Sequence[float]] = (),
) -> Image.Image:
    """Return a picture with its title above it and the colour bar of ``scale = (low, high)``, in raw units, below.

    A long title is shortened, the ``number`` after it is not. ``boxes``: half-open, in pixels of the picture.
    """
    shown = as_picture(picture)
    if boxes:
        shown = draw_boxes(shown, boxes)
    text_font, small = font(16), font(12)
    whole = Image.new("RGB", (shown.width, shown.height + _HEAD + _BAR + _FOOT), PAPER)
    draw = ImageDraw.Draw(whole)
    title = fit(title, text_font, shown.width - text_font.getlength(number))
    draw.text((0, 2), title + number, fill=INK, font=text_font)
    whole.paste(shown, (0, _HEAD))
    if scale is None:
        return whole
    low, high = scale
    top = _HEAD + shown.height + 6
    bar = np.linspace(low, high, shown.width)[None].repeat(_BAR, axis=0)
    whole.paste(Image.fromarray(colorize(bar, low, high)), (0, top))
    for edge, text in _ticks(low, high, shown.width, small):
        draw.text((edge, top + _BAR + 2), text, fill=MUTED, font=small)
    return whole


def _ticks(low: float, high: float, width: int, small: Font) -> list[tuple[float, str]]:
    """Return (left edge, text) of the numbers under a colour bar: both ends, and zero where there is room for it."""
    wanted = [(low, 0.0), (high, 1.0)] if high > low else [(0.0, 0.0)]
    if low < 0 < high:
        wanted.insert(1, (0.0, -low / (high - low)))
    found = []
    for value, share in wanted:
        text = f"{value:.3g}"
        length = small.getlength(text)
        edge = min(max(0.0, share * width - length / 2), width - length)
        if value != 0 or not low < 0 < high or GAP + length < edge < width - 2 * length - GAP:
            found.append((edge, text))
    return found


def draw_boxes(
    image: Picture,
    boxes: Sequence[Sequence[float]],
    colors: Sequence[tuple[int, int, int]] | None = None,
    labels: Sequence[str] | None = None,
) -> Image.Image:
    """Draw half-open boxes ``(x1, y1, x2, y2)`` on a copy of a picture, each with its colour and label."""
    picture = as_picture(image)
    picture = picture.copy() if picture is image else picture
    draw = ImageDraw.Draw(picture)
    width = max(2, round(max(picture.size) / 160))
    text_font = font(max(11, round(max(picture.size) / 26)))
    for index, (x1, y1, x2, y2) in enumerate(boxes):
        color = colors[index] if colors else _BOX
        right, bottom = max(x2 - 1, x1), max(y2 - 1, y1)  # Pillow's rectangles include their last pixel
        draw.rectangle((x1 - 1, y1 - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=width + 2)
        draw.rectangle((x1, y1, right, bottom), outline=color, width=width)
        if labels and labels[index]:
            text = _plain(labels[index])
            place = (x1 + width + 2, y1 + width + 1)
            draw.rectangle(draw.textbbox(place, text, font=text_font), fill=(0, 0, 0))
            draw.text(place, text, fill=color, font=text_font)
    return picture


def grid(images: Sequence[Picture], columns: int, labels: Sequence[str] | None = None) -> Image.Image:
    """Arrange pictures in rows of ``columns``, each with its label above it, on white."""
    if not len(images) or columns < 1:
        raise InputError(f"a grid needs pictures and at least one column, got {len(images)} and {columns}")
    pictures = [as_picture(image) for image in images]
    text_font = font(15)
    width, height = max(image.width for image in pictures), max(image.height for image in pictures)
    head = 24 if labels else 0
    rows, columns = math.ceil(len(pictures) / columns), min(columns, len(pictures))
    size = (columns * (width + GAP) + GAP, rows * (height + head + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for index, image in enumerate(pictures):
        left = GAP + index % columns * (width + GAP)
        top = GAP + index // columns * (height + head + GAP)
        if labels:
            draw.text((left, top), fit(labels[index], text_font, width), fill=INK, font=text_font)
        sheet.paste(image, (left, top + head))
    return sheet


def stacked(parts: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Return pictures one below the other, each with a line of text under it, on white."""
    text_font = font(13)
    width = max(picture.width for _, picture in parts)
    whole = Image.new("RGB", (width, sum(picture.height + 24 for _, picture in parts)), PAPER)
    draw, top = ImageDraw.Draw(whole), 0
    for text, picture in parts:
        whole.paste(picture, (0, top))
        top += picture.height
        draw.text((GAP, top), fit(text, text_font, width - 2 * GAP), fill=MUTED, font=text_font)
        top += 24
    return whole


def as_img_tag(image: Image.Image, alt: str = "class maps over the image") -> str:
    """Return an ``<img>`` tag that carries the picture itself (WebP), for notebooks and reports."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, format="WEBP", quality=85)
    data = base64.b64encode(buffer.getvalue()).decode("ascii")
    return (
        f'<img src="data:image/webp;base64,{data}" width="{image.width}" height="{image.height}"'
        f' alt="{html.escape(alt)}" style="max-width:100%;height:auto">'
    )


def as_array(values: Map) -> NDArray[Any]:
    """Return a map as a floating point array ``(h, w)``."""
    array = values.detach().cpu().float().numpy() if isinstance(values, Tensor) else np.asarray(values)
    if array.ndim != 2 or array.size == 0:
        raise InputError(f"a map has two dimensions (height, width), got shape {tuple(array.shape)}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def upsample(values: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize a map ``(h, w)`` to ``size``: bilinear, ``align_corners=False``."""
    tensor = torch.from_numpy(np.ascontiguousarray(values))[None, None]
    resized: Tensor = F.interpolate(tensor, size=size, mode="bilinear", align_corners=False)[0, 0]
    return resized.numpy()


def font(size: int) -> Font:
    """Return the font of pictures."""
    return ImageFont.load_default(size)


def fit(text: str, text_font: Font, width: float) -> str:
    """Return ``text`` on one line, shortened with an ellipsis where it would be wider than ``width``."""
    text = _plain(text)
    if text_font.getlength(text) <= width:
        return text
    while text and text_font.getlength(text + "…") > width:
        text = text[:-1]
    return text.rstrip() + "…"


def _plain(text: str) -> str:
    return " ".join(text.split())


def _palette() -> NDArray[np.uint8]:
    """Return the colours of levels -1…1 in equal steps: cold, black, warm."""
    return np.concatenate([_look_up(_COLD)[:0:-1], _look_up(_WARM)])


def _look_up(palette: str) -> NDArray[np.uint8]:
    """Interpolate a palette of hexadecimal colours at the levels 0…1."""
    points = np.array([list(bytes.fromhex(color)) for color in palette.split()], dtype=np.float64)
    level = np.linspace(0, 1, _STEPS + 1)
    steps = np.linspace(0, 1, len(points))
    channels = [np.interp(level, steps, points[:, channel]) for channel in range(3)]
    return np.rint(np.stack(channels, axis=-1)).astype(np.uint8)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as opened:
            return ImageOps.exif_transpose(opened).convert("RGB")
    except FileNotFoundError:
        raise DataError(f"image {path} does not exist") from None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise DataError(f"image {path} cannot be read: {(str(error).splitlines() or [repr(error)])[0]}") from None


def _of_input(values: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None) -> Image.Image:
    """Return the picture of a network's input ``(c, h, w)``."""
    if (mean is None) != (std is None):
        raise InputError("mean and std belong together: give both, or neither")
    if mean is not None and std is not None:
        if not len(mean) == len(std) == len(values):
            raise InputError(f"mean and std have {len(mean)} and {len(std)} values for {len(values)} channels")
        pixels = values * torch.tensor(std).view(-1, 1, 1) + torch.tensor(mean).view(-1, 1, 1)
    else:
        finite = values[values.isfinite()]
        low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
        pixels = (values - low) / (high - low) if high > low else torch.zeros_like(values)
    pixels = pixels.nan_to_num(0.0, 1.0, 0.0).clamp(0, 1)
    pixels = pixels if len(pixels) == 3 else pixels.mean(0, keepdim=True).expand(3, -1, -1)
    return Image.fromarray((pixels * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())

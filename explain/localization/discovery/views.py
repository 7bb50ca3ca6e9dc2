"""Some images of a data set, whole or cropped, read when they are asked for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from explain.nets.inputs import read_image

__all__ = ["View", "crop", "size_of"]


@dataclass(frozen=True, eq=False)
class View(Sequence[Any]):
    """Images by number, each cut to its box where there are boxes; plain data, so that workers can be sent a copy."""

    images: Any
    numbers: NDArray[np.int64]
    boxes: NDArray[np.float64] | None = None
    """``(n, 4)``, one per number: half-open xyxy in pixels of the stored image."""

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> View: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return View(self.images, self.numbers[index], self.boxes[index] if self.boxes is not None else None)
        source = self.images[int(self.numbers[index])]
        return source if self.boxes is None else crop(source, self.boxes[index])


def crop(source: Any, box: NDArray[np.float64]) -> Any:
    """Return the part of an image inside a box, its edges moved outwards to whole pixels.

    A picture keeps the size of the box (the transform brings it to the input's); a tensor ``(c, h, w)`` is resized to
    its own size, bilinear with antialiasing.
    """
    source = source if isinstance(source, Tensor) else read_image(source)
    height, width = size_of(source)
    left, top, right, bottom = _whole(box, width, height)
    if not isinstance(source, Tensor):
        return source.crop((left, top, right, bottom))
    part = source[None, :, top:bottom, left:right]
    return F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False, antialias=True)[0]


def _whole(box: NDArray[np.float64], width: int, height: int) -> tuple[int, int, int, int]:
    """Return a box in whole pixels, inside the image and with at least one pixel a side."""
    left = min(max(0, math.floor(box[0])), width - 1)
    top = min(max(0, math.floor(box[1])), height - 1)
    right = min(max(left + 1, math.ceil(box[2])), width)
    bottom = min(max(top + 1, math.ceil(box[3])), height)
    return left, top, right, bottom


def size_of(source: Any) -> tuple[int, int]:
    """Return (height, width) of an image."""
    if isinstance(source, Tensor):
        return int(source.shape[1]), int(source.shape[2])
    picture = read_image(source)
    return picture.height, picture.width

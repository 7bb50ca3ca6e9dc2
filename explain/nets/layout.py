"""How a layer's output lies: channels first, channels last, or a row of tokens; and its map ``(b, c, h, w)``.

Averaging a tensor over the wrong axes gives a map that looks like one and means nothing, without an error.
The layout is therefore read from the shape and the image's proportions, and what does not fit is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Layout", "layout_of"]

Kind = Literal["nchw", "nhwc", "tokens"]
PREFIX = 8
"""The most tokens that are no image patch (class token, distillation token, registers)."""


@dataclass(frozen=True)
class Layout:
    """Where rows, columns and channels are in a layer's output."""

    kind: Kind
    grid: tuple[int, int]
    """(height, width)."""
    channels: int
    prefix: int = 0
    """Tokens before those of the image: class token, registers."""

    def to_map(self, value: Tensor) -> Tensor:
        """Return a layer's output, or its gradient, as a map ``(b, c, h, w)``; a view where that can be."""
        if self.kind == "nchw":
            return value
        if self.kind == "nhwc":
            return value.permute(0, 3, 1, 2)
        tokens: Tensor = value[:, self.prefix :].transpose(1, 2).unflatten(2, self.grid)
        return tokens

    def from_map(self, feature_map: Tensor, original: Tensor) -> Tensor:
        """Return a map ``(b, c, h, w)`` in the layer's own layout; tokens before the image's come from ``original``.

        ``original`` ``(1 or b, …)`` is an output of the layer: the class token belongs to its image.
        """
        if self.kind == "nchw":
            return feature_map
        if self.kind == "nhwc":
            return feature_map.permute(0, 2, 3, 1)
        tokens = feature_map.flatten(2).transpose(1, 2)
        if self.prefix == 0:
            return tokens
        before = original[:, : self.prefix].to(tokens.device, tokens.dtype)
        return torch.cat([before.expand(len(tokens), -1, -1), tokens], 1)


def layout_of(
    shape: Sequence[int], image: tuple[int, int], grids: Iterable[tuple[int, int]] = (), *, batch: int | None = None
) -> Layout | None:
    """Return the layout of a tensor of ``shape`` for images of ``image = (height, width)``, or None if it is no map.

    Four dimensions are channels last where their first two, and not their last two, have the image's proportions.
    Three are tokens ``(b, n, c)``: ``n`` is a grid of the image's proportions (one of ``grids`` first: those seen
    earlier in the forward pass), after up to eight tokens that are no patch.
    """
    if batch is not None and (not shape or shape[0] != batch):
        return None
    if len(shape) == 4:
        return _of_four(shape, image)
    if len(shape) == 3 and shape[1] > 3:
        found = _token_grid(shape[1], image, tuple(grids))
        if found is not None:
            grid, prefix = found
            return Layout("tokens", grid, shape[2], prefix)
    return None


def _of_four(shape: Sequence[int], image: tuple[int, int]) -> Layout | None:
    _, first, second, third = shape
    if min(second, third) > 1 and (first < 2 or not _wrong(first, second, image) < _wrong(second, third, image)):
        return Layout("nchw", (second, third), first)
    if min(first, second) > 1:
        return Layout("nhwc", (first, second), third)
    return None


def _wrong(height: int, width: int, image: tuple[int, int]) -> float:
    """How far a grid is from the image's proportions, beyond what rounding each side up or down explains."""
    return max(0.0, abs(math.log(height / width * image[1] / image[0])) - math.log1p(1 / min(height, width)))


def _token_grid(
    tokens: int, image: tuple[int, int], grids: tuple[tuple[int, int], ...]
) -> tuple[tuple[int, int], int] | None:
    for height, width in reversed(grids):
        if 0 <= tokens - height * width <= PREFIX:
            return (height, width), tokens - height * width
    for prefix in range(PREFIX + 1):
        patches = tokens - prefix
        height = round(math.sqrt(max(0, patches) * image[0] / image[1]))
        if height > 1 and patches % height == 0 and patches // height > 1:
            grid = (height, patches // height)
            if _wrong(*grid, image) == 0.0:
                return grid, prefix
    return None

"""How a layer's output lies: channels first, channels last, or a row of tokens; and its map ``(b, c, h, w)``.

Averaging a tensor over the wrong axes gives a map that looks like one and means nothing, without an error.
The layout is therefore read from the shape and the image's proportions, and what does not fit is refused.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

__all__ = ["Layout", "Seen", "layout_of", "noting_layouts"]

Kind = Literal["nchw", "nhwc", "tokens"]
PREFIX = 8
"""The most tokens that are no image patch (class token, distillation token, registers)."""
GUESSED_PREFIX = 5
"""The same where no map was seen before, whose grid would settle it: a class token and four registers."""


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


class Seen:
    """What one forward pass has shown so far; modules' outputs are noted in order, each with its layout.

    Shapes alone can mislead: queries ``(b, heads, tokens, d)`` look like a map, and a row of 30 pooled channels like
    a grid of 5 x 6. A grid that a map had before, and the length of a row of tokens that was there, settle it.
    """

    def __init__(self, image: tuple[int, int], batch: int) -> None:
        self._image, self._batch = image, batch
        self._grids: list[tuple[int, int]] = []
        self._rows: set[int] = set()

    def layout(self, shape: Sequence[int]) -> Layout | None:
        """Return the layout of a tensor of this shape, or None if it is no map of the images."""
        return layout_of(shape, self._image, self._grids, batch=self._batch, rows=self._rows)

    def note(self, shape: Sequence[int]) -> Layout | None:
        """Return `layout`, and remember its grid."""
        found = self.layout(shape)
        if len(shape) == 3 and shape[0] == self._batch and shape[1] > 3 and shape[2] > 1:
            self._rows.add(shape[1])
        elif found is not None and found.grid not in self._grids[-1:]:
            self._grids.append(found.grid)
        return found


@contextmanager
def noting_layouts(model: nn.Module, images: Tensor) -> Iterator[dict[str, Layout | None]]:
    """Note how the outputs of the model's modules lie in a forward pass on ``images``, by name; the last call's."""
    found: dict[str, Layout | None] = {}
    thread = threading.get_ident()
    seen = Seen((images.shape[2], images.shape[3]), len(images))

    def noting(name: str) -> Callable[..., None]:
        def note(module: nn.Module, args: Any, value: Any) -> None:
            if threading.get_ident() == thread and isinstance(value, Tensor):
                found[name] = seen.note(value.shape)

        return note

    with ExitStack() as stack:
        for name, module in model.named_modules():
            if name:
                stack.callback(module.register_forward_hook(noting(name)).remove)
        yield found


def layout_of(
    shape: Sequence[int],
    image: tuple[int, int],
    grids: Sequence[tuple[int, int]] = (),
    *,
    batch: int | None = None,
    rows: Collection[int] = (),
) -> Layout | None:
    """Return the layout of a tensor of ``shape`` for images of ``image = (height, width)``, or None if it is no map.

    Four dimensions are channels last where their first two, and not their last two, have the image's proportions.
    Three are tokens ``(b, n, c)``: ``n`` is a grid of the image, after up to eight tokens that are no patch (five
    where ``grids`` says nothing).

    Parameters
    ----------
    grids
        The maps' grids earlier in the forward pass: tokens then have one of these, or one halved again and again.
    batch
        How many images there are; the tensor must have as many rows.
    rows
        Lengths of the rows of tokens earlier in the forward pass: a tensor with four dimensions one of which is such
        a length holds queries, keys or attention.
    """
    if batch is not None and (not shape or shape[0] != batch):
        return None
    if len(shape) == 4:
        return _of_four(shape, image, rows)
    if len(shape) == 3 and shape[1] > 3 and shape[2] > 1:
        found = _known_grid(shape[1], grids) if grids else _token_grid(shape[1], image)
        if found is not None:
            grid, prefix = found
            return Layout("tokens", grid, shape[2], prefix)
    return None


def _of_four(shape: Sequence[int], image: tuple[int, int], rows: Collection[int]) -> Layout | None:
    _, first, second, third = shape
    swapped = min(first, second) > 1
    if min(second, third) > 1:
        swapped = swapped and _wrong(first, second, image) < _wrong(second, third, image)
    elif swapped:
        swapped = _wrong(first, second, image) == 0.0
    if min(second, third) > 1 and not swapped:
        found = Layout("nchw", (second, third), first)
    elif swapped:
        found = Layout("nhwc", (first, second), third)
    else:
        return None
    height, width = found.grid
    if rows and _wrong(height, width, image) > 0.0:
        return None
    alike = any(0 <= row - height * width <= PREFIX for row in rows)
    return None if (height in rows or width in rows) and not alike else found


def _wrong(height: int, width: int, image: tuple[int, int]) -> float:
    """How far a grid is from the image's proportions, beyond what rounding each side up or down explains."""
    return max(0.0, abs(math.log(height / width * image[1] / image[0])) - math.log1p(1 / min(height, width)))


def _known_grid(tokens: int, grids: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], int] | None:
    for height, width in reversed(grids):
        for halvings in range(6):
            part = 2**halvings
            for up in (part - 1, 0):  # rounded up, rounded down
                grid = ((height + up) // part, (width + up) // part)
                if min(grid) > 1 and 0 <= tokens - grid[0] * grid[1] <= PREFIX:
                    return grid, tokens - grid[0] * grid[1]
    return None


def _token_grid(tokens: int, image: tuple[int, int]) -> tuple[tuple[int, int], int] | None:
    for prefix in range(GUESSED_PREFIX + 1):
        patches = tokens - prefix
        height = round(math.sqrt(max(0, patches) * image[0] / image[1]))
        if height < 2 or patches % height or patches // height < 2:
            continue
        if _rounded_alike(height, patches // height, image):
            return (height, patches // height), prefix
    return None


def _rounded_alike(height: int, width: int, image: tuple[int, int]) -> bool:
    """Tell whether one stride gives both sides of a grid, both rounded alike: a square image has a square grid."""
    least = min(image[0] / (height + 1), image[1] / (width + 1))
    most = max(image[0] / (height - 1), image[1] / (width - 1))
    differences = sorted((image[0] - image[1]) / stride for stride in (least, most))
    within = differences[0] - 1 < height - width < differences[1] + 1
    return within and _wrong(height, width, image) == 0.0

"""Where the cells of a layer look, and the grid they form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

import torch
from torch import Tensor, nn

from explain.maps import Cells
from explain.nets.modes import eval_mode, naming_errors
from explain.nets.record import recording
from explain.nets.traced import Spot

__all__ = ["Grid", "cells_at"]


class Grid(tuple[int, int]):
    """(height, width) of a map, with where its cells look: ``offset`` and ``stride`` (y, x), in input pixels."""

    cells: Cells

    def __new__(cls, size: tuple[int, int], cells: Cells) -> Self:
        """Make the grid of a map of ``size``."""
        grid = super().__new__(cls, size)
        grid.cells = cells
        return grid

    @property
    def offset(self) -> tuple[float, float]:
        """(y, x): the centre of cell (0, 0); 0 is the edge of the first pixel."""
        return self.cells.offset

    @property
    def stride(self) -> tuple[float, float]:
        """(y, x): from one cell to the next."""
        return self.cells.stride


def cells_at(model: nn.Module, images: Tensor, spot: Spot, run: Callable[[Tensor], Any] | None = None) -> Cells | None:
    """Return where the cells of a layer look, from one forward pass, or None where that cannot be followed.

    Parameters
    ----------
    images
        ``(b, c, h, w)``; one image will do.
    spot
        The layer, and which of its calls.
    run
        How the network is called; ``model(images)`` where None.
    """
    with eval_mode(model), torch.inference_mode(False), torch.no_grad(), naming_errors(images):
        with recording(model, at=spot, follow=True) as recorder:
            (run or model)(images.clone())  # it may work in place on them
    return recorder.cells

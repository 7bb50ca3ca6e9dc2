"""Maps that are kept in the first pass, because they may turn out to fire."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

__all__ = ["Kept", "piece_bytes"]


@dataclass
class Kept:
    """Maps that may still lie above the final threshold, as ``(unit, image, maps)``; None once they were too many."""

    pieces: list[tuple[Tensor, Tensor, Tensor]] | None = field(default_factory=list)
    size: int = 0

    def add(self, first: int, maps: Tensor, bound: Tensor) -> None:
        """Take in one batch, of images from ``first`` on."""
        if self.pieces is not None:
            # An upsampled value never exceeds what it is made of, so nothing else can become active.
            image, unit = (maps.amax((2, 3)) > bound).nonzero(as_tuple=True)
            self.pieces.append((unit.cpu(), image.cpu() + first, maps[image, unit].cpu()))
            self.size += piece_bytes(self.pieces[-1])

    def prune(self, bound: Tensor) -> None:
        """Drop what does not exceed a bound that has risen."""
        if self.pieces is not None:
            pruned = []
            for unit, image, maps in self.pieces:
                stay = maps.amax((1, 2)) > bound[unit]
                pruned.append((unit[stay], image[stay], maps[stay]))
            self.pieces, self.size = pruned, sum(map(piece_bytes, pruned))

    def above(self, limits: Tensor) -> list[tuple[NDArray[Any], ...]]:
        """Return what exceeds the final thresholds, as arrays; empty where maps were lost. Nothing is kept after."""
        self.prune(limits)
        found = [tuple(part.numpy() for part in piece) for piece in self.pieces or []]
        self.pieces = None
        return found


def piece_bytes(piece: tuple[Tensor, Tensor, Tensor]) -> int:
    """Return the memory that a piece takes."""
    return 4 * piece[2].numel() + 16 * len(piece[0])

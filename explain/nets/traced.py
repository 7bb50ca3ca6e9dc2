"""What a recorded forward pass leaves: a place in the network, and the map, head and logits seen there."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from explain.errors import ModelError
from explain.nets.head import Head

__all__ = ["NoHead", "Spot", "Trace"]


class NoHead(ModelError):
    """The logits do not come from the last spatial tensor, or there was none."""


@dataclass(frozen=True)
class Spot:
    """A place in a forward pass: the ``call``-th output of a layer (shared modules are called several times)."""

    layer: str
    call: int = 1


@dataclass(frozen=True)
class Trace:
    """One recorded forward pass: a map (the last spatial one), its name, the head after it, the logits."""

    layer: str
    map: Tensor
    """``(b, c, h, w)``, detached."""
    head: Head
    """Takes such maps, whatever the layer's own layout is."""
    logits: Tensor
    """``(b, classes)``, detached."""
    candidates: tuple[tuple[str, tuple[int, int, int]], ...]
    """Modules with a spatial output in order of execution: name and (channels, height, width)."""
    owners: tuple[str, ...] = ()
    """All modules that returned the map, the innermost first."""
    call: int = 1
    """How many times the layer was called up to the map: shared modules are called several times."""
    at: Spot | None = None
    """The layer that was asked for; None where the map is the last spatial one."""

    @property
    def spot(self) -> Spot:
        """Where the map is."""
        return Spot(self.layer, self.call)

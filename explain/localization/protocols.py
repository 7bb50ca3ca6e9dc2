"""Localization protocols as data: every switch by name, printed with each result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from explain.errors import InputError, near

__all__ = ["PROTOCOLS", "Protocol", "find_protocol"]


@dataclass(frozen=True)
class Protocol:
    """How maps become boxes and boxes become numbers."""

    name: str
    threshold: float
    """Share of the maximum for GT-known and top-k."""
    threshold_steps: int
    """MaxBoxAcc takes the best of ``i / threshold_steps``, ``i = 0 …``."""
    iou: float
    """A box is right at ``IoU >= iou``."""
    normalization: str
    interpolation: str
    component: str
    box_edges: str
    frame: str
    instances: str
    source: str

    def as_dict(self) -> dict[str, Any]:
        """Return every switch, for a run folder."""
        return asdict(self)


PROTOCOLS = {
    "cam2016": Protocol(
        name="cam2016",
        threshold=0.2,
        threshold_steps=100,
        iou=0.5,
        normalization="none: > share of the raw map's maximum",
        interpolation="bilinear, align_corners=False, to the image's own size",
        component="largest by pixels, 8-connected, ties raster-first",
        box_edges="half-open",
        frame="original, squashed to the input, no crop",
        instances="any box of the labelled class",
        source="Zhou et al. 2016, section 3.2; MaxBoxAcc: Choe et al. 2020",
    )
}


def find_protocol(name: str | Protocol) -> Protocol:
    """Return a protocol by name.

    Raises
    ------
    InputError
        Unknown name; the known ones are listed.
    """
    if isinstance(name, Protocol):
        return name
    if name not in PROTOCOLS:
        raise InputError(f"unknown protocol {name!r}{near(name, PROTOCOLS)}; known: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]

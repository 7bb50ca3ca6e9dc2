"""What is asked of a copy-paste job, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from explain.errors import InputError, near
from explain.neurons.effects.clusters import Resampling
from explain.neurons.effects.copy_paste_result import Grid
from explain.neurons.effects.cutouts import REGIONS
from explain.neurons.effects.pasting import BLENDS
from explain.neurons.effects.removing import FILLS, Fill

__all__ = ["LARGEST", "SIZES", "Asked", "checked"]

SIZES = (0.4, 0.7, 1.0)
LARGEST = 4.0


@dataclass(frozen=True)
class Asked:
    """The options of `explain.neurons.effects.copypaste`."""

    pairs: tuple[str, ...] | None
    count: int
    concepts: tuple[str, ...] | None
    photos: int
    cutouts: int
    grid: Grid
    fill: Fill | None
    by: Resampling

    def settings(self) -> dict[str, Any]:
        """Return what a manifest records."""
        return {
            "pairs": self.pairs if self.pairs is None else list(self.pairs),
            "count": self.count,
            "concepts": self.concepts if self.concepts is None else list(self.concepts),
            "photos": self.photos,
            "cutouts": self.cutouts,
            **asdict(self.grid),
            "remove": self.fill,
            **asdict(self.by),
        }


def checked(
    counts: Mapping[str, int],
    pairs: Sequence[str] | None,
    concepts: Sequence[str] | None,
    sizes: Sequence[float],
    region: str,
    blend: str,
    remove: str | None,
    by: Resampling,
) -> Asked:
    """Return what is asked; ``counts``: count, photos, cutouts, positions, draws.

    Raises
    ------
    InputError
        Options that cannot be used.
    """
    grid = _grid(counts, sizes, region, blend)
    return Asked(
        pairs=tuple(dict.fromkeys(pairs)) if pairs is not None else None,
        count=counts["count"],
        concepts=tuple(concepts) if concepts is not None else None,
        photos=counts["photos"],
        cutouts=counts["cutouts"],
        grid=grid,
        fill=_fill(remove),
        by=by,
    )


def _grid(counts: Mapping[str, int], sizes: Sequence[float], region: str, blend: str) -> Grid:
    """Return how is to be pasted; refuse options that cannot be used."""
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name}={value}: give at least 1")
    if not len(sizes) or not all(0 < size <= LARGEST for size in sizes):
        raise InputError(f"sizes {list(sizes)}: give shares of the photo's shorter side, above 0 and up to {LARGEST:g}")
    if region not in REGIONS:
        raise InputError(f"unknown region {region!r}{near(region, REGIONS)}; known: {', '.join(REGIONS)}")
    if blend not in BLENDS:
        raise InputError(f"unknown blend {blend!r}{near(blend, BLENDS)}; known: {', '.join(BLENDS)}")
    return Grid(tuple(float(size) for size in sizes), counts["positions"], region, blend)


def _fill(remove: str | None) -> Fill | None:
    if remove is None or remove in FILLS:
        return remove
    raise InputError(f"unknown fill {remove!r}{near(remove, FILLS)}; known: {', '.join(FILLS)}")

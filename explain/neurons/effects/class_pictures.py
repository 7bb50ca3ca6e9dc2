"""Pictures of class-specific units: where in an image of the class its units fire (Zhou et al. 2016)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from explain.findings.result import Example
from explain.nets.passes import Arrays, Work, run_pass
from explain.neurons.effects.contribution_findings import ClassContributions, ClassUnit, ContributionFindings
from explain.neurons.effects.observing import observe
from explain.neurons.effects.preparing import Opened

__all__ = ["class_pictures", "spread_classes"]

_UNITS = 3
"""Units shown per class."""


def spread_classes(classes: tuple[ClassContributions, ...], show: int) -> tuple[ClassContributions, ...]:
    """Return at most so many of the classes, evenly spread."""
    places = np.linspace(0, len(classes) - 1, min(show, len(classes))).round().astype(int)
    return tuple(classes[place] for place in places.tolist())


@dataclass(frozen=True)
class _Shot:
    image: int
    place: int
    """Of the unit among the explained ones."""
    caption: str


def class_pictures(
    job: Opened, findings: ContributionFindings, peaks: NDArray[np.float32], show: int, work: Work
) -> tuple[Example, ...]:
    """Return, for some classes, the class's image in which each of its first units is most active.

    The map over it is the unit's where it is above its threshold; of a unit that does not fire there it is the whole
    map, and the caption says so.

    Parameters
    ----------
    peaks
        ``(n, u)``: the largest value of each unit in each image.
    """
    place_of = {unit: place for place, unit in enumerate(job.explained.numbers.tolist())}
    shots = []
    for row in spread_classes(findings.classes, show):
        own = np.flatnonzero(job.labels == row.label)
        for one in row.top[:_UNITS]:
            place = place_of[one.unit]
            image = int(own[peaks[own, place].argmax()])
            fires = bool(peaks[image, place] > job.explained.thresholds[place])
            shots.append(_Shot(image, place, _caption(row, one) + ("" if fires else ", below its threshold")))
    if not shots:
        return ()
    images: list[Any] = [job.data.images[shot.image] for shot in shots]
    maps = run_pass(job.subject, images, partial(_regions, job, shots), "pictures", work)["region"]
    return tuple(Example(shot.image, shot.caption, values) for shot, values in zip(shots, maps, strict=True))


def _caption(row: ClassContributions, one: ClassUnit) -> str:
    return f"{row.name}: unit {one.unit} {one.contribution:+.2f} ({one.formula or 'no formula'})"


def _regions(job: Opened, shots: list[_Shot], images: Tensor, numbers: range) -> Arrays:
    """Return how far above its threshold each shot's unit is, float32 ``(b, h, w)``; its map where it does not fire."""
    (maps,), _ = observe(job.subject, [job.layer], images)
    places = torch.tensor([shots[number].place for number in numbers], device=maps.device)
    chosen = maps[torch.arange(len(places), device=maps.device), places]
    limits = torch.from_numpy(job.explained.thresholds).to(maps.device)[places]
    limits = torch.where(chosen.amax((1, 2)) > limits, limits, 0)
    return {"region": (chosen - limits[:, None, None]).clamp(min=0).cpu().numpy()}

"""What is wrong with a box: the kinds of TS-CAM (Gao et al. 2021, section 4.4), with whole objects beside groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from explain.localization.scoring import iou_table
from explain.types import LocalizationSet

__all__ = ["KINDS", "Kind", "by_class", "by_size", "kind_of", "kinds_of"]

Kind = Literal["right", "misclassified", "part", "more", "multi-instance", "background", "no box", "no truth"]
KINDS: tuple[Kind, ...] = get_args(Kind)
TOLD: Mapping[Kind, str] = {
    "right": "class and box are right",
    "misclassified": "the box is right, the class is not the best",
    "part": "more than half of the box is on the object, which is larger",
    "more": "at least 70 % of the object is in the box, which is larger",
    "multi-instance": "the box covers more than 30 % of each of several objects",
    "background": "the box is mostly elsewhere",
    "no box": "the map is nowhere positive",
    "no truth": "the image has no published box",
}
_SIZES = ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, float("inf")))


def kind_of(box: NDArray[np.float64], truth: NDArray[np.float64], *, right: bool, first: bool) -> Kind:
    """Return what is to be said of one image's box ``(4,)``, NaN where there is none.

    Parameters
    ----------
    truth
        ``(m, 4)``, half-open, in the same pixels.
    right
        Whether the box reaches the protocol's IoU.
    first
        Whether the true class is the best one.
    """
    if len(truth) == 0:
        return "no truth"
    if right:
        return "right" if first else "misclassified"
    if np.isnan(box).any():
        return "no box"
    sides = np.clip(np.minimum(box[2:], truth[:, 2:]) - np.maximum(box[:2], truth[:, :2]), 0, None)
    shared = sides.prod(1)
    covered = shared / np.maximum((truth[:, 2:] - truth[:, :2]).prod(1), 1e-12)
    if (covered > 0.3).sum() > 1:
        return "multi-instance"
    best = int(iou_table(box[None], truth)[0].argmax())
    if shared[best] / max(float((box[2:] - box[:2]).prod()), 1e-12) > 0.5:
        return "part"
    return "more" if covered[best] >= 0.7 else "background"


def kinds_of(
    boxes: NDArray[np.float64], right: NDArray[np.bool_], ranks: NDArray[np.int64], data: LocalizationSet
) -> list[Kind]:
    """Return the kind of each image; ``boxes`` ``(n, 4)`` in pixels of the images."""
    return [
        kind_of(box, truth, right=bool(hit), first=bool(rank == 0))
        for box, truth, hit, rank in zip(boxes, data.boxes, right, ranks, strict=True)
    ]


def by_size(kinds: list[Kind], data: LocalizationSet) -> list[dict[str, Any]]:
    """Return how many images of each kind there are by the share of the image that its largest object takes."""
    shares = np.array(
        [
            float((boxes[:, 2:] - boxes[:, :2]).prod(1).max(initial=0.0)) / (size[0] * size[1])
            for boxes, size in zip(data.boxes, data.sizes, strict=True)
        ]
    )
    rows = []
    for low, high in _SIZES:
        inside = (shares >= low) & (shares < high)
        name = f"{low:.0%} to {min(high, 1):.0%} of the image"
        rows.append({"name": name, **_counts([kind for kind, yes in zip(kinds, inside, strict=True) if yes])})
    return rows


def by_class(kinds: list[Kind], data: LocalizationSet, names: tuple[str, ...] | None) -> list[dict[str, Any]]:
    """Return how many images of each kind there are by class, the class with the most wrong boxes first."""
    groups: dict[int, list[Kind]] = {}
    for kind, index in zip(kinds, data.classes, strict=True):
        groups.setdefault(index, []).append(kind)
    rows = [
        {"name": names[index] if names is not None else f"class {index}", **_counts(group)}
        for index, group in groups.items()
    ]
    wrong = ("part", "more", "multi-instance", "background", "no box")
    return sorted(rows, key=lambda row: -sum(row[kind] for kind in wrong) / row["n"])


def _counts(kinds: list[Kind]) -> dict[str, int]:
    return {"n": len(kinds)} | {kind: kinds.count(kind) for kind in KINDS}

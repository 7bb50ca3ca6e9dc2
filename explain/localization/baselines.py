"""What needs no network, or an ignorant one: the rows that every result is read beside.

``centre``: a Gaussian in the middle of the image; its MaxBoxAcc does not depend on its spread. ``full``: the whole
image. ``rings``: concentric outlines, an image-blind map made to profit where every component counts and extra boxes
cost nothing. ``truth``: the largest published box, filled: 100 %, unless coordinates are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from explain.localization.metrics import centre_boxes
from explain.localization.planes import Swept, masks_of, of_boxes, planes_of, sweep_plane, thresholds_of
from explain.localization.protocols import Protocol
from explain.localization.scoring import (
    Frame,
    Record,
    frame_of,
    mask_of,
    pixel_histogram,
    pointing_and_energy,
    score_boxes,
)
from explain.localization.summary import Summary, summarise
from explain.nets.inputs import Preprocess
from explain.types import LocalizationSet

__all__ = ["BLIND", "Blind", "blind_map", "evaluate_blind", "score_blind"]

Blind = Literal["centre", "full", "rings", "truth"]
BLIND: tuple[Blind, ...] = ("centre", "full", "rings", "truth")
"""Baselines that need no network."""

SIDE = 224
_SPREAD = 75.0 / 224
_STEP = 4


def blind_map(kind: Blind, size: tuple[int, int] = (SIDE, SIDE)) -> NDArray[np.float64]:
    """Return the map ``(h, w)`` of a baseline that is the same for every image.

    The Gaussian is around pixel ``(h / 2, w / 2)`` counted from 0, as wsolevaluation's published row has it.
    """
    rows, columns = (np.arange(side, dtype=np.float64) for side in size)
    if kind == "centre":
        reach = ((rows - size[0] // 2) / size[0])[:, None] ** 2 + ((columns - size[1] // 2) / size[1])[None] ** 2
        gaussian: NDArray[np.float64] = np.exp(-reach / (2 * _SPREAD**2))
        return gaussian
    if kind == "full":
        return np.ones(size)
    # Outlines of squares around the middle, one pixel wide: from 2 pixels of reach to the edge, every fourth.
    side = min(size)
    reach = np.maximum(
        *np.meshgrid(
            *(np.maximum(axis - n // 2, n // 2 - 1 - axis) for axis, n in ((rows, size[0]), (columns, size[1]))),
            indexing="ij",
        )
    )
    rings: NDArray[np.float64] = ((reach % _STEP == 1) & (reach < side // 2)).astype(np.float64)
    return rings


def score_blind(kind: Blind, frame: Frame, rules: Protocol, data: LocalizationSet, index: int) -> Record:
    """Return the record of a baseline on one image; see `explain.localization.scoring.score_image`."""
    if kind == "truth":
        return _score_truth(frame, rules, data, index)
    side = frame.size if rules.frame == "input" else (SIDE, SIDE)
    plane, swept = _blind(kind, rules, side)
    if rules.frame == "original":
        swept = _centre(rules, frame.size) if _analytic(kind, rules) else swept.scaled(frame.size)
    record = score_boxes(swept, frame, rules, data, index)
    y, x = side[0] / frame.size[0], side[1] / frame.size[1]
    record |= pointing_and_energy(plane, frame.from_image(data.boxes[index]) * np.array([x, y, x, y]))
    if rules.masks:
        record["pixels"] = pixel_histogram(plane, mask_of(data, index, plane.shape), rules.threshold_steps)
    return record


def _analytic(kind: Blind, rules: Protocol) -> bool:
    """True where the Gaussian's boxes are known in closed form, and not bound to pixels."""
    return kind == "centre" and rules.component == "pixels" and rules.normalization == "maximum"


def _centre(rules: Protocol, size: tuple[int, int]) -> Swept:
    every, column, fixed = masks_of(rules)
    return of_boxes(centre_boxes(size, every), column, size, fixed)


@cache
def _blind(kind: Blind, rules: Protocol, size: tuple[int, int]) -> tuple[NDArray[np.float64], Swept]:
    """Return the plane and its boxes; they are made once for all images."""
    raw = torch.from_numpy(blind_map(kind, size))[None]
    plane = raw[0].numpy() if kind == "full" else planes_of(raw, rules, size, size)[0]  # a flat map would give zeros
    return plane, sweep_plane(plane, rules)


def _score_truth(frame: Frame, rules: Protocol, data: LocalizationSet, index: int) -> Record:
    height, width = frame.size
    boxes = frame.from_image(data.boxes[index])
    largest = boxes[[(boxes[:, 2:] - boxes[:, :2]).prod(1).argmax()]] if len(boxes) else np.zeros((1, 4))
    edges = np.ceil(largest - 0.5).clip(0, [width, height, width, height])
    steps = len(thresholds_of(rules))
    filled = of_boxes(np.repeat(edges, steps, 0), np.arange(steps), frame.size, 0)
    record = score_boxes(filled, frame, rules, data, index)
    mask = mask_of(data, index, (height, width)) if rules.masks else None
    plane = np.zeros((height, width)) if mask is None else (mask == 1).astype(np.float64)
    if mask is None:
        x0, y0, x1, y1 = edges[0].astype(int)
        plane[y0:y1, x0:x1] = 1
    record |= pointing_and_energy(plane, boxes)
    if mask is not None:
        record["pixels"] = pixel_histogram(plane, mask, rules.threshold_steps)
    return record


def evaluate_blind(
    kind: Blind,
    data: LocalizationSet,
    rules: Sequence[Protocol],
    *,
    input_size: tuple[int, int] = (SIDE, SIDE),
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, tuple[Summary, dict[str, NDArray[Any]]]]:
    """Return a baseline's scores and records by protocol; the images themselves are not needed, only their sizes.

    Parameters
    ----------
    input_size
        (height, width) of the input that protocols of that frame compare boxes in.
    """
    found = {}
    ranks, classes = np.full(len(data), -1), np.array(data.classes)
    for number, one in enumerate(rules):
        wide = (round(input_size[0] * 8 / 7), round(input_size[1] * 8 / 7)) if one.crop else None
        shown = Preprocess(size=input_size, crop_from=wide)
        rows = []
        for index, size in enumerate(data.sizes):
            geometry = shown.geometry(size) if data.frame == "original" else None
            rows.append(score_blind(kind, frame_of(one, size, geometry, input_size), one, data, index))
            if progress is not None and (index % 500 == 499 or index + 1 == len(data)):
                progress("images", number * len(data) + index + 1, len(rules) * len(data))
        records = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
        found[one.name] = summarise(one, records, ranks, classes, seed=seed), records
    return found

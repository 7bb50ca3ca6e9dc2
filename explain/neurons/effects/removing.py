"""Concepts taken out of photos, filled from around or by a mean colour, to have the network say another class.

Needs masks, so the photos are those of the probe set, and the source class is what the network says of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from explain.data.fetching import Fetched
from explain.nets.inputs import read_image
from explain.nets.passes import Arrays, Work
from explain.nets.subject import Subject
from explain.neurons.effects.choosing import Chooser
from explain.neurons.effects.clusters import Estimate, Resampling, clustered_means
from explain.neurons.effects.cutouts import concept_mask
from explain.neurons.effects.pasting import Pixels
from explain.neurons.effects.showing import two_logits_pass
from explain.opencv import inpainted
from explain.types import ProbeSet

__all__ = ["FILLS", "Fill", "Removal", "Removals", "Removed", "emptied", "moved_mask", "remove_concepts"]

Fill = Literal["inpaint", "mean"]
FILLS: tuple[Fill, ...] = ("inpaint", "mean")
Masks = NDArray[np.bool_]

SHARES = (0.02, 0.6)
"""Share of its photo that a concept must take to be taken out: less changes nothing, more leaves nothing."""
CONTROLS = 4
"""Other regions of the same shape that are taken out instead."""
_TRIES = 50


@dataclass(frozen=True)
class Removed:
    """One photo of the probe set with a concept taken out."""

    image: str
    source: int
    target: int
    source_name: str
    target_name: str
    concept: str
    share: float
    """Of the photo, that the concept takes."""
    overlap: float
    """Mean share of the control regions that lies on the concept all the same."""
    predicted: str
    """What the network says then."""
    change: float
    """Of (logit of the target, less that of the source)."""
    control_change: float
    """The same, mean over the controls."""


@dataclass(frozen=True)
class Removal:
    """What taking concepts out does, against other regions of the same shape in the same photo."""

    fill: Fill
    rows: tuple[Removed, ...]
    success: Estimate
    """The network says the target class."""
    left: Estimate
    """It does not say the source class any more."""
    change: Estimate
    control_success: Estimate
    control_left: Estimate
    control_change: Estimate
    success_difference: Estimate
    left_difference: Estimate
    change_difference: Estimate


@dataclass(frozen=True, eq=False)
class Removals:
    """The findings, and what pictures are made of."""

    found: Removal
    numbers: NDArray[np.int64]
    """``(n,)``: images of the probe set."""
    pictures: Fetched
    """``1 + CONTROLS`` per image: the concept taken out, then the controls."""
    rows: Arrays


def emptied(photo: Pixels, mask: Masks, fill: Fill) -> Pixels:
    """Return a photo ``(h, w, 3)`` without what a mask ``(h, w)`` covers.

    ``"inpaint"``: filled from around (Telea 2004); ``"mean"``: by the mean colour of the photo's other pixels.
    """
    if fill == "inpaint":
        return inpainted(photo, mask)
    result = photo.copy()
    rest = photo[~mask] if not mask.all() else photo.reshape(-1, 3)
    result[mask] = np.floor(rest.mean(0) + 0.5).astype(np.uint8)
    return result


def moved_mask(mask: Masks, rng: np.random.Generator) -> Masks:
    """Return a mask of the same shape elsewhere in the picture: of some random places, one that overlaps least."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    shape = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    best, least = mask, int(mask.sum()) + 1
    for _ in range(_TRIES):
        top = int(rng.integers(mask.shape[0] - shape.shape[0] + 1))
        left = int(rng.integers(mask.shape[1] - shape.shape[1] + 1))
        moved = np.zeros_like(mask)
        moved[top : top + shape.shape[0], left : left + shape.shape[1]] = shape
        overlap = int((moved & mask).sum())
        if overlap < least:
            best, least = moved, overlap
        if overlap == 0:
            break
    return best


def _candidates(
    chooser: Chooser, wanted: Sequence[tuple[int, int]] | None, count: int
) -> list[tuple[int, int, int, int]]:
    """Return (image, concept, source, target): per image the best, the most expected images first."""
    survey, scores = chooser.expected.survey, chooser.expected.scores
    found = []
    for image, logits in enumerate(survey.logits):
        source = int(logits.argmax())
        targets = [end for start, end in wanted if start == source] if wanted is not None else range(len(logits))
        inside = (survey.shares[image] >= SHARES[0]) & (survey.shares[image] <= SHARES[1]) & chooser.allowed
        concepts = np.flatnonzero(inside)
        if not len(concepts) or not len(targets):
            continue
        ends = np.array(targets, np.int64)
        change = (scores[source] - scores[ends])[:, concepts] * survey.shares[image, concepts]
        expected = np.where(change > 0, change - (logits[source] - logits[ends])[:, None], -np.inf)
        expected[ends == source] = -np.inf
        row, column = np.unravel_index(int(expected.argmax()), expected.shape)
        if np.isfinite(expected[row, column]):
            found.append((float(expected[row, column]), image, int(concepts[column]), source, int(ends[row])))
    found.sort(key=lambda one: (-one[0], one[1]))
    return [one[1:] for one in found[:count]]


def _masks(probe: ProbeSet, image: int, concept: int, seed: int) -> list[Masks]:
    picture = read_image(probe.images[image])
    mask = concept_mask(probe, image, (picture.height, picture.width), concept)
    rng = np.random.default_rng([seed, 3, image])
    return [mask, *(moved_mask(mask, rng) for _ in range(CONTROLS))] if mask.any() else []


def _picture(images: Sequence[Any], numbers: Sequence[int], masks: Sequence[Masks], fill: Fill, row: int) -> Any:
    photo = np.asarray(read_image(images[numbers[row // (1 + CONTROLS)]]))
    return Image.fromarray(emptied(photo, masks[row], fill))


def remove_concepts(
    subject: Subject,
    chooser: Chooser,
    names: Sequence[str],
    wanted: Sequence[tuple[int, int]] | None,
    count: int,
    fill: Fill,
    by: Resampling,
    work: Work,
) -> Removals | None:
    """Take the most promising concept out of each of the most promising photos of the probe set.

    Promising is what moves the difference of the logits most, as far as formulas and weights tell, after what has to
    be made up. One picture per photo, beside others with a region of the same shape taken out elsewhere.

    Parameters
    ----------
    names
        Of the network's classes.
    wanted
        Pairs (source, target) to keep to; any where None.
    count
        Photos at most.

    Returns
    -------
    Removals or None
        None where no photo of the probe set is of a source class and shows a concept whose loss should help.
    """
    chosen = [(one, _masks(chooser.probe, one[0], one[1], chooser.seed)) for one in _candidates(chooser, wanted, count)]
    chosen = [(one, masks) for one, masks in chosen if masks]
    if not chosen:
        return None
    numbers = [one[0] for one, _ in chosen]
    masks = [mask for _, own in chosen for mask in own]
    pictures = Fetched(len(masks), partial(_picture, chooser.probe.images, numbers, masks, fill))
    classes = np.repeat(np.array([one[2:] for one, _ in chosen], np.int64), 1 + CONTROLS, 0)
    rows = two_logits_pass(subject, pictures, classes[:, 0], classes[:, 1], "removed", work)
    values = _values(rows, classes, chooser.expected.survey.logits[np.repeat(numbers, 1 + CONTROLS)])
    own, controls = values[:, 0], values[:, 1:].mean(1)
    # One column after the other: success, left, change; the controls'; the differences.
    table = np.concatenate([own, controls, own - controls], 1)
    estimates = clustered_means(table, np.array(numbers), np.zeros(len(numbers), np.int64), by)
    facts = [
        Removed(
            image=chooser.probe.names[image],
            source=source,
            target=target,
            source_name=names[source],
            target_name=names[target],
            concept=chooser.probe.concepts[concept].name,
            share=float(own_masks[0].mean()),
            overlap=float(np.mean([(mask & own_masks[0]).sum() / mask.sum() for mask in own_masks[1:]])),
            predicted=names[int(rows["predicted"][place * (1 + CONTROLS)])],
            change=float(own[place, 2]),
            control_change=float(controls[place, 2]),
        )
        for place, ((image, concept, source, target), own_masks) in enumerate(chosen)
    ]
    return Removals(Removal(fill, tuple(facts), *estimates), np.array(numbers, np.int64), pictures, rows)


def _values(rows: Arrays, classes: NDArray[np.int64], before: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return ``(photos, 1 + CONTROLS, 3)``: target said, source left, change of the difference of the logits."""
    at = np.arange(len(classes))
    gap = before[at, classes[:, 1]].astype(float) - before[at, classes[:, 0]]
    after = rows["logits"][:, 1].astype(float) - rows["logits"][:, 0]
    predicted = rows["predicted"]
    found = np.stack([predicted == classes[:, 1], predicted != classes[:, 0], after - gap], 1)
    return found.astype(np.float64).reshape(-1, 1 + CONTROLS, 3)

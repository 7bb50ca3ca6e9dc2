"""Concepts in weakly labelled images (Zhou et al. 2016, section 4.2): detectors that say whether, and where.

A linear detector learns from images that show the concept somewhere and a pool of images that do not. Its weights on
the mean of the map are CAM weights, so it also points. Each image is judged by a detector that has not seen it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from explain.errors import InputError
from explain.findings.result import Example, Findings, Table
from explain.localization.discovery.heads import class_maps, need_map, with_head
from explain.localization.discovery.mining import Detector, mine, precision_interval
from explain.localization.discovery.passes import Work, gap_pass, scattered
from explain.localization.discovery.places import Place, find_place
from explain.localization.discovery.splits import Split, split_images
from explain.localization.discovery.svm import need_solver
from explain.localization.discovery.truths import ConceptData, Truth, concept_data
from explain.localization.discovery.views import View, size_of
from explain.localization.metrics import Score, best_ious, centre_boxes, proportion
from explain.nets.squash import squashing
from explain.nets.subject import Subject, as_subject
from explain.pictures import box_of
from explain.runs import Checkpoint
from explain.types import resize_maps

__all__ = ["ConceptFindings", "ConceptRow", "find_concepts"]

_IOU = 0.5
_CENTRE = 0.2
"""The threshold of the centre box: it covers half of the image."""
_SHOWN = 6
"""Pictures of each concept: those with the largest scores."""


@dataclass(frozen=True)
class ConceptRow:
    """One concept: how well its detector finds images, and how well its maps find the place."""

    concept: str
    positives: int
    """Images that show it, of those that are tested."""
    precision: Score
    """Average precision in percent; ``n`` counts the positives."""
    chance: float
    """The share of positives in percent: the precision of a random order."""
    negatives: tuple[int, ...]
    """Negatives that the detector of each fold learned from, round by round (the first fold)."""
    pointing: Score | None
    """Positives whose map is largest on the concept; None for concepts of whole images."""
    pointing_chance: float | None
    """The concept's mean share of these images in percent: a random place."""
    pointing_centre: Score | None
    """Positives with the concept in the middle."""
    gt_known: Score | None
    """Positives whose box at the threshold has IoU of at least 0.5 with a true box."""
    gt_known_centre: Score | None
    """The same of a box in the middle that covers half of the image."""


@dataclass(frozen=True)
class ConceptFindings:
    """The concepts, and how images were split."""

    concepts: tuple[ConceptRow, ...]
    split: str


@dataclass(frozen=True, eq=False)
class _Job:
    """What detectors are learned from, and with which settings."""

    subject: Subject
    data: ConceptData
    place: Place
    split: Split
    values: NDArray[np.float32]
    """``(n, c)``: the images' features."""
    rounds: int
    c: float
    seed: int

    def learned(self, rows: NDArray[np.int64]) -> tuple[Detector, ...]:
        """Return a detector for each concept, learned from some of the images."""
        positive = self.data.positive[rows].T
        return tuple(mine(self.values[rows], own, rounds=self.rounds, c=self.c, seed=self.seed) for own in positive)

    def headed(self, detectors: Sequence[Detector], names: Sequence[str]) -> Subject:
        """Return the trunk with detectors as its head."""
        weight = np.stack([one.weight for one in detectors])
        return with_head(self.subject, self.place, weight, np.array([one.bias for one in detectors]), names)


@dataclass(frozen=True)
class _Judged:
    """Scores and maps by detectors that have not seen the image; rows of images that no fold tests are zero."""

    scores: NDArray[np.float64]
    """``(n, k)``."""
    maps: NDArray[np.float32]
    """``(n, k, h, w)``."""
    first: tuple[Detector, ...]
    """The first fold's detectors."""


def find_concepts(
    model: nn.Module | Subject | str,
    dataset: Any,
    concepts: Sequence[str],
    *,
    threshold: float = 0.2,
    rounds: int = 10,
    layer: str | None = None,
    subset: str | None = None,
    test: str | None = None,
    folds: int = 5,
    c: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Findings[ConceptFindings]:
    """Learn a detector for each concept from images labelled as a whole, and judge where its maps point.

    Parameters
    ----------
    dataset
        A probe set (concepts by name; their pixels are used for judging only) or labelled images (classes by name or
        index; their boxes are used for judging only).
    concepts
        Names. An image is positive if it shows the concept anywhere, all others are the pool of negatives.
    threshold
        Share of the map's maximum, for boxes.
    rounds
        Of hard-negative mining; see `mine`.
    model, layer, subset, test, folds, c, seed, limit, batch_size, workers, checkpoint, progress
        See `classify_features`; ``subset`` and ``test`` are of labelled images.

    Returns
    -------
    Findings
        ``subjects[name]`` is the trunk with the concept's detector, learned from all images, as its head: maps of any
        photo by ``explain.cam(result.subjects[name], photo)``.

    Raises
    ------
    ExplainError
        Unknown concepts, too few positive images, options out of range.
    """
    if not 0 <= threshold < 1:
        raise InputError(f"threshold {threshold} is out of range: give a share of the maximum, 0 <= threshold < 1")
    need_solver()
    data = concept_data(dataset, concepts, subset=subset, limit=limit)
    looking = squashing(as_subject(model), data.images, data.source.name)
    split = split_images(_rarest(data.positive), data.subsets, folds=folds, test=test, seed=seed)
    _check_positives(data, split)
    work = Work(batch_size, workers, checkpoint or Checkpoint(), progress=progress)
    place = find_place(looking, data.images, layer)
    need_map(place)
    values = gap_pass(looking, data.images, place, "features", work)
    job = _Job(looking, data, place, split, values, rounds, c, seed)
    judged = _judged(job, work)
    final = job.learned(np.arange(len(values)))
    hits = _hits(data, split, judged, place.input_size, threshold)
    findings = ConceptFindings(tuple(_row(data, split, judged, own, k, seed) for k, own in enumerate(hits)), split.text)
    return Findings(
        "discovery",
        kind="concepts",
        findings=findings,
        tables=_tables(findings, looking, data),
        notes=_notes(findings, place.layer, threshold, rounds),
        arrays={
            "positive": data.positive,
            "scores": judged.scores,
            "maps": judged.maps,
            "weight": np.stack([one.weight for one in final]),
            "bias": np.array([one.bias for one in final]),
            "concepts": np.array(data.concepts),
        },
        examples=_examples(data, split, judged, place.input_size, threshold),
        subject=looking,
        source=data.source,
        layer=place.layer,
        settings={"concepts": list(data.concepts), "threshold": threshold, "rounds": rounds, "c": c, "seed": seed},
        subjects={name: job.headed([one], [name]) for name, one in zip(data.concepts, final, strict=True)},
    )


def _rarest(positive: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the rarest concept that each image shows ``(n,)``, -1 for none: folds share rare concepts out evenly."""
    order = np.argsort(positive.sum(0), kind="stable")
    first: NDArray[np.int64] = positive[:, order].argmax(1)
    return np.where(positive.any(1), order[first], -1)


def _check_positives(data: ConceptData, split: Split) -> None:
    for name, own in zip(data.concepts, data.positive.T, strict=True):
        learned = min(min(own[fold.train].sum(), (~own[fold.train]).sum()) for fold in split.folds)
        if learned == 0 or not own[split.tested].any():
            raise InputError(
                f"{name!r} is shown by {own.sum()} of {len(own)} images: a detector needs some with it and some without"
                " it to learn from, and others to be judged on; give more images, or fewer folds"
            )


def _judged(job: _Job, work: Work) -> _Judged:
    """Return scores and maps of the images that are tested, by detectors learned from others."""
    whole: dict[str, NDArray[Any]] = {}
    first: tuple[Detector, ...] = ()
    every = torch.arange(len(job.data.concepts))
    for number, fold in enumerate(job.split.folds):
        detectors = job.learned(fold.train)
        first = first or detectors
        part = class_maps(
            job.headed(detectors, job.data.concepts),
            View(job.data.images, fold.test),
            lambda logits: every.to(logits.device).expand(len(logits), -1),
            f"maps-{number}",
            work,
        )
        for key in ("scores", "values"):
            rows = scattered(part[key], fold.test, len(job.values))
            whole[key] = whole[key] + rows if key in whole else rows  # each image is tested once
    return _Judged(whole["scores"].astype(np.float64), whole["values"], first)


@dataclass(frozen=True)
class _Hit:
    """What the map of one concept found in one image that shows it."""

    pointing: bool
    centre: bool
    share: float
    iou: float
    centre_iou: float


def _hits(
    data: ConceptData, split: Split, judged: _Judged, size: tuple[int, int], threshold: float
) -> list[list[_Hit]]:
    """Return for each concept what its maps found, in pixels of the input; empty for concepts of whole images."""
    found: list[list[_Hit]] = [[] for _ in data.concepts]
    for number in split.tested[data.positive[split.tested].any(1)].tolist():
        for k, truth in data.truth(number, size).items():
            if data.positive[number, k]:
                found[k].append(_hit(_plane(judged.maps[number, k], size), truth, threshold))
    return found


def _hit(plane: NDArray[np.float32], truth: Truth, threshold: float) -> _Hit:
    height, width = plane.shape
    y, x = np.unravel_index(plane.argmax(), plane.shape)
    box = box_of(plane, threshold)
    return _Hit(
        pointing=bool(truth.mask[y, x]),
        centre=bool(truth.mask[height // 2, width // 2]),
        share=float(truth.mask.mean()),
        iou=0.0 if box is None else float(best_ious(np.array([box], np.float64), truth.boxes)[0]),
        centre_iou=float(best_ious(centre_boxes((height, width), np.array([_CENTRE])), truth.boxes)[0]),
    )


def _row(data: ConceptData, split: Split, judged: _Judged, hits: Sequence[_Hit], k: int, seed: int) -> ConceptRow:
    own = data.positive[split.tested, k]

    def share(name: str) -> Score | None:
        return proportion(np.array([getattr(hit, name) for hit in hits], np.float64) >= _IOU) if hits else None

    return ConceptRow(
        concept=data.concepts[k],
        positives=int(own.sum()),
        precision=precision_interval(judged.scores[split.tested, k], own, seed=seed),
        chance=100 * float(own.mean()),
        negatives=tuple(one.negatives for one in judged.first[k].rounds),
        pointing=share("pointing"),
        pointing_chance=100 * float(np.mean([hit.share for hit in hits])) if hits else None,
        pointing_centre=share("centre"),
        gt_known=share("iou"),
        gt_known_centre=share("centre_iou"),
    )


def _plane(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    plane: NDArray[np.float32] = resize_maps(torch.from_numpy(values)[None, None], size)[0, 0].numpy()
    return plane


def _tables(findings: ConceptFindings, subject: Subject, data: ConceptData) -> tuple[Table, ...]:
    title = f"concept detectors on GAP features of {subject.name}, {data.source.name}: average precision (%)"
    finds = [
        (row.concept, str(row.positives), str(row.precision), f"{row.chance:.1f}", " → ".join(map(str, row.negatives)))
        for row in findings.concepts
    ]
    tables = [
        Table(title, ("concept", "images", "precision [95 %]", "chance", "negatives by round"), tuple(finds), (0, 4))
    ]
    places = [
        (
            row.concept,
            str(row.pointing),
            f"{row.pointing_chance:.1f}",
            f"{row.pointing_centre.value:.1f}",
            str(row.gt_known),
            f"{row.gt_known_centre.value:.1f}",
        )
        for row in findings.concepts
        if row.pointing is not None and row.pointing_centre is not None and row.gt_known_centre is not None
    ]
    if places:
        columns = ("concept", "pointing [95 %]", "random", "centre", "box IoU ≥ 0.5 [95 %]", "centre box")
        tables.append(Table("where the maps point, in images that show the concept (%)", columns, tuple(places)))
    return tuple(tables)


def _notes(findings: ConceptFindings, layer: str, threshold: float, rounds: int) -> tuple[str, ...]:
    return (
        f"Linear detectors on the mean of {layer}, learned from labels of whole images with hard-negative mining (at"
        f" most {rounds} rounds); pixels and boxes are used for judging only.",
        findings.split[0].upper() + findings.split[1:] + ".",
        f"Pointing: the map's largest value lies on the concept. Boxes: at {100 * threshold:g} % of the maximum,"
        " against any connected piece of the concept, or any labelled box.",
    )


def _examples(
    data: ConceptData, split: Split, judged: _Judged, size: tuple[int, int], threshold: float
) -> tuple[Example, ...]:
    """Return the images that each detector ranks first, of those it has not seen."""
    examples = []
    tested = split.tested
    for k, name in enumerate(data.concepts):
        for number in tested[np.argsort(-judged.scores[tested, k], kind="stable")][:_SHOWN].tolist():
            values = judged.maps[number, k]
            box = box_of(_plane(values, size), threshold)
            height, width = size_of(data.images[number])
            by = np.array([width / size[1], height / size[0]] * 2)
            text = "" if data.positive[number, k] else " (not labelled so)"
            found = (tuple((np.array(box) * by).tolist()),) if box is not None else ()
            examples.append(Example(number, f"{name}{text}: {judged.scores[number, k]:.2f}", values, found))
    return tuple(examples)

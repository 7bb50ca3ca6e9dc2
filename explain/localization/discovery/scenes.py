"""Informative objects in scenes (Zhou et al. 2016, section 4.2): what lies under the map of an image's scene."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from explain.errors import InputError
from explain.findings.result import Example, Findings, Table, ratio_text, source_of
from explain.localization.discovery.overlaps import ObjectRow, Overlaps, count_overlaps, rank_objects
from explain.localization.discovery.passes import Work
from explain.localization.discovery.places import find_place
from explain.localization.discovery.scene_maps import Head, SceneMaps, Scenes, map_scenes, regions_of
from explain.localization.discovery.truths import open_probe_set
from explain.localization.metrics import Score, proportion
from explain.nets.squash import squashing
from explain.nets.subject import Subject, as_subject
from explain.runs import Checkpoint
from explain.types import Concept, Labels, ProbeSet

__all__ = ["SceneFindings", "SceneRow", "scene_objects"]

_NO_OBJECTS = ("color", "texture", "material", "scene")
"""Categories that are not counted unless asked for."""
_CLASSES, _SHOWN = 6, 2
"""Of how many classes there are pictures, and how many of each."""


@dataclass(frozen=True)
class SceneRow:
    """One class: its images whose prediction is right, and the objects under their maps."""

    scene: str
    images: int
    """Images of the class."""
    counted: int
    """Of these, those that are predicted right: their maps are counted."""
    region: float
    """Mean share of the image that the maps' regions cover, in percent."""
    frequent: tuple[ObjectRow, ...]
    """The objects that overlap most often, the most frequent first."""
    lifted: tuple[ObjectRow, ...]
    """The objects that stand out most against chance."""


@dataclass(frozen=True)
class SceneFindings:
    """The objects under the maps of each class, and how well the classes are told apart."""

    scenes: tuple[SceneRow, ...]
    accuracy: Score | None
    """None where the classes are the predicted ones."""
    head: str
    """Whose class maps they are: ``"model"`` or ``"fit"``."""
    left_out: int
    """Classes with too few images."""


@dataclass(frozen=True)
class _Counting:
    """How overlaps become rows."""

    overlap: float
    top: int
    least: int
    seed: int


def scene_objects(
    model: nn.Module | Subject | str,
    probe: Any,
    *,
    scenes: Scenes = "auto",
    head: Head = "auto",
    threshold: float = 0.2,
    overlap: float = 0.0,
    categories: Sequence[str] | None = None,
    top: int = 6,
    least: int = 5,
    resolution: tuple[int, int] = (112, 112),
    layer: str | None = None,
    folds: int = 5,
    c: float = 1.0,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 0,
    limit: int | None = None,
    checkpoint: Checkpoint | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Findings[SceneFindings]:
    """Return the labelled objects that lie under the class maps of each scene, by frequency and against chance.

    Parameters
    ----------
    probe
        A probe folder, a known name, ``(images, masks, names)``, a Dataset of (image, mask), or a `ProbeSet`.
    scenes
        The class of each image: ``"scene"``: the whole-image concept of category ``scene``; ``"predicted"``: the
        class that the network itself predicts; a name per image; ``"auto"``: ``"scene"`` where all images have one.
    head
        ``"model"``: class maps of the network's own classes, which have the scenes' names; ``"fit"``: of linear SVMs,
        one against all, as in the paper, fitted in each fold on the other folds; ``"auto"``: the network's own where
        it has a class of each scene's name.
    threshold, overlap
        The region is above this share of the map's maximum. An object overlaps it if more than this share of the
        object lies there; 0: any pixel, as the paper names no least overlap.
    categories
        Of the concepts to count; all but colours, textures and materials where None.
    top, least
        How many objects to list, and how many images a class needs.
    resolution
        (height, width) at which maps (bilinear) and labels (nearest) are compared, both squashed.
    model, layer, folds, c, seed, limit, batch_size, workers, checkpoint, progress
        See `classify_features`.

    Raises
    ------
    ExplainError
        Images without a scene, no class with enough images, no exact class activation map, options out of range.
    """
    counting = _Counting(overlap, top, least, seed)
    _check(head, threshold, counting, resolution)
    data = open_probe_set(probe, limit)
    subject = squashing(as_subject(model), data.images, data.name)
    objects = _objects(data, categories)
    work = Work(batch_size, workers, checkpoint or Checkpoint(), progress=progress)
    place = find_place(subject, data.images, layer)
    fixed = layer is not None
    maps = map_scenes(subject, data, place, scenes, head, folds=folds, c=c, seed=seed, fixed=fixed, work=work)
    counted = _counted(data, maps.values, threshold, resolution, work)
    rows, left_out = _rows(counted, data.concepts, objects, maps, counting)
    accuracy = None if maps.predicted else proportion(maps.right)
    findings = SceneFindings(rows, accuracy, "model" if maps.own else "fit", left_out)
    return Findings(
        "discovery",
        kind="scene-objects",
        findings=findings,
        tables=tuple(_table(row) for row in findings.scenes),
        notes=_notes(findings, threshold, overlap, folds),
        arrays={
            "labels": maps.labels,
            "right": maps.right,
            "maps": maps.values,
            "inside": counted.inside,
            "area": counted.area,
            "region": counted.region,
            "total": counted.total,
            "concepts": np.array([concept.name for concept in data.concepts]),
            "scenes": np.array(maps.names),
        },
        examples=_examples(findings, maps),
        subject=subject,
        source=source_of(data),
        layer=place.layer,
        settings={"head": head, "threshold": threshold, "overlap": overlap, "top": top, "least": least, "seed": seed},
    )


def _check(head: str, threshold: float, counting: _Counting, resolution: tuple[int, int]) -> None:
    if head not in ("auto", "model", "fit"):
        raise InputError(f"unknown head {head!r}: use 'auto', 'model' or 'fit'")
    for name, share in (("threshold", threshold), ("overlap", counting.overlap)):
        if not 0 <= share < 1:
            raise InputError(f"{name} {share} is out of range: give a share, 0 <= {name} < 1")
    for name, count in (("top", counting.top), ("least", counting.least)):
        if count < 1:
            raise InputError(f"{name}={count}: give at least 1")
    if len(resolution) != 2 or min(resolution) < 1:
        raise InputError(f"resolution {resolution}: give (height, width) in pixels")


def _objects(probe: ProbeSet, categories: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the numbers of the concepts to count."""
    known = {concept.category for concept in probe.concepts}
    wanted = known - set(_NO_OBJECTS) if categories is None else set(categories)
    unknown = sorted(wanted - known)
    if unknown or not wanted:
        named = repr(unknown[0]) if unknown else "of objects"
        raise InputError(f"{probe.name} has no concepts of category {named}: it has {', '.join(sorted(known))}")
    return np.array([k for k, concept in enumerate(probe.concepts) if concept.category in wanted], np.int64)


def _counted(
    probe: ProbeSet, maps: NDArray[np.float32], threshold: float, size: tuple[int, int], work: Work
) -> Overlaps:
    def labels() -> Iterator[Labels]:
        for number in range(len(maps)):
            yield probe.labels(number, size)
            if work.progress is not None:
                work.progress("labels", number + 1, len(maps))

    return count_overlaps(zip(regions_of(maps, threshold, size), labels(), strict=True), len(probe.concepts))


def _rows(
    counted: Overlaps,
    concepts: Sequence[Concept],
    objects: NDArray[np.int64],
    maps: SceneMaps,
    counting: _Counting,
) -> tuple[tuple[SceneRow, ...], int]:
    rows, left_out = [], 0
    named = [concepts[k] for k in objects.tolist()]
    for label in np.unique(maps.labels).tolist():
        chosen = np.flatnonzero((maps.labels == label) & maps.right)
        if len(chosen) < counting.least:
            left_out += 1
            continue
        own = Overlaps(
            counted.inside[np.ix_(chosen, objects)],
            counted.area[np.ix_(chosen, objects)],
            counted.region[chosen],
            counted.total[chosen],
        )
        frequent, lifted = rank_objects(own, named, overlap=counting.overlap, top=counting.top, seed=counting.seed)
        share = 100 * float((own.region / np.maximum(own.total, 1)).mean())
        images = int((maps.labels == label).sum())
        rows.append(SceneRow(maps.names[label], images, len(chosen), share, frequent, lifted))
    if not rows:
        raise InputError(
            f"no class has {counting.least} images that are predicted right: give more images, or a smaller least"
        )
    return tuple(sorted(rows, key=lambda row: -row.counted)), left_out


def _table(scene: SceneRow) -> Table:
    most = max(len(scene.frequent), len(scene.lifted))
    lists = [[*map(_cells, part), *[("", "", "")] * (most - len(part))] for part in (scene.frequent, scene.lifted)]
    return Table(
        f"{scene.scene}: {scene.counted} of {scene.images} images; the region covers {scene.region:.0f} % of the image",
        ("most frequent", "in % of images", "lift [95 %]", "largest lift", "in % of images", "lift [95 %]"),
        tuple(left + right for left, right in zip(*lists, strict=True)),
        words=(0, 3),
    )


def _cells(row: ObjectRow) -> tuple[str, str, str]:
    lift = f"{row.lift:.2f}" if row.low is None or row.high is None else ratio_text(row.lift, row.low, row.high)
    return row.name, f"{row.frequency.value:.0f}", lift


def _notes(findings: SceneFindings, threshold: float, overlap: float, folds: int) -> tuple[str, ...]:
    how = {
        "model": "the network's own classes",
        "fit": f"linear SVMs, one against all, fitted in {folds} folds on other images",
    }[findings.head]
    least = f"more than {100 * overlap:g} % of it" if overlap else "any part of it"
    found = [
        f"Class maps of the predicted class, by {how}; the region is above {100 * threshold:g} % of the maximum.",
        f"An object overlaps a region if {least} lies there. Lift: its pixels inside the"
        " regions over those expected if regions of the same size lay anywhere in the same images; 1 is chance. It is"
        " ranked for objects that a fifth of the images show, and at least two do.",
    ]
    if findings.accuracy is not None:
        found.insert(1, f"Images predicted right: {findings.accuracy} %; only they are counted.")
    if findings.left_out:
        found.append(f"{findings.left_out} class(es) with too few images are left out.")
    return tuple(found)


def _examples(findings: SceneFindings, maps: SceneMaps) -> tuple[Example, ...]:
    examples = []
    for scene in findings.scenes[:_CLASSES]:
        own = (maps.labels == maps.names.index(scene.scene)) & maps.right
        listed = ", ".join(row.name for row in scene.frequent)
        for number in np.flatnonzero(own)[:_SHOWN].tolist():
            examples.append(Example(number, f"{scene.scene}: {listed}", maps.values[number]))
    return tuple(examples)
